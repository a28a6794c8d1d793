"""Boxes of ISO base media files (MP4, MOV, HEIF), read without FFmpeg.

Section numbers are those of ISO/IEC 14496-12:2022 where nothing else is named.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

__all__ = ["ALPHA_URNS", "announces_alpha", "boxes", "only_stills"]

ALPHA_URNS: Final = (
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
    b"urn:mpeg:hevc:2015:auxid:1",
)
"""What an auxiliary picture or track is called that holds alpha: ISO/IEC 23008-12, 6.5.8 and B.2.1
(the second, of HEVC). Depth and gain maps have other names."""

_DESCRIPTIONS: Final = frozenset({b"moov", b"meta", b"moof"})
_CHUNK_BYTES: Final = 1 << 20
"""Looked through at a time. Chosen: no more than a small part of any film's memory."""


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Gives kind, begin and end of the contents of each box between two places (4.2.2).

    Raises:
        ValueError: one reaches beyond the end.
    """
    at, end = start, len(data) if end is None else end
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if size == 1:
            if body + 8 > end:
                raise ValueError("a box ends early")
            size, body = struct.unpack_from(">Q", data, body)[0], body + 8
        elif size == 0:
            size = end - at
        if size < body - at or at + size > end:
            raise ValueError("a box ends early")
        yield kind, body, at + size
        at += size


def announces_alpha(file: BinaryIO) -> bool:
    """Returns whether a film or picture names an alpha that lies in a track or item of its own.

    FFmpeg gives it as another video, and the picture that it belongs to without it. Any file may be
    asked; it is at its beginning again afterwards.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return any(_names_alpha(file, at, end) for _, at, end in _described(file))
    finally:
        file.seek(0)


def only_stills(file: BinaryIO) -> bool:
    """Returns whether a file describes pictures, but no track. It is at its beginning afterwards.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return {kind for kind, _, _ in _described(file)} == {b"meta"}
    finally:
        file.seek(0)


def _described(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Gives kind, begin and end of the boxes at the top that describe what the file holds."""
    end, at = file.seek(0, os.SEEK_END), 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size, kind = struct.unpack_from(">I4s", head)
        if size == 1 and len(head) == 16:
            size = struct.unpack_from(">Q", head, 8)[0]
        if size < 8:  # the last one, or none of these formats
            size = end - at
        if kind in _DESCRIPTIONS:
            yield kind, at, min(end, at + size)
        at += size


def _names_alpha(file: BinaryIO, start: int, end: int) -> bool:
    file.seek(start)
    left, before = end - start, b""
    while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
        left -= len(chunk)
        if any(urn in before + chunk for urn in ALPHA_URNS):
            return True
        before = chunk[-max(map(len, ALPHA_URNS)) :]
    return False
