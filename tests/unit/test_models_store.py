"""Weights are handed out only when they are exactly those of the manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

import m2fp_stream.models
from m2fp_stream.core.errors import ModelError
from m2fp_stream.models import load_verified, model_entry, read_manifest, verify_all

WEIGHTS = b"not really weights, but bytes with a hash"


def write_store(folder: Path, **changes: Any) -> Path:
    """Writes a manifest of one model and its file; `changes` go into the entry."""
    entry: dict[str, Any] = {
        "name": "small",
        "file": "small.onnx",
        "bytes": len(WEIGHTS),
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "licence": "MIT",
        "origin": {"registry": "pypi", "package": "p", "version": "1", "files": {"a": "00"}},
        "converted_by": "nobody",
        "runtime": "opencv",
        "input": "NCHW",
        "notes": "",
    } | changes
    (folder / "assets").mkdir()
    (folder / "assets" / "small.onnx").write_bytes(WEIGHTS)
    text = yaml.safe_dump({"models": [entry]})
    (folder / "manifest.yaml").write_text(text, encoding="utf-8")
    return folder


def test_untouched_file_is_returned_as_it_is(tmp_path: Path) -> None:
    assert load_verified("small", write_store(tmp_path)) == WEIGHTS


def test_one_changed_byte_is_refused_and_the_message_says_what_to_do(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    changed = bytearray(WEIGHTS)
    changed[7] ^= 1
    (store / "assets" / "small.onnx").write_bytes(changed)
    with pytest.raises(ModelError) as caught:
        load_verified("small", store)
    message = str(caught.value)
    assert hashlib.sha256(WEIGHTS).hexdigest() in message
    assert hashlib.sha256(changed).hexdigest() in message
    assert "assets/small.onnx" in message
    assert "reinstall" in message


def test_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    (store / "assets" / "small.onnx").unlink()
    with pytest.raises(ModelError, match=r"cannot read assets/small\.onnx"):
        load_verified("small", store)


def test_longer_file_is_refused_by_its_size(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    (store / "assets" / "small.onnx").write_bytes(WEIGHTS + b"x")
    with pytest.raises(ModelError, match=f"{len(WEIGHTS) + 1} bytes, expected {len(WEIGHTS)}"):
        load_verified("small", store)


def test_unknown_name_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'large'.*small"):
        load_verified("large", write_store(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": None},
        {"bytes": "many"},
        {"file": "../small.onnx"},
        {"runtime": "abacus"},
    ],
)
def test_garbled_entry_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        read_manifest(write_store(tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "models: []", "models: {", "[1, 2]"])
def test_garbled_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"manifest\.yaml"):
        read_manifest(tmp_path)


def test_verify_all_reports_a_bad_model_instead_of_raising(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    assert [result.ok for result in verify_all(store)] == [True]
    (store / "assets" / "small.onnx").write_bytes(b"")
    (result,) = verify_all(store)
    assert not result.ok
    assert "0 bytes" in result.problem


def test_every_shipped_model_is_intact_and_its_origin_is_recorded() -> None:
    assert all(result.ok for result in verify_all())
    for entry in read_manifest():
        assert entry.licence in {"MIT", "Apache-2.0", "BSD-3-Clause"}
        assert all(len(digest) == 64 for digest in entry.origin.files.values())
        assert model_entry(entry.name) == entry
        if entry.licence == "BSD-3-Clause":  # it wants its text beside what is handed on
            notice = Path(m2fp_stream.models.__file__).parent / "licences" / f"{entry.name}.txt"
            assert "Copyright (c)" in notice.read_text(encoding="utf-8")


TRAINING = {"recipe": "r", "commit": "c", "data": "d", "thresholds": {"face": 0.25}}


def test_trained_model_says_how_and_with_which_thresholds(tmp_path: Path) -> None:
    (entry,) = read_manifest(write_store(tmp_path, training=TRAINING))
    assert entry.training is not None
    assert entry.training.recipe == "r"
    assert entry.training.thresholds == {"face": 0.25}


def test_converted_model_has_no_training(tmp_path: Path) -> None:
    (entry,) = read_manifest(write_store(tmp_path))
    assert entry.training is None


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.0, float("nan"), "high"])
def test_threshold_that_would_hide_nothing_or_all_is_refused(
    tmp_path: Path, threshold: object
) -> None:
    training = {**TRAINING, "thresholds": {"face": threshold}}
    with pytest.raises(ModelError):
        read_manifest(write_store(tmp_path, training=training))


def test_the_shipped_part_network_is_calibrated() -> None:
    (entry,) = (entry for entry in read_manifest() if entry.name == "parts")
    assert entry.training is not None
    assert set(entry.training.thresholds) == {"face", "hair", "skin"}
