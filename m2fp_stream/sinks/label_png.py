"""Label images to 8-bit PNG files that any program can read: class ids, or a palette."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import ClassVar, Final, Literal, final

import numpy as np

from ..core.errors import SinkError
from ..core.labels import PALETTE_RGB, Label
from ..core.part_file import PartFile
from ..core.safe import LabelImage
from .base import Sink

__all__ = ["LabelPngSink", "MemoryLabelSink", "legend"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_GRAY, _INDEXED = 0, 3
"""Colour types. Source: W3C PNG specification (third edition), 11.2.1 IHDR; chunks: 5.3, 11."""


def legend() -> str:
    """Returns one line a label: its id, its colour in palette PNGs, its name."""
    return "\n".join(
        f"{label.value:2d} #{bytes(PALETTE_RGB[label]).hex()} {label.title}" for label in Label
    )


@final
class LabelPngSink(Sink[LabelImage]):
    """Writes exactly one label image; the legend stands in the PNG's text chunk.

    Args:
        path: the final name.
        style: "index" is a grey PNG whose values are the class ids, "palette" a coloured one
            whose indices are.
        overwrite: False refuses a name that is taken.

    Raises:
        SinkError: the file cannot be written there; nothing was left.
    """

    accepts: ClassVar[type] = LabelImage

    def __init__(
        self,
        path: Path,
        style: Literal["index", "palette"] = "index",
        *,
        overwrite: bool = False,
    ) -> None:
        super().__init__()
        self._path = path
        self._color_type = _INDEXED if style == "palette" else _GRAY
        self._written = False
        self._part = PartFile(path, overwrite=overwrite)

    def _emit(self, item: LabelImage) -> None:
        if self._written:
            raise SinkError(f"{self._path}: takes one label image only")
        self._written = True
        try:
            self._part.write(_encoded(item, self._color_type))
        except OSError as error:
            self._part.refuse(error)

    def _finish(self) -> None:
        if not self._written:
            raise SinkError(f"{self._path}: no label image was written")
        self._part.publish()

    def _abort(self) -> None:
        self._part.discard()


@final
class MemoryLabelSink(Sink[LabelImage]):
    """Encodes exactly one label image as `LabelPngSink` does, into `data` instead of a file.

    Args:
        style: see `LabelPngSink`.

    Raises:
        SinkError: a second image; see also `data`.
    """

    accepts: ClassVar[type] = LabelImage

    def __init__(self, style: Literal["index", "palette"] = "index") -> None:
        super().__init__()
        self._color_type = _INDEXED if style == "palette" else _GRAY
        self._encoded: bytes | None = None
        self._finished = False

    @property
    def data(self) -> bytes:
        """The PNG.

        Raises:
            SinkError: `finish` has not succeeded.
        """
        if not self._finished or self._encoded is None:
            raise SinkError("the label image is not complete; call finish() first")
        return self._encoded

    def _emit(self, item: LabelImage) -> None:
        if self._encoded is not None:
            raise SinkError("a PNG takes one label image only")
        self._encoded = _encoded(item, self._color_type)

    def _finish(self) -> None:
        if self._encoded is None:
            raise SinkError("no label image was written")
        self._finished = True

    def _abort(self) -> None:
        self._encoded = None


def _encoded(item: LabelImage, color_type: int) -> bytes:
    width, height = item.size_wh
    # Each row starts with its filter: 0, none.
    rows = np.pad(item.labels, ((0, 0), (1, 0)))
    chunks = [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)),
        _chunk(b"tEXt", b"Comment\0" + legend().encode("latin-1")),
        _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)),
        _chunk(b"IEND", b""),
    ]
    if color_type == _INDEXED:
        chunks.insert(1, _chunk(b"PLTE", b"".join(bytes(rgb) for rgb in PALETTE_RGB)))
    return _SIGNATURE + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
