"""Shows a live picture: never waits for a parse, never shows what no parse has cleared.

    capture    reads frames, drops the oldest when nobody has time for them
    follower   (one thread) makes small copies, measures flow, orders parses, carries covers
    parser     a process of its own; one parse at a time
    presenter  composes once, in time; what is not judged in time is the card
    outlets    one thread a sink; a window lives in the thread that calls `run()`

No queue can grow: capture's and an outlet's hold a few frames, the presenter's what fits into a
fixed share of memory.
"""

from __future__ import annotations

import errno
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from statistics import median
from typing import Annotated, Any, Final, Literal, Self, final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...core.errors import M2FPStreamError, ModelError, PromiseError
from ...core.plan import Why
from ...core.raw import RawFrame
from ...core.records import ParseResult
from ...policy import Findings, Policy
from ...sources.base import Captured
from ...tracking.flow import Analyser, Link, Small, small_size
from ...tracking.options import TrackingOptions
from ...tracking.propagate import Tracker
from ..workers import ParserQueue
from .capture import Capture, Inbox
from .control import PrivacyDial
from .follow import Follower
from .outlets import Outlet
from .present import Ages, Composer, Presenter
from .refine import Refiner
from .schedule import Coarseness, Schedule
from .stats import LiveStats

__all__ = ["LiveOptions", "LiveRun"]

_log = logging.getLogger(__name__)

_INBOX: Final = 4
_INBOX_ALIGNED: Final = 12
"""Frames that wait for the follower: what it may be behind while it works on a parse's answer. In
aligned the work on an answer comes in one piece, and the delay hides it."""

_TICK_S: Final = 0.02
_OBSERVE_S: Final = 1.0
_FINE_ENOUGH: Final = 1.5
"""How much finer than the small copies what they are made of has to be."""
_HISTORY_SPARE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 5.0
"""After parses that failed, the next is ordered a little later each time, up to this."""

_FOLLOW_ERRORS: Final = (cv2.error, ValueError, IndexError, ArithmeticError)

Picture = NDArray[np.uint8]


class LiveOptions(BaseModel):
    """How a live picture is processed."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    alignment: Annotated[
        Literal["aligned", "low_latency"],
        Field(
            title="Alignment",
            description=(
                "aligned delays the picture (about half a second) until the next parse has "
                "come and covers from both sides; low_latency shows now, covers more, and may show "
                "a head that comes out from behind something for a frame or two."
            ),
        ),
    ] = "aligned"
    max_delay_s: Annotated[
        float,
        Field(
            title="Longest delay",
            description="A frame that is not judged after so many seconds is covered whole.",
            gt=0,
            le=3,
        ),
    ] = 1.0
    person_after_s: Annotated[
        float,
        Field(
            title="Whole person after",
            description=(
                "When the last parse is so old (seconds), people are covered whole: what is "
                "carried lags behind who moves by then. More than 0.5 gives a warning."
            ),
            ge=0,
            le=10,
        ),
    ] = 0.4
    frame_after_s: Annotated[
        float,
        Field(
            title="Whole picture after",
            description=(
                "When the last parse is so old (seconds), the picture is covered whole. More than "
                "1 gives a warning."
            ),
            gt=0,
            le=10,
        ),
    ] = 1.0
    min_interval_s: Annotated[
        float,
        Field(
            title="Parse interval",
            description=(
                "Least seconds between the starts of two parses; 0: the next follows at once. "
                "Longer where the machine cannot keep up."
            ),
            ge=0,
            le=1,
        ),
    ] = 0.1
    max_interval_s: Annotated[
        float,
        Field(
            title="Longest parse interval",
            description="Parses become no rarer than this, whatever the machine.",
            gt=0,
            le=1,
        ),
    ] = 0.25
    full_interval_s: Annotated[
        float,
        Field(
            title="Full parse interval",
            description=(
                "Seconds between parses that look everywhere; those between follow the people who "
                "are known. Unexplained motion is always looked at fully."
            ),
            ge=0,
            le=10,
        ),
    ] = 2.0
    full_spacing_s: Annotated[
        float,
        Field(
            title="Full parse spacing",
            description=(
                "Least seconds between parses that look everywhere. They take longest, and covers "
                "grow old meanwhile; what moves unexplained stays covered until they have cleared "
                "it."
            ),
            ge=0,
            le=2,
        ),
    ] = 0.2
    parse_side: Annotated[
        int,
        Field(
            title="Parse size",
            description=(
                "Longer side of the copy that the parser gets, in pixels; smaller where the "
                "machine cannot keep up."
            ),
            ge=160,
            le=1280,
        ),
    ] = 640
    min_parse_side: Annotated[
        int,
        Field(
            title="Smallest parse size",
            description=(
                "The copy becomes no smaller than this where the machine cannot keep up, and no "
                "smaller than half the parse size: small heads are missed in small copies. Where "
                "even this is too slow, more is covered, as parses grow old."
            ),
            ge=160,
            le=1280,
        ),
    ] = 320
    parse_deadline_s: Annotated[
        float,
        Field(
            title="Parse deadline",
            description="A parse that takes longer is a hang; its process is replaced.",
            gt=0,
            le=60,
        ),
    ] = 5.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.person_after_s > self.frame_after_s:
            raise ValueError("person_after_s must not be above frame_after_s")
        return self

    def warnings(self) -> list[str]:
        """Returns what is weaker than promised, one sentence each."""
        weaker = []
        if self.person_after_s > 0.5:
            weaker.append(f"live.person_after_s is {self.person_after_s:g}, promised is 0.5")
        if self.frame_after_s > 1.0:
            weaker.append(f"live.frame_after_s is {self.frame_after_s:g}, promised is 1.0")
        return weaker


@final
class LiveRun:
    """One live run. Use once: `run()`, which ends with the source or by `stop()`.

    Args:
        capture: not yet connected.
        outlets: not yet open.
        composer, parser, policy, tracking, options: see there. `parser` is the guard.
        refiner: a slow fine parser that adds to what the guard finds.
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
        parser: ParserQueue,
        policy: Policy,
        tracking: TrackingOptions,
        options: LiveOptions,
        dial: PrivacyDial,
        stats: LiveStats,
        refiner: Refiner | None = None,
        on_second: Callable[[], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self._capture, self._outlets, self._composer = capture, outlets, composer
        self._parser, self._policy, self._options = parser, policy, options
        self._tracking, self._dial, self._stats = tracking, dial, stats
        self._refiner = refiner
        self._on_second = on_second or (lambda: None)
        self._notice = on_notice or (lambda _: None)
        self._aligned = options.alignment == "aligned"
        self._stopping = threading.Event()
        self._inbox = Inbox(_INBOX_ALIGNED if self._aligned else _INBOX)
        self._answers: deque[tuple[int, float, Future[ParseResult]]] = deque()
        self._failures = 0
        self._warm = False
        self._pause_until_s = 0.0
        self._error: BaseException | None = None
        self._schedule = Schedule(
            shortest_s=options.min_interval_s,
            longest_s=options.max_interval_s,
            side=options.parse_side,
            late_s=max(0.1, options.person_after_s),
            smallest_side=options.min_parse_side,
        )
        self._parses_s: list[float] = []
        """How long the parses took that were answered since the schedule was last told."""

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
            SinkError, UsageError: a sink cannot be opened, or the last one has failed for good (a
                reader of a pipe that leaves just ends the run).
            ModelError: the parser cannot be started.
            PromiseError: a promise could not be kept.
        """
        for sentence in self._options.warnings():
            self._notice(sentence)
        opened: list[Outlet] = []
        presenter: Presenter | None = None
        follower: threading.Thread | None = None
        try:
            size_wh = self._capture.connect().size_wh
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

    def facts(self) -> dict[str, Any]:
        """Returns what was measured so far, as JSON values."""
        return self._stats.summary(
            fine=None if self._refiner is None else self._refiner.facts(),
            captured=self._capture.frames,
            dropped=self._inbox.dropped,
            reconnects=self._capture.reconnects,
            source="away" if self._capture.away else "up",
            level=self._dial.level.value,
            parse_interval_ms=round(self._schedule.interval_s * 1e3, 1),
            parse_side=self._schedule.side,
            taken_share=round(self._schedule.share, 2),
            sinks={
                outlet.name: {
                    "up": outlet.up,
                    "written": outlet.written,
                    "dropped": outlet.dropped,
                    "failures": outlet.failures,
                }
                for outlet in self._outlets
            },
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
            away_s=self._capture.options.away_s,
            steady=self._aligned,
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
        options = self._options
        analyser = Analyser()
        follower = Follower(
            Tracker(self._tracking),
            aligned=self._aligned,
            full_interval_s=options.full_interval_s,
            full_spacing_s=options.full_spacing_s,
            history_s=max(options.frame_after_s, options.max_delay_s) + _HISTORY_SPARE_S,
            reverse=analyser.reverse,
        )
        small_wh = small_size(size_wh, self._tracking.area)
        worker = _Following(follower, analyser, small_wh, options.parse_side, self._refiner)
        coarseness = Coarseness(full_side=options.parse_side, longest=max(size_wh))
        try:
            captured_before = dropped_before = late_before = 0
            observed_s = time.monotonic()
            while True:
                captured, answers = self._wait()
                for frame_id, began_s, future in answers:
                    if not _failed(future) and follower.arrived(frame_id):
                        self._order(follower, worker, time.monotonic())
                    self._answer(follower, frame_id, began_s, future)
                if captured is not None:
                    try:
                        worker.take(captured)
                    finally:  # who shows it releases it, perhaps at once
                        presenter.expect(captured.frame)
                presenter.judge(follower.take())
                now_s = time.monotonic()
                self._order(follower, worker, now_s)
                if now_s - observed_s >= _OBSERVE_S:
                    observed_s = now_s
                    frames, dropped = self._capture.frames, self._inbox.dropped
                    late = presenter.late
                    self._schedule.observe(
                        now_s,
                        captured=frames - captured_before,
                        dropped=dropped - dropped_before,
                        parse_s=median(self._parses_s) if self._parses_s else None,
                        late=late - late_before,
                    )
                    self._inbox.share = self._schedule.share
                    news = coarseness.news(now_s, self._schedule.side)
                    if news is not None:
                        self._notice(news)
                    captured_before, dropped_before, late_before = frames, dropped, late
                    self._parses_s.clear()
                if captured is None and not answers and self._is_over(follower):
                    follower.finish()
                    presenter.judge(follower.take())
                    return
        except BaseException as error:  # the thread of `run()` raises it
            self._error = error
        finally:
            worker.close()

    def _wait(self) -> tuple[Captured | None, list[tuple[int, float, Future[ParseResult]]]]:
        """Waits a little for a frame or an answer."""
        with self._inbox.changed:
            if self._inbox.empty and not self._answers:
                self._inbox.changed.wait(_TICK_S)
            captured = self._inbox.get()
            answers = list(self._answers)
            self._answers.clear()
        return captured, answers

    def _is_over(self, follower: Follower) -> bool:
        if self._stopping.is_set():
            return True
        return self._inbox.ended and self._inbox.empty and not follower.in_flight

    def _order(self, follower: Follower, worker: _Following, now_s: float) -> None:
        """Orders the next parse where one is due."""
        if follower.in_flight or now_s < self._pause_until_s:
            return
        if not (self._inbox.ended or self._schedule.due(now_s)):
            return
        ordered = follower.order()
        if ordered is None:
            return
        frame_id, look = ordered
        copy = worker.copy_of(frame_id, self._schedule.side)
        self._schedule.started(now_s)
        if copy is None:
            follower.answer(frame_id, None)
            return
        if self._refiner is not None:
            self._refiner.remember(frame_id)
        future = self._parser.submit(copy, frame_id=frame_id, look=look)

        def done(answered: Future[ParseResult]) -> None:
            with self._inbox.changed:
                self._answers.append((frame_id, now_s, answered))
                self._inbox.changed.notify_all()

        future.add_done_callback(done)

    def _answer(
        self, follower: Follower, frame_id: int, began_s: float, future: Future[ParseResult]
    ) -> None:
        findings: Findings | None = None
        try:
            result = future.result()
            findings = self._policy.findings(result, whole=True)
            if self._refiner is not None:
                findings = self._refiner.merged(frame_id, findings)
            self._stats.doubt(result.doubts)
            if findings.people.any():
                self._stats.presence()
            self._failures = 0
        except ModelError:
            raise
        except CancelledError:
            pass
        except (M2FPStreamError, *_FOLLOW_ERRORS) as error:
            self._failures += 1
            self._pause_until_s = time.monotonic() + min(
                _LONGEST_PAUSE_S, 0.05 * 2 ** min(10, self._failures)
            )
            _log.warning("frame %d: %s", frame_id, error)
            if self._failures == 1:
                self._notice(f"the parser failed: {error}; everything it knew is covered")
        took_s = time.monotonic() - began_s
        # The first parse, and one after a failure, includes the start of a process.
        if self._warm:
            self._parses_s.append(took_s)
        self._warm = findings is not None
        self._stats.parse(took_s, failed=findings is None)
        follower.answer(frame_id, findings)


@final
class _Following:
    """Feeds the follower: small copies, flow, and the copies that the parser may get."""

    def __init__(
        self,
        follower: Follower,
        analyser: Analyser,
        small_wh: tuple[int, int],
        parse_side: int,
        refiner: Refiner | None,
    ) -> None:
        self._follower, self._analyser, self._small_wh = follower, analyser, small_wh
        self._parse_side, self._refiner = parse_side, refiner
        self._copy_side = max(parse_side, math.ceil(_FINE_ENOUGH * max(small_wh)))
        self._copies: dict[int, Picture] = {}
        self._first = True
        self._seen = 0

    def take(self, captured: Captured) -> None:
        """Takes the next frame."""
        frame = captured.frame
        self._seen += 1
        try:
            start = self._take(frame, captured.restart)
        except _FOLLOW_ERRORS as error:
            _log.warning("frame %d: tracking failed: %s", frame.frame_id, type(error).__name__)
            self._analyser.restart()
            self._follower.unknown(frame.frame_id, Why.TRACKING_FAILED)
            start = True
            if self._refiner is not None:
                self._refiner.restart(frame.frame_id)
        self._keep_copies(frame.frame_id, start)

    def _take(self, frame: RawFrame, restart: bool) -> bool:
        """Returns whether the frame starts a shot."""
        with frame.analysis() as bgr:
            copy = self._copies[frame.frame_id] = _halved(bgr, self._copy_side)
        small = Small.of(copy, self._small_wh)
        if small.uniform:
            self._analyser.restart()
            self._follower.unknown(frame.frame_id, Why.UNIFORM)
            small.wipe()
            return True
        why: Why | None = None
        if restart:
            self._analyser.restart()
            why = Why.RECONNECTED
        back = self._analyser.feed_back(small)
        ahead = None
        if back is None:
            why = why or (Why.NO_PARSE if self._seen == 1 else Why.CUT)
        elif self._follower.wants_ahead:
            ahead = self._analyser.reverse(back)
        time_s = frame.captured_ns / 1e9
        self._follower.add(frame.frame_id, time_s, small, back, ahead, start=why)
        if self._refiner is not None:
            try:
                self._refine(self._refiner, frame.frame_id, time_s, copy, back)
            except _FOLLOW_ERRORS as error:  # the guard does not depend on it
                _log.warning("refining failed: %s", type(error).__name__)
                self._refiner.restart(frame.frame_id)
        return back is None

    def _refine(
        self, refiner: Refiner, frame_id: int, time_s: float, copy: Picture, back: Link | None
    ) -> None:
        if back is None:
            refiner.restart(frame_id)
        else:
            refiner.step(frame_id, back, time_s)
        refiner.collect(time_s)
        if refiner.wants:
            fine = _resized(copy, self._parse_side)
            fine = copy.copy() if fine is copy else fine
            refiner.order(fine, frame_id=frame_id, time_s=time_s, size_wh=self._small_wh)

    def _keep_copies(self, newest: int, start: bool) -> None:
        """Keeps the copies that a parse may be ordered of: the newest, and a shot's first."""
        if start or self._first:
            self._shot_first = newest
            self._first = False
        for number in [n for n in self._copies if n not in (newest, self._shot_first)]:
            self._copies.pop(number).fill(0)

    def copy_of(self, frame_id: int, side: int) -> Picture | None:
        """Returns a copy of a frame for the parser, which zeroes it; no side is longer than `side`.

        None where there is none or none can be made. Made when it is asked for: a size that is no
        half or quarter of the frame's costs half as much as following a frame, and few are parsed.
        """
        copy = self._copies.pop(frame_id, None)
        if copy is None:
            return None
        resized: Picture | None = None
        try:
            resized = _resized(copy, side)
        except _FOLLOW_ERRORS as error:
            _log.warning("frame %d: no copy to parse: %s", frame_id, type(error).__name__)
        if resized is not copy:
            copy.fill(0)
        return resized

    def close(self) -> None:
        """Zeroes everything."""
        for copy in self._copies.values():
            copy.fill(0)
        self._copies.clear()
        self._follower.close()


def _failed(future: Future[ParseResult]) -> bool:
    return future.cancelled() or future.exception() is not None


def _halved(bgr: Picture, side: int) -> Picture:
    """Returns a copy, halved as long as that is exact and its longer side stays `side` or more."""
    copy = bgr
    while True:
        height, width = copy.shape[:2]
        if height % 2 or width % 2 or max(height, width) < 2 * side:
            return bgr.copy() if copy is bgr else copy
        half_wh = width // 2, height // 2
        half = np.asarray(cv2.resize(copy, half_wh, interpolation=cv2.INTER_AREA), np.uint8)
        if copy is not bgr:
            copy.fill(0)
        copy = half


def _resized(picture: Picture, side: int) -> Picture:
    """Returns the picture with no side longer than `side`; itself where none is."""
    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale == 1:
        return picture
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
