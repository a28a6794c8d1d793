"""How much is hidden right now, and how it looks: as configured, or more."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final, final

from ...core.safe import CoverLevel

__all__ = ["PrivacyDial", "PrivacyRequest"]

_ORDER: Final = (CoverLevel.PARTS, CoverLevel.PERSON, CoverLevel.FRAME)


@final
@dataclass(frozen=True, slots=True)
class PrivacyRequest:
    """What people chose while the picture runs.

    Attributes:
        level: what is hidden: the configured parts, whole people, or the whole picture.
        silhouette: whether what is hidden is a flat colour; see `Policy.plan`.
    """

    level: CoverLevel = CoverLevel.PARTS
    silhouette: bool = False


@final
class PrivacyDial:
    """The level that people set while a live picture runs; never below the floor.

    Any thread may turn it; a turn holds from the next composed frame on.
    """

    def __init__(self, floor: CoverLevel = CoverLevel.PARTS) -> None:
        self._lock = threading.Lock()
        self._floor = floor
        self._request = PrivacyRequest(floor)

    @property
    def floor(self) -> CoverLevel:
        """What is hidden at least."""
        return self._floor

    @property
    def request(self) -> PrivacyRequest:
        """What holds now."""
        return self._request

    @property
    def level(self) -> CoverLevel:
        """What is hidden: the configured parts, whole people, or the whole picture."""
        return self._request.level

    def turn(self, level: CoverLevel, *, silhouette: bool = False) -> CoverLevel:
        """Sets `level`, or the floor where that hides more; returns what holds now."""
        with self._lock:
            self._request = PrivacyRequest(max(level, self._floor, key=_ORDER.index), silhouette)
            return self._request.level

    def stronger(self) -> CoverLevel:
        """Hides one step more; returns what holds now."""
        with self._lock:
            step = min(len(_ORDER) - 1, _ORDER.index(self._request.level) + 1)
            self._request = PrivacyRequest(_ORDER[step], self._request.silhouette)
            return self._request.level

    def configured(self) -> CoverLevel:
        """Goes back to what was configured; returns it."""
        return self.turn(self._floor)
