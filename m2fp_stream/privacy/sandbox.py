"""Shuts a process in before it decodes: a bug in a decoder must not read or write anything else.

Whoever finds a hole in FFmpeg, libheif or an image codec and has somebody open his file would run
code of his own in our process. `enter` takes from it, and from whatever it starts, for good, what
no run over a file needs: all files but Python, libraries, fonts and the inputs that were named, all
writing (outputs are made, and get their names, by `privacy.broker`), the network, other programs,
other processes, and more memory than pictures need. What stays is the content of those files, and
what is sent to standard output and error.

By Landlock (files, connections, signals) and a seccomp filter (sockets, ptrace, io_uring and other
calls). Both hold for the calling thread and what it starts, the filter for all threads: call it
while there is one. Where the system has neither, it goes on without, and `available` says so.

Written here with ctypes: what PyPI has of it is a pre-release (`landlock`), without a release for
years (`pyseccomp`, and python-prctl) or some months old, and each would stand between us and three
system calls.

Sources: landlock(7), landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2),
linux/landlock.h; seccomp(2), linux/filter.h, linux/seccomp.h; capset(2), capabilities(7);
setrlimit(2).
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import re
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from .hardening import Measure

__all__ = ["MEMORY_BYTES", "available", "enter"]

_log = logging.getLogger(__name__)

_CREATE, _ADD, _RESTRICT = 444, 445, 446
"""System calls, of every machine but alpha. Source: landlock(7)."""
_VERSION: Final = 1
"""LANDLOCK_CREATE_RULESET_VERSION."""
_BENEATH: Final = 1
"""LANDLOCK_RULE_PATH_BENEATH."""

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_TRUNCATE: Final = 1 << 14
_READ: Final = _READ_FILE | _READ_DIR
_IOCTL_DEV: Final = 1 << 15
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
"""Rights that a rule for what is no folder may give. Source: linux/landlock.h."""
_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights over files that a version of Landlock knows, and what follows up to the next one."""
_CHANGE: Final = (1 << 13) - 1 & ~_EXECUTE | _TRUNCATE
"""All that may be done in a folder of our own, but for execution."""
_TCP: Final = 1 << 0 | 1 << 1
"""Binding and connecting; from version 4 on."""
_SCOPED: Final = 1 << 0 | 1 << 1
"""Abstract sockets and signals of processes outside; from version 6 on."""

_SYSTEM: Final = (
    *("/usr", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/ssl/openssl.cnf"),
    *("/etc/localtime", "/etc/locale.alias", "/dev/urandom", "/dev/random"),
    *("/proc", "/sys/devices", "/sys/bus/pci", "/sys/fs/cgroup"),
)
"""What libraries read: themselves, the time zone, what processor this is. Of other processes /proc
says only what everybody may know: Landlock keeps memory and environment closed."""

_PR_CAPBSET_DROP: Final = 24
"""Source: linux/prctl.h."""
_CAPABILITY_VERSION: Final = 0x20080522
_KEPT: Final = 1 << 1 | 1 << 2 | 1 << 14
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_IPC_LOCK. Source: linux/capability.h."""

_PACKAGE: Final = Path(__file__).resolve().parents[1]

MEMORY_BYTES: Final = 4 << 30
"""Private memory that every process may have, at least. Measured (VmData, the most of any process
of a run): 0.7 GiB with a film of 1920x1080, 2.5 GiB with one of 7680x4320."""
_MEMORY_SHARE: Final = 0.75
"""Of the machine's memory, where that is more. Chosen: the rest of the machine lives on."""

_NUMBERS: Final = {
    "x86_64": (0xC000003E, 317, 41, 53),
    "aarch64": (0xC00000B7, 277, 198, 199),
}
"""By machine: its name in a filter, and its numbers of seccomp, socket and socketpair. Source:
linux/audit.h, asm/unistd_64.h, asm-generic/unistd.h."""
_REFUSED: Final = {
    "x86_64": (
        *(101, 310, 311, 312, 438),  # ptrace, process_vm_readv, _writev, kcmp, pidfd_getfd
        *(425, 426, 427, 321, 298, 323),  # io_uring, bpf, perf_event_open, userfaultfd
        *(248, 249, 250),  # add_key, request_key, keyctl
        *(155, 161, 165, 166, 272, 308),  # pivot_root, chroot, mount, umount2, unshare, setns
        *(169, 175, 246, 304, 313, 320),  # reboot, modules, kexec, open_by_handle_at
        *(29, 64, 68, 240, 322),  # shmget, semget, msgget, mq_open, execveat
    ),
    "aarch64": (
        *(117, 270, 271, 272, 438),
        *(425, 426, 427, 280, 241, 282),
        *(217, 218, 219),
        *(41, 51, 40, 39, 97, 268),
        *(142, 105, 104, 265, 273, 294),
        *(194, 190, 186, 180, 281),
    ),
}
"""Calls that nothing here makes, and that would lead around the rest."""

_AF_UNIX: Final = 1
_SOCK_SEQPACKET: Final = 5
_SOCK_KIND: Final = 0xF
"""Source: linux/net.h, SOCK_TYPE_MASK."""
_EPERM: Final = 1
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERROR: Final = 0x00050000
_FILTER_MODE: Final = 1
_ALL_THREADS: Final = 1
"""Source: linux/seccomp.h."""
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
"""Instructions. Source: linux/bpf_common.h."""
_NUMBER_AT, _MACHINE_AT, _FIRST_AT, _SECOND_AT = 0, 4, 16, 24
"""Where they stand in seccomp_data, little-endian: the call, the machine, two arguments."""
_X32: Final = 0x40000000
"""Calls of another interface of x86-64 begin here. Source: asm/unistd.h."""


def available() -> tuple[Measure, ...]:
    """Returns what of it this system has; changes nothing."""
    version = _landlock_version()
    files = Measure(
        "decoder's files",
        version > 0,
        f"Landlock {version}: only what was named"
        if version > 0
        else "the kernel has no Landlock: a decoder's bug could read and write your files",
    )
    machine = platform.machine()
    calls = Measure(
        "decoder's calls",
        _seccomp_known(),
        "seccomp: no sockets, no other processes"
        if _seccomp_known()
        else f"no seccomp filter here ({sys.platform}, {machine}): a decoder's bug could connect",
    )
    return files, calls, Measure("decoder's memory", True, f"{_memory_limit(0) / 2**30:.1f} GiB")


def enter(
    *,
    reads: Iterable[Path],
    changes: Iterable[Path] = (),
    buffer_mb: int = 0,
    speaks_locally: bool = False,
) -> None:
    """Shuts this process in, and all that it starts; for good.

    `harden` must have been called. No other thread may run, or Landlock would not hold for it; it
    is logged then.

    Args:
        reads: files and folders that may be read; missing ones are passed over.
        changes: folders in which anything may be made, changed and removed.
        buffer_mb: memory for frames, beside what else is allowed.
        speaks_locally: whether it may connect to programs of this machine by sockets with a name;
            the system's keyring is one.
    """
    _limit_memory(buffer_mb)
    if sys.platform != "linux":
        return
    with suppress(OSError):
        if (threads := len([*Path("/proc/self/task").iterdir()])) > 1:
            _log.warning("%d threads are not shut in: they ran before", threads - 1)
    with suppress(OSError):
        _drop_capabilities()
    with suppress(OSError):
        _restrict_files([*reads], [*changes], locally=speaks_locally)
    with suppress(OSError):
        _restrict_calls(locally=speaks_locally)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    """Makes a system call.

    Raises:
        OSError: it failed.
    """
    words = [
        ctypes.c_ulong(one) if isinstance(one, int) else one  # variadic: it wants whole words
        for one in arguments
    ]
    result = int(_libc().syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _drop_capabilities() -> None:
    """Gives up what root may and others may not, but to read what was named, and to lock memory.

    Root could read the environment of others in spite of Landlock (CAP_PERFMON; seen on Linux 6.18)
    and raise the limit of memory.
    """
    for capability in range(64):
        if not _KEPT >> capability & 1:
            _libc().prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), *[ctypes.c_ulong(0)] * 3)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0), 8)
    held = ctypes.create_string_buffer(24)
    if _libc().capget(header, held) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    # Effective, permitted and inheritable, for numbers to 31, then for those above.
    low = [word & _KEPT for word in struct.unpack("=3I3I", held.raw)[:2]]
    left = ctypes.create_string_buffer(struct.pack("=3I3I", *low, 0, 0, 0, 0), 24)
    if _libc().capset(header, left) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# ------------------------------------------------------------------------------------------- files


def _landlock_version() -> int:
    """Returns the version of Landlock, 0 where there is none."""
    if sys.platform != "linux":
        return 0
    try:
        return _call(_CREATE, 0, 0, _VERSION)
    except OSError:
        return 0


def _restrict_files(reads: list[Path], changes: list[Path], *, locally: bool) -> None:
    version = _landlock_version()
    if version == 0:
        return
    rights = _RIGHTS[max(first for first in _RIGHTS if first <= version)]
    scoped = _SCOPED if version >= 6 and not locally else 0
    attributes = struct.pack("=QQQ", rights, _TCP if version >= 4 else 0, scoped)
    known = 24 if version >= 6 else 16 if version >= 4 else 8  # bytes of it
    rules = _call(_CREATE, attributes, known, 0)
    try:
        for path in (*map(Path, _SYSTEM), *_python(), *reads):
            _allow(rules, path, _READ & rights)
        _allow(rules, _PACKAGE.parent, _READ_DIR)  # Python finds modules by the names in a folder
        for path in _programs():
            _allow(rules, path, _EXECUTE)
        _allow(rules, Path(os.devnull), _OF_FILES & ~_EXECUTE & rights)
        for path in changes:
            _allow(rules, path, _CHANGE & rights)
        _call(_RESTRICT, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    """Allows what is given at and below a path, where there is one."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return
    try:
        if not path.is_dir():
            rights &= _OF_FILES
        _call(_ADD, rules, _BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def _python() -> Iterator[Path]:
    """Gives where Python and its modules are; the folder that is worked in is not among them."""
    yield from map(Path, {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix})
    here = None
    with suppress(OSError):  # it may have been removed
        here = Path.cwd()
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    yield from (Path(one) for one in filter(None, (*sys.path, *libraries)) if Path(one) != here)
    yield _PACKAGE


def _programs() -> Iterator[Path]:
    """Gives what may be executed: this very Python, and what the system loads it with."""
    yield Path(sys.executable)
    with suppress(OSError):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        for name in set(re.findall(r"(/\S*/ld-(?:linux|musl)\S*)$", maps, re.MULTILINE)):
            yield Path(name)


# ------------------------------------------------------------------------------------------- calls


def _seccomp_known() -> bool:
    if sys.platform != "linux" or platform.machine() not in _NUMBERS:
        return False
    with suppress(OSError):
        kill = ctypes.c_uint32(_KILL)
        _call(_NUMBERS[platform.machine()][1], 2, 0, ctypes.byref(kill))  # ..._GET_ACTION_AVAIL
        return True
    return False


def _restrict_calls(*, locally: bool) -> None:
    machine = platform.machine()
    if machine not in _NUMBERS:
        return
    program = _filter(machine, locally=locally)
    held = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(held))
    _call(_NUMBERS[machine][1], _FILTER_MODE, _ALL_THREADS, described)


def _filter(machine: str, *, locally: bool) -> bytes:
    """Returns the filter's program: refuses what is named, and lets all else pass."""
    name, _, socket, pair = _NUMBERS[machine]
    refuse = (_RETURN, 0, 0, _ERROR | _EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    lines = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_EQUAL, 1, 0, name),
        (_RETURN, 0, 0, _KILL),  # another machine's calls have other numbers
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if machine == "x86_64":
        lines += [(_AT_LEAST, 0, 1, _X32), refuse]
    for number in _REFUSED[machine]:
        lines += [(_EQUAL, 0, 1, number), refuse]
    # A socket is refused, and a pair that could send to others; ours cannot.
    lines += [(_EQUAL, 0, 4, socket), (_LOAD, 0, 0, _FIRST_AT)]
    lines += [(_EQUAL, 0, 1, _AF_UNIX if locally else 0xFFFFFFFF), allow, refuse]
    lines += [(_EQUAL, 0, 4, pair), (_LOAD, 0, 0, _SECOND_AT), (_AND, 0, 0, _SOCK_KIND)]
    lines += [(_EQUAL, 1, 0, _SOCK_SEQPACKET), refuse, allow]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


# ------------------------------------------------------------------------------------------ memory


def _memory_limit(buffer_mb: int) -> int:
    machine = 0
    with suppress(OSError, ValueError, AttributeError):
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(MEMORY_BYTES, int(_MEMORY_SHARE * machine)) + (buffer_mb << 20)


def _limit_memory(buffer_mb: int) -> None:
    """Bounds each process's private memory; one that has none left ends in an error of ours."""
    with suppress(ImportError, OSError, ValueError, AttributeError):
        import resource  # absent on Windows

        wanted = _memory_limit(buffer_mb)
        for limit in resource.getrlimit(resource.RLIMIT_DATA):
            if limit != resource.RLIM_INFINITY:
                wanted = min(wanted, limit)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))
