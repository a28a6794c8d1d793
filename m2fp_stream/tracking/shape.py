"""The shape of what is covered of somebody, kept in the coordinates of the head or the body.

What the part network saw in one frame becomes a small map in a frame of reference of its own: the
head's box (with its tilt), or the body's. In another frame it is laid where that box is now, so it
moves, turns and grows with the person, and never tears. Shapes are only ever united.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from .heads import Head, Rect

__all__ = [
    "Anchor",
    "PartLook",
    "Shape",
    "anchor_of_body",
    "anchor_of_head",
    "body_thresholds",
    "filled",
    "head_seed",
    "head_thresholds",
    "lay_box",
    "lay_ellipse",
    "put_on",
]

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

HEAD_GRID_WH: Final = (96, 120)
HEAD_SPAN: Final = (3.0, 3.75)
HEAD_ABOVE: Final = 1.05
"""A head's map spans so many head widths and heights, of which so many heights lie above the
centre: hair to below the shoulders is in it. A cell is 1/32 of a head. Source: research notes,
"every frame"."""
SLIGHTEST_PX: Final = 0.1
"""A head counts as so wide and high at least: a detector's box may be a line. Chosen: small enough
to change no head, large enough to divide by."""
BODY_GRID_WH: Final = (96, 160)
BODY_SPAN: Final = (1.5, 1.3)
"""The same of a body's box, about its centre: raised arms leave the box. Chosen: 123 rows a
body."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """A frame of reference: how a grid lies in a frame's pixels.

    Attributes:
        matrix: (2, 3) float64, from the grid's pixel positions to the frame's.
        grid_wh: (width, height) of the grid.
    """

    matrix: F64
    grid_wh: tuple[int, int]


def anchor_of_head(head: Head) -> Anchor:
    """Returns the frame of reference of a head."""
    width, height = HEAD_GRID_WH
    across = HEAD_SPAN[0] * max(SLIGHTEST_PX, head.width) / width
    down = HEAD_SPAN[1] * max(SLIGHTEST_PX, head.height) / height
    centre = width / 2, HEAD_ABOVE * height / HEAD_SPAN[1]
    return _anchor((head.x, head.y), (across, down), centre, head.roll)


def anchor_of_body(box: Rect) -> Anchor:
    """Returns the frame of reference of a body's box."""
    width, height = BODY_GRID_WH
    across = BODY_SPAN[0] * max(1.0, box.width) / width
    down = BODY_SPAN[1] * max(1.0, box.height) / height
    matrix = _anchor((box.x, box.y), (across, down), (width / 2, height / 2), 0.0).matrix
    return Anchor(matrix, BODY_GRID_WH)


def _anchor(
    place: tuple[float, float], cell: tuple[float, float], centre: tuple[float, float], roll: float
) -> Anchor:
    cos, sin = math.cos(roll), math.sin(roll)
    linear = np.array([[cos * cell[0], -sin * cell[1]], [sin * cell[0], cos * cell[1]]])
    # Centres of pixels lie at whole numbers plus one half, here as there.
    shift = np.array(place) - linear @ (np.array(centre) - 0.5) - 0.5
    return Anchor(np.hstack([linear, shift[:, None]]), HEAD_GRID_WH)


@final
@dataclass(frozen=True, slots=True, eq=False)
class PartLook:
    """What the part network saw in a crop.

    Attributes:
        planes: (n, h, w) uint8, probability times 255 of each part.
        matrix: (2, 3) float64, from pixel positions of the planes to those of the frame.
    """

    planes: U8
    matrix: F64

    @classmethod
    def inside(cls, planes: U8, matrix: F64, size_wh: tuple[int, int]) -> PartLook:
        """Returns the look without what lies outside the frame, where the crop was black.

        Args:
            planes: see above; only upright matrices are expected.
            matrix: see above.
            size_wh: (width, height) of the frame.
        """
        height, width = planes.shape[1:]
        (across, _, x), (_, down, y) = matrix.tolist()
        left, right = math.ceil((-0.5 - x) / across), math.floor((size_wh[0] - 0.5 - x) / across)
        top, bottom = math.ceil((-0.5 - y) / down), math.floor((size_wh[1] - 0.5 - y) / down)
        if left > 0 or top > 0 or right + 1 < width or bottom + 1 < height:
            kept = np.zeros_like(planes)
            rows = slice(max(0, top), max(0, bottom + 1))
            columns = slice(max(0, left), max(0, right + 1))
            kept[:, rows, columns] = planes[:, rows, columns]
            planes = kept
        return cls(planes, matrix)

    def on(self, anchor: Anchor, parts: Sequence[int]) -> U8:
        """Returns the (n, h, w) planes of `parts` in the grid of `anchor`."""
        # The grid's pixels in the planes: first to the frame, then back.
        back = np.asarray(cv2.invertAffineTransform(self.matrix), np.float64)
        to_planes = _compose(back, anchor.matrix)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        laid = [
            cv2.warpAffine(
                self.planes[part],
                to_planes,
                anchor.grid_wh,
                flags=flags,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=0,
            )
            for part in parts
        ]
        return np.asarray(laid, np.uint8)


def _compose(outer: F64, inner: F64) -> F64:
    """Returns the affine map that first does `inner`, then `outer`."""
    return np.hstack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What is covered of one person, in the grid of an anchor.

    Attributes:
        labels: (h, w) uint8 `Label` of what is hidden there, 0 = clear.
    """

    labels: U8

    @classmethod
    def of(
        cls,
        look: PartLook,
        anchor: Anchor,
        *,
        label_of: Mapping[int, int],
        threshold: int | NDArray[np.uint16],
        seed: U8 | None,
        margin_cells: int,
    ) -> Shape:
        """Returns the hidden parts that a look found.

        Args:
            look: of the part network.
            anchor: of the person at that frame.
            label_of: hidden part (index of a plane) to label.
            threshold: a cell is hidden above this sum of the hidden parts' probabilities, 0..255:
                what is hair or face, but not known which, is as sensitive as either. One for all
                cells, or (h, w), one a cell.
            seed: (h, w) uint8, where the person is for certain; pieces that do not touch it are
                somebody else's. None keeps all.
            margin_cells: the shape grows by so many cells.
        """
        parts = sorted(label_of)
        planes = look.on(anchor, parts)
        total = planes.sum(axis=0, dtype=np.uint16)
        mask = np.asarray(total > threshold, np.uint8)
        if seed is not None:
            count, pieces = cv2.connectedComponents(mask | (seed > 0).astype(np.uint8))
            if count > 2:  # the background and more than one piece
                touched = np.zeros(count, np.bool_)
                touched[np.unique(pieces[seed > 0])] = True
                touched[0] = False
                mask &= touched[pieces].astype(np.uint8)
        mask = filled(mask)
        labels = np.array([label_of[part] for part in parts], np.uint8)[planes.argmax(axis=0)]
        labels = np.where(mask > 0, labels, 0).astype(np.uint8)
        if margin_cells > 0:
            size = 2 * margin_cells + 1
            grown = cv2.dilate(labels, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
            labels = np.where(labels > 0, labels, grown).astype(np.uint8)
        return cls(labels)

    @property
    def area(self) -> int:
        """Covered cells."""
        return int(np.count_nonzero(self.labels))

    def united(self, other: Shape | None) -> Shape:
        """Returns what either covers; where both do, this one names the part."""
        if other is None or other is self:
            return self
        return Shape(np.where(self.labels > 0, self.labels, other.labels).astype(np.uint8))

    def lay(self, parts: U8, tracks: U8, number: int, anchor: Anchor, scale: float) -> None:
        """Lays the shape on a map of the frame; cells that are covered already stay.

        Args:
            parts: (h, w) uint8, written to.
            tracks: (h, w) uint8, gets `number` where parts were written.
            number: 1..255.
            anchor: of the person in this frame.
            scale: map pixels in a pixel of the frame.
        """
        height, width = parts.shape
        rows, columns = np.nonzero(self.labels)
        if rows.size == 0:
            return
        corners = np.array(
            [
                [x, y]
                for x in (columns.min() - 1, columns.max() + 1)
                for y in (rows.min() - 1, rows.max() + 1)
            ],
            np.float64,
        )
        to_map = _scaled(anchor.matrix, scale)
        where = corners @ to_map[:, :2].T + to_map[:, 2]
        left, top = (int(v) for v in np.floor(where.min(axis=0) - 1))
        right, bottom = (int(v) for v in np.ceil(where.max(axis=0) + 2))
        left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
        if left >= right or top >= bottom:
            return
        to_map = to_map.copy()
        to_map[:, 2] -= (left, top)
        size_wh = right - left, bottom - top
        mask = cv2.warpAffine(
            np.where(self.labels > 0, 255, 0).astype(np.uint8),
            to_map,
            size_wh,
            flags=cv2.INTER_LINEAR,
        )
        # A map pixel that the outline cuts belongs to the cover.
        nearest = cv2.warpAffine(self.labels, to_map, size_wh, flags=cv2.INTER_NEAREST)
        names = np.asarray(nearest, np.uint8)
        if (names[mask > LAID] == 0).any():
            near = cv2.dilate(names, np.ones((5, 5), np.uint8))
            names = np.where(names > 0, names, near).astype(np.uint8)
        window = slice(top, bottom), slice(left, right)
        put_on(parts[window], tracks[window], mask > LAID, names, number)


LAID: Final = 100
"""Of 255: from this coverage on a map pixel is covered, a little below one half. Chosen: the cover
is rather larger than smaller."""


def put_on(parts: U8, tracks: U8, mask: NDArray[np.bool_], names: U8 | int, number: int) -> None:
    """Writes `names` and `number` where `mask` is and nothing is covered yet."""
    new = mask & (parts == 0)
    if isinstance(names, int):
        parts[new] = names
    else:
        parts[new] = np.maximum(names[new], 1)
    tracks[new] = number


def _scaled(matrix: F64, scale: float) -> F64:
    """Returns `matrix` with its results in map pixels."""
    scaled = matrix * scale
    scaled[:, 2] += 0.5 * scale - 0.5
    return scaled


def lay_ellipse(parts: U8, tracks: U8, number: int, head: Head, label: int, scale: float) -> None:
    """Lays a head's ellipse on a map; see `Shape.lay`."""
    height, width = parts.shape
    box = head.rect()
    left, top = max(0, int(box.x1 * scale) - 2), max(0, int(box.y1 * scale) - 2)
    right, bottom = min(width, int(box.x2 * scale) + 3), min(height, int(box.y2 * scale) + 3)
    if left >= right or top >= bottom:
        return
    mask = np.zeros((bottom - top, right - left), np.uint8)
    centre = head.x * scale - 0.5 - left, head.y * scale - 0.5 - top
    axes = max(1.5, head.width * scale), max(1.5, head.height * scale)
    cv2.ellipse(mask, (centre, axes, math.degrees(head.roll)), 1, -1)
    put_on(parts[top:bottom, left:right], tracks[top:bottom, left:right], mask > 0, label, number)


def lay_box(parts: U8, tracks: U8, number: int, box: Rect, label: int, scale: float) -> None:
    """Lays a box on a map; see `Shape.lay`."""
    height, width = parts.shape
    rows = slice(max(0, int(box.y1 * scale)), max(0, min(height, math.ceil(box.y2 * scale))))
    columns = slice(max(0, int(box.x1 * scale)), max(0, min(width, math.ceil(box.x2 * scale))))
    everywhere = np.ones(parts[rows, columns].shape, np.bool_)
    put_on(parts[rows, columns], tracks[rows, columns], everywhere, label, number)


def head_seed(share: float = 0.9) -> U8:
    """Returns the ellipse of a head in its grid, `share` of its size, 1 inside."""
    width, height = HEAD_GRID_WH
    cell_w, cell_h = width / HEAD_SPAN[0], height / HEAD_SPAN[1]
    seed = np.zeros((height, width), np.uint8)
    centre = width / 2 - 0.5, HEAD_ABOVE * cell_h - 0.5
    cv2.ellipse(seed, (centre, (cell_w * share, cell_h * share), 0.0), 1, -1)
    return seed


def head_thresholds(threshold: int) -> NDArray[np.uint16]:
    """Returns the threshold of each cell of a head's grid: the further away, the surer it must be.

    Hair hangs down, and seldom reaches further to the sides or up than a hat does; far from the
    head, nothing is of it.
    """
    width, height = HEAD_GRID_WH
    cell_w, cell_h = width / HEAD_SPAN[0], height / HEAD_SPAN[1]
    rows, columns = np.mgrid[0:height, 0:width]
    beside = np.abs(columns - (width / 2 - 0.5)) / cell_w
    down = (rows - (HEAD_ABOVE * cell_h - 0.5)) / cell_h
    far = np.hypot(beside / 0.5, np.where(down < 0, down / 0.5, down / 0.62))
    levels = np.interp(far, (1.0, 2.0, 4.0), (threshold, 128, 190)).astype(np.uint16)
    beyond = (beside > np.where(down > 0.4, 1.0, 0.85)) | (down < -0.85) | (down > 2.3)
    levels[beyond] = np.maximum(levels[beyond], SURE)
    levels[(down < -0.95) | (beside > 1.4)] = NEVER
    return np.asarray(levels, np.uint16)


def body_thresholds(look: PartLook, anchor: Anchor, threshold: int) -> NDArray[np.uint16]:
    """Returns the threshold of each cell of a body's grid: what is not of the person never counts.

    What is of the person hangs together with the middle of the body's box: specks on floors and
    walls, and people beside, do not.
    """
    width, height = BODY_GRID_WH
    person = 255 - look.on(anchor, (0,))[0].astype(np.int16)  # the first plane is the background
    mask = np.asarray(person > threshold, np.uint8)
    # Outside the crop the planes are 0: nothing was looked at there.
    mask[look.on(anchor, range(len(look.planes))).max(axis=0) == 0] = 0
    _, pieces = cv2.connectedComponents(mask)
    core = pieces[
        round(height * (1 - CORE) / 2) : round(height * (1 + CORE) / 2),
        round(width * (1 - CORE) / 2) : round(width * (1 + CORE) / 2),
    ]
    touching = np.unique(core[core > 0])
    near = np.asarray(np.isin(pieces, touching), np.uint8)
    if not touching.size:
        near = np.ones_like(near)
    near = np.asarray(cv2.dilate(near, np.ones((5, 5), np.uint8)), np.uint8)
    return np.where(near > 0, threshold, NEVER).astype(np.uint16)


CORE: Final = 0.4
"""Share of the body's grid, in its middle, that the person must touch. Chosen: whoever else is in
the box touches its edge."""
SURE: Final = 180
"""Of 255: evidence from which a part far from the head counts as its person's. Chosen on the tune
half."""
NEVER: Final = 0xFFFF
"""A threshold that no sum of probabilities reaches. So large that fifteen planes of 255 stay below
it."""


def filled(mask: U8) -> U8:
    """Returns `mask` (0 or 1) closed by a small disc and without holes: one smooth piece."""
    if not mask.any():
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    closed = cv2.morphologyEx(
        cv2.copyMakeBorder(mask, 4, 4, 4, 4, cv2.BORDER_CONSTANT), cv2.MORPH_CLOSE, disc
    )
    outside = np.zeros((closed.shape[0] + 2, closed.shape[1] + 2), np.uint8)
    flooded = closed.copy()
    cv2.floodFill(flooded, outside, (0, 0), 2)
    whole = np.where(flooded == 2, 0, 1).astype(np.uint8)
    return whole[4:-4, 4:-4] | mask
