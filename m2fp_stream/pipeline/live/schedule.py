"""How often and how finely a live picture is parsed, so that it keeps its frame rate.

The picture comes first: where frames are dropped, parses become rarer, then smaller; where even
that is too much, some frames are left out, evenly, because frames that wait too long for
their turn become the card. Where none are dropped, all this is taken back, one step at a time, so
that the two do not chase each other.
"""

from __future__ import annotations

from typing import Final, final

__all__ = ["Coarseness", "Schedule"]

_SIDES: Final = (1.0, 0.8, 0.65, 0.5)
"""Parse sizes as shares of the configured one; half of it finds heads of twice the size."""

_CALM_S: Final = 5.0
_LONGEST_CALM_S: Final = 300.0
"""Seconds without a dropped frame before a step is taken back; doubled up to the longest where the
machine could not do what was taken back last."""

_FEWEST: Final = 8
"""Frames a second that are taken at least: with long gaps a camera would seem to be away."""

_HOLDS_S: Final = 30.0
"""Seconds after which a step that was taken back counts as one that the machine can do."""

_SETTLE_S: Final = 2.0
"""Seconds in which a smaller parse, or fewer frames, show what they bring: until then frames that
were late before are still counted."""

_DROPPED_SHARE: Final = 0.02
"""Dropped frames of those captured, from which the machine counts as overloaded."""


_MANY_SHARE: Final = 0.1
"""Dropped frames of those captured, from which some are better left out evenly."""

_SHARES: Final = (1.0, 5 / 6, 2 / 3, 1 / 2, 1 / 3)
"""Shares of the frames that are taken; of a usual camera 25, 20, 15 and 10 a second."""

_SETTLED_S: Final = 30.0
"""Seconds at full size after which parses count as back there: who is told too often stops
listening."""

_SMALLEST_FACE_PX: Final = 9
"""In a parse copy; smaller ones are missed (see docs/parsers.md, limits)."""


@final
class Schedule:
    """Says when the next parse is due. Not thread-safe.

    Args:
        shortest_s, longest_s: bounds of the time between the starts of two parses.
        side: longer side of the parse copy in pixels, at most.
        late_s: a parse that takes longer than this is too slow for the cover's age.
        smallest_side: what that side never falls below, where `side` itself is not smaller.
    """

    def __init__(
        self,
        *,
        shortest_s: float,
        longest_s: float,
        side: int,
        late_s: float,
        smallest_side: int = 1,
    ) -> None:
        self._shortest_s, self._longest_s = shortest_s, max(shortest_s, longest_s)
        self._full_side, self._smallest_side = side, min(side, smallest_side)
        self._late_s = late_s
        self._interval_s = shortest_s
        self._step = 0
        self._last_s = float("-inf")
        self._calm_since: float | None = None
        self._thinned = 0
        self._calm_s = _CALM_S
        self._stepped_s = float("-inf")
        self._taken_back_s: float | None = None  # and not judged yet

    @property
    def interval_s(self) -> float:
        """Least time between the starts of two parses."""
        return self._interval_s

    @property
    def side(self) -> int:
        """Longer side of the parse copy, in pixels."""
        return max(self._smallest_side, round(self._full_side * _SIDES[self._step]))

    @property
    def share(self) -> float:
        """Of the frames that come, so many (0..1) are to be taken."""
        return _SHARES[self._thinned]

    def due(self, now_s: float) -> bool:
        """Says whether a parse may start now."""
        return now_s - self._last_s >= self._interval_s

    def started(self, now_s: float) -> None:
        """Says that one did."""
        self._last_s = now_s

    def observe(
        self, now_s: float, *, captured: int, dropped: int, parse_s: float | None, late: int = 0
    ) -> None:
        """Takes what happened in the last second or so.

        Args:
            now_s: monotonic.
            captured: frames that came.
            dropped: of them, frames that nobody had time for.
            parse_s: how long parses took, the median; None: none was answered.
            late: frames shown as the card because nothing was known about them in time.
        """
        few = _DROPPED_SHARE * max(1, captured)
        # Without an answer it is the parser that stands still, and fewer frames would not help.
        in_haste = late > few and parse_s is not None
        overloaded = in_haste or dropped > few
        if overloaded or (parse_s is not None and parse_s > self._late_s):
            self._calm_since = None
            self._fails(now_s)
            if overloaded and self._interval_s < self._longest_s:
                rarer_s = self._longest_s if in_haste else max(0.04, self._interval_s * 1.5)
                self._interval_s = min(self._longest_s, rarer_s)
                if not in_haste:
                    return
            if now_s - self._stepped_s < _SETTLE_S:
                return
            if self._step < len(_SIDES) - 1:
                self._step += 1
                self._stepped_s = now_s
            elif in_haste or dropped >= _MANY_SHARE * max(1, captured):
                self._thin(now_s, captured)
        elif self._calm_since is None:
            self._calm_since = now_s
        elif now_s - self._calm_since >= self._calm_s:
            self._calm_since = now_s
            self._take_back(now_s, parse_s)

    def _thin(self, now_s: float, captured: int) -> None:
        fewer = _SHARES[self._thinned + 1 :]
        if fewer and captured * fewer[0] >= _FEWEST:
            self._thinned += 1
            self._stepped_s = now_s

    def _take_back(self, now_s: float, parse_s: float | None) -> None:
        if self._step and (parse_s is None or parse_s < 0.5 * self._late_s):
            self._step -= 1
        elif self._thinned:
            self._thinned -= 1
        elif self._interval_s > self._shortest_s:
            self._interval_s = max(self._shortest_s, self._interval_s / 1.25)
        else:
            return
        self._taken_back_s = now_s

    def _fails(self, now_s: float) -> None:
        """Judges the step that was taken back last."""
        if self._taken_back_s is None:
            return
        held = now_s - self._taken_back_s > _HOLDS_S
        self._calm_s = _CALM_S if held else min(_LONGEST_CALM_S, 2 * self._calm_s)
        self._taken_back_s = None


@final
class Coarseness:
    """Says when people are looked for in smaller pictures than configured: small heads go unseen.

    Args:
        full_side: longer side of the parse copy as configured, in pixels.
        longest: longer side of the source's frames; a copy is never larger.
    """

    def __init__(self, *, full_side: int, longest: int) -> None:
        self._full, self._longest = min(full_side, longest), longest
        self._told = self._full
        self._full_since: float | None = None

    def news(self, now_s: float, side: int) -> str | None:
        """Returns a sentence for the user where there is anything new to tell, else None.

        Args:
            now_s: monotonic.
            side: longer side of the parse copy now.
        """
        side = min(side, self._longest)
        if side < self._full:
            self._full_since = None
            if side >= self._told:
                return None
            self._told = side
            smallest = round(_SMALLEST_FACE_PX * self._longest / side)
            return (
                f"this machine cannot keep up: people are looked for at {side} pixels now, "
                f"configured are {self._full}; faces below about {smallest} pixels may go unseen"
            )
        if self._told == self._full:
            return None
        if self._full_since is None:
            self._full_since = now_s
        if now_s - self._full_since < _SETTLED_S:
            return None
        self._told = self._full
        return f"people are looked for at {self._full} pixels again"
