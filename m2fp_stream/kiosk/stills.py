"""Uploaded pictures: taken unopened, handed to a process that may die, and its answer checked."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from typing import Any, Final, final

from ..processes.channel import ChannelError, Message, receive_soon, send
from ..processes.child import Child, start_with_channel
from ..processes.memory import open_memory
from ..web.stills import BadUpload, Busy, CoveredStill, ParsedStill

__all__ = ["StillPatience", "StillService"]

_log = logging.getLogger(__name__)

_MOST_ANSWER_BYTES: Final = 512 << 20
"""A PNG of 200 million pixels of noise is larger; such a one is refused. The worker has the same
limit. Chosen."""

_BASE_BYTES: Final = 2 << 30
_BYTES_A_PIXEL: Final = 32
"""Address space of the worker. Measured for pictures of 1 and 40 million pixels (JPEG, PNG with
alpha; parsed and anonymised): at most 1.24 and 2.06 GB, which is 21 bytes a pixel; PNG of 16 bits
takes some more, and the base grows a little with the machine's cores."""

_MEDIA_TYPES: Final = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n"}
_MOST_NAMES: Final = 64
"""Labels of one picture; there are 21 (`core.labels`). Chosen."""

_MOST_TEXT: Final = 300
"""Characters of an error that pages are shown: more than any sentence of ours has. Chosen."""

_BUSY: Final = "other pictures are being worked on; try again in a while"
_BROKEN: Final = "the picture could not be worked on; export it again, or make it smaller"
_SLOW: Final = "the picture took too long; make it smaller"
_NO_WORKER: Final = "pictures cannot be taken just now; try again in a while"


@final
@dataclass(frozen=True, slots=True)
class StillPatience:
    """Bounds of the service.

    Attributes:
        waiting: uploads that may wait while one is worked on.
        deadline_s: one that takes longer is given up, and its process killed.
        start_s: the same for a process's start.
        idle_s: a process that has had nothing to do for so long is ended.
    """

    waiting: int = 4
    deadline_s: float = 30.0
    start_s: float = 60.0
    idle_s: float = 120.0


@final
class StillService:
    """Gives uploads to one worker process at a time; lives in one event loop.

    The bytes pass through an anonymous memory that is made for one upload and gone after it. The
    worker is started on first use, killed when it hangs, dies or answers nonsense, and started
    again for the next upload. It satisfies `web.stills.Still`.

    Args:
        settings: JSON of the sections of `config.Settings` that the worker needs.
        max_pixels: width times height of what it takes.
        memory_bytes: address space that the worker may take; None: enough for `max_pixels`.
        patience: see there.
        module: what is run as the worker.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        *,
        max_pixels: int,
        memory_bytes: int | None = None,
        patience: StillPatience | None = None,
        module: str = f"{__package__}.still_worker",
    ) -> None:
        self._job = {
            "settings": settings,
            "max_pixels": max_pixels,
            "memory_bytes": memory_bytes or _BASE_BYTES + _BYTES_A_PIXEL * max_pixels,
        }
        self._patience = patience or StillPatience()
        self._module = module
        self._process: Child | None = None
        self._channel: socket.socket | None = None
        self._turn = asyncio.Lock()
        self._inside = 0
        self._idle: asyncio.TimerHandle | None = None
        self._closed = False
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """The worker's process id, or None where none runs."""
        return None if self._process is None else self._process.pid

    async def parse(self, upload: bytes, *, palette: bool) -> ParsedStill:
        """Returns the label map of one picture.

        Raises:
            BadUpload, Busy: see `web.stills.Still`.
        """
        style = "palette" if palette else "index"
        answer, data = await self._ask({"what": "parse", "style": style}, upload)
        areas, size_wh = answer.get("areas"), answer.get("size_wh")
        if (
            not data.startswith(_MEDIA_TYPES["image/png"])
            or not isinstance(areas, dict)
            or len(areas) > _MOST_NAMES
            or not all(type(name) is str and type(n) is int for name, n in areas.items())
            or not isinstance(size_wh, list)
            or [type(side) for side in size_wh] != [int, int]
        ):
            raise self._nonsense()
        return ParsedStill(data, areas, (size_wh[0], size_wh[1]))

    async def anonymize(self, upload: bytes) -> CoveredStill:
        """Returns one picture, covered as configured: a PNG for a PNG, else a JPEG.

        Raises:
            BadUpload, Busy: see `web.stills.Still`.
        """
        _, data = await self._ask({"what": "anonymize"}, upload)
        for media_type, head in _MEDIA_TYPES.items():
            if data.startswith(head):
                return CoveredStill(data, media_type)
        raise self._nonsense()

    def close(self) -> None:
        """Ends the worker; what is under way fails."""
        self._closed = True
        self._kill()

    async def _ask(self, question: dict[str, Any], upload: bytes) -> tuple[dict[str, Any], bytes]:
        if self._closed or self._inside > self._patience.waiting:
            raise Busy(_BUSY)
        self._inside += 1
        try:
            async with self._turn:
                return await self._ask_now(question, upload)
        finally:
            self._inside -= 1

    async def _ask_now(
        self, question: dict[str, Any], upload: bytes
    ) -> tuple[dict[str, Any], bytes]:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        done = False
        try:
            await self._need_worker()
            assert self._channel is not None  # it is there now
            with open_memory() as memory:
                _fill(memory, upload)
                if not send(self._channel, question, memory):
                    raise ChannelError  # it has not taken the one before
                answer = await self._receive(self._patience.deadline_s)
                data = _contents(memory) if answer.get("ok") is True else b""
            done = True
        except TimeoutError:
            raise Busy(_SLOW) from None
        except OSError:  # ChannelError is one
            raise BadUpload(_BROKEN) from None
        finally:
            if not done:  # an interrupted one, too: its answer must not be taken for the next one's
                self._kill()
            elif self._process is not None:
                loop = asyncio.get_running_loop()
                self._idle = loop.call_later(self._patience.idle_s, self._kill)
        if answer.get("ok") is True:
            return answer, data
        error = answer.get("error")
        if answer.get("bad") is True and isinstance(error, str):
            raise BadUpload(_plain(error))
        _log.warning("a still picture failed: %s", _plain(str(error)))
        raise BadUpload(_BROKEN)

    async def _need_worker(self) -> None:
        """Sees to it that a worker runs.

        Raises:
            Busy: none can be started.
        """
        if self._process is not None and self._process.poll() is not None:
            self._kill()  # it died meanwhile; nobody was harmed
        if self._process is not None:
            return
        try:
            self._launch()
            self.starts += 1
            hello = await self._receive(self._patience.start_s)
        except OSError:  # TimeoutError and ChannelError are two
            self._kill()
            raise Busy(_NO_WORKER) from None
        if hello.get("ready") is not True:
            _log.warning("no process for still pictures: %s", _plain(str(hello.get("error"))))
            self._kill()
            raise Busy(_NO_WORKER)

    def _launch(self) -> None:
        # Threads it does not need would only take address space.
        self._process, self._channel = start_with_channel(
            self._module, job=self._job, variables={"OPENBLAS_NUM_THREADS": "1"}
        )

    async def _receive(self, deadline_s: float) -> Message:
        """Returns the worker's next message.

        Raises:
            TimeoutError: it does not come.
            ChannelError: the worker died, or it is no message.
        """
        assert self._channel is not None  # callers hold a worker
        return await receive_soon(self._channel, deadline_s)

    def _nonsense(self) -> BadUpload:
        self._kill()
        return BadUpload(_BROKEN)

    def _kill(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        process, self._process = self._process, None
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        if process is not None:
            process.close()


def _fill(memory: int, upload: bytes) -> None:
    view = memoryview(upload)
    while view:
        view = view[os.write(memory, view) :]


def _contents(memory: int) -> bytes:
    size = os.fstat(memory).st_size
    if not 0 < size <= _MOST_ANSWER_BYTES:
        raise ChannelError
    data = os.pread(memory, size, 0)
    if len(data) != size:
        raise ChannelError
    return data


def _plain(text: str) -> str:
    """Returns one printable line."""
    line = " ".join(text.split())[:_MOST_TEXT]
    return "".join(char for char in line if char.isprintable())
