"""People as tracks, on tables of boxes: who is joined to whom, and where somebody is between."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.tracking.heads import Rect, of_body, of_face
from m2fp_stream.tracking.sightings import Body, Face, Sighting, sightings
from m2fp_stream.tracking.track import Track
from m2fp_stream.tracking.tracker import Tracker

FAR_PX = 100.0


def tracker() -> Tracker:
    return Tracker(max_gap=12, body_gap=20, far_gap=50, far_px=FAR_PX, strong=0.5)


def face_at(x: float, y: float, size: float = 40, score: float = 0.9) -> Face:
    """A face with that centre."""
    return Face(Rect(x - size / 2, y - size * 0.6, x + size / 2, y + size * 0.6), score)


def body_at(x: float, top: float, width: float = 110, height: float = 320) -> Body:
    return Body(Rect(x - width / 2, top, x + width / 2, top + height), 0.9)


def feed(
    table: Sequence[Sequence[Face | Body]],
    *,
    camera: NDArray[np.float32] | None = None,
    people: Callable[[int], bool] = lambda n: True,
    into: Tracker | None = None,
) -> Tracker:
    """Feeds one row of the table a frame."""
    made = into or tracker()
    for number, row in enumerate(table):
        faces = [one for one in row if isinstance(one, Face)]
        bodies = [one for one in row if isinstance(one, Body)]
        made.step(number, sightings(faces, bodies), looked_for_people=people(number), camera=camera)
    return made


def only(made: Tracker) -> Track:
    (track,) = made.tracks
    return track


# --- one frame ---


def test_a_face_and_the_body_it_is_in_are_one_person() -> None:
    face, body = face_at(200, 140), body_at(200, 100)
    (seen,) = sightings([face], [body])
    assert (seen.face, seen.body) == (0.9, 0.9)
    assert seen.box == body.box
    assert seen.face_box == face.box
    assert seen.head == of_face(face.box)


def test_a_body_without_a_face_is_a_person_with_a_head_on_top() -> None:
    body = body_at(200, 100)
    (seen,) = sightings([], [body])
    assert seen == Sighting(of_body(body.box), body=0.9, box=body.box)


@pytest.mark.parametrize(
    "face",
    [face_at(400, 140), face_at(200, 380), face_at(200, 140, size=8)],
    ids=["beside", "at the feet", "far too small"],
)
def test_a_face_that_is_not_the_bodys_is_somebody_else(face: Face) -> None:
    body = body_at(200, 100)
    seen = sightings([face], [body])
    assert len(seen) == 2
    assert [one.box for one in seen] == [None, body.box]


def test_of_two_faces_in_a_body_the_one_at_its_head_gets_it() -> None:
    body = body_at(200, 100)
    near, beside = face_at(200, 135), face_at(240, 160)
    seen = sightings([beside, near], [body])
    assert len(seen) == 2
    owner = {one.face_box: one.box for one in seen}
    assert owner == {near.box: body.box, beside.box: None}


def test_two_people_side_by_side_keep_their_own_faces() -> None:
    bodies = [body_at(200, 100), body_at(320, 100)]
    faces = [face_at(320, 140), face_at(200, 140)]
    seen = sightings(faces, bodies)
    assert [one.box for one in seen] == [bodies[1].box, bodies[0].box]


# --- a life ---


def test_somebody_who_walks_is_one_track() -> None:
    track = only(feed([[face_at(50 + 6 * n, 100 + n)] for n in range(60)]))
    assert (track.born, track.last, track.sightings) == (0, 59, 60)
    assert track.velocity == pytest.approx((6, 1), abs=0.1)
    assert track.speed(at_end=True) == pytest.approx((6, 1), abs=0.1)


def test_two_people_who_stand_apart_are_two_tracks() -> None:
    made = feed([[face_at(100, 100), face_at(300, 120)]] * 30)
    assert [track.sightings for track in made.tracks] == [30, 30]
    assert [track.head_at(29).x for track in made.tracks] == [100, 300]


@pytest.mark.parametrize("blind", [0, 3], ids=["seen throughout", "one hides the other"])
def test_people_who_cross_keep_their_ids(blind: int) -> None:
    """Each goes on as he went; where they meet, one may not be seen."""
    table = []
    for n in range(50):
        left, right = face_at(60 + 6 * n, 100), face_at(360 - 6 * n, 108)
        table.append([left] if blind and abs(n - 25) < blind else [left, right])
    made = feed(table)
    first, second = made.tracks
    assert first.head_at(0).x < second.head_at(0).x
    assert first.head_at(49).x == pytest.approx(60 + 6 * 49)
    assert second.head_at(49).x == pytest.approx(360 - 6 * 49)
    assert len(made.tracks) == 2


def test_somebody_not_seen_for_a_while_goes_on_in_a_straight_line() -> None:
    table = [[face_at(50 + 4 * n, 100)] if not 20 <= n < 28 else [] for n in range(40)]
    track = only(feed(table))
    for n in range(40):
        assert track.head_at(n).x == pytest.approx(50 + 4 * n)
        assert track.gap(n) == (0 if not 20 <= n < 28 else min(n - 19, 28 - n))


@pytest.mark.parametrize(("gap", "tracks"), [(11, 1), (12, 2)])
def test_a_face_unseen_for_too_long_is_somebody_new(gap: int, tracks: int) -> None:
    table = [[face_at(100, 100)]] * 10 + [[]] * gap + [[face_at(100, 100)]] * 10
    assert len(feed(table).tracks) == tracks


@pytest.mark.parametrize(
    ("height", "gap", "tracks"), [(320, 19, 1), (320, 20, 2), (60, 49, 1), (60, 50, 2)]
)
def test_bodies_that_few_looks_see_may_be_unseen_for_longer(
    height: int, gap: int, tracks: int
) -> None:
    body = body_at(200, 100, height / 3, height)
    table: list[list[Face | Body]] = [[body]] * 10
    table += [[] for _ in range(gap)]
    table += [[body]] * 10
    assert len(feed(table).tracks) == tracks


def test_is_far_means_small_and_without_a_face() -> None:
    small, large = body_at(200, 100, 30, 60), body_at(200, 100)
    made = feed([[small]])
    assert made.is_far(only(made))
    rows: list[list[Face | Body]] = [[large], [small, face_at(200, 105, 10)]]
    rows.append([face_at(200, 105, 10)])
    for row in rows:
        made = feed([row])
        assert not made.is_far(only(made))


def test_a_panning_cameras_motion_is_taken_out() -> None:
    """The picture jumps further than any head moves."""
    jump = 160.0
    camera = np.array([[1, 0, jump], [0, 1, 0]], np.float32)
    steady = feed([[face_at(50 + jump * n, 100)] for n in range(12)], camera=camera)
    assert only(steady).sightings == 12
    assert only(steady).velocity == pytest.approx((0, 0), abs=0.01)
    made = tracker()  # it stops and goes: the velocity alone would not do
    x = 50.0
    for number in range(12):
        moves = number % 3 == 2
        x += jump if moves else 0.0
        made.step(
            number,
            sightings([face_at(x, 100)], []),
            looked_for_people=True,
            camera=camera if moves else None,
        )
    assert only(made).sightings == 12


def test_a_head_that_jumps_is_somebody_else() -> None:
    table = [[face_at(50, 100)]] * 10 + [[face_at(300, 100)]] * 10
    assert [track.sightings for track in feed(table).tracks] == [10, 10]


def test_a_head_twice_as_large_in_the_same_place_is_somebody_else() -> None:
    table = [[face_at(100, 100)]] * 10 + [[face_at(100, 100, 100)]] * 10
    assert len(feed(table).tracks) == 2


def test_who_runs_is_joined_after_his_first_sighting_though_no_velocity_is_known() -> None:
    track = only(feed([[face_at(50 + 90 * n, 100)] for n in range(6)]))
    assert track.sightings == 6


def test_weak_hits_that_become_strong_are_one_track_from_the_first() -> None:
    table = [[face_at(100 + n, 100, score=0.16 + 0.01 * n)] for n in range(60)]
    track = only(feed(table))
    assert track.born == 0
    assert track.best_face == pytest.approx(0.75)


def test_a_strong_track_is_joined_before_a_weak_one() -> None:
    """A ghost beside somebody does not take his sighting."""
    table = [[face_at(100, 100), face_at(130, 100, score=0.2)]] * 6
    table += [[face_at(112, 100)]]
    strong, weak = feed(table).tracks
    assert strong.last == 6
    assert weak.last == 5


def test_a_cut_ends_every_track() -> None:
    made = feed([[face_at(100, 100)]] * 10)
    made.cut(10)
    made.step(10, sightings([face_at(100, 100)], []), looked_for_people=True)
    before, after = made.tracks
    assert (before.last, before.end) == (9, 10)
    assert (after.born, after.start, after.end) == (10, 10, None)
    assert made.live == [after]


def test_a_cut_ends_also_those_who_had_left() -> None:
    made = feed([[face_at(100, 100)]] * 5 + [[]] * 30)
    assert made.live == []
    made.cut(35)
    assert only(made).end == 35
    made.cut(50)
    assert only(made).end == 35


# --- face and body of one person ---


def test_somebody_who_turns_round_stays_one_track() -> None:
    """Face and body, then the body alone, then a face again."""
    body = body_at(200, 100)
    table: list[list[Face | Body]] = [[face_at(200, 140), body]] * 10
    table += [[body]] * 15
    table += [[face_at(200, 140), body]] * 10
    track = only(feed(table))
    assert track.sightings == 35


def test_a_body_that_is_looked_for_now_and_then_holds_whose_face_is_lost() -> None:
    """Also of somebody close to the camera, whose head is not where the body lets expect it."""
    body = body_at(200, 100, 110, 150)
    table: list[list[Face | Body]] = []
    for n in range(48):
        row: list[Face | Body] = [face_at(200, 140, 60)] if n < 22 else []
        table.append([*row, body] if n % 8 == 0 else row)
    track = only(feed(table, people=lambda n: n % 8 == 0))
    assert track.last == 40
    seen, expected = of_face(face_at(200, 140, 60).box), track.head_at(40)
    assert (expected.x, expected.y) == pytest.approx((seen.x, seen.y))
    assert (expected.width, expected.height) == pytest.approx((seen.width, seen.height))


def test_a_face_that_appears_in_a_body_is_its_persons() -> None:
    """Also where the head is not where one would expect it: leaning."""
    body = body_at(200, 100, 260, 320)
    table: list[list[Face | Body]] = [[body]] * 10
    table += [[face_at(290, 190)]] * 10
    assert only(feed(table)).sightings == 20


def test_where_the_head_was_in_the_body_holds_for_the_body_alone() -> None:
    body = body_at(200, 100)
    moved = body_at(260, 120)
    table: list[list[Face | Body]] = [[face_at(215, 150), body]] * 5
    table += [[moved]] * 12
    track = only(feed(table))
    seen, expected = of_face(face_at(215, 150).box), track.head_at(15)
    assert (expected.x, expected.y) == pytest.approx((seen.x + 60, seen.y + 20))
    assert (expected.width, expected.height) == pytest.approx((seen.width, seen.height))


def test_a_body_alone_between_two_faces_takes_its_head_from_them() -> None:
    table: list[list[Face | Body]] = [[face_at(200, 140)]] * 5
    table += [[body_at(206, 100)]]
    table += [[face_at(212, 140)]] * 5
    assert only(feed(table)).head_at(5).x == pytest.approx(206)
    assert only(feed(table)).head_at(5).y == pytest.approx(of_face(face_at(0, 140).box).y)


def test_looks_for_people_that_saw_the_body_are_counted() -> None:
    table: list[list[Face | Body]] = [[face_at(200, 140), body_at(200, 100)], [face_at(200, 140)]]
    track = only(feed(table * 10, people=lambda n: n < 10))
    assert (track.looked, track.supported) == (10, 5)


def test_where_the_body_is_between_looks_and_beyond_them() -> None:
    table: list[list[Face | Body]] = [[face_at(100 + 5 * n, 140)] for n in range(30)]
    for n in (10, 20):
        table[n].append(body_at(100 + 5 * n, 100))
    track = only(feed(table, people=lambda n: n in (10, 20)))
    for n in range(30):  # between, before and after: with the head
        box = track.box_at(n)
        assert box is not None
        assert box.x == pytest.approx(100 + 5 * n)
        assert (box.width, box.height) == pytest.approx((110, 320))
    assert only(feed([[face_at(100, 140)]])).box_at(0) is None


@pytest.mark.parametrize("ends_with", ["face", "body", "both"])
def test_beyond_its_ends_it_stays_where_it_was_seen_last(ends_with: str) -> None:
    face, body = face_at(200, 140), body_at(200, 100)
    rows: dict[str, list[Face | Body]] = {"face": [face], "body": [body], "both": [face, body]}
    table: list[list[Face | Body]] = [[], [], rows[ends_with], rows["both"], rows[ends_with]]
    track = only(feed(table))
    for number in (0, 1, 2, 4, 5, 9):
        assert track.head_at(number) == track.head_at(min(4, max(2, number)))
        box = track.box_at(number)
        assert box is not None
        assert box.x == pytest.approx(body.box.x, abs=0.01)


def test_a_face_box_is_interpolated_and_not_believed_for_ever() -> None:
    body = body_at(200, 100, 300, 320)
    table: list[list[Face | Body]] = [[face_at(200, 140), body]] * 5
    table += [[body]] * 4
    table += [[face_at(225, 140), body]] * 5
    table += [[body]] * 15
    track = only(feed(table))
    box = track.face_box_at(6, 24)
    assert box is not None
    assert box.x == pytest.approx(200 + 25 * 2 / 5)
    late = track.face_box_at(20, 24)
    assert late is not None
    assert late.width == pytest.approx(40)
    assert track.face_box_at(28, 10) is None


def test_a_second_parsers_sighting_is_sure() -> None:
    made = tracker()
    head = of_face(face_at(100, 100).box)
    made.step(0, [Sighting(head, body=0.3, sure=True)], looked_for_people=True)
    assert only(made).best == 1.0


# --- memory ---


def test_what_is_let_go_of_leaves_the_answers_for_recent_frames() -> None:
    table: list[list[Face | Body]] = [
        [face_at(50 + n, 140), body_at(50 + n, 100)] for n in range(300)
    ]
    for n in range(0, 300, 7):
        table[n] = [body_at(50 + n, 100)]
    kept, pruned = feed(table), feed(table)
    for number in range(32, 300, 32):
        pruned.forget_before(number - 60)
    one, other = only(kept), only(pruned)
    assert len(other.seen) < 110 < len(one.seen)
    assert (other.born, other.sightings) == (one.born, one.sightings) == (0, 300)
    assert (other.best_face, other.best_body) == (one.best_face, one.best_body)
    for number in range(240, 300):
        assert other.head_at(number) == one.head_at(number)
        assert other.box_at(number) == one.box_at(number)
        assert other.face_box_at(number, 24) == one.face_box_at(number, 24)
        assert other.gap(number) == one.gap(number)


def test_who_left_long_ago_is_forgotten_and_who_left_just_now_is_not() -> None:
    made = feed([[face_at(100, 100)]] * 5 + [[]] * 30 + [[face_at(300, 100)]] * 5 + [[]] * 30)
    assert len(made.tracks) == 2
    made.forget_before(20)
    assert [track.last for track in made.tracks] == [39]


def test_the_last_sighting_is_held_however_old() -> None:
    made = feed([[face_at(100, 100)]] * 5)
    made.forget_before(1000)
    assert only(made).head_at(4) == of_face(face_at(100, 100).box)
    assert only(made).last == 4


def test_a_tilted_face_gives_a_tilted_head() -> None:
    face = Face(face_at(100, 100).box, 0.9, math.radians(40))
    (seen,) = sightings([face], [])
    assert seen.head.roll == pytest.approx(math.radians(40))


def test_a_face_far_larger_than_a_body_is_not_the_bodys() -> None:
    giant = Face(Rect(100, 0, 400, 360), 0.5)
    small = Body(Rect(220, 60, 280, 220), 0.9)
    assert {(one.face > 0, one.body > 0) for one in sightings([giant], [small])} == {
        (True, False),
        (False, True),
    }
