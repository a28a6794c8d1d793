"""A sink that cannot hold up the picture: fed from a small queue, made again when it fails."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

from ...core.errors import M2FPStreamError, PromiseError, SinkError
from ...core.redact import redact
from ...core.safe import SafeFrame
from ...processes.backoff import Backoff
from ...sinks.base import Sink

__all__ = ["MakeSink", "Outlet", "Retrying"]

_log = logging.getLogger(__name__)

MakeSink = Callable[[tuple[int, int]], Sink[SafeFrame]]
"""Opens a sink for frames of that (width, height)."""

_JOIN_S: Final = 5.0
"""What a sink gets at the end to write what waits; every sink bounds its own waits. Chosen: longer
than any of them takes on a machine that keeps up, and short enough for whoever pressed Ctrl-C."""


@final
@dataclass(frozen=True, slots=True)
class Retrying:
    """When a sink that failed is made again; the defaults are chosen.

    Attributes:
        first_wait_s: a device or a server that is there again is used within a second.
        longest_wait_s: the wait doubles up to this: one that is away for a day costs next to
            nothing, and is missed for half a minute at most.
        healthy_frames: frames written after which the next wait is the first again; ten seconds
            at 25 frames a second.
    """

    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    healthy_frames: int = 250


_RETRYING: Final = Retrying()


@final
class Outlet:
    """Feeds one sink with composed frames.

    Frames wait in a queue of `keep`; the oldest is dropped for a newer one, and counted. A sink
    that fails is made again after a growing wait, unless it says that this makes no sense
    (`Sink.retry`); the other outlets do not notice. A sink that refuses what it is given
    (`PromiseError`) ends the run.

    Args:
        name: for messages and statistics.
        make: opens the sink.
        keep: frames that may wait.
        own_thread: False: `pump` must be called instead, from the thread that called `open`.
        idle: called by `pump` with the sink while no frame waits.
        keeps: what it writes is to be kept, so that each frame lost to a failure counts (`lost`);
            what is only shown or sent is gone a moment later anyhow.
        join_s: what the sink gets at the end to write what waits.
        patience_s: what the sink gets beyond `join_s` to complete its output, of the frame that
            it is at; frames that still wait are dropped then.
        on_patience: called when that wait begins.
        retrying: when a sink that failed is made again.
        on_notice: gets sentences for the user.
    """

    def __init__(
        self,
        name: str,
        make: MakeSink,
        *,
        keep: int,
        own_thread: bool = True,
        idle: Callable[[Sink[SafeFrame]], None] | None = None,
        keeps: bool = False,
        join_s: float = _JOIN_S,
        patience_s: float = 0.0,
        on_patience: Callable[[], None] | None = None,
        retrying: Retrying = _RETRYING,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self.own_thread = own_thread
        self.patience_s = patience_s
        self._join_s = join_s
        self._retrying = retrying
        self._on_patience = on_patience or (lambda: None)
        self._make = make
        self._idle = idle or (lambda _: None)
        self._keep = keep
        self._keeps = keeps
        self._notice = on_notice or (lambda _: None)
        self._sink: Sink[SafeFrame] | None = None
        self._size_wh = (0, 0)
        self._waiting: deque[SafeFrame] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._retry_at_s = 0.0
        self._backoff = Backoff(retrying.first_wait_s, retrying.longest_wait_s)
        self._since = 0
        self.error: BaseException | None = None
        """What ends the run."""
        self.over: M2FPStreamError | OSError | None = None
        """Why nothing more is written, where the sink that failed is not made again."""
        self.written = 0
        self.dropped = 0
        self.lost = 0
        """Of what is to be kept: frames that are in no output because the sink failed."""
        self.failures = 0
        self.why = ""
        """What the sink said when it failed last; nothing secret."""

    @property
    def up(self) -> bool:
        """True while a sink is open."""
        return self._sink is not None

    def facts(self) -> dict[str, Any]:
        """Returns its state and counts, as JSON values."""
        return {
            "up": self.up,
            "written": self.written,
            "dropped": self.dropped,
            "lost": self.lost,
            "failures": self.failures,
            "why": self.why,
        }

    def open(self, size_wh: tuple[int, int]) -> None:
        """Opens the sink for the first time.

        Raises:
            SinkError, UsageError: it cannot be opened.
        """
        self._size_wh = size_wh
        self._sink = self._make(size_wh)
        if self.own_thread:
            self._thread = threading.Thread(
                target=self._work, name=f"outlet-{self.name}", daemon=True
            )
            self._thread.start()

    def offer(self, frame: SafeFrame) -> None:
        """Queues a frame; never waits."""
        with self._changed:
            if self._ended:
                return
            if len(self._waiting) >= self._keep:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(frame)
            self._changed.notify_all()

    def pump(self) -> bool:
        """Writes what waits, from the calling thread; returns whether there was anything."""
        with self._changed:
            frame = self._waiting.popleft() if self._waiting else None
        if frame is not None:
            self._write(frame)
        elif self._sink is not None:
            try:
                self._idle(self._sink)
            except SinkError as error:
                self._failed(error)
        return frame is not None

    def close(self, *, complete: bool) -> None:
        """Writes what waits and completes the output, or, where not `complete`, drops both.

        A sink that is slow loses frames, not its output; one that does not end is left behind.
        """
        with self._changed:
            self._ended = True
            if not complete:
                self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(self._join_s)
            if self._thread.is_alive() and self.patience_s > 0:
                self._be_patient(self._thread)
            if self._thread.is_alive():
                self.failures += 1
                self.lost += self._keeps  # at least the frame that it is at
                self.why = "it did not end in time"
                _log.warning("%s does not end; it is left behind", self.name)
                self._notice(f"{self.name}: does not end; what it has not completed is lost")
                return
        else:
            while complete and self.pump():
                pass
        self._end(complete=complete)

    def _be_patient(self, thread: threading.Thread) -> None:
        with self._changed:
            self.dropped += len(self._waiting)
            self._waiting.clear()
        self._notice(f"{self.name}: is being completed; it gets {self.patience_s:g} s at most")
        self._on_patience()
        thread.join(self.patience_s)

    def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._ended)
                    if not self._waiting:
                        return
                    frame = self._waiting.popleft()
                self._write(frame)
        except BaseException as error:  # whoever watches raises it
            self.error = error

    def _write(self, frame: SafeFrame) -> None:
        if self.error is not None or self.over is not None:  # nothing more leaves here
            self._lose()
            return
        try:
            again = self._sink is None
            if self._sink is None:
                if time.monotonic() < self._retry_at_s or self._ended:
                    self._lose()
                    return
                self._sink = self._make(self._size_wh)
                self._since = self.written
            self._sink.write(frame)
            self.written += 1
            if again:
                self._notice(f"{self.name}: works again")
            if self.written - self._since > self._retrying.healthy_frames:
                self._backoff.reset()
        except PromiseError as error:
            self.error = error
        except (M2FPStreamError, OSError) as error:
            self._lose()
            self._failed(error)
        except BaseException as error:  # whoever watches raises it
            self.error = error

    def _lose(self) -> None:
        self.dropped += 1
        self.lost += self._keeps

    def _failed(self, error: M2FPStreamError | OSError) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abort()
            self._take_back(sink)
        self.failures += 1
        self.why = redact(str(error))
        if sink is not None and not sink.retry:
            self._notice(f"{self.name}: {self.why}")
            self.over = error
            return
        self._notice(f"{self.name}: {self.why}; trying again in {self._backoff.wait_s:g} s")
        self._retry_at_s = time.monotonic() + self._backoff.take()

    def _take_back(self, sink: Sink[SafeFrame]) -> None:
        """Counts as lost what a sink that failed had taken and could not keep."""
        self.written -= sink.lost
        self.dropped += sink.lost
        if self._keeps:
            self.lost += sink.lost

    def _end(self, *, complete: bool) -> None:
        sink, self._sink = self._sink, None
        if sink is None:
            return
        try:
            if complete and self.written > 0 and self.error is None:
                sink.finish()
            else:
                sink.abort()
        except PromiseError as error:
            self.error = error
        except (M2FPStreamError, OSError) as error:
            self.failures += 1
            self.why = redact(str(error))
            self._take_back(sink)
            self._notice(f"{self.name}: {self.why}")
        except Exception as error:  # the other outlets are closed all the same
            self.error = error
