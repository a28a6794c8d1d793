"""Messages between two processes: nothing waits, nothing is believed, every end is told."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from m2fp_stream.processes import channel
from m2fp_stream.processes.channel import ChannelError
from m2fp_stream.processes.memory import open_memory

Pair = tuple[socket.socket, socket.socket]

NO_MESSAGES = [b"{", b"[1]", b'"kind"', b"\xff\xfe", b"[" * 50_000]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = channel.pair()
    with ours, theirs:
        yield ours, theirs


def test_messages_arrive_in_order(pair: Pair) -> None:
    for number in range(3):
        assert channel.send(pair[0], {"kind": "facts", "n": number})
    messages, gone = channel.receive(pair[1])
    assert [message["n"] for message in messages] == [0, 1, 2]
    assert not gone


def test_a_full_channel_drops_and_never_waits(pair: Pair) -> None:
    sent = [channel.send(pair[0], {"kind": "facts", "text": "x" * 10_000}) for _ in range(200)]
    assert sent[0]
    assert not sent[-1]
    messages, _ = channel.receive(pair[1])
    assert len(messages) == sum(sent)
    assert channel.send(pair[0], {"kind": "facts"})


@pytest.mark.parametrize("data", [*NO_MESSAGES, b"{}", b'{"kind": 1}'])
def test_what_is_no_message_is_left_out(pair: Pair, data: bytes) -> None:
    pair[0].send(data)
    channel.send(pair[0], {"kind": "greet"})
    assert channel.receive(pair[1]) == ([{"kind": "greet"}], False)


def test_the_end_of_the_other_side_is_told_after_its_messages(pair: Pair) -> None:
    channel.send(pair[0], {"kind": "greet"})
    pair[0].close()
    assert channel.receive(pair[1]) == ([{"kind": "greet"}], True)
    with pytest.raises(OSError, match="pipe"):
        channel.send(pair[1], {"kind": "greet"})


def test_one_message_is_waited_for(pair: Pair) -> None:
    sender = threading.Timer(0.05, lambda: channel.send(pair[0], {"ready": True}))
    sender.start()
    assert channel.receive_one(pair[1], 60) == {"ready": True}
    sender.join()


@pytest.mark.parametrize("timeout_s", [-1, 0, 0.05])
def test_a_wait_for_a_message_has_an_end(pair: Pair, timeout_s: float) -> None:
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        channel.receive_one(pair[1], timeout_s)
    assert time.monotonic() - began_s >= timeout_s


@pytest.mark.parametrize("data", [*NO_MESSAGES, b""])
def test_no_message_where_one_was_waited_for_is_an_error(pair: Pair, data: bytes) -> None:
    pair[0].send(data)
    with pytest.raises(ChannelError):
        channel.receive_one(pair[1], 60)
    pair[0].send(data)
    with pytest.raises(ChannelError):
        asyncio.run(channel.receive_soon(pair[1], 60))


def test_the_end_of_the_other_side_ends_every_wait(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(ChannelError):
        channel.receive_one(pair[1], None)
    with pytest.raises(ChannelError):
        channel.receive_with_descriptors(pair[1])
    with pytest.raises(ChannelError):
        asyncio.run(channel.receive_soon(pair[1], 60))


def test_a_message_longer_than_allowed_is_none(pair: Pair) -> None:
    assert channel.send(pair[0], {"kind": "x", "text": "x" * channel.MESSAGE_BYTES})
    assert channel.receive(pair[1]) == ([], False)


def test_an_event_loop_goes_on_while_a_message_is_waited_for(pair: Pair) -> None:
    async def both() -> object:
        waiting = asyncio.create_task(channel.receive_soon(pair[1], 60))
        await asyncio.sleep(0)
        channel.send(pair[0], {"ready": True})
        return await waiting

    assert asyncio.run(both()) == {"ready": True}
    with pytest.raises(TimeoutError):
        asyncio.run(channel.receive_soon(pair[1], 0.01))


def test_an_open_file_is_sent_along(pair: Pair) -> None:
    with open_memory() as memory:
        os.write(memory, b"upload")
        assert channel.send(pair[0], {"what": "parse"}, memory)
    message, (got,) = channel.receive_with_descriptors(pair[1])
    try:
        assert message == {"what": "parse"}
        assert os.pread(got, 100, 0) == b"upload"
    finally:
        os.close(got)


def test_an_open_file_that_came_with_no_message_is_closed(pair: Pair) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a count
    with open_memory() as memory:
        socket.send_fds(pair[0], [b"nonsense"], [memory])
    with pytest.raises(ChannelError):
        channel.receive_with_descriptors(pair[1])
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  # a count
