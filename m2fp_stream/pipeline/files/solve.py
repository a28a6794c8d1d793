"""From what looks saw to what is covered, frame by frame: pure, without threads, clocks or pixels.

The solver is fed every frame in order (`feed`), says which looks it wants (`wants_people`,
`part_orders`), takes what close looks found (`take_parts`), and gives the cover of a frame
(`cover`) once enough later frames are known. What it answers depends on what it was fed alone.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, unique
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.labels import Label
from ...tracking.heads import Head, Rect, of_body
from ...tracking.motion import Motion
from ...tracking.people import Body, Face, Sighting, Track, Tracker, sightings
from ...tracking.shape import (
    PartLook,
    Shape,
    anchor_of_body,
    anchor_of_head,
    body_thresholds,
    filled,
    head_seed,
    head_thresholds,
    lay_box,
    lay_ellipse,
    put_on,
)

__all__ = ["Cover", "FineLook", "Frame", "Hidden", "PartOrder", "Reach", "Solver"]

U8 = NDArray[np.uint8]

# --- who is somebody ---

STRONG: Final = 0.45
STRONG_BODY: Final = 0.60
AGREEING: Final = 0.40
LIKELY: Final = 0.28
WEAK: Final = 0.18
WEAK_HITS: Final = 4
SURE_FACE: Final = 0.85
DENIED_FACE: Final = 0.25
SUPPORTED: Final = 0.25
"""Share of the looks for people that must have seen a body for its score to count."""
RECENT_LOOKS: Final = 12
"""Looks at parts that are weighed, the last ones: who was hidden for long may come into sight."""
HEAD_SEEN: Final = 0.30
HEAD_ABSENT: Final = 0.10
"""A track is covered when what detectors and close looks saw of it agree. The share of the expected
head that the part network takes for one (median of all looks) tells hands, prints and
furniture, whose share is 0 as a rule, from people, even weakly detected ones."""
CLOSER_LOOKS: Final = 2
CLOSER_EVERY: Final = 3
"""A face is judged by so many closer looks, so many frames apart at least."""
BETTER_FACE: Final = 0.1
"""Detector's score of a face above the best that was judged from which it is judged at once."""
FACE_CONFIRMED: Final = 0.30
FACE_DENIED: Final = 0.12
"""Score of a closer look from which a weakly seen face is one, and below which it is none
(docs/parsers.md: at .2, .08 false faces a picture without people are left, of .46)."""
TILTED_FACE: Final = 0.5
"""Score of a closer look from which its tilt is believed."""
BLURRED: Final = 0.3
"""Head sizes a frame from which somebody is too fast, and so too blurred, for parts to tell."""
TELLING_HEAD_PX: Final = 28.0
"""Width of a head from which not finding its parts says something."""
SEARCHED_BODY: Final = 0.50
"""Score of a body without a head in its place from which the head is searched for in all of it."""
SEARCH_EVERY: Final = 12
LYING: Final = 0.7
"""Width over height of a body from which it is not upright."""
LEAST_HEAD: Final = 0.15
"""Area of what the parts take for a head, over the expected box, from which it is one."""
LEAST_PERSON: Final = 0.30
"""Share of its box that must be a person, by the parts, for a body without any head to be covered
whole: lying, bent, or seen from above."""

# --- time ---

MAX_GAP_S: Final = 0.6
"""A person unseen for longer is a new track; both are extended towards each other."""
EXTEND_S: Final = 0.35
"""A track goes on so long beyond its ends where no look contradicts it."""
SUPPORT: Final = 0.5
"""Share of the looks for people that saw the body of a track, from which one that does not see it
says that it is gone."""
FAR_EVERY_S: Final = 2.0
"""Seconds between looks for people who are small in the picture: they move slowly in it."""
BESIDE_FRAMES: Final = 2
"""So far from a track's end it is asked whether it was there unseen."""
MOVING_REACH: Final = 0.6
"""So many head sizes around a head beyond its track's end, what moves is covered with it."""
MOVING: Final = 0.25
"""Share of a head in unexplained motion from which an empty look is not believed."""
EDGE_HEADS: Final = 1.6
"""A body whose head is so many head widths from the edge may be cut by it."""
FAR_SHARE: Final = 0.16
"""Of the picture's long side: smaller bodies are found reliably by far looks alone (100 pixels in a
look of 640, at which the network's recall begins to fall)."""
NEAR_SHARE: Final = 0.16
"""Of the picture's long side: larger bodies are found by near looks (61 pixels of 384; recall is
.94 from 50 upwards, docs/parsers.md)."""
FACES_IN_BODY: Final = 6.0
"""Faces that a standing body is high, at least: it tells how large a body to look for."""
ANSWERS: Final = 2
ANSWERED_FRAMES: Final = 6
ANSWERED_SHARE: Final = 0.7
"""What moves is looked at twice; then at every second frame, while it moves on at that place: until
it has not been seen there for so many frames. The same place is one that holds so much of it."""
AGAIN_FRAMES: Final = 6
"""So soon after its start, a shot in which somebody small may be is looked at in this way again."""
STILL_EVERY: Final = 12
"""Frames between looks for people while nothing at all moves: they would see the same."""
BODIES_EVERY: Final = 3
"""The same while somebody is followed by the body alone."""

# --- shape ---

SMALLEST_HEAD_PX: Final = 12.0
"""Width of a head below which its parts cannot be told: it keeps its ellipse."""
GROWTH_PER_GAP: Final = 0.03
"""A head is covered so much larger for each frame that it is away from a sighting."""
WIDER: Final = 1.12
"""The ellipse of a head whose parts nobody looked at."""
TRUSTED_HEAD: Final = 0.5
TRUSTED_SCALE: Final = 0.85
"""Where the parts fill so much of a head, the ellipse is drawn so much smaller: they say it."""
UNPLACED: Final = 1.8
"""The same of a head that neither a face nor its parts placed: a body alone says it roughly."""
SEARCH_SCALE: Final = 1.4
"""So many head sizes around its expected place a body's head is looked for in its parts."""
SEED_SHARE: Final = 0.85
HEAD_CROP: Final = (1.6, 1.25, 3.1)
"""Reach of the crop for a head's parts: head widths to each side, heights up and down."""
BODY_HEAD_CROP: Final = (3.0, 1.5, 5.5)
"""The same where the body alone was seen: hair from behind is told by what is around it."""
BODY_CROP: Final = 0.12
BODY_OF_HEAD: Final = (1.6, 5.5)
"""A body that no look saw: so many head widths to each side, so many heights down."""
SHAPES_APART: Final = 24
"""Frames from a look at parts beyond which its shape is no longer used."""


@final
@dataclass(frozen=True, slots=True)
class Hidden:
    """What the policy hides, as the solver needs it.

    Attributes:
        labels: hidden labels, those of the part network.
        part_labels: the label of each plane of a look at parts.
        head_parts: planes that are parts of a head, whatever is hidden.
        threshold: 0..255, sum of the hidden planes from which a pixel is hidden.
        margin: of a head's or limb's size, added around.
    """

    labels: frozenset[Label]
    part_labels: tuple[Label, ...]
    head_parts: tuple[int, ...]
    threshold: int
    margin: float

    @property
    def head(self) -> bool:
        """Whether whole heads are hidden, from any side."""
        return Label.HAIR in self.labels and Label.FACE in self.labels

    @property
    def face(self) -> bool:
        """Whether faces are hidden."""
        return Label.FACE in self.labels

    @property
    def person(self) -> bool:
        """Whether people are hidden whole."""
        return Label.HUMAN in self.labels

    @property
    def body(self) -> bool:
        """Whether anything below the head is hidden."""
        return bool(self.labels - HEAD_LABELS)

    def label_of(self, *, head: bool) -> dict[int, int]:
        """Returns hidden planes and their labels; those of the head, or all."""
        return {
            plane: int(label)
            for plane, label in enumerate(self.part_labels)
            if label in self.labels
            and label is not Label.BACKGROUND
            and (plane in self.head_parts or not head)
        }


HEAD_LABELS: Final = frozenset({Label.HAT, Label.HAIR, Label.SUNGLASSES, Label.SCARF, Label.FACE})


@unique
class Reach(IntEnum):
    """How closely a look for people looks: a larger one sees whom a smaller one sees, too."""

    NEAR = 0
    """For people who fill a fifth of the picture or more."""
    MIDDLE = 1
    """For those who fill a sixth, besides."""
    FAR = 2
    """At the size of the frame, for people who are small in it."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class FineLook:
    """One person as a second parser saw it: a sighting that is sure, and its parts."""

    sighting: Sighting
    parts: PartLook


@final
@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What was seen in one frame.

    Attributes:
        number: running, from 0.
        motion: against the frame before.
        faces: of the look at this frame; None where it failed.
        bodies: of the look for people, None where none was made.
        reach: of that look.
        fine: what a second parser saw, where it looked.
    """

    number: int
    motion: Motion
    faces: Sequence[Face]
    bodies: Sequence[Body] | None = None
    reach: Reach = Reach.MIDDLE
    fine: Sequence[FineLook] = ()


@final
@dataclass(frozen=True, slots=True)
class PartOrder:
    """A close look that is wanted.

    Attributes:
        frame: of which the crop is to be taken.
        track_id: whom it is about.
        region: x1, y1, x2, y2 in pixels of the frame; may leave it.
        body: whether it is the whole body, not the head.
        face: whether it is a closer look at a face (`LookKind.CLOSER`); the region is its box.
    """

    frame: int
    track_id: int
    region: tuple[float, float, float, float]
    body: bool
    face: bool = False


@final
@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """What is covered in one frame, on a map of the frame.

    Attributes:
        parts: (h, w) uint8 `Label`, 0 = clear.
        tracks: (h, w) uint8, 1 to 255 tells people apart.
        age: frames to the nearest sighting of whoever was seen longest ago.
        people: how many are covered.
    """

    parts: U8
    tracks: U8
    age: int
    people: int


@dataclass(slots=True, eq=False)
class _Shapes:
    """What close looks made of one track, by frame; those of a second parser only add."""

    head: dict[int, Shape] = field(default_factory=dict[int, Shape])
    body: dict[int, Shape] = field(default_factory=dict[int, Shape])
    fine_head: dict[int, Shape] = field(default_factory=dict[int, Shape])
    fine_body: dict[int, Shape] = field(default_factory=dict[int, Shape])
    asked: int = -1_000_000
    share: float | None = None
    searched: int = -1_000_000
    judged: int = -1_000_000
    judged_score: float = 0.0


@final
class Solver:
    """Follows people through a film and says what to cover; see the module.

    Args:
        size_wh: (width, height) of the frames.
        map_wh: of the map that covers are drawn on.
        rate: frames a second, about.
        hidden: what the policy hides.
        people_every, parts_every, parts_a_frame: see `FilePipelineOptions`.
        far_every_s: seconds between looks for people who are small in the picture.
    """

    def __init__(
        self,
        *,
        size_wh: tuple[int, int],
        map_wh: tuple[int, int],
        rate: float,
        hidden: Hidden,
        people_every: int,
        parts_every: int,
        parts_a_frame: int,
        far_every_s: float = FAR_EVERY_S,
    ) -> None:
        self._size_wh = size_wh
        self._map_wh = map_wh
        self._scale = map_wh[0] / size_wh[0]
        self._hidden = hidden
        self._people_every = people_every
        self._parts_every = parts_every
        self._parts_a_frame = parts_a_frame
        self._extend = max(3, round(EXTEND_S * rate))
        self._far_every = max(4, round(far_every_s * rate))
        self._tracker = Tracker(
            max_gap=max(6, round(MAX_GAP_S * rate)),
            body_gap=max(2 * STILL_EVERY + 1, round(MAX_GAP_S * rate)),
            far_gap=2 * self._far_every + 1,
            far_px=FAR_SHARE * max(size_wh),
            strong=STRONG,
        )
        self._shapes: dict[int, _Shapes] = {}
        self._looks: dict[int, tuple[Body, ...]] = {}
        self._shot = self._shot_fed = 0
        self._frame = -1
        self._faces_before: Sequence[Face] = ()
        self._people_at = self._far_at = -1_000_000
        self._motion: dict[int, Motion] = {}
        self._reaches: dict[int, Reach] = {}
        self._small_seen = False
        self._answered: list[tuple[Rect, int, int]] = []
        self._moved_since = True
        self._seed = head_seed(SEED_SHARE)
        self._seed_area = int(np.count_nonzero(self._seed))
        self._whole: set[int] = set()
        self._thresholds = head_thresholds(hidden.threshold)
        self.looks: Counter[str] = Counter()

    # --- which looks are wanted ---

    def wants_people(self, number: int, motion: Motion, faces: Sequence[Face]) -> Reach | None:
        """Says how frame `number` must be looked at for people; asked once a frame, in order.

        It may be asked some frames ahead of `feed`.
        """
        before, self._faces_before = self._faces_before, faces
        if motion.cut:
            self._faces_before = faces
            self._moved_since = True
            self._people_at = self._far_at = self._shot = number
            return Reach.FAR
        if motion.moved.any():
            self._moved_since = True
        every = self._people_every
        if not self._moved_since:
            every = max(every, STILL_EVERY)
        elif any(track.seen[track.last].face == 0 for track in self._tracker.live):
            every = min(every, BODIES_EVERY)
        unexplained = motion.unexplained(self._known(faces))
        open_questions = self._open(number, unexplained)
        again = number - self._shot == AGAIN_FRAMES and self._small_seen
        far = again or number - self._far_at >= self._far_every
        middle = number - self._people_at >= every
        wanted = (
            far or middle or _lost(before, faces) or _lost(faces, before) or bool(open_questions)
        )
        if not wanted:
            return None
        self._people_at = number
        self._moved_since = False
        if far:
            self._far_at = number
            return Reach.FAR
        small = self._near_px()
        sizes = [max(box.width, box.height) for box in open_questions]
        sizes += [FACES_IN_BODY * f.box.height for f in (*before, *faces) if f.score >= LIKELY]
        sizes += [
            max(body.width, body.height)
            for track in self._tracker.live
            if (body := track.predicted_body) is not None and not self._tracker.is_far(track)
        ]
        near = not (middle and not sizes) and all(size >= small for size in sizes)
        return Reach.NEAR if near else Reach.MIDDLE

    def _near_px(self) -> float:
        return NEAR_SHARE * max(self._size_wh)

    def _open(self, number: int, unexplained: Sequence[Rect]) -> list[Rect]:
        """Returns what moves and was not looked at often enough lately.

        Two looks at a place on different frames answer for the frames that follow (P5).
        """
        self._answered = [
            (box, looks, at) for box, looks, at in self._answered if number - at <= ANSWERED_FRAMES
        ]
        left = []
        followed = [
            head.rect().grown(2 * head.width, 2 * head.height, 2 * head.height)
            for track in self._tracker.live
            if track.best >= LIKELY
            for head in (track.predicted,)
        ]
        for moved in unexplained:
            answers = [
                looks
                for box, looks, _ in self._answered
                if box.shared(moved) >= ANSWERED_SHARE * moved.area
            ]
            answered = max(answers, default=0) >= ANSWERS
            if answered and number % ANSWERS and not any(box.shared(moved) for box in followed):
                continue
            left.append(moved)
            x, y = 0.3 * moved.width, 0.3 * moved.height
            self._answered.append((moved.grown(x, y, y), max(answers, default=0) + 1, number))
        return left

    def _known(self, faces: Sequence[Face]) -> list[Rect]:
        """Returns boxes that may move without a look: people known and faces seen."""
        known = []
        for track in self._tracker.live:
            head, body = track.predicted, track.predicted_body
            rect = head.rect()
            known.append(rect.grown(head.width, 0.5 * head.height, 1.5 * head.height))
            if body is not None:
                x, y = 0.25 * body.width, 0.25 * body.height
                known.append(body.grown(x, y, y))
        for face in faces:
            box = face.box
            known.append(box.grown(1.5 * box.width, box.height, 3 * box.height))
        return known

    # --- what was seen ---

    def feed(self, frame: Frame) -> None:
        """Takes what was seen in the next frame."""
        self._frame = frame.number
        if frame.motion.cut:
            self._tracker.cut(frame.number)
            self._shot_fed = frame.number
        seen = sightings(frame.faces, frame.bodies or ())
        vouched = _vouched(seen, frame.fine)
        self._motion[frame.number] = frame.motion
        self.looks["faces"] += 1
        if frame.bodies is not None:
            self._take_people(frame.number, frame.bodies, frame.reach)
        self._tracker.step(
            frame.number,
            seen,
            looked_for_people=frame.bodies is not None,
            camera=frame.motion.camera,
        )
        for sighting, fine in vouched:
            self._take_fine(frame.number, sighting, fine)

    def _take_fine(self, number: int, sighting: Sighting, fine: FineLook) -> None:
        """Adds what a second parser saw of somebody to the shapes of the track."""
        for track in self._tracker.live:
            if track.last == number and track.seen[number] is sighting:
                self._shapes.setdefault(track.track_id, _Shapes())
                region = (0.0, 0.0, 0.0, 0.0)
                order = PartOrder(number, track.track_id, region, body=False)
                self.take_parts(order, fine.parts, fine=True)
                if self._hidden.body:
                    order = PartOrder(number, track.track_id, region, body=True)
                    self.take_parts(order, fine.parts, fine=True)

    def _take_people(self, number: int, bodies: Sequence[Body], reach: Reach) -> None:
        self._looks[number] = tuple(bodies)
        self._reaches[number] = reach
        small = FAR_SHARE * max(self._size_wh)
        if number == self._shot_fed:
            self._small_seen = any(max(b.box.width, b.box.height) < small for b in bodies)
        self.looks["people"] += 1

    def past_orders(self) -> list[int]:
        """Returns frames, fed before, at which people must be looked for after all.

        Where somebody appears or is lost in the middle of the picture, a look shortly before or
        after says whether he was there unseen.
        """
        orders = []
        for track in self._tracker.live:
            if not self._may_be_somebody(track):
                continue
            if track.sightings == 2 and track.last == self._frame:
                orders.append(track.born - BESIDE_FRAMES)
            if self._frame - track.last == BESIDE_FRAMES and track.seen[track.last].face > 0:
                orders.append(self._frame)
        return [
            number
            for number in sorted(set(orders))
            if number >= max(0, self._shot_fed)
            and not any(k in self._looks for k in range(number - 1, number + 2))
        ]

    def take_past(self, number: int, bodies: Sequence[Body]) -> None:
        """Takes what a look of `past_orders` found."""
        self._take_people(number, bodies, Reach.MIDDLE)

    def part_orders(self) -> list[PartOrder]:
        """Returns the close looks that are wanted at the frame fed last."""
        waiting = []
        for track in self._tracker.live:
            if track.last != self._frame or not self._may_be_somebody(track):
                continue
            shapes = self._shapes.setdefault(track.track_id, _Shapes())
            head = track.head_at(self._frame)
            changing = self._at_edge(head) and self._frame - track.born < 2 * self._parts_every
            every = 2 if changing else self._parts_every
            if self._frame - shapes.asked < every or head.width < SMALLEST_HEAD_PX:
                continue
            waiting.append((shapes.asked, track.track_id, track, shapes))
        waiting.sort(key=lambda one: one[:2])
        orders = self._face_orders()
        for *_, track, shapes in waiting[: self._parts_a_frame]:
            shapes.asked = self._frame
            orders += self._orders(track)
        for order in orders:
            self.looks["closer" if order.face else "parts"] += 1
        return orders

    def _face_orders(self) -> list[PartOrder]:
        """Returns closer looks at faces: two for a track, later ones now and then for the tilt.

        A face that is seen much better than any that was judged is judged at once: what closer
        looks said of a blur must not hold against the face that comes out of it.
        """
        orders = []
        for track in self._tracker.live:
            if track.last != self._frame:
                continue
            seen = track.seen[self._frame]
            box = seen.face_box
            shapes = self._shapes.setdefault(track.track_id, _Shapes())
            every = CLOSER_EVERY if len(track.faces) < CLOSER_LOOKS else self._parts_every * 4
            if seen.face > shapes.judged_score + BETTER_FACE:
                every = 1
            if box is None or self._frame - shapes.judged < every:
                continue
            shapes.judged = self._frame
            shapes.judged_score = max(shapes.judged_score, seen.face)
            region = box.x1, box.y1, box.x2, box.y2
            orders.append(PartOrder(self._frame, track.track_id, region, body=False, face=True))
            if len(orders) == self._parts_a_frame:
                break
        return orders

    def take_face(self, order: PartOrder, score: float, roll: float) -> None:
        """Takes what a closer look at a face found: its score (0..1) and tilt (radians)."""
        for track in self._tracker.tracks:
            if track.track_id == order.track_id:
                track.faces.append(score)
                if score >= TILTED_FACE:
                    track.rolls[order.frame] = roll

    def _orders(self, track: Track) -> list[PartOrder]:
        head = track.head_at(self._frame)
        beside, up, down = HEAD_CROP if track.seen[self._frame].face > 0 else BODY_HEAD_CROP
        around = (
            head.x - beside * head.width,
            head.y - up * head.height,
            head.x + beside * head.width,
            head.y + down * head.height,
        )
        orders = [PartOrder(self._frame, track.track_id, around, body=False)]
        if self._hidden.body or self._must_search(track):
            box = self._body(track, self._frame)
            x, y = BODY_CROP * box.width, BODY_CROP * box.height
            box = self._inside(box.grown(x, y, y))
            region = box.x1, box.y1, box.x2, box.y2
            orders.append(PartOrder(self._frame, track.track_id, region, body=True))
        return orders

    def _must_search(self, track: Track) -> bool:
        """Says whether a body shows no head where one is expected."""
        shapes = self._shapes[track.track_id]
        if (
            track.best_body < SEARCHED_BODY
            or track.best_face >= LIKELY
            or not track.heads
            or float(np.median(track.heads)) >= HEAD_ABSENT
            or self._frame - shapes.searched < SEARCH_EVERY
        ):
            return False
        shapes.searched = self._frame
        return True

    def _inside(self, box: Rect) -> Rect:
        width, height = self._size_wh
        return Rect(
            max(0.0, min(box.x1, width - 1)),
            max(0.0, min(box.y1, height - 1)),
            min(float(width), max(box.x2, 1.0)),
            min(float(height), max(box.y2, 1.0)),
        )

    def _body(self, track: Track, frame: int) -> Rect:
        """Returns the body at `frame`, seen or drawn from the head."""
        box = track.box_at(frame)
        head = self._head(track, frame)
        rect = head.rect()
        if box is None:
            beside, down = BODY_OF_HEAD
            return Rect(
                head.x - beside * head.width,
                rect.y1,
                head.x + beside * head.width,
                head.y + down * head.height,
            )
        return Rect(
            min(box.x1, rect.x1), min(box.y1, rect.y1), max(box.x2, rect.x2), max(box.y2, rect.y2)
        )

    def take_parts(self, order: PartOrder, look: PartLook, *, fine: bool = False) -> None:
        """Takes what a close look found; in the order of `part_orders`.

        `fine`: a second parser's, which only adds: it says nothing about whether this is somebody.
        """
        track = next((t for t in self._tracker.tracks if t.track_id == order.track_id), None)
        if track is None or order.frame not in track.seen:
            return
        shapes = self._shapes[order.track_id]
        margin = self._hidden.margin
        if order.body:
            box = self._body(track, order.frame)
            if shapes.searched == order.frame and not fine:
                self._search(track, order.frame, look, box)
            if not self._hidden.body:
                return
            anchor = anchor_of_body(box)
            (shapes.fine_body if fine else shapes.body)[order.frame] = Shape.of(
                look,
                anchor,
                label_of=self._hidden.label_of(head=False),
                threshold=body_thresholds(look, anchor, self._hidden.threshold),
                seed=None,
                margin_cells=round(margin * 96 / 1.5 / 6),
            )
            return
        head = track.head_at(order.frame)
        sighting = track.seen[order.frame]
        if sighting.face == 0:
            found = self._find_head(look, head)
            if found is not None:
                track.place(order.frame, found, sighting.box)
                head = track.head_at(order.frame)
        anchor = anchor_of_head(head)
        planes = look.on(anchor, self._hidden.head_parts)
        total = planes.sum(axis=0, dtype=np.uint16) > 127
        if not fine and math.hypot(*track.velocity) <= BLURRED * head.size:
            share = np.count_nonzero(total[self._seed > 0]) / self._seed_area
            track.heads.append(float(share))
            track.detail = max(track.detail, head.width)
            shapes.share = float(np.median(track.heads[-5:])) if track.heads else None
        label_of = self._hidden.label_of(head=True)
        if label_of:
            (shapes.fine_head if fine else shapes.head)[order.frame] = Shape.of(
                look,
                anchor,
                label_of=label_of,
                threshold=self._thresholds,
                seed=self._seed,
                margin_cells=max(1, round(margin * 32 * 0.9)),
            )

    def _search(self, track: Track, frame: int, look: PartLook, box: Rect) -> None:
        """Looks for a head anywhere in a body; one that has none may have to be covered whole."""
        anchor = anchor_of_body(box)
        planes = look.on(anchor, range(len(self._hidden.part_labels)))
        heads = planes[list(self._hidden.head_parts)].sum(axis=0, dtype=np.uint16) > 127
        count, _, stats, _ = cv2.connectedComponentsWithStats(heads.astype(np.uint8))
        if count > 1:
            piece = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
            x, y, w, h, area = (float(v) for v in stats[piece])
            cell_w, cell_h = float(anchor.matrix[0, 0]), float(anchor.matrix[1, 1])
            head = of_body(box)
            if area * cell_w * cell_h >= LEAST_HEAD * head.width * head.height:
                centre = anchor.matrix[:, :2] @ (x + w / 2 - 0.5, y + h / 2 - 0.5)
                centre = centre + anchor.matrix[:, 2] + 0.5
                place = Head(float(centre[0]), float(centre[1]), w * cell_w * 1.2, h * cell_h * 1.2)
                track.place(frame, place, track.seen[frame].box)
                self._whole.discard(track.track_id)
                return
        person = float((255 - planes[0].astype(np.float32)).mean()) / 255 * 1.5 * 1.3
        width = self._size_wh[0]
        cut = box.y1 <= 1 or box.x1 <= 1 or box.x2 >= width - 1
        torso = planes[1:].max() > 127
        lies = box.width > LYING * box.height
        if person >= LEAST_PERSON and torso and lies and not cut:
            self._whole.add(track.track_id)

    def _find_head(self, look: PartLook, expected: Head) -> Head | None:
        """Returns the head that the parts show near where the body lets expect it."""
        anchor = anchor_of_head(expected)
        planes = look.on(anchor, self._hidden.head_parts)
        mask = (planes.sum(axis=0, dtype=np.uint16) > 127).astype(np.uint8)
        near = head_seed(SEARCH_SCALE)
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask)
        best, best_area = 0, LEAST_HEAD * self._seed_area
        for piece in range(1, count):
            area = int(np.count_nonzero((pieces == piece) & (near > 0)))
            if area > best_area:
                best, best_area = piece, area
        if not best:
            return None
        x, y, w, h, _ = (float(v) for v in stats[best])
        w = min(max(w, 0.5 * 32), 1.5 * 32)
        h = min(max(h, 0.5 * 32), 1.4 * 32)
        grid = np.array([x + stats[best][2] / 2 - 0.5, y + h / 2 - 0.5])
        place = anchor.matrix[:, :2] @ grid + anchor.matrix[:, 2] + 0.5
        return Head(
            float(place[0]),
            float(place[1]),
            expected.width * w / 32 * 1.1,
            expected.height * h / 32 * 1.1,
        )

    # --- who is somebody ---

    def _may_be_somebody(self, track: Track) -> bool:
        return track.best >= LIKELY or track.sightings >= WEAK_HITS

    def is_somebody(self, track: Track) -> bool:
        """Says whether a track is covered, by what detectors and closer looks say together."""
        face, body = track.best_face, track.best_body
        if face >= 1.0:
            return True
        if track.supported < SUPPORTED * track.looked:  # its body may be somebody else's
            body = min(body, WEAK)
        confirmed = bool(track.faces) and max(track.faces) >= FACE_CONFIRMED
        if track.faces and max(track.faces) < FACE_DENIED:
            face = min(face, DENIED_FACE)
        best = max(face, body)
        if track.heads and track.detail >= TELLING_HEAD_PX:
            usual = float(np.median(track.heads[-RECENT_LOOKS:]))
            if usual >= HEAD_SEEN:
                return best >= (WEAK if confirmed or best == body else LIKELY)
            if usual >= HEAD_ABSENT:
                return best >= LIKELY or (confirmed and best >= WEAK)
            if face >= SURE_FACE or track.track_id in self._whole:
                return True
            agreed = face >= AGREEING and body >= AGREEING
            return agreed or (body >= STRONG_BODY and not track.cut_above)
        if best >= STRONG:
            return True
        enough = LIKELY if not confirmed else WEAK
        return best >= enough and (track.sightings >= 2 or confirmed)

    # --- covers ---

    def cover(self, number: int) -> Cover:
        """Returns the cover of a frame; asked once a frame, in order, at most as far as fed."""
        width, height = self._map_wh
        parts = np.zeros((height, width), np.uint8)
        tracks = np.zeros((height, width), np.uint8)
        age, people = 0, 0
        for track in self._tracker.tracks:
            if not self._is_there(track, number) or not self.is_somebody(track):
                continue
            gap = track.gap(number)
            if self._lay(track, number, gap, parts, tracks):
                age, people = max(age, gap), people + 1
        return Cover(parts, tracks, age, people)

    def forget_before(self, number: int) -> None:
        """Lets go of what only frames before `number` need."""
        self._tracker.forget_before(number - 60)
        held = {track.track_id for track in self._tracker.tracks}
        self._shapes = {key: value for key, value in self._shapes.items() if key in held}
        for shapes in self._shapes.values():
            for kept in (shapes.head, shapes.body, shapes.fine_head, shapes.fine_body):
                old = [frame for frame in kept if frame < number - 60]
                for frame in old[:-1]:
                    del kept[frame]
        self._looks = {k: v for k, v in self._looks.items() if k >= number - 60}
        self._reaches = {k: v for k, v in self._reaches.items() if k >= number - 60}
        self._motion = {k: v for k, v in self._motion.items() if k >= number - 60}

    def _lay(self, track: Track, number: int, gap: int, parts: U8, tracks: U8) -> bool:
        hidden, scale = self._hidden, self._scale
        mark = (track.track_id - 1) % 255 + 1
        head = self._head(track, number)
        shapes = self._shapes.get(track.track_id, _Shapes())
        grown = head.scaled(1 + GROWTH_PER_GAP * gap)
        if not track.born <= number <= track.last:
            self._lay_motion(track, number, head, parts, tracks)
        shape = _nearest(shapes.head, number)
        for laid in (shape, _nearest(shapes.fine_head, number)):
            if laid is not None:
                laid.lay(parts, tracks, mark, anchor_of_head(grown), scale)
        if track.track_id in self._whole and not hidden.person:
            lay_box(parts, tracks, mark, self._body(track, number), Label.HUMAN, scale)
        if hidden.head or hidden.person:
            seen = shapes.share is not None and shapes.share >= TRUSTED_HEAD
            wide = grown.scaled(TRUSTED_SCALE if seen else 1.0) if shape else grown.scaled(WIDER)
            wide = replace(wide, roll=track.roll_at(number))
            if not track.placed:  # somewhere at the top of the body
                wide = grown.scaled(UNPLACED)
            lay_ellipse(parts, tracks, mark, wide, Label.FACE, scale)
        elif hidden.face:
            face = track.face_box_at(number, SHAPES_APART)
            if face is not None:
                oval = Head(face.x, face.y, 1.15 * face.width, 1.2 * face.height, head.roll)
                lay_ellipse(parts, tracks, mark, oval, Label.FACE, scale)
        if hidden.body:
            body = self._body(track, number)
            shape = _nearest(shapes.body, number)
            for laid in (shape, _nearest(shapes.fine_body, number)):
                if laid is not None:
                    laid.lay(parts, tracks, mark, anchor_of_body(body), scale)
            if shape is None and hidden.person:
                lay_box(parts, tracks, mark, body, Label.HUMAN, scale)
        return bool((tracks == mark).any())

    def _lay_motion(self, track: Track, number: int, head: Head, parts: U8, tracks: U8) -> None:
        """Covers what moves where a head is carried on beyond its track's end, and nobody else is.

        Where somebody comes in or goes, his way is known from one side only.
        """
        motion = self._motion.get(number)
        if motion is None:
            return
        x, y = MOVING_REACH * head.width, MOVING_REACH * head.height
        around = head.rect().grown(x, y, y)
        height, width = parts.shape
        rows = slice(max(0, int(around.y1 * motion.scale)), max(0, int(around.y2 * motion.scale)))
        columns = slice(
            max(0, int(around.x1 * motion.scale)), max(0, int(around.x2 * motion.scale))
        )
        near = np.zeros_like(motion.moved)
        near[rows, columns] = motion.moved[rows, columns]
        for other in self._tracker.tracks:
            if other is not track and other.born <= number <= other.last:
                box = self._body(other, number).grown(head.width / 4, 0, 0)
                top, first = (max(0, int(v * motion.scale)) for v in (box.y1, box.x1))
                below, beyond = (max(0, int(v * motion.scale)) for v in (box.y2, box.x2))
                near[top : below + 1, first : beyond + 1] = 0
        if not near.any() or near.shape[0] < 2:
            return
        whole = filled(np.asarray(cv2.dilate(near, _CLOSED), np.uint8))
        _, pieces = cv2.connectedComponents(whole)
        inner = head.rect()
        core = np.zeros_like(whole)
        core[
            max(0, int(inner.y1 * motion.scale)) : max(0, int(inner.y2 * motion.scale)),
            max(0, int(inner.x1 * motion.scale)) : max(0, int(inner.x2 * motion.scale)),
        ] = 1
        touching = np.unique(pieces[(core > 0) & (whole > 0)])
        whole = np.asarray(np.isin(pieces, touching[touching > 0]), np.uint8)
        large = cv2.resize(whole, (width, height), interpolation=cv2.INTER_NEAREST)
        mark = (track.track_id - 1) % 255 + 1
        put_on(parts, tracks, np.asarray(large > 0), int(Label.FACE), mark)

    def _is_there(self, track: Track, number: int) -> bool:
        """Says whether a track is in a frame: in its life, or carried on beyond its ends."""
        if number < track.start or (track.end is not None and number >= track.end):
            return False
        if track.born <= number <= track.last:
            return True
        at_end = number > track.last
        steps = number - track.last if at_end else track.born - number
        if steps > self._reach(track, at_end=at_end):
            return False
        head = self._head(track, number).rect()
        width, height = self._size_wh
        if head.x2 < 0 or head.y2 < 0 or head.x1 > width or head.y1 > height:
            return False
        return not self._contradicted(track, number, at_end=at_end)

    def _reach(self, track: Track, *, at_end: bool) -> int:
        """Returns how many frames a track goes on beyond an end where nothing contradicts it."""
        if self._tracker.is_far(track):
            return self._far_every
        end = track.seen[track.last if at_end else track.first]
        return self._extend if end.face > 0 else max(self._extend, STILL_EVERY)

    def _contradicted(self, track: Track, number: int, *, at_end: bool) -> bool:
        """Says whether looks for people, between the track's end and `number`, saw nobody there.

        A look can be trusted there where the person would be whole: not at the edge of the picture,
        and not where something moves that nobody explains.
        """
        if track.looked == 0 or track.supported < SUPPORT * track.looked:
            return False
        needed = self._needed(track)
        between = range(track.last + 1, number + 1) if at_end else range(number, track.born)
        for frame in between:
            bodies = self._looks.get(frame)
            if bodies is None:
                continue
            head = self._head(track, frame)
            rect = head.rect()
            if self._reaches[frame] < needed:
                continue
            if self._at_edge(head) or self._motion[frame].share(rect) > MOVING:
                continue
            if not any(rect.shared(body.box) > 0.2 * rect.area for body in bodies):
                return True
        return False

    def _needed(self, track: Track) -> Reach:
        """Returns how closely a look must look to see a track's body."""
        if self._tracker.is_far(track):
            return Reach.FAR
        box = track.seen[track.last].box
        near = box is None or max(box.width, box.height) >= self._near_px()
        return Reach.NEAR if near else Reach.MIDDLE

    def _at_edge(self, head: Head) -> bool:
        width, height = self._size_wh
        reach = EDGE_HEADS * head.width
        return not (reach < head.x < width - reach and 0.5 * head.height < head.y < height - reach)

    def _head(self, track: Track, number: int) -> Head:
        """Returns where a track's head is, in its life or beyond its ends."""
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


def _vouched(seen: list[Sighting], fine: Sequence[FineLook]) -> list[tuple[Sighting, FineLook]]:
    """Marks sightings that a second parser vouches for, and adds those that it alone saw."""
    vouched = []
    for look in fine:
        near = [
            (one.head.distance(look.sighting.head), k)
            for k, one in enumerate(seen)
            if not one.sure and one.head.distance(look.sighting.head) < SAME_HEAD
        ]
        if near:
            k = min(near)[1]
            seen[k] = replace(seen[k], sure=True)
            vouched.append((seen[k], look))
        else:
            seen.append(look.sighting)
            vouched.append((look.sighting, look))
    return vouched


_CLOSED: Final = np.ones((5, 5), np.uint8)
SAME_HEAD: Final = 0.7
"""Head sizes between what two parsers take for one head."""


def _nearest(shapes: dict[int, Shape], number: int) -> Shape | None:
    """Returns the shapes of the looks before and after a frame, united; None where none is near."""
    before = max((f for f in shapes if f <= number), default=None)
    after = min((f for f in shapes if f >= number), default=None)
    near = [f for f in (before, after) if f is not None]
    if not near:
        return None
    near.sort(key=lambda f: (abs(f - number), f))
    first = shapes[near[0]]
    return first.united(shapes[near[1]]) if len(near) == 2 else first


def _lost(faces: Sequence[Face], others: Sequence[Face]) -> bool:
    """Says whether a face of `faces` that is likely one is nowhere near one of `others`."""
    for face in faces:
        if face.score < LIKELY:
            continue
        reach = face.box.grown(face.box.width, face.box.height, face.box.height)
        if not any(
            reach.x1 <= o.box.x <= reach.x2 and reach.y1 <= o.box.y <= reach.y2 for o in others
        ):
            return True
    return False
