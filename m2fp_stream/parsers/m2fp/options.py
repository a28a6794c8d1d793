"""Options of the M2FP parser."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...options import Options

__all__ = ["M2FPOptions"]


class M2FPOptions(Options, title="m2fp"):
    """What a user may change about the M2FP parser; frozen, unknown keys are errors."""

    enabled: Annotated[
        bool,
        Field(
            title="Use M2FP",
            description=(
                "Whether M2FP looks at each picture, beside the embedded parser, which stays "
                "the guard."
            ),
        ),
    ] = False
    kind: Annotated[
        Literal["cihp", "lip"],
        Field(
            title="Kind",
            description="Which weights: cihp for many people, lip for one person in close view.",
        ),
    ] = "cihp"
    model_dir: Annotated[
        str | None,
        Field(
            title="Model folder",
            description=(
                "Folder with configuration.json and pytorch_model.pt; none takes what `models "
                "pull` fetched."
            ),
            min_length=1,
        ),
    ] = None
    key: Annotated[
        str | None,
        Field(
            title="Key of sealed weights",
            description="File with the key, or keyring for the system's; none for plain weights.",
            min_length=1,
        ),
    ] = None
    short_side: Annotated[
        int,
        Field(
            title="Network size",
            description=(
                "Shorter side of what the network sees, in pixels. The published figures are at "
                "640; time grows with its square."
            ),
            ge=128,
            le=800,
            multiple_of=32,
        ),
    ] = 320
    map_size: Annotated[
        int,
        Field(
            title="Smallest map",
            description=(
                "Long side of the label map in pixels, at least, where the picture has as many. "
                "Its masks are a quarter of what the network sees; the map is never coarser."
            ),
            ge=32,
            le=4096,
        ),
    ] = 32
    tiles: Annotated[
        int,
        Field(
            title="Tiles",
            description=(
                "Above 1, so many overlapping tiles across and down are looked at beside the "
                "whole, for small people in large pictures. 2 takes five times as long, 8 takes "
                "65 times."
            ),
            ge=1,
            le=8,
        ),
    ] = 1
    threads: Annotated[
        int, Field(title="Threads", description="Threads of the network.", ge=1, le=64)
    ] = 2
    score_threshold: Annotated[
        float,
        Field(
            title="Score threshold",
            description=(
                "Instances count in the label map from this score upwards; 0.1 is the "
                "reference's. What is hidden below it is the hiding threshold's to say."
            ),
            ge=0.01,
            le=0.5,
        ),
    ] = 0.1
    agreement: Annotated[
        bool,
        Field(
            title="Agreement",
            description=(
                "Looks at each picture mirrored as well, in twice the time. What either finds "
                "counts, and where they disagree on what is head, skin or person at all, it is "
                "covered."
            ),
        ),
    ] = False
