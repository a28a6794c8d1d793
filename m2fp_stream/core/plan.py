"""What is to be covered in one frame, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import final

import numpy as np
from numpy.typing import NDArray

from .labels import Label

__all__ = ["CoverPlan", "CoverState", "Effect", "Fill", "Parsed", "Propagated", "Unknown", "Why"]


class Effect(Enum):
    """How a covered region is filled; see `compositor.effects`."""

    FROST = "frost"
    SOLID = "solid"
    SILHOUETTE = "silhouette"
    MOSAIC = "mosaic"


@final
@dataclass(frozen=True, slots=True)
class Fill:
    """One entry of a plan's legend: which effect, for which part of which track."""

    effect: Effect
    part: Label
    track_id: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class CoverPlan:
    """The cover of one frame: a small map and its legend. All clear is a positive statement.

    Attributes:
        frame_id: the only frame this plan may be used for.
        size_wh: (width, height) of that frame.
        cover: (h, w) uint8, 0 = clear, k = `fills[k - 1]`; made read-only. It may be smaller than
            the frame (the compositor enlarges to the safe side); margins are already in it.
        fills: at most 255. One whose part is `Label.BACKGROUND` is a zone: a place, nobody's part.
        left_alone: how many people who were found are not covered, for they are where people are
            left alone; a number for summaries, no more.

    Raises:
        ValueError: not as above; no object exists then.
    """

    frame_id: int
    size_wh: tuple[int, int]
    cover: NDArray[np.uint8]
    fills: tuple[Fill, ...]
    left_alone: int = 0

    def __post_init__(self) -> None:
        if self.cover.dtype != np.uint8 or self.cover.ndim != 2 or self.cover.size == 0:
            raise ValueError(
                f"cover must be (h, w) uint8, got {self.cover.dtype} {self.cover.shape}"
            )
        if min(self.size_wh) <= 0:
            raise ValueError(f"size_wh must be positive, got {self.size_wh}")
        if len(self.fills) > 255 or int(self.cover.max()) > len(self.fills):
            raise ValueError(
                f"cover names fill {int(self.cover.max())}, the legend has {len(self.fills)}"
            )
        self.cover.setflags(write=False)


class Why(Enum):
    """Why nothing is known about a frame; the value is the text people read."""

    NO_PARSE = "waiting for the first look"
    CUT = "scene cut, waiting for a look"
    RECONNECTED = "source reconnected, waiting for a look"
    SIZE_CHANGED = "picture size changed, waiting for a look"
    PARSER_FAILED = "a look failed"
    PARSER_SILENT = "the looks were not answered in time"
    WRONG_FRAME = "the cover belongs to another frame"
    TRACKING_FAILED = "tracking failed"
    COMPOSE_FAILED = "composing failed"
    UNIFORM = "the picture shows nothing that can be judged"
    STALE = "the last look is too old"
    SOURCE_AWAY = "the camera does not answer"
    OTHER_CAMERA = "another camera is connected"
    ON_REQUEST = "hidden on request"


@final
@dataclass(frozen=True, slots=True)
class Parsed:
    """This very frame was parsed."""

    plan: CoverPlan


@final
@dataclass(frozen=True, slots=True)
class Propagated:
    """The plan was carried here from other frames.

    Attributes:
        plan: for this frame.
        age_s: seconds to the nearest look it rests on, >= 0.
    """

    plan: CoverPlan
    age_s: float

    def __post_init__(self) -> None:
        if not self.age_s >= 0:
            raise ValueError(f"age_s {self.age_s} is below 0")


@final
@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is known: everything is covered."""

    why: Why


CoverState = Parsed | Propagated | Unknown
