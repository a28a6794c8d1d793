"""The routes that give pictures without end, on FastAPI: multipart and WebSocket."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from typing import Any, Final, final

from fastapi import FastAPI, WebSocket
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from .endless import send_more, until_gone
from .gate import problem, set_audit_reason
from .hub import Hub
from .schema import BINARY, PROBLEMS, Problem
from .viewers import Full, Viewer

__all__ = ["add_streams"]

_REPEAT_S: Final = 1.0
"""The status and the card are sent again so often: as often as the hub says things again, and not
later than a picture is old by default (`page.stale_s`)."""

_BOUNDARY: Final = b"m2fp-frame"


@final
class _Multipart(Response):
    """Pictures without end; newest wins, and the card where there is none."""

    media_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._hub.watch() as viewer:
                gone = asyncio.ensure_future(until_gone(receive))
                try:
                    await self._stream(viewer, gone, send)
                finally:
                    gone.cancel()
        except Full:
            body = problem("as many watch as may; close another page")
            answer = Response(body, 503, media_type="application/json")
            await answer(scope, receive, send)

    async def _stream(self, viewer: Viewer, gone: asyncio.Future[None], send: Send) -> None:
        hub = self._hub
        kind = [(b"content-type", str(self.media_type).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        # The boundary that ends a part goes with it: browsers show a picture when that has come.
        await send_more(send, b"--" + _BOUNDARY + b"\r\n")
        loop = asyncio.get_running_loop()
        last, card_due_s = 0, loop.time()
        while not gone.done() and not hub.ended.is_set():
            frame = hub.frame()
            if frame is not None and viewer.may_get(frame):
                card_due_s = 0.0
                if frame.sequence != last:
                    last = frame.sequence
                    await send_more(send, _part(frame.jpeg))
            elif loop.time() >= card_due_s:
                card_due_s = loop.time() + _REPEAT_S
                await send_more(send, _part(hub.card()))
            del frame  # or a client at rest would keep a picture alive
            await viewer.news(_REPEAT_S / 4)
        await send({"type": "http.response.body", "body": b"--\r\n"})


def _part(jpeg: bytes) -> bytes:
    head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
    return head + jpeg + b"\r\n--" + _BOUNDARY + b"\r\n"


def add_streams(app: FastAPI, hub: Hub) -> None:
    """Adds the routes to an application."""

    @app.get(
        "/stream.mjpg",
        response_class=Response,
        summary="Pictures without end",
        responses={
            200: {"content": {"multipart/x-mixed-replace": BINARY}, "description": "JPEG parts."},
            503: {"model": Problem, "description": "As many watch as may."},
            **PROBLEMS,
        },
        tags=["stream"],
    )
    async def multipart() -> Response:
        return _Multipart(hub)

    @app.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        try:
            with hub.watch() as viewer:
                await socket.accept()
                on_text = functools.partial(hub.on_message, viewer)
                gone = asyncio.ensure_future(until_gone(socket.receive, on_text))
                try:
                    await _feed(hub, socket, viewer, gone)
                finally:
                    gone.cancel()
        except Full:
            set_audit_reason(socket.scope, "full")
            await socket.close()
        except (WebSocketDisconnect, RuntimeError):
            set_audit_reason(socket.scope, "gone")


async def _feed(hub: Hub, socket: WebSocket, viewer: Viewer, gone: asyncio.Future[None]) -> None:
    loop = asyncio.get_running_loop()
    told: dict[str, Any] = {}
    last, due_s = 0, 0.0
    while not gone.done() and not hub.ended.is_set():
        number = viewer.take_question()
        if number is not None:
            answer = {"time": number, "now_ms": time.time() * 1e3}
            await socket.send_text(_text(answer))
        status = hub.status()
        if loop.time() >= due_s or _differs(status, told):
            told, due_s = status, loop.time() + _REPEAT_S
            await socket.send_text(_text(status))
        frame = hub.frame()
        if frame is not None and frame.sequence != last and viewer.may_get(frame):
            last = frame.sequence
            viewer.sent(last)
            await socket.send_bytes(frame.message(hub.now_ns()))
        del frame  # or a client at rest would keep a picture alive
        await viewer.news(max(0.01, due_s - loop.time()))
    if not gone.done():
        await socket.close(1001)


def _differs(status: dict[str, Any], told: dict[str, Any]) -> bool:
    """Says whether two statuses differ in more than what changes with every picture."""
    changing = ("frame_age_ms", "fps", "latency_ms")
    return any(told.get(name) != value for name, value in status.items() if name not in changing)


def _text(message: dict[str, Any]) -> str:
    """Returns a status, or an answer, as the WebSocket sends it."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
