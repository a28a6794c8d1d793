"""Composed frames as a camera that other programs can choose, through a process of its own."""

from __future__ import annotations

import socket
import time
from fractions import Fraction
from typing import Annotated, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..core.errors import SealError, SinkError
from ..core.safe import SafeFrame
from ..options import Options
from ..processes.channel import ChannelError, Message, receive_one, send
from ..processes.child import Child, start_with_channel
from ..processes.memory import CARD, FRAMES, Slots, map_memory, open_memory
from . import camera_feeder
from .base import Sink

__all__ = ["VirtualCameraOptions", "VirtualCameraSink"]

_START_S: Final = 60.0
"""Longest start of the feeder; the same as a parser process gets."""

_ANSWER_S: Final = 2.0
"""Without an answer for so long the feeder counts as hung: it answers as soon as it reads. Chosen:
sixty pictures at the usual rate."""

_END_S: Final = 5.0
"""Longest end of a feeder that was told to; then it is killed. It has one picture left to show.
Chosen."""

_DIED: Final = "the virtual camera's process died; open the virtual camera again"

_USUAL_FPS: Final = Fraction(30)
"""Of a camera that does not say its rate: what most programs for calls ask for."""

_MOST_FPS: Final = Fraction(120)
"""What `fps` may be at most: no camera for calls has more."""


class VirtualCameraOptions(Options):
    """Which virtual camera is fed, and what it shows when nothing comes."""

    enabled: Annotated[
        bool,
        Field(
            title="Feed a virtual camera",
            description="Whether composed frames go to a camera that other programs can choose.",
        ),
    ] = False
    device: Annotated[
        str | None,
        Field(
            title="Device",
            description="Such as /dev/video10; without it, the first virtual camera found.",
            min_length=1,
            max_length=200,
        ),
    ] = None
    backend: Annotated[
        str | None,
        Field(
            title="Back end",
            description=(
                "Name of a pyvirtualcam back end, or module:Class; without it, pyvirtualcam's."
            ),
            min_length=1,
            max_length=200,
        ),
    ] = None
    fps: Annotated[
        int | None,
        Field(
            title="Frames a second",
            description="Frames are repeated or left out to fit; without it, the source's, or 30.",
            ge=1,
            le=120,
        ),
    ] = None
    stale_s: Annotated[
        float,
        Field(
            title="Longest still",
            description="Seconds without a new frame after which the cover card is shown.",
            gt=0,
            le=5,
        ),
    ] = 1.0
    linger_s: Annotated[
        float,
        Field(
            title="Card after a crash",
            description="Seconds for which the cover card is shown after this program has died.",
            ge=0,
            le=3600,
        ),
    ] = 10.0


@final
class VirtualCameraSink(Sink[SafeFrame]):
    """Feeds a virtual camera from a process that sees composed buffers only.

    That process shows the latest frame at a constant rate, `card` when nothing new has come for
    `stale_s`, and `card` for `linger_s` after this process has died without a word. It also ends on
    `card`, for programs tend to keep a camera's last picture. `write` never waits: while both
    buffers are on their way it leaves the frame out and counts it in `dropped`.

    Args:
        options: see `VirtualCameraOptions`.
        size_wh: (width, height) of every frame; odd sides are continued by one copied row or
            column.
        card: the cover card, of the same size.
        rate: frames a second of the source; None if unknown.
        answer_s: seconds without an answer after which the feeder counts as hung.

    Raises:
        SinkError: pyvirtualcam or the device is missing, or refuses; nothing is left running. From
            `write`: the feeder died or hangs, and was killed; make a new sink.
        SealError: `card` is not a composed frame; nothing was started.
    """

    accepts: ClassVar[type] = SafeFrame

    def __init__(
        self,
        options: VirtualCameraOptions | None = None,
        *,
        size_wh: tuple[int, int],
        card: SafeFrame,
        rate: Fraction | None = None,
        answer_s: float = _ANSWER_S,
    ) -> None:
        super().__init__()
        if type(card) is not SafeFrame:
            raise SealError(f"VirtualCameraSink refused a {type(card).__name__} as its card")
        if card.size_wh != size_wh:
            raise SinkError(f"expected a card of {size_wh}, got {card.size_wh}")
        self._size_wh = size_wh
        self._slot_wh = camera_feeder.even(size_wh)
        self._options = options or VirtualCameraOptions()
        self._answer_s = answer_s
        self._number = 0
        self._dropped = 0
        self._under_way: dict[int, tuple[int, int]] = {}
        self._process: Child | None = None
        self._channel: socket.socket | None = None
        self._slots: Slots | None = None
        self._device = ""
        try:
            self._launch(card, _fitting_rate(self._options.fps, rate))
            self._await_ready()
        except OSError as error:  # out of processes, descriptors or memory
            self.abort()
            if isinstance(error, SinkError):
                raise
            raise SinkError(
                f"the virtual camera's process could not be started ({error.strerror}); close "
                "other programs and try again"
            ) from None
        except BaseException:
            self.abort()
            raise

    @property
    def device(self) -> str:
        """What other programs find the camera as, e.g. /dev/video10."""
        return self._device

    @property
    def dropped(self) -> int:
        """How many frames were left out because the feeder was behind."""
        return self._dropped

    @property
    def pid(self) -> int | None:
        """The feeder's process id, or None once it has ended."""
        return None if self._process is None else self._process.pid

    def _launch(self, card: SafeFrame, rate: Fraction) -> None:
        spec = camera_feeder.Spec(
            size_wh=self._slot_wh,
            fps=float(rate),
            device=self._options.device,
            backend=self._options.backend,
            stale_s=self._options.stale_s,
            linger_s=self._options.linger_s,
        )
        with open_memory(spec.total_bytes) as memory:
            view = map_memory(memory, spec.total_bytes, writable=True)
            self._slots = Slots(view, spec.slot_bytes)
            self._put(CARD, camera_feeder.CARD_NUMBER, card)
            self._process, self._channel = start_with_channel(
                camera_feeder.__name__, descriptors=(memory,), job=spec.as_job()
            )

    def _await_ready(self) -> None:
        try:
            hello = self._receive(_START_S)
        except TimeoutError:
            raise SinkError(
                f"the virtual camera's process did not start within {_START_S:g} s; try again"
            ) from None
        self._device = str(hello.get("device"))

    def _receive(self, timeout_s: float) -> Message:
        """Returns the feeder's next message.

        Raises:
            TimeoutError: none has come.
            SinkError: it says that it failed, or it died, or it said nonsense.
        """
        assert self._channel is not None  # callers hold a started feeder
        try:
            said = receive_one(self._channel, timeout_s)
        except ChannelError:
            raise SinkError(_DIED) from None
        if "error" in said:
            raise SinkError(str(said["error"]))
        return said

    def _emit(self, item: SafeFrame) -> None:
        if item.size_wh != self._size_wh:
            raise SinkError(
                f"expected frames of {self._size_wh}, got {item.size_wh}; open a new virtual camera"
            )
        self._read_answers()
        if self._is_silent():
            raise SinkError(
                f"the virtual camera has not answered for {self._answer_s:g} s and was stopped; "
                "open it again"
            )
        used = {slot for slot, _ in self._under_way.values()}
        slot = next((one for one in FRAMES if one not in used), None)
        if slot is None:
            self._dropped += 1
            return
        self._send(item, slot)

    def _send(self, item: SafeFrame, slot: int) -> None:
        assert self._channel is not None  # callers hold a started feeder
        self._number += 1
        self._put(slot, self._number, item)
        sent_ns = time.monotonic_ns()
        self._under_way[self._number] = slot, sent_ns
        message = {"slot": slot, "number": self._number, "sent_ns": sent_ns}
        try:
            sent = send(self._channel, message)
        except OSError:
            sent = False
        if not sent:
            self._read_answers()  # what it said before it ended tells why
            raise SinkError(_DIED)

    def _put(self, slot: int, number: int, frame: SafeFrame) -> None:
        assert self._slots is not None  # _launch() made them
        width, height = self._slot_wh
        with self._slots.writing(slot, number, height * width * 3) as view:
            _fill(np.frombuffer(view, np.uint8).reshape(height, width, 3), frame)

    def _read_answers(self) -> None:
        while True:
            try:
                answer = self._receive(0)
            except TimeoutError:
                return
            number = answer.get("taken")
            if isinstance(number, int):
                self._under_way.pop(number, None)

    def _is_silent(self) -> bool:
        sent = [sent_ns for _, sent_ns in self._under_way.values()]
        return bool(sent) and time.monotonic_ns() - min(sent) > self._answer_s * 1e9

    def _finish(self) -> None:
        self._end()

    def _abort(self) -> None:
        self._end()

    def _end(self) -> None:
        """Lets the feeder show the card and end; kills it where it does not."""
        process, self._process = self._process, None
        channel, self._channel = self._channel, None
        self._slots = None
        try:
            if channel is None or process is None:
                return
            if not self._is_silent() and send(channel, {"finish": True}):
                process.wait(_END_S)
        except OSError:  # it is gone
            return
        finally:
            if channel is not None:
                channel.close()
            if process is not None:
                process.close()


def _fitting_rate(fps: int | None, rate: Fraction | None) -> Fraction:
    if fps is not None:
        return Fraction(fps)
    if rate is None or rate <= 0:
        return _USUAL_FPS
    return min(rate, _MOST_FPS)


def _fill(slot: NDArray[np.uint8], frame: SafeFrame) -> None:
    """Copies `frame` into a `slot` that is at most one row and one column larger."""
    width, height = frame.size_wh
    slot[:height, :width] = frame.pixels
    slot[:height, width:] = slot[:height, width - 1 : width]
    slot[height:] = slot[height - 1 : height]
