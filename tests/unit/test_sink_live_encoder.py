"""H.264 without delay: every frame at once, key frames by time, tables before each of them."""

from __future__ import annotations

import random
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from m2fp_stream.core.errors import SinkError
from m2fp_stream.sinks.live_encoder import TICK, EncodedFrame, LiveEncoder, Muxer
from tests.kit import media

MICROSECOND = Fraction(1, 1_000_000)
SIZE = (96, 64)
_EXACT = ("-sws_flags", "accurate_rnd+full_chroma_int+bilinear")
BOOT = 1_234_567_890_123
"""Microseconds on a clock that has run for two weeks."""


def encoder(size_wh: tuple[int, int] = SIZE, **more: object) -> LiveEncoder:
    settings: dict[str, object] = {"preset": "veryfast", "keyframe_s": 1.0, **more}
    return LiveEncoder(size_wh, MICROSECOND, **settings)  # type: ignore[arg-type]  # mixed


def times(count: int, seed: int = 1) -> list[int]:
    """Returns uneven arrival times, about 30 a second, with a gap in the middle."""
    rng = random.Random(seed)
    at, found = BOOT, []
    for number in range(count):
        found.append(at)
        at += rng.randint(15_000, 50_000) + (2_500_000 if number == count // 2 else 0)
    return found


def encode(pts: list[int], size_wh: tuple[int, int] = SIZE, **more: object) -> list[EncodedFrame]:
    live = encoder(size_wh, **more)
    return [
        live.encode(media.composed(media.card(size_wh, number), number, one, MICROSECOND))
        for number, one in enumerate(pts)
    ]


class Bytes:
    """Keeps what a muxer writes, one entry a frame."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self.frames[-1] += data
        return len(data)


def transport_stream(frames: list[EncodedFrame], size_wh: tuple[int, int] = SIZE) -> list[bytes]:
    """Returns the bytes of each frame in one MPEG-TS."""
    target = Bytes()
    muxer = Muxer(target, "mpegts", size_wh)
    for frame in frames:
        target.frames.append(b"")
        muxer.write(frame)
    target.frames.append(b"")
    muxer.close()
    assert target.frames.pop() == b"", "something was held back"
    return target.frames


def decode(data: bytes, size_wh: tuple[int, int]) -> list[media.BGR]:
    """Returns the pictures as another player's decoder sees them."""
    command = ["ffmpeg", "-v", "error", "-i", "-", "-fps_mode", "passthrough"]
    command += ["-enc_time_base", "-1"]  # its own guess is a constant rate
    done = subprocess.run(
        [*command, *_EXACT, "-f", "rawvideo", "-pix_fmt", "bgr24", "-"],
        input=data,
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    width, height = size_wh
    return list(np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3))


def test_each_frame_is_there_at_once_and_comes_back_in_order() -> None:
    frames = encode(times(60))
    pictures = decode(b"".join(transport_stream(frames)), SIZE)
    assert [media.number_of(one) for one in pictures] == [number % 28 for number in range(60)]
    found = media.corners(pictures[-1])
    for name, expected in media.QUADRANTS.items():
        assert np.abs(np.subtract(found[name], expected)).max() <= 8, name


def test_times_are_those_of_the_frames_from_zero_on(tmp_path: Path) -> None:
    pts = times(60)
    path = tmp_path / "out.ts"
    path.write_bytes(b"".join(transport_stream(encode(pts))))
    with av.open(path) as container:
        got = [frame.pts for frame in container.decode(video=0)]
    assert got[0] is not None
    assert [one - got[0] for one in got if one is not None] == [
        round((one - BOOT) * MICROSECOND / TICK) for one in pts
    ]


def test_two_frames_within_one_tick_stay_two() -> None:
    assert [one.pts for one in encode([BOOT, BOOT + 1, BOOT + 2, BOOT + 40_000])] == [0, 1, 2, 3600]


@pytest.mark.parametrize("keyframe_s", [0.5, 1.0, 2.0])
def test_key_frames_come_by_time_however_many_frames_there_were(keyframe_s: float) -> None:
    frames = encode(times(120), keyframe_s=keyframe_s)
    limit, last = round(Fraction(keyframe_s) / TICK), 0
    for frame in frames:
        due = frame.pts == 0 or frame.pts - last >= limit
        assert frame.key == due
        last = frame.pts if due else last
    assert sum(frame.key for frame in frames) > 2


def test_a_key_frame_can_be_asked_for() -> None:
    live = encoder()
    keys = [
        live.encode(media.composed(media.card(SIZE, i), i, i * 33_000, MICROSECOND), key=i == 5).key
        for i in range(10)
    ]
    assert keys == [i in (0, 5) for i in range(10)]


def test_a_stream_cut_before_any_key_frame_is_complete_from_there() -> None:
    frames = encode(times(90))
    chunks = transport_stream(frames)
    starts = [number for number, frame in enumerate(frames) if frame.key]
    assert len(starts) > 3
    for start, end in zip(starts, [*starts[1:], len(frames)], strict=True):
        assert chunks[start][:1] == b"\x47"
        assert len(chunks[start]) % 188 == 0
        pictures = decode(b"".join(chunks[start:end]), SIZE)
        assert [media.number_of(one) for one in pictures] == [i % 28 for i in range(start, end)]


def test_colours_are_tagged_as_they_were_converted(tmp_path: Path) -> None:
    coarse = np.random.default_rng(3).integers(30, 226, (3, 4, 3), np.uint8)
    smooth = np.asarray(cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_LINEAR), np.uint8)
    live = encoder((128, 96), bitrate_kbps=20_000)
    frames = [
        live.encode(media.composed(smooth, i, i * 33_000, MICROSECOND), key=True) for i in range(3)
    ]
    data = b"".join(transport_stream(frames, (128, 96)))
    path = tmp_path / "out.ts"
    path.write_bytes(data)
    with av.open(path) as container:
        context = container.streams.video[0].codec_context
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert tags == (1, 1, 1, 1)
        assert context.has_b_frames == 0
    error = decode(data, (128, 96))[-1].astype(float) - smooth
    assert np.abs(error.mean((0, 1))).max() < 1
    assert np.sqrt((error**2).mean()) < 3


def test_nothing_but_the_encoders_settings_is_in_the_stream() -> None:
    data = b"".join(transport_stream(encode(times(5))))
    assert b"Lavf" not in data
    assert b"Lavc" not in data


@pytest.mark.parametrize("size_wh", [(95, 63), (96, 63), (95, 64)])
def test_odd_sides_are_continued(size_wh: tuple[int, int]) -> None:
    assert encoder(size_wh).coded_size_wh == (96, 64)
    frames = encode([0, 33_000], size_wh)
    pictures = decode(b"".join(transport_stream(frames)), (96, 64))
    assert [media.number_of(one) for one in pictures] == [0, 1]


def test_a_bit_rate_is_kept() -> None:
    rng = np.random.default_rng(5)
    sizes = {}
    for kbps in (200, 800):
        live = encoder((160, 96), bitrate_kbps=kbps)
        frames = [
            live.encode(
                media.composed(
                    rng.integers(0, 256, (96, 160, 3), np.uint8), i, i * 33_333, MICROSECOND
                )
            )
            for i in range(90)
        ]
        sizes[kbps] = sum(len(frame.data) for frame in frames) * 8 / 3000
    for kbps, got in sizes.items():
        assert got < 1.5 * kbps
    assert sizes[200] < sizes[800]


def test_times_that_do_not_rise_are_refused() -> None:
    with pytest.raises(SinkError, match="timestamps must rise; 100 is followed by 100"):
        encode([0, 100, 100])


def test_another_size_or_time_base_is_refused() -> None:
    live = encoder()
    with pytest.raises(SinkError, match=r"expected \(96, 64\) at 1/1000000 .* got \(64, 96\)"):
        live.encode(media.composed(media.card((64, 96)), 0, 0, MICROSECOND))
    with pytest.raises(SinkError, match="1/25"):
        live.encode(media.composed(media.card(), 0, 0, Fraction(1, 25)))


def test_a_size_that_cannot_be_encoded_is_one_line() -> None:
    with pytest.raises(SinkError, match="20000x20000 pixels cannot be encoded") as caught:
        encoder((20_000, 20_000))
    assert "\n" not in str(caught.value)


def test_a_muxers_error_does_not_name_its_target() -> None:
    muxer = Muxer("rtmp://user:secret@127.0.0.1:1/live/key", "flv", SIZE)
    # Its header needs the first frame's parameter sets, so that is when it connects.
    with pytest.raises(SinkError) as caught:
        muxer.write(encode([0])[0])
    assert str(caught.value) == "Connection refused"
    assert caught.value.__cause__ is None
