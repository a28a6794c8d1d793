"""What moves so fast that no look can tell what it is: motion that goes one way through frames.

A picture of it is smeared by as much as it moves while the shutter is open. Leaves, curtains, lamps
and a camera's jerks change pictures as much, but do not go anywhere: three frames in a row have to
agree on one way (P5 in `docs/threat-model.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final

from .heads import Rect

__all__ = ["rushing"]

FAST: Final = 0.35
"""Of the longer side of what moves, a frame: at .32 of their height (scene `dash`) people are found
by looks, from .43 upwards (scene `rush`) in one frame of three; `scripts/bench`."""
AGREE: Final = 0.4
"""Two steps are one way if they differ by less than this share of the longer one: bodies swing.
Chosen."""
ALIKE: Final = 1.8
"""Ratio of the widths, or heights, of two boxes of one thing, at most, where the picture does not
cut them. Chosen on the scenes of `scripts.bench.scenes_limits`: what is smeared changes its box."""
BOTH: Final = 2
"""Sides of a box on one axis, none of which the picture cuts: its size says something then."""
MOST_BOXES: Final = 8
"""The largest boxes of a frame that are compared: more of them are weather. Chosen: pairs grow with
the square."""

Step = tuple[float, float]


def rushing(
    frames: Sequence[Sequence[Rect]], at: int, size_wh: tuple[int, int]
) -> list[tuple[Rect, Step]]:
    """Returns the boxes that rush in one frame, each with its step.

    Args:
        frames: boxes around what moved unexplained, of frames in a row: two before and two after
            the one that is asked about, where there are any.
        at: index of that one.
        size_wh: (width, height) of the frames, in pixels as the boxes are.

    Returns:
        Boxes of `frames[at]` and the (x, y) pixels a frame that each of them moves.
    """
    largest = [sorted(boxes, key=_long, reverse=True)[:MOST_BOXES] for boxes in frames]
    found: dict[Rect, Step] = {}
    for first in range(max(0, at - 2), min(at, len(frames) - 3) + 1):
        for three in product(*largest[first : first + 3]):
            step = _way(three, size_wh)
            if step is not None:
                found.setdefault(three[at - first], step)
    return list(found.items())


def _way(three: tuple[Rect, ...], size_wh: tuple[int, int]) -> Step | None:
    """Returns the step that three boxes, of three frames in a row, have in common; None if none."""
    a, b, c = three
    first, second = _step(a, b, size_wh), _step(b, c, size_wh)
    if first is None or second is None:
        return None
    length = max(_length(first), _length(second))
    apart = _length((second[0] - first[0], second[1] - first[1]))
    # A box holds where something was and where it is: it is longer than the thing by one step.
    sides = [max(box.width - abs(first[0]), box.height - abs(first[1])) for box in three]
    if apart > AGREE * length or min(_length(first), _length(second)) < FAST * max(sides):
        return None
    return (first[0] + second[0]) / 2, (first[1] + second[1]) / 2


def _step(a: Rect, b: Rect, size_wh: tuple[int, int]) -> Step | None:
    """Returns how far one box is from the other by its edges that the picture does not cut."""
    width, height = size_wh
    across = [q - p for p, q in ((a.x1, b.x1), (a.x2, b.x2)) if _inside(p, q, width)]
    down = [q - p for p, q in ((a.y1, b.y1), (a.y2, b.y2)) if _inside(p, q, height)]
    if not across and not down:
        return None
    if len(across) == BOTH and not 1 / ALIKE < b.width / max(1.0, a.width) < ALIKE:
        return None
    if len(down) == BOTH and not 1 / ALIKE < b.height / max(1.0, a.height) < ALIKE:
        return None
    x = sum(across) / len(across) if across else 0.0
    y = sum(down) / len(down) if down else 0.0
    return x, y


def _inside(p: float, q: float, side: int) -> bool:
    return 1 < p < side - 1 and 1 < q < side - 1


def _long(box: Rect) -> float:
    return max(box.width, box.height)


def _length(step: Step) -> float:
    return max(abs(step[0]), abs(step[1]))
