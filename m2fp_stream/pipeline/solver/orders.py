"""Which looks are wanted: for people, at faces from near, at parts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final, final

from ...core.timing import NEVER
from ...tracking.heads import Rect
from ...tracking.motion import Motion
from ...tracking.sightings import Face
from ...tracking.track import Track
from ...tracking.tracker import Tracker
from ...tracking.turned import TURNS, around, quarters
from .judge import (
    BETTER_FACE,
    HEAD_ABSENT,
    LIKELY,
    STRONG,
    is_headless,
    is_somebody,
    may_be_somebody,
)
from .place import FACES_IN_BODY, STILL_EVERY, Places
from .records import Hidden, LookRates, PartOrder, Reach, Shapes
from .unlooked import Unlooked

__all__ = ["Orders"]


CLOSER_LOOKS: Final = 2
CLOSER_EVERY: Final = 3
"""A face is judged by so many closer looks, so many frames apart at least. Chosen: neighbouring
frames say the same."""
SEARCHED_BODY: Final = 0.50
"""Score of a body without a head in its place from which the head is searched for in all of it.
From there on .91 of the boxes and more are people (docs/parsers.md, "What a score is worth")."""
SEARCH_EVERY: Final = 12
"""Frames between two such searches. Chosen: half a second at 24 a second."""
BESIDE_FRAMES: Final = 2
"""So far from a track's end it is asked whether it was there unseen. Chosen: near enough to be
about the same place, two frames for one in which it was missed."""
ANSWERS: Final = 2
ANSWERED_FRAMES: Final = 6
ANSWERED_SHARE: Final = 0.7
"""What moves is looked at twice; then at every second frame, while it moves on at that place: until
it has not been seen there for so many frames. The same place is one that holds so much of it. Two
looks: promise P5. Chosen: the rest."""
ANSWERED_OFTEN: Final = 6
OFTEN_EVERY: Final = 4
"""After so many looks at a place where something moves on, every fourth frame is enough: whoever
comes out of it is covered backwards. In `person-bicycle-car` 22 such looks saw nobody new."""
AGAIN_FRAMES: Final = 6
"""So soon after a far look saw somebody small for the first time, another one says whether he is
there, and how fast he moves. Chosen: a quarter of a second shows how fast somebody small moves."""
BODIES_EVERY: Final = 3
"""The same while somebody is followed by the body alone. Chosen: a body alone says where the head
is less well than a face does, so it is looked for more often than people are (8)."""
TURNED_EVERY: Final = 3
"""Frames between looks at a turned copy while somebody turned so is followed. Chosen: as
`BODIES_EVERY`."""
HEADLESS_EVERY: Final = 12
UNANSWERED_EVERY: Final = 24
"""Frames between looks at all turned copies while a question is open that upright looks do not
answer: a body has no head where one is expected, or something moves on that they do not see.
Chosen: two looks a second, and one; half as many as at first, for they cost most."""
TURNED_ASKED: Final = 2
"""So often all turned copies are looked at for one body without a head. Chosen: the second is made
where the first may have come too early."""
TURNED_SIGHTINGS: Final = 3
"""Sightings after which somebody turned must be somebody for these looks to go on. Chosen: two may
be false alarms."""
SMALLEST_HEAD_PX: Final = 12.0
"""Width of a head below which its parts cannot be told: it keeps its ellipse. Chosen: an eye has
two pixels there."""
HEAD_CROP: Final = (1.6, 1.25, 3.1)
"""Reach of the crop for a head's parts: head widths to each side, heights up and down. About those
of the research notes, "every frame": hair to below the shoulders is in it."""
BODY_HEAD_CROP: Final = (3.0, 1.5, 5.5)
"""The same where the body alone was seen: hair from behind is told by what is around it. Chosen on
the tune half."""
BODY_CROP: Final = 0.12
"""Of a body's width and height, so much around its box is in the crop for its parts. Chosen: arms
leave the box."""


@final
class Orders:
    """Says which looks are wanted, from what is known of the film so far.

    Args:
        tracker: joins the sightings.
        places: where people are.
        shapes: by track; `part_orders` notes in them what it asked for.
        size_wh: (width, height) of the frames.
        hidden: what the policy hides.
        rates: how often is looked.
        still_every: frames between looks for people while nothing moves.
        unlooked: counts the answers of looks at what moves, where they may come late; None: every
            look that is wanted is made, and answered before anything is covered.
    """

    def __init__(
        self,
        tracker: Tracker,
        places: Places,
        shapes: dict[int, Shapes],
        *,
        size_wh: tuple[int, int],
        hidden: Hidden,
        rates: LookRates,
        still_every: int = STILL_EVERY,
        unlooked: Unlooked | None = None,
    ) -> None:
        self._unlooked = unlooked
        self._rates = rates
        if unlooked is not None:
            unlooked.again_frames = rates.motion_every
        self._middle_at: float = NEVER
        self._still_every = still_every
        self._tracker = tracker
        self._places = places
        self._shapes = shapes
        self._size_wh = size_wh
        self._hidden = hidden
        self._frame = -1
        self._shot_fed = 0
        self._faces_before: Sequence[Face] = ()
        self._people_at: float = NEVER
        self._far_at: float = NEVER
        self._answered: list[tuple[Rect, int, int]] = []
        self._moved_since = True
        self._turned_at: dict[int, int] = {}
        self._all_turned_at: float = NEVER
        self._unanswered = False

    def wants_people(self, number: int, motion: Motion, faces: Sequence[Face]) -> Reach | None:
        """Says how frame `number` must be looked at for people; asked once a frame, in order.

        It may be asked some frames ahead of `feed`.
        """
        before, self._faces_before = self._faces_before, faces
        if motion.cut:
            self._restart(number)
            return Reach.FAR
        if motion.moved.any():
            self._moved_since = True
        open_questions = self._open_questions(number, motion, faces)
        middle = number - self._people_at >= self._every()
        far = self._is_far_due(number)
        changed = _lost(before, faces) or _lost(faces, before)
        if not (far or middle or changed or open_questions):
            return None
        self._people_at = number
        self._moved_since = False
        if far:
            self._far_at = self._middle_at = number
            return Reach.FAR
        small = self._places.near_px()
        sizes = self._sizes([*before, *faces], open_questions)
        since = number - self._middle_at
        usual = middle and not sizes and since >= self._rates.middle_every
        if usual or (any(size < small for size in sizes) and since >= self._rates.motion_every):
            self._middle_at = number
            return Reach.MIDDLE
        return Reach.NEAR

    def _restart(self, number: int) -> None:
        """Forgets what was known before a cut."""
        self._moved_since = True
        self._all_turned_at = NEVER
        self._people_at = self._middle_at = self._far_at = number
        if self._unlooked is not None:
            self._unlooked.restart()

    def _every(self) -> int:
        """Returns after how many frames the next look for people is due in any case."""
        if not self._moved_since:
            return max(self._rates.people_every, self._still_every)
        if any(track.seen[track.last].face == 0 for track in self._tracker.live):
            return min(self._rates.people_every, BODIES_EVERY)
        return self._rates.people_every

    def _is_far_due(self, number: int) -> bool:
        """Says whether a far look is due: soon after one that first saw somebody, again."""
        again = number - self._far_at >= AGAIN_FRAMES and any(
            track.born == self._far_at and self._tracker.is_far(track)
            for track in self._tracker.live
        )
        return again or number - self._far_at >= self._rates.far_every

    def _open_questions(self, number: int, motion: Motion, faces: Sequence[Face]) -> list[Rect]:
        """Returns where something moves that is to be looked at in frame `number`."""
        unexplained = motion.unexplained(self._known(faces))
        if self._unlooked is None:
            return self._open(number, unexplained)
        asked = self._unlooked.see(number, unexplained)
        self._unanswered = bool(unexplained) and not asked
        if number - self._middle_at >= self._rates.motion_every:
            return asked
        return [box for box in asked if max(box.width, box.height) >= self._places.near_px()]

    def _sizes(self, faces: Sequence[Face], open_questions: Sequence[Rect]) -> list[float]:
        """Returns how large those are in the picture whom a look for people is to see."""
        sizes = [max(box.width, box.height) for box in open_questions]
        if self._unlooked is not None and sizes and max(sizes) >= self._places.near_px():
            sizes = [max(sizes)]  # soon; for the rest, there will be another look
        sizes += [FACES_IN_BODY * f.box.height for f in faces if f.score >= LIKELY]
        sizes += [
            max(body.width, body.height)
            for track in self._tracker.live
            if (body := track.predicted_body) is not None and not self._tracker.is_far(track)
        ]
        return sizes

    def wants_turned(self, number: int, reach: Reach | None) -> Sequence[int]:
        """Says by which quarters frame `number` is to be turned and looked at again.

        Args:
            number: of the frame; asked after `wants_people`.
            reach: of the look for people that is made at it.
        """
        since = number - self._all_turned_at if reach is not None else 0
        soon = since >= HEADLESS_EVERY and (reach is Reach.FAR or self._headless())
        if soon or (since >= UNANSWERED_EVERY and self._unanswered):
            self._all_turned_at = number
            self._turned_at = dict.fromkeys(TURNS, number)
            for track in self._tracker.live:
                if is_headless(track):
                    shapes = self._shapes.setdefault(track.track_id, Shapes())
                    shapes.turned_asked += 1
            return TURNS
        wanted = {
            track.turn
            for track in self._tracker.live
            if track.turn
            and number - self._turned_at.get(track.turn, number) >= TURNED_EVERY
            and (track.sightings < TURNED_SIGHTINGS or is_somebody(track, whole=False))
        }
        self._turned_at |= dict.fromkeys(wanted, number)
        return sorted(wanted)

    def owe_turned(self) -> None:
        """Notes that a look at a turned copy failed: all are due with the next far look."""
        self._all_turned_at = NEVER

    def _headless(self) -> bool:
        """Says whether a body shows neither a face nor, to close looks, a head where it has one."""
        return any(
            is_headless(track)
            and track.best_face < LIKELY <= track.best_body
            and self._shapes.get(track.track_id, Shapes()).turned_asked < TURNED_ASKED
            for track in self._tracker.live
        )

    def _open(self, number: int, unexplained: Sequence[Rect]) -> list[Rect]:
        """Returns what moves and was not looked at often enough lately.

        Two looks at a place on different frames answer for the frames that follow (P5).
        """
        self._answered = [
            (box, looks, at) for box, looks, at in self._answered if number - at <= ANSWERED_FRAMES
        ]
        left = []
        self._unanswered = False
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
            looked = max(answers, default=0)
            every = OFTEN_EVERY if looked >= ANSWERED_OFTEN else ANSWERS
            self._unanswered = self._unanswered or looked >= ANSWERS
            waits = looked >= ANSWERS and number % every
            if waits and not any(box.shared(moved) for box in followed):
                continue
            left.append(moved)
            x, y = 0.3 * moved.width, 0.3 * moved.height
            self._answered.append((moved.grown(x, y, y), looked + 1, number))
        return left

    def _known(self, faces: Sequence[Face]) -> list[Rect]:
        """Returns boxes that may move without a look: people known and faces seen.

        Where looks may come late, weak ones explain nothing: what they hide would be open until
        the next look.
        """
        known = []
        for track in self._tracker.live:
            if self._unlooked is not None and not is_somebody(track, whole=False):
                continue
            head, body = track.predicted, track.predicted_body
            rect = head.rect()
            known.append(rect.grown(head.width, 0.5 * head.height, 1.5 * head.height))
            if body is not None:
                x, y = 0.25 * body.width, 0.25 * body.height
                known.append(body.grown(x, y, y))
        for face in faces:
            if self._unlooked is not None and face.score < LIKELY:
                continue
            box = face.box
            known.append(box.grown(1.5 * box.width, box.height, 3 * box.height))
        return known

    def feed(self, number: int, *, cut: bool) -> None:
        """Goes on to the next frame."""
        self._frame = number
        if cut:
            self._shot_fed = number

    def past_orders(self) -> dict[int, Reach]:
        """Returns frames, fed before, at which people must be looked for after all, and how.

        Where somebody appears or is lost in the middle of the picture, a look shortly before or
        after says whether he was there unseen. It is a near one where a large body was seen. For
        who is small in the picture none is made: only far looks are trusted about them, and these
        come by themselves.
        """
        orders: dict[int, Reach] = {}
        for track in self._tracker.live:
            if not may_be_somebody(track):
                continue
            reach, body = self._places.needed(track), track.predicted_body
            if reach is Reach.FAR:
                continue
            if body is None or max(body.width, body.height) < self._places.near_px():
                reach = Reach.MIDDLE
            asked = []
            if track.sightings == 2 and track.last == self._frame:
                asked.append(track.born - BESIDE_FRAMES)
            if self._frame - track.last == BESIDE_FRAMES and track.seen[track.last].face > 0:
                asked.append(self._frame)
            for number in asked:
                orders[number] = max(reach, orders.get(number, Reach.NEAR))
        return {
            number: orders[number]
            for number in sorted(orders)
            if number >= max(0, self._shot_fed)
            and not any(k in self._places.bodies for k in range(number - 1, number + 2))
        }

    def part_orders(self, number: int | None = None) -> list[PartOrder]:
        """Returns the close looks that are wanted at a frame, by default the one fed last."""
        frame = self._frame if number is None else number
        waiting = []
        for track in self._tracker.live:
            if frame not in track.seen or not may_be_somebody(track):
                continue
            shapes = self._shapes.setdefault(track.track_id, Shapes())
            head = track.head_at(frame)
            changing = (
                self._places.at_edge(head) and frame - track.born < 2 * self._rates.parts_every
            )
            every = 2 if changing else self._rates.parts_every
            if frame - shapes.asked < every or head.width < SMALLEST_HEAD_PX:
                continue
            waiting.append((shapes.asked, track.track_id, track, shapes))
        waiting.sort(key=lambda one: one[:2])
        orders = self._face_orders(frame)
        for *_, track, shapes in waiting[: self._rates.parts_a_frame]:
            shapes.asked = frame
            orders += self._orders(track, frame)
        return orders

    def rates(self, rates: LookRates) -> None:
        """Changes how often people and their parts are looked at."""
        self._rates = rates
        self._still_every = rates.people_every
        if self._unlooked is not None:
            self._unlooked.again_frames = rates.motion_every

    def hide(self, hidden: Hidden) -> None:
        """Changes what is hidden."""
        self._hidden = hidden

    def _face_orders(self, frame: int) -> list[PartOrder]:
        """Returns closer looks at faces: two for a track, later ones now and then for the tilt.

        A face that is seen much better than any that was judged is judged at once: what closer
        looks said of a blur must not hold against the face that comes out of it. Those of whom
        least is known come first: judged least often, not sure by themselves, asked about longest
        ago.
        """
        waiting = []
        for track in self._tracker.live:
            seen = track.seen.get(frame)
            if seen is None:
                continue
            box = seen.face_box
            shapes = self._shapes.setdefault(track.track_id, Shapes())
            every = CLOSER_EVERY if len(track.faces) < CLOSER_LOOKS else self._rates.parts_every * 4
            if seen.face > shapes.judged_score + BETTER_FACE:
                every = 1
            if box is None or frame - shapes.judged < every:
                continue
            known = min(len(track.faces), CLOSER_LOOKS), track.best >= STRONG
            waiting.append((known, shapes.judged, track.track_id, box, seen.face, seen.turn))
        orders = []
        for _, _, track_id, box, score, turn in sorted(waiting, key=lambda one: one[:3])[
            : self._rates.parts_a_frame
        ]:
            shapes = self._shapes[track_id]
            shapes.judged = frame
            shapes.judged_score = max(shapes.judged_score, score)
            region = box.x1, box.y1, box.x2, box.y2
            order = PartOrder(frame, track_id, region, body=False, face=True, turn=turn)
            orders.append(order)
        return orders

    def _orders(self, track: Track, frame: int) -> list[PartOrder]:
        head = track.head_at(frame)
        turn = quarters(head.roll)
        crop = HEAD_CROP if track.seen[frame].face > 0 else BODY_HEAD_CROP
        near = around(head, *crop)
        region = near.x1, near.y1, near.x2, near.y2
        orders = [PartOrder(frame, track.track_id, region, body=False, turn=turn)]
        if self._hidden.body or self._must_search(track, frame):
            box = self._places.body(track, frame)
            x, y = BODY_CROP * box.width, BODY_CROP * box.height
            box = self._inside(box.grown(x, y, y))
            region = box.x1, box.y1, box.x2, box.y2
            orders.append(PartOrder(frame, track.track_id, region, body=True, turn=turn))
        return orders

    def _must_search(self, track: Track, frame: int) -> bool:
        """Says whether a body shows no head where one is expected."""
        shapes = self._shapes[track.track_id]
        if (
            track.best_body < SEARCHED_BODY
            or track.best_face >= LIKELY
            or not track.heads
            or median(track.heads) >= HEAD_ABSENT
            or frame - shapes.searched < SEARCH_EVERY
        ):
            return False
        shapes.searched = frame
        return True

    def _inside(self, box: Rect) -> Rect:
        width, height = self._size_wh
        return Rect(
            max(0.0, min(box.x1, width - 1)),
            max(0.0, min(box.y1, height - 1)),
            min(float(width), max(box.x2, 1.0)),
            min(float(height), max(box.y2, 1.0)),
        )


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
