"""Composed frames to a moving WebP or PNG that loops for ever."""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Final, final

import cv2

from ..core.errors import SinkError
from ..core.part_file import PartFile
from ..core.safe import SafeFrame
from ..core.timing import rescale
from .base import Sink
from .image import encoded

__all__ = ["MOVING_SUFFIXES", "AnimationSink"]

_MILLISECONDS: Final = Fraction(1, 1000)
"""Source: RFC 9649, 2.7.1.2. PNG takes any fraction (fcTL); a thousandth is fine enough."""

_LONGEST_MS: Final = {".webp": (1 << 24) - 1, ".png": 65_535}
"""Sources: RFC 9649, 2.7.1.2 (24 bits); PNG (Third Edition), 11.3.6.2 (16 bits)."""

_MOST_BYTES: Final = (1 << 32) - 10
"""What a RIFF file may hold (RFC 9649, 2.4)."""

_DEFAULT_RATE: Final = Fraction(10)
"""Frames a second of a last frame of which nothing is known; as in GIFs. Chosen."""


class _Format(ABC):
    """What a file begins with, how one picture is stored, and what is written over at the end.

    Attributes:
        count: pictures so far.
        total: bytes so far.
    """

    def __init__(self) -> None:
        self.count = self.total = 0

    @abstractmethod
    def head(self, size_wh: tuple[int, int]) -> bytes:
        """Returns the beginning."""

    @abstractmethod
    def picture(self, still: bytes, size_wh: tuple[int, int], shown_ms: int) -> bytes:
        """Returns a picture, from a file that holds it alone."""

    @abstractmethod
    def tail(self) -> tuple[bytes, int, bytes]:
        """Returns the end, and a place and what belongs there."""


@final
class _Webp(_Format):
    """RFC 9649, 2.7."""

    def head(self, size_wh: tuple[int, int]) -> bytes:
        width, height = size_wh
        canvas = struct.pack("<I", 0x02) + _three(width - 1) + _three(height - 1)
        loops = struct.pack("<IH", 0, 0)  # the background's colour; for ever
        return b"RIFF\0\0\0\0WEBP" + _riff(b"VP8X", canvas) + _riff(b"ANIM", loops)

    def picture(self, still: bytes, size_wh: tuple[int, int], shown_ms: int) -> bytes:
        width, height = size_wh
        place = bytes(6) + _three(width - 1) + _three(height - 1) + _three(shown_ms)
        # 2: it replaces what was there
        return _riff(b"ANMF", place + b"\x02" + still[12:])

    def tail(self) -> tuple[bytes, int, bytes]:
        if self.total > _MOST_BYTES:
            raise SinkError("the picture is too long for a moving WebP (4 GB); name an .mp4")
        return b"", 4, struct.pack("<I", self.total - 8)


@final
class _Png(_Format):
    """PNG (Third Edition), 5.6 and 11.3.6: acTL, fcTL and fdAT."""

    def __init__(self) -> None:
        super().__init__()
        self._sequence = 0
        self._count_at = 0

    def head(self, size_wh: tuple[int, int]) -> bytes:
        depth = bytes([8, 2, 0, 0, 0])  # of R, G and B
        begin = b"\x89PNG\r\n\x1a\n" + _png(b"IHDR", struct.pack(">II", *size_wh) + depth)
        self._count_at = len(begin)
        return begin + _png(b"acTL", bytes(8))

    def picture(self, still: bytes, size_wh: tuple[int, int], shown_ms: int) -> bytes:
        place = struct.pack(">IIII", *size_wh, 0, 0) + struct.pack(">HHBB", shown_ms, 1000, 0, 0)
        first, made = self._sequence == 0, [_png(b"fcTL", self._next() + place)]
        for data in _image_data(still):
            made.append(_png(b"IDAT", data) if first else _png(b"fdAT", self._next() + data))
        return b"".join(made)

    def _next(self) -> bytes:
        self._sequence += 1
        return struct.pack(">I", self._sequence - 1)

    def tail(self) -> tuple[bytes, int, bytes]:
        return _png(b"IEND", b""), self._count_at, _png(b"acTL", struct.pack(">II", self.count, 0))


_FORMATS: Final[dict[str, tuple[str, type[_Format]]]] = {
    ".webp": (".webp", _Webp),
    ".png": (".png", _Png),
    ".apng": (".png", _Png),
}
MOVING_SUFFIXES: Final = frozenset(_FORMATS)
"""What names of pictures may move."""


@final
class AnimationSink(Sink[SafeFrame]):
    """Writes a moving WebP or PNG, as the name says, that loops for ever; each frame whole.

    Times are kept to the millisecond.

    Args:
        path: .webp, .png or .apng; no metadata is written.
        time_base: seconds a tick of the frames' `pts`.
        rate: frames a second, for the last frame's duration; None if unknown.
        overwrite: False refuses a name that is taken.

    Raises:
        SinkError: another kind of name, or the file cannot be written there; nothing was left.
    """

    accepts: ClassVar[type] = SafeFrame

    def __init__(
        self,
        path: Path,
        *,
        time_base: Fraction,
        rate: Fraction | None = None,
        overwrite: bool = False,
    ) -> None:
        super().__init__()
        if path.suffix.lower() not in _FORMATS:
            raise SinkError(f"{path}: unknown kind of picture; use {', '.join(_FORMATS)}")
        self._path = path
        self._suffix, make = _FORMATS[path.suffix.lower()]
        self._format = make()
        self._time_base = time_base
        self._rate = rate or _DEFAULT_RATE
        self._size_wh: tuple[int, int] | None = None
        self._waiting: tuple[bytes, int] | None = None  # a picture and when it comes
        self._part = PartFile(path, overwrite=overwrite)

    def _emit(self, item: SafeFrame) -> None:
        try:
            if self._size_wh is None:
                self._size_wh = item.size_wh
                self._write(self._format.head(item.size_wh))
            if item.size_wh != self._size_wh or item.time_base != self._time_base:
                raise SinkError(
                    f"{self._path}: expected frames of {self._size_wh} at {self._time_base} s a "
                    f"tick, got {item.size_wh} at {item.time_base}"
                )
            at_ms = rescale(item.pts, self._time_base, _MILLISECONDS)
            if self._waiting is not None:
                at_ms = max(at_ms, self._waiting[1] + 1)
                self._store(at_ms - self._waiting[1])
            self._waiting = encoded(item, self._suffix, str(self._path)), at_ms
        except (cv2.error, OSError) as error:
            self._part.refuse(error)

    def _store(self, shown_ms: int) -> None:
        assert self._waiting is not None  # whoever calls has looked
        assert self._size_wh is not None  # as long as one waits
        shown_ms = min(max(1, shown_ms), _LONGEST_MS[self._suffix])
        self._write(self._format.picture(self._waiting[0], self._size_wh, shown_ms))
        self._format.count += 1

    def _write(self, data: bytes) -> None:
        self._part.write(data)
        self._format.total += len(data)

    def _finish(self) -> None:
        if self._waiting is None:
            raise SinkError(f"{self._path}: no frame was written, so there is no picture")
        last = self._last_duration
        shown = 1 / self._rate if last is None else last * self._time_base
        try:
            self._store(rescale(1, shown, _MILLISECONDS))
            end, at, patch = self._format.tail()
            self._write(end)
            self._part.seek(at)
            self._part.write(patch)
        except OSError as error:
            self._part.refuse(error)
        self._part.publish()

    def _abort(self) -> None:
        self._part.discard()


def _riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _png(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _image_data(png: bytes) -> Iterator[bytes]:
    """Gives the contents of the IDAT chunks of a still PNG."""
    at = 8
    while at + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        if kind == b"IDAT":
            yield png[at + 8 : at + 8 + length]
        at += 12 + length
