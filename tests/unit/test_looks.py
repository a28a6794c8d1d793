"""Looks in processes of their own: they answer, fail in every way, are replaced, leave nothing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError, ParserError
from m2fp_stream.core.records import Detections, LookKind, PartPlanes
from m2fp_stream.pipeline import wire, workers
from m2fp_stream.pipeline.looks import LookPool, LookWorker, Seen
from m2fp_stream.pipeline.workers import WorkerSpec
from tests.kit import faulty
from tests.kit.stage import Watcher
from tests.kit.wait import wait_until
from tests.unit.test_workers import waited_for

FACES, PEOPLE, PARTS = LookKind.FACES, LookKind.PEOPLE, LookKind.PARTS
SIZE = (96, 160)

Open = Callable[..., LookWorker]
Picture = NDArray[np.uint8]


@pytest.fixture
def worker_of() -> Iterator[Open]:
    workers: list[LookWorker] = []

    def start(
        factory: str = "FaultyLooker",
        *,
        deadline_s: float = 60.0,
        starved: int = 12,
        **options: Any,
    ) -> LookWorker:
        spec = WorkerSpec(
            f"tests.kit.faulty:{factory}", options, deadline_s=deadline_s, starved=starved
        )
        workers.append(LookWorker(spec))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def picture(left: int = 60) -> Picture:
    """A red wall with a grey head, 24 by 30, before it."""
    drawn = np.zeros((*SIZE, 3), np.uint8)
    drawn[..., 2] = 150
    drawn[30:60, left : left + 24] = 128
    return drawn


def memory_of(worker: LookWorker) -> Picture:
    """The part of the shared memory that holds the copy."""
    assert worker._memory is not None
    return np.frombuffer(worker._memory, np.uint8, wire.INPUT_BYTES)


# --- one process ---


def test_a_looker_answers_about_the_picture_it_was_given(worker_of: Open) -> None:
    worker = worker_of()
    for frame_id, left in enumerate((10, 60, 120)):
        bgr = picture(left)
        faces = worker.look(bgr, FACES, frame_id=frame_id)
        assert isinstance(faces, Detections)
        assert (faces.kind, faces.frame_id) == (FACES, frame_id)
        np.testing.assert_allclose(faces.xyxy, [[left, 30, left + 24, 60]], atol=1)
        people = worker.look(bgr, PEOPLE, frame_id=frame_id)
        assert isinstance(people, Detections)
        assert people.kind is PEOPLE
        planes = worker.look(bgr, PARTS, frame_id=frame_id)
        assert isinstance(planes, PartPlanes)
        assert planes.frame_id == frame_id
        np.testing.assert_array_equal(
            planes.planes, faulty.planes_of(faulty.where_grey(bgr), frame_id).planes
        )
        np.testing.assert_array_equal(bgr, picture(left))  # the caller's copy is the caller's
        assert not memory_of(worker).any()
    assert worker.starts == 1


def test_an_answer_is_a_copy(worker_of: Open) -> None:
    worker = worker_of()
    faces = worker.look(picture(10), FACES, frame_id=0)
    planes = worker.look(picture(10), PARTS, frame_id=0)
    worker.look(picture(120), FACES, frame_id=1)
    worker.look(picture(120), PARTS, frame_id=1)
    assert isinstance(faces, Detections)
    assert faces.xyxy[0, 0] == pytest.approx(10, abs=1)
    assert isinstance(planes, PartPlanes)
    assert planes.planes[:, :, 60:].max(axis=0).any()  # background, there
    assert not np.shares_memory(planes.planes, memory_of(worker))


@pytest.mark.parametrize("kind", list(LookKind))
@pytest.mark.parametrize("fault", faulty.LOOK_FAULTS)
def test_a_faulty_answer_is_an_error_and_the_next_look_works(
    worker_of: Open, fault: str, kind: LookKind
) -> None:
    worker = worker_of(fault=fault, at=[1])
    worker.look(picture(), kind, frame_id=0)
    with pytest.raises(ParserError) as caught:
        worker.look(picture(), kind, frame_id=1)
    assert "secret" not in str(caught.value)
    assert worker.look(picture(), kind, frame_id=2).frame_id == 2
    assert not memory_of(worker).any()


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        *((FACES, fault) for fault in faulty.BOX_MESSAGE_FAULTS),
        (PEOPLE, "forged_kind"),
        *((PARTS, fault) for fault in faulty.PLANE_MESSAGE_FAULTS),
    ],
    ids=str,
)
def test_a_forged_message_is_an_error_and_costs_the_process(
    worker_of: Open, fault: str, kind: LookKind
) -> None:
    worker = worker_of(fault=fault, at=[1])
    worker.look(picture(), kind, frame_id=0)
    with pytest.raises(ParserError):
        worker.look(picture(), kind, frame_id=1)
    worker.look(picture(), kind, frame_id=2)
    # "garbage" says that the look failed, which is an honest answer.
    assert worker.starts == (1 if fault == "garbage" else 2)


@pytest.mark.parametrize("fault", faulty.DEADLY_FAULTS)
def test_a_process_that_ends_or_hangs_is_replaced(worker_of: Open, fault: str) -> None:
    worker = worker_of(fault=fault, at=[1], deadline_s=1.0 if fault == "hanging" else 60.0)
    worker.look(picture(), FACES, frame_id=0)
    first = worker.pid
    assert first is not None
    with pytest.raises(ParserError, match="within 1 s" if fault == "hanging" else "died"):
        worker.look(picture(), FACES, frame_id=1)
    assert worker.pid is None
    assert not psutil.pid_exists(first)
    worker.look(picture(), FACES, frame_id=2)
    assert worker.starts == 2


def test_a_process_that_computes_for_ever_is_replaced(worker_of: Open) -> None:
    """It wants the CPU, but has had its share."""
    worker = worker_of(fault="spinning", at=[1], deadline_s=0.5)
    worker.look(picture(), FACES, frame_id=0)
    with pytest.raises(ParserError, match=r"within 0.5 s"):
        worker.look(picture(), FACES, frame_id=1)
    worker.look(picture(), FACES, frame_id=2)
    assert worker.starts == 2


def test_a_process_that_is_starved_is_waited_for(
    worker_of: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that others take, to start again costs more than to wait."""
    asked: list[int] = []

    def starved(pid: int) -> bool:
        asked.append(pid)
        return True

    monkeypatch.setattr(workers, "_wants_cpu", starved)
    worker = worker_of(fault="slow", at=[1], slow_s=1.0, deadline_s=0.3)
    worker.look(picture(), FACES, frame_id=0)
    assert worker.look(picture(), FACES, frame_id=1).frame_id == 1
    assert worker.starts == 1
    assert set(asked) == {worker.pid}
    worker = worker_of(fault="slow", at=[1], slow_s=1.0, deadline_s=0.3, starved=2)
    worker.look(picture(), FACES, frame_id=0)
    with pytest.raises(ParserError, match=r"within 0.3 s"):
        worker.look(picture(), FACES, frame_id=1)


@pytest.mark.parametrize(
    ("code", "wants"), [("while True: pass", True), ("import time; time.sleep(600)", False)]
)
def test_who_runs_wants_the_cpu_and_who_sleeps_does_not(code: str, wants: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            wait_until(lambda: workers._wants_cpu(process.pid) is wants)
            if wants:
                wait_until(lambda: workers._cpu_s(process.pid) > 0)
        finally:
            process.kill()
    assert workers._cpu_s(process.pid) == 0
    assert not workers._wants_cpu(process.pid)


def test_a_copy_that_the_child_never_took_is_zeroed(worker_of: Open) -> None:
    worker = worker_of(deadline_s=2.0)
    worker.look(picture(), FACES, frame_id=0)
    copy = memory_of(worker)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(ParserError, match=r"within 2 s"):
        worker.look(picture(), PARTS, frame_id=1)
    assert not copy.any()


def test_a_looker_that_cannot_be_made_is_a_model_error(worker_of: Open) -> None:
    worker = worker_of("broken_looker_factory")
    with pytest.raises(ModelError, match="cannot start: RuntimeError") as caught:
        worker.look(picture(), FACES, frame_id=0)
    assert "secret" not in str(caught.value)
    assert worker.pid is None


def test_a_process_that_does_not_get_up_is_a_parser_error(worker_of: Open) -> None:
    worker = worker_of("exiting_looker_factory")
    with pytest.raises(ParserError):
        worker.look(picture(), FACES, frame_id=0)
    assert worker.pid is None


def test_a_picture_too_large_for_the_memory_is_refused(worker_of: Open) -> None:
    worker = worker_of()
    with pytest.raises(ValueError, match="sides of 1 to 4096"):
        worker.look(np.zeros((8, wire.MAX_INPUT_SIDE + 1, 3), np.uint8), FACES, frame_id=0)


def test_nothing_is_left_of_a_closed_looker(worker_of: Open) -> None:
    worker = worker_of()
    worker.look(picture(), FACES, frame_id=0)
    worker.close()
    gc.collect()
    me = psutil.Process()
    before = me.num_fds(), threading.active_count()
    for fault in ("none", "killed", "forged_frame"):
        worker = worker_of(fault=fault, at=[0])
        if fault == "none":
            worker.look(picture(), FACES, frame_id=0)
        else:
            with pytest.raises(ParserError):
                worker.look(picture(), FACES, frame_id=0)
        child = worker.pid
        worker.close()
        worker.close()
        assert child is None or not psutil.pid_exists(child)
    gc.collect()
    assert (me.num_fds(), threading.active_count()) == before


# --- the pool ---


class Gated(Watcher):
    """Waits for leave before its first answer."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.leave = threading.Event(), threading.Event()

    def look(self, bgr: Picture, kind: LookKind, *, frame_id: int) -> Seen:
        self.begun.set()
        self.leave.wait()
        return super().look(bgr, kind, frame_id=frame_id)

    def interrupt(self) -> None:
        self.leave.set()


@pytest.fixture
def pool_of() -> Iterator[Callable[..., LookPool]]:
    pools: list[LookPool] = []

    def make(*lookers: Any, attempts: int = 2) -> LookPool:
        pools.append(LookPool(lookers, attempts=attempts))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


Pool = Callable[..., LookPool]


@pytest.mark.parametrize("count", [1, 3])
def test_a_pool_answers_every_request_and_zeroes_its_copy(pool_of: Pool, count: int) -> None:
    watchers = [Watcher() for _ in range(count)]
    pool = pool_of(*watchers)
    copies = [picture(4 * n) for n in range(30)]
    kinds = [list(LookKind)[n % 3] for n in range(30)]
    futures = [
        pool.submit(copy, kind, frame_id=n)
        for n, (copy, kind) in enumerate(zip(copies, kinds, strict=True))
    ]
    for n, (future, kind) in enumerate(zip(futures, kinds, strict=True)):
        seen = future.result()
        assert seen.frame_id == n
        assert isinstance(seen, PartPlanes if kind is PARTS else Detections)
    pool.close()
    assert not any(copy.any() for copy in copies)
    asked = sorted(number for one in watchers for _, number in one.asked)
    assert asked == list(range(30))


def test_looks_that_somebody_waits_for_go_first(pool_of: Pool) -> None:
    watcher = Gated()
    pool = pool_of(watcher)
    futures = [pool.submit(picture(), FACES, frame_id=0)]
    watcher.begun.wait()
    order = [(FACES, 1), (PARTS, 2), (FACES, 3), (PEOPLE, 4), (PARTS, 5), (PEOPLE, 6)]
    futures += [pool.submit(picture(), kind, frame_id=n) for kind, n in order]
    watcher.leave.set()
    for future in futures:
        future.result()
    assert [number for _, number in watcher.asked] == [0, 4, 6, 2, 5, 1, 3]


def test_while_one_looker_is_busy_the_others_go_on(pool_of: Pool) -> None:
    slow, quick = Gated(), Gated()
    pool = pool_of(slow, quick)
    first = [pool.submit(picture(), FACES, frame_id=n) for n in range(2)]
    slow.begun.wait()
    quick.begun.wait()
    quick.leave.set()
    rest = [pool.submit(picture(), FACES, frame_id=n) for n in range(2, 8)]
    for future in rest:
        future.result()
    assert slow.asked == []
    slow.leave.set()
    assert {future.result().frame_id for future in first} == {0, 1}
    assert len(slow.asked) == 1


def test_close_cancels_what_waits_and_zeroes_every_copy() -> None:
    watcher = Gated()
    pool = LookPool([watcher])
    copies = [picture() for _ in range(4)]
    futures = [pool.submit(copy, FACES, frame_id=n) for n, copy in enumerate(copies)]
    watcher.begun.wait()
    pool.close()
    pool.close()
    assert futures[0].result().frame_id == 0  # it was under way, and its looker let it end
    for future in futures[1:]:
        with pytest.raises(CancelledError):
            future.result()
    assert watcher.asked == [(FACES, 0)]
    assert watcher.closed.is_set()
    assert not any(copy.any() for copy in copies)


def test_a_request_after_close_is_cancelled(pool_of: Pool) -> None:
    pool = pool_of(Watcher())
    pool.close()
    copy = picture()
    future = pool.submit(copy, PEOPLE, frame_id=0)
    assert future.cancelled()
    assert not copy.any()


def test_a_cancelled_request_is_not_looked_at_and_its_copy_zeroed(pool_of: Pool) -> None:
    watcher = Gated()
    pool = pool_of(watcher)
    pool.submit(picture(), FACES, frame_id=0)
    watcher.begun.wait()
    copy = picture()
    cancelled = pool.submit(copy, FACES, frame_id=1)
    last = pool.submit(picture(), FACES, frame_id=2)
    assert cancelled.cancel()
    watcher.leave.set()
    last.result()
    assert [number for _, number in watcher.asked] == [0, 2]
    assert not copy.any()


def failing(error: BaseException, times: int) -> Watcher:
    left = [times]

    def script(bgr: Picture, kind: LookKind, frame_id: int) -> Seen | None:
        if left[0] > 0:
            left[0] -= 1
            raise error
        return None

    return Watcher(script)


@pytest.mark.parametrize(("failures", "attempts"), [(1, 2), (2, 3)])
def test_a_failed_look_is_tried_again(pool_of: Pool, failures: int, attempts: int) -> None:
    watcher = failing(ParserError("died"), failures)
    pool = pool_of(watcher, attempts=attempts)
    assert pool.submit(picture(), FACES, frame_id=0).result().frame_id == 0
    assert len(watcher.asked) == attempts


def test_a_look_that_keeps_failing_gives_its_error_and_the_next_one_works(pool_of: Pool) -> None:
    pool = pool_of(failing(ParserError("died"), 2))
    copy = picture()
    with pytest.raises(ParserError, match="died"):
        pool.submit(copy, FACES, frame_id=0).result()
    assert pool.submit(picture(), FACES, frame_id=1).result().frame_id == 1
    assert not copy.any()


@pytest.mark.parametrize(
    "error", [ModelError("no weights"), MemoryError(), KeyError("bug"), KeyboardInterrupt()]
)
def test_an_error_that_trying_again_cannot_help_is_given_at_once(
    pool_of: Pool, error: BaseException
) -> None:
    watcher = failing(error, 1)
    pool = pool_of(watcher)
    with pytest.raises(type(error)):
        pool.submit(picture(), FACES, frame_id=0).result()
    assert len(watcher.asked) == 1


def test_close_ends_a_look_that_hangs(worker_of: Open, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    pool = LookPool([worker_of(fault="hanging", note=str(note), deadline_s=3600)])
    copy = picture()
    future = pool.submit(copy, FACES, frame_id=0)
    child = int(waited_for(note))
    pool.close()
    with pytest.raises(ParserError):
        future.result()
    assert not copy.any()
    assert not psutil.pid_exists(child)
