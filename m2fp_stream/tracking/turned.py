"""People who lie, hang or stand on their heads: found in copies of the frame turned by quarters.

Detectors know people upright: turned by a quarter or a half they miss every second one
(docs/parsers.md). A copy turned by `turn` quarters counter-clockwise shows a head upright whose
crown points `turn` quarters clockwise from up in the frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from .heads import Head, Rect
from .sightings import Body, Face, Sighting, sightings
from .track import UPRIGHT_FACE

__all__ = [
    "SURE_FACE",
    "TURNS",
    "TurnedLook",
    "around",
    "best_of",
    "quarters",
    "same_person",
    "turned_sightings",
]

TURNS: Final = (1, 2, 3)
"""Quarters; all there are."""
LEAST_FACE: Final = 0.30
LEAST_BODY: Final = 0.45
"""Scores below which what a turned look found is not believed: three looks more have three times
the false alarms, and nothing says beforehand that anybody is turned. Chosen on the tune half."""
SAME_HEAD: Final = 0.7
"""Head sizes between two findings of one head. As `association.SAME_HEAD`."""
SAME_BODY: Final = 0.6
"""Share of the smaller box in the larger one from which two findings are one person's. Chosen: more
than half, for turned boxes fit less well than upright ones."""
SURER: Final = 0.1
"""What a turned finding must be surer than the upright one of the same person: an upright person is
now and then found in turned copies, too. Chosen: a tenth of the range of scores."""
SURE_FACE: Final = 0.8
"""Score of a turned face from which it outweighs a body that shows none upright: hair from behind
passes for a turned face of .6. Chosen: well above that."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class TurnedLook:
    """What a look at a turned copy found, in pixels of the turned full-size frame.

    Attributes:
        turn: quarters counter-clockwise, 1 to 3.
        faces: see `Face`.
        bodies: see `Body`.
    """

    turn: int
    faces: Sequence[Face]
    bodies: Sequence[Body]


def quarters(roll: float) -> int:
    """Returns the turn, 0 to 3, of a copy that shows a head of this tilt (radians) most upright."""
    return round(roll / (math.pi / 2)) % 4


def around(head: Head, beside: float, up: float, down: float) -> Rect:
    """Returns the box that reaches so many head widths to both sides, and heights up and down.

    Up is where the crown points, by quarters.
    """
    x, above, below = beside * head.width, up * head.height, down * head.height
    left, top, right, bottom = {
        0: (x, above, x, below),
        1: (below, x, above, x),
        2: (x, below, x, above),
        3: (above, x, below, x),
    }[quarters(head.roll)]
    return Rect(head.x - left, head.y - top, head.x + right, head.y + bottom)


def turned_sightings(look: TurnedLook, size_wh: tuple[int, int]) -> list[Sighting]:
    """Returns whom a turned look saw, in pixels of the upright frame of `size_wh`."""
    faces = [face for face in look.faces if face.score >= LEAST_FACE]
    bodies = [body for body in look.bodies if body.score >= LEAST_BODY]

    def point(x: float, y: float) -> tuple[float, float]:
        width, height = size_wh
        return {1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}[look.turn]

    def back(box: Rect | None) -> Rect | None:
        if box is None:
            return None
        (x1, y1), (x2, y2) = point(box.x1, box.y1), point(box.x2, box.y2)
        return Rect(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))

    found = []
    for one in sightings(faces, bodies):
        x, y = point(one.head.x, one.head.y)
        roll = math.remainder(one.head.roll + look.turn * math.pi / 2, 2 * math.pi)
        head = replace(one.head, x=x, y=y, roll=roll)
        found.append(
            replace(one, head=head, box=back(one.box), face_box=back(one.face_box), turn=look.turn)
        )
    return found


def best_of(
    upright: Sequence[Sighting],
    turned: Sequence[Sighting],
    headless: Callable[[Sighting], bool],
) -> list[Sighting]:
    """Returns one sighting a person: of the turned ones those that say more than the upright.

    `headless` says whether close looks saw no head where an upright sighting has it. Bodies alone
    do not tell up from down: people from behind are found upside down as surely as upright.
    """
    kept = list(upright)
    for one in sorted(turned, key=lambda each: -each.score):
        rivals = [other for other in kept if same_person(one, other)]
        if rivals:
            shows = one.face >= SURE_FACE and all(other.face < UPRIGHT_FACE for other in rivals)
            surer = one.score >= max(other.score for other in rivals) + SURER
            surer = surer and all(headless(other) for other in rivals)
            if not (shows or surer) or any(other.turn for other in rivals):
                continue
        kept = [other for other in kept if other not in rivals] + [one]
    return kept


def same_person(one: Sighting, other: Sighting) -> bool:
    """Says whether two sightings from differently turned looks are of one person."""
    if one.head.distance(other.head) < SAME_HEAD:
        return True
    first, second = one.box or one.head.rect(), other.box or other.head.rect()
    return first.shared(second) > SAME_BODY * min(first.area, second.area)
