"""How large the pictures of a file become whose size changes: as the largest of its beginning."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer

from ..core.errors import SourceError
from .base import open_regular
from .convert import orientation_of
from .opener import loose_limit, open_file

__all__ = ["largest_wh", "said"]

_LOOKED_AT_S: Final = 10
"""How far is looked ahead. Chosen: calls and browsers begin small and have grown within seconds."""

_APART_S: Final = Fraction(1, 2)
_MANY: Final = 12
"""After so many key frames, of those that are closer than this one is enough: of codecs that have
nothing else, 32 pictures are decoded at most. Chosen: seconds of 4K."""

_FORMATS: Final = (
    *("matroska", "mpegts", "mpeg", "flv", "ivf", "h264", "hevc", "av1", "obu", "ogg", "dhav"),
    *("mpegvideo", "m4v", "mjpeg", "nut"),
)
"""FFmpeg's demuxers whose pictures bring their own size. In others a header holds for all."""

_CODECS: Final = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d")
"""Codecs that MP4 fragments of browsers hold, which may change their size, too."""

_NAMED: Final = 4
"""Sizes that a sentence names. Chosen: fits a line."""


def largest_wh(path: Path, index: int, *, max_pixels: int) -> tuple[int, int] | None:
    """Returns (width, height), upright, of the largest key frame in a video's first seconds.

    The file is opened a second time. What is damaged or too large is passed over: whoever reads it
    will notice. A picture whose size changes comes with a key frame, but for rare VP9.

    Args:
        path: the file.
        index: of the stream.
        max_pixels: the largest picture that counts.

    Returns:
        None where the size cannot change, or nothing was found.
    """
    with open_regular(path) as file:
        try:
            with open_file(file, str(path), max_pixels=max_pixels) as container:
                return _largest_of(container, index, max_pixels)
        except SourceError:
            return None


def _largest_of(container: InputContainer, index: int, max_pixels: int) -> tuple[int, int] | None:
    stream = next((one for one in container.streams.video if one.index == index), None)
    if stream is None or stream.time_base is None:
        return None
    codec = stream.codec_context.name
    if not container.format.name.startswith(_FORMATS) and codec not in _CODECS:
        return None
    stream.codec_context.skip_frame = "NONKEY"
    stream.codec_context.options = loose_limit(max_pixels)
    best, first, last, count = None, None, Fraction(-_LOOKED_AT_S), 0
    try:
        for packet in container.demux(stream):
            stamp = packet.pts if packet.pts is not None else packet.dts
            at = Fraction(0) if stamp is None else stamp * stream.time_base
            first = at if first is None else first
            if at - first > _LOOKED_AT_S:
                break
            if not packet.is_keyframe or (count > _MANY and 0 <= at - last < _APART_S):
                continue
            last, count = at, count + 1
            for frame in stream.decode(packet):
                size_wh = orientation_of(frame)[0].size_of(frame.width, frame.height)
                if size_wh[0] * size_wh[1] <= max_pixels:
                    best = max(best or size_wh, size_wh, key=lambda wh: wh[0] * wh[1])
    except (av.error.FFmpegError, OSError, IndexError):
        pass
    return best


def said(sizes_wh: Collection[tuple[int, int]], canvas_wh: tuple[int, int]) -> str:
    """Returns a sentence that names the sizes that came, and the one that all are fitted into."""
    names = [f"{width}x{height}" for width, height in sizes_wh]
    more = [] if len(names) <= _NAMED else [f"{len(names) - _NAMED} more"]
    return (
        f"the picture's size changes ({', '.join(names[:_NAMED] + more)}); "
        f"all is fitted into {canvas_wh[0]}x{canvas_wh[1]}"
    )
