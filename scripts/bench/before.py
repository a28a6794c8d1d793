"""Runs another checkout's file pipeline on frames from stdin; writes its covers to stdout.

    PYTHONPATH=CHECKOUT python -P scripts/bench/before.py < frames > covers

Only `scripts.bench.peers` starts it. What it imports is the checkout's: the pipeline as it was
before people were tracked as objects (`pipeline.offline`). In: a line of JSON (`size_wh`,
`frames`, `rate`, `overrides`), then that many (H, W, 3) uint8 BGR frames. Out: a line of JSON a
frame (`frame`, `pixels`, `tracks`, `tracks_hw`, see `peers`), then one of `looks` and `seconds`.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import sys
import time
import zlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import cv2
import numpy as np


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else gets in between the lines
    cv2.setNumThreads(1)
    order = json.loads(sys.stdin.buffer.readline())
    began = time.monotonic()
    outcome = _run(order, sys.stdin.buffer, out)
    looks = {"parses": outcome.parses}
    out.write(json.dumps({"looks": looks, "seconds": time.monotonic() - began}) + "\n")
    out.close()


def _of(module: str) -> Any:
    return importlib.import_module(f"m2fp_stream.{module}")


def _run(order: dict[str, Any], frames: BinaryIO, out: Any) -> Any:
    width, height = order["size_wh"]
    rate = Fraction(order["rate"])
    settings = _of("config").load_settings(overrides=order["overrides"])
    sources, sinks, flow = _of("sources.base"), _of("sinks.base"), _of("tracking.flow")
    raw, safe, plan = _of("core.raw"), _of("core.safe"), _of("core.plan")
    effects = _of("compositor.effects")

    def info(source: Any) -> Any:
        del source
        return sources.SourceInfo(size_wh=(width, height), time_base=1 / rate)

    def capture(source: Any) -> Iterator[Any]:
        del source
        for index in range(order["frames"]):
            data = frames.read(height * width * 3)
            pixels = np.frombuffer(data, np.uint8).reshape(height, width, 3).copy()
            yield sources.Captured(
                raw.RawFrame(pixels, frame_id=index, pts=index, time_base=1 / rate, captured_ns=0)
            )

    def drop(sink: Any, item: Any = None) -> None:
        del sink, item

    piped = type("Piped", (sources.Source,), {"info": property(info), "_capture": capture})
    methods = {"_emit": drop, "_finish": drop, "_abort": drop}
    nowhere = type("Nowhere", (sinks.Sink,), {"accepts": safe.SafeFrame, **methods})
    compositor = _of("compositor").Compositor(settings.compose)

    class Teller:
        def compose(self, raw: Any, state: Any) -> Any:
            if isinstance(state, plan.Unknown):
                covered, tracks = np.ones((height, width), np.bool_), np.zeros((1, 1), np.uint8)
            else:
                cover, fills = state.plan.cover, state.plan.fills
                covered = np.zeros((height, width), np.bool_)
                for region in effects.find_regions(
                    cover, fills, (width, height), feather_px=0, grid_px=8
                ):
                    covered[region.rows, region.columns] |= region.inside > 0
                names = np.asarray([0, *(fill.track_id & 0xFF for fill in fills)], np.uint8)
                tracks = names[cover]
            line = {
                "frame": raw.frame_id,
                "pixels": _text(np.packbits(covered)),
                "tracks": _text(tracks),
                "tracks_hw": tracks.shape,
            }
            out.write(json.dumps(line) + "\n")
            return compositor.compose(raw, state)

    class Direct:
        def __init__(self) -> None:
            side = max(flow.small_size((width, height), settings.tracking.area))
            chosen = settings.parser.model_copy(update={"map_size": side})
            self._parser = _of("parsers.guarded").from_options(guard=chosen.model_dump(mode="json"))

        def parse(self, bgr: Any, *, frame_id: int, **how: Any) -> Any:
            return self._parser.parse(bgr, frame_id=frame_id, **how)

        def interrupt(self) -> None:
            pass

        def close(self) -> None:
            pass

    queue = _of("pipeline.workers").ParserQueue(Direct())
    try:
        return (
            _of("pipeline.offline")
            .OfflineRun(
                source=piped(),
                sink=nowhere(),
                composer=Teller(),
                parser=queue,
                policy=_of("policy").Policy(settings.policy),
                tracking=settings.tracking,
                options=settings.file,
            )
            .run()
        )
    finally:
        queue.close()


def _text(array: Any) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 1)).decode()


if __name__ == "__main__":
    main()
