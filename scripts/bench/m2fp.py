"""Measures M2FP on one 1080p picture: ModelScope's pipeline and ours, in one run.

    python -m scripts.bench.m2fp FOLDER --classic-python PATH [--json FILE]

FOLDER is what `scripts.golden.make_model` wrote, PATH the Python of the environment that
`scripts/golden/build.sh` made; without it only ours is measured. Ours needs torch (once, to export
the network) and runs at short sides 640, as the reference does, 320 and 256.

Every line is a process of its own, so that its peak memory is its own. `rest` is everything but the
network: resizing, masks and label map. The reference enlarges a hundred masks to the picture; ours
makes what our pipeline uses, maps of the masks' own size. CPU seconds are those of all threads;
ours are medians over the repeats, after one look to warm up, the reference's are of a single look.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.parsers.m2fp import M2FPOptions, M2FPParser
from m2fp_stream.parsers.m2fp.picture import inner_size, network_shape
from m2fp_stream.parsers.m2fp.runtime import M2FPNetwork, Network
from scripts.golden.cases import large_picture

from .leak import machine

ROOT: Final = Path(__file__).resolve().parents[2]
SHORT_SIDES: Final = (640, 320, 256)

FloatArray = NDArray[np.float32]


class _Clock:
    """A network under a clock."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.kind, self.shape_hw = network.kind, network.shape_hw
        self.weights_sha256 = network.weights_sha256
        self.spent = (0.0, 0.0)

    def __call__(self, image: FloatArray) -> tuple[FloatArray, FloatArray]:
        began = time.perf_counter(), time.process_time()
        try:
            return self._network(image)
        finally:
            self.spent = time.perf_counter() - began[0], time.process_time() - began[1]


def export(folder: Path, short_side: int, target: Path) -> None:
    """Writes the network for the picture at one size."""
    from m2fp_stream.parsers.m2fp.checkpoint import read_checkpoint
    from m2fp_stream.parsers.m2fp.export import to_onnx

    bgr = large_picture()
    shape_hw = network_shape(inner_size((bgr.shape[0], bgr.shape[1]), short_side))
    target.write_bytes(to_onnx(read_checkpoint(folder / "cihp"), shape_hw))


def ours(target: Path, short_side: int, threads: int, repeats: int) -> dict[str, Any]:
    """Returns medians of an exported network in this process."""
    cv2.setNumThreads(threads)
    network = _Clock(M2FPNetwork(target.read_bytes(), threads))
    parser = M2FPParser(network, M2FPOptions(short_side=short_side, threads=threads))
    bgr = large_picture()
    rows: dict[str, list[float]] = {}
    found = 0
    for repeat in range(repeats + 1):
        began = time.perf_counter(), time.process_time()
        result = parser.parse(bgr)
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        if repeat:
            for name, seconds in (
                *(("network_wall_s", network.spent[0]), ("network_cpu_s", network.spent[1])),
                *(("rest_wall_s", wall - network.spent[0]), ("rest_cpu_s", cpu - network.spent[1])),
            ):
                rows.setdefault(name, []).append(seconds)
        found = len(np.unique(result.label_map))
    return {
        "network_hw": list(network.shape_hw),
        **{name: statistics.median(values) for name, values in rows.items()},
        "peak_mib": _peak_mib(),
        "classes": found,
    }


def _peak_mib() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def theirs(python: str, folder: Path, threads: int) -> dict[str, Any]:
    """Returns the reference's figures."""
    command = [python, "-m", "scripts.golden.measure", str(folder.resolve())]
    told = json.loads(_answer([*command, "--threads", str(threads)]))
    steps = told["repeats"][0]
    rest = (steps["preparation"], steps["post_processing"])
    return {
        "network_hw": told["network_hw"],
        "network_wall_s": steps["network"]["wall_s"],
        "network_cpu_s": steps["network"]["cpu_s"],
        "rest_wall_s": sum(step["wall_s"] for step in rest),
        "rest_cpu_s": sum(step["cpu_s"] for step in rest),
        "peak_mib": told["peak_mib"],
    }


def _answer(command: Sequence[str]) -> str:
    """Returns the last line that a command prints.

    Raises:
        SystemExit: it failed; what it said is shown.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"m2fp: {' '.join(command)} failed:\n{done.stderr}")
    return done.stdout.strip().rpartition("\n")[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("folder", type=Path, help="what scripts.golden.make_model wrote")
    options.add_argument("--classic-python", help="of the classic stack; without: ours alone")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--json", type=Path)
    child = options.add_argument_group("what the run starts itself")
    child.add_argument("--export", type=Path, help=argparse.SUPPRESS)
    child.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    child.add_argument("--short-side", type=int, help=argparse.SUPPRESS)
    args = options.parse_args(arguments)
    if args.export is not None:
        export(args.folder, args.short_side, args.export)
        return 0
    if args.ours is not None:
        print(json.dumps(ours(args.ours, args.short_side, args.threads, args.repeats)))
        return 0
    if not (args.folder / "cihp").is_dir():
        print(
            f"m2fp: no model in {args.folder}/cihp; make it with scripts.golden.make_model",
            file=sys.stderr,
        )
        return 2
    about = {**machine(), "threads": args.threads, "picture": "1920x1080"}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    columns = ("network s", "network CPU s", "rest s", "rest CPU s", "peak MiB")
    print(f"{'':14}{'input':>10}" + "".join(f"{column:>15}" for column in columns))
    rows = []

    def show(name: str, row: dict[str, Any]) -> None:
        height, width = row["network_hw"]
        names = ("network_wall_s", "network_cpu_s", "rest_wall_s", "rest_cpu_s")
        cells = "".join(f"{row[key]:15.2f}" for key in names)
        print(f"{name:14}{f'{width}x{height}':>10}{cells}{row['peak_mib']:15}", flush=True)
        rows.append({"who": name, **row})

    if args.classic_python is not None:
        show("ModelScope", theirs(args.classic_python, args.folder, args.threads))
    with tempfile.TemporaryDirectory() as scratch:
        for short_side in SHORT_SIDES:
            target = Path(scratch) / f"{short_side}.onnx"
            base = [sys.executable, "-m", "scripts.bench.m2fp", str(args.folder.resolve())]
            base += ["--short-side", str(short_side), "--threads", str(args.threads)]
            _answer([*base, "--export", str(target)])
            told = _answer([*base, "--ours", str(target), "--repeats", str(args.repeats)])
            show(f"ours {short_side}", json.loads(told))
            target.unlink()
    if args.json is not None:
        document = {"machine": about, "rows": rows}
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
