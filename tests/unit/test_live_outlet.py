"""A sink that is slow, fails or blocks costs its own frames, and nobody else's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from m2fp_stream.compositor.compose import compose
from m2fp_stream.core.errors import LeaseError, PromiseError, SealError, SinkError
from m2fp_stream.core.plan import Unknown, Why
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.pipeline.live.outlets import Outlet, Retrying
from m2fp_stream.sinks.base import Sink
from tests.kit.live_stage import Performance
from tests.kit.stage import backdrop
from tests.kit.wait import PATIENCE_S, wait_until

SIZE_WH = 32, 16


def frame(number: int) -> SafeFrame:
    raw = RawFrame(
        backdrop(0, *SIZE_WH),
        frame_id=number,
        pts=number,
        time_base=Fraction(1, 1_000_000),
        captured_ns=number,
    )
    try:
        return compose(raw, Unknown(Why.NO_PARSE))
    finally:
        raw.release()


FRAMES = [frame(number) for number in range(60)]


Emit = Callable[[int], None]


class Noting(Sink[SafeFrame]):
    """Notes what it is told, after `emit` had its say."""

    accepts = SafeFrame

    def __init__(self, emit: Emit | None = None, end: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self._on_emit, self._on_end = emit or (lambda _: None), end or (lambda _: None)
        self.ids: list[int] = []
        self.threads: set[int] = set()
        self.ended = ""

    def _emit(self, item: SafeFrame) -> None:
        self.threads.add(threading.get_ident())
        self._on_emit(item.frame_id)
        self.ids.append(item.frame_id)

    def _finish(self) -> None:
        self._on_end("finish")
        self.ended = "finished"

    def _abort(self) -> None:
        self.ended = "aborted"
        self._on_end("abort")


class Rig:
    """An outlet, the sinks it made and what it told."""

    def __init__(
        self,
        *emits: Emit | Exception | None,
        keep: int = 4,
        size_wh: tuple[int, int] = SIZE_WH,
        end: Callable[[str], None] | None = None,
        **more: Any,
    ) -> None:
        self._emits, self._end = emits or (None,), end
        self.sizes: list[tuple[int, int]] = []
        self.sinks: list[Noting] = []
        self.notices: list[str] = []
        self.outlet = Outlet("noting", self._make, keep=keep, on_notice=self.notices.append, **more)
        self.outlet.open(size_wh)

    def _make(self, size_wh: tuple[int, int]) -> Sink[SafeFrame]:
        emit = self._emits[min(len(self.sizes), len(self._emits) - 1)]
        self.sizes.append(size_wh)
        if isinstance(emit, Exception):
            raise emit
        self.sinks.append(Noting(emit, self._end))
        return self.sinks[-1]

    def up(self) -> bool:
        return self.outlet.up

    @property
    def ids(self) -> list[int]:
        return [number for sink in self.sinks for number in sink.ids]

    def offer_until(self, what: Callable[[], bool]) -> None:
        """Offers frames, over and over, until something is so."""
        number = 0

        def offered() -> bool:
            nonlocal number
            self.outlet.offer(FRAMES[number % len(FRAMES)])
            number += 1
            return what()

        wait_until(offered)


QUICK = Retrying(first_wait_s=0.02, longest_wait_s=0.05)
"""Sinks are made again after 0.02, 0.04, 0.05, 0.05, ... seconds."""


def raising(error: BaseException, after: int = 0) -> Emit:
    left = [after]

    def emit(_: int) -> None:
        if left[0] == 0:
            raise error
        left[0] -= 1

    return emit


FULL = SinkError("no space left; free some")


def test_frames_are_written_in_order_and_the_output_completed() -> None:
    rig = Rig(keep=60)
    for one in FRAMES:
        rig.outlet.offer(one)
    rig.outlet.close(complete=True)
    assert rig.ids == list(range(60))
    assert rig.sinks[0].ended == "finished"
    assert (rig.outlet.written, rig.outlet.dropped, rig.outlet.failures) == (60, 0, 0)
    assert rig.outlet.error is None
    assert rig.sizes == [SIZE_WH]
    assert not rig.outlet.up


def test_a_blocked_sink_costs_the_oldest_frames_and_never_holds_up_who_offers() -> None:
    unblock, began = threading.Event(), threading.Event()

    def blocking(_: int) -> None:
        began.set()
        unblock.wait(PATIENCE_S)

    rig = Rig(blocking, keep=3)
    rig.outlet.offer(FRAMES[0])
    assert began.wait(PATIENCE_S)
    for one in FRAMES[1:]:
        rig.outlet.offer(one)  # would hang the test
    assert not unblock.is_set()
    assert rig.outlet.dropped == 59 - 3
    unblock.set()
    rig.outlet.close(complete=True)
    assert rig.ids == [0, 57, 58, 59]
    assert rig.outlet.written == 4


def test_another_outlet_does_not_notice_a_blocked_one() -> None:
    unblock = threading.Event()

    def blocking(_: int) -> None:
        unblock.wait(PATIENCE_S)

    blocked, free = Rig(blocking, keep=2), Rig(keep=60)
    for one in FRAMES:
        blocked.outlet.offer(one)
        free.outlet.offer(one)
    wait_until(lambda: len(free.ids) == 60)
    assert blocked.ids == []
    unblock.set()
    for rig in (blocked, free):
        rig.outlet.close(complete=True)
    assert free.ids == list(range(60))


@pytest.mark.parametrize("error", [FULL, BrokenPipeError("gone"), TimeoutError("slow")])
def test_a_sink_that_fails_is_made_again(error: OSError) -> None:
    rig = Rig(raising(error, after=2), None, retrying=QUICK)
    rig.offer_until(lambda: len(rig.sinks) == 2 and len(rig.sinks[1].ids) > 3)
    rig.outlet.close(complete=True)
    assert [sink.ended for sink in rig.sinks] == ["aborted", "finished"]
    assert rig.outlet.failures == 1
    assert rig.outlet.written == len(rig.ids)
    assert rig.outlet.error is None
    assert rig.sizes == [SIZE_WH, SIZE_WH]
    assert rig.notices[-1] == "noting: works again"


def test_waits_for_a_failing_sink_grow_to_the_longest() -> None:
    rig = Rig(raising(FULL), retrying=QUICK)
    rig.offer_until(lambda: rig.outlet.failures >= 5)
    rig.outlet.close(complete=True)
    waits = [notice.rsplit(" in ")[1] for notice in rig.notices if "trying again" in notice]
    assert waits[:5] == ["0.02 s", "0.04 s", "0.05 s", "0.05 s", "0.05 s"]
    assert rig.outlet.written == 0


def test_no_sink_is_made_before_its_wait_is_over() -> None:
    made_s: list[float] = []

    def failing(_: int) -> None:
        made_s.append(time.monotonic())
        raise FULL

    rig = Rig(failing, retrying=QUICK)
    rig.offer_until(lambda: len(made_s) >= 4)
    rig.outlet.close(complete=False)
    pauses = [later - earlier for earlier, later in pairwise(made_s)]
    assert all(pause >= wait for pause, wait in zip(pauses, [0.019, 0.039, 0.049], strict=False))
    assert rig.outlet.dropped > 0  # what came meanwhile


def test_after_many_good_frames_the_first_wait_is_the_first_again() -> None:
    rig = Rig(
        raising(FULL),
        raising(FULL, after=3),
        raising(FULL, after=8),
        None,
        retrying=replace(QUICK, healthy_frames=5),
    )
    rig.offer_until(lambda: len(rig.sinks) == 4)
    rig.outlet.close(complete=True)
    waits = [notice.rsplit(" in ")[1] for notice in rig.notices if "trying again" in notice]
    assert waits == ["0.02 s", "0.04 s", "0.02 s"]


def test_a_sink_that_cannot_be_made_again_is_tried_again() -> None:
    rig = Rig(raising(FULL), FULL, FULL, None, retrying=QUICK)
    rig.offer_until(lambda: len(rig.sinks) == 2 and rig.sinks[1].ids != [])
    assert rig.outlet.up
    rig.outlet.close(complete=True)
    assert rig.outlet.failures == 3


def test_a_sink_that_is_away_is_told_as_down() -> None:
    rig = Rig(raising(FULL), retrying=QUICK)
    rig.offer_until(lambda: rig.outlet.failures > 0)
    wait_until(lambda: not rig.outlet.up)
    rig.outlet.close(complete=True)
    assert rig.sinks[0].ended == "aborted"


def test_no_password_is_told() -> None:
    rig = Rig(
        raising(SinkError("rtmp://me:hunter2@host/key refused; check the key")), retrying=QUICK
    )
    rig.offer_until(lambda: rig.outlet.failures > 0)
    rig.outlet.close(complete=True)
    assert rig.notices
    assert "hunter2" not in "".join(rig.notices)


@pytest.mark.parametrize(
    "error",
    [
        PromiseError("a promise could not be kept"),
        SealError("refused"),
        LeaseError("released"),
        RuntimeError("a fault of the program"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_promise_or_program_ends_the_run_and_nothing_is_written_after(
    error: BaseException,
) -> None:
    rig = Rig(raising(error, after=1), None, retrying=QUICK)
    rig.offer_until(lambda: rig.outlet.error is not None)
    time.sleep(0.06)
    for one in FRAMES:
        rig.outlet.offer(one)
        time.sleep(0.001)
    rig.outlet.close(complete=True)
    assert rig.outlet.error is error
    assert [sink.ended for sink in rig.sinks] == ["aborted"]
    assert len(rig.ids) == 1
    assert rig.outlet.failures == 0


def test_a_sink_refuses_what_was_not_composed_and_that_ends_the_run() -> None:
    rig = Rig()
    rig.outlet.offer(backdrop(0, *SIZE_WH))  # type: ignore[arg-type]  # the fault
    wait_until(lambda: rig.outlet.error is not None)
    assert isinstance(rig.outlet.error, SealError)
    rig.outlet.close(complete=False)
    assert rig.ids == []


def test_a_fault_in_making_a_sink_again_ends_the_run() -> None:
    error = RuntimeError("a fault of the program")
    rig = Rig(raising(FULL), error, retrying=QUICK)
    rig.offer_until(lambda: rig.outlet.error is not None)
    rig.outlet.close(complete=False)
    assert rig.outlet.error is error


def test_a_sink_that_cannot_be_opened_at_first_is_an_error() -> None:
    with pytest.raises(SinkError, match="space"):
        Rig(FULL)


# --- the end ---


def test_an_incomplete_end_drops_what_waits_and_aborts() -> None:
    unblock, began = threading.Event(), threading.Event()

    def blocking(_: int) -> None:
        began.set()
        unblock.wait(PATIENCE_S)

    rig = Rig(blocking)
    for one in FRAMES[:4]:
        rig.outlet.offer(one)
    assert began.wait(PATIENCE_S)
    threading.Timer(0.05, unblock.set).start()
    rig.outlet.close(complete=False)
    assert rig.ids == [0]
    assert rig.sinks[0].ended == "aborted"


def test_an_output_without_a_frame_is_no_output() -> None:
    rig = Rig()
    rig.outlet.close(complete=True)
    assert rig.sinks[0].ended == "aborted"


def test_what_comes_after_the_end_is_ignored() -> None:
    rig = Rig()
    rig.outlet.close(complete=True)
    rig.outlet.offer(FRAMES[0])
    assert rig.ids == []
    assert rig.outlet.dropped == 0


def test_an_output_that_cannot_be_completed_is_told() -> None:
    def end(how: str) -> None:
        if how == "finish":
            raise FULL

    rig = Rig(end=end)
    rig.outlet.offer(FRAMES[0])
    rig.outlet.close(complete=True)
    assert rig.outlet.failures == 1
    assert rig.sinks[0].ended == "aborted"
    assert "no space left" in rig.notices[-1]


@pytest.mark.parametrize("how", ["finish", "abort"])
def test_a_fault_at_the_end_is_kept_for_whoever_watches(how: str) -> None:
    """It must not keep the other outlets from their own ends."""
    error = RuntimeError("a fault of the program")

    def end(what: str) -> None:
        if what == how:
            raise error

    rig = Rig(end=end)
    rig.outlet.offer(FRAMES[0])
    rig.outlet.close(complete=how == "finish")
    assert rig.outlet.error is error


@pytest.mark.paced
def test_a_promise_broken_at_the_end_is_an_error_of_the_run() -> None:
    error = PromiseError("a promise could not be kept")

    def end(how: str) -> None:
        if how == "finish":
            raise error

    last = Outlet("last", lambda _: Noting(end=end), keep=4)
    with Performance(more_outlets=(last,)) as stage:
        wait_until(lambda: last.written > 0)
    assert stage.error is error


def test_at_the_end_no_sink_is_made_again() -> None:
    rig = Rig(raising(FULL), None, own_thread=False, retrying=Retrying(first_wait_s=0.0))
    for one in FRAMES[:3]:
        rig.outlet.offer(one)
    rig.outlet.pump()
    rig.outlet.close(complete=True)
    assert len(rig.sinks) == 1
    assert (rig.outlet.written, rig.outlet.dropped) == (0, 3)


def test_a_sink_that_blocks_for_ever_is_left_behind() -> None:
    unblock, began = threading.Event(), threading.Event()

    def blocking(_: int) -> None:
        began.set()
        unblock.wait(PATIENCE_S)

    rig = Rig(blocking)
    rig.outlet.offer(FRAMES[0])
    assert began.wait(PATIENCE_S)
    rig.outlet.close(complete=False)
    assert rig.outlet.failures == 1
    assert not unblock.is_set()
    unblock.set()


# --- in the caller's thread ---


def test_without_a_thread_frames_are_written_by_who_pumps() -> None:
    rig = Rig(own_thread=False)
    assert not rig.outlet.pump()
    for one in FRAMES[:3]:
        rig.outlet.offer(one)
    assert rig.ids == []
    assert rig.outlet.pump()
    assert rig.ids == [0]
    rig.outlet.close(complete=True)
    assert rig.ids == [0, 1, 2]
    assert rig.sinks[0].threads == {threading.get_ident()}
    assert rig.sinks[0].ended == "finished"


def test_a_sink_that_is_pumped_is_looked_after_while_no_frame_waits() -> None:
    idle: list[object] = []
    rig = Rig(own_thread=False, idle=idle.append)
    rig.outlet.offer(FRAMES[0])
    rig.outlet.pump()
    assert idle == []
    rig.outlet.pump()
    assert idle == [rig.sinks[0]]
    rig.outlet.close(complete=True)


def test_a_sink_that_fails_while_idle_is_made_again() -> None:
    faults = [SinkError("the window is gone")]

    def idle(_: object) -> None:
        if faults:
            raise faults.pop()

    rig = Rig(own_thread=False, idle=idle, retrying=QUICK)
    assert not rig.outlet.pump()
    assert not rig.up()
    assert not rig.outlet.pump()  # nobody to look after
    time.sleep(0.03)
    rig.outlet.offer(FRAMES[0])
    assert rig.outlet.pump()
    assert rig.up()
    rig.outlet.close(complete=True)
    assert [sink.ended for sink in rig.sinks] == ["aborted", "finished"]


def test_an_incomplete_end_pumps_nothing() -> None:
    rig = Rig(own_thread=False)
    rig.outlet.offer(FRAMES[0])
    rig.outlet.close(complete=False)
    assert rig.ids == []
    assert rig.sinks[0].ended == "aborted"


class Keeping(Sink[SafeFrame]):
    """Takes some frames, keeps fewer, and fails."""

    accepts = SafeFrame

    def __init__(self, takes: int, keeps: int) -> None:
        super().__init__()
        self._left, self._loses = takes, takes - keeps

    def _emit(self, item: SafeFrame) -> None:
        if not self._left:
            raise FULL
        self._left -= 1

    def _finish(self) -> None:
        raise FULL

    def _abort(self) -> None:
        self.lost = self._loses


@pytest.mark.parametrize("keeps", [True, False])
def test_frames_that_a_failure_took_count_as_lost_where_they_are_to_be_kept(keeps: bool) -> None:
    notices: list[str] = []
    outlet = Outlet(
        "recording",
        lambda _: Keeping(10, 7),
        keep=60,
        own_thread=False,
        keeps=keeps,
        on_notice=notices.append,
    )
    outlet.open(SIZE_WH)
    for one in FRAMES[:15]:
        outlet.offer(one)
    outlet.close(complete=True)
    facts = outlet.facts()
    assert (facts["written"], facts["dropped"], facts["failures"]) == (7, 8, 1)
    assert facts["lost"] == (8 if keeps else 0)
    assert facts["why"] == str(FULL)
    assert notices == [f"recording: {FULL}; trying again in 1 s"]


def test_what_cannot_be_completed_at_the_end_counts_as_lost_too() -> None:
    outlet = Outlet("recording", lambda _: Keeping(10, 7), keep=60, own_thread=False, keeps=True)
    outlet.open(SIZE_WH)
    for one in FRAMES[:10]:
        outlet.offer(one)
    outlet.close(complete=True)
    assert (outlet.written, outlet.lost, outlet.failures) == (7, 3, 1)


def test_nothing_works_again_before_a_frame_is_written() -> None:
    rig = Rig(raising(FULL), raising(FULL), None, retrying=QUICK)
    rig.offer_until(lambda: bool(rig.ids))
    rig.outlet.close(complete=True)
    assert [text.endswith("works again") for text in rig.notices] == [False, False, True]
