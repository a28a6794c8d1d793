"""People as tracks: joined from what looks saw, in both directions of time.

A track is a person's way through one shot: what looks saw of them in single frames (`Sighting`),
and where they must have been between. It is pure: no thread, no clock, no picture; tests feed it
tables of boxes.

Sources of the method: Bewley et al., "Simple Online and Realtime Tracking" (SORT), ICIP 2016
(constant velocity, one sighting a track and frame); Zhang et al., "ByteTrack", ECCV 2022 (weak
detections join tracks, strong ones first); Aharon et al., "BoT-SORT", arXiv 2206.14651 (the
camera's motion is taken out of the prediction).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from .heads import Head, Rect, of_body, of_face

__all__ = [
    "SHOWN_FACE",
    "UPRIGHT_FACE",
    "Body",
    "Face",
    "Sighting",
    "Track",
    "Tracker",
    "sightings",
]


@final
@dataclass(frozen=True, slots=True)
class Face:
    """A face that a look found.

    Attributes:
        box: in pixels of the frame.
        score: 0..1.
        roll: tilt of the eyes' line in radians, 0 where unknown.
    """

    box: Rect
    score: float
    roll: float = 0.0


@final
@dataclass(frozen=True, slots=True)
class Body:
    """A whole person that a look found; the same units."""

    box: Rect
    score: float


@final
@dataclass(frozen=True, slots=True)
class Sighting:
    """What the looks at one frame saw of one person.

    Attributes:
        head: where the head is, or must be.
        face: score of the face, 0 where none was seen.
        body: score of the body, 0 where none was seen or looked for.
        box: of the body.
        sure: True where another parser vouches for it (M2FP).
        face_box: of the face.
        turn: quarters by which the picture had to be turned for the look that saw it; see `turned`.
    """

    head: Head
    face: float = 0.0
    body: float = 0.0
    box: Rect | None = None
    sure: bool = False
    face_box: Rect | None = None
    turn: int = 0

    @property
    def score(self) -> float:
        """The better of both scores."""
        return 1.0 if self.sure else max(self.face, self.body)


ABOVE: Final = 0.15
BESIDE: Final = 0.05
TOP_SHARE: Final = 0.4
TOP_WIDTHS: Final = 0.9
SMALLEST_FACE, LARGEST_FACE = 0.05, 1.2
"""A face belongs to a body when its centre lies within the box, at most so far above and beside it
(shares of its height and width), in the upper part (of the height, or so many widths), is so high
at least (of the height), and at most (of both: of who leans in, a box holds the head alone)."""


def _belongs(face: Rect, body: Rect) -> bool:
    beside, above = BESIDE * body.width, ABOVE * body.height
    top = max(TOP_SHARE * body.height, TOP_WIDTHS * body.width)
    return (
        body.x1 - beside <= face.x <= body.x2 + beside
        and body.y1 - above <= face.y <= body.y1 + top
        and face.height >= SMALLEST_FACE * body.height
        and face.height <= LARGEST_FACE * body.height
        and face.width <= LARGEST_FACE * body.width
    )


def sightings(faces: Sequence[Face], bodies: Sequence[Body]) -> list[Sighting]:
    """Returns one sighting a person: faces with the bodies they belong to, the rest alone.

    A body explains every face in its upper part, but belongs to the one nearest to where its head
    is expected; the others may be of people before or behind it.
    """
    pairs = sorted(
        (of_face(face.box).distance(of_body(body.box)), i, j)
        for i, face in enumerate(faces)
        for j, body in enumerate(bodies)
        if _belongs(face.box, body.box)
    )
    body_of: dict[int, int] = {}
    taken: set[int] = set()
    explained: set[int] = set()
    for _, i, j in pairs:
        explained.add(j)
        if i not in body_of and j not in taken:
            body_of[i] = j
            taken.add(j)
    found = []
    for i, face in enumerate(faces):
        owner = bodies[body_of[i]] if i in body_of else None
        found.append(
            Sighting(
                of_face(face.box, face.roll),
                face=face.score,
                body=owner.score if owner else 0.0,
                box=owner.box if owner else None,
                face_box=face.box,
            )
        )
    found += [
        Sighting(of_body(body.box), body=body.score, box=body.box)
        for j, body in enumerate(bodies)
        if j not in explained
    ]
    return found


# --- association ---

GATE: Final = 1.2
"""Head sizes between prediction and sighting, at most."""
TURNED_GATE: Final = 0.5
"""The same where the face is turned otherwise than the track."""
FIRST_GATE: Final = 3.0
FIRST_GATE_FRAMES: Final = 2
"""The same after a track's first sighting, when its velocity is not known, so soon only."""
SIZE_RATIO: Final = 2.0
FIRST_SIZE_RATIO: Final = 1.4
SAME_BODY: Final = 0.5
"""Intersection over union from which two boxes of a body are one person's, wherever the head is."""
OTHER_KIND_COST: Final = 0.5
WEAK_TRACK_COST: Final = 0.5
FIRST_COST: Final = 2.0
STEADY: Final = 0.5
"""Share of a new velocity in the kept one."""


_NOWHERE: Final = Head(0.0, 0.0, 1.0, 1.0)


@final
@dataclass(slots=True, eq=False)
class Track:
    """One person's way through one shot.

    Attributes:
        track_id: unique in a run, from 1.
        start: first frame of the shot.
        end: first frame after the shot, None while it lasts.
        born: frame of its first sighting.
        seen: sightings by frame, in order; old ones are let go (see `prune`).
        velocity: pixels a frame, beside the camera's motion.
        best_face, best_body: the best scores of its life.
        sightings: how many there were.
        looked: looks for people in its life, and
        supported: how many of them saw its body.
        heads: share of the expected head that close looks found to be one, each look.
        faces: scores of closer looks at its face, and
        judged_face: the best detector's score of a face that was looked at so.
        rolls: tilt of the head in radians, by frame of a closer look.
        bodies: sightings with a body, and
        cuts: those whose body the picture's upper edge cuts.
        detail: width in pixels of the largest head that was looked at closely.
        turn: of the last sighting that tells it; see `Sighting`.
        misled: whether its weak faces lie where no head is: they do not say where the head is.
    """

    track_id: int
    start: int
    end: int | None = None
    born: int = -1
    seen: dict[int, Sighting] = field(default_factory=dict[int, Sighting])
    velocity: tuple[float, float] = (0.0, 0.0)
    best_face: float = 0.0
    best_body: float = 0.0
    sightings: int = 0
    looked: int = 0
    supported: int = 0
    heads: list[float] = field(default_factory=list[float])
    faces: list[float] = field(default_factory=list[float])
    judged_face: float = 0.0
    rolls: dict[int, float] = field(default_factory=dict[int, float])
    bodies: int = 0
    cuts: int = 0
    detail: float = 0.0
    turn: int = 0
    misled: bool = False
    _frames: list[int] = field(default_factory=list[int])
    _predicted: Head = _NOWHERE
    _predicted_at: Head = _NOWHERE
    _body: tuple[Rect, Head] | None = None
    _places: dict[int, tuple[Rect, float]] = field(default_factory=dict[int, tuple[Rect, float]])
    _told: bool = False
    _guessed: bool = False
    """Whether where its head was last was guessed from its body alone."""
    _way: dict[int, tuple[Head, Head]] = field(default_factory=dict[int, tuple[Head, Head]])

    @property
    def first(self) -> int:
        """Its first frame that is held."""
        return self._frames[0]

    @property
    def last(self) -> int:
        """Its last frame."""
        return self._frames[-1]

    @property
    def frames(self) -> Sequence[int]:
        """Frames with a sighting, ascending."""
        return self._frames

    @property
    def best(self) -> float:
        """The best score of its life."""
        return max(self.best_face, self.best_body)

    @property
    def cut_above(self) -> bool:
        """Whether the picture's upper edge cuts the body, mostly."""
        return 2 * self.cuts > self.bodies

    @property
    def placed(self) -> bool:
        """Whether a face or its parts told where in the body the head is; true without a body."""
        return self._told or self.best_face >= self.best_body

    def prune(self, frame: int) -> None:
        """Lets go of sightings before `frame`, but for the last of them."""
        keep = max(0, bisect_left(self._frames, frame) - 1)
        for old in self._frames[:keep]:
            del self.seen[old]
        del self._frames[:keep]
        for old in sorted(self.rolls)[:-1]:
            if old < frame:
                del self.rolls[old]
        old_places = sorted(self._places)[:-1]
        for old in old_places:
            if old < frame:
                del self._places[old]

    @property
    def predicted(self) -> Head:
        """Where its head is expected in the frame at hand."""
        return self._predicted

    @property
    def predicted_body(self) -> Rect | None:
        """Where its body is expected, as it was seen last: it goes with the head."""
        if self._body is None:
            return None
        box, head = self._body
        return box.moved(self._predicted.x - head.x, self._predicted.y - head.y)

    def add(self, frame: int, sighting: Sighting) -> None:
        """Adds what was seen of it in `frame`, later than all before."""
        turned_over = sighting.turn != 0 and self.turn != sighting.turn
        if turned_over and self.best_face < UPRIGHT_FACE:
            self._places.clear()  # where an upright body has its head says nothing any more
        if self._shows_head(sighting):
            self.place(frame, sighting.head, sighting.box)
        elif sighting.turn:
            self.place(frame, sighting.head, sighting.box, told=False)
        if sighting.turn or sighting.face >= UPRIGHT_FACE:
            self.turn = sighting.turn
        if sighting.turn:
            self.rolls[frame] = sighting.head.roll
        head = self._placed(frame, sighting)
        guessed, self._guessed = self._guessed, not self._shows_head(sighting) and not self._places
        if turned_over:
            self.velocity = (0.0, 0.0)
        elif self._frames and guessed == self._guessed:  # from a guess to a sight is no movement
            gap = frame - self.last
            before = self._predicted_at
            fresh = (head.x - before.x) / gap, (head.y - before.y) / gap
            keep = STEADY if len(self._frames) > 1 else 1.0
            self.velocity = (
                keep * fresh[0] + (1 - keep) * self.velocity[0],
                keep * fresh[1] + (1 - keep) * self.velocity[1],
            )
        if not self._frames:
            self.born = frame
        if sighting.box is not None:
            self.cuts += sighting.box.y1 <= CUT_SHARE * sighting.box.height
            self.bodies += 1
        self.seen[frame] = sighting
        self._frames.append(frame)
        self._way.clear()
        self.sightings += 1
        self.best_face = max(self.best_face, 1.0 if sighting.sure else sighting.face)
        self.best_body = max(self.best_body, sighting.body)
        self._predicted = self._predicted_at = head
        if sighting.box is not None:
            self._body = sighting.box, head

    def add_late(
        self, frame: int, sighting: Sighting, cameras: Mapping[int, NDArray[np.float32] | None]
    ) -> None:
        """Adds what a look at an earlier frame saw, whose answer came late.

        Args:
            frame: where it was seen; replaces what is known there.
            sighting: all that is known of that frame now.
            cameras: the camera's motion at each frame after that one, to the frame at hand.
        """
        if frame > self.last:
            self._predicted, self._predicted_at = self._way.get(
                frame, (self._predicted, self._predicted_at)
            )
            self.add(frame, sighting)
            for number in sorted(cameras):
                self.predict(number, cameras[number])
            return
        known = self.seen.get(frame)
        if self._shows_head(sighting):
            self.place(frame, sighting.head, sighting.box)
        elif sighting.turn:
            self.place(frame, sighting.head, sighting.box, told=False)
        if sighting.turn:
            self.turn = sighting.turn
            self.rolls[frame] = sighting.head.roll
        if sighting.box is not None and (known is None or known.box is None):
            self.cuts += sighting.box.y1 <= CUT_SHARE * sighting.box.height
            self.bodies += 1
        if known is None:
            self._frames.insert(bisect_left(self._frames, frame), frame)
            self.sightings += 1
            self.born = min(self.born, frame)
        self.seen[frame] = sighting
        self.seen = {number: self.seen[number] for number in self._frames}
        self.best_face = max(self.best_face, 1.0 if sighting.sure else sighting.face)
        self.best_body = max(self.best_body, sighting.body)
        newest = max((f for f in self._frames if self.seen[f].box is not None), default=-1)
        if newest == frame and sighting.box is not None:
            self._body = sighting.box, self._placed(frame, sighting)

    def expected(self, frame: int) -> Head:
        """Returns where its head is, or was expected, in a frame up to the one at hand."""
        if frame > self.last:
            return self._way.get(frame, (self._predicted, self._predicted_at))[0]
        if frame < self.first:
            vx, vy = self.speed(at_end=False)
            steps = frame - self.first
            return self.head_at(self.first).moved(vx * steps, vy * steps)
        return self.head_at(frame)

    def place(self, frame: int, head: Head, box: Rect | None, *, told: bool = True) -> None:
        """Notes where in its body the head was seen: other frames may show the body alone.

        `told`: by a face or by parts, not by how the body is turned alone.
        """
        if box is not None and box.area > 0:
            place = Rect(
                (head.x - box.x1) / box.width,
                (head.y - box.y1) / box.height,
                head.width / box.width,
                head.height / box.height,
            )
            self._places[frame] = place, head.roll
            self._told = self._told or told

    def mislead(self) -> None:
        """Notes that its weak faces are none: what they alone said of it is forgotten.

        Bodies that were seen together with them stay.
        """
        self.misled = True
        self._told = False
        kept = [f for f in self._frames if self.seen[f].box is not None or self.seen[f].sure]
        if kept:
            self.seen = {f: self.seen[f] for f in kept}
            self._frames = kept
        for frame in [f for f in self._places if f in self.seen]:
            if not self._shows_head(self.seen[frame]):
                del self._places[frame]

    def _shows_head(self, sighting: Sighting) -> bool:
        """Says whether a sighting shows where the head is."""
        weak = self.misled and sighting.face < SHOWN_FACE
        return sighting.sure or (sighting.face > 0 and not weak)

    def _placed(self, frame: int, sighting: Sighting) -> Head:
        """Returns the head of a sighting: seen, or where it was in the body when it was seen."""
        box = sighting.box
        if self._shows_head(sighting) or box is None:
            return sighting.head
        if not self._places:
            return of_body(box, self.turn) if sighting.face > 0 else sighting.head
        near = min(self._places, key=lambda other: (abs(other - frame), other))
        place, roll = self._places[near]
        return Head(
            box.x1 + place.x1 * box.width,
            box.y1 + place.y1 * box.height,
            place.x2 * box.width,
            place.y2 * box.height,
            roll,
        )

    def predict(self, frame: int, camera: NDArray[np.float32] | None) -> None:
        """Moves the expected head on to `frame`, the next one that there is."""
        steps = frame - next(reversed(self._way), self.last)
        # Where it was seen moves with the camera, too: the velocity is the person's own.
        self._predicted_at = self._predicted_at.carried(camera)
        self._predicted = self.predicted.carried(camera).moved(
            steps * self.velocity[0], steps * self.velocity[1]
        )
        self._way[frame] = self._predicted, self._predicted_at

    def head_at(self, frame: int) -> Head:
        """Returns where the head is, from the sightings around; at an end of its life beyond it.

        A body alone says less about the head than faces shortly before and after do.
        """
        before, after = self._around(frame)
        if before == after == frame and self.seen[frame].face == 0 and not self.seen[frame].sure:
            earlier, later = self._faces_around(frame)
            if earlier is not None and later is not None and later - earlier <= FACES_APART:
                before, after = earlier, later
        first = self._placed(before, self.seen[before])
        if before == after:
            return first
        share = (frame - before) / (after - before)
        return first.toward(self._placed(after, self.seen[after]), share)

    def _around(self, frame: int) -> tuple[int, int]:
        """Returns the frames of the sightings at or around `frame`; its ends outside its life."""
        index = bisect_left(self._frames, frame)
        if index == len(self._frames):
            return self.last, self.last
        if self._frames[index] == frame or index == 0:
            return self._frames[index], self._frames[index]
        return self._frames[index - 1], self._frames[index]

    def _faces_around(self, frame: int) -> tuple[int | None, int | None]:
        index = bisect_left(self._frames, frame)
        before = (f for f in reversed(self._frames[max(0, index - FACES_APART) : index]))
        after = iter(self._frames[index + 1 : index + 1 + FACES_APART])
        return (
            next((f for f in before if self.seen[f].face > 0), None),
            next((f for f in after if self.seen[f].face > 0), None),
        )

    def box_at(self, frame: int) -> Rect | None:
        """Returns where the body is, from the looks that saw it; None where none ever did."""
        with_box = [f for f in self._frames if self.seen[f].box is not None]
        if not with_box:
            return None
        index = bisect_left(with_box, frame)
        before = with_box[max(0, index - 1)]
        after = with_box[min(index, len(with_box) - 1)]
        if after == frame:
            before = after
        first, second = self.seen[before].box, self.seen[after].box
        assert first is not None and second is not None  # they were chosen for it  # noqa: PT018
        if before < frame < after:
            return first.toward(second, (frame - before) / (after - before))
        near, box = (before, first) if abs(before - frame) < abs(after - frame) else (after, second)
        then, now = self.head_at(near), self.head_at(frame)
        return box.moved(now.x - then.x, now.y - then.y)

    def face_box_at(self, frame: int, reach: int) -> Rect | None:
        """Returns the face at `frame`, interpolated; None where none was seen within `reach`."""
        near = [f for f in self._frames if abs(f - frame) <= reach and self.seen[f].face_box]
        if not near:
            return None
        before = max((f for f in near if f <= frame), default=near[0])
        after = min((f for f in near if f >= frame), default=near[-1])
        first, second = self.seen[before].face_box, self.seen[after].face_box
        assert first is not None and second is not None  # they were chosen for it  # noqa: PT018
        if before < frame < after:
            return first.toward(second, (frame - before) / (after - before))
        near_frame, box = (before, first) if before <= frame else (after, second)
        then, now = self.head_at(near_frame), self.head_at(frame)
        return box.moved(now.x - then.x, now.y - then.y)

    def roll_at(self, frame: int) -> float:
        """Returns the tilt of the head in radians, of the nearest closer look."""
        near = min(self.rolls, key=lambda other: (abs(other - frame), other), default=None)
        return 0.0 if near is None else self.rolls[near]

    def gap(self, frame: int) -> int:
        """Returns how many frames the nearest sighting is away from `frame`."""
        before, after = self._around(frame)
        return min(abs(frame - before), abs(after - frame))

    def speed(self, *, at_end: bool) -> tuple[float, float]:
        """Returns pixels a frame over its first or last sightings."""
        frames = self._frames[-SPEED_SIGHTINGS:] if at_end else self._frames[:SPEED_SIGHTINGS]
        a, b = self.head_at(frames[0]), self.head_at(frames[-1])
        gap = max(1, frames[-1] - frames[0])
        return (b.x - a.x) / gap, (b.y - a.y) / gap


def _same(known: Sighting, seen: Sequence[Sighting], rest: Sequence[int]) -> int | None:
    """Returns which of `seen` is of the person of a sighting of the same frame; None: none is."""
    for index in rest:
        if known.face_box is not None and seen[index].face_box == known.face_box:
            return index
    best: tuple[float, int] | None = None
    for index in rest:
        one = seen[index]
        same_body = (
            known.box is not None and one.box is not None and known.box.iou(one.box) > SAME_BODY
        )
        apart = known.head.distance(one.head)
        if (same_body or apart < SAME_HEAD) and (best is None or apart < best[0]):
            best = apart, index
    return None if best is None else best[1]


def _merged(known: Sighting, late: Sighting) -> Sighting:
    """Returns what two looks at one frame say together of somebody."""
    base = known if known.face > late.face and not late.turn else late
    box = late.box or known.box
    return replace(base, body=max(known.body, late.body), box=box, sure=known.sure or late.sure)


SAME_HEAD: Final = 0.7
"""Head sizes between what two looks at one frame take for one head."""
SHOWN_FACE: Final = 0.45
"""Score of a face from which it shows where the head is, whatever the parts say there."""
UPRIGHT_FACE: Final = 0.5
"""Score of an upright face from which somebody who was turned is upright: weaker ones are seen on
people who lie, too."""
CUT_SHARE: Final = 0.06
"""A body whose box begins so near the upper edge, in its own heights, is cut by it."""
FACES_APART: Final = 10
"""Frames between two faces, at most, for the head to be taken from them where a body was seen."""
SPEED_SIGHTINGS: Final = 3


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
            mine = None if known is None else _same(known, seen, rest)
            if known is not None and mine is not None:
                rest.remove(mine)
                track.add_late(frame, _merged(known, seen[mine]), cameras)
        free = [track for track in self.live if frame not in track.seen]
        pairs = []
        for number, track in enumerate(free):
            near = min(track.frames, key=lambda other: (abs(other - frame), other))
            weak = WEAK_TRACK_COST * (track.best < self._strong)
            expected, gap = track.expected(frame), abs(frame - near)
            for index in rest:
                cost = self._cost(track, track.seen[near], expected, gap, seen[index])
                if cost is not None:
                    pairs.append((cost + weak, number, index))
        pairs.sort()
        taken: set[int] = set()
        for _, number, index in pairs:
            if number not in taken and index in rest:
                taken.add(number)
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
                cost = self._cost(track, before, expected, gap, sighting)
                if cost is not None:
                    pairs.append((cost + weak, number, index))
        pairs.sort()
        joined: dict[int, Track] = {}
        taken: set[int] = set()
        for _, number, index in pairs:
            if number not in taken and index not in joined:
                taken.add(number)
                joined[index] = self.live[number]
        return joined

    @staticmethod
    def _cost(
        track: Track, before: Sighting, expected: Head, gap: int, sighting: Sighting
    ) -> float | None:
        """Returns what joining costs, None where it is out of the question."""
        apart = expected.distance(sighting.head)
        body = track.predicted_body
        if body is not None:  # `expected` may be of an earlier frame
            now = track.predicted
            body = body.moved(expected.x - now.x, expected.y - now.y)
        same_body = (
            body is not None and sighting.box is not None and body.iou(sighting.box) > SAME_BODY
        )
        if track.misled and 0 < sighting.face < SHOWN_FACE:
            return 0.0 if same_body else None  # the body is its own, the face is none
        if track.turn != sighting.turn and sighting.face > 0 and apart > TURNED_GATE:
            return None  # in a body that hangs, what passes for an upright face is none
        ratio = sighting.head.size / max(1.0, expected.size)
        other = OTHER_KIND_COST * ((sighting.face > 0) != (before.face > 0))
        if apart < GATE and 1 / SIZE_RATIO < ratio < SIZE_RATIO:
            return apart + other
        same_face = (
            sighting.face_box is not None
            and before.box is not None
            and before.face == 0
            and gap <= FIRST_GATE_FRAMES
            and _belongs(sighting.face_box, before.box)
        )
        # Not every look that saw the face looked for the body.
        if same_face or same_body:
            return min(apart, GATE) + other
        if (
            len(track.frames) == 1
            and gap <= FIRST_GATE_FRAMES
            and apart < FIRST_GATE
            and 1 / FIRST_SIZE_RATIO < ratio < FIRST_SIZE_RATIO
        ):
            return apart + FIRST_COST
        return None

    def forget_before(self, frame: int) -> None:
        """Lets go of the tracks that ended before `frame`, and of what others did before it."""
        self.ended = [track for track in self.ended if track.last >= frame]
        for track in self.live:
            track.prune(frame)

    @property
    def tracks(self) -> list[Track]:
        """Every track that is held, by number."""
        return sorted((*self.ended, *self.live), key=lambda track: track.track_id)
