"""What the sandbox is made of; that it holds is tested in tests/e2e/test_shut_in.py."""

from __future__ import annotations

import errno
import struct
import threading
from pathlib import Path

import pytest

from m2fp_stream.privacy import sandbox

ALLOWED, REFUSED, KILLED = 0x7FFF0000, 0x00050001, 0x80000000
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
SOCKET = {"x86_64": 41, "aarch64": 198}
PAIR = {"x86_64": 53, "aarch64": 199}
EVERYDAY = {"x86_64": (0, 1, 9, 56, 59, 257, 435), "aarch64": (63, 64, 222, 220, 221, 56, 435)}
"""read, write, mmap, clone, execve, openat, clone3."""


def answer(program: bytes, machine: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: runs the filter (seccomp(2), linux/filter.h)."""
    call = struct.pack("=IIQ6Q", number, machine, 0, *arguments, *[0] * (6 - len(arguments)))
    lines = list(struct.iter_unpack("=HBBI", program))
    at, held = 0, 0
    while True:
        code, if_true, if_false, value = lines[at]
        at += 1
        match code:
            case 0x20:
                (held,) = struct.unpack_from("=I", call, value)
            case 0x54:
                held &= value
            case 0x15:
                at += if_true if held == value else if_false
            case 0x35:
                at += if_true if held >= value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("locally", [False, True])
def test_the_filter_refuses_what_leads_out_and_lets_the_rest_pass(
    machine: str, locally: bool
) -> None:
    program = sandbox._filter(machine, locally=locally)
    name, socket, pair = MACHINES[machine], SOCKET[machine], PAIR[machine]
    for number in EVERYDAY[machine]:
        assert answer(program, name, number, 41, 1) == ALLOWED
    for number in sandbox._REFUSED[machine]:
        assert answer(program, name, number) == REFUSED
    assert answer(program, name, socket, 2, 1) == REFUSED  # AF_INET
    assert answer(program, name, socket, 16, 3) == REFUSED  # AF_NETLINK
    assert answer(program, name, socket, 1, 1) == (ALLOWED if locally else REFUSED)
    for close_on_exec in (0, 0o2000000):
        assert answer(program, name, pair, 1, 5 | close_on_exec) == ALLOWED
        assert answer(program, name, pair, 1, 2 | close_on_exec) == REFUSED
    assert answer(program, 0x40000003, 1) == KILLED  # 32-bit calls have other numbers
    if machine == "x86_64":
        assert answer(program, name, 0x40000000 | 41) == REFUSED


def test_both_machines_refuse_the_same_calls() -> None:
    counts = {machine: len(set(numbers)) for machine, numbers in sandbox._REFUSED.items()}
    assert counts["x86_64"] == counts["aarch64"] == len(sandbox._REFUSED["x86_64"])


def test_where_the_kernel_has_none_of_it_a_run_goes_on_and_doctor_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(sandbox, "_call", none)
    monkeypatch.setattr(sandbox, "_limit_memory", lambda _: None)
    monkeypatch.setattr(sandbox, "_drop_capabilities", lambda: None)
    waits = threading.Event()
    other = threading.Thread(target=waits.wait)
    other.start()
    try:
        sandbox.enter(reads=[tmp_path])
    finally:
        waits.set()
        other.join()
    assert "threads are not shut in: they ran before" in caplog.text
    files, calls, _ = sandbox.available()
    assert (files.holds, calls.holds) == (False, False)
    assert "no Landlock: a decoder's bug could read and write your files" in files.note
    assert "a decoder's bug could connect" in calls.note
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert "riscv64" in sandbox.available()[1].note
    sandbox._restrict_calls(locally=False)


def test_the_folder_that_is_worked_in_is_not_read_as_a_place_of_modules(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "modules").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), "", str(tmp_path / "modules")])
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path / 'libraries'}:")
    places = set(sandbox._python())
    assert {tmp_path / "modules", tmp_path / "libraries"} <= places
    assert not {tmp_path, Path()} & places


def test_memory_is_bounded_above_what_a_run_needs() -> None:
    assert sandbox._memory_limit(0) >= sandbox.MEMORY_BYTES
    assert sandbox._memory_limit(176) - sandbox._memory_limit(0) == 176 << 20
