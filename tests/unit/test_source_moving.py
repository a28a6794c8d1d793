"""Moving pictures: WebP and PNG come as animations, and leave as such."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.errors import SinkError, SourceError, TruncatedSourceError
from m2fp_stream.sinks.animation import AnimationSink
from m2fp_stream.sources.base import Source
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.image import ImageSource
from m2fp_stream.sources.options import FileOptions
from m2fp_stream.sources.picture import open_picture
from m2fp_stream.sources.webp import WebpSource
from tests.kit import media

SALVAGE = FileOptions(salvage=True)


def taken(source: Source) -> tuple[list[media.BGR], list[Fraction], list[int | None]]:
    """Pictures, times in seconds and durations in ticks; closes the source."""
    pictures, times, durations = [], [], []
    with source:
        for captured in source.frames():
            with captured.frame.analysis() as bgr:
                pictures.append(bgr.copy())
            times.append(captured.frame.pts * captured.frame.time_base)
            durations.append(captured.duration)
            captured.frame.release()
    return pictures, times, durations


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_apng(path: Path, pictures: Sequence[media.BGR], *, apart: bool) -> Path:
    """Writes an animation of 40 ms a picture; `apart`: the first one is not part of it."""
    out, sequence = b"\x89PNG\r\n\x1a\n", 0
    for number, picture in enumerate(pictures):
        still = cv2.imencode(".png", picture)[1].tobytes()
        height, width = picture.shape[:2]
        if not number:
            out += still[8:33] + chunk(b"acTL", struct.pack(">II", len(pictures) - apart, 0))
        if number or not apart:
            out += chunk(
                b"fcTL", struct.pack(">IIIIIHHBB", sequence, width, height, 0, 0, 4, 100, 0, 0)
            )
            sequence += 1
        at = 8
        while at < len(still):
            length, kind = struct.unpack_from(">I4s", still, at)
            data = still[at + 8 : at + 8 + length]
            if kind == b"IDAT" and number:
                out += chunk(b"fdAT", struct.pack(">I", sequence) + data)
                sequence += 1
            elif kind == b"IDAT":
                out += chunk(b"IDAT", data)
            at += 12 + length
    path.write_bytes(out + chunk(b"IEND", b""))
    return path


CARDS = [media.card(number=number) for number in range(5)]


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_an_animation_comes_with_all_its_pictures_and_times(tmp_path: Path, suffix: str) -> None:
    source = open_picture(media.write_moving(tmp_path / f"a{suffix}"))
    assert isinstance(source, WebpSource if suffix == ".webp" else FileSource)
    assert source.info.size_wh == (96, 64)
    pictures, times, _ = taken(source)
    assert [media.number_of(one) for one in pictures] == list(range(10))
    assert times == [Fraction(number, 25) for number in range(10)]
    assert source.info.average_rate == 25
    assert source.info.dropped_streams == ()


@pytest.mark.parametrize("suffix", [".webp", ".png", ".jpg"])
def test_a_picture_that_stands_still_stays_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(cv2.imencode(suffix, media.card())[1].tobytes())
    with open_picture(path) as source:
        assert isinstance(source, ImageSource)


@pytest.mark.parametrize("count", [3, 1])
def test_a_picture_that_is_not_part_of_its_animation_is_left_out_and_named(
    tmp_path: Path, count: int
) -> None:
    path = write_apng(tmp_path / "a.png", CARDS[: count + 1], apart=True)
    source = open_picture(path)
    apart = "a still picture that is not part of the animation"
    assert apart in source.info.dropped_streams
    assert [media.number_of(one) for one in taken(source)[0]] == list(range(1, count + 1))
    source = open_picture(write_apng(tmp_path / "b.png", CARDS[:3], apart=False))
    assert source.info.dropped_streams == ()
    assert [media.number_of(one) for one in taken(source)[0]] == [0, 1, 2]


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_what_an_animation_hides_stays_hidden(tmp_path: Path, suffix: str) -> None:
    alpha = np.full((64, 96), 255, np.uint8)
    alpha[:, 48:] = 0
    hidden = [np.dstack([card, alpha]) for card in CARDS]
    pictures, _, _ = taken(open_picture(media.write_moving(tmp_path / f"a{suffix}", hidden)))
    assert len(pictures) == 5
    for number, picture in enumerate(pictures):
        assert picture[:, 52:].max() <= 8
        assert np.abs(picture[:, :44].astype(int) - CARDS[number][:, :44]).mean() < 6


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_grey_that_is_transparent_in_a_moving_png_is_black_or_refused(
    tmp_path: Path, bits: int
) -> None:
    rows = {1: b"\xff\xff\0\0", 2: b"\xaa" * 4 + b"\x55" * 4, 4: b"\xcc" * 8 + b"\x55" * 8}
    grey = {1: 1, 2: 2, 4: 12, 8: 200}[bits]
    row = rows.get(bits, bytes([200]) * 16 + bytes([90]) * 16)
    data = zlib.compress((b"\0" + row) * 32)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 32, 32, bits, 0, 0, 0, 0))]
    parts += [(b"acTL", struct.pack(">II", 2, 0)), (b"tRNS", struct.pack(">H", grey))]
    for number, image in ((0, (b"IDAT", data)), (1, (b"fdAT", struct.pack(">I", 2) + data))):
        parts += [(b"fcTL", struct.pack(">IIIIIHHBB", number, 32, 32, 0, 0, 4, 100, 0, 0)), image]
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in [*parts, (b"IEND", b"")])
    )
    if bits < 8:  # FFmpeg does not decode these as transparent
        with pytest.raises(SourceError, match="transparency cannot be decoded"):
            taken(open_picture(path))
        return
    pictures, _, _ = taken(open_picture(path))
    assert not any(picture[:, :16].any() for picture in pictures)
    assert all(picture[:, 16:].any() for picture in pictures)


def riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def write_webp(path: Path, parts: Sequence[tuple[NDArray[np.uint8], tuple[int, int], int]]) -> Path:
    """Writes lossless pictures at their places, with their flags, on a canvas of 96x64."""
    body = riff(b"VP8X", bytes([0x12, 0, 0, 0, 95, 0, 0, 63, 0, 0])) + riff(b"ANIM", bytes(6))
    for picture, (x, y), flags in parts:
        still = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
        at = still.index(b"VP8L")
        size = 8 + struct.unpack_from("<I", still, at + 4)[0]
        height, width = picture.shape[:2]
        place = b"".join(n.to_bytes(3, "little") for n in (x // 2, y // 2, width - 1, height - 1))
        body += riff(b"ANMF", place + b"\x28\0\0" + bytes([flags]) + still[at : at + size])
    path.write_bytes(riff(b"RIFF", b"WEBP" + body))
    return path


def flat(bgra: tuple[int, int, int, int], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    picture = np.empty((size_wh[1], size_wh[0], 4), np.uint8)
    picture[:] = bgra
    return picture


def test_parts_of_a_webp_lie_over_replace_and_clear_as_their_flags_say(tmp_path: Path) -> None:
    white, half = (255, 255, 255, 255), (0, 0, 200, 128)
    path = write_webp(
        tmp_path / "a.webp",
        [
            (flat(white, (96, 64)), (0, 0), 0),
            (flat(half, (32, 32)), (10, 20), 0),  # lies over
            (flat(half, (32, 32)), (50, 20), 2),  # replaces
            (flat(white, (32, 32)), (50, 20), 3),  # clears its place once it was shown
            (flat(half, (32, 32)), (50, 20), 0),
        ],
    )
    pictures, times, durations = taken(WebpSource(path))
    assert times == [Fraction(number, 25) for number in range(5)]
    assert durations == [40] * 5
    assert (pictures[0] == 255).all()
    over, replaced = (127, 127, 227), (0, 0, 100)
    assert pictures[1][30, 20] == pytest.approx(over, abs=1)
    assert pictures[1][19, 20] == pytest.approx((255, 255, 255))
    assert pictures[2][30, 60] == pytest.approx(replaced, abs=1)
    assert pictures[2][30, 20] == pytest.approx(over, abs=1)
    assert pictures[3][30, 60] == pytest.approx((255, 255, 255))
    assert pictures[4][30, 60] == pytest.approx(replaced, abs=1)


def test_a_part_of_a_webp_outside_its_canvas_is_damage(tmp_path: Path) -> None:
    parts = [(flat((9, 9, 9, 255), (32, 32)), (at, 0), 0) for at in (0, 32, 80)]
    path = write_webp(tmp_path / "a.webp", parts)
    with pytest.raises(TruncatedSourceError):
        WebpSource(path)
    assert len(taken(WebpSource(path, SALVAGE))[0]) == 2


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_a_part_of_an_animation_starts_and_ends_on_the_frame(tmp_path: Path, suffix: str) -> None:
    path = media.write_moving(tmp_path / f"a{suffix}")
    pictures, times, _ = taken(open_picture(path, FileOptions(start_s=0.12, end_s=0.24)))
    assert [media.number_of(one) for one in pictures] == [3, 4, 5]
    assert times[0] == 0
    with pytest.raises(SourceError, match="no frame between start and end"):
        taken(open_picture(path, FileOptions(start_s=5)))


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_an_animation_cut_short_is_an_error_unless_salvaged(tmp_path: Path, suffix: str) -> None:
    path = media.write_moving(tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(TruncatedSourceError, match="--salvage"):
        taken(open_picture(path))
    source = open_picture(path, SALVAGE)
    pictures, _, _ = taken(source)
    assert 2 <= len(pictures) < 10
    assert any("damaged or cut short" in one for one in source.info.warnings)


def test_a_damaged_picture_ends_a_salvaged_webp(tmp_path: Path) -> None:
    path = write_webp(tmp_path / "a.webp", [(flat((9, 9, 9, 255), (96, 64)), (0, 0), 0)] * 4)
    content = bytearray(path.read_bytes())
    at = [i for i in range(len(content)) if content[i : i + 4] == b"VP8L"][2]
    content[at + 8] = 0  # its signature
    path.write_bytes(content)
    with pytest.raises(TruncatedSourceError):
        taken(WebpSource(path))
    assert len(taken(WebpSource(path, SALVAGE))[0]) == 2


def test_an_animation_above_the_limit_is_refused(tmp_path: Path) -> None:
    path = media.write_moving(tmp_path / "a.webp")
    with pytest.raises(SourceError, match="exceed the limit"):
        WebpSource(path, FileOptions(max_pixels=6000))


@pytest.mark.parametrize("name", ["out.webp", "out.png", "out.apng"])
def test_an_animation_is_written_as_it_came_and_loops_for_ever(tmp_path: Path, name: str) -> None:
    path, times_ms = tmp_path / name, [0, 80, 170, 250, 600]
    with AnimationSink(path, time_base=Fraction(1, 1000)) as sink:
        for number, (card, pts) in enumerate(zip(CARDS, times_ms, strict=True)):
            sink.write(media.composed(card, number, pts, Fraction(1, 1000)))
        sink.set_last_duration(330)
        sink.finish()
    pictures, times, _ = taken(open_picture(path))
    assert times == [Fraction(one, 1000) for one in times_ms]
    lossy = name == "out.webp"
    for card, picture in zip(CARDS, pictures, strict=True):
        assert np.abs(card.astype(int) - picture).mean() <= (4 if lossy else 0)
    # Other decoders read the same.
    ok, animation = cv2.imdecodeanimation(np.frombuffer(path.read_bytes(), np.uint8))
    assert ok
    assert list(animation.durations) == [80, 90, 80, 350, 330]
    assert animation.loop_count == 0
    assert len(animation.frames) == 5


def test_frames_of_a_written_animation_fit_together(tmp_path: Path) -> None:
    base = Fraction(1, 1000)
    with (
        pytest.raises(SinkError, match=r"expected frames of \(96, 64\)"),
        AnimationSink(tmp_path / "out.webp", time_base=base) as sink,
    ):
        sink.write(media.composed(media.card(), 0, 5, base))
        sink.write(media.composed(media.card((98, 64)), 1, 6, base))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SinkError, match="unknown kind of picture"):
        AnimationSink(tmp_path / "out.jpg", time_base=base)
