"""Boxes in pixels of the picture, and what both detectors do with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "suppress_overlaps"]


@dataclass(frozen=True, slots=True)
class Box:
    """A detection: corners in pixels of the picture (x right, y down), confidence 0..1."""

    x1: float
    y1: float
    x2: float
    y2: float
    confidence: float

    @classmethod
    def from_row(cls, xyxy: NDArray[np.float32], confidence: float) -> Box:
        """Returns the box of one row of an (n, 4) array of corners."""
        x1, y1, x2, y2 = (float(value) for value in xyxy)
        return cls(x1, y1, x2, y2, float(confidence))

    @property
    def width(self) -> float:
        """Pixels."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Pixels."""
        return self.y2 - self.y1

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        return (self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2

    def grown(self, *, sides: float = 0.0, up: float = 0.0, down: float = 0.0) -> Box:
        """Returns the box enlarged by pixels to both sides, upwards and downwards."""
        return Box(self.x1 - sides, self.y1 - up, self.x2 + sides, self.y2 + down, self.confidence)

    def moved(self, x: float, y: float) -> Box:
        """Returns the box shifted by pixels to the right and downwards."""
        return Box(self.x1 + x, self.y1 + y, self.x2 + x, self.y2 + y, self.confidence)

    def slices(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Returns the (rows, columns) of an (h, w) array that the box touches, clipped."""
        height, width = shape
        top, bottom = np.clip([np.floor(self.y1), np.ceil(self.y2)], 0, height).astype(int)
        left, right = np.clip([np.floor(self.x1), np.ceil(self.x2)], 0, width).astype(int)
        return slice(int(top), int(bottom)), slice(int(left), int(right))


def suppress_overlaps(
    xyxy: NDArray[np.float32], scores: NDArray[np.float32], limit: float
) -> list[int]:
    """Returns indices of the boxes that stay, best first (greedy non-maximum suppression).

    Args:
        xyxy: (n, 4) corners.
        scores: (n,) confidences; equal ones keep their order.
        limit: a box goes when its intersection over union with a better one reaches this.
    """
    order = np.argsort(-scores, kind="stable")
    areas = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    kept: list[int] = []
    while order.size:
        best = int(order[0])
        kept.append(best)
        rest = order[1:]
        low = np.maximum(xyxy[best, :2], xyxy[rest, :2])
        high = np.minimum(xyxy[best, 2:], xyxy[rest, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        union = areas[best] + areas[rest] - shared
        order = rest[shared < limit * np.maximum(union, 1e-9)]
    return kept
