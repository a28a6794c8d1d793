"""Covers that others make, how they travel and are kept; and those of our own file pipeline."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m2fp_stream.config import load_settings
from scripts.bench.leak_run import Looks, run_pipeline
from scripts.bench.metrics import Cover
from scripts.bench.peers import before, cached, covers
from scripts.bench.scenes import Truth

SIZE_WH = (320, 180)


def text(array: Any) -> str:
    return base64.b64encode(zlib.compress(array.tobytes())).decode()


def frames(level: int, count: int = 4) -> list[Truth]:
    noise = np.random.default_rng(level).integers(0, 255, (*SIZE_WH[::-1], 3), np.uint8)
    return [Truth(np.roll(noise, 3 * k, axis=1), SIZE_WH) for k in range(count)]


def test_a_cover_that_travelled_is_the_same_cover() -> None:
    pixels = np.random.default_rng(1).random(SIZE_WH[::-1]) > 0.5
    tracks = np.arange(12, dtype=np.uint8).reshape(3, 4)
    line = {
        "frame": 7,
        "pixels": text(np.packbits(pixels)),
        "tracks": text(tracks),
        "tracks_hw": tracks.shape,
    }
    lines = iter([json.loads(json.dumps(line)), {"looks": {"faces": 1}, "seconds": 0.1}])
    ((number, cover),) = covers(lines, SIZE_WH)
    assert number == 7
    assert np.array_equal(cover.pixels, pixels)
    assert cover.tracks is not None
    assert np.array_equal(cover.tracks, tracks)


def test_a_cache_is_asked_once_for_the_same_frames_and_again_for_others(tmp_path: Path) -> None:
    made = 0

    def make() -> Iterator[dict[str, Any]]:
        nonlocal made
        made += 1
        yield {"looks": {"faces": made}, "seconds": 1.0}

    first = list(cached(tmp_path, "peer-scene-1", frames(1), make))
    assert list(cached(tmp_path, "peer-scene-1", frames(1), make)) == first
    assert made == 1
    assert list(cached(tmp_path, "peer-scene-1", frames(2), make)) != first
    assert list(cached(None, "peer-scene-1", frames(1), make)) != first
    assert made == 3


def test_a_cache_that_was_not_completed_is_none(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield {"frame": 0}
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        list(cached(tmp_path, "peer", frames(1), broken))
    assert list(cached(tmp_path, "peer", frames(1), lambda: iter([{"looks": {}}]))) == [
        {"looks": {}}
    ]


def test_a_checkout_without_the_pipeline_of_before_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"offline\.py"):
        list(before(tmp_path, frames(1), {}))


def test_every_frame_of_the_file_pipeline_is_judged_once_and_looks_are_counted() -> None:
    settings = load_settings(overrides={})
    watched: list[tuple[int, Cover]] = []
    verdicts, looks = run_pipeline(
        frames(3, 6),
        settings,
        Looks(),
        watch=lambda raw, cover: watched.append((raw.frame_id, cover)),
    )
    assert [verdict.frame_id for verdict in verdicts] == list(range(6))
    assert [number for number, _ in watched] == list(range(6))
    assert all(cover.pixels.shape == SIZE_WH[::-1] for _, cover in watched)
    assert sum(looks.values()) > 0
