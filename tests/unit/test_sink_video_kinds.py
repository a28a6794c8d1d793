"""Films of every encoder in every container: times, colours, size, sound, and nothing besides."""

from __future__ import annotations

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
from m2fp_stream.core.errors import SinkError, UsageError
from m2fp_stream.core.safe import SafeAudio
from m2fp_stream.naming import CONTAINERS as NAMED
from m2fp_stream.sinks.containers import CONTAINERS
from m2fp_stream.sinks.encoders import ENCODERS, VideoFileOptions, read_rate
from m2fp_stream.sinks.video_file import VideoFileSink
from m2fp_stream.sources.file import FileSource
from tests.kit import media
from tests.kit.sound import heard, lag_s, voice

BASE = Fraction(1, 25)
KINDS = [(kind, name) for kind, one in CONTAINERS.items() for name in one.encoders]
CODECS = {"x264": "h264", "x265": "hevc", "av1": "av1", "vp9": "vp9"}


def options_for(kind: str, encoder: str, **more: Any) -> VideoFileOptions:
    return VideoFileOptions.model_validate(
        {"container": kind, "encoder": encoder, "preset": "ultrafast", **more}
    )


def write(
    path: Path,
    encoder: str,
    pts: list[int],
    time_base: Fraction = BASE,
    *,
    last: int | None = None,
    pictures: list[media.BGR] | None = None,
    options: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Writes one card a timestamp, or `pictures` in turn; the suffix names the container."""
    given = options_for(path.suffix[1:], encoder, **(options or {}))
    shown = pictures or [media.card((96, 64), number) for number in range(len(pts))]
    size_wh = (shown[0].shape[1], shown[0].shape[0])
    with VideoFileSink(path, size_wh=size_wh, time_base=time_base, options=given, **more) as sink:
        for number, one in enumerate(pts):
            picture = shown[number % len(shown)]
            sink.write(media.composed(picture, number, one, time_base))
        if last is not None:
            sink.set_last_duration(last)
        sink.finish()
    return path


def times(path: Path) -> list[Fraction]:
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        return [
            frame.pts * stream.time_base
            for frame in container.decode(stream)
            if frame.pts is not None
        ]


def test_the_table_is_what_names_and_options_offer() -> None:
    assert tuple(CONTAINERS) == NAMED
    assert {name for one in CONTAINERS.values() for name in one.encoders} == set(ENCODERS)


TIMES = {
    "variable": ([0, 40, 41, 42, 100, 300, 301, 900, 901, 2000, 2001], Fraction(1, 1000)),
    "ntsc": ([i * 1001 for i in range(40)], Fraction(1, 30000)),
    "late": ([129600 + i * 3003 for i in range(20)], Fraction(1, 90000)),
    "240 a second": (list(range(30)), Fraction(1, 240)),
    "one": ([7], Fraction(1, 1000)),
    "two": ([7, 47], Fraction(1, 1000)),
    "three": ([7, 47, 87], Fraction(1, 1000)),
}


@pytest.mark.parametrize(("kind", "encoder"), KINDS)
def test_every_frame_is_there_at_its_time_and_nothing_is_printed(
    kind: str, encoder: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tick = CONTAINERS[kind].tick
    for name, (pts, base) in TIMES.items():
        last = round(Fraction(1, 20) / base)
        path = write(tmp_path / f"{name}.{kind}", encoder, pts, base, last=last)
        exact = [one * base for one in pts]
        got = times(path)
        assert len(got) == len(exact)
        assert all(
            abs(one - other) <= (tick or 0) / 2 for one, other in zip(got, exact, strict=True)
        )
        with FileSource(path) as source:
            numbers = []
            for captured in source.frames():
                with captured.frame.analysis() as bgr:
                    numbers.append(media.number_of(bgr))
                captured.frame.release()
        assert numbers == [number % 28 for number in range(len(pts))], name
        if kind == "mp4":  # its duration in FFmpeg follows decoding times
            end = media.presentation_end(path)
        else:
            with av.open(path) as container:
                end = Fraction(container.duration or 0, av.time_base)
        assert abs(end - (pts[-1] + last) * base) <= Fraction(2, 1000), name
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["mkv", "webm"])
def test_frames_within_one_millisecond_are_moved_one_apart(kind: str, tmp_path: Path) -> None:
    pts = [0, 1, 2, 100, 101]
    path = write(tmp_path / f"a.{kind}", "av1", pts, Fraction(1, 10_000))
    assert times(path) == [Fraction(one, 1000) for one in (0, 1, 2, 10, 11)]


@pytest.mark.parametrize(("kind", "encoder"), KINDS)
@pytest.mark.parametrize("tags", [(1, 1), (5, 1), (1, 2), (None, None), (9, 1)])
def test_colours_and_their_tags_come_back(
    kind: str, encoder: str, tags: tuple[int | None, int | None], tmp_path: Path
) -> None:
    colorspace, color_range = tags
    coarse = np.random.default_rng(3).integers(30, 226, (3, 4, 3), np.uint8)
    picture = np.asarray(cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_LINEAR), np.uint8)
    path = write(
        tmp_path / f"a.{kind}",
        encoder,
        [0],
        pictures=[picture],
        options={"crf": 4},
        colorspace=colorspace,
        color_range=color_range,
        color_primaries=colorspace,
        color_trc=None if colorspace is None else 1,
    )
    with FileSource(path) as source:
        captured = next(source.frames())
        assert source.info.colorspace == colorspace
        assert (source.info.color_range == 2) == (color_range == 2)
        assert source.info.color_primaries == colorspace
        with captured.frame.analysis() as bgr:
            error = bgr.astype(float) - picture
        captured.frame.release()
    # Another matrix is wrong by ten levels and more.
    assert np.abs(error.mean((0, 1))).max() < 0.7
    assert np.sqrt((error**2).mean()) < 3


@pytest.mark.parametrize(("kind", "encoder"), KINDS)
def test_there_is_one_video_of_that_kind_and_nothing_of_metadata(
    kind: str, encoder: str, tmp_path: Path
) -> None:
    path = write(tmp_path / f"a.{kind}", encoder, [0, 1, 2])
    with av.open(path) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        stream = container.streams.video[0]
        assert av.Codec(stream.codec_context.name, "r").id == av.Codec(CODECS[encoder], "r").id
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.profile in ("Constrained Baseline", "High", "Main", "Profile 0")
        known = {"mp4": {"major_brand", "minor_version", "compatible_brands"}}
        assert set(container.metadata) == known.get(kind, {"encoder"})
        assert set(stream.metadata) == (
            {"language", "handler_name"} if kind == "mp4" else {"DURATION"}
        )
        assert container.chapters() == []
        if kind == "mp4" and encoder == "x265":
            assert stream.codec_context.codec_tag == "hvc1", "QuickTime plays no other"
    data = path.read_bytes()
    if kind == "mp4":
        assert b"Lavf" not in data
        assert data.index(b"moov") < data.index(b"mdat"), "the index is not at the front"
    else:
        # The application is an obligatory element (RFC 9559, 5.1.2): its bare name, no version.
        assert data.count(b"Lavf") == 2
        assert b"Lavf6" not in data
        assert b"\x44\x61\x88" not in data, "a date"


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize("encoder", ["x264", "x265", "av1", "vp9"])
def test_pixels_that_are_not_square_are_said_or_the_picture_is_stretched(
    kind: str, encoder: str, tmp_path: Path
) -> None:
    if encoder not in CONTAINERS[kind].encoders:
        with pytest.raises(ValidationError, match=f"in {CONTAINERS[kind].title}"):
            options_for(kind, encoder)
        return
    said = encoder in CONTAINERS[kind].states_aspect
    for aspect, size_wh in ((Fraction(4, 3), (128, 64)), (Fraction(2, 3), (96, 96))):
        path = write(tmp_path / f"{size_wh[0]}.{kind}", encoder, [0], sample_aspect_ratio=aspect)
        with av.open(path) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == ((96, 64) if said else size_wh)
            if said:
                assert stream.sample_aspect_ratio == aspect
            else:
                assert stream.sample_aspect_ratio in (None, 1)


def test_crf_0_can_be_played(tmp_path: Path) -> None:
    """Without loss it would be High 4:4:4 Predictive, which QuickTime and browsers do not play."""
    path = write(tmp_path / "a.mp4", "x264", [0, 1, 2], options={"crf": 0, "preset": "fast"})
    with av.open(path) as container:
        assert container.streams.video[0].profile == "High"
    for kind, encoder in KINDS:
        write(tmp_path / f"{encoder}.{kind}", encoder, [0, 1], options={"crf": 0})


@pytest.mark.parametrize(("kind", "encoder"), KINDS)
def test_a_size_that_the_encoder_refuses_is_said_and_leaves_nothing(
    kind: str, encoder: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny, path = np.full((1, 1, 3), 90, np.uint8), tmp_path / f"a.{kind}"
    if encoder in ("av1", "x265"):
        with pytest.raises(SinkError, match="takes no pictures of 1x1"):
            write(path, encoder, [0], pictures=[tiny])
        assert list(tmp_path.iterdir()) == []
    else:
        assert len(times(write(path, encoder, [0], pictures=[tiny]))) == 1
    assert capfd.readouterr() == ("", "")


def noisy(count: int = 100) -> list[media.BGR]:
    """Returns pictures that take many bits: soft noise that drifts over a still one."""
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (30, 40, 3), np.uint8)
    still = np.asarray(cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC), np.int16)
    made = []
    for _ in range(count):
        grain = random.normal(0, 2, still.shape).astype(np.int16)
        made.append(np.clip(still + grain, 0, 255).astype(np.uint8))
    return made


@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_a_bit_rate_is_kept_on_average(encoder: str, tmp_path: Path) -> None:
    pictures = noisy()
    found = []
    for rate in (300_000, 900_000):
        path = tmp_path / f"{rate}.mkv"
        given: dict[str, Any] = {"bitrate": rate, "preset": "fast"}
        write(path, encoder, list(range(100)), pictures=pictures, options=given, rate=Fraction(25))
        found.append(path.stat().st_size * 8 / 4)
        assert found[-1] == pytest.approx(rate, rel=0.5)  # four seconds are short
    assert found[1] > 1.5 * found[0]


def test_an_encoder_that_is_missing_is_named_with_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = av.codecs_available - {"libx265", "libsvtav1"}
    monkeypatch.setattr(av, "codecs_available", there)
    with pytest.raises(UsageError, match=r"x265: this PyAV has no libx265; there are: x264, vp9$"):
        write(tmp_path / "a.mp4", "x265", [0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"container": "webm", "encoder": "x264"}, "expected av1 or vp9 in WebM"),
        ({"encoder": "vp9"}, "expected x264 or x265 or av1 in MP4"),
        ({"crf": 52}, "expected less than or equal to 51"),
        ({"crf": 52, "encoder": "x265"}, "expected less than or equal to 51"),
        ({"crf": 64, "encoder": "av1"}, "expected less than or equal to 63"),
        ({"crf": 64, "container": "webm"}, "expected less than or equal to 63"),
        ({"crf": 20, "bitrate": "4M"}, "crf and bitrate exclude each other"),
        ({"keep_quality": True, "bitrate": 4_000_000}, "bitrate and keep_quality exclude"),
        ({"bitrate": "4X"}, "expected a bit rate such as 4M or 800k"),
        ({"bitrate": "1k"}, "expected a bit rate from 10k to 1000M"),
        ({"bitrate": True}, "valid integer"),
        ({"container": "avi"}, "mp4"),
    ],
)
def test_options_that_make_no_sense_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        VideoFileOptions.model_validate(given)


def test_options_that_make_sense_are_taken() -> None:
    webm = VideoFileOptions.model_validate({"container": "webm", "crf": 63})
    assert webm.encoder_name == "av1"
    assert VideoFileOptions.model_validate({"bitrate": "4M"}).bitrate == 4_000_000
    assert [read_rate(text) for text in ("800k", "1.5M", " 64000 ", "2m")] == [
        800_000,
        1_500_000,
        64_000,
        2_000_000,
    ]


@pytest.mark.parametrize("kind", list(CONTAINERS))
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_at_its_place_and_besides_it_there_is_nothing(
    kind: str, channels: int, tmp_path: Path
) -> None:
    path, rate = tmp_path / f"a.{kind}", 48_000
    spoken = voice(2, rate)
    sound = AudioFormat(rate, channels)
    options = options_for(kind, CONTAINERS[kind].encoders[0])
    with VideoFileSink(
        path, size_wh=(96, 64), time_base=BASE, sound=sound, options=options
    ) as sink:
        for number in range(50):
            at = number * rate // 25
            samples = np.tile(spoken[at : at + rate // 25], (channels, 1))
            sink.write_audio(SafeAudio(samples, start=at, audio_format=sound, key=AUDIBLE))
            sink.write(media.composed(media.card((96, 64), number), number, number, BASE))
        sink.finish()
    assert times(path)[:3] == [0, Fraction(40, 1000), Fraction(80, 1000)]
    lag, height = lag_s(spoken, heard(path))
    assert abs(lag) <= 0.002
    assert height > 0.9
    with av.open(path) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        track = container.streams.audio[0]
        assert track.codec_context.name == ("opus" if kind == "webm" else "aac")
        assert track.codec_context.channels == channels
        known = {"mp4": {"language", "handler_name"}}
        assert set(track.metadata) == known.get(kind, {"DURATION"})
    assert b"Lavc" not in path.read_bytes()


@pytest.mark.parametrize("kind", ["mkv", "webm"])
def test_nothing_of_the_source_but_its_pictures_reaches_the_output(
    kind: str, tmp_path: Path
) -> None:
    secret = "N0T-F0R-Y0U"
    path = media.write_video(
        tmp_path / "in.mkv",
        extras=True,
        audio_s=0.4,
        secret=secret,
        metadata={"title": secret, "location": f"{secret}+48.8577+002.295/"},
    )
    assert path.read_bytes().count(secret.encode()) >= 4, "the control"
    out = tmp_path / f"out.{kind}"
    options = options_for(kind, "av1")
    with FileSource(path) as source:
        info = source.info
        base, size_wh = info.time_base, info.size_wh
        with VideoFileSink(out, size_wh=size_wh, time_base=base, options=options) as sink:
            for captured in source.frames():
                frame = captured.frame
                with frame.analysis() as bgr:
                    sink.write(media.composed(bgr, frame.frame_id, frame.pts, base))
                frame.release()
            sink.finish()
    assert secret.encode() not in out.read_bytes()
    with av.open(out) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        assert container.chapters() == []
        assert set(container.metadata) == {"encoder"}
