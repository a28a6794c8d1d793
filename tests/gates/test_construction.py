"""Gate 2: what sinks take is made with its own key alone, and bent in no way Python offers."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from m2fp_stream.core._mint import AUDIBLE, COMPOSED, LOCATED, Key
from m2fp_stream.core.audio import AudioFormat
from m2fp_stream.core.errors import PromiseError, SealError
from m2fp_stream.core.labels import Label
from m2fp_stream.core.safe import (
    CoverInfo,
    CoverLevel,
    LabelImage,
    SafeAudio,
    SafeFrame,
    TrackRow,
    TrackState,
    TrackTable,
)

PLACED = TrackState.PLACED
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


def table(key: Any, *rows: Any, **more: Any) -> TrackTable:
    told = {"frame": 0, "time_s": Fraction(0), "size_wh": (6, 4), **more}
    return TrackTable(rows or (row(),), key=key, **told)


def row(track: Any = 1, box: Any = (0, 0, 6, 4), state: Any = PLACED, parts: Any = ()) -> TrackRow:
    return TrackRow(track, box, state, parts)


FORGED = [Key("composed"), Key("audible"), Key("located"), "composed", None, True, object()]


@pytest.mark.parametrize("key", [*FORGED, AUDIBLE, LOCATED], ids=lambda key: type(key).__name__)
def test_a_frame_with_another_key_is_refused(key: object) -> None:
    with pytest.raises(SealError, match="made by the compositor only"):
        frame(key)


@pytest.mark.parametrize("key", [*FORGED, COMPOSED, LOCATED], ids=lambda key: type(key).__name__)
def test_sound_with_another_key_is_refused(key: object) -> None:
    with pytest.raises(SealError, match=r"made by privacy\.audio only"):
        sound(key)


@pytest.mark.parametrize("key", [*FORGED, COMPOSED, AUDIBLE], ids=lambda key: type(key).__name__)
def test_positions_with_another_key_are_refused(key: object) -> None:
    with pytest.raises(SealError, match=r"made by privacy\.tracks only"):
        table(key)


def test_the_right_key_opens() -> None:
    assert frame(COMPOSED).size_wh == (6, 4)
    assert sound(AUDIBLE).samples.shape == (2, 8)
    assert table(LOCATED).rows == (row(),)


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


class Laden(int):
    """A number that carries something."""


class Wider(TrackRow):  # type: ignore[misc]  # the point
    pixels: Any = None


PICTURE = np.zeros((4, 6, 3), np.uint8)
CARD = TrackRow(None, None, TrackState.CARD)


@pytest.mark.parametrize(
    "wrong",
    [
        *(PICTURE, PICTURE.tobytes(), "row", (1, (0, 0, 6, 4)), Wider(1, (0, 0, 6, 4), PLACED)),
        *(row(np.uint8(1)), row(Laden(1)), row(True), row(0), row(1.0), row(None), row(PICTURE)),
        *(row(box=PICTURE), row(box=[0, 0, 6, 4]), row(box=(0, 0, 6)), row(box=(0, 0, 6.0, 4))),
        *(row(box=(0, 0, Laden(6), 4)), row(box=(0, 0, 7, 4)), row(box=(-1, 0, 6, 4))),
        *(row(box=(3, 0, 3, 4)), row(box=None), row(box=(0, 0, 6, 4, PICTURE))),
        *(row(state="placed"), row(state=None), row(state=TrackState.CARD)),
        *(row(parts=[Label.FACE]), row(parts=(13,)), row(parts=(Label.FACE, PICTURE))),
        *(TrackRow(None, None, PLACED), TrackRow(None, None, TrackState.CARD, (Label.FACE,))),
    ],
)
def test_a_row_holds_whole_numbers_and_names_alone(wrong: Any) -> None:
    with pytest.raises(SealError, match="a row is not of whole numbers"):
        table(LOCATED, row(7), wrong)


def test_rows_are_told_apart_and_a_card_stands_alone() -> None:
    assert table(LOCATED, row(1), row(2)).rows == (row(1), row(2))
    assert table(LOCATED, CARD).rows == (CARD,)
    for rows in ((row(1), row(1)), (CARD, row(1)), (CARD, CARD)):
        with pytest.raises(SealError, match="a track comes twice, or a card has company"):
            table(LOCATED, *rows)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"frame": -1}, {"frame": np.int64(1)}, {"frame": PICTURE}, {"time_s": 0.5}),
        *({"time_s": PICTURE}, {"size_wh": (6, 0)}, {"size_wh": (6, 4, 3)}, {"size_wh": (6.0, 4)}),
    ],
)
def test_a_table_is_of_one_frame_in_exact_numbers(wrong: dict[str, Any]) -> None:
    with pytest.raises(SealError, match="expected"):
        table(LOCATED, row(), **wrong)


def test_positions_cannot_be_changed_or_pickled() -> None:
    told = table(LOCATED)
    with pytest.raises(AttributeError):
        told.rows = ()  # type: ignore[misc]  # the point
    with pytest.raises(AttributeError):
        told.rows[0].track = 2  # type: ignore[misc]  # the point
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(told)


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
