"""Still pictures to one upright BGR frame."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final, final

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from ..core.errors import SourceError, TruncatedSourceError
from ..core.raw import RawFrame, Under
from ..core.ring import BufferPool
from .base import Captured, Source, SourceInfo, open_regular
from .behind import left_behind
from .heif import Heif, is_heif
from .options import FileOptions
from .orientation import Orientation
from .png import PNG, clear_grey, is_whole_png
from .spherical import said_of, tags_of_photo

__all__ = ["ImageSource"]

_KINDS: Final = "JPEG, PNG, WebP, HEIC, AVIF, BMP or TIFF"
_JPEG: Final = b"\xff\xd8\xff"
_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOS: Final = frozenset({0xDA})
"""Start of frame (all but DHT, JPG and DAC) and start of scan. Source: ITU-T T.81, table B.1."""
_ENDIAN: Final = {b"II": "<", b"MM": ">"}
_TIFF_INTEGERS: Final = {3: "H", 4: "I"}
"""SHORT and LONG. Source: TIFF 6.0, section 2."""
_COLOURS: Final = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Samples of a colour by PhotometricInterpretation. Source: TIFF 6.0, tag 262."""
_EXIF: Final = cv2.IMAGE_METADATA_EXIF


@final
class ImageSource(Source):
    """Reads one JPEG, PNG, WebP, HEIC, AVIF, BMP or TIFF; told by its contents, not by its name.

    The picture comes upright (EXIF orientation applied, of HEIF its own), 8 bits, alpha over black;
    of several pages or frames the first. Its `pts` is 0 and `time_base` one second.

    Args:
        path: the file, or, where `data` is given, what messages call the picture.
        options: only `max_pixels` matters.
        data: the contents of a picture that is no file.

    Raises:
        SourceError: not such a picture, too large, damaged.
        TruncatedSourceError: cut short.
    """

    def __init__(
        self, path: Path, options: FileOptions | None = None, *, data: bytes | None = None
    ) -> None:
        super().__init__()
        options = options or FileOptions()
        if data is None:
            data = _read(path)
        try:
            width, height = _size_of(data)
            whole = _is_whole(data)
        except (ValueError, struct.error, IndexError):
            raise SourceError(f"{path}: is no picture that can be read; use {_KINDS}") from None
        if width * height > options.max_pixels:
            raise SourceError(
                f"{path}: {width}x{height} exceeds the limit of {options.max_pixels} pixels; "
                "raise max_pixels if it is meant"
            )
        if not whole:
            raise TruncatedSourceError(f"{path}: is cut short; copy it again")
        if is_heif(data):
            bgr, under = Heif(data, str(path)).decode(options.max_pixels)
        else:
            bgr, under = _decode(data, path)
        self._bgr: NDArray[np.uint8] | None = bgr
        self._under = under
        height, width = self._bgr.shape[:2]
        self._info = SourceInfo(
            size_wh=(width, height),
            time_base=Fraction(1),
            frame_count=1,
            colorspace=0,
            dropped_streams=(*_dropped(data), *(tags := tags_of_photo(data))),
            warnings=() if (sentence := said_of(tags)) is None else (sentence,),
        )

    @property
    def info(self) -> SourceInfo:
        """Everything is known from the start."""
        return self._info

    def close(self) -> None:
        """Zeroes the picture if it was not given; idempotent."""
        super().close()
        if self._bgr is not None:
            self._bgr.fill(0)
            if self._under is not None:
                self._under.bgr.fill(0)
            self._bgr = self._under = None

    def _capture(self) -> Iterator[Captured]:
        bgr, under = self._bgr, self._under
        self._bgr = self._under = None
        if bgr is None:
            raise SourceError("the source was closed before its frame was read")
        pool = BufferPool(keep=0)
        pixels = _moved(bgr, pool)
        if under is not None:
            under = Under(_moved(under.bgr, pool), under.alpha)
        raw = RawFrame(
            pixels,
            frame_id=0,
            pts=0,
            time_base=Fraction(1),
            captured_ns=time.monotonic_ns(),
            under=under,
            give_back=pool.give_back,
        )
        yield Captured(raw)


def _moved(bgr: NDArray[np.uint8], pool: BufferPool) -> NDArray[np.uint8]:
    pixels = pool.take(*bgr.shape[:2])
    np.copyto(pixels, bgr)
    bgr.fill(0)
    return pixels


def _read(path: Path) -> bytes:
    with open_regular(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror})") from None


def _decode(data: bytes, path: Path) -> tuple[NDArray[np.uint8], Under | None]:
    """Returns a new (H, W, 3) uint8 BGR array, upright, alpha over black; and what is under it."""
    under = None
    encoded = np.frombuffer(data, np.uint8)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        bgr: MatLike | None = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        if bgr is not None and _may_hide(data):
            # IMREAD_COLOR drops alpha, and what lies hidden under it would appear.
            under = _apply_alpha(bgr, data, path)
    except cv2.error:
        bgr = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if bgr is None:
        raise SourceError(f"{path}: is damaged; export the picture again")
    return np.asarray(bgr, dtype=np.uint8), under


def _may_hide(data: bytes) -> bool:
    """Returns whether the picture may have an alpha channel.

    JPEG has none. The fourth byte of a bitmap is as a rule unused, zero where 255 would be meant;
    it is alpha where a mask says so (BITMAPV3INFOHEADER and later, or BI_ALPHABITFIELDS = 6).
    """
    if data.startswith(b"BM"):
        header, compression = struct.unpack_from("<I", data, 14)[0], data[30]
        masks = compression == 6 or (compression == 3 and header >= 56)
        return masks and any(data[66:70])
    return not data.startswith(_JPEG)


def _apply_alpha(bgr: MatLike, data: bytes, path: Path) -> Under | None:
    """Darkens `bgr` in place by the picture's alpha channel, where it has one.

    Returns what is under it.

    Raises:
        SourceError: it has one that is not decoded.
    """
    under = None
    encoded = np.frombuffer(data, np.uint8)
    stored, kinds, blocks = cv2.imdecodeWithMetadata(encoded, cv2.IMREAD_UNCHANGED)
    bitmap = data.startswith(b"BM")
    if stored.ndim == 2 and (clear := clear_grey(data)) is not None:
        # OpenCV knows the colour that is clear in other PNGs, but not in grey ones.
        most = 255 if stored.dtype == np.uint8 else 65535
        opaque = np.where(stored == clear, 0, most).astype(stored.dtype)
        stored = cv2.merge([stored, stored, stored, opaque])
    if stored.ndim == 2 or stored.shape[2] < 4:
        # Whatever a TIFF has besides its colours may be alpha; here OpenCV gives none of it.
        if data[:2] in _ENDIAN and _has_more_samples(_tiff_tags(data)):
            raise SourceError(
                f"{path}: its transparency cannot be decoded, and what it hides would show; "
                "export it without transparency first"
            )
    elif not bitmap or stored[:, :, 3].any():  # as everywhere, a bitmap that is all hidden is not
        alpha = stored[:, :, 3] // (1 if stored.dtype == np.uint8 else 257)
        found = [bytes(block) for kind, block in zip(kinds, blocks, strict=True) if kind == _EXIF]
        orientation = Orientation.from_exif(_exif_orientation(found[0]) if found else 1)
        upright = np.empty(bgr.shape[:2], np.uint8)
        if orientation.size_of(*alpha.shape[::-1]) != upright.shape[::-1]:
            raise SourceError(f"{path}: alpha and picture differ in orientation; export as PNG")
        orientation.turn(alpha.astype(np.uint8), upright)
        under = Under.of(bgr, upright)
        cv2.multiply(bgr, cv2.merge([upright] * 3), bgr, 1 / 255)
    stored.fill(0)
    return under


def _has_more_samples(tags: dict[int, int]) -> bool:
    """Returns whether pixels have more than their colour (TIFF 6.0: 262 says which, 277 of all)."""
    return tags.get(277, 1) > _COLOURS.get(tags.get(262, 1), 3)


def _exif_orientation(block: bytes) -> int:
    try:
        return _tiff_tags(block).get(274, 1)
    except (KeyError, ValueError, struct.error):
        return 1  # OpenCV takes a broken block for none, too


# --------------------------------------------------------------------- headers


def _size_of(data: bytes) -> tuple[int, int]:
    """Returns the (width, height) that the header declares; nothing is decoded.

    Sources: PNG 11.2.1 (IHDR), ITU-T T.81 B.2.2 (SOF), RFC 9649 2.3 (WebP), TIFF 6.0 2, the
    BITMAPCOREHEADER and BITMAPINFOHEADER of Windows.

    Raises:
        ValueError, struct.error, IndexError: no such header.
    """
    if data.startswith(PNG):
        width, height = struct.unpack_from(">II", data, 16)
    elif data.startswith(_JPEG):
        height, width = struct.unpack_from(">HH", data, _jpeg_segment(data, _SOF) + 5)
    elif data.startswith(b"BM"):
        core = struct.unpack_from("<I", data, 14)[0] == 12
        width, height = struct.unpack_from("<HH" if core else "<ii", data, 18)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        width, height = _webp_size(data)
    elif is_heif(data):
        width, height = Heif(data, "").size_wh
    elif data[:2] in _ENDIAN:
        tags = _tiff_tags(data)
        width, height = tags.get(256, 0), tags.get(257, 0)
    else:
        raise ValueError("unknown signature")
    if width <= 0 or height == 0:
        raise ValueError("no size")
    return width, abs(height)  # a BMP stored top-down has a negative height


def _jpeg_segment(data: bytes, markers: frozenset[int]) -> int:
    """Returns where the first segment of one of `markers` starts."""
    at = 2
    while data[at] == 0xFF:
        if data[at + 1] in markers:
            return at
        # 0xFF may be repeated before a marker.
        at += 1 if data[at + 1] == 0xFF else 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise ValueError("no such segment")


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Returns the single-valued integer tags of the first directory."""
    order = _ENDIAN[data[:2]]
    magic, start = struct.unpack_from(order + "HI", data, 2)
    if magic != 42:
        raise ValueError("not TIFF 6.0")
    tags = {}
    for entry in range(struct.unpack_from(order + "H", data, start)[0]):
        at = start + 2 + 12 * entry
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if kind in _TIFF_INTEGERS:
            tags[tag] = struct.unpack_from(order + _TIFF_INTEGERS[kind], data, at + 8)[0]
    return tags


def _is_whole(data: bytes) -> bool:
    """Returns False where the end that the format promises is missing."""
    if data.startswith(_JPEG):
        # Searched after the scan's start, for a thumbnail has an end of its own.
        return data.rfind(b"\xff\xd9") > _jpeg_segment(data, _SOS)
    if data.startswith(PNG):
        return is_whole_png(data)
    if is_heif(data):
        return Heif(data, "").whole
    if data.startswith(b"RIFF"):
        return len(data) >= 8 + int(struct.unpack_from("<I", data, 4)[0])
    return True


def _dropped(data: bytes) -> tuple[str, ...]:
    if is_heif(data):
        return Heif(data, "").dropped
    words = []
    if any(mark in data for mark in (b"Exif\0\0", b"eXIf", b"EXIF", b"iTXt", b"http://ns.adobe")):
        words.append("metadata")
    if b"acTL" in data[:256] or b"ANIM" in data[:256]:
        words.append("all frames but the first")
    if data[:2] in _ENDIAN and _next_page(data):
        words.append("all pages but the first")
    return (*words, *left_behind(data))


def _next_page(data: bytes) -> int:
    """Returns where a TIFF's second directory starts, 0 for none (TIFF 6.0, 2)."""
    order = _ENDIAN[data[:2]]
    try:
        start = struct.unpack_from(order + "I", data, 4)[0]
        count = struct.unpack_from(order + "H", data, start)[0]
        return int(struct.unpack_from(order + "I", data, start + 2 + 12 * count)[0])
    except struct.error:
        return 0
