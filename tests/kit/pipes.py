"""Programs that pipe video, as `rpicam-vid -o -` does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO, Any

PACED = """
import sys, time
data = open(sys.argv[1], "rb").read()
count, pause_s, times = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
out = open(sys.argv[5], "wb") if len(sys.argv) > 5 else sys.stdout.buffer
for number in [*range(count)] * times:
    out.write(data[len(data) * number // count : len(data) * (number + 1) // count])
    out.flush()
    time.sleep(pause_s)
"""


def write_paced(
    path: Path,
    *,
    pieces: int = 40,
    pause_s: float = 0.02,
    times: int = 1,
    to: Path | None = None,
    stdout: int | IO[Any] | None = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Starts a process that writes a file in `pieces`, `times` over.

    It writes to standard output, or to a named pipe.
    """
    words = [sys.executable, "-c", PACED, str(path), str(pieces), str(pause_s), str(times)]
    return subprocess.Popen(
        [*words, *([] if to is None else [str(to)])],
        stdin=subprocess.DEVNULL,
        stdout=stdout if to is None else subprocess.DEVNULL,
    )
