"""What viewers of the page asked for, kept over the kiosk's own end: a level, nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

from ..core.part_file import replace_file
from ..core.safe import CoverLevel

__all__ = ["PrivacyRequestFile"]

_VERSION: Final = 1
"""Of the file; another one is no request that can be read."""

_MOST_BYTES: Final = 1000
"""Of the file; what is written has 60. Chosen."""

_LEVELS: Final = tuple(level.value for level in CoverLevel)  # from what hides least


@final
class PrivacyRequestFile:
    """Keeps a request to hide more than is configured, for as long as it holds.

    Nothing here raises: without the file a request is forgotten with the kiosk, and that is told.

    Args:
        path: of the file; its folder is made where it is missing.
        floor: what is configured.
        on_notice: gets sentences for the user.
    """

    def __init__(
        self, path: Path, floor: CoverLevel, *, on_notice: Callable[[str], None] | None = None
    ) -> None:
        self._path, self._floor = path, floor
        self._notice = on_notice or (lambda _: None)
        self._kept: dict[str, Any] | None = None
        self._failed = False

    def load(self) -> dict[str, Any] | None:
        """Returns the request that was kept; None where there is none."""
        try:
            request = self._read()
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError):
            self._notice(f"{self._path}: is no request that can be read; it is left out")
            return None
        self._kept = request if self._is_stronger(request) else None
        return self._kept

    def keep(self, request: dict[str, Any]) -> None:
        """Keeps a request (``level``, ``silhouette``), or forgets it where it hides no more."""
        wanted = request if self._is_stronger(request) else None
        if wanted == self._kept and not self._failed:
            return
        try:
            if wanted is None:
                self._path.unlink(missing_ok=True)
            else:
                self._write({"version": _VERSION, **wanted})
        except OSError as error:
            if not self._failed:
                self._notice(
                    f"{self._path}: cannot be written ({error.strerror}); what people requested is "
                    "forgotten when the kiosk is started again"
                )
            self._failed = True
        else:
            self._kept, self._failed = dict(request) if wanted else None, False

    def _is_stronger(self, request: dict[str, Any]) -> bool:
        return _LEVELS.index(request["level"]) > _LEVELS.index(self._floor.value)

    def _read(self) -> dict[str, Any]:
        """Returns what the file says.

        Raises:
            OSError, ValueError, RecursionError: there is none, or it is no request.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags), "rb") as file:
            said = json.loads(file.read(_MOST_BYTES))
        match said:
            case {
                "version": 1,
                "level": str(level),
                "silhouette": bool(silhouette),
                **rest,
            } if level in _LEVELS and not rest:
                return {"level": level, "silhouette": silhouette}
            case _:
                raise ValueError("no request")

    def _write(self, said: dict[str, Any]) -> None:
        """Replaces the file; after a crash of the machine there is the old one or the new one.

        Raises:
            OSError: it cannot be written.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self._path, json.dumps(said).encode(), private=True)
