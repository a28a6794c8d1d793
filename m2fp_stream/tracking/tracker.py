"""Joins what looks saw of people to tracks, frame by frame.

Sources of the method: Bewley et al., "Simple Online and Realtime Tracking" (SORT), ICIP 2016
(constant velocity, one sighting a track and frame); Zhang et al., "ByteTrack", ECCV 2022 (weak
detections join tracks, strong ones first); Aharon et al., "BoT-SORT", arXiv 2206.14651 (the
camera's motion is taken out of the prediction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from .association import cheapest_first, join_cost, merged, same_person
from .sightings import Sighting
from .track import Track

__all__ = ["Tracker"]

WEAK_TRACK_COST: Final = 0.5
"""What joining costs more, in head sizes, where nobody strong was seen yet. Source: the order of
ByteTrack, strong ones first; chosen: as much as what another kind costs."""


@final
class Tracker:
    """Joins sightings to tracks, frame by frame; holds every track that may still be asked for.

    Args:
        max_gap: frames without a sighting after which a track has ended.
        body_gap: the same after a body without a face, which is not looked for in every frame.
        far_gap: the same of somebody who is small in the picture, whom few looks see:
        far_px: the longer side of the body is below this.
        strong: score from which a track is somebody in any case; it only weighs the joining.
    """

    def __init__(
        self, *, max_gap: int, body_gap: int, far_gap: int, far_px: float, strong: float
    ) -> None:
        self._max_gap, self._body_gap = max_gap, body_gap
        self._far_gap, self._far_px = far_gap, far_px
        self._strong = strong
        self._next_id = 1
        self._start = 0
        self.live: list[Track] = []
        self.ended: list[Track] = []

    def cut(self, frame: int) -> None:
        """Ends every track: `frame` starts a shot."""
        for track in self.live:
            track.end = frame
        for track in self.ended:
            track.end = frame if track.end is None else track.end
        self.ended += self.live
        self.live = []
        self._start = frame

    def step(
        self,
        frame: int,
        seen: Sequence[Sighting],
        *,
        looked_for_people: bool,
        camera: NDArray[np.float32] | None = None,
    ) -> None:
        """Takes what was seen in the next frame.

        Args:
            frame: its number.
            seen: see `sightings`.
            looked_for_people: whether bodies were looked for.
            camera: (2, 3) motion of the camera since the frame before, None at rest.
        """
        for track in self.live:
            track.predict(frame, camera)
        joined = self._join(frame, seen)
        for index, sighting in enumerate(seen):
            if index not in joined:
                joined[index] = Track(self._next_id, self._start)
                self._next_id += 1
                self.live.append(joined[index])
            joined[index].add(frame, sighting)
        if looked_for_people:
            for track in self.live:
                if track.last == frame:
                    track.looked += 1
                    track.supported += track.seen[frame].body > 0
        gone = [track for track in self.live if frame - track.last >= self.gap_of(track)]
        self.live = [track for track in self.live if frame - track.last < self.gap_of(track)]
        self.ended += gone

    def late(
        self,
        frame: int,
        seen: Sequence[Sighting],
        *,
        looked_for_people: bool,
        cameras: Mapping[int, NDArray[np.float32] | None],
    ) -> None:
        """Takes what looks at an earlier frame of this shot saw, whose answers came late.

        Args:
            frame: its number.
            seen: all that is known of that frame now; what a track has seen there is replaced.
            looked_for_people: whether a look for bodies is among those that came late.
            cameras: the camera's motion at each frame after it, to the frame at hand.
        """
        rest = list(range(len(seen)))
        for track in self.live:
            known = track.seen.get(frame)
            mine = None if known is None else same_person(known, seen, rest)
            if known is not None and mine is not None:
                rest.remove(mine)
                track.add_late(frame, merged(known, seen[mine]), cameras)
        free = [track for track in self.live if frame not in track.seen]
        pairs = []
        for number, track in enumerate(free):
            near = min(track.frames, key=lambda other: (abs(other - frame), other))
            weak = WEAK_TRACK_COST * (track.best < self._strong)
            expected, gap = track.expected(frame), abs(frame - near)
            for index in rest:
                cost = join_cost(track, track.seen[near], expected, gap, seen[index])
                if cost is not None:
                    pairs.append((cost + weak, number, index))
        for number, index in cheapest_first(pairs):
            rest.remove(index)
            free[number].add_late(frame, seen[index], cameras)
        for index in rest:
            track = Track(self._next_id, self._start)
            self._next_id += 1
            self.live.append(track)
            track.add(frame, seen[index])
            for number in sorted(cameras):
                track.predict(number, cameras[number])
        if looked_for_people:
            for track in self.live:
                known = track.seen.get(frame)
                if known is not None:
                    track.looked += 1
                    track.supported += known.body > 0

    def is_far(self, track: Track) -> bool:
        """Says whether few looks see a track, for it is small and shows no face."""
        last = track.seen[track.last]
        return (
            last.face == 0
            and last.box is not None
            and max(last.box.width, last.box.height) < self._far_px
        )

    def gap_of(self, track: Track) -> int:
        """Returns the frames without a sighting after which a track has ended."""
        if self.is_far(track):
            return self._far_gap
        return self._max_gap if track.seen[track.last].face > 0 else self._body_gap

    def _join(self, frame: int, seen: Sequence[Sighting]) -> dict[int, Track]:
        pairs: list[tuple[float, int, int]] = []
        for number, track in enumerate(self.live):
            expected = track.predicted
            before = track.seen[track.last]
            gap = frame - track.last
            weak = WEAK_TRACK_COST * (track.best < self._strong)
            for index, sighting in enumerate(seen):
                cost = join_cost(track, before, expected, gap, sighting)
                if cost is not None:
                    pairs.append((cost + weak, number, index))
        return {index: self.live[number] for number, index in cheapest_first(pairs)}

    def forget_before(self, frame: int) -> None:
        """Lets go of the tracks that ended before `frame`, and of what others did before it."""
        self.ended = [track for track in self.ended if track.last >= frame]
        for track in self.live:
            track.prune(frame)

    @property
    def tracks(self) -> list[Track]:
        """Every track that is held, by number."""
        return sorted((*self.ended, *self.live), key=lambda track: track.track_id)
