"""Options of the page and of the kiosk around it."""

from __future__ import annotations

import ipaddress
from typing import Literal, Self, final

from pydantic import Field, field_validator, model_validator

from ..options import Options

__all__ = ["KioskOptions", "PageOptions", "address_of"]


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Returns the address behind an IP address or ``localhost``.

    Raises:
        ValueError: it is neither.
    """
    return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)


@final
class PageOptions(Options):
    """How the page is served, and to whom."""

    host: str = Field(
        default="127.0.0.1",
        title="Address",
        description="The IP address to listen at; anything but this computer's own needs TLS.",
    )
    port: int = Field(
        default=8765, ge=0, le=65_535, title="Port", description="0 takes any free one."
    )
    names: tuple[str, ...] = Field(
        default=(),
        max_length=16,
        title="Other names",
        description="Host names, besides the address, under which browsers may ask for the page.",
    )
    certificate: str | None = Field(
        default=None,
        min_length=1,
        title="TLS certificate",
        description="A PEM file; with it the page is served by https.",
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        title="TLS key",
        description="A PEM file without a passphrase, readable by you alone.",
    )
    token: str | None = Field(
        default=None,
        min_length=16,
        max_length=200,
        pattern=r"^[A-Za-z0-9._~-]+$",
        repr=False,
        title="Token",
        description="Who looks at the page has to name it once; none: a new one for each run.",
    )
    uploads: bool = Field(
        default=False,
        title="Still pictures",
        description="Whether pictures may be sent in to be parsed or anonymised; a mirror needs "
        "it not. Without it the server sees composed pictures alone.",
    )
    max_upload_mb: int = Field(
        default=20, ge=1, le=200, title="Largest upload", description="Megabytes."
    )
    max_upload_pixels: int = Field(
        default=40_000_000,
        ge=1,
        le=200_000_000,
        title="Largest uploaded picture",
        description="Width times height.",
    )
    max_side: int = Field(
        default=1280,
        ge=160,
        le=3840,
        title="Largest picture",
        description="Longer side in pixels of what browsers get; larger pictures are made smaller.",
    )
    quality: int = Field(
        default=80, ge=30, le=95, title="JPEG quality", description="Of what browsers get."
    )
    clients: int = Field(
        default=16,
        ge=1,
        le=200,
        title="Most viewers",
        description="How many may watch at a time.",
    )
    stale_s: float = Field(
        default=1.0,
        gt=0,
        le=2,
        title="Longest still",
        description="Seconds without a new picture after which the card is shown.",
    )
    audit: str | None = Field(
        default=None,
        min_length=1,
        title="Audit log",
        description="A file that gets one JSON line a request (never a picture, name or token), "
        "kept to 10 MB; none: no log.",
    )

    @field_validator("names", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("names")
    @classmethod
    def _plain_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not name or len(name) > 253 or not all(c.isalnum() or c in ".-" for c in name):
                raise ValueError("expected host names such as mirror.local")
        return tuple(name.lower() for name in value)

    @field_validator("host")
    @classmethod
    def _an_address(cls, host: str) -> str:
        try:
            address_of(host)
        except ValueError:
            raise ValueError("expected an IP address or localhost") from None
        return host

    @model_validator(mode="after")
    def _closed_by_default(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; name both")
        if not address_of(self.host).is_loopback and self.certificate is None:
            raise ValueError(
                "host is open to other computers, which needs TLS; name certificate and key, or "
                "use 127.0.0.1"
            )
        return self


@final
class KioskOptions(Options):
    """What the mirror shows, and what happens around it."""

    language: Literal["auto", "en", "zh"] = Field(
        default="auto", title="Language", description="auto is the browser's."
    )
    rotation: Literal[0, 90, 180, 270] = Field(
        default=0,
        title="Rotation",
        description="Degrees clockwise by which the page is turned, for a display on its side.",
    )
    mirror: bool = Field(
        default=True, title="Mirror", description="Left and right swapped, as in a mirror."
    )
    clock: bool = Field(
        default=True, title="Clock", description="Whether the page shows the time and the date."
    )
    consent: bool = Field(
        default=True,
        title="Consent notice",
        description="Whether the page explains itself and asks before it shows the first picture.",
    )
    sleep_after_s: int = Field(
        default=300,
        ge=0,
        le=86_400,
        title="Sleep after",
        description="Seconds without anybody in front of the camera after which the page goes "
        "black; 0: never.",
    )
    browser: str = Field(
        default="auto",
        min_length=1,
        title="Browser",
        description="auto starts Chromium where it is installed and there is a display; none "
        "starts nothing; else the path of a Chromium.",
    )
    screen_off: tuple[str, ...] = Field(
        default=(),
        max_length=32,
        title="Screen off",
        description="A command, as a list, that switches the display off when the page sleeps.",
    )
    screen_on: tuple[str, ...] = Field(
        default=(),
        max_length=32,
        title="Screen on",
        description="A command, as a list, that switches the display on when somebody comes.",
    )

    @field_validator("screen_off", "screen_on", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value
