"""Single effects, with inputs made to show what they may and may not do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.compositor import effects
from m2fp_stream.core.labels import PALETTE_RGB, Label
from m2fp_stream.core.plan import Effect, Fill

U8 = NDArray[np.uint8]


def one_region(cover: U8, *fills: Fill, feather_px: int = 0, grid_px: int = 1) -> effects.Region:
    """Returns the only region of a map at the size of its frame."""
    size_wh = cover.shape[1], cover.shape[0]
    (region,) = effects.find_regions(cover, fills, size_wh, feather_px=feather_px, grid_px=grid_px)
    return region


def square(part: int = 1, *, side: int = 120, inner: int = 60) -> U8:
    cover = np.zeros((side, side), np.uint8)
    edge = (side - inner) // 2
    cover[edge : edge + inner, edge : edge + inner] = part
    return cover


FACE = Fill(Effect.MOSAIC, Label.FACE, 1)


def mosaic(cover: U8, source: U8, *fills: Fill, cells: int = 6) -> U8:
    region = one_region(cover, *fills)
    painted = np.zeros_like(source)
    region.cut(painted)[:] = effects.mosaic(region.cut(source), region, fills, cells)
    return painted


def test_stripes_finer_than_the_cells_vanish_in_a_mosaic() -> None:
    # 12 stripes in 60 pixels: twice as many as a grid of 6 cells can show.
    source = np.zeros((120, 120, 3), np.uint8)
    source[:, np.arange(120) // 5 % 2 == 0] = 240
    painted = mosaic(square(), source, FACE)[30:90, 30:90]
    assert np.ptp(painted) <= 1
    assert abs(int(painted.mean()) - 120) <= 1


def test_stripes_as_wide_as_the_cells_stay_so_the_test_above_can_fail() -> None:
    source = np.zeros((120, 120, 3), np.uint8)
    source[:, np.arange(120) // 10 % 2 == 0] = 240
    assert np.ptp(mosaic(square(), source, FACE)[30:90, 30:90]) == 240


def test_a_mosaic_holds_nothing_but_the_means_of_its_cells() -> None:
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (120, 120, 3), dtype=np.uint8)
    shuffled = source.copy()
    for y in range(30, 90, 10):
        for x in range(30, 90, 10):
            cell = source[y : y + 10, x : x + 10].reshape(100, 3)
            shuffled[y : y + 10, x : x + 10] = rng.permutation(cell).reshape(10, 10, 3)
    assert not np.array_equal(source, shuffled)
    first, second = mosaic(square(), source, FACE), mosaic(square(), shuffled, FACE)
    assert np.array_equal(first[30:90, 30:90], second[30:90, 30:90])


def test_a_mosaic_is_smooth_from_cell_to_cell() -> None:
    source = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    source[30:90, 30:60], source[30:90, 60:90] = 0, 200
    steps = np.abs(np.diff(mosaic(square(), source, FACE)[60, 30:90].astype(int), axis=0))
    assert steps.max() <= 21  # 200 levels over the 10 pixels of one cell


def test_all_parts_of_a_track_share_one_grid() -> None:
    # Two halves of one head, far apart: six cells across both, not six across each.
    cover = np.zeros((120, 240), np.uint8)
    cover[40:80, 20:50], cover[40:80, 190:220] = 1, 2
    hair = Fill(Effect.MOSAIC, Label.HAIR, 1)
    source = np.zeros((120, 240, 3), np.uint8)
    source[:, np.arange(240) // 5 % 2 == 0] = 240
    painted = mosaic(cover, source, FACE, hair)
    assert np.ptp(painted[40:80, 20:50]) <= 1
    other = Fill(Effect.MOSAIC, Label.HAIR, 2)
    regions = effects.find_regions(cover, (FACE, other), (240, 120), feather_px=0, grid_px=1)
    assert len(regions) == 2


def test_a_mosaic_cell_without_a_pixel_of_its_track_takes_its_neighbours_colour() -> None:
    # A ring: the cells in the middle belong to another effect and lend nothing.
    cover = square(1)
    cover[40:80, 40:80] = 2
    source = np.full((120, 120, 3), 100, np.uint8)
    source[40:80, 40:80] = 255
    painted = mosaic(cover, source, FACE, Fill(Effect.SOLID, Label.HAIR, 1))
    assert (painted[cover == 1] == 100).all()


def test_silhouettes_are_flat_in_the_colours_of_the_palette() -> None:
    cover = square(1)
    cover[30:90, 60:90] = 2
    fills = (
        Fill(Effect.SILHOUETTE, Label.HAIR, 1),
        Fill(Effect.SILHOUETTE, Label.FACE, 1),
    )
    region = one_region(cover, *fills)
    painted = effects.silhouette(region, fills)
    ids = region.cut(cover)
    assert (painted[ids == 1] == PALETTE_RGB[Label.HAIR][::-1]).all()
    assert (painted[ids == 2] == PALETTE_RGB[Label.FACE][::-1]).all()


def frost(region: effects.Region, source: U8, **changes: float) -> U8:
    settings = {"mix": 0.0, "grain": 0, "grid_px": 4, **changes}
    return effects.frost(
        region.cut(source),
        region,
        neutral=(200, 200, 200),
        mix=settings["mix"],
        grain=int(settings["grain"]),
        grid_px=int(settings["grid_px"]),
    )


FROST = Fill(Effect.FROST, Label.FACE, 1)


def test_frost_carries_the_colours_of_the_rim_inwards() -> None:
    source = np.zeros((120, 120, 3), np.uint8)
    source[:, :60], source[:, 60:] = (240, 0, 0), (0, 0, 240)
    region = one_region(square(), FROST, grid_px=4)
    glass = np.zeros_like(source)
    region.cut(glass)[:] = frost(region, source)
    assert glass[60, 32, 0] > 200 > 40 > glass[60, 32, 2]
    assert glass[60, 88, 2] > 200 > 40 > glass[60, 88, 0]
    assert 80 < glass[60, 60, 0] < 160


def test_a_plain_rim_gives_plain_glass_mixed_with_the_neutral() -> None:
    source = np.full((120, 120, 3), 100, np.uint8)
    region = one_region(square(), FROST, grid_px=4)
    inside = region.inside > 0
    assert (frost(region, source)[inside] == 100).all()
    assert (frost(region, source, mix=0.5)[inside] == 150).all()
    assert (frost(region, source, mix=1.0)[inside] == 200).all()


def test_the_grain_is_fixed_to_the_frame_and_as_high_as_asked() -> None:
    source = np.full((300, 400, 3), 100, np.uint8)
    shown = []
    for left in (40, 72):
        cover = np.zeros((300, 400), np.uint8)
        cover[30:290, left : left + 260] = 1
        region = one_region(cover, FROST, grid_px=4)
        glass = np.zeros_like(source)
        region.cut(glass)[:] = frost(region, source, grain=8)
        assert 6 <= np.ptp(glass[cover > 0]) <= 8
        assert abs(float(glass[cover > 0].mean()) - 100) < 0.5
        shown.append(glass)
    assert np.array_equal(shown[0][60:260, 80:290], shown[1][60:260, 80:290])


def test_a_rim_too_thin_to_have_a_colour_gives_the_neutral() -> None:
    cover = np.ones((64, 64), np.uint8)
    cover[0, 0] = 0
    region = one_region(cover, FROST, grid_px=16)
    source = np.zeros((64, 64, 3), np.uint8)
    assert (frost(region, source, grid_px=16)[region.inside > 0] == 200).all()


def test_nothing_covered_makes_no_region() -> None:
    empty = np.zeros((9, 16), np.uint8)
    assert effects.find_regions(empty, (), (1280, 720), feather_px=6, grid_px=8) == []


def test_a_single_cell_makes_a_box_of_its_surroundings_only() -> None:
    cover = np.zeros((180, 320), np.uint8)
    cover[90, 160] = 1
    (region,) = effects.find_regions(cover, (FROST,), (1280, 720), feather_px=6, grid_px=8)
    assert region.ids == (1,)
    assert max(region.alpha.shape) <= 128
    assert region.rows.start % 8 == region.columns.start % 8 == 0


@pytest.mark.parametrize("feather_px", [0, 3])
def test_a_box_holds_c_and_f_with_a_rim_however_large_the_cells(feather_px: int) -> None:
    cover = np.zeros((9, 16), np.uint8)
    cover[4, 8] = 1
    (region,) = effects.find_regions(cover, (FROST,), (1280, 720), feather_px=feather_px, grid_px=1)
    height, width = region.alpha.shape
    assert (height, width) != (720, 1280)
    assert not region.alpha[[0, 1, -2, -1]].any()
    assert not region.alpha[:, [0, 1, -2, -1]].any()


@pytest.mark.parametrize(("gap", "boxes"), [(2, 1), (60, 2)])
def test_near_components_share_a_box(gap: int, boxes: int) -> None:
    cover = np.zeros((180, 320), np.uint8)
    cover[80:100, 100:120] = cover[90:110, 120 + gap : 140 + gap] = 1
    found = effects.find_regions(cover, (FROST,), (1280, 720), feather_px=6, grid_px=8)
    assert len(found) == boxes


def test_boxes_that_come_to_overlap_are_merged_again() -> None:
    # A bracket and a dot within its arms, apart from it, but inside its bounding box.
    cover = np.zeros((180, 320), np.uint8)
    cover[10:170, 10:14] = cover[10:14, 10:300] = cover[166:170, 10:300] = 1
    cover[90, 200] = 1
    found = effects.find_regions(cover, (FROST,), (320, 180), feather_px=2, grid_px=2)
    assert len(found) == 1


def test_the_outline_of_a_small_map_is_smooth() -> None:
    # A disc of 24 cells enlarged 8 times: no straight run as long as the blocks would have.
    y, x = np.mgrid[:64, :64]
    disc = ((x - 32) ** 2 + (y - 32) ** 2 < 144).astype(np.uint8)
    (region,) = effects.find_regions(disc, (FROST,), (512, 512), feather_px=0, grid_px=8)
    inside = np.zeros((512, 512), np.uint8)
    region.cut(inside)[:] = region.inside
    rows = np.flatnonzero(inside.any(axis=1))
    left = np.array([int(np.argmax(inside[r] > 0)) for r in rows])
    steep = left[len(left) // 8 : len(left) // 4]  # a stretch between 30 and 60 degrees
    assert np.abs(np.diff(steep)).max() <= 4  # blocks step by 8


def test_the_tint_leaves_out_what_is_not_frost() -> None:
    cover = square(1)
    cover[30:90, 60:90] = 2
    fills = (FROST, Fill(Effect.SOLID, Label.HAIR, 1))
    region = one_region(cover, *fills)
    source = np.full((*region.alpha.shape, 3), 200, np.uint8)
    fill = effects.solid(region, (100, 100, 100))
    tinted = effects.tinted(fill, source, region, fills, 0.5)
    ids = region.cut(cover)
    assert (tinted[ids == 1] == (100 + 224) // 2).all()
