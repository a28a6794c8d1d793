"""A child process gets none of the program's options by its environment: they may be passwords."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import m2fp_stream
from m2fp_stream import cli
from m2fp_stream.core.environment import child_environment
from m2fp_stream.kiosk.browser import Screen
from m2fp_stream.pipeline.workers import ParserWorker, WorkerSpec
from m2fp_stream.sinks.push import PushOptions, PushSink
from m2fp_stream.sinks.virtual_camera import VirtualCameraOptions, VirtualCameraSink
from tests.kit import media
from tests.kit.virtual_camera_recorder import BACKEND, VARIABLE
from tests.kit.wait import wait_until

PACKAGE = Path(m2fp_stream.__file__).parent
SECRET = "pl4nted-s3cret-word"
TIME_BASE = Fraction(1, 1_000_000)
SIZE_WH = (192, 128)

STARTS = {"Popen", "run", "call", "check_call", "check_output"}


def launches() -> list[tuple[str, ast.Call]]:
    """Every place of the package that starts a process."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            function = node.func if isinstance(node, ast.Call) else None
            if (
                isinstance(function, ast.Attribute)
                and isinstance(function.value, ast.Name)
                and function.value.id == "subprocess"
                and function.attr in STARTS
            ):
                assert isinstance(node, ast.Call)
                found.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", node))
    return found


def test_every_launch_hands_over_a_clean_environment() -> None:
    found = launches()
    assert len(found) >= 9, "the search itself is broken"
    for place, call in found:
        given = [word.value for word in call.keywords if word.arg == "env"]
        assert given, f"{place}: inherits the whole environment; give env=child_environment()"
        text = ast.unparse(given[0])
        assert "child_environment()" in text or text == "environment", place
        assert "os.environ" not in text, place


def test_options_go_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2FP_STREAM_CAPTURE__INPUT", f"rtsp://me:{SECRET}@camera/")
    monkeypatch.setenv("m2fp_stream_push__url", f"rtsp://me:{SECRET}@camera/")
    monkeypatch.setenv("M2FP_STREAM_POLICY__HIDE", "person")
    monkeypatch.setenv("M2FP_STREAM_POLICYX__HIDE", "person")
    monkeypatch.setenv("M2FP_STREAM_TEST_X", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    given = child_environment()
    options = {name for name in given if name.upper().startswith("M2FP_STREAM_")}
    assert options - {"M2FP_STREAM_TEST_DATA"} == {"M2FP_STREAM_TEST_X"}
    assert given["LANG"] == "C.UTF-8"
    assert SECRET not in str(given)
    kept = child_environment(("policy",))
    assert kept["M2FP_STREAM_POLICY__HIDE"] == "person"
    assert not {"M2FP_STREAM_POLICYX__HIDE", "M2FP_STREAM_CAPTURE__INPUT"} & set(kept)


@dataclass
class Watched:
    """What was seen of the processes that were started."""

    seen: list[tuple[str, bytes]] = field(default_factory=list)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Plants secrets; notes of every process started what stands in /proc of it."""
    monkeypatch.setenv("M2FP_STREAM_CAPTURE__INPUT", f"rtsp://me:{SECRET}@camera/")
    monkeypatch.setenv("M2FP_STREAM_SERVE__TOKEN", SECRET)
    watched = Watched()
    begin: Callable[..., None] = subprocess.Popen.__init__

    def noted(self: subprocess.Popen[Any], *arguments: Any, **words: Any) -> None:
        begin(self, *arguments, **words)
        shown = str({**words["env"]}).encode() if words.get("env") is not None else SECRET.encode()
        for name in ("cmdline", "environ"):
            # Who has hardened itself already hides its environment from others; what it was given
            # is known all the same.
            with suppress(OSError):
                shown += Path(f"/proc/{self.pid}/{name}").read_bytes()
        watched.seen.append((str(self.args), shown))

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    return watched


def parser_worker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = ParserWorker(WorkerSpec("tests.kit.faulty:Faulty", {"fault": "none", "at": []}))
    worker.begin()
    worker.close()


def virtual_camera(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(folder / "notes"))
    sink = VirtualCameraSink(
        VirtualCameraOptions(enabled=True, backend=BACKEND),
        size_wh=SIZE_WH,
        card=media.composed(media.card(SIZE_WH, 0), time_base=TIME_BASE),
        rate=None,
    )
    sink.abort()


def push(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = PushSink(
        PushOptions(enabled=True, url=f"rtsp://me:{SECRET}@127.0.0.1:1/live"),
        size_wh=SIZE_WH,
        time_base=TIME_BASE,
    )
    sink.abort()


def screen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = folder / "done"
    command = Screen([sys.executable, "-c", f"open({str(done)!r}, 'w')"], [])
    command.turn(asleep=True)
    wait_until(done.exists)
    command._stop()


def batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"no picture")
    out = folder / "out"
    out.mkdir()
    assert cli.main(["anonymize", str(folder), "-o", str(out), "--jobs", "2"]) == 8


@pytest.mark.parametrize("start", [parser_worker, virtual_camera, push, screen, batch])
def test_a_secret_of_ours_is_in_no_child(
    start: Callable[[Path, pytest.MonkeyPatch], None],
    watched: Watched,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start(tmp_path, monkeypatch)
    assert watched.seen, "no process was started"
    for arguments, shown in watched.seen:
        assert SECRET.encode() not in shown, arguments
