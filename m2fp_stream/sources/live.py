"""What live sources share: the clock of arrival, a canvas that stays, and an end at any time."""

from __future__ import annotations

import gc
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Final, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SourceError, UsageError
from ..core.raw import RawFrame, Under
from ..core.ring import BufferPool
from .base import Captured, Source, SourceInfo
from .convert import fit_bgr

__all__ = ["LIVE_TIME_BASE", "LiveSource", "Pace", "RealtimeSource"]

LIVE_TIME_BASE: Final = Fraction(1, 1_000_000)
"""Of every live frame: its `pts` are the microseconds of `time.monotonic_ns()` at its arrival.
Chosen: fine enough for any frame rate."""

_CATCH_UP_S: Final = 1.0
"""Who is later than this does not catch up, but goes on from where it is. Less is jitter: a garbage
collection, a slow frame. Chosen."""

_LONGEST_WAIT_S: Final = 10.0
"""Nobody waits longer for one frame; a timestamp that asks for it jumped. Chosen: as the longest
that a stream may take to open by default."""

_Result = TypeVar("_Result")


class LiveSource(Source):
    """A source whose frames carry the time of their arrival.

    `pts` are microseconds of `captured_ns`, strictly rising, over reconnects too. Every frame has
    the canvas's size: a picture of another one is fitted into it with black bars.

    `close` may be called from any thread and does not wait. A read that is under way then ends at
    the latest when its own time limit does, and lets go of the input; the iteration ends without
    an error.

    Args:
        name: of the input, without credentials, for messages.
        first_frame_id: of the first frame; the ids of a reconnected source go on.
        size_wh: the canvas, (width, height); None takes the first picture's size.

    Raises:
        UsageError: `first_frame_id` or `size_wh` are out of range.
    """

    def __init__(self, name: str, *, first_frame_id: int, size_wh: tuple[int, int] | None) -> None:
        super().__init__()
        if first_frame_id < 0:
            raise UsageError(f"first_frame_id must be >= 0, got {first_frame_id}")
        if size_wh is not None and min(size_wh) < 1:
            raise UsageError(f"size_wh must be positive, got {size_wh[0]}x{size_wh[1]}")
        self._name = name
        self._next_id = first_frame_id
        self._canvas_wh = size_wh
        self._last_pts = -1
        self._pool = BufferPool()
        self._closed = threading.Event()
        self._reading = threading.Lock()

    @property
    def waiting_for(self) -> str | None:
        """What is waited for while something is delivered but no picture; any thread may ask."""
        return None

    @final
    def close(self) -> None:
        """Lets go of the input, from any thread; idempotent. Frames given before stay valid."""
        super().close()
        self._closed.set()
        self._shut_unless_reading()

    @abstractmethod
    def _shut(self) -> None:
        """Lets go of the input; idempotent. Never called during a step of `_read`."""

    @final
    def _read(self, step: Callable[[], _Result]) -> _Result | None:
        """Returns what `step` does, which may touch the input; None once the source is closed."""
        try:
            with self._reading:
                return None if self._closed.is_set() else step()
        finally:
            if self._closed.is_set():
                self._shut_unless_reading()

    def _shut_unless_reading(self) -> None:
        # Who reads looks at `_closed` afterwards, so one of the two always gets here.
        if self._reading.acquire(blocking=False):
            try:
                self._shut()
            finally:
                self._reading.release()

    @final
    def _check_open(self) -> None:
        if self._closed.is_set():
            raise SourceError(f"{self._name}: was closed before its frames were read")

    @final
    def _stamp(self, captured_ns: int) -> int:
        self._last_pts = max(captured_ns // 1000, self._last_pts + 1)
        return self._last_pts

    @final
    def _captured(
        self,
        write: Callable[[NDArray[np.uint8]], Under | None],
        size_wh: tuple[int, int],
        captured_ns: int,
        *,
        restart: bool = False,
    ) -> Captured:
        """Makes the next frame.

        `write` fills (H, W, 3) zeros of `size_wh`, and returns what is under them, if anything.
        """
        buffer = self._pool.take(size_wh[1], size_wh[0])
        try:
            under = write(buffer)
        except BaseException:
            self._pool.give_back(buffer)
            raise
        frame = RawFrame(
            buffer,
            frame_id=self._next_id,
            pts=self._stamp(captured_ns),
            time_base=LIVE_TIME_BASE,
            captured_ns=captured_ns,
            under=under,
            give_back=self._pool.give_back,
        )
        self._next_id += 1
        return Captured(frame, restart)


@final
class Pace:
    """Waits until the moments of a film are due.

    Args:
        ended: set from any thread, it ends a wait at once.
        longest_wait_s: for one moment; one that is further away has jumped, and is due now.
    """

    def __init__(self, ended: threading.Event, longest_wait_s: float = _LONGEST_WAIT_S) -> None:
        self._ended = ended
        self._longest_wait_s = longest_wait_s
        self._start_s: float | None = None

    def wait(self, moment_s: float) -> None:
        """Returns when `moment_s` of the film is due, which began with the first call's moment."""
        now = time.monotonic()
        if self._start_s is None:
            self._start_s = now - moment_s
        ahead_s = self._start_s + moment_s - now
        if not -_CATCH_UP_S <= ahead_s <= self._longest_wait_s:
            self._start_s = now - moment_s
        elif ahead_s > 0:
            self._ended.wait(ahead_s)


@final
class RealtimeSource(LiveSource):
    """Plays another source at its own pace, as if it were a camera; ends when that one does.

    Pixels are passed on, not copied, unless a canvas of another size is asked for. A frame that is
    asked for late is given at once; none is left out.

    Args:
        source: what is played; closed with this one.
        reopen: gives the same source anew, to play it over and over.
        first_frame_id, size_wh: see `LiveSource`.
        longest_wait_s: see `Pace`.

    Raises:
        SourceError: that of the source played; from `reopen`, too.
    """

    def __init__(
        self,
        source: Source,
        *,
        reopen: Callable[[], Source] | None = None,
        first_frame_id: int = 0,
        size_wh: tuple[int, int] | None = None,
        longest_wait_s: float = _LONGEST_WAIT_S,
    ) -> None:
        super().__init__("the source", first_frame_id=first_frame_id, size_wh=size_wh)
        self._source = source
        self._reopen = reopen
        self._longest_wait_s = longest_wait_s
        self._size_wh = self._canvas_wh or source.info.size_wh

    @property
    def info(self) -> SourceInfo:
        """That of the source played, in live time; without an end if it is played for ever."""
        info = replace(self._source.info, size_wh=self._size_wh, time_base=LIVE_TIME_BASE)
        return info if self._reopen is None else replace(info, duration_s=None, frame_count=None)

    def _shut(self) -> None:
        self._source.close()

    def _capture(self) -> Iterator[Captured]:
        self._check_open()
        pace = Pace(self._closed, self._longest_wait_s)
        frames = self._source.frames()
        base_s, moment_s, first_pts, restart = 0.0, 0.0, None, False
        while True:
            captured = self._read(lambda frames=frames: next(frames, None))  # type: ignore[misc]
            if captured is None:
                if self._reopen is None or self._closed.is_set():
                    return
                self._read(self._open_again)
                if self._closed.is_set():
                    return
                frames, first_pts, restart = self._source.frames(), None, True
                base_s = moment_s
                continue
            frame = captured.frame
            if first_pts is None:
                first_pts = frame.pts
            start_s = base_s + float((frame.pts - first_pts) * frame.time_base)
            moment_s = start_s + self._duration_s(captured)
            pace.wait(start_s)
            if self._closed.is_set():
                frame.release()
                return
            yield self._restamped(captured, restart or captured.restart)
            restart = False

    def _open_again(self) -> None:
        assert self._reopen is not None
        self._source.close()
        self._source = self._reopen()
        # Containers and their streams refer to each other: what decoders hold (150 MB of a 720p
        # film) would stay until Python's collector happens to look at the oldest objects.
        gc.collect()

    def _duration_s(self, captured: Captured) -> float:
        if captured.duration:
            return float(captured.duration * captured.frame.time_base)
        return float(1 / (self._source.info.average_rate or 25))

    def _restamped(self, captured: Captured, restart: bool) -> Captured:
        frame, now_ns = captured.frame, time.monotonic_ns()
        duration = round(self._duration_s(captured) / LIVE_TIME_BASE)
        if frame.size_wh == self._size_wh:
            frame.frame_id, frame.captured_ns = self._next_id, now_ns
            frame.pts, frame.time_base = self._stamp(now_ns), LIVE_TIME_BASE
            self._next_id += 1
            return Captured(frame, restart, duration)
        try:
            with frame.analysis() as bgr:
                fitted = self._captured(
                    lambda out: fit_bgr(bgr, out), self._size_wh, now_ns, restart=restart
                )
        finally:
            frame.release()
        return replace(fitted, duration=duration)
