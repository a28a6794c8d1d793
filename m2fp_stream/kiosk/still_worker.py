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
from typing import TYPE_CHECKING, Any, Final, final

from ..core.errors import M2FPStreamError, SourceError
from ..privacy.hardening import harden
from ..processes.channel import ChannelError, Message, inherited, receive_with_descriptors, send
from ..processes.child import read_job
from .child import explain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..config import Settings
    from ..core.records import LookKind
    from ..parsers.base import Looker, Parser
    from ..pipeline.looks import Seen

__all__ = ["main"]

_MOST_UPLOAD_BYTES: Final = 256 << 20
"""More than `page.max_upload_mb` may be, 200 MB."""

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
        import cv2

        from ..config import Settings

        cv2.setNumThreads(1)
        settings = Settings.model_validate_json(json.dumps(job["settings"]))
        source = settings.source.model_copy(update={"max_pixels": job["max_pixels"]})
        self._settings = settings.model_copy(update={"source": source})
        self._max_pixels = job["max_pixels"]
        self._lookers = _Lookers(self._settings)
        self._plain: Parser | None = None

    def answer(self, question: dict[str, Any], memory: int) -> dict[str, Any]:
        """Returns the answer to one question; its bytes are in `memory` afterwards."""
        try:
            upload = _read(memory)
            os.ftruncate(memory, 0)
            if question["what"] == "parse":
                data, more = self._parse(upload, question["style"])
            else:
                data, more = self._anonymize(upload), {}
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

    def _parse(self, upload: bytes, style: str) -> tuple[bytes, dict[str, Any]]:
        """Does what `app.parse_image` does with a file."""
        from ..app import load_parser
        from ..core.labels import Label
        from ..core.safe import LabelImage
        from ..sinks.label_png import MemoryLabelSink
        from ..sources.image import ImageSource

        with ImageSource(_THE_PICTURE, self._settings.source, data=upload) as source:
            size_wh = source.info.size_wh
            if self._plain is None:
                self._plain = load_parser("embedded", self._settings)
            for captured in source.frames():
                try:
                    with captured.frame.analysis() as bgr:
                        result = self._plain.parse(bgr)
                finally:
                    captured.frame.release()
        image = LabelImage(result, size_wh=size_wh)
        with MemoryLabelSink("palette" if style == "palette" else "index") as sink:
            sink.write(image)
            sink.finish()
        areas = {}
        for label in Label:
            if pixels := int((image.labels == label).sum()):
                areas[label.title] = pixels
        return sink.data, {"areas": areas, "size_wh": list(size_wh)}

    def _anonymize(self, upload: bytes) -> bytes:
        """Does what `app.anonymize` does with a picture file."""
        from ..compositor.compose import Compositor
        from ..pipeline.files.run import FileRun
        from ..pipeline.looks import LookPool
        from ..policy import Policy
        from ..sinks.image import MemoryImageSink
        from ..sources.image import ImageSource

        settings = self._settings
        suffix = ".png" if upload.startswith(b"\x89PNG") else ".jpg"
        with (
            ImageSource(_THE_PICTURE, settings.source, data=upload) as source,
            MemoryImageSink(suffix) as sink,
        ):
            looks = LookPool([self._lookers])
            try:
                FileRun(
                    source=source,
                    sink=sink,
                    composer=Compositor(settings.compose),
                    looks=looks,
                    policy=Policy(settings.policy),
                    options=settings.file,
                ).run()
            finally:
                looks.close()
        return sink.data


@final
class _Lookers:
    """The looker in this process, made when it is first asked; see `looks.SyncLooker`."""

    def __init__(self, settings: Settings) -> None:
        self._options = settings.parser
        self._looker: Looker | None = None

    def look(self, bgr: NDArray[np.uint8], kind: LookKind, *, frame_id: int) -> Seen:
        """Returns what one look found.

        Raises:
            ModelError: the weights cannot be loaded.
        """
        from ..parsers.embedded.looker import EmbeddedLooker

        if self._looker is None:
            options = self._options
            self._looker = EmbeddedLooker(threads=options.threads, runtime=options.runtime)
        return self._looker.asked(kind, bgr, frame_id=frame_id)

    def interrupt(self) -> None:
        """Nothing to do: whoever waits kills this process."""

    def close(self) -> None:
        """The looker is kept for the next picture."""


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
