"""Pushes the covered picture to a server that the user runs, by RTSP or RTMP.

FFmpeg's output protocols know no dependable time limit, and PyAV connects without releasing the
interpreter, which would stop camera, parser and display. So a process of its own holds the
connection: it gets encoded frames through a pipe, and the kernel ends it when one call to the
network takes too long. This module is that process's program, too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import struct
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator
from fractions import Fraction
from typing import Annotated, ClassVar, Final, Literal, NoReturn, final

from pydantic import Field

from ..core.address import Address, parse_address
from ..core.errors import SinkError, UsageError
from ..core.safe import SafeFrame
from ..options import Options
from ..privacy.hardening import harden
from ..processes.child import Child, Stream, start_module
from .base import Sink
from .live_encoder import EncodedFrame, KeyFrameSeconds, LiveEncoder, LivePreset, Muxer

__all__ = ["PushOptions", "PushSink", "main"]

_log = logging.getLogger(__name__)

_KINDS: Final[dict[str, Literal["flv", "rtsp"]]] = {"rtsp": "rtsp", "rtmp": "flv", "rtmps": "flv"}

_HEADER: Final = struct.Struct(">Iq?")
"""Before each frame in the pipe: length in bytes, pts, key frame or not."""

_START_S: Final = 60.0
"""How long the process may take to start, as `pipeline.workers` gives its own."""

_BEHIND_S: Final = 1.0
"""A picture that the network has not taken for so long is late; newer ones are left out. Chosen."""

_GRACE_S: Final = 5.0
"""Beyond `timeout_s`, within which the process ends by itself. Chosen."""


class PushOptions(Options):
    """Where the live picture is pushed to."""

    enabled: Annotated[bool, Field(title="Push", description="Send the covered picture.")] = False
    url: Annotated[
        str,
        Field(
            title="Server",
            description=(
                "rtsp://, rtmp:// or rtmps:// URL of a server you run, with user and password "
                "if it wants them. rtmps hides the picture, but does not check who the server "
                "is."
            ),
            repr=False,
        ),
    ] = ""
    timeout_s: Annotated[
        float,
        Field(
            title="Time limit",
            description="Seconds that connecting or sending one picture may take.",
            ge=1,
            le=120,
        ),
    ] = 10.0
    preset: LivePreset = "veryfast"
    bitrate_kbps: Annotated[
        int | None,
        Field(
            title="Bit rate",
            description="Thousands of bits a second; none: constant quality (x264's CRF 23).",
            ge=50,
            le=100_000,
        ),
    ] = None
    keyframe_s: KeyFrameSeconds = 1.0


@final
class PushSink(Sink[SafeFrame]):
    """Pushes frames to an RTSP or RTMP server; `write` never waits for the network.

    The first frame is what it connects with. Frames that come before the connection stands, or
    while the network is more than a second behind, are left out and counted; the next one sent is
    a key frame. A refused or lost connection is the error of a later `write`; for another attempt
    make a new sink. rtmps encrypts, but FFmpeg does not check the server's certificate there.

    Args:
        options: see `PushOptions`.
        size_wh: (width, height) of every frame.
        time_base: seconds a tick of the frames' `pts`.

    Raises:
        UsageError: the URL is of no kind that can be pushed to; nothing was started.
        SinkError: no process can be started, or the size cannot be encoded.
    """

    accepts: ClassVar[type] = SafeFrame

    def __init__(
        self, options: PushOptions, *, size_wh: tuple[int, int], time_base: Fraction
    ) -> None:
        super().__init__()
        address, kind = _address(options.url)
        self._name = _shown(address)
        self._timeout_s = options.timeout_s
        self._encoder = LiveEncoder(
            size_wh,
            time_base,
            preset=options.preset,
            keyframe_s=options.keyframe_s,
            bitrate_kbps=options.bitrate_kbps,
        )
        self._process = _launch(self._name)
        self._to_child = self._process.stdin.fileno()
        self._from_child = self._process.stdout.fileno()
        os.set_blocking(self._to_child, False)
        os.set_blocking(self._from_child, False)
        job = {
            "url": address.url,
            "kind": kind,
            "size_wh": self._encoder.coded_size_wh,
            "timeout_s": options.timeout_s,
        }
        self._waiting: deque[memoryview] = deque([memoryview(json.dumps(job).encode() + b"\n")])
        self._moved = time.monotonic()
        self._answer = b""
        self._greeted = False
        self._connected = False
        self._fresh = True
        self._dropped = 0

    @property
    def connected(self) -> bool:
        """Whether the server had taken the first frame by the last `write`."""
        return self._connected

    @property
    def dropped(self) -> int:
        """Frames left out so far, while connecting or because the network was behind."""
        return self._dropped

    def _emit(self, item: SafeFrame) -> None:
        self._encoder.check(item)
        self._flush()
        if self._greeted and (not self._connected or self._behind()):
            if self._connected and not self._fresh:
                _log.warning("%s: the network is behind, leaving out pictures", self._name)
            self._dropped += 1
            self._fresh = True
            return
        frame = self._encoder.encode(item, key=self._fresh)
        self._fresh = False
        self._greeted = True
        if not self._waiting:
            self._moved = time.monotonic()
        header = _HEADER.pack(len(frame.data), frame.pts, frame.key)
        self._waiting.append(memoryview(header + frame.data))
        self._flush()

    def _behind(self) -> bool:
        return bool(self._waiting) and time.monotonic() - self._moved > _BEHIND_S

    def _flush(self) -> None:
        """Gives the process what it takes without waiting, and hears what it says.

        Raises:
            SinkError: it ended, or takes nothing any more.
        """
        self._listen()
        while self._waiting:
            try:
                sent = os.write(self._to_child, self._waiting[0])
            except BlockingIOError:
                break
            except BrokenPipeError:
                self._explain()
            self._moved = time.monotonic()
            self._waiting[0] = self._waiting[0][sent:]
            if not self._waiting[0]:
                self._waiting.popleft()
        limit = self._timeout_s + (_GRACE_S if self._connected else _START_S)
        if self._waiting and time.monotonic() - self._moved > limit:
            raise SinkError(f"{self._name}: takes nothing any more; try again")

    def _listen(self) -> None:
        try:
            said = os.read(self._from_child, 4096)
        except BlockingIOError:
            return
        if not said:
            self._explain()
        self._answer += said
        if not self._connected and b"\n" in self._answer:
            first, _, self._answer = self._answer.partition(b"\n")
            if first != b"connected":
                self._answer = first
                self._explain()
            self._connected = True
            _log.info("%s: connected", self._name)

    def _explain(self) -> NoReturn:
        """Raises the `SinkError` of a process that has ended or is about to."""
        status = self._process.wait(_GRACE_S) or 0
        with contextlib.suppress(BlockingIOError):
            self._answer += os.read(self._from_child, 4096)
        reason = self._answer.decode(errors="replace").strip()
        if status == -signal.SIGALRM:
            reason = f"no answer within {self._timeout_s:g} s"
        what = "the connection broke" if self._connected else "cannot be connected to"
        raise SinkError(
            f"{self._name}: {what} ({reason or f'its process ended with {status}'}); "
            "check the server and the URL, then try again"
        )

    def _finish(self) -> None:
        if self._greeted:
            room = select.poll()
            room.register(self._to_child, select.POLLOUT)
            while self._waiting:
                self._flush()
                room.poll(100)
            self._process.stdin.close()
            # Each of what is left to do, connecting and ending, has its own limit over there.
            limit = 2 * self._timeout_s + (0 if self._connected else _START_S)
            if self._process.wait(limit) != 0:
                self._explain()
        self._abort()

    def _abort(self) -> None:
        self._waiting.clear()
        self._process.close()


def _address(url: str) -> tuple[Address, Literal["flv", "rtsp"]]:
    address, problem = None, ""
    try:
        address = parse_address(url)
    except ValueError as error:
        problem = f"the URL to push to {error}"
    if address is None:
        raise UsageError(problem)
    if address.scheme == "srt":
        raise UsageError(
            f"{address.shown}: PyAV's wheels have no SRT; push rtsp:// or rtmp:// to a server that "
            "passes it on"
        )
    if address.scheme not in _KINDS:
        raise UsageError(
            f"cannot push to {address.scheme}://; expected rtsp://, rtmp:// or rtmps://"
        )
    return address, _KINDS[address.scheme]


def _shown(address: Address) -> str:
    """Returns what messages say: without user and query, and for RTMP without the stream's key."""
    shown = address.shown
    head, _, key = shown.rpartition("/")
    if shown.startswith("rtmp") and key and not head.endswith(":/"):
        shown = f"{head}/***"
    return shown


def _launch(name: str) -> Child:
    try:
        return start_module(__name__, stdin=Stream.PIPE, stdout=Stream.PIPE)
    except OSError as error:
        raise SinkError(
            f"{name}: no process to push with could be started ({error.strerror}); "
            "close other programs"
        ) from None


# ----------------------------------------------------------------- in the process


def main() -> int:
    """Pushes what comes through standard input until it ends; returns the exit code.

    It opens no file. Standard output says ``connected``, or in one line what went wrong.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    harden()
    job = json.loads(sys.stdin.buffer.readline())
    limit = float(job["timeout_s"])
    muxer: Muxer | None = None
    try:
        for frame in _frames():
            with _within(limit):
                if muxer is None:
                    muxer = Muxer(job["url"], job["kind"], tuple(job["size_wh"]))
                    muxer.write(frame)
                    _say("connected")
                else:
                    muxer.write(frame)
        with _within(limit):
            if muxer is not None:
                muxer.close()
    except SinkError as error:
        _say(str(error))
        os._exit(SinkError.exit_code)  # nothing may write to the network once more
    return 0


def _frames() -> Iterator[EncodedFrame]:
    source = sys.stdin.buffer
    while header := source.read(_HEADER.size):
        if len(header) < _HEADER.size:
            return
        length, pts, key = _HEADER.unpack(header)
        data = source.read(length)
        if len(data) < length:  # the parent is gone
            return
        yield EncodedFrame(data, pts, key)


@contextlib.contextmanager
def _within(limit_s: float) -> Generator[None]:
    """Lets the kernel end this process if the block takes longer; no Python need run for it."""
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def _say(line: str) -> None:
    os.write(1, line.encode()[:1000] + b"\n")


if __name__ == "__main__":
    sys.exit(main())
