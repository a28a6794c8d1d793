"""Says that it is done, and has put something else there."""

from __future__ import annotations

import socket
from typing import Any

from tests.kit.still_children._play import play, put


def act(channel: socket.socket, memory: int, upload: bytes) -> dict[str, Any] | None:
    put(memory, b"no picture")
    return {"ok": True}


if __name__ == "__main__":
    play(act)
