"""A source that is lost comes back, what it gave is released, and its end is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from m2fp_stream.core.errors import SourceError
from m2fp_stream.core.plan import Why
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.pipeline.live.capture import Capture, CaptureOptions, Inbox
from m2fp_stream.sources.base import Captured, Source, SourceInfo
from m2fp_stream.sources.devices import OtherCameraError
from tests.kit.stage import backdrop
from tests.kit.wait import PATIENCE_S, wait_until

Picture = NDArray[np.uint8]
TIME_BASE = Fraction(1, 1_000_000)
SIZE_WH = 32, 16
FAST = {"backoff_s": 0.01, "max_backoff_s": 0.02, "healthy_s": 0.0}


def picture(seed: int) -> Picture:
    return backdrop(seed, *SIZE_WH)


def frame(number: int, pixels: Picture | None = None) -> RawFrame:
    now_ns = time.monotonic_ns()
    return RawFrame(
        picture(number) if pixels is None else pixels.copy(),
        frame_id=number,
        pts=now_ns // 1000,
        time_base=TIME_BASE,
        captured_ns=now_ns,
    )


Act = Callable[[], Iterator[Picture]]


class Camera(Source):
    """Gives what one act does."""

    def __init__(self, act: Act, first: int, size_wh: tuple[int, int] | None) -> None:
        super().__init__()
        self._act, self._next = act, first
        self._info = SourceInfo(size_wh=size_wh or SIZE_WH, time_base=TIME_BASE)
        self.closed = threading.Event()
        self.frames_given: list[RawFrame] = []

    @property
    def info(self) -> SourceInfo:
        return self._info

    def _capture(self) -> Iterator[Captured]:
        for pixels in self._act():
            given = frame(self._next, pixels)
            self.frames_given.append(given)
            self._next += 1
            yield Captured(given)

    def close(self) -> None:
        super().close()
        self.closed.set()


class Waits(threading.Event):
    """Notes how long is to be waited, and waits less."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.asked.append(timeout)
        return super().wait(min(timeout, 0.001))


class Set:
    """A capture whose source acts one act after the other, and then waits to be closed."""

    def __init__(
        self,
        *acts: Act | Exception,
        endless: bool = True,
        size: int = 100,
        waits: Waits | None = None,
        join_s: float = 2.0,
        **options: Any,
    ) -> None:
        self._acts = acts
        self.opened: list[tuple[int, tuple[int, int] | None]] = []
        self.cameras: list[Camera] = []
        self.notices: list[str] = []
        self.inbox = Inbox(size)
        chosen = CaptureOptions.model_validate({"input": "drawn", **FAST, **options})
        self.capture = Capture(
            self._open, chosen, endless=endless, on_notice=self.notices.append, join_s=join_s
        )
        if waits is not None:
            self.capture._stopping = waits
        self.got: list[Captured] = []

    def _open(self, first: int, size_wh: tuple[int, int] | None) -> Source:
        number = len(self.opened)
        self.opened.append((first, size_wh))
        act = self._acts[number] if number < len(self._acts) else self._idle
        if isinstance(act, Exception):
            raise act
        camera = Camera(act, first, size_wh)
        self.cameras.append(camera)
        return camera

    def _idle(self) -> Iterator[Picture]:
        self.cameras[-1].closed.wait(PATIENCE_S)
        return iter(())

    def __enter__(self) -> Set:
        self.capture.connect()
        self.capture.start(self.inbox)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.capture.stop()
        self.inbox.end(drop=True)
        for captured in self.got:
            captured.frame.release()
        given = [one for camera in self.cameras for one in camera.frames_given]
        assert all(one.released for one in given)
        assert all(camera.closed.is_set() for camera in self.cameras)

    def away(self) -> Why | None:
        return self.capture.away

    def take(self, count: int) -> list[Captured]:
        """Waits for so many frames in all."""

        def enough() -> bool:
            with self.inbox.changed:
                while (captured := self.inbox.get()) is not None:
                    self.got.append(captured)
            return len(self.got) >= count

        wait_until(enough)
        return self.got

    def wait_ended(self) -> None:
        wait_until(lambda: self.inbox.ended)

    def wait_opened(self, times: int) -> None:
        wait_until(lambda: len(self.opened) >= times)


def some(count: int, first: int = 0) -> Act:
    """So many pictures, and then the end."""
    return lambda: (picture(first + number) for number in range(count))


def breaking(count: int, error: Exception, first: int = 0) -> Act:
    def act() -> Iterator[Picture]:
        yield from some(count, first)()
        raise error

    return act


def flowing(seconds: float) -> Act:
    """Changing pictures, the last of them after so long, and then the end."""

    def act() -> Iterator[Picture]:
        until_s, number, over = time.monotonic() + seconds, 0, False
        while not over:
            over = time.monotonic() >= until_s
            yield picture(number % 7)
            number += 1
            time.sleep(0.005)

    return act


LOST = SourceError("it was unplugged; plug it in")

# --- the inbox ---


def test_the_inbox_gives_frames_in_order() -> None:
    inbox = Inbox(4)
    for number in range(3):
        inbox.put(Captured(frame(number)))
    numbers = []
    with inbox.changed:
        while (captured := inbox.get()) is not None:
            numbers.append(captured.frame.frame_id)
            captured.frame.release()
    assert numbers == [0, 1, 2]
    assert inbox.empty
    assert inbox.dropped == 0


def test_a_full_inbox_drops_and_releases_the_oldest() -> None:
    inbox = Inbox(2)
    buffers = [picture(number) for number in range(5)]
    frames = [
        RawFrame(buffer, frame_id=number, pts=number, time_base=TIME_BASE, captured_ns=number)
        for number, buffer in enumerate(buffers)
    ]
    for one in frames:
        inbox.put(Captured(one))
    assert inbox.dropped == 3
    assert [one.released for one in frames] == [True, True, True, False, False]
    assert [bool(buffer.any()) for buffer in buffers] == [False, False, False, True, True]
    inbox.end(drop=True)
    assert all(one.released for one in frames)


@given(
    size=st.integers(1, 4),
    every=st.integers(1, 3),
    steps=st.lists(st.sampled_from(["frame", "restart", "get"]), max_size=40),
)
def test_a_discontinuity_is_never_dropped_with_its_frame(
    size: int, every: int, steps: list[str]
) -> None:
    """Between two frames that come out, `restart` stands if it stood on any frame since."""
    inbox = Inbox(size)
    inbox.share = 1 / every
    waits: list[tuple[int, bool]] = []  # what was put and neither got nor dropped before a get
    number = 0
    for step in [*steps, *["get"] * (size + 1)]:
        if step != "get":
            inbox.put(Captured(frame(number), restart=step == "restart", duration=number))
            waits.append((number, step == "restart"))
            number += 1
            continue
        with inbox.changed:
            captured = inbox.get()
        if captured is None:
            assert len(waits) < every  # those that were left out since
            continue
        passed = [one for one in waits if one[0] <= captured.frame.frame_id]
        waits = waits[len(passed) :]
        assert captured.restart == any(restart for _, restart in passed)
        assert captured.duration == captured.frame.frame_id
        captured.frame.release()
    assert inbox.empty


def test_an_inbox_that_takes_a_third_releases_the_others_and_takes_all_again() -> None:
    inbox = Inbox(12)
    frames = [frame(number) for number in range(12)]
    inbox.share = 1 / 3
    for one in frames[:9]:
        inbox.put(Captured(one))
    inbox.share = 1.0
    for one in frames[9:]:
        inbox.put(Captured(one))
    kept = [one.frame_id for one in frames if not one.released]
    assert kept == [0, 3, 6, 9, 10, 11]  # the first one at once
    assert (inbox.dropped, inbox.left_out) == (0, 6)
    inbox.end(drop=True)


@pytest.mark.parametrize(("share", "taken"), [(1.0, 600), (2 / 3, 400), (1 / 2, 300), (1 / 3, 200)])
def test_frames_are_left_out_evenly(share: float, taken: int) -> None:
    inbox = Inbox(1000)
    inbox.share = share
    frames = [frame(number) for number in range(600)]
    for one in frames:
        inbox.put(Captured(one))
    kept = [one.frame_id for one in frames if not one.released]
    assert abs(len(kept) - taken) <= 1
    assert {after - before for before, after in pairwise(kept)} <= {
        int(1 / share),
        -int(-1 // share),
    }
    inbox.end(drop=True)


def test_an_ended_inbox_releases_what_still_comes() -> None:
    inbox = Inbox(2)
    kept, late = frame(0), frame(1)
    inbox.put(Captured(kept))
    inbox.end(drop=False)
    inbox.put(Captured(late))
    assert (late.released, kept.released, inbox.empty) == (True, False, False)
    inbox.end(drop=True)
    assert (kept.released, inbox.empty) == (True, True)
    assert inbox.ended


def test_whoever_waits_is_woken_by_a_frame_and_by_the_end() -> None:
    inbox = Inbox(2)
    woken: list[bool] = []

    def watch() -> None:
        for _ in range(2):
            with inbox.changed:
                woken.append(
                    inbox.changed.wait_for(lambda: not inbox.empty or inbox.ended, PATIENCE_S)
                )
                if (captured := inbox.get()) is not None:
                    captured.frame.release()

    thread = threading.Thread(target=watch)
    thread.start()
    inbox.put(Captured(frame(0)))
    wait_until(lambda: inbox.empty)
    inbox.end(drop=False)
    thread.join()
    assert woken == [True, True]


# --- connecting ---


def test_connecting_twice_opens_once() -> None:
    scene = Set(some(1))
    assert scene.capture.connect() is scene.capture.connect()
    assert scene.opened == [(0, None)]
    assert scene.capture.stop()
    assert scene.cameras[0].closed.is_set()


def test_a_source_that_is_not_there_at_first_is_an_error() -> None:
    scene = Set(LOST)
    with pytest.raises(SourceError, match="unplugged"):
        scene.capture.connect()
    assert scene.capture.stop()


# --- frames and ends ---


def test_frames_come_as_the_source_gave_them() -> None:
    with Set(some(5)) as scene:
        got = scene.take(5)
        assert [one.frame.frame_id for one in got[:5]] == [0, 1, 2, 3, 4]
        assert not any(one.restart for one in got[:5])


def test_the_end_of_a_film_is_a_good_end() -> None:
    with Set(some(3), endless=False) as scene:
        scene.wait_ended()
        assert len(scene.take(3)) == 3  # those that waited are still there
        assert scene.capture.error is None
        assert scene.capture.away is None
        assert len(scene.opened) == 1
        assert scene.cameras[0].closed.is_set()


def test_a_film_that_cannot_be_read_on_is_an_error() -> None:
    with Set(breaking(2, LOST), endless=False) as scene:
        scene.wait_ended()
        assert scene.capture.error is LOST
        assert len(scene.opened) == 1


@pytest.mark.parametrize("endless", [True, False])
def test_an_error_of_another_kind_ends_the_run(endless: bool) -> None:
    error = RuntimeError("a fault of the program")
    with Set(breaking(2, error), endless=endless) as scene:
        scene.wait_ended()
        assert scene.capture.error is error
        assert len(scene.opened) == 1
        assert scene.cameras[0].closed.is_set()


def test_an_error_of_another_kind_while_opening_again_ends_the_run() -> None:
    error = RuntimeError("a fault of the program")
    with Set(some(1), error) as scene:
        scene.wait_ended()
        assert scene.capture.error is error


# --- coming back ---


@pytest.mark.parametrize("how", ["ends", "breaks"])
def test_a_lost_camera_is_opened_again_and_its_numbers_go_on(how: str) -> None:
    first = some(3) if how == "ends" else breaking(3, LOST)
    with Set(first, some(2, 3), some(1, 5)) as scene:
        got = scene.take(6)
        assert [one.frame.frame_id for one in got] == [0, 1, 2, 3, 4, 5]
        assert [one.restart for one in got] == [False, False, False, True, False, True]
        scene.wait_opened(4)
        assert scene.opened == [(0, None), (3, SIZE_WH), (5, SIZE_WH), (6, SIZE_WH)]
        assert scene.capture.frames == 6
        assert scene.capture.error is None


def test_a_camera_that_gives_nothing_after_coming_back_is_still_away() -> None:
    with Set(some(1), some(0), some(0), some(1, 1)) as scene:
        got = scene.take(2)
        assert [one.restart for one in got] == [False, True]
        scene.wait_opened(5)
    assert scene.notices.count("the source is back") == 1


def test_away_is_told_until_frames_come() -> None:
    back = threading.Event()

    def later() -> Iterator[Picture]:
        back.wait(PATIENCE_S)
        yield picture(9)

    with Set(some(2), LOST, LOST, later) as scene:
        scene.wait_opened(4)
        assert scene.capture.away is Why.SOURCE_AWAY
        assert scene.capture.frames == 2
        back.set()
        scene.take(3)
        assert scene.capture.reconnects >= 1


def test_the_same_trouble_is_told_once() -> None:
    other = SourceError("it is busy; close the other program")
    with Set(some(1), LOST, LOST, other, other, some(1, 1)) as scene:
        scene.take(2)
        scene.wait_opened(7)
    still = [notice for notice in scene.notices if notice.startswith("still away")]
    assert len(still) == 2
    assert "unplugged" in still[0]
    assert "busy" in still[1]


def test_no_password_is_told() -> None:
    secret = SourceError("rtsp://me:hunter2@10.0.0.7/live does not answer; check it")
    with Set(breaking(1, secret), secret, some(1, 1)) as scene:
        scene.take(2)
    assert any("does not answer" in notice for notice in scene.notices)
    assert not any("hunter2" in notice for notice in scene.notices)


def test_another_camera_in_its_place_is_told_as_such() -> None:
    other = OtherCameraError("another camera is connected there; plug the first one in")
    released = threading.Event()

    def later() -> Iterator[Picture]:
        released.wait(PATIENCE_S)
        yield picture(3)

    with Set(some(1), LOST, other, later) as scene:
        scene.wait_opened(4)
        assert scene.capture.away is Why.OTHER_CAMERA
        released.set()
        scene.take(2)


# --- waiting ---


def waits_of(*acts: Act | Exception, opened: int, **options: Any) -> list[float]:
    """Returns how long was waited before each opening but the first."""
    waits = Waits()
    with Set(*acts, waits=waits, **options) as scene:
        scene.wait_opened(opened)
        return waits.asked[: opened - 1]


def test_waits_double_up_to_the_longest_and_are_drawn_about_it() -> None:
    asked = waits_of(some(1), *[LOST] * 40, opened=41, backoff_s=0.5, max_backoff_s=8.0)
    for wait_s, middle_s in zip(asked, [0.5, 1, 2, 4, *[8.0] * 36], strict=True):
        assert 0.75 * middle_s <= wait_s <= 1.25 * middle_s
    shares = [wait_s / 8 for wait_s in asked[4:]]
    assert max(shares) - min(shares) > 0.1  # not all at once


def test_a_camera_that_comes_back_for_a_moment_is_waited_for_longer_each_time() -> None:
    flapping = [some(1, number) for number in range(6)]
    asked = waits_of(*flapping, opened=6, backoff_s=1.0, max_backoff_s=60.0, healthy_s=60.0)
    for wait_s, middle_s in zip(asked, [1, 2, 4, 8, 16], strict=True):
        assert 0.75 * middle_s <= wait_s <= 1.25 * middle_s


def test_a_camera_that_was_healthy_is_waited_for_shortly() -> None:
    asked = waits_of(
        *(some(1), LOST, LOST, flowing(1.2), some(1, 900)),
        opened=6,
        backoff_s=1.0,
        max_backoff_s=60.0,
        healthy_s=1.0,
    )
    middles = [1, 2, 4, 1, 2]  # healthy before the fourth, not before the fifth
    for wait_s, middle_s in zip(asked, middles, strict=True):
        assert 0.75 * middle_s <= wait_s <= 1.25 * middle_s


def test_a_camera_that_stood_silent_was_not_healthy() -> None:
    def silent() -> Iterator[Picture]:
        time.sleep(0.3)
        yield from ()

    asked = waits_of(
        *(some(1), silent, silent), opened=4, backoff_s=1.0, max_backoff_s=60.0, healthy_s=0.1
    )
    assert asked[1] > 1.25
    assert asked[2] > 2.5


# --- still scenes and slow cameras ---


@pytest.mark.parametrize("endless", [True, False])
def test_the_same_picture_again_and_again_is_alive(endless: bool) -> None:
    def still() -> Iterator[Picture]:
        for _ in range(200):
            yield picture(1)
        scene.cameras[-1].closed.wait(PATIENCE_S)

    with (scene := Set(still, endless=endless, size=200)):
        assert len(scene.take(200)) == 200
        assert len(scene.opened) == 1
        assert scene.capture.away is None
    assert scene.notices == []


class Slow(Camera):
    """Stamps its frames as a camera of some rate does, and does not wait for it."""

    def __init__(self, intervals_s: list[float], first: int) -> None:
        super().__init__(lambda: iter(()), first, None)
        self.intervals_s = intervals_s

    def _capture(self) -> Iterator[Captured]:
        captured_ns = time.monotonic_ns()
        # The first two come at once: the source was opened with them.
        for interval_s in [0.0, 0.001, *self.intervals_s]:
            captured_ns += round(interval_s * 1e9)
            given = frame(self._next)
            given.captured_ns = captured_ns
            self.frames_given.append(given)
            self._next += 1
            yield Captured(given)


@pytest.mark.parametrize(
    ("intervals_s", "learned_s", "away_s"),
    [
        ([], None, 6.0),
        ([2.0], 2.0, 6.0),
        ([2.0] * 4 + [9.0, 0.1], 2.0, 6.0),  # one late, the next at once
        ([1 / 30] * 20, 1 / 30, 1.0),
        ([1 / 30] * 20 + [1.0] * 9, 1.0, 3.0),  # it grew slower
    ],
)
def test_a_camera_is_away_by_its_own_rate(
    intervals_s: list[float], learned_s: float | None, away_s: float
) -> None:
    inbox = Inbox(100)
    options = CaptureOptions(input="drawn", away_s=1.0)
    capture = Capture(lambda first, _: Slow(intervals_s, first), options, endless=False)
    assert capture.interval_s is None
    assert capture.away_after_s == 6.0
    capture.connect()
    capture.start(inbox)
    wait_until(lambda: inbox.ended)
    assert capture.interval_s == (None if learned_s is None else pytest.approx(learned_s))
    assert capture.away_after_s == pytest.approx(away_s)
    capture.stop()
    with inbox.changed:
        while (one := inbox.get()) is not None:
            one.frame.release()


def test_the_time_that_a_camera_was_away_is_no_interval_of_it() -> None:
    inbox = Inbox(100)
    opened: list[int] = []

    def open_source(first: int, size_wh: tuple[int, int] | None) -> Source:
        opened.append(first)
        if len(opened) > 3:
            raise RuntimeError("that was enough")
        return Slow([2.0], first)

    options = CaptureOptions.model_validate({"input": "drawn", **FAST})
    capture = Capture(open_source, options, endless=True)
    capture.connect()
    capture.start(inbox)
    wait_until(lambda: inbox.ended)
    assert capture.frames == 9
    assert list(capture._recent_s) == pytest.approx([2.0, 2.0, 2.0])
    capture.stop()
    with inbox.changed:
        while (one := inbox.get()) is not None:
            one.frame.release()


# --- stopping ---


def test_stopping_ends_a_wait_at_once() -> None:
    scene = Set(some(1), LOST, backoff_s=60.0, max_backoff_s=600.0)
    with scene:
        wait_until(lambda: scene.capture.away is not None)
    assert len(scene.opened) == 1  # nothing was opened afterwards
    assert scene.inbox.ended
    assert scene.capture.error is None


def test_stopping_ends_a_read_that_its_source_can_end() -> None:
    with Set() as scene:  # waits to be closed
        pass
    assert scene.capture.error is None
    assert scene.inbox.ended


def test_stopping_a_film_is_no_error_of_it() -> None:
    def film() -> Iterator[Picture]:
        scene.cameras[0].closed.wait(PATIENCE_S)
        yield from ()
        raise SourceError("it was closed while it was read")

    with (scene := Set(film, endless=False)):
        wait_until(lambda: bool(scene.cameras))
    assert scene.capture.error is None


def test_stopping_releases_the_frames_that_wait() -> None:
    with Set(some(5)) as scene:
        wait_until(lambda: scene.capture.frames == 5)
    assert scene.inbox.empty  # `Set` looks that all are released


def test_a_read_that_blocks_is_left_behind_and_its_frame_is_released() -> None:
    unblock = threading.Event()

    def blocking() -> Iterator[Picture]:
        yield picture(0)
        unblock.wait(PATIENCE_S)
        yield picture(1)

    scene = Set(blocking, join_s=0.05)
    scene.capture.connect()
    scene.capture.start(scene.inbox)
    scene.take(1)
    assert not scene.capture.stop()
    unblock.set()
    wait_until(lambda: scene.inbox.ended)
    scene.got[0].frame.release()
    assert [one.released for one in scene.cameras[0].frames_given] == [True, True]


# --- options ---


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": ""},
        {"backoff_s": 0.0},
        {"max_backoff_s": -1.0},
        {"healthy_s": -1.0},
        {"away_s": float("nan")},
        {"snapshot_s": 0.0},
        {"frozen_s": 1.0},
        {"loop": 1},
    ],
)
def test_options_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CaptureOptions.model_validate(wrong)


def test_an_address_is_not_printed_where_it_is_refused() -> None:
    with pytest.raises(ValidationError) as refused:
        CaptureOptions.model_validate(
            {"input": "rtsp://me:hunter2@host/", "loop": "rtsp://hunter2"}
        )
    assert "hunter2" not in str(refused.value)
