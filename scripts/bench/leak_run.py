"""The file pipeline on frames that are in memory, every cover judged as it is composed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.compositor import Compositor
from m2fp_stream.compositor.effects import find_regions
from m2fp_stream.config import Settings
from m2fp_stream.core.plan import CoverPlan, CoverState, Unknown
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import Detections, LookKind, PartPlanes
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.parsers.embedded.looker import EmbeddedLooker
from m2fp_stream.pipeline.files.run import FileRun
from m2fp_stream.pipeline.looks import LookPool
from m2fp_stream.policy import Policy
from m2fp_stream.sinks.base import Sink
from m2fp_stream.sources.base import Captured, Source, SourceInfo
from scripts.bench.metrics import (
    EXPOSED_SHARE,
    HIDES,
    STRICT_SHARE,
    Bool,
    Cover,
    Hide,
    Scorer,
    Verdict,
)
from scripts.bench.scenes import RATE, Truth

Watcher = Callable[[RawFrame, Cover], None]


def covered_pixels(plan: CoverPlan) -> Bool:
    """Returns (H, W) bool: where the compositor covers wholly, the feather not counted."""
    width, height = plan.size_wh
    covered = np.zeros((height, width), np.bool_)
    for region in find_regions(plan.cover, plan.fills, plan.size_wh, feather_px=0, grid_px=8):
        covered[region.rows, region.columns] |= region.inside > 0
    return covered


def cover_of(state: CoverState, size_wh: tuple[int, int]) -> Cover:
    """Returns what a state covers of a frame of that size."""
    if isinstance(state, Unknown):
        return Cover(np.ones(size_wh[::-1], np.bool_))
    plan = state.plan
    tracks = np.asarray([0, *(fill.track_id & 0xFF for fill in plan.fills)], np.uint8)
    return Cover(covered_pixels(plan), tracks[plan.cover])


def turned_back(cover: Cover, truth: Truth) -> Cover:
    """Returns the cover of the frame that was shown, turned as the truth tells it."""
    tracks = None if cover.tracks is None else np.rot90(cover.tracks, truth.turn)
    return Cover(np.ascontiguousarray(np.rot90(cover.pixels, truth.turn)), tracks)


class Frames(Source):
    """Gives rendered frames as a file would."""

    def __init__(self, truths: Sequence[Truth], rate: Fraction = Fraction(RATE)) -> None:
        super().__init__()
        self._truths = truths
        self._rate = rate

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(size_wh=self._truths[0].shown_wh, time_base=1 / self._rate)

    def _capture(self) -> Iterator[Captured]:
        for index in range(len(self._truths)):
            yield Captured(raw_frame(self._truths[index], index, self._rate))


def raw_frame(truth: Truth, index: int, rate: Fraction = Fraction(RATE)) -> RawFrame:
    """Returns a frame with pixels of its own."""
    pixels = truth.shown.copy()
    return RawFrame(pixels, frame_id=index, pts=index, time_base=1 / rate, captured_ns=0)


class Nowhere(Sink[SafeFrame]):
    """Takes composed frames and drops them."""

    accepts = SafeFrame

    def _emit(self, item: SafeFrame) -> None:
        pass

    def _finish(self) -> None:
        pass

    def _abort(self) -> None:
        pass


class Judge:
    """Composes as the program does and judges every cover it is given."""

    def __init__(
        self,
        truths: Sequence[Truth],
        settings: Settings,
        *,
        hide: Hide = HIDES["head"],
        look: Path | None = None,
        watch: Watcher | None = None,
    ) -> None:
        """Takes, in `look`, a folder for pictures of frames that show somebody."""
        self._truths = truths
        self._hide = hide
        self._scorer = Scorer(hide)
        self._compositor = Compositor(settings.compose)
        self._look = look
        self._watch = watch

    @property
    def verdicts(self) -> list[Verdict]:
        """Of the frames so far, in the order in which they were composed."""
        return self._scorer.verdicts

    def compose(self, raw: RawFrame, state: CoverState) -> SafeFrame:
        """Returns the composed frame; what it shows is added to `verdicts`."""
        truth = self._truths[raw.frame_id]
        cover = turned_back(cover_of(state, truth.shown_wh), truth)
        verdict = self._scorer.see(truth, cover, raw.frame_id)
        if self._watch is not None:
            self._watch(raw, cover)
        if self._look is not None:
            save_look(self._look, truth, cover, verdict, self._hide, type(state).__name__)
        return self._compositor.compose(raw, state)


def save_look(
    folder: Path, truth: Truth, cover: Cover, verdict: Verdict, hide: Hide, note: str
) -> None:
    """Writes a picture of a frame that shows somebody or covers something far from anybody."""
    if verdict.worst > STRICT_SHARE:
        kind = "exposed" if verdict.worst > EXPOSED_SHARE else "strict"
    elif verdict.fragments:
        kind = "fragment"
    else:
        return
    name = f"{kind}-{verdict.frame_id:03}-{note}.png"
    cv2.imwrite(str(folder / name), overlay(truth, cover, hide))


def overlay(truth: Truth, cover: Cover, hide: Hide = HIDES["head"]) -> NDArray[np.uint8]:
    """Returns the frame with covers tinted blue, required pixels that are open red."""
    view = truth.bgr.copy()
    _tint(view, cover.pixels, (255, 80, 0))
    _tint(view, truth.mask(hide.required) & ~cover.pixels, (0, 0, 255))
    if truth.ignore is not None:
        _tint(view, truth.ignore, (0, 160, 160))
    return view


def _tint(view: NDArray[np.uint8], where: Bool, bgr: tuple[int, int, int]) -> None:
    view[where] = (view[where] // 2 + np.asarray(bgr) // 2).astype(np.uint8)


class Looks:
    """The embedded looker in this process, as a pool wants it."""

    def __init__(self) -> None:
        self._looker = EmbeddedLooker()

    def look(
        self, bgr: NDArray[np.uint8], kind: LookKind, *, frame_id: int
    ) -> Detections | PartPlanes:
        """Returns what one look found."""
        return self._looker.asked(kind, bgr, frame_id=frame_id)

    def interrupt(self) -> None:
        """Nothing runs for long."""

    def close(self) -> None:
        """The looker is kept for the next scene."""


def run_pipeline(
    truths: Sequence[Truth],
    settings: Settings,
    looker: Looks,
    *,
    hide: Hide = HIDES["head"],
    look: Path | None = None,
    watch: Watcher | None = None,
    rate: Fraction = Fraction(RATE),
) -> tuple[list[Verdict], Mapping[str, int]]:
    """Runs the file pipeline over a scene; returns a verdict a frame and the looks of each kind.

    The one place of the benchmark that knows how files are processed.
    """
    judged = Judge(truths, settings, hide=hide, look=look, watch=watch)
    pool = LookPool([looker])
    high = settings.file.quality == "high"
    try:
        outcome = FileRun(
            source=Frames(truths, rate),
            sink=Nowhere(),
            composer=judged,
            looks=pool,
            policy=Policy(settings.policy),
            options=settings.file,
            again=Frames(truths, rate) if high else None,
        ).run()
    finally:
        pool.close()
    return judged.verdicts, dict(outcome.looks)
