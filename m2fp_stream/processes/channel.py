"""The channel between two processes: small JSON messages through a pair of sockets.

The sockets are of type SOCK_SEQPACKET, which keeps messages apart: one that is sent arrives whole
or not at all. Each message is a JSON object; where both ends speak unasked, its ``kind`` says what
it is. Whoever receives checks what it gets as if it came from a stranger.
"""

from __future__ import annotations

import json
import os
import select
import socket
from typing import Any, Final, cast, final

__all__ = [
    "MESSAGE_BYTES",
    "ChannelError",
    "Message",
    "inherited",
    "pair",
    "receive",
    "receive_one",
    "receive_soon",
    "receive_with_descriptors",
    "send",
]

Message = dict[str, Any]

MESSAGE_BYTES: Final = 64 << 10
"""Longest message; of a longer one the rest is lost, which makes it none. The longest that is sent
are facts of a live run, of some KB. Chosen."""

_MOST_MESSAGES: Final = 4096
"""Messages taken at a time; more than a socket's buffer of 208 KiB holds. Source: socket(7),
wmem_default; each message takes some hundred bytes of it."""


@final
class ChannelError(ConnectionError):
    """The other end is gone, or what it sent is no message."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Returns the two ends of a new channel.

    Raises:
        OSError: the system gives none.
    """
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def inherited(descriptor: str) -> socket.socket:
    """Returns the end that this process got from its parent, who named it by its number."""
    return socket.socket(fileno=int(descriptor))


def send(channel: socket.socket, message: Message, *descriptors: int) -> bool:
    """Sends a message if that can be done at once; says whether it was.

    Args:
        channel: this end.
        message: JSON values.
        descriptors: open files that the other end gets, too; they stay the caller's.

    Raises:
        OSError: the other end is gone for good.
    """
    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
    data = json.dumps(message).encode()
    try:
        if descriptors:
            socket.send_fds(channel, [data], list(descriptors), flags)
        else:
            channel.send(data, flags)
    except BlockingIOError:
        return False
    return True


def receive(channel: socket.socket) -> tuple[list[Message], bool]:
    """Returns the messages that have come, and whether the other end is gone; never waits.

    What is no message, or has no ``kind``, is left out.
    """
    messages: list[Message] = []
    for _ in range(_MOST_MESSAGES):
        try:
            data = channel.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        except OSError:
            return messages, True
        if not data:
            return messages, True
        message = _message(data)
        if message is not None and isinstance(message.get("kind"), str):
            messages.append(message)
    return messages, False


def receive_one(channel: socket.socket, timeout_s: float | None) -> Message:
    """Waits for the next message and returns it.

    Args:
        channel: this end.
        timeout_s: seconds to wait at most, 0 for not at all; None: no limit.

    Raises:
        TimeoutError: none has come.
        ChannelError: see there.
    """
    poll = select.poll()  # unlike a time limit of the socket's, it does not hold for sending, too
    poll.register(channel, select.POLLIN)
    if not poll.poll(None if timeout_s is None else 1000 * max(0.0, timeout_s)):
        raise TimeoutError
    try:
        return _checked(channel.recv(MESSAGE_BYTES))
    except OSError:
        raise ChannelError from None


async def receive_soon(channel: socket.socket, timeout_s: float) -> Message:
    """Does what `receive_one` does, and lets the event loop of its thread go on meanwhile.

    Raises:
        TimeoutError, ChannelError: see `receive_one`.
    """
    import asyncio

    channel.setblocking(False)
    async with asyncio.timeout(timeout_s):
        try:
            data = await asyncio.get_running_loop().sock_recv(channel, MESSAGE_BYTES)
        except OSError:
            data = b""
    return _checked(data)


def receive_with_descriptors(channel: socket.socket) -> tuple[Message, list[int]]:
    """Waits for the next message; returns it and the open files that came with it, one at most.

    They are the caller's to close.

    Raises:
        ChannelError: see there; no file is left open.
    """
    data, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 1)
    try:
        return _checked(data), descriptors
    except ChannelError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def _message(data: bytes) -> Message | None:
    try:
        message: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("Message", message) if isinstance(message, dict) else None


def _checked(data: bytes) -> Message:
    message = _message(data)
    if message is None:  # nothing at all is the end
        raise ChannelError
    return message
