"""Options of tracking and of the motion guard."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TrackingOptions"]


class TrackingOptions(BaseModel):
    """How findings are carried between parses; lengths are in pixels of the small picture."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)

    area: Annotated[
        int,
        Field(
            title="Small picture",
            description="Pixels of the small picture on which motion is followed (320x180).",
            ge=14_400,
            le=921_600,
        ),
    ] = 57_600
    growth_px: Annotated[
        float,
        Field(title="Growth", description="A carried cover grows by this a frame.", ge=0, le=8),
    ] = 0.35
    growth_per_speed: Annotated[
        float,
        Field(
            title="Growth with speed",
            description="and by this fraction of its speed (pixels a frame).",
            ge=0,
            le=4,
        ),
    ] = 0.25
    hold_s: Annotated[
        float,
        Field(
            title="Hold",
            description=(
                "A region that parses no longer confirm stays covered for two parses, and for "
                "this long (seconds) while the picture inside it can still be followed."
            ),
            ge=0,
            le=60,
        ),
    ] = 2.0
    clear_parses: Annotated[
        int,
        Field(
            title="Parses that clear",
            description=(
                "Consecutive parses that must find nobody in an unexplained moving region before "
                "it is shown again."
            ),
            ge=1,
            le=10,
        ),
    ] = 2
