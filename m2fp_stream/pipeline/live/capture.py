"""Keeps a live source alive: opens it, watches its frames, opens it again when they stop.

Frames that are delivered are the only sign of life that counts: a connection that stands and gives
nothing is lost. What they show is not asked: a scene may be still for hours.
"""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Annotated, Final, final

from pydantic import Field

from ...core.errors import SourceError
from ...core.plan import Why
from ...core.redact import redact
from ...options import Options
from ...processes.backoff import Backoff
from ...sources.base import Captured, Source, SourceInfo
from ...sources.devices import OtherCameraError
from ...sources.live import LiveSource

__all__ = ["Capture", "CaptureOptions", "Inbox", "OpenSource"]

OpenSource = Callable[[int, tuple[int, int] | None], Source]
"""Opens the source; takes the first frame's id and the (width, height) to fit frames into."""

_JITTER: Final = 0.25
"""Of the waits for a lost source: several watchers of one camera must not come back all at once.
Chosen: it spreads them over half of each wait."""

_OTHER: Final[dict[type, Why]] = {OtherCameraError: Why.OTHER_CAMERA}

_INTERVALS: Final = 3
"""A camera is away after so many of its own intervals: one picture may be late and one lost."""

_UNKNOWN_S: Final = 6.0
"""Of a camera whose rate is not known yet: three intervals of one that gives a picture in two
seconds."""

_RECENT: Final = 9
"""Intervals that the rate is learned from. Their median is no pause's, nor that of a burst after
one. Chosen."""

_JOIN_S: Final = 2.0
"""A read that blocks ends by its own time-out; the program does not wait so long for its end.
Chosen: what whoever pressed Ctrl-C does not take for a hang."""


class CaptureOptions(Options):
    """Which picture is taken, and what happens when it stops."""

    input: Annotated[
        str,
        Field(
            title="Source",
            description=(
                "camera:ID (see `m2fp-stream devices`), an rtsp://, rtmp:// or http(s):// address "
                "(of video, or of a picture that is asked for again and again), - for video that "
                "is piped in, a named pipe, a video file (played at its own pace), or synthetic. "
                "Put an address with a password into the environment "
                "(M2FP_STREAM_CAPTURE__INPUT), where a list of processes does not show it."
            ),
            min_length=1,
        ),
    ] = "camera:0"
    loop: Annotated[
        bool,
        Field(title="Loop", description="Play a video file over and over."),
    ] = False
    backoff_s: Annotated[
        float,
        Field(
            title="First wait",
            description="Seconds before a lost source is opened again; doubles each time.",
            gt=0,
            le=60,
        ),
    ] = 0.5
    max_backoff_s: Annotated[
        float, Field(title="Longest wait", description="Seconds; doubling ends here.", gt=0, le=600)
    ] = 30.0
    healthy_s: Annotated[
        float,
        Field(
            title="Healthy after",
            description="Seconds of frames after which the next wait is the first again.",
            ge=0,
            le=3600,
        ),
    ] = 10.0
    away_s: Annotated[
        float,
        Field(
            title="Source away after",
            description=(
                "Seconds without a frame after which the card is shown; at slow cameras three of "
                "their own intervals, where that is longer."
            ),
            gt=0,
            le=10,
        ),
    ] = 1.0
    snapshot_s: Annotated[
        float,
        Field(
            title="Snapshot interval",
            description=(
                "Seconds from one picture to the next where an http(s):// address gives single "
                "pictures and no stream."
            ),
            ge=0.05,
            le=60,
        ),
    ] = 1.0


@final
class Inbox:
    """Frames between capture and whoever follows them; the newest win, all others are counted."""

    def __init__(self, size: int) -> None:
        """`size`: frames kept at most where all are taken: beyond it the oldest is released."""
        self._size = size
        self._frames: deque[Captured] = deque()
        self._lost_restart = False
        self.changed = threading.Condition()
        """Notified with every frame; others may use it to wake whoever waits for frames."""
        self.ended = False
        self.dropped = 0
        """Frames that were taken, and grew too old here."""
        self.left_out = 0
        """Frames that were not taken, by `share`."""
        self.share = 1.0
        """Of the frames that come so many (0..1) are taken, evenly; anybody may set it."""
        self._turns: float | None = None  # the first one is taken
        self._skipped_restart = False

    def put(self, captured: Captured) -> None:
        """Adds a frame; never waits."""
        with self.changed:
            if self.ended:
                captured.frame.release()
                return
            self._turns = 1.0 if self._turns is None else self._turns + self.share
            if self._turns < 1 - 1e-6:  # a third three times may be a little less than one
                self._skipped_restart |= captured.restart
                captured.frame.release()
                self.left_out += 1
                return
            self._turns = max(0.0, self._turns - 1)
            if self._skipped_restart:
                captured = Captured(captured.frame, restart=True, duration=captured.duration)
                self._skipped_restart = False
            # Fewer where not all are taken: what counts is how old they grow here.
            while len(self._frames) >= max(1, int(self._size * self.share)):
                old = self._frames.popleft()
                self._lost_restart |= old.restart
                old.frame.release()
                self.dropped += 1
            if self._lost_restart and not self._frames:
                captured = Captured(captured.frame, restart=True, duration=captured.duration)
                self._lost_restart = False
            elif self._lost_restart:
                first = self._frames.popleft()
                self._frames.appendleft(
                    Captured(first.frame, restart=True, duration=first.duration)
                )
                self._lost_restart = False
            self._frames.append(captured)
            self.changed.notify_all()

    def get(self) -> Captured | None:
        """Returns the oldest frame kept, or None; never waits. Call with `changed` held."""
        return self._frames.popleft() if self._frames else None

    @property
    def empty(self) -> bool:
        """True where no frame waits."""
        return not self._frames

    def end(self, *, drop: bool) -> None:
        """Says that no frame follows; with `drop`, those that wait are released."""
        with self.changed:
            self.ended = True
            while drop and self._frames:
                self._frames.popleft().frame.release()
            self.changed.notify_all()


@final
class Capture:
    """Reads one source in a thread of its own, and opens it again as often as it takes.

    Use: `connect()`, then `start(inbox)`, in the end `stop()`.

    Args:
        open_source: opens the source.
        options: see `CaptureOptions`.
        endless: the source's end is a loss (a camera), not the end of all (a file).
        on_notice: gets sentences for the user.
        join_s: how long `stop` waits for a read that blocks.
    """

    def __init__(
        self,
        open_source: OpenSource,
        options: CaptureOptions,
        *,
        endless: bool,
        on_notice: Callable[[str], None] | None = None,
        join_s: float = _JOIN_S,
    ) -> None:
        self._open = open_source
        self.options = options
        self._endless = endless
        self._notice = on_notice or (lambda _: None)
        self._join_s = join_s
        self._source: Source | None = None
        self._info: SourceInfo | None = None
        self._size_wh: tuple[int, int] | None = None
        self._next_id = 0
        self._said = ""
        self._recent_s: deque[float] = deque(maxlen=_RECENT)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: BaseException | None = None
        self.reconnects = 0
        self.frames = 0
        self.away: Why | None = None
        """Why no frames come; None while they do."""
        self.interval_s: float | None = None
        """Seconds from one frame to the next, learned: the median of the last few. None before the
        third frame: the first two may come at once, held while the source was opened. Any thread
        may ask; it stays over reconnects."""

    @property
    def waiting_for(self) -> str | None:
        """What a source waits for that delivers but gives no picture; any thread may ask."""
        source = self._source
        return source.waiting_for if isinstance(source, LiveSource) else None

    @property
    def away_after_s(self) -> float:
        """After so many seconds without a frame the source is away; any thread may ask."""
        interval_s = self.interval_s
        own_s = _UNKNOWN_S if interval_s is None else _INTERVALS * interval_s
        return max(self.options.away_s, own_s)

    def connect(self) -> SourceInfo:
        """Opens the source for the first time; the size of its frames is that of all later ones.

        A second call returns the same.

        Raises:
            SourceError: it cannot be opened.
        """
        if self._info is None:
            self._source = self._open(0, None)
            self._info = self._source.info
            self._size_wh = self._info.size_wh
        return self._info

    def start(self, inbox: Inbox) -> None:
        """Starts reading into `inbox`, which is ended when the source is."""
        self._thread = threading.Thread(
            target=self._run, args=(inbox,), name="capture", daemon=True
        )
        self._thread.start()

    def stop(self) -> bool:
        """Ends the reading; returns False where a read still blocks (it ends with the process)."""
        self._stopping.set()
        source = self._source
        if source is not None:
            source.close()
        if self._thread is None:
            return True
        self._thread.join(self._join_s)
        return not self._thread.is_alive()

    def _run(self, inbox: Inbox) -> None:
        options = self.options
        backoff = Backoff(options.backoff_s, options.max_backoff_s, jitter=_JITTER)
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                lost = self._read(inbox)
                if lost is None or self._stopping.is_set():
                    return
                if time.monotonic() - began >= self.options.healthy_s and self.away is None:
                    backoff.reset()
                self.away = self.away or Why.SOURCE_AWAY
                self._notice(f"the source is away: {redact(str(lost))}")
                self._reopen(backoff)
        except BaseException as error:  # whoever watches raises it
            self.error = error
        finally:
            if self._source is not None:
                self._source.close()
                self._source = None
            inbox.end(drop=self._stopping.is_set())

    def _read(self, inbox: Inbox) -> SourceError | None:
        """Reads until the source ends; returns why it is lost, None at a good end."""
        source = self._source
        assert source is not None  # connect() or _reopen() made it
        try:
            first, last_ns = self.reconnects > 0, 0
            for number, captured in enumerate(source.frames()):
                frame = captured.frame
                self._next_id = frame.frame_id + 1
                if self._stopping.is_set():
                    frame.release()
                    return None
                if number > 1:  # between the first two lies how long opening took
                    self._recent_s.append((frame.captured_ns - last_ns) / 1e9)
                    self.interval_s = statistics.median(self._recent_s)
                last_ns = frame.captured_ns
                if first:
                    captured = Captured(frame, restart=True, duration=captured.duration)
                    first = False
                if self.away is not None:
                    self.away = None
                    self._notice("the source is back")
                self.frames += 1
                inbox.put(captured)
            return SourceError("the source ended") if self._endless else None
        except SourceError as error:
            if self._endless or self._stopping.is_set():
                return error
            raise
        finally:
            source.close()
            self._source = None

    def _reopen(self, backoff: Backoff) -> None:
        """Opens the source again, waiting longer each time."""
        gc.collect()  # what the lost source's decoder holds; see `sources.live.RealtimeSource`
        while True:
            if self._stopping.wait(backoff.take()):
                return
            try:
                self._source = self._open(self._next_id, self._size_wh)
            except SourceError as error:
                self.away = _OTHER.get(type(error), self.away)
                if str(error) != self._said:
                    self._said = str(error)
                    self._notice(f"still away: {redact(self._said)}")
                continue
            self.reconnects += 1
            return
