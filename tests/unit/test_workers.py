"""Real parser processes: they answer, fail in every way, are replaced, and leave nothing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError, ParserError
from m2fp_stream.core.labels import Label
from m2fp_stream.core.records import ParseResult
from m2fp_stream.pipeline import wire, workers
from m2fp_stream.pipeline.workers import ParserQueue, ParserWorker, WorkerSpec
from tests.kit import faulty
from tests.kit.stage import Scripted, serving
from tests.kit.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
SIZE = (180, 320)

Open = Callable[..., ParserWorker]


@pytest.fixture
def worker_of() -> Iterator[Open]:
    workers: list[ParserWorker] = []

    def start(factory: str = "Faulty", *, deadline_s: float = 60.0, **options: Any) -> ParserWorker:
        spec = WorkerSpec(f"tests.kit.faulty:{factory}", options, deadline_s=deadline_s)
        workers.append(ParserWorker(spec))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def picture(value: int = 200) -> NDArray[np.uint8]:
    return np.full((*SIZE, 3), value, np.uint8)


def seen(worker: ParserWorker) -> NDArray[np.uint8]:
    """The part of the shared memory that holds the parse copy."""
    assert worker._memory is not None
    return np.frombuffer(worker._memory, np.uint8, wire.INPUT_BYTES)


def test_a_worker_answers_about_the_picture_it_was_given(worker_of: Open) -> None:
    worker = worker_of("ReadsInput")
    for frame_id, left in enumerate((0, 50, 200)):
        bgr = picture(0)
        bgr[20:60, left : left + 30] = 255
        result = worker.parse(bgr, frame_id=frame_id)
        assert result.frame_id == frame_id
        np.testing.assert_array_equal(result.label_map == Label.FACE, bgr[..., 0] == 255)
        assert (bgr[20:60, left : left + 30] == 255).all()  # the caller's copy is the caller's
        assert not seen(worker).any()
    assert worker.starts == 1


@pytest.mark.parametrize("fault", faulty.RESULT_FAULTS)
def test_a_faulty_result_is_an_error_and_the_next_parse_works(worker_of: Open, fault: str) -> None:
    worker = worker_of(fault=fault, at=[1])
    worker.parse(picture(), frame_id=0)
    with pytest.raises(ParserError) as caught:
        worker.parse(picture(), frame_id=1)
    assert "secret" not in str(caught.value)
    assert worker.parse(picture(), frame_id=2).frame_id == 2
    assert not seen(worker).any()


@pytest.mark.parametrize("fault", faulty.MESSAGE_FAULTS)
def test_a_forged_message_is_an_error_and_costs_the_process(worker_of: Open, fault: str) -> None:
    worker = worker_of(fault=fault, at=[1])
    worker.parse(picture(), frame_id=0)
    with pytest.raises(ParserError):
        worker.parse(picture(), frame_id=1)
    worker.parse(picture(), frame_id=2)
    # "garbage" says that the parse failed, which is an honest answer.
    assert worker.starts == (1 if fault == "garbage" else 2)


@pytest.mark.parametrize("fault", faulty.DEADLY_FAULTS)
def test_a_process_that_ends_or_hangs_is_replaced(worker_of: Open, fault: str) -> None:
    worker = worker_of(fault=fault, at=[1], deadline_s=1.0 if fault == "hanging" else 60.0)
    worker.parse(picture(), frame_id=0)
    first = worker.pid
    with pytest.raises(ParserError, match="within 1 s" if fault == "hanging" else "died"):
        worker.parse(picture(), frame_id=1)
    assert worker.pid is None
    assert first is not None
    assert not psutil.pid_exists(first)
    worker.parse(picture(), frame_id=2)
    assert worker.starts == 2
    assert worker.pid != first


def test_a_process_killed_while_it_works_is_replaced(worker_of: Open, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    worker = worker_of(fault="hanging", at=[1], note=str(note))
    killer = threading.Thread(target=lambda: os.kill(int(waited_for(note)), signal.SIGKILL))
    killer.start()
    with pytest.raises(ParserError, match="the parser process died"):
        worker.parse(picture(), frame_id=1)
    killer.join()
    assert worker.parse(picture(), frame_id=2).frame_id == 2


def test_a_copy_that_the_child_never_took_is_zeroed(worker_of: Open) -> None:
    worker = worker_of(deadline_s=2.0)
    worker.parse(picture(), frame_id=0)
    copy = seen(worker)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(ParserError, match=r"within 2 s"):
        worker.parse(picture(), frame_id=1)
    assert not copy.any()


def waited_for(note: Path) -> str:
    """Returns what a child wrote into `note`, once it has."""
    return wait_until(lambda: note.read_text(encoding="ascii") if note.exists() else None)


def test_a_parser_that_cannot_be_made_is_a_model_error(worker_of: Open) -> None:
    worker = worker_of("broken_factory")
    with pytest.raises(ModelError, match="cannot start: RuntimeError") as caught:
        worker.parse(picture(), frame_id=0)
    assert "secret" not in str(caught.value)
    assert worker.pid is None


@pytest.mark.parametrize("factory", ["no_such_factory", "Faulty"])
def test_a_wrong_factory_or_option_is_a_model_error(worker_of: Open, factory: str) -> None:
    worker = worker_of(factory, no_such_option=1)
    with pytest.raises(ModelError, match="cannot start"):
        worker.parse(picture(), frame_id=0)


@pytest.mark.parametrize("factory", ["exiting_factory", "nonsense_labels_factory"])
def test_a_process_that_does_not_get_up_is_a_parser_error(worker_of: Open, factory: str) -> None:
    worker = worker_of(factory)
    with pytest.raises(ParserError):
        worker.parse(picture(), frame_id=0)
    assert worker.pid is None


def test_a_process_that_cannot_even_be_started_leaves_nothing(
    worker_of: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    worker = worker_of()
    gc.collect()
    before = psutil.Process().num_fds()
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        with pytest.raises(ParserError):
            worker.parse(picture(), frame_id=0)
    gc.collect()
    assert psutil.Process().num_fds() == before
    assert worker.parse(picture(), frame_id=0).frame_id == 0


def test_a_worker_begun_before_it_is_asked_answers_from_that_process(worker_of: Open) -> None:
    worker = worker_of()
    worker.begin()
    begun = worker.pid
    assert begun is not None
    assert worker.parse(picture(), frame_id=0).frame_id == 0
    assert worker.pid == begun
    assert worker.starts == 1


def test_a_worker_that_dies_before_it_is_asked_is_replaced(worker_of: Open) -> None:
    worker = worker_of()
    worker.begin()
    assert worker._process is not None
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(ParserError, match="died"):
        worker.parse(picture(), frame_id=0)
    assert worker.parse(picture(), frame_id=1).frame_id == 1


def test_a_worker_that_cannot_be_begun_starts_when_it_is_asked(
    worker_of: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    worker = worker_of()
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        worker.begin()
    assert worker.pid is None
    assert worker.parse(picture(), frame_id=0).frame_id == 0


def test_a_worker_gives_way_to_others_as_told(worker_of: Open) -> None:
    worker = worker_of()
    worker.parse(picture(), frame_id=0)
    assert worker.pid is not None
    usual = psutil.Process(worker.pid).nice()
    worker.close()
    worker = ParserWorker(replace(worker._spec, niceness=7))
    try:
        worker.parse(picture(), frame_id=0)
        assert worker.pid is not None
        assert psutil.Process(worker.pid).nice() == min(19, usual + 7)
    finally:
        worker.close()


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="Linux has such a class")
def test_the_nicest_worker_runs_only_where_nobody_else_wants_to(worker_of: Open) -> None:
    worker = ParserWorker(replace(worker_of()._spec, niceness=19))
    try:
        worker.parse(picture(), frame_id=0)
        assert worker.pid is not None
        assert os.sched_getscheduler(worker.pid) == os.SCHED_IDLE
    finally:
        worker.close()


def test_a_picture_too_large_for_the_memory_is_refused(worker_of: Open) -> None:
    worker = worker_of()
    with pytest.raises(ValueError, match="a parse copy has sides of 1 to 4096"):
        worker.parse(np.zeros((8, wire.MAX_INPUT_SIDE + 1, 3), np.uint8), frame_id=0)


def test_nothing_is_left_of_a_closed_worker(worker_of: Open) -> None:
    worker = worker_of()
    worker.parse(picture(), frame_id=0)
    worker.close()
    gc.collect()
    me = psutil.Process()
    before = me.num_fds(), threading.active_count(), _shared(me)
    for fault in ("none", "killed", "raising", "forged_frame"):
        worker = worker_of(fault=fault, at=[0])
        assert worker.starts == 0
        if fault == "none":
            worker.parse(picture(), frame_id=0)
        else:
            with pytest.raises(ParserError):
                worker.parse(picture(), frame_id=0)
        child = worker.pid
        worker.close()
        worker.close()
        assert child is None or not psutil.pid_exists(child)
    gc.collect()
    assert (me.num_fds(), threading.active_count(), _shared(me)) == before


def _shared(process: psutil.Process) -> list[str]:
    """Where anonymous memory that other processes have, too, is mapped; other tests leave some."""
    regions = process.memory_maps(grouped=False)
    return [region.addr for region in regions if "memfd:m2fp" in region.path]


def test_ctrl_c_is_not_the_childs_to_handle(worker_of: Open) -> None:
    worker = worker_of()
    worker.parse(picture(), frame_id=0)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    worker.parse(picture(), frame_id=1)
    assert worker.starts == 1


PARENT = """
import sys, threading
import numpy as np
from m2fp_stream.pipeline.workers import ParserWorker, WorkerSpec
options = {"fault": "hanging", "note": sys.argv[1]}
worker = ParserWorker(WorkerSpec("tests.kit.faulty:Faulty", options, deadline_s=3600))
worker.parse(np.zeros((180, 320, 3), np.uint8), frame_id=0)
"""


def test_a_hanging_child_dies_with_its_parent(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(note)], cwd=ROOT)
    child = psutil.Process(int(waited_for(note)))
    assert child.ppid() == parent.pid
    parent.kill()
    parent.wait()
    try:  # it sleeps for an hour: only the kernel's signal can end it
        wait_until(lambda: not alive(child))
    finally:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_is_hardened_and_knows_no_terminal(worker_of: Open) -> None:
    worker = worker_of()
    worker.parse(picture(), frame_id=0)
    child = psutil.Process(worker.pid)
    assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
    assert "NoNewPrivs:\t1" in status
    assert {Path(f"/proc/{child.pid}/fd/{fd}").readlink() for fd in range(3)} == {Path("/dev/null")}


def test_a_module_in_the_working_folder_is_not_taken_for_a_library(
    worker_of: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's video folder may hold a `json.py`."""
    (tmp_path / "json.py").write_text("raise SystemExit(3)", encoding="ascii")
    monkeypatch.chdir(tmp_path)
    assert worker_of().parse(picture(), frame_id=0).frame_id == 0


# --- the queue ---


def test_a_queue_answers_every_request_and_zeroes_its_copy() -> None:
    with serving(Scripted()) as queue:
        copies = [picture() for _ in range(5)]
        futures = [queue.submit(copy, frame_id=n) for n, copy in enumerate(copies)]
        assert [future.result().frame_id for future in futures] == [0, 1, 2, 3, 4]
    assert not any(copy.any() for copy in copies)


class Gated(Scripted):
    """Waits for leave before its first answer."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.leave = threading.Event(), threading.Event()

    def parse(self, bgr: NDArray[np.uint8], *, frame_id: int) -> ParseResult:
        self.begun.set()
        self.leave.wait()
        return super().parse(bgr, frame_id=frame_id)

    def interrupt(self) -> None:
        self.leave.set()


def test_close_cancels_what_waits_and_zeroes_every_copy() -> None:
    parser = Gated()
    queue = ParserQueue(parser)
    copies = [picture() for _ in range(4)]
    futures = [queue.submit(copy, frame_id=n) for n, copy in enumerate(copies)]
    parser.begun.wait()
    queue.close()
    queue.close()
    assert futures[0].result().frame_id == 0  # it was under way, and its parser let it end
    for future in futures[1:]:
        with pytest.raises(CancelledError):
            future.result()
    assert parser.asked == [0]
    assert parser.closed.is_set()
    assert not any(copy.any() for copy in copies)


def test_a_request_after_close_is_cancelled() -> None:
    queue = ParserQueue(Scripted())
    queue.close()
    copy = picture()
    future = queue.submit(copy, frame_id=0)
    assert future.cancelled()
    assert not copy.any()


def test_a_cancelled_request_is_not_parsed_and_its_copy_zeroed() -> None:
    parser = Gated()
    with serving(parser) as queue:
        queue.submit(picture(), frame_id=0)
        parser.begun.wait()
        copy = picture()
        cancelled = queue.submit(copy, frame_id=1)
        last = queue.submit(picture(), frame_id=2)
        assert cancelled.cancel()
        parser.leave.set()
        last.result()
    assert parser.asked == [0, 2]
    assert not copy.any()


def failing(error: Exception, times: int) -> Scripted:
    left = [times]

    def script(bgr: NDArray[np.uint8], frame_id: int) -> ParseResult:
        if left[0] > 0:
            left[0] -= 1
            raise error
        return faulty.good_result(bgr.shape[0], bgr.shape[1], frame_id)

    return Scripted(script)


@pytest.mark.parametrize(("failures", "attempts"), [(1, 2), (2, 3)])
def test_a_failed_parse_is_tried_again(failures: int, attempts: int) -> None:
    parser = failing(ParserError("died"), failures)
    queue = ParserQueue(parser, attempts=attempts)
    assert queue.submit(picture(), frame_id=0).result().frame_id == 0
    queue.close()
    assert len(parser.asked) == attempts


def test_a_parse_that_keeps_failing_gives_its_error() -> None:
    parser = failing(ParserError("died"), 2)
    with serving(parser) as queue:
        with pytest.raises(ParserError, match="died"):
            queue.submit(picture(), frame_id=0).result()
        assert queue.submit(picture(), frame_id=1).result().frame_id == 1


@pytest.mark.parametrize("error", [ModelError("no weights"), MemoryError(), KeyError("bug")])
def test_an_error_that_trying_again_cannot_help_is_given_at_once(error: Exception) -> None:
    parser = failing(error, 1)
    with serving(parser) as queue, pytest.raises(type(error)):
        queue.submit(picture(), frame_id=0).result()
    assert len(parser.asked) == 1


def test_close_ends_a_parse_that_hangs(worker_of: Open, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    queue = ParserQueue(worker_of(fault="hanging", note=str(note), deadline_s=3600))
    copy = picture()
    future = queue.submit(copy, frame_id=0)
    child = int(waited_for(note))
    queue.close()
    with pytest.raises(ParserError):
        future.result()
    assert not copy.any()
    assert not psutil.pid_exists(child)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((360, 640), True),
        ((180, 320), True),
        ((18, 32), True),
        ((1, 1), False),
        ((9, 16), False),
        ((361, 640), False),
        ((180, 300), False),
        ((320, 180), False),
    ],
)
def test_a_map_has_the_pictures_aspect_and_is_not_too_crude(
    shape: tuple[int, int], fits: bool
) -> None:
    assert workers._is_map_of(shape, (360, 640)) is fits


def test_a_tiny_picture_may_have_a_tiny_map() -> None:
    assert workers._is_map_of((1, 5), (1, 5))
