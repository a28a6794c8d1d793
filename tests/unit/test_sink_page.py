"""The page's sink: what it puts on the link, what it takes from it, and that it never waits."""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.compositor.compose import compose
from m2fp_stream.core._mint import COMPOSED
from m2fp_stream.core.errors import SealError, SinkError
from m2fp_stream.core.plan import Unknown, Why
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import CoverInfo, CoverLevel, SafeFrame
from m2fp_stream.processes.channel import receive
from m2fp_stream.processes.memory import CARD, FRAMES
from m2fp_stream.sinks import page_link
from m2fp_stream.sinks.page import PageEnd, PageHello, PageSink, PageState
from m2fp_stream.sinks.page_link import PageMemory, make_memory
from tests.kit import media
from tests.kit.texture import contains_marker, marker

SIZE_WH = (96, 64)
TIME_BASE = Fraction(1, 1_000_000)


def frame(
    pixels: media.BGR | None = None,
    *,
    level: CoverLevel = CoverLevel.PARTS,
    reason: str = "parsed",
    number: int = 0,
    captured_ns: int | None = None,
) -> SafeFrame:
    picture = media.card(SIZE_WH, number) if pixels is None else pixels
    return SafeFrame(
        picture.copy(),
        frame_id=number,
        pts=number,
        time_base=TIME_BASE,
        captured_ns=time.monotonic_ns() - 40_000_000 if captured_ns is None else captured_ns,
        cover=CoverInfo(0.0, level, reason),
        key=COMPOSED,
    )


CARD_FRAME = frame(np.full((64, 96, 3), 40, np.uint8), level=CoverLevel.FRAME)


class Link:
    """Both ends of a real link, and what the sink is wired to."""

    def __init__(self) -> None:
        self.media_end, self.server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.descriptor = make_memory()
        self.memory = PageMemory(self.descriptor, writable=False)
        self.state = PageState()
        self.turned: list[PageState] = []
        self.requests: list[PageState] = []
        self.end = PageEnd(
            self.media_end,
            PageMemory(self.descriptor, writable=True),
            on_request=self.requests.append,
        )

    def sink(self, size_wh: tuple[int, int] = SIZE_WH, **options: Any) -> PageSink:
        card = options.pop("card", CARD_FRAME)
        hello = options.pop("hello", PageHello("head"))
        return PageSink(
            self.end,
            size_wh=size_wh,
            card=card,
            hello=hello,
            state=lambda: self.state,
            turn=self.turn,
            **options,
        )

    def turn(self, state: PageState) -> None:
        self.turned.append(state)
        self.state = state

    def heard(self, kind: str | None = None) -> list[dict[str, Any]]:
        messages, _ = receive(self.server_end)
        return [one for one in messages if kind in (None, one["kind"])]

    def say(self, **message: Any) -> None:
        self.server_end.send(json.dumps(message).encode())

    def picture(self, message: dict[str, Any]) -> NDArray[np.uint8]:
        slot = message.get("slot", CARD)
        data = self.memory.take(slot, message["number"])
        assert data is not None, "not in its slot"
        return decoded(data)

    def close(self) -> None:
        self.media_end.close()
        self.server_end.close()
        os.close(self.descriptor)


def decoded(data: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, np.uint8)


@pytest.fixture
def link() -> Iterator[Link]:
    made = Link()
    yield made
    made.close()


def test_it_begins_with_hello_and_the_card(link: Link) -> None:
    link.state = PageState(CoverLevel.PERSON, silhouette=True)
    link.sink(hello=PageHello(("face", "hair"), CoverLevel.PERSON, stored=True, keep_zones=True))
    hello, card = link.heard()
    assert hello == {
        "kind": "hello",
        "size_wh": [96, 64],
        "hide": ["face", "hair"],
        "floor": "person",
        "level": "person",
        "effect": "silhouette",
        "stored": True,
        "delay_s": 3.0,
        "fill": "frost",
        "keep_zones": True,
    }
    assert abs(int(link.picture(card).mean()) - 40) <= 1


def test_a_frame_arrives_as_it_was_composed_with_its_times_and_reason(link: Link) -> None:
    sink = link.sink()
    link.heard()
    link.say(kind="watching", count=1)
    before_ns = time.monotonic_ns()
    item = frame(number=5, level=CoverLevel.FRAME, reason=Why.OTHER_CAMERA.value)
    sink.write(item)
    (message,) = link.heard("frame")
    assert media.number_of(link.picture(message)) == 5
    assert before_ns <= message["sent_ns"] <= time.monotonic_ns()
    assert message["captured_ns"] == item.captured_ns
    assert (message["level"], message["why"]) == ("frame", "other_camera")


def test_a_frame_without_a_reason_to_be_covered_has_none(link: Link) -> None:
    sink = link.sink()
    sink.write(frame(reason="propagated"))
    (message,) = link.heard("frame")
    assert message["why"] is None


def test_frames_take_turns_in_the_slots_and_numbers_rise_over_sinks(link: Link) -> None:
    link.say(kind="watching", count=2)
    numbers, slots = [], []
    for _ in range(2):
        sink = link.sink()
        for number in range(3):
            sink.write(frame(number=number))
        sink.abort()
        for message in link.heard():
            if "number" in message:
                numbers.append(message["number"])
            if "slot" in message:
                slots.append(message["slot"])
    assert numbers == sorted(set(numbers))
    assert set(slots) == set(FRAMES)
    assert all(one != other for one, other in itertools.pairwise(slots))


def test_a_new_process_never_repeats_a_number(link: Link) -> None:
    link.sink().write(frame())
    before = [one["number"] for one in link.heard() if "number" in one]
    time.sleep(0.05)
    fresh = PageEnd(link.media_end, PageMemory(link.descriptor, writable=True))
    assert fresh.next_number() > max(before)


def test_while_nobody_watches_one_frame_a_second_is_made(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    monkeypatch.setattr(time, "monotonic_ns", lambda: round(now_s * 1e9))
    sink = link.sink()
    link.heard()
    for number in range(20):
        sink.write(frame(number=number))
    assert len(link.heard("frame")) == 1
    now_s += 0.9
    sink.write(frame())
    assert link.heard("frame") == []
    now_s += 0.2
    sink.write(frame())
    assert len(link.heard("frame")) == 1
    link.say(kind="watching", count=1)
    for number in range(5):
        sink.write(frame(number=number))
    assert len(link.heard("frame")) == 5
    link.say(kind="watching", count=0)
    for number in range(5):
        sink.write(frame(number=number))
    assert link.heard("frame") == []


def test_larger_pictures_are_made_smaller_in_proportion(link: Link) -> None:
    big_wh = (1000, 400)
    pixels = np.zeros((400, 1000, 3), np.uint8)
    pixels[:, :500] = 200
    sink = link.sink(big_wh, card=frame(pixels), max_side=250)
    sink.write(frame(pixels))
    messages = link.heard()
    assert messages[0]["size_wh"] == [250, 100]
    for message in messages[1:]:
        picture = link.picture(message)
        assert picture.shape == (100, 250, 3)
        assert picture[:, :110].mean() > 190
        assert picture[:, 140:].mean() < 10


def halves(size_wh: tuple[int, int] = (640, 360)) -> NDArray[np.uint8]:
    """Returns a picture that is light on its left."""
    pixels = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    pixels[:, : size_wh[0] // 2] = 200
    return pixels


def test_left_and_right_are_swapped_once_while_all_viewers_want_it(link: Link) -> None:
    sink = link.sink((640, 360), card=frame(halves()))
    for watching, swapped in (
        ({"count": 1}, False),
        ({"count": 2, "mirror": True}, True),
        ({"count": 3, "mirror": False}, False),
        ({"count": 2, "mirror": 1}, False),
    ):
        link.say(kind="watching", **watching)
        sink.write(frame(halves()))
        (message,) = link.heard("frame")
        assert message["mirrored"] is swapped
        left, right = np.split(link.picture(message), 2, axis=1)
        assert bool(left.mean() < right.mean()) is swapped


def test_while_nobody_watches_nothing_is_swapped(link: Link) -> None:
    sink = link.sink((640, 360), card=frame(halves()))
    link.say(kind="watching", count=0, mirror=True, boxes=[[64, 36]])
    sink.write(frame(halves()))
    (message,) = link.heard("frame")
    assert message["mirrored"] is False
    assert link.picture(message).shape == (360, 640, 3)


@pytest.mark.parametrize(
    ("boxes", "shown_wh"),
    [
        ([[640, 360]], (640, 360)),
        ([[1920, 1080]], (640, 360)),  # never larger than it comes
        ([[320, 180]], (320, 180)),
        ([[320, 170]], (320, 180)),  # hardly anything stands over
        ([[480, 180]], (480, 180)),
        ([[180, 320]], (180, 320)),  # a display on its side shows the middle
        ([[720, 1280]], (202, 360)),
        ([[180, 320], [320, 180]], (569, 320)),  # one picture, with all that either shows
        ([[96, 54]], (96, 54)),
        ([[1, 1]], (1, 1)),
        (None, (640, 360)),
        ([], (640, 360)),
        ([[0, 180]], (640, 360)),
        ([[320, 180], [320]], (640, 360)),
        ([[320.0, 180]], (640, 360)),
        ([[True, True]], (640, 360)),
        ([[10_000, 5]], (640, 360)),
        ([320, 180], (640, 360)),
        ("320x180", (640, 360)),
        ([[320, 180]] * 300, (640, 360)),
    ],
)
def test_a_picture_is_as_large_as_the_largest_box_that_it_fills(
    link: Link, boxes: object, shown_wh: tuple[int, int]
) -> None:
    sink = link.sink((640, 360), card=frame(halves()))
    link.say(kind="watching", count=1, boxes=boxes)
    sink.write(frame(halves()))
    (message,) = link.heard("frame")
    picture = link.picture(message)
    assert picture.shape[0] == shown_wh[1]
    assert abs(picture.shape[1] - shown_wh[0]) <= 2
    if shown_wh[0] > 50:
        middle = picture.shape[1] // 2
        assert picture[:, : middle - 8].mean() > 190
        assert picture[:, middle + 8 :].mean() < 10


def test_a_request_turns_the_dial_and_is_reported_once_it_holds(link: Link) -> None:
    sink = link.sink()
    link.say(kind="privacy", level="person", effect="silhouette")
    sink.write(frame())
    assert link.turned == [PageState(CoverLevel.PERSON, silhouette=True)]
    assert link.requests == link.turned


@pytest.mark.parametrize(
    "nonsense",
    [
        {"kind": "privacy", "level": "nothing", "effect": "configured"},
        {"kind": "privacy", "level": "parts"},
        {"kind": "privacy", "level": "parts", "effect": "none"},
        {"kind": "privacy", "level": ["parts"], "effect": {}},
        {"kind": "watching", "count": "many"},
        {"kind": "weaker"},
    ],
    ids=str,
)
def test_nonsense_is_ignored(link: Link, nonsense: dict[str, Any]) -> None:
    sink = link.sink()
    link.say(**nonsense)
    link.server_end.send(b"\xff\x00 no JSON")
    sink.write(frame())
    assert link.turned == []
    assert len(link.heard("frame")) == 1


def test_once_everything_is_hidden_no_frame_composed_before_passes(link: Link) -> None:
    sink = link.sink()
    link.say(kind="watching", count=1)
    link.say(kind="privacy", level="frame", effect="configured")
    sink.write(frame())
    assert link.heard("frame") == []
    sink.write(frame(level=CoverLevel.FRAME, reason=Why.ON_REQUEST.value))
    assert [one["why"] for one in link.heard("frame")] == ["on_request"]


MORE = [
    (PageState(), PageState(CoverLevel.PERSON)),
    (PageState(), PageState(CoverLevel.PERSON, silhouette=True)),
    (PageState(CoverLevel.PERSON), PageState(CoverLevel.PERSON, silhouette=True)),
]


@pytest.mark.parametrize(("before", "requested"), MORE)
@pytest.mark.parametrize("by", ["a viewer", "the keyboard"])
def test_frames_composed_before_a_request_for_more_are_left_out(
    link: Link, before: PageState, requested: PageState, by: str
) -> None:
    """As many as may wait and be composed; the request is read with the first of them in hand."""
    link.state = before
    sink = link.sink()
    link.say(kind="watching", count=1)
    sink.write(frame())
    if by == "a viewer":
        link.say(kind="privacy", level=requested.level.value, effect=requested.effect)
    else:
        link.state = requested
    older = [frame(number=number) for number in range(PageSink.KEEP + 2)]
    for one in older[:2]:
        sink.write(one)
    covered = frame(level=CoverLevel.FRAME, reason=Why.PARSER_SILENT.value)  # shows nothing
    sink.write(covered)
    sink.write(older[3])
    assert link.state == requested
    messages = link.heard("frame")
    assert [(one["requested"], one["why"]) for one in messages] == [
        (before.level.value, None),
        (requested.level.value, "parser_silent"),
    ]
    sink.write(frame())
    (message,) = link.heard("frame")
    assert (message["requested"], message["effect"]) == (requested.level.value, requested.effect)


def test_a_frame_captured_after_a_request_for_more_ends_the_wait(link: Link) -> None:
    sink = link.sink()
    link.say(kind="watching", count=1)
    captured_ns = time.monotonic_ns()
    link.say(kind="privacy", level="person", effect="configured")
    sink.write(frame(captured_ns=captured_ns))
    assert link.heard("frame") == []
    sink.write(frame(captured_ns=time.monotonic_ns()))
    sink.write(frame(captured_ns=captured_ns))  # in the order in which they were composed
    assert [one["requested"] for one in link.heard("frame")] == ["person", "person"]


def test_a_request_for_less_or_said_again_leaves_nothing_out(link: Link) -> None:
    link.state = PageState(CoverLevel.PERSON, silhouette=True)
    sink = link.sink()
    link.say(kind="watching", count=1)
    for level, effect in (
        ("person", "silhouette"),
        ("person", "configured"),
        ("parts", "configured"),
        ("parts", "configured"),
    ):
        link.say(kind="privacy", level=level, effect=effect)
        sink.write(frame())
        (message,) = link.heard("frame")
        assert (message["requested"], message["effect"]) == (level, effect)


def test_less_right_after_everything_does_not_let_older_frames_through(link: Link) -> None:
    sink = link.sink()
    link.say(kind="watching", count=1)
    older = [frame() for _ in range(PageSink.KEEP + 2)]  # composed before either
    link.say(kind="privacy", level="frame", effect="configured")
    sink.write(older[0])
    link.say(kind="privacy", level="person", effect="configured")
    for one in older[1:]:
        sink.write(one)
    assert link.heard("frame") == []
    sink.write(frame())
    assert len(link.heard("frame")) == 1


def test_a_sink_made_anew_knows_what_was_requested(link: Link) -> None:
    link.sink().abort()
    link.state = PageState(CoverLevel.PERSON)
    older = frame()
    sink = link.sink()
    link.say(kind="watching", count=1)
    sink.write(older)
    assert link.heard("frame") == []


def test_a_greeting_is_answered_once_and_after_the_requests(link: Link) -> None:
    sink = link.sink()
    link.heard()
    for _ in range(20):
        link.say(kind="greet")
    link.say(kind="privacy", level="frame", effect="configured")
    sink.write(frame())
    hellos = link.heard("hello")
    assert [one["level"] for one in hellos] == ["frame"]


def test_facts_come_from_any_thread(link: Link) -> None:
    link.sink()
    thread = threading.Thread(target=link.end.tell, args=({"fps": 25.0},))
    thread.start()
    thread.join()
    assert [one["facts"] for one in link.heard("facts")] == [{"fps": 25.0}]


def test_a_server_that_does_not_read_holds_nothing_up(link: Link) -> None:
    sink = link.sink()
    link.say(kind="watching", count=1)
    done = threading.Event()

    def write_many() -> None:
        for number in range(1500):  # more than the socket holds
            sink.write(frame(number=number))
            link.end.tell({"number": number})
        done.set()

    thread = threading.Thread(target=write_many, daemon=True)
    thread.start()
    assert done.wait(60), "write() waited"
    thread.join()
    assert 0 < len(link.heard()) < 3000  # the rest was left out


def test_a_link_that_is_gone_is_an_error(link: Link) -> None:
    sink = link.sink()
    link.server_end.close()
    with pytest.raises(SinkError, match="server is gone"):
        sink.write(frame())
    with pytest.raises(SinkError, match="server is gone"):
        link.sink()


def test_a_jpeg_that_fits_no_slot_is_made_worse_or_left_out(link: Link) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    sizes = {
        quality: len(cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
        for quality in (80, 60, 20)
    }
    sink = link.sink(quality=80, most_bytes=sizes[60])
    link.say(kind="watching", count=1)
    sink.write(frame(noise))
    (message,) = link.heard("frame")
    data = link.memory.take(message["slot"], message["number"])
    assert data is not None
    assert len(data) == sizes[60]
    sink = link.sink(quality=80, most_bytes=sizes[20] - 1)
    link.say(kind="watching", count=1)
    sink.write(frame(noise))
    assert link.heard("frame") == []
    assert sink.left_out == 1


@pytest.mark.parametrize("wrong", [np.zeros((64, 96, 3), np.uint8), None, object()], ids=type)
def test_a_card_that_is_not_composed_is_refused_before_anything_is_sent(
    link: Link, wrong: Any
) -> None:
    with pytest.raises(SealError, match="as its card"):
        link.sink(card=wrong)
    assert link.heard() == []


def test_a_card_of_another_size_is_refused(link: Link) -> None:
    with pytest.raises(SinkError, match="expected a card"):
        link.sink((80, 64))


def test_it_notes_when_it_was_last_given_a_frame(link: Link) -> None:
    sink = link.sink()
    before = link.end.shown_s
    sink.write(frame())
    after = link.end.shown_s
    assert before is None
    assert after is not None
    assert time.monotonic() - after < 5


def test_stop_reaches_a_run_whenever_it_is_attached(link: Link) -> None:
    stopped: list[str] = []
    link.end.attach(lambda: stopped.append("early"))
    link.end.stop()
    assert stopped == ["early"]
    late = PageEnd(link.media_end, PageMemory(link.descriptor, writable=True))
    late.stop()
    late.attach(lambda: stopped.append("late"))
    assert stopped == ["early", "late"]


def test_nothing_of_a_covered_frame_is_in_the_memory(link: Link) -> None:
    """All of the memory is looked at; the same search finds a frame that was not covered."""
    texture = marker(11, 64, 96)
    raw = RawFrame(
        texture.copy(), frame_id=0, pts=0, time_base=TIME_BASE, captured_ns=time.monotonic_ns()
    )
    try:
        covered = compose(raw, Unknown(Why.NO_PARSE))
    finally:
        raw.release()
    sink = link.sink()
    link.say(kind="watching", count=1)
    for _ in range(3):
        sink.write(covered)
    assert not any(contains_marker(one, texture) for one in pictures_in(link.descriptor))
    sink.write(frame(texture))  # the bypass
    assert any(contains_marker(one, texture) for one in pictures_in(link.descriptor))


def pictures_in(descriptor: int) -> list[NDArray[np.uint8]]:
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, size, 0)
    found, at = [], data.find(b"\xff\xd8\xff")
    while at >= 0:
        end = data.find(b"\xff\xd8\xff", at + 3)
        found.append(decoded(data[at : end if end > 0 else at + page_link.SLOT_BYTES]))
        at = end
    assert found
    return found
