"""Changes the boxes of MP4 files that tests have written: edit lists, tags of 360° films."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from m2fp_stream.sources.isobmff import boxes

EMPTY = -1
"""Media time of an edit that shows nothing."""


def set_edits(path: Path, edits: Sequence[tuple[int, int]]) -> Path:
    """Gives the first track an edit list of (milliseconds, media time in ticks)."""
    rows = b"".join(struct.pack(">IiI", *edit, 0x10000) for edit in edits)
    listed = box(b"elst", struct.pack(">II", 0, len(edits)) + rows)
    return _put(path, [b"moov", b"trak"], box(b"edts", listed), instead_of=b"edts")


def call_spherical(path: Path) -> Path:
    """Tags a film as equirectangular. Source: Spherical Video V2 (Google), sv3d."""
    source = box(b"svhd", bytes(4) + b"test\0")
    pose, bounds = box(b"prhd", bytes(16)), box(b"equi", bytes(20))
    tag = box(b"sv3d", source + box(b"proj", pose + bounds))
    where = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"]
    return _put(path, where, tag)


def box(kind: bytes, body: bytes) -> bytes:
    """Returns a box."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _put(path: Path, where: Sequence[bytes], new: bytes, instead_of: bytes = b"") -> Path:
    """Puts a box at the end of another one; the index must lie behind the pictures."""
    data = path.read_bytes()
    start, end = 0, len(data)
    parents: list[int] = []
    for kind in where:
        # In stsd two numbers stand before its entries.
        start += 8 if kind == b"avc1" else 0
        start, end = next((at, to) for name, at, to in boxes(data, start, end) if name == kind)
        parents.append(start - 8)
    first = last = end
    for name, at, to in boxes(data, start, end) if instead_of else ():
        if name == instead_of:
            first, last = at - 8, to
    changed = bytearray(data[:first] + new + data[last:])
    for at in parents:
        size = struct.unpack_from(">I", data, at)[0] + len(new) - (last - first)
        struct.pack_into(">I", changed, at, size)
    path.write_bytes(changed)
    return path
