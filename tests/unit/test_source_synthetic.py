"""The test picture: in real time, moving, and the same for the same number."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from m2fp_stream.core.errors import SourceError
from m2fp_stream.sources.live import LIVE_TIME_BASE
from m2fp_stream.sources.options import SyntheticOptions
from m2fp_stream.sources.synthetic import SyntheticSource
from tests.kit import media
from tests.kit.wait import PATIENCE_S

SMALL = SyntheticOptions(width=160, height=96, fps=50, seconds=0.4)


def picture(source: SyntheticSource, number: int) -> media.BGR:
    out = np.zeros((source.info.size_wh[1], source.info.size_wh[0], 3), np.uint8)
    source._draw(number, out)
    return out


def test_it_ends_after_its_length_and_is_never_faster_than_real_time() -> None:
    pts, ids = [], []
    began_us = time.monotonic_ns() // 1000
    with SyntheticSource(SMALL, first_frame_id=3) as source:
        assert source.info.size_wh == (160, 96)
        assert (source.info.frame_count, source.info.duration_s) == (20, 0.4)
        for captured in source.frames():
            frame = captured.frame
            assert (frame.time_base, frame.size_wh) == (LIVE_TIME_BASE, (160, 96))
            assert not captured.restart
            assert frame.pts * 1000 >= frame.captured_ns - 1000
            pts.append(frame.pts)
            ids.append(frame.frame_id)
            frame.release()
        assert source._pool.outstanding == 0
    assert ids == list(range(3, 3 + len(ids)))
    assert 1 <= len(pts) <= 20
    assert all(later > sooner for sooner, later in pairwise(pts))
    assert pts[-1] - began_us >= (len(pts) - 1) * 20_000


def test_the_same_number_is_the_same_picture_and_the_next_is_another() -> None:
    one, another = SyntheticSource(SMALL), SyntheticSource(SMALL)
    with one, another:
        for number in (0, 1, 79, 80, 1000):
            assert np.array_equal(picture(one, number), picture(another, number))
            assert (picture(one, number) != picture(one, number + 1)).mean() > 0.5


def test_it_is_no_uniform_picture_anywhere() -> None:
    with SyntheticSource() as source:
        shown = picture(source, 0)
    spread = [part.std() for row in np.array_split(shown, 3) for part in np.array_split(row, 3, 1)]
    assert min(spread) > 5


def test_a_canvas_of_another_shape_gets_bars() -> None:
    with SyntheticSource(SMALL, size_wh=(160, 160)) as source:
        captured = next(source.frames())
        with captured.frame.analysis() as bgr:
            assert bgr.shape == (160, 160, 3)
            assert not bgr[:31].any()
            assert not bgr[-31:].any()
            assert bgr[33:-33].any()


def test_who_asks_late_gets_the_picture_of_now() -> None:
    with SyntheticSource(SyntheticOptions(width=64, height=64, fps=100, seconds=0.2)) as source:
        frames = source.frames()
        next(frames).frame.release()
        threading.Event().wait(0.5)
        assert len(list(frames)) <= 1


def test_close_from_another_thread_ends_it() -> None:
    source = SyntheticSource(SyntheticOptions(width=64, height=64, fps=1))
    first = threading.Event()

    def read() -> None:
        for captured in source.frames():
            captured.frame.release()
            first.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert first.wait(PATIENCE_S)
    source.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_closed_source_gives_no_frames() -> None:
    source = SyntheticSource(SMALL)
    frames = source.frames()
    source.close()
    source.close()
    with pytest.raises(SourceError, match="was closed before"):
        next(frames)
    with pytest.raises(SourceError, match="once only"):
        source.frames()


@pytest.mark.parametrize(
    "wrong",
    [{"width": 10}, {"height": "720"}, {"fps": 0}, {"seconds": 0}, {"seconds": float("inf")}],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SyntheticOptions.model_validate(wrong)
