"""Decoded frames, whatever their format, to upright BGR in a canvas of a given size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Final, NamedTuple, Self, cast

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition, Stream
from av.video.plane import VideoPlane
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc, VideoReformatter
from av.video.reformatter import Interpolation as Scaling
from numpy.typing import NDArray

from ..core.errors import SourceError
from ..core.raw import Under
from ..core.ring import BufferPool
from .hdr import PQ_CODES, sdr_of_pq
from .orientation import Orientation

__all__ = [
    "ColorTags",
    "fit_bgr",
    "has_alpha",
    "is_attached",
    "is_hdr",
    "orientation_of",
    "reason_of",
    "write_bgr",
]

_SUPPORTED_MATRICES: Final = frozenset({0, 1, 2, 4, 5, 6, 7, 9})
_MATRIX_ALIASES: Final = {3: 2, 10: 9}
"""MatrixCoefficients of ITU-T H.273 that swscale takes (measured: it refuses all others), and
stand-ins: 3 is reserved, so unspecified; 10 (BT.2020 constant luminance) shares 9's weights."""

_HDR_TRANSFERS: Final = frozenset({16, 18})
"""TransferCharacteristics of ITU-T H.273: PQ (SMPTE ST 2084) and HLG (ARIB STD-B67)."""

_BT709: Final = 1
_NARROW_RANGE: Final = 1
_UNSPECIFIED: Final = (0, 2, 3)
"""Code points of ITU-T H.273 and, for the range, FFmpeg's AVColorRange (1 is narrow); 0 and 3 are
reserved, 2 is "unspecified"."""

_OPAQUE: Final = 255
"""Alpha of what hides nothing."""

_EIGHT_BITS: Final = np.rint(np.linspace(0, _OPAQUE, PQ_CODES)).astype(np.uint8)
"""Alpha of as many levels as PQ's codes."""

_FLAGS: Final = int(Scaling.BILINEAR | Scaling.ACCURATE_RND)
"""Without ACCURATE_RND swscale's RGB is 1.2 levels too dark on average (measured at 720p against
the formulas of H.273: bias -1.23, with it 0.01)."""


class ColorTags(NamedTuple):
    """How the picture is tagged once it is BGR: code points of ITU-T H.273, None if not stated."""

    primaries: int | None
    trc: int | None
    matrix: int | None
    range: int | None

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Self:
        """Returns what an encoder should tag `frame` with after `write_bgr`."""
        if is_hdr(frame):
            return cls(_BT709, _BT709, _BT709, _NARROW_RANGE)
        return cls(
            _stated(frame.color_primaries),
            _stated(frame.color_trc),
            _matrix_tag(frame),
            frame.color_range or None,
        )


def has_alpha(frame: av.VideoFrame) -> bool:
    """Returns whether the frame's format has room for transparency; `write_bgr` honours it."""
    return frame.format.has_palette or any(c.is_alpha for c in frame.format.components)


def is_hdr(frame: av.VideoFrame) -> bool:
    """Returns whether `write_bgr` maps the frame to SDR."""
    return frame.color_trc in _HDR_TRANSFERS


def is_attached(stream: Stream) -> bool:
    """Returns whether the stream is a picture that belongs to the container, no video."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def orientation_of(frame: av.VideoFrame) -> tuple[Orientation, bool]:
    """Reads the frame's display matrix; also whether its angle is no right one."""
    try:
        # PyAV's stub knows another kind of side data only.
        side_data = cast("Mapping[SideDataType, SideData]", frame.side_data)
    except ValueError:
        # PyAV 18 does not know all kinds that FFmpeg 8 has, such as a JPEG's EXIF (31), and then
        # shows none. The angle it reads by another way, which says nothing of mirrors.
        turn = math.radians(frame.rotation)
        sine, cosine = round(math.sin(turn)), round(math.cos(turn))
        return Orientation.from_matrix(cosine, -sine, sine, cosine), False
    data = side_data.get(SideDataType.DISPLAYMATRIX)
    if data is None:
        return Orientation(), False
    a, b, _, c, d, *_ = np.frombuffer(memoryview(data), np.int32).tolist()
    odd = min(abs(a), abs(b)) * 50 > max(abs(a), abs(b))
    return Orientation.from_matrix(a, b, c, d), odd


def write_bgr(
    frame: av.VideoFrame,
    orientation: Orientation,
    out: NDArray[np.uint8],
    *,
    reformatter: VideoReformatter,
    name: str,
    pool: BufferPool | None = None,
) -> Under | None:
    """Converts `frame` into `out`, (H, W, 3) zeros, turned upright, bars where it is smaller.

    By the tagged matrix and range, alpha over black, HDR mapped to SDR. Every intermediate picture
    is zeroed. Returns what lies under what is transparent, in a buffer of `pool`; None without one,
    or where all is opaque.

    Args:
        frame: its `colorspace` may be replaced by a stand-in.
        orientation: of the frame.
        out: written to.
        reformatter: keeps swscale's tables between frames; one thread at a time.
        name: of the source, without credentials, for the message.
        pool: that of `out`.

    Raises:
        SourceError: swscale does not know the colour matrix.
        av.error.FFmpegError: it cannot convert the pixel format.
    """
    matrix = _MATRIX_ALIASES.get(frame.colorspace, frame.colorspace)
    if matrix not in _SUPPORTED_MATRICES:
        raise SourceError(
            f"{name}: colour matrix {matrix} is not supported; convert to BT.709 first"
        )
    frame.colorspace = matrix
    box = _fit(orientation.size_of(frame.width, frame.height), (out.shape[1], out.shape[0]))
    target = box.cut(out)
    size = (box.height, box.width) if orientation.transpose else (box.width, box.height)
    converted = _as_rgb(frame, size, reformatter)
    upright = not any(orientation)
    picture = target if upright else np.empty((size[1], size[0], 3), np.uint8)
    under = None
    channels = _channels(converted, hdr=is_hdr(frame))
    if has_alpha(frame):
        alpha, opaque = _over_black(channels, picture)
        if pool is not None and (alpha < _OPAQUE).any():
            under = Under(pool.take(*out.shape[:2]), np.full(out.shape[:2], _OPAQUE, np.uint8))
            orientation.turn(opaque, box.cut(under.bgr))
            orientation.turn(alpha, box.cut(under.alpha))
        opaque.fill(0)
    else:
        cv2.merge(channels, picture)
    if is_hdr(frame):
        for channel in channels:
            channel.fill(0)
    if converted is not frame:  # the decoder may still refer to its own
        for plane in converted.planes:
            _bytes(plane).fill(0)
    if not upright:
        orientation.turn(picture, target)
    return under


def _as_rgb(
    frame: av.VideoFrame, size_wh: tuple[int, int], reformatter: VideoReformatter
) -> av.VideoFrame:
    """Returns the frame as full-range RGB of that size: planes, or BGRA where it has alpha.

    HDR comes as planes of PQ, 10 bits, within what BT.709 can show of colour.
    """
    hdr, alpha = is_hdr(frame), has_alpha(frame)
    # Planar RGB: swscale's packed BGR takes twice the time or is inexact (see _FLAGS).
    target = ("gbrap10le" if alpha else "gbrp10le") if hdr else ("bgra" if alpha else "gbrp")
    return reformatter.reformat(
        frame,
        width=size_wh[0],
        height=size_wh[1],
        format=target,
        interpolation=_FLAGS,
        dst_color_range=ColorRange.JPEG,
        # swscale's own way to SDR makes all that is brighter than white one white.
        dst_color_trc=ColorTrc.SMPTE2084 if hdr else None,
        dst_color_primaries=ColorPrimaries.BT709 if hdr else None,
        threads=1,
    )


def _channels(rgb: av.VideoFrame, *, hdr: bool) -> list[NDArray[np.uint8]]:
    """Returns blue, green and red of SDR, and alpha where there is one, of `_as_rgb`'s frame.

    Copies of HDR and BGRA, else views.
    """
    if rgb.format.name == "bgra":
        packed = _rows(rgb.planes[0], 4).reshape(rgb.height, rgb.width, 4)
        return [np.asarray(channel, np.uint8) for channel in cv2.split(packed)]
    if not hdr:
        green, blue, red = (_rows(plane) for plane in rgb.planes)
        return [blue, green, red]
    codes = [_rows(plane, 2).view("<u2") for plane in rgb.planes]
    green, blue, red = (sdr_of_pq()[plane] for plane in codes[:3])
    return [blue, green, red, *(_EIGHT_BITS[plane] for plane in codes[3:])]


def fit_bgr(picture: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Writes a (h, w, 3) BGR `picture` into `out`, (H, W, 3) zeros, bars where it is smaller."""
    box = _fit((picture.shape[1], picture.shape[0]), (out.shape[1], out.shape[0]))
    target = box.cut(out)
    if target.shape == picture.shape:
        np.copyto(target, picture)
        return
    smaller = box.width < picture.shape[1]
    cv2.resize(
        picture,
        (box.width, box.height),
        dst=target,
        interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR,
    )


class _Box(NamedTuple):
    x: int
    y: int
    width: int
    height: int

    def cut(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns what of a picture lies in it: a view."""
        return array[self.y : self.y + self.height, self.x : self.x + self.width]


def _fit(size_wh: tuple[int, int], room_wh: tuple[int, int]) -> _Box:
    """Returns the largest centred box of the proportions of `size_wh` in `room_wh`."""
    scale = min(Fraction(room_wh[0], size_wh[0]), Fraction(room_wh[1], size_wh[1]))
    width = max(1, min(room_wh[0], round(size_wh[0] * scale)))
    height = max(1, min(room_wh[1], round(size_wh[1] * scale)))
    return _Box((room_wh[0] - width) // 2, (room_wh[1] - height) // 2, width, height)


def _bytes(plane: VideoPlane) -> NDArray[np.uint8]:
    return np.frombuffer(memoryview(plane), np.uint8)


def _rows(plane: VideoPlane, bytes_a_pixel: int = 1) -> NDArray[np.uint8]:
    rows = _bytes(plane).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width * bytes_a_pixel]


def _over_black(
    channels: list[NDArray[np.uint8]], out: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Writes blue, green, red and alpha over black; returns alpha, and the picture without."""
    *colours, alpha = channels
    weighted = [cv2.multiply(colour, alpha, scale=1 / 255) for colour in colours]
    cv2.merge(weighted, out)
    opaque = np.asarray(cv2.merge(colours), np.uint8)
    for array in (*colours, *weighted):
        array.fill(0)
    return alpha, opaque


def _matrix_tag(frame: av.VideoFrame) -> int | None:
    if frame.format.is_rgb or frame.format.has_palette:
        return 0
    return _stated(_MATRIX_ALIASES.get(frame.colorspace, frame.colorspace))


def _stated(code_point: int) -> int | None:
    return None if code_point in _UNSPECIFIED else code_point


def reason_of(error: Exception) -> str:
    """Returns the operating system's or FFmpeg's words, never its file name or URL."""
    return getattr(error, "strerror", None) or type(error).__name__
