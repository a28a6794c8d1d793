"""The union of two parsers hides whatever either of them alone would hide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError, ParserError
from m2fp_stream.core.labels import BODY_PARTS, CIHP, PRESETS, Label, LabelSet
from m2fp_stream.core.records import Look, ParseResult
from m2fp_stream.parsers.base import Parser
from m2fp_stream.parsers.plausibility import Doubt, Plausibility
from m2fp_stream.parsers.union import UnionParser, merged
from m2fp_stream.pipeline import wire
from m2fp_stream.policy import Policy, PolicyOptions
from tests.labelsets import HEAD_PARTS

Map = NDArray[np.uint8]
Mask = NDArray[np.bool_]
PICTURE = np.zeros((40, 60, 3), np.uint8)
MEMORY = memoryview(bytearray(wire.INPUT_BYTES + 50_000))
NO_TORSO = LabelSet(
    "no-torso",
    frozenset(Label) - {Label.TORSO_SKIN, Label.GLOVES},
    {Label.TORSO_SKIN: Label.UPPER_CLOTHES},
)
"""Tells no skin of the torso from clothes, and does not know where gloves are."""


def result_of(
    label_map: Map,
    *,
    labels: LabelSet = CIHP,
    evidence: Sequence[tuple[str, Map]] = (),
    must_cover: Mask | None = None,
    instances: Map | None = None,
    frame_id: int = 5,
    parser_id: str = "test 1",
    thorough: bool = True,
    doubts: tuple[str, ...] = (),
) -> ParseResult:
    planes = np.array([plane for _, plane in evidence], np.uint8)
    return ParseResult(
        frame_id=frame_id,
        parser_id=parser_id,
        thorough=thorough,
        doubts=doubts,
        label_map=label_map,
        labels=labels,
        groups=tuple(group for group, _ in evidence),
        evidence=planes.reshape(len(evidence), *label_map.shape),
        must_cover=np.zeros(label_map.shape, np.bool_) if must_cover is None else must_cover,
        instances=instances,
    )


def hidden(result: ParseResult, hide: object, threshold: float = 0.3) -> Mask:
    options = PolicyOptions.model_validate({"hide": hide, "threshold": threshold, "margin": 0.0})
    mask = np.zeros(result.label_map.shape, np.bool_)
    for region in Policy(options).findings(result).regions:
        mask |= region > 0
    return mask


def people(result: ParseResult, threshold: float = 0.3) -> Mask:
    options = PolicyOptions(threshold=threshold)
    return Policy(options).findings(result).people > 0


def overlapped(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Marks every cell of `shape` that a marked pixel overlaps by any area at all."""
    marked = np.zeros(shape, np.bool_)
    for y, x in np.argwhere(mask):
        rows, columns = (
            slice(int(at) * cells // pixels, -(-(int(at) + 1) * cells // pixels))
            for at, cells, pixels in ((y, shape[0], mask.shape[0]), (x, shape[1], mask.shape[1]))
        )
        marked[rows, columns] = True
    return marked


sides = st.integers(1, 14)
shapes = st.tuples(sides, sides)
label_sets = st.sampled_from([CIHP, BODY_PARTS, HEAD_PARTS, NO_TORSO])
titles = [label.title for label in Label if label]
groups_ = st.builds(
    lambda person, names: [*person, *names[:11]],
    st.sampled_from([[], ["person"]]),
    st.lists(st.sampled_from(["person", *titles])),
)
hides = st.sampled_from(sorted(PRESETS)) | st.lists(st.sampled_from(titles), min_size=1, max_size=4)


@st.composite
def results(draw: st.DrawFn, shape: tuple[int, int] | None = None) -> ParseResult:
    shape = draw(shapes) if shape is None else shape
    labels = draw(label_sets)
    groups = draw(groups_)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.0, 0.05, 0.4, 1.0]))
    strength = draw(st.sampled_from([40, 90, 256]))

    def some(values: NDArray[Any]) -> NDArray[Any]:
        return np.where(rng.random(values.shape) < share, values, 0).astype(values.dtype)

    ids = np.array(sorted(labels.ids), np.uint8)
    return result_of(
        some(rng.choice(ids, shape)),
        labels=labels,
        evidence=[
            (name, some(rng.integers(0, strength, shape).astype(np.uint8))) for name in groups
        ],
        must_cover=rng.random(shape) < draw(st.sampled_from([0.0, 0.1])),
        instances=some(rng.integers(0, 4, shape).astype(np.uint8)) if draw(st.booleans()) else None,
        thorough=draw(st.booleans()),
    )


@st.composite
def pairs(draw: st.DrawFn) -> tuple[ParseResult, ParseResult]:
    """A guard and a fine one, often of one size."""
    guard = draw(results())
    shape = guard.label_map.shape if draw(st.booleans()) else None
    return guard, draw(results(shape))


@given(pairs(), hides, st.sampled_from([0.05, 0.3, 0.9]))
def test_what_either_hides_is_hidden(
    pair: tuple[ParseResult, ParseResult], hide: object, threshold: float
) -> None:
    guard, fine = pair
    union = hidden(merged(guard, fine), hide, threshold)
    assert union[hidden(guard, hide, threshold)].all()
    assert union[overlapped(hidden(fine, hide, threshold), union.shape)].all()


@given(pairs(), st.sampled_from([0.05, 0.3, 0.9]))
def test_people_of_either_are_people(
    pair: tuple[ParseResult, ParseResult], threshold: float
) -> None:
    guard, fine = pair
    union = people(merged(guard, fine), threshold)
    assert union[people(guard, threshold)].all()
    assert union[overlapped(people(fine, threshold), union.shape)].all()


@given(shapes, st.integers(0, 2**32 - 1), st.sampled_from(sorted(PRESETS)))
def test_what_neither_hides_is_not_hidden(shape: tuple[int, int], seed: int, preset: str) -> None:
    rng = np.random.default_rng(seed)
    guard, fine = (
        result_of(
            rng.integers(0, 21, shape).astype(np.uint8),
            evidence=[("hair", rng.integers(0, 150, shape).astype(np.uint8))],
            must_cover=rng.random(shape) < 0.1,
        )
        for _ in range(2)
    )
    union = hidden(merged(guard, fine), preset)
    np.testing.assert_array_equal(union, hidden(guard, preset) | hidden(fine, preset))


@given(pairs())
@example(
    (
        result_of(np.arange(21, dtype=np.uint8)[None]),
        result_of(np.arange(21, dtype=np.uint8)[None, ::-1]),
    )
)
def test_the_union_is_of_the_guards_form_and_fits_on_the_wire(
    pair: tuple[ParseResult, ParseResult],
) -> None:
    guard, fine = pair
    union = merged(guard, fine)
    assert union.labels is guard.labels
    assert union.label_map.shape == guard.label_map.shape
    assert union.instances is guard.instances
    assert union.groups[: len(guard.groups)] == guard.groups
    repeated = len(guard.groups) - len({group.replace("human", "person") for group in guard.groups})
    assert len(union.groups) - repeated < len(Label)
    assert set(np.unique(union.label_map)) <= guard.labels.ids | set(np.unique(guard.label_map))
    assert union.thorough is (guard.thorough and fine.thorough)
    if len(union.groups) <= 24:
        message = wire.write_result(MEMORY, union)
        back = wire.read_result(MEMORY, message, union.labels)
        np.testing.assert_array_equal(back.evidence, union.evidence)


def blank(shape: tuple[int, int]) -> Map:
    return np.zeros(shape, np.uint8)


def row(*labels: Label) -> Map:
    return np.array([labels], np.uint8)


def test_a_part_bears_the_fine_ones_name_as_the_guard_knows_it() -> None:
    guard = result_of(row(Label.BACKGROUND, Label.FACE, Label.HAIR, Label.HUMAN), labels=BODY_PARTS)
    fine = result_of(row(Label.COAT, Label.HAT, Label.BACKGROUND, Label.GLOVES))
    union = merged(guard, fine)
    expected = row(Label.UPPER_CLOTHES, Label.HAT, Label.HAIR, Label.HUMAN)
    np.testing.assert_array_equal(union.label_map, expected)


def test_a_person_without_parts_does_not_rename_the_guards_part() -> None:
    guard = result_of(row(Label.FACE, Label.BACKGROUND))
    fine = result_of(row(Label.HUMAN, Label.HUMAN))
    np.testing.assert_array_equal(merged(guard, fine).label_map, row(Label.FACE, Label.HUMAN))


def test_a_skin_the_fine_one_cannot_tell_stays_hidden() -> None:
    """Its upper clothes may be bare skin: whoever hides skin hid them with it alone."""
    guard = result_of(row(Label.BACKGROUND), labels=BODY_PARTS)
    fine = result_of(row(Label.UPPER_CLOTHES), labels=NO_TORSO)
    assert hidden(fine, ["torso-skin"]).all()
    assert hidden(merged(guard, fine), ["torso-skin"]).all()
    assert not hidden(merged(guard, replace(fine, labels=CIHP)), ["torso-skin"]).any()


@pytest.mark.parametrize(("coat", "sum_of_clothes"), [(15, 31), (1, 20), (250, 255)])
def test_evidence_is_the_higher_one_and_what_becomes_one_part_adds_up(
    coat: int, sum_of_clothes: int
) -> None:
    def planes(**values: int) -> list[tuple[str, Map]]:
        return [
            (group.replace("_", "-"), np.full((1, 1), value, np.uint8))
            for group, value in values.items()
        ]

    nobody = row(Label.BACKGROUND)
    guard = result_of(nobody, labels=BODY_PARTS, evidence=planes(upper_clothes=20, hair=9))
    fine = result_of(nobody, evidence=planes(coat=coat, dress=16, hair=4, face=7))
    union = merged(guard, fine)
    assert union.groups == ("upper-clothes", "hair", "face")
    assert union.evidence.ravel().tolist() == [sum_of_clothes, 9, 7]


def test_where_the_fine_one_sees_anybody_there_are_people() -> None:
    """Though the guard has a layer of its own for them, and cells meet pixels of a finer map."""

    def person_layer(value: int) -> list[tuple[str, Map]]:
        return [("person", blank((1, 1)) + np.uint8(value))]

    guard = result_of(blank((1, 1)), evidence=person_layer(0))
    corner = blank((1, 4))
    corner[0, 0] = Label.FACE
    assert people(merged(guard, result_of(corner))).all()
    assert people(merged(guard, result_of(blank((1, 4)), evidence=[("face", 9 * corner)]))).all()
    assert not people(merged(guard, result_of(blank((1, 4))))).any()
    two = result_of(blank((1, 1)), evidence=[("human", blank((1, 1))), *person_layer(0)])
    assert people(merged(two, result_of(blank((1, 1)), evidence=person_layer(90)))).all()


def test_doubtful_evidence_does_not_count_twice() -> None:
    """That a label set knows no gloves makes nobody's hair more of a person."""
    guard = result_of(blank((1, 1)), labels=BODY_PARTS)
    hair = [("hair", blank((1, 1)) + np.uint8(50))]
    fine = result_of(blank((1, 1)), labels=NO_TORSO, evidence=hair)
    assert not hidden(merged(guard, fine), "person").any()


# --- the parser -----------------------------------------------------------------------------------


@dataclass
class Script:
    """What a parser answers, and what it was asked for."""

    answer: ParseResult | Exception
    looks: list[Look]
    closed: int = 0
    close_error: Exception | None = None


class Scripted(Parser):
    labels = CIHP

    def __init__(self, name: str, answer: ParseResult | Exception) -> None:
        self.name = name
        self.script = Script(answer, [])

    def _parse(self, bgr: NDArray[np.uint8], frame_id: int, look: Look) -> ParseResult:
        self.script.looks.append(look)
        if isinstance(self.script.answer, Exception):
            raise self.script.answer
        return replace(self.script.answer, frame_id=frame_id)

    def _close(self) -> None:
        self.script.closed += 1
        if self.script.close_error is not None:
            raise self.script.close_error


def square(value: int, side: int = 10) -> Map:
    values = np.zeros((40, 60), np.uint8)
    values[10 : 10 + side, 10 : 10 + side] = value
    return values


GUARD = result_of(square(Label.HAIR), labels=BODY_PARTS, parser_id="guard 1")
FINE = result_of(square(Label.FACE, side=20), parser_id="fine 1", doubts=("area",))


def union_of(
    guard: ParseResult | Exception = GUARD,
    fine: ParseResult | Exception = FINE,
    plausibility: Plausibility | None = None,
) -> tuple[UnionParser, Script, Script]:
    one, other = Scripted("guard", guard), Scripted("fine", fine)
    one.labels = BODY_PARTS
    return UnionParser(one, other, plausibility), one.script, other.script


@pytest.mark.parametrize("look", [Look.FRESH, Look.FULL, Look.ASIDE])
def test_both_look_and_the_result_is_of_both(look: Look) -> None:
    parser, guard, fine = union_of()
    result = parser.parse(PICTURE, frame_id=31, look=look)
    assert (guard.looks, fine.looks) == ([look], [look])
    assert result.frame_id == 31
    assert result.thorough
    assert result.doubts == ("area",)
    assert result.parser_id == "guard 1 + fine 1"
    np.testing.assert_array_equal(result.label_map, square(Label.FACE, side=20))
    assert hidden(result, ["hair"])[square(1) > 0].all()
    assert (parser.name, parser.labels) == ("fine", BODY_PARTS)


def test_a_glance_is_the_guards_and_never_thorough() -> None:
    parser, guard, fine = union_of()
    result = parser.parse(PICTURE, look=Look.GLANCE)
    assert (guard.looks, fine.looks) == ([Look.GLANCE], [])
    assert not result.thorough
    np.testing.assert_array_equal(result.label_map, GUARD.label_map)


@pytest.mark.parametrize(
    "failure",
    [
        ParserError("hung"),
        ValueError("what"),
        MemoryError(),
        result_of(square(Label.FACE), evidence=[("fcae", square(9))]),
    ],
    ids=["parser", "value", "memory", "nonsense"],
)
def test_a_fine_one_that_fails_leaves_the_guard_in_doubt(failure: Any) -> None:
    guard = replace(GUARD, doubts=("lost",))
    parser, _, _ = union_of(guard, failure)
    result = parser.parse(PICTURE)
    assert result.doubts == ("lost", "fine-failed")
    assert not result.thorough  # whom only the fine one would have seen may be there
    np.testing.assert_array_equal(result.label_map, GUARD.label_map)
    np.testing.assert_array_equal(result.must_cover, GUARD.must_cover)


def test_without_the_guard_there_is_no_result() -> None:
    parser, _, fine = union_of(guard=ParserError("hung"))
    for look in Look:
        with pytest.raises(ParserError, match="hung"):
            parser.parse(PICTURE, look=look)
    assert fine.looks == []


def test_a_fine_one_without_weights_is_no_passing_failure() -> None:
    parser, _, _ = union_of(fine=ModelError("weights changed"))
    with pytest.raises(ModelError, match="weights changed"):
        parser.parse(PICTURE)


def test_closing_closes_both_even_if_one_objects() -> None:
    parser, guard, fine = union_of()
    fine.close_error = ParserError("no")
    with pytest.raises(ParserError, match="no"):
        parser.close()
    assert (guard.closed, fine.closed) == (1, 1)


def test_what_the_fine_one_says_is_reviewed_beside_the_guard() -> None:
    blind = result_of(square(0))
    parser, _, _ = union_of(fine=blind, plausibility=Plausibility())
    assert parser.parse(PICTURE).doubts == (Doubt.GUARD_DISAGREES,)
    parser, _, _ = union_of(fine=blind)
    assert parser.parse(PICTURE).doubts == ()


def test_the_review_is_told_what_was_asked_for() -> None:
    parser, guard, fine = union_of(plausibility=Plausibility())
    for _ in range(3):
        assert Doubt.LOST not in parser.parse(PICTURE).doubts
    guard.answer = result_of(square(0), labels=BODY_PARTS)
    fine.answer = result_of(square(0))
    assert Doubt.LOST not in parser.parse(PICTURE, look=Look.ASIDE).doubts
    assert Doubt.LOST not in parser.parse(PICTURE, look=Look.GLANCE).doubts
    result = parser.parse(PICTURE)
    assert Doubt.LOST in result.doubts
    assert hidden(result, "face")[square(1, side=20) > 0].all()
