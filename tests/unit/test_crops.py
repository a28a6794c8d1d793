"""Crops of pictures: averaging a part gives what averaging the whole would give."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from m2fp_stream.parsers.embedded.crops import cut

RNG = np.random.default_rng(7)
PICTURE = RNG.integers(0, 256, (360, 640, 3), np.uint8)
SHAPE = (96, 80)


@pytest.mark.parametrize("center", [(320.0, 180.0), (3.5, 350.2), (-400.0, 90.0)])
@pytest.mark.parametrize("scale", [0.1, 0.15, 0.25, 0.3, 0.415])
def test_a_crop_is_that_of_the_whole_picture_averaged_down(
    center: tuple[float, float], scale: float
) -> None:
    smaller = round(640 * 2 * scale), round(360 * 2 * scale)
    whole = cv2.resize(PICTURE, smaller, interpolation=cv2.INTER_AREA)
    ratio = np.array([640 / smaller[0], 360 / smaller[1]])
    shift = np.array(SHAPE[::-1]) / 2 - 0.5 - scale * (np.array(center) - 0.5)
    shift += scale * (ratio / 2 - 0.5)
    matrix = np.array([[scale * ratio[0], 0, shift[0]], [0, scale * ratio[1], shift[1]]])
    expected = cv2.warpAffine(whole, matrix, SHAPE[::-1], flags=cv2.INTER_LINEAR)
    apart = np.abs(cut(PICTURE, center, scale, SHAPE).astype(int) - expected)
    assert apart.max() <= 1  # of noise, rounded in another place
    assert np.count_nonzero(apart) <= 0.02 * apart.size
