"""What a batch has done, beside its outputs: how `--resume` knows what need not be done again.

A line of JSON is added for every output that is complete: its name below the folder, size and time
of input and output, a digest of the options, the version. Nothing of any picture. Lines are only
added, and the last about an output counts: whatever ends a run, the others stay. What cannot be
read (the last line, where the power failed) counts as not written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, final

from ..core.errors import SinkError, UsageError
from ..naming import PIPE, is_numbered
from .jobs import Job, Plan

if TYPE_CHECKING:
    from ..config import Settings

__all__ = ["NAME", "Journals", "options_digest"]

NAME: Final = ".m2fp-stream.journal"
"""Hidden, so that no run over the folder takes it for an input or names it as skipped."""

_MAX_BYTES: Final = 256 << 20
"""Of a journal; chosen: about a million outputs. A larger one is not ours."""

_NO_MATTER: Final = {
    "parser": {"threads"},
    "source": {"threads", "pipe_mb"},
    "m2fp": {"threads", "key"},
    "output": {"threads"},
    "file": {"workers", "deadline_s", "max_failures"},
}
"""Options that change no output: how fast it is made, and when it is given up."""


class _Found(Enum):
    """What a journal says of an output that is there."""

    CURRENT = auto()
    OUTDATED = auto()  # made from another input, or with other options
    UNKNOWN = auto()  # nothing is written about it, or it was changed since


def options_digest(settings: Settings, sections: Iterable[str], weights: str = "") -> str:
    """Returns 128 bits (hex) that differ where any option that changes an output does.

    Args:
        settings: all options.
        sections: which of them matter.
        weights: SHA-256 of what `parser.weights` names, which may be made again under that name.
    """
    chosen = settings.model_dump(mode="json", include=set(sections), exclude=_NO_MATTER)
    if weights:
        chosen["weights"] = weights
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:32]


@final
class Journals:
    """The journals of a batch, one in each folder that was named; open until `close`.

    Args:
        options: digest of the run's options.
        version: of this program.
    """

    def __init__(self, options: str, version: str) -> None:
        self._options, self._version = options, version
        self._open: dict[Path, _Journal] = {}
        self._inputs: dict[Path, list[int] | None] = {}
        self._stack = ExitStack()

    def resumed(self, planned: Plan) -> Plan:
        """Returns the plan without what is done, and makes the folders for the journals.

        What was made with other options, or before its input was changed, is made again, in the
        place of what is there.

        Raises:
            SinkError: a journal cannot be opened, or another run has it.
            UsageError: an input or output has no name that a journal could hold.
        """
        jobs = []
        for job in planned.jobs:
            if PIPE in (job.path_in, job.path_out) or any(map(is_numbered, job[:2])):
                raise UsageError("--resume: is for files and folders, not for pipes or numbers")
            found = self._found(job)
            if found is not _Found.UNKNOWN:
                job = job._replace(finished=found is _Found.CURRENT, replaced=True)
            jobs.append(job)
        return replace(planned, jobs=jobs)

    def begin(self, job: Job) -> None:
        """Notes what the input is before it is read: what changes meanwhile is made again."""
        self._inputs[job.path_in] = _state(job.path_in)

    def done(self, job: Job) -> None:
        """Adds an output that is complete.

        Raises:
            SinkError: the journal cannot be written.
        """
        self._open[job.folder].add(
            {
                "output": str(job.path_out.relative_to(job.folder)),
                "options": self._options,
                "version": self._version,
                "input": self._inputs.pop(job.path_in),
                "outputs": _outputs(job),
            }
        )

    def close(self) -> None:
        """Closes them; idempotent."""
        self._stack.close()

    def _found(self, job: Job) -> _Found:
        if job.folder not in self._open:
            journal = self._open[job.folder] = _Journal.open(job.folder / NAME)
            self._stack.callback(journal.close)
        entry = self._open[job.folder].entries.get(str(job.path_out.relative_to(job.folder)))
        noted = entry.get("outputs") if entry is not None else None
        now = _outputs(job)
        if entry is None or not isinstance(noted, list) or now[0] is None:
            return _Found.UNKNOWN
        noted = [*noted, None][: len(now)]  # a table may have been asked for only now
        if any(one not in (None, known) for one, known in zip(now, noted, strict=True)):
            return _Found.UNKNOWN
        same = entry.get("input") == _state(job.path_in) and None not in now
        is_current = same and entry.get("options") == self._options
        return _Found.CURRENT if is_current else _Found.OUTDATED


@final
@dataclass(frozen=True, slots=True)
class _Journal:
    """One file, held against other runs."""

    path: Path
    descriptor: int
    entries: Mapping[str, Mapping[str, Any]]

    @classmethod
    def open(cls, path: Path) -> Self:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise SinkError(f"{path}: {error.strerror}; --resume keeps its journal there") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
                raise SinkError(f"{path}: is no journal of ours; move it away")
            with os.fdopen(os.dup(descriptor), "rb") as file:
                lines = file.read(_MAX_BYTES).split(b"\n")
        except BlockingIOError:
            os.close(descriptor)
            raise SinkError(f"{path}: another run goes on with this folder; wait for it") from None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, dict(filter(None, map(_read, lines))))

    def add(self, entry: Mapping[str, Any]) -> None:
        line = b"\n" + json.dumps(entry).encode()  # apart from one before that was cut off
        try:
            os.write(self.descriptor, line)
            os.fsync(self.descriptor)
        except OSError as error:
            raise SinkError(f"{self.path}: {error.strerror}") from None

    def close(self) -> None:
        os.close(self.descriptor)


def _read(line: bytes) -> tuple[str, Mapping[str, Any]] | None:
    """Returns what a line says of which output; None where it cannot be read."""
    with suppress(ValueError, RecursionError):
        entry = json.loads(line)
        if isinstance(entry, dict) and isinstance(name := entry.get("output"), str):
            return name, entry
    return None


def _outputs(job: Job) -> list[list[int] | None]:
    """Returns size and time of all that is written of an input."""
    return [_state(path) for path in (job.path_out, job.tracks) if path is not None]


def _state(path: Path) -> list[int] | None:
    """Returns size and time of change: by these rsync(1) tells changed files. None: no file."""
    with suppress(OSError):
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    return None
