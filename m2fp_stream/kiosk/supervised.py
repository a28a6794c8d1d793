"""One supervised process: started, listened to, and replaced when it dies or falls silent."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, final

from ..core.errors import EXIT_INTERNAL
from ..processes.backoff import Backoff
from ..processes.channel import Message, receive, send
from ..processes.child import Child, Reaper, Stream, start_with_channel

__all__ = ["Failure", "RestartPolicy", "SupervisedProcess"]


@final
@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a process counts as hung and is killed, and when it is started again; seconds.

    Attributes:
        first_sign_s: until it says that it starts: half a second as a rule, some seconds where the
            disk is slow.
        starting_s: until it works, which its first heartbeat says; a parser alone may take 60
            (`pipeline.workers.WorkerSpec`).
        silent_s: without a sign of life, starting or not: fifteen signs that did not come.
        first_wait_s: before it is started again; doubles each time. One that died by chance is
            hardly missed.
        longest_wait_s: doubling ends here: what comes back by itself is seen within half a minute.
        healthy_s: of heartbeats, after which the next wait is the first again: two longest waits.
    """

    first_sign_s: float = 15.0
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
class SupervisedProcess:
    """Looks after one process; every method is for one thread, that of the first `poll`.

    Args:
        name: for messages, such as "the camera process".
        module: what is run, ``python -P -m MODULE CONTROL DESCRIPTORS...``; see `kiosk.child`.
        descriptors: inherited ones, passed by number; they stay the caller's.
        job: returns what the process reads from its standard input, anew for each start.
        policy: see there.
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
        policy: RestartPolicy | None = None,
        lasting: Collection[int] = (),
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self._module, self._descriptors, self._job = module, tuple(descriptors), job
        self._policy = policy or RestartPolicy()
        self._lasting = frozenset(lasting)
        self._notice = on_notice or (lambda _: None)
        self._process: Child | None = None
        self._channel: socket.socket | None = None
        self._reaper = Reaper()
        self._start_at_s = 0.0
        self._backoff = Backoff(self._policy.first_wait_s, self._policy.longest_wait_s)
        self._started_s = self._sign_s = self._up_since_s = 0.0
        self._has_begun = False
        self._said: Failure | None = None
        self._ending = False
        self.starts = 0
        self.up = False
        """Whether the process that runs has said at least once that it works."""
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
                send(self._channel, message)

    def poll(self) -> list[Message]:
        """Does what is due and returns the messages that have come; call it several times a second.

        It waits for nothing, but for a process that it has to kill: a second at most.

        Raises:
            OSError: no process can be started at all, in the very beginning.
        """
        now_s = time.monotonic()
        self._reaper.poll()
        if self._process is None:
            over = self.done or self.given_up or self._ending
            if not over and now_s >= self._start_at_s:
                self._start(now_s)
            return []
        assert self._channel is not None  # they come and go together
        messages, _ = receive(self._channel)
        for message in messages:
            self._take(message, now_s)
        code = self._process.poll()
        if code is not None:
            self._ended(code, now_s)
        elif (limit_s := self._exceeded_s(now_s)) is not None:
            self._said = Failure(f"did not answer for {limit_s:g} s", EXIT_INTERNAL)
            self._reaper.kill(self._process)
            self._ended(-signal.SIGKILL, now_s)
        elif self.up and now_s - self._up_since_s >= self._policy.healthy_s:
            self._backoff.reset()
        return messages

    def ask_to_end(self) -> None:
        """Tells the process to end; it is not started again."""
        self._ending = True
        if self._process is not None:
            self._process.terminate()

    def end(self, deadline_s: float) -> None:
        """Waits for the process until then (`time.monotonic`), and kills it if it must.

        Not even then does it wait longer than a second for one that does not end.
        """
        self._ending = True
        if self._process is None:
            return
        if self._process.wait(max(0.0, deadline_s - time.monotonic())) is None:
            self._reaper.kill(self._process)
        self._forget()

    def _exceeded_s(self, now_s: float) -> float | None:
        """Returns the limit that the process has exceeded, or None."""
        policy = self._policy
        silent_s = policy.silent_s if self._has_begun else policy.first_sign_s
        if now_s - self._sign_s > silent_s:
            return silent_s
        if not self.up and now_s - self._started_s > policy.starting_s:
            return policy.starting_s
        return None

    def _start(self, now_s: float) -> None:
        self._said = None
        self.up = self._has_begun = False
        try:
            self._process, self._channel = start_with_channel(
                self._module,
                descriptors=self._descriptors,
                job=self._job(),
                stderr=Stream.OURS,
            )
        except OSError as error:  # out of processes, descriptors or memory
            self._forget()
            if not self.starts:
                raise
            self._lost(Failure(f"cannot be started ({error.strerror})", EXIT_INTERNAL), now_s)
            return
        self.starts += 1
        self._started_s = self._sign_s = time.monotonic()

    def _take(self, message: Message, now_s: float) -> None:
        match message:
            case {"kind": "starting"}:
                self._sign_s, self._has_begun = now_s, True
            case {"kind": "beat"}:
                self._sign_s, self._has_begun = now_s, True
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
        for message in receive(self._channel)[0]:
            self._take(message, now_s)
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
        wait_s = self._backoff.wait_s
        self._notice(f"{self.name}: {failure.text}; starting it again in {wait_s:g} s")
        self._start_at_s = now_s + self._backoff.take()

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
