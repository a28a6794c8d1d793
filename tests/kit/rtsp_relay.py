"""A real RTSP server that gives on what is pushed to it, as go2rtc does; under the system's Python.

`Relay` starts this very file with that Python. What is announced and recorded to /door is played
from /door-out, without being decoded: GStreamer's server keeps the two apart by their paths.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CAPS = "video/x-h264,stream-format=byte-stream,alignment=au"
RECORD = (
    f"( rtph264depay name=depay0 ! {CAPS} ! appsink name=came emit-signals=true "
    "sync=false async=false )"
)
# No config-interval: what is pushed brings its parameter sets, and the payloader would put more of
# them between the slices of one picture.
PLAY = (
    "( appsrc name=goes is-live=true format=time max-buffers=60 leaky-type=downstream "
    f'caps="{CAPS}" '
    "! h264parse ! rtph264pay name=pay0 pt=96 )"
)


class Relay:
    """The server, in a process of its own; a context manager.

    `push_url` is where a stream is pushed to, `play_url` where it is read.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def push_url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/door"

    @property
    def play_url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/door-out"

    def __enter__(self) -> Self:
        from tests.kit.rtsp import PYTHON, require_rtsp

        require_rtsp()
        self._process = subprocess.Popen(
            [PYTHON, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def main() -> None:
    gi: Any = importlib.import_module("gi")
    for library in ("Gst", "GstRtspServer"):
        gi.require_version(library, "1.0")
    glib, gst, rtsp = (
        importlib.import_module(f"gi.repository.{name}")
        for name in ("GLib", "Gst", "GstRtspServer")
    )
    gst.init(None)
    server = rtsp.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service("0")
    server.get_thread_pool().set_max_threads(4)  # a reader that waits must not stop who pushes
    readers: list[tuple[Any, int]] = []

    def came(sink: Any) -> Any:
        buffer = sink.emit("pull-sample").get_buffer()
        data = buffer.extract_dup(0, buffer.get_size())
        for source, began_ns in readers:
            given = gst.Buffer.new_wrapped(data)
            given.pts = time.monotonic_ns() - began_ns
            source.emit("push-buffer", given)
        return gst.FlowReturn.OK

    def element(media: Any, name: str) -> Any:
        return media.get_element().get_by_name_recurse_up(name)

    pushed = rtsp.RTSPMediaFactory.new()
    pushed.set_transport_mode(rtsp.RTSPTransportMode.RECORD)
    pushed.set_launch(RECORD)
    pushed.connect(
        "media-configure", lambda _, media: element(media, "came").connect("new-sample", came)
    )
    played = rtsp.RTSPMediaFactory.new()
    played.set_launch(PLAY)
    played.set_shared(True)
    played.connect(
        "media-configure",
        lambda _, media: readers.append((element(media, "goes"), time.monotonic_ns())),
    )
    server.get_mount_points().add_factory("/door", pushed)
    server.get_mount_points().add_factory("/door-out", played)
    server.attach(None)
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    loop = glib.MainLoop()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        loop.quit()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
