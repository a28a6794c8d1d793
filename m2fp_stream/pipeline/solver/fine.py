"""What M2FP adds to a file: its people start or strengthen tracks, its parts join their shapes.

It only adds: an instance that matches no track starts one, and none ends or shrinks one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.labels import BODY_PARTS, Label
from ...core.records import ParseResult
from ...tracking.heads import Head, Rect, of_body
from ...tracking.shape import PartLook
from ...tracking.sightings import Sighting
from ..workers import ParserQueue
from .records import HEAD_LABELS, FineLook

__all__ = ["FineLooks", "fine_looks"]

LEAST_PX: Final = 12
"""Pixels of a parse's map below which an instance or a head is a speck. Chosen: three pixels by
four of a map of 320 and more."""
DOUBTED: Final = 0.1
"""Of a person's box, so far around it doubts are about this person. Chosen: a part in doubt may
reach out of a box as far as an arm is wide."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class FineLooks:
    """How a file is looked at by a second parser.

    Attributes:
        queue: serves the parses.
        side: long side of the copy that it gets, in pixels.
        every_s: seconds between two of its looks.
    """

    queue: ParserQueue
    side: int
    every_s: float = 0.5


def fine_looks(
    result: ParseResult, size_wh: tuple[int, int], part_labels: tuple[Label, ...]
) -> list[FineLook]:
    """Returns one look a person that a parse found.

    Args:
        result: with instances; without them, everything is one person.
        size_wh: (width, height) of the frame.
        part_labels: the label of each plane of a look at parts.
    """
    labels = result.label_map
    people = result.instances if result.instances is not None else (labels > 0).astype(np.uint8)
    across, down = size_wh[0] / labels.shape[1], size_wh[1] / labels.shape[0]
    matrix = np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5]])
    plane_of = _planes(part_labels)
    table = np.zeros(256, np.uint8)
    for label, plane in plane_of.items():
        table[label] = plane
    planes_of = table[labels]
    head_planes = [plane_of[label] for label in HEAD_LABELS]
    found = []
    for person in np.flatnonzero(np.bincount(people.ravel())):
        mine = people == person
        if not person or int(np.count_nonzero(mine & (labels > 0))) < LEAST_PX:
            continue
        box = _box(mine & (labels > 0), across, down)
        head = mine & np.isin(planes_of, head_planes)
        place = of_body(box)
        if int(np.count_nonzero(head)) >= LEAST_PX:
            around = _box(head, across, down)
            place = Head(around.x, around.y, 1.1 * around.width, 1.1 * around.height)
        planes = np.zeros((len(part_labels), *labels.shape), np.uint8)
        for plane in range(len(part_labels)):
            planes[plane] = np.where(mine & (planes_of == plane), 255, 0)
        sighting = Sighting(place, body=1.0, box=box, sure=True)
        doubt = result.must_cover & _inside(box, across, down, labels.shape)
        doubt &= (people == person) | (people == 0)
        unsure = np.where(doubt, 255, 0).astype(np.uint8)[None] if doubt.any() else None
        found.append(
            FineLook(
                sighting,
                PartLook(planes, matrix),
                None if unsure is None else PartLook(unsure, matrix),
            )
        )
    return found


def _planes(part_labels: tuple[Label, ...]) -> dict[Label, int]:
    """Returns the plane of each label, of what contains it where it has none of its own."""
    return {
        label: part_labels.index(label if label in BODY_PARTS else BODY_PARTS.contained_in[label])
        if label in BODY_PARTS or label in BODY_PARTS.contained_in
        else part_labels.index(Label.HUMAN)
        for label in Label
    }


def _box(mask: NDArray[np.bool_], across: float, down: float) -> Rect:
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return Rect(x * across, y * down, (x + w) * across, (y + h) * down)


def _inside(box: Rect, across: float, down: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    inside = np.zeros(shape, np.bool_)
    x, y = DOUBTED * box.width, DOUBTED * box.height
    wide = box.grown(x, y, y)
    rows = slice(max(0, int(wide.y1 / down)), max(0, int(wide.y2 / down) + 1))
    inside[rows, max(0, int(wide.x1 / across)) : max(0, int(wide.x2 / across) + 1)] = True
    return inside
