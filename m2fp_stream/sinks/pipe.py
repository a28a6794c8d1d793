"""The covered picture as YUV4MPEG2, for any program that reads it from a pipe."""

from __future__ import annotations

import logging
import os
import select
import time
from fractions import Fraction
from typing import Annotated, BinaryIO, ClassVar, Final, Literal, final

import av
import numpy as np
from pydantic import Field

from ..core.errors import SinkError, UsageError
from ..core.safe import SafeFrame
from ..core.timing import rescale
from ..options import Options
from .base import Sink
from .yuv import BT601, BT709, LUMA_WEIGHTS, to_yuv420p, ycbcr_matrix

__all__ = ["PipeOptions", "PipeSink"]

_log = logging.getLogger(__name__)

_PATIENCE_S: Final = 1.0
"""Chosen: what whoever looks at a live picture may miss of it, to get a constant rate for it."""

_AT_ONCE: Final = select.PIPE_BUF
"""Bytes that a pipe which is ready takes without waiting. Source: POSIX, write() on pipes."""


class PipeOptions(Options):
    """How the live picture is written to standard output."""

    enabled: Annotated[
        bool,
        Field(
            title="Pipe",
            description=(
                "Write the covered picture to standard output as YUV4MPEG2. The run ends when "
                "the reader leaves and nothing else is switched on."
            ),
        ),
    ] = False
    fps: Annotated[
        int,
        Field(
            title="Frames a second",
            description="Constant: frames are repeated or left out to keep real time.",
            ge=1,
            le=240,
        ),
    ] = 30
    matrix: Annotated[
        Literal["bt601", "bt709"],
        Field(
            title="Colour matrix",
            description="The format cannot say which; FFmpeg takes bt601 unless told otherwise.",
        ),
    ] = "bt601"
    timeout_s: Annotated[
        float,
        Field(
            title="Time limit",
            description="Seconds that the reader may take nothing; the pipe is closed to it then.",
            ge=1,
            le=600,
        ),
    ] = 10.0


@final
class PipeSink(Sink[SafeFrame]):
    """Writes uncompressed 4:2:0 frames at a constant rate to a file that somebody else reads.

    A frame goes to the slot of the output nearest to its `pts`; slots without one repeat the frame
    before, and of several frames for one slot the first is shown. `write` waits for the reader; a
    reader that is slower than the stream gets fewer repeats, not ever older pictures. What was
    written cannot be taken back: `abort` only stops. The file stays open. After a failure the
    stream may end within a frame, so no other sink goes on with it. The error of a reader that has
    gone has the `errno` EPIPE.

    Args:
        file: e.g. ``sys.stdout.buffer``; only its descriptor is used, where it has one.
        options: see `PipeOptions`.
        size_wh: (width, height) of every frame; odd sides are continued by one copied row or
            column.
        time_base: seconds a tick of the frames' `pts`.
        patience_s: how long repeated frames may hold up the newest one; the rest of them are left
            out then.

    Raises:
        UsageError: the file is a terminal.
    """

    accepts: ClassVar[type] = SafeFrame
    retry: ClassVar[bool] = False

    def __init__(
        self,
        file: BinaryIO,
        options: PipeOptions,
        *,
        size_wh: tuple[int, int],
        time_base: Fraction,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        super().__init__()
        if file.isatty():
            raise UsageError("standard output is a terminal; pipe it into a program or a file")
        self._file = file
        try:
            self._fd: int | None = file.fileno()
        except OSError:  # it lives in memory
            self._fd = None
        self._size_wh = size_wh
        self._time_base = time_base
        self._slot = Fraction(1, options.fps)
        self._timeout_s = options.timeout_s
        self._patience_s = patience_s
        code_point = BT709 if options.matrix == "bt709" else BT601
        self._matrix = ycbcr_matrix(*LUMA_WEIGHTS[code_point], full=False)
        width, height = (side + side % 2 for side in size_wh)
        # C420jpeg: chroma lies between the pixels, as the mean of 2x2 of them does.
        self._start = (
            f"YUV4MPEG2 W{width} H{height} F{options.fps}:1 Ip A1:1 C420jpeg "
            "XYSCSS=420JPEG XCOLORRANGE=LIMITED\n"
        ).encode()
        self._first_pts: int | None = None
        self._last_pts = 0
        self._next_slot = 0
        self._left_out = 0
        self._shown = b""

    @property
    def written(self) -> int:
        """Frames written so far, repeats included."""
        return self._next_slot - self._left_out

    def _emit(self, item: SafeFrame) -> None:
        if item.size_wh != self._size_wh or item.time_base != self._time_base:
            raise SinkError(
                f"expected {self._size_wh} at {self._time_base} s a tick, "
                f"got {item.size_wh} at {item.time_base}"
            )
        if self._first_pts is None:
            self._first_pts = item.pts
            self._send(self._start)
        elif item.pts <= self._last_pts:
            raise SinkError(f"timestamps must rise; {self._last_pts} is followed by {item.pts}")
        self._last_pts = item.pts
        picture = _planes_of(to_yuv420p(item.pixels, self._matrix))
        slot = rescale(item.pts - self._first_pts, self._time_base, self._slot)
        if slot >= self._next_slot:
            self._repeat_until(slot)
            self._send(b"FRAME\n" + picture)
            self._next_slot = slot + 1
        self._shown = picture

    def _repeat_until(self, slot: int) -> None:
        began = time.monotonic()
        while self._next_slot < slot:
            if time.monotonic() - began > self._patience_s:
                missing = slot - self._next_slot
                _log.warning("the pipe's reader is too slow: %d frames were left out", missing)
                self._left_out += missing
                self._next_slot = slot
                return
            self._send(b"FRAME\n" + self._shown)
            self._next_slot += 1

    def _send(self, data: bytes) -> None:
        try:
            if self._fd is None:
                self._file.write(data)
            else:
                self._send_to(self._fd, memoryview(data))
        except SinkError:
            raise
        except BrokenPipeError as error:
            gone = SinkError("the pipe's reader has gone; run again for another one")
            gone.errno = error.errno
            raise gone from None
        except OSError as error:
            raise SinkError(
                f"the pipe cannot be written to ({error.strerror}); check what reads it"
            ) from None

    def _send_to(self, fd: int, data: memoryview) -> None:
        # The descriptor may be shared with other programs: it must not be made non-blocking.
        ready = select.poll()
        ready.register(fd, select.POLLOUT)
        while data:
            if not ready.poll(self._timeout_s * 1000):
                raise SinkError(
                    f"the pipe's reader took nothing for {self._timeout_s:g} s; run again with one "
                    "that reads on"
                )
            data = data[os.write(fd, data[:_AT_ONCE]) :]

    def _finish(self) -> None:
        if self._fd is None:
            self._file.flush()

    def _abort(self) -> None:
        self._shown = b""


def _planes_of(frame: av.VideoFrame) -> bytes:
    """Returns the three planes of a 4:2:0 frame, one after the other, without padding."""
    planes = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        for plane in frame.planes
    )
    widths = (plane.width for plane in frame.planes)
    return b"".join(rows[:, :width].tobytes() for rows, width in zip(planes, widths, strict=True))
