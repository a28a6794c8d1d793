"""The sound of a video file, to samples at their exact places in the output's time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Final, Self, final

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray

from ..core.audio import AudioFormat, RawAudio
from ..core.errors import SourceError, TruncatedSourceError
from .base import open_regular
from .convert import reason_of
from .opener import open_file
from .options import FileOptions

__all__ = ["FileClock", "SoundSource"]

AAC_RATES: Final = (
    *(7350, 8000, 11025, 12000, 16000, 22050, 24000),
    *(32000, 44100, 48000, 64000, 88200, 96000),
)
"""What AAC can have. Source: ISO/IEC 14496-3, table 1.18."""

_JITTER_S: Final = Fraction(15, 1000)
"""Timestamps that differ by less from where the samples before end are those of a coarse clock
(Matroska and FLV count milliseconds). Chosen: less than one AAC frame (21 ms at 48 kHz)."""

_JUMP_S: Final = 1
"""As for pictures, see `timestamps`."""

_LONGEST_GAP_S: Final = 3600
"""A gap is filled by silence. Chosen: an hour; more is a damaged timestamp, and would be encoded
for minutes (found by mutated files)."""

_SILENCE_S: Final = 1
"""At a time, of a gap. Chosen: memory must not grow with its length."""

_SEEK_MARGIN_S: Final = 2
"""What is decoded and thrown away before a start point. Chosen: decoders of sound need 80 ms at
most (Opus, RFC 7845, 4.6); as for pictures, see `file`."""

_END_TOLERANCE_S: Final = Fraction(1, 2)
"""By how much sound may end before it says. Chosen: edit lists and priming make it some frames."""

_JOINING_S: Final = Fraction(1)
"""Packets that cannot be decoded this long, at the beginning, are those of a recording that was
joined midway. Chosen: what is longer, a listener would miss."""

_SEEKABLE: Final = ("mov", "matroska")
_DECLARES: Final = "mov"

_HINT: Final = "or leave the sound out with --audio drop"


@final
@dataclass(frozen=True, slots=True)
class FileClock:
    """Where the pictures of a file lie on its own clock, in seconds.

    Attributes:
        zero_s: what players count as 0.
        origin_s: what became 0.
        end_s: from where on all is left out; None where nothing is.
    """

    zero_s: Fraction
    origin_s: Fraction
    end_s: Fraction | None = None


@final
class SoundSource:
    """Reads the sound of one local file: the stream marked as default, else the first one.

    Samples come as float32, mono or stereo (more channels are mixed down), at the stream's own rate
    where the output can have it (`rates`). They begin at the output's time 0 and follow each other
    without a gap: what is missing in the file, at the beginning too, is silence; what lies before 0
    or from the end on is cut off, to the sample. Edit lists, priming and gaps are those that FFmpeg
    applies.

    It opens the file a second time, and decodes nothing but this stream; a few frames of it are in
    memory at any time.

    Attributes:
        format: of every chunk; None where the file has no sound.
        warnings: what the user should know; grows while chunks are read.
        left_out: the other streams of sound, in words.

    Raises:
        SourceError: there is sound that cannot be read; never an output without a word. While
            iterating, also `TruncatedSourceError` where it is damaged, unless `salvage`.
    """

    def __init__(
        self,
        path: Path,
        options: FileOptions,
        clock: FileClock,
        *,
        rates: Sequence[int] = AAC_RATES,
    ) -> None:
        self._path = path
        self._rates = rates
        self._options = options
        self._clock = clock
        self.format: AudioFormat | None = None
        self.warnings: list[str] = []
        self.left_out: tuple[str, ...] = ()
        self._resampler: av.AudioResampler | None = None
        self._resampled: tuple[str, str, int] | None = None
        self._next = 0
        self._file = open_regular(path)
        self._container: InputContainer | None = None
        try:
            self._container = open_file(self._file, str(path), max_pixels=options.max_pixels)
            self._open(self._container)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of the file; idempotent."""
        if self._container is not None:
            self._container.close()
            self._container = None
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, container: InputContainer) -> None:
        streams = container.streams.audio
        if not streams:
            return
        chosen = next((one for one in streams if one.disposition & Disposition.default), streams[0])
        self.left_out = tuple(
            f"audio track {number}"
            for number, one in enumerate(streams, 1)
            if one.index != chosen.index
        )
        if getattr(chosen, "codec_context", None) is None:
            raise SourceError(f"{self._path}: no decoder for its sound; convert it first, {_HINT}")
        self._stream: AudioStream = chosen
        self._seek(container)
        self._frames = self._decode(container)
        first = next(self._frames, None)
        if first is None:
            self._warn("its sound track holds no sound")
            return
        self._frames = chain([first], self._frames)
        channels = first.layout.nb_channels
        rate = next((one for one in self._rates if one >= first.sample_rate), self._rates[-1])
        self.format = AudioFormat(rate, min(channels, 2))
        if channels > 2:
            self._warn(f"sound of {channels} channels becomes stereo")
        if rate != first.sample_rate:
            self._warn(f"sound of {first.sample_rate} Hz becomes {rate} Hz")
        self._pieces = self._placed_pieces(self.format)
        piece = next(self._pieces, None)
        if piece is None:
            self.format = None
            self._warn("its sound ends before the start point")
            return
        self._pieces = chain([piece], self._pieces)

    def _seek(self, container: InputContainer) -> None:
        target = self._clock.origin_s - _SEEK_MARGIN_S
        if self._options.start_s is None or target <= 0:
            return
        if not container.format.name.startswith(_SEEKABLE):
            return
        try:
            container.seek(int(target / self._time_base), stream=self._stream)
        except av.error.FFmpegError as error:
            raise SourceError(
                f"{self._path}: its sound cannot go to the start point ({reason_of(error)}); "
                f"leave it out, {_HINT}"
            ) from None

    @property
    def _time_base(self) -> Fraction:
        return self._stream.time_base or Fraction(1, 1000)

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    # ----------------------------------------------------------------- decoding

    def _decode(self, container: InputContainer) -> Iterator[av.AudioFrame]:
        """Gives decoded frames, with the time base of the stream, and all damage."""
        end, began, heard, failed = Fraction(0), None, False, False
        try:
            for packet in container.demux(self._stream):
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * self._time_base)
                    began = packet.pts if began is None else began
                joining = not heard and end - (began or 0) * self._time_base < _JOINING_S
                if packet.is_corrupt:
                    self._damage(packet.pts, joining=joining)
                try:
                    frames = self._stream.decode(packet)
                except av.error.FFmpegError:
                    failed = True
                    self._damage(packet.pts, joining=joining)
                    continue
                for frame in frames:
                    if frame.samples:
                        heard = True
                        yield frame
        except IndexError:
            return  # see `FileSource._packets`
        except (av.error.FFmpegError, OSError):
            self._damage(None)
        if failed and not heard:
            raise SourceError(
                f"{self._path}: its sound cannot be decoded; convert it first, {_HINT}"
            )
        declared = self._stream.duration if container.format.name.startswith(_DECLARES) else None
        if declared and end + _END_TOLERANCE_S < declared * self._time_base:
            self._damage(int(end / self._time_base))

    def _damage(self, pts: int | None, *, joining: bool = False) -> None:
        if joining:
            self._warn("its sound begins with what cannot be decoded; that is silence")
            return
        if self._options.salvage:
            self._warn("its sound is damaged or cut short; what could not be read is silence")
            return
        where = "" if pts is None else f" at {float(pts * self._time_base):.2f} s"
        raise TruncatedSourceError(
            f"{self._path}: its sound is damaged or cut short{where}; copy it again, keep what can "
            f"be decoded with --salvage, {_HINT}"
        )

    def _resample(self, audio_format: AudioFormat) -> Iterator[av.AudioFrame]:
        """Gives frames of one format, each with a timestamp of its own where the file has one."""
        for frame in self._frames:
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if self._resampler is None or kind != self._resampled:
                yield from self._flush()
                self._resampled = kind
                self._resampler = av.AudioResampler(
                    "fltp", "mono" if audio_format.channels == 1 else "stereo", audio_format.rate
                )
            yield from self._resampler.resample(frame)
        yield from self._flush()

    def _flush(self) -> Iterator[av.AudioFrame]:
        if self._resampler is not None:
            yield from self._resampler.resample(None)
            self._resampler = None

    # ----------------------------------------------------------------- chunks

    def chunks(self) -> Iterator[RawAudio]:
        """Gives the sound from time 0 on, each chunk where the one before ends; once only.

        Whoever gets a chunk releases it.
        """
        return iter(()) if self.format is None else self._pieces

    def _placed_pieces(self, audio_format: AudioFormat) -> Iterator[RawAudio]:
        clock = self._clock
        end = None
        if clock.end_s is not None:
            end = _nearest((clock.end_s - clock.origin_s) * audio_format.rate)
        try:
            for frame in self._resample(audio_format):
                samples = np.asarray(frame.to_ndarray(), np.float32)
                np.nan_to_num(samples, copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
                np.clip(samples, -1, 1, out=samples)
                for piece in self._placed(
                    samples, self._place_of(frame, audio_format), audio_format
                ):
                    left = len(piece[0]) if end is None else end - self._next
                    if left > 0:
                        yield RawAudio(
                            piece[:, :left].copy(), start=self._next, audio_format=audio_format
                        )
                    self._next += piece.shape[1]
                samples.fill(0)
                if end is not None and self._next >= end:
                    return
        except (av.error.FFmpegError, ValueError) as error:
            raise SourceError(
                f"{self._path}: its sound cannot be converted ({reason_of(error)}); "
                f"convert it first, {_HINT}"
            ) from None

    def _place_of(self, frame: av.AudioFrame, audio_format: AudioFormat) -> int:
        """Returns where, in samples from the output's time 0, a frame begins."""
        if frame.pts is None:
            return self._next
        base = frame.time_base or self._time_base
        return _nearest((frame.pts * base - self._clock.origin_s) * audio_format.rate)

    def _placed(
        self, samples: NDArray[np.float32], place: int, audio_format: AudioFormat
    ) -> Iterator[NDArray[np.float32]]:
        """Gives silence up to `place`, then the samples but those that lie before what follows."""
        gap = place - self._next
        if self._next and abs(gap) <= _JITTER_S * audio_format.rate:
            gap = 0
        if self._next and gap < -_JUMP_S * audio_format.rate:
            raise SourceError(
                f"{self._path}: time jumps back in it, so that its sound would come apart from the "
                "picture; leave the sound out with --audio drop"
            )
        if gap > _LONGEST_GAP_S * audio_format.rate:
            raise SourceError(
                f"{self._path}: its sound has a gap of more than an hour; {_HINT[3:]}"
            )
        while gap > 0:
            count = min(gap, _SILENCE_S * audio_format.rate)
            yield np.zeros((audio_format.channels, count), np.float32)
            gap -= count
        if -gap < samples.shape[1]:
            yield samples[:, -gap:] if gap else samples


def _nearest(exact: Fraction) -> int:
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)
