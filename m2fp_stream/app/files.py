"""Recorded files: from an input, an output and a configuration to objects, and what came of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final, Self, final

import cv2

from ..compositor.compose import Compositor
from ..config import Settings
from ..core.audio import AudioFormat
from ..core.errors import SourceError, UsageError
from ..core.records import Progress, RunReport
from ..core.safe import SafeAudio, SafeFrame
from ..naming import IMAGE_SUFFIXES, check_target, output_path
from ..pipeline.files.outcome import Outcome
from ..pipeline.files.run import FileRun
from ..pipeline.looks import LookPool, LookWorker
from ..pipeline.solver.fine import FineLooks
from ..pipeline.wire import MAX_INPUT_SIDE
from ..pipeline.workers import ParserQueue, ParserWorker, WorkerSpec
from ..policy import Policy
from ..privacy.audio import AudioGuard, AudioOptions, draw_shift
from ..privacy.hardening import few_heaps, harden
from ..sinks.animation import MOVING_SUFFIXES, AnimationSink
from ..sinks.base import Sink
from ..sinks.image import GifSink, ImageSink
from ..sinks.video_file import VideoFileSink
from ..sources.base import Source, SourceInfo
from ..sources.file import FileSource
from ..sources.image import ImageSource
from ..sources.picture import open_picture
from ..sources.sound import SoundSource
from ..sources.timestamps import TIME_JUMPS
from .m2fp import fine_deadline_s, fine_parser, fine_side

__all__ = ["SoundTrack", "anonymize"]

_CORES_FOR_TWO: Final = 4
"""Decoding, encoding and one process of looks keep two cores busy."""


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
    source = Path(path_in)
    target = Path(path_out) if path_out is not None else output_path(source, ())
    check_target(source, target, overwrite=overwrite)
    listeners = _Listeners(progress, on_warning, on_notice)
    return _Anonymization(source, target, config or Settings(), listeners).run(overwrite=overwrite)


@final
@dataclass(frozen=True, slots=True)
class _Listeners:
    """Who is told of a run; see `anonymize`."""

    progress: Callable[[Progress], None] | None
    on_warning: Callable[[str], None] | None
    on_notice: Callable[[str], None] | None


@final
@dataclass(slots=True)
class _Anonymization:
    """One run over one file, once."""

    path: Path
    target: Path
    settings: Settings
    listeners: _Listeners
    began_s: float = field(default_factory=time.monotonic)
    warnings: list[str] = field(default_factory=list)

    def run(self, *, overwrite: bool) -> RunReport:
        """Runs; see `anonymize`."""
        harden()
        few_heaps()
        cv2.setNumThreads(1)  # reader, solver, writer and parser already keep two cores busy
        settings = self.settings
        with ExitStack() as opened:
            lookers = _look_workers(settings)
            for looker in lookers:
                looker.begin()  # it imports while the source is opened
                opened.callback(looker.close)
            steady = opened.enter_context(_Steady(self.path))
            source = opened.enter_context(_open_source(self.path, settings))
            again = None
            if settings.file.quality == "high":
                again = opened.enter_context(_open_source(self.path, settings))
            sound = self._open_sound(source, opened)
            heard = None if sound is None else sound.format
            sink = opened.enter_context(
                _open_sink(self.target, source, settings, heard, overwrite=overwrite)
            )
            info = source.info
            fine = _fine_looks(settings, info.size_wh, self.listeners.on_notice)
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
                sound=sound,
                on_frames=lambda done: self._tell_progress(done, info.frame_count),
                before_finish=lambda outcome: self._warn(outcome, source, sound, steady),
            ).run()
        return self._report(outcome, info, sound)

    def _open_sound(self, source: Source, opened: ExitStack) -> SoundTrack | None:
        """Returns the sound that is asked for, where there is any and the output can have it."""
        options = self.settings.audio
        wanted = options.mode != "drop" and self.target.suffix.lower() == ".mp4"
        if not wanted or not isinstance(source, FileSource) or not source.info.has_audio:
            return None
        clock = source.clock
        sound = opened.enter_context(SoundSource(self.path, self.settings.source, clock))
        if sound.format is None:
            self.warnings += sound.warnings
            return None
        return SoundTrack(sound, sound.format, options, clock.zero_s - clock.origin_s)

    def _tell_progress(self, done: int, total: int | None) -> None:
        if self.listeners.progress is not None:
            self.listeners.progress(Progress(done, total, time.monotonic() - self.began_s))

    def _warn(
        self, outcome: Outcome, source: Source, sound: SoundTrack | None, steady: _Steady
    ) -> None:
        """Tells what is known by now; whoever listens may end the run."""
        self.warnings += source.info.warnings
        if sound is not None:
            self.warnings += sound.warnings
            if TIME_JUMPS in source.info.warnings:
                raise SourceError(
                    f"{self.path}: time jumps back in it, so that its sound would come apart from "
                    "the picture; leave the sound out with --audio drop"
                )
        if not steady.holds():
            text = "it is still being written: it changed while it was read"
            if not self.settings.source.salvage:
                raise SourceError(
                    f"{self.path}: {text}; wait until it is complete, or take what is there with "
                    "--salvage"
                )
            self.warnings.append(f"{text}; what came later is missing")
        if outcome.unknown_frames:
            self.warnings.append(
                f"{outcome.unknown_frames} of {outcome.frames} frames are covered whole: "
                "nothing could be known about them"
            )
        self.warnings += [
            f"{text}: no frame is shown then, so nothing was covered for it"
            for text in outcome.unmet_times
        ]
        if self.listeners.on_warning is not None:
            for warning in self.warnings:
                self.listeners.on_warning(warning)

    def _report(self, outcome: Outcome, info: SourceInfo, sound: SoundTrack | None) -> RunReport:
        dropped = info.dropped_streams
        mode, became = self.settings.audio.mode, ""
        if mode != "drop":
            became = "left out" if info.has_audio else "none"
        if sound is not None:
            became = "disguised" if mode == "disguise" else "kept"
            dropped = (*sound.left_out, *(one for one in dropped if one != "audio"))
        return RunReport(
            path_out=os.fspath(self.target),
            frames=outcome.frames,
            covered_fraction=outcome.covered_fraction,
            unknown_frames=outcome.unknown_frames,
            elapsed_s=time.monotonic() - self.began_s,
            looks=dict(outcome.looks),
            shortened_frames=outcome.shortened_frames,
            whole_frames=outcome.whole_frames,
            requested_frames=outcome.requested_frames,
            left_alone_frames=outcome.left_alone_frames,
            dropped=dropped,
            warnings=tuple(self.warnings),
            sound=became,
        )


@final
class SoundTrack:
    """The sound of a file, let pass as the options say; see `pipeline.files.run.Sound`."""

    def __init__(
        self,
        source: SoundSource,
        audio_format: AudioFormat,
        options: AudioOptions,
        zero_s: Fraction,
    ) -> None:
        self.format = audio_format
        self._source = source
        self._chunks = source.chunks()
        self._guard = AudioGuard(options, audio_format, zero_s=zero_s, shift=draw_shift())
        self._read = 0
        self._ended = False

    @property
    def warnings(self) -> list[str]:
        """What the user should know of it; complete at its end."""
        unmet = [f"--mute {text}: there is no sound then" for text in self._guard.unmet]
        return self._source.warnings + (unmet if self._ended else [])

    @property
    def left_out(self) -> tuple[str, ...]:
        """Other streams of sound, in words."""
        return self._source.left_out

    def until(self, moment_s: Fraction | None) -> Iterator[SafeAudio]:
        """Gives what begins before a moment of the output, None: all that is left."""
        while not self._ended and (moment_s is None or self._read < moment_s * self.format.rate):
            raw = next(self._chunks, None)
            if raw is None:
                self._ended = True
                yield from self._guard.rest()
                return
            self._read = raw.start + raw.count
            yield from self._guard.take(raw)


@final
class _Steady:
    """Says whether an input changes while it is read: a recorder's fragments are each complete.

    The very file is watched, not its name: one that was replaced under its name stays whole. A
    writer who pauses for as long as all of the run goes unnoticed.
    """

    def __init__(self, path: Path) -> None:
        self._fd = -1
        with suppress(OSError, ValueError):  # whoever opens it to read says why that fails
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._at_first = self._state()

    def holds(self) -> bool:
        """Says whether size and time of the last change are those of the beginning."""
        return self._state() == self._at_first

    def _state(self) -> tuple[int, int]:
        if self._fd < 0:
            return 0, 0
        try:
            status = os.fstat(self._fd)
        except OSError:  # a stick that was pulled out, a server that went away
            return -1, -1
        return status.st_size, status.st_mtime_ns

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


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


def _open_source(path: Path, settings: Settings) -> Source:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return open_picture(path, settings.source)
    return FileSource(path, settings.source)


def _open_sink(
    path: Path,
    source: Source,
    settings: Settings,
    sound: AudioFormat | None,
    *,
    overwrite: bool,
) -> Sink[SafeFrame]:
    suffix, info = path.suffix.lower(), source.info
    if suffix in MOVING_SUFFIXES and not isinstance(source, ImageSource):
        rate, base = info.average_rate, info.time_base
        return AnimationSink(path, time_base=base, rate=rate, overwrite=overwrite)
    if suffix in IMAGE_SUFFIXES:
        return ImageSink(path, overwrite=overwrite)
    if suffix == ".gif":
        return GifSink(path, time_base=info.time_base, rate=info.average_rate, overwrite=overwrite)
    if suffix == ".mp4":
        return _open_video(path, info, settings, sound, overwrite=overwrite)
    raise UsageError(f"unknown output format {suffix!r} of {path}; use .mp4, .gif or a picture's")


def _open_video(
    path: Path,
    info: SourceInfo,
    settings: Settings,
    sound: AudioFormat | None,
    *,
    overwrite: bool,
) -> VideoFileSink:
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
        sound=sound,
        options=settings.output,
        overwrite=overwrite,
    )
