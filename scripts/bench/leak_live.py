"""The live follower in simulated time, and a parser in a loop, on the leak benchmark's scenes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from unittest import mock

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.config import Settings
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import Parsed, Why
from m2fp_stream.core.records import Look, ParseResult
from m2fp_stream.parsers.embedded.options import EmbeddedOptions
from m2fp_stream.parsers.guarded import from_options
from m2fp_stream.pipeline.live.follow import Follower
from m2fp_stream.pipeline.live.follow import Verdict as LiveVerdict
from m2fp_stream.pipeline.live.present import Ages, FrameStates
from m2fp_stream.policy import Policy
from m2fp_stream.tracking.flow import Analyser, Small, small_size
from m2fp_stream.tracking.motion_guard import Guard
from m2fp_stream.tracking.options import TrackingOptions
from m2fp_stream.tracking.propagate import Tracker
from scripts.bench.leak_run import Judge, cover_of, raw_frame
from scripts.bench.metrics import HIDES, Hide, Scorer, Verdict
from scripts.bench.scenes import RATE, SIZE_WH, Truth

__all__ = ["run_alone", "run_live", "without_guard"]

WARM_UP_FRAMES: Final = 15
"""Of the first picture, before a live scene begins: a camera runs before anybody comes."""


class Direct:
    """The embedded parser in this process, as a queue wants it."""

    def __init__(self, options: EmbeddedOptions) -> None:
        # As in a file run, where the parser draws at the size at which people are tracked.
        small = max(small_size(SIZE_WH, TrackingOptions().area))
        chosen = options.model_copy(update={"map_size": small})
        self._parser = from_options(guard=chosen.model_dump(mode="json"))

    def parse(
        self, bgr: NDArray[np.uint8], *, frame_id: int, look: Look = Look.FULL
    ) -> ParseResult:
        """Returns the findings on `bgr`, which is frame `frame_id` of the scene at hand."""
        return self._parser.parse(bgr, frame_id=frame_id, look=look)

    def interrupt(self) -> None:
        """Nothing runs for long."""

    def close(self) -> None:
        """The parser is kept for the next mode."""


@contextlib.contextmanager
def without_guard() -> Iterator[None]:
    """Makes the motion guard explain everything, so that it neither covers nor calls for parses."""

    def blank(guard: Guard, *_: object, **__: object) -> Guard:
        return Guard.blank(*guard.explained.shape)

    with mock.patch.multiple(Guard, step=blank, correct=blank):
        yield


def run_live(
    truths: Sequence[Truth],
    settings: Settings,
    parser: Direct,
    look: Path | None,
    parse_s: Mapping[Look, float],
    hide: Hide = HIDES["head"],
) -> tuple[list[Verdict], Mapping[str, int]]:
    """Runs the live follower over a scene in simulated time."""
    live = settings.live
    aligned = live.alignment == "aligned"
    analyser = Analyser()
    follower = Follower(
        Tracker(settings.tracking),
        reverse=analyser.reverse,
        aligned=aligned,
        full_interval_s=live.full_interval_s,
        full_spacing_s=live.full_spacing_s,
        history_s=max(live.frame_after_s, live.max_delay_s) + 0.5,
    )
    full_wh = truths[0].size_wh
    small_wh = small_size(full_wh, settings.tracking.area)
    judged = Judge(truths, settings, hide=hide, look=look)
    policy = Policy(settings.policy)
    fulls, started_s = 0, -1e9
    states = FrameStates(policy, Ages(live.person_after_s, live.frame_after_s))
    known: dict[int, LiveVerdict] = {}
    flying: tuple[float, int, Look] | None = None
    parses = 0
    scale = live.parse_side / max(full_wh)
    copy_wh = round(full_wh[0] * scale), round(full_wh[1] * scale)

    def work(until_s: float) -> None:
        """Answers and orders parses up to a moment."""
        nonlocal flying, parses, fulls, started_s
        while True:
            if flying is not None:
                at_s, number, how = flying
                if at_s > until_s:
                    return
                picture = truths[max(0, number)].bgr
                copy = cv2.resize(picture, copy_wh, interpolation=cv2.INTER_AREA)
                result = parser.parse(np.asarray(copy, np.uint8), frame_id=number, look=how)
                follower.answer(number, policy.findings(result, whole=True))
                flying, parses, free_s = None, parses + 1, at_s
            else:
                free_s = until_s
            if until_s < min(1e9, started_s + live.min_interval_s - 1e-6):
                return
            ordered = follower.order()
            if ordered is None:
                return
            number, how = ordered
            took_s = parse_s[how]
            if how is Look.FRESH:
                fulls = 0
            elif how is Look.FULL:
                fulls += 1
                if fulls % settings.parser.far_every:
                    took_s -= parse_s[Look.ASIDE]
            started_s = max(free_s, number / RATE)
            flying = started_s + took_s, number, how

    for index in range(-WARM_UP_FRAMES, len(truths)):
        truth = truths[max(0, index)]
        now_s = index / RATE
        work(now_s - 1e-9)
        small = Small.of(truth.bgr, small_wh)
        back = analyser.feed_back(small)
        follower.add(index, now_s, small, back, start=None if back else Why.CUT)
        work(now_s)
        known.update((one.frame_id, one) for one in follower.take())
    work(float("inf"))
    follower.finish()
    known.update((one.frame_id, one) for one in follower.take())
    for index, truth in enumerate(truths):
        verdict = known.get(index)
        raw = raw_frame(truth, index)
        judged.compose(raw, states.of(raw, verdict))
    follower.close()
    return judged.verdicts, {"parses": parses}


def run_alone(
    truths: Sequence[Truth], settings: Settings, parser: Direct, hide: Hide = HIDES["head"]
) -> tuple[list[Verdict], Mapping[str, int]]:
    """Parses every frame and covers what that parse found, nothing else."""
    policy = Policy(settings.policy)
    full_wh = truths[0].size_wh
    scale = settings.live.parse_side / max(full_wh)
    size_wh = round(full_wh[0] * scale), round(full_wh[1] * scale)
    scorer = Scorer(hide)
    for index, truth in enumerate(truths):
        copy = np.asarray(cv2.resize(truth.bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        findings = policy.findings(parser.parse(copy, frame_id=index))
        parts = np.zeros_like(findings.people)
        for region in findings.regions:
            parts = np.maximum(parts, np.minimum(region, Label.HUMAN))
        plan = policy.plan(
            frame_id=index, size_wh=full_wh, parts=parts, tracks=np.zeros_like(parts)
        )
        scorer.see(truth, cover_of(Parsed(plan), full_wh), index)
    return scorer.verdicts, {"parses": len(truths)}
