"""C, F and what the fills read, for any map and any size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.compositor import effects
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import Effect, Fill

U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    cover: U8
    fills: tuple[Fill, ...]
    size_wh: tuple[int, int]
    feather_px: int
    grid_px: int

    def regions(self, grid_px: int = 0) -> list[effects.Region]:
        return effects.find_regions(
            self.cover,
            self.fills,
            self.size_wh,
            feather_px=self.feather_px,
            grid_px=grid_px or self.grid_px,
        )

    def covered_pixels(self) -> NDArray[np.bool_]:
        """Pixels with a covered cell at corner or centre; where cells are smaller, anywhere."""
        rows, columns = self.cover.shape
        y, x = touched(self.size_wh[1], rows), touched(self.size_wh[0], columns)
        return np.asarray((y.astype(int) @ (self.cover > 0) @ x.T.astype(int)) > 0)


def touched(side: int, cells: int) -> NDArray[np.bool_]:
    """Returns (side, cells): which cells count for a pixel along one axis."""
    pixel, cell = np.arange(side)[:, None], np.arange(cells)[None, :]
    if cells >= side:
        return np.asarray((cell < (pixel + 1) * cells / side) & (cell + 1 > pixel * cells / side))
    corner, centre = pixel * cells // side, (2 * pixel + 1) * cells // (2 * side)
    return np.asarray((cell == corner) | (cell == centre))


sizes = st.tuples(st.integers(1, 90), st.integers(1, 70))


@st.composite
def covers(draw: st.DrawFn, size_hw: tuple[int, int], fills: int) -> U8:
    """Noise of any density, boxes that may touch borders, everything, nothing."""
    rows, columns = size_hw
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["boxes", "noise", "full", "empty"]))
    cover = np.zeros(size_hw, np.uint8)
    if kind == "noise":
        cover = rng.integers(1, fills + 1, size_hw).astype(np.uint8)
        cover[rng.random(size_hw) > draw(st.sampled_from([0.01, 0.1, 0.6]))] = 0
    elif kind == "full":
        cover[:] = draw(st.integers(1, fills))
    elif kind == "boxes":
        for k in range(draw(st.integers(1, 4))):
            y, x = rng.integers(0, rows), rng.integers(0, columns)
            h, w = rng.integers(1, rows // 2 + 2), rng.integers(1, columns // 2 + 2)
            cover[y : y + h, x : x + w] = k % fills + 1
    return cover


@st.composite
def cases(draw: st.DrawFn, effect: st.SearchStrategy[Effect] | None = None) -> Case:
    effect = st.sampled_from(Effect) if effect is None else effect
    fills = draw(
        st.lists(
            st.builds(Fill, effect, st.sampled_from(Label), st.integers(0, 2)),
            min_size=1,
            max_size=4,
        )
    )
    size_wh = draw(sizes)
    rows, columns = draw(st.sampled_from(["same", "any"])), draw(sizes)
    size_hw = (size_wh[1], size_wh[0]) if rows == "same" else (columns[1], columns[0])
    cover = draw(covers(size_hw, len(fills)))
    return Case(
        cover, tuple(fills), size_wh, draw(st.integers(0, 5)), draw(st.sampled_from([1, 2, 4]))
    )


def assembled(case: Case, grid_px: int = 0) -> tuple[U8, U8]:
    """Returns C and the fill's weight for the whole frame."""
    width, height = case.size_wh
    inside, alpha = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    for region in case.regions(grid_px):
        np.maximum(region.cut(inside), region.inside, out=region.cut(inside))
        np.maximum(region.cut(alpha), region.alpha, out=region.cut(alpha))
    return inside, alpha


def random_picture(seed: int, shape: tuple[int, ...]) -> U8:
    return np.random.default_rng(seed).integers(0, 256, (*shape[:2], 3), dtype=np.uint8)


@given(cases())
def test_c_holds_every_pixel_of_every_covered_cell(case: Case) -> None:
    inside, _ = assembled(case)
    assert (inside[case.covered_pixels()] == 255).all()


@given(cases())
def test_c_is_the_map_itself_at_the_size_of_the_frame(case: Case) -> None:
    if case.cover.shape == (case.size_wh[1], case.size_wh[0]):
        inside, _ = assembled(case)
        assert np.array_equal(inside > 0, case.cover > 0)


@given(cases())
def test_c_ends_within_two_cells_and_f_within_the_feather(case: Case) -> None:
    inside, alpha = assembled(case)
    (width, height), (rows, columns) = case.size_wh, case.cover.shape
    x, y = -(-2 * width // columns) + 1, -(-2 * height // rows) + 1
    covered = case.covered_pixels().astype(np.uint8)
    near = cv2.dilate(covered, np.ones((2 * y + 1, 2 * x + 1), np.uint8))
    assert not np.any((inside > 0) & (near == 0))
    side = 2 * case.feather_px + 1
    ring = cv2.dilate(inside, np.ones((side, side), np.uint8))
    assert not np.any((alpha > 0) & (ring == 0))


@given(cases())
def test_the_fill_has_full_weight_in_c(case: Case) -> None:
    inside, alpha = assembled(case)
    assert (alpha[inside > 0] == 255).all()


@given(cases())
def test_no_pixel_of_c_or_f_is_in_two_boxes_and_boxes_change_nothing(case: Case) -> None:
    width, height = case.size_wh
    times = np.zeros((height, width), np.uint8)
    for region in case.regions():
        region.cut(times)[region.alpha > 0] += 1
    assert times.max() <= 1
    # A grid larger than the frame makes one box of everything.
    for boxes, whole in zip(assembled(case), assembled(case, grid_px=128), strict=True):
        assert np.array_equal(boxes, whole)


@given(cases())
def test_boxes_are_those_of_the_whole_map_though_its_clear_margins_are_left_out(
    case: Case,
) -> None:
    """The same map with clear margins of its own size on each side."""
    rows, columns = case.cover.shape
    amid = np.zeros((3 * rows, 3 * columns), np.uint8)
    amid[rows : 2 * rows, columns : 2 * columns] = case.cover
    width, height = 3 * case.size_wh[0], 3 * case.size_wh[1]
    reduced = effects._reduced(amid, (width, height))
    outer_px = case.feather_px + effects._RIM_CELLS * case.grid_px
    reach = [
        effects._REACH_CELLS + -(-outer_px * cells // side)
        for cells, side in zip(reduced.shape, (height, width), strict=True)
    ]
    cell = np.ones((2 * reach[0] + 1, 2 * reach[1] + 1), np.uint8)
    grown = np.asarray(cv2.dilate(effects._whole_tracks(reduced, case.fills), cell), np.uint8)
    expected = [
        (
            slice(*effects._pixels(y, y + h, reduced.shape[0], height, case.grid_px)),
            slice(*effects._pixels(x, x + w, reduced.shape[1], width, case.grid_px)),
        )
        for x, y, w, h in effects._apart(grown)
    ]
    regions = effects.find_regions(
        amid,
        case.fills,
        (width, height),
        feather_px=case.feather_px,
        grid_px=case.grid_px,
    )
    assert [(one.rows, one.columns) for one in regions] == expected


@given(cases(), st.integers(0, 2**32 - 1))
def test_blend_gives_the_fill_in_c_and_leaves_the_rest_alone(case: Case, seed: int) -> None:
    for region in case.regions():
        before, fill = (random_picture(seed + k, region.alpha.shape) for k in (0, 1))
        after = before.copy()
        effects.blend(after, fill, region)
        assert np.array_equal(after[region.inside > 0], fill[region.inside > 0])
        assert np.array_equal(after[region.alpha == 0], before[region.alpha == 0])
        least, most = np.minimum(before, fill), np.maximum(before, fill)
        assert (after >= least - np.minimum(least, 1)).all()  # two roundings, half a level each
        assert (after.astype(int) <= most.astype(int) + 1).all()


@given(cases(), st.integers(0, 2**32 - 1))
def test_frost_reads_no_pixel_of_c_or_f(case: Case, seed: int) -> None:
    for region in case.regions():
        source = random_picture(seed, region.alpha.shape)
        other = np.where(region.alpha[..., None] > 0, 255 - source, source)
        first, second = (
            effects.frost(p, region, neutral=(9, 99, 199), mix=0.5, grain=3, grid_px=case.grid_px)
            for p in (source, other)
        )
        assert np.array_equal(first, second)


@given(cases(), st.integers(0, 2**32 - 1))
def test_frost_without_a_rim_is_the_neutral_alone(case: Case, seed: int) -> None:
    for region in case.regions():
        source = random_picture(seed, region.alpha.shape)
        glass = effects.frost(
            source, region, neutral=(9, 99, 199), mix=0.5, grain=3, grid_px=case.grid_px
        )
        if region.alpha.all():
            assert (glass == (9, 99, 199)).all()


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 6))
def test_a_mosaic_has_at_most_its_cells_along_either_side(
    width: int, height: int, cells: int
) -> None:
    columns, rows = effects.mosaic_grid_wh((width, height), cells)
    assert 1 <= columns <= min(cells, width)
    assert 1 <= rows <= min(cells, height)
    assert max(columns, rows) == min(cells, max(width, height))
