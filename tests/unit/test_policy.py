"""What is hidden, with which margin, under which effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from m2fp_stream.core.labels import CIHP, PRESETS, Label, LabelSet
from m2fp_stream.core.plan import Effect
from m2fp_stream.core.records import ParseResult
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


def result_of(
    label_map: Map,
    *,
    labels: LabelSet = CIHP,
    evidence: dict[str, Map] | None = None,
    must_cover: Map | None = None,
    instances: Map | None = None,
) -> ParseResult:
    groups = evidence or {}
    planes = np.array(list(groups.values()), np.uint8).reshape(len(groups), SIDE, SIDE)
    return ParseResult(
        frame_id=0,
        label_map=label_map,
        labels=labels,
        groups=tuple(groups),
        evidence=planes,
        must_cover=(blank() if must_cover is None else must_cover) > 0,
        instances=instances,
        parser_id="test",
    )


def policy(**options: Any) -> Policy:
    return Policy(PolicyOptions.model_validate({"margin": 0.0} | options))


def hidden(result: ParseResult, **options: Any) -> Map:
    """All regions of the findings in one map."""
    merged = blank()
    for region in policy(**options).findings(result).regions:
        merged = np.maximum(merged, region)
    return merged


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_hides_its_labels_and_no_other(preset: str) -> None:
    label_map = blank()
    for label in Label:
        label_map[label] = label
    found = set(np.unique(hidden(result_of(label_map), hide=preset))) - {0}
    assert found == PRESETS[preset]


def test_a_list_hides_its_labels_and_no_other() -> None:
    label_map = square(Label.LEFT_ARM) + square(Label.COAT, left=25)
    shown = hidden(result_of(label_map), hide=["left-arm"])
    np.testing.assert_array_equal(shown, square(Label.LEFT_ARM))


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


def test_a_part_told_apart_by_none_is_hidden_with_what_contains_it() -> None:
    label_map = square(Label.HAIR, left=4) + square(Label.FACE, left=20)
    shown = hidden(result_of(label_map, labels=HEAD_PARTS), hide=["hat"])
    np.testing.assert_array_equal(shown, square(Label.HAIR, left=4))


def test_a_part_contained_in_the_person_alone_hides_the_whole_person() -> None:
    """Gloves before a face are labelled face by a parser that does not know gloves."""
    label_map = square(Label.FACE, left=4) + square(Label.HUMAN, left=20)
    shown = hidden(result_of(label_map, labels=HEAD_PARTS), hide=["gloves"])
    np.testing.assert_array_equal(shown > 0, label_map > 0)


@pytest.mark.parametrize("hide", [*PRESETS, ["left-shoe"]], ids=str)
def test_must_cover_is_hidden_under_every_policy(hide: object) -> None:
    result = result_of(blank(), must_cover=square(1))
    np.testing.assert_array_equal(hidden(result, hide=hide), square(Label.HUMAN))
    np.testing.assert_array_equal(policy().findings(result).people, square(1))


def test_must_cover_leaves_the_name_of_a_hidden_part() -> None:
    result = result_of(square(Label.FACE), must_cover=square(1, side=12))
    shown = hidden(result)
    assert (shown[square(1) > 0] == Label.FACE).all()
    np.testing.assert_array_equal(shown > 0, square(1, side=12) > 0)


@pytest.mark.parametrize(("level", "covered"), [(0, False), (127, False), (128, True), (255, True)])
def test_evidence_hides_from_above_the_threshold(level: int, covered: bool) -> None:
    result = result_of(blank(), evidence={"face": square(level)})
    shown = hidden(result, threshold=0.5)
    np.testing.assert_array_equal(shown, square(Label.FACE) if covered else blank())
    people = policy(threshold=0.5).findings(result).people
    np.testing.assert_array_equal(people, square(1) if covered else blank())


def test_evidence_of_what_is_not_hidden_is_a_person_all_the_same() -> None:
    result = result_of(blank(), evidence={"person": square(255)})
    assert not hidden(result, hide="face").any()
    assert policy(hide="face").findings(result).people.any()
    np.testing.assert_array_equal(hidden(result, hide="person"), square(Label.HUMAN))


def test_evidence_does_not_rename_a_hidden_part() -> None:
    result = result_of(square(Label.HAIR), evidence={"face": square(255)})
    np.testing.assert_array_equal(hidden(result), square(Label.HAIR))


def test_regions_are_split_by_instance_and_the_rest_by_component() -> None:
    label_map = square(Label.FACE, left=4) + square(Label.FACE, left=12)  # they touch
    label_map += square(Label.FACE, left=30)
    instances = square(1, left=4) + square(2, left=12)
    findings = policy().findings(result_of(label_map, instances=instances))
    assert [int(np.count_nonzero(region)) for region in findings.regions] == [64, 64, 64]


def test_without_instances_each_component_is_a_region() -> None:
    label_map = square(Label.FACE, left=4) + square(Label.HAIR, left=12)
    label_map += square(Label.FACE, left=30)
    regions = policy().findings(result_of(label_map)).regions
    assert sorted(int(np.count_nonzero(region)) for region in regions) == [64, 128]


def test_nobody_gives_no_region() -> None:
    findings = policy().findings(result_of(blank()))
    assert findings.regions == ()
    assert not findings.people.any()


def test_a_margin_grows_with_the_region_and_never_shrinks_it() -> None:
    def grown(side: int) -> int:
        box = square(Label.FACE, left=12, top=12, side=side)
        (region,) = policy(margin=0.5).findings(result_of(box)).regions
        assert (region[box > 0] == Label.FACE).all()
        rows = np.flatnonzero(region.any(axis=1))
        return int(rows[-1] - rows[0] + 1 - side) // 2

    assert grown(4) == 1  # half of what fits into it, 2 pixels
    assert grown(16) == 4


def test_a_long_body_has_the_margin_of_its_width_and_not_of_its_area() -> None:
    standing = blank()
    standing[2:38, 18:22] = Label.FACE
    (region,) = policy(margin=0.5).findings(result_of(standing)).regions
    columns = np.flatnonzero(region.any(axis=0))
    assert (columns[0], columns[-1]) == (17, 22)


def test_a_region_cut_by_the_edge_is_as_wide_as_it_looks() -> None:
    for shape in ((slice(10, 30), slice(0, 10)), (slice(0, 40), slice(0, 10))):
        cut = blank()
        cut[shape] = Label.FACE
        (region,) = policy(margin=0.5).findings(result_of(cut)).regions
        assert region[20, 10:15].all()
    (region,) = policy(margin=2.0).findings(result_of(blank() + np.uint8(Label.FACE))).regions
    assert region.all()


def test_a_margin_below_a_pixel_is_a_pixel_and_none_is_none() -> None:
    (region,) = policy(margin=0.05).findings(result_of(square(Label.FACE))).regions
    np.testing.assert_array_equal(region[9], square(Label.FACE)[10])
    (region,) = policy(margin=0.0).findings(result_of(square(Label.FACE))).regions
    np.testing.assert_array_equal(region, square(Label.FACE))


def test_a_margin_keeps_the_parts_inside() -> None:
    label_map = square(Label.FACE, side=8)
    label_map[10:14] = np.where(label_map[10:14] > 0, Label.HAIR, 0)
    (region,) = policy(margin=0.5).findings(result_of(label_map)).regions
    inside = label_map > 0
    np.testing.assert_array_equal(region[inside], label_map[inside])


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


def test_evidence_of_hidden_parts_adds_up() -> None:
    """Hair or face, nobody knows which: as sensitive as either."""
    evidence = {
        "hair": square(50),
        "face": square(60),
        "upper-clothes": square(250, left=25),
    }
    result = result_of(blank(), evidence=evidence)
    np.testing.assert_array_equal(hidden(result), square(Label.FACE))
    np.testing.assert_array_equal(hidden(result, hide=["hair"]), blank())
    np.testing.assert_array_equal(
        policy().findings(result).people, (square(1, left=25) > 0).astype(np.uint8)
    )


def test_many_layers_of_full_evidence_do_not_overflow() -> None:
    groups = ["face", "torso-skin", "left-arm", "right-arm", "left-leg", "right-leg"]
    result = result_of(blank(), evidence={group: square(255) for group in groups})
    assert (hidden(result, hide="skin") > 0)[square(1) > 0].all()


def test_presumed_parts_are_hidden_and_explain_nothing() -> None:
    evidence = {"left-arm": square(255), "person": square(255, left=25)}
    result = result_of(blank(), evidence=evidence)
    np.testing.assert_array_equal(hidden(result, hide="skin"), square(Label.LEFT_ARM))
    assert (hidden(result, hide="person") > 0)[square(1) > 0].all()
    np.testing.assert_array_equal(policy().findings(result).people, square(1, left=25))


def test_a_part_has_the_effect_it_was_given_or_that_of_all() -> None:
    one = policy(effect="solid", effects={"human": "mosaic"})
    assert one.effect_of(Label.HUMAN) is Effect.MOSAIC
    assert one.effect_of(Label.FACE) is Effect.SOLID
