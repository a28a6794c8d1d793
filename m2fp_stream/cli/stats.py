"""The file of numbers that a live run keeps, for whoever watches it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, final

from ..core.part_file import replace_file

__all__ = ["StatsFile"]

_AGAIN_S: Final = 30.0
"""Seconds after which a file that could not be written is tried again: a disk does not become
writable sooner, and each try costs the run something."""


@final
class StatsFile:
    """Keeps what is measured in a file while something runs, and disturbs it by nothing.

    A disk that is full or read-only is told once, and tried again later. Nothing is synced: it
    would wait for the disk every second, and all that a crash of the machine takes is numbers.

    Args:
        path: of the file; None: none is kept.
        say: gets sentences for the user.
        again_s: seconds after which a file that could not be written is tried again.
    """

    def __init__(
        self, path: Path | None, say: Callable[[str], None], *, again_s: float = _AGAIN_S
    ) -> None:
        self._path, self._say, self._wait_s = path, say, again_s
        self._again_s = float("-inf")
        self._failed = False

    def keep(self, facts: Mapping[str, Any]) -> None:
        """Replaces the file by `facts` as JSON; readers never see half of it."""
        path = self._path
        if path is None or time.monotonic() < self._again_s:
            return
        try:
            replace_file(path, (json.dumps(facts, indent=1) + "\n").encode(), sync=False)
        except OSError as error:
            self._again_s = time.monotonic() + self._wait_s
            if not self._failed:
                self._say(f"{path}: cannot be written ({error.strerror}); tried again later")
            self._failed = True
        else:
            self._failed = False
