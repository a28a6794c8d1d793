"""Cameras that give single pictures by HTTP: asked again and again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Final, final

import av
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from ..core.errors import SourceError, UsageError
from .base import Captured, SourceInfo
from .convert import ColorTags, orientation_of, reason_of, write_bgr
from .live import LIVE_TIME_BASE, LiveSource
from .opener import NotAStreamError, address_or_problem, check_size, loose_limit
from .options import StreamOptions
from .orientation import Orientation
from .picture_client import MOST_BYTES, NoPictureError, PictureClient
from .stream import StreamSource

__all__ = ["HttpCameras", "SnapshotSource"]

_PATIENCE: Final = 3
"""Intervals without a whole picture after which the camera counts as lost, if that is longer than
`stream.read_timeout_s`: a poll or two may fail. Chosen."""

_CODECS: Final = (
    (re.compile(rb"\xff\xd8\xff"), "mjpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp"),
    (re.compile(rb"BM"), "bmp"),
)
"""How pictures begin, and FFmpeg's name of who reads them. What a server calls them is not asked:
some say image/jpg, some image/x-anything."""


@final
class SnapshotSource(LiveSource):
    """Asks an http(s):// address for a picture, at a steady rate.

    JPEG, PNG, WebP or BMP, told by the contents; upright, as BGR, alpha over black. Damaged ones
    are left out and counted in `corrupt`. Where the server gives an ETag or Last-Modified, it is
    asked for what has changed only; what has not is a picture all the same: the camera is alive.

    As with streams: no redirect is followed, no proxy used, certificates are checked, and
    passwords go to the named host alone, Basic or Digest (MD5, SHA-256), as it asks for them.

    After `close` an answer under way is waited for `read_timeout_s` at most.

    Args:
        url: with user and password if need be; see `core.address`.
        options: limits; `transport` and `threads` have no use here.
        interval_s: from one picture to the next, in seconds.
        strong_only, most_bytes: see `PictureClient`.
        first_frame_id, size_wh: see `LiveSource`.

    Raises:
        SourceError: no such address, refused, no answer, no picture; while iterating: no whole
            picture came for some time. The message never holds a password.
    """

    def __init__(
        self,
        url: str,
        options: StreamOptions | None = None,
        *,
        interval_s: float = 1.0,
        strong_only: bool = False,
        most_bytes: int = MOST_BYTES,
        first_frame_id: int = 0,
        size_wh: tuple[int, int] | None = None,
    ) -> None:
        if not 0 < interval_s <= 3600:
            raise UsageError(f"interval_s must be in (0, 3600], got {interval_s:g}")
        address, problem = address_or_problem(url)
        name = "the address given" if address is None else address.shown
        super().__init__(name, first_frame_id=first_frame_id, size_wh=size_wh)
        self._options = options or StreamOptions()
        self._interval_s = interval_s
        self._patience_s = max(self._options.read_timeout_s, _PATIENCE * interval_s)
        self._corrupt = 0
        self._kept = bytearray()  # the last whole picture, for a server that says it is the same
        self._reformatter = VideoReformatter()
        self._client: PictureClient | None = None
        try:
            if address is None or address.scheme not in ("http", "https"):
                problem = problem or "pictures come by http:// or https:// only"
                raise SourceError(f"{name}: {problem}")
            self._client = PictureClient(
                address, self._options, strong_only=strong_only, most_bytes=most_bytes
            )
            self._due_s = time.monotonic()
            first = None
            with suppress(NoPictureError):  # said below
                first = self._ask(self._options.open_timeout_s)
            if first is None:
                raise SourceError(f"{name}: {self._client.problem}")
            self._first: tuple[av.VideoFrame, int] | None = first
            self._shape = self._shape_of(first[0])
        except BaseException:
            self.close()
            raise
        self._size_wh = self._canvas_wh or self._shape[1].size_of(*self._shape[0])
        self._info = self._describe(first[0])

    def _describe(self, first: av.VideoFrame) -> SourceInfo:
        tags = ColorTags.of(first)
        return SourceInfo(
            size_wh=self._size_wh,
            time_base=LIVE_TIME_BASE,
            average_rate=1 / Fraction(self._interval_s).limit_denominator(1000),
            color_primaries=tags.primaries,
            color_trc=tags.trc,
            colorspace=tags.matrix,
            color_range=tags.range,
        )

    @property
    def info(self) -> SourceInfo:
        """What the first picture told; `average_rate` is what is asked for."""
        return self._info

    @property
    def corrupt(self) -> int:
        """How many damaged pictures were left out; any thread may ask."""
        return self._corrupt

    def _shut(self) -> None:
        self._first = None
        self._keep(bytearray())
        if self._client is not None:
            self._client.close()

    def _keep(self, data: bytearray) -> None:
        old, self._kept = self._kept, data
        old[:] = bytes(len(old))

    # ----------------------------------------------------------------- reading

    def _capture(self) -> Iterator[Captured]:
        self._check_open()
        whole_s = time.monotonic()
        while True:
            given = self._read(self._next)
            if self._closed.is_set():
                return
            if given is not None:
                whole_s = time.monotonic()
                yield self._frame(*given)
            elif time.monotonic() - whole_s > self._patience_s:
                assert self._client is not None  # it was there when it was opened
                raise SourceError(f"{self._name}: {self._client.problem}")
            now_s = time.monotonic()
            # Who is late by less than an interval catches up; nobody asks in bursts.
            self._due_s = max(self._due_s + self._interval_s, now_s)
            if self._closed.wait(self._due_s - now_s):
                return

    def _next(self) -> tuple[av.VideoFrame, int] | None:
        first, self._first = self._first, None
        if first is not None:
            return first
        with suppress(NoPictureError):
            return self._ask(self._options.read_timeout_s)
        return None

    def _ask(self, limit_s: float) -> tuple[av.VideoFrame, int]:
        """Returns the next whole picture, and when it came.

        Raises:
            NoPictureError: there is none this time; `_client.problem` says why.
            SourceError: it is larger than allowed.
        """
        assert self._client is not None  # never after `_shut`
        data = self._client.ask(limit_s, conditional=bool(self._kept))
        captured_ns = time.monotonic_ns()
        frame = self._decoded(self._kept if data is None else data)
        if frame is None:
            self._corrupt += 1
            self._client.forget()
            raise self._client.no_picture("what it sends is no whole picture; check the camera")
        if data is not None:
            self._keep(data)
        return frame, captured_ns

    def _decoded(self, data: bytearray) -> av.VideoFrame | None:
        """Returns the picture, or None where it is none, or damaged."""
        codec = next((codec for start, codec in _CODECS if start.match(data)), None)
        if codec is None:
            return None
        context = av.CodecContext.create(codec, "r")
        assert isinstance(context, VideoCodecContext)
        context.options = {
            "err_detect": "explode",  # else damage passes, unflagged
        } | loose_limit(self._options.max_pixels)
        frames: list[av.VideoFrame] = []
        with suppress(av.error.FFmpegError, OSError):
            frames = [*context.decode(av.Packet(bytes(data))), *context.decode(None)]
        check_size(self._name, (context.width, context.height), self._options.max_pixels)
        return frames[0] if len(frames) == 1 and not frames[0].is_corrupt else None

    def _shape_of(self, frame: av.VideoFrame) -> tuple[tuple[int, int], Orientation]:
        return (frame.width, frame.height), orientation_of(frame)[0]

    def _frame(self, frame: av.VideoFrame, captured_ns: int) -> Captured:
        shape = self._shape_of(frame)
        restart, self._shape = shape != self._shape, shape
        problem = ""
        try:
            return self._captured(
                lambda out: write_bgr(
                    frame,
                    shape[1],
                    out,
                    reformatter=self._reformatter,
                    name=self._name,
                    pool=self._pool,
                ),
                self._size_wh,
                captured_ns,
                restart=restart,
            )
        except av.error.FFmpegError as error:
            problem = reason_of(error)
        raise SourceError(
            f"{self._name}: pixel format {frame.format.name} cannot be converted ({problem}); "
            "have it send JPEG"
        )


@final
class HttpCameras:
    """Opens an http(s):// address as what it is: a stream, or pictures one at a time.

    It is told by the answer, and remembered for the next time. Called as `pipeline.live.capture`
    wants it; from one thread at a time.

    Args:
        url, options, interval_s: see `SnapshotSource`.
        on_notice: gets sentences for the user.
    """

    def __init__(
        self,
        url: str,
        options: StreamOptions,
        *,
        interval_s: float,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self._url, self._options, self._interval_s = url, options, interval_s
        self._on_notice = on_notice
        self._single = False

    def __call__(self, first_frame_id: int, size_wh: tuple[int, int] | None) -> LiveSource:
        """Opens it.

        Raises:
            SourceError: as the two sources do.
        """
        problem: NotAStreamError | None = None
        if not self._single:
            try:
                return StreamSource(
                    self._url,
                    self._options,
                    first_frame_id=first_frame_id,
                    size_wh=size_wh,
                    on_notice=self._on_notice,
                )
            except NotAStreamError as error:
                problem = error
        self._single = False
        try:
            source = SnapshotSource(
                self._url,
                self._options,
                interval_s=self._interval_s,
                strong_only=problem is not None and problem.refused,
                first_frame_id=first_frame_id,
                size_wh=size_wh,
            )
        except SourceError as error:
            # What is neither is what was tried first.
            raise (error if problem is None else problem) from None
        self._single = True
        return source
