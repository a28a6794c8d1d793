"""Anonymises a recorded source: every frame, in order, covered from both sides of time.

Three threads and one parser process work on different frames at once; every decision depends on
pixels and options only, never on which of them was faster, so equal input gives equal output.

    reader    decodes, makes the small copies, measures flow, finds cuts, orders the regular parses
    solver    (the caller's thread) carries findings forwards and backwards through each gap
              between two parses, orders more parses where something moves unexplained
    writer    composes and hands composed frames to the sink

A gap is solved when the parse at its right end has come. A frame leaves the solver only once
`lookbehind_s` of later frames are solved, so that a person found late is still covered in the
frames before (P5). Raw frames live in memory only, and only this long.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Annotated, Final, Protocol, final

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..core.errors import M2FPStreamError, ModelError, ParserError
from ..core.labels import Label
from ..core.plan import CoverState, Parsed, Propagated, Unknown, Why
from ..core.raw import RawFrame
from ..core.records import Look, ParseResult
from ..core.safe import SafeFrame
from ..core.timing import seconds
from ..policy import Policy
from ..sinks.base import Sink
from ..sources.base import Source
from ..tracking.flow import Analyser, Link, Small, small_size
from ..tracking.options import TrackingOptions
from ..tracking.propagate import Covered, State, Tracker
from ..tracking.tracks import Track
from .slot import BoundedQueue, Stopped
from .workers import ParserQueue

__all__ = ["Composer", "OfflineOptions", "OfflineRun", "Outcome"]

_log = logging.getLogger(__name__)

_EVENT_SHARE: Final = 0.03  # of the small picture, newly unexplained: parse in between
_LEFTOVER_SHARE: Final = 0.03  # of it, unexplained from both sides: parse in the middle
_EVENT_AFTER: Final = 2  # frames after a parse before another may be called for
_FOLLOWED_SHARE: Final = 0.35
_LOST_FRAMES: Final = 3
_EMPTY_SHARE: Final = 0.7  # of a region carried back, showing known background: nobody there yet
_EMPTIED_SHARE: Final = 0.15  # and this much more of it than where it was found
_WIDER_SHARE: Final = 0.5
_READ_AHEAD: Final = 8
_WRITE_AHEAD: Final = 3


class OfflineOptions(BaseModel):
    """How recorded files are processed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)

    interval_s: Annotated[
        float,
        Field(
            title="Parse interval",
            description=(
                "Seconds between regular parses; cuts and unexplained motion bring more. Smaller "
                "is slower and closer."
            ),
            gt=0,
            le=2,
        ),
    ] = 0.25
    full_interval_s: Annotated[
        float,
        Field(
            title="Full parse interval",
            description=(
                "Seconds between parses that look everywhere; those between follow the people who "
                "are known. Unexplained motion is always looked at fully. Smaller is slower."
            ),
            ge=0,
            le=10,
        ),
    ] = 2.0
    max_gap: Annotated[
        int,
        Field(title="Largest gap", description="Frames between two parses at most.", ge=1, le=60),
    ] = 10
    lookbehind_s: Annotated[
        float,
        Field(
            title="Look-behind",
            description="How far back (seconds) a person found late is covered.",
            ge=0,
            le=30,
        ),
    ] = 2.0
    buffer_mb: Annotated[
        int,
        Field(
            title="Frame buffer",
            description="Memory for frames in look-behind (MB); a full buffer shortens it.",
            ge=16,
            le=65_536,
        ),
    ] = 176
    parse_side: Annotated[
        int,
        Field(
            title="Parse size",
            description="Longer side of the copy that the parser gets, in pixels.",
            ge=160,
            le=1280,
        ),
    ] = 640
    parse_deadline_s: Annotated[
        float,
        Field(
            title="Parse deadline",
            description="A parse that takes longer is a hang; its process is replaced.",
            gt=0,
            le=600,
        ),
    ] = 30.0
    max_failures: Annotated[
        int,
        Field(
            title="Failed parses",
            description=(
                "Frames around a failed parse are covered whole; after this many in a row the run "
                "ends without an output."
            ),
            ge=1,
            le=1000,
        ),
    ] = 3


class Composer(Protocol):
    """The one thing that may turn a raw frame into a safe one."""

    def compose(self, raw: RawFrame, state: CoverState) -> SafeFrame:
        """Returns the composed frame; total."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of one run; see `core.records.RunReport`."""

    frames: int
    parses: int
    covered_fraction: float
    unknown_frames: int
    doubts: tuple[tuple[str, int], ...]


@final
@dataclass(slots=True, eq=False)
class _Item:
    """One frame on its way from reader to writer."""

    frame: RawFrame
    time_s: float
    small: Small | None = None
    back: Link | None = None  # this frame to the one before
    ahead: Link | None = None  # the one before to this frame
    starts_shot: bool = False
    ends_shot: bool = False
    parse: Future[ParseResult] | None = None
    unknown: Why | None = None
    parsed: bool = False
    age_s: float = 0.0
    covered: Covered | None = None


@dataclass(slots=True)
class _Counts:
    frames: int = 0
    parses: int = 0
    covered: float = 0.0
    unknown: int = 0
    doubts: Counter[str] = field(default_factory=Counter[str])


@final
@dataclass(slots=True, eq=False)
class _Anchor:
    """A parsed frame with its corrected state, from which the next gap starts."""

    item: _Item
    state: State


@final
class OfflineRun:
    """One run over one source. Use once: `OfflineRun(...).run()`."""

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink[SafeFrame],
        composer: Composer,
        parser: ParserQueue,
        policy: Policy,
        tracking: TrackingOptions,
        options: OfflineOptions,
        on_frames: Callable[[int], None] | None = None,
        before_finish: Callable[[Outcome], None] | None = None,
    ) -> None:
        """Takes what the run needs; it opens and closes none of it but the sink.

        `on_frames` gets the frames written so far, `before_finish` what was done; what either
        raises ends the run without an output. Both are called from the thread of `run()`.
        """
        self._source = source
        self._sink = sink
        self._composer = composer
        self._parser = parser
        self._policy = policy
        self._options = options
        self._on_frames = on_frames
        self._before_finish = before_finish
        self._tracker = Tracker(tracking)
        self._analyser = Analyser()
        self._small_wh = small_size(source.info.size_wh, tracking.area)
        pixels = self._small_wh[0] * self._small_wh[1]
        self._event_px, self._leftover_px = _EVENT_SHARE * pixels, _LEFTOVER_SHARE * pixels
        width, height = source.info.size_wh
        self._frames_held = max(4, options.buffer_mb * 1_000_000 // (width * height * 3))
        self._read: BoundedQueue[_Item] = BoundedQueue(_READ_AHEAD)
        self._write: BoundedQueue[tuple[RawFrame, CoverState]] = BoundedQueue(_WRITE_AHEAD)
        self._held: deque[_Item] = deque()
        self._gap: list[_Item] = []
        self._anchor: _Anchor | None = None
        self._failures = 0
        self._counts = _Counts()
        self._written = 0
        self._last_duration: int | None = None
        self._write_error: BaseException | None = None

    def run(self) -> Outcome:
        """Processes the whole source and finishes the sink; returns what was done.

        On any error, an interrupt included, the sink is aborted: no output appears.

        Raises:
            SourceError, SinkError, ParserError, ModelError, PromiseError: see `core.errors`.
        """
        reader = threading.Thread(target=self._read_all, name="reader", daemon=True)
        writer = threading.Thread(target=self._write_all, name="writer", daemon=True)
        done = False
        try:
            reader.start()
            writer.start()
            for item in self._read:
                try:
                    self._take(item)
                except BaseException:
                    _drop(item)
                    raise
                if self._on_frames is not None:
                    self._on_frames(self._written)
            self._emit_all()
            self._write.finish()
            writer.join()
            done = self._write_error is None
        except Stopped:
            pass  # the writer failed; its error is raised below
        finally:
            for item in self._read.stop():
                _drop(item)
            while self._held:
                _drop(self._held.popleft())
            if not done:
                for frame, _ in self._write.stop():
                    frame.release()
            if reader.ident is not None:
                reader.join()
            for item in self._read.stop():  # what the reader put while it was being stopped
                _drop(item)
            if writer.ident is not None:
                writer.join()
            if not done:
                self._sink.abort()
        if self._write_error is not None:
            raise self._write_error
        counts = self._counts
        outcome = Outcome(
            frames=counts.frames,
            parses=counts.parses,
            covered_fraction=counts.covered / max(1, counts.frames),
            unknown_frames=counts.unknown,
            doubts=tuple(sorted(counts.doubts.items())),
        )
        try:
            if self._on_frames is not None:
                self._on_frames(self._written)
            if self._before_finish is not None:
                self._before_finish(outcome)
            if self._last_duration is not None:
                self._sink.set_last_duration(self._last_duration)
            self._sink.finish()
        except BaseException:
            self._sink.abort()
            raise
        return outcome

    # --- reader thread ---

    def _read_all(self) -> None:
        waiting: _Item | None = None
        try:
            for item in self._analysed():
                ready, waiting = waiting, item
                if ready is not None:
                    ready.ends_shot = item.starts_shot
                    self._hand_over(ready)
            if waiting is not None:
                waiting.ends_shot = True
                ready, waiting = waiting, None
                self._hand_over(ready)
            self._read.finish()
        except Stopped:
            pass
        except BaseException as error:  # carried to the solver, which raises it
            self._read.fail(error)
        finally:
            if waiting is not None:
                _drop(waiting)

    def _analysed(self) -> Iterator[_Item]:
        """Yields items with their small copies and links; marks where shots start."""
        parsed_s, full_s, since = 0.0, 0.0, 0
        fresh = True  # the next frame starts a shot whatever it shows
        size_wh = self._source.info.size_wh
        for captured in self._source.frames():
            self._last_duration = captured.duration
            frame = captured.frame
            item = _Item(frame, seconds(frame.pts, frame.time_base))
            try:
                # A frame whose pixels are gone, or a plain bug, must not pass for "nobody".
                if captured.restart or fresh or frame.size_wh != size_wh:
                    self._analyser.restart()
                size_wh = frame.size_wh
                with frame.analysis() as bgr:
                    item.small = Small.of(bgr, self._small_wh)
                links = self._analyser.feed(item.small)
            except Exception as error:  # whatever flow trips over, the frame is covered whole
                _log.warning("frame %d: tracking failed: %s", frame.frame_id, type(error).__name__)
                item.unknown = Why.TRACKING_FAILED
                links = None
            if links is None:
                item.starts_shot = True
            else:
                item.back, item.ahead = links
            if item.small is not None and item.small.uniform:
                item.unknown = Why.UNIFORM
                item.starts_shot = True
            fresh = item.unknown is not None
            since += 1
            due = item.time_s - parsed_s >= self._options.interval_s * 0.999
            if item.unknown is None and (item.starts_shot or due or since >= self._options.max_gap):
                full_due = item.time_s - full_s >= self._options.full_interval_s * 0.999
                full = Look.FRESH if item.starts_shot else Look.FULL
                look = full if item.starts_shot or full_due else Look.GLANCE
                try:
                    item.parse = self._order(item, look)
                except BaseException:
                    _drop(item)
                    raise
                parsed_s, since = item.time_s, 0
                if look is not Look.GLANCE:
                    full_s = item.time_s
            yield item

    def _hand_over(self, item: _Item) -> None:
        try:
            if item.ends_shot and item.parse is None and item.unknown is None:
                # Out of turn: the next shot's first parse was ordered before.
                item.parse = self._order(item, Look.ASIDE)
            self._read.put(item)
        except BaseException:
            _drop(item)
            raise

    def _order(self, item: _Item, look: Look) -> Future[ParseResult]:
        width, height = item.frame.size_wh
        scale = min(1.0, self._options.parse_side / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        with item.frame.analysis() as bgr:
            if scale < 1:
                copy = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
            else:
                copy = bgr.copy()
        return self._parser.submit(copy, frame_id=item.frame.frame_id, look=look)

    # --- solver: the caller's thread ---

    def _take(self, item: _Item) -> None:
        """Takes the next frame in order; solves what has become solvable."""
        if item.starts_shot:
            self._emit_all()
            self._gap = []
            self._anchor = None
        self._held.append(item)
        if item.unknown is not None:
            return
        self._gap.append(item)
        if item.parse is not None:
            gap, self._gap = self._gap, []
            self._solve(gap)
            self._emit_due()

    def _solve(self, gap: list[_Item]) -> None:
        """Finds the cover of every frame in `gap`: all after the anchor, the last one parsed."""
        start = 0
        while start < len(gap):
            stop = len(gap) - 1
            try:
                if self._anchor is None:
                    # Nothing is known before the first good parse: frames before it stay covered.
                    _give_up(gap[start:-1], Why.PARSER_FAILED)
                    self._anchor = self._correct(gap[-1], None)
                    return
                states, stop = self._forward(self._anchor.state, gap, start)
                self._anchor = self._fill(self._anchor, gap[start : stop + 1], states)
            except (cv2.error, ValueError, IndexError, ArithmeticError) as error:
                _log.warning("tracking failed: %s", type(error).__name__)
                _give_up(gap[start : stop + 1], Why.TRACKING_FAILED)
                self._anchor = None
                if stop == len(gap) - 1:
                    return
            start = stop + 1
        for item in gap:
            # Solved: nothing is carried forward over it again, nobody asks for its parse.
            item.back = item.parse = None
            if item.ahead is not None:
                item.ahead.forget()

    def _forward(self, state: State, gap: list[_Item], start: int) -> tuple[list[State], int]:
        """Carries `state` on from `gap[start]`, to the end or to where a parse is called for."""
        states: list[State] = []
        before = _unexplained(state)
        for index in range(start, len(gap)):
            state = self._tracker.step(state, _back(gap[index]))
            states.append(state)
            grown = _unexplained(state) > before + self._event_px
            if grown and index - start + 1 >= _EVENT_AFTER:
                return states, index
        return states, len(gap) - 1

    def _correct(self, item: _Item, state: State | None) -> _Anchor | None:
        """Returns `item`, parsed, with `state` corrected; None, and unknown, where that fails."""
        # What moves unexplained is cleared by full parses alone.
        full = state is None or bool(state.guard.unexplained.any())
        result = self._result(item, full=full)
        if result is None:
            _give_up([item], Why.PARSER_FAILED)
            return None
        assert item.small is not None  # only frames with small copies are solved
        findings = self._policy.findings(result)
        if state is not None and self._tracker.loses(state, findings):
            # Somebody left, or a glance lost them: only a full parse tells which.
            result = self._result(item, full=True)
            if result is None:
                _give_up([item], Why.PARSER_FAILED)
                return None
            findings = self._policy.findings(result)
        corrected = self._tracker.correct(
            state or self._tracker.blank(item.small),
            findings,
            item.small,
            None if state is None else item.back,
            item.time_s,
        )
        item.parsed, item.age_s = True, 0.0
        item.covered = corrected.covered().add_guard(corrected.guard.cover())
        return _Anchor(item, corrected)

    def _fill(self, left: _Anchor, items: list[_Item], states: list[State]) -> _Anchor | None:
        """Covers `items`, whose forward states are `states`; parses the last one.

        Returns the anchor for what follows, None where the last parse failed.
        """
        right = self._correct(items[-1], states[-1])
        if right is None:
            _give_up(items, Why.PARSER_FAILED)
            return None
        backward = self._backward(items, right.state)
        unclear = self._combine(left, items, states, backward)
        if not unclear:
            self._cover_behind(left, items, states, backward, right)
            return right
        # Both directions leave something that moves unexplained: look at it.
        middle = unclear[len(unclear) // 2] + 1
        pivot = self._fill(left, items[:middle], states[:middle])
        rest = items[middle:]
        if pivot is None:
            _give_up(rest[:-1], Why.PARSER_FAILED)
            return right
        state, states = pivot.state, []
        for item in rest:
            state = self._tracker.step(state, _back(item))
            states.append(state)
        return self._fill(pivot, rest, states)

    def _backward(self, items: list[_Item], state: State) -> list[State]:
        """Returns the states of `items` (but the last) carried back from the last one's."""
        states: list[State] = []
        for later in reversed(items[1:]):
            state = self._tracker.step(state, _ahead(later))
            states.append(state)
        return states[::-1]

    def _combine(
        self, left: _Anchor, items: list[_Item], states: list[State], backward: list[State]
    ) -> list[int]:
        """Covers the frames inside a gap; returns the indices of those that need a parse."""
        unclear: list[int] = []
        last = items[-1]
        inside = zip(items[:-1], states[:-1], backward, strict=True)
        for index, (item, ahead, behind) in enumerate(inside):
            both = ahead.guard.cover() & behind.guard.cover()
            if np.count_nonzero(both) > self._leftover_px:
                unclear.append(index)
            item.covered = (ahead.covered() | behind.covered()).narrowed().add_guard(both)
            item.age_s = min(item.time_s - left.item.time_s, last.time_s - item.time_s)
        return unclear

    def _cover_behind(
        self,
        left: _Anchor,
        items: list[_Item],
        states: list[State],
        backward: list[State],
        right: _Anchor,
    ) -> None:
        """Carries regions that this gap's parse found for the first time further back (P5).

        They go back to where they leave the picture, to where flow can no longer follow them, to
        the cut, or as far as frames are held.
        """
        first = backward[0] if backward else right.state
        known = {track.track_id for track in left.state.tracks}
        fresh = [
            track
            for track in first.tracks
            if track.track_id not in known and not _merely_wider(track, states[0].tracks)
        ]
        if not fresh:
            return
        memory = right.state.guard
        seen = memory.known_background(_back(right.item))
        found = {track.track_id: track.overlap(seen) for track in right.state.tracks}
        for later in reversed(items[1:]):
            memory = memory.remembered_from(_ahead(later))
        behind = [item for item in self._held if item.frame.frame_id < items[0].frame.frame_id]
        horizon = right.item.time_s - self._options.lookbehind_s
        going = [(track, 0, 0) for track in fresh]
        later = items[0]
        for item in reversed(behind):
            link = later.ahead
            if item.time_s < horizon or item.covered is None or link is None or not going:
                break
            memory = memory.remembered_from(link)
            seen = memory.known_background(link)
            still: list[tuple[Track, int, int]] = []
            for start, lost, gone in going:
                track = start.step(link, self._tracker.options)
                if track is None:
                    continue
                lost = lost + 1 if track.followed(link) < _FOLLOWED_SHARE else 0
                # Relative to when it was found: somebody whom no parse noticed standing still is
                # in the background himself, and must not end his own cover.
                enough = max(_EMPTY_SHARE, found.get(track.track_id, 0.0) + _EMPTIED_SHARE)
                gone = gone + 1 if track.overlap(seen) > enough else 0
                if lost < _LOST_FRAMES and gone < _LOST_FRAMES:
                    item.covered = item.covered.add(track)
                    still.append((track, lost, gone))
            going, later = still, item
        for item in behind:
            if item.ahead is not None:
                item.ahead.forget()

    def _result(self, item: _Item, *, full: bool) -> ParseResult | None:
        """Returns the parse of `item`, ordering it now where nobody did; None where it failed.

        Where `full`, a glance is not enough.
        """
        if item.parse is None:
            item.parse = self._order(item, Look.ASIDE)
        try:
            result = item.parse.result()
            if full and not result.thorough:
                item.parse = self._order(item, Look.ASIDE)
                result = item.parse.result()
        except ModelError:
            raise
        except M2FPStreamError as error:
            self._failures += 1
            _log.warning("frame %d: %s", item.frame.frame_id, error)
            if self._failures >= self._options.max_failures:
                raise ParserError(
                    f"{self._failures} parses in a row failed, nothing was written; last: {error}"
                ) from None
            return None
        if not item.parsed:  # a gap that is cut in two asks again about its end
            self._counts.parses += 1
            self._counts.doubts.update(result.doubts)
            self._failures = 0
        return result

    # --- leaving the solver ---

    def _emit_due(self) -> None:
        """Emits frames no later finding can change, oldest first; keeps the anchor."""
        newest = self._held[-1].time_s if self._held else 0.0
        while len(self._held) > 1:
            oldest = self._held[0]
            settled = oldest.unknown is not None or oldest.covered is not None
            if not settled:
                return
            old = newest - oldest.time_s > self._options.lookbehind_s
            if not old and len(self._held) <= self._frames_held:
                return
            self._emit(self._held.popleft())

    def _emit_all(self) -> None:
        while self._held:
            self._emit(self._held.popleft())

    def _emit(self, item: _Item) -> None:
        size_wh = item.frame.size_wh
        state: CoverState
        counts = self._counts
        counts.frames += 1
        if item.unknown is not None or item.covered is None:
            state = Unknown(item.unknown or Why.NO_PARSE)
            counts.unknown += 1
            counts.covered += 1.0
        else:
            plan = self._policy.plan(
                frame_id=item.frame.frame_id,
                size_wh=size_wh,
                parts=item.covered.parts,
                tracks=item.covered.tracks,
            )
            counts.covered += float(np.count_nonzero(plan.cover)) / plan.cover.size
            state = Parsed(plan) if item.parsed else Propagated(plan, max(0.0, item.age_s), 1.0)
        if item.small is not None:
            item.small.wipe()
        try:
            self._write.put((item.frame, state))
        except BaseException:
            _drop(item)
            raise

    # --- writer thread ---

    def _write_all(self) -> None:
        try:
            for frame, state in self._write:
                try:
                    safe = self._composer.compose(frame, state)
                finally:
                    frame.release()
                self._sink.write(safe)
                self._written += 1
        except BaseException as error:  # carried to the solver, which raises it
            self._write_error = error
        finally:
            for frame, _ in self._write.stop():
                frame.release()


def _drop(item: _Item) -> None:
    if item.parse is not None:
        item.parse.cancel()
    if item.small is not None:
        item.small.wipe()
    if not item.frame.released:
        item.frame.release()


def _give_up(items: list[_Item], why: Why) -> None:
    """Makes `items` unknown; the reason given first stays."""
    for item in items:
        item.unknown = item.unknown or why


def _unexplained(state: State) -> int:
    return int(np.count_nonzero(state.guard.unexplained))


def _back(item: _Item) -> Link:
    if item.back is None:
        raise ValueError(f"frame {item.frame.frame_id} starts a shot: nothing leads back from it")
    return item.back


def _ahead(item: _Item) -> Link:
    if item.ahead is None:
        raise ValueError(f"frame {item.frame.frame_id} starts a shot: nothing leads to it")
    return item.ahead


def _merely_wider(track: Track, known: Sequence[Track]) -> bool:
    """True for a box drawn around somebody who is followed already: nobody new."""
    box = np.count_nonzero(track.parts == Label.HUMAN) > _WIDER_SHARE * track.area
    return bool(box) and any(other.overlap(track.parts) > _WIDER_SHARE for other in known)
