"""What a run may still read and change once it is shut in."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from m2fp_stream.cli.jobs import Job
from m2fp_stream.cli.shut_in import shut_in
from m2fp_stream.config import Settings
from m2fp_stream.core.errors import SinkError
from m2fp_stream.core.part_file import part_name
from m2fp_stream.privacy import sandbox
from m2fp_stream.privacy.broker import FileBroker


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What was asked of broker and sandbox, neither of which is there."""
    seen: dict[str, Any] = {}

    def start(paths: Iterable[Path], folders: Iterable[Path]) -> None:
        seen["outputs"], seen["folders"] = [*paths], [*folders]

    monkeypatch.setattr(FileBroker, "start", start)
    monkeypatch.setattr(sandbox, "enter", seen.update)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return seen


def test_inputs_are_read_outputs_kept_and_their_folders_made(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    jobs = [
        Job(tmp_path / "a.mp4", tmp_path / "out/deep/a.mp4"),
        Job(tmp_path / "b.mp4", tmp_path / "other/b.mp4", finished=True),
    ]
    shut_in(jobs, Settings())
    assert asked == {
        "outputs": [tmp_path / "out/deep/a.mp4"],
        "folders": [],
        "reads": [tmp_path / "a.mp4"],
        "changes": [],
        "buffer_mb": Settings().file.buffer_mb,
        "speaks_locally": False,
    }
    assert (tmp_path / "out/deep").is_dir()
    assert not (tmp_path / "other").exists()


def test_tables_are_outputs_pipes_need_nothing_and_numbered_pictures_their_folders(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    table, numbers = tmp_path / "tables/a.csv", tmp_path / "frames/%d.png"
    jobs = [
        Job(Path("-"), Path("-"), tracks=table),
        Job(tmp_path / "in/%d.png", numbers),
    ]
    shut_in(jobs, Settings())
    assert asked["outputs"] == [table, numbers]
    assert asked["folders"] == [part_name(numbers)]
    assert asked["reads"] == [tmp_path / "in"]
    assert asked["changes"] == [tmp_path / "frames"]
    assert (tmp_path / "tables").is_dir()


@pytest.mark.parametrize("key", [None, "keyring", "/etc/secret.key"])
def test_m2fp_reads_its_weights_and_key_and_changes_its_exports(
    key: str | None, asked: dict[str, Any], tmp_path: Path
) -> None:
    m2fp = {"enabled": True, "model_dir": str(tmp_path / "weights"), "key": key}
    shut_in([], Settings.model_validate({"m2fp": m2fp}))
    store = tmp_path / "data/m2fp-stream/models"
    keys = {None: [], "keyring": [tmp_path / "data/python_keyring"]}
    assert asked["reads"] == [store, tmp_path / "weights", *keys.get(key, [Path(str(key))])]
    assert asked["changes"] == [tmp_path / "cache/m2fp-stream/m2fp"]
    assert asked["changes"][0].is_dir()
    assert asked["speaks_locally"] == (key == "keyring")


def test_without_a_process_for_outputs_there_is_no_run(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: Iterable[Path]) -> None:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(FileBroker, "start", start)
    with pytest.raises(SinkError, match="no process for the outputs could be started: no more"):
        shut_in([], Settings())
    assert "reads" not in asked
