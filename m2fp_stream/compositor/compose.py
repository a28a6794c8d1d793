"""The only maker of `SafeFrame`: covers what the plan says, or the whole frame."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Annotated, Final, Literal, assert_never, final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..core._mint import COMPOSED
from ..core.labels import Label
from ..core.plan import CoverPlan, CoverState, Effect, Fill, Parsed, Propagated, Unknown, Why
from ..core.raw import RawFrame
from ..core.safe import CoverInfo, CoverLevel, SafeFrame
from ..options import Options
from . import card, effects
from .effects import Region

__all__ = ["ComposeOptions", "Compositor", "compose"]

_log = logging.getLogger(__name__)

Channel = Annotated[int, Field(ge=0, le=255)]
Colour = Annotated[tuple[Channel, Channel, Channel], Field(strict=False)]
"""Blue, green, red; a configuration file writes it as a list."""

_GRID_SHARE: Final = 1 / 180
"""Side of a frost cell in frame diagonals: 8 px at 1280x720. Coarser looked muddy beside a person,
finer cost more and looked the same (seen on the sample clips)."""


class ComposeOptions(Options):
    """How covers look. None of these can make a cover smaller."""

    feather: Annotated[
        float,
        Field(
            title="Feather",
            description=(
                "Width of the soft edge outside a cover, in frame diagonals; 0 is a hard edge."
            ),
            ge=0,
            le=0.02,
        ),
    ] = 0.004
    neutral_bgr: Annotated[
        Colour,
        Field(
            title="Neutral of frost",
            description=(
                "Colour mixed into frost (blue, green, red); alone where nothing is uncovered."
            ),
        ),
    ] = (206, 202, 198)
    frost_mix: Annotated[
        float,
        Field(
            title="Neutral's share",
            description="How much of frost is the neutral: 0 is the diffused surroundings alone.",
            ge=0,
            le=1,
        ),
    ] = 0.35
    frost_grain: Annotated[
        int,
        Field(
            title="Grain of frost",
            description="Height of the fixed pattern on frost, in levels of 255; 0 is smooth.",
            ge=0,
            le=32,
        ),
    ] = 4
    frost_tint: Annotated[
        Literal["none", "coarse"],
        Field(
            title="Tint of frost",
            description=(
                "coarse mixes in one mean colour a part; lets 6 bits through a frame and part."
            ),
        ),
    ] = "none"
    frost_tint_strength: Annotated[
        float,
        Field(title="Share of the tint", description="Used with frost_tint: coarse.", ge=0, le=1),
    ] = 0.35
    solid_bgr: Annotated[
        Colour,
        Field(
            title="Colour of solid",
            description="Flat colour of the solid effect (blue, green, red).",
        ),
    ] = (48, 42, 38)
    mosaic_cells: Annotated[
        int,
        Field(
            title="Mosaic cells",
            description="Most cells along the longer side of a mosaic; fewer hide more.",
            ge=1,
            le=effects.MOSAIC_CELLS_MAX,
        ),
    ] = 6


@final
class Compositor:
    """Makes safe frames. Keeps no state: any thread, any order of frames."""

    __slots__ = ("_options",)

    def __init__(self, options: ComposeOptions | None = None) -> None:
        self._options = ComposeOptions() if options is None else options

    def __init_subclass__(cls) -> None:
        raise TypeError("Compositor is final")

    def compose(self, raw: RawFrame, state: CoverState) -> SafeFrame:
        """Returns `raw` covered as `state` says, or the opaque card; it never fails.

        The card stands for an unknown state, a plan for another frame or size, a released frame,
        and any error on the way, lack of memory included. Outside C and F (`effects`) the pixels
        equal the source's bit for bit. They are new memory, never a view of `raw`.

        Args:
            raw: the frame; need not be leased.
            state: what is known about its cover.
        """
        try:
            match state:
                case Parsed():
                    return self._covered(raw, replace(state).plan, 0.0, "parsed")
                case Propagated():
                    checked = replace(state)
                    return self._covered(raw, checked.plan, checked.age_s, "propagated")
                case Unknown():
                    return _card(raw, state.why)
                case _:
                    assert_never(state)
        except Exception as error:  # total: whatever went wrong, the frame is covered
            _log.warning("frame %d: composing failed (%s)", raw.frame_id, type(error).__name__)
            return _card(raw, Why.COMPOSE_FAILED)

    def aged(self, safe: SafeFrame, *, pts: int, age_s: float) -> SafeFrame:
        """Returns a composed frame once more, with its age written on it.

        Args:
            safe: what is shown until the next frame of a slow camera comes.
            pts: of the new frame, in ticks of the same time base.
            age_s: seconds since it was captured.
        """
        pixels = safe.pixels.copy()
        try:
            card.draw_age(pixels, age_s)
        except Exception as error:  # it is covered with or without a note
            _log.warning("drawing an age failed (%s)", type(error).__name__)
        return SafeFrame(
            pixels,
            frame_id=safe.frame_id,
            pts=pts,
            time_base=safe.time_base,
            captured_ns=safe.captured_ns,
            cover=replace(safe.cover, age_s=age_s if safe.cover.age_s is not None else None),
            key=COMPOSED,
        )

    def _covered(self, raw: RawFrame, plan: CoverPlan, age_s: float, reason: str) -> SafeFrame:
        plan = replace(plan)  # checks it once more: a forged or changed one raises
        if plan.frame_id != raw.frame_id:
            return _card(raw, Why.WRONG_FRAME)
        if plan.size_wh != raw.size_wh:
            return _card(raw, Why.SIZE_CHANGED)
        diagonal = math.hypot(*plan.size_wh)
        grid_px = 2 ** max(0, round(math.log2(diagonal * _GRID_SHARE)))
        regions = effects.find_regions(
            plan.cover,
            plan.fills,
            plan.size_wh,
            feather_px=round(self._options.feather * diagonal),
            grid_px=grid_px,
        )
        with raw.analysis() as bgr:
            painted = [self._fill(region.cut(bgr), region, plan, grid_px) for region in regions]
            # Copied last: an effect that fails leaves no uncovered copy behind.
            pixels = bgr.copy()
        with raw.alpha() as alpha:
            for region, fill in zip(regions, painted, strict=True):
                shown = fill if alpha is None else _over_black(fill, region.cut(alpha))
                effects.blend(region.cut(pixels), shown, region)
        parts = {plan.fills[k - 1].part for region in regions for k in region.ids}
        level = CoverLevel.PERSON if Label.HUMAN in parts else CoverLevel.PARTS
        return _mint(raw, pixels, CoverInfo(age_s, level, reason))

    def _fill(
        self, source: NDArray[np.uint8], region: Region, plan: CoverPlan, grid_px: int
    ) -> NDArray[np.uint8]:
        """Returns what stands in the region's C, each pixel by the fill nearest to it."""
        by_effect: dict[Effect, list[int]] = {}
        for k in region.ids:
            by_effect.setdefault(plan.fills[k - 1].effect, []).append(k)
        painted = {
            effect: self._paint(effect, source, region, plan.fills, grid_px) for effect in by_effect
        }
        fill = painted.popitem()[1]
        for effect, other in painted.items():
            cv2.copyTo(other, region.belonging(by_effect[effect]), fill)
        return fill

    def _paint(
        self,
        effect: Effect,
        source: NDArray[np.uint8],
        region: Region,
        fills: tuple[Fill, ...],
        grid_px: int,
    ) -> NDArray[np.uint8]:
        options = self._options
        match effect:
            case Effect.FROST:
                glass = effects.frost(
                    source,
                    region,
                    neutral=options.neutral_bgr,
                    mix=options.frost_mix,
                    grain=options.frost_grain,
                    grid_px=grid_px,
                )
                if options.frost_tint == "none":
                    return glass
                return effects.tinted(glass, source, region, fills, options.frost_tint_strength)
            case Effect.SOLID:
                return effects.solid(region, options.solid_bgr)
            case Effect.SILHOUETTE:
                return effects.silhouette(region, fills)
            case Effect.MOSAIC:
                return effects.mosaic(source, region, fills, options.mosaic_cells)
            case _:
                assert_never(effect)


def _over_black(fill: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns a cover as transparent as what it covers: none tells where somebody hidden is."""
    weighted = cv2.multiply(fill, cv2.merge([alpha] * 3), scale=1 / 255)
    return np.asarray(weighted, np.uint8)


def _card(raw: RawFrame, why: Why) -> SafeFrame:
    """Returns the opaque card at the size of `raw`; needs neither its pixels nor memory."""
    try:
        pixels = _card_pixels(raw, why)
    except Exception as error:  # total: a plain field can always be had
        _log.warning("frame %d: drawing the card failed (%s)", raw.frame_id, type(error).__name__)
        pixels = card.flat_card(raw.size_wh, card.BACKGROUND_BGR)
    return _mint(raw, pixels, CoverInfo(None, CoverLevel.FRAME, why.value))


def _card_pixels(raw: RawFrame, why: Why) -> NDArray[np.uint8]:
    if why is Why.UNIFORM and not raw.released:
        with raw.analysis() as bgr:
            colour = card.uniform_colour(bgr)
        if colour is not None:
            return card.plain_card(raw.size_wh, colour)
    return card.draw_card(raw.size_wh, why)


def _mint(raw: RawFrame, pixels: NDArray[np.uint8], cover: CoverInfo) -> SafeFrame:
    return SafeFrame(
        pixels,
        frame_id=raw.frame_id,
        pts=raw.pts,
        time_base=raw.time_base,
        captured_ns=raw.captured_ns,
        cover=cover,
        key=COMPOSED,
    )


_DEFAULT: Final = Compositor()


def compose(raw: RawFrame, state: CoverState) -> SafeFrame:
    """Returns `raw` covered with default options; see `Compositor.compose`."""
    return _DEFAULT.compose(raw, state)
