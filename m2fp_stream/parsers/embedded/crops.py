"""The picture that networks look at and the smaller map that their findings are drawn on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["View", "cut"]

SHRINK_BELOW: Final = 0.5
"""Bilinear sampling skips pixels at scales below this; the picture is averaged down first."""
BESIDE: Final = 2
"""Averaged pixels beside the crop that are made, too: bilinear sampling reads one."""


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
        (x1, y1), (x2, y2) = _around(bgr, center, scale, shape)
        around = bgr[y1:y2, x1:x2]
        old_h, old_w = around.shape[:2]
        smaller = (max(1, round(old_w * 2 * scale)), max(1, round(old_h * 2 * scale)))
        source = np.asarray(cv2.resize(around, smaller, interpolation=cv2.INTER_AREA), np.uint8)
        ratio = np.array([old_w / smaller[0], old_h / smaller[1]])
        matrix[:, 2] += matrix[:, :2] @ (ratio / 2 - 0.5 + np.array([x1, y1]))
        matrix[:, :2] *= ratio
    crop = cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(crop, np.uint8)


def _around(
    bgr: NDArray[np.uint8], center: tuple[float, float], scale: float, shape: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the corners (x, y) of the part of the picture that the crop shows, and some more.

    To average the whole picture for it took 4 ms at 720p, to average this part .3.
    """
    (height, width), (rows, columns) = shape, bgr.shape[:2]
    reach = np.array([width, height]) / scale / 2 + BESIDE / scale
    first = np.floor(np.array(center) - reach).astype(int)
    last = np.ceil(np.array(center) + reach).astype(int)
    size = np.array([columns, rows])
    low = np.clip(first, 0, size - 1)  # beside the picture a crop is black, but not empty
    high = np.clip(last, low + 1, size)
    return (int(low[0]), int(low[1])), (int(high[0]), int(high[1]))
