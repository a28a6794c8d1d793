"""Pictures in memory between two processes: nothing torn, nothing of another slot, no name."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from m2fp_stream.processes.memory import CARD, FRAMES, Slots, make_memory, map_memory, open_memory
from m2fp_stream.sinks import page_link
from m2fp_stream.sinks.page_link import SLOT_BYTES, PageMemory

_BYTES = 400_000


@pytest.fixture
def memory() -> Iterator[tuple[PageMemory, PageMemory]]:
    descriptor = page_link.make_memory()
    try:
        yield PageMemory(descriptor, writable=True), PageMemory(descriptor, writable=False)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("slot", [*FRAMES, CARD])
def test_what_is_put_is_taken(memory: tuple[PageMemory, PageMemory], slot: int) -> None:
    writer, reader = memory
    writer.put(slot, 1, b"first, which is longer")
    writer.put(slot, 2, b"second")
    assert reader.take(slot, 2) == b"second"
    assert reader.take(slot, 1) is None


@pytest.mark.parametrize(("slot", "number"), [(0, 2), (1, 1), (0, 0), (0, -1), (3, 1), (-1, 1)])
def test_what_was_not_put_is_not_there(
    memory: tuple[PageMemory, PageMemory], slot: int, number: int
) -> None:
    writer, reader = memory
    writer.put(0, 1, b"picture")
    assert reader.take(slot, number) is None


def test_a_length_beyond_the_slot_reads_no_other_slot(
    memory: tuple[PageMemory, PageMemory],
) -> None:
    writer, reader = memory
    writer.put(0, 1, b"picture")
    writer._head[0, 1] = 1 << 40
    data = reader.take(0, 1)
    assert data is not None
    assert len(data) == SLOT_BYTES


def test_a_picture_that_does_not_fit_is_refused(memory: tuple[PageMemory, PageMemory]) -> None:
    writer, reader = memory
    writer.put(0, 1, bytes(SLOT_BYTES))
    with pytest.raises(ValueError, match="does not fit"):
        writer.put(0, 2, bytes(SLOT_BYTES + 1))
    assert reader.take(0, 1) == bytes(SLOT_BYTES)


def test_a_reader_cannot_write(memory: tuple[PageMemory, PageMemory]) -> None:
    _, reader = memory
    with pytest.raises((TypeError, ValueError)):
        reader.put(0, 1, b"picture")


_WRITES_ON_AND_ON = f"""
import itertools, sys, time
from m2fp_stream.sinks.page_link import PageMemory
memory = PageMemory(int(sys.argv[1]), writable=True)
for number in itertools.count(1):
    memory.put(0, number, bytes([number % 251]) * {_BYTES})
    time.sleep(0.0001 * (number % 3))
"""


def test_a_slot_that_changes_while_it_is_read_gives_nothing_torn() -> None:
    descriptor = page_link.make_memory()
    reader = PageMemory(descriptor, writable=False)
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITES_ON_AND_ON, str(descriptor)], pass_fds=[descriptor]
    )
    whole = changed = 0
    deadline = time.monotonic() + 60
    try:
        while (whole < 200 or changed < 20) and time.monotonic() < deadline:
            number = int(reader._head[0, 0])
            data = reader.take(0, number)
            if data is not None:
                assert data == bytes([number % 251]) * _BYTES
                whole += 1
            elif number:
                changed += 1
    finally:
        writer.kill()
        writer.wait()
        os.close(descriptor)
    assert (whole >= 200, changed >= 20) == (True, True)


def test_the_memory_has_no_name_and_is_not_inherited() -> None:
    descriptor = page_link.make_memory()
    try:
        assert not os.get_inheritable(descriptor)
        assert str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("/memfd:")
        mmap.mmap(descriptor, 4096).close()
    finally:
        os.close(descriptor)


def test_a_slot_that_is_being_written_is_not_whole(memory: tuple[PageMemory, PageMemory]) -> None:
    writer, reader = memory
    writer.put(0, 1, b"first")
    target = bytearray(5)
    with writer.writing(0, 2, 5) as view:
        assert (reader.take(0, 1), reader.take(0, 2)) == (None, None)
        assert not reader.take_into(0, 2, memoryview(target))
        view[:] = b"other"
    assert reader.take_into(0, 2, memoryview(target))
    assert target == b"other"


@pytest.mark.parametrize(("number", "length"), [(1, 5), (2, 4), (2, 6), (0, 5)])
def test_only_the_picture_that_was_asked_for_is_copied(
    memory: tuple[PageMemory, PageMemory], number: int, length: int
) -> None:
    writer, reader = memory
    writer.put(0, 2, b"other")
    target = bytearray(length)
    assert not reader.take_into(0, number, memoryview(target))
    assert not any(target)


@pytest.mark.parametrize("slot", [-1, 3])
def test_there_is_no_other_slot(memory: tuple[PageMemory, PageMemory], slot: int) -> None:
    writer, _ = memory
    with pytest.raises(ValueError, match="does not fit slot"):
        writer.put(slot, 1, b"picture")


def test_a_memory_is_zeros_and_its_descriptor_is_closed_in_the_end() -> None:
    with open_memory(8192) as descriptor:
        mapped = map_memory(descriptor, 8192, writable=True)
        assert mapped[:] == bytes(8192)
        mapped[0] = 7
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert mapped[0] == 7


def test_a_memory_that_is_too_small_is_refused() -> None:
    descriptor = make_memory(4096)
    try:
        with pytest.raises(ValueError, match="greater than file size"):
            map_memory(descriptor, Slots.total_bytes(4096), writable=False)
    finally:
        os.close(descriptor)
