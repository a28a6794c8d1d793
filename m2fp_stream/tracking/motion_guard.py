"""Covers what moves and is not explained by a parse.

Three masks and a memory, all at the size of the small picture:

- *explained*: what a parse saw, carried by flow and kept only where flow reproduces the picture.
  This is the key: a person who enters over an explained background does not become explained.
- *background*: the picture where a parse found nobody; what looks like it again is not covered.
- *unexplained*: what moved, is not explained and is not known background; carried by flow until
  parses clear it.

Constants are in pixels of the small picture (about 320x180); they were measured on composed clips
of people who dash in, flash up and run in the dark (see `docs/performance.md`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from .flow import Link, Mask
from .tracks import grow

__all__ = ["Guard"]

_EXPLAINED_REACH: Final = 3
_PERSON_REACH: Final = 5
_BACKGROUND_REACH: Final = 8
_SMALLEST: Final = 24  # of the small picture; smaller specks are compression noise that moves
_CLOSE: Final = np.ones((19, 19), np.uint8)
_OPEN: Final = np.ones((2, 2), np.uint8)
_THIN: Final = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)), np.uint8)
_THICK: Final = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9)), np.uint8)
_COVER_REACH: Final = 4
_PERSON_SHARE: Final = 0.25
_LOST_SHARE: Final = 0.15
_SPREAD: Final = 250


@final
@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """The guard's state in one frame. Immutable: steps return new states.

    Attributes:
        explained: see the module.
        unexplained: see the module; without the reach that covers add.
        cleared: (h, w) uint8, how many parses in a row found nobody in that unexplained pixel.
        background: (h, w, 3) uint8 like `Small.colour`, or None before the first parse.
        background_known: where `background` holds.
        doubt: what changed beside something explained since the last thorough parse. A pixel or
            two are the jitter of an edge; where it grows thick, something comes out from behind.
    """

    explained: Mask
    unexplained: Mask
    cleared: NDArray[np.uint8]
    background: NDArray[np.uint8] | None
    background_known: Mask
    doubt: Mask

    @classmethod
    def blank(cls, height: int, width: int) -> Guard:
        """Returns the state of a frame of which nothing is known."""
        zero = np.zeros((height, width), np.uint8)
        return cls(zero, zero, zero, None, zero, zero)

    def known_background(self, link: Link) -> Mask:
        """1 where the frame ("here") shows the background that a parse cleared."""
        if self.background is None:
            return self.background_known
        return link.matches(self.background) & self.background_known

    def remembered_from(self, link: Link) -> Guard:
        """Returns the state with its background as the camera of `link.here` sees it."""
        if self.background is None:
            return self
        return replace(
            self,
            background=link.compensate(self.background, outside=None),
            background_known=link.compensate(self.background_known, outside=0),
        )

    def step(self, link: Link) -> Guard:
        """Returns the state one frame further along `link`."""
        background, known = self.background, self.background_known
        if background is not None:
            background = link.compensate(background, outside=None)
            known = link.compensate(known, outside=0)
        seen = replace(self, background=background, background_known=known).known_background(link)
        explained = link.carry(self.explained) & link.consistent
        changed = link.moved & (1 - seen) & (1 - explained)
        new = changed & (1 - grow(explained, _EXPLAINED_REACH))
        doubt = changed
        if self.doubt.any():
            doubt = doubt | (link.carry(self.doubt) & (1 - seen) & (1 - explained))
        new |= np.asarray(cv2.morphologyEx(doubt, cv2.MORPH_OPEN, _THICK), np.uint8)
        unexplained = self.unexplained
        if unexplained.any():
            unexplained = link.carry(unexplained) & (1 - seen)
        unexplained = unexplained | new
        if unexplained.any():
            unexplained = _solid(unexplained)
        cleared = link.carry(self.cleared) if self.cleared.any() else self.cleared
        return Guard(explained, unexplained, cleared, background, known, doubt)

    def correct(
        self,
        link: Link | None,
        picture: NDArray[np.uint8],
        people: Mask,
        held: Mask,
        *,
        clear_parses: int,
        thorough: bool = True,
    ) -> Guard:
        """Returns the state after a parse of this very frame.

        Args:
            link: from this frame to the one before; None at the start of a shot.
            picture: this frame's `Small.colour`; where nobody is, its pixels are remembered.
            people: 1 where the parse saw people.
            held: 1 where tracks cover that the parse did not confirm.
            clear_parses: parses in a row that must find nobody to clear an unexplained region.
            thorough: False after a glance, which clears nothing and teaches no background.
        """
        explained = grow(people, _PERSON_REACH)
        keep = np.zeros_like(people)
        cleared = np.zeros_like(people)
        if self.unexplained.any():
            lost = None if link is None else grow(link.moved & (1 - link.consistent), 2)
            near = grow(people, _BACKGROUND_REACH)
            count, components = cv2.connectedComponents(self.unexplained)
            for number in range(1, count):
                component = components == number
                labelled = float((explained[component] > 0).mean()) > _PERSON_SHARE
                if labelled and thorough:
                    explained[component] = 1  # the parse labels it
                    continue
                if not thorough:
                    # Nobody knows who is in what a glance did not label, thin edges apart.
                    rest = component & (near == 0) if labelled else component
                    if labelled:
                        rest = cv2.morphologyEx(rest.astype(np.uint8), cv2.MORPH_OPEN, _THIN) > 0
                    explained[component & ~rest] = 1
                    keep[rest] = 1
                    cleared[rest] = self.cleared[rest]
                    continue
                found_nobody = int(self.cleared[component].max()) + 1
                astray = lost is not None and float(lost[component].mean()) > _LOST_SHARE
                if astray or found_nobody < clear_parses:
                    keep[component] = 1
                    # Motion nobody can follow starts the count again: these parses looked at it
                    # while it was still changing.
                    cleared[component] = 0 if astray else min(found_nobody, _SPREAD)
                else:
                    explained[component] = 1
        if not thorough:
            return replace(self, explained=explained, unexplained=keep, cleared=cleared)
        blocked = grow(people, _BACKGROUND_REACH) | grow(keep, _COVER_REACH) | grow(held, 2)
        free = (1 - blocked).astype(np.uint8)
        if self.background is None:
            background, known = picture.copy(), free
        else:
            background = np.where(free[..., None] > 0, picture, self.background)
            known = self.background_known | free
        return Guard(explained, keep, cleared, background, known, np.zeros_like(people))

    def strays(self, people: Mask | None) -> bool:
        """Says whether anything unexplained lies apart from the people known, (h, w) uint8."""
        if not self.unexplained.any():
            return False
        if people is None or not people.any():
            return True
        near = grow(people, _PERSON_REACH)
        count, components = cv2.connectedComponents(self.unexplained)
        touching = np.unique(components[near > 0])
        return int(np.count_nonzero(touching)) < count - 1

    def cover(self) -> Mask:
        """1 where the guard covers: the unexplained, with reach."""
        return grow(self.unexplained, _COVER_REACH) if self.unexplained.any() else self.unexplained


def _solid(mask: Mask) -> Mask:
    """Removes single pixels, closes gaps, drops specks below `_SMALLEST`."""
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _OPEN)
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, _CLOSE)
    _, components = cv2.connectedComponents(closed)
    # Counted here: OpenCV's own statistics take three times as long.
    large = np.asarray(np.bincount(components.ravel()) >= _SMALLEST, np.uint8)
    large[0] = 0
    return np.asarray(large[components], np.uint8)
