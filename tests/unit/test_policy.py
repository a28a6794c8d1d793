"""What is hidden, with which margin, under which effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from m2fp_stream.core.labels import CIHP, PRESETS, Label
from m2fp_stream.core.plan import Effect
from m2fp_stream.policy import Policy, PolicyOptions
from tests.kit.labelsets import HEAD_PARTS

Map = NDArray[np.uint8]
SIDE = 40


def blank() -> Map:
    return np.zeros((SIDE, SIDE), np.uint8)


def square(value: int, left: int = 10, top: int = 10, side: int = 8) -> Map:
    result = blank()
    result[top : top + side, left : left + side] = value
    return result


def policy(**options: Any) -> Policy:
    return Policy(PolicyOptions.model_validate({"margin": 0.0} | options))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_hides_its_labels_and_no_other(preset: str) -> None:
    assert policy(hide=preset).hidden(CIHP) == PRESETS[preset]


def test_a_list_hides_its_labels_and_no_other() -> None:
    assert policy(hide=["left-arm"]).hidden(CIHP) == {Label.LEFT_ARM}


def test_a_part_told_apart_by_none_is_hidden_with_what_contains_it() -> None:
    assert policy(hide=["hat"]).hidden(HEAD_PARTS) == {Label.HAIR}


def test_a_part_contained_in_the_person_alone_hides_the_whole_person() -> None:
    """Gloves before a face are labelled face by a parser that does not know gloves."""
    hidden = policy(hide=["gloves"]).hidden(HEAD_PARTS)
    assert hidden == HEAD_PARTS.ids - {Label.BACKGROUND}


@pytest.mark.parametrize(
    "options",
    [
        {"hide": []},
        {"hide": ["hiar"]},
        {"hide": "heads"},
        {"effects": {"hiar": "solid"}},
        {"effects": {"hair": "blur"}},
        {"effect": "blur"},
        {"margin": -0.1},
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"unknown": 1},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PolicyOptions.model_validate(options)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" Head ", "head"),
        ("hair", ("hair",)),
        ("hair, left_arm,", ("hair", "left_arm")),
    ],
)
def test_what_a_user_writes_becomes_a_preset_or_a_list(text: str, value: object) -> None:
    assert PolicyOptions.hide_from_text(text) == value
    assert PolicyOptions.model_validate({"hide": value}).hide == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("haed", r"unknown preset or label 'haed'; did you mean head"),
        ("", "unknown preset or label"),
        ("hair,hiar", "unknown label 'hiar'; did you mean hair"),
    ],
)
def test_an_unknown_word_names_the_nearest(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicyOptions.hide_from_text(text)


def plan_of(parts: Map, tracks: Map, **options: Any) -> Any:
    return policy(**options).plan(frame_id=3, size_wh=(80, 80), parts=parts, tracks=tracks)


def test_a_plan_covers_every_pixel_with_its_own_part_track_and_effect() -> None:
    parts = square(Label.FACE, left=4) + square(Label.HAIR, left=20)
    tracks = square(1, left=4) + square(2, left=20)
    plan = plan_of(parts, tracks, effect="mosaic", effects={"hair": "solid"})
    assert (plan.frame_id, plan.size_wh) == (3, (80, 80))
    for label, track, effect in ((Label.FACE, 1, Effect.MOSAIC), (Label.HAIR, 2, Effect.SOLID)):
        (number,) = np.unique(plan.cover[parts == label])
        fill = plan.fills[number - 1]
        assert (fill.part, fill.track_id, fill.effect) == (label, track, effect)
    np.testing.assert_array_equal(plan.cover > 0, parts > 0)


def test_a_silhouette_replaces_what_shows_texture_and_never_what_shows_less() -> None:
    parts = square(Label.FACE, left=4) + square(Label.HAIR, left=20) + square(Label.COAT, left=30)
    chosen = policy(effect="frost", effects={"hair": "solid", "coat": "mosaic"})
    plan = chosen.plan(
        frame_id=3,
        size_wh=(80, 80),
        parts=parts,
        tracks=(parts > 0).astype(np.uint8),
        silhouette=True,
    )
    effects = {fill.part: fill.effect for fill in plan.fills}
    assert effects == {
        Label.FACE: Effect.SILHOUETTE,
        Label.HAIR: Effect.SOLID,
        Label.COAT: Effect.SILHOUETTE,
    }
    np.testing.assert_array_equal(plan.cover > 0, parts > 0)


def test_a_track_number_outside_the_parts_means_nothing() -> None:
    plan = plan_of(blank(), square(7))
    assert plan.fills == ()
    assert not plan.cover.any()


@pytest.mark.parametrize(("fills", "merged"), [(254, False), (255, True)])
def test_too_many_fills_are_merged_by_part_and_lose_no_pixel(fills: int, merged: bool) -> None:
    parts, tracks = blank(), blank()
    numbers = np.arange(fills)
    parts.flat[numbers] = np.where(numbers % 2, Label.FACE, Label.HAIR)
    tracks.flat[numbers] = numbers % 255 + 1
    plan = plan_of(parts, tracks)
    assert len(plan.fills) == (2 if merged else 254)
    np.testing.assert_array_equal(plan.cover > 0, parts > 0)
    np.testing.assert_array_equal(np.array([0, *(f.part for f in plan.fills)])[plan.cover], parts)


LEFT = {"keep_zones": ["0,0,0.5,1"]}
"""The left half of the map."""


def kept_plan(parts: Map, tracks: Map, people: Any = (), **options: Any) -> Any:
    return policy(**LEFT, **options).plan(
        frame_id=3, size_wh=(80, 80), parts=parts, tracks=tracks, people=people
    )


def test_who_is_wholly_in_a_keep_zone_is_left_alone_and_whoever_is_not_is_covered() -> None:
    parts = square(Label.FACE, left=4) + square(Label.FACE, left=30)
    tracks = square(1, left=4) + square(2, left=30)
    plan = kept_plan(parts, tracks)
    np.testing.assert_array_equal(plan.cover > 0, square(1, left=30) > 0)
    assert plan.left_alone == 1
    for left, alone in ((12, True), (13, False), (19, False), (20, False)):
        plan = kept_plan(square(Label.FACE, left=left), square(1, left=left))
        assert (plan.left_alone, plan.cover.any()) == ((1, False) if alone else (0, True))


def test_who_is_in_pieces_is_left_alone_only_where_all_of_them_are_inside() -> None:
    parts = square(Label.FACE, left=4) + square(Label.LEFT_ARM, left=30)
    plan = kept_plan(parts, square(1, left=4) + square(1, left=30))
    np.testing.assert_array_equal(plan.cover > 0, parts > 0)
    assert plan.left_alone == 0


def test_whose_cover_touches_that_of_somebody_outside_is_covered() -> None:
    """Where two covers meet the map does not say whose head a cell hides."""
    parts = square(Label.FACE, left=8) + square(Label.FACE, left=16)
    plan = kept_plan(parts, square(1, left=8) + square(2, left=16))
    np.testing.assert_array_equal(plan.cover > 0, parts > 0)


def test_a_head_that_lies_under_the_cover_of_a_poster_is_no_poster() -> None:
    """His arm is outside, his head where the poster's was laid first: the map shows but one."""
    poster, arm = square(Label.FACE, left=4), square(Label.LEFT_ARM, left=30, top=30, side=4)
    parts, tracks = poster + arm, square(1, left=4) + square(2, left=30, top=30, side=4)
    boxes = [(1, (8.0, 20.0, 24.0, 36.0)), (2, (10.0, 20.0, 70.0, 70.0))]
    plan = kept_plan(parts, tracks, boxes)
    np.testing.assert_array_equal(plan.cover > 0, parts > 0)
    elsewhere = [boxes[0], (2, (50.0, 20.0, 70.0, 70.0))]
    np.testing.assert_array_equal(kept_plan(parts, tracks, elsewhere).cover > 0, arm > 0)


def test_a_zone_has_its_own_effect_or_that_of_all_and_is_nobodys_part() -> None:
    nobody = blank()
    for options, effect in (
        ({}, Effect.FROST),
        ({"effect": "mosaic"}, Effect.MOSAIC),
        ({"effects": {"zone": "solid"}}, Effect.SOLID),
    ):
        plan = plan_of(nobody, nobody, zones=["0,0,0.5,0.5"], **options)
        (fill,) = plan.fills
        assert (fill.effect, fill.part, fill.track_id) == (effect, Label.BACKGROUND, 0)
        np.testing.assert_array_equal(plan.cover > 0, square(1, left=0, top=0, side=20) > 0)


def test_zones_have_room_beside_the_most_fills() -> None:
    parts, tracks = blank(), blank()
    parts.flat[np.arange(254)] = Label.FACE
    tracks.flat[np.arange(254)] = np.arange(254) + 1
    plan = plan_of(parts, tracks, zones=["0.5,0.5,1,1"])
    assert len(plan.fills) == 255
    np.testing.assert_array_equal(
        plan.cover > 0, (parts > 0) | (square(1, left=20, top=20, side=20) > 0)
    )


def test_pictures_of_another_camera_have_no_zones() -> None:
    options = PolicyOptions(
        hide="face", zones=("0,0,1,1",), keep_zones=("0,0,1,1",), invert=True, cover_spans=("1-2",)
    )
    assert options.anywhere() == PolicyOptions(hide="face")


def test_a_part_has_the_effect_it_was_given_or_that_of_all() -> None:
    one = policy(effect="solid", effects={"human": "mosaic"})
    assert one.effect_of(Label.HUMAN) is Effect.MOSAIC
    assert one.effect_of(Label.FACE) is Effect.SOLID
