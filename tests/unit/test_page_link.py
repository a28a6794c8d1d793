"""Composed pictures and small messages between two processes: nothing waits or is believed."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from m2fp_stream.sinks import page_link
from m2fp_stream.sinks.page_link import CARD, FRAMES, SLOT_BYTES, PageMemory

Pair = tuple[socket.socket, socket.socket]

_BYTES = 400_000


@pytest.fixture
def memory() -> Iterator[tuple[PageMemory, PageMemory]]:
    descriptor = page_link.make_memory()
    try:
        yield PageMemory(descriptor, writable=True), PageMemory(descriptor, writable=False)
    finally:
        os.close(descriptor)


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


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


def test_messages_arrive_in_order(pair: Pair) -> None:
    for number in range(3):
        assert page_link.send(pair[0], {"kind": "facts", "n": number})
    messages, gone = page_link.receive(pair[1])
    assert [message["n"] for message in messages] == [0, 1, 2]
    assert not gone


def test_a_full_channel_drops_and_never_waits(pair: Pair) -> None:
    sent = [page_link.send(pair[0], {"kind": "facts", "text": "x" * 10_000}) for _ in range(200)]
    assert sent[0]
    assert not sent[-1]
    messages, _ = page_link.receive(pair[1])
    assert len(messages) == sum(sent)
    assert page_link.send(pair[0], {"kind": "facts"})


@pytest.mark.parametrize(
    "data", [b"{", b"[1]", b'"kind"', b"{}", b'{"kind": 1}', b"\xff\xfe", b"[" * 50_000]
)
def test_what_is_no_message_is_left_out(pair: Pair, data: bytes) -> None:
    pair[0].send(data)
    page_link.send(pair[0], {"kind": "greet"})
    assert page_link.receive(pair[1]) == ([{"kind": "greet"}], False)


def test_the_end_of_the_other_side_is_told_after_its_messages(pair: Pair) -> None:
    page_link.send(pair[0], {"kind": "greet"})
    pair[0].close()
    assert page_link.receive(pair[1]) == ([{"kind": "greet"}], True)
    with pytest.raises(OSError, match="pipe"):
        page_link.send(pair[1], {"kind": "greet"})


def test_the_memory_has_no_name_and_is_not_inherited() -> None:
    descriptor = page_link.make_memory()
    try:
        assert not os.get_inheritable(descriptor)
        assert str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("/memfd:")
        mmap.mmap(descriptor, 4096).close()
    finally:
        os.close(descriptor)
