"""A command line that runs nothing, in a folder with inputs of every kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.cli import FakeApp


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FakeApp:
    fake = FakeApp()
    monkeypatch.setattr("m2fp_stream.app.files.anonymize", fake.anonymize)
    return fake


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in list(os.environ):
        if name.startswith("M2FP_STREAM_") and not name.startswith("M2FP_STREAM_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mkv", "c.gif", "d.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path
