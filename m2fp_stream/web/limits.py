"""How often somebody may do something, and how much memory the server takes; no clock of its own.

Everything here is bounded: what is known about the oldest is forgotten for the newest.
"""

from __future__ import annotations

import resource
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, final

__all__ = ["Blocks", "Buckets", "ConnectionLimits", "Rate", "resident_bytes"]

_MOST_KEYS: Final = 1024
"""What is known of more addresses or sessions than these is forgotten: 100 kB at most, and far more
than one household has. Chosen."""


@final
@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What the connections of a server may take; the defaults are the page's.

    Attributes:
        connections: at a time, those that wait and the most viewers among them; who comes then is
            turned away. 200 may watch (`page.clients`), and a page holds two while it loads.
        waiting: connections that have not sent a whole request; the oldest makes room for the
            newest, so that nobody can keep a browser out by connecting and saying nothing.
        head_s: how long a request's head may take.
        send_s: how long a client may take nothing of what was sent.
    """

    connections: int = 512
    waiting: int = 256
    head_s: float = 10.0
    send_s: float = 10.0


@final
@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket's size.

    Attributes:
        per_s: what may be done each second, in the long run.
        burst: what may be done at once.
    """

    per_s: float
    burst: int


@final
class Buckets:
    """Token buckets, one a key, for the `most` keys seen last."""

    def __init__(self, rate: Rate, most: int = _MOST_KEYS) -> None:
        self._rate = rate
        self._most = most
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, now_s: float) -> bool:
        """Says whether `key` may do it once more, and counts it if so."""
        left, then_s = self._left.pop(key, (float(self._rate.burst), now_s))
        left = min(float(self._rate.burst), left + max(0.0, now_s - then_s) * self._rate.per_s)
        allowed = left >= 1
        self._left[key] = (left - 1 if allowed else left, now_s)
        while len(self._left) > self._most:
            self._left.popitem(last=False)
        return allowed


@final
class Blocks:
    """Blocks a key for `block_s` after `strikes` failures within `window_s` seconds."""

    def __init__(
        self, strikes: int, *, window_s: float = 60.0, block_s: float = 60.0, most: int = _MOST_KEYS
    ) -> None:
        self._strikes = strikes
        self._window_s = window_s
        self._block_s = block_s
        self._most = most
        self._failed: OrderedDict[Hashable, deque[float]] = OrderedDict()
        self._until_s: OrderedDict[Hashable, float] = OrderedDict()

    def blocked(self, key: Hashable, now_s: float) -> bool:
        """Says whether `key` is blocked."""
        until_s = self._until_s.get(key)
        if until_s is not None and now_s >= until_s:
            del self._until_s[key]
            return False
        return until_s is not None

    def strike(self, key: Hashable, now_s: float) -> None:
        """Counts a failure."""
        times = self._failed.pop(key, deque(maxlen=self._strikes))
        times.append(now_s)
        if len(times) == self._strikes and now_s - times[0] <= self._window_s:
            self._until_s[key] = now_s + self._block_s
            self._until_s.move_to_end(key)
        else:
            self._failed[key] = times
        for known in (self._failed, self._until_s):
            while len(known) > self._most:
                known.popitem(last=False)


def resident_bytes() -> int:
    """Returns the memory of this process that is in use; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # no path, a file of the kernel
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0
