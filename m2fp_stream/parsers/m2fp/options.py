"""Options of the M2FP parser."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["M2FPOptions"]


class M2FPOptions(BaseModel):
    """What a user may change about the M2FP parser; frozen, unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, title="m2fp"
    )

    enabled: bool = Field(
        False,
        title="Use M2FP",
        description="Whether M2FP looks at each picture, beside the embedded parser, which stays "
        "the guard.",
    )
    kind: Literal["cihp", "lip"] = Field(
        "cihp",
        title="Kind",
        description="Which weights: cihp for many people, lip for one person in close view.",
    )
    model_dir: str | None = Field(
        None,
        min_length=1,
        title="Model folder",
        description="Folder with configuration.json and pytorch_model.pt; none takes what "
        "`models pull` fetched.",
    )
    key: str | None = Field(
        None,
        min_length=1,
        title="Key of sealed weights",
        description="File with the key, or keyring for the system's; none for plain weights.",
    )
    short_side: int = Field(
        320,
        ge=128,
        le=800,
        multiple_of=32,
        title="Network size",
        description="Shorter side of what the network sees, in pixels. The published figures are "
        "at 640; time grows with its square.",
    )
    map_size: int = Field(
        32,
        ge=32,
        le=4096,
        title="Smallest map",
        description="Long side of the label map in pixels, at least, where the picture has as "
        "many. Its masks are a quarter of what the network sees; the map is never coarser.",
    )
    tiles: int = Field(
        1,
        ge=1,
        le=8,
        title="Tiles",
        description="Above 1, so many overlapping tiles across and down are looked at beside the "
        "whole, for small people in large pictures. 2 takes five times as long, 8 takes 65 times.",
    )
    threads: int = Field(2, ge=1, le=64, title="Threads", description="Threads of the network.")
    score_threshold: float = Field(
        0.1,
        ge=0.01,
        le=0.5,
        title="Score threshold",
        description="Instances count in the label map from this score upwards; 0.1 is the "
        "reference's. What is hidden below it is the hiding threshold's to say.",
    )
    agreement: bool = Field(
        False,
        title="Agreement",
        description="Looks at each picture mirrored as well, in twice the time. What either finds "
        "counts, and where they disagree on what is head, skin or person at all, it is covered.",
    )
