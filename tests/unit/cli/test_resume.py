"""`--resume`: a batch goes on where it ended, and knows what is no longer what was asked for."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from m2fp_stream.cli.journal import NAME
from m2fp_stream.core import errors
from tests.kit.cli import FakeApp, one_error, run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def films(here: Path) -> Path:
    (here / "in/deep").mkdir(parents=True)
    for name in ("in/a.mp4", "in/b.mp4", "in/deep/c.mp4"):
        (here / name).write_bytes(name.encode())
    return here


def again(app: FakeApp, *more: str) -> list[str]:
    """Returns the names of the inputs that a run, which succeeds, works on."""
    app.calls.clear()
    assert run("anonymize", "in", "-o", "out", "--resume", *more) == 0
    return [call[0].name for call in app.calls]


def entries(films: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (films / "out" / NAME).read_bytes().split(b"\n") if line]


def test_what_is_complete_stays_and_what_was_interrupted_or_failed_is_done(
    films: Path, app: FakeApp, capsys: Capture
) -> None:
    app.failing = {"b.mp4": errors.SourceError("damaged"), "c.mp4": KeyboardInterrupt()}
    assert run("anonymize", "in", "-o", "out", "--resume") == 130
    app.failing = {}
    capsys.readouterr()
    assert again(app) == ["b.mp4", "c.mp4"]
    assert "1 (--overwrite makes them again)" in capsys.readouterr().err
    assert again(app) == []


def test_the_journal_holds_names_sizes_times_and_digests(films: Path, app: FakeApp) -> None:
    assert again(app) == ["a.mp4", "b.mp4", "c.mp4"]
    journal = films / "out" / NAME
    assert journal.stat().st_mode & 0o777 == 0o600
    first = entries(films)[0]
    state = (films / "in/a.mp4").stat()
    assert set(first) == {"output", "options", "version", "input", "outputs"}
    assert first["input"] == [state.st_size, state.st_mtime_ns]
    assert [entry["output"] for entry in entries(films)] == [
        *("a.anonymized.mp4", "b.anonymized.mp4", "deep/c.anonymized.mp4"),
    ]


def test_another_input_or_other_options_are_made_again_in_the_same_place(
    films: Path, app: FakeApp
) -> None:
    again(app)
    os.utime(films / "in/b.mp4", ns=(1, 1))
    assert again(app) == ["b.mp4"]
    assert app.calls[0][3]  # may replace what is there
    assert again(app, "--hide", "person") == ["a.mp4", "b.mp4", "c.mp4"]
    assert again(app, "--hide", "person", "--threads", "3") == []
    assert again(app, "--hide", "person", "--tracks", "csv") == ["a.mp4", "b.mp4", "c.mp4"]
    assert again(app, "--hide", "person", "--tracks", "csv") == []


def test_what_changes_while_it_is_read_is_made_again(films: Path, app: FakeApp) -> None:
    app.during = lambda: os.utime(films / "in/a.mp4", ns=(app.calls[-1][0].name == "a.mp4",) * 2)
    again(app)
    app.during = lambda: None
    assert again(app) == ["a.mp4"]


def test_what_is_not_in_the_journal_or_was_changed_since_is_left_alone(
    films: Path, app: FakeApp
) -> None:
    again(app)
    (films / "out/a.anonymized.mp4").write_bytes(b"cut by hand")
    (films / "out/b.anonymized.mp4").unlink()
    assert again(app, "--hide", "person") == ["b.mp4", "c.mp4"]
    assert (films / "out/a.anonymized.mp4").read_bytes() == b"cut by hand"


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_line_that_was_cut_off_counts_as_not_written(films: Path, app: FakeApp, cut: int) -> None:
    again(app)
    journal = films / "out" / NAME
    journal.write_bytes(journal.read_bytes()[:-cut])
    (films / "out/deep/c.anonymized.mp4").unlink()
    assert again(app) == ["c.mp4"]
    assert again(app) == []


@pytest.mark.parametrize(
    "line", [b"\xff\x00", b"[" * 10_000, b"[1]", b'{"output": 7}', b'{"output": "a"}', b"NaN"]
)
def test_lines_of_others_are_passed_over(films: Path, app: FakeApp, line: bytes) -> None:
    (films / "out").mkdir()
    (films / "out" / NAME).write_bytes(line)
    assert again(app) == ["a.mp4", "b.mp4", "c.mp4"]
    assert again(app) == []


def test_a_file_that_was_named_is_resumed_too(films: Path, app: FakeApp, capsys: Capture) -> None:
    for calls in (1, 1):
        assert run("anonymize", "in/a.mp4", "--resume") == 0
        assert len(app.calls) == calls
    assert "finished by an earlier run: 1" in capsys.readouterr().err
    assert run("anonymize", "in/a.mp4", "--resume", "--effect", "solid") == 0
    assert len(app.calls) == 2
    assert run("anonymize", "in/a.mp4") == 2


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["in", "-o", "out", "--resume", "--overwrite"], 2, "give one of them"),
        (["in/a.mp4", "-o", "-", "--resume"], 2, "--resume: is for files and folders"),
        (["in/a.mp4", "-o", "f/%d.png", "--resume"], 2, "--resume: is for files and folders"),
    ],
)
def test_what_cannot_be_resumed_is_refused(
    films: Path, app: FakeApp, capsys: Capture, words: list[str], code: int, expected: str
) -> None:
    (films / "f").mkdir()
    assert run("anonymize", *words) == code
    assert expected in one_error(capsys)
    assert app.calls == []


def test_one_run_at_a_time_goes_on_with_a_folder(
    films: Path, app: FakeApp, capsys: Capture
) -> None:
    again(app)
    capsys.readouterr()
    with (films / "out" / NAME).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run("anonymize", "in", "-o", "out", "--resume") == 5
    assert "another run goes on with this folder" in one_error(capsys)


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_a_journal_that_is_no_file_is_refused(
    films: Path, app: FakeApp, capsys: Capture, kind: str
) -> None:
    (films / "out").mkdir()
    place = films / "out" / NAME
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "link":
        place.symlink_to(films / "in/a.mp4")
    else:
        place.mkdir()
    assert run("anonymize", "in", "-o", "out", "--resume") == 5
    assert NAME in one_error(capsys)
    assert (films / "in/a.mp4").read_bytes() == b"in/a.mp4"
