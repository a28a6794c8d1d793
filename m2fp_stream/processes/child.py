"""Starts child processes, the only place that may: a clean environment, and nothing unasked for.

A child gets no option of the program by its environment: options may hold passwords (a camera's
address), and who may read a child's environment is not ours to say, for a browser or a display's
command is not hardened. It gets no secret by its command line either, which everybody may list.
What it needs to know is its job, JSON on its standard input.

Python children get `-P`: without it, Python looks in the working folder first, where somebody's
`json.py` may lie. Of our open files a child inherits those that are named, and no other.

A terminal sends Ctrl-C to every process of a command. It is the first one's to handle, so our
Python children are born with it blocked: one that still imports would end with a traceback.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import IO, Any, Final, Self, final

from . import channel as channels

__all__ = [
    "Child",
    "Reaper",
    "Stream",
    "child_environment",
    "read_job",
    "start_module",
    "start_program",
    "start_with_channel",
]

_PREFIX: Final = "M2FP_STREAM_"
_KEPT: Final = "M2FP_STREAM_TEST_"
"""What only tests set; it holds no options."""

_KILLED_S: Final = 1.0
"""How long anybody waits for a process that was killed. One that hangs in the kernel (state D: a
dead disk, a camera's driver) takes as long as it likes. Chosen: a kill takes milliseconds."""


def child_environment() -> dict[str, str]:
    """Returns the environment of a child: our modules' folders, and no option of the program."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_PREFIX) or name.upper().startswith(_KEPT)
    }
    folders = os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path)
    return {**kept, "PYTHONPATH": folders}


class Stream(Enum):
    """What a standard stream of a child is."""

    NOTHING = subprocess.DEVNULL
    PIPE = subprocess.PIPE
    OURS = None
    """That of this process."""


@final
class Child:
    """A process that this one has started; for one thread, but for `kill` and `pid`.

    As a context it is killed at the end of the block, if it has not ended by then.

    Args:
        command: program and arguments; no shell reads them.
        descriptors: the ones it inherits, under the same numbers; they stay the caller's.
        environment: all of it.
        stdin, stdout, stderr: its standard streams.
        new_session: whether it leads a session and a group of its own.

    Raises:
        OSError: there is no such program, or no process, descriptor or memory for it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        descriptors: Collection[int],
        environment: Mapping[str, str],
        stdin: Stream,
        stdout: Stream,
        stderr: Stream,
        new_session: bool,
    ) -> None:
        self._process = subprocess.Popen(
            command,
            pass_fds=descriptors,
            env=environment,
            stdin=stdin.value,
            stdout=stdout.value,
            stderr=stderr.value,
            start_new_session=new_session,
        )

    @property
    def pid(self) -> int:
        """Its process id; another's as soon as it has ended and was waited for."""
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """Our end of its standard input, which must be a pipe."""
        assert self._process.stdin is not None  # asked for at the start
        return self._process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """Our end of its standard output, which must be a pipe."""
        assert self._process.stdout is not None  # asked for at the start
        return self._process.stdout

    @property
    def returncode(self) -> int:
        """Its exit code, or minus the signal that ended it; `poll` or `wait` must have told it."""
        return self._process.returncode

    def poll(self) -> int | None:
        """Returns `returncode`, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Waits for its end, for ever by default; returns what `poll` does then."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def terminate(self) -> None:
        """Sends it SIGTERM; nothing where it has ended."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends it SIGKILL; nothing where it has ended. Any thread may do so."""
        self._process.kill()

    def close(self) -> None:
        """Kills it, waits for its end and closes the pipes; safe to call twice."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start_program(command: Sequence[str]) -> Child:
    """Starts a program that is none of ours: no streams, no descriptors, a clean environment.

    Raises:
        OSError: see `Child`.
    """
    return Child(
        command,
        descriptors=(),
        environment=child_environment(),
        stdin=Stream.NOTHING,
        stdout=Stream.NOTHING,
        stderr=Stream.NOTHING,
        new_session=False,
    )


def start_module(
    module: str,
    *arguments: str,
    descriptors: Sequence[int] = (),
    job: Mapping[str, Any] | None = None,
    stdin: Stream = Stream.NOTHING,
    stdout: Stream = Stream.NOTHING,
    stderr: Stream = Stream.NOTHING,
    variables: Mapping[str, str] | None = None,
    new_session: bool = False,
) -> Child:
    """Starts ``python -P -m MODULE DESCRIPTORS... ARGUMENTS...``.

    Args:
        module: a module of ours.
        arguments: nothing secret: everybody may list them.
        descriptors: inherited, and named by their numbers; they stay the caller's.
        job: what `read_job` returns there, less than a pipe holds (64 KiB, pipe(7)).
        stdin: its standard input, where it gets no job.
        stdout: its standard output.
        stderr: its standard error.
        variables: added to its environment.
        new_session: see `Child`.

    Raises:
        OSError: see `Child`.
    """
    text = None if job is None else json.dumps(job).encode()  # before anything is started
    with _deaf_to_the_terminal():
        child = Child(
            [sys.executable, "-P", "-m", module, *map(str, descriptors), *arguments],
            descriptors=descriptors,
            environment={**child_environment(), **(variables or {})},
            stdin=stdin if text is None else Stream.PIPE,
            stdout=stdout,
            stderr=stderr,
            new_session=new_session,
        )
    if text is not None:
        with suppress(BrokenPipeError), child.stdin as pipe:  # it has died, as its watcher sees
            pipe.write(text)
    return child


@contextmanager
def _deaf_to_the_terminal() -> Generator[None]:
    """Blocks Ctrl-C here for a moment, and for good in what is started meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_with_channel(
    module: str,
    *,
    descriptors: Sequence[int] = (),
    job: Mapping[str, Any],
    stderr: Stream = Stream.NOTHING,
    variables: Mapping[str, str] | None = None,
) -> tuple[Child, socket.socket]:
    """Starts ``python -P -m MODULE CHANNEL DESCRIPTORS...``; see `start_module`.

    Returns:
        The child, and our end of the channel to it (see `processes.channel`).

    Raises:
        OSError: see `Child`; nothing is left open.
    """
    ours, theirs = channels.pair()
    try:
        with theirs:
            passed = (theirs.fileno(), *descriptors)
            child = start_module(
                module, descriptors=passed, job=job, stderr=stderr, variables=variables
            )
    except BaseException:
        ours.close()
        raise
    return child, ours


def read_job() -> dict[str, Any]:
    """Returns the job of this process, a child; its standard input is empty from then on."""
    job: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    return job


@final
class Reaper:
    """Kills processes, and takes later the exit codes of those that do not end at once.

    For one thread. Nobody waits longer than a second for one that hangs in the kernel.
    """

    def __init__(self) -> None:
        self._left: list[Child] = []

    def kill(self, child: Child) -> None:
        """Kills a process; waits a second at most for its end."""
        child.kill()
        if child.wait(_KILLED_S) is None:
            self._left.append(child)

    def poll(self) -> None:
        """Takes the exit codes of those that have ended; call it now and then."""
        self._left = [child for child in self._left if child.poll() is None]
