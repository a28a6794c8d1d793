"""The leak benchmark's ground truth and its scale, on made-up people: no footage is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.bench.metrics import Bool, Cover, judge
from scripts.bench.scenes import (
    HEAD_PARTS,
    HEAD_SHARE,
    SCENES,
    SIZE_WH,
    Actor,
    Film,
    Part,
    Place,
    Scene,
    Shot,
    Truth,
    View,
    build,
    cut_out,
    panel,
)

NAMES = ["null", "hair", "skin", "dress", "hat", "glasses", "sunglasses"]
GREY = np.full((90, 160, 3), 120, np.uint8)
HEIGHT = 400


def somebody() -> Actor:
    """200x60 of photo: hair down to row 60, a face, a dress; hands of skin at the bottom."""
    labels = np.zeros((220, 80), np.uint8)
    labels[10:210, 10:70] = NAMES.index("dress")
    labels[10:70, 10:70] = NAMES.index("hair")
    labels[18:35, 25:55] = NAMES.index("skin")
    labels[200:210, 10:70] = NAMES.index("skin")
    photo = np.full((220, 80, 3), 30, np.uint8)
    return Actor(cut_out(photo, labels, NAMES), lambda time: Place(640 + 4 * time, 700, HEIGHT))


def render(*actors: Actor, index: int = 0, **shot: object) -> Truth:
    return Scene("made", 3, (Shot(GREY, 4, actors, **shot),)).render(index)  # type: ignore[arg-type]  # keywords of Shot


def rows_of(mask: Bool) -> tuple[int, int]:
    rows = np.flatnonzero(mask.any(axis=1))
    return int(rows[0]), int(rows[-1])


def test_a_head_ends_at_the_chin_and_hands_are_none_of_it() -> None:
    truth = render(somebody())
    top, bottom = rows_of(truth.heads[0])
    assert top == pytest.approx(700 - HEIGHT, abs=2)
    assert bottom == pytest.approx(700 - HEIGHT + HEAD_SHARE * HEIGHT, abs=3)


def test_hair_below_the_chin_is_neither_head_nor_clear() -> None:
    truth = render(somebody())
    assert rows_of(truth.aside)[0] >= rows_of(truth.heads[0])[1] - 3
    nothing = judge(truth, Cover(np.zeros(truth.people.shape, bool)))
    assert nothing.clear_px == truth.people.size - np.count_nonzero(truth.heads[0] | truth.aside)


def test_a_head_is_face_and_hair_and_hands_are_skin() -> None:
    (figure,) = render(somebody()).figures
    shares = [np.count_nonzero(figure.of([part])) for part in (Part.FACE, Part.HAIR)]
    # Of the photo's 200 rows, 27 are above the chin: 17x30 of them face, the rest of 60 hair.
    assert shares[0] / sum(shares) == pytest.approx(17 * 30 / (27 * 60), abs=0.03)
    skin = np.flatnonzero(figure.of([Part.SKIN]).any(axis=1))
    assert skin[0] + figure.rows.start == pytest.approx(700 - HEIGHT / 20, abs=2)


def test_the_face_box_is_that_of_the_whole_face_behind_a_board_too() -> None:
    board = Actor(panel((60, 700), np.random.default_rng(0)), lambda time: Place(610, 720, 700))
    alone, hidden = render(somebody()).figures[0], render(somebody(), board).figures[0]
    assert alone.face == hidden.face
    assert np.count_nonzero(hidden.of([Part.FACE])) < np.count_nonzero(alone.of([Part.FACE]))
    assert alone.face is not None
    assert alone.face.x == pytest.approx(640, abs=1)
    assert alone.face.width == pytest.approx(60, abs=2)


def test_a_head_without_a_face_has_the_box_of_one_in_it() -> None:
    labels = np.full((200, 60), NAMES.index("hair"), np.uint8)
    actor = Actor(cut_out(np.zeros((200, 60, 3), np.uint8), labels, NAMES), somebody().path)
    (figure,) = render(actor).figures
    assert not figure.of([Part.FACE]).any()
    assert figure.face is not None
    assert figure.face.width == pytest.approx(120 / 1.5, abs=3)
    assert figure.face.height == pytest.approx(HEAD_SHARE * HEIGHT / 1.7, abs=2)


def test_a_larger_picture_shows_the_same() -> None:
    shots = (Shot(GREY, 1, (somebody(),)),)
    small, large = (Scene("made", 3, shots, scale).render(0) for scale in (1, 1.5))
    assert large.size_wh == (1920, 1080)
    heads = [np.count_nonzero(truth.mask(HEAD_PARTS)) for truth in (small, large)]
    assert heads[1] / heads[0] == pytest.approx(1.5**2, rel=0.05)
    assert rows_of(large.heads[0])[0] == pytest.approx(1.5 * rows_of(small.heads[0])[0], abs=3)


def test_in_a_dissolve_who_is_faint_is_ignored_and_one_of_both_always_shows() -> None:
    late = Actor(somebody().cutout, lambda time: Place(200, 700, HEIGHT))
    scene = Scene("made", 3, (Shot(GREY, 8, (somebody(),)), Shot(GREY, 8, (late,), mixed_in=6)))
    assert scene.frames == 10
    truths = [scene.render(index) for index in range(10)]
    shown = [{figure.person for figure in truth.figures} for truth in truths]
    assert shown[:2] == [{0}, {0}]
    assert shown[8:] == [{100}, {100}]
    assert all(shown)
    assert truths[0].ignore is None
    faint = truths[2].ignore
    assert faint is not None
    assert faint[:, 150:250].any()
    assert not faint[:, 600:680].any()


def test_a_lamp_changes_the_light_and_nobody() -> None:
    dim, lit = (render(somebody(), lamp=lambda time, gain=gain: (gain,) * 3) for gain in (0.5, 1.0))
    assert dim.bgr.mean() == pytest.approx(lit.bgr.mean() / 2, abs=1)
    assert np.array_equal(dim.people, lit.people)


def test_the_same_person_keeps_a_number_and_another_one_has_another() -> None:
    twice = Actor(somebody().cutout, lambda time: Place(200, 700, HEIGHT))
    other = Actor(somebody().cutout, lambda time: Place(1000, 700, HEIGHT))
    truth = render(twice, Actor(twice.cutout, lambda time: Place(600, 700, HEIGHT)), other)
    numbers = [figure.person for figure in truth.figures]
    assert numbers[0] == numbers[1] != numbers[2]


def test_a_film_renders_a_frame_once_and_keeps_no_picture_of_4k() -> None:
    film = Film(Scene("made", 3, (Shot(GREY, 2, (somebody(),)),)))
    assert film[1] is film[1]
    large = Film(Scene("made", 3, (Shot(GREY, 2, (somebody(),)),), scale=3))
    assert callable(large[0].pixels)
    assert large[0].bgr.shape == (2160, 3840, 3)


def test_a_frame_is_the_same_every_time_and_the_noise_of_another_one_differs() -> None:
    assert np.array_equal(render(somebody(), index=1).bgr, render(somebody(), index=1).bgr)
    assert not np.array_equal(render(index=1).bgr, render(index=2).bgr)


def test_what_stands_behind_a_board_is_not_visible() -> None:
    board = Actor(panel((300, 700), np.random.default_rng(0)), lambda time: Place(640, 720, 700))
    truth = render(somebody(), board)
    assert truth.heads == ()
    assert not truth.people.any()


def test_the_head_moves_with_the_camera() -> None:
    still, moved = render(somebody()), render(somebody(), camera=lambda time: View(x=740))
    columns = [np.flatnonzero(t.heads[0].any(axis=0)).mean() for t in (still, moved)]
    assert columns[0] - columns[1] == pytest.approx(100, abs=1)


def test_a_runner_is_smeared_along_his_way() -> None:
    runner = Actor(somebody().cutout, lambda time: Place(640 + 160 * time, 700, HEIGHT))
    widths = [np.ptp(np.flatnonzero(render(a).people.any(axis=0))) for a in (somebody(), runner)]
    assert widths[1] > widths[0]


def test_a_shot_ends_where_the_next_begins() -> None:
    scene = Scene("made", 3, (Shot(GREY, 2, (somebody(),)), Shot(GREY, 3)))
    assert [len(scene.render(index).heads) for index in range(scene.frames)] == [1, 1, 0, 0, 0]
    with pytest.raises(IndexError):
        scene.render(5)


def test_no_footage_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no photos"):
        build("dash", data=tmp_path, half="tune", seed=1)


@pytest.mark.data
@pytest.mark.parametrize("name", SCENES)
def test_every_scene_shows_a_head(name: str, data_dir: Path) -> None:
    scene = build(name, data=data_dir, half="tune", seed=1)
    truths = [scene.render(index) for index in (8, 19, 44)]
    assert any(truth.heads for truth in truths)
    assert all(truth.bgr.shape == (SIZE_WH[1], SIZE_WH[0], 3) for truth in truths)
