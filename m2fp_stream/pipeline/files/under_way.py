"""Looks that were ordered for the frames of a film, and are waited for until they are needed."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import final

from ...core.errors import M2FPStreamError, ModelError, ParserError
from ...core.plan import Why
from ...core.records import Detections, LookKind, ParseResult, PartPlanes
from ...core.timing import NEVER
from ...parsers.embedded.looker import PART_LABELS
from ...tracking.shape import PartLook
from ...tracking.sightings import Body, Face
from ...tracking.turned import TurnedLook
from ..copies import (
    PartCrop,
    boxes_of,
    crop_of,
    face_size,
    look_copy,
    people_size,
    shrunk,
    turned_copy,
)
from ..looks import LookPool, Seen
from ..solver.fine import FineLooks, fine_looks
from ..solver.records import FineLook, PartOrder, Reach
from .options import FilePipelineOptions
from .reader import Item

__all__ = ["LooksUnderWay", "PastLook"]

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True)
class PastLook:
    """What a look at an earlier frame found: its frame, the bodies, how closely it looked."""

    number: int
    bodies: list[Body]
    reach: Reach


@dataclass(slots=True, eq=False)
class _PartsUnderWay:
    order: PartOrder
    crop: PartCrop
    future: Future[Seen]


@dataclass(frozen=True, slots=True, eq=False)
class _PastUnderWay:
    ordered_at: int
    """Frame fed last when it was ordered."""
    item: Item
    reach: Reach
    size_wh: tuple[int, int]
    """Of the copy that is looked at."""
    future: Future[Seen]


@final
class LooksUnderWay:
    """Orders looks, waits for what they found, and counts those that fail.

    Where a whole-frame look fails, the item becomes unknown. All from one thread.

    Args:
        looks: who looks.
        options: the size of looks, and how many may fail in a row.
        fine: a second parser, if there is one.

    Attributes:
        made: looks of the second parser that were answered.
    """

    def __init__(
        self, looks: LookPool, options: FilePipelineOptions, fine: FineLooks | None
    ) -> None:
        self._looks = looks
        self._options = options
        self._fine, self._fine_s = fine, NEVER
        self._parts: deque[_PartsUnderWay] = deque()
        self._past: deque[_PastUnderWay] = deque()
        self._failures: Counter[str] = Counter()
        self.made: Counter[str] = Counter()

    def cancel(self) -> None:
        """Gives up what was ordered out of turn."""
        for under_way in self._parts:
            under_way.future.cancel()
        for past in self._past:
            past.future.cancel()

    # --- orders ---

    def order_people(self, item: Item, reach: Reach) -> None:
        """Orders a look for people at a frame."""
        item.reach = reach
        item.people_wh = self._people_wh(item.frame.size_wh, reach)
        copy = look_copy(item.frame, item.people_wh)
        item.people = self._looks.submit(copy, LookKind.PEOPLE, frame_id=item.number)

    def order_turned(self, item: Item, turn: int) -> None:
        """Orders looks for faces and people at a copy turned by quarters."""
        near_wh = self._people_wh(item.frame.size_wh, Reach.NEAR)
        faces, people = (
            self._looks.submit(
                turned_copy(look_copy(item.frame, size_wh), turn),
                kind,
                frame_id=item.number,
            )
            for kind, size_wh in ((LookKind.FACES, item.faces_wh), (LookKind.PEOPLE, near_wh))
        )
        item.turned.append((turn, faces, people))

    def order_fine(self, item: Item) -> None:
        """Orders a look of the second parser, where there is one and it is time."""
        if self._fine is None:
            return
        if item.motion.cut or item.time_s - self._fine_s >= self._fine.every_s:
            self._fine_s = item.time_s
            copy = look_copy(item.frame, shrunk(item.frame.size_wh, self._fine.side))
            item.fine = self._fine.queue.submit(copy, frame_id=item.number)

    def order_past(self, item: Item, reach: Reach, *, fed: int) -> None:
        """Orders a look for people at a frame before `fed`, the one fed last."""
        size_wh = self._people_wh(item.frame.size_wh, reach)
        future = self._looks.submit(
            look_copy(item.frame, size_wh), LookKind.PEOPLE, frame_id=item.number
        )
        self._past.append(_PastUnderWay(fed, item, reach, size_wh, future))

    def order_parts(self, item: Item, orders: Sequence[PartOrder]) -> None:
        """Orders close looks at a frame."""
        for order in orders:
            crop = crop_of(item.frame, order)
            kind = LookKind.CLOSER if order.face else LookKind.PARTS
            future = self._looks.submit(crop.bgr, kind, frame_id=item.number)
            self._parts.append(_PartsUnderWay(order, crop, future))

    def _people_wh(self, size_wh: tuple[int, int], reach: Reach) -> tuple[int, int]:
        return people_size(size_wh, reach, self._options.look_size)

    # --- answers ---

    def faces(self, item: Item) -> list[Face]:
        """Returns the faces of a frame."""
        if item.faces is None:
            return []
        seen = self._result(item.faces, item.number, "faces")
        if not isinstance(seen, Detections):
            item.unknown = item.unknown or Why.PARSER_FAILED
            item.faces = None
            return []
        found = boxes_of(seen, item.faces_wh, item.frame.size_wh)
        return [Face(box, score, roll) for box, score, roll in found]

    def bodies(self, item: Item) -> list[Body] | None:
        """Returns the people of a frame; None where its look failed, or none was ordered."""
        if item.people is None:
            return None
        seen = self._result(item.people, item.number, "people")
        if not isinstance(seen, Detections):
            item.unknown = item.unknown or Why.PARSER_FAILED
            return None
        found = boxes_of(seen, item.people_wh, item.frame.size_wh)
        return [Body(box, score) for box, score, _ in found]

    def turned(self, item: Item) -> list[TurnedLook]:
        """Returns what looks at turned copies found: fewer than were ordered where some failed."""
        found = []
        for turn, *futures in item.turned:
            wh = item.frame.size_wh[::-1] if turn % 2 else item.frame.size_wh
            near_wh = self._people_wh(wh, Reach.NEAR)
            looked = (face_size(wh, self._options.look_size), near_wh)
            kinds = (f"faces, turned {turn}", f"people, turned {turn}")
            seen = [
                self._result(future, item.number, kind)
                for future, kind in zip(futures, kinds, strict=True)
            ]
            boxes = [
                boxes_of(one, looked_wh, wh) if isinstance(one, Detections) else None
                for one, looked_wh in zip(seen, looked, strict=True)
            ]
            if boxes[0] is None or boxes[1] is None:
                item.unknown = item.unknown or Why.PARSER_FAILED
                continue
            faces = [Face(box, score, roll) for box, score, roll in boxes[0]]
            found.append(TurnedLook(turn, faces, [Body(box, score) for box, score, _ in boxes[1]]))
        return found

    def fine(self, item: Item) -> list[FineLook]:
        """Returns what the second parser found; nothing where it was not asked, or failed."""
        if item.fine is None:
            return []
        result = self._result(item.fine, item.number, "fine")
        if not isinstance(result, ParseResult):
            return []
        self.made["fine"] += 1
        return fine_looks(result, item.frame.size_wh, PART_LABELS)

    def past(self, upto: int) -> Iterator[PastLook]:
        """Yields what looks at earlier frames found, of those ordered up to a frame."""
        while self._past and self._past[0].ordered_at <= upto:
            past = self._past.popleft()
            number = past.item.number
            seen = self._result(past.future, number, "people")
            if isinstance(seen, Detections):
                found = boxes_of(seen, past.size_wh, past.item.frame.size_wh)
                bodies = [Body(box, score) for box, score, _ in found]
                yield PastLook(number, bodies, past.reach)

    def parts(
        self, upto: int, size_wh: tuple[int, int]
    ) -> Iterator[tuple[PartOrder, PartLook | tuple[float, float]]]:
        """Yields what close looks at frames up to one found.

        Args:
            upto: the frame.
            size_wh: (width, height) of the frames.

        Returns:
            The order, and the parts; of a closer look at a face, its score (0..1) and tilt
            (radians).
        """
        while self._parts and self._parts[0].order.frame <= upto:
            under_way = self._parts.popleft()
            number = under_way.order.frame
            kind = "closer" if under_way.order.face else "parts"
            seen = self._result(under_way.future, number, kind, under_way.crop.shape)
            if isinstance(seen, Detections) and len(seen.scores):
                yield under_way.order, (float(seen.scores[0]), float(seen.rolls[0]))
            if isinstance(seen, PartPlanes):
                yield under_way.order, under_way.crop.look(seen.planes, size_wh)

    def _result(
        self,
        future: Future[Seen] | Future[ParseResult],
        number: int,
        kind: str,
        shape: tuple[int, int, int] | None = None,
    ) -> Seen | ParseResult | None:
        """Returns what a look found; None where it failed.

        Args:
            future: of the look.
            number: its frame.
            kind: failures in a row are counted for each kind by itself: one that is dead must not
                hide behind another.
            shape: of the planes, where planes are expected.
        """
        try:
            seen = future.result()
            if isinstance(seen, PartPlanes) and seen.planes.shape != shape:
                raise ParserError(f"expected planes of {shape}, got {seen.planes.shape}")
        except ModelError:
            raise
        except M2FPStreamError as error:
            self._failures[kind] += 1
            _log.warning("frame %d: %s", number, error)
            if self._failures[kind] >= self._options.max_failures:
                raise ParserError(
                    f"{self._failures[kind]} looks ({kind}) in a row failed, nothing was written; "
                    f"last: {error}"
                ) from None
            return None
        self._failures[kind] = 0
        return seen
