"""A recording in complete pieces: what was recorded before a crash or a full disk stays."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import time
from fractions import Fraction
from pathlib import Path
from typing import Annotated, ClassVar, Final, final

from pydantic import Field

from ..core.errors import SinkError
from ..core.part_file import part_name
from ..core.safe import SafeFrame
from ..options import Options
from .base import Sink
from .encoders import Preset, VideoFileOptions
from .video_file import ROOM_BYTES, VideoFileSink
from .yuv import BT709, NARROW_RANGE

__all__ = ["RecordOptions", "SegmentSink"]

_log = logging.getLogger(__name__)

_RATE_HINT: Final = Fraction(30)
"""Frames a second, for the duration of a recording's very last frame. Chosen: the usual one of
cameras."""

_CHECK_S: Final = Fraction(1)
"""How often it is looked whether the file is still there. Chosen: as long as one fragment, all that
is lost on a full disk."""


class RecordOptions(Options):
    """How a live picture is recorded."""

    enabled: Annotated[
        bool,
        Field(
            title="Record",
            description="Write the covered picture.",
        ),
    ] = False
    folder: Annotated[
        str,
        Field(title="Folder", description="Where the recordings go; it must exist.", min_length=1),
    ] = "."
    prefix: Annotated[
        str,
        Field(
            title="Beginning of the names",
            description="Files are named PREFIX-YYYYMMDD-HHMMSS.mp4, by local time.",
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
            max_length=100,
        ),
    ] = "m2fp-stream"
    segment_s: Annotated[
        float,
        Field(
            title="Length of a file",
            description="Seconds after which the next file begins.",
            ge=1,
            le=86_400,
        ),
    ] = 60.0
    crf: Annotated[
        int,
        Field(
            title="Quality",
            description="x264's constant rate factor: 0 is lossless, 51 worst.",
            ge=0,
            le=51,
        ),
    ] = 23
    preset: Annotated[
        Preset,
        Field(
            title="Speed of encoding",
            description="x264's preset: slower ones give smaller files of the same quality.",
        ),
    ] = "veryfast"
    threads: Annotated[
        int,
        Field(title="Encoder threads", description="More only for large pictures.", ge=1, le=64),
    ] = 2
    keep_files: Annotated[
        int,
        Field(
            title="Files kept",
            description=(
                "The oldest recordings of this prefix beyond that number are deleted, those of "
                "earlier runs first; 0 keeps all."
            ),
            ge=0,
        ),
    ] = 0
    keep_mb: Annotated[
        int,
        Field(
            title="Megabytes kept",
            description=(
                "The oldest recordings of this prefix are deleted until the rest fits; 0 keeps "
                "all. The newest always stays."
            ),
            ge=0,
        ),
    ] = 0


@final
class SegmentSink(Sink[SafeFrame]):
    """Records into one MP4 after another, each of which appears under its name when complete.

    A segment's time begins at zero, and its last frame lasts until the next segment's first.
    Completing one waits for the disk: call `write` from a thread that may wait. `abort` drops the
    segment that has begun; complete ones stay, whatever happens. Where the disk is full, what was
    written of the segment at hand is kept, to a second, and appears under its name; `lost` says how
    many frames are not in it. Make a new sink to go on: it begins a new segment, and refuses while
    there is no room.

    Args:
        folder: where the files go; its recordings of the same prefix, from earlier runs too,
            count against `keep_files` and `keep_mb`, nothing else in it is touched. This sink's own
            are the newest, in the order in which they were completed; the others go by the times
            of the file system, and so by the clock of their runs.
        options: see `RecordOptions`.
        size_wh: (width, height) of every frame.
        time_base: seconds a tick of the frames' `pts`.

    Raises:
        SinkError: there is no such folder, or it is closed, or its disk full or read-only; nothing
            was written.
    """

    accepts: ClassVar[type] = SafeFrame

    def __init__(
        self,
        folder: Path,
        options: RecordOptions,
        *,
        size_wh: tuple[int, int],
        time_base: Fraction,
    ) -> None:
        super().__init__()
        _check_folder(folder)
        self._folder = folder
        self._options = options
        self._size_wh = size_wh
        self._time_base = time_base
        self._length = max(1, round(Fraction(options.segment_s) / time_base))
        self._check_every = max(1, round(_CHECK_S / time_base))
        self._current: VideoFileSink | None = None
        self._taken = 0
        """Frames of the current segment."""
        self._checked = 0
        self._began = 0
        self._last_pts = 0
        self._name = ""
        self._finished = 0
        self._completed: list[str] = []
        """Names that `keep_files` and `keep_mb` have not deleted yet, oldest first."""
        self._own = re.compile(re.escape(options.prefix) + r"-\d{8}-\d{6}(?:-[1-9]\d*)?\.mp4")

    def _emit(self, item: SafeFrame) -> None:
        if self._current is not None and item.pts - self._began >= self._length:
            self._complete(self._current, item.pts - self._last_pts)
        if self._current is None:
            self._current = self._begin(item.pts)
            self._taken, self._checked = 0, item.pts
        if item.pts - self._checked >= self._check_every:
            self._checked = item.pts
            self._current.check()
        self._current.write(item)
        self._taken += 1
        self._last_pts = item.pts

    def _begin(self, pts: int) -> VideoFileSink:
        self._began = pts
        stem = f"{self._options.prefix}-{time.strftime('%Y%m%d-%H%M%S')}"
        name, number = f"{stem}.mp4", 1
        # A part file is another run's, which began in the same second.
        path = self._folder / name
        while os.path.lexists(path) or os.path.lexists(part_name(path)):
            number += 1
            name = f"{stem}-{number}.mp4"
            path = self._folder / name
        self._name = name
        return VideoFileSink(
            path,
            size_wh=self._size_wh,
            time_base=self._time_base,
            origin_pts=pts,
            rate=_RATE_HINT,
            color_primaries=BT709,
            color_trc=BT709,
            colorspace=BT709,
            color_range=NARROW_RANGE,
            in_pieces=True,
            options=VideoFileOptions(
                crf=self._options.crf, preset=self._options.preset, threads=self._options.threads
            ),
        )

    def _complete(self, segment: VideoFileSink, last_duration: int | None) -> None:
        if last_duration is not None:
            segment.set_last_duration(last_duration)
        segment.finish()
        self._current = None
        self._finished += 1
        self._delete_oldest(self._name)

    def _delete_oldest(self, newest: str) -> None:
        files, megabytes = self._options.keep_files, self._options.keep_mb
        if not files and not megabytes:
            return
        # A name that was deleted may come once more, where the clock went back.
        self._completed = [name for name in self._completed if name != newest] + [newest]
        try:
            kept = self._recordings()
        except OSError as error:
            _log.warning("%s: cannot be searched (%s)", self._folder, error.strerror)
            return
        while len(kept) > 1 and (
            (files and len(kept) > files)
            or (megabytes and sum(size for _, size in kept) > megabytes * 1_000_000)
        ):
            name, _ = kept.pop(0)
            try:
                (self._folder / name).unlink(missing_ok=True)
            except OSError as error:
                _log.warning("%s: an old recording cannot be deleted (%s)", name, error.strerror)
                continue
            _log.info("%s: deleted, being the oldest recording", name)

    def _recordings(self) -> list[tuple[str, int]]:
        """Returns (name, bytes) of this prefix's files, oldest first.

        The clock may have been set back, or come up years ago: what this sink completed is newer
        than everything else, whatever its date.
        """
        found: dict[str, tuple[int, int]] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if self._own.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found[entry.name] = status.st_mtime_ns, status.st_size
        self._completed = [name for name in self._completed if name in found]
        earlier = sorted(found.keys() - self._completed, key=lambda name: (found[name][0], name))
        return [(name, found[name][1]) for name in (*earlier, *self._completed)]

    def _finish(self) -> None:
        if self._current is not None:
            self._complete(self._current, self._last_duration)
        elif not self._finished:
            raise SinkError("no frame was written, so there is no recording to complete")

    def _abort(self) -> None:
        if self._current is not None:
            self._current.abort()
            self.lost = self._taken - self._current.rescued


def _check_folder(folder: Path) -> None:
    """Raises `SinkError` now for what would otherwise be the first frame's error."""
    try:
        mode = folder.stat().st_mode
        disk = os.statvfs(folder)
    except FileNotFoundError:
        raise SinkError(f"{folder}: no such folder; make it first or choose another") from None
    except OSError as error:
        raise SinkError(f"{folder}: cannot be used ({error.strerror}); check it") from None
    if not stat.S_ISDIR(mode):
        raise SinkError(f"{folder}: is a file, expected a folder; choose another")
    if disk.f_flag & os.ST_RDONLY:
        raise SinkError(f"{folder}: {os.strerror(errno.EROFS)}; choose another, or mount it anew")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise SinkError(f"{folder}: cannot be written to; check the folder's rights")
    free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    if disk.f_blocks and free * disk.f_frsize < ROOM_BYTES:  # some do not say their size
        raise SinkError(f"{folder}: {os.strerror(errno.ENOSPC)}; free some space")
