"""Live: nothing before the first looks, ages for each kind of look, answers that come late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2fp_stream.core.plan import Why
from m2fp_stream.pipeline.live.follow import Follower, LookOrder, Rates, Verdict
from m2fp_stream.pipeline.solver.records import PartOrder, Reach
from m2fp_stream.tracking.motion import Motion
from m2fp_stream.tracking.sightings import Body, Face
from m2fp_stream.tracking.turned import TURNS, TurnedLook

from .test_solver import (
    CUT,
    HEIGHT,
    STILL,
    WIDTH,
    Mask,
    body_of,
    box_mask,
    face_at,
    hidden,
    moving,
    planes,
)

RATE = 25
FRAME_S = 1 / RATE
SHE = face_at(200, 120)
HE = face_at(450, 140)
KEPT_S = 2.0
REMEMBERED_S = 15.0
"""So long it is known when a frame was; what was seen in it, for `KEPT_S`."""


def head_of(face: Face) -> Mask:
    return box_mask(face.box)


class Stand:
    """A follower that is told of frames and answers as the live pipeline tells it."""

    def __init__(self, *, rate: float = RATE, hide: Any = "head", **rates: Any) -> None:
        self.rates = Rates(**rates)
        self.follower = Follower(
            size_wh=(WIDTH, HEIGHT),
            map_wh=(WIDTH, HEIGHT),
            rate=rate,
            hidden=hidden(hide),
            rates=self.rates,
        )
        self.now_s, self.next_id = 100.0, 0
        self.time_s: dict[int, float] = {}

    def add(
        self,
        *faces: Face,
        motion: Motion = STILL,
        start: Why | None = None,
        seconds: float = FRAME_S,
        late: bool = False,
    ) -> int:
        """Shows a frame in which a look saw `faces`; `late`: it is not answered yet."""
        number = self._next(seconds)
        seen = None if late else list(faces)
        self.follower.add(number, self.now_s, motion, seen, start=start)
        return number

    def unknown(self, why: Why = Why.UNIFORM) -> int:
        number = self._next(FRAME_S)
        self.follower.unknown(number, self.now_s, why)
        return number

    def _next(self, seconds: float) -> int:
        self.now_s += seconds
        number, self.next_id = self.next_id, self.next_id + 1
        self.time_s[number] = self.now_s
        return number

    def order(self, *, near: bool = True, far: bool = True) -> LookOrder | None:
        """Returns the first of what is wanted."""
        return next(iter(self.orders(near=near, far=far)), None)

    def orders(
        self, *, near: bool = True, far: bool = True, middle_s: float = 0.0
    ) -> list[LookOrder]:
        return self.follower.wants(near=near, far=far, middle_s=middle_s)

    def first(self, *bodies: Body) -> LookOrder:
        """Answers the look that comes before all others."""
        order = self.order()
        assert order is not None
        assert order.first
        assert order.reach is Reach.FAR
        self.follower.people(order.frame_id, list(bodies), Reach.FAR)
        return order

    def opened(self, *faces: Face) -> int:
        """Shows a first frame that is known at once."""
        number = self.add(*faces, start=Why.NO_PARSE)
        self.first(*map(body_of, faces))
        return number

    def waits_for_first(self, seconds: float, *faces: Face) -> tuple[int, int]:
        """Shows frames while the first look hangs; returns its frame and the last one."""
        first = number = self.add(*faces, start=Why.NO_PARSE)
        order = self.order()
        assert order is not None
        assert order.first
        while self.now_s - self.time_s[first] < seconds:
            number = self.add(*faces)
            again = self.order()
            assert again is None or not again.first
        return first, number

    def run(self, count: int, *faces: Face, kinds: str = "people far") -> list[int]:
        """Shows frames; looks for people of these kinds are answered at once, others never."""
        numbers = []
        for _ in range(count):
            numbers.append(self.add(*faces))
            order = self.order()
            if order is None or order.reach is None:
                continue
            if "far" in kinds.split() if order.reach is Reach.FAR else "people" in kinds.split():
                bodies = [body_of(face) for face in faces]
                self.follower.people(order.frame_id, bodies, order.reach)
        return numbers

    def until_rate(self, rate: float, *faces: Face) -> int:
        """Shows frames at another rate until it is taken for true; returns the last one."""
        for _ in range(30):
            number = self.add(*faces, seconds=1 / rate)
            if self.follower.interval_s == pytest.approx(1 / rate):
                return number
        raise AssertionError("it was never believed")

    def verdict(self, number: int) -> Verdict:
        return self.follower.verdict(number)

    def why(self, number: int) -> Why | None:
        """Why nothing is known of a frame; None where something is."""
        verdict = self.verdict(number)
        return verdict.why if verdict.cover is None else None

    def share(self, number: int, area: Mask) -> float:
        """The share of an area that is covered."""
        verdict = self.verdict(number)
        assert verdict.cover is not None, verdict.why
        return float((verdict.cover.parts[area] > 0).mean())


# --- nothing before the first looks (P4) ---


def test_nothing_is_known_before_faces_and_people_were_looked_for_in_the_whole_picture() -> None:
    stand = Stand()
    first = stand.add(SHE, start=Why.NO_PARSE)
    assert stand.why(first) is Why.NO_PARSE
    stand.follower.people(first, [body_of(SHE)], Reach.MIDDLE)
    assert stand.why(first) is Why.NO_PARSE  # who is small was not looked for
    stand.follower.people(first, [body_of(SHE)], Reach.FAR)
    assert stand.why(first) is None
    assert stand.share(first, head_of(SHE)) == 1.0


def test_people_alone_are_not_enough() -> None:
    stand = Stand()
    first = stand.add(start=Why.NO_PARSE, late=True)
    stand.first()
    assert stand.why(first) is Why.NO_PARSE
    stand.follower.late_faces(first, [SHE])
    assert stand.share(first, head_of(SHE)) == 1.0


def test_frames_before_the_first_answer_are_known_when_it_comes() -> None:
    stand = Stand()
    first = stand.add(SHE, start=Why.NO_PARSE)
    order = stand.order()
    later = [stand.add(SHE) for _ in range(4)]
    assert {stand.why(number) for number in later} == {Why.NO_PARSE}
    assert order is not None
    stand.follower.people(order.frame_id, [body_of(SHE)], Reach.FAR)
    assert {stand.why(number) for number in (first, *later)} == {None}


def test_the_first_look_is_ordered_once_and_the_next_when_it_failed() -> None:
    stand = Stand()
    stand.add(start=Why.NO_PARSE)
    order = stand.order()
    assert order == LookOrder(0, Reach.FAR, first=True)
    stand.add()
    again = stand.order()
    assert again is None or not again.first
    stand.follower.people(0, None, Reach.FAR)
    stand.add()
    assert stand.order() == LookOrder(2, Reach.FAR, first=True)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [(None, 1.5 * KEPT_S), (None, 1.1 * REMEMBERED_S), ([], 1.1 * REMEMBERED_S)],
    ids=["fails", "fails late", "is answered too late"],
)
def test_a_first_look_that_fails_or_hangs_until_its_frame_is_forgotten_is_ordered_again(
    answer: list[Body] | None, seconds: float
) -> None:
    stand = Stand()
    first, last = stand.waits_for_first(seconds)
    stand.follower.people(first, answer, Reach.FAR)
    assert stand.why(last) is Why.NO_PARSE
    stand.add()
    order = stand.order()
    assert order is not None
    assert order.first


@pytest.mark.parametrize("seconds", [0.5, 1.5 * KEPT_S, 0.9 * REMEMBERED_S])
def test_a_first_look_that_is_answered_late_counts(seconds: float) -> None:
    """Of a slow machine; else it would order one after the other and show nothing."""
    stand = Stand()
    first, last = stand.waits_for_first(seconds, SHE)
    assert stand.why(last) is Why.NO_PARSE
    stand.follower.people(first, [body_of(SHE)], Reach.FAR)
    assert stand.why(last) is None
    assert stand.verdict(last).age_s == pytest.approx(seconds, abs=2 * FRAME_S)  # its age counts
    assert stand.share(last, head_of(SHE)) == 1.0
    stand.add(SHE)
    order = stand.order()
    assert order is not None
    assert not order.first


@pytest.mark.parametrize("seconds", [0.5, 2 * KEPT_S])
def test_whom_a_late_first_look_saw_is_covered_however_late_it_is(seconds: float) -> None:
    stand = Stand()
    first, last = stand.waits_for_first(seconds)
    stand.follower.people(first, [body_of(SHE)], Reach.FAR)
    assert stand.share(last, head_of(SHE)) > 0.8


def test_a_first_look_of_a_shot_before_that_fails_orders_none_in_this_one() -> None:
    stand = Stand()
    before = stand.add(start=Why.NO_PARSE)
    stand.order()
    stand.add(motion=CUT)
    stand.order()
    stand.follower.people(before, None, Reach.FAR)
    stand.add()
    order = stand.order()
    assert order is None or not order.first


def test_after_a_cut_nothing_is_known_until_new_first_looks() -> None:
    stand = Stand()
    before = stand.opened(SHE)
    cut = stand.add(motion=CUT)
    after = stand.add()
    assert (stand.why(cut), stand.why(after)) == (Why.CUT, Why.CUT)
    stand.follower.people(before, [], Reach.FAR)  # of the shot before
    assert stand.why(after) is Why.CUT
    assert stand.first().frame_id == after
    assert (stand.why(cut), stand.why(after)) == (None, None)
    assert stand.share(after, head_of(SHE)) == 0.0


def test_frames_of_the_shot_before_a_cut_are_judged_by_it() -> None:
    stand = Stand()
    stand.opened(SHE)
    numbers = stand.run(5, SHE)
    stand.add(HE, motion=CUT)
    for number in numbers:
        assert stand.share(number, head_of(SHE)) == 1.0
        assert stand.share(number, head_of(HE)) == 0.0
    late = stand.add(motion=CUT)
    assert stand.why(numbers[-1]) is not None  # of two shots ago nothing is held
    assert stand.why(late) is Why.CUT


def test_a_shot_that_ends_before_its_first_looks_are_answered_stays_unknown() -> None:
    stand = Stand()
    stand.opened()
    short = stand.add(SHE, motion=CUT)
    stand.order()
    stand.add(motion=CUT)
    stand.follower.people(short, [body_of(SHE)], Reach.FAR)
    assert stand.why(short) is Why.CUT


@pytest.mark.parametrize("why", [Why.RECONNECTED, Why.NO_PARSE])
def test_a_start_says_why_nothing_is_known(why: Why) -> None:
    stand = Stand()
    stand.opened(SHE)
    stand.add(SHE)
    numbers = [stand.add(SHE, start=why), stand.add(SHE)]
    assert [stand.why(number) for number in numbers] == [why, why]


def test_an_unknown_frame_ends_the_shot_and_the_next_one_begins_one() -> None:
    stand = Stand()
    stand.opened(SHE)
    good = stand.add(SHE)
    bad = stand.unknown(Why.UNIFORM)
    assert stand.order() is None  # no look at it
    after = stand.add(SHE)
    assert stand.why(good) is None
    assert stand.why(bad) is Why.UNIFORM
    assert stand.why(after) is Why.NO_PARSE
    stand.first(body_of(SHE))
    assert stand.why(after) is None
    assert stand.why(bad) is Why.UNIFORM


def test_a_frame_that_was_added_may_turn_out_to_be_unknown() -> None:
    stand = Stand()
    stand.opened(SHE)
    bad = stand.add(SHE)
    stand.follower.unknown(bad, stand.now_s, Why.TRACKING_FAILED)
    assert stand.why(bad) is Why.TRACKING_FAILED
    after = stand.add(SHE)
    assert stand.why(after) is Why.NO_PARSE
    for _ in range(round(2 * KEPT_S * RATE)):
        stand.add(SHE)
    assert stand.verdict(bad).cover is None


@pytest.mark.parametrize("rate", [0.5, 1.0, 120.0])
def test_where_frames_come_at_another_rate_than_was_said_all_begins_anew(rate: float) -> None:
    """Ways and times that count in frames mean something else."""
    stand = Stand()
    stand.opened(SHE)
    number = stand.until_rate(rate, SHE)
    assert stand.why(number) is Why.NO_PARSE
    stand.first(body_of(SHE))
    assert stand.why(number) is None
    assert stand.share(number, head_of(SHE)) == 1.0


def test_a_slow_camera_is_known_to_be_one_at_its_third_frame() -> None:
    stand = Stand()
    stand.opened()
    stand.add(seconds=2.0)
    stand.add(seconds=2.0)
    assert stand.follower.interval_s == pytest.approx(2.0)


@pytest.mark.parametrize(
    "gaps",
    [(0.001, 0.001), (0.3, 0.001), (1.5,), (0.0005,) * 4],
    ids=["burst", "both", "stall", "4"],
)
@pytest.mark.parametrize("before", [0, 1, 40])
def test_a_stall_or_a_burst_is_no_other_rate(before: int, gaps: tuple[float, ...]) -> None:
    """As cameras begin, and as a busy machine sees them."""
    stand = Stand()
    stand.opened(SHE)
    stand.run(before, SHE)
    for seconds in (*gaps, *[FRAME_S] * 30):
        number = stand.add(SHE, seconds=seconds)
        order = stand.order()
        assert order is None or not order.first
        if order is not None and order.reach is not None:
            stand.follower.people(number, [body_of(SHE)], order.reach)
        assert stand.why(number) is None
    assert stand.follower.interval_s == pytest.approx(FRAME_S)


def test_answers_about_frames_before_the_rate_changed_say_nothing_about_those_after() -> None:
    stand = Stand()
    stand.opened(SHE)
    before = stand.add(SHE)
    (face_order,) = (one for one in stand.follower.parts(before) if one.face)
    now = stand.until_rate(4 * RATE, HE)
    stand.first(body_of(HE))
    for _ in range(2):  # such scores would say that his face is none
        stand.follower.closer(face_order, 0.0)
    stand.follower.people(before, [body_of(SHE)], Reach.FAR)
    stand.follower.late_faces(before, [SHE])
    assert stand.share(now, head_of(HE)) == 1.0
    assert stand.share(now, head_of(SHE)) == 0.0


def test_a_slightly_other_rate_is_measured_and_nothing_is_lost() -> None:
    stand = Stand()
    stand.opened(SHE)
    for _ in range(60):
        number = stand.add(SHE, seconds=1 / 15)
        order = stand.order()
        if order is not None and order.reach is not None:
            stand.follower.people(order.frame_id, [body_of(SHE)], order.reach)
        assert stand.why(number) is None
    assert stand.follower.interval_s == pytest.approx(1 / 15, rel=0.01)


# --- ages, one for each kind of look (P3) ---


def test_a_frame_with_its_own_look_for_faces_has_no_age() -> None:
    stand = Stand()
    stand.opened(SHE)
    for number in stand.run(40, SHE):
        verdict = stand.verdict(number)
        assert verdict.own_look
        assert (verdict.age_s, verdict.parts_age_s) == (0.0, 0.0)


def test_without_looks_for_faces_the_age_grows_although_people_are_looked_for() -> None:
    stand = Stand()
    last = stand.opened(SHE)
    for _ in range(40):
        number = stand.add(late=True)
        order = stand.order()
        if order is not None and order.reach is not None:
            stand.follower.people(order.frame_id, [body_of(SHE)], order.reach)
        verdict = stand.verdict(number)
        assert not verdict.own_look
        assert verdict.age_s == pytest.approx(stand.time_s[number] - stand.time_s[last])


def test_a_late_look_for_faces_makes_its_frame_young_again() -> None:
    stand = Stand()
    stand.opened(SHE)
    late = stand.add(late=True)
    assert stand.verdict(late).age_s == pytest.approx(FRAME_S)
    moved = face_at(SHE.box.x + 6, SHE.box.y)
    stand.follower.late_faces(late, [moved])
    assert stand.verdict(late).own_look
    assert stand.verdict(late).age_s == 0
    assert stand.share(late, head_of(moved)) == 1.0


def test_without_looks_for_people_the_age_grows_although_faces_are_looked_for() -> None:
    stand = Stand()
    last = stand.opened(SHE)
    ages = [stand.verdict(number) for number in stand.run(40, SHE, kinds="")]
    seconds = [stand.time_s[one.frame_id] - stand.time_s[last] for one in ages]
    due_s = stand.rates.people_s * 1.15 + 2 * FRAME_S
    for verdict, since_s in zip(ages, seconds, strict=True):
        assert verdict.own_look
        expected_s = since_s if since_s > due_s else 0.0
        assert verdict.age_s == pytest.approx(expected_s)
    assert ages[-1].age_s > 1.0


@pytest.mark.parametrize("before", range(0, 24, 3))
def test_a_burst_after_frames_were_left_out_is_no_rate(before: int) -> None:
    """It was, at every 24th frame: two that came at once, after a stall, made 1000 a second of 25.

    Somebody who was followed then seemed to have walked on for seconds, and was open.
    """
    stand = Stand()
    stand.opened(SHE)
    stand.run(before, SHE)
    stand.follower.thinned = True
    stand.add(SHE, seconds=3 * FRAME_S)
    stand.follower.thinned = False
    for _ in range(8):
        for seconds in (0.0003, 3 * FRAME_S, 0.0003):
            number = stand.add(SHE, seconds=seconds)
            assert stand.follower.interval_s >= FRAME_S / 1.5
    assert stand.verdict(number).cover is not None


def test_frames_that_are_left_out_for_a_moment_say_nothing_of_the_cameras_rate() -> None:
    stand = Stand()
    stand.opened(SHE)
    stand.run(30, SHE)
    stand.follower.thinned = True
    for _ in range(8):
        number = stand.add(SHE, seconds=6 * FRAME_S)
    assert stand.follower.interval_s == pytest.approx(FRAME_S)
    stand.follower.thinned = False
    numbers = stand.run(30, SHE)
    assert stand.follower.interval_s == pytest.approx(FRAME_S)
    assert stand.verdict(numbers[-1]).cover is not None
    assert stand.verdict(number).cover is not None


@pytest.mark.parametrize("delay_s", [0.0, 0.2])
def test_a_look_for_people_is_overdue_when_its_age_counts_where_frames_are_judged(
    delay_s: float,
) -> None:
    stand = Stand()
    assert not stand.follower.overdue(delay_s)  # nothing is shown, nothing is late
    face = face_at(300, 100)
    stand.opened(face)
    began_s = stand.now_s
    while stand.follower.verdict(number := stand.add(face)).age_s == 0:
        assert not stand.follower.overdue(0.0)
    assert stand.follower.overdue(0.0)
    while not stand.follower.overdue(delay_s):
        number = stand.add(face)
    assert stand.follower.verdict(number).age_s == pytest.approx(stand.now_s - began_s)
    assert stand.now_s - began_s - delay_s == pytest.approx(
        1.15 * stand.rates.people_s + 2 * FRAME_S, abs=1.01 * FRAME_S
    )
    stand.follower.people(number, [body_of(face)], Reach.NEAR)
    assert not stand.follower.overdue(0.0)


def test_without_far_looks_the_age_grows_from_when_they_are_overdue() -> None:
    stand = Stand(far_s=0.6)
    last = stand.opened(SHE)
    for number in stand.run(60, SHE, kinds="people"):
        since_s = stand.time_s[number] - stand.time_s[last]
        expected_s = max(0.0, since_s - 1.5 * 0.6)
        assert stand.verdict(number).age_s == pytest.approx(expected_s)


def test_looks_at_parts_that_fail_age_the_parts_alone_until_one_succeeds() -> None:
    stand = Stand()
    stand.opened(SHE)
    (asked, *_) = stand.run(1, SHE)
    orders = stand.follower.parts(asked)
    assert orders
    stand.follower.part(next(one for one in orders if not one.face), None)
    for number in stand.run(30, SHE):
        verdict = stand.verdict(number)
        since_s = stand.time_s[number] - stand.time_s[asked]
        assert verdict.parts_age_s == pytest.approx(since_s)
        assert verdict.age_s == 0
    good = [one for one in stand.follower.parts(number) if not one.face]
    stand.follower.part(good[0], planes(FACE=head_of(SHE)))
    assert stand.verdict(number).parts_age_s == 0


def test_failures_at_parts_of_the_shot_before_are_not_this_ones() -> None:
    stand = Stand()
    stand.opened(SHE)
    (asked,) = stand.run(1, SHE)
    orders = stand.follower.parts(asked)
    stand.add(HE, motion=CUT)
    stand.first(body_of(HE))
    for order in orders:
        if order.face:
            stand.follower.closer(order, None)
        else:
            stand.follower.part(order, None)
    (number, *_) = stand.run(3, HE)
    assert stand.verdict(number).parts_age_s == 0


# --- answers that come late ---


def test_a_body_that_is_found_late_is_covered_in_its_frame_and_in_those_since() -> None:
    stand = Stand()
    stand.opened()
    asked = stand.add()
    later = [stand.add() for _ in range(4)]
    body = body_of(SHE)
    assert stand.share(later[-1], head_of(SHE)) == 0.0
    stand.follower.people(asked, [body], Reach.MIDDLE)
    for number in (asked, *later):
        assert stand.share(number, head_of(SHE)) > 0.8


def test_somebody_found_late_goes_with_the_camera() -> None:
    pan = replace(STILL, camera=np.array([[1, 0, 10], [0, 1, 0]], np.float32))
    stand = Stand()
    stand.opened()
    asked = stand.add()
    later = [stand.add(motion=pan) for _ in range(5)]
    stand.follower.people(asked, [body_of(SHE)], Reach.MIDDLE)
    carried = face_at(SHE.box.x + 50, SHE.box.y)
    assert stand.share(later[-1], head_of(carried)) > 0.8
    assert stand.share(asked, head_of(SHE)) > 0.8


def test_answers_about_forgotten_frames_change_nothing() -> None:
    stand = Stand()
    stand.opened()
    old = stand.add()
    for number in stand.run(round(2 * KEPT_S * RATE)):
        stand.verdict(number)
    stand.follower.people(old, [body_of(SHE)], Reach.FAR)
    stand.follower.late_faces(old, [SHE])
    stand.follower.turned(old, TurnedLook(1, [SHE], []))
    stand.follower.fine(old, [])
    assert stand.follower.parts(old) == []
    assert stand.share(number, head_of(SHE)) == 0.0


@pytest.mark.parametrize("seconds", [2 * KEPT_S, 1.2 * REMEMBERED_S])
def test_of_a_frame_whose_looks_are_forgotten_nothing_is_known(seconds: float) -> None:
    """Unknown, not nobody (P2), though it is still known when it was."""
    stand = Stand()
    old = stand.opened(SHE)
    assert stand.why(old) is None
    stand.run(round(seconds * RATE), SHE)
    assert stand.verdict(old).cover is None


def test_faces_are_taken_once() -> None:
    stand = Stand()
    stand.opened()
    number = stand.add(SHE)
    stand.follower.late_faces(number, [HE])
    assert stand.share(number, head_of(HE)) == 0.0


def test_a_turn_of_the_dial_covers_whole_people_at_once() -> None:
    stand = Stand()
    number = stand.opened(SHE)
    legs = box_mask(body_of(SHE).box)
    assert stand.share(number, legs) < 0.5
    stand.follower.hide(hidden("person"))
    assert stand.share(number, legs) > 0.95
    stand.follower.hide(hidden("head"))
    assert stand.share(number, legs) < 0.5


# --- which looks are wanted ---


def test_a_shot_has_all_turned_copies_looked_at_once_the_first_look_is_answered() -> None:
    stand = Stand()
    stand.opened(SHE)
    number = stand.add(SHE)
    assert stand.order() == LookOrder(number, None, TURNS)


def test_somebody_who_hangs_upside_down_is_found_by_turned_looks() -> None:
    """The picture is upright to nobody else: no upright look sees him."""
    stand = Stand()
    stand.opened()
    number = stand.add()
    order = stand.order()
    assert order is not None
    assert order.turns == TURNS
    in_turned = face_at(WIDTH - 300, HEIGHT - 200)  # of the copy turned by half
    for turn in order.turns:
        seen = [in_turned] if turn == 2 else []
        bodies = [body_of(in_turned)] if turn == 2 else []
        stand.follower.turned(number, TurnedLook(turn, seen, bodies))
    assert stand.share(number, box_mask(face_at(300, 200).box)) > 0.9


def test_turned_looks_that_failed_come_again() -> None:
    stand = Stand(far_s=0.5)
    stand.opened(SHE)
    number = stand.add(SHE)
    stand.order()
    stand.follower.turned(number, None)
    turns = set()
    for _ in range(20):
        number = stand.add(SHE)
        order = stand.order()
        if order is not None and order.reach is not None:
            turns |= set(order.turns)
            stand.follower.people(number, [body_of(SHE)], order.reach)
    assert turns == set(TURNS)


def test_while_far_looks_are_busy_a_nearer_one_is_made_and_the_far_one_stays_owed() -> None:
    stand = Stand(far_s=0.5)
    stand.opened(SHE)
    reaches = []
    for _ in range(20):
        number = stand.add(SHE)
        order = stand.order(far=False)
        if order is not None and order.reach is not None:
            reaches.append(order.reach)
            stand.follower.people(number, [body_of(SHE)], order.reach)
    assert set(reaches) == {Reach.NEAR}  # the person is large
    stand.add(SHE)
    stand.order()  # turned copies first
    stand.add(SHE)
    order = stand.order()
    assert order is not None
    assert order.reach is Reach.FAR


def test_while_near_looks_are_busy_none_is_ordered_and_the_look_stays_owed() -> None:
    stand = Stand()
    stand.opened(SHE)
    stand.add(SHE)
    stand.order()
    for _ in range(20):
        stand.add(SHE)
        order = stand.order(near=False)
        assert order is None or order.reach in (None, Reach.FAR)
    stand.add(SHE)
    order = stand.order()
    assert order is not None
    assert order.reach is not None


def until_middle(stand: Stand, middle_s: float) -> LookOrder:
    """Shows an empty room until a look of middle reach is due; returns what is ordered first."""
    for _ in range(60):
        number = stand.add()
        for order in stand.orders(middle_s=middle_s):
            if order.reach is None:
                continue
            if order.reach is Reach.MIDDLE or stand.follower.owes_middle:
                return order
            stand.follower.people(number, [], order.reach)
    raise AssertionError("none was ordered")


def test_a_look_of_middle_reach_is_made_at_once_where_it_is_answered_in_time() -> None:
    stand = Stand(people_s=0.24, middle_s=0.5, far_s=60.0, longest_s=0.36)
    stand.opened()
    order = until_middle(stand, middle_s=0.1)  # and .24 since the last one
    assert order.reach is Reach.MIDDLE
    assert not stand.follower.owes_middle


def test_where_it_would_be_late_a_nearer_look_comes_first_and_the_middle_one_with_the_next() -> (
    None
):
    stand = Stand(people_s=0.24, middle_s=0.5, far_s=60.0, longest_s=0.36)
    stand.opened()
    order = until_middle(stand, middle_s=0.2)
    assert order.reach is Reach.NEAR
    assert stand.follower.owes_middle
    stand.add()
    assert stand.orders(near=False, middle_s=0.2) == []
    assert stand.follower.owes_middle  # nobody had time for it
    stand.follower.people(order.frame_id, [], Reach.NEAR)
    number = stand.add()
    assert stand.orders(middle_s=0.2) == [LookOrder(number, Reach.MIDDLE)]
    assert not stand.follower.owes_middle


def test_a_cut_owes_no_look_of_middle_reach() -> None:
    stand = Stand(people_s=0.24, middle_s=0.5, far_s=60.0, longest_s=0.36)
    stand.opened()
    until_middle(stand, middle_s=0.2)
    stand.add(motion=CUT)
    assert not stand.follower.owes_middle


def test_a_look_for_people_that_failed_is_owed() -> None:
    stand = Stand()
    stand.opened(SHE)
    stand.add(SHE)
    stand.order()
    for _ in range(20):
        number = stand.add(SHE)
        order = stand.order()
        if order is not None and order.reach is not None:
            break
    assert order is not None
    assert order.reach is not None
    stand.follower.people(number, None, order.reach)
    number = stand.add(SHE)
    assert stand.order() == LookOrder(number, order.reach)


def test_rates_may_change_while_it_runs() -> None:
    stand = Stand(far_s=5.0, middle_s=5.0, people_s=0.2)
    stand.opened(SHE)

    def looks() -> int:
        before = stand.follower.looks["people"]
        for _ in range(50):
            number = stand.add(SHE, motion=moving(SHE.box))
            order = stand.order()
            if order is not None and order.reach is not None:
                stand.follower.people(number, [body_of(SHE)], order.reach)
        return stand.follower.looks["people"] - before

    often = looks()
    stand.follower.rates(Rates(far_s=5.0, middle_s=5.0, people_s=1.0))
    assert 0 < looks() < often / 2


def test_parts_are_looked_at_as_often_as_asked_and_so_many_a_frame() -> None:
    stand = Stand(parts_a_frame=1, parts_s=0.2)
    stand.opened(SHE, HE)
    numbers = stand.run(25, SHE, HE)
    orders: list[PartOrder] = []
    for number in numbers:
        here = [one for one in stand.follower.parts(number) if not one.face]
        assert len({one.track_id for one in here}) <= 1
        orders += here
    assert len({one.track_id for one in orders}) == 2


# --- whatever comes ---

steps = st.lists(
    st.one_of(
        st.tuples(st.just("frame"), st.lists(st.sampled_from([SHE, HE]), unique=True)),
        st.tuples(st.just("late"), st.none()),
        st.tuples(st.just("cut"), st.none()),
        st.tuples(st.just("unknown"), st.none()),
        st.tuples(st.just("start"), st.none()),
        st.tuples(st.just("faces"), st.integers(0, 12)),
        st.tuples(st.just("people"), st.tuples(st.integers(0, 12), st.sampled_from(list(Reach)))),
        st.tuples(st.just("failed"), st.integers(0, 12)),
        st.tuples(st.just("turned"), st.integers(0, 12)),
        st.tuples(st.just("parts"), st.booleans()),
        st.tuples(st.just("slow"), st.floats(0.001, 4)),
    ),
    min_size=1,
    max_size=30,
)


@given(steps)
@settings(max_examples=60, deadline=None)
def test_in_any_sequence_nothing_is_shown_before_the_looks_of_its_own_shot(
    table: Sequence[tuple[str, Any]],
) -> None:
    stand = Stand()
    shot_of: dict[int, int] = {}
    known: dict[int, set[str]] = {}
    shot = 0
    begin = True
    orders: list[PartOrder] = []

    def saw(number: int, *kinds: str) -> None:
        if shot_of.get(number) == shot:
            known.setdefault(shot, set()).update(kinds)

    for what, detail in table:
        about = stand.next_id - 1 - detail if isinstance(detail, int) else -1
        if what in ("frame", "late", "cut", "start", "slow"):
            rate_before = stand.follower.interval_s
            begin = begin or what in ("cut", "start")
            number = stand.add(
                *(detail if what == "frame" else ()),
                motion=CUT if what == "cut" else STILL,
                start=Why.RECONNECTED if what == "start" else None,
                seconds=detail if what == "slow" else FRAME_S,
                late=what == "late",
            )
            again = not 0.5 < rate_before / stand.follower.interval_s < 2
            shot += begin or again
            begin = False
            shot_of[number] = shot
            if what != "late":
                saw(number, "faces")
            stand.order()
            orders += stand.follower.parts(number)
        elif what == "unknown":
            shot_of[stand.unknown()] = -1
            begin = True
        elif what == "faces":
            stand.follower.late_faces(about, [SHE])
            saw(about, "faces")
        elif what == "people":
            about = stand.next_id - 1 - detail[0]
            stand.follower.people(about, [body_of(HE)], detail[1])
            saw(about, "people", *(("far",) if detail[1] is Reach.FAR else ()))
        elif what == "failed":
            stand.follower.people(about, None, Reach.FAR)
        elif what == "turned":
            stand.follower.turned(about, TurnedLook(2, [SHE], [body_of(SHE)]))
        elif orders:
            order = orders.pop()
            if order.face:
                stand.follower.closer(order, 0.9 if detail else None)
            else:
                stand.follower.part(order, planes() if detail else None)
    for number, its in shot_of.items():
        verdict = stand.verdict(number)
        assert verdict.frame_id == number
        assert verdict.age_s >= 0
        assert verdict.parts_age_s >= 0
        if verdict.cover is not None:
            assert its >= 0
            assert known.get(its, set()) == {"faces", "people", "far"}
            assert verdict.cover.parts.shape == (HEIGHT, WIDTH)


def test_who_makes_far_looks_makes_middle_ones_that_would_always_be_late() -> None:
    stand = Stand(people_s=0.24, middle_s=0.5, far_s=60.0, longest_s=0.36)
    stand.opened()
    reaches = []
    for _ in range(40):
        number = stand.add()
        for order in stand.orders(middle_s=0.5):
            if order.reach is not None:
                reaches.append((order.reach, order.slow))
                stand.follower.people(number, [], order.reach)
    assert set(reaches) == {(Reach.NEAR, False), (Reach.MIDDLE, True)}


def test_a_frame_that_gets_a_far_look_gets_the_nearer_one_that_is_due_too() -> None:
    """Of a slow camera every frame is due for both: far ones alone would age the picture."""
    stand = Stand(people_s=0.04, far_s=0.5)
    stand.opened(SHE)
    both = 0
    for _ in range(40):
        number = stand.add(SHE)
        orders = [one for one in stand.orders() if one.reach is not None]
        for one in orders:
            assert one.reach is not None
            stand.follower.people(number, [body_of(SHE)], one.reach)
        both += len(orders) == 2
    assert both > 0
