"""What every component's options have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Options"]


class Options(BaseModel):
    """A set of options: immutable, exact about types, and quiet about what it was given.

    Unknown keys and numbers that are not finite are errors. An error never quotes the input: it may
    be a camera's password. Each field is written ``Annotated[type, Field(title, description,
    bounds)] = default``; titles and descriptions are what people read.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )
