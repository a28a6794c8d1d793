"""The file of numbers: it disturbs nothing, and readers never see half of it."""

from __future__ import annotations

import json
from pathlib import Path

from m2fp_stream.cli.stats import StatsFile


def test_a_file_that_could_not_be_written_is_tried_again_and_told_once(tmp_path: Path) -> None:
    path = tmp_path / "later" / "stats.json"
    said: list[str] = []
    stats = StatsFile(path, said.append, again_s=0.0)
    seen: list[bool] = []
    for number in range(4):
        if number == 2:
            path.parent.mkdir()
        stats.keep({"number": number})
        seen.append(path.exists())
    assert seen == [False, False, True, True]
    assert json.loads(path.read_text()) == {"number": 3}
    assert said == [f"{path}: cannot be written (No such file or directory); tried again later"]
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_could_not_be_written_is_left_alone_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "later" / "stats.json"
    stats = StatsFile(path, lambda _: None)
    stats.keep({})
    path.parent.mkdir()
    stats.keep({})
    assert not path.exists()


def test_without_a_path_nothing_is_kept(tmp_path: Path) -> None:
    StatsFile(None, lambda _: None).keep({"number": 1})
    assert list(tmp_path.iterdir()) == []
