"""From what looks saw to what is covered, frame by frame: pure, without threads, clocks or pixels.

The solver is fed every frame in order (`feed`), says which looks it wants (`wants_people`,
`part_orders`), takes what close looks found (`take_parts`), and gives the cover of a frame
(`cover`) once enough later frames are known. What it answers depends on what it was fed alone.

It joins rooms of one trade each: `orders` says which looks are wanted, `parts` reads those at
parts, `judge` says who is somebody, `place` where somebody is, `lay` what is covered, `unjudged`
what moves and cannot be told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, final

import numpy as np

from ...tracking.heads import Rect
from ...tracking.motion import Motion
from ...tracking.shape import PartLook
from ...tracking.sightings import Body, Face, Sighting, sightings
from ...tracking.track import Track
from ...tracking.tracker import Tracker
from ...tracking.turned import (
    SURE_FACE,
    TurnedLook,
    best_of,
    same_person,
    turned_sightings,
)
from .judge import (
    LIKELY,
    STRONG,
    has_come_out,
    is_denied,
    is_headless,
    is_somebody,
    is_unjudged,
)
from .lay import Layer
from .orders import Orders
from .parts import PartReader
from .place import FAR_SHARE, STILL_EVERY, Places
from .records import Cover, FineLook, Frame, Hidden, LookRates, PartOrder, Reach, Shapes
from .unjudged import Unjudged
from .unlooked import Unlooked

__all__ = ["FAR_EVERY_S", "Solver"]

MAX_GAP_S: Final = 0.6
"""A person unseen for longer is a new track; both are extended towards each other. Source: research
notes, "every frame": 15 frames at 25 a second."""
FAR_EVERY_S: Final = 2.0
"""Seconds between looks for people who are small in the picture: they move slowly in it. Chosen by
cost: a far look takes as long as eleven near ones (docs/architecture.md)."""
TILTED_FACE: Final = 0.5
"""Score of a closer look from which its tilt is believed. From there on .88 of CenterFace's boxes
and more are faces (docs/parsers.md, "What a score is worth")."""
SAME_HEAD: Final = 0.7
"""Head sizes between what two parsers take for one head. As `association.SAME_HEAD`."""
KEPT_FRAMES: Final = 60
"""What was known so many frames before those forgotten is kept: shapes and ways reach so far.
Chosen: more than twice `lay.SHAPES_APART`."""

OVERLAPS: Final = 0.5
AGREES: Final = 0.6
"""A box that shares so much of the smaller one with a known one is about the same place; with an
intersection over union from the second value upwards it says the same. Chosen: half is the usual
limit for one object; to say the same it must be nearer."""
EXPLAINED: Final = 0.25
"""Of a body's width and height, that much to each side and below it, motion is its own. Source:
research notes, "every frame"."""


def _tracker(rate: float, far_every: int, far_px: float) -> Tracker:
    return Tracker(
        max_gap=max(6, round(MAX_GAP_S * rate)),
        body_gap=max(2 * STILL_EVERY + 1, round(MAX_GAP_S * rate)),
        far_gap=2 * far_every + 1,
        far_px=far_px,
        strong=STRONG,
    )


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
        middle_every, motion_every: see `LookRates`.
        live: answers may come late (`take_late`), and nothing is known of what comes: who is not
            judged yet is somebody, and tracks go on until a look contradicts them.
        kept_s: seconds for which what was known is kept, beyond what frames to come need.
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
        middle_every: int = 0,
        motion_every: int = 1,
        live: bool = False,
        kept_s: float = 0.0,
    ) -> None:
        self._size_wh, self._map_wh = size_wh, map_wh
        self._live, self._hidden = live, hidden
        self._kept = max(KEPT_FRAMES, round(kept_s * rate))
        self._newest, self._shot = -1, 0
        self._fed: dict[int, Frame] = {}
        self._far_px = FAR_SHARE * max(size_wh)
        far_every = max(4, round(far_every_s * rate))
        self._tracker = _tracker(rate, far_every, self._far_px)
        self._shapes: dict[int, Shapes] = {}
        self._places = Places(
            self._tracker, size_wh=size_wh, rate=rate, far_every=far_every, live=live
        )
        self._unlooked = Unlooked(self._places.reach_of, rate=rate) if live else None
        self._orders = Orders(
            self._tracker,
            self._places,
            self._shapes,
            size_wh=size_wh,
            hidden=hidden,
            rates=LookRates(
                people_every=people_every,
                parts_every=parts_every,
                parts_a_frame=parts_a_frame,
                far_every=far_every,
                middle_every=middle_every,
                motion_every=motion_every,
            ),
            still_every=min(STILL_EVERY, people_every) if live else STILL_EVERY,
            unlooked=self._unlooked,
        )
        self._parts = PartReader(self._places, self._shapes, hidden=hidden, width=size_wh[0])
        self._layer = Layer(self._places, hidden=hidden, scale=map_wh[0] / size_wh[0])
        self._unjudged = Unjudged(self._places, size_wh=size_wh)
        self.looks: Counter[str] = Counter()

    # --- which looks are wanted ---

    def wants_people(self, number: int, motion: Motion, faces: Sequence[Face]) -> Reach | None:
        """Says how frame `number` must be looked at for people; asked once a frame, in order.

        It may be asked some frames ahead of `feed`.
        """
        return self._orders.wants_people(number, motion, faces)

    def wants_turned(self, number: int, reach: Reach | None) -> Sequence[int]:
        """Says by which quarters frame `number` is to be turned and looked at again."""
        return self._orders.wants_turned(number, reach)

    def rates(self, rates: LookRates) -> None:
        """Changes how often people and their parts are looked at."""
        self._orders.rates(rates)

    def owe_turned(self) -> None:
        """Notes that a look at a turned copy failed; the next far look brings all again."""
        self._orders.owe_turned()

    def past_orders(self) -> dict[int, Reach]:
        """Returns frames, fed before, at which people must be looked for after all, and how."""
        return self._orders.past_orders()

    def part_orders(self, number: int | None = None) -> list[PartOrder]:
        """Returns the close looks that are wanted at a frame, by default the one fed last."""
        orders = self._orders.part_orders(number)
        for order in orders:
            self.looks["closer" if order.face else "parts"] += 1
        return orders

    # --- what was seen ---

    def feed(self, frame: Frame) -> None:
        """Takes what was seen in the next frame."""
        self._newest = frame.number
        if self._live:
            self._fed[frame.number] = frame
        if frame.motion.cut:
            self._tracker.cut(frame.number)
            self._shot = frame.number
        self._orders.feed(frame.number, cut=frame.motion.cut)
        bodies = [body for body in frame.bodies or () if not self._is_rough(frame, body)]
        seen = self._with_turned(frame, sightings(frame.faces, bodies))
        vouched = _vouched(seen, frame.fine)
        self._places.take_motion(frame.number, frame.motion)
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

    def take_late(
        self,
        number: int,
        *,
        faces: Sequence[Face] | None = None,
        bodies: Sequence[Body] | None = None,
        reach: Reach = Reach.MIDDLE,
        turned: Sequence[TurnedLook] = (),
    ) -> None:
        """Takes what looks at a frame fed before saw, whose answers were not there then.

        Args:
            number: of the frame; one of an earlier shot says nothing any more.
            faces: of the look for faces, where it was answered now.
            bodies: of the look for people, the same.
            turned: of looks at turned copies.
            reach: of the look for people.
        """
        known = self._fed.get(number)
        if known is None or number < self._shot:
            return
        late = replace(
            known,
            faces=known.faces if faces is None else faces,
            bodies=bodies,
            reach=reach,
            turned=turned,
        )
        self._fed[number] = replace(late, bodies=None, turned=())
        kept = [body for body in bodies or () if not self._is_rough(late, body)]
        seen = self._with_turned(late, sightings(late.faces, kept))
        if bodies is not None:
            self._take_people(number, bodies, reach)
            if self._unlooked is not None:
                self._unlooked.answered(number, reach, [body.box for body in bodies])
        cameras = {
            frame: self._fed[frame].motion.camera
            for frame in range(number + 1, self._newest + 1)
            if frame in self._fed
        }
        self._tracker.late(number, seen, looked_for_people=bodies is not None, cameras=cameras)

    def take_fine_late(self, number: int, looks: Sequence[FineLook]) -> None:
        """Takes what a second parser saw in a frame fed before; one of an earlier shot is over."""
        if number not in self._fed or number < self._shot:
            return
        cameras = {
            frame: self._fed[frame].motion.camera
            for frame in range(number + 1, self._newest + 1)
            if frame in self._fed
        }
        self._places.vouched_at = number
        for look in looks:
            self._tracker.late(number, [look.sighting], looked_for_people=False, cameras=cameras)
            for track in self._tracker.live:
                seen = track.seen.get(number)
                if seen is not None and seen.sure and seen.box == look.sighting.box:
                    self._take_fine_of(track, number, look)
                    break

    def hide(self, hidden: Hidden) -> None:
        """Changes what is hidden, from the next cover on."""
        self._hidden = hidden
        for room in (self._orders, self._parts, self._layer):
            room.hide(hidden)

    def _is_rough(self, frame: Frame, body: Body) -> bool:
        """Says whether a look saw somebody small roughly whom far looks know exactly.

        In a copy of 640 pixels two people side by side are one box, which would move the one.
        """
        if frame.reach is Reach.FAR or max(body.box.width, body.box.height) >= self._far_px:
            return False
        for track in self._tracker.live:
            known = track.predicted_body
            if known is not None and self._tracker.is_far(track) and self._places.by_far(track):
                shared = known.shared(body.box) / max(1.0, min(known.area, body.box.area))
                if shared > OVERLAPS and known.iou(body.box) < AGREES:
                    return True
        return False

    def _with_turned(self, frame: Frame, upright: list[Sighting]) -> list[Sighting]:
        """Returns the sightings of a frame with those of turned looks that say more.

        Where no upright look for people can contradict it, only who is known to be turned so is
        taken from a turned look.
        """
        found: list[Sighting] = []
        looked = frame.bodies is not None
        if self._live:  # its answers come one by one; what the shot's looks saw are tracks
            looked = any(at >= self._shot for at in self._places.reaches)
        for look in frame.turned:
            self.looks["turned"] += 1
            for one in turned_sightings(look, self._size_wh):
                near = [
                    track
                    for track in self._tracker.live
                    if same_person(one, Sighting(track.predicted, box=track.predicted_body))
                ]
                if any(track.turn == look.turn for track in near) or (
                    looked
                    and not any(track.best_face >= STRONG for track in near)
                    and (one.face >= SURE_FACE or all(map(_may_be_turned, near)))
                ):
                    found.append(one)
        return best_of(upright, found, self._is_headless)

    def _is_headless(self, sighting: Sighting) -> bool:
        """Says whether close looks at whoever an upright sighting is of saw no head there."""
        near = [
            track
            for track in self._tracker.live
            if same_person(sighting, Sighting(track.predicted, box=track.predicted_body))
        ]
        return any(map(is_headless, near)) and all(map(_may_be_turned, near))

    def _take_fine(self, number: int, sighting: Sighting, fine: FineLook) -> None:
        """Adds what a second parser saw of somebody to the shapes of the track."""
        for track in self._tracker.live:
            if track.last == number and track.seen[number] is sighting:
                self._take_fine_of(track, number, fine)

    def _take_fine_of(self, track: Track, number: int, fine: FineLook) -> None:
        self._shapes.setdefault(track.track_id, Shapes())
        self._parts.take_doubt(track, number, fine.doubt)
        self.looks["doubted"] += fine.doubt is not None
        region = (0.0, 0.0, 0.0, 0.0)
        order = PartOrder(number, track.track_id, region, body=False)
        self.take_parts(order, fine.parts, fine=True)
        if self._hidden.body:
            order = PartOrder(number, track.track_id, region, body=True)
            self.take_parts(order, fine.parts, fine=True)

    def _take_people(self, number: int, bodies: Sequence[Body], reach: Reach) -> None:
        self._places.take_people(number, bodies, reach)
        self.looks["people"] += 1

    def take_past(self, number: int, bodies: Sequence[Body], reach: Reach) -> None:
        """Takes what a look of `past_orders` found."""
        self._take_people(number, bodies, reach)

    def take_face(self, order: PartOrder, score: float, roll: float) -> None:
        """Takes what a closer look at a face found: its score (0..1) and tilt (radians)."""
        track = self._track(order.track_id)
        if track is not None:
            track.faces.append(score)
            seen = track.seen.get(order.frame)
            if seen is not None:
                track.judged_face = max(track.judged_face, seen.face)
            if is_denied(track):
                track.mislead()
            if score >= TILTED_FACE:
                track.rolls[order.frame] = roll + order.turn * math.pi / 2

    def take_parts(self, order: PartOrder, look: PartLook, *, fine: bool = False) -> None:
        """Takes what a close look found; in the order of `part_orders`.

        `fine`: a second parser's, which only adds: it says nothing about whether this is somebody.
        """
        track = self._track(order.track_id)
        if track is not None and order.frame in track.seen:
            self._parts.take(track, order, look, fine=fine)

    def _track(self, track_id: int) -> Track | None:
        return next((one for one in self._tracker.tracks if one.track_id == track_id), None)

    # --- what is covered ---

    def is_somebody(self, track: Track) -> bool:
        """Says whether a track is covered; see `judge`. Whom no second far look sees is nobody."""
        if self._places.is_unconfirmed(track):
            return False
        if self._live and is_unjudged(track, self._newest, self._size_wh[0]):
            return True
        if self._live and has_come_out(track, self._newest, self._size_wh[0]):
            return True
        return is_somebody(track, whole=track.track_id in self._parts.whole)

    def cover(self, number: int) -> Cover:
        """Returns the cover of a frame; asked once a frame, in order, at most as far as fed."""
        with self._places.unchanged():
            return self._cover(number)

    def _cover(self, number: int) -> Cover:
        parts, tracks = (np.zeros(self._map_wh[::-1], np.uint8) for _ in range(2))
        age = 0
        laid: list[Track] = []
        held = self._tracker.tracks
        known = [track for track in held if self.is_somebody(track)]
        for track in known:
            if not self._places.is_there(track, number):
                continue
            if self._layer.lay(
                track,
                number,
                parts,
                tracks,
                shapes=self._shapes.get(track.track_id, Shapes()),
                whole=track.track_id in self._parts.whole,
                others=held,
            ):
                age = max(age, track.gap(number))
                laid.append(track)
        self._unjudged.lay(number, lambda at: self._explained(known, at), parts, tracks)
        fed = self._fed.get(number)
        if self._unlooked is not None and fed is not None:
            sure = [
                track for track in known if not is_unjudged(track, self._newest, self._size_wh[0])
            ]
            explained = self._explained(sure, number)
            self._unlooked.lay(number, fed.motion, explained, parts, tracks)
        told = self._layer.told(laid, number, whole=self._parts.whole)
        return Cover(parts, tracks, age, told)

    def _explained(self, known: Sequence[Track], number: int) -> list[Rect]:
        """Returns boxes in which somebody known may move, arms included, in a frame."""
        boxes = []
        for track in known:
            if self._places.is_there(track, number):
                body = self._places.body(track, number)
                boxes.append(body.grown(EXPLAINED * body.width, 0, EXPLAINED * body.height))
        return boxes

    def knows(self, number: int) -> bool:
        """Says, live, whether what was seen in a frame is still held: else it has no cover."""
        return number in self._fed

    def forget_before(self, number: int) -> None:
        """Lets go of what only frames before `number` need."""
        oldest = number - self._kept
        self._fed = {frame: fed for frame, fed in self._fed.items() if frame >= oldest}
        self._tracker.forget_before(oldest)
        held = {track.track_id for track in self._tracker.tracks}
        for gone in self._shapes.keys() - held:
            del self._shapes[gone]
        for shapes in self._shapes.values():
            every = shapes.head, shapes.body, shapes.fine_head, shapes.fine_body, shapes.doubt
            for kept in every:
                old = [frame for frame in kept if frame < oldest]
                for frame in old[:-1]:
                    del kept[frame]
            for frame in shapes.places.keys() - shapes.body.keys() - shapes.fine_body.keys():
                del shapes.places[frame]
        self._places.forget_before(oldest)


def _may_be_turned(track: Track) -> bool:
    """Says whether a track does not contradict that who is there is turned."""
    return track.best < LIKELY or track.turn != 0 or is_headless(track)


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
