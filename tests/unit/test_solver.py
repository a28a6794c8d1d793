"""The solver of files, on tables of faces and bodies: who is covered when, and what it asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.labels import BODY_PARTS, Label
from m2fp_stream.parsers.embedded.looker import PART_LABELS
from m2fp_stream.pipeline.solver.records import (
    HEAD_LABELS,
    Cover,
    FineLook,
    Frame,
    Hidden,
    PartOrder,
    Reach,
)
from m2fp_stream.pipeline.solver.solve import Solver
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.tracking.heads import Rect, of_body, of_face
from m2fp_stream.tracking.motion import Motion
from m2fp_stream.tracking.shape import PartLook
from m2fp_stream.tracking.sightings import Body, Face, Sighting
from m2fp_stream.tracking.turned import TURNS, TurnedLook

Mask = NDArray[np.bool_]

WIDTH, HEIGHT = 640, 360
RATE = 25
STILL = Motion(False, None, np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8), 0.5)
CUT = Motion(True, None, STILL.moved, 0.5)


def moving(*boxes: Rect) -> Motion:
    """Something moved in these boxes of the frame."""
    moved = STILL.moved.copy()
    for box in boxes:
        moved[int(box.y1) // 2 : int(box.y2) // 2, int(box.x1) // 2 : int(box.x2) // 2] = 1
    return Motion(False, None, moved, 0.5)


def hidden(hide: Any = "head") -> Hidden:
    return Hidden(
        labels=Policy(PolicyOptions(hide=hide)).hidden(BODY_PARTS),
        part_labels=PART_LABELS,
        head_parts=tuple(sorted(PART_LABELS.index(label) for label in HEAD_LABELS)),
        threshold=76,
        margin=0.12,
    )


def solver(hide: Any = "head", **options: Any) -> Solver:
    known: dict[str, Any] = {
        "size_wh": (WIDTH, HEIGHT),
        "map_wh": (WIDTH, HEIGHT),
        "rate": RATE,
        "hidden": hidden(hide),
        "people_every": 8,
        "parts_every": 6,
        "parts_a_frame": 3,
    }
    return Solver(**(known | options))


def face_at(x: float, y: float, score: float = 0.9, size: float = 40) -> Face:
    return Face(Rect(x - size / 2, y - 0.6 * size, x + size / 2, y + 0.6 * size), score)


def body_of(face: Face, score: float = 0.9) -> Body:
    box = face.box
    return Body(
        Rect(box.x - 1.2 * box.width, box.y1 - 8, box.x + 1.2 * box.width, box.y2 + 190), score
    )


def planes(**masks: Mask) -> PartLook:
    """What a part network says that is sure of everything; at half the frame's size."""
    found = np.zeros((len(PART_LABELS), HEIGHT // 2, WIDTH // 2), np.uint8)
    found[0] = 255
    for name, mask in masks.items():
        at = mask[::2, ::2]
        found[:, at] = 0
        found[PART_LABELS.index(Label[name]), at] = 255
    return PartLook(found, np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]]))


def box_mask(box: Rect) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[max(0, int(box.y1)) : int(box.y2), max(0, int(box.x1)) : int(box.x2)] = True
    return mask


NOTHING = planes()


@dataclass
class Film:
    """Feeds a solver as a run does, and keeps what it asked for."""

    faces: Callable[[int], Sequence[Face]]
    bodies: Callable[[int], Sequence[Body]] = lambda n: []
    parts: Callable[[PartOrder], PartLook | None] = lambda order: None
    motion: Callable[[int], Motion] = lambda n: STILL
    closer: Callable[[PartOrder], float | None] = lambda order: None
    turned: Callable[[int, int], TurnedLook | None] = lambda n, turn: None
    least: Reach = Reach.NEAR
    """Looks that reach less far see no bodies."""
    solver: Solver = field(default_factory=solver)
    turns: dict[int, Sequence[int]] = field(default_factory=dict)
    looked: dict[int, Reach] = field(default_factory=dict)
    past: dict[int, Reach] = field(default_factory=dict)
    orders: list[PartOrder] = field(default_factory=list)
    closer_orders: list[PartOrder] = field(default_factory=list)
    frames: int = 0

    def run(self, count: int) -> Film:
        for n in range(count):
            motion = CUT if n == 0 else self.motion(n)
            faces = list(self.faces(n))
            reach = self.solver.wants_people(n, motion, faces)
            bodies = None
            if reach is not None:
                self.looked[n] = reach
                bodies = self.seen(n, reach)
            turns = self.solver.wants_turned(n, reach)
            if turns:
                self.turns[n] = turns
            turned = [found for turn in turns if (found := self.turned(n, turn)) is not None]
            self.solver.feed(Frame(n, motion, faces, bodies, reach or Reach.NEAR, turned=turned))
            past = self.solver.past_orders()
            self.past.update(past)
            for number in past:
                self.solver.take_past(number, self.seen(number, past[number]), past[number])
            for order in self.solver.part_orders():
                if order.face:
                    self.closer_orders.append(order)
                    score = self.closer(order)
                    if score is not None:
                        self.solver.take_face(order, score, 0.0)
                    continue
                self.orders.append(order)
                look = self.parts(order)
                if look is not None:
                    self.solver.take_parts(order, look)
        self.frames = count
        return self

    def seen(self, number: int, reach: Reach) -> list[Body]:
        return list(self.bodies(number)) if reach >= self.least else []

    def cover(self, number: int) -> Cover:
        return self.solver.cover(number)

    def share(self, number: int, box: Rect) -> float:
        """The share of a box that is covered."""
        return float((self.cover(number).parts[box_mask(box)] > 0).mean())

    def covered(self, box: Rect) -> list[int]:
        """The frames in which all of a box is covered."""
        return [n for n in range(self.frames) if self.share(n, box) == 1.0]


FACE = face_at(320, 120)
HEAD_OF = of_face(FACE.box).rect()
CENTRE = Rect(FACE.box.x - 10, FACE.box.y - 10, FACE.box.x + 10, FACE.box.y + 10)
WHOLE_HEAD = planes(FACE=box_mask(FACE.box), HAIR=box_mask(HEAD_OF) & ~box_mask(FACE.box))


# --- who is somebody ---


def test_a_sure_face_is_covered_whatever_the_part_network_says() -> None:
    film = Film(lambda n: [FACE], parts=lambda order: NOTHING).run(20)
    assert film.covered(FACE.box) == list(range(20))
    assert {film.cover(n).people for n in range(20)} == {1}
    assert film.cover(5).parts.mean() > 0


def test_nobody_is_nobody() -> None:
    film = Film(lambda n: []).run(20)
    assert not any(film.cover(n).parts.any() or film.cover(n).people for n in range(20))


def test_a_weak_face_seen_once_is_nobody() -> None:
    film = Film(lambda n: [face_at(320, 120, 0.2)] if n == 10 else []).run(20)
    assert film.covered(CENTRE) == []


def test_weak_faces_that_agree_are_somebody_where_the_parts_are_a_head() -> None:
    """From the first of them on."""

    def weak(n: int) -> list[Face]:
        return [face_at(320, 120, 0.25)] if n >= 5 else []

    seen = Film(weak, parts=lambda order: WHOLE_HEAD, closer=lambda order: 0.9).run(40)
    assert set(range(5, 40)) <= set(seen.covered(FACE.box))
    unseen = Film(weak, parts=lambda order: NOTHING, closer=lambda order: 0.0).run(40)
    assert unseen.covered(CENTRE) == []


def test_a_closer_look_tells_weak_faces_from_what_only_looks_like_one() -> None:
    def judged(score: float) -> Film:
        return Film(
            lambda n: [face_at(320, 120, 0.25)] if n >= 5 else [], closer=lambda order: score
        ).run(40)

    assert set(range(5, 40)) <= set(judged(0.95).covered(FACE.box))
    assert judged(0.0).covered(CENTRE) == []
    orders = judged(0.95).closer_orders
    assert orders[0].frame == 5
    x1, y1, x2, y2 = orders[0].region
    assert Rect(x1, y1, x2, y2) == FACE.box


@pytest.mark.parametrize(("score", "beside"), [(0.1, False), (0.9, True)])
def test_a_face_that_closer_looks_deny_says_nothing_of_where_a_body_has_its_head(
    score: float, beside: bool
) -> None:
    """An arm at the edge of the picture, with a "face" as wide as it is: half of it was covered."""
    arm = Body(Rect(0, 0, 142, 320), 0.53)
    skin = {n: Face(Rect(0, 0, 160, 240), weak) for n, weak in ((7, 0.18), (8, 0.37))}
    film = Film(
        lambda n: [skin[n]] if n in skin else [],
        bodies=lambda n: [arm] if n >= 7 else [],
        closer=lambda order: score,
    ).run(30)
    assert bool(film.covered(Rect(150, 40, 210, 100))) is beside


@pytest.mark.parametrize("weak_frames", [4, 11, 30])
def test_what_closer_looks_said_of_a_blur_does_not_hold_against_the_face_that_follows(
    weak_frames: int,
) -> None:
    film = Film(
        lambda n: [face_at(320, 120, 0.2 if n < weak_frames else 0.9)],
        parts=lambda order: WHOLE_HEAD if order.frame >= weak_frames else NOTHING,
        closer=lambda order: 0.9 if order.frame >= weak_frames else 0.0,
    )
    film.run(weak_frames + 1)
    assert film.closer_orders[-1].frame == weak_frames
    assert weak_frames in film.covered(FACE.box)


def test_closer_looks_are_few_and_capped() -> None:
    faces = [face_at(120 + 100 * k, 120) for k in range(5)]
    film = Film(lambda n: faces, closer=lambda order: 0.9, solver=solver(parts_a_frame=2)).run(60)
    per_frame = [sum(order.frame == n for order in film.closer_orders) for n in range(60)]
    assert max(per_frame) == 2
    assert {order.track_id for order in film.closer_orders} == {1, 2, 3, 4, 5}
    assert len(film.closer_orders) < 5 * 10
    assert film.solver.looks["closer"] == len(film.closer_orders)


def test_closer_looks_go_first_to_those_of_whom_least_is_known() -> None:
    """However many sure faces were there before."""
    sure = [face_at(60 + 90 * k, 120) for k in range(4)]
    doubtful = face_at(500, 120, 0.3)
    film = Film(
        lambda n: [*sure, doubtful] if n >= 10 else sure,
        closer=lambda order: 0.8,
        solver=solver(parts_a_frame=1),
    ).run(11)
    assert film.closer_orders[-1].frame == 10
    assert film.closer_orders[-1].region[0] == doubtful.box.x1


def test_weak_faces_become_somebody_once_one_is_strong() -> None:
    film = Film(lambda n: [face_at(320, 120, 0.18 if n < 30 else 0.95)]).run(40)
    assert film.covered(FACE.box) == list(range(40))


def test_a_strong_body_that_shows_no_face_has_its_head_covered() -> None:
    film = Film(lambda n: [], lambda n: [body_of(FACE)]).run(30)
    for n in range(30):
        assert film.share(n, CENTRE) == 1.0
        assert film.share(n, Rect(FACE.box.x - 20, 260, FACE.box.x + 20, 300)) == 0.0


def test_a_body_whose_head_is_elsewhere_has_it_covered_there() -> None:
    """Leaning: the parts show the head at one side of the body."""
    aside = Rect(330, 60, 372, 110)
    body = Body(Rect(240, 60, 400, 340), 0.9)
    look = planes(HAIR=box_mask(aside), UPPER_CLOTHES=box_mask(Rect(260, 130, 380, 330)))
    film = Film(lambda n: [], lambda n: [body], lambda order: look).run(60)
    assert all(film.share(n, aside) > 0.9 for n in range(15, 60))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_head_that_the_side_of_the_picture_cuts_is_covered_there(side: str) -> None:
    """Hair and an ear are all that is in the picture, and later looks see the ear alone."""

    def mirrored(x1: float, y1: float, x2: float, y2: float) -> Rect:
        return Rect(x1, y1, x2, y2) if side == "right" else Rect(640 - x2, y1, 640 - x1, y2)

    hair, ear = mirrored(622, 100, 640, 130), mirrored(628, 136, 636, 148)
    body = Body(mirrored(560, 80, 640, 340), 0.9)
    both = planes(HAIR=box_mask(hair), FACE=box_mask(ear))
    film = Film(
        lambda n: [],
        lambda n: [body],
        lambda order: both if order.frame < 15 else planes(FACE=box_mask(ear)),
    ).run(60)
    middle = mirrored(575, 90, 600, 160)
    for n in range(15, 60):
        assert film.share(n, hair) > 0.9
        assert film.share(n, ear) > 0.9
        assert film.share(n, middle) < 0.1


def test_two_people_have_marks_of_their_own() -> None:
    other = face_at(120, 120)
    film = Film(lambda n: [FACE, other]).run(10)
    cover = film.cover(5)
    assert cover.people == 2
    marks = {int(cover.tracks[int(face.box.y), int(face.box.x)]) for face in (FACE, other)}
    assert len(marks) == 2
    assert 0 not in marks
    assert ((cover.tracks > 0) == (cover.parts > 0)).all()


def test_whom_a_second_parser_vouches_for_is_somebody() -> None:
    made = solver()
    sighting = Sighting(of_face(FACE.box), body=1.0, box=body_of(FACE).box, sure=True)
    made.wants_people(0, CUT, [])
    made.feed(Frame(0, CUT, [], [], Reach.FAR, fine=[FineLook(sighting, WHOLE_HEAD)]))
    cover = made.cover(0)
    assert (cover.parts[box_mask(FACE.box)] > 0).all()
    assert cover.people == 1


# --- between, before and after ---


def test_where_a_second_parser_is_in_doubt_is_covered_until_it_is_not() -> None:
    """Whatever is hidden: an arm, under `head`; and it is counted."""
    arm = Rect(350, 180, 362, 240)
    body = body_of(FACE)
    sighting = Sighting(of_face(FACE.box), body=1.0, box=body.box, sure=True)
    unsure = np.where(box_mask(arm)[::2, ::2], 255, 0).astype(np.uint8)[None]
    doubt = PartLook(unsure, np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]]))
    made = solver()
    for n in range(30):
        fine = {0: [FineLook(sighting, WHOLE_HEAD, doubt)], 20: [FineLook(sighting, WHOLE_HEAD)]}
        motion = CUT if n == 0 else STILL
        made.feed(Frame(n, motion, [FACE], [body], Reach.FAR, fine=fine.get(n, [])))

    def share(n: int) -> float:
        return float((made.cover(n).parts[box_mask(arm)] > 0).mean())

    assert share(0) == share(10) == 1.0
    assert share(25) == 0.0
    assert made.looks["doubted"] == 1


def test_somebody_unseen_for_some_frames_is_covered_on_his_way() -> None:
    def faces(n: int) -> list[Face]:
        return [face_at(150 + 6 * n, 120)] if not 15 <= n < 23 else []

    film = Film(faces).run(40)
    for n in range(40):
        assert film.share(n, face_at(150 + 6 * n, 120).box) > 0.97, n
        assert film.cover(n).age == (0 if not 15 <= n < 23 else min(n - 14, 23 - n))


def seen_between(first: int, last: int, x: float) -> Film:
    """A face and a body in some frames only, and looks at every frame that see what there is."""
    face = face_at(x, 120)

    def there(n: int) -> bool:
        return first <= n <= last

    return Film(
        lambda n: [face] if there(n) else [],
        lambda n: [body_of(face)] if there(n) else [],
        solver=solver(people_every=1),
        motion=lambda n: moving(Rect(20, 330, 40, 350)),  # something else
    )


def test_who_appears_in_the_middle_of_the_picture_was_not_there_where_looks_saw_nobody() -> None:
    film = seen_between(20, 40, 320).run(60)
    covered = film.covered(CENTRE)
    assert set(range(20, 41)) <= set(covered)
    assert covered[0] >= 18
    assert covered[-1] <= 42


@pytest.mark.parametrize(
    ("body", "reaches"),
    [
        (Rect(270, 90, 370, 330), [Reach.NEAR]),
        (None, [Reach.MIDDLE]),  # its size is not known
    ],
    ids=["large", "unseen"],
)
def test_a_look_back_is_as_close_as_the_body_asks_for(
    body: Rect | None, reaches: list[Reach]
) -> None:
    face = face_at(320, 115)
    film = Film(
        lambda n: [face] if n >= 20 else [],
        lambda n: [Body(body, 0.9)] if body is not None and n >= 20 else [],
    ).run(40)
    assert list(film.past.values()) == reaches


def test_what_moves_on_where_many_looks_saw_nobody_is_looked_at_now_and_then() -> None:
    still_there = moving(Rect(300, 160, 340, 200))
    film = Film(lambda n: [], motion=lambda n: still_there, solver=solver(people_every=60)).run(48)
    looked = sorted(film.looked)
    assert looked[1:3] == [1, 2]  # the first one is the cut
    assert set(np.diff([n for n in looked if 3 <= n <= 10])) == {2}
    assert set(np.diff([n for n in looked if n > 16])) == {4}


def test_who_appears_at_the_edge_was_there_for_some_frames_more() -> None:
    """A body that the edge cuts is not found reliably: an empty look says little."""
    film = seen_between(20, 40, 14).run(60)
    covered = film.covered(Rect(6, 112, 22, 128))
    assert covered[0] <= 14
    assert covered[-1] >= 46
    assert covered == list(range(covered[0], covered[-1] + 1))
    assert covered[0] > 0  # but not for ever
    assert covered[-1] < 59


def test_where_something_moves_unexplained_an_empty_look_is_not_believed() -> None:
    calm, blurred = seen_between(20, 40, 320), seen_between(20, 40, 320)
    blurred.motion = lambda n: moving(HEAD_OF, Rect(20, 330, 40, 350))
    calm.run(60)
    blurred.run(60)
    assert blurred.covered(CENTRE)[0] < calm.covered(CENTRE)[0]
    assert blurred.covered(CENTRE)[-1] > calm.covered(CENTRE)[-1]


SLIM = Body(Rect(300, 100, 330, 220), 0.6)
"""Of more than FAR_SHARE of the picture; only far looks see it below."""
SMALL = Body(Rect(300, 100, 322, 160), 0.5)
HEAD_OF_SLIM = Rect(311, 104, 319, 112)
SOMETHING = moving(Rect(500, 250, 620, 340))


def test_a_look_that_reaches_less_far_than_those_that_saw_somebody_contradicts_nothing() -> None:
    def film(least: Reach) -> Film:
        return Film(
            lambda n: [],
            lambda n: [SLIM] if n < 7 else [],
            motion=lambda n: SOMETHING,
            least=least,
            solver=solver(people_every=4, far_every_s=9.0),
        ).run(40)

    far_alone, every = film(Reach.FAR), film(Reach.NEAR)
    assert far_alone.covered(HEAD_OF_SLIM)[-1] > 20
    assert every.covered(HEAD_OF_SLIM)[-1] < 12


@pytest.mark.parametrize(("frames", "somebody"), [({0}, False), ({0, 6}, True)])
def test_whom_a_far_look_sees_once_and_the_next_one_does_not_is_nobody(
    frames: set[int], somebody: bool
) -> None:
    film = Film(
        lambda n: [],
        lambda n: [SMALL] if n in frames else [],
        motion=lambda n: SOMETHING,
        least=Reach.FAR,
    ).run(30)
    assert film.looked[6] is Reach.FAR
    assert (film.cover(3).people > 0) == somebody


def test_whom_a_far_look_sees_once_is_somebody_if_his_parts_show_a_head() -> None:
    tall = Body(Rect(280, 100, 340, 200), 0.5)
    head = of_body(tall.box).rect()
    film = Film(
        lambda n: [],
        lambda n: [tall] if n == 0 else [],
        lambda order: planes(HAIR=box_mask(head)),
        motion=lambda n: SOMETHING,
        least=Reach.FAR,
    ).run(30)
    assert film.orders
    assert film.cover(3).people == 1


def test_somebody_small_whom_nearer_looks_saw_is_not_carried_on_for_seconds() -> None:
    def film(least: Reach) -> Film:
        return Film(
            lambda n: [],
            lambda n: [SMALL] if n < 7 else [],
            motion=lambda n: moving(Rect(500, 20, 530, 50)),
            least=least,
            solver=solver(people_every=2),
        ).run(60)

    assert film(Reach.MIDDLE).covered(Rect(309, 103, 313, 107))[-1] < 12
    assert film(Reach.FAR).covered(Rect(309, 103, 313, 107))[-1] > 30


def test_a_face_that_is_not_seen_contradicts_nothing() -> None:
    """No look ever saw this body, so none that does not see it says that nobody is there."""
    film = Film(lambda n: [FACE] if 20 <= n <= 40 else [], solver=solver(people_every=1)).run(60)
    covered = film.covered(CENTRE)
    assert covered[0] <= 14
    assert covered[-1] >= 46


def test_nobody_is_carried_over_a_cut() -> None:
    film = Film(lambda n: [FACE] if n < 20 else [], motion=lambda n: CUT if n == 20 else STILL).run(
        40
    )
    assert film.covered(FACE.box) == list(range(20))
    film = Film(
        lambda n: [FACE] if n >= 20 else [], motion=lambda n: CUT if n == 20 else STILL
    ).run(40)
    assert film.covered(FACE.box) == list(range(20, 40))


def test_who_left_the_picture_is_not_carried_on_outside() -> None:
    film = Film(lambda n: [face_at(500 + 20 * n, 120)] if n < 8 else []).run(20)
    assert not film.cover(19).parts.any()
    assert film.cover(19).people == 0


# --- which looks are wanted ---


def test_a_shot_begins_with_a_far_look() -> None:
    film = Film(lambda n: [], motion=lambda n: CUT if n == 17 else STILL).run(20)
    assert film.looked[0] is Reach.FAR
    assert film.looked[17] is Reach.FAR


def test_people_are_looked_for_at_a_steady_rate_where_anything_moves() -> None:
    film = Film(
        lambda n: [FACE],
        lambda n: [body_of(FACE)],
        motion=lambda n: moving(FACE.box),
        solver=solver(people_every=5),
    ).run(60)
    gaps = np.diff([*sorted(film.looked), 60])
    assert gaps.max() == 5


def test_while_nothing_moves_looks_are_rarer_but_go_on() -> None:
    still = Film(lambda n: [FACE], lambda n: [body_of(FACE)]).run(100)
    lively = Film(
        lambda n: [FACE], lambda n: [body_of(FACE)], motion=lambda n: moving(FACE.box)
    ).run(100)
    assert len(still.looked) < len(lively.looked)
    assert np.diff([*sorted(still.looked), 100]).max() <= RATE


def test_far_looks_come_again_and_again() -> None:
    film = Film(lambda n: [], motion=lambda n: moving(FACE.box), solver=solver(far_every_s=0.8))
    film.run(100)
    far = [n for n, reach in film.looked.items() if reach is Reach.FAR]
    assert np.diff([*far, 100]).max() <= 20


@pytest.mark.parametrize("frame", [13, 14, 15])
def test_a_face_that_is_born_or_lost_is_looked_at_in_that_frame(frame: int) -> None:
    options = {"people_every": 60, "far_every_s": 9.0}
    calm = Film(lambda n: [FACE], solver=solver(**options)).run(20)
    born = Film(lambda n: [FACE] if n >= frame else [], solver=solver(**options)).run(20)
    lost = Film(lambda n: [FACE] if n < frame else [], solver=solver(**options)).run(20)
    assert frame not in calm.looked
    assert frame in born.looked
    assert frame in lost.looked


def test_motion_that_nobody_explains_is_looked_at_in_that_frame() -> None:
    def at(box: Rect) -> Film:
        return Film(
            lambda n: [FACE],
            lambda n: [body_of(FACE)],
            motion=lambda n: moving(box) if n == 15 else STILL,
            solver=solver(people_every=60, far_every_s=9.0),
        ).run(20)

    assert 15 in at(Rect(60, 60, 110, 200)).looked
    assert 15 not in at(FACE.box).looked
    assert 15 not in at(Rect(300, 160, 340, 260)).looked  # his body


def test_where_somebody_appears_or_is_lost_frames_beside_are_looked_at_after_all() -> None:
    film = Film(
        lambda n: [FACE] if 20 <= n <= 40 else [],
        lambda n: [body_of(FACE)] if 20 <= n <= 40 else [],
        solver=solver(people_every=60, far_every_s=9.0),
    ).run(60)
    looked = {*film.looked, *film.past}
    assert looked & set(range(15, 20))
    assert looked & set(range(41, 46))


def test_no_past_frame_of_another_shot_is_looked_at() -> None:
    film = Film(
        lambda n: [FACE] if n >= 21 else [],
        motion=lambda n: CUT if n == 20 else STILL,
        solver=solver(people_every=60),
    ).run(40)
    assert all(n >= 20 for n in film.past)


# --- close looks ---


def test_each_person_is_looked_at_closely_as_often_as_asked() -> None:
    film = Film(lambda n: [FACE], solver=solver(parts_every=7)).run(70)
    asked = [order.frame for order in film.orders]
    assert set(np.diff(asked)) == {7}
    x1, y1, x2, y2 = film.orders[0].region
    assert x1 < HEAD_OF.x1
    assert x2 > HEAD_OF.x2
    assert y1 < HEAD_OF.y1
    assert y2 > HEAD_OF.y2


def test_close_looks_are_capped_and_take_turns() -> None:
    faces = [face_at(120 + 100 * k, 120) for k in range(5)]
    film = Film(lambda n: faces, solver=solver(parts_a_frame=2, parts_every=6)).run(60)
    per_frame = [sum(order.frame == n for order in film.orders) for n in range(60)]
    assert max(per_frame) == 2
    per_person = [sum(order.track_id == k for order in film.orders) for k in range(1, 6)]
    assert min(per_person) >= max(per_person) - 1 > 5
    assert film.solver.looks["parts"] == len(film.orders)


def test_heads_too_small_to_tell_parts_and_ghosts_get_no_close_look() -> None:
    tiny = face_at(320, 120, 0.9, size=4)
    assert Film(lambda n: [tiny]).run(20).orders == []
    ghost = Film(lambda n: [face_at(320, 120, 0.18)] if n == 5 else []).run(20)
    assert ghost.orders == []


def test_an_answer_about_somebody_who_is_forgotten_changes_nothing() -> None:
    film = Film(lambda n: [FACE]).run(10)
    film.solver.take_parts(PartOrder(5, 99, (0, 0, 9, 9), body=False), WHOLE_HEAD)
    film.solver.take_parts(PartOrder(500, 1, (0, 0, 9, 9), body=False), WHOLE_HEAD)


def test_hair_that_hangs_below_the_head_is_covered_and_goes_with_it() -> None:
    def face(n: int) -> Face:
        return face_at(200 + 4 * n, 120)

    def hair(n: int) -> Rect:
        head = of_face(face(n).box)
        return Rect(head.x - 14, head.y + 0.3 * head.height, head.x - 4, head.y + 1.0 * head.height)

    def look(order: PartOrder) -> PartLook:
        n = order.frame
        head = box_mask(of_face(face(n).box).rect())
        return planes(HAIR=box_mask(hair(n)) | head, FACE=box_mask(face(n).box))

    film = Film(lambda n: [face(n)], parts=look).run(40)
    bare = Film(lambda n: [face(n)], parts=lambda order: NOTHING).run(40)
    assert min(film.share(n, hair(n)) for n in range(40)) > 0.9
    assert bare.share(20, hair(20)) < 0.8


def test_somebody_elses_head_in_the_crop_is_not_this_ones_shape() -> None:
    other = Rect(420, 100, 450, 140)
    look = planes(FACE=box_mask(FACE.box) | box_mask(other))
    film = Film(lambda n: [FACE], parts=lambda order: look).run(20)
    assert film.share(10, other) == 0.0


# --- what is hidden ---

TORSO = Rect(280, 170, 360, 240)
ARM = Rect(265, 180, 279, 260)
LEGS = Rect(290, 250, 350, 320)
HANGING = Rect(300, 92, 340, 96)  # hair above the face


def dressed(order: PartOrder) -> PartLook:
    return planes(
        HAIR=box_mask(HEAD_OF),
        FACE=box_mask(FACE.box),
        UPPER_CLOTHES=box_mask(TORSO),
        LEFT_ARM=box_mask(ARM),
        PANTS=box_mask(LEGS),
    )


@pytest.mark.parametrize(
    ("hide", "covered", "clear"),
    [
        ("face", ["face"], ["torso", "arm", "legs"]),
        ("head", ["face", "hair"], ["torso", "arm", "legs"]),
        ("skin", ["face", "arm"], ["torso", "legs"]),
        ("person", ["face", "hair", "torso", "arm", "legs"], []),
        (("left-arm",), ["arm"], ["face", "torso", "legs"]),
        (("pants", "face"), ["face", "legs"], ["torso", "arm"]),
    ],
    ids=str,
)
def test_what_is_hidden_is_covered_and_what_is_not_stays(
    hide: Any, covered: list[str], clear: list[str]
) -> None:
    film = Film(
        lambda n: [FACE], lambda n: [body_of(FACE)], dressed, solver=solver(hide, parts_every=2)
    ).run(20)
    inner = {
        "face": FACE.box.grown(-4, -4, -4),
        "hair": HANGING,
        "torso": Rect(290, 195, 350, 230),
        "arm": ARM.grown(-3, -8, -8),
        "legs": LEGS.grown(-8, -12, -12),
    }
    for n in range(2, 20):
        for name in covered:
            assert film.share(n, inner[name]) > 0.95, (n, name)
        for name in clear:
            assert film.share(n, inner[name]) < 0.1, (n, name)


def test_limbs_go_with_the_head_where_something_hides_the_body_from_its_detector() -> None:
    whole = body_of(FACE)
    short = Body(Rect(whole.box.x1, whole.box.y1, whole.box.x2, whole.box.y1 + 110), 0.9)
    film = Film(
        lambda n: [FACE],
        lambda n: [whole if n < 8 else short],
        lambda order: dressed(order) if order.frame < 8 else None,
        motion=lambda n: moving(whole.box),
        solver=solver(("pants", "left-arm"), parts_every=2, people_every=1),
    ).run(20)
    for n in range(2, 20):
        assert film.share(n, LEGS.grown(-8, -12, -12)) > 0.95, n
        assert film.share(n, ARM.grown(-3, -8, -8)) > 0.95, n


def test_parts_are_named_by_what_they_are() -> None:
    film = Film(
        lambda n: [FACE], lambda n: [body_of(FACE)], dressed, solver=solver(("face", "pants"))
    ).run(10)
    parts = film.cover(5).parts
    assert parts[int(FACE.box.y), int(FACE.box.x)] == Label.FACE
    assert parts[285, 320] in (Label.PANTS, BODY_PARTS.contained_in.get(Label.PANTS))


def test_a_whole_person_is_covered_before_anybody_looked_closely() -> None:
    film = Film(
        lambda n: [FACE],
        lambda n: [body_of(FACE)],
        motion=lambda n: moving(FACE.box),
        solver=solver("person"),
    ).run(20)
    body = body_of(FACE).box
    assert all(film.share(n, body) == 1.0 for n in range(20))


def test_a_whole_person_whose_body_no_look_saw_is_covered_below_the_head() -> None:
    film = Film(lambda n: [FACE], solver=solver("person")).run(20)
    assert film.share(10, Rect(300, 180, 340, 300)) == 1.0


# --- always ---


def test_a_map_may_be_smaller_than_the_frame() -> None:
    small = Film(lambda n: [FACE], solver=solver(map_wh=(320, 180))).run(5)
    cover = small.cover(3).parts
    assert cover.shape == (180, 320)
    box = FACE.box
    assert (cover[int(box.y1 / 2) : int(box.y2 / 2), int(box.x1 / 2) : int(box.x2 / 2)] > 0).all()


def test_what_is_forgotten_leaves_the_covers_of_recent_frames() -> None:
    def film() -> Film:
        return Film(
            lambda n: [face_at(200 + n % 40, 120)] if n % 50 < 40 else [],
            lambda n: [body_of(face_at(200 + n % 40, 120))],
            lambda order: WHOLE_HEAD,
        )

    kept = film().run(300)
    other = film()
    genuine = other.solver.feed

    def feed(frame: Frame) -> None:
        genuine(frame)
        if frame.number % 32 == 0:
            other.solver.forget_before(frame.number - 30)

    other.solver.feed = feed  # type: ignore[method-assign]  # to forget on the way
    other.run(300)
    for n in range(270, 300):
        assert np.array_equal(other.cover(n).parts, kept.cover(n).parts), n


def test_equal_tables_give_equal_covers() -> None:
    def film() -> Film:
        return Film(
            lambda n: [face_at(200 + 7 * (n % 20), 120), face_at(420 - 5 * (n % 20), 140)],
            lambda n: [body_of(FACE)],
            dressed,
            solver=solver("skin"),
        ).run(40)

    one, two = film(), film()
    assert one.looked == two.looked
    assert one.orders == two.orders
    for n in range(40):
        assert np.array_equal(one.cover(n).parts, two.cover(n).parts)


# --- what moves, and whose body it is ---


def test_a_known_body_that_moves_orders_no_look() -> None:
    body = body_of(FACE)
    legs = Rect(body.box.x1 + 5, body.box.y2 - 80, body.box.x2 - 5, body.box.y2 - 10)
    film = Film(lambda n: [FACE], lambda n: [body], motion=lambda n: moving(legs)).run(24)
    assert [n for n in film.looked if n > 8] == [16]  # the steady rate, nothing besides


def test_somebody_small_is_looked_for_again_soon_after_a_cut_and_nobody_is_not() -> None:
    small = Body(Rect(300, 100, 320, 150), 0.2)
    assert Film(lambda n: [], lambda n: [small]).run(7).looked[6] is Reach.FAR
    assert 6 not in Film(lambda n: []).run(7).looked


def test_large_people_are_looked_for_at_near_reach_and_small_ones_are_not() -> None:
    large, far = body_of(FACE), Body(Rect(40, 40, 55, 80), 0.9)
    motion = moving(Rect(500, 20, 620, 340))
    near = Film(lambda n: [FACE], lambda n: [large], motion=lambda n: motion).run(20)
    assert Reach.NEAR in near.looked.values()
    speck = moving(Rect(500, 20, 530, 50))
    middle = Film(lambda n: [FACE], lambda n: [large, far], motion=lambda n: speck).run(12)
    assert {middle.looked[n] for n in middle.looked if n > 6} == {Reach.MIDDLE}


def test_what_moves_where_a_head_is_carried_on_is_covered_unless_it_is_somebody_elses() -> None:
    beside = Rect(HEAD_OF.x2 - 10, HEAD_OF.y1 + 10, HEAD_OF.x2 + 14, HEAD_OF.y2 - 10)
    edge = Rect(HEAD_OF.x2 + 6, beside.y1 + 4, beside.x2 - 4, beside.y2 - 4)

    def film(*others: Face) -> Film:
        return Film(
            lambda n: [*others, *([FACE] if n >= 10 else [])], motion=lambda n: moving(beside)
        ).run(20)

    assert film().share(8, edge) == 1.0
    assert film().share(15, edge) < 1.0  # seen there: its own shape is known
    other = face_at(edge.x, edge.y, size=24)
    assert film(other).share(8, Rect(edge.x2 + 12, edge.y2 + 30, edge.x2 + 16, edge.y2 + 34)) == 0


def test_a_body_cut_above_whose_head_is_nowhere_is_nobody_and_one_that_is_whole_is_somebody() -> (
    None
):
    whole = Body(Rect(270, 60, 370, 340), 0.7)
    cut = Body(Rect(270, 0, 370, 300), 0.7)
    for body, people in ((whole, 1), (cut, 0)):
        film = Film(lambda n: [], lambda n, b=body: [b], lambda order: NOTHING).run(20)  # type: ignore[misc]  # bound now
        assert film.cover(10).people == people


def test_a_tilt_seen_by_closer_looks_turns_the_ellipse() -> None:
    upright = Film(lambda n: [FACE]).run(10)
    turned = Film(lambda n: [FACE]).run(10)
    for track in turned.solver._tracker.tracks:
        track.rolls[5] = 1.2
    rows, columns = np.nonzero(upright.cover(5).parts)
    tilted_rows, tilted_columns = np.nonzero(turned.cover(5).parts)
    assert np.ptp(rows) > np.ptp(columns)
    assert np.ptp(tilted_columns) > np.ptp(columns)
    assert np.ptp(tilted_rows) < np.ptp(rows)


def test_specks_beside_a_body_are_not_of_the_person() -> None:
    body = body_of(FACE)
    middle = Rect(body.box.x1 + 20, body.box.y1 + 20, body.box.x2 - 20, body.box.y2 - 10)
    speck = Rect(body.box.x2 + 6, body.box.y2 - 20, body.box.x2 + 14, body.box.y2 - 8)
    seen = planes(UPPER_CLOTHES=box_mask(middle) | box_mask(speck))
    film = Film(lambda n: [FACE], lambda n: [body], lambda order: seen, solver=solver("person"))
    film.run(12)
    assert film.share(6, middle) == 1.0
    assert film.share(6, speck) == 0.0


def test_who_lies_and_shows_no_head_is_covered_whole_and_counted() -> None:
    body = Body(Rect(200, 200, 440, 320), 0.8)
    clothes = planes(UPPER_CLOTHES=box_mask(body.box))
    film = Film(
        lambda n: [],
        lambda n: [body],
        parts=lambda order: clothes,
        motion=lambda n: moving(body.box),
    ).run(60)
    assert film.share(50, body.box) == 1
    assert film.cover(50).whole == 1
    assert film.cover(50).people == 1


def test_who_shows_a_head_is_not_counted_as_covered_whole() -> None:
    film = Film(lambda n: [FACE], parts=lambda order: WHOLE_HEAD).run(30)
    assert film.cover(20).people == 1
    assert film.cover(20).whole == 0


def test_a_body_at_the_upper_edge_that_showed_a_head_once_stays_somebody() -> None:
    """Later looks see nothing in plain black hair."""
    body = Body(Rect(270, 4, 370, 300), 0.75)
    hair = planes(HAIR=box_mask(Rect(290, 4, 350, 60)))

    def covered(seen: Callable[[PartOrder], PartLook]) -> float:
        film = Film(
            lambda n: [], lambda n: [body], parts=seen, motion=lambda n: moving(body.box)
        ).run(120)
        return film.share(110, Rect(305, 15, 335, 45))

    assert covered(lambda order: hair if order.frame < 12 else NOTHING) == 1
    assert covered(lambda order: NOTHING) == 0


# --- weak faces that are none ---


def test_a_weak_face_on_somebody_from_behind_does_not_say_where_the_head_is() -> None:
    """The parts see no head at it, and the body has its head elsewhere."""
    ghost = Face(Rect(345, 95, 375, 130), 0.35)
    body = Body(Rect(260, 80, 380, 340), 0.8)
    head = Rect(305, 90, 335, 118)
    hair = planes(HAIR=box_mask(head))
    film = Film(
        lambda n: [ghost],
        lambda n: [body],
        parts=lambda order: hair,
        closer=lambda order: 0.02,
        motion=lambda n: moving(body.box),
    ).run(60)
    assert film.covered(head)[-30:] == list(range(30, 60))
    assert film.share(50, Rect(365, 100, 375, 125)) < 0.5


def test_a_face_that_closer_looks_confirm_is_where_the_head_is_whatever_the_parts_say() -> None:
    film = Film(
        lambda n: [face_at(320, 120, 0.4)],
        lambda n: [body_of(FACE, 0.8)],
        parts=lambda order: NOTHING,
        closer=lambda order: 0.9,
        motion=lambda n: moving(body_of(FACE).box),
    ).run(60)
    assert film.covered(CENTRE) == list(range(60))


# --- who lies or hangs ---

CROWN_DOWN = Face(Rect(WIDTH - 340, HEIGHT - 144, WIDTH - 300, HEIGHT - 96), 0.9)
"""In a copy turned by a half: at FACE's place in the frame, the crown down."""


def upside_down(number: int, turn: int) -> TurnedLook | None:
    return TurnedLook(turn, [CROWN_DOWN], []) if turn == 2 else None


def test_a_shot_begins_with_looks_at_all_turned_copies_and_they_come_again_with_far_looks() -> None:
    film = Film(
        lambda n: [], motion=lambda n: CUT if n == 20 else STILL, solver=solver(people_every=60)
    ).run(130)
    asked = [n for n, turns in film.turns.items() if turns == TURNS]
    assert asked[:2] == [0, 20]
    assert {film.looked[n] for n in asked} == {Reach.FAR}
    assert max(np.diff([*asked, 130])) <= 2 * RATE


def test_who_hangs_is_followed_by_looks_at_that_turn_alone_and_stays_covered() -> None:
    film = Film(lambda n: [], turned=upside_down).run(40)
    followed = {n: turns for n, turns in film.turns.items() if turns != TURNS}
    assert set(map(tuple, followed.values())) == {(2,)}
    assert len(followed) >= 8
    assert film.covered(CENTRE) == list(range(40))
    below, above = (Rect(310, y, 330, y + 10) for y in (168, 64))
    assert film.share(20, below) > film.share(20, above)


def test_crops_of_who_hangs_are_turned_and_reach_to_where_the_body_is() -> None:
    film = Film(lambda n: [], turned=upside_down, parts=lambda order: None).run(20)
    assert film.orders
    assert film.closer_orders
    assert {order.turn for order in (*film.orders, *film.closer_orders)} == {2}
    _, top, _, bottom = film.orders[0].region
    assert 120 - top > bottom - 120


def test_a_turned_finding_on_somebody_whose_face_is_upright_is_nobody() -> None:
    feet = Body(Rect(WIDTH - 390, HEIGHT - 330, WIDTH - 250, HEIGHT - 90), 0.95)
    film = Film(
        lambda n: [FACE],
        lambda n: [body_of(FACE)],
        turned=lambda n, turn: TurnedLook(turn, [], [feet]) if turn == 2 else None,
    ).run(30)
    assert film.share(20, CENTRE) == 1
    assert film.share(20, Rect(280, 260, 360, 330)) == 0


@pytest.mark.parametrize(("parts", "asked"), [(NOTHING, 2), (WHOLE_HEAD, 0)])
def test_a_body_without_a_head_is_asked_about_twice_whether_it_is_turned(
    parts: PartLook, asked: int
) -> None:
    film = Film(
        lambda n: [],
        lambda n: [body_of(FACE)] if n >= 10 else [],
        parts=lambda order: parts,
        motion=lambda n: moving(body_of(FACE).box),
    ).run(49)
    turns = [n for n, turned in film.turns.items() if turned == TURNS and n > 10]
    assert len(turns) == asked
    assert all(later - sooner >= 12 for sooner, later in pairwise(turns))
