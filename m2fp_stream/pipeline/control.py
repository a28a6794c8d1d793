"""How much is hidden right now: as configured, or more."""

from __future__ import annotations

import threading
from typing import Final, final

from ..core.safe import CoverLevel

__all__ = ["PrivacyDial"]

_ORDER: Final = (CoverLevel.PARTS, CoverLevel.PERSON, CoverLevel.FRAME)


@final
class PrivacyDial:
    """The level that people set while a live picture runs; never below the floor.

    Any thread may turn it; a turn holds from the next composed frame on.
    """

    def __init__(self, floor: CoverLevel = CoverLevel.PARTS) -> None:
        self._lock = threading.Lock()
        self._floor = self._level = floor

    @property
    def level(self) -> CoverLevel:
        """What is hidden: the configured parts, whole people, or the whole picture."""
        return self._level

    def turn(self, level: CoverLevel) -> CoverLevel:
        """Sets `level`, or the floor where that hides more; returns what holds now."""
        with self._lock:
            self._level = max(level, self._floor, key=_ORDER.index)
            return self._level

    def stronger(self) -> CoverLevel:
        """Hides one step more; returns what holds now."""
        with self._lock:
            step = min(len(_ORDER) - 1, _ORDER.index(self._level) + 1)
            self._level = _ORDER[step]
            return self._level

    def configured(self) -> CoverLevel:
        """Goes back to what was configured; returns it."""
        return self.turn(self._floor)
