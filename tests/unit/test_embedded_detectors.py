"""YuNet and EfficientDet with their real weights on a public-domain portrait of NASA's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from numpy.typing import NDArray

from m2fp_stream.core.errors import ParserError
from m2fp_stream.parsers.embedded import efficientdet, letterbox, yunet
from m2fp_stream.parsers.embedded.boxes import Box
from m2fp_stream.parsers.embedded.closer import CloserFace
from m2fp_stream.parsers.embedded.efficientdet import EfficientDetPerson
from m2fp_stream.parsers.embedded.runtime import open_network
from m2fp_stream.parsers.embedded.yunet import Face, YuNet
from scripts.bench.odds import closer_log_odds, efficientdet_log_odds, yunet_log_odds

Picture = NDArray[np.uint8]
Detect = Callable[[Picture], list[Box]]

# In the 512 x 512 portrait, read off the picture by eye.
EYES_AND_MOUTH = ((203, 103), (247, 103), (206, 144), (243, 144))
HER = Box(0, 5, 370, 512, 1.0)


@pytest.fixture(scope="module")
def astronaut() -> Picture:
    """(512, 512, 3) uint8 BGR."""
    path = Path(skimage.__file__).parent / "data" / "astronaut.png"
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, np.uint8)


@pytest.fixture(scope="module")
def faces() -> YuNet:
    return YuNet(size=640, threshold=0.05, threads=1, runtime=None)


@pytest.fixture(scope="module")
def persons() -> EfficientDetPerson:
    return EfficientDetPerson(size=384, threshold=0.05, threads=1, runtime=None)


@pytest.fixture(params=["faces", "persons"])
def detect(request: pytest.FixtureRequest) -> Detect:
    """Both detectors as functions from a picture to boxes, at the lowest threshold allowed."""
    if request.param == "persons":
        found: EfficientDetPerson = request.getfixturevalue("persons")
        return found
    yunet_s: YuNet = request.getfixturevalue("faces")
    return lambda bgr: [face.box for face in yunet_s(bgr)]


def shared_part(one: Box, other: Box) -> float:
    """Returns intersection over union."""
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    both = max(width, 0.0) * max(height, 0.0)
    return both / (one.width * one.height + other.width * other.height - both)


# --- she is found ---


def test_her_face_is_found_with_its_points(faces: YuNet, astronaut: Picture) -> None:
    best, *others = faces(astronaut)
    assert best.box.confidence > 0.85
    assert all(face.box.confidence < 0.4 for face in others)
    right_eye, left_eye, nose, right_mouth, left_mouth = best.landmarks
    for found, seen in zip(
        (right_eye, left_eye, right_mouth, left_mouth), EYES_AND_MOUTH, strict=True
    ):
        assert found == pytest.approx(seen, abs=6)
    assert right_eye[0] < nose[0] < left_eye[0]
    assert best.box.x1 < right_eye[0] < left_eye[0] < best.box.x2
    assert best.roll_deg == pytest.approx(0, abs=5)


def test_she_is_found_as_a_person(persons: EfficientDetPerson, astronaut: Picture) -> None:
    best = persons(astronaut)[0]
    assert best.confidence > 0.6
    assert shared_part(best, HER) > 0.8


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_her_face_is_found_turned_by_quarters(faces: YuNet, astronaut: Picture, turns: int) -> None:
    upright = faces(astronaut)[0].box
    turned = np.ascontiguousarray(np.rot90(astronaut, turns))
    x, y = upright.center
    for _ in range(turns):
        x, y = y, 512 - x
    best = faces(turned)[0].box
    assert best.confidence > 0.5
    assert best.center == pytest.approx((x, y), abs=20)


def test_sizes_agree_and_share_one_network(faces: YuNet, astronaut: Picture) -> None:
    smaller = faces.at(320)(astronaut)[0].box
    assert shared_part(smaller, faces(astronaut)[0].box) > 0.7


def test_boxes_are_in_pixels_of_the_picture_whatever_its_size(
    detect: Detect, astronaut: Picture
) -> None:
    large = cv2.resize(astronaut, (1280, 1280), interpolation=cv2.INTER_LINEAR)
    found, reference = detect(np.asarray(large, np.uint8))[0], detect(astronaut)[0]
    factor = 1280 / 512
    scaled = Box(found.x1 / factor, found.y1 / factor, found.x2 / factor, found.y2 / factor, 1.0)
    assert shared_part(scaled, reference) > 0.85


# --- the contract of boxes ---


@pytest.mark.parametrize("shape", [(512, 512), (40, 512), (512, 40), (37, 53), (1, 1), (1, 300)])
def test_boxes_are_clipped_and_sorted_and_as_sure_as_asked(
    detect: Detect, astronaut: Picture, shape: tuple[int, int]
) -> None:
    height, width = shape
    part = np.ascontiguousarray(astronaut[60 : 60 + height, :width])
    part = np.ascontiguousarray(np.resize(part, (height, width, 3)))
    boxes = detect(part)
    for box in boxes:
        assert 0 <= box.x1 < box.x2 <= width
        assert 0 <= box.y1 < box.y2 <= height
    scores = [box.confidence for box in boxes]
    assert scores == sorted(scores, reverse=True)
    assert all(0.05 <= score <= 1 for score in scores)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_nobody_is_found_in_a_flat_picture(detect: Detect, level: int) -> None:
    assert not [b for b in detect(np.full((360, 640, 3), level, np.uint8)) if b.confidence > 0.3]


@pytest.mark.parametrize("shape", [(0, 10, 3), (10, 0, 3), (0, 0, 3)])
def test_a_picture_without_pixels_is_a_failure_not_nobody(
    detect: Detect, shape: tuple[int, int, int]
) -> None:
    with pytest.raises(ParserError, match="cannot be looked at"):
        detect(np.zeros(shape, np.uint8))


def test_equal_pictures_give_equal_boxes_and_the_picture_stays(
    detect: Detect, astronaut: Picture
) -> None:
    before = astronaut.copy()
    first = detect(astronaut)
    detect(np.ascontiguousarray(astronaut[::-1, :300]))
    assert detect(astronaut) == first
    assert np.array_equal(astronaut, before)


def test_a_part_of_a_larger_picture_is_seen_as_its_copy(detect: Detect, astronaut: Picture) -> None:
    # A crop is a view with gaps between its rows.
    view = astronaut[40:400, 100:420]
    assert detect(view) == detect(view.copy())


def test_no_two_boxes_on_one_thing(detect: Detect, astronaut: Picture) -> None:
    boxes = detect(astronaut)
    assert boxes
    for index, one in enumerate(boxes):
        assert all(shared_part(one, other) < 0.5 for other in boxes[index + 1 :])


def test_a_higher_threshold_gives_the_surest_of_the_same_faces(
    faces: YuNet, astronaut: Picture
) -> None:
    sure = YuNet(size=640, threshold=0.1, threads=1, runtime=None)(astronaut)
    assert sure == [face for face in faces(astronaut) if face.box.confidence >= 0.1]


def test_a_higher_threshold_gives_the_surest_of_the_same_persons(
    persons: EfficientDetPerson, astronaut: Picture
) -> None:
    sure = EfficientDetPerson(size=384, threshold=0.2, threads=1, runtime=None)(astronaut)
    assert sure == [box for box in persons(astronaut) if box.confidence >= 0.2]


# --- what fails ---


# OpenCV's ReLU6 makes 0 of NaN, so only what comes after the last one would be seen there.
@pytest.mark.parametrize(
    ("name", "runtime"),
    [("yunet_s", "opencv"), ("yunet_s", "onnxruntime"), ("efficientdet_person", "onnxruntime")],
)
def test_a_network_that_answers_nan_has_failed(name: str, runtime: str) -> None:
    network = open_network(name, runtime=runtime)
    blob = np.zeros((1, 3, 128, 128), np.float32)
    assert all(np.isfinite(output).all() for output in network.run(blob))
    with pytest.raises(ParserError, match="not finite"):
        network.run(blob + np.float32(np.nan))


@pytest.mark.parametrize("name", ["yunet_s", "efficientdet_person"])
def test_both_runtimes_compute_the_same(name: str) -> None:
    blob = np.random.default_rng(5).uniform(-1, 1, (1, 3, 96, 160)).astype(np.float32)
    ours = open_network(name, runtime="onnxruntime").run(blob)
    others = open_network(name, runtime="opencv").run(blob)
    for mine, other in zip(ours, others, strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-3)


def test_huge_answers_of_a_network_stay_inside_the_picture() -> None:
    fitted = letterbox.letterbox(np.zeros((64, 64, 3), np.uint8), size=64, enlargement=1)
    level = np.full((16, 8, 8), 1e4, np.float32)
    xyxy, scores, points = yunet._decode(level, 8, 0.05)
    assert np.isfinite(xyxy).all()
    assert np.isfinite(points).all()
    assert fitted.best(xyxy, scores, 0.3) == ([], [])  # all lie far outside
    xyxy, scores = efficientdet._decode(
        np.full((9, 8, 8), 1e4, np.float32), np.full((36, 8, 8), 50, np.float32), (64, 64), 0.05
    )
    assert np.isfinite(xyxy).all()
    (box,), _ = fitted.best(xyxy, scores, 0.5)
    assert (box.x1, box.y1, box.x2, box.y2) == (0, 0, 64, 64)


# --- decoding ---


def test_a_cell_of_yunet_is_decoded_as_published() -> None:
    level = np.full((16, 3, 4), -20, np.float32)
    level[:2, 1, 2] = 0.0  # twice 0.5: their geometric mean
    level[2:6, 1, 2] = 0.5, 0.25, np.log(3), np.log(2)
    level[6:, 1, 2] = 0.0
    level[6:8, 1, 2] = 1.0, 2.0
    xyxy, scores, points = yunet._decode(level, 16, 0.3)
    assert scores == pytest.approx([0.5])
    # Centre (2 + .5, 1 + .25) and size (3, 2) in strides of 16 pixels.
    assert xyxy == pytest.approx(np.array([[40 - 24, 20 - 16, 40 + 24, 20 + 16]]))
    assert points[0, 0] == pytest.approx([(2 + 1) * 16, (1 + 2) * 16])
    assert points[0, 1] == pytest.approx([2 * 16, 1 * 16])


def test_an_anchor_of_efficientdet_is_decoded_as_published() -> None:
    logits = np.full((9, 4, 4), -20, np.float32)
    logits[1, 2, 3] = 0.0  # first size, twice as wide as high
    boxes = np.zeros((36, 4, 4), np.float32)
    boxes[4:8, 2, 3] = 0.0, 0.5, np.log(2), 0.0
    xyxy, scores = efficientdet._decode(logits, boxes, (32, 32), 0.3)
    assert scores == pytest.approx([0.5])
    height, width = 24 / 2**0.5, 24 * 2**0.5
    x, y = 3.5 * 8 + 0.5 * width, 2.5 * 8
    expected = [x - width / 2, y - height, x + width / 2, y + height]
    assert xyxy == pytest.approx(np.array([expected]), abs=1e-3)


@pytest.mark.parametrize("turn_deg", [-170, -90, -30, 0, 45, 120])
@pytest.mark.parametrize("profile", [False, True])
def test_roll_is_the_turn_of_the_points(turn_deg: float, profile: bool) -> None:
    upright = np.array([[-20, -20], [20, -20], [0, 0], [-15, 20], [15, 20]], np.float64)
    if profile:
        upright[:, 0] = [8, 10, 25, 8, 9]
    angle = np.deg2rad(turn_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = upright @ turn.T + 100
    face = Face(Box(0, 0, 200, 200, 1.0), tuple((float(x), float(y)) for x, y in turned))
    assert face.roll_deg == pytest.approx(turn_deg, abs=2)


# --- in the dark ---


def test_she_is_found_in_the_dark(
    faces: YuNet, persons: EfficientDetPerson, astronaut: Picture
) -> None:
    noise = np.random.default_rng(1).normal(0, 1, astronaut.shape)
    dark = np.clip(np.rint(astronaut / 12 + noise), 0, 255).astype(np.uint8)
    assert faces(dark)[0].box.confidence > 0.6
    assert shared_part(faces(dark)[0].box, faces(astronaut)[0].box) > 0.6
    assert shared_part(persons(dark)[0], HER) > 0.7
    assert persons(dark)[0].confidence > 0.4


def test_a_bright_picture_is_looked_at_as_it_is(astronaut: Picture) -> None:
    fitted = letterbox.letterbox(astronaut, size=512, enlargement=1)
    assert np.shares_memory(fitted.inner, astronaut)
    dark = (astronaut // 4).astype(np.uint8)
    assert letterbox.letterbox(dark, size=512, enlargement=1).inner.max() == 255


# --- what a score is worth ---


@pytest.mark.parametrize(
    "log_odds",
    [
        yunet_log_odds,
        lambda score: efficientdet_log_odds(score, 384),
        lambda score: efficientdet_log_odds(score, 640),
        lambda score: closer_log_odds(0.5, score),
        lambda score: closer_log_odds(score, 0.5),
    ],
)
def test_a_surer_box_is_never_less_likely(log_odds: Callable[[float], float]) -> None:
    odds = [log_odds(score) for score in np.linspace(0, 1, 101)]
    assert np.isfinite(odds).all()
    assert odds == sorted(odds)
    assert odds[5] < -1 < 1 < odds[95]


def test_scores_are_worth_what_was_measured() -> None:
    # Shares of right boxes on the tune half, by scripts/bench/detectors.py.
    def probability(odds: float) -> float:
        return 1 / (1 + float(np.exp(-odds)))

    assert probability(yunet_log_odds(0.07)) == pytest.approx(0.028, abs=0.01)
    assert probability(yunet_log_odds(0.65)) == pytest.approx(0.455, abs=0.03)
    assert probability(efficientdet_log_odds(0.12, 384)) == pytest.approx(0.314, abs=0.04)
    assert probability(efficientdet_log_odds(0.35, 640)) == pytest.approx(0.70, abs=0.04)


# --- the closer look ---


@pytest.fixture(scope="module")
def closer() -> CloserFace:
    return CloserFace(threads=1, runtime=None)


def test_a_closer_look_knows_a_face_from_a_helmet(
    closer: CloserFace, faces: YuNet, astronaut: Picture
) -> None:
    assert closer(astronaut, faces(astronaut)[0].box).confidence > 0.7
    assert closer(astronaut, Box(20, 200, 120, 320, 1.0)).confidence < 0.2


@pytest.mark.parametrize("turn_deg", [-40, -20, 0, 20, 40])
def test_a_closer_look_sees_how_far_a_head_is_turned(
    closer: CloserFace, faces: YuNet, astronaut: Picture, turn_deg: int
) -> None:
    turn = cv2.getRotationMatrix2D((226, 120), -turn_deg, 1)
    turned = cv2.warpAffine(astronaut, turn, (512, 512), borderMode=cv2.BORDER_REFLECT)
    picture = np.asarray(turned, np.uint8)
    look = closer(picture, faces(picture)[0].box)
    assert look.roll_deg == pytest.approx(turn_deg, abs=12)


def test_a_closer_look_at_a_face_across_the_edge(
    closer: CloserFace, faces: YuNet, astronaut: Picture
) -> None:
    half = np.ascontiguousarray(astronaut[:, 215:])
    found = faces(half)[0].box
    assert found.x1 < 20
    assert closer(half, found).confidence > 0.3


def test_a_closer_look_at_a_larger_picture_says_the_same(
    closer: CloserFace, faces: YuNet, astronaut: Picture
) -> None:
    box = faces(astronaut)[0].box
    large = np.asarray(cv2.resize(astronaut, (2048, 2048)), np.uint8)
    scaled = Box(box.x1 * 4, box.y1 * 4, box.x2 * 4, box.y2 * 4, 1.0)
    assert closer(large, scaled).confidence == pytest.approx(
        closer(astronaut, box).confidence, abs=0.1
    )


@pytest.mark.parametrize("box", [Box(600, 10, 700, 80, 1.0), Box(10, 10, 10, 40, 1.0)])
def test_a_closer_look_at_nothing_is_a_failure(
    closer: CloserFace, astronaut: Picture, box: Box
) -> None:
    with pytest.raises(ParserError, match="without pixels"):
        closer(astronaut, box)
