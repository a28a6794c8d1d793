"""Files as recorders, phones and editors write them: their clocks, sizes and tags."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from m2fp_stream.core.errors import TruncatedSourceError
from m2fp_stream.sources.base import SourceInfo
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.image import ImageSource
from m2fp_stream.sources.options import FileOptions
from tests.kit import boxes, media

Frames = list[tuple[float, int]]
"""Time of the input, as players count it, and number of each frame."""


def read(path: Path, **options: Any) -> tuple[SourceInfo, Frames]:
    found: Frames = []
    with FileSource(path, FileOptions(**options)) as source:
        for captured in source.frames():
            frame = captured.frame
            time_s = source.info.begins_s + float(frame.pts * frame.time_base)
            with frame.analysis() as bgr:
                found.append((round(time_s, 4), media.number_of(bgr)))
            frame.release()
        return source.info, found


# ----------------------------------------------------------------- time

EDITS = {
    "cut": [(6000, 3 * 12800 + 100)],
    "late": [(2000, boxes.EMPTY), (8000, 1024)],
    "late and cut": [(2000, boxes.EMPTY), (6000, 1024)],
    "late and cut in front": [(2000, boxes.EMPTY), (5000, 3 * 12800)],
    "in pieces": [(2000, 12800), (2000, 6 * 12800)],
    "in another order": [(2000, 6 * 12800), (2000, 12800)],
}


@pytest.mark.parametrize("b_frames", ["0", "2"])
@pytest.mark.parametrize("name", EDITS)
def test_a_part_of_a_film_with_an_edit_list_is_that_part(
    tmp_path: Path, name: str, b_frames: str
) -> None:
    path = media.write_video(
        tmp_path / "a.mp4", count=250, options={"g": "50", "bf": b_frames, "preset": "ultrafast"}
    )
    boxes.set_edits(path, EDITS[name])
    _, whole = read(path)
    late_s, shown_s = (2, EDITS[name][1][0] / 1000) if "late" in name else (0, 6)
    assert whole[0][0] == pytest.approx(late_s, abs=0.05)
    if "cut" in name:
        assert len(whole) == pytest.approx(shown_s * 25, abs=2)
    for start_s in (1.5, 2.5, 3.3):
        info, part = read(path, start_s=start_s, end_s=start_s + 1)
        assert part == [one for one in whole if start_s <= one[0] < start_s + 1]
        assert info.begins_s == pytest.approx(start_s, abs=0.001)


def test_a_film_with_an_edit_list_that_is_cut_short_is_noticed(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mp4", count=250, options={"g": "50", "bf": "0"})
    boxes.set_edits(path, EDITS["late and cut"])
    data = path.read_bytes()
    middle = data.index(b"mdat") + 4 + (data.index(b"moov") - data.index(b"mdat")) // 2
    path.write_bytes(
        data[:middle] + bytes(data.index(b"moov") - 4 - middle) + data[data.index(b"moov") - 4 :]
    )
    with pytest.raises(TruncatedSourceError):
        read(path)


@pytest.mark.parametrize("name", ["a.mkv", "a.asf", "a.flv", "a.avi", "a.mp4", "a.mov"])
@pytest.mark.parametrize("rate", [1, Fraction(1, 2)])
def test_sound_that_outlasts_slow_pictures_is_no_truncation(
    tmp_path: Path, name: str, rate: Fraction
) -> None:
    """Of Matroska with so few pictures FFmpeg gives the file's length as that of the video."""
    codec = "wmv2" if name == "a.asf" else "libx264"
    path = write_beside(tmp_path / name, codec, rate, count=5, sound_s=15.0)
    info, frames = read(path)
    assert len(frames) == 5
    assert info.has_audio
    assert info.warnings == ()


def write_beside(path: Path, codec: str, rate: Fraction, count: int, sound_s: float) -> Path:
    """Writes pictures and sound as a recorder does, one beside the other."""
    with av.open(path, "w") as container:
        pictures: Any = container.add_stream(codec, rate=rate)
        pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
        pictures.options = {"bf": "0"} if codec == "libx264" else {}
        sound: Any = container.add_stream("aac", rate=48000)
        packets = []
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(media.card(number=number), format="bgr24")
            frame.pts, frame.time_base = number, 1 / Fraction(rate)
            packets += pictures.encode(frame.reformat(format="yuv420p"))
        packets += pictures.encode(None)
        for at in range(0, int(sound_s * 48000), 1024):
            part = av.AudioFrame.from_ndarray(
                np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
            )
            part.sample_rate, part.pts, part.time_base = 48000, at, Fraction(1, 48000)
            packets += sound.encode(part)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            container.mux(packet)
    return path


@pytest.mark.parametrize("rate", [Fraction(1, 60), 1, 240])
def test_a_film_of_any_rate_keeps_its_times(tmp_path: Path, rate: Fraction | int) -> None:
    path = media.write_video(tmp_path / "a.mp4", rate=rate)
    info, frames = read(path)
    assert [number for _, number in frames] == list(range(10))
    assert [time_s for time_s, _ in frames] == [
        round(float(i / Fraction(rate)), 4) for i in range(10)
    ]
    assert info.average_rate == rate


def test_a_track_of_time_codes_is_left_out_and_named(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mov", metadata={"timecode": "01:02:03:04"})
    with av.open(path) as container:  # the control
        assert [one.type for one in container.streams] == ["video", "data"]
    info, frames = read(path)
    assert [number for _, number in frames] == list(range(10))
    assert frames[0][0] == 0
    assert info.dropped_streams[0] == "data"
    assert "timecode" in info.dropped_streams[1]
    assert "01:02" not in repr(info)


# ----------------------------------------------------------------- size


def test_the_largest_picture_of_television_is_read(tmp_path: Path) -> None:
    """8K, ITU-R BT.2020."""
    size_wh = (7680, 4320)
    path = media.write_video(
        tmp_path / "a.mp4", size_wh=size_wh, count=1, options={"preset": "ultrafast", "crf": "40"}
    )
    with FileSource(path) as source:
        (captured,) = source.frames()
        assert captured.frame.size_wh == size_wh
        captured.frame.release()


def test_a_canvas_that_is_named_holds_all_pictures(tmp_path: Path) -> None:
    path = media.write_changing_size(tmp_path / "a.ts", [(96, 64), (192, 128)])
    with FileSource(path, FileOptions(canvas="200x64")) as source:
        for captured in source.frames():
            with captured.frame.analysis() as bgr:
                assert bgr.shape == (64, 200, 3)
                assert not bgr[:, :51].any(), "bars are black"
                assert not bgr[:, -51:].any()
                number = captured.frame.frame_id
                assert media.number_of(bgr[:, 52:148]) == number
            captured.frame.release()
        assert source.info.size_wh == (200, 64)
        assert source.info.warnings == (
            "the picture's size changes (96x64, 192x128); all is fitted into 200x64",
        )


@pytest.mark.parametrize("wrong", ["", "64", "0x64", "64x", "-1x2", "64x64x64", "1e2x3", "９x9"])
def test_a_canvas_that_is_no_size_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected WIDTHxHEIGHT in pixels"):
        FileOptions(canvas=wrong)
    with pytest.raises(ValueError, match="above max_pixels"):
        FileOptions(canvas="100x100", max_pixels=9999)


# ----------------------------------------------------------------- all around


def test_a_film_that_shows_all_around_says_what_that_means(tmp_path: Path) -> None:
    path = boxes.call_spherical(media.write_video(tmp_path / "a.mp4", count=3))
    info, frames = read(path)
    assert len(frames) == 3
    assert "spherical tag (equirectangular)" in info.dropped_streams
    (warning,) = info.warnings
    assert "--zone 0,0,0.1,1 --zone 0.9,0,1,1" in warning
    assert "players show it flat" in warning
    plain, _ = read(media.write_video(tmp_path / "b.mp4", count=3))
    assert plain.warnings == ()
    assert not any("spherical" in one for one in plain.dropped_streams)


def test_a_photograph_that_shows_all_around_says_so_too(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", media.card())[1].tobytes()
    note = (
        b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><GPano:ProjectionType>equirectangular"
        b"</GPano:ProjectionType></x:xmpmeta>"
    )
    segment = b"\xff\xe1" + (len(note) + 2).to_bytes(2, "big") + note
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment + data[2:])
    with ImageSource(tmp_path / "a.jpg") as source:
        assert "spherical tag (equirectangular)" in source.info.dropped_streams
        assert "left and right edge" in source.info.warnings[0]
    (tmp_path / "b.jpg").write_bytes(data)
    with ImageSource(tmp_path / "b.jpg") as source:
        assert source.info.warnings == ()


# ----------------------------------------------------------------- parts


@pytest.mark.parametrize(
    "end", [b"\r\n--ffmpeg\r\n", b"\r\n--ffmpeg--\r\n", b"\r\n--ffmpeg--", b"\r\n--ffm", b""]
)
def test_pictures_in_parts_end_at_a_boundary_or_before_it(tmp_path: Path, end: bytes) -> None:
    """As cameras send MJPEG. FFmpeg's muxer begins a part that never comes."""
    path = tmp_path / "a.mjpg"
    media.write_video(path, codec="mjpeg", pix_fmt="yuvj420p", container_format="mpjpeg")
    data = path.read_bytes()
    assert data.endswith(b"\xff\xd9\r\n--ffmpeg\r\n"), "the end of a picture, then of the file"
    pictures = data.removesuffix(b"\r\n--ffmpeg\r\n")
    path.write_bytes(pictures + end)
    info, frames = read(path)
    assert [number for _, number in frames] == list(range(10))
    assert info.warnings == ()


@pytest.mark.parametrize("how", ["cut short", "no part", "a part's head"])
def test_damage_to_pictures_in_parts_is_told(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.mjpg"
    media.write_video(path, codec="mjpeg", pix_fmt="yuvj420p", container_format="mpjpeg")
    data, middle = path.read_bytes(), b"--ffmpeg\r\nContent-type: image/jpeg\r\n"
    at = data.index(middle, len(data) // 2)
    damaged = {
        "cut short": data[: len(data) - 400],
        "no part": data[:at] + b"--ffmpeg\r\n\r\n" + data[at:],
        "a part's head": data[:at] + middle.replace(b"image", b"other") + data[at + len(middle) :],
    }
    path.write_bytes(damaged[how])
    with pytest.raises(TruncatedSourceError):
        read(path)
    assert len(read(path, salvage=True)[1]) >= 4
