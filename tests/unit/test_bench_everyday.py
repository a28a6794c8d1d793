"""The leak benchmark's everyday pictures: whose half they are, and where heads are in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.bench.metrics import HIDES, Cover, judge
from scripts.bench.scenes import (
    HEAD_PARTS,
    U8,
    ZONES,
    Figure,
    Half,
    Known,
    Part,
    Scene,
    Shot,
    Truth,
)
from scripts.bench.scenes_everyday import (
    BACKS,
    EVERYDAY,
    LAST_SCENES,
    ROOMS,
    SCENES,
    SEATED,
    STREETS,
    Album,
    KeyPoints,
    build,
    head_of,
)
from scripts.everyday import half

NOBODY = [name for name in EVERYDAY if name.startswith("empty")]


def key_points(**seen: tuple[float, float]) -> KeyPoints:
    names = ["nose", "eye0", "eye1", "ear0", "ear1", "shoulder0", "shoulder1"]
    points = np.zeros((17, 3))
    for name, xy in seen.items():
        points[names.index(name)] = (*xy, 2)
    return points


def test_the_half_of_a_picture_is_told_by_the_hash_of_its_name() -> None:
    # First bytes of SHA-1, by sha1sum: 0c1783... -> even, 000ceb... -> odd.
    assert half("0c1783b09ee05447.jpg") == "tune"
    assert half("000ceb7c62a21547.jpg") == "report"


@pytest.mark.parametrize("names", [STREETS, ROOMS, [f"{s.split('/')[1]}" for s in SEATED]])
def test_both_halves_have_enough_pictures(names: list[str]) -> None:
    halves = [half(f"{name}.jpg") for name in names]
    assert min(halves.count("tune"), halves.count("report")) >= 3


def test_both_halves_have_enough_people_from_behind() -> None:
    halves = [half(one.split("/")[0].zfill(12) + ".jpg") for one in BACKS]
    assert min(halves.count("tune"), halves.count("report")) >= 4


def test_the_last_scenes_are_scenes_of_their_own_at_the_end() -> None:
    assert SCENES[-3:] == LAST_SCENES
    assert len(set(SCENES)) == len(SCENES)


def test_a_head_seen_from_the_front_is_as_large_as_its_eyes_are_apart() -> None:
    head = head_of(key_points(nose=(100, 70), eye0=(112.6, 60), eye1=(87.4, 60)))
    assert head is not None  # four pixels a centimetre
    assert [head.width, head.height] == pytest.approx([66, 94])
    assert [head.x, head.y] == pytest.approx([100, 58])
    assert head.face


def test_a_turned_head_is_not_smaller_for_its_eyes_being_closer() -> None:
    front = head_of(key_points(nose=(100, 70), eye0=(112.6, 60), eye1=(87.4, 60)))
    turned = head_of(key_points(nose=(120, 70), eye0=(118, 60), eye1=(106, 60), ear1=(71, 66)))
    assert front is not None
    assert turned is not None
    assert turned.height == pytest.approx(front.height, rel=0.1)


def test_the_back_of_a_head_is_the_top_of_the_person_above_the_shoulders() -> None:
    person = np.zeros((300, 200), bool)
    person[20:60, 85:115] = True  # head and neck
    person[60:280, 60:140] = True
    points = key_points(shoulder0=(130, 70), shoulder1=(70, 70))
    head = head_of(points, person)
    assert head is not None
    assert not head.face
    assert head.x == pytest.approx(100, abs=1)
    assert head.y - head.height / 2 == pytest.approx(19, abs=1)
    assert 50 < head.y + head.height / 2 < 65
    assert head_of(points) is None  # a box says nothing about the top


@pytest.mark.parametrize(
    "points",
    [
        {},
        {"nose": (100, 70)},
        {"eye0": (100, 70)},
        {"shoulder0": (130, 70)},
        {"ear0": (100, 70), "shoulder0": (130, 90)},
    ],
)
def test_too_few_key_points_tell_no_head(points: dict[str, tuple[float, float]]) -> None:
    assert head_of(key_points(**points), np.ones((200, 200), bool)) is None


def test_who_is_perhaps_somebody_is_nobody_under_head_and_ignored_under_person() -> None:
    parts = np.full((40, 40), Part.MAYBE, np.uint8)
    figure = Figure(0, slice(60, 100), slice(60, 100), parts, labelled=False)
    truth = Truth(np.zeros((180, 320, 3), np.uint8), (320, 180), (figure,))
    pixels = np.zeros((180, 320), bool)
    pixels[70:80, 70:80] = True
    for name, outside in (("head", 100), ("face", 100), ("person", 0), ("skin", 0), ("parts", 0)):
        verdict = judge(truth, Cover(pixels), hide=HIDES[name])
        assert (verdict.outside_over_px, verdict.required_px) == (outside, 0), name


def test_a_known_person_of_the_background_moves_with_the_camera() -> None:
    weights = np.zeros((30, 20, 9), np.float32)
    weights[..., 8] = 1
    weights[:10, :, ZONES.index(Part.HEAD)] = 1
    known = Known(((weights, (100, 50)),), np.zeros((360, 640), bool))
    shot = Shot(np.full((360, 640, 3), 90, np.uint8), 2, known=known, overscan=1.0)
    truth = Scene("made", 1, (shot,)).render(0)
    rows, columns = np.nonzero(truth.mask(HEAD_PARTS))
    # Twice as large: x 200 to 240, y 100 to 120.
    assert [columns.min(), columns.max()] == pytest.approx([200, 239], abs=2)
    assert [rows.min(), rows.max()] == pytest.approx([100, 119], abs=2)


@pytest.mark.data
@pytest.mark.parametrize("name", EVERYDAY)
def test_every_scene_shows_somebody_or_is_empty(name: str, data_dir: Path) -> None:
    scene = build(name, data=data_dir, half="tune", seed=1)
    assert scene.frames <= 90
    truth = scene.render(scene.frames - 1)
    assert truth.bgr.shape == (*scene.size_wh[::-1], 3)
    assert bool(truth.heads) == (name not in NOBODY)


@pytest.mark.data
@pytest.mark.parametrize("side", ["tune", "report"])
def test_a_scene_uses_only_pictures_of_its_half(
    side: Half, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    take = Album.picture

    def noted(album: Album, folder: str, name: str) -> U8:
        used.append(name)
        return take(album, folder, name)

    monkeypatch.setattr(Album, "picture", noted)
    for name in EVERYDAY:
        for seed in (1, 2):
            build(name, data=data_dir, half=side, seed=seed)
    assert len(used) > 2 * len(EVERYDAY)
    assert {half(name) for name in used} == {side}
