"""Waiting longer after each failure: what hangs on a broken thing must not try all the time."""

from __future__ import annotations

import random
from typing import final

__all__ = ["Backoff"]


@final
class Backoff:
    """Waits that double up to the longest; for one thread.

    Args:
        first_s: the first wait.
        longest_s: doubling ends here.
        jitter: share of a wait by which it is drawn longer or shorter: several that wait for the
            same thing, such as a camera, must not come back all at once.
    """

    def __init__(self, first_s: float, longest_s: float, *, jitter: float = 0.0) -> None:
        self._first_s, self._longest_s, self._jitter = first_s, longest_s, jitter
        self.wait_s = first_s
        """The next wait, before it is drawn longer or shorter; what people are told."""

    def take(self) -> float:
        """Returns how many seconds to wait now; the next wait is twice as long."""
        wait_s = self.wait_s * random.uniform(1 - self._jitter, 1 + self._jitter)
        self.wait_s = min(self._longest_s, self.wait_s * 2)
        return wait_s

    def reset(self) -> None:
        """Makes the next wait the first again: things have worked for a while."""
        self.wait_s = self._first_s
