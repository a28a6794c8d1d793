"""Cameras that give single pictures by HTTP: asked again and again."""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import os
import re
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.message import Message
from fractions import Fraction
from typing import Final, NamedTuple, final
from urllib.parse import quote

import av
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from ..core.address import Address, parse_address
from ..core.errors import SourceError, UsageError
from .base import Captured, SourceInfo
from .convert import ColorTags, orientation_of, reason_of, write_bgr
from .live import LIVE_TIME_BASE, LiveSource
from .orientation import Orientation
from .stream import TRUSTED, NotAStreamError, StreamOptions, StreamSource

__all__ = ["HttpCameras", "SnapshotSource"]

_MOST_BYTES: Final = 32 << 20
"""Of one picture. A JPEG of 64 million pixels at quality 90 takes some 20 MB."""

_PATIENCE: Final = 3
"""Intervals without a whole picture after which the camera counts as lost, if that is longer than
`stream.read_timeout_s`: a poll or two may fail."""

_CODECS: Final = (
    (re.compile(rb"\xff\xd8\xff"), "mjpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp"),
    (re.compile(rb"BM"), "bmp"),
)
"""How pictures begin, and FFmpeg's name of who reads them. What a server calls them is not asked:
some say image/jpg, some image/x-anything."""

_CHALLENGE: Final = re.compile(
    r"(?P<scheme>\b(?:Basic|Digest)\b)(?=\s+[\w-]+=)"
    r'|(?P<name>[\w-]+)=(?:"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<plain>[^\s,"]+))',
    re.IGNORECASE,
)
"""Source: RFC 9110, 11.6.1."""

_HASHES: Final = {"SHA-256": "sha256", "MD5": "md5"}
"""Algorithms of RFC 7616, the strongest first."""


class _NoPictureError(Exception):
    """There is no picture this time; says why, in words for the user."""


class _Challenge(NamedTuple):
    scheme: str
    values: dict[str, str]


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
        strong_only: log in only where the server wants what FFmpeg cannot do.
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
        first_frame_id: int = 0,
        size_wh: tuple[int, int] | None = None,
    ) -> None:
        if not 0 < interval_s <= 3600:
            raise UsageError(f"interval_s must be in (0, 3600], got {interval_s:g}")
        try:
            address, problem = parse_address(url), ""
        except ValueError as error:
            address, problem = None, str(error)
        name = "the address given" if address is None else address.shown
        super().__init__(name, first_frame_id=first_frame_id, size_wh=size_wh)
        self._options = options or StreamOptions()
        self._interval_s = interval_s
        self._patience_s = max(self._options.read_timeout_s, _PATIENCE * interval_s)
        self._corrupt = 0
        self._kept = bytearray()  # the last whole picture, for a server that says it is the same
        self._reformatter = VideoReformatter()
        self._asker: _Asker | None = None
        try:
            if address is None or address.scheme not in ("http", "https"):
                problem = problem or "pictures come by http:// or https:// only"
                raise SourceError(f"{name}: {problem}")
            self._asker = _Asker(address, self._options, strong_only=strong_only)
            self._due_s = time.monotonic()
            first = None
            with suppress(_NoPictureError):  # said below
                first = self._ask(self._options.open_timeout_s)
            if first is None:
                raise SourceError(f"{name}: {self._asker.problem}")
            self._first: tuple[av.VideoFrame, int] | None = first
            self._shape = self._shape_of(first[0])
        except BaseException:
            self.close()
            raise
        self._size_wh = self._canvas_wh or self._shape[1].size_of(*self._shape[0])
        tags = ColorTags.of(first[0])
        self._info = SourceInfo(
            size_wh=self._size_wh,
            time_base=LIVE_TIME_BASE,
            average_rate=1 / Fraction(interval_s).limit_denominator(1000),
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
        if self._asker is not None:
            self._asker.close()

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
                assert self._asker is not None  # it was there when it was opened
                raise SourceError(f"{self._name}: {self._asker.problem}")
            now_s = time.monotonic()
            # Who is late by less than an interval catches up; nobody asks in bursts.
            self._due_s = max(self._due_s + self._interval_s, now_s)
            if self._closed.wait(self._due_s - now_s):
                return

    def _next(self) -> tuple[av.VideoFrame, int] | None:
        first, self._first = self._first, None
        if first is not None:
            return first
        with suppress(_NoPictureError):
            return self._ask(self._options.read_timeout_s)
        return None

    def _ask(self, limit_s: float) -> tuple[av.VideoFrame, int]:
        """Returns the next whole picture, and when it came.

        Raises:
            _NoPictureError: there is none this time; `_asker.problem` says why.
            SourceError: it is larger than allowed.
        """
        assert self._asker is not None  # never after `_shut`
        data = self._asker.ask(limit_s, conditional=bool(self._kept))
        captured_ns = time.monotonic_ns()
        frame = self._decoded(self._kept if data is None else data)
        if frame is None:
            self._corrupt += 1
            self._asker.forget()
            raise self._asker.no_picture("what it sends is no whole picture; check the camera")
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
        most = self._options.max_pixels
        context.options = {
            "err_detect": "explode",  # else damage passes, unflagged
            "max_pixels": str(2 * most + 1_000_000),  # FFmpeg counts padding, too; see below
        }
        frames: list[av.VideoFrame] = []
        with suppress(av.error.FFmpegError, OSError):
            frames = [*context.decode(av.Packet(bytes(data))), *context.decode(None)]
        if context.width * context.height > most:
            raise SourceError(
                f"{self._name}: pictures of {context.width}x{context.height} exceed the limit of "
                f"{most} pixels; raise max_pixels if they are meant"
            )
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
                    frame, shape[1], out, reformatter=self._reformatter, name=self._name
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


# --------------------------------------------------------------------------- HTTP


class _Asker:
    """Asks one server for one path, over one connection while the server keeps it."""

    def __init__(self, address: Address, options: StreamOptions, *, strong_only: bool) -> None:
        self._address, self._strong_only = address, strong_only
        path = address.tail.partition("#")[0]
        path = path if path.startswith("/") else f"/{path}"
        self._path = quote(path, safe="".join(map(chr, range(0x21, 0x7F))))
        self._most_bytes = _MOST_BYTES
        host = address.host.removeprefix("[").removesuffix("]")
        self._connection: http.client.HTTPConnection
        if address.scheme == "https":
            trusted = options.ca_file or next(filter(os.path.isfile, TRUSTED), None)
            try:
                context = ssl.create_default_context(cafile=trusted)
            except OSError:
                raise SourceError(
                    f"{trusted}: holds no certificates that can be read; check stream.ca_file"
                ) from None
            if not options.verify_tls:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._connection = http.client.HTTPSConnection(host, address.port, context=context)
        else:
            self._connection = http.client.HTTPConnection(host, address.port)
        self._conditions: dict[str, str] = {}
        self._challenge: _Challenge | None = None
        self._count = itertools.count(1)
        self.problem = ""
        """Why there was no picture the last time."""

    def close(self) -> None:
        """Lets go of the connection."""
        self._connection.close()

    def forget(self) -> None:
        """The last picture was none: the next one is asked for whatever the server thinks."""
        self._conditions = {}

    def no_picture(self, problem: str) -> _NoPictureError:
        """Notes why."""
        self.problem = problem
        return _NoPictureError(problem)

    def ask(self, limit_s: float, *, conditional: bool) -> bytearray | None:
        """Returns what the server gives; None where it is what it gave before.

        Raises:
            _NoPictureError: it gives no picture, or not within `limit_s`.
        """
        end_s = time.monotonic() + limit_s
        problem = ""
        try:
            return self._ask(end_s, conditional=conditional)
        except _NoPictureError:
            raise
        except TimeoutError:
            problem = (
                f"no answer within {limit_s:g} s; "
                "check address and network, and that it is switched on"
            )
        except ConnectionRefusedError:
            problem = "connection refused, nothing listens there; check address and port"
        except ssl.SSLCertVerificationError:
            problem = "its certificate is not trusted; if it is its own, name it (stream.ca_file)"
        except (OSError, http.client.HTTPException, ValueError):
            problem = "no connection: the host is unknown or it hung up; check the address"
        self._connection.close()
        raise self.no_picture(problem)

    def _ask(self, end_s: float, *, conditional: bool) -> bytearray | None:
        response = self._request(end_s, conditional=conditional)
        if response.status == 401:
            self._drop(response)
            self._challenge = self._chosen(response.headers)
            if self._challenge is not None:
                self._count = itertools.count(1)
                response = self._request(end_s, conditional=conditional)
        if response.status == 304 and conditional:
            self._drop(response)
            return None
        kind = response.headers.get_content_type()
        problem = ""
        if response.status in (401, 403):
            self._challenge = None
            problem = (
                "user or password are missing or not accepted; check both, and write special "
                "characters of them as %XX (% itself as %25)"
            )
        elif response.status == 404:
            problem = "the server knows no such path; check it"
        elif 300 <= response.status < 400:
            problem = "redirects, which is not followed; give the address that it leads to"
        elif response.status != 200:
            problem = f"the server answers {response.status}; look at the camera's own page"
        elif response.headers.get_content_maintype() != "image":
            problem = f"what it sends ({kind}) is no picture; check the path"
        if problem:
            self._connection.close()
            raise self.no_picture(problem)
        return self._body(response, end_s)

    def _request(self, end_s: float, *, conditional: bool) -> http.client.HTTPResponse:
        headers: dict[str, str | bytes] = {"Accept": "image/*", "Cache-Control": "no-cache"}
        if conditional:
            headers |= self._conditions
        if self._challenge is not None:
            headers["Authorization"] = self._authorization(self._challenge)
        kept = self._connection.sock is not None
        try:
            return self._send(headers, end_s)
        except (ConnectionError, http.client.BadStatusLine):
            if not kept:
                raise
        # The server has closed the connection that it kept: once more, over a new one.
        self._connection.close()
        return self._send(headers, end_s)

    def _send(self, headers: dict[str, str | bytes], end_s: float) -> http.client.HTTPResponse:
        self._limit(end_s)
        self._connection.request("GET", self._path, headers=headers)
        self._limit(end_s)
        return self._connection.getresponse()

    def _limit(self, end_s: float) -> None:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.timeout = left_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(left_s)

    def _drop(self, response: http.client.HTTPResponse) -> None:
        """Leaves out a body, so that the connection can be used again; a long one ends it."""
        if response.length is None or response.length > 65536 or response.will_close:
            self._connection.close()
        else:
            response.read()

    def _body(self, response: http.client.HTTPResponse, end_s: float) -> bytearray:
        """Returns the picture, and notes how to ask for the next one."""
        headers, data = response.headers, bytearray()
        while True:
            self._limit(end_s)
            piece = response.read1(1 << 16)
            data += piece
            if len(data) > self._most_bytes:
                self._connection.close()
                raise self.no_picture(
                    f"its picture is larger than {self._most_bytes >> 20} MB; have it send less"
                )
            if not piece:
                break
        response.close()  # read1() does not notice that the body ended (Python 3.11)
        if response.length:  # nor that it is short
            self._connection.close()
            raise self.no_picture("its pictures arrive cut short; check camera and network")
        if response.will_close:
            self._connection.close()
        asked = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
        self._conditions = {
            condition: headers[name] for condition, name in asked.items() if headers[name]
        }
        return data

    # ------------------------------------------------------------- passwords (RFC 7616, RFC 7617)

    def _chosen(self, headers: Message) -> _Challenge | None:
        """Returns what to answer to; None where nobody was named or nothing is understood."""
        if self._address.user is None:
            return None
        offered: list[_Challenge] = []
        for line in headers.get_all("WWW-Authenticate", []):
            for part in _CHALLENGE.finditer(line):
                if part["scheme"]:
                    offered.append(_Challenge(part["scheme"].lower(), {}))
                elif offered:
                    quoted = part["quoted"]
                    value = part["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                    offered[-1].values[part["name"].lower()] = value
        digests = [one for one in offered if one.scheme == "digest"]
        for algorithm in _HASHES:
            for one in digests:
                if one.values.get("algorithm", "MD5").upper().removesuffix("-SESS") == algorithm:
                    if self._strong_only and algorithm == "MD5":
                        return None
                    return one
        if self._strong_only:
            return None
        return next((one for one in offered if one.scheme == "basic"), None)

    def _authorization(self, challenge: _Challenge) -> bytes:
        user, password = self._address.user or "", self._address.password
        if challenge.scheme == "basic":
            return b"Basic " + base64.b64encode(f"{user}:{password}".encode())
        values = challenge.values
        algorithm = values.get("algorithm", "MD5")
        name = _HASHES[algorithm.upper().removesuffix("-SESS")]

        def hashed(*words: str) -> str:
            return hashlib.new(name, ":".join(words).encode(), usedforsecurity=False).hexdigest()

        realm, nonce = values.get("realm", ""), values.get("nonce", "")
        count, once = f"{next(self._count):08x}", secrets.token_hex(8)
        who = hashed(user, realm, password)
        if algorithm.upper().endswith("-SESS"):
            who = hashed(who, nonce, once)
        what = hashed("GET", self._path)
        said = {"username": user, "realm": realm, "nonce": nonce, "uri": self._path}
        plain = {"algorithm": algorithm} if "algorithm" in values else {}
        if "qop" in values:
            said["response"] = hashed(who, nonce, count, once, "auth", what)
            said["cnonce"] = once
            plain |= {"qop": "auth", "nc": count}
        else:
            said["response"] = hashed(who, nonce, what)  # RFC 2069
        if "opaque" in values:
            said["opaque"] = values["opaque"]
        words = [f'{key}="{_escaped(value)}"' for key, value in said.items()]
        return f"Digest {', '.join([*words, *(f'{k}={v}' for k, v in plain.items())])}".encode()


def _escaped(text: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", text)
