"""What rushes: motion that goes one way by a third of itself a frame, three frames at least."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from m2fp_stream.tracking.heads import Rect
from m2fp_stream.tracking.rush import rushing

SIZE_WH = 1280, 720
MIDDLE = 2


def boxes(lefts: Sequence[float], width: float = 400, height: float = 500) -> list[list[Rect]]:
    """One box a frame whose left edges are these, cut by the picture."""
    return [
        [Rect(max(0.0, x), 150, min(1280.0, x + width), 150 + height)] if -width < x < 1280 else []
        for x in lefts
    ]


def test_what_crosses_the_picture_by_half_of_itself_a_frame_rushes_with_its_step() -> None:
    ((box, step),) = rushing(boxes([20, 240, 460, 680, 860]), MIDDLE, SIZE_WH)
    assert box.x1 == 460
    assert step == (220, 0)


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
def test_who_enters_and_leaves_rushes_from_the_first_sliver_to_the_last(at: int) -> None:
    crossing = boxes([-300, 100, 500, 900, 1270], width=440)
    (one,) = rushing(crossing, at, SIZE_WH)
    assert one[0] == crossing[at][0]


@pytest.mark.parametrize(
    "lefts",
    [
        [400, 400, 400, 400, 400],  # what flickers in one place
        [400, 440, 480, 520, 560],  # who walks or drives by
        [400, 640, 400, 640, 400],  # what swings to and fro
        [100, 330, 340, 700, 710],  # what has no way of its own
    ],
)
def test_what_is_slow_or_goes_nowhere_does_not_rush(lefts: list[float]) -> None:
    assert rushing(boxes(lefts), MIDDLE, SIZE_WH) == []


def test_two_frames_are_too_few_to_tell_a_way() -> None:
    assert rushing(boxes([20, 240]), 1, SIZE_WH) == []
    assert rushing(boxes([20, 240, 460]), 1, SIZE_WH) != []


def test_boxes_of_quite_different_sizes_are_not_one_thing() -> None:
    frames = boxes([100, 320, 540])
    frames[1] = [Rect(320, 150, 520, 250)]
    assert rushing(frames, 1, SIZE_WH) == []


def test_what_falls_rushes_as_well() -> None:
    frames = [[Rect(600, 20 + 130 * n, 760, 320 + 130 * n)] for n in range(3)]
    ((_, step),) = rushing(frames, 1, SIZE_WH)
    assert step == (0, 130)


def test_a_whole_picture_that_changes_goes_nowhere() -> None:
    whole = [[Rect(0, 0, 1280, 720)]] * 5
    assert rushing(whole, MIDDLE, SIZE_WH) == []
