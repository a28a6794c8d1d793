"""Where zones lie, when they hold, and which texts are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.errors import UsageError
from m2fp_stream.core.timing import Span
from m2fp_stream.zones import Zone, Zones

Mask = NDArray[np.bool_]
SIZE_WH = 20, 10
WHENEVER = (0.0, 0.04)


def covers(*texts: str, invert: bool = False, map_wh: tuple[int, int] = SIZE_WH) -> Mask | None:
    zones = Zones(tuple(map(Zone.parse, texts)), invert=invert)
    return zones.covers(SIZE_WH, map_wh, WHENEVER)


def box(x1: int, y1: int, x2: int, y2: int) -> Mask:
    made = np.zeros(SIZE_WH[::-1], np.bool_)
    made[y1:y2, x1:x2] = True
    return made


@pytest.mark.parametrize(
    "text", ["0.1,0.2,0.3,0.4", "2,2,6,4", " 0.1, 0.2 ,.3,0.40 ", "2,2,6,2,6,4,2,4"]
)
def test_a_rectangle_is_in_fractions_or_pixels(text: str) -> None:
    np.testing.assert_array_equal(covers(text), box(2, 2, 6, 4))


def test_the_whole_picture_is_0_0_1_1() -> None:
    np.testing.assert_array_equal(covers("0,0,1,1"), box(0, 0, 20, 10))
    np.testing.assert_array_equal(covers("0,0,1,1", invert=True), box(0, 0, 0, 0))


def test_what_is_covered_is_rounded_up_to_pairs_of_pixels_and_what_is_open_down() -> None:
    np.testing.assert_array_equal(covers("3,3,5.01,5.5"), box(2, 2, 6, 6))
    np.testing.assert_array_equal(covers("3,3,7.99,7", invert=True), ~box(4, 4, 6, 6))


def test_the_last_pixel_of_an_odd_picture_is_open_where_a_zone_holds_it() -> None:
    zones = Zones((Zone.parse("0,0,1,1"),), invert=True)
    for size_wh in ((21, 11), (21, 10), (1, 1)):
        mask = zones.covers(size_wh, size_wh, WHENEVER)
        assert mask is not None
        assert not mask.any()


def test_each_cell_of_a_smaller_map_that_is_touched_is_covered() -> None:
    mask = covers("0,0,8.1,4", map_wh=(5, 3))  # cells of 4 by 3 1/3 pixels
    expected = np.zeros((3, 5), np.bool_)
    expected[:2, :3] = True
    np.testing.assert_array_equal(mask, expected)


def test_a_polygon_covers_what_it_touches_and_no_more() -> None:
    mask = covers("0,0,20,10,0,10")
    assert mask is not None
    for y in range(0, 10, 2):
        assert mask[y, : 2 * y + 4].all()
        assert not mask[y, 2 * y + 4 :].any()


def test_several_zones_are_united() -> None:
    np.testing.assert_array_equal(
        covers("0,0,2,2", "18,8,20,10"), box(0, 0, 2, 2) | box(18, 8, 20, 10)
    )
    np.testing.assert_array_equal(
        covers("0,0,2,2", "18,8,20,10", invert=True), ~(box(0, 0, 2, 2) | box(18, 8, 20, 10))
    )


def test_no_zone_covers_nothing_and_keeps_nobody() -> None:
    assert Zones().covers(SIZE_WH, SIZE_WH, WHENEVER) is None
    assert Zones().keeps(SIZE_WH, SIZE_WH, WHENEVER) is None
    assert not Zones().timed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "x1,y1,x2,y2"),
        ("0.1", "got 1 numbers"),
        ("0.1,0.2,0.3", "got 3 numbers"),
        ("0.1,0.2,0.3,0.4,0.5", "got 5 numbers"),
        ("nan,0.2,0.3,0.4", "'nan' for a number"),
        ("0.1,0.2,inf,0.4", "'inf' for a number"),
        ("0.1,0.2,1e999999999,0.4", "for a number"),
        ("1/3,0.2,0.3,0.4", "for a number"),
        ("-0.1,0.2,0.3,0.4", "-0.1 lies outside the picture"),
        ("0.3,0.2,0.3,0.4", "no area"),
        ("0.1,0.4,0.3,0.2", "not width and height"),
        ("0.1,0.1,0.2,0.2,0.3,0.3", "no area"),
        ("0,0,1,1,1,0,0,1", "sides of .* cross"),
        (",".join(["0.1,0.2"] * 65), "got 130 numbers"),
        ("0.1,0.2,0.3,0.4@", "BEGIN-END"),
        ("0.1,0.2,0.3,0.4@0:12", "BEGIN-END"),
        ("0.1,0.2,0.3,0.4@0:30-0:12", "ends before it begins"),
        ("0.1,0.2,0.3,0.4@0:12-nan", "seconds or H:MM:SS"),
        ("0.1,0.2,0.3,0.4@0:12-0:99", "seconds or H:MM:SS"),
        ("0.1,0.2,0.3,0.4@a-b", "seconds or H:MM:SS"),
    ],
)
def test_what_is_no_zone_is_refused_in_one_line(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as refused:
        Zone.parse(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["0,0,21,5", "0,0,20,10.5", "0,0,5,5,25,9"])
def test_pixels_outside_the_picture_are_refused_where_its_size_is_known(text: str) -> None:
    zone = Zone.parse(text)
    with pytest.raises(UsageError, match="outside the picture of 20x10"):
        Zones((zone,)).check(SIZE_WH)
    with pytest.raises(UsageError, match="outside the picture"):
        Zones(kept=(zone,)).check(SIZE_WH)
    with pytest.raises(UsageError, match="outside the picture"):
        Zones((zone,)).covers(SIZE_WH, SIZE_WH, None)
    Zones((zone,), (zone,)).check((40, 40))


def test_a_span_holds_to_its_end_or_to_that_of_the_film() -> None:
    assert Span.parse("0:12-1:00:30.5") == Span("0:12-1:00:30.5", 12.0, 3630.5)
    assert Span.parse("12-").end_s == math.inf
    assert Span.parse("3-3").touches((3.0, 3.04))


@pytest.mark.parametrize(
    ("shown_s", "touched", "held"),
    [
        ((0.0, 1.9), False, False),
        ((1.9, 2.0), False, False),
        ((1.9, 2.1), True, False),
        ((2.0, 2.1), True, True),
        ((2.9, 3.0), True, True),
        ((2.9, 3.1), True, False),
        ((3.0, 3.1), True, False),
        ((3.1, 3.2), False, False),
        ((0.0, 9.0), True, False),
    ],
)
def test_a_time_covers_each_frame_that_is_shown_in_it_and_opens_none_that_is_shown_outside(
    shown_s: tuple[float, float], touched: bool, held: bool
) -> None:
    zone = Zone.parse("0,0,20,10@2-3")
    assert (Zones((zone,)).covers(SIZE_WH, SIZE_WH, shown_s) is not None) == touched
    inverted = Zones((zone,), invert=True).covers(SIZE_WH, SIZE_WH, shown_s)
    assert inverted is not None
    assert inverted.any() == (not held)
    assert (Zones(kept=(zone,)).keeps(SIZE_WH, SIZE_WH, shown_s) is not None) == held
    assert Zones(spans=(Span.parse("2-3"),)).whole(shown_s) == touched


def test_where_nobody_knows_the_time_a_zone_covers_and_opens_nothing() -> None:
    zone = Zone.parse("0,0,1,1@2-3")
    covered = Zones((zone,)).covers(SIZE_WH, SIZE_WH, None)
    assert covered is not None
    assert covered.all()
    inverted = Zones((zone,), invert=True).covers(SIZE_WH, SIZE_WH, None)
    assert inverted is not None
    assert inverted.all()
    assert Zones(kept=(zone,)).keeps(SIZE_WH, SIZE_WH, None) is None
    assert Zones((zone,)).timed
    assert Zones(kept=(zone,)).timed
    assert list(Zones((zone,), spans=(Span.parse("1-2"),)).times()) == ["0,0,1,1@2-3", "1-2"]


def test_masks_cannot_be_changed() -> None:
    mask = covers("0,0,2,2")
    assert mask is not None
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = False
