"""The page's sink: composed frames as JPEG into the memory that the page's server reads."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import SealError, SinkError
from ..core.plan import Why
from ..core.safe import CoverLevel, SafeFrame
from ..processes.channel import receive, send
from ..processes.memory import CARD, FRAMES
from .base import Sink
from .page_link import SLOT_BYTES, PageMemory

__all__ = ["PageEnd", "PageHello", "PageSink", "PageState"]

_IDLE_S: Final = 1.0
"""While nobody watches, one picture in so long is made, so that a new viewer sees one at once.
Chosen."""

_WATCHED_S: Final = 5.0
"""How long the server's word that somebody watches holds: five of its repetitions, one a second."""

_LONGEST_SIDE: Final = 9999
"""Of a box that a page says it fills, in pixels; whoever says more is not believed. Chosen: four
digits."""

_MOST_BOXES: Final = 256
"""More than may watch (`page.clients`: 200). Chosen."""

_WORTH_CUTTING: Final = 0.9
"""Of a picture, at most so much has to be shown for the rest to be cut off: a display on its side
shows a third of what a camera sees. Chosen."""

_LOWEST_QUALITY: Final = 20
"""Of JPEG, for what else would not fit a slot, as noise at 3840x3840 would not. Chosen."""

_QUALITY_STEP: Final = 20
"""Four tries at most from `page.quality`'s highest, 95, to the lowest. Chosen."""

_KEEP: Final = 2
"""One that is being encoded, and the newest."""

_UNDER_WAY: Final = _KEEP + 1
"""Frames that may come, after the one in hand, from before a request: those that wait, and the one
that is being composed."""

_REASONS: Final = {why.value: why.name.lower() for why in Why}
_EFFECTS: Final = {"configured": False, "silhouette": True}
_LEVELS: Final = {level.value: level for level in CoverLevel}
_ORDER: Final = (CoverLevel.PARTS, CoverLevel.PERSON, CoverLevel.FRAME)

_GONE: Final = "the page's server is gone; start the kiosk again"


@final
@dataclass(frozen=True, slots=True)
class PageState:
    """How much is hidden now, beyond what is configured.

    Attributes:
        level: the configured parts, whole people, or the whole picture.
        silhouette: whether it is hidden by a flat colour.
    """

    level: CoverLevel = CoverLevel.PARTS
    silhouette: bool = False

    @property
    def effect(self) -> str:
        """The name of `silhouette` on the link."""
        return "silhouette" if self.silhouette else "configured"

    def hides_more(self, other: PageState) -> bool:
        """Whether something is hidden that `other` would show."""
        return _ORDER.index(self.level) > _ORDER.index(other.level) or (
            self.silhouette and not other.silhouette
        )


@final
@dataclass(frozen=True, slots=True)
class PageHello:
    """What viewers are told about the picture.

    Attributes:
        hide: a preset, or names of labels.
        floor: no request hides less than this.
        stored: whether a recording is made or the picture passed on elsewhere.
        delay_s: how old, in seconds, a scene may be when its frame is composed.
        fill: the `Effect` that whole people are covered with.
        keep_zones: whether people are left alone somewhere in the picture.
    """

    hide: str | tuple[str, ...]
    floor: CoverLevel = CoverLevel.PARTS
    stored: bool = False
    delay_s: float = 3.0
    fill: str = "frost"
    keep_zones: bool = False

    def message(self, state: PageState | None = None) -> dict[str, Any]:
        """Returns it as the link carries it; without a state: as configured."""
        state = PageState(self.floor) if state is None else state
        return {
            "kind": "hello",
            "hide": self.hide if isinstance(self.hide, str) else list(self.hide),
            "floor": self.floor.value,
            "level": state.level.value,
            "effect": state.effect,
            "stored": self.stored,
            "delay_s": self.delay_s,
            "fill": self.fill,
            "keep_zones": self.keep_zones,
        }


@final
class PageEnd:
    """The media process's end of the way to the page's server; sinks come and go at it.

    Args:
        channel: see `sinks.page_link`; it stays the caller's.
        memory: writable.
        request: what people chose before this process was started; None: nothing.
        on_request: is told what holds whenever people chose anew, from the sink's thread.
    """

    def __init__(
        self,
        channel: socket.socket,
        memory: PageMemory,
        *,
        request: PageState | None = None,
        on_request: Callable[[PageState], None] | None = None,
    ) -> None:
        self.channel, self.memory = channel, memory
        self.request, self.on_request = request, on_request or _nobody
        self.shown_s: float | None = None
        """When a sink last took a frame (`time.monotonic`); None before the first."""
        # Numbers must never repeat, whoever wrote before: milliseconds since the machine's start
        # are more than any process can have counted.
        self._number = time.monotonic_ns() // 1_000_000
        self._slot = FRAMES[0]
        self._noticed: PageState | None = None
        self._noticed_ns = 0
        self._older = 0
        self._stop: Callable[[], None] | None = None
        self._stopped = False

    def next_number(self) -> int:
        """Returns a number that no picture in the memory ever had; the sink's thread only."""
        self._number += 1
        return self._number

    def next_slot(self) -> int:
        """Returns the slot of the frame that was not put last; the sink's thread only."""
        first, second = FRAMES
        self._slot = second if self._slot == first else first
        return self._slot

    def notice(self, state: PageState) -> None:
        """Notes how much is hidden now; the sink's thread only."""
        before, self._noticed = self._noticed, state
        if before is not None and state.hides_more(before):
            self._older, self._noticed_ns = 1 + _UNDER_WAY, time.monotonic_ns()

    def is_older(self, captured_ns: int) -> bool:
        """Whether the next frame may be from before the last `notice`; ask once a frame.

        Frames come in the order in which they were composed. What was captured since then was
        composed since then, and so was everything behind it.
        """
        if captured_ns >= self._noticed_ns:
            self._older = 0
        if self._older == 0:
            return False
        self._older -= 1
        return True

    def tell(self, facts: dict[str, Any]) -> None:
        """Sends what a live run measured; any thread. What does not go through is left out."""
        try:
            send(self.channel, {"kind": "facts", "facts": facts})
        except OSError:  # the sink says so, to whoever can do something about it
            return

    def stop(self) -> None:
        """Ends the run that this end was given to, or will be; also from a signal handler."""
        self._stopped = True
        if self._stop is not None:
            self._stop()

    def attach(self, stop: Callable[[], None]) -> None:
        """Says what `stop` is to call."""
        self._stop = stop
        if self._stopped:
            stop()


def _nobody(_: PageState) -> None:
    """Is told, and does nothing."""


def _boxes(value: object) -> tuple[tuple[int, int], ...] | None:
    """Returns each (width, height) that the server says, if they all make sense."""
    boxes: list[tuple[int, int]] = []
    said = cast("list[object]", value) if isinstance(value, list) else []
    if len(said) > _MOST_BOXES:
        return None
    for box in said:
        sides = cast("list[object]", box) if isinstance(box, list) else []
        whole = [side for side in sides if type(side) is int and 0 < side <= _LONGEST_SIDE]
        if len(whole) != 2 or len(sides) != 2:
            return None
        boxes.append((whole[0], whole[1]))
    return tuple(boxes) or None


def _smaller(pixels: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns (H, W, 3) pixels at a size that is not larger; the same array where it is that size.

    Halved while that is possible, then resampled linearly: 1280x720 to 1024x576 takes 0.9 ms, by
    areas all the way 5.6 (one core, AMD EPYC).
    """
    height, width = pixels.shape[:2]
    while width >= 2 * size_wh[0] and height >= 2 * size_wh[1] and width % 2 == height % 2 == 0:
        width, height = width // 2, height // 2
        half = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        pixels = np.asarray(half, np.uint8)
    if (width, height) == size_wh:
        return pixels
    small = cv2.resize(pixels, size_wh, interpolation=cv2.INTER_LINEAR)
    return np.asarray(small, np.uint8)


@final
class PageSink(Sink[SafeFrame]):
    """Hands composed frames to the page's server, and what viewers request to the pipeline.

    `write` never waits. One JPEG is made of a frame, for all viewers: at the size of the largest
    that is shown, `max_side` at most, without what none of them shows, and with left and right
    swapped if all of them want it so (0.1 ms at 1280x720; a browser without a GPU took 4 ms a
    picture to do it). While nobody watches, one a second is encoded and the others are left out.
    After a request for more, frames that were composed before it are left out, too: the outlet in
    front must not keep more than `KEEP`.

    Args:
        end: see `PageEnd`; it stays the caller's and outlives this sink.
        size_wh: (width, height) of every frame.
        card: what is shown where nothing comes, of the same size.
        hello: see `PageHello`.
        state: says how much is hidden now; any thread.
        turn: is called with what viewers request, from the thread of `write`.
        max_side: longer side of what viewers get, in pixels.
        quality: of the JPEG, 1 to 100.
        most_bytes: of a JPEG, at most what a slot holds.

    Raises:
        SinkError: the server's end is gone for good, or a frame has another size.
        SealError: `card` is not a composed frame; nothing was sent.
    """

    accepts: ClassVar[type] = SafeFrame
    KEEP: ClassVar[int] = _KEEP
    """Frames that may wait for this sink: an old one is worth nothing."""

    def __init__(
        self,
        end: PageEnd,
        *,
        size_wh: tuple[int, int],
        card: SafeFrame,
        hello: PageHello,
        state: Callable[[], PageState],
        turn: Callable[[PageState], None],
        max_side: int = 1280,
        quality: int = 80,
        most_bytes: int = SLOT_BYTES,
    ) -> None:
        super().__init__()
        if type(card) is not SafeFrame:
            raise SealError(f"PageSink refused a {type(card).__name__} as its card")
        if card.size_wh != size_wh:
            raise SinkError(f"expected a card of {size_wh}, got {card.size_wh}")
        self._end, self._size_wh, self._card = end, size_wh, card
        self._hello, self._state, self._turn = hello, state, turn
        self._quality, self._most_bytes = quality, most_bytes
        self._limit = min(1.0, max_side / max(size_wh))
        self._mirror = False
        self._boxes: tuple[tuple[int, int], ...] | None = None
        self._watched_until_s = 0.0
        self._encoded_s = float("-inf")
        self._left_out = 0
        end.notice(state())
        self._greet()

    @property
    def left_out(self) -> int:
        """Frames that no slot could hold, however low their quality."""
        return self._left_out

    def _greet(self) -> None:
        size_wh = list(self._layout(None)[1])
        self._send({**self._hello.message(self._state()), "size_wh": size_wh})
        data = self._encode(self._card, None, mirror=False)
        if data is not None:
            number = self._end.next_number()
            self._end.memory.put(CARD, number, data)
            self._send({"kind": "card", "number": number})

    def _emit(self, item: SafeFrame) -> None:
        handed_ns = time.monotonic_ns()
        if item.size_wh != self._size_wh:
            raise SinkError(f"expected frames of {self._size_wh}, got {item.size_wh}")
        self._listen()
        now_s = handed_ns / 1e9
        self._end.shown_s = now_s
        state = self._state()
        self._end.notice(state)
        older = self._end.is_older(item.captured_ns)
        if item.cover.level is not CoverLevel.FRAME and (older or state.level is CoverLevel.FRAME):
            return  # composed before more was to be hidden
        if now_s >= self._watched_until_s and now_s - self._encoded_s < _IDLE_S:
            return
        self._encoded_s = now_s
        is_watched = now_s < self._watched_until_s
        mirror = is_watched and self._mirror
        data = self._encode(item, self._boxes if is_watched else None, mirror=mirror)
        if data is None:
            self._left_out += 1
            return
        number = self._end.next_number()
        slot = self._end.next_slot()
        self._end.memory.put(slot, number, data)
        self._send(
            {
                "kind": "frame",
                "slot": slot,
                "number": number,
                "sent_ns": handed_ns,
                "captured_ns": item.captured_ns,
                "level": item.cover.level.value,
                "why": _REASONS.get(item.cover.reason),
                "requested": state.level.value,
                "effect": state.effect,
                "mirrored": mirror,
            }
        )

    def _listen(self) -> None:
        messages, gone = receive(self._end.channel)
        if gone:
            raise SinkError(_GONE)
        greeted = False
        for message in messages:
            match message:
                case {"kind": "greet"}:
                    greeted = True
                case {"kind": "privacy", "level": str(level), "effect": str(effect)} if (
                    level in _LEVELS and effect in _EFFECTS
                ):
                    self._turn(PageState(_LEVELS[level], _EFFECTS[effect]))
                    self._end.on_request(self._state())
                case {"kind": "watching", "count": int(count), **rest}:
                    until_s = time.monotonic() + _WATCHED_S
                    self._watched_until_s = until_s if count > 0 else 0.0
                    self._mirror = rest.get("mirror") is True
                    self._boxes = _boxes(rest.get("boxes"))
                case _:
                    pass
        if greeted:  # once, after the requests, however many greetings waited
            self._greet()

    def _layout(
        self, boxes: Sequence[tuple[int, int]] | None
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Returns the (width, height) of a frame's middle that fills boxes, and what it is made.

        A box is filled by the largest middle part of its own proportions; what none shows is cut
        off where that is a tenth of the picture or more.
        """
        width, height = self._size_wh
        scale, across, down = self._limit, 1.0, 1.0
        if boxes:
            scales = [max(box[0] / width, box[1] / height) for box in boxes]
            scale = min(scale, max(scales))
            shares = [
                (box[0] / (width * one), box[1] / (height * one))
                for box, one in zip(boxes, scales, strict=True)
            ]
            across, down = (max(sides) for sides in zip(*shares, strict=True))
        if across * down > _WORTH_CUTTING:
            across = down = 1.0
        # As much on either side, or the middle would not stay where it is.
        middle_wh = (
            width - 2 * int(width * (1 - across) / 2),
            height - 2 * int(height * (1 - down) / 2),
        )
        made_wh = max(1, round(middle_wh[0] * scale)), max(1, round(middle_wh[1] * scale))
        return middle_wh, made_wh

    def _encode(
        self, item: SafeFrame, boxes: Sequence[tuple[int, int]] | None, *, mirror: bool
    ) -> memoryview | None:
        """Returns a JPEG that fits a slot; None where none does."""
        middle_wh, made_wh = self._layout(boxes)
        left, top = (
            (side - kept) // 2 for side, kept in zip(self._size_wh, middle_wh, strict=True)
        )
        middle = item.pixels[top : top + middle_wh[1], left : left + middle_wh[0]]
        pixels = _smaller(middle, made_wh)
        if mirror:
            pixels = np.asarray(cv2.flip(pixels, 1), np.uint8)
        quality = self._quality
        while True:
            _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if data.size <= self._most_bytes:
                return data.data
            if quality <= _LOWEST_QUALITY:
                return None
            quality = max(_LOWEST_QUALITY, quality - _QUALITY_STEP)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            send(self._end.channel, message)
        except OSError:
            raise SinkError(_GONE) from None

    def _finish(self) -> None:
        """Nothing to complete: the server notices that nothing comes."""

    def _abort(self) -> None:
        """Nothing to remove: what lies in the memory is composed."""
