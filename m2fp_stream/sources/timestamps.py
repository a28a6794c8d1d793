"""A file's time: where players count 0, where it ends, and timestamps that rise in between."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final, final

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from ..core.timing import rescale, seconds
from .options import FileOptions

__all__ = ["TIME_JUMPS", "Timestamps", "cut_length", "declared_end", "zero_of"]

_DECLARES_DURATION: Final = ("mov", "matroska", "avi", "flv", "asf")
"""Demuxers whose duration stands in the file; that of others is an estimate from its size."""

_DECLARES_TRACKS: Final = ("mov", "avi")
"""Those of them that say it of each track. Where others seem to, FFmpeg has filled in the file's,
which may be that of the sound (ASF; Matroska of one frame a second)."""

_LATE_START_S: Final = 10
"""Streams that start later carry a running clock (broadcast, CCTV): their start becomes 0. Chosen:
more than a muxer leaves in front, less than any clock shows."""

_NO_ZERO: Final = ("mpegts", "mpeg", "mpegvideo", "dhav", "gxf", "wtv")
"""Demuxers of formats without a 0; muxers leave room for a buffer in front (FFmpeg 1.4 s). Source:
ISO/IEC 13818-1, 2.4.2.2: clocks may start at any value."""

TIME_JUMPS: Final = "time jumps back in the file; it goes on from where it was"

_JUMP_S: Final = 1
"""A timestamp that falls back by more than this is a new recording appended to the old one; less
is jitter of a muxer. MPEG-TS allows 0.1 s between clock references (ISO/IEC 13818-1, 2.7.2)."""


@final
class Timestamps:
    """Gives every frame a timestamp, strictly rising."""

    def __init__(self, time_base: Fraction, rate: Fraction) -> None:
        self._time_base = time_base
        self._step = max(1, rescale(1, 1 / rate, time_base))
        self._rate = rate
        self._jump = rescale(_JUMP_S, Fraction(1), time_base)
        self._last: int | None = None
        self._known = 0
        self._filled = 0
        self._shift = 0
        self.remarks: list[str] = []

    def stamp(self, pts: int | None) -> tuple[int, bool]:
        """Returns the timestamp to use, and whether time jumped back."""
        last, jumped = self._last, False
        if pts is None:
            self._remark("some frames had no timestamp; theirs follow from the frame rate")
            # Counted from the last known one, so that rounding does not add up.
            self._filled += last is not None
            stamp = self._known + rescale(self._filled, 1 / self._rate, self._time_base)
        else:
            stamp = pts + self._shift
            if last is not None and last - stamp > self._jump:
                self._remark(TIME_JUMPS)
                self._shift += last + self._step - stamp
                stamp, jumped = last + self._step, True
        if last is not None and stamp <= last:
            self._remark("some timestamps did not rise; they were moved up by one tick")
            stamp = last + 1
        if pts is not None:
            self._known, self._filled = stamp, 0
        self._last = stamp
        return stamp, jumped

    def _remark(self, sentence: str) -> None:
        if sentence not in self.remarks:
            self.remarks.append(sentence)


def zero_of(container: InputContainer, stream: VideoStream, first_pts: int) -> int:
    """Returns the timestamp that players call 0; `first_pts` is that of the first picture."""
    base, zero = stream.time_base or Fraction(1, 1000), 0
    if container.format.name in _NO_ZERO:
        if not container.streams.audio:
            return first_pts
        zero = math.floor(Fraction(container.start_time, av.time_base) / base)
    waits = 0 <= seconds(first_pts - zero, base) <= _LATE_START_S
    return zero if waits else first_pts


def declared_end(container: InputContainer, stream: VideoStream) -> tuple[Fraction | None, bool]:
    """Returns at which second a file says that it ends, None where it does not say.

    Also whether that is of its video: sound may outlast the picture.
    """
    name = container.format.name
    if not name.startswith(_DECLARES_DURATION):
        return None, False
    if stream.duration and stream.time_base and name.startswith(_DECLARES_TRACKS):
        end = (stream.start_time or 0) + stream.duration
        # Where an edit list leaves pictures out, FFmpeg's duration may count from 0.
        if 0 < (count := len(stream.index_entries)) < stream.frames:
            end = min(end, stream.index_entries[count - 1].timestamp)
        return end * stream.time_base, True
    # Counted from 0, not from the first frame (Matroska's Duration, RFC 9559, 5.1.2.10).
    return (Fraction(container.duration, av.time_base) if container.duration else None), False


def cut_length(
    duration_s: float | None, count: int | None, rate: Fraction, late_s: float, options: FileOptions
) -> tuple[float | None, int | None]:
    """Returns the seconds and the frames of what is read of a file, as far as they are known.

    Args:
        duration_s: of all its pictures, None where unknown.
        count: frames of all of it, None where unknown.
        rate: frames a second, about.
        late_s: how long after 0 its pictures begin.
        options: say where what is read begins and ends, counted from 0.
    """
    if duration_s is None:
        return None, count
    begin_s = max(0.0, (options.start_s or 0.0) - late_s)
    end_s = duration_s if options.end_s is None else min(duration_s, options.end_s - late_s)
    read_s = max(0.0, end_s - begin_s)
    if count is None:
        return read_s, round(read_s * rate)
    return read_s, round(count * read_s / duration_s) if duration_s > 0 else count
