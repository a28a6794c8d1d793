"""What must hold of tracks and covers whatever looks saw."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2fp_stream.core.labels import BODY_PARTS, Label
from m2fp_stream.parsers.embedded.looker import PART_LABELS
from m2fp_stream.pipeline.solver.records import HEAD_LABELS, FineLook, Frame, Hidden, Reach
from m2fp_stream.pipeline.solver.solve import Solver
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.tracking.heads import Head, Rect, of_body
from m2fp_stream.tracking.motion import Motion
from m2fp_stream.tracking.shape import (
    PartLook,
    Shape,
    anchor_of_body,
    anchor_of_head,
    head_seed,
    lay_box,
    lay_ellipse,
)
from m2fp_stream.tracking.sightings import Body, Face, Sighting, sightings
from m2fp_stream.tracking.tracker import Tracker
from m2fp_stream.tracking.turned import TurnedLook

U8 = NDArray[np.uint8]
WIDTH, HEIGHT = 320, 180

place = st.floats(-400, 700, allow_nan=False, width=32)
length = st.floats(0, 500, allow_nan=False, width=32)
score = st.floats(0, 1, allow_nan=False, width=32)
angle = st.floats(-math.pi, math.pi, allow_nan=False)


@st.composite
def rects(draw: st.DrawFn) -> Rect:
    x, y = draw(place), draw(place)
    return Rect(x, y, x + draw(length), y + draw(length))


faces = st.lists(st.builds(Face, rects(), score, angle), max_size=3)
bodies = st.lists(st.builds(Body, rects(), score), max_size=3)
cameras = st.none() | st.builds(
    lambda zoom, turn, x, y: np.array(
        [
            [zoom * math.cos(turn), -zoom * math.sin(turn), x],
            [zoom * math.sin(turn), zoom * math.cos(turn), y],
        ],
        np.float32,
    ),
    st.floats(0.8, 1.25),
    st.floats(-0.3, 0.3),
    st.floats(-50, 50),
    st.floats(-50, 50),
)


def motion_of(cut: bool, camera: Any, moved: bool) -> Motion:
    return Motion(cut, camera, np.full((HEIGHT, WIDTH), int(moved), np.uint8), 1.0)


frames = st.lists(
    st.tuples(faces, st.none() | bodies, st.booleans(), cameras, st.booleans()),
    min_size=1,
    max_size=14,
)


@given(frames)
def test_every_sighting_belongs_to_exactly_one_track_and_nothing_raises(table: Any) -> None:
    tracker = Tracker(max_gap=3, body_gap=5, far_gap=8, far_px=40, strong=0.5)
    total = 0
    for number, (seen_faces, seen_bodies, cut, camera, _) in enumerate(table):
        if cut:
            tracker.cut(number)
        seen = sightings(seen_faces, seen_bodies or ())
        assert sum(one.face_box is not None for one in seen) == len(seen_faces)
        assert sum(one.box is not None for one in seen) <= len(seen_bodies or ())
        total += len(seen)
        tracker.step(number, seen, looked_for_people=seen_bodies is not None, camera=camera)
    tracks = tracker.tracks
    assert sum(track.sightings for track in tracks) == total
    assert len({track.track_id for track in tracks}) == len(tracks)
    for track in tracks:
        assert list(track.frames) == sorted(set(track.frames))
        assert track.supported <= track.looked
        for number in range(-1, len(table) + 2):
            head = track.head_at(number)
            assert all(map(math.isfinite, (head.x, head.y, head.width, head.height, head.roll)))
            assert track.gap(number) >= 0
            track.box_at(number)
            track.face_box_at(number, 5)


def hidden_by(hide: Any) -> Hidden:
    return Hidden(
        labels=Policy(PolicyOptions(hide=hide)).hidden(BODY_PARTS),
        part_labels=PART_LABELS,
        head_parts=tuple(sorted(PART_LABELS.index(label) for label in HEAD_LABELS)),
        threshold=76,
        margin=0.12,
    )


@given(
    table=frames,
    hide=st.sampled_from(["face", "head", "skin", "person", ("hair", "left-arm")]),
    levels=st.lists(st.integers(0, 255), min_size=4, max_size=4),
    forget=st.integers(0, 14),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_seen_covers_lie_in_the_map_and_nothing_raises(
    table: Any, hide: Any, levels: list[int], forget: int
) -> None:
    solver = Solver(
        size_wh=(WIDTH, HEIGHT),
        map_wh=(WIDTH // 2, HEIGHT // 2),
        rate=25,
        hidden=hidden_by(hide),
        people_every=3,
        parts_every=2,
        parts_a_frame=2,
    )
    planes = np.zeros((len(PART_LABELS), 12, 16), np.uint8)
    for part, level in enumerate(levels):
        planes[part, part * 3 : part * 3 + 3] = level
    for number, (seen_faces, seen_bodies, cut, camera, moved) in enumerate(table):
        motion = motion_of(cut or number == 0, None if cut or number == 0 else camera, moved)
        reach = solver.wants_people(number, motion, seen_faces)
        looked = None if reach is None else (seen_bodies or [])
        solver.feed(Frame(number, motion, seen_faces, looked))
        for past, closeness in solver.past_orders().items():
            assert 0 <= past <= number
            solver.take_past(past, seen_bodies or [], closeness)
        for order in solver.part_orders():
            assert order.frame == number
            x1, y1, x2, y2 = order.region
            assert x1 <= x2
            assert y1 <= y2
            if order.face:
                solver.take_face(order, levels[0] / 255, 0.1)
                continue
            across, down = max(1e-3, (x2 - x1) / 16), max(1e-3, (y2 - y1) / 12)
            matrix = np.array([[across, 0, x1], [0, down, y1]])
            solver.take_parts(order, PartLook.inside(planes, matrix, (WIDTH, HEIGHT)))
        if number == forget:
            solver.forget_before(number)
    for number in range(len(table)):
        cover = solver.cover(number)
        assert cover.parts.shape == cover.tracks.shape == (HEIGHT // 2, WIDTH // 2)
        assert ((cover.parts > 0) == (cover.tracks > 0)).all()
        assert cover.parts.max() <= max(Label)
        assert cover.people >= (cover.parts > 0).any()
        assert cover.age >= 0


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    labels = np.zeros((120, 96), np.uint8)
    for _ in range(draw(st.integers(0, 4))):
        y, x = draw(st.integers(0, 119)), draw(st.integers(0, 95))
        height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
        labels[y : y + height, x : x + width] = draw(st.integers(1, 20))
    return Shape(labels)


heads = st.builds(
    Head,
    place,
    place,
    st.floats(0.5, 300, width=32),
    st.floats(0.5, 300, width=32),
    angle,
)


def empty() -> tuple[U8, U8]:
    return np.zeros((90, 160), np.uint8), np.zeros((90, 160), np.uint8)


@given(shapes(), shapes())
def test_a_union_covers_what_either_covers_and_nothing_more(one: Shape, other: Shape) -> None:
    both = one.united(other)
    assert ((both.labels > 0) == ((one.labels > 0) | (other.labels > 0))).all()
    assert both.area >= max(one.area, other.area)


@given(shapes(), shapes(), heads)
@settings(max_examples=60)
def test_laying_more_never_uncovers(one: Shape, other: Shape, head: Head) -> None:
    anchor = anchor_of_head(head)
    parts, tracks = empty()
    one.lay(parts, tracks, 1, anchor, 0.5)
    before = parts.copy()
    other.lay(parts, tracks, 2, anchor, 0.5)
    lay_ellipse(parts, tracks, 3, head, 7, 0.5)
    lay_box(parts, tracks, 4, head.rect(), 9, 0.5)
    assert (parts[before > 0] == before[before > 0]).all()
    assert (tracks[before > 0] == 1).all()
    assert ((parts > 0) == (tracks > 0)).all()


@given(heads, st.integers(1, 12), st.integers(0, 255), st.booleans())
@settings(max_examples=60)
def test_a_larger_margin_and_a_lower_threshold_only_add(
    head: Head, margin: int, level: int, with_seed: bool
) -> None:
    planes = np.zeros((3, 24, 24), np.uint8)
    planes[1, 6:18, 8:16] = level
    planes[2, 2:9, 1:22] = 255 - level // 2
    matrix = np.array(
        [
            [head.width / 10, 0, head.x - 1.2 * head.width],
            [0, head.height / 10, head.y - 1.2 * head.height],
        ]
    )
    look, anchor = PartLook(planes, matrix), anchor_of_head(head)
    seed = head_seed() if with_seed else None

    def shape(threshold: int, cells: int) -> Shape:
        return Shape.of(
            look,
            anchor,
            label_of={1: 2, 2: 13},
            threshold=threshold,
            seed=seed,
            margin_cells=cells,
        )

    usual = shape(120, 0).labels > 0
    assert (shape(120, margin).labels[usual] > 0).all()
    assert (shape(60, 0).labels[usual] > 0).all()


@given(rects(), shapes())
@settings(max_examples=40)
def test_a_body_of_any_size_can_be_laid(box: Rect, shape: Shape) -> None:
    parts, tracks = empty()
    labels = np.zeros((160, 96), np.uint8)
    labels[:120] = shape.labels
    Shape(labels).lay(parts, tracks, 5, anchor_of_body(box), 0.5)
    assert ((parts > 0) == (tracks == 5)).all()


late_answers = st.lists(
    st.tuples(
        st.integers(0, 13),
        st.integers(0, 6),
        st.none() | bodies,
        st.none() | faces,
        st.sampled_from(list(Reach)),
        st.none() | st.tuples(st.integers(1, 3), faces, bodies),
        st.booleans(),
    ),
    max_size=10,
)


@given(
    table=frames,
    late=late_answers,
    hide=st.sampled_from(["face", "head", "skin", "person"]),
    other=st.sampled_from(["head", "person"]),
    forget=st.integers(0, 14),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_whatever_comes_late_covers_lie_in_the_map_and_nothing_raises(
    table: Any, late: Any, hide: Any, other: Any, forget: int
) -> None:
    """Live: answers come in any order, about any frame; each frame may be asked about again."""
    solver = Solver(
        size_wh=(WIDTH, HEIGHT),
        map_wh=(WIDTH // 2, HEIGHT // 2),
        rate=25,
        hidden=hidden_by(hide),
        people_every=3,
        parts_every=2,
        parts_a_frame=2,
        middle_every=6,
        live=True,
    )
    planes = np.full((len(PART_LABELS), 12, 16), 120, np.uint8)
    matrix = np.array([[10.0, 0, 0], [0, 10.0, 0]])
    for number, (seen_faces, _, cut, camera, moved) in enumerate(table):
        motion = motion_of(cut or number == 0, None if cut or number == 0 else camera, moved)
        solver.wants_people(number, motion, seen_faces)
        solver.feed(Frame(number, motion, seen_faces))
        for at, back, late_bodies, late_faces, reach, turned, fine in late:
            about = at - back
            if at != number or about < 0:
                continue
            looks = [] if turned is None else [TurnedLook(*turned)]
            solver.take_late(about, faces=late_faces, bodies=late_bodies, reach=reach, turned=looks)
            if fine and late_bodies:
                box = late_bodies[0].box
                sighting = Sighting(of_body(box), body=1.0, box=box, sure=True)
                solver.take_fine_late(about, [FineLook(sighting, PartLook(planes, matrix))])
            for order in solver.part_orders(about):
                assert order.frame == about
                if order.face:
                    solver.take_face(order, 0.4, 0.1)
                else:
                    solver.take_parts(order, PartLook(planes, matrix))
        if number == forget:
            solver.forget_before(number)
            solver.hide(hidden_by(other))
        cover = solver.cover(number)
        assert cover.parts.shape == cover.tracks.shape == (HEIGHT // 2, WIDTH // 2)
        assert ((cover.parts > 0) == (cover.tracks > 0)).all()
        assert cover.parts.max() <= max(Label)
        assert cover.age >= 0
