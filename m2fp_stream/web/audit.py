"""A log of requests without their content: one JSON line each, in at most 10 MB."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import time
from pathlib import Path
from typing import Final, final

from ..core.errors import SinkError

__all__ = ["Audit"]

_log = logging.getLogger(__name__)

_FILE_BYTES: Final = 5_000_000
"""Of each of two files. Chosen: 10 MB, as `page.audit` says."""


@final
class Audit:
    """Writes lines to a file of mode 0600; a full one becomes ``NAME.1``.

    Nothing that a request says goes in: no query, header, key, name or address. A line holds
    the time (Unix, seconds), the route, method, status, bytes sent, milliseconds, whether the
    client is this computer, and a word for the reason of a refusal.

    Args:
        path: the file; what it holds is kept.
        file_bytes: size of one file.

    Raises:
        SinkError: it cannot be written.
    """

    def __init__(self, path: str, *, file_bytes: int = _FILE_BYTES) -> None:
        self._path = Path(path)
        self._file_bytes = file_bytes
        self._descriptor: int | None = None
        try:
            self._open()
        except OSError as error:
            raise SinkError(
                f"the audit log cannot be written ({error.strerror}); name another file"
            ) from None

    @property
    def broken(self) -> bool:
        """Whether lines are being lost."""
        return self._descriptor is None

    def write(
        self,
        *,
        route: str,
        method: str,
        status: int,
        sent_bytes: int,
        took_ms: float,
        loopback: bool,
        reason: str | None,
    ) -> None:
        """Writes a line; where that fails it says so once, in the log and by `broken`."""
        line = {
            "time": round(time.time(), 3),
            "route": route,
            "method": method,
            "status": status,
            "bytes": sent_bytes,
            "ms": round(took_ms, 1),
            "client": "loopback" if loopback else "remote",
            "reason": reason,
        }
        data = json.dumps(line).encode() + b"\n"
        if self._descriptor is None:
            return
        try:
            if self._size + len(data) > self._file_bytes:
                self._turn()
            self._size += os.write(self._descriptor, data)
        except OSError as error:
            _log.warning("the audit log cannot be written (%s)", error.strerror)
            self.close()

    def close(self) -> None:
        """Closes the file; nothing is written after."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _open(self) -> None:
        flags = (
            os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        )
        descriptor = os.open(self._path, flags, 0o600)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(0, "it is no file")
            os.fchmod(descriptor, 0o600)
        except BaseException:
            os.close(descriptor)
            raise
        self._size = status.st_size
        self._descriptor = descriptor

    def _turn(self) -> None:
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        before = self._descriptor
        self._open()
        if before is not None:
            os.close(before)
