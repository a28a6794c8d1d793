"""A stage for live runs: footage at its own pace that breaks on cue, and what sinks saw of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from m2fp_stream.compositor.compose import Compositor
from m2fp_stream.core.errors import SourceError
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import LookKind
from m2fp_stream.core.safe import CoverLevel, SafeFrame
from m2fp_stream.pipeline.live.capture import Capture, CaptureOptions, OpenSource
from m2fp_stream.pipeline.live.control import PrivacyDial
from m2fp_stream.pipeline.live.looking import Pools
from m2fp_stream.pipeline.live.options import LiveOptions
from m2fp_stream.pipeline.live.outlets import Outlet
from m2fp_stream.pipeline.live.refine import Refiner
from m2fp_stream.pipeline.live.run import LiveRun
from m2fp_stream.pipeline.live.stats import LiveStats
from m2fp_stream.pipeline.looks import LookPool, LookWorker, SyncLooker
from m2fp_stream.pipeline.looks import Seen as LookSeen
from m2fp_stream.pipeline.workers import (
    ParserQueue,
    ParserWorker,
    SyncParser,
    WorkerProcess,
    WorkerSpec,
)
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.sinks.base import Sink
from m2fp_stream.sources.base import Captured, Source, SourceInfo
from tests.kit.texture import contains_marker, marker
from tests.kit.wait import Found, wait_until

from . import faulty
from .stage import HEIGHT, WIDTH, Picture, backdrop

RATE = 25
TIME_BASE = Fraction(1, 1_000_000)
TEXTURE = marker(77, 64, 48)


def room(seed: int) -> Picture:
    """Returns a room without blue, for what is grey in it is a person, and with a floor."""
    made = backdrop(seed)
    made[..., 0] = 0
    made[-faulty.FLOOR_PX :, :, 2] = 0
    return made


ROOM = room(0)


def scene(frame_id: int) -> Picture:
    """The room with the marked person in it."""
    left, top, right, bottom = faulty.person_box(frame_id)
    picture = ROOM.copy()
    picture[top:bottom, left:right] = TEXTURE
    return picture


def shows_marker(pixels: Picture, frame_id: int) -> bool:
    """Whether the marker is to be seen where the person stands in that frame, or anywhere."""
    if frame_id < 0:  # a card without a frame: look everywhere
        return contains_marker(pixels, TEXTURE[:16, :16])
    left, top, right, bottom = faulty.person_box(frame_id)
    return contains_marker(pixels[top:bottom, left:right], TEXTURE)


@dataclass
class Cues:
    """What is to go wrong with the source, set while it runs."""

    lost: threading.Event = field(default_factory=threading.Event)
    silent: threading.Event = field(default_factory=threading.Event)
    frozen: threading.Event = field(default_factory=threading.Event)
    refuse: threading.Event = field(default_factory=threading.Event)
    end: threading.Event = field(default_factory=threading.Event)
    picture: Callable[[int], Picture] = scene
    kept: Picture | None = None
    times: dict[int, float] = field(default_factory=dict)
    """When each frame was captured, by its id."""


class LiveFootage(Source):
    """Gives drawn pictures at a camera's pace."""

    def __init__(
        self, cues: Cues, first_frame_id: int, size_wh: tuple[int, int] | None, rate: int = RATE
    ) -> None:
        super().__init__()
        if cues.refuse.is_set():
            raise SourceError("the drawn camera is not there; plug it in")
        self._cues, self._next, self._rate = cues, first_frame_id, rate
        self._info = SourceInfo(size_wh=size_wh or (WIDTH, HEIGHT), time_base=TIME_BASE)
        cues.lost.clear()

    @property
    def info(self) -> SourceInfo:
        return self._info

    def _capture(self) -> Iterator[Captured]:
        due_s = time.monotonic()
        while not self._cues.end.is_set():
            # Never faster than that: who walks would leap where frames are made up for at once.
            due_s = max(due_s + 1 / self._rate, time.monotonic())
            time.sleep(max(0.0, due_s - time.monotonic()))
            while self._cues.silent.is_set():
                if self._cues.end.wait(0.01):
                    return
            if self._cues.lost.is_set():
                raise SourceError("the drawn camera was unplugged")
            cues = self._cues
            picture = cues.picture(self._next) if cues.kept is None else cues.kept
            cues.kept = picture if cues.frozen.is_set() else None
            now_ns = time.monotonic_ns()
            cues.times[self._next] = now_ns / 1e9
            yield Captured(
                RawFrame(
                    picture.copy(),
                    frame_id=self._next,
                    pts=now_ns // 1000,
                    time_base=TIME_BASE,
                    captured_ns=now_ns,
                )
            )
            self._next += 1


@dataclass(frozen=True)
class Seen:
    """One composed frame: when it came, and what it was."""

    at_s: float
    captured_s: float
    frame_id: int
    level: CoverLevel
    reason: str
    age_s: float | None
    raw: bool


class Watching(Sink[SafeFrame]):
    """Looks for the marker in every frame and keeps what it saw, not the frame."""

    accepts = SafeFrame

    def __init__(
        self,
        seen: list[Seen],
        on_emit: Callable[[], None] | None = None,
        look: Callable[[Picture, int], bool] | None = None,
    ) -> None:
        super().__init__()
        self._look = look or shows_marker
        self._seen = seen
        self._on_emit = on_emit

    def _emit(self, item: SafeFrame) -> None:
        if self._on_emit is not None:
            self._on_emit()
        self._seen.append(
            Seen(
                time.monotonic(),
                item.captured_ns / 1e9,
                item.frame_id,
                item.cover.level,
                item.cover.reason,
                item.cover.age_s,
                self._look(item.pixels, item.frame_id),
            )
        )

    def _finish(self) -> None:
        pass

    def _abort(self) -> None:
        pass


class Overheard:
    """A pool of lookers that also notes which looks were asked for, and which were answered.

    It knows the ages of looks without asking whoever follows people.
    """

    def __init__(self, looker: SyncLooker) -> None:
        self.pool = LookPool([looker], attempts=1)
        self.asked: list[tuple[LookKind, int]] = []
        self.good: list[tuple[LookKind, int]] = []
        """Kind and frame of each look that succeeded; turned copies among them."""
        self.bad: list[tuple[LookKind, int, float]] = []
        """The same of each that failed, and when its answer came (monotonic)."""
        self.under_way = self.most_under_way = 0
        self._lock = threading.Lock()

    def submit(self, bgr: Picture, kind: LookKind, *, frame_id: int) -> Future[LookSeen]:
        with self._lock:
            self.asked.append((kind, frame_id))
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        future = self.pool.submit(bgr, kind, frame_id=frame_id)

        def answered(one: Future[LookSeen]) -> None:
            with self._lock:
                self.under_way -= 1
                if one.cancelled():
                    return
                if one.exception() is None:
                    self.good.append((kind, frame_id))
                else:
                    self.bad.append((kind, frame_id, time.monotonic()))

        future.add_done_callback(answered)
        return future


class Performance:
    """One live run in a thread of its own, which can be watched and broken while it goes.

    Args:
        lookers: in place of those that tell the truth, by the names of `Pools`.
        cues, open_source, rate, endless: what is filmed.
        live, capture: options, where they are not the defaults.
        on_emit: called with every frame that the sink gets.
        more_outlets: beside the one that looks for the marker.
        look: looks for it in another way.
        fine: a slow second parser.
        policy: options, where they are not the defaults.
    """

    def __init__(
        self,
        lookers: Mapping[str, SyncLooker] | None = None,
        *,
        cues: Cues | None = None,
        live: dict[str, Any] | None = None,
        capture: dict[str, Any] | None = None,
        on_emit: Callable[[], None] | None = None,
        more_outlets: tuple[Outlet, ...] = (),
        rate: int = RATE,
        open_source: OpenSource | None = None,
        look: Callable[[Picture, int], bool] | None = None,
        fine: SyncParser | None = None,
        endless: bool = True,
        policy: dict[str, Any] | None = None,
    ) -> None:
        self.seen: list[Seen] = []
        self.notices: list[str] = []
        self.cues = cues or Cues()
        self.dial = PrivacyDial()
        self.stats = LiveStats()
        self.lookers: dict[str, SyncLooker] = {**honest(), **(lookers or {})}
        for looker in self.lookers.values():
            if isinstance(looker, WorkerProcess):
                looker.begin()
        self.pools = {name: Overheard(looker) for name, looker in self.lookers.items()}
        self.fine_queue = None if fine is None else ParserQueue(fine, attempts=1)
        self.refiner = Refiner(self.fine_queue, side=WIDTH) if self.fine_queue else None
        quick = {"backoff_s": 0.05, "max_backoff_s": 0.2, "healthy_s": 0.0}
        self.capture = Capture(
            open_source or (lambda first, size: LiveFootage(self.cues, first, size, rate)),
            CaptureOptions.model_validate({"input": "drawn", **quick, **(capture or {})}),
            endless=endless,
            on_notice=self.notices.append,
        )
        self.outlet = Outlet("watching", lambda _: Watching(self.seen, on_emit, look), keep=8)
        self.options = LiveOptions.model_validate(live or {})
        self.run = LiveRun(
            capture=self.capture,
            outlets=(self.outlet, *more_outlets),
            composer=Compositor(),
            pools=Pools(**self.pools),
            policy=Policy(PolicyOptions.model_validate(policy or {})),
            options=self.options,
            dial=self.dial,
            stats=self.stats,
            refiner=self.refiner,
            on_notice=self.notices.append,
        )
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="performance")

    def __enter__(self) -> Performance:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run.stop()
        self.cues.end.set()
        self._thread.join()
        for pool in self.pools.values():
            pool.pool.close()
        if self.fine_queue is not None:
            self.fine_queue.close()

    def _run(self) -> None:
        try:
            self.run.run()
        except BaseException as error:
            self.error = error

    def wait_for(self, what: Callable[[Seen], bool], after_s: float = 0.0) -> Seen:
        """Returns the first frame composed after a moment that is so."""

        def first() -> Seen | None:
            return next((one for one in list(self.seen) if one.at_s > after_s and what(one)), None)

        return self.until(first)

    def picture(self, after_s: float = 0.0) -> Seen:
        """Waits for a frame that shows something of the room."""
        return self.wait_for(lambda one: one.level is not CoverLevel.FRAME, after_s)

    def as_usual(self, captured_after_s: float = 0.0) -> Seen:
        """Waits for a frame, captured after a moment, on which parts alone are covered."""
        return self.wait_for(
            lambda one: one.level is CoverLevel.PARTS and one.captured_s > captured_after_s
        )

    def card(self, after_s: float = 0.0) -> Seen:
        """Waits for a frame that is covered whole."""
        return self.wait_for(lambda one: one.level is CoverLevel.FRAME, after_s)

    def until(self, what: Callable[[], Found | None]) -> Found:
        """Waits until something is so, and returns it; the run has to go on meanwhile."""

        def goes_on() -> Found | None:
            found = what()
            if not found and self.error is not None:
                raise self.error
            return found

        return wait_until(goes_on, tell=lambda: self.seen[-3:])

    def raw_frames(self) -> list[int]:
        """Returns the frames in which the marker was to be seen."""
        return [one.frame_id for one in list(self.seen) if one.raw]


KINDS = ("faces", "people", "far", "parts", "closer")
"""What is looked for, in live pictures: each can fail alone."""

_BROKEN: dict[str, tuple[str, list[LookKind]]] = {
    "faces": ("faces", [LookKind.FACES]),
    "people": ("near", [LookKind.PEOPLE]),
    "far": ("far", [LookKind.PEOPLE, LookKind.FACES]),
    "parts": ("near", [LookKind.PARTS]),
    "closer": ("near", [LookKind.CLOSER]),
}
"""Who looks for it, and what is asked of him then."""

_HANGS_S = 2.0
"""After so long a looker that hangs is replaced; the other looks take milliseconds."""


def looker(fault: str = "none", **options: Any) -> LookWorker:
    """Returns a looker in a process of its own; only one that hangs is given up soon."""
    deadline_s = options.pop("deadline_s", _HANGS_S if fault == "hanging" else 60.0)
    return LookWorker(
        WorkerSpec(
            "tests.kit.faulty:FaultyLooker", {"fault": fault, **options}, deadline_s=deadline_s
        )
    )


def honest() -> dict[str, LookWorker]:
    """Returns lookers that tell the truth."""
    return {name: looker() for name in ("faces", "near", "far")}


def broken(fault: str, kind: str | None = None, **options: Any) -> dict[str, SyncLooker]:
    """Returns the lookers that fail at looks of one of `KINDS`; None: all lookers, at every one."""
    if kind is None:
        return {name: looker(fault, **options) for name in ("faces", "near", "far")}
    name, kinds = _BROKEN[kind]
    return {name: looker(fault, kinds=kinds, **options)}


def worker(fault: str = "none", **options: Any) -> ParserWorker:
    """Returns a parser in a process of its own; only one that is to be too slow can be."""
    at: list[int] | None = options.pop("at", None)
    deadline_s = 1.2 if fault in ("hanging", "slow") else 60.0
    return ParserWorker(
        WorkerSpec("tests.kit.faulty:Faulty", {"fault": fault, "at": at}, deadline_s=deadline_s)
    )


def running(parser: WorkerProcess, other_than: int | None = None) -> int:
    """Waits for a process of a parser or looker; returns its id."""
    return wait_until(lambda: pid if (pid := parser.pid) != other_than else None)


def kill(pid: int) -> None:
    """Kills a process, which on a busy machine may just have been replaced for being slow."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
