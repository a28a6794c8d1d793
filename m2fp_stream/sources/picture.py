"""What a picture's file holds decides how it is read: one picture, or several that move."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..core.errors import SourceError
from .base import Source, open_regular
from .file import FileSource
from .heif import is_heif, moves
from .image import ImageSource
from .options import FileOptions
from .png import PNG, moving_png
from .webp import WebpSource, moving_webp

__all__ = ["holds_picture", "open_picture"]

_SIGNATURES: Final = (PNG, b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
"""PNG, JPEG, BMP and TIFF. Sources: see `image`."""
_HEAD: Final = 1 << 12
"""Bytes that tell. Chosen: more than the brands of any HEIF (ISO/IEC 14496-12, 4.3)."""


def holds_picture(path: Path) -> bool:
    """Says whether a file of unknown name begins as a picture of the kinds that are read does."""
    with open_regular(path) as file:
        try:
            head = file.read(_HEAD)
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(_SIGNATURES) or webp or is_heif(head)


def open_picture(path: Path, options: FileOptions | None = None) -> Source:
    """Opens a picture: a moving WebP, PNG (APNG) or AVIF, or one that stands still.

    Raises:
        SourceError: see `WebpSource`, `FileSource` and `ImageSource`.
    """
    with open_regular(path) as file:
        try:
            data = file.read()
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    if moving_webp(data):
        return WebpSource(path, options)
    if moving_png(data) or (is_heif(data) and moves(data)):
        return FileSource(path, options)
    return ImageSource(path, options)
