"""Contact sheets of real clips: which frames are shown, and what is counted."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from m2fp_stream.core.raw import RawFrame
from scripts.bench.clips import COLUMNS, ROWS, THUMB_WIDTH, Clip, Watch, write_sheets
from scripts.bench.metrics import Cover
from tests.kit.media import number_of, write_video

SIZE_WH = (64, 36)


def raw(number: int, level: int = 90) -> RawFrame:
    pixels = np.full((*SIZE_WH[::-1], 3), level, np.uint8)
    return RawFrame(pixels, frame_id=number, pts=number, time_base=Fraction(1, 10), captured_ns=0)


def cover(*tracks: int) -> Cover:
    """Two columns of the picture a track, one free column between."""
    cells = np.zeros(SIZE_WH[::-1], np.uint8)
    for rank, track in enumerate(tracks):
        cells[:, 3 * rank : 3 * rank + 2] = track
    return Cover(cells > 0, cells)


def test_births_losses_and_cuts_are_where_they_are() -> None:
    watch = Watch()
    for number in range(40):
        tracks = [4] * (10 <= number < 20) + [5] * (number >= 10)
        watch.see(raw(number, 90 if number < 30 else 200), cover(*tracks))
    assert (watch.births, watch.losses, watch.cuts) == ([10], [20], [30])
    assert watch.events() == [*range(7, 14), *range(17, 24), *range(27, 34)]


def test_cover_pieces_and_flicker_are_counted() -> None:
    watch = Watch()
    for number, tracks in enumerate([(), (1, 2), (1, 2), (1,)]):
        watch.see(raw(number), cover(*tracks))
    assert watch.covered == [0, 4 / 64, 4 / 64, 2 / 64]
    assert watch.pieces == [0, 2, 2, 1]
    assert watch.switched == [4 / 64, 0, 2 / 64]
    assert "3 of 4 frames with cover" in watch.line()


def test_sheets_hold_48_pictures_each(tmp_path: Path) -> None:
    thumbs = [np.full((180, THUMB_WIDTH, 3), 7, np.uint8)] * (COLUMNS * ROWS + 1)
    assert write_sheets(tmp_path, "clip-every", thumbs) == 2
    first, second = (cv2.imread(str(tmp_path / f"clip-every-{k:02}.png")) for k in (1, 2))
    assert first is not None
    assert second is not None
    assert first.shape == (180 * ROWS, THUMB_WIDTH * COLUMNS, 3)
    assert second.shape == (180, THUMB_WIDTH * COLUMNS, 3)
    assert write_sheets(tmp_path, "clip-events", []) == 0


def test_a_clip_gives_its_frames_in_order_and_again(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    write_video(file, count=8)
    clip = Clip(file, first=2)
    assert len(clip) == 6
    assert [number_of(clip[k].bgr) for k in (0, 1, 3, 0)] == [2, 3, 5, 2]
