"""Turns judged frames into composed ones, in order and in time; nobody to judge: the card.

One thread composes once for all sinks. It waits for nobody longer than the frame's deadline, so
that a parser, a tracker or a source that stands still shows as the card, not as an old picture.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, Protocol, final

import numpy as np

from ...core.labels import Label
from ...core.plan import CoverPlan, CoverState, Parsed, Propagated, Unknown, Why
from ...core.raw import RawFrame
from ...core.ring import BufferPool
from ...core.safe import CoverLevel, SafeFrame
from ...policy import Policy
from ...tracking.shape import lay_box
from ..solver.records import Cover
from .control import PrivacyDial, PrivacyRequest
from .follow import Verdict
from .outlets import Outlet
from .stats import LiveStats

__all__ = ["Ages", "Composer", "FrameStates", "Presenter"]

_log = logging.getLogger(__name__)

_HELD_BYTES: Final = 768 * 2**20
"""Memory for frames that wait for their verdict: 9.7 s of 1280x720 at 30 frames a second, 2.1 s of
1920x1080 at 60. The oldest beyond it is shown as the card."""

_HELD_AT_LEAST: Final = 64
"""Frames that may wait whatever they take; two seconds at 30 frames a second. Chosen."""

_AGED_S: Final = 1.0
"""From this age on a picture that still stands says so, and again so often: whole seconds.
Chosen."""
_AS_CONFIGURED: Final = PrivacyRequest()


class Composer(Protocol):
    """The one thing that may turn a raw frame into a safe one."""

    def compose(self, raw: RawFrame, state: CoverState) -> SafeFrame:
        """Returns the composed frame; total."""
        ...

    def aged(self, safe: SafeFrame, *, pts: int, age_s: float) -> SafeFrame:
        """Returns a composed frame once more, with its age on it; total."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Ages:
    """From which age of the oldest look that is due more is covered, in seconds (P3)."""

    person_s: float
    frame_s: float


@final
class FrameStates:
    """Turns verdicts into cover states, and covers more the older they are (P3)."""

    def __init__(self, policy: Policy, ages: Ages) -> None:
        self._policy, self._ages = policy, ages

    def of(
        self,
        raw: RawFrame,
        verdict: Verdict | None,
        request: PrivacyRequest = _AS_CONFIGURED,
        why: Why = Why.PARSER_SILENT,
    ) -> CoverState:
        """Returns the state of a frame.

        Args:
            raw: the frame.
            verdict: None where it was not judged in time.
            request: what people chose to hide, beyond what is configured.
            why: the reason, where there is no verdict.
        """
        if request.level is CoverLevel.FRAME:
            return Unknown(Why.ON_REQUEST)
        if verdict is None:
            return Unknown(why)
        if verdict.cover is None:
            return Unknown(verdict.why)
        if verdict.age_s >= self._ages.frame_s:
            return Unknown(Why.STALE)
        try:
            plan = self._plan(raw, verdict, verdict.cover, request)
        except Exception as error:  # total, as composing is: the frame is covered
            _log.warning("frame %d: no plan (%s)", raw.frame_id, type(error).__name__)
            return Unknown(Why.TRACKING_FAILED)
        fresh = verdict.own_look and verdict.age_s == 0
        return Parsed(plan) if fresh else Propagated(plan, verdict.age_s)

    def _plan(
        self, raw: RawFrame, verdict: Verdict, cover: Cover, request: PrivacyRequest
    ) -> CoverPlan:
        parts = cover.parts
        old = max(verdict.age_s, verdict.parts_age_s) >= self._ages.person_s
        if request.level is CoverLevel.PERSON or old:
            parts = np.where(parts > 0, np.uint8(Label.HUMAN), np.uint8(0))
            tracks = cover.tracks.copy()
            scale = parts.shape[1] / raw.size_wh[0]
            for one in cover.laid:
                lay_box(parts, tracks, one.mark, one.body, Label.HUMAN, scale)
            cover = replace(cover, parts=parts, tracks=tracks)
        return self._policy.plan(
            frame_id=raw.frame_id,
            size_wh=raw.size_wh,
            parts=cover.parts,
            tracks=cover.tracks,
            people=cover.places,
            silhouette=request.silhouette,
            sure=not old,  # who may be elsewhere by now is not left alone
        )


@dataclass(slots=True, eq=False)
class _Held:
    raw: RawFrame
    captured_s: float
    verdict: Verdict | None = None


@final
class Presenter:
    """Composes frames and hands them to the outlets.

    Args:
        composer: makes the frames.
        policy: makes plans.
        outlets: who gets the frames.
        dial: how much is hidden.
        stats: what was shown is counted there.
        ages: see there.
        deadline_s: a frame not judged so long after its capture is shown as the card.
        away_s: says after how many seconds without a frame the card is shown, and again every
            half of them. Until then the last picture stays, with its age on it.
        size_wh: (width, height) of every frame.
        why_away: says why no frames come.
        held_bytes: memory for frames that wait for their verdict.
        held_at_least: frames that may wait whatever they take.
        aged_s: from this age on a picture that still stands says so, and again so often.
    """

    def __init__(
        self,
        *,
        composer: Composer,
        policy: Policy,
        outlets: Sequence[Outlet],
        dial: PrivacyDial,
        stats: LiveStats,
        ages: Ages,
        deadline_s: float,
        away_s: Callable[[], float],
        size_wh: tuple[int, int],
        why_away: Callable[[], Why | None],
        held_bytes: int = _HELD_BYTES,
        held_at_least: int = _HELD_AT_LEAST,
        aged_s: float = _AGED_S,
    ) -> None:
        self._composer, self._outlets = composer, outlets
        self._dial, self._stats = dial, stats
        self._states = FrameStates(policy, ages)
        self._deadline_s, self._away_s = deadline_s, away_s
        self._size_wh, self._why_away = size_wh, why_away
        self._most_held = max(held_at_least, held_bytes // (3 * size_wh[0] * size_wh[1]))
        self._aged_s = aged_s
        self._held: deque[_Held] = deque()
        self._by_id: dict[int, _Held] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._judged_any = False
        self._pool = BufferPool(keep=1)
        self._last_safe: SafeFrame | None = None
        self._last_pts: int | None = None
        self._last_captured_s = self._last_shown_s = self._last_new_s = time.monotonic()
        self._shown_request = dial.request
        self._thread = threading.Thread(target=self._work, name="presenter", daemon=True)
        self.error: BaseException | None = None
        self.late = 0
        """Frames shown as the card because nothing was known about them in time."""

    def start(self) -> None:
        """Starts composing."""
        self._last_captured_s = self._last_shown_s = self._last_new_s = time.monotonic()
        self._thread.start()

    def expect(self, raw: RawFrame) -> None:
        """Takes a frame; in order. The presenter releases it."""
        held = _Held(raw, raw.captured_ns / 1e9)
        with self._changed:
            if self._ended:
                raw.release()
                return
            self._held.append(held)
            self._by_id[raw.frame_id] = held
            self._changed.notify_all()

    def judge(self, verdicts: Sequence[Verdict]) -> None:
        """Says what is known about frames that were expected; too late is no error."""
        if not verdicts:
            return
        with self._changed:
            for verdict in verdicts:
                held = self._by_id.get(verdict.frame_id)
                if held is not None and held.verdict is None:
                    held.verdict = verdict
                    self._judged_any = True
            self._changed.notify_all()

    def close(self, *, show_rest: bool) -> None:
        """Ends composing; with `show_rest`, the frames held are shown first, each when due."""
        with self._changed:
            self._ended = True
            if not show_rest:
                self._drop()
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        self._drop()

    def _drop(self) -> None:
        while self._held:
            self._held.popleft().raw.release()
        self._by_id.clear()

    # --- the composing thread ---

    def _work(self) -> None:
        try:
            while True:
                held, card = self._next()
                if isinstance(held, SafeFrame):
                    self._show_again(held)
                elif held is not None:
                    try:
                        self._show(held)
                    finally:
                        held.raw.release()
                elif card is not None:
                    self._show_card(card)
                else:
                    return
        except BaseException as error:  # whoever watches raises it
            self.error = error

    def _next(self) -> tuple[_Held | SafeFrame | None, Why | None]:
        """Waits for what is to be shown next: a frame, the last one again, or the card.

        Nothing of these at the end.
        """
        with self._changed:
            while True:
                now_s = time.monotonic()
                if self._held:
                    at_s = self._due_s(self._held[0])
                    if at_s <= now_s or len(self._held) > self._most_held:
                        held = self._held.popleft()
                        self._by_id.pop(held.raw.frame_id, None)
                        return held, None
                elif self._ended:
                    return None, None
                else:
                    at_s = float("inf")
                # No picture stands longer than this after its capture.
                away_s = self._away_s()
                card_s = max(self._last_captured_s + away_s, self._last_new_s + away_s / 2)
                if card_s <= now_s and not self._ended:
                    return None, self._why_now()
                aged_s = card_s
                if self._last_safe is not None:
                    old_s = self._last_captured_s + self._aged_s
                    aged_s = min(card_s, max(old_s, self._last_shown_s + self._aged_s))
                    if aged_s <= now_s and not self._ended:
                        if self._hides_too_little():
                            return None, Why.ON_REQUEST
                        return self._last_safe, None
                wait_s = max(0.0, min(at_s, aged_s) - now_s) if not self._ended else 0.01
                self._changed.wait(min(wait_s, self._aged_s))

    def _hides_too_little(self) -> bool:
        """Says whether the last picture was covered before people chose to hide more."""
        level = self._dial.request.level
        return level is not self._shown_request.level and level is not CoverLevel.PARTS

    def _due_s(self, held: _Held) -> float:
        if held.verdict is None:
            return held.captured_s + self._deadline_s
        return 0.0

    def _why_now(self) -> Why:
        return self._why_away() or (self._why_unjudged() if self._held else Why.SOURCE_AWAY)

    def _why_unjudged(self) -> Why:
        return Why.PARSER_SILENT if self._judged_any else Why.NO_PARSE

    def _show(self, held: _Held) -> None:
        self._last_captured_s = held.captured_s
        raw = held.raw
        why = self._why_away() or self._why_unjudged()
        if held.verdict is None and why is Why.PARSER_SILENT:
            self.late += 1
        self._shown_request = self._dial.request
        state = self._states.of(raw, held.verdict, self._shown_request, why)
        raw.pts = self._rising(raw.pts)
        safe = self._composer.compose(raw, state)
        now_s = time.monotonic()
        covered = 1.0
        if not isinstance(state, Unknown):
            covered = float(np.count_nonzero(state.plan.cover)) / state.plan.cover.size
            if state.plan.left_alone:
                self._stats.left_alone()
        self._hand_out(safe, now_s - held.captured_s, covered)
        self._last_safe = None if isinstance(state, Unknown) else safe

    def _show_again(self, safe: SafeFrame) -> None:
        """Shows the last picture of a slow camera again, with its age on it."""
        now_s = time.monotonic()
        last_pts = self._last_pts if self._last_pts is not None else safe.pts
        pts = self._rising(last_pts + round((now_s - self._last_shown_s) * 1e6))
        again = self._composer.aged(safe, pts=pts, age_s=now_s - self._last_captured_s)
        for outlet in self._outlets:
            outlet.offer(again)
        self._last_shown_s = time.monotonic()

    def _show_card(self, why: Why) -> None:
        """Shows the card where there is no frame."""
        self._last_safe = None
        now_s = time.monotonic()
        width, height = self._size_wh
        pts = round(now_s * 1e6)
        if self._last_pts is not None:  # frames are shown late, and go on from where they were
            pts = self._last_pts + round((now_s - self._last_shown_s) * 1e6)
        with self._changed:
            if self._held:  # a frame that is shown later than usual keeps its own time
                pts = min(pts, self._held[0].raw.pts - 1)
        pts = self._rising(pts)
        raw = RawFrame(
            self._pool.take(height, width),
            frame_id=-1,
            pts=pts,
            time_base=Fraction(1, 1_000_000),
            captured_ns=time.monotonic_ns(),
            give_back=self._pool.give_back,
        )
        try:
            safe = self._composer.compose(raw, Unknown(why))
        finally:
            raw.release()
        self._hand_out(safe, 0.0, 1.0)

    def _hand_out(self, safe: SafeFrame, latency_s: float, covered: float) -> None:
        for outlet in self._outlets:
            outlet.offer(safe)
        self._last_shown_s = self._last_new_s = time.monotonic()
        self._stats.frame(safe.cover, latency_s, covered)

    def _rising(self, pts: int) -> int:
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        self._last_pts = pts
        return pts
