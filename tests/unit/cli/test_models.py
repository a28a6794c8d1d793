"""The command for weights."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from m2fp_stream.models import store
from tests.kit.cli import run

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def test_models_list_names_licence_and_origin(capsys: Capture) -> None:
    assert run("models", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "LICENCE", "ORIGIN", "SIZE", "RUNTIME"]
    entries = store.read_manifest()
    for name, line in zip(("m2fp", "m2fp-lip"), lines[1 + len(entries) :], strict=True):
        assert line.split()[0] == name
        assert "CC BY-NC 4.0" in line
        assert line.endswith("not pulled")
    for entry, line in zip(entries, lines[1:], strict=False):
        for word in (entry.name, entry.licence, entry.origin.package, entry.runtime):
            assert word in line


def test_models_verify_is_4_where_a_hash_differs(capsys: Capture, monkeypatch: Patch) -> None:
    assert run("models", "verify") == 0
    assert capsys.readouterr().out.count(": ok\n") == len(store.read_manifest())
    bad = [
        store.VerifyResult(name="one", ok=True, problem=""),
        store.VerifyResult(name="two", ok=False, problem="model two: another hash"),
    ]
    monkeypatch.setattr(store, "verify_all", lambda: bad)
    assert run("models", "verify") == 4
    out, err = capsys.readouterr()
    assert out == "one: ok\ntwo: model two: another hash\n"
    assert err == "m2fp-stream: error: 1 of 2 models are not as they were: two\n"


MODEL = SimpleNamespace(
    name="m2fp",
    model_id="owner/m2fp",
    revision="v1.0.1",
    licence="CC BY-NC 4.0",
    licence_url="https://example.org/licence",
    licence_note="Not for commercial use.",
)


@dataclass
class FakeHub:
    """Stands in for `models.pull.pull`: asks about the licence, and tells progress."""

    folder: Path
    first_time: bool = True
    asked: list[dict[str, Any]] = field(default_factory=list)
    sealed: bytes = b""

    def pull(self, name: str, store: Path, **words: Any) -> SimpleNamespace:
        self.asked.append({"name": name, "store": store, **words})
        if not words["accept"](MODEL):
            raise RuntimeError("was not accepted")
        words["progress"]("pytorch_model.pt", 1_000_000, 1_000_000)
        if words["seal"] is not None:
            self.sealed = words["seal"](b"weights", "pytorch_model.pt")
        return SimpleNamespace(
            folder=self.folder, files={"pytorch_model.pt": "ab12"}, first_time=self.first_time
        )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: Patch) -> FakeHub:
    fake = FakeHub(tmp_path)
    monkeypatch.setattr("m2fp_stream.models.pull.pull", fake.pull)
    return fake


class Keyboard(io.StringIO):
    """A terminal at which somebody types."""

    def isatty(self) -> bool:
        return True


def test_models_pull_says_the_licence_and_what_came(
    hub: FakeHub, tmp_path: Path, capsys: Capture
) -> None:
    assert run("models", "pull", "--accept-licence", "m2fp", "--revision", "v9") == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'pytorch_model.pt'}: SHA-256 ab12\n"
    assert err.splitlines() == [
        "m2fp-stream: m2fp: owner/m2fp, revision v9",
        "m2fp-stream: licence: CC BY-NC 4.0, https://example.org/licence",
        "m2fp-stream: Not for commercial use.",
        "m2fp-stream: pytorch_model.pt: 1.0 MB of 1.0 MB (100%)",
        "m2fp-stream: trusted on first use: from now on these hashes must hold",
    ]
    assert (hub.asked[0]["name"], hub.asked[0]["revision"]) == ("m2fp", "v9")
    assert hub.asked[0]["store"].is_relative_to(tmp_path / "data")
    hub.first_time = False
    assert run("models", "pull", "m2fp", "--accept-licence") == 0
    assert "trusted" not in capsys.readouterr().err


def test_a_licence_that_nobody_can_be_asked_about_is_2(
    hub: FakeHub, capsys: Capture, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run("models", "pull", "m2fp") == 2
    assert capsys.readouterr().err.endswith(
        "read https://example.org/licence, then add --accept-licence\n"
    )


@pytest.mark.parametrize(
    ("typed", "code"), [("y\n", 0), (" YES \n", 0), ("\n", 1), ("n\n", 1), ("", 1)]
)
def test_a_licence_is_asked_for_and_no_is_meant_by_all_but_yes(
    typed: str, code: int, hub: FakeHub, capsys: Capture, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(sys, "stdin", Keyboard(typed))
    assert run("models", "pull", "m2fp") == code
    assert "Do you accept it? [y/N] " in capsys.readouterr().err


def test_models_pull_seals_with_a_key_that_it_makes_once(
    hub: FakeHub, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "key"
    words = ("models", "pull", "m2fp", "--accept-licence", "--key", path)
    assert run(*words) == 0
    key = path.read_bytes()
    assert b"weights" not in hub.sealed
    assert hub.sealed.startswith(b"M2FPSEAL")
    assert run(*words) == 0
    assert path.read_bytes() == key


def test_models_pull_seals_with_the_keyrings_key(hub: FakeHub, monkeypatch: Patch) -> None:
    asked: list[bool] = []

    def key_from_keyring(*, create: bool) -> object:
        asked.append(create)
        return "the key"

    monkeypatch.setattr("m2fp_stream.models.vault.key_from_keyring", key_from_keyring)
    monkeypatch.setattr("m2fp_stream.models.vault.seal", lambda *given: repr(given).encode())
    assert run("models", "pull", "m2fp", "--accept-licence", "--key", "keyring") == 0
    assert asked == [True]
    assert hub.sealed == b"(b'weights', 'the key', 'pytorch_model.pt')"


def exporter(made: list[tuple[Any, ...]], path: Path) -> Callable[..., tuple[Path, str]]:
    def export_network(options: Any, size_wh: tuple[int, int], **_: object) -> tuple[Path, str]:
        made.append((options.kind, options.model_dir, options.short_side, options.key, size_wh))
        path.write_bytes(bytes(2_000_000))
        return path, "cd34"

    return export_network


def test_models_export_reaches_every_option(
    tmp_path: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    made: list[tuple[Any, ...]] = []
    path = tmp_path / "network.onnx"
    monkeypatch.setattr("m2fp_stream.app.m2fp.export_network", exporter(made, path))
    assert run("models", "export", "m2fp") == 0
    options = "--model-dir weights --short-side 640 --size 1280x720 --key k"
    assert run("models", "export", "m2fp-lip", *options.split()) == 0
    assert made == [
        ("cihp", None, 320, None, (1920, 1080)),
        ("lip", "weights", 640, "k", (1280, 720)),
    ]
    assert capsys.readouterr().out == f"{path}: 2 MB, SHA-256 cd34\n" * 2


def test_names_of_the_hub_are_those_of_app() -> None:
    from m2fp_stream.app import m2fp
    from m2fp_stream.cli import models

    assert set(models.HUB_NAMES) == set(m2fp.HUB_NAMES.values())
