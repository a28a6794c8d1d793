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

from .crops import View
from .runtime import open_network

__all__ = ["FACE_POINTS", "LEFT_SHOULDER", "RIGHT_SHOULDER", "Body", "BodyParser", "Region"]

SIDE: Final = 256
"""Pixels of the network's input. Source: the network."""
POINTS: Final = 33
"""Real key points; the network's last six are auxiliary. Source: as `FACE_POINTS`."""
FACE_POINTS: Final = slice(0, 11)
"""Nose, eyes, ears, mouth. Source: the list of BlazePose's key points (MediaPipe, Pose landmark
model), 0 to 10."""
LEFT_SHOULDER: Final = 11
RIGHT_SHOULDER: Final = 12
"""Source: as `FACE_POINTS`."""


@dataclass(frozen=True, slots=True)
class Region:
    """A square of the map to look at: centre and side in pixels; may leave the map."""

    x: float
    y: float
    side: float


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """What BlazePose saw in one region.

    Attributes:
        mask: (h, w) float32 probability of "person" at the map's size, zero outside the region.
        points: (33, 4) float32: x, y in pixels of the map, visibility, presence 0..1.
        presence: 0..1, that there is a person in the region at all.
    """

    mask: NDArray[np.float32]
    points: NDArray[np.float32]
    presence: float


class BodyParser:
    """Runs BlazePose on square regions of a picture."""

    def __init__(self, *, threads: int, runtime: str | None) -> None:
        self._network = open_network("blazepose", threads=threads, runtime=runtime)

    def __call__(self, view: View, region: Region) -> Body:
        """Returns the person in `region`, in pixels of the map."""
        height, width = view.shape
        scale = SIDE / region.side
        crop = view.cut((region.x, region.y), scale, (SIDE, SIDE))
        blob = cv2.dnn.blobFromImage(crop, 1 / 255, swapRB=True)
        landmarks, presence, logits = self._network.run(np.ascontiguousarray(blob, np.float32))
        mask = _sigmoid(logits[0, 0])
        # From a pixel of the crop to one of the map, both by their centres.
        start = np.array([region.x, region.y]) - SIDE / 2 / scale + 0.5 / scale - 0.5
        to_map = np.array([[1 / scale, 0, start[0]], [0, 1 / scale, start[1]]])
        full = cv2.warpAffine(mask, to_map, (width, height), flags=cv2.INTER_LINEAR)
        table = landmarks.reshape(-1, 5)[:POINTS]
        points = np.empty((POINTS, 4), np.float32)
        points[:, :2] = (table[:, :2] - SIDE / 2) / scale + (region.x, region.y)
        points[:, 2:] = _sigmoid(table[:, 3:5])
        return Body(np.asarray(full, np.float32), points, float(presence.reshape(-1)[0]))


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), np.float32)
