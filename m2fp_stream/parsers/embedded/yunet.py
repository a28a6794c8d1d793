"""Faces by YuNet, fast enough for every frame.

Source: Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research
20 (2023); decoding as in libfacedetection, ``facedetectcnn.cpp``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .boxes import Box
from .detector import Detector
from .letterbox import Letterbox, letterbox, logit

__all__ = ["Face", "YuNet", "roll_of"]

STRIDES: Final = (8, 16, 32)
"""One output each, in this order. Source: libfacedetection."""
OVERLAP_LIMIT: Final = 0.3
"""As for CenterFace; two faces side by side share less. See there."""
LARGEST_LOG: Final = 8.0
"""Sides beyond e^8 strides (23 848 pixels at the finest) are cut there: no overflow."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face, in pixels of the picture (x right, y down).

    Attributes:
        box: clipped to the picture.
        landmarks: five (x, y), not clipped: the eye, then the other eye, nose tip, two corners of
            the mouth; the one that is left in an upright picture (the person's right) comes first.
    """

    box: Box
    landmarks: tuple[tuple[float, float], ...]

    @property
    def roll_deg(self) -> float:
        """Degrees by which the head is turned clockwise in the picture, as `roll_of`.

        Far too small beyond 10 degrees: YuNet's points hardly turn with a face (docs/parsers.md).
        `closer.CloserFace` knows better.
        """
        return roll_of(np.array(self.landmarks, np.float32))


def roll_of(points: NDArray[np.float32]) -> float:
    """Returns the degrees by which five points of a face are turned clockwise; 0 is upright.

    Takes the lines between the eyes, between the corners of the mouth, and from those to these, so
    that profiles, whose eyes coincide, have one too.

    Args:
        points: (5, 2) x right and y down, in the order of `Face.landmarks`.
    """
    right_eye, left_eye, _, right_mouth, left_mouth = (complex(x, y) for x, y in points)
    across = left_eye - right_eye + left_mouth - right_mouth
    down = right_mouth + left_mouth - right_eye - left_eye
    axis = across + down * -1j  # a quarter turn back: in an upright face both point to the right
    return math.degrees(math.atan2(axis.imag, axis.real))


class YuNet(Detector):
    """Finds faces from frontal to profile, not the backs of heads."""

    network = "yunet_s"

    def __call__(self, bgr: NDArray[np.uint8]) -> list[Face]:
        """Returns the faces, most certain first, in pixels of `bgr` ((h, w, 3) uint8).

        Raises:
            ParserError: the picture is empty, the runtime failed, or its answer is not finite.
        """
        fitted = letterbox(bgr, size=self._size, enlargement=self._enlargement)
        levels = self._network.run(_blob(fitted))
        found = [
            _decode(level[0], stride, self._threshold)
            for level, stride in zip(levels, STRIDES, strict=True)
        ]
        xyxy, scores, points = (np.concatenate(parts) for parts in zip(*found, strict=True))
        boxes, rows = fitted.best(xyxy, scores, OVERLAP_LIMIT)
        landmarks = points[rows] * fitted.to_picture
        return [
            Face(box, tuple((float(x), float(y)) for x, y in five))
            for box, five in zip(boxes, landmarks, strict=True)
        ]


def _blob(fitted: Letterbox) -> NDArray[np.float32]:
    """Returns (1, 3, h, w) BGR 0..255; black beside the picture."""
    blob = np.zeros((1, 3, *fitted.network_hw), np.float32)
    height, width = fitted.inner.shape[:2]
    # Ten times as fast as OpenCV's own blobFromImage (version 5.0).
    for channel, plane in enumerate(cv2.split(fitted.inner)):
        blob[0, channel, :height, :width] = plane
    return blob


def _decode(
    level: NDArray[np.float32], stride: int, threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Returns (n, 4) corners, (n,) scores and (n, 5, 2) points, in network pixels.

    The score is the geometric mean of two probabilities, so each must reach its square.
    """
    weaker = np.minimum(level[0], level[1])
    rows, columns = np.nonzero(weaker >= logit(threshold**2))
    values = level[:, rows, columns]
    scores = np.sqrt(np.prod(1 / (1 + np.exp(-values[:2])), axis=0))
    sure = scores >= threshold
    cells = np.stack([columns[sure], rows[sure]]).astype(np.float32)
    values, scores = values[:, sure], scores[sure]
    center = (cells + values[2:4]) * stride
    half = np.exp(np.minimum(values[4:6], LARGEST_LOG)) * (stride / 2)
    xyxy = np.concatenate([center - half, center + half]).T
    points = (values[6:].reshape(5, 2, -1) + cells) * stride
    return xyxy, scores, points.transpose(2, 0, 1)
