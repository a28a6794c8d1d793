"""What may be heard of a recording: the only maker of `SafeAudio`.

Sound is left out unless somebody asks for it. `keep` lets voices pass as they are; `disguise`
shifts their pitch, and their formants with it, by an amount drawn for the run. That is a casual
disguise: words, accent and manner of speaking stay, and an expert can undo it by trying a few
amounts.
"""

from __future__ import annotations

import math
import secrets
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Annotated, Final, Literal, final

import av
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ..core._mint import AUDIBLE
from ..core.audio import AudioFormat, RawAudio
from ..core.errors import PromiseError
from ..core.safe import SafeAudio
from ..core.timing import Span
from ..options import Options

__all__ = ["AudioGuard", "AudioOptions", "draw_shift"]

_LEAST_SEMITONES: Final = 3.0
_MOST_SEMITONES: Final = 5.0
"""How far a voice is shifted, up or down. Chosen: men's and women's voices lie about an octave
apart, their formants three semitones (Peterson and Barney, 1952: 15 to 20 %); beyond five semitones
words become hard to understand."""

_PIECE: Final = 4096
"""Samples at a time through the filters. Chosen: a tenth of a second."""


class AudioOptions(Options):
    """What becomes of the sound of a recorded file; live, it is always left out."""

    mode: Annotated[
        Literal["drop", "keep", "disguise"],
        Field(
            title="Sound",
            description=(
                "drop leaves it out; keep lets it pass, encoded again; disguise shifts voices, "
                "which an expert can undo: words and manner of speaking stay."
            ),
        ),
    ] = "drop"
    mute: Annotated[
        tuple[str, ...],
        Field(
            title="Silent spans",
            description=(
                "Times of the input, as 0:12-0:30, between which nothing is heard; 0 is all "
                "before it, too, and 0:12- goes on to the end."
            ),
        ),
    ] = ()

    @field_validator("mute")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            span = Span.parse(text)
            if span.begin_s == span.end_s:
                raise ValueError(f"{text!r} ends where it begins, so that nothing would be silent")
        return value


def draw_shift() -> float:
    """Returns a factor for pitch and formants, drawn anew: three to five semitones, up or down."""
    random = secrets.SystemRandom()
    semitones = random.uniform(_LEAST_SEMITONES, _MOST_SEMITONES)
    return float(2.0 ** (random.choice((-1, 1)) * semitones / 12))


@final
class AudioGuard:
    """Makes of raw sound what may be heard: silent where it must be, disguised where asked.

    Every chunk of raw sound is released here, whatever happens. What comes out begins at time 0,
    has no gap and is as long as what went in.

    Args:
        options: what is asked; `drop` lets nothing pass.
        audio_format: of the sound.
        zero_s: where the input's time 0 lies, in seconds of the output's; below 0 where what is
            before the output's beginning is cut off.
        shift: the disguise's factor.

    Raises:
        PromiseError: sound is to be left out.
    """

    def __init__(
        self, options: AudioOptions, audio_format: AudioFormat, *, zero_s: Fraction, shift: float
    ) -> None:
        if options.mode == "drop":
            raise PromiseError("sound is to be left out; nothing of it may pass")
        self._format = audio_format
        self._silent = _silent_samples(options.mute, audio_format.rate, zero_s)
        self._voice = _Disguise(audio_format, shift) if options.mode == "disguise" else None
        self._taken = self._made = 0

    def take(self, raw: RawAudio) -> Iterator[SafeAudio]:
        """Takes the next chunk and gives what is ready.

        Raises:
            PromiseError: it is of another format, or does not follow the one before.
        """
        try:
            if raw.format != self._format or raw.start != self._taken:
                raise PromiseError(f"expected sound from sample {self._taken} on, got {raw}")
            self._taken += raw.count
            with raw.analysis() as samples:
                heard = samples.copy()
            for begin, end in self._silent.values():
                heard[:, max(0, begin - raw.start) : max(0, end - raw.start)] = 0
        finally:
            raw.release()
        if self._voice is None:
            yield self._passed(heard)
            return
        for piece in self._voice.push(heard):
            yield self._passed(piece)

    def rest(self) -> Iterator[SafeAudio]:
        """Gives what is left at the end; what the disguise is short of is silence."""
        if self._voice is not None:
            for piece in self._voice.push(None):
                yield self._passed(piece)
        missing = self._taken - self._made
        if missing > 0:
            yield self._passed(np.zeros((self._format.channels, missing), np.float32))

    @property
    def unmet(self) -> tuple[str, ...]:
        """Silent spans in which there was no sound; all that came was taken before."""
        return tuple(
            text for text, (begin, end) in self._silent.items() if end <= 0 or begin >= self._taken
        )

    def _passed(self, samples: NDArray[np.float32]) -> SafeAudio:
        samples = samples[:, : self._taken - self._made].copy()
        start, self._made = self._made, self._made + samples.shape[1]
        return SafeAudio(samples, start=start, audio_format=self._format, key=AUDIBLE)


def _silent_samples(
    spans: Sequence[str], rate: int, zero_s: Fraction
) -> dict[str, tuple[int, int]]:
    """Returns the spans in samples of the output, rounded outwards."""
    found = {}
    for text in spans:
        span = Span.parse(text)
        begin = 0 if span.begin_s == 0 else math.floor((zero_s + Fraction(span.begin_s)) * rate)
        end = sys.maxsize
        if span.end_s < math.inf:
            end = math.ceil((zero_s + Fraction(span.end_s)) * rate)
        found[text] = begin, end
    return found


@final
class _Disguise:
    """FFmpeg's filters: played faster or slower (pitch and formants), then brought back to time.

    The latter moves sound by some milliseconds, and does not add up (measured over rates from 8
    to 96 kHz and all shifts: 16 ms early to 3 ms late).
    """

    def __init__(self, audio_format: AudioFormat, shift: float) -> None:
        self._format = audio_format
        self._layout = "mono" if audio_format.channels == 1 else "stereo"
        played = round(audio_format.rate * shift)
        graph = self._graph = av.filter.Graph()
        graph.link_nodes(
            graph.add_abuffer(
                sample_rate=audio_format.rate,
                format="fltp",
                layout=self._layout,
                time_base=Fraction(1, audio_format.rate),
            ),
            graph.add("asetrate", str(played)),
            graph.add("aresample", str(audio_format.rate)),
            graph.add("atempo", f"{audio_format.rate / played:.9f}"),
            graph.add(
                "aformat",
                f"sample_fmts=fltp:sample_rates={audio_format.rate}:channel_layouts={self._layout}",
            ),
            graph.add("abuffersink"),
        ).configure()
        self._pushed = 0

    def push(self, samples: NDArray[np.float32] | None) -> Iterator[NDArray[np.float32]]:
        """Takes (channels, N) float32, or None at the end, and gives what is ready of it."""
        if samples is None:
            self._graph.push(None)
            yield from self._pull()
            return
        for at in range(0, samples.shape[1], _PIECE):
            piece = np.ascontiguousarray(samples[:, at : at + _PIECE])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=self._layout)
            frame.sample_rate, frame.pts = self._format.rate, self._pushed
            frame.time_base = Fraction(1, self._format.rate)
            self._pushed += piece.shape[1]
            self._graph.push(frame)
            yield from self._pull()

    def _pull(self) -> Iterator[NDArray[np.float32]]:
        while True:
            try:
                ready = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(ready, av.AudioFrame)
            yield np.asarray(ready.to_ndarray(), np.float32)
