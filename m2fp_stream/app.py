"""The composition root: from a configuration to objects. The only place that picks classes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final

import cv2

from .app_models import fine_deadline_s, fine_parser, fine_side
from .compositor.compose import Compositor
from .config import Settings
from .core.errors import UsageError
from .core.labels import Label
from .core.records import Progress, RunReport
from .core.safe import LabelImage, SafeFrame
from .naming import IMAGE_SUFFIXES, output_path
from .parsers.base import Parser
from .pipeline.files.run import FileRun, Outcome
from .pipeline.looks import LookPool, LookWorker
from .pipeline.solver.fine import FineLooks
from .pipeline.wire import MAX_INPUT_SIDE
from .pipeline.workers import ParserQueue, ParserWorker, WorkerSpec
from .policy import Policy
from .privacy.hardening import few_heaps, harden
from .sinks.base import Sink
from .sinks.image import GifSink, ImageSink
from .sinks.label_png import LabelPngSink
from .sinks.video_file import VideoFileSink
from .sources.base import Source, SourceInfo
from .sources.file import FileSource
from .sources.image import ImageSource

__all__ = [
    "ParseSummary",
    "Progress",
    "RunReport",
    "Settings",
    "anonymize",
    "load_parser",
    "parse_image",
]


def load_parser(
    name: str = "embedded",
    config: Settings | None = None,
    *,
    size_wh: tuple[int, int] = (1920, 1080),
    on_notice: Callable[[str], None] | None = None,
) -> Parser:
    """Returns a parser that runs in this process.

    Args:
        name: ``embedded`` or ``m2fp``.
        config: all options; defaults where None.
        size_wh: (width, height) of the pictures to come, or of others of that aspect; M2FP's
            network is made for one aspect.
        on_notice: see `app_models.fine_parser`.

    Raises:
        UsageError: no parser has that name.
        ModelError: its weights are missing or changed.
    """
    settings = config or Settings()
    if name == "embedded":
        from .parsers.embedded.parser import EmbeddedParser

        return EmbeddedParser(settings.parser)
    if name == "m2fp":
        from .parsers.m2fp.parser import from_options

        return from_options(**fine_parser(settings.m2fp, size_wh, on_notice=on_notice))  # type: ignore[arg-type]  # JSON
    raise UsageError(f"unknown parser {name!r}; there are: embedded, m2fp")


def anonymize(
    path_in: str | os.PathLike[str],
    path_out: str | os.PathLike[str] | None = None,
    config: Settings | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> RunReport:
    """Writes a copy of a video, GIF or picture in which what the policy hides is covered.

    The output appears under its final name only when it is complete; the input is never modified.
    The calling process is hardened for good (no core dumps, not traceable; see
    `privacy.hardening`), its threads share two heaps, and OpenCV's own are switched off in it.

    Args:
        path_in: the input file.
        path_out: the output; by default ``NAME.anonymized.mp4`` (or ``.gif``, ``.jpg``...) beside
            the input.
        config: all options; defaults where None.
        overwrite: whether an existing output may be replaced.
        progress: called now and then from the calling thread.
        on_warning: called with each warning before the output is completed; what it raises ends
            the run without one.
        on_notice: gets a sentence for the user before something that takes long.

    Raises:
        UsageError: output equals input, exists already, or has no known format.
        SourceError, ParserError, ModelError, SinkError, PromiseError: see `core.errors`. There is
            no output then.
    """
    settings = config or Settings()
    source_path = Path(path_in)
    target = Path(path_out) if path_out is not None else output_path(source_path, ())
    _check_target(source_path, target, overwrite=overwrite)
    began = time.monotonic()
    harden()
    few_heaps()
    cv2.setNumThreads(1)  # reader, solver, writer and parser already keep two cores busy
    with contextlib.ExitStack() as opened:
        lookers = _look_workers(settings)
        for looker in lookers:
            looker.begin()  # it imports while the source is opened
            opened.callback(looker.close)
        source = opened.enter_context(_open_source(source_path, settings))
        again = None
        if settings.file.quality == "high":
            again = opened.enter_context(_open_source(source_path, settings))
        sink = opened.enter_context(_open_sink(target, source.info, settings, overwrite=overwrite))
        info = source.info

        def on_frames(done: int) -> None:
            if progress is not None:
                progress(Progress(done, info.frame_count, time.monotonic() - began))

        warnings: list[str] = []

        def before_finish(outcome: Outcome) -> None:
            warnings.extend(source.info.warnings)
            if outcome.unknown_frames:
                warnings.append(
                    f"{outcome.unknown_frames} of {outcome.frames} frames are covered whole: "
                    "nothing could be known about them"
                )
            if on_warning is not None:
                for warning in warnings:
                    on_warning(warning)

        fine = _fine_looks(settings, info.size_wh, on_notice)
        if fine is not None:
            opened.callback(fine.queue.close)
        looks = LookPool(lookers)
        opened.callback(looks.close)
        outcome = FileRun(
            source=source,
            sink=sink,
            composer=Compositor(settings.compose),
            looks=looks,
            policy=Policy(settings.policy),
            options=settings.file,
            fine=fine,
            again=again,
            on_frames=on_frames,
            before_finish=before_finish,
        ).run()
    return RunReport(
        path_out=os.fspath(target),
        frames=outcome.frames,
        covered_fraction=outcome.covered_fraction,
        unknown_frames=outcome.unknown_frames,
        elapsed_s=time.monotonic() - began,
        looks=dict(outcome.looks),
        shortened_frames=outcome.shortened_frames,
        whole_frames=outcome.whole_frames,
        dropped=info.dropped_streams,
        warnings=tuple(warnings),
    )


@final
@dataclass(frozen=True, slots=True)
class ParseSummary:
    """What `parse_image` found.

    Attributes:
        path_out: the finished label map.
        labels: pixels by label name, only those present.
        size_wh: (width, height) of picture and label map.
    """

    path_out: str
    labels: dict[str, int]
    size_wh: tuple[int, int]


def parse_image(
    path_in: str | os.PathLike[str],
    path_out: str | os.PathLike[str],
    config: Settings | None = None,
    *,
    format: Literal["index", "palette"] = "index",  # noqa: A002  (the command line's word)
    overwrite: bool = False,
    on_notice: Callable[[str], None] | None = None,
) -> ParseSummary:
    """Writes the label map of a picture as a PNG of its size.

    Raises:
        UsageError, SourceError, ParserError, ModelError, SinkError: see `core.errors`. There is
            no output then.
    """
    settings = config or Settings()
    target = Path(path_out)
    _check_target(Path(path_in), target, overwrite=overwrite)
    with ImageSource(Path(path_in), settings.source) as source:
        size_wh = source.info.size_wh
        name = "m2fp" if settings.m2fp.enabled else "embedded"
        parser = load_parser(name, settings, size_wh=size_wh, on_notice=on_notice)
        try:
            for captured in source.frames():
                try:
                    with captured.frame.analysis() as bgr:
                        result = parser.parse(bgr)
                finally:
                    captured.frame.release()
        finally:
            parser.close()
    image = LabelImage(result, size_wh=size_wh)
    with LabelPngSink(target, format, overwrite=overwrite) as sink:
        sink.write(image)
        sink.finish()
    counts = {
        label.title: int((image.labels == label).sum())
        for label in Label
        if (image.labels == label).any()
    }
    return ParseSummary(os.fspath(target), counts, size_wh)


def _look_workers(settings: Settings) -> list[LookWorker]:
    """Returns what looks at a file's frames: one process, two where there are cores to spare."""
    count = settings.file.workers or (2 if (os.cpu_count() or 1) >= _CORES_FOR_TWO else 1)
    options = {"threads": settings.parser.threads, "runtime": settings.parser.runtime}
    spec = WorkerSpec(
        "m2fp_stream.parsers.embedded.looker:from_options",
        options,
        deadline_s=settings.file.deadline_s,
    )
    return [LookWorker(spec) for _ in range(count)]


_CORES_FOR_TWO: Final = 4
"""Decoding, encoding and one process of looks keep two cores busy."""


def _fine_looks(
    settings: Settings, size_wh: tuple[int, int], on_notice: Callable[[str], None] | None
) -> FineLooks | None:
    """Returns the second parser of a file run, where one is wanted."""
    if not settings.m2fp.enabled:
        return None
    spec = WorkerSpec(
        "m2fp_stream.parsers.guarded:fine_from_options",
        fine_parser(settings.m2fp, size_wh, on_notice=on_notice),
        deadline_s=settings.file.deadline_s + fine_deadline_s(settings.m2fp),
    )
    side = min(fine_side(settings.m2fp, size_wh), MAX_INPUT_SIDE)
    return FineLooks(ParserQueue(ParserWorker(spec)), side)


def _check_target(source: Path, target: Path, *, overwrite: bool) -> None:
    """Refuses an output that would replace the input or, without `overwrite`, anything.

    Raises:
        UsageError: see above.
    """
    if target.exists():
        if source.exists() and target.samefile(source):
            raise UsageError(f"output and input are the same file: {target}; name another output")
        if not overwrite:
            raise UsageError(f"output exists: {target}; use --overwrite or name another output")


def _open_source(path: Path, settings: Settings) -> Source:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(path, settings.source)
    return FileSource(path, settings.source)


def _open_sink(
    path: Path, info: SourceInfo, settings: Settings, *, overwrite: bool
) -> Sink[SafeFrame]:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return ImageSink(path, overwrite=overwrite)
    if suffix == ".gif":
        return GifSink(path, time_base=info.time_base, rate=info.average_rate, overwrite=overwrite)
    if suffix == ".mp4":
        return VideoFileSink(
            path,
            size_wh=info.size_wh,
            time_base=info.time_base,
            rate=info.average_rate,
            sample_aspect_ratio=info.sample_aspect_ratio,
            color_primaries=info.color_primaries,
            color_trc=info.color_trc,
            colorspace=info.colorspace,
            color_range=info.color_range,
            options=settings.output,
            overwrite=overwrite,
        )
    raise UsageError(f"unknown output format {suffix!r} of {path}; use .mp4, .gif or a picture's")
