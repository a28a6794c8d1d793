"""ParseResult: what a parser answers is checked when it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from m2fp_stream.core.labels import Label
from m2fp_stream.core.records import ParseResult
from tests.labelsets import HEAD_PARTS

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


def test_evidence_is_found_by_its_group() -> None:
    result = ParseResult(**fields())
    person = result.probability("person")
    assert person is not None
    np.testing.assert_array_equal(person, result.evidence[1])
    assert result.probability("hair") is None


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
