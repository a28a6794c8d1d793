"""The live pipeline in simulated time, and a parser in a loop, on the leak benchmark's scenes."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.config import Settings
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import CoverState, Parsed, Propagated
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import LookKind, ParseResult
from m2fp_stream.parsers.embedded.options import EmbeddedOptions
from m2fp_stream.parsers.embedded.parser import EmbeddedParser
from m2fp_stream.parsers.guarded import ReviewedParser
from m2fp_stream.pipeline.copies import MAP_SIDE, NEAR_SIDE, hidden_by, live_face_side, shrunk
from m2fp_stream.pipeline.live.follow import Follower
from m2fp_stream.pipeline.live.looking import Looking, Pools
from m2fp_stream.pipeline.live.present import Ages, FrameStates
from m2fp_stream.pipeline.live.schedule import Load, Took
from m2fp_stream.pipeline.looks import URGENCY, Seen
from m2fp_stream.policy import Policy
from m2fp_stream.sources.base import Captured
from scripts.bench.leak_run import Judge, Looks, cover_of, raw_frame
from scripts.bench.metrics import HIDES, Hide, Scorer, Verdict
from scripts.bench.scenes import RATE, Truth
from tests.kit.parses import hidden_regions

__all__ = ["LookTimes", "run_alone", "run_live"]

MIDDLE_SIDE: Final = 640
"""Larger copies are of far looks."""

WARM_UP_FRAMES: Final = 50
"""Of the first picture, before a live scene begins: a camera runs before anybody comes."""


@dataclass(frozen=True)
class LookTimes:
    """Seconds that looks take, from order to answer of a worker that is free."""

    faces: float
    near: float
    middle: float
    far: float
    parts: float
    closer: float
    first: float
    """Of a far look that all else waits for: the first of a shot."""

    def of(self, kind: LookKind, side: int, *, first: bool) -> float:
        """Returns what a look at a copy takes, by its longer side."""
        if kind is LookKind.FACES:
            return self.faces
        if kind is LookKind.PARTS:
            return self.parts
        if kind is LookKind.CLOSER:
            return self.closer
        if side <= NEAR_SIDE:
            return self.near
        if side <= MIDDLE_SIDE:
            return self.middle
        return self.first if first else self.far


class SimulatedPool:
    """One looker: answers one look after the other, in simulated time."""

    def __init__(self, looks: Looks, times: LookTimes, waits: Callable[[], bool]) -> None:
        """`waits`: says whether nothing is known of the shot at hand."""
        self._looks, self._times, self._waits = looks, times, waits
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, float, Seen, Future[Seen]]] = []
        self._under_way: tuple[float, Seen, Future[Seen]] | None = None
        self.now_s = -1e9

    def submit(self, bgr: NDArray[np.uint8], kind: LookKind, *, frame_id: int) -> Future[Seen]:
        """Looks at once, answers later; a look that waits may be cancelled."""
        seen = self._looks.look(bgr, kind, frame_id=frame_id)
        future: Future[Seen] = Future()
        took = self._times.of(kind, max(bgr.shape[:2]), first=self._waits())
        heapq.heappush(self._waiting, (URGENCY[kind], next(self._order), took, seen, future))
        self._begin()
        return future

    def _begin(self) -> None:
        while self._under_way is None and self._waiting:
            _, _, took, seen, future = heapq.heappop(self._waiting)
            if not future.set_running_or_notify_cancel():
                continue
            self._under_way = self.now_s + took, seen, future

    @property
    def next_s(self) -> float:
        """When the next answer comes."""
        return float("inf") if self._under_way is None else self._under_way[0]

    def answer(self) -> None:
        """Gives the answer that is due now."""
        assert self._under_way is not None
        _, seen, future = self._under_way
        self._under_way = None
        future.set_result(seen)
        self._begin()


def run_live(
    truths: Sequence[Truth],
    settings: Settings,
    looks: Looks,
    look: Path | None,
    times: LookTimes,
    hide: Hide = HIDES["head"],
) -> tuple[list[Verdict], Mapping[str, int]]:
    """Runs the live pipeline over a scene; looks take their time, everything else takes none."""
    live = settings.live
    policy = Policy(settings.policy)
    size_wh = truths[0].shown_wh
    follower = Follower(
        size_wh=size_wh,
        map_wh=shrunk(size_wh, MAP_SIDE),
        rate=RATE,
        hidden=hidden_by(policy),
        rates=live.rates(),
    )
    pools = [SimulatedPool(looks, times, lambda: follower.waits) for _ in range(3)]
    asked: list[str] = []
    took = Took("people", "faces")
    load = Load(
        live.rates(),
        side=live_face_side(size_wh, live.look_size),
        smallest_side=live.min_look_size,
        late_s=live.person_after_s,
        delay_s=live.judged_after_s,
    )

    def on_look(name: str, seconds: float, failed: bool) -> None:
        asked.append(name)
        if not failed:
            took.add(name, seconds)

    looking = Looking(
        follower,
        Pools(*pools),
        look_side=live.look_size,
        faces_side=load.side,
        delay_s=live.judged_after_s,
        on_answer=lambda: None,
        on_look=on_look,
        on_failure=lambda _, error: print(error),
    )
    judged = Judge(truths, settings, hide=hide, look=look)
    states = FrameStates(policy, Ages(live.person_after_s, live.frame_after_s))
    raws: dict[int, RawFrame] = {}

    def show(now_s: float, *, last: bool = False) -> None:
        for verdict in looking.advance(now_s, all_of_them=last):
            raw = raws.pop(verdict.frame_id)
            index = verdict.frame_id - WARM_UP_FRAMES
            if index < 0:
                raw.release()
                continue
            state = states.of(raw, verdict)
            raw.frame_id = index
            judged.compose(raw, _renamed(state, index))
            raw.release()

    for number in range(len(truths) + WARM_UP_FRAMES):
        arrives_s = number / RATE
        while True:
            due_s = looking.due_s()
            answers_s = min(pool.next_s for pool in pools)
            now_s = min(answers_s, float("inf") if due_s is None else max(due_s, pools[0].now_s))
            if now_s >= arrives_s:
                break
            _at(pools, now_s)
            if answers_s <= now_s:
                min(pools, key=lambda pool: pool.next_s).answer()
            show(now_s)
        _at(pools, arrives_s)
        if number % RATE == RATE - 1:  # as a run does every second, but that no frame is left out
            load.observe(
                arrives_s,
                captured=RATE,
                late=0,
                people_s=took.median("people"),
                faces_share=(took.median("faces") or 0.0) * RATE,
            )
            follower.rates(load.rates)
            looking.faces_side = load.side
        truth = truths[max(0, number - WARM_UP_FRAMES)]
        raw = raw_frame(truth, number)
        raw.captured_ns = round(arrives_s * 1e9)
        raws[number] = raw
        looking.take(Captured(raw, restart=False), arrives_s)
        show(arrives_s)
    end_s = len(truths) / RATE + 2.0
    while raws:
        due_s = looking.due_s()
        answers_s = min(pool.next_s for pool in pools)
        now_s = min(answers_s, float("inf") if due_s is None else max(due_s, pools[0].now_s))
        if now_s > end_s:
            show(end_s, last=True)
            break
        _at(pools, now_s)
        if answers_s <= now_s:
            min(pools, key=lambda pool: pool.next_s).answer()
        show(now_s)
    looking.close()
    counts = {name: asked.count(name) for name in sorted(set(asked))}
    return judged.verdicts, counts


def _at(pools: Sequence[SimulatedPool], now_s: float) -> None:
    for pool in pools:
        pool.now_s = max(pool.now_s, now_s)


def _renamed(state: CoverState, frame_id: int) -> CoverState:
    """Returns a state that is about the same frame under another number."""
    if isinstance(state, Parsed | Propagated):
        return replace(state, plan=replace(state.plan, frame_id=frame_id))
    return state


class Direct:
    """The embedded parser in this process, as a queue wants it."""

    def __init__(self, options: EmbeddedOptions) -> None:
        # Covers of video are drawn at this size.
        chosen = options.model_copy(update={"map_size": MAP_SIDE})
        self._parser = ReviewedParser(EmbeddedParser(chosen))

    def parse(self, bgr: NDArray[np.uint8], *, frame_id: int) -> ParseResult:
        """Returns the findings on `bgr`, which is frame `frame_id` of the scene at hand."""
        return self._parser.parse(bgr, frame_id=frame_id)

    def interrupt(self) -> None:
        """Nothing runs for long."""

    def close(self) -> None:
        """The parser is kept for the next mode."""


def run_alone(
    truths: Sequence[Truth], settings: Settings, parser: Direct, hide: Hide = HIDES["head"]
) -> tuple[list[Verdict], Mapping[str, int]]:
    """Parses every frame and covers what that parse found, nothing else."""
    policy = Policy(settings.policy)
    full_wh = truths[0].size_wh
    scale = settings.live.look_size / max(full_wh)
    size_wh = round(full_wh[0] * scale), round(full_wh[1] * scale)
    scorer = Scorer(hide)
    for index, truth in enumerate(truths):
        copy = np.asarray(cv2.resize(truth.bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        result = parser.parse(copy, frame_id=index)
        parts = np.zeros_like(result.label_map)
        for region in hidden_regions(policy, result):
            parts = np.maximum(parts, np.minimum(region, Label.HUMAN))
        plan = policy.plan(
            frame_id=index, size_wh=full_wh, parts=parts, tracks=np.zeros_like(parts)
        )
        scorer.see(truth, cover_of(Parsed(plan), full_wh), index)
    return scorer.verdicts, {"parses": len(truths)}
