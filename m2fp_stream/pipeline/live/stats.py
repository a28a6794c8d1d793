"""What a live run measures about itself; numbers only."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, Final, final

import numpy as np

from ...core.safe import CoverInfo, CoverLevel

__all__ = ["LiveStats"]

_WINDOW_S: Final = 10.0
"""Chosen: some hundred values, so that a 95th percentile says something, and soon told."""


@final
class _Window:
    """Values of the last seconds."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._values: deque[tuple[float, float]] = deque(maxlen=4096)

    def add(self, value: float, now_s: float) -> None:
        self._values.append((now_s, value))

    def recent(self, now_s: float) -> list[float]:
        while self._values and now_s - self._values[0][0] > self._window_s:
            self._values.popleft()
        return [value for _, value in self._values]


@final
class LiveStats:
    """Counts and recent distributions; any thread may add, any thread may ask.

    Args:
        window_s: how far back a distribution goes.
    """

    def __init__(self, window_s: float = _WINDOW_S) -> None:
        self._window_s = window_s
        self._lock = threading.Lock()
        self._began_s = time.monotonic()
        self._latency, self._age, self._covered = (_Window(window_s) for _ in range(3))
        self._looks: dict[str, _Window] = {}
        self._looked: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._frames = self._cards = self._left_alone = 0
        self._reasons: dict[str, int] = {}
        self._person_at_s: float | None = None

    def frame(self, cover: CoverInfo, latency_s: float, covered: float) -> None:
        """Counts one composed frame.

        Args:
            cover: what is known about it.
            latency_s: from capture to being handed to the sinks.
            covered: share (0..1) of the picture that is covered.
        """
        now_s = time.monotonic()
        with self._lock:
            self._frames += 1
            self._latency.add(latency_s, now_s)
            self._covered.add(covered, now_s)
            if cover.age_s is not None:
                self._age.add(cover.age_s, now_s)
            if cover.level is CoverLevel.FRAME:
                self._cards += 1
                self._reasons[cover.reason] = self._reasons.get(cover.reason, 0) + 1

    def look(self, name: str, seconds: float, *, failed: bool) -> None:
        """Counts one look and how long it took from order to answer."""
        with self._lock:
            self._looked[name] += 1
            self._failed[name] += failed
            self._looks.setdefault(name, _Window(self._window_s)).add(seconds, time.monotonic())

    def left_alone(self) -> None:
        """Counts one frame in which people were left alone, for they were in a keep-zone."""
        with self._lock:
            self._left_alone += 1

    def presence(self) -> None:
        """Says that somebody is in the picture."""
        with self._lock:
            self._person_at_s = time.monotonic()

    def summary(self, **more: Any) -> dict[str, Any]:
        """Returns everything as JSON values; distributions are of the last seconds.

        Args:
            more: further entries, e.g. what capture and sinks counted.
        """
        now_s = time.monotonic()
        with self._lock:
            latency = self._latency.recent(now_s)
            covered = self._covered.recent(now_s)
            span_s = min(self._window_s, max(1e-3, now_s - self._began_s))
            return {
                "uptime_s": round(now_s - self._began_s, 1),
                "fps": round(len(latency) / span_s, 2),
                "frames": self._frames,
                "frames_wholly_covered": self._cards,
                "frames_with_people_left_alone": self._left_alone,
                "reasons": dict(sorted(self._reasons.items())),
                "latency_ms": _spread(latency, 1e3),
                "cover_age_ms": _spread(self._age.recent(now_s), 1e3),
                "look_ms": {
                    name: _spread(window.recent(now_s), 1e3)
                    for name, window in sorted(self._looks.items())
                },
                "looks": dict(sorted(self._looked.items())),
                "looks_failed": dict(sorted((+self._failed).items())),
                "covered_fraction": round(float(np.mean(covered)), 4) if covered else None,
                "person_s_ago": None
                if self._person_at_s is None
                else round(now_s - self._person_at_s, 1),
                **more,
            }


def _spread(values: Iterable[float], scale: float) -> dict[str, float] | None:
    values = list(values)
    if not values:
        return None
    middle, high = np.percentile(values, [50, 95])
    return {
        "p50": round(float(middle) * scale, 1),
        "p95": round(float(high) * scale, 1),
        "max": round(max(values) * scale, 1),
    }
