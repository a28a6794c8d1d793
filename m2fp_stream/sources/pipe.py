"""Video that another program pipes in, as `rpicam-vid -o -` does."""

from __future__ import annotations

import errno
import os
import re
import select
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, final

from ..core.errors import SourceError
from .base import Captured, Source, SourceInfo
from .options import StreamOptions
from .stream import StreamSource

__all__ = ["PipeSource"]


_HEAD_BYTES: Final = 6
"""As many as `_STARTS` look at."""
_STARTS: Final = (
    (re.compile(rb"\xff\xd8\xff"), "mjpeg"),
    (re.compile(rb"\0?\0\0\x01[\x40\x42\x44\x46]\x01", re.DOTALL), "hevc"),
    (re.compile(rb"\0?\0\0\x01[\x01\x05-\x07\x09\x21\x25\x27\x41\x45\x47\x61\x65\x67]"), "h264"),
)
"""How bare pictures begin: a JPEG's marker; a start code and the first byte of a unit: parameter
sets, delimiters or (HEVC) SEI, of H.264 slices, too.

Source: ITU-T T.81, B.1.1.3; ITU-T H.264, 7.3.1 and Annex B; ITU-T H.265, 7.3.1.2 and Annex B.
"""


@final
class PipeSource(Source):
    """Reads video from standard input or a named pipe, as it arrives.

    H.264, HEVC or MJPEG as they are, MPEG-TS, Matroska, FLV, YUV4MPEG and what else FFmpeg can tell
    by its beginning. What is damaged is left out as in `StreamSource`, whose times and canvas it
    has. The end of the pipe is the end of the frames, no error.

    `close` may be called from any thread; a read that waits ends at once.

    Args:
        path: the named pipe; None is standard input.
        options: limits; `open_timeout_s` holds until the first picture, `read_timeout_s` after it.
        first_frame_id, size_wh: see `LiveSource`.

    Raises:
        SourceError: no pipe, nothing that can be read came; while iterating: it went silent.
    """

    def __init__(
        self,
        path: Path | None,
        options: StreamOptions | None = None,
        *,
        first_frame_id: int = 0,
        size_wh: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        options = options or StreamOptions()
        self._input = _Input(path, options.open_timeout_s)
        try:
            self._stream = StreamSource(
                self._input, options, first_frame_id=first_frame_id, size_wh=size_wh
            )
        except SourceError as error:
            problem = str(error)
            self._input.close()
            if self._input.ended:
                problem = f"{self._input.name}: ended before a picture came"
            elif self._input.silent:
                problem = f"{self._input.name}: no picture came within {options.open_timeout_s:g} s"
        except BaseException:
            self._input.close()
            raise
        else:
            self._input.limit_s = options.read_timeout_s
            return
        raise SourceError(f"{problem}; check what is to write into it")

    @property
    def info(self) -> SourceInfo:
        """What is known so far; `warnings` may grow while frames are read."""
        return replace(self._stream.info)

    @property
    def corrupt(self) -> int:
        """How many damaged packets and pictures were left out; any thread may ask."""
        return self._stream.corrupt

    def close(self) -> None:
        """Lets go of the pipe, from any thread; idempotent. Frames given before stay valid."""
        super().close()
        self._stream.close()
        self._input.close()

    def _capture(self) -> Iterator[Captured]:
        problem = ""
        try:
            yield from self._stream.frames()
        except SourceError as error:
            problem = str(error)
        if self._input.silent:
            problem = (
                f"{self._input.name}: nothing came for {self._input.limit_s:g} s; "
                "check what writes into it, or raise stream.read_timeout_s"
            )
        elif self._input.ended:
            return
        if problem:
            raise SourceError(problem)


@final
class _Input:
    """What FFmpeg reads from; waits for data, but not for ever.

    Attributes:
        name: for messages.
        limit_s: how long one read waits for the first byte.
        ended: the writer has left.
        silent: a read waited in vain.
    """

    def __init__(self, path: Path | None, limit_s: float) -> None:
        self.name = "standard input" if path is None else str(path)
        self.limit_s = limit_s
        self.ended = self.silent = False
        self._head = b""
        self._closed = False
        self._reading = threading.Lock()
        problem = ""
        try:
            # Non-blocking, for a named pipe that nobody has opened for writing is waited for below.
            self._descriptor = (
                os.dup(0)
                if path is None
                else os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            )
        except OSError as error:
            problem = f"cannot be opened ({error.strerror}); check name and rights"
        if problem:
            raise SourceError(f"{self.name}: {problem}")
        if os.isatty(self._descriptor):
            problem = "is a terminal; pipe video into it"
        elif path is not None and not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            problem = "is no named pipe"
        if problem:
            os.close(self._descriptor)
            raise SourceError(f"{self.name}: {problem}")
        self._wake = os.eventfd(0)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)

    @property
    def format(self) -> str | None:
        """What FFmpeg calls it, where that can be told at once; waits for the first bytes.

        FFmpeg itself wants to see seconds of bare pictures before it is sure (measured: 3.1 s of
        MJPEG at 30 frames a second).

        Raises:
            TimeoutError: none came.
        """
        while len(self._head) < _HEAD_BYTES and (piece := self._take(_HEAD_BYTES)):
            self._head += piece
        return next((name for start, name in _STARTS if start.match(self._head)), None)

    def read(self, size: int) -> bytes:
        """Returns what has come, `size` bytes at most, as soon as there is some; b"" at the end."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._take(size)

    def _take(self, size: int) -> bytes:
        with self._reading:
            end_s = time.monotonic() + self.limit_s
            while not self._closed:
                left_s = end_s - time.monotonic()
                ready = dict(self._poll.poll(max(0.0, left_s) * 1000))
                if self._descriptor in ready:
                    try:
                        data = os.read(self._descriptor, size)
                    except BlockingIOError:
                        continue
                    self.ended = not data
                    return data
                if not ready and left_s <= 0:
                    self.silent = True
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            return b""

    def close(self) -> None:
        """Ends a read that waits, and lets go of the pipe; idempotent."""
        self._closed = True
        if self._wake < 0:
            return
        os.eventfd_write(self._wake, 1)
        with self._reading:
            descriptors, self._wake = (self._descriptor, self._wake), -1
            for descriptor in descriptors:
                os.close(descriptor)
