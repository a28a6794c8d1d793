"""Pushing to real servers: GStreamer's RTSP server and FFmpeg's RTMP listener."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from pydantic import ValidationError

from m2fp_stream.core.errors import SinkError, UsageError
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.sinks.push import PushOptions, PushSink
from tests.kit import media
from tests.kit.wait import PATIENCE_S, wait_until

MICROSECOND = Fraction(1, 1_000_000)
SIZE = (96, 64)

RTSP_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service("0")
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
factory.set_launch("( rtph264depay name=depay0 ! h264parse ! mpegtsmux ! filesink sync=false "
                   f"async=false buffer-mode=unbuffered location={sys.argv[1]} )")
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


def sink(url: str, size_wh: tuple[int, int] = SIZE, **options: Any) -> PushSink:
    settings = {"enabled": True, "url": url, "preset": "ultrafast", **options}
    return PushSink(PushOptions(**settings), size_wh=size_wh, time_base=MICROSECOND)


def frame(number: int, pixels: media.BGR | None = None) -> SafeFrame:
    picture = media.card(SIZE, number) if pixels is None else pixels
    return media.composed(picture, number, time.monotonic_ns() // 1000, MICROSECOND)


def connect(out: PushSink) -> None:
    """Writes frame 0 until the server has taken it."""

    def written() -> bool:
        out.write(frame(0))
        return out.connected

    wait_until(written)


@pytest.fixture
def rtsp(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """A server that records what is pushed to rtsp://127.0.0.1:PORT/cam as MPEG-TS."""
    path = tmp_path / "server.ts"
    server = subprocess.Popen(
        ["/usr/bin/python3", "-c", RTSP_SERVER, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert server.stdout is not None
    with server, server.stdout:
        line = server.stdout.readline()
        if not line:
            pytest.skip("no GStreamer RTSP server for Debian's Python here")
        try:
            yield server, int(line), path
        finally:
            server.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def listening(url: str, path: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs FFmpeg as a server that records what one client pushes to `url`."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg here to listen")
    server = subprocess.Popen(
        ["ffmpeg", "-nostdin", "-v", "error", *flags, "-i", url, "-c", "copy", str(path)],
        stderr=subprocess.DEVNULL,
    )
    with server:
        try:
            wait_until(lambda: _listens(server))
            yield server
        finally:
            server.kill()


@pytest.fixture
def rtmp(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """A listener that records what is pushed to its URL, which ends in /live/key."""
    url, path = f"rtmp://127.0.0.1:{free_port()}/live/key", tmp_path / "server.ts"
    with listening(url, path, "-listen", "1") as server:
        yield server, url, path


def _listens(server: subprocess.Popen[bytes]) -> bool:
    connections = psutil.Process(server.pid).net_connections("tcp")
    return any(one.status == psutil.CONN_LISTEN for one in connections)


def read(path: Path) -> tuple[list[int], list[float | None]]:
    """Returns the numbers of the frames of a film and their times in seconds."""
    numbers: list[int] = []
    times: list[float | None] = []
    with av.open(path) as container:
        for one in container.decode(video=0):
            numbers.append(media.number_of(np.asarray(one.to_ndarray(format="bgr24"), np.uint8)))
            times.append(one.time)
    return numbers, times


def push_cards(
    url: str, count: int = 40, *, before_end: Callable[[int], object] = lambda _: None
) -> tuple[list[float], int]:
    """Pushes frame 0 until connected, then 1, 2...; returns their times and how many were 0.

    `before_end` gets how many frames there were.
    """
    with sink(url) as out:
        connect(out)
        times = []
        for number in range(1, count):
            one = frame(number)
            times.append(one.pts / 1e6)
            out.write(one)
            time.sleep(0.01)
        dropped = out.dropped
        before_end(len(times))
        out.finish()
    return times, dropped


def check(path: Path, times: list[float], *, timed: bool = True) -> None:
    numbers, got = read(path)
    first = numbers.index(1)
    # The first frame connected; what came while that took was left out, but for the very last.
    assert first <= 2
    assert set(numbers[:first]) == {0}
    assert numbers[first:] == [number % 28 for number in range(1, len(times) + 1)]
    if timed:
        steps = np.diff(np.array(got[first:], float))
        assert (steps > 0).all()
        assert np.abs(steps - np.diff(times)).max() < 0.002


def test_gstreamers_rtsp_server_gets_every_frame(
    rtsp: tuple[subprocess.Popen[bytes], int, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server, port, path = rtsp

    def taken(count: int) -> bool:
        return path.stat().st_size > 0 and len(read(path)[0]) >= count

    # A busy server gives up what it has not yet written when it hears the end; its parser may hold
    # the last frame until then.
    times, dropped = push_cards(
        f"rtsp://user:secret@127.0.0.1:{port}/cam",
        before_end=lambda count: wait_until(lambda: taken(count)),
    )
    assert dropped > 0
    wait_until(lambda: taken(len(times) + 1))
    server.kill()
    check(path, times, timed=False)  # it gives recorded TCP streams no times
    assert "***@127.0.0.1" in caplog.text
    assert "secret" not in caplog.text


def test_an_rtsp_server_gets_every_frame_at_its_time(tmp_path: Path) -> None:
    url, path = f"rtsp://127.0.0.1:{free_port()}/cam", tmp_path / "server.ts"
    with listening(url, path, "-rtsp_flags", "listen") as server:
        times, _ = push_cards(url)
        server.wait(PATIENCE_S)
        check(path, times)


def test_an_rtmp_server_gets_every_frame_at_its_time(
    rtmp: tuple[subprocess.Popen[bytes], str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server, url, path = rtmp
    times, _ = push_cards(url)
    server.wait(PATIENCE_S)
    check(path, times)
    assert "/live/***: connected" in caplog.text
    assert "/live/key" not in caplog.text


def test_finishing_early_still_connects_and_delivers(
    rtmp: tuple[subprocess.Popen[bytes], str, Path],
) -> None:
    server, url, path = rtmp
    with sink(url) as out:
        out.write(frame(5))
        out.finish()
    server.wait(PATIENCE_S)
    assert read(path)[0] == [5]


def test_a_server_that_goes_away_is_an_error(
    rtmp: tuple[subprocess.Popen[bytes], str, Path],
) -> None:
    server, url, _ = rtmp
    out = sink(url)
    connect(out)
    server.kill()

    def failed() -> bool:
        out.write(frame(1))
        return False

    with pytest.raises(SinkError, match=r"/live/\*\*\*: the connection broke \(") as caught:
        wait_until(failed)
    assert "\n" not in str(caught.value)
    with pytest.raises(SinkError, match="is closed"):
        out.write(frame(1))


@pytest.mark.paced
@pytest.mark.parametrize("scheme", ["rtsp", "rtmp"])
def test_a_server_that_stalls_is_given_up(scheme: str, request: pytest.FixtureRequest) -> None:
    server, where, *_ = request.getfixturevalue(scheme)
    url = where if scheme == "rtmp" else f"rtsp://127.0.0.1:{where}/cam"
    rng = np.random.default_rng(2)
    size_wh = (640, 480)
    out = sink(url, size_wh, timeout_s=1.0)
    noise = [rng.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(4)]

    def written() -> bool:
        out.write(frame(0, noise[0]))
        return out.connected

    wait_until(written)
    os.kill(server.pid, signal.SIGSTOP)
    number = 0

    def failed() -> bool:
        nonlocal number
        number += 1
        out.write(frame(number, noise[number % 4]))
        return False

    try:
        with pytest.raises(SinkError, match=r"the connection broke \(no answer within 1 s\)"):
            wait_until(failed)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert number > 1
    assert out._process.returncode == -signal.SIGALRM


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "rtmps"])
def test_a_server_that_never_answers_is_given_up(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"{scheme}://user:secret@127.0.0.1:{mute.getsockname()[1]}/live/key?pass=hidden"
        with sink(url, timeout_s=1.0) as out, pytest.raises(SinkError) as caught:
            connect(out)
    text = str(caught.value)
    assert "cannot be connected to (no answer within 1 s)" in text
    assert "secret" not in text
    assert "hidden" not in text


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp"])
def test_a_server_that_is_not_there_is_one_line(scheme: str) -> None:
    url = f"{scheme}://user:secret@127.0.0.1:{free_port()}/live/key"
    with sink(url) as out, pytest.raises(SinkError) as caught:
        connect(out)
    assert "cannot be connected to (Connection refused)" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_finishing_says_why_it_never_connected() -> None:
    with sink(f"rtmp://127.0.0.1:{free_port()}/live/key") as out:
        out.write(frame(0))
        with pytest.raises(SinkError, match="Connection refused"):
            out.finish()


def test_a_server_that_refuses_is_one_line(
    rtsp: tuple[subprocess.Popen[bytes], int, Path],
) -> None:
    _, port, _ = rtsp
    with sink(f"rtsp://127.0.0.1:{port}/other") as out, pytest.raises(SinkError, match="404"):
        connect(out)


def test_write_does_not_wait_and_what_is_late_is_left_out_up_to_a_key_frame(
    rtmp: tuple[subprocess.Popen[bytes], str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    server, url, path = rtmp
    with sink(url, timeout_s=60.0, keyframe_s=10.0) as out:
        connect(out)
        child = out._process.pid
        os.kill(child, signal.SIGSTOP)
        rng = np.random.default_rng(2)
        before = out.dropped

        def late() -> bool:
            out.write(frame(0, rng.integers(0, 256, (64, 96, 3), np.uint8)))
            time.sleep(0.005)
            return out.dropped > before + 5

        wait_until(late)
        assert "the network is behind" in caplog.text
        os.kill(child, signal.SIGCONT)

        def caught_up() -> bool:
            out._flush()
            return not out._waiting

        wait_until(caught_up)
        dropped = out.dropped
        for _ in range(5):
            out.write(frame(9))
        assert out.dropped == dropped
        out.finish()
    server.wait(PATIENCE_S)
    with av.open(path) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert keys[-5:] == [True, False, False, False, False]


def test_aborting_ends_the_process_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        out = sink(f"rtmp://127.0.0.1:{mute.getsockname()[1]}/live/key")
        out.write(frame(0))
        child = psutil.Process(out._process.pid)
        out.abort()
        assert not child.is_running()


def test_credentials_are_in_no_command_line_and_no_repr() -> None:
    url = "rtsp://user:secret@127.0.0.1:1/cam"
    with sink(url) as out:
        assert not any("secret" in word for word in psutil.Process(out._process.pid).cmdline())
        assert not any(
            "secret" in word for word in psutil.Process(out._process.pid).environ().values()
        )
    assert "secret" not in repr(PushOptions(url=url))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("srt://user:secret@host:9000", "PyAV's wheels have no SRT; push rtsp:// or rtmp://"),
        ("http://user:secret@host/x", "cannot push to http://; expected rtsp://, rtmp://"),
        ("", "is no address; write its scheme"),
        ("secret/file.flv", "is no address; write its scheme"),
        ("rtmp:///live/secret", "names no host"),
        ("rtsp://user:12/secret@host/x", "several ways"),
        ("user:secret@host/x", "is no address"),
        ("rtmp://host/live/secret live=1", "holds spaces"),
        ("rtsp://[secret", "names no host"),
    ],
)
def test_what_cannot_be_pushed_to_is_said_before_anything_starts(url: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        sink(url)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"timeout_s": 0.0}, {"bitrate_kbps": 1}, {"keyframe_s": 0.0}])
def test_options_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PushOptions(**wrong)
