"""The command for weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2fp_stream.models import store
from tests.kit.cli import run

ROOT = Path(__file__).resolve().parents[3]

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
