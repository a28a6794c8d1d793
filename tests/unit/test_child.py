"""Children: what they get of this process, what they do not, and that none outlives it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from m2fp_stream.processes.channel import receive_one
from m2fp_stream.processes.child import (
    Child,
    Reaper,
    Stream,
    start_module,
    start_program,
    start_with_channel,
)

PATIENCE_S = 60.0

TELLS = """
import json, os, sys
from m2fp_stream.processes.child import read_job
job = read_job() if sys.argv[1:2] != ["no-job"] else None
links = [f"/proc/self/fd/{number}" for number in range(1000)]
fds = [os.readlink(link) for link in links if os.path.islink(link)]
print(json.dumps({
    "job": job,
    "rest": sys.stdin.read(),
    "argv": sys.argv[1:],
    "files": fds,
    "environ": dict(os.environ),
    "json": json.__file__,
    "group": os.getpgid(0) == os.getpid(),
}))
"""

SLEEPS = "import time; time.sleep(600)"

Write = Callable[[str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Makes a module that children find."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "made_for_a_child.py").write_text(text, encoding="utf-8")
        return "made_for_a_child"

    return write


def told(name: str, *arguments: str, **options: Any) -> dict[str, Any]:
    """What a child that tells all tells."""
    with start_module(name, *arguments, stdout=Stream.PIPE, **options) as child:
        said: dict[str, Any] = json.loads(child.stdout.read())
        assert child.wait(PATIENCE_S) == 0
    return said


def test_a_child_gets_its_job_once_and_only_what_is_named(
    module: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2FP_STREAM_POLICY__HIDE", "person")
    given, kept = os.pipe(), os.pipe()
    try:
        said = told(
            module(TELLS),
            "word",
            descriptors=given,
            job={"secret": "s3cret", "many": list(range(5000))},
            variables={"ADDED": "1"},
        )
        names = [os.readlink(f"/proc/self/fd/{one}") for one in (*given, *kept)]  # noqa: PTH115  # no file
    finally:
        for one in (*given, *kept):
            os.close(one)
    assert said["job"] == {"secret": "s3cret", "many": list(range(5000))}
    assert said["rest"] == ""
    assert said["argv"] == [*map(str, given), "word"]
    assert names[0] in said["files"]
    assert names[2] not in said["files"]
    assert said["environ"]["ADDED"] == "1"
    assert "M2FP_STREAM_POLICY__HIDE" not in said["environ"]
    assert "s3cret" not in str(said["environ"]) + str(said["argv"])
    assert not said["group"]


def test_a_child_without_a_job_has_an_empty_input_and_may_lead_a_group(module: Write) -> None:
    said = told(module(TELLS), "no-job", new_session=True)
    assert (said["job"], said["rest"], said["group"]) == (None, "", True)


def test_what_lies_in_the_working_folder_is_not_imported(
    module: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit(9)", encoding="ascii")
    monkeypatch.chdir(elsewhere)
    assert Path(told(module(TELLS), job={})["json"]).parent.name == "json"


def test_a_child_that_is_told_nothing_writes_nowhere(
    module: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    says = module("import sys; print('out'); print('error', file=sys.stderr)")
    with start_module(says) as child:
        assert child.wait(PATIENCE_S) == 0
    assert tuple(capfd.readouterr()) == ("", "")
    with start_module(says, stdout=Stream.OURS, stderr=Stream.OURS) as child:
        assert child.wait(PATIENCE_S) == 0
    assert tuple(capfd.readouterr()) == ("out\n", "error\n")


def test_a_child_that_reads_no_job_is_no_error_of_ours(module: Write) -> None:
    with start_module(module("raise SystemExit(3)"), job={"text": "x" * 60_000}) as child:
        assert child.wait(PATIENCE_S) == 3
        assert (child.poll(), child.returncode) == (3, 3)


def test_a_channel_leads_to_the_child(module: Write) -> None:
    speaks = module(
        "import sys\n"
        "from m2fp_stream.processes.channel import inherited, send\n"
        "from m2fp_stream.processes.child import read_job\n"
        "with inherited(sys.argv[1]) as channel:\n"
        "    send(channel, {'got': read_job()})\n"
    )
    child, channel = start_with_channel(speaks, job={"a": 1})
    with child, channel:
        assert receive_one(channel, PATIENCE_S) == {"got": {"a": 1}}
        assert child.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("how", ["no program", "no job"])
def test_what_cannot_be_started_leaves_nothing(
    how: str, module: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = psutil.Process().num_fds()
    if how == "no job":
        with pytest.raises(TypeError):
            start_with_channel(module(SLEEPS), job={"no": object()})
    else:
        with pytest.raises(OSError, match="No such file"):
            start_program(["/no/such/program"])
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        with pytest.raises(OSError, match="No such file"):
            start_with_channel(module(SLEEPS), job={})
    assert psutil.Process().num_fds() == before
    assert psutil.Process().children() == []


def test_the_end_of_the_block_is_the_end_of_the_child(module: Write) -> None:
    with start_module(module(SLEEPS), stdin=Stream.PIPE) as child:
        assert child.wait(0.05) is None
        assert child.poll() is None
    assert child.returncode == -signal.SIGKILL
    assert child.stdin.closed
    child.close()
    asked = start_module(module(SLEEPS))
    with asked:
        asked.terminate()
        assert asked.wait(PATIENCE_S) == -signal.SIGTERM


def test_one_that_does_not_end_when_killed_is_reaped_later(
    module: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = start_module(module(SLEEPS))
    reaper = Reaper()
    with monkeypatch.context() as patched:
        patched.setattr(Child, "kill", lambda _: None)  # as one that hangs in the kernel
        began_s = time.monotonic()
        reaper.kill(child)
        assert time.monotonic() - began_s < 20
    reaper.poll()
    assert child.poll() is None
    child.kill()
    end_s = time.monotonic() + PATIENCE_S
    while psutil.pid_exists(child.pid) and time.monotonic() < end_s:
        reaper.poll()
        time.sleep(0.02)
    assert child.returncode == -signal.SIGKILL
