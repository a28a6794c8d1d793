"""Options of looks that files and live pictures share."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

__all__ = ["DEADLINE", "DEADLINE_TITLE", "PartsAFrame"]

PartsAFrame = Annotated[
    int,
    Field(
        title="Looks at parts, a frame",
        description="At most; who gets none keeps a wider ellipse.",
        ge=1,
        le=64,
    ),
]

DEADLINE_TITLE: Final = "Look deadline"
DEADLINE: Final = (
    "A look that takes longer is a hang; its process is replaced. One that wants the processor and "
    "gets too little of it has up to twelve times as long."
)
