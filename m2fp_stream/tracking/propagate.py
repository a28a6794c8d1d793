"""Carries a parse's findings from frame to frame, forwards or backwards in time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from ..policy import Findings
from .flow import Link, Mask, Small
from .motion_guard import Guard
from .options import TrackingOptions
from .tracks import Track, grow, shrink_map

__all__ = ["Covered", "State", "Tracker"]

_CONFIRMED_SHARE: Final = 0.3
_RESOLVED_SHARE: Final = 0.5
_BACKGROUND_SHARE: Final = 0.7
_FOLLOWED_SHARE: Final = 0.6
_GUARD_LABEL: Final = 20  # Label.HUMAN: what moves and is not explained may be anybody


@final
@dataclass(frozen=True, slots=True, eq=False)
class Covered:
    """What is covered in one frame, at the size of the small picture.

    Attributes:
        parts: (h, w) uint8 `Label`, 0 = clear.
        tracks: (h, w) uint8, 1 to 255 tells tracks apart; 0 is the motion guard's.
    """

    parts: NDArray[np.uint8]
    tracks: NDArray[np.uint8]

    def __or__(self, other: Covered) -> Covered:
        """Union; where both cover, `self` names the part."""
        mine = self.parts > 0
        return Covered(
            np.where(mine, self.parts, other.parts), np.where(mine, self.tracks, other.tracks)
        )

    def add(self, track: Track) -> Covered:
        """Union with one track."""
        new = (track.parts > 0) & (self.parts == 0)
        return Covered(
            np.where(new, track.parts, self.parts),
            np.where(new, track.track_id % 255 + 1, self.tracks),
        ).narrowed()

    def narrowed(self) -> Covered:
        """The same with uint8 arrays."""
        return Covered(self.parts.astype(np.uint8), self.tracks.astype(np.uint8))

    def add_guard(self, mask: Mask) -> Covered:
        """Union with a mask of the motion guard."""
        new = (mask > 0) & (self.parts == 0)
        return Covered(np.where(new, _GUARD_LABEL, self.parts), self.tracks).narrowed()


@final
@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Everything known in one frame, seen from one direction of time."""

    tracks: tuple[Track, ...]
    guard: Guard

    def covered(self) -> Covered:
        """What the tracks cover."""
        height, width = self.guard.explained.shape
        parts, tracks = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
        for track in self.tracks:
            box = track.box
            new = (track.parts[box] > 0) & (parts[box] == 0)
            np.copyto(parts[box], track.parts[box], where=new)
            np.copyto(tracks[box], np.uint8(track.track_id % 255 + 1), where=new)
        return Covered(parts, tracks)


@final
class Tracker:
    """Makes states: blank, stepped along a link, corrected by a parse. Numbers the tracks.

    Not thread-safe.
    """

    def __init__(self, options: TrackingOptions) -> None:
        self.options = options
        self._last_id = 0

    def blank(self, small: Small) -> State:
        """Returns the state at the start of a shot: nothing is known (so all is covered)."""
        return State((), Guard.blank(*small.grey.shape))

    def step(self, state: State, link: Link, *, guarded: bool = True) -> State:
        """Returns `state` carried from `link.there` to `link.here`.

        Where not `guarded` the guard stays behind: its masks no longer fit the frame.
        """
        stepped = (track.step(link, self.options) for track in state.tracks)
        tracks = tuple(track for track in stepped if track is not None)
        return State(tracks, state.guard.step(link) if guarded else state.guard)

    def correct(
        self, state: State, findings: Findings, small: Small, link: Link | None, now_s: float
    ) -> State:
        """Returns `state` corrected by a parse of the very frame it belongs to.

        Regions of the parse replace the tracks they overlap and take their ids. A track that the
        parse does not confirm is held (see `TrackingOptions.hold_s`); after a glance, always.
        """
        height, width = small.grey.shape
        regions, union = _shrunk(findings, (width, height))
        people = np.minimum(shrink_map(findings.people, (width, height)), 1).astype(np.uint8)
        people |= union
        free = list(state.tracks)
        tracks: list[Track] = []
        for region in sorted(regions, key=np.count_nonzero, reverse=True):
            if not region.any():
                continue
            known = max(free, key=lambda track: track.overlap(region), default=None)
            if known is not None and known.overlap(region) > 0.1:
                free.remove(known)
                number = known.track_id
            else:
                number = self._number()
            parts = grow(region, 1)
            area = int(np.count_nonzero(parts))
            tracks.append(Track(number, parts, (0.0, 0.0), 0.0, 0, 0, now_s, area))
        held = np.zeros((height, width), np.uint8)
        background = None if link is None else state.guard.known_background(link)
        for track in state.tracks:
            if track.overlap(union) >= _CONFIRMED_SHARE:
                continue
            if not findings.thorough:
                tracks.append(track)
                held |= (track.parts > 0).astype(np.uint8)
                continue
            if track.misses > 0 and any(_lies_in(region, track) for region in regions):
                continue  # two parses saw, inside it, whose it was: the rest was growth
            if self._holds(track, link, background, now_s):
                tracks.append(replace(track, misses=track.misses + 1, growth=0.0))
                held |= (track.parts > 0).astype(np.uint8)
        guard = state.guard.correct(
            link,
            small.colour,
            people,
            held,
            clear_parses=self.options.clear_parses,
            thorough=findings.thorough,
        )
        return State(tuple(tracks), guard)

    def loses(self, state: State, findings: Findings) -> bool:
        """Says whether `findings` are of a glance that does not confirm every track of `state`."""
        if findings.thorough:
            return False
        height, width = state.guard.explained.shape
        _, union = _shrunk(findings, (width, height))
        return any(track.overlap(union) < _CONFIRMED_SHARE for track in state.tracks)

    def _holds(
        self, track: Track, link: Link | None, background: Mask | None, now_s: float
    ) -> bool:
        if track.misses < 1:
            return True  # one parse that finds nobody is not enough (P5)
        if background is not None and track.overlap(background) > _BACKGROUND_SHARE:
            return False  # the place shows what a parse cleared before
        if link is None or abs(now_s - track.confirmed_s) > self.options.hold_s:
            return False
        return track.followed(link) > _FOLLOWED_SHARE

    def _number(self) -> int:
        self._last_id += 1
        return self._last_id


def _shrunk(
    findings: Findings, size_wh: tuple[int, int]
) -> tuple[list[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Returns the regions at the size of the small picture, and 1 where any of them is."""
    regions = [shrink_map(region, size_wh) for region in findings.regions]
    union = np.zeros(size_wh[::-1], np.uint8)
    for region in regions:
        union |= (region > 0).astype(np.uint8)
    return regions, union


def _lies_in(region: NDArray[np.uint8], track: Track) -> bool:
    inside = region > 0
    return bool(inside.any()) and float((track.parts[inside] > 0).mean()) > _RESOLVED_SHARE
