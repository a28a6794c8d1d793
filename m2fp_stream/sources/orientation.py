"""How a stored picture is turned upright: the eight ways that containers and EXIF know."""

from __future__ import annotations

from typing import Final, NamedTuple, Self

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

__all__ = ["Orientation"]


class Orientation(NamedTuple):
    """What turns a stored picture upright: first transpose, then mirror."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def from_matrix(cls, a: int, b: int, c: int, d: int) -> Self:
        """Returns the orientation nearest to a display matrix.

        Source: ISO/IEC 14496-12, 6.2.2: x' = ax + cy, y' = bx + dy, y pointing down.
        """
        if abs(b) > abs(a):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    @classmethod
    def from_exif(cls, value: int) -> Self:
        """Returns the orientation that EXIF's tag 274 means; upright where it means nothing."""
        return cls(*_EXIF.get(value, (False, False, False)))

    def size_of(self, width: int, height: int) -> tuple[int, int]:
        """Returns (width, height) of a stored picture once it is upright."""
        return (height, width) if self.transpose else (width, height)

    def turn(self, stored: MatLike, upright: NDArray[np.uint8]) -> None:
        """Writes `stored` upright into `upright`; then zeroes `stored`, which it may have used."""
        turned = cv2.transpose(stored) if self.transpose else stored
        if self.mirror_x or self.mirror_y:
            cv2.flip(turned, -1 if self.mirror_x and self.mirror_y else int(self.mirror_x), upright)
        else:
            np.copyto(upright, turned)
        turned.fill(0)
        stored.fill(0)


_EXIF: Final = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
"""Source: TIFF 6.0 specification, tag 274 (Orientation), which EXIF 2.3 takes over."""
