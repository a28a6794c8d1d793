"""Where a head is: from a face, from a body, carried by a camera, between two frames."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m2fp_stream.tracking.heads import Head, Rect, of_body, of_face

FACE = Rect(100, 80, 140, 130)


def test_a_head_holds_its_face_and_reaches_further_up_than_down() -> None:
    head = of_face(FACE).rect()
    assert head.x1 < FACE.x1
    assert head.x2 > FACE.x2
    assert FACE.y1 - head.y1 > head.y2 - FACE.y2 > 0
    assert head.x == pytest.approx(FACE.x)


@pytest.mark.parametrize("degrees", [0, 30, 90, 180, -90])
def test_a_tilted_heads_crown_lies_where_the_face_points(degrees: float) -> None:
    head = of_face(FACE, math.radians(degrees))
    up = math.sin(head.roll), -math.cos(head.roll)
    away = (head.x - FACE.x) * up[0] + (head.y - FACE.y) * up[1]
    beside = (head.x - FACE.x) * up[1] - (head.y - FACE.y) * up[0]
    assert away > 0
    assert beside == pytest.approx(0, abs=1e-9)
    assert head.roll == pytest.approx(math.radians(degrees))


def test_twice_the_face_is_twice_the_head() -> None:
    small, large = of_face(FACE), of_face(Rect(200, 160, 280, 260))
    assert (large.width, large.height) == pytest.approx((2 * small.width, 2 * small.height))
    assert (large.x, large.y) == pytest.approx((2 * small.x, 2 * small.y))


@pytest.mark.parametrize(
    "body",
    [Rect(100, 50, 200, 350), Rect(100, 50, 300, 250), Rect(100, 50, 400, 150), Rect(9, 9, 9, 9)],
    ids=["standing", "seated", "lying", "empty"],
)
def test_the_head_of_a_body_lies_at_the_middle_of_its_upper_edge(body: Rect) -> None:
    head = of_body(body)
    assert head.x == body.x
    assert head.rect().y1 <= body.y1 <= head.rect().y2
    assert head.rect().y2 < body.y1 + 0.5 * max(body.height, 4)
    assert min(head.width, head.height) > 0
    assert head.roll == 0


def test_a_rect_knows_what_it_shares() -> None:
    a, b = Rect(0, 0, 10, 10), Rect(5, 5, 15, 25)
    assert a.shared(b) == b.shared(a) == 25
    assert a.iou(b) == pytest.approx(25 / (100 + 200 - 25))
    assert a.iou(a) == 1
    assert a.shared(Rect(20, 0, 30, 10)) == 0
    assert Rect(5, 5, 4, 9).area == 0
    assert a.holds(10, 0)
    assert not a.holds(10.1, 0)
    assert a.grown(1, 2, 3) == Rect(-1, -2, 11, 13)
    assert a.moved(1, -2) == Rect(1, -2, 11, 8)
    assert a.toward(b, 0.5) == Rect(2.5, 2.5, 12.5, 17.5)


def test_the_box_around_a_tilted_ellipse_holds_it_and_nothing_more() -> None:
    head = Head(50, 60, 20, 40, math.radians(30))
    angles = np.linspace(0, 2 * math.pi, 721)
    across, down = 10 * np.cos(angles), 20 * np.sin(angles)
    x = 50 + across * math.cos(head.roll) - down * math.sin(head.roll)
    y = 60 + across * math.sin(head.roll) + down * math.cos(head.roll)
    rect = head.rect()
    assert (rect.x1, rect.x2) == pytest.approx((x.min(), x.max()), abs=0.01)
    assert (rect.y1, rect.y2) == pytest.approx((y.min(), y.max()), abs=0.01)


@pytest.mark.parametrize(
    ("start", "end", "middle"), [(10, 30, 20), (170, -170, 180), (-170, 170, -180), (0, 90, 45)]
)
def test_heads_turn_the_short_way_round(start: float, end: float, middle: float) -> None:
    first = Head(0, 0, 10, 20, math.radians(start))
    second = Head(10, 20, 30, 40, math.radians(end))
    between = first.toward(second, 0.5)
    assert (between.x, between.y, between.width, between.height) == (5, 10, 20, 30)
    assert math.cos(between.roll - math.radians(middle)) == pytest.approx(1)
    assert first.toward(second, 0) == first


def test_a_head_is_carried_by_a_camera_that_turns_zooms_and_pans() -> None:
    angle, zoom = math.radians(20), 1.5
    a, c = zoom * math.cos(angle), zoom * math.sin(angle)
    motion = np.array([[a, -c, 7], [c, a, -3]], np.float32)
    head = Head(10, 20, 30, 40, 0.1)
    carried = head.carried(motion)
    assert (carried.x, carried.y) == pytest.approx((a * 10 - c * 20 + 7, c * 10 + a * 20 - 3))
    assert (carried.width, carried.height) == pytest.approx((45, 60))
    assert carried.roll == pytest.approx(0.1 + angle)
    assert head.carried(None) is head


def test_the_distance_of_heads_is_told_in_sizes_of_the_larger() -> None:
    small, large = Head(0, 0, 10, 20), Head(30, 40, 60, 100)
    assert small.distance(large) == large.distance(small) == 0.5
    assert Head(0, 0, 0, 0).distance(Head(3, 4, 0, 0)) == 5
    assert large.scaled(2).size == 200
    assert large.moved(1, 2) == Head(31, 42, 60, 100)


@pytest.mark.parametrize(("turn", "place"), [(0, (300, 122.5)), (2, (300, 277.5))])
def test_a_body_that_hangs_has_its_head_at_its_lower_edge(
    turn: int, place: tuple[float, float]
) -> None:
    head = of_body(Rect(250, 100, 350, 300), turn)
    assert (head.x, head.y) == pytest.approx(place, abs=5)
    assert math.cos(head.roll) == pytest.approx(1 if turn == 0 else -1)


@pytest.mark.parametrize("turn", [1, 3])
def test_a_body_that_lies_has_its_head_where_its_crown_points(turn: int) -> None:
    upright = of_body(Rect(-50, -100, 50, 100))
    head = of_body(Rect(200, 150, 400, 250), turn)
    side = 1 if turn == 1 else -1
    assert (head.x - 300, head.y - 200) == pytest.approx((-side * upright.y, 0))
    assert (head.width, head.height) == (upright.width, upright.height)
