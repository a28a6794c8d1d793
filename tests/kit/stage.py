"""A stage for runs: drawn footage that knows what was released, scripted lookers, a kept sink."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.compositor.compose import Compositor
from m2fp_stream.core.plan import CoverPlan, CoverState, Parsed, Propagated
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import LookKind, ParseResult
from m2fp_stream.core.safe import SafeFrame, TrackTable
from m2fp_stream.pipeline.files.options import FilePipelineOptions
from m2fp_stream.pipeline.files.outcome import Outcome, Sound
from m2fp_stream.pipeline.files.run import FileRun
from m2fp_stream.pipeline.looks import LookPool, Seen, SyncLooker
from m2fp_stream.pipeline.solver.fine import FineLooks
from m2fp_stream.pipeline.workers import ParserQueue, SyncParser
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.sinks.base import Sink
from m2fp_stream.sources.base import Captured, Source, SourceInfo

from .faulty import DrawnLooker, good_result

Picture = NDArray[np.uint8]
WIDTH, HEIGHT = 320, 180
RATE = 25
TIME_BASE = Fraction(1, 1000)


def backdrop(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """Returns a smooth texture, which optical flow can follow."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), 3.0), np.float32)
    stretched = (smooth - smooth.mean()) * (45.0 / float(smooth.std())) + 120.0
    return np.asarray(np.clip(stretched, 0, 255), np.uint8)


class Footage(Source):
    """Gives drawn pictures and remembers every frame and buffer it handed out."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        *,
        pts: Sequence[int] | None = None,
        restarts: Sequence[int] = (),
        error: Exception | None = None,
    ) -> None:
        super().__init__()
        self._pictures = pictures
        self._pts = pts or [index * 1000 // RATE for index in range(len(pictures))]
        self._restarts = restarts
        self._error = error
        self.given: list[RawFrame] = []
        self.buffers: list[Picture] = []
        self.most_unreleased = 0
        height, width = pictures[0].shape[:2]
        self._info = SourceInfo(size_wh=(width, height), time_base=TIME_BASE)

    @property
    def info(self) -> SourceInfo:
        return self._info

    def _capture(self) -> Iterator[Captured]:
        for index, picture in enumerate(self._pictures):
            buffer = picture.copy()
            self.buffers.append(buffer)
            frame = RawFrame(
                buffer,
                frame_id=index,
                pts=self._pts[index],
                time_base=TIME_BASE,
                captured_ns=index,
            )
            self.given.append(frame)
            unreleased = sum(not given.released for given in self.given)
            self.most_unreleased = max(self.most_unreleased, unreleased)
            yield Captured(frame, restart=index in self._restarts)
        if self._error is not None:
            raise self._error

    def starts_at(self, begins_s: float) -> None:
        """Says that players count this time at the first frame."""
        self._info = replace(self._info, begins_s=begins_s)

    def all_gone(self) -> bool:
        """Returns whether every frame was released and its buffer zeroed."""
        return all(frame.released for frame in self.given) and not any(
            buffer.any() for buffer in self.buffers
        )


class Kept(Sink[SafeFrame]):
    """Keeps every frame that it received."""

    accepts = SafeFrame

    def __init__(self, on_emit: Callable[[SafeFrame], None] | None = None) -> None:
        super().__init__()
        self.frames: list[SafeFrame] = []
        self.finished = False
        self.aborted = False
        self._on_emit = on_emit

    def _emit(self, item: SafeFrame) -> None:
        if self._on_emit is not None:
            self._on_emit(item)
        self.frames.append(item)

    def _finish(self) -> None:
        self.finished = True

    def _abort(self) -> None:
        self.aborted = True


class Witness:
    """The real compositor, which also keeps the states it was given."""

    def __init__(self) -> None:
        self._compositor = Compositor()
        self.states: dict[int, CoverState] = {}

    def compose(self, raw: RawFrame, state: CoverState) -> SafeFrame:
        self.states[raw.frame_id] = state
        return self._compositor.compose(raw, state)

    def plan(self, frame_id: int) -> CoverPlan | None:
        """Returns the plan of a frame, or None where nothing was known."""
        state = self.states[frame_id]
        return state.plan if isinstance(state, Parsed | Propagated) else None


Script = Callable[[Picture, int], ParseResult]


class Scripted:
    """A parser in this process that answers as a function says."""

    def __init__(self, script: Script | None = None) -> None:
        self._script = script or (lambda bgr, n: good_result(bgr.shape[0], bgr.shape[1], n))
        self.asked: list[int] = []
        self.closed = threading.Event()

    def parse(self, bgr: Picture, *, frame_id: int) -> ParseResult:
        self.asked.append(frame_id)
        return self._script(bgr, frame_id)

    def interrupt(self) -> None:
        """It ends by itself."""

    def close(self) -> None:
        self.closed.set()


@contextmanager
def serving(parser: SyncParser) -> Iterator[ParserQueue]:
    queue = ParserQueue(parser)
    try:
        yield queue
    finally:
        queue.close()


class Watcher:
    """A looker in this process: sees the people drawn in the footage, unless a function objects.

    Args:
        script: called with every question before it is answered; what it returns is the answer,
            unless it is None. What it raises is raised.
    """

    def __init__(self, script: LookScript | None = None) -> None:
        self._eyes = DrawnLooker()
        self._script = script or (lambda bgr, kind, n: None)
        self.asked: list[tuple[LookKind, int]] = []
        self.closed = threading.Event()

    def look(self, bgr: Picture, kind: LookKind, *, frame_id: int) -> Seen:
        self.asked.append((kind, frame_id))
        answer = self._script(bgr, kind, frame_id)
        return self._eyes.asked(kind, bgr, frame_id=frame_id) if answer is None else answer

    def frames(self, kind: LookKind) -> list[int]:
        """The frames at which a look of `kind` was asked for, in order, each once."""
        return sorted({number for asked, number in self.asked if asked is kind})

    def interrupt(self) -> None:
        """It ends by itself."""

    def close(self) -> None:
        self.closed.set()


LookScript = Callable[[Picture, LookKind, int], Seen | None]


@dataclass
class Show:
    """One run over a file: what went in, what came out."""

    source: Footage
    lookers: Sequence[SyncLooker] = field(default_factory=lambda: [Watcher()])
    sink: Kept = field(default_factory=Kept)
    witness: Witness = field(default_factory=Witness)
    options: dict[str, Any] = field(default_factory=dict)
    hide: str | list[str] = "head"
    policy: dict[str, Any] = field(default_factory=dict)
    again: Footage | None = None
    fine: SyncParser | None = None
    sound: Sound | None = None
    tracks: Sink[TrackTable] | None = None

    def run(self, on_frames: Callable[[int], None] | None = None) -> Outcome:
        with ExitStack() as opened:
            looks = LookPool(self.lookers)
            opened.callback(looks.close)
            fine = None
            if self.fine is not None:
                fine = FineLooks(opened.enter_context(serving(self.fine)), side=320, every_s=0.2)
            return FileRun(
                source=self.source,
                sink=self.sink,
                composer=self.witness,
                looks=looks,
                policy=Policy(PolicyOptions.model_validate({"hide": self.hide, **self.policy})),
                options=FilePipelineOptions.model_validate(self.options),
                fine=fine,
                again=self.again,
                sound=self.sound,
                tracks=self.tracks,
                on_frames=on_frames,
            ).run()

    def all_gone(self) -> bool:
        """Returns whether every frame of either reading was released and zeroed."""
        return self.source.all_gone() and (self.again is None or self.again.all_gone())
