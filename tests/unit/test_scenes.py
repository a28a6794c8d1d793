"""The leak benchmark's ground truth and its scale, on made-up people: no footage is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.bench.leak import Bool, judge, longest_run
from scripts.bench.scenes import (
    HEAD_SHARE,
    SCENES,
    SIZE_WH,
    Actor,
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
    nothing = judge(truth, np.zeros(truth.people.shape, bool))
    assert nothing.clear_px == truth.people.size - np.count_nonzero(truth.heads[0] | truth.aside)


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


def test_judge_counts_the_open_share_of_the_worst_head() -> None:
    head = np.zeros((40, 40), bool)
    head[10:20, 10:20] = True
    nowhere = np.zeros_like(head)
    truth = Truth(np.zeros((40, 40, 3), np.uint8), (head,), head, nowhere)
    covered = nowhere.copy()
    covered[0:17, :] = True
    verdict = judge(truth, covered)
    assert verdict.worst == pytest.approx(0.3)
    assert (verdict.head_px, verdict.open_px) == (100, 30)
    assert (verdict.clear_px, verdict.over_px) == (1500, 17 * 40 - 70)


def test_judge_leaves_out_heads_too_small_to_show_anybody() -> None:
    head = np.zeros((40, 40), bool)
    head[0, :59] = True
    truth = Truth(np.zeros((40, 40, 3), np.uint8), (head,), head, np.zeros_like(head))
    assert judge(truth, np.zeros_like(head)).worst == 0


def test_longest_run() -> None:
    assert longest_run([True, True, False, True]) == 2
    assert longest_run([]) == 0


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
