"""HDR as SDR: what is meant for a screen's white is as bright as before, and brighter is apart."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import av
import numpy as np
import pytest
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from m2fp_stream.core.ring import BufferPool
from m2fp_stream.sources.convert import ColorTags, write_bgr
from m2fp_stream.sources.orientation import Orientation

PQ, HLG = 16, 18
CELL = 16


def pq(light: float) -> float:
    """ITU-R BT.2100, table 4: the code of so many cd/m2, from 0 to 1."""
    power = (light / 10_000) ** (2610 / 16384)
    coded = (3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)
    return float(coded ** (2523 / 32))


def hlg(light: float) -> float:
    """ITU-R BT.2100, table 5: that of a grey of so many cd/m2 on a display of 1000."""
    scene = (light / 1000) ** (1 / 1.2)
    if scene <= 1 / 12:
        return float(np.sqrt(3 * scene))
    return float(0.17883277 * np.log(12 * scene - 0.28466892) + 0.55991073)


def frame_of(codes: list[float], transfer: int, pix_fmt: str = "yuv444p10le") -> av.VideoFrame:
    """Cells of grey side by side."""
    row = np.repeat([round(64 + 876 * code) for code in codes], CELL).astype(np.uint16)
    grey, frame = np.full_like(row, 512), av.VideoFrame(len(row), CELL, "yuv444p10le")
    for plane, values in zip(frame.planes, (row, grey, grey), strict=True):
        _fill(plane, values)
    frame.color_primaries, frame.colorspace, frame.color_range = 9, 9, 1
    if pix_fmt != "yuv444p10le":
        frame = frame.reformat(format=pix_fmt)
    frame.color_primaries, frame.color_trc = 9, transfer
    return frame


def _fill(plane: VideoPlane, row: NDArray[np.uint16]) -> None:
    cells = np.asarray(memoryview(plane)).view(np.uint16).reshape(CELL, -1)
    cells[:, : len(row)] = row


def shown(frame: av.VideoFrame) -> list[int]:
    """The levels of the cells, which are grey still."""
    out = np.zeros((frame.height, frame.width, 3), np.uint8)
    write_bgr(frame, Orientation(), out, reformatter=VideoReformatter(), name="x")
    middle = out[CELL // 2, CELL // 2 :: CELL].astype(int)
    assert (middle.max(axis=1) - middle.min(axis=1)).max() <= 2
    return [int(level) for level in middle[:, 1]]


# swscale takes seconds of CPU time to prepare for a format with HDR: each test is one.


@pytest.mark.parametrize(("transfer", "code"), [(PQ, pq), (HLG, hlg)])
def test_light_below_white_is_kept_and_brighter_stays_apart(
    transfer: int, code: Callable[[float], float]
) -> None:
    lights = [1.0, 5, 10, 26, 50, 80, 100, 150, 203, 300, 400, 600, 1000]
    beyond = [0.0, pq(4000), 1.0] if transfer == PQ else [0.0, 1.0, 1.0]
    levels = shown(frame_of([*(code(light) for light in lights), *beyond], transfer))
    assert levels[len(lights) :] == pytest.approx([0, 255, 255], abs=1)
    levels = levels[: len(lights)]
    for light, level in zip(lights, levels, strict=True):
        if light <= 80:  # ITU-R BT.1886, with 203 cd/m2 for white (ITU-R BT.2408)
            assert level == pytest.approx(255 * (light / 203) ** (1 / 2.4), abs=3)
    assert all(lower < higher for lower, higher in pairwise(levels[:-1]))
    assert levels[lights.index(203)] == pytest.approx(230, abs=3)  # BT.2390, by hand: 159 cd/m2
    assert levels[lights.index(400)] == pytest.approx(250, abs=2)  # 194 cd/m2
    assert levels[-1] >= 254


@pytest.mark.slow
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "gbrp12le", "rgb48le", "rgba", "yuva444p10le"])
def test_every_format_of_hdr_comes_out_alike(pix_fmt: str) -> None:
    codes = [pq(light) for light in (5, 26, 100, 203, 400)]
    assert shown(frame_of(codes, PQ, pix_fmt)) == pytest.approx([54, 108, 189, 230, 250], abs=4)


def test_hdr_with_alpha_is_shown_over_black_and_kept_beneath() -> None:
    opaque = frame_of([pq(26), pq(203)], PQ, "rgba64le")
    pixels = opaque.to_ndarray()
    pixels[:, CELL:, 3] = 0
    frame = av.VideoFrame.from_ndarray(pixels, format="rgba64le")
    frame.color_trc, frame.color_primaries, frame.color_range = PQ, 9, opaque.color_range
    out, pool = np.zeros((frame.height, frame.width, 3), np.uint8), BufferPool()
    under = write_bgr(
        frame, Orientation(), out, reformatter=VideoReformatter(), name="x", pool=pool
    )
    assert out[8, 8].tolist() == pytest.approx([108] * 3, abs=3)
    assert out[8, 24].tolist() == [0, 0, 0]
    assert under is not None
    assert under.alpha[8, [8, 24]].tolist() == [255, 0]
    assert under.bgr[8, 24].tolist() == pytest.approx([230] * 3, abs=3)


def test_it_is_tagged_as_sdr() -> None:
    assert ColorTags.of(frame_of([0.5], HLG)) == (1, 1, 1, 1)
