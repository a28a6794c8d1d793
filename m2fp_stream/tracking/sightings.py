"""What the looks at one frame saw of people: faces, bodies, and which belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from .heads import Head, Rect, of_body, of_face

__all__ = ["Body", "Face", "Sighting", "belongs", "sightings"]


@final
@dataclass(frozen=True, slots=True)
class Face:
    """A face that a look found.

    Attributes:
        box: in pixels of the frame.
        score: 0..1.
        roll: tilt of the eyes' line in radians, 0 where unknown.
    """

    box: Rect
    score: float
    roll: float = 0.0


@final
@dataclass(frozen=True, slots=True)
class Body:
    """A whole person that a look found; the same units."""

    box: Rect
    score: float


@final
@dataclass(frozen=True, slots=True)
class Sighting:
    """What the looks at one frame saw of one person.

    Attributes:
        head: where the head is, or must be.
        face: score of the face, 0 where none was seen.
        body: score of the body, 0 where none was seen or looked for.
        box: of the body.
        sure: True where another parser vouches for it (M2FP).
        face_box: of the face.
        turn: quarters by which the picture had to be turned for the look that saw it; see `turned`.
    """

    head: Head
    face: float = 0.0
    body: float = 0.0
    box: Rect | None = None
    sure: bool = False
    face_box: Rect | None = None
    turn: int = 0

    @property
    def score(self) -> float:
        """The better of both scores."""
        return 1.0 if self.sure else max(self.face, self.body)


ABOVE: Final = 0.15
BESIDE: Final = 0.05
TOP_SHARE: Final = 0.4
TOP_WIDTHS: Final = 0.9
SMALLEST_FACE, LARGEST_FACE = 0.05, 1.2
"""A face belongs to a body when its centre lies within the box, at most so far above and beside it
(shares of its height and width), in the upper part (of the height, or so many widths), is so high
at least (of the height), and at most (of both: of who leans in, a box holds the head alone). Chosen
on the tune half."""


def belongs(face: Rect, body: Rect) -> bool:
    """Says whether a face may be of the person of a body; both in pixels of one frame."""
    beside, above = BESIDE * body.width, ABOVE * body.height
    top = max(TOP_SHARE * body.height, TOP_WIDTHS * body.width)
    return (
        body.x1 - beside <= face.x <= body.x2 + beside
        and body.y1 - above <= face.y <= body.y1 + top
        and face.height >= SMALLEST_FACE * body.height
        and face.height <= LARGEST_FACE * body.height
        and face.width <= LARGEST_FACE * body.width
    )


def sightings(faces: Sequence[Face], bodies: Sequence[Body]) -> list[Sighting]:
    """Returns one sighting a person: faces with the bodies they belong to, the rest alone.

    A body explains every face in its upper part, but belongs to the one nearest to where its head
    is expected; the others may be of people before or behind it.
    """
    pairs = sorted(
        (of_face(face.box).distance(of_body(body.box)), i, j)
        for i, face in enumerate(faces)
        for j, body in enumerate(bodies)
        if belongs(face.box, body.box)
    )
    body_of: dict[int, int] = {}
    taken: set[int] = set()
    explained: set[int] = set()
    for _, i, j in pairs:
        explained.add(j)
        if i not in body_of and j not in taken:
            body_of[i] = j
            taken.add(j)
    found = []
    for i, face in enumerate(faces):
        owner = bodies[body_of[i]] if i in body_of else None
        found.append(
            Sighting(
                of_face(face.box, face.roll),
                face=face.score,
                body=owner.score if owner else 0.0,
                box=owner.box if owner else None,
                face_box=face.box,
            )
        )
    found += [
        Sighting(of_body(body.box), body=body.score, box=body.box)
        for j, body in enumerate(bodies)
        if j not in explained
    ]
    return found
