"""The process that feeds a virtual camera: composed buffers in, a cover card where none come.

Started by `sinks.virtual_camera` as ``python -P -m m2fp_stream.sinks.camera_feeder CHANNEL MEMORY``
with two inherited descriptors; its job is `Spec`. The memory holds `processes.memory.Slots` of
(H, W, 3) uint8 BGR pictures. The channel carries a frame's slot, number and time one way, "taken"
or "error" the other.

It is not tied to its parent's life: after the parent's death it shows the card for a while.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, final

from ..core.redact import redact
from ..privacy.hardening import harden
from ..processes.channel import ChannelError, Message, inherited, receive_one, send
from ..processes.child import read_job
from ..processes.memory import CARD, FRAMES, Slots, map_memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CARD_NUMBER", "Feeder", "Spec", "even", "main", "open_camera"]

CARD_NUMBER: Final = 1
"""The number under which the card lies in its slot, all the time."""

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
    def slot_bytes(self) -> int:
        """Size of one picture."""
        return self.size_wh[0] * self.size_wh[1] * 3

    @property
    def total_bytes(self) -> int:
        """Size of the shared memory."""
        return Slots.total_bytes(self.slot_bytes)

    def as_job(self) -> dict[str, Any]:
        """Returns what `of_job` reads, JSON values."""
        return asdict(self)

    @classmethod
    def of_job(cls, job: dict[str, Any]) -> Spec:
        """Returns what `as_job` gave, after its journey."""
        fields = dict(job)
        width, height = fields.pop("size_wh")
        return cls(size_wh=(width, height), **fields)


def even(size_wh: tuple[int, int]) -> tuple[int, int]:
    """Returns the size with odd sides one larger: virtual cameras carry 4:2:0."""
    width, height = size_wh
    return width + width % 2, height + height % 2


@final
class Feeder:
    """Shows frames at a constant rate while they are fresh, else the card.

    Args:
        channel: to the parent.
        slots: for pictures of `spec.slot_bytes`; the card's slot holds it.
        spec: see `Spec`.
        show: takes one (H, W, 3) uint8 BGR picture; may raise what it likes.
    """

    def __init__(
        self,
        channel: socket.socket,
        slots: Slots,
        spec: Spec,
        show: Callable[[NDArray[np.uint8]], None],
    ) -> None:
        self._channel = channel
        self._slots = slots
        self._show = show
        self._period_s = 1 / spec.fps
        self._stale_s = spec.stale_s
        self._linger_s = spec.linger_s
        import numpy as np

        width, height = spec.size_wh
        self._card: NDArray[np.uint8] = np.zeros((height, width, 3), np.uint8)
        slots.take_into(CARD, CARD_NUMBER, self._card.data.cast("B"))
        self._frame = self._card.copy()
        self._frame_bytes = self._frame.data.cast("B")
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
            try:
                message = receive_one(self._channel, left_s)
            except TimeoutError:
                return
            except ChannelError:
                self._ends_s = time.monotonic() + self._linger_s
                return
            if "finish" in message:
                self._ends_s = time.monotonic()
                return
            self._take(message["slot"], message["number"], message["sent_ns"])

    def _take(self, slot: int, number: int, sent_ns: int) -> None:
        if slot in FRAMES:
            # Not whole where it was overwritten meanwhile, which the parent never does.
            is_whole = self._slots.take_into(slot, number, self._frame_bytes)
            self._fresh_until_s = sent_ns / 1e9 + self._stale_s if is_whole else 0.0
        with suppress(OSError):  # the parent is gone, as is seen next
            send(self._channel, {"taken": number})


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
    spec = Spec.of_job(read_job())
    memory = map_memory(int(arguments[1]), spec.total_bytes, writable=False)
    slots = Slots(memory, spec.slot_bytes)
    with inherited(arguments[0]) as channel:

        def say(message: Message) -> None:
            send(channel, message)

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
                Feeder(channel, slots, spec, camera.send).run()
            except Exception as error:
                say({"error": f"the virtual camera failed ({_line(error)}); open it again"})
                return 5
    return 0


def _line(error: Exception) -> str:
    """Returns what the library says about its device, on one short line."""
    return redact(" ".join(str(error).split()))[:300] or type(error).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
