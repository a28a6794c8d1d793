"""The sound of a film, encoded as its container wants it."""

from __future__ import annotations

from fractions import Fraction
from typing import Final, Literal, final

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer

from ..core.audio import AudioFormat
from ..core.errors import SinkError
from ..core.safe import SafeAudio

__all__ = ["SoundTrack"]

_AAC_BITS: Final = 3
_AAC_MOST: Final = 96_000
"""Bits a sample of each channel, and bits a second at most. Chosen: 192 kb/s for stereo at 48 kHz,
where FFmpeg's own encoder is hard to tell from the original; below what AAC can hold (6 144 bits a
channel and frame of 1 024 samples, ISO/IEC 14496-3, 4.5.3.3)."""

_OPUS_BITS: Final = 64_000
"""Bits a second of each channel. Source: Opus Recommended Settings (wiki.xiph.org): 128 kb/s for
stereo are "pretty much transparent"."""


@final
class SoundTrack:
    """The sound of a film: its first sample at time 0."""

    def __init__(
        self, container: OutputContainer, stream: AudioStream, audio_format: AudioFormat
    ) -> None:
        self._container, self._stream, self._format = container, stream, audio_format
        self._next = 0

    @classmethod
    def of(
        cls,
        container: OutputContainer,
        encoder: Literal["aac", "libopus"],
        audio_format: AudioFormat,
    ) -> SoundTrack:
        """Adds the track to a container that is not begun yet."""
        layout = "mono" if audio_format.channels == 1 else "stereo"
        stream = container.add_stream(encoder, rate=audio_format.rate, layout=layout)
        context = stream.codec_context
        of_each = min(_AAC_MOST, _AAC_BITS * audio_format.rate)
        if encoder == "libopus":
            of_each = _OPUS_BITS
        context.bit_rate = audio_format.channels * of_each
        context.time_base = stream.time_base = Fraction(1, audio_format.rate)
        context.flags |= Flags.bitexact  # keeps the encoder's name out
        return cls(container, stream, audio_format)

    def add(self, item: SafeAudio) -> None:
        """Encodes what follows what came before."""
        if item.format != self._format or item.start != self._next:
            raise SinkError(f"expected {self._format} from sample {self._next} on, got {item}")
        layout = self._stream.layout.name
        samples = np.ascontiguousarray(item.samples)
        if not samples.size:
            return
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = self._format.rate, self._next
        frame.time_base = Fraction(1, self._format.rate)
        self._next += samples.shape[1]
        self._container.mux(self._stream.encode(frame))

    def end(self) -> None:
        """Encodes what the encoder holds."""
        self._container.mux(self._stream.encode(None))
