"""What `m2fp-stream bench` measures: the live pipeline as it runs on this machine."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from .app.live import run_live, write_facts
from .config import load_settings
from .core.errors import SourceError

__all__ = ["bench_live"]

_WARM_UP_S: Final = 10.0
"""Left out of every figure, and all until the first picture is shown: lookers start, and
distributions are of the last ten seconds. Chosen."""

_PATIENCE_S: Final = 60.0
"""Without a picture for so long after that, it is measured that none is shown: on a quarter of a
slow core none ever is, elsewhere the first one came within 8 s (docs/performance.md)."""

_BLOCK_S: Final = 10.0
"""Memory is averaged over blocks of this before a line is fitted: seconds are not independent.
Chosen."""


def bench_live(
    *,
    source: str,
    modes: Sequence[Literal["low_latency", "aligned"]],
    seconds: float,
    json_path: Path | None,
    stats_path: Path | None,
    show: Callable[[str], None],
    say: Callable[[str], None],
    warm_up_s: float = _WARM_UP_S,
) -> None:
    """Runs the live pipeline in each mode and shows one row a mode.

    Frames go through the y4m sink into nothing, so no encoder is measured.

    Args:
        source: as `capture.input`; a film is played over and over.
        modes: which alignments.
        seconds: measured time of each, after warming up and the first picture.
        json_path: gets everything as JSON, too.
        stats_path: renewed every second, as with `preview --stats`.
        show: prints a line of the table.
        say: prints a line about what goes on.
        warm_up_s: seconds that are left out of every figure.

    Raises:
        SourceError: the source ended before it was measured.
    """
    machine = _machine()
    show(", ".join(f"{key} {value}" for key, value in machine.items()))
    show(
        f"{'mode':12} {'fps':>6} {'delay ms p50':>13} {'p95':>6} {'age ms p50':>11} {'p95':>6} "
        f"{'faces ms':>9} {'dropped':>8} {'cards':>6} {'CPU':>5} {'MB':>6} {'MB/min (95 %)':>16}"
    )
    rows = []
    for mode in modes:
        row = _measure(source, mode, (warm_up_s, seconds), stats_path, say)
        rows.append(row)
        show(_line(row))
        late = ", ".join(f"{name} {ms:g}" for name, ms in row["look_ms_p95"].items())
        show(
            f"  looks, ms from order to answer, 95 %: {late}; gave way by {row['given_way']} steps"
            f"; {row['cards_after_a_second']} cards from a second after the first picture on"
        )
        if (fine := row["fine"]) is not None:
            show(f"  fine parser: {fine['parses']} parses, one in {fine['interval_s']} s")
    if json_path is not None:
        write_facts(json_path, {"machine": machine, "source": source, "rows": rows})


class _Sample(NamedTuple):
    """What was measured at one moment of a run."""

    at_s: float
    facts: dict[str, Any]
    memory_mb: float


def _measure(
    source: str,
    mode: str,
    times_s: tuple[float, float],
    stats_path: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Returns a row of the table; `times_s`: how long it warms up, and is measured."""
    warm_up_s, seconds = times_s
    settings = load_settings(
        overrides={
            "capture.input": source,
            "capture.loop": True,
            "live.alignment": mode,
            "pipe.enabled": True,
        }
    )
    samples: list[_Sample] = []
    began_s = time.monotonic()
    cpu_before = _cpu_s()

    def on_facts(facts: dict[str, Any]) -> None:
        samples.append(_Sample(time.monotonic() - began_s, facts, _memory_mb()))
        if stats_path is not None:
            write_facts(stats_path, facts)

    def is_over(_: dict[str, Any]) -> bool:
        return samples[-1].at_s >= _warm_s(samples, warm_up_s) + seconds

    with Path(os.devnull).open("wb") as nowhere:
        run_live(settings, until=is_over, on_facts=on_facts, on_notice=say, out=nowhere)
    cpu_cores = (_cpu_s() - cpu_before) / (time.monotonic() - began_s)
    measured = [sample for sample in samples if sample.at_s >= _warm_s(samples, warm_up_s)]
    if len(measured) < 2:
        raise SourceError(f"{source}: ended before it was measured; take a longer one")
    return {
        "mode": mode,
        **_pace(measured),
        "cards_after_a_second": _cards(samples),
        "cpu_cores": round(cpu_cores, 2),
        **_memory(measured),
    }


def _warm_s(samples: Sequence[_Sample], warm_up_s: float) -> float:
    """Returns from which second on is measured."""
    shown = (one.at_s for one in samples if one.facts["frames"] > _cards_of(one))
    return max(warm_up_s, next(shown, warm_up_s + _PATIENCE_S))


def _cards_of(sample: _Sample) -> int:
    return int(sample.facts["frames_wholly_covered"])


def _pace(measured: Sequence[_Sample]) -> dict[str, Any]:
    """Returns how fast and how late it was."""
    first, last = measured[0].facts, measured[-1].facts
    span_s = measured[-1].at_s - measured[0].at_s
    return {
        "seconds": round(span_s, 1),
        "fps": round((last["frames"] - first["frames"]) / span_s, 2),
        "latency_ms_p50": _middle(measured, "latency_ms", "p50"),
        "latency_ms_p95": _middle(measured, "latency_ms", "p95"),
        "cover_age_ms_p50": _middle(measured, "cover_age_ms", "p50"),
        "cover_age_ms_p95": _middle(measured, "cover_age_ms", "p95"),
        "look_ms": _looks(measured, "p50"),
        "look_ms_p95": _looks(measured, "p95"),
        "given_way": max(sample.facts["given_way"] for sample in measured),
        "dropped": last["dropped"] - first["dropped"],
        "cards": last["frames_wholly_covered"] - first["frames_wholly_covered"],
        "covered_fraction": last["covered_fraction"],
        "reasons": last["reasons"],
        "fine": _fine(first["fine"], last["fine"], span_s),
    }


def _middle(measured: Sequence[_Sample], name: str, which: str) -> float | None:
    values = [one.facts[name][which] for one in measured if one.facts[name] is not None]
    return round(float(np.median(values)), 1) if values else None


def _looks(measured: Sequence[_Sample], which: str) -> dict[str, float]:
    by_name: dict[str, list[float]] = {}
    for sample in measured:
        for name, spread in sample.facts["look_ms"].items():
            if spread is not None:
                by_name.setdefault(name, []).append(spread[which])
    return {name: round(float(np.median(values)), 1) for name, values in by_name.items()}


def _memory(measured: Sequence[_Sample]) -> dict[str, float | None]:
    slope, bound = _slope([(sample.at_s, sample.memory_mb) for sample in measured])
    return {
        "memory_mb": round(float(np.median([sample.memory_mb for sample in measured])), 1),
        "memory_mb_per_min": slope,
        "memory_mb_per_min_bound": bound,
    }


def _cards(samples: Sequence[_Sample]) -> int | None:
    """Returns the cards from a second after the first picture on; None: there was no picture."""
    shown = [one for one in samples if one.facts["frames"] > _cards_of(one)]
    later = [_cards_of(one) for one in shown if one.at_s >= shown[0].at_s + 1]
    return later[-1] - later[0] if later else None


def _fine(
    first: dict[str, Any] | None, last: dict[str, Any] | None, span_s: float
) -> dict[str, Any] | None:
    """Returns what the fine parser did, where there is one."""
    if first is None or last is None:
        return None
    parses = last["parses"] - first["parses"]
    return {
        "parses": parses,
        "interval_s": round(span_s / parses, 2) if parses else None,
        "parse_s": last["parse_s"],
        "failures": last["failures"] - first["failures"],
    }


def _line(row: dict[str, Any]) -> str:
    def of(name: str) -> str:
        return "-" if row[name] is None else f"{row[name]:.0f}"

    slope = "-"
    if row["memory_mb_per_min"] is not None:
        slope = f"{row['memory_mb_per_min']:+.2f} (< {row['memory_mb_per_min_bound']:+.2f})"
    return (
        f"{row['mode']:12} {row['fps']:6.1f} {of('latency_ms_p50'):>13} "
        f"{of('latency_ms_p95'):>6} {of('cover_age_ms_p50'):>11} {of('cover_age_ms_p95'):>6} "
        f"{row['look_ms'].get('faces', 0):9.1f} {row['dropped']:8} {row['cards']:6} "
        f"{row['cpu_cores']:5.2f} "
        f"{row['memory_mb']:6.0f} {slope:>16}"
    )


def _cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _memory_mb() -> float:
    """Resident memory of this process and its children, shared pages counted for each."""
    total = 0
    page = os.sysconf("SC_PAGE_SIZE")
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    try:
        pids = ["self", *children.read_text(encoding="ascii").split()]
        for task in Path("/proc/self/task").iterdir():
            if task.name != str(os.getpid()):
                pids += (task / "children").read_text(encoding="ascii").split()
    except OSError:
        pids = ["self"]
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, ValueError, IndexError):  # it has just ended
            continue
    return total * page / 1e6


def _slope(samples: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """Returns megabytes a minute, and the upper bound of its 95 % confidence interval.

    Source: ordinary least squares over block means, normal quantile 1.96.
    """
    blocks: dict[int, list[tuple[float, float]]] = {}
    for at_s, mb in samples:
        blocks.setdefault(int(at_s // _BLOCK_S), []).append((at_s, mb))
    means = np.array([np.mean(block, axis=0) for block in blocks.values()])
    if len(means) < 6:
        return None, None
    minutes, level = means[:, 0] / 60, means[:, 1]
    minutes, level = minutes - minutes.mean(), level - level.mean()
    spread = float((minutes**2).sum())
    slope = float((minutes * level).sum()) / spread
    rest = level - slope * minutes
    error = float(np.sqrt((rest**2).sum() / (len(means) - 2) / spread))
    return round(slope, 3), round(slope + 1.96 * error, 3)


def _machine() -> dict[str, str]:
    cpu = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        names = [line for line in listing.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    packages = ("numpy", "opencv-python", "av", "onnxruntime")
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
