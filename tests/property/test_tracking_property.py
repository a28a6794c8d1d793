"""What must hold of every mask: changing its size or carrying it never uncovers anybody."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.tracking.tracks import grow, shrink_map

Map = NDArray[np.uint8]
side = st.integers(1, 90)


@st.composite
def maps(draw: st.DrawFn) -> Map:
    height, width = draw(side), draw(side)
    result = np.zeros((height, width), np.uint8)
    for _ in range(draw(st.integers(0, 5))):
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        result[y : y + draw(st.integers(1, 6)), x : x + draw(st.integers(1, 6))] = draw(
            st.integers(1, 20)
        )
    return result


def cells(pixel: int, pixels: int, count: int) -> slice:
    """The cells of `count` that a pixel of `pixels` overlaps by any area at all."""
    return slice(pixel * count // pixels, -(-(pixel + 1) * count // pixels))


@given(maps(), side, side)
def test_shrinking_a_map_loses_no_pixel(values: Map, width: int, height: int) -> None:
    small = shrink_map(values, (width, height))
    assert small.shape == (height, width)
    for y, x in np.argwhere(values):
        rows, columns = (
            cells(int(y), values.shape[0], height),
            cells(int(x), values.shape[1], width),
        )
        assert (small[rows, columns] >= values[y, x]).all(), (y, x)


@given(maps(), side, side)
def test_shrinking_a_map_invents_no_value(values: Map, width: int, height: int) -> None:
    assert set(np.unique(shrink_map(values, (width, height)))) <= {0, *np.unique(values).tolist()}


@given(maps(), st.integers(0, 6))
def test_growing_loses_no_pixel(values: Map, radius: int) -> None:
    grown = grow(values, radius)
    assert (grown >= values).all()
    assert (grown.any(), grown.max()) == (values.any(), values.max())
