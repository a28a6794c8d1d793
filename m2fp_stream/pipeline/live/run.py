"""Shows a live picture: every frame is looked at for faces before it is shown.

    capture    reads frames, drops the oldest when nobody has time for them
    follower   (one thread) makes copies, measures motion, orders looks, follows people, judges
    lookers    processes of their own: one for faces, one for people and parts, one for far looks
    presenter  composes once, in time; what is not judged in time is the card
    outlets    one thread a sink; a window lives in the thread that calls `run()`

No queue can grow: capture's and an outlet's hold a few frames, the follower's those whose look for
faces is under way, the presenter's what fits into a fixed share of memory.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from ...core.errors import M2FPStreamError, PromiseError
from ...core.safe import CoverLevel
from ...policy import Policy
from ...sources.base import Captured
from ..copies import MAP_SIDE, hidden_by, live_face_side, shrunk
from .capture import Capture, Inbox
from .control import PrivacyDial
from .follow import Follower
from .looking import Looking, Pools
from .options import LiveOptions
from .outlets import Outlet
from .present import Ages, Composer, Presenter
from .refine import Refiner
from .schedule import Coarseness, Load, Took
from .stats import LiveStats

__all__ = ["LiveRun"]

_log = logging.getLogger(__name__)

_INBOX: Final = 4
"""Frames that wait for the follower. Chosen."""

_UNANSWERED: Final = 3
"""Frames whose look for faces may be under way at once: more would be late all the same. Chosen."""

_TICK_S: Final = 0.02
_OBSERVE_S: Final = 1.0
_USUAL_RATE: Final = 25.0
"""Frames a second of a source that does not say; it is measured soon."""
_FINE_KEPT_S: Final = 12.0
"""For so long frames stay known where a second parser is on: a parse takes seconds. Chosen, not
measured."""


@final
class LiveRun:
    """One live run. Use once: `run()`, which ends with the source or by `stop()`.

    Args:
        capture: not yet connected.
        outlets: not yet open.
        composer, pools, policy, options: see there.
        refiner: a slow second parser that adds to what looks find.
        dial: how much is hidden; others may turn it.
        stats: filled while it runs.
        on_second: called about once a second from the thread of `run()`.
        on_notice: gets sentences for the user, from any thread.
    """

    def __init__(
        self,
        *,
        capture: Capture,
        outlets: Sequence[Outlet],
        composer: Composer,
        pools: Pools,
        policy: Policy,
        options: LiveOptions,
        dial: PrivacyDial,
        stats: LiveStats,
        refiner: Refiner | None = None,
        on_second: Callable[[], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self._capture, self._outlets, self._composer = capture, outlets, composer
        self._pools, self._policy, self._options = pools, policy, options
        self._dial, self._stats = dial, stats
        self._refiner = refiner
        self._on_second = on_second or (lambda: None)
        self._notice = on_notice or (lambda _: None)
        self._stopping = threading.Event()
        self._inbox = Inbox(_INBOX)
        self._answered = False
        self._error: BaseException | None = None
        self._load = self._new_load(options.look_size)
        self._failing: set[str] = set()
        self._took = Took("people", "faces")
        """How long the looks took that were answered since the load was last told."""

    def _new_load(self, side: int) -> Load:
        options = self._options
        return Load(
            options.rates(),
            side=side,
            smallest_side=options.min_look_size,
            late_s=max(0.1, options.person_after_s),
            delay_s=options.judged_after_s,
        )

    def stop(self) -> None:
        """Ends the run soon; any thread, also a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Runs until the source ends, `stop()` is called or something cannot be mended.

        Whatever ends it, what the sinks got is completed: each frame in it was covered by what was
        known then, and an error that comes later takes nothing back. Dropped is what a sink has
        begun where a promise could not be kept, composing failed, or the sink itself did so in
        a way it does not know.

        Raises:
            SourceError: the source cannot be opened, or a file cannot be read on; what was read
                before is shown first.
            UsageError: a zone reaches outside the picture; also as the next one.
            SinkError, UsageError: a sink cannot be opened, or the last one has failed for good (a
                reader of a pipe that leaves just ends the run).
            ModelError: a looker cannot be started.
            PromiseError: a promise could not be kept.
        """
        for sentence in self._options.warnings():
            self._notice(sentence)
        opened: list[Outlet] = []
        presenter: Presenter | None = None
        follower: threading.Thread | None = None
        try:
            size_wh = self._capture.connect().size_wh
            self._check_zones(size_wh)
            self._load = self._new_load(live_face_side(size_wh, self._options.look_size))
            for outlet in self._outlets:
                outlet.open(size_wh)
                opened.append(outlet)
            presenter = self._presenter(size_wh)
            presenter.start()
            follower = threading.Thread(
                target=self._follow_all, args=(presenter, size_wh), name="follower", daemon=True
            )
            follower.start()
            self._capture.start(self._inbox)
            self._watch(presenter, follower)
        except PromiseError as error:
            self._error = self._error or error
            raise
        finally:
            ended = self._inbox.ended and not self._stopping.is_set()
            self._stopping.set()
            if not self._capture.stop():
                _log.info("the source does not answer; its thread is left behind")
            self._inbox.end(drop=not ended)
            if follower is not None:
                follower.join()
            self._inbox.end(drop=True)  # what a follower that failed left there
            if presenter is not None:
                presenter.close(show_rest=ended and self._is_safe(presenter))
            for outlet in sorted(opened, key=lambda one: one.patience_s):  # the slow ones last
                outlet.close(complete=self._is_safe(presenter))
        self._raise_error(presenter)
        if self._capture.error is not None:
            raise self._capture.error

    def _check_zones(self, size_wh: tuple[int, int]) -> None:
        self._policy.zones.check(size_wh)
        if self._policy.zones.kept:
            self._notice("people in a keep-zone are left alone, whoever they are")

    def facts(self) -> dict[str, Any]:
        """Returns what was measured so far, as JSON values."""
        return self._stats.summary(
            fine=None if self._refiner is None else self._refiner.facts(),
            captured=self._capture.frames,
            dropped=self._inbox.dropped + self._inbox.left_out,
            reconnects=self._capture.reconnects,
            source="away" if self._capture.away else "up",
            waiting_for=self._capture.waiting_for,
            level=self._dial.level.value,
            zones=len(self._policy.zones.covered),
            zones_inverted=self._policy.zones.invert,
            keep_zones=len(self._policy.zones.kept),
            given_way=self._load.step,
            look_side=self._load.side,
            taken_share=round(self._load.share, 2),
            sinks={outlet.name: outlet.facts() for outlet in self._outlets},
        )

    # --- the thread of `run()` ---

    def _presenter(self, size_wh: tuple[int, int]) -> Presenter:
        options = self._options
        return Presenter(
            composer=self._composer,
            policy=self._policy,
            outlets=self._outlets,
            dial=self._dial,
            stats=self._stats,
            ages=Ages(options.person_after_s, options.frame_after_s),
            deadline_s=options.max_delay_s,
            away_s=lambda: self._capture.away_after_s,
            size_wh=size_wh,
            why_away=lambda: self._capture.away,
        )

    def _watch(self, presenter: Presenter, follower: threading.Thread) -> None:
        """Pumps the window, looks after everybody, returns when the run is to end."""
        pumped = [outlet for outlet in self._outlets if not outlet.own_thread]
        second_s = time.monotonic()
        while not self._stopping.is_set():
            busy = False
            for outlet in pumped:
                busy |= outlet.pump()
            alive = follower.is_alive()
            self._raise_error(presenter)
            if self._outlets and all(outlet.over is not None for outlet in self._outlets):
                self._raise_over()
                return  # whoever looked has left
            if not alive:
                return  # the source ended, and every frame was judged
            if time.monotonic() - second_s >= _OBSERVE_S:
                second_s = time.monotonic()
                self._on_second()
            if not busy:
                self._stopping.wait(_TICK_S)

    def _errors(self, presenter: Presenter | None) -> list[BaseException]:
        """Returns what ends the run. A source that fails does not: it ends as a source ends."""
        errors = (
            self._error,
            None if presenter is None else presenter.error,
            self._capture.error if isinstance(self._capture.error, PromiseError) else None,
            *(outlet.error for outlet in self._outlets),
        )
        return [error for error in errors if error is not None]

    def _raise_error(self, presenter: Presenter) -> None:
        for error in self._errors(presenter):
            raise error

    def _is_safe(self, presenter: Presenter | None) -> bool:
        """Says whether what was composed may be kept: no promise was broken, composing worked."""
        composing = presenter is None or presenter.error is None
        errors = self._errors(presenter)
        return composing and not any(isinstance(error, PromiseError) for error in errors)

    def _raise_over(self) -> None:
        """Raises why no sink is left, unless it is that a reader has gone."""
        for outlet in self._outlets:
            if outlet.over is not None and getattr(outlet.over, "errno", None) != errno.EPIPE:
                raise outlet.over

    # --- the follower's thread ---

    def _follow_all(self, presenter: Presenter, size_wh: tuple[int, int]) -> None:
        looking: Looking | None = None
        try:
            follower, looking = self._follower(size_wh)
            seconds = _Seconds(time.monotonic())
            coarseness = Coarseness(full_side=max(looking.faces_wh(size_wh)), longest=max(size_wh))
            level = CoverLevel.PARTS
            while True:
                overdue = follower.overdue(self._options.judged_after_s)
                self._inbox.share = self._load.taken(
                    1 / follower.interval_s, waits=follower.waits, overdue=overdue
                )
                follower.thinned = looking.hurried = self._inbox.share < self._load.share
                captured = self._wait(looking)
                now_s = time.monotonic()
                if captured is not None:
                    self._take(captured, looking, presenter, now_s)
                if self._dial.level is not level:
                    level = self._dial.level
                    follower.hide(hidden_by(self._policy, whole=level is CoverLevel.PERSON))
                over = captured is None and self._is_over(looking)
                verdicts = looking.advance(now_s, all_of_them=over)
                if any(one.cover is not None and one.cover.laid for one in verdicts):
                    self._stats.presence()
                presenter.judge(verdicts)
                self._refine(follower, now_s)
                if now_s - seconds.at_s >= _OBSERVE_S:
                    self._observe(seconds, now_s, looking, follower)
                    news = coarseness.news(now_s, max(looking.faces_wh(size_wh)))
                    if news is not None:
                        self._notice(news)
                if over:
                    return
        except BaseException as error:  # the thread of `run()` raises it
            self._error = error
        finally:
            if looking is not None:
                looking.close()

    def _follower(self, size_wh: tuple[int, int]) -> tuple[Follower, Looking]:
        options = self._options
        follower = Follower(
            size_wh=size_wh,
            map_wh=shrunk(size_wh, MAP_SIDE),
            rate=float(self._capture.connect().average_rate or _USUAL_RATE),
            hidden=hidden_by(self._policy),
            rates=options.rates(),
            kept_s=0.0 if self._refiner is None else _FINE_KEPT_S,
        )
        looking = Looking(
            follower,
            self._pools,
            look_side=options.look_size,
            faces_side=self._load.side,
            delay_s=options.judged_after_s,
            on_answer=self._wake,
            on_look=self._looked,
            on_failure=self._failed,
        )
        return follower, looking

    def _wake(self) -> None:
        with self._inbox.changed:
            self._answered = True
            self._inbox.changed.notify_all()

    def _wait(self, looking: Looking) -> Captured | None:
        """Waits for a frame, an answer, or until a frame is due; returns the frame."""
        free = looking.behind < _UNANSWERED
        with self._inbox.changed:
            if not self._answered and (self._inbox.empty or not free):
                due_s = looking.due_s()
                wait_s = _TICK_S if due_s is None else due_s - time.monotonic()
                if wait_s > 0:
                    self._inbox.changed.wait(min(_TICK_S, wait_s))
            self._answered = False
            return self._inbox.get() if free else None

    def _take(
        self, captured: Captured, looking: Looking, presenter: Presenter, now_s: float
    ) -> None:
        try:
            looking.take(captured, now_s)
            if self._refiner is not None:
                self._refiner.order(captured.frame, now_s)
        finally:  # who shows it releases it, perhaps at once
            presenter.expect(captured.frame)

    def _is_over(self, looking: Looking) -> bool:
        if self._stopping.is_set():
            return True
        return self._inbox.ended and self._inbox.empty and not looking.busy

    def _refine(self, follower: Follower, now_s: float) -> None:
        if self._refiner is not None and (found := self._refiner.collect(now_s)) is not None:
            follower.fine(*found)

    def _looked(self, name: str, seconds: float, failed: bool) -> None:
        self._stats.look(name, seconds, failed=failed)
        if failed:
            return
        self._failing.discard(name)
        self._took.add(name, seconds)

    def _failed(self, name: str, error: M2FPStreamError) -> None:
        _log.warning("%s: %s", name, error)
        if name not in self._failing:
            self._failing.add(name)
            self._notice(f"a look ({name}) failed: {error}; what it would have found is covered")

    def _observe(
        self,
        seconds: _Seconds,
        now_s: float,
        looking: Looking,
        follower: Follower,
    ) -> None:
        captured, late = self._capture.frames, self._inbox.dropped + looking.late
        self._load.observe(
            now_s,
            captured=captured - seconds.captured,
            late=late - seconds.late,
            people_s=self._took.median("people"),
            faces_share=(self._took.median("faces") or 0.0) / follower.interval_s,
        )
        seconds.at_s, seconds.captured, seconds.late = now_s, captured, late
        looking.faces_side = self._load.side
        follower.rates(self._load.rates)


@dataclass(slots=True)
class _Seconds:
    """What had happened when the load was last told."""

    at_s: float
    captured: int = 0
    late: int = 0
