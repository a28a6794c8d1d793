"""What every live sink promises, asked of every live sink. The virtual camera is *simulated*.

The window is asked in `tests/unit/test_sink_window.py`: it needs a display and its own process.
"""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2fp_stream.core.errors import SealError, SinkError
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.sinks.base import Sink
from m2fp_stream.sinks.page import PageEnd, PageHello, PageSink, PageState
from m2fp_stream.sinks.page_link import PageMemory, make_memory
from m2fp_stream.sinks.pipe import PipeOptions, PipeSink
from m2fp_stream.sinks.push import PushOptions, PushSink
from m2fp_stream.sinks.segments import RecordOptions, SegmentSink
from m2fp_stream.sinks.serve import ServeOptions, ServeSink
from m2fp_stream.sinks.virtual_camera import VirtualCameraOptions, VirtualCameraSink
from m2fp_stream.sinks.window import WindowSink
from m2fp_stream.web.player_server import PlayerServer
from tests.kit import media
from tests.kit.virtual_camera_recorder import BACKEND, VARIABLE

LIVE_SINKS: set[type[Sink[Any]]] = {
    WindowSink,
    VirtualCameraSink,
    SegmentSink,
    PushSink,
    ServeSink,
    PipeSink,
    PageSink,
}
SIZE_WH = (96, 64)
TIME_BASE = Fraction(1, 1_000_000)
NOISE = np.random.default_rng(3).integers(0, 256, (64, 96, 3), np.uint8)


def frame(number: int, pixels: media.BGR | None = None) -> SafeFrame:
    picture = media.card(SIZE_WH, number) if pixels is None else pixels
    return media.composed(picture, number, 1_000_000 + number * 40_000, TIME_BASE)


@contextmanager
def _segments(folder: Path) -> Iterator[Sink[Any]]:
    with SegmentSink(folder, RecordOptions(), size_wh=SIZE_WH, time_base=TIME_BASE) as sink:
        yield sink


@contextmanager
def _push(folder: Path) -> Iterator[Sink[Any]]:
    options = PushOptions(url="rtsp://127.0.0.1:1/nobody", timeout_s=1.0)
    with PushSink(options, size_wh=SIZE_WH, time_base=TIME_BASE) as sink:
        yield sink


@contextmanager
def _serve(folder: Path) -> Iterator[Sink[Any]]:
    with ServeSink(
        ServeOptions(port=0), size_wh=SIZE_WH, time_base=TIME_BASE, serve=PlayerServer
    ) as sink:
        yield sink


@contextmanager
def _pipe(folder: Path) -> Iterator[Sink[Any]]:
    reading, writing = os.pipe()

    def drain() -> None:
        while os.read(reading, 1 << 16):
            pass

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        with (
            io.open(writing, "wb", buffering=0) as file,  # noqa: UP020
            PipeSink(file, PipeOptions(), size_wh=SIZE_WH, time_base=TIME_BASE) as sink,
        ):
            yield sink
    finally:
        thread.join()
        os.close(reading)


@contextmanager
def _camera(folder: Path) -> Iterator[Sink[Any]]:
    pytest.importorskip("pyvirtualcam", reason="the virtual-camera extra is not installed")
    options = VirtualCameraOptions(backend=BACKEND, linger_s=0.0)
    card = frame(0, np.full_like(NOISE, 40))
    with VirtualCameraSink(options, size_wh=SIZE_WH, card=card) as sink:
        yield sink


@contextmanager
def _page(folder: Path) -> Iterator[Sink[Any]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptor = make_memory()
    try:
        with (
            ours,
            theirs,
            PageSink(
                PageEnd(ours, PageMemory(descriptor, writable=True)),
                size_wh=SIZE_WH,
                card=frame(0),
                hello=PageHello("head"),
                state=PageState,
                turn=lambda _: None,
            ) as sink,
        ):
            yield sink
    finally:
        os.close(descriptor)


Open = Callable[[], Any]

_SINKS = (_segments, _push, _serve, _pipe, _camera, _page)


@pytest.fixture(params=_SINKS, ids=lambda one: one.__name__)
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "notes"))
    folder = tmp_path / "out"
    folder.mkdir()
    return lambda: request.param(folder)


@pytest.mark.parametrize("wrong", [NOISE, b"bytes", None, object()], ids=type)
def test_anything_else_than_a_safe_frame_stops_the_output(opened: Open, wrong: Any) -> None:
    with opened() as sink:
        sink.write(frame(0))
        with pytest.raises(SealError, match="refused a"):
            sink.write(wrong)
        with pytest.raises(SinkError, match="is closed"):
            sink.write(frame(1))


def test_a_frame_of_another_size_is_an_error_and_not_shown(opened: Open) -> None:
    with opened() as sink:
        sink.write(frame(0))
        with pytest.raises(SinkError, match="96"):
            sink.write(media.composed(media.card((80, 64), 1), 1, 2_000_000, TIME_BASE))


def test_leaving_early_and_aborting_twice_leave_nothing_running(opened: Open) -> None:
    # What is left running is found by the fixtures of every test.
    with opened() as sink:
        for number in range(3):
            sink.write(frame(number))
        sink.abort()
        sink.abort()
    with opened() as sink:
        sink.write(frame(0))


def test_a_sink_that_took_nothing_can_be_left(opened: Open) -> None:
    with opened():
        pass


def test_only_the_finals_of_the_package_are_meant() -> None:
    for kind in LIVE_SINKS:
        assert getattr(kind, "__final__", False)
        assert kind.accepts is SafeFrame
