"""People who lie or hang: what looks at turned copies say of the upright frame."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m2fp_stream.tracking.heads import Head, Rect, of_body, of_face
from m2fp_stream.tracking.sightings import Body, Face, Sighting
from m2fp_stream.tracking.track import Track
from m2fp_stream.tracking.tracker import Tracker
from m2fp_stream.tracking.turned import (
    TURNS,
    TurnedLook,
    around,
    best_of,
    quarters,
    same_person,
    turned_sightings,
)

SIZE_WH = (640, 360)


def in_copy(x: float, y: float, turn: int) -> tuple[int, int]:
    """Where a pixel of the frame lies in the copy that numpy turns."""
    frame = np.zeros((SIZE_WH[1], SIZE_WH[0]), np.uint8)
    frame[int(y), int(x)] = 1
    rows, columns = np.nonzero(np.rot90(frame, turn))
    return int(columns[0]), int(rows[0])


def face_of(x: float, y: float, score: float = 0.9) -> Face:
    return Face(Rect(x - 20, y - 24, x + 20, y + 24), score)


@pytest.mark.parametrize("turn", TURNS)
def test_a_finding_comes_back_to_its_place_and_its_crown_points_where_the_copy_had_up(
    turn: int,
) -> None:
    x, y = in_copy(400, 150, turn)
    face = face_of(x + 0.5, y + 0.5)
    (seen,) = turned_sightings(TurnedLook(turn, [face], []), SIZE_WH)
    assert seen.face_box is not None
    assert (seen.face_box.x, seen.face_box.y) == pytest.approx((400.5, 150.5))
    crown = of_face(face.box).y - face.box.y  # up in the copy: below zero
    up = {1: (1, 0), 2: (0, 1), 3: (-1, 0)}[turn]
    assert (seen.head.x - 400.5, seen.head.y - 150.5) == pytest.approx(
        (-crown * up[0], -crown * up[1])
    )
    assert quarters(seen.head.roll) == turn == seen.turn


@pytest.mark.parametrize("turn", TURNS)
def test_the_head_of_a_turned_body_is_at_the_end_that_is_up_in_the_copy(turn: int) -> None:
    width, height = SIZE_WH[::-1] if turn % 2 else SIZE_WH
    box = Rect(width / 2 - 40, height / 2 - 100, width / 2 + 40, height / 2 + 100)
    (seen,) = turned_sightings(TurnedLook(turn, [], [Body(box, 0.8)]), SIZE_WH)
    away = box.y - of_body(box).y
    up = {1: (1, 0), 2: (0, 1), 3: (-1, 0)}[turn]
    assert (seen.head.x, seen.head.y) == pytest.approx((320 + away * up[0], 180 + away * up[1]))
    assert seen.box is not None
    assert (seen.box.width, seen.box.height) == ((200, 80) if turn % 2 else (80, 200))


def test_weak_findings_of_turned_looks_are_not_believed() -> None:
    look = TurnedLook(2, [face_of(100, 100, 0.25)], [Body(Rect(300, 50, 400, 350), 0.3)])
    assert turned_sightings(look, SIZE_WH) == []


@pytest.mark.parametrize("turn", [0, *TURNS])
def test_up_is_where_the_crown_points(turn: int) -> None:
    head = Head(300, 200, 40, 50, turn * math.pi / 2)
    box = around(head, 1.0, 2.0, 3.0)
    reach = {"left": 300 - box.x1, "top": 200 - box.y1, "right": box.x2 - 300}
    reach["bottom"] = box.y2 - 200
    order = ["top", "right", "bottom", "left"]
    assert reach[order[turn]] == 100
    assert reach[order[(turn + 2) % 4]] == 150
    assert reach[order[(turn + 1) % 4]] == reach[order[(turn + 3) % 4]] == 40


UPRIGHT = Sighting(Head(300, 60, 40, 50), body=0.6, box=Rect(250, 40, 350, 340))


def hanging(score: float, face: float = 0.0) -> Sighting:
    """The same body, its head at the other end."""
    return Sighting(Head(300, 320, 40, 50, math.pi), face=face, body=score, box=UPRIGHT.box, turn=2)


def nowhere(_: Sighting) -> bool:
    """Close looks saw no head."""
    return True


def there(_: Sighting) -> bool:
    return False


def test_of_two_findings_of_a_headless_body_the_surer_one_says_where_the_head_is() -> None:
    assert same_person(UPRIGHT, hanging(0.8))
    assert best_of([UPRIGHT], [hanging(0.8)], nowhere) == [hanging(0.8)]
    assert best_of([UPRIGHT], [hanging(0.62)], nowhere) == [UPRIGHT]


def test_somebody_from_behind_who_is_found_upside_down_as_surely_stays_upright() -> None:
    assert best_of([UPRIGHT], [hanging(0.95)], there) == [UPRIGHT]
    hair = hanging(0.6, face=0.6)
    assert best_of([UPRIGHT], [hair], there) == [UPRIGHT]


def test_a_face_says_more_than_a_body_without_one() -> None:
    shown = hanging(0.4, face=0.9)
    assert best_of([UPRIGHT], [shown], there) == [shown]
    upright = Sighting(UPRIGHT.head, face=0.8, body=0.6, box=UPRIGHT.box)
    assert best_of([upright], [shown], there) == [upright]


def test_whom_no_upright_look_saw_is_added_once() -> None:
    other = Sighting(Head(500, 100, 40, 50), face=0.9)
    twice = [hanging(0.7), Sighting(Head(250, 200, 40, 50, -math.pi / 2), body=0.5, turn=3)]
    twice[1] = Sighting(twice[1].head, body=0.5, box=UPRIGHT.box, turn=3)
    assert best_of([other], twice, there) == [other, hanging(0.7)]


def tracker() -> Tracker:
    return Tracker(max_gap=15, body_gap=25, far_gap=100, far_px=50, strong=0.45)


def seen(tracker: Tracker, *sightings: Sighting, frame: int) -> Track:
    tracker.step(frame, sightings, looked_for_people=True)
    return tracker.tracks[0]


def test_where_a_body_has_its_head_is_corrected_for_the_frames_before() -> None:
    """An upright look put it at the wrong end, until a turned look said better."""
    people = tracker()
    track = seen(people, UPRIGHT, frame=0)
    assert track.head_at(0).y == 60
    track = seen(people, hanging(0.8), frame=3)
    assert len(people.tracks) == 1
    assert track.turn == 2
    assert [track.head_at(n).y for n in (0, 1, 3)] == pytest.approx([320, 320, 320])
    track = seen(people, UPRIGHT, frame=6)
    assert track.head_at(6).y == pytest.approx(320)
    assert quarters(track.head_at(6).roll) == 2
    assert track.velocity == pytest.approx((0, 0))


def test_an_upright_face_in_a_body_that_hangs_is_not_the_persons() -> None:
    people = tracker()
    seen(people, hanging(0.8, face=0.9), frame=0)
    ghost = Sighting(Head(310, 150, 40, 50), face=0.4, body=0.4, box=UPRIGHT.box)
    track = seen(people, ghost, frame=1)
    assert len(people.tracks) == 2
    assert track.last == 0
    assert track.turn == 2


def test_who_gets_up_is_upright_again() -> None:
    people = tracker()
    seen(people, Sighting(Head(300, 200, 50, 50, math.pi / 2), face=0.8, turn=1), frame=0)
    track = seen(people, Sighting(Head(302, 199, 50, 50), face=0.8), frame=1)
    assert len(people.tracks) == 1
    assert track.turn == 0
