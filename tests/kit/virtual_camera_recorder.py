"""A pyvirtualcam back end without a device: it writes down what it was given, and fails on demand.

Loaded by the feeder process as ``tests.kit.virtual_camera_recorder:Recorder``. What it does beside
recording is said by the device's name: ``refusing`` does not open, ``failing-N`` raises at frame N,
``hanging-N`` never comes back from it.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BACKEND", "VARIABLE", "Recorder", "Shown", "recorded"]

BACKEND = f"{__name__}:Recorder"
VARIABLE = "M2FP_STREAM_TEST_RECORDER"
"""Environment variable that names the file."""


class Recorder:
    """Writes a line a frame, and the pixels whenever they are not those of the frame before."""

    def __init__(
        self, *, width: int, height: int, fps: float, fourcc: int, device: str | None, **_: Any
    ) -> None:
        self._name = device or "recorder"
        self._fault, _sep, number = self._name.partition("-")
        if self._fault == "refusing":
            raise RuntimeError("Device refusing could not be opened:\nDevice or resource busy")
        self._fault_at = int(number or 0)
        self._shape = height, width, 3
        self._count = 0
        self._last = -1
        self._file = Path(os.environ[VARIABLE]).open("a", encoding="ascii")  # noqa: SIM115  # kept
        self._note({"opened": [width, height, fps], "pid": os.getpid()})

    def _note(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def device(self) -> str:
        return self._name

    def native_fourcc(self) -> int | None:
        return None

    def send(self, frame: NDArray[np.uint8]) -> None:
        now = time.monotonic_ns()
        self._count += 1
        if self._count == self._fault_at:
            if self._fault == "failing":
                raise RuntimeError("the device\nis gone from rtsp://user:secret@camera/")
            while True:
                time.sleep(1)
        data = frame.tobytes()
        line: dict[str, Any] = {"ns": now}
        if zlib.crc32(data) != self._last:
            self._last = zlib.crc32(data)
            line |= {"shape": self._shape, "pixels": data.hex()}
        self._note(line)

    def close(self) -> None:
        self._note({"closed": time.monotonic_ns()})
        self._file.close()


@dataclass(frozen=True)
class Shown:
    """One frame that the camera got: when (`time.monotonic_ns`), and which pixels."""

    ns: int
    pixels: NDArray[np.uint8]


def recorded(path: Path) -> tuple[list[Shown], dict[str, Any]]:
    """Returns the frames so far, and what was noted at opening and closing."""
    frames: list[Shown] = []
    notes: dict[str, Any] = {}
    text = path.read_text(encoding="ascii") if path.exists() else ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):  # it is being written
            break
        said = json.loads(line)
        if "ns" not in said:
            notes |= said
        elif "pixels" in said:
            pixels = np.frombuffer(bytes.fromhex(said["pixels"]), np.uint8).reshape(said["shape"])
            frames.append(Shown(said["ns"], pixels))
        else:
            frames.append(Shown(said["ns"], frames[-1].pixels))
    return frames, notes
