"""How much of a fragmented MP4 that could not be completed is whole."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Final

__all__ = ["whole_fragments"]

_BOX: Final = struct.Struct(">I4s")
"""A box begins with its length and its type. Source: ISO/IEC 14496-12, 4.2."""

_LONG: Final = 1
"""The length that says that the real one follows in eight bytes. Source: ibid."""

_LARGEST_INDEX: Final = 1 << 24
"""Bytes of a fragment's index (`moof`) beyond which it is taken for damage: one of our fragments
has some sixteen a picture. Chosen: a million pictures."""


def whole_fragments(file: BinaryIO) -> tuple[int, int]:
    """Returns (bytes, pictures) of the beginning of `file` that plays by itself.

    A fragment is whole when its index (`moof`) and its pictures (`mdat`) are. Whatever follows the
    last whole one does not count: a fragment that was cut short, or the index of a file that
    was nearly completed. (0, 0) where nothing plays.

    Args:
        file: at any position; written by FFmpeg with ``movflags=hybrid_fragmented+empty_moov``.
    """
    size = file.seek(0, os.SEEK_END)
    at = whole = pictures = pending = 0
    while at + _BOX.size <= size:
        file.seek(at)
        length, kind = _BOX.unpack(file.read(_BOX.size))
        if length == _LONG:
            wide = file.read(8)
            length = int.from_bytes(wide) if len(wide) == 8 else 0
        if length < _BOX.size or at + length > size:
            break
        if kind == b"moof" and length <= _LARGEST_INDEX:
            pending = _pictures(file.read(length - _BOX.size))
        elif kind == b"mdat" and pending:
            whole, pictures, pending = at + length, pictures + pending, 0
        at += length
    return whole, pictures


def _pictures(index: bytes) -> int:
    """Returns how many pictures the boxes of a `moof` name (`traf` holds `trun`, ibid. 8.8.8)."""
    found = at = 0
    while at + _BOX.size <= len(index):
        length, kind = _BOX.unpack_from(index, at)
        if length < _BOX.size:
            break
        inside = index[at + _BOX.size : at + length]
        if kind == b"traf":
            found += _pictures(inside)
        elif kind == b"trun":
            found += int.from_bytes(inside[4:8])  # after version and flags
        at += length
    return found
