"""Live frames are looked at: the right copies, wiped; pixels kept as long as a look needs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.core.errors import M2FPStreamError, ModelError, ParserError
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import Why
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import LookKind, PartPlanes
from m2fp_stream.parsers.embedded.looker import PART_LABELS
from m2fp_stream.pipeline.copies import MAP_SIDE, hidden_by, live_face_side, shrunk
from m2fp_stream.pipeline.live.follow import Follower, Rates, Verdict
from m2fp_stream.pipeline.live.looking import Looking, Pools
from m2fp_stream.pipeline.looks import LookPool, Seen
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.sources.base import Captured
from m2fp_stream.tracking.motion import SmallGrey
from tests.kit.faulty import DrawnLooker, detections
from tests.kit.stage import backdrop

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]

RATE = 25
FRAME_S = 1 / RATE
DELAY_S = 0.2
SIZE_WH = 640, 360
FACE: Box = 180, 96, 220, 144
BODY: Box = 152, 88, 248, 334


@dataclass(eq=False)
class Asked:
    bgr: Picture
    kind: LookKind
    frame_id: int
    future: Future[Seen] = field(default_factory=Future)

    def answer(self, *boxes: Box, score: float = 0.9) -> None:
        """Answers with boxes; a look at parts says that all of it is a face."""
        assert self.future.set_running_or_notify_cancel()
        if self.kind is LookKind.PARTS:
            height, width = self.bgr.shape[:2]
            planes = np.zeros((len(PART_LABELS), height // 2, width // 2), np.uint8)
            planes[PART_LABELS.index(Label.FACE)] = 255
            seen: Seen = PartPlanes(frame_id=self.frame_id, planes=planes)
        else:
            seen = detections(self.frame_id, self.kind, list(boxes), score)
        self.bgr.fill(0)
        self.future.set_result(seen)

    def fail(self, error: Exception) -> None:
        assert self.future.set_running_or_notify_cancel()
        self.bgr.fill(0)
        self.future.set_exception(error)


class Hands:
    """A pool whose looks a test answers when it likes."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def submit(self, bgr: Picture, kind: LookKind, *, frame_id: int) -> Future[Seen]:
        one = Asked(bgr, kind, frame_id)
        self.asked.append(one)
        return one.future

    def waiting(self, kind: LookKind | None = None) -> list[Asked]:
        return [one for one in self.asked if not one.future.done() and kind in (None, one.kind)]


class Stand:
    """Looking in simulated time; each frame's owner releases it as soon as it was taken."""

    def __init__(
        self,
        *,
        delay_s: float = 0.0,
        rate: float = RATE,
        size_wh: tuple[int, int] = SIZE_WH,
        hide: Any = "head",
        pools: Pools | None = None,
        **rates: Any,
    ) -> None:
        self.size_wh, self.rate = size_wh, rate
        self.faces, self.near, self.far = Hands(), Hands(), Hands()
        self.follower = Follower(
            size_wh=size_wh,
            map_wh=shrunk(size_wh, MAP_SIDE),
            rate=rate,
            hidden=hidden_by(Policy(PolicyOptions(hide=hide))),
            rates=Rates(**rates),
        )
        self.woken = 0
        self.looks: list[tuple[str, float, bool]] = []
        self.failures: list[tuple[str, M2FPStreamError]] = []
        self.looking = Looking(
            self.follower,
            pools or Pools(self.faces, self.near, self.far),
            look_side=640,
            faces_side=640,
            delay_s=delay_s,
            on_answer=self._wake,
            on_look=lambda *one: self.looks.append(one),
            on_failure=lambda *one: self.failures.append(one),
        )
        self.now_s = 100.0
        self.raws: list[RawFrame] = []
        self.buffers: list[Picture] = []
        self.verdicts: list[Verdict] = []

    def _wake(self) -> None:
        self.woken += 1

    def take(self, *, seed: int = 0, restart: bool = False, seconds: float | None = None) -> int:
        self.now_s += 1 / self.rate if seconds is None else seconds
        number = len(self.raws)
        buffer = backdrop(seed, *self.size_wh)
        raw = RawFrame(
            buffer,
            frame_id=number,
            pts=number,
            time_base=Fraction(1, RATE),
            captured_ns=round(self.now_s * 1e9),
        )
        self.raws.append(raw)
        self.buffers.append(buffer)
        self.looking.take(Captured(raw, restart), self.now_s)
        raw.release()
        return number

    def advance(self, seconds: float = 0.0, *, everything: bool = False) -> list[int]:
        """Lets time pass; returns the frames that were judged."""
        self.now_s += seconds
        verdicts = self.looking.advance(self.now_s, all_of_them=everything)
        self.verdicts += verdicts
        return [one.frame_id for one in verdicts]

    def answer_faces(self, *boxes: Box) -> None:
        for one in self.faces.waiting():
            one.answer(*boxes)

    def answer_people(self, *boxes: Box) -> None:
        for pool in (self.near, self.far):
            for one in pool.waiting(LookKind.PEOPLE):
                one.answer(*boxes)

    def open(self, *boxes: Box) -> None:
        """Shows a first frame and answers its looks."""
        self.take()
        self.answer_faces()
        self.advance()
        self.answer_people(*boxes)
        self.advance()

    def captured_s(self, one: Asked) -> float:
        """When the frame was captured that is looked at."""
        return self.raws[one.frame_id].captured_ns / 1e9

    def let_go(self) -> set[int]:
        return {n for n, raw in enumerate(self.raws) if raw.released}


# --- copies ---


def test_faces_are_looked_for_in_every_frame_in_a_copy_of_the_configured_size() -> None:
    stand = Stand(size_wh=(1280, 720))
    for seed in range(3):
        stand.take(seed=seed)
    assert [(one.kind, one.frame_id) for one in stand.faces.asked] == [
        (LookKind.FACES, number) for number in range(3)
    ]
    for number, one in enumerate(stand.faces.asked):
        expected = cv2.resize(stand.buffers[number], (640, 360), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(one.bgr, expected)
    stand.looking.close()


@pytest.mark.parametrize(
    ("size_wh", "full", "smaller"),
    [
        ((640, 360), (640, 360), (320, 180)),
        ((1280, 720), (640, 360), (320, 180)),
        ((1920, 1080), (640, 360), (320, 180)),
        ((360, 640), (360, 640), (180, 320)),
        ((320, 180), (320, 180), (320, 180)),
    ],
)
def test_where_the_machine_cannot_keep_up_faces_are_looked_for_in_smaller_copies(
    size_wh: tuple[int, int], full: tuple[int, int], smaller: tuple[int, int]
) -> None:
    """Their long side is what is asked for, whatever the frame's size; never more than it has."""
    stand = Stand(size_wh=size_wh)
    stand.take()
    stand.looking.faces_side = 320
    stand.take()
    stand.looking.faces_side = 640
    stand.take()
    shapes = [one.bgr.shape[1::-1] for one in stand.faces.asked]
    assert shapes == [full, smaller, full]
    stand.looking.close()


def test_the_first_look_for_people_is_as_close_as_the_picture_allows() -> None:
    stand = Stand(size_wh=(1920, 1080))
    stand.take()
    stand.answer_faces()
    stand.advance()
    (one,) = stand.far.waiting(LookKind.PEOPLE)
    assert one.bgr.shape == (720, 1280, 3)
    assert stand.near.asked == []
    stand.looking.close()


def test_boxes_are_pixels_of_the_frame_whatever_the_copys_size() -> None:
    stand = Stand(size_wh=(1280, 720), hide="person")
    stand.take()
    stand.answer_faces(FACE)  # of a copy half as large
    stand.advance()
    stand.answer_people((304, 176, 496, 668))
    stand.advance()
    (verdict,) = stand.verdicts
    assert verdict.cover is not None
    (laid,) = verdict.cover.laid
    assert (laid.body.x1, laid.body.x2) == pytest.approx((304, 496), abs=60)
    stand.looking.close()


def test_crops_of_parts_show_the_frame_that_was_looked_at() -> None:
    stand = Stand()
    stand.open(BODY)
    stand.take(seed=0)
    stand.answer_faces(FACE)
    stand.advance()
    crops = stand.near.waiting(LookKind.PARTS)
    assert crops
    for one in crops:
        assert one.bgr.any()
    closer = stand.near.waiting(LookKind.CLOSER)
    assert closer
    stand.looking.close()


def test_turned_copies_are_turned_and_looked_at_for_faces_and_people() -> None:
    stand = Stand()
    stand.open()
    stand.take()
    stand.answer_faces()
    stand.advance()
    asked = [one for one in stand.far.waiting() if one.frame_id == 1]
    assert [one.kind for one in asked] == [LookKind.FACES, LookKind.PEOPLE] * 3
    assert [one.bgr.shape[:2] for one in asked if one.kind is LookKind.FACES] == [
        (640, 360),
        (360, 640),
        (640, 360),
    ]
    half = next(one for one in asked[2:] if one.kind is LookKind.FACES)
    np.testing.assert_array_equal(half.bgr, backdrop(0, *SIZE_WH)[::-1, ::-1])
    stand.looking.close()


def test_the_small_copies_from_which_motion_is_measured_are_wiped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[SmallGrey] = []
    of = SmallGrey.of

    def recorded(bgr: Picture, longest: int | None = None) -> SmallGrey:
        assert max(bgr.shape) == 640  # of the copy for faces, not of the frame
        made.append(of(bgr, longest))
        return made[-1]

    monkeypatch.setattr(SmallGrey, "of", recorded)
    stand = Stand(size_wh=(1280, 720))
    for _ in range(4):
        stand.take()
    assert [bool(one.grey.any()) for one in made] == [False, False, False, True]
    assert {one.scale for one in made} == {0.25}  # small pixels in one of the frame
    stand.looking.close()
    assert not made[-1].grey.any()


# --- pixels ---


def test_a_frame_is_let_go_when_it_is_judged() -> None:
    stand = Stand()
    stand.open()
    stand.take()
    assert stand.let_go() == {0}
    assert stand.buffers[1].any()
    stand.answer_faces()
    assert stand.advance() == [1]
    assert stand.far.waiting()  # at turned copies, which were made at once
    assert stand.let_go() == {0, 1}
    assert not stand.buffers[1].any()
    stand.looking.close()


def test_pixels_are_kept_while_a_look_for_people_may_ask_for_their_parts() -> None:
    stand = Stand()
    stand.take()
    stand.answer_faces()
    stand.advance(1.0)
    assert [one.frame_id for one in stand.verdicts] == [0]  # shown without it, as the card
    assert stand.let_go() == set()
    stand.answer_people(BODY)
    stand.advance()
    (parts,) = stand.near.waiting(LookKind.PARTS)
    assert parts.frame_id == 0
    assert parts.bgr.any()
    assert stand.let_go() == {0}
    stand.looking.close()


def test_at_the_end_everything_is_judged_and_let_go() -> None:
    stand = Stand(delay_s=DELAY_S)
    for _ in range(5):
        stand.take()
    assert stand.advance() == []
    assert stand.advance(everything=True) == [0, 1, 2, 3, 4]
    assert not stand.looking.busy
    stand.looking.close()
    assert stand.let_go() == set(range(5))
    assert not any(buffer.any() for buffer in stand.buffers)


def test_closing_lets_go_of_frames_that_were_not_judged() -> None:
    stand = Stand()
    for _ in range(3):
        stand.take()
    stand.looking.close()
    assert stand.let_go() == {0, 1, 2}


# --- when a frame is judged ---


def test_a_frame_that_is_shown_at_once_is_judged_when_its_faces_were_looked_for() -> None:
    stand = Stand()
    stand.open()
    stand.take()
    assert stand.advance() == []
    stand.answer_faces()
    assert stand.woken
    assert stand.advance() == [1]
    assert stand.verdicts[-1].own_look
    assert stand.looking.late == 0
    stand.looking.close()


def test_without_an_answer_it_goes_on_after_one_frame_interval_and_is_counted() -> None:
    stand = Stand()
    stand.open()
    stand.take()
    due_s = stand.looking.due_s()
    assert due_s == pytest.approx(stand.now_s + FRAME_S)
    assert stand.advance(0.9 * FRAME_S) == []
    assert stand.looking.behind == 1
    assert stand.advance(0.2 * FRAME_S) == [1]
    assert stand.looking.late == 1
    assert stand.looking.behind == 0
    assert not stand.verdicts[-1].own_look
    assert stand.verdicts[-1].age_s == pytest.approx(FRAME_S)
    stand.looking.close()


def test_aligned_frames_are_judged_when_their_delay_is_over() -> None:
    stand = Stand(delay_s=DELAY_S)
    stand.take()
    captured_s = stand.now_s
    stand.answer_faces()
    stand.advance()
    stand.answer_people()
    assert stand.advance() == []
    assert stand.looking.due_s() == pytest.approx(captured_s + DELAY_S)
    assert stand.advance(DELAY_S - 0.01) == []
    assert stand.advance(0.02) == [0]
    assert stand.looking.due_s() is None
    stand.looking.close()


def test_late_faces_of_a_frame_that_went_on_without_them_are_known_from_then_on() -> None:
    stand = Stand()
    stand.open()
    stand.take()
    stand.advance(1.5 * FRAME_S)
    (late,) = stand.faces.waiting()
    stand.take()
    late.answer(FACE)
    stand.answer_faces()  # he has turned away since
    stand.advance(FRAME_S)
    verdict = stand.verdicts[-1]
    assert verdict.frame_id == 2
    assert verdict.cover is not None
    assert verdict.cover.people == 1
    stand.looking.close()


def test_of_a_slow_camera_every_frame_has_both_looks() -> None:
    """A frame that is shown at once waits for its look for people, but not for long."""
    stand = Stand(rate=1.0)
    stand.open()
    for _ in range(4):
        number = stand.take()
        stand.answer_faces()
        assert stand.advance() == []
        stand.answer_people(BODY)
        assert stand.advance(0.1) == [number]
        cover = stand.verdicts[-1].cover
        assert cover is not None
        assert cover.people
        for one in (*stand.near.waiting(LookKind.PARTS), *stand.near.waiting(LookKind.CLOSER)):
            one.answer(FACE)
        stand.advance()
    number = stand.take()
    stand.answer_faces()
    assert stand.advance(0.49) == []
    assert stand.advance(0.02) == [number]
    stand.looking.close()


def test_frames_are_judged_in_order_whatever_is_answered_first() -> None:
    stand = Stand()
    stand.open()
    numbers = [stand.take(seconds=0.001) for _ in range(3)]
    for one in reversed(stand.faces.waiting()[1:]):
        one.answer()
    assert stand.advance() == []
    stand.answer_faces()
    assert stand.advance() == numbers
    stand.looking.close()


# --- starts ---


def test_nothing_is_known_of_the_first_frames_and_after_a_restart() -> None:
    stand = Stand()
    stand.take()
    stand.answer_faces()
    assert stand.advance(1.0) == [0]
    assert (stand.verdicts[-1].cover, stand.verdicts[-1].why) == (None, Why.NO_PARSE)
    stand.answer_people()
    stand.take(restart=True)
    stand.answer_faces()
    stand.advance(1.0)
    assert (stand.verdicts[-1].cover, stand.verdicts[-1].why) == (None, Why.RECONNECTED)
    stand.looking.close()


def test_the_first_look_after_a_cut_goes_before_all_that_wait() -> None:
    stand = Stand()
    stand.open(BODY)
    stand.take()
    stand.answer_faces(FACE)
    stand.advance()
    old = [*stand.near.waiting(), *stand.far.waiting()]
    assert old
    stand.take(seed=9)
    stand.answer_faces()
    stand.advance()
    assert all(one.future.cancelled() for one in old)
    kinds = {one.kind for one in old}
    assert kinds >= {LookKind.PARTS, LookKind.CLOSER, LookKind.PEOPLE}
    first = [*stand.near.waiting(LookKind.PEOPLE), *stand.far.waiting(LookKind.PEOPLE)]
    assert [one.frame_id for one in first] == [2]
    stand.looking.close()


def test_looks_that_are_dropped_did_not_fail() -> None:
    """Nobody looked: they are no looks in what is counted, and their place is free again."""
    stand = Stand()
    stand.open(BODY)
    stand.take()
    stand.answer_faces(FACE)
    stand.advance()
    dropped = len([*stand.near.waiting(), *stand.far.waiting()])
    assert dropped
    stand.take(seed=9)
    stand.answer_faces(FACE)
    stand.advance()
    stand.advance()
    told = list(stand.looks)
    assert [name for name, *_ in told] == ["faces", "first", "faces", "faces"]
    assert not any(failed for *_, failed in told)
    assert stand.failures == []
    stand.answer_people(BODY)
    for _ in range(12):
        stand.take(seed=9)
        stand.answer_faces(FACE)
        stand.advance()
        assert (stand.verdicts[-1].age_s, stand.verdicts[-1].parts_age_s) == (0.0, 0.0)
        stand.answer_people(BODY)
        stand.advance()
    assert stand.near.waiting(LookKind.PARTS)
    stand.looking.close()


def test_a_first_look_goes_to_whoever_is_free() -> None:
    stand = Stand()
    stand.take()
    stand.answer_faces()
    stand.advance()
    (hanging,) = stand.far.waiting()
    hanging.future.set_running_or_notify_cancel()
    stand.take(seed=9)
    stand.answer_faces()
    stand.advance()
    (first,) = stand.near.waiting(LookKind.PEOPLE)
    assert first.frame_id == 1
    first.answer()
    stand.take(seed=9)
    stand.answer_faces()
    stand.advance()
    assert stand.verdicts[-1].cover is not None
    stand.looking.close()


def test_where_frames_are_left_out_for_it_who_looks_for_faces_makes_the_first_look() -> None:
    """He goes before all others; nothing is shown meanwhile."""
    stand = Stand()
    stand.looking.hurried = True
    stand.take()
    stand.answer_faces()
    stand.advance()
    assert not stand.far.waiting()
    assert not stand.near.waiting()
    (first,) = stand.faces.waiting(LookKind.PEOPLE)
    assert first.bgr.shape[1] == max(SIZE_WH)
    first.answer(BODY)
    stand.looking.hurried = False
    stand.take()
    stand.answer_faces(FACE)
    stand.advance()
    assert stand.verdicts[-1].cover is not None
    stand.take(seed=9)
    stand.answer_faces()
    stand.advance()
    assert stand.far.waiting(LookKind.PEOPLE)  # a cut, on a machine that keeps up
    stand.looking.close()


def test_a_uniform_picture_is_unknown() -> None:
    stand = Stand()
    stand.open()
    raw = RawFrame(
        np.full((360, 640, 3), 7, np.uint8),
        frame_id=1,
        pts=1,
        time_base=Fraction(1, RATE),
        captured_ns=round((stand.now_s + FRAME_S) * 1e9),
    )
    stand.looking.take(Captured(raw), stand.now_s)
    raw.release()
    stand.advance()
    assert (stand.verdicts[-1].cover, stand.verdicts[-1].why) == (None, Why.UNIFORM)
    assert raw.released
    stand.looking.close()


@pytest.mark.parametrize("error", [cv2.error("no memory"), ValueError("odd")])
def test_a_frame_that_cannot_be_followed_is_unknown_and_the_next_one_begins_anew(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    stand = Stand()
    stand.open()

    def fails(*_: object) -> SmallGrey:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(SmallGrey, "of", fails)
        stand.take()
    assert stand.advance() == [1]
    assert (stand.verdicts[-1].cover, stand.verdicts[-1].why) == (None, Why.TRACKING_FAILED)
    stand.answer_faces(FACE)  # its look was under way; it changes nothing
    stand.take()
    stand.answer_faces()
    stand.advance(1.0)
    assert (stand.verdicts[-1].cover, stand.verdicts[-1].why) == (None, Why.NO_PARSE)
    stand.looking.close()


@pytest.mark.parametrize("where", ["add", "verdict", "wants"])
def test_a_follower_that_fails_is_an_unknown_frame(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    stand = Stand()
    stand.open()

    def fails(*_: object, **__: object) -> None:
        raise IndexError("odd")

    with monkeypatch.context() as patch:
        patch.setattr(Follower, where, fails)
        stand.take()
        stand.answer_faces()
        assert stand.advance() == [1]
    assert (stand.verdicts[-1].cover, stand.verdicts[-1].why) == (None, Why.TRACKING_FAILED)
    for _ in range(4 * RATE):  # longer than frames are known
        stand.take()
        stand.answer_faces()
        stand.answer_people()
        stand.advance(FRAME_S)
    assert stand.verdicts[-1].cover is not None
    stand.looking.close()


# --- failures ---


@pytest.mark.parametrize("pool", ["faces", "near", "far"])
def test_a_look_that_fails_is_told_and_the_next_one_is_made(pool: str) -> None:
    stand = Stand()
    if pool == "far":
        stand.take()
        stand.answer_faces()
        stand.advance()
    else:
        stand.open(BODY)
        stand.take()
        if pool == "near":
            stand.answer_faces(FACE)
            stand.advance()
    hands: Hands = getattr(stand, pool)
    failing = hands.waiting()
    assert failing
    error = ParserError("it died")
    for one in failing:
        one.fail(error)
    stand.advance(FRAME_S * 2)
    names = {name for name, _ in stand.failures}
    assert names <= {"faces", "first", "closer", "parts", "people"}
    assert len(stand.failures) == len(failing)
    assert [failed for *_, failed in stand.looks].count(True) == len(failing)
    asked = len(hands.asked)
    for _ in range(30):
        stand.take()
        stand.answer_faces(FACE)
        stand.advance()
    assert len(hands.asked) > asked
    stand.looking.close()


def test_a_look_says_how_long_it_took() -> None:
    stand = Stand()
    stand.take()
    stand.now_s += 0.03
    stand.answer_faces()
    stand.advance()
    ((name, seconds, failed),) = stand.looks
    assert (name, failed) == ("faces", False)
    assert seconds == pytest.approx(0.03)
    stand.looking.close()


def test_a_looker_that_cannot_be_started_ends_it() -> None:
    stand = Stand()
    stand.take()
    stand.faces.waiting()[0].fail(ModelError("no such weights"))
    with pytest.raises(ModelError):
        stand.advance()
    stand.looking.close()


def test_planes_of_another_size_are_a_failed_look_at_parts() -> None:
    stand = Stand()
    stand.open(BODY)
    asked = stand.take()
    stand.answer_faces(FACE)
    stand.advance()
    one = stand.near.waiting(LookKind.PARTS)[0]
    planes = PartPlanes(frame_id=asked, planes=np.full((len(PART_LABELS), 3, 3), 255, np.uint8))
    one.future.set_result(planes)
    stand.take()
    stand.answer_faces(FACE)
    stand.advance(FRAME_S)
    assert stand.verdicts[-1].parts_age_s > 0
    stand.looking.close()


# --- one core ---


def empty_room(stand: Stand) -> None:
    """Shows a frame without anybody; looks at turned copies are answered at once."""
    stand.take()
    stand.answer_faces()
    stand.advance()
    for one in stand.far.waiting():
        one.answer()
    stand.advance()


def until_near(stand: Stand, frames: int = 60) -> Asked:
    """Shows frames until a nearer look for people is ordered."""
    for _ in range(frames):
        empty_room(stand)
        waiting = stand.near.waiting(LookKind.PEOPLE)
        if waiting:
            return waiting[0]
    raise AssertionError("none was ordered")


@pytest.mark.parametrize(("took_s", "rests"), [(0.32, True), (0.04, False)])
def test_after_a_look_for_people_none_is_made_for_half_as_long_but_those_that_are_due(
    took_s: float, rests: bool
) -> None:
    """Where there is but one core, what is shown would have to wait for it."""
    stand = Stand(people_s=0.6, middle_s=60.0, far_s=60.0)
    stand.open()
    one = until_near(stand)
    began_s = stand.now_s
    while stand.now_s < began_s + took_s - 0.001:
        empty_room(stand)
    one.answer()
    stand.advance()
    answered_s = stand.now_s
    stand.take(seed=0)
    stand.answer_faces(FACE)  # somebody new: a look for people is wanted now
    stand.advance()
    assert bool(stand.near.waiting(LookKind.PEOPLE)) is not rests
    while not (waiting := stand.near.waiting(LookKind.PEOPLE)):
        for each in stand.near.waiting():
            each.answer(FACE)
        stand.take()
        stand.answer_faces(FACE)
        stand.advance()
        assert stand.now_s - began_s <= 0.6 + 2 * FRAME_S  # then it is due, rest or no rest
    if rests:
        asked_s = stand.raws[waiting[0].frame_id].captured_ns / 1e9
        assert asked_s - answered_s >= 0.5 * took_s - 0.001
    stand.looking.close()


def test_where_a_look_of_middle_reach_would_be_late_a_nearer_one_is_made_and_then_that() -> None:
    stand = Stand(people_s=0.24, middle_s=0.5, far_s=60.0, longest_s=0.36, size_wh=(1280, 720))
    stand.open()
    sides = []
    for _ in range(8):  # each takes a fifth of a second
        one = until_near(stand)
        sides.append(one.bgr.shape[1])
        for _ in range(5):
            empty_room(stand)
        one.answer()
        stand.advance()
    small, large = sorted(set(sides))
    first_late = sides.index(large) + 1  # before, nobody knew how long it takes
    later = sides[first_late:]
    assert large in later
    for before, here in pairwise(later):
        assert here == small or before == small
    stand.looking.close()


def one_after_the_other(stand: Stand, frames: int, parts_s: float) -> list[float]:
    """Shows frames to a looker that makes one look at a time; those for people take one frame.

    Returns how long looks for people took, from order to answer.
    """
    under_way: tuple[float, Asked] | None = None
    took: list[float] = []
    for _ in range(frames):
        stand.take()
        stand.answer_faces(FACE)
        stand.advance()
        for one in stand.near.waiting(LookKind.CLOSER):
            one.answer(FACE)
        if under_way is not None and stand.now_s >= under_way[0] - 0.001:
            one = under_way[1]
            if one.kind is LookKind.PEOPLE:
                took.append(stand.now_s - stand.captured_s(one))
            one.answer(BODY)
            under_way = None
        waiting = [*stand.near.waiting(LookKind.PEOPLE), *stand.near.waiting(LookKind.PARTS)]
        if under_way is None and waiting:
            takes_s = FRAME_S if waiting[0].kind is LookKind.PEOPLE else parts_s
            under_way = stand.now_s + takes_s, waiting[0]
        stand.advance()
    return took


def test_looks_at_parts_give_way_where_they_would_hold_up_a_look_for_people() -> None:
    stand = Stand(people_s=0.24, parts_s=0.04, parts_a_frame=1, middle_s=60.0, far_s=60.0)
    stand.open(BODY)
    took = one_after_the_other(stand, 150, parts_s=0.16)
    settled = took[len(took) // 2 :]  # how long looks at parts take is known by then
    assert len(settled) > 8
    assert sorted(settled)[len(settled) * 3 // 4] <= FRAME_S + 0.001
    parts = [one for one in stand.near.asked if one.kind is LookKind.PARTS and one.future.done()]
    assert len(parts) >= len(took) / 2
    stand.looking.close()


def test_however_long_they_take_parts_are_looked_at_about_once_a_second() -> None:
    """Without any, hair is what an ellipse holds, and nobody says who is none."""
    stand = Stand(people_s=0.24, parts_s=0.04, parts_a_frame=1, middle_s=60.0, far_s=60.0)
    stand.open(BODY)
    one_after_the_other(stand, 200, parts_s=0.4)
    asked_s = sorted(
        {stand.captured_s(one) for one in stand.near.asked if one.kind is LookKind.PARTS}
    )
    gaps = [later - earlier for earlier, later in pairwise(asked_s[len(asked_s) // 2 :])]
    assert len(gaps) >= 2
    assert max(gaps) <= 1.0 + 2 * FRAME_S
    assert stand.now_s - asked_s[-1] <= 1.0 + 2 * FRAME_S
    stand.looking.close()


# --- whatever comes ---


def test_no_more_looks_wait_than_are_of_use() -> None:
    stand = Stand()
    stand.open(BODY)
    for _ in range(100):
        stand.take()
        stand.answer_faces(FACE)
        stand.advance()
        assert len(stand.near.waiting(LookKind.PEOPLE)) <= 1
        assert len(stand.far.waiting(LookKind.PEOPLE)) <= 1 + 3
        parts = [*stand.near.waiting(LookKind.PARTS), *stand.near.waiting(LookKind.CLOSER)]
        assert len(parts) <= 4 + 2 * 3
    assert len(stand.raws) - len(stand.let_go()) <= 3  # looks for people are under way at few
    stand.looking.close()


actions = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 1)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.sampled_from(["faces", "near", "far"]), st.integers(0, 5)),
        st.tuples(st.just("fail"), st.integers(0, 5)),
        st.tuples(st.just("time"), st.integers(1, 300)),
    ),
    max_size=40,
)


@given(table=actions, delay_s=st.sampled_from([0.0, DELAY_S]))
@settings(max_examples=40, deadline=None)
def test_whatever_is_answered_when_each_frame_is_judged_once_in_order_and_nothing_is_kept(
    table: Sequence[tuple[str, int]], delay_s: float
) -> None:
    stand = Stand(delay_s=delay_s, size_wh=(320, 180))

    def answer(hands: Hands, index: int, how: Callable[[Asked], None]) -> None:
        waiting = hands.waiting()
        if waiting:
            how(waiting[index % len(waiting)])

    for what, detail in table:
        if what in ("take", "restart"):
            stand.take(seed=detail, restart=what == "restart")
        elif what == "time":
            stand.now_s += detail / 1000
        elif what == "fail":
            for hands in (stand.faces, stand.near, stand.far):
                answer(hands, detail, lambda one: one.fail(ParserError("it died")))
        else:
            answer(getattr(stand, what), detail, lambda one: one.answer((90, 48, 110, 72)))
        stand.advance()
    stand.advance(everything=True)
    assert [one.frame_id for one in stand.verdicts] == list(range(len(stand.raws)))
    stand.looking.close()
    assert stand.let_go() == set(range(len(stand.raws)))
    assert not any(buffer.any() for buffer in stand.buffers)


def test_with_real_pools_people_are_found_and_every_copy_is_zeroed() -> None:
    copies: list[Picture] = []

    class Seeing:
        """A drawn looker in this process, as a pool takes it."""

        def __init__(self) -> None:
            self._looker = DrawnLooker()

        def look(self, bgr: Picture, kind: LookKind, *, frame_id: int) -> Seen:
            copies.append(bgr)
            return self._looker.asked(kind, bgr, frame_id=frame_id)

        def interrupt(self) -> None:
            pass

        def close(self) -> None:
            pass

    real = [LookPool([Seeing()]) for _ in range(3)]
    stand = Stand(pools=Pools(*real))
    try:
        for _ in range(3):
            stand.now_s += FRAME_S
            buffer = backdrop(0, *SIZE_WH)
            buffer[..., 0] = 0  # the room has no blue in it
            buffer[100:160, 200:250] = 128  # a grey head
            number = len(stand.raws)
            raw = RawFrame(
                buffer,
                frame_id=number,
                pts=number,
                time_base=Fraction(1, RATE),
                captured_ns=round(stand.now_s * 1e9),
            )
            stand.raws.append(raw)
            stand.looking.take(Captured(raw), stand.now_s)
            raw.release()
            while stand.looking._under_way:
                for one in list(stand.looking._under_way):
                    one.future.exception(60)
                stand.advance()
    finally:
        for pool in real:
            pool.close()
    stand.looking.close()
    assert [one.cover is not None for one in stand.verdicts] == [True] * 3
    for verdict in stand.verdicts:
        assert verdict.cover is not None
        assert verdict.cover.people == 1
        assert (verdict.cover.parts[110:150, 210:240] > 0).all()
    assert copies
    assert not any(copy.any() for copy in copies)


@pytest.mark.parametrize("delay_s", [0.0, DELAY_S])
@pytest.mark.parametrize(("gap", "waits"), [(1, False), (5, True)])
def test_after_a_stall_a_frame_waits_longer_for_its_look_at_faces(
    delay_s: float, gap: int, waits: bool
) -> None:
    stand = Stand(delay_s=delay_s)
    stand.open(BODY)
    stand.take(seconds=gap * FRAME_S)
    stand.answer_people(BODY)
    judged = stand.advance(max(delay_s, FRAME_S) + 0.05)
    assert (1 not in judged) == waits
    if waits:
        assert stand.advance(1.0) == [1]  # but not for ever


@pytest.mark.parametrize(
    ("size_wh", "configured", "side"),
    [
        ((640, 360), 640, 640),
        ((1280, 720), 320, 640),
        ((1920, 1080), 640, 960),
        ((1080, 1920), 640, 960),
        ((3840, 2160), 640, 960),
        ((1920, 1080), 1280, 1280),
    ],
)
def test_faces_are_looked_for_at_half_the_pictures_size_up_to_a_limit(
    size_wh: tuple[int, int], configured: int, side: int
) -> None:
    assert live_face_side(size_wh, configured) == side
