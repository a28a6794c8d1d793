"""Body parts of one region of interest by the network that `scripts/train` made.

The network takes crops of any aspect with about the same number of pixels, so that people who
stand, sit or fill the picture are all seen at the scale it was trained at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .boxes import Box
from .classes import PartClass
from .crops import View
from .runtime import Given, open_network

__all__ = ["CROP_PIXELS", "PartParser", "Parts", "network_shape"]

CROP_PIXELS: Final = 65_000
"""Largest crop, a little below those that training ends with. On half of the validation photographs
45, 55, 65 and 79 thousand pixels gave an mIoU of .676, .683, .689 and .694."""
SMALLEST_CROP_PIXELS: Final = 24_000
ENLARGEMENT: Final = 1.0
"""Crop pixels in a pixel of the picture, at most, unless that is below the smallest crop: more hold
no more detail. Chosen."""
MULTIPLE: Final = 32
"""Sides of a crop are multiples of it: the network halves five times. Source:
`training/network.py`."""
SHORTEST: Final = 96
LONGEST: Final = 512
"""Sides of a crop, in pixels. Chosen: three and sixteen times `MULTIPLE`."""
STRIDE: Final = 2
"""Crop pixels in an output pixel. Source: `training/network.py`."""
CENTRE: Final = 127.5
"""Half of 255: the network sees -1 to 1. Source: `input` in models/manifest.yaml."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What the network saw in one region.

    Attributes:
        rows, columns: the window of the map that the chances are about.
        chances: (16, rows, columns) uint8, probability times 255 of every `PartClass`.
    """

    rows: slice
    columns: slice
    chances: NDArray[np.uint8]

    def person(self) -> NDArray[np.uint8]:
        """Returns the (rows, columns) uint8 probability that a pixel shows a person."""
        return np.asarray(255 - self.chances[PartClass.BACKGROUND], np.uint8)

    def within(self, box: Box) -> tuple[slice, slice]:
        """Returns the rows and columns of `chances` that `box` touches."""
        top, left = self.rows.start, self.columns.start
        return box.moved(-left, -top).slices((self.rows.stop - top, self.columns.stop - left))

    def share(self, box: Box, classes: Sequence[PartClass]) -> float:
        """Returns the share of `box` where `classes` together are likelier than not, 0..1."""
        rows, columns = self.within(box)
        inside = self.chances[list(classes), rows, columns]
        if inside.size == 0:
            return 0.0
        likely = inside.sum(axis=0, dtype=np.uint16) > 127
        return float(likely.sum()) / max(1.0, math.ceil(box.width) * math.ceil(box.height))


class PartParser:
    """Runs the part network on rectangles of the map."""

    def __init__(self, *, threads: int, runtime: str | None, given: Given | None = None) -> None:
        self._network = open_network("parts", threads=threads, runtime=runtime, given=given)

    def __call__(self, view: View, region: Box) -> Parts:
        """Returns the parts in `region`, in pixels of the map.

        The region may leave the map; there it is black, as in training.
        """
        across, along = view.detail
        pixels = ENLARGEMENT * region.width * across * region.height * along
        height, width = network_shape(region, pixels)
        scale = min(height / max(region.height, 1.0), width / max(region.width, 1.0))
        x, y = region.center
        crop = view.cut((x, y), scale, (height, width))
        # Trained on RGB -1..1.
        blob = cv2.dnn.blobFromImage(crop, 1 / CENTRE, mean=(CENTRE, CENTRE, CENTRE), swapRB=True)
        (chances,) = self._network.run(np.ascontiguousarray(blob, np.float32))
        covered = Box(
            x - width / scale / 2,
            y - height / scale / 2,
            x + width / scale / 2,
            y + height / scale / 2,
            region.confidence,
        )
        rows, columns = covered.slices(view.shape)
        # From a pixel of the window to a cell of the output, both by their centres.
        step = scale / STRIDE
        to_cell = np.array(
            [
                [step, 0, (columns.start + 0.5 - x) * step + width / STRIDE / 2 - 0.5],
                [0, step, (rows.start + 0.5 - y) * step + height / STRIDE / 2 - 0.5],
            ]
        )
        size = (columns.stop - columns.start, rows.stop - rows.start)
        if 0 in size:
            return Parts(rows, columns, np.zeros((len(PartClass), *size[::-1]), np.uint8))
        small = np.rint(chances[0] * 255).astype(np.uint8)
        kind = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        planes = [
            cv2.warpAffine(plane, to_cell, size, flags=kind, borderMode=cv2.BORDER_REPLICATE)
            for plane in small
        ]
        return Parts(rows, columns, np.asarray(planes, np.uint8))


def network_shape(region: Box, pixels: float = math.inf) -> tuple[int, int]:
    """Returns (height, width) of the crop: the region's aspect, sides multiples of 32.

    Args:
        region: what is to be seen.
        pixels: how many there are to see; more than `CROP_PIXELS` are scaled down.
    """
    aspect = max(region.height, 1.0) / max(region.width, 1.0)
    count = float(np.clip(pixels, SMALLEST_CROP_PIXELS, CROP_PIXELS))
    height = math.sqrt(count * aspect)
    width = math.sqrt(count / aspect)

    def side(pixels: float) -> int:
        return int(np.clip(round(pixels / MULTIPLE) * MULTIPLE, SHORTEST, LONGEST))

    return side(height), side(width)
