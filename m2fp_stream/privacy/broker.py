"""Keeps the part files of a process that is shut in, and may not touch the folder they stand in.

Started as ``python -P -m m2fp_stream.privacy.broker CHANNEL`` before that. Its job: {"paths": the
outputs' final names, "folders": others, of which every name may be one}. It makes the files and
sends them open; gives them their names; removes what was not finished when the other end is gone,
however that ended. It opens nothing else, and no picture passes through it.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self, final

from ..core.errors import SinkError
from ..core.part_file import PartFile, refused, use_broker
from ..processes.channel import (
    ChannelError,
    Message,
    inherited,
    receive_one,
    receive_with_descriptors,
    send,
)
from ..processes.child import Child, read_job, start_with_channel
from .hardening import harden

__all__ = ["FileBroker", "main"]

_END_S: Final = 10.0
"""How long its end is waited for. Chosen: to remove a file takes a moment; a dead disk may take for
ever, and then it is left to itself."""


@final
class FileBroker:
    """This process's end; any thread may ask, one at a time. See `core.part_file.Broker`.

    Args:
        child: the process that keeps.
        channel: our end of the channel to it.
    """

    def __init__(self, child: Child, channel: socket.socket) -> None:
        self._child, self._channel = child, channel
        self._lock = threading.Lock()
        self._asked = 0

    @classmethod
    def start(cls, paths: Iterable[Path], folders: Iterable[Path] = ()) -> Self:
        """Starts the process and lets it keep all part files that this one makes from now on.

        Args:
            paths: the final names that there may be.
            folders: of others.

        Raises:
            OSError: no process can be started.
        """
        job = {"paths": [str(path) for path in paths], "folders": [str(one) for one in folders]}
        broker = cls(*start_with_channel(__name__, job=job))
        use_broker(broker)
        atexit.register(broker.close)  # what it removes is gone when this process is
        return broker

    def make(self, path: Path, *, overwrite: bool) -> int:
        """See `core.part_file.Broker`."""
        return self._ask_for_file(path, "make", overwrite=overwrite)

    def holds(self, path: Path) -> bool:
        """See `core.part_file.Broker`."""
        return bool(self._ask(path, "holds")[0].get("holds"))

    def reopen(self, path: Path) -> int:
        """See `core.part_file.Broker`."""
        return self._ask_for_file(path, "reopen")

    def claim(self, path: Path) -> None:
        """See `core.part_file.Broker`."""
        self._ask(path, "claim")

    def publish(self, path: Path, *, private: bool, sync: bool) -> None:
        """See `core.part_file.Broker`."""
        self._ask(path, "publish", private=private, sync=sync)

    def discard(self, path: Path) -> None:
        """See `core.part_file.Broker`; where the process is gone, nothing can be done."""
        with suppress(SinkError):
            self._ask(path, "discard")

    def close(self) -> None:
        """Ends the process, which removes what is unfinished; idempotent."""
        use_broker(None)
        self._channel.close()
        self._child.wait(_END_S)

    def _ask_for_file(self, path: Path, what: str, **more: bool) -> int:
        _, files = self._ask(path, what, **more)
        if not files:
            raise refused(f"{path}: the process that makes outputs sent no file; run again", None)
        return files[0]

    def _ask(self, path: Path, what: str, **more: bool) -> tuple[Message, list[int]]:
        with self._lock:
            self._asked += 1  # an answer that a signal kept us from taking is told by its number
            asked = {"number": self._asked, "do": what, "path": str(path), **more}
            try:
                send(self._channel, asked)
                while True:
                    answer, files = receive_with_descriptors(self._channel)
                    if answer.get("number") == self._asked:
                        break
                    for file in files:
                        os.close(file)
            except OSError:  # a ChannelError is one
                raise refused(
                    f"{path}: the process that makes outputs is gone; run again", None
                ) from None
        if (problem := answer.get("refused")) is not None:
            raise refused(str(problem), answer.get("errno"))
        return answer, files


@final
class _PartFiles:
    """The part files that were asked for, by their final names."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._paths = frozenset(job["paths"])
        self._folders = frozenset(job["folders"])
        self._parts: dict[str, PartFile] = {}
        self._does: dict[str, Callable[[str, Message], int | None]] = {
            "make": self._make,
            "reopen": self._reopen,
            "claim": self._claim,
            "publish": self._publish,
            "discard": self._discard,
        }

    def answer(self, asked: Message) -> tuple[Message, int | None]:
        """Does what is asked; returns the answer, and the file that goes with it, to be closed."""
        path, what = str(asked.get("path")), str(asked.get("do"))
        try:
            if path not in self._paths and str(Path(path).parent) not in self._folders:
                raise SinkError(f"{path}: is none of the outputs that were named")
            if what == "holds":
                return {"holds": self._holds(path)}, None
            return {}, self._does[what](path, asked)
        except SinkError as error:
            return {"refused": str(error), "errno": error.errno}, None
        except (OSError, KeyError, TypeError) as error:
            return {"refused": f"{path}: {type(error).__name__}", "errno": None}, None

    def close(self) -> None:
        """Removes what is unfinished."""
        while self._parts:
            self._parts.popitem()[1].discard()

    def _make(self, path: str, asked: Message) -> int:
        if (old := self._parts.pop(path, None)) is not None:  # whoever asked for it was interrupted
            old.discard()
        part = self._parts[path] = PartFile(Path(path), overwrite=bool(asked["overwrite"]))
        return os.dup(part.descriptor)

    def _holds(self, path: str) -> bool:
        with suppress(SinkError):
            self._parts[path].check()
            return True
        return False

    def _reopen(self, path: str, _: Message) -> int:
        with self._parts[path].reopen() as file:
            return os.dup(file.fileno())

    def _claim(self, path: str, _: Message) -> None:
        self._parts[path].claim()

    def _publish(self, path: str, asked: Message) -> None:
        self._parts[path].publish(private=bool(asked["private"]), sync=bool(asked["sync"]))
        del self._parts[path]

    def _discard(self, path: str, _: Message) -> None:
        if (part := self._parts.pop(path, None)) is not None:
            part.discard()


def main(arguments: list[str]) -> int:
    """Serves until the other end is gone; returns the exit code."""
    harden()
    # It ends when who asks has ended, and cleans up then.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    kept = _PartFiles(read_job())
    try:
        with inherited(arguments[0]) as channel:
            while True:
                asked = receive_one(channel, None)
                answer, file = kept.answer(asked)
                answer["number"] = asked.get("number")
                try:
                    send(channel, answer, *(() if file is None else (file,)))
                finally:
                    if file is not None:
                        os.close(file)
    except (ChannelError, OSError):
        pass
    finally:
        kept.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
