"""What sinks take, and nothing else: composed frames, sound that was let pass, label images."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Never, final

import numpy as np
from numpy.typing import NDArray

from ._mint import AUDIBLE, COMPOSED, Key
from .audio import AudioFormat
from .errors import SealError
from .records import ParseResult

__all__ = ["CoverInfo", "CoverLevel", "LabelImage", "SafeAudio", "SafeFrame"]


class CoverLevel(Enum):
    """How much of the frame is covered."""

    PARTS = "parts"
    PERSON = "person"
    FRAME = "frame"


@final
@dataclass(frozen=True, slots=True)
class CoverInfo:
    """What is known about the cover of one composed frame.

    Attributes:
        age_s: seconds since the parse the cover rests on; None where there is none.
        level: how much is covered.
        reason: short text for people, e.g. ``parsed`` or ``parser did not answer``.
    """

    age_s: float | None
    level: CoverLevel
    reason: str


class _Sealed:
    """Final, not copyable by pickling."""

    __slots__ = ()

    def __reduce__(self) -> Never:
        raise TypeError(f"{type(self).__name__} cannot be pickled")


@final
class SafeFrame(_Sealed):
    """A composed frame; `pixels` is a read-only (H, W, 3) uint8 BGR array.

    Only `compositor.compose` can make one: the constructor wants its key.

    Raises:
        SealError: the key is not the compositor's; no object exists then.
    """

    __slots__ = ("_pixels", "captured_ns", "cover", "frame_id", "pts", "time_base")

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        *,
        frame_id: int,
        pts: int,
        time_base: Fraction,
        captured_ns: int,
        cover: CoverInfo,
        key: Key,
    ) -> None:
        if key is not COMPOSED:
            raise SealError("a SafeFrame is made by the compositor only")
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise SealError(f"expected (H, W, 3) uint8 pixels, got {pixels.dtype} {pixels.shape}")
        pixels.setflags(write=False)
        self._pixels = pixels
        self.frame_id = frame_id
        self.pts = pts
        self.time_base = time_base
        self.captured_ns = captured_ns
        self.cover = cover

    def __init_subclass__(cls) -> None:
        raise TypeError("SafeFrame is final")

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 BGR, a read-only view; any thread."""
        return self._pixels.view()

    @property
    def size_wh(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self._pixels.shape[1]), int(self._pixels.shape[0])

    def __repr__(self) -> str:
        return f"SafeFrame(frame_id={self.frame_id}, size_wh={self.size_wh}, cover={self.cover})"


@final
class SafeAudio(_Sealed):
    """A stretch of sound that may be heard; `samples` is read-only (channels, N) float32.

    Only `privacy.audio` can make one: the constructor wants its key.

    Raises:
        SealError: the key is not that one; no object exists then.
    """

    __slots__ = ("_samples", "format", "start")

    def __init__(
        self, samples: NDArray[np.float32], *, start: int, audio_format: AudioFormat, key: Key
    ) -> None:
        if key is not AUDIBLE:
            raise SealError("SafeAudio is made by privacy.audio only")
        if (
            samples.dtype != np.float32
            or samples.ndim != 2
            or len(samples) != audio_format.channels
        ):
            raise SealError(f"expected {audio_format}, got {samples.dtype} {samples.shape}")
        samples.setflags(write=False)
        self._samples = samples
        self.start = start
        self.format = audio_format

    def __init_subclass__(cls) -> None:
        raise TypeError("SafeAudio is final")

    @property
    def samples(self) -> NDArray[np.float32]:
        """(channels, N) float32, full scale at 1, a read-only view; any thread."""
        return self._samples.view()

    def __repr__(self) -> str:
        count = self._samples.shape[1]
        return f"SafeAudio(start={self.start}, count={count}, format={self.format})"


@final
class LabelImage(_Sealed):
    """A label map at picture size, made from a parse result alone: no picture pixel is in it."""

    __slots__ = ("_labels", "frame_id")

    def __init__(self, result: ParseResult, *, size_wh: tuple[int, int]) -> None:
        """Enlarges (nearest) the result's label map to `size_wh`.

        Raises:
            SealError: `result` is not a `ParseResult`.
            ValueError: a side of `size_wh` is not positive.
        """
        if type(result) is not ParseResult:
            raise SealError(f"a LabelImage is made from a ParseResult, not {type(result).__name__}")
        width, height = size_wh
        if width <= 0 or height <= 0:
            raise ValueError(f"size_wh must be positive, got {size_wh}")
        source_height, source_width = result.label_map.shape
        rows = np.arange(height) * source_height // height
        columns = np.arange(width) * source_width // width
        self._labels: NDArray[np.uint8] = result.label_map[rows[:, None], columns[None, :]]
        self._labels.setflags(write=False)
        self.frame_id = result.frame_id

    def __init_subclass__(cls) -> None:
        raise TypeError("LabelImage is final")

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(H, W) uint8 CIHP ids, a read-only view."""
        return self._labels.view()

    @property
    def size_wh(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self._labels.shape[1]), int(self._labels.shape[0])
