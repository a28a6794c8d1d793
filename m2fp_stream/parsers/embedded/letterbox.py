"""A picture made to fit a detector's input, and back again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.errors import ParserError

from .boxes import Box, suppress_overlaps

__all__ = ["NETWORK_MULTIPLE", "Letterbox", "letterbox", "lifted", "logit"]

NETWORK_MULTIPLE: Final = 32
"""Both detectors' coarsest convolution has stride 32: sides are multiples of it. Source: both
networks."""
LIFTED_SHARE: Final = 0.99
"""So much of a dark picture's values is brought up to at most white. Chosen: lamps in the picture
may stay what they are."""
LARGEST_LIFT: Final = 16.0
"""Values are multiplied at most so much; below 16 grey levels there is little but noise. At a
sixteenth of the light .78 of the faces of 32 pixels and more are found so, instead of .50; at an
eighth all, instead of .86 (99 everyday photographs, report half; docs/parsers.md)."""
SMALLEST_LIFT: Final = 1.3
"""Pictures that need less are left as they are. Chosen: a third more light changes little."""
SAMPLE_STEP: Final = 4
"""Every so manieth row and column tells how dark a picture is. Chosen: a sixteenth of the pixels
says it as well."""
MOST_BOXES: Final = 400
"""So many of the best are compared with each other; a crowd of 50 gives about 350 at 0.05. Chosen
above that."""


@dataclass(frozen=True)
class Letterbox:
    """A picture at the top left of a network's input, and where its pixels are from.

    Attributes:
        inner: (h, w, 3) uint8 BGR, the scaled picture, made brighter where it was dark; may be a
            view of the caller's.
        network_hw: sides of the input, multiples of `NETWORK_MULTIPLE`, at least as large.
        picture_hw: sides of the picture.
    """

    inner: NDArray[np.uint8]
    network_hw: tuple[int, int]
    picture_hw: tuple[int, int]

    @property
    def to_picture(self) -> NDArray[np.float32]:
        """Returns (2,) picture pixels a network pixel in x and y."""
        (height, width), (rows, columns) = self.picture_hw, self.inner.shape[:2]
        return np.array([width / columns, height / rows], np.float32)

    def best(
        self, xyxy: NDArray[np.float32], scores: NDArray[np.float32], overlap_limit: float
    ) -> tuple[list[Box], list[int]]:
        """Returns the boxes that stay, clipped to the picture, best first, and their rows.

        Args:
            xyxy: (n, 4) corners in network pixels.
            scores: (n,) confidences.
            overlap_limit: as in `suppress_overlaps`.
        """
        height, width = self.picture_hw
        limits = np.array([width, height] * 2, np.float32)
        corners = np.clip(xyxy * np.tile(self.to_picture, 2), 0, limits).astype(np.float32)
        rows = np.flatnonzero((corners[:, 2:] > corners[:, :2]).all(axis=1))
        rows = rows[np.argsort(-scores[rows], kind="stable")[:MOST_BOXES]]
        kept = rows[suppress_overlaps(corners[rows], scores[rows], overlap_limit)]
        return [Box.from_row(corners[i], scores[i]) for i in kept], [int(i) for i in kept]


def letterbox(bgr: NDArray[np.uint8], *, size: int, enlargement: float) -> Letterbox:
    """Scales a picture so that its long side is `size` pixels, or less where it is too small.

    Args:
        bgr: (h, w, 3) uint8.
        size: long side in pixels.
        enlargement: the picture is enlarged at most so much.

    Raises:
        ParserError: the picture has no pixels: that is no picture of nobody.
    """
    height, width = bgr.shape[:2]
    if not height or not width:
        raise ParserError(f"a picture of {width} x {height} pixels cannot be looked at")
    scale = min(size / max(height, width), enlargement)
    inner_w, inner_h = max(1, round(width * scale)), max(1, round(height * scale))
    network_hw = _network_side(inner_h), _network_side(inner_w)
    return Letterbox(lifted(_scaled(bgr, (inner_w, inner_h))), network_hw, (height, width))


def logit(probability: float) -> float:
    """Returns log-odds; the inverse of the logistic function."""
    return math.log(probability / (1 - probability))


def _network_side(pixels: int) -> int:
    return -(-pixels // NETWORK_MULTIPLE) * NETWORK_MULTIPLE


def lifted(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a dark picture made brighter, any other as it is.

    At a sixteenth of the light YuNet finds half of the large faces as it is and three quarters
    brightened, EfficientDet likewise (docs/parsers.md).
    """
    counts = np.bincount(bgr[::SAMPLE_STEP, ::SAMPLE_STEP].ravel(), minlength=256)
    reached = np.cumsum(counts) >= LIFTED_SHARE * counts.sum()
    gain = min(255 / max(int(np.argmax(reached)), 1), LARGEST_LIFT)
    if gain <= SMALLEST_LIFT:
        return bgr
    table = np.minimum(np.arange(256) * gain, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(bgr, table), np.uint8)


def _scaled(bgr: NDArray[np.uint8], wh: tuple[int, int]) -> NDArray[np.uint8]:
    if (bgr.shape[1], bgr.shape[0]) == wh:
        return bgr
    kind = cv2.INTER_AREA if wh[0] < bgr.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(bgr, wh, interpolation=kind), np.uint8)
