"""A small HTTP server for players and recorders: MPEG-TS without end, and HLS, all from memory.

It gives out composed pictures alone, on this computer only unless told otherwise, and to nobody
without the token.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import ipaddress
import logging
import math
import re
import secrets
import socket
import socketserver
import threading
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self, cast, final
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import Field, field_validator, model_validator

from ..core.errors import SinkError
from ..core.safe import SafeFrame
from ..options import Options
from .base import Sink
from .live_encoder import TICK, EncodedFrame, LiveEncoder, Muxer
from .video_file import Preset

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ServeOptions", "ServeSink"]

_log = logging.getLogger(__name__)

_MAX_CLIENTS: Final = 16
"""Connections at a time that have named the token; one more is turned away."""

_MAX_ASKING: Final = 16
"""Connections that have not named it; the oldest makes room for the newest, so that nobody can keep
others out by connecting and saying nothing."""

_MAX_CONNECTIONS: Final = _MAX_CLIENTS + 2 * _MAX_ASKING
"""All, with those that are ending. Beyond that the newest is turned away: each has a thread."""

_CLIENT_BYTES: Final = 4 << 20
"""What waits for one client of the stream without end; beyond that it goes on with the next key
frame. At 4 Mbit/s: 8 seconds."""

_SEGMENT_BYTES: Final = 128 << 20
"""What all HLS segments together may take; beyond that the oldest go early."""

_SEND_BUFFER_BYTES: Final = 256 << 10
"""The kernel's share of what waits for a client; its own default may hold many seconds."""

_CLIENT_TIMEOUT_S: Final = 10.0
"""A client whose request has not come as a whole after so long, or that takes nothing for so long,
is disconnected."""

_FIRST_PLAYLIST_S: Final = 10.0
"""How long a playlist may wait for the first segment to be complete."""

_GOODBYE_S: Final = 2.0
"""How long clients may take the last pictures after the end."""

_TS: Final = "video/mp2t"
_M3U8: Final = "application/vnd.apple.mpegurl"
"""Source: RFC 8216, sections 10 and 4."""

_SEGMENT_PATH: Final = re.compile(r"/segment-([0-9]{1,18})\.ts")


class ServeOptions(Options):
    """How the live picture is offered to players."""

    enabled: Annotated[
        bool,
        Field(
            title="Serve",
            description=(
                "Offer the covered picture at http://HOST:PORT/live.m3u8 (HLS) and /live.ts."
            ),
        ),
    ] = False
    host: Annotated[
        str,
        Field(
            title="Address",
            description="The IP address to listen at; 127.0.0.1 is this computer only.",
        ),
    ] = "127.0.0.1"
    allow_remote: Annotated[
        bool,
        Field(
            title="Other computers may watch",
            description=(
                "Needed for any address but this computer's own, together with a token. The "
                "picture and the token then cross the network unencrypted."
            ),
        ),
    ] = False
    port: Annotated[
        int, Field(title="Port", description="0 takes any free one.", ge=0, le=65_535)
    ] = 8090
    token: Annotated[
        str | None,
        Field(
            title="Token",
            description="Who watches has to name it (?token=...); none: a new one for each run.",
            min_length=16,
            max_length=200,
            pattern=r"^[A-Za-z0-9._~-]+$",
            repr=False,
        ),
    ] = None
    segment_s: Annotated[
        float,
        Field(
            title="Length of an HLS segment",
            description="Seconds; rounded up to whole intervals between key frames.",
            ge=0.5,
            le=10,
        ),
    ] = 1.0
    window: Annotated[
        int, Field(title="HLS segments", description="How many the playlist names.", ge=3, le=60)
    ] = 6
    keyframe_s: Annotated[
        float,
        Field(
            title="Key frame every",
            description="Seconds; somebody who begins to watch waits that long for a picture.",
            ge=0.2,
            le=10,
        ),
    ] = 1.0
    preset: Annotated[
        Preset,
        Field(
            title="Speed of encoding",
            description="x264's preset: slower ones need less bandwidth for the same quality.",
        ),
    ] = "ultrafast"

    @field_validator("host")
    @classmethod
    def _an_address(cls, host: str) -> str:
        try:
            _address(host)
        except ValueError:
            raise ValueError("expected an IP address or localhost") from None
        return host

    @model_validator(mode="after")
    def _closed_by_default(self) -> Self:
        if not _address(self.host).is_loopback:
            if not self.allow_remote:
                raise ValueError(
                    "host is open to other computers; set allow_remote: true or use 127.0.0.1"
                )
            if self.token is None:
                raise ValueError("host is open to other computers; set a token of your own")
        return self


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)


@final
class ServeSink(Sink[SafeFrame]):
    """Serves frames by HTTP to at most 16 clients at a time; `write` never waits for one.

    ``/live.ts`` is MPEG-TS without end, from the next key frame on; a client that does not keep up
    misses pictures, up to a key frame. ``/live.m3u8`` is HLS (RFC 8216, version 3), its last
    segments held in memory. Both want the token, as ``?token=...`` or ``Authorization: Bearer``,
    and a Host header that names this server's address, so that no web page can reach it under a
    name of its own. `finish` and `abort` end every connection and every thread.

    Args:
        options: see `ServeOptions`.
        size_wh: (width, height) of every frame.
        time_base: seconds a tick of the frames' `pts`.

    Raises:
        SinkError: it cannot listen there, or the size cannot be encoded; nothing was started.
    """

    accepts: ClassVar[type] = SafeFrame

    def __init__(
        self, options: ServeOptions, *, size_wh: tuple[int, int], time_base: Fraction
    ) -> None:
        super().__init__()
        self._encoder = LiveEncoder(
            size_wh, time_base, preset=options.preset, keyframe_s=options.keyframe_s
        )
        self._bytes = _Bytes()
        self._muxer = Muxer(self._bytes, "mpegts", self._encoder.coded_size_wh)
        self._token = options.token or secrets.token_urlsafe(24)
        self._channel = _Channel(options)
        address = str(_address(options.host))
        try:
            self._server = _Server((address, options.port), self._channel, self._token)
        except OSError as error:
            raise SinkError(
                f"{options.host}:{options.port}: cannot listen there ({error.strerror}); "
                "choose another address or port"
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="serve", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and the port it listens at."""
        return self._server.host, self._server.port

    @property
    def token(self) -> str:
        """What a client has to name; keep it out of logs."""
        return self._token

    @property
    def clients(self) -> int:
        """How many connections there are."""
        return self._server.clients

    def _emit(self, item: SafeFrame) -> None:
        frame = self._encoder.encode(item)
        self._muxer.write(frame)
        self._channel.publish(frame, self._bytes.take())

    def _finish(self) -> None:
        self._muxer.close()
        self._channel.end()
        self._close(_GOODBYE_S)

    def _abort(self) -> None:
        self._channel.end()
        self._close(0)

    def _close(self, grace_s: float) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.disconnect_all(grace_s)


@final
class _Bytes:
    """Collects what the muxer writes for one frame."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._parts.append(data)
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


@final
@dataclass(frozen=True, slots=True)
class _Segment:
    number: int
    duration_s: float
    data: bytes


@final
class _Queue:
    """What one client of the stream without end has still to get; guarded by its channel."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.at_key = False

    def put(self, data: bytes, *, key: bool) -> None:
        if self.chunks and self.size + len(data) > _CLIENT_BYTES:
            self.chunks.clear()
            self.size = 0
            self.at_key = False
        self.at_key = self.at_key or key
        if self.at_key:
            self.chunks.append(data)
            self.size += len(data)


@final
class _Channel:
    """The encoded stream, between the thread that writes frames and those that serve clients."""

    def __init__(self, options: ServeOptions) -> None:
        self._segment_ticks = round(Fraction(options.segment_s) / TICK)
        self._window = options.window
        # RFC 8216, 4.3.3.1: no segment may be longer, rounded, and it must not change. A segment
        # ends with the first key frame that is late enough, which comes one frame after its time.
        self._target_s = math.ceil(options.segment_s + options.keyframe_s + 0.5)
        self._changed = threading.Condition()
        self._segments: deque[_Segment] = deque()
        self._growing: list[bytes] = []
        self._began = 0
        self._number = 0
        self._queues: set[_Queue] = set()
        self._ended = False

    def publish(self, frame: EncodedFrame, data: bytes) -> None:
        """Takes the bytes of one frame; those of a key frame begin with the stream's tables."""
        with self._changed:
            if frame.key and self._growing and frame.pts - self._began >= self._segment_ticks:
                self._complete(frame.pts)
            if not self._growing:
                self._began = frame.pts
            self._growing.append(data)
            for one in self._queues:
                one.put(data, key=frame.key)
            self._changed.notify_all()

    def _complete(self, end: int) -> None:
        # A gap in the source is longer than the playlist may say; players go by the timestamps.
        duration_s = min(float((end - self._began) * TICK), float(self._target_s))
        self._segments.append(_Segment(self._number, duration_s, b"".join(self._growing)))
        self._number += 1
        self._growing.clear()
        # RFC 8216, 6.2.2: one that has left the playlist stays as long as a playlist lasts.
        while len(self._segments) > 2 * self._window + 1 or (
            len(self._segments) > 1
            and sum(len(one.data) for one in self._segments) > _SEGMENT_BYTES
        ):
            self._segments.popleft()

    def end(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def playlist(self, token: str) -> bytes | None:
        """Returns the playlist, waiting for its first segment, or None where none came."""
        with self._changed:
            self._changed.wait_for(lambda: self._segments or self._ended, _FIRST_PLAYLIST_S)
            named = list(self._segments)[-self._window :]
        if not named:
            return None
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            f"#EXT-X-TARGETDURATION:{self._target_s}",
            f"#EXT-X-MEDIA-SEQUENCE:{named[0].number}",
        ]
        for one in named:
            lines.append(f"#EXTINF:{one.duration_s:.6f},")
            lines.append(f"segment-{one.number}.ts?token={quote(token, safe='')}")
        return ("\n".join(lines) + "\n").encode()

    def segment(self, number: int) -> bytes | None:
        """Returns one segment, or None where it is too old or not complete."""
        with self._changed:
            return next((one.data for one in self._segments if one.number == number), None)

    def stream(self) -> Generator[bytes]:
        """Yields chunks from the next key frame on, until the end."""
        queue = _Queue()
        with self._changed:
            self._queues.add(queue)
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: queue.chunks or self._ended)
                    if not queue.chunks:
                        return
                    data = queue.chunks.popleft()
                    queue.size -= len(data)
                yield data
        finally:
            with self._changed:
                self._queues.discard(queue)


@final
class _Server(HTTPServer):
    """A thread a connection, each of which can be ended from outside."""

    allow_reuse_address = True
    request_queue_size = _MAX_CONNECTIONS  # of the inherited 5, a sixth would wait a second

    def __init__(self, address: tuple[str, int], channel: _Channel, token: str) -> None:
        self.channel = channel
        self.token = token
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._asking: dict[socket.socket, None] = {}  # ordered: the oldest first
        self._admitted: set[socket.socket] = set()
        self._guard = threading.Lock()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Binds; the inherited one would ask a name server for this computer's name."""
        socketserver.TCPServer.server_bind(self)
        bound: tuple[Any, ...] = self.socket.getsockname()
        self.host, self.port = str(bound[0]), int(bound[1])

    @property
    def clients(self) -> int:
        with self._guard:
            return len(self._connections)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self._serve, args=(request, client_address), name="serve-client", daemon=True
        )
        with self._guard:
            full = len(self._connections) >= _MAX_CONNECTIONS
            if not full:
                if len(self._asking) >= _MAX_ASKING:
                    self._end_oldest()
                self._connections[request] = thread
                self._asking[request] = None
        if full:
            request.settimeout(0)
            with contextlib.suppress(OSError):
                request.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.shutdown_request(request)
            return
        try:
            thread.start()
        except RuntimeError:
            _log.warning("a client was turned away: the system gives no more threads")
            self._forget(request)

    def _end_oldest(self) -> None:
        oldest = next(iter(self._asking))
        del self._asking[oldest]
        with contextlib.suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)  # its thread does the rest

    def admit(self, request: socket.socket) -> bool:
        """Says whether there is a place for a connection that has named the token, and keeps it."""
        with self._guard:
            if request not in self._asking or len(self._admitted) >= _MAX_CLIENTS:
                return False
            del self._asking[request]
            self._admitted.add(request)
            return True

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            _log.debug("a client went away")
        except Exception as error:
            # The inherited way prints a traceback.
            _log.error("a client could not be served (%s)", type(error).__name__)
        finally:
            self._forget(request)

    def _forget(self, request: socket.socket) -> None:
        with self._guard:
            self.shutdown_request(request)
            self._connections.pop(request, None)
            self._asking.pop(request, None)
            self._admitted.discard(request)

    def disconnect_all(self, grace_s: float) -> None:
        """Waits so long for clients to take what is left, then ends their connections."""
        with self._guard:
            threads = list(self._connections.values())
        until = time.monotonic() + grace_s
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._guard:
            for request in self._connections:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


@final
class _Request(io.RawIOBase):
    """What a client asks, which has to come in time however it trickles.

    The time-out of a socket begins anew with every byte.
    """

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        super().__init__()
        self._connection, self._timeout_s = connection, timeout_s
        self._until_s = time.monotonic() + timeout_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Reads what is there.

        Raises:
            TimeoutError: it is too late.
        """
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(self._timeout_s)  # of what is sent


@final
class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _CLIENT_TIMEOUT_S

    @property
    def _ours(self) -> _Server:
        return cast("_Server", self.server)

    def setup(self) -> None:
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        super().setup()
        assert self.timeout is not None
        self.rfile.close()
        self.rfile = io.BufferedReader(_Request(self.connection, self.timeout))

    def version_string(self) -> str:
        return "m2fp-stream"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as inherited
        """Says nothing: requests hold the token."""

    def send_error(
        self,
        code: int,
        message: str | None = None,  # noqa: ARG002  # the inherited signature
        explain: str | None = None,  # noqa: ARG002  # the inherited signature
    ) -> None:
        """Answers with the code alone; the inherited one quotes the request."""
        self._answer(code, "text/plain", f"{HTTPStatus(code).phrase}\n".encode())

    def do_GET(self) -> None:
        try:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query, max_num_fields=8)
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        if not self._host_is_ours():
            self.send_error(HTTPStatus.FORBIDDEN)
        elif not self._is_authorized(query.get("token", [])):
            self.send_error(HTTPStatus.UNAUTHORIZED)
        elif not self._ours.admit(self.connection):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
        elif parts.path == "/live.ts":
            self._stream()
        elif parts.path == "/live.m3u8":
            playlist = self._ours.channel.playlist(self._ours.token)
            self._answer_with(_M3U8, playlist, HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            found = _SEGMENT_PATH.fullmatch(parts.path)
            data = self._ours.channel.segment(int(found[1])) if found else None
            self._answer_with(_TS, data, HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _is_authorized(self, tokens: list[str]) -> bool:
        kind, _, bearer = self.headers.get("Authorization", "").partition(" ")
        given = [*tokens, bearer.strip()] if kind.lower() == "bearer" else tokens
        expected = self._ours.token.encode()
        # Surrogates stand for bytes that were no UTF-8.
        return any(hmac.compare_digest(one.encode(errors="replace"), expected) for one in given)

    def _host_is_ours(self) -> bool:
        """Says whether the Host header names an address of this server, not some name for it."""
        given = self.headers.get_all("Host") or []
        if len(given) != 1:
            return False
        try:
            parts = urlsplit(f"//{given[0].strip()}")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        reached = str(self.connection.getsockname()[0])
        ours = {self._ours.host, reached, "localhost", "127.0.0.1", "::1"}
        return host in ours and port in (None, self._ours.port) and "@" not in parts.netloc

    def _head(self, code: int, kind: str, framing: tuple[str, str] | None) -> None:
        self.close_connection = True
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if framing is not None:
            self.send_header(*framing)
        if code == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        for name, value in (
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ):
            self.send_header(name, value)
        self.end_headers()

    def _answer_with(self, kind: str, body: bytes | None, otherwise: HTTPStatus) -> None:
        if body is None:
            self.send_error(otherwise)
        else:
            self._answer(HTTPStatus.OK, kind, body)

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self._head(code, kind, ("Content-Length", str(len(body))))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self) -> None:
        # Without chunks (RFC 9112, 7.1) a client cannot tell the end from a lost connection.
        chunked = self.request_version == "HTTP/1.1"
        self._head(HTTPStatus.OK, _TS, ("Transfer-Encoding", "chunked") if chunked else None)
        if self.command == "HEAD":
            return
        with contextlib.closing(self._ours.channel.stream()) as chunks:
            for data in chunks:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
