"""The commands for recorded files: anonymize, parse."""

from __future__ import annotations

import argparse
import json
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, final

from .. import __version__
from ..core.errors import SourceError, UsageError
from ..core.labels import Label
from ..naming import CONTAINERS, IMAGE_SUFFIXES, PIPE, VIDEO_SUFFIXES, fitting, output_path
from .batch import Batch
from .jobs import Job, Plan, check, plan, prepare, with_tables
from .journal import Journals, options_digest
from .options import refuse_useless, say_vain, settings_of
from .progress import FileDisplay
from .show import file_summary, print_line, say
from .shut_in import shut_in

if TYPE_CHECKING:
    from ..config import Settings

__all__ = ["FileTask", "anonymize", "parse"]

_SECTIONS: Final = frozenset(
    {"policy", "parser", "compose", "source", "m2fp", "output", "audio", "file"}
)
"""What a run over a file reads; sections that may hold passwords are not among them."""


def anonymize(args: argparse.Namespace) -> None:
    """Writes covered copies of what was named."""
    suffixes = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    settings = settings_of(args, args.config, _container(args))
    name = partial(output_path, container=settings.output.container)
    planned = plan(args.paths, args.output, suffixes, name, overwrite=args.overwrite)
    planned = with_tables(planned, args.tracks)
    refuse_useless(args, planned.jobs)
    with _journals(args, settings) as journals:
        if journals is not None:
            planned = journals.resumed(planned)
        if planned.single:
            check(planned.jobs[0], overwrite=args.overwrite)
        say_vain(args, settings)
        _say_shortened(planned)
        _say_untold(planned.jobs)
        _work_on(planned, args, settings, journals)


def _work_on(
    planned: Plan, args: argparse.Namespace, settings: Settings, journals: Journals | None
) -> None:
    jobs = planned.jobs

    def task(job: Job, progress: str) -> FileTask:
        return FileTask(
            job=job,
            settings=settings,
            overwrite=args.overwrite or job.replaced,
            strict=args.strict,
            progress=progress,
        )

    def told(job: Job) -> dict[str, Any]:
        quiet = "off" if args.progress == "off" else "lines"  # bars would paint over each other
        return {**task(job, quiet).as_json(), "debug": args.debug}

    batch = Batch(planned, overwrite=args.overwrite, debug=args.debug, journals=journals)
    alone = planned.single and not jobs[0].finished
    if alone:
        batch.prepare(jobs[0])
    if args.last and (planned.single or args.jobs == 1):
        shut_in(jobs, settings)
    if alone:
        task(jobs[0], args.progress).run()
        batch.note_done(jobs[0])
    elif args.jobs > 1:
        batch.side_by_side(args.jobs, told)
    else:
        batch.one_after_another(lambda job: task(job, args.progress).run())


@contextmanager
def _journals(args: argparse.Namespace, settings: Settings) -> Iterator[Journals | None]:
    """Gives the journals of a run that was told to keep some.

    Raises:
        UsageError: it was told to make all again, too.
    """
    if not args.resume:
        yield None
        return
    from ..app.weights import chosen_parts

    if args.overwrite:
        raise UsageError("--resume goes on, --overwrite makes all again; give one of them")
    given = chosen_parts(settings)
    options = options_digest(settings, _SECTIONS, "" if given is None else given.sha256)
    with closing(Journals(options, __version__)) as journals:
        yield journals


def _container(args: argparse.Namespace) -> dict[str, object]:
    """Returns the setting that the output's suffix makes: it says what a film is written into.

    Raises:
        UsageError: `--container` says something else.
    """
    suffix = "" if args.output is None else args.output.suffix.lower()[1:]
    if suffix not in CONTAINERS:
        return {}
    if args.container not in (None, suffix):
        raise UsageError(f"--container {args.container}: {args.output} is .{suffix}; name one")
    return {"output.container": suffix}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class FileTask:
    """One file to anonymize: all that this process, or a child, has to know.

    Attributes:
        job: input and output.
        settings: all options.
        overwrite: whether an existing output may be replaced.
        strict: whether a warning is an error.
        progress: as `--progress`.
    """

    job: Job
    settings: Settings
    overwrite: bool
    strict: bool
    progress: str

    def as_json(self) -> dict[str, Any]:
        """Returns it as JSON values, without settings that no file needs and that may be secret."""
        return {
            "path_in": str(self.job.path_in),
            "path_out": str(self.job.path_out),
            "tracks": None if self.job.tracks is None else str(self.job.tracks),
            "settings": self.settings.model_dump(mode="json", include=set(_SECTIONS)),
            "overwrite": self.overwrite,
            "strict": self.strict,
            "progress": self.progress,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """Returns what `as_json` was made from."""
        from ..config import Settings

        tracks = None if told["tracks"] is None else Path(told["tracks"])
        return cls(
            job=Job(Path(told["path_in"]), Path(told["path_out"]), tracks=tracks),
            settings=Settings.model_validate_json(json.dumps(told["settings"])),
            overwrite=told["overwrite"],
            strict=told["strict"],
            progress=told["progress"],
        )

    def shut_in(self) -> None:
        """Shuts this process in, for good; see `shut_in`."""
        shut_in([self.job], self.settings)

    def run(self) -> None:
        """Anonymizes the file and prints what came of it."""
        from ..app.files import anonymize

        path_in, path_out = self.job.path_in, self.job.path_out
        name = "standard input" if path_in == PIPE else path_in.name
        with FileDisplay(name, self.progress) as display:

            def warn(text: str) -> None:
                if self.strict:
                    raise SourceError(f"{path_in}: {text} (an error because of --strict)")
                display.say(f"warning: {path_in}: {text}")

            report = anonymize(
                path_in,
                path_out,
                self.settings,
                overwrite=self.overwrite,
                tracks=self.job.tracks,
                progress=display.update,
                on_warning=warn,
                on_notice=display.say,
            )
        # Metadata never passes and nearly every file has some: that is no news.
        if dropped := [item for item in report.dropped if not item.startswith("metadata")]:
            say(f"warning: {path_in}: left out: {', '.join(dropped)}")
        summary = file_summary(path_in, report)
        if path_out == PIPE:  # a film is there
            say(summary)
        else:
            print_line(summary)


def parse(args: argparse.Namespace) -> None:
    """Writes label maps of the pictures that were named."""
    if PIPE in (args.output, *args.paths):
        raise UsageError("-: label maps do not go through pipes; name files")
    planned = plan(args.paths, args.output, IMAGE_SUFFIXES, _label_path, overwrite=args.overwrite)
    if planned.single:
        check(planned.jobs[0], overwrite=args.overwrite)
    settings = settings_of(args, args.config)
    say_vain(args, settings)
    _say_shortened(planned)
    if planned.single:
        prepare(planned.jobs[0], overwrite=args.overwrite)
    if args.last:
        shut_in(planned.jobs, settings)
    if planned.single:
        _parse_one(planned.jobs[0], settings, args)
    else:
        batch = Batch(planned, overwrite=args.overwrite, debug=args.debug)
        batch.one_after_another(lambda job: _parse_one(job, settings, args))


def _say_shortened(planned: Plan) -> None:
    for job in planned.shortened:
        say(f"{job.path_in}: the output's name would be too long; it is {job.path_out.name}")


def _say_untold(jobs: Sequence[Job]) -> None:
    """Says how many finished outputs have no table beside them: they are left as they are."""
    untold = [job for job in jobs if job.finished and job.tracks and not job.tracks.exists()]
    if untold:
        say(f"{len(untold)} finished by an earlier run have no table; --overwrite makes them again")


def _label_path(path_in: Path, taken: Container[Path]) -> Path:
    plain = fitting(path_in, path_in.stem, ".png")
    return fitting(path_in, path_in.name, ".png") if plain in taken else plain


def _parse_one(job: Job, settings: Settings, args: argparse.Namespace) -> None:
    from ..app.stills import parse_image

    done = parse_image(
        job.path_in,
        job.path_out,
        settings,
        format=args.format,
        overwrite=args.overwrite,
        on_notice=say,
    )
    ids = {label.title: int(label) for label in Label}
    width, height = done.size_wh
    shares = ", ".join(
        f"{ids[name]} {name} {pixels / (width * height):.1%}"
        for name, pixels in sorted(done.labels.items(), key=lambda item: ids[item[0]])
    )
    print_line(f"{job.path_in} -> {done.path_out}: {width}x{height}; {shares}")
