"""Zones from end to end: the real program on pictures of a person, files and a live run."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.kit import media
from tests.kit.film import (
    LOOKS_LIKE_HER,
    PATIENT,
    Bgr,
    likeness,
    pictures,
    run,
    shows_room,
    write_config,
)

SOLID = np.array((48, 42, 38))
RIGHT = "0.7,0,1,1"
"""The shuttle model behind her."""
NEAR = 26
"""H.264 and its chroma at a hard border change a flat colour by less (of 255)."""


def is_solid(picture: Bgr) -> bool:
    return bool(np.abs(picture.astype(int) - SOLID).max() <= NEAR)


def right_of(picture: Bgr) -> Bgr:
    return picture[:, picture.shape[1] * 7 // 10 :]


def changed(picture: Bgr, source: Bgr) -> NDArray[np.bool_]:
    return np.asarray(np.abs(picture.astype(int) - source.astype(int)).max(axis=2) > NEAR)


def test_a_zone_of_a_film_is_covered_in_every_frame_and_she_is_too(
    film: Path, portrait: Bgr, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    done = run(
        *("anonymize", film, "-o", out, "--zone", RIGHT, "--effect", "zone=solid"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    shown = list(pictures(out))
    assert len(shown) == 60
    assert all(is_solid(right_of(picture)) for picture in shown)
    assert max(likeness(picture, portrait) for picture in shown) < LOOKS_LIKE_HER
    left = [
        changed(one, two)[:, :60].mean() for one, two in zip(shown, pictures(film), strict=True)
    ]
    assert max(left) < 0.05, "what is in no zone stays"


def test_inverted_only_the_zone_is_shown_and_she_is_covered_there(
    film: Path, portrait: Bgr, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    done = run("anonymize", film, "-o", out, "--zone", "0.3,0,1,1", "--invert", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = list(pictures(out))
    assert max(likeness(picture, portrait) for picture in shown) < LOOKS_LIKE_HER
    assert all(shows_room(picture, portrait) for picture in shown)
    for picture, source in zip(shown, pictures(film), strict=True):
        edges = [cv2.Laplacian(one[:, :110], cv2.CV_64F).std() for one in (picture, source)]
        assert edges[0] < edges[1] / 2


def test_whoever_is_in_a_keep_zone_stays_and_the_summary_says_so(
    film: Path, portrait: Bgr, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    words = ("--keep-zone", "0,0,1,1", "--cover-span", "0:01-0:02")
    done = run("anonymize", film, "-o", out, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    looks = [likeness(picture, portrait) for picture in pictures(out)]
    assert min(looks[:14] + looks[32:]) > 0.9
    assert max(looks[15:31]) < LOOKS_LIKE_HER
    assert "16 covered on request" in done.stdout
    assert "44 with people left alone in a keep-zone" in done.stdout
    assert "wholly covered" not in done.stdout


def test_a_keep_zone_that_holds_her_in_part_leaves_nothing_of_her_open(
    film: Path, portrait: Bgr, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    done = run("anonymize", film, "-o", out, "--keep-zone", "0,0,0.5,1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(likeness(picture, portrait) for picture in pictures(out)) < LOOKS_LIKE_HER
    assert "left alone" not in done.stdout


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg", "animation.gif"])
def test_zones_hold_in_pictures_and_animations(name: str, portrait: Bgr, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("gif"):
        drawn = [cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)] * 5
        frames = [np.asarray(one, np.uint8) for one in drawn]
        media.write_video(path, codec="gif", pix_fmt="rgb8", size_wh=(256, 256), frames=frames)
    else:
        path.write_bytes(cv2.imencode(path.suffix, portrait)[1].tobytes())
    out = tmp_path / f"out{path.suffix}"
    words = ("--zone", RIGHT, "--effect", "solid")
    done = run("anonymize", path, "-o", out, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = list(pictures(out))
    assert all(is_solid(right_of(picture)) for picture in shown)
    assert all(not is_solid(picture[:, :20]) for picture in shown)
    assert max(likeness(picture, portrait) for picture in shown) < LOOKS_LIKE_HER


def test_a_zone_lies_in_the_upright_picture(tmp_path: Path) -> None:
    """Its pixels are counted after the display matrix was applied."""
    path, out = tmp_path / "turned.mp4", tmp_path / "out.mp4"
    media.write_video(path, size_wh=(160, 96), rotation=(90.0, False, False))
    words = ("--zone", "0,120,96,160", "--effect", "solid")  # the lowest quarter of 96x160
    done = run("anonymize", path, "-o", out, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for picture in pictures(out):
        assert picture.shape == (160, 96, 3)
        assert is_solid(picture[122:])
        assert not is_solid(picture[:100])


@pytest.mark.parametrize("words", ["--zone 0,0,401,20", "--keep-zone 0,0,10,361"])
def test_a_zone_outside_the_picture_is_one_line_and_leaves_nothing(
    film: Path, tmp_path: Path, words: str
) -> None:
    done = run("anonymize", film, "-o", tmp_path / "out.mp4", *words.split(), cwd=tmp_path)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(lines) == 1
    assert "reaches outside the picture of 400x360" in lines[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_time_at_which_there_is_no_frame_is_a_warning(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "in.mp4", count=5)
    words = ("anonymize", path, "-o", tmp_path / "out.mp4", "--cover-span", "0:10-0:12")
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0:10-0:12: no frame is shown then" in done.stderr
    done = run(*words, "--overwrite", "--strict", cwd=tmp_path)
    assert done.returncode == 3


@pytest.mark.paced
def test_a_live_run_shows_nothing_of_its_zone(film: Path, portrait: Bgr, tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "run.yaml",
        policy={"zones": [RIGHT], "effects": {"zone": "solid"}},
        capture={"input": str(film), "loop": True},
        live=PATIENT,
        record={"enabled": True, "folder": str(tmp_path), "preset": "ultrafast"},
    )
    stats = tmp_path / "stats.json"
    done = run("run", config, "--stats", stats, "--seconds", "8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = [picture for path in tmp_path.glob("m2fp-stream-*.mp4") for picture in pictures(path)]
    facts = json.loads(stats.read_text())
    assert facts["zones"] == 1
    assert facts["frames"] > facts["frames_wholly_covered"]
    open_ones = [picture for picture in shown if is_solid(right_of(picture))]
    assert len(open_ones) > 10
    # The rest are cards, or fade into them by the encoder: nothing of the model is seen.
    assert not any(shows_room(picture, portrait) for picture in shown)
    assert max(likeness(picture, portrait) for picture in shown) < LOOKS_LIKE_HER


def test_a_time_is_refused_for_a_live_run(film: Path, tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "run.yaml",
        policy={"cover_spans": ["1-2"]},
        capture={"input": str(film)},
        pipe={"enabled": True},
    )
    done = run("run", config, cwd=tmp_path)
    assert done.returncode == 2
    assert "are for files" in done.stderr
