"""Timestamps of a file's frames, where they are missing, do not rise or jump back."""

from __future__ import annotations

from fractions import Fraction
from typing import Final, final

from ..core.timing import rescale

__all__ = ["TIME_JUMPS", "Timestamps", "cut_length"]

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


def cut_length(
    duration_s: float | None,
    count: int | None,
    rate: Fraction,
    start_s: float | None,
    end_s: float | None,
) -> tuple[float | None, int | None]:
    """Returns the seconds and the frames of what is read of a file, as far as they are known.

    Args:
        duration_s: of all of it, None where unknown.
        count: frames of all of it, None where unknown.
        rate: frames a second, about.
        start_s: what is read begins there, None: at the beginning.
        end_s: and ends there, None: at the end.
    """
    if duration_s is None:
        return None, count
    read_s = max(0.0, min(duration_s, end_s or duration_s) - (start_s or 0.0))
    if count is None:
        return read_s, round(read_s * rate)
    return read_s, round(count * read_s / duration_s) if duration_s > 0 else count
