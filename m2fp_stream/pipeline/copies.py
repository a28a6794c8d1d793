"""The copies and crops that looks get, and what their answers mean in pixels of the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.labels import BODY_PARTS, Label
from ..core.raw import RawFrame
from ..core.records import Detections
from ..parsers.embedded.looker import PART_LABELS, crop_for_closer, crop_for_parts
from ..parsers.embedded.parts import STRIDE
from ..policy import Policy
from ..tracking.heads import Rect
from ..tracking.shape import PartLook
from .solver.records import HEAD_LABELS, Hidden, PartOrder, Reach

__all__ = [
    "MAP_SIDE",
    "PartCrop",
    "boxes_of",
    "crop_of",
    "face_size",
    "hidden_by",
    "live_face_side",
    "look_copy",
    "people_size",
    "shrunk",
    "smaller_copy",
    "turned_copy",
]

MAP_SIDE: Final = 640
"""Long side of the map that covers are drawn on. Chosen: as the default of `look_size`."""
NEAR_SIDE: Final = 384
FAR_SIDE: Final = 1280
"""Long sides at which people who are large and small in the picture are looked for. Chosen."""
HALVED: Final = 2
"""A picture is looked at at half its size, or at the configured size where that is larger: the cost
of a look then stays in proportion to that of decoding."""
LIVE_SIDE: Final = 960
"""Live not more than this: half of 1920. A look then takes about 14 ms where one at 640 takes 6, of
the 33 from frame to frame."""
HEAD_PIXELS: Final = 32_000
BODY_PIXELS: Final = 65_000
"""Of the crops for parts; see `parsers.embedded.parts.CROP_PIXELS`."""


def shrunk(size_wh: tuple[int, int], side: int) -> tuple[int, int]:
    """Returns `size_wh` with a long side of `side`; never enlarged."""
    scale = min(1.0, side / max(size_wh))
    return max(1, round(size_wh[0] * scale)), max(1, round(size_wh[1] * scale))


def face_size(size_wh: tuple[int, int], look_side: int) -> tuple[int, int]:
    """Returns (width, height) at which faces are looked for in a picture of `size_wh`."""
    return shrunk(size_wh, max(look_side, max(size_wh) // HALVED))


def live_face_side(size_wh: tuple[int, int], look_side: int) -> int:
    """Returns the long side at which faces are looked for in a live picture of `size_wh`."""
    return max(look_side, min(LIVE_SIDE, max(size_wh) // HALVED))


def people_size(size_wh: tuple[int, int], reach: Reach, look_side: int) -> tuple[int, int]:
    """Returns (width, height) at which people are looked for in a picture of `size_wh`."""
    side = {
        Reach.NEAR: min(NEAR_SIDE, look_side),
        Reach.MIDDLE: look_side,
        Reach.FAR: max(FAR_SIDE, look_side),
    }[reach]
    return shrunk(size_wh, side)


def look_copy(frame: RawFrame, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns a copy of `frame` at `size_wh`; whoever looks at it zeroes it."""
    with frame.looking() as bgr:
        return smaller_copy(bgr, size_wh)


def smaller_copy(bgr: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns a copy of a copy, `size_wh` at most as large; whoever looks at it zeroes it."""
    if (bgr.shape[1], bgr.shape[0]) == size_wh:
        return bgr.copy()
    return np.asarray(cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def turned_copy(bgr: NDArray[np.uint8], quarters: int) -> NDArray[np.uint8]:
    """Returns a copy turned counter-clockwise and wipes `bgr`; for no quarter, `bgr` itself."""
    if quarters == 0:
        return bgr
    turned = np.ascontiguousarray(np.rot90(bgr, quarters))
    bgr.fill(0)
    return turned


def boxes_of(
    seen: Detections, looked_wh: tuple[int, int], size_wh: tuple[int, int]
) -> list[tuple[Rect, float, float]]:
    """Returns boxes in pixels of a frame of `size_wh`, scores and tilts (radians)."""
    across, down = size_wh[0] / looked_wh[0], size_wh[1] / looked_wh[1]
    rows = zip(seen.xyxy.tolist(), seen.scores.tolist(), seen.rolls.tolist(), strict=True)
    return [
        (Rect(x1 * across, y1 * down, x2 * across, y2 * down), score, roll)
        for (x1, y1, x2, y2), score, roll in rows
    ]


@final
@dataclass(frozen=True, slots=True, eq=False)
class PartCrop:
    """What a close look gets.

    Attributes:
        bgr: (h, w, 3) uint8, turned so that the head is upright.
        shape: of the planes that are expected; (0, 0, 0) where none are.
        matrix: (2, 3) float64, from pixel positions of the upright planes to those of the frame.
        turn: quarters counter-clockwise by which the crop was turned.
    """

    bgr: NDArray[np.uint8]
    shape: tuple[int, int, int]
    matrix: NDArray[np.float64]
    turn: int

    def look(self, planes: NDArray[np.uint8], size_wh: tuple[int, int]) -> PartLook:
        """Returns what the parts' planes say in a frame of `size_wh`."""
        upright = np.ascontiguousarray(np.rot90(planes, -self.turn, axes=(1, 2)))
        return PartLook.inside(upright, self.matrix, size_wh)


def crop_of(frame: RawFrame, order: PartOrder) -> PartCrop:
    """Returns the crop that a close look wants; whoever looks at it zeroes it."""
    if order.face:
        with frame.looking() as bgr:
            closer = crop_for_closer(bgr, order.region)
        return PartCrop(turned_copy(closer, order.turn), (0, 0, 0), np.zeros((2, 3)), order.turn)
    with frame.looking() as bgr:
        pixels = BODY_PIXELS if order.body else HEAD_PIXELS
        crop, matrix = crop_for_parts(bgr, order.region, pixels)
    crop = turned_copy(crop, order.turn)
    shape = len(PART_LABELS), crop.shape[0] // STRIDE, crop.shape[1] // STRIDE
    return PartCrop(crop, shape, matrix, order.turn)


def hidden_by(policy: Policy, *, whole: bool = False) -> Hidden:
    """Returns what a policy hides, as the solver needs it; with `whole`, all of a person."""
    head = [PART_LABELS.index(label) for label in HEAD_LABELS]
    return Hidden(
        labels=BODY_PARTS.ids - {Label.BACKGROUND} if whole else policy.hidden(BODY_PARTS),
        part_labels=PART_LABELS,
        head_parts=tuple(sorted(head)),
        threshold=round(policy.options.threshold * 255),
        margin=policy.options.margin,
    )
