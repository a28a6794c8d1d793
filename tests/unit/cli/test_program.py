"""From words to a command, from its error to an exit code and one line."""

from __future__ import annotations

import errno
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from m2fp_stream.cli import program
from m2fp_stream.cli.arguments import parsers
from m2fp_stream.cli.options import _GROUPS, OPTIONS
from m2fp_stream.config import Settings
from m2fp_stream.core import errors
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import Effect
from tests.kit.cli import FakeApp, one_error, run

ROOT = Path(__file__).resolve().parents[3]

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


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
        ("anonymize a.mp4 --audio loud", "--audio: expected 'drop', 'keep' or 'disguise'"),
        ("anonymize a.mp4 --audio keep --mute 0:12", "--mute: expected a time from BEGIN-END"),
        ("anonymize a.mp4 --audio keep --mute 9-3", "--mute: '9-3' ends before it begins"),
        ("anonymize a.mp4 --audio keep --mute 1:75-2:00", "--mute: expected seconds or H:MM:SS"),
        ("anonymize a.mp4 --mute 0-3", "--mute: all sound is left out; add --audio keep or dis"),
        ("anonymize a.mp4 --audio drop --mute 0-3", "--mute: all sound is left out; "),
        ("parse d.jpg -o x.png --audio keep", "unknown option '--audio'; "),
        ("preview --audio keep", "unknown option '--audio'; "),
        ("anonymize a.mp4 --parser m3fp", "--parser: expected embedded or m2fp, got 'm3fp'"),
        ("anonymize a.mp4 --parser m2fp --tiles 9", "--tiles: expected less than or equal to 8"),
        ("anonymize a.mp4 --tiles 2", "--tiles: is for M2FP; add --parser m2fp or leave it out"),
        ("anonymize a.mp4 --parser embedded --model-dir w", "--model-dir: is for M2FP; "),
        ("parse d.jpg -o x.png --tiles 2", "--tiles: is for M2FP; "),
        ("preview --source synthetic --model-dir w", "--model-dir: is for M2FP; "),
        (
            "anonymize d.jpg --crf 3",
            "--crf: is for MP4, MKV and WebM files; d.anonymized.jpg is none, leave it",
        ),
        ("anonymize d.jpg --preset fast", "--preset: is for MP4, MKV and WebM files; "),
        (
            "anonymize c.gif --crf 3",
            "--crf: is for MP4, MKV and WebM files; c.anonymized.gif is none",
        ),
        (
            "anonymize a.mp4 -o x.gif --crf 3",
            "--crf: is for MP4, MKV and WebM files; x.gif is none",
        ),
        ("anonymize a.mp4 --encoder h264", "--encoder: expected 'x264', 'x265', 'av1' or 'vp9'"),
        ("anonymize a.mp4 --encoder vp9", "--encoder: expected x264 or x265 or av1 in MP4"),
        ("anonymize a.mp4 -o a.webm --encoder x264", "--encoder: expected av1 or vp9 in WebM"),
        ("anonymize a.mp4 --container avi", "--container: expected 'mp4', 'mkv' or 'webm'"),
        ("anonymize a.mp4 -o x.mkv --container mp4", "--container mp4: x.mkv is .mkv; name one"),
        ("anonymize a.mp4 -o x.webm --crf 64", "--crf: expected less than or equal to 63"),
        ("anonymize a.mp4 --crf 3 --bitrate 4M", "--crf and --bitrate exclude each other; name"),
        ("anonymize a.mp4 --keep-quality --crf 3", "--crf and --keep-quality exclude each other"),
        ("anonymize a.mp4 --bitrate 4X", "--bitrate: expected a bit rate such as 4M or 800k"),
        ("anonymize a.mp4 --bitrate 9", "--bitrate: expected a bit rate from 10k to 1000M"),
        ("anonymize d.jpg --bitrate 4M", "--bitrate: is for MP4, MKV and WebM files; "),
        ("anonymize a.mp4 -o %d.png --encoder av1", "--encoder: is for MP4, MKV and WebM files; "),
        ("anonymize a.mp4 --fps 9", "--fps: is for numbered pictures, such as frames/%06d.png; "),
        ("anonymize a%d.png -o x.mp4 --fps 1/0", "--fps: expected a rate such as 25 or 30000/1001"),
        ("anonymize a%d.png -o x.mp4 --fps -1", "--fps: expected greater than 0"),
        ("anonymize a%d.png", "a%d.png: name an output file with -o"),
        ("anonymize -", "-: name an output file with -o"),
        ("anonymize - a.mp4 -o x", "-: goes alone; run again for the other inputs"),
        ("anonymize a.mp4 b.mkv -o -", "-o -: is for one input, a file; name a folder for several"),
        ("anonymize a.mp4 b.mkv -o %d.png", "-o %d.png: is for one input, a file; "),
        ("parse d.jpg -o -", "-: label maps do not go through pipes; name files"),
        ("anonymize d.jpg --start 1", "--start: is for videos and GIFs; d.jpg is none"),
        ("anonymize d.jpg --end 1", "--end: is for videos and GIFs; d.jpg is none"),
        ("anonymize c.gif d.jpg --preset fast", "--preset: is for MP4, MKV and WebM files; "),
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
        ("models export --size 5 m2fp", "models export: --size: expected WIDTHxHEIGHT, got '5'"),
        ("models list x", "models list: unexpected argument 'x'"),
        ("models list x y", "models: unexpected argument 'y'"),
        ("doctor x", "doctor: unexpected argument 'x'"),
        ("doctor -- -x", "doctor: unexpected argument '-x'"),
        ("check-config", "check-config: name at least one file"),
        ("completion", "the following arguments are required: shell"),
        ("completion ksh", "shell: invalid choice: 'ksh'"),
        ("anonymize ''", "an empty argument; a variable of the shell may be unset"),
        ("anonymize a.mp4 -o ''", "an empty argument; "),
        ("anonymize a.mp4 --output=", "--output: an empty argument; "),
        ("anonymize '' --overwrite", "an empty argument; "),
        ("--verbose", "unknown command '--verbose'; did you mean --ver"),
    ],
)
def test_a_usage_error_is_one_line_that_helps(
    words: str, expected: str, here: Path, capsys: Capture, app: FakeApp
) -> None:
    before = sorted(here.iterdir())
    assert run(*shlex.split(words)) == 2
    assert one_error(capsys).startswith(expected)
    assert app.calls == []
    assert sorted(here.iterdir()) == before


def test_help_and_version_leave_with_zero(capsys: Capture) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == "m2fp-stream 0.1.0\n"
    for words in (["--help"], *([name, "-h"] for name in parsers()[1])):
        assert run(*words) == 0
        assert "m2fp-stream" in capsys.readouterr().out


def test_help_is_a_manual(capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setenv("COLUMNS", "96")
    for name in parsers()[1]:
        run(name, "--help")
        text = capsys.readouterr().out
        assert text.startswith(f"usage: m2fp-stream {name} ")
        for word in ("examples", f"\n  m2fp-stream {name}", "exit codes:", "130 interrupted"):
            assert word in text, name
        assert max(map(len, text.splitlines())) <= 104, name
        reads_options = name not in ("devices", "models", "doctor", "check-config", "completion")
        assert ("M2FP_STREAM_SECTION__FIELD" in text) is reads_options, name
    run("--help")
    text = capsys.readouterr().out
    for word in ("XDG_DATA_HOME", "DISPLAY", "MODELSCOPE_API_TOKEN", "NO_COLOR", "exit codes"):
        assert word in text
    run("anonymize", "--help")
    text = capsys.readouterr().out
    places = [
        text.index(f"\n{title}:\n")
        for title in ("options", *dict.fromkeys(_GROUPS.values()))
        if title != "the page"
    ]
    assert len(places) == 6


def test_help_states_the_real_defaults_and_names(capsys: Capture) -> None:
    run("anonymize", "--help")
    text = " ".join(capsys.readouterr().out.split())
    given = Settings().model_dump(mode="json")
    for option in OPTIONS:
        values = {str(given[key.split(".")[0]][key.split(".")[1]]) for key in option.keys}
        assert len(values) == 1, f"{option.flag}: {option.keys} differ by default"
        stated = option.help.rpartition("(default: ")[2].rstrip(")")
        unset = {
            "None": {
                "from the beginning",
                "to the end",
                "what was pulled",
                "none",
                "the shipped one",
            }
            | {"by the container", "by the encoder", "its own, the largest of the first 10 s"},
            "False": {"refuse", "embedded", "no"},
            "[]": {"none"},
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

    monkeypatch.setattr(program, "harden", harden)
    monkeypatch.setattr(program, "_run", lambda _: pytest.fail("ran before hardening"))
    with pytest.raises(First):
        run("--version")


def test_inputs_and_options_may_be_mixed(here: Path, app: FakeApp) -> None:
    (here / "-x.mp4").write_bytes(b"x")
    assert run("anonymize", "--crf", "3", "a.mp4", "--salvage", "b.mkv", "--", "-x.mp4") == 0
    assert [call[0].name for call in app.calls] == ["a.mp4", "b.mkv", "-x.mp4"]


def test_a_folder_that_was_deleted_under_the_shell_is_said_to_be_that(
    here: Path, app: FakeApp, capsys: Capture, monkeypatch: Patch
) -> None:
    (here / "gone").mkdir()
    monkeypatch.chdir(here / "gone")
    (here / "gone").rmdir()
    assert run("anonymize", "a.mp4", "-o", here) == 3
    assert one_error(capsys) == "a.mp4: the current folder was deleted; change to another one"
    assert run("anonymize", here / "a.mp4") == 0
    assert app.outputs == [here / "a.anonymized.mp4"]


def test_an_output_that_takes_no_help_is_told_whatever_argparse_makes_of_it(
    capsys: Capture, monkeypatch: Patch
) -> None:
    """Its versions let the error pass, or swallow it and leave with 0."""

    def full(text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for words in (["--version"], ["--help"], ["anonymize", "--help"]):
        with monkeypatch.context() as patched:
            patched.setattr(sys.stdout, "write", full)
            assert run(*words) == 5
        assert one_error(capsys).startswith("standard output: cannot be written (No space left")


def test_a_full_stderr_does_not_decide_the_exit_code() -> None:
    """What it still holds when the interpreter ends makes 120 of any code, in some versions."""
    code = (
        "import sys; from m2fp_stream.cli.program import carry_out\n"
        "sys.stderr = open('/dev/full', 'w')\n"
        "def work(): raise ValueError\n"
        "code = carry_out(work, debug=False)\n"
        "sys.stderr.flush()\n"
        "print(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_closed_streams_are_completed_before_libraries_take_their_numbers() -> None:
    """Newer versions of libffi keep a file open."""
    code = (
        "import os; from m2fp_stream.cli import main, streams\n"
        "seen = []\n"
        "real = streams.complete\n"
        "import m2fp_stream.cli as cli, sys\n"
        "cli.complete = lambda: (seen.append('ctypes' in sys.modules), real())\n"
        "main(['--version'])\n"
        "os.write(2, f'{seen} {sys.stdout.fileno()} {os.readlink(\"/proc/self/fd/1\")}'.encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=lambda: os.close(1),
    )
    assert done.stderr == "[False] 1 /dev/null"


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
    assert line.startswith("internal error: ValueError at cli.py:")
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


def test_signals_that_come_together_are_one_interrupt() -> None:
    """Of a signal that came before it was set to be ignored Python complains on stderr."""
    code = (
        "import os, signal; from m2fp_stream.cli.interrupts import until_interrupted\n"
        "def work():\n"
        "    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)\n"
        "    for number in numbers:\n"
        "        os.kill(os.getpid(), number)\n"
        "    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)\n"
        "code = until_interrupted(work, told=True, last=True)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "raise SystemExit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "m2fp-stream: interrupted; nothing unfinished was kept\n"


def test_a_signal_in_generated_code_is_an_exit_code_too(tmp_path: Path) -> None:
    """Dataclasses are; a plain KeyboardInterrupt from there makes Python kill itself at its end."""
    code = (
        "from m2fp_stream.cli.interrupts import until_interrupted\n"
        "def work():\n"
        "    exec('import os, signal; os.kill(os.getpid(), signal.SIGINT); list(range(9))')\n"
        "raise SystemExit(until_interrupted(work, told=False, last=True))"
    )
    (tmp_path / "mod.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mod"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, b"")


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


def test_a_signal_in_the_middle_of_a_write_comes_after_it(here: Path, app: FakeApp) -> None:
    """A library that writes through our file would swallow the exception."""
    from m2fp_stream.core.part_file import PartFile

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
            "import logging; from m2fp_stream.cli.program import carry_out\n"
            "log = logging.getLogger('x')\n"
            "carry_out(lambda: log.debug('rtsp://me:pass@cam/'), debug=True)",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "m2fp-stream: DEBUG: x: rtsp://***@cam/\n"


def test_logging_uses_the_root_logger_once(here: Path, app: FakeApp) -> None:
    before = list(logging.getLogger().handlers)
    run("anonymize", "a.mp4")
    assert logging.getLogger().handlers == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--source", "me:s3 cret@cam/live"], "preview --source ***"),
        (["--source=me:s3 cret@cam"], "preview ***"),
        (["--camera", "//me:s3cret@cam"], "preview --camera ***"),
        (["--source", "cam/v?key=s3cret"], "preview --source ***"),
        (["--source", "rtsp//me:s3cret@cam"], "preview --source ***"),
        (["--source", "rtsp://me:s3 cret@cam/live"], "preview --source rtsp://***@cam/live"),
        (["--source", "me@s3cret", "--source", "me@s3cret"], "preview --source *** --source ***"),
        (["--camera", "2", "--seconds", "1"], "preview --camera 2 --seconds 1"),
    ],
)
def test_a_source_that_may_hold_a_password_leaves_the_list_of_processes(
    words: list[str], expected: str, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from m2fp_stream.cli import program\n"
        "line = Path('/proc/self/cmdline')\n"
        "program._run = lambda _, last: print(line.read_text().split('\\0', 3)[3])\n"
        "program.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "preview", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    shown = [word.rstrip("*") for word in done.stdout.split("\0")]  # as long as what was there
    assert shown[:-1] == [word.rstrip("*") for word in expected.split()]


@pytest.mark.parametrize(
    "source",
    [
        *("me:s3cret@cam/live", "//me:s3cret@cam", "cam/v?key=s3cret", "rtsp//me:s3cret@cam"),
        *("rtsp:/me:s3cret@cam", "me:s3 cret@cam", "camera:me:s3cret@cam", "rtsp://me:s3cret"),
    ],
)
@pytest.mark.parametrize("flag", ["--source", "--camera"])
def test_no_error_about_a_source_quotes_its_password(
    flag: str, source: str, here: Path, capsys: Capture
) -> None:
    assert run("preview", "--no-window", "--seconds", "1", flag, source) in (2, 3)
    assert "cret" not in "".join(capsys.readouterr())
    run("preview", source)
    assert "cret" not in "".join(capsys.readouterr())
