"""Still pictures in HEIF: HEIC (HEVC) and AVIF (AV1), whole or in tiles, to BGR.

The container is read here, for FFmpeg gives tiles and alpha as videos of their own; its decoders do
the rest. Section numbers are those of ISO/IEC 23008-12:2022 where nothing else is named.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, cast, final

import av
import cv2
import numpy as np
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ..core.errors import SourceError
from ..core.raw import Under
from .convert import reason_of, write_bgr
from .isobmff import ALPHA_URNS, boxes
from .opener import loose_limit
from .orientation import Orientation

__all__ = ["Heif", "is_heif", "moves"]

_BRANDS: Final = frozenset(
    {b"mif1", b"mif2", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"avif"}
    | {b"avis"}
)
"""Brands of pictures (10.2, B.4; AV1 Image File Format, 6)."""

_CODECS: Final = {b"hvc1": ("hevc", b"hvcC"), b"av01": ("libdav1d", b"av1C")}
"""FFmpeg's decoder of an item's kind, and the property with its configuration."""

_KNOWN: Final = frozenset(
    {b"hvcC", b"av1C", b"ispe", b"pixi", b"colr", b"irot", b"imir", b"clap", b"auxC", b"pasp"}
    | {b"a1op", b"a1lx", b"clli", b"mdcv", b"amve"}
)
"""Properties that are followed, or that change nothing here. Others that are essential must be
understood (9.3.1), or the picture is not what its maker meant."""

_NEEDED: Final = frozenset({b"iinf", b"iloc", b"iprp", b"pitm"})
"""Boxes that a picture needs (10.2.1.1)."""

_DEEPEST: Final = 3
"""Pictures made from others that are made from others. Chosen: files have one level."""

_MOST_TILES: Final = 1024
"""Of one picture. Chosen: 64 megapixels in tiles of 256x256."""


@dataclass(slots=True)
class _Item:
    """What is said of one item."""

    kind: bytes
    hidden: bool
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    in_file: bool = True


def is_heif(data: bytes) -> bool:
    """Returns whether these are the contents of a HEIF file."""
    size = int.from_bytes(data[:4], "big")
    brands = {data[at : at + 4] for at in (8, *range(16, min(size, 256), 4))}
    return data[4:8] == b"ftyp" and bool(brands & _BRANDS)


def moves(data: bytes) -> bool:
    """Returns whether a HEIF file holds a sequence of pictures (a track)."""
    try:
        return any(kind == b"moov" for kind, _, _ in boxes(data))
    except ValueError:
        return False


@final
class Heif:
    """Reads one HEIF file's primary picture, upright, with its alpha over black.

    Args:
        data: the contents.
        name: of the file, for messages.

    Raises:
        ValueError, struct.error, IndexError: no such file, or damaged.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name = data, name
        self._items: dict[int, _Item] = {}
        self._refs: list[tuple[bytes, int, list[int]]] = []
        self._idat = (0, 0)
        self._primary = -1
        self._more = [kind for kind, _, _ in boxes(data)]
        at, end = next(((at, end) for kind, at, end in boxes(data) if kind == b"meta"), (0, 0))
        parts = {kind: (start, stop) for kind, start, stop in boxes(data, at + 4, end)}
        if not parts.keys() >= _NEEDED:
            raise ValueError("boxes missing")
        self._read_items(*parts[b"iinf"])
        self._read_places(*parts[b"iloc"])
        self._read_properties(*parts[b"iprp"])
        if b"iref" in parts:
            self._read_references(*parts[b"iref"])
        self._idat = parts.get(b"idat", self._idat)
        start = parts[b"pitm"][0]
        self._primary = self._number(start + 4, 2 if data[start] == 0 else 4)
        self.size_wh = self._size_of(self._item(self._primary))

    def _number(self, at: int, size: int) -> int:
        if at + size > len(self._data):
            raise ValueError("ends early")
        return int.from_bytes(self._data[at : at + size], "big")

    def _item(self, number: int) -> _Item:
        if number not in self._items:
            raise ValueError("no such item")
        return self._items[number]

    # ----------------------------------------------------------------- reading boxes

    def _read_items(self, start: int, end: int) -> None:
        """ISO/IEC 14496-12, 8.11.6."""
        first = start + (6 if self._data[start] == 0 else 8)
        for kind, at, _ in boxes(self._data, first, end):
            version = self._data[at]
            if kind != b"infe" or version < 2:
                continue
            wide = 2 if version == 2 else 4
            hidden = bool(self._data[at + 3] & 1)
            number, what = self._number(at + 4, wide), self._data[at + 6 + wide : at + 10 + wide]
            self._items[number] = _Item(what, hidden)

    def _read_places(self, start: int, end: int) -> None:
        """ISO/IEC 14496-12, 8.11.3."""
        version, sizes = self._data[start], self._number(start + 4, 2)
        offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
        index_size = sizes & 15 if version else 0
        wide = 2 if version < 2 else 4
        count, at = self._number(start + 6, wide), start + 6 + wide
        for _ in range(count):
            if at >= end:
                raise ValueError("ends early")
            number, at = self._number(at, wide), at + wide
            method = self._number(at, 2) & 15 if version else 0
            at += 4 if version else 2
            base, at = self._number(at, base_size), at + base_size
            extents, at = self._number(at, 2), at + 2
            item = self._items.get(number)
            for _ in range(extents):
                at += index_size
                offset, at = base + self._number(at, offset_size), at + offset_size
                length, at = self._number(at, length_size), at + length_size
                if item is not None:
                    item.places.append((offset, length))
            if item is not None:
                item.in_file = method == 0
                if method > 1:
                    item.places = []

    def _read_properties(self, start: int, end: int) -> None:
        """ISO/IEC 14496-12, 8.11.14."""
        kinds = list(boxes(self._data, start, end))
        at, stop = next(((at, stop) for kind, at, stop in kinds if kind == b"ipco"), (0, 0))
        found = [(kind, self._data[a:b]) for kind, a, b in boxes(self._data, at, stop)]
        for kind, at, _ in kinds:
            if kind != b"ipma":
                continue
            wide = 2 if self._data[at] == 0 else 4
            size = 1 + (self._data[at + 3] & 1)
            count, at = self._number(at + 4, 4), at + 8
            for _ in range(count):
                item, at = self._items.get(self._number(at, wide)), at + wide
                many, at = self._data[at], at + 1
                for _ in range(many):
                    one, at = self._number(at, size), at + size
                    essential, index = one >> (8 * size - 1), one & (1 << (8 * size - 1)) - 1
                    if index and item is not None:
                        item.properties.append(self._checked(found[index - 1], bool(essential)))

    def _checked(self, known: tuple[bytes, bytes], essential: bool) -> tuple[bytes, bytes]:
        kind = known[0]
        return (b"?", b"") if essential and kind not in _KNOWN else known

    def _read_references(self, start: int, end: int) -> None:
        """ISO/IEC 14496-12, 8.11.12."""
        wide = 2 if self._data[start] == 0 else 4
        for kind, at, _ in boxes(self._data, start + 4, end):
            count = self._number(at + wide, 2)
            first = at + wide + 2
            to = [self._number(first + wide * index, wide) for index in range(count)]
            self._refs.append((kind, self._number(at, wide), to))

    # ----------------------------------------------------------------- what there is

    @property
    def whole(self) -> bool:
        """Whether everything that the file speaks of is there."""
        return all(
            offset + length <= len(self._data)
            for item in self._items.values()
            if item.in_file
            for offset, length in item.places
        )

    @property
    def dropped(self) -> tuple[str, ...]:
        """Says in words what of the file does not pass."""
        kinds = [item.kind for item in self._items.values()]
        words = ["metadata"] if {b"Exif", b"mime"} & set(kinds) else []
        made_from = {one for kind, _, to in self._refs if kind == b"dimg" for one in to}
        beside = {number for kind, number, _ in self._refs if kind in (b"auxl", b"thmb", b"cdsc")}
        others = [
            number
            for number, item in self._items.items()
            if item.kind in (*_CODECS, b"grid", b"iden", b"iovl")
            and number not in made_from | beside | {self._primary}
        ]
        if others:
            words.append(f"{len(others)} other pictures" if others[1:] else "another picture")
        if any(kind == b"auxl" and not self._is_alpha(one) for kind, one, _ in self._refs):
            words.append("maps of depth or the like")
        if b"mpvd" in self._more:
            words.append("a video (motion photo)")
        if b"moov" in self._more:
            words.append("a sequence of pictures")
        return tuple(words)

    def _alpha_of(self, picture: int) -> list[int]:
        """Returns the items that hold a picture's alpha."""
        return [
            number
            for kind, number, to in self._refs
            if kind == b"auxl" and picture in to and self._is_alpha(number)
        ]

    def _is_alpha(self, number: int) -> bool:
        return any(
            name == b"auxC" and value[4:].split(b"\0")[0] in ALPHA_URNS
            for name, value in self._item(number).properties
        )

    def _size_of(self, item: _Item) -> tuple[int, int]:
        """Returns (width, height) as it is stored (6.5.3)."""
        for kind, value in item.properties:
            if kind == b"ispe":
                width, height = struct.unpack_from(">II", value, 4)
                return width, height
        raise ValueError("no size")

    # ----------------------------------------------------------------- decoding

    def decode(self, max_pixels: int) -> tuple[NDArray[np.uint8], Under | None]:
        """Returns a new (H, W, 3) uint8 BGR array, and what lies under what is transparent.

        Raises:
            SourceError: damaged, or made in a way that is not read here.
        """
        try:
            bgr, under = self._picture(self._primary, max_pixels, 0), None
            for number in self._alpha_of(self._primary):
                alpha = self._picture(number, max_pixels, 0)
                if alpha.shape != bgr.shape:
                    raise SourceError(
                        f"{self._name}: alpha and picture differ in size; export as PNG"
                    )
                under = Under.of(bgr, alpha[:, :, 0])
                cv2.multiply(bgr, alpha, bgr, 1 / 255)
                alpha.fill(0)
            return bgr, under
        except SourceError:
            raise
        except (ValueError, IndexError, struct.error):
            problem = "is damaged"
        except (av.error.FFmpegError, OSError) as error:
            problem = f"cannot be decoded ({reason_of(error)})"
        raise SourceError(f"{self._name}: {problem}; export the picture again")

    def _picture(self, number: int, max_pixels: int, depth: int) -> NDArray[np.uint8]:
        item = self._item(number)
        if depth > _DEEPEST or any(kind == b"?" for kind, _ in item.properties):
            raise self._unknown("property")
        if depth and self._alpha_of(number):
            raise self._unknown("transparency")
        sources = [
            one
            for kind, start, to in self._refs
            for one in to
            if kind == b"dimg" and start == number
        ]
        if item.kind in _CODECS:
            picture = self._coded(item, max_pixels)
        elif item.kind == b"grid":
            picture = self._grid(item, sources, max_pixels, depth)
        elif item.kind == b"iden" and len(sources) == 1:
            picture = self._picture(sources[0], max_pixels, depth + 1)
        else:
            raise self._unknown("kind")
        for kind, value in item.properties:
            picture = _transformed(picture, kind, value)
        return picture

    def _unknown(self, what: str) -> SourceError:
        return SourceError(f"{self._name}: has a {what} that is not read here; export it as JPEG")

    def _bytes(self, item: _Item) -> bytes:
        start, end = (0, len(self._data)) if item.in_file else self._idat
        found = []
        for offset, length in item.places:
            stop = start + offset + length if length else end
            if stop > end:
                raise ValueError("ends early")
            found.append(self._data[start + offset : stop])
        return b"".join(found)

    def _coded(self, item: _Item, max_pixels: int) -> NDArray[np.uint8]:
        name, configuration = _CODECS[item.kind]
        properties = dict(item.properties)
        context = cast("VideoCodecContext", CodecContext.create(name, "r"))
        context.extradata = properties.get(configuration)
        context.thread_count = 1
        context.options = loose_limit(max_pixels)
        frames = [*context.decode(Packet(self._bytes(item))), *context.decode(None)]
        if not frames:
            raise ValueError("no picture")
        frame = frames[0]
        if frame.is_corrupt or frame.width * frame.height > max_pixels:
            raise ValueError("damaged, or too large")
        _tag(frame, item)
        out = np.zeros((frame.height, frame.width, 3), np.uint8)
        write_bgr(frame, Orientation(), out, reformatter=VideoReformatter(), name=self._name)
        return out

    def _grid(
        self, item: _Item, sources: list[int], max_pixels: int, depth: int
    ) -> NDArray[np.uint8]:
        """6.6.2.3."""
        data = self._bytes(item)
        rows, columns = data[2] + 1, data[3] + 1
        width, height = struct.unpack_from(">II" if data[1] & 1 else ">HH", data, 4)
        if len(sources) != rows * columns or len(sources) > _MOST_TILES:
            raise ValueError("other tiles than it needs")
        if not 0 < width * height <= max_pixels:
            raise ValueError("too large")
        canvas = np.zeros((height, width, 3), np.uint8)
        covered = 0
        for place, number in enumerate(sources):
            tile = self._picture(number, max_pixels, depth + 1)
            y, x = place // columns * tile.shape[0], place % columns * tile.shape[1]
            target = canvas[y : y + tile.shape[0], x : x + tile.shape[1]]
            if not target.size:
                raise ValueError("a tile lies outside")
            np.copyto(target, tile[: target.shape[0], : target.shape[1]])
            covered += target.size
            tile.fill(0)
        if covered != canvas.size:
            raise ValueError("its tiles do not fill it")
        return canvas


def _tag(frame: av.VideoFrame, item: _Item) -> None:
    """Gives a frame the colours that the container states (6.5.5; ISO/IEC 14496-12, 12.1.5)."""
    for kind, value in item.properties:
        if kind == b"colr" and value[:4] == b"nclx" and len(value) >= 11:
            primaries, transfer, matrix, full = struct.unpack_from(">HHHB", value, 4)
            frame.color_primaries, frame.color_trc = primaries, transfer
            frame.colorspace, frame.color_range = matrix, 2 if full & 0x80 else 1


def _transformed(picture: NDArray[np.uint8], kind: bytes, value: bytes) -> NDArray[np.uint8]:
    """Returns a picture as a property has it shown; the one that was handed over is zeroed."""
    if kind == b"clap":
        part = picture[_aperture(picture.shape[1], picture.shape[0], value)]
    elif kind == b"irot":  # 6.5.10: quarters of a turn, anti-clockwise
        part = np.rot90(picture, value[0] & 3)
    elif kind == b"imir":  # 6.5.12: 0 exchanges top and bottom, 1 left and right
        part = picture[:, ::-1] if value[0] & 1 else picture[::-1]
    else:
        return picture
    made = part.copy()
    picture.fill(0)
    return made


def _aperture(width: int, height: int, value: bytes) -> tuple[slice, slice]:
    """Returns the part that is shown: its size, and its centre's offset from the picture's.

    Source: ISO/IEC 14496-12, 12.1.4.
    """
    numbers = struct.unpack(">IIIIiIiI", value[:32])
    if 0 in numbers[1::2]:
        raise ValueError("no such part")
    wide, high, right, down = (a / b for a, b in zip(numbers[::2], numbers[1::2], strict=True))
    x, y = round((width - wide) / 2 + right), round((height - high) / 2 + down)
    shown_wh = round(wide), round(high)
    if x < 0 or y < 0 or min(shown_wh) < 1 or x + shown_wh[0] > width or y + shown_wh[1] > height:
        raise ValueError("no such part")
    return slice(y, y + shown_wh[1]), slice(x, x + shown_wh[0])
