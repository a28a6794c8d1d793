"""Whether files that declare no length have the end that their format asks for."""

from __future__ import annotations

import os
from typing import BinaryIO, Final

__all__ = ["ends_early"]

_IEND: Final = b"\0\0\0\0IEND\xae\x42\x60\x82"
"""Source: PNG (Third Edition), 11.2.4."""

_LOOKED_AT: Final = 64
"""Bytes at the end. Chosen: more than a trailer, and some that tools leave behind it."""


def ends_early(format_name: str, file: BinaryIO, size: int) -> bool:
    """Returns whether a GIF or APNG lacks its end; of other formats nothing is known."""
    if format_name not in ("gif", "apng"):
        return False
    file.seek(-min(_LOOKED_AT, size), os.SEEK_END)
    end = file.read()
    if format_name == "gif":  # GIF89a, 27: trailer
        return not end.rstrip(b"\0").endswith(b";")
    return _IEND not in end
