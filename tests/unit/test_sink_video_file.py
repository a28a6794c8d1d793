"""The MP4 sink: exact times, tagged colours, nothing of the source's container."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from m2fp_stream.core._mint import AUDIBLE
from m2fp_stream.core.audio import AudioFormat
from m2fp_stream.core.errors import SinkError
from m2fp_stream.core.safe import SafeAudio
from m2fp_stream.sinks.encoders import VideoFileOptions
from m2fp_stream.sinks.video_file import VideoFileSink
from m2fp_stream.sources.file import FileSource
from tests.kit import media

FAST = VideoFileOptions(preset="veryfast")


def write(
    path: Path,
    pts: list[int],
    time_base: Fraction,
    *,
    last: int | None = None,
    size_wh: tuple[int, int] = (96, 64),
    options: VideoFileOptions = FAST,
    **more: Any,
) -> Path:
    """Writes one card a timestamp."""
    with VideoFileSink(path, size_wh=size_wh, time_base=time_base, options=options, **more) as sink:
        for number, one in enumerate(pts):
            sink.write(media.composed(media.card(size_wh, number), number, one, time_base))
        if last is not None:
            sink.set_last_duration(last)
        sink.finish()
    return path


TIMES = {
    "whole rate": (list(range(30)), Fraction(1, 25)),
    "ntsc": ([i * 1001 for i in range(30)], Fraction(1, 30000)),
    "ntsc, coarse ticks": (list(range(30)), Fraction(1001, 30000)),
    "variable": ([0, 40, 41, 42, 100, 300, 301, 900, 901, 2000, 2001], Fraction(1, 1000)),
    "late start": ([129600 + i * 3003 for i in range(30)], Fraction(1, 90000)),
    "fine ticks": ([i * 20000 for i in range(30)], Fraction(1, 200000)),
    "nanoseconds": ([i * 41708333 for i in range(30)], Fraction(1, 10**9)),
    "one frame": ([7], Fraction(1, 1000)),
}


@pytest.mark.parametrize(("pts", "time_base"), TIMES.values(), ids=TIMES)
def test_times_are_kept_exactly_b_frames_or_not(
    tmp_path: Path, pts: list[int], time_base: Fraction
) -> None:
    last = round(Fraction(1, 20) / time_base)
    path = write(tmp_path / "out.mp4", pts, time_base, last=last, options=VideoFileOptions())
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        frames = list(container.decode(stream))
        got = [frame.pts * stream.time_base for frame in frames if frame.pts is not None]
        assert got == [one * time_base for one in pts]
        end = (pts[-1] + last) * time_base
        assert abs(media.presentation_end(path) - end) <= Fraction(1, 1000)
        if len(pts) > 5:
            assert any(frame.pict_type == 3 for frame in frames), "no B-frame was tested"
    with FileSource(path) as source:
        numbers = []
        for captured in source.frames():
            with captured.frame.analysis() as bgr:
                numbers.append(media.number_of(bgr))
            captured.frame.release()
    assert numbers == [number % 28 for number in range(len(pts))]


def test_the_last_frame_lasts_one_frame_of_the_rate_unless_told(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mp4", [0, 100, 350], Fraction(1, 1000), rate=Fraction(8))
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.duration is not None
        assert stream.time_base is not None
        assert stream.duration * stream.time_base == Fraction(350 + 125, 1000)


@pytest.mark.parametrize("size_wh", [(95, 63), (96, 63), (95, 64), (1, 1)])
def test_odd_sides_are_continued_by_a_copied_row_or_column(
    tmp_path: Path, size_wh: tuple[int, int]
) -> None:
    lossless = VideoFileOptions(crf=0, preset="ultrafast")
    path = write(tmp_path / "out.mp4", [0], Fraction(1, 25), size_wh=size_wh, options=lossless)
    expected = cv2.copyMakeBorder(
        media.card(size_wh), 0, size_wh[1] % 2, 0, size_wh[0] % 2, cv2.BORDER_REPLICATE
    )
    with FileSource(path) as source:
        captured = next(source.frames())
        with captured.frame.analysis() as bgr:
            assert bgr.shape == expected.shape
            flat = bgr.astype(int)[-1, -1] - expected.astype(int)[-1, -1]
            assert np.abs(flat).max() <= 6
        captured.frame.release()


def smooth(size_wh: tuple[int, int] = (128, 96)) -> media.BGR:
    """Returns soft colours that 4:2:0 hardly changes."""
    coarse = np.random.default_rng(3).integers(30, 226, (3, 4, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, size_wh, interpolation=cv2.INTER_LINEAR), np.uint8)


@pytest.mark.parametrize("colorspace", [None, 0, 1, 4, 5, 6, 7, 9, 14])
@pytest.mark.parametrize("color_range", [None, 1, 2])
def test_colours_come_back_whatever_the_tags(
    tmp_path: Path, colorspace: int | None, color_range: int | None
) -> None:
    picture, path = smooth(), tmp_path / "out.mp4"
    sink = VideoFileSink(
        path,
        size_wh=(128, 96),
        time_base=Fraction(1, 25),
        colorspace=colorspace,
        color_range=color_range,
        options=VideoFileOptions(crf=0, preset="ultrafast"),
    )
    with sink:
        sink.write(media.composed(picture))
        sink.finish()
    with FileSource(path) as source:
        captured = next(source.frames())
        # Narrow is what H.264 means when it says nothing.
        assert (source.info.color_range == 2) == (color_range == 2)
        assert source.info.colorspace == (1 if colorspace in (0, 14) else colorspace)
        with captured.frame.analysis() as bgr:
            error = bgr.astype(float) - picture
        captured.frame.release()
    # Another matrix is wrong by ten levels and more.
    assert np.abs(error.mean((0, 1))).max() < 0.5
    assert np.sqrt((error**2).mean()) < 2


def test_tags_and_aspect_ratio_are_written(tmp_path: Path) -> None:
    path = write(
        tmp_path / "out.mp4",
        [0, 1],
        Fraction(1, 25),
        sample_aspect_ratio=Fraction(4, 3),
        color_primaries=5,
        color_trc=6,
        colorspace=5,
        color_range=1,
    )
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == Fraction(4, 3)
        tags = (stream.color_primaries, stream.color_trc, stream.colorspace, stream.color_range)
        assert tags == (5, 6, 5, 1)


def test_there_is_one_video_stream_and_no_metadata(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mp4", [0, 1, 2], Fraction(1, 25))
    with av.open(path) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert set(container.metadata) == {"major_brand", "minor_version", "compatible_brands"}
        assert set(container.streams[0].metadata) == {"language", "handler_name"}
        assert container.chapters() == []
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    data = path.read_bytes()
    assert b"Lavf" not in data
    assert b"\0\0\0\x08ilst" in data, "the list of metadata is not empty"
    assert data.index(b"moov") < data.index(b"mdat"), "the index is not at the front"


def through(path_in: Path, path_out: Path) -> tuple[list[Fraction], Fraction]:
    """Copies a film frame by frame, and returns its times and its end, in seconds."""
    times, last = [], None
    with FileSource(path_in) as source:
        info = source.info
        sink = VideoFileSink(
            path_out,
            size_wh=info.size_wh,
            time_base=info.time_base,
            rate=info.average_rate,
            colorspace=info.colorspace,
            color_range=info.color_range,
            options=FAST,
        )
        with sink:
            for captured in source.frames():
                frame = captured.frame
                with frame.analysis() as bgr:
                    sink.write(media.composed(bgr, frame.frame_id, frame.pts, info.time_base))
                times.append(frame.pts * info.time_base)
                last = captured.duration
                frame.release()
            assert last is not None
            sink.set_last_duration(last)
            sink.finish()
    return times, times[-1] + last * info.time_base


def test_nothing_of_the_source_but_its_pictures_reaches_the_output(tmp_path: Path) -> None:
    secret = "N0T-F0R-Y0U"
    path = media.write_video(
        tmp_path / "in.mkv",
        extras=True,
        audio_s=0.4,
        secret=secret,
        metadata={"title": secret, "location": f"{secret}+48.8577+002.295/"},
    )
    assert path.read_bytes().count(secret.encode()) >= 4, "the control"
    through(path, tmp_path / "out.mp4")
    assert secret.encode() not in (tmp_path / "out.mp4").read_bytes()
    with av.open(tmp_path / "out.mp4") as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert container.chapters() == []
        assert not any("location" in key for key in container.metadata)


@pytest.mark.data
@pytest.mark.parametrize("name", ["again.mkv", "night.mkv", "people-detection.gif"])
def test_real_clips_keep_their_count_and_times(data_dir: Path, tmp_path: Path, name: str) -> None:
    times, end = through(data_dir / "clips" / name, tmp_path / "out.mp4")
    with av.open(tmp_path / "out.mp4") as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        frames = container.decode(stream)
        got = [frame.pts * stream.time_base for frame in frames if frame.pts is not None]
    assert got == times
    assert abs(media.presentation_end(tmp_path / "out.mp4") - end) <= Fraction(1, 1000)


@pytest.mark.parametrize("threads", [1, 3])
def test_equal_frames_reach_the_encoder_equal(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it makes of them may differ in its bytes: x264 is not reproducible on every CPU."""
    given: list[str] = []
    encode = VideoFileSink._encode

    def spy(sink: VideoFileSink, frame: Any) -> None:
        if frame is not None:
            pixels = np.ascontiguousarray(frame.to_ndarray())
            assert pixels.any()
            given.append(f"{frame.pts} {hashlib.sha256(pixels.tobytes()).hexdigest()}")
        encode(sink, frame)

    monkeypatch.setattr(VideoFileSink, "_encode", spy)
    runs = []
    for number, options in enumerate((FAST, FAST, VideoFileOptions(threads=threads))):
        write(tmp_path / f"{number}.mp4", list(range(40)), Fraction(1, 25), options=options)
        runs.append(tuple(given))
        given.clear()
    assert len(runs[0]) == len(set(runs[0])) == 40
    assert runs[0] == runs[1] == runs[2]


def test_a_lower_crf_is_a_larger_file(tmp_path: Path) -> None:
    sizes = [
        write(
            tmp_path / f"{crf}.mp4",
            list(range(10)),
            Fraction(1, 25),
            options=VideoFileOptions(crf=crf, preset="veryfast"),
        )
        .stat()
        .st_size
        for crf in (0, 20, 51)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize("bad", ["size", "time base", "order", "repeat"])
def test_a_frame_that_does_not_fit_is_an_error_and_leaves_nothing(tmp_path: Path, bad: str) -> None:
    base = Fraction(1, 25)
    second = {
        "size": media.composed(media.card((98, 64)), 1, 6, base),
        "time base": media.composed(media.card(), 1, 6, Fraction(1, 50)),
        "order": media.composed(media.card(), 1, 4, base),
        "repeat": media.composed(media.card(), 1, 5, base),
    }[bad]
    with (
        pytest.raises(SinkError, match=r"timestamps must rise|expected \(96, 64\)"),
        VideoFileSink(tmp_path / "out.mp4", size_wh=(96, 64), time_base=base) as sink,
    ):
        sink.write(media.composed(media.card(), 0, 5, base))
        sink.write(second)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size_wh", [(0, 0), (100_000, 100_000)])
def test_a_size_that_x264_refuses_is_an_error_and_leaves_nothing(
    tmp_path: Path, size_wh: tuple[int, int]
) -> None:
    with pytest.raises(SinkError, match="cannot be written"):
        VideoFileSink(tmp_path / "out.mp4", size_wh=size_wh, time_base=Fraction(1, 25))
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_while_opening_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(av, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        VideoFileSink(tmp_path / "out.mp4", size_wh=(96, 64), time_base=Fraction(1, 25))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"crf": 52}, {"crf": -1}, {"crf": "20"}, {"preset": "warp"}, {"threads": 0}, {"x": 1}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VideoFileOptions.model_validate(wrong)


def stretch(count: int, *, start: int = 0, rate: int = 48000) -> SafeAudio:
    samples = np.full((2, count), 0.25, np.float32)
    return SafeAudio(samples, start=start, audio_format=AudioFormat(rate, 2), key=AUDIBLE)


STEREO = AudioFormat(48000, 2)


def sound_sink(path: Path, *, sound: AudioFormat | None = STEREO) -> VideoFileSink:
    base = Fraction(1, 25)
    return VideoFileSink(path, size_wh=(96, 64), time_base=base, sound=sound, options=FAST)


def test_sound_becomes_a_track_of_its_length_from_0_on(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with sound_sink(path) as sink:
        for at, count in ((0, 1), (1, 40_000), (40_001, 0), (40_001, 7_999)):
            sink.write_audio(stretch(count, start=at))
        sink.write(media.composed(media.card((96, 64)), time_base=Fraction(1, 25)))
        sink.finish()
    with av.open(path) as container:
        frames = list(container.decode(audio=0))
        assert frames[0].pts == 0
        assert sum(frame.samples for frame in frames) == pytest.approx(48_000, abs=1024)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (stretch(100, start=1), "from sample 0 on"),
        (stretch(100, rate=44100), "expected AudioFormat"),
    ],
    ids=["a gap", "another rate"],
)
def test_sound_that_does_not_follow_is_refused_and_nothing_is_left(
    item: SafeAudio, problem: str, tmp_path: Path
) -> None:
    with sound_sink(tmp_path / "out.mp4") as sink:
        with pytest.raises(SinkError, match=problem):
            sink.write_audio(item)
        with pytest.raises(SinkError, match="is closed"):
            sink.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_film_without_sound_takes_none(tmp_path: Path) -> None:
    with (
        sound_sink(tmp_path / "out.mp4", sound=None) as sink,
        pytest.raises(SinkError, match="opened without sound"),
    ):
        sink.write_audio(stretch(100))
    assert list(tmp_path.iterdir()) == []
