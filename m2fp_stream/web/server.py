"""Runs an application: one event loop, one address."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from ..core.address import address_of
from ..core.errors import ConfigError, SinkError
from .access import AccessControl
from .app import need_extra
from .gate import App, Receive, Scope, Send
from .hub import Hub
from .limits import ConnectionLimits
from .options import PageOptions

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

__all__ = ["Address", "Running", "listen", "running", "serve", "tls_context"]

_PAGE_LIMITS: Final = ConnectionLimits()

_GOODBYE_S: Final = 2.0
"""How long clients may take what is on its way at the end: some seconds of pictures on a slow
network, and less than the supervisor waits before it kills (`kiosk`). Chosen."""

_BACKLOG: Final = 128
"""Connections that the kernel keeps until they are taken; Linux's own limit for long
(`net.core.somaxconn` before 5.4)."""


@final
class Running:
    """A server that serves; lives in one event loop.

    Attributes:
        host, port: where.
        ended: is done when it ended by itself.
        goodbye_s: how long clients may take what is on its way when it is told to end.
    """

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._server = server
        self.host, self.port = listener.getsockname()[:2]
        self.ended: asyncio.Future[None] = asyncio.ensure_future(server.serve())
        self.goodbye_s = _GOODBYE_S

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._server.server_state.connections)

    async def until(self, *events: asyncio.Event) -> None:
        """Returns when one of the events is set, or the server has ended."""
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(one.wait()) for one in events]
        try:
            await asyncio.wait([*waits, self.ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
        if self.ended.done():
            await self.ended

    async def _start(self) -> None:
        while not self._server.started and not self.ended.done():
            await asyncio.sleep(0.01)
        if self.ended.done():
            await self.ended

    async def _end(self) -> None:
        """Lets clients take what is on its way, then ends their connections."""
        self._server.should_exit = True
        for listening in getattr(self._server, "servers", ()):
            listening.close()
        await asyncio.wait([self.ended], timeout=self.goodbye_s)
        if not self.ended.done():
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
            await asyncio.wait([self.ended], timeout=_GOODBYE_S)
        self._server.force_exit = True
        for task in list(self._server.server_state.tasks):
            task.cancel()
        await asyncio.wait([self.ended])
        self.ended.result()


@contextlib.asynccontextmanager
async def running(
    app: App,
    access: AccessControl,
    listener: socket.socket,
    *,
    context: ssl.SSLContext | None = None,
    limits: ConnectionLimits = _PAGE_LIMITS,
    websocket: bool = False,
) -> AsyncIterator[Running]:
    """Serves an application for as long as the context lasts; nothing is left open then.

    Args:
        app: the application, behind a gate that asks `access`.
        access: who may come in; it learns where the server listens.
        listener: one of `listen`; it is closed at the end.
        context: of TLS; None: without.
        limits: of the connections.
        websocket: whether it speaks WebSocket.
    """
    from .protocol import LimitedServer

    try:
        access.port = listener.getsockname()[1]
        named = _named(app, access)
        served = Running(
            LimitedServer(named, listener, context, limits, websocket=websocket), listener
        )
        try:
            await served._start()
            yield served
        finally:
            await served._end()
    finally:
        listener.close()


async def serve(
    app: FastAPI,
    hub: Hub,
    options: PageOptions,
    on_ready: Callable[[str, int], None],
    stop: asyncio.Event,
    *,
    listener: socket.socket | None = None,
) -> None:
    """Serves the page until `stop` is set or the link ends; nothing is left open then.

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
    access: AccessControl = app.state.access
    try:
        _turn_away(listener)
        async with running(app, access, listener, context=context, websocket=True) as served:
            try:
                hub.start()
                on_ready(served.host, served.port)
                await served.until(stop, hub.ended)
            finally:
                hub.close()
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


class Address(Protocol):
    """Options of something that listens."""

    @property
    def host(self) -> str:
        """An IP address or ``localhost``."""
        ...

    @property
    def port(self) -> int:
        """0 for any free one."""
        ...


def listen(options: Address, section: str = "page") -> socket.socket:
    """Returns a socket that listens where the options say; it waits for nothing.

    Args:
        options: where.
        section: of the configuration, for what an error says.

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
            f"address or port ({section}.host, {section}.port)"
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
