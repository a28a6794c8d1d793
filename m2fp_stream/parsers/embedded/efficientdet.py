"""Person boxes by EfficientDet-Lite0, from any side; weak below 50 pixels of height.

Source: Tan, Pang, Le, "EfficientDet: Scalable and Efficient Object Detection", arXiv 1911.09070;
anchors and decoding as in google/automl, ``efficientdet/tf2/anchors.py``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .boxes import Box
from .detector import Detector
from .letterbox import Letterbox, letterbox, logit

__all__ = ["EfficientDetPerson"]

LEVELS: Final = 5
"""Maps of stride 8, 16, 32, 64, 128: first five of person logits, then five of boxes. Source:
EfficientDet, arXiv 1911.09070, section 4 (P3 to P7)."""
ANCHOR_SCALE: Final = 3.0
"""Side of the smallest anchor in strides. Source: efficientdet-lite0 in ``hparams_config.py``."""
OCTAVES: Final = 3
"""Anchors of 1, 2^(1/3) and 2^(2/3) times that. Source: as `ANCHOR_SCALE` (num_scales)."""
ASPECTS: Final = (1.0, 2.0, 0.5)
"""Width over height, at equal area. Source: as `ANCHOR_SCALE` (aspect_ratios)."""
OVERLAP_LIMIT: Final = 0.5
"""As for NanoDet. See there."""
LARGEST_LOG: Final = 6.0
"""Sides beyond e^6 anchors are cut there: no overflow. Chosen: 400 of the smallest anchors are
larger than any picture."""


class EfficientDetPerson(Detector):
    """Finds whole or partial bodies."""

    network = "efficientdet_person"

    def __call__(self, bgr: NDArray[np.uint8]) -> list[Box]:
        """Returns the persons, most certain first, in pixels of `bgr` ((h, w, 3) uint8).

        Raises:
            ParserError: the picture is empty, the runtime failed, or its answer is not finite.
        """
        fitted = letterbox(bgr, size=self._size, enlargement=self._enlargement)
        maps = self._network.run(_blob(fitted))
        found = [
            _decode(persons[0], boxes[0], fitted.network_hw, self._threshold)
            for persons, boxes in zip(maps[:LEVELS], maps[LEVELS:], strict=True)
        ]
        xyxy, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return fitted.best(xyxy, scores, OVERLAP_LIMIT)[0]


def _blob(fitted: Letterbox) -> NDArray[np.float32]:
    """Returns (1, 3, h, w) RGB, (value - 127) / 128; black beside the picture."""
    blob = np.full((1, 3, *fitted.network_hw), -127 / 128, np.float32)
    height, width = fitted.inner.shape[:2]
    for channel, plane in enumerate(reversed(cv2.split(fitted.inner))):
        part = blob[0, channel, :height, :width]
        np.multiply(plane, np.float32(1 / 128), out=part, dtype=np.float32)
        part -= np.float32(127 / 128)
    return blob


def _decode(
    persons: NDArray[np.float32],
    boxes: NDArray[np.float32],
    network_hw: tuple[int, int],
    threshold: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns (n, 4) corners in network pixels and (n,) scores of one level.

    Args:
        persons: (anchors, h, w) logits.
        boxes: (anchors * 4, h, w): y and x of the centre in anchor sides, log height, log width.
        network_hw: sides of the input.
        threshold: smallest score.
    """
    anchors, rows, columns = np.nonzero(persons >= logit(threshold))
    cells = persons.shape[1:]
    stride = np.array(network_hw, np.float32) / np.array(cells, np.float32)
    sides = _anchor_sides()[anchors] * stride
    values = boxes.reshape(-1, 4, *cells)[anchors, :, rows, columns]
    middle = (np.stack([rows, columns], axis=1) + np.float32(0.5)) * stride
    center = middle + values[:, :2] * sides
    half = np.exp(np.minimum(values[:, 2:], LARGEST_LOG)) * sides / 2
    yxyx = np.concatenate([center - half, center + half], axis=1)
    scores = 1 / (1 + np.exp(-persons[anchors, rows, columns]))
    return yxyx[:, [1, 0, 3, 2]].astype(np.float32), scores.astype(np.float32)


@lru_cache(maxsize=1)
def _anchor_sides() -> NDArray[np.float32]:
    """Returns (9, 2) heights and widths in strides; a shape's sizes follow one another."""
    sides = [
        (
            ANCHOR_SCALE * 2 ** (octave / OCTAVES) / aspect**0.5,
            ANCHOR_SCALE * 2 ** (octave / OCTAVES) * aspect**0.5,
        )
        for octave in range(OCTAVES)
        for aspect in ASPECTS
    ]
    table = np.array(sides, np.float32)
    table.flags.writeable = False
    return table
