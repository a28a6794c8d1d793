"""Composed frames to numbered pictures, which appear together."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final, NoReturn, final

import cv2

from ..core.errors import SinkError
from ..core.numbered import Numbered
from ..core.part_file import PartFile, cannot_be_written, move_to_free_name, part_name
from ..core.safe import SafeFrame
from .base import Sink
from .image import check_suffix, encoded

__all__ = ["SequenceSink"]

_FIRST: Final = 1
"""The number of the first picture. Source: FFmpeg's documentation, "image2" (start_number)."""


@final
class SequenceSink(Sink[SafeFrame]):
    """Writes each frame as a picture: ``out/%06d.png`` becomes ``out/000001.png`` and so on.

    They grow in a hidden folder beside, and get their names when `finish` succeeds. Times are not
    kept: each frame is a picture, however long it is shown.

    Args:
        path: with one ``%d`` or ``%06d`` in its name; the suffix is as for `ImageSink`. No
            metadata is written.
        overwrite: False refuses where there is any such picture. True takes those that are there
            for the pictures of an earlier run: all of them are replaced, or removed.

    Raises:
        SinkError: another kind of name, or the files cannot be written there; nothing was left.
    """

    accepts: ClassVar[type] = SafeFrame

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        super().__init__()
        self._path, self._overwrite = path, overwrite
        self._suffix = check_suffix(path)
        numbered = Numbered.of(path)
        if numbered is None:
            raise SinkError(f"{path}: no name for several pictures; use one such as %06d.png")
        self._numbered = numbered
        self._count = 0
        self._lock = -1
        self._folder = part_name(path)
        try:
            if not overwrite and (there := numbered.found()):
                raise SinkError(
                    f"{next(iter(there.values()))}: exists already; choose another name or pass "
                    "--overwrite"
                )
            self._make()
        except OSError as error:
            self.abort()
            self._refuse(error)
        except BaseException:
            self.abort()
            raise

    def _make(self) -> None:
        try:
            self._folder.mkdir(0o700)
        except FileExistsError:
            self._hold()
            shutil.rmtree(self._folder)  # of a run that was killed: nobody holds its lock
            self._folder.mkdir(0o700)
            self._let_go()
        self._hold()

    def _hold(self) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._lock = os.open(self._folder, flags)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._let_go()
            raise SinkError(f"{self._path}: another run is writing it; wait for it") from None

    def _let_go(self) -> None:
        lock, self._lock = self._lock, -1
        os.close(lock)

    def _emit(self, item: SafeFrame) -> None:
        name = self._numbered.path(_FIRST + self._count).name
        with PartFile(self._folder / name, overwrite=False) as part:
            try:
                part.write(encoded(item, self._suffix, str(self._numbered.folder / name)))
                part.publish()
            except (cv2.error, OSError) as error:
                self._refuse(error)
        self._count += 1

    def _finish(self) -> None:
        if not self._count:
            raise SinkError(f"{self._path}: no frame was written, so there is no picture")
        moved: list[Path] = []
        try:
            for number in range(_FIRST, _FIRST + self._count):
                final_path = self._numbered.path(number)
                part = self._folder / final_path.name
                if self._overwrite:
                    part.replace(final_path)
                else:
                    move_to_free_name(part, final_path)
                    moved.append(final_path)
            if self._overwrite:
                for number, path in self._numbered.found().items():
                    if not _FIRST <= number < _FIRST + self._count:
                        path.unlink()
        except BaseException as error:
            for path in moved:
                with suppress(OSError):
                    path.unlink()
            if isinstance(error, OSError):
                self._refuse(error)
            raise
        self._abort()

    def _refuse(self, error: Exception) -> NoReturn:
        if isinstance(error, SinkError):
            raise error
        raise cannot_be_written(self._path, error) from None

    def _abort(self) -> None:
        if self._lock >= 0:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._let_go()
