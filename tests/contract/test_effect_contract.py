"""What every effect keeps. A new member of `Effect` is held to it without being named here."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.compositor import Compositor, compose
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import CoverPlan, Effect, Fill, Parsed
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import SafeFrame
from tests.kit.texture import contains_marker, marker

SIZES_WH = [(1, 1), (1, 40), (41, 1), (63, 37), (128, 96), (641, 359)]
MAPS_WH = [(1, 1), (8, 5), (80, 45), (641, 359)]


def covered(effect: Effect, size_wh: tuple[int, int], cover: NDArray[np.uint8]) -> SafeFrame:
    width, height = size_wh
    raw = RawFrame(
        marker(1, height, width), frame_id=0, pts=0, time_base=Fraction(1, 25), captured_ns=0
    )
    fills = (Fill(effect, Label.FACE, 1), Fill(effect, Label.HAIR, 1))
    return compose(raw, Parsed(CoverPlan(0, size_wh, cover, fills)))


@pytest.mark.parametrize("effect", Effect)
class TestEffect:
    @pytest.mark.parametrize("map_wh", MAPS_WH)
    @pytest.mark.parametrize("size_wh", SIZES_WH)
    def test_it_covers_any_size_without_falling_back_to_the_card(
        self, effect: Effect, size_wh: tuple[int, int], map_wh: tuple[int, int]
    ) -> None:
        cover = np.ones((map_wh[1], map_wh[0]), np.uint8)
        cover[map_wh[1] // 2 :] = 2
        safe = covered(effect, size_wh, cover)
        assert safe.cover.reason == "parsed"
        assert safe.size_wh == size_wh
        assert not contains_marker(safe.pixels, marker(1, size_wh[1], size_wh[0]))

    def test_it_leaves_the_rest_as_it_was(self, effect: Effect) -> None:
        cover = np.zeros((45, 80), np.uint8)
        cover[10:25, 10:20], cover[25:30, 10:20] = 1, 2
        source, result = marker(1, 360, 640), covered(effect, (640, 360), cover).pixels
        changed = np.any(source != result, axis=2)
        assert changed[80:240, 80:160].mean() > 0.97  # by chance 1 pixel in 256 is equal
        assert not changed[:, 180:].any()
        assert not changed[:60].any()

    def test_it_is_deterministic(self, effect: Effect) -> None:
        cover = np.zeros((45, 80), np.uint8)
        cover[10:30, 10:20] = 1
        first, second = (covered(effect, (640, 360), cover).pixels for _ in range(2))
        assert np.array_equal(first, second)

    def test_it_differs_from_the_other_effects(self, effect: Effect) -> None:
        cover = np.zeros((45, 80), np.uint8)
        cover[10:30, 10:20] = 1
        mine = covered(effect, (640, 360), cover).pixels
        same = [e for e in Effect if np.array_equal(covered(e, (640, 360), cover).pixels, mine)]
        assert same == [effect]


def test_an_effect_without_an_implementation_is_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inventory can fail: take one implementation away and the contract sees the card."""

    def missing(*_: object, **__: object) -> None:
        raise AssertionError("Expected code to be unreachable")

    monkeypatch.setattr(Compositor, "_paint", missing)
    for effect in Effect:
        safe = covered(effect, (128, 96), np.ones((8, 8), np.uint8))
        assert safe.cover.reason != "parsed"
