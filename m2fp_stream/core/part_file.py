"""Files that appear under their final name only when they are complete."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NoReturn, Protocol, Self, final

from .errors import SinkError

__all__ = [
    "Broker",
    "PartFile",
    "cannot_be_written",
    "move_to_free_name",
    "part_name",
    "refused",
    "replace_file",
    "use_broker",
]

_HINTS: Final = {
    errno.ENOENT: "make the folder first",
    errno.EEXIST: "choose another name or pass --overwrite",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "your quota is used up; free some space",
    errno.EFBIG: "the system's limit on file sizes is too low",
    errno.EROFS: "the disk is read-only, perhaps after an error; see what the system's log says",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "the disk fails; see what the system's log says",
}

_NAME_MAX: Final = 255
"""Bytes of a name. Source: linux/limits.h."""
_LONGEST: Final = _NAME_MAX - len("..part")

_UNFIT: Final = '\\ : * ? " < > |'
"""Characters that FAT, exFAT and NTFS refuse in a name. Source: Microsoft's "Naming files, paths,
and namespaces"; drivers answer EINVAL (vfat) or ENOENT (exfat-fuse)."""

_NO_LINK: Final = (
    *(errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS),  # FAT, some network shares
    *(errno.ENOSPC, errno.EDQUOT),  # two names for a moment may be one too many
)
_CANNOT_TELL: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV)
"""What a file system answers that cannot allocate ahead. Source: posix_fallocate(3)."""


class Broker(Protocol):
    """Does with part files, by their final names, what takes rights to their folder.

    Each method raises `SinkError` as `PartFile` does.
    """

    def make(self, path: Path, *, overwrite: bool) -> int:
        """Returns the descriptor of a new part file; whoever gets it closes it."""
        ...

    def holds(self, path: Path) -> bool:
        """Says whether the part file is still where it was made."""
        ...

    def reopen(self, path: Path) -> int:
        """Returns a descriptor that reads it."""
        ...

    def claim(self, path: Path) -> None:
        """Brings it to the disk, and takes its final name where that is free."""
        ...

    def publish(self, path: Path, *, private: bool, sync: bool) -> None:
        """Moves it to its final name."""
        ...

    def discard(self, path: Path) -> None:
        """Removes it, if it has not been published."""
        ...


_brokers: Final[list[Broker]] = []
"""Whoever keeps the part files of this process; none where it does so itself."""


def use_broker(broker: Broker | None) -> None:
    """Lets somebody else keep all part files that this process makes from now on; None: nobody."""
    _brokers[:] = [] if broker is None else [broker]


def part_name(path: Path) -> Path:
    """Returns the hidden name under which the file of the final name `path` grows.

    A final name that fits where this one would not is cut, and told apart by its SHA-256.
    """
    name = path.name
    if _LONGEST < len(os.fsencode(name)) <= _NAME_MAX:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
        while len(os.fsencode(name)) > _LONGEST - len(digest) - 1:
            name = name[:-1]
        name = f"{name}~{digest}"
    return path.with_name(f".{name}.part")


@final
class PartFile:
    """A file that grows under a hidden name beside its final one and appears there complete.

    It is made with mode 0600 and locked; a part file that a killed run left behind (nobody holds
    its lock) is replaced. As a binary file object it can be given to PyAV; as a context manager it
    discards what was not published.

    Every `SinkError` has the `errno` and `strerror` of what the system said, for who has words of
    his own.

    Args:
        path: the final name.
        overwrite: False refuses a final name that is taken, also if it is taken meanwhile.
        in_turns: False gives each process a hidden name of its own: several may write the same
            file then, and the last one stays; what a killed run left behind stays, too.

    Raises:
        SinkError: no such folder, no right to write, name taken, another run writes it; nothing
            was changed then.
    """

    def __init__(self, path: Path, *, overwrite: bool, in_turns: bool = True) -> None:
        self._fd = -1
        self._path = path
        self._overwrite = overwrite
        self._error: OSError | None = None
        self._broken: BaseException | None = None
        self._claimed = False
        self._broker = _brokers[0] if _brokers else None
        if self._broker is not None:
            self._fd = self._broker.make(path, overwrite=overwrite)
            return
        if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir() raises where the folder is closed
            raise refused(f"{path}: is a folder, expected a file name; add one", errno.EISDIR)
        if _is_special(path):
            raise refused(
                f"{path}: is a pipe or a device, or leads to one, and would be replaced by a file; "
                "choose another name",
                errno.EEXIST,
            )
        if os.path.lexists(path) and not overwrite:
            raise refused(
                f"{path}: exists already; choose another name or pass --overwrite", errno.EEXIST
            )
        self._part = part_name(path if in_turns else path.with_name(f"{path.name}.{os.getpid()}"))
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Discards it unless it was published."""
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
            raise refused(
                f"{self._path}: another run is writing it; wait for it", errno.EAGAIN
            ) from None
        finally:
            os.close(fd)

    def __str__(self) -> str:
        return str(self._path)

    @property
    def closed(self) -> bool:
        """True after `publish` or `discard`."""
        return self._fd < 0

    @property
    def name(self) -> str:
        """The hidden name as a library can say it in any locale; it is not for opening."""
        return os.fsencode(self._part).decode("ascii", "backslashreplace")

    @property
    def descriptor(self) -> int:
        """Its descriptor, which stays its own."""
        return self._fd

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
        if not self._is_whole():
            raise refused(
                f"{self._path}: was deleted while it was written; make its folder again if it is "
                "gone, too",
                errno.ENOENT,
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
        if self._broker is not None:
            return os.fdopen(self._broker.reopen(self._path), "rb")
        return self._part.open("rb")

    def claim(self) -> None:
        """Does of `publish` what may fail, for files that are to appear together or not at all.

        All is brought to the disk, and a free name is taken with it; `discard` gives it back. What
        is to be replaced stands until `publish`. Where the file system knows no links, the name is
        taken by `publish`, too.

        Raises:
            SinkError: see `publish`.
        """
        try:
            if self._broker is not None:
                self._raise_broken()
                self._broker.claim(self._path)
                return
            self._complete(private=False, sync=True)
            if not self._overwrite:
                self._claimed = True  # before: a signal may come between; only ours is given back
                self._claimed = _linked(self._part, self._path)
        except OSError as error:
            self.refuse(error)

    def publish(self, *, private: bool = False, sync: bool = True) -> None:
        """Moves the file to its final name, with the rights that the user's umask allows.

        Args:
            private: leaves it to its owner alone (0600).
            sync: waits for the disk first, so that a crash of the machine leaves the old file or
                the new one. Without it, it may leave an empty one.

        Raises:
            SinkError: something could not be written, or the name is taken by now; `discard`
                must follow.
        """
        try:
            if self._broker is not None:
                self._raise_broken()
                self._broker.publish(self._path, private=private, sync=sync)
                self._close()
                return
            if self._claimed:
                self._part.unlink()
                self._close()
                return
            self._complete(private=private, sync=sync)
            if self._overwrite:
                self._part.replace(self._path)
            else:
                move_to_free_name(self._part, self._path)
            self._close()
        except OSError as error:
            self.refuse(error)

    def _complete(self, *, private: bool, sync: bool) -> None:
        """Raises what went wrong before, sets the rights and waits for the disk."""
        self._raise_broken()
        if not self._is_ours(self._part):
            raise refused(f"{self._path}: its part file was replaced; run again", errno.ENOENT)
        if not private:
            mask = os.umask(0o077)
            os.umask(mask)
            os.fchmod(self._fd, 0o666 & ~mask)
        if sync:
            os.fsync(self._fd)

    def _raise_broken(self) -> None:
        """Raises what went wrong before."""
        if self._error is not None:
            raise self._error
        if self._broken is not None:
            raise self._broken

    def _is_whole(self) -> bool:
        """Says whether the part file is still where it was made."""
        if self._broker is not None:
            return self._broker.holds(self._path)
        return self._is_ours(self._part)

    def _is_ours(self, name: Path) -> bool:
        # Another run may have taken it for stale between its creation and its lock.
        return os.path.lexists(name) and os.path.samestat(os.fstat(self._fd), os.lstat(name))

    def discard(self) -> None:
        """Removes the part file, where the disk lets it; idempotent."""
        if not self.closed:
            with suppress(OSError):  # a disk that became read-only keeps it
                if self._broker is not None:
                    self._broker.discard(self._path)
                elif self._is_ours(self._part):
                    self._part.unlink()
                if self._claimed and self._is_ours(self._path):
                    self._path.unlink()
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)

    def refuse(self, error: Exception) -> NoReturn:
        """Raises the `SinkError` that says why this output could not be written."""
        if isinstance(error, SinkError):
            raise error
        # PyAV reports a failed write() less closely than write() itself did.
        raise cannot_be_written(self._path, self._error or error) from None


def move_to_free_name(part: Path, path: Path) -> None:
    """Moves a file to a name beside it that is free.

    Raises:
        OSError: it is taken, or the file cannot be moved.
    """
    if _linked(part, path):
        part.unlink()
    else:
        part.rename(path)


def _linked(part: Path, path: Path) -> bool:
    """Gives a file a second name that is free.

    Returns False where the file system cannot do that: the name is free, but not taken.
    """
    try:
        # link() fails where the name is taken; rename() would silently replace.
        os.link(part, path)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        return False
    return True


def _is_special(path: Path) -> bool:
    """Says whether something stands there, or behind a link there, that is neither file nor folder.

    To put a file in its place would take it from all who use it: as root even /dev/null.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # Path.stat() takes no fewer calls
    except (OSError, ValueError):  # nothing is there, or may be seen: what follows says why
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def replace_file(
    path: Path, data: bytes, *, private: bool = False, sync: bool = True, in_turns: bool = True
) -> None:
    """Replaces the file at `path` by `data`; who reads it meanwhile sees the old one or the new.

    Args:
        path: the final name.
        data: all of it.
        private: see `PartFile.publish`.
        sync: see `PartFile.publish`.
        in_turns: see `PartFile`.

    Raises:
        SinkError: see `PartFile`; what stood there before still does.
    """
    with PartFile(path, overwrite=True, in_turns=in_turns) as part:
        try:
            part.write(data)
        except OSError as error:
            part.refuse(error)
        part.publish(private=private, sync=sync)


def cannot_be_written(path: Path, error: Exception) -> SinkError:
    """Returns the error that says why an output could not be written, and what to do."""
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if isinstance(number, int) else type(error).__name__
    hint = _HINTS.get(number or 0, "check the folder and your rights")
    if _is_unfit(path, number):
        hint = f"choose a name without {_UNFIT}, which this disk does not take"
    refusal = SinkError(f"{path}: cannot be written ({reason}); {hint}")
    refusal.errno, refusal.strerror = number, reason
    return refusal


def _is_unfit(path: Path, number: int | None) -> bool:
    """Says whether the name may be why a disk refuses it, though its folder is there."""
    return (
        number in (errno.ENOENT, errno.EINVAL)
        and any(char in path.name for char in _UNFIT.split())
        and path.parent.exists()
    )


def refused(message: str, number: int | None) -> SinkError:
    """Returns a `SinkError` that has the number and the words of the system."""
    refusal = SinkError(message)
    refusal.errno = number
    refusal.strerror = None if number is None else os.strerror(number)
    return refusal
