"""Where M2FP's weights come from, and that what a user gets wrong is one line that helps."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from m2fp_stream.app import m2fp
from m2fp_stream.core.errors import ModelError
from m2fp_stream.models.vault import new_key_file, seal
from m2fp_stream.parsers.m2fp.options import M2FPOptions

WIDE = 1280, 720


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def options(folder: Path, weights: bytes = b"not weights", **more: object) -> M2FPOptions:
    folder.mkdir(exist_ok=True)
    (folder / "pytorch_model.pt").write_bytes(weights)
    (folder / "configuration.json").write_text('{"model": {"type": "m2fp"}}')
    return M2FPOptions.model_validate({"enabled": True, "model_dir": str(folder), **more})


def exported(weights: bytes, content: bytes, tmp_path: Path) -> Path:
    """Puts an export of `weights` for 576x320 into the cache, as an earlier run left it."""
    digest = hashlib.sha256(weights).hexdigest()
    path = tmp_path / "cache/m2fp-stream/m2fp" / f"cihp-320x576-{digest[:32]}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    note = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    path.with_suffix(".json").write_text(json.dumps(note))
    return path


def test_without_a_folder_and_without_a_pull_the_error_says_how_to_get_them() -> None:
    with pytest.raises(ModelError, match=r"models pull m2fp.*--model-dir"):
        m2fp.fine_parser(M2FPOptions(enabled=True), WIDE)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    wrong = M2FPOptions(enabled=True, model_dir=str(tmp_path / "empty"))
    with pytest.raises(ModelError, match=r"no weights in .*empty: pytorch_model.pt: No such file"):
        m2fp.fine_parser(wrong, WIDE)


def test_what_was_exported_before_is_taken_as_it_is(tmp_path: Path) -> None:
    chosen = options(tmp_path / "model")
    path = exported(b"not weights", b"a network", tmp_path)
    notices: list[str] = []
    arguments = m2fp.fine_parser(chosen, WIDE, on_notice=notices.append)
    assert arguments["onnx"] == str(path)
    assert arguments["sha256"] == hashlib.sha256(b"a network").hexdigest()
    assert arguments["short_side"] == 320
    assert notices == []
    json.dumps(arguments)  # a parser process gets them as JSON


@pytest.mark.parametrize("damage", ["truncated", "no note", "garbled note", "other weights"])
def test_an_export_that_is_not_whole_is_made_again(tmp_path: Path, damage: str) -> None:
    chosen = options(tmp_path / "model")
    path = exported(b"not weights", b"a network", tmp_path)
    if damage == "truncated":
        path.write_bytes(b"a net")
    elif damage == "no note":
        path.with_suffix(".json").unlink()
    elif damage == "garbled note":
        path.with_suffix(".json").write_text("{")
    else:
        chosen = options(tmp_path / "model", b"other weights")
    notices: list[str] = []
    with pytest.raises(ModelError, match="M2FP cannot be exported: "):  # they are no weights
        m2fp.fine_parser(chosen, WIDE, on_notice=notices.append)
    assert notices == ["exporting M2FP for 576x320, once; this takes up to a minute"]


def test_a_child_that_dies_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ModelError, match="its process died"):
        m2fp.fine_parser(options(tmp_path / "model"), WIDE)


def test_sealed_weights_need_their_key(tmp_path: Path) -> None:
    key = new_key_file(tmp_path / "key")
    sealed = seal(b"not weights", key, "pytorch_model.pt")
    with pytest.raises(ModelError, match=r"sealed; name its key: m2fp\.key"):
        m2fp.fine_parser(options(tmp_path / "model", sealed), WIDE)
    path = exported(b"not weights", b"a network", tmp_path)
    chosen = options(tmp_path / "model", sealed, key=str(tmp_path / "key"))
    assert m2fp.fine_parser(chosen, WIDE)["onnx"] == str(path)


@pytest.mark.parametrize(
    ("tiles", "short_side", "side"), [(1, 320, 569), (1, 640, 1138), (2, 320, 996)]
)
def test_the_copy_is_as_large_as_the_network_makes_use_of(
    tiles: int, short_side: int, side: int
) -> None:
    chosen = M2FPOptions(tiles=tiles, short_side=short_side)
    assert m2fp.fine_side(chosen, WIDE) == side


def test_the_deadline_grows_with_the_work() -> None:
    usual = m2fp.fine_deadline_s(M2FPOptions())
    for harder in ({"tiles": 2}, {"agreement": True}, {"short_side": 640}):
        assert m2fp.fine_deadline_s(M2FPOptions.model_validate(harder)) >= usual + 20
