"""Composed frames to a still picture or an animated GIF, in a file or in memory."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import ClassVar, Final, cast, final

import av
import cv2
from av.container import OutputContainer
from av.error import BlockingIOError as NothingReady
from av.error import EOFError as GraphEnded
from av.error import FFmpegError
from av.filter import Graph
from av.packet import Packet
from av.video.stream import VideoStream

from ..core.errors import SinkError
from ..core.part_file import PartFile
from ..core.safe import SafeFrame
from ..core.timing import rescale
from .base import Sink

__all__ = ["GifSink", "ImageSink", "MemoryImageSink", "check_suffix", "encoded"]

_JPEG_QUALITY: Final = 95
"""OpenCV's own default for JPEG and AVIF; WebP would be lossless without it."""

_PARAMETERS: Final[dict[str, list[int]]] = {
    ".png": [],
    ".apng": [],
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
    ".jfif": [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
    ".avif": [cv2.IMWRITE_AVIF_QUALITY, _JPEG_QUALITY],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, _JPEG_QUALITY],
    ".bmp": [],
    ".tif": [],
    ".tiff": [],
}

_ALIASES: Final = {".apng": ".png", ".jfif": ".jpg"}
"""Suffixes that OpenCV does not know."""

_MAX_SIDE: Final = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500, ".jfif": 65_500}
"""Pixels. Sources: RFC 9649, 3.1; libjpeg's JPEG_MAX_DIMENSION."""

_GIF_TICK: Final = Fraction(1, 100)
"""Source: GIF89a specification, 23 (graphic control extension): delays in hundredths."""


@final
class ImageSink(Sink[SafeFrame]):
    """Writes exactly one frame as the kind of picture that the file name says.

    Args:
        path: .png, .jpg, .jpeg, .jfif, .avif, .webp, .bmp, .tif or .tiff; no metadata is written.
        overwrite: False refuses a name that is taken.

    Raises:
        SinkError: another kind of name, or the file cannot be written there.
    """

    accepts: ClassVar[type] = SafeFrame

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        super().__init__()
        self._suffix = check_suffix(path)
        self._path = path
        self._written = False
        self._part = PartFile(path, overwrite=overwrite)

    def _emit(self, item: SafeFrame) -> None:
        if self._written:
            raise SinkError(f"{self._path}: takes one frame only; use a video for more")
        self._written = True
        try:
            self._part.write(encoded(item, self._suffix, str(self._path)))
        except (cv2.error, OSError) as error:
            self._part.refuse(error)

    def _finish(self) -> None:
        if not self._written:
            raise SinkError(f"{self._path}: no frame was written, so there is no picture")
        self._part.publish()

    def _abort(self) -> None:
        self._part.discard()


@final
class MemoryImageSink(Sink[SafeFrame]):
    """Encodes exactly one frame as `ImageSink` does, into `data` instead of a file.

    Args:
        suffix: the kind of picture, such as .png; see `ImageSink`.

    Raises:
        SinkError: another kind; the frame does not fit it, or there is no memory for it.
    """

    accepts: ClassVar[type] = SafeFrame

    def __init__(self, suffix: str) -> None:
        super().__init__()
        self._suffix = suffix
        if suffix not in _PARAMETERS:
            raise SinkError(f"unknown kind of picture {suffix}; use {', '.join(_PARAMETERS)}")
        self._encoded: bytes | None = None
        self._finished = False

    @property
    def data(self) -> bytes:
        """The picture.

        Raises:
            SinkError: `finish` has not succeeded.
        """
        if not self._finished or self._encoded is None:
            raise SinkError("the picture is not complete; call finish() first")
        return self._encoded

    def _emit(self, item: SafeFrame) -> None:
        if self._encoded is not None:
            raise SinkError("the picture takes one frame only; use a video for more")
        try:
            self._encoded = encoded(item, self._suffix, "the picture")
        except cv2.error:
            raise SinkError("the picture cannot be encoded; make it smaller") from None

    def _finish(self) -> None:
        if self._encoded is None:
            raise SinkError("no frame was written, so there is no picture")
        self._finished = True

    def _abort(self) -> None:
        self._encoded = None


def check_suffix(path: Path) -> str:
    """Returns the kind of picture that a name says, such as .png.

    Raises:
        SinkError: it is none that is written.
    """
    suffix = path.suffix.lower()
    if suffix not in _PARAMETERS:
        raise SinkError(f"{path}: unknown kind of picture; use {', '.join(_PARAMETERS)}")
    return suffix


def encoded(item: SafeFrame, suffix: str, name: str) -> bytes:
    """Returns `item` as a file that holds one picture of the kind of `suffix`, without metadata.

    Raises:
        SinkError: it does not fit; the message begins with `name`.
        cv2.error: there is not enough memory.
    """
    width, height = item.size_wh
    limit = _MAX_SIDE.get(suffix)
    if limit is not None and max(width, height) > limit:
        raise SinkError(f"{name}: {width}x{height} does not fit this kind of picture")
    _, data = cv2.imencode(_ALIASES.get(suffix, suffix), item.pixels, _PARAMETERS[suffix])
    return data.tobytes()


@final
class GifSink(Sink[SafeFrame]):
    """Writes an animated GIF that loops for ever, with a palette of 256 colours for each frame.

    Times are kept to the hundredth of a second that the format knows; two frames within one are
    moved one apart.

    Args:
        path: the final name.
        time_base: seconds a tick of the frames' `pts`.
        rate: frames a second, for the last frame's duration; None if unknown.
        overwrite: False refuses a name that is taken.

    Raises:
        SinkError: the file cannot be written there; nothing was left.
    """

    accepts: ClassVar[type] = SafeFrame

    def __init__(
        self,
        path: Path,
        *,
        time_base: Fraction,
        rate: Fraction | None = None,
        overwrite: bool = False,
    ) -> None:
        super().__init__()
        self._path = path
        self._time_base = time_base
        self._rate = rate or Fraction(10)
        self._size_wh: tuple[int, int] | None = None
        self._tick: int | None = None
        self._part = PartFile(path, overwrite=overwrite)

    def _start(self, size_wh: tuple[int, int]) -> None:
        self._size_wh = width, height = size_wh
        self._container: OutputContainer = av.open(
            self._part,
            "w",
            format="gif",
            options={"loop": "0", "fflags": "+bitexact"},
            buffer_size=1 << 20,
        )
        self._stream = self._container.add_stream("gif", rate=Fraction(100))
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "pal8"
        context.time_base = _GIF_TICK
        self._waiting: list[Packet[VideoStream]] = []
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=width,
            height=height,
            format=av.VideoFormat("bgr24", width, height),
            time_base=_GIF_TICK,
        )
        split = self._graph.add("split")
        palette = self._graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        apply = self._graph.add("paletteuse", "new=1")
        sink = self._graph.add("buffersink")
        source.link_to(split)
        split.link_to(apply, 0, 0)
        split.link_to(palette, 1, 0)
        palette.link_to(apply, 0, 1)
        apply.link_to(sink)
        self._graph.configure()

    def _emit(self, item: SafeFrame) -> None:
        try:
            if self._size_wh is None:
                self._start(item.size_wh)
            if item.size_wh != self._size_wh or item.time_base != self._time_base:
                raise SinkError(
                    f"{self._path}: expected frames of {self._size_wh} at {self._time_base} s a "
                    f"tick, got {item.size_wh} at {item.time_base}"
                )
            tick = rescale(item.pts, self._time_base, _GIF_TICK)
            self._tick = tick if self._tick is None else max(tick, self._tick + 1)
            frame = av.VideoFrame.from_ndarray(item.pixels, format="bgr24")
            frame.pts, frame.time_base = self._tick, _GIF_TICK
            self._graph.push(frame)
            self._encode_ready()
        except (FFmpegError, OSError) as error:
            self._part.refuse(error)

    def _encode_ready(self) -> None:
        while True:
            try:
                frame = self._graph.vpull()
            except (NothingReady, GraphEnded):
                return
            for packet in cast("list[Packet[VideoStream]]", self._stream.encode(frame)):
                self._mux(packet)

    def _mux(self, packet: Packet[VideoStream] | None, duration: int = 0) -> None:
        """Writes packets one late, when it is known how long each is shown."""
        for waiting in self._waiting:
            following = None if packet is None else packet.pts
            if following is not None and waiting.pts is not None:
                duration = following - waiting.pts
            waiting.duration = duration
            self._container.mux(waiting)
        self._waiting = [] if packet is None else [packet]

    def _finish(self) -> None:
        if self._size_wh is None:
            raise SinkError(f"{self._path}: no frame was written, so there is no picture")
        last = self._last_duration
        shown = 1 / self._rate if last is None else last * self._time_base
        try:
            self._graph.push(None)
            self._encode_ready()
            # The encoder itself holds nothing back.
            self._mux(None, max(1, rescale(1, shown, _GIF_TICK)))
            self._container.close()
        except (FFmpegError, OSError) as error:
            self._part.refuse(error)
        self._part.publish()

    def _abort(self) -> None:
        self._part.discard()
