"""The file pipeline tells where people are, where somebody asked for it; with the film or never."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m2fp_stream.core.errors import ParserError, SinkError, SourceError
from m2fp_stream.core.records import LookKind
from m2fp_stream.core.safe import SafeFrame, TrackTable
from m2fp_stream.sinks.track_table import TrackTableSink
from tests.kit.stage import Footage, Kept, Picture, Show, Watcher, backdrop

from .test_files_zones import room, with_head

WALK = [with_head(room(), 130 + number) for number in range(20)]


def show_of(pictures: list[Picture], path: Path, **more: Any) -> Show:
    return Show(Footage(pictures), tracks=TrackTableSink(path), **more)


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


def test_every_frame_of_somebody_is_a_row_of_one_track(tmp_path: Path) -> None:
    show = show_of(WALK, tmp_path / "t.json")
    outcome = show.run()
    rows = rows_of(tmp_path / "t.json")
    assert [row["frame"] for row in rows] == list(range(20))
    assert {(row["track"], row["state"]) for row in rows} == {(1, "placed")}
    assert outcome.tracks == 1
    for row, safe in zip(rows, show.sink.frames, strict=True):
        assert row["time_s"] == pytest.approx(float(safe.pts * safe.time_base), abs=1e-6)
        assert [row["width"], row["height"]] == list(safe.size_wh)
        left = 130 + row["frame"]
        x1, y1, x2, _ = row["box"]
        assert x1 <= left + 4
        assert x2 >= left + 36
        assert y1 <= 55
        assert {"face", "hair"} & set(row["parts"])


def test_nobody_is_no_row(tmp_path: Path) -> None:
    assert show_of([room()] * 6, tmp_path / "t.json").run().tracks == 0
    assert rows_of(tmp_path / "t.json") == []


def test_a_frame_that_is_covered_whole_is_a_card(tmp_path: Path) -> None:
    def fails(bgr: Picture, kind: LookKind, number: int) -> None:
        if kind is LookKind.FACES and number == 8:
            raise ParserError("told to fail")

    policy = {"cover_spans": ["0.12-0.19"]}
    show_of(WALK, tmp_path / "t.json", policy=policy, lookers=[Watcher(fails)]).run()
    rows = rows_of(tmp_path / "t.json")
    assert [row["frame"] for row in rows] == list(range(20))
    cards = {row["frame"] for row in rows if row["state"] == "card"}
    assert cards == {3, 4, 8}
    assert all(row["track"] is None for row in rows if row["state"] == "card")


def test_nothing_of_the_film_depends_on_the_table(tmp_path: Path) -> None:
    plain, told = Show(Footage(WALK)), show_of(WALK, tmp_path / "t.csv")
    first, second = plain.run(), told.run()
    assert [f.pixels.tobytes() for f in plain.sink.frames] == [
        f.pixels.tobytes() for f in told.sink.frames
    ]
    assert (first.frames, first.covered_fraction) == (second.frames, second.covered_fraction)
    assert (first.tracks, second.tracks) == (0, 1)


class FailsAt(Kept):
    """Fails at one step."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    def _emit(self, item: SafeFrame) -> None:
        if self.step == "emit" and item.frame_id == 10:
            raise SinkError("told to fail")
        super()._emit(item)

    def _finish(self) -> None:
        if self.step == "finish":
            raise SinkError("told to fail")
        super()._finish()


@pytest.mark.parametrize("step", ["emit", "finish"])
def test_a_film_that_fails_leaves_no_table(tmp_path: Path, step: str) -> None:
    show = show_of(WALK, tmp_path / "t.csv", sink=FailsAt(step))
    with pytest.raises(SinkError, match="told to fail"):
        show.run()
    assert list(tmp_path.iterdir()) == []
    assert show.all_gone()


@pytest.mark.parametrize("when", ["read", "meanwhile", "interrupt"])
def test_a_run_that_ends_early_leaves_neither(tmp_path: Path, when: str) -> None:
    table = tmp_path / "t.csv"
    show = show_of(WALK, table)
    if when == "read":
        show.source = Footage(WALK, error=SourceError("torn"))

    def on_frames(_: int) -> None:
        if when == "interrupt":
            raise KeyboardInterrupt
        if when == "meanwhile":
            table.write_text("precious")

    error = {"read": SourceError, "meanwhile": SinkError, "interrupt": KeyboardInterrupt}[when]
    with pytest.raises(error):
        show.run(on_frames)
    assert show.sink.aborted
    assert not show.sink.finished
    left = {"t.csv": "precious"} if when == "meanwhile" else {}
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == left
    assert show.all_gone()


def test_a_table_that_cannot_be_written_on_ends_the_run_without_a_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: TrackTableSink, item: TrackTable) -> None:
        if item.frame == 5:
            raise SinkError("no space left")

    monkeypatch.setattr(TrackTableSink, "_emit", full)
    show = show_of(WALK, tmp_path / "t.csv")
    with pytest.raises(SinkError, match="no space left"):
        show.run()
    assert show.sink.aborted
    assert list(tmp_path.iterdir()) == []


def test_after_a_change_of_size_nobody_keeps_a_number(tmp_path: Path) -> None:
    larger = [with_head(backdrop(0, 480, 270)) for _ in range(8)]
    for picture in larger:
        picture[..., 0] = 0
        picture[50:100, 130:170, 0] = picture[50:100, 130:170, 1]
    show = show_of([*WALK[:8], *larger], tmp_path / "t.json")
    show.run()
    rows = rows_of(tmp_path / "t.json")
    assert {(row["width"], row["track"]) for row in rows if row["track"]} == {(320, 1), (480, 2)}
