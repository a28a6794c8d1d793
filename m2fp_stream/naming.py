"""Which files of a folder are inputs, what their outputs are called and may be. Opens nothing."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Container
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from .core.errors import UsageError
from .core.numbered import Numbered

__all__ = [
    "CONTAINERS",
    "EARLIER",
    "IMAGE_SUFFIXES",
    "PIPE",
    "TABLE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Media",
    "Names",
    "check_target",
    "earlier_pictures",
    "find_media",
    "fitting",
    "is_numbered",
    "output_path",
    "table_path",
]

PIPE: Final = Path("-")
"""Standard input, or standard output."""

CONTAINERS: Final = ("mp4", "mkv", "webm")
"""What films are written into; also their suffixes."""

MARK: Final = ".anonymized"
EARLIER: Final = "output of an earlier run"
"""Why a file with that mark before its suffix is no input."""

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

TABLE_SUFFIXES: Final = (".csv", ".json")
"""What a table of positions may be."""

_NAME_MAX: Final = 255
"""Bytes of a file's name where the system does not say. Source: NAME_MAX of linux/limits.h."""


def is_numbered(path: Path) -> bool:
    """Says whether a name means several pictures, such as ``frames/%06d.png``; none has it."""
    pictures = path.suffix.lower() in IMAGE_SUFFIXES and Numbered.of(path) is not None
    return pictures and not os.path.lexists(path)


def earlier_pictures(path: Path) -> dict[int, Path]:
    """Returns the pictures that are there of a name that means several; none of another name."""
    numbered = Numbered.of(path) if is_numbered(path) else None
    with suppress(FileNotFoundError, NotADirectoryError):
        return numbered.found() if numbered is not None else {}
    return {}


@final
class Names:
    """Names that were given; two that differ in upper and lower case alone are one.

    On sticks and on other systems they are: one output would replace the other.
    """

    def __init__(self) -> None:
        self._folded: set[str] = set()

    def add(self, path: Path) -> None:
        """Gives a name."""
        self._folded.add(str(path).casefold())

    def __contains__(self, path: object) -> bool:
        """Says whether it was given."""
        return str(path).casefold() in self._folded


def output_path(
    path_in: Path, taken: Container[Path] = (), *, container: str = CONTAINERS[0]
) -> Path:
    """Returns where the anonymised copy of `path_in` goes unless the user says: beside it.

    ``holiday.mkv`` becomes ``holiday.anonymized.mp4``, or of another `container`; pictures and GIF
    keep their format, but ``photo.heic`` becomes ``photo.anonymized.jpg``. Where that name is in
    `taken`, the old suffix stays: ``holiday.mkv.anonymized.mp4``. What would be too long for the
    folder is shortened,
    always to the same name.
    """
    suffix = path_in.suffix
    kept = suffix.lower() in IMAGE_SUFFIXES or suffix.lower() == ".gif"
    ending = MARK + (_WRITTEN_AS.get(suffix.lower(), suffix) if kept else f".{container}")
    plain = fitting(path_in, path_in.stem, ending)
    return fitting(path_in, path_in.name, ending) if plain in taken else plain


def table_path(path_out: Path, suffix: str) -> Path:
    """Returns where the positions of an output go unless the user says: beside it.

    ``holiday.anonymized.mp4`` has them in ``holiday.anonymized.mp4.csv``: as no two outputs have
    one name, no two tables have.
    """
    return fitting(path_out, path_out.name, suffix)


def fitting(path_in: Path, stem: str, ending: str) -> Path:
    """Returns `stem` and `ending` beside `path_in`; a stem that is too long is cut, and told apart.

    Eight digits of its SHA-256 keep two that begin alike apart: by chance alike are the names of
    one folder of 9 000 in a hundred such folders.
    """
    name, limit = stem + ending, _name_limit(path_in.parent)
    if len(os.fsencode(name)) > limit:
        ending = f"~{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}{ending}"
        while len(os.fsencode(stem + ending)) > limit:
            stem = stem[:-1]
        name = stem + ending
    return path_in.with_name(name)


def _name_limit(folder: Path) -> int:
    """Returns how many bytes a name in `folder`, or where it will be made, may have."""
    for place in (folder, *folder.parents):
        with suppress(OSError, ValueError, AttributeError):
            return os.pathconf(place, "PC_NAME_MAX")
    return _NAME_MAX


def check_target(source: Path, target: Path, *, overwrite: bool) -> None:
    """Refuses an output that would replace the input or, without `overwrite`, anything.

    Raises:
        UsageError: see above.
    """
    earlier = list(earlier_pictures(target).values())
    if earlier and any(source.exists() and one.samefile(source) for one in earlier):
        raise UsageError(f"{source}: is one of the outputs {target}; name another folder")
    if target == source and is_numbered(target):
        raise UsageError(f"output and input are the same files: {target}; name another folder")
    if earlier and not overwrite:
        raise UsageError(f"output exists: {earlier[0]}; use --overwrite or name another folder")
    if target != PIPE and target.exists():
        if source.exists() and target.samefile(source):
            raise UsageError(f"output and input are the same file: {target}; name another output")
        if not overwrite:
            raise UsageError(f"output exists: {target}; use --overwrite or name another output")


@final
@dataclass(slots=True)
class Media:
    """What a folder holds.

    Attributes:
        files: the inputs, sorted by path.
        skipped: how many are none, by suffix or by what else they are.
        closed: what the system said of folders below it that cannot be listed.
    """

    files: list[Path] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    closed: list[OSError] = field(default_factory=list)


def find_media(folder: Path, suffixes: Collection[str], *, without: Path | None = None) -> Media:
    """Returns the files below `folder` with one of `suffixes`, and what was skipped.

    Skipped are other suffixes, hidden files and folders, linked folders, outputs of earlier runs
    (``*.anonymized.mp4`` and the like; ``a.anonymized.v2.mov`` is an input) and, not counted, the
    folder `without`.

    Raises:
        OSError: `folder` cannot be listed.
    """
    found = Media()

    def note(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise error
        found.closed.append(error)

    for root, folders, names in os.walk(folder, onerror=note):
        for name in list(folders):
            path = Path(root, name)
            reason = _passed_over(path)
            if reason:
                found.skipped[reason] += 1
            if reason or (without is not None and without.is_dir() and path.samefile(without)):
                folders.remove(name)
        for name in names:
            if reason := _no_input(name, suffixes):
                found.skipped[reason] += 1
            else:
                found.files.append(Path(root, name))
    found.files.sort()
    return found


def _passed_over(folder: Path) -> str:
    """Returns why a folder is not entered, in words to count; nothing where it is."""
    if folder.name.startswith("."):
        return "hidden"
    return "linked folder" if folder.is_symlink() else ""


def _no_input(name: str, suffixes: Collection[str]) -> str:
    """Returns why a file is no input, in words to count; nothing where it is one."""
    if name.startswith("."):
        return "hidden"
    suffix = Path(name).suffix.lower()
    output = Path(name).stem if suffix in TABLE_SUFFIXES else name
    if Path(output).stem.endswith(MARK):
        return EARLIER
    return "" if suffix in suffixes else suffix or "without a suffix"
