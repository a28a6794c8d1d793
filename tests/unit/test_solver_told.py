"""What the solver tells of those whose cover it laid: a state each, and one row a head."""

from __future__ import annotations

from dataclasses import replace

import pytest

from m2fp_stream.core.safe import TrackState
from m2fp_stream.pipeline.solver.records import Laid
from m2fp_stream.tracking.heads import Head, Rect
from m2fp_stream.tracking.sightings import Body
from m2fp_stream.tracking.track import Track

from .test_solver import (
    FACE,
    NOTHING,
    WHOLE_HEAD,
    Film,
    body_of,
    box_mask,
    face_at,
    moving,
    planes,
    solver,
)

LYING = Body(Rect(200, 200, 440, 320), 0.8)


def lying(hide: str = "head", until: int = 60) -> Film:
    clothes = planes(UPPER_CLOTHES=box_mask(LYING.box))
    return Film(
        lambda n: [],
        lambda n: [LYING] if n < until else [],
        parts=lambda order: clothes,
        motion=lambda n: moving(LYING.box),
        solver=solver(hide),
    ).run(60)


def only(film: Film, number: int) -> Laid:
    (laid,) = film.cover(number).laid
    return laid


def test_a_face_places_a_head_and_so_do_parts() -> None:
    film = Film(lambda n: [FACE], parts=lambda order: WHOLE_HEAD).run(20)
    assert only(film, 10).state is TrackState.PLACED


def test_a_body_alone_places_it_roughly() -> None:
    body = Body(Rect(270, 60, 370, 340), 0.7)
    film = Film(lambda n: [], lambda n: [body], lambda order: NOTHING).run(20)
    assert only(film, 10).state is TrackState.UNPLACED


def test_who_is_covered_whole_for_want_of_a_head_is_told_to_be() -> None:
    assert only(lying(), 50).state is TrackState.WHOLE
    assert only(lying("person"), 50).state is TrackState.UNPLACED, "all are covered whole there"


def test_before_and_after_the_sightings_somebody_is_carried() -> None:
    film = Film(lambda n: [FACE] if 10 <= n < 20 else [], parts=lambda order: WHOLE_HEAD).run(40)
    told = {n: [one.state for one in film.cover(n).laid] for n in range(40)}
    assert all(told[n] == [TrackState.PLACED] for n in range(10, 20))
    assert told[9] == told[20] == [TrackState.CARRIED]
    assert told[0] == told[39] == []


def test_a_body_that_is_carried_and_whole_is_counted_as_whole() -> None:
    film = lying(until=40)
    states = {n: only(film, n).state for n in range(30, 45) if film.cover(n).laid}
    assert {TrackState.WHOLE, TrackState.CARRIED} == set(states.values())
    assert all(film.cover(n).whole == 1 for n in states)


def test_one_head_that_two_tracks_follow_is_told_once() -> None:
    """Both are covered; the row is of the one of whom more is known."""
    film = Film(lambda n: [face_at(335, 130, 0.6), FACE]).run(20)
    laid = film.cover(10).laid
    assert len(laid) == 2, "two tracks, or this shows nothing"
    assert sorted(one.double for one in laid) == [False, True]
    (told,) = (one for one in laid if not one.double)
    assert abs(told.body.x - FACE.box.x) < 5


def test_who_is_seen_is_told_rather_than_who_is_carried_to_the_same_place() -> None:
    surer, later = FACE, face_at(345, 120, 0.6)
    film = Film(lambda n: [surer] * (n < 12) + [later] * (n >= 8)).run(30)
    carried = [
        laid
        for n in range(12, 18)
        for laid in film.cover(n).laid
        if laid.state is TrackState.CARRIED
    ]
    assert carried
    assert all(one.double for one in carried)
    assert all(sum(not one.double for one in film.cover(n).laid) == 1 for n in range(25))


def test_two_heads_side_by_side_are_two() -> None:
    film = Film(lambda n: [FACE, face_at(400, 120)]).run(10)
    assert [one.double for one in film.cover(5).laid] == [False, False]


def test_one_body_that_two_tracks_follow_is_told_once_wherever_they_take_the_head_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a weak face on somebody's clothes makes a track of its own."""
    film = Film(lambda n: [FACE], lambda n: [body_of(FACE)], parts=lambda order: WHOLE_HEAD).run(20)
    layer, (first,) = film.solver._layer, film.solver._tracker.tracks
    other = replace(first, track_id=9, best_face=0.3, best_body=0.3)
    placed = layer._places.head

    def head(track: Track, number: int) -> Head:
        return placed(first, number).moved(0, 90 if track is other else 0)

    monkeypatch.setattr(layer._places, "head", head)
    assert head(other, 10).distance(head(first, 10)) > 1
    told = layer.told([other, first], 10, whole=())
    assert [(one.track_id, one.double) for one in told] == [(9, True), (first.track_id, False)]
