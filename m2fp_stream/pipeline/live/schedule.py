"""What gives way where the machine cannot keep up, and when it comes back.

The picture comes first, and in it the look for faces that each frame gets. So give way, in this
order: looks at parts, the rate of looks for people, the size of looks for faces, the frame rate.
Where none are late, all is taken back, one step at a time, so that the two do not chase each other.
"""

from __future__ import annotations

from dataclasses import replace
from math import log
from statistics import median
from typing import Final, final

from .follow import Rates

__all__ = ["Coarseness", "Load", "Took"]

_PARTS: Final = ((2, 2), (4, 1))
"""Looks at parts: so many times rarer, so many a frame."""
_PEOPLE: Final = (2, 4)
"""Looks for people in larger copies: so many times rarer. Those of the smallest stay: without them
everybody would be covered whole (P3)."""
_SMALLER: Final = 0.8
"""From one size of looks for faces to the next, about: half the size finds faces of twice it.
Chosen: three steps halve it."""
_SHARES: Final = (5 / 6, 2 / 3, 1 / 2, 1 / 3)
"""Shares of the frames that are taken; of a usual camera 25, 20, 15 and 10 a second. Chosen."""

_OVERDUE_SHARE: Final = 1 / 2
"""Of the frames while a look for people is overdue. Chosen: half of what takes the core from it."""

_CALM_S: Final = 5.0
_LONGEST_CALM_S: Final = 300.0
"""Seconds without a late frame before a step is taken back; doubled up to the longest where the
machine could not do what was taken back last. Chosen."""
_FEWEST: Final = 8
"""Frames a second that are taken at least: with long gaps a camera would seem to be away.
Chosen."""
_HOLDS_S: Final = 30.0
"""Seconds after which a step that was taken back counts as one that the machine can do. Chosen."""
_SETTLE_S: Final = 1.5
"""Seconds in which a step shows what it brings: until then frames that were late before are still
counted. Chosen."""
_LATE_SHARE: Final = 0.02
"""Late frames of those captured, from which the machine counts as overloaded. Chosen."""
_NARROW: Final = 0.5
"""Share of the time from frame to frame that looks for faces may take, from order to answer: on a
core where they take more, what shows the picture takes the rest. Chosen."""
_MUCH_LATE_SHARE: Final = 0.1
_MUCH_LATER: Final = 1.5
_MARGIN: Final = 1.3
"""Of how long looks for people take, the median: so long most of them take. Chosen; on one core the
95 % are twice the median."""
_MOST_LEAD: Final = 0.5
"""Of the interval between looks for people: twice as many would take longer still."""
_AT_ONCE: Final = 3
"""From such a share of late frames, or looks for people that take so many times what they may, so
many steps give way at once."""
_SETTLED_S: Final = 30.0
"""Seconds at full size after which looks count as back there: who is told too often stops
listening. Chosen."""
_SMALLEST_FACE_PX: Final = 9
"""In a copy that is looked at; smaller ones are missed (see docs/parsers.md, limits)."""


@final
class Load:
    """Says how much is looked for. Not thread-safe.

    Args:
        rates: as configured.
        side: long side of the copies in which faces are looked for, as configured.
        smallest_side: what that side never falls below, where `side` itself is not smaller.
        late_s: looks for people that take longer are too slow for the cover's age.
        delay_s: so long after their capture frames are judged: an answer may take as much longer.
    """

    def __init__(
        self, rates: Rates, *, side: int, smallest_side: int, late_s: float, delay_s: float = 0.0
    ) -> None:
        self._rates, self._late_s, self._delay_s = rates, late_s, delay_s
        self._lead_s = 0.0
        self._side, self._smallest_side = side, min(side, smallest_side)
        sizes = round(log(self._smallest_side / side) / log(_SMALLER))
        shares = [(step + 1) / sizes for step in range(sizes)]
        sides = [round(side * (self._smallest_side / side) ** share) for share in shares]
        self._sides = sorted({one for one in sides if one < side}, reverse=True)
        self._most = len(_PARTS) + len(_PEOPLE) + len(self._sides) + len(_SHARES)
        self._step = 0
        self._calm_since: float | None = None
        self._calm_s = _CALM_S
        self._stepped_s = float("-inf")
        self._taken_back_s: float | None = None  # and not judged yet

    @property
    def step(self) -> int:
        """How many steps have given way; 0: all is as configured."""
        return self._step

    @property
    def rates(self) -> Rates:
        """How often is looked."""
        rates = self._rates
        if self._step:
            rarer, a_frame = _PARTS[min(self._step, len(_PARTS)) - 1]
            a_frame = min(a_frame, rates.parts_a_frame)
            rates = replace(rates, parts_s=rarer * rates.parts_s, parts_a_frame=a_frame)
        people = min(self._step - len(_PARTS), len(_PEOPLE))
        if people > 0:
            rarer = _PEOPLE[people - 1]
            rates = replace(
                rates,
                middle_s=rarer * rates.middle_s,
                far_s=rarer * rates.far_s,
                motion_s=rarer * rates.motion_s,
            )
        return replace(rates, lead_s=min(self._lead_s, _MOST_LEAD * rates.people_s))

    @property
    def side(self) -> int:
        """Long side of the copies in which faces are looked for, in pixels."""
        sizes = min(self._step - len(_PARTS) - len(_PEOPLE), len(self._sides))
        return self._side if sizes <= 0 else self._sides[sizes - 1]

    @property
    def share(self) -> float:
        """Of the frames that come, so many (0..1) are to be taken."""
        shares = self._step - len(_PARTS) - len(_PEOPLE) - len(self._sides)
        return 1.0 if shares <= 0 else _SHARES[shares - 1]

    def taken(self, rate: float, *, waits: bool, overdue: bool) -> float:
        """Returns how many of the frames that come (0..1) are to be taken now.

        Until the first look of a shot is answered, cards are shown, and where a look for people is
        overdue, whole people are covered: a machine that is slow gives that look the time of most
        frames, or of every second one. Some are taken in any case.

        Args:
            rate: frames a second that come.
            waits: whether nothing is known of the shot yet (P4).
            overdue: whether the age of the last look for people counts, or soon will (P3).
        """
        if not (waits or overdue) or self._step == 0:
            return self.share
        fewest = min(1.0, _FEWEST / rate)
        return min(self.share, fewest if waits else max(fewest, _OVERDUE_SHARE))

    def observe(
        self,
        now_s: float,
        *,
        captured: int,
        late: int,
        people_s: float | None,
        faces_share: float = 0.0,
    ) -> None:
        """Takes what happened in the last second or so.

        Args:
            now_s: monotonic.
            captured: frames that came.
            late: of them, frames that nobody had time for, or that were shown without their look
                for faces.
            people_s: how long looks for people took, the median; None: none was answered.
            faces_share: how much of the time from frame to frame a look for faces takes.
        """
        if people_s is not None:
            in_time_s = self._rates.longest_s - self._rates.people_s + self._delay_s
            self._lead_s = max(0.0, _MARGIN * people_s - in_time_s)
        least = len(_PARTS) + len(_PEOPLE) if faces_share > _NARROW else 0
        if self._step < least:
            # There is no time for what can be rarer, and it need not be tried one by one.
            self._step = least
            self._stepped_s, self._calm_since = now_s, None
            return
        share = late / max(1, captured)
        # Where looks for people are late, everybody is covered whole: fewer frames are better.
        lateness = 0.0 if people_s is None else people_s / self._late_s
        if share > _LATE_SHARE or lateness > 1:
            self._calm_since = None
            self._fails(now_s)
            if now_s - self._stepped_s >= _SETTLE_S:
                much = share > _MUCH_LATE_SHARE or lateness > _MUCH_LATER
                for _ in range(_AT_ONCE if much else 1):
                    self._give_way(now_s, captured)
                    if self.share < 1:  # frames are seen to be missing: one step after the other
                        break
        elif self._calm_since is None:
            self._calm_since = now_s
        elif now_s - self._calm_since >= self._calm_s and self._step > least:
            self._calm_since = now_s
            self._step -= 1
            self._taken_back_s = now_s

    def _give_way(self, now_s: float, captured: int) -> None:
        if self._step >= self._most:
            return
        shares = self._step + 1 - len(_PARTS) - len(_PEOPLE) - len(self._sides)
        if shares > 0 and captured * _SHARES[shares - 1] < _FEWEST:
            return
        self._step += 1
        self._stepped_s = now_s

    def _fails(self, now_s: float) -> None:
        """Judges the step that was taken back last."""
        if self._taken_back_s is None:
            return
        held = now_s - self._taken_back_s > _HOLDS_S
        self._calm_s = _CALM_S if held else min(_LONGEST_CALM_S, 2 * self._calm_s)
        self._taken_back_s = None


@final
class Took:
    """How long looks took, in seconds, since it was asked last.

    Args:
        names: of the kinds of look that are asked about; others are not kept.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._seconds: dict[str, list[float]] = {}

    def add(self, name: str, seconds: float) -> None:
        """Notes one look."""
        if name in self._names:
            self._seconds.setdefault(name, []).append(seconds)

    def median(self, name: str) -> float | None:
        """Returns the median of one kind of look and forgets it; None where there was none."""
        seconds = self._seconds.pop(name, [])
        return median(seconds) if seconds else None


@final
class Coarseness:
    """Says when faces are looked for in smaller pictures than configured: small ones go unseen.

    Args:
        full_side: long side of the copy as configured, in pixels.
        longest: long side of the source's frames; a copy is never larger.
    """

    def __init__(self, *, full_side: int, longest: int) -> None:
        self._full, self._longest = min(full_side, longest), longest
        self._told = self._full
        self._full_since: float | None = None

    def news(self, now_s: float, side: int) -> str | None:
        """Returns a sentence for the user where there is anything new to tell, else None.

        Args:
            now_s: monotonic.
            side: long side of the copy now.
        """
        side = min(side, self._longest)
        if side < self._full:
            self._full_since = None
            if side >= self._told:
                return None
            self._told = side
            smallest = round(_SMALLEST_FACE_PX * self._longest / side)
            return (
                f"this machine cannot keep up: faces are looked for at {side} pixels now, "
                f"configured are {self._full}; those below about {smallest} pixels may go unseen"
            )
        if self._told == self._full:
            return None
        if self._full_since is None:
            self._full_since = now_s
        if now_s - self._full_since < _SETTLED_S:
            return None
        self._told = self._full
        return f"faces are looked for at {self._full} pixels again"
