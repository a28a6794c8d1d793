"""What is piped in as a file: held in memory that has no name, and opened there."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..core.errors import SourceError, UsageError
from ..processes.memory import open_memory
from .options import FileOptions

__all__ = ["STANDARD_INPUT", "is_held", "is_piped", "reachable"]

STANDARD_INPUT: Final = Path("-")
"""What it is called where a file is named."""

_NAME: Final = "standard input"
_OPEN: Final = Path("/proc/self/fd")
"""Where this process can open again what it has open. Source: proc(5)."""
_AT_ONCE: Final = 1 << 20
"""Bytes read at a time. Chosen: few calls."""


def is_piped(path: Path) -> bool:
    """Says whether an input is what comes through a pipe; not so where a file was redirected."""
    return path == STANDARD_INPUT and not _is_file(0)


def is_held(path: Path) -> bool:
    """Says whether a path is one that `reachable` gives for standard input: without a suffix."""
    return path.parent == _OPEN


@contextmanager
def reachable(path: Path, options: FileOptions) -> Iterator[Path]:
    """Gives the path at which an input can be opened, again and again, inside the block.

    That is its own, but for standard input: a file that was redirected is opened where it is; what
    is piped in is waited for until its end, for the index of many films stands there, and is held
    in memory (`pipe_mb` at most), never in a file. Errors of sources call it by its name.

    Raises:
        UsageError: it is a terminal.
        SourceError: nothing or too much comes, or it cannot be read.
    """
    if path != STANDARD_INPUT:
        yield path
        return
    if os.isatty(0):
        raise UsageError(f"{_NAME} is a terminal; pipe a video into it, or name a file")
    place = _opened_at(0)
    try:
        if not is_piped(path):
            yield place
            return
        with open_memory() as held:
            _hold(held, options.pipe_mb)
            place = _opened_at(held)
            yield place
    except SourceError as error:
        error.args = (str(error).replace(str(place), _NAME),)
        raise


def _opened_at(descriptor: int) -> Path:
    return _OPEN / str(descriptor)


def _is_file(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _hold(held: int, most_mb: int) -> None:
    left = most_mb * 1_000_000
    came = select.poll()
    try:
        came.register(0, select.POLLIN | select.POLLHUP)
        while True:
            came.poll()  # whoever set the descriptor to be non-blocking
            data = os.read(0, _AT_ONCE)
            if not data:
                break
            left -= len(data)
            if left < 0:
                raise SourceError(
                    f"{_NAME}: more than {most_mb} MB, which is held in memory; name the file, or "
                    "raise source.pipe_mb"
                )
            view = memoryview(data)
            while view:
                view = view[os.write(held, view) :]
    except MemoryError:
        raise SourceError(f"{_NAME}: too little memory to hold it; name the file") from None
    except OSError as error:
        if isinstance(error, SourceError):
            raise
        what = "too little memory to hold it; name the file"
        if error.errno not in (errno.ENOMEM, errno.ENOSPC):
            what = f"cannot be read ({error.strerror})"
        raise SourceError(f"{_NAME}: {what}") from None
