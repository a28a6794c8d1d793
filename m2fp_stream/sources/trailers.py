"""Whether files that declare no length have the end that their format asks for, or permits."""

from __future__ import annotations

import os
import re
from typing import BinaryIO, Final

__all__ = ["ends_early", "only_boundary"]

_IEND: Final = b"\0\0\0\0IEND\xae\x42\x60\x82"
"""Source: PNG (Third Edition), 11.2.4."""

_LOOKED_AT: Final = 64
"""Bytes at the end. Chosen: more than a trailer, and some that tools leave behind it."""


_BOUNDARY: Final = re.compile(rb"[\r\n]*--[^\r\n]{1,72}[\r\n]*\Z")
"""What stands between the parts of a message, or behind the last. Source: RFC 2046, 5.1.1."""


def ends_early(format_name: str, file: BinaryIO, size: int) -> bool:
    """Returns whether a GIF or APNG lacks its end; of other formats nothing is known."""
    if format_name not in ("gif", "apng"):
        return False
    file.seek(-min(_LOOKED_AT, size), os.SEEK_END)
    end = file.read()
    if format_name == "gif":  # GIF89a, 27: trailer
        return not end.rstrip(b"\0").endswith(b";")
    return _IEND not in end


def only_boundary(format_name: str, file: BinaryIO, at: int) -> bool:
    """Returns whether a file of pictures in parts holds one boundary, and no more, from `at` on.

    FFmpeg writes it behind each part, the last, too, and calls it damage when reading.
    """
    if format_name != "mpjpeg":
        return False
    file.seek(at)
    return _BOUNDARY.match(file.read(2 * _LOOKED_AT + 1)) is not None
