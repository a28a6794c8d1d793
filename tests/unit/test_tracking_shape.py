"""A head's shape belongs to it: laid where the head is now, moved, grown and turned with it."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.labels import Label
from m2fp_stream.parsers.embedded.looker import crop_for_parts
from m2fp_stream.tracking.heads import Head, Rect
from m2fp_stream.tracking.shape import (
    Anchor,
    PartLook,
    Shape,
    anchor_of_body,
    anchor_of_head,
    filled,
    head_seed,
    head_thresholds,
    lay_box,
    lay_ellipse,
    put_on,
)

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SIZE_WH = (320, 240)
HEAD = Head(160, 100, 48, 56)
NAMES = {1: int(Label.HAIR), 2: int(Label.FACE)}


def disc(x: float, y: float, across: float, down: float, roll: float = 0.0) -> Mask:
    """An ellipse in a frame; centre, width, height in pixels, tilt in radians."""
    rows, columns = np.mgrid[0 : SIZE_WH[1], 0 : SIZE_WH[0]] + 0.5
    u = (columns - x) * math.cos(roll) + (rows - y) * math.sin(roll)
    v = -(columns - x) * math.sin(roll) + (rows - y) * math.cos(roll)
    return np.asarray((u / (across / 2)) ** 2 + (v / (down / 2)) ** 2 <= 1)


def seen(mask: Mask, region: Rect, *, part: int = 2, pixels: int = 60_000) -> PartLook:
    """What a perfect part network says of a mask in a crop."""
    picture = np.repeat(mask[..., None].astype(np.uint8) * np.uint8(255), 3, 2)
    box = region.x1, region.y1, region.x2, region.y2
    crop, matrix = crop_for_parts(picture, box, pixels)
    size_wh = crop.shape[1] // 2, crop.shape[0] // 2
    small = cv2.resize(crop[..., 0], size_wh, interpolation=cv2.INTER_AREA)
    planes = np.zeros((3, *small.shape), np.uint8)
    planes[part] = small
    planes[0] = 255 - small
    return PartLook.inside(planes, matrix, SIZE_WH)


def around(head: Head) -> Rect:
    return Rect(
        head.x - 1.6 * head.width,
        head.y - 1.25 * head.height,
        head.x + 1.6 * head.width,
        head.y + 3 * head.height,
    )


def shape_of(
    look: PartLook, anchor: Anchor, *, seed: U8 | None = None, margin: int = 0, threshold: int = 127
) -> Shape:
    return Shape.of(
        look, anchor, label_of=NAMES, threshold=threshold, seed=seed, margin_cells=margin
    )


def laid(shape: Shape, anchor: Anchor, scale: float = 1.0) -> U8:
    """The parts of a shape on a map of the frame."""
    size = round(SIZE_WH[1] * scale), round(SIZE_WH[0] * scale)
    parts, tracks = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    shape.lay(parts, tracks, 7, anchor, scale)
    assert ((tracks == 7) == (parts > 0)).all()
    return parts


def overlap(mask: Mask, other: Mask) -> float:
    """Intersection over union."""
    return float((mask & other).sum() / max(1, (mask | other).sum()))


TILTED = Head(150, 110, 48, 56, math.radians(35))


@pytest.mark.parametrize("head", [HEAD, TILTED, Head(60.5, 40.25, 31, 37)], ids=str)
def test_what_was_seen_in_a_crop_is_laid_where_it_was_seen(head: Head) -> None:
    mask = disc(head.x, head.y, head.width, head.height, head.roll)
    anchor = anchor_of_head(head)
    parts = laid(shape_of(seen(mask, around(head)), anchor), anchor)
    assert overlap(parts > 0, mask) > 0.93
    assert (parts[mask] > 0).mean() > 0.98
    assert set(np.unique(parts)) == {0, Label.FACE}
    rows, columns = np.nonzero(parts)
    assert columns.mean() + 0.5 == pytest.approx(head.x, abs=0.4)
    assert rows.mean() + 0.5 == pytest.approx(head.y, abs=0.4)


@pytest.mark.parametrize(
    "now",
    [
        Head(200, 120, 48, 56),
        Head(160, 100, 96, 112),
        Head(160, 100, 24, 28),
        Head(180, 130, 48, 56, math.radians(90)),
        Head(140, 120, 60, 70, math.radians(-30)),
    ],
    ids=["moved", "twice as large", "half as large", "lying", "all at once"],
)
def test_a_shape_moves_grows_and_turns_with_its_head(now: Head) -> None:
    """An uneven one: a lock of hair hangs at one side."""

    def drawn(head: Head) -> Mask:
        cos, sin = math.cos(head.roll), math.sin(head.roll)
        u, v = 0.35 * head.width, 0.55 * head.height
        x, y = head.x + cos * u - sin * v, head.y + sin * u + cos * v
        lock = disc(x, y, 0.3 * head.width, 0.8 * head.height, head.roll)
        return disc(head.x, head.y, head.width, head.height, head.roll) | lock

    shape = shape_of(seen(drawn(HEAD), around(HEAD)), anchor_of_head(HEAD))
    parts = laid(shape, anchor_of_head(now))
    assert overlap(parts > 0, drawn(now)) > 0.9


def test_a_map_may_be_smaller_than_the_frame() -> None:
    mask = disc(160, 100, 48, 56)
    shape = shape_of(seen(mask, around(HEAD)), anchor_of_head(HEAD))
    half = laid(shape, anchor_of_head(HEAD), 0.5)
    again = cv2.resize(half, SIZE_WH, interpolation=cv2.INTER_NEAREST) > 0
    assert overlap(again, mask) > 0.9


def test_pieces_that_do_not_touch_the_head_are_somebody_elses() -> None:
    mine = disc(160, 100, 48, 56)
    other = disc(225, 130, 30, 30)
    look, anchor = seen(mine | other, around(HEAD)), anchor_of_head(HEAD)
    alone = laid(shape_of(look, anchor, seed=head_seed()), anchor) > 0
    assert overlap(alone, mine) > 0.93
    assert not (alone & other).any()
    everything = laid(shape_of(look, anchor), anchor) > 0
    assert (everything & other).any()


def test_a_piece_that_hangs_on_the_head_stays() -> None:
    hair = disc(185, 130, 20, 70)
    mine = disc(160, 100, 48, 56) | hair
    anchor = anchor_of_head(HEAD)
    parts = laid(shape_of(seen(mine, around(HEAD)), anchor, seed=head_seed()), anchor)
    assert (parts[hair] > 0).mean() > 0.95


def test_where_only_others_are_seen_nothing_is_laid() -> None:
    other = disc(235, 150, 30, 30)
    anchor = anchor_of_head(HEAD)
    shape = shape_of(seen(other, around(HEAD)), anchor, seed=head_seed())
    assert shape.area == 0
    assert not laid(shape, anchor).any()


def test_a_margin_grows_the_shape_on_all_sides_by_a_share_of_the_head() -> None:
    mask = disc(160, 100, 48, 56)
    look, anchor = seen(mask, around(HEAD)), anchor_of_head(HEAD)
    bare, grown = (
        laid(shape_of(look, anchor), anchor),
        laid(shape_of(look, anchor, margin=4), anchor),
    )
    assert (grown[bare > 0] > 0).all()
    cell_w, cell_h = HEAD.width / 32, HEAD.height / 32
    for axis, cell in ((1, cell_h), (0, cell_w)):
        before = np.flatnonzero((bare > 0).any(axis=axis))
        after = np.flatnonzero((grown > 0).any(axis=axis))
        assert before[0] - after[0] == pytest.approx(4 * cell, abs=1.5)
        assert after[-1] - before[-1] == pytest.approx(4 * cell, abs=1.5)


def test_parts_that_are_uncertain_between_each_other_are_hidden_together() -> None:
    """What is hair or face, but not known which."""
    mask = disc(160, 100, 48, 56)
    look = seen(mask, around(HEAD))
    planes = look.planes.copy()
    planes[1] = planes[2] = (0.4 * planes[2]).astype(np.uint8)
    doubtful = PartLook(planes, look.matrix)
    anchor = anchor_of_head(HEAD)
    assert overlap(laid(shape_of(doubtful, anchor), anchor) > 0, mask) > 0.9
    assert not laid(shape_of(doubtful, anchor, threshold=250), anchor).any()


def test_a_threshold_may_differ_from_cell_to_cell() -> None:
    mask = disc(160, 100, 48, 56)
    anchor = anchor_of_head(HEAD)
    width, height = anchor.grid_wh
    halves = np.full((height, width), 127, np.uint16)
    halves[:, : width // 2] = 0xFFFF
    shape = Shape.of(
        seen(mask, around(HEAD)),
        anchor,
        label_of=NAMES,
        threshold=halves,
        seed=None,
        margin_cells=0,
    )
    parts = laid(shape, anchor)
    assert not parts[:, :155].any()
    assert parts[mask & (np.arange(SIZE_WH[0]) > 165)].all()


def test_what_lies_outside_the_frame_is_not_counted() -> None:
    """A crop is black there, and a network may see anything in it."""
    head = Head(4, 100, 48, 56)
    look = seen(np.ones((SIZE_WH[1], SIZE_WH[0]), np.bool_), around(head))
    everywhere = np.full_like(look.planes, 255)
    looked = PartLook.inside(everywhere, look.matrix, SIZE_WH)
    (across, _, x), (_, down, y) = look.matrix.tolist()
    height, width = looked.planes.shape[1:]
    columns, rows = x + across * np.arange(width) + 0.5, y + down * np.arange(height) + 0.5
    inside = (columns >= 0) & (columns <= SIZE_WH[0])
    inside = inside & ((rows >= 0) & (rows <= SIZE_WH[1]))[:, None]
    assert ((looked.planes > 0) == inside).all()
    assert 0 < inside.mean() < 1


def test_a_look_that_lies_in_the_frame_is_kept_as_it_is() -> None:
    planes = np.full((3, 9, 12), 200, np.uint8)
    matrix = np.array([[2.0, 0, 40], [0, 2.0, 50]])
    assert PartLook.inside(planes, matrix, SIZE_WH).planes is planes


def test_shapes_united_cover_what_either_covers() -> None:
    anchor = anchor_of_head(HEAD)
    left = shape_of(seen(disc(150, 100, 40, 50), around(HEAD)), anchor)
    right = shape_of(seen(disc(175, 110, 40, 50), around(HEAD), part=1), anchor)
    both = left.united(right)
    assert ((both.labels > 0) == ((left.labels > 0) | (right.labels > 0))).all()
    assert (both.labels[left.labels > 0] == left.labels[left.labels > 0]).all()
    assert left.united(None) is left
    assert left.united(left) is left


def test_a_body_has_a_frame_of_reference_of_its_own() -> None:
    box, later = Rect(60, 40, 140, 220), Rect(160, 60, 240, 200)
    arm = disc(130, 120, 44, 30)  # reaches out of the box
    look = seen(arm, Rect(40, 20, 190, 235))
    shape = shape_of(look, anchor_of_body(box))
    assert overlap(laid(shape, anchor_of_body(box)) > 0, arm) > 0.8
    moved = laid(shape, anchor_of_body(later)) > 0
    rows, columns = np.nonzero(moved)
    assert columns.mean() == pytest.approx(130 + 100, abs=2)
    assert rows.mean() == pytest.approx(60 + (120 - 40) * 140 / 180, abs=2)


# --- laying on a map ---


def empty_map() -> tuple[U8, U8]:
    return np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8)


def test_what_is_covered_already_stays() -> None:
    parts, tracks = empty_map()
    put_on(parts, tracks, np.arange(80) < np.full((60, 1), 40), 3, 1)
    put_on(parts, tracks, np.ones((60, 80), np.bool_), 5, 2)
    assert (parts[:, :40] == 3).all()
    assert (parts[:, 40:] == 5).all()
    assert (tracks[:, :40] == 1).all()
    assert (tracks[:, 40:] == 2).all()


def test_a_cell_whose_name_is_unknown_is_covered_all_the_same() -> None:
    parts, tracks = empty_map()
    put_on(parts, tracks, np.ones((60, 80), np.bool_), np.zeros((60, 80), np.uint8), 2)
    assert (parts > 0).all()


@pytest.mark.parametrize("x", [-30, -5, 40, 78, 120])
@pytest.mark.parametrize("y", [-40, 0, 30, 58, 100])
def test_whatever_lies_over_the_border_is_laid_within_it(x: float, y: float) -> None:
    head = Head(x, y, 20, 26, 0.3)
    for draw in ("ellipse", "box", "shape"):
        parts, tracks = empty_map()
        if draw == "ellipse":
            lay_ellipse(parts, tracks, 1, head, 3, 1.0)
        elif draw == "box":
            lay_box(parts, tracks, 1, head.rect(), 3, 1.0)
        else:
            anchor = anchor_of_head(head)
            full = np.full(anchor.grid_wh[::-1], 3, np.uint8)
            Shape(full).lay(parts, tracks, 1, anchor, 1.0)
        if 0 <= x <= 80 and 0 <= y <= 60:
            assert parts[min(59, int(y)), min(79, int(x))] == 3, draw
        assert ((parts > 0) == (tracks == 1)).all()


def test_an_ellipse_is_laid_where_the_head_is() -> None:
    parts, tracks = np.zeros((240, 320), np.uint8), np.zeros((240, 320), np.uint8)
    lay_ellipse(parts, tracks, 4, TILTED, 9, 1.0)
    assert overlap(parts == 9, disc(150, 110, 48, 56, TILTED.roll)) > 0.95
    assert set(np.unique(tracks)) == {0, 4}


def test_a_box_covers_every_pixel_that_it_touches() -> None:
    parts, tracks = empty_map()
    lay_box(parts, tracks, 1, Rect(10.6, 20.2, 14.3, 22.7), 9, 1.0)
    rows, columns = np.nonzero(parts)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 22, 10, 14)


def test_thresholds_rise_with_the_distance_from_the_head() -> None:
    levels = head_thresholds(77).astype(int)
    inside = head_seed(0.9) > 0
    assert (levels[inside] <= 128).all()
    centre = np.argwhere(inside).mean(axis=0).round().astype(int)
    assert levels[centre[0], centre[1]] == 77
    # Hair hangs down: below, surely seen hair may be covered; far beside and above, nothing.
    column = levels[:, centre[1]]
    assert (np.diff(column[centre[0] :]) >= 0).all()
    assert (levels[:, 0] > 255).all()
    assert (levels[0] > 255).all()


def test_holes_and_notches_are_filled_and_nothing_is_taken() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[10:50, 10:50] = 1
    mask[25:35, 25:35] = 0  # a hole
    mask[10:14, 28:31] = 0  # a notch
    whole = filled(mask)
    assert (whole >= mask).all()
    assert whole[12:48, 12:48].all()
    assert whole[11, 29]
    assert not filled(np.zeros_like(mask)).any()


def test_what_reaches_the_grids_border_does_not_fill_it() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[:, 20:24] = 1
    mask[30:34, :] = 1
    assert filled(mask).mean() < 0.25
