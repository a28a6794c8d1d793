"""The embedded parser with its real weights on a public-domain portrait (NASA, `astronaut`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from numpy.typing import NDArray
from pydantic import ValidationError

from m2fp_stream.core.errors import ModelError, ParserError
from m2fp_stream.core.labels import Label
from m2fp_stream.core.records import ParseResult
from m2fp_stream.parsers.embedded.body import Body, BodyParser, Region
from m2fp_stream.parsers.embedded.boxes import Box, suppress_overlaps
from m2fp_stream.parsers.embedded.classes import PartClass
from m2fp_stream.parsers.embedded.crops import View
from m2fp_stream.parsers.embedded.faces import FaceDetector
from m2fp_stream.parsers.embedded.options import EmbeddedOptions
from m2fp_stream.parsers.embedded.parser import EmbeddedParser
from m2fp_stream.parsers.embedded.parts import CROP_PIXELS, PartParser, Parts, network_shape
from m2fp_stream.parsers.embedded.persons import PersonDetector
from m2fp_stream.parsers.embedded.runtime import open_network
from m2fp_stream.policy import Policy, PolicyOptions
from tests.kit.parses import hidden_regions, probability

Picture = NDArray[np.uint8]

# Rows and columns in the 512x512 portrait, read off the picture by eye.
EYES_TO_MOUTH = (slice(85, 155), slice(195, 252))
HAIR_TOP = (slice(30, 45), slice(210, 240))
CHEST = (slice(300, 400), slice(180, 240))
SHUTTLE = (slice(20, 200), slice(400, 460))


@pytest.fixture(scope="module")
def astronaut() -> Picture:
    """(512, 512, 3) uint8 BGR."""
    path = Path(skimage.__file__).parent / "data" / "astronaut.png"
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, np.uint8)


@pytest.fixture(scope="module")
def parser() -> Iterator[EmbeddedParser]:
    with EmbeddedParser() as opened:
        yield opened


@pytest.fixture(scope="module")
def portrait(parser: EmbeddedParser, astronaut: Picture) -> ParseResult:
    return parser.parse(astronaut, frame_id=41)


def share(result: ParseResult, where: tuple[slice, slice], *labels: Label) -> float:
    """Returns the share of an area that carries one of the labels."""
    return float(np.isin(result.label_map[where], labels).mean())


def head(result: ParseResult) -> NDArray[np.bool_]:
    """Returns what the default policy, which hides heads, hides."""
    hidden = np.zeros(result.label_map.shape, np.bool_)
    for region in hidden_regions(Policy(PolicyOptions(margin=0.0)), result):
        hidden |= region > 0
    return hidden


def test_face_hair_and_body_are_labelled_where_they_are(portrait: ParseResult) -> None:
    assert share(portrait, EYES_TO_MOUTH, Label.FACE) > 0.97
    assert share(portrait, HAIR_TOP, Label.HAIR, Label.FACE, Label.HAT) > 0.95
    assert share(portrait, CHEST, Label.UPPER_CLOTHES) > 0.9
    assert share(portrait, SHUTTLE, Label.BACKGROUND) > 0.95


def test_result_describes_itself(portrait: ParseResult, astronaut: Picture) -> None:
    assert portrait.frame_id == 41
    assert portrait.label_map.shape == astronaut.shape[:2]
    assert {"face", "hair", "left-arm", "person"} < set(portrait.groups)
    assert portrait.parser_id.startswith("embedded")
    assert set(np.unique(portrait.label_map)) <= {int(label) for label in portrait.labels.ids}


def test_evidence_of_a_clear_face_is_strong_and_of_the_background_is_none(
    portrait: ParseResult,
) -> None:
    face = probability(portrait, "face")
    person = probability(portrait, "person")
    assert face[EYES_TO_MOUTH].min() > 0.5 * 255
    assert np.median(person[CHEST]) > 0.5 * 255
    assert (face[SHUTTLE] > 0.3 * 255).mean() < 0.02


def test_one_person_is_one_instance(portrait: ParseResult) -> None:
    assert portrait.instances is not None
    number = int(portrait.instances[120, 224])
    assert number > 0
    assert (portrait.instances[CHEST] == number).mean() > 0.95


def test_same_picture_gives_the_same_result_in_another_parser(
    portrait: ParseResult, astronaut: Picture
) -> None:
    with EmbeddedParser() as other:
        again = other.parse(astronaut)
    assert np.array_equal(again.label_map, portrait.label_map)
    assert np.array_equal(again.evidence, portrait.evidence)
    assert np.array_equal(again.must_cover, portrait.must_cover)


def test_result_does_not_depend_on_what_was_parsed_before(
    parser: EmbeddedParser, portrait: ParseResult, astronaut: Picture
) -> None:
    parser.parse(np.ascontiguousarray(astronaut[:300, :200]))
    assert np.array_equal(parser.parse(astronaut).label_map, portrait.label_map)


def test_picture_is_not_changed_and_need_not_be_contiguous(
    parser: EmbeddedParser, portrait: ParseResult, astronaut: Picture
) -> None:
    wide = np.repeat(astronaut, 2, axis=1)
    before = wide.copy()
    view = wide[:, ::2]
    view.setflags(write=False)
    assert np.array_equal(parser.parse(view).label_map, portrait.label_map)
    assert np.array_equal(wide, before)


def test_mirrored_picture_gives_nearly_the_mirrored_head(
    parser: EmbeddedParser, portrait: ParseResult, astronaut: Picture
) -> None:
    mirrored = parser.parse(np.ascontiguousarray(astronaut[:, ::-1]))
    around = (slice(0, 170), slice(140, 310))
    one, other = head(portrait)[around], head(mirrored)[:, ::-1][around]
    assert (one & other).sum() > 0.85 * (one | other).sum()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_uniform_picture_holds_nobody(parser: EmbeddedParser, value: int) -> None:
    result = parser.parse(np.full((360, 640, 3), value, np.uint8))
    assert not result.label_map.any()
    assert not result.must_cover.any()
    assert not result.evidence.any()


def test_picture_without_people_holds_no_head(parser: EmbeddedParser) -> None:
    coffee = cv2.imread(str(Path(skimage.__file__).parent / "data" / "coffee.png"))
    assert coffee is not None
    assert head(parser.parse(np.asarray(coffee, np.uint8))).mean() < 0.02


def test_face_cut_by_the_border_is_covered_whole(
    parser: EmbeddedParser, astronaut: Picture
) -> None:
    cut = parser.parse(np.ascontiguousarray(astronaut[:, :230]))
    assert cut.must_cover[70:170, 190:230].all()


def test_body_without_a_visible_head_is_covered_at_its_top(
    parser: EmbeddedParser, astronaut: Picture
) -> None:
    headless = parser.parse(np.ascontiguousarray(astronaut[250:]))
    assert head(headless)[:60, 80:320].mean() > 0.8


def test_dark_picture_still_shows_its_face(parser: EmbeddedParser, astronaut: Picture) -> None:
    dark = parser.parse((astronaut * 0.15).astype(np.uint8))
    assert share(dark, EYES_TO_MOUTH, Label.FACE) > 0.95


def test_beyond_the_cap_heads_are_covered_as_boxes(astronaut: Picture) -> None:
    three = np.concatenate([astronaut[:300, 60:380]] * 3, axis=1)
    with EmbeddedParser(EmbeddedOptions(max_regions=1)) as capped:
        result = capped.parse(np.ascontiguousarray(three))
    rows, columns = EYES_TO_MOUTH
    boxed = 0
    for left in (0, 320, 640):
        area = (rows, slice(columns.start - 60 + left, columns.stop - 60 + left))
        assert head(result)[area].all()
        boxed += bool(result.must_cover[area].all())
    assert boxed >= 2


def test_large_picture_gives_a_map_of_at_most_max_size(astronaut: Picture) -> None:
    large = np.repeat(np.repeat(astronaut, 2, axis=0), 3, axis=1)  # 1024 x 1536
    with EmbeddedParser(EmbeddedOptions(max_size=384)) as small:
        result = small.parse(large)
    assert result.label_map.shape == (256, 384)
    assert (result.label_map == Label.FACE).any()


@pytest.mark.parametrize(
    "picture",
    [
        None,
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
)
def test_what_is_not_a_bgr_picture_is_refused(parser: EmbeddedParser, picture: Picture) -> None:
    with pytest.raises(ParserError, match="expected a non-empty"):
        parser.parse(picture)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 640), (640, 1), (33, 7)])
def test_odd_sizes_are_parsed(parser: EmbeddedParser, size_hw: tuple[int, int]) -> None:
    result = parser.parse(np.full((*size_hw, 3), 90, np.uint8))
    assert result.label_map.shape == size_hw


def test_closed_parser_refuses_to_parse(astronaut: Picture) -> None:
    opened = EmbeddedParser()
    opened.close()
    opened.close()
    with pytest.raises(ParserError, match="after close"):
        opened.parse(astronaut)


def test_unknown_runtime_is_refused() -> None:
    with pytest.raises(ModelError, match="abacus"):
        open_network("centerface", runtime="abacus")


def test_runtimes_agree_on_the_person_mask() -> None:
    blob = np.random.default_rng(3).random((1, 3, 256, 256)).astype(np.float32)
    first = open_network("blazepose", runtime="onnxruntime").run(blob)
    threads = cv2.getNumThreads()
    second = open_network("blazepose", threads=threads, runtime="opencv").run(blob)
    assert ((first[2] > 0) == (second[2] > 0)).mean() > 0.999
    assert np.abs(first[0] - second[0]).max() < 0.5


def test_unknown_option_and_value_out_of_range_are_errors() -> None:
    with pytest.raises(ValidationError):
        EmbeddedOptions.model_validate({"face_treshold": 0.3})
    with pytest.raises(ValidationError):
        EmbeddedOptions.model_validate({"face_threshold": 0.0})


def test_overlapping_boxes_leave_the_most_certain() -> None:
    xyxy = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60]], np.float32)
    scores = np.array([0.4, 0.9, 0.5], np.float32)
    assert suppress_overlaps(xyxy, scores, 0.3) == [1, 2]


def test_box_outside_the_picture_touches_no_pixel() -> None:
    rows, columns = Box(-20, -20, -5, -5, 1.0).slices((30, 40))
    assert np.zeros((30, 40))[rows, columns].size == 0


# --------------------------------------------------------------------------------------------------
# The rules that put the networks' findings together, with findings made up.

SIZE_HW = (200, 300)

# What NanoDet says about the portrait; measured with ONNX Runtime 1.31 and OpenCV 5.0.
PERSON_CONFIDENCE = 0.734
PERSON_XYXY = (15, 14, 364, 508)


class Scene:
    """A parser whose networks answer what a test put in."""

    def __init__(self, parser: EmbeddedParser, monkeypatch: pytest.MonkeyPatch) -> None:
        self.faces: list[Box] = []
        self.persons: list[Box] = []
        self.mask: Box | None = None
        self.presence = 1.0
        self.regions: list[Region] = []
        self.views: list[Box] = []
        self.parts: dict[PartClass, Box] = {}
        self.faint: dict[PartClass, Box] = {}
        self._parser = parser
        monkeypatch.setattr(parser, "_faces", lambda _: self.faces)
        monkeypatch.setattr(parser, "_persons", lambda _: self.persons)
        monkeypatch.setattr(parser, "_body", self._body)
        monkeypatch.setattr(parser, "_parts", self._see_parts)

    def parse(self) -> ParseResult:
        self.regions.clear()
        self.views.clear()
        return self._parser.parse(np.zeros((*SIZE_HW, 3), np.uint8))

    def _see_parts(self, _: View, region: Box) -> Parts:
        self.views.append(region)
        chances = np.zeros((len(PartClass), *SIZE_HW), np.uint8)
        chances[PartClass.BACKGROUND] = 255
        for part, box in self.parts.items():
            chances[:, *box.slices(SIZE_HW)] = 0
            chances[part, *box.slices(SIZE_HW)] = 255
        for part, box in self.faint.items():
            chances[part, *box.slices(SIZE_HW)] = round(0.15 * 255)
        rows, columns = region.slices(SIZE_HW)
        return Parts(rows, columns, chances[:, rows, columns])

    def _body(self, _: View, region: Region) -> Body:
        self.regions.append(region)
        mask = np.zeros(SIZE_HW, np.float32)
        if self.mask is not None:
            mask[self.mask.slices(SIZE_HW)] = 0.9
        points = np.tile(np.array([150, 35, 1, 1], np.float32), (33, 1))
        return Body(mask, points, self.presence)


@pytest.fixture
def scene(parser: EmbeddedParser, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(parser, monkeypatch)


BODY = Box(130, 20, 170, 190, 0.8)
INSIDE_BODY = Box(140, 25, 160, 190, 1.0)
AT_BORDER = Box(0, 20, 40, 190, 0.8)


def covers(result: ParseResult, box: Box) -> bool:
    return bool(result.must_cover[box.slices(SIZE_HW)].all())


def test_lone_body_with_a_good_mask_gets_a_head_zone_and_no_box(scene: Scene) -> None:
    scene.persons, scene.mask = [BODY], INSIDE_BODY
    result = scene.parse()
    assert not result.must_cover.any()
    assert head(result)[30:60, 142:158].all()
    assert not head(result)[100:185, 142:158].any()
    assert (result.label_map[100:185, 142:158] == Label.HUMAN).all()


def test_outline_without_parts_may_be_skin(scene: Scene) -> None:
    scene.persons, scene.mask = [BODY], INSIDE_BODY
    regions = hidden_regions(Policy(PolicyOptions(hide="skin")), scene.parse())
    assert np.any([region[30:185, 142:158].all() for region in regions])


def test_lone_body_with_an_empty_mask_is_covered_whole(scene: Scene) -> None:
    scene.persons = [BODY]
    assert covers(scene.parse(), BODY)


def test_lone_body_of_low_presence_is_covered_whole(scene: Scene) -> None:
    scene.persons, scene.mask, scene.presence = [BODY], INSIDE_BODY, 0.1
    assert covers(scene.parse(), BODY)


def test_lone_body_with_a_thin_mask_gets_its_head_zone_covered(scene: Scene) -> None:
    scene.persons, scene.mask = [BODY], Box(130, 150, 170, 190, 1.0)
    result = scene.parse()
    assert covers(result, Box(130, 20, 170, 60, 1.0))
    assert not result.must_cover[120:].any()


def test_lone_body_at_the_side_is_covered_whole_whatever_its_mask(scene: Scene) -> None:
    scene.persons, scene.mask = [AT_BORDER], AT_BORDER
    assert covers(scene.parse(), AT_BORDER)


def test_face_without_a_mask_gets_the_space_around_it_covered(scene: Scene) -> None:
    scene.faces = [Box(140, 60, 160, 85, 0.9)]
    result = scene.parse()
    assert covers(result, Box(128, 42, 172, 92, 1.0))
    assert (result.label_map[65:80, 146:154] == Label.FACE).all()


def test_face_without_parts_has_skin_wherever_its_body_may_be(scene: Scene) -> None:
    scene.faces, scene.persons = [Box(142, 30, 158, 50, 0.9)], [BODY]
    result = scene.parse()
    for group in ("left-arm", "right-leg", "torso-skin", "upper-clothes"):
        layer = probability(result, group)
        assert (layer[BODY.slices(SIZE_HW)] == 255).all()
    hair = probability(result, "hair")
    assert not hair[100:].any()


def test_face_explains_its_body_so_that_nothing_else_is_covered(scene: Scene) -> None:
    scene.faces, scene.persons = [Box(142, 30, 158, 50, 0.9)], [BODY]
    scene.parts = {
        PartClass.UPPER_CLOTHES: INSIDE_BODY,
        PartClass.FACE: Box(140, 28, 160, 52, 1.0),
    }
    result = scene.parse()
    assert len(scene.views) == 1
    assert not scene.regions
    assert not result.must_cover.any()
    assert (result.label_map[70:185, 142:158] == Label.UPPER_CLOTHES).all()
    assert not head(result)[70:].any()


def test_unlikely_hair_is_hidden_where_a_head_may_be_and_likely_hair_anywhere(
    scene: Scene,
) -> None:
    scene.faces, scene.persons = [Box(142, 30, 158, 50, 0.9)], [BODY]
    scene.parts = {
        PartClass.UPPER_CLOTHES: INSIDE_BODY,
        PartClass.FACE: Box(140, 28, 160, 52, 1.0),
    }
    near, far = Box(150, 65, 158, 80, 1.0), Box(145, 150, 155, 160, 1.0)
    scene.faint = {PartClass.HAIR: near}
    assert head(scene.parse())[near.slices(SIZE_HW)].all()
    scene.faint = {PartClass.HAIR: far}
    assert not head(scene.parse())[far.slices(SIZE_HW)].any()
    scene.parts[PartClass.HAIR] = far
    assert head(scene.parse())[far.slices(SIZE_HW)].all()


def test_unlikely_skin_is_hidden_anywhere(scene: Scene) -> None:
    scene.faces, scene.persons = [Box(142, 30, 158, 50, 0.9)], [BODY]
    hand = Box(145, 150, 155, 160, 1.0)
    scene.parts = {
        PartClass.UPPER_CLOTHES: INSIDE_BODY,
        PartClass.FACE: Box(140, 28, 160, 52, 1.0),
    }
    scene.faint = {PartClass.LEFT_ARM: hand}
    (region,) = hidden_regions(Policy(PolicyOptions(hide="skin", margin=0.0)), scene.parse())
    assert (region[hand.slices(SIZE_HW)] == Label.LEFT_ARM).all()


def test_outlines_of_everybody_find_what_the_parts_miss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with EmbeddedParser(EmbeddedOptions(outlines="everybody")) as opened:
        scene = Scene(opened, monkeypatch)
        scene.faces, scene.persons = [Box(142, 30, 158, 50, 0.9)], [BODY]
        scene.parts = {PartClass.FACE: Box(140, 28, 160, 52, 1.0)}
        scene.mask = INSIDE_BODY
        regions = hidden_regions(Policy(PolicyOptions(hide="person")), scene.parse())
        assert np.any([region[60:185, 142:158].all() for region in regions])
        assert not head(scene.parse())[100:].any()


def test_tiny_face_does_not_explain_a_body(scene: Scene) -> None:
    scene.faces, scene.persons = [Box(148, 30, 152, 35, 0.9)], [BODY]
    scene.parse()
    assert len(scene.views) == 2
    assert len(scene.regions) == 1


def test_doubtful_body_is_covered_only_where_it_is_confirmed(scene: Scene) -> None:
    scene.persons, scene.mask = [replace(BODY, confidence=0.22)], INSIDE_BODY
    assert head(scene.parse())[30:60, 142:158].all()
    scene.presence = 0.2
    assert not head(scene.parse()).any()


def test_unconfirmed_doubtful_body_stays_as_evidence(scene: Scene) -> None:
    scene.persons, scene.presence = [replace(BODY, confidence=0.28)], 0.0
    result = scene.parse()
    person = probability(result, "person")
    assert person[100, 150] == round(0.28 * 255)
    assert not result.label_map.any()


def test_doubtful_body_at_the_edge_is_covered_without_asking(scene: Scene) -> None:
    scene.persons = [replace(AT_BORDER, confidence=0.26)]
    assert covers(scene.parse(), AT_BORDER)
    assert not scene.regions


def test_every_body_beyond_the_cap_is_covered_whole(scene: Scene) -> None:
    crowd = [Box(x, 50, x + 20, 120, 0.5) for x in range(10, 280, 30)]
    scene.persons, scene.mask = crowd, Box(0, 0, 300, 200, 1.0)
    result = scene.parse()
    assert len(scene.regions) == 6
    assert sum(covers(result, box) for box in crowd) == len(crowd) - 6
    assert result.instances is not None
    assert (result.instances[60:110, 15:25] > 0).all()


def test_key_points_and_mask_lie_on_the_person_at_any_scale(astronaut: Picture) -> None:
    look = BodyParser(threads=1, runtime=None)
    body = look(View(astronaut, (512, 512)), Region(224, 330, 700))
    tripled = np.repeat(np.repeat(astronaut, 3, 0), 3, 1)
    large = look(View(tripled, (1536, 1536)), Region(672, 990, 2100))
    onto_small = look(View(tripled, (512, 512)), Region(224, 330, 700))
    assert np.abs(onto_small.points[:11, :2] - body.points[:11, :2]).max() < 4
    nose = body.points[0, :2]
    assert np.hypot(*(nose - (224, 122))) < 12
    assert np.abs(large.points[:11, :2] / 3 - body.points[:11, :2]).max() < 4
    assert body.mask[EYES_TO_MOUTH].mean() > 0.9
    assert body.mask[SHUTTLE].mean() < 0.1
    small = large.mask[1::3, 1::3]
    both, either = (small > 0.5) & (body.mask > 0.5), (small > 0.5) | (body.mask > 0.5)
    assert both.sum() > 0.95 * either.sum()


def test_parts_lie_where_they_are_at_any_scale(astronaut: Picture) -> None:
    look = PartParser(threads=1, runtime=None)
    region = Box(80, 0, 400, 512, 1.0)
    fine = look(View(astronaut, (512, 512)), region)
    coarse = look(View(astronaut, (256, 256)), Box(40, 0, 200, 256, 1.0))
    assert fine.share(Box(195, 85, 252, 155, 1.0), [PartClass.FACE]) > 0.95
    assert fine.share(Box(180, 300, 240, 400, 1.0), [PartClass.UPPER_CLOTHES]) > 0.9
    assert coarse.share(Box(98, 43, 126, 77, 1.0), [PartClass.FACE]) > 0.95


def test_parts_of_a_region_outside_the_map_are_none(astronaut: Picture) -> None:
    parts = PartParser(threads=1, runtime=None)(
        View(astronaut, (512, 512)), Box(-90, -90, -10, -10, 1.0)
    )
    assert parts.chances.size == 0
    assert parts.share(Box(0, 0, 10, 10, 1.0), [PartClass.FACE]) == 0


@pytest.mark.parametrize("wh", [(10, 10), (300, 20), (20, 300), (2000, 1000), (1, 1)])
def test_crops_have_about_the_pixels_they_are_meant_to_have(wh: tuple[int, int]) -> None:
    height, width = network_shape(Box(0, 0, *wh, 1.0))
    assert height % 32 == width % 32 == 0
    assert 0.6 * CROP_PIXELS < height * width < 1.3 * CROP_PIXELS
    few, narrow = network_shape(Box(0, 0, *wh, 1.0), pixels=30_000)
    assert 0.6 * 30_000 < few * narrow < 1.7 * 30_000


def test_small_face_in_a_wide_picture_is_found_where_it_is(astronaut: Picture) -> None:
    wide = np.full((360, 640, 3), 120, np.uint8)
    wide[100:196, 300:396] = cv2.resize(astronaut, (96, 96), interpolation=cv2.INTER_AREA)
    (face,) = FaceDetector(size=640, threshold=0.25, threads=1, runtime=None)(wide)
    assert face.confidence > 0.5
    assert np.hypot(face.center[0] - 342, face.center[1] - 122) < 3
    assert 8 < face.width < 20


def test_person_box_and_its_confidence_are_those_measured(astronaut: Picture) -> None:
    best = PersonDetector(size=416, far_size=0, threshold=0.3, threads=1, runtime=None)(astronaut)[
        0
    ]
    assert best.confidence == pytest.approx(PERSON_CONFIDENCE, abs=0.02)
    assert (best.x1, best.y1, best.x2, best.y2) == pytest.approx(PERSON_XYXY, abs=6)


@pytest.mark.parametrize("name", ["opencv", "onnxruntime"])
def test_a_network_that_answers_nan_has_failed(name: str) -> None:
    # NaN is below every threshold: it must not pass for "nobody" (P2).
    network = open_network("nanodet_person", runtime=name)
    blob = np.zeros((1, 3, 416, 416), np.float32)
    assert all(np.isfinite(output).all() for output in network.run(blob))
    with pytest.raises(ParserError, match="not finite"):
        network.run(blob + np.float32(np.nan))
