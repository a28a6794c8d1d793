"""What no picture of people explains is covered and named; what one does is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.core.labels import BODY_PARTS, CIHP, Label
from m2fp_stream.core.records import ParseResult
from m2fp_stream.parsers.embedded.parser import EmbeddedParser
from m2fp_stream.parsers.plausibility import LOOK_SIDE, Doubt, review

Map = NDArray[np.uint8]
Mask = NDArray[np.bool_]

HEIGHT, WIDTH = 120, 160
TOP, MIDDLE = 20, 80  # of the figure's head
HEAD_ROWS, TORSO_ROWS, LEG_ROWS = (TOP, TOP + 11), (TOP + 13, TOP + 40), (TOP + 40, TOP + 78)


def blank() -> Map:
    return np.zeros((HEIGHT, WIDTH), np.uint8)


def paint(
    label_map: Map, rows: tuple[int, int], half: int, label: int, middle: int = MIDDLE
) -> None:
    label_map[slice(*rows), max(0, middle - half) : middle + half] = label


def figure(
    *,
    head: int | None = Label.FACE,
    torso: int | None = Label.UPPER_CLOTHES,
    legs: int | None = Label.PANTS,
    shoes: int | None = None,
    middle: int = MIDDLE,
    breadth: int = 20,
) -> Map:
    """A standing person, 80 rows tall, drawn to Drillis and Contini; None leaves a part out."""
    label_map = blank()
    if head is not None:
        paint(label_map, HEAD_ROWS, 4, Label.HAIR if head == Label.FACE else head, middle)
        paint(label_map, (TOP + 3, TOP + 11), 3, head, middle)
    if torso is not None:
        paint(label_map, (TOP + 11, TOP + 13), 2, torso, middle)
        paint(label_map, TORSO_ROWS, breadth // 2, torso, middle)
    if legs is not None:
        paint(label_map, LEG_ROWS, 8, legs, middle)
    if shoes is not None:
        paint(label_map, (LEG_ROWS[1] - 4, LEG_ROWS[1] + 2), 8, shoes, middle)
    return label_map


def head_of_figure() -> Mask:
    mask = blank()
    paint(mask, HEAD_ROWS, 4, 1)
    return mask > 0


def result_of(
    label_map: Map,
    *,
    evidence: dict[str, Map] | None = None,
    must_cover: Mask | None = None,
    instances: Map | None = None,
    doubts: tuple[str, ...] = (),
) -> ParseResult:
    groups = evidence or {}
    planes = np.array(list(groups.values()), np.uint8).reshape(len(groups), *label_map.shape)
    return ParseResult(
        frame_id=0,
        label_map=np.ascontiguousarray(label_map),
        labels=CIHP,
        groups=tuple(groups),
        evidence=planes,
        must_cover=np.zeros(label_map.shape, np.bool_) if must_cover is None else must_cover,
        instances=instances,
        parser_id="test",
        doubts=doubts,
    )


def reviewed(label_map: Map) -> ParseResult:
    return review(result_of(label_map))


# --- anatomy --------------------------------------------------------------------------------------

UNSUSPICIOUS = {
    "nobody": blank(),
    "in full view": figure(),
    "in a hat, from behind": figure(head=Label.HAT),
    "a face alone": figure(torso=None, legs=None),
    "a large face": figure(head=None, torso=Label.FACE, legs=None),
    "cut at the waist": figure()[: LEG_ROWS[0]],
    "cut at the shoulders": figure()[: TORSO_ROWS[0] + 4],
    "cut at the chin": figure()[HEAD_ROWS[1] :],
    "cut at the breast": figure()[TORSO_ROWS[0] + 8 :],
    "cut at the hips": figure()[LEG_ROWS[0] :],
    "lying": figure().T,
    "an arm that comes in": figure(head=None, torso=Label.LEFT_ARM, legs=Label.LEFT_ARM),
    "two people": np.maximum(figure(middle=40), figure(middle=110)),
}


@pytest.mark.parametrize("label_map", UNSUSPICIOUS.values(), ids=UNSUSPICIOUS)
def test_people_as_they_are_seen_are_not_doubted(label_map: Map) -> None:
    result = result_of(label_map)
    assert review(result) is result


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("rows", [HEIGHT, LEG_ROWS[0] + 4], ids=["whole", "waist"])
@pytest.mark.parametrize(
    "parts",
    [
        {"head": None},
        {"head": Label.UPPER_CLOTHES},
        {"head": Label.UPPER_CLOTHES, "breadth": 14},
        {"head": Label.SCARF},
        {"head": Label.HUMAN, "torso": Label.HUMAN, "legs": Label.HUMAN},
        {"head": None, "torso": Label.HUMAN, "legs": Label.HUMAN},
        {"head": None, "legs": None},
    ],
    ids=["nothing", "clothes", "slim", "scarf", "outline", "headless outline", "no legs"],
)
def test_a_body_without_a_head_is_covered_where_the_head_is(
    parts: Any, rows: int, scale: int
) -> None:
    label_map = figure(**parts)[:rows].repeat(scale, 0).repeat(scale, 1)
    head = head_of_figure()[:rows].repeat(scale, 0).repeat(scale, 1)
    result = reviewed(label_map)
    assert result.doubts == ("no-head",)
    assert result.must_cover[head].all()
    assert result.must_cover.mean() < 0.3
    assert not result.must_cover[:, : label_map.shape[1] // 5].any()


@pytest.mark.parametrize("missing", [0, 16], ids=["legs", "calves"])
def test_legs_alone_have_a_head_above_them(missing: int) -> None:
    legs = figure(head=None, torso=None)
    legs[: LEG_ROWS[0] + missing] = 0
    result = reviewed(legs)
    assert result.doubts == ("no-head",)
    assert result.must_cover[head_of_figure()].all()


def test_somebody_lying_without_a_head_is_covered_all_around() -> None:
    result = reviewed(figure(head=None).T)
    assert result.doubts == ("no-head",)
    assert result.must_cover[head_of_figure().T].all()
    assert result.must_cover[::-1][head_of_figure().T].any()
    in_an_open_coat = figure(head=None)
    in_an_open_coat[TORSO_ROWS[0] + 8 : LEG_ROWS[0]] = figure(torso=Label.LEFT_ARM)[50]
    assert reviewed(in_an_open_coat.T).must_cover[head_of_figure().T].all()


@pytest.mark.parametrize("hand", [TOP - 10, 0])
def test_a_raised_sleeve_is_no_head(hand: int) -> None:
    label_map = figure(head=None)
    paint(label_map, (hand, TORSO_ROWS[0] + 5), 3, Label.UPPER_CLOTHES, MIDDLE + 8)
    result = reviewed(label_map)
    assert result.doubts == ("no-head",)
    assert result.must_cover[head_of_figure()].all()


def test_a_head_at_the_feet_is_no_head() -> None:
    result = reviewed(figure(head=None, shoes=Label.FACE))
    assert result.doubts == ("head-apart",)
    assert result.must_cover[head_of_figure()].all()
    assert result.must_cover[LEG_ROWS[1] - 3, MIDDLE]


def test_a_speck_of_a_head_is_no_head() -> None:
    label_map = figure(head=None)
    label_map[TOP + 4, MIDDLE : MIDDLE + 3] = Label.FACE
    result = reviewed(label_map)
    assert result.doubts == ("area",)
    assert result.must_cover[head_of_figure()].all()


def test_a_face_larger_than_the_rest_of_a_body_covers_it_whole() -> None:
    label_map = figure(torso=Label.FACE, legs=Label.FACE)
    label_map[TORSO_ROWS[1] - 6 : TORSO_ROWS[1]][label_map[34:40] > 0] = Label.COAT
    result = reviewed(label_map)
    assert result.doubts == ("area",)
    np.testing.assert_array_equal(result.must_cover, label_map > 0)
    close_up = label_map[: TORSO_ROWS[1] - 1]  # a portrait, cut by the lower edge
    assert reviewed(close_up).doubts == ()


@pytest.mark.parametrize(("rows", "doubted"), [(3, True), (10, False)])
def test_one_label_all_over_the_picture_covers_it(rows: int, doubted: bool) -> None:
    label_map = blank() + np.uint8(Label.HAIR)
    label_map[:rows] = 0
    result = reviewed(label_map)
    assert result.doubts == (("area",) if doubted else ())
    assert result.must_cover.all() == doubted


def evident(mask: Mask, value: int) -> Map:
    return np.where(mask, value, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("evidence", "doubted"),
    [
        ({"face": 90}, False),
        ({"face": 50, "hair": 40}, False),
        ({"face": 60}, True),
        ({"scarf": 255}, True),
        ({"upper-clothes": 255}, True),
    ],
    ids=str,
)
def test_evidence_of_a_head_is_a_head(evidence: dict[str, int], doubted: bool) -> None:
    planes = {group: evident(head_of_figure(), value) for group, value in evidence.items()}
    result = review(result_of(figure(head=None), evidence=planes))
    assert result.doubts == (("no-head",) if doubted else ())


def test_what_is_hidden_in_any_case_is_as_good_as_a_head() -> None:
    result = result_of(figure(head=None), must_cover=head_of_figure())
    assert review(result) is result


def test_each_person_needs_a_head_even_where_people_touch() -> None:
    label_map = np.maximum(figure(middle=60), figure(middle=80, head=None))
    assert reviewed(label_map).doubts == ()  # nobody says that they are two
    instances = np.where(figure(middle=60) > 0, 1, np.where(label_map > 0, 2, 0)).astype(np.uint8)
    result = review(result_of(label_map, instances=instances))
    assert result.doubts == ("no-head",)
    assert result.must_cover[head_of_figure()].all()


def test_somebody_far_away_is_not_examined() -> None:
    small = cv2.resize(figure(head=None), None, fx=0.2, fy=0.2, interpolation=cv2.INTER_NEAREST)
    label_map = blank()
    label_map[40 : 40 + small.shape[0], 40 : 40 + small.shape[1]] = small
    assert reviewed(label_map).doubts == ()


# --- label maps and evidence without content ------------------------------------------------------


def noise(values: int, block: int = 1) -> Map:
    rng = np.random.default_rng(3)
    cells = rng.integers(0, values, (HEIGHT // block, WIDTH // block)).astype(np.uint8)
    return cells.repeat(block, 0).repeat(block, 1)


@pytest.mark.parametrize("block", [1, 2])
def test_labels_like_noise_cover_the_picture(block: int) -> None:
    result = reviewed(noise(21, block))
    assert "entropy" in result.doubts
    assert result.must_cover.all()


def test_a_little_noise_is_what_small_people_look_like() -> None:
    label_map = blank()
    label_map[:24, :32] = noise(21)[:24, :32]
    assert "entropy" not in reviewed(label_map).doubts


PARTS = ("face", "hair", "upper-clothes", "pants", "left-arm", "right-arm", "left-leg", "right-leg")


def flat(where: Mask, value: int, *, certain: str | None = None) -> dict[str, Map]:
    planes = {part: evident(where, value) for part in PARTS}
    if certain is not None:
        planes[certain] = evident(where, 255)
    return planes


@pytest.mark.parametrize(
    ("evidence", "doubted"),
    [
        (flat(figure() > 0, 100), True),
        (flat(figure() > 0, 5, certain="upper-clothes"), False),
        (flat(figure() > 0, 255), False),  # presumed, and hidden as anything that it may be
        (flat(figure() == 0, 40) | {"coat": evident(figure() > 0, 255)}, True),
        (flat(figure() >= 0, 1) | {"person": evident(figure() > 0, 255)}, False),
        ({"face": evident(figure() > 0, 100)}, False),
        ({"person": evident(figure() >= 0, 255)}, False),
    ],
    ids=["flat people", "sharp", "presumed", "flat picture", "quiet picture", "single", "no parts"],
)
def test_evidence_that_tells_nothing_apart_covers_the_picture(
    evidence: dict[str, Map], doubted: bool
) -> None:
    result = review(result_of(figure(), evidence=evidence))
    assert result.doubts == (("entropy",) if doubted else ())
    assert result.must_cover.all() == doubted


# --- whatever comes -------------------------------------------------------------------------------

groups_ = st.lists(
    st.sampled_from(["person", *(label.title for label in Label if label)]), max_size=6, unique=True
)


@st.composite
def results(draw: st.DrawFn) -> ParseResult:
    shape = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    block = draw(st.integers(1, 30))
    groups = draw(groups_)

    def blocks(most: int) -> Map:
        cells = rng.integers(0, most, (-(-shape[0] // block), -(-shape[1] // block)))
        full = cells.repeat(block, 0).repeat(block, 1)[: shape[0], : shape[1]]
        return np.asarray(full, np.uint8)

    return result_of(
        blocks(draw(st.sampled_from([1, 2, 21]))),
        evidence={group: blocks(256) for group in groups},
        must_cover=blocks(3) > 1,
        instances=blocks(5) if draw(st.booleans()) else None,
        doubts=draw(st.sampled_from([(), ("area",), ("of-its-own", "entropy")])),
    )


@given(results())
def test_a_review_adds_cover_and_doubts_and_changes_nothing_else(result: ParseResult) -> None:
    after = review(result)
    assert after.must_cover[result.must_cover].all()
    assert after.doubts[: len(result.doubts)] == result.doubts
    assert len(set(after.doubts)) == len(after.doubts)
    assert set(after.doubts) <= set(Doubt) | set(result.doubts)
    for name in set(ParseResult.__dataclass_fields__) - {"must_cover", "doubts"}:
        assert getattr(after, name) is getattr(result, name), name


@pytest.mark.parametrize("size", [(LOOK_SIDE, 91), (1000, 333), (97, 233)])
def test_maps_of_any_size_are_covered_where_it_belongs(size: tuple[int, int]) -> None:
    label_map = cv2.resize(figure(head=None), size[::-1], interpolation=cv2.INTER_NEAREST)
    mask = head_of_figure().astype(np.uint8)
    head = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST) > 0
    result = reviewed(np.asarray(label_map, np.uint8))
    assert result.must_cover.shape == size
    assert result.doubts == ("no-head",)
    assert result.must_cover[head].all()


def test_a_photograph_is_not_doubted() -> None:
    path = Path(skimage.__file__).parent / "data" / "astronaut.png"
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture is not None
    with EmbeddedParser() as parser:
        result = parser.parse(np.asarray(picture, np.uint8))
    assert result.labels is BODY_PARTS
    assert review(result) is result
    rest = result.label_map.copy()
    rest[np.isin(rest, [Label.FACE, Label.HAIR, Label.HAT])] = 0
    headless = review(result_of(rest))
    assert "no-head" in headless.doubts
    assert headless.must_cover[30:155, 195:252].all()  # hair to mouth, read off by eye
