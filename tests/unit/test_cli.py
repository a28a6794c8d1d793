from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m2fp_stream import cli, doctor
from m2fp_stream.app.stills import ParseSummary
from m2fp_stream.config import Settings
from m2fp_stream.core import errors
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import Effect
from m2fp_stream.core.records import Progress, RunReport
from m2fp_stream.models import store

ROOT = Path(__file__).resolve().parents[2]

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


class FakeApp:
    """Stands in for `app`: remembers its calls, writes the output, may fail for some inputs."""

    def __init__(self) -> None:
        self.calls: list[tuple[Path, Path, Settings, bool]] = []
        self.failing: dict[str, BaseException] = {}
        self.warnings: list[str] = []
        self.dropped: tuple[str, ...] = ()
        self.progress: list[Progress] = []
        self.during: Callable[[], None] = lambda: None

    def anonymize(
        self,
        path_in: Path,
        path_out: Path,
        config: Settings,
        *,
        overwrite: bool,
        progress: Callable[[Progress], None],
        on_warning: Callable[[str], None],
        on_notice: Callable[[str], None],
    ) -> RunReport:
        self.calls.append((path_in, path_out, config, overwrite))
        if path_in.name in self.failing:
            raise self.failing[path_in.name]
        for step in self.progress:
            progress(step)
        self.during()
        for text in self.warnings:
            on_warning(text)
        path_out.write_bytes(b"covered")
        return RunReport(
            path_out=str(path_out),
            frames=120,
            looks={"faces": 120, "people": 17, "parts": 9},
            covered_fraction=0.0312,
            unknown_frames=2,
            elapsed_s=4.0,
            dropped=self.dropped,
            warnings=tuple(self.warnings),
        )

    @property
    def outputs(self) -> list[Path]:
        return [call[1] for call in self.calls]

    @property
    def settings(self) -> Settings:
        return self.calls[-1][2]


@pytest.fixture
def app(monkeypatch: Patch) -> FakeApp:
    fake = FakeApp()
    monkeypatch.setattr("m2fp_stream.app.files.anonymize", fake.anonymize)
    return fake


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in list(os.environ):
        if name.startswith("M2FP_STREAM_") and not name.startswith("M2FP_STREAM_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: Patch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mkv", "c.gif", "d.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def run(*words: str | Path) -> int:
    return cli.main([str(word) for word in words])


def one_error(capsys: Capture) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("m2fp-stream: error: ")
    return err.removeprefix("m2fp-stream: error: ").strip()


# -- usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "no command; valid names: --version, anonymize"),
        ("anonymise a.mp4", "unknown command 'anonymise'; did you mean anonymize?"),
        ("--vresion", "unknown command '--vresion'; did you mean --version?"),
        ("anonymize", "anonymize: name at least one file or folder"),
        ("anonymize a.mp4 --hidee face", "unknown option '--hidee'; did you mean --hide"),
        ("anonymize a.mp4 --hidee=face", "unknown option '--hidee'; did you mean --hide"),
        ("anonymize a.mp4 -x", "unknown option '-x'; "),
        (
            "anonymize a.mp4 --hide haed",
            "--hide: unknown preset or label 'haed'; did you mean head",
        ),
        ("anonymize a.mp4 --hide face,hiar", "--hide: unknown label 'hiar'; did you mean hair"),
        ("anonymize a.mp4 --effect forst", "--effect: unknown effect 'forst'; did you mean frost"),
        (
            "anonymize a.mp4 --effect fase=solid",
            "--effect: unknown label 'fase'; did you mean face",
        ),
        ("anonymize a.mp4 --effect blur", "--effect: unknown effect 'blur'; valid names: frost"),
        ("anonymize a.mp4 --crf x", "--crf: expected a whole number, got 'x'"),
        ("anonymize a.mp4 --crf 99", "--crf: expected less than or equal to 51"),
        ("anonymize a.mp4 --preset turbo", "--preset: expected 'ultrafast', "),
        ("anonymize a.mp4 --threads 0", "--threads: expected greater than or equal to 1"),
        ("anonymize a.mp4 --jobs 0", "--jobs: expected a number from 1 upwards, got '0'"),
        ("anonymize a.mp4 --start 1:75", "--start: expected seconds or H:MM:SS, got '1:75'"),
        ("anonymize a.mp4 --start 1:2:3:4", "--start: expected seconds"),
        ("anonymize a.mp4 --start -3", "--start: expected seconds"),
        ("anonymize a.mp4 --end inf", "--end: expected seconds"),
        ("anonymize a.mp4 --end nan", "--end: expected seconds"),
        ("anonymize a.mp4 --end abc", "--end: expected seconds"),
        ("anonymize a.mp4 --end a:00", "--end: expected seconds"),
        ("anonymize a.mp4 --quality best", "--quality: expected 'standard' or 'high'"),
        ("anonymize a.mp4 --audio keep", "--audio: invalid choice: 'keep'"),
        ("anonymize a.mp4 --parser m3fp", "--parser: expected embedded or m2fp, got 'm3fp'"),
        ("anonymize a.mp4 --parser m2fp --tiles 9", "--tiles: expected less than or equal to 8"),
        ("anonymize a.mp4 --tiles 2", "--tiles: is for M2FP; add --parser m2fp or leave it out"),
        ("anonymize a.mp4 --parser embedded --model-dir w", "--model-dir: is for M2FP; "),
        ("parse d.jpg -o x.png --tiles 2", "--tiles: is for M2FP; "),
        ("preview --source synthetic --model-dir w", "--model-dir: is for M2FP; "),
        ("anonymize d.jpg --crf 3", "--crf: is for MP4 files; d.anonymized.jpg is none, leave it"),
        ("anonymize d.jpg --preset fast", "--preset: is for MP4 files; "),
        ("anonymize c.gif --crf 3", "--crf: is for MP4 files; c.anonymized.gif is none"),
        ("anonymize a.mp4 -o x.gif --crf 3", "--crf: is for MP4 files; x.gif is none"),
        ("anonymize d.jpg --start 1", "--start: is for videos and GIFs; d.jpg is none"),
        ("anonymize d.jpg --end 1", "--end: is for videos and GIFs; d.jpg is none"),
        ("anonymize c.gif d.jpg --preset fast", "--preset: is for MP4 files; "),
        ("preview --no-window --full-screen", "--full-screen: there is no window (--no-window); "),
        ("preview --no-window --mirror", "--mirror: there is no window (--no-window); "),
        ("preview --no-window --no-mirror", "--no-mirror: there is no window (--no-window); "),
        ("anonymize a.mp4 --config nope.yaml", "nope.yaml: cannot read the configuration"),
        ("anonymize a.mp4 -o", "-o/--output: expected one argument"),
        ("anonymize a.mp4 -o a.mp4", "a.mp4: the output is the input"),
        ("anonymize a.mp4 -o d.jpg", "d.jpg: exists; use --overwrite"),
        ("anonymize a.mp4 b.mkv -o d.jpg", "d.jpg: not a folder"),
        ("parse d.jpg", "the following arguments are required: -o/--output"),
        ("parse d.jpg -o x.png --format colour", "--format: invalid choice: 'colour'"),
        ("models", "the following arguments are required: action"),
        ("models push", "action: invalid choice: 'push'"),
        ("models pull", "models pull: name what to pull: m2fp or m2fp-lip"),
        ("models pull m3fp", "models pull: name what to pull: m2fp or m2fp-lip"),
        ("models export m2fp --size 5", "models export: --size: expected WIDTHxHEIGHT, got '5'"),
        ("models export m2fp --short-side 5", "command line: m2fp.short_side: expected"),
        ("models list x", "models list: unexpected argument 'x'"),
        ("doctor x", "doctor: unexpected argument 'x'"),
        ("check-config", "check-config: name at least one file"),
    ],
)
def test_a_usage_error_is_one_line_that_helps(
    words: str, expected: str, here: Path, capsys: Capture, app: FakeApp
) -> None:
    before = sorted(here.iterdir())
    assert run(*words.split()) == 2
    assert one_error(capsys).startswith(expected)
    assert app.calls == []
    assert sorted(here.iterdir()) == before


def test_help_and_version_leave_with_zero(capsys: Capture) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == "m2fp-stream 0.1.0\n"
    for words in (["--help"], *([name, "-h"] for name in cli._parsers()[1])):
        assert run(*words) == 0
        assert "m2fp-stream" in capsys.readouterr().out


def test_help_states_the_real_defaults_and_names(capsys: Capture) -> None:
    run("anonymize", "--help")
    text = " ".join(capsys.readouterr().out.split())
    given = Settings().model_dump(mode="json")
    for option in cli._OPTIONS:
        values = {str(given[key.split(".")[0]][key.split(".")[1]]) for key in option.keys}
        assert len(values) == 1, f"{option.flag}: {option.keys} differ by default"
        stated = option.help.rpartition("(default: ")[2].rstrip(")")
        unset = {
            "None": {"from the beginning", "to the end", "what was pulled", "none"},
            "False": {"refuse", "embedded"},
        }
        assert stated in {*values, *unset.get(values.pop(), set())}
    assert f"(default: {given['policy']['effect']})" in text
    for word in (*(effect.value for effect in Effect), *(label.title for label in Label if label)):
        assert word in text


def test_usage_errors_and_help_load_nothing_heavy() -> None:
    code = (
        "import sys; from m2fp_stream.cli import main\n"
        "for words in (['--help'], ['anonymize', '-h'], ['anonymise'], ['anonymize', '--hidee']):\n"
        "    main(words)\n"
        "print(sorted({'numpy', 'cv2', 'av', 'pydantic', 'yaml', 'rich'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_hardening_comes_before_everything_else(monkeypatch: Patch) -> None:
    class First(BaseException):
        pass

    def harden() -> None:
        raise First

    monkeypatch.setattr(cli, "harden", harden)
    monkeypatch.setattr(cli, "_run", lambda _: pytest.fail("ran before hardening"))
    with pytest.raises(First):
        run("--version")


def test_inputs_and_options_may_be_mixed(here: Path, app: FakeApp) -> None:
    (here / "-x.mp4").write_bytes(b"x")
    assert run("anonymize", "--crf", "3", "a.mp4", "--salvage", "b.mkv", "--", "-x.mp4") == 0
    assert [call[0].name for call in app.calls] == ["a.mp4", "b.mkv", "-x.mp4"]


# -- settings --------------------------------------------------------------------------------------


def test_options_reach_the_settings(here: Path, app: FakeApp) -> None:
    words = "--hide face,left-arm --effect mosaic --effect Hair=solid --crf 18 --preset fast"
    words += " --threads 3 --start 1:02:03.5 --end 4000 --salvage"
    assert run("anonymize", "a.mp4", *words.split()) == 0
    policy, source, output = app.settings.policy, app.settings.source, app.settings.output
    assert (policy.hide, policy.effect) == (("face", "left-arm"), "mosaic")
    assert dict(policy.effects) == {"hair": "solid"}
    assert (source.start_s, source.end_s, source.salvage) == (3723.5, 4000.0, True)
    assert (source.threads, output.threads) == (3, 3)
    assert (output.crf, output.preset) == (18, "fast")


def test_options_beat_environment_and_file(here: Path, app: FakeApp, monkeypatch: Patch) -> None:
    (here / "c.yaml").write_text("output: {crf: 1, preset: slow, threads: 4}", encoding="utf-8")
    monkeypatch.setenv("M2FP_STREAM_OUTPUT__CRF", "2")
    monkeypatch.setenv("M2FP_STREAM_OUTPUT__PRESET", "fast")
    assert run("anonymize", "a.mp4", "--config", "c.yaml", "--crf", "3") == 0
    output = app.settings.output
    assert (output.crf, output.preset, output.threads) == (3, "fast", 4)


def test_without_options_the_settings_are_the_defaults(here: Path, app: FakeApp) -> None:
    assert run("anonymize", "a.mp4") == 0
    assert app.settings == Settings()


def test_a_bare_effect_ends_what_the_file_says_about_single_labels(
    here: Path, app: FakeApp
) -> None:
    (here / "c.yaml").write_text("policy: {effects: {hair: mosaic}}", encoding="utf-8")
    assert run("anonymize", "a.mp4", "--config", "c.yaml", "--effect", "solid") == 0
    assert (app.settings.policy.effect, app.settings.policy.effects) == ("solid", {})


def test_options_of_m2fp_pass_where_a_file_switches_it_on(here: Path, app: FakeApp) -> None:
    (here / "c.yaml").write_text("m2fp: {enabled: true}", encoding="utf-8")
    assert run("anonymize", "a.mp4", "--config", "c.yaml", "--tiles", "2") == 0
    assert app.settings.m2fp.tiles == 2


def test_an_option_of_videos_passes_where_one_input_is_a_video(here: Path, app: FakeApp) -> None:
    assert run("anonymize", "d.jpg", "a.mp4", "--crf", "3") == 0
    assert run("anonymize", "d.jpg", "c.gif", "--start", "1", "--overwrite") == 0


def test_what_a_file_says_about_m2fp_in_vain_is_told_once(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    (here / "c.yaml").write_text("m2fp: {tiles: 2, threads: 2, kind: lip}", encoding="utf-8")
    assert run("anonymize", "a.mp4", "b.mkv", "--config", "c.yaml") == 0
    assert capsys.readouterr().err == (
        "m2fp-stream: m2fp.kind, m2fp.tiles: set in vain, for M2FP is off; m2fp.enabled or "
        "--parser m2fp switches it on\n"
    )
    for words in ("--parser embedded", "--parser m2fp"):
        command = f"anonymize a.mp4 --config c.yaml --overwrite {words}"
        assert run(*command.split()) == 0
        assert capsys.readouterr().err == ""


@pytest.fixture
def live(monkeypatch: Patch) -> list[Settings]:
    """The settings with which live runs were started; nothing runs."""
    started: list[Settings] = []
    names = ("frames", "frames_wholly_covered", "dropped", "reconnects", "uptime_s")

    def run_live(settings: Settings, **_: object) -> dict[str, object]:
        started.append(settings)
        return {**dict.fromkeys(names, 0), "looks": {"faces": 3}}

    monkeypatch.setattr("m2fp_stream.app.live.run_live", run_live)
    return started


@pytest.mark.parametrize(
    ("words", "file", "variable", "mirrored"),
    [
        ("", None, None, True),
        ("--camera 1", None, None, True),
        ("--source synthetic", None, None, False),
        ("--source synthetic --mirror", None, None, True),
        ("--no-mirror", None, None, False),
        ("", "false", None, False),
        ("", "true", None, True),
        ("--source synthetic", "true", None, True),
        ("", None, "false", False),
        ("", "true", "false", False),
        ("--mirror", "false", "false", True),
        ("--no-mirror", "true", "true", False),
    ],
)
def test_a_cameras_window_is_a_mirror_unless_somebody_said_otherwise(
    words: str,
    file: str | None,
    variable: str | None,
    mirrored: bool,
    here: Path,
    live: list[Settings],
    monkeypatch: Patch,
) -> None:
    if file is not None:
        (here / "c.yaml").write_text(f"window: {{mirror: {file}}}", encoding="utf-8")
        words += " --config c.yaml"
    if variable is not None:
        monkeypatch.setenv("M2FP_STREAM_WINDOW__MIRROR", variable)
    assert run("preview", *words.split()) == 0
    assert [settings.window.mirror for settings in live] == [mirrored]


# -- one input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("a.mp4", "a.anonymized.mp4"),
        ("b.mkv", "b.anonymized.mp4"),
        ("c.gif", "c.anonymized.gif"),
        ("d.jpg", "d.anonymized.jpg"),
    ],
)
def test_the_output_stands_beside_the_input(
    name: str, output: str, here: Path, app: FakeApp, capsys: Capture
) -> None:
    assert run("anonymize", name) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        f"{name} -> {output}: 120 frames, 2 wholly covered, looks: 120 faces, 17 people, "
        "9 parts; 3.1% covered on average, 4.0 s (30.0 fps)\n"
    )


def test_the_output_may_be_a_file_or_a_folder(here: Path, app: FakeApp) -> None:
    (here / "out").mkdir()
    assert run("anonymize", "a.mp4", "-o", "out") == 0
    assert run("anonymize", "a.mp4", "-o", "out/x.mp4") == 0
    assert app.outputs == [Path("out/a.anonymized.mp4"), Path("out/x.mp4")]


def test_overwrite_reaches_app_and_allows_an_existing_output(here: Path, app: FakeApp) -> None:
    assert run("anonymize", "a.mp4", "-o", "d.jpg", "--overwrite") == 0
    assert app.calls[-1][3] is True


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_overwrite_never_replaces_the_input(
    link: Callable[[str, str], None], here: Path, app: FakeApp, capsys: Capture
) -> None:
    link("a.mp4", "same.mp4")
    assert run("anonymize", "a.mp4", "-o", "same.mp4", "--overwrite") == 2
    assert "the output is the input" in one_error(capsys)
    assert app.calls == []


def test_a_missing_input_is_3_and_a_missing_output_folder_5(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    assert run("anonymize", "nope.mp4") == 3
    assert one_error(capsys) == "nope.mp4: no such file"
    assert run("anonymize", "a.mp4", "-o", "nope/x.mp4") == 5
    assert one_error(capsys) == "nope: no such output folder; create it first (mkdir -p)"
    assert run("anonymize", "x" * 300) == 3
    assert "File name too long" in one_error(capsys)
    for output in ("x" * 300, f"{'x' * 300}/x.mp4"):
        assert run("anonymize", "a.mp4", "-o", output) == 5
        assert "File name too long" in one_error(capsys)


def leaves(base: type[errors.M2FPStreamError]) -> list[type[errors.M2FPStreamError]]:
    return [base, *(leaf for sub in base.__subclasses__() for leaf in leaves(sub))]


@pytest.mark.parametrize("kind", leaves(errors.M2FPStreamError))
def test_an_error_becomes_its_exit_code_and_one_line(
    kind: type[errors.M2FPStreamError], here: Path, app: FakeApp, capsys: Capture
) -> None:
    app.failing["a.mp4"] = kind("one\ntwo rtsp://me:secret@cam \x1b[2J")
    assert run("anonymize", "a.mp4") == kind.exit_code
    assert one_error(capsys) == "one two rtsp://***@cam \\x1b[2J"


def test_an_unforeseen_error_is_1_and_its_message_stays_inside(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    app.failing["a.mp4"] = ValueError("[[17 23 42]]")
    assert run("anonymize", "a.mp4") == 1
    line = one_error(capsys)
    assert line.startswith("internal error: ValueError at test_cli.py:")
    assert "--debug" in line
    assert "42" not in line.partition(":")[2].partition(":")[2]


def test_debug_shows_the_stack_without_messages(here: Path, app: FakeApp, capsys: Capture) -> None:
    error = ValueError("[[1723 42]]")
    error.__cause__ = KeyError("[[9988]]")
    app.failing["a.mp4"] = error
    assert run("anonymize", "a.mp4", "--debug") == 1
    err = capsys.readouterr().err
    assert "in anonymize" in err
    assert "KeyError" in err
    assert "1723" not in err
    assert "9988" not in err
    assert "run again with --debug" not in err


def test_a_missing_library_points_to_doctor(here: Path, app: FakeApp, capsys: Capture) -> None:
    app.failing["a.mp4"] = ImportError("libGL.so.1: cannot open shared object file", name="cv2")
    assert run("anonymize", "a.mp4") == 2
    assert one_error(capsys) == (
        "cannot import cv2: libGL.so.1: cannot open shared object file; `m2fp-stream doctor` says "
        "what to do"
    )
    app.failing["a.mp4"] = ImportError("x", name="m2fp_stream.nope")
    assert run("anonymize", "a.mp4") == 1


def test_warnings_and_what_was_left_out_are_told(here: Path, app: FakeApp, capsys: Capture) -> None:
    app.warnings = ["HDR became SDR"]
    app.dropped = ("audio", "metadata (encoder)", "subtitles")
    assert run("anonymize", "a.mp4") == 0
    assert capsys.readouterr().err == (
        "m2fp-stream: warning: a.mp4: HDR became SDR\n"
        "m2fp-stream: warning: a.mp4: left out: audio, subtitles\n"
    )


def test_strict_makes_a_warning_an_error_but_not_what_is_left_out_as_asked(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    app.dropped = ("audio",)
    assert run("anonymize", "a.mp4", "--strict") == 0
    capsys.readouterr()
    app.warnings = ["HDR became SDR"]
    assert run("anonymize", "b.mkv", "--strict") == 3
    assert one_error(capsys) == "b.mkv: HDR became SDR (an error because of --strict)"
    assert not (here / "b.anonymized.mp4").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_130_and_a_second_one_does_not_disturb_the_cleaning(
    number: signal.Signals, here: Path, app: FakeApp, capsys: Capture
) -> None:
    cleaned = []

    def during() -> None:
        try:
            os.kill(os.getpid(), number)
            pytest.fail("the signal was not delivered")
        except KeyboardInterrupt:
            os.kill(os.getpid(), number)
            cleaned.append(True)
            raise

    app.during = during
    before = signal.getsignal(number)
    assert run("anonymize", "a.mp4") == 130
    assert cleaned
    assert capsys.readouterr().err == "m2fp-stream: interrupted; nothing unfinished was kept\n"
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_from_outside_stays_ignored(here: Path, app: FakeApp) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        app.during = lambda: os.kill(os.getpid(), signal.SIGHUP)
        assert run("anonymize", "a.mp4") == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_main_works_outside_the_main_thread(here: Path, app: FakeApp) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(run("anonymize", "a.mp4")))
    thread.start()
    thread.join()
    assert codes == [0]


# -- batches ---------------------------------------------------------------------------------------


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
    (here / "in/a.mp4").write_bytes(b"")
    assert run("anonymize", "in", "-o", "nope") == 5
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


@pytest.mark.parametrize("words", [[], ["--progress", "off"]])
def test_jobs_run_in_processes_of_this_program(
    words: list[str], here: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    started: list[list[str]] = []
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        started.append(command[1:])
        name = Path(command[-1]).name
        code = {"a.mp4": "0", "b.mkv": "3"}.get(name)
        kill = "import os; os.kill(os.getpid(), 9)"
        return real([sys.executable, "-c", kill if code is None else f"raise SystemExit({code})"])

    monkeypatch.setattr(subprocess, "Popen", popen)
    options = "--jobs 2 --hide face,hair --effect solid --effect hair=mosaic --crf 3 --salvage"
    options += " --start 0:01 --strict --overwrite --config c.yaml"
    (here / "c.yaml").touch()
    assert run("anonymize", "a.mp4", "b.mkv", "c.gif", "no.mp4", *options.split(), *words) == 8
    assert [command[-1] for command in started] == ["a.mp4", "b.mkv", "c.gif"]
    assert set(started[0][:-2]) == {
        "-P",
        "-m",
        "m2fp_stream",
        "anonymize",
        f"--progress={'off' if words else 'lines'}",
        "--hide=face,hair",
        "--effect=solid",
        "--effect=hair=mosaic",
        "--crf=3",
        "--salvage",
        "--start=0:01",
        "--strict",
        "--overwrite",
        "--config=c.yaml",
        "--output=a.anonymized.mp4",
    }
    err = capsys.readouterr().err
    assert "error: c.gif: its process was ended by SIGKILL" in err
    assert "error: no.mp4: no such file" in err
    assert err.endswith("error: 3 of 4 files failed, see above; the others are complete\n")


def test_a_child_process_understands_what_it_is_given(here: Path, app: FakeApp) -> None:
    """Options survive the way through `_as_arguments`."""
    _, commands = cli._parsers()
    options = "--hide face,hair --effect solid --effect hair=mosaic --crf 3 --end 1:00 --salvage "
    options += "--parser m2fp --model-dir weights --tiles 2"
    words = ["a.mp4", *options.split()]
    args = commands["anonymize"].parse_args(words)
    again = cli._as_arguments(args, cli._Job(Path("a.mp4"), Path("2.mp4")))
    assert run("anonymize", *words, "-o", "1.mp4") == 0
    assert run("anonymize", "a.mp4", *again, "-o", "2.mp4") == 0
    assert app.calls[0][2] == app.calls[1][2] != Settings()


def test_a_child_process_gets_nothing_that_its_file_has_no_use_for(
    here: Path, app: FakeApp, monkeypatch: Patch, capsys: Capture
) -> None:
    started: list[list[str]] = []
    real = subprocess.Popen

    def popen(command: list[str], **_: Any) -> subprocess.Popen[bytes]:
        started.append(command[4:])
        return real([sys.executable, "-c", ""])

    monkeypatch.setattr(subprocess, "Popen", popen)
    (here / "c.yaml").write_text("m2fp: {tiles: 2}", encoding="utf-8")
    options = "--hide face --crf 3 --preset fast --start 1 --end 2 --config c.yaml --jobs 2"
    assert run("anonymize", "a.mp4", "d.jpg", *options.split()) == 0
    assert capsys.readouterr().err.count("m2fp.tiles: set in vain") == 1
    for words in started:
        assert run(*words) == 0
        assert app.settings.policy.hide == "face"
    assert capsys.readouterr().err == ""  # the batch has said it
    crfs = {call[0].name: call[2].output.crf for call in app.calls}
    assert crfs == {"a.mp4": 3, "d.jpg": Settings().output.crf}


def test_an_interrupted_batch_ends_its_processes(here: Path, monkeypatch: Patch) -> None:
    children: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        children.append(real([sys.executable, "-c", "import time; time.sleep(600)"]))
        return children[-1]

    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr("time.sleep", sleep)
    assert run("anonymize", "a.mp4", "b.mkv", "c.gif", "--jobs", "2") == 130
    assert [child.returncode for child in children] == [-signal.SIGTERM] * 2


# -- progress --------------------------------------------------------------------------------------


def test_without_a_terminal_there_is_a_line_every_ten_seconds(
    here: Path, app: FakeApp, capsys: Capture
) -> None:
    app.progress = [Progress(n, 1000, n / 10) for n in range(0, 1001, 10)]
    app.progress.append(Progress(4000, None, 200.0))
    assert run("anonymize", "a.mp4") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "m2fp-stream: a.mp4: 100/1000 frames, 10.0 fps, 0:01:30 left"
    assert lines[-1] == "m2fp-stream: a.mp4: 4000 frames, 20.0 fps"
    assert len(lines) == 11
    (here / "a.anonymized.mp4").unlink()
    assert run("anonymize", "a.mp4", "--progress", "off") == 0
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_is_a_bar_and_warnings_stay_above_it(
    here: Path, app: FakeApp, capsys: Capture, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    app.progress = [Progress(0, 10, 0.0), Progress(5, 10, 2.0), Progress(10, 10, 2.01)]
    app.warnings = ["[b]HDR[/b] " + "x" * 120]
    threads = threading.active_count()
    app.during = lambda: counted.append(threading.active_count())
    counted: list[int] = []
    assert run("anonymize", "a.mp4") == 0
    err = capsys.readouterr().err
    assert "5/10 frames, 2.5 fps, 0:00:02 left" in err
    assert "10/10 frames, 5.0 fps" in err
    assert "m2fp-stream: warning: a.mp4: [b]HDR[/b] " + "x" * 120 in err
    assert counted == [threads]


# -- the other commands ----------------------------------------------------------------------------


def test_models_list_names_licence_and_origin(capsys: Capture) -> None:
    assert run("models", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "LICENCE", "ORIGIN", "SIZE", "RUNTIME"]
    entries = store.read_manifest()
    for name, line in zip(("m2fp", "m2fp-lip"), lines[1 + len(entries) :], strict=True):
        assert line.split()[0] == name
        assert "CC BY-NC 4.0" in line
        assert line.endswith("not pulled")
    for entry, line in zip(entries, lines[1:], strict=False):
        for word in (entry.name, entry.licence, entry.origin.package, entry.runtime):
            assert word in line


def test_models_verify_is_4_where_a_hash_differs(capsys: Capture, monkeypatch: Patch) -> None:
    assert run("models", "verify") == 0
    assert capsys.readouterr().out.count(": ok\n") == len(store.read_manifest())
    bad = [
        store.VerifyResult(name="one", ok=True, problem=""),
        store.VerifyResult(name="two", ok=False, problem="model two: another hash"),
    ]
    monkeypatch.setattr(store, "verify_all", lambda: bad)
    assert run("models", "verify") == 4
    out, err = capsys.readouterr()
    assert out == "one: ok\ntwo: model two: another hash\n"
    assert err == "m2fp-stream: error: 1 of 2 models are not as they were: two\n"


def test_parse_writes_png_and_prints_the_labels(
    here: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    calls = []

    def parse_image(
        path_in: Path, path_out: Path, config: Settings, **options: object
    ) -> ParseSummary:
        calls.append((path_in, path_out, options["format"], options["overwrite"]))
        return ParseSummary(str(path_out), {"hair": 20, "background": 60, "face": 20}, (10, 10))

    monkeypatch.setattr("m2fp_stream.app.stills.parse_image", parse_image)
    assert run("parse", "d.jpg", "-o", "x.png", "--format", "palette", "--overwrite") == 0
    assert calls == [(Path("d.jpg"), Path("x.png"), "palette", True)]
    assert capsys.readouterr().out == (
        "d.jpg -> x.png: 10x10; 0 background 60.0%, 2 hair 20.0%, 13 face 20.0%\n"
    )
    (here / "out").mkdir()
    (here / "d.bmp").touch()
    calls.clear()
    assert run("parse", here, "-o", "out") == 0
    assert [call[1] for call in calls] == [Path("out/d.png"), Path("out/d.jpg.png")]


def test_parse_refuses_to_write_labels_over_another_picture(
    here: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    (here / "d.png").write_bytes(b"a photo")
    assert run("parse", "d.jpg", "d.png", "-o", ".", "--overwrite") == 2
    assert "d.png is another input" in one_error(capsys)


def test_check_config_says_what_differs_or_lists_every_problem(
    here: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("M2FP_STREAM_NONSENSE", "is not about the file")
    (here / "good.yaml").write_text("output: {crf: 3}\npolicy: {hide: head}", encoding="utf-8")
    (here / "bad.yaml").write_text("output: {crf: 99, nope: 1}", encoding="utf-8")
    assert run("check-config", "good.yaml", ROOT / "configs/anonymize.yaml") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "good.yaml: valid; not as by default: output.crf"
    assert lines[1].endswith("not as by default: nothing")
    assert run("check-config", "bad.yaml") == 2
    out, err = capsys.readouterr()
    assert [line.split(": ")[1] for line in out.splitlines()] == ["output.crf", "output.nope"]
    assert err.count("\n") == 1


def test_a_reader_that_leaves_is_no_internal_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "m2fp_stream", "models", "list"],
        cwd=ROOT,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_debug_logging_is_redacted(here: Path, app: FakeApp) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import logging; from m2fp_stream import cli\n"
            "cli._run = lambda _: logging.getLogger('x').debug('rtsp://me:pass@cam/') or 0\n"
            "cli.main(['--debug'])",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "m2fp-stream: DEBUG: x: rtsp://***@cam/\n"


# -- doctor ----------------------------------------------------------------------------------------


def test_doctor_says_yes_where_everything_is_there(capsys: Capture) -> None:
    assert run("doctor") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == "anonymize can run"
    for word in ("Python", "system", "CPU", "memory", "FFmpeg", "libx264", "hardening", "SHA-256"):
        assert word in out
    for word in ("network", "not used", "cache folder", "embedded: loads and runs"):
        assert word in out


def test_doctor_says_what_the_cache_folder_holds(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "m2fp-stream"
    assert run("doctor") == 0
    assert f"{folder} (empty)" in capsys.readouterr().out
    (folder / "m2fp").mkdir(parents=True)
    (folder / "m2fp" / "one.onnx").write_bytes(bytes(2_000_000))
    assert run("doctor") == 0
    assert f"{folder} (2 MB of models)" in capsys.readouterr().out


def test_doctor_knows_the_dependencies_of_the_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    assert set(doctor._PACKAGES) == {name.partition(">")[0] for name in wanted}


@pytest.mark.parametrize(
    ("message", "text", "remedy"),
    [
        ("No module named 'cv2'", "not installed", "pip install opencv-python"),
        (
            "libGL.so.1: cannot open shared object file: No such file or directory",
            "needs the system library libGL.so.1",
            "apt-get install libxcb1 libgl1 libglib2.0-0",
        ),
    ],
)
def test_doctor_says_what_is_missing_and_is_2(
    message: str, text: str, remedy: str, capsys: Capture, monkeypatch: Patch
) -> None:
    real = importlib.import_module

    def import_module(name: str) -> object:
        if name == "cv2":
            raise ImportError(message)
        return real(name)

    monkeypatch.setattr("importlib.import_module", import_module)
    assert run("doctor") == 2
    out, err = capsys.readouterr()
    assert f"opencv-python  {text}\n" in out
    assert "anonymize can run" not in out
    assert "weights" not in out, "looked at with a package missing"
    assert err.startswith(f"m2fp-stream: error: anonymize cannot run: opencv-python: {text}")
    assert remedy in err
    assert err.count("\n") == 1


def test_doctor_wants_the_h264_encoder(capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setattr("av.codecs_available", {"mpeg4"})
    assert run("doctor") == 2
    assert "without libx264" in capsys.readouterr().err


def test_doctor_is_4_where_weights_are_not_as_shipped(capsys: Capture, monkeypatch: Patch) -> None:
    bad = [store.VerifyResult(name="x", ok=False, problem="model x: another hash")] * 2
    monkeypatch.setattr(store, "verify_all", lambda: bad)
    assert run("doctor") == 4
    assert "model x: another hash (and 1 more, above); reinstall" in capsys.readouterr().err

    def unreadable() -> list[store.VerifyResult]:
        raise errors.ModelError("no manifest")

    monkeypatch.setattr(store, "verify_all", unreadable)
    assert run("doctor") == 4
    assert "weights: no manifest" in capsys.readouterr().err


def test_doctor_is_4_where_the_parser_does_not_run(capsys: Capture, monkeypatch: Patch) -> None:
    def load_parser(name: str, *_: object) -> object:
        raise errors.ParserError("no runtime")

    monkeypatch.setattr("m2fp_stream.app.stills.load_parser", load_parser)
    assert run("doctor") == 4
    assert "parser: no runtime" in capsys.readouterr().err


def test_doctor_works_on_systems_without_proc(capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setattr(doctor, "_line_of", lambda path, pattern: "")
    monkeypatch.setattr("platform.system", lambda: "Plan9")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert run("doctor") == 0
    out = capsys.readouterr().out
    assert "unknown on this system" in out
    assert "only Linux is tested" in out
    monkeypatch.undo()
    assert doctor._line_of("/nonexistent", "x") == ""


def test_logging_uses_the_root_logger_once(here: Path, app: FakeApp) -> None:
    before = list(logging.getLogger().handlers)
    run("anonymize", "a.mp4")
    assert logging.getLogger().handlers == before


def test_a_signal_in_the_middle_of_a_write_comes_after_it(here: Path, app: FakeApp) -> None:
    """A library that writes through our file would swallow the exception."""
    from m2fp_stream.sinks.base import PartFile

    written: list[int] = []
    real = os.write

    def write(fd: int, data: memoryview) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.02)  # the handler ran, and runs again
        written.append(real(fd, data))
        return written[-1]

    def during() -> None:
        part = PartFile(here / "part", overwrite=False)
        try:
            os.write = write  # type: ignore[assignment]  # given back below
            part.write(b"header")
            os.write = real
            time.sleep(5)
        finally:
            os.write = real
            part.discard()

    app.during = during
    assert run("anonymize", "a.mp4") == 130
    assert written == [6]
