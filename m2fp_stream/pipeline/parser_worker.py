"""The parser process: hardens itself, loads one parser, answers until its parent is gone.

Started by `pipeline.workers` as ``python -P -m m2fp_stream.pipeline.parser_worker CHANNEL MEMORY``
with two inherited descriptors. Its job: {"parser": "module:factory", "options": {...},
"threads": n, "niceness": n}. It opens no file for writing and no network connection.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from ..core.errors import M2FPStreamError
from ..privacy.hardening import harden
from ..processes.channel import ChannelError, inherited, receive_one, send
from ..processes.child import read_job
from ..processes.memory import map_memory

if TYPE_CHECKING:  # heavy imports come after hardening
    import numpy as np
    from numpy.typing import NDArray

    from ..parsers.base import Looker, Parser

__all__ = ["main"]

_IDLE: Final = 19
"""From this niceness on, the largest there is, a process runs only where nobody else wants to.
Source: sched(7)."""

_MOST_TEXT: Final = 1000
"""Characters of an error: more than any sentence of ours has, and less than a message holds.
Chosen."""


def main(arguments: list[str]) -> int:
    """Serves parse requests until the channel closes; returns the exit code."""
    harden(parent_death_signal=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Heavy imports come after hardening: no window in which a crash could dump pixels.
    import cv2
    import numpy as np

    from ..parsers.base import Looker
    from . import wire

    job = read_job()
    os.nice(int(job["niceness"]))
    if job["niceness"] >= _IDLE and hasattr(os, "SCHED_IDLE"):
        # Niceness alone took a third of the frame rate: a nice process is not preempted at once.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    cv2.setNumThreads(int(job["threads"]))
    with inherited(arguments[0]) as channel:
        memory = memoryview(map_memory(int(arguments[1]), wire.TOTAL_BYTES, writable=True))
        try:
            module, _, factory = str(job["parser"]).partition(":")
            parser = getattr(importlib.import_module(module), factory)(**job["options"])
        except Exception as error:
            send(channel, {"ready": False, "error": _told(error)})
            return 4
        if isinstance(parser, Looker):
            send(channel, {"ready": True})
        else:
            send(channel, {"ready": True, "labels": wire.write_label_set(parser.labels)})
        while True:
            try:
                asked = receive_one(channel, None)
            except ChannelError:  # the parent is gone
                return 0
            picture = wire.input_view(memory, asked["height"], asked["width"])
            copy = picture.copy()
            picture.fill(0)
            try:
                answer = {"ok": True, **_answer(parser, copy, asked, memory)}
            except Exception as error:
                answer = {"ok": False, "error": _told(error)}
            finally:
                copy.fill(np.uint8(0))
            send(channel, answer)


def _told(error: Exception) -> str:
    """Returns what is told of an error: a foreign message could quote data."""
    return (str(error) if isinstance(error, M2FPStreamError) else type(error).__name__)[:_MOST_TEXT]


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
