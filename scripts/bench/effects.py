"""Measures `compose` at 1280x720 on one thread: one head and one whole person, every effect.

Budget: 3 ms for a head (110x140 px), 8 ms for a person (300x700 px), the frame's copy included.

    python scripts/bench/effects.py [--rounds 200] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.compositor import ComposeOptions, Compositor
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import CoverPlan, CoverState, Effect, Fill, Parsed, Unknown, Why
from m2fp_stream.core.raw import RawFrame

SIZE_WH = (1280, 720)
MAP_WH = (320, 180)
SUBJECTS = {"head": ((640, 200), (55, 70)), "person": ((640, 365), (150, 350))}
BUDGET_MS = {"head": 3.0, "person": 8.0}


def machine() -> dict[str, str]:
    """Returns what the numbers depend on."""
    cpu = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        names = [line for line in listing.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores, 1 thread used",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def frame() -> RawFrame:
    """Returns a frame of smooth colours and noise, the same every time."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)
    pixels = cv2.resize(coarse, SIZE_WH, interpolation=cv2.INTER_CUBIC).astype(np.int16)
    pixels += rng.integers(-12, 13, pixels.shape, dtype=np.int16)
    return RawFrame(
        np.clip(pixels, 0, 255).astype(np.uint8),
        frame_id=0,
        pts=0,
        time_base=Fraction(1, 30),
        captured_ns=0,
    )


def cover(subject: str, parts: int) -> NDArray[np.uint8]:
    """Returns the subject's map; its upper fifth is part 1, the rest part 2 if there are two."""
    (x, y), (half_width, half_height) = SUBJECTS[subject]
    whole = np.zeros((SIZE_WH[1], SIZE_WH[0]), np.uint8)
    cv2.ellipse(whole, (x, y), (half_width, half_height), 0, 0, 360, 1, -1)
    if parts == 2:
        whole[y - half_height * 3 // 5 :][whole[y - half_height * 3 // 5 :] > 0] = 2
    rows, columns = np.arange(MAP_WH[1]) * 4 + 2, np.arange(MAP_WH[0]) * 4 + 2
    return whole[rows[:, None], columns]


def median_ms(compositor: Compositor, raw: RawFrame, state: CoverState, rounds: int) -> float:
    """Returns the median CPU time of one `compose`; others may use the machine, too."""
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        compositor.compose(raw, state)
        times.append(time.thread_time() - start)
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    raw = frame()
    plain, tinted = Compositor(), Compositor(ComposeOptions(frost_tint="coarse"))
    one = {effect.value: (plain, (effect,)) for effect in Effect}
    cases = {
        **one,
        "frost, tint coarse": (tinted, (Effect.FROST,)),
        "silhouette, two parts": (plain, (Effect.SILHOUETTE, Effect.SILHOUETTE)),
        "frost and solid": (plain, (Effect.FROST, Effect.SOLID)),
    }
    results: dict[str, dict[str, float]] = {}
    for name, (compositor, used) in cases.items():
        fills = tuple(Fill(e, p, 1) for e, p in zip(used, (Label.HAIR, Label.FACE), strict=False))
        results[name] = {}
        for subject in SUBJECTS:
            plan = CoverPlan(0, SIZE_WH, cover(subject, len(used)), fills)
            results[name][subject] = median_ms(compositor, raw, Parsed(plan), arguments.rounds)
    clear = CoverPlan(0, SIZE_WH, np.zeros((MAP_WH[1], MAP_WH[0]), np.uint8), ())
    others = {
        "nothing to cover": median_ms(plain, raw, Parsed(clear), arguments.rounds),
        "cover card": median_ms(plain, raw, Unknown(Why.NO_PARSE), arguments.rounds),
    }
    about = machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"median CPU ms of {arguments.rounds}, 1280x720, map 320x180")
    print(f"{'':24}" + "".join(f"{s + f' (<= {BUDGET_MS[s]:g})':>16}" for s in SUBJECTS))
    for name, row in results.items():
        print(f"{name:24}" + "".join(f"{row[s]:16.2f}" for s in SUBJECTS))
    for name, value in others.items():
        print(f"{name:24}{value:16.2f}")
    if arguments.json:
        report = {"machine": about, "median_ms": results, "others_ms": others, "budget": BUDGET_MS}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
