"""Who is in the picture: faces and bodies paired, most certain and largest first.

The numbers come from the experiments in which they were tuned; they are proportions of a face or
body box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .body import Region
from .boxes import Box

__all__ = [
    "Subject",
    "coverage",
    "cut_by_edge",
    "cut_by_side",
    "is_small_in",
    "lone",
    "pair",
    "share_inside",
    "unexplained",
    "united",
]

# The rectangle that the part network looks at.
VIEW_SIDES_OF_FACE: Final = 3.2
VIEW_UP_OF_FACE: Final = 0.9
VIEW_DOWN_OF_FACE: Final = 7.0
"""Face heights beside, above and below a face without a body box. Chosen: about a standing person,
less the feet, with the arms out."""
VIEW_OF_BOX: Final = 0.1
"""Longer box sides around a body box. Chosen: boxes are no more exact."""
VIEW_BEYOND: Final = 0.04
"""Of a picture side: how far a rectangle may leave the picture. Chosen: a little of nothing says
that the edge cuts him."""

# The square that BlazePose looks at.
BODY_BELOW_FACE: Final = 3.4
"""Face heights from the face's centre down to the region's. Source: research notes, "parsers"."""
BODY_SIDE_OF_FACE: Final = 10.5
"""Face heights in the region's side. Source: research notes, "parsers"."""
BODY_SIDE_OF_BOX: Final = 1.2
"""Longer box sides in the region's side. Source: research notes, "parsers"."""

# A face that explains a body, so that its head needs no zone of its own.
EXPLAINING_CONFIDENCE: Final = 0.30
EXPLAINING_CONFIDENCE_AT_BORDER: Final = 0.40
"""Score of a face, at least; the second of one that the picture's edge may cut. Chosen: the default
of `parser.person_threshold`, and more."""
EXPLAINING_HEIGHT: Final = 0.07
"""Face height over body height, at least; smaller faces belong to somebody or something else."""
EXPLAINING_HEIGHT_AT_BORDER: Final = 0.10
EXPLAINING_WIDTH: Final = 0.12
"""Face width over body width, at least. Chosen; the heights are those of the research notes,
"motion guard", rule 9."""

# The edge of the picture.
BORDER: Final = 0.01
"""A box this near to the picture's edge (share of its width) is cut by it. Chosen: 13 pixels of
1280."""
BORDER_OF_DOUBT: Final = 0.03
"""The same for a doubtful box, whose sides are less exact. Chosen: three times that."""

# Two boxes of one person.
SAME_PERSON: Final = 0.6
"""Share of a doubtful box inside a sure one from which both are taken for one person. Chosen: more
than half."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody to cover: a face (perhaps with a body box that it explains) or a lone body.

    Attributes:
        box: of the face, or of the lone body.
        is_face: which of the two.
        body_box: the body's, where one is known.
        view: the rectangle that the part network looks at.
        region: the square that the outline network looks at.
        priority: who gets looked at first.
    """

    box: Box
    is_face: bool
    body_box: Box | None
    view: Box
    region: Region
    priority: float

    @property
    def presumed(self) -> Box:
        """Where the body is, or must be presumed to be."""
        return self.view if self.body_box is None else self.body_box


def pair(faces: list[Box], boxes: list[Box], shape: tuple[int, int]) -> list[Subject]:
    """Pairs faces with bodies and returns everybody, most certain and largest first."""
    owned: dict[int, Box] = {}
    alone: list[Box] = []
    for box in boxes:
        for index, face in enumerate(faces):
            if index not in owned and _explains(face, box, shape):
                owned[index] = box
                break
        else:
            alone.append(box)
    subjects = []
    for index, face in enumerate(faces):
        subjects.append(_of_face(face, owned.get(index), shape))
    subjects += [lone(box, shape) for box in alone]
    # sorted() is stable: equal priorities keep the detectors' order.
    return sorted(subjects, key=lambda subject: -subject.priority)


def lone(box: Box, shape: tuple[int, int]) -> Subject:
    """Returns the subject of a body without a face."""
    longer = max(box.width, box.height, 1.0)
    side = BODY_SIDE_OF_BOX * longer
    grown = box.grown(
        sides=VIEW_OF_BOX * longer, up=VIEW_OF_BOX * longer, down=VIEW_OF_BOX * longer
    )
    view = _within(grown, shape)
    return Subject(box, False, box, view, Region(*box.center, side), box.confidence * side)


def _view_of_face(face: Box, body: Box | None, shape: tuple[int, int]) -> Box:
    if body is None:
        x, _ = face.center
        view = Box(x, face.y1, x, face.y2, face.confidence).grown(
            sides=VIEW_SIDES_OF_FACE * face.height,
            up=VIEW_UP_OF_FACE * face.height,
            down=VIEW_DOWN_OF_FACE * face.height,
        )
    else:
        around = VIEW_OF_BOX * max(body.width, body.height)
        head = face.grown(
            sides=face.height, up=VIEW_UP_OF_FACE * face.height, down=0.5 * face.height
        )
        view = united(body.grown(sides=around, up=around, down=around), head)
    return _within(view, shape)


def _within(view: Box, shape: tuple[int, int]) -> Box:
    """Returns what of `view` lies in the picture or little beyond."""
    height, width = shape
    beyond_x, beyond_y = VIEW_BEYOND * width, VIEW_BEYOND * height
    return Box(
        max(view.x1, -beyond_x),
        max(view.y1, -beyond_y),
        min(view.x2, width + beyond_x),
        min(view.y2, height + beyond_y),
        view.confidence,
    )


def united(first: Box, second: Box) -> Box:
    """Returns the smallest box that holds both."""
    return Box(
        min(first.x1, second.x1),
        min(first.y1, second.y1),
        max(first.x2, second.x2),
        max(first.y2, second.y2),
        max(first.confidence, second.confidence),
    )


def _of_face(face: Box, body: Box | None, shape: tuple[int, int]) -> Subject:
    x, y = face.center
    side = BODY_SIDE_OF_FACE * face.height
    region = Region(x, y + BODY_BELOW_FACE * face.height, max(side, 1.0))
    view = _view_of_face(face, body, shape)
    return Subject(face, True, body, view, region, face.confidence * side)


def unexplained(
    doubtful: list[Box], faces: list[Box], sure: list[Box], shape: tuple[int, int]
) -> list[Box]:
    """Returns the doubtful boxes that neither a face nor a sure box accounts for."""
    return [
        box
        for box in doubtful
        if not any(_explains(face, box, shape) for face in faces)
        and not any(share_inside(box, other) >= SAME_PERSON for other in sure)
    ]


def is_small_in(box: Box, other: Box) -> bool:
    """Says whether `box` is somebody small, or somebody's limb, within `other`."""
    return other.height > 2 * box.height and share_inside(box, other) >= SAME_PERSON


def share_inside(box: Box, other: Box) -> float:
    """Returns the share of `box` that lies inside `other`, 0..1."""
    width = min(box.x2, other.x2) - max(box.x1, other.x1)
    height = min(box.y2, other.y2) - max(box.y1, other.y1)
    area = max(box.width * box.height, 1e-9)
    return max(width, 0.0) * max(height, 0.0) / area


def _explains(face: Box, body: Box, shape: tuple[int, int]) -> bool:
    at_border = cut_by_side(body, shape)
    confidence = EXPLAINING_CONFIDENCE_AT_BORDER if at_border else EXPLAINING_CONFIDENCE
    height = EXPLAINING_HEIGHT_AT_BORDER if at_border else EXPLAINING_HEIGHT
    x, y = face.center
    lowest = body.y1 + max(0.35 * body.height, 0.9 * body.width)
    return (
        face.confidence >= confidence
        and body.x1 <= x <= body.x2
        and body.y1 - 0.1 * body.height <= y <= lowest
        and face.height >= height * body.height
        and face.width >= EXPLAINING_WIDTH * body.width
    )


def cut_by_side(box: Box, shape: tuple[int, int], border: float = BORDER) -> bool:
    """Says whether the left or right edge cuts `box`: nearer than `border` widths."""
    margin = border * shape[1]
    return box.x1 < margin or box.x2 > shape[1] - margin


def cut_by_edge(box: Box, shape: tuple[int, int], border: float = BORDER) -> bool:
    """Says whether any edge cuts `box`."""
    margin = border * shape[0]
    return cut_by_side(box, shape, border) or box.y1 < margin or box.y2 > shape[0] - margin


def coverage(mask: NDArray[np.bool_], box: Box) -> float:
    """Returns the share of `box` that `mask` fills, 0..1."""
    inside = mask[box.slices((mask.shape[0], mask.shape[1]))]
    return float(inside.mean()) if inside.size else 0.0
