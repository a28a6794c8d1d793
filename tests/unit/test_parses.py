"""How tests and benchmarks judge one parse: what a policy would hide of it (`tests.kit.parses`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from m2fp_stream.core.labels import CIHP, PRESETS, Label, LabelSet
from m2fp_stream.core.records import ParseResult
from m2fp_stream.policy import Policy, PolicyOptions
from tests.kit.labelsets import HEAD_PARTS
from tests.kit.parses import hidden_regions
from tests.unit.test_policy import SIDE, Map, blank, square


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


def regions(result: ParseResult, **options: Any) -> tuple[Map, ...]:
    policy = Policy(PolicyOptions.model_validate({"margin": 0.0} | options))
    return hidden_regions(policy, result)


def hidden(result: ParseResult, **options: Any) -> Map:
    """All regions in one map."""
    return np.asarray(np.maximum.reduce([blank(), *regions(result, **options)]), np.uint8)


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


def test_evidence_of_what_is_not_hidden_is_not_hidden() -> None:
    result = result_of(blank(), evidence={"person": square(255)})
    assert not hidden(result, hide="face").any()
    np.testing.assert_array_equal(hidden(result, hide="person"), square(Label.HUMAN))


def test_evidence_does_not_rename_a_hidden_part() -> None:
    result = result_of(square(Label.HAIR), evidence={"face": square(255)})
    np.testing.assert_array_equal(hidden(result), square(Label.HAIR))


def test_regions_are_split_by_instance_and_the_rest_by_component() -> None:
    label_map = square(Label.FACE, left=4) + square(Label.FACE, left=12)  # they touch
    label_map += square(Label.FACE, left=30)
    instances = square(1, left=4) + square(2, left=12)
    found = regions(result_of(label_map, instances=instances))
    assert [int(np.count_nonzero(region)) for region in found] == [64, 64, 64]


def test_without_instances_each_component_is_a_region() -> None:
    label_map = square(Label.FACE, left=4) + square(Label.HAIR, left=12)
    label_map += square(Label.FACE, left=30)
    found = regions(result_of(label_map))
    assert sorted(int(np.count_nonzero(region)) for region in found) == [64, 128]


def test_nobody_gives_no_region() -> None:
    assert regions(result_of(blank())) == ()


def test_a_margin_grows_with_the_region_and_never_shrinks_it() -> None:
    def grown(side: int) -> int:
        box = square(Label.FACE, left=12, top=12, side=side)
        (region,) = regions(result_of(box), margin=0.5)
        assert (region[box > 0] == Label.FACE).all()
        rows = np.flatnonzero(region.any(axis=1))
        return int(rows[-1] - rows[0] + 1 - side) // 2

    assert grown(4) == 1  # half of what fits into it, 2 pixels
    assert grown(16) == 4


def test_a_long_body_has_the_margin_of_its_width_and_not_of_its_area() -> None:
    standing = blank()
    standing[2:38, 18:22] = Label.FACE
    (region,) = regions(result_of(standing), margin=0.5)
    columns = np.flatnonzero(region.any(axis=0))
    assert (columns[0], columns[-1]) == (17, 22)


def test_a_region_cut_by_the_edge_is_as_wide_as_it_looks() -> None:
    for shape in ((slice(10, 30), slice(0, 10)), (slice(0, 40), slice(0, 10))):
        cut = blank()
        cut[shape] = Label.FACE
        (region,) = regions(result_of(cut), margin=0.5)
        assert region[20, 10:15].all()
    (region,) = regions(result_of(blank() + np.uint8(Label.FACE)), margin=2.0)
    assert region.all()


def test_a_margin_below_a_pixel_is_a_pixel_and_none_is_none() -> None:
    (region,) = regions(result_of(square(Label.FACE)), margin=0.05)
    np.testing.assert_array_equal(region[9], square(Label.FACE)[10])
    (region,) = regions(result_of(square(Label.FACE)), margin=0.0)
    np.testing.assert_array_equal(region, square(Label.FACE))


def test_a_margin_keeps_the_parts_inside() -> None:
    label_map = square(Label.FACE, side=8)
    label_map[10:14] = np.where(label_map[10:14] > 0, Label.HAIR, 0)
    (region,) = regions(result_of(label_map), margin=0.5)
    inside = label_map > 0
    np.testing.assert_array_equal(region[inside], label_map[inside])


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


def test_many_layers_of_full_evidence_do_not_overflow() -> None:
    groups = ["face", "torso-skin", "left-arm", "right-arm", "left-leg", "right-leg"]
    result = result_of(blank(), evidence={group: square(255) for group in groups})
    assert (hidden(result, hide="skin") > 0)[square(1) > 0].all()


def test_presumed_parts_are_hidden() -> None:
    evidence = {"left-arm": square(255), "person": square(255, left=25)}
    result = result_of(blank(), evidence=evidence)
    np.testing.assert_array_equal(hidden(result, hide="skin"), square(Label.LEFT_ARM))
    assert (hidden(result, hide="person") > 0)[square(1) > 0].all()
