"""Runs the page's application: one process, one event loop, one address."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..core.errors import ConfigError, SinkError
from .access import AccessControl
from .app import need_extra
from .gate import App, Receive, Scope, Send
from .hub import Hub
from .options import PageOptions, address_of

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

__all__ = ["listen", "serve", "tls_context"]

_KEEP_ALIVE_S: Final = 5
_HANDSHAKE_S: Final = 10.0
_GOODBYE_S: Final = 2.0
_INCOMING_BYTES: Final = 64
_HEAD_BYTES: Final = 16 << 10
_BACKLOG: Final = 128


async def serve(
    app: FastAPI,
    hub: Hub,
    options: PageOptions,
    on_ready: Callable[[str, int], None],
    stop: asyncio.Event,
    *,
    listener: socket.socket | None = None,
) -> None:
    """Serves until `stop` is set or the link ends; nothing is left open then.

    Who connected to `listener` before that is turned away, and may come again.

    Args:
        app: of `app.make_app`.
        hub: the same that the application has; it is started, and closed at the end.
        options: of the page.
        on_ready: gets the address and the port once connections are taken.
        stop: ends the server.
        listener: one of `listen`; None: one is made, of the options.

    Raises:
        UsageError: the web extra is not installed.
        ConfigError: certificate or key cannot be used; nothing was started.
        SinkError: it cannot listen there; nothing was started.
    """
    need_extra()
    context = tls_context(options)
    listener = listen(options) if listener is None else listener
    try:
        _turn_away(listener)
        host, port = listener.getsockname()[:2]
        app.state.access.port = port
        server = _server(app, listener, context)
        hub.start()
        running = asyncio.ensure_future(server.serve())
        try:
            await _started(server, running)
            on_ready(host, port)
            await _first(stop, hub.ended, running)
        finally:
            hub.close()
            server.should_exit = True
            await _goodbye(server, running)
    finally:
        listener.close()
        if app.state.audit is not None:
            app.state.audit.close()


def tls_context(options: PageOptions) -> ssl.SSLContext | None:
    """Returns what the certificate and the key make, TLS 1.2 or later; None without them.

    Raises:
        ConfigError: one cannot be read, the key is open to others, or they do not fit.
    """
    if options.certificate is None or options.key is None:
        return None
    try:
        mode = Path(options.key).stat().st_mode
        with open(options.certificate, "rb"), open(options.key, "rb"):  # noqa: PTH123  # says which
            pass
    except OSError as error:
        which = "key" if error.filename == options.key else "certificate"
        raise ConfigError(
            f"page.{which}: the file cannot be read ({error.strerror}); name a PEM file"
        ) from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError("page.key: other users may read or change the file; run: chmod 600 FILE")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a passphrase given, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(options.certificate, options.key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError):
        raise ConfigError(
            "page.certificate and page.key do not fit each other, or are no PEM files without a "
            "passphrase"
        ) from None
    return context


def listen(options: PageOptions) -> socket.socket:
    """Returns a socket that listens where the options say; it waits for nothing.

    Raises:
        SinkError: it cannot listen there.
    """
    address = address_of(options.host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((str(address), options.port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno) if error.errno else "unknown"
        raise SinkError(
            f"{options.host}:{options.port}: cannot listen there ({reason}); choose another "
            "address or port (page.host, page.port)"
        ) from None
    return listener


def _turn_away(listener: socket.socket) -> None:
    """Ends the connections that came while nobody served.

    What they ask may be long past: whoever asked was told that it failed, and a request for less
    cover must not come true minutes later.
    """
    listener.setblocking(False)
    for _ in range(2 * _BACKLOG):
        try:
            link, _address = listener.accept()
        except BlockingIOError:
            return
        except OSError:
            continue  # this one has ended by itself
        link.close()


def _named(app: App, access: AccessControl) -> App:
    """Returns `app`, whose access control knows where each request comes from."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        with access.answering(scope.get("client")):
            await app(scope, receive, send)

    return run


def _server(
    app: FastAPI, listener: socket.socket, context: ssl.SSLContext | None
) -> uvicorn.Server:
    import uvicorn

    from .protocol import TimedHttp, TimedWebSocket

    class Server(uvicorn.Server):
        """Takes no signals, and its connections have limits."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002  # as inherited
            await self.lifespan.startup()
            loop = asyncio.get_running_loop()
            waiting: OrderedDict[TimedHttp, None] = OrderedDict()

            def protocol() -> asyncio.Protocol:
                return TimedHttp(
                    config=self.config,
                    server_state=self.server_state,
                    app_state=self.lifespan.state,
                    waiting=waiting,
                )

            handshake_s = None if context is None else _HANDSHAKE_S
            made = await loop.create_server(
                protocol, sock=listener, ssl=context, ssl_handshake_timeout=handshake_s
            )
            self.servers: list[asyncio.base_events.Server] = [made]
            self.started = True

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        _named(app, app.state.access),
        lifespan="off",
        loop="none",
        http=TimedHttp,
        ws=TimedWebSocket,
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
    return Server(config)


async def _started(server: uvicorn.Server, running: asyncio.Future[Any]) -> None:
    while not server.started and not running.done():
        await asyncio.sleep(0.01)
    if running.done():
        await running


async def _first(stop: asyncio.Event, ended: asyncio.Event, running: asyncio.Future[Any]) -> None:
    waits = [asyncio.ensure_future(one.wait()) for one in (stop, ended)]
    try:
        await asyncio.wait([*waits, running], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
    if running.done():
        await running


async def _goodbye(server: uvicorn.Server, running: asyncio.Future[Any]) -> None:
    """Lets clients take what is on its way, then ends their connections."""
    await asyncio.wait([running], timeout=_GOODBYE_S)
    if not running.done():
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await asyncio.wait([running], timeout=_GOODBYE_S)
    server.force_exit = True
    for task in list(server.server_state.tasks):
        task.cancel()
    await asyncio.wait([running])
    running.result()
