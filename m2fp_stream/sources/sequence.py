"""Numbered pictures to frames at a steady rate."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import final

import numpy as np

from ..core.errors import SourceError, TruncatedSourceError
from ..core.numbered import Numbered
from ..core.raw import RawFrame
from ..core.ring import BufferPool
from .base import Captured, Source, SourceInfo
from .image import ImageSource
from .options import FileOptions

__all__ = ["SequenceSource"]


@final
class SequenceSource(Source):
    """Reads ``frames/%06d.png`` as a film: each picture a frame, in the order of the numbers.

    Each is read as `ImageSource` reads it, upright, alpha over black. The lowest number is at time
    0. A number that lacks is damage as in a film, and its time stays where it is left out.

    Args:
        path: with one ``%d`` or ``%06d`` in its name.
        options: `fps`, `max_pixels`, `start_s`, `end_s` and `salvage` matter.

    Raises:
        SourceError: no such picture; while iterating: one that cannot be read, or is of another
            size.
        TruncatedSourceError: one lacks or is cut short, unless `salvage`; also while iterating.
    """

    def __init__(self, path: Path, options: FileOptions | None = None) -> None:
        super().__init__()
        self._options = options = options or FileOptions()
        self._path = path
        self._pool = BufferPool()
        self._left_out = 0
        self._closed = False
        numbered = Numbered.of(path)
        try:
            self._files = {} if numbered is None else numbered.found()
        except OSError as error:
            raise SourceError(f"{path.parent}: cannot be listed ({error.strerror})") from None
        if numbered is None or not self._files:
            raise SourceError(f"{path}: there is no such picture; check folder and name")
        self._numbered, self._first = numbered, min(self._files)
        if not options.salvage:
            self._refuse_gaps()
        rate = Fraction(options.fps).limit_denominator(1001)
        places = max(self._files) - self._first + 1
        self._begin = 0 if options.start_s is None else math.ceil(options.start_s * rate)
        self._end = places
        if options.end_s is not None:
            self._end = min(places, math.ceil(options.end_s * rate))
        if self._begin >= self._end:
            raise SourceError(f"{path}: no frame between start and end; check both")
        with ImageSource(next(iter(self._files.values())), options) as picture:
            first = picture.info
        self._info = SourceInfo(
            size_wh=first.size_wh,
            time_base=1 / rate,
            average_rate=rate,
            duration_s=float((self._end - self._begin) / rate),
            frame_count=self._end - self._begin,
            colorspace=0,
            begins_s=float(self._begin / rate),
            dropped_streams=first.dropped_streams,
        )

    def _refuse_gaps(self) -> None:
        for place, number in enumerate(self._files):
            if number != self._first + place:
                missing = self._numbered.path(self._first + place)
                raise TruncatedSourceError(
                    f"{missing}: is missing between others; copy it again, or go on without it "
                    "with --salvage"
                )

    @property
    def info(self) -> SourceInfo:
        """What is known so far; its `warnings` are complete when the frames have ended."""
        warnings = []
        if self._left_out:
            warnings.append(f"pictures left out, missing or damaged: {self._left_out}")
        return replace(self._info, warnings=tuple(warnings))

    def close(self) -> None:
        """Nothing is open between two pictures; idempotent."""
        super().close()
        self._closed = True

    def _capture(self) -> Iterator[Captured]:
        if self._closed:
            raise SourceError("the source was closed before its frames were read")
        given = 0
        for place in range(self._begin, self._end):
            path = self._files.get(self._first + place)
            try:
                raw = None if path is None else self._read(path, given, place - self._begin)
            except SourceError:
                if not self._options.salvage:
                    raise
                raw = None
            if raw is None:
                self._left_out += 1
                continue
            given += 1
            yield Captured(raw, duration=1)
        if not given:
            raise SourceError(f"{self._path}: none of its pictures can be read")

    def _read(self, path: Path, number: int, pts: int) -> RawFrame:
        with ImageSource(path, self._options) as picture:
            if picture.info.size_wh != self._info.size_wh:
                (width, height), wanted = picture.info.size_wh, self._info.size_wh
                raise SourceError(
                    f"{path}: {width}x{height}, but the first of them is {wanted[0]}x{wanted[1]}; "
                    "make all of them alike"
                )
            frame = next(picture.frames()).frame
            width, height = self._info.size_wh
            buffer = self._pool.take(height, width)
            with frame.analysis() as bgr:
                np.copyto(buffer, bgr)
            frame.release()
        return RawFrame(
            buffer,
            frame_id=number,
            pts=pts,
            time_base=self._info.time_base,
            captured_ns=time.monotonic_ns(),
            give_back=self._pool.give_back,
        )
