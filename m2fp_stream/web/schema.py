"""What goes over the wire, as /openapi.json describes it."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "BINARY",
    "PICTURE",
    "PROBLEMS",
    "UPLOAD_PROBLEMS",
    "PageSettings",
    "ParsedAreas",
    "PrivacyRequest",
    "Problem",
    "Status",
]


class Problem(BaseModel):
    """Every error."""

    error: str = Field(description="One sentence.")


class PageSettings(BaseModel):
    """How the page looks."""

    language: Literal["auto", "en", "zh"]
    rotation: Literal[0, 90, 180, 270]
    mirror: bool
    clock: bool
    consent: bool
    stale_s: float


class Status(BaseModel):
    """What is shown, and what is covered."""

    state: Literal["live", "card", "away", "starting"] = Field(
        description="live: pictures come; card: they do, wholly covered; away: the camera gives "
        "nothing; starting: no picture comes."
    )
    why: str | None = Field(description="Why it is the card.")
    level: Literal["parts", "person", "frame"] = Field(description="What is covered at least.")
    silhouette: bool = Field(description="Whether what is covered is a flat colour.")
    floor: Literal["parts", "person", "frame"] = Field(description="What is always covered.")
    hide: str | list[str] | None = Field(description="The parts that are covered.")
    effect: Literal["frost", "solid", "silhouette", "mosaic"] | None = Field(
        description="What whole people are covered with."
    )
    keep_zones: bool | None = Field(
        description="Whether people are left alone somewhere in the picture; null: not known."
    )
    person: bool = Field(description="Whether somebody was seen of late.")
    asleep: bool = Field(description="Whether the page is black because nobody was.")
    fps: float | None
    latency_ms: float | None
    frame_age_ms: int | None
    watching: int
    stored: bool | None = Field(
        description="Whether the covered picture is also recorded or sent on; null: not known."
    )
    remote: bool = Field(description="Whether other computers may reach the page.")
    uploads: bool
    alarms: list[str]
    options: PageSettings


class PrivacyRequest(BaseModel):
    """What is to be covered."""

    model_config = ConfigDict(extra="forbid", strict=True)

    level: Literal["parts", "person", "frame"] = Field(
        description="The configured parts, whole people, or everything."
    )
    silhouette: bool = Field(default=False, description="A flat colour instead of frost.")


class ParsedAreas(BaseModel):
    """The parts of people in a picture, with their areas."""

    png: str = Field(description="The picture of class ids, base64.")
    areas: dict[str, int] = Field(description="Pixels by part.")
    size_wh: tuple[int, int] = Field(description="Width and height.")


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": Problem, "description": "The request makes no sense."},
    401: {"model": Problem, "description": "No token and no session."},
    403: {"model": Problem, "description": "Another site asks, or the key is wrong."},
    413: {"model": Problem, "description": "The body is too large."},
    421: {"model": Problem, "description": "The Host header does not name this server."},
    422: {"model": Problem, "description": "The request has another form than described."},
    429: {"model": Problem, "description": "Too often."},
}
UPLOAD_PROBLEMS: Final = {
    **PROBLEMS,
    400: {"model": Problem, "description": "The picture cannot be read."},
    404: {"model": Problem, "description": "Uploads are switched off (page.uploads)."},
    408: {"model": Problem, "description": "The picture did not come within 15 seconds."},
    415: {"model": Problem, "description": "The body is no JPEG, PNG, WebP, BMP or TIFF."},
    503: {"model": Problem, "description": "Too many pictures at once."},
}
BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
PICTURE: Final = {
    "requestBody": {
        "required": True,
        "content": {"image/*": BINARY},
        "description": "One picture.",
    }
}
