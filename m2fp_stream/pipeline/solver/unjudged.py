"""What moves, is nobody who is known, and cannot be judged: it stays covered while it moves (P5).

Of the three things with which a look may not be trusted (scenes: `scripts/bench/scenes_limits.py`):

- *too blurred*: what rushes through the picture (`tracking/rush.py`) and is smeared along its way.
  It is covered here.
- *too dark*: a sixteenth and a thirtieth of daylight hide people from the measure of motion, not
  from the looks, which brighten the picture: there is no motion to cover, and hardly anybody is
  missed.
- *too small*: who is too small for a look moves by less than the measure of motion sees, too.

What is large, light, slow and was not found by looks is nobody, however it moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

import cv2
import numpy as np

from ...core.labels import Label
from ...tracking.heads import Rect
from ...tracking.motion import Motion
from ...tracking.rush import Step, rushing
from ...tracking.shape import filled, put_on
from .place import Places
from .records import U8

__all__ = ["Unjudged"]

LEAST_SHARE: Final = 0.35
"""Of the picture's short side: what is smaller is far away, and nothing far away rushes. Chosen on
the scenes of `scripts.bench.scenes_limits`."""
LEAST_FILLED: Final = 0.25
"""Share of a box that moved: a body that rushes leaves no pixel as it was; where a camera's motion
is measured badly, edges alone move. Chosen: a quarter."""
LEAST_WIDE: Final = 0.2
"""The shorter side of a box over its longer one: bars are edges, too. Chosen: bodies that stand are
wider."""
GOES_ON: Final = 0.25
"""Share of what moved that moves again in the next frame, from which it is where something is.
Chosen: a quarter."""
SHARP_LINES: Final = 0.7
"""Share of the lines along its way in which it has a sharp edge, from which it is not smeared.
Chosen on `bottle-detection`, where hands are quick and sharp, and the scenes of
`scripts.bench.scenes_limits`."""
SMEAR: Final = 0.15
"""Of its step, that much is added around: the ends of a smear are faint. Chosen."""
MARK: Final = 255
"""What it is called on the map of tracks; 254 people have numbers of their own. Source: the map has
eight bits."""

Explained = Callable[[int], Sequence[Rect]]


@final
class Unjudged:
    """Lays covers on what moves too fast to be judged.

    Args:
        places: has the motions.
        size_wh: (width, height) of the frames.
    """

    def __init__(self, places: Places, *, size_wh: tuple[int, int]) -> None:
        self._places = places
        self._size_wh = size_wh
        self._least = LEAST_SHARE * min(size_wh)
        self._fewest = LEAST_FILLED * LEAST_WIDE * self._least**2

    def lay(self, number: int, explained: Explained, parts: U8, tracks: U8) -> bool:
        """Covers what rushes in a frame; says whether there is anything.

        Args:
            number: the frame.
            explained: gives the boxes of those who are known, by frame: they may move.
            parts: (h, w) uint8 `Label`, 0 = clear; drawn on.
            tracks: (h, w) uint8 marks of people; drawn on.
        """
        here = self._large(number, explained)
        if not here:
            return False
        before = self._run(number, -1, explained)
        after = self._run(number, +1, explained)
        frames = [*reversed(before), here, *after]
        found = [
            (box, (x, y))
            for box, (x, y) in rushing(frames, len(before), self._size_wh)
            # A box holds where something was and where it is: it is longer by one step.
            if max(box.width - abs(x), box.height - abs(y)) >= self._least
        ]
        moved = [(*self._moved(number, box), step) for box, step in found]
        moved = [one for one in moved if not self._is_sharp(number, one[0], one[2])]
        any_goes_on = any(goes_on for _, goes_on, _ in moved)
        scale = self._places.motions[number].scale
        for mask, goes_on, step in moved:
            if goes_on or not any_goes_on:
                self._lay_one(mask, scale * max(abs(step[0]), abs(step[1])), parts, tracks)
        return bool(moved)

    def _run(self, number: int, way: int, explained: Explained) -> list[list[Rect]]:
        """Returns the boxes of up to two frames before or after, in the same shot."""
        boxes = []
        for frame in (number + way, number + 2 * way):
            if self._motion(frame if way > 0 else frame + 1) is None:
                break  # another shot: nothing is known of what moved between the two
            boxes.append(self._large(frame, explained))
        return boxes

    def _motion(self, number: int) -> Motion | None:
        motion = self._places.motions.get(number)
        return None if motion is None or motion.cut else motion

    def _large(self, number: int, explained: Explained) -> list[Rect]:
        """Returns boxes around what moved, is nobody known and large."""
        motion = self._motion(number)
        if motion is None or np.count_nonzero(motion.moved) < self._fewest * motion.scale**2:
            return []
        # What changed lies where somebody is, and where he was the frame before.
        boxes = motion.unexplained((*explained(number), *explained(number - 1)))
        return [
            box
            for box in boxes
            if max(box.width, box.height) >= self._least
            and min(box.width, box.height) >= LEAST_WIDE * max(box.width, box.height)
            and motion.share(box) >= LEAST_FILLED
        ]

    def _is_sharp(self, number: int, moved: U8, step: Step) -> bool:
        """Says whether what moves is sharp along its way: then looks saw it as it is."""
        edges = self._places.motions[number].edges
        if edges is None:
            return True
        along = abs(step[0]) >= abs(step[1])
        inner = cv2.erode(moved, _NEAR) > 0  # what is behind it is sharp
        sharp = inner & ((edges & (1 if along else 2)) > 0)
        axis = 1 if along else 0
        lines = np.count_nonzero(inner.any(axis=axis))
        return bool(np.count_nonzero(sharp.any(axis=axis)) >= SHARP_LINES * lines)

    def _moved(self, number: int, box: Rect) -> tuple[U8, bool]:
        """Returns what moved in a box (small pixels), and whether it goes on from there.

        What moves again in the next frame is where it is; the rest is where it was.
        """
        motion = self._places.motions[number]
        inside = np.zeros_like(motion.moved)
        left, top = (max(0, int(v * motion.scale)) for v in (box.x1, box.y1))
        right, bottom = (int(np.ceil(v * motion.scale)) for v in (box.x2, box.y2))
        inside[top:bottom, left:right] = motion.moved[top:bottom, left:right]
        after = self._motion(number + 1)
        if after is None:
            return inside, False
        again = inside & np.asarray(cv2.dilate(after.moved, _NEAR), np.uint8)
        goes_on = np.count_nonzero(again) >= GOES_ON * np.count_nonzero(inside)
        return (again if goes_on else inside), bool(goes_on)

    @staticmethod
    def _lay_one(moved: U8, smear: float, parts: U8, tracks: U8) -> None:
        reach = 2 + round(SMEAR * smear)
        around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        whole = filled(np.asarray(cv2.dilate(moved, around), np.uint8))
        height, width = parts.shape
        large = cv2.resize(whole, (width, height), interpolation=cv2.INTER_NEAREST)
        put_on(parts, tracks, np.asarray(large > 0), int(Label.HUMAN), MARK)


_NEAR: Final = np.ones((5, 5), np.uint8)
"""Small pixels: what moved so near is one thing. Chosen: as `lay._CLOSED`."""
