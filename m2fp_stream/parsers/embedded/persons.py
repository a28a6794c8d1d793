"""Person boxes by NanoDet, from any side and in the dark.

Source: RangiLyu/nanodet (Apache-2.0); box distances as distributions from Li et al., "Generalized
Focal Loss", arXiv 2006.04388, equation 4.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .boxes import Box, suppress_overlaps
from .detector import LARGEST_ENLARGEMENT
from .runtime import open_network

__all__ = ["PersonDetector"]

NETWORK_MULTIPLE: Final = 32
"""The coarsest stride: network sides are multiples of it. Source: `STRIDES`."""
MEAN_BGR: Final = np.array([103.53, 116.28, 123.675], np.float32)
"""Source: `img_norm_cfg` of nanodet's configurations (ImageNet's mean, BGR)."""
STD_BGR: Final = np.array([57.375, 57.12, 58.395], np.float32)
"""Source: as `MEAN_BGR`."""
STRIDES: Final = (8, 16, 32)
"""One output each, in this order. Source: NanoDet's configuration."""
BINS: Final = 11
"""Distances of 0 to 10 strides from the cell's centre to each side (`reg_max` 10). Source:
NanoDet's configuration."""
OVERLAP_LIMIT: Final = 0.5
"""Looser than nanodet's 0.6, which leaves two boxes on one person."""


FAR_SHARE: Final = 0.45
"""Boxes of the finer look count up to this share of the picture's long side: people who fill the
picture fall apart into arms and legs there (on 30 street photographs the background covered by
`head` rises from 5 to 14 % without this limit)."""


class PersonDetector:
    """Finds whole or partial bodies; weak on people who fill the picture.

    It looks twice: at `size`, and at `far_size` for small boxes only.

    Args:
        size: long side of the network input in pixels.
        far_size: the same for people far away; no second look where it is not larger.
        enlargement: a small picture is enlarged to the network's size at most so much.
        threshold: smallest confidence that is reported.
    """

    def __init__(
        self,
        *,
        size: int,
        far_size: int,
        threshold: float,
        threads: int,
        runtime: str | None,
        enlargement: float = LARGEST_ENLARGEMENT,
    ) -> None:
        self._enlargement = enlargement
        self._network = open_network("nanodet_person", threads=threads, runtime=runtime)
        self._size, self._far_size = size, far_size
        self._threshold = threshold

    def __call__(self, bgr: NDArray[np.uint8]) -> list[Box]:
        """Returns the persons, most certain first, in pixels of `bgr` ((h, w, 3) uint8)."""
        xyxy, scores = self._look(bgr, self._size)
        far = self._far(bgr)
        if far:
            corners = [(box.x1, box.y1, box.x2, box.y2) for box in far]
            xyxy = np.concatenate([xyxy, np.array(corners, np.float32)])
            confidences = np.array([box.confidence for box in far], np.float32)
            scores = np.concatenate([scores, confidences])
        kept = suppress_overlaps(xyxy, scores, OVERLAP_LIMIT)
        return [Box.from_row(xyxy[i], scores[i]) for i in kept]

    def _far(self, bgr: NDArray[np.uint8]) -> list[Box]:
        """Returns the small boxes of the finer look; none where it would be no finer."""
        side = max(bgr.shape[:2])
        if min(self._far_size, self._enlargement * side) <= self._size:
            return []
        largest = FAR_SHARE * side
        xyxy, scores = self._look(bgr, self._far_size)
        small = (xyxy[:, 2:] - xyxy[:, :2]).max(axis=1, initial=0) <= largest
        return [Box.from_row(xyxy[i], scores[i]) for i in np.flatnonzero(small)]

    def _look(
        self, bgr: NDArray[np.uint8], size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns (n, 4) corners in pixels of `bgr` and (n,) confidences at one network size."""
        height, width = bgr.shape[:2]
        scale = min(size / max(height, width), self._enlargement)
        inner_w, inner_h = max(1, round(width * scale)), max(1, round(height * scale))
        filter_kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas = np.zeros((_network_side(inner_h), _network_side(inner_w), 3), np.float32)
        canvas[:inner_h, :inner_w] = cv2.resize(bgr, (inner_w, inner_h), interpolation=filter_kind)
        blob = ((canvas - MEAN_BGR) / STD_BGR).transpose(2, 0, 1)[None]
        levels = self._network.run(np.ascontiguousarray(blob))
        found = [
            _decode(level[0], stride, self._threshold)
            for level, stride in zip(levels, STRIDES, strict=True)
        ]
        xyxy = np.concatenate([boxes for boxes, _ in found])
        scores = np.concatenate([values for _, values in found])
        to_picture = np.array([width / inner_w, height / inner_h] * 2, np.float32)
        limits = np.array([width, height] * 2, np.float32)
        return np.clip(xyxy * to_picture, 0, limits).astype(np.float32), scores


def _network_side(pixels: int) -> int:
    return -(-pixels // NETWORK_MULTIPLE) * NETWORK_MULTIPLE


def _decode(
    level: NDArray[np.float32], stride: int, threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns (n, 4) corners in network pixels and (n,) scores of one stride's output."""
    scores_map = 1 / (1 + np.exp(-level[0]))
    rows, columns = np.nonzero(scores_map >= threshold)
    logits = level[1:, rows, columns].reshape(4, BINS, rows.size)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    bins = np.arange(BINS, dtype=np.float32)
    left, top, right, bottom = np.einsum("sbn,b->sn", weights, bins) * stride
    center_x, center_y = (columns + 0.5) * stride, (rows + 0.5) * stride
    corners = [center_x - left, center_y - top, center_x + right, center_y + bottom]
    xyxy = np.stack(corners, axis=1).astype(np.float32)
    return xyxy, scores_map[rows, columns].astype(np.float32)
