"""Several inputs: one after the other in this process, or side by side in processes of their own.

A failure is reported and the rest goes on. At the end is told what was done, skipped and failed.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from ..core.errors import (
    EXIT_INTERRUPTED,
    BatchError,
    ConfigError,
    ParserError,
    PromiseError,
    SinkError,
    SourceError,
)
from ..processes.child import Child, Stream, start_module
from .interrupts import held
from .jobs import Job, Plan, prepare, skipped_text
from .journal import Journals
from .show import batch_table, reason, report, say

__all__ = ["Batch", "start_child"]

_POLL_S: Final = 0.05
"""Seconds between looks at the child processes of a batch; small beside any file's time."""

_WHAT: Final = {
    ConfigError.exit_code: "usage or configuration",
    SourceError.exit_code: "its input",
    ParserError.exit_code: "parser or model",
    SinkError.exit_code: "its output",
    PromiseError.exit_code: "a privacy promise",
}
"""What failed, by the exit code of a process; the process has said why."""

Start = Callable[[Mapping[str, Any]], Child]


def start_child(told: Mapping[str, Any]) -> Child:
    """Starts `cli.child`, told its job by standard input: no list of processes shows that."""
    return start_module(f"{__package__}.child", job=told, stdout=Stream.OURS, stderr=Stream.OURS)


@final
@dataclass(slots=True)
class Batch:
    """What was planned, and what has become of it; one run.

    Attributes:
        plan: what is to be done.
        overwrite: whether existing outputs may be replaced.
        debug: whether errors show where they were raised.
        journals: where what is done is written down; None: nowhere.
        done: inputs with a complete output, of this run.
        failed: what has none, and why.
    """

    plan: Plan
    overwrite: bool = field(kw_only=True)
    debug: bool = field(kw_only=True)
    journals: Journals | None = field(default=None, kw_only=True)
    done: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)

    def one_after_another(self, run: Callable[[Job], None]) -> None:
        """Runs every job in this process.

        Raises:
            BatchError: some failed.
        """
        for job in self._to_do():
            try:
                self.prepare(job)
                run(job)
            except Exception as error:
                self._report(error, job.path_in)
            else:
                self.note_done(job)
        self._conclude()

    def side_by_side(
        self,
        count: int,
        tell: Callable[[Job], Mapping[str, Any]],
        *,
        start: Start = start_child,
    ) -> None:
        """Runs the jobs in child processes, `count` at a time; each is told, as JSON, what to do.

        Raises:
            BatchError: some failed.
        """
        running: dict[Child, Job] = {}
        waiting = iter(self._to_do())
        try:
            while True:
                while len(running) < count and (job := next(waiting, None)) is not None:
                    try:
                        self.prepare(job)
                        told = tell(job)
                        with held():
                            running[start(told)] = job
                    except Exception as error:
                        self._report(error, job.path_in)
                if not running:
                    break
                time.sleep(_POLL_S)
                for process in [child for child in running if child.poll() is not None]:
                    self._note(process, running.pop(process))
        finally:
            _end(running)
        self._conclude()

    def _to_do(self) -> list[Job]:
        for error in self.plan.closed:
            self._report(error, None)
        return [job for job in self.plan.jobs if not job.finished]

    def _report(self, error: Exception, about: Path | None) -> None:
        report(error, debug=self.debug, about=about)
        self.failed.append((about or Path(), reason(error)))

    def prepare(self, job: Job) -> None:
        """See `jobs.prepare`; notes what is begun."""
        prepare(job, overwrite=self.overwrite)
        if self.journals is not None:
            self.journals.begin(job)

    def note_done(self, job: Job) -> None:
        """Counts a job whose output is complete, and notes it."""
        self.done += 1
        if self.journals is not None:
            try:
                self.journals.done(job)
            except SinkError as error:
                self.journals = None
                say(f"warning: {error}; what follows will be made again by --resume")

    def _note(self, process: Child, job: Job) -> None:
        """Notes the end of a process; it has said why it failed unless by a signal."""
        if process.returncode == 0:
            self.note_done(job)
            return
        about = job.path_in
        what = _WHAT.get(process.returncode, "something")
        why = f"{what} failed (exit code {process.returncode}, see above)"
        if process.returncode < 0:
            why = f"its process was ended by {signal.Signals(-process.returncode).name}"
        elif process.returncode == EXIT_INTERRUPTED:
            why = "its process was interrupted"
        if process.returncode in (EXIT_INTERRUPTED, *range(-signal.NSIG, 0)):
            say(f"error: {about}: {why}")
        self.failed.append((about, why))

    def _finished(self) -> str:
        """Returns how many were left as they are, in words; nothing where none was."""
        count = sum(job.finished for job in self.plan.jobs)
        stale = sum(job.is_stale for job in self.plan.jobs)
        if not count:
            return ""
        more = f", {stale} of them before their input was changed" if stale else ""
        return f"{count}{more} (--overwrite makes them again)"

    def _conclude(self) -> None:
        finished = self._finished()
        skipped = skipped_text(self.plan.skipped)
        if not batch_table(self.done, finished, skipped, self.failed):
            if finished:
                say(f"finished by an earlier run: {finished}")
            if skipped:
                say(f"skipped: {skipped}")
        if failed := len(self.failed):
            count = len(self.plan.jobs) + len(self.plan.closed)
            rest = "; the others are complete" if failed < count else ""
            raise BatchError(f"{failed} of {count} files failed, see above{rest}")


def _end(processes: Iterable[Child]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()
