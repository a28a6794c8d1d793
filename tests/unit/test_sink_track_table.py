"""Tables of positions as files: their very bytes, and when they appear."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from fractions import Fraction
from pathlib import Path

import pytest

from m2fp_stream.core._mint import LOCATED
from m2fp_stream.core.errors import SinkError
from m2fp_stream.core.labels import Label
from m2fp_stream.core.safe import TrackRow, TrackState, TrackTable
from m2fp_stream.sinks.track_table import COLUMNS, TABLE_SUFFIXES, TrackTableSink
from tests.kit import media

SIZE_WH = 640, 480
FRAMES = (
    TrackTable(
        (
            TrackRow(1, (0, 10, 64, 200), TrackState.PLACED, (Label.HAIR, Label.FACE)),
            TrackRow(2, (600, 0, 640, 480), TrackState.WHOLE, (Label.HUMAN,)),
        ),
        frame=0,
        time_s=Fraction(0),
        size_wh=SIZE_WH,
        key=LOCATED,
    ),
    TrackTable((), frame=1, time_s=Fraction(1, 30), size_wh=SIZE_WH, key=LOCATED),
    TrackTable(
        (TrackRow(None, None, TrackState.CARD),),
        frame=2,
        time_s=Fraction(2, 30),
        size_wh=SIZE_WH,
        key=LOCATED,
    ),
    TrackTable(
        (TrackRow(1, (1, 2, 3, 4), TrackState.OPEN),),
        frame=3,
        time_s=Fraction(3, 30),
        size_wh=SIZE_WH,
        key=LOCATED,
    ),
)
CSV = (
    "frame,time_s,width,height,track,x1,y1,x2,y2,state,parts\r\n"
    "0,0.000000,640,480,1,0,10,64,200,placed,hair face\r\n"
    "0,0.000000,640,480,2,600,0,640,480,whole,human\r\n"
    "2,0.066667,640,480,,,,,,card,\r\n"
    "3,0.100000,640,480,1,1,2,3,4,open,\r\n"
)


def written(path: Path) -> str:
    with TrackTableSink(path) as sink:
        for item in FRAMES:
            sink.write(item)
        sink.finish()
    return path.read_bytes().decode("ascii")


def test_a_csv_has_a_header_and_a_row_a_person_and_frame(tmp_path: Path) -> None:
    text = written(tmp_path / "out.csv")
    assert text == CSV
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert [row["track"] for row in rows] == ["1", "2", "", "1"]


def test_json_is_one_array_and_each_row_a_line(tmp_path: Path) -> None:
    text = written(tmp_path / "out.JSON")
    rows = json.loads(text)
    assert rows[0] == {
        **{"frame": 0, "time_s": 0.0, "width": 640, "height": 480, "track": 1},
        **{"box": [0, 10, 64, 200], "state": "placed", "parts": ["hair", "face"]},
    }
    card = rows[2]
    assert (card["track"], card["box"], card["state"], card["parts"]) == (None, None, "card", [])
    assert card["time_s"] == 0.066667
    first, *lines, last = text.splitlines()
    assert (first, last) == ("[", "]")
    assert [json.loads(line.rstrip(",")) for line in lines] == rows


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_where_nobody_is_there_is_a_table_without_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with TrackTableSink(path) as sink:
        sink.write(FRAMES[1])
        sink.finish()
    if suffix == ".json":
        assert json.loads(path.read_text()) == []
    else:
        assert path.read_text().splitlines() == [",".join(COLUMNS)]


def test_no_value_of_a_csv_needs_quotes() -> None:
    names = [label.title for label in Label] + [state.value for state in TrackState]
    assert not any(set(name) & set(' ,"\r\n') for name in names)


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    hidden = tmp_path / ".out.csv.part"
    with TrackTableSink(tmp_path / "out.csv") as sink:
        sizes = []
        for number in range(3):
            sink.write(media.located(5, number, Fraction(number, 25)))
            sizes.append(hidden.stat().st_size)
        assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("name", ["out", "out.txt", "out.csv.gz", "out.mp4"])
def test_another_kind_of_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SinkError, match=r"unknown kind of table; use \.csv or \.json"):
        TrackTableSink(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_a_prepared_table_is_complete_has_its_name_and_gives_it_back(
    tmp_path: Path, suffix: str
) -> None:
    whole = written(tmp_path / f"other{suffix}")
    (tmp_path / f"other{suffix}").unlink()
    sink = TrackTableSink(tmp_path / f"out{suffix}")
    for item in FRAMES:
        sink.write(item)
    sink.prepare()
    sink.prepare()
    assert (tmp_path / f"out{suffix}").read_bytes().decode() == whole
    with pytest.raises(SinkError, match="nothing may follow"):
        sink.write(FRAMES[1])
    assert list(tmp_path.iterdir()) == []


def test_a_prepared_table_that_replaces_one_does_so_at_finish(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    with TrackTableSink(path, overwrite=True) as sink:
        sink.write(FRAMES[0])
        sink.prepare()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"old"


def test_a_disk_that_is_full_at_the_very_end_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sink = TrackTableSink(tmp_path / "out.json")
    sink.write(FRAMES[0])
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SinkError, match="No space left"):
        sink.prepare()
    assert list(tmp_path.iterdir()) == []
