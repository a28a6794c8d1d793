"""Whatever breaks while a live picture runs, no frame shows the marked person, and it comes back.

Every fault runs for real: parsers in their processes, sinks in their threads, a camera that is
drawn but keeps a camera's pace. `python -m tests.chaos.live_stage` prints the same as a table.
"""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import psutil
import pytest

from m2fp_stream.core._mint import COMPOSED
from m2fp_stream.core.errors import ModelError
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import CoverInfo, CoverLevel, SafeFrame
from m2fp_stream.pipeline.live.outlets import Outlet
from m2fp_stream.pipeline.workers import ParserWorker, WorkerSpec

from .live_stage import (
    PARSER_FAULTS,
    PATIENCE_S,
    SOURCE_FAULTS,
    TIME_BASE,
    Cues,
    Failing,
    Performance,
    Seen,
    Watching,
    kill,
    run_parser_fault,
    run_source_fault,
    running,
    scene,
    worker,
)

ALIGNMENTS = ("aligned", "low_latency")


def test_the_search_finds_a_raw_frame_that_gets_past() -> None:
    """The bypass control: the same sink, a picture as the camera gave it."""
    seen: list[Seen] = []
    sink = Watching(seen)
    for number in (3, 150):
        forged = SafeFrame(
            scene(number),
            frame_id=number,
            pts=number,
            time_base=TIME_BASE,
            captured_ns=0,
            cover=CoverInfo(0.0, CoverLevel.PARTS, "parsed"),
            key=COMPOSED,
        )
        sink.write(forged)
    sink.abort()
    assert [one.raw for one in seen] == [True, True]


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_without_a_fault_the_room_is_shown_and_the_person_is_not(alignment: str) -> None:
    with Performance(live={"alignment": alignment}) as stage:
        first = stage.picture()

        def latest() -> list[Seen]:
            return [one for one in list(stage.seen) if one.frame_id > first.frame_id][-40:]

        def mostly_shown() -> bool:
            pictures = [one for one in latest() if one.level is not CoverLevel.FRAME]
            return len(pictures) > 20

        # On a machine that is busy with other things, some are the card for a while.
        stage.until(lambda: len(latest()) == 40 and mostly_shown())
    assert stage.raw_frames() == []
    assert stage.error is None
    ids = [one.frame_id for one in stage.seen if one.frame_id >= 0]
    assert ids == sorted(set(ids))


REFUSED = ("nan", "empty", "wrong_size")
"""Answers that a worker refuses: from there on they are one and the same error."""


@pytest.mark.parametrize(
    ("fault", "alignment"),
    [
        pytest.param(
            fault, one, marks=[pytest.mark.slow] if fault in REFUSED and one == "aligned" else []
        )
        for fault in PARSER_FAULTS
        for one in ALIGNMENTS
    ],
)
def test_a_faulty_parser_shows_as_cover_and_recovers(fault: str, alignment: str) -> None:
    outcome = run_parser_fault(fault, alignment)
    assert outcome.raw == 0
    assert outcome.covered_s is not None  # the age of the last good parse decides (P3)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("fault", SOURCE_FAULTS)
def test_a_faulty_source_shows_as_cover_and_recovers(fault: str, alignment: str) -> None:
    assert run_source_fault(fault, alignment).raw == 0


def test_nothing_is_shown_before_the_first_parse() -> None:
    parser = ParserWorker(
        WorkerSpec("tests.chaos.faulty:Faulty", {"fault": "hanging", "at": None}, deadline_s=60)
    )
    with Performance(parser, live={"alignment": "low_latency"}) as stage:
        stage.wait_for(lambda one: one.frame_id > 40)
    assert {one.level for one in stage.seen} == {CoverLevel.FRAME}
    assert stage.raw_frames() == []


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_parts_then_the_person_then_the_picture_as_the_last_parse_grows_old(alignment: str) -> None:
    cues = Cues()
    parser = worker("hanging", at=list(range(40, 4000)))
    live = {"alignment": alignment, "max_delay_s": 3.0, "parse_deadline_s": 60.0}
    with Performance(parser, cues=cues, live=live) as stage:
        stage.wait_for(lambda one: one.frame_id >= 40)
        stage.wait_for(
            lambda one: one.frame_id >= 40 and one.level is CoverLevel.FRAME, time.monotonic()
        )
    shown = [one for one in stage.seen if one.frame_id >= 30]
    levels = [one.level for one in shown]
    assert CoverLevel.FRAME in levels
    if alignment == "low_latency":  # aligned holds the picture back instead
        order = [CoverLevel.PARTS, CoverLevel.PERSON, CoverLevel.FRAME]
        assert set(levels) <= set(order)
        assert CoverLevel.PERSON in levels
        for one in shown:
            if one.level is not CoverLevel.FRAME:
                assert one.age_s is not None
                assert one.level is order[one.age_s >= 0.4]
        # On a busy machine the last answers come late, and make the cover young once more.
        ages = [float("inf") if one.age_s is None else one.age_s for one in shown]
        younger = [number for number, pair in enumerate(pairwise(ages), 1) if pair[1] < pair[0]]
        ranks = [order.index(level) for level in levels[max(younger, default=0) :]]
        assert ranks == sorted(ranks)
        assert ranks[-1] == order.index(CoverLevel.FRAME)
    assert stage.raw_frames() == []


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_killed_parser_process_is_replaced(alignment: str) -> None:
    parser = worker()
    with Performance(parser, live={"alignment": alignment}) as stage:
        stage.picture()
        for _ in range(3):
            pid = running(parser)
            kill(pid)
            assert running(parser, other_than=pid)
            stage.picture(time.monotonic() + 0.5)
    assert stage.raw_frames() == []
    assert parser.starts >= 4


def test_a_parser_that_cannot_start_ends_the_run_with_its_error() -> None:
    parser = ParserWorker(WorkerSpec("tests.chaos.faulty:broken_factory"))
    with Performance(parser) as stage:
        give_up_s = time.monotonic() + PATIENCE_S
        while stage.error is None and time.monotonic() < give_up_s:
            time.sleep(0.02)
    assert isinstance(stage.error, ModelError)
    assert stage.raw_frames() == []


@pytest.mark.parametrize("how", ["full", "dead"])
def test_a_sink_that_fails_or_blocks_does_not_hold_up_the_others(how: str) -> None:
    release = threading.Event()
    notices: list[str] = []
    broken = Outlet("broken", lambda _: Failing(how, release), keep=2, on_notice=notices.append)
    try:
        with Performance(more_outlets=(broken,)) as stage:
            stage.picture()
            start = stage.seen[-1].frame_id
            stage.wait_for(lambda one: one.frame_id > start + 40)
            assert broken.dropped > 0
            release.set()
    finally:
        release.set()
    assert stage.error is None
    assert stage.raw_frames() == []
    if how == "full":
        assert broken.failures > 0
        assert any("no space left" in notice for notice in notices)


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_jump_of_the_wall_clock_changes_nothing(
    step_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumped = threading.Event()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + (step_s if jumped.is_set() else 0.0))
    with Performance() as stage:
        stage.picture()
        jumped.set()
        at_s = time.monotonic()
        start = stage.seen[-1].frame_id
        stage.wait_for(lambda one: one.frame_id > start + 25)
        stage.picture(at_s + 0.5)
    assert stage.raw_frames() == []


@pytest.mark.parametrize("level", [CoverLevel.PERSON, CoverLevel.FRAME])
def test_a_turn_of_the_dial_holds_from_the_next_frame_on(level: CoverLevel) -> None:
    with Performance() as stage:
        stage.picture()
        stage.dial.turn(level)
        before = stage.stats.summary()["frames"] + 1  # one more may have been composed
        stage.until(lambda: len(stage.seen) > before + 15)
        later = stage.seen[before:]
        stage.dial.configured()
        stage.picture(time.monotonic())
    weaker = {CoverLevel.PARTS, CoverLevel.PERSON} if level is CoverLevel.FRAME else set()
    assert later
    assert not [one for one in later if one.level in weaker]
    if level is CoverLevel.PERSON:
        assert {one.level for one in later} <= {CoverLevel.PERSON, CoverLevel.FRAME}
    assert stage.raw_frames() == []


@pytest.mark.parametrize("losses", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_losses_in_a_row_are_as_many_recoveries_and_leave_nothing(losses: int) -> None:
    process = psutil.Process()
    with Performance(rate=50) as stage:
        stage.picture()
        threads, descriptors = threading.active_count(), process.num_fds()
        for number in range(losses):
            stage.cues.lost.set()
            give_up_s = time.monotonic() + PATIENCE_S
            while stage.capture.reconnects <= number and time.monotonic() < give_up_s:
                time.sleep(0.005)
            stage.wait_for(lambda one: one.frame_id >= 0, time.monotonic())
        stage.picture(time.monotonic())
        assert stage.capture.reconnects == losses
        # A parser that was replaced meanwhile, for being slow, may have its pipes twice.
        stage.until(
            lambda: threading.active_count() <= threads and process.num_fds() <= descriptors
        )
    assert stage.raw_frames() == []


def test_every_raw_frame_is_released_and_zeroed(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[RawFrame] = []
    original = RawFrame.__init__

    def remember(self: RawFrame, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type]  # as it came
        given.append(self)

    monkeypatch.setattr(RawFrame, "__init__", remember)
    with Performance() as stage:
        stage.picture()
        stage.cues.lost.set()
        stage.until(lambda: stage.capture.reconnects and len(given) > 20)
        stage.picture(time.monotonic())
    assert len(given) > 20
    assert all(frame.released for frame in given)
