"""What a file holds behind its picture: named, and left out."""

from __future__ import annotations

import re
import struct
from typing import Final

from .png import PNG

__all__ = ["end_of_jpeg", "left_behind"]

_JPEG: Final = b"\xff\xd8\xff"
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker among a scan's data: not stuffed, no restart, no fill (ITU-T T.81, B.1.1.2, B.1.1.5)."""
_END_OF_IMAGE: Final = 0xD9
_START_OF_SCAN: Final = 0xDA
"""Source: ITU-T T.81, table B.1."""


def left_behind(data: bytes) -> tuple[str, ...]:
    """Says in words what lies behind the picture of a JPEG, PNG or WebP.

    Motion photos keep a film there, multi-picture files (CIPA DC-007) and some phones more
    pictures; what tools did not cut off is there, too.
    """
    end = _end_of(data)
    if end is None or not data[end:].strip(b"\0"):
        return ()
    words = []
    # A film is long enough to hold a JPEG's three bytes by chance.
    if pictures := data[end:].split(b"ftyp")[0].count(_JPEG):
        words.append("another picture" if pictures == 1 else f"{pictures} other pictures")
    if b"ftyp" in data[end:]:
        words.append("a video (motion photo)")
    return tuple(words) or ("data behind the picture",)


def _end_of(data: bytes) -> int | None:
    if data.startswith(_JPEG):
        return end_of_jpeg(data)
    if data.startswith(PNG):
        at = data.find(b"IEND")
        return None if at < 0 else at + 8
    if data.startswith(b"RIFF") and len(data) >= 8:
        size = int(struct.unpack_from("<I", data, 4)[0])
        return 8 + size + size % 2
    return None


def end_of_jpeg(data: bytes) -> int | None:
    """Returns where the first picture of a JPEG ends; None where it does not."""
    at, scanning = 2, False
    while at + 4 <= len(data) or scanning:
        if scanning:
            found = _MARKER.search(data, at)
            if found is None:
                return None
            at = found.start()
        if at + 2 > len(data) or data[at] != 0xFF:
            return None
        kind = data[at + 1]
        if kind == _END_OF_IMAGE:
            return at + 2
        if kind == 0xFF:  # fill
            at += 1
            continue
        if at + 4 > len(data):
            return None
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
        scanning = scanning or kind == _START_OF_SCAN
    return None
