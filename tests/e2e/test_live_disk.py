"""A live run whose recording meets a full disk: the real program, a real disk of 16 megabytes."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import av

from tests.kit.disk import small_disk
from tests.kit.film import command, environment, run, write_config
from tests.kit.wait import PATIENCE_S, wait_until


def config(tmp_path: Path, folder: Path) -> Path:
    return write_config(
        tmp_path / "run.yaml",
        capture={"input": "synthetic"},
        synthetic={"width": 160, "height": 120},
        record={"enabled": True, "folder": str(folder), "preset": "ultrafast"},
    )


def length(path: Path) -> int:
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_recording_goes_on_when_there_is_room_again_and_the_run_ends_with_5(
    tmp_path: Path,
) -> None:
    stats = tmp_path / "stats.json"

    def facts() -> Any:
        return json.loads(stats.read_text()) if stats.exists() else None

    def recording() -> dict[str, Any]:
        now = facts()
        return {} if now is None else dict(now["sinks"]["recording"])

    with small_disk(tmp_path / "disk", 16) as disk:
        process = subprocess.Popen(
            command("run", config(tmp_path, disk.folder), "--stats", stats),
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            wait_until(lambda: recording().get("written", 0) > 60 and facts()["health"] == "ok")
            disk.fill(left=0)
            wait_until(lambda: recording().get("lost", 0) > 0)
            wait_until(lambda: facts()["health"] == "failing")
            full = facts()
            disk.empty()
            wait_until(lambda: recording()["up"])
            back = recording()["written"]
            wait_until(lambda: recording()["written"] > back + 60)
            again = facts()
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()
        files = list(disk.folder.iterdir())
        kept = sum(length(path) for path in files)
    assert process.returncode == 5, errors
    assert full["problems"] == ["recording_down", "recording_lost"]
    assert (again["health"], again["problems"]) == ("degraded", ["recording_lost"])
    assert len(files) == 2
    assert all(path.suffix == ".mp4" for path in files)
    after = facts()
    assert after["health"] == "ended"
    assert after["sinks"]["recording"]["written"] == kept
    lost = after["sinks"]["recording"]["lost"]
    lines = errors.splitlines()
    (first, *_), (end,) = (
        [line for line in lines if "recording: " in line],
        [line for line in lines if "error: " in line],
    )
    assert "No space left on device); free some space; its first " in first
    assert f"recording: {lost} frames are lost, {kept} are kept" in end
    assert sum("works again" in line for line in lines) == 1


def test_a_recording_that_cannot_begin_ends_the_run_at_once_with_5(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 16) as disk:
        disk.fill(left=0)
        done = run("run", config(tmp_path, disk.folder), cwd=tmp_path)
    assert done.returncode == 5
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert "No space left on device; free some space" in line
