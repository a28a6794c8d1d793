"""Memory for raw pixels: anonymous, kept out of core dumps, zeroed before it is used again."""

from __future__ import annotations

import mmap
import threading
from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BufferPool"]


@final
class BufferPool:
    """Hands out zeroed (H, W, 3) uint8 buffers and zeroes each one that comes back.

    Buffers are private anonymous mappings marked ``MADV_DONTDUMP``. Freed ones are kept for the
    next frame of the same size, at most `keep` of them. Any thread may call any method.
    """

    def __init__(self, *, keep: int = 4) -> None:
        if keep < 0:
            raise ValueError(f"keep must be >= 0, got {keep}")
        self._keep = keep
        self._free: list[NDArray[np.uint8]] = []
        self._outstanding = 0
        self._lock = threading.Lock()

    def __init_subclass__(cls) -> None:
        raise TypeError("BufferPool is final")

    @property
    def outstanding(self) -> int:
        """How many buffers are out."""
        return self._outstanding

    def take(self, height: int, width: int) -> NDArray[np.uint8]:
        """Returns a writable, all-zero (height, width, 3) uint8 array.

        Raises:
            ValueError: a side is not positive.
            MemoryError: the system has no such memory.
        """
        if height <= 0 or width <= 0:
            raise ValueError(f"a buffer needs positive sides, got {width}x{height}")
        count = height * width * 3
        with self._lock:
            self._outstanding += 1
            while self._free:
                flat = self._free.pop()
                if flat.size == count:
                    return flat.reshape(height, width, 3)
        try:
            memory = mmap.mmap(-1, count)
        except OSError as error:
            with self._lock:
                self._outstanding -= 1
            raise MemoryError(f"no memory for a {width}x{height} frame: {error.strerror}") from None
        if hasattr(mmap, "MADV_DONTDUMP"):
            memory.madvise(mmap.MADV_DONTDUMP)
        return np.frombuffer(memory, dtype=np.uint8).reshape(height, width, 3)

    def give_back(self, pixels: NDArray[np.uint8]) -> None:
        """Zeroes `pixels` (a buffer of `take`) at once; views of it show zeros from now on."""
        pixels.fill(0)
        with self._lock:
            self._outstanding -= 1
            if len(self._free) < self._keep:
                self._free.append(pixels.reshape(-1))
