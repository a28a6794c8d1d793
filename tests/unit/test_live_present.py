"""What is not judged in time is the card, in order, and no raw frame is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.compositor.compose import Compositor
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import CoverState, Effect, Parsed, Propagated, Unknown, Why
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import CoverLevel, SafeFrame
from m2fp_stream.pipeline.live.control import PrivacyDial, PrivacyRequest
from m2fp_stream.pipeline.live.follow import Verdict
from m2fp_stream.pipeline.live.outlets import Outlet
from m2fp_stream.pipeline.live.present import Ages, FrameStates, Presenter
from m2fp_stream.pipeline.live.stats import LiveStats
from m2fp_stream.pipeline.solver.records import Cover, Laid
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.sinks.base import Sink
from m2fp_stream.tracking.heads import Rect
from tests.kit.stage import backdrop
from tests.kit.wait import PATIENCE_S, wait_until

pytestmark = pytest.mark.paced

Picture = NDArray[np.uint8]
TIME_BASE = Fraction(1, 1_000_000)
SIZE_WH = 64, 36
AGES = Ages(person_s=0.5, frame_s=1.0)

HEAD, BODY = np.zeros(SIZE_WH[::-1], np.uint8), np.zeros(SIZE_WH[::-1], np.uint8)
HEAD[4:12, 20:30] = 1
BODY[4:34, 16:34] = 1
BOX = Rect(16, 4, 34, 34)


def verdict(
    number: int,
    age_s: float = 0.0,
    *,
    parts_age_s: float = 0.0,
    own_look: bool = False,
    bodies: Sequence[Rect] = (BOX,),
    parts: Picture = HEAD,
) -> Verdict:
    """One whose head is found and covered."""
    labels = (parts * np.uint8(Label.FACE)).astype(np.uint8)
    laid = tuple(Laid(number, number, box) for number, box in enumerate(bodies, 1))
    cover = Cover(labels, parts.copy(), 0, laid)
    return Verdict(number, cover, age_s, parts_age_s, own_look)


def raw_frame(number: int = 0, buffer: Picture | None = None, *, ahead_s: float = 0.0) -> RawFrame:
    now_ns = time.monotonic_ns()
    return RawFrame(
        backdrop(number, *SIZE_WH) if buffer is None else buffer,
        frame_id=number,
        pts=now_ns // 1000,
        time_base=TIME_BASE,
        captured_ns=now_ns + round(ahead_s * 1e9),
    )


# --- states ---


def state_of(one: Verdict | None, **more: Any) -> CoverState:
    states = FrameStates(Policy(PolicyOptions()), AGES)
    return states.of(raw_frame(), one, **more)


def hidden(state: CoverState) -> Picture:
    assert isinstance(state, Parsed | Propagated)
    return (state.plan.cover > 0).astype(np.uint8)


def parts_of(state: CoverState) -> set[Label]:
    assert isinstance(state, Parsed | Propagated)
    return {fill.part for fill in state.plan.fills}


@pytest.mark.parametrize("age_s", [0.0, 0.2, 0.49, 0.4999])
def test_parts_are_covered_while_the_looks_are_young(age_s: float) -> None:
    state = state_of(verdict(0, age_s))
    assert isinstance(state, Propagated)
    assert state.age_s == age_s
    assert np.array_equal(hidden(state), HEAD)
    assert parts_of(state) == {Label.FACE}


@pytest.mark.parametrize("age_s", [0.5, 0.7, 0.999])
def test_the_whole_person_is_covered_from_half_a_second_on(age_s: float) -> None:
    state = state_of(verdict(0, age_s))
    assert np.array_equal(hidden(state), BODY | HEAD)
    assert parts_of(state) == {Label.HUMAN}


@pytest.mark.parametrize("parts_age_s", [0.5, 1.0, 60.0])
def test_where_looks_at_parts_fail_the_whole_person_is_covered_and_never_the_frame(
    parts_age_s: float,
) -> None:
    state = state_of(verdict(0, parts_age_s=parts_age_s, own_look=True))
    assert np.array_equal(hidden(state), BODY | HEAD)
    assert parts_of(state) == {Label.HUMAN}
    young = state_of(verdict(0, parts_age_s=0.49, own_look=True))
    assert np.array_equal(hidden(young), HEAD)


@pytest.mark.parametrize("age_s", [1.0, 1.001, 60.0, float("inf")])
def test_the_whole_frame_is_covered_from_a_second_on(age_s: float) -> None:
    assert state_of(verdict(0, age_s)) == Unknown(Why.STALE)
    assert state_of(verdict(0, age_s), request=PrivacyRequest(CoverLevel.PERSON)) == Unknown(
        Why.STALE
    )


@pytest.mark.parametrize(
    ("own_look", "age_s", "fresh"), [(True, 0.0, True), (False, 0.0, False), (True, 0.2, False)]
)
def test_a_frame_is_fresh_with_its_own_look_where_none_is_overdue(
    own_look: bool, age_s: float, fresh: bool
) -> None:
    state = state_of(verdict(0, age_s, own_look=own_look))
    assert isinstance(state, Parsed if fresh else Propagated)
    assert np.array_equal(hidden(state), HEAD)


def test_on_request_people_are_covered_whole_at_any_age() -> None:
    state = state_of(verdict(0), request=PrivacyRequest(CoverLevel.PERSON))
    assert np.array_equal(hidden(state), BODY | HEAD)
    assert parts_of(state) == {Label.HUMAN}


def test_on_request_what_is_hidden_is_a_silhouette() -> None:
    state = state_of(verdict(0), request=PrivacyRequest(CoverLevel.PERSON, silhouette=True))
    assert np.array_equal(hidden(state), BODY | HEAD)
    assert isinstance(state, Parsed | Propagated)
    assert {fill.effect for fill in state.plan.fills} == {Effect.SILHOUETTE}


def test_several_people_are_covered_whole_each() -> None:
    other = Rect(40, 10, 60, 36)
    state = state_of(verdict(0, 0.6, bodies=(BOX, other)))
    both = BODY | HEAD
    both[10:36, 40:60] = 1
    assert np.array_equal(hidden(state), both)


def test_a_body_that_leaves_the_picture_is_covered_as_far_as_it_is_in_it() -> None:
    state = state_of(verdict(0, 0.6, bodies=(Rect(-20, 20, 10, 90),), parts=np.zeros_like(HEAD)))
    expected = np.zeros_like(HEAD)
    expected[20:, :10] = 1
    assert np.array_equal(hidden(state), expected)


def test_what_is_hidden_outside_all_bodies_stays_hidden() -> None:
    """What moves and was not looked at is nobody's body."""
    elsewhere = np.zeros_like(HEAD)
    elsewhere[20:30, 50:60] = 1
    state = state_of(verdict(0, 0.6, parts=elsewhere))
    assert np.array_equal(hidden(state), BODY | elsewhere)
    assert parts_of(state) == {Label.HUMAN}
    state = state_of(verdict(0, 0.6, bodies=()))
    assert np.array_equal(hidden(state), HEAD)


def test_a_verdict_is_as_it_was_after_its_state_was_made() -> None:
    one = verdict(0, 0.6)
    state_of(one)
    assert one.cover is not None
    assert np.array_equal(one.cover.parts > 0, HEAD > 0)
    assert np.array_equal(one.cover.tracks, HEAD)


ZONE = np.zeros_like(HEAD)
ZONE[20:30, 40:60] = 1
ZONE_TEXT = "40,20,60,30"


def zoned(one: Verdict | None, policy: dict[str, Any], **more: Any) -> CoverState:
    options = PolicyOptions.model_validate(policy)
    return FrameStates(Policy(options), AGES).of(raw_frame(), one, **more)


@pytest.mark.parametrize("age_s", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("level", [CoverLevel.PARTS, CoverLevel.PERSON])
@pytest.mark.parametrize("silhouette", [False, True])
def test_a_zone_is_covered_at_every_age_and_level(
    age_s: float, level: CoverLevel, silhouette: bool
) -> None:
    state = zoned(
        verdict(0, age_s), {"zones": [ZONE_TEXT]}, request=PrivacyRequest(level, silhouette)
    )
    assert (hidden(state)[ZONE > 0] == 1).all()
    whole = age_s >= AGES.person_s or level is CoverLevel.PERSON
    assert np.array_equal(hidden(state), ZONE | HEAD | (BODY if whole else HEAD))
    nobody = verdict(0, age_s, bodies=(), parts=np.zeros_like(HEAD))
    state = zoned(nobody, {"zones": [ZONE_TEXT]}, request=PrivacyRequest(level, silhouette))
    assert np.array_equal(hidden(state), ZONE)
    assert isinstance(state, Parsed | Propagated)
    (fill,) = state.plan.fills
    assert fill.effect is (Effect.SILHOUETTE if silhouette else Effect.FROST)


@pytest.mark.parametrize("one", [None, verdict(0, 1.0), Verdict(0, None, why=Why.CUT)])
@pytest.mark.parametrize(
    "policy",
    [{"zones": ["0,0,1,1"], "invert": True}, {"zones": [ZONE_TEXT]}, {"keep_zones": ["0,0,1,1"]}],
)
def test_what_is_unknown_is_the_card_whatever_zones_say(
    one: Verdict | None, policy: dict[str, Any]
) -> None:
    assert isinstance(zoned(one, policy), Unknown)


KEPT = {"keep_zones": ["18,2,32,14"]}
"""Around the head; the body reaches out of it."""


def test_whose_head_is_in_a_keep_zone_is_left_alone_while_it_is_known_where_he_is() -> None:
    state = zoned(verdict(0, 0.3), KEPT)
    assert not hidden(state).any()
    assert isinstance(state, Parsed | Propagated)
    assert state.plan.left_alone == 1
    # Old looks, or a wish for more: all of the body counts, and reaches out.
    for old in (verdict(0, 0.5), verdict(0, parts_age_s=0.5)):
        assert np.array_equal(hidden(zoned(old, KEPT)), BODY | HEAD)
    asked = PrivacyRequest(CoverLevel.PERSON)
    assert np.array_equal(hidden(zoned(verdict(0), KEPT, request=asked)), BODY | HEAD)
    assert isinstance(zoned(verdict(0), KEPT, request=PrivacyRequest(CoverLevel.FRAME)), Unknown)


def test_who_may_be_elsewhere_by_now_is_not_left_alone() -> None:
    everywhere = {"keep_zones": ["0,0,1,1"]}
    assert not hidden(zoned(verdict(0, 0.49), everywhere)).any()
    assert np.array_equal(hidden(zoned(verdict(0, 0.5), everywhere)), BODY | HEAD)


def test_a_zone_outside_the_picture_is_the_card() -> None:
    """Its size is checked when a run begins; a change of it must not open anything."""
    assert zoned(verdict(0), {"zones": ["0,0,99,20"]}) == Unknown(Why.TRACKING_FAILED)


@given(
    age_s=st.floats(0, 0.99),
    level=st.sampled_from([CoverLevel.PARTS, CoverLevel.PERSON]),
    boxes=st.lists(
        st.builds(
            lambda x, y, w, h: Rect(x, y, x + w, y + h),
            st.floats(-20, 70),
            st.floats(-20, 40),
            st.floats(0, 60),
            st.floats(0, 60),
        ),
        max_size=4,
    ),
)
@settings(max_examples=60, deadline=None)
def test_older_or_on_request_never_less_is_hidden(
    age_s: float, level: CoverLevel, boxes: list[Rect]
) -> None:
    young = hidden(state_of(verdict(0, bodies=boxes)))
    more = hidden(state_of(verdict(0, age_s, bodies=boxes), request=PrivacyRequest(level)))
    assert not (young & (1 - more)).any()


def test_on_request_everything_is_covered_whatever_is_known() -> None:
    for one in (verdict(0), None, Verdict(0, None, why=Why.CUT)):
        assert state_of(one, request=PrivacyRequest(CoverLevel.FRAME)) == Unknown(Why.ON_REQUEST)


def test_what_was_not_judged_is_unknown() -> None:
    assert state_of(None) == Unknown(Why.PARSER_SILENT)
    assert state_of(None, why=Why.OTHER_CAMERA) == Unknown(Why.OTHER_CAMERA)
    assert state_of(None, request=PrivacyRequest(CoverLevel.PERSON)) == Unknown(Why.PARSER_SILENT)


@pytest.mark.parametrize("level", [CoverLevel.PARTS, CoverLevel.PERSON])
@pytest.mark.parametrize("why", [Why.CUT, Why.UNIFORM, Why.NO_PARSE, Why.RECONNECTED])
def test_what_is_judged_unknown_is_unknown_for_its_reason(why: Why, level: CoverLevel) -> None:
    assert state_of(Verdict(0, None, why=why), request=PrivacyRequest(level)) == Unknown(why)


def test_nobody_is_a_positive_statement() -> None:
    nobody = np.zeros_like(HEAD)
    state = state_of(verdict(0, 0.7, bodies=(), parts=nobody))
    assert not hidden(state).any()


# --- the presenter ---


class Kept(Sink[SafeFrame]):
    accepts = SafeFrame

    def __init__(self, frames: list[tuple[float, SafeFrame]]) -> None:
        super().__init__()
        self._frames = frames

    def _emit(self, item: SafeFrame) -> None:
        self._frames.append((time.monotonic(), item))

    def _finish(self) -> None:
        pass

    def _abort(self) -> None:
        pass


class Witness:
    """The real compositor; raises where it is told to."""

    def __init__(self) -> None:
        self._compositor = Compositor()
        self.error: BaseException | None = None

    def compose(self, raw: RawFrame, state: CoverState) -> SafeFrame:
        if self.error is not None:
            raise self.error
        return self._compositor.compose(raw, state)

    def aged(self, safe: SafeFrame, *, pts: int, age_s: float) -> SafeFrame:
        return self._compositor.aged(safe, pts=pts, age_s=age_s)


class Show:
    """A presenter with one sink that keeps what it is shown."""

    def __init__(
        self,
        *,
        deadline_s: float = PATIENCE_S,
        away_s: float = PATIENCE_S,
        why_away: Why | None = None,
        **more: Any,
    ) -> None:
        self.shown: list[tuple[float, SafeFrame]] = []
        self.why_away = why_away
        self.dial, self.stats, self.witness = PrivacyDial(), LiveStats(), Witness()
        self.outlet = Outlet("kept", lambda _: Kept(self.shown), keep=10_000)
        self.presenter = Presenter(
            composer=self.witness,
            policy=Policy(PolicyOptions()),
            outlets=[self.outlet],
            dial=self.dial,
            stats=self.stats,
            ages=AGES,
            deadline_s=deadline_s,
            away_s=lambda: away_s,
            size_wh=SIZE_WH,
            why_away=lambda: self.why_away,
            **more,
        )
        self.raws: list[RawFrame] = []
        self.buffers: list[Picture] = []
        self.pts: list[int] = []
        self.show_rest = False

    def __enter__(self) -> Show:
        self.outlet.open(SIZE_WH)
        self.presenter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.presenter.close(show_rest=self.show_rest)
        self.outlet.close(complete=True)
        self.all_gone()
        pts = [one.pts for _, one in self.shown]
        assert all(earlier < later for earlier, later in pairwise(pts))

    def all_gone(self) -> None:
        assert all(raw.released for raw in self.raws)
        assert not any(buffer.any() for buffer in self.buffers)

    def expect(self, count: int = 1, *, ahead_s: float = 0.0) -> list[int]:
        """Gives frames; those captured `ahead_s` from now are not late, however busy it is here."""
        numbers = []
        for _ in range(count):
            number = len(self.raws)
            buffer = backdrop(number % 5, *SIZE_WH)
            raw = raw_frame(number, buffer, ahead_s=ahead_s)
            self.raws.append(raw)
            self.buffers.append(buffer)
            self.pts.append(raw.pts)
            self.presenter.expect(raw)
            numbers.append(number)
            time.sleep(0.001)
        return numbers

    def judge(self, *numbers: int, **more: Any) -> None:
        self.presenter.judge([verdict(number, **more) for number in numbers])

    def frames(self) -> list[SafeFrame]:
        """What was shown but cards without a frame and pictures that were shown before."""
        first: dict[int, SafeFrame] = {}
        for _, one in list(self.shown):
            if one.frame_id >= 0:
                first.setdefault(one.frame_id, one)
        return list(first.values())

    def again(self) -> list[SafeFrame]:
        """Pictures that were shown once more."""
        new = self.frames()
        return [one for _, one in list(self.shown) if one.frame_id >= 0 and one not in new]

    def ids(self) -> list[int]:
        return [one.frame_id for one in self.frames()]

    def cards(self) -> list[tuple[float, SafeFrame]]:
        return [(at_s, one) for at_s, one in list(self.shown) if one.frame_id < 0]

    def wait_shown(self, count: int) -> None:
        wait_until(lambda: len(self.ids()) >= count)


def test_frames_are_shown_as_soon_as_they_are_judged() -> None:
    with Show() as show:
        for number in show.expect(3):
            show.judge(number, own_look=True)
            show.wait_shown(number + 1)
        assert [one.cover.level for one in show.frames()] == [CoverLevel.PARTS] * 3
        assert [one.pts for one in show.frames()] == show.pts
        assert show.cards() == []


def test_outside_the_cover_a_shown_frame_is_the_source_and_inside_it_is_not() -> None:
    with Show() as show:
        before = backdrop(0, *SIZE_WH)
        show.expect()
        show.judge(0, own_look=True)
        show.wait_shown(1)
        pixels = show.frames()[0].pixels
        assert (pixels[30:, 40:] == before[30:, 40:]).all()
        assert (pixels[5:11, 21:29] != before[5:11, 21:29]).any()


def test_frames_are_shown_in_order_whatever_is_judged_first() -> None:
    with Show() as show:
        show.expect(4)
        show.judge(3, 2, 1)
        time.sleep(0.05)
        assert show.ids() == []
        show.judge(0)
        show.wait_shown(4)
        assert show.ids() == [0, 1, 2, 3]


def test_a_frame_that_is_not_judged_in_time_is_the_card() -> None:
    with Show(deadline_s=0.1) as show:
        show.expect()
        show.expect(ahead_s=PATIENCE_S)
        show.judge(1)
        show.wait_shown(2)
        first, second = show.frames()
        assert (first.cover.level, first.cover.reason) == (
            CoverLevel.FRAME,
            Why.PARSER_SILENT.value,
        )
        assert second.cover.level is CoverLevel.PARTS
        assert show.shown[0][0] >= first.captured_ns / 1e9 + 0.1
        show.judge(0)  # too late is no error, and changes nothing
        time.sleep(0.02)
        assert show.ids() == [0, 1]


def test_the_card_of_a_late_frame_tells_why_the_source_is_away() -> None:
    with Show(deadline_s=0.05, why_away=Why.OTHER_CAMERA) as show:
        show.expect(1)
        show.wait_shown(1)
        assert show.frames()[0].cover.reason == Why.OTHER_CAMERA.value


def test_a_frame_is_judged_once() -> None:
    with Show() as show:
        show.expect(2)
        show.judge(1)
        show.presenter.judge([Verdict(1, None, why=Why.CUT)])
        show.judge(0)
        show.wait_shown(2)
        assert [one.cover.level for one in show.frames()] == [CoverLevel.PARTS] * 2


def test_what_is_judged_unknown_is_the_card_at_once() -> None:
    with Show() as show:
        show.expect(1)
        show.presenter.judge([Verdict(0, None, why=Why.CUT)])
        show.wait_shown(1)
        assert show.frames()[0].cover.reason == Why.CUT.value


def test_a_turn_of_the_dial_holds_for_the_next_frame() -> None:
    with Show() as show:
        for number, level in enumerate(
            [CoverLevel.PARTS, CoverLevel.PERSON, CoverLevel.FRAME, CoverLevel.PARTS]
        ):
            show.expect()
            show.dial.turn(level)
            show.judge(number)
            show.wait_shown(number + 1)
            assert show.frames()[-1].cover.level is level
        assert show.frames()[2].cover.reason == Why.ON_REQUEST.value


def test_no_more_frames_are_held_than_fit() -> None:
    with Show(held_at_least=1, held_bytes=5 * 3 * SIZE_WH[0] * SIZE_WH[1]) as show:
        show.expect(12)
        show.wait_shown(7)
        time.sleep(0.02)
        assert show.ids() == list(range(7))
        assert {one.cover.level for one in show.frames()} == {CoverLevel.FRAME}
        assert sum(not raw.released for raw in show.raws) <= 5


def test_as_many_frames_as_fit_wait_for_a_late_verdict() -> None:
    """The longest delay that may be configured, three seconds, at 60 frames a second."""
    with Show() as show:
        numbers = show.expect(180)
        time.sleep(0.02)
        assert show.ids() == []
        show.judge(*numbers)
        show.wait_shown(180)
    assert {one.cover.level for one in show.frames()} == {CoverLevel.PARTS}


def test_some_frames_wait_however_large_they_are() -> None:
    with Show(held_bytes=0) as show:
        show.expect(64)
        time.sleep(0.02)
        assert show.ids() == []


# --- nobody there ---


def test_without_frames_the_card_is_shown_again_and_again() -> None:
    began_s = time.monotonic()
    with Show(away_s=0.1) as show:
        wait_until(lambda: len(show.cards()) >= 4)
        first_s = show.cards()[0][0]
        assert first_s >= began_s + 0.1
        pauses = [
            (later.captured_ns - earlier.captured_ns) / 1e9
            for (_, earlier), (_, later) in pairwise(show.cards())
        ]
        assert min(pauses) > 0.045
        assert {one.cover.reason for _, one in show.cards()} == {Why.SOURCE_AWAY.value}
        assert {one.size_wh for _, one in show.cards()} == {SIZE_WH}


def test_the_card_comes_when_the_last_frame_is_as_old_as_may_be() -> None:
    with Show(away_s=1.0) as show:
        show.expect()
        show.judge(0)
        wait_until(lambda: bool(show.cards()))
        assert show.shown[0][1].frame_id == 0
        at_s, _ = show.cards()[0]
        assert at_s >= show.frames()[0].captured_ns / 1e9 + 1.0


@pytest.mark.parametrize("why", [Why.OTHER_CAMERA, Why.SOURCE_AWAY])
def test_the_card_tells_why_no_frames_come(why: Why) -> None:
    with Show(away_s=0.05, why_away=why) as show:
        wait_until(lambda: bool(show.cards()))
        assert show.cards()[0][1].cover.reason == why.value


def test_the_card_tells_that_frames_wait_for_the_first_parse() -> None:
    with Show(away_s=0.1) as show:
        show.expect()
        before = len(show.cards())
        wait_until(lambda: len(show.cards()) >= before + 2)  # one may have been on its way
        assert show.cards()[-1][1].cover.reason == Why.NO_PARSE.value
        assert show.ids() == []


def test_frames_keep_their_own_times_after_the_card_was_shown() -> None:
    with Show(away_s=0.1) as show:
        wait_until(lambda: len(show.cards()) >= 2)
        numbers = show.expect(5)
        before = len(show.cards())
        wait_until(lambda: len(show.cards()) >= before + 2)  # while frames wait
        show.judge(*numbers)
        show.wait_shown(5)
        before = len(show.cards())
        wait_until(lambda: len(show.cards()) >= before + 2)
        more = show.expect(5)
        show.judge(*more)
        show.wait_shown(10)
        for one, pts in zip(show.frames(), show.pts, strict=True):
            assert pts <= one.pts <= pts + 10  # microseconds


def test_a_card_in_between_does_not_hide_the_next_frame() -> None:
    with Show(away_s=0.05) as show:
        for round_ in range(3):
            before = len(show.cards())
            wait_until(lambda before=before: len(show.cards()) > before)  # type: ignore[misc]
            show.expect()
            show.judge(round_)
            show.wait_shown(round_ + 1)
        assert show.ids() == [0, 1, 2]


# --- slow cameras ---


def test_a_picture_stays_until_the_next_one_is_covered_and_says_how_old_it_is() -> None:
    with Show(aged_s=0.05) as show:
        show.expect()
        show.judge(0, own_look=True)
        wait_until(lambda: len(show.again()) >= 3)
        again = show.again()
        assert {one.frame_id for one in again} == {0}
        assert show.cards() == []
        (first,) = show.frames()
        ages = [one.cover.age_s for one in again]
        assert all(age_s is not None and age_s >= 0.05 for age_s in ages)
        assert ages == sorted(ages, key=lambda age_s: age_s or 0.0)
        for one in again:
            assert one.cover.level is CoverLevel.PARTS
            assert one.captured_ns == first.captured_ns
            assert np.array_equal(one.pixels, first.pixels)  # too small for a note
        show.expect()  # it came, and is not covered yet
        before = len(show.again())
        wait_until(lambda: len(show.again()) > before + 1)
        show.judge(1)
        show.wait_shown(2)
        wait_until(lambda: show.again()[-1].frame_id == 1)


@pytest.mark.parametrize("away_s", [0.2, 0.6])
def test_a_picture_that_says_its_age_is_the_card_when_the_source_is_away(away_s: float) -> None:
    with Show(aged_s=0.05, away_s=away_s) as show:
        show.expect()
        show.judge(0)
        wait_until(lambda: len(show.cards()) >= 3)
        times = [one.frame_id for _, one in list(show.shown)]
        assert times == sorted(times, reverse=True)  # 0 until it is away, then cards alone
        assert show.cards()[0][0] >= show.frames()[0].captured_ns / 1e9 + away_s


def test_a_card_does_not_grow_old() -> None:
    with Show(aged_s=0.03) as show:
        show.expect()
        show.presenter.judge([Verdict(0, None, why=Why.CUT)])
        show.wait_shown(1)
        time.sleep(0.15)
        assert show.again() == []


@pytest.mark.parametrize("level", [CoverLevel.PERSON, CoverLevel.FRAME])
def test_a_picture_that_stands_hides_no_less_than_is_asked_for_since(level: CoverLevel) -> None:
    """Of a slow camera no other picture comes for seconds."""
    with Show(aged_s=0.05) as show:
        show.expect()
        show.judge(0)
        wait_until(lambda: len(show.again()) >= 1)
        show.dial.turn(level)
        wait_until(lambda: len(show.cards()) >= 1)
        assert show.cards()[0][1].cover.reason == Why.ON_REQUEST.value
        assert show.shown[-1][1].frame_id < 0
        show.expect()
        show.judge(1)
        show.wait_shown(2)
        assert show.frames()[-1].cover.level is level


# --- when a verdict comes ---


def test_with_verdicts_in_bursts_every_frame_is_shown_once_and_in_order() -> None:
    with Show() as show:
        show.show_rest = True
        for first in range(0, 60, 6):
            show.expect(6)
            show.judge(*range(first + 5, first - 1, -1))
        show.wait_shown(60)
        assert show.ids() == list(range(60))
        assert {one.cover.level for one in show.frames()} == {CoverLevel.PARTS}


# --- the end, and faults ---


def test_at_the_end_the_frames_held_are_shown() -> None:
    with Show() as show:
        show.show_rest = True
        show.expect(5)
        show.judge(0, 1, 2, 3, 4)
    assert show.ids() == [0, 1, 2, 3, 4]
    assert {one.cover.level for one in show.frames()} == {CoverLevel.PARTS}


def test_at_the_end_a_frame_that_nobody_judged_is_the_card() -> None:
    with Show(deadline_s=0.1) as show:
        show.show_rest = True
        show.expect(ahead_s=PATIENCE_S)
        show.expect()
        show.judge(0)
    assert [one.cover.level for one in show.frames()] == [CoverLevel.PARTS, CoverLevel.FRAME]


def test_an_end_without_the_rest_shows_and_keeps_nothing() -> None:
    with Show() as show:
        show.expect(5)
    assert show.ids() == []


def test_frames_after_the_end_are_released() -> None:
    with Show() as show:
        show.expect(1)
    show.expect(2)
    show.all_gone()


def test_a_presenter_that_never_started_releases_what_it_holds() -> None:
    show = Show()
    show.expect(3)
    show.presenter.close(show_rest=True)
    show.all_gone()


@pytest.mark.parametrize("error", [RuntimeError("a fault"), MemoryError()])
def test_a_fault_in_composing_ends_it_and_keeps_nothing(error: Exception) -> None:
    with Show() as show:
        show.witness.error = error
        show.expect(5)
        show.judge(0, 1)
        wait_until(lambda: show.presenter.error is not None)
        assert show.raws[0].released
        show.expect(2)
    assert show.presenter.error is error
    assert show.shown == []


def test_a_fault_in_composing_the_card_ends_it() -> None:
    show = Show(away_s=0.02)
    show.witness.error = RuntimeError("a fault")
    with show:
        wait_until(lambda: show.presenter.error is not None)
    assert show.shown == []


def test_what_was_shown_is_counted() -> None:
    with Show() as show:
        show.expect(3)
        show.judge(0, age_s=0.25)
        show.presenter.judge([Verdict(1, None, why=Why.CUT)])
        show.judge(2, own_look=True)
        show.wait_shown(3)
    summary = show.stats.summary()
    assert summary["frames"] == 3
    assert summary["reasons"] == {Why.CUT.value: 1}
    assert summary["cover_age_ms"]["max"] == 250
    share = float(HEAD.mean())
    assert summary["covered_fraction"] == pytest.approx((1 + 2 * share) / 3, abs=1e-3)
    assert summary["latency_ms"]["max"] > 0


def test_a_plan_that_cannot_be_made_is_an_unknown_frame() -> None:
    raw = RawFrame(
        np.zeros((90, 160, 3), np.uint8),
        frame_id=1,
        pts=1,
        time_base=Fraction(1, 1_000_000),
        captured_ns=0,
    )
    odd = np.full((45, 80), 200, np.uint8)  # no label 200
    broken = Cover(odd, np.zeros((45, 80), np.uint8), 0, ())
    states = FrameStates(Policy(PolicyOptions()), Ages(0.5, 1.0))
    assert states.of(raw, Verdict(1, broken)) == Unknown(Why.TRACKING_FAILED)
    raw.release()
