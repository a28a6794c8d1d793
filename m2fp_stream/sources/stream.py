"""Cameras and servers on the network: RTSP, RTMP, and video or pictures by HTTP."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Final, Literal, NamedTuple, Protocol, cast, final

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from pydantic import BaseModel, ConfigDict, Field

from ..core.address import Address, parse_address
from ..core.errors import SourceError
from .base import MAX_PIXELS, Captured, SourceInfo
from .convert import ColorTags, is_attached, is_hdr, orientation_of, reason_of, write_bgr
from .live import LIVE_TIME_BASE, LiveSource, Pace
from .orientation import Orientation
from .transparency import carries_alpha, refuse_lost_alpha

__all__ = ["TRUSTED", "NotAStreamError", "Piped", "StreamOptions", "StreamSource"]


class _Scheme(NamedTuple):
    protocols: str
    formats: str


_HTTP_FORMATS: Final = "mpegts,mpjpeg,flv,hls,mov,aac"
"""MOV and AAC are what the segments of HLS may be (RFC 8216, 3)."""

_SCHEMES: Final = {
    # FFmpeg's own names. Whatever is not named here cannot be reached: no file, no other protocol.
    "rtsp": _Scheme("rtp,tcp,udp", "rtsp"),
    "rtsps": _Scheme("rtp,tcp,tls", "rtsp"),
    "rtmp": _Scheme("rtmp,tcp", "flv,live_flv"),
    "http": _Scheme("http,tcp,crypto", _HTTP_FORMATS),
    "https": _Scheme("https,http,tcp,tls,crypto", _HTTP_FORMATS),
}

_PIPED: Final = (
    "h264,hevc,mjpeg,jpeg_pipe,mpjpeg,mpegts,mpeg,m4v,yuv4mpegpipe,matroska,flv,ivf,obu,mov,nut"
)
"""What may be piped in: formats that can be told by how they begin and need no looking back."""

_MOST_WHO: Final = 127
"""Bytes of user and password that FFmpeg's RTSP keeps; it cuts off the rest without a word (`char
auth[128]` in libavformat/rtsp.c)."""

_PACED: Final = "hls"
"""Gives seconds of video at once, whole segments of it; all others give frames as they happen."""

TRUSTED: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)
"""Where systems keep the certificates they trust: PyAV's wheels look in one place, Fedora's."""

_OPEN_OPTIONS: Final = {
    # Enough to learn what is sent. Without it opening takes 1.4 s longer (measured: RTSP, 15 fps).
    # `nobuffer` is left out on purpose: it throws away the key frame that was looked at, and the
    # first picture comes a whole group of pictures later (measured: 1.1 instead of 0.5 s).
    "fpsprobesize": "0",
    "analyzeduration": "3000000",
    # HTTP: nothing but what was named. Not another address, not a proxy that the environment names,
    # and no second request that looks for the end of what has none.
    "max_redirects": "0",
    "http_proxy": "",
    "seekable": "0",
}


_WORDS: Final = (
    (
        av.error.ConnectionRefusedError,
        "connection refused, nothing listens there; check address and port",
    ),
    (
        (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError),
        "user or password are missing or not accepted; check both, and write special characters "
        "of them as %XX (% itself as %25)",
    ),
    (av.error.HTTPNotFoundError, "the server knows no such path; check it"),
    (
        av.error.ArgumentError,
        "sends no kind of video that is read here; check the path",
    ),
    (av.error.InvalidDataError, "what it sends is no video that can be read; check the path"),
    (
        av.error.OSError,
        "no connection: the host is unknown, its certificate is not trusted, or it hung up or "
        "redirects; check the address",
    ),
)
"""FFmpeg's errors, the first that fits. It calls an unknown host, a certificate that fails and a
redirect not followed `Input/output error`."""


class StreamOptions(BaseModel):
    """How a network stream is read."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", hide_input_in_errors=True)

    transport: Literal["tcp", "udp"] = Field(
        default="tcp",
        title="RTSP transport",
        description="tcp loses nothing; udp may be faster where the network is good.",
    )
    open_timeout_s: float = Field(
        default=10.0,
        ge=0.5,
        le=120,
        title="Time to open",
        description="Seconds to connect in, and again seconds until the first picture.",
    )
    read_timeout_s: float = Field(
        default=5.0,
        ge=0.5,
        le=120,
        title="Longest silence",
        description="Seconds without a whole picture after which the stream counts as lost.",
    )
    verify_tls: bool = Field(
        default=True,
        title="Check certificates",
        description="Off, rtsps and https are encrypted, but anyone may pose as the server.",
    )
    ca_file: str | None = Field(
        default=None,
        min_length=1,
        title="Certificate file",
        description="PEM file to check certificates with, such as a camera's own certificate.",
    )
    max_pixels: int = Field(
        default=MAX_PIXELS,
        ge=1,
        title="Largest picture",
        description="Width times height above which a stream is refused.",
    )
    threads: int = Field(
        default=1,
        ge=1,
        le=64,
        title="Decoder threads",
        description="With more than one, damaged H.264 pictures may pass as whole.",
    )


class Piped(Protocol):
    """Gives the bytes of a stream that is no address."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def format(self) -> str | None:
        """What FFmpeg calls its format, where that is known; bare pictures, without times."""

    def read(self, size: int) -> bytes:
        """Waits for bytes and returns `size` at most; none at the end."""


@final
class NotAStreamError(SourceError):
    """What answers by HTTP is no stream that FFmpeg reads; it may be a picture.

    Attributes:
        refused: because user or password were not accepted, by FFmpeg's ways to hand them over.
    """

    def __init__(self, problem: str, *, refused: bool = False) -> None:
        super().__init__(problem)
        self.refused = refused


@final
class StreamSource(LiveSource):
    """Reads the video of one network stream: rtsp, rtsps, rtmp, http and https.

    By HTTP it may be MPEG-TS, FLV, JPEG pictures (multipart) or HLS. Frames come upright, as BGR by
    the tagged matrix and range, HDR mapped to SDR; fields of interlaced video are left as they are.
    Sound is never decoded, of RTSP not even asked for. HLS is played at its own pace, everything
    else as it arrives.

    What is damaged is left out, up to the next picture that stands for itself, and counted in
    `corrupt`.

    Only the protocols that the URL's own needs can be used. HTTP does not follow redirects. Two
    things FFmpeg does not let us hold: an RTSP server may redirect to another host (which then gets
    user and password), and an HLS playlist may name other hosts.

    PyAV cannot be closed while it reads: after `close` a read under way lasts `read_timeout_s` at
    most. Construction cannot be ended early; it lasts three times `open_timeout_s` at most, plus
    what the resolver takes to look up a name.

    Args:
        url: with user and password if need be; see `core.address`. Or what is piped in.
        options: limits and transport.
        first_frame_id, size_wh: see `LiveSource`.

    Raises:
        SourceError: no such address, refused, no answer, no video; while iterating: the stream
            ended or went silent. The message never holds a password.
    """

    def __init__(
        self,
        url: str | Piped,
        options: StreamOptions | None = None,
        *,
        first_frame_id: int = 0,
        size_wh: tuple[int, int] | None = None,
    ) -> None:
        place, problem = _address_of(url) if isinstance(url, str) else (url, "")
        if isinstance(place, Address):
            name = place.shown
        else:
            name = "the address given" if place is None else place.name
        super().__init__(name, first_frame_id=first_frame_id, size_wh=size_wh)
        self._options = options or StreamOptions()
        self._corrupt = 0
        self._transparent = False
        self._warnings: dict[str, None] = {}  # a set that keeps order
        self._reformatter = VideoReformatter()
        self._container: InputContainer | None = None
        try:
            if place is None:
                raise SourceError(f"{name}: {problem}")
            container = self._container = self._open(place)
            self._stream = self._choose(container)
            self._paced = container.format.name == _PACED
            decoded = self._decode(container)
            first = next(decoded)
            self._decoded = chain([first], decoded)
            self._info = self._describe(container, first[0])
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> SourceInfo:
        """What is known so far; `warnings` may grow while frames are read."""
        return replace(self._info, warnings=tuple(self._warnings))

    @property
    def corrupt(self) -> int:
        """How many damaged packets and pictures were left out; any thread may ask."""
        return self._corrupt

    def _shut(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    # ----------------------------------------------------------------- opening

    def _kind_of(self, address: Address) -> _Scheme:
        if address.scheme == "srt":
            raise SourceError(
                f"{self._name}: PyAV's FFmpeg has no SRT; have it send by RTSP, or relay it"
            )
        kind = _SCHEMES.get(address.scheme)
        if kind is None:
            raise SourceError(
                f"{self._name}: is no stream that can be read; expected one of "
                f"{', '.join(_SCHEMES)}, then ://, the host and the path"
            )
        if kind.formats == "rtsp" and len(address.who) > _MOST_WHO:
            raise SourceError(
                f"{self._name}: user and password are longer than the {_MOST_WHO} bytes that RTSP "
                "can send here (%XX counts three); choose a shorter password"
            )
        return kind

    def _open(self, place: Address | Piped) -> InputContainer:
        options = self._options
        settings = _OPEN_OPTIONS | self._loose_limit
        if isinstance(place, Address):
            kind = self._kind_of(place)
            target: str | Piped = place.url
        else:
            kind, target = _Scheme("none", _PIPED), place
        settings |= {"protocol_whitelist": kind.protocols, "format_whitelist": kind.formats}
        if kind.formats == "rtsp":
            settings |= {"rtsp_transport": options.transport, "allowed_media_types": "video"}
            if options.transport == "udp":
                settings["rtsp_flags"] = "filter_src"
        if "tls" in kind.protocols:
            settings["tls_verify"] = str(int(options.verify_tls))
            trusted = options.ca_file or next(filter(os.path.isfile, TRUSTED), None)
            if trusted is not None:
                settings["ca_file"] = trusted
            if not options.verify_tls:
                self._warnings["the server's certificate is not checked; anyone may pose as it"] = (
                    None
                )
        limit_s, began_s = options.open_timeout_s, time.monotonic()
        refused = other = False
        try:
            bare = None if isinstance(target, str) else target.format
            if bare is not None:
                settings["analyzeduration"] = "100000"  # more would only be waited for
            return av.open(
                target,
                "r",
                format=bare,
                options=settings,
                timeout=(limit_s, options.read_timeout_s),
                metadata_errors="replace",
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            problem = self._problem(error, began_s, limit_s)
            refused = isinstance(error, av.error.HTTPUnauthorizedError)
            other = isinstance(error, (av.error.ArgumentError, av.error.InvalidDataError))
        # Raised here, for inside the handler it would carry FFmpeg's error, which holds the URL.
        if kind.formats == _HTTP_FORMATS and (refused or other):
            raise NotAStreamError(problem, refused=refused)
        raise SourceError(problem)

    def _problem(self, error: Exception, began_s: float, limit_s: float) -> str:
        """Says what went wrong in what was begun at `began_s`, and what to do."""
        if time.monotonic() - began_s >= limit_s:  # whatever FFmpeg made of being interrupted
            return self._silence(limit_s)
        for kinds, words in _WORDS:
            if isinstance(error, kinds):
                return f"{self._name}: {words}"
        return f"{self._name}: cannot be read ({reason_of(error)}); check address and network"

    def _silence(self, limit_s: float) -> str:
        return (
            f"{self._name}: no answer within {limit_s:g} s; "
            "check address and network, and that it is switched on"
        )

    def _choose(self, container: InputContainer) -> VideoStream:
        pictures = [s for s in container.streams.video if not is_attached(s)]
        if not pictures:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "none at all"
            raise SourceError(f"{self._name}: holds no video (found: {kinds}); check the path")
        decodable = [s for s in pictures if getattr(s, "codec_context", None) is not None]
        if not decodable:
            raise SourceError(f"{self._name}: no decoder for its video; have it send H.264")
        stream = max(decodable, key=lambda one: one.width * one.height)
        self._check_size(stream.width, stream.height)
        # Frame threads would each add the delay of a frame.
        stream.thread_type = "SLICE"
        stream.thread_count = self._options.threads
        settings = self._loose_limit
        if stream.codec_context.name == "mjpeg":
            settings["err_detect"] = "explode"  # its decoder flags no damage
        stream.codec_context.options = settings
        stream.codec_context.flags |= Flags.low_delay
        return stream

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._options.max_pixels:
            raise SourceError(
                f"{self._name}: pictures of {width}x{height} exceed the limit of "
                f"{self._options.max_pixels} pixels; raise max_pixels if they are meant"
            )

    @property
    def _loose_limit(self) -> dict[str, str]:
        # See FileSource: FFmpeg counts padding, too; _check_size() is exact.
        return {"max_pixels": str(2 * self._options.max_pixels + 1_000_000)}

    def _describe(self, container: InputContainer, first: av.VideoFrame) -> SourceInfo:
        self._check_size(first.width, first.height)
        orientation = self._orientation_of(first)
        self._shape = (first.width, first.height, orientation)
        upright_wh = orientation.size_of(first.width, first.height)
        self._size_wh = self._canvas_wh or upright_wh
        if is_hdr(first):
            self._warnings["HDR video becomes SDR"] = None
        ratio = self._stream.sample_aspect_ratio or None
        if ratio is not None and orientation.transpose:
            ratio = 1 / ratio
        tags = ColorTags.of(first)
        return SourceInfo(
            size_wh=self._size_wh,
            time_base=LIVE_TIME_BASE,
            sample_aspect_ratio=ratio,
            average_rate=self._stream.average_rate or self._stream.guessed_rate,
            color_primaries=tags.primaries,
            color_trc=tags.trc,
            colorspace=tags.matrix,
            color_range=tags.range,
            has_audio=bool(container.streams.audio),
            dropped_streams=tuple(
                one.type for one in container.streams if one.index != self._stream.index
            ),
        )

    # ----------------------------------------------------------------- reading

    def _decode(self, container: InputContainer) -> Iterator[tuple[av.VideoFrame, int]]:
        """Gives whole pictures and the time they came at, until the stream ends: an error."""
        packets = container.demux()  # all streams, so that sound alone cannot hide a lost picture
        limit_s, last_s, waiting = self._options.open_timeout_s, time.monotonic(), False
        while True:
            problem, began_s = "", time.monotonic()
            try:
                packet = next(packets)
            except (StopIteration, IndexError):  # the latter: see `FileSource._packets`
                problem = f"{self._name}: ended; check the sender, then start again"
            except (av.error.FFmpegError, OSError) as error:
                problem = (
                    f"{self._name}: connection lost ({reason_of(error)}); "
                    "check sender and network, then start again"
                )
            # Interrupted, RTSP still gives what it holds.
            if time.monotonic() - began_s >= self._options.read_timeout_s:
                problem = self._silence(self._options.read_timeout_s)
            if self._closed.is_set():
                return
            if problem:
                raise SourceError(problem)
            if packet.stream.index == self._stream.index:
                for frame in self._pictures(cast("av.Packet[VideoStream]", packet)):
                    # What follows a damaged picture is made from it, and not flagged.
                    waiting = frame is None or (waiting and not _stands_alone(frame))
                    if frame is not None and not waiting:
                        yield frame, time.monotonic_ns()
                        limit_s, last_s = self._options.read_timeout_s, time.monotonic()
            if time.monotonic() - last_s > limit_s:
                raise SourceError(
                    f"{self._name}: no whole picture came for {limit_s:g} s; "
                    "check camera and network, or raise the time-out"
                )

    def _pictures(self, packet: av.Packet[VideoStream]) -> Iterator[av.VideoFrame | None]:
        """Gives the pictures of a packet, None for a damaged one."""
        # Segments of HLS may each count from 0, which reads like a loss.
        if packet.is_corrupt and not self._paced:
            self._corrupt += 1
            yield None
            return
        self._transparent |= carries_alpha(self._stream, packet)
        frames = None
        with suppress(av.error.FFmpegError, OSError):
            frames = self._stream.decode(packet)
        if frames is None:
            context = self._stream.codec_context
            self._check_size(context.width, context.height)
            self._corrupt += 1
            yield None
        for frame in frames or ():
            if self._transparent:
                refuse_lost_alpha(frame, self._name)
            self._corrupt += frame.is_corrupt
            yield None if frame.is_corrupt else frame

    def _capture(self) -> Iterator[Captured]:
        self._check_open()
        pace = Pace(self._closed) if self._paced else None
        while True:
            given = self._read(lambda: next(self._decoded, None))
            if given is None:
                return
            frame, captured_ns = given
            if pace is not None and frame.pts is not None and frame.time_base:
                pace.wait(float(frame.pts * frame.time_base))
                captured_ns = time.monotonic_ns()
            if self._closed.is_set():
                return
            yield self._frame(frame, captured_ns)

    def _frame(self, frame: av.VideoFrame, captured_ns: int) -> Captured:
        self._check_size(frame.width, frame.height)
        orientation = self._orientation_of(frame)
        shape = (frame.width, frame.height, orientation)
        restart = shape != self._shape
        if restart:
            self._shape = shape
            self._warnings["the picture's size changes; it is fitted into the first size"] = None
        problem = ""
        try:
            return self._captured(
                lambda out: write_bgr(
                    frame, orientation, out, reformatter=self._reformatter, name=self._name
                ),
                self._size_wh,
                captured_ns,
                restart=restart,
            )
        except av.error.FFmpegError as error:
            problem = reason_of(error)
        raise SourceError(
            f"{self._name}: pixel format {frame.format.name} cannot be converted ({problem}); "
            "have it send H.264"
        )

    def _orientation_of(self, frame: av.VideoFrame) -> Orientation:
        orientation, odd = orientation_of(frame)
        if odd:
            self._warnings[
                "the picture is rotated by an odd angle; the nearest right angle is used"
            ] = None
        return orientation


def _address_of(url: str) -> tuple[Address | None, str]:
    """Returns the address, or None and what is wrong with it, in words that quote nothing of it."""
    try:
        return parse_address(url), ""
    except ValueError as error:
        return None, str(error)


def _stands_alone(frame: av.VideoFrame) -> bool:
    return bool(frame.key_frame) or frame.pict_type == PictureType.I
