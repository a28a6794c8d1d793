"""What a run over files still needs once it is shut in (`privacy.sandbox`): inputs, and models."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ConfigError, SinkError
from ..core.home import own_folder
from ..core.part_file import part_name
from ..naming import PIPE, is_numbered
from .jobs import Job

if TYPE_CHECKING:
    from ..config import Settings

__all__ = ["shut_in"]


def shut_in(jobs: Sequence[Job], settings: Settings) -> None:
    """Shuts this process in for the rest of its life, to these inputs and outputs.

    Call it when all that is configured has been read, and before any input is. Output folders are
    made here, for later they cannot be.

    Raises:
        SinkError: the process that makes the outputs cannot be started.
    """
    from ..privacy.broker import FileBroker
    from ..privacy.sandbox import enter

    jobs = [job for job in jobs if not job.finished]
    numbered = [job.path_out for job in jobs if is_numbered(job.path_out)]
    named = [
        path
        for job in jobs
        for path in (job.path_out, job.tracks)
        if path is not None and path != PIPE
    ]
    for path in named:
        with suppress(OSError):  # told when it is the job's turn
            path.parent.mkdir(parents=True, exist_ok=True)
    try:
        FileBroker.start(named, [part_name(path) for path in numbered])
    except OSError as error:
        raise SinkError(f"no process for the outputs could be started: {error.strerror}") from None
    enter(
        reads=[*(_read(job.path_in) for job in jobs if job.path_in != PIPE), *_weights(settings)],
        changes=[*(path.parent for path in numbered), *_exports(settings)],
        buffer_mb=settings.file.buffer_mb,
        speaks_locally=settings.m2fp.enabled and settings.m2fp.key == "keyring",
    )


def _read(path: Path) -> Path:
    """Returns what is read of an input: of numbered pictures their folder."""
    return path.parent if is_numbered(path) else path


def _exports(settings: Settings) -> Iterator[Path]:
    """Gives the folder of M2FP's exports, which is made where it is missing."""
    from ..config import cache_folder

    if settings.m2fp.enabled:
        with suppress(ConfigError, OSError):  # whoever needs it says so
            folder = cache_folder() / "m2fp"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield folder


def _weights(settings: Settings) -> Iterator[Path]:
    """Gives where weights are that were pulled or distilled, and the key of M2FP's."""
    from ..models.pins import store_folder

    options = settings.m2fp
    if options.enabled or settings.parser.weights is not None:
        with suppress(ConfigError):
            yield store_folder(os.environ)
    if not options.enabled:
        return
    if options.model_dir is not None:
        yield Path(options.model_dir)
    if options.key == "keyring":
        with suppress(ConfigError):  # a keyring without a desktop is a file there
            yield own_folder("XDG_DATA_HOME", os.environ, ".local", "share") / "python_keyring"
    elif options.key is not None:
        yield Path(options.key)
