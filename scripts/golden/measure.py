"""Measures ModelScope's pipeline on one 1080p picture, in a process of its own; prints JSON.

    python -m scripts.golden.measure FOLDER [--threads 2] [--repeats 1]

FOLDER is what `make_model` wrote. scripts/bench/m2fp.py starts it with the classic stack's Python.
CPU seconds are those of all threads; peak memory is the process's, libraries and weights included.
The reference enlarges the masks of all hundred queries, however few of them find something.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch

from .cases import large_picture
from .reference import open_pipeline, prepared


class _Clock:
    """Wall and CPU seconds since the last reading."""

    def __init__(self) -> None:
        self._last = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        now = time.perf_counter(), time.process_time()
        wall, cpu = (after - before for after, before in zip(now, self._last, strict=True))
        self._last = now
        return {"wall_s": round(wall, 3), "cpu_s": round(cpu, 3)}


def measure(folder: Path, threads: int, repeats: int) -> dict[str, Any]:
    """Returns seconds of each step, for each repeat, and the peak memory in MiB."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    pipe = open_pipeline(folder / "cihp")
    bgr = large_picture()
    rows: list[dict[str, dict[str, float]]] = []
    found = 0
    with torch.no_grad():
        for _ in range(repeats):
            clock = _Clock()
            ready = prepared(pipe, bgr, 640)
            row = {"preparation": clock.read()}
            outputs = pipe.model.forward(ready)
            row["network"] = clock.read()
            answer = pipe.postprocess(pipe.model.postprocess(outputs))
            row["post_processing"] = clock.read()
            rows.append(row)
            found = len(answer["labels"])
            del outputs, answer
    image = ready["batched_inputs"][0]["image"]
    return {
        "network_hw": [-(-side // 32) * 32 for side in image.shape[1:]],
        "threads": threads,
        "instances": found,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "repeats": rows,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("folder", type=Path)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--repeats", type=int, default=1)
    args = options.parse_args(arguments)
    print(json.dumps(measure(args.folder, args.threads, args.repeats)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
