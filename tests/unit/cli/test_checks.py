"""The commands that only look: doctor, check-config."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from m2fp_stream import doctor
from m2fp_stream.core import errors
from m2fp_stream.models import store
from tests.kit.cli import run

ROOT = Path(__file__).resolve().parents[3]

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def test_check_config_says_what_differs_or_lists_every_problem(
    here: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("M2FP_STREAM_NONSENSE", "is not about the file")
    (here / "good.yaml").write_text("output: {crf: 3}\npolicy: {hide: head}", encoding="utf-8")
    (here / "bad.yaml").write_text("output: {crf: 99, nope: 1}", encoding="utf-8")
    assert run("check-config", "good.yaml", ROOT / "configs/anonymize.yaml") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "good.yaml: valid; not as by default: output.crf"
    assert lines[1].endswith("not as by default: nothing")
    assert run("check-config", "bad.yaml") == 2
    out, err = capsys.readouterr()
    assert [line.split(": ")[1] for line in out.splitlines()] == ["output.crf", "output.nope"]
    assert err.count("\n") == 1


def test_check_config_prints_a_sample_that_it_takes(here: Path, capsys: Capture) -> None:
    assert run("check-config", "--sample") == 0
    text = capsys.readouterr().out
    assert text == (ROOT / "configs/anonymize.yaml").read_text(encoding="utf-8")
    (here / "mine.yaml").write_text(text, encoding="utf-8")
    assert run("check-config", "mine.yaml") == 0


def test_the_verbose_version_names_all_that_a_report_needs(
    capsys: Capture, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("M2FP_STREAM_CAPTURE__INPUT", "rtsp://me:s3cret@cam/")
    assert run("--version", "--verbose") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("m2fp-stream ")
    for name in doctor._PACKAGES:
        assert f"\n{name} " in out
    for word in (platform.python_version(), platform.release(), "FFmpeg", "libx264", "cores"):
        assert word in out
    for word in ("CPUExecutionProvider", "pthreads", "hardening", "utf-8"):
        assert word in out
    for entry in store.read_manifest():
        assert f"{entry.name}: {entry.sha256[:16]} ({entry.runtime}), as shipped" in out
    assert "M2FP_STREAM_CAPTURE__INPUT" in out
    assert "s3cret" not in out


def test_the_verbose_version_names_no_user_and_no_folder(tmp_path: Path) -> None:
    """Not even where the home holds the program, and is where it is called."""
    home = tmp_path / "mallory"
    shutil.copytree(
        ROOT / "m2fp_stream", home / "m2fp_stream", ignore=shutil.ignore_patterns("__pycache__")
    )
    (home / "m2fp_stream/models/assets/parts.onnx").unlink()
    named = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "PWD")}
    done = subprocess.run(
        [sys.executable, "-m", "m2fp_stream", "--verbose", "--version"],
        cwd=home,
        env={**os.environ, **named, "USER": "mallory", "LOGNAME": "mallory"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "parts: 29cf" in done.stdout
    assert "missing or changed" in done.stdout
    for word in ("mallory", str(tmp_path), sys.prefix, platform.node()):
        assert word not in done.stdout + done.stderr


def test_the_verbose_version_says_what_it_cannot_know(capsys: Capture, monkeypatch: Patch) -> None:
    def nothing(*_: object) -> str:
        raise OSError

    real = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name == "m2fp-stream":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    def no_manifest() -> object:
        raise errors.ModelError("no manifest")

    monkeypatch.setattr(platform, "freedesktop_os_release", nothing)
    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    monkeypatch.setattr(doctor, "_line_of", lambda path, pattern: "")
    monkeypatch.setattr(store, "read_manifest", no_manifest)
    assert run("--version", "--verbose") == 0
    out = capsys.readouterr().out
    for word in ("not installed", "unknown distribution", "extensions unknown", "unknown on this"):
        assert word in out
    assert "without a manifest" in out


def test_the_verbose_version_knows_the_extras_of_the_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    wanted = {
        re.split("[>=<]", name)[0] for extra in extras if extra != "dev" for name in extras[extra]
    }
    assert set(doctor._EXTRA_PACKAGES) == wanted


def test_doctor_says_yes_where_everything_is_there(capsys: Capture) -> None:
    assert run("doctor") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == "anonymize can run"
    for word in ("Python", "system", "CPU", "memory", "FFmpeg", "libx264", "hardening", "SHA-256"):
        assert word in out
    for word in ("network", "not used", "cache folder", "embedded: loads and runs"):
        assert word in out


def test_doctor_says_what_the_cache_folder_holds(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "m2fp-stream"
    assert run("doctor") == 0
    assert f"{folder} (empty)" in capsys.readouterr().out
    (folder / "m2fp").mkdir(parents=True)
    (folder / "m2fp" / "one.onnx").write_bytes(bytes(2_000_000))
    assert run("doctor") == 0
    assert f"{folder} (2 MB of models)" in capsys.readouterr().out


def test_doctor_knows_the_dependencies_of_the_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    assert set(doctor._PACKAGES) == {name.partition(">")[0] for name in wanted}


@pytest.mark.parametrize(
    ("message", "text", "remedy"),
    [
        ("No module named 'cv2'", "not installed", "pip install opencv-python"),
        (
            "libGL.so.1: cannot open shared object file: No such file or directory",
            "needs the system library libGL.so.1",
            "apt-get install libxcb1 libgl1 libglib2.0-0",
        ),
    ],
)
def test_doctor_says_what_is_missing_and_is_2(
    message: str, text: str, remedy: str, capsys: Capture, monkeypatch: Patch
) -> None:
    real = importlib.import_module

    def import_module(name: str) -> object:
        if name == "cv2":
            raise ImportError(message)
        return real(name)

    monkeypatch.setattr("importlib.import_module", import_module)
    assert run("doctor") == 2
    out, err = capsys.readouterr()
    assert f"opencv-python  {text}\n" in out
    assert "anonymize can run" not in out
    assert "weights" not in out, "looked at with a package missing"
    assert err.startswith(f"m2fp-stream: error: anonymize cannot run: opencv-python: {text}")
    assert remedy in err
    assert err.count("\n") == 1


def test_doctor_waits_for_no_pipe(here: Path, capsys: Capture) -> None:
    os.mkfifo(here / "pipe")
    assert run("doctor", "--stats", "pipe") == 2
    assert "pipe: is no file; name the file of --stats" in capsys.readouterr().err


def test_doctor_says_that_completion_lacks_a_package_and_all_else_works(
    capsys: Capture, monkeypatch: Patch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert run("doctor") == 0
    out = capsys.readouterr().out
    assert "shtab           not installed\n" in out
    assert "-> pip install shtab\n" in out
    assert out.endswith("anonymize can run\n")
    assert run("completion", "bash") == 2
    assert "cannot import shtab" in capsys.readouterr().err


def test_doctor_wants_the_h264_encoder(capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setattr("av.codecs_available", {"mpeg4"})
    assert run("doctor") == 2
    assert "without libx264" in capsys.readouterr().err


def test_doctor_is_4_where_weights_are_not_as_shipped(capsys: Capture, monkeypatch: Patch) -> None:
    bad = [store.VerifyResult(name="x", ok=False, problem="model x: another hash")] * 2
    monkeypatch.setattr(store, "verify_all", lambda: bad)
    assert run("doctor") == 4
    assert "model x: another hash (and 1 more, above); reinstall" in capsys.readouterr().err

    def unreadable() -> list[store.VerifyResult]:
        raise errors.ModelError("no manifest")

    monkeypatch.setattr(store, "verify_all", unreadable)
    assert run("doctor") == 4
    assert "weights: no manifest" in capsys.readouterr().err


def test_doctor_is_4_where_the_parser_does_not_run(capsys: Capture, monkeypatch: Patch) -> None:
    def load_parser(name: str, *_: object) -> object:
        raise errors.ParserError("no runtime")

    monkeypatch.setattr("m2fp_stream.app.stills.load_parser", load_parser)
    assert run("doctor") == 4
    assert "parser: no runtime" in capsys.readouterr().err


def test_doctor_works_on_systems_without_proc(capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setattr(doctor, "_line_of", lambda path, pattern: "")
    monkeypatch.setattr("platform.system", lambda: "Plan9")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert run("doctor") == 0
    out = capsys.readouterr().out
    assert "unknown on this system" in out
    assert "only Linux is tested" in out
    monkeypatch.undo()
    assert doctor._line_of("/nonexistent", "x") == ""
