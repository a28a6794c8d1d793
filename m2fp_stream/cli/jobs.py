"""Which inputs are written where, before any work: nothing is opened, and little is made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..core.errors import M2FPStreamError, SinkError, SourceError, UsageError
from ..naming import find_media

__all__ = ["Job", "check", "plan", "prepare"]


class Job(NamedTuple):
    """One input and its output."""

    path_in: Path
    path_out: Path


def plan(
    inputs: list[Path],
    output: Path | None,
    suffixes: frozenset[str],
    name: Callable[[Path, set[Path]], Path],
) -> list[Job]:
    """Returns who is written where; opens and creates nothing.

    Raises:
        SourceError: a folder cannot be read or holds nothing of `suffixes`.
        SinkError: the output folder does not exist.
        UsageError: two inputs would be written to one file.
    """
    found = _found(inputs, suffixes)
    if output is not None:
        with _within_reach(SinkError):
            if len(found) == 1 and found[0][0] == inputs[0] and not output.is_dir():
                _need_folder(output.parent)
                return [Job(inputs[0], output)]
            _need_folder(output)
    sources = {os.path.realpath(file): file for file, _ in found}
    jobs = []
    taken: set[Path] = set()
    for file, base in found:
        target = name(file if output is None else output / file.relative_to(base), taken)
        if target in taken or sources.get(os.path.realpath(target), file) != file:
            raise UsageError(f"{file}: {target} is another input or its output; use another -o")
        taken.add(target)
        jobs.append(Job(file, target))
    return jobs


def _found(inputs: list[Path], suffixes: frozenset[str]) -> list[tuple[Path, Path]]:
    """Returns each input once, with the folder that an output folder stands in for."""
    found: list[tuple[Path, Path]] = []
    for path in inputs:
        with _within_reach(SourceError):
            folder = path if path.is_dir() else None
            media = [path] if folder is None else find_media(folder, suffixes)
        if not media:
            raise SourceError(f"{path}: no file to work on in this folder")
        found += [(file, folder or path.parent) for file in media]
    return list(dict.fromkeys(found))


def _need_folder(folder: Path) -> None:
    if not folder.exists():
        raise SinkError(f"{folder}: no such output folder; create it first (mkdir -p)")
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; name an existing folder for the output")


def check(job: Job, *, overwrite: bool) -> None:
    """Refuses, before any work, an input or output that cannot be meant.

    Raises:
        SourceError: the input does not exist or is out of reach.
        UsageError: the output is the input, or exists without ``--overwrite``.
    """
    with _within_reach(SourceError):
        if not job.path_in.exists():
            raise SourceError(f"{job.path_in}: no such file")
    with _within_reach(SinkError):
        if os.path.lexists(job.path_out):
            if job.path_out.exists() and job.path_out.samefile(job.path_in):
                raise UsageError(f"{job.path_out}: the output is the input; name another with -o")
            if not overwrite:
                raise UsageError(f"{job.path_out}: exists; use --overwrite or another -o")


def prepare(job: Job, *, overwrite: bool) -> None:
    """Checks `job` and makes its folder below the output folder.

    Raises:
        SinkError: the folder cannot be made.
        SourceError, UsageError: see `check`.
    """
    check(job, overwrite=overwrite)
    with _within_reach(SinkError):
        job.path_out.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def _within_reach(kind: type[M2FPStreamError]) -> Iterator[None]:
    """Turns what the system says about a path into `kind`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, M2FPStreamError):
            raise
        raise kind(f"{error.filename}: {error.strerror}") from None
