"""A slow second parser beside the looks, in a live picture: it only adds, never delay or age.

What it found lies seconds back: its people join the tracks that were there then, by their boxes,
and its parts join their shapes; whom no track knows becomes one, and stays until it looks again.
"""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Final, final

from ...core.errors import M2FPStreamError, ModelError
from ...core.raw import RawFrame
from ...core.records import ParseResult
from ...core.timing import NEVER
from ...parsers.embedded.looker import PART_LABELS
from ...processes.backoff import Backoff
from ..copies import look_copy, shrunk
from ..solver.fine import fine_looks
from ..solver.records import FineLook
from ..workers import ParserQueue

__all__ = ["Refiner"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
"""After a parse that failed. Chosen: from about what one takes to what nobody waits for."""


@dataclass(slots=True, eq=False)
class _Asked:
    future: Future[ParseResult]
    frame_id: int
    time_s: float
    size_wh: tuple[int, int]


@final
class Refiner:
    """Keeps one slow parse under way. Not thread-safe.

    Args:
        parser: the slow parser's queue; closing it is the caller's.
        side: long side of the copy that it gets, in pixels.
    """

    def __init__(self, parser: ParserQueue, *, side: int) -> None:
        self._parser, self._side = parser, side
        self._asked: _Asked | None = None
        self._pause_until_s = NEVER
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._parses = self._failures = 0
        self._doubts: Counter[str] = Counter()
        self._parse_s: float | None = None

    def order(self, frame: RawFrame, time_s: float) -> None:
        """Has a frame parsed where no parse is under way."""
        if self._asked is not None or time_s < self._pause_until_s:
            return
        copy = look_copy(frame, shrunk(frame.size_wh, self._side))
        future = self._parser.submit(copy, frame_id=frame.frame_id)
        self._asked = _Asked(future, frame.frame_id, time_s, frame.size_wh)

    def collect(self, time_s: float) -> tuple[int, list[FineLook]] | None:
        """Returns the answer and its frame where it is there; a failure costs nothing else.

        Raises:
            ModelError: the parser cannot be started.
        """
        asked = self._asked
        if asked is None or not asked.future.done():
            return None
        self._asked = None
        try:
            result = asked.future.result()
            found = fine_looks(result, asked.size_wh, PART_LABELS)
        except ModelError:
            raise
        except CancelledError:
            return None
        except (M2FPStreamError, ValueError, IndexError, ArithmeticError) as error:
            self._failures += 1
            self._pause_until_s = time_s + self._backoff.take()
            _log.warning("the fine parser failed: %s", error)
            return None
        self._parses += 1
        self._doubts.update(result.doubts)
        self._backoff.reset()
        self._parse_s = time_s - asked.time_s
        return asked.frame_id, found

    def facts(self) -> dict[str, object]:
        """Returns what was measured so far, as JSON values."""
        return {
            "parses": self._parses,
            "failures": self._failures,
            "doubts": dict(sorted(self._doubts.items())),
            "parse_s": None if self._parse_s is None else round(self._parse_s, 2),
        }
