"""What goes between media process and parser process comes back as it went, or is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from m2fp_stream.core.labels import CIHP, LabelSet
from m2fp_stream.core.records import Detections, LookKind, ParseResult, PartPlanes
from m2fp_stream.pipeline import wire
from tests.kit.labelsets import HEAD_PARTS


@pytest.fixture(scope="module")
def memory() -> memoryview:
    return memoryview(bytearray(wire.TOTAL_BYTES))


def a_result(height: int, width: int, groups: tuple[str, ...], instances: bool) -> ParseResult:
    random = np.random.default_rng(height * width)
    return ParseResult(
        frame_id=41,
        label_map=random.integers(0, 21, (height, width), dtype=np.uint8),
        labels=CIHP,
        groups=groups,
        evidence=random.integers(0, 256, (len(groups), height, width), dtype=np.uint8),
        must_cover=random.integers(0, 2, (height, width)) > 0,
        instances=random.integers(0, 9, (height, width), dtype=np.uint8) if instances else None,
        parser_id="wired 1",
        doubts=("no-head", "entropy"),
    )


def sent(memory: memoryview, result: ParseResult) -> wire.Message:
    message: wire.Message = json.loads(json.dumps(wire.write_result(memory, result)))
    return message


@pytest.mark.parametrize("instances", [False, True])
@pytest.mark.parametrize("groups", [(), ("face",), ("face", "hair", "person")])
@pytest.mark.parametrize("size", [(1, 1), (36, 64), (wire.MAX_SIDE, wire.MAX_SIDE)])
def test_a_result_comes_back_equal(
    memory: memoryview, size: tuple[int, int], groups: tuple[str, ...], instances: bool
) -> None:
    result = a_result(*size, groups, instances)
    back = wire.read_result(memory, sent(memory, result), CIHP)
    for name in ParseResult.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back, name), getattr(result, name), err_msg=name)


def test_a_result_is_a_copy(memory: memoryview) -> None:
    result = a_result(8, 8, ("face",), True)
    back = wire.read_result(memory, sent(memory, result), CIHP)
    np.frombuffer(memory, np.uint8, 1000, wire.INPUT_BYTES)[:] = 7
    np.testing.assert_array_equal(back.label_map, result.label_map)


def test_results_do_not_touch_the_input(memory: memoryview) -> None:
    picture = wire.input_view(memory, 4, 4)
    picture[...] = 3
    sent(memory, a_result(64, 64, ("face",), True))
    assert (picture == 3).all()
    picture[...] = 0


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"height": -4},
        {"width": wire.MAX_SIDE + 1},
        {"width": 8.0},
        {"width": None},
        {"frame_id": "41"},
        {"groups": "face"},
        {"groups": ["x"] * 26},
        {"doubts": "no-head"},
    ],
    ids=str,
)
def test_a_message_of_another_form_is_refused(memory: memoryview, change: dict[str, Any]) -> None:
    message = sent(memory, a_result(8, 8, (), False)) | change
    with pytest.raises((ValueError, TypeError)):
        wire.read_result(memory, message, CIHP)


@pytest.mark.parametrize(
    "missing",
    ["height", "width", "groups", "frame_id", "instances", "parser_id", "doubts"],
)
def test_a_message_that_lacks_something_is_refused(memory: memoryview, missing: str) -> None:
    message = sent(memory, a_result(8, 8, (), False))
    del message[missing]
    with pytest.raises(KeyError):
        wire.read_result(memory, message, CIHP)


def test_an_unknown_label_id_is_refused(memory: memoryview) -> None:
    message = sent(memory, a_result(8, 8, (), False))
    np.frombuffer(memory, np.uint8, 64, wire.INPUT_BYTES)[:] = 200
    with pytest.raises(ValueError, match="id 200"):
        wire.read_result(memory, message, CIHP)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5), (wire.MAX_INPUT_SIDE + 1, 5)])
def test_an_input_that_does_not_fit_is_refused(memory: memoryview, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="a parse copy has sides of 1 to"):
        wire.input_view(memory, *size)


def test_a_result_that_does_not_fit_is_refused(memory: memoryview) -> None:
    result = a_result(wire.MAX_SIDE + 1, 1, (), False)
    with pytest.raises(ValueError, match="do not fit"):
        wire.write_result(memory, result)


@pytest.mark.parametrize("labels", [CIHP, HEAD_PARTS], ids=lambda labels: labels.name)
def test_a_label_set_comes_back_equal(labels: LabelSet) -> None:
    back = wire.read_label_set(json.loads(json.dumps(wire.write_label_set(labels))))
    assert (back.name, back.ids) == (labels.name, labels.ids)
    assert dict(back.contained_in) == dict(labels.contained_in)


@pytest.mark.parametrize(
    "message", [None, [], {}, {"name": "x", "ids": [0, 99, 20], "contained_in": []}], ids=str
)
def test_a_label_set_of_another_form_is_refused(message: object) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        wire.read_label_set(message)


# --- looks ---


def some_boxes(count: int, kind: LookKind = LookKind.FACES) -> Detections:
    random = np.random.default_rng(count)
    corners = random.uniform(0, 600, (count, 2, 2)).astype(np.float32)
    corners.sort(axis=1)
    return Detections(
        frame_id=41,
        kind=kind,
        xyxy=np.ascontiguousarray(corners.reshape(count, 4)),
        scores=random.uniform(0, 1, count).astype(np.float32),
        rolls=random.uniform(-3, 3, count).astype(np.float32),
    )


def some_planes(count: int, height: int, width: int) -> PartPlanes:
    random = np.random.default_rng(height)
    return PartPlanes(
        frame_id=41, planes=random.integers(0, 256, (count, height, width), dtype=np.uint8)
    )


def as_json(message: wire.Message) -> wire.Message:
    back: wire.Message = json.loads(json.dumps(message))
    return back


@pytest.mark.parametrize("kind", [LookKind.FACES, LookKind.PEOPLE])
@pytest.mark.parametrize("count", [0, 1, 50, 2000])
def test_detections_come_back_equal(memory: memoryview, count: int, kind: LookKind) -> None:
    found = some_boxes(count, kind)
    back = wire.read_detections(memory, as_json(wire.write_detections(memory, found)))
    assert (back.frame_id, back.kind) == (41, kind)
    for name in ("xyxy", "scores", "rolls"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))


def test_planes_come_back_equal(memory: memoryview) -> None:
    for size in ((1, 1, 1), (12, 96, 64)):
        found = some_planes(*size)
        back = wire.read_planes(memory, as_json(wire.write_planes(memory, found)))
        assert back.frame_id == 41
        np.testing.assert_array_equal(back.planes, found.planes)


def test_what_was_read_of_a_look_is_a_copy_and_the_input_is_not_touched(
    memory: memoryview,
) -> None:
    copy = wire.input_view(memory, 4, 4)
    copy[...] = 3
    boxes, planes = some_boxes(3), some_planes(2, 8, 8)
    read_boxes = wire.read_detections(memory, wire.write_detections(memory, boxes))
    read_planes = wire.read_planes(memory, wire.write_planes(memory, planes))
    np.frombuffer(memory, np.uint8, 4000, wire.INPUT_BYTES)[:] = 7
    np.testing.assert_array_equal(read_boxes.xyxy, boxes.xyxy)
    np.testing.assert_array_equal(read_planes.planes, planes.planes)
    assert (copy == 3).all()
    copy[...] = 0


@pytest.mark.parametrize(
    "change",
    [
        *({"count": -1}, {"count": 2001}, {"count": 2.0}, {"count": "2"}, {"count": None}),
        *({"frame_id": "41"}, {"kind": "parts"}, {"kind": "faces "}, {"kind": None}),
    ],
    ids=str,
)
def test_a_message_about_boxes_of_another_form_is_refused(
    memory: memoryview, change: dict[str, Any]
) -> None:
    message = as_json(wire.write_detections(memory, some_boxes(2))) | change
    with pytest.raises((ValueError, TypeError)):
        wire.read_detections(memory, message)


@pytest.mark.parametrize(
    "row",
    [
        (9, 5, 5, 9, 0.9, 0),
        (5, 9, 9, 5, 0.9, 0),
        (5, 5, 9, 9, 1.5, 0),
        (5, 5, 9, 9, -0.1, 0),
        (float("nan"), 5, 9, 9, 0.9, 0),
        (5, 5, float("inf"), 9, 0.9, 0),
        (5, 5, 9, 9, 0.9, float("nan")),
    ],
    ids=str,
)
def test_a_box_that_is_none_is_refused(memory: memoryview, row: tuple[float, ...]) -> None:
    message = wire.write_detections(memory, some_boxes(2))
    np.frombuffer(memory, np.float32, 6, wire.INPUT_BYTES)[:] = row
    with pytest.raises(ValueError, match=r"finite|0\.\.1|ends before"):
        wire.read_detections(memory, message)


@pytest.mark.parametrize(
    "change",
    [
        *({"count": 0}, {"count": 28}, {"count": "2"}, {"height": 0}, {"height": -4}),
        *({"width": wire.MAX_SIDE + 1}, {"width": 8.0}, {"width": None}, {"frame_id": "41"}),
    ],
    ids=str,
)
def test_a_message_about_planes_of_another_form_is_refused(
    memory: memoryview, change: dict[str, Any]
) -> None:
    message = as_json(wire.write_planes(memory, some_planes(2, 8, 8))) | change
    with pytest.raises((ValueError, TypeError)):
        wire.read_planes(memory, message)


@pytest.mark.parametrize("missing", ["frame_id", "kind", "count", "height", "width"])
def test_a_message_about_a_look_that_lacks_something_is_refused(
    memory: memoryview, missing: str
) -> None:
    boxes = wire.write_detections(memory, some_boxes(2))
    planes = wire.write_planes(memory, some_planes(2, 8, 8))
    for message, read in ((boxes, wire.read_detections), (planes, wire.read_planes)):
        if missing in message:
            del message[missing]
            with pytest.raises(KeyError):
                read(memory, message)


def test_more_than_fits_is_refused(memory: memoryview) -> None:
    with pytest.raises(ValueError, match="2001 detections do not fit"):
        wire.write_detections(memory, some_boxes(2001))
    with pytest.raises(ValueError, match="do not fit"):
        wire.write_planes(memory, some_planes(2, wire.MAX_SIDE + 1, 1))
