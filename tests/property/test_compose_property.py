"""Every sentence of promise P6, and that `compose` is total (P2), for any frame and plan."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.compositor import ComposeOptions, Compositor, compose, effects
from m2fp_stream.compositor.card import draw_card
from m2fp_stream.core.labels import PALETTE_RGB, Label
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
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import CoverLevel, SafeFrame
from tests.property.test_effects_property import Case, cases, random_picture

U8 = NDArray[np.uint8]
CONTENT_FREE = st.sampled_from([Effect.FROST, Effect.SOLID, Effect.SILHOUETTE])
seeds = st.integers(0, 2**32 - 1)
feathers = st.sampled_from([0.0, 0.004, 0.02])


def raw_frame(pixels: U8, frame_id: int = 3) -> RawFrame:
    return RawFrame(
        pixels.copy(), frame_id=frame_id, pts=40, time_base=Fraction(1, 90), captured_ns=7
    )


def composed(pixels: U8, case: Case, options: ComposeOptions | None = None) -> U8:
    plan = CoverPlan(3, case.size_wh, case.cover.copy(), case.fills)
    safe = Compositor(options).compose(raw_frame(pixels), Parsed(plan))
    assert safe.cover.reason == "parsed"
    return safe.pixels


def regions(case: Case, feather: float) -> list[effects.Region]:
    """Returns the regions of a frame that `compose` makes with this feather."""
    diagonal = float(np.hypot(*case.size_wh))
    return effects.find_regions(
        case.cover, case.fills, case.size_wh, feather_px=round(feather * diagonal), grid_px=1
    )


def assembled(case: Case, feather: float, *, ids: set[int] | None = None) -> tuple[U8, U8]:
    """Returns C (of the fills `ids`, or of all) and the fill's weight for the whole frame."""
    inside = np.zeros((case.size_wh[1], case.size_wh[0]), np.uint8)
    alpha = inside.copy()
    for region in regions(case, feather):
        own = region.inside if ids is None else region.inside & region.belonging(ids)
        np.maximum(region.cut(inside), own, out=region.cut(inside))
        np.maximum(region.cut(alpha), region.alpha, out=region.cut(alpha))
    return inside, alpha


def picture(case: Case, seed: int) -> U8:
    return random_picture(seed, (case.size_wh[1], case.size_wh[0]))


@given(cases(), seeds, feathers)
def test_outside_c_and_f_the_frame_equals_the_source(case: Case, seed: int, feather: float) -> None:
    source = picture(case, seed)
    result = composed(source, case, ComposeOptions(feather=feather))
    _, alpha = assembled(case, feather)
    assert np.array_equal(result[alpha == 0], source[alpha == 0])


@given(cases(CONTENT_FREE), seeds, feathers)
def test_no_change_within_c_changes_the_composed_frame(
    case: Case, seed: int, feather: float
) -> None:
    source, other = picture(case, seed), picture(case, seed + 1)
    inside, _ = assembled(case, feather)
    changed = np.where(inside[..., None] > 0, other, source)
    options = ComposeOptions(feather=feather)
    assert np.array_equal(composed(source, case, options), composed(changed, case, options))


@given(cases(), seeds)
def test_a_mosaic_beside_them_reads_nothing_of_what_others_cover(case: Case, seed: int) -> None:
    others = {k for k, fill in enumerate(case.fills, 1) if fill.effect is not Effect.MOSAIC}
    source, other = picture(case, seed), picture(case, seed + 1)
    inside, _ = assembled(case, 0.004, ids=others)
    changed = np.where(inside[..., None] > 0, other, source)
    assert np.array_equal(composed(source, case), composed(changed, case))


@given(cases(st.just(Effect.SOLID)), seeds)
def test_the_weight_of_the_source_within_c_is_zero(case: Case, seed: int) -> None:
    inside, _ = assembled(case, 0.004)
    result = composed(picture(case, seed), case, ComposeOptions(solid_bgr=(1, 2, 3)))
    assert (result[inside > 0] == (1, 2, 3)).all()


@given(st.tuples(st.integers(1, 90), st.integers(1, 70)), seeds)
def test_frost_over_the_whole_frame_is_the_neutral_alone(
    size_wh: tuple[int, int], seed: int
) -> None:
    fills = (Fill(Effect.FROST, Label.HUMAN, 0),)
    case = Case(np.ones((5, 7), np.uint8), fills, size_wh, 0, 1)
    result = composed(picture(case, seed), case, ComposeOptions(neutral_bgr=(11, 22, 33)))
    assert (result == (11, 22, 33)).all()


@given(st.integers(2, 5), st.integers(3, 9), st.integers(3, 9), seeds)
def test_each_covered_pixel_has_the_fill_of_its_own_cell(
    scale: int, columns: int, rows: int, seed: int
) -> None:
    cover = np.random.default_rng(seed).integers(0, 3, (rows, columns), dtype=np.uint8)
    fills = (Fill(Effect.SOLID, Label.HAIR, 0), Fill(Effect.SILHOUETTE, Label.FACE, 0))
    case = Case(cover, fills, (columns * scale, rows * scale), 0, 1)
    result = composed(picture(case, seed), case, ComposeOptions(solid_bgr=(1, 2, 3)))
    own = np.repeat(np.repeat(cover, scale, axis=0), scale, axis=1)
    assert (result[own == 1] == (1, 2, 3)).all()
    # Where silhouettes of two parts meet their colours mix: the solid's part is hair.
    red, green, blue = PALETTE_RGB[Label.FACE]
    faces = np.array([blue, green, red])
    low = np.minimum(faces, PALETTE_RGB[Label.HAIR][::-1])
    high = np.maximum(faces, PALETTE_RGB[Label.HAIR][::-1])
    assert ((result[own == 2] >= low) & (result[own == 2] <= high)).all()


@given(cases(), seeds)
def test_the_same_input_gives_the_same_frame(case: Case, seed: int) -> None:
    source = picture(case, seed)
    assert np.array_equal(composed(source, case), composed(source, case))


def forged(plan: CoverPlan, **changes: object) -> CoverPlan:
    for name, value in changes.items():
        object.__setattr__(plan, name, value)
    return plan


FILLS = (Fill(Effect.FROST, Label.FACE, 0),)


def good_plan() -> CoverPlan:
    cover = np.zeros((6, 8), np.uint8)
    cover[2:4, 3:5] = 1
    return CoverPlan(3, (32, 24), cover, FILLS)


bad_covers = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.just(np.zeros((0, 4), np.uint8)),
    st.just(np.zeros((6, 8, 3), np.uint8)),
    st.just(np.ones(48, np.uint8)),
    st.integers(2, 255).map(lambda k: np.full((6, 8), k, np.uint8)),
    st.sampled_from([np.float32, np.int64, np.uint16, np.int8, np.bool_, np.complex64]).map(
        lambda dtype: np.ones((6, 8), dtype)
    ),
    st.just(np.full((6, 8), np.nan)),
    st.just(np.array([["x"] * 8] * 6, dtype=object)),
)
garbage = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.floats())
bad_fills = st.one_of(
    st.none(),
    st.just(()),
    garbage.map(lambda x: (x,)),
    garbage.map(lambda x: (Fill(x, Label.FACE, 0),)),  # type: ignore[arg-type]  # on purpose
)


@st.composite
def broken_states(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["id", "size", "cover", "fills", "age", "plan", "why", "state"]))
    plan = good_plan()
    if kind == "id":
        return Parsed(forged(plan, frame_id=draw(garbage.filter(lambda x: x != 3))))
    if kind == "size":
        sides = st.tuples(st.integers(-40, 40), st.integers(-40, 40))
        sizes: st.SearchStrategy[object] = st.one_of(garbage, sides)
        return Parsed(forged(plan, size_wh=draw(sizes.filter(lambda x: x != (32, 24)))))
    if kind == "cover":
        return Parsed(forged(plan, cover=draw(bad_covers)))
    if kind == "fills":
        return Parsed(forged(plan, fills=draw(bad_fills)))
    if kind == "plan":
        return Parsed(draw(garbage))  # type: ignore[arg-type]  # wrong on purpose
    if kind == "why":
        return Unknown(draw(garbage))  # type: ignore[arg-type]  # wrong on purpose
    if kind == "state":
        return draw(garbage)
    state = Propagated(plan, 0.0)
    bad = st.one_of(st.none(), st.sampled_from([float("nan"), -1.0, float("-inf")]))
    object.__setattr__(state, "age_s", draw(bad))
    return state


@given(broken_states(), seeds)
def test_whatever_is_wrong_with_the_state_the_card_is_shown(state: CoverState, seed: int) -> None:
    safe = compose(raw_frame(random_picture(seed, (24, 32))), state)
    assert type(safe) is SafeFrame
    assert safe.cover.level is CoverLevel.FRAME
    assert safe.cover.age_s is None
    assert np.array_equal(safe.pixels, draw_card((32, 24), Why(safe.cover.reason)))


@given(st.sampled_from(Why), seeds, st.tuples(st.integers(1, 300), st.integers(1, 200)))
def test_the_card_depends_on_size_and_reason_alone(
    why: Why, seed: int, size_wh: tuple[int, int]
) -> None:
    source = random_picture(seed, (size_wh[1], size_wh[0]))
    source[0, 0], source[-1, -1] = 0, 255
    if size_wh == (1, 1):
        why = Why.CUT  # one pixel is uniform
    safe = compose(raw_frame(source), Unknown(why))
    assert np.array_equal(safe.pixels, draw_card(size_wh, why))
    assert safe.cover.reason == why.value
