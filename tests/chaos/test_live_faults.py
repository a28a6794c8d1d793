"""Whatever breaks while a live picture runs, no frame shows the marked person, and it comes back.

Every fault runs for real: lookers in their processes, sinks in their threads, a camera that is
drawn but keeps a camera's pace. `python -m tests.kit.live_faults` prints the same as a table.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from itertools import product, takewhile
from pathlib import Path
from typing import Any

import psutil
import pytest
from _pytest.mark import ParameterSet

from m2fp_stream.core._mint import COMPOSED
from m2fp_stream.core.errors import ModelError
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import LookKind
from m2fp_stream.core.safe import CoverInfo, CoverLevel, SafeFrame
from m2fp_stream.pipeline.live.outlets import Outlet
from m2fp_stream.pipeline.looks import LookWorker
from m2fp_stream.pipeline.workers import WorkerSpec
from tests.kit.live_faults import (
    KIND_FAULTS,
    LOOK_FAULTS,
    SOURCE_FAULTS,
    Failing,
    run_look_fault,
    run_source_fault,
    too_little,
)
from tests.kit.live_stage import (
    KINDS,
    TIME_BASE,
    Performance,
    Seen,
    Watching,
    broken,
    kill,
    looker,
    running,
    scene,
)
from tests.kit.wait import wait_until

pytestmark = pytest.mark.paced

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


def test_the_ages_of_looks_are_told_from_looks_that_stop() -> None:
    """The control of `too_little`: what would be wrong if no look had been answered."""
    with Performance(live={"alignment": "low_latency"}) as stage:
        first = stage.as_usual()
        stage.wait_for(lambda one: one.frame_id > first.frame_id + 30)
        stage.as_usual(time.monotonic())
    assert too_little(stage) == []
    for pool in stage.pools.values():
        del pool.good[5:]
    assert too_little(stage)


def in_turn(*lists: Iterable[object]) -> list[ParameterSet]:
    """Every combination in both alignments: one of them always, the other with the slow tests."""
    cases = []
    for number, case in enumerate(product(*lists)):
        for which, alignment in enumerate(ALIGNMENTS):
            marks = [] if number % 2 == which else [pytest.mark.slow]
            cases.append(pytest.param(*case, alignment, marks=marks))
    return cases


REFUSED = ("nan", "stale", "nothing", "other_kind", "forged_frame", "garbage")
"""Answers that a worker refuses: from there on they are one and the same error."""
ALL_REFUSED = "nan"


@pytest.mark.parametrize(
    ("fault", "alignment"),
    in_turn([fault for fault in LOOK_FAULTS if fault not in REFUSED or fault == ALL_REFUSED])
    + [
        pytest.param(fault, one, marks=pytest.mark.slow)
        for fault in REFUSED
        if fault != ALL_REFUSED
        for one in ALIGNMENTS
    ],
)
def test_lookers_that_all_fail_show_as_the_card_and_recover(fault: str, alignment: str) -> None:
    outcome = run_look_fault(fault, alignment)
    assert outcome.raw == 0
    assert outcome.too_little == []  # the age of the last good looks decides (P3)


@pytest.mark.parametrize(("kind", "fault", "alignment"), in_turn(KINDS, KIND_FAULTS))
def test_one_kind_of_look_that_fails_alone_shows_by_its_age_and_recovers(
    kind: str, fault: str, alignment: str
) -> None:
    """Faces, people, far: the whole picture in the end; parts and closer: the whole person."""
    outcome = run_look_fault(fault, alignment, kind)
    assert outcome.raw == 0
    assert outcome.too_little == []


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_looker_for_people_that_fails_everywhere_ages_a_picture_whose_faces_are_seen(
    alignment: str, tmp_path: Path
) -> None:
    cue = tmp_path / "broken"
    names = ("faces", "near", "far")
    lookers = {name: looker("raising", kinds=["people"], cue=str(cue)) for name in names}
    with Performance(lookers, live={"alignment": alignment}) as stage:
        stage.as_usual()
        cue.touch()
        began_s = time.monotonic()
        # A look that was under way may have been answered yet.
        stage.wait_for(lambda one: one.captured_s > began_s + 2.0)
        late = [one for one in list(stage.seen) if one.captured_s > began_s + 1.0]
        faces = {n for kind, n in list(stage.pools["faces"].good) if kind is LookKind.FACES}
        cue.unlink()
        stage.as_usual(time.monotonic())
    assert {one.level for one in late} == {CoverLevel.FRAME}
    assert any(one.frame_id in faces for one in late)
    assert stage.raw_frames() == []
    assert too_little(stage) == []


@pytest.mark.parametrize(("kind", "alignment"), in_turn(["parts", "closer"]))
def test_close_looks_that_fail_leave_the_heads_cover_and_then_the_whole_person(
    kind: str, alignment: str, tmp_path: Path
) -> None:
    """Other close looks, which succeed, make it no younger; looks at whole frames go on."""
    cue = tmp_path / "broken"
    with Performance(broken("raising", kind, cue=str(cue)), live={"alignment": alignment}) as stage:
        stage.as_usual()
        cue.touch()
        stage.until(lambda: bool(stage.pools["near"].bad))
        failed, frame_id, answered_s = stage.pools["near"].bad[0]
        # The most urgent goes first: of a later frame one may have succeeded before.
        good = [number for one, number in stage.pools["near"].good if one is failed]
        last_s = max(stage.cues.times[number] for number in (frame_id, *good))
        known_s = max(answered_s, last_s + 0.4) + 0.1

        def later() -> list[CoverLevel]:
            return [one.level for one in list(stage.seen) if one.captured_s > known_s]

        # Frames on which others, whose age counts, were late as well may be the card. Where a busy
        # machine changes the rate of frames, a shot begins anew, with the card: up to there.
        stage.until(lambda: later().count(CoverLevel.PERSON) > 40)
        levels = list(takewhile(lambda level: level is not CoverLevel.FRAME, later()))
        cue.unlink()
        stage.as_usual(time.monotonic())
    assert CoverLevel.PARTS not in levels, "".join(level.value[1] for level in levels)
    assert stage.raw_frames() == []
    assert too_little(stage) == []


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_far_looks_that_fail_are_late_by_design(alignment: str, tmp_path: Path) -> None:
    """They are rare: only one and a half times as long after the last one it tells."""
    cue = tmp_path / "broken"
    live = {"alignment": alignment, "far_s": 10.0}
    with Performance(broken("raising", "far", cue=str(cue)), live=live) as stage:
        stage.as_usual()
        cue.touch()
        stage.as_usual(time.monotonic() + 2.0)
    assert stage.raw_frames() == []
    assert too_little(stage) == []


@pytest.mark.parametrize(("fault", "alignment"), in_turn(SOURCE_FAULTS))
def test_a_faulty_source_shows_as_cover_and_recovers(fault: str, alignment: str) -> None:
    outcome = run_source_fault(fault, alignment)
    assert outcome.raw == 0
    assert outcome.too_little == []


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_picture_that_stands_still_goes_on_being_shown(alignment: str) -> None:
    with Performance(live={"alignment": alignment}) as stage:
        stage.as_usual()
        stage.cues.frozen.set()
        frozen_s = time.monotonic()
        stage.as_usual(frozen_s + 2.0)
        assert stage.capture.away is None
    assert stage.capture.reconnects == 0
    assert stage.raw_frames() == []


@pytest.mark.parametrize("kind", ["faces", "people"])
def test_nothing_is_shown_before_the_first_looks(kind: str) -> None:
    names = ("faces",) if kind == "faces" else ("faces", "near", "far")
    lookers = {name: looker("hanging", kinds=[kind], deadline_s=60.0) for name in names}
    with Performance(lookers, live={"alignment": "low_latency"}) as stage:
        stage.wait_for(lambda one: one.frame_id > 60)
    assert {one.level for one in stage.seen} == {CoverLevel.FRAME}
    assert stage.raw_frames() == []


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize(
    ("fault", "options"), [("slow", {"slow_s": 3.0}), ("hanging", {"deadline_s": 3.0})]
)
def test_a_first_look_that_comes_too_late_is_made_again(
    fault: str, options: dict[str, Any], alignment: str
) -> None:
    """Too late: nothing is known of its frame any more."""
    early = list(range(20))
    lookers = {
        name: looker(fault, kinds=["people"], at=early, **options)
        for name in ("faces", "near", "far")
    }
    with Performance(lookers, live={"alignment": alignment}) as stage:
        stage.as_usual()
    assert stage.raw_frames() == []
    assert too_little(stage) == []


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_parts_then_the_person_then_the_picture_as_looks_for_faces_grow_old(
    alignment: str, tmp_path: Path
) -> None:
    cue = tmp_path / "broken"
    lookers = broken("hanging", "faces", cue=str(cue), deadline_s=60.0)
    with Performance(lookers, live={"alignment": alignment}) as stage:
        stage.as_usual()
        cue.touch()
        hung_s = time.monotonic()
        stage.wait_for(lambda one: one.captured_s > hung_s + 1.5 and one.frame_id >= 0)
        last_s = max(stage.cues.times[number] for _, number in list(stage.pools["faces"].good))
        shown = [one for one in list(stage.seen) if one.captured_s > last_s and one.frame_id >= 0]
    order = [CoverLevel.PARTS, CoverLevel.PERSON, CoverLevel.FRAME]
    for one in shown:
        age_s = one.captured_s - last_s
        # Other looks may be late as well on a busy machine: never less than this, perhaps more.
        assert order.index(one.level) >= (age_s >= 0.401) + (age_s >= 1.001)
        if one.level is not CoverLevel.FRAME:
            assert one.age_s is not None
            assert one.age_s >= age_s - 1e-3
    assert shown[-1].level is CoverLevel.FRAME
    assert stage.raw_frames() == []
    assert too_little(stage) == []


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_looker_for_faces_that_hangs_keeps_few_pictures_waiting(
    alignment: str, tmp_path: Path
) -> None:
    """No queue can grow, and who is back answers about what is shown now."""
    cue = tmp_path / "broken"
    lookers = broken("hanging", "faces", cue=str(cue), deadline_s=60.0)
    with Performance(lookers, live={"alignment": alignment}) as stage:
        usual = stage.as_usual()
        cue.touch()
        stage.wait_for(lambda one: one.frame_id > usual.frame_id + 75)
        assert stage.pools["faces"].under_way <= 12
        assert stage.pools["near"].under_way <= 12
        assert stage.pools["far"].under_way <= 12
    assert stage.raw_frames() == []


@pytest.mark.parametrize(("name", "alignment"), in_turn(["faces", "near", "far"]))
def test_a_killed_looker_process_is_replaced(name: str, alignment: str) -> None:
    with Performance(live={"alignment": alignment, "far_s": 0.5}) as stage:
        killed = stage.lookers[name]
        assert isinstance(killed, LookWorker)
        stage.as_usual()
        for _ in range(2):
            pid = running(killed)
            kill(pid)
            assert running(killed, other_than=pid)
            done = len(stage.pools[name].good)
            stage.until(lambda done=done: len(stage.pools[name].good) > done)  # type: ignore[misc]  # now
            stage.as_usual(time.monotonic())
    assert stage.raw_frames() == []
    assert too_little(stage) == []
    assert killed.starts >= 3


@pytest.mark.parametrize("name", ["faces", "near", "far"])
def test_a_looker_that_cannot_start_ends_the_run_with_its_error(name: str) -> None:
    lost = LookWorker(WorkerSpec("tests.kit.faulty:broken_looker_factory"))
    with Performance({name: lost}) as stage:
        wait_until(lambda: stage.error)
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

        def recovered(times: int) -> Callable[[], bool]:
            return lambda: stage.capture.reconnects >= times

        stage.picture()
        threads, descriptors = threading.active_count(), process.num_fds()
        for number in range(losses):
            stage.cues.lost.set()
            stage.until(recovered(number + 1))
            stage.wait_for(lambda one: one.frame_id >= 0, time.monotonic())
        stage.picture(time.monotonic())
        assert stage.capture.reconnects == losses
        # A looker that was replaced meanwhile, for being slow, may have its pipes twice.
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
