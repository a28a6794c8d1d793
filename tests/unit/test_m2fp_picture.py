"""From a picture to the network's input: sizes, Pillow's filter, padding, tiles."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.core.errors import ParserError
from m2fp_stream.parsers.m2fp.picture import (
    MEAN_RGB,
    fitted,
    inner_size,
    network_shape,
    prepared,
    resized,
    tile_share,
    tiles,
)

sides = st.integers(1, 4000)
short_sides = st.integers(4, 25).map(lambda steps: 32 * steps)


@pytest.mark.parametrize(
    ("picture_hw", "short_side", "inner_hw", "shape_hw"),
    [
        ((1080, 1920), 640, (640, 1138), (640, 1152)),
        ((480, 640), 640, (640, 853), (640, 864)),
        ((1920, 1080), 640, (1138, 640), (1152, 640)),
        ((500, 500), 640, (640, 640), (640, 640)),
        ((100, 1000), 640, (133, 1333), (160, 1344)),  # the longer side's limit
        ((1080, 1920), 320, (320, 569), (320, 576)),
        ((1080, 1920), 256, (256, 455), (256, 480)),
        ((100, 1000), 320, (67, 667), (96, 672)),
    ],
)
def test_sizes_are_those_of_the_reference(
    picture_hw: tuple[int, int],
    short_side: int,
    inner_hw: tuple[int, int],
    shape_hw: tuple[int, int],
) -> None:
    assert inner_size(picture_hw, short_side) == inner_hw
    assert network_shape(inner_hw) == shape_hw


@given(sides, sides, short_sides)
def test_the_picture_fits_its_network_and_leaves_less_than_a_step(
    height: int, width: int, short_side: int
) -> None:
    inner = inner_size((height, width), short_side)
    shape = network_shape(inner)
    for side, used in zip(shape, inner, strict=True):
        assert side % 32 == 0
        assert 0 <= side - used < 32
    assert fitted((height, width), short_side, shape) == inner
    assert min(inner) <= short_side
    assert max(inner) <= short_side * 1333 / 640 + 1


@given(st.integers(200, 1280), st.integers(200, 1280), short_sides, st.integers(160, 1280))
def test_a_copy_of_another_size_fits_the_network_of_its_video(
    height: int, width: int, short_side: int, copy_side: int
) -> None:
    shape = network_shape(inner_size((height, width), short_side))
    scale = min(1.0, copy_side / max(height, width))
    copy = max(1, round(height * scale)), max(1, round(width * scale))
    inner = fitted(copy, short_side, shape)
    assert inner[0] <= shape[0]
    assert inner[1] <= shape[1]
    wanted = inner_size(copy, short_side)
    assert inner[0] / wanted[0] > 0.7
    assert inner[1] / wanted[1] > 0.7


@pytest.mark.parametrize("picture_hw", [(1920, 1080), (480, 640), (700, 700)])
def test_a_picture_of_another_aspect_is_refused(picture_hw: tuple[int, int]) -> None:
    with pytest.raises(ParserError, match=r"needs a network of \d+x\d+, this one is 576x320"):
        fitted(picture_hw, 320, (320, 576))


def test_a_network_of_another_size_is_refused() -> None:
    with pytest.raises(ParserError, match=r"at short side 320 .* this one is 1152x640"):
        fitted((1080, 1920), 320, (640, 1152))


def pillow(pixels: NDArray[np.uint8], new_hw: tuple[int, int], *, at_once: bool) -> Any:
    image: Any = pytest.importorskip("PIL.Image")
    picture, bilinear = image.fromarray(pixels), image.Resampling.BILINEAR
    if not at_once:  # rows first, whichever way this version of Pillow would choose
        picture = picture.resize((new_hw[1], pixels.shape[0]), bilinear)
    return np.asarray(picture.resize(new_hw[::-1], bilinear))


@pytest.mark.parametrize(
    ("old_hw", "new_hw"),
    [
        *(((720, 1280), (320, 569)), ((360, 640), (320, 569)), ((360, 640), (640, 1138))),
        *(((1280, 720), (569, 320)), ((480, 640), (320, 427)), ((33, 17), (33, 17))),
    ],
)
@pytest.mark.parametrize("contrast", ["noise", "black and white"])
def test_resizing_a_video_equals_pillow_bit_for_bit(
    old_hw: tuple[int, int], new_hw: tuple[int, int], contrast: str
) -> None:
    pixels = np.random.default_rng(7).integers(0, 256, (*old_hw, 3)).astype(np.uint8)
    if contrast != "noise":
        pixels = np.where(pixels > 127, 255, 0).astype(np.uint8)
    assert np.array_equal(resized(pixels, new_hw), pillow(pixels, new_hw, at_once=True))


few = st.integers(1, 130)


@given(st.tuples(few, few), st.tuples(few, few), st.integers(0, 999))
def test_resizing_equals_pillow_rows_first(
    old_hw: tuple[int, int], new_hw: tuple[int, int], seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*old_hw, 3)).astype(np.uint8)
    ours = resized(pixels, new_hw)
    assert np.array_equal(ours, pillow(pixels, new_hw, at_once=False))
    at_once = pillow(pixels, new_hw, at_once=True)
    assert np.abs(ours.astype(int) - at_once).max() <= 1


def test_resizing_averages_what_it_shrinks() -> None:
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.ptp(resized(stripes, (10, 10))[:, 1:-1]) <= 1  # sampling would show stripes


def test_input_is_rgb_and_padded_below_and_right_with_the_mean() -> None:
    bgr = np.empty((40, 60, 3), np.uint8)
    bgr[...] = (10, 20, 30)
    blob = prepared(bgr, (40, 60), (64, 64))
    assert blob.shape == (1, 3, 64, 64)
    assert blob.dtype == np.float32
    for channel, value, mean in zip(blob[0], (30, 20, 10), MEAN_RGB, strict=True):
        assert (channel[:40, :60] == value).all()
        assert (channel[40:] == np.float32(mean)).all()
        assert (channel[:, 60:] == np.float32(mean)).all()


@given(sides, sides, st.integers(1, 8))
def test_tiles_cover_all_and_have_one_size(height: int, width: int, count: int) -> None:
    found = tiles((height, width), count)
    assert len(found) == count**2
    for axis, length in enumerate((height, width)):
        spans = sorted({(window[axis].start, window[axis].stop) for window in found})
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert len({stop - start for start, stop in spans}) == 1
        assert all(after[0] <= before[1] for before, after in pairwise(spans))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_neighbouring_tiles_share_a_quarter(count: int) -> None:
    columns = sorted({window[1].indices(2000)[:2] for window in tiles((2000, 2000), count)})
    side = columns[0][1]
    assert side == pytest.approx(2000 * tile_share(count), abs=1)
    for before, after in pairwise(columns):
        assert before[1] - after[0] == pytest.approx(side / 4, abs=2)
