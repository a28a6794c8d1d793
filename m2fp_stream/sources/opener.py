"""Opens containers with FFmpeg: a file that is open already, an address, or what is piped in.

The only file of the sources that hands FFmpeg something to open. What it may use for that is named
here: demuxers and protocols, time-outs, the largest picture, whom it trusts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, Final, NamedTuple, NoReturn, Protocol, final

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from ..core.address import Address, parse_address
from ..core.errors import SourceError
from .convert import is_attached, reason_of
from .options import StreamOptions

__all__ = [
    "TRUSTED",
    "NotAStreamError",
    "Piped",
    "address_or_problem",
    "check_size",
    "decodable_videos",
    "let_go",
    "loose_limit",
    "no_answer",
    "open_file",
    "open_stream",
    "trusted_certificates",
]

_FILE_FORMATS: Final = (
    "aac,apng,asf,av1,avi,dhav,dv,flac,flv,gif,gxf,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp3,"
    "mpeg,mpegts,mpegvideo,mpjpeg,mxf,nut,obu,ogg,rm,vc1,wav,webm,wtv,yuv4mpegpipe"
)
"""Demuxers that may run: containers of pictures and sound in one file. Left out on purpose:
playlists and everything else that opens other files or the network (hls, concat, dash, imf, sdp,
image2...). The audio ones are there so that an audio file is called one."""


class _Scheme(NamedTuple):
    """FFmpeg's names of what may be used for an address."""

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

_PADDING_PIXELS: Final = 1_000_000
"""Chosen: beside the double of a picture it leaves room for what decoders pad (each side to 128 at
most, and some rows), which FFmpeg counts, too. `check_size` is exact."""

_FILE_BUFFER_BYTES: Final = 1 << 18
_STREAM_BUFFER_BYTES: Final = 1 << 15
"""Read at a time: PyAV's own 32 KB for what is piped in; chosen for files: eight times that, for
fewer calls back into Python."""

_MOST_BYTES: Final = 1 << 20
"""Read at a time, whatever is asked for. Chosen: four times what is read usually."""

_KNOWN_FORMAT_US: Final = "100000"
"""How long (microseconds of video) what is piped in is looked at when its format is known. Chosen:
a few pictures, for what is longer would only be waited for."""


class Piped(Protocol):
    """Gives the bytes of a stream that is no address."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def format(self) -> str | None:
        """What FFmpeg calls its format, where that is known; bare pictures, without times.

        Raises:
            OSError: nothing came that would tell.
        """

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


def open_file(file: BinaryIO, name: str, *, max_pixels: int) -> InputContainer:
    """Opens a video file.

    An open file, not a name: no URL and no protocol prefix can reach FFmpeg. It may open no other.

    Args:
        file: as `open_regular` gives it; stays the caller's to close.
        name: for messages.
        max_pixels: see `loose_limit`.

    Raises:
        SourceError: it is no video that can be read.
    """
    settings = {"format_whitelist": _FILE_FORMATS, "protocol_whitelist": "none"}
    try:
        return _opened(
            file,
            settings | loose_limit(max_pixels),
            buffer_size=_FILE_BUFFER_BYTES,
            io_open=_refuse_other_files,
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(
            f"{name}: is not a video that can be read "
            f"({reason_of(error)}); check that the file is complete, or convert it to MP4 first"
        ) from None


def open_stream(
    place: Address | Piped,
    name: str,
    options: StreamOptions,
    *,
    on_warning: Callable[[str], None],
    trusted: Sequence[str] = TRUSTED,
) -> InputContainer:
    """Opens a stream: connects, and reads as far as FFmpeg needs to know what comes.

    Args:
        place: an address, or who gives the bytes.
        name: for messages; holds no password.
        options: time-outs, transport, trust, the largest picture.
        on_warning: gets a sentence for the user.
        trusted: where certificates are looked for that the system trusts.

    Raises:
        NotAStreamError: what answers by HTTP is something else.
        SourceError: no such scheme, refused, no answer, no video. The message never holds the URL.
    """
    scheme = _scheme_of(place, name) if isinstance(place, Address) else _Scheme("none", _PIPED)
    if "tls" in scheme.protocols and not options.verify_tls:
        on_warning("the server's certificate is not checked; anyone may pose as it")
    settings = _settings(scheme, options, trusted)
    limit_s, began_s = options.open_timeout_s, time.monotonic()
    refused = other = False
    try:
        known = None if isinstance(place, Address) else place.format
        if known is not None:
            settings["analyzeduration"] = _KNOWN_FORMAT_US
        return _opened(
            place.url if isinstance(place, Address) else place,
            settings,
            known=known,
            timeout=(limit_s, options.read_timeout_s),
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        problem = _problem(error, name, began_s, limit_s)
        refused = isinstance(error, av.error.HTTPUnauthorizedError)
        other = isinstance(error, (av.error.ArgumentError, av.error.InvalidDataError))
    # Raised here, for inside the handler it would carry FFmpeg's error, which holds the URL.
    if scheme.formats == _HTTP_FORMATS and (refused or other):
        raise NotAStreamError(problem, refused=refused)
    raise SourceError(problem)


def trusted_certificates(options: StreamOptions, places: Sequence[str] = TRUSTED) -> str | None:
    """Returns the file of certificates to check with; None where none is known."""
    return options.ca_file or next(filter(os.path.isfile, places), None)


def address_or_problem(url: str) -> tuple[Address | None, str]:
    """Returns the address, or None and what is wrong with it, in words that quote nothing of it."""
    try:
        return parse_address(url), ""
    except ValueError as error:
        return None, str(error)


def loose_limit(max_pixels: int) -> dict[str, str]:
    """Returns the decoder's option that keeps it from allocating for a hostile size.

    FFmpeg counts what decoders pad; `check_size` is exact.
    """
    return {"max_pixels": str(2 * max_pixels + _PADDING_PIXELS)}


def check_size(name: str, size_wh: tuple[int, int], max_pixels: int) -> None:
    """Refuses a picture that is larger than allowed.

    Raises:
        SourceError: it is.
    """
    width, height = size_wh
    if width * height > max_pixels:
        raise SourceError(
            f"{name}: pictures of {width}x{height} exceed the limit of "
            f"{max_pixels} pixels; raise max_pixels if they are meant"
        )


def decodable_videos(
    container: InputContainer, name: str, *, missing: str, unreadable: str
) -> list[VideoStream]:
    """Returns the streams of moving pictures that there is a decoder for; one at least.

    Args:
        container: where they are looked for.
        name: for messages.
        missing: says that there are no pictures; ``{kinds}`` is what there is.
        unreadable: says that there is no decoder.

    Raises:
        SourceError: there is none.
    """
    pictures = [stream for stream in container.streams.video if not is_attached(stream)]
    if not pictures:
        kinds = ", ".join(sorted({one.type for one in container.streams})) or "none at all"
        raise SourceError(f"{name}: {missing.format(kinds=kinds)}")
    found = [one for one in pictures if getattr(one, "codec_context", None) is not None]
    if not found:
        raise SourceError(f"{name}: {unreadable}")
    return found


def let_go(container: InputContainer) -> None:
    """Closes a container whose packets were marked (`whole`), with idle decoders.

    A decoder's threads (FFmpeg's own, dav1d's) let go of the marks, for which each wants the
    interpreter's lock. Who frees a decoder holds it, and waits for them: for ever. Who flushes one
    does not hold it.
    """
    for stream in container.streams.video:
        if (context := getattr(stream, "codec_context", None)) is not None:
            context.flush_buffers()
    container.close()


def no_answer(name: str, limit_s: float) -> str:
    """Says that nothing came for so long, and what to do."""
    return (
        f"{name}: no answer within {limit_s:g} s; "
        "check address and network, and that it is switched on"
    )


@final
class _InPieces:
    """Reads a piece at a time, whatever FFmpeg asks for: a header may claim gigabytes.

    Python makes room for all that is asked for before it reads what there is.
    """

    def __init__(self, file: BinaryIO | Piped) -> None:
        self._file = file
        self.name = getattr(file, "name", "a file")
        for name in ("seek", "tell"):  # what lacks them is read from front to back
            if (method := getattr(file, name, None)) is not None:
                setattr(self, name, method)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, _MOST_BYTES))


def _opened(
    target: str | BinaryIO | Piped,
    settings: Mapping[str, str],
    *,
    known: str | None = None,
    timeout: tuple[float, float] | None = None,
    buffer_size: int = _STREAM_BUFFER_BYTES,
    io_open: Callable[..., object] | None = None,
) -> InputContainer:
    return av.open(
        target if isinstance(target, str) else _InPieces(target),
        "r",
        format=known,
        options=dict(settings),
        metadata_errors="replace",
        buffer_size=buffer_size,
        timeout=timeout,
        io_open=io_open,
    )


def _scheme_of(address: Address, name: str) -> _Scheme:
    if address.scheme == "srt":
        raise SourceError(f"{name}: PyAV's FFmpeg has no SRT; have it send by RTSP, or relay it")
    scheme = _SCHEMES.get(address.scheme)
    if scheme is None:
        raise SourceError(
            f"{name}: is no stream that can be read; expected one of "
            f"{', '.join(_SCHEMES)}, then ://, the host and the path"
        )
    if scheme.formats == "rtsp" and len(address.who) > _MOST_WHO:
        raise SourceError(
            f"{name}: user and password are longer than the {_MOST_WHO} bytes that RTSP "
            "can send here (%XX counts three); choose a shorter password"
        )
    return scheme


def _settings(scheme: _Scheme, options: StreamOptions, places: Sequence[str]) -> dict[str, str]:
    settings = _OPEN_OPTIONS | loose_limit(options.max_pixels)
    settings |= {"protocol_whitelist": scheme.protocols, "format_whitelist": scheme.formats}
    if scheme.formats == "rtsp":
        settings |= {"rtsp_transport": options.transport, "allowed_media_types": "video"}
        if options.transport == "udp":
            settings["rtsp_flags"] = "filter_src"
    if "tls" in scheme.protocols:
        settings["tls_verify"] = str(int(options.verify_tls))
        trusted = trusted_certificates(options, places)
        if trusted is not None:
            settings["ca_file"] = trusted
    return settings


def _problem(error: Exception, name: str, began_s: float, limit_s: float) -> str:
    """Says what went wrong in what was begun at `began_s`, and what to do."""
    if time.monotonic() - began_s >= limit_s:  # whatever FFmpeg made of being interrupted
        return no_answer(name, limit_s)
    for kinds, words in _WORDS:
        if isinstance(error, kinds):
            return f"{name}: {words}"
    return f"{name}: cannot be read ({reason_of(error)}); check address and network"


def _refuse_other_files(*_: object) -> NoReturn:
    raise PermissionError("a video may not open other files")
