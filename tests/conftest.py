"""What every test is held to: no thread, no process and no logged ERROR is left behind."""

from __future__ import annotations

import faulthandler
import fcntl
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import cv2
import psutil
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
DATA_VARIABLE = "M2FP_STREAM_TEST_DATA"

GRACE_S = 5.0
"""How long something that is ending may take to end before it counts as left behind."""

_HELPERS = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")
"""Processes of Python's own that live as long as the interpreter, by design."""

_UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long examples take says how busy the machine is."""

settings.register_profile("default", _UNHURRIED)
settings.register_profile("ci", _UNHURRIED, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds what `scripts/test` asks for."""
    told = "leave out files without a test marked paced or alone; does not select tests"
    parser.addoption("--paced-files", action="store_true", help=told)


def pytest_configure(config: pytest.Config) -> None:
    """Lets tests of several processes take turns, and what they start hear signals."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        config.pluginmanager.register(_Turns(), "turns")
    _hear_signals()


def _hear_signals() -> None:
    """Lets what tests start hear signals, also where these tests themselves were told not to.

    A shell without job control makes its background jobs ignore Ctrl-C, `nohup` makes a command
    ignore SIGHUP, and whoever ignores a signal has children that do. A handler that does nothing is
    as deaf, but is not handed on (signal(7): execve resets handled signals, keeps ignored ones).
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _nothing)


def _nothing(_: int, __: FrameType | None) -> None:
    """Handles a signal."""


_PACED = (
    "chaos/test_faults.py::test_a_look_at_a_whole_frame_that_fails_covers_that_frame_alone[hanging",
    "chaos/test_faults.py::test_a_part_look_that_fails_leaves_the_head_covered[hanging",
    "chaos/test_faults.py::test_looks_failing_for_good_end_the_run_without_an_output[hanging",
    "chaos/test_live_",
    "e2e/test_kiosk",
    "e2e/test_live.py::test_a_run_records",
    "e2e/test_live.py::test_the_bench",
    "e2e/test_live.py::test_the_preview_window",
    "e2e/test_live.py::test_what_is_served",
    "e2e/test_m2fp",
    "e2e/test_magicmirror",
    "e2e/test_page",
    "unit/test_kiosk_supervised",
    "unit/test_live_outlet.py::test_a_promise_broken_at_the_end",
    "unit/test_live_present",
    "unit/test_sink_push.py::test_a_server_that_stalls",
    "unit/test_source_stream",
    "unit/test_web_hub",
)
"""Tests in which time matters, because something runs at a pace of its own and is to keep up: they
wait more than they compute. Two share the machine (marker `paced`)."""

_NOT_PACED = (
    "unit/test_source_stream.py::test_a_badly_damaged",
    "unit/test_source_stream.py::test_a_stream_by_rtmp",
    "unit/test_source_stream.py::test_damaged_pictures",
)
"""Those among them that only wait long."""

_ALONE = (
    "chaos/test_web_hostile.py::test_each_attack",
    "chaos/test_web_hostile.py::test_nothing_that",
    "chaos/test_web_hostile.py::test_pictures_never",
    "chaos/test_web_hostile.py::test_the_server",
    "e2e/test_page.py::test_a_page_that_hangs",
    "e2e/test_page.py::test_a_server_that_hangs",
    "e2e/test_page.py::test_frames_that_stop",
    "unit/test_web_server.py::test_who_reads_slowly",
    "unit/test_workers.py::test_the_nicest_worker",
)
"""Tests that measure time: nothing else of this suite runs meanwhile (marker `alone`)."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves files out: in each of its processes pytest takes seconds to collect all of them."""
    folder = Path(__file__).parent
    if not config.getoption("--paced-files") or collection_path.suffix != ".py":
        return None
    files = tuple(name.partition("::")[0] for name in (*_PACED, *_ALONE))
    return None if collection_path.relative_to(folder).as_posix().startswith(files) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by where they stand."""
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder):
            name = f"{item.path.relative_to(folder).as_posix()}::{item.name}"
            if name.startswith(_ALONE):
                item.add_marker("alone")
            elif name.startswith(_PACED) and not name.startswith(_NOT_PACED):
                item.add_marker("paced")


class _Turns:
    """Tests of several processes take turns: one that measures time is alone.

    What is locked (flock(2)) are files that are there anyway; who waits to be alone holds the gate,
    so that nobody else begins.
    """

    def __init__(self) -> None:
        self._gate = os.open(__file__, os.O_RDONLY)
        self._floor = os.open(ROOT / "pyproject.toml", os.O_RDONLY)

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Waits for its turn, and holds it."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._floor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._floor, fcntl.LOCK_UN)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Runs a test, its fixtures included, when it is its turn."""
        with self.turn(alone=item.get_closest_marker("alone") is not None):
            return (yield)


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """The default of the program, so that tests see its results."""
    cv2.setNumThreads(2)


@pytest.fixture(scope="session", autouse=True)
def _core_limit_of_this_process_stays() -> Iterator[None]:
    """Commands that run inside pytest harden it; a hard limit it gives up never comes back.

    `tests/unit/test_hardening.py` hardens processes of its own, which must be able to dump a core
    before they are hardened, or it would compare with nothing.
    """
    set_limit = resource.setrlimit

    def all_but_core(which: int, limits: tuple[int, int]) -> None:
        if which != resource.RLIMIT_CORE:
            set_limit(which, limits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resource, "setrlimit", all_but_core)
        yield


@pytest.fixture
def data_dir() -> Path:
    """The folder of shared footage; skips, visibly, where it is absent."""
    folder = Path(os.environ.get(DATA_VARIABLE) or ROOT.parent / "shared" / "data")
    if not (folder / "clips").is_dir():
        pytest.skip(f"no footage in {folder}; set {DATA_VARIABLE}")
    return folder


class _ErrorLog(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")


def _children() -> set[psutil.Process]:
    multiprocessing.active_children()  # reaps those that have ended
    return {child for child in psutil.Process().children(recursive=True) if _counts(child)}


def _counts(child: psutil.Process) -> bool:
    try:
        command = " ".join(child.cmdline())  # a zombie has none, and has ended
    except psutil.NoSuchProcess:
        return False
    return not any(name in command for name in _HELPERS)


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    log = _ErrorLog()
    logging.getLogger().addHandler(log)
    threads = set(threading.enumerate())
    children = _children()
    try:
        yield
    finally:
        logging.getLogger().removeHandler(log)
    left_threads = set(threading.enumerate()) - threads
    for thread in left_threads:
        thread.join(GRACE_S)
    problems = [f"thread {thread.name}" for thread in left_threads if thread.is_alive()]
    left_children = list(_children() - children)
    _, alive = psutil.wait_procs(left_children, timeout=GRACE_S)
    for child in alive:
        problems.append(f"process {child.pid}")
        child.kill()  # the next test starts clean
    if log.lines and request.node.get_closest_marker("allow_error_logs") is None:
        problems += [f"ERROR logged by {line}" for line in log.lines]
    if problems:
        pytest.fail("left behind: " + "; ".join(problems), pytrace=False)


@pytest.fixture(autouse=True)
def _crash_hooks_restored() -> Iterator[None]:
    """A test that runs the command line in this process hardens it; pytest's hooks come back."""
    before = sys.excepthook, threading.excepthook, sys.unraisablehook
    watching = faulthandler.is_enabled()
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook = before
    if watching and not faulthandler.is_enabled():
        faulthandler.enable()
