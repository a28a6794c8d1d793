"""Still pictures and animated GIFs of composed frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from m2fp_stream.core.errors import SinkError
from m2fp_stream.sinks.image import GifSink, ImageSink
from tests.kit import media


@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".JPEG", ".jfif", ".avif", ".webp", ".bmp", ".tif", ".tiff"]
)
@pytest.mark.parametrize("size_wh", [(96, 64), (95, 63)])
def test_the_name_says_the_kind_and_the_picture_comes_back(
    tmp_path: Path, suffix: str, size_wh: tuple[int, int]
) -> None:
    path, picture = tmp_path / f"out{suffix}", media.card(size_wh)
    with ImageSink(path) as sink:
        sink.write(media.composed(picture))
        sink.finish()
    back = cv2.imread(str(path))
    assert back is not None
    lossless = suffix in {".png", ".bmp", ".tif", ".tiff"}
    assert np.abs(back.astype(int) - picture).mean() <= (0 if lossless else 3)
    magic = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".JPEG": b"\xff\xd8", ".webp": b"RIFF"}
    magic |= {".bmp": b"BM", ".tif": b"II", ".tiff": b"II"}
    magic |= {".jfif": b"\xff\xd8", ".avif": b"\0\0\0 ftypavif"}
    assert path.read_bytes().startswith(magic[suffix])
    assert b"Exif" not in path.read_bytes()


def test_an_unknown_kind_of_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"unknown kind of picture; use \.png"):
        ImageSink(tmp_path / "out.xyz")


def test_a_second_frame_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(SinkError, match="one frame only"),
        ImageSink(tmp_path / "out.png") as sink,
    ):
        sink.write(media.composed(media.card()))
        sink.write(media.composed(media.card()))
    assert list(tmp_path.iterdir()) == []


def test_a_picture_too_large_for_its_kind_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SinkError, match="16500x1 does not fit this kind"):
        ImageSink(tmp_path / "out.webp").write(media.composed(np.zeros((1, 16500, 3), np.uint8)))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def gif(path: Path, pts: list[int], base: Fraction, last: int | None = None) -> list[media.BGR]:
    """Writes one card a timestamp, and returns them."""
    pictures = [media.card((95, 63), number) for number in range(len(pts))]
    with GifSink(path, time_base=base, rate=Fraction(20)) as sink:
        for number, (picture, one) in enumerate(zip(pictures, pts, strict=True)):
            sink.write(media.composed(picture, number, one, base))
        if last is not None:
            sink.set_last_duration(last)
        sink.finish()
    return pictures


def read(path: Path) -> tuple[list[media.BGR], list[int], int]:
    """Returns pictures, times and the end, in hundredths of a second."""
    with av.open(path) as container:
        frames = list(container.decode(video=0))
    times = [frame.pts or 0 for frame in frames]
    pictures = [frame.to_ndarray(format="bgr24").astype(np.uint8) for frame in frames]
    return pictures, times, times[-1] + frames[-1].duration


def test_a_gif_keeps_pictures_and_times_and_loops_for_ever(tmp_path: Path) -> None:
    pictures = gif(tmp_path / "out.gif", [0, 8, 17, 25, 60], Fraction(1, 100), last=33)
    back, times, end = read(tmp_path / "out.gif")
    assert times == [0, 8, 17, 25, 60]
    assert end == 60 + 33
    for one, other in zip(back, pictures, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 4
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in (tmp_path / "out.gif").read_bytes()


def test_every_frame_of_a_gif_has_its_own_palette(tmp_path: Path) -> None:
    ramps = [
        np.dstack([np.full((16, 256), 255 * (channel == c)) for c in range(3)]).astype(np.uint8)
        for channel in range(3)
    ]
    ramps = [(ramp * np.linspace(0, 1, 256)[None, :, None]).astype(np.uint8) for ramp in ramps]
    with GifSink(tmp_path / "out.gif", time_base=Fraction(1, 100)) as sink:
        for number, ramp in enumerate(ramps):
            sink.write(media.composed(ramp, number, number * 10, Fraction(1, 100)))
        sink.finish()
    back, _, end = read(tmp_path / "out.gif")
    assert end == 20 + 10  # without a rate: ten frames a second
    for one, ramp in zip(back, ramps, strict=True):
        # 768 colours do not fit into one palette of 256.
        assert np.abs(one.astype(int) - ramp).mean() < 0.1  # 0.2 with one palette for all


def test_gif_times_are_rounded_to_hundredths_and_stay_apart(tmp_path: Path) -> None:
    gif(tmp_path / "out.gif", [0, 1, 2, 3, 100], Fraction(1, 1000))
    _, times, end = read(tmp_path / "out.gif")
    assert times == [0, 1, 2, 3, 10]
    assert end == 15


@pytest.mark.parametrize("bad", ["size", "time base"])
def test_a_frame_that_does_not_fit_is_an_error_and_leaves_nothing(tmp_path: Path, bad: str) -> None:
    base = Fraction(1, 100)
    second = {
        "size": media.composed(media.card((98, 64)), 1, 6, base),
        "time base": media.composed(media.card(), 1, 6, Fraction(1, 50)),
    }[bad]
    with (
        pytest.raises(SinkError, match=r"expected frames of \(96, 64\)"),
        GifSink(tmp_path / "out.gif", time_base=base) as sink,
    ):
        sink.write(media.composed(media.card(), 0, 5, base))
        sink.write(second)
    assert list(tmp_path.iterdir()) == []
