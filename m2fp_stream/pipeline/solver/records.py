"""What goes into the solver and what comes out of it: looks, orders, covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, unique
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from ...core.labels import Label
from ...core.safe import TrackState
from ...core.timing import NEVER
from ...tracking.heads import Head, Rect
from ...tracking.motion import Motion
from ...tracking.shape import PartLook, Shape
from ...tracking.sightings import Body, Face, Sighting
from ...tracking.turned import TurnedLook

__all__ = [
    "HEAD_LABELS",
    "Cover",
    "FineLook",
    "Frame",
    "Hidden",
    "Laid",
    "LookRates",
    "PartOrder",
    "Reach",
    "Shapes",
]

U8 = NDArray[np.uint8]


HEAD_LABELS: Final = frozenset({Label.HAT, Label.HAIR, Label.SUNGLASSES, Label.SCARF, Label.FACE})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LookRates:
    """How often is looked, in frames.

    Attributes:
        people_every, parts_every, parts_a_frame: see `FilePipelineOptions`.
        far_every: between looks for people who are small in the picture.
        middle_every: the same for those of middle size, where nobody known asks for them; 0: every
            look sees them.
        motion_every: for those that what is small and moves asks for, at least, and from one look
            at what was looked at twice to the next.
    """

    people_every: int
    parts_every: int
    parts_a_frame: int
    far_every: int
    middle_every: int
    motion_every: int


@final
@dataclass(frozen=True, slots=True)
class Hidden:
    """What the policy hides, as the solver needs it.

    Attributes:
        labels: hidden labels, those of the part network.
        part_labels: the label of each plane of a look at parts.
        head_parts: planes that are parts of a head, whatever is hidden.
        threshold: 0..255, sum of the hidden planes from which a pixel is hidden.
        margin: of a head's or limb's size, added around.
    """

    labels: frozenset[Label]
    part_labels: tuple[Label, ...]
    head_parts: tuple[int, ...]
    threshold: int
    margin: float

    @property
    def head(self) -> bool:
        """Whether whole heads are hidden, from any side."""
        return Label.HAIR in self.labels and Label.FACE in self.labels

    @property
    def face(self) -> bool:
        """Whether faces are hidden."""
        return Label.FACE in self.labels

    @property
    def person(self) -> bool:
        """Whether people are hidden whole."""
        return Label.HUMAN in self.labels

    @property
    def body(self) -> bool:
        """Whether anything below the head is hidden."""
        return bool(self.labels - HEAD_LABELS)

    def label_of(self, *, head: bool) -> dict[int, int]:
        """Returns hidden planes and their labels; those of the head, or all."""
        return {
            plane: int(label)
            for plane, label in enumerate(self.part_labels)
            if label in self.labels
            and label is not Label.BACKGROUND
            and (plane in self.head_parts or not head)
        }


@unique
class Reach(IntEnum):
    """How closely a look for people looks: a larger one sees whom a smaller one sees, too."""

    NEAR = 0
    """For people who fill a fifth of the picture or more."""
    MIDDLE = 1
    """For those who fill a sixth, besides."""
    FAR = 2
    """At the size of the frame, for people who are small in it."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class FineLook:
    """One person as a second parser saw it.

    Attributes:
        sighting: it is sure.
        parts: of the person.
        doubt: one plane, where its looks disagree; hidden under every policy. None: nowhere.
    """

    sighting: Sighting
    parts: PartLook
    doubt: PartLook | None = None


@final
@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What was seen in one frame.

    Attributes:
        number: running, from 0.
        motion: against the frame before.
        faces: of the look at this frame; None where it failed.
        bodies: of the look for people, None where none was made.
        reach: of that look.
        fine: what a second parser saw, where it looked.
        turned: what looks at turned copies saw.
    """

    number: int
    motion: Motion
    faces: Sequence[Face]
    bodies: Sequence[Body] | None = None
    reach: Reach = Reach.MIDDLE
    fine: Sequence[FineLook] = ()
    turned: Sequence[TurnedLook] = ()


@final
@dataclass(frozen=True, slots=True)
class PartOrder:
    """A close look that is wanted.

    Attributes:
        frame: of which the crop is to be taken.
        track_id: whom it is about.
        region: x1, y1, x2, y2 in pixels of the frame; may leave it.
        body: whether it is the whole body, not the head.
        face: whether it is a closer look at a face (`LookKind.CLOSER`); the region is its box.
        turn: quarters counter-clockwise by which the crop is to be turned first.
    """

    frame: int
    track_id: int
    region: tuple[float, float, float, float]
    body: bool
    face: bool = False
    turn: int = 0


@final
@dataclass(frozen=True, slots=True)
class Laid:
    """One whose cover was laid on a map.

    Attributes:
        mark: what the person is called on the map of people, 1 to 255.
        track_id: the track; another one has another.
        body: its box, in pixels of the frame.
        state: how the person is covered.
        whole: whether wholly, for the head is nowhere.
        double: whether head or body is that of another one, of whom more is known.
    """

    mark: int
    track_id: int
    body: Rect
    state: TrackState = TrackState.PLACED
    whole: bool = False
    double: bool = False


@final
@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """What is covered in one frame, on a map of the frame.

    Attributes:
        parts: (h, w) uint8 `Label`, 0 = clear.
        tracks: (h, w) uint8, 1 to 255 tells people apart.
        age: frames to the nearest sighting of whoever was seen longest ago.
        laid: who is covered.
    """

    parts: U8
    tracks: U8
    age: int
    laid: tuple[Laid, ...] = ()

    @property
    def people(self) -> int:
        """How many are covered."""
        return len(self.laid)

    @property
    def whole(self) -> int:
        """How many of them are covered whole, for their heads are nowhere."""
        return sum(one.whole for one in self.laid)

    @property
    def places(self) -> list[tuple[int, tuple[float, float, float, float]]]:
        """The mark and the box of each of them."""
        return [(one.mark, one.body.xyxy) for one in self.laid]


@dataclass(slots=True, eq=False)
class Shapes:
    """What close looks made of one track, by frame; those of a second parser only add.

    Attributes:
        head, body: of looks at parts.
        fine_head, fine_body, doubt: of a second parser; the last is where it is in doubt.
        places: the body's box and the head at looks at the parts of a body, by frame.
        asked, searched: frames at which parts were asked for last, and a head in all of the body.
        share: of the expected head that parts take for one, usually; None before the first look.
        judged: frame at which a closer look at the face was asked for last.
        judged_score: the detector's best score of a face that was looked at closer.
        turned_asked: looks at all turned copies that were asked for while no head was found.
    """

    head: dict[int, Shape] = field(default_factory=dict[int, Shape])
    body: dict[int, Shape] = field(default_factory=dict[int, Shape])
    fine_head: dict[int, Shape] = field(default_factory=dict[int, Shape])
    fine_body: dict[int, Shape] = field(default_factory=dict[int, Shape])
    doubt: dict[int, Shape] = field(default_factory=dict[int, Shape])
    places: dict[int, tuple[Rect, Head]] = field(default_factory=dict[int, tuple[Rect, Head]])
    asked: float = NEVER
    share: float | None = None
    searched: float = NEVER
    judged: float = NEVER
    judged_score: float = 0.0
    turned_asked: int = 0
