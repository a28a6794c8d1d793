"""Counts frames in which a head shows, on scenes where every head is known exactly.

    python -m scripts.bench.leak [--half tune|report] [--scenes dash,cuts] [--seeds 1,2]
        [--modes default,alone] [--set NAME file.interval_s=0.1 tracking.hold_s=4]
        [--data DIR] [--look DIR] [--json FILE]

The whole file pipeline runs, but for decoding and encoding. A frame is *exposed* if more than a
quarter of a visible head is uncovered at full resolution (strictly: a twentieth); heads of less
than 60 visible pixels do not count. Parameters are to be chosen on `--half tune` only.

Modes: `default`; `full` (no glances), `often` (a full parse every second); `i33` (another parse
interval); `noguard` (default without the motion guard); `alone` (every frame parsed, nothing
carried: what a detector in a loop would do). `aligned` and `low` (`-noguard`): the live modes, in
simulated time: a parse takes `--parse-ms FULL FAR GLANCE`, and the next starts when it is answered.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
from unittest import mock

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.compositor import Compositor
from m2fp_stream.compositor.effects import find_regions
from m2fp_stream.config import Settings, load_settings
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import CoverPlan, CoverState, Unknown, Why
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import Look, ParseResult
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.parsers.embedded.options import EmbeddedOptions
from m2fp_stream.parsers.guarded import from_options
from m2fp_stream.pipeline.follow import Follower
from m2fp_stream.pipeline.follow import Verdict as LiveVerdict
from m2fp_stream.pipeline.offline import OfflineRun
from m2fp_stream.pipeline.present import Ages, FrameStates
from m2fp_stream.pipeline.workers import ParserQueue
from m2fp_stream.policy import Policy
from m2fp_stream.sinks.base import Sink
from m2fp_stream.sources.base import Captured, Source, SourceInfo
from m2fp_stream.tracking.flow import Analyser, Small, small_size
from m2fp_stream.tracking.motion_guard import Guard
from m2fp_stream.tracking.options import TrackingOptions
from m2fp_stream.tracking.propagate import Tracker
from scripts.bench.scenes import RATE, SCENES, SIZE_WH, Truth, build

Bool = NDArray[np.bool_]

EXPOSED_SHARE: Final = 0.25
STRICT_SHARE: Final = 0.05
WARM_UP_FRAMES: Final = 15
"""Of the first picture, before a live scene begins: a camera runs before anybody comes."""

SMALLEST_HEAD_PX: Final = 60
"""Visible pixels; a head of less (8x8) shows nobody."""

LIVE: Final[dict[str, object]] = {"parser.far_every": 2}
"""What the live commands change in the parser."""

MODES: Final[dict[str, dict[str, object]]] = {
    "default": {},
    "full": {"file.full_interval_s": 0},
    "often": {"file.full_interval_s": 1.0},
    "i33": {"file.interval_s": 0.33},
    "noguard": {},
    "alone": {},
    "aligned": {"live.alignment": "aligned", **LIVE},
    "low": {"live.alignment": "low_latency", **LIVE},
    "aligned-noguard": {"live.alignment": "aligned", **LIVE},
    "low-noguard": {"live.alignment": "low_latency", **LIVE},
}
LIVE_MODES: Final = ("aligned", "low", "aligned-noguard", "low-noguard")


@dataclass(frozen=True)
class Verdict:
    """What one frame shows. Pixel counts at full resolution.

    Attributes:
        worst: largest uncovered share of a counted head, 0..1.
        head_px, open_px: of heads; of those uncovered.
        clear_px, over_px: of neither head nor hair below the chin; of those covered.
        back_px, back_over_px: the same of background only.
    """

    frame_id: int
    worst: float
    head_px: int
    open_px: int
    clear_px: int
    over_px: int
    back_px: int
    back_over_px: int


def judge(truth: Truth, covered: Bool, frame_id: int = 0) -> Verdict:
    """Returns what `covered`, (H, W) bool, leaves open of a frame and needlessly hides."""
    worst, head_px, open_px = 0.0, 0, 0
    clear = ~truth.aside
    for head in truth.heads:
        clear &= ~head
        visible = int(np.count_nonzero(head))
        if visible < SMALLEST_HEAD_PX:
            continue
        shown = int(np.count_nonzero(head & ~covered))
        head_px, open_px = head_px + visible, open_px + shown
        worst = max(worst, shown / visible)
    back = clear & ~truth.people
    return Verdict(
        frame_id,
        worst,
        head_px,
        open_px,
        int(np.count_nonzero(clear)),
        int(np.count_nonzero(clear & covered)),
        int(np.count_nonzero(back)),
        int(np.count_nonzero(back & covered)),
    )


def longest_run(exposed: Sequence[bool]) -> int:
    """Returns the largest number of consecutive True."""
    longest = run = 0
    for one in exposed:
        run = run + 1 if one else 0
        longest = max(longest, run)
    return longest


def covered_pixels(plan: CoverPlan) -> Bool:
    """Returns (H, W) bool: where the compositor covers wholly, the feather not counted."""
    width, height = plan.size_wh
    covered = np.zeros((height, width), np.bool_)
    for region in find_regions(plan.cover, plan.fills, plan.size_wh, feather_px=0, grid_px=8):
        covered[region.rows, region.columns] |= region.inside > 0
    return covered


class Frames(Source):
    """Gives rendered frames as a file would."""

    def __init__(self, truths: Sequence[Truth]) -> None:
        super().__init__()
        self._truths = truths

    @property
    def info(self) -> SourceInfo:
        return SourceInfo(size_wh=SIZE_WH, time_base=Fraction(1, RATE))

    def _capture(self) -> Iterator[Captured]:
        for index, truth in enumerate(self._truths):
            yield Captured(_raw(truth, index))


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

    def __init__(self, truths: Sequence[Truth], settings: Settings, look: Path | None) -> None:
        self.verdicts: list[Verdict] = []
        self._truths = truths
        self._compositor = Compositor(settings.compose)
        self._look = look

    def compose(self, raw: RawFrame, state: CoverState) -> SafeFrame:
        """Returns the composed frame; what it shows is added to `verdicts`."""
        truth = self._truths[raw.frame_id]
        plan = None if isinstance(state, Unknown) else state.plan
        covered = np.ones(truth.people.shape, bool) if plan is None else covered_pixels(plan)
        verdict = judge(truth, covered, raw.frame_id)
        self.verdicts.append(verdict)
        if self._look is not None and verdict.worst > STRICT_SHARE:
            kind = "exposed" if verdict.worst > EXPOSED_SHARE else "strict"
            name = f"{kind}-{raw.frame_id:03}-{type(state).__name__}.png"
            cv2.imwrite(str(self._look / name), overlay(truth, plan))
        return self._compositor.compose(raw, state)


def overlay(truth: Truth, plan: CoverPlan | None) -> NDArray[np.uint8]:
    """Returns the frame with covers tinted (tracks blue, the guard green), open heads red."""
    view = truth.bgr.copy()
    height, width = truth.people.shape
    covered = np.ones((height, width), np.bool_)
    if plan is not None:
        covered = covered_pixels(plan)
        guard = [k for k, fill in enumerate(plan.fills, start=1) if fill.track_id == 0]
        large = cv2.resize(plan.cover, (width, height), interpolation=cv2.INTER_NEAREST)
        by_guard = np.isin(large, guard)
        _tint(view, covered & by_guard, (0, 200, 0))
        _tint(view, covered & ~by_guard, (255, 80, 0))
    for head in truth.heads:
        _tint(view, head & ~covered, (0, 0, 255))
    return view


def _tint(view: NDArray[np.uint8], where: Bool, bgr: tuple[int, int, int]) -> None:
    view[where] = (view[where] // 2 + np.asarray(bgr) // 2).astype(np.uint8)


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


def run_pipeline(
    truths: Sequence[Truth], settings: Settings, parser: Direct, look: Path | None
) -> tuple[list[Verdict], int]:
    """Runs the file pipeline over a scene; returns a verdict a frame and the number of parses."""
    judged = Judge(truths, settings, look)
    queue = ParserQueue(parser)
    try:
        outcome = OfflineRun(
            source=Frames(truths),
            sink=Nowhere(),
            composer=judged,
            parser=queue,
            policy=Policy(settings.policy),
            tracking=settings.tracking,
            options=settings.file,
        ).run()
    finally:
        queue.close()
    return judged.verdicts, outcome.parses


def run_live(
    truths: Sequence[Truth],
    settings: Settings,
    parser: Direct,
    look: Path | None,
    parse_s: Mapping[Look, float],
) -> tuple[list[Verdict], int]:
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
    small_wh = small_size(SIZE_WH, settings.tracking.area)
    judged = Judge(truths, settings, look)
    policy = Policy(settings.policy)
    fulls, started_s = 0, -1e9
    states = FrameStates(policy, Ages(live.person_after_s, live.frame_after_s))
    known: dict[int, LiveVerdict] = {}
    flying: tuple[float, int, Look] | None = None
    parses = 0
    scale = live.parse_side / max(SIZE_WH)
    copy_wh = round(SIZE_WH[0] * scale), round(SIZE_WH[1] * scale)

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
        raw = _raw(truth, index)
        judged.compose(raw, states.of(raw, verdict))
    follower.close()
    return judged.verdicts, parses


def run_alone(
    truths: Sequence[Truth], settings: Settings, parser: Direct
) -> tuple[list[Verdict], int]:
    """Parses every frame and covers what that parse found, nothing else."""
    policy = Policy(settings.policy)
    scale = settings.file.parse_side / max(SIZE_WH)
    size_wh = round(SIZE_WH[0] * scale), round(SIZE_WH[1] * scale)
    verdicts = []
    for index, truth in enumerate(truths):
        copy = np.asarray(cv2.resize(truth.bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        findings = policy.findings(parser.parse(copy, frame_id=index))
        parts = np.zeros((size_wh[1], size_wh[0]), np.uint8)
        for region in findings.regions:
            parts = np.maximum(parts, np.minimum(region, Label.HUMAN))
        plan = policy.plan(
            frame_id=index, size_wh=SIZE_WH, parts=parts, tracks=np.zeros_like(parts)
        )
        verdicts.append(judge(truth, covered_pixels(plan), index))
    return verdicts, len(truths)


def summary(verdicts: Sequence[Verdict], parses: int) -> dict[str, Any]:
    """Returns one row of the table; shares in percent."""

    def share(part: str, whole: str) -> float:
        total = sum(int(getattr(verdict, whole)) for verdict in verdicts)
        return 100.0 * sum(int(getattr(verdict, part)) for verdict in verdicts) / max(1, total)

    exposed = [verdict.worst > EXPOSED_SHARE for verdict in verdicts]
    return {
        "frames": len(verdicts),
        "exposed": sum(exposed),
        "strict": sum(verdict.worst > STRICT_SHARE for verdict in verdicts),
        "run": longest_run(exposed),
        "open_head": share("open_px", "head_px"),
        "over": share("over_px", "clear_px"),
        "over_background": share("back_over_px", "back_px"),
        "parses": parses / max(1, len(verdicts)),
    }


def _raw(truth: Truth, index: int) -> RawFrame:
    return RawFrame(
        truth.bgr.copy(), frame_id=index, pts=index, time_base=Fraction(1, RATE), captured_ns=0
    )


def machine() -> dict[str, str]:
    """Returns what the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        names = [line for line in listing.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


COLUMNS: Final = ("exposed", "strict", "run", "open_head", "over", "over_background", "parses")


def _line(name: str, mode: str, row: dict[str, Any]) -> str:
    numbers = (row[c] if isinstance(row[c], int) else f"{row[c]:.2f}" for c in COLUMNS)
    return f"{name:14}{mode:10}" + "".join(f"{number:>16}" for number in numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--half", choices=("tune", "report"), default="tune")
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--modes", default="default")
    parser.add_argument(
        "--set", action="append", nargs="+", default=[], metavar=("NAME", "SECTION.FIELD=VALUE")
    )
    parser.add_argument(
        "--parse-ms",
        type=float,
        nargs=3,
        default=(240.0, 90.0, 80.0),
        metavar=("FULL", "FAR", "GLANCE"),
        help="how long a live parse takes, from order to answer; FAR is the part of a full one "
        "that parser.far_every saves (default: 240 90 80)",
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--look", type=Path, metavar="DIR", help="pictures of frames that show")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    full_s, far_s, glance_s = (ms / 1e3 for ms in arguments.parse_ms)
    parse_s = {Look.FRESH: full_s, Look.FULL: full_s, Look.ASIDE: far_s, Look.GLANCE: glance_s}
    modes = {name: MODES[name] for name in arguments.modes.split(",")}
    for name, *changes in arguments.set:
        pairs = (change.split("=", 1) for change in changes)
        modes[name] = {key: json.loads(value) for key, value in pairs}
    settings = {name: load_settings(overrides=changes) for name, changes in modes.items()}
    parsers = {s.parser.model_dump_json(): Direct(s.parser) for s in settings.values()}
    about = {**machine(), "half": arguments.half, "seeds": arguments.seeds}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'scene':14}{'mode':10}" + "".join(f"{column:>16}" for column in COLUMNS))
    everything: dict[str, list[Verdict]] = {mode: [] for mode in modes}
    parses = dict.fromkeys(modes, 0)
    seconds = dict.fromkeys(modes, 0.0)
    rows = []
    for name in arguments.scenes.split(","):
        for seed in (int(text) for text in arguments.seeds.split(",")):
            scene = build(name, data=arguments.data, half=arguments.half, seed=seed)
            truths = [scene.render(index) for index in range(scene.frames)]
            for mode, chosen in settings.items():
                looking = None
                if arguments.look is not None:
                    looking = arguments.look / f"{name}-{seed}-{mode}"
                    looking.mkdir(parents=True, exist_ok=True)
                asked = parsers[chosen.parser.model_dump_json()]
                began = time.monotonic()
                with without_guard() if "noguard" in mode else contextlib.nullcontext():
                    if mode in LIVE_MODES:
                        verdicts, count = run_live(truths, chosen, asked, looking, parse_s)
                    elif mode == "alone":
                        verdicts, count = run_alone(truths, chosen, asked)
                    else:
                        verdicts, count = run_pipeline(truths, chosen, asked, looking)
                seconds[mode] += time.monotonic() - began
                row = summary(verdicts, count)
                print(_line(f"{name}/{seed}", mode, row), flush=True)
                shown = [asdict(v) for v in verdicts if v.worst > STRICT_SHARE]
                rows.append({"scene": name, "seed": seed, "mode": mode, **row, "shown": shown})
                everything[mode] += verdicts
                parses[mode] += count
    totals = {mode: summary(everything[mode], parses[mode]) for mode in modes}
    for mode, row in totals.items():
        # A run of exposed frames does not reach from one scene into the next.
        row["run"] = max(one["run"] for one in rows if one["mode"] == mode)
        print(_line("all", mode, row))
    if arguments.json:
        report = {"about": about, "modes": modes, "totals": totals, "scenes": rows}
        arguments.json.write_text(json.dumps({**report, "seconds": seconds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
