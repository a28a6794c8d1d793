"""The routes for players and recorders: MPEG-TS without end, and HLS."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Final, final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..sinks.live_stream import LiveStream, StreamQueue
from .endless import send_more, until_gone
from .errors import answer_problem, problem_response
from .gate import App

__all__ = ["AtMost", "build"]

_TS: Final = "video/mp2t"
_M3U8: Final = "application/vnd.apple.mpegurl"
"""Source: RFC 8216, sections 10 and 4."""

_SEGMENT: Final = re.compile(r"[0-9]{1,18}\.ts")
"""As many digits as a number of 64 bits may have."""


@final
class AtMost:
    """Lets so many requests in at a time, and turns the others away.

    Args:
        app: what lies behind.
        most: how many.
    """

    def __init__(self, app: App, most: int) -> None:
        self._app, self._free = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        if self._free <= 0:
            answer = problem_response(503, "as many watch as may; end another player")
            await answer(scope, receive, send)
            return
        self._free -= 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._free += 1


@final
class _News:
    """Wakes a coroutine from the thread that writes frames."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def __call__(self) -> None:
        """Says that there is something new; any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        """Waits for something new since the last time."""
        await self._event.wait()
        self._event.clear()


@final
class _TransportStream(Response):
    """The stream without end, from the next key frame on."""

    media_type = _TS

    def __init__(self, stream: LiveStream) -> None:
        super().__init__()
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = [(b"content-type", _TS.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        news = _News()
        with self._stream.watching(news) as queue:
            gone = asyncio.ensure_future(until_gone(receive))
            gone.add_done_callback(lambda _: news())
            try:
                await self._send_all(queue, news, gone, send)
            finally:
                gone.cancel()

    async def _send_all(
        self, queue: StreamQueue, news: _News, gone: asyncio.Future[None], send: Send
    ) -> None:
        while not gone.done():
            ended = self._stream.ended  # before the queue is looked at: what came last is in it
            data = queue.take()
            if data is not None:
                await send_more(send, data)
            elif ended:
                # Without it a client could not tell the end from a lost connection.
                await send({"type": "http.response.body", "body": b""})
                return
            else:
                await news.wait()


def build(stream: LiveStream, token: str, *, most: int, first_playlist_s: float) -> App:
    """Returns the application, for a `Gate` with `gate.PLAYER_ROUTES` in front of it.

    Args:
        stream: what is given out.
        token: what addresses in the playlist have to name.
        most: requests at a time.
        first_playlist_s: how long a playlist may wait for the first segment to be complete.
    """

    async def endless(_: Request) -> Response:
        return _TransportStream(stream)

    async def playlist(_: Request) -> Response:
        news = _News()
        with stream.listening(news), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(first_playlist_s):
                while (found := stream.playlist(token)) is None and not stream.ended:
                    await news.wait()
        if found is None:
            raise HTTPException(503, "there is no segment yet; try again")
        return Response(found, media_type=_M3U8)

    async def segment(request: Request) -> Response:
        name: str = request.path_params["name"]
        found = None
        if _SEGMENT.fullmatch(name):
            found = stream.segment(int(name.removesuffix(".ts")))
        if found is None:
            raise HTTPException(404)
        return Response(found, media_type=_TS)

    routes = [
        Route("/live.ts", endless),
        Route("/live.m3u8", playlist),
        Route("/segment-{name}", segment),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: answer_problem})
    app.router.redirect_slashes = False  # it would send the token back, in an address
    return AtMost(app, most)
