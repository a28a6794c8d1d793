"""Positions of real people, by the real program: in the output's own pixels and seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

import m2fp_stream
from m2fp_stream.core.errors import SinkError, UsageError
from tests.kit import media

from .test_anonymize import FACE_XYXY, Bgr, frames, portrait, window

__all__ = ["portrait"]

FACE_X, FACE_Y = (FACE_XYXY[0] + FACE_XYXY[2]) // 2, (FACE_XYXY[1] + FACE_XYXY[3]) // 2 - 20


def turned_film(portrait: Bgr, folder: Path) -> Path:
    """Five frames that a player turns upright."""
    stored = [np.ascontiguousarray(np.rot90(window(portrait, 0), -1)) for _ in range(5)]
    return media.write_video(
        folder / "film.mp4", size_wh=(360, 400), frames=stored, rotation=(90, False, False)
    )


def still(portrait: Bgr, folder: Path) -> Path:
    path = folder / "still.jpg"
    assert cv2.imwrite(str(path), window(portrait, 0))
    return path


def moving(portrait: Bgr, folder: Path) -> Path:
    path = folder / "moving.gif"
    with av.open(path, "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 400, 360, "rgb8"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(window(portrait, 0), format="bgr24")
            frame.pts = number
            container.mux(stream.encode(frame.reformat(format="rgb8")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("make", [turned_film, still, moving], ids=["film", "still", "moving"])
def test_rows_are_of_the_output_as_it_is_shown(
    make: Callable[[Bgr, Path], Path], portrait: Bgr, tmp_path: Path
) -> None:
    table = tmp_path / "where.json"
    report = m2fp_stream.anonymize(make(portrait, tmp_path), tracks=table)
    rows: list[dict[str, Any]] = json.loads(table.read_text())
    times = [float(time) for time, _ in frames(Path(report.path_out))]
    assert [row["frame"] for row in rows] == list(range(report.frames)) == [*range(len(times))]
    assert [row["time_s"] for row in rows] == pytest.approx(times, abs=0.01)
    assert (report.tracks, report.tracks_out) == (1, str(table))
    for row in rows:
        assert (row["width"], row["height"], row["track"]) == (400, 360, 1)
        x1, y1, x2, y2 = row["box"]
        assert x1 < FACE_X < x2
        assert y1 < FACE_Y < y2 - 100
        assert {"hair", "face"} <= set(row["parts"])


def test_what_cannot_be_meant_is_refused_and_nothing_is_left(portrait: Bgr, tmp_path: Path) -> None:
    path = still(portrait, tmp_path)
    (tmp_path / "taken.csv").write_text("precious")
    with pytest.raises(UsageError, match=r"output exists: .*taken\.csv"):
        m2fp_stream.anonymize(path, tracks=tmp_path / "taken.csv")
    with pytest.raises(UsageError, match="are the same file"):
        m2fp_stream.anonymize(path, tracks=path, overwrite=True)
    with pytest.raises(SinkError, match="make the folder first"):
        m2fp_stream.anonymize(path, tracks=tmp_path / "nowhere" / "t.csv")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["still.jpg", "taken.csv"]
