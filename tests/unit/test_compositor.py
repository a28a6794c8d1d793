"""The compositor covers, carries the frame's data over, and shows the card when in doubt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from m2fp_stream.compositor import ComposeOptions, Compositor, card, compose, effects
from m2fp_stream.compositor import compose as default_compose
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import CoverPlan, Effect, Fill, Parsed, Propagated, Unknown, Why
from m2fp_stream.core.raw import RawFrame, Under
from m2fp_stream.core.safe import CoverInfo, CoverLevel, SafeFrame
from tests.kit.texture import contains_marker, marker

SIZE_WH = (160, 96)
TEXTURE = marker(5, 96, 160)


def frame(pixels: NDArray[np.uint8] = TEXTURE) -> RawFrame:
    return RawFrame(
        pixels.copy(), frame_id=8, pts=1001, time_base=Fraction(1, 30000), captured_ns=77
    )


def plan(
    effect: Effect = Effect.FROST,
    part: Label = Label.FACE,
    *,
    frame_id: int = 8,
    size_wh: tuple[int, int] = SIZE_WH,
    everything: bool = True,
) -> CoverPlan:
    cover = np.zeros((24, 40), np.uint8)
    cover[:] = 1 if everything else 0
    return CoverPlan(frame_id, size_wh, cover, (Fill(effect, part, 0),))


def is_card(safe: SafeFrame, why: Why) -> bool:
    drawn = np.array_equal(safe.pixels, card.draw_card(SIZE_WH, why))
    return drawn and safe.cover == CoverInfo(None, CoverLevel.FRAME, why.value)


@pytest.mark.parametrize("effect", Effect)
def test_a_cover_is_as_transparent_as_what_it_covers(effect: Effect) -> None:
    """Films are coded with loss: what is hidden has an alpha of 1 or 2 here and there."""
    alpha = np.full((96, 160), 255, np.uint8)
    alpha[:, :80] = np.arange(80) % 3
    over_black = np.where(alpha[..., None] == 255, TEXTURE, 0).astype(np.uint8)
    hidden = RawFrame(
        over_black,
        frame_id=8,
        pts=1001,
        time_base=Fraction(1, 30000),
        captured_ns=77,
        under=Under(TEXTURE.copy(), alpha),
    )
    safe = compose(hidden, Parsed(plan(effect)))
    assert safe.cover.reason == "parsed"
    assert safe.pixels[:, :80].max() <= 2
    assert safe.pixels[:, 80:].any()
    assert not contains_marker(safe.pixels, TEXTURE)


def test_nothing_covered_shows_the_source_so_the_search_can_fail() -> None:
    safe = compose(frame(), Parsed(plan(everything=False)))
    assert np.array_equal(safe.pixels, TEXTURE)
    assert contains_marker(safe.pixels, TEXTURE)
    assert safe.cover == CoverInfo(0.0, CoverLevel.PARTS, "parsed")


@pytest.mark.parametrize("effect", Effect)
def test_the_texture_is_gone_where_covered_and_found_where_not(effect: Effect) -> None:
    cover = np.zeros((24, 40), np.uint8)
    cover[6:18, 10:28] = 1
    covered = np.repeat(np.repeat(cover > 0, 4, axis=0), 4, axis=1)
    state = Parsed(CoverPlan(8, SIZE_WH, cover, (Fill(effect, Label.FACE, 0),)))
    safe = compose(frame(), state)
    assert not contains_marker(safe.pixels, TEXTURE, covered)
    assert contains_marker(safe.pixels, TEXTURE, ~covered)


def test_the_frames_identity_and_times_are_carried_over() -> None:
    for state in (Parsed(plan()), Unknown(Why.CUT)):
        safe = compose(frame(), state)
        assert (safe.frame_id, safe.pts, safe.time_base) == (8, 1001, Fraction(1, 30000))
        assert (safe.captured_ns, safe.size_wh) == (77, SIZE_WH)


LARGE_WH = (640, 480)


def large(state_of: Callable[[RawFrame], Any]) -> SafeFrame:
    raw = RawFrame(
        marker(5, LARGE_WH[1], LARGE_WH[0]),
        frame_id=8,
        pts=1001,
        time_base=Fraction(1, 30000),
        captured_ns=77,
    )
    return compose(raw, state_of(raw))


def half_covered(_: RawFrame) -> Parsed:
    cover = np.zeros((48, 64), np.uint8)
    cover[:, 32:] = 1
    return Parsed(CoverPlan(8, LARGE_WH, cover, (Fill(Effect.FROST, Label.HUMAN, 0),)))


@pytest.mark.parametrize("age_s", [1.0, 9.6, 127.0, 1e9])
def test_a_picture_that_is_shown_again_says_its_age_and_is_the_same_elsewhere(
    age_s: float,
) -> None:
    safe = large(half_covered)
    before = safe.pixels.copy()
    again = Compositor().aged(safe, pts=2002, age_s=age_s)
    assert (again.frame_id, again.pts, again.time_base) == (8, 2002, Fraction(1, 30000))
    assert (again.captured_ns, again.size_wh) == (77, LARGE_WH)
    assert again.cover == CoverInfo(age_s, CoverLevel.PERSON, "parsed")
    changed = (again.pixels != before).any(axis=2)
    assert changed.any()
    width, height = LARGE_WH
    changed[int(0.85 * height) :, : width // 2] = False  # the lower left corner
    assert not changed.any()
    assert np.array_equal(safe.pixels, before)
    assert not np.shares_memory(again.pixels, safe.pixels)


def test_the_age_depends_on_whole_seconds_alone() -> None:
    safe = large(half_covered)
    first, second, third = (
        Compositor().aged(safe, pts=1, age_s=age_s).pixels for age_s in (2.1, 2.4, 3.0)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_where_no_note_fits_the_picture_is_shown_again_as_it_was() -> None:
    safe = compose(frame(), Parsed(plan()))
    again = Compositor().aged(safe, pts=2002, age_s=3.0)
    assert np.array_equal(again.pixels, safe.pixels)
    assert again.cover.age_s == 3.0


def test_a_card_has_no_age_when_it_is_shown_again() -> None:
    safe = compose(frame(), Unknown(Why.CUT))
    assert Compositor().aged(safe, pts=2002, age_s=3.0).cover == safe.cover


def test_a_picture_whose_age_cannot_be_drawn_is_shown_again_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> None:
        raise cv2.error("out of memory")

    safe = large(half_covered)
    monkeypatch.setattr(card, "draw_age", fails)
    again = Compositor().aged(safe, pts=2002, age_s=3.0)
    assert np.array_equal(again.pixels, safe.pixels)
    assert again.pts == 2002


def test_age_level_and_reason_are_told() -> None:
    safe = compose(frame(), Propagated(plan(part=Label.HUMAN), 0.25))
    assert safe.cover == CoverInfo(0.25, CoverLevel.PERSON, "propagated")
    assert compose(frame(), Parsed(plan())).cover.level is CoverLevel.PARTS


def test_a_legend_without_cells_does_not_raise_the_level() -> None:
    safe = compose(frame(), Parsed(plan(part=Label.HUMAN, everything=False)))
    assert safe.cover.level is CoverLevel.PARTS


@pytest.mark.parametrize("everything", [True, False])
def test_the_pixels_are_new_memory(everything: bool) -> None:
    raw = frame()
    safe = compose(raw, Parsed(plan(everything=everything)))
    before = safe.pixels.copy()
    with raw.analysis() as bgr:
        assert not np.shares_memory(bgr, safe.pixels)
    raw.release()
    assert np.array_equal(safe.pixels, before)


@pytest.mark.parametrize("why", Why)
def test_unknown_is_the_card(why: Why) -> None:
    safe = compose(frame(), Unknown(why))
    assert is_card(safe, why)
    assert not contains_marker(safe.pixels, TEXTURE)


def test_another_frames_plan_is_the_card() -> None:
    assert is_card(compose(frame(), Parsed(plan(frame_id=7))), Why.WRONG_FRAME)
    stale = Propagated(plan(frame_id=7), 0.1)
    assert is_card(compose(frame(), stale), Why.WRONG_FRAME)


def test_a_plan_for_another_size_is_the_card() -> None:
    assert is_card(compose(frame(), Parsed(plan(size_wh=(96, 160)))), Why.SIZE_CHANGED)


def test_a_forged_plan_is_refused_before_an_effect_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_to_cover(*_: object, **__: object) -> list[effects.Region]:
        return []

    monkeypatch.setattr(effects, "find_regions", nothing_to_cover)
    assert compose(frame(), Parsed(plan())).cover.reason == "parsed"
    forged = plan()
    object.__setattr__(forged, "cover", np.full((24, 40), np.nan, np.float32))
    assert is_card(compose(frame(), Parsed(forged)), Why.COMPOSE_FAILED)


def test_a_released_frame_is_the_card() -> None:
    raw = frame()
    raw.release()
    assert is_card(compose(raw, Parsed(plan())), Why.COMPOSE_FAILED)
    assert is_card(compose(raw, Unknown(Why.UNIFORM)), Why.UNIFORM)


@pytest.mark.parametrize("error", [ValueError, MemoryError, cv2.error, RecursionError])
@pytest.mark.parametrize(
    ("effect", "broken"),
    [
        (Effect.FROST, "frost"),
        (Effect.FROST, "blend"),
        (Effect.FROST, "find_regions"),
        (Effect.SOLID, "solid"),
        (Effect.SILHOUETTE, "silhouette"),
        (Effect.MOSAIC, "mosaic"),
    ],
)
def test_an_error_anywhere_is_the_card(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    effect: Effect,
    broken: str,
    error: type[Exception],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("secret")

    monkeypatch.setattr(effects, broken, fail)
    with caplog.at_level(logging.WARNING):
        safe = compose(frame(), Parsed(plan(effect)))
    assert is_card(safe, Why.COMPOSE_FAILED)
    assert not contains_marker(safe.pixels, TEXTURE)
    assert [r.getMessage() for r in caplog.records] == [
        f"frame 8: composing failed ({error.__name__})"
    ]


@pytest.mark.parametrize("error", [MemoryError, ValueError])
def test_a_card_that_cannot_be_drawn_is_one_colour(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(card, "draw_card", fail)
    for state in (Unknown(Why.STALE), Parsed(plan(frame_id=7))):
        safe = compose(frame(), state)
        assert (safe.pixels == card.BACKGROUND_BGR).all()
        assert safe.size_wh == SIZE_WH
        assert safe.cover.level is CoverLevel.FRAME


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_not_swallowed(
    monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr(effects, "find_regions", interrupt)
    with pytest.raises(stop):
        compose(frame(), Parsed(plan()))


@pytest.mark.parametrize(
    ("colour", "shown"),
    [((0, 0, 0), 0), ((3, 3, 3), 0), ((255, 255, 255), 255), ((130, 130, 130), 128)],
)
def test_a_uniform_frame_stays_its_colour_so_a_fade_stays_a_fade(
    colour: tuple[int, int, int], shown: int
) -> None:
    safe = compose(frame(np.full((96, 160, 3), colour, np.uint8)), Unknown(Why.UNIFORM))
    assert (safe.pixels == shown).all()
    assert safe.cover == CoverInfo(None, CoverLevel.FRAME, Why.UNIFORM.value)


def test_noise_does_not_make_a_dark_frame_less_uniform() -> None:
    noise = np.random.default_rng(0).integers(0, 12, (720, 1280, 3), dtype=np.uint8)
    assert card.uniform_colour(noise) == (8, 8, 8)


def test_a_frame_said_to_be_uniform_that_is_not_gets_the_plain_card() -> None:
    spot = np.full((96, 160, 3), 20, np.uint8)
    spot[40:50, 60:70] = 60
    assert is_card(compose(frame(spot), Unknown(Why.UNIFORM)), Why.UNIFORM)


def test_only_a_uniform_frame_known_as_such_shows_its_colour() -> None:
    black = np.zeros((96, 160, 3), np.uint8)
    assert is_card(compose(frame(black), Unknown(Why.NO_PARSE)), Why.NO_PARSE)


def test_the_card_shows_symbol_and_text_where_they_fit() -> None:
    def inked(height: int, width: int) -> NDArray[np.bool_]:
        drawn = card.draw_card((width, height), Why.NO_PARSE)
        return np.asarray(np.any(drawn != card.BACKGROUND_BGR, axis=2))

    half = slice(360, 720)
    assert inked(720, 1280)[:360].any()
    assert inked(720, 1280)[half][100:].any()
    assert inked(120, 160).any()
    assert not inked(120, 160)[75:].any()
    assert not inked(40, 40).any()
    assert not inked(1, 1).any()


def test_reasons_look_different_on_a_large_card() -> None:
    assert len({card.draw_card((1280, 720), why).tobytes() for why in Why}) == len(Why)


def mixed_picture() -> NDArray[np.uint8]:
    coarse = np.random.default_rng(4).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, SIZE_WH, interpolation=cv2.INTER_CUBIC), np.uint8)


def covered(options: ComposeOptions, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    cover = np.zeros((24, 40), np.uint8)
    cover[6:18, 10:20] = 1
    cover[6:18, 20:30] = 2
    cover = np.repeat(np.repeat(cover, 4, axis=0), 4, axis=1)
    fills = (Fill(Effect.FROST, Label.FACE, 0), Fill(Effect.FROST, Label.HAIR, 0))
    state = Parsed(CoverPlan(8, SIZE_WH, cover, fills))
    return Compositor(options).compose(frame(pixels), state).pixels


@pytest.mark.parametrize(
    "change",
    [
        {"feather": 0.02},
        {"neutral_bgr": (0, 0, 0)},
        {"frost_mix": 0.9},
        {"frost_grain": 20},
        {"frost_tint": "coarse"},
    ],
)
def test_each_option_of_frost_changes_the_picture(change: dict[str, Any]) -> None:
    options = ComposeOptions.model_validate(change)
    default = covered(ComposeOptions(), mixed_picture())
    assert not np.array_equal(covered(options, mixed_picture()), default)


def test_a_coarse_tint_shows_one_of_64_colours_a_part() -> None:
    options = ComposeOptions(
        frost_tint="coarse", frost_tint_strength=1.0, frost_grain=0, feather=0.0
    )
    pixels = np.full((96, 160, 3), 200, np.uint8)
    pixels[24:72, 40:80] = (10, 70, 250)
    pixels[24:72, 80:120] = (255, 0, 130)
    result = covered(options, pixels)
    assert (result[24:72, 40:80] == (32, 96, 224)).all()
    assert (result[24:72, 80:120] == (224, 32, 160)).all()
    almost = pixels.copy()
    almost[24:72, 40:80] = (60, 120, 199)
    assert np.array_equal(covered(options, almost), result)


def test_zero_feather_is_a_hard_edge() -> None:
    black = np.zeros((96, 160, 3), np.uint8)
    cover = np.zeros((96, 160), np.uint8)
    cover[20:60, 30:90] = 1
    state = Parsed(CoverPlan(8, SIZE_WH, cover, (Fill(Effect.SOLID, Label.FACE, 0),)))
    options = ComposeOptions(feather=0.0, solid_bgr=(9, 9, 9))
    result = Compositor(options).compose(frame(black), state).pixels
    assert np.array_equal(result[..., 0] == 9, cover > 0)
    soft = Compositor(ComposeOptions(solid_bgr=(9, 9, 9))).compose(frame(black), state).pixels
    assert set(np.unique(soft)) > {0, 9}


@pytest.mark.parametrize(
    "wrong",
    [
        {"mosaic_cells": 7},
        {"mosaic_cells": 0},
        {"mosaic_cells": 6.0},
        {"feather": float("nan")},
        {"feather": 0.5},
        {"feather": "0.004"},
        {"neutral_bgr": (0, 0, 256)},
        {"neutral_bgr": [0, 0]},
        {"neutral_bgr": [0, 0, "7"]},
        {"frost_tint": "fine"},
        {"frost_mix": 1.1},
        {"blur": 3},
    ],
)
def test_options_are_strict(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ComposeOptions.model_validate(wrong)


def test_colours_may_come_as_lists_and_options_are_frozen() -> None:
    options = ComposeOptions.model_validate({"neutral_bgr": [1, 2, 3]})
    assert options.neutral_bgr == (1, 2, 3)
    with pytest.raises(ValidationError):
        options.feather = 0.01  # type: ignore[misc]  # frozen: what is tested


def test_every_option_is_described_and_bounded() -> None:
    for name, field in ComposeOptions.model_fields.items():
        assert field.title, name
        assert field.description, name


def test_the_compositor_is_final() -> None:
    make: Callable[..., type] = type
    with pytest.raises(TypeError, match="final"):
        make("Open", (Compositor,), {})


def test_the_package_exports_the_default_compositor() -> None:
    state = Parsed(plan(everything=False))
    assert np.array_equal(default_compose(frame(), state).pixels, TEXTURE)
