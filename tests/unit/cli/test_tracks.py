"""`--tracks`: where tables go, what is refused, and that it is said to be personal data."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from m2fp_stream import naming
from m2fp_stream.cli.files import FileTask
from m2fp_stream.cli.jobs import Job
from m2fp_stream.config import Settings
from m2fp_stream.core.errors import SinkError
from m2fp_stream.sinks import track_table
from tests.kit.cli import FakeApp, one_error, run

Capture = pytest.CaptureFixture[str]


def test_one_input_has_its_table_where_it_is_named_and_the_summary_says_what_it_is(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    assert run("anonymize", "a.mp4", "--tracks", "where.JSON") == 0
    assert app.tables == [Path("where.JSON")]
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.endswith("; positions (personal data) in where.JSON, tracks: 3\n")


def test_without_the_option_there_is_no_table_and_no_word_of_one(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    assert run("anonymize", "a.mp4") == 0
    assert app.tables == [None]
    assert "personal" not in capsys.readouterr().out


@pytest.mark.parametrize("word", ["csv", "json"])
def test_each_output_of_several_has_a_table_beside_it_under_its_name(
    word: str, here: Path, app: FakeApp
) -> None:
    assert run("anonymize", ".", "-o", "out", "--tracks", word) == 0
    names = ["a.anonymized.mp4", "b.anonymized.mp4", "c.anonymized.gif", "d.anonymized.jpg"]
    assert app.tables == [Path("out", f"{name}.{word}") for name in names]


def test_no_two_inputs_share_a_table_and_a_single_one_may_have_it_beside_it(
    here: Path, app: FakeApp
) -> None:
    (here / "a.mov").touch()
    (here / "a.gif").touch()
    assert run("anonymize", "a.mp4", "a.mov", "a.gif", "--tracks", "csv") == 0
    assert len(set(app.tables)) == 3
    assert run("anonymize", "d.jpg", "--tracks", "csv") == 0
    assert app.tables[-1] == Path("d.anonymized.jpg.csv")


def test_a_name_that_would_be_too_long_is_shortened(here: Path, app: FakeApp) -> None:
    name = "x" * 238  # with .anonymized.mp4 as long as a name can be
    (here / f"{name}.mp4").touch()
    assert run("anonymize", f"{name}.mp4", "--tracks", "csv") == 0
    (table,) = app.tables
    assert table is not None
    assert re.fullmatch(r"x+\S*~[0-9a-f]{8}\.csv", table.name)


@pytest.mark.parametrize("text", ["where.txt", "where", "-", " ", "csv/", "folder"])
def test_another_kind_of_table_is_refused(
    text: str, here: Path, app: FakeApp, capsys: Capture
) -> None:
    (here / "folder").mkdir()
    assert run("anonymize", "a.mp4", f"--tracks={text}") == 2
    assert "expected a file that ends in .csv or .json, or csv or json" in one_error(capsys)
    assert app.calls == []


@pytest.mark.parametrize("inputs", [["a.mp4", "b.mkv"], ["."]])
def test_one_table_for_several_inputs_is_refused(
    inputs: list[str], here: Path, app: FakeApp, capsys: Capture
) -> None:
    assert run("anonymize", *inputs, "--tracks", "where.csv") == 2
    assert "say csv or json, and each output gets a table beside it" in one_error(capsys)
    assert app.calls == []


def test_a_table_is_never_written_over_an_input_or_unasked(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    (here / "taken.csv").write_bytes(b"precious")
    assert run("anonymize", "a.mp4", "--tracks", "taken.csv") == 2
    assert one_error(capsys) == "taken.csv: exists; use --overwrite or another --tracks"
    Path("link.csv").symlink_to("a.mp4")
    os.link("a.mp4", "same.csv")
    for name, says in (("link.csv", "is an input"), ("same.csv", "the output is the input")):
        assert run("anonymize", "a.mp4", "--overwrite", "--tracks", name) == 2
        assert says in one_error(capsys)
    (here / "b.csv").write_bytes((here / "b.mkv").read_bytes())
    assert run("anonymize", "b.csv", "--overwrite", "--tracks", "b.csv") == 2
    assert "is an input" in one_error(capsys)
    assert run("anonymize", "a.mp4", "--tracks", "nowhere/t.csv") == 5
    assert one_error(capsys) == "nowhere: no such output folder; create it first (mkdir -p)"
    assert app.calls == []
    assert run("anonymize", "a.mp4", "--tracks", "taken.csv", "--overwrite") == 0


def test_a_table_that_is_taken_stops_one_file_of_a_folder_and_not_the_rest(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    (here / "b.anonymized.mp4.csv").write_bytes(b"precious")
    assert run("anonymize", ".", "--tracks", "csv") == 8
    assert "b.anonymized.mp4.csv: exists; use --overwrite" in capsys.readouterr().err
    assert [path.name for path in app.outputs] == [
        *("a.anonymized.mp4", "c.anonymized.gif", "d.anonymized.jpg"),
    ]
    assert (here / "b.anonymized.mp4.csv").read_bytes() == b"precious"


def test_the_same_folder_again_leaves_tables_as_they_are_and_says_which_lack(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    assert run("anonymize", ".", "--tracks", "csv") == 0
    (here / "c.anonymized.gif.csv").unlink()
    capsys.readouterr()
    assert run("anonymize", ".", "--tracks", "csv") == 0
    err = capsys.readouterr().err
    assert "1 finished by an earlier run have no table; --overwrite makes them again" in err
    assert "finished by an earlier run: 4" in err
    assert "3 output of an earlier run" in err
    assert len(app.calls) == 4


def test_a_file_of_a_batch_knows_its_table(here: Path) -> None:
    for table in (Path("t.csv"), None):
        task = FileTask(
            job=Job(Path("a.mp4"), Path("b.mp4"), tracks=table),
            settings=Settings(),
            overwrite=False,
            strict=False,
            progress="off",
        )
        assert FileTask.from_json(task.as_json()).job == task.job


def test_an_error_of_the_table_is_one_line(here: Path, app: FakeApp, capsys: Capture) -> None:
    app.failing["a.mp4"] = SinkError("t.csv: cannot be written (No space left on device)")
    assert run("anonymize", "a.mp4", "--tracks", "t.csv") == 5
    assert one_error(capsys).startswith("t.csv: cannot be written")


def test_what_a_table_may_be_is_known_alike_to_all() -> None:
    assert naming.TABLE_SUFFIXES == track_table.TABLE_SUFFIXES


def test_help_says_that_it_is_personal_data(capsys: Capture) -> None:
    assert run("anonymize", "--help") == 0
    assert "It is personal data" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("output", ["-", "frames/%06d.png"])
def test_an_output_without_a_name_of_its_own_needs_one_for_the_table(
    output: str, here: Path, app: FakeApp, capsys: Capture
) -> None:
    (here / "frames").mkdir()
    assert run("anonymize", "a.mp4", "-o", output, "--tracks", "csv") == 2
    assert "the output has no name of its own; name a file" in one_error(capsys)
    assert app.calls == []


def test_what_is_piped_in_may_have_a_table(here: Path, app: FakeApp) -> None:
    assert run("anonymize", "-", "-o", "x.mp4", "--tracks", "x.csv") == 0
    (here / "old.csv").write_bytes(b"old")
    assert run("anonymize", "-", "-o", "y.mp4", "--tracks", "old.csv", "--overwrite") == 0
    assert app.tables == [Path("x.csv"), Path("old.csv")]
