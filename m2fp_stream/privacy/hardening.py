"""What a process does to itself before it touches footage (P7).

`harden()` is the first call of every process: of the command line, and again of every worker,
because a new program starts dumpable and memory locks do not pass to children. Where the system
cannot do something the report says so; nothing here raises.

Sources: the manual pages core(5), prctl(2), PR_SET_DUMPABLE(2const), PR_SET_PDEATHSIG(2const),
mlockall(2), capabilities(7), user_namespaces(7); numbers from linux/prctl.h and
asm-generic/mman.h.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import platform
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, final

from ..core.redact import redact

__all__ = [
    "HardeningReport",
    "Measure",
    "few_heaps",
    "harden",
    "hide_arguments",
    "silence_libraries",
]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
"""Source: linux/prctl.h."""

_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4
_MCL_ARCHITECTURES: Final = frozenset(
    {"x86_64", "i686", "aarch64", "armv7l", "riscv64", "loongarch64", "s390x"}
)
"""Machines with the numbers above; others (alpha, powerpc, sparc) have their own. Source:
linux/mman.h of each."""

_M_ARENA_MAX: Final = -8
"""Source: glibc's malloc.h."""
_HEAPS: Final = 2
"""For all threads of a process. Chosen: glibc's default, eight a core, keeps memory in each."""

_ARG_START: Final = 48
"""Field of `/proc/self/stat` with the address of the arguments; the next one says where they end.
Source: proc_pid_stat(5)."""

_CAP_IPC_LOCK: Final = 14
"""Source: linux/capability.h."""
_WHOLE_SYSTEM: Final = ("0", "0", "4294967295")
"""`/proc/self/uid_map` of the initial user namespace; in others CAP_IPC_LOCK does not count.
Source: user_namespaces(7)."""


@final
@dataclass(frozen=True, slots=True)
class Measure:
    """One measure: its name, whether it holds, and what that means or why it does not."""

    name: str
    holds: bool
    note: str


@final
@dataclass(frozen=True, slots=True)
class HardeningReport:
    """Which measures hold in this process."""

    measures: tuple[Measure, ...]

    def describe(self) -> tuple[str, ...]:
        """Returns one line a measure, for `doctor`."""
        return tuple(
            f"{'yes' if measure.holds else 'NO '}  {measure.name}: {measure.note}"
            for measure in self.measures
        )


def harden(*, parent_death_signal: bool = False) -> HardeningReport:
    """Makes this process keep its memory to itself, as far as the system lets it.

    No core dump, not readable by other processes of the user, no new privileges, memory locked
    against swapping, and crash output without values. The umask stays: outputs are the user's.
    Call it before other threads start; calling it again changes nothing.

    Args:
        parent_death_signal: for workers: the kernel kills this process when its parent ends. The
            parent is the *thread* that started it, so start workers from one that lives as long.
            A parent that had ended before the call is not noticed.

    Returns:
        What holds and what does not. It never raises.
    """
    silence_libraries()
    measures = [
        _no_core_files(),
        _prctl("not dumpable", _PR_SET_DUMPABLE, 0, "other processes cannot read its memory"),
        _prctl("no new privileges", _PR_SET_NO_NEW_PRIVS, 1, "set-uid programs gain it nothing"),
        _lock_memory(),
        _quiet_crashes(),
    ]
    if parent_death_signal:
        note = "is killed when its parent ends"
        measures.append(_prctl("ends with its parent", _PR_SET_PDEATHSIG, signal.SIGKILL, note))
    return HardeningReport(tuple(measures))


def silence_libraries() -> None:
    """Keeps libraries from talking to their makers (P9); call it before they are imported.

    ONNX Runtime's Linux builds from 1.29 on otherwise look up a host and keep a database in the
    user's cache as soon as they are imported, even if nothing is run. Source: onnxruntime pull
    request 27379; seen here with strace, held by `tests/e2e/test_strace.py`.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def hide_arguments(arguments: Sequence[str], *, secret: Sequence[str] = ()) -> bool:
    """Takes passwords out of what a list of processes shows of this one (Linux).

    Every user of the machine can read the command line of every process. Those of `arguments` that
    `redact` would change are overwritten in place, and all of those that are `secret`, from now on:
    whoever looks in the first moment sees them still. Returns whether there was nothing to hide, or
    it was done.
    """
    hidden = {one: redact(one) for one in arguments if redact(one) != one}
    hidden |= dict.fromkeys(secret, "***")
    if not hidden:
        return True
    try:
        # The second field, the program's name, may hold anything.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
        numbers = fields.rpartition(")")[2].split()
        start, end = (int(numbers[field - 3]) for field in (_ARG_START, _ARG_START + 1))
        line = ctypes.string_at(start, end - start)
        for secret, shown in hidden.items():
            old = b"\0" + os.fsencode(secret) + b"\0"
            new = os.fsencode(shown)[: len(old) - 2].ljust(len(old) - 2, b"*")
            if old not in line:
                return False
            while (at := line.find(old)) >= 0:  # it may have been given twice
                line = line.replace(old, b"\0" + new + b"\0", 1)
                ctypes.memmove(start + at + 1, new, len(new))
    except (OSError, ValueError, IndexError):
        return False
    return True


def few_heaps() -> bool:
    """Has the threads of this process share two heaps; call it before they start.

    glibc gives each thread a heap, up to eight a core. Pictures and flow are passed from thread to
    thread, so each heap keeps the memory of its busiest moment, and locked pages (`harden`) are
    not given back. Returns whether the system could be told so.

    Source: mallopt(3), M_ARENA_MAX.
    """
    try:
        return bool(_libc().mallopt(_M_ARENA_MAX, _HEAPS) == 1)
    except (OSError, AttributeError):  # another C library
        return False


def _no_core_files() -> Measure:
    name = "no core files"
    try:
        import resource  # absent on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError) as error:
        return Measure(name, False, f"RLIMIT_CORE cannot be set ({error})")
    # A core_pattern that is a pipe ignores this limit; "not dumpable" covers it.
    return Measure(name, True, "RLIMIT_CORE is 0")


def _libc() -> ctypes.CDLL:
    """Returns this process's C library.

    Raises:
        OSError: not Linux.
    """
    if sys.platform != "linux":
        raise OSError(f"{sys.platform} has no such call")
    return ctypes.CDLL(None, use_errno=True)


def _prctl(name: str, option: int, value: int, note: str) -> Measure:
    try:
        zero = ctypes.c_ulong(0)  # variadic: the kernel wants whole words
        if _libc().prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except OSError as error:
        return Measure(name, False, f"not set ({error.strerror or error})")
    return Measure(name, True, note)


def _lock_memory() -> Measure:
    """Locks pages as they are first touched (MCL_ONFAULT: no page is brought in for the lock).

    Under a finite RLIMIT_MEMLOCK the lock on future mappings would make a later `mmap` fail in the
    middle of a film, so it is not even tried.

    How measured: 20 runs of NanoDet in OpenCV and 60 frames of 720p encoded by libx264, twice each:
    peak resident memory 393 and 397 MB with the lock, 398 and 400 MB without.
    """
    name = "memory locked"
    if sys.platform != "linux" or platform.machine() not in _MCL_ARCHITECTURES:
        return Measure(name, False, f"not known how on {sys.platform} {platform.machine()}")
    import resource

    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and not _holds_ipc_lock():
        return Measure(
            name,
            False,
            f"RLIMIT_MEMLOCK is {limit // 1024} KiB: raw frames may be swapped out "
            "(raise it: ulimit -l unlimited; or use encrypted swap or none)",
        )
    if _libc().mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        return Measure(name, False, f"mlockall: {os.strerror(ctypes.get_errno())}")
    return Measure(name, True, "raw frames are not swapped out")


def _holds_ipc_lock() -> bool:
    """Returns whether CAP_IPC_LOCK is held where mlockall asks for it: in the whole system."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        users = Path("/proc/self/uid_map").read_text(encoding="ascii")
    except OSError:  # no /proc: nothing says that it is held
        return False
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    held = found is not None and bool(int(found[1], 16) >> _CAP_IPC_LOCK & 1)
    return held and tuple(users.split()) == _WHOLE_SYSTEM


def _quiet_crashes() -> Measure:
    """Crash output names files, lines and errors: no local variable, no repr of an object."""
    faulthandler.disable()
    sys.excepthook = _report_exception
    threading.excepthook = _report_thread_exception
    sys.unraisablehook = _report_unraisable
    return Measure("crash output", True, "without local variables, reprs and credentials")


def _lines(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> Iterator[str]:
    shown = error if error is not None else kind()
    yield from traceback.TracebackException(kind, shown, trace, capture_locals=False).format()


def _report_exception(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if sys.stderr is not None:
        sys.stderr.write(redact("".join(_lines(kind, error, trace))))


def _report_thread_exception(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is not SystemExit:
        _report_exception(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)


def _report_unraisable(arguments: sys.UnraisableHookArgs) -> None:
    # Python's own hook prints repr(arguments.object), which may be an array.
    _report_exception(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
