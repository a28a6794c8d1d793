"""The encoded stream in memory: what players get of it, in segments and without end.

Only what was composed and encoded is here (`sinks.serve`), and only the last of it. Whoever serves
it asks from threads of its own, and is told when there is something new; nothing here waits.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, final
from urllib.parse import quote

from .live_encoder import TICK, EncodedFrame

__all__ = ["LiveStream", "StreamLimits", "StreamQueue"]

_LATE_S: Final = 0.5
"""By how much a segment may be longer than its length and one interval between key frames: it ends
with the first key frame that is late enough, which comes one frame after its time."""


@final
@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What may be held in memory.

    Attributes:
        client_bytes: what waits for one client of the stream without end; beyond that it goes on
            with the next key frame. At 4 Mbit/s: 8 seconds.
        segment_bytes: what all HLS segments together may take; beyond that the oldest go early.
            At 4 Mbit/s, `serve.window` at its default and segments of a second: 13 of 0.5 MB.
    """

    client_bytes: int = 4 << 20
    segment_bytes: int = 128 << 20


@final
@dataclass(frozen=True, slots=True)
class _Segment:
    number: int
    duration_s: float
    data: bytes


@final
class StreamQueue:
    """What one client of the stream without end has still to get; any thread.

    Args:
        limit_bytes: what may wait, but for a single chunk that is larger.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._guard = threading.Lock()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._at_key = False

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    def put(self, data: bytes, *, key: bool) -> None:
        """Adds a chunk, from a key frame on; where it does not fit, from the next one on."""
        with self._guard:
            if self._chunks and self._size + len(data) > self._limit_bytes:
                self._chunks.clear()
                self._size = 0
                self._at_key = False
            self._at_key = self._at_key or key
            if self._at_key:
                self._chunks.append(data)
                self._size += len(data)

    def take(self) -> bytes | None:
        """Returns the next chunk; None where none waits."""
        with self._guard:
            if not self._chunks:
                return None
            data = self._chunks.popleft()
            self._size -= len(data)
            return data


@final
class LiveStream:
    """The stream, between the thread that writes frames and those that serve clients.

    Args:
        segment_s: least length of a segment.
        keyframe_s: interval between key frames.
        window: how many segments the playlist names.
        limits: of what is held.
    """

    def __init__(
        self, *, segment_s: float, keyframe_s: float, window: int, limits: StreamLimits
    ) -> None:
        self._segment_ticks = round(Fraction(segment_s) / TICK)
        self._window = window
        self._limits = limits
        # RFC 8216, 4.3.3.1: no segment may be longer, rounded, and it must not change.
        self._target_s = math.ceil(segment_s + keyframe_s + _LATE_S)
        self._guard = threading.Lock()
        self._segments: deque[_Segment] = deque()
        self._growing: list[bytes] = []
        self._began = 0
        self._number = 0
        self._queues: set[StreamQueue] = set()
        self._listeners: set[Callable[[], None]] = set()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    def publish(self, frame: EncodedFrame, data: bytes) -> None:
        """Takes the bytes of one frame; those of a key frame begin with the stream's tables."""
        with self._guard:
            if frame.key and self._growing and frame.pts - self._began >= self._segment_ticks:
                self._complete(frame.pts)
            if not self._growing:
                self._began = frame.pts
            self._growing.append(data)
            for one in self._queues:
                one.put(data, key=frame.key)
        self._tell()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._tell()

    def _complete(self, end: int) -> None:
        # A gap in the source is longer than the playlist may say; players go by the timestamps.
        duration_s = min(float((end - self._began) * TICK), float(self._target_s))
        self._segments.append(_Segment(self._number, duration_s, b"".join(self._growing)))
        self._number += 1
        self._growing.clear()
        # RFC 8216, 6.2.2: one that has left the playlist stays as long as a playlist lasts.
        while len(self._segments) > 2 * self._window + 1 or (
            len(self._segments) > 1 and self._held() > self._limits.segment_bytes
        ):
            self._segments.popleft()

    def _held(self) -> int:
        return sum(len(one.data) for one in self._segments)

    def _tell(self) -> None:
        with self._guard:
            listeners = list(self._listeners)
        for one in listeners:
            one()

    @contextmanager
    def listening(self, on_news: Callable[[], None]) -> Generator[None]:
        """Calls `on_news` for each frame and at the end, from the thread that writes."""
        with self._guard:
            self._listeners.add(on_news)
        try:
            yield
        finally:
            with self._guard:
                self._listeners.discard(on_news)

    @contextmanager
    def watching(self, on_news: Callable[[], None]) -> Generator[StreamQueue]:
        """Yields what a client of the stream without end gets; `on_news` as in `listening`."""
        queue = StreamQueue(self._limits.client_bytes)
        with self._guard:
            self._queues.add(queue)
        try:
            with self.listening(on_news):
                yield queue
        finally:
            with self._guard:
                self._queues.discard(queue)

    def playlist(self, token: str) -> bytes | None:
        """Returns the playlist, whose addresses name the token; None before the first segment."""
        with self._guard:
            named = list(self._segments)[-self._window :]
        if not named:
            return None
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            f"#EXT-X-TARGETDURATION:{self._target_s}",
            f"#EXT-X-MEDIA-SEQUENCE:{named[0].number}",
        ]
        for one in named:
            lines.append(f"#EXTINF:{one.duration_s:.6f},")
            lines.append(f"segment-{one.number}.ts?token={quote(token, safe='')}")
        return ("\n".join(lines) + "\n").encode()

    def segment(self, number: int) -> bytes | None:
        """Returns one segment, or None where it is too old or not complete."""
        with self._guard:
            return next((one.data for one in self._segments if one.number == number), None)
