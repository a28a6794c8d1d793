"""What every live source promises, asked of every live source. The camera is *simulated*."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from m2fp_stream.core.errors import LeaseError, SourceError
from m2fp_stream.sources.base import Source
from m2fp_stream.sources.camera import CameraReader, CameraSource
from m2fp_stream.sources.devices import CameraDevice, CameraId
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.live import LIVE_TIME_BASE, LiveSource, RealtimeSource
from m2fp_stream.sources.options import CameraOptions, SyntheticOptions
from m2fp_stream.sources.pipe import PipeSource
from m2fp_stream.sources.snapshot import SnapshotSource
from m2fp_stream.sources.stream import StreamSource
from m2fp_stream.sources.synthetic import SyntheticSource
from tests.kit import media
from tests.kit.http_camera import HttpCamera
from tests.kit.pipes import write_paced
from tests.kit.rtsp import RtspServer, require_rtsp
from tests.kit.wait import PATIENCE_S

LIVE_SOURCES = {
    RealtimeSource,
    SyntheticSource,
    CameraSource,
    StreamSource,
    SnapshotSource,
    PipeSource,
}
SIZE_WH = (192, 128)


class Cameras:
    """A simulated computer with one camera that always works."""

    def __init__(self) -> None:
        camera = CameraId("046d", "0825", "77", "0000:00:14.0-2", "Simulated Camera")
        self._device = CameraDevice(camera, 0, Path("/dev/null"))

    def list(self) -> Sequence[CameraDevice]:
        return [self._device]

    def open(self, device: CameraDevice, options: CameraOptions) -> CameraReader:
        return Pictures()


class Pictures:
    """Numbered cards at a camera's pace."""

    def __init__(self) -> None:
        self._number = -1

    def read(self) -> media.BGR | None:
        time.sleep(0.01)
        self._number += 1
        return media.card(SIZE_WH, self._number)

    def close(self) -> None:
        pass


Make = Callable[..., Source]


def _realtime(folder: Path, stack: ExitStack, **options: Any) -> LiveSource:
    path = folder / "film.mp4"
    if not path.exists():
        media.write_video(path, size_wh=SIZE_WH, count=60)
    return RealtimeSource(FileSource(path), reopen=lambda: FileSource(path), **options)


def _synthetic(folder: Path, stack: ExitStack, **options: Any) -> LiveSource:
    return SyntheticSource(SyntheticOptions(width=SIZE_WH[0], height=SIZE_WH[1]), **options)


def _camera(folder: Path, stack: ExitStack, **options: Any) -> LiveSource:
    return CameraSource("0", backend=Cameras(), **options)


def _stream(folder: Path, stack: ExitStack, **options: Any) -> LiveSource:
    require_rtsp()
    cards = [media.card(SIZE_WH, number) for number in range(20)]
    server = stack.enter_context(RtspServer(cards, size_wh=SIZE_WH))
    return StreamSource(server.url, **options)


def _snapshot(folder: Path, stack: ExitStack, **options: Any) -> LiveSource:
    camera = stack.enter_context(HttpCamera())
    return SnapshotSource(camera.url("/snap.jpg"), interval_s=0.01, **options)


def _pipe(folder: Path, stack: ExitStack, **options: Any) -> Source:
    path, pipe = folder / "film.ts", folder / "pipe"
    if not path.exists():
        media.write_video(path, size_wh=SIZE_WH, count=200)
        os.mkfifo(pipe)
    writer = stack.enter_context(write_paced(path, pieces=200, to=pipe))
    stack.callback(writer.kill)
    return PipeSource(pipe, **options)


MAKERS = (_realtime, _synthetic, _camera, _stream, _snapshot, _pipe)


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(request.param(tmp_path, stack, **options))


def taken(source: Source, count: int) -> list[tuple[int, int, int, tuple[int, int]]]:
    """Reads some frames: id, pts, time of capture, size."""
    got = []
    for captured in source.frames():
        frame = captured.frame
        got.append((frame.frame_id, frame.pts, frame.captured_ns, frame.size_wh))
        assert frame.time_base == LIVE_TIME_BASE
        frame.release()
        if len(got) == count:
            break
    return got


def test_times_are_those_of_arrival_and_rise(make: Make) -> None:
    before_ns = time.monotonic_ns()
    got = taken(make(), 8)
    times = [pts for _, pts, _, _ in got]
    assert times == sorted(set(times))
    for _, pts, captured_ns, _ in got:
        assert before_ns <= captured_ns <= time.monotonic_ns()
        assert abs(pts - captured_ns // 1000) < 1000


def test_ids_go_on_from_the_first_that_was_asked_for(make: Make) -> None:
    got = taken(make(first_frame_id=700), 5)
    assert [number for number, *_ in got] == [700, 701, 702, 703, 704]


@pytest.mark.parametrize("size_wh", [(96, 64), (300, 300)])
def test_frames_are_fitted_into_the_size_asked_for(make: Make, size_wh: tuple[int, int]) -> None:
    source = make(size_wh=size_wh)
    assert source.info.size_wh == size_wh
    assert {size for *_, size in taken(source, 3)} == {size_wh}


def test_frames_can_be_had_once_and_not_after_close(make: Make) -> None:
    source = make()
    taken(source, 1)
    with pytest.raises(SourceError, match="once only"):
        source.frames()
    source.close()
    source.close()


def test_a_frame_outlives_its_source_and_is_zeroed_on_release(make: Make) -> None:
    source = make()
    frame = next(source.frames()).frame
    source.close()
    with frame.analysis() as bgr:
        assert bgr.any()
        kept = bgr  # what nobody may do
    frame.release()
    assert not kept.any()
    with pytest.raises(LeaseError), frame.analysis():
        pass


def test_close_from_another_thread_ends_the_reading_without_an_error(make: Make) -> None:
    source = make()
    errors: list[BaseException] = []
    reading = threading.Event()

    def read() -> None:
        try:
            for captured in source.frames():
                captured.frame.release()
                reading.set()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert reading.wait(PATIENCE_S)
    source.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert errors == []
