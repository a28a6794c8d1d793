"""Which inputs are written where, before any work: nothing is opened, and little is made."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, final

from ..core.errors import M2FPStreamError, SinkError, SourceError, UsageError
from ..naming import (
    EARLIER,
    PIPE,
    TABLE_SUFFIXES,
    Names,
    earlier_pictures,
    find_media,
    is_numbered,
    table_path,
)

__all__ = ["Job", "Plan", "check", "plan", "prepare", "skipped_text", "with_tables"]


class Job(NamedTuple):
    """One input and its output.

    Attributes:
        path_in: what is read.
        path_out: what is written.
        finished: its folder was named, or `--resume` was given, and the output of an earlier run is
            there: it is left alone, and counted.
        tracks: where positions go; None: nowhere.
        folder: the output folder that was named, or that of the input: at or above the output.
        replaced: what is there was made by an earlier run, and is no longer what is wanted.
    """

    path_in: Path
    path_out: Path
    finished: bool = False
    tracks: Path | None = None
    folder: Path = Path()
    replaced: bool = False

    @property
    def is_stale(self) -> bool:
        """Whether it is finished, and its input was changed after that."""
        with suppress(OSError):
            out_ns = self.path_out.stat().st_mtime_ns
            return self.finished and self.path_in.stat().st_mtime_ns > out_ns
        return False


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        jobs: every input, in order.
        single: whether it is one file, named outright.
        skipped: how many files of folders are no input, by suffix or by what else they are.
        closed: folders below those named that cannot be read.
        shortened: the jobs whose output has a shorter name than it should.
    """

    jobs: list[Job]
    single: bool = False
    skipped: Mapping[str, int] = field(default_factory=dict)
    closed: Sequence[SourceError] = ()
    shortened: Sequence[Job] = ()


def plan(
    inputs: list[Path],
    output: Path | None,
    suffixes: frozenset[str],
    name: Callable[[Path, Container[Path]], Path],
    *,
    overwrite: bool,
) -> Plan:
    """Returns who is written where; opens and creates nothing.

    Raises:
        SourceError: a folder that was named cannot be read, or they hold nothing of `suffixes`.
        SinkError: the folder of the output folder does not exist.
        UsageError: two inputs would be written to one file.
    """
    _need_current_folder([*inputs, *([] if output is None else [output])])
    found = _Found(suffixes, output)
    for path in inputs:
        found.add(path)
    files = found.files
    if not files:
        raise SourceError(f"{inputs[0]}: no file to work on in this folder{found.besides}")
    single = len(files) == 1 and files[0] == (inputs[0], inputs[0].parent)
    _refuse_nameless([one for one, _ in files], output, single=single)
    if output is not None:
        with _within_reach(SinkError):
            if single and (output == PIPE or (output.suffix and not output.is_dir())):
                (_may_be_made if is_numbered(output) else _need_folder)(output.parent)
                return Plan([Job(inputs[0], output, folder=output.parent)], single=True)
            _may_be_made(output)
    sources = {os.path.realpath(file): file for file, _ in files}
    jobs = []
    taken = Names()
    targets: set[Path] = set()
    for file, base in files:
        target = name(file if output is None else output / file.relative_to(base), taken)
        if target in targets or sources.get(os.path.realpath(target), file) != file:
            raise UsageError(f"{file}: {target} is another input or its output; use another -o")
        taken.add(target)
        targets.add(target)
        finished = file not in found.named and not overwrite and _is_output(target)
        jobs.append(Job(file, target, finished, folder=base if output is None else output))
    shortened = [
        job
        for job in jobs
        if not job.finished and not job.path_out.name.startswith(job.path_in.stem)
    ]
    if output is None:  # these are known already
        found.skipped -= Counter({EARLIER: sum(_is_output(job.path_out) for job in jobs)})
    return Plan(jobs, single, found.skipped, found.closed, shortened)


def _refuse_nameless(files: Sequence[Path], output: Path | None, *, single: bool) -> None:
    """Refuses pipes and numbered pictures beside others, and inputs that name no output.

    Raises:
        UsageError: see above.
    """
    if output is not None and not single and _is_nameless(output):
        raise UsageError(f"-o {output}: is for one input, a file; name a folder for several")
    for path in filter(_is_nameless, files):
        if not single:
            raise UsageError(f"{path}: goes alone; run again for the other inputs")
        if output is None or not (output.suffix or output == PIPE):
            raise UsageError(f"{path}: name an output file with -o")


def _is_nameless(path: Path) -> bool:
    return path == PIPE or is_numbered(path)


def with_tables(planned: Plan, wanted: str | None) -> Plan:
    """Returns a plan whose jobs also write positions; opens and creates nothing.

    Args:
        planned: the plan.
        wanted: the file of the one input; or ``csv`` or ``json``: beside each output, under its
            name; None: no positions.

    Raises:
        SinkError: the folder of that file does not exist.
        UsageError: it is one file for several inputs, or an input would be replaced.
    """
    if wanted is None:
        return planned
    beside = f".{wanted}" in TABLE_SUFFIXES
    if not beside and not planned.single:
        raise UsageError(
            f"--tracks {wanted}: is one file, and there are several inputs; say csv or json, and "
            "each output gets a table beside it"
        )
    if beside and any(_is_nameless(job.path_out) for job in planned.jobs):
        raise UsageError(f"--tracks {wanted}: the output has no name of its own; name a file")
    if not beside:
        with _within_reach(SinkError):
            _need_folder(Path(wanted).parent)
    inputs = {os.path.realpath(job.path_in) for job in planned.jobs}
    jobs = []
    for job in planned.jobs:
        table = table_path(job.path_out, f".{wanted}") if beside else Path(wanted)
        if os.path.realpath(table) in inputs:
            raise UsageError(f"--tracks {wanted}: {table} is an input; name another file")
        jobs.append(job._replace(tracks=table))
    return replace(planned, jobs=jobs)


def _is_output(path: Path) -> bool:
    """Says whether a file stands there that a run may have left: none leaves an empty one."""
    with suppress(OSError):
        return path.is_file() and path.stat().st_size > 0
    return False


@final
class _Found:
    """What was named, and what is in the folders that were.

    Args:
        suffixes: of inputs in folders.
        output: the output folder, which may lie in an input folder and holds no input then.
    """

    def __init__(self, suffixes: frozenset[str], output: Path | None) -> None:
        self._suffixes = suffixes
        self._output = output
        self._files: dict[tuple[str, str], tuple[Path, Path]] = {}
        self.named: set[Path] = set()
        self.skipped: Counter[str] = Counter()
        self.closed: list[SourceError] = []

    def add(self, path: Path) -> None:
        """Adds a file, or what a folder holds.

        Raises:
            SourceError: it cannot be read.
        """
        with _within_reach(SourceError):
            if not path.is_dir():
                self.named.add(path)
                self._take(path, path.parent)
                return
            media = find_media(path, self._suffixes, without=self._output)
        for file in media.files:
            self._take(file, path)
        self.skipped += media.skipped
        self.closed += [SourceError(_told(error)) for error in media.closed]

    @property
    def files(self) -> list[tuple[Path, Path]]:
        """Each input once, with the folder that an output folder stands in for."""
        return list(self._files.values())

    def _take(self, file: Path, base: Path) -> None:
        """Takes a file, as it was named first."""
        self._files.setdefault((os.path.abspath(file), os.path.abspath(base)), (file, base))  # noqa: PTH100  # resolves no link

    @property
    def besides(self) -> str:
        """What they hold besides, in brackets."""
        return f" (skipped: {skipped_text(self.skipped)})" if self.skipped else ""


def skipped_text(skipped: Mapping[str, int]) -> str:
    """Returns what was skipped, the most frequent first: ``3 .txt, 1 .pdf``."""
    ordered = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {what}" for what, count in ordered)


def _need_current_folder(paths: Sequence[Path]) -> None:
    """Refuses what is named relative to a folder that somebody has deleted meanwhile."""
    relative = [path for path in paths if not path.is_absolute()]
    try:
        Path.cwd()
    except FileNotFoundError:
        if relative:
            raise SourceError(
                f"{relative[0]}: the current folder was deleted; change to another one"
            ) from None


def _may_be_made(folder: Path) -> None:
    """Refuses an output folder of which more than the last level is missing."""
    if not _is_there(folder):
        _need_folder(folder.parent)
    elif not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; name an existing folder for the output")


def _need_folder(folder: Path) -> None:
    if not _is_there(folder):
        raise SinkError(f"{folder}: no such output folder; create it first (mkdir -p)")
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; name an existing folder for the output")


def _is_there(path: Path) -> bool:
    """Says whether something is at `path`; what is out of reach raises, which Path.exists() hides.

    (From Python 3.14 on; a folder without rights would be said not to be there.)
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise
    return True


def check(job: Job, *, overwrite: bool) -> None:
    """Refuses, before any work, an input or output that cannot be meant.

    Raises:
        SourceError: the input does not exist or is out of reach.
        UsageError: the output is the input, or exists, is not to be replaced, and there is no
            ``--overwrite``.
    """
    overwrite |= job.replaced
    with _within_reach(SourceError):
        if not (job.path_in == PIPE or is_numbered(job.path_in) or _is_there(job.path_in)):
            raise SourceError(f"{job.path_in}: no such file")
    with _within_reach(SinkError):
        if not overwrite and (earlier := earlier_pictures(job.path_out)):
            first = next(iter(earlier.values()))
            raise UsageError(f"{first}: exists; use --overwrite or another -o")
        for path, option in ((job.path_out, "-o"), (job.tracks, "--tracks")):
            if path is None or path == PIPE or not os.path.lexists(path):
                continue
            if path.exists() and job.path_in.exists() and path.samefile(job.path_in):
                raise UsageError(f"{path}: the output is the input; name another with {option}")
            if not overwrite:
                raise UsageError(f"{path}: exists; use --overwrite or another {option}")


def prepare(job: Job, *, overwrite: bool) -> None:
    """Checks `job` and makes its output folder.

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
        raise kind(_told(error)) from None


def _told(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"
