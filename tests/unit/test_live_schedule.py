"""Parses give way to the picture, and come back when there is time for both."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.core.records import Look, ParseResult
from m2fp_stream.pipeline.live.schedule import Coarseness, Schedule
from tests.chaos import faulty
from tests.chaos.live_stage import PATIENCE_S, Performance

LATE_S = 0.4


def schedule(
    shortest_s: float = 0.0, longest_s: float = 0.25, side: int = 640, late_s: float = LATE_S
) -> Schedule:
    return Schedule(shortest_s=shortest_s, longest_s=longest_s, side=side, late_s=late_s)


class Clock:
    """Observes once a second."""

    def __init__(self, one: Schedule) -> None:
        self._one, self._now_s = one, 100.0

    def tell(
        self, *, dropped: int = 0, parse_s: float | None = 0.1, late: int = 0, times: int = 1
    ) -> None:
        for _ in range(times):
            self._now_s += 1.0
            self._one.observe(self._now_s, captured=30, dropped=dropped, parse_s=parse_s, late=late)

    def overload_to_the_end(self) -> None:
        self.tell(dropped=10, times=30)


def test_the_first_parse_is_due_at_once_and_the_next_after_the_interval() -> None:
    one = schedule(shortest_s=0.1)
    assert one.due(0.0)
    one.started(5.0)
    assert not one.due(5.05)
    assert one.due(5.1001)


def test_without_an_interval_a_parse_follows_at_once() -> None:
    one = schedule()
    one.started(5.0)
    assert one.due(5.0)


def test_overload_makes_parses_rarer_and_only_then_smaller() -> None:
    one = schedule()
    clock = Clock(one)
    seen = []
    for _ in range(16):
        clock.tell(dropped=3)
        seen.append((one.interval_s, one.side))
    intervals = [interval_s for interval_s, _ in seen]
    assert intervals == sorted(intervals)
    assert intervals[0] > 0
    assert intervals[-1] == 0.25
    assert {side for interval_s, side in seen[: intervals.index(0.25) + 1]} == {640}
    assert seen[-1][1] == 320


def test_a_dropped_frame_among_many_is_no_overload() -> None:
    one = schedule(shortest_s=0.1)
    one.observe(1.0, captured=100, dropped=2, parse_s=0.1)
    assert one.interval_s == 0.1
    one.observe(2.0, captured=100, dropped=3, parse_s=0.1)
    assert one.interval_s > 0.1


def test_frames_are_thinned_out_last() -> None:
    one = schedule()
    clock = Clock(one)
    seen = []
    for _ in range(20):
        clock.tell(dropped=3)
        seen.append((one.side, one.share))
    shares = [share for _, share in seen]
    assert shares == sorted(shares, reverse=True)
    assert {share for side, share in seen if side > 320} == {1}
    assert seen[-1] == (320, 1 / 3)


def test_frames_that_are_late_from_overload_put_it_in_haste() -> None:
    one = schedule(shortest_s=0.1)
    clock = Clock(one)
    seen = []
    for _ in range(8):
        clock.tell(dropped=3, late=3)
        seen.append((one.interval_s, one.side, one.share))
        clock.tell(dropped=3, late=3)  # of before, perhaps
        assert (one.interval_s, one.side, one.share) == seen[-1]
    smaller = [(0.25, 512, 1), (0.25, 416, 1), (0.25, 320, 1)]
    fewer = [(0.25, 320, share) for share in (5 / 6, 2 / 3, 1 / 2, 1 / 3, 1 / 3)]
    assert seen == smaller + fewer


def test_where_the_parser_answers_late_frames_are_overload_without_any_that_is_dropped() -> None:
    one = schedule(shortest_s=0.1)
    clock = Clock(one)
    clock.tell(late=1)
    assert (one.interval_s, one.side, one.share) == (0.25, 512, 1)
    clock.tell(late=1, times=20)
    assert one.share == 1 / 3


@pytest.mark.parametrize(("captured", "share"), [(9, 1), (10, 5 / 6), (12, 2 / 3), (15, 2 / 3)])
def test_eight_frames_a_second_are_taken_of_the_slowest_camera(captured: int, share: float) -> None:
    one = schedule()
    for number in range(60):
        one.observe(100.0 + number, captured=captured, dropped=5, parse_s=0.1, late=5)
    assert (one.side, one.share) == (320, share)


def test_a_few_dropped_frames_are_no_reason_to_leave_any_out() -> None:
    one = schedule(shortest_s=0.1)
    Clock(one).tell(dropped=2, times=40)
    assert (one.interval_s, one.side, one.share) == (0.25, 320, 1)


def test_frames_that_are_late_from_a_dead_parser_are_all_taken() -> None:
    one = schedule()
    Clock(one).tell(late=30, parse_s=None, times=10)
    assert one.share == 1


def test_what_the_machine_could_not_do_is_tried_again_later_each_time() -> None:
    one = schedule(longest_s=0.0)
    clock = Clock(one)
    waits = []
    for _ in range(9):
        while one.share == 1:
            clock.tell(dropped=3)
        assert one.share == 5 / 6
        waits.append(0)
        while one.share == 5 / 6:
            clock.tell(parse_s=0.3)  # too slow for larger parses
            waits[-1] += 1
    assert waits == [6, 11, 21, 41, 81, 161, 301, 301, 301]
    clock.tell(parse_s=0.3, times=60)  # now it can
    clock.tell(dropped=3)
    assert one.share == 5 / 6
    clock.tell(parse_s=0.3, times=6)
    assert one.share == 1


def test_a_slow_parse_becomes_smaller_not_rarer() -> None:
    one = schedule(shortest_s=0.1)
    Clock(one).tell(parse_s=LATE_S + 0.01)
    assert (one.interval_s, one.side) == (0.1, 512)


def test_calm_brings_size_back_first_and_then_frequency() -> None:
    one = schedule(shortest_s=0.1)
    clock = Clock(one)
    clock.overload_to_the_end()
    assert (one.interval_s, one.side) == (0.25, 320)
    seen = []
    for _ in range(80):
        clock.tell()
        seen.append((one.interval_s, one.side))
    full = [side for _, side in seen].index(640)
    assert {interval_s for interval_s, _ in seen[: full + 1]} == {0.25}
    assert seen[-1] == (0.1, 640)


def test_calm_is_waited_for_before_each_step_back() -> None:
    one = schedule(shortest_s=0.1)
    clock = Clock(one)
    clock.tell(dropped=10)
    rarer_s = one.interval_s
    clock.tell(times=5)
    assert one.interval_s == rarer_s
    clock.tell(dropped=10)  # the calm starts anew
    rarer_s = one.interval_s
    clock.tell(times=5)
    assert one.interval_s == rarer_s
    clock.tell()
    assert one.interval_s < rarer_s


def test_a_size_that_takes_half_the_limit_is_not_raised_again() -> None:
    one = schedule(shortest_s=0.1)
    clock = Clock(one)
    clock.tell(parse_s=0.5)
    clock.tell(parse_s=0.3, times=30)
    assert one.side == 512


def test_without_an_answer_calm_still_brings_parses_back() -> None:
    one = schedule(shortest_s=0.1)
    clock = Clock(one)
    clock.overload_to_the_end()
    clock.tell(parse_s=None, times=120)
    assert (one.interval_s, one.side) == (0.1, 640)


def test_a_second_without_frames_is_no_overload() -> None:
    one = schedule(shortest_s=0.1)
    one.observe(1.0, captured=0, dropped=0, parse_s=None)
    assert (one.interval_s, one.side) == (0.1, 640)


def test_a_longest_interval_below_the_shortest_gives_way() -> None:
    one = schedule(shortest_s=0.5, longest_s=0.1)
    Clock(one).overload_to_the_end()
    assert one.interval_s == 0.5


@given(
    shortest_s=st.floats(0, 1),
    longest_s=st.floats(0.001, 1),
    side=st.integers(1, 1280),
    told=st.lists(
        st.tuples(
            st.floats(0, 10),
            st.integers(0, 60),
            st.integers(0, 60),
            st.none() | st.floats(0, 5),
        ),
        max_size=60,
    ),
)
def test_whatever_happens_interval_and_size_stay_within_their_bounds(
    shortest_s: float,
    longest_s: float,
    side: int,
    told: list[tuple[float, int, int, float | None]],
) -> None:
    one = schedule(shortest_s=shortest_s, longest_s=longest_s, side=side)
    now_s = 0.0
    for seconds, captured, dropped, parse_s in told:
        now_s += seconds
        before = one.interval_s, one.side
        one.observe(now_s, captured=captured, dropped=dropped, parse_s=parse_s)
        assert shortest_s <= one.interval_s <= max(shortest_s, longest_s)
        assert max(1, round(side / 2)) <= one.side <= side
        if dropped > captured:
            assert one.interval_s >= before[0]
            assert one.side <= before[1]
        one.started(now_s)
        assert one.due(now_s + one.interval_s + 1e-9)


@pytest.mark.parametrize("side", [160, 640, 1280])
def test_the_smallest_size_is_half_of_the_configured_one(side: int) -> None:
    one = schedule(side=side)
    Clock(one).tell(parse_s=9.0, times=10)
    assert one.side == side // 2


@pytest.mark.parametrize(("smallest", "least"), [(1, 320), (480, 480), (900, 640)])
def test_no_parse_is_smaller_than_allowed(smallest: int, least: int) -> None:
    one = Schedule(shortest_s=0.0, longest_s=0.25, side=640, late_s=LATE_S, smallest_side=smallest)
    Clock(one).tell(parse_s=9.0, times=10)
    assert one.side == least


def test_smaller_parses_are_told_once_each_and_their_end_when_it_lasts() -> None:
    one = Coarseness(full_side=640, longest=1280)
    told = []
    sides = [640, 512, 512, 416, 512, 640, 416, 512, *[640] * 29, 512, *[640] * 40, 512]
    for second, side in enumerate(sides):
        news = one.news(float(second), side)
        if news is not None:
            told.append((second, news))
    at = [second for second, _ in told]
    again_s = 8 + 29 + 1 + 30  # the first of the last forty, and thirty seconds
    assert at == [1, 3, again_s, len(sides) - 1]
    assert "at 512 pixels" in told[0][1]
    assert "below about 22 pixels" in told[0][1]  # 9 in the copy
    assert "at 416 pixels" in told[1][1]
    assert told[2][1] == "people are looked for at 640 pixels again"


def test_a_parse_copy_that_is_as_large_as_the_picture_is_not_told() -> None:
    one = Coarseness(full_side=640, longest=320)
    assert one.news(0.0, 320) is None
    assert one.news(1.0, 256) is not None


class Slow:
    """Takes longer than a cover may grow old."""

    def parse(
        self, bgr: NDArray[np.uint8], *, frame_id: int, look: Look = Look.FULL
    ) -> ParseResult:
        time.sleep(0.45)
        return faulty.good_result(bgr.shape[0], bgr.shape[1], frame_id)

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_run_tells_that_small_heads_go_unseen() -> None:
    with Performance(Slow(), live={"parse_side": 320, "min_parse_side": 160}) as stage:
        give_up_s = time.monotonic() + PATIENCE_S
        while not any("cannot keep up" in notice for notice in stage.notices):
            assert time.monotonic() < give_up_s, stage.notices
            time.sleep(0.05)
        assert stage.run.facts()["parse_side"] < 320
