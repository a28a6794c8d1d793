"""A disk that is full midway: no output, nothing left of it, and the others go on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np

from tests.kit import media
from tests.kit.cli import clean_environment, program
from tests.kit.disk import small_disk

ROOM = 1_200_000
"""Bytes; the film's sink writes a MB at a time, so that its second piece does not fit."""


def test_a_disk_that_is_full_midway_keeps_nothing_and_what_fits_is_made(tmp_path: Path) -> None:
    noise = np.random.default_rng(1)
    pictures = [noise.integers(0, 256, (192, 320, 3), np.uint8) for _ in range(24)]
    (tmp_path / "in").mkdir()
    media.write_video(
        tmp_path / "in/film.mp4", frames=pictures, size_wh=(320, 192), options={"crf": "2"}
    )
    assert (tmp_path / "in/film.mp4").stat().st_size > ROOM
    large = noise.integers(0, 256, (720, 1280, 3), np.uint8)
    for name, picture in (("large.png", large), ("small.png", large[:64, :64])):
        assert cv2.imwrite(str(tmp_path / "in" / name), picture)
    media.write_moving(tmp_path / "in/moving.gif", [large] * 2)
    with small_disk(tmp_path / "disk", 4) as disk:
        disk.fill(ROOM)
        command = program("anonymize", "in", "-o", str(disk.folder), "--hide", "face")
        done = subprocess.run(
            [*command, "--crf", "2"],
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stderr.splitlines()
        assert done.returncode == 8, done.stderr
        for name in ("film", "large", "moving"):
            (told,) = [line for line in lines if f"in/{name}." in line]
            assert "cannot be written (No space left on device); free some space" in told
        assert lines[-1].endswith("3 of 4 files failed, see above; the others are complete")
        left = sorted(path.name for path in disk.folder.iterdir())
        assert left == ["ballast", "small.anonymized.png"]
