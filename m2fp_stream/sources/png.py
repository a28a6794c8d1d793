"""Chunks of PNG files: whether one is whole, whether it moves, and what of it is no animation.

Source: PNG (Third Edition), 5 and 11.3.6.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

__all__ = ["PNG", "clear_grey", "is_whole_png", "moving_png", "still_apart"]

PNG: Final = b"\x89PNG\r\n\x1a\n"
"""What such a file begins with (5.2)."""


def is_whole_png(data: bytes) -> bool:
    """Returns whether every chunk is as its checksum says, up to the end.

    Checked in full: libpng tells what it finds on stderr.
    """
    at = len(PNG)
    while len(data) >= at + 12:
        length, kind = struct.unpack_from(">I4s", data, at)
        checked = data[at + 4 : at + 8 + length]
        if data[at + 8 + length : at + 12 + length] != struct.pack(">I", zlib.crc32(checked)):
            return False
        if kind == b"IEND":
            return True
        at += 12 + length
    return False


def moving_png(data: bytes) -> bool:
    """Returns whether a file holds an animation: of several pictures, or of one apart."""
    if not data.startswith(PNG):
        return False
    counts = [struct.unpack_from(">I", data, at)[0] for kind, at in _begin(data) if kind == b"acTL"]
    return bool(counts) and (counts[0] > 1 or still_apart(data))


def still_apart(data: bytes) -> bool:
    """Returns whether the picture of who knows no animations is not part of the one there is."""
    kinds = {kind for kind, _ in _begin(data)}
    return b"acTL" in kinds and b"fcTL" not in kinds


def clear_grey(data: bytes) -> int | None:
    """Returns the grey that is transparent in a grey PNG (11.3.2.1), as decoders scale it."""
    if not data.startswith(PNG):
        return None
    depth, colour_type = data[24], data[25]  # 11.2.1: IHDR
    for kind, at in _begin(data):
        if kind == b"tRNS" and colour_type == 0:
            grey = int(struct.unpack_from(">H", data, at)[0]) & (1 << depth) - 1
            return grey * 255 // ((1 << depth) - 1) if depth < 8 else grey
    return None


def _begin(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Gives kind and place of the chunks before the first picture's data."""
    at = len(PNG)
    while at + 16 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            return
        yield kind, at + 8
        at += 12 + length
