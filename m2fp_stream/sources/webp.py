"""Moving WebP pictures to frames, one after the other."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, Self, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import SourceError, TruncatedSourceError
from ..core.raw import RawFrame, Under
from ..core.ring import BufferPool
from .base import Captured, Source, SourceInfo, open_regular
from .opener import check_size
from .options import FileOptions

__all__ = ["WebpSource", "moving_webp"]

_TIME_BASE: Final = Fraction(1, 1000)
"""Source: RFC 9649, 2.7.1.2: durations are in milliseconds."""

_LEAVES_CLEAR: Final = 1
_REPLACES: Final = 2
"""Bits of a frame's flags (RFC 9649, 2.7.1.2): disposal and blending method."""

_ALPHA_FLAG: Final = 0x10
"""In the header of the extended format (RFC 9649, 2.7)."""

_OPAQUE: Final = 255
"""Alpha of what hides nothing."""


def moving_webp(data: bytes) -> bool:
    """Returns whether these are the contents of a WebP file of more than one picture."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return False
    return sum(kind == b"ANMF" for kind, _, _ in _chunks(data, 12)) > 1


@final
class WebpSource(Source):
    """Reads a moving WebP: each frame as it is shown, over black where it is transparent.

    OpenCV decodes one stored picture at a time, so memory does not grow with their number. What a
    picture leaves, and how it lies over those before, is as RFC 9649, 2.7.1.2, says.

    Args:
        path: the file.
        options: the largest picture, start and end, `salvage`.

    Raises:
        SourceError: no moving WebP, too large, no frame between start and end.
        TruncatedSourceError: damaged or cut short, unless `salvage`; also while iterating.
    """

    def __init__(self, path: Path, options: FileOptions | None = None) -> None:
        super().__init__()
        self._path, self._options = path, options or FileOptions()
        self._warnings: dict[str, None] = {}  # a set that keeps order
        self._pool = BufferPool()
        with open_regular(path) as file:
            try:
                self._data: bytes | None = file.read()
            except OSError as error:
                raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
        if not moving_webp(self._data):
            raise SourceError(f"{path}: is no moving WebP; export it again")
        if len(self._data) < 8 + int(struct.unpack_from("<I", self._data, 4)[0]):
            self._damage()
        chunks = list(_chunks(self._data, 12))
        kind, at, end = chunks[0]
        if kind != b"VP8X" or end - at < 10:
            raise SourceError(f"{path}: is damaged; export it again")
        self._size_wh = _whole(self._data, at + 4) + 1, _whole(self._data, at + 7) + 1
        check_size(str(path), self._size_wh, self._options.max_pixels)
        found = [_Part.of(self._data, at, end) for kind, at, end in chunks if kind == b"ANMF"]
        self._parts = [part for part in found if part is not None and part.fits(self._size_wh)]
        if len(self._parts) < len(found):
            self._damage()
        if not self._parts:
            raise SourceError(f"{path}: holds no frame; nothing to show")
        self._info = self._describe({kind for kind, _, _ in chunks})

    def _describe(self, kinds: set[bytes]) -> SourceInfo:
        total = sum(part.shown_ms for part in self._parts)
        return SourceInfo(
            size_wh=self._size_wh,
            time_base=_TIME_BASE,
            average_rate=Fraction(1000 * len(self._parts), total),
            duration_s=total / 1000,
            frame_count=len(self._parts),
            colorspace=0,
            dropped_streams=("metadata",) if kinds & {b"EXIF", b"XMP ", b"ICCP"} else (),
        )

    @property
    def info(self) -> SourceInfo:
        """What is known; its `warnings` are complete when the frames have ended."""
        return replace(self._info, warnings=tuple(self._warnings))

    def close(self) -> None:
        """Lets go of the contents; idempotent. Frames given before stay valid."""
        super().close()
        self._data = None

    def _damage(self) -> None:
        if not self._options.salvage:
            raise TruncatedSourceError(
                f"{self._path}: damaged or cut short; copy it again, or keep what can be decoded "
                "with --salvage"
            )
        self._warnings["the file is damaged or cut short; what could be decoded is kept"] = None

    def _capture(self) -> Iterator[Captured]:
        width, height = self._size_wh
        canvas = _Canvas.of(width, height)
        start_ms = round((self._options.start_s or 0) * 1000)
        end_ms = None if self._options.end_s is None else round(self._options.end_s * 1000)
        at_ms = given = 0
        try:
            for part in self._parts:
                if self._data is None:
                    raise SourceError(f"{self._path}: was closed before its frames were read")
                if end_ms is not None and at_ms >= end_ms:
                    break
                if not part.paint(self._data, canvas):
                    self._damage()
                    break  # later ones may lie over this one
                if at_ms >= start_ms:
                    yield self._captured(canvas, given, at_ms - start_ms, part.shown_ms)
                    given += 1
                at_ms += part.shown_ms
                part.leave(canvas)
        finally:
            canvas.wipe()
        if not given:
            raise SourceError(f"{self._path}: no frame between start and end; check both")

    def _captured(self, canvas: _Canvas, number: int, pts: int, shown_ms: int) -> Captured:
        buffer = self._pool.take(*canvas.alpha.shape)
        np.copyto(buffer, canvas.shown)
        under = None
        if (canvas.alpha < _OPAQUE).any():
            under = Under(self._pool.take(*canvas.alpha.shape), canvas.alpha.copy())
            np.copyto(under.bgr, canvas.opaque)
        raw = RawFrame(
            buffer,
            frame_id=number,
            pts=pts,
            time_base=_TIME_BASE,
            captured_ns=time.monotonic_ns(),
            under=under,
            give_back=self._pool.give_back,
        )
        return Captured(raw, duration=shown_ms)


@dataclass(frozen=True, slots=True, eq=False)
class _Canvas:
    """What has been painted so far: over black, with its alpha, and as if all were opaque."""

    shown: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    opaque: NDArray[np.uint8]

    @classmethod
    def of(cls, width: int, height: int) -> Self:
        """Returns a clear one."""
        picture = np.zeros((height, width, 3), np.uint8)
        return cls(picture, np.zeros((height, width), np.uint8), picture.copy())

    def cut(self, x: int, y: int, width: int, height: int) -> _Canvas:
        """Returns a part of it: a view."""
        place = slice(y, y + height), slice(x, x + width)
        return _Canvas(self.shown[place], self.alpha[place], self.opaque[place])

    def replace(self, bgr: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> None:
        """Puts a picture into its place."""
        np.copyto(self.shown, cv2.multiply(bgr, cv2.merge([alpha] * 3), scale=1 / 255))
        np.copyto(self.alpha, alpha)
        np.copyto(self.opaque, bgr)

    def lay(self, bgr: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> None:
        """Lays a picture over it; where nothing is yet, what it hides is under it."""
        np.copyto(self.shown, _over(bgr, alpha, self.shown))
        np.copyto(self.opaque, _over(bgr, np.where(self.alpha, alpha, _OPAQUE), self.opaque))
        rest = cv2.multiply(self.alpha, _OPAQUE - alpha, scale=1 / 255)
        np.copyto(self.alpha, cv2.add(alpha, rest))

    def clear(self) -> None:
        """Takes away what is shown."""
        self.shown.fill(0)
        self.alpha.fill(0)

    def wipe(self) -> None:
        """Zeroes all of it."""
        self.clear()
        self.opaque.fill(0)


def _over(
    bgr: NDArray[np.uint8], alpha: NDArray[np.uint8], below: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    weights = cv2.merge([alpha] * 3)
    weighted = cv2.multiply(bgr, weights, scale=1 / 255)
    under = cv2.multiply(below, _OPAQUE - weights, scale=1 / 255)
    above = np.asarray(cv2.add(weighted, under), np.uint8)
    weighted.fill(0)
    under.fill(0)
    return above


@dataclass(frozen=True, slots=True)
class _Part:
    """One stored picture: where it lies, how long it is shown, and where its data are."""

    x: int
    y: int
    width: int
    height: int
    shown_ms: int
    flags: int
    start: int
    end: int

    @classmethod
    def of(cls, data: bytes, at: int, end: int) -> Self | None:
        """Reads an ANMF chunk (RFC 9649, 2.7.1.2); None where it is too short."""
        if end - at < 24:
            return None
        x, y, width, height, shown = (_whole(data, at + 3 * i) for i in range(5))
        return cls(2 * x, 2 * y, width + 1, height + 1, max(1, shown), data[at + 15], at + 16, end)

    def fits(self, size_wh: tuple[int, int]) -> bool:
        """Returns whether it lies within the picture, as it must."""
        return self.x + self.width <= size_wh[0] and self.y + self.height <= size_wh[1]

    def paint(self, data: bytes, canvas: _Canvas) -> bool:
        """Lays it over the canvas; False where it cannot be decoded."""
        stored = _decoded(data[self.start : self.end], self.width, self.height)
        if stored is None:
            return False
        bgr = np.ascontiguousarray(stored[:, :, :3])
        alpha = np.full(bgr.shape[:2], _OPAQUE, np.uint8)
        if stored.shape[2] == 4:
            alpha = np.ascontiguousarray(stored[:, :, 3])
        target = self._target(canvas)
        (target.replace if self.flags & _REPLACES else target.lay)(bgr, alpha)
        stored.fill(0)
        bgr.fill(0)
        return True

    def leave(self, canvas: _Canvas) -> None:
        """Clears its place where it says so, once it has been shown."""
        if self.flags & _LEAVES_CLEAR:
            self._target(canvas).clear()

    def _target(self, canvas: _Canvas) -> _Canvas:
        return canvas.cut(self.x, self.y, self.width, self.height)


def _decoded(chunks: bytes, width: int, height: int) -> NDArray[np.uint8] | None:
    """Decodes the chunks of one frame as a file of its own: (height, width, 3 or 4), or None."""
    kept = [
        (kind, chunks[at:end])
        for kind, at, end in _chunks(chunks, 0)
        if kind in (b"ALPH", b"VP8 ", b"VP8L")
    ]
    flags = _ALPHA_FLAG if any(kind != b"VP8 " for kind, _ in kept) else 0
    head = struct.pack("<I", flags) + _bytes_of(width - 1) + _bytes_of(height - 1)
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(one)) + one + bytes(len(one) % 2)
        for kind, one in [(b"VP8X", head), *kept]
    )
    file = b"RIFF" + struct.pack("<I", len(body)) + body
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        stored = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if stored is None or stored.ndim != 3 or stored.shape[:2] != (height, width):
        return None
    return np.asarray(stored, np.uint8)


def _chunks(data: bytes, at: int) -> Iterator[tuple[bytes, int, int]]:
    """Gives kind, begin and end of the chunks of RIFF (RFC 9649, 2.3) that are whole."""
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if at + 8 + size > len(data):
            return
        yield kind, at + 8, at + 8 + size
        at += 8 + size + size % 2


def _whole(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _bytes_of(number: int) -> bytes:
    return number.to_bytes(3, "little")
