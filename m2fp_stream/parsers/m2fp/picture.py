"""From a BGR picture to the network's input, at a size of choice.

Source: the preprocessing of ModelScope's `image-human-parsing` pipeline for many people, which is
detectron2's `ResizeShortestEdge` (short side 640, long side at most 1333) with Pillow's bilinear
filter; the network normalises, and pads to a multiple of 32 after that.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.errors import ParserError

__all__ = ["fitted", "inner_size", "network_shape", "prepared", "resized", "tile_share", "tiles"]

MEAN_RGB: Final = (123.675, 116.28, 103.53)
"""ImageNet's, times 255: padding with it is padding with 0 after normalising. Source: the
configuration of the published network."""
MULTIPLE: Final = 32
"""The coarsest features have this stride. Source: `layers.STRIDE`."""
LONGEST: Final = 1333 / 640
"""Long side over short side, at most. Source: the published network's test sizes, 640 and 1333."""
OVERLAP: Final = 0.25
"""Share of a tile that the next one repeats: what an edge cuts in one is inside in the other.
Chosen."""
_WEIGHT_BITS: Final = 22
"""Pillow's fixed-point weights: 32 bits, less 8 of the pixel and 2 that it keeps spare. Source:
Pillow's Resample.c, PRECISION_BITS."""

Size = tuple[int, int]
"""(height, width) in pixels."""


def inner_size(picture_hw: Size, short_side: int) -> Size:
    """Returns the (height, width) that a picture is resized to, before padding.

    Args:
        picture_hw: the picture's (height, width).
        short_side: what its shorter side becomes, unless the longer one gets too long then.
    """
    height, width = (side * (short_side / min(picture_hw)) for side in picture_hw)
    limit = short_side * LONGEST
    if max(height, width) > limit:
        scale = limit / max(height, width)
        height, width = height * scale, width * scale
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


def network_shape(inner_hw: Size) -> Size:
    """Returns the (height, width) of the network's input: both rounded up to a multiple of 32."""
    height, width = inner_hw
    return -(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE


def fitted(picture_hw: Size, short_side: int, network_hw: Size) -> Size:
    """Returns `inner_size`, or a little less where the network was made for a picture like it.

    Copies of one video differ by a pixel of rounding, which may ask for the next multiple of 32.

    Raises:
        ParserError: the network was made for pictures of another size or aspect.
    """
    inner = inner_size(picture_hw, short_side)
    wanted = network_shape(inner)
    if any(abs(one - other) > MULTIPLE for one, other in zip(wanted, network_hw, strict=True)):
        raise ParserError(
            f"a {picture_hw[1]}x{picture_hw[0]} picture at short side {short_side} needs a network "
            f"of {wanted[1]}x{wanted[0]}, this one is {network_hw[1]}x{network_hw[0]}; export one "
            "for this size"
        )
    scale = min(1.0, network_hw[0] / inner[0], network_hw[1] / inner[1])
    return max(1, int(inner[0] * scale)), max(1, int(inner[1] * scale))


def prepared(bgr: NDArray[np.uint8], inner_hw: Size, network_hw: Size) -> NDArray[np.float32]:
    """Returns the (1, 3, H, W) float32 input of a network: RGB 0..255, padded below and right.

    Args:
        bgr: (h, w, 3) uint8.
        inner_hw: the part of the input that the picture fills.
        network_hw: (H, W), not smaller than `inner_hw`.
    """
    height, width = inner_hw
    blob = np.empty((1, 3, *network_hw), np.float32)
    blob[0] = np.array(MEAN_RGB, np.float32)[:, None, None]
    blob[0, :, :height, :width] = resized(bgr, inner_hw)[:, :, ::-1].transpose(2, 0, 1)
    return blob


def resized(pixels: NDArray[np.uint8], size_hw: Size) -> NDArray[np.uint8]:
    """Returns `pixels`, (h, w, channels) uint8, at `size_hw`, bit for bit as Pillow does it.

    Source: Pillow's documentation of `Image.Resampling.BILINEAR`: a triangle as wide as two pixels
    of the coarser grid, normalised at the borders; along rows first, rounded to 8 bits, then along
    columns. (Pillow 13 starts with the columns of some tall pictures, which differs by 1 at most.)
    """
    for axis in (1, 0):
        if pixels.shape[axis] != size_hw[axis]:
            pixels = _resized_along(axis, pixels, size_hw[axis])
    return pixels


def tiles(size_hw: Size, count: int) -> list[tuple[slice, slice]]:
    """Returns the (rows, columns) of `count` x `count` equal windows that overlap and cover all.

    Args:
        size_hw: (height, width) of what is divided.
        count: windows across and along.
    """
    rows, columns = (_spans(side, count) for side in size_hw)
    return [(down, across) for down in rows for across in columns]


def tile_share(count: int) -> float:
    """Returns the share of a side that one of `count` overlapping tiles takes up."""
    return 1 / (count - OVERLAP * (count - 1))


def _spans(length: int, count: int) -> list[slice]:
    side = min(length, math.ceil(length * tile_share(count)))
    last = length - side
    starts = [round(last * index / (count - 1)) for index in range(count)] if count > 1 else [0]
    return [slice(start, start + side) for start in starts]


def _resized_along(axis: int, pixels: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    shape = list(pixels.shape)
    shape[axis] = length
    along = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    # Eight bits by weights that add up to 2^22: a sum stays below 2^31.
    total = np.full(shape, 1 << (_WEIGHT_BITS - 1), np.int32)
    for index, weight in zip(*_taps(pixels.shape[axis], length), strict=True):
        total += pixels.take(index, axis=axis) * weight.reshape(along)
    return np.asarray(np.clip(total >> _WEIGHT_BITS, 0, 255), np.uint8)


def _taps(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Returns which pixels make up each new one, and their weights: (taps, new) each."""
    scale = old / new
    reach = max(1.0, scale)
    centers = (np.arange(new) + 0.5) * scale
    first = np.maximum(0, (centers - reach + 0.5).astype(np.intp))
    end = np.minimum(old, (centers + reach + 0.5).astype(np.intp))
    indices = first + np.arange(int((end - first).max()))[:, None]
    weights = np.maximum(0.0, 1.0 - np.abs(indices + 0.5 - centers) / reach)
    weights[indices >= end] = 0.0
    weights /= weights.sum(axis=0)
    fixed = np.floor(weights * (1 << _WEIGHT_BITS) + 0.5).astype(np.int32)
    return np.minimum(indices, old - 1), fixed
