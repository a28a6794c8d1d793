"""What moves, is nobody who is known, and has not been looked at yet: covered until it was (P5).

Files do not need it: they know the looks at later frames before they cover one. Live, a look that
motion orders is answered some frames later; until then, what moves may be somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import cv2
import numpy as np

from ...core.labels import Label
from ...core.timing import NEVER
from ...tracking.heads import Rect
from ...tracking.motion import Motion
from ...tracking.shape import filled, put_on
from .records import U8, Reach
from .unjudged import MARK

__all__ = ["Unlooked"]

FORGOTTEN_S: Final = 0.5
"""Something that moves again at the same place so soon is the same thing. Chosen: what sways comes
back sooner."""
SAME_THING: Final = 0.3
NEAR_SHARE: Final = 0.3
"""Share of the smaller of two boxes that both hold, from which they are of one thing, where one is
enlarged by the second share of its sides: it moves on. Chosen: a third, for what moves on changes
its box."""
ANSWERS: Final = 2
"""So many looks for people, at different frames, answer for a thing (P5). Source: promise P5."""
AGAIN_FRAMES: Final = 4
"""See `orders.OFTEN_EVERY`."""
LEAST_SIDE_PX: Final = 7
"""Where the camera moves, what is thinner (small pixels) is an edge of something that stands: the
camera's motion is never measured exactly. Chosen: 28 pixels of 1280."""
EVERYTHING: Final = 0.7
"""Share of the picture beyond which it is the light that changed, or the camera's motion that was
not measured: whoever is so large is seen by every look. Chosen."""
REACH_PX: Final = 3
"""Small pixels that are covered around what moved. Chosen: 12 pixels of 1280, for the edges of what
moves are faint."""


@dataclass(slots=True, eq=False)
class _Thing:
    box: Rect
    at: int
    looks: int = 0
    looked_at: float = NEVER
    reach: Rect = field(init=False)
    """Where it may be next."""

    def __post_init__(self) -> None:
        x, y = NEAR_SHARE * self.box.width, NEAR_SHARE * self.box.height
        self.reach = self.box.grown(x, y, y)

    def is_at(self, box: Rect) -> bool:
        """Says whether something in a box is this thing, moved on or in pieces."""
        shared = self.reach.shared(box)
        if shared <= 0 and box.x2 > box.x1 and box.y2 > box.y1:
            return False
        return shared >= SAME_THING * min(self.reach.area, box.area)

    def is_like(self, other: _Thing) -> bool:
        """Says whether two boxes are of one thing."""
        return self.is_at(other.box)


@final
class Unlooked:
    """Follows what moves unexplained, and counts the looks that saw nobody there.

    Args:
        needed: how closely a look must look to see somebody who fills such a box.
        rate: frames a second, about.
    """

    def __init__(self, needed: Callable[[Rect], Reach], *, rate: float) -> None:
        self._needed = needed
        self._kept = max(2, round(FORGOTTEN_S * rate))
        self.again_frames = AGAIN_FRAMES
        """What moves on is looked at again so many frames later; anybody may set it."""
        self._things: list[_Thing] = []
        self._at: dict[int, list[_Thing]] = {}

    def restart(self) -> None:
        """Says that a shot starts."""
        self._things.clear()
        self._at.clear()

    def see(self, number: int, moving: Sequence[Rect]) -> list[Rect]:
        """Takes the boxes of what moves unexplained in the next frame; returns those to look at.

        What comes apart, or together, keeps the looks of what it was, for a while. What was looked
        at twice is looked at again `again_frames` later, while it moves on.
        """
        here = []
        for box in moving:
            new = _Thing(box, number)
            before = [old for old in self._things if old.is_at(box)]
            new.looks = max((old.looks for old in before), default=0)
            new.looked_at = max((old.looked_at for old in before), default=new.looked_at)
            if number - new.looked_at > self._kept:
                new.looks = 0
            here.append(new)
        self._at[number] = here
        kept = [
            thing
            for thing in self._things
            if number - thing.at <= self._kept and not any(map(thing.is_like, here))
        ]
        self._things = kept + here
        for old in [frame for frame in self._at if frame < number - 2 * self._kept]:
            del self._at[old]
        return [
            thing.box
            for thing in here
            if thing.looks < ANSWERS or number - thing.looked_at >= self.again_frames
        ]

    def answered(self, number: int, reach: Reach, bodies: Sequence[Rect]) -> None:
        """Says that a look for people at a frame was answered.

        Args:
            number: the frame.
            reach: how closely it looked.
            bodies: what it saw, however weakly: there, it was no empty look.
        """
        looked = [
            one
            for one in self._at.get(number, [])
            if self._needed(one.box) <= reach
            and one.looked_at != number  # a frame counts once
            and not any(map(one.is_at, bodies))
        ]
        for thing in looked:
            thing.looks += 1
            thing.looked_at = number
        for frame in sorted(frame for frame in self._at if frame > number):
            # It has moved on since: it is followed from frame to frame.
            same = [thing for thing in self._at[frame] if any(map(thing.is_like, looked))]
            for thing in same:
                thing.looks += 1
                thing.looked_at = max(number, thing.looked_at)
            looked = same or looked

    def lay(
        self, number: int, motion: Motion, known: Sequence[Rect], parts: U8, tracks: U8
    ) -> bool:
        """Covers what moves in a frame and was not looked at; says whether there is anything.

        Args:
            number: the frame.
            motion: of it.
            known: boxes of those who are known there: they may move.
            parts: (h, w) uint8 `Label`, 0 = clear; drawn on.
            tracks: (h, w) uint8 marks of people; drawn on.
        """
        open_things = [thing for thing in self._at.get(number, ()) if thing.looks < ANSWERS]
        if not open_things:
            return False
        left = np.zeros_like(motion.moved)
        height, width = motion.moved.shape
        for box in motion.unexplained(known):
            if box.area * motion.scale**2 > EVERYTHING * width * height:
                continue
            if motion.camera is not None and _is_edge(box, motion):
                continue
            if any(box.shared(thing.box) > 0 for thing in open_things):
                rows, columns = _inside(box, motion)
                left[rows, columns] = motion.moved[rows, columns]
        for box in known:
            left[_inside(box, motion)] = 0
        if not left.any():
            return False
        size = 2 * REACH_PX + 1
        around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        whole = filled(np.asarray(cv2.dilate(left, around), np.uint8))
        height, width = parts.shape
        large = cv2.resize(whole, (width, height), interpolation=cv2.INTER_NEAREST)
        put_on(parts, tracks, np.asarray(large > 0), int(Label.HUMAN), MARK)
        return True


def _is_edge(box: Rect, motion: Motion) -> bool:
    """Says whether nothing in a box that moved is as thick as a thing."""
    rows, columns = _inside(box, motion)
    moved = cv2.copyMakeBorder(motion.moved[rows, columns], 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    return not np.asarray(cv2.erode(moved, _THING)).any()


_THING: Final = np.ones((LEAST_SIDE_PX, LEAST_SIDE_PX), np.uint8)


def _inside(box: Rect, motion: Motion) -> tuple[slice, slice]:
    scale = motion.scale
    return (
        slice(max(0, int(box.y1 * scale)), max(0, int(np.ceil(box.y2 * scale)))),
        slice(max(0, int(box.x1 * scale)), max(0, int(np.ceil(box.x2 * scale)))),
    )
