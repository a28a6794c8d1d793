"""Packets of RTP that never came, as FFmpeg reports them: in its log alone."""

from __future__ import annotations

import logging
import threading
from typing import Final

import av

__all__ = ["LOSS", "stop_watching", "watch_losses"]

LOSS: Final = "RTP: missed"
"""FFmpeg's words (libavformat/rtpdec.c) for a hole in the numbers of RTP packets (RFC 3550, 5.1).
It marks no packet; and what lacks its middle may decode without complaint."""

_lock: Final = threading.Lock()
_watchers: Final[list[int]] = []


def watch_losses() -> None:
    """Has FFmpeg report holes to the thread that reads, and to nobody else."""
    # Its lines may hold addresses and passwords. Without a handler, Python writes them to stderr.
    library = logging.getLogger("libav")
    library.propagate = False
    if not library.handlers:
        library.addHandler(logging.NullHandler())
    with _lock:
        _watchers.append(1)
        av.logging.set_skip_repeated(False)
        av.logging.set_level(av.logging.WARNING)


def stop_watching() -> None:
    """Switches the reports off with the last who watches them.

    A decoder that is freed waits for its threads with the interpreter's lock held, for which a
    thread that reports waits in turn: of films with several threads one would hang for ever.
    """
    with _lock:
        _watchers.pop()
        if not _watchers:
            av.logging.set_level(None)
