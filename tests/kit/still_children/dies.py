"""Ends in the middle of a picture."""

from __future__ import annotations

import os
import socket
from typing import Any

from tests.kit.still_children._play import play


def act(channel: socket.socket, memory: int, upload: bytes) -> dict[str, Any] | None:
    os._exit(1)


if __name__ == "__main__":
    play(act)
