"""What may be told of where people are: the only maker of `TrackTable`.

A table is asked for, or there is none. It tells no more than the composed picture shows: of a frame
that is covered whole, that it is; of what a zone covers, nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from ..core._mint import LOCATED
from ..core.labels import Label
from ..core.plan import CoverPlan, CoverState, Unknown
from ..core.safe import CoverLevel, SafeFrame, TrackRow, TrackState, TrackTable

__all__ = ["CoveredPerson", "TrackTables"]

U8 = NDArray[np.uint8]
Box = tuple[int, int, int, int]

_KEPT_NUMBERS: Final = 4096
"""Tracks whose numbers are remembered, those told of last: memory must not grow with length.
Chosen: more than are seen at once of any crowd."""


@final
@dataclass(frozen=True, slots=True)
class CoveredPerson:
    """One who is followed and covered in a frame.

    Attributes:
        track_id: whose way through the shot it is; told under another number.
        mark: what the person is called on the map of people, 1 to 255.
        xyxy: the box, in pixels of the frame.
        state: how the person is covered.
    """

    track_id: int
    mark: int
    xyxy: tuple[float, float, float, float]
    state: TrackState


@final
class TrackTables:
    """Makes the rows of one film, frame by frame, in order; one thread at a time.

    Tracks are numbered from 1 in the order in which they are told of first, so that their numbers
    say nothing about other films, nor about who was looked at and is nobody.
    """

    def __init__(self) -> None:
        self._frames = 0
        self._tracks = 0
        self._numbers: OrderedDict[tuple[int, int], int] = OrderedDict()

    def of(
        self,
        safe: SafeFrame,
        state: CoverState,
        *,
        parts: U8,
        marks: U8,
        people: Sequence[CoveredPerson],
        part_of_film: int = 0,
    ) -> TrackTable:
        """Returns the rows of the next frame.

        Args:
            safe: the frame as it was composed: where it is a card, nothing else is told.
            state: what it was composed by.
            parts: (h, w) uint8, the `Label` of what is hidden, before the plan was made.
            marks: (h, w) uint8, whose it is.
            people: who is covered, or would be but for a keep-zone.
            part_of_film: tracks of another part are other people, whatever their ids.
        """
        if isinstance(state, Unknown) or safe.cover.level is CoverLevel.FRAME:
            return self.card(safe)
        zoned = _zoned(state.plan)
        covered = _covered(state.plan, zoned, parts, marks)
        alone = set(np.unique(marks[(parts > 0) & (state.plan.cover == 0)]).tolist())
        rows: list[TrackRow] = []
        for person in people:
            box = _shown(person.xyxy, safe.size_wh, zoned)
            if box is None:
                continue
            number = self._number(part_of_film, person.track_id)
            if person.mark in alone:
                rows.append(TrackRow(number, box, TrackState.OPEN))
            else:
                rows.append(TrackRow(number, box, person.state, covered.get(person.mark, ())))
        return self._table(safe, tuple(rows))

    def card(self, safe: SafeFrame) -> TrackTable:
        """Returns the one row of a next frame that is covered whole."""
        return self._table(safe, (TrackRow(None, None, TrackState.CARD),))

    def _table(self, safe: SafeFrame, rows: tuple[TrackRow, ...]) -> TrackTable:
        self._frames += 1
        return TrackTable(
            rows,
            frame=self._frames - 1,
            time_s=safe.pts * safe.time_base,
            size_wh=safe.size_wh,
            key=LOCATED,
        )

    @property
    def tracks(self) -> int:
        """How many were told of."""
        return self._tracks

    def _number(self, part_of_film: int, track_id: int) -> int:
        key = part_of_film, track_id
        number = self._numbers.pop(key, 0)
        if not number:
            self._tracks = number = self._tracks + 1
        self._numbers[key] = number
        if len(self._numbers) > _KEPT_NUMBERS:
            self._numbers.popitem(last=False)
        return number


def _zoned(plan: CoverPlan) -> NDArray[np.bool_] | None:
    """Returns (h, w) bool, which cells a zone covers; None where there is none."""
    zones = [k for k, fill in enumerate(plan.fills, 1) if fill.part is Label.BACKGROUND]
    return np.isin(plan.cover, zones) if zones else None


def _covered(
    plan: CoverPlan, zoned: NDArray[np.bool_] | None, parts: U8, marks: U8
) -> dict[int, tuple[Label, ...]]:
    """Returns which labels are covered of whom, by mark; what a zone covers is nobody's."""
    shown = (plan.cover > 0) & (parts > 0)
    if zoned is not None:
        shown &= ~zoned
    pairs = np.unique(marks[shown].astype(np.int64) << 8 | parts[shown])
    found: dict[int, tuple[Label, ...]] = {}
    for mark, part in zip((pairs >> 8).tolist(), (pairs & 0xFF).tolist(), strict=True):
        found[mark] = (*found.get(mark, ()), Label(part))
    return found


def _shown(
    xyxy: tuple[float, float, float, float],
    size_wh: tuple[int, int],
    zoned: NDArray[np.bool_] | None,
) -> Box | None:
    """Returns a box in whole pixels of the picture: what of it no zone covers; None where all is.

    Args:
        xyxy: may leave the picture.
        size_wh: of the picture.
        zoned: see `_zoned`.
    """
    width, height = size_wh
    left = min(max(0, math.floor(xyxy[0])), width - 1)
    top = min(max(0, math.floor(xyxy[1])), height - 1)
    right = max(left + 1, min(math.ceil(xyxy[2]), width))
    below = max(top + 1, min(math.ceil(xyxy[3]), height))
    if zoned is None:
        return left, top, right, below
    down, across = zoned.shape[0] / height, zoned.shape[1] / width
    first, above = math.floor(left * across), math.floor(top * down)
    cells = zoned[above : math.ceil(below * down), first : math.ceil(right * across)]
    if not cells.any():
        return left, top, right, below
    rows, columns = np.flatnonzero(~cells.all(axis=1)), np.flatnonzero(~cells.all(axis=0))
    if not len(rows):
        return None
    left = max(left, math.ceil((first + int(columns[0])) / across))
    top = max(top, math.ceil((above + int(rows[0])) / down))
    right = min(right, math.floor((first + int(columns[-1]) + 1) / across))
    below = min(below, math.floor((above + int(rows[-1]) + 1) / down))
    return (left, top, right, below) if left < right and top < below else None
