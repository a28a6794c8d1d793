"""Gate 2: a composed frame is made with its key alone, and bent in no way Python offers."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from m2fp_stream.core._mint import COMPOSED, Key
from m2fp_stream.core.errors import PromiseError, SealError
from m2fp_stream.core.safe import CoverInfo, CoverLevel, LabelImage, SafeFrame

TIME = {"pts": 0, "time_base": Fraction(1, 30)}


def frame(key: Any) -> SafeFrame:
    return SafeFrame(
        np.zeros((4, 6, 3), np.uint8),
        frame_id=0,
        captured_ns=0,
        cover=CoverInfo(None, CoverLevel.FRAME, "test"),
        key=key,
        **TIME,  # type: ignore[arg-type]  # one dict for both types of frame
    )


FORGED = [Key("composed"), Key("audible"), "composed", None, True, object()]


@pytest.mark.parametrize("key", FORGED, ids=lambda key: type(key).__name__)
def test_a_frame_with_another_key_is_refused(key: object) -> None:
    with pytest.raises(SealError, match="made by the compositor only"):
        frame(key)


def test_the_right_key_opens() -> None:
    assert frame(COMPOSED).size_wh == (6, 4)


def test_a_label_image_is_made_from_a_parse_result_alone() -> None:
    picture: Any = np.zeros((4, 6), np.uint8)
    with pytest.raises(SealError, match="made from a ParseResult, not ndarray"):
        LabelImage(picture, size_wh=(6, 4))


def test_a_key_has_no_second() -> None:
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            make(COMPOSED)
    with pytest.raises(TypeError, match="Key is final"):
        type("MyKey", (Key,), {})


def test_a_key_pickled_elsewhere_is_not_the_key_here() -> None:
    # Identity, not equality, is what the constructors ask for.
    assert Key("composed") != COMPOSED


def test_a_seal_error_stops_output_with_its_own_exit_code() -> None:
    assert issubclass(SealError, PromiseError)
    assert SealError.exit_code == 6
