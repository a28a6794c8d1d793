"""The picture that networks look at and the smaller map that their findings are drawn on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["View", "cut"]

SHRINK_BELOW: Final = 0.5
"""Bilinear sampling skips pixels at scales below this; the picture is averaged down first."""
BESIDE: Final = 2
"""Averaged pixels beside the crop that are made, too: bilinear sampling reads one. Chosen: one to
spare."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A picture and the map that is made of it; every position is in pixels of the map.

    Attributes:
        bgr: (h, w, 3) uint8 picture.
        shape: (height, width) of the map: the picture's aspect, not larger.
    """

    bgr: NDArray[np.uint8]
    shape: tuple[int, int]

    @property
    def detail(self) -> tuple[float, float]:
        """Picture pixels in a map pixel, across and along."""
        height, width = self.bgr.shape[:2]
        return width / self.shape[1], height / self.shape[0]

    def cut(
        self, center: tuple[float, float], scale: float, shape: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Returns the (h, w, 3) crop of `shape` around `center`, `scale` pixels a map pixel."""
        across, along = self.detail
        return cut(self.bgr, (center[0] * across, center[1] * along), scale / across, shape)


def cut(
    bgr: NDArray[np.uint8], center: tuple[float, float], scale: float, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Returns the (h, w, 3) crop of `shape`, black outside the picture.

    Args:
        bgr: (h, w, 3) uint8.
        center: (x, y) of the crop's centre in the picture, (0, 0) being the corner of its first
            pixel.
        scale: crop pixels in a picture pixel.
        shape: (height, width) of the crop.
    """
    height, width = shape
    # Pixel centres: x' = (x + 0.5 - center) * scale + width / 2 - 0.5.
    shift = np.array([width, height]) / 2 - 0.5 - scale * (np.array(center) - 0.5)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    source = bgr
    if scale < SHRINK_BELOW:
        old_h, old_w = bgr.shape[:2]
        smaller = (max(1, round(old_w * 2 * scale)), max(1, round(old_h * 2 * scale)))
        left, across, fewer_x = _along(old_w, smaller[0], center[0], width / scale)
        top, along, fewer_y = _along(old_h, smaller[1], center[1], height / scale)
        around = bgr[top : top + along, left : left + across]
        source = np.asarray(
            cv2.resize(around, (fewer_x, fewer_y), interpolation=cv2.INTER_AREA), np.uint8
        )
        ratio = np.array([old_w / smaller[0], old_h / smaller[1]])
        matrix[:, 2] += matrix[:, :2] @ (ratio / 2 - 0.5 + np.array([left, top]))
        matrix[:, :2] *= ratio
    crop = cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(crop, np.uint8)


def _along(whole: int, fewer: int, middle: float, length: float) -> tuple[int, int, int]:
    """Returns the part of a side that must be averaged down for a crop: start, length, new length.

    It begins and ends where a pixel of the whole picture's average does, so that what comes out is
    what averaging the whole would give. That takes 4 ms at 720p; how much of it is spared depends
    on the common divisor of the two lengths.

    Args:
        whole: length of the side in pixels.
        fewer: the length that it would be averaged down to.
        middle: of the crop, on this side.
        length: of the crop, in pixels of the picture.
    """
    steps = math.gcd(whole, fewer)
    step = whole // steps
    reach = length / 2 + BESIDE * whole / fewer
    first = min(max(0, math.floor((middle - reach) / step)), steps - 1)
    last = min(max(first + 1, math.ceil((middle + reach) / step)), steps)
    return first * step, (last - first) * step, (last - first) * (fewer // steps)
