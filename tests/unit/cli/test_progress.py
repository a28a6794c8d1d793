"""What goes on: a line or a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from m2fp_stream.cli.progress import PullDisplay, StatusLine
from m2fp_stream.core.records import Progress
from tests.kit.cli import FakeApp, run

ROOT = Path(__file__).resolve().parents[3]

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


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


@pytest.mark.parametrize("terminal", ["dumb", "unknown"])
def test_a_terminal_that_cannot_renew_a_line_gets_lines(
    terminal: str, here: Path, app: FakeApp, capsys: Capture, monkeypatch: Patch
) -> None:
    """An editor's or a serial one; of a bar it would show nothing until the end."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", terminal)
    app.progress = [Progress(50, 100, 20.0)]
    assert run("anonymize", "a.mp4") == 0
    line = StatusLine()
    line.show(FACTS)
    line.end()
    told, facts = capsys.readouterr().err.splitlines()
    assert told == "m2fp-stream: a.mp4: 50/100 frames, 2.5 fps, 0:00:20 left"
    assert facts.startswith("m2fp-stream: 12.3 fps, ")


FACTS = {
    "fps": 12.34,
    "latency_ms": {"p50": 40.0},
    "cover_age_ms": None,
    "look_ms": {"faces": {"p50": 9.6}},
    "dropped": 3,
    "source": "up",
    "waiting_for": None,
}
NUMBERS = "12.3 fps, delay 40 ms, cover age -, looks for faces 10 ms, 3 dropped, source up"


def on_terminal(monkeypatch: Patch) -> None:
    """Has stderr be a terminal of 60 columns; pytest has another stderr in fixtures."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")


def test_without_a_terminal_a_live_run_says_a_line_now_and_then(capsys: Capture) -> None:
    line = StatusLine()
    for _ in range(3):
        line.show(FACTS)
    line.say("rtsp://me:pass@cam/\x1b[2J is away")
    line.say_address("http://127.0.0.1:1/?token=abc")
    line.end()
    assert capsys.readouterr().err.splitlines() == [
        f"m2fp-stream: {NUMBERS}",
        "m2fp-stream: rtsp://***@cam/\\x1b[2J is away",
        "m2fp-stream: http://127.0.0.1:1/?token=abc",
    ]


def test_on_a_terminal_a_live_run_renews_one_line_and_sentences_stay_above_it(
    capsys: Capture, monkeypatch: Patch
) -> None:
    on_terminal(monkeypatch)
    threads = threading.active_count()
    line = StatusLine()
    line.say("before")
    line.show(FACTS)
    line.show({**FACTS, "waiting_for": "a look"})
    line.say("[b]in between[/b] " + "x" * 80)
    assert threading.active_count() == threads
    line.end()
    line.say("after")
    err = capsys.readouterr().err
    assert err.startswith("m2fp-stream: before\n")
    assert NUMBERS[:50] in err
    assert NUMBERS not in err, "longer than the terminal: it would break, and not be renewed"
    assert "m2fp-stream: [b]in between[/b] " + "x" * 80 in err
    assert err.endswith("m2fp-stream: after\n")
    assert "\x1b[?25h" in err, "the cursor has to come back"


def test_a_live_runs_output_is_not_taken_by_its_status_line(
    capsys: Capture, monkeypatch: Patch
) -> None:
    on_terminal(monkeypatch)
    out, err = sys.stdout, sys.stderr
    line = StatusLine()
    line.show(FACTS)
    try:
        assert (sys.stdout, sys.stderr) == (out, err)
    finally:
        line.end()


def test_without_a_terminal_the_first_and_the_last_of_a_pull_are_told(capsys: Capture) -> None:
    with PullDisplay() as display:
        for megabytes in range(5):
            display.update("weights", megabytes * 1_000_000, 4_000_000)
        display.update("other", 1_500_000, None)
    assert capsys.readouterr().err.splitlines() == [
        "m2fp-stream: weights: 0.0 MB of 4.0 MB (0%)",
        "m2fp-stream: weights: 4.0 MB of 4.0 MB (100%)",
    ]


def test_on_a_terminal_each_file_of_a_pull_has_its_bar(capsys: Capture, monkeypatch: Patch) -> None:
    on_terminal(monkeypatch)
    threads = threading.active_count()
    with PullDisplay() as display:
        assert capsys.readouterr().err == "", "the licence is asked for before anything comes"
        display.update("[b]notes[/b]", 1_000, 1_000)
        display.update("weights", 4_000_000, 4_000_000)
        assert threading.active_count() == threads
    err = capsys.readouterr().err
    assert "[b]notes[/b]" in err
    assert "4.0 MB of 4.0 MB (100%)" in err
    assert "\x1b[?25h" in err
