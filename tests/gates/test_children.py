"""No secret of ours is in a child's environment, on its command line, or in what is logged.

Every place that starts a process is listed here with what starts it: a new one fails until it is.
"""

from __future__ import annotations

import ast
import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import pytest

import m2fp_stream
from m2fp_stream import cli
from m2fp_stream.app import m2fp
from m2fp_stream.config import load_settings
from m2fp_stream.core.errors import ModelError
from m2fp_stream.core.records import LookKind
from m2fp_stream.kiosk.browser import Browser, Screen
from m2fp_stream.kiosk.stills import StillService
from m2fp_stream.kiosk.supervisor import Supervisor
from m2fp_stream.models.hub import ModelScopeHub
from m2fp_stream.parsers.m2fp.labels import Kind
from m2fp_stream.pipeline.looks import LookWorker
from m2fp_stream.pipeline.workers import ParserWorker, WorkerSpec
from m2fp_stream.privacy.broker import FileBroker
from m2fp_stream.processes.child import child_environment
from m2fp_stream.sinks.push import PushOptions, PushSink
from m2fp_stream.sinks.virtual_camera import VirtualCameraOptions, VirtualCameraSink
from m2fp_stream.web.stills import Busy
from tests.kit import media
from tests.kit.virtual_camera_recorder import BACKEND, VARIABLE
from tests.kit.wait import wait_until

PACKAGE = Path(m2fp_stream.__file__).parent
SECRET = "pl4nted-s3cret-word"
SERVER = f"rtsp://me:{SECRET}@127.0.0.1:1/live"
TIME_BASE = Fraction(1, 1_000_000)
SIZE_WH = (192, 128)

STARTS = {"start_module", "start_program", "start_with_channel"}


def test_options_go_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2FP_STREAM_CAPTURE__INPUT", f"rtsp://me:{SECRET}@camera/")
    monkeypatch.setenv("m2fp_stream_push__url", f"rtsp://me:{SECRET}@camera/")
    monkeypatch.setenv("M2FP_STREAM_POLICY__HIDE", "person")
    monkeypatch.setenv("M2FP_STREAM_TEST_X", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    given = child_environment()
    options = {name for name in given if name.upper().startswith("M2FP_STREAM_")}
    assert options - {"M2FP_STREAM_TEST_DATA"} == {"M2FP_STREAM_TEST_X"}
    assert given["LANG"] == "C.UTF-8"
    assert SECRET not in str(given)


@dataclass
class Watched:
    """What was seen of the processes that were started: their command lines, and all else."""

    seen: list[tuple[str, bytes]] = field(default_factory=list)

    def look_at(self, process: psutil.Process) -> None:
        """Reads what others may read of a process, and its environment, where that can be."""
        with suppress(psutil.NoSuchProcess):
            wait_until(lambda: bool(process.cmdline()))  # there is none while it is being made
        shown = b""
        for name in ("cmdline", "environ"):
            # Who has hardened itself hides its environment, but from root.
            with suppress(OSError):
                shown += Path(f"/proc/{process.pid}/{name}").read_bytes()
        if shown:  # else it has ended
            self.seen.append((f"process {process.pid}", shown))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Plants secrets; notes of every process started what stands in /proc of it."""
    monkeypatch.setenv("M2FP_STREAM_CAPTURE__INPUT", f"rtsp://me:{SECRET}@camera/")
    monkeypatch.setenv("M2FP_STREAM_SERVE__TOKEN", SECRET)
    watched = Watched()
    begin: Callable[..., None] = subprocess.Popen.__init__

    def noted(self: subprocess.Popen[Any], *arguments: Any, **words: Any) -> None:
        begin(self, *arguments, **words)
        environment = words.get("env")
        given = f"all of ours, {SECRET}" if environment is None else str(environment)
        command = str(self.args)
        watched.seen.append((command, (command + given).encode()))
        with suppress(psutil.NoSuchProcess):
            watched.look_at(psutil.Process(self.pid))

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    return watched


@dataclass
class Stage:
    """What those that start processes get."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    watched: Watched


def parser_and_look_workers(stage: Stage) -> None:
    worker = ParserWorker(WorkerSpec("tests.kit.faulty:Faulty", {"fault": "none", "at": []}))
    worker.begin()
    worker.close()
    spec = WorkerSpec("no.such:factory", {"password": SECRET})
    with closing(LookWorker(spec)) as looker, pytest.raises(ModelError):
        looker.look(media.card(SIZE_WH, 0), LookKind.FACES, frame_id=0)


def virtual_camera(stage: Stage) -> None:
    stage.monkeypatch.setenv(VARIABLE, str(stage.folder / "notes"))
    sink = VirtualCameraSink(
        VirtualCameraOptions(enabled=True, backend=BACKEND),
        size_wh=SIZE_WH,
        card=media.composed(media.card(SIZE_WH, 0), time_base=TIME_BASE),
        rate=None,
    )
    sink.abort()


def push(stage: Stage) -> None:
    sink = PushSink(
        PushOptions(enabled=True, url=SERVER),
        size_wh=SIZE_WH,
        time_base=TIME_BASE,
    )
    sink.abort()


def browser(stage: Stage) -> None:
    chromium = stage.folder / "chromium"
    chromium.write_text("#!/bin/sh\nsleep 60\n", encoding="ascii")
    chromium.chmod(0o700)
    wall = Browser(str(chromium), stage.folder / "profile")
    wall.open("http://127.0.0.1:1/enter?key=once")
    wall.end()


def screen(stage: Stage) -> None:
    done = stage.folder / "done"
    command = Screen([sys.executable, "-c", f"open({str(done)!r}, 'w')"], [])
    command.turn(asleep=True)
    wait_until(done.exists)
    command._stop()


def batch(stage: Stage) -> None:
    for name in ("a.png", "b.png"):
        (stage.folder / name).write_bytes(b"no picture")
    out = stage.folder / "out"
    out.mkdir()
    assert cli.main(["anonymize", str(stage.folder), "-o", str(out), "--jobs", "2"]) == 8


def broker(stage: Stage) -> None:
    FileBroker.start([stage.folder / "out"]).close()


def export(stage: Stage) -> None:
    key = str(stage.folder / SECRET)
    with pytest.raises(ModelError, match="cannot be exported"):
        m2fp._export_apart(
            stage.folder / "m2fp.onnx", stage.folder, "0" * 64, Kind.CIHP, (64, 64), key
        )


def pull(stage: Stage) -> None:
    package = stage.folder / "site" / "modelscope" / "hub"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "snapshot_download.py").write_text("import os; os._exit(9)", encoding="ascii")
    stage.monkeypatch.syspath_prepend(stage.folder / "site")
    for name in [name for name in sys.modules if name.split(".")[0] == "modelscope"]:
        stage.monkeypatch.delitem(sys.modules, name)
    target = stage.folder / "store" / "file"
    target.parent.mkdir()
    with pytest.raises(Exception, match="ProcessDied"):
        ModelScopeHub().fetch("owner/model", "v1", "file", target, None)


def still_worker(stage: Stage) -> None:
    async def one() -> None:
        stills = StillService({"source": {"password": SECRET}}, max_pixels=1000)
        try:
            with pytest.raises(Busy):  # for it cannot start with these settings
                await stills.anonymize(b"no picture")
        finally:
            stills.close()

    asyncio.run(one())


def kiosk(stage: Stage) -> None:
    """With all that its processes start: look workers, and the push to a server that is not."""
    stage.monkeypatch.setenv("XDG_CACHE_HOME", str(stage.folder / "cache"))
    overrides: dict[str, object] = {
        "page.port": 0,
        "page.token": SECRET,
        "kiosk.browser": "none",
        "capture.input": "synthetic",
        "push.enabled": True,
        "push.url": SERVER,
    }
    supervisor = Supervisor(load_settings(None, {}, overrides), environ={})
    known: set[int] = set()

    def both_work() -> bool:
        supervisor.step()
        for process in psutil.Process().children(recursive=True):
            if process.pid not in known:
                known.add(process.pid)
                stage.watched.look_at(process)
        return supervisor.media.up and supervisor.server.up

    try:
        wait_until(both_work)
        end_s = time.monotonic() + 1.0  # what runs on logs, too
        wait_until(lambda: both_work() and time.monotonic() > end_s)
        assert len(known) >= 5, "server, media, its lookers and its push"
    finally:
        supervisor.close()


KINDS: dict[str, tuple[Callable[[Stage], None], ...]] = {
    "app/m2fp.py": (export,),
    "cli/batch.py": (batch,),
    "kiosk/browser.py": (browser, screen),
    "kiosk/stills.py": (still_worker,),
    "kiosk/supervised.py": (kiosk,),
    "models/hub.py": (pull,),
    "pipeline/workers.py": (parser_and_look_workers,),
    "privacy/broker.py": (broker,),
    "sinks/push.py": (push,),
    "sinks/virtual_camera.py": (virtual_camera,),
}
"""By file: what reaches each of its places that start a process."""


def test_every_place_that_starts_a_process_is_tried_here() -> None:
    found: dict[str, int] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if name == "processes/child.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {
                *STARTS,
                "Popen",
            }:
                found[name] = found.get(name, 0) + 1
    assert found == {name: len(starts) for name, starts in KINDS.items()}


@pytest.mark.parametrize("start", [start for starts in KINDS.values() for start in starts])
def test_a_secret_of_ours_is_in_no_child(
    start: Callable[[Stage], None],
    watched: Watched,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    start(Stage(tmp_path, monkeypatch, watched))
    assert watched.seen, "no process was started"
    for arguments, shown in watched.seen:
        assert SECRET.encode() not in shown, arguments
    # Children write to our standard streams, where they write at all.
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err + caplog.text


def test_the_search_finds_what_it_looks_for(watched: Watched) -> None:
    """The control: a child that is started past `processes/`, and one that shows a secret."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert [SECRET.encode() in shown for _, shown in watched.seen] == [True, True]
        process.kill()
    watched.seen.clear()
    command = [sys.executable, "-c", "input()", SECRET]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env={}) as process:
        assert [SECRET.encode() in shown for _, shown in watched.seen] == [True, True]
        process.kill()
