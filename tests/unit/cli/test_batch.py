"""Several inputs: one after the other, or in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from m2fp_stream.cli import child
from m2fp_stream.cli.batch import Batch as Runner
from m2fp_stream.cli.batch import start_child
from m2fp_stream.cli.jobs import Job, Plan
from m2fp_stream.config import Settings
from m2fp_stream.core import errors
from m2fp_stream.processes.child import Child, start_program
from tests.kit.cli import FakeApp, one_error, run

ROOT = Path(__file__).resolve().parents[3]

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def test_a_batch_goes_on_after_failures_and_ends_with_8(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    app.failing = {"a.mp4": errors.SourceError("damaged"), "b.mkv": RuntimeError("[[17]]")}
    (here / "c.anonymized.gif").write_bytes(b"old")
    assert run("anonymize", "a.mp4", "b.mkv", "c.gif", "nope.mp4", "d.jpg") == 8
    out, err = capsys.readouterr()
    assert out.startswith("d.jpg -> d.anonymized.jpg")
    lines = err.splitlines()
    assert lines[0] == "m2fp-stream: error: a.mp4: damaged"
    assert lines[1].startswith("m2fp-stream: error: b.mkv: internal error: RuntimeError")
    assert lines[2].startswith("m2fp-stream: error: c.gif: c.anonymized.gif: exists;")
    assert lines[3] == "m2fp-stream: error: nope.mp4: no such file"
    assert lines[4].startswith("m2fp-stream: error: 4 of 5 files failed")
    assert (here / "c.anonymized.gif").read_bytes() == b"old"


def test_an_input_that_is_named_twice_is_done_once(here: Path, app: FakeApp) -> None:
    assert run("anonymize", "a.mp4", "./a.mp4", here / "a.mp4", "b.mkv", here / "a.mp4") == 0
    assert app.outputs == [Path("a.anonymized.mp4"), Path("b.anonymized.mp4")]


def test_outputs_do_not_differ_in_case_alone(here: Path, app: FakeApp) -> None:
    """On a stick with exFAT they would be one file, with --overwrite without a word."""
    (here / "in").mkdir()
    for name in ("A.MP4", "a.mkv", "a.mp4", "ä.mp4", "Ä.MOV"):
        (here / "in" / name).write_bytes(b"")
    assert run("anonymize", "in", "-o", "out") == 0
    names = [path.name for path in app.outputs]
    assert len({name.casefold() for name in names}) == len(names) == 5
    assert names[0] == "A.anonymized.mp4"


def test_a_folder_is_a_batch_and_its_tree_is_kept_below_the_output_folder(
    here: Path, app: FakeApp
) -> None:
    (here / "in/deep").mkdir(parents=True)
    (here / "out").mkdir()
    for name in ("in/a.mp4", "in/deep/a.mp4", "in/a.mkv", "in/x.txt"):
        (here / name).write_bytes(b"")
    assert run("anonymize", "in", "a.mp4", "in/a.mkv", "-o", "out") == 2
    assert run("anonymize", "in", "in/a.mkv", "-o", "out") == 0
    assert app.outputs == [
        Path("out/a.anonymized.mp4"),
        Path("out/a.mp4.anonymized.mp4"),
        Path("out/deep/a.anonymized.mp4"),
    ]
    assert [call[0] for call in app.calls][:2] == [Path("in/a.mkv"), Path("in/a.mp4")]


def test_a_folder_of_one_file_is_still_a_batch(here: Path, app: FakeApp, capsys: Capture) -> None:
    (here / "in").mkdir()
    assert run("anonymize", "in") == 3
    assert one_error(capsys) == "in: no file to work on in this folder"
    (here / "in/x.txt").touch()
    assert run("anonymize", "in") == 3
    assert one_error(capsys) == "in: no file to work on in this folder (skipped: 1 .txt)"
    (here / "in/a.mp4").write_bytes(b"")
    assert run("anonymize", "in", "-o", "nope/deeper") == 5
    app.failing["a.mp4"] = errors.SourceError("damaged")
    assert run("anonymize", "in") == 8


def test_a_folder_that_cannot_be_listed_is_3(
    here: Path, app: FakeApp, capsys: Capture, monkeypatch: Patch
) -> None:
    def refuse(path: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    (here / "in").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    assert run("anonymize", "in") == 3
    assert one_error(capsys) == "in: Permission denied"


def test_an_output_may_not_be_another_input(here: Path, app: FakeApp, capsys: Capture) -> None:
    (here / "a.anonymized.mp4").write_bytes(b"an input of its own")
    assert run("anonymize", "a.mp4", "a.anonymized.mp4", "--overwrite") == 2
    assert "a.anonymized.mp4 is another input or its output" in one_error(capsys)
    assert app.calls == []


def test_a_folder_that_cannot_be_made_is_reported(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    (here / "in/deep").mkdir(parents=True)
    (here / "in/deep/a.mp4").write_bytes(b"")
    (here / "out").mkdir()
    (here / "out/deep").write_bytes(b"a file")
    assert run("anonymize", "in", "-o", "out") == 8
    assert "out/deep: File exists" in capsys.readouterr().err.splitlines()[0]


@dataclass
class Batch:
    """What a batch of processes was given instead of being run."""

    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    count: int = 0

    def side_by_side(
        self, runner: Runner, count: int, tell: Callable[[Job], Mapping[str, Any]]
    ) -> None:
        self.count = count
        jobs = runner.plan.jobs
        self.told = {job.path_in.name: json.loads(json.dumps(tell(job))) for job in jobs}


@pytest.fixture
def batch(monkeypatch: Patch) -> Batch:
    fake = Batch()
    monkeypatch.setattr(Runner, "side_by_side", lambda *told: fake.side_by_side(*told))
    return fake


def be_child(told: Mapping[str, Any], monkeypatch: Patch) -> int:
    """Runs the child's program in this process."""
    read_fd, write_fd = os.pipe()
    with os.fdopen(write_fd, "wb") as pipe:
        pipe.write(json.dumps(told).encode())
    with os.fdopen(read_fd) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        return child.main()


def test_a_child_does_what_its_parent_would_have_done(
    here: Path, app: FakeApp, batch: Batch, monkeypatch: Patch
) -> None:
    options = "--hide face,hair --effect solid --effect hair=mosaic --crf 3 --end 1:00 --salvage "
    options += "--parser m2fp --model-dir weights --tiles 2 --overwrite --config c.yaml"
    (here / "c.yaml").write_text("output: {preset: fast}", encoding="utf-8")
    assert run("anonymize", "a.mp4", *options.split()) == 0
    assert run("anonymize", "a.mp4", "b.mkv", *options.split(), "--jobs", "2") == 0
    assert batch.count == 2
    assert set(batch.told) == {"a.mp4", "b.mkv"}
    assert be_child(batch.told["a.mp4"], monkeypatch) == 0
    assert app.calls[0] == app.calls[1]
    assert app.settings != Settings()
    assert app.settings.output.preset == "fast"


def test_names_that_are_no_text_reach_a_child(
    here: Path, app: FakeApp, batch: Batch, monkeypatch: Patch
) -> None:
    name = os.fsdecode(b"\xff \n.mp4")
    (here / name).write_bytes(b"")
    assert run("anonymize", name, "b.mkv", "--jobs", "2") == 0
    assert be_child(batch.told[name], monkeypatch) == 0
    assert app.calls[0][0] == Path(name)


def test_the_same_batch_again_leaves_what_is_finished(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    (here / "in").mkdir()
    for name in ("a.mp4", "b.mkv", "x.txt", "y.txt", "z.pdf"):
        (here / "in" / name).touch()
    app.failing["b.mkv"] = errors.SourceError("damaged")
    assert run("anonymize", "in") == 8
    app.failing.clear()
    app.calls.clear()
    capsys.readouterr()
    assert run("anonymize", "in") == 0
    assert [call[0].name for call in app.calls] == ["b.mkv"]
    assert capsys.readouterr().err == (
        "m2fp-stream: finished by an earlier run: 1 (--overwrite makes them again)\n"
        "m2fp-stream: skipped: 2 .txt, 1 .pdf\n"
    )
    app.calls.clear()
    assert run("anonymize", "in") == 0
    assert app.calls == []
    capsys.readouterr()
    assert run("anonymize", "in/a.mp4") == 2
    assert "in/a.anonymized.mp4: exists; use --overwrite" in one_error(capsys)
    assert run("anonymize", "in/a.mp4", "in") == 8  # named outright
    (here / "in/old.anonymized.mov").touch()
    capsys.readouterr()
    assert run("anonymize", "in", "--overwrite") == 0
    assert len(app.calls) == 2
    assert capsys.readouterr().err == (
        "m2fp-stream: skipped: 2 .txt, 1 .pdf, 1 output of an earlier run\n"
    )


def test_what_no_run_leaves_is_not_finished(here: Path, app: FakeApp, capsys: Capture) -> None:
    (here / "in").mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4"):
        (here / "in" / name).touch()
    (here / "in/a.anonymized.mp4").touch()
    (here / "in/b.anonymized.mp4").mkdir()
    (here / "in/c.anonymized.mp4").symlink_to("nowhere")
    assert run("anonymize", "in") == 8
    assert [call[0].name for call in app.calls] == ["d.mp4"]
    assert capsys.readouterr().err.count("exists; use --overwrite") == 3


def test_an_input_that_was_changed_since_is_told(here: Path, app: FakeApp, capsys: Capture) -> None:
    (here / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (here / "in" / name).touch()
    assert run("anonymize", "in") == 0
    os.utime(here / "in/a.anonymized.mp4", ns=(0, 0))
    capsys.readouterr()
    assert run("anonymize", "in") == 0
    assert capsys.readouterr().err.splitlines()[0] == (
        "m2fp-stream: finished by an earlier run: 2, 1 of them before their input was changed "
        "(--overwrite makes them again)"
    )


def test_an_output_folder_is_made_but_not_the_way_to_it(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    assert run("anonymize", ".", "-o", "no/way") == 5
    assert one_error(capsys) == "no: no such output folder; create it first (mkdir -p)"
    assert not (here / "no").exists()
    assert run("anonymize", ".", "-o", "shared") == 0
    assert run("anonymize", "a.mp4", "-o", "one") == 0
    assert (here / "shared/a.anonymized.mp4").exists()
    assert (here / "one/a.anonymized.mp4").exists()
    app.calls.clear()
    assert run("anonymize", ".", "-o", "shared") == 0
    assert app.calls == []


def test_a_folder_below_that_cannot_be_listed_is_one_failure(
    here: Path, app: FakeApp, capsys: Capture, monkeypatch: Patch
) -> None:
    (here / "secret").mkdir()
    listed = os.scandir

    def refuse(path: str) -> object:
        if "secret" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert run("anonymize", ".") == 8
    assert [call[0].name for call in app.calls] == ["a.mp4", "b.mkv", "c.gif", "d.jpg"]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "m2fp-stream: error: ./secret: Permission denied",
        "m2fp-stream: error: 1 of 5 files failed, see above; the others are complete",
    ]


def test_a_long_name_is_shortened_and_told(here: Path, app: FakeApp, capsys: Capture) -> None:
    name = "人" * 83 + ".mp4"
    (here / name).touch()
    assert run("anonymize", name) == 0
    (written,) = app.outputs
    assert len(os.fsencode(written.name)) <= 255
    assert capsys.readouterr().err == (
        f"m2fp-stream: {name}: the output's name would be too long; it is {written.name}\n"
    )


def test_on_a_terminal_a_table_says_what_became_of_all(
    here: Path, app: FakeApp, capsys: Capture, monkeypatch: Patch
) -> None:
    (here / "x.txt").touch()
    (here / "a.anonymized.mp4").write_bytes(b"covered")
    app.failing = {"b.mkv": errors.SourceError("damaged [red]")}
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    assert run("anonymize", ".", "--progress", "off") == 8
    rows = [line.split("│") for line in capsys.readouterr().err.splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["done", "2"],
        ["finished earlier", "1 (--overwrite makes them again)"],
        ["skipped", "1 .txt"],
        ["failed", "b.mkv: damaged [red]"],
    ]


@pytest.mark.parametrize(
    ("words", "progress"),
    [([], "lines"), (["--progress", "bar"], "lines"), (["--progress", "off"], "off")],
)
def test_children_never_paint_bars(
    words: list[str], progress: str, here: Path, batch: Batch
) -> None:
    assert run("anonymize", "a.mp4", "b.mkv", "--jobs", "2", *words) == 0
    assert {told["progress"] for told in batch.told.values()} == {progress}


def test_a_childs_error_is_its_exit_code_and_one_line(
    here: Path, app: FakeApp, batch: Batch, capsys: Capture, monkeypatch: Patch
) -> None:
    app.warnings = ["HDR became SDR"]
    assert run("anonymize", "a.mp4", "b.mkv", "--jobs", "2", "--strict") == 0
    assert be_child(batch.told["a.mp4"], monkeypatch) == 3
    assert one_error(capsys) == "a.mp4: HDR became SDR (an error because of --strict)"
    app.failing["b.mkv"] = ValueError("[[1723 42]]")
    assert be_child(batch.told["b.mkv"], monkeypatch) == 1
    assert "run again with --debug" in one_error(capsys)
    assert be_child({**batch.told["b.mkv"], "debug": True}, monkeypatch) == 1
    err = capsys.readouterr().err
    assert "in anonymize" in err
    assert "1723" not in err


def test_a_child_is_told_no_password_and_nothing_of_cameras(
    here: Path, batch: Batch, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("M2FP_STREAM_CAPTURE__INPUT", "rtsp://me:s3cret@camera/")
    monkeypatch.setenv("M2FP_STREAM_SERVE__TOKEN", "s3cret-token-of-somebody")
    monkeypatch.setenv("M2FP_STREAM_OUTPUT__CRF", "3")
    assert run("anonymize", "a.mp4", "b.mkv", "--jobs", "2") == 0
    told = batch.told["a.mp4"]
    assert "s3cret" not in str(told)
    assert set(told["settings"]) == {
        *("policy", "parser", "compose", "source", "m2fp", "output", "audio", "file")
    }
    assert told["settings"]["output"]["crf"] == 3


def test_an_option_that_one_file_has_no_use_for_does_not_keep_its_child_from_working(
    here: Path, app: FakeApp, batch: Batch, monkeypatch: Patch, capsys: Capture
) -> None:
    (here / "c.yaml").write_text("m2fp: {tiles: 2}", encoding="utf-8")
    options = "--hide face --crf 3 --preset fast --start 1 --end 2 --config c.yaml --jobs 2"
    assert run("anonymize", "a.mp4", "d.jpg", *options.split()) == 0
    assert capsys.readouterr().err.count("m2fp.tiles: set in vain") == 1
    for told in batch.told.values():
        assert be_child(told, monkeypatch) == 0
        assert app.settings.policy.hide == "face"
    assert capsys.readouterr().err == ""  # the batch has said it
    assert app.calls[0][2].output.crf == 3


def python(code: str) -> Child:
    return start_program([sys.executable, "-c", code])


def batch_of(*names: str) -> Runner:
    planned = Plan([Job(Path(name), Path(f"{name}.out")) for name in names])
    return Runner(planned, overwrite=False, debug=False)


def told_of(job: Job) -> dict[str, str]:
    return {"name": str(job.path_in)}


def test_jobs_run_side_by_side_and_failures_are_told(here: Path, capsys: Capture) -> None:
    started: list[str] = []
    codes = {"a.mp4": "raise SystemExit(0)", "b.mkv": "raise SystemExit(3)"}

    def start(told: Mapping[str, Any]) -> Child:
        started.append(told["name"])
        return python(codes.get(told["name"], "import os; os.kill(os.getpid(), 9)"))

    names = ("a.mp4", "b.mkv", "c.gif", "no.mp4")
    batch = batch_of(*names)
    with pytest.raises(errors.BatchError) as caught:
        batch.side_by_side(2, told_of, start=start)
    assert (batch.done, sorted(batch.failed)) == (
        1,
        [
            (Path("b.mkv"), "its input failed (exit code 3, see above)"),
            (Path("c.gif"), "its process was ended by SIGKILL"),
            (Path("no.mp4"), "no.mp4: no such file"),
        ],
    )
    assert started == ["a.mp4", "b.mkv", "c.gif"]
    err = capsys.readouterr().err
    assert "error: c.gif: its process was ended by SIGKILL" in err
    assert "error: no.mp4: no such file" in err
    assert str(caught.value) == "3 of 4 files failed, see above; the others are complete"


def test_where_all_have_failed_there_are_no_others(here: Path) -> None:
    with pytest.raises(errors.BatchError) as caught:
        batch_of("a.mp4", "b.mkv").side_by_side(
            2, told_of, start=lambda _: python("raise SystemExit(3)")
        )
    assert str(caught.value) == "2 of 2 files failed, see above"


def test_no_more_than_so_many_run_at_a_time(here: Path) -> None:
    running: list[Child] = []
    most = 0

    def start(_: Mapping[str, Any]) -> Child:
        nonlocal most
        running.append(python(""))
        most = max(most, sum(process.returncode is None for process in running))
        return running[-1]

    names = ("a.mp4", "b.mkv", "c.gif", "d.jpg")
    batch_of(*names).side_by_side(2, told_of, start=start)
    assert (len(running), most) == (4, 2)


def test_an_interrupted_batch_ends_its_processes(here: Path, monkeypatch: Patch) -> None:
    children: list[Child] = []

    def start(_: Mapping[str, Any]) -> Child:
        children.append(python("import time; time.sleep(600)"))
        return children[-1]

    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    names = ("a.mp4", "b.mkv", "c.gif")
    with pytest.raises(KeyboardInterrupt):
        batch_of(*names).side_by_side(2, told_of, start=start)
    assert [child.returncode for child in children] == [-signal.SIGTERM] * 2


@pytest.mark.parametrize("size", [1, 1 << 20], ids=["small", "larger than a pipe"])
def test_a_child_that_dies_before_it_is_told_is_a_failure_like_any_other(
    size: int, here: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    process = start_child({"settings": "x" * size})
    assert process.wait() == 1
