"""Label maps as PNG: exact ids, real palette, legend."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

from m2fp_stream.core.errors import SinkError
from m2fp_stream.core.labels import CIHP, PALETTE_RGB, Label
from m2fp_stream.core.records import ParseResult
from m2fp_stream.core.safe import LabelImage
from m2fp_stream.sinks.label_png import LabelPngSink, legend


def image(labels: np.ndarray) -> LabelImage:
    """Wraps (h, w) uint8 class ids."""
    result = ParseResult(
        frame_id=0,
        label_map=labels,
        labels=CIHP,
        groups=(),
        evidence=np.zeros((0, *labels.shape), np.uint8),
        must_cover=np.zeros(labels.shape, np.bool_),
        instances=None,
        parser_id="test",
    )
    return LabelImage(result, size_wh=(labels.shape[1], labels.shape[0]))


EVERY = np.arange(63, dtype=np.uint8).reshape(7, 9) % 21


def written(path: Path, style: Literal["index", "palette"]) -> bytes:
    """Writes every id and returns the file."""
    with LabelPngSink(path, style) as sink:
        sink.write(image(EVERY))
        sink.finish()
    return path.read_bytes()


def test_an_index_png_holds_the_class_ids(tmp_path: Path) -> None:
    data = written(tmp_path / "out.png", "index")
    back = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
    assert back is not None
    assert back.dtype == np.uint8
    assert np.array_equal(back, EVERY)
    assert data[24:26] == bytes([8, 0]), "8 bits, grey"


def test_a_palette_png_shows_the_palette(tmp_path: Path) -> None:
    data = written(tmp_path / "out.png", "palette")
    back = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_COLOR_RGB)
    assert back is not None
    assert np.array_equal(back, np.array(PALETTE_RGB, np.uint8)[EVERY])
    assert data[24:26] == bytes([8, 3]), "8 bits, indexed"


@pytest.mark.parametrize("style", ["index", "palette"])
def test_the_legend_is_in_the_file(tmp_path: Path, style: Literal["index", "palette"]) -> None:
    assert b"tEXtComment\0" + legend().encode() in written(tmp_path / "out.png", style)


def test_the_legend_names_every_label_with_id_and_colour() -> None:
    lines = legend().splitlines()
    assert len(lines) == len(Label)
    assert lines[13] == "13 #e6194b face"


def test_a_second_image_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(SinkError, match="one label image only"),
        LabelPngSink(tmp_path / "out.png") as sink,
    ):
        sink.write(image(EVERY))
        sink.write(image(EVERY))
    assert list(tmp_path.iterdir()) == []
