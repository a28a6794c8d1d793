"""Serves a stream to players and recorders, from a thread of its own, behind the page's gate.

It gives out composed pictures alone, on this computer only unless told otherwise, and to nobody
without the token.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Final, final

from ..core.address import address_of
from ..core.errors import SinkError
from ..sinks.live_stream import LiveStream
from ..sinks.serve import ServeOptions
from .access import LOOPBACK_NAMES, AccessControl
from .app import need_extra
from .gate import PLAYER_ROUTES, App, Gate
from .limits import ConnectionLimits
from .server import Running, listen, running

__all__ = ["MOST_PLAYERS", "PLAYER_LIMITS", "PlayerServer"]

_log = logging.getLogger(__name__)

MOST_PLAYERS: Final = 16
"""Requests at a time that have named the token; one more is turned away. Chosen: as many as a page
has viewers by default (`page.clients`)."""

_MOST_ASKING: Final = 16
"""Connections that have not named it, or wait for their next request: as many as may watch."""

PLAYER_LIMITS: Final = ConnectionLimits(
    connections=MOST_PLAYERS + 2 * _MOST_ASKING,  # with those that are ending
    waiting=_MOST_ASKING,
)

_FIRST_PLAYLIST_S: Final = 10.0
"""How long a playlist may wait for the first segment to be complete: the longest that
`serve.segment_s` and `serve.keyframe_s` allow come later, and a player asks again. Chosen."""


@final
class PlayerServer:
    """A running server; satisfies `sinks.serve.Server`.

    ``/live.ts`` is MPEG-TS without end, ``/live.m3u8`` is HLS, for 16 at a time. Both want the
    token, as ``?token=...`` or ``Authorization: Bearer``, and a Host header that names this
    server's address, so that no web page can reach it under a name of its own.

    Args:
        options: where, and to whom.
        stream: what is given out.
        token: what clients have to name.
        limits: of the connections.
        first_playlist_s: how long a playlist may wait for its first segment.

    Raises:
        UsageError: the web extra is not installed.
        SinkError: it cannot listen there; nothing was started.
    """

    def __init__(
        self,
        options: ServeOptions,
        stream: LiveStream,
        token: str,
        *,
        limits: ConnectionLimits = PLAYER_LIMITS,
        first_playlist_s: float = _FIRST_PLAYLIST_S,
    ) -> None:
        need_extra("the server of players")
        from .players import build

        self._limits = limits
        hosts = (options.host, str(address_of(options.host)), *LOOPBACK_NAMES)
        self._access = AccessControl(token, hosts=hosts)
        players = build(stream, token, most=MOST_PLAYERS, first_playlist_s=first_playlist_s)
        self._app: App = Gate(players, access=self._access, routes=PLAYER_ROUTES)
        self._listener = listen(options, "serve")
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._running: Running | None = None
        self._address = ("", 0)
        self._grace_s = 0.0
        self._thread = threading.Thread(target=self._run, name="serve", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._running is None:
            self._thread.join()
            raise SinkError("the server of players could not be started; the log says more")

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and the port it listens at."""
        return self._address

    @property
    def clients(self) -> int:
        """How many connections there are."""
        return 0 if self._running is None else self._running.connections

    @property
    def is_running(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def close(self, grace_s: float) -> None:
        """Ends every connection and thread, after clients had so long to take what is left."""
        self._grace_s = grace_s
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            try:
                self._loop.call_soon_threadsafe(self._stop.set)
            except RuntimeError:
                _log.debug("the server of players has ended by itself")
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            _log.error("the server of players has failed (%s)", type(error).__name__)
        finally:
            self._listener.close()
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with running(self._app, self._access, self._listener, limits=self._limits) as served:
            self._running, self._address = served, (served.host, served.port)
            self._ready.set()
            try:
                await served.until(self._stop)
            finally:
                served.goodbye_s = self._grace_s
