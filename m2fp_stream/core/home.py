"""Folders of the user that are there, or are said to be missing: a container may have none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .errors import ConfigError

__all__ = ["own_folder"]


def own_folder(variable: str, environ: Mapping[str, str], *below: str) -> Path:
    """Returns the folder that `variable` names, else the one `below` the user's home.

    It need not exist. Source: XDG Base Directory Specification 0.8, what is relative is ignored.

    Raises:
        ConfigError: no variable says where, and the user has no home that the system knows.
    """
    given = Path(environ.get(variable, ""))
    if given.is_absolute():
        return given
    try:
        return Path.home().joinpath(*below)
    except RuntimeError:  # no HOME, and no such user: `docker run --user 4321`
        raise ConfigError(
            f"this user has no home folder; set HOME, or {variable} to a folder to be used"
        ) from None
