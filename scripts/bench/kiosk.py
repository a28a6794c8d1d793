"""Measures the kiosk as people have it: the real program, its page open in a real Chromium.

    python -m scripts.bench.kiosk [--seconds 20] [--source synthetic] [--mode aligned] [--core 0]
                                  [--json FILE]

Everything runs on one core, the browser and this program, too (`--core -1`: on all there are).
Shows how many pictures a second the browser draws, how much later than the sink got them (encoding,
server, socket, decoding and drawing), how many cards came later than a second after the first
picture, and what each kind of process takes of the CPU. Playwright drives Chromium without a
window; it paints in software, so the browser's CPU is the worst case.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import psutil

from m2fp_stream.kiosk.browser import NICENESS
from tests.kit.browser import LANDSCAPE_WH, chromium
from tests.kit.film import write_config
from tests.kit.kiosk import RealKiosk
from tests.kit.wait import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

WARM_UP_S: Final = 10.0
"""The parser and the browser start, and what that held up is taken back."""

CARDS_FROM_S: Final = 1.0
"""After the first picture; until then what was looked at in the beginning may still be unsure."""

LISTEN: Final = """
window.__drawn = [];
window.addEventListener("m2fpframe", (event) => {
  const seen = event.detail;
  window.__drawn.push([seen.sequence, seen.handedMs, seen.drawnMs]);
});
"""


@dataclass
class Cpu:
    """CPU seconds of a group of processes; those that ended count with what they had."""

    name: str
    seconds: dict[tuple[int, float], float] = field(default_factory=dict)

    def sample(self, processes: list[psutil.Process]) -> None:
        """Notes what each has used so far."""
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self.seconds[process.pid, process.create_time()] = times.user + times.system

    @property
    def total_s(self) -> float:
        """Of all of them, ever."""
        return sum(self.seconds.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the kiosk with its page open.")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--source", default="synthetic", help="720p at 30 frames a second")
    parser.add_argument("--mode", choices=["aligned", "low_latency"], default="aligned")
    parser.add_argument("--core", type=int, default=0, help="everything on this one; -1: on all")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.core >= 0:
        os.sched_setaffinity(0, {args.core})  # whatever is started from here on inherits it
    with tempfile.TemporaryDirectory() as folder:
        row = measure(Path(folder), args.source, args.mode, args.seconds)
    machine = {
        "cpu": f"{cpu_name()}, {len(os.sched_getaffinity(0))} of {psutil.cpu_count()} cores",
        "python": platform.python_version(),
    }
    print(f"{machine['cpu']}; {args.source}, {args.mode}, {row['seconds']} s")
    show(row)
    if args.json is not None:
        facts = {"machine": machine, "source": args.source, "mode": args.mode, **row}
        args.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def measure(folder: Path, source: str, mode: str, seconds: float) -> dict[str, Any]:
    config = write_config(
        folder / "kiosk.yaml",
        capture={"input": source, "loop": True},
        live={"alignment": mode},
        kiosk={"consent": False},
    )
    stats = folder / "stats.json"
    with RealKiosk(config, "--stats", stats) as kiosk, opened(kiosk) as page:
        wait_until(lambda: page.evaluate("window.__drawn.length") > 0)
        page.wait_for_timeout(CARDS_FROM_S * 1e3)
        settled = json.loads(stats.read_text())
        page.wait_for_timeout(WARM_UP_S * 1e3)
        page.evaluate("window.__drawn.length = 0")
        groups: dict[str, Cpu] = {}
        sample(groups, kiosk)
        before = {name: group.total_s for name, group in groups.items()}
        facts_before = json.loads(stats.read_text())
        began_s = time.monotonic()
        page.wait_for_timeout(seconds * 1e3)
        span_s = time.monotonic() - began_s
        drawn = np.array(page.evaluate("window.__drawn"), float)
        sample(groups, kiosk)
        facts = json.loads(stats.read_text())
    if len(drawn) < 2:
        raise SystemExit("the page drew nothing; is it the card all the time?")
    added_ms = drawn[:, 2] - drawn[:, 1]
    gaps_ms = np.diff(drawn[:, 2])
    return {
        "seconds": round(span_s, 1),
        "fps_drawn": round(len(drawn) / span_s, 2),
        "fps_composed": round((facts["frames"] - facts_before["frames"]) / span_s, 2),
        "cards": facts["frames_wholly_covered"] - settled["frames_wholly_covered"],
        "sequences_left_out": round(float(drawn[-1, 0] - drawn[0, 0])) + 1 - len(drawn),
        "added_ms_p50": round(float(np.percentile(added_ms, 50)), 1),
        "added_ms_p95": round(float(np.percentile(added_ms, 95)), 1),
        "gap_ms_p95": round(float(np.percentile(gaps_ms, 95)), 1),
        "longest_gap_ms": round(float(gaps_ms.max()), 1),
        "delay_ms_p50": None if facts["latency_ms"] is None else facts["latency_ms"]["p50"],
        "cpu_cores": {
            name: round((group.total_s - before.get(name, 0.0)) / span_s, 3)
            for name, group in sorted(groups.items())
        },
    }


def show(row: dict[str, Any]) -> None:
    print(
        f"{'drawn fps':>10} {'composed':>9} {'cards':>6} {'added ms p50':>13} {'p95':>6} "
        f"{'gap ms p95':>11} {'longest':>8} {'delay ms':>9}"
    )
    print(
        f"{row['fps_drawn']:10.1f} {row['fps_composed']:9.1f} {row['cards']:6} "
        f"{row['added_ms_p50']:13.1f} {row['added_ms_p95']:6.1f} {row['gap_ms_p95']:11.0f} "
        f"{row['longest_gap_ms']:8.0f} {row['delay_ms_p50'] or 0:9.0f}"
    )
    cores = ", ".join(f"{name} {value:.3f}" for name, value in row["cpu_cores"].items())
    together = sum(row["cpu_cores"].values())
    painting = sum(value for name, value in row["cpu_cores"].items() if "chromium" in name)
    print(f"CPU cores: {cores}; together {together:.2f}")
    print(f"Chromium takes {1e3 * painting / max(row['fps_drawn'], 0.1):.1f} ms a drawn picture")


@contextmanager
def opened(kiosk: RealKiosk) -> Iterator[Page]:
    """The page in a browser, with drawn pictures noted."""
    width, height = LANDSCAPE_WH
    with chromium() as browser:
        context = browser.new_context(viewport={"width": width, "height": height})
        page = context.new_page()
        page.add_init_script(LISTEN)
        page.goto(kiosk.address)
        for process in browser_processes():  # as the kiosk's own browser is
            process.nice(NICENESS)
        yield page


def sample(groups: dict[str, Cpu], kiosk: RealKiosk) -> None:
    """Notes the CPU time of every process of the kiosk, of the browser, and of this program."""
    for process in kiosk.processes():
        if process.pid != kiosk.pid:
            note(groups, process, module_of(process))
    note(groups, psutil.Process(kiosk.pid), "kiosk")
    painters = browser_processes()
    for process in painters:
        note(groups, process, f"chromium {kind_of(process)}")
    known = {process.pid for process in (*kiosk.processes(), *painters)}
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        if process.pid not in known:
            note(groups, process, "bench")


def note(groups: dict[str, Cpu], process: psutil.Process, name: str) -> None:
    """Adds what a process has used so far to its group."""
    groups.setdefault(name, Cpu(name)).sample([process])


def module_of(process: psutil.Process) -> str:
    """Returns what a process of the kiosk runs, by the last word of its module."""
    with suppress(psutil.NoSuchProcess):
        words = process.cmdline()
        if "-m" in words[:-1]:
            return words[words.index("-m") + 1].rpartition(".")[2]
    return "other"


def kind_of(process: psutil.Process) -> str:
    """Returns what a process of Chromium is for: renderer, gpu-process, utility..."""
    with suppress(psutil.NoSuchProcess):
        for word in process.cmdline():
            if word.startswith("--type="):
                return word.removeprefix("--type=")
    return "browser"


def cpu_name() -> str:
    """Returns what the processor calls itself."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def browser_processes() -> list[psutil.Process]:
    """Every process of the Chromium that this program has started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "chrom" in child.name():
                found.append(child)
    return found


if __name__ == "__main__":
    main()
