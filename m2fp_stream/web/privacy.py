"""How much viewers asked to have covered, and whether the media process knows of it yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, final

from .frames import LEVELS, Frame, Level

__all__ = ["PrivacyRequests", "RequestedPrivacy"]

_SAID_BEFORE_BELIEVED: Final = 2
"""So often a request is said before facts that agree with it count as its answer: the first of
them may have been measured before it."""


@final
@dataclass(frozen=True, slots=True)
class RequestedPrivacy:
    """What somebody asked for.

    Attributes:
        level: what is to be covered at least.
        silhouette: whether by a flat colour.
    """

    level: Level
    silhouette: bool


@final
class PrivacyRequests:
    """The last request, from when it was made until another takes its place; no clock of its own.

    More takes effect here and now: `hides_less` says which pictures are not to be shown any more.
    The media process is told again and again (`message`) until it says that the request holds.
    """

    def __init__(self) -> None:
        self._floor: Level = "parts"
        self._request: RequestedPrivacy | None = None
        self._said: int | None = None  # how often; None: the media process knows

    @property
    def request(self) -> RequestedPrivacy | None:
        """What holds; None where nobody asked for anything."""
        return self._request

    def ask(self, level: Level, *, silhouette: bool) -> None:
        """Asks for a level; the floor holds where it hides more."""
        self._request = RequestedPrivacy(max(level, self._floor, key=LEVELS.index), silhouette)
        self._said = 0

    def raise_to(self, floor: Level) -> bool:
        """Sets what is always covered; says whether there is a request, which is to be said anew.

        Whoever says a floor has just started, and knows of no request.
        """
        self._floor = floor
        if self._request is not None:
            self.ask(self._request.level, silhouette=self._request.silhouette)
        return self._request is not None

    def say_again(self) -> None:
        """Says a request anew that was taken for known: it was lost, or taken back there."""
        if self._said is None and self._request is not None:
            self._said = 0

    def hides_less(self, frame: Frame) -> bool:
        """Whether a picture may hide less than is requested now."""
        request = self._request
        if request is None or frame.covered:
            return False
        return (
            request.level == "frame"
            or LEVELS.index(frame.requested) < LEVELS.index(request.level)
            or (request.silhouette and not frame.silhouette)
        )

    def take_level(self, level: Level | None) -> None:
        """Takes in what the media process says it hides now; None: it does not say."""
        request = self._request
        if request is None:
            return
        if self._said is None:
            if level is not None:
                # Somebody hid more at the computer itself; that is never taken back from here.
                stronger = max(request.level, level, key=LEVELS.index)
                self._request = replace(request, level=stronger)
        elif self._said >= _SAID_BEFORE_BELIEVED and level in (None, request.level):
            self._said = None

    def message(self) -> dict[str, Any] | None:
        """Returns what is to be said now, and counts it as said; None: nothing."""
        if self._request is None or self._said is None:
            return None
        self._said += 1
        effect = "silhouette" if self._request.silhouette else "configured"
        return {"kind": "privacy", "level": self._request.level, "effect": effect}
