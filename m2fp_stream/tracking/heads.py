"""Where a head is in one frame: its place, size and tilt, from a face or from a body.

Everything is in pixels of the full-size frame, (0, 0) being the corner of its first pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEAD_ASPECT", "Head", "Rect", "of_body", "of_face"]

FACE_TO_HEAD_WH: Final = (1.7, 1.75)
"""Head with hair over YuNet's face box, width and height; the head's centre lies `FACE_RISE` face
heights above the face's. Read off composed scenes and clips (research notes, "every frame"); the
part network's mask corrects both wherever it saw the head."""
FACE_RISE: Final = 0.12
"""Source: research notes, "every frame": the point about which heads were drawn there."""
BODY_TO_HEAD: Final = (0.65, 0.2)
"""A head's height, hair and all, over a body box: this share of its width or of its height,
whichever is less. Standing adults measure seven to eight heads from chin to crown (Loomis, "Figure
Drawing", 1943); hair and the looseness of the boxes add a third. Boxes of seated and cut bodies are
wider. Chosen on the tune half."""

HEAD_ASPECT: Final = 0.85
"""Width of a head over its height, hair and all. Chosen, as `BODY_TO_HEAD`."""


@final
@dataclass(frozen=True, slots=True)
class Rect:
    """A box: corners in pixels of the frame, x right, y down."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def width(self) -> float:
        """Pixels."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Pixels."""
        return self.y2 - self.y1

    @property
    def x(self) -> float:
        """Of the centre."""
        return (self.x1 + self.x2) / 2

    @property
    def y(self) -> float:
        """Of the centre."""
        return (self.y1 + self.y2) / 2

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Its corners: left, top, right, below."""
        return self.x1, self.y1, self.x2, self.y2

    @property
    def area(self) -> float:
        """Pixels, never negative."""
        return max(0.0, self.width) * max(0.0, self.height)

    def holds(self, x: float, y: float) -> bool:
        """Says whether a point lies in the box."""
        return self.x1 <= x <= self.x2 and self.y1 <= y <= self.y2

    def shared(self, other: Rect) -> float:
        """Returns the area that both boxes hold."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        return max(0.0, width) * max(0.0, height)

    def iou(self, other: Rect) -> float:
        """Returns intersection over union, 0..1."""
        shared = self.shared(other)
        return shared / max(1e-9, self.area + other.area - shared)

    def grown(self, sides: float, up: float, down: float) -> Rect:
        """Returns the box enlarged by pixels to both sides, upwards and downwards."""
        return Rect(self.x1 - sides, self.y1 - up, self.x2 + sides, self.y2 + down)

    def moved(self, dx: float, dy: float) -> Rect:
        """Returns the box shifted by pixels."""
        return Rect(self.x1 + dx, self.y1 + dy, self.x2 + dx, self.y2 + dy)

    def toward(self, other: Rect, share: float) -> Rect:
        """Returns the box `share` (0..1) of the way to `other`."""
        rest = 1 - share
        return Rect(
            self.x1 * rest + other.x1 * share,
            self.y1 * rest + other.y1 * share,
            self.x2 * rest + other.x2 * share,
            self.y2 * rest + other.y2 * share,
        )


@final
@dataclass(frozen=True, slots=True)
class Head:
    """An upright or tilted box around a head with its hair.

    Attributes:
        x, y: the centre.
        width, height: along and across the head's own axes.
        roll: tilt in radians, clockwise on the screen; 0 is upright.
    """

    x: float
    y: float
    width: float
    height: float
    roll: float = 0.0

    @property
    def size(self) -> float:
        """The longer side in pixels."""
        return max(self.width, self.height)

    def rect(self) -> Rect:
        """Returns the upright box around the head's ellipse."""
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        half_w = math.hypot(self.width * cos, self.height * sin) / 2
        half_h = math.hypot(self.width * sin, self.height * cos) / 2
        return Rect(self.x - half_w, self.y - half_h, self.x + half_w, self.y + half_h)

    def distance(self, other: Head) -> float:
        """Returns how far apart the centres are, in sizes of the larger head."""
        return math.hypot(self.x - other.x, self.y - other.y) / max(1.0, self.size, other.size)

    def moved(self, dx: float, dy: float) -> Head:
        """Returns the head shifted by pixels."""
        return replace(self, x=self.x + dx, y=self.y + dy)

    def scaled(self, factor: float) -> Head:
        """Returns the head grown about its centre."""
        return replace(self, width=self.width * factor, height=self.height * factor)

    def toward(self, other: Head, share: float) -> Head:
        """Returns the head `share` (0..1) of the way to `other`, turned the short way round."""
        rest = 1 - share
        turn = math.remainder(other.roll - self.roll, 2 * math.pi)
        return Head(
            self.x * rest + other.x * share,
            self.y * rest + other.y * share,
            self.width * rest + other.width * share,
            self.height * rest + other.height * share,
            self.roll + turn * share,
        )

    def carried(self, motion: NDArray[np.float32] | None) -> Head:
        """Returns the head after a 2x3 similarity (the camera's motion); None is rest."""
        if motion is None:
            return self
        (a, b, tx), (c, d, ty) = motion.tolist()
        zoom = math.hypot(a, c)
        return Head(
            a * self.x + b * self.y + tx,
            c * self.x + d * self.y + ty,
            self.width * zoom,
            self.height * zoom,
            self.roll + math.atan2(c, a),
        )


def of_face(face: Rect, roll: float = 0.0) -> Head:
    """Returns the head that a face belongs to.

    Args:
        face: the detector's box.
        roll: tilt of the eyes' line in radians.
    """
    rise = FACE_RISE * face.height
    return Head(
        face.x + math.sin(roll) * rise,
        face.y - math.cos(roll) * rise,
        face.width * FACE_TO_HEAD_WH[0],
        face.height * FACE_TO_HEAD_WH[1],
        roll,
    )


def of_body(body: Rect, turn: int = 0) -> Head:
    """Returns where the head of a body is expected: at the middle of its upper edge.

    Args:
        body: box.
        turn: quarters clockwise from up in which the crown points; 0 is upright.
    """
    across, along = (body.height, body.width) if turn % 2 else (body.width, body.height)
    size = max(1.0, min(BODY_TO_HEAD[0] * across, BODY_TO_HEAD[1] * along))
    reach = along / 2 - 0.45 * size
    x, y = ((0, -1), (1, 0), (0, 1), (-1, 0))[turn]
    roll = math.remainder(turn * math.pi / 2, 2 * math.pi)
    return Head(body.x + x * reach, body.y + y * reach, HEAD_ASPECT * size, size, roll)
