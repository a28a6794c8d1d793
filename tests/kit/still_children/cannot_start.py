"""Says that it cannot start."""

from __future__ import annotations

import json
import socket
import sys

if __name__ == "__main__":
    json.load(sys.stdin)
    answer = {"ready": False, "error": "the weights are missing"}
    socket.socket(fileno=int(sys.argv[1])).send(json.dumps(answer).encode())
