"""Streams damaged on their way, or by RTMP: tests of them wait long, but keep no pace."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from m2fp_stream.core.errors import SourceError
from m2fp_stream.sources.options import StreamOptions
from m2fp_stream.sources.stream import StreamSource
from tests.kit import media
from tests.kit.rtsp import RtspServer, Wire, require_rtsp
from tests.kit.texture import marker
from tests.kit.wait import PATIENCE_S
from tests.unit.test_source_stream import SHORT, pictures, taken


@pytest.fixture(scope="module", autouse=True)
def _rtsp() -> None:
    require_rtsp()


def test_damaged_pictures_are_left_out_and_counted() -> None:
    texture = marker(5, 128, 192)
    with RtspServer([texture], gop=5) as server, Wire(server.port) as wire:
        corrupt = 0
        end = time.monotonic() + PATIENCE_S
        while corrupt == 0:  # the connection itself may be damaged before a picture is
            assert time.monotonic() < end, f"{wire.flipped} bits flipped in vain"
            wire.flip_every = 0
            options = StreamOptions(read_timeout_s=10)
            with StreamSource(server.url_at(wire.port), options) as source:
                frames = source.frames()
                assert np.array_equal(taken(next(frames)).shape, (128, 192, 3))
                wire.flip_every = 20_000
                with suppress(SourceError):
                    while source.corrupt < 3 and time.monotonic() < end:
                        taken(next(frames))
                corrupt = source.corrupt
        assert wire.flipped > 0


@pytest.mark.parametrize("flip_every", [50, 1000])
def test_a_badly_damaged_stream_ends_in_an_error_at_worst(flip_every: int) -> None:
    with RtspServer() as server, Wire(server.port) as wire:
        for _ in range(3):
            before, end = wire.flipped, time.monotonic() + PATIENCE_S
            with (
                suppress(SourceError, StopIteration),
                StreamSource(server.url_at(wire.port), SHORT) as source,
            ):
                wire.flip_every = flip_every
                frames = source.frames()
                for _ in range(20):
                    taken(next(frames))
                while wire.flipped == before:  # those taken may all have been sent before
                    assert time.monotonic() < end, "nothing was damaged"
                    taken(next(frames))
            wire.flip_every = 0
        assert wire.flipped > 0


def test_a_stream_by_rtmp_arrives(tmp_path: Path) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("no ffmpeg to send by RTMP")
    path = media.write_video(tmp_path / "clip.mp4", count=100)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"rtmp://127.0.0.1:{port}/live/x"
    command = [program, "-v", "quiet", "-re", "-i", str(path), "-c", "copy", "-f", "flv"]
    sender = subprocess.Popen([*command, "-listen", "1", url], stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                source = StreamSource(url)
                break
            except SourceError:  # it does not listen yet
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        with source:
            assert [media.number_of(one) for one in pictures(source, 10)] == list(range(10))
    finally:
        sender.kill()
        sender.wait()
