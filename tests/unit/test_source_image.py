"""Still pictures: told by their contents, upright, alpha over black, checked before decoding."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from m2fp_stream.core.errors import SourceError, TruncatedSourceError
from m2fp_stream.sources.image import ImageSource
from m2fp_stream.sources.options import FileOptions
from m2fp_stream.sources.orientation import Orientation
from tests.kit import media

KINDS = [".png", ".jpg", ".webp", ".bmp", ".tiff"]


def encode(suffix: str, picture: Any, *parameters: int) -> bytes:
    """Returns the bytes of a picture file."""
    return cv2.imencode(suffix, picture, list(parameters))[1].tobytes()


def read(path: Path, options: FileOptions | None = None) -> media.BGR:
    """Returns the pixels of the one frame."""
    with ImageSource(path, options) as source:
        (captured,) = source.frames()
        with captured.frame.analysis() as bgr:
            picture = bgr.copy()
        assert captured.frame.size_wh == source.info.size_wh
        captured.frame.release()
    return picture


def exif(orientation: int, order: str = ">") -> bytes:
    """Returns a TIFF block that holds an orientation and nothing else."""
    head = struct.pack(order + "2sHI", b"MM" if order == ">" else b"II", 42, 8)
    return head + struct.pack(order + "HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("size_wh", [(96, 64), (95, 63)])
def test_every_kind_is_told_by_its_contents(
    tmp_path: Path, suffix: str, size_wh: tuple[int, int]
) -> None:
    path, picture = tmp_path / "picture.dat", media.card(size_wh)
    path.write_bytes(encode(suffix, picture))
    assert np.abs(read(path).astype(int) - picture).mean() <= (4 if suffix == ".jpg" else 0)
    with ImageSource(path) as source:
        assert source.info.size_wh == size_wh
        assert source.info.frame_count == 1
        assert source.info.colorspace == 0
        assert not source.info.has_audio


@pytest.mark.parametrize("deep", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_grey_and_sixteen_bits_become_eight_bit_bgr(
    tmp_path: Path, suffix: str, deep: type[np.uint8] | type[np.uint16]
) -> None:
    grey = cv2.cvtColor(media.card(), cv2.COLOR_BGR2GRAY).astype(deep) * (
        257 if deep is np.uint16 else 1
    )
    (tmp_path / "p").write_bytes(encode(suffix, grey.astype(deep)))
    expected = cv2.cvtColor(media.card(), cv2.COLOR_BGR2GRAY)[:, :, None]
    assert np.abs(read(tmp_path / "p").astype(int) - expected).max() <= 1


def oriented(stored: media.BGR, value: int) -> media.BGR:
    """Turns by EXIF's own words: 2 mirrored, 3 by 180 degrees, 4 flipped, 6 by 90 to the right."""
    turned = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda p: np.rot90(p, 1),
    }
    return np.ascontiguousarray(turned[value](stored))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, value: int) -> None:
    picture = media.card()
    _, data = cv2.imencodeWithMetadata(
        suffix, picture, [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif(value), np.uint8)]
    )
    (tmp_path / "p").write_bytes(data.tobytes())
    got, expected = read(tmp_path / "p"), oriented(picture, value)
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).mean() < 4
    with ImageSource(tmp_path / "p") as source:
        assert source.info.dropped_streams == ("metadata",)


@pytest.mark.parametrize("value", range(1, 9))
def test_alpha_is_turned_with_the_picture_and_shown_over_black(tmp_path: Path, value: int) -> None:
    alpha = np.zeros((64, 96), np.uint8)
    alpha[:20, :30], alpha[20:40] = 255, 128
    picture = np.dstack([media.card(), alpha])
    _, data = cv2.imencodeWithMetadata(
        ".png", picture, [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif(value, "<"), np.uint8)]
    )
    (tmp_path / "p").write_bytes(data.tobytes())
    flat = media.card().astype(float) * alpha[:, :, None] / 255
    assert (
        np.abs(read(tmp_path / "p") - oriented(flat.astype(np.uint8), value).astype(int)).max() <= 1
    )


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
@pytest.mark.parametrize("deep", [np.uint8, np.uint16])
def test_what_alpha_hides_stays_hidden(
    tmp_path: Path, suffix: str, deep: type[np.uint8] | type[np.uint16]
) -> None:
    if suffix == ".webp" and deep is np.uint16:
        pytest.skip("WebP has 8 bits")
    picture = np.dstack([media.card(), np.zeros((64, 96), np.uint8)]).astype(deep)
    (tmp_path / "p").write_bytes(encode(suffix, picture))
    assert not read(tmp_path / "p").any()


def test_alpha_of_another_orientation_than_the_picture_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.dstack([media.card(), np.full((64, 96), 255, np.uint8)])
    (tmp_path / "p.png").write_bytes(encode(".png", picture))
    monkeypatch.setattr(Orientation, "from_exif", lambda value: Orientation(transpose=True))
    with pytest.raises(SourceError, match="differ in orientation"):
        ImageSource(tmp_path / "p.png")


@pytest.mark.parametrize("broken", [b"", b"MM", exif(6)[:9], b"XX" + exif(6)[2:]])
def test_a_broken_exif_block_means_upright(tmp_path: Path, broken: bytes) -> None:
    alpha = np.full((64, 96), 255, np.uint8)
    data = encode(".png", np.dstack([media.card(), alpha]))
    chunk = b"eXIf" + broken
    whole = struct.pack(">I", len(broken)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "p").write_bytes(data[:33] + whole + data[33:])
    assert np.array_equal(read(tmp_path / "p"), media.card())


def test_the_unused_byte_of_a_bitmap_is_not_taken_for_alpha(tmp_path: Path) -> None:
    picture = np.dstack([media.card(), np.zeros((64, 96), np.uint8)])
    header = struct.pack("<IiiHHIIiiII", 40, 96, 64, 1, 32, 3, picture.size, 0, 0, 0, 0)
    header += struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    start = 14 + len(header)
    data = b"BM" + struct.pack("<IHHI", start + picture.size, 0, 0, start) + header
    (tmp_path / "p").write_bytes(data + picture[::-1].tobytes())
    assert np.array_equal(read(tmp_path / "p"), media.card())


def bitmap(picture: Any, header_size: int, compression: int, alpha_mask: int) -> bytes:
    """Returns a bitmap of 32 bits a pixel that says where its alpha is, if anywhere."""
    height, width = picture.shape[:2]
    header = struct.pack(
        "<IiiHHIIiiII", header_size, width, height, 1, 32, compression, picture.size, 0, 0, 0, 0
    )
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, alpha_mask)
    header = header.ljust(header_size, b"\0")
    start = 14 + len(header)
    data = b"BM" + struct.pack("<IHHI", start + picture.size, 0, 0, start) + header
    return data + bytes(picture[::-1].tobytes())


@pytest.mark.parametrize("header_size", [56, 108, 124])
def test_what_the_alpha_of_a_bitmap_hides_stays_hidden(tmp_path: Path, header_size: int) -> None:
    picture = np.dstack([media.card(), np.zeros((64, 96), np.uint8)])
    picture[:20, :, 3] = 255
    (tmp_path / "p").write_bytes(bitmap(picture, header_size, 3, 0xFF000000))
    shown = read(tmp_path / "p")
    assert np.array_equal(shown[:20], media.card()[:20])
    assert not shown[20:].any()
    for mask, all_hidden in ((0, picture), (0xFF000000, picture * (1, 1, 1, 0))):
        opaque = bitmap(all_hidden.astype(np.uint8), header_size, 3, mask)
        (tmp_path / "p").write_bytes(opaque)
        assert np.array_equal(read(tmp_path / "p"), media.card()), "as browsers take it"


def test_a_bitmap_whose_alpha_is_not_decoded_is_refused(tmp_path: Path) -> None:
    """Of 16 bits a pixel, one of them alpha: OpenCV itself takes it for damaged."""
    header = struct.pack("<IiiHHIIiiII", 56, 8, 8, 1, 16, 3, 128, 0, 0, 0, 0)
    header += struct.pack("<IIII", 0x7C00, 0x3E0, 0x1F, 0x8000)
    data = b"BM" + struct.pack("<IHHI", 198, 0, 0, 70) + header + b"\x12\x34" * 64
    (tmp_path / "p").write_bytes(data)
    with pytest.raises(SourceError, match="is damaged"):
        ImageSource(tmp_path / "p")


def test_a_grey_tiff_with_alpha_is_refused(tmp_path: Path) -> None:
    def grey(samples: int) -> bytes:
        tags = [
            *((256, 3, 8), (257, 3, 8), (258, 3, 8 | 8 << 16 if samples == 2 else 8), (259, 3, 1)),
            *((262, 3, 1), (273, 4, 200), (277, 3, samples), (278, 3, 8), (279, 4, 64 * samples)),
            *([(338, 3, 2)] if samples == 2 else []),
        ]
        entries = b"".join(
            struct.pack("<HHII", tag, kind, 2 if tag == 258 and samples == 2 else 1, value)
            for tag, kind, value in tags
        )
        directory = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
        return directory.ljust(200, b"\0") + bytes([200, 0][:samples]) * 64

    (tmp_path / "p").write_bytes(grey(1))
    assert (read(tmp_path / "p") == 200).all()
    (tmp_path / "p").write_bytes(grey(2))
    with pytest.raises(SourceError, match="transparency cannot be decoded"):
        ImageSource(tmp_path / "p")


def png_of(colour_type: int, depth: int, row: bytes, clear: bytes) -> bytes:
    """Returns a PNG of 32x32 whose rows are equal and of which one colour is transparent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 32, 32, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", clear), (b"IDAT", zlib.compress((b"\0" + row) * 32))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in [*parts, (b"IEND", b"")])


CLEAR = {
    "RGB": (2, 8, bytes([10, 200, 30]) * 16 + bytes([90] * 3) * 16, bytes([0, 10, 0, 200, 0, 30])),
    "grey": (0, 8, bytes([200]) * 16 + bytes([90]) * 16, bytes([0, 200])),
    "grey of 1 bit": (0, 1, b"\xff\xff\0\0", bytes([0, 1])),
    "grey of 2 bits": (0, 2, b"\xaa" * 4 + b"\x55" * 4, bytes([0, 2])),
    "grey of 4 bits": (0, 4, b"\xcc" * 8 + b"\x55" * 8, bytes([0, 12])),
    "grey of 16 bits": (0, 16, b"\xc8\xc9" * 16 + b"\x5a\x5b" * 16, b"\xc8\xc9"),
}


@pytest.mark.parametrize("kind", CLEAR)
def test_a_colour_that_is_transparent_in_a_png_is_black(tmp_path: Path, kind: str) -> None:
    (tmp_path / "p").write_bytes(png_of(*CLEAR[kind]))
    picture = read(tmp_path / "p")
    assert not picture[:, :16].any()
    assert picture[:, 16:].any() or kind == "grey of 1 bit"  # there the rest is black


def test_a_tiff_of_more_samples_than_colours_is_refused_where_they_are_not_decoded(
    tmp_path: Path,
) -> None:
    tags = [(256, 4, 8), (257, 4, 8), (258, 3, 200), (259, 3, 1), (262, 3, 1), (273, 4, 210)]
    tags += [(277, 3, 3), (278, 4, 8), (279, 4, 192)]
    entries = b"".join(
        struct.pack("<HHII", tag, kind, 3 if tag == 258 else 1, value) for tag, kind, value in tags
    )
    directory = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    content = directory.ljust(200, b"\0") + struct.pack("<3H", 8, 8, 8)
    (tmp_path / "p").write_bytes(content.ljust(210, b"\0") + bytes([200, 0, 255]) * 64)
    with pytest.raises(SourceError, match="transparency cannot be decoded"):
        ImageSource(tmp_path / "p")


def test_frames_beyond_the_first_are_named(tmp_path: Path) -> None:
    data = encode(".png", media.card())
    control = struct.pack(">II", 2, 0)
    chunk = b"acTL" + control
    whole = struct.pack(">I", 8) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "p").write_bytes(data[:33] + whole + data[33:])
    with ImageSource(tmp_path / "p") as source:
        assert source.info.dropped_streams == ("all frames but the first",)


def test_what_lies_behind_a_picture_is_left_out_and_named(tmp_path: Path) -> None:
    picture = media.card()
    jpeg, png, webp = (encode(suffix, picture) for suffix in (".jpg", ".png", ".webp"))
    progressive = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    film = media.write_video(tmp_path / "film.mp4", count=3).read_bytes()
    cases = [
        (jpeg, ()),
        (progressive, ()),
        (jpeg + bytes(100), ()),
        (jpeg + film, ("a video (motion photo)",)),
        (progressive + jpeg, ("another picture",)),
        (jpeg + bytes(8) + jpeg + jpeg, ("2 other pictures",)),
        (jpeg + jpeg + film, ("another picture", "a video (motion photo)")),
        (jpeg + b"whatever", ("data behind the picture",)),
        (png, ()),
        (png + png[8:200], ("data behind the picture",)),
        (webp, ()),
        (webp + film, ("a video (motion photo)",)),
    ]
    for content, left_out in cases:
        (tmp_path / "p").write_bytes(content)
        with ImageSource(tmp_path / "p") as source:
            assert source.info.dropped_streams == left_out


def test_pages_beyond_the_first_are_named(tmp_path: Path) -> None:
    pages = [media.card(number=number) for number in range(2)]
    (tmp_path / "p").write_bytes(cv2.imencodemulti(".tiff", pages)[1].tobytes())
    with ImageSource(tmp_path / "p") as source:
        assert source.info.dropped_streams == ("all pages but the first",)


# ----------------------------------------------------------------- bad input


@pytest.mark.parametrize("suffix", KINDS)
def test_a_picture_above_the_limit_is_refused_before_it_is_decoded(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p").write_bytes(encode(suffix, media.card()))
    assert read(tmp_path / "p", FileOptions(max_pixels=96 * 64)).shape == (64, 96, 3)
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(SourceError, match="96x64 exceeds the limit of 6143 pixels"):
        ImageSource(tmp_path / "p", FileOptions(max_pixels=96 * 64 - 1))


def test_enormous_dimensions_in_a_header_are_refused(tmp_path: Path) -> None:
    data = bytearray(encode(".png", media.card()))
    data[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    (tmp_path / "p").write_bytes(bytes(data))
    with pytest.raises(SourceError, match="2147483647x2147483647 exceeds"):
        ImageSource(tmp_path / "p")


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("left", [0.3, 0.9])
def test_a_picture_cut_short_is_refused_without_a_word_on_stderr(
    tmp_path: Path, suffix: str, left: float, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    data = encode(suffix, rng.integers(0, 256, (64, 96, 3), np.uint8))
    (tmp_path / "p").write_bytes(data[: int(len(data) * left)])
    with pytest.raises(SourceError, match=r"is cut short|is damaged|is no picture") as caught:
        ImageSource(tmp_path / "p")
    if suffix in (".png", ".jpg", ".webp"):
        assert isinstance(caught.value, TruncatedSourceError)
    assert capfd.readouterr() == ("", "")


def test_a_thumbnails_end_is_not_taken_for_the_pictures(tmp_path: Path) -> None:
    thumbnail = encode(".jpg", media.card((16, 16)))
    data = encode(".jpg", media.card())
    segment = b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(thumbnail)) + b"Exif\0\0" + thumbnail
    whole = data[:2] + segment + data[2:]
    (tmp_path / "p").write_bytes(whole)
    assert read(tmp_path / "p").shape == (64, 96, 3)
    (tmp_path / "p").write_bytes(whole[:-40])
    with pytest.raises(TruncatedSourceError, match="is cut short"):
        ImageSource(tmp_path / "p")


def test_a_png_that_ends_between_two_chunks_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(encode(".png", media.card())[:33])
    with pytest.raises(TruncatedSourceError, match="is cut short"):
        ImageSource(tmp_path / "p")


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path: Path) -> None:
    data = bytearray(encode(".png", media.card()))
    data[len(data) // 2] ^= 1
    (tmp_path / "p").write_bytes(bytes(data))
    with pytest.raises(TruncatedSourceError, match="is cut short"):
        ImageSource(tmp_path / "p")


HEADERS = {
    "jpeg fill bytes": b"\xff\xd8\xff\xff\xff\xe0\x00\x02\xff\xc0\x00\x0b\x08\x00\x40\x00\x60",
    "jpeg without a frame": b"\xff\xd8\xff\xe0\x00\x02\x00\x00",
    "jpeg, nothing more": b"\xff\xd8\xff",
    "jpeg of height 0": b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x00\x00\x60",
    "png, short": b"\x89PNG\r\n\x1a\n\x00\x00",
    "big tiff": b"II\x2b\x00" + bytes(30),
    "tiff without a size": b"II\x2a\x00\x08\x00\x00\x00\x00\x00",
    "old bitmap": b"BM" + bytes(12) + struct.pack("<IHH", 12, 96, 64),
    "lossless webp": b"RIFF\x40\0\0\0WEBPVP8L\0\0\0\0\x2f\x5f\xc0\x0f\x00",
    "nothing known": b"GIF89a" + bytes(30),
}


@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS)
def test_a_header_and_nothing_behind_it_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p").write_bytes(data)
    with pytest.raises(SourceError, match=r"is no picture|is cut short|is damaged") as caught:
        ImageSource(tmp_path / "p")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "kind", ["upside down bitmap", "extended webp", "lossless webp", "lossy webp"]
)
def test_sizes_are_read_from_the_rarer_headers(tmp_path: Path, kind: str) -> None:
    picture = media.card()
    if kind == "upside down bitmap":
        data = bytearray(encode(".bmp", picture[::-1]))
        data[22:26] = struct.pack("<i", -64)
        rows = np.frombuffer(bytes(data[54:]), np.uint8)
        assert rows.size == picture.size
        encoded = bytes(data)
    elif kind == "extended webp":
        _, found = cv2.imencodeWithMetadata(
            ".webp", picture, [cv2.IMAGE_METADATA_EXIF], [np.frombuffer(exif(1), np.uint8)]
        )
        encoded = found.tobytes()
        assert b"VP8X" in encoded
    else:
        lossy = kind == "lossy webp"
        encoded = encode(".webp", picture, cv2.IMWRITE_WEBP_QUALITY, 90 if lossy else 101)
        assert (b"VP8 " if lossy else b"VP8L") in encoded
    (tmp_path / "p").write_bytes(encoded)
    assert np.abs(read(tmp_path / "p").astype(int) - picture).mean() <= 4 * (kind == "lossy webp")


def test_an_unreadable_medium_is_a_source_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing to close."""

        def read(self) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("m2fp_stream.sources.image.open_regular", lambda path: Failing())
    with pytest.raises(SourceError, match=r"cannot be read \(Input/output error\)"):
        ImageSource(tmp_path / "p")


def test_a_picture_never_given_is_zeroed_on_close(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(encode(".png", media.card()))
    source = ImageSource(tmp_path / "p")
    held = source._bgr
    assert held is not None
    assert held.any()
    source.close()
    assert not held.any()


# ----------------------------------------------------------------- orientation


@pytest.mark.parametrize("value", range(1, 9))
def test_turning_matches_exif_and_zeroes_what_it_turned(
    value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    between: list[Any] = []
    transpose = cv2.transpose

    def watched(picture: Any) -> Any:
        between.append(transpose(picture))
        return between[-1]

    monkeypatch.setattr(cv2, "transpose", watched)
    stored = media.card((7, 5))
    expected = oriented(stored.copy(), value)
    orientation = Orientation.from_exif(value)
    upright = np.zeros_like(expected)
    assert orientation.size_of(7, 5) == expected.shape[1::-1]
    orientation.turn(stored, upright)
    assert np.array_equal(upright, expected)
    assert len(between) == (value >= 5)
    for picture in (stored, *between):
        assert not picture.any()


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_upright(value: int) -> None:
    assert Orientation.from_exif(value) == Orientation()
