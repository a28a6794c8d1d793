"""Options of the page and of the kiosk around it."""

from __future__ import annotations

from typing import Annotated, Literal, Self, final

from pydantic import Field, field_validator, model_validator

from ..core.address import address_of
from ..options import Host, Listed, Options, Port, Token

__all__ = ["KioskOptions", "PageOptions"]


@final
class PageOptions(Options):
    """How the page is served, and to whom."""

    host: Annotated[
        Host,
        Field(
            title="Address",
            description="The IP address to listen at; anything but this computer's own needs TLS.",
        ),
    ] = "127.0.0.1"
    port: Port = 8765
    names: Annotated[
        tuple[str, ...],
        Field(
            title="Other names",
            description=(
                "Host names, besides the address, under which browsers may ask for the page."
            ),
            max_length=16,
        ),
        Listed,
    ] = ()
    certificate: Annotated[
        str | None,
        Field(
            title="TLS certificate",
            description="A PEM file; with it the page is served by https.",
            min_length=1,
        ),
    ] = None
    key: Annotated[
        str | None,
        Field(
            title="TLS key",
            description="A PEM file without a passphrase, readable by you alone.",
            min_length=1,
        ),
    ] = None
    token: Annotated[
        Token | None,
        Field(
            title="Token",
            description="Who looks at the page has to name it once; none: a new one for each run.",
            repr=False,
        ),
    ] = None
    uploads: Annotated[
        bool,
        Field(
            title="Still pictures",
            description=(
                "Whether pictures may be sent in to be parsed or anonymised; a mirror needs it "
                "not. Without it the server sees composed pictures alone."
            ),
        ),
    ] = False
    max_upload_mb: Annotated[
        int, Field(title="Largest upload", description="Megabytes.", ge=1, le=200)
    ] = 20
    max_upload_pixels: Annotated[
        int,
        Field(
            title="Largest uploaded picture",
            description="Width times height.",
            ge=1,
            le=200_000_000,
        ),
    ] = 40_000_000
    max_side: Annotated[
        int,
        Field(
            title="Largest picture",
            description=(
                "Longer side in pixels of what browsers get; larger pictures are made smaller."
            ),
            ge=160,
            le=3840,
        ),
    ] = 1280
    quality: Annotated[
        int, Field(title="JPEG quality", description="Of what browsers get.", ge=30, le=95)
    ] = 80
    clients: Annotated[
        int, Field(title="Most viewers", description="How many may watch at a time.", ge=1, le=200)
    ] = 16
    stale_s: Annotated[
        float,
        Field(
            title="Longest still",
            description="Seconds without a new picture after which the card is shown.",
            gt=0,
            le=2,
        ),
    ] = 1.0
    audit: Annotated[
        str | None,
        Field(
            title="Audit log",
            description=(
                "A file that gets one JSON line a request (never a picture, name or token), "
                "kept to 10 MB; none: no log."
            ),
            min_length=1,
        ),
    ] = None

    @field_validator("names")
    @classmethod
    def _plain_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not name or len(name) > 253 or not all(c.isalnum() or c in ".-" for c in name):
                raise ValueError("expected host names such as mirror.local")
        return tuple(name.lower() for name in value)

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

    language: Annotated[
        Literal["auto", "en", "zh"], Field(title="Language", description="auto is the browser's.")
    ] = "auto"
    rotation: Annotated[
        Literal[0, 90, 180, 270],
        Field(
            title="Rotation",
            description="Degrees clockwise by which the page is turned, for a display on its side.",
        ),
    ] = 0
    mirror: Annotated[
        bool, Field(title="Mirror", description="Left and right swapped, as in a mirror.")
    ] = True
    clock: Annotated[
        bool, Field(title="Clock", description="Whether the page shows the time and the date.")
    ] = True
    consent: Annotated[
        bool,
        Field(
            title="Consent notice",
            description=(
                "Whether the page explains itself and asks before it shows the first picture."
            ),
        ),
    ] = True
    sleep_after_s: Annotated[
        int,
        Field(
            title="Sleep after",
            description=(
                "Seconds without anybody in front of the camera after which the page goes "
                "black; 0: never."
            ),
            ge=0,
            le=86_400,
        ),
    ] = 300
    browser: Annotated[
        str,
        Field(
            title="Browser",
            description=(
                "auto starts Chromium where it is installed and there is a display; none starts "
                "nothing; else the path of a Chromium."
            ),
            min_length=1,
        ),
    ] = "auto"
    screen_off: Annotated[
        tuple[str, ...],
        Field(
            title="Screen off",
            description="A command, as a list, that switches the display off when the page sleeps.",
            max_length=32,
        ),
        Listed,
    ] = ()
    screen_on: Annotated[
        tuple[str, ...],
        Field(
            title="Screen on",
            description="A command, as a list, that switches the display on when somebody comes.",
            max_length=32,
        ),
        Listed,
    ] = ()
