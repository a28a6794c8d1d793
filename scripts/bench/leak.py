"""Measures what people see, on scenes where every head is known exactly.

    python -m scripts.bench.leak [--half tune|report] [--scenes dash,cuts] [--seeds 1,2]
        [--modes default,alone] [--hide head,face,skin,person,parts]
        [--deface] [--before CHECKOUT] [--cache DIR]
        [--set NAME file.buffer_mb=300] [--data DIR] [--look DIR] [--json FILE]

The whole file pipeline runs, but for decoding and encoding. `scripts/bench/metrics.py` defines the
columns: frames that show somebody stand beside what is covered needlessly. Parameters are to be
chosen on `--half tune` only; the scenes of `LAST_SCENES` run only where they are named, once.

Modes: `default`; `high` (`--quality high`); `alone` (every frame parsed by the embedded parser,
nothing carried: what a detector in a loop would do); `aligned` and `low`: the live modes, in
simulated time: looks take `--look-ms` (measure them: `m2fp-stream bench live`, pinned to one core,
prints their p95), everything else takes none. `--deface` and `--before` add rows for deface 1.5.0
and for another checkout's file pipeline on the very same frames; `--cache` keeps their covers from
one run to the next.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from m2fp_stream.config import Settings, load_settings
from scripts.bench.leak_live import Direct, LookTimes, run_alone, run_live
from scripts.bench.leak_run import Looks, run_pipeline, save_look, turned_back
from scripts.bench.metrics import (
    HIDES,
    STRICT_SHARE,
    Hide,
    Scorer,
    Verdict,
    summary,
)
from scripts.bench.peers import Deface, Lines, before, cached, covers
from scripts.bench.scenes import Film, Scene
from scripts.bench.scenes_everyday import LAST_SCENES, SCENES, build

MODES: Final[dict[str, dict[str, object]]] = {
    "default": {},
    "high": {"file.quality": "high"},
    "alone": {},
    "aligned": {"live.alignment": "aligned"},
    "low": {"live.alignment": "low_latency"},
}
LIVE_MODES: Final = ("aligned", "low")
LOOK_MS: Final = (22.0, 109.0, 270.0, 2500.0, 120.0, 119.0, 630.0)
"""Faces, near, middle, far, parts, closer, first: see docs/performance.md."""
PEERS: Final = ("deface", "before")

Result = tuple[list[Verdict], Mapping[str, int], float]
"""Verdicts, looks of each kind, seconds."""


class Runner:
    """Runs one mode over one scene; what is costly to load is loaded once."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._parsers: dict[str, Direct] = {}
        self._looks: Looks | None = None
        self._deface: Deface | None = None
        self._times = LookTimes(*(ms / 1e3 for ms in arguments.look_ms))

    def run(
        self, film: Film, mode: str, changes: Mapping[str, object], name: str, look: Path | None
    ) -> Result:
        """Returns what `mode` shows of `film` when `name` (of `HIDES`) is hidden."""
        hide = HIDES[name]
        options = {**hide.options, **changes}
        if mode == "deface":
            if self._deface is None:
                self._deface = Deface()
            make = partial(self._deface.lines, film)
            return self._judged(film, cached(*self._key(film, mode), make), hide, look)
        if mode == "before":
            make = partial(before, self._arguments.before, film, options)
            return self._judged(film, cached(*self._key(film, f"{mode}-{name}"), make), hide, look)
        settings = load_settings(overrides=options)
        if self._looks is None:
            self._looks = Looks()
        began = time.monotonic()
        if settings.live != load_settings().live or mode in LIVE_MODES:
            verdicts, looks = run_live(film, settings, self._looks, look, self._times, hide)
        elif mode == "alone":
            verdicts, looks = run_alone(film, settings, self._parser(settings), hide)
        else:
            verdicts, looks = run_pipeline(film, settings, self._looks, hide=hide, look=look)
        return verdicts, looks, time.monotonic() - began

    def _parser(self, settings: Settings) -> Direct:
        key = settings.parser.model_dump_json()
        if key not in self._parsers:
            self._parsers[key] = Direct(settings.parser)
        return self._parsers[key]

    def _key(self, film: Film, mode: str) -> tuple[Path | None, str, Film]:
        width, height = film.scene.size_wh
        half = self._arguments.half
        key = f"{mode}-{film.scene.name}-{half}-{film.scene.seed}-{width}x{height}"
        return self._arguments.cache, key, film

    def _judged(self, film: Film, lines: Lines, hide: Hide, look: Path | None) -> Result:
        scorer = Scorer(hide)
        end: dict[str, Any] = {}

        def kept() -> Iterator[dict[str, Any]]:
            for line in lines:
                end.update(line if "looks" in line else {})
                yield line

        for index, shown in covers(kept(), film[0].shown_wh):
            cover = turned_back(shown, film[index])
            verdict = scorer.see(film[index], cover, index)
            if look is not None:
                save_look(look, film[index], cover, verdict, hide, "peer")
        for _ in lines:
            pass  # so that a cache is completed
        return scorer.verdicts, end["looks"], float(end["seconds"])


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


COLUMNS: Final = {
    "frames": "frames",
    "exposed": "exposed",
    "strict": "strict",
    "run": "run",
    "open": "open%",
    "face": "face%",
    "hair_frames": "hairy",
    "hair": "hair%",
    "outside": "outside%",
    "outside_95": "out95%",
    "ratio": "ratio",
    "fragments": "pieces",
    "flicker": "flick%",
    "swaps": "swaps",
}
"""Names in the table; `scripts/bench/metrics.py` says what they are."""


def _header() -> str:
    titles = "".join(f"{title:>9}" for title in COLUMNS.values())
    return f"{'scene':18}{'mode':9}{'hide':7}{titles}  looks a frame"


def _line(name: str, mode: str, hide: str, row: Mapping[str, Any]) -> str:
    cells = []
    for column in COLUMNS:
        value = row[column]
        text = "-" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}"
        cells.append(f"{text:>9}")
    looks = " ".join(f"{kind} {count:.2f}" for kind, count in row["looks"].items())
    return f"{name:18}{mode:9}{hide:7}{''.join(cells)}  {looks}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--half", choices=("tune", "report"), default="tune")
    parser.add_argument("--scenes", help="names; default: all but the last ones")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--modes", default="default", help="empty: peers alone")
    parser.add_argument("--hide", default="head", metavar=",".join(HIDES))
    parser.add_argument("--deface", action="store_true", help="a row for deface as well")
    parser.add_argument(
        "--before", type=Path, metavar="CHECKOUT", help="a row for that checkout's file pipeline"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps the peers' covers")
    parser.add_argument(
        "--set", action="append", nargs="+", default=[], metavar=("NAME", "SECTION.FIELD=VALUE")
    )
    parser.add_argument(
        "--look-ms",
        type=float,
        nargs=7,
        default=LOOK_MS,
        metavar=("FACES", "NEAR", "MIDDLE", "FAR", "PARTS", "CLOSER", "FIRST"),
        help="how long live looks take, from order to answer (default: "
        + " ".join(f"{ms:g}" for ms in LOOK_MS)
        + ")",
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--look", type=Path, metavar="DIR", help="pictures of frames that show or have fragments"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _names(text: str, known: Sequence[str], what: str) -> list[str]:
    names = [name.replace("_", "-") for name in text.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"unknown {what}: {', '.join(unknown)}; known: {', '.join(known)}")
    return names


def main() -> None:
    arguments = _arguments()
    cv2.setNumThreads(1)
    modes = {name: MODES[name] for name in _names(arguments.modes, list(MODES), "mode")}
    for name, *changes in arguments.set:
        pairs = (change.split("=", 1) for change in changes)
        modes[name] = {key: json.loads(value) for key, value in pairs}
    modes |= {"deface": {}} if arguments.deface else {}
    modes |= {"before": {}} if arguments.before else {}
    hides = _names(arguments.hide, list(HIDES), "part to hide")
    default = ",".join(name for name in SCENES if name not in LAST_SCENES)
    scenes = _names(arguments.scenes or default, list(SCENES), "scene")
    runner = Runner(arguments)
    about = {**machine(), "half": arguments.half, "seeds": arguments.seeds}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(_header())
    ways = [(mode, hide) for hide in hides for mode in modes]
    everything: dict[tuple[str, str], list[list[Verdict]]] = {way: [] for way in ways}
    looks: dict[tuple[str, str], dict[str, int]] = {way: {} for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    rows = []
    for name in scenes:
        for seed in (int(text) for text in arguments.seeds.split(",")):
            scene: Scene = build(name, data=arguments.data, half=arguments.half, seed=seed)
            film = Film(scene)
            for mode, hide in ways:
                looking = None
                if arguments.look is not None:
                    looking = arguments.look / f"{name}-{seed}-{mode}-{hide}"
                    looking.mkdir(parents=True, exist_ok=True)
                verdicts, count, took_s = runner.run(film, mode, modes[mode], hide, looking)
                row = summary([verdicts], count)
                print(_line(f"{name}/{seed}", mode, hide, row), flush=True)
                shown = [
                    asdict(v) | {"tracks": sorted(v.tracks)}
                    for v in verdicts
                    if v.worst > STRICT_SHARE
                ]
                about_it = {"scene": name, "seed": seed, "mode": mode, "hide": hide}
                rows.append({**about_it, **row, "seconds": took_s, "shown": shown})
                everything[mode, hide].append(verdicts)
                seconds[mode, hide] += took_s
                for kind, number in count.items():
                    looks[mode, hide][kind] = looks[mode, hide].get(kind, 0) + number
    totals = []
    for mode, hide in ways:
        row = summary(everything[mode, hide], looks[mode, hide])
        print(_line("all", mode, hide, row))
        totals.append({"mode": mode, "hide": hide, **row, "seconds": seconds[mode, hide]})
    for total in totals:
        frame_ms = 1e3 * total["seconds"] / total["frames"]
        print(
            f"{total['mode']} {total['hide']}: outside% on the worst scene "
            f"{total['worst_outside']:.2f}; {frame_ms:.0f} ms a frame"
        )
    if arguments.json:
        report = {"about": about, "modes": modes, "totals": totals, "scenes": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
