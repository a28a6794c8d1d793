"""Gate 2: what sinks take is made with its own key alone, and bent in no way Python offers."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from m2fp_stream.core._mint import AUDIBLE, COMPOSED, Key
from m2fp_stream.core.audio import AudioFormat
from m2fp_stream.core.errors import PromiseError, SealError
from m2fp_stream.core.safe import CoverInfo, CoverLevel, LabelImage, SafeAudio, SafeFrame

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


def sound(key: Any) -> SafeAudio:
    samples = np.zeros((2, 8), np.float32)
    return SafeAudio(samples, start=0, audio_format=AudioFormat(48000, 2), key=key)


FORGED = [Key("composed"), Key("audible"), "composed", None, True, object()]


@pytest.mark.parametrize("key", [*FORGED, AUDIBLE], ids=lambda key: type(key).__name__)
def test_a_frame_with_another_key_is_refused(key: object) -> None:
    with pytest.raises(SealError, match="made by the compositor only"):
        frame(key)


@pytest.mark.parametrize("key", [*FORGED, COMPOSED], ids=lambda key: type(key).__name__)
def test_sound_with_another_key_is_refused(key: object) -> None:
    with pytest.raises(SealError, match=r"made by privacy\.audio only"):
        sound(key)


def test_the_right_key_opens() -> None:
    assert frame(COMPOSED).size_wh == (6, 4)
    assert sound(AUDIBLE).samples.shape == (2, 8)


@pytest.mark.parametrize(
    "samples",
    [np.zeros((1, 8), np.float32), np.zeros(8, np.float32), np.zeros((2, 8))],
    ids=["one channel", "flat", "float64"],
)
def test_sound_that_is_not_what_it_says_is_refused(samples: Any) -> None:
    with pytest.raises(SealError, match="expected AudioFormat"):
        SafeAudio(samples, start=0, audio_format=AudioFormat(48000, 2), key=AUDIBLE)


def test_safe_sound_cannot_be_changed_or_pickled() -> None:
    safe = sound(AUDIBLE)
    with pytest.raises(ValueError, match="read-only"):
        safe.samples[0, 0] = 1
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(safe)


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
