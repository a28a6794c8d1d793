"""How recorded files are processed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...options import Options
from ..look_options import DEADLINE, DEADLINE_TITLE, PartsAFrame

__all__ = ["FilePipelineOptions"]


class FilePipelineOptions(Options):
    """Rates of the looks, look-behind and limits of the file pipeline."""

    quality: Annotated[
        Literal["standard", "high"],
        Field(
            title="Quality",
            description=(
                "standard reads the input once; high reads it twice, knows each shot whole before "
                "anything of it is covered, and looks for people in every frame."
            ),
        ),
    ] = "standard"
    people_every: Annotated[
        int,
        Field(
            title="Looks for people, every",
            description=(
                "Frames from one look for people to the next, at most; motion that nobody known "
                "explains, faces that appear and faces that are lost bring more."
            ),
            ge=1,
            le=60,
        ),
    ] = 8
    parts_every: Annotated[
        int,
        Field(
            title="Looks at parts, every",
            description="Frames from one close look at a person to the next, at least.",
            ge=1,
            le=60,
        ),
    ] = 6
    parts_a_frame: PartsAFrame = 3
    look_size: Annotated[
        int,
        Field(
            title="Look size",
            description=(
                "Long side, in pixels, at which faces and people are looked for in pictures of up "
                "to twice that; larger pictures are looked at at half their size."
            ),
            ge=160,
            le=2048,
        ),
    ] = 640
    lookbehind_s: Annotated[
        float,
        Field(
            title="Look-behind",
            description="How far back (seconds) a person found late is covered.",
            ge=0,
            le=30,
        ),
    ] = 2.0
    buffer_mb: Annotated[
        int,
        Field(
            title="Frame buffer",
            description="Memory for frames in look-behind (MB); a full buffer shortens it.",
            ge=16,
            le=65_536,
        ),
    ] = 176
    workers: Annotated[
        int | None,
        Field(
            title="Look processes",
            description="Processes that look; null takes one, and two on four cores or more.",
            ge=1,
            le=16,
        ),
    ] = None
    deadline_s: Annotated[
        float,
        Field(title=DEADLINE_TITLE, description=DEADLINE, gt=0, le=600),
    ] = 30.0
    max_failures: Annotated[
        int,
        Field(
            title="Failed looks",
            description=(
                "A frame whose looks fail is covered whole; after this many in a row the run ends "
                "without an output."
            ),
            ge=1,
            le=1000,
        ),
    ] = 3
