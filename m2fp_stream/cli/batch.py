"""Several inputs: one after the other in this process, or side by side in processes of their own.

A failure is reported and the rest goes on.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from ..core.errors import EXIT_INTERRUPTED, BatchError
from ..processes.child import Child, Stream, start_module
from .interrupts import held
from .jobs import Job, prepare
from .show import report, say

__all__ = ["one_after_another", "side_by_side", "start_child"]

_POLL_S: Final = 0.05
"""Seconds between looks at the child processes of a batch; small beside any file's time."""

Start = Callable[[Mapping[str, Any]], Child]


def one_after_another(
    jobs: list[Job], run: Callable[[Job], None], *, overwrite: bool, debug: bool
) -> None:
    """Runs `jobs` in this process.

    Raises:
        BatchError: some failed.
    """
    failed = 0
    for job in jobs:
        try:
            prepare(job, overwrite=overwrite)
            run(job)
        except Exception as error:
            report(error, debug=debug, about=job.path_in)
            failed += 1
    _conclude(failed, len(jobs))


def start_child(told: Mapping[str, Any]) -> Child:
    """Starts `cli.child`, told its job by standard input: no list of processes shows that."""
    return start_module(f"{__package__}.child", job=told, stdout=Stream.OURS, stderr=Stream.OURS)


def side_by_side(
    jobs: list[Job],
    count: int,
    tell: Callable[[Job], Mapping[str, Any]],
    *,
    overwrite: bool,
    debug: bool,
    start: Start = start_child,
) -> None:
    """Runs `jobs` in child processes, `count` at a time; `tell` says what each is told, as JSON.

    Raises:
        BatchError: some failed.
    """
    running: dict[Child, Job] = {}
    waiting = iter(jobs)
    failed = 0
    try:
        while True:
            while len(running) < count and (job := next(waiting, None)) is not None:
                try:
                    prepare(job, overwrite=overwrite)
                except Exception as error:
                    report(error, debug=debug, about=job.path_in)
                    failed += 1
                else:
                    told = tell(job)
                    with held():
                        running[start(told)] = job
            if not running:
                break
            time.sleep(_POLL_S)
            for process in [child for child in running if child.poll() is not None]:
                failed += _has_failed(process, running.pop(process).path_in)
    finally:
        _end(running)
    _conclude(failed, len(jobs))


def _has_failed(process: Child, about: Path) -> bool:
    """Says whether a process that has ended failed; it has said why unless by a signal."""
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        say(f"error: {about}: its process was ended by {name}")
    elif process.returncode == EXIT_INTERRUPTED:
        say(f"error: {about}: its process was interrupted")
    return process.returncode != 0


def _end(processes: Iterable[Child]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


def _conclude(failed: int, count: int) -> None:
    if failed:
        raise BatchError(f"{failed} of {count} files failed, see above; the others are complete")
