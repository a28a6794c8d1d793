"""Doubts about what a parser says: a result that no picture of people explains covers more.

A parser may be wrong without failing: broken weights, a picture made to fool it. The checks compare
a result with what is known of bodies and of label maps. What fails is covered and named in
`ParseResult.doubts`; nothing is cleared.

Lengths and areas are taken in a sample of the maps, `LOOK_SIDE` cells long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.labels import PRESETS, Label, parse_label_name
from m2fp_stream.core.records import ParseResult

__all__ = ["Doubt", "review"]

Mask = NDArray[np.bool_]
Map = NDArray[np.uint8]

HEAD: Final = PRESETS["head"] - {Label.SCARF}
"""What shows that there is a head; a scarf may be worn around a neck that ends there."""
FACE: Final = PRESETS["face"]
TORSO: Final = frozenset({Label.UPPER_CLOTHES, Label.DRESS, Label.COAT, Label.TORSO_SKIN})
LEGS: Final = frozenset(
    {
        *(Label.PANTS, Label.SKIRT, Label.SOCKS, Label.LEFT_LEG, Label.RIGHT_LEG),
        *(Label.LEFT_SHOE, Label.RIGHT_SHOE),
    }
)

LOOK_SIDE: Final = 256
"""Cells of the longer side: the head of the smallest body that counts is five cells wide."""
EVIDENT: Final = 76
"""Evidence above it is a finding: the default of `policy.threshold`, 0.3, times 255. See there."""
CERTAIN: Final = 255
"""The most that eight bits hold."""
BODY_SHARE: Final = 0.01
"""Share of the picture from which a body counts: below, parsers leave out parts of people. Chosen:
80 pixels by 115 of 1280x720."""
EDGE_SHARE: Final = 0.02
"""Share of the shorter side that is the picture's edge; outlines are no more exact. Chosen."""

# Proportions of a standing adult, in statures. Source: Drillis and Contini, "Body Segment
# Parameters", New York University 1966 (report 1166-03), as drawn in Winter, "Biomechanics and
# Motor Control of Human Movement", figure 4.1: chin at 0.870, shoulders at 0.818, knees at 0.285.
# "The maps" are 98 label maps of street photographs, drawn by hand (Clothing Co-Parsing).
SHOULDERS: Final = 0.818
"""In the maps 0.18 from the top to the shoulders, by `_shoulders` (median)."""
CHIN: Final = 0.870
KNEES: Final = 0.285
"""Legs may be in view from the knees down alone. Source: as above."""
TORSO_ROOTS: Final = 4.0
"""Statures from the square root of a torso's area: in the maps 3.8 (median; 80 % in 2.8 to 5.2)."""
OUTLINE_ROOTS: Final = 3.0
"""The same from all of a person: in the maps 2.4; more where the lower half is out of view."""

ANCHOR_SHARE: Final = 0.05
"""Share of a body that is torso, from which that tells where its head is: in the maps 0.08 up."""
MOSTLY: Final = 0.5
"""Without a torso, legs or a bare outline tell it where they are most of the body; an arm does not.
Chosen: half."""
LYING: Final = 1.2
"""A body so many times wider than high lies or bends: its head may be on any side. Chosen: who
stands with his arms out is about as wide as high."""
HEAD_SHARE: Final = 0.02
"""Area of a head over that of its torso, at least: in the maps 0.045, and 0.11 up for 90 %. Chosen
below both."""
FACE_SHARE: Final = 0.6
"""Share of a body in full view, torso and all, that is face, at most; a fifteenth is usual. Chosen
far above."""
FRAME_SHARE: Final = 0.95
"""One label on so much of a picture is no person but a map without content. Chosen: nearly all."""

# "Pictures" are 160 street photographs and 200 frames of video, by the embedded parser.
SPECK_CELLS: Final = 12
SPECK_SHARE: Final = 0.05
"""Labels on so much of the picture, in pieces of fewer cells than this on average, are noise. In
pictures 114 up where people are large; a small crowd has 20 but fills less."""
ENTROPY_STEP: Final = 2
"""One of so many rows and columns is enough for a mean. Chosen: a quarter of the time."""
DOUBTFUL_PEOPLE: Final = 0.75
"""Entropy of the evidence where people are labelled, as a share of the highest possible (mean); in
pictures 0.2 to 0.4, at most 0.53. Chosen above all of them."""
DOUBTFUL_PICTURE: Final = 0.5
"""The same over the whole picture, most of which should be nobody for sure; in pictures 0.03 to
0.1, at most 0.19. Chosen above all of them."""


@unique
class Doubt(StrEnum):
    """A check that a result did not pass, and what is covered for it."""

    NO_HEAD = "no-head"
    """A body shows no head, though the picture goes on above it: the place where it would be."""
    HEAD_APART = "head-apart"
    """The body's only head is where none can be: both places."""
    AREA = "area"
    """A head too small for its body (the place of a head), a face too large (the whole body), one
    label all over the picture (all of it)."""
    ENTROPY = "entropy"
    """Labels like noise, or evidence that tells nothing apart: the whole picture."""


def review(result: ParseResult) -> ParseResult:
    """Returns `result` with more in `must_cover` where a check fails, and which in `doubts`.

    Raises:
        ValueError: an evidence group bears no label's name.
    """
    sight = _Sight.of(result, _look_shape(result.label_map.shape))
    found: dict[Doubt, Mask] = {}
    for doubt, where in (*_anatomy(sight, list(_bodies(sight))), *_uniformity(sight)):
        found[doubt] = found[doubt] | where if doubt in found else where
    if not found:
        return result
    where = np.logical_or.reduce(list(found.values()))
    doubts = dict.fromkeys((*result.doubts, *(doubt for doubt in Doubt if doubt in found)))
    return replace(
        result,
        must_cover=result.must_cover | _enlarged(where, result.must_cover.shape),
        doubts=tuple(doubts),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Sight:
    """A result as the checks see it: (h, w) cells, and (n, h, w) evidence of parts."""

    labels: Map
    instances: Map | None
    head: Mask
    """Called a part of a head, evident, or hidden in any case."""
    chances: Map
    person: Map
    """Evidence of anybody."""

    @classmethod
    def of(cls, result: ParseResult, shape: tuple[int, ...]) -> _Sight:
        """Samples `result` at `shape`."""
        rows, columns = (
            (2 * np.arange(cells) + 1) * side // (2 * cells)
            for cells, side in zip(shape, result.label_map.shape, strict=True)
        )
        labels = result.label_map[rows[:, None], columns]
        covered = result.must_cover[rows[:, None], columns]
        evidence = result.evidence.take(rows, axis=1).take(columns, axis=2)
        of_person = np.array([_is_person(group) for group in result.groups], np.bool_)
        of_head = [
            plane
            for plane, group in zip(evidence, result.groups, strict=True)
            if not _is_person(group) and parse_label_name(group) in HEAD
        ]
        nothing = np.zeros(labels.shape, np.uint8)
        # Sums count, as for the policy: hair or face, it is a head.
        head = np.sum([nothing, *of_head], axis=0, dtype=np.uint16) > EVIDENT
        told = evidence[of_person] if of_person.any() else evidence
        person = np.max([nothing, *told], axis=0)
        instances = result.instances
        return cls(
            labels=labels,
            instances=None if instances is None else instances[rows[:, None], columns],
            head=head | covered | _any_of(labels, HEAD),
            chances=evidence[~of_person],
            person=person,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Body:
    """Cells labelled as one person; the box is half open."""

    mask: Mask
    area: int
    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def of(cls, mask: Mask) -> _Body:
        left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
        return cls(mask, int(np.count_nonzero(mask)), top, top + height, left, left + width)

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def at_edge(self) -> bool:
        """Says whether the box reaches the picture's edge."""
        height, width = self.mask.shape
        edge = _edge(self.mask.shape)
        return (
            min(self.top, self.left) < edge
            or self.bottom > height - edge
            or self.right > width - edge
        )


class _Place(NamedTuple):
    """Where the head of a body must be, and the fewest cells of it."""

    mask: Mask
    cells: float


def _bodies(sight: _Sight) -> Iterator[_Body]:
    """Returns the labelled people that are large enough, by instance, or by what lies together."""
    labelled = sight.labels > 0
    least = BODY_SHARE * labelled.size
    rest = labelled
    if sight.instances is not None:
        owned = np.where(labelled, sight.instances, 0)
        counts = np.bincount(owned.ravel())
        for owner in np.flatnonzero(counts >= least):
            if owner:
                yield _Body.of(owned == owner)
        rest = labelled & (owned == 0)
    near = cv2.dilate(rest.astype(np.uint8), np.ones((3, 3), np.uint8))
    count, components = cv2.connectedComponents(near)
    for number in range(1, count):
        mask = rest & (components == number)
        if np.count_nonzero(mask) >= least:
            yield _Body.of(mask)


def _anatomy(sight: _Sight, bodies: list[_Body]) -> Iterator[tuple[Doubt, Mask]]:
    for body in bodies:
        place = _head_place(sight.labels, body)
        if place is not None:
            own = body.mask & sight.head
            here = np.count_nonzero(sight.head & place.mask)
            if here == 0:
                apart = own.any()
                yield (Doubt.HEAD_APART if apart else Doubt.NO_HEAD), place.mask | own
            elif here < place.cells:
                yield Doubt.AREA, place.mask
        torso = np.count_nonzero(body.mask & _any_of(sight.labels, TORSO))
        face = np.count_nonzero(body.mask & _any_of(sight.labels, FACE))
        whole = torso >= ANCHOR_SHARE * body.area and not body.at_edge()
        if whole and face > FACE_SHARE * body.area:
            yield Doubt.AREA, body.mask


def _head_place(labels: Map, body: _Body) -> _Place | None:
    """Returns where the head of `body` must be; None where nothing tells, or it is out of view."""
    lying = body.width > LYING * body.height and body.bottom <= labels.shape[0] - _edge(
        labels.shape
    )
    length = max(body.width, body.height)
    torso = body.mask & _any_of(labels, TORSO)
    legs = body.mask & _any_of(labels, LEGS)
    if np.count_nonzero(torso) >= ANCHOR_SHARE * body.area:
        anchor = _Body.of(torso)
        stature = max(length / SHOULDERS, TORSO_ROOTS * math.sqrt(anchor.area))
        above = (1 - SHOULDERS) * stature
        chin = _shoulders(anchor) - (CHIN - SHOULDERS) * stature
    elif np.count_nonzero(body.mask & (labels == Label.HUMAN)) >= MOSTLY * body.area:
        anchor = body
        stature = max(length, OUTLINE_ROOTS * math.sqrt(anchor.area))
        above = (1 - SHOULDERS) * stature
        chin = anchor.top
    elif np.count_nonzero(legs) >= MOSTLY * body.area:
        anchor = _Body.of(legs)
        stature = length / KNEES
        above = (1 - KNEES) * stature
        chin = body.top
    else:
        return None
    least = HEAD_SHARE * anchor.area
    if lying:
        return _Place(_box(labels.shape, body, above), least)
    if chin < _edge(labels.shape):
        return None
    head = (1 - SHOULDERS) * stature
    lower = math.ceil(max(_shoulders(anchor) + head / 3, anchor.top + head))
    upper_part = anchor.mask.copy()
    upper_part[lower:] = False
    part = _Body.of(upper_part)
    mask = np.zeros(labels.shape, np.bool_)
    mask[
        max(0, math.floor(anchor.top - above)) : lower,
        max(0, math.floor(part.left - head / 3)) : math.ceil(part.right + head / 3),
    ] = True
    return _Place(mask, least)


def _shoulders(anchor: _Body) -> int:
    """Returns the first row half as wide as the widest: neither collar nor raised hand."""
    widths = anchor.mask.sum(axis=1)
    return int(np.argmax(2 * widths >= widths.max()))


def _uniformity(sight: _Sight) -> Iterator[tuple[Doubt, Mask]]:
    everywhere = np.ones(sight.labels.shape, np.bool_)
    counts = np.bincount(sight.labels.ravel())[1:]
    labelled = int(counts.sum())
    if counts.size and counts.max() > FRAME_SHARE * everywhere.size:
        yield Doubt.AREA, everywhere
    pieces = sum(
        cv2.connectedComponents((sight.labels == label).astype(np.uint8), connectivity=4)[0] - 1
        for label in np.flatnonzero(counts) + 1
    )
    if SPECK_SHARE * everywhere.size <= labelled < SPECK_CELLS * pieces:
        yield Doubt.ENTROPY, everywhere
        return
    if _is_doubtful(
        sight.chances[:, ::ENTROPY_STEP, ::ENTROPY_STEP],
        sight.person[::ENTROPY_STEP, ::ENTROPY_STEP],
        sight.labels[::ENTROPY_STEP, ::ENTROPY_STEP] > 0,
    ):
        yield Doubt.ENTROPY, everywhere


def _is_doubtful(chances: Map, person: Map, labelled: Mask) -> bool:
    """Says whether (n, h, w) evidence of parts, beside that of anybody, tells nothing apart.

    By Shannon's entropy of the shares of all parts, an unknown part and nobody, over its maximum.
    """
    count = len(chances)
    if count < 2:
        return False
    anything = np.maximum(chances.max(axis=0), person).astype(np.float32)
    unknown = np.maximum(anything - chances.sum(axis=0, dtype=np.float32), 0)
    shares = np.stack([*chances, unknown, CERTAIN - anything])
    shares /= shares.sum(axis=0)
    entropy = -(shares * np.log(np.maximum(shares, 1e-6))).sum(axis=0) / math.log(count + 2)
    # Certain of several at once: what nobody looked at, hidden as anything that it may be.
    told = (chances == CERTAIN).sum(axis=0) < 2
    people = told & labelled
    enough = np.count_nonzero(people) >= BODY_SHARE * people.size
    if enough and float(entropy[people].mean()) > DOUBTFUL_PEOPLE:
        return True
    return bool(entropy[told].sum() > DOUBTFUL_PICTURE * told.size)


def _look_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    scale = min(1.0, LOOK_SIDE / max(shape))
    return tuple(max(1, round(side * scale)) for side in shape)


def _is_person(group: str) -> bool:
    return group == "person" or parse_label_name(group) is Label.HUMAN


def _any_of(labels: Map, wanted: frozenset[Label]) -> Mask:
    table = np.zeros(256, np.uint8)
    table[list(wanted)] = 1
    return np.asarray(cv2.LUT(labels, table)) > 0


def _edge(shape: tuple[int, ...]) -> int:
    return max(1, round(EDGE_SHARE * min(shape)))


def _box(shape: tuple[int, ...], body: _Body, reach: float) -> Mask:
    mask = np.zeros(shape, np.bool_)
    mask[
        max(0, math.floor(body.top - reach)) : math.ceil(body.bottom + reach),
        max(0, math.floor(body.left - reach)) : math.ceil(body.right + reach),
    ] = True
    return mask


def _enlarged(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Returns `mask` at `shape`; cells are whole blocks of pixels, so none is lost."""
    rows, columns = (
        np.arange(side) * cells // side for cells, side in zip(mask.shape, shape, strict=True)
    )
    return np.asarray(mask[rows[:, None], columns])
