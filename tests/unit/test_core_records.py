"""What parsers and lookers answer is checked when it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from m2fp_stream.core.labels import Label
from m2fp_stream.core.records import Detections, LookKind, ParseResult, PartPlanes
from tests.kit.labelsets import HEAD_PARTS

H, W = 6, 8


def fields(**changes: Any) -> dict[str, Any]:
    return {
        "frame_id": 7,
        "label_map": np.zeros((H, W), np.uint8),
        "labels": HEAD_PARTS,
        "groups": ("face", "person"),
        "evidence": np.arange(2 * H * W, dtype=np.uint8).reshape(2, H, W),
        "must_cover": np.zeros((H, W), np.bool_),
        "instances": None,
        "parser_id": "test 1",
    } | changes


def test_a_well_formed_answer_is_kept() -> None:
    result = ParseResult(**fields(instances=np.ones((H, W), np.uint8)))
    assert result.frame_id == 7
    assert result.parser_id == "test 1"


def test_its_arrays_are_read_only() -> None:
    result = ParseResult(**fields(instances=np.ones((H, W), np.uint8)))
    for array in (result.label_map, result.evidence, result.must_cover, result.instances):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_its_repr_shows_the_size_and_no_content() -> None:
    assert repr(ParseResult(**fields())) == ("ParseResult(frame_id=7, size_wh=(8, 6), test 1)")


def test_the_highest_label_is_allowed() -> None:
    ParseResult(**fields(label_map=np.full((H, W), max(Label), np.uint8)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_map": np.zeros((H, W), np.int64)}, "label_map must be .* got int64"),
        ({"label_map": np.zeros((H, W, 1), np.uint8)}, "label_map must be"),
        ({"label_map": np.zeros((0, W), np.uint8)}, "label_map must be a non-empty"),
        ({"label_map": np.full((H, W), 21, np.uint8)}, "holds id 21; the highest known id is 20"),
        ({"evidence": np.zeros((2, H, W), np.float32)}, "evidence must be uint8 .* got float32"),
        ({"evidence": np.zeros((1, H, W), np.uint8)}, r"evidence must be uint8 \(2, 6, 8\)"),
        ({"evidence": np.zeros((2, H, W + 1), np.uint8)}, "evidence must be"),
        ({"must_cover": np.zeros((H, W), np.uint8)}, "must_cover must be bool"),
        ({"must_cover": np.zeros((W, H), np.bool_)}, r"must_cover must be bool \(6, 8\)"),
        ({"instances": np.zeros((H, W), np.int32)}, "instances must be uint8"),
        ({"instances": np.zeros((1, W), np.uint8)}, r"instances must be uint8 \(6, 8\)"),
    ],
)
def test_a_malformed_answer_does_not_become_a_result(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParseResult(**fields(**changes))


def boxes(**changes: Any) -> dict[str, Any]:
    return {
        "frame_id": 7,
        "kind": LookKind.FACES,
        "xyxy": np.array([[1, 2, 3, 4], [-5, 0, 5, 0]], np.float32),
        "scores": np.array([0, 1], np.float32),
        "rolls": np.array([-3, 3], np.float32),
    } | changes


def test_well_formed_detections_are_kept_and_read_only() -> None:
    found = Detections(**boxes())
    assert found.frame_id == 7
    for array in (found.xyxy, found.scores, found.rolls):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_nobody_is_a_finding() -> None:
    none = np.zeros(0, np.float32)
    found = Detections(**boxes(xyxy=none.reshape(0, 4), scores=none, rolls=none.copy()))
    assert len(found.scores) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xyxy": np.zeros((2, 4))}, "finite float32"),
        ({"xyxy": np.zeros((3, 4), np.float32)}, r"expected \(n, 4\)"),
        ({"xyxy": np.zeros((2, 5), np.float32)}, r"expected \(n, 4\)"),
        ({"rolls": np.zeros(1, np.float32)}, r"expected \(n, 4\)"),
        ({"scores": np.zeros((2, 1), np.float32)}, r"expected \(n, 4\)"),
        ({"scores": np.array([0.5, 1.01], np.float32)}, r"scores must lie in 0..1"),
        ({"scores": np.array([-0.01, 0.5], np.float32)}, r"scores must lie in 0..1"),
        ({"scores": np.array([np.nan, 0.5], np.float32)}, "finite float32"),
        ({"rolls": np.array([np.inf, 0], np.float32)}, "finite float32"),
        ({"xyxy": np.array([[1, 2, 0.9, 4]] * 2, np.float32)}, "ends before it begins"),
        ({"xyxy": np.array([[1, 2, 3, 1.9]] * 2, np.float32)}, "ends before it begins"),
        ({"kind": LookKind.PARTS}, "parts are no boxes"),
    ],
)
def test_malformed_detections_do_not_come_to_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detections(**boxes(**changes))


def test_well_formed_planes_are_kept_and_read_only() -> None:
    found = PartPlanes(frame_id=7, planes=np.full((3, H, W), 255, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        found.planes[...] = 0


@pytest.mark.parametrize(
    "planes",
    [np.zeros((3, H, W)), np.zeros((H, W), np.uint8), np.zeros((0, H, W), np.uint8)],
    ids=["float", "one plane", "none"],
)
def test_malformed_planes_do_not_come_to_be(planes: Any) -> None:
    with pytest.raises(ValueError, match=r"expected \(n, h, w\) uint8"):
        PartPlanes(frame_id=7, planes=planes)
