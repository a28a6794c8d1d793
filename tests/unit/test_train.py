"""The parts of the training scripts that need no training framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.parsers.embedded.boxes import Box
from m2fp_stream.parsers.embedded.classes import (
    HIDING_GROUPS,
    LABEL_OF,
    UNCALIBRATED,
    PartClass,
    hiding_thresholds,
)
from m2fp_stream.training.samples import IGNORE
from scripts.train.augment import (
    CROP_SHAPES,
    OUTPUT_STRIDE,
    Sampler,
    crop_matrix,
    swap_sides,
    warped,
    warped_classes,
)
from scripts.train.calibrate import RECALLS, calibrate
from scripts.train.evaluate import EIGHT, Scores, evaluate, views
from scripts.train.photos import (
    Photo,
    class_table,
    photo_ids,
    read_photo,
    write_photo,
)

Map = NDArray[np.uint8]


def a_photo(name: str = "0001") -> Photo:
    """A person of rectangles on a textured wall."""
    rng = np.random.default_rng(int(name))
    classes = np.zeros((400, 260), np.uint8)
    classes[40:80, 100:160] = PartClass.HAIR
    classes[60:90, 110:150] = PartClass.FACE
    classes[90:200, 90:170] = PartClass.UPPER_CLOTHES
    classes[100:200, 75:90] = PartClass.RIGHT_ARM
    classes[100:200, 170:185] = PartClass.LEFT_ARM
    classes[200:350, 95:165] = PartClass.LOWER_CLOTHES
    classes[350:365, 95:125] = PartClass.RIGHT_SHOE
    classes[350:365, 135:165] = PartClass.LEFT_SHOE
    classes[0:30, 0:30] = IGNORE
    bgr = np.where(classes == IGNORE, 0, classes)[..., None] * np.array([10, 14, 16])
    bgr = (bgr + rng.integers(0, 8, bgr.shape)).astype(np.uint8)
    points = rng.uniform(100, 200, (33, 2)).astype(np.float32)
    return Photo(name, bgr, classes, Box(75, 40, 185, 365, 1.0), Box(110, 60, 150, 90, 0.9), points)


def test_every_class_has_a_label_and_groups_do_not_overlap() -> None:
    assert set(LABEL_OF) == set(PartClass)
    grouped = [part for parts in HIDING_GROUPS.values() for part in parts]
    assert len(grouped) == len(set(grouped))
    eight = [part for parts in EIGHT.values() for part in parts]
    assert sorted(eight) == sorted(PartClass)


def test_thresholds_are_shared_by_a_group_and_the_rest_has_the_common_one() -> None:
    thresholds = hiding_thresholds({"face": 0.1, "skin": 0.2})
    assert thresholds[PartClass.GLASSES] == thresholds[PartClass.FACE] == 0.1
    assert thresholds[PartClass.LEFT_LEG] == 0.2
    assert thresholds[PartClass.HAIR] == thresholds[PartClass.UPPER_CLOTHES] == UNCALIBRATED


def test_label_names_of_the_data_set_become_classes() -> None:
    table = class_table(["null", "skin", "hair", "boots", "skirt", "bag", "blazer", "sunglasses"])
    assert table[:8].tolist() == [
        PartClass.BACKGROUND,
        PartClass.TORSO_SKIN,
        PartClass.HAIR,
        PartClass.LEFT_SHOE,
        PartClass.LOWER_CLOTHES,
        PartClass.ACCESSORY,
        PartClass.UPPER_CLOTHES,
        PartClass.GLASSES,
    ]
    assert (table[8:] == IGNORE).all()


def test_photographs_kept_for_others_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "ccp" / "photos"
    folder.mkdir(parents=True)
    for number in range(10):
        (folder / f"{number:04}.jpg").touch()
    assert photo_ids(tmp_path, (0, 4)) == ["0000", "0004", "0005", "0009"]
    with pytest.raises(ValueError, match="kept for others"):
        photo_ids(tmp_path, (2, 3))
    with pytest.raises(FileNotFoundError, match="--data"):
        photo_ids(tmp_path / "elsewhere", (0,))


def test_a_prepared_photograph_comes_back_equal(tmp_path: Path) -> None:
    photo = a_photo()
    write_photo(tmp_path, photo)
    back = read_photo(tmp_path, photo.name)
    assert np.array_equal(back.bgr, photo.bgr)
    assert np.array_equal(back.classes, photo.classes)
    assert np.array_equal(back.points, photo.points)
    assert (back.person, back.face) == (photo.person, photo.face)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["0001.npz"]


def test_a_mirror_swaps_sides_and_a_second_one_swaps_back() -> None:
    classes = a_photo().classes
    swapped = swap_sides(classes)
    assert (swapped[classes == PartClass.LEFT_ARM] == PartClass.RIGHT_ARM).all()
    assert (swapped[classes == PartClass.HAIR] == PartClass.HAIR).all()
    assert (swapped[classes == IGNORE] == IGNORE).all()
    assert np.array_equal(swap_sides(swapped), classes)


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 2.0])
def test_pixels_and_classes_of_a_crop_lie_in_the_same_place(scale: float) -> None:
    classes = np.zeros((300, 300), np.uint8)
    cv2.circle(classes, (150, 140), 60, 1, -1)
    matrix = crop_matrix((150, 140), scale, (224, 224), degrees=10)
    pixels = warped(
        np.repeat(classes[..., None] * 255, 3, axis=2).astype(np.uint8), matrix, (224, 224)
    )
    truth = warped_classes(classes, matrix, (224, 224), 1)
    bright = pixels[..., 0] > 127
    assert (bright & (truth > 0)).sum() > 0.93 * (bright | (truth > 0)).sum()
    coarse = warped_classes(classes, matrix, (224, 224), OUTPUT_STRIDE)
    assert abs(int(coarse.sum()) * OUTPUT_STRIDE**2 - int(truth.sum())) < 0.06 * truth.sum()


def test_a_sample_depends_on_seed_and_number_alone() -> None:
    photos = [a_photo("0001"), a_photo("0002")]
    first, again, other = Sampler(photos, 3), Sampler(photos, 3), Sampler(photos, 4)
    again(99, CROP_SHAPES[1])
    for number in range(6):
        rgb, classes = first(number, CROP_SHAPES[0])
        same_rgb, same_classes = again(number, CROP_SHAPES[0])
        assert np.array_equal(rgb, same_rgb)
        assert np.array_equal(classes, same_classes)
        assert not np.array_equal(rgb, other(number, CROP_SHAPES[0])[0])


def test_samples_hold_known_classes_at_the_networks_output_size() -> None:
    sampler = Sampler([a_photo("0001"), a_photo("0002")], 5)
    for number in range(40):
        shape = CROP_SHAPES[number % 2]
        rgb, classes = sampler(number, shape)
        assert rgb.shape == (*shape, 3)
        assert classes.shape == (shape[0] // OUTPUT_STRIDE, shape[1] // OUTPUT_STRIDE)
        assert set(np.unique(classes)) <= {*PartClass, IGNORE}


def oracle(photo: Photo, **changes: Any) -> Any:
    """A network that answers the truth of the view it is shown; `changes` class to class."""
    answers = []
    for matrix, shape in views(photo).values():
        truth = warped_classes(photo.classes, matrix, shape, 1)
        for old, new in changes.items():
            truth = np.where(truth == PartClass[old], PartClass[new], truth)
        chances = np.stack([truth == part for part in PartClass]).astype(np.float32)
        answers.append(chances)
    queue = iter(answers * 10)
    return lambda _: next(queue)


def test_a_perfect_answer_scores_one_and_covers_no_background() -> None:
    photo = a_photo()
    table = evaluate(oracle(photo), [photo], hiding_thresholds({}))["full body"].table()
    assert {name: row["iou"] for name, row in table["classes"].items() if name != "accessory"} == (
        dict.fromkeys([*(name for name in EIGHT if name != "accessory"), "person"], 1.0)
    )
    hiding = table["hiding"]["all three"]
    assert hiding["face recall"] == hiding["hair recall"] == hiding["skin recall"] == 1
    assert hiding["over-blur"] == 0


def test_a_lost_part_is_a_lost_recall_and_an_invented_one_over_blur() -> None:
    photo = a_photo()
    thresholds = hiding_thresholds({})
    lost = evaluate(oracle(photo, FACE="BACKGROUND"), [photo], thresholds)["full body"].table()
    assert lost["hiding"]["face"]["face recall"] == 0
    assert lost["classes"]["face"]["iou"] == 0
    found = evaluate(oracle(photo, BACKGROUND="HAIR"), [photo], thresholds)["full body"].table()
    assert found["hiding"]["hair"]["over-blur"] == 1
    assert found["hiding"]["face"]["over-blur"] == 0


def test_bystanders_count_only_where_it_is_said() -> None:
    scores = Scores.empty(hiding_thresholds({}))
    truth = np.full((2, 2), IGNORE, np.uint8)
    truth[0] = PartClass.BACKGROUND
    chances = np.zeros((len(PartClass), 2, 2), np.float32)
    chances[PartClass.BACKGROUND, 0] = chances[PartClass.FACE, 1] = 1
    scores.add(chances, truth, truth == IGNORE)
    face = scores.table()["hiding"]["face"]
    assert face["over-blur"] == 0
    assert face["over-blur, all"] == 0.5
    assert scores.confusion.sum() == 2


def test_calibration_reaches_the_wanted_recall_and_no_less_than_it_needs() -> None:
    photos = [a_photo("0001"), a_photo("0006")]
    rng = np.random.default_rng(1)

    def network(rgb: Map) -> NDArray[np.float32]:
        """Knows little: chances spread evenly over 0..1 everywhere."""
        shape = (rgb.shape[0] // 2, rgb.shape[1] // 2)
        chances = rng.uniform(0, 1 / 5, (len(PartClass), *shape))
        return chances.astype(np.float32)

    thresholds = calibrate(network, photos)
    assert set(thresholds) == set(RECALLS)
    assert all(0 < value < 0.5 for value in thresholds.values())
    # Two classes share a threshold: their sum is small more seldom than either.
    assert thresholds["face"] < thresholds["hair"] < thresholds["skin"]
