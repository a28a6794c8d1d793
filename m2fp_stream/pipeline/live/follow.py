"""Follows people through a live picture: which looks are wanted, and what is covered. It is pure.

No thread, no clock, no pixel: it is told of frames and of answers, in whatever order they come, and
says at any moment what is known about a frame. Frames are added in order, each with its look for
faces or, where that is late, without it; every other answer may come frames later and is about the
frame that was looked at. The solver is that of files.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean, median
from typing import Final, final

from ...core.plan import Why
from ...tracking.motion import Motion
from ...tracking.shape import PartLook
from ...tracking.sightings import Body, Face
from ...tracking.turned import TurnedLook
from ..solver.records import Cover, FineLook, Frame, Hidden, LookRates, PartOrder, Reach
from ..solver.solve import Solver

__all__ = ["Follower", "LookOrder", "Rates", "Verdict"]

_PEOPLE_DUE: Final = 1.15
"""Of the interval between looks for people; later than that, the look is due and its age counts.
The answer takes a frame or two. Chosen."""
_FAR_DUE: Final = 1.5
"""The same of far looks, which are rare by design: their age counts from then on. Chosen."""
_FAR_LONGEST_S: Final = 8.0
"""From one far look to the next on a slow machine, at most, until it counts as failed: on a core
where one takes 2.5 s, with looks for people and at parts beside it, they were 6 s apart."""
_TURNED_TOO: Final = 2.4
"""Far looks and those at turned copies take turns; so many times what a far look takes both take:
in CPU time 240 and 80 ms, but the latter are six looks that wait one by one (measured)."""
_RATE_FRAMES: Final = 24
"""Frames whose distances say how many a second come."""
_RATE_AT_FIRST: Final = 3
_RATE_BELIEVED: Final = 12
"""Distances from which a rate is told; the first frames of a camera come as they like."""
_OTHER_RATE: Final = 2.5
"""So far from the rate that is taken for true, everything that counts in frames starts anew: a
camera that claims 25 frames a second and gives one every two seconds. Chosen."""
_AHEAD: Final = 8
"""Frames by which numbers may be ahead of time, which is measured roughly, after a stall."""
_KEPT_S: Final = 2.0
"""Seconds for which it stays known what was seen: answers about older frames add nothing."""
_REMEMBERED_S: Final = 15.0
"""Seconds for which it stays known when a frame was: of a slow machine the first look of a shot may
take that long, and until it is answered nothing is shown."""


@final
@dataclass(frozen=True, slots=True)
class Rates:
    """How often is looked, in seconds.

    Attributes:
        people_s: between looks for people, at most.
        middle_s: between those that see people of middle size, where nobody known asks for them.
        far_s: between those at the size of the frame, for who is small in it.
        parts_s: between looks at the parts of one person, at least.
        parts_a_frame: looks at parts that one frame orders, at most.
        longest_s: from one look for people to the answer of the next, at most.
        lead_s: so much sooner than `people_s` says they are ordered, where answers take long.
        motion_s: between looks at one thing that moves unexplained and was looked at twice, and
            between those of middle reach that small ones ask for.
    """

    people_s: float = 0.25
    middle_s: float = 1.0
    far_s: float = 2.0
    parts_s: float = 0.2
    parts_a_frame: int = 3
    longest_s: float = 0.36
    lead_s: float = 0.0
    motion_s: float = 0.13


@final
@dataclass(frozen=True, slots=True)
class LookOrder:
    """A look for people that is wanted.

    Attributes:
        frame_id: at which frame.
        reach: how closely; None: only at turned copies.
        turns: quarters by which copies are turned and looked at for faces and people besides.
        first: nothing is shown until it is answered (P4).
        slow: it is made by who makes far looks, whatever its reach.
    """

    frame_id: int
    reach: Reach | None
    turns: tuple[int, ...] = ()
    first: bool = False
    slow: bool = False


@final
@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is known about one frame at one moment.

    Attributes:
        frame_id: of the frame.
        cover: None: nothing is known, for the reason in `why`.
        age_s: capture time since the oldest look at whole frames that is due (P3).
        parts_age_s: capture time since looks at parts, or closer ones at faces, fail, every one.
        own_look: whether the frame's own look for faces is in it.
        why: the reason, where nothing is known.
    """

    frame_id: int
    cover: Cover | None
    age_s: float = 0.0
    parts_age_s: float = 0.0
    own_look: bool = False
    why: Why = Why.NO_PARSE


@dataclass(slots=True, eq=False)
class _Moment:
    number: int
    frame_id: int
    time_s: float
    shot: int
    followed: bool
    why: Why
    generation: int
    """Of the solver that it was fed to."""
    faces: bool = False
    """Whether its look for faces was answered."""


@dataclass(slots=True, eq=False)
class _Clock:
    """When one kind of look at whole frames succeeded, in capture time."""

    seen_s: deque[float] = field(default_factory=lambda: deque[float](maxlen=64))
    took_s: deque[float] = field(default_factory=lambda: deque[float](maxlen=3))
    """How long the last answers took, in capture time."""

    def saw(self, time_s: float, now_s: float) -> None:
        self.seen_s.append(time_s)
        self.took_s.append(max(0.0, now_s - time_s))

    def rhythm_s(self, least_s: float) -> float:
        """Returns how far looks are apart that this machine manages: its own time is no failure."""
        pairs = list(pairwise(list(self.seen_s)[-3:]))
        gaps = [abs(later - earlier) for earlier, later in pairs]
        took_s = max(self.took_s, default=0.0)
        return min(_FAR_LONGEST_S, max(least_s, *gaps, least_s + _TURNED_TOO * took_s))

    def age_s(self, time_s: float, *, due_s: float) -> float:
        """Returns how old the look is at a moment; 0 until it is due."""
        since = min((abs(time_s - seen) for seen in self.seen_s), default=math.inf)
        return since if since > due_s else 0.0


def _new_clocks() -> dict[str, _Clock]:
    return {"faces": _Clock(), "people": _Clock(), "far": _Clock()}


@final
class Follower:
    """Holds what is known of the last seconds; see the module. Not thread-safe.

    Args:
        size_wh: (width, height) of the frames.
        map_wh: of the map that covers are drawn on.
        rate: frames a second, as the source says; measured when they come.
        hidden: what the policy hides.
        rates: how often is looked.
        kept_s: seconds for which frames stay known, for parsers that answer late.
    """

    def __init__(
        self,
        *,
        size_wh: tuple[int, int],
        map_wh: tuple[int, int],
        rate: float,
        hidden: Hidden,
        rates: Rates,
        kept_s: float = _KEPT_S,
    ) -> None:
        self._size_wh, self._map_wh = size_wh, map_wh
        self._hidden, self._rates = hidden, rates
        self._kept_s = max(_KEPT_S, kept_s)
        self._remembered_s = max(_REMEMBERED_S, kept_s)
        self._rate = rate
        self._times: deque[float] = deque(maxlen=_RATE_FRAMES)
        self.thinned = False
        """Whether frames are left out for a moment: they say nothing of the camera's rate then;
        anybody may set it."""
        self._moments: deque[_Moment] = deque()
        self._by_id: dict[int, _Moment] = {}
        self._number = self._added = self._generation = 0
        """The newest frame's number, in intervals between frames; how many were added."""
        self._place = 0.0
        """Where in time the newest frame is, in the same intervals."""
        self._shot = self._began_id = 0
        self._broken: Why | None = Why.NO_PARSE
        self._owed: Reach | None = None
        self._owes_far = self._owes_slow = False
        self.owes_middle = False
        """Whether a nearer look was ordered first, to be followed by one of middle reach."""
        self._first_shot = self._turned_shot = -1
        """Shots whose first look for people, and first looks at turned copies, were ordered."""
        self._clocks = _new_clocks()
        self._clocks_before = _new_clocks()
        """Of the shot before, some frames of which may not be judged yet."""
        self._parts_asked: dict[PartOrder, _Moment] = {}
        """Frames at which looks at parts were ordered that have not come."""
        self._failing_s: dict[bool, float] = {}
        """Capture time since which close looks fail: at parts (False), at faces (True)."""
        self._solver = self._new_solver()

    def _new_solver(self) -> Solver:
        return Solver(
            size_wh=self._size_wh,
            map_wh=self._map_wh,
            rate=self._rate,
            hidden=self._hidden,
            people_every=self._frames(self.people_s),
            motion_every=self._frames(self._rates.motion_s),
            parts_every=self._frames(self._rates.parts_s),
            parts_a_frame=self._rates.parts_a_frame,
            far_every_s=self._rates.far_s,
            middle_every=self._frames(self._rates.middle_s),
            live=True,
            kept_s=self._kept_s,
        )

    def _frames(self, seconds: float) -> int:
        return max(1, round(seconds * self._rate))

    @property
    def looks(self) -> dict[str, int]:
        """How many looks of each kind there were."""
        return dict(self._solver.looks)

    @property
    def interval_s(self) -> float:
        """Seconds from one frame to the next, as measured."""
        return 1 / self._rate

    @property
    def people_s(self) -> float:
        """Seconds from one look for people to the order of the next, at most."""
        return self._rates.people_s - self._rates.lead_s

    @property
    def waits(self) -> bool:
        """Whether the first look for people of the shot at hand is not answered (P4)."""
        return not self._clocks["far"].seen_s

    def overdue(self, delay_s: float) -> bool:
        """Says whether a look for people is so late that its age will count (P3).

        `delay_s`: so long after its capture a frame is judged; an answer may come until then.
        """
        if not self._moments:
            return False
        due_s = self._people_due_s + delay_s
        return self._clocks["people"].age_s(self._moments[-1].time_s, due_s=due_s) > 0

    @property
    def _people_due_s(self) -> float:
        return self._rates.people_s * _PEOPLE_DUE + 2 * self.interval_s

    def hide(self, hidden: Hidden) -> None:
        """Changes what is hidden, from the next verdict on."""
        self._hidden = hidden
        self._solver.hide(hidden)

    def rates(self, rates: Rates) -> None:
        """Changes how often is looked."""
        self._rates = rates
        self._apply_rates()

    def _apply_rates(self) -> None:
        self._solver.rates(
            LookRates(
                people_every=self._frames(self.people_s),
                motion_every=self._frames(self._rates.motion_s),
                middle_every=self._frames(self._rates.middle_s),
                far_every=self._frames(self._rates.far_s),
                parts_every=self._frames(self._rates.parts_s),
                parts_a_frame=self._rates.parts_a_frame,
            )
        )

    # --- frames ---

    def add(
        self,
        frame_id: int,
        time_s: float,
        motion: Motion,
        faces: Sequence[Face] | None,
        *,
        start: Why | None = None,
    ) -> None:
        """Takes the next frame.

        Args:
            frame_id: rising.
            time_s: capture time.
            motion: against the frame before.
            faces: what its look for faces saw; None where it is not there yet.
            start: why nothing that was known holds for it, where that is so.
        """
        self._measure_rate(time_s)
        self._count(time_s)
        why = start or self._broken or (Why.CUT if motion.cut else None)
        if why is not None:
            self._start_shot(frame_id)
            motion = Motion(True, None, motion.moved, motion.scale)
        else:
            why = self._moments[-1].why
        self._broken = None
        moment = _Moment(self._number, frame_id, time_s, self._shot, True, why, self._generation)
        self._moments.append(moment)
        self._by_id[frame_id] = moment
        found = () if faces is None else faces
        wanted = self._solver.wants_people(moment.number, motion, found)
        if wanted is not None:
            self._owe(wanted)
        self._solver.feed(Frame(moment.number, motion, found))
        if faces is not None:
            self._saw_faces(moment)
        self._forget(time_s)

    def unknown(self, frame_id: int, time_s: float, why: Why) -> None:
        """Takes a frame that cannot be followed, or the last one back; the next starts a shot."""
        if self._moments and self._moments[-1].frame_id == frame_id:
            self._moments.pop()
        self._count(time_s)
        moment = _Moment(self._number, frame_id, time_s, self._shot, False, why, self._generation)
        self._moments.append(moment)
        self._by_id[frame_id] = moment
        self._broken = Why.NO_PARSE
        self._owed = None
        self._forget(time_s)

    def _start_shot(self, frame_id: int) -> None:
        self._shot += 1
        self._began_id = frame_id
        self._owed = None
        self._owes_far = self._owes_slow = self.owes_middle = False
        self._clocks_before, self._clocks = self._clocks, _new_clocks()
        self._failing_s.clear()

    def _count(self, time_s: float) -> None:
        """Numbers the next frame: those that are missing before it count, too.

        Who walks on while nothing comes would else seem to have made one leap, and to go on so.
        """
        if self._moments:
            passed = (time_s - self._moments[-1].time_s) * self._rate
            # Frames that come at once after a stall were counted with it.
            self._place = max(self._place + passed, self._number - _AHEAD)
        self._number = max(self._number + 1, round(self._place))
        self._added += 1

    def _measure_rate(self, time_s: float) -> None:
        if self.thinned:
            self._times.clear()
            return
        self._times.append(time_s)
        if len(self._times) < _RATE_AT_FIRST:
            return
        times = list(self._times)
        gaps = sorted(later - earlier for earlier, later in pairwise(times))
        believed = len(gaps) >= _RATE_BELIEVED
        # Of frames that come in pairs the median is now the one, now the other distance; a stall
        # makes the mean long. What has changed shows in both. Of few frames, a stall or a burst
        # is no rate: a camera is slow where every gap says so.
        usual = (median(gaps), mean(gaps[:-1])) if believed else (gaps[0],)
        rate = min(
            (1 / max(1e-3, gap) for gap in usual), key=lambda one: abs(math.log(one / self._rate))
        )
        faster = believed and rate / self._rate >= _OTHER_RATE
        if faster or self._rate / rate >= _OTHER_RATE:
            self._rate = rate
            self._solver = self._new_solver()
            self._generation += 1
            self._place = float(self._number)
            self._broken = self._broken or Why.NO_PARSE
        elif (
            believed
            and self._added % _RATE_FRAMES == 0
            and abs(rate - self._rate) > 0.1 * self._rate
        ):
            self._rate = rate
            self._apply_rates()

    def _forget(self, time_s: float) -> None:
        while self._moments and time_s - self._moments[0].time_s > self._remembered_s:
            del self._by_id[self._moments.popleft().frame_id]
        if self._added % 32 == 0 and not self.waits:  # whom the first look saw must be known
            self._solver.forget_before(self._number)

    # --- which looks are wanted ---

    def wants(self, *, near: bool, far: bool, middle_s: float = 0.0) -> list[LookOrder]:
        """Returns which looks for people the newest frame gets; asked once a frame.

        Args:
            near: whether a look of the nearer reaches would be made at once.
            far: the same of a far one and of looks at turned copies.
            middle_s: how long one of middle reach takes: where everybody would have to be covered
                whole until it is answered (P3), a nearer one comes first; where that is no help,
                it is made by who makes far ones.
        """
        moment = self._moments[-1]
        if not moment.followed:
            return []
        if self.waits:
            if self._first_shot == self._shot:
                return []
            self._first_shot, self._owed, self._owes_far = self._shot, None, False
            return [LookOrder(moment.frame_id, Reach.FAR, first=True)]
        return self._far_orders(moment, far=far, middle_s=middle_s) + self._near_orders(
            moment, near=near, middle_s=middle_s
        )

    def _far_orders(self, moment: _Moment, *, far: bool, middle_s: float) -> list[LookOrder]:
        """Returns what who makes far looks is to do, if anything: one thing after the other."""
        if self._owed is Reach.MIDDLE and middle_s + self.interval_s > self._rates.longest_s:
            self._owes_slow, self._owed = True, Reach.NEAR
        if not far:
            return []
        if self._turned_shot != self._shot:
            self._turned_shot = self._shot
            turns = tuple(self._solver.wants_turned(moment.number, Reach.FAR))
            return [LookOrder(moment.frame_id, None, turns)] if turns else []
        if self._owes_far:
            self._owes_far = False
            turns = tuple(self._solver.wants_turned(moment.number, Reach.FAR))
            return [LookOrder(moment.frame_id, Reach.FAR, turns)]
        if self._owes_slow:
            self._owes_slow = False
            return [LookOrder(moment.frame_id, Reach.MIDDLE, slow=True)]
        turns = tuple(self._solver.wants_turned(moment.number, self._owed))
        return [LookOrder(moment.frame_id, None, turns)] if turns else []

    def _near_orders(self, moment: _Moment, *, near: bool, middle_s: float) -> list[LookOrder]:
        reach = self._owed
        if not near or reach is None:
            return []
        since_s = self._clocks["people"].age_s(moment.time_s, due_s=0.0)
        if reach is Reach.MIDDLE and since_s + middle_s > self._rates.longest_s:
            reach = Reach.NEAR
        self.owes_middle = self._owed is Reach.MIDDLE and reach is Reach.NEAR
        self._owed = Reach.MIDDLE if self.owes_middle else None
        return [LookOrder(moment.frame_id, reach)]

    def _owe(self, reach: Reach) -> None:
        """Notes that a look is wanted; a far one stands for no nearer one, whose age counts."""
        if reach is Reach.FAR:
            self._owes_far, reach = True, Reach.NEAR
        self._owed = reach if self._owed is None else max(reach, self._owed)

    def parts(self, frame_id: int) -> list[PartOrder]:
        """Returns the close looks that are wanted at a frame: the newest, or one looked at late."""
        moment = self._current(frame_id)
        if moment is None:
            return []
        orders = self._solver.part_orders(moment.number)
        for order in orders:
            self._parts_asked[order] = moment
        return orders

    # --- answers ---

    def late_faces(self, frame_id: int, faces: Sequence[Face]) -> None:
        """Takes the answer of a look for faces that was not there when its frame was added."""
        moment = self._current(frame_id)
        if moment is not None and not moment.faces:
            self._solver.take_late(moment.number, faces=faces)
            self._saw_faces(moment)

    def people(self, frame_id: int, bodies: Sequence[Body] | None, reach: Reach) -> None:
        """Takes the answer of a look for people; None where it failed: another one is owed.

        So it is where the answer comes when nothing is known of its frame any more.
        """
        moment = self._current(frame_id)
        if bodies is None or moment is None:
            if frame_id >= self._began_id:  # perhaps so late that the frame is forgotten
                self._first_shot = -1
                self._owe(reach)
            return
        self._solver.take_late(moment.number, bodies=bodies, reach=reach)
        if reach is not Reach.FAR or self.waits:  # the first one of a shot stands for all
            self._clocks["people"].saw(moment.time_s, self._moments[-1].time_s)
        if reach is Reach.FAR:
            self._clocks["far"].saw(moment.time_s, self._moments[-1].time_s)

    def turned(self, frame_id: int, look: TurnedLook | None) -> None:
        """Takes the answer of a look at a turned copy; None where it failed: all are owed."""
        moment = self._current(frame_id)
        if look is None:
            self._solver.owe_turned()
        elif moment is not None:
            self._solver.take_late(moment.number, turned=[look])

    def part(self, order: PartOrder, look: PartLook | None) -> None:
        """Takes the answer of a close look at parts; None where it failed."""
        known = self._answered_part(order, failed=look is None)
        if look is not None and known:
            self._solver.take_parts(order, look)

    def closer(self, order: PartOrder, score: float | None, roll: float = 0.0) -> None:
        """Takes the score and the tilt of a closer look at a face; None where it failed."""
        known = self._answered_part(order, failed=score is None)
        if score is not None and known:
            self._solver.take_face(order, score, roll)

    def fine(self, frame_id: int, looks: Sequence[FineLook]) -> None:
        """Takes whom a second parser saw, seconds ago perhaps."""
        moment = self._current(frame_id)
        if moment is not None:
            self._solver.take_fine_late(moment.number, looks)

    def _answered_part(self, order: PartOrder, *, failed: bool) -> bool:
        """Notes that an order was answered; says whether the solver knows what it is about."""
        moment = self._parts_asked.pop(order, None)
        if moment is None or moment.generation != self._generation:
            return False
        if not failed:
            self._failing_s.pop(order.face, None)
        elif moment.shot == self._shot:
            self._failing_s.setdefault(order.face, moment.time_s)
        return True

    def _saw_faces(self, moment: _Moment) -> None:
        moment.faces = True
        self._clocks["faces"].saw(moment.time_s, self._moments[-1].time_s)

    def _current(self, frame_id: int) -> _Moment | None:
        """Returns what is known of a frame of the shot at hand."""
        moment = self._by_id.get(frame_id)
        if moment is None or moment.shot != self._shot or not moment.followed:
            return None
        return moment

    # --- verdicts ---

    def verdict(self, frame_id: int) -> Verdict:
        """Returns what is known about a frame now."""
        moment = self._by_id.get(frame_id)
        if moment is None:
            return Verdict(frame_id, None)
        if not moment.followed or moment.generation != self._generation:
            return Verdict(frame_id, None, why=moment.why)
        if not self._solver.knows(moment.number):  # remembered for its time alone
            return Verdict(frame_id, None, why=moment.why)
        clocks = self._clocks if moment.shot == self._shot else self._clocks_before
        if moment.shot < self._shot - 1 or not all(clock.seen_s for clock in clocks.values()):
            return Verdict(frame_id, None, why=moment.why)  # (P4)
        return Verdict(
            frame_id,
            self._solver.cover(moment.number),
            self._age_s(moment, clocks),
            self._parts_age_s(moment),
            moment.faces,
        )

    def _age_s(self, moment: _Moment, clocks: Mapping[str, _Clock]) -> float:
        ages = [
            0.0 if moment.faces else clocks["faces"].age_s(moment.time_s, due_s=0.0),
            clocks["people"].age_s(moment.time_s, due_s=self._people_due_s),
        ]
        far_s = clocks["far"].age_s(moment.time_s, due_s=0.0)
        due_s = _FAR_DUE * clocks["far"].rhythm_s(self._rates.far_s)
        ages.append(max(0.0, far_s - due_s))
        return max(ages)

    def _parts_age_s(self, moment: _Moment) -> float:
        # One that hangs holds up the looks for people, whose age counts.
        return max(0.0, moment.time_s - min(self._failing_s.values(), default=math.inf))
