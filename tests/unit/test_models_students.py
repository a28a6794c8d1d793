"""Weights that were distilled here: pinned, chosen by name, and refused where they changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2fp_stream.app.stills import load_parser
from m2fp_stream.app.weights import chosen_parts, parts_option
from m2fp_stream.cli.journal import options_digest
from m2fp_stream.config import load_settings
from m2fp_stream.core.errors import ModelError, UsageError
from m2fp_stream.models.pins import Measured, StudentPin, read_pins, store_folder
from m2fp_stream.models.store import load_verified, model_entry
from m2fp_stream.models.students import (
    check_teacher,
    checked_name,
    install_student,
    make_folder,
    student_place,
    verify_students,
)
from m2fp_stream.parsers.embedded.looker import from_options
from m2fp_stream.parsers.embedded.parser import EmbeddedParser
from tests.kit.cli import run

FIGURES = Measured(miou=0.5, head_recall=0.5, spill=0.0, samples=2)


def pin_of(data: bytes, **more: Any) -> StudentPin:
    fields = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "origin": "distilled here",
        "started_from": "0" * 64,
        "teacher": "owner/m2fp",
        "teacher_sha256": "1" * 64,
        "licence": "CC BY-NC 4.0",
        "made": "2026-01-02",
        "before": FIGURES,
        "after": FIGURES,
    }
    return StudentPin.model_validate(fields | more)


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    store = store_folder({"XDG_DATA_HOME": str(tmp_path / "data")})
    make_folder(store)
    return store


@pytest.mark.parametrize("name", ["", "parts", "m2fp", "../x", "Mine", "-x", "x" * 33, "a/b"])
def test_a_name_is_a_plain_word_of_its_own(name: str) -> None:
    with pytest.raises(UsageError, match="no name for weights"):
        checked_name(name)
    assert checked_name("clinic-2") == "clinic-2"


def test_what_is_installed_is_listed_with_its_licence_verified_and_chosen(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_verified("parts")
    path = install_student("mine", store, data, pin_of(data))
    assert path.stat().st_mode & 0o077 == 0
    assert run("models", "list") == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("mine ")]
    assert "CC BY-NC 4.0" in line
    assert "owner/m2fp" in line
    assert run("models", "verify") == 0
    assert "mine: ok" in capsys.readouterr().out

    settings = load_settings(None, environ={}, overrides={"parser.weights": "mine"})
    given = chosen_parts(settings)
    assert given is not None
    assert given.load("parts") == data
    looker = from_options(kinds=["parts"], **parts_option(settings))  # type: ignore[arg-type]
    planes = looker.parts(np.full((96, 96, 3), 90, np.uint8)).planes
    assert planes.shape == (16, 48, 48)
    with load_parser("embedded", settings) as parser:
        assert parser.parse(np.full((96, 96, 3), 90, np.uint8)).parser_id.count("+") == 3


def test_a_file_that_is_not_what_was_pinned_is_never_loaded(store: Path) -> None:
    data = load_verified("parts")
    path = install_student("mine", store, data, pin_of(data))
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    settings = load_settings(None, environ={}, overrides={"parser.weights": "mine"})
    for load in (
        lambda: from_options(kinds=["parts"], **parts_option(settings)),  # type: ignore[arg-type]
        lambda: load_parser("embedded", settings),
    ):
        with pytest.raises(ModelError, match="was pinned"):
            load()
    (result,) = verify_students(store)
    assert not result.ok
    assert run("models", "verify") == 4
    path.unlink()
    with pytest.raises(ModelError, match="cannot read"):
        load_parser("embedded", settings)


def test_weights_that_were_made_again_under_a_name_are_other_options() -> None:
    settings = load_settings(None, environ={}, overrides={"parser.weights": "mine"})
    one, other = (options_digest(settings, ["parser"], sha * 64) for sha in "01")
    assert one != other
    assert one == options_digest(settings, ["parser"], "0" * 64)


def test_a_file_that_nobody_pinned_is_not_known(store: Path) -> None:
    (store / "students" / "other.onnx").write_bytes(load_verified("parts"))
    with pytest.raises(ModelError, match="no weights 'other' were pinned"):
        student_place("other", store)
    settings = load_settings(None, environ={}, overrides={"parser.weights": "other"})
    with pytest.raises(ModelError, match="models distill"):
        parts_option(settings)
    with pytest.raises(ModelError, match="nobody says where"):
        EmbeddedParser(settings.parser)


def test_a_pin_of_other_bytes_installs_nothing(store: Path) -> None:
    with pytest.raises(ModelError, match="nothing was installed"):
        install_student("mine", store, b"these", pin_of(b"those"))
    assert read_pins(store).students == {}
    assert not (store / "students" / "mine.onnx").exists()


def test_a_teacher_is_known_by_its_pin_or_by_name_alone(store: Path) -> None:
    known = model_entry("parts").sha256
    with pytest.raises(ModelError, match="never pinned"):
        check_teacher("m2fp", known, store, None)
    with pytest.raises(ModelError, match="not the one that"):
        check_teacher("m2fp", known, store, "0" * 64)
    check_teacher("m2fp", known, store, known.upper())
