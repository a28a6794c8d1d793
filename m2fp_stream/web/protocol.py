"""Uvicorn's protocols with limits: on heads that do not come, on answers that nobody takes.

Uvicorn has no time-out for a request that is sent by halves, none for a client that does not read,
and answers what is no HTTP in a form of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import OrderedDict
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final, final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from .gate import SECURITY_HEADERS, App, problem
from .limits import ConnectionLimits
from .viewers import CLIENT_MESSAGE

__all__ = ["LimitedServer", "TimedHttp", "TimedWebSocket"]

_LAST_S: Final = 5.0
"""How long what is left may take to go out when all is said. Chosen."""

_KEEP_ALIVE_S: Final = 5
"""Uvicorn's default."""

_HANDSHAKE_S: Final = 10.0
"""Of TLS; as long as a request's head may take."""

_INCOMING_BYTES: Final = 64
"""Of a WebSocket's message: the longest of `CLIENT_MESSAGE` has 20. Chosen."""

_HEAD_BYTES: Final = 16 << 10
"""Of a request's head; browsers and players send less than 2 kB. Chosen."""

_SEND_BUFFER_BYTES: Final = 256 << 10
"""Two pictures at 1280 pixels and the default quality, about; Linux doubles it (socket(7))."""

_UNSENT_BYTES: Final = 32 << 10
"""The kernel's share of what waits for a client. Its own defaults hold seconds of pictures.
Chosen."""

_MESSAGES_PER_S: Final = 60
"""A page says of every third picture that it took it, and little else. Chosen: six times that, at
30 pictures a second."""

_MESSAGES_AT_ONCE: Final = 100
"""And what a page may say that was held up for a second or two. Chosen."""


class _Writing:
    """Ends a connection whose client takes nothing for `send_s`."""

    def __init__(self, send_s: float) -> None:
        self._send_s = send_s
        self._timer: asyncio.TimerHandle | None = None

    def paused(self, transport: asyncio.Transport) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._send_s, _cut, transport)

    def resumed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _prepare(transport: asyncio.Transport) -> None:
    # What waits is pictures: one that was handed over has to be gone before the next one is. With
    # a limit of 0, asyncio's TLS would take an empty buffer for a full one.
    transport.set_write_buffer_limits(high=1, low=0)
    link = transport.get_extra_info("socket")
    if link is not None:
        with contextlib.suppress(OSError):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)


def _cut(transport: asyncio.Transport) -> None:
    """Ends a connection now; the kernel keeps nothing of what the client did not take."""
    link = transport.get_extra_info("socket")
    if link is None or link.fileno() < 0:
        return  # it has ended
    with contextlib.suppress(OSError):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


@final
class TimedHttp(H11Protocol):
    """HTTP; see the module."""

    def __init__(
        self,
        *,
        limits: ConnectionLimits,
        waiting: OrderedDict[TimedHttp, None],
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._limits = limits
        self._waiting = waiting
        self._writing = _Writing(limits.send_s)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]  # as inherited
        self, transport: asyncio.Transport
    ) -> None:
        """Takes a connection, if there is room."""
        super().connection_made(transport)
        _prepare(transport)
        if len(self.connections) > self._limits.connections:
            _cut(transport)
            return
        self._expect_head()
        if len(self._waiting) > self._limits.waiting:
            oldest, _ = self._waiting.popitem(last=False)
            oldest.transport.abort()  # an answer on its way still arrives

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._head_came()
        self._writing.resumed()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what came."""
        super().data_received(data)
        if self._answers():
            self._head_came()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hands the connection over."""
        self._head_came()
        self._writing.resumed()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        self._expect_head()
        super().on_response_complete()
        if self.transport.is_closing():
            self._head_came()
            self.loop.call_later(_LAST_S, _cut, self.transport)
        elif self._answers():
            self._head_came()  # it had come already, behind the request before

    def timeout_keep_alive_handler(self) -> None:
        """Ends a connection at rest."""
        if self.transport.get_write_buffer_size():
            _cut(self.transport)
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """Ends the connection when the server ends."""
        if not self.transport.is_closing():
            super().shutdown()

    def pause_writing(self) -> None:
        """Begins to wait for the client to take what was sent."""
        super().pause_writing()
        self._writing.paused(self.transport)

    def resume_writing(self) -> None:
        """Ends that wait."""
        super().resume_writing()
        self._writing.resumed()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # the inherited signature
        """Answers what is no HTTP."""
        body = problem("that is no HTTP request")
        headers = [
            *((b"content-type", b"application/json"), (b"connection", b"close")),
            *((b"content-length", str(len(body)).encode()), *SECURITY_HEADERS),
        ]
        events = [
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ]
        if self._answers():  # whoever reads the body is told that there will be no more of it
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer is under way; it ends here
            _cut(self.transport)
        else:
            self.transport.close()
            self.loop.call_later(_LAST_S, _cut, self.transport)

    def _answers(self) -> bool:
        cycle: RequestResponseCycle | None = getattr(self, "cycle", None)  # None at first
        return cycle is not None and not cycle.response_complete

    def _expect_head(self) -> None:
        self._head_came()
        self._waiting[self] = None
        self._head_timer = self.loop.call_later(self._limits.head_s, _cut, self.transport)

    def _head_came(self) -> None:
        self._waiting.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


@final
class _Handshake(ServerProtocol):
    """Says nothing about a handshake but that it was none; the library quotes it."""

    def accept(self, request: Request) -> Response:
        response = super().accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            response = self.reject(HTTPStatus.BAD_REQUEST, problem("that is no handshake").decode())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/json"
            for name, value in SECURITY_HEADERS:
                response.headers[name.decode()] = value.decode()
        return response


@final
class TimedWebSocket(WebSocketsSansIOProtocol):
    """WebSocket; what a client says is dropped but for `CLIENT_MESSAGE`; too much of it ends it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._writing = _Writing(ConnectionLimits().send_s)
        self.conn = _Handshake(max_size=self.config.ws_max_size, logger=self.logger)
        self._may_say = float(_MESSAGES_AT_ONCE)
        self._counted_s = self.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes a connection, if there is room."""
        super().connection_made(transport)
        _prepare(self.transport)
        self._link = self.transport.get_extra_info("socket")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._writing.resumed()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Ends the connection when the server ends; one that is ending is cut off."""
        if self.transport.is_closing():
            self.stop_keepalive()
            with contextlib.suppress(OSError):  # it has ended
                self._link.shutdown(socket.SHUT_RDWR)
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """Begins to wait for the client to take what was sent."""
        super().pause_writing()
        self._writing.paused(self.transport)

    def resume_writing(self) -> None:
        """Ends that wait."""
        super().resume_writing()
        self._writing.resumed()

    def handle_text(self, event: Frame) -> None:
        """Drops what came, if it is no word that is listened to."""
        self._count_message()
        if event.fin and CLIENT_MESSAGE.fullmatch(bytes(event.data)):
            super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:  # noqa: ARG002  # the inherited signature
        """Drops what came."""
        self._count_message()

    def handle_cont(self, event: Frame) -> None:  # noqa: ARG002  # the inherited signature
        """Drops what came."""
        self._count_message()

    def handle_ping(self) -> None:
        """Answers."""
        self._count_message()
        if not self.close_sent:
            super().handle_ping()

    async def send(self, message: Any) -> None:
        """Sends an ASGI message."""
        await super().send(message)
        # Whoever sends chooses the next picture when this one is gone, not before.
        await self.writable.wait()
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True  # uvicorn logs an error for a refusal otherwise

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Ends the connection."""
        super().on_task_complete(task)
        self.loop.call_later(_LAST_S, _cut, self.transport)

    def _count_message(self) -> None:
        now_s = self.loop.time()
        filled = self._may_say + (now_s - self._counted_s) * _MESSAGES_PER_S
        self._may_say = min(float(_MESSAGES_AT_ONCE), filled) - 1
        self._counted_s = now_s
        if self._may_say < 0 and not self.close_sent:
            self.conn.fail(1008)
            self.handle_parser_exception()


@final
class LimitedServer(uvicorn.Server):
    """Serves an application at a socket; takes no signals, and its connections have limits.

    Args:
        app: the application.
        listener: a socket that listens.
        context: of TLS; None: without.
        limits: of the connections.
        websocket: whether it speaks WebSocket; else a request for it is one like any other.
    """

    def __init__(
        self,
        app: App,
        listener: socket.socket,
        context: ssl.SSLContext | None,
        limits: ConnectionLimits,
        *,
        websocket: bool,
    ) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            loop="none",
            http=TimedHttp,
            ws=TimedWebSocket if websocket else "none",
            log_config=None,
            log_level="error",  # warnings would be one a request that makes no sense
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            h11_max_incomplete_event_size=_HEAD_BYTES,
            ws_max_size=_INCOMING_BYTES,
            ws_per_message_deflate=False,
        )
        super().__init__(config)
        self._listener, self._context, self._limits = listener, context, limits

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002  # as inherited
        """Begins to take connections."""
        await self.lifespan.startup()
        loop = asyncio.get_running_loop()
        waiting: OrderedDict[TimedHttp, None] = OrderedDict()

        def protocol() -> asyncio.Protocol:
            return TimedHttp(
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
                limits=self._limits,
                waiting=waiting,
            )

        handshake_s = None if self._context is None else _HANDSHAKE_S
        made = await loop.create_server(
            protocol, sock=self._listener, ssl=self._context, ssl_handshake_timeout=handshake_s
        )
        self.servers: list[asyncio.base_events.Server] = [made]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes none."""
        yield
