"""The systemd units of the kiosk: what systemd and our own command line think of them."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from m2fp_stream.cli.arguments import parsers
from m2fp_stream.core.errors import EXIT_INTERRUPTED

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "scripts" / "systemd").glob("*.service"))


def read(path: Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # as documented
    unit.read(path, encoding="utf-8")
    return unit


def test_there_are_units() -> None:
    assert [path.stem for path in UNITS] == ["m2fp-stream-kiosk", "m2fp-stream-page"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_what_there_is(path: Path) -> None:
    program, command, *words = shlex.split(read(path)["Service"]["ExecStart"])
    assert Path(program).name == "m2fp-stream"
    parser, commands = parsers()
    args = commands[command].parse_args(words)
    assert str(args.config) == "%E/m2fp-stream/kiosk.yaml"
    assert read(path)["Service"]["SuccessExitStatus"] == str(EXIT_INTERRUPTED)
    assert parser.prog == "m2fp-stream"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_has_nothing_to_say_about_a_unit(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    program = tmp_path / "m2fp-stream"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = path.read_text(encoding="utf-8").replace("%h/.local/bin/m2fp-stream", str(program))
    told = {
        name: verify(tmp_path, path.name, content)
        for name, content in {
            "as it is": text,
            "the control": text.replace("Restart=always", "Restart=allways"),
        }.items()
    }
    assert told["as it is"] == ""
    assert "allways" in told["the control"]


def verify(folder: Path, name: str, content: str) -> str:
    (folder / name).write_text(content, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(folder / name)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
    )
    return done.stderr + done.stdout
