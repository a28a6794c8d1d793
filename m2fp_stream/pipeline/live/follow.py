"""What is covered in each frame of a live picture, given parses that come late.

Frames are added as they are captured, parses are answered some frames later. Pure bookkeeping: no
thread, no clock, no pixels but the small copies, so that the same frames and answers always give
the same covers.

`low_latency` judges each frame when it is added, from what is known then; a late parse is taken to
its own frame and carried from there to now. `aligned` judges the frames between two parses when the
second one has come, from both sides, as the file pipeline does.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, final

import cv2
import numpy as np

from ...core.plan import Why
from ...core.records import Look
from ...policy import Findings
from ...tracking.flow import Link, Mask, Small
from ...tracking.propagate import Covered, State, Tracker
from ...tracking.tracks import grow, shrink_map

__all__ = ["Follower", "Verdict"]

_log = logging.getLogger(__name__)

_TRACKING_ERRORS: Final = (cv2.error, ValueError, IndexError, ArithmeticError)
_PEOPLE_REACH: Final = 1
"""Pixels of the small picture by which the outline of people grows a frame between parses: it is
what is covered when a parse is late, and an arm moves farther than the head that flow follows."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is known about one frame.

    Attributes:
        frame_id: the frame.
        covered: what is hidden, at the size of the small picture; None where nothing is known.
        people: (h, w) uint8, 1 where anybody may be, bodies that are only presumed and margins
            too; what is covered when parses are late, or on request.
        age_s: seconds to the nearest parse that this rests on.
        parsed: this very frame was parsed.
        why: where `covered` is None, the reason.
    """

    frame_id: int
    covered: Covered | None
    people: Mask | None = None
    age_s: float = 0.0
    parsed: bool = False
    why: Why = Why.NO_PARSE


@dataclass(slots=True, eq=False)
class _Moment:
    """One frame as it is remembered; `state` is None while nothing is known about it."""

    frame_id: int
    time_s: float
    shot: int
    why: Why
    small: Small
    back: Link | None  # to the frame before
    ahead: Link | None  # from the frame before; aligned only
    state: State | None = None
    people: Mask | None = None
    whole: Mask | None = None  # like `people`, but as hiding the whole person would cover
    held: Mask | None = None  # of `whole`: who was not in the last full parse
    parse_s: float = -1.0
    judged: bool = False


@final
class Follower:
    """Follows people through live frames. Not thread-safe.

    Args:
        tracker: steps and corrects states.
        aligned: see the module.
        full_interval_s: seconds after which a parse has to look everywhere again.
        full_spacing_s: seconds for which quick parses follow one that looked everywhere, whatever
            moves; until then it stays covered.
        history_s: how long a parse may take, in capture time; one that is later is of no use, and
            everything known is forgotten.
        reverse: turns a link round, e.g. `tracking.flow.Analyser.reverse`; used where `aligned`.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        aligned: bool,
        full_interval_s: float,
        full_spacing_s: float,
        history_s: float,
        reverse: Callable[[Link], Link],
    ) -> None:
        self._tracker = tracker
        self._reverse = reverse
        self._aligned = aligned
        self._full_interval_s, self._full_spacing_s = full_interval_s, full_spacing_s
        self._history_s = history_s
        self._moments: deque[_Moment] = deque()
        self._before: Small | None = None  # of the frame before the oldest moment; links show it
        self._anchor: _Moment | None = None  # the last parsed moment, oldest of the current shot
        self._shot = 0
        self._broken: Why | None = Why.NO_PARSE  # the next frame starts a shot, for this reason
        self._flying: int | None = None
        self._arrived: int | None = None  # answered, but not yet worked on
        self._full_s = -1e9
        self._suspicious = False
        self._failed = False
        self._verdicts: list[Verdict] = []

    @property
    def wants_ahead(self) -> bool:
        """True where the next frames' links will be needed both ways: there is something to carry.

        Measured with the frame they cost the same, but do not hold up an answer.
        """
        anchor = self._anchor
        known = anchor is not None and anchor.state is not None and bool(anchor.state.tracks)
        return self._aligned and (known or self._suspicious)

    @property
    def in_flight(self) -> bool:
        """True while an ordered parse has not been answered."""
        return self._flying is not None

    def take(self) -> list[Verdict]:
        """Returns the verdicts reached since the last call, one a frame, in any order."""
        verdicts, self._verdicts = self._verdicts, []
        return verdicts

    def add(
        self,
        frame_id: int,
        time_s: float,
        small: Small,
        back: Link | None,
        ahead: Link | None = None,
        *,
        start: Why | None = None,
    ) -> None:
        """Takes the next frame.

        Args:
            frame_id: rising.
            time_s: when it was captured.
            small: its small copies; the follower wipes them when it needs them no more.
            back: from this frame to the one before; None where it starts a shot.
            ahead: from the one before to this one; where `aligned` it is measured when it is
                needed and missing.
            start: why it starts a shot.
        """
        if self._broken is not None or start is not None or back is None:
            why = start or self._broken or Why.CUT
            self._end_shot()
            self._shot += 1
            self._broken = None
            back = ahead = None
        else:
            why = self._moments[-1].why
        moment = _Moment(frame_id, time_s, self._shot, why, small, back, ahead)
        previous = self._moments[-1] if self._moments else None
        self._moments.append(moment)
        if not self._aligned:
            if previous is not None and previous.state is not None and back is not None:
                self._step(previous, moment)
            self._judge(moment, self._forward_verdict(moment))
        if time_s - self._moments[0].time_s > self._history_s:
            self._forget(Why.PARSER_SILENT)

    def unknown(self, frame_id: int, why: Why) -> None:
        """Takes a frame that cannot be followed; the next one starts a shot."""
        self._end_shot()
        self._shot += 1
        self._broken = Why.NO_PARSE
        self._verdicts.append(Verdict(frame_id, None, why=why))

    def order(self) -> tuple[int, Look] | None:
        """Returns which frame is to be parsed next, and how; None: none is, or one is under way.

        What it returns counts as ordered: `answer` must follow.
        """
        if self._flying is not None or not self._moments:
            return None
        first = self._aligned and self._anchor is None and not self._failed
        current = [moment for moment in self._moments if moment.shot == self._shot]
        if not current:
            return None
        moment = current[0] if first else current[-1]
        if moment is self._anchor:
            return None
        since_s = moment.time_s - self._full_s
        asked = self._suspicious and since_s >= self._full_spacing_s
        look = Look.FULL if asked or since_s >= self._full_interval_s else Look.GLANCE
        if self._anchor is None or (not self._aligned and moment.state is None):
            look = Look.FRESH
        self._flying = moment.frame_id
        if not self._aligned and self._arrived is None:
            self._drop_before(moment)
        return moment.frame_id, look

    def arrived(self, frame_id: int) -> bool:
        """Says that an answer is there, to be given next; returns whether `order` may go first.

        So the next parse runs while this one's answer is worked on. How it looks is decided by
        what was known before.
        """
        same = any(m.frame_id == frame_id and m.shot == self._shot for m in self._moments)
        if frame_id != self._flying or not same or self._anchor is None:
            return False
        self._flying, self._arrived = None, frame_id
        return True

    def answer(self, frame_id: int, findings: Findings | None) -> None:
        """Takes the answer to what `order` asked for; None: the parse failed."""
        if frame_id == self._flying:
            self._flying = None
        self._arrived = None
        found = [moment for moment in self._moments if moment.frame_id == frame_id]
        if not found:
            return  # too late, or the shot ended before
        moment = found[0]
        try:
            if findings is not None:
                self._correct(moment, findings)
            elif moment.shot == self._shot:
                self._failed = True
            else:
                self._settle_tail(moment.shot)
        except _TRACKING_ERRORS as error:
            _log.warning("tracking failed: %s", type(error).__name__)
            self._forget(Why.TRACKING_FAILED)

    def finish(self) -> None:
        """Says that no frame follows: what was not judged yet is, from what is known."""
        if self._moments and self._flying is None:
            self._end_shot()
        self._give_up(self._moments)

    def close(self) -> None:
        """Wipes every small copy still held."""
        for moment in self._moments:
            moment.small.wipe()
        self._moments.clear()
        if self._before is not None:
            self._before.wipe()

    # --- states ---

    def _correct(self, moment: _Moment, findings: Findings) -> None:
        if self._aligned:
            self._advance(moment)
        state = moment.state
        if state is None and not findings.thorough:
            # What was known is lost, and a glance does not tell who else is there.
            if moment.shot == self._shot:
                self._forget(Why.TRACKING_FAILED)
            else:
                self._settle_tail(moment.shot)
            return
        same_shot = (one for one in self._moments if one.shot == moment.shot)
        anchor = next((one for one in same_shot if one.parse_s == one.time_s), None)
        lost = state is not None and self._tracker.loses(state, findings)
        corrected = self._tracker.correct(
            state or self._tracker.blank(moment.small),
            findings,
            moment.small,
            None if state is None else moment.back,
            moment.time_s,
        )
        height, width = moment.small.grey.shape
        people = np.minimum(shrink_map(findings.people, (width, height)), 1).astype(np.uint8)
        whole = people.copy()
        if findings.whole is not None:  # grown as tracks are when they are made of regions
            bodies = np.minimum(shrink_map(findings.whole, (width, height)), 1).astype(np.uint8)
            whole |= grow(bodies, 1)
        held = moment.held
        if findings.thorough:
            held = _missed(moment, whole)
            whole = whole if held is None else whole | held
        people |= (corrected.covered().parts > 0).astype(np.uint8)
        if not findings.thorough:  # a glance does not say that somebody left
            people = people if moment.people is None else people | moment.people
            whole = whole if moment.whole is None else whole | moment.whole
        whole |= people
        if self._aligned:
            self._settle(anchor, moment, corrected, whole, thorough=findings.thorough)
        moment.state, moment.people, moment.whole = corrected, people, whole
        moment.held, moment.parse_s = held, moment.time_s
        self._failed = False
        # What a glance left open, or a full parse saw once: only full ones clear it.
        self._suspicious = lost or bool(corrected.guard.unexplained.any())
        if findings.thorough:
            self._full_s = moment.time_s
        if moment.shot == self._shot:
            self._anchor = moment
        self._drop_before(moment)
        if self._aligned:
            if moment.shot != self._shot:
                self._settle_tail(moment.shot)
            else:
                self._advance(None)
        else:
            for earlier, later in zip(self._moments, list(self._moments)[1:], strict=False):
                if later.shot != moment.shot:
                    continue
                if earlier.state is None:
                    later.state, later.why = None, earlier.why
                else:
                    self._step(earlier, later)

    def _step(self, earlier: _Moment, later: _Moment) -> None:
        """Carries what is known from one moment to the next of the same shot."""
        assert earlier.state is not None
        assert later.back is not None
        try:
            later.state = self._tracker.step(earlier.state, later.back)
            if earlier.people is not None:
                later.people = _carried(earlier.people, later.back)
            if earlier.whole is not None:
                later.whole = _carried(earlier.whole, later.back)
            if earlier.held is not None:
                later.held = _carried(earlier.held, later.back)
            later.parse_s = earlier.parse_s
        except _TRACKING_ERRORS as error:
            _log.warning("tracking failed: %s", type(error).__name__)
            later.state, later.why = None, Why.TRACKING_FAILED
        self._note_suspicion(later)

    def _advance(self, until: _Moment | None) -> None:
        """Carries states forwards to `until`, or as far as there are frames."""
        for earlier, later in zip(self._moments, list(self._moments)[1:], strict=False):
            if earlier is until:
                return
            known = earlier.state is not None and later.shot == earlier.shot
            if known and later.state is None:
                self._step(earlier, later)

    def _note_suspicion(self, moment: _Moment) -> None:
        """Calls for a full parse where something moves apart from the people who are known.

        What moves beside them (a hand) is first looked at with them: a glance explains it, or not.
        """
        if not self._suspicious and moment.state is not None:
            self._suspicious = moment.state.guard.strays(moment.people)

    # --- verdicts ---

    def _judge(self, moment: _Moment, verdict: Verdict) -> None:
        moment.judged = True
        self._verdicts.append(verdict)

    def _forward_verdict(self, moment: _Moment) -> Verdict:
        state = moment.state
        if state is None:
            return Verdict(moment.frame_id, None, why=moment.why)
        return Verdict(
            moment.frame_id,
            state.covered().add_guard(state.guard.cover()),
            moment.whole,
            max(0.0, moment.time_s - moment.parse_s),
            moment.parse_s == moment.time_s,
        )

    def _settle(
        self,
        anchor: _Moment | None,
        parsed: _Moment,
        corrected: State,
        whole: Mask,
        *,
        thorough: bool,
    ) -> None:
        """Judges the frames from one parse up to the next from both sides.

        The first one, too: a sliver of a head that its own parse missed is what the next one finds.
        """
        gap = [m for m in self._moments if m.shot == parsed.shot and m.time_s < parsed.time_s]
        if anchor is None:
            self._give_up(gap)  # nothing is shown of before the first parse (P4)
            gap = []
        # The guard's view from behind counts only where the one from before covers something.
        # A glance behind clears nothing before it: it does not know who else was there.
        open_questions = [bool(m.state and m.state.guard.unexplained.any()) for m in gap]
        first_open = len(gap)
        if thorough and True in open_questions:
            first_open = open_questions.index(True)
        state, outline, later = corrected, whole, parsed
        for index in reversed(range(len(gap))):
            moment = gap[index]
            ahead = moment.state
            if ahead is None or anchor is None:
                verdict = Verdict(moment.frame_id, None, why=Why.TRACKING_FAILED)
            else:
                guarded = index >= first_open
                link = self._ahead(later)
                state = self._tracker.step(state, link, guarded=guarded)
                outline = _carried(outline, link)
                covered = (ahead.covered() | state.covered()).narrowed()
                if open_questions[index]:
                    unexplained = ahead.guard.cover()
                    if thorough:
                        unexplained = unexplained & state.guard.cover()
                    covered = covered.add_guard(unexplained)
                age_s = min(moment.time_s - anchor.time_s, parsed.time_s - moment.time_s)
                anybody = outline if moment.whole is None else outline | moment.whole
                verdict = Verdict(
                    moment.frame_id, covered, anybody, max(0.0, age_s), moment is anchor
                )
            self._judge(moment, verdict)
            later = moment

    def _ahead(self, moment: _Moment) -> Link:
        """Returns the link to a moment from the one before, measured now where it was not."""
        assert moment.back is not None  # of one shot
        return moment.ahead or self._reverse(moment.back)

    def _settle_tail(self, shot: int) -> None:
        """Judges what follows a shot's last parse from that side alone, and forgets the shot."""
        self._advance(None)
        for moment in self._moments:
            if moment.shot == shot and not moment.judged:
                self._judge(moment, self._forward_verdict(moment))
        rest = [moment for moment in self._moments if moment.shot != shot]
        if rest:
            self._drop_before(rest[0])

    def _give_up(self, moments: Iterable[_Moment]) -> None:
        for moment in moments:
            if not moment.judged:
                self._judge(moment, Verdict(moment.frame_id, None, why=moment.why))

    # --- forgetting ---

    def _end_shot(self) -> None:
        """Says that nothing known so far holds for the next frame."""
        self._suspicious = self._failed = False
        anchor, self._anchor = self._anchor, None
        flying = any(moment.frame_id == self._flying for moment in self._moments)
        if self._aligned and flying:
            return  # the frames up to it are judged when it is answered
        if self._aligned and anchor is not None:
            self._settle_tail(self._shot)
        self._clear()

    def _forget(self, why: Why) -> None:
        """Starts anew at the newest frame, as if it were the first of a shot."""
        newest = self._moments.pop()
        self._clear()
        self._anchor = None
        self._failed = self._suspicious = False
        self._shot += 1
        newest.shot, newest.why = self._shot, why
        newest.state = newest.back = newest.ahead = None
        newest.parse_s = -1.0
        self._moments.append(newest)

    def _drop_before(self, moment: _Moment) -> None:
        while self._moments and self._moments[0] is not moment:
            self._retire(self._moments.popleft())
        moment.ahead = None

    def _clear(self) -> None:
        while self._moments:
            self._retire(self._moments.popleft())

    def _retire(self, moment: _Moment) -> None:
        self._give_up([moment])
        # The next moment's link shows this one's copies until that moment goes, too.
        if self._before is not None:
            self._before.wipe()
        self._before = moment.small


def _missed(moment: _Moment, whole: Mask) -> Mask | None:
    """Returns whose whole outline a full parse did not touch: held until the next one (P5)."""
    if moment.whole is None:
        return None
    before = moment.whole if moment.held is None else moment.whole & (1 - moment.held)
    _, components = cv2.connectedComponents(before)
    seen = np.unique(components[whole > 0])
    missed = before & ~np.isin(components, seen)
    return missed.astype(np.uint8) if missed.any() else None


def _carried(people: Mask, link: Link) -> Mask:
    """Returns where people may be one frame on: where flow takes them, and where they were."""
    return grow(link.carry(people) | people, _PEOPLE_REACH)
