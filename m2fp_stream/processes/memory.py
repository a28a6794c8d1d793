"""Anonymous memory for pictures between processes: it has no name and ends with its users.

A memfd (memfd_create(2)) is inherited by a child or sent to it; nothing of it is in the file
system, and it is left out of core dumps. `Slots` is the layout of what is written again and again.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

__all__ = ["CARD", "FRAMES", "Slots", "make_memory", "map_memory", "open_memory"]

FRAMES: Final = (0, 1)
"""The slots of frames, used in turn: one may be written while the other one is read."""

CARD: Final = 2
"""The slot of the cover card."""

_COUNT: Final = len((*FRAMES, CARD))
_HEAD_BYTES: Final = mmap.PAGESIZE
"""Before the slots, so that each begins at a page where its size is a multiple of one."""


def make_memory(size: int = 0) -> int:
    """Returns the descriptor of a new memory of zeros; whoever gets it closes it.

    Raises:
        OSError: the system gives none.
    """
    descriptor = os.memfd_create("m2fp_stream", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def open_memory(size: int = 0) -> Generator[int]:
    """Makes a memory and closes its descriptor at the end; who mapped or got it keeps it.

    Raises:
        OSError: the system gives none.
    """
    descriptor = make_memory(size)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def map_memory(descriptor: int, size: int, *, writable: bool) -> mmap.mmap:
    """Returns a view of a memory, which core dumps leave out; it ends when nobody refers to it.

    Raises:
        OSError, ValueError: it cannot be mapped, or is smaller.
    """
    access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
    memory = mmap.mmap(descriptor, size, access=access)
    memory.madvise(mmap.MADV_DONTDUMP)
    return memory


class Slots:
    """Three slots for pictures, two for frames and one for the card; one process writes.

    A page of (number, length) pairs says what each slot holds: a number is never used twice, and 0
    says that the slot is not whole. Nothing here waits: what changes while it is read is not given.

    Args:
        memory: of `total_bytes`, zeros in the beginning.
        slot_bytes: the largest picture.
    """

    def __init__(self, memory: mmap.mmap, slot_bytes: int) -> None:
        self._memory = memory
        self._slot_bytes = slot_bytes
        head = memoryview(memory)[: 2 * 8 * _COUNT]
        self._head = head.cast("Q", (_COUNT, 2))

    @staticmethod
    def total_bytes(slot_bytes: int) -> int:
        """Returns the size of a memory with slots of `slot_bytes`."""
        return _HEAD_BYTES + _COUNT * slot_bytes

    @contextmanager
    def writing(self, slot: int, number: int, length: int) -> Generator[memoryview]:
        """Gives `length` bytes of a slot to be written under a `number` above 0, in the block.

        Raises:
            ValueError: the slot is smaller, or is not there.
        """
        if not (0 <= slot < _COUNT and 0 <= length <= self._slot_bytes):
            raise ValueError(f"a picture of {length} bytes does not fit slot {slot}")
        self._head[slot, 0] = 0  # whoever reads meanwhile sees that it is not whole
        yield self._view(slot, length)
        self._head[slot, 1] = length
        self._head[slot, 0] = number

    def put(self, slot: int, number: int, data: bytes | memoryview) -> None:
        """Lays `data` into a slot under a `number` above 0, never used for it before.

        Raises:
            ValueError: it is larger than a slot.
        """
        with self.writing(slot, number, len(data)) as view:
            view[:] = data

    def take(self, slot: int, number: int) -> bytes | None:
        """Returns what was put under that number, or None where it is no longer there."""
        if not self._holds(slot, number):
            return None
        data = bytes(self._view(slot, min(self._head[slot, 1], self._slot_bytes)))
        return data if self._holds(slot, number) else None

    def take_into(self, slot: int, number: int, target: memoryview) -> bool:
        """Copies what was put under that number into `target`, bytes; says whether it is whole."""
        if not self._holds(slot, number) or self._head[slot, 1] != len(target):
            return False
        target[:] = self._view(slot, len(target))
        return self._holds(slot, number)

    def _holds(self, slot: int, number: int) -> bool:
        return 0 <= slot < _COUNT and number > 0 and bool(self._head[slot, 0] == number)

    def _view(self, slot: int, length: int) -> memoryview:
        begin = _HEAD_BYTES + slot * self._slot_bytes
        return memoryview(self._memory)[begin : begin + length]
