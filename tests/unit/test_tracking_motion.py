"""What moved that the camera does not explain, and where one shot ends and another begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from m2fp_stream.tracking.heads import Rect
from m2fp_stream.tracking.motion import FEWEST_MATCHES, Motion, MotionFinder, SmallGrey
from tests.kit.stage import Picture, backdrop

WIDE = backdrop(0, 1280, 720)


def motions(pictures: Sequence[Picture], **options: int) -> list[Motion]:
    finder = MotionFinder(**options)
    return [finder.feed(SmallGrey.of(picture)) for picture in pictures]


def window(left: int, top: int = 100, wide: Picture = WIDE) -> Picture:
    """A camera's picture, (360, 640), of a part of a large one."""
    return np.ascontiguousarray(wide[top : top + 360, left : left + 640])


def with_square(picture: Picture, left: int, top: int = 120, side: int = 60) -> Picture:
    drawn = picture.copy()
    pattern = np.random.default_rng(5).integers(0, 256, (6, 6, 3), np.uint8)
    square = cv2.resize(pattern, (side, side), interpolation=cv2.INTER_NEAREST)
    drawn[top : top + side, left : left + side] = square
    return drawn


def test_the_first_frame_starts_a_shot() -> None:
    (motion,) = motions([window(0)])
    assert motion.cut
    assert motion.camera is None
    assert not motion.moved.any()


def test_nothing_moves_in_a_still_picture() -> None:
    _, motion = motions([window(0)] * 2)
    assert not motion.cut
    assert motion.camera is None
    assert not motion.moved.any()
    assert motion.unexplained([]) == []


def test_noise_is_no_motion() -> None:
    random = np.random.default_rng(1)
    noisy = [
        np.clip(window(0) + random.normal(0, 5, (360, 640, 3)), 0, 255).astype(np.uint8)
        for _ in range(3)
    ]
    assert all(motion.unexplained([]) == [] for motion in motions(noisy)[1:])


def test_what_moves_is_found_where_it_is() -> None:
    room = window(0)
    _, motion = motions([with_square(room, 300), with_square(room, 320)])
    assert not motion.cut
    (box,) = motion.unexplained([])
    assert box.x1 <= 305
    assert box.x2 >= 375
    assert box.shared(Rect(300, 120, 380, 180)) > 0.8 * 80 * 60
    assert box.area < 4 * 80 * 60
    assert motion.share(Rect(300, 120, 380, 180)) > 0.2
    assert motion.share(Rect(20, 20, 100, 100)) == 0
    assert motion.share(Rect(-90, -90, -10, -10)) == 0


def test_what_somebody_known_moves_is_explained() -> None:
    room = window(0)
    pictures = [
        with_square(with_square(room, 300), 40),
        with_square(with_square(room, 320), 60),
    ]
    _, motion = motions(pictures)
    known = Rect(290, 100, 400, 200)
    (left,) = motion.unexplained([known])
    assert left.x2 < 200
    assert motion.unexplained([known, Rect(0, 0, 200, 359)]) == []
    assert len(motion.unexplained([Rect(-50, -50, -10, -10), Rect(900, 0, 990, 90)])) == 2
    assert motion.moved.any()  # what is left out is left out of a copy


@pytest.mark.parametrize("options", [{}, {"features": 48}], ids=["files", "live"])
def test_a_panning_camera_is_no_motion_and_is_known(options: dict[str, int]) -> None:
    pictures = [window(20 * n, 100 + 4 * n) for n in range(6)]
    for motion in motions(pictures, **options)[1:]:
        assert not motion.cut
        assert motion.camera is not None
        assert motion.camera[:, :2] == pytest.approx(np.eye(2), abs=0.02)
        assert motion.camera[:, 2] == pytest.approx((-20, -4), abs=3)
        inner = Rect(60, 60, 580, 300)
        assert motion.share(inner) < 0.02


def test_so_many_corners_are_followed_as_said_and_too_few_know_no_camera() -> None:
    blurred = np.asarray(cv2.GaussianBlur(WIDE, (0, 0), 5), np.float32)
    blurred = (blurred - blurred.min()) * 255 / (blurred.max() - blurred.min())
    smooth = blurred.astype(np.uint8)  # not so fine that it looks like a cut
    pictures = [window(8 * n, wide=smooth) for n in range(3)]
    for motion in motions(pictures, features=FEWEST_MATCHES - 1)[1:]:
        assert not motion.cut
        assert motion.camera is None
        assert motion.unexplained([])  # it orders looks; it hides nothing
    for motion in motions(pictures, features=48)[1:]:
        assert motion.camera is not None


@pytest.mark.parametrize("options", [{}, {"features": 48}], ids=["files", "live"])
def test_what_moves_before_a_panning_camera_is_found(options: dict[str, int]) -> None:
    pictures = [with_square(window(20 * n), 200 + 14 * n) for n in range(3)]
    motion = motions(pictures, **options)[2]
    assert motion.camera is not None
    assert any(box.shared(Rect(214, 120, 288, 180)) > 1000 for box in motion.unexplained([]))


def test_a_cut_is_found_and_forgets_what_was_before() -> None:
    other = backdrop(7, 640, 360)
    pictures = [window(0)] * 5 + [other] * 5
    found = motions(pictures)
    assert [motion.cut for motion in found] == [n in (0, 5) for n in range(10)]
    assert found[5].camera is None
    assert not found[5].moved.any()


def test_a_cut_to_another_size_is_one() -> None:
    cuts = [motion.cut for motion in motions([window(0), window(0)[:, :500].copy()])]
    assert cuts == [True, True]


@pytest.mark.parametrize("light", [0.55, 1.6])
def test_a_lamp_is_no_cut(light: float) -> None:
    lit = np.clip(window(0) * light, 0, 255).astype(np.uint8)
    found = motions([window(0)] * 4 + [lit] * 4)
    assert not any(motion.cut for motion in found[1:])


def test_a_flash_is_no_cut() -> None:
    flash = np.clip(window(0) * 0.5 + 120, 0, 255).astype(np.uint8)
    found = motions([window(0)] * 4 + [flash] + [window(0)] * 4)
    assert not any(motion.cut for motion in found[1:])


def test_a_fade_is_no_cut() -> None:
    lights = np.linspace(1, 0.1, 20)
    pictures = [(window(0) * light).astype(np.uint8) for light in lights]
    assert not any(motion.cut for motion in motions(pictures)[1:])


def test_somebody_who_crosses_the_picture_is_no_cut() -> None:
    room = window(0)
    pictures = [with_square(room, 20 * n, 20, 300) for n in range(8)]
    assert not any(motion.cut for motion in motions(pictures)[1:])


def test_after_a_restart_the_next_frame_starts_a_shot() -> None:
    finder = MotionFinder()
    finder.feed(SmallGrey.of(window(0)))
    finder.restart()
    assert finder.feed(SmallGrey.of(window(0))).cut
    assert not finder.feed(SmallGrey.of(window(0))).cut


@pytest.mark.parametrize(("level", "uniform"), [(0, True), (17, True), (255, True)])
def test_a_flat_picture_is_uniform(level: int, uniform: bool) -> None:
    assert SmallGrey.of(np.full((90, 160, 3), level, np.uint8)).uniform is uniform


def test_a_picture_with_anything_in_it_is_not_uniform() -> None:
    assert not SmallGrey.of(window(0)).uniform
    colours = np.zeros((90, 160, 3), np.uint8)  # of one grey: seen in colour only
    colours[:, :80] = (0, 0, 100)
    colours[:, 80:] = (100, 26, 31)
    assert not SmallGrey.of(colours).uniform


@pytest.mark.parametrize("size_wh", [(1, 1), (2, 1), (1, 40), (7, 5), (16, 16), (4000, 3)], ids=str)
def test_tiny_and_thin_pictures_are_measured(size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    random = np.random.default_rng(2)
    pictures: list[Any] = [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(3)]
    for motion in motions(pictures):
        assert motion.moved.size
        assert isinstance(motion.unexplained([Rect(0, 0, 1, 1)]), list)
        assert 0 <= motion.share(Rect(0, 0, width, height)) <= 1


def test_the_small_copy_can_be_wiped() -> None:
    small = SmallGrey.of(window(0))
    assert small.grey.any()
    assert small.scale == 0.5
    small.wipe()
    assert not small.grey.any()


def test_equal_pictures_give_equal_motion() -> None:
    pictures = [with_square(window(15 * n), 200 + 20 * n) for n in range(4)]
    for first, second in zip(motions(pictures), motions(pictures), strict=True):
        assert first.cut == second.cut
        np.testing.assert_array_equal(first.moved, second.moved)
        if first.camera is not None:
            np.testing.assert_array_equal(first.camera, second.camera)


def test_a_smear_is_sharp_across_its_way_and_not_along_it() -> None:
    """What rushes is told from what is merely quick: bit 0 is from left to right, bit 1 down."""

    def sharp(smear: int) -> tuple[float, float]:
        grey = np.full((360, 640, 3), 60, np.uint8)
        drawn = grey.copy()
        drawn[100:260, 250:400] = 200
        if smear:
            drawn = np.asarray(cv2.blur(drawn, (smear, 1)), np.uint8)
        edges = motions([grey, drawn])[1].edges
        assert edges is not None
        return float((edges & 1).any(axis=1).mean()), float((edges & 2).any(axis=0).mean())

    along, across = sharp(0)
    assert along > 0.4
    assert across > 0.2
    smeared, across = sharp(60)
    assert smeared == 0
    assert across > 0.2


def test_where_little_moves_nobody_asks_whether_it_is_sharp() -> None:
    picture = window(0)
    assert motions([picture, with_square(picture, 300, side=16)])[1].edges is None
