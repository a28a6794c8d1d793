"""Two parsers on one picture: a quick guard and a slow, fine one, merged to the safe side.

Whatever either of them alone would hide is hidden, under every policy: a label map holds one label
a pixel, so the opinion that finds no place there becomes certain evidence.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.errors import ParserError
from m2fp_stream.core.labels import Label, LabelSet, parse_label_name
from m2fp_stream.core.records import Look, ParseResult

from .base import Parser
from .plausibility import Doubt, Plausibility

__all__ = ["UnionParser", "merged"]

_log = logging.getLogger(__name__)

_PERSON: Final = "person"
"""The evidence group of people as a whole; `policy` takes it for `Label.HUMAN`."""
_CERTAIN: Final = 255
_PARTS: Final = tuple(label for label in Label if label is not Label.BACKGROUND)
_Value = TypeVar("_Value", np.uint8, np.bool_)


class UnionParser(Parser):
    """Asks a guard and a fine parser, and answers with what either of them found.

    A glance is the guard's alone. Where the fine parser fails, so is everything else: the result
    then says `Doubt.FINE_FAILED` and is not thorough, since what only the fine one would have seen
    may be there. Without the guard there is no result.

    Args:
        guard: gives the result its size, its label set and its instances; closed with the union.
        fine: the one the user asked for, whose name the union carries; closed with the union.
        plausibility: reviews what the fine parser says before it is merged; None takes its word.
    """

    def __init__(
        self, guard: Parser, fine: Parser, plausibility: Plausibility | None = None
    ) -> None:
        self.name = fine.name
        self.labels = guard.labels
        self._guard, self._fine, self._plausibility = guard, fine, plausibility

    def _parse(self, bgr: NDArray[np.uint8], frame_id: int, look: Look) -> ParseResult:
        sure = self._guard.parse(bgr, frame_id=frame_id, look=look)
        if look is Look.GLANCE:
            return self._reviewed(replace(sure, thorough=False), None, look)
        try:
            fine = self._fine.parse(bgr, frame_id=frame_id, look=look)
            _check_groups(fine)
        except ParserError as error:
            _log.warning("frame %d: the guard is alone: %s", frame_id, error)
            return replace(sure, thorough=False, doubts=_joined(sure.doubts, (Doubt.FINE_FAILED,)))
        return merged(sure, self._reviewed(fine, sure, look))

    def _reviewed(self, result: ParseResult, guard: ParseResult | None, look: Look) -> ParseResult:
        if self._plausibility is None:
            return result
        return self._plausibility.review(result, guard=guard, look=look)

    def _close(self) -> None:
        try:
            self._fine.close()
        finally:
            self._guard.close()


def merged(guard: ParseResult, fine: ParseResult) -> ParseResult:
    """Returns both results as one, of the guard's size, labels and instances.

    A pixel carries the fine one's label where that names a part, the guard's otherwise. Under every
    policy, before margins: a pixel that is hidden in `guard`, or that overlaps one hidden in
    `fine`, is hidden; the same holds of where people are. `must_cover` is that of both. Evidence of
    a part is the higher of the two, in the guard's groups and further ones for parts that have none
    there: at most one a label.

    Raises:
        ValueError: an evidence group bears no label's name.
    """
    shape = guard.label_map.shape
    holders = _holders(fine.labels, guard.labels)
    said = _nearest(_primary(guard.labels)[fine.label_map], shape)
    # A person of whom no part is known is no better name than the guard's.
    named = (said > 0) & ((said != Label.HUMAN) | (guard.label_map == 0))
    label_map = np.where(named, said, guard.label_map).astype(np.uint8)

    evidence = _Evidence(guard)
    layers = _spread(fine.evidence, shape)
    for group, layer in zip(fine.groups, layers, strict=True):
        evidence.add(holders[_label_of(group)], layer)
    evidence.settle()
    for label in _present(guard.label_map):
        evidence.certify(label, (guard.label_map == label) & (label_map != label))
    for label in _present(fine.label_map):
        there = _spread((fine.label_map == label)[None], shape)[0]
        for holder in holders[label]:
            evidence.certify(holder, there & (label_map != holder))
        evidence.note_people(there & (label_map == 0), np.uint8(_CERTAIN))
    if _PERSON not in fine.groups:
        for layer in layers:
            evidence.note_people(layer > 0, layer)
    groups, planes = evidence.finished()
    return ParseResult(
        frame_id=guard.frame_id,
        label_map=label_map,
        labels=guard.labels,
        groups=groups,
        evidence=planes,
        must_cover=guard.must_cover | _spread(fine.must_cover[None], shape)[0],
        instances=guard.instances,
        parser_id=f"{guard.parser_id} + {fine.parser_id}",
        thorough=guard.thorough and fine.thorough,
        doubts=_joined(guard.doubts, fine.doubts),
    )


class _Evidence:
    """The guard's layers, which rise; a layer for each part that has none is added when it does."""

    def __init__(self, guard: ParseResult) -> None:
        self._groups = list(guard.groups)
        self._planes = list(guard.evidence.copy())
        self._shape = guard.label_map.shape
        self._index: dict[Label, int] = {}
        for index, group in enumerate(guard.groups):
            if group == _PERSON or _label_of(group) not in self._index:
                self._index[_label_of(group)] = index
        self._sums: dict[Label, NDArray[np.uint16]] = {}

    def add(self, labels: Iterable[Label], layer: NDArray[np.uint8]) -> None:
        """Takes a layer of the fine parser; those of one part add up, as for the policy."""
        for label in labels:
            if label not in self._sums:
                self._sums[label] = np.zeros(self._shape, np.uint16)
            total = self._sums[label]
            np.minimum(total + layer, np.uint16(_CERTAIN), out=total)

    def settle(self) -> None:
        """Raises the guard's layers to what was added."""
        for label, total in self._sums.items():
            plane = self._plane(label)
            np.maximum(plane, total.astype(np.uint8), out=plane)

    def certify(self, label: Label, where: NDArray[np.bool_]) -> None:
        """Makes `label` certain there."""
        if where.any():
            self._plane(label)[where] = _CERTAIN

    def note_people(self, where: NDArray[np.bool_], values: NDArray[np.uint8] | np.uint8) -> None:
        """Raises the layer of people; where the guard has none, any evidence tells of people."""
        if _PERSON in self._groups:
            plane = self._planes[self._groups.index(_PERSON)]
            np.maximum(plane, values, out=plane, where=where)

    def finished(self) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
        """Returns the groups and their (n, h, w) layers."""
        planes = np.array(self._planes, np.uint8).reshape(len(self._planes), *self._shape)
        return tuple(self._groups), planes

    def _plane(self, label: Label) -> NDArray[np.uint8]:
        if label not in self._index:
            self._index[label] = len(self._planes)
            # Not "person": the policy would take all other evidence for presumption.
            self._groups.append(label.title)
            self._planes.append(np.zeros(self._shape, np.uint8))
        plane: NDArray[np.uint8] = self._planes[self._index[label]]
        return plane


def _label_of(group: str) -> Label:
    return Label.HUMAN if group == _PERSON else parse_label_name(group)


def _primary(labels: LabelSet) -> NDArray[np.uint8]:
    """Returns the (256,) table from any label to the one of `labels` that contains it."""
    table = np.zeros(256, np.uint8)
    for label in _PARTS:
        (table[label],) = labels.covering((label,))
    return table


def _holders(fine: LabelSet, guard: LabelSet) -> dict[Label, frozenset[Label]]:
    """Returns, for each label of the fine parser, those of the guard's that must hide it.

    A part that the fine parser cannot tell apart lies under the label that contains it, at worst
    under any: whoever hides that part must find it there with the guard's labels as well. A part
    that the guard contains in the person alone needs nothing: it hides everything.
    """
    result: dict[Label, frozenset[Label]] = {}
    for label in _PARTS:
        under = [
            part
            for part in _PARTS
            if part not in (Label.HUMAN, label)
            and not fine.covering((part,)).isdisjoint((label, Label.HUMAN))
        ]
        result[label] = guard.covering((label,)) | (guard.covering(under) - {Label.HUMAN})
    return result


def _present(label_map: NDArray[np.uint8]) -> list[Label]:
    counts = np.bincount(label_map.ravel())
    return [Label(int(value)) for value in np.flatnonzero(counts) if value]


def _nearest(values: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Returns (h, w) `values` at `shape`: each cell shows the pixel its centre lies in."""
    rows, columns = (
        (2 * np.arange(size) + 1) * count // (2 * size)
        for size, count in zip(shape, values.shape, strict=True)
    )
    return np.asarray(values[rows[:, None], columns])


def _spread(values: NDArray[_Value], shape: tuple[int, ...]) -> NDArray[_Value]:
    """Returns (n, h, w) `values` at `shape`: each cell has the highest of all that it overlaps."""
    for axis, size in enumerate(shape, start=1):
        count = values.shape[axis]
        if count == size:
            continue
        cells = np.arange(size)
        first, last = cells * count // size, ((cells + 1) * count - 1) // size
        highest = values.take(first, axis)
        for step in range(1, int((last - first).max()) + 1):
            np.maximum(highest, values.take(np.minimum(first + step, last), axis), out=highest)
        values = highest
    return values


def _check_groups(result: ParseResult) -> None:
    try:
        for group in result.groups:
            _label_of(group)
    except ValueError as error:
        raise ParserError(f"evidence of {result.parser_id}: {error}") from None


def _joined(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
