"""A file played as if it were a camera."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2fp_stream.core.errors import SourceError, UsageError
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.live import LIVE_TIME_BASE, Pace, RealtimeSource
from tests.kit import media
from tests.kit.wait import PATIENCE_S


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return media.write_video(tmp_path / "clip.mp4", count=10)


def test_a_file_comes_at_its_own_pace_with_live_times(clip: Path) -> None:
    began_us = time.monotonic_ns() // 1000
    pts, numbers = [], []
    with RealtimeSource(FileSource(clip), first_frame_id=5) as source:
        assert source.info.time_base == LIVE_TIME_BASE
        assert (source.info.size_wh, source.info.frame_count) == ((96, 64), 10)
        for number, captured in enumerate(source.frames()):
            frame = captured.frame
            assert (frame.frame_id, frame.time_base) == (5 + number, LIVE_TIME_BASE)
            assert captured.duration == 40_000
            assert not captured.restart
            assert frame.pts >= frame.captured_ns // 1000
            with frame.analysis() as bgr:
                numbers.append(media.number_of(bgr))
            pts.append(frame.pts)
            frame.release()
    assert numbers == list(range(10))
    assert pts[0] >= began_us
    assert all(later > sooner for sooner, later in pairwise(pts))
    assert pts[-1] - began_us >= 9 * 40_000


def test_variable_times_are_kept(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mkv", count=3, pts=[0, 1, 10])
    began_us = time.monotonic_ns() // 1000
    with RealtimeSource(FileSource(path)) as source:
        pts = [captured.frame.pts for captured in source.frames()]
    assert pts[2] - began_us >= 10 * 40_000


def test_pixels_are_passed_on_and_not_copied(clip: Path) -> None:
    inner = FileSource(clip)
    with RealtimeSource(inner) as source:
        frame = next(source.frames()).frame
        assert inner._pool.outstanding == 1
        assert source._pool.outstanding == 0
        frame.release()
        assert inner._pool.outstanding == 0


def test_another_canvas_gets_bars(clip: Path) -> None:
    inner = FileSource(clip)
    with RealtimeSource(inner, size_wh=(96, 96)) as source:
        assert source.info.size_wh == (96, 96)
        captured = next(source.frames())
        assert inner._pool.outstanding == 0
        with captured.frame.analysis() as bgr:
            assert bgr.shape == (96, 96, 3)
            assert not bgr[:16].any()
            assert not bgr[-16:].any()
            corners = media.corners(np.ascontiguousarray(bgr[16:-16]))
        assert corners["top left"] == pytest.approx(media.QUADRANTS["top left"], abs=4)
        captured.frame.release()
        assert source._pool.outstanding == 0


def test_a_loop_goes_on_from_the_start_and_restarts(clip: Path) -> None:
    began_us = time.monotonic_ns() // 1000
    with RealtimeSource(FileSource(clip), reopen=lambda: FileSource(clip)) as source:
        assert source.info.duration_s is None
        frames = source.frames()
        got = [next(frames) for _ in range(22)]
        numbers = []
        for captured in got:
            with captured.frame.analysis() as bgr:
                numbers.append(media.number_of(bgr))
            captured.frame.release()
        frames.close()  # type: ignore[attr-defined]  # a generator
    assert numbers == [*range(10), *range(10), 0, 1]
    assert [one.frame.frame_id for one in got if one.restart] == [10, 20]
    assert [one.frame.frame_id for one in got] == list(range(22))
    assert got[-1].frame.pts - began_us >= 21 * 40_000


def test_an_error_of_the_file_comes_through(clip: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    media.write_video(cut, count=40, container_options={"movflags": "faststart"})
    cut.write_bytes(cut.read_bytes()[:-200])
    with (
        RealtimeSource(FileSource(cut)) as source,
        pytest.raises(SourceError, match="cut short"),
    ):
        for captured in source.frames():
            captured.frame.release()


def test_close_from_another_thread_ends_a_wait_at_once(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mkv", count=2, pts=[0, 20_000])
    source = RealtimeSource(FileSource(path), longest_wait_s=1000)
    first = threading.Event()

    def read() -> None:
        for captured in source.frames():
            captured.frame.release()
            first.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert first.wait(PATIENCE_S)
    source.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_closing_closes_the_file(clip: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    source = RealtimeSource(FileSource(clip))
    frames = source.frames()
    source.close()
    source.close()
    assert set(Path("/proc/self/fd").iterdir()) == before
    with pytest.raises(SourceError, match="was closed before"):
        next(frames)
    with pytest.raises(SourceError, match="once only"):
        source.frames()


@pytest.mark.parametrize("wrong", [{"first_frame_id": -1}, {"size_wh": (10, 0)}])
def test_arguments_out_of_range_are_refused(clip: Path, wrong: dict[str, Any]) -> None:
    with FileSource(clip) as inner, pytest.raises(UsageError):
        RealtimeSource(inner, **wrong)


def test_who_is_very_late_does_not_catch_up() -> None:
    pace = Pace(threading.Event())
    began_s = time.monotonic()
    pace.wait(5.0)
    pace.wait(5.01)
    time.sleep(1.2)
    late_s = time.monotonic()
    pace.wait(5.02)  # more than a second late: this is where it goes on
    pace.wait(5.32)
    assert time.monotonic() - late_s >= 0.299
    assert time.monotonic() - began_s >= 1.499


def test_a_jump_of_an_hour_is_not_waited_for() -> None:
    pace = Pace(threading.Event())
    pace.wait(0.0)
    began_s = time.monotonic()
    pace.wait(3600.0)
    assert time.monotonic() - began_s < 1000
