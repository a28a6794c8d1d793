"""Answers without end: sent no faster than the client takes them, and ended when it goes."""

from __future__ import annotations

from collections.abc import Callable

from .gate import Receive, Send

__all__ = ["send_more", "until_gone"]


async def send_more(send: Send, data: bytes) -> None:
    """Sends a part of a body, and returns when it is gone: what comes next is chosen then."""
    await send({"type": "http.response.body", "body": data, "more_body": True})
    # Sends nothing, but waits until the data is gone.
    await send({"type": "http.response.body", "body": b"", "more_body": True})


async def until_gone(receive: Receive, on_text: Callable[[str], None] | None = None) -> None:
    """Returns when the client is gone; what it says until then goes to `on_text`."""
    while (message := await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        if on_text is not None and isinstance(text := message.get("text"), str):
            on_text(text)
