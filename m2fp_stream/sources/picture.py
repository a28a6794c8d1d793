"""What a picture's file holds decides how it is read: one picture, or several that move."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import SourceError
from .base import Source, open_regular
from .file import FileSource
from .heif import is_heif, moves
from .image import ImageSource
from .options import FileOptions
from .png import moving_png
from .webp import WebpSource, moving_webp

__all__ = ["open_picture"]


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
