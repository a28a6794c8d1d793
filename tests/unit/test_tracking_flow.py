"""What moved between two frames: flow, camera, cuts."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2fp_stream.tracking import flow
from m2fp_stream.tracking.flow import Analyser, Link, Small, small_size
from tests.chaos.stage import HEIGHT, WIDTH, Picture, backdrop

MIDDLE = slice(30, -30), slice(30, -30)
WIDE = backdrop(0, WIDTH + 80, HEIGHT + 80)


def view(dx: float = 0, dy: float = 0) -> Picture:
    """What a camera sees that has panned by (dx, dy)."""
    matrix = np.asarray([[1, 0, -40 - dx], [0, 1, -40 - dy]], np.float32)
    return np.asarray(cv2.warpAffine(WIDE, matrix, (WIDTH, HEIGHT)), np.uint8)


def small(picture: Picture) -> Small:
    height, width = picture.shape[:2]
    return Small.of(picture, (width, height))


def links(*pictures: Picture) -> tuple[Link, Link] | None:
    """Feeds all pictures; returns what the last one gave."""
    analyser = Analyser()
    result = None
    for picture in pictures:
        result = analyser.feed(small(picture))
    return result


def linked(*pictures: Picture) -> tuple[Link, Link]:
    result = links(*pictures)
    assert result is not None, "taken for a cut"
    return result


@pytest.mark.parametrize("shift", [(3, 0), (0, -2), (-4, 3)], ids=str)
def test_flow_points_to_where_a_pixel_was_and_will_be(shift: tuple[int, int]) -> None:
    dx, dy = shift
    new_to_old, old_to_new = linked(view(), view(-dx, -dy))  # the picture moves by `shift`
    flow = np.median(new_to_old.flow[MIDDLE], axis=(0, 1))
    np.testing.assert_allclose(flow, [-dx, -dy], atol=0.3)
    flow = np.median(old_to_new.flow[MIDDLE], axis=(0, 1))
    np.testing.assert_allclose(flow, [dx, dy], atol=0.3)


def test_a_mask_is_carried_with_the_picture_both_ways() -> None:
    new_to_old, old_to_new = linked(view(), view(-6))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[60:100, 100:140] = 13
    moved = np.roll(mask, 6, axis=1)
    carried = new_to_old.carry(mask)
    assert np.count_nonzero(carried != moved) < 0.1 * np.count_nonzero(mask)
    assert set(np.unique(carried)) == {0, 13}
    assert np.count_nonzero(old_to_new.carry(moved) != mask) < 0.1 * np.count_nonzero(mask)


def test_what_comes_from_outside_the_picture_carries_nothing() -> None:
    new_to_old, _ = linked(view(), view(-6))  # a strip enters on the left
    everything = np.ones((HEIGHT, WIDTH), np.uint8)
    assert not new_to_old.carry(everything)[30:-30, :3].any()


@pytest.mark.parametrize("shift", [(3.0, 0.0), (-2.0, 1.5)], ids=str)
def test_a_pan_is_recovered_and_is_no_motion(shift: tuple[float, float]) -> None:
    new_to_old, old_to_new = linked(view(), view(*shift))
    for link, sign in ((new_to_old, 1), (old_to_new, -1)):
        assert link.camera is not None
        np.testing.assert_allclose(link.camera[:, :2], np.eye(2), atol=0.01)
        # One set of coordinates counts from the corner: what a rotation error adds is in it.
        centre = link.camera @ np.asarray([WIDTH / 2, HEIGHT / 2, 1]) - [WIDTH / 2, HEIGHT / 2]
        np.testing.assert_allclose(centre, np.multiply(shift, sign), atol=0.3)
        assert link.moved[MIDDLE].mean() < 0.01
        assert link.consistent[MIDDLE].mean() > 0.98


def test_a_camera_at_rest_has_no_motion() -> None:
    new_to_old, old_to_new = linked(view(), view())
    assert new_to_old.camera is None
    assert old_to_new.camera is None
    assert not new_to_old.moved.any()
    mask = np.eye(HEIGHT, WIDTH, dtype=np.uint8)
    assert new_to_old.compensate(mask, outside=0) is mask


def test_an_object_that_moves_alone_moved_and_is_followed() -> None:
    thing = backdrop(5, 40, 40)
    before, after = view(), view()
    before[70:110, 100:140] = thing
    after[70:110, 104:144] = thing
    new_to_old, _ = linked(before, after)
    assert new_to_old.camera is None
    assert new_to_old.moved[75:105, 105:140].mean() > 0.5
    assert new_to_old.moved[:50].mean() < 0.01
    assert new_to_old.consistent[75:105, 110:138].mean() > 0.8
    assert 3 < float(np.median(new_to_old.speed[75:105, 110:138])) < 5


def test_what_is_replaced_by_noise_is_not_followed() -> None:
    random = np.random.default_rng(1)
    before, after = view(), view()
    for picture in (before, after):
        picture[60:120, 100:160] = random.integers(0, 2, (12, 12, 1), np.uint8).repeat(
            5, axis=0
        ).repeat(5, axis=1) * np.uint8(255)
    new_to_old, _ = linked(before, after)
    assert new_to_old.moved[60:120, 100:160].mean() > 0.3
    assert new_to_old.consistent[60:120, 100:160].mean() < 0.7


def test_pixels_of_outside_are_named_or_repeat_the_border() -> None:
    link, _ = linked(view(), view(3))
    white = np.full((HEIGHT, WIDTH), 255, np.uint8)
    assert link.compensate(white, outside=None).min() == 255
    assert link.compensate(white, outside=0).min() == 0


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_cut_is_found(seed: int) -> None:
    """Also between pictures of equal light, whose difference looks like noise everywhere."""
    assert links(view(), backdrop(seed)) is None
    assert links(backdrop(0), backdrop(seed)) is None


def test_after_a_cut_frames_are_linked_again() -> None:
    assert links(view(), backdrop(9), backdrop(9)) is not None


@pytest.mark.parametrize(("gain", "levels"), [(1.0, 30), (1.0, -30), (1.25, 0), (0.8, 0)])
def test_a_flash_is_no_cut(gain: float, levels: int) -> None:
    lit = np.clip(view() * gain + levels, 0, 255).astype(np.uint8)
    assert links(view(), view(), lit) is not None


def test_a_fast_pan_is_no_cut() -> None:
    assert links(*(view(8 * step) for step in range(4))) is not None


def test_the_first_frame_has_no_link() -> None:
    assert links(view()) is None


def test_a_restart_forgets_the_frame_before() -> None:
    analyser = Analyser()
    analyser.feed(small(view()))
    analyser.restart()
    assert analyser.feed(small(view())) is None
    assert analyser.feed(small(view())) is not None


def test_a_change_of_size_starts_anew_and_goes_on() -> None:
    narrow = backdrop(0, 200, 120)
    analyser = Analyser()
    assert analyser.feed(small(view())) is None
    assert analyser.feed(small(narrow)) is None
    result = analyser.feed(small(narrow))
    assert result is not None
    assert result[0].flow.shape == (120, 200, 2)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (12, 40)], ids=str)
def test_a_tiny_picture_has_links_too(size: tuple[int, int]) -> None:
    tiny = backdrop(3, *size)
    new_to_old, _ = linked(tiny, tiny)
    assert not new_to_old.moved.any()
    mask = np.ones(tiny.shape[:2], np.uint8)
    np.testing.assert_array_equal(new_to_old.carry(mask), mask)


@pytest.mark.parametrize(
    ("picture", "uniform"),
    [
        (np.zeros((HEIGHT, WIDTH, 3), np.uint8), True),
        (np.full((HEIGHT, WIDTH, 3), 255, np.uint8), True),
        (np.full((HEIGHT, WIDTH, 3), 90, np.uint8) + (backdrop() // 100), True),
        (backdrop() // 4, False),
        (backdrop(), False),
    ],
    ids=["black", "white", "faint noise", "dark room", "bright room"],
)
def test_a_picture_that_shows_next_to_nothing_is_uniform(picture: Picture, uniform: bool) -> None:
    assert small(picture).uniform is uniform


def test_small_copies_are_wiped() -> None:
    copies = small(view())
    colour, grey = copies.colour, copies.grey
    copies.wipe()
    assert not colour.any()
    assert not grey.any()


@pytest.mark.parametrize(
    ("size", "area", "expected"),
    [
        ((1920, 1080), 57_600, (320, 180)),
        ((320, 180), 57_600, (320, 180)),
        ((100, 50), 57_600, (100, 50)),
        ((10_000, 1), 14_400, (10_000, 1)),
        ((1_000_000, 1), 14_400, (14_400 * 10 // 12, 1)),
    ],
)
def test_the_small_size_keeps_shape_and_never_enlarges(
    size: tuple[int, int], area: int, expected: tuple[int, int]
) -> None:
    width, height = small_size(size, area)
    if size[1] > 1 or size[0] <= area:
        assert (width, height) == expected
    assert 1 <= width <= size[0]
    assert 1 <= height <= size[1]


def test_equal_pictures_give_equal_links() -> None:
    def fields(link: Link) -> list[Any]:
        return [link.flow, link.camera, link.noise, link.moved, link.consistent]

    one, two = (linked(view(), view(2.4, 1.1))[0] for _ in range(2))
    for first, second in zip(fields(one), fields(two), strict=True):
        np.testing.assert_array_equal(first, second)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=50))
def test_the_median_by_counting_is_numpys(levels: list[int]) -> None:
    values = np.array(levels, np.uint8)
    assert flow._median(values) == np.median(values)
