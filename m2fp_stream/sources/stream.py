"""Cameras and servers on the network: RTSP, RTMP, and video or pictures by HTTP."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Annotated, Final, Literal, NamedTuple, Protocol, cast, final

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from pydantic import Field

from ..core.address import Address, parse_address
from ..core.errors import SourceError
from ..options import Options
from .base import MAX_PIXELS, Captured, SourceInfo
from .convert import ColorTags, is_attached, is_hdr, orientation_of, reason_of, write_bgr
from .live import LIVE_TIME_BASE, LiveSource, Pace
from .orientation import Orientation
from .transparency import carries_alpha, refuse_lost_alpha
from .whole import Wholeness

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


_SAID_AFTER_S: Final = 1.0
"""Packets that bring no whole picture for longer are worth a word. The key frames of a camera that
is set up for live viewing are closer together."""

_DISTANCES: Final = 10
"""How many key frames in a row may be damaged before a stream counts as lost. Of a key frame in 100
packets, 13 % come whole where 2 % of the packets are lost: three in four times one of 10 does."""

_LOSS: Final = "RTP: missed"
"""FFmpeg's words (libavformat/rtpdec.c) for a hole in the numbers of RTP packets (RFC 3550, 5.1).
It marks no packet; and what lacks its middle may decode without complaint."""


class StreamOptions(Options):
    """How a network stream is read."""

    transport: Annotated[
        Literal["tcp", "udp"],
        Field(
            title="RTSP transport",
            description="tcp loses nothing; udp may be faster where the network is good.",
        ),
    ] = "tcp"
    open_timeout_s: Annotated[
        float,
        Field(
            title="Time to open",
            description="Seconds to connect in, and again seconds until the first packet.",
            ge=0.5,
            le=120,
        ),
    ] = 10.0
    read_timeout_s: Annotated[
        float,
        Field(
            title="Longest silence",
            description="Seconds without a packet of video after which the stream counts as lost.",
            ge=0.5,
            le=120,
        ),
    ] = 5.0
    key_frame_timeout_s: Annotated[
        float,
        Field(
            title="Longest wait for a key frame",
            description=(
                "Seconds in which packets come but no whole picture, after which the stream "
                "counts as lost. Once key frames have come: ten times their distance if that is "
                "less (never less than read_timeout_s), three times if that is more."
            ),
            ge=0.5,
            le=3600,
        ),
    ] = 60.0
    verify_tls: Annotated[
        bool,
        Field(
            title="Check certificates",
            description="Off, rtsps and https are encrypted, but anyone may pose as the server.",
        ),
    ] = True
    ca_file: Annotated[
        str | None,
        Field(
            title="Certificate file",
            description="PEM file to check certificates with, such as a camera's own certificate.",
            min_length=1,
        ),
    ] = None
    max_pixels: Annotated[
        int,
        Field(
            title="Largest picture",
            description="Width times height above which a stream is refused.",
            ge=1,
        ),
    ] = MAX_PIXELS
    threads: Annotated[
        int,
        Field(
            title="Decoder threads",
            description="H.264 takes one, for with more its damaged pictures would pass as whole.",
            ge=1,
            le=64,
        ),
    ] = 1


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

    What is damaged, and what is made from lost or damaged pictures, is left out (`whole`), up to
    the next key frame or the end of a refresh. While packets come, those are waited for, and
    `waiting_for` says so.

    Only the protocols that the URL's own needs can be used. HTTP does not follow redirects. Two
    things FFmpeg does not let us hold: an RTSP server may redirect to another host (which then gets
    user and password), and an HLS playlist may name other hosts.

    PyAV cannot be closed while it reads: after `close` a read under way lasts `read_timeout_s` at
    most. Construction cannot be ended early; it lasts three times `open_timeout_s` at most, or
    twice and `key_frame_timeout_s` where packets come, plus what the resolver takes to look up a
    name.

    Args:
        url: with user and password if need be; see `core.address`. Or what is piped in.
        options: limits and transport.
        first_frame_id, size_wh: see `LiveSource`.
        on_notice: gets sentences for the user, from the thread that constructs or reads.

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
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        place, problem = _address_of(url) if isinstance(url, str) else (url, "")
        if isinstance(place, Address):
            name = place.shown
        else:
            name = "the address given" if place is None else place.name
        super().__init__(name, first_frame_id=first_frame_id, size_wh=size_wh)
        self._options = options or StreamOptions()
        self._notice = on_notice or (lambda _: None)
        self._waiting_for: str | None = None
        self._left_out = 0
        self._unjoined = 0  # damage before the stream could be joined, which is none
        self._transparent = False
        self._warnings: dict[str, None] = {}  # a set that keeps order
        self._reformatter = VideoReformatter()
        self._container: InputContainer | None = None
        self._hears = False
        try:
            if place is None:
                raise SourceError(f"{name}: {problem}")
            container = self._container = self._open(place)
            self._stream = self._choose(container)
            self._wholeness = Wholeness.of(self._stream, joining=True)
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
        """How often packets were damaged or missing, or a picture damaged; any thread may ask."""
        return self._wholeness.lost - self._unjoined

    @property
    def left_out(self) -> int:
        """How many decoded pictures were not given, for want of whole ones; any thread may ask."""
        return self._left_out

    @property
    def waiting_for(self) -> str | None:
        """What is waited for while packets come but no whole picture; any thread may ask."""
        return self._waiting_for

    def _shut(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None
        if self._hears:
            self._hears = False
            _hear_no_more()

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
        # Frame threads would each add the delay of a frame. With more than one for slices, FFmpeg
        # marks no damaged H.264 pictures (measured: 0 of 20 with a slice left out or cut short).
        stream.thread_type = "SLICE"
        stream.thread_count = 1 if stream.codec_context.name == "h264" else self._options.threads
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
        lossy = self._options.transport == "udp" and container.format.name == "rtsp"
        if lossy:
            self._hears = True
            _hear_losses()
        silence_s, heard_s = self._options.open_timeout_s, time.monotonic()
        keys = _KeyFrames(self._options.key_frame_timeout_s, self._options.read_timeout_s)
        while True:
            problem, began_s, missed = "", time.monotonic(), False
            try:
                if lossy:
                    with av.logging.Capture() as lines:  # of this thread, which may be another
                        packet = next(packets)
                    missed = any(line.startswith(_LOSS) for _, _, line in lines)
                else:
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
                silence_s, heard_s = self._options.read_timeout_s, time.monotonic()
                for frame in self._pictures(cast("av.Packet[VideoStream]", packet), missed):
                    yield frame, time.monotonic_ns()
                    heard_s = keys.shown()
                keys.joined(self._wholeness.joined)
                if not self._wholeness.joined:
                    self._unjoined = self._wholeness.lost
                self._tell(keys)
            if time.monotonic() - heard_s > silence_s:
                raise SourceError(
                    f"{self._name}: no whole picture came for {silence_s:g} s; "
                    "check camera and network, or raise the time-out"
                )
            if keys.waited_s > keys.longest_s:
                raise SourceError(
                    f"{self._name}: packets came, but no key frame for {keys.longest_s:.0f} s; "
                    "have it send key frames more often, or raise key_frame_timeout_s"
                )

    def _tell(self, keys: _KeyFrames) -> None:
        waits = keys.waited_s > _SAID_AFTER_S
        if waits and self._waiting_for is None:
            self._waiting_for = "a key frame"
            self._notice(
                "packets come, but no whole picture; waiting for a key frame, "
                f"{keys.longest_s:.0f} s at most"
            )
        elif not waits and self._waiting_for is not None:
            self._waiting_for = None
            self._notice("a key frame came")

    def _pictures(self, packet: av.Packet[VideoStream], missed: bool) -> Iterator[av.VideoFrame]:
        """Gives the whole pictures of a packet; `missed`: something is missing there."""
        if self._paced:
            packet.is_corrupt = False  # segments of HLS may each count from 0: reads like a loss
        self._wholeness.take(packet)
        if missed:
            self._wholeness.lose(near=True)
        self._transparent |= carries_alpha(self._stream, packet)
        frames = None
        with suppress(av.error.FFmpegError, OSError):
            frames = self._stream.decode(packet)
        if frames is None:
            context = self._stream.codec_context
            self._check_size(context.width, context.height)
            self._wholeness.lose()
        for frame in frames or ():
            if self._transparent:
                refuse_lost_alpha(frame, self._name)
            if self._wholeness.whole(frame):
                yield frame
            else:
                self._left_out += 1

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


@final
class _KeyFrames:
    """How far apart the places are at which a stream can be joined, and how long to wait for one.

    Args:
        patience_s: waited for one at most while their distance is not known.
        least_s: waited for one at least.
    """

    def __init__(self, patience_s: float, least_s: float) -> None:
        self._patience_s, self._least_s = patience_s, least_s
        self._shown_s = time.monotonic()
        self._count, self._came_s = 0, 0.0
        self._distance_s: float | None = None

    def shown(self) -> float:
        """Notes that a whole picture was given; returns when."""
        self._shown_s = time.monotonic()
        return self._shown_s

    def joined(self, count: int) -> None:
        """Notes how many such places have come so far."""
        now_s = time.monotonic()
        if count > self._count:
            if self._count:
                self._distance_s = max(self._distance_s or 0.0, now_s - self._came_s)
            self._count, self._came_s = count, now_s

    @property
    def waited_s(self) -> float:
        """How long no whole picture has been given."""
        return time.monotonic() - self._shown_s

    @property
    def longest_s(self) -> float:
        """How long that may last."""
        if self._distance_s is None:
            return self._patience_s
        distances_s = min(self._patience_s, _DISTANCES * self._distance_s)
        return max(self._least_s, distances_s, 3 * self._distance_s)


def _hear_losses() -> None:
    """Has FFmpeg report holes to the thread that reads, and to nobody else."""
    # Its lines may hold addresses and passwords. Without a handler, Python writes them to stderr.
    library = logging.getLogger("libav")
    library.propagate = False
    if not library.handlers:
        library.addHandler(logging.NullHandler())
    with _hearing:
        _listeners.append(1)
        av.logging.set_skip_repeated(False)
        av.logging.set_level(av.logging.WARNING)


def _hear_no_more() -> None:
    """Switches the reports off with the last who hears them.

    A decoder that is freed waits for its threads with the interpreter's lock held, for which a
    thread that reports waits in turn: of films with several threads one would hang for ever.
    """
    with _hearing:
        _listeners.pop()
        if not _listeners:
            av.logging.set_level(None)


_hearing: Final = threading.Lock()
_listeners: Final[list[int]] = []
