"""A slow fine parser beside the quick guard, in a live picture: it adds cover, never delay or age.

What it found lies seconds back. The flow of the frames since then is kept, and its regions are
carried through it as tracks are, a few frames at a time, until they have reached now; from then on
they join those of each of the guard's parses. Where they lie wrong, something is covered that need
not be; what the guard covers never depends on them.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field, replace
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.errors import M2FPStreamError, ModelError
from ...core.records import Look, ParseResult
from ...policy import Findings, Policy
from ...tracking.flow import Link
from ...tracking.options import TrackingOptions
from ...tracking.tracks import Track, shrink_map
from ..workers import ParserQueue

__all__ = ["Refiner"]

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_S: Final = 30.0

_CATCH_UP: Final = (6, 4, 3)
"""Frames by which one, two or three regions are carried while one frame is captured, so that no
frame waits long. After a parse of three seconds one has caught up in another half second."""

_MOST_REGIONS: Final = len(_CATCH_UP)
"""Regions that are carried for themselves; the smallest beyond it move as one. Carrying a dozen
took more of a frame's time than all the rest of following it."""

_PARSES_AT_ONCE: Final = 2
"""Of the guard: one under way, one whose answer is about to be worked on."""


@dataclass(slots=True, eq=False)
class _Carried:
    """Findings of a frame, on their way to now along `links`."""

    tracks: tuple[Track, ...]
    time_s: float
    links: deque[Link] = field(default_factory=deque[Link])

    def advance(self, options: TrackingOptions) -> None:
        """Carries them by a few frames."""
        most = _CATCH_UP[max(1, len(self.tracks)) - 1]
        for _ in range(min(most, len(self.links))):
            link = self.links.popleft()
            stepped = (track.step(link, options) for track in self.tracks)
            self.tracks = tuple(track for track in stepped if track is not None)
            link.forget()


@dataclass(slots=True, eq=False)
class _Asked:
    """A parse under way; `links` lead from its frame to now, None once its shot is over."""

    future: Future[ParseResult]
    time_s: float
    size_wh: tuple[int, int]
    links: deque[Link] | None = field(default_factory=deque[Link])


@final
class Refiner:
    """Keeps one slow parse under way and what the last one found, carried along. Not thread-safe.

    Args:
        parser: the slow parser's queue; closing it is the caller's.
        policy: what of its findings is hidden.
        tracking: how regions are carried.
        longest_s: findings older than this are dropped, in capture time.
    """

    def __init__(
        self,
        parser: ParserQueue,
        policy: Policy,
        tracking: TrackingOptions,
        *,
        longest_s: float,
    ) -> None:
        self._parser, self._policy, self._longest_s = parser, policy, longest_s
        # Growth is for what nobody confirms; the guard does that for whatever must be covered.
        self._tracking = tracking.model_copy(update={"growth_px": 0.0, "growth_per_speed": 0.0})
        self._asked: _Asked | None = None
        self._coming: _Carried | None = None
        self._found: _Carried | None = None
        self._snapshots: dict[int, tuple[Track, ...]] = {}
        self._newest = -1
        self._pause_until_s = -1e9
        self._in_a_row = 0
        self._parses = self._failures = 0
        self._doubts: Counter[str] = Counter()
        self._parse_s: float | None = None
        self._age_s: float | None = None

    @property
    def wants(self) -> bool:
        """True where a copy of the newest frame should be given to `order`."""
        return self._asked is None

    def restart(self, frame_id: int) -> None:
        """Says that a shot starts with this frame: nothing found so far holds."""
        self._newest = frame_id
        if self._asked is not None:
            self._asked.links = None
        self._coming = self._found = self._age_s = None
        self._snapshots.clear()

    def step(self, frame_id: int, back: Link, time_s: float) -> None:
        """Takes the next frame of the shot; `back` leads from it to the one before."""
        self._newest = frame_id
        link = back.without_pixels()
        if self._asked is not None and self._asked.links is not None:
            self._asked.links.append(link)
            if time_s - self._asked.time_s > self._longest_s:
                self._asked.links = None
        for carried in (self._coming, self._found):
            if carried is not None:
                carried.links.append(link)
                carried.advance(self._tracking)
        if self._coming is not None and not self._coming.links:
            self._found, self._coming = self._coming, None
        self._age_s = None
        if self._found is not None:
            self._age_s = time_s - self._found.time_s
            if self._age_s > self._longest_s:
                self._found = None

    def order(
        self,
        bgr: NDArray[np.uint8],
        *,
        frame_id: int,
        time_s: float,
        size_wh: tuple[int, int],
    ) -> None:
        """Has `bgr` (zeroed later) parsed; call it for the newest frame, where `wants`.

        `size_wh` is the (width, height) of the small picture.
        """
        if time_s < self._pause_until_s:
            bgr.fill(0)
            return
        future = self._parser.submit(bgr, frame_id=frame_id, look=Look.FRESH)
        self._asked = _Asked(future, time_s, size_wh)

    def collect(self, time_s: float) -> None:
        """Takes the answer where it is there; a failure costs nothing but the refinement.

        Raises:
            ModelError: the parser cannot be started.
        """
        asked = self._asked
        if asked is None or not asked.future.done():
            return
        self._asked = None
        try:
            result = asked.future.result()
            findings = self._policy.findings(result)
        except ModelError:
            raise
        except CancelledError:
            return
        except (M2FPStreamError, cv2.error, ValueError, IndexError, ArithmeticError) as error:
            self._failures += 1
            self._in_a_row += 1
            pause_s = min(_LONGEST_PAUSE_S, 0.5 * 2 ** min(6, self._in_a_row))
            self._pause_until_s = time_s + pause_s
            _log.warning("the fine parser failed: %s", error)
            return
        self._parses += 1
        self._doubts.update(result.doubts)
        self._in_a_row = 0
        self._parse_s = time_s - asked.time_s
        if asked.links is not None:
            tracks = tuple(_tracks(findings, asked.size_wh, asked.time_s))
            self._coming = _Carried(tracks, asked.time_s, asked.links)

    def facts(self) -> dict[str, object]:
        """Returns what was measured so far, as JSON values."""
        return {
            "parses": self._parses,
            "failures": self._failures,
            "doubts": dict(sorted(self._doubts.items())),
            "parse_s": None if self._parse_s is None else round(self._parse_s, 2),
            "age_s": None if self._age_s is None else round(self._age_s, 2),
        }

    def remember(self, frame_id: int) -> None:
        """Says that the guard's parse of a frame was ordered: `merged` comes later."""
        while len(self._snapshots) >= _PARSES_AT_ONCE:
            del self._snapshots[min(self._snapshots)]
        found = self._found
        if found is not None and not found.links and frame_id == self._newest:
            self._snapshots[frame_id] = found.tracks

    def merged(self, frame_id: int, findings: Findings) -> Findings:
        """Returns the guard's findings on a frame with what the fine parser adds to them."""
        tracks = self._snapshots.pop(frame_id, ())
        if not tracks:
            return findings
        size_wh = findings.people.shape[1], findings.people.shape[0]
        regions = list(findings.regions)
        of_guard = len(regions)
        for track in tracks:
            resized = cv2.resize(track.parts, size_wh, interpolation=cv2.INTER_NEAREST)
            added = np.asarray(resized, np.uint8)
            shared = [np.count_nonzero((added > 0) & (regions[k] > 0)) for k in range(of_guard)]
            if any(shared):  # the same person: one track, not two
                nearest = int(np.argmax(shared))
                regions[nearest] = np.where(regions[nearest] > 0, regions[nearest], added)
            else:
                regions.append(added)
        return replace(findings, regions=tuple(regions))


def _tracks(findings: Findings, size_wh: tuple[int, int], time_s: float) -> list[Track]:
    maps = [shrink_map(region, size_wh) for region in findings.regions]
    maps = sorted((one for one in maps if one.any()), key=np.count_nonzero, reverse=True)
    if len(maps) > _MOST_REGIONS:
        maps[_MOST_REGIONS - 1 :] = [np.maximum.reduce(maps[_MOST_REGIONS - 1 :])]
    return [
        Track(number, parts, (0.0, 0.0), 0.0, 0, 0, time_s, int(np.count_nonzero(parts)))
        for number, parts in enumerate(maps)
    ]
