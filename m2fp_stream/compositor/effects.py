"""What stands where something is hidden: pure functions on one box of a frame.

A plan's small map becomes, box by box: C, the covered pixels (a superset of every covered cell,
with a smooth outline), and F, a feather ring around C. A fill is painted for the box and `blend`
lays it over: the source's weight is 0 in C and 1 outside C and F.

`frost`, `solid` and `silhouette` read no pixel of C; `frost` reads none of F either. `mosaic` and
the opt-in `tinted` do read C; their docstrings say how much they let through.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.labels import PALETTE_RGB
from ..core.plan import Effect, Fill

__all__ = [
    "MOSAIC_CELLS_MAX",
    "Bgr",
    "Region",
    "Zoom",
    "blend",
    "find_regions",
    "frost",
    "mosaic",
    "mosaic_grid_wh",
    "silhouette",
    "solid",
    "tinted",
]

Bgr = tuple[int, int, int]
U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
_Image = TypeVar("_Image", U8, F32)

MOSAIC_CELLS_MAX: Final = 6
"""Most mosaic cells along the longer side of a region. Source: promise P6."""

_SMOOTHING: Final = np.array([1, 4, 6, 4, 1], np.float32) / 16
"""Binomial, of order four: the usual stand-in for a Gaussian of sigma 1."""

_INSIDE: Final = 112
"""Least smoothed value (of 255) that belongs to C.

A lone covered cell, dilated to 3x3 and smoothed, leaves (11/16)**2 * 255 = 120 at the centre of a
diagonal neighbour; no pixel that begins in the covered cell is interpolated from further away. The
difference, 8, is for rounding. So C holds every covered cell at any ratio of sizes.
"""

_REACH_CELLS: Final = 2
"""C ends less than 1.2 cells outside the map's cells: there a straight edge falls to `_INSIDE`."""

_RIM_CELLS: Final = 4
"""Width of the rim that `frost` draws its colours from, in cells of its grid. Chosen by eye: 32
pixels at 1280x720."""

_LEAST_FREE: Final = 1 / 8
"""A grid cell of `frost` counts if this part of it is rim: below, 8-bit means get imprecise.
Chosen: then at least 32 of 255 levels tell it."""


_GRAIN_SIDE: Final = 256
"""The pattern repeats after this many pixels, too far and too faint to be seen. Chosen by eye."""

_GRAIN_SEED: Final = 20
"""Any fixed number will do; this one was not chosen for anything."""


@dataclass(frozen=True, slots=True)
class Zoom:
    """How a crop of the small map lies over the pixels of a box.

    Attributes:
        crop_wh: size of the crop in pixels of the frame.
        origin_xy: first pixel of the box within it.
        box_wh: size of the box in pixels.
    """

    crop_wh: tuple[int, int]
    origin_xy: tuple[int, int]
    box_wh: tuple[int, int]

    def enlarge(self, cells: U8, interpolation: int) -> U8:
        """Returns `cells`, an image of the crop's size, enlarged and cut to the box."""
        whole = _resized(cells, self.crop_wh, interpolation)
        (x, y), (width, height) = self.origin_xy, self.box_wh
        return whole[y : y + height, x : x + width]


@dataclass(frozen=True, eq=False)
class Region:
    """One box of the frame: some of its C and F, whole, and a rim of neither.

    Attributes:
        rows: of the frame.
        columns: of the frame.
        inside: (h, w) uint8, 255 in C, else 0.
        alpha: (h, w) uint8, weight of the fill: 255 in C, 0 outside C and F.
        ids: the fills (from 1) whose cells lie in the box.
        cells: crop of the small map.
        zoom: how `cells` lie over the box.
    """

    rows: slice
    columns: slice
    inside: U8
    alpha: U8
    ids: tuple[int, ...]
    cells: U8
    zoom: Zoom

    def cut(self, frame: U8) -> U8:
        """Returns the box of `frame`, a view."""
        return frame[self.rows, self.columns]

    @cached_property
    def nearest(self) -> U8:
        """`cells`, each clear one naming the covered cell nearest to it: few effects ask."""
        return _nearest(self.cells, self.ids)

    def belonging(self, ids: Iterable[int]) -> U8:
        """Returns (h, w) uint8, 255 where the nearest covered cell is one of `ids`, else 0."""
        table = np.zeros(256, np.uint8)
        table[list(ids)] = 255
        return self.zoom.enlarge(table[self.nearest], cv2.INTER_NEAREST)


def find_regions(
    cover: U8, fills: Sequence[Fill], size_wh: tuple[int, int], *, feather_px: int, grid_px: int
) -> list[Region]:
    """Returns boxes that together hold all of C and F, no pixel of either in two of them.

    A map smaller than the frame is enlarged to the safe side, a larger one reduced to it; at the
    frame's own size C is the map itself. Components whose boxes would meet share one; so do all
    cells of one track under `mosaic`, whose grid spans them.

    Args:
        cover: (h, w) uint8, 0 = clear, k = `fills[k - 1]`.
        fills: the plan's legend.
        size_wh: the frame's.
        feather_px: width of F, at least 0.
        grid_px: boxes begin at multiples of it; see `frost`.
    """
    width, height = size_wh
    cover = _reduced(cover, size_wh)
    rows, columns = cover.shape
    occupied = _whole_tracks(cover, fills)
    outer_px = feather_px + _RIM_CELLS * grid_px
    reach_x = _REACH_CELLS + math.ceil(outer_px * columns / width)
    reach_y = _REACH_CELLS + math.ceil(outer_px * rows / height)
    # Only around what is covered: most of most pictures is clear.
    x, y, w, h = cv2.boundingRect(occupied)
    near_rows = slice(max(0, y - reach_y), y + h + reach_y)
    near_columns = slice(max(0, x - reach_x), x + w + reach_x)
    grown = np.zeros_like(occupied)
    if w:
        cell = np.ones((2 * reach_y + 1, 2 * reach_x + 1), np.uint8)
        grown[near_rows, near_columns] = cv2.dilate(occupied[near_rows, near_columns], cell)
    return [
        _region(
            cover,
            _pixels(x, x + w, columns, width, grid_px),
            _pixels(y, y + h, rows, height, grid_px),
            size_wh,
            feather_px,
        )
        for x, y, w, h in _apart(grown)
    ]


def _reduced(cover: U8, size_wh: tuple[int, int]) -> U8:
    """Returns `cover` with no side longer than the frame's; the highest id spanned wins."""
    for axis, side in ((0, size_wh[1]), (1, size_wh[0])):
        cells = cover.shape[axis]
        if cells > side:
            first = np.arange(side) * cells // side
            last = -(-np.arange(1, side + 1) * cells // side) - 1
            whole = np.maximum.reduceat(cover, first, axis=axis)
            cover = np.maximum(whole, cover.take(last, axis=axis))
    return cover


def _whole_tracks(cover: U8, fills: Sequence[Fill]) -> U8:
    """Returns 255 for covered cells and for the bounding box of each track under `mosaic`."""
    occupied = _above(cover, 0)
    for ids in _tracks(fills, range(1, len(fills) + 1)):
        own = np.zeros(256, np.uint8)
        own[ids] = 1
        x, y, w, h = cv2.boundingRect(own[cover])
        occupied[y : y + h, x : x + w] = 255
    return occupied


def _tracks(fills: Sequence[Fill], ids: Iterable[int]) -> list[list[int]]:
    """Returns those of `ids` that are mosaics, one list a track."""
    tracks: dict[int, list[int]] = {}
    for k in ids:
        if fills[k - 1].effect is Effect.MOSAIC:
            tracks.setdefault(fills[k - 1].track_id, []).append(k)
    return list(tracks.values())


def _resized(image: _Image, size_wh: tuple[int, int], interpolation: int) -> _Image:
    return cast(_Image, cv2.resize(image, size_wh, interpolation=interpolation))


def _above(image: U8, level: int) -> U8:
    """Returns 255 where `image` is above `level`, else 0."""
    return cast(U8, cv2.threshold(image, level, 255, cv2.THRESH_BINARY)[1])


def _apart(mask: U8) -> list[tuple[int, int, int, int]]:
    """Returns (x, y, w, h) of boxes that hold all of `mask` and neither overlap nor touch."""
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return []
    mask = mask[top : top + height, left : left + width]
    while True:
        # Outlines: in a picture with few pieces ten times as fast as labels for all pixels. What
        # lies in a hole of another piece lies in its box.
        outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
        found = (cv2.boundingRect(one) for one in outlines)
        pieces = sorted(((x, y, w, h) for x, y, w, h in found), key=lambda one: (one[1], one[0]))
        boxes = np.zeros_like(mask)
        for x, y, w, h in pieces:
            boxes[y : y + h, x : x + w] = 255
        if len(pieces) == 1 or np.array_equal(boxes, mask):
            return [(x + left, y + top, w, h) for x, y, w, h in pieces]
        mask = boxes


def _pixels(first: int, end: int, cells: int, side: int, grid_px: int) -> tuple[int, int]:
    """Returns the pixels [a, b) that hold the cells [first, end), widened to the grid."""
    start = first * side // cells // grid_px * grid_px
    stop = -(-end * side // cells)
    return start, min(side, -(-stop // grid_px) * grid_px)


def _crop(start: int, stop: int, cells: int, side: int) -> tuple[int, int]:
    """Returns the cells [a, b) around the pixels [start, stop) whose ends are pixel edges.

    Such a crop enlarges to just what the whole map would: its border cells, unless they are the
    map's, are clear, and so is what lies beyond.
    """
    step = cells // math.gcd(cells, side)
    first = start * cells // side // step * step
    end = -(-stop * cells // side)
    return first, min(cells, -(-end // step) * step)


def _region(
    cover: U8,
    x_pixels: tuple[int, int],
    y_pixels: tuple[int, int],
    size_wh: tuple[int, int],
    feather_px: int,
) -> Region:
    """Returns the region of one box of `cover`, which is no larger than the frame."""
    width, height = size_wh
    rows, columns = cover.shape
    (x0, x1), (y0, y1) = x_pixels, y_pixels
    box = cover[
        y0 * rows // height : -(-y1 * rows // height),
        x0 * columns // width : -(-x1 * columns // width),
    ]
    ids = tuple(int(k) for k in np.flatnonzero(np.bincount(box.ravel())) if k)
    left, right = _crop(x0, x1, columns, width)
    top, bottom = _crop(y0, y1, rows, height)
    x, y = left * width // columns, top * height // rows
    zoom = Zoom(
        crop_wh=(right * width // columns - x, bottom * height // rows - y),
        origin_xy=(x0 - x, y0 - y),
        box_wh=(x1 - x0, y1 - y0),
    )
    cells = cover[top:bottom, left:right]
    covered = _above(cells, 0)
    if (columns, rows) != size_wh:
        grown = cv2.dilate(covered, np.ones((3, 3), np.uint8))
        border = cv2.BORDER_REPLICATE
        covered = cast(U8, cv2.sepFilter2D(grown, -1, _SMOOTHING, _SMOOTHING, borderType=border))
    soft = zoom.enlarge(covered, cv2.INTER_LINEAR)
    inside = _above(soft, _INSIDE - 1)
    window = (2 * feather_px + 1,) * 2
    ramp = cv2.blur(inside, window, borderType=cv2.BORDER_REPLICATE)
    # A straight edge leaves just under one half of the window covered: twice that is the ramp.
    alpha = cast(U8, cv2.max(cv2.add(ramp, ramp), inside))
    return Region(slice(y0, y1), slice(x0, x1), inside, alpha, ids, cells, zoom)


def _nearest(cells: U8, ids: tuple[int, ...]) -> U8:
    """Returns `cells` with every clear cell given the id of the covered cell nearest to it."""
    if len(ids) == 1:
        return np.full_like(cells, ids[0])
    covered = cells > 0
    _, labels = cv2.distanceTransformWithLabels(
        cast(U8, cv2.bitwise_not(_above(cells, 0))),
        cv2.DIST_L2,
        cv2.DIST_MASK_5,
        labelType=cv2.DIST_LABEL_PIXEL,
    )
    seeds = cast(NDArray[np.int32], labels)
    table = np.zeros(int(seeds.max()) + 1, np.uint8)
    table[seeds[covered]] = cells[covered]
    return table[seeds]


def blend(target: U8, fill: U8, region: Region) -> None:
    """Lays `fill` over `target`, both (h, w, 3) uint8 of the region's box; changes `target`.

    In C the result is the fill; outside C and F `target` is not written at all.
    """
    weight = cv2.merge([region.alpha] * 3)
    rest = cv2.bitwise_not(weight)
    # Products with 255/255 and 0/255 are exact: in C nothing of `target` is left.
    laid = cv2.multiply(fill, weight, scale=1 / 255)
    left = cv2.multiply(target, rest, scale=1 / 255)
    cv2.copyTo(cv2.add(laid, left), region.alpha, target)


def solid(region: Region, colour: Bgr) -> U8:
    """Returns one flat colour, (h, w, 3) uint8."""
    height, width = region.alpha.shape
    # Row by row: filling with a triple pixel by pixel takes twenty times as long.
    return np.repeat(np.full((1, width, 3), colour, np.uint8), height, axis=0)


def silhouette(region: Region, fills: Sequence[Fill]) -> U8:
    """Returns one flat palette colour a part, (h, w, 3) uint8; they meet softly, within a cell."""
    rgb = {k: PALETTE_RGB[fills[k - 1].part] for k in region.ids}
    return _by_fill(region, {k: (blue, green, red) for k, (red, green, blue) in rgb.items()})


def _by_fill(region: Region, colours: dict[int, Bgr]) -> U8:
    table = np.zeros((256, 3), np.uint8)
    for k, colour in colours.items():
        table[k] = colour
    return region.zoom.enlarge(table[region.nearest], cv2.INTER_LINEAR)


def mosaic_grid_wh(size_wh: tuple[int, int], cells: int) -> tuple[int, int]:
    """Returns how many mosaic cells lie along each side: at most `cells` along the longer one."""
    side = max(size_wh) / min(cells, max(size_wh))
    return max(1, int(size_wh[0] / side)), max(1, int(size_wh[1] / side))


def mosaic(source: U8, region: Region, fills: Sequence[Fill], cells: int) -> U8:
    """Returns area means, interpolated from cell to cell, (h, w, 3) uint8.

    Each track has one grid, anchored to the bounding box of its mosaics, head, hair and all, so a
    face never has more cells than the region. A mean takes in the track's own mosaic pixels only:
    what another effect or track covers, it does not hold (a cell without any is filled from its
    neighbours). It lets through at most `cells` * `cells` colours a track and frame: unlike frost,
    enough to recognise some people by.

    Args:
        source: (h, w, 3) uint8, the box of the frame.
        region: the box.
        fills: the plan's legend.
        cells: most cells along the longer side of a region, at least 1.
    """
    painted = np.zeros_like(source)
    for ids in _tracks(fills, region.ids):
        own = cast(U8, cv2.bitwise_and(region.belonging(ids), _above(region.alpha, 0)))
        x, y, w, h = cv2.boundingRect(own)
        box = slice(y, y + h), slice(x, x + w)
        own = own[box]
        grid_wh = mosaic_grid_wh((w, h), cells)
        held = cast(U8, cv2.copyTo(source[box], own)).astype(np.float32)
        total = _resized(held, grid_wh, cv2.INTER_AREA)
        share = _resized(own.astype(np.float32) / np.float32(255), grid_wh, cv2.INTER_AREA)
        means = total / np.maximum(share, np.float32(1e-6))[..., None]
        colours = _diffused(np.dstack((means, share > 0)).astype(np.float32))
        patch = _resized(np.rint(colours).astype(np.uint8), (w, h), cv2.INTER_LINEAR)
        cv2.copyTo(patch, own, painted[box])
    return painted


def frost(source: U8, region: Region, *, neutral: Bgr, mix: float, grain: int, grid_px: int) -> U8:
    """Returns frosted glass that holds no content of C or F, (h, w, 3) uint8.

    The colours of the rim (outside all C and F) are averaged on a grid, diffused inwards by
    push-pull, mixed with `neutral`, enlarged, and given a fixed faint grain. Without a rim it is
    `neutral` alone. The same rim gives the same frost.

    Source: Gortler, Grzeszczuk, Szeliski, Cohen, "The Lumigraph", SIGGRAPH 1996, section 3.4
    (push-pull).

    Args:
        source: (h, w, 3) uint8, the box of the frame.
        region: the box.
        neutral: the colour mixed in.
        mix: its share, 0 to 1.
        grain: height of the grain's peaks in levels, 0 for none.
        grid_px: side of a grid cell, a power of two; the grid begins at the box's corner.
    """
    height, width = region.alpha.shape
    grid_wh = -(-width // grid_px), -(-height // grid_px)
    padded = (grid_wh[1] * grid_px, grid_wh[0] * grid_px)
    free = np.zeros(padded, np.uint8)
    free[:height, :width] = cv2.bitwise_not(_above(region.alpha, 0))
    # Zeroed before anything else: what happens later cannot reach the pixels of C and F.
    rim = np.zeros((*padded, 3), np.uint8)
    rim[:height, :width] = cv2.copyTo(source, free[:height, :width])
    # Halving is several times as fast as one reduction by grid_px.
    for _ in range(grid_px.bit_length() - 1):
        half_wh = (rim.shape[1] // 2, rim.shape[0] // 2)
        rim = _resized(rim, half_wh, cv2.INTER_AREA)
        free = _resized(free, half_wh, cv2.INTER_AREA)
    weighted = np.dstack((rim, free)).astype(np.float32) / np.float32(255)
    weighted[weighted[..., 3] < _LEAST_FREE] = 0
    if not weighted[..., 3].any():
        return solid(region, neutral)
    colours = _diffused(weighted)
    veil = cv2.GaussianBlur(colours, (5, 5), 0, borderType=cv2.BORDER_REPLICATE)
    veil = 255 * (1 - mix) * cast(F32, veil) + mix * np.array(neutral, np.float32) - grain / 2
    levels = np.clip(np.rint(veil), 0, 255).astype(np.uint8)
    glass = _resized(levels, (padded[1], padded[0]), cv2.INTER_LINEAR)[:height, :width]
    pattern = _grain(grain, region.rows.start, region.columns.start, height, width)
    return cast(U8, cv2.add(glass, pattern))


def _diffused(weighted: F32) -> F32:
    """Returns (h, w, 3) colours, holes filled from (h, w, 4) colours times weight, and weight."""
    height, width = weighted.shape[:2]
    weight = weighted[..., 3:]
    if height == width == 1:
        return np.divide(weighted[..., :3], weight, dtype=np.float32)
    coarse = _resized(weighted, ((width + 1) // 2, (height + 1) // 2), cv2.INTER_AREA)
    # Four cells make one: a quarter of full weight is enough to be sure of a colour.
    share = coarse[..., 3:]
    coarse *= np.minimum(share * 4, 1) / np.maximum(share, 1e-9)
    filled = _resized(_diffused(coarse), (width, height), cv2.INTER_LINEAR)
    hidden = np.subtract(1, weight, dtype=np.float32)
    return weighted[..., :3] + filled * hidden


@lru_cache(maxsize=4)
def _grain_tile(height_levels: int) -> U8:
    noise = np.random.default_rng(_GRAIN_SEED).normal(size=(_GRAIN_SIDE, _GRAIN_SIDE))
    soft = cast(F32, cv2.GaussianBlur(noise, (3, 3), 0, borderType=cv2.BORDER_REPLICATE))
    # Three standard deviations span the height; the rest is clipped.
    levels = np.clip(soft / soft.std() / 3 + 0.5, 0, 1) * height_levels
    tile = np.rint(levels).astype(np.uint8)
    return np.repeat(tile[..., None], 3, axis=2)


def _grain(height_levels: int, top: int, left: int, height: int, width: int) -> U8:
    """Returns the fixed pattern at a place of the frame, (height, width, 3), 0 to the levels."""
    top, left = top % _GRAIN_SIDE, left % _GRAIN_SIDE
    below = max(0, top + height - _GRAIN_SIDE)
    beside = max(0, left + width - _GRAIN_SIDE)
    tile = _grain_tile(height_levels)
    wide = cv2.copyMakeBorder(tile, 0, below, 0, beside, cv2.BORDER_WRAP)
    return cast(U8, wide[top : top + height, left : left + width])


def tinted(fill: U8, source: U8, region: Region, fills: Sequence[Fill], strength: float) -> U8:
    """Returns `fill` mixed with one coarse mean colour for each frosted part of `region`.

    The mean of a part's pixels in C is rounded to 4 levels a channel: 6 bits a frame and fill are
    let through (over many frames of a changing picture, more). P6 wants them stated.

    Args:
        fill: (h, w, 3) uint8, what `frost` returned.
        source: (h, w, 3) uint8, the box of the frame.
        region: the box.
        fills: the plan's legend.
        strength: share of the tint, 0 to 1.
    """
    colours: dict[int, Bgr] = {}
    for k in region.ids:
        if fills[k - 1].effect is Effect.FROST:
            own = cast(U8, cv2.bitwise_and(region.belonging([k]), region.inside))
            blue, green, red = (int(c) // 64 * 64 + 32 for c in cv2.mean(source, mask=own)[:3])
            colours[k] = blue, green, red
    tint = _by_fill(region, colours)
    return cast(U8, cv2.addWeighted(fill, 1 - strength, tint, strength, 0))
