"""Standard streams that were closed, or take no more. Imports nothing that could open a file."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

__all__ = ["complete", "give_up", "settle"]


def complete() -> None:
    """Puts nothing in the place of standard streams that whoever started this process has closed.

    The next file that is opened would get the number of one that lacks: a library's complaint would
    be written into the output, and what a child inherits would be taken for its standard input. It
    is for the first moments of a process: newer versions of libffi (`ctypes`) keep a file open.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None or not _is_open(number):
            fd = os.open(os.devnull, os.O_WRONLY if number else os.O_RDONLY)  # the lowest free
            os.set_inheritable(fd, True)
            setattr(sys, name, open(fd, "w" if number else "r", closefd=False))  # noqa: SIM115
            setattr(sys, f"__{name}__", getattr(sys, name))


def _is_open(number: int) -> bool:
    with suppress(OSError):
        os.fstat(number)
        return True
    return False


def give_up(name: str) -> None:
    """Keeps the interpreter from writing at its end what ``stdout`` or ``stderr`` did not take."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), getattr(sys, name).fileno())


def settle() -> None:
    """Writes what stderr still holds, or gives it up, for it would make the exit code 120."""
    try:
        sys.stderr.flush()
    except OSError:
        give_up("stderr")
