"""The rules of tests/conftest.py fail the test that breaks them, and no other."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

OFFENDERS = """
from __future__ import annotations
import logging, subprocess, sys, threading, time
import pytest

def test_leaves_a_thread():
    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()

def test_leaves_a_process():
    test_leaves_a_process.kept = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)

def test_logs_an_error():
    logging.getLogger("somewhere").error("unexpected")

@pytest.mark.allow_error_logs
def test_may_log_an_error():
    logging.getLogger("somewhere").error("provoked")

def test_cleans_up():
    thread = threading.Thread(target=time.sleep, args=(0,))
    thread.start()
    subprocess.run([sys.executable, "-c", ""], check=True)
    logging.getLogger("somewhere").warning("expected")
    thread.join()

def test_warns():
    import warnings
    warnings.warn("unexpected")

def test_wants_footage(data_dir):
    pass
"""


def test_each_offence_fails_its_own_test(tmp_path: Path) -> None:
    file = tmp_path / "test_offenders.py"
    file.write_text(OFFENDERS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-vv", "--grace-s=0.5", f"--config-file={ROOT / 'pyproject.toml'}", str(file)],
        cwd=ROOT,
        env={"PATH": "", "M2FP_STREAM_TEST_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    summary = dict(re.findall(r"^(?:ERROR|FAILED) \S*::(\w+) - (.+)$", done.stdout, re.MULTILINE))
    assert set(summary) == {
        *("test_leaves_a_thread", "test_leaves_a_process", "test_logs_an_error", "test_warns"),
    }, done.stdout + done.stderr
    assert "left behind: thread" in summary["test_leaves_a_thread"]
    assert "left behind: process" in summary["test_leaves_a_process"]
    assert "ERROR logged by somewhere: unexpected" in summary["test_logs_an_error"]
    assert "UserWarning" in summary["test_warns"]
    assert re.search(r"SKIPPED .*no footage in .*set M2FP_STREAM_TEST_DATA", done.stdout)


WITH_A_SIGNAL = "test_a_signal_is_130_and_a_second_one_does_not_disturb_the_cleaning"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_tests_start_hears_the_signals_that_their_parent_was_told_to_ignore(
    number: signal.Signals, tmp_path: Path
) -> None:
    name = f"tests/unit/cli/test_program.py::{WITH_A_SIGNAL}[{number.value}]"
    program = (
        "import os, signal, sys\n"
        f"signal.signal({number.value}, signal.SIG_IGN)\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    words = [sys.executable, "-c", program, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
