"""What a live run has recorded stays, whatever ends it, unless a promise was broken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from m2fp_stream.compositor.compose import Compositor
from m2fp_stream.core.errors import ModelError, PromiseError, SourceError
from m2fp_stream.core.records import LookKind
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.pipeline.live.outlets import Outlet
from m2fp_stream.pipeline.live.schedule import Load
from m2fp_stream.pipeline.looks import Seen as LookSeen
from m2fp_stream.pipeline.workers import ParserWorker, WorkerSpec
from m2fp_stream.sinks.base import Sink
from m2fp_stream.sinks.segments import RecordOptions, SegmentSink
from m2fp_stream.sources.base import Captured
from tests.kit import media
from tests.kit.film import pictures
from tests.kit.live_stage import (
    TIME_BASE,
    Cues,
    LiveFootage,
    Performance,
    looker,
    scene,
    shows_marker,
)
from tests.kit.stage import HEIGHT, WIDTH, Picture
from tests.kit.wait import PATIENCE_S, wait_until

pytestmark = pytest.mark.paced

FRAMES = 40


class Recording:
    """An outlet that records into a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        join_s: float = 5.0,
        patience_s: float = 0.0,
        on_notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = folder
        self.outlet = Outlet(
            "recording",
            self._make,
            keep=60,
            join_s=join_s,
            patience_s=patience_s,
            on_notice=on_notice,
        )

    def _make(self, size_wh: tuple[int, int]) -> Sink[SafeFrame]:
        options = RecordOptions(enabled=True, preset="ultrafast", crf=5)
        return SegmentSink(self.folder, options, size_wh=size_wh, time_base=Fraction(TIME_BASE))

    def has_frames(self) -> bool:
        return self.outlet.written >= FRAMES

    def pictures(self) -> list[Picture]:
        """What its one complete file holds; nothing else may be there."""
        (segment,) = sorted(self.folder.iterdir())
        assert segment.suffix == ".mp4"
        return list(pictures(segment))

    def is_empty(self) -> bool:
        return not list(self.folder.iterdir())


def end_of(stage: Performance) -> BaseException:
    """Waits until a run has ended by an error."""
    return wait_until(lambda: stage.error)


class Breaking(Sink[SafeFrame]):
    """Raises as soon as it is told to."""

    accepts = SafeFrame

    def __init__(self, error: BaseException, broken: threading.Event) -> None:
        super().__init__()
        self._error, self._broken = error, broken

    def _emit(self, item: SafeFrame) -> None:
        if self._broken.is_set():
            raise self._error

    def _finish(self) -> None:
        pass

    def _abort(self) -> None:
        pass


class CutShort(LiveFootage):
    """A film that cannot be read on after some frames."""

    def _capture(self) -> Iterator[Captured]:
        for number, captured in enumerate(super()._capture()):
            if number == FRAMES:
                captured.frame.release()
                raise SourceError("the film is cut short; --salvage reads what can be read")
            yield captured


def assert_kept(recording: Recording, *, least: int = FRAMES) -> None:
    shown = recording.pictures()
    assert len(shown) >= least
    assert not any(shows_marker(picture, -1) for picture in shown)


@pytest.mark.parametrize("alignment", ["aligned", "low_latency"])
@pytest.mark.parametrize("slow", [False, True])
def test_a_film_that_is_cut_short_ends_with_its_error_and_all_its_frames(
    tmp_path: Path, alignment: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but those that are counted as dropped: on a slow machine not all are taken."""
    if slow:
        monkeypatch.setattr(Load, "taken", lambda *_, **__: 0.5)
    recording = Recording(tmp_path)
    stage = Performance(
        more_outlets=(recording.outlet,),
        live={"alignment": alignment},
        open_source=lambda first, size: CutShort(Cues(), first, size),
        endless=False,
    )
    with stage:
        assert isinstance(end_of(stage), SourceError)
    shown = {one.frame_id for one in stage.seen}
    assert shown & {FRAMES - 2, FRAMES - 1}  # the last ones were still being judged
    assert stage.raw_frames() == []
    dropped = stage.run.facts()["dropped"]
    assert dropped >= slow * (FRAMES // 2 - 1)
    assert_kept(recording, least=FRAMES - dropped)


@pytest.mark.parametrize("name", ["faces", "near", "far"])
def test_a_looker_that_cannot_start_again_ends_the_run_and_the_recording_stays(
    tmp_path: Path, name: str
) -> None:
    recording = Recording(tmp_path)
    ready = threading.Event()

    class Failing:
        """Works, until it is told not to."""

        def __init__(self) -> None:
            self._good = looker()

        def look(self, bgr: Picture, kind: LookKind, *, frame_id: int) -> LookSeen:
            if ready.is_set():
                raise ModelError("the weights were changed; reinstall the package")
            return self._good.look(bgr, kind, frame_id=frame_id)

        def interrupt(self) -> None:
            self._good.interrupt()

        def close(self) -> None:
            self._good.close()

    with Performance({name: Failing()}, more_outlets=(recording.outlet,)) as stage:
        wait_until(recording.has_frames)
        ready.set()
        assert isinstance(end_of(stage), ModelError)
    assert stage.raw_frames() == []
    assert_kept(recording)


def test_a_fine_parser_that_cannot_start_costs_no_recording(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recorded = tmp_path.with_name(f"{tmp_path.name} is recorded")
    spec = WorkerSpec("tests.kit.faulty:broken_factory", {"until": str(recorded)})
    live = {"alignment": "low_latency"}  # shows the card from the first frame on
    outlets = (recording.outlet,)
    with Performance(fine=ParserWorker(spec), more_outlets=outlets, live=live) as stage:
        wait_until(lambda: recording.outlet.written)
        recorded.touch()
        assert isinstance(end_of(stage), ModelError)
    assert_kept(recording, least=1)


def test_a_fault_of_one_sink_costs_no_other_its_recording(tmp_path: Path) -> None:
    recording, broken = Recording(tmp_path), threading.Event()
    fault = RuntimeError("a fault of the program")
    other = Outlet("other", lambda _: Breaking(fault, broken), keep=2)
    with Performance(more_outlets=(other, recording.outlet)) as stage:
        wait_until(recording.has_frames)
        broken.set()
        assert end_of(stage) is fault
    assert_kept(recording)


def test_a_broken_promise_takes_every_recording_with_it(tmp_path: Path) -> None:
    recording, broken = Recording(tmp_path), threading.Event()
    fault = PromiseError("a promise could not be kept")
    other = Outlet("other", lambda _: Breaking(fault, broken), keep=2)
    with Performance(more_outlets=(other, recording.outlet)) as stage:
        wait_until(recording.has_frames)
        broken.set()
        assert end_of(stage) is fault
    assert recording.is_empty()


def test_a_fault_in_composing_takes_the_recording_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recording(tmp_path)
    fault = RuntimeError("a fault of the program")

    def broken(*_: object) -> SafeFrame:
        raise fault

    with Performance(more_outlets=(recording.outlet,)) as stage:
        wait_until(recording.has_frames)
        monkeypatch.setattr(Compositor, "compose", broken)
        assert end_of(stage) is fault
    assert recording.is_empty()


@pytest.mark.parametrize("patience_s", [0.0, PATIENCE_S])
def test_a_slow_encoder_loses_frames_and_not_its_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    """Without patience it is left behind, and so is its part file: the control."""
    notices: list[str] = []
    slow, waits, quick = threading.Event(), threading.Event(), threading.Event()

    def told(notice: str) -> None:
        notices.append(notice)
        if "being completed" in notice:
            quick.set()  # what it was at is done at last

    recording = Recording(tmp_path, join_s=0.1, patience_s=patience_s, on_notice=told)
    emit = SegmentSink._emit

    def slowly(self: SegmentSink, item: SafeFrame) -> None:
        if slow.is_set():
            waits.set()
            quick.wait(2 * PATIENCE_S)
        emit(self, item)

    monkeypatch.setattr(SegmentSink, "_emit", slowly)
    with Performance(more_outlets=(recording.outlet,)) as stage:
        wait_until(recording.has_frames)
        slow.set()
        assert waits.wait(PATIENCE_S)
        wait_until(lambda: len(recording.outlet._waiting) > 12)
        before = recording.outlet.written
    quick.set()
    assert stage.error is None
    assert recording.outlet.failures == (patience_s == 0)
    if patience_s:
        assert_kept(recording)
        assert recording.outlet.dropped > 5
        assert recording.outlet.written == before + 1  # no more than it was at
        assert any("being completed" in notice for notice in notices)
    else:
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]


def test_the_search_finds_the_person_in_a_recording_of_the_raw_picture(tmp_path: Path) -> None:
    """The bypass control of the tests above."""
    recording = Recording(tmp_path)
    recording.outlet.open((WIDTH, HEIGHT))
    for number in range(3):
        recording.outlet.offer(media.composed(scene(0), number, time_base=TIME_BASE))
    recording.outlet.close(complete=True)
    assert all(shows_marker(one, -1) for one in recording.pictures())
