"""Opens uploaded pictures: parses or covers them, one after another, until its parent is gone.

Started by `kiosk.stills` as ``python -P -m m2fp_stream.kiosk.still_worker CHANNEL``. Its job:
``settings``, ``max_pixels`` and ``memory_bytes``. Each question is a message with the upload's
memory as a descriptor beside it; the answer's bytes replace the upload's there. It opens no file
for writing and no network connection, and has a limit on its memory.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Final, final

from ..core.errors import M2FPStreamError, SourceError
from ..privacy.hardening import harden
from ..processes.channel import ChannelError, Message, inherited, receive_with_descriptors, send
from ..processes.child import read_job
from .child import explain

__all__ = ["main"]

_MOST_UPLOAD_BYTES: Final = 256 << 20
"""More than `page.max_upload_mb` may be, 200 MB. Chosen: the next power of two."""

_MOST_ANSWER_BYTES: Final = 512 << 20
"""See `kiosk.stills`."""

_TOO_LARGE: Final = "the picture needs more memory than one may have; make it smaller"
_THE_PICTURE: Final = Path("the picture")


def main(arguments: list[str]) -> int:
    """Answers questions until the channel closes; returns the exit code."""
    harden(parent_death_signal=True)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent's to handle
    with inherited(arguments[0]) as channel:

        def say(message: Message) -> None:
            send(channel, message)

        try:
            job = read_job()
            for what, limit in (
                (resource.RLIMIT_AS, job["memory_bytes"]),
                (resource.RLIMIT_FSIZE, _MOST_ANSWER_BYTES),  # holds for the answer's memory, too
            ):
                resource.setrlimit(what, (limit, limit))
            worker = _Worker(job)
        except Exception as error:
            say({"ready": False, "error": explain(error)[0]})
            return 4
        say({"ready": True})
        while True:
            try:
                question, descriptors = receive_with_descriptors(channel)
            except ChannelError:  # the parent is gone
                return 0
            try:
                say(worker.answer(question, descriptors[0]))
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)


@final
class _Worker:
    """Keeps what is loaded from one picture to the next.

    Raises:
        ModelError: the weights cannot be loaded.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        # Heavy imports come after hardening: no window in which a crash could dump pixels.
        from ..app.stills import UploadedPictures
        from ..config import Settings

        settings = Settings.model_validate_json(json.dumps(job["settings"]))
        source = settings.source.model_copy(update={"max_pixels": job["max_pixels"]})
        self._max_pixels = job["max_pixels"]
        self._pictures = UploadedPictures(
            settings.model_copy(update={"source": source}), name=_THE_PICTURE
        )

    def answer(self, question: dict[str, Any], memory: int) -> dict[str, Any]:
        """Returns the answer to one question; its bytes are in `memory` afterwards."""
        try:
            upload = _read(memory)
            os.ftruncate(memory, 0)
            if question["what"] == "parse":
                data, areas, size_wh = self._pictures.parse(
                    upload, "palette" if question["style"] == "palette" else "index"
                )
                more: dict[str, Any] = {"areas": areas, "size_wh": list(size_wh)}
            else:
                data, more = self._pictures.anonymize(upload), {}
            _write(memory, data)
        except SourceError as error:
            os.ftruncate(memory, 0)
            return {"ok": False, "bad": True, "error": self._sentence(error)}
        except MemoryError:
            os.ftruncate(memory, 0)
            return {"ok": False, "bad": True, "error": _TOO_LARGE}
        except Exception as error:
            os.ftruncate(memory, 0)
            # Only our own messages may pass: a foreign one could quote data.
            text = str(error) if isinstance(error, M2FPStreamError) else type(error).__name__
            return {"ok": False, "error": text}
        return {"ok": True, **more}

    def _sentence(self, error: SourceError) -> str:
        text = str(error).removeprefix(f"{_THE_PICTURE}: ")
        if "exceeds the limit" in text:
            return f"the picture has more than {self._max_pixels} pixels; make it smaller"
        return f"the picture {text}"


def _read(memory: int) -> bytes:
    size = os.fstat(memory).st_size
    if size > _MOST_UPLOAD_BYTES:
        raise SourceError(f"{_THE_PICTURE}: is larger than {_MOST_UPLOAD_BYTES >> 20} MB")
    return os.pread(memory, size, 0)


def _write(memory: int, data: bytes) -> None:
    at, view = 0, memoryview(data)
    while at < len(view):
        at += os.pwrite(memory, view[at:], at)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
