"""Signals that end the program: each is one `KeyboardInterrupt`, and cleaning is not disturbed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["interruptible"]

_CALLED_BACK: Final = ("PartFile.write", "PartFile.seek", "PartFile.tell")
"""What libraries call while they write."""

_AGAIN_S: Final = 0.005
"""When a signal that came at a bad moment is sent again: a write to a disk takes less."""

_PACKAGE: Final = __name__.partition(".")[0]


@contextmanager
def interruptible() -> Iterator[None]:
    """Makes SIGINT, SIGTERM and SIGHUP one `KeyboardInterrupt`; what follows it is not disturbed.

    A second signal is ignored while part files are removed and workers ended. A signal that was
    ignored from outside (`nohup`) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = [signal.SIGINT, signal.SIGTERM]
    wanted += [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
    before = {number: signal.getsignal(number) for number in wanted}

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        if _is_called_back(frame):
            again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal_number))
            again.daemon = True
            again.start()
            return
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_called_back(frame: FrameType | None) -> bool:
    """Says whether a library is writing through one of our files: it would swallow an exception."""
    while frame is not None:
        ours = frame.f_globals.get("__name__", "").startswith(f"{_PACKAGE}.")
        if ours and frame.f_code.co_qualname in _CALLED_BACK:
            return True
        frame = frame.f_back
    return False
