"""ModelScope's client, in a process of its own: fetches one file, and says how it goes.

Started by `models.hub` as ``python -P -m m2fp_stream.models.hub_client MODEL REVISION FILE
FOLDER``.
"""

from __future__ import annotations

import errno
import inspect
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["DISK_ERRORS", "main"]

DISK_ERRORS: Final = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
)
"""What a failed write says of the disk, not of the hub. Source: open(2), write(2)."""

_SAY_EVERY_S: Final = 0.1
"""Chosen: ten times a second is as often as a person sees a bar move."""


def main() -> None:
    """Fetches one file, in the client's own process; says how it goes in lines of JSON."""
    model_id, revision, file, folder = sys.argv[1:]
    channel = os.dup(1)
    os.dup2(2, 1)  # what the client prints is not ours

    def say(**facts: object) -> None:
        try:
            os.write(channel, json.dumps(facts).encode() + b"\n")
        except BrokenPipeError:
            os._exit(1)  # nobody is there any more; the client would try again and again

    try:
        download = _client()
    except ImportError:
        say(missing=True)
        return
    try:
        download(
            model_id,
            revision=revision,
            local_dir=folder,
            allow_patterns=[file],
            max_workers=1,
            progress_callbacks=[_meter(say)],
        )
    except Exception as error:
        say(**_told(error))
        return
    if (Path(folder) / file).is_file():
        say(whole=True)
    else:  # the hub's list of files has none of that name
        say(error="FileNotFoundError")


def _client() -> Callable[..., object]:
    """Imports the client.

    Raises:
        ImportError: it is not there, or too old.
    """
    # Without this the client loads torch, which takes seconds and fetches nothing.
    sys.modules["torch"] = None  # type: ignore[assignment]  # says that there is none

    from modelscope.hub.snapshot_download import snapshot_download

    if "progress_callbacks" not in inspect.signature(snapshot_download).parameters:
        raise ImportError("too old")
    client: Callable[..., object] = snapshot_download
    return client


def _meter(say: Callable[..., None]) -> type:
    """Returns the class by which the client tells how far it is."""

    class Meter:
        """The client's protocol for progress: made for a file, told of bytes, then ended."""

        def __init__(self, _: str, size: int) -> None:
            self.done, self.total, self.said_s = 0, size or None, 0.0

        def update(self, size: int) -> None:
            self.done += size
            if time.monotonic() - self.said_s >= _SAY_EVERY_S:
                self.said_s = time.monotonic()
                say(done=self.done, total=self.total)

        def end(self) -> None:
            say(done=self.done, total=self.total)

    return Meter


def _told(error: Exception) -> dict[str, object]:
    """Returns what of the client's error is told: its class, and the disk's number if it has one.

    A failed file's error is wrapped, and the disk's may be the cause of the wrapped one.
    """
    inner: BaseException = next(iter(getattr(error, "failed_files", {}).values()), error)
    cause: BaseException | None = inner
    while cause is not None and getattr(cause, "errno", None) not in DISK_ERRORS:
        cause = cause.__cause__ or cause.__context__
    return {"error": type(inner).__name__, "errno": getattr(cause, "errno", None)}


if __name__ == "__main__":
    main()
