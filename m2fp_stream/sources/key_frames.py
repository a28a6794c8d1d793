"""How long a stream may bring packets, but no picture that is whole."""

from __future__ import annotations

import time
from typing import Final, final

__all__ = ["KeyFrames"]

_DISTANCES: Final = 10
"""How many key frames in a row may be damaged before a stream counts as lost. Of a key frame in 100
packets, 13 % come whole where 2 % of the packets are lost: three in four times one of 10 does.
Chosen."""


@final
class KeyFrames:
    """How far apart the places are at which a stream can be joined, and how long to wait for one.

    Args:
        patience_s: waited for one at most while their distance is not known.
        least_s: waited for one at least.
    """

    def __init__(self, patience_s: float, least_s: float) -> None:
        self._patience_s, self._least_s = patience_s, least_s
        self._shown_s = time.monotonic()
        self._count, self._came_s = 0, 0.0
        self._distance_s: float | None = None

    def shown(self) -> float:
        """Notes that a whole picture was given; returns when."""
        self._shown_s = time.monotonic()
        return self._shown_s

    def joined(self, count: int) -> None:
        """Notes how many such places have come so far."""
        now_s = time.monotonic()
        if count > self._count:
            if self._count:
                self._distance_s = max(self._distance_s or 0.0, now_s - self._came_s)
            self._count, self._came_s = count, now_s

    @property
    def waited_s(self) -> float:
        """How long no whole picture has been given."""
        return time.monotonic() - self._shown_s

    @property
    def longest_s(self) -> float:
        """How long that may last."""
        if self._distance_s is None:
            return self._patience_s
        distances_s = min(self._patience_s, _DISTANCES * self._distance_s)
        return max(self._least_s, distances_s, 3 * self._distance_s)
