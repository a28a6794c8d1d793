"""The texture search finds what it must and nothing else."""

from __future__ import annotations

import io

import av
import cv2
import numpy as np
import pytest

from tests.kit.texture import contains_marker, marker


def test_a_marker_is_found_in_itself_and_not_in_another() -> None:
    assert contains_marker(marker(1, 64, 80), marker(1, 64, 80))
    assert not contains_marker(marker(2, 64, 80), marker(1, 64, 80))


def test_one_block_is_enough() -> None:
    picture = np.full((64, 80, 3), 90, np.uint8)
    picture[16:24, 40:48] = marker(1, 64, 80)[16:24, 40:48]
    assert contains_marker(picture, marker(1, 64, 80))


def test_a_veil_does_not_hide_it() -> None:
    veiled = cv2.addWeighted(marker(1, 64, 80), 0.1, np.full((64, 80, 3), 90, np.uint8), 0.9, 0)
    assert contains_marker(np.asarray(veiled, np.uint8), marker(1, 64, 80))


def test_blocks_outside_the_mask_do_not_count() -> None:
    mask = np.zeros((64, 80), np.bool_)
    mask[:32] = True
    picture = marker(1, 64, 80)
    picture[:32] = 90
    assert contains_marker(picture, marker(1, 64, 80))
    assert not contains_marker(picture, marker(1, 64, 80), mask)


def test_a_smaller_marker_is_found_anywhere() -> None:
    picture = np.full((64, 80, 3), 90, np.uint8)
    assert not contains_marker(picture, marker(1, 24, 24))
    picture[5:29, 31:55] = marker(1, 24, 24)
    assert contains_marker(picture, marker(1, 24, 24))
    assert not contains_marker(picture, marker(2, 24, 24))


def test_nothing_is_found_in_the_dark_beside_a_lamp() -> None:
    """What a long sum of fractions leaves over, where all is black, once looked like a block."""
    rows, columns = np.mgrid[:180, :320]
    lamp = 200 * np.exp(-(((columns - 100) / 40) ** 2 + ((rows - 90) / 40) ** 2))
    small = (lamp[..., None] * np.array([1, 0.8, 0.6])).astype(np.uint8)
    picture = np.asarray(cv2.resize(small, (640, 360)), np.uint8)
    assert not contains_marker(picture, marker(77, 64, 48))
    picture[290:354, 500:548] = marker(77, 64, 48)
    assert contains_marker(picture, marker(77, 64, 48)), "the control"


@pytest.mark.parametrize("crf", [20, 35])
def test_compression_does_not_hide_it(crf: int) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(marker(1, 96, 160), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer, "r") as source:
        frames = [frame.to_ndarray(format="bgr24") for frame in source.decode(video=0)]
    decoded = [np.asarray(pixels, np.uint8) for pixels in frames]
    assert all(contains_marker(picture, marker(1, 96, 160)) for picture in decoded)
    assert not any(contains_marker(picture, marker(2, 96, 160)) for picture in decoded)
