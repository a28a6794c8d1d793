"""Looks in processes of their own: a picture goes out, boxes or planes of parts come back."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ParserError
from ..core.records import Detections, LookKind, PartPlanes
from . import wire
from .work_queue import Answering, WorkQueue
from .workers import WorkerProcess

__all__ = ["URGENCY", "LookPool", "LookWorker", "Seen", "SyncLooker"]

Seen = Detections | PartPlanes

URGENCY: Final = {
    LookKind.PEOPLE: 0,
    LookKind.CLOSER: 1,
    LookKind.PARTS: 1,
    LookKind.FACES: 2,
}
"""Looks that somebody waits for go first; the order changes when answers come, never what they
are, for a looker remembers nothing."""


class SyncLooker(Answering, Protocol):
    """What `LookPool` serves its callers from."""

    def look(self, bgr: NDArray[np.uint8], kind: LookKind, *, frame_id: int) -> Seen:
        """Returns what one look found, or raises ParserError."""
        ...


@final
class LookWorker(WorkerProcess):
    """One process with a `parsers.base.Looker`."""

    def look(self, bgr: NDArray[np.uint8], kind: LookKind, *, frame_id: int) -> Seen:
        """Returns what the worker saw in `bgr`, an (h, w, 3) uint8 picture.

        Raises:
            ParserError: it raised, died, hung or answered nonsense. After the last three it has
                been killed; the next call starts a new one.
            ModelError: the weights cannot be loaded; trying again will not help.
        """
        height, width = bgr.shape[:2]
        picture = self._picture(height, width)
        assert self._memory is not None  # it was started
        memory = memoryview(self._memory)
        picture[...] = bgr
        request = {"frame_id": frame_id, "height": height, "width": width, "kind": kind}
        try:
            answer = self._ask(request)
            try:
                seen: Seen
                if kind is LookKind.PARTS:
                    seen = wire.read_planes(memory, answer)
                else:
                    seen = wire.read_detections(memory, answer)
                _check(seen, kind, frame_id, (height, width))
            except (ValueError, TypeError, KeyError) as error:
                self.kill()
                raise ParserError(f"the looker answered nonsense: {error}") from None
        finally:
            picture.fill(0)
        return seen


def _check(seen: Seen, kind: LookKind, frame_id: int, size: tuple[int, int]) -> None:
    """Raises ValueError where the answer is about something else than was asked."""
    if seen.frame_id != frame_id:
        raise ValueError(f"asked about frame {frame_id}, got an answer for {seen.frame_id}")
    height, width = size
    if isinstance(seen, PartPlanes):
        rows, columns = seen.planes.shape[1:]
        if rows > height or columns > width or abs(rows * width - columns * height) > width:
            raise ValueError(f"asked about {width}x{height}, got planes of {columns}x{rows}")
        return
    if seen.kind is not kind:
        raise ValueError(f"asked for {kind}, got {seen.kind}")
    # Boxes may reach over the border, by no more than the picture itself.
    low, high = (-width, -height) * 2, (2 * width, 2 * height) * 2
    if len(seen.scores) and ((seen.xyxy < low).any() or (seen.xyxy > high).any()):
        raise ValueError("a box lies far outside the picture")


@final
class LookPool(WorkQueue[SyncLooker, Seen]):
    """Serves looks from one thread a looker; see `URGENCY`."""

    def __init__(self, lookers: Sequence[SyncLooker], *, attempts: int = 2) -> None:
        """`attempts`: how often a look is tried before its future gets the error."""
        super().__init__(lookers, attempts=attempts, name="looks")

    def submit(self, bgr: NDArray[np.uint8], kind: LookKind, *, frame_id: int) -> Future[Seen]:
        """Queues a look at `bgr`, an (h, w, 3) uint8 array that is zeroed once it was looked at.

        After `close` the future is cancelled at once.
        """
        return self._put(
            bgr,
            lambda looker: looker.look(bgr, kind, frame_id=frame_id),
            what=f"{kind} of frame {frame_id}",
            urgency=URGENCY[kind],
        )
