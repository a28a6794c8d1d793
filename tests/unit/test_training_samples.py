"""What is learned from a picture, and how a student is judged: no network, no torch."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError
from m2fp_stream.core.labels import CIHP, PRESETS, Label
from m2fp_stream.core.records import ParseResult
from m2fp_stream.parsers.embedded.classes import LABEL_OF, PartClass
from m2fp_stream.training.judge import MOST_SPILL, Agreement, kept, measure, refusal
from m2fp_stream.training.samples import (
    CLASS_OF,
    HEAD_CLASSES,
    IGNORE,
    Sample,
    batch_of,
    samples_of,
)

RED, GREEN, GREY = (0, 0, 255), (0, 255, 0), (90, 90, 90)


def scene() -> tuple[NDArray[np.uint8], ParseResult]:
    """A red head above green clothes, twice: at (80, 40) large, at (250, 60) small; a map of half
    the size."""
    bgr = np.full((180, 320, 3), GREY, np.uint8)
    bgr[20:60, 60:100], bgr[60:160, 50:110] = RED, GREEN
    bgr[40:60, 240:260], bgr[60:120, 236:264] = RED, GREEN
    small = bgr[::2, ::2]
    labels = np.zeros(small.shape[:2], np.uint8)
    labels[(small == RED).all(axis=2)] = Label.FACE
    labels[(small == GREEN).all(axis=2)] = Label.COAT
    numbers = np.where(labels > 0, 1, 0).astype(np.uint8)
    numbers[:, 100:] *= 2
    return bgr, ParseResult(
        frame_id=0,
        label_map=labels,
        labels=CIHP,
        groups=("person",),
        evidence=np.zeros((1, *labels.shape), np.uint8),
        must_cover=np.zeros(labels.shape, np.bool_),
        instances=numbers,
        parser_id="scene",
    )


def by_colour(bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A student that knows the scene's colours."""
    half = bgr[::2, ::2].astype(int)
    chances = np.zeros((len(PartClass), *half.shape[:2]), np.float32)
    red, green = half[..., 2] - half[..., 1] > 60, half[..., 1] - half[..., 2] > 60
    chances[PartClass.FACE], chances[PartClass.UPPER_CLOTHES] = red, green
    chances[PartClass.BACKGROUND] = ~(red | green)
    return chances


def test_every_label_is_a_class_that_hides_as_it_does_or_not_learned() -> None:
    for label in Label:
        found = CLASS_OF[label]
        if found == IGNORE:
            assert label in (Label.GLOVES, Label.HUMAN)
        else:
            in_head = PartClass(int(found)) in HEAD_CLASSES
            assert in_head == (label in PRESETS["head"])
    assert {LABEL_OF[part] for part in HEAD_CLASSES} == set(PRESETS["head"])


def test_people_and_heads_are_cropped_and_the_labels_lie_on_the_pixels() -> None:
    bgr, seen = scene()
    samples = list(samples_of(bgr, seen))
    assert len(samples) == 4
    for one in samples:
        assert one.bgr.shape[:2] == (2 * one.classes.shape[0], 2 * one.classes.shape[1])
        said = by_colour(one.bgr).argmax(axis=0)
        assert (said == one.classes).mean() > 0.95
        assert (one.classes == PartClass.FACE).any()
        assert (one.classes == PartClass.BACKGROUND).any()


def test_a_batch_is_a_function_of_seed_and_step_and_mirrors_sides() -> None:
    bgr, seen = scene()
    samples = list(samples_of(bgr, seen))
    first, again, other = (batch_of(samples, step, 4, seed=1) for step in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].mean(), other[0].mean())
    left = Sample(np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32), np.uint8))
    left.classes[:, :8] = PartClass.LEFT_ARM
    _, classes = batch_of([left], 0, 16, seed=1)
    sides = {(int(row[0, 0]), int(row[0, -1])) for row in classes}
    assert sides == {(PartClass.LEFT_ARM, 0), (0, PartClass.RIGHT_ARM)}


def test_what_is_forgotten_is_zero() -> None:
    bgr, seen = scene()
    for one in samples_of(bgr, seen):
        one.forget()
        assert not one.bgr.any()
        assert not one.classes.any()


def test_a_student_that_sees_the_same_agrees_and_a_blind_one_does_not() -> None:
    samples = list(samples_of(*scene()))
    good = measure(by_colour, samples)
    assert good.miou > 0.9
    assert good.head_recall > 0.95
    assert good.spill < 0.02

    def blind(bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        chances = np.zeros((len(PartClass), bgr.shape[0] // 2, bgr.shape[1] // 2), np.float32)
        chances[PartClass.BACKGROUND] = 1
        return chances

    bad = measure(blind, samples)
    assert bad.head_recall == 0
    assert "mIoU" in refusal(good, bad)
    assert refusal(bad, good) == ""


def test_nothing_to_judge_by_is_an_error_and_so_is_an_answer_that_is_no_number() -> None:
    empty = Sample(np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32), np.uint8))
    with pytest.raises(ModelError, match="no head"):
        measure(by_colour, [empty])
    samples = list(samples_of(*scene()))
    with pytest.raises(ModelError, match="not finite"):
        measure(lambda bgr: by_colour(bgr) * np.float32("nan"), samples)


def test_a_student_that_looks_away_from_heads_is_refused_whatever_its_teacher_says() -> None:
    samples = list(samples_of(*scene()))

    def away(bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        chances = by_colour(bgr)
        chances[PartClass.BACKGROUND] += chances[PartClass.FACE]
        chances[PartClass.FACE] = 0
        return chances

    assert kept(by_colour, by_colour, samples) == 1
    assert kept(by_colour, away, samples) == 1, "who is sure of none loses none"
    heads = kept(away, by_colour, samples)
    assert heads == 0
    good = Agreement(miou=0.5, head_recall=0.8, spill=0.1, samples=3)
    assert "does not know heads" in refusal(good, good, heads)
    assert "does not know heads" in refusal(good, good, float("nan"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"miou": 0.49}, "mIoU"),
        ({"head_recall": 0.79}, "heads"),
        ({"spill": 0.1 + 2 * MOST_SPILL}, "nobody"),
        ({"miou": float("nan")}, "mIoU"),
        ({"head_recall": float("nan")}, "heads"),
        ({"spill": float("nan")}, "nobody"),
        ({}, ""),
    ],
)
def test_a_student_that_is_worse_in_anything_is_refused(
    change: dict[str, float], said: str
) -> None:
    before = {"miou": 0.5, "head_recall": 0.8, "spill": 0.1}
    after = Agreement(**(before | change), samples=3)
    found = refusal(Agreement(**before, samples=3), after)
    assert said in found
    assert bool(said) == bool(found)
