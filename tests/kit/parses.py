"""What one parse, taken alone, would hide: how tests and benchmarks judge a parser.

The product judges people over many frames (`pipeline.solver`); nothing of it asks this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.labels import Label, parse_label_name
from m2fp_stream.core.records import ParseResult
from m2fp_stream.policy import Policy

_FRAGMENT_REACH: Final = 0.0125
"""Of the map's long side: fragments that near are one region. Chosen: four cells of 320."""


def probability(result: ParseResult, group: str) -> NDArray[np.uint8]:
    """Returns the (h, w) uint8 evidence of `group`, which the parser has to have."""
    return np.asarray(result.evidence[result.groups.index(group)], np.uint8)


def hidden_regions(policy: Policy, result: ParseResult) -> tuple[NDArray[np.uint8], ...]:
    """Returns what `result` hides: one (h, w) uint8 part map a person, 0 where nothing is hidden.

    Margins are in it; `must_cover` is hidden under every policy.
    """
    level = int(policy.options.threshold * 255)
    hidden = policy.hidden(result.labels)
    wanted = np.zeros(256, np.uint8)
    for label in hidden:
        wanted[label] = label
    parts = np.asarray(cv2.LUT(result.label_map, wanted), np.uint8)
    # Together: a pixel that is hair or face, but not known which, is as sensitive as either.
    total = np.zeros(parts.shape, np.uint16)
    strongest = np.zeros(parts.shape, np.uint8)
    likeliest = np.zeros(parts.shape, np.uint8)
    for layer, group in zip(result.evidence, result.groups, strict=True):
        label = Label.HUMAN if group == "person" else parse_label_name(group)
        if label in hidden:
            total += layer
            stronger = layer > strongest
            likeliest[stronger] = label
            np.maximum(strongest, layer, out=strongest)
    sure = (total > level) & (parts == 0)
    parts[sure] = likeliest[sure]
    parts[result.must_cover & (parts == 0)] = Label.HUMAN
    margin = policy.options.margin
    return tuple(_with_margin(region, margin) for region in _by_person(parts, result.instances))


def _with_margin(region: NDArray[np.uint8], margin: float) -> NDArray[np.uint8]:
    box = cv2.boundingRect(region)
    # The border of the map is no border of the region: a body cut by it is as wide as it looks.
    inside = cv2.copyMakeBorder(
        (region[_around(box, 1)] > 0).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE
    )
    inscribed = float(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max())
    radius = math.ceil(margin * min(inscribed, max(region.shape)))
    if radius < 1:
        return region
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    near = _around(box, radius)
    grown = region.copy()
    grown[near] = cv2.dilate(region[near], kernel)
    return np.where(region > 0, region, grown)


def _around(box: Sequence[int], reach: int) -> tuple[slice, slice]:
    """Returns rows and columns up to `reach` pixels around an (x, y, width, height) box."""
    x, y, width, height = box
    return (
        slice(max(0, y - reach), y + height + reach),
        slice(max(0, x - reach), x + width + reach),
    )


def _by_person(
    parts: NDArray[np.uint8], instances: NDArray[np.uint8] | None
) -> list[NDArray[np.uint8]]:
    """Splits a part map by instance; what belongs to nobody, by what lies together."""
    regions: list[NDArray[np.uint8]] = []
    rest = parts
    if instances is not None:
        owned = np.where(parts > 0, instances, 0)
        regions.extend(
            np.where(owned == person, parts, 0).astype(np.uint8)
            for person in np.unique(owned[owned > 0])
        )
        rest = np.where(owned > 0, 0, parts).astype(np.uint8)
    if rest.any():
        reach = max(1, round(_FRAGMENT_REACH * max(rest.shape)))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        near = cv2.dilate((rest > 0).astype(np.uint8), kernel)
        count, components = cv2.connectedComponents(near)
        regions.extend(
            np.where(components == number, rest, 0).astype(np.uint8) for number in range(1, count)
        )
    return regions
