"""Which files of a folder are inputs, what their outputs are called and may be. Opens nothing."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

from .core.errors import UsageError

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "check_target", "find_media", "output_path"]

MARK: Final = ".anonymized"

IMAGE_SUFFIXES: Final = frozenset(
    {".apng", ".avif", ".bmp", ".heic", ".heif", ".hif", ".jfif", ".jpeg", ".jpg", ".png", ".tif"}
    | {".tiff", ".webp"}
)
"""Still pictures; together with GIF they keep their format, but for HEIC."""

_WRITTEN_AS: Final = {".heic": ".jpg", ".heif": ".jpg", ".hif": ".jpg"}
"""HEIC is read, but nothing here writes it."""

VIDEO_SUFFIXES: Final = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".dav", ".dv", ".flv", ".gif", ".h264", ".h265", ".hevc"}
    | {".insv", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".mxf", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv"}
)
"""What is taken from a folder as video; a file that is named outright may have any suffix."""


def output_path(path_in: Path, taken: Collection[Path] = ()) -> Path:
    """Returns where the anonymised copy of `path_in` goes unless the user says: beside it.

    ``holiday.mkv`` becomes ``holiday.anonymized.mp4``; pictures and GIF keep their format, but
    ``photo.heic`` becomes ``photo.anonymized.jpg``. Where that name is in `taken`, the old suffix
    stays: ``holiday.mkv.anonymized.mp4``.
    """
    suffix = path_in.suffix
    kept = suffix.lower() in IMAGE_SUFFIXES or suffix.lower() == ".gif"
    ending = MARK + (_WRITTEN_AS.get(suffix.lower(), suffix) if kept else ".mp4")
    plain = path_in.with_name(path_in.stem + ending)
    return path_in.with_name(path_in.name + ending) if plain in taken else plain


def check_target(source: Path, target: Path, *, overwrite: bool) -> None:
    """Refuses an output that would replace the input or, without `overwrite`, anything.

    Raises:
        UsageError: see above.
    """
    if target.exists():
        if source.exists() and target.samefile(source):
            raise UsageError(f"output and input are the same file: {target}; name another output")
        if not overwrite:
            raise UsageError(f"output exists: {target}; use --overwrite or name another output")


def find_media(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Returns the files below `folder` with one of `suffixes`, sorted by path.

    Hidden files and folders, linked folders and outputs of earlier runs (``*.anonymized.*``) are
    skipped.

    Raises:
        OSError: a folder cannot be listed.
    """
    found = []
    for root, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(root, name)
            for name in names
            if Path(name).suffix.lower() in suffixes
            and not name.startswith(".")
            and f"{MARK}." not in name
        ]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error
