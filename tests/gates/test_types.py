"""Gate 1: the type checkers refuse a raw frame on its way to a sink.

Every file of tests/typing/must_fail marks the lines that must be errors, and only those:
``# E: mypy-code pyright-rule ...``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "tests" / "typing"
MUST_FAIL = sorted(FOLDER.glob("must_fail/*.py"))
MUST_PASS = sorted(FOLDER.glob("must_pass/*.py"))
BOTH = [*MUST_FAIL, *MUST_PASS]
"""A checker reads what they import once; a mark in the latter would be an error, too."""

Finding = tuple[str, int, str]
"""File name, line, code."""


def expected(files: Sequence[Path], *, pyright: bool) -> set[Finding]:
    findings = set()
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            marked = re.search(r"# E: (.+)$", line)
            codes = marked[1].split() if marked else []
            findings |= {
                (file.name, number, code) for code in codes if code.startswith("report") == pyright
            }
    return findings


def mypy(files: Sequence[Path]) -> set[Finding]:
    command = [sys.executable, "-m", "mypy", "--output=json", "--no-error-summary"]
    done = subprocess.run(
        [*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    errors = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        (Path(error["file"]).name, error["line"], error["code"])
        for error in errors
        if error["severity"] == "error" and Path(error["file"]).is_relative_to("tests/typing")
    }


def pyright(files: Sequence[Path]) -> set[Finding]:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(
        [*command, *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return {
        (Path(error["file"]).name, error["range"]["start"]["line"] + 1, error["rule"])
        for error in json.loads(done.stdout)["generalDiagnostics"]
        if error["severity"] == "error"
    }


def test_there_is_something_to_fail() -> None:
    assert len(expected(MUST_FAIL, pyright=False)) >= 10
    assert len(expected(MUST_FAIL, pyright=True)) >= 10
    assert MUST_PASS
    assert not expected(MUST_PASS, pyright=False) | expected(MUST_PASS, pyright=True)
    assert len({file.name for file in BOTH}) == len(BOTH)


def test_mypy_finds_the_marked_lines_and_no_other() -> None:
    assert mypy(BOTH) == expected(BOTH, pyright=False)


def test_pyright_finds_the_marked_lines_and_no_other() -> None:
    assert pyright(BOTH) == expected(BOTH, pyright=True)
