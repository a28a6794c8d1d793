"""A frame as the camera or file gave it. Its pixels never leave a lease."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from fractions import Fraction
from typing import final

import numpy as np
from numpy.typing import NDArray

from .errors import LeaseError
from .lease import Leased

__all__ = ["RawFrame"]


@final
class RawFrame(Leased):
    """One decoded frame, upright, (H, W, 3) uint8 BGR.

    The pixels can be read only inside ``with raw.analysis() as bgr:``. `release()` ends the
    owner's lease; when the last lease has ended the buffer is zeroed and goes back to its pool.
    The object refuses to become an array, a buffer, an iterator, a copy or a pickle, and its repr
    shows no pixels.

    Args:
        pixels: (H, W, 3) uint8, C-contiguous; the frame becomes its owner.
        frame_id: running number from 0, unique within a source.
        pts: timestamp in ticks of `time_base`.
        time_base: seconds a tick.
        captured_ns: `time.monotonic_ns()` at capture (for files: at decoding).
        give_back: called once with the pixels when the last lease ends, e.g.
            `BufferPool.give_back`; by default the pixels are zeroed in place.

    Raises:
        ValueError: the pixels are not as above.
    """

    __slots__ = (
        "_give_back",
        "_leases",
        "_lock",
        "_pixels",
        "captured_ns",
        "frame_id",
        "pts",
        "size_wh",
        "time_base",
    )

    _how = "raw pixels are read inside `with raw.analysis() as bgr:`"

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        *,
        frame_id: int,
        pts: int,
        time_base: Fraction,
        captured_ns: int,
        give_back: Callable[[NDArray[np.uint8]], None] | None = None,
    ) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"expected (H, W, 3) uint8 pixels, got {pixels.dtype} {pixels.shape}")
        if pixels.size == 0 or not pixels.flags.c_contiguous or not pixels.flags.writeable:
            raise ValueError("pixels must be non-empty, C-contiguous and writable (to be zeroed)")
        self._pixels: NDArray[np.uint8] | None = pixels
        self._give_back = give_back
        self._leases = 1  # the owner's
        self._lock = threading.Lock()
        self.frame_id = frame_id
        self.pts = pts
        self.time_base = time_base
        self.captured_ns = captured_ns
        self.size_wh = (int(pixels.shape[1]), int(pixels.shape[0]))

    def __init_subclass__(cls) -> None:
        raise TypeError("RawFrame is final")

    @contextmanager
    def analysis(self) -> Generator[NDArray[np.uint8]]:
        """Lends the pixels, read-only (H, W, 3) uint8 BGR, until the block ends.

        Any thread may hold a lease. Do not keep the array: it will show zeros.

        Raises:
            LeaseError: the frame was released before.
        """
        with self._lock:
            pixels = self._pixels
            if pixels is None:
                raise LeaseError(f"frame {self.frame_id}: its pixels are gone (released before)")
            self._leases += 1
        view = pixels.view()
        view.setflags(write=False)
        try:
            yield view
        finally:
            self._end_lease()

    def release(self) -> None:
        """Ends the owner's lease; calling it twice is an error of the caller.

        Raises:
            LeaseError: released before.
        """
        with self._lock:
            if self._pixels is None:
                raise LeaseError(f"frame {self.frame_id}: released twice")
        self._end_lease()

    @property
    def released(self) -> bool:
        """True once the last lease has ended and the pixels are zeroed."""
        return self._pixels is None

    def _end_lease(self) -> None:
        with self._lock:
            self._leases -= 1
            if self._leases > 0 or self._pixels is None:
                return
            pixels, self._pixels = self._pixels, None
        if self._give_back is None:
            pixels.fill(0)
        else:
            self._give_back(pixels)

    def __repr__(self) -> str:
        width, height = self.size_wh
        return f"RawFrame(frame_id={self.frame_id}, pts={self.pts}, size_wh=({width}, {height}))"
