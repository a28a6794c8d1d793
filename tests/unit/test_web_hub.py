"""The server's end of the link: what it believes, what it shows, what it says."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2fp_stream.config import load_settings
from m2fp_stream.core.safe import CoverLevel
from m2fp_stream.kiosk.supervisor import Supervisor
from m2fp_stream.sinks import page_link
from m2fp_stream.sinks.page import PageHello
from m2fp_stream.sinks.page_link import PageMemory
from m2fp_stream.web.frames import HEADER, STILL_CARD, Level
from m2fp_stream.web.hub import Hub
from m2fp_stream.web.options import KioskOptions, PageOptions
from m2fp_stream.web.viewers import Full
from tests.kit.web import Media, jpeg

GREY = jpeg(90)
BEGIN_NS = 1_000_000_000_000
"""When the clock of a test begins; any time will do that is not the real one."""


class Timer:
    """A call that is to come."""

    def __init__(self, due_s: float, call: Callable[[], None]) -> None:
        self.due_s, self.call = due_s, call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """CLOCK_MONOTONIC and its timers; it stands still until a test moves it.

    Attributes:
        ahead_s: how far it was moved; set forward, it jumps as if the process had been held up.
    """

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._timers: list[Timer] = []

    def __call__(self) -> int:
        return BEGIN_NS + round(self.ahead_s * 1e9)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        self._timers.append(Timer(self.ahead_s + delay_s, call))
        return self._timers[-1]

    def wait(self, time_s: float) -> None:
        """Lets so much time pass, and whatever is due in it happen, in order."""
        until_s = self.ahead_s + time_s
        while True:
            self._timers = [one for one in self._timers if not one.is_cancelled]
            timer = min(self._timers, key=lambda one: one.due_s, default=None)
            if timer is None or timer.due_s > until_s:
                break
            self._timers.remove(timer)
            self.ahead_s = max(self.ahead_s, timer.due_s)
            timer.call()
        self.ahead_s = until_s


class Stage:
    """A hub and the other end of its link."""

    def __init__(self, **settings: Any) -> None:
        kiosk, hello = KioskOptions(**settings.pop("kiosk", {})), settings.pop("hello", None)
        descriptor = page_link.make_memory()
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.clock = Clock()
        self.media = Media(self.ours, PageMemory(descriptor, writable=True), self.clock)
        memory = PageMemory(descriptor, writable=False)
        os.close(descriptor)
        options = PageOptions(**settings)
        self.hub = Hub(
            *(self.theirs, memory, options, kiosk),
            hello=hello,
            clock_ns=self.clock,
            call_later=self.clock.call_later,
        )

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()

    def run(self, play: Callable[[Stage], Awaitable[None]]) -> None:
        async def whole() -> None:
            self.hub.start()
            try:
                await play(self)
            finally:
                self.hub.close()

        asyncio.run(whole())


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def held(stage: Stage) -> list[bytes]:
    """Returns the pictures that the hub holds."""
    return [one.jpeg for one in (stage.hub._frame, stage.hub._last) if one is not None]


def is_asleep(stage: Stage) -> bool:
    return stage.hub.asleep


async def settle() -> None:
    """Lets the hub read what was sent: it has arrived, and the loop only has to look."""
    for _ in range(3):
        await asyncio.sleep(0)


async def after(stage: Stage, time_s: float) -> None:
    """Lets so much time pass."""
    stage.clock.wait(time_s)
    await settle()


async def frames(stage: Stage, count: int = 1, **more: Any) -> None:
    for _ in range(count):
        stage.media.frame(GREY, **more)
        await settle()


# ----------------------------------------------------------------- pictures


def test_the_newest_fresh_picture_is_shown(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.media.frame(jpeg(10))
        stage.media.frame(GREY, age_s=0.25)
        await settle()
        frame = stage.hub.frame()
        assert frame is not None
        assert frame.jpeg == GREY
        message = frame.message(stage.hub.now_ns())
        version, flags, reserved, sequence, age_s, handed_ms = HEADER.unpack_from(message)
        assert (version, flags, reserved, message[HEADER.size :]) == (1, 0, 0, GREY)
        assert sequence >= 1
        assert 0.25 <= age_s < 5
        assert abs(handed_ms - time.time() * 1e3) < 5000

    stage.run(play)


def test_a_picture_that_got_old_is_not_shown(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        with stage.hub.watch():
            await frames(stage)
            stage.clock.ahead_s = 4  # past what a viewer who came just now is granted
            assert stage.hub.frame() is None
            assert stage.hub.status()["state"] == "starting"

    stage.run(play)


def test_a_picture_is_forgotten_when_it_gets_old() -> None:
    stage = Stage(stale_s=1.0)

    async def play(stage: Stage) -> None:
        await frames(stage)
        assert held(stage) == [GREY, b""]
        await after(stage, 1.0)
        assert held(stage) == [GREY, b""]
        await after(stage, 0.01)
        assert held(stage) == [b""]

    stage.run(play)
    stage.close()


def test_while_nobody_watches_a_picture_a_second_is_enough(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        await frames(stage)
        stage.clock.ahead_s = 1.5
        assert stage.hub.status()["state"] == "live"
        assert stage.hub.frame() is None  # that old it is shown to nobody all the same
        stage.clock.ahead_s = 3.5
        assert stage.hub.status()["state"] == "starting"

    stage.run(play)


def test_a_picture_overwritten_meanwhile_is_left_out(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.media.frame(jpeg(1))
        stage.media.frame(jpeg(2))
        stage.media.frame(jpeg(3))  # in the slot of the first
        await settle()
        frame = stage.hub.frame()
        assert frame is not None
        assert frame.jpeg == jpeg(3)
        assert frame.sequence == 2
        assert stage.hub.nonsense == 0

    stage.run(play)


def test_the_card_is_kept(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        assert stage.hub.card() == STILL_CARD
        stage.media.card(GREY)
        await settle()
        assert stage.hub.card() == GREY

    stage.run(play)


@pytest.mark.parametrize(
    "change",
    [
        {"slot": 2},
        {"slot": True},
        {"slot": None},
        {"slot": "0"},
        {"number": 0},
        {"number": -1},
        {"number": 1.0},
        {"number": True},
        {"number": 1 << 64},
        {"sent_ns": None},
        {"sent_ns": 1 << 62},
        {"sent_ns": 0},
        {"captured_ns": 1},
        {"captured_ns": 1 << 62},
        {"captured_ns": "now"},
        {"level": "nothing"},
        {"level": None},
        {"level": ["parts"]},
        {"requested": "nothing"},
        {"requested": None},
        {"mirrored": 1},
        {"mirrored": None},
        {"effect": "none"},
        {"effect": {}},
        {"why": "because"},
        {"why": {}},
        {"why": "<b>"},
    ],
)
def test_a_frame_that_makes_no_sense_is_left_out(stage: Stage, change: dict[str, Any]) -> None:
    async def play(stage: Stage) -> None:
        stage.media.memory.put(0, 7, GREY)
        now_ns = stage.clock()
        message = {"kind": "frame", "slot": 0, "number": 7, "level": "parts", "why": None}
        times = {"sent_ns": now_ns, "captured_ns": now_ns - 1_000_000}
        stage.media.send({**message, **times, **change})
        await settle()
        assert stage.hub.frame() is None
        assert stage.hub.nonsense == 1
        stage.media.send({**message, **times})
        await settle()
        assert stage.hub.frame() is not None  # the same without the change

    stage.run(play)


def test_a_scene_older_than_the_pipeline_makes_them_is_not_shown(stage: Stage) -> None:
    """After a stall: handed over just now, captured long ago."""

    async def play(stage: Stage) -> None:
        stage.media.hello(delay_s=1.0)
        await frames(stage, age_s=2.5)
        assert stage.hub.frame() is None
        await frames(stage, level="frame", why="parser_silent", age_s=2.5)
        assert stage.hub.status()["state"] == "card"  # nothing is seen on it
        await frames(stage, age_s=1.8)
        assert stage.hub.status()["state"] == "live"
        stage.media.hello(delay_s=2.0)
        await frames(stage, age_s=2.5)
        frame = stage.hub.frame()
        assert frame is not None
        assert stage.hub.now_ns() - frame.captured_ns > 2.4e9
        assert stage.hub.nonsense == 0

    stage.run(play)


def test_what_is_no_jpeg_is_never_held(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.media.frame(bytes(160 * 90 * 3))
        stage.media.card(b"BM" + bytes(100))
        await settle()
        assert stage.hub.frame() is None
        assert stage.hub.card() == STILL_CARD
        assert stage.hub.nonsense == 2

    stage.run(play)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_FIELDS = st.sampled_from(
    [
        *("slot", "number", "sent_ns", "captured_ns", "level", "why", "requested", "effect"),
        *("facts", "hide", "floor", "stored", "delay_s"),
    ]
)


@settings(max_examples=150)
@given(
    kind=st.sampled_from(["hello", "card", "frame", "facts", "greet", "x"]),
    fields=st.dictionaries(_FIELDS, _VALUES, max_size=6),
)
def test_no_message_breaks_the_hub(shared: Stage, kind: str, fields: dict[str, Any]) -> None:
    shared.hub._take({"kind": kind, **fields})
    assert shared.hub.status()["state"] == "starting"
    assert shared.hub.frame() is None


@settings(max_examples=100)
@given(
    facts=st.dictionaries(st.sampled_from(["fps", "latency_ms", "person_s_ago", "level"]), _VALUES)
)
def test_no_facts_break_the_status(shared: Stage, facts: dict[str, Any]) -> None:
    shared.hub._take({"kind": "facts", "facts": facts})
    json.dumps(shared.hub.status(), allow_nan=False)


def test_bytes_that_are_no_message_are_left_out(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        for data in (b"{", b"[]", b"null", b'{"kind": 1}', b"\xff", b"[" * 5000):
            stage.ours.send(data)
        await frames(stage)
        assert stage.hub.frame() is not None

    stage.run(play)


# ----------------------------------------------------------------- states


def test_states(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        assert stage.hub.status()["state"] == "starting"
        await frames(stage)
        assert (stage.hub.status()["state"], stage.hub.status()["why"]) == ("live", None)
        await frames(stage, level="frame", why="parser_silent")
        assert (stage.hub.status()["state"], stage.hub.status()["why"]) == ("card", "parser_silent")
        frame = stage.hub.frame()
        assert frame is not None
        assert frame.message(stage.hub.now_ns())[1] == 1  # wholly covered
        for why in ("source_away", "other_camera"):
            await frames(stage, level="frame", why=why)
            assert (stage.hub.status()["state"], stage.hub.status()["why"]) == ("away", why)
        stage.media.facts(source="away")
        await frames(stage, level="frame", why="no_parse")
        assert stage.hub.status()["state"] == "away"
        await frames(stage, level="person")
        assert stage.hub.status()["state"] == "live"

    stage.run(play)


def test_facts_are_shown_until_they_stop_coming(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.media.facts()
        await settle()
        assert stage.hub.status()["fps"] == 25.0
        assert stage.hub.status()["latency_ms"] == 120.0
        assert stage.hub.status()["alarms"] == []
        stage.clock.ahead_s = 5.5
        assert stage.hub.status()["fps"] is None
        assert stage.hub.status()["latency_ms"] is None
        assert stage.hub.status()["alarms"] == ["the camera process is silent"]

    stage.run(play)


def test_a_camera_process_that_never_came_is_an_alarm_after_its_start(stage: Stage) -> None:
    assert stage.hub.status()["alarms"] == []
    stage.clock.ahead_s = 31
    assert stage.hub.status()["alarms"] == ["the camera process is silent"]


def test_hello_says_what_is_hidden_and_stored(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        assert stage.hub.status()["hide"] is None
        assert stage.hub.status()["stored"] is None  # nobody knows: nothing is denied
        stage.media.hello(hide=["face", "hair"], floor="person", stored=True)
        await settle()
        status = stage.hub.status()
        assert (status["hide"], status["floor"], status["stored"]) == (
            ["face", "hair"],
            "person",
            True,
        )
        assert status["level"] == "person"  # never less than the floor
        stage.media.hello(hide="<script>")
        stage.media.hello(floor="nothing")
        stage.media.hello(stored=1)
        stage.media.hello(stored=None)
        stage.media.hello(delay_s="long")
        stage.media.hello(keep_zones=None)
        await settle()
        assert stage.hub.nonsense == 6
        assert stage.hub.status()["floor"] == "person"

    stage.run(play)


def test_what_the_settings_say_is_known_before_the_camera_process_comes() -> None:
    hello = PageHello(("face", "hair"), CoverLevel.PERSON, stored=True, fill="mosaic").message()
    stage = Stage(hello=hello)

    async def play(stage: Stage) -> None:
        status = stage.hub.status()
        names = ("hide", "floor", "level", "effect", "stored", "state")
        told = [status[name] for name in names]
        assert told == [["face", "hair"], "person", "person", "mosaic", True, "starting"]
        await settle()
        assert "greet" in [one["kind"] for one in stage.media.listen()]  # it is asked all the same
        stage.media.hello()
        await settle()
        assert stage.hub.status()["stored"] is False

    stage.run(play)
    stage.close()


@pytest.mark.parametrize("sink", [None, "record", "push", "serve", "virtual_camera", "pipe"])
def test_the_server_is_told_by_the_kiosk_what_the_camera_process_will_say(
    sink: str | None,
) -> None:
    more = {"push.url": "rtsp://127.0.0.1/x"} if sink == "push" else {}
    on = {} if sink is None else {f"{sink}.enabled": True}
    settings = load_settings(None, {}, {"policy.hide": "person", **on, **more})
    supervisor = Supervisor(settings, environ={})
    stage = Stage(hello=supervisor._server_job()["hello"])
    supervisor.close()
    status = stage.hub.status()
    assert (status["hide"], status["floor"]) == ("person", "person")
    assert status["stored"] is (sink is not None)
    stage.close()


@pytest.mark.parametrize("zones", [(), ("0,0,.5,.5",)])
def test_the_server_is_told_where_people_are_left_alone(zones: tuple[str, ...]) -> None:
    settings = load_settings(None, {}, {"policy.keep_zones": zones})
    supervisor = Supervisor(settings, environ={})
    stage = Stage(hello=supervisor._server_job()["hello"])
    supervisor.close()
    assert stage.hub.status()["keep_zones"] is bool(zones)
    stage.close()


def test_settings_that_make_no_sense_deny_nothing() -> None:
    stage = Stage(hello={"kind": "hello", "stored": False})
    assert stage.hub.status()["stored"] is None
    assert stage.hub.status()["keep_zones"] is None
    stage.close()


@pytest.mark.parametrize(
    ("host", "remote"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True)],
)
def test_it_says_whether_other_computers_may_look(host: str, remote: bool) -> None:
    stage = Stage(host=host, certificate="page.pem", key="page.key")
    assert stage.hub.status()["remote"] is remote
    stage.close()


def test_nobody_in_front_of_it_puts_the_page_to_sleep_and_somebody_wakes_it() -> None:
    stage = Stage(kiosk={"sleep_after_s": 60})

    async def play(stage: Stage) -> None:
        stage.media.facts(person_s_ago=None)
        await frames(stage)
        assert not is_asleep(stage)  # it waits as long after its own start
        stage.clock.ahead_s = 62
        await frames(stage)
        assert is_asleep(stage)
        assert stage.hub.status()["person"] is False
        stage.media.facts(person_s_ago=59.0)
        await settle()
        assert not is_asleep(stage)
        stage.clock.ahead_s = 64
        await frames(stage, level="frame", why="parser_silent")
        assert is_asleep(stage)
        stage.media.facts(person_s_ago=0.1)
        await settle()
        assert stage.hub.status()["person"] is True

    stage.run(play)
    stage.close()


@pytest.mark.parametrize("gone", ["away", "starting"])
def test_without_a_camera_it_does_not_sleep_and_that_time_does_not_count(gone: str) -> None:
    stage = Stage(kiosk={"sleep_after_s": 60})

    async def shown(stage: Stage) -> None:
        if gone == "away":
            await frames(stage, level="frame", why="source_away")
        assert stage.hub.status()["state"] == gone
        assert not is_asleep(stage)

    async def play(stage: Stage) -> None:
        await frames(stage)
        for ahead_s in (30, 300):
            stage.clock.ahead_s = ahead_s
            await shown(stage)
            await after(stage, 1.0)
        stage.clock.ahead_s = 310
        await frames(stage)
        assert not is_asleep(stage)
        assert stage.hub.status()["person"] is True
        stage.clock.ahead_s = 365
        await frames(stage)
        assert is_asleep(stage)
        stage.clock.ahead_s = 370
        await shown(stage)
        assert stage.hub.status()["person"] is False  # nobody has come meanwhile

    stage.run(play)
    stage.close()


def test_a_touch_or_a_request_is_as_good_as_being_seen() -> None:
    stage = Stage(kiosk={"sleep_after_s": 60})

    async def play(stage: Stage) -> None:
        for begin_s, act in (
            (62, stage.hub.touch),
            (200, lambda: stage.hub.request_privacy("parts", silhouette=False)),
        ):
            stage.clock.ahead_s = begin_s
            await frames(stage)
            assert is_asleep(stage)
            act()
            assert not is_asleep(stage)
            stage.clock.ahead_s = begin_s + 55
            await frames(stage)
            assert not is_asleep(stage)

    stage.run(play)
    stage.close()


def test_a_page_may_never_sleep() -> None:
    stage = Stage(kiosk={"sleep_after_s": 0})
    stage.clock.ahead_s = 1e6
    assert not stage.hub.asleep
    stage.close()


# ----------------------------------------------------------------- requests


def test_a_request_is_said_and_said_again_until_it_holds(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.media.hello()
        await settle()
        stage.hub.request_privacy("person", silhouette=True)
        assert stage.hub.status()["level"] == "person"
        assert stage.hub.status()["silhouette"] is True
        await after(stage, 2.0)
        assert stage.media.requests().count(("person", "silhouette")) >= 3
        stage.media.facts(level="person")
        await settle()
        stage.media.requests()
        stage.media.heard.clear()
        await after(stage, 2.0)
        assert stage.media.requests() == []

    stage.run(play)


def test_no_request_goes_below_the_floor(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.media.hello(floor="person", level="person")
        await settle()
        stage.hub.request_privacy("parts", silhouette=False)
        assert stage.hub.status()["level"] == "person"
        await settle()
        assert set(stage.media.requests()) == {("person", "configured")}

    stage.run(play)


def test_a_request_made_before_the_floor_was_known_is_raised_to_it(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.hub.request_privacy("parts", silhouette=False)
        stage.media.hello(floor="frame", level="frame")
        await settle()
        assert stage.hub.status()["level"] == "frame"
        assert stage.media.requests()[-1] == ("frame", "configured")

    stage.run(play)


def test_a_camera_process_that_starts_anew_is_told_the_request(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.media.hello()
        await settle()
        stage.hub.request_privacy("frame", silhouette=False)
        stage.media.facts(level="frame")
        await after(stage, 1.0)
        stage.media.facts(level="frame")
        await settle()
        stage.media.listen()
        stage.media.heard.clear()
        stage.media.hello()  # a new one, as configured
        stage.media.facts(level="parts")
        await settle()
        assert ("frame", "configured") in stage.media.requests()
        assert stage.hub.status()["level"] == "frame"

    stage.run(play)


def test_to_hide_everything_holds_before_the_camera_process_knows(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.media.facts()
        await frames(stage)
        stage.hub.request_privacy("frame", silhouette=False)
        assert stage.hub.frame() is None
        assert (stage.hub.status()["state"], stage.hub.status()["why"]) == ("card", "on_request")
        await frames(stage)  # composed before
        assert stage.hub.frame() is None
        await frames(stage, level="frame", why="on_request")
        assert stage.hub.frame() is not None
        stage.hub.request_privacy("parts", silhouette=False)
        await frames(stage)
        assert stage.hub.status()["state"] == "live"

    stage.run(play)


@pytest.mark.parametrize(
    ("before", "requested"),
    [
        (("parts", "configured"), ("person", False)),
        (("parts", "configured"), ("person", True)),
        (("person", "configured"), ("person", True)),
        (("parts", "silhouette"), ("person", False)),
    ],
)
def test_a_request_for_more_holds_from_its_answer_on(
    stage: Stage, before: tuple[str, str], requested: tuple[Level, bool]
) -> None:
    level, effect = before
    older: dict[str, Any] = {"level": level, "effect": effect}
    newer: dict[str, Any] = {
        "level": requested[0],
        "effect": "silhouette" if requested[1] else "configured",
    }

    async def play(stage: Stage) -> None:
        stage.media.facts(level=level)
        await frames(stage, **older)
        assert stage.hub.frame() is not None
        stage.hub.request_privacy(requested[0], silhouette=requested[1])
        assert stage.hub.frame() is None  # what came before it was answered
        assert (stage.hub.status()["state"], stage.hub.status()["why"]) == ("card", "on_request")
        await frames(stage, 3, **older)  # on their way
        assert stage.hub.frame() is None
        assert stage.hub.status()["state"] == "card"
        # Somebody is covered whole in it, and others may not be: composed before all the same.
        await frames(stage, level="person", requested=level, effect=effect)
        assert stage.hub.frame() is None
        await frames(stage, **newer)
        assert stage.hub.status()["state"] == "live"
        await frames(
            stage, level="parts", requested=requested[0], effect=newer["effect"]
        )  # nobody is there
        assert stage.hub.status()["state"] == "live"
        assert stage.hub.nonsense == 0

    stage.run(play)


def test_a_request_for_less_takes_nothing_away(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        await frames(stage, level="person", effect="silhouette")
        stage.hub.request_privacy("person", silhouette=False)
        assert stage.hub.frame() is not None
        stage.hub.request_privacy("parts", silhouette=False)
        assert stage.hub.frame() is not None
        await frames(stage, level="person")
        assert stage.hub.status()["state"] == "live"

    stage.run(play)


def test_frames_that_do_not_say_what_was_requested_hide_least(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.hub.request_privacy("person", silhouette=False)
        stage.media.memory.put(0, 7, GREY)
        now_ns = stage.clock()
        message = {"kind": "frame", "slot": 0, "number": 7, "level": "person", "why": None}
        stage.media.send({**message, "sent_ns": now_ns, "captured_ns": now_ns - 1_000_000})
        await settle()
        assert stage.hub.frame() is None
        assert stage.hub.nonsense == 0

    stage.run(play)


def test_a_request_that_was_lost_is_said_again_when_frames_show_it(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.media.hello()
        stage.hub.request_privacy("person", silhouette=False)
        await after(stage, 1.0)
        stage.media.facts(level="person")  # so that it is no longer asked for
        await settle()
        stage.media.listen()
        stage.media.heard.clear()
        await frames(stage)
        assert stage.hub.frame() is None
        await after(stage, 1.0)
        assert ("person", "configured") in stage.media.requests()

    stage.run(play)


def test_what_was_hidden_at_the_computer_itself_is_not_taken_back(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        stage.media.hello()
        await settle()
        stage.hub.request_privacy("parts", silhouette=False)
        await after(stage, 1.0)
        stage.media.facts(level="parts")
        await settle()
        stage.media.facts(level="frame")
        await settle()
        assert stage.hub.status()["level"] == "frame"
        stage.media.hello()
        await settle()
        assert stage.media.requests()[-1] == ("frame", "configured")

    stage.run(play)


# ----------------------------------------------------------------- viewers and the link


def test_it_says_how_many_watch_on_change_and_every_second(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        with stage.hub.watch(), stage.hub.watch():
            assert stage.hub.status()["watching"] == 2
            await after(stage, 1.2)
        await settle()
        counts = [one["count"] for one in stage.media.listen() if one["kind"] == "watching"]
        assert counts == [0, 1, 2, 2, 1, 0]

    stage.run(play)


@pytest.mark.parametrize("mirror", [True, False])
def test_the_picture_is_swapped_only_while_nobody_but_pages_watches(mirror: bool) -> None:
    stage = Stage(kiosk={"mirror": mirror})

    def said() -> object:
        return [one for one in stage.media.listen() if one["kind"] == "watching"][-1]["mirror"]

    async def play(stage: Stage) -> None:
        assert said() is False
        with stage.hub.watch() as page:
            assert said() is False
            stage.hub.on_message(page, "size 640x360")
            assert said() is mirror
            with stage.hub.watch():
                assert said() is False
            assert said() is mirror
        assert said() is False

    stage.run(play)
    stage.close()


def test_the_boxes_are_passed_on_once_every_viewer_has_said_its_own(stage: Stage) -> None:
    def said() -> object:
        return [one for one in stage.media.listen() if one["kind"] == "watching"][-1]["boxes"]

    async def play(stage: Stage) -> None:
        with stage.hub.watch() as wide, stage.hub.watch() as high:
            assert said() is None
            stage.hub.on_message(wide, "size 1280x600")
            assert said() is None
            stage.hub.on_message(high, "size 720x1000")
            assert said() == [[720, 1000], [1280, 600]]
            for nonsense in ("size 0x5", "size 12345x5", "size 5x5x5", "size -1x5", "size", "5x5"):
                stage.hub.on_message(wide, nonsense)
            assert said() == [[720, 1000], [1280, 600]]
            stage.hub.on_message(wide, "size 720x1000")
            assert said() == [[720, 1000]]
        assert said() is None

    stage.run(play)


def test_a_mirrored_picture_says_so_and_goes_to_pages_alone(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        for mirrored in (True, False):
            await frames(stage, mirrored=mirrored)
            frame = stage.hub.frame()
            assert frame is not None
            assert frame.mirrored is mirrored
            flags = HEADER.unpack_from(frame.message(stage.hub.now_ns()))[1]
            assert flags == (2 if mirrored else 0)
            with stage.hub.watch() as viewer:
                assert viewer.may_get(frame) is not mirrored
                stage.hub.on_message(viewer, "size 640x360")
                assert viewer.may_get(frame)

    stage.run(play)


def test_who_says_nothing_of_what_it_took_is_always_ready_and_else_a_few_are_under_way(
    stage: Stage,
) -> None:
    async def play(stage: Stage) -> None:
        await frames(stage)
        frame = stage.hub.frame()
        assert frame is not None
        with stage.hub.watch() as viewer:
            for number in range(1, 101):
                assert viewer.may_get(frame)
                viewer.sent(number)
            stage.hub.on_message(viewer, "got 100")
            sent = 100
            while viewer.may_get(frame):
                sent += 1
                viewer.sent(sent)
            assert 4 <= sent - 100 <= 15
            stage.hub.on_message(viewer, f"got {sent - 1}")
            assert viewer.may_get(frame)

    stage.run(play)


def test_more_viewers_than_may_watch_are_turned_away() -> None:
    stage = Stage(clients=1)

    async def play(stage: Stage) -> None:
        with stage.hub.watch():
            with pytest.raises(Full), stage.hub.watch():
                pass
            assert stage.hub.watching == 1
        with stage.hub.watch():
            pass

    stage.run(play)
    stage.close()


def greets(stage: Stage) -> int:
    """How often the hub has asked who is there."""
    stage.media.listen()
    return sum(one["kind"] == "greet" for one in stage.media.heard)


def test_it_asks_who_is_there_until_somebody_says(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        assert greets(stage) == 1
        await after(stage, 1.0)
        assert greets(stage) == 2
        stage.media.hello()
        await after(stage, 0.9)
        await frames(stage)
        await after(stage, 0.2)
        assert greets(stage) == 2

    stage.run(play)


def test_a_link_that_takes_nothing_does_not_hold_it_up(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        for _ in range(5000):
            stage.hub.request_privacy("person", silhouette=False)
        await frames(stage, level="person")
        assert stage.hub.frame() is not None

    stage.run(play)


def test_the_end_of_the_link_ends_the_streams(stage: Stage) -> None:
    async def play(stage: Stage) -> None:
        await frames(stage)
        with stage.hub.watch() as viewer:
            stage.ours.shutdown(socket.SHUT_RDWR)
            await asyncio.wait_for(stage.hub.ended.wait(), 10)
            await asyncio.wait_for(viewer.news(10), 5)
        assert stage.hub.frame() is None
        with pytest.raises(Full), stage.hub.watch():
            pass

    stage.run(play)
