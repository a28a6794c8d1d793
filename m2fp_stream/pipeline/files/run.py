"""Anonymises a recorded source: every frame, in order, covered from both sides of time.

Three threads, and the looks in processes of their own; every decision depends on pixels and options
only, never on which of them was faster.

    reader    decodes, measures motion, finds cuts, orders the look for faces at each frame
    solver    (the caller's thread) orders looks for people and at parts, follows people (`solve`)
    writer    composes and hands composed frames to the sinks (`writer`)

A frame leaves the solver once `lookbehind_s` of later frames are known, so that a person found late
is still covered in the frames before (P5). Raw frames live in memory only, and only this long.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from ...core.errors import SourceError
from ...core.plan import CoverState, Parsed, Propagated, Unknown, Why
from ...core.raw import RawFrame
from ...core.safe import SafeFrame, TrackTable
from ...core.timing import seconds
from ...policy import Policy
from ...sinks.base import Sink
from ...sources.base import Source
from ...tracking.motion import SmallGrey
from ...tracking.shape import PartLook
from ..bounded_queue import BoundedQueue, Stopped
from ..copies import MAP_SIDE, hidden_by, shrunk
from ..looks import LookPool
from ..solver.fine import FineLooks
from ..solver.records import Cover, Frame, Reach
from ..solver.solve import FAR_EVERY_S, Solver
from .options import FilePipelineOptions
from .outcome import Composer, Outcome, Sound
from .reader import Item, Reader
from .under_way import LooksUnderWay
from .writer import Solved, Writer

__all__ = ["FileRun"]

_READ_AHEAD: Final = 8
"""Decoded frames that may wait for looks. Chosen: enough that no thread waits for the next; each is
a whole picture."""
_WRITE_AHEAD: Final = 3
"""Solved frames that may wait for the writer where the frame buffer is full. Chosen: few, for the
like reason."""
_WRITE_MOST: Final = 24
"""The same where it is not. A cut lets a whole shot go at once: looks go on while it is encoded.
Chosen: a second of film."""
_PEOPLE_LAG: Final = 3
"""Frames by which following people lags behind the look for faces: looks for people go on
meanwhile. About as many looks for faces as a look for people takes (5 and 18 ms,
docs/parsers.md)."""
_PARTS_LAG: Final = 6
"""The same for looks at parts. Chosen: as many frames as lie between two looks at parts
(`file.parts_every`)."""
_FAR_HIGH_S: Final = 0.3
"""Seconds between far looks under `--quality high`. Chosen: quality before time, but a far look
costs a quarter of a second (docs/architecture.md)."""
_LONGEST_S: Final = 60.0
"""What is known of a shot before it is covered, under `--quality high`: no more than that. Chosen:
memory must not grow with the length of a shot."""
_WAKE_S: Final = 1.0
"""Seconds of a wait after which signals are looked for: one that comes in the very moment in which
a wait begins does not end it (signal(7)). Chosen: nobody presses Ctrl-C again sooner."""
_KEPT_FRAMES: Final = 16
"""Frames that stay for looks out of turn, where the source is read twice. Chosen: more than what is
looked back at (`orders.BESIDE_FRAMES`) and both lags together."""


@dataclass(slots=True)
class _Counts:
    frames: int = 0
    covered: float = 0.0
    unknown: int = 0
    shortened: int = 0
    whole: int = 0
    requested: int = 0
    left_alone: int = 0


@final
class FileRun:
    """One run over one source. Use once: `FileRun(...).run()`.

    It opens and closes none of what it is given but the sinks.

    Args:
        source: what is read.
        sink: where it goes.
        composer: makes what may be shown of a frame.
        looks: who looks.
        policy: what is hidden.
        options: rates of the looks, look-behind and limits.
        fine: a second parser, whose findings are added.
        again: the same source opened a second time: each shot is then known whole before its first
            frame is covered.
        sound: what is heard, where something is.
        tracks: where positions go, where somebody asked for them; it appears with the sink's
            output or not at all.
        on_frames: gets the frames written so far; what it raises ends the run without an output.
            Called, as the next one, from the thread of `run()`.
        before_finish: gets what was done; what it raises likewise.

    Raises:
        UsageError: a zone reaches outside the picture.
    """

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink[SafeFrame],
        composer: Composer,
        looks: LookPool,
        policy: Policy,
        options: FilePipelineOptions,
        fine: FineLooks | None = None,
        again: Source | None = None,
        sound: Sound | None = None,
        tracks: Sink[TrackTable] | None = None,
        on_frames: Callable[[int], None] | None = None,
        before_finish: Callable[[Outcome], None] | None = None,
    ) -> None:
        self._looks = LooksUnderWay(looks, options, fine)
        self._policy, self._options = policy, options
        self._on_frames = on_frames
        self._before_finish = before_finish
        self._reader = Reader(source, looks, options.look_size)
        width, height = self._size_wh = source.info.size_wh
        policy.zones.check(self._size_wh)
        self._begins_s = source.info.begins_s
        self._unmet = policy.zones.times()
        self._rate = float(source.info.average_rate or 25)
        self._again = None if again is None else again.frames()
        self._looks_made: Counter[str] = Counter()
        self._solvers = 0
        self._solver = self._new_solver(self._size_wh)
        self._frames_held = max(4, options.buffer_mb * 1_000_000 // (width * height * 3))
        self._known_s = options.lookbehind_s if again is None else _LONGEST_S
        self._read: BoundedQueue[Item] = BoundedQueue(_READ_AHEAD)
        # Of a source that is read twice few frames are held, also of those that come again.
        waiting = _WRITE_MOST if again is None else _WRITE_AHEAD
        self._writer = Writer(composer, sink, sound=sound, tracks=tracks, waiting=waiting)
        self._held: deque[Item] = deque()
        self._ahead: deque[Item] = deque()
        """Of those held, the last ones: their looks for people may be under way."""
        self._fed = -1
        self._people_owed: Reach | None = None
        """A look that the next frame gets in any case: one failed, or none began this shot."""
        self._people_s = 0.0
        self._people_known = False
        """Whether a look for people in this shot has succeeded."""
        self._counts = _Counts()

    def _new_solver(self, size_wh: tuple[int, int]) -> Solver:
        options, high = self._options, self._options.quality == "high"
        self._solvers += 1
        return Solver(
            size_wh=size_wh,
            map_wh=shrunk(size_wh, MAP_SIDE),
            rate=self._rate,
            hidden=hidden_by(self._policy),
            people_every=1 if high else options.people_every,
            parts_every=options.parts_every,
            parts_a_frame=options.parts_a_frame,
            far_every_s=_FAR_HIGH_S if high else FAR_EVERY_S,
        )

    def run(self) -> Outcome:
        """Processes the whole source and finishes the sinks; returns what was done.

        On any error, an interrupt included, they are aborted: no output appears.

        Raises:
            SourceError, SinkError, ParserError, ModelError, PromiseError: see `core.errors`.
        """
        reader = threading.Thread(target=self._read_all, name="reader", daemon=True)
        done = False
        try:
            reader.start()
            self._writer.start()
            for item in self._read:
                self._held.append(item)
                self._take(item)
                if self._on_frames is not None:
                    self._on_frames(self._writer.written)
            self._settle()
            self._writer.finish(_WAKE_S)
            done = self._writer.error is None
        except Stopped:
            pass  # the writer failed; its error is raised below
        finally:
            self._clean_up(reader, done=done)
        if self._writer.error is not None:
            raise self._writer.error
        outcome = self._outcome()
        try:
            if self._on_frames is not None:
                self._on_frames(self._writer.written)
            if self._before_finish is not None:
                self._before_finish(outcome)
            self._writer.close(self._reader.last_duration)
        except BaseException:
            self._writer.abort()
            raise
        return outcome

    def _outcome(self) -> Outcome:
        counts = self._counts
        return Outcome(
            frames=counts.frames,
            looks=tuple(sorted((self._looks_made + self._looks.made + self._solver.looks).items())),
            covered_fraction=counts.covered / max(1, counts.frames),
            unknown_frames=counts.unknown,
            shortened_frames=counts.shortened,
            whole_frames=counts.whole,
            requested_frames=counts.requested,
            left_alone_frames=counts.left_alone,
            tracks=self._writer.tracks,
            unmet_times=tuple(self._unmet),
        )

    def _clean_up(self, reader: threading.Thread, *, done: bool) -> None:
        for item in self._read.stop():
            item.drop()
        self._looks.cancel()
        while self._held:
            self._held.popleft().drop()
        if not done:
            self._writer.halt()
        if reader.ident is not None:
            reader.join()
        for item in self._read.stop():  # what the reader put while it was being stopped
            item.drop()
        self._writer.join()
        if not done:
            self._writer.abort()

    # --- reader thread ---

    def _read_all(self) -> None:
        try:
            for item in self._reader.items():
                try:
                    self._read.put(item)
                except BaseException:
                    item.drop()
                    raise
            self._read.finish()
        except Stopped:
            pass
        except BaseException as error:  # carried to the solver, which raises it
            self._read.fail(error)

    # --- solver: the caller's thread ---

    def _take(self, item: Item) -> None:
        """Takes the next frame; orders its look for people; follows people some frames behind."""
        self._writer.wait_below(max(_WRITE_AHEAD, self._frames_held - len(self._held)))
        faces = self._looks.faces(item)
        if item.motion.cut:
            self._settle()
            self._people_owed = Reach.FAR
        if item.frame.size_wh != self._size_wh:  # always a cut
            self._looks_made += self._solver.looks
            self._size_wh = item.frame.size_wh
            self._solver = self._new_solver(self._size_wh)
        if item.unknown is None:
            wanted = self._solver.wants_people(item.number, item.motion, faces)
            reaches = [one for one in (wanted, self._people_owed) if one is not None]
            if reaches:
                self._people_owed = None
                self._looks.order_people(item, max(reaches))
            for turn in self._solver.wants_turned(item.number, item.reach if reaches else None):
                self._looks.order_turned(item, turn)
            self._looks.order_fine(item)
        self._ahead.append(item)
        while len(self._ahead) > _PEOPLE_LAG:
            self._follow(self._ahead.popleft())
        self._emit_due()

    def _settle(self) -> None:
        """Brings everything that was read to its end: a cut, or the end of the source.

        The frame read last, which starts the next shot, stays.
        """
        while self._ahead:
            self._follow(self._ahead.popleft())
        self._take_parts(self._fed)
        while self._held and self._held[0].number <= self._fed:
            self._emit(self._held.popleft())

    def _follow(self, item: Item) -> None:
        faces = self._looks.faces(item)
        if item.motion.cut:
            self._people_known = False
        bodies = self._looks.bodies(item)
        if bodies is not None:
            self._people_known = True
            self._people_s = item.time_s
        elif item.people is not None:
            self._people_owed = item.reach
        if not self._people_known:  # a shot is known by both looks at whole frames, not by one (P4)
            item.unknown = item.unknown or Why.NO_PARSE
        item.age_s = max(0.0, item.time_s - self._people_s)
        self._fed = item.number
        fine = self._looks.fine(item)
        turned = self._looks.turned(item)
        if len(turned) < len(item.turned):
            self._people_owed = Reach.FAR
            self._solver.owe_turned()
        self._solver.feed(Frame(item.number, item.motion, faces, bodies, item.reach, fine, turned))
        for number, reach in self._solver.past_orders().items():
            self._order_past(number, reach)
        if item.unknown is None:
            self._looks.order_parts(item, self._solver.part_orders())
        self._take_parts(item.number - _PARTS_LAG)
        if self._again is not None:  # its pixels come again
            old = item.number - _KEPT_FRAMES - self._held[0].number
            if old >= 0 and not self._held[old].frame.released:
                self._held[old].frame.release()

    def _order_past(self, number: int, reach: Reach) -> None:
        """Orders a look for people at a frame that was fed before, if it is still held."""
        index = number - self._held[0].number
        if index < 0:
            return
        item = self._held[index]
        if item.unknown is None and not item.frame.released:
            self._looks.order_past(item, reach, fed=self._fed)

    def _take_parts(self, upto: int) -> None:
        """Waits for the looks out of turn that were ordered up to a frame."""
        for past in self._looks.past(upto):
            self._solver.take_past(past.number, past.bodies, past.reach)
        for order, found in self._looks.parts(upto, self._size_wh):
            if isinstance(found, PartLook):
                self._solver.take_parts(order, found)
            else:
                score, roll = found
                self._solver.take_face(order, score, roll)

    # --- leaving the solver ---

    def _emit_due(self) -> None:
        """Emits frames that are old enough, or more than the buffer holds."""
        known = self._fed - _PARTS_LAG  # those of looks at parts are in
        while self._held and self._held[0].number <= known:
            oldest = self._held[0]
            newest = self._held[known - oldest.number].time_s
            old = newest - oldest.time_s > self._known_s
            if not old:
                if self._again is not None or len(self._held) <= self._frames_held:
                    return
                self._counts.shortened += 1
            self._emit(self._held.popleft())

    def _emit(self, item: Item) -> None:
        frame = item.frame
        try:
            state, cover = self._solved(item)
            if item.number % _FORGET_EVERY == 0:
                self._solver.forget_before(item.number)
            if self._again is not None:
                frame = self._seen_again(item)
            self._writer.put(Solved(frame, state, cover, self._solvers))
        except BaseException:  # nobody else holds it any more
            if not frame.released:
                frame.release()
            raise

    def _solved(self, item: Item) -> tuple[CoverState, Cover | None]:
        counts = self._counts
        counts.frames += 1
        shown_s = self._shown_s(item)
        self._unmet = {
            text: span for text, span in self._unmet.items() if not span.touches(shown_s)
        }
        if self._policy.zones.whole(shown_s):
            counts.requested += 1
            counts.covered += 1.0
            return Unknown(Why.ON_REQUEST), None
        if item.unknown is not None:
            counts.unknown += 1
            counts.covered += 1.0
            return Unknown(item.unknown), None
        cover = self._solver.cover(item.number)
        counts.whole += cover.whole > 0
        state = self._state(item, cover, shown_s)
        counts.covered += float(np.count_nonzero(state.plan.cover)) / state.plan.cover.size
        counts.left_alone += state.plan.left_alone > 0
        return state, cover

    def _shown_s(self, item: Item) -> tuple[float, float]:
        """Returns from when to when a frame is shown, in seconds of the input.

        The next one is held: what leaves is looked at frames before, and a cut stays behind it.
        """
        ticks = self._reader.last_duration
        lasts_s = 1 / self._rate if ticks is None else seconds(ticks, item.frame.time_base)
        shown = self._held[0].time_s if self._held else item.time_s + lasts_s
        return self._begins_s + item.time_s, self._begins_s + shown

    def _seen_again(self, item: Item) -> RawFrame:
        """Returns the frame of `item`, read a second time.

        Raises:
            SourceError: it is another one: the input changed meanwhile.
        """
        assert self._again is not None  # the caller asked
        if not item.frame.released:
            item.frame.release()
        captured = next(self._again, None)
        if captured is not None:
            frame = captured.frame
            try:
                with frame.looking() as bgr:
                    small = SmallGrey.of(bgr)
            except BaseException:
                frame.release()
                raise
            digest = zlib.crc32(small.grey.data)
            small.wipe()
            if (frame.pts, frame.size_wh) == (item.frame.pts, item.frame.size_wh) and (
                digest == item.digest
            ):
                return frame
            frame.release()
        raise SourceError(
            f"the input changed while it was read for the second time (frame {item.number}); "
            "copy it to where nobody writes to it, or use --quality standard"
        )

    def _state(self, item: Item, cover: Cover, shown_s: tuple[float, float]) -> Parsed | Propagated:
        plan = self._policy.plan(
            frame_id=item.number,
            size_wh=item.frame.size_wh,
            parts=cover.parts,
            tracks=cover.tracks,
            people=cover.places,
            shown_s=shown_s,
        )
        if item.people is not None:
            return Parsed(plan)
        return Propagated(plan, item.age_s)


_FORGET_EVERY: Final = 32
"""Frames between two times that the solver forgets what is past. Chosen: rarely enough to cost
nothing."""
