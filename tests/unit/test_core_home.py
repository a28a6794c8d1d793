"""Where a user's own folders are, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2fp_stream.core.errors import ConfigError
from m2fp_stream.core.home import own_folder


def test_what_a_variable_names_is_taken_and_what_is_relative_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert own_folder("XDG_DATA_HOME", {"XDG_DATA_HOME": "/data"}, ".local") == Path("/data")
    for given in ({}, {"XDG_DATA_HOME": ""}, {"XDG_DATA_HOME": "data"}):
        assert own_folder("XDG_DATA_HOME", given, ".local", "share") == tmp_path / ".local/share"


def test_without_a_home_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(_: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(nowhere))
    with pytest.raises(ConfigError, match="set HOME, or XDG_CACHE_HOME to a folder"):
        own_folder("XDG_CACHE_HOME", {}, ".cache")
