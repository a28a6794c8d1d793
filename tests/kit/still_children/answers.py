"""Answers after a while with the upload itself, as if it were a PNG; never to ``first``."""

from __future__ import annotations

import socket
import time
from typing import Any

from tests.kit.still_children._play import PNG, play, put


def act(channel: socket.socket, memory: int, upload: bytes) -> dict[str, Any] | None:
    time.sleep(60 if upload == b"first" else 0.3)
    put(memory, PNG + upload)
    return {"ok": True}


if __name__ == "__main__":
    play(act)
