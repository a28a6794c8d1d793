"""Instances, label maps and evidence against the formulas, written out slowly here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.core.labels import Label
from m2fp_stream.parsers.m2fp.labels import LABELS_OF, Kind
from m2fp_stream.parsers.m2fp.outcome import (
    Canvas,
    Found,
    evidence,
    groups,
    instances,
    label_map,
    people,
    semantic,
)

Floats = NDArray[np.float32]
Size = tuple[int, int]

NO_OBJECT = -1


def enlarged(plane: NDArray[Any], size_hw: Size) -> NDArray[np.float64]:
    """Bilinear by pixel centres, without averaging: each value from its four neighbours."""
    (top, bottom, y), (left, right, x) = (
        neighbours(old, new) for old, new in zip(plane.shape, size_hw, strict=True)
    )
    y = y[:, None]
    upper = plane[top][:, left] * (1 - x) + plane[top][:, right] * x
    lower = plane[bottom][:, left] * (1 - x) + plane[bottom][:, right] * x
    return np.asarray(upper * (1 - y) + lower * y)


def neighbours(old: int, new: int) -> tuple[list[int], list[int], NDArray[np.float64]]:
    """For each new position the old ones before and after it, and how far it is from the former."""
    places = [min(max((k + 0.5) * old / new - 0.5, 0.0), old - 1) for k in range(new)]
    before = [int(place) for place in places]
    after = [min(index + 1, old - 1) for index in before]
    return before, after, np.array(places) - before


def at_size(mask: NDArray[Any], padded: Size, inner: Size, out: Size) -> NDArray[np.float64]:
    return enlarged(enlarged(mask, padded)[: inner[0], : inner[1]], out)


def sigmoid(value: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-value)))


def softmax(row: Floats) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def drawn(seed: int, queries: int, classes: int, padded: Size) -> tuple[Floats, Floats]:
    """Peaked classes, masks of a few blobs."""
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((1, queries, classes + 1)) * 3).astype(np.float32)
    grid = (padded[0] // 4, padded[1] // 4)
    coarse = rng.standard_normal((queries, 3, 4)) * 6
    masks = np.stack([enlarged(one, grid) for one in coarse])[None].astype(np.float32)
    return logits, masks


SIZES = [
    ((32, 64), (32, 57), (41, 70)),  # enlarged
    ((32, 64), (25, 64), (12, 30)),  # shrunk
    ((64, 32), (64, 32), (64, 32)),
    ((64, 32), (59, 20), (15, 5)),
]


def slow_instances(
    logits: Floats, masks: Floats, padded: Size, inner: Size, out: Size, lowest: float
) -> list[tuple[int, float, NDArray[np.bool_]]]:
    pairs = []
    for query, row in enumerate(logits[0]):
        chances = softmax(row)[:NO_OBJECT]
        pairs += [(chance, query, category) for category, chance in enumerate(chances)]
    pairs.sort(key=lambda pair: -pair[0])
    found = []
    for chance, query, category in pairs[:100]:
        if category == 0:
            continue
        full = at_size(masks[0, query], padded, inner, out)
        mask = full > 0
        score = chance * (sigmoid(full) * mask).sum() / (mask.sum() + 1e-6)
        if score >= lowest:
            found.append((category, score, mask))
    return sorted(found, key=lambda one: -one[1])


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lowest", [0.1, 0.01, 0.5])
def test_instances_equal_the_formula(
    sizes: tuple[Size, Size, Size], seed: int, lowest: float
) -> None:
    logits, masks = drawn(seed, 30, 21, sizes[0])
    expected = slow_instances(logits, masks, *sizes, lowest)
    found = instances(logits, masks, *sizes, lowest=lowest)
    assert len(expected) > 3
    assert [one.category for one in found] == [category for category, _, _ in expected]
    np.testing.assert_allclose([one.score for one in found], [score for _, score, _ in expected])
    differing = sum(
        int((one.mask != mask).sum()) for one, (_, _, mask) in zip(found, expected, strict=True)
    )
    assert differing == 0


def test_only_the_hundred_most_probable_pairs_count() -> None:
    logits = np.zeros((1, 60, 3), np.float32)  # 120 pairs; the background's are as probable
    logits[0, :, 0] = logits[0, :, 1] = np.linspace(4, 5, 60)
    masks = np.full((1, 60, 4, 4), 9, np.float32)
    found = instances(logits, masks, (16, 16), (16, 16), (16, 16))
    assert len(found) == 50
    assert {one.category for one in found} == {1}


def test_score_below_the_lowest_is_left_out_and_a_mask_nowhere_positive_is_none() -> None:
    logits = np.zeros((1, 3, 22), np.float32)
    logits[0, :, 13] = 20
    masks = np.full((1, 3, 8, 8), -5, np.float32)
    masks[0, 0, 2:5, 2:5] = 5
    masks[0, 1, 2:5, 2:5] = -0.01
    logits[0, 2, 21] = 20 + math.log(10.5)  # the face is down to 1/11.5
    masks[0, 2] = 9
    found = instances(logits, masks, (32, 32), (32, 32), (8, 8))
    assert [one.category for one in found] == [13]
    assert found[0].mask[3, 3]
    assert not found[0].mask[0].any()
    low = instances(logits, masks, (32, 32), (32, 32), (8, 8), lowest=0.05)
    assert [round(one.score, 2) for one in low][1:] == [0.09]


def test_background_is_never_an_instance() -> None:
    logits = np.full((1, 5, 22), -9, np.float32)
    logits[0, :, 0] = 9
    assert not instances(logits, np.full((1, 5, 4, 4), 9, np.float32), *[(16, 16)] * 3)


@pytest.mark.parametrize("sizes", SIZES)
def test_semantic_sum_equals_the_formula(sizes: tuple[Size, Size, Size]) -> None:
    padded, inner, out = sizes
    logits, masks = drawn(5, 19, 20, padded)  # not a multiple of what is held at once
    expected = np.zeros((20, *out))
    chances = np.array([softmax(row)[:NO_OBJECT] for row in logits[0]])
    full = np.stack([sigmoid(enlarged(mask, padded)) for mask in masks[0]])
    for category, plane in enumerate(np.einsum("qc,qhw->chw", chances, full)):
        expected[category] = enlarged(plane[: inner[0], : inner[1]], out)
    np.testing.assert_allclose(semantic(logits, masks, *sizes), expected, atol=1e-5)


def test_semantic_sum_can_start_inside_the_padding() -> None:
    logits, masks = drawn(6, 10, 20, (64, 64))
    whole = semantic(logits, masks, (64, 64), (64, 64), (64, 64))
    inner = semantic(logits, masks, (64, 64), (40, 20), (40, 20), corner=(8, 30))
    np.testing.assert_allclose(inner, whole[:, 8:48, 30:50], atol=1e-6)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("sizes", SIZES[:2])
def test_evidence_is_the_most_likely_query_for_each_part(
    kind: Kind, sizes: tuple[Size, Size, Size]
) -> None:
    logits, masks = drawn(8, 25, kind.classes, sizes[0])
    names = groups(kind)
    expected = np.zeros((len(names), *sizes[2]))
    for row, mask in zip(logits[0], masks[0], strict=True):
        chances = softmax(row)[:NO_OBJECT]
        likely = sigmoid(at_size(mask, *sizes))
        for label, chance in list(zip(LABELS_OF[kind], chances, strict=True))[1:]:
            if label is not Label.HUMAN:
                layer = expected[names.index(label.title)]
                np.maximum(layer, chance * likely, out=layer)
        np.maximum(expected[-1], sum(chances[1:]) * likely, out=expected[-1])
    got = evidence(kind, logits, masks, *sizes)
    assert got.dtype == np.uint8
    assert np.abs(got - expected * 255).max() <= 0.51


def test_evidence_groups_are_all_labels_that_the_policy_knows() -> None:
    parts = {label.title for label in Label} - {"background", "human"}
    assert set(groups(Kind.CIHP)) == parts | {"person"}
    assert set(groups(Kind.LIP)) == (parts - {"torso-skin"}) | {"person"}
    assert len(groups(Kind.CIHP)) <= 24  # more do not fit through to the pipeline


def test_jumpsuits_are_clothes_and_not_the_skin_of_that_number() -> None:
    logits = np.full((1, 1, 21), -20, np.float32)
    logits[0, 0, 10] = 20
    layers = evidence(Kind.LIP, logits, np.full((1, 1, 8, 8), 9, np.float32), *[(32, 32)] * 3)
    strong = {name for name, layer in zip(groups(Kind.LIP), layers, strict=True) if layer.any()}
    assert strong == {"dress", "person"}


def test_part_below_every_score_is_still_evidence() -> None:
    logits = np.zeros((1, 1, 22), np.float32)
    logits[0, 0, 21] = math.log(40)
    logits[0, 0, :21] = -9
    logits[0, 0, 13] = math.log(4)  # 4 of 44: below 0.1, so no instance
    masks = np.full((1, 1, 8, 8), 9, np.float32)
    assert not instances(logits, masks, *[(32, 32)] * 3)
    layers = evidence(Kind.CIHP, logits, masks, *[(32, 32)] * 3)
    assert layers[groups(Kind.CIHP).index("face")].min() == round(255 * 4 / 44)


def rectangle(shape: Size, top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


boxes = st.tuples(*[st.integers(0, 9)] * 4)
lists = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 99), boxes), max_size=12)


@given(lists)
def test_label_map_equals_painting_people_then_parts_in_ascending_order(
    drawn_list: list[tuple[int, int, tuple[int, int, int, int]]],
) -> None:
    found = [
        Found(category, score / 100, rectangle((9, 9), *box)) for category, score, box in drawn_list
    ]
    expected = np.zeros((9, 9), np.uint8)
    for is_part in (False, True):
        for one in sorted(found, key=lambda one: one.score):
            if (one.category != 20) is is_part:
                expected[one.mask] = one.category
    assert np.array_equal(label_map(found, (9, 9)), expected)


def test_label_map_of_lip_holds_cihp_ids() -> None:
    everywhere = np.ones((3, 3), np.bool_)
    assert (label_map([Found(10, 0.9, everywhere)], (3, 3), Kind.LIP) == Label.DRESS).all()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 99), boxes), max_size=6))
def test_a_better_person_keeps_the_pixels_that_two_claim(
    drawn_list: list[tuple[int, tuple[int, int, int, int]]],
) -> None:
    found = [Found(20, score / 100, rectangle((9, 9), *box)) for score, box in drawn_list]
    found.append(Found(5, 0.99, np.ones((9, 9), np.bool_)))  # a part is nobody
    numbers = people(found, (9, 9))
    order = sorted(found[:-1], key=lambda one: -one.score)
    for row in range(9):
        for column in range(9):
            claims = [k for k, one in enumerate(order, start=1) if one.mask[row, column]]
            assert numbers[row, column] == (min(claims) if claims else 0)


def test_canvas_paints_into_a_window_and_pixel_by_pixel() -> None:
    canvas = Canvas((4, 6))
    window = slice(1, 3), slice(2, 6)
    canvas.paint(Label.HUMAN, 0.9, np.ones((2, 4), np.bool_), window)
    canvas.paint(Label.COAT, 0.5, rectangle((2, 4), 0, 1, 2, 3), window)
    scores = np.array([[0.4, 0.4, 0.6, 0.6], [0.4, 0.6, 0.4, 0.6]], np.float32)
    canvas.paint(Label.FACE, scores, rectangle((2, 4), 0, 0, 2, 3), window)
    expected = [[0] * 6, [0, 0, 13, 7, 13, 20], [0, 0, 13, 13, 7, 20], [0] * 6]
    assert canvas.labels().tolist() == expected


def test_extreme_logits_give_no_warning_and_no_nan() -> None:
    logits = np.full((1, 2, 22), -3e38, np.float32)
    logits[0, 0, 13], logits[0, 1, 21] = 3e38, 3e38
    masks = np.full((1, 2, 8, 8), -3e38, np.float32)
    masks[0, 0, :4] = 3e38
    sizes = (32, 32), (32, 32), (8, 8)
    (face,) = instances(logits, masks, *sizes)
    assert face.score == pytest.approx(1)
    layers = evidence(Kind.CIHP, logits, masks, *sizes)
    assert layers[groups(Kind.CIHP).index("face")][:3].min() == 255
    assert not layers[:, 5:].any()
