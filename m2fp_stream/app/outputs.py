"""What a run over a file writes into: by the output's name and the options, to a sink."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

from pydantic import ValidationError

from ..config import Settings
from ..core.audio import AudioFormat
from ..core.errors import UsageError
from ..core.safe import SafeFrame
from ..naming import CONTAINERS, IMAGE_SUFFIXES, PIPE, is_numbered
from ..sinks.animation import MOVING_SUFFIXES, AnimationSink
from ..sinks.base import Sink
from ..sinks.encoders import ENCODERS, Encoder, VideoFileOptions
from ..sinks.image import GifSink, ImageSink
from ..sinks.sequence import SequenceSink
from ..sinks.standard_output import OutputPipe
from ..sinks.video_file import VideoFileSink
from ..sources.base import Source, SourceInfo
from ..sources.image import ImageSource

__all__ = ["Output"]


@final
@dataclass(slots=True)
class Output:
    """Where a run writes to, and how.

    Attributes:
        path: the final name; numbered pictures and standard output, too.
        options: of a film, with the container that its name says.
        pipe: standard output, where that is it.
        overwrite: whether what is there may be replaced.
        bitrate: bits a second of a film; None where a quality is meant. Known after `open`.
        warnings: what the user should know; complete after `open`.
    """

    path: Path
    options: VideoFileOptions
    overwrite: bool
    pipe: OutputPipe | None
    bitrate: int | None
    warnings: list[str]

    @classmethod
    def of(cls, path: Path, settings: Settings, opened: ExitStack, *, overwrite: bool) -> Self:
        """Returns it; refuses early what cannot be meant, and takes standard output for itself.

        Raises:
            UsageError: no known format; an encoder that the container does not permit or that is
                missing; standard output is a terminal.
        """
        options, pipe = settings.output, None
        suffix = path.suffix.lower()
        if path == PIPE:
            Encoder.of(options)
            pipe = opened.enter_context(OutputPipe())
        elif suffix[1:] in CONTAINERS:
            options = _in_container(options, suffix[1:], path)
            Encoder.of(options)
        elif suffix not in IMAGE_SUFFIXES | {".gif"}:
            films = ", ".join(f".{one}" for one in CONTAINERS)
            raise UsageError(
                f"unknown output format {suffix!r} of {path}; use {films}, .gif or a picture's"
            )
        return cls(path, options, overwrite, pipe, options.bitrate, [])

    @property
    def is_film(self) -> bool:
        """Whether it may have sound, and an encoder."""
        return self.pipe is not None or self.path.suffix.lower()[1:] in CONTAINERS

    @property
    def encoded(self) -> str:
        """How it is encoded, in words, where that was asked for."""
        options, default = self.options, VideoFileOptions()
        if not self.is_film or (options.encoder, options.bitrate, options.keep_quality) == (
            default.encoder,
            default.bitrate,
            default.keep_quality,
        ):
            return ""
        encoder = ENCODERS[options.encoder_name]
        if self.bitrate is None:
            return f"{encoder.title}, CRF {encoder.factor(options)}"
        whose = " (the input's)" if options.keep_quality else ""
        return f"{encoder.title} at {self.bitrate / 1e6:.3g} Mb/s{whose}"

    def open(self, source: Source, sound: AudioFormat | None) -> Sink[SafeFrame]:
        """Opens the sink.

        Raises:
            SinkError: it cannot be written there.
        """
        path, info = self.path, source.info
        suffix = path.suffix.lower()
        if self.is_film:
            return self._film(info, sound)
        if is_numbered(path):
            return SequenceSink(path, overwrite=self.overwrite)
        if suffix in MOVING_SUFFIXES and not isinstance(source, ImageSource):
            rate, base = info.average_rate, info.time_base
            return AnimationSink(path, time_base=base, rate=rate, overwrite=self.overwrite)
        if suffix == ".gif":
            base, rate = info.time_base, info.average_rate
            return GifSink(path, time_base=base, rate=rate, overwrite=self.overwrite)
        return ImageSink(path, overwrite=self.overwrite)

    def _film(self, info: SourceInfo, sound: AudioFormat | None) -> VideoFileSink:
        if self.options.keep_quality:
            self.bitrate = info.bit_rate
            if self.bitrate is None:
                factor = ENCODERS[self.options.encoder_name].factor(self.options)
                self.warnings.append(
                    f"--keep-quality: the input's bit rate is unknown; CRF {factor} was taken"
                )
        return VideoFileSink(
            self.path if self.pipe is None else self.pipe,
            size_wh=info.size_wh,
            time_base=info.time_base,
            rate=info.average_rate,
            sample_aspect_ratio=info.sample_aspect_ratio,
            color_primaries=info.color_primaries,
            color_trc=info.color_trc,
            colorspace=info.colorspace,
            color_range=info.color_range,
            sound=sound,
            options=self.options,
            bitrate=self.bitrate,
            overwrite=self.overwrite,
        )


def _in_container(options: VideoFileOptions, container: str, path: Path) -> VideoFileOptions:
    try:
        return VideoFileOptions.model_validate({**options.model_dump(), "container": container})
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        text = problem["msg"].removeprefix("Value error, ")
        raise UsageError(f"{path}: {'.'.join(map(str, problem['loc']))}: {text}") from None
