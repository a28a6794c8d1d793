"""Parsers in processes of their own, which can be killed, and are, when they do not answer."""

from __future__ import annotations

import logging
import mmap
import os
import socket
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ModelError, ParserError
from ..core.labels import LabelSet
from ..core.records import ParseResult
from ..processes.channel import ChannelError, Message, receive_one, send
from ..processes.child import Child, start_with_channel
from ..processes.memory import map_memory, open_memory
from . import wire
from .work_queue import Answering, WorkQueue

__all__ = ["ParserQueue", "ParserWorker", "SyncParser", "WorkerProcess", "WorkerSpec"]

_log = logging.getLogger(__name__)

_UTIME: Final = 11
"""Where the CPU times stand behind the name. Source: proc_pid_stat(5), utime and stime."""
_SAMPLES: Final = 5
_SAMPLE_S: Final = 0.01
"""So often, so many seconds apart, it is asked whether a process wants the CPU. Chosen: one that
computes is seen running at once, and one that waits for a moment within 50 ms."""
_SMALLEST_MAP: Final = 32
"""Longer side of a map in pixels, unless the picture is smaller: a cruder one says nothing. Chosen:
a face that fills the picture has a few pixels an eye then."""
_DIED: Final = "the parser process died; a new one will be started"


@final
@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Which parser a worker runs.

    Attributes:
        parser: ``module:factory``; the factory returns a `parsers.base.Parser`, or a
            `parsers.embedded.looker.Looker` for a `looks.LookWorker`.
        options: the factory's keyword arguments, JSON values only.
        threads: threads the parser may use.
        niceness: how much its processes give way to others, 0 to 19.
        deadline_s: a parse that takes longer is a hang, and the worker is killed, unless it wants
            the CPU and has had less of it than that.
        start_deadline_s: the same for starting up.
        starved: deadlines that a process gets which wants the CPU and has not used a deadline's
            worth of it. Where others take the machine, a look takes as much longer; to start again
            costs more than to wait. Chosen: at most a minute with the deadline of live looks.
    """

    parser: str
    options: Mapping[str, object] = field(default_factory=dict)
    threads: int = 1
    niceness: int = 0
    deadline_s: float = 20.0
    start_deadline_s: float = 60.0
    starved: int = 12


class SyncParser(Answering, Protocol):
    """What `ParserQueue` serves its callers from."""

    def parse(self, bgr: NDArray[np.uint8], *, frame_id: int) -> ParseResult:
        """Returns the findings on one parse copy, or raises ParserError."""
        ...


class WorkerProcess:
    """One process that answers, started on first use and again after it failed.

    Not thread-safe: one thread at a time. What it is asked, and how its answers are checked, is its
    subclasses'.

    Attributes:
        starts: how often it was started.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._process: Child | None = None
        self._channel: socket.socket | None = None
        self._memory: mmap.mmap | None = None
        self._ready = False
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """Process id, or None where none runs."""
        return None if self._process is None else self._process.pid

    def interrupt(self) -> None:
        """Kills the process but leaves the clean-up to the thread that waits for it."""
        process = self._process
        if process is not None:
            process.kill()

    def begin(self) -> None:
        """Starts the process and does not wait until it is ready: what it imports takes .5 s.

        Call it once, before anything is asked, from a thread that lives as long as the worker.
        Where no process can be started now, the first look tries again and says why.
        """
        try:
            self._launch()
        except OSError:
            self.kill()

    def kill(self) -> None:
        """Ends the process at once and frees what belongs to it; safe to call twice."""
        self._ready = False
        process, self._process = self._process, None
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        if process is not None:
            process.close()
        self._memory = None

    close = kill

    def _start(self) -> None:
        if self._process is None:
            try:
                self._launch()
            except OSError as error:  # out of processes, descriptors or memory
                self.kill()
                raise ParserError(f"no parser process could be started: {error.strerror}") from None
        self.starts += 1
        hello = self._receive(self._spec.start_deadline_s)
        if hello.get("ready") is not True:
            self.kill()
            raise ModelError(f"the parser cannot start: {hello.get('error')}")
        self._greet(hello)
        self._ready = True

    def _greet(self, hello: Message) -> None:
        """Takes what the child said of itself when it was ready."""

    def _ask(self, request: Message) -> Message:
        """Sends `request` and returns the answer, which says that it went well.

        Raises:
            ParserError: it raised, died, hung or answered nonsense.
        """
        assert self._channel is not None  # callers hold a started worker
        try:
            sent = send(self._channel, request)
        except OSError:
            sent = False
        if not sent:
            self.kill()
            raise ParserError(_DIED)
        answer = self._receive(self._spec.deadline_s)
        if answer.get("ok") is not True:
            raise ParserError(
                f"the parser failed on frame {request['frame_id']}: {answer.get('error')}"
            )
        return answer

    def _picture(self, height: int, width: int) -> NDArray[np.uint8]:
        """Returns where a picture of that size is laid for the child; starts it where none runs."""
        if not self._ready:
            self._start()
        assert self._memory is not None  # _start() made it
        return wire.input_view(memoryview(self._memory), height, width)

    def _launch(self) -> None:
        job = {
            "parser": self._spec.parser,
            "options": dict(self._spec.options),
            "threads": self._spec.threads,
            "niceness": self._spec.niceness,
        }
        with open_memory(wire.TOTAL_BYTES) as memory:
            self._memory = map_memory(memory, wire.TOTAL_BYTES, writable=True)
            self._process, self._channel = start_with_channel(
                f"{__package__}.parser_worker", descriptors=(memory,), job=job
            )

    def _receive(self, deadline_s: float) -> Message:
        """Waits for an answer, as long as the deadline says; of one that is starved, longer."""
        assert self._channel is not None  # callers hold a started worker
        assert self.pid is not None
        pid, began_s = self.pid, _cpu_s(self.pid)
        left = self._spec.starved
        while True:
            try:
                return receive_one(self._channel, deadline_s)
            except TimeoutError:
                left -= 1
                if left and _cpu_s(pid) - began_s < deadline_s and _wants_cpu(pid):
                    _log.info("a parser process gets too little of the machine; waiting on")
                    continue
                self.kill()
                raise ParserError(f"the parser did not answer within {deadline_s:g} s") from None
            except ChannelError:
                self.kill()
                raise ParserError(_DIED) from None


def _cpu_s(pid: int) -> float:
    """Returns the CPU seconds that a process has used; 0 where that cannot be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        used = fields.rpartition(")")[2].split()[_UTIME : _UTIME + 2]
        return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0


def _wants_cpu(pid: int) -> bool:
    """Says whether any thread of a process runs, or would if it were let: one that hangs sleeps."""
    for _ in range(_SAMPLES):
        try:
            for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
                fields = stat.read_text(encoding="utf-8", errors="replace")
                if fields.rpartition(")")[2].split()[0] == "R":
                    return True
        except (OSError, IndexError):
            return False
        time.sleep(_SAMPLE_S)
    return False


@final
class ParserWorker(WorkerProcess):
    """One parser process (see `ParserQueue`)."""

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(spec)
        self._labels: LabelSet | None = None

    def _greet(self, hello: Message) -> None:
        try:
            self._labels = wire.read_label_set(hello["labels"])
        except (ValueError, TypeError, KeyError) as error:
            self.kill()
            raise ParserError(f"the parser's label set is nonsense: {error}") from None

    def parse(self, bgr: NDArray[np.uint8], *, frame_id: int) -> ParseResult:
        """Returns the worker's findings on `bgr`, an (h, w, 3) uint8 picture.

        Its sides are at most `wire.MAX_INPUT_SIDE`.

        Raises:
            ParserError: it raised, died, hung or answered nonsense. After the last three it has
                been killed; the next call starts a new one.
            ModelError: the weights cannot be loaded; trying again will not help.
        """
        height, width = bgr.shape[:2]
        picture = self._picture(height, width)
        assert self._memory is not None  # it was started
        assert self._labels is not None
        memory = memoryview(self._memory)
        picture[...] = bgr
        try:
            request = {"frame_id": frame_id, "height": height, "width": width}
            answer = self._ask(request)
            try:
                result = wire.read_result(memory, answer, self._labels)
            except (ValueError, TypeError, KeyError) as error:
                self.kill()
                raise ParserError(f"the parser answered nonsense: {error}") from None
        finally:
            picture.fill(0)
        if result.frame_id != frame_id:
            self.kill()
            raise ParserError(f"asked about frame {frame_id}, got an answer for {result.frame_id}")
        if not _is_map_of(result.label_map.shape, (height, width)):
            self.kill()
            raise ParserError(
                f"asked about a {width}x{height} picture, got a map of "
                f"{result.label_map.shape[1]}x{result.label_map.shape[0]}"
            )
        return result


def _is_map_of(shape: tuple[int, ...], picture: tuple[int, int]) -> bool:
    """Says whether a map of `shape` can be of a picture of that (height, width): its aspect."""
    height, width = shape
    tall, wide = picture
    if height > tall or width > wide or max(shape) < min(_SMALLEST_MAP, *picture):
        return False
    # Each side is rounded to a whole pixel.
    return abs(height * wide - width * tall) <= max(wide, tall)


@final
class ParserQueue(WorkQueue[SyncParser, ParseResult]):
    """Serves parse requests one after another from a thread, in order."""

    def __init__(self, parser: SyncParser, *, attempts: int = 2) -> None:
        """`attempts`: how often a parse is tried before its future gets the error."""
        super().__init__([parser], attempts=attempts, name="parses")

    def submit(self, bgr: NDArray[np.uint8], *, frame_id: int) -> Future[ParseResult]:
        """Queues a parse of `bgr`, an (h, w, 3) uint8 array that is zeroed once it was parsed.

        After `close` the future is cancelled at once.
        """
        return self._put(
            bgr,
            lambda parser: parser.parse(bgr, frame_id=frame_id),
            what=f"parse of frame {frame_id}",
        )
