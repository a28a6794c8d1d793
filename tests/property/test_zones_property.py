"""Zones for any picture, map and place: nothing of what they cover is the source's (P6)."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.compositor import ComposeOptions, Compositor
from m2fp_stream.compositor.effects import find_regions
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import CoverPlan, Parsed
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.zones import Zone, Zones
from tests.property.test_effects_property import random_picture

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Size = tuple[int, int]

seeds = st.integers(0, 2**32 - 1)
feathers = st.sampled_from([0.0, 0.004, 0.02])
sizes = st.tuples(st.integers(2, 70), st.integers(2, 50))
SAMPLES = 5
"""Points along each side of a pixel at which an independent test asks whether a zone holds it."""


@st.composite
def texts(draw: st.DrawFn, size_wh: Size) -> str:
    """A zone inside the picture, in pixels or fractions, round or not."""
    width, height = size_wh
    corners = draw(st.sampled_from([2, 2, 3, 4, 5]))
    in_pixels = draw(st.booleans())
    grain = draw(st.sampled_from([1, 1, 7]))

    def numbers(side: int) -> list[Fraction]:
        most = side * grain if in_pixels else 100
        drawn = draw(st.lists(st.integers(0, most), min_size=corners, max_size=corners))
        return [Fraction(one, grain if in_pixels else 100) for one in drawn]

    xs, ys = numbers(width), numbers(height)
    if corners == 2:
        xs, ys = sorted(xs), sorted(ys)
    text = ",".join(f"{float(x):.6f},{float(y):.6f}" for x, y in zip(xs, ys, strict=True))
    try:
        Zone.parse(text).check(size_wh)
    except ValueError:
        assume(False)
    return text


@st.composite
def scenes(draw: st.DrawFn) -> tuple[str, Size, Size]:
    """A zone, a picture's size and that of its map."""
    size_wh = draw(sizes)
    side = draw(st.integers(1, max(size_wh)))
    scale = min(1.0, side / max(size_wh))
    map_wh = max(1, round(size_wh[0] * scale)), max(1, round(size_wh[1] * scale))
    return draw(texts(size_wh)), size_wh, map_wh


def touched(text: str, size_wh: Size) -> tuple[Mask, Mask]:
    """Pixels of which a sampled point is in the zone, and of which all are; by turns around it."""
    width, height = size_wh
    x, y = np.meshgrid(*((np.arange(SAMPLES * side) + 0.5) / SAMPLES for side in size_wh))
    corners = [(float(a), float(b)) for a, b in Zone.parse(text).pixels(size_wh)]
    if len(corners) == 2:
        (x1, y1), (x2, y2) = corners
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    turns = np.zeros(x.shape, np.int32)
    for (x0, y0), (x1, y1) in pairwise([*corners, corners[0]]):
        if y0 != y1:
            crosses = ((y0 <= y) != (y1 <= y)) & (x0 + (y - y0) * (x1 - x0) / (y1 - y0) > x)
            turns += np.where(crosses, 1 if y1 > y0 else -1, 0)
    hit = (turns != 0).reshape(height, SAMPLES, width, SAMPLES)
    return np.asarray(hit.any(axis=(1, 3))), np.asarray(hit.all(axis=(1, 3)))


small = st.tuples(st.integers(2, 16), st.integers(2, 12)).flatmap(
    lambda size: st.tuples(texts(size), st.just(size))
)


@given(small)
def test_a_zone_holds_every_pixel_it_touches_and_opens_only_pixels_wholly_in_it(
    drawn: tuple[str, Size],
) -> None:
    text, size_wh = drawn
    some, every = touched(text, size_wh)
    zone = (Zone.parse(text),)
    covered = Zones(zone).covers(size_wh, size_wh, None)
    rest = Zones(zone, invert=True).covers(size_wh, size_wh, None)
    assert covered is not None
    assert rest is not None
    assert covered[some].all()
    assert every[~rest].all()


@given(scenes())
def test_of_a_smaller_map_no_cell_that_a_zone_touches_is_clear(
    drawn: tuple[str, Size, Size],
) -> None:
    text, size_wh, map_wh = drawn
    zone = (Zone.parse(text),)
    full = Zones(zone).covers(size_wh, size_wh, None)
    cells = Zones(zone).covers(size_wh, map_wh, None)
    assert full is not None
    assert cells is not None
    for y, x in zip(*np.nonzero(full), strict=True):
        top, below = y * map_wh[1] // size_wh[1], -(-(y + 1) * map_wh[1] // size_wh[1])
        left, beyond = x * map_wh[0] // size_wh[0], -(-(x + 1) * map_wh[0] // size_wh[0])
        assert cells[top:below, left:beyond].all()


def plan_of(policy: Policy, size_wh: Size, map_wh: Size, parts: U8 | None = None) -> CoverPlan:
    blank = np.zeros(map_wh[::-1], np.uint8)
    shown = blank if parts is None else parts
    return policy.plan(
        frame_id=3, size_wh=size_wh, parts=shown, tracks=(shown > 0).astype(np.uint8)
    )


def composed(pixels: U8, plan: CoverPlan, feather: float) -> U8:
    raw = RawFrame(pixels.copy(), frame_id=3, pts=0, time_base=Fraction(1), captured_ns=0)
    safe = Compositor(ComposeOptions(feather=feather)).compose(raw, Parsed(plan))
    assert safe.cover.reason == "parsed"
    return safe.pixels


@given(scenes(), st.sampled_from(["frost", "solid", "silhouette"]), st.booleans(), seeds, feathers)
def test_no_change_inside_a_zone_changes_the_composed_frame(
    drawn: tuple[str, Size, Size], effect: str, invert: bool, seed: int, feather: float
) -> None:
    text, size_wh, map_wh = drawn
    policy = Policy(
        PolicyOptions.model_validate(
            {"zones": [text], "invert": invert, "effects": {"zone": effect}}
        )
    )
    places = Zones((Zone.parse(text),), invert=invert)
    inside = places.covers(size_wh, size_wh, None)
    assert inside is not None
    plan = plan_of(policy, size_wh, map_wh)
    source = random_picture(seed, size_wh[::-1])
    other = np.where(inside[..., None], random_picture(seed + 1, size_wh[::-1]), source)
    result = composed(source, plan, feather)
    assert np.array_equal(result, composed(other.astype(np.uint8), plan, feather))
    if effect == "solid":
        assert (result[inside] == ComposeOptions().solid_bgr).all()


@given(scenes(), st.booleans(), seeds, feathers)
def test_outside_cover_and_feather_of_zones_the_frame_equals_the_source(
    drawn: tuple[str, Size, Size], invert: bool, seed: int, feather: float
) -> None:
    text, size_wh, map_wh = drawn
    plan = plan_of(Policy(PolicyOptions(zones=(text,), invert=invert)), size_wh, map_wh)
    source = random_picture(seed, size_wh[::-1])
    result = composed(source, plan, feather)
    feather_px = round(feather * float(np.hypot(*size_wh)))
    clear = np.ones(size_wh[::-1], np.bool_)
    for region in find_regions(plan.cover, plan.fills, size_wh, feather_px=feather_px, grid_px=1):
        clear[region.rows, region.columns] = region.alpha == 0
    assert np.array_equal(result[clear], source[clear])


@given(scenes(), seeds)
def test_a_zone_outranks_whoever_is_left_alone_and_whatever_is_found(
    drawn: tuple[str, Size, Size], seed: int
) -> None:
    text, size_wh, map_wh = drawn
    parts = np.random.default_rng(seed).integers(0, 2, map_wh[::-1], dtype=np.uint8)
    parts *= np.uint8(Label.FACE)
    both = Policy(PolicyOptions(zones=(text,), keep_zones=("0,0,1,1",)))
    zone = both.zones.covers(size_wh, map_wh, None)
    assert zone is not None
    plan = plan_of(both, size_wh, map_wh, parts)
    np.testing.assert_array_equal(plan.cover > 0, zone)
    alone = Policy(PolicyOptions(zones=(text,)))
    plan = plan_of(alone, size_wh, map_wh, parts)
    np.testing.assert_array_equal(plan.cover > 0, zone | (parts > 0))


@given(scenes(), seeds, st.integers(1, 4))
def test_who_is_partly_outside_is_covered_whole_and_nobody_else_is_uncovered(
    drawn: tuple[str, Size, Size], seed: int, people: int
) -> None:
    """People as boxes that may overlap; each is known by his box and by the map."""
    text, size_wh, map_wh = drawn
    rng = np.random.default_rng(seed)
    parts, tracks = (np.zeros(map_wh[::-1], np.uint8) for _ in range(2))
    own = []
    boxes = []
    across, down = size_wh[0] / map_wh[0], size_wh[1] / map_wh[1]
    for mark in range(1, people + 1):
        x1, x2 = sorted(rng.integers(0, map_wh[0] + 1, 2).tolist())
        y1, y2 = sorted(rng.integers(0, map_wh[1] + 1, 2).tolist())
        head = np.zeros(parts.shape, np.bool_)
        head[y1:y2, x1:x2] = rng.random((y2 - y1, x2 - x1)) < 0.7  # in pieces
        own.append(head)
        boxes.append((mark, (x1 * across, y1 * down, x2 * across, y2 * down)))
        new = head & (parts == 0)
        parts[new], tracks[new] = Label.FACE, mark
    policy = Policy(PolicyOptions(keep_zones=(text,)))
    kept = policy.zones.keeps(size_wh, map_wh, None)
    assert kept is not None
    plan_with = partial(
        policy.plan, frame_id=3, size_wh=size_wh, parts=parts, tracks=tracks, people=boxes
    )
    plan = plan_with()
    for mark, head in enumerate(own, 1):
        visible = tracks == mark
        if (head & ~kept).any() and (visible & ~kept).any():
            assert (plan.cover[head] > 0).all()
    assert not (plan.cover[parts == 0] > 0).any()
    assert (plan.left_alone > 0) == bool((plan.cover == 0)[parts > 0].any())
    unsure = plan_with(sure=False)
    np.testing.assert_array_equal(unsure.cover > 0, parts > 0)
