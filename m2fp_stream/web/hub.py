"""What the media process says, and what browsers get of it: the newest picture, and the status.

Everything that comes is checked as if a stranger had sent it; nonsense is counted and left out. A
picture counts while it is fresh, by the time at which the sink sent it; after that nobody gets it
any more, whatever the media process does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol, final

from ..core.address import address_of
from ..core.plan import Why
from ..processes.channel import receive, send
from ..processes.memory import CARD
from ..sinks.page_link import PageMemory
from .frames import STILL_CARD, Frame, Level
from .messages import (
    DELAY_S,
    JPEG,
    Facts,
    Hello,
    card_number_of,
    facts_of,
    handover_of,
    hello_of,
)
from .options import KioskOptions, PageOptions
from .privacy import PrivacyRequests
from .viewers import CLIENT_MESSAGE, Full, Viewer

__all__ = ["Hub", "Timer"]

_log = logging.getLogger(__name__)

_AWAY: Final = frozenset(why.name.lower() for why in (Why.SOURCE_AWAY, Why.OTHER_CAMERA))
_ON_REQUEST: Final = Why.ON_REQUEST.name.lower()

_TICK_S: Final = 1.0
"""What the other end may have missed is said again so often; its sink believes for five times that
that somebody watches (`sinks.page`). Chosen."""

_SILENT_S: Final = 5.0
"""Facts older than this are unknown; a media process that says nothing for so long is silent. It
says something each second: five missed in a row are no coincidence."""

_SPARE_S: Final = 1.0
"""What composing, waiting and encoding may add to that delay. An older scene is one that something
held up, and is no longer what a mirror shows. Chosen."""

_IDLE_NS: Final = 3_000_000_000
"""While nobody watches the sink sends about one picture a second: for so long it counts as being
there. Nobody is shown a picture of that age."""

_STARTS_S: Final = 30.0
"""How long a media process may take to start before it counts as silent: a third of what the
supervisor waits before it starts another (`kiosk`)."""


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Sees to it that it does not."""
        ...


def _in_loop(delay_s: float, callback: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, callback)


@final
class Hub:
    """The server's end of the link; lives in one event loop.

    Args:
        channel: the socket to the media process; it stays the caller's.
        memory: the pictures' slots.
        options: of the page.
        kiosk: what the page shows, and when it sleeps.
        hello: what the media process will say of itself (`sinks.page.PageHello.message`), known
            before it does; None, or nonsense: nothing is known till then.
        clock_ns: CLOCK_MONOTONIC.
        call_later: calls a function after so many seconds, in the loop's thread.
    """

    def __init__(
        self,
        channel: socket.socket,
        memory: PageMemory,
        options: PageOptions,
        kiosk: KioskOptions,
        *,
        hello: Mapping[str, Any] | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        call_later: Callable[[float, Callable[[], None]], Timer] = _in_loop,
    ) -> None:
        self._channel = channel
        self._memory = memory
        self._options = options
        self._kiosk = kiosk
        self._clock_ns = clock_ns
        self._call_later = call_later
        self._stale_ns = round(options.stale_s * 1e9)
        self._remote = not address_of(options.host).is_loopback
        self._viewers: set[Viewer] = set()
        self._hello: Hello | None = None
        self._greeted = False
        self._facts: Facts | None = None
        self._facts_s = 0.0  # when they came
        self._frame: Frame | None = None
        self._last: Frame | None = None  # without its picture
        self._watched_ns: int | None = None
        self._sequence = 0
        self._card: bytes | None = None
        self._privacy = PrivacyRequests()
        self._outdated = False  # what came last hid less than is requested, and was dropped
        self._began_s = self._seen_s = self._ticked_s = clock_ns() / 1e9
        self._message_s: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick: Timer | None = None
        self._expiry: Timer | None = None
        self._nonsense = 0
        self.ended = asyncio.Event()
        """The link is gone, or `close` was called: no picture will come any more."""
        self.more_alarms: Callable[[], list[str]] = list
        """Sentences for the status, from whoever else has some."""
        if hello is not None:
            self._take_hello(hello)

    # --- life ---

    def start(self) -> None:
        """Begins to listen, in the running event loop, and asks who is there."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._channel.fileno(), self._read)
        self._on_tick()

    def close(self) -> None:
        """Ends every stream; the socket stays open."""
        if self._loop is not None:
            self._loop.remove_reader(self._channel.fileno())
            self._loop = None
        for timer in (self._tick, self._expiry):
            if timer is not None:
                timer.cancel()
        self._frame = None
        self.ended.set()
        self._wake()

    @contextlib.contextmanager
    def watch(self) -> Iterator[Viewer]:
        """Counts a client in for as long as the context lasts.

        Raises:
            Full: `options.clients` watch already.
        """
        if len(self._viewers) >= self._options.clients or self.ended.is_set():
            raise Full
        viewer = Viewer()
        if not self._viewers:
            self._watched_ns = self._clock_ns()
        self._viewers.add(viewer)
        self._send_watching()
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._watched_ns = None
            self._send_watching()

    # --- what browsers get ---

    def frame(self) -> Frame | None:
        """Returns the newest picture while it is fresh."""
        frame = self._frame
        if frame is None or self._clock_ns() - frame.sent_ns > self._stale_ns:
            return None
        return frame

    def card(self) -> bytes:
        """Returns the JPEG to be shown where there is no fresh picture."""
        return STILL_CARD if self._card is None else self._card

    def now_ns(self) -> int:
        """Returns the time that `Frame.message` wants."""
        return self._clock_ns()

    @property
    def asleep(self) -> bool:
        """Whether nobody was seen for `kiosk.sleep_after_s`, by a camera that looks."""
        return self._deserted and self._looks()

    def on_message(self, viewer: Viewer, said: str) -> None:
        """Takes in what a client said, as in `CLIENT_MESSAGE`; anything else is nothing."""
        if CLIENT_MESSAGE.fullmatch(said.encode(errors="replace")) is None:
            return
        word, _, rest = said.partition(" ")
        match word:
            case "awake":
                self.touch()
            case "size":
                width, _, height = rest.partition("x")
                viewer.box_wh = int(width), int(height)
                self._send_watching()
            case "time":
                viewer.ask(int(rest))
            case _:
                viewer.got(int(rest))

    def touch(self) -> None:
        """Notes that somebody touched a page: as good as being seen."""
        self._seen_s = max(self._seen_s, self._clock_ns() / 1e9)
        self._wake()

    @property
    def _deserted(self) -> bool:
        after_s = self._kiosk.sleep_after_s
        return after_s > 0 and self._clock_ns() / 1e9 - self._seen_s > after_s

    def _looks(self) -> bool:
        """Whether there is a camera; without one, nothing says that nobody is there."""
        return self._state(self._present(), self._known_facts())[0] in ("live", "card")

    @property
    def watching(self) -> int:
        """How many clients get pictures."""
        return len(self._viewers)

    @property
    def nonsense(self) -> int:
        """How many messages of the media process made no sense."""
        return self._nonsense

    @property
    def silent(self) -> bool:
        """Whether the media process has said nothing of late."""
        now_s = self._clock_ns() / 1e9
        if self._message_s is None:
            return now_s - self._began_s > _STARTS_S
        return now_s - self._message_s > _SILENT_S

    def status(self) -> dict[str, Any]:
        """Returns what GET /api/status says."""
        frame, facts, hello = self._present(), self._known_facts(), self._hello
        state, why = self._state(frame, facts)
        level, silhouette = self._holds()
        asleep = self.asleep
        now_ns = self._clock_ns()
        alarms = ["the camera process is silent"] if self.silent else []
        options, kiosk = self._options, self._kiosk
        return {
            "state": state,
            "why": why,
            "level": level,
            "silhouette": silhouette,
            "floor": "parts" if hello is None else hello.floor,
            "hide": None if hello is None else hello.hide,
            "effect": None if hello is None else hello.fill,
            "keep_zones": None if hello is None else hello.keep_zones,
            "person": not self._deserted,
            "asleep": asleep,
            "fps": None if facts is None else facts.fps,
            "latency_ms": None if facts is None else facts.latency_ms,
            "frame_age_ms": None if frame is None else round((now_ns - frame.captured_ns) / 1e6),
            "watching": len(self._viewers),
            "stored": None if hello is None else hello.stored,
            "remote": self._remote,
            "uploads": options.uploads,
            "alarms": [*alarms, *self.more_alarms()],
            "options": {
                "language": kiosk.language,
                "rotation": kiosk.rotation,
                "mirror": kiosk.mirror,
                "clock": kiosk.clock,
                "consent": kiosk.consent,
                "stale_s": options.stale_s,
            },
        }

    def request_privacy(self, level: Level, *, silhouette: bool) -> None:
        """Asks for a level; the floor holds where it hides more.

        More takes effect here and now: until pictures come that were composed after the media
        process knows of it, none does.
        """
        self._privacy.ask(level, silhouette=silhouette)
        self._drop_outdated()
        self._send_request()
        self.touch()

    def _drop_outdated(self) -> None:
        if self._last is not None and self._privacy.hides_less(self._last):
            self._frame = self._last = None
            self._outdated = True

    def _holds(self) -> tuple[Level, bool]:
        """Returns the level and whether it is silhouettes, as far as is known."""
        request = self._privacy.request
        if request is not None:
            return request.level, request.silhouette
        facts, hello = self._known_facts(), self._hello
        level = None if facts is None else facts.level
        if level is None:
            level = "parts" if hello is None else hello.level
        return level, hello is not None and hello.silhouette

    def _present(self) -> Frame | None:
        """Returns the newest frame, without its picture, while pictures are coming."""
        last, now_ns = self._last, self._clock_ns()
        if last is None:
            return None
        is_idle = self._watched_ns is None or now_ns - self._watched_ns < _IDLE_NS
        limit_ns = max(self._stale_ns, _IDLE_NS) if is_idle else self._stale_ns
        return last if now_ns - last.sent_ns <= limit_ns else None

    def _known_facts(self) -> Facts | None:
        late = self._clock_ns() / 1e9 - self._facts_s > _SILENT_S
        return None if late else self._facts

    def _state(self, frame: Frame | None, facts: Facts | None) -> tuple[str, str | None]:
        if frame is None:
            request = self._privacy.request
            hidden = self._outdated or (request is not None and request.level == "frame")
            waits = hidden and facts is not None and not self.silent
            return ("card", _ON_REQUEST) if waits else ("starting", None)
        if not frame.covered:
            return "live", None
        if frame.why in _AWAY:
            return "away", frame.why
        if facts is not None and facts.away:
            return "away", frame.why or Why.SOURCE_AWAY.name.lower()
        return "card", frame.why

    # --- the link ---

    def _read(self) -> None:
        messages, gone = receive(self._channel)
        for message in messages:
            if self._take(message):
                self._message_s = self._clock_ns() / 1e9
            else:
                self._nonsense += 1
                if self._nonsense & (self._nonsense - 1) == 0:  # 1, 2, 4, 8...
                    _log.warning("%d messages of the camera process made no sense", self._nonsense)
        if gone:
            _log.warning("the link to the camera process has ended")
            self.close()
        elif messages:
            self._wake()

    def _take(self, message: dict[str, Any]) -> bool:
        """Takes a message in; says whether it made sense."""
        match message["kind"]:
            case "hello":
                taken = self._take_hello(message)
                self._greeted |= taken
                return taken
            case "card":
                return self._take_card(message)
            case "frame":
                return self._take_frame(message)
            case "facts":
                return self._take_facts(message)
            case _:
                return False

    def _take_hello(self, message: Mapping[str, Any]) -> bool:
        hello = hello_of(message)
        if hello is None:
            return False
        self._hello = hello
        if self._privacy.raise_to(hello.floor):
            self._send_request()
        self._send_watching()
        return True

    def _take_card(self, message: dict[str, Any]) -> bool:
        number = card_number_of(message)
        if number is None:
            return False
        data = self._memory.take(CARD, number)
        if data is not None and not data.startswith(JPEG):
            return False
        self._card = data or self._card
        return True

    def _take_frame(self, message: dict[str, Any]) -> bool:
        handover = handover_of(message, self._clock_ns())
        if handover is None:
            return False
        frame = handover.frame
        if self._is_late(frame):
            return True
        if self._privacy.hides_less(frame):
            self._outdated = True
            self._privacy.say_again()
            return True
        data = self._memory.take(handover.slot, handover.number)
        if data is None:
            return True  # overwritten: a newer one is on its way
        if not data.startswith(JPEG):
            return False
        self._sequence += 1
        self._outdated = False
        self._last = replace(frame, sequence=self._sequence)
        self._frame = replace(self._last, jpeg=data)
        if self._expiry is None and self._loop is not None:
            self._expire()
        return True

    def _is_late(self, frame: Frame) -> bool:
        """Whether a frame is left from before this process, or something held it up."""
        now_ns = self._clock_ns()
        if now_ns - frame.sent_ns > self._stale_ns:
            return True
        delay_s = DELAY_S if self._hello is None else self._hello.delay_s
        return not frame.covered and now_ns - frame.captured_ns > (delay_s + _SPARE_S) * 1e9

    def _take_facts(self, message: dict[str, Any]) -> bool:
        facts = facts_of(message)
        if facts is None:
            return False
        now_s = self._clock_ns() / 1e9
        self._facts, self._facts_s = facts, now_s
        if facts.person_s_ago is not None:
            self._seen_s = max(self._seen_s, now_s - facts.person_s_ago)
        self._privacy.take_level(facts.level)
        self._drop_outdated()
        return True

    # --- what is sent ---

    def _on_tick(self) -> None:
        """Says everything again that the media process may have missed."""
        if self._loop is None:
            return
        self._tick = self._call_later(_TICK_S, self._on_tick)
        now_s = self._clock_ns() / 1e9
        if not self._looks():  # that time does not count as one without anybody
            self._seen_s = min(now_s, self._seen_s + now_s - self._ticked_s)
        self._ticked_s = now_s
        if not self._greeted or self.frame() is None:
            self._send({"kind": "greet"})
        self._send_request()
        self._send_watching()
        self._wake()

    def _send_request(self) -> None:
        message = self._privacy.message()
        if message is not None:
            self._send(message)

    def _send_watching(self) -> None:
        boxes = [viewer.box_wh for viewer in self._viewers]
        known = sorted({box for box in boxes if box is not None})
        pages_only = bool(boxes) and None not in boxes
        self._send(
            {
                "kind": "watching",
                "count": len(boxes),
                "mirror": pages_only and self._kiosk.mirror,
                "boxes": known if pages_only else None,
            }
        )

    def _send(self, message: dict[str, Any]) -> None:
        if self.ended.is_set() or self._loop is None:
            return
        try:
            send(self._channel, message)
        except OSError:
            # The reader says so, too; both ends of the kiosk's link stay open in the supervisor.
            _log.debug("the camera process does not listen")

    def _expire(self) -> None:
        """Wakes everybody when the newest picture is no longer fresh."""
        self._expiry = None
        if self._loop is None or self._frame is None:
            return
        left_s = (self._frame.sent_ns + self._stale_ns - self._clock_ns()) / 1e9
        if left_s < 0:
            self._frame = None
            self._wake()
        else:
            self._expiry = self._call_later(left_s + 0.001, self._expire)

    def _wake(self) -> None:
        for viewer in self._viewers:
            viewer.wake()
