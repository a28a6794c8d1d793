"""Sound as it was recorded. Its samples never leave a lease."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from .errors import LeaseError
from .lease import Leased

__all__ = ["AudioFormat", "RawAudio"]


@final
@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What sound is made of: samples a second, and one channel or two (left, right)."""

    rate: int
    channels: int

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.channels not in (1, 2):
            raise ValueError(f"expected a rate and 1 or 2 channels, got {self}")


@final
class RawAudio(Leased):
    """A stretch of decoded sound, (channels, N) float32, full scale at 1.

    The samples can be read only inside ``with raw.analysis() as samples:``; `release()` zeroes
    them. The object refuses to become an array, a buffer, an iterator, a copy or a pickle, and its
    repr shows no sample. One thread at a time may use it.

    Args:
        samples: (channels, N) float32, writable; the object becomes their owner.
        start: of the first one, counted from the output's time 0.
        audio_format: rate and channels.

    Raises:
        ValueError: the samples are not as above.
    """

    __slots__ = ("_samples", "count", "format", "start")

    _how = "raw sound is read inside `with raw.analysis() as samples:`"

    def __init__(
        self, samples: NDArray[np.float32], *, start: int, audio_format: AudioFormat
    ) -> None:
        if samples.dtype != np.float32 or samples.ndim != 2:
            raise ValueError(f"expected (channels, N) float32, got {samples.dtype} {samples.shape}")
        if len(samples) != audio_format.channels or not samples.flags.writeable or start < 0:
            raise ValueError(f"expected {audio_format}, writable, from 0 on; got {samples.shape}")
        self._samples: NDArray[np.float32] | None = samples
        self.start = start
        self.count = int(samples.shape[1])
        self.format = audio_format

    def __init_subclass__(cls) -> None:
        raise TypeError("RawAudio is final")

    @contextmanager
    def analysis(self) -> Generator[NDArray[np.float32]]:
        """Lends the samples, read-only (channels, N) float32, until the block ends.

        Raises:
            LeaseError: they were released before.
        """
        if self._samples is None:
            raise LeaseError(f"sound from sample {self.start}: it is gone (released before)")
        view = self._samples.view()
        view.setflags(write=False)
        yield view

    def release(self) -> None:
        """Zeroes the samples; idempotent."""
        if self._samples is not None:
            self._samples.fill(0)
            self._samples = None

    def __repr__(self) -> str:
        return f"RawAudio(start={self.start}, count={self.count}, format={self.format})"
