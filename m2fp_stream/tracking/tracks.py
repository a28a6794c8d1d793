"""A covered region that lives through time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from .flow import Link, Mask
from .options import TrackingOptions

__all__ = ["Track", "grow", "shrink_map"]

_LARGEST: Final = 3.0
"""A carried region spreads to at most so many times its confirmed area; past that it moves whole.
Without it a hand's box covered a quarter of the picture after two seconds (signer clips)."""


def grow(mask: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """Returns `mask` (any uint8 values) dilated by a disc of `radius` pixels."""
    if radius < 1:
        return mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask, kernel), np.uint8)


def shrink_map(values: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns `values` at `size_wh` such that no non-zero pixel is lost (largest value wins)."""
    height, width = values.shape
    if (width, height) == size_wh:
        return values
    # A cell samples its first pixel: spread each pixel to the first one of all cells it overlaps.
    reach_x, reach_y = _reach(width, size_wh[0]), _reach(height, size_wh[1])
    if reach_x or reach_y:
        kernel = np.ones((2 * reach_y + 1, 2 * reach_x + 1), np.uint8)
        values = np.asarray(cv2.dilate(values, kernel), np.uint8)
    return np.asarray(cv2.resize(values, size_wh, interpolation=cv2.INTER_NEAREST), np.uint8)


def _reach(pixels: int, cells: int) -> int:
    """How far a cell's last pixel lies behind its first one, at most."""
    return pixels // cells + (1 if pixels % cells else -1)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One person's hidden region as it lies in one frame. Immutable: steps return new tracks.

    Attributes:
        track_id: unique within a run.
        parts: (h, w) uint8 `Label` of what is hidden, 0 outside.
        velocity: (dx, dy) pixels a frame, in the direction of travel through time.
        growth: pixels of growth not yet spent.
        grown: pixels grown since a parse confirmed the region.
        misses: consecutive parses that did not confirm it.
        confirmed_s: time of the last parse that did.
        confirmed_area: covered pixels then.
    """

    track_id: int
    parts: NDArray[np.uint8]
    velocity: tuple[float, float]
    growth: float
    grown: int
    misses: int
    confirmed_s: float
    confirmed_area: int
    _box: tuple[slice, slice] | None = field(default=None, init=False, repr=False)

    @property
    def area(self) -> int:
        """Covered pixels."""
        return int(np.count_nonzero(self.parts))

    @property
    def box(self) -> tuple[slice, slice]:
        """The rows and columns that hold the region."""
        if self._box is None:
            x, y, across, along = cv2.boundingRect(self.parts)
            object.__setattr__(self, "_box", (slice(y, y + along), slice(x, x + across)))
        assert self._box is not None
        return self._box

    def step(self, link: Link, options: TrackingOptions) -> Track | None:
        """Returns the track one frame further along `link`, or None once it left the picture.

        The region is the union of what flow carries and of a shift by the median flow: flow alone
        tears at edges, a shift alone does not follow a turn.
        """
        rows, columns = self._reach(link)
        carried = link.carry(self.parts, rows, columns)
        inside = carried > 0
        if np.count_nonzero(inside) >= 6:
            flow = link.flow[rows, columns][inside]
            dx, dy = -_median(flow[:, 0]), -_median(flow[:, 1])
        else:
            dx, dy = self.velocity
            rows, columns = slice(0, self.parts.shape[0]), slice(0, self.parts.shape[1])
            carried = link.carry(self.parts)
        shifted = cv2.warpAffine(
            self.parts,
            np.asarray([[1, 0, dx - columns.start], [0, 1, dy - rows.start]], np.float32),
            carried.shape[::-1],
            flags=cv2.INTER_NEAREST,
        )
        reached = np.asarray(cv2.max(carried, shifted), np.uint8)
        area = int(np.count_nonzero(reached))
        if area > _LARGEST * self.confirmed_area:  # smeared over many frames: keep its size
            reached = np.asarray(shifted, np.uint8)
            area = int(np.count_nonzero(reached))
        if area < 3:
            return None
        parts = np.zeros_like(self.parts)
        parts[rows, columns] = reached
        growth, grown = self.growth, self.grown
        if grown < max(2.0, 0.5 * float(np.sqrt(area / np.pi))):
            growth += options.growth_px + options.growth_per_speed * float(np.hypot(dx, dy))
            whole = int(growth)
            if whole:
                parts, growth, grown = grow(parts, whole), growth - whole, grown + whole
        return replace(self, parts=parts, velocity=(dx, dy), growth=growth, grown=grown)

    def _reach(self, link: Link) -> tuple[slice, slice]:
        """Returns rows and columns beyond which the next step cannot get."""
        height, width = self.parts.shape
        rows, columns = self.box
        spare = link.farthest + 2
        return (
            slice(max(0, rows.start - spare), min(height, rows.stop + spare)),
            slice(max(0, columns.start - spare), min(width, columns.stop + spare)),
        )

    def followed(self, link: Link) -> float:
        """Returns the share (0..1) of the region in which flow reproduces the picture."""
        return self.overlap(link.consistent)

    def overlap(self, mask: Mask | NDArray[np.uint8]) -> float:
        """Returns the share (0..1) of the region that `mask` covers."""
        inside = self.parts[self.box] > 0
        area = np.count_nonzero(inside)
        return float(np.count_nonzero(mask[self.box][inside])) / area if area else 0.0


def _median(values: NDArray[np.float32]) -> float:
    """What `numpy.median` returns, without its checks, which cost more than the work."""
    middle = len(values) // 2
    if len(values) % 2:
        return float(np.partition(values, middle)[middle])
    lower, upper = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1]
    return float((lower + upper) / 2)
