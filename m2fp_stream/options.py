"""What every component's options have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from .core.address import address_of

__all__ = ["Host", "Listed", "Options", "Port", "Token"]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _an_address(host: str) -> str:
    try:
        address_of(host)
    except ValueError:
        raise ValueError("expected an IP address or localhost") from None
    return host


Listed = BeforeValidator(_as_tuple)
"""Takes a list, as YAML and JSON have it, where an option holds a tuple."""

Host = Annotated[str, AfterValidator(_an_address)]
"""Where something is listened at: an IP address, or localhost."""

Port = Annotated[int, Field(title="Port", description="0 takes any free one.", ge=0, le=65_535)]
"""Source of the bounds: RFC 9293, 3.1."""

Token = Annotated[str, Field(min_length=16, max_length=200, pattern=r"^[A-Za-z0-9._~-]+$")]
"""What whoever looks has to name. Source of the characters: RFC 3986, 2.3, those that an address
holds as they are. Chosen: the shortest is beyond guessing (`web.access`)."""


class Options(BaseModel):
    """A set of options: immutable, exact about types, and quiet about what it was given.

    Unknown keys and numbers that are not finite are errors. An error never quotes the input: it may
    be a camera's password. Each field is written ``Annotated[type, Field(title, description,
    bounds)] = default``; titles and descriptions are what people read.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )
