"""Gate 3: `write` checks the exact type, and no subclass gets round it."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest

from m2fp_stream.core._mint import AUDIBLE, COMPOSED, LOCATED
from m2fp_stream.core.audio import AudioFormat, RawAudio
from m2fp_stream.core.errors import SealError
from m2fp_stream.core.labels import CIHP
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import ParseResult
from m2fp_stream.core.safe import LabelImage, SafeAudio, SafeFrame, TrackTable
from m2fp_stream.sinks.base import Sink

from .test_construction import TIME, frame, row, sound, table


class Kept(Sink[SafeFrame]):
    """Keeps what reached it."""

    accepts = SafeFrame

    def __init__(self) -> None:
        super().__init__()
        self.got: list[object] = []
        self.aborted = False

    def _emit(self, item: SafeFrame) -> None:
        self.got.append(item)

    def _finish(self) -> None:
        """Nothing to complete."""

    def _abort(self) -> None:
        self.aborted = True


class Film(Kept):
    """Takes sound, too."""

    accepts_audio = True

    def _emit_audio(self, item: SafeAudio) -> None:
        self.got.append(item)


def raw_audio() -> RawAudio:
    return RawAudio(np.zeros((2, 8), np.float32), start=0, audio_format=AudioFormat(48000, 2))


def unmade_sound() -> object:
    """Returns something whose class claims to be SafeAudio."""

    class Disguised:
        __class__ = SafeAudio  # type: ignore[assignment]  # the point

    return Disguised()


def decoded_sound() -> av.AudioFrame:
    return av.AudioFrame.from_ndarray(np.zeros((2, 8), np.float32), format="fltp")


def raw_frame() -> RawFrame:
    pixels = np.zeros((4, 6, 3), np.uint8)
    return RawFrame(pixels, frame_id=0, captured_ns=0, **TIME)  # type: ignore[arg-type]  # one dict


def unmade_frame() -> object:
    """Returns something whose class claims to be SafeFrame."""

    class Disguised:
        __class__ = SafeFrame  # type: ignore[assignment]  # the point

    assert isinstance(Disguised(), SafeFrame)  # why `write` does not ask isinstance
    return Disguised()


def label_image() -> LabelImage:
    """Returns something sealed, of another kind."""
    result = ParseResult(
        frame_id=0,
        label_map=np.zeros((4, 6), np.uint8),
        labels=CIHP,
        groups=(),
        evidence=np.zeros((0, 4, 6), np.uint8),
        must_cover=np.zeros((4, 6), np.bool_),
        instances=None,
        parser_id="test",
    )
    return LabelImage(result, size_wh=(6, 4))


@pytest.mark.parametrize(
    "make",
    [
        raw_frame,
        unmade_frame,
        label_image,
        lambda: table(LOCATED),
        lambda: np.zeros((4, 6, 3), np.uint8),
        lambda: frame(COMPOSED).pixels,
        lambda: b"\0" * 72,
        lambda: None,
    ],
    ids=["raw", "disguised", "labels", "table", "array", "its pixels", "bytes", "nothing"],
)
def test_a_sink_refuses_everything_but_its_type_and_stops(make: Any) -> None:
    sink = Kept()
    with pytest.raises(SealError, match="Kept refused a "):
        sink.write(make())
    assert sink.got == []
    assert sink.aborted


class Positions(Sink[TrackTable]):
    """Keeps positions."""

    accepts = TrackTable

    def __init__(self) -> None:
        super().__init__()
        self.got: list[object] = []
        self.aborted = False

    def _emit(self, item: TrackTable) -> None:
        self.got.append(item)

    def _finish(self) -> None:
        """Nothing to complete."""

    def _abort(self) -> None:
        self.aborted = True


def unmade_table() -> object:
    """Returns something whose class claims to be TrackTable."""

    class Disguised:
        __class__ = TrackTable  # type: ignore[assignment]  # the point

    return Disguised()


@pytest.mark.parametrize(
    "make",
    [
        raw_frame,
        unmade_table,
        label_image,
        lambda: frame(COMPOSED),
        row,
        lambda: table(LOCATED).rows,
        lambda: np.zeros((4, 6, 3), np.uint8),
        lambda: [(0, 0.0, 1, 0, 0, 6, 4)],
        lambda: None,
    ],
    ids=["raw", "disguised", "labels", "frame", "row", "rows", "array", "numbers", "nothing"],
)
def test_a_table_refuses_everything_but_its_type_and_stops(make: Any) -> None:
    sink = Positions()
    with pytest.raises(SealError, match="Positions refused a "):
        sink.write(make())
    assert sink.got == []
    assert sink.aborted


def test_a_table_takes_positions_and_no_sound() -> None:
    sink = Positions()
    told = table(LOCATED)
    sink.write(told)
    assert sink.got == [told]
    with pytest.raises(SealError, match="refused a SafeAudio as sound"):
        sink.write_audio(sound(AUDIBLE))
    assert sink.aborted


def test_a_sink_takes_a_safe_frame() -> None:
    sink = Kept()
    safe = frame(COMPOSED)
    sink.write(safe)
    sink.finish()
    assert sink.got == [safe]


@pytest.mark.parametrize(
    "make",
    [
        raw_audio,
        decoded_sound,
        unmade_sound,
        lambda: sound(AUDIBLE).samples,
        lambda: frame(COMPOSED),
        lambda: b"\0" * 72,
        lambda: None,
    ],
    ids=["raw", "decoded", "disguised", "its samples", "a frame", "bytes", "nothing"],
)
def test_a_film_refuses_all_sound_but_safe_sound_and_stops(make: Any) -> None:
    film = Film()
    with pytest.raises(SealError, match=r"Film refused a .* as sound"):
        film.write_audio(make())
    assert film.got == []
    assert film.aborted


def test_a_film_takes_safe_sound_and_no_sound_as_a_picture() -> None:
    film = Film()
    safe, picture = sound(AUDIBLE), frame(COMPOSED)
    film.write_audio(safe)
    film.write(picture)
    assert film.got == [safe, picture]
    with pytest.raises(SealError, match="Film refused a SafeAudio"):
        film.write(safe)  # type: ignore[arg-type]  # the point
    assert film.aborted


@pytest.mark.parametrize("claim", [False, 1, "yes", None])
def test_a_sink_of_pictures_takes_no_sound(claim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Film, "accepts_audio", claim)
    film = Film()
    with pytest.raises(SealError, match="refused a SafeAudio as sound"):
        film.write_audio(sound(AUDIBLE))
    assert film.got == []


@pytest.mark.parametrize(
    "name", ["write", "write_audio", "prepare", "finish", "abort", "__enter__", "__exit__"]
)
def test_a_sink_that_overrides_a_sealed_method_is_no_class(name: str) -> None:
    with pytest.raises(TypeError, match=f"may not override {name}"):
        type("Leaky", (Kept,), {name: lambda *_: None})


def test_a_base_class_beside_sink_cannot_bring_its_own_write() -> None:
    mixin = type("Mixin", (), {"write": lambda *_: None})
    with pytest.raises(TypeError, match="may not override write"):
        type("Leaky", (mixin, Kept), {})


@pytest.mark.parametrize("accepts", [RawFrame, np.ndarray, object, None])
def test_a_sink_that_accepts_anything_else_is_no_class(accepts: object) -> None:
    with pytest.raises(TypeError, match="accepts must be one of"):
        type("Leaky", (Kept,), {"accepts": accepts})


def test_a_sink_bent_after_its_definition_still_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kept, "accepts", RawFrame)
    sink = Kept()
    bent: Any = raw_frame()
    with pytest.raises(SealError, match="Kept refused a RawFrame"):
        sink.write(bent)
    assert sink.got == []


@pytest.mark.parametrize("sealed", [SafeFrame, SafeAudio, LabelImage, TrackTable])
def test_a_sealed_type_has_no_subclass_to_pass(sealed: type) -> None:
    with pytest.raises(TypeError, match="is final"):
        type("Mine", (sealed,), {})
