"""Ctrl-C as a terminal sends it, to every process of the command: one line, and nothing is left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.e2e.test_cli_bad_input import snapshot, write_clip
from tests.kit.cli import clean_environment, program
from tests.kit.wait import wait_until

LINE = b"m2fp-stream: interrupted; nothing unfinished was kept\n"


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "long.mp4"
    write_clip(path, frames=2000)
    return path


@pytest.fixture
def folder(tmp_path: Path, long_clip: Path) -> Path:
    for name in ("one.mp4", "two.mp4", "three.mp4"):
        shutil.copyfile(long_clip, tmp_path / name)
    return tmp_path


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        program("anonymize", ".", *words),
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a terminal's signal goes to the whole group
    )


def hears(process: subprocess.Popen[bytes]) -> bool:
    """Whether the program has installed its handlers; before that, Python itself complains."""
    line = next(
        line
        for line in Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
        if line.startswith("SigCgt:")
    )
    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def children(process: subprocess.Popen[bytes]) -> int:
    return len(psutil.Process(process.pid).children(recursive=True))


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def parts(folder: Path) -> int:
    return len(list(folder.glob(".*.part")))


MOMENTS: dict[str, Callable[[subprocess.Popen[bytes], Path], bool]] = {
    "it imports": lambda process, _: hears(process),
    "a child was started": lambda process, _: children(process) > 0,
    "children import": lambda process, _: children(process) > 2,
    "a part file is there": lambda _, folder: parts(folder) > 0,
    "two part files are there": lambda _, folder: parts(folder) > 1,
}


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("moment", list(MOMENTS))
def test_ctrl_c_in_a_batch_is_one_line_and_leaves_nothing(
    moment: str, twice: bool, folder: Path
) -> None:
    before = snapshot(folder)
    process = start(folder, "--jobs", "2")
    wait_until(lambda: MOMENTS[moment](process, folder))
    time.sleep(random.uniform(0, 0.2))
    os.killpg(process.pid, signal.SIGINT)
    if twice:
        time.sleep(random.uniform(0, 0.1))
        os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, LINE)
    assert snapshot(folder) == before
    wait_until(lambda: not is_alive(process.pid))  # who has ended is gone when init has seen it


def test_ctrl_c_in_a_child_that_imports_is_silent(folder: Path) -> None:
    """Without --jobs, too: what looks at pictures takes a second to start."""
    before = snapshot(folder)
    process = start(folder)
    wait_until(lambda: children(process) > 0)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, LINE)
    assert snapshot(folder) == before


def test_a_child_that_was_ended_alone_is_told_and_the_rest_goes_on(folder: Path) -> None:
    for name in ("two.mp4", "three.mp4"):
        write_clip(folder / name, frames=5)
    process = start(folder, "--jobs", "2")
    wait_until(lambda: len(list(folder.glob("[!.]*.anonymized.mp4"))) == 2)
    for child in psutil.Process(process.pid).children():
        child.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 8
    assert b"m2fp-stream: error: one.mp4: its process was interrupted\n" in err
    assert {path.name for path in folder.iterdir()} == {
        *("one.mp4", "two.mp4", "three.mp4"),
        *("two.anonymized.mp4", "three.anonymized.mp4"),
    }


def test_a_batch_that_was_killed_is_resumed_where_it_was(folder: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        write_clip(folder / name, frames=5)
    (folder / "two.mp4").rename(folder / "zero.mp4")  # the long one is the second of three
    process = start(folder, "--resume")
    first = folder / "one.anonymized.mp4"
    wait_until(lambda: first.exists() and parts(folder) > 0)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    write_clip(folder / "three.mp4", frames=5)
    made_ns = first.stat().st_mtime_ns
    again = start(folder, "--resume")
    out, err = again.communicate()
    assert again.returncode == 0
    assert out.count(b" -> ") == 2
    assert b"finished by an earlier run: 1 " in err
    assert first.stat().st_mtime_ns == made_ns
    assert {path.name for path in folder.iterdir()} == {
        *("one.mp4", "three.mp4", "zero.mp4", ".m2fp-stream.journal"),
        *("one.anonymized.mp4", "three.anonymized.mp4", "zero.anonymized.mp4"),
    }
