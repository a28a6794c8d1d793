"""Where people are, as a table in a file: CSV or JSON; no picture is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, final

from ..core.errors import SinkError
from ..core.part_file import PartFile
from ..core.safe import TrackRow, TrackTable
from .base import Sink

__all__ = ["TABLE_SUFFIXES", "TrackTableSink"]

COLUMNS: Final = (
    *("frame", "time_s", "width", "height", "track", "x1", "y1", "x2", "y2", "state", "parts"),
)
_END_OF_LINE: Final = "\r\n"
"""Source: RFC 4180, 2.1."""


class _Csv:
    """RFC 4180, with a header. No value has a comma, a quote or an end of line in it."""

    def begin(self) -> str:
        return ",".join(COLUMNS) + _END_OF_LINE

    def lines(self, item: TrackTable) -> Iterator[str]:
        width, height = item.size_wh
        for row in item.rows:
            box = ("", "", "", "") if row.box is None else row.box
            track = "" if row.track is None else row.track
            parts = " ".join(part.title for part in row.parts)
            values = (
                *(item.frame, _seconds(item), width, height),
                *(track, *box, row.state.value, parts),
            )
            yield ",".join(map(str, values)) + _END_OF_LINE

    def end(self) -> str:
        return ""


class _Json:
    """RFC 8259: one array, a row a line, so that it can be read as it stands or line by line."""

    def __init__(self) -> None:
        self._between = ""

    def begin(self) -> str:
        return "["

    def lines(self, item: TrackTable) -> Iterator[str]:
        for row in item.rows:
            yield f"{self._between}\n{json.dumps(_fields(item, row))}"
            self._between = ","

    def end(self) -> str:
        return "\n]\n"


def _fields(item: TrackTable, row: TrackRow) -> dict[str, Any]:
    width, height = item.size_wh
    return {
        "frame": item.frame,
        "time_s": float(_seconds(item)),
        "width": width,
        "height": height,
        "track": row.track,
        "box": row.box,
        "state": row.state.value,
        "parts": [part.title for part in row.parts],
    }


def _seconds(item: TrackTable) -> str:
    """Returns the time to the microsecond: a frame of 240 a second lasts 4 167 of them."""
    return f"{float(item.time_s):.6f}"


_FORMATS: Final[dict[str, type[_Csv | _Json]]] = {".csv": _Csv, ".json": _Json}
TABLE_SUFFIXES: Final = tuple(_FORMATS)
"""What the name of a table may end in."""


@final
class TrackTableSink(Sink[TrackTable]):
    """Writes one row a person and frame, as the frames come; memory does not grow with them.

    The table appears under `path` when `finish` succeeds; with `prepare` before, it takes the name
    then, and gives it back on `abort`.

    Args:
        path: .csv or .json.
        overwrite: False refuses a name that is taken.

    Raises:
        SinkError: another kind of name, or the file cannot be written there; nothing was left.
    """

    accepts: ClassVar[type] = TrackTable

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        super().__init__()
        make = _FORMATS.get(path.suffix.lower())
        if make is None:
            raise SinkError(f"{path}: unknown kind of table; use {' or '.join(TABLE_SUFFIXES)}")
        self._path = path
        self._format = make()
        self._begun = self._prepared = False
        self._part = PartFile(path, overwrite=overwrite)

    def _emit(self, item: TrackTable) -> None:
        if self._prepared:
            raise SinkError(f"{self._path}: the table is complete; nothing may follow")
        lines = "".join(self._format.lines(item))
        self._write(lines if self._begun else self._format.begin() + lines)
        self._begun = True

    def _write(self, text: str) -> None:
        try:
            if text:
                self._part.write(text.encode("ascii"))
        except OSError as error:
            self._part.refuse(error)

    def _prepare(self) -> None:
        if not self._begun:
            raise SinkError(f"{self._path}: no frame was written, so there is no table")
        if not self._prepared:
            self._prepared = True
            self._write(self._format.end())
            self._part.claim()

    def _finish(self) -> None:
        self._prepare()
        self._part.publish(sync=False)

    def _abort(self) -> None:
        self._part.discard()
