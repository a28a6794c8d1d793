"""The last thread of a run: composes what was solved, in order, and hands it to the sinks."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fractions import Fraction
from typing import final

from ...core.plan import CoverState
from ...core.raw import RawFrame
from ...core.safe import SafeFrame, TrackTable
from ...privacy.tracks import CoveredPerson, TrackTables
from ...sinks.base import Sink
from ..bounded_queue import BoundedQueue
from ..solver.records import Cover
from .outcome import Composer, Sound

__all__ = ["Solved", "Writer"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """A frame, and all that is known of it.

    Attributes:
        frame: released when it is composed.
        state: how it is covered.
        cover: who is; None where that is not known.
        part_of_film: changes where other people have the same numbers of tracks.
    """

    frame: RawFrame
    state: CoverState
    cover: Cover | None
    part_of_film: int


@final
class Writer:
    """Composes and hands over: sound up to each picture, the picture, its rows of the table.

    It closes the sinks, which appear together or not at all. Use once.

    Args:
        composer: makes what may be shown of a frame.
        sink: where that goes.
        sound: what is heard, where something is.
        tracks: where positions go, where somebody asked for them.
        waiting: frames that may wait to be composed.

    Attributes:
        written: frames that were handed over.
        error: why it ended early.
    """

    def __init__(
        self,
        composer: Composer,
        sink: Sink[SafeFrame],
        *,
        sound: Sound | None,
        tracks: Sink[TrackTable] | None,
        waiting: int,
    ) -> None:
        self._composer, self._sink, self._sound = composer, sink, sound
        self._tracks, self._tables = tracks, TrackTables()
        self._queue: BoundedQueue[Solved] = BoundedQueue(waiting)
        self._thread = threading.Thread(target=self._write_all, name="writer", daemon=True)
        self._complete = False
        """All frames were solved: what is left of the sound belongs to the film."""
        self._halted = False
        self.written = 0
        self.error: BaseException | None = None

    # --- from the solver's thread ---

    def start(self) -> None:
        """Begins to wait for frames."""
        self._thread.start()

    def wait_below(self, count: int) -> None:
        """Waits until fewer frames than `count` wait; raises `Stopped` where it has failed."""
        self._queue.wait_below(count)

    def put(self, solved: Solved) -> None:
        """Hands over the next frame, and with it its release; raises `Stopped` likewise."""
        self._queue.put(solved)

    def finish(self, wake_s: float) -> None:
        """Says that no frame follows and waits until all are written, or one has failed.

        `wake_s`: seconds after which signals are looked for.
        """
        self._complete = True
        self._queue.finish()
        while self._thread.is_alive():
            self._thread.join(wake_s)

    def halt(self) -> None:
        """Lets nothing more be written; what waits is released."""
        self._halted = True
        self._sink.halt()
        self._release(self._queue.stop())

    def join(self) -> None:
        """Waits for the thread, if it was started."""
        if self._thread.ident is not None:
            self._thread.join()

    def close(self, last_duration: int | None) -> None:
        """Completes the sinks, the picture's last frame with its duration in ticks.

        Raises:
            SinkError: one cannot be completed; `abort` must follow.
        """
        if last_duration is not None:
            self._sink.set_last_duration(last_duration)
        if self._tracks is not None:
            self._tracks.prepare()
        self._sink.finish()
        if self._tracks is not None:
            self._tracks.finish()

    def abort(self) -> None:
        """Drops what was written."""
        self._sink.abort()
        if self._tracks is not None:
            self._tracks.abort()

    @property
    def tracks(self) -> int:
        """How many tracks were told of."""
        return self._tables.tracks

    # --- its own thread ---

    def _write_all(self) -> None:
        try:
            for solved in self._queue:
                try:
                    safe = self._composer.compose(solved.frame, solved.state)
                finally:
                    solved.frame.release()
                self._write_sound(safe.pts * safe.time_base)
                self._sink.write(safe)
                if self._tracks is not None:
                    self._tracks.write(self._table(safe, solved))
                self.written += 1
            if self._complete:
                self._write_sound(None)
        except BaseException as error:  # carried to the solver, which raises it
            self.error = error
        finally:
            self._release(self._queue.stop())

    def _table(self, safe: SafeFrame, solved: Solved) -> TrackTable:
        cover = solved.cover
        if cover is None:
            return self._tables.card(safe)
        return self._tables.of(
            safe,
            solved.state,
            parts=cover.parts,
            marks=cover.tracks,
            people=[
                CoveredPerson(one.track_id, one.mark, one.body.xyxy, one.state)
                for one in cover.laid
                if not one.double
            ],
            part_of_film=solved.part_of_film,
        )

    def _write_sound(self, moment_s: Fraction | None) -> None:
        if self._sound is not None:
            for stretch in self._sound.until(moment_s):
                if self._halted:
                    return
                self._sink.write_audio(stretch)

    @staticmethod
    def _release(solved: list[Solved]) -> None:
        for one in solved:
            one.frame.release()
