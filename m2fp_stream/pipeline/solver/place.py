"""Where people are in a frame: along their tracks, and beyond a track's ends."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, final

from ...tracking.heads import Head, Rect
from ...tracking.motion import Motion
from ...tracking.sightings import Body
from ...tracking.track import Track
from ...tracking.tracker import Tracker
from ...tracking.turned import around
from .judge import HEAD_SEEN
from .records import Reach

__all__ = ["FAR_SHARE", "STILL_EVERY", "Places"]


EXTEND_S: Final = 0.35
"""A track goes on so long beyond its ends where no look contradicts it. With 1 s for all whom
looks for people had seen, outside grew from .43 to .78 % (`crossing`), from 3.7 to 4.8 (`seated`),
and no head less was exposed."""
HELD_S: Final = 10.0
"""Live, where no look was answered since, somebody is there so long: by then the picture is covered
whole, whatever is configured (`live.frame_after_s`), and however many frames a second come."""
ALWAYS: Final = 1_000_000_000
"""Frames: more than any shot has. Chosen."""
SUPPORT: Final = 0.5
"""Share of the looks for people that saw the body of a track, from which one that does not see it
says that it is gone. Chosen: half."""
MOVING: Final = 0.25
"""Share of a head in unexplained motion from which an empty look is not believed. Chosen: a
quarter."""
EDGE_HEADS: Final = 1.6
"""A body whose head is so many head widths from the edge may be cut by it. Chosen: as far to the
side as `BODY_OF_HEAD` takes a body for."""
FAR_SHARE: Final = 0.16
"""Of the picture's long side: smaller bodies are found reliably by far looks alone (100 pixels in a
look of 640, at which the network's recall begins to fall)."""
LARGE_SHARE: Final = 0.32
"""Of the picture's long side: a smaller body that far looks alone saw may be missed by others, for
all its size: somebody slim of 237 pixels in 1280 was (scene `tiny-heads`)."""
NEAR_SHARE: Final = 0.16
"""Of the picture's long side: larger bodies are found by near looks (61 pixels of 384; recall is
.94 from 50 upwards, docs/parsers.md)."""
STILL_EVERY: Final = 12
"""Frames between looks for people while nothing at all moves: they would see the same. Chosen: one
and a half times the usual 8 (`file.people_every`)."""
FACES_IN_BODY: Final = 6.0
"""Faces that a standing body is high, at least: it tells how large a body to look for. Chosen: a
little below the seven to eight heads of adults (`heads.BODY_TO_HEAD`)."""
BODY_OF_HEAD: Final = (1.6, 5.5)
"""A body that no look saw: so many head widths to each side, so many heights down. Chosen: elbows
to the sides, knees down."""


@final
class Places:
    """Knows what was looked at when, and says from it where a track's person is.

    Args:
        tracker: joins the sightings.
        size_wh: (width, height) of the frames.
        rate: frames a second, about.
        far_every: frames between looks for people who are small in the picture.
        live: whether frames are covered before the frames that follow are known.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        size_wh: tuple[int, int],
        rate: float,
        far_every: int,
        live: bool = False,
    ) -> None:
        self._live = live
        self._rate = rate
        self._tracker = tracker
        self._size_wh = size_wh
        self._far_every = far_every
        self._extend = max(3, round(EXTEND_S * rate))
        self.bodies: dict[int, tuple[Body, ...]] = {}
        self.reaches: dict[int, Reach] = {}
        self.motions: dict[int, Motion] = {}
        self._memo: dict[tuple[int, int], Head] | None = None
        self.vouched_at = -1
        """Frame of the last look of a second parser."""

    def take_motion(self, number: int, motion: Motion) -> None:
        """Takes what moved from the frame before."""
        self.motions[number] = motion

    def take_people(self, number: int, bodies: Sequence[Body], reach: Reach) -> None:
        """Takes what a look for people saw."""
        self.bodies[number] = tuple(bodies)
        self.reaches[number] = reach

    def forget_before(self, number: int) -> None:
        """Lets go of what was seen before a frame."""
        self.bodies = {k: v for k, v in self.bodies.items() if k >= number}
        self.reaches = {k: v for k, v in self.reaches.items() if k >= number}
        self.motions = {k: v for k, v in self.motions.items() if k >= number}

    def near_px(self) -> float:
        """Returns the longer side of a body from which a near look finds it, in pixels."""
        return NEAR_SHARE * max(self._size_wh)

    def head(self, track: Track, number: int) -> Head:
        """Returns where a track's head is, in its life or beyond its ends."""
        if self._memo is None:
            return self._head(track, number)
        key = track.track_id, number
        if key not in self._memo:
            self._memo[key] = self._head(track, number)
        return self._memo[key]

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Says that no track changes within the block: what was asked once is remembered."""
        self._memo = {}
        try:
            yield
        finally:
            self._memo = None

    def _head(self, track: Track, number: int) -> Head:
        if self._live and number > track.last:
            last, now = self._steady(track, track.last), track.expected(number)
            return replace(last, x=now.x, y=now.y)
        if number > track.last or number < track.first:
            at_end = number > track.last
            edge = track.last if at_end else track.first
            vx, vy = track.speed(at_end=at_end)
            steps = number - edge
            return self._steady(track, edge).moved(vx * steps, vy * steps)
        return self._steady(track, number)

    def _steady(self, track: Track, number: int) -> Head:
        """Returns the head with the size that it has over the frames around: detectors waver."""
        head = track.head_at(number)
        frames = track.frames
        index = bisect_left(frames, number)
        near = [f for f in frames[max(0, index - 3) : index + 4] if abs(f - number) <= 6]
        if len(near) < 2:
            return head
        sizes = [track.head_at(f) for f in near]
        width = sum(one.width for one in sizes) / len(sizes)
        height = sum(one.height for one in sizes) / len(sizes)
        roll = math.atan2(
            sum(math.sin(one.roll) for one in sizes), sum(math.cos(one.roll) for one in sizes)
        )
        return Head(
            head.x, head.y, max(width, 0.97 * head.width), max(height, 0.97 * head.height), roll
        )

    def body(self, track: Track, frame: int) -> Rect:
        """Returns the body at `frame`, seen or drawn from the head."""
        box = track.box_at(frame)
        head = self.head(track, frame)
        rect = head.rect()
        if box is None:
            beside, down = BODY_OF_HEAD
            return around(head, beside, 0.5, down)
        return Rect(
            min(box.x1, rect.x1), min(box.y1, rect.y1), max(box.x2, rect.x2), max(box.y2, rect.y2)
        )

    def is_there(self, track: Track, number: int) -> bool:
        """Says whether a track is in a frame: in its life, or carried on beyond its ends."""
        if number < track.start or (track.end is not None and number >= track.end):
            return False
        if track.born <= number <= track.last:
            return True
        at_end = number > track.last
        steps = number - track.last if at_end else track.born - number
        head = self.head(track, number)
        if steps > self._reach(track, head, at_end=at_end):
            return False
        rect = head.rect()
        width, height = self._size_wh
        if rect.x2 < 0 or rect.y2 < 0 or rect.x1 > width or rect.y1 > height:
            return False
        return not self._contradicted(track, number, at_end=at_end)

    def _reach(self, track: Track, head: Head, *, at_end: bool) -> int:
        """Returns how many frames a track goes on beyond an end where nothing contradicts it."""
        vouched = track.seen[track.last].sure and self.vouched_at <= track.last
        if self._live and at_end and vouched:
            return ALWAYS  # until that parser looks again
        if self._live and at_end and not self._looked_since(track):
            if self.needed(track) is Reach.FAR:
                return 2 * self._far_every
            return max(self._extend, round(HELD_S * self._rate))
        far = self._tracker.is_far(track) or (_is_supported(track) and not self.at_edge(head))
        if far and self.needed(track) is Reach.FAR:
            return self._far_every  # until the next look that can see him
        end = track.seen[track.last if at_end else track.first]
        return self._extend if end.face > 0 else max(self._extend, STILL_EVERY)

    def _looked_since(self, track: Track) -> bool:
        """Says whether a look that can see a track's body was made since it was seen last."""
        needed = self.needed(track)
        return any(frame > track.last and reach >= needed for frame, reach in self.reaches.items())

    def _contradicted(self, track: Track, number: int, *, at_end: bool) -> bool:
        """Says whether looks for people, between the track's end and `number`, saw nobody there.

        A look can be trusted there where the person would be whole: not at the edge of the picture,
        and not where something moves that nobody explains.
        """
        if self._live and at_end and track.seen[track.last].sure:
            return False  # a second parser sees whom these looks do not
        if not _is_supported(track) or track.turn:
            return False  # looks at the upright picture say nothing of who lies or hangs
        needed = self.needed(track)
        between = range(track.last + 1, number + 1) if at_end else range(number, track.born)
        for frame in between:
            bodies = self.bodies.get(frame)
            if bodies is None:
                continue
            head = self.head(track, frame)
            rect = head.rect()
            if self.reaches[frame] < needed:
                continue
            if self.at_edge(head) or self.motions[frame].share(rect) > MOVING:
                continue
            if not any(rect.shared(body.box) > 0.2 * rect.area for body in bodies):
                return True
        return False

    def needed(self, track: Track) -> Reach:
        """Returns how closely a look must look to see a track's body: as one that saw it did.

        Of somebody large, a look that reaches as far as his size asks for is believed as well. One
        who is small and whose parts show a head is there even if only far looks see him.
        """
        if self._tracker.is_far(track) and _shows_head(track):
            return Reach.FAR
        saw = [
            self.reaches[frame]
            for frame in track.frames
            if frame in self.reaches and track.seen[frame].body > 0
        ]
        box = track.seen[track.last].box
        if box is not None and max(box.width, box.height) < LARGE_SHARE * max(self._size_wh):
            return min(saw, default=self._asked(track))
        return min((self._asked(track), *saw))

    def _asked(self, track: Track) -> Reach:
        """Returns how closely a look must look for a body of a track's size, to be trusted."""
        last = track.seen[track.last]
        if last.box is not None:
            size = max(last.box.width, last.box.height)
        else:
            face = last.face_box
            size = math.inf if face is None else FACES_IN_BODY * face.height
        return self.reach_for(size)

    def reach_for(self, size: float) -> Reach:
        """Returns how closely a look must look to see a body of so many pixels, its longer side."""
        if size < FAR_SHARE * max(self._size_wh):
            return Reach.FAR
        return Reach.NEAR if size >= self.near_px() else Reach.MIDDLE

    def reach_of(self, box: Rect) -> Reach:
        """Returns how closely a look must look to see a body of a box; see `reach_for`."""
        return self.reach_for(max(box.width, box.height))

    def by_far(self, track: Track) -> bool:
        """Says whether far looks alone saw a track's body, as far back as it is known."""
        saw = [self.reaches.get(frame) for frame in track.frames if track.seen[frame].body > 0]
        return bool(saw) and all(reach == Reach.FAR for reach in saw)

    def is_unconfirmed(self, track: Track) -> bool:
        """Says whether a look saw somebody small once, and a far look soon after it saw nobody.

        A head that the parts show is enough.
        """
        if track.sightings > 1 or not self._tracker.is_far(track) or track.seen[track.last].sure:
            return False
        if _shows_head(track):
            return False
        end = math.inf if track.end is None else track.end
        return any(
            reach == Reach.FAR and track.last < frame < min(end, track.last + self._far_every)
            for frame, reach in self.reaches.items()
        )

    def at_edge(self, head: Head) -> bool:
        """Says whether the edge of the picture may cut the person whose head this is."""
        width, height = self._size_wh
        reach = EDGE_HEADS * head.width
        return not (reach < head.x < width - reach and 0.5 * head.height < head.y < height - reach)


def _is_supported(track: Track) -> bool:
    """Says whether looks for people saw a track's body as a rule."""
    return track.looked > 0 and track.supported >= SUPPORT * track.looked


def _shows_head(track: Track) -> bool:
    """Says whether a look at parts saw a head where one is expected."""
    return max(track.heads, default=0.0) >= HEAD_SEEN
