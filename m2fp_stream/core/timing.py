"""Time as containers keep it: integer timestamps in a rational time base, never a float guess."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self, final

__all__ = ["NEVER", "Span", "read_time", "rescale", "seconds"]

NEVER: Final = -math.inf
"""The last time (or frame) of what has not happened yet: all of its intervals are over."""


def seconds(pts: int, time_base: Fraction) -> float:
    """Returns `pts` ticks of `time_base` in seconds (for display and thresholds only)."""
    return float(pts * time_base)


def read_time(text: str) -> float:
    """Returns the seconds that ``12.5``, ``0:12.5`` or ``1:02:03`` mean.

    Raises:
        ValueError: it is none of them, not finite, or below 0.
    """
    hours, minutes, seconds = (["0", "0", *text.split(":")])[-3:]
    if text.count(":") > 2 or not (hours.isdecimal() and minutes.isdecimal()):
        raise ValueError(f"expected seconds or H:MM:SS, got {text!r}")
    try:
        value = float(seconds)
    except ValueError:
        raise ValueError(f"expected seconds or H:MM:SS, got {text!r}") from None
    if not 0 <= value < math.inf or (":" in text and value >= 60):
        raise ValueError(f"expected seconds or H:MM:SS, got {text!r}")
    return int(hours) * 3600 + int(minutes) * 60 + value


def rescale(pts: int, source: Fraction, target: Fraction) -> int:
    """Returns `pts` of time base `source` in ticks of `target`, rounded to nearest, half up.

    Raises:
        ValueError: a time base is not positive.
    """
    if source <= 0 or target <= 0:
        raise ValueError(f"time bases must be positive, got {source} and {target}")
    exact = pts * source / target
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)


@final
@dataclass(frozen=True, slots=True)
class Span:
    """A time in a recorded file, ends included.

    Attributes:
        text: as people wrote it.
        begin_s: seconds from the beginning of the input, as a player counts them.
        end_s: not before it; infinite: to the end.
    """

    text: str
    begin_s: float
    end_s: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns what ``0:12-0:30`` means; ``0:12-`` goes on to the end.

        Raises:
            ValueError: it means nothing, or ends before it begins.
        """
        begin, dash, end = text.strip().partition("-")
        if not dash:
            raise ValueError(f"expected a time from BEGIN-END, such as 0:12-0:30, got {text!r}")
        span = cls(text.strip(), read_time(begin), read_time(end) if end else math.inf)
        if span.end_s < span.begin_s:
            raise ValueError(f"{text!r} ends before it begins")
        return span

    def touches(self, shown_s: tuple[float, float]) -> bool:
        """Says whether a frame that is shown from one moment to another is in it at all."""
        return shown_s[0] <= self.end_s and shown_s[1] > self.begin_s

    def holds(self, shown_s: tuple[float, float]) -> bool:
        """Says whether such a frame is in it the whole time."""
        return self.begin_s <= shown_s[0] and shown_s[1] <= self.end_s
