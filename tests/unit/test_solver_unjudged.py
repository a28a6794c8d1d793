"""What moves and cannot be judged is covered while it moves; what looks can tell is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from m2fp_stream.core.labels import Label
from m2fp_stream.pipeline.solver.place import Places
from m2fp_stream.pipeline.solver.unjudged import MARK, Unjudged
from m2fp_stream.tracking.heads import Rect
from m2fp_stream.tracking.motion import Motion
from m2fp_stream.tracking.tracker import Tracker

WIDTH, HEIGHT = 640, 360
STEP = 120
SIDEWAYS, UPWARDS = 1, 2


def motion(*boxes: Rect, cut: bool = False, sharp: bool = False) -> Motion:
    moved = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
    for box in boxes:
        rows = slice(max(0, int(box.y1)) // 2, max(0, int(box.y2)) // 2)
        moved[rows, max(0, int(box.x1)) // 2 : max(0, int(box.x2)) // 2] = 1
    edges = np.zeros_like(moved)
    edges[:, ::3] = SIDEWAYS if sharp else 0
    return Motion(cut, None, moved, 0.5, edges)


def body(frame: int, step: float = STEP) -> Rect:
    """Where a body of 100 by 260 pixels is that goes by at `step` pixels a frame."""
    return Rect(-60 + step * frame, 60, 40 + step * frame, 320)


def change(frame: int, step: float = STEP) -> Motion:
    """What changes when it goes on: where it was, and where it is."""
    return motion(body(frame - 1, step), body(frame, step))


def nobody(frame: int) -> Sequence[Rect]:
    del frame
    return []


def covered(
    frame: int,
    motions: Callable[[int], Motion],
    explained: Callable[[int], Sequence[Rect]] = nobody,
) -> np.ndarray:
    """The map of what is covered in one frame."""
    tracker = Tracker(max_gap=15, body_gap=25, far_gap=100, far_px=100, strong=0.45)
    places = Places(tracker, size_wh=(WIDTH, HEIGHT), rate=25, far_every=50)
    for number in range(8):
        places.take_motion(number, motions(number))
    parts = np.zeros((HEIGHT, WIDTH), np.uint8)
    tracks = np.zeros((HEIGHT, WIDTH), np.uint8)
    Unjudged(places, size_wh=(WIDTH, HEIGHT)).lay(frame, explained, parts, tracks)
    assert ((tracks == MARK) == (parts > 0)).all()
    return parts


def share(parts: np.ndarray, box: Rect) -> float:
    rows = slice(max(0, int(box.y1)), int(box.y2))
    return float((parts[rows, max(0, int(box.x1)) : int(box.x2)] > 0).mean())


def test_what_rushes_by_is_covered_whole_where_it_is() -> None:
    for frame in range(1, 6):
        parts = covered(frame, change)
        assert share(parts, body(frame)) == 1.0
        assert set(np.unique(parts)) == {0, Label.HUMAN}


def test_where_it_was_a_frame_before_is_clear_again() -> None:
    assert share(covered(3, change), body(2)) < 0.5


def test_what_goes_by_slowly_enough_to_be_looked_at_is_clear() -> None:
    assert not covered(4, lambda n: change(n, step=30)).any()


def test_what_is_sharp_along_its_way_was_seen_by_looks_and_is_clear() -> None:
    def sharp(frame: int) -> Motion:
        return motion(body(frame - 1), body(frame), sharp=True)

    def sharp_across(frame: int) -> Motion:
        found = sharp(frame)
        assert found.edges is not None
        return replace(found, edges=found.edges * UPWARDS)

    assert not covered(3, sharp).any()
    assert share(covered(3, sharp_across), body(3)) == 1.0


def test_what_sways_in_its_place_is_clear() -> None:
    curtain = [Rect(200, 40, 420, 320), Rect(260, 40, 480, 320)]
    assert not covered(4, lambda n: motion(curtain[n % 2])).any()


def test_what_moves_with_somebody_known_is_his() -> None:
    def known(frame: int) -> list[Rect]:
        return [body(frame).grown(10, 10, 10)]

    assert not covered(3, change, known).any()


def test_edges_of_a_background_that_slides_are_nobody() -> None:
    def edges(frame: int) -> Motion:
        left = STEP * frame
        bars = [Rect(left + 90 * k, 60, left + 90 * k + 8, 320) for k in range(3)]
        return motion(*bars)

    assert not covered(3, edges).any()


def test_what_is_small_does_not_rush() -> None:
    def small(frame: int) -> Motion:
        return motion(*(Rect(40 * k, 100, 40 * k + 30, 140) for k in (frame - 1, frame)))

    assert not covered(3, small).any()


def test_the_way_before_a_cut_says_nothing_about_the_one_after_it() -> None:
    def cut_at_three(frame: int) -> Motion:
        return motion(cut=True) if frame == 3 else change(frame)

    assert not covered(3, cut_at_three).any()
    assert not covered(2, lambda n: motion(cut=True) if n in (1, 3) else change(n)).any()
    assert covered(5, cut_at_three).any()
