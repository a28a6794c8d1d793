"""The process that feeds a virtual camera: composed buffers in, a cover card where none come.

Started by `sinks.virtual_camera` as ``python -m m2fp_stream.sinks.camera_feeder SOCKET MEMORY
SPEC`` with two inherited descriptors; SPEC is the JSON of `Spec`. The memory holds a page with a
number a slot (0: not whole), then three (H, W, 3) uint8 BGR slots: two for frames, one for the
card. The socket carries small JSON messages: a frame's slot, number and time one way, "taken" or
"error" the other.

It is not tied to its parent's life: after the parent's death it shows the card for a while.
"""

from __future__ import annotations

import json
import mmap
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, final

from ..core.redact import redact
from ..privacy.hardening import harden

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Feeder", "Spec", "even", "main", "numbers", "open_camera", "slots"]

FRAMES: Final = (0, 1)
CARD: Final = 2
_SLOTS: Final = 3
_HEAD_BYTES: Final = 4096
MESSAGE_BYTES: Final = 4096

_INSTALL: Final = (
    "the virtual camera needs pyvirtualcam, which is not installed; "
    'run: pip install "m2fp-stream[virtual-camera]"'
)
_LOAD: Final = (
    "load the driver (sudo modprobe v4l2loopback exclusive_caps=1), or name another device"
)


@final
@dataclass(frozen=True, slots=True)
class Spec:
    """What a feeder is told at its start.

    Attributes:
        size_wh: (width, height) of the slots, both even.
        fps: frames a second that the camera gets.
        device: such as /dev/video10, or None for the first.
        backend: name of a pyvirtualcam back end, ``module:Class``, or None for pyvirtualcam's own.
        stale_s: seconds without a new frame after which the card is shown.
        linger_s: seconds for which the card is shown after the parent's death.
    """

    size_wh: tuple[int, int]
    fps: float
    device: str | None
    backend: str | None
    stale_s: float
    linger_s: float

    @property
    def total_bytes(self) -> int:
        """Size of the shared memory."""
        return _HEAD_BYTES + _SLOTS * self.size_wh[0] * self.size_wh[1] * 3

    def to_json(self) -> str:
        """Returns what `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Returns what `to_json` wrote."""
        fields = json.loads(text)
        width, height = fields.pop("size_wh")
        return cls(size_wh=(width, height), **fields)


def even(size_wh: tuple[int, int]) -> tuple[int, int]:
    """Returns the size with odd sides one larger: virtual cameras carry 4:2:0."""
    width, height = size_wh
    return width + width % 2, height + height % 2


def slots(memory: mmap.mmap, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns the (3, H, W, 3) uint8 view of the pictures in `memory`."""
    import numpy as np

    width, height = size_wh
    count = _SLOTS * height * width * 3
    pictures: NDArray[np.uint8] = np.frombuffer(memory, np.uint8, count, _HEAD_BYTES)
    return pictures.reshape(_SLOTS, height, width, 3)


def numbers(memory: mmap.mmap) -> NDArray[np.uint64]:
    """Returns the (3,) uint64 view of the slots' numbers."""
    import numpy as np

    return np.frombuffer(memory, np.uint64, _SLOTS)


@final
class Feeder:
    """Shows frames at a constant rate while they are fresh, else the card.

    Args:
        channel: the socket to the parent.
        memory: what `slots` and `numbers` read.
        spec: see `Spec`.
        show: takes one (H, W, 3) uint8 BGR picture; may raise what it likes.
    """

    def __init__(
        self,
        channel: socket.socket,
        memory: mmap.mmap,
        spec: Spec,
        show: Callable[[NDArray[np.uint8]], None],
    ) -> None:
        self._channel = channel
        self._slots = slots(memory, spec.size_wh)
        self._numbers = numbers(memory)
        self._show = show
        self._period_s = 1 / spec.fps
        self._stale_s = spec.stale_s
        self._linger_s = spec.linger_s
        self._card: NDArray[np.uint8] = self._slots[CARD].copy()
        self._frame: NDArray[np.uint8] = self._card.copy()
        self._fresh_until_s = 0.0
        self._ends_s: float | None = None

    def run(self) -> None:
        """Feeds until it is told to end, or `linger_s` after the parent's end; last comes the card.

        Raises:
            Exception: whatever `show` raised.
        """
        due_s = time.monotonic()
        while self._ends_s is None or time.monotonic() < self._ends_s:
            self._show(self._current())
            due_s = max(due_s + self._period_s, time.monotonic())
            self._listen(due_s)
        self._show(self._card)

    def _current(self) -> NDArray[np.uint8]:
        is_fresh = self._ends_s is None and time.monotonic() < self._fresh_until_s
        return self._frame if is_fresh else self._card

    def _listen(self, until_s: float) -> None:
        """Takes what comes until then; returns early at the end of all."""
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            if self._ends_s is not None:
                # The parent is gone; nothing else will come.
                time.sleep(min(left_s, max(0.0, self._ends_s - time.monotonic())))
                return
            if not select.select([self._channel], [], [], left_s)[0]:
                return
            try:
                data = self._channel.recv(MESSAGE_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                self._ends_s = time.monotonic() + self._linger_s
                return
            message = json.loads(data)
            if "finish" in message:
                self._ends_s = time.monotonic()
                return
            self._take(message["slot"], message["number"], message["sent_ns"])

    def _take(self, slot: int, number: int, sent_ns: int) -> None:
        if slot in FRAMES and self._numbers[slot] == number:
            self._frame[...] = self._slots[slot]
            if self._numbers[slot] == number:
                self._fresh_until_s = sent_ns / 1e9 + self._stale_s
            else:  # overwritten while it was copied, which the parent never does
                self._fresh_until_s = 0.0
        try:
            self._channel.send(json.dumps({"taken": number}).encode())
        except OSError:  # the parent is gone, which the next recv() says
            return


def open_camera(spec: Spec) -> Any:  # a pyvirtualcam.Camera, a library that is not always there
    """Opens the virtual camera.

    Raises:
        ImportError: pyvirtualcam is not installed.
        ValueError: no such back end.
        RuntimeError: no device, or it refuses.
    """
    # GPL-2.0, so never a dependency; and without types.
    import pyvirtualcam  # pyright: ignore[reportMissingImports, reportMissingTypeStubs]
    from pyvirtualcam import camera  # pyright: ignore[reportMissingImports, reportMissingTypeStubs]

    name = spec.backend
    if name is not None and ":" in name:
        import importlib

        module, _, kind = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), kind)
        except (ImportError, AttributeError):
            raise ValueError(f"there is no {name}") from None
        pyvirtualcam.register_backend(name, found)
    elif name is not None and name not in camera.BACKENDS:
        raise ValueError(f"there is no {name}, choose from {', '.join(camera.BACKENDS)}")
    width, height = spec.size_wh
    return pyvirtualcam.Camera(
        width, height, spec.fps, fmt=pyvirtualcam.PixelFormat.BGR, device=spec.device, backend=name
    )


def main(arguments: list[str]) -> int:
    """Feeds the camera until it is told to end; returns the exit code."""
    harden()  # without the parent-death signal: the card has to outlive the parent
    # They go to a whole terminal or service; the parent says when this process is to end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    spec = Spec.from_json(arguments[2])
    memory = mmap.mmap(int(arguments[1]), spec.total_bytes, access=mmap.ACCESS_READ)
    with socket.socket(fileno=int(arguments[0])) as channel:

        def say(message: dict[str, str]) -> None:
            channel.send(json.dumps(message).encode())

        try:
            camera = open_camera(spec)
        except ImportError:
            say({"error": _INSTALL})
            return 5
        except ValueError as error:
            say({"error": f"the virtual camera's back end cannot be used: {error}"})
            return 5
        except Exception as error:
            say({"error": f"no virtual camera could be opened ({_line(error)}); {_LOAD}"})
            return 5
        with camera:
            say({"device": str(camera.device)})
            try:
                Feeder(channel, memory, spec, camera.send).run()
            except Exception as error:
                say({"error": f"the virtual camera failed ({_line(error)}); open it again"})
                return 5
    return 0


def _line(error: Exception) -> str:
    """Returns what the library says about its device, on one short line."""
    return redact(" ".join(str(error).split()))[:300] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
