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
from ..core.safe import SafeAudio
from ..naming import IMAGE_SUFFIXES, PIPE, check_target, is_numbered, output_path
from ..pipeline.files.outcome import Outcome
from ..pipeline.files.run import FileRun
from ..pipeline.looks import LookPool, LookWorker
from ..pipeline.solver.fine import FineLooks
from ..pipeline.wire import MAX_INPUT_SIDE
from ..pipeline.workers import ParserQueue, ParserWorker, WorkerSpec
from ..policy import Policy
from ..privacy.audio import AudioGuard, AudioOptions, draw_shift
from ..privacy.hardening import few_heaps, harden
from ..sinks.track_table import TrackTableSink
from ..sources.base import Source, SourceInfo
from ..sources.file import FileSource
from ..sources.held import is_held, is_piped, reachable
from ..sources.picture import holds_picture, open_picture
from ..sources.sequence import SequenceSource
from ..sources.sound import AAC_RATES, SoundSource
from ..sources.timestamps import TIME_JUMPS
from .m2fp import fine_deadline_s, fine_parser, fine_side
from .outputs import Output
from .weights import parts_option

__all__ = ["SoundTrack", "anonymize"]

_CORES_FOR_TWO: Final = 4
"""Decoding, encoding and one process of looks keep two cores busy."""


def anonymize(
    path_in: str | os.PathLike[str],
    path_out: str | os.PathLike[str] | None = None,
    config: Settings | None = None,
    *,
    overwrite: bool = False,
    tracks: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> RunReport:
    """Writes a copy of a video, GIF or picture in which what the policy hides is covered.

    The output appears under its final name only when it is complete; the input is never modified.
    The calling process is hardened for good (no core dumps, not traceable; see
    `privacy.hardening`), its threads share two heaps, and OpenCV's own are switched off in it.

    Args:
        path_in: the input file; ``-`` is standard input, ``frames/%06d.png`` are numbered pictures.
        path_out: the output; by default ``NAME.anonymized.mp4`` (or ``.gif``, ``.jpg``...) beside
            the input. ``-`` is standard output, which the run then has for itself: what was
            written there cannot be taken back when it fails.
        config: all options; defaults where None.
        overwrite: whether existing outputs may be replaced.
        tracks: where positions go, .csv or .json: frame, time, track, box and covered parts of
            everybody, no picture. It is personal data. None: nowhere.
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
    if path_out is None and (source == PIPE or is_numbered(source)):
        raise UsageError(f"{source}: name an output")
    container = (config or Settings()).output.container
    target = (
        Path(path_out) if path_out is not None else output_path(source, (), container=container)
    )
    check_target(source, target, overwrite=overwrite)
    table = None if tracks is None else Path(tracks)
    if table is not None:
        check_target(source, table, overwrite=overwrite)
    listeners = _Listeners(progress, on_warning, on_notice)
    run = _Anonymization(source, target, table, config or Settings(), listeners)
    return run.run(overwrite=overwrite)


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
    table: Path | None
    settings: Settings
    listeners: _Listeners
    began_s: float = field(default_factory=time.monotonic)
    warnings: list[str] = field(default_factory=list)

    def run(self, *, overwrite: bool) -> RunReport:
        """Runs; see `anonymize`."""
        harden()
        few_heaps()
        cv2.setNumThreads(1)  # reader, solver, writer and parser already keep two cores busy
        with ExitStack() as opened:
            output = Output.of(self.target, self.settings, opened, overwrite=overwrite)
            self._take_input(opened)
            settings = self.settings
            lookers = _look_workers(settings)
            for looker in lookers:
                looker.begin()  # it imports while the source is opened
                opened.callback(looker.close)
            steady = opened.enter_context(_Steady(self.path))
            source = opened.enter_context(_open_source(self.path, settings))
            again = None
            if settings.file.quality == "high":
                again = opened.enter_context(_open_source(self.path, settings))
            sound = self._open_sound(source, output, opened)
            heard = None if sound is None else sound.format
            sink = opened.enter_context(output.open(source, heard))
            self.warnings += output.warnings
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
                tracks=self._open_table(opened, overwrite=overwrite),
                on_frames=lambda done: self._tell_progress(done, info.frame_count),
                before_finish=lambda outcome: self._warn(outcome, source, sound, steady),
            ).run()
        return self._report(outcome, info, sound, output)

    def _open_table(self, opened: ExitStack, *, overwrite: bool) -> TrackTableSink | None:
        if self.table is None:
            return None
        return opened.enter_context(TrackTableSink(self.table, overwrite=overwrite))

    def _take_input(self, opened: ExitStack) -> None:
        """Makes sure that the input can be opened by its path, again and again."""
        piped = is_piped(self.path)
        self.path = opened.enter_context(reachable(self.path, self.settings.source))
        if piped and self.settings.file.quality == "high":
            standard = self.settings.file.model_copy(update={"quality": "standard"})
            self.settings = self.settings.model_copy(update={"file": standard})
            if self.listeners.on_notice is not None:
                self.listeners.on_notice(
                    "what is piped in gets quality standard; name the file for high"
                )

    def _open_sound(self, source: Source, output: Output, opened: ExitStack) -> SoundTrack | None:
        """Returns the sound that is asked for, where there is any and the output can have it."""
        options = self.settings.audio
        wanted = options.mode != "drop" and output.is_film
        if not wanted or not isinstance(source, FileSource) or not source.info.has_audio:
            return None
        clock = source.clock
        rates = output.options.kind.sound_rates or AAC_RATES
        sound = opened.enter_context(
            SoundSource(self.path, self.settings.source, clock, rates=rates)
        )
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

    def _report(
        self, outcome: Outcome, info: SourceInfo, sound: SoundTrack | None, output: Output
    ) -> RunReport:
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
            encoded=output.encoded,
            sound=became,
            tracks=outcome.tracks,
            tracks_out="" if self.table is None else os.fspath(self.table),
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
    options: dict[str, object] = {
        "threads": settings.parser.threads,
        "runtime": settings.parser.runtime,
        **parts_option(settings),
    }
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
    if is_numbered(path):
        return SequenceSource(path, settings.source)
    if path.suffix.lower() in IMAGE_SUFFIXES or (is_held(path) and holds_picture(path)):
        return open_picture(path, settings.source)
    return FileSource(path, settings.source)
