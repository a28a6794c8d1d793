"""Time as containers keep it: integer timestamps in a rational time base, never a float guess."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

__all__ = ["NEVER", "read_span", "read_time", "rescale", "seconds"]

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


def read_span(text: str) -> tuple[Fraction, Fraction]:
    """Returns the seconds that ``0:12-0:30`` begins and ends at.

    Raises:
        ValueError: it is no such span, or its end is not after its beginning.
    """
    begin_text, dash, end_text = text.partition("-")
    if not dash:
        raise ValueError(f"expected TIME-TIME, as 0:12-0:30, got {text!r}")
    begin, end = (Fraction(read_time(one.strip())) for one in (begin_text, end_text))
    if begin >= end:
        raise ValueError(f"expected an end after the beginning, got {text!r}")
    return begin, end
