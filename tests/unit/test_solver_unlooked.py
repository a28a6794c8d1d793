"""What moves and was not looked at is covered until two looks saw nobody there (P5)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2fp_stream.core.labels import Label
from m2fp_stream.pipeline.solver.records import Reach
from m2fp_stream.pipeline.solver.unlooked import AGAIN_FRAMES, FORGOTTEN_S, Unlooked
from m2fp_stream.tracking.heads import Rect
from m2fp_stream.tracking.motion import Motion

from .test_solver import HEIGHT, STILL, WIDTH, Mask, box_mask, moving

RATE = 25
BOX = Rect(200, 100, 300, 260)
OTHER = BOX.moved(250, 0)
SMALL = Rect(500, 60, 540, 100)


def needed(box: Rect) -> Reach:
    return Reach.FAR if max(box.width, box.height) < 60 else Reach.NEAR


def unlooked() -> Unlooked:
    return Unlooked(needed, rate=RATE)


def covered(one: Unlooked, number: int, motion: Motion, *known: Rect) -> Mask:
    parts, tracks = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
    anything = one.lay(number, motion, known, parts, tracks)
    assert anything == bool(parts.any())
    assert ((parts > 0) == (tracks > 0)).all()
    assert set(np.unique(parts)) <= {0, int(Label.HUMAN)}
    return parts > 0


def share(one: Unlooked, number: int, box: Rect, *known: Rect) -> float:
    return float(covered(one, number, moving(box), *known)[box_mask(box)].mean())


def test_what_moves_is_covered_until_two_looks_at_different_frames_saw_nobody() -> None:
    one = unlooked()
    for number in range(6):
        assert one.see(number, [BOX]) == [BOX]
    assert share(one, 5, BOX) == 1.0
    one.answered(2, Reach.NEAR, ())
    assert share(one, 5, BOX) == 1.0
    one.answered(4, Reach.NEAR, ())
    assert share(one, 5, BOX) == 0.0


def test_two_answers_about_one_frame_are_one_look() -> None:
    one = unlooked()
    for number in range(4):
        one.see(number, [BOX])
    one.answered(2, Reach.NEAR, ())
    one.answered(2, Reach.MIDDLE, ())
    assert share(one, 3, BOX) == 1.0
    one.answered(3, Reach.MIDDLE, ())
    assert share(one, 3, BOX) == 0.0


def test_answers_may_come_in_any_order() -> None:
    one = unlooked()
    for number in range(6):
        one.see(number, [BOX])
    one.answered(4, Reach.NEAR, ())
    one.answered(1, Reach.NEAR, ())
    assert share(one, 5, BOX) == 0.0


def test_a_look_that_does_not_reach_so_far_says_nothing() -> None:
    one = unlooked()
    for number in range(4):
        one.see(number, [BOX, SMALL])
        one.answered(number, Reach.MIDDLE, ())
    assert share(one, 3, BOX) == 0.0
    assert share(one, 3, SMALL) == 1.0
    for number in range(4, 6):
        one.see(number, [BOX, SMALL])
        one.answered(number, Reach.FAR, ())
    assert share(one, 5, SMALL) == 0.0


def test_what_moves_on_is_followed_from_frame_to_frame() -> None:
    one = unlooked()
    boxes = [BOX.moved(20 * number, 0) for number in range(8)]
    for number, box in enumerate(boxes):
        one.see(number, [box])
    one.answered(0, Reach.NEAR, ())
    one.answered(1, Reach.NEAR, ())
    assert share(one, 7, boxes[7]) == 0.0


def test_what_appears_elsewhere_is_something_new() -> None:
    one = unlooked()
    for number in range(4):
        one.see(number, [BOX])
        one.answered(number, Reach.NEAR, ())
    other = BOX.moved(250, 0)
    assert one.see(4, [BOX, other]) == [other]
    assert share(one, 4, BOX) == 0.0
    assert share(one, 4, other) == 1.0


def test_what_comes_apart_keeps_the_looks_of_what_it_was() -> None:
    one = unlooked()
    for number in range(3):
        one.see(number, [BOX])
        one.answered(number, Reach.NEAR, ())
    left, right = Rect(200, 100, 245, 260), Rect(255, 100, 300, 260)
    assert one.see(3, [left, right]) == []
    for box in (left, right):
        assert share(one, 3, box) == 0.0


def test_what_comes_together_keeps_the_most_recent_looks_of_both() -> None:
    """A thing that moves falls into pieces and comes together at every other frame."""
    one = unlooked()
    left, right = Rect(200, 100, 245, 260), Rect(255, 100, 300, 260)
    for number in range(3):
        one.see(number, [left])
        one.answered(number, Reach.NEAR, ())
    assert one.see(3, [left, right]) == [right]
    assert share(one, 3, right) == 1.0
    assert one.see(4, [BOX]) == []
    assert share(one, 4, BOX) == 0.0


def test_what_moves_on_without_a_look_for_long_is_something_new() -> None:
    one = unlooked()
    for number in range(3):
        one.see(number, [BOX])
        one.answered(number, Reach.NEAR, ())
    kept = round(FORGOTTEN_S * RATE)
    for number in range(3, 2 + kept + 1):
        one.see(number, [BOX])
        assert share(one, number, BOX) == 0.0
    assert one.see(2 + kept + 1, [BOX]) == [BOX]
    assert share(one, 2 + kept + 1, BOX) == 1.0


@pytest.mark.parametrize(
    "body",
    [BOX, Rect(225, 110, 275, 250), BOX.moved(20, 10), BOX.grown(60, 20, 20)],
    ids=["the same", "inside", "beside", "around"],
)
def test_where_a_body_was_seen_however_weak_the_look_was_not_empty(body: Rect) -> None:
    one = unlooked()
    for number in range(6):
        one.see(number, [BOX, OTHER])
        one.answered(number, Reach.NEAR, [body])
    assert share(one, 5, BOX) == 1.0
    assert share(one, 5, OTHER) == 0.0  # there it was
    one.answered(3, Reach.NEAR, ())
    assert share(one, 5, BOX) == 1.0
    one.answered(4, Reach.NEAR, ())
    assert share(one, 5, BOX) == 0.0


@pytest.mark.parametrize(("part", "covered_share"), [(0.68, 1.0), (0.75, 0.0)])
def test_what_changes_nearly_everywhere_is_the_light(part: float, covered_share: float) -> None:
    one = unlooked()
    box = Rect(0, 0, WIDTH, part * HEIGHT)
    one.see(0, [box])
    inner = Rect(20, 20, WIDTH - 20, part * HEIGHT - 20)
    mask = covered(one, 0, moving(box))
    assert mask[box_mask(inner)].mean() == covered_share


def test_what_moves_again_soon_is_the_same_and_later_something_new() -> None:
    one = unlooked()
    for number in range(2):
        one.see(number, [BOX])
        one.answered(number, Reach.NEAR, ())
    for number in range(2, 10):
        one.see(number, [])
    one.see(10, [BOX])
    assert share(one, 10, BOX) == 0.0
    for number in range(11, 11 + RATE):
        one.see(number, [])
    assert one.see(11 + RATE, [BOX]) == [BOX]
    assert share(one, 11 + RATE, BOX) == 1.0


def test_what_moves_on_is_looked_at_again_now_and_then() -> None:
    one = unlooked()
    wanted = []
    for number in range(40):
        if one.see(number, [BOX]):
            wanted.append(number)
            one.answered(number, Reach.NEAR, ())
    assert wanted[:2] == [0, 1]
    assert wanted[2:] == list(range(1 + AGAIN_FRAMES, 40, AGAIN_FRAMES))


def test_a_shot_begins_with_nothing_looked_at() -> None:
    one = unlooked()
    for number in range(3):
        one.see(number, [BOX])
        one.answered(number, Reach.NEAR, ())
    one.restart()
    assert one.see(3, [BOX]) == [BOX]
    assert share(one, 3, BOX) == 1.0
    one.answered(2, Reach.NEAR, ())  # of the shot before
    assert share(one, 3, BOX) == 1.0


def test_who_is_known_may_move() -> None:
    one = unlooked()
    one.see(0, [BOX])
    known = BOX.grown(10, 10, 10)
    assert share(one, 0, BOX, known) == 0.0
    half = Rect(BOX.x1, BOX.y1, BOX.x, BOX.y2)
    mask = covered(one, 0, moving(BOX), half)
    assert mask[box_mask(Rect(BOX.x + 10, BOX.y1, BOX.x2, BOX.y2))].all()
    assert not mask[box_mask(Rect(BOX.x1, BOX.y1, BOX.x - 10, BOX.y2))].any()


@pytest.mark.parametrize(
    ("width", "share_of"),
    [(8, 0.0), (12, 0.0), (14, 1.0), (60, 1.0)],
    ids=["edge", "6 small pixels", "7 small pixels", "thing"],
)
def test_where_the_camera_moves_edges_of_what_stands_are_nobody(
    width: int, share_of: float
) -> None:
    one = unlooked()
    box = Rect(200, 100, 200 + width, 300)
    one.see(0, [box])
    slid = np.array([[1, 0, 5], [0, 1, 0]], np.float32)
    mask = covered(one, 0, replace(moving(box), camera=slid))
    assert mask[box_mask(box)].mean() == share_of
    assert covered(one, 0, moving(box))[box_mask(box)].all()  # at rest it may be an arm


def test_nothing_that_moves_is_nothing_to_cover() -> None:
    one = unlooked()
    assert one.see(0, []) == []
    assert not covered(one, 0, STILL).any()


def test_what_is_kept_does_not_grow() -> None:
    one = unlooked()
    for number in range(2000):
        one.see(number, [BOX.moved(number % 37, 0), SMALL])
    assert len(one._at) <= 4 * RATE
    assert len(one._things) <= 4 * RATE


steps = st.lists(
    st.tuples(
        st.sampled_from(["here", "gone", "there"]),
        st.none() | st.tuples(st.integers(0, 3), st.sampled_from(list(Reach)), st.booleans()),
    ),
    min_size=1,
    max_size=25,
)


@given(steps)
@settings(deadline=None)
def test_nothing_is_uncovered_before_two_empty_looks_at_frames_in_which_something_moved_there(
    table: list[tuple[str, tuple[int, Reach, bool] | None]],
) -> None:
    one, other = unlooked(), BOX.moved(300, 0)
    looked: dict[Rect, set[int]] = {BOX: set(), other: set()}
    moved: dict[int, Rect] = {}
    for number, (where, answer) in enumerate(table):
        box = {"here": BOX, "there": other}.get(where)
        one.see(number, [] if box is None else [box])
        if box is not None:
            moved[number] = box
        if answer is not None and number >= answer[0]:
            about = number - answer[0]
            somebody = [moved[about]] if answer[2] and about in moved else []
            one.answered(about, answer[1], somebody)
            if about in moved and not somebody:
                looked[moved[about]].add(about)
        if box is not None and len(looked[box]) < 2:
            assert share(one, number, box) == 1.0
