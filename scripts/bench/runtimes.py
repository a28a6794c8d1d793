"""Measures how long each shipped network takes in each runtime, one thread, in one run.

    python scripts/bench/runtimes.py [--repeats 15] [--json FILE]

Runtimes that are not installed are left out and said so. Wall and CPU time are medians over
repeats that alternate between the runtimes, so that a busy machine hits all of them alike.
`max_difference` is the largest difference of any output from the first runtime's, relative to the
largest absolute value of that output.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m2fp_stream.core.errors import ModelError
from m2fp_stream.parsers.embedded.runtime import RUNTIMES, Network, open_network
from m2fp_stream.privacy.hardening import silence_libraries

CASES = (
    ("centerface", 320, 192),
    ("centerface", 480, 288),
    ("centerface", 640, 384),
    ("nanodet_person", 640, 384),
    ("nanodet_person", 416, 416),
    ("blazepose", 256, 256),
)
WARM_UP = 3


def blob_for(model: str, width: int, height: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Returns a smooth seeded picture in the value range the model expects."""
    coarse = np.random.default_rng(7).random((1, 3, height // 16, width // 16))
    picture = coarse.repeat(16, 2).repeat(16, 3).astype(np.float32)
    scale = {"centerface": 255.0, "nanodet_person": 4.0, "blazepose": 1.0}[model]
    offset = 2.0 if model == "nanodet_person" else 0.0
    return np.ascontiguousarray(picture * np.float32(scale) - np.float32(offset))


def measure(model: str, width: int, height: int, repeats: int) -> list[dict[str, Any]]:
    """Returns one row per installed runtime."""
    blob = blob_for(model, width, height)
    networks: dict[str, Network] = {}
    for runtime in RUNTIMES:
        try:
            networks[runtime] = open_network(model, threads=1, runtime=runtime)
        except ModelError as error:
            print(f"left out: {error}", file=sys.stderr)
    walls: dict[str, list[float]] = {name: [] for name in networks}
    cpus: dict[str, list[float]] = {name: [] for name in networks}
    outputs = {name: network.run(blob) for name, network in networks.items()}
    for turn in range(WARM_UP + repeats):
        for name, network in networks.items():
            wall, cpu = time.perf_counter(), time.process_time()
            network.run(blob)
            if turn >= WARM_UP:
                walls[name].append((time.perf_counter() - wall) * 1e3)
                cpus[name].append((time.process_time() - cpu) * 1e3)
    first = next(iter(outputs.values()))
    rows = []
    for name, results in outputs.items():
        difference = max(
            float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-9))
            for a, b in zip(results, first, strict=True)
        )
        rows.append(
            {
                "model": model,
                "input_wh": [width, height],
                "runtime": name,
                "wall_ms": round(statistics.median(walls[name]), 2),
                "cpu_ms": round(statistics.median(cpus[name]), 2),
                "max_difference": difference,
            }
        )
    return rows


def machine() -> dict[str, Any]:
    """Returns what a reader needs to judge the figures."""
    versions = {}
    for module in ("cv2", "onnxruntime", "openvino", "numpy"):
        try:
            silence_libraries()
            versions[module] = str(importlib.import_module(module).__version__)
        except ImportError:
            versions[module] = "not installed"
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": versions,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table (and writes the JSON file, where asked); returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    about = machine()
    print(json.dumps(about))
    print(f"{'model':16} {'input':>8} {'runtime':12} {'wall ms':>8} {'CPU ms':>8} difference")
    rows = []
    for model, width, height in CASES:
        for row in measure(model, width, height, options.repeats):
            rows.append(row)
            print(
                f"{model:16} {f'{width}x{height}':>8} {row['runtime']:12} "
                f"{row['wall_ms']:8.1f} {row['cpu_ms']:8.1f} {row['max_difference']:.1e}"
            )
    if options.json is not None:
        text = json.dumps({"machine": about, "rows": rows}, indent=1) + "\n"
        options.json.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
