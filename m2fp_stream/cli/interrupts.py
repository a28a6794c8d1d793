"""Signals that end the program: each is one `KeyboardInterrupt`, and cleaning is not disturbed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

__all__ = ["held", "interruptible", "until_interrupted"]

_CALLED_BACK: Final = ("PartFile.write", "PartFile.seek", "PartFile.tell")
"""What libraries call while they write."""

_AGAIN_S: Final = 0.005
"""When a signal that came at a bad moment is sent again: a write to a disk takes less."""

_INTERRUPTED: Final = 130
"""`core.errors.EXIT_INTERRUPTED`; that room is imported when signals are heard already."""

_PACKAGE: Final = __name__.partition(".")[0]

_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What ends the program; Windows has no SIGHUP."""

_waiting: Final[list[int]] = []
"""For the block of `held` that runs, if one does: the last signal that came, or 0."""


class _Interrupt(KeyboardInterrupt):
    """What a signal raises.

    An exact KeyboardInterrupt that passes through `exec`, as while a dataclass is made, is kept in
    mind by Python, which then kills itself at its end. Source: run_eval_code_obj in pythonrun.c.
    """


def until_interrupted(work: Callable[[], int], *, told: bool, last: bool) -> int:
    """Returns the exit code that `work` returns, or 130 where a signal has ended it.

    Args:
        work: gets a signal as `KeyboardInterrupt`, once.
        told: whether a signal is told, in a line on stderr.
        last: the process ends after it, and no signal disturbs that.
    """
    try:
        with interruptible(last=last):
            return work()
    except KeyboardInterrupt:
        if told:
            from .show import say
            from .streams import settle

            say("interrupted; nothing unfinished was kept")
            settle()
        return _INTERRUPTED


@contextmanager
def interruptible(*, last: bool = False) -> Iterator[None]:
    """Makes SIGINT, SIGTERM and SIGHUP one `KeyboardInterrupt`; what follows it is not disturbed.

    A second signal is ignored while part files are removed and workers ended, and after the block,
    too, where that is the `last` that the process does. A signal that was ignored from outside
    (`nohup`) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heard = [number for number in _SIGNALS if before[number] is not signal.SIG_IGN]

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        if _waiting:
            _waiting[-1] = signal_number
            return
        if _is_called_back(frame):
            again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal_number))
            again.daemon = True
            again.start()
            return
        for number in heard:
            signal.signal(number, _deaf)
        raise _Interrupt

    for number in heard:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_IGN if last else before[number])


def _deaf(_: int, __: FrameType | None) -> None:
    """Hears a signal, and does nothing: of one that came just before SIG_IGN, Python complains."""


@contextmanager
def held() -> Iterator[None]:
    """Lets a signal wait until the end of the block: none comes between a start and its note."""
    _waiting.append(0)
    try:
        yield
    finally:
        if number := _waiting.pop():
            os.kill(os.getpid(), number)


def _is_called_back(frame: FrameType | None) -> bool:
    """Says whether a library is writing through one of our files: it would swallow an exception."""
    while frame is not None:
        ours = frame.f_globals.get("__name__", "").startswith(f"{_PACKAGE}.")
        if ours and frame.f_code.co_qualname in _CALLED_BACK:
            return True
        frame = frame.f_back
    return False
