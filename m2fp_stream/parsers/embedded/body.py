"""Person mask and key points of one region of interest by BlazePose "full".

Source: Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", arXiv 2006.10204;
key point order from MediaPipe's pose landmark model card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .runtime import open_network

__all__ = ["FACE_POINTS", "LEFT_SHOULDER", "RIGHT_SHOULDER", "Body", "BodyParser", "Region"]

SIDE: Final = 256
POINTS: Final = 33
"""Real key points; the network's last six are auxiliary."""
FACE_POINTS: Final = slice(0, 11)
"""Nose, eyes, ears, mouth."""
LEFT_SHOULDER: Final = 11
RIGHT_SHOULDER: Final = 12


@dataclass(frozen=True, slots=True)
class Region:
    """A square of the picture to look at: centre and side in pixels; may leave the picture."""

    x: float
    y: float
    side: float


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """What BlazePose saw in one region.

    Attributes:
        mask: (h, w) float32 probability of "person", zero outside the region.
        points: (33, 4) float32: x, y in pixels of the picture, visibility, presence 0..1.
        presence: 0..1, that there is a person in the region at all.
    """

    mask: NDArray[np.float32]
    points: NDArray[np.float32]
    presence: float


class BodyParser:
    """Runs BlazePose on square regions of a picture."""

    def __init__(self, *, threads: int, runtime: str | None) -> None:
        self._network = open_network("blazepose", threads=threads, runtime=runtime)

    def __call__(self, bgr: NDArray[np.uint8], region: Region) -> Body:
        """Returns the person in `region`, in coordinates of `bgr` ((h, w, 3) uint8)."""
        height, width = bgr.shape[:2]
        scale = SIDE / region.side
        to_crop = np.array(
            [
                [scale, 0, SIDE / 2 - scale * region.x - 0.5 + 0.5 * scale],
                [0, scale, SIDE / 2 - scale * region.y - 0.5 + 0.5 * scale],
            ]
        )
        crop = _crop(bgr, to_crop, scale)
        blob = cv2.dnn.blobFromImage(crop, 1 / 255, swapRB=True)
        landmarks, presence, logits = self._network.run(np.ascontiguousarray(blob, np.float32))
        mask = _sigmoid(logits[0, 0])
        to_picture = cv2.invertAffineTransform(to_crop)
        full = cv2.warpAffine(mask, to_picture, (width, height), flags=cv2.INTER_LINEAR)
        table = landmarks.reshape(-1, 5)[:POINTS]
        points = np.empty((POINTS, 4), np.float32)
        points[:, :2] = (table[:, :2] - SIDE / 2) / scale + (region.x, region.y)
        points[:, 2:] = _sigmoid(table[:, 3:5])
        return Body(np.asarray(full, np.float32), points, float(presence.reshape(-1)[0]))


def _crop(bgr: NDArray[np.uint8], to_crop: NDArray[np.float64], scale: float) -> NDArray[np.uint8]:
    """Returns the (256, 256, 3) crop, black outside the picture, without aliasing."""
    source, matrix = bgr, to_crop
    if scale < 0.5:
        height, width = bgr.shape[:2]
        smaller = (max(1, round(width * 2 * scale)), max(1, round(height * 2 * scale)))
        source = np.asarray(cv2.resize(bgr, smaller, interpolation=cv2.INTER_AREA), np.uint8)
        ratio = np.array([width / smaller[0], height / smaller[1]])
        matrix = to_crop.copy()
        # Pixel centres: x = (x' + 0.5) * ratio - 0.5 in the original picture.
        matrix[:, 2] += to_crop[:, :2] @ (ratio / 2 - 0.5)
        matrix[:, :2] *= ratio
    crop = cv2.warpAffine(source, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return np.asarray(crop, np.uint8)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), np.float32)
