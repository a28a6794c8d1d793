"""A covered region moves with the picture and grows with what is not known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from m2fp_stream.tracking.flow import Link, Small
from m2fp_stream.tracking.options import TrackingOptions
from m2fp_stream.tracking.tracks import Track, grow, shrink_map
from tests.chaos.stage import HEIGHT, WIDTH, Picture

from .test_tracking_flow import linked, view

STILL: dict[str, Any] = {"growth_px": 0.0, "growth_per_speed": 0.0}


def options(**changes: Any) -> TrackingOptions:
    return TrackingOptions.model_validate(changes)


def box(left: int = 120, top: int = 70, width: int = 30, height: int = 40) -> Picture:
    parts = np.zeros((HEIGHT, WIDTH), np.uint8)
    parts[max(0, top) : top + height, max(0, left) : left + width] = 13
    return parts


def track(parts: Picture, **changes: Any) -> Track:
    fields: dict[str, Any] = {"track_id": 4, "parts": parts, "velocity": (0.0, 0.0)}
    fields |= {"growth": 0.0, "grown": 0, "misses": 0, "confirmed_s": 0.0}
    fields |= {"confirmed_area": int(np.count_nonzero(parts))}
    return Track(**(fields | changes))


def stepped(start: Track, link: Link, steps: int = 1, **changes: Any) -> Track:
    for _ in range(steps):
        after = start.step(link, options(**changes))
        assert after is not None
        start = after
    return start


@pytest.mark.parametrize("shift", [(4, 0), (-3, 5)], ids=str)
def test_a_track_is_carried_by_a_shift(shift: tuple[int, int]) -> None:
    link, _ = linked(view(), view(-shift[0], -shift[1]))
    after = stepped(track(box()), link, **STILL)
    expected = box(120 + shift[0], 70 + shift[1])
    assert (after.parts[expected > 0] == 13).all()  # nothing of the region is lost
    assert after.area < 1.15 * np.count_nonzero(expected)
    np.testing.assert_allclose(after.velocity, shift, atol=0.4)
    assert after.track_id == 4


def test_it_grows_with_age() -> None:
    link, _ = linked(view(), view())
    areas = [stepped(track(box()), link, steps, growth_px=0.5).area for steps in (1, 2, 4, 8)]
    assert areas[0] == track(box()).area  # half a pixel is not a pixel yet
    assert areas == sorted(areas)
    assert areas[1] < areas[2] < areas[3]


def test_it_grows_with_speed() -> None:
    slow, fast = (linked(view(), view(-speed))[0] for speed in (1, 6))
    changes: dict[str, Any] = {"growth_px": 0.0, "growth_per_speed": 0.5}
    assert stepped(track(box()), slow, **changes).grown == 0
    assert stepped(track(box()), fast, **changes).grown == 3


def test_growth_is_capped_by_the_size_of_the_region() -> None:
    link, _ = linked(view(), view())
    after = stepped(track(box()), link, 60, growth_px=1.0)
    later = stepped(after, link, 20, growth_px=1.0)
    assert later.area == after.area
    radius = float(np.sqrt(after.area / np.pi))
    assert after.grown <= max(2.0, 0.5 * radius) + 1


def test_a_step_grows_no_more_than_a_frames_worth_over_the_cap() -> None:
    link, _ = linked(view(), view())
    after = stepped(track(box(), grown=500), link, 3, growth_px=8.0)
    assert after.area == track(box()).area


def test_it_ends_where_it_leaves_the_picture() -> None:
    link, _ = linked(view(), view(-8))
    at_the_edge = track(box(left=WIDTH - 5), velocity=(8.0, 0.0))
    assert at_the_edge.step(link, options(**STILL)) is None


def test_it_goes_on_by_its_own_velocity_where_flow_has_lost_it() -> None:
    link, _ = linked(view(), view())
    lost = Link(
        link.here,
        link.there,
        np.full((HEIGHT, WIDTH, 2), 1e4, np.float32),
        None,
        link.noise,
        link._grid,
    )
    after = stepped(track(box(), velocity=(5.0, -2.0)), lost, **STILL)
    np.testing.assert_array_equal(after.parts, box(125, 68))


def test_how_much_of_it_is_followed() -> None:
    link, _ = linked(view(), view(-2))
    assert track(box()).followed(link) > 0.95
    torn = view(-2)
    torn[60:120, 110:160] = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    assert track(box()).followed(linked(view(), torn)[0]) < 0.7
    assert track(np.zeros((HEIGHT, WIDTH), np.uint8)).followed(link) == 0.0


def test_overlap_is_the_share_of_the_track() -> None:
    assert track(box()).overlap(box()) == 1.0
    assert track(box()).overlap(box(left=135)) == 0.5
    assert track(box()).overlap(box(left=10)) == 0.0
    assert track(np.zeros((HEIGHT, WIDTH), np.uint8)).overlap(box()) == 0.0


def test_to_grow_by_nothing_is_to_stay() -> None:
    parts = box()
    assert grow(parts, 0) is parts
    assert np.count_nonzero(grow(parts, 3)) > np.count_nonzero(parts)


def test_a_map_of_the_right_size_stays_itself() -> None:
    parts = box()
    assert shrink_map(parts, (WIDTH, HEIGHT)) is parts


def test_a_region_that_flow_tears_apart_spreads_to_a_few_times_its_size_and_no_further() -> None:
    # Flow that runs apart: each step's union is wider than the last.
    flow = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    flow[..., 0] = (np.arange(WIDTH, dtype=np.float32) - WIDTH / 2) * -0.2
    small = Small(
        np.full((HEIGHT, WIDTH, 3), 90, np.uint8), np.full((HEIGHT, WIDTH), 90, np.uint8), False
    )
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    torn = Link(small, small, flow, None, 0.0, (columns, rows))
    start = track(box(left=WIDTH // 2 - 15))
    end = start
    for _ in range(40):
        after = end.step(torn, options(growth_px=0.0, growth_per_speed=0.0))
        assert after is not None
        end = after
    assert start.area < end.area <= 3.0 * start.area
