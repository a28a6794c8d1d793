"""A part network of one's own looks in whole runs, shut in; changed, it never does."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.models.pins import Measured, StudentPin, content_of, store_folder
from m2fp_stream.models.store import load_verified
from m2fp_stream.models.students import install_student, make_folder
from tests.kit.cli import clean_environment, program


def installed(home: Path) -> Path:
    """Installs the shipped network under another name, as if it had been distilled."""
    store = store_folder({"XDG_DATA_HOME": str(home)})
    make_folder(store)
    shipped = home / "parts.onnx"
    shipped.write_bytes(load_verified("parts"))
    found = content_of(shipped)
    figures = Measured(miou=0.5, head_recall=0.5, spill=0.0, samples=2)
    pin = StudentPin(
        sha256=found.sha256,
        bytes=found.bytes,
        origin="a copy",
        started_from=found.sha256,
        teacher="nobody",
        teacher_sha256=found.sha256,
        licence="Apache-2.0",
        made="2026-01-02",
        before=figures,
        after=figures,
    )
    return install_student("mine", store, shipped.read_bytes(), pin)


def test_chosen_weights_look_and_changed_ones_never_do(
    portrait: NDArray[np.uint8], tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    student = installed(tmp_path / "home")
    cv2.imwrite(str(tmp_path / "in.png"), portrait)

    def covered(out: str, *words: str) -> subprocess.CompletedProcess[Any]:
        command = program("anonymize", str(tmp_path / "in.png"), "-o", str(tmp_path / out), *words)
        environment = clean_environment() | {"XDG_DATA_HOME": str(tmp_path / "home")}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert covered("shipped.png").returncode == 0
    done = covered("mine.png", "--weights", "mine")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine.png").read_bytes() == (tmp_path / "shipped.png").read_bytes()

    data = bytearray(student.read_bytes())
    data[-1] ^= 1
    student.write_bytes(data)
    failed = covered("changed.png", "--weights", "mine")
    assert failed.returncode == 4
    assert "was pinned" in failed.stderr
    assert not (tmp_path / "changed.png").exists()
