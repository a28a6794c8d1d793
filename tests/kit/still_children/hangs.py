"""Never answers."""

from __future__ import annotations

import socket
import time
from typing import Any

from tests.kit.still_children._play import play


def act(channel: socket.socket, memory: int, upload: bytes) -> dict[str, Any] | None:
    time.sleep(60)
    return None


if __name__ == "__main__":
    play(act)
