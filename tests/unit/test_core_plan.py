"""CoverPlan and the states: what may be asked of the compositor is checked when it is made."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import (
    CoverPlan,
    CoverState,
    Effect,
    Fill,
    Parsed,
    Propagated,
    Unknown,
    Why,
)

FILL = Fill(Effect.FROST, Label.FACE, 0)


def plan(cover: NDArray[np.uint8] | None = None, fills: tuple[Fill, ...] = (FILL,)) -> CoverPlan:
    if cover is None:
        cover = np.zeros((4, 6), np.uint8)
    return CoverPlan(frame_id=1, size_wh=(12, 8), cover=cover, fills=fills)


def test_a_plan_freezes_its_cover() -> None:
    made = plan(np.ones((4, 6), np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        made.cover[0, 0] = 0


def test_a_plan_without_fills_is_all_clear() -> None:
    assert not plan(fills=()).cover.any()


def test_a_plan_may_use_all_255_fills() -> None:
    plan(np.full((4, 6), 255, np.uint8), fills=(FILL,) * 255)


@pytest.mark.parametrize(
    "cover",
    [np.zeros((4, 6), np.int32), np.zeros((4, 6, 1), np.uint8), np.zeros((0, 6), np.uint8)],
)
def test_a_cover_of_another_kind_is_refused(cover: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"cover must be \(h, w\) uint8"):
        plan(cover)


@pytest.mark.parametrize("size_wh", [(0, 8), (12, -1)])
def test_a_frame_without_a_size_is_refused(size_wh: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="size_wh must be positive"):
        CoverPlan(frame_id=1, size_wh=size_wh, cover=np.zeros((4, 6), np.uint8), fills=())


def test_a_cover_that_names_a_fill_the_legend_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="cover names fill 2, the legend has 1"):
        plan(np.full((4, 6), 2, np.uint8))


def test_a_legend_longer_than_the_map_can_name_is_refused() -> None:
    with pytest.raises(ValueError, match="the legend has 256"):
        plan(fills=(FILL,) * 256)


@pytest.mark.parametrize("age_s", [0.0, 3.5])
def test_a_carried_plan_keeps_its_age(age_s: float) -> None:
    assert Propagated(plan(), age_s).age_s == age_s


@pytest.mark.parametrize("age_s", [-0.1, float("nan")])
def test_an_age_below_nothing_is_refused(age_s: float) -> None:
    with pytest.raises(ValueError, match="below 0"):
        Propagated(plan(), age_s)


def test_the_states_are_these_three() -> None:
    assert set(get_args(CoverState)) == {Parsed, Propagated, Unknown}


def test_every_reason_has_a_text_of_its_own() -> None:
    assert len({why.value for why in Why}) == len(Why.__members__)
