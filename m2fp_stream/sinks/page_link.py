"""The way from the media process to the page's server: composed JPEG pictures and small messages.

Two inherited descriptors carry it. An anonymous memory holds a page of (number, length) pairs and
three slots for JPEG data: two for frames, used in turn, and one for the cover card. A socket
(SOCK_SEQPACKET) carries JSON messages, each a dictionary with a ``kind``:

    media to server
      hello     size_wh, hide (preset, or names of labels), floor, level, effect, stored, delay_s,
                fill (the effect of whole people)
      card      number: the card lies in its slot
      frame     slot, number, sent_ns, captured_ns, level, why, requested and effect: what was asked
                for before it was composed; mirrored: whether left and right are swapped in it
      facts     facts: what `LiveRun.facts` returns
    server to media
      greet     asks for `hello` and `card`
      privacy   level (parts, person or frame), effect (configured or silhouette)
      watching  count: how many clients get pictures; for none, none are made; mirror: whether
                all of them want left and right swapped; boxes: which (width, height) in pixels
                they fill with the picture's middle, or null where one did not say

Nothing here waits: a message that does not fit is dropped, and a slot that is written while it is
read gives None. Times are of CLOCK_MONOTONIC, in nanoseconds. Whoever receives checks what it gets
as if it came from a stranger.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
from typing import Any, Final, cast, final

import numpy as np

__all__ = ["CARD", "FRAMES", "SLOT_BYTES", "PageMemory", "make_memory", "receive", "send"]

FRAMES: Final = (0, 1)
CARD: Final = 2
_SLOTS: Final = 3
_HEAD_BYTES: Final = 4096

SLOT_BYTES: Final = 4 << 20
"""Largest JPEG; one of 1280x1280 pixels of noise at quality 90 is about 2 MB."""

_TOTAL_BYTES: Final = _HEAD_BYTES + _SLOTS * SLOT_BYTES
_MESSAGE_BYTES: Final = 64 << 10
_MOST_MESSAGES: Final = 4096
"""Messages taken at a time; more than a socket's buffer holds."""


def make_memory() -> int:
    """Returns the descriptor of an empty memory; whoever gets it closes it.

    Raises:
        OSError: the system gives none.
    """
    descriptor = os.memfd_create("m2fp_stream", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, _TOTAL_BYTES)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@final
class PageMemory:
    """The pictures' slots; one process writes, others read.

    Args:
        descriptor: of `make_memory`; it stays the caller's.
        writable: whether this process may write.

    Raises:
        OSError, ValueError: it cannot be mapped.
    """

    def __init__(self, descriptor: int, *, writable: bool) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._memory = mmap.mmap(descriptor, _TOTAL_BYTES, access=access)
        self._memory.madvise(mmap.MADV_DONTDUMP)
        self._head = np.frombuffer(self._memory, np.uint64, 2 * _SLOTS).reshape(_SLOTS, 2)

    def put(self, slot: int, number: int, data: bytes | memoryview) -> None:
        """Lays `data` into a slot under a `number` above 0, never used for it before.

        Raises:
            ValueError: it is larger than `SLOT_BYTES`.
        """
        if len(data) > SLOT_BYTES:
            raise ValueError(f"a picture of {len(data)} bytes does not fit {SLOT_BYTES}")
        self._head[slot, 0] = 0  # whoever reads meanwhile sees that it is not whole
        begin = _HEAD_BYTES + slot * SLOT_BYTES
        self._memory[begin : begin + len(data)] = data
        self._head[slot, 1] = len(data)
        self._head[slot, 0] = number

    def take(self, slot: int, number: int) -> bytes | None:
        """Returns what was put under that number, or None where it is no longer there."""
        if slot not in (*FRAMES, CARD) or number <= 0 or int(self._head[slot, 0]) != number:
            return None
        length = min(int(self._head[slot, 1]), SLOT_BYTES)
        begin = _HEAD_BYTES + slot * SLOT_BYTES
        data = self._memory[begin : begin + length]
        return data if int(self._head[slot, 0]) == number else None


def send(channel: socket.socket, message: dict[str, Any]) -> bool:
    """Sends a message if that can be done at once; says whether it was.

    Raises:
        OSError: the other end is gone for good.
    """
    try:
        channel.send(json.dumps(message).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return False
    return True


def receive(channel: socket.socket) -> tuple[list[dict[str, Any]], bool]:
    """Returns the messages that have come, and whether the other end is gone.

    What is no message is left out.
    """
    messages: list[dict[str, Any]] = []
    for _ in range(_MOST_MESSAGES):
        try:
            data = channel.recv(_MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        except OSError:
            return messages, True
        if not data:
            return messages, True
        try:
            message: object = json.loads(data)
        except (ValueError, RecursionError):
            continue
        if isinstance(message, dict):
            said = cast("dict[str, Any]", message)
            if isinstance(said.get("kind"), str):
                messages.append(said)
    return messages, False
