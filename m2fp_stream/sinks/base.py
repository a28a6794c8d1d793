"""The sealed door: a sink takes exactly one kind of composed data, and nothing else."""

from __future__ import annotations

import errno
import fcntl
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, ClassVar, Final, Generic, NoReturn, Self, TypeVar, final

from ..core.errors import SealError, SinkError
from ..core.safe import LabelImage, SafeFrame

__all__ = ["PartFile", "Sink"]

Item = TypeVar("Item", SafeFrame, LabelImage)

_ALLOWED: Final = (SafeFrame, LabelImage)
_SEALED: Final = ("write", "finish", "abort", "__enter__", "__exit__", "__init_subclass__")


class Sink(ABC, Generic[Item]):
    """Takes items of one sealed type; its output appears when `finish` succeeds, or never.

    A subclass names `accepts` and writes `_emit`, `_finish` and `_abort`; the methods that people
    call cannot be overridden. One thread at a time may use a sink.
    """

    accepts: ClassVar[type]

    retry: ClassVar[bool] = True
    """Whether a new sink may go on where one has failed; False where both write one output."""

    lost: int = 0
    """Items that `write` took and that the output will not have; known after it has failed."""

    def __init__(self) -> None:
        self._open = True
        self._last_duration: int | None = None

    def __init_subclass__(cls) -> None:
        if getattr(cls, "accepts", None) not in _ALLOWED:
            names = ", ".join(kind.__name__ for kind in _ALLOWED)
            raise SealError(f"{cls.__name__}.accepts must be one of {names}")
        for name in _SEALED:
            # Compared as resolved, so that a base class beside Sink cannot bring its own either.
            if getattr(getattr(cls, name), "__func__", getattr(cls, name)) is not _ORIGINAL[name]:
                raise SealError(f"{cls.__name__} may not override {name}()")

    @final
    def write(self, item: Item) -> None:
        """Passes `item` on if it is exactly of the accepted type.

        Raises:
            SealError: it is not, not even as a subclass; nothing was written.
            SinkError: the output cannot be written, or the sink is closed; no output remains.
        """
        accepted: object = type(self).accepts
        if type(item) is not accepted or accepted not in _ALLOWED:
            self.abort()
            raise SealError(f"{type(self).__name__} refused a {type(item).__name__}")
        self._check_open()
        try:
            self._emit(item)
        except BaseException:
            self.abort()
            raise

    @final
    def finish(self) -> None:
        """Completes the output; only now does it stand under its final name.

        Raises:
            SinkError: it cannot be completed, or the sink is closed; no output remains.
        """
        self._check_open()
        try:
            self._finish()
        except BaseException:
            self.abort()
            raise
        self._open = False

    @final
    def abort(self) -> None:
        """Drops whatever was written so far; idempotent, and without effect after `finish`."""
        if self._open:
            self._open = False
            self._abort()

    @final
    def set_last_duration(self, ticks: int) -> None:
        """Says how long the last item is shown, in ticks of its time base; before `finish`.

        Only a sink whose output has a duration uses it; without it, it guesses.
        """
        self._last_duration = max(1, ticks)

    @final
    def __enter__(self) -> Self:
        return self

    @final
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Aborts unless `finish` was called: leaving early is never a complete output."""
        self.abort()

    @final
    def _check_open(self) -> None:
        if not self._open:
            raise SinkError(f"{type(self).__name__} is closed; open a new one")

    @abstractmethod
    def _emit(self, item: Item) -> None:
        """Writes one item that `write` has checked."""

    @abstractmethod
    def _finish(self) -> None:
        """Completes the output under its final name."""

    @abstractmethod
    def _abort(self) -> None:
        """Removes everything that was written; called once at most."""


_ORIGINAL: Final[dict[str, Callable[..., object]]] = {
    name: getattr(getattr(Sink, name), "__func__", getattr(Sink, name)) for name in _SEALED
}


_HINTS: Final = {
    errno.ENOENT: "make the folder first",
    errno.EEXIST: "choose another name or pass --overwrite",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "your quota is used up; free some space",
    errno.EFBIG: "the system's limit on file sizes is too low",
    errno.EROFS: "the disk is read-only, perhaps after an error; see what the system's log says",
    errno.EIO: "the disk fails; see what the system's log says",
}

_NO_LINK: Final = (
    *(errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS),  # FAT, some network shares
    *(errno.ENOSPC, errno.EDQUOT),  # two names for a moment may be one too many
)
_CANNOT_TELL: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV)
"""What a file system answers that cannot allocate ahead. Source: posix_fallocate(3)."""


@final
class PartFile:
    """A file that grows under a hidden name beside its final one and appears there complete.

    It is made with mode 0600 and locked; a part file that a killed run left behind (nobody holds
    its lock) is replaced. As a binary file object it can be given to PyAV.

    Args:
        path: the final name.
        overwrite: False refuses a final name that is taken, also if it is taken meanwhile.

    Raises:
        SinkError: no such folder, no right to write, name taken, another run writes it; nothing
            was changed then.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._fd = -1
        self._path = path
        self._overwrite = overwrite
        self._part = path.with_name(f".{path.name}.part")
        self._error: OSError | None = None
        self._broken: BaseException | None = None
        if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir() raises where the folder is closed
            raise SinkError(f"{path}: is a folder, expected a file name; add one")
        if os.path.lexists(path) and not overwrite:
            raise SinkError(f"{path}: exists already; choose another name or pass --overwrite")
        try:
            self._make()
        except OSError as error:
            self.discard()
            self.refuse(error)
        except BaseException:  # a signal, perhaps before what was opened had a name here
            self.discard()
            with suppress(OSError):
                self._remove_stale()
            raise

    def __del__(self) -> None:
        """Leaves nothing of what nobody finished: a signal may come before anybody holds it."""
        with suppress(Exception):
            self.discard()

    def _make(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # EXCL follows no link
        try:
            self._fd = os.open(self._part, flags, 0o600)
        except FileExistsError:
            self._remove_stale()
            self._fd = os.open(self._part, flags, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _remove_stale(self) -> None:
        fd = os.open(self._part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._part.unlink()
        except BlockingIOError:
            raise SinkError(f"{self._path}: another run is writing it; wait for it") from None
        finally:
            os.close(fd)

    @property
    def closed(self) -> bool:
        """True after `publish` or `discard`."""
        return self._fd < 0

    @property
    def name(self) -> str:
        """The hidden name."""
        return str(self._part)

    def write(self, data: bytes) -> int:
        """Writes all of `data` at the current position and returns its length.

        Raises:
            OSError: it does not fit; `publish` then refuses.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self._error = error
            raise
        except BaseException as error:  # the library that calls this may swallow it
            self._broken = error
            raise
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the current position and returns it."""
        return os.lseek(self._fd, offset, whence)

    def tell(self) -> int:
        """The current position in bytes."""
        return os.lseek(self._fd, 0, os.SEEK_CUR)

    def ask_for(self, size: int) -> None:
        """Makes sure that there is room for `size` bytes; allocates and gives back.

        Raises:
            SinkError: there is not, by the disk, a quota or a limit; `discard` must follow.
        """
        try:
            os.posix_fallocate(self._fd, 0, size)
            os.ftruncate(self._fd, 0)
        except OSError as error:
            if error.errno not in _CANNOT_TELL:
                self.refuse(error)

    def check(self) -> None:
        """Looks whether the file is still where it was made; what was deleted takes any write.

        Raises:
            SinkError: it is not.
        """
        if not self._is_ours():
            raise SinkError(
                f"{self._path}: was deleted while it was written; make its folder again if it is "
                "gone, too"
            )

    def cut(self, length: int) -> None:
        """Keeps the first `length` bytes, and forgets that what came later could not be written.

        Raises:
            OSError: the file cannot be cut.
        """
        os.ftruncate(self._fd, length)
        self._error = None

    def reopen(self, *_: object) -> BinaryIO:
        """Opens the part file once more, for reading, whatever name and flags are asked for."""
        return self._part.open("rb")

    def publish(self) -> None:
        """Moves the file to its final name, with the rights that the user's umask allows.

        Raises:
            SinkError: something could not be written, or the name is taken by now; `discard`
                must follow.
        """
        try:
            if self._error is not None:
                raise self._error
            if self._broken is not None:
                raise self._broken
            if not self._is_ours():
                raise SinkError(f"{self._path}: its part file was replaced; run again")
            mask = os.umask(0o077)
            os.umask(mask)
            os.fchmod(self._fd, 0o666 & ~mask)
            os.fsync(self._fd)
            if self._overwrite:
                self._part.replace(self._path)
            else:
                self._move_to_free_name()
            self._close()
        except OSError as error:
            self.refuse(error)

    def _is_ours(self) -> bool:
        # Another run may have taken it for stale between its creation and its lock.
        return os.path.lexists(self._part) and os.path.samestat(
            os.fstat(self._fd), os.lstat(self._part)
        )

    def _move_to_free_name(self) -> None:
        try:
            # link() fails where the name is taken; rename() would silently replace.
            os.link(self._part, self._path)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            if os.path.lexists(self._path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
            self._part.rename(self._path)
        else:
            self._part.unlink()

    def discard(self) -> None:
        """Removes the part file, where the disk lets it; idempotent."""
        if not self.closed:
            if self._is_ours():
                with suppress(OSError):  # a disk that became read-only keeps it
                    self._part.unlink()
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)

    def refuse(self, error: Exception) -> NoReturn:
        """Raises the `SinkError` that says why this output could not be written."""
        if isinstance(error, SinkError):
            raise error
        # PyAV reports a failed write() less closely than write() itself did.
        number = getattr(self._error or error, "errno", None)
        reason = os.strerror(number) if isinstance(number, int) else type(error).__name__
        hint = _HINTS.get(number or 0, "check the folder and your rights")
        raise SinkError(f"{self._path}: cannot be written ({reason}); {hint}") from None
