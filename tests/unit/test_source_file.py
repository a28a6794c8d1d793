"""Video files: exact times, upright pictures, right colours, nothing taken on trust."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from m2fp_stream.core.errors import SourceError, TruncatedSourceError
from m2fp_stream.sources.base import SourceInfo
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.options import FileOptions
from m2fp_stream.sources.transparency import refuse_alpha_beside
from tests.kit import media, oddities, sound

SALVAGE = FileOptions(salvage=True)


@dataclass
class Read:
    """Everything a source gave."""

    info: SourceInfo
    pts: list[int]
    numbers: list[int]
    restarts: list[int]
    durations: list[int | None]
    pictures: list[media.BGR]

    @property
    def times(self) -> list[Fraction]:
        return [one * self.info.time_base for one in self.pts]


def read(path: Path, options: FileOptions | None = None) -> Read:
    """Reads a file to its end; every buffer must have come back."""
    found = Read(SourceInfo(size_wh=(0, 0), time_base=Fraction(1)), [], [], [], [], [])
    with FileSource(path, options) as source:
        for captured in source.frames():
            with captured.frame.analysis() as bgr:
                found.pictures.append(bgr.copy())
            found.numbers.append(media.number_of(found.pictures[-1]))
            found.pts.append(captured.frame.pts)
            found.durations.append(captured.duration)
            if captured.restart:
                found.restarts.append(captured.frame.frame_id)
            captured.frame.release()
        found.info = source.info
        assert source._pool.outstanding == 0
    assert found.pts == sorted(set(found.pts))
    return found


def corners_match(picture: media.BGR, order: Sequence[str], tolerance: float = 4) -> None:
    """Asserts that the corners, row by row, show the colours of those `QUADRANTS`."""
    got = media.corners(picture)
    for place, colour in zip(media.QUADRANTS, order, strict=True):
        assert got[place] == pytest.approx(media.QUADRANTS[colour], abs=tolerance), place


UPRIGHT = tuple(media.QUADRANTS)

# ----------------------------------------------------------------- times


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.avi", "clip.webm"])
def test_every_frame_comes_once_in_order(tmp_path: Path, name: str) -> None:
    codec = {"clip.avi": "mjpeg", "clip.webm": "libvpx-vp9"}.get(name, "libx264")
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    got = read(media.write_video(tmp_path / name, count=20, codec=codec, pix_fmt=pix_fmt))
    assert got.numbers == list(range(20))
    steps = {later - sooner for sooner, later in pairwise(got.times)}
    assert steps == {Fraction(1, 25)}
    assert got.info.average_rate == 25
    assert got.info.duration_s == pytest.approx(0.8, abs=0.05)
    assert got.info.frame_count == pytest.approx(20, abs=1)
    assert got.info.warnings == ()


def test_variable_frame_rate_and_b_frames_keep_their_exact_times(tmp_path: Path) -> None:
    pts = [0, 40, 41, 42, 100, 300, 301, 900, 901, 2000, 2001, 2500]
    path = media.write_video(
        tmp_path / "clip.mkv", count=len(pts), pts=pts, time_base=Fraction(1, 1000)
    )
    with av.open(path) as container:
        kinds = {frame.pict_type for frame in container.decode(video=0)}
    assert 3 in kinds, "no B-frame was tested"
    got = read(path)
    assert (got.pts, got.info.time_base) == (pts, Fraction(1, 1000))
    assert got.numbers == list(range(len(pts)))
    assert got.durations[-1] == 40


def test_ntsc_rates_are_not_rounded(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    got = read(media.write_video(tmp_path / "clip.mp4", rate=rate, count=20))
    assert got.times == [i / rate for i in range(20)]
    assert got.info.average_rate == rate


def test_missing_times_are_filled_from_the_frame_rate_without_drift(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    got = read(media.write_video(tmp_path / "clip.h264", rate=rate, count=60))
    assert got.numbers == [i % 28 for i in range(60)]
    for number, time in enumerate(got.times):
        assert abs(time - number / rate) <= got.info.time_base
    assert got.info.warnings == ("some frames had no timestamp; theirs follow from the frame rate",)


class Scripted(FileSource):  # type: ignore[misc]  # final; a test may
    """Gives its frames made-up timestamps."""

    script: Sequence[int | None] = ()

    def _decode(self) -> Any:
        for frame, pts in zip(super()._decode(), self.script, strict=True):
            frame.pts = pts
            yield frame


@pytest.mark.parametrize(
    ("script", "expected", "says", "restarts"),
    [
        ([0, 40, 40, 80], [0, 40, 41, 80], "did not rise", []),
        ([0, 80, 40, 120], [0, 80, 81, 120], "did not rise", []),
        ([0, 40, 40, 40, 41], [0, 40, 41, 42, 43], "did not rise", []),
        ([None, None, 90, None, 170], [0, 40, 90, 130, 170], "no timestamp", []),
        ([0, None, None, 50], [0, 40, 80, 81], "no timestamp", []),
        ([5000, 5040, 0, 40, 80], [5000, 5040, 5080, 5120, 5160], "jumps back", [2]),
        ([0, 40, 9000, 9040], [0, 40, 9000, 9040], None, []),
        ([-100, -60, -20], [0, 40, 80], None, []),
        ([9999, 10039], [9999, 10039], None, []),
        ([10001, 10041], [0, 40], None, []),
    ],
)
def test_times_that_do_not_rise_are_mended_and_no_frame_is_lost(
    tmp_path: Path,
    script: list[int | None],
    expected: list[int],
    says: str | None,
    restarts: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = media.write_video(
        tmp_path / "clip.mkv",
        count=len(script),
        time_base=Fraction(1, 1000),
        pts=[40 * i for i in range(len(script))],
    )
    monkeypatch.setattr(Scripted, "script", script)
    with Scripted(path) as source:
        got = []
        restarted = []
        for captured in source.frames():
            got.append(captured.frame.pts)
            if captured.restart:
                restarted.append(captured.frame.frame_id)
            captured.frame.release()
        warnings = source.info.warnings
    assert got == expected
    assert restarted == restarts
    assert any(says in one for one in warnings) if says else warnings == ()


@pytest.mark.parametrize(
    ("name", "starts_s", "sound_s", "expected_s"),
    [
        ("clip.ts", 1.48, 0, 0),
        ("clip.m2ts", 1.48, 0, 0),
        ("clip.mpg", 1.48, 0, 0),
        ("clip.ts", 0.8, 1, 0.8),  # its sound starts at once
        ("clip.mp4", 1.48, 0, 1.48),  # has a 0
    ],
)
def test_a_clock_that_starts_anywhere_starts_at_0(
    tmp_path: Path, name: str, starts_s: float, sound_s: float, expected_s: float
) -> None:
    path = media.write_video(
        tmp_path / name,
        codec="mpeg2video" if name.endswith("mpg") else "libx264",
        options={"bf": "0"},
        pts=[round(25 * starts_s) + i for i in range(10)],
        audio_s=sound_s,
    )
    with av.open(path) as container:  # the control
        first_s = min(frame.time or 0.0 for frame in container.decode(video=0))
    assert first_s >= starts_s - 0.01
    assert read(path).times[0] == pytest.approx(expected_s, abs=0.03)


@pytest.mark.parametrize("name", ["two.mkv", "two.mp4", "two.ts"])
def test_of_two_videos_both_are_named_and_one_can_be_chosen(tmp_path: Path, name: str) -> None:
    path = oddities.write_two(tmp_path / name)
    got = read(path)
    assert got.numbers == list(range(5) if name == "two.mp4" else range(10, 15))
    (warning,) = got.info.warnings
    first, second = "1 (h264, 96x64", "2 (hevc, 192x128"
    assert warning.startswith("holds 2 videos: ")
    assert first in warning
    assert second in warning
    assert warning.count(", taken)") == 1
    for number in (1, 2):
        chosen = read(path, FileOptions(stream=number))
        assert chosen.numbers == list(range(10 * (number - 1), 10 * (number - 1) + 5))
        assert chosen.info.warnings == ()
        left_out = (f"video 2 {second[2:]})", f"video 1 {first[2:]})")[number - 1]
        assert left_out in chosen.info.dropped_streams
    with pytest.raises(SourceError, match="has no video 3; --stream chooses of 1 "):
        FileSource(path, FileOptions(stream=3))


def test_what_a_recorder_writes_is_read(tmp_path: Path) -> None:
    got = read(oddities.write_dav(tmp_path / "clip.dav"))
    assert got.numbers == list(range(10))
    assert got.times[0] == 0
    assert got.info.size_wh == (96, 64)


QUIET = {"x265-params": "log-level=none"}
OTHERS: dict[str, dict[str, Any]] = {
    "a.h265": {"codec": "libx265", "container_format": "hevc", "options": QUIET},
    "a.mjpg": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "container_format": "mjpeg"},
    "a.qt": {"container_format": "mov"},
    "a.insv": {"container_format": "mp4"},
    "a.3g2": {},
    "a.asf": {"codec": "wmv2"},
    "a.m2v": {"codec": "mpeg2video"},
    "a.dv": {"codec": "dvvideo", "size_wh": (720, 576)},
    "a.rm": {"codec": "rv20", "size_wh": (176, 144)},
    "a.gxf": {"codec": "mpeg2video", "size_wh": (720, 576)},
    "a.wtv": {"codec": "mpeg2video"},
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("suffix", [None, ".anything"])
def test_the_rarer_containers_are_read_whatever_their_name(
    tmp_path: Path, name: str, suffix: str | None
) -> None:
    path = media.write_video(tmp_path / name, **OTHERS[name])
    got = read(path.rename(path.with_suffix(suffix)) if suffix else path)
    assert len(got.pictures) == 10
    assert got.times[0] == 0
    assert got.info.average_rate == 25
    assert got.info.duration_s is None or got.info.duration_s == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
@pytest.mark.parametrize(
    ("start", "end", "first", "count"),
    [(None, 0.2, 0, 5), (5.0, 6.0, 125, 25), (5.001, 5.05, 126, 1), (9.9, None, 248, 2)],
)
def test_a_part_of_a_file_starts_and_ends_on_the_frame(
    tmp_path: Path, name: str, start: float | None, end: float | None, first: int, count: int
) -> None:
    path = media.write_video(tmp_path / name, count=250, options={"g": "50"}, audio_s=10.0)
    late_s = float(read(path, FileOptions(end_s=0.1)).times[0])
    assert (late_s > 0) == (name == "clip.ts"), "its sound begins 21 ms before its pictures"
    start = None if start is None else start + late_s
    end = None if end is None else end + late_s
    got = read(path, FileOptions(start_s=start, end_s=end))
    assert got.numbers == [(first + i) % 28 for i in range(count)]
    if start is not None:
        assert 0 <= got.times[0] < Fraction(1, 25)
    assert got.info.frame_count == pytest.approx(count, abs=2)
    assert got.info.duration_s == pytest.approx(count / 25, abs=0.06)


@pytest.mark.parametrize(
    ("late_s", "start_s", "begins_s"),
    [(0, None, 0), (0, 2, 2), (4, None, 0), (4, 2, 2), (4, 6, 6), (100, None, 0), (100, 2, 2)],
)
def test_the_time_that_players_count_is_that_of_every_start(
    tmp_path: Path, late_s: int, start_s: float | None, begins_s: float
) -> None:
    """A player counts what a muxer leaves in front, and no running clock."""
    late = [(25 * late_s + number) * 40 for number in range(100)]
    path = media.write_video(
        tmp_path / "clip.mkv", count=100, time_base=Fraction(1, 1000), pts=late
    )
    got = read(path, FileOptions(start_s=start_s))
    assert got.info.begins_s == pytest.approx(begins_s, abs=0.001)
    clock_s = 0 if late_s == 100 else late_s
    first = max(0, round(25 * (begins_s - clock_s)))
    assert got.numbers[0] == first % 28
    assert got.info.begins_s + float(got.times[0]) == pytest.approx(clock_s + first / 25, abs=0.001)


def test_a_part_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mp4")
    with pytest.raises(SourceError, match="no frame between start and end"):
        read(path, FileOptions(start_s=50.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_s": 2.0, "end_s": 1.0},
        {"start_s": -1.0},
        {"end_s": float("nan")},
        {"max_pixels": 0},
        {"threads": 0},
        {"salvage": "yes"},
        {"x": 1},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FileOptions.model_validate(wrong)


# ----------------------------------------------------------------- orientation and size

TL, TR, BL, BR = UPRIGHT
TURNS = {
    "90 left": ((90, False, False), (TR, BR, TL, BL)),
    "180": ((180, False, False), (BR, BL, TR, TL)),
    "90 right": ((270, False, False), (BL, TL, BR, TR)),
    "mirror": ((0, True, False), (TR, TL, BR, BL)),
    "flip": ((0, False, True), (BL, BR, TL, TR)),
    "transverse": ((90, True, False), (BR, TR, BL, TL)),
    "transpose": ((270, True, False), (TL, BL, TR, BR)),
}


@pytest.mark.parametrize(("rotation", "order"), TURNS.values(), ids=TURNS)
def test_the_display_matrix_is_baked_in(
    tmp_path: Path, rotation: tuple[float, bool, bool], order: tuple[str, ...]
) -> None:
    path = media.write_video(
        tmp_path / "clip.mp4", rotation=rotation, sample_aspect_ratio=Fraction(4, 3)
    )
    got = read(path)
    turned = rotation[0] in (90, 270)
    assert got.info.size_wh == ((64, 96) if turned else (96, 64))
    assert got.info.sample_aspect_ratio == (Fraction(3, 4) if turned else Fraction(4, 3))
    for number, picture in enumerate(got.pictures):
        corners_match(picture, order)
        assert media.number_of(picture) == number


def test_an_odd_angle_is_taken_to_the_next_right_one_with_a_warning(tmp_path: Path) -> None:
    got = read(media.write_video(tmp_path / "clip.mp4", rotation=(80, False, False)))
    corners_match(got.pictures[0], TURNS["90 left"][1])
    assert got.info.warnings == (
        "the picture is rotated by an odd angle; the nearest right angle is used",
    )


def test_a_change_of_size_is_fitted_into_the_largest_of_the_first_seconds_and_restarts(
    tmp_path: Path,
) -> None:
    path = media.write_changing_size(tmp_path / "clip.ts", [(96, 64), (64, 96), (192, 128)])
    got = read(path)
    assert len(got.pictures) == 18
    assert got.restarts == [6, 12]
    assert {picture.shape for picture in got.pictures} == {(128, 192, 3)}
    assert [media.number_of(one) for one in got.pictures[:6]] == list(range(6))
    corners_match(got.pictures[2], UPRIGHT, 12)
    tall = got.pictures[8]
    assert not tall[:, :52].any(), "bars are black"
    assert not tall[:, -52:].any()
    corners_match(tall[:, 56:136], UPRIGHT, 12)
    assert [media.number_of(one[:, 56:136]) for one in got.pictures[6:12]] == list(range(6, 12))
    assert [media.number_of(one) for one in got.pictures[12:]] == list(range(12, 18))
    corners_match(got.pictures[14], UPRIGHT)
    assert got.info.warnings == (
        "the picture's size changes (96x64, 64x96, 192x128); all is fitted into 192x128",
    )


def test_a_recording_that_begins_small_has_the_size_that_it_grows_to(tmp_path: Path) -> None:
    got = read(oddities.write_ramp(tmp_path / "ramp.webm", small_s=2, large_s=1))
    assert got.info.size_wh == (480, 270)
    assert got.restarts == [50]
    assert got.numbers == [number % 28 for number in range(75)]
    assert got.info.warnings == (
        "the picture's size changes (96x54, 480x270); all is fitted into 480x270",
    )


def test_a_change_of_size_that_comes_late_names_both_sizes(tmp_path: Path) -> None:
    got = read(oddities.write_ramp(tmp_path / "late.webm", small_s=10.4, large_s=0.2))
    assert got.info.size_wh == (96, 54)
    assert got.info.warnings == (
        "the picture's size changes (96x54, 480x270); all is fitted into 96x54",
    )


@pytest.mark.parametrize("size_wh", [(95, 63), (7, 5), (1, 1), (17, 1), (1, 9)])
def test_odd_sizes_are_read_as_they_are(tmp_path: Path, size_wh: tuple[int, int]) -> None:
    path = media.write_video(
        tmp_path / "clip.avi", size_wh=size_wh, codec="rawvideo", pix_fmt="bgr24", count=2
    )
    with FileSource(path) as source:
        assert source.info.size_wh == size_wh
        for number, captured in enumerate(source.frames()):
            with captured.frame.analysis() as bgr:
                assert np.array_equal(bgr, media.card(size_wh, number))
            captured.frame.release()


# ----------------------------------------------------------------- pixels

FORMATS = {
    "yuv420p": "ffv1",
    "yuv422p": "ffv1",
    "yuv444p": "ffv1",
    "yuv411p": "ffv1",
    "yuv420p10le": "libx264",
    "yuv422p10le": "ffv1",
    "yuv444p12le": "ffv1",
    "yuva420p": "ffv1",
    "gbrp": "libx264rgb",
    "rgb24": "libx264rgb",
    "gbrp10le": "ffv1",
    "bgra": "ffv1",
    "bgr24": "rawvideo",
    "rgb48le": "ffv1",
    "yuyv422": "rawvideo",
}


@pytest.mark.parametrize(("pix_fmt", "codec"), FORMATS.items(), ids=FORMATS)
def test_every_pixel_format_becomes_the_same_bgr(tmp_path: Path, pix_fmt: str, codec: str) -> None:
    actual = "rgb24" if pix_fmt == "gbrp" else pix_fmt
    name = "clip.avi" if codec == "rawvideo" else "clip.mkv"
    options = {"crf": "1"} if codec.startswith("libx264") else {}
    got = read(
        media.write_video(tmp_path / name, pix_fmt=actual, codec=codec, options=options, count=12)
    )
    assert got.numbers == list(range(12))
    for picture in got.pictures:
        corners_match(picture, UPRIGHT, 3)
    rgb = pix_fmt.startswith(("gbr", "rgb", "bgr"))
    assert got.info.colorspace == (0 if rgb else None)


def test_grey_video_is_read(tmp_path: Path) -> None:
    got = read(media.write_video(tmp_path / "clip.mkv", pix_fmt="gray", codec="ffv1"))
    expected = cv2.cvtColor(media.card(), cv2.COLOR_BGR2GRAY)
    assert np.abs(got.pictures[0].astype(int) - expected[:, :, None]).max() <= 2


@pytest.mark.parametrize("colorspace", [1, 5, 6, 7, 9])
@pytest.mark.parametrize("color_range", [1, 2])
def test_the_tagged_matrix_and_range_are_used(
    tmp_path: Path, colorspace: int, color_range: int
) -> None:
    tags = {"colorspace": colorspace, "color_range": color_range}
    got = read(media.write_video(tmp_path / "clip.mp4", tags=tags, options={"crf": "1"}))
    assert (got.info.colorspace, got.info.color_range) == (colorspace, color_range)
    corners_match(got.pictures[0], UPRIGHT, 2)


def test_swapped_tags_would_show(tmp_path: Path) -> None:
    """The control of the test above: with the wrong matrix its tolerance is exceeded."""
    path = media.write_video(tmp_path / "clip.mkv", tags={"colorspace": 1}, codec="ffv1")
    with FileSource(path) as source:
        frame = source._decoded
        first = next(iter(frame))
        first.colorspace = 6
        out = np.zeros((64, 96, 3), np.uint8)
        source._write_bgr(first, source._orientation, out)
    with pytest.raises(AssertionError):
        corners_match(out, UPRIGHT, 2)


@pytest.mark.parametrize(("tag", "stated"), [(3, None), (10, 9)])
def test_tags_that_nobody_converts_have_stand_ins(
    tmp_path: Path, tag: int, stated: int | None
) -> None:
    got = read(media.write_video(tmp_path / "clip.mp4", tags={"colorspace": tag}))
    assert got.info.colorspace == stated
    assert len(got.pictures) == 10


def test_a_matrix_that_cannot_be_converted_is_an_error(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mp4", tags={"colorspace": 8})
    with pytest.raises(SourceError, match="colour matrix 8 is not supported"):
        read(path)


@pytest.mark.parametrize("transfer", [16, pytest.param(18, marks=pytest.mark.slow)])
def test_hdr_becomes_sdr_with_a_warning(tmp_path: Path, transfer: int) -> None:
    tags = {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": transfer}
    got = read(
        media.write_video(
            tmp_path / "clip.mkv", pix_fmt="yuv420p10le", tags=tags, options={"crf": "1"}
        )
    )
    info = got.info
    assert "HDR video becomes SDR" in info.warnings
    tagged = (info.colorspace, info.color_range, info.color_trc, info.color_primaries)
    assert tagged == (1, 1, 1, 1)
    # A code value of BT.2020 read as if it were BT.709 is paler than what is meant.
    plain = media.QUADRANTS["top right"]
    shown = media.corners(got.pictures[0])["top right"]
    assert max(shown) - min(shown) > max(plain) - min(plain) - 5
    assert abs(max(shown) - max(plain)) > 5


def test_alpha_is_shown_over_black(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    picture = np.dstack([media.card(), np.zeros((64, 96), np.uint8)])
    picture[:, :48, 3] = 255
    picture[:, 48:60, 3] = 128
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgra"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgra")))
        container.mux(stream.encode(None))
    (got,) = read(path).pictures
    expected = media.card().astype(float) * picture[:, :, 3:] / 255
    assert np.abs(got - expected).max() <= 1


def test_interlaced_video_is_deinterlaced_and_keeps_count_and_times(tmp_path: Path) -> None:
    def woven(number: int) -> media.BGR:
        picture = np.full((64, 96, 3), 60, np.uint8)
        for field in (0, 1):
            x = 10 + 4 * (2 * number + field)
            picture[field::2, x : x + 12] = 200
        return picture

    def combing(picture: media.BGR) -> float:
        grey = picture[:, :, 1].astype(float)
        return float(np.abs(2 * grey[1:-1] - grey[:-2] - grey[2:]).mean())

    frames = [woven(number) for number in range(8)]
    lossless = {"crf": "0", "x264-params": "interlaced=1"}
    path = media.write_video(tmp_path / "clip.mkv", frames=frames, options=lossless, rate=25)
    got = read(path)
    assert got.times == [Fraction(i, 25) for i in range(8)]
    assert combing(frames[4]) > 10
    assert max(combing(picture) for picture in got.pictures) < combing(frames[4]) / 4
    progressive = media.write_video(tmp_path / "p.mkv", frames=frames, options={"crf": "0"})
    assert combing(read(progressive).pictures[4]) > 10, "not flagged, so not touched"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_interlaced_clips_lose_no_frame(tmp_path: Path, count: int) -> None:
    options = {"x264-params": "interlaced=1"}
    got = read(media.write_video(tmp_path / "clip.mp4", count=count, options=options))
    assert got.numbers == list(range(count))


def test_an_interlaced_stream_may_change_its_size_and_jump_back(tmp_path: Path) -> None:
    options = {"x264-params": "interlaced=1:bframes=0"}
    first = media.write_video(tmp_path / "a.h264", count=5, options=options)
    second = media.write_video(tmp_path / "b.h264", count=5, size_wh=(64, 48), options=options)
    path = tmp_path / "clip.h264"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    got = read(path)
    assert len(got.pictures) == 10
    assert got.restarts == [5]


def test_intermediate_pictures_are_zeroed_and_the_decoders_are_not(tmp_path: Path) -> None:
    class Spy:
        def __init__(self, inner: Any) -> None:
            self.inner, self.seen = inner, list[tuple[Any, Any]]()

        def reformat(self, frame: Any, **options: Any) -> Any:
            self.seen.append((frame, self.inner.reformat(frame, **options)))
            return self.seen[-1][1]

    for pix_fmt, codec in (("yuv420p", "ffv1"), ("gbrp", "libx264rgb"), ("bgra", "ffv1")):
        actual = "rgb24" if codec == "libx264rgb" else pix_fmt
        path = media.write_video(tmp_path / f"{pix_fmt}.mkv", pix_fmt=actual, codec=codec)
        with FileSource(path) as source:
            spy = Spy(source._reformatter)
            source._reformatter = spy  # type: ignore[assignment]  # stands in
            for captured in source.frames():
                captured.frame.release()
        assert len(spy.seen) == 10
        for frame, converted in spy.seen:
            same = converted is frame
            assert same == (pix_fmt != "yuv420p"), "both kinds are to be tested"
            assert any(any(bytes(plane)) for plane in converted.planes) == same


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mp4", frames=noisy(20), size_wh=(160, 120))
    one, four = (read(path, FileOptions(threads=threads)) for threads in (1, 4))
    assert one.pts == four.pts
    assert all(np.array_equal(a, b) for a, b in zip(one.pictures, four.pictures, strict=True))


# ----------------------------------------------------------------- transparency

WEBM_CODECS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def write_transparent(
    path: Path,
    codec: str,
    pix_fmt: str,
    *,
    count: int = 10,
    rotation: float = 0,
    colorspace: int | None = None,
) -> Path:
    """Writes `card`s whose right half is fully transparent, with the card still under it."""
    with av.open(path, "w") as container:
        options = {"auto-alt-ref": "0"} if codec.startswith("libvpx") else {}
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        if colorspace is not None:
            stream.codec_context.colorspace = colorspace
        if rotation:
            stream.set_display_rotation(rotation, False, False)
        for number in range(count):
            picture = np.dstack([media.card((96, 64), number), np.full((64, 96), 255, np.uint8)])
            picture[:, 60:, 3] = 0
            frame = av.VideoFrame.from_ndarray(picture, format="bgra")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=colorspace)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def reveals(picture: media.BGR) -> bool:
    """Whether anything of what the right third's alpha hides is to be seen."""
    return bool(picture[:, 68:].max() > 24)  # black, but for what the codec adds


def remux(source: Path, path: Path, change: Callable[[int, Any], Any], mark: str = "track") -> Path:
    """Copies a film, each packet as `change` returns it; track or tag says it is transparent."""
    with av.open(source) as container, av.open(path, "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        if mark == "track":
            stream.codec_context.pix_fmt = "yuva420p"  # FFmpeg's muxer writes AlphaMode for it
        else:
            stream.metadata["ALPHA_MODE"] = "1"
        for number, packet in enumerate(container.demux(video=0)):
            if packet.dts is not None:
                changed = change(number, packet)
                changed.stream = stream
                out.mux(changed)
    return path


def bare(packet: Any, data: bytes | None = None) -> Any:
    """Returns a packet without its side data, perhaps with other contents."""
    made = av.Packet(data or bytes(packet))
    made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
    made.time_base, made.is_keyframe = packet.time_base, packet.is_keyframe
    return made


@pytest.mark.parametrize("name", ["clip.webm", "clip.mkv"])
@pytest.mark.parametrize("kind", WEBM_CODECS)
def test_what_the_alpha_of_a_webm_hides_stays_hidden(tmp_path: Path, kind: str, name: str) -> None:
    path = write_transparent(tmp_path / name, WEBM_CODECS[kind], "yuva420p")
    with av.open(path) as container:  # the control: FFmpeg's own decoder leaves alpha out
        for frame in container.decode(video=0):
            assert reveals(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
    got = read(path)
    assert got.numbers == list(range(10))
    assert got.times == [Fraction(i, 25) for i in range(10)]
    assert not any(map(reveals, got.pictures))
    for picture in got.pictures:
        assert media.corners(picture)["top left"] == pytest.approx((40, 40, 220), abs=6)
    assert got.info.warnings == ()


@pytest.mark.parametrize("start_s", [0.0, 3.0])
def test_a_part_of_a_transparent_webm_is_as_transparent(tmp_path: Path, start_s: float) -> None:
    path = write_transparent(tmp_path / "clip.webm", "libvpx-vp9", "yuva420p", count=150)
    got = read(path, FileOptions(start_s=start_s, end_s=start_s + 0.4))
    assert got.numbers == [(round(start_s * 25) + i) % 28 for i in range(10)]
    assert not any(map(reveals, got.pictures))


def test_a_transparent_webm_is_turned_and_coloured_as_its_container_says(tmp_path: Path) -> None:
    plain = read(write_transparent(tmp_path / "plain.webm", "libvpx-vp9", "yuva420p", colorspace=1))
    turned = read(
        write_transparent(
            tmp_path / "turned.mkv", "libvpx-vp9", "yuva420p", colorspace=1, rotation=90
        )
    )
    assert (plain.info.colorspace, turned.info.colorspace) == (1, 1)
    assert (plain.info.size_wh, turned.info.size_wh) == ((96, 64), (64, 96))
    for one, other in zip(plain.pictures, turned.pictures, strict=True):
        assert np.array_equal(np.rot90(one), other)
        assert media.corners(one)["top left"] == pytest.approx((40, 40, 220), abs=6)


def test_a_picture_that_lacks_the_alpha_of_the_others_is_damage(tmp_path: Path) -> None:
    whole = write_transparent(tmp_path / "whole.webm", "libvpx-vp9", "yuva420p")
    path = remux(
        whole,
        tmp_path / "clip.webm",
        lambda number, packet: bare(packet) if number == 5 else packet,
    )
    with pytest.raises(TruncatedSourceError, match="damaged"):
        read(path)
    got = read(path, SALVAGE)
    assert len(got.pictures) < 10
    assert not any(map(reveals, got.pictures))


def test_alpha_that_nothing_announces_is_refused(tmp_path: Path) -> None:
    whole = write_transparent(tmp_path / "whole.webm", "libvpx-vp9", "yuva420p")
    content = whole.read_bytes()
    mode = bytes.fromhex("53c08101")  # AlphaMode (RFC 9559, 5.1.4.1.28.4), 1
    assert content.count(mode) == 1
    path = tmp_path / "clip.webm"
    path.write_bytes(content.replace(mode, mode[:-1] + b"\0"))
    with av.open(path) as container:
        assert container.streams.video[0].metadata.get("alpha_mode") != "1"
    for options in (None, SALVAGE):
        with pytest.raises(SourceError, match=r"transparency cannot be decoded.*export it without"):
            read(path, options)


@pytest.mark.parametrize(("mark", "name"), [("track", "alpha_mode"), ("tag", "ALPHA_MODE")])
def test_a_webm_is_as_transparent_as_its_packets_however_it_is_announced(
    tmp_path: Path, mark: str, name: str
) -> None:
    """FFmpeg makes a tag of it when it copies a film, also where it makes it opaque."""
    whole = write_transparent(tmp_path / "whole.webm", "libvpx-vp9", "yuva420p")
    copy = remux(whole, tmp_path / "copy.webm", lambda _, packet: packet, mark)
    opaque = remux(whole, tmp_path / "opaque.webm", lambda _, packet: bare(packet), mark)
    for path, shown in ((copy, False), (opaque, True)):
        with av.open(path) as container:
            assert container.streams.video[0].metadata[name] == "1"
        got = read(path)
        assert got.numbers == list(range(10))
        assert [reveals(picture) for picture in got.pictures] == [shown] * 10


ALPHA_SEI = bytes.fromhex("4e01a504001fc07f80")
"""A prefix SEI message of type 165, alpha channel information (ITU-T H.265, D.2.38), made by hand:
its fields are not read, only that it is there."""


@pytest.mark.parametrize("place", ["header", "packet"])
def test_an_hevc_film_whose_alpha_layer_is_not_decoded_is_refused(
    tmp_path: Path, place: str
) -> None:
    quiet = {"x265-params": "log-level=none:repeat-headers=0"}
    plain = media.write_video(tmp_path / "plain.mp4", codec="libx265", options=quiet)
    assert read(plain).numbers == list(range(10))
    path = tmp_path / "clip.mp4"
    with av.open(plain) as container, av.open(path, "w") as out:
        template = container.streams.video[0]
        stream = out.add_stream_from_template(template)
        if place == "header":
            header = template.codec_context.extradata
            assert header is not None
            # One more array of NAL units (ISO/IEC 14496-15, 8.3.3.1): prefix SEI, one, its length.
            array = b"\xa7\0\1" + len(ALPHA_SEI).to_bytes(2, "big") + ALPHA_SEI
            stream.codec_context.extradata = (
                header[:22] + bytes([header[22] + 1]) + header[23:] + array
            )
        for number, packet in enumerate(container.demux(video=0)):
            if packet.dts is None:
                continue
            changed: Any = packet
            if place == "packet" and number == 0:
                sei = len(ALPHA_SEI).to_bytes(4, "big") + ALPHA_SEI
                changed = bare(packet, sei + bytes(packet))
            changed.stream = stream
            out.mux(changed)
    with pytest.raises(SourceError, match="transparency cannot be decoded"):
        read(path)


def test_an_alpha_layer_is_noticed_without_a_container_too(tmp_path: Path) -> None:
    quiet = {"x265-params": "log-level=none"}
    plain = media.write_video(tmp_path / "plain.hevc", codec="libx265", options=quiet)
    assert read(plain).numbers == list(range(10))
    for sei, refused in ((ALPHA_SEI, True), (ALPHA_SEI.replace(b"\xa5", b"\xa4"), False)):
        path = tmp_path / "clip.hevc"
        path.write_bytes(b"\0\0\0\1" + sei + plain.read_bytes())
        if refused:
            with pytest.raises(SourceError, match="transparency cannot be decoded"):
                read(path)
        else:
            assert read(path).numbers == list(range(10))


CARRIERS = {
    "prores.mov": ("prores_ks", "yuva444p10le"),
    "png.mov": ("png", "rgba"),
    "png-16.mov": ("png", "rgba64be"),
    "png-grey.mov": ("png", "ya8"),
    "animation.mov": ("qtrle", "argb"),
    "cineform.mov": ("cfhd", "gbrap12le"),
    "clip.apng": ("apng", "rgba"),
    "utvideo.avi": ("utvideo", "gbrap"),
    "raw.avi": ("rawvideo", "bgra"),
}


@pytest.mark.parametrize("name", CARRIERS)
def test_what_alpha_hides_stays_hidden_in_every_container_that_has_it(
    tmp_path: Path, name: str
) -> None:
    got = read(write_transparent(tmp_path / name, *CARRIERS[name], count=3))
    assert len(got.pictures) == 3
    for picture in got.pictures:
        assert not reveals(picture)
        assert picture[5:20, 5:40].max() > 60


def write_avif(path: Path, *, transparent: bool, moving: bool) -> Path:
    """Writes what libavif writes: alpha is an item, of what moves also a track, of its own."""
    pictures = [media.card((96, 64), number) for number in range(3 if moving else 1)]
    if transparent:
        alpha = np.full((64, 96), 255, np.uint8)
        alpha[:, 60:] = 0
        pictures = [np.dstack([picture, alpha]) for picture in pictures]
    if moving:
        animation = cv2.Animation()
        animation.frames, animation.durations = pictures, [40] * len(pictures)
        path.write_bytes(cv2.imencodeanimation(".avif", animation)[1].tobytes())
    else:
        path.write_bytes(cv2.imencode(".avif", pictures[0])[1].tobytes())
    return path


def test_alpha_that_has_a_track_of_its_own_is_refused(tmp_path: Path) -> None:
    path = write_avif(tmp_path / "hides.avif", transparent=True, moving=True)
    with av.open(path) as container:  # the control: FFmpeg gives the picture without it
        shown = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert reveals(np.asarray(shown[0], np.uint8))
    with pytest.raises(SourceError, match="transparency cannot be decoded"):
        FileSource(path)
    opaque = read(write_avif(tmp_path / "shows.avif", transparent=False, moving=True))
    assert opaque.numbers == [0, 1, 2]


@pytest.mark.parametrize("transparent", [False, True])
def test_a_still_picture_is_not_read_as_a_video_of_its_tiles(
    tmp_path: Path, transparent: bool
) -> None:
    path = write_avif(tmp_path / "still", transparent=transparent, moving=False)
    with pytest.raises(
        SourceError, match=r"transparency cannot|a picture, no video; name it \.heic"
    ):
        FileSource(path)


@pytest.mark.parametrize("transparent", [False, True])
def test_alpha_that_comes_live_on_a_track_of_its_own_is_refused(
    tmp_path: Path, transparent: bool
) -> None:
    path = write_avif(tmp_path / "live.avif", transparent=transparent, moving=True)
    with av.open(path) as container:
        videos = list(container.streams.video)
        assert len(videos) == (4 if transparent else 2)
        with pytest.raises(SourceError) if transparent else nullcontext():
            refuse_alpha_beside(videos[0], videos, "live")


def test_what_a_gif_leaves_transparent_is_black(tmp_path: Path) -> None:
    """Its first picture: later ones lie over it."""
    path = media.write_video(tmp_path / "opaque.gif", codec="gif", pix_fmt="rgb8", count=1)
    content = bytearray(path.read_bytes())
    control = content.index(b"\x21\xf9\x04")  # GIF89a, 23: graphic control extension
    with FileSource(path) as source:
        (captured,) = source.frames()
        with captured.frame.analysis() as bgr:
            opaque = bgr.copy()
        captured.frame.release()
    # The index of the bottom right's colour becomes the transparent one.
    palette = np.frombuffer(content, np.uint8, 768, 13).reshape(256, 3)[:, ::-1]
    index = int(np.flatnonzero((palette == opaque[-1, -1]).all(1))[0])
    content[control + 3] |= 1
    content[control + 6] = index
    path.write_bytes(bytes(content))
    (picture,) = read(path).pictures
    hidden = (opaque == opaque[-1, -1]).all(2)  # dithered: not the whole quarter
    assert hidden[40:, 70:].any()
    assert not picture[hidden].any()
    assert np.array_equal(picture[~hidden], opaque[~hidden])


# ----------------------------------------------------------------- what does not pass


def test_what_does_not_pass_is_named_without_its_contents(tmp_path: Path) -> None:
    path = media.write_video(
        tmp_path / "clip.mkv",
        extras=True,
        audio_s=0.4,
        secret="N0T-F0R-Y0U",
        metadata={"title": "N0T-F0R-Y0U", "location": "+48.8577+002.295/"},
    )
    assert b"N0T-F0R-Y0U" in path.read_bytes()
    info = read(path).info
    assert info.has_audio
    assert set(info.dropped_streams[:-1]) == {"audio", "subtitle", "attachment", "chapters (1)"}
    assert info.dropped_streams[-1].startswith("metadata (")
    assert "location" in info.dropped_streams[-1]
    assert "N0T-F0R-Y0U" not in repr(info)
    assert "48.8" not in repr(info)


def test_an_attached_picture_is_not_taken_for_the_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(path, "w") as container:
        cover: Any = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        picture = av.VideoFrame.from_ndarray(media.card((640, 480)), format="bgr24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode(None))
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(media.card(number=number), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    got = read(path)
    assert got.info.size_wh == (96, 64)
    assert len(got.pictures) == 5
    assert "attached picture" in got.info.dropped_streams


# ----------------------------------------------------------------- bad input


def noisy(count: int = 60) -> list[media.BGR]:
    """Returns cards with noise, so that every frame has bytes to lose."""
    rng = np.random.default_rng(5)
    noise = rng.integers(-20, 21, (count, 120, 160, 3))
    cards = [media.card((160, 120), number) for number in range(count)]
    return [
        np.clip(one + more, 0, 255).astype(np.uint8) for one, more in zip(cards, noise, strict=True)
    ]


CONTAINERS: dict[str, dict[str, Any]] = {
    "fast.mp4": {"container_options": {"movflags": "+faststart"}},
    "fragmented.mp4": {"container_options": {"movflags": "+frag_keyframe+empty_moov"}},
    "clip.mkv": {},
    "sound.mkv": {"audio_s": 4.0},
    "clip.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "clip.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "clip.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("left", [0.5, 0.8])
def test_a_truncated_file_is_an_error_unless_salvaged(
    tmp_path: Path, name: str, left: float
) -> None:
    path = media.write_video(
        tmp_path / name, frames=noisy(), size_wh=(160, 120), **CONTAINERS[name]
    )
    whole = read(path)
    assert len(whole.pts) == 60
    assert whole.info.warnings == ()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])
    with pytest.raises(TruncatedSourceError, match=r"damaged or cut short.*--salvage") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    salvaged = read(path, SALVAGE)
    assert 60 * left * 0.7 < len(salvaged.pts) < 60
    assert set(salvaged.pts) <= set(whole.pts)
    if name != "clip.gif":  # its warning comes at the end
        assert "the file is damaged" in salvaged.info.warnings[0]


@pytest.mark.parametrize("name", ["fast.mp4", "clip.mkv", "clip.webm", "clip.ts", "clip.h264"])
def test_a_hole_in_a_file_is_an_error_unless_salvaged(tmp_path: Path, name: str) -> None:
    """So large that every one is noticed, wherever it lies.

    Neither H.264 nor VP9 has check sums: of 3000 random bytes at 30 places one hole in ten decoded
    without a complaint; of 12 000 bytes of ones (an erased block) none did.
    """
    options = CONTAINERS.get(name, {})
    path = media.write_video(tmp_path / name, frames=noisy(), size_wh=(160, 120), **options)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 12_000] = b"\xff" * 12_000
    path.write_bytes(bytes(data))
    with pytest.raises(TruncatedSourceError, match="damaged or cut short"):
        read(path)
    salvaged = read(path, SALVAGE)
    assert len(salvaged.pts) >= 25
    assert any("is damaged" in one for one in salvaged.info.warnings)


def test_a_frame_missing_from_a_transport_stream_is_noticed_by_its_packet_counter(
    tmp_path: Path,
) -> None:
    """Every frame stands for itself here, so decoding alone notices nothing."""
    path = media.write_video(
        tmp_path / "clip.ts",
        frames=noisy(20),
        size_wh=(160, 120),
        codec="mpeg2video",
        options={"g": "1"},
    )
    data = path.read_bytes()
    cells = [data[at : at + 188] for at in range(0, len(data), 188)]
    video = [i for i, cell in enumerate(cells) if (cell[1] & 0x1F) << 8 | cell[2] == 0x100]
    starts = [i for i in video if cells[i][1] & 0x40]
    gone = {i for i in video if starts[9] <= i < starts[10]}
    assert len(gone) % 16, "a whole turn of the counter would hide it"
    path.write_bytes(b"".join(cell for i, cell in enumerate(cells) if i not in gone))
    with pytest.raises(TruncatedSourceError, match="damaged or cut short"):
        read(path)
    assert len(read(path, SALVAGE).pts) >= 18


class Dying:
    """A file on a medium that fails half-way."""

    def __init__(self, path: Path) -> None:
        self.file, self.size = path.open("rb"), path.stat().st_size

    def read(self, count: int) -> bytes:
        if self.file.tell() > self.size // 2:
            raise OSError(5, "Input/output error")
        return self.file.read(min(count, 4096))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        self.file.close()


@pytest.mark.parametrize("salvage", [False, True])
def test_a_medium_that_fails_on_the_way_is_an_error_unless_salvaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, salvage: bool
) -> None:
    options = CONTAINERS["fast.mp4"]
    path = media.write_video(tmp_path / "clip.mp4", frames=noisy(), size_wh=(160, 120), **options)
    monkeypatch.setattr("m2fp_stream.sources.file.open_regular", Dying)
    if not salvage:
        with pytest.raises(TruncatedSourceError, match="damaged or cut short"):
            read(path)
    else:
        got = read(path, SALVAGE)
        assert 20 <= len(got.pts) < 40
        assert any("is damaged" in one for one in got.info.warnings)


@pytest.mark.parametrize("audio_s", [0.1, 5.0])
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_sound_of_another_length_is_no_truncation(
    tmp_path: Path, name: str, audio_s: float
) -> None:
    got = read(media.write_video(tmp_path / name, count=30, audio_s=audio_s))
    assert got.numbers == [number % 28 for number in range(30)]
    assert got.info.has_audio


class Unflushed(FileSource):  # type: ignore[misc]  # final; a test may
    """Loses what the decoder still held at the end, as PyAV does after an error there."""

    def _packets(self) -> Any:
        return (packet for packet in super()._packets() if packet is not None and packet.size)


def test_a_lost_tail_is_noticed_though_its_packets_are_there(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mp4", count=30)
    with (
        Unflushed(path) as source,
        pytest.raises(TruncatedSourceError, match=r"cut short at 1\.\d+ s of 1\.20 s"),
    ):
        for captured in source.frames():
            captured.frame.release()


@pytest.mark.parametrize("limit", [96 * 64 - 1, 1])
def test_a_picture_above_the_limit_is_refused_before_it_is_decoded(
    tmp_path: Path, limit: int
) -> None:
    path = media.write_video(tmp_path / "clip.mp4")
    with pytest.raises(SourceError, match=r"96x64 exceed the limit of \d+ pixels"):
        FileSource(path, FileOptions(max_pixels=limit))
    with FileSource(path, FileOptions(max_pixels=96 * 64)) as source:
        assert source.info.size_wh == (96, 64)


def test_enormous_dimensions_in_a_header_are_refused(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.gif", codec="gif", pix_fmt="rgb8")
    data = bytearray(path.read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"  # 65535x65535
    path.write_bytes(bytes(data))
    with pytest.raises(SourceError, match="above the limit of 64000000 pixels"):
        FileSource(path)


def test_a_picture_that_grows_above_the_limit_on_the_way_is_refused(tmp_path: Path) -> None:
    path = media.write_changing_size(tmp_path / "clip.ts", [(96, 64), (192, 128)])
    with pytest.raises(SourceError, match=r"192x128 exceed the limit"):
        read(path, FileOptions(max_pixels=10_000))


def test_sound_that_outlasts_uneven_pictures_is_no_truncation(tmp_path: Path) -> None:
    """FFmpeg gives such a video of Matroska the duration of the file, as if it were its own."""
    path = sound.write_film(
        tmp_path / "a.mkv",
        [sound.voice(1, 44100)],
        rate=44100,
        start_s=0.4,
        video_pts=[0, 40, 41, 100, 600, 900],
        video_base=Fraction(1, 1000),
    )
    with FileSource(path) as source:
        for captured in source.frames():
            captured.frame.release()
        assert source.info.warnings == ()


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = media.write_sound(tmp_path / "song.m4a")
    with pytest.raises(SourceError, match=r"holds no video stream \(found: audio\)"):
        FileSource(path)


def test_a_song_with_a_cover_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(path, "w", format="mp4") as container:
        cover: Any = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=48000)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(media.card(), format="bgr24")))
        container.mux(cover.encode(None))
        media.write_silence(container, sound, 0.5)
    with pytest.raises(SourceError, match=r"holds no video stream \(found: audio, video\)"):
        FileSource(path)


def test_what_is_no_container_of_video_or_sound_is_not_even_probed(tmp_path: Path) -> None:
    path = tmp_path / "talk.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n\n")
    with av.open(path) as container:  # the control: FFmpeg itself knows it
        assert container.streams[0].type == "subtitle"
    with pytest.raises(SourceError, match="is not a video that can be read"):
        FileSource(path)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_picture_under_another_name_is_called_one(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "p").write_bytes(cv2.imencode(suffix, media.card())[1].tobytes())
    with pytest.raises(SourceError, match=rf"is a picture, no video; name it \{suffix}$"):
        FileSource(tmp_path / "p")


def test_a_video_stream_without_a_frame_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("aac", rate=48000)
        media.write_silence(container, sound, 0.5)
    with pytest.raises(SourceError, match="holds no frame"):
        FileSource(path)


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.ts\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile clip.ts\n",
}


@pytest.mark.parametrize(("name", "text"), PLAYLISTS.items(), ids=PLAYLISTS)
def test_a_playlist_opens_no_other_file(tmp_path: Path, name: str, text: str) -> None:
    media.write_video(tmp_path / "clip.ts")
    path = tmp_path / name
    path.write_text(text)
    with av.open(path) as container:  # the control: FFmpeg itself follows it
        assert len(list(container.decode(video=0))) == 10
    disguised = tmp_path / "innocent.mp4"
    disguised.write_text(text)
    for one in (path, disguised):
        with pytest.raises(SourceError, match="is not a video that can be read"):
            FileSource(one)


class Joined:
    """A container in which PyAV meets, at the end, a stream that was not there when it began."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def demux(self, streams: Any) -> Any:
        yield from self.inner.demux(streams)
        raise IndexError("list index out of range")


def test_a_stream_that_appears_midway_costs_no_picture(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.ts", count=40)
    with FileSource(path) as source:
        container: Any = Joined(source._container)
        source._container = container
        source._decoded = source._decode()
        numbers = []
        container.inner.seek(0)
        for captured in source.frames():
            with captured.frame.analysis() as bgr:
                numbers.append(media.number_of(bgr))
            captured.frame.release()
    assert numbers == [number % 28 for number in range(40)]


@pytest.mark.parametrize("first", range(8))
def test_damage_that_looks_like_other_streams_is_no_crash(tmp_path: Path, first: int) -> None:
    path = media.write_video(tmp_path / "clip.ts", frames=noisy(), size_wh=(160, 120))
    data = bytearray(path.read_bytes())
    places = slice(len(data) // 2 + first, None, 50)
    data[places] = b"\x55" * len(data[places])
    path.write_bytes(bytes(data))
    assert "damaged" in read(path, SALVAGE).info.warnings[0]


def test_the_decoder_says_nothing_on_stderr(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.ts", frames=noisy(), size_wh=(160, 120))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :: 50] = b"\x55" * len(data[len(data) // 2 :: 50])
    path.write_bytes(bytes(data))
    program = (
        "import sys; from pathlib import Path\n"
        "from m2fp_stream.sources.file import *\n"
        "from m2fp_stream.sources.options import *\n"
        "with FileSource(Path(sys.argv[1]), FileOptions(salvage=True)) as source:\n"
        "    for captured in source.frames(): captured.frame.release()\n"
        "    print(source.info.warnings)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    assert "damaged" in done.stdout
    assert done.stderr == ""


# ----------------------------------------------------------------- real footage


@pytest.mark.data
@pytest.mark.parametrize("name", ["again.mkv", "sister.mkv", "people-detection.gif"])
def test_real_clips_come_complete(data_dir: Path, name: str) -> None:
    path = data_dir / "clips" / name
    with av.open(path) as container:
        expected = [frame.pts for frame in container.decode(video=0)]
    assert read(path).pts == expected
