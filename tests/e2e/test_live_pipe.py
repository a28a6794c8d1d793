"""Live runs that write into a pipe: what happens when whoever reads it leaves, or stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kit.cli import clean_environment, program
from tests.kit.wait import PATIENCE_S, wait_until


def run_into_a_pipe(folder: Path, config: dict[str, object]) -> subprocess.Popen[bytes]:
    """Starts a live run that writes into a pipe, and reads the beginning of what it writes."""
    (folder / "run.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    process = subprocess.Popen(
        [*program("run", "run.yaml"), "--stats=stats.json"],
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 9) == b"YUV4MPEG2"
    return process


PIPED = {
    "capture": {"input": "synthetic"},
    "synthetic": {"width": 160, "height": 120},
    "pipe": {"enabled": True, "timeout_s": 1.0},
}


@pytest.mark.parametrize("leaves", [True, False])
def test_a_live_run_ends_when_nobody_reads_its_pipe_any_more(leaves: bool, tmp_path: Path) -> None:
    with run_into_a_pipe(tmp_path, PIPED) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            if leaves:
                process.stdout.close()  # otherwise the pipe fills, and nobody empties it
            code = process.wait(PATIENCE_S)
        finally:
            process.kill()
        lines = process.stderr.read().decode().splitlines()
    errors = [line for line in lines if "error: " in line]
    if leaves:  # how somebody who watches ends it
        assert (code, errors) == (0, [])
        assert any("pipe: the pipe's reader has gone" in line for line in lines)
    else:
        assert code == 5
        assert errors == [
            "m2fp-stream: error: the pipe's reader took nothing for 1 s; run again with one that "
            "reads on"
        ]


def test_a_live_run_goes_on_without_its_pipe_while_another_sink_is_left(tmp_path: Path) -> None:
    record = {"enabled": True, "folder": str(tmp_path), "preset": "ultrafast"}
    with run_into_a_pipe(tmp_path, {**PIPED, "record": record}) as process:
        assert process.stdout is not None
        try:
            process.stdout.close()
            until_facts(tmp_path, lambda facts: facts["sinks"]["pipe"]["failures"] == 1)
            before = facts_of(tmp_path)["sinks"]["recording"]["written"]
            until_facts(
                tmp_path, lambda facts: facts["sinks"]["recording"]["written"] > before + 10
            )
            process.send_signal(signal.SIGTERM)
            code = process.wait(PATIENCE_S)
        finally:
            process.kill()
    assert code == 130
    assert not facts_of(tmp_path)["sinks"]["pipe"]["up"]
    assert list(tmp_path.glob("m2fp-stream-*.mp4"))


def facts_of(folder: Path) -> Any:
    return json.loads((folder / "stats.json").read_text())


def until_facts(folder: Path, true: Callable[[Any], bool]) -> None:
    wait_until(lambda: (folder / "stats.json").exists() and true(facts_of(folder)))
