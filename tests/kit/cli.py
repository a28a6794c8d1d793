"""The command line: as a process, or in this one with something in the place of `app`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from m2fp_stream import cli
from m2fp_stream.config import Settings
from m2fp_stream.core.records import Progress, RunReport

ROOT = Path(__file__).resolve().parents[2]

MEASURED = "COVERAGE_PROCESS_"
"""By these variables coverage follows into other processes, in which it writes files; a program
that is shut in may not."""


class FakeApp:
    """Stands in for `app`: remembers its calls, writes the output, may fail for some inputs."""

    def __init__(self) -> None:
        self.calls: list[tuple[Path, Path, Settings, bool]] = []
        self.tables: list[Path | None] = []
        self.failing: dict[str, BaseException] = {}
        self.warnings: list[str] = []
        self.dropped: tuple[str, ...] = ()
        self.sound = ""
        self.progress: list[Progress] = []
        self.during: Callable[[], None] = lambda: None

    def anonymize(
        self,
        path_in: Path,
        path_out: Path,
        config: Settings,
        *,
        overwrite: bool,
        tracks: Path | None,
        progress: Callable[[Progress], None],
        on_warning: Callable[[str], None],
        on_notice: Callable[[str], None],
    ) -> RunReport:
        self.calls.append((path_in, path_out, config, overwrite))
        self.tables.append(tracks)
        if path_in.name in self.failing:
            raise self.failing[path_in.name]
        for step in self.progress:
            progress(step)
        self.during()
        for text in self.warnings:
            on_warning(text)
        path_out.write_bytes(b"covered")
        if tracks is not None:
            tracks.write_bytes(b"rows")
        return RunReport(
            path_out=str(path_out),
            frames=120,
            looks={"faces": 120, "people": 17, "parts": 9},
            covered_fraction=0.0312,
            unknown_frames=2,
            elapsed_s=4.0,
            dropped=self.dropped,
            sound=self.sound,
            tracks=0 if tracks is None else 3,
            tracks_out="" if tracks is None else str(tracks),
            warnings=tuple(self.warnings),
        )

    @property
    def outputs(self) -> list[Path]:
        return [call[1] for call in self.calls]

    @property
    def settings(self) -> Settings:
        return self.calls[-1][2]


def run(*words: str | Path) -> int:
    return cli.main([str(word) for word in words])


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("m2fp-stream: error: ")
    return err.removeprefix("m2fp-stream: error: ").strip()


def clean_environment() -> dict[str, str]:
    """Returns this process's environment without options of the program, and unmeasured."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if (not name.startswith("M2FP_STREAM_") or name.startswith("M2FP_STREAM_TEST_"))
        and not name.startswith(MEASURED)
    }
    return kept | {"PYTHONPATH": str(ROOT)}


def program(command: str, *words: str) -> list[str]:
    """The command without progress: how many of its lines there are is a matter of time."""
    quiet = ["--progress=off"] if command == "anonymize" else []
    return [sys.executable, "-m", "m2fp_stream", command, *quiet, *words]
