"""The embedded looker: YuNet for faces, EfficientDet-Lite0 for people, our network for parts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.errors import ParserError
from m2fp_stream.core.labels import Label
from m2fp_stream.core.records import Detections, LookKind, PartPlanes
from m2fp_stream.parsers.base import Looker

from .boxes import Box
from .classes import LABEL_OF, PartClass
from .closer import CROP_SIDE, SURROUNDINGS, CloserFace
from .crops import cut
from .efficientdet import EfficientDetPerson
from .letterbox import lifted
from .parts import CENTRE, STRIDE, network_shape
from .runtime import Given, Network, open_network
from .yunet import YuNet

__all__ = [
    "PART_LABELS",
    "EmbeddedLooker",
    "crop_for_closer",
    "crop_for_parts",
    "from_options",
    "part_chances",
]

NEAR_SIDE: Final = 384
"""Long side at which people are looked for first; in larger copies at their own size, besides. A
size of EfficientDet's that was measured (docs/parsers.md: 18 ms, .94 of those of 50 pixels and
more)."""
LARGEST_PX: Final = 288.0
"""Longer side of the largest body that counts there: the network knows pictures of 320 pixels, and
cuts larger bodies (research notes, "every frame")."""
SAME_PERSON: Final = 0.7
"""Share of a small box in a larger one from which both sizes found the same person: at larger sizes
the upper half of somebody may be taken for a person. Chosen: more than half."""
WEAKEST: Final = 0.15
"""Scores below are not reported. What is weak may become somebody by what else is seen. There .41
of the boxes at 640 pixels are people (docs/parsers.md, "What a score is worth")."""

PART_LABELS: Final[tuple[Label, ...]] = tuple(LABEL_OF[part] for part in PartClass)
"""The label of each plane of `PartPlanes`."""


class EmbeddedLooker(Looker):
    """Looks with small networks that ship with the package.

    Args:
        threads: of each network.
        runtime: library that runs them; None takes the measured choice.
        kinds: of look that it is for; it refuses the others, and loads nothing for them.
        parts: weights of the part network, instead of the shipped ones.

    Raises:
        ModelError: weights are missing or changed, or the runtime is not installed.
    """

    name = "embedded"

    def __init__(
        self,
        *,
        threads: int = 1,
        runtime: str | None = None,
        kinds: Collection[LookKind] = tuple(LookKind),
        parts: Given | None = None,
    ) -> None:
        self._yunet: YuNet | None = None
        self._people_at: EfficientDetPerson | None = None
        self._judge: CloserFace | None = None
        self._network: Network | None = None
        if LookKind.FACES in kinds:
            self._yunet = YuNet(size=640, threshold=WEAKEST, threads=threads, runtime=runtime)
        if LookKind.PEOPLE in kinds:
            self._people_at = EfficientDetPerson(
                size=NEAR_SIDE, threshold=WEAKEST, threads=threads, runtime=runtime
            )
        if LookKind.CLOSER in kinds:
            self._judge = CloserFace(threads=threads, runtime=runtime)
        if LookKind.PARTS in kinds:
            self._network = open_network("parts", threads=threads, runtime=runtime, given=parts)

    def _faces(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        if self._yunet is None:
            raise _refused(LookKind.FACES)
        found = self._yunet.at(max(bgr.shape[:2]))(bgr)
        # YuNet's points do not turn with a head (docs/parsers.md): a closer look says the tilt.
        rolls = [0.0] * len(found)
        return _detections(frame_id, LookKind.FACES, [face.box for face in found], rolls)

    def _people(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        if self._people_at is None:
            raise _refused(LookKind.PEOPLE)
        side = max(bgr.shape[:2])
        # The larger one first: what a smaller one needs then fits into the arena that is there
        # (155 instead of 186 MB).
        closer = self._people_at.at(side)(bgr) if side > NEAR_SIDE else []
        found = self._people_at.at(min(NEAR_SIDE, side))(bgr)
        for box in closer:
            small = max(box.width, box.height) <= LARGEST_PX
            if small and all(_overlap(_row(box), _row(other)) < SAME_PERSON for other in found):
                found.append(box)
        return _detections(frame_id, LookKind.PEOPLE, found, [0.0] * len(found))

    def _closer(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        if self._judge is None:
            raise _refused(LookKind.CLOSER)
        side = bgr.shape[0]
        rest = (1 - 1 / SURROUNDINGS) / 2 * side
        box = Box(rest, rest, side - rest, side - rest, 1.0)
        look = self._judge(lifted(bgr), box)
        judged = Box(box.x1, box.y1, box.x2, box.y2, min(1.0, max(0.0, look.confidence)))
        roll = math.radians(look.roll_deg)
        return _detections(frame_id, LookKind.CLOSER, [judged], [roll])

    def _parts(self, bgr: NDArray[np.uint8], frame_id: int) -> PartPlanes:
        if self._network is None:
            raise _refused(LookKind.PARTS)
        planes = np.rint(part_chances(self._network, bgr) * 255).astype(np.uint8)
        return PartPlanes(frame_id=frame_id, planes=planes)


def part_chances(network: Network, bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the (16, h/2, w/2) probabilities that a part network gives for a crop."""
    # Trained on RGB -1..1.
    bgr = lifted(bgr)
    blob = cv2.dnn.blobFromImage(bgr, 1 / CENTRE, mean=(CENTRE, CENTRE, CENTRE), swapRB=True)
    (chances,) = network.run(np.ascontiguousarray(blob, np.float32))
    return np.asarray(chances[0], np.float32)


def crop_for_closer(
    bgr: NDArray[np.uint8], box: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    """Returns the square crop of a closer look at a face.

    Args:
        bgr: (H, W, 3) uint8 frame at full size.
        box: x1, y1, x2, y2 of the face in its pixels.
    """
    x1, y1, x2, y2 = box
    side = max(1.0, SURROUNDINGS * max(x2 - x1, y2 - y1))
    return cut(bgr, ((x1 + x2) / 2, (y1 + y2) / 2), CROP_SIDE / side, (CROP_SIDE, CROP_SIDE))


def crop_for_parts(
    bgr: NDArray[np.uint8], region: tuple[float, float, float, float], most_pixels: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Returns the crop that the part network gets of a region, and where its planes lie.

    Args:
        bgr: (H, W, 3) uint8 frame at full size.
        region: x1, y1, x2, y2 in its pixels; may leave it (black there, as in training).
        most_pixels: of the crop; fewer where the frame has no more to see.

    Returns:
        The (h, w, 3) uint8 crop, and the (2, 3) float64 map from pixel positions of the planes
        (half the crop's size) to those of the frame.
    """
    x1, y1, x2, y2 = region
    box = Box(x1, y1, x2, y2, 1.0)
    height, width = network_shape(box, min(float(most_pixels), box.width * box.height))
    scale = min(height / max(box.height, 1.0), width / max(box.width, 1.0))
    crop = cut(bgr, box.center, scale, (height, width))
    step = STRIDE / scale
    x, y = box.center
    # Pixel centres: crop position p (continuous) lies at centre + (p - size / 2) / scale.
    matrix = np.array(
        [
            [step, 0.0, x - width / 2 / scale + 0.5 * step - 0.5],
            [0.0, step, y - height / 2 / scale + 0.5 * step - 0.5],
        ]
    )
    return crop, matrix


def from_options(
    *,
    threads: int = 1,
    runtime: str | None = None,
    kinds: Collection[str] = tuple(LookKind),
    parts: Mapping[str, str] | None = None,
) -> EmbeddedLooker:
    """Makes the looker from JSON values; what a looker process calls.

    Args:
        threads: see `EmbeddedLooker`.
        runtime: likewise.
        kinds: likewise.
        parts: `path` and `sha256` of weights of the part network, instead of the shipped ones.

    Raises:
        ModelError: the weights are missing or changed.
    """
    wanted = [LookKind(kind) for kind in kinds]
    given = None if parts is None else Given(parts["path"], parts["sha256"])
    return EmbeddedLooker(threads=threads, runtime=runtime, kinds=wanted, parts=given)


def _refused(kind: LookKind) -> ParserError:
    return ParserError(f"this looker was not made for looks of kind {kind}")


def _row(box: Box) -> tuple[float, float, float, float]:
    return box.x1, box.y1, box.x2, box.y2


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Returns the share of the smaller box that lies in the other, 0..1."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return width * height / max(1e-6, min(areas))


def _detections(frame_id: int, kind: LookKind, boxes: list[Box], rolls: list[float]) -> Detections:
    return Detections(
        frame_id=frame_id,
        kind=kind,
        xyxy=np.array([_row(box) for box in boxes], np.float32).reshape(-1, 4),
        scores=np.array([box.confidence for box in boxes], np.float32),
        rolls=np.array(rolls, np.float32),
    )
