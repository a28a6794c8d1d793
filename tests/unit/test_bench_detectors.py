"""What the figures about detectors rest on: the split, the judging, the calibration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.bench.detectors import LOWEST, altered, calibration, judge, knots, two_scales, unturned
from scripts.everyday import Person, Photo, half, photos


def photo(*people: Person, crowds: list[list[float]] | None = None) -> Photo:
    corners = np.array(crowds or [], np.float32).reshape(-1, 4)
    return Photo(Path("somebody.jpg"), "test", people, corners)


def person(x1: float, y1: float, x2: float, y2: float, *head: float) -> Person:
    """A person with visible nose, left and right eye at the six numbers of `head`."""
    points = None
    if head:
        points = np.zeros((17, 3), np.float32)
        points[:3, :2] = np.array(head).reshape(3, 2)
        points[:3, 2] = 2
    return Person(np.array([x1, y1, x2, y2], np.float32), points)


def rows(*boxes: tuple[float, float, float, float, float]) -> dict[str, NDArray[np.float32]]:
    return {"somebody.jpg": np.array(boxes, np.float32).reshape(-1, 5)}


def test_the_split_of_a_file_never_changes() -> None:
    assert half("000000000872.jpg") == "report"
    assert half("0001cb734adac2ee.jpg") == "tune"


def test_the_split_is_about_even() -> None:
    tune = sum(half(f"{number:012d}.jpg") == "tune" for number in range(2000))
    assert 900 < tune < 1100


def test_labels_are_read_with_crowds_apart(tmp_path: Path) -> None:
    folder = tmp_path / "everyday" / "coco_person_boxes"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "1.jpg").write_bytes(b"")
    labels = [
        {"image": "1", "bbox": [10, 20, 30, 40], "keypoints": [1.0] * 51},
        {"image": "1", "bbox": [0, 0, 200, 50]},
    ]
    (folder / "annotations.json").write_text(json.dumps({"annotations": labels}))
    (found,) = photos(tmp_path, ("coco_person_boxes",))
    assert [p.xyxy.tolist() for p in found.people] == [[10, 20, 40, 60]]
    assert found.crowds.tolist() == [[0, 0, 200, 50]]
    by_half = [photos(tmp_path, ("coco_person_boxes",), which) for which in ("tune", "report")]
    assert [len(part) for part in by_half] == [half("1.jpg") == "tune", half("1.jpg") == "report"]


def test_a_person_is_found_by_a_box_that_shares_enough_and_a_part_is_not_false() -> None:
    tally = judge(
        rows((0, 0, 100, 200, 0.9), (300, 0, 340, 40, 0.8), (500, 0, 600, 200, 0.7)),
        [photo(person(0, 0, 100, 200), person(300, 0, 400, 200))],
        faces=False,
    )
    assert tally.best.tolist() == [pytest.approx(0.9), 0]
    assert tally.right.tolist() == [True, False]  # the second box, a part of somebody, is left out
    assert tally.recall(0.5, (0, 1e9)) == 0.5
    assert tally.false_each(0.5) == 1
    assert tally.precision(0.5) == 0.5
    assert tally.precision(0.75) == 1


def test_a_face_is_found_by_a_box_that_holds_the_nose() -> None:
    somebody = person(0, 0, 100, 200, 50, 40, 60, 30, 40, 30)
    tally = judge(
        rows((30, 10, 70, 60, 0.9), (0, 120, 40, 160, 0.8)), [photo(somebody)], faces=True
    )
    assert tally.best == pytest.approx([0.9])
    assert tally.sizes == pytest.approx([46])
    assert tally.right.tolist() == [True, False]  # the second is a hand


def test_a_face_at_somebody_whose_head_is_not_labelled_is_left_out() -> None:
    found = rows((30, 10, 70, 60, 0.9))
    assert judge(found, [photo(person(0, 0, 100, 200))], faces=True).scores.size == 0
    assert judge(found, [photo(crowds=[[0, 0, 100, 100]])], faces=True).scores.size == 0
    assert judge(found, [photo()], faces=True).right.tolist() == [False]


def test_calibration_finds_the_curve_that_made_the_scores() -> None:
    rng = np.random.default_rng(3)
    scores = rng.uniform(LOWEST, 0.95, 40_000)
    for slope, shift in ((1.7, 0.6), (4.0, 6.0)):  # from the latter, whole Newton steps run away
        truth = 1 / (1 + np.exp(-(slope * np.log(scores / (1 - scores)) + shift)))
        a, b = calibration(rng.uniform(size=scores.size) < truth, scores)
        assert (a, b) == pytest.approx((slope, shift), rel=0.05)


def test_knots_follow_the_share_of_right_boxes_and_never_fall() -> None:
    scores = np.repeat([0.07, 0.12, 0.17, 0.9], 1000)
    right = np.zeros(4000, bool)
    right[:100] = right[1000:1300] = right[2000:2200] = right[3000:3900] = True
    found = knots(right, scores)
    # The third share (0.2) is below the second (0.3): both become 0.25.
    assert [odds for _, odds in found] == pytest.approx([-2.2, -1.1, 2.2], abs=0.03)


@pytest.mark.parametrize("condition", ["turn90", "turn180", "turn270"])
def test_boxes_of_a_turned_picture_return_to_where_they_were(condition: str) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[5:15, 20:50] = 255
    turned = altered(picture, condition, "x")
    ys, xs = np.nonzero(turned[..., 0])
    found = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, 0.5]], np.float32)
    assert unturned(found, condition, (40, 60)).tolist() == [[20, 5, 50, 15, 0.5]]
    assert unturned(np.zeros((0, 15), np.float32), condition, (40, 60)).shape == (0, 15)


def test_noise_of_a_darkened_picture_is_the_same_each_time() -> None:
    picture = np.full((20, 20, 3), 160, np.uint8)
    dark = altered(picture, "gain16", "a.jpg")
    assert np.array_equal(dark, altered(picture, "gain16", "a.jpg"))
    assert not np.array_equal(dark, altered(picture, "gain16", "b.jpg"))
    assert dark.mean() == pytest.approx(10, abs=0.5)
    assert altered(picture, "blur9", "a.jpg")[10, 10].tolist() == [160, 160, 160]


def test_of_a_finer_look_only_small_boxes_count() -> None:
    near = np.array([[0, 0, 400, 400, 0.5]], np.float32)
    far = np.array([[0, 0, 350, 350, 0.9], [500, 0, 540, 80, 0.4]], np.float32)
    assert two_scales(near, far, 640).tolist() == [
        [0, 0, 400, 400, 0.5],
        [500, 0, 540, 80, pytest.approx(0.4)],
    ]
