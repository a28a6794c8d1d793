"""One person's way through a shot, in both directions of time.

A track is what looks saw of a person in single frames (`Sighting`), and where they must have been
between. It is pure: no thread, no clock, no picture; tests feed it tables of boxes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from .heads import Head, Rect, of_body
from .sightings import Sighting

__all__ = ["SHOWN_FACE", "UPRIGHT_FACE", "Track"]

SHOWN_FACE: Final = 0.45
"""Score of a face from which it shows where the head is, whatever the parts say there. As
`judge.STRONG`: what is somebody by its face alone."""
UPRIGHT_FACE: Final = 0.5
"""Score of an upright face from which somebody who was turned is upright: weaker ones are seen on
people who lie, too. Chosen on the scenes `lying` and `hanging` (`scripts.bench.leak`)."""
CUT_SHARE: Final = 0.06
"""A body whose box begins so near the upper edge, in its own heights, is cut by it. Chosen: a
detector's box ends about so exactly."""
FACES_APART: Final = 10
"""Frames between two faces, at most, for the head to be taken from them where a body was seen.
Chosen: a little more than lie between two looks for people (`file.people_every`, 8)."""
SPEED_SIGHTINGS: Final = 3
"""Sightings from which the speed at an end is taken: two are too few, where boxes shake. Source:
research notes, "every frame"."""
STEADY: Final = 0.5
"""Share of a new velocity in the kept one. Chosen: two sightings count alike, so one box that is
off moves nobody far."""

_NOWHERE: Final = Head(0.0, 0.0, 1.0, 1.0)
"""Stands for a place where there is none yet; the numbers mean nothing."""


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
