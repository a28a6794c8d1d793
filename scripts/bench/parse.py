"""Measures what one parse costs by part, for one, three and six people, in every runtime.

    python -m scripts.bench.parse --data ../shared/data [--repeats 9] [--json FILE]

Pictures of 1280x720 with photographed people side by side in an empty room, scaled down to 640
pixels. One thread, CPU milliseconds, medians over repeats that
alternate between the runtimes. Parts: finding faces and bodies (detect), cutting crops out and
laying answers back (region), the part network (encoder and decoder), the outlines of people without
a face, and putting it all together (fuse). Files and live pictures are looked at in another way
(`pipeline/solver`): scripts/bench/leak.py and `bench live` measure them.

Encoder and decoder are one graph: the encoder is timed alone where the package `onnx` is installed
(it cuts the graph), else both are given as one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError
from m2fp_stream.models import load_verified
from m2fp_stream.parsers.embedded.options import EmbeddedOptions
from m2fp_stream.parsers.embedded.parser import EmbeddedParser
from m2fp_stream.parsers.embedded.runtime import RUNTIMES, Network

from .leak import machine
from .scenes import Stage

PEOPLE: Final = (1, 3, 6)
HEIGHTS: Final = {1: 620, 3: 560, 6: 480}
"""Pixels of a person in 1280x720."""
PARSE_WH: Final = (640, 360)
MAP_SIZE: Final = 320
WARM_UP: Final = 2
STAGES: Final = ("detect", "region", "network", "outline", "fuse")


def picture_of(people: int, data: Path) -> NDArray[np.uint8]:
    """Returns (360, 640, 3) uint8 BGR: people side by side, from the report half."""
    stage = Stage(data, "report", people, "bench")
    scene = cv2.resize(stage.room("room"), (1280, 720)).astype(np.float32)
    for number in range(people):
        ink, _ = stage.person().scaled(HEIGHTS[people])
        height, width = ink.shape[:2]
        left = round(1280 * (number + 0.5) / people - width / 2)
        top = 720 - height - 20
        begin, end = max(0, left), min(1280, left + width)
        inside = slice(begin - left, end - left)
        area = scene[top : top + height, begin:end]
        area *= 1 - ink[:, inside, 3:]
        area += ink[:, inside, :3]
    whole = np.clip(scene, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(whole, PARSE_WH, interpolation=cv2.INTER_AREA), np.uint8)


class Clocks:
    """CPU seconds by name; a part's time excludes that of the parts inside it."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._stack: list[list[float]] = []

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Returns `call`, timed under `name`."""

        def wrapper(*args: Any, **options: Any) -> Any:
            inside = [0.0]
            self._stack.append(inside)
            began = time.process_time()
            try:
                return call(*args, **options)
            finally:
                took = time.process_time() - began
                self._stack.pop()
                self.spent[name] += took - inside[0]
                if self._stack:
                    self._stack[-1][0] += took

        return wrapper


class Timed:
    """A network under a clock."""

    def __init__(self, network: Network, name: str, clocks: Clocks) -> None:
        self.run = clocks.timed(name, network.run)


def instrumented(runtime: str) -> tuple[EmbeddedParser, Clocks]:
    """Returns a parser whose parts are timed.

    Raises:
        ModelError: the runtime is not installed.
    """
    clocks = Clocks()
    parser: Any = EmbeddedParser(EmbeddedOptions(runtime=runtime, map_size=MAP_SIZE))  # type: ignore[arg-type]
    parser._parts._network = Timed(parser._parts._network, "network", clocks)
    parser._parts = clocks.timed("region", parser._parts)
    parser._body = clocks.timed("outline", parser._body)
    for name in ("_faces", "_persons"):
        setattr(parser, name, clocks.timed("detect", getattr(parser, name)))
    parser._parse = clocks.timed("fuse", parser._parse)
    return parser, clocks


def measure(picture: NDArray[np.uint8], repeats: int) -> dict[str, dict[str, float]]:
    """Returns runtime -> part -> median CPU milliseconds."""
    parsers = {}
    for runtime in RUNTIMES:
        try:
            parsers[runtime] = instrumented(runtime)
        except ModelError as error:
            print(f"left out: {error}", file=sys.stderr)
    cv2.setNumThreads(1)
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for repeat in range(WARM_UP + repeats):
        for runtime, (parser, clocks) in parsers.items():
            clocks.spent.clear()
            parser.parse(picture)
            if repeat >= WARM_UP:
                rows[runtime].append(dict(clocks.spent))
    table: dict[str, dict[str, float]] = {}
    for runtime, spent in rows.items():
        medians = {
            stage: 1e3 * statistics.median(one.get(stage, 0.0) for one in spent) for stage in STAGES
        }
        total = 1e3 * statistics.median(sum(one.values()) for one in spent)
        table[runtime] = {**medians, "total": total}
    return table


def encoder_share(repeats: int) -> float | None:
    """Returns the encoder's share (0..1) of the part network, where `onnx` is installed."""
    try:
        import onnx
        from onnx.utils import Extractor
    except ImportError:
        return None
    import onnxruntime

    whole = load_verified("parts")
    model = onnx.load_from_string(whole)
    pool = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    inferred = onnx.shape_inference.infer_shapes(model)
    encoder = Extractor(inferred).extract_model(["image"], [pool.input[0]]).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        for data in (whole, encoder)
    ]
    blob = np.random.default_rng(1).random((1, 3, 288, 192)).astype(np.float32)
    times: list[list[float]] = [[], []]
    for repeat in range(WARM_UP + repeats):
        for session, spent in zip(sessions, times, strict=True):
            began = time.process_time()
            session.run(None, {"image": blob})
            if repeat >= WARM_UP:
                spent.append(time.process_time() - began)
    total, part = (statistics.median(spent) for spent in times)
    return min(1.0, part / total)


def main() -> int:
    """Prints the table; returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--json", type=Path)
    args = options.parse_args()
    if not (args.data / "ccp").is_dir():
        print(
            f"parse: no photographs in {args.data}/ccp; name the folder by --data", file=sys.stderr
        )
        return 2
    about = machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'people':8}{'runtime':14}" + "".join(f"{s:>9}" for s in (*STAGES, "total")))
    rows = []
    for people in PEOPLE:
        for runtime, spent in measure(picture_of(people, args.data), args.repeats).items():
            cells = "".join(f"{spent[stage]:9.1f}" for stage in (*STAGES, "total"))
            print(f"{people:<8}{runtime:14}{cells}", flush=True)
            rows.append({"people": people, "runtime": runtime, **spent})
    share = encoder_share(args.repeats)
    if share is None:
        print("encoder and decoder are not told apart: the package onnx is not installed")
    else:
        print(f"of `network`, the encoder is {share:.0%} and the decoder {1 - share:.0%}")
    if args.json is not None:
        document = {"machine": about, "rows": rows, "encoder_share": share}
        args.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
