"""Faces by CenterFace.

Source: Xu, Yan, Yang, Meng, Cao, Yang, "CenterFace: Joint Face Detection and Alignment Using Face
as Point", arXiv 1911.03599: a heat map at stride 4, log sizes, centre offsets.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .boxes import Box, suppress_overlaps
from .detector import Detector

__all__ = ["FaceDetector"]

STRIDE: Final = 4
"""Picture pixels a heat-map cell. Source: section 3 of the paper."""
NETWORK_MULTIPLE: Final = 32
"""The network halves five times, so both sides are multiples of 2^5. Source: CenterFace, section
3."""
OVERLAP_LIMIT: Final = 0.3
"""Source: the authors' demo (Star-Clouds/CenterFace)."""


class FaceDetector(Detector):
    """Finds frontal to profile faces, not the backs of heads."""

    network = "centerface"
    arena = False

    def __call__(self, bgr: NDArray[np.uint8]) -> list[Box]:
        """Returns the faces, most certain first, in pixels of `bgr` ((h, w, 3) uint8)."""
        height, width = bgr.shape[:2]
        scale = min(self._size / max(height, width), self._enlargement)
        network_wh = (_network_side(width * scale), _network_side(height * scale))
        filter_kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(bgr, network_wh, interpolation=filter_kind)
        # Trained on RGB 0..255 without normalisation.
        blob = cv2.dnn.blobFromImage(resized, swapRB=True)
        heatmap, sizes, offsets, _ = self._network.run(np.ascontiguousarray(blob, np.float32))
        rows, columns = np.nonzero(heatmap[0, 0] >= self._threshold)
        if rows.size == 0:
            return []
        scores = heatmap[0, 0, rows, columns]
        box_h = np.exp(sizes[0, 0, rows, columns]) * STRIDE
        box_w = np.exp(sizes[0, 1, rows, columns]) * STRIDE
        center_y = (rows + offsets[0, 0, rows, columns] + 0.5) * STRIDE
        center_x = (columns + offsets[0, 1, rows, columns] + 0.5) * STRIDE
        corners = np.stack(
            [
                center_x - box_w / 2,
                center_y - box_h / 2,
                center_x + box_w / 2,
                center_y + box_h / 2,
            ],
            axis=1,
        )
        to_picture = np.array([width, height, width, height]) / np.array([*network_wh, *network_wh])
        xyxy = np.asarray(corners * to_picture, np.float32)
        kept = suppress_overlaps(xyxy, scores, OVERLAP_LIMIT)
        return [Box.from_row(xyxy[i], scores[i]) for i in kept]


def _network_side(pixels: float) -> int:
    return max(1, math.ceil(pixels / NETWORK_MULTIPLE)) * NETWORK_MULTIPLE
