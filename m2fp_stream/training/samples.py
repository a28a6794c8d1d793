"""What is learned from a picture: crops of the people in it, and what the teacher sees there.

Crops are in memory only; whoever holds them zeroes them (`Sample.forget`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.labels import Label
from ..core.records import ParseResult
from ..parsers.embedded.classes import LABEL_OF, PartClass
from ..parsers.embedded.looker import crop_for_parts
from ..parsers.embedded.parts import CROP_PIXELS

__all__ = ["CLASS_OF", "HEAD_CLASSES", "IGNORE", "Sample", "batch_of", "samples_of"]

IGNORE: Final = 255
"""Pixels of which nothing is known: neither learned nor counted."""

_ALSO: Final = {
    Label.DRESS: PartClass.UPPER_CLOTHES,
    Label.COAT: PartClass.UPPER_CLOTHES,
    Label.SKIRT: PartClass.LOWER_CLOTHES,
    Label.SOCKS: PartClass.LOWER_CLOTHES,
}
"""CIHP's labels that the part network has within a wider class. Source: `core.labels.BODY_PARTS`;
socks as in `scripts/train/photos.py`."""
CLASS_OF: Final = np.full(256, IGNORE, np.uint8)
"""The class of each CIHP label, `IGNORE` where it says none: gloves, and somebody's pixels of which
the teacher does not say what they are."""
for _part, _label in LABEL_OF.items():
    if _label is not Label.HUMAN:
        CLASS_OF[_label] = _part
for _label, _part in _ALSO.items():
    CLASS_OF[_label] = _part
CLASS_OF.setflags(write=False)

HEAD_CLASSES: Final = (
    PartClass.HAIR,
    PartClass.FACE,
    PartClass.HAT,
    PartClass.GLASSES,
    PartClass.SCARF,
)
"""What `--hide head` hides. Source: `core.labels.PRESETS`."""

MOST_PEOPLE: Final = 6
"""Of one picture, largest first. Chosen: `parser.max_regions`."""
LEAST_CELLS: Final = 64
"""Of the teacher's map, for somebody to be learned from. Chosen: eight by eight; smaller people are
guesses of any teacher."""
ROOM: Final = 1.25
"""Size of a crop over that of what is in it. Chosen: what is beside people has to be learned,
too."""
HEAD_ROOM: Final = 2.0
"""The same of a crop of a head. Chosen: as looks at heads are, with what hangs below."""
_MIRRORED: Final = np.arange(256, dtype=np.uint8)
for _one, _other in (
    (PartClass.LEFT_ARM, PartClass.RIGHT_ARM),
    (PartClass.LEFT_LEG, PartClass.RIGHT_LEG),
    (PartClass.LEFT_SHOE, PartClass.RIGHT_SHOE),
):
    _MIRRORED[_one], _MIRRORED[_other] = _other, _one
GAIN: Final = (0.5, 1.2)
"""Brightness that crops are learned at, of their own. Chosen: rooms are darker than photographs."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One crop, and what the teacher sees in it.

    Attributes:
        bgr: (h, w, 3) uint8, sides multiples of 32.
        classes: (h/2, w/2) uint8 `PartClass`, or `IGNORE`.
    """

    bgr: NDArray[np.uint8]
    classes: NDArray[np.uint8]

    def forget(self) -> None:
        """Zeroes the pixels."""
        self.bgr.fill(0)
        self.classes.fill(0)

    def __repr__(self) -> str:
        return f"Sample({self.bgr.shape[1]}x{self.bgr.shape[0]})"


def samples_of(
    bgr: NDArray[np.uint8], seen: ParseResult, most_pixels: int = CROP_PIXELS
) -> Iterator[Sample]:
    """Gives a crop of each person that the teacher tells apart, and one of each head.

    Args:
        bgr: (H, W, 3) uint8, what the teacher saw.
        seen: what it saw there.
        most_pixels: of a crop.
    """
    if seen.instances is None:
        return
    numbers, counts = np.unique(seen.instances[seen.instances > 0], return_counts=True)
    classes = CLASS_OF[seen.label_map]
    order = sorted(zip(-counts.astype(int), numbers.tolist(), strict=True))[:MOST_PEOPLE]
    for size, number in order:
        if -size < LEAST_CELLS:
            break
        body = seen.instances == number
        yield _sample(bgr, classes, body, ROOM, most_pixels)
        head = body & np.isin(classes, HEAD_CLASSES)
        if head.any():
            yield _sample(bgr, classes, head, HEAD_ROOM, most_pixels)


def _sample(
    bgr: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    where: NDArray[np.bool_],
    room: float,
    most_pixels: int,
) -> Sample:
    across, along = bgr.shape[1] / classes.shape[1], bgr.shape[0] / classes.shape[0]
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    x1, x2 = columns[0] * across, (columns[-1] + 1) * across
    y1, y2 = rows[0] * along, (rows[-1] + 1) * along
    dx, dy = (room - 1) / 2 * (x2 - x1), (room - 1) / 2 * (y2 - y1)
    crop, to_frame = crop_for_parts(bgr, (x1 - dx, y1 - dy, x2 + dx, y2 + dy), most_pixels)
    # From cells of the crop's planes to cells of the teacher's map, both by their centres.
    to_map = to_frame.copy()
    to_map[0] /= across
    to_map[1] /= along
    to_map[:, 2] += np.array([0.5 / across, 0.5 / along]) - 0.5
    size = crop.shape[1] // 2, crop.shape[0] // 2
    labels = cv2.warpAffine(
        classes,
        to_map,
        size,
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=int(PartClass.BACKGROUND),
    )
    return Sample(np.array(crop, np.uint8), np.array(labels, np.uint8))


def batch_of(
    samples: Sequence[Sample], step: int, size: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns the (n, 3, h, w) uint8 RGB and (n, h/2, w/2) classes of a step: a function of these.

    All samples of a batch are brought to the shape of its first. Half are mirrored, all change in
    brightness.
    """
    rng = np.random.default_rng([seed, step])
    chosen = [samples[index] for index in rng.integers(len(samples), size=size)]
    height, width = chosen[0].bgr.shape[:2]
    pixels = np.empty((size, 3, height, width), np.uint8)
    classes = np.empty((size, height // 2, width // 2), np.uint8)
    for index, one in enumerate(chosen):
        bgr = cv2.resize(one.bgr, (width, height), interpolation=cv2.INTER_AREA)
        labels = cv2.resize(
            one.classes, (width // 2, height // 2), interpolation=cv2.INTER_NEAREST_EXACT
        )
        if rng.random() < 0.5:
            bgr, labels = bgr[:, ::-1], _MIRRORED[labels[:, ::-1]]
        gained = np.clip(bgr * rng.uniform(*GAIN), 0, 255).astype(np.uint8)
        pixels[index] = gained[:, :, ::-1].transpose(2, 0, 1)
        classes[index] = labels
        gained.fill(0)
    return pixels, classes
