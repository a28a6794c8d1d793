"""Keeps one process running: starts it, listens to it, replaces it when it dies or falls silent."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, final

from ..core.environment import child_environment
from ..core.errors import EXIT_INTERNAL
from ..sinks import page_link

__all__ = ["Failure", "Keeper", "Killed", "Patience"]

_KILLED_S: Final = 1.0
"""How long anybody waits for a process that was killed. One that hangs in the kernel (state D: a
dead disk, a camera's driver) takes as long as it likes."""


@final
class Killed:
    """Kills processes, and buries later those that do not end at once; for one thread."""

    def __init__(self) -> None:
        self._left: list[subprocess.Popen[bytes]] = []

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kills a process; waits a second at most for its end."""
        process.kill()
        try:
            process.wait(_KILLED_S)
        except subprocess.TimeoutExpired:
            self._left.append(process)

    def tend(self) -> None:
        """Buries those that have ended; call it now and then."""
        self._left = [process for process in self._left if process.poll() is None]


@final
@dataclass(frozen=True, slots=True)
class Patience:
    """How long a process may take, and when it is started again; seconds.

    Attributes:
        starting_s: until its first beat.
        silent_s: without a beat, from then on; after that it is killed.
        first_wait_s: before it is started again; doubles each time.
        longest_wait_s: doubling ends here.
        healthy_s: of beats, after which the next wait is the first again.
    """

    starting_s: float = 90.0
    silent_s: float = 15.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    healthy_s: float = 60.0


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """Why a process ended: one line, and the exit code that goes with it."""

    text: str
    exit_code: int


@final
class Keeper:
    """Looks after one process; every method is for one thread, that of the first `tend`.

    Args:
        name: for messages, such as "the camera process".
        module: what is run, ``python -P -m MODULE CONTROL DESCRIPTORS...``.
        descriptors: inherited ones, passed by number; they stay the caller's.
        job: returns what the process reads from its standard input, anew for each start.
        patience: see there.
        lasting: exit codes of errors that another try does not mend; one of them ends a process
            that never worked for good (`given_up`).
        on_notice: gets sentences for the user.
    """

    def __init__(
        self,
        name: str,
        module: str,
        *,
        descriptors: Sequence[int] = (),
        job: Callable[[], Mapping[str, Any]] = dict,
        patience: Patience | None = None,
        lasting: Collection[int] = (),
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self._module, self._descriptors, self._job = module, tuple(descriptors), job
        self._patience = patience or Patience()
        self._lasting = frozenset(lasting)
        self._notice = on_notice or (lambda _: None)
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._killed = Killed()
        self._start_at_s = 0.0
        self._wait_s = self._patience.first_wait_s
        self._heard_s = self._up_since_s = 0.0
        self._said: Failure | None = None
        self._ending = False
        self.starts = 0
        self.up = False
        """Whether the process that runs has beaten at least once."""
        self.was_up = False
        """Whether any has."""
        self.done = False
        """Whether it ended by itself and has nothing left to do."""
        self.given_up = False
        """Whether its `failure` is one that another try does not mend."""
        self.failure: Failure | None = None
        """Why the last one ended."""

    @property
    def pid(self) -> int | None:
        """Process id, or None where none runs."""
        return None if self._process is None else self._process.pid

    @property
    def channel(self) -> socket.socket | None:
        """The control socket, to wait for messages; None where no process runs."""
        return self._channel

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message to the process, if it runs and can take it at once."""
        if self._channel is not None:
            with suppress(OSError):
                page_link.send(self._channel, message)

    def tend(self) -> list[dict[str, Any]]:
        """Does what is due and returns the messages that have come; call it several times a second.

        It waits for nothing, but for a process that it has to kill: a second at most.

        Raises:
            OSError: no process can be started at all, in the very beginning.
        """
        now_s = time.monotonic()
        self._killed.tend()
        if self._process is None:
            over = self.done or self.given_up or self._ending
            if not over and now_s >= self._start_at_s:
                self._start(now_s)
            return []
        assert self._channel is not None  # they come and go together
        messages, _ = page_link.receive(self._channel)
        for message in messages:
            self._note(message, now_s)
        code = self._process.poll()
        if code is not None:
            self._ended(code, now_s)
        elif now_s - self._heard_s > self._limit_s:
            self._said = Failure(f"did not answer for {self._limit_s:g} s", EXIT_INTERNAL)
            self._killed.kill(self._process)
            self._ended(-signal.SIGKILL, now_s)
        elif self.up and now_s - self._up_since_s >= self._patience.healthy_s:
            self._wait_s = self._patience.first_wait_s
        return messages

    def ask_to_end(self) -> None:
        """Tells the process to end; it is not started again."""
        self._ending = True
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def end(self, deadline_s: float) -> None:
        """Waits for the process until then (`time.monotonic`), and kills it if it must.

        Not even then does it wait longer than a second for one that does not end.
        """
        self._ending = True
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._killed.kill(self._process)
        self._forget()

    @property
    def _limit_s(self) -> float:
        return self._patience.silent_s if self.up else self._patience.starting_s

    def _start(self, now_s: float) -> None:
        self._said = None
        self.up = False
        try:
            self._launch()
        except OSError as error:  # out of processes, descriptors or memory
            self._forget()
            if not self.starts:
                raise
            self._lost(Failure(f"cannot be started ({error.strerror})", EXIT_INTERNAL), now_s)
            return
        self.starts += 1
        self._heard_s = time.monotonic()

    def _launch(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            passed = (theirs.fileno(), *self._descriptors)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module, *map(str, passed)],
                pass_fds=passed,
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
        job = self._process.stdin
        assert job is not None  # asked for above
        with suppress(BrokenPipeError), job:
            job.write(json.dumps(self._job()).encode())

    def _note(self, message: dict[str, Any], now_s: float) -> None:
        match message:
            case {"kind": "beat"}:
                self._heard_s = now_s
                if not self.up:
                    self.up = self.was_up = True
                    self._up_since_s = now_s
            case {"kind": "error", "text": str(text), "exit_code": int(code)}:
                self._said = Failure(text, code)
            case {"kind": "ended"}:
                self.done = True
            case {"kind": "notice", "text": str(text)}:
                self._notice(text)
            case _:
                pass

    def _ended(self, code: int, now_s: float) -> None:
        assert self._channel is not None  # the process has just run
        # What it said last is read before the way is closed.
        for message in page_link.receive(self._channel)[0]:
            self._note(message, now_s)
        self._forget()
        if self.done or self._ending:
            return
        if self._said is None:
            text = f"was ended by {_name(-code)}" if code < 0 else f"ended with code {code}"
            self._said = Failure(text, EXIT_INTERNAL)
        self._lost(self._said, now_s)

    def _lost(self, failure: Failure, now_s: float) -> None:
        self.failure = failure
        self.given_up = not self.was_up and failure.exit_code in self._lasting
        if self.given_up:
            return
        self._start_at_s = now_s + self._wait_s
        self._notice(f"{self.name}: {failure.text}; starting it again in {self._wait_s:g} s")
        self._wait_s = min(self._patience.longest_wait_s, self._wait_s * 2)

    def _forget(self) -> None:
        channel, self._channel = self._channel, None
        self._process = None
        self.up = False
        if channel is not None:
            channel.close()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
