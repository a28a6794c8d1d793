"""A frame as the camera or file gave it. Its pixels never leave a lease."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import LeaseError
from .lease import Leased

__all__ = ["RawFrame", "Under"]

_OPAQUE: Final = 255
"""Alpha of what hides nothing."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Under:
    """What lies under a picture's transparency: looked at, and never shown.

    A head that transparency cuts is found by what it hides, and its visible rim is covered, too.

    Attributes:
        bgr: (H, W, 3) uint8, the picture as if nothing of it were transparent.
        alpha: (H, W) uint8, 0 is hidden, 255 opaque.

    Raises:
        ValueError: not as above; no object exists then.
    """

    bgr: NDArray[np.uint8]
    alpha: NDArray[np.uint8]

    @classmethod
    def of(cls, bgr: ArrayLike, alpha: NDArray[np.uint8]) -> Self | None:
        """Returns a copy of a picture without its alpha; None where that hides nothing."""
        return cls(np.array(bgr, np.uint8), alpha.copy()) if (alpha < _OPAQUE).any() else None

    def __post_init__(self) -> None:
        if self.bgr.dtype != np.uint8 or self.bgr.ndim != 3 or self.bgr.shape[2] != 3:
            raise ValueError(f"expected (H, W, 3) uint8, got {self.bgr.dtype} {self.bgr.shape}")
        if self.alpha.dtype != np.uint8 or self.alpha.shape != self.bgr.shape[:2]:
            raise ValueError(f"alpha: expected (H, W) uint8, got {self.alpha.shape}")


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
        under: what lies under `pixels` where they are transparent; they have it over black.
        give_back: called once with the pixels when the last lease ends, e.g.
            `BufferPool.give_back`; by default the pixels are zeroed in place. Those of `under`
            are given back the same way.

    Raises:
        ValueError: the pixels are not as above, or those under them of another size.
    """

    __slots__ = (
        "_give_back",
        "_leases",
        "_lock",
        "_pixels",
        "_under",
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
        under: Under | None = None,
        give_back: Callable[[NDArray[np.uint8]], None] | None = None,
    ) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"expected (H, W, 3) uint8 pixels, got {pixels.dtype} {pixels.shape}")
        if pixels.size == 0 or not pixels.flags.c_contiguous or not pixels.flags.writeable:
            raise ValueError("pixels must be non-empty, C-contiguous and writable (to be zeroed)")
        if under is not None and under.bgr.shape != pixels.shape:
            raise ValueError(f"what is under {pixels.shape} is {under.bgr.shape}")
        self._pixels: NDArray[np.uint8] | None = pixels
        self._under = under
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

        What is transparent is over black. Any thread may hold a lease. Do not keep the array: it
        will show zeros.

        Raises:
            LeaseError: the frame was released before.
        """
        pixels, _ = self._begin_lease()
        try:
            yield _read_only(pixels)
        finally:
            self._end_lease()

    @contextmanager
    def looking(self) -> Generator[NDArray[np.uint8]]:
        """Lends what is looked at: as `analysis`, but as if nothing of it were transparent.

        Raises:
            LeaseError: the frame was released before.
        """
        pixels, under = self._begin_lease()
        try:
            yield _read_only(pixels if under is None else under.bgr)
        finally:
            self._end_lease()

    @contextmanager
    def alpha(self) -> Generator[NDArray[np.uint8] | None]:
        """Lends (H, W) uint8 alpha, None where all is opaque.

        Raises:
            LeaseError: the frame was released before.
        """
        _, under = self._begin_lease()
        try:
            yield None if under is None else _read_only(under.alpha)
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

    def _begin_lease(self) -> tuple[NDArray[np.uint8], Under | None]:
        with self._lock:
            if self._pixels is None:
                raise LeaseError(f"frame {self.frame_id}: its pixels are gone (released before)")
            self._leases += 1
            return self._pixels, self._under

    def _end_lease(self) -> None:
        with self._lock:
            self._leases -= 1
            if self._leases > 0 or self._pixels is None:
                return
            ended = [self._pixels]
            if self._under is not None:
                ended.append(self._under.bgr)
                self._under.alpha.fill(0)
            self._pixels = self._under = None
        for pixels in ended:
            if self._give_back is None:
                pixels.fill(0)
            else:
                self._give_back(pixels)

    def __repr__(self) -> str:
        width, height = self.size_wh
        return f"RawFrame(frame_id={self.frame_id}, pts={self.pts}, size_wh=({width}, {height}))"


def _read_only(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    view = array.view()
    view.setflags(write=False)
    return view
