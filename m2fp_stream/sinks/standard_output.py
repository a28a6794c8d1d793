"""A film's bytes to standard output: nothing else is written there, and who reads may go."""

from __future__ import annotations

import errno
import os
import select
import sys
import threading
from typing import BinaryIO, Final, NoReturn, Self, final

from ..core.errors import SinkError, UsageError

__all__ = ["OutputPipe"]

_NAME: Final = "standard output"
_AT_ONCE: Final = select.PIPE_BUF
"""Bytes that a pipe which is ready takes without waiting. Source: POSIX, write() on pipes."""

_LOOK_S: Final = 0.2
"""Seconds after which a wait for the reader looks whether it is wanted still. Chosen: nobody who
presses Ctrl-C waits for it."""


@final
class OutputPipe:
    """Standard output as the place of a film; as a context manager it has it for itself.

    It can be given to PyAV, and to `VideoFileSink` in the place of a `PartFile`, whose errors it
    has. While it is open, whatever else is printed goes to standard error. A reader is waited for
    as long as it takes: a player may be paused. A reader that has gone is an error, for the film
    has not reached it.

    Raises:
        UsageError: it is a terminal.
        SinkError: there is none.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._halted = threading.Event()
        self._error: BaseException | None = None
        self.closed = False
        """PyAV writes nothing more then, not even what belongs to the end of a film."""
        try:
            if os.isatty(1):
                raise UsageError(f"{_NAME} is a terminal; pipe it into a program or a file")
            sys.stdout.flush()
            self._fd = os.dup(1)
            os.dup2(2, 1)
        except OSError as error:
            self.close()
            self.refuse(error)

    def __str__(self) -> str:
        return _NAME

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives standard output back; idempotent."""
        if self._fd >= 0:
            sys.stdout.flush()
            os.dup2(self._fd, 1)
            os.close(self._fd)
            self._fd = -1

    def halt(self) -> None:
        """Ends a write that waits for the reader, with an error; any thread."""
        self._halted.set()

    def write(self, data: bytes) -> int:
        """Writes all of `data` and returns its length.

        Raises:
            OSError: nobody reads any more; `publish` then refuses.
        """
        view = memoryview(data)
        ready = select.poll()
        try:
            # The descriptor may be shared with other programs: it must not be made non-blocking.
            ready.register(self._fd, select.POLLOUT)
            while view:
                if self._halted.is_set():
                    raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
                if ready.poll(_LOOK_S * 1000):
                    view = view[os.write(self._fd, view[:_AT_ONCE]) :]
        except BaseException as error:  # the library that calls this may swallow it
            self._error = error
            raise
        return len(data)

    def reopen(self, *_: object) -> BinaryIO:
        """Refuses: nothing of a pipe can be read again.

        Raises:
            OSError: always.
        """
        raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))

    def check(self) -> None:
        """Nobody can delete a pipe."""

    def publish(self) -> None:
        """Says whether all that was written has gone into the pipe.

        Raises:
            SinkError: it has not.
        """
        if isinstance(self._error, OSError):
            self.refuse(self._error)
        if self._error is not None:
            raise self._error

    def discard(self) -> None:
        """What is in the pipe stays there; nothing more is written."""
        self.closed = True

    def refuse(self, error: Exception) -> NoReturn:
        """Raises the `SinkError` that says why it could not be written."""
        if isinstance(error, SinkError):
            raise error
        if self._error is not None and not isinstance(self._error, OSError):
            raise self._error
        number = getattr(self._error or error, "errno", None)
        text = f"{_NAME}: cannot be written ({type(error).__name__}); check what reads it"
        if number == errno.EPIPE:
            text = f"{_NAME}: its reader has gone before the film was complete"
        elif isinstance(number, int):
            text = f"{_NAME}: cannot be written ({os.strerror(number)}); check what reads it"
        refusal = SinkError(text)
        refusal.errno = number
        raise refusal from None
