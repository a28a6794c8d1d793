"""Answers that come frames late: the tracks are those that answers in time would have made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.tracking.heads import Rect, of_body
from m2fp_stream.tracking.sightings import Body, Face, sightings
from m2fp_stream.tracking.tracker import Tracker

from .test_tracking_people import body_at, face_at, only, tracker

Camera = NDArray[np.float32] | None


def pan(dx: float, dy: float = 0.0) -> Camera:
    return np.array([[1, 0, dx], [0, 1, dy]], np.float32)


class Stand:
    """A tracker whose looks for faces are answered in time, and those for people late."""

    def __init__(self) -> None:
        self.tracker = tracker()
        self.faces: list[list[Face]] = []
        self.cameras: list[Camera] = []

    def frame(self, *faces: Face, camera: Camera = None) -> int:
        number = len(self.faces)
        self.faces.append(list(faces))
        self.cameras.append(camera)
        self.tracker.step(number, sightings(faces, []), looked_for_people=False, camera=camera)
        return number

    def late(self, number: int, *bodies: Body) -> None:
        later = {n: self.cameras[n] for n in range(number + 1, len(self.faces))}
        seen = sightings(self.faces[number], bodies)
        self.tracker.late(number, seen, looked_for_people=True, cameras=later)


def test_a_body_seen_late_joins_the_face_that_was_seen_then() -> None:
    stand = Stand()
    for n in range(8):
        stand.frame(face_at(200 + 5 * n, 140))
    body = body_at(215, 100)
    stand.late(3, body)
    track = only(stand.tracker)
    assert track.seen[3].box == body.box
    assert (track.seen[3].face, track.best_body) == (0.9, body.score)
    assert (track.sightings, track.bodies, track.looked, track.supported) == (8, 1, 1, 1)
    now = track.predicted_body
    assert now is not None
    assert now.x == pytest.approx(body.box.x + 4 * 5)


def test_a_look_that_saw_no_body_where_a_face_was_is_counted() -> None:
    stand = Stand()
    for _ in range(4):
        stand.frame(face_at(200, 140))
    stand.late(1)
    track = only(stand.tracker)
    assert (track.looked, track.supported) == (1, 0)
    assert track.frames == [0, 1, 2, 3]


def test_a_body_alone_joins_the_track_that_was_expected_there() -> None:
    """He turned away after the fourth frame, and walks on."""
    stand = Stand()
    for n in range(4):
        stand.frame(face_at(200 + 6 * n, 140))
    for _ in range(4, 10):
        stand.frame()
    stand.late(6, body_at(236, 100))
    track = only(stand.tracker)
    assert (track.last, track.sightings) == (6, 5)
    assert track.predicted.x == pytest.approx(200 + 6 * 9, abs=6)


def test_a_body_between_two_faces_of_a_track_is_put_between_them() -> None:
    stand = Stand()
    for n in range(10):
        stand.frame(*([face_at(200, 140)] if n not in (4, 5, 6) else []))
    stand.late(5, body_at(200, 100))
    track = only(stand.tracker)
    assert list(track.frames) == [0, 1, 2, 3, 5, 7, 8, 9]
    assert list(track.seen) == list(track.frames)
    assert track.last == 9


def test_a_body_seen_before_the_first_face_is_of_the_same_person() -> None:
    stand = Stand()
    for n in range(8):
        stand.frame(*([face_at(200, 140)] if n >= 4 else []))
    stand.late(2, body_at(200, 100))
    track = only(stand.tracker)
    assert (track.born, track.first, track.last) == (2, 2, 7)


def test_somebody_unknown_starts_a_track_that_is_carried_to_now_by_the_camera() -> None:
    stand = Stand()
    for _ in range(6):
        stand.frame(face_at(500, 140), camera=pan(8, 2))
    body = body_at(150, 100)
    stand.late(2, body)
    _, new = stand.tracker.tracks
    assert (new.born, new.last, new.looked, new.supported) == (2, 2, 1, 1)
    head = of_body(body.box)
    assert new.predicted.x == pytest.approx(head.x + 3 * 8, abs=0.01)
    assert new.predicted.y == pytest.approx(head.y + 3 * 2, abs=0.01)
    assert new.expected(4).x == pytest.approx(head.x + 2 * 8, abs=0.01)


def test_a_late_answer_about_the_frame_at_hand_is_one_in_time() -> None:
    stand = Stand()
    stand.frame(face_at(200, 140))
    number = stand.frame(face_at(205, 140))
    stand.late(number, body_at(205, 100), body_at(500, 100))
    first, second = stand.tracker.tracks
    assert first.seen[number].box is not None
    assert second.born == number


def test_a_body_elsewhere_joins_nobody() -> None:
    stand = Stand()
    for _ in range(6):
        stand.frame(face_at(200, 140))
    stand.late(3, body_at(200, 100), body_at(330, 100))
    assert [track.sightings for track in stand.tracker.tracks] == [6, 1]
    assert stand.tracker.tracks[0].seen[3].box == body_at(200, 100).box


def test_faces_that_come_late_are_where_they_were_seen() -> None:
    stand = Stand()
    for n in range(4):
        stand.frame(face_at(200 + 6 * n, 140))
    number = stand.frame()
    stand.frame()
    stand.faces[number] = [face_at(224, 140)]
    seen = sightings(stand.faces[number], [])
    stand.tracker.late(number, seen, looked_for_people=False, cameras={number + 1: None})
    track = only(stand.tracker)
    assert (track.last, track.looked) == (number, 0)
    assert track.predicted.x == pytest.approx(230)
    assert track.velocity == pytest.approx((6, 0))


def test_weaker_faces_of_a_second_look_do_not_take_the_place_of_a_better_one() -> None:
    stand = Stand()
    for _ in range(3):
        stand.frame(face_at(200, 140, score=0.9))
    stand.faces[1] = [face_at(203, 140, score=0.3)]
    stand.late(1, body_at(200, 100))
    track = only(stand.tracker)
    assert (track.seen[1].face, track.best_face) == (0.9, 0.9)
    assert track.seen[1].box is not None


# --- in time or late ---


@st.composite
def films(draw: st.DrawFn) -> tuple[list[tuple[float, bool]], int, list[tuple[int, int]], float]:
    """People who stand apart: steps and whether they show a face; length; looks; the camera's."""
    people = draw(st.lists(st.tuples(st.floats(-3, 3), st.booleans()), min_size=1, max_size=3))
    count = draw(st.integers(8, 30))
    delays = draw(st.lists(st.integers(1, 6), min_size=count, max_size=count))
    every = draw(st.integers(1, 4))
    looks = [(number, delays[number]) for number in range(0, count, every)]
    return people, count, looks, draw(st.floats(-4, 4))


def table(
    people: Sequence[tuple[float, bool]], number: int, slide: float
) -> tuple[list[Face], list[Body]]:
    xs = [120 + 260 * k + (step + slide) * number for k, (step, _) in enumerate(people)]
    faces = [face_at(x, 140) for x, (_, shows) in zip(xs, people, strict=True) if shows]
    return faces, [body_at(x, 100) for x in xs]


@given(films())
@settings(deadline=None)
def test_bodies_in_time_or_late_make_the_same_tracks(
    film: tuple[list[tuple[float, bool]], int, list[tuple[int, int]], float],
) -> None:
    people, count, looks, slide = film
    in_time, late = tracker(), Stand()
    camera = pan(slide)
    due = dict(looks)
    pending: list[tuple[int, int]] = []
    for number in range(count):
        faces, bodies = table(people, number, slide)
        looked = number in due
        seen = sightings(faces, bodies if looked else [])
        in_time.step(number, seen, looked_for_people=looked, camera=camera)
        late.frame(*faces, camera=camera)
        if looked:
            pending.append((number + due[number], number))
        for at, asked in sorted(pending):
            if at <= number or number == count - 1:
                late.late(asked, *table(people, asked, slide)[1])
                pending.remove((at, asked))
    assert_same(in_time, late.tracker, count)


def assert_same(one: Tracker, other: Tracker, count: int) -> None:
    def by_place(track_of: Tracker) -> list[tuple[float, int]]:
        return sorted((t.head_at(count - 1).x, t.track_id) for t in track_of.tracks)

    assert len(one.tracks) == len(other.tracks)
    first = {track.track_id: track for track in one.tracks}
    second = {track.track_id: track for track in other.tracks}
    for (_, mine), (_, yours) in zip(by_place(one), by_place(other), strict=True):
        a, b = first[mine], second[yours]
        assert (a.born, a.last, a.sightings) == (b.born, b.last, b.sightings)
        assert (a.best_face, a.best_body) == (b.best_face, b.best_body)
        assert (a.looked, a.supported, a.bodies, a.cuts) == (
            b.looked,
            b.supported,
            b.bodies,
            b.cuts,
        )
        assert list(a.frames) == list(b.frames)
        for number in range(count):
            here, there = a.head_at(number), b.head_at(number)
            assert here.distance(there) < 0.05
            box, box_then = a.box_at(number), b.box_at(number)
            assert (box is None) == (box_then is None)
            if box is not None and box_then is not None:
                assert box.iou(box_then) > 0.95
        assert a.predicted.distance(b.predicted) < 0.3


@given(
    table=st.lists(
        st.lists(
            st.builds(
                lambda x, y, w, h, face: (Rect(x, y, x + w, y + h), face),
                st.floats(-100, 600),
                st.floats(-100, 400),
                st.floats(1, 300),
                st.floats(1, 300),
                st.booleans(),
            ),
            max_size=3,
        ),
        min_size=1,
        max_size=12,
    ),
    late=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=8),
)
@settings(deadline=None)
def test_whatever_comes_late_every_frame_is_in_order_and_no_face_is_lost(
    table: list[list[tuple[Rect, bool]]], late: list[tuple[int, int]]
) -> None:
    stand = Stand()
    for row in table:
        stand.frame(*(Face(box, 0.6) for box, face in row if face))
        for about, source in late:
            if about == len(stand.faces) - 1 - source and about >= 0:
                stand.late(about, *(Body(box, 0.7) for box, face in table[about] if not face))
    for track in stand.tracker.tracks:
        assert list(track.frames) == sorted(set(track.frames)) == list(track.seen)
        assert track.born <= track.first
        assert track.supported <= track.looked
        for number in range(len(table)):
            head = track.head_at(number)
            assert np.isfinite([head.x, head.y, head.width, head.height]).all()
    seen = [
        (number, one.face_box)
        for track in stand.tracker.tracks
        for number, one in track.seen.items()
        if one.face_box is not None
    ]
    for number, faces in enumerate(stand.faces):
        for face in faces:
            assert (number, face.box) in seen
