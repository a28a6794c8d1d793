"""What the media process says, and what browsers get of it: the newest picture, and the status.

Everything that comes is checked as if a stranger had sent it; nonsense is counted and left out. A
picture counts while it is fresh, by the time at which the sink sent it; after that nobody gets it
any more, whatever the media process does.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeGuard, final

from ..core.plan import Effect, Why
from ..processes.channel import receive, send
from ..processes.memory import CARD, FRAMES
from ..sinks.page_link import PageMemory
from .options import KioskOptions, PageOptions, address_of

__all__ = [
    "HEADER",
    "SAID",
    "STILL_CARD",
    "Frame",
    "Full",
    "Hub",
    "Level",
    "Viewer",
    "status_text",
]

_log = logging.getLogger(__name__)

Level = Literal["parts", "person", "frame"]

HEADER: Final = struct.Struct("<BBHIdd")
"""Before each JPEG: version, flags, 0, sequence, seconds from capture to the sink's handing it
over, Unix milliseconds of that."""

SAID: Final = re.compile(
    rb"awake|size [1-9][0-9]{0,3}x[1-9][0-9]{0,3}|time [0-9]{1,15}|got [0-9]{1,10}"
)
"""All that is listened to of what a page says: that somebody touched it; the box that it fills with
the picture, in pixels, which says too that it knows mirrored pictures; a question for the time; the
sequence of the last picture that it took."""

_VERSION: Final = 1
_WHOLLY_COVERED: Final = 1
_MIRRORED: Final = 2

_UNDER_WAY: Final = 12
"""Pictures that may be on their way to a page that says which it took: 0.4 s at 30 a second. Fewer
(4) made each later on a busy computer, for a page that has all of them draws the newest."""

_LEVELS: Final[tuple[Level, ...]] = ("parts", "person", "frame")
_FILLS: Final = frozenset(effect.value for effect in Effect)
_REASONS: Final = frozenset(why.name.lower() for why in Why)
_AWAY: Final = frozenset(why.name.lower() for why in (Why.SOURCE_AWAY, Why.OTHER_CAMERA))
_ON_REQUEST: Final = Why.ON_REQUEST.name.lower()
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,39}")
_MOST_LABELS: Final = 32
_JPEG: Final = b"\xff\xd8\xff"

_TICK_S: Final = 1.0
_SILENT_S: Final = 5.0
"""Facts older than this are unknown; a media process that says nothing for so long is silent."""

_AHEAD_NS: Final = 50_000_000
"""How far a time of the other process may lie ahead: both read one clock."""

_LONGEST_DELAY_NS: Final = 60_000_000_000
_DELAY_S: Final = 3.0
"""What `live.max_delay_s` may be at most; for a media process that does not say its own."""

_SPARE_S: Final = 1.0
"""What composing, waiting and encoding may add to that delay. An older scene is one that something
held up, and is no longer what a mirror shows."""

_IDLE_NS: Final = 3_000_000_000
"""While nobody watches the sink sends about one picture a second: for so long it counts as being
there. Nobody is shown a picture of that age."""

_STARTS_S: Final = 30.0
"""How long a media process may take to start before it counts as silent."""

STILL_CARD: Final = base64.b64decode(
    b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZG"
    b"NywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09P"
    b"T09PT09PT09PT09PT09PT09PT09PT0//wAARCAAJABADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAf/"
    b"xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFAEBAAAAAAAAAAAAAAAAAAAAAP/EABQRAQAAAAAAAAAAAAAAAAAAAAD/"
    b"2gAMAwEAAhEDEQA/AJ+AD//Z"
)
"""Dark grey, 16x9 pixels: what is shown where no card has come."""


class Full(Exception):  # noqa: N818  # it is a state, not an error
    """As many watch as may."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One composed picture.

    Attributes:
        jpeg: as the sink made it.
        sequence: 1, 2, 3...
        sent_ns, captured_ns: when, by CLOCK_MONOTONIC.
        covered: whether nothing but the card is in it.
        why: the reason, a name of `core.plan.Why` in lower case; None where there is none.
        wish: the level that was wished before it was composed.
        silhouette: whether silhouettes were wished then.
        mirrored: whether left and right are swapped in it.
    """

    jpeg: bytes
    sequence: int
    sent_ns: int
    captured_ns: int
    covered: bool
    why: str | None
    wish: Level
    silhouette: bool
    mirrored: bool

    def message(self, now_ns: int) -> bytes:
        """Returns what a browser gets by WebSocket."""
        handed_ms = time.time() * 1e3 - (now_ns - self.sent_ns) / 1e6
        flags = (_WHOLLY_COVERED if self.covered else 0) | (_MIRRORED if self.mirrored else 0)
        age_s = (self.sent_ns - self.captured_ns) / 1e9
        head = HEADER.pack(_VERSION, flags, 0, self.sequence & 0xFFFFFFFF, age_s, handed_ms)
        return head + self.jpeg


@final
@dataclass(frozen=True, slots=True)
class _Hello:
    hide: str | list[str]
    floor: Level
    level: Level
    silhouette: bool
    stored: bool
    delay_s: float
    fill: str


@final
@dataclass(frozen=True, slots=True)
class _Facts:
    at_s: float
    fps: float | None
    latency_ms: float | None
    level: Level | None
    away: bool


@final
@dataclass(frozen=True, slots=True)
class _Asked:
    """A wish on its way; it is said again until the media process says that it holds."""

    level: Level
    silhouette: bool
    at_s: float
    times: int = 0


@final
class Viewer:
    """One client: knows whether there is something new, never holds a picture itself."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self.box_wh: tuple[int, int] | None = None
        """The (width, height) that it fills with the picture, in pixels; None: it did not say, and
        is no page of ours. Such a one gets no mirrored picture."""
        self._asked: int | None = None
        self._acknowledges = False
        self._under_way: deque[int] = deque()

    def may_get(self, frame: Frame) -> bool:
        """Whether it knows what to do with a picture, and those before have come, if it says so."""
        if frame.mirrored and self.box_wh is None:
            return False
        return not self._acknowledges or len(self._under_way) < _UNDER_WAY

    def sent(self, sequence: int) -> None:
        """Notes that a picture was sent to it."""
        if self._acknowledges:
            self._under_way.append(sequence)

    def got(self, sequence: int) -> None:
        """Notes that it took a picture, and so had all that were sent before."""
        self._acknowledges = True
        while self._under_way and self._under_way[0] <= sequence:
            self._under_way.popleft()
        self.wake()

    def ask(self, number: int) -> None:
        """Notes that it asked for the time, under a number of its own."""
        self._asked = number
        self.wake()

    def asked(self) -> int | None:
        """Returns the number of a question for the time that is to be answered; only once."""
        number, self._asked = self._asked, None
        return number

    def wake(self) -> None:
        """Says that a picture came, or that the status changed."""
        self._news.set()

    async def news(self, timeout_s: float) -> None:
        """Waits for something new, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        self._news.clear()


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
    ) -> None:
        self._channel = channel
        self._memory = memory
        self._options = options
        self._kiosk = kiosk
        self._clock_ns = clock_ns
        self._stale_ns = round(options.stale_s * 1e9)
        self._remote = not address_of(options.host).is_loopback
        self._viewers: set[Viewer] = set()
        self._hello: _Hello | None = None
        self._greeted = False
        self._facts: _Facts | None = None
        self._frame: Frame | None = None
        self._last: Frame | None = None  # without its picture
        self._watched_ns: int | None = None
        self._sequence = 0
        self._card: bytes | None = None
        self._wish: _Asked | None = None
        self._asked: _Asked | None = None
        self._outdated = False  # what came last hid less than is wished, and was dropped
        self._began_s = self._seen_s = self._ticked_s = clock_ns() / 1e9
        self._heard_s: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
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
        self._say_watching()
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._watched_ns = None
            self._say_watching()

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

    def hear(self, viewer: Viewer, said: str) -> None:
        """Takes in what a client said, as in `SAID`; anything else is nothing."""
        if SAID.fullmatch(said.encode(errors="replace")) is None:
            return
        word, _, rest = said.partition(" ")
        match word:
            case "awake":
                self.touch()
            case "size":
                width, _, height = rest.partition("x")
                viewer.box_wh = int(width), int(height)
                self._say_watching()
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
        if self._heard_s is None:
            return now_s - self._began_s > _STARTS_S
        return now_s - self._heard_s > _SILENT_S

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

    def wish(self, level: Level, *, silhouette: bool) -> None:
        """Asks for a level; the floor holds where it hides more.

        More takes effect here and now: until pictures come that were composed after the media
        process heard of it, none does.
        """
        now_s = self._clock_ns() / 1e9
        self._wish = self._asked = _Asked(self._at_least_floor(level), silhouette, now_s)
        self._drop_outdated()
        self._ask()
        self.touch()

    def _drop_outdated(self) -> None:
        if self._last is not None and self._hides_less(self._last):
            self._frame = self._last = None
            self._outdated = True

    def _hides_less(self, frame: Frame) -> bool:
        """Whether a picture may hide less than is wished now."""
        wish = self._wish
        if wish is None or frame.covered:
            return False
        return (
            wish.level == "frame"
            or _LEVELS.index(frame.wish) < _LEVELS.index(wish.level)
            or (wish.silhouette and not frame.silhouette)
        )

    def _at_least_floor(self, level: Level) -> Level:
        floor = "parts" if self._hello is None else self._hello.floor
        return max(level, floor, key=_LEVELS.index)

    def _holds(self) -> tuple[Level, bool]:
        """Returns the level and whether it is silhouettes, as far as is known."""
        if self._wish is not None:
            return self._wish.level, self._wish.silhouette
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

    def _known_facts(self) -> _Facts | None:
        facts = self._facts
        if facts is None or self._clock_ns() / 1e9 - facts.at_s > _SILENT_S:
            return None
        return facts

    def _state(self, frame: Frame | None, facts: _Facts | None) -> tuple[str, str | None]:
        if frame is None:
            hidden = self._outdated or (self._wish is not None and self._wish.level == "frame")
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
                self._heard_s = self._clock_ns() / 1e9
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
        floor, level = message.get("floor"), message.get("level")
        effect, stored = message.get("effect", "configured"), message.get("stored")
        hide, delay_s = message.get("hide"), message.get("delay_s", _DELAY_S)
        names, fill = hide if isinstance(hide, list) else [hide], message.get("fill", "frost")
        if (
            floor not in _LEVELS
            or level not in _LEVELS
            or effect not in ("configured", "silhouette")
            or fill not in _FILLS
            or not isinstance(stored, bool)
            or not _is_number(delay_s)
            or not 0 < len(names) <= _MOST_LABELS
            or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names)
        ):
            return False
        self._hello = _Hello(
            hide=[str(name) for name in names] if isinstance(hide, list) else str(hide),
            floor=floor,
            level=max(level, floor, key=_LEVELS.index),
            silhouette=effect == "silhouette",
            stored=stored,
            delay_s=delay_s,
            fill=fill,
        )
        if self._wish is not None:
            now_s = self._clock_ns() / 1e9
            level = self._at_least_floor(self._wish.level)
            self._wish = self._asked = replace(self._wish, level=level, at_s=now_s, times=0)
            self._ask()
        self._say_watching()
        return True

    def _take_card(self, message: dict[str, Any]) -> bool:
        number = message.get("number")
        if not _is_count(number):
            return False
        data = self._memory.take(CARD, number)
        if data is not None and not data.startswith(_JPEG):
            return False
        self._card = data or self._card
        return True

    def _take_frame(self, message: dict[str, Any]) -> bool:
        slot, number = message.get("slot"), message.get("number")
        sent_ns, captured_ns = message.get("sent_ns"), message.get("captured_ns")
        level, why = message.get("level"), message.get("why")
        wish, effect = message.get("wish", "parts"), message.get("effect", "configured")
        mirrored = message.get("mirrored", False)
        if not (_is_count(number) and _is_count(sent_ns) and _is_count(captured_ns)):
            return False
        now_ns = self._clock_ns()
        if (
            type(slot) is not int
            or slot not in FRAMES
            or level not in _LEVELS
            or wish not in _LEVELS
            or effect not in ("configured", "silhouette")
            or not isinstance(mirrored, bool)
            or not (why is None or (isinstance(why, str) and why in _REASONS))
            or sent_ns > now_ns + _AHEAD_NS
            or not 0 <= sent_ns - captured_ns <= _LONGEST_DELAY_NS
        ):
            return False
        if now_ns - sent_ns > self._stale_ns:
            return True  # left from before this process, or from before it was held up
        covered = level == "frame"
        delay_s = _DELAY_S if self._hello is None else self._hello.delay_s
        if not covered and now_ns - captured_ns > (delay_s + _SPARE_S) * 1e9:
            return True  # something held it up
        silhouette = effect == "silhouette"
        frame = Frame(b"", 0, sent_ns, captured_ns, covered, why, wish, silhouette, mirrored)
        if self._hides_less(frame):
            self._outdated = True
            if self._asked is None and self._wish is not None:
                self._asked = replace(self._wish, times=0)  # it was not heard, or taken back there
            return True
        data = self._memory.take(slot, number)
        if data is None:
            return True  # overwritten: a newer one is on its way
        if not data.startswith(_JPEG):
            return False
        self._sequence += 1
        self._outdated = False
        self._last = replace(frame, sequence=self._sequence)
        self._frame = replace(self._last, jpeg=data)
        if self._expiry is None and self._loop is not None:
            self._expire()
        return True

    def _take_facts(self, message: dict[str, Any]) -> bool:
        facts = message.get("facts")
        if not isinstance(facts, dict):
            return False
        latency = facts.get("latency_ms")
        middle = latency.get("p50") if isinstance(latency, dict) else latency
        level, source = facts.get("level"), facts.get("source")
        person_s_ago = facts.get("person_s_ago")
        fps = facts.get("fps")
        if (
            not all(value is None or _is_number(value) for value in (middle, fps, person_s_ago))
            or level not in (None, *_LEVELS)
            or source not in (None, "up", "away")
        ):
            return False
        now_s = self._clock_ns() / 1e9
        self._facts = _Facts(now_s, fps, middle, level, source == "away")
        if person_s_ago is not None:
            self._seen_s = max(self._seen_s, now_s - person_s_ago)
        asked = self._asked
        if asked is not None and asked.times >= 2 and level in (None, asked.level):
            self._asked = None
        elif asked is None and self._wish is not None and level is not None:
            # Somebody hid more at the computer itself; that is never taken back from here.
            stronger = max(self._wish.level, level, key=_LEVELS.index)
            self._wish = replace(self._wish, level=stronger)
            self._drop_outdated()
        return True

    # --- what is said ---

    def _on_tick(self) -> None:
        """Says everything again that the media process may have missed."""
        if self._loop is None:
            return
        self._tick = self._loop.call_later(_TICK_S, self._on_tick)
        now_s = self._clock_ns() / 1e9
        if not self._looks():  # that time does not count as one without anybody
            self._seen_s = min(now_s, self._seen_s + now_s - self._ticked_s)
        self._ticked_s = now_s
        if not self._greeted or self.frame() is None:
            self._send({"kind": "greet"})
        self._ask()
        self._say_watching()
        self._wake()

    def _ask(self) -> None:
        if self._asked is not None:
            self._asked = replace(self._asked, times=self._asked.times + 1)
            effect = "silhouette" if self._asked.silhouette else "configured"
            self._send({"kind": "privacy", "level": self._asked.level, "effect": effect})

    def _say_watching(self) -> None:
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
            self._expiry = self._loop.call_later(left_s + 0.001, self._expire)

    def _wake(self) -> None:
        for viewer in self._viewers:
            viewer.wake()


def status_text(status: dict[str, Any]) -> str:
    """Returns a status as the WebSocket sends it."""
    return json.dumps(status, ensure_ascii=False, separators=(",", ":"))


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value < 1 << 63


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and type(value) is not bool and 0 <= value < 1e9
