"""What every source promises: upright BGR frames in order, each with its exact time."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final, Self, final

from ..core.errors import SourceError
from ..core.raw import RawFrame

__all__ = ["MAX_PIXELS", "Captured", "Source", "SourceInfo", "open_regular"]

MAX_PIXELS: Final = 64_000_000
"""Default limit of width times height. 8K video has 33 million pixels (ITU-R BT.2020), a 61 MP
still camera fits; beyond it a hostile header could ask for more memory than the machine has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """What is known about a source before its frames are read.

    Attributes:
        size_wh: (width, height) in pixels of every frame, after rotation.
        sample_aspect_ratio: width to height of one pixel after rotation; None where not stated.
        time_base: seconds a tick of every frame's `pts`.
        begins_s: the time of the input, as players count it, at which `pts` is 0.
        average_rate: frames a second, None where unknown. An estimate; `pts` is the truth.
        duration_s: None where unknown.
        frame_count: an estimate for progress, None where unknown.
        color_primaries, color_trc, colorspace, color_range: code points of ITU-T H.273 that the
            frames were tagged with and an encoder should tag its output with; None where not
            stated. `colorspace` 0 means that the source was RGB.
        bit_rate: bits a second of the pictures, None where unknown; of what is there in all, less
            what other streams say, where the file does not say it.
        has_audio: an audio stream exists.
        dropped_streams: what of the container does not pass, in words.
        warnings: what the user should know, one sentence each; grows while frames are read.
    """

    size_wh: tuple[int, int]
    time_base: Fraction
    sample_aspect_ratio: Fraction | None = None
    average_rate: Fraction | None = None
    duration_s: float | None = None
    frame_count: int | None = None
    color_primaries: int | None = None
    color_trc: int | None = None
    colorspace: int | None = None
    color_range: int | None = None
    bit_rate: int | None = None
    has_audio: bool = False
    begins_s: float = 0.0
    dropped_streams: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Captured:
    """One frame and whether what was known before it still holds.

    Attributes:
        frame: the consumer releases it.
        restart: True where this frame follows a discontinuity (the picture's size or orientation
            changed, time jumped back): nothing known before it holds.
        duration: ticks the frame is shown for, where the source states it.
    """

    frame: RawFrame
    restart: bool = False
    duration: int | None = None


class Source(ABC):
    """Opens on construction, gives its frames once, closes.

    Construction reads as far as the first frame, so that whatever cannot be shown is refused
    early; a `SourceError` then leaves nothing open. One thread at a time may use a source.
    """

    def __init__(self) -> None:
        self._given = False

    @property
    @abstractmethod
    def info(self) -> SourceInfo:
        """What is known so far; its `warnings` are complete when the frames have ended."""

    @final
    def frames(self) -> Iterator[Captured]:
        """Returns the frames in presentation order, `pts` strictly increasing; once only.

        Raises:
            SourceError: asked for a second time or after `close`; while iterating: the input
                cannot be read on. Frames given before stay valid.
        """
        if self._given:
            raise SourceError("the frames of a source can be read once only; open it again")
        self._given = True
        return self._capture()

    @abstractmethod
    def _capture(self) -> Iterator[Captured]:
        """Gives the frames; called once at most."""

    def close(self) -> None:
        """Lets go of the input; idempotent. Frames given before stay valid."""
        self._given = True

    @final
    def __enter__(self) -> Self:
        return self

    @final
    def __exit__(self, *_: object) -> None:
        self.close()


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular, non-empty file for reading, never a device, pipe or URL.

    Raises:
        SourceError: it is none, or cannot be read; the message says which and what to do.
    """
    try:
        # Non-blocking, for a named pipe without a writer would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{path}: cannot be opened ({reason}); check name and rights") from None
    status = os.fstat(descriptor)
    problem = None
    if stat.S_ISDIR(status.st_mode):
        problem = "is a folder, expected a file; name the file"
    elif not stat.S_ISREG(status.st_mode):
        problem = "is not a regular file; copy its contents into one first"
    elif status.st_size == 0:
        problem = "is empty (0 bytes); check how the file was copied"
    if problem is not None:
        os.close(descriptor)
        raise SourceError(f"{path}: {problem}")
    return os.fdopen(descriptor, "rb")
