"""The parser process: hardens itself, loads one parser, answers until its parent is gone.

Started by `pipeline.workers` as ``python -m m2fp_stream.pipeline.parser_worker SOCKET MEMORY
SPEC`` with two inherited descriptors; SPEC is JSON: {"parser": "module:factory", "options": {...},
"threads": n, "niceness": n}. It opens no file for writing and no network connection.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from ..privacy.hardening import harden

if TYPE_CHECKING:  # heavy imports come after hardening
    import numpy as np
    from numpy.typing import NDArray

    from ..parsers.base import Looker, Parser

__all__ = ["main"]

_IDLE: Final = 19
"""From this niceness on a process runs only where nobody else wants to."""


def main(arguments: list[str]) -> int:
    """Serves parse requests until the socket closes; returns the exit code."""
    harden(parent_death_signal=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Heavy imports come after hardening: no window in which a crash could dump pixels.
    import cv2
    import numpy as np

    from ..core.errors import M2FPStreamError
    from ..parsers.base import Looker
    from . import wire

    spec = json.loads(arguments[2])
    os.nice(int(spec["niceness"]))
    if spec["niceness"] >= _IDLE and hasattr(os, "SCHED_IDLE"):
        # Niceness alone took a third of the frame rate: a nice process is not preempted at once.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    cv2.setNumThreads(int(spec["threads"]))
    with socket.socket(fileno=int(arguments[0])) as channel:

        def say(message: dict[str, object]) -> None:
            channel.send(json.dumps(message).encode())

        memory = memoryview(mmap.mmap(int(arguments[1]), wire.TOTAL_BYTES))
        try:
            module, _, factory = str(spec["parser"]).partition(":")
            parser = getattr(importlib.import_module(module), factory)(**spec["options"])
        except Exception as error:
            detail = str(error) if isinstance(error, M2FPStreamError) else type(error).__name__
            say({"ready": False, "error": detail[:1000]})
            return 4
        if isinstance(parser, Looker):
            say({"ready": True})
        else:
            say({"ready": True, "labels": wire.write_label_set(parser.labels)})
        while request := channel.recv(wire.MESSAGE_BYTES):
            asked = json.loads(request)
            picture = wire.input_view(memory, asked["height"], asked["width"])
            copy = picture.copy()
            picture.fill(0)
            try:
                answer = {"ok": True, **_answer(parser, copy, asked, memory)}
            except Exception as error:
                # Only our own messages may pass: a foreign one could quote data.
                detail = str(error) if isinstance(error, M2FPStreamError) else type(error).__name__
                answer = {"ok": False, "error": detail[:1000]}
            finally:
                copy.fill(np.uint8(0))
            say(answer)
    return 0


def _answer(
    parser: Parser | Looker, copy: NDArray[np.uint8], asked: dict[str, Any], memory: memoryview
) -> dict[str, object]:
    """Returns the answer to one request; its arrays are in `memory`."""
    from ..core.records import LookKind, PartPlanes
    from ..parsers.base import Looker
    from . import wire

    frame_id = int(asked["frame_id"])
    if not isinstance(parser, Looker):
        result = parser.parse(copy, frame_id=frame_id)
        return wire.write_result(memory, result)
    seen = parser.asked(LookKind(asked["kind"]), copy, frame_id=frame_id)
    if isinstance(seen, PartPlanes):
        return wire.write_planes(memory, seen)
    return wire.write_detections(memory, seen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
