"""Makes HEIC and AVIF pictures: tiles, alpha, turns, whatever the boxes can say."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.kit import media

ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"
# Without B frames, for x265 gives the one picture of a stream a random decoding time else.
QUIET = {"x265-params": "log-level=none:pools=none:frame-threads=1:bframes=0", "crf": "4"}


@dataclass
class Item:
    """One item: its kind, contents, properties (essential where marked) and references."""

    kind: bytes
    data: bytes
    properties: list[tuple[bytes, bytes, bool]] = field(default_factory=list)
    refs: list[tuple[bytes, list[int]]] = field(default_factory=list)


def box(kind: bytes, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, version: int, flags: int, *contents: bytes) -> bytes:
    return box(kind, bytes([version]), flags.to_bytes(3, "big"), *contents)


def coded(picture: media.BGR, folder: Path) -> Item:
    """An item of HEVC, as x265 codes it."""
    height, width = picture.shape[:2]
    path = media.write_video(
        folder / "tile.mp4",
        frames=[picture],
        size_wh=(width, height),
        codec="libx265",
        options=QUIET,
    )
    with av.open(path) as container:
        (packet,) = [one for one in container.demux(video=0) if one.size]
        header = container.streams.video[0].codec_context.extradata or b""
    size = struct.pack(">III", 0, width, height)
    return Item(b"hvc1", bytes(packet), [(b"hvcC", header, True), (b"ispe", size, False)])


def tiled(picture: media.BGR, tile: int, first: int, folder: Path) -> list[Item]:
    """A grid, and behind it its tiles, which have the numbers from `first` on."""
    height, width = picture.shape[:2]
    rows, columns = -(-height // tile), -(-width // tile)
    padded = np.pad(
        picture, ((0, rows * tile - height), (0, columns * tile - width), (0, 0)), mode="edge"
    )
    tiles = [
        coded(padded[y : y + tile, x : x + tile], folder)
        for y in range(0, rows * tile, tile)
        for x in range(0, columns * tile, tile)
    ]
    size = struct.pack(">III", 0, width, height)
    data = bytes([0, 0, rows - 1, columns - 1]) + struct.pack(">HH", width, height)
    numbers = list(range(first, first + len(tiles)))
    return [Item(b"grid", data, [(b"ispe", size, False)], [(b"dimg", numbers)]), *tiles]


def grey(level: NDArray[np.uint8]) -> media.BGR:
    return np.dstack([level] * 3)


def write(path: Path, items: Sequence[Item], *, behind: bytes = b"") -> Path:
    """Writes items, which have the numbers from 1 on; the first one is the picture."""
    properties, associations = b"", b""
    count = 0
    for number, item in enumerate(items, 1):
        associations += struct.pack(">HB", number, len(item.properties))
        for kind, value, essential in item.properties:
            count += 1
            properties += box(kind, value)
            associations += bytes([essential << 7 | count])
    infos = b"".join(
        full(b"infe", 2, 0, struct.pack(">HH", number, 0), item.kind, b"\0")
        for number, item in enumerate(items, 1)
    )
    references = b"".join(
        box(kind, struct.pack(f">HH{len(to)}H", number, len(to), *to))
        for number, item in enumerate(items, 1)
        for kind, to in item.refs
    )

    def meta(start: int) -> bytes:
        places, at = b"", start
        for number, item in enumerate(items, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(item.data))
            at += len(item.data)
        return full(
            *(b"meta", 0, 0),
            full(b"hdlr", 0, 0, bytes(4), b"pict", bytes(13)),
            full(b"pitm", 0, 0, struct.pack(">H", 1)),
            full(b"iloc", 0, 0, b"\x44\x00", struct.pack(">H", len(items)), places),
            full(b"iinf", 0, 0, struct.pack(">H", len(items)), infos),
            full(b"iref", 0, 0, references) if references else b"",
            box(
                b"iprp",
                box(b"ipco", properties),
                full(b"ipma", 0, 0, struct.pack(">I", len(items)), associations),
            ),
        )

    head = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    start = len(head) + len(meta(0)) + 8
    content = box(b"mdat", *(item.data for item in items))
    path.write_bytes(head + meta(start) + content + behind)
    return path
