"""What gives way where a machine cannot keep up, in which order, and how it comes back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2fp_stream.pipeline.live.follow import Rates
from m2fp_stream.pipeline.live.schedule import Coarseness, Load, Took

LATE_S = 0.4
RATES = Rates(people_s=0.25, middle_s=1.0, far_s=2.0, parts_s=0.2, parts_a_frame=3)
SIDES = (508, 403, 320)
SHARES = (5 / 6, 2 / 3, 1 / 2, 1 / 3)
FEW_LATE = 2
"""Of thirty frames: enough to give way, step by step."""
LAST_STEP = 11


def load(side: int = 640, smallest: int = 320, rates: Rates = RATES) -> Load:
    return Load(rates, side=side, smallest_side=smallest, late_s=LATE_S)


class Clock:
    """Observes once a second."""

    def __init__(self, one: Load, captured: int = 30) -> None:
        self._one, self._captured, self._now_s = one, captured, 100.0

    def tell(self, *, late: int = 0, people_s: float | None = 0.1, times: int = 1) -> None:
        for _ in range(times):
            self._now_s += 1.0
            self._one.observe(self._now_s, captured=self._captured, late=late, people_s=people_s)

    def overload_to_the_end(self) -> None:
        self.tell(late=10, times=30)


State = tuple[float, int, float, float, float, int, float]


def state(one: Load) -> State:
    rates = one.rates
    return (
        rates.parts_s,
        rates.parts_a_frame,
        rates.people_s,
        rates.middle_s,
        rates.far_s,
        one.side,
        one.share,
    )


def steps_of(one: Load) -> list[State]:
    """What is looked at after each step, from as configured to where nothing more can give way."""
    clock = Clock(one)
    seen = [state(one)]
    for _ in range(30):
        clock.tell(late=FEW_LATE)
        if state(one) != seen[-1]:
            seen.append(state(one))
    return seen


def test_where_all_is_in_time_all_is_as_configured() -> None:
    one = load()
    Clock(one).tell(people_s=0.08, times=60)
    assert (one.step, one.rates, one.side, one.share) == (0, RATES, 640, 1.0)


def test_parts_give_way_first_then_people_then_the_size_then_the_frame_rate() -> None:
    seen = steps_of(load())
    assert seen == [
        (0.2, 3, 0.25, 1.0, 2.0, 640, 1.0),
        (0.4, 2, 0.25, 1.0, 2.0, 640, 1.0),
        (0.8, 1, 0.25, 1.0, 2.0, 640, 1.0),
        (0.8, 1, 0.25, 2.0, 4.0, 640, 1.0),
        (0.8, 1, 0.25, 4.0, 8.0, 640, 1.0),
        *((0.8, 1, 0.25, 4.0, 8.0, side, 1.0) for side in SIDES),
        *((0.8, 1, 0.25, 4.0, 8.0, 320, share) for share in SHARES),
    ]


def test_looks_for_people_at_the_smallest_size_never_give_way() -> None:
    """Without them everybody would be covered whole."""
    assert {people_s for _, _, people_s, *_ in steps_of(load())} == {RATES.people_s}


@pytest.mark.parametrize(("late", "at_once"), [(FEW_LATE, 1), (10, 3)])
def test_a_step_has_time_to_show_what_it_brings(late: int, at_once: int) -> None:
    one = load()
    one.observe(100.0, captured=30, late=late, people_s=None)
    assert one.step == at_once
    one.observe(101.0, captured=30, late=late, people_s=None)
    one.observe(101.4, captured=30, late=late, people_s=None)
    assert one.step == at_once
    one.observe(101.5, captured=30, late=late, people_s=None)
    assert one.step == 2 * at_once


@pytest.mark.parametrize(("late", "step"), [(2, 0), (3, 1), (10, 1), (11, 3)])
def test_a_late_frame_among_many_is_no_overload_and_many_are_much(late: int, step: int) -> None:
    one = load()
    one.observe(100.0, captured=100, late=late, people_s=0.1)
    assert one.step == step


@pytest.mark.parametrize(
    ("people_s", "step"),
    [(LATE_S, 0), (LATE_S + 0.01, 1), (1.49 * LATE_S, 1), (1.51 * LATE_S, 3)],
)
def test_people_who_are_a_little_late_are_one_step_and_much_later_three(
    people_s: float, step: int
) -> None:
    one = load()
    one.observe(100.0, captured=30, late=0, people_s=people_s)
    assert one.step == step


def test_three_steps_at_once_pass_over_none_of_those_between() -> None:
    """Frames that are left out are seen: of them one step after the other."""
    one = load()
    clock = Clock(one)
    for step in (3, 6, 8, 9, 10, LAST_STEP, LAST_STEP):
        clock.tell(late=10, times=2)
        assert one.step == step
    assert steps_of(load())[LAST_STEP] == state(one)


@pytest.mark.parametrize(
    ("people_s", "delay_s", "lead_s"),
    [(0.08, 0.0, 0.0), (0.1, 0.0, 0.02), (0.3, 0.0, 0.125), (0.2, 0.2, 0.0), (0.3, 0.2, 0.08)],
)
def test_where_answers_take_long_looks_for_people_are_ordered_sooner(
    people_s: float, delay_s: float, lead_s: float
) -> None:
    """So that they come before their age counts; aligned, frames are judged later, too."""
    one = Load(RATES, side=640, smallest_side=320, late_s=LATE_S, delay_s=delay_s)
    Clock(one).tell(people_s=people_s)
    assert one.rates.lead_s == pytest.approx(lead_s)
    assert one.rates.people_s == RATES.people_s  # what is promised stays
    Clock(one).tell(people_s=0.05)
    assert one.rates.lead_s == 0


def test_a_look_that_is_waited_for_gets_the_time_of_frames() -> None:
    one = load()
    few = pytest.approx(8 / 30)
    assert one.taken(30.0, waits=True, overdue=True) == 1.0  # nothing says that it is slow
    Clock(one).tell(late=FEW_LATE)
    assert one.taken(30.0, waits=False, overdue=False) == 1.0
    assert one.taken(30.0, waits=True, overdue=False) == few
    assert one.taken(30.0, waits=False, overdue=True) == 0.5
    assert one.taken(12.0, waits=False, overdue=True) == pytest.approx(8 / 12)
    assert one.taken(5.0, waits=True, overdue=True) == 1.0  # of a slow camera every frame counts
    Clock(one).overload_to_the_end()
    assert one.taken(30.0, waits=False, overdue=True) == SHARES[-1]


def test_how_long_looks_took_is_told_once_and_of_those_asked_about() -> None:
    took = Took("people", "faces")
    assert took.median("people") is None
    for seconds in (0.3, 0.1, 0.2):
        took.add("people", seconds)
        took.add("parts", seconds)
    assert took.median("people") == 0.2
    assert took.median("people") is None
    assert took.median("parts") is None


def test_what_moves_is_looked_at_again_more_rarely_with_the_looks_for_people() -> None:
    one = load()
    clock, seen = Clock(one), []
    for _ in range(5):
        seen.append(round(one.rates.motion_s / RATES.motion_s))
        clock.tell(late=FEW_LATE, times=2)
    assert seen == [1, 1, 1, 2, 4]


def test_where_people_alone_are_late_everything_gives_way() -> None:
    """Everybody would be covered whole: fewer frames are better."""
    one = load()
    Clock(one).tell(people_s=LATE_S + 0.01, times=60)
    assert one.step == LAST_STEP
    assert (one.side, one.share) == (320, 1 / 3)
    assert one.rates.far_s == 8.0


def test_people_who_are_late_beside_late_frames_do_not_hold_up_the_other_steps() -> None:
    one = load()
    Clock(one).tell(late=10, people_s=LATE_S + 0.01, times=60)
    assert (one.side, one.share) == (320, 1 / 3)


@pytest.mark.parametrize(("captured", "share"), [(9, 1), (10, 5 / 6), (12, 2 / 3), (15, 2 / 3)])
def test_eight_frames_a_second_are_taken_of_the_slowest_camera(captured: int, share: float) -> None:
    one = load()
    Clock(one, captured).tell(late=5, times=60)
    assert (one.side, one.share) == (320, share)


def test_a_second_without_frames_is_no_overload() -> None:
    one = load()
    Clock(one, captured=0).tell(people_s=None, times=10)
    assert one.step == 0


# --- calm ---


def test_calm_takes_back_what_gave_way_last_one_step_at_a_time() -> None:
    one = load()
    there = steps_of(one)
    clock = Clock(one)
    clock._now_s = 1000.0
    back = [state(one)]
    for _ in range(600):
        clock.tell()
        if state(one) != back[-1]:
            back.append(state(one))
    assert back == there[::-1]


def test_calm_is_waited_for_before_each_step_back() -> None:
    one = load()
    clock = Clock(one)
    clock.tell(late=10, times=6)
    gave = one.step
    assert gave > 1
    clock.tell(times=5)
    assert one.step == gave
    clock.tell(late=10)  # the calm starts anew
    gave = one.step
    clock.tell(times=5)
    assert one.step == gave


def test_slow_people_are_no_calm() -> None:
    one = load()
    clock = Clock(one)
    clock.overload_to_the_end()
    gave = one.step
    clock.tell(people_s=LATE_S + 0.01, times=60)
    assert one.step == gave


def test_without_an_answer_calm_still_brings_looks_back() -> None:
    one = load()
    clock = Clock(one)
    clock.overload_to_the_end()
    clock.tell(people_s=None, times=200)
    assert one.step == 0


def test_what_the_machine_could_not_do_is_tried_again_later_each_time() -> None:
    one = load()
    clock = Clock(one)
    waits = []
    for _ in range(8):
        while one.step == 0:
            clock.tell(late=FEW_LATE)
        waits.append(0)
        while one.step:
            clock.tell()
            waits[-1] += 1
    assert all(later >= earlier for earlier, later in pairwise(waits))
    assert waits[0] <= 6
    assert waits[3] >= 4 * 5
    assert max(waits) <= 301


def test_a_step_that_held_for_long_is_soon_tried_again() -> None:
    one = load()
    clock = Clock(one)
    for _ in range(4):
        while one.step == 0:
            clock.tell(late=FEW_LATE)
        while one.step:
            clock.tell()
    clock.tell(times=60)  # now it can
    clock.tell(late=FEW_LATE)
    assert one.step == 1
    clock.tell(times=6)
    assert one.step == 0


# --- bounds ---


@pytest.mark.parametrize(("smallest", "least"), [(160, 160), (480, 480), (900, 640)])
def test_no_look_is_smaller_than_allowed(smallest: int, least: int) -> None:
    one = load(smallest=smallest)
    Clock(one).overload_to_the_end()
    assert one.side == least


def test_no_more_parts_a_frame_than_configured() -> None:
    one = load(rates=Rates(parts_a_frame=1))
    Clock(one).tell(late=10)
    assert one.rates.parts_a_frame == 1


@given(
    side=st.integers(160, 2048),
    smallest=st.integers(160, 2048),
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
def test_whatever_happens_looks_stay_within_their_bounds(
    side: int, smallest: int, told: list[tuple[float, int, int, float | None]]
) -> None:
    one = load(side, smallest)
    now_s = 0.0
    for seconds, captured, late, people_s in told:
        now_s += seconds
        before = one.step
        one.observe(now_s, captured=captured, late=late, people_s=people_s)
        much = 10 * late > max(1, captured) or (people_s or 0.0) > 1.5 * LATE_S
        assert before - 1 <= one.step <= before + (3 if much else 1)
        assert min(side, smallest) <= one.side <= side
        assert 1 / 3 <= one.share <= 1
        rates = one.rates
        assert RATES.parts_s <= rates.parts_s <= 4 * RATES.parts_s
        assert 1 <= rates.parts_a_frame <= RATES.parts_a_frame
        assert rates.people_s == RATES.people_s
        assert RATES.far_s <= rates.far_s <= 4 * RATES.far_s
        if late > captured:
            assert one.step >= before


# --- what is told ---


def test_smaller_looks_are_told_once_each_and_their_end_when_it_lasts() -> None:
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
    assert told[2][1] == "faces are looked for at 640 pixels again"


def test_a_copy_that_is_as_large_as_the_picture_is_not_told() -> None:
    one = Coarseness(full_side=640, longest=320)
    assert one.news(0.0, 320) is None
    assert one.news(1.0, 256) is not None


def test_where_looks_for_faces_take_most_of_the_time_what_can_be_rarer_is_so_at_once() -> None:
    one = load()
    one.observe(100.0, captured=30, late=0, people_s=0.1, faces_share=0.51)
    assert (one.side, one.share) == (640, 1.0)
    assert one.rates.parts_s > RATES.parts_s
    assert one.rates.far_s > RATES.far_s
    step = one.step
    one.observe(101.0, captured=30, late=0, people_s=0.1, faces_share=0.51)
    assert one.step == step
