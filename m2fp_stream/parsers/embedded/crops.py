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
        source = np.asarray(cv2.resize(bgr, smaller, interpolation=cv2.INTER_AREA), np.uint8)
        ratio = np.array([old_w / smaller[0], old_h / smaller[1]])
        matrix[:, 2] += matrix[:, :2] @ (ratio / 2 - 0.5)
        matrix[:, :2] *= ratio
    crop = cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(crop, np.uint8)
