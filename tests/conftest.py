"""What every test is held to: no thread, no process and no logged ERROR is left behind."""

from __future__ import annotations

import faulthandler
import fcntl
import logging
import multiprocessing
import os
import re
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
"""Chosen: nothing that was told to end takes so long, on a busy machine neither."""

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
    told = "seconds that something which is ending may take to end before it counts as left behind"
    parser.addoption("--grace-s", type=float, default=GRACE_S, help=told)


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


_MARKED = re.compile(r"\bmark\.(paced|alone)\b")
"""What a file says somewhere that has a test marked so."""


def _has_marked(path: Path) -> bool:
    return _MARKED.search(path.read_text(encoding="utf-8")) is not None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves files out: in each of its processes pytest takes seconds to import all of them."""
    if not config.getoption("--paced-files") or collection_path.suffix != ".py":
        return None
    return None if _has_marked(collection_path) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A marker that no file says by its name would be left out above, and its test never run."""
    for item in items:
        marked = item.get_closest_marker("paced") or item.get_closest_marker("alone")
        if marked is not None and not _has_marked(item.path):
            raise pytest.UsageError(f"{item.nodeid}: write pytest.mark.{marked.name} in that file")


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
    grace_s: float = request.config.getoption("--grace-s")
    left_threads = set(threading.enumerate()) - threads
    for thread in left_threads:
        thread.join(grace_s)
    problems = [f"thread {thread.name}" for thread in left_threads if thread.is_alive()]
    left_children = list(_children() - children)
    _, alive = psutil.wait_procs(left_children, timeout=grace_s)
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
