"""What a hardened process can no longer do, asked of the kernel rather than of the report.

Most of it cannot be undone, so it happens in processes of its own.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from m2fp_stream.privacy import hardening
from m2fp_stream.privacy.hardening import HardeningReport, Measure, harden

ROOT = Path(__file__).resolve().parent.parent.parent

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what holds")

PRELUDE = """
import ctypes, mmap, os, resource, signal, subprocess, sys, threading, time, weakref
from m2fp_stream.privacy.hardening import harden
libc = ctypes.CDLL(None)
def status(key):
    lines = open('/proc/self/status').read().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(key + ':'))
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Runs `script` after PRELUDE in a new process."""
    code = PRELUDE + textwrap.dedent(script)
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def output(script: str) -> str:
    """Runs `script`, which must succeed silently, and returns what it printed."""
    done = run(script)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


FACTS = "print(resource.getrlimit(resource.RLIMIT_CORE), libc.prctl(3), status('NoNewPrivs'))"


@linux
def test_no_core_not_dumpable_no_new_privileges() -> None:
    assert output(FACTS) != "(0, 0) 0 1"  # the control: a process is not born like this
    assert output("harden()\n" + FACTS) == "(0, 0) 0 1"


@linux
def test_a_hardened_process_that_aborts_dumps_no_core(tmp_path: Path) -> None:
    # Tests that ran the command line in this process have lowered its limit; root may raise it.
    raise_limit = f"""
    os.chdir({str(tmp_path)!r})
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    wanted = resource.RLIM_INFINITY if os.geteuid() == 0 else hard
    resource.setrlimit(resource.RLIMIT_CORE, (wanted, wanted))
    """
    if not _dumps_core(raise_limit):
        pytest.skip("this system dumps no cores, nothing to compare with")
    assert not _dumps_core(raise_limit + "harden()\n")


def _dumps_core(before: str) -> bool:
    code = PRELUDE + textwrap.dedent(before) + "os.abort()"
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], {"PYTHONPATH": str(ROOT)})
    _, wait_status = os.waitpid(pid, 0)
    assert os.WTERMSIG(wait_status) == signal.SIGABRT
    return os.WCOREDUMP(wait_status)


@linux
def test_memory_is_locked_where_the_system_allows_it() -> None:
    """Also what is mapped later; and locking brings no page in that nobody touched."""
    held, allowed, locked_kib, resident_kib = output("""
    from m2fp_stream.privacy import hardening
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    allowed = limit == resource.RLIM_INFINITY or hardening._holds_ipc_lock()
    held = next(m.holds for m in harden().measures if m.name == 'memory locked')
    before = int(status('VmLck')), int(status('VmRSS'))
    mapped = mmap.mmap(-1, 64 << 20)
    print(held, allowed, int(status('VmLck')) - before[0], int(status('VmRSS')) - before[1])
    """).split()
    assert held == allowed
    assert int(locked_kib) == (64 << 10 if held == "True" else 0)
    assert int(resident_kib) < 8 << 10


@linux
def test_under_a_finite_limit_nothing_is_locked_and_later_mappings_succeed() -> None:
    assert (
        output("""
    limit = 8 << 20
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
    no_capabilities = (ctypes.c_uint32 * 6)()
    libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), no_capabilities)
    note = next(m for m in harden().measures if m.name == 'memory locked')
    mmap.mmap(-1, 64 << 20)
    print(note.holds, status('VmLck'), 'ulimit -l' in note.note)
    """)
        == "False 0 True"
    )


@linux
def test_threads_share_two_heaps_where_asked() -> None:
    script = """
    from m2fp_stream.privacy.hardening import few_heaps
    {ask}
    gate = threading.Barrier(12)
    def work():
        kept = [libc.malloc(ctypes.c_size_t(size)) for size in range(1000, 2000)]
        gate.wait()
    threads = [threading.Thread(target=work) for _ in range(11)]
    for one in threads: one.start()
    libc.fopen.restype = ctypes.c_void_p
    libc.fflush(None)
    gate.wait()
    for one in threads: one.join()
    stream = ctypes.c_void_p.in_dll(libc, 'stdout')
    libc.malloc_info(0, stream)
    libc.fflush(None)
    """
    heaps = [output(script.format(ask=ask)).count("<heap nr") for ask in ("few_heaps()", "")]
    assert heaps[0] <= 2 < heaps[1]


@linux
@pytest.mark.parametrize("asked", [True, False])
def test_a_worker_ends_with_its_parent_where_asked(asked: bool) -> None:
    worker = PRELUDE + textwrap.dedent(f"""
    harden(parent_death_signal={asked})
    parent = os.getppid()
    print('ready', flush=True)
    while os.getppid() == parent:
        time.sleep(0.01)
    time.sleep(0.2)
    print('outlived', flush=True)
    """)
    # The worker writes straight to this test, so that it is heard after its parent's end.
    parent = f"""
    worker = subprocess.Popen([sys.executable, '-c', {worker!r}])
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(parent)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        started.stdin.write("\n")
        started.stdin.flush()
        assert started.stdout.read() == ("" if asked else "outlived\n")


CRASH = """
harden()
def open_camera():
    secret_local = 'pixels-of-a-person'
    raise OSError('no route to rtsp://bob:hunter2@cam/1')
"""


def test_a_crash_shows_the_error_without_credentials_and_locals() -> None:
    done = run(CRASH + "open_camera()")
    assert done.returncode == 1
    assert "OSError: no route to rtsp://***@cam/1" in done.stderr
    assert "in open_camera" in done.stderr
    assert "hunter2" not in done.stderr
    assert "pixels-of-a-person" not in done.stderr


def test_a_crash_of_a_thread_is_shown_likewise() -> None:
    done = run(CRASH + "t = threading.Thread(target=open_camera)\nt.start()\nt.join()")
    assert "OSError: no route to rtsp://***@cam/1" in done.stderr
    assert "hunter2" not in done.stderr


def test_a_thread_that_exits_on_purpose_is_no_crash() -> None:
    assert run(CRASH + "t = threading.Thread(target=sys.exit)\nt.start()\nt.join()").stderr == ""


UNRAISABLE = """
class Callback:
    def __call__(self, _): raise ValueError('in a callback')
    def __repr__(self): return 'pixels-of-a-person'
class Anything: pass
thing = Anything()
reference = weakref.ref(thing, Callback())
del thing
"""


def test_an_error_in_a_callback_is_shown_without_the_objects_repr() -> None:
    assert "pixels-of-a-person" in run(UNRAISABLE).stderr  # the control: Python's own hook
    stderr = run("harden()\n" + UNRAISABLE).stderr
    assert "ValueError: in a callback" in stderr
    assert "pixels-of-a-person" not in stderr


def test_a_crash_without_stderr_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    hardening._quiet_crashes()
    monkeypatch.setattr(sys, "stderr", None)
    sys.excepthook(ValueError, ValueError("x"), None)


def test_a_thread_error_without_a_value_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    hardening._quiet_crashes()
    threading.excepthook(threading.ExceptHookArgs((KeyError, None, None, None)))
    assert capsys.readouterr().err == "KeyError\n"


def test_the_interpreters_own_crash_dump_is_off() -> None:
    faulthandler.enable(2)
    hardening._quiet_crashes()
    assert not faulthandler.is_enabled()


@linux
def test_hardening_twice_changes_nothing() -> None:
    assert output("print(harden() == harden())") == "True"


# What other systems say, told by stand-ins for the system.


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)


@pytest.mark.usefixtures("elsewhere")
def test_another_system_is_told_what_is_missing() -> None:
    report = harden(parent_death_signal=True)
    missing = [measure.name for measure in report.measures if not measure.holds]
    assert missing == [
        *("no core files", "not dumpable", "no new privileges", "memory locked"),
        "ends with its parent",
    ]
    assert len(report.describe()) == 6
    assert report.describe()[1] == "NO   not dumpable: not set (win32 has no such call)"


@linux
def test_a_refused_call_is_reported_with_the_systems_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        ctypes.set_errno(1)
        return -1

    monkeypatch.setattr(hardening, "_libc", lambda: SimpleNamespace(prctl=refuse, mlockall=refuse))
    monkeypatch.setattr(hardening, "_holds_ipc_lock", lambda: True)
    monkeypatch.setattr(resource, "setrlimit", refuse_limit)
    report = harden()
    notes = {measure.name: measure.note for measure in report.measures if not measure.holds}
    assert notes == {
        "no core files": "RLIMIT_CORE cannot be set (not today)",
        "not dumpable": "not set (Operation not permitted)",
        "no new privileges": "not set (Operation not permitted)",
        "memory locked": "mlockall: Operation not permitted",
    }


def refuse_limit(*_: object) -> None:
    raise ValueError("not today")


STATUS = "Name:\tpython\nCapEff:\t{}\nThreads:\t1\n"
WHOLE = "         0          0 4294967295\n"


@pytest.mark.parametrize(
    ("status", "uid_map", "held"),
    [
        (STATUS.format("000001fffeffffff"), WHOLE, True),
        (STATUS.format("0000000000004000"), WHOLE, True),
        (STATUS.format("0000000000003000"), WHOLE, False),
        (STATUS.format("000001ffffffffff"), "0 1000 1\n", False),  # root of a container only
        ("Name:\tpython\n", WHOLE, False),
        (None, None, False),
    ],
)
def test_the_capability_counts_in_the_whole_system_only(
    monkeypatch: pytest.MonkeyPatch, status: str | None, uid_map: str | None, held: bool
) -> None:
    def read_text(path: Path, **_: object) -> str:
        text = status if path.name == "status" else uid_map
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    assert hardening._holds_ipc_lock() is held


def test_a_report_reads_as_one_line_a_measure() -> None:
    report = HardeningReport((Measure("a", True, "holds"), Measure("b", False, "why not")))
    assert report.describe() == ("yes  a: holds", "NO   b: why not")
