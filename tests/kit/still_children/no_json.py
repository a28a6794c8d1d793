"""Answers what is no object."""

from __future__ import annotations

import socket
from typing import Any

from tests.kit.still_children._play import play


def act(channel: socket.socket, memory: int, upload: bytes) -> dict[str, Any] | None:
    channel.send(b"[1, 2]")
    return None


if __name__ == "__main__":
    play(act)
