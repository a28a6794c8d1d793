"""The M2FP parser on networks that see colours: a red thing is a face, a blue one an arm.

One is an object with the interface of a network; one is a real, tiny ONNX file. The weights of the
true network come from the user and are not here.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from m2fp_stream.core.errors import ModelError, ParserError
from m2fp_stream.core.labels import PRESETS, Label
from m2fp_stream.core.records import ParseResult
from m2fp_stream.models import vault
from m2fp_stream.parsers.m2fp import Kind, M2FPOptions, M2FPParser
from m2fp_stream.parsers.m2fp.labels import LABEL_SETS, LABELS_OF, LIP, mirrored
from m2fp_stream.parsers.m2fp.parser import _in_picture, from_options
from m2fp_stream.parsers.m2fp.picture import inner_size, network_shape
from m2fp_stream.parsers.m2fp.runtime import FORMAT, M2FPNetwork
from m2fp_stream.pipeline import wire
from m2fp_stream.pipeline.workers import ParserWorker, WorkerSpec, _is_map_of
from m2fp_stream.policy import Policy, PolicyOptions
from tests.kit.parses import hidden_regions, probability

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]

SHA256 = "0123456789abcdef" * 4
RED, BLUE, GREEN, GREY = (0, 0, 255), (255, 0, 0), (0, 255, 0), (90, 90, 90)
"""BGR of a face, an arm, clothes and the background."""
FACE, COAT, HUMAN = 13, 7, 20
CHANCE = 0.9


class ColourNetwork:
    """Sees colours: its masks are sure where a 4x4 block has one, and unsure halfway."""

    def __init__(
        self, kind: Kind = Kind.CIHP, picture_hw: tuple[int, int] = (180, 320), side: int = 128
    ) -> None:
        self.kind = kind
        self.shape_hw = network_shape(inner_size(picture_hw, side))
        self.weights_sha256 = SHA256
        self.calls = 0

    def __call__(self, image: Floats) -> tuple[Floats, Floats]:
        assert image.shape == (1, 3, *self.shape_hw)
        self.calls += 1
        height, width = self.shape_hw
        bgr = image[0, ::-1].reshape(3, height // 4, 4, width // 4, 4).mean(axis=(2, 4))

        def like(colour: tuple[int, int, int]) -> Floats:
            far = np.abs(bgr - np.array(colour, np.float32)[:, None, None]).max(axis=0)
            return np.asarray(10 - far / 12, np.float32)

        left = np.arange(width // 4) < width // 8
        arm = like(BLUE)
        seen: list[tuple[int, Floats]] = [
            (FACE, like(RED)),
            (COAT, like(GREEN)),
            (15, np.where(left, arm, -9)),  # the person's right arm is on the left of the picture
            (14, np.where(left, -9, arm)),
        ]
        if self.kind is Kind.CIHP:
            parts = np.maximum.reduce([mask for _, mask in seen]).astype(np.float32)
            count, numbers = cv2.connectedComponents((parts > 0).astype(np.uint8))
            seen += [(HUMAN, np.where(numbers == k, parts, -9)) for k in range(1, count)]
        logits = np.full((1, len(seen) + 1, self.kind.classes + 1), -20, np.float32)
        for query, (category, _) in enumerate(seen):
            logits[0, query, category] = math.log(CHANCE / (1 - CHANCE))
            logits[0, query, -1] = 0
        logits[0, -1, 0] = 9  # everything else
        masks = [*(mask for _, mask in seen), -np.maximum.reduce([mask for _, mask in seen])]
        return logits, np.stack(masks)[None].astype(np.float32)


def picture(height: int = 180, width: int = 320) -> Picture:
    """A person in the middle: face, coat, and an arm on either side."""
    bgr = np.empty((height, width, 3), np.uint8)
    bgr[...] = GREY
    for colour, (top, left, bottom, right) in (
        (GREEN, (0.4, 0.4, 1, 0.6)),
        (RED, (0.1, 0.42, 0.4, 0.58)),
        (BLUE, (0.5, 0.3, 0.9, 0.4)),
        (BLUE, (0.5, 0.6, 0.9, 0.7)),
    ):
        rows = slice(round(top * height), round(bottom * height))
        bgr[rows, round(left * width) : round(right * width)] = colour
    return bgr


def where(bgr: Picture, colour: tuple[int, int, int], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The cells of a map of `shape` that hold nothing but the colour."""
    has = (bgr == colour).all(axis=2).astype(np.float32)
    return np.asarray(cv2.resize(has, shape[::-1], interpolation=cv2.INTER_AREA) > 0.999)


def parsed(network: Any, bgr: Picture, **options: Any) -> ParseResult:
    chosen = M2FPOptions.model_validate({"short_side": 128} | options)
    with M2FPParser(network, chosen) as parser:
        return parser.parse(bgr, frame_id=7)


def hidden(result: ParseResult, hide: str) -> NDArray[np.bool_]:
    covered = np.zeros(result.label_map.shape, np.bool_)
    for region in hidden_regions(Policy(PolicyOptions.model_validate({"hide": hide})), result):
        covered |= region > 0
    return covered


# --- labels ---


def test_lip_classes_mean_these_labels() -> None:
    titles = [label.title for label in LABELS_OF[Kind.LIP]]
    assert titles == [
        *("background", "hat", "hair", "gloves", "sunglasses", "upper-clothes", "dress", "coat"),
        *("socks", "pants", "dress", "scarf", "skirt", "face", "left-arm", "right-arm"),
        *("left-leg", "right-leg", "left-shoe", "right-shoe"),
    ]


def test_cihp_classes_are_their_labels() -> None:
    assert LABELS_OF[Kind.CIHP] == tuple(Label)


@pytest.mark.parametrize("kind", Kind)
def test_a_label_set_holds_what_its_classes_can_be(kind: Kind) -> None:
    assert set(LABELS_OF[kind]) | {Label.HUMAN} == LABEL_SETS[kind].ids


def test_who_hides_skin_that_lip_does_not_know_hides_the_person() -> None:
    assert Label.HUMAN in LIP.covering(PRESETS["skin"])
    assert Label.HUMAN not in LIP.covering(PRESETS["head"])


def test_a_mirror_exchanges_left_and_right_and_nothing_else() -> None:
    changed = {(a.title, mirrored(a).title) for a in Label if mirrored(a) is not a}
    assert changed == {
        *(("left-arm", "right-arm"), ("right-arm", "left-arm"), ("left-leg", "right-leg")),
        *(("right-leg", "left-leg"), ("left-shoe", "right-shoe"), ("right-shoe", "left-shoe")),
    }


# --- options ---


@pytest.mark.parametrize(
    "options",
    [
        *({"short_side": 320.0}, {"short_side": 330}, {"short_side": 96}, {"short_side": 832}),
        *({"tiles": 0}, {"tiles": 9}, {"threads": 0}, {"model_dir": ""}, {"model_dir": 3}),
        *({"score_threshold": 0.0}, {"score_threshold": 0.6}, {"map_size": 5}, {"agreement": 1}),
        {"shortside": 320},
    ],
)
def test_an_option_out_of_bounds_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        M2FPOptions.model_validate(options)


def test_options_are_frozen_strict_and_every_one_is_described() -> None:
    config = M2FPOptions.model_config
    assert config.get("frozen")
    assert config.get("hide_input_in_errors")
    for field in M2FPOptions.model_fields.values():
        assert field.title
        assert field.description


# --- parser ---


@pytest.mark.parametrize("kind", Kind)
def test_parts_are_labelled_where_they_are(kind: Kind) -> None:
    bgr = picture()
    result = parsed(ColourNetwork(kind), bgr)
    shape = result.label_map.shape
    assert (result.label_map[where(bgr, RED, shape)] == Label.FACE).mean() > 0.9
    assert (result.label_map[where(bgr, GREEN, shape)] == Label.COAT).mean() > 0.9
    arms = where(bgr, BLUE, shape)
    half = shape[1] // 2
    assert (result.label_map[:, :half][arms[:, :half]] == Label.RIGHT_ARM).mean() > 0.8
    assert (result.label_map[:, half:][arms[:, half:]] == Label.LEFT_ARM).mean() > 0.8
    assert not result.label_map[:, : shape[1] // 5].any()


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("hide", PRESETS)
def test_a_face_is_covered_under_every_preset(kind: Kind, hide: str) -> None:
    bgr = picture()
    result = parsed(ColourNetwork(kind), bgr)
    covered = hidden(result, hide)
    assert covered[where(bgr, RED, covered.shape)].all()
    assert not covered[:, : covered.shape[1] // 6].any()
    clothes = covered[where(bgr, GREEN, covered.shape)].mean()
    everything = hide == "person" or (hide == "skin" and kind is Kind.LIP)
    assert clothes > 0.99 if everything else clothes < 0.5


def test_a_doubtful_face_is_covered_by_its_evidence_alone() -> None:
    class Doubtful(ColourNetwork):
        def __call__(self, image: Floats) -> tuple[Floats, Floats]:
            logits, masks = super().__call__(image)
            logits[0, 0, FACE] = math.log(0.5)  # 1 of 3
            return logits, masks

    bgr = picture()
    result = parsed(Doubtful(), bgr, score_threshold=0.5)
    assert not (result.label_map == Label.FACE).any()
    covered = hidden(result, "face")
    assert covered[where(bgr, RED, covered.shape)].all()


def test_result_describes_itself() -> None:
    result = parsed(ColourNetwork(), picture())
    assert result.frame_id == 7
    assert result.parser_id == "m2fp-1 (cihp, 01234567, 256x128)"
    assert not result.must_cover.any()
    assert result.doubts == ()


def test_nobody_is_a_positive_statement() -> None:
    result = parsed(ColourNetwork(), np.full((180, 320, 3), 90, np.uint8), agreement=True)
    assert not result.label_map.any()
    assert not result.must_cover.any()
    assert result.evidence.max() < 0.05 * 255
    assert result.instances is not None
    assert not result.instances.any()


def test_two_people_are_two_instances() -> None:
    bgr = np.concatenate([picture(180, 160)] * 2, axis=1)
    result = parsed(ColourNetwork(), bgr)
    assert result.instances is not None
    faces = where(bgr, RED, result.label_map.shape)
    half = faces.shape[1] // 2
    left = set(result.instances[:, :half][faces[:, :half]])
    right = set(result.instances[:, half:][faces[:, half:]])
    assert len(left) == len(right) == 1
    assert left | right == {1, 2}


def test_one_person_checkpoint_has_no_instances() -> None:
    assert parsed(ColourNetwork(Kind.LIP), picture()).instances is None


def test_a_parse_depends_on_nothing_before() -> None:
    with M2FPParser(ColourNetwork(), M2FPOptions(short_side=128)) as parser:
        first = parser.parse(picture())
        parser.parse(np.ascontiguousarray(picture()[:, ::-1]))
        again = parser.parse(picture())
    assert np.array_equal(first.label_map, again.label_map)
    assert np.array_equal(first.evidence, again.evidence)


def test_picture_is_not_changed_and_need_not_be_contiguous() -> None:
    bgr = picture()
    wide = np.repeat(bgr, 2, axis=1)
    view = wide[:, ::2]
    view.setflags(write=False)
    before = wide.copy()
    result = parsed(ColourNetwork(), view, tiles=2, agreement=True)
    assert np.array_equal(
        result.evidence, parsed(ColourNetwork(), bgr, tiles=2, agreement=True).evidence
    )
    assert np.array_equal(wide, before)


@settings(max_examples=60)
@given(
    size_hw=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    side=st.sampled_from([128, 320, 800]),
    count=st.sampled_from([1, 2, 8]),
    map_size=st.integers(32, 1280),
)
def test_map_fits_its_picture_and_the_way_to_the_pipeline(
    size_hw: tuple[int, int], side: int, count: int, map_size: int
) -> None:
    options = M2FPOptions(short_side=side, tiles=count, map_size=map_size)
    network = ColourNetwork(picture_hw=size_hw, side=side)
    inner = inner_size(size_hw, side)
    shape = M2FPParser(network, options)._map_size(size_hw, inner)
    assert _is_map_of(shape, size_hw)
    assert max(shape) <= wire.MAX_SIDE
    assert max(shape) >= min(max(size_hw), wire.MAX_SIDE, max(map_size, max(inner) // 4))


@given(st.integers(1, 300), st.integers(0, 900), st.data())
def test_a_tile_sees_every_pixel_under_its_part_of_the_map(
    cells: int, more: int, data: st.DataObject
) -> None:
    pixels = cells + more
    start = data.draw(st.integers(0, cells - 1))
    stop = data.draw(st.integers(start + 1, cells))
    seen = _in_picture(slice(start, stop), cells, pixels)
    assert 0 <= seen.start <= start * pixels / cells < seen.start + 1
    assert seen.stop - 1 < stop * pixels / cells <= seen.stop <= pixels


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 300), (300, 2), (45, 80), (720, 1280)])
@pytest.mark.parametrize("count", [1, 3])
def test_pictures_of_any_size_give_a_map(size_hw: tuple[int, int], count: int) -> None:
    bgr = np.full((*size_hw, 3), RED, np.uint8)
    result = parsed(ColourNetwork(picture_hw=size_hw), bgr, tiles=count, agreement=True)
    assert _is_map_of(result.label_map.shape, size_hw)
    assert (result.label_map == Label.FACE).all()


def test_larger_map_is_as_asked_and_not_larger_than_the_picture() -> None:
    assert parsed(ColourNetwork(), picture(), map_size=200).label_map.shape[1] == 200
    assert parsed(ColourNetwork(), picture(), map_size=400).label_map.shape == (180, 320)
    natural = parsed(ColourNetwork(), picture()).label_map.shape
    assert natural == (32, 57)


def test_small_face_in_a_large_picture_is_found_by_tiles() -> None:
    bgr = np.full((720, 1280, 3), 90, np.uint8)
    places = ((100, 60), (355, 700), (640, 1200), (200, 420))
    for row, column in places:
        bgr[row : row + 11, column : column + 11] = RED
    whole = ColourNetwork(picture_hw=(720, 1280))
    assert not hidden(parsed(whole, bgr), "face").any()
    tiled = ColourNetwork(picture_hw=(720, 1280))
    result = parsed(tiled, bgr, tiles=4)
    assert (whole.calls, tiled.calls) == (1, 17)
    covered = hidden(result, "face")
    scale = covered.shape[1] / 1280
    for row, column in places:
        assert covered[int((row + 5.5) * scale), int((column + 5.5) * scale)]
    assert covered.mean() < 0.02
    # The large map does not get lost on its way either.
    assert max(result.label_map.shape) > 150


def test_tiles_add_to_what_the_whole_shows_in_its_place() -> None:
    bgr = picture(720, 1280)
    network = ColourNetwork(picture_hw=(720, 1280))
    result = parsed(network, bgr, tiles=2)
    shape = result.label_map.shape
    assert (result.label_map[where(bgr, RED, shape)] == Label.FACE).mean() > 0.95
    assert (result.label_map[where(bgr, GREY, shape)] == 0).mean() > 0.95
    whole = parsed(network, bgr, map_size=max(shape))
    assert (result.evidence >= whole.evidence).all()
    assert result.instances is not None
    assert whole.instances is not None
    assert np.array_equal(result.instances, whole.instances)


# --- two looks that must agree ---


class OneEyed(ColourNetwork):
    """Sees nothing in the right half of what it is shown."""

    def __call__(self, image: Floats) -> tuple[Floats, Floats]:
        logits, masks = super().__call__(image)
        masks[..., masks.shape[-1] // 2 :] = -9
        return logits, masks


def test_two_looks_that_agree_change_nothing() -> None:
    bgr = picture(180, 320)
    once, twice = (parsed(ColourNetwork(), bgr, agreement=asked) for asked in (False, True))
    assert twice.doubts == ()
    assert not twice.must_cover.any()
    assert (once.label_map == twice.label_map).mean() > 0.99
    assert np.abs(once.evidence.astype(int) - twice.evidence).max() < 60


@pytest.mark.parametrize("kind", Kind)
def test_what_only_the_mirrored_look_finds_counts_and_is_covered(kind: Kind) -> None:
    bgr = np.full((180, 320, 3), 90, np.uint8)
    bgr[40:100, 240:290] = RED
    bgr[100:160, 20:60] = BLUE
    assert not hidden(parsed(OneEyed(kind), bgr), "face").any()
    result = parsed(OneEyed(kind), bgr, agreement=True)
    shape = result.label_map.shape
    face, arm = where(bgr, RED, shape), where(bgr, BLUE, shape)
    assert (result.label_map[face] == Label.FACE).all()
    assert result.must_cover[face].all()
    assert result.doubts == ("agreement",)
    assert hidden(result, "person")[face].all()
    # The arm is only in the first look; each look says on which side it is by its own lights.
    assert (result.label_map[arm] == Label.RIGHT_ARM).all()
    assert result.must_cover[arm].all()
    assert not result.must_cover[where(bgr, GREY, shape)].all()


def test_a_mirrored_arm_is_the_other_one() -> None:
    class Backwards(ColourNetwork):
        """Blind at first, so that all comes from the mirrored look."""

        def __call__(self, image: Floats) -> tuple[Floats, Floats]:
            logits, masks = super().__call__(image)
            return logits, masks if self.calls % 2 == 0 else np.full_like(masks, -9)

    bgr = picture()
    result = parsed(Backwards(), bgr, agreement=True)
    expected = parsed(ColourNetwork(), bgr)
    assert (result.label_map == expected.label_map).mean() > 0.97
    for name in ("left-arm", "right-arm", "face"):
        one, other = probability(result, name), probability(expected, name)
        assert np.abs(one.astype(int) - other).mean() < 3


def test_the_surer_look_wins_where_it_looked() -> None:
    class Changing(ColourNetwork):
        """Takes for a coat what it takes for upper clothes, and more surely so, in a mirror."""

        def __call__(self, image: Floats) -> tuple[Floats, Floats]:
            logits, masks = super().__call__(image)
            if self.calls % 2 == 0:
                logits[0, 1] = np.roll(logits[0, 1], -2)
            else:
                logits[0, 1, COAT] = math.log(1.5)  # 0.6
            logits[0, 1, -1] = 0
            return logits, masks

    bgr = np.full((180, 320, 3), 90, np.uint8)
    bgr[60:140, 200:280] = GREEN
    for kind in Kind:
        result = parsed(Changing(kind), bgr, agreement=True)
        clothes = where(bgr, GREEN, result.label_map.shape)
        assert (result.label_map[clothes] == Label.UPPER_CLOTHES).all()


@pytest.mark.parametrize(("chance", "covered"), [(0.6, False), (0.3, True)])
def test_looks_disagree_where_only_one_finds_something_likely(chance: float, covered: bool) -> None:
    class Wavering(ColourNetwork):
        def __call__(self, image: Floats) -> tuple[Floats, Floats]:
            logits, masks = super().__call__(image)
            if self.calls % 2 == 0:
                of_class = logits[0, :, :-1]
                of_class[of_class > 0] = math.log(chance / (1 - chance))
                logits[0, -1, 0] = 9  # the background is as sure as before
            return logits, masks

    bgr = picture()
    result = parsed(Wavering(), bgr, agreement=True)
    faces = result.must_cover[where(bgr, RED, result.must_cover.shape)]
    assert faces.all() if covered else not faces.any()


def test_which_clothes_somebody_wears_is_no_disagreement() -> None:
    class Fickle(ColourNetwork):
        def __call__(self, image: Floats) -> tuple[Floats, Floats]:
            logits, masks = super().__call__(image)
            if self.calls % 2 == 0:
                logits[0, 1] = np.roll(logits[0, 1], -2)  # the coat is upper clothes
                logits[0, 1, -1] = 0
            return logits, masks

    result = parsed(Fickle(), picture(), agreement=True)
    upper = probability(result, "upper-clothes")
    assert upper.max() > 200
    assert not result.must_cover.any()


# --- what goes wrong ---


def test_picture_of_another_aspect_is_an_error_and_the_parser_lives() -> None:
    with M2FPParser(ColourNetwork(), M2FPOptions(short_side=128)) as parser:
        with pytest.raises(ParserError, match="export one for this size"):
            parser.parse(np.zeros((320, 180, 3), np.uint8))
        parser.parse(picture())


def test_network_that_fails_is_an_error_of_the_parser() -> None:
    class Failing(ColourNetwork):
        def __call__(self, image: Floats) -> tuple[Floats, Floats]:
            raise OSError("/somebody/here.jpg")

    with pytest.raises(ParserError, match="frame 7") as caught:
        parsed(Failing(), picture())
    assert "somebody" not in str(caught.value)


# --- real files, tiny ones ---


def onnx_bytes(
    *,
    shape_hw: tuple[int, int] = (128, 256),
    properties: dict[str, str | None] | None = None,
    outputs: tuple[str, str] = ("logits", "masks"),
    image: str = "image",
    classes: int = 22,
    queries: int = 100,
    trouble: str = "",
) -> bytes:
    """An ONNX file of the form that is exported: query 0 is a face, where it is red."""
    onnx: Any = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    of_masks = onnx.TensorProto.DOUBLE if trouble == "doubles" else kind
    height, width = shape_hw
    weights = np.zeros((queries, 3, 1, 1), np.float32)
    weights[0, :, 0, 0] = (0.1, -0.1, -0.1)
    bias = np.full(queries, -10, np.float32)
    classes_of = np.zeros((1, queries, classes), np.float32)
    classes_of[:, :, -1] = 9
    classes_of[0, 0, [FACE, -1]] = 9, 0
    if trouble == "not a number":
        classes_of[0, 3, 4] = np.nan
    cells = [1, queries, height // 4, width // 4]
    nodes = [
        make.make_node("AveragePool", [image], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        make.make_node("Conv", ["p", "w", "b"], ["q"]),
        make.make_node("Cast", ["q"], [outputs[1]], to=of_masks),
        make.make_node("Identity", ["c"], [outputs[0]]),
    ]
    if trouble == "fails at work":
        del nodes[2]
        nodes.append(make.make_node("ReduceMean", [image], ["m"], keepdims=0))
        nodes.append(make.make_node("Cast", ["m"], ["i"], to=onnx.TensorProto.INT64))
        nodes.append(make.make_node("Gather", ["q", "i"], ["g"], axis=0))  # index out of range
        nodes.append(make.make_node("Reshape", ["g", "s"], [outputs[1]]))
    constants = {"w": weights, "b": bias, "c": classes_of, "s": np.array(cells, np.int64)}
    if trouble != "fails at work":
        del constants["s"]
    graph = make.make_graph(
        nodes,
        "tiny",
        [make.make_tensor_value_info(image, kind, [1, 3, height, width])],
        [
            make.make_tensor_value_info(outputs[0], kind, [1, queries, classes]),
            make.make_tensor_value_info(outputs[1], of_masks, cells),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    described: dict[str, str | None] = {
        "kind": "cihp",
        "sha256": SHA256,
        "shape": f"{height}x{width}",
        "format": FORMAT,
    }
    described |= properties or {}
    make.set_model_props(model, {k: v for k, v in described.items() if v is not None})
    return bytes(model.SerializeToString())


def test_network_file_says_what_it_is() -> None:
    network = M2FPNetwork(onnx_bytes(shape_hw=(64, 96)), threads=1)
    assert network.kind is Kind.CIHP
    assert network.shape_hw == (64, 96)
    assert network.weights_sha256 == SHA256
    logits, masks = network(np.full((1, 3, 64, 96), 128, np.float32))
    assert logits.shape == (1, 100, 22)
    assert masks.shape == (1, 100, 16, 24)
    assert logits[0, 0].argmax() == FACE


def test_lip_file_has_its_own_number_of_classes() -> None:
    data = onnx_bytes(classes=21, properties={"kind": "lip"})
    assert M2FPNetwork(data, threads=1).kind is Kind.LIP


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"properties": {"format": "2"}}, "is of format '2', expected '1'"),
        ({"properties": {"format": None}}, "is of format 'unknown'"),
        ({"properties": {"kind": "voc"}}, "does not say which checkpoint"),
        ({"properties": {"kind": None}}, "does not say which checkpoint"),
        ({"properties": {"sha256": "1234"}}, "does not say which checkpoint"),
        ({"properties": {"shape": "large"}}, "does not say which checkpoint"),
        ({"properties": {"shape": "128x250"}}, "is of 250x128, expected multiples of 32"),
        ({"properties": {"shape": "0x0"}}, "expected multiples of 32"),
        ({"properties": {"shape": "256x128"}}, "has image 1x3x128x256, .* expected image 1x3x256"),
        ({"properties": {"kind": "lip"}}, "logits 1x100x22, .* expected .* logits 1x100x21"),
        ({"classes": 21}, "expected .* logits 1x100x22"),
        ({"queries": 50}, "expected .* logits 1x100x22"),
        ({"outputs": ("scores", "masks")}, "has image .*, scores"),
        ({"outputs": ("masks", "logits")}, "expected"),
        ({"image": "input"}, "has input"),
        ({"trouble": "doubles"}, "all float32"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        M2FPNetwork(onnx_bytes(**changes), threads=1)
    assert "\n" not in str(caught.value)
    assert "delete the exported file" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\x00" * 100, b"not a network"])
def test_a_file_that_is_no_network_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="ONNX Runtime cannot load the exported network"):
        M2FPNetwork(data, threads=1)


def test_a_network_cut_short_is_refused() -> None:
    with pytest.raises(ModelError, match="delete the exported file"):
        M2FPNetwork(onnx_bytes()[:-2000], threads=1)


def test_output_that_is_not_finite_is_an_error() -> None:
    network = M2FPNetwork(onnx_bytes(trouble="not a number"), threads=1)
    with pytest.raises(ParserError, match="logits is not finite"):
        network(np.zeros((1, 3, 128, 256), np.float32))


def test_input_that_is_not_finite_does_not_pass_as_nobody() -> None:
    network = M2FPNetwork(onnx_bytes(), threads=1)
    image = np.zeros((1, 3, 128, 256), np.float32)
    image[0, 0, 5, 5] = np.nan
    with pytest.raises(ParserError, match="masks is not finite"):
        network(image)


def test_a_runtime_that_fails_is_an_error_and_may_be_used_again() -> None:
    network = M2FPNetwork(onnx_bytes(trouble="fails at work"), threads=1)
    with pytest.raises(ParserError, match="ONNX Runtime failed"):
        network(np.full((1, 3, 128, 256), 9, np.float32))
    network(np.zeros((1, 3, 128, 256), np.float32))


@pytest.mark.parametrize(
    "image", [np.zeros((1, 3, 128, 224), np.float32), np.zeros((1, 3, 128, 256), np.float64)]
)
def test_input_of_another_shape_or_type_is_an_error(image: Any) -> None:
    network = M2FPNetwork(onnx_bytes(), threads=1)
    with pytest.raises(ParserError, match="expected a float32 image of shape"):
        network(image)


@pytest.fixture
def exported(tmp_path: Path) -> dict[str, Any]:
    """Options of a parser process."""
    path = tmp_path / "m2fp-cihp.onnx"
    data = onnx_bytes()
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return {"onnx": str(path), "sha256": digest, "short_side": 128, "threads": 1}


def test_parser_process_finds_and_hands_over_a_face(exported: dict[str, Any]) -> None:
    bgr = picture()
    worker = ParserWorker(WorkerSpec("m2fp_stream.parsers.m2fp.parser:from_options", exported))
    try:
        result = worker.parse(bgr, frame_id=3)
    finally:
        worker.close()
    covered = hidden(result, "face")
    assert covered[where(bgr, RED, covered.shape)].all()
    with from_options(**exported) as parser:
        again = parser.parse(bgr, frame_id=3)
    assert np.array_equal(again.evidence, result.evidence)
    assert again.labels == result.labels


def test_parser_process_takes_all_options(exported: dict[str, Any]) -> None:
    every = M2FPOptions(short_side=128, tiles=2, agreement=True, map_size=100, model_dir="m")
    with from_options(**{**exported, **every.model_dump(mode="json")}) as parser:
        assert parser.options == every


def test_threads_are_the_network_s(exported: dict[str, Any]) -> None:
    parser = from_options(**{**exported, "threads": 1})
    network = parser._network
    assert isinstance(network, M2FPNetwork)
    assert network._session.get_session_options().intra_op_num_threads == 1


def test_an_unknown_option_is_refused(exported: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        from_options(**exported, speed=3)


def test_a_network_of_the_other_kind_is_refused(exported: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="is of the kind cihp, expected lip"):
        from_options(**exported, kind="lip")


def test_a_sealed_network_is_opened_in_memory_with_its_key(
    exported: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("cryptography")
    path, other = Path(exported["onnx"]), tmp_path / "other"
    key = vault.new_key_file(tmp_path / "key")
    vault.new_key_file(other)
    path.write_bytes(vault.seal(path.read_bytes(), key, path.name))
    before = sorted(tmp_path.iterdir())
    with from_options(**exported, key=str(tmp_path / "key")) as parser:
        assert (parser.parse(picture()).label_map == Label.FACE).any()
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(ModelError, match="is sealed; name its key"):
        from_options(**exported)
    with pytest.raises(ModelError, match=r"m2fp-cihp\.onnx"):
        from_options(**exported, key=str(other))
    with pytest.raises(ModelError, match="SHA-256"):  # sealed by whom it may concern
        from_options(**{**exported, "sha256": "0" * 64}, key=str(tmp_path / "key"))


def test_a_changed_file_is_refused_before_it_is_loaded(exported: dict[str, Any]) -> None:
    path = Path(str(exported["onnx"]))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"m2fp-cihp.onnx has SHA-256 \w+, expected") as caught:
        from_options(**exported)
    assert str(path.parent) not in str(caught.value)


def test_a_missing_file_is_an_error(exported: dict[str, Any]) -> None:
    Path(str(exported["onnx"])).unlink()
    with pytest.raises(ModelError, match=r"cannot read the exported network m2fp-cihp\.onnx"):
        from_options(**exported)


def test_largest_result_fits_the_way_to_the_pipeline() -> None:
    bgr = picture(720, 1280)
    result = parsed(ColourNetwork(picture_hw=(720, 1280)), bgr, map_size=1280)
    memory = memoryview(bytearray(wire.TOTAL_BYTES))
    back = wire.read_result(memory, wire.write_result(memory, result), result.labels)
    for one, other in itertools.zip_longest(back.evidence, result.evidence):
        assert np.array_equal(one, other)
