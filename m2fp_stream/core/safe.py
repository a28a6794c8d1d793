"""What sinks take, and nothing else.

Composed frames, sound that was let pass, label images, and positions of people as numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from fractions import Fraction
from typing import Never, final

import numpy as np
from numpy.typing import NDArray

from ._mint import AUDIBLE, COMPOSED, LOCATED, Key
from .audio import AudioFormat
from .errors import SealError
from .labels import Label
from .records import ParseResult

__all__ = [
    "CoverInfo",
    "CoverLevel",
    "LabelImage",
    "SafeAudio",
    "SafeFrame",
    "TrackRow",
    "TrackState",
    "TrackTable",
]


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


@unique
class TrackState(Enum):
    """How somebody is covered in one frame."""

    PLACED = "placed"
    """As the policy says; a face, or parts, told where the head is."""
    UNPLACED = "unplaced"
    """As the policy says; only the body told where the head is, roughly."""
    CARRIED = "carried"
    """Likewise, before the first sighting or after the last: where somebody may be, unseen."""
    WHOLE = "whole"
    """Whole, for the head is nowhere: who lies, bends or is seen from above."""
    OPEN = "open"
    """Not at all: left alone, for a keep-zone says so."""
    CARD = "card"
    """The frame is covered whole, and whether anybody is there is not told."""


@final
@dataclass(frozen=True, slots=True)
class TrackRow:
    """One person in one frame; or, without a track, a frame that is covered whole.

    Attributes:
        track: number of the person's way through one shot, from 1 in each file; None for a card.
        box: x1, y1, x2, y2 of the person, whole pixels of the composed picture; None for a card.
        state: how the person is covered.
        parts: labels of what is covered of the person, ascending.
    """

    track: int | None
    box: tuple[int, int, int, int] | None
    state: TrackState
    parts: tuple[Label, ...] = ()


@final
class TrackTable(_Sealed):
    """The rows of one composed frame: where people are, in whole numbers; no pixel is in it.

    Only `privacy.tracks` can make one: the constructor wants its key. It is personal data all the
    same: places and times can single somebody out.

    Args:
        rows: one a person; or one card alone.
        frame: number in the output, from 0.
        time_s: exact, from the output's time 0.
        size_wh: (width, height) of the composed picture.
        key: the maker's.

    Raises:
        SealError: the key is not that one, or a row holds anything but what `TrackRow` says; no
            object exists then.
    """

    __slots__ = ("_rows", "frame", "size_wh", "time_s")

    def __init__(
        self,
        rows: tuple[TrackRow, ...],
        *,
        frame: int,
        time_s: Fraction,
        size_wh: tuple[int, int],
        key: Key,
    ) -> None:
        if key is not LOCATED:
            raise SealError("a TrackTable is made by privacy.tracks only")
        if not _are(int, frame, *size_wh, count=3) or not _are(Fraction, time_s):
            raise SealError(f"expected exact numbers, got {frame}, {time_s} s, {size_wh}")
        if frame < 0 or min(size_wh) <= 0:
            raise SealError(f"expected a frame from 0 on and a size, got {frame} {size_wh}")
        if not _are(tuple, rows) or not all(_is_row(row, size_wh) for row in rows):
            raise SealError(f"frame {frame}: a row is not of whole numbers within {size_wh}")
        tracks = [row.track for row in rows]
        if len(set(tracks)) != len(tracks) or (None in tracks and len(tracks) > 1):
            raise SealError(f"frame {frame}: a track comes twice, or a card has company")
        self._rows = rows
        self.frame = frame
        self.time_s = time_s
        self.size_wh = size_wh

    def __init_subclass__(cls) -> None:
        raise TypeError("TrackTable is final")

    @property
    def rows(self) -> tuple[TrackRow, ...]:
        """One a person, or one card alone; immutable."""
        return self._rows

    def __repr__(self) -> str:
        return f"TrackTable(frame={self.frame}, rows={len(self._rows)}, size_wh={self.size_wh})"


def _are(kind: type, *values: object, count: int | None = None) -> bool:
    # Exactly: a number of NumPy's may be a view of an array, and a child of int hold anything.
    return count in (None, len(values)) and all(type(value) is kind for value in values)


def _is_row(row: object, size_wh: tuple[int, int]) -> bool:
    """Says whether a row holds what it says, and nothing besides."""
    if type(row) is not TrackRow or not _are(TrackState, row.state) or not _are(tuple, row.parts):
        return False
    if not _are(Label, *row.parts):
        return False
    if row.track is None or row.box is None or row.state is TrackState.CARD:
        return (row.track, row.box, row.state, row.parts) == (None, None, TrackState.CARD, ())
    if not _are(tuple, row.box) or not _are(int, row.track, *row.box, count=5):
        return False
    x1, y1, x2, y2 = row.box
    return row.track > 0 and 0 <= x1 < x2 <= size_wh[0] and 0 <= y1 < y2 <= size_wh[1]
