"""What everyday photographs teach: sets of classes instead of labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.parsers.embedded.boxes import Box
from m2fp_stream.parsers.embedded.classes import PartClass
from m2fp_stream.training.samples import IGNORE
from scripts.everyday import half
from scripts.train.augment import OUTPUT_STRIDE
from scripts.train.evaluate_everyday import measure
from scripts.train.everyday import (
    SETS,
    Head,
    Scene,
    SceneSampler,
    WeakClass,
    empty_places,
    head_of,
    people_scenes,
)

CC_BY, SHARE_ALIKE = "CC BY 2.0", "CC BY-SA 2.0"


def points(**known: tuple[float, float]) -> NDArray[np.float32]:
    """Key points of COCO by name; those not named are not labelled."""
    names = "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow"
    names += " right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee"
    names += " left_ankle right_ankle"
    table = np.zeros((17, 3), np.float32)
    for name, (x, y) in known.items():
        table[names.split().index(name)] = (x, y, 2)
    return table


FRONT = points(
    nose=(100, 60),
    left_eye=(108, 52),
    right_eye=(92, 52),
    left_ear=(117, 55),
    right_ear=(83, 55),
    left_shoulder=(140, 100),
    right_shoulder=(60, 100),
    left_hip=(125, 200),
    right_hip=(75, 200),
)
BEHIND = points(
    left_ear=(83, 55), right_ear=(117, 55), left_shoulder=(60, 100), right_shoulder=(140, 100)
)


def test_key_points_tell_where_a_head_is_and_how_it_is_turned() -> None:
    front, behind = head_of(FRONT), head_of(BEHIND)
    assert front is not None
    assert behind is not None
    assert (front.facing, behind.facing) == ("front", "away")
    for head in (front, behind):
        assert (head.x, head.y) == (100, 55)
        assert 15 < head.half < 25
    side = head_of(points(nose=(80, 60), left_eye=(86, 52), left_ear=(105, 55)))
    assert side is not None
    assert side.facing == "profile"
    assert 80 < side.x < 105


@pytest.mark.parametrize(
    "table",
    [
        points(left_shoulder=(60, 100), right_shoulder=(140, 100)),
        points(nose=(10, 10)),
        points(nose=(10, 10), left_eye=(11, 9), right_eye=(9, 9)),
    ],
    ids=["no head point", "no size", "too small"],
)
def test_what_key_points_do_not_tell_is_not_made_up(table: NDArray[np.float32]) -> None:
    assert head_of(table) is None


def a_data_set(root: Path, **licences: str) -> Path:
    """Writes pictures of 200 x 260 with one masked person each, and a licence for each."""
    folder = root / "everyday" / "coco_person_masks"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
        (root / "everyday" / "coco_person_boxes" / "images").mkdir(parents=True, exist_ok=True)
    for name in ("coco_neg", "rooms_neg"):
        (root / "everyday" / name / "images").mkdir(parents=True)
    entries, rows = [], []
    for name, licence in licences.items():
        picture = np.full((260, 200, 3), 90, np.uint8)
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), picture)
        mask = np.zeros((260, 200), np.uint8)
        mask[20:250, 50:150] = 1
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
        entries.append(
            {
                "image": name,
                "instance": 1,
                "bbox": [50, 20, 100, 230],
                "keypoints": FRONT.reshape(-1).tolist(),
            }
        )
        rows.append((f"coco_person_masks/images/{name}.jpg", licence))
        place = root / "everyday" / "rooms_neg" / "images" / f"{name}.jpg"
        cv2.imwrite(str(place), picture)
        rows.append((f"rooms_neg/images/{name}.jpg", licence))
    (folder / "annotations.json").write_text(json.dumps({"annotations": entries}))
    with (root / "everyday" / "ATTRIBUTION.csv").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(("file", "licence"))
        writer.writerows(rows)
    return root


def test_a_picture_serves_one_purpose_and_what_is_share_alike_never_trains(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(40)]
    licences = {name: SHARE_ALIKE if k % 2 else CC_BY for k, name in enumerate(names)}
    data = a_data_set(tmp_path, **licences)
    chosen = {
        purpose: {scene.name for scene in people_scenes(data, purpose)}
        for purpose in ("train", "validate", "report")
    }
    assert sum(len(some) for some in chosen.values()) == len(names)
    assert set.union(*chosen.values()) == {f"{name}.jpg" for name in names}
    assert chosen["train"]
    assert all(licences[Path(name).stem] == CC_BY for name in chosen["train"])
    assert chosen["report"] == {f"{n}.jpg" for n in names if half(f"{n}.jpg") == "report"}
    assert {scene.name for scene in empty_places(data, "train")} == chosen["train"]


def test_mask_and_key_points_say_what_a_pixel_may_be(tmp_path: Path) -> None:
    name = next(f"p{k}" for k in range(40) if half(f"p{k}.jpg") == "report")
    (scene,) = people_scenes(a_data_set(tmp_path, **{name: CC_BY}), "report")
    classes = scene.classes
    assert classes[10, 10] == PartClass.BACKGROUND
    assert classes[100, 50] == IGNORE  # the mask's edge is rough
    assert classes[150, 60] == WeakClass.PERSON
    assert classes[240, 60] == WeakClass.BELOW
    assert classes[44, 100] == WeakClass.HEAD
    assert classes[55, 100] == WeakClass.FACE
    assert [head.facing for head in scene.heads] == ["front"]
    assert PartClass.BACKGROUND not in SETS[WeakClass.PERSON]
    assert not {PartClass.HAIR, PartClass.FACE, PartClass.HAT} & set(SETS[WeakClass.BELOW])


def a_scene(name: str) -> Scene:
    rng = np.random.default_rng(len(name))
    bgr = rng.integers(0, 255, (200, 260, 3)).astype(np.uint8)
    classes = np.zeros((200, 260), np.uint8)
    classes[20:180, 80:160] = WeakClass.PERSON
    classes[30:60, 105:135] = WeakClass.HEAD
    mask = classes > 0
    return Scene(
        name, bgr, classes, (Head(120, 45, 20, "front"),), (Box(80, 20, 160, 180, 1),), mask
    )


def test_samples_of_scenes_depend_on_seed_and_number_alone() -> None:
    def sampler(seed: int) -> SceneSampler:
        some = [a_scene("a"), a_scene("bb")]
        empty = [Scene("e", s.bgr, np.zeros_like(s.classes)) for s in some]
        hands = [Scene("h", s.bgr, np.full_like(s.classes, 23), bodies=s.bodies) for s in some]
        return SceneSampler(some, empty, hands, seed=seed, turned=0.2)

    one, other = sampler(1), sampler(2)
    keys: set[int] = set()
    for number in range(30):
        rgb, classes = one(number, (96, 64))
        again, same = sampler(1)(number, (96, 64))
        assert np.array_equal(rgb, again)
        assert np.array_equal(classes, same)
        assert classes.shape == (96 // OUTPUT_STRIDE, 64 // OUTPUT_STRIDE)
        assert not np.array_equal(rgb, other(number, (96, 64))[0])
        keys |= set(np.unique(classes).tolist())
    assert keys <= {*SETS, IGNORE}
    assert {0, WeakClass.PERSON, WeakClass.HEAD, WeakClass.HAND} <= keys


@pytest.mark.parametrize(("part", "share"), [(PartClass.HAIR, 1.0), (PartClass.BACKGROUND, 0.0)])
def test_the_measurement_counts_what_a_network_calls_a_head(part: PartClass, share: float) -> None:
    def network(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        chances = np.zeros((16, rgb.shape[0] // 2, rgb.shape[1] // 2), np.float32)
        chances[part] = 1
        return chances

    scene = a_scene("a")
    hand = Scene("h", scene.bgr, np.full_like(scene.classes, 23), bodies=scene.bodies)
    found = measure(network, [scene], [hand], [scene])
    for name in ("empty: head pixels", "empty: crops with a head", "empty: person pixels"):
        assert found[name] == share
    assert found["hands: head pixels"] == share
    for degrees in (0, 90, 180, 270):
        assert found[f"heads turned {degrees}: seen"] == share
    assert found["n heads front"] == 1
    assert (found["people: IoU"] > 0.2) == (share == 1)
