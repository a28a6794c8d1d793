"""A small disk of its own for a test, which can be filled, emptied and made read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096


class Disk:
    """A memory file system, mounted at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    @property
    def free(self) -> int:
        """Bytes that can still be written."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def fill(self, left: int) -> None:
        """Writes until about `left` bytes are free."""
        with self._ballast.open("ab") as file:
            while self.free - left >= PAGE:
                file.write(bytes(min(1 << 20, (self.free - left) // PAGE * PAGE)))
                file.flush()

    def empty(self) -> None:
        """Frees what `fill` took."""
        self._ballast.unlink()

    def make_read_only(self) -> None:
        """As the kernel does after an error; nothing may be open for writing."""
        subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """Mounts a disk of that size on a new folder; skips, visibly, where that is not allowed."""
    folder.mkdir()
    wanted = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    try:
        done = subprocess.run(wanted, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no disk can be mounted: {error.strerror}")
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
