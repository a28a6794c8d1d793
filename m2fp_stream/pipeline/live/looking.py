"""Has frames looked at: copies go out, answers come back and go to the follower.

It makes the copies and crops that looks get, keeps a frame's pixels for as long as a look at it may
ask for more of them, and says of each frame, when its time has come, what is known. It has no
thread and no clock of its own: the follower's thread drives it, and benchmarks do in simulated
time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.errors import M2FPStreamError, ModelError
from ...core.plan import Why
from ...core.raw import RawFrame
from ...core.records import Detections, LookKind, PartPlanes
from ...core.timing import NEVER
from ...sources.base import Captured
from ...tracking.motion import Motion, MotionFinder, SmallGrey
from ...tracking.sightings import Body, Face
from ...tracking.turned import TurnedLook
from ..copies import (
    PartCrop,
    boxes_of,
    crop_of,
    look_copy,
    people_size,
    shrunk,
    smaller_copy,
    turned_copy,
)
from ..looks import Seen
from ..solver.records import PartOrder, Reach
from .follow import Follower, Verdict

__all__ = ["Looking", "Pools", "SubmitLook"]

_log = logging.getLogger(__name__)

_ERRORS: Final = (cv2.error, ValueError, IndexError, ArithmeticError)
_CORNERS: Final = 48
"""Of files 120: following them took a tenth of a slow core's time where the camera moves."""
_FACES_WAITING: Final = 3
"""Looks for faces under way, beyond which a frame gets none: where the looker hangs or is too slow,
more would say ever later what is long over, and fill the memory. Chosen."""
_PARTS_WAITING: Final = 4
"""Looks at parts and at faces from near that may wait; more would be old when they come. Chosen."""
_STALL: Final = 1.5
"""Intervals without a frame after which the next one is not shown on what was known before. With 3,
two frames were raw once where every second one was left out (chaos/test_live_faults.py, far looks
that hang, beside other tests)."""
_REST: Final = 0.5
"""Of the time that a look for people took, so long none is made but those that are due: what is
shown would have to wait for the core, where there is but one. Chosen."""
_NEWEST: Final = 0.3
"""Weight of the newest look in how long looks take. Chosen: about ten looks count."""
_LONG_PARTS_S: Final = 0.06
"""Looks at parts that take longer, three times what they do on an idle core, are of a machine that
is busy. Chosen."""
_PARTS_AT_LEAST_S: Final = 1.0
"""Close looks give way no longer than this: without any, hair is what an ellipse holds, and nobody
says who is none. Chosen: shapes hold for 24 frames (`lay.SHAPES_APART`)."""
_PATIENCE: Final = 0.5
_LONGEST_PATIENCE_S: Final = 0.8
"""A frame waits for its look for people so long at most, beyond the delay that all have: that share
of the frame interval, and so many seconds, less than `live.max_delay_s`. Of a slow camera every
frame then has both looks: without that of its own, the last one would be too old (P3)."""


class SubmitLook(Protocol):
    """What a pool of lookers offers; see `looks.LookPool`."""

    def submit(self, bgr: NDArray[np.uint8], kind: LookKind, *, frame_id: int) -> Future[Seen]:
        """Queues a look at `bgr`, which is zeroed afterwards."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Pools:
    """Who looks: each kind of look has its own process, so that none waits behind another.

    Attributes:
        faces: looks for faces, in every frame; where the machine is slow, the first look for people
            of a shot, too: nothing is shown until it is answered.
        near: looks for people, at their parts and at their faces from near.
        far: looks for who is small in the picture, and at turned copies.
    """

    faces: SubmitLook
    near: SubmitLook
    far: SubmitLook


@dataclass(slots=True, eq=False)
class _Shown:
    """A frame from its capture until it is judged."""

    raw: RawFrame
    frame_id: int
    captured_s: float
    start: Why | None
    lease: ExitStack
    motion: Motion | None
    unknown: Why | None
    faces_wh: tuple[int, int] = (1, 1)
    copy: NDArray[np.uint8] | None = None
    """Of `faces_wh`, from which smaller ones are made: a frame's own pixels are many."""
    answered: bool = False
    """Whether its look for faces was answered, or none is made."""
    faces: list[Face] | None = None
    fed: bool = False
    after_stall: bool = False
    """Whether frames are missing before it."""
    looks: int = 0
    """Looks for people under way at it."""

    def wipe(self) -> None:
        """Lets go of its pixels."""
        if self.copy is not None:
            self.copy.fill(0)
        self.lease.close()


@dataclass(slots=True, eq=False)
class _UnderWay:
    name: str
    future: Future[Seen]
    began_s: float
    done: Callable[[Seen | None], None]


@final
class Looking:
    """Has frames looked at and judged; see the module. One thread calls it.

    Args:
        follower: is told everything.
        pools: who looks.
        look_side: long side of the copies in which people of middle size are looked for.
        faces_side: the same of faces; it may be changed later.
        delay_s: frames are judged so long after their capture; 0: when their look for faces is
            answered, at the latest one frame interval after their capture.
        on_answer: called, from any thread, when a look was answered.
        on_look: gets the kind of each look that was answered, how long it took (seconds) and
            whether it failed; of one that was dropped before anybody looked, nothing.
        on_failure: gets the error of a look.
    """

    def __init__(
        self,
        follower: Follower,
        pools: Pools,
        *,
        look_side: int,
        faces_side: int,
        delay_s: float,
        on_answer: Callable[[], None],
        on_look: Callable[[str, float, bool], None],
        on_failure: Callable[[str, M2FPStreamError], None],
    ) -> None:
        self._follower, self._pools = follower, pools
        self._people_side, self.faces_side = look_side, faces_side
        self._delay_s = delay_s
        self._on_answer, self._on_look, self._on_failure = on_answer, on_look, on_failure
        self._finder = MotionFinder(_CORNERS)
        self._before: SmallGrey | None = None
        self._fresh = True
        self._frames: deque[_Shown] = deque()
        self._kept: dict[int, _Shown] = {}
        """By id, those whose pixels a look may still ask for."""
        self._under_way: list[_UnderWay] = []
        self._near = self._far = self._parts = 0
        self._last_s = NEVER
        self._parts_since_people = True
        self._people_at_s = self._now_s = self._rested_s = NEVER
        self._free_s = self._parts_at_s = NEVER
        """When the looker for people and parts gave its last answer."""
        self._parts_s = 0.0
        """How long a look at parts takes, of late, without waiting for others."""
        self._middle_s = 0.0
        """How long a look for people at the look size takes, of late."""
        self.late = 0
        """Frames that went on without their look for faces."""
        self._first = True
        self.hurried = False
        """Whether frames are left out for a look that is waited for: then the first one of a shot
        is made by who looks for faces, who goes before all others; anybody may set it."""

    # --- frames ---

    def take(self, captured: Captured, now_s: float) -> None:
        """Takes the next frame: has it looked at for faces and measures what moved.

        It holds a lease of its own on the frame's pixels.
        """
        frame = captured.frame
        lease = ExitStack()
        lease.enter_context(frame.looking())
        start = None
        if captured.restart:
            start = Why.RECONNECTED
        elif self._first:
            start = Why.NO_PARSE
        self._first = False
        shown = _Shown(frame, frame.frame_id, frame.captured_ns / 1e9, start, lease, None, None)
        since_s = shown.captured_s - self._last_s
        shown.after_stall = since_s > _STALL * self._follower.interval_s
        self._last_s = shown.captured_s
        self._frames.append(shown)
        self._kept[frame.frame_id] = shown
        if start is not None or self._fresh:
            self._finder.restart()
        small: SmallGrey | None = None
        try:
            # First, so that the look goes on while the motion is measured.
            self._order_faces(shown, now_s)
            assert shown.copy is not None
            small = SmallGrey.of(shown.copy, max(frame.size_wh))
            shown.motion = self._finder.feed(small)
            if small.uniform:
                shown.unknown = Why.UNIFORM
        except _ERRORS as error:
            _log.warning("frame %d: tracking failed: %s", frame.frame_id, type(error).__name__)
            shown.unknown = Why.TRACKING_FAILED
            self._finder.restart()
        if self._before is not None:
            self._before.wipe()
        self._before = small
        self._fresh = shown.unknown is not None

    def advance(self, now_s: float, *, all_of_them: bool = False) -> list[Verdict]:
        """Takes the answers that are there and judges the frames whose time has come.

        Args:
            now_s: capture time now.
            all_of_them: judges every frame as it is: the source has ended.

        Raises:
            ModelError: a looker cannot be started.
        """
        self._now_s = now_s
        self._collect(now_s)
        verdicts = []
        while self._frames:
            shown = self._frames[0]
            for other in self._frames:  # fed in order, judged in order, perhaps later
                if not other.fed and not self._feed(other, now_s, at_once=all_of_them):
                    break
            if not shown.fed or not (all_of_them or now_s >= self._judged_at_s(shown)):
                break
            verdicts.append(self._judge(shown))
            self._frames.popleft()
            self._let_go(shown)
        return verdicts

    def due_s(self) -> float | None:
        """Returns when `advance` is to be called at the latest; None: when anything comes."""
        if not self._frames:
            return None
        first = self._frames[0]
        times = [self._judged_at_s(first)] if first.fed else []
        times += [self._fed_at_s(other) for other in self._frames if not other.fed][:1]
        return min(times)

    @property
    def busy(self) -> bool:
        """Whether a look at a frame that is not judged yet is under way."""
        return bool(self._frames)

    @property
    def behind(self) -> int:
        """Frames whose look for faces is not answered."""
        return sum(not shown.fed for shown in self._frames)

    def close(self) -> None:
        """Lets go of every frame and wipes what is left."""
        self._frames.clear()
        for shown in self._kept.values():
            shown.wipe()
        self._kept.clear()
        if self._before is not None:
            self._before.wipe()

    def _fed_at_s(self, shown: _Shown) -> float:
        """Returns when a frame goes on without its look for faces."""
        wait_s = self._delay_s or min(self._follower.interval_s, _LONGEST_PATIENCE_S)
        if shown.after_stall:  # whoever moved on meanwhile is not where he was
            wait_s = max(wait_s, _LONGEST_PATIENCE_S)
        return shown.captured_s + wait_s

    def _judged_at_s(self, shown: _Shown) -> float:
        at_s = shown.captured_s + self._delay_s if self._delay_s else 0.0
        if shown.looks == 0:
            return at_s
        patience_s = min(_PATIENCE * self._follower.interval_s, _LONGEST_PATIENCE_S)
        return max(at_s, shown.captured_s + patience_s)

    def _feed(self, shown: _Shown, now_s: float, *, at_once: bool) -> bool:
        """Tells the follower of a frame, if that is due; says whether it was."""
        answered = shown.answered or shown.unknown is not None
        if not answered and not at_once and now_s < self._fed_at_s(shown):
            return False
        shown.fed = True
        self.late += not answered
        frame_id = shown.frame_id
        if shown.unknown is not None or shown.motion is None:
            self._follower.unknown(frame_id, shown.captured_s, shown.unknown or Why.TRACKING_FAILED)
            return True
        try:
            self._follower.add(
                frame_id, shown.captured_s, shown.motion, shown.faces, start=shown.start
            )
            self._order(shown, now_s)
        except _ERRORS as error:
            _log.warning("frame %d: following failed: %s", frame_id, type(error).__name__)
            self._follower.unknown(frame_id, shown.captured_s, Why.TRACKING_FAILED)
        return True

    def _judge(self, shown: _Shown) -> Verdict:
        try:
            return self._follower.verdict(shown.frame_id)
        except _ERRORS as error:
            _log.warning("frame %d: no cover: %s", shown.frame_id, type(error).__name__)
            return Verdict(shown.frame_id, None, why=Why.TRACKING_FAILED)

    def _let_go(self, shown: _Shown) -> None:
        """Ends the lease on a frame that was judged and that no look may ask more of."""
        if shown.looks == 0 and shown not in self._frames:
            self._kept.pop(shown.frame_id, None)
            shown.wipe()

    # --- looks ---

    def faces_wh(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Returns (width, height) at which faces are looked for now in a picture of `size_wh`."""
        return shrunk(size_wh, self.faces_side)

    def _order_faces(self, shown: _Shown, now_s: float) -> None:
        size_wh = shown.faces_wh = self.faces_wh(shown.raw.size_wh)
        shown.copy = look_copy(shown.raw, size_wh)
        waiting = [one for one in self._under_way if one.name == "faces" and not one.future.done()]
        if len(waiting) >= _FACES_WAITING:
            return

        def done(seen: Seen | None) -> None:
            shown.answered = True
            if not isinstance(seen, Detections):
                return
            boxes = boxes_of(seen, size_wh, shown.raw.size_wh)
            shown.faces = [Face(box, score, roll) for box, score, roll in boxes]
            if shown.fed:
                self._follower.late_faces(shown.frame_id, shown.faces)

        copy = shown.copy.copy()
        self._submit(self._pools.faces, copy, LookKind.FACES, shown.frame_id, "faces", now_s, done)

    def _order(self, shown: _Shown, now_s: float) -> None:
        # Looks for people and at parts take turns, until the people are due.
        due = shown.captured_s - self._people_at_s >= self._follower.people_s
        due = due or self._follower.owes_middle
        rested = now_s >= self._rested_s and (self._parts == 0 or self._parts_since_people)
        near = self._near == 0 and (rested or due)
        orders = self._follower.wants(near=near, far=self._far == 0, middle_s=self._middle_s)
        for wanted in orders:
            if wanted.reach is not None:
                self._order_people(shown, wanted.reach, now_s, first=wanted.first, slow=wanted.slow)
            for turn in wanted.turns:
                self._order_turned(shown, turn, now_s)
        if not self._follower.waits:  # until then nothing is shown, and all else can wait
            self._order_parts(shown, now_s)

    def _order_people(
        self, shown: _Shown, reach: Reach, now_s: float, *, first: bool, slow: bool
    ) -> None:
        """Orders a look for people; the first of a shot goes before all that wait."""
        far = slow or reach is Reach.FAR
        if first:
            self._drop_waiting()
            far = self._far == 0 or self._near > 0  # whoever is free
        size_wh = people_size(shown.raw.size_wh, reach, self._people_side)
        copy = self._copy(shown, size_wh)
        shown.looks += 1
        self._near += not far
        self._far += far
        if not far:
            self._people_at_s = shown.captured_s

        def done(seen: Seen | None) -> None:
            shown.looks -= 1
            self._near -= not far
            self._far -= far
            if not far:
                self._free_s = self._now_s
            self._parts_since_people = self._parts_since_people and far
            if seen is not None and not far:
                self._rested_s = self._now_s + _REST * (self._now_s - now_s)
            if reach is Reach.MIDDLE and seen is not None:
                self._middle_s += _NEWEST * (self._now_s - now_s - self._middle_s)
            frame_id = shown.frame_id
            bodies = None
            if isinstance(seen, Detections):
                boxes = boxes_of(seen, size_wh, shown.raw.size_wh)
                bodies = [Body(box, score) for box, score, _ in boxes]
            self._follower.people(frame_id, bodies, reach)
            if bodies:
                self._order_parts(shown, self._now_s)
            self._let_go(shown)

        pool = self._pools.far if far else self._pools.near
        if first and self.hurried:
            pool = self._pools.faces
        name = (
            "first" if first else "far" if reach is Reach.FAR else "people" if not far else "slow"
        )
        self._submit(pool, copy, LookKind.PEOPLE, shown.frame_id, name, now_s, done)

    @staticmethod
    def _copy(shown: _Shown, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
        """Returns a copy of a frame for a look."""
        copy = shown.copy
        if copy is None or size_wh[0] > copy.shape[1] or size_wh[1] > copy.shape[0]:
            return look_copy(shown.raw, size_wh)
        return smaller_copy(copy, size_wh)

    def _drop_waiting(self) -> None:
        """Drops the looks for people and parts that wait: they are about what is no more."""
        for one in self._under_way:
            if one.name != "faces":
                one.future.cancel()

    def _order_turned(self, shown: _Shown, turn: int, now_s: float) -> None:
        """Orders looks for faces and people at a copy turned by quarters."""
        raw = shown.raw
        near_wh = people_size(raw.size_wh, Reach.NEAR, self._people_side)
        found: dict[LookKind, Detections | None] = {}
        wh = raw.size_wh[::-1] if turn % 2 else raw.size_wh

        def done(kind: LookKind, seen: Seen | None) -> None:
            found[kind] = seen if isinstance(seen, Detections) else None
            if len(found) < 2:
                return
            self._far -= 1
            faces, people = found[LookKind.FACES], found[LookKind.PEOPLE]
            if faces is None or people is None:
                self._follower.turned(shown.frame_id, None)
                return
            faces_wh = shown.faces_wh[::-1] if turn % 2 else shown.faces_wh
            people_wh = near_wh[::-1] if turn % 2 else near_wh
            look = TurnedLook(
                turn,
                [Face(*each) for each in boxes_of(faces, faces_wh, wh)],
                [Body(box, score) for box, score, _ in boxes_of(people, people_wh, wh)],
            )
            self._follower.turned(shown.frame_id, look)

        self._far += 1
        for kind, size_wh in ((LookKind.FACES, shown.faces_wh), (LookKind.PEOPLE, near_wh)):
            copy = turned_copy(self._copy(shown, size_wh), turn)
            self._submit(
                self._pools.far, copy, kind, shown.frame_id, "turned", now_s, partial(done, kind)
            )

    def _order_parts(self, shown: _Shown, now_s: float) -> None:
        if self._parts >= _PARTS_WAITING or self._is_soon(now_s):
            return
        for order in self._follower.parts(shown.frame_id):
            self._parts_at_s = now_s
            self._order_part(shown, order, now_s)

    def _is_soon(self, now_s: float) -> bool:
        """Says whether a look for people is due before a look at parts would be answered.

        Who looks at both would answer the former later: parts give way. On a machine that keeps up
        they take a small part of the time between.
        """
        if now_s - self._parts_at_s >= _PARTS_AT_LEAST_S:
            return False
        due_s = self._people_at_s + self._follower.people_s
        answered_s = now_s + (self._parts + 1) * self._parts_s
        return self._parts_s > _LONG_PARTS_S and answered_s > due_s

    def _order_part(self, shown: _Shown, order: PartOrder, now_s: float) -> None:
        crop: PartCrop = crop_of(shown.raw, order)
        size_wh = shown.raw.size_wh
        self._parts += 1

        def done(seen: Seen | None) -> None:
            self._parts -= 1
            if seen is not None and not order.face:
                took_s = self._now_s - max(now_s, self._free_s)
                self._parts_s += _NEWEST * (took_s - self._parts_s)
            self._free_s = self._now_s
            self._parts_since_people = True
            if order.face:
                if isinstance(seen, Detections) and len(seen.scores):
                    self._follower.closer(order, float(seen.scores[0]), float(seen.rolls[0]))
                else:
                    self._follower.closer(order, None)
                return
            look = None
            if isinstance(seen, PartPlanes) and seen.planes.shape == crop.shape:
                look = crop.look(seen.planes, size_wh)
            self._follower.part(order, look)

        kind = LookKind.CLOSER if order.face else LookKind.PARTS
        name = "closer" if order.face else "parts"
        pool = self._pools.near
        self._submit(pool, crop.bgr, kind, shown.frame_id, name, now_s, done)

    # --- answers ---

    def _submit(
        self,
        pool: SubmitLook,
        bgr: NDArray[np.uint8],
        kind: LookKind,
        frame_id: int,
        name: str,
        now_s: float,
        done: Callable[[Seen | None], None],
    ) -> None:
        future = pool.submit(bgr, kind, frame_id=frame_id)
        self._under_way.append(_UnderWay(name, future, now_s, done))
        future.add_done_callback(lambda _: self._on_answer())

    def _collect(self, now_s: float) -> None:
        """Takes every answer that is there; what the answers order may be answered at once."""
        while ready := [one for one in self._under_way if one.future.done()]:
            self._under_way = [one for one in self._under_way if one not in ready]
            for one in ready:
                seen: Seen | None = None
                try:
                    seen = one.future.result()
                except ModelError:
                    raise
                except CancelledError:  # dropped: nobody looked
                    pass
                except M2FPStreamError as error:
                    self._on_failure(one.name, error)
                if not one.future.cancelled():
                    self._on_look(one.name, now_s - one.began_s, seen is None)
                try:
                    one.done(seen)
                except _ERRORS as error:
                    _log.warning("an answer (%s) failed: %s", one.name, type(error).__name__)
