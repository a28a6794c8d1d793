"""Video from pipes that real processes write into."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from m2fp_stream.core.errors import SourceError
from m2fp_stream.sources.options import StreamOptions
from m2fp_stream.sources.pipe import PipeSource
from tests.kit import media
from tests.kit.pipes import write_paced
from tests.kit.wait import PATIENCE_S

SIZE_WH = (192, 128)
COUNT = 40
PATIENT = StreamOptions(open_timeout_s=60, read_timeout_s=60)

KINDS = {
    "bare H.264": ("h264", "libx264", "yuv420p", {"g": "10"}),
    "bare HEVC": ("hevc", "libx265", "yuv420p", {"x265-params": "log-level=none:keyint=10"}),
    "bare MJPEG": ("mjpeg", "mjpeg", "yuvj420p", {}),
    "MPEG-TS": ("mpegts", "libx264", "yuv420p", {"g": "10"}),
    "Matroska": ("matroska", "libx264", "yuv420p", {"g": "10"}),
    "FLV": ("flv", "libx264", "yuv420p", {"g": "10"}),
    "y4m": ("yuv4mpegpipe", "wrapped_avframe", "yuv420p", {}),
}


def film(folder: Path, kind: str = "bare H.264") -> Path:
    container, codec, pix_fmt, options = KINDS[kind]
    return media.write_video(
        folder / "film",
        size_wh=SIZE_WH,
        count=COUNT,
        codec=codec,
        pix_fmt=pix_fmt,
        container_format=container,
        options=options,
    )


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@contextmanager
def writing(path: Path, fifo: Path, pause_s: float = 0.01) -> Iterator[subprocess.Popen[bytes]]:
    with write_paced(path, pieces=COUNT, pause_s=pause_s, to=fifo) as process:
        try:
            yield process
        finally:
            process.kill()


def numbers(source: PipeSource) -> list[int]:
    found = []
    for captured in source.frames():
        with captured.frame.analysis() as bgr:
            found.append(media.number_of(bgr))
        captured.frame.release()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_arrives_and_the_end_of_the_pipe_is_no_error(
    kind: str, fifo: Path, tmp_path: Path
) -> None:
    path = film(tmp_path, kind)
    with writing(path, fifo), PipeSource(fifo, PATIENT) as source:
        assert source.info.size_wh == SIZE_WH
        assert numbers(source) == [number % 28 for number in range(COUNT)]
        assert source.corrupt == 0


@pytest.mark.parametrize("kind", ["bare H.264", "bare MJPEG", "MPEG-TS"])
def test_the_first_picture_is_there_long_before_the_pipe_ends(
    kind: str, fifo: Path, tmp_path: Path
) -> None:
    path = film(tmp_path, kind)
    with writing(path, fifo, pause_s=0.2) as process, PipeSource(fifo, PATIENT) as source:
        frames = source.frames()
        next(frames).frame.release()
        assert process.poll() is None, "everything was waited for"


def test_frames_carry_the_time_of_their_arrival(fifo: Path, tmp_path: Path) -> None:
    path = film(tmp_path)
    with writing(path, fifo, pause_s=0.05), PipeSource(fifo, PATIENT, first_frame_id=9) as source:
        got = []
        for captured in source.frames():
            got.append((captured.frame.frame_id, captured.frame.captured_ns))
            captured.frame.release()
        assert [number for number, _ in got] == list(range(9, 9 + COUNT))
        assert got[-1][1] - got[0][1] > 1e9  # as they were written, not as they were coded


STDIN = """
from tests.unit.test_source_pipe import *
with PipeSource(None, PATIENT) as source:
    print(len(numbers(source)))
"""


def test_standard_input_is_a_pipe_like_any_other(tmp_path: Path) -> None:
    path = film(tmp_path)
    with write_paced(path, pause_s=0.01) as writer:
        done = subprocess.run(
            [sys.executable, "-c", STDIN],
            stdin=writer.stdout,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == f"{COUNT}\n"
    assert done.stderr == ""


def test_what_begins_in_the_middle_waits_for_a_picture_that_stands_alone(
    fifo: Path, tmp_path: Path
) -> None:
    path = film(tmp_path)
    data = path.read_bytes()
    starts = [at for at in range(len(data)) if data.startswith(b"\0\0\x01\x41", at)]
    path.write_bytes(data[starts[3] - 1 :])
    with writing(path, fifo), PipeSource(fifo, PATIENT) as source:
        assert numbers(source) == [number % 28 for number in range(10, COUNT)]


def test_a_writer_that_is_killed_is_the_end(fifo: Path, tmp_path: Path) -> None:
    path = film(tmp_path)
    with writing(path, fifo, pause_s=0.1) as process, PipeSource(fifo, PATIENT) as source:
        frames = source.frames()
        next(frames).frame.release()
        process.kill()
        count = 1
        for captured in frames:
            captured.frame.release()
            count += 1
        assert count < COUNT


def test_a_writer_that_hangs_is_an_error_in_time(fifo: Path, tmp_path: Path) -> None:
    path = film(tmp_path)
    options = StreamOptions(open_timeout_s=60, read_timeout_s=0.5)
    with writing(path, fifo, pause_s=0.05) as process, PipeSource(fifo, options) as source:
        frames = source.frames()
        next(frames).frame.release()
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(SourceError, match=r"pipe: nothing came for 0\.5 s"):
            for captured in frames:
                captured.frame.release()


def test_nobody_writes_is_an_error_in_time(fifo: Path) -> None:
    with pytest.raises(SourceError, match=r"pipe: no picture came within 0\.5 s; check what"):
        PipeSource(fifo, StreamOptions(open_timeout_s=0.5))


@pytest.mark.parametrize("data", [b"", b"abc", b"no video at all" * 1000])
def test_what_is_no_video_is_an_error(data: bytes, fifo: Path, tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(data)
    with (
        writing(path, fifo),
        pytest.raises(
            SourceError, match=r"(ended before a picture|no video|no kind of video).*check"
        ),
    ):
        PipeSource(fifo, PATIENT)


def test_what_is_no_pipe_is_refused(tmp_path: Path) -> None:
    path = film(tmp_path)
    with pytest.raises(SourceError, match="is no named pipe"):
        PipeSource(path)
    with pytest.raises(SourceError, match="cannot be opened"):
        PipeSource(tmp_path / "none")


def test_close_from_another_thread_ends_a_read_that_waits(fifo: Path, tmp_path: Path) -> None:
    path = film(tmp_path)
    with writing(path, fifo, pause_s=0.02) as process, PipeSource(fifo, PATIENT) as source:
        errors: list[BaseException] = []
        begun = threading.Event()

        def read() -> None:
            try:
                for captured in source.frames():
                    captured.frame.release()
                    begun.set()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        assert begun.wait(PATIENCE_S)
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)  # so that it waits; it would end as well if it did not
        source.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert errors == []


def test_nothing_of_it_stays_open(fifo: Path, tmp_path: Path) -> None:
    path = film(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with writing(path, fifo), PipeSource(fifo, PATIENT) as source:
            numbers(source)
        with pytest.raises(SourceError):
            PipeSource(fifo, StreamOptions(open_timeout_s=0.5))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
