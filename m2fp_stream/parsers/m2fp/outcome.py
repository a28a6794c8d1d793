"""From the network's outputs to instances, label maps and evidence, one mask at a time.

A query has a probability for every class, and one mask. Its score for a class is that probability
times how sure the mask is of itself, so at most the probability: whatever cannot reach the lowest
score that counts is left out before anything is enlarged. All arrays of a query lie at a quarter of
the padded input; they are enlarged to it, cut to the picture and resized once more, as the
reference does.

Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR
2022, section 4.1 (scores); Yang et al., "Deep Learning Technique for Human Parsing: A Survey and
Outlook", arXiv 2301.00394 (parts and humans among the classes).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.labels import Label

from .labels import LABEL_SETS, LABELS_OF, Kind
from .picture import Size

__all__ = [
    "Canvas",
    "Found",
    "evidence",
    "groups",
    "instances",
    "label_map",
    "people",
    "semantic",
]

BEST: Final = 100
"""Pairs of query and class that are looked at, best first. Source: the reference (ModelScope,
image_human_parsing); as many as there are queries."""
LOWEST_SCORE: Final = 0.1
"""The reference's, for instances; evidence is not cut by it. Source: the reference."""
PERSON: Final = "person"
"""The evidence group for anything of a person."""
_ROUNDED_AWAY: Final = 0.5 / 255
"""Evidence below this is 0 as eight bits. Half a step of 255."""
_LARGEST_LOGIT: Final = 1e6
"""Mask logits are cut to this: sure to all digits, and mixing them does not overflow to NaN, which
would compare as nothing there. Chosen."""
_SUM_AT_ONCE: Final = 8
"""Queries whose full-size masks are held at a time. Chosen by memory: of 1280x720 they are 29
MB."""

FloatArray = NDArray[np.float32]
EVERYWHERE: Final = (slice(None), slice(None))


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """An instance of a class.

    Attributes:
        category: the checkpoint's own class number, never the background's.
        score: 0..1.
        mask: (h, w) bool.
    """

    category: int
    score: float
    mask: NDArray[np.bool_]


def instances(
    logits: FloatArray,
    masks: FloatArray,
    padded_hw: Size,
    inner_hw: Size,
    out_hw: Size,
    *,
    lowest: float = LOWEST_SCORE,
) -> list[Found]:
    """Returns the instances of all classes, best first; equal to the reference's formula.

    Score = class probability x mean of sigmoid(mask) where the mask is positive. Of the 100 most
    probable pairs of query and class, those from `lowest` upwards that are not background.

    Args:
        logits: (1, queries, classes + 1) float32, the last one being "no object".
        masks: (1, queries, h, w) float32 logits, a quarter of the padded input.
        padded_hw: the network's input.
        inner_hw: the part of it, from the upper left corner, that the picture filled.
        out_hw: size of the masks wanted.
        lowest: 0..1.
    """
    chances = _probabilities(logits)
    order = np.argsort(-chances, axis=None, kind="stable")[:BEST]
    candidates: dict[int, list[tuple[int, float]]] = {}
    for query, category in zip(*np.unravel_index(order, chances.shape), strict=True):
        chance = float(chances[query, category])
        if category > 0 and chance >= lowest:
            candidates.setdefault(int(query), []).append((int(category), chance))
    found: list[Found] = []
    for query, wanted in candidates.items():
        small = masks[0, query]
        if small.max() <= 0:  # mixing its values gives no positive one
            continue
        full = _at_size(small, padded_hw, inner_hw, out_hw)
        mask = full > 0
        sureness = _sigmoid(full[mask]).sum(dtype=np.float64) / (np.count_nonzero(mask) + 1e-6)
        found.extend(
            Found(category, chance * float(sureness), mask)
            for category, chance in wanted
            if chance * sureness >= lowest
        )
    return sorted(found, key=lambda one: -one.score)


def semantic(
    logits: FloatArray,
    masks: FloatArray,
    padded_hw: Size,
    inner_hw: Size,
    out_hw: Size,
    *,
    corner: Size = (0, 0),
) -> FloatArray:
    """Returns (classes, h, w) float32: sum over queries of class probability x sigmoid(mask).

    What the LIP checkpoint's label map is the largest of; it was trained to say "which class is
    this pixel", not "which pixels are this instance". Arguments are those of `instances`, and the
    row and column at which the picture starts in the padded input.
    """
    chances = _probabilities(logits).astype(np.float32)
    (top, left), (height, width) = corner, inner_hw
    total = np.zeros((chances.shape[1], height * width), np.float32)
    for start in range(0, len(chances), _SUM_AT_ONCE):
        several = range(start, min(start + _SUM_AT_ONCE, len(chances)))
        full = [
            _padded(masks[0, query], padded_hw)[top : top + height, left : left + width]
            for query in several
        ]
        total += chances[several].T @ _sigmoid(np.stack(full)).reshape(len(full), -1)
    planes = total.reshape(-1, height, width)
    return np.stack([_resized(plane, out_hw) for plane in planes])


def groups(kind: Kind) -> tuple[str, ...]:
    """Returns the names of `evidence`'s first axis: every part, then the person as a whole."""
    parts = sorted(LABEL_SETS[kind].ids - {Label.BACKGROUND, Label.HUMAN})
    return (*(label.title for label in parts), PERSON)


def evidence(
    kind: Kind,
    logits: FloatArray,
    masks: FloatArray,
    padded_hw: Size,
    inner_hw: Size,
    out_hw: Size,
) -> NDArray[np.uint8]:
    """Returns (groups, h, w) uint8: the largest class probability x sigmoid(mask), times 255.

    Over all queries, however unlikely. For the person, the probabilities of all classes but the
    background are added up first: a query that wavers between hair and hat is somebody's.
    Arguments are those of `instances`, and whose classes they are.
    """
    names = groups(kind)
    layer_of = [
        names.index(PERSON if label is Label.HUMAN else label.title)
        for label in LABELS_OF[kind][1:]
    ]
    layers = np.zeros((len(names), *out_hw), np.float32)
    for query, chances in enumerate(_probabilities(logits)[:, 1:]):
        shares = np.zeros(len(names), np.float32)
        np.maximum.at(shares, layer_of, chances)
        shares[-1] = chances.sum()
        if shares[-1] < _ROUNDED_AWAY:
            continue
        mask = _sigmoid(_at_size(masks[0, query], padded_hw, inner_hw, out_hw))
        for layer in np.flatnonzero(shares >= _ROUNDED_AWAY):
            np.maximum(layers[layer], shares[layer] * mask, out=layers[layer])
    return np.rint(layers * 255).astype(np.uint8)


class Canvas:
    """The label map of many instances: the best score wins, parts go before whole people.

    Args:
        shape: (height, width) of the map.
    """

    def __init__(self, shape: Size) -> None:
        self._parts = np.zeros(shape, np.uint8)
        self._scores = np.zeros(shape, np.float32)
        self._human = np.zeros(shape, np.bool_)

    def paint(
        self,
        label: Label,
        score: float | FloatArray,
        mask: NDArray[np.bool_],
        window: tuple[slice, slice] = EVERYWHERE,
    ) -> None:
        """Paints `label` over worse scores.

        Args:
            label: not the background.
            score: of the instance, or of each pixel, (h, w).
            mask: (h, w) bool, where.
            window: rows and columns of the map that `mask` lies on.
        """
        if label is Label.HUMAN:
            self._human[window] |= mask
            return
        better = mask & (score >= self._scores[window])
        self._parts[window][better] = label
        np.copyto(self._scores[window], score, where=better)

    def labels(self) -> NDArray[np.uint8]:
        """Returns the (h, w) uint8 map of CIHP ids, a copy."""
        return np.where((self._parts == 0) & self._human, Label.HUMAN, self._parts).astype(np.uint8)


def label_map(found: Iterable[Found], shape: Size, kind: Kind = Kind.CIHP) -> NDArray[np.uint8]:
    """Returns the (h, w) uint8 map of CIHP ids; of instances that overlap the best is seen.

    The same as painting people, then parts, in ascending order of their scores.
    """
    canvas = Canvas(shape)
    for one in found:
        canvas.paint(LABELS_OF[kind][one.category], one.score, one.mask)
    return canvas.labels()


def people(found: Iterable[Found], shape: Size) -> NDArray[np.uint8]:
    """Returns (h, w) uint8: 0 nobody, k the k-th best human of a CIHP checkpoint's instances."""
    humans = [one for one in found if one.category == Label.HUMAN]
    humans.sort(key=lambda one: -one.score)
    numbers = np.zeros(shape, np.uint8)
    for number, human in reversed(list(enumerate(humans, start=1))):
        numbers[human.mask] = number
    return numbers


def _probabilities(logits: FloatArray) -> NDArray[np.float64]:
    """Returns (queries, classes): the softmax without its last column, "no object"."""
    values = logits[0].astype(np.float64)
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray((values / values.sum(axis=1, keepdims=True))[:, :-1])


def _sigmoid(values: FloatArray) -> FloatArray:
    # Beyond 80 float32 would overflow; the answer is 0 or 1 to all its digits long before.
    return np.asarray(1 / (1 + np.exp(np.clip(-values, -80, 80))), np.float32)


def _at_size(small: FloatArray, padded_hw: Size, inner_hw: Size, out_hw: Size) -> FloatArray:
    padded = _padded(small, padded_hw)
    return _resized(padded[: inner_hw[0], : inner_hw[1]], out_hw)


def _padded(small: FloatArray, padded_hw: Size) -> FloatArray:
    """Returns a mask at the size of the padded input."""
    return _resized(np.clip(small, -_LARGEST_LOGIT, _LARGEST_LOGIT), padded_hw)


def _resized(plane: FloatArray, size_hw: Size) -> FloatArray:
    """Bilinear by pixel centres, two taps a side also where it shrinks, as PyTorch's default."""
    resized = cv2.resize(plane, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32)
