"""The solver where answers come late and nothing is known of the frames to come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from m2fp_stream.pipeline.solver.judge import JUDGED_WITHIN, SEEN_WITHIN
from m2fp_stream.pipeline.solver.place import HELD_S
from m2fp_stream.pipeline.solver.records import FineLook, Frame, PartOrder, Reach
from m2fp_stream.tracking.heads import Rect, of_body
from m2fp_stream.tracking.motion import Motion
from m2fp_stream.tracking.sightings import Body, Face, Sighting
from m2fp_stream.tracking.turned import TurnedLook

from .test_solver import (
    CUT,
    HEIGHT,
    NOTHING,
    RATE,
    STILL,
    WIDTH,
    Mask,
    body_of,
    box_mask,
    face_at,
    hidden,
    moving,
    planes,
    solver,
)

SHE = face_at(300, 120)
WEAK = face_at(300, 120, score=0.3)
WEAKER = face_at(300, 120, score=0.1)


class Live:
    """Feeds a solver as the live follower does; looks for people are answered as a test says."""

    def __init__(self, hide: Any = "head", *, live: bool = True) -> None:
        self.solver = solver(hide, live=live)
        self.count = 0

    def frame(self, *faces: Face, motion: Motion = STILL) -> int:
        number, self.count = self.count, self.count + 1
        motion = CUT if number == 0 else motion
        self.solver.wants_people(number, motion, faces)
        self.solver.feed(Frame(number, motion, faces))
        return number

    def frames(self, count: int, *faces: Face, motion: Motion = STILL) -> list[int]:
        return [self.frame(*faces, motion=motion) for _ in range(count)]

    def people(self, number: int, *bodies: Body, reach: Reach = Reach.MIDDLE) -> None:
        self.solver.take_late(number, bodies=bodies, reach=reach)

    def share(self, number: int, area: Mask) -> float:
        return float((self.solver.cover(number).parts[area] > 0).mean())

    def orders(self, *, face: bool) -> list[PartOrder]:
        return [one for one in self.solver.part_orders() if one.face is face]


# --- who is not judged yet ---


def test_a_newcomer_is_covered_until_closer_looks_judge_him() -> None:
    stand = Live()
    number = stand.frames(5)[-1]
    number = stand.frame(WEAK)
    assert stand.share(number, box_mask(WEAK.box)) == 1.0
    (order,) = stand.orders(face=True)
    stand.solver.take_face(order, 0.0, 0.0)
    assert stand.share(stand.frame(), box_mask(WEAK.box)) == 0.0


def test_a_face_that_comes_out_of_a_blur_is_covered_until_closer_looks_judge_it_anew() -> None:
    """The blur was judged; of two people who cross, one was open for sixteen frames for that."""
    stand = Live()
    stand.frames(5)
    stand.frame(WEAK)
    (order,) = stand.orders(face=True)
    stand.solver.take_face(order, 0.0, 0.0)
    stand.frames(3, WEAK)
    assert stand.share(stand.frame(WEAK), box_mask(WEAK.box)) == 0.0
    for number in stand.frames(30, SHE):
        assert stand.share(number, box_mask(SHE.box)) == 1.0
    order = stand.orders(face=True)[0]
    stand.solver.take_face(order, 0.0, 0.0)
    assert stand.share(stand.frame(SHE), box_mask(SHE.box)) == 0.0


def test_whom_nobody_judges_is_judged_by_what_was_seen_after_a_while() -> None:
    """People are not looked for in every frame: who is not seen again at once may be there."""
    body = Body(Rect(250, 90, 350, 340), 0.35)
    head = box_mask(of_body(body.box).rect())
    stand = Live()
    stand.people(stand.frames(5)[-1], body)
    for number in stand.frames(JUDGED_WITHIN):
        assert stand.share(number, head) > 0.7
    for number in stand.frames(3):
        assert stand.share(number, head) == 0.0


def test_a_face_that_is_not_seen_again_was_none() -> None:
    """Faces are looked for in every frame; nobody needs to judge this one."""
    stand = Live()
    stand.frames(5)
    stand.frame(WEAK)
    for number in stand.frames(SEEN_WITHIN):
        assert stand.share(number, box_mask(WEAK.box)) > 0.9
    for number in stand.frames(3):
        assert stand.share(number, box_mask(WEAK.box)) == 0.0


def test_a_face_that_is_seen_again_is_somebody_though_nobody_judges_it() -> None:
    stand = Live()
    stand.frames(5)
    stand.frame(WEAK)
    for number in stand.frames(2 * JUDGED_WITHIN, WEAKER):
        assert stand.share(number, box_mask(WEAK.box)) > 0.9


def test_somebody_turned_is_somebody_by_what_was_seen_and_waits_for_no_judge() -> None:
    """Things are taken for people more often in turned copies."""
    in_turned = face_at(WIDTH - 300, HEIGHT - 120, score=0.3)  # of the copy turned by half
    look = TurnedLook(2, [in_turned], [body_of(in_turned, score=0.3)])
    stand = Live()
    number = stand.frame()
    stand.people(number, reach=Reach.FAR)
    number = stand.frame()
    stand.solver.take_late(number, turned=[look])
    assert not stand.solver.cover(number).parts.any()
    sure = TurnedLook(2, [face_at(WIDTH - 300, HEIGHT - 120)], [body_of(in_turned)])
    stand.solver.take_late(number, turned=[sure])
    assert stand.share(number, box_mask(face_at(300, 120).box)) > 0.9


def test_in_a_file_who_was_seen_once_weakly_is_nobody() -> None:
    """The control: there the frames that follow are known."""
    stand = Live(live=False)
    stand.frames(5)
    number = stand.frame(WEAK)
    assert stand.share(number, box_mask(WEAK.box)) == 0.0


# --- how long a track goes on ---


def test_somebody_unseen_is_there_while_no_look_was_answered() -> None:
    """For longer than anything is shown (P3), and not for ever."""
    stand = Live()
    stand.frames(10, SHE)
    for number in stand.frames(2 * RATE):
        assert stand.share(number, box_mask(SHE.box)) > 0.9
    number = stand.frames(round(HELD_S * RATE))[-1]
    assert stand.share(number, box_mask(SHE.box)) == 0.0


def test_a_look_that_can_see_him_and_does_not_ends_a_track() -> None:
    stand = Live()
    for number in stand.frames(10, SHE):
        stand.people(number, body_of(SHE))
    number = stand.frames(4)[-1]
    assert stand.share(number, box_mask(SHE.box)) > 0.9
    stand.people(number - 1, reach=Reach.MIDDLE)
    assert stand.share(stand.frame(), box_mask(SHE.box)) == 0.0


def test_a_look_that_reaches_less_far_than_those_that_saw_somebody_ends_nothing() -> None:
    small = Body(Rect(290, 110, 320, 160), 0.9)
    head = of_body(small.box).rect()
    stand = Live()
    for number in stand.frames(30):
        if number % 6 == 0:
            stand.people(number, small, reach=Reach.FAR)
    for number in stand.frames(10):
        stand.people(number, reach=Reach.MIDDLE)
        assert stand.share(number, box_mask(head)) > 0.7
    stand.people(number, reach=Reach.FAR)
    assert stand.share(stand.frame(), box_mask(head)) == 0.0


def test_where_something_moves_unexplained_an_empty_look_is_not_believed() -> None:
    stand = Live()
    for number in stand.frames(10, SHE):
        stand.people(number, body_of(SHE))
    for number in stand.frames(4, motion=moving(SHE.box.grown(20, 20, 20))):
        stand.people(number)
        assert stand.share(number, box_mask(SHE.box)) > 0.9


def test_who_walks_on_unseen_is_covered_on_his_way() -> None:
    stand = Live()
    for n in range(12):
        stand.frame(face_at(200 + 5 * n, 120))
    for n in range(12, 22):
        number = stand.frame()
        assert stand.share(number, box_mask(face_at(200 + 5 * n, 120).box)) > 0.8


# --- late answers ---


def test_a_body_that_comes_late_is_covered_in_its_frame_and_since() -> None:
    stand = Live()
    numbers = stand.frames(6)
    body = Body(Rect(250, 90, 350, 340), 0.9)
    stand.people(2, body)
    head = box_mask(of_body(body.box).rect())
    for number in numbers[2:]:
        assert stand.share(number, head) > 0.7


def test_looks_that_came_late_are_counted() -> None:
    stand = Live()
    stand.frames(4)
    stand.people(1, body_of(SHE))
    stand.people(3)
    assert stand.solver.looks["people"] == 2
    assert stand.solver.looks["faces"] == 4


@pytest.mark.parametrize("what", ["people", "faces", "turned", "fine"])
def test_answers_about_the_shot_before_say_nothing(what: str) -> None:
    stand = Live()
    stand.frames(4)
    stand.frame(motion=CUT)
    number = stand.frame()
    if what == "people":
        stand.people(2, body_of(SHE))
    elif what == "faces":
        stand.solver.take_late(2, faces=[SHE])
    elif what == "turned":
        stand.solver.take_late(2, turned=[TurnedLook(2, [SHE], [body_of(SHE)])])
    else:
        stand.solver.take_fine_late(2, [fine_look()])
    assert not stand.solver.cover(number).parts.any()


def test_answers_about_frames_that_were_forgotten_say_nothing() -> None:
    stand = Live()
    stand.frames(200)
    stand.solver.forget_before(200)
    stand.people(3, body_of(SHE))
    stand.solver.take_late(900, faces=[SHE])  # not even fed
    assert not stand.solver.cover(199).parts.any()


def test_a_body_roughly_seen_again_does_not_move_somebody_small() -> None:
    small = Body(Rect(290, 110, 320, 160), 0.9)
    rough = Body(Rect(280, 100, 360, 170), 0.9)
    stand = Live()
    for number in stand.frames(20):
        if number % 4 == 0:
            stand.people(number, small, reach=Reach.FAR)
    before = stand.solver.cover(19).laid
    stand.people(19, rough, reach=Reach.MIDDLE)
    assert stand.solver.cover(19).laid == before


def test_parts_that_come_late_shape_the_cover_of_now() -> None:
    stand = Live()
    stand.frames(7, SHE)
    (order,) = stand.orders(face=False)
    numbers = stand.frames(4, SHE)
    hair = Rect(SHE.box.x1 - 4, SHE.box.y2, SHE.box.x2 + 4, SHE.box.y2 + 24)
    below = box_mask(Rect(hair.x1 + 4, hair.y1 + 12, hair.x2 - 4, hair.y2))
    assert stand.share(numbers[-1], below) < 0.7
    stand.solver.take_parts(
        order, planes(FACE=box_mask(SHE.box), HAIR=box_mask(hair) & ~box_mask(SHE.box))
    )
    assert stand.share(numbers[-1], below) == 1.0


def test_what_is_hidden_may_change_between_two_covers_of_one_frame() -> None:
    stand = Live()
    number = stand.frame(SHE)
    stand.people(number, body_of(SHE))
    body = box_mask(body_of(SHE).box)
    head_alone = stand.share(number, body)
    stand.solver.hide(hidden("person"))
    assert stand.share(number, body) == 1.0
    stand.solver.hide(hidden("head"))
    assert stand.share(number, body) == head_alone < 0.5


# --- what moves ---


def test_what_moves_is_covered_until_two_looks_saw_nobody_there() -> None:
    box = Rect(250, 100, 380, 300)
    stand = Live()
    stand.frame()
    numbers = stand.frames(6, motion=moving(box))
    assert stand.share(numbers[-1], box_mask(box)) == 1.0
    stand.people(numbers[1])
    assert stand.share(numbers[-1], box_mask(box)) == 1.0
    stand.people(numbers[3])
    assert stand.share(numbers[-1], box_mask(box)) == 0.0


@pytest.mark.parametrize(
    ("score", "live", "asks"),
    [(0.9, True, False), (0.2, True, True), (0.2, False, False)],
    ids=["sure", "weak", "weak in a file"],
)
def test_a_weak_face_explains_no_motion_where_looks_come_late(
    score: float, live: bool, asks: bool
) -> None:
    """What it hides would be open until the next look; a file knows the frames to come."""
    face = face_at(300, 120, score=score)
    stand = Live(live=live)
    stand.frame(face)
    motion = moving(face.box.grown(10, 10, 10))
    assert (stand.solver.wants_people(1, motion, [face]) is not None) is asks


@pytest.mark.parametrize(
    ("closer", "live", "asks"),
    [(0.9, True, False), (0.0, True, True), (0.0, False, False)],
    ids=["judged a face", "judged none", "judged none in a file"],
)
def test_a_track_that_is_nobody_explains_no_motion_where_looks_come_late(
    closer: float, live: bool, asks: bool
) -> None:
    face = face_at(300, 120, score=0.35)
    stand = Live(live=live)
    stand.frames(2, face)
    for order in stand.orders(face=True):
        stand.solver.take_face(order, closer, 0.0)
        stand.solver.take_face(order, closer, 0.0)
    motion = moving(Rect(face.box.x1, face.box.y2 + 4, face.box.x2, face.box.y2 + 60))
    before = face_at(300, 120, score=0.25)  # of this frame: unsure by itself
    assert (stand.solver.wants_people(2, motion, [before]) is not None) is asks


def test_who_moves_and_is_seen_is_covered_as_a_person_and_no_more_once_judged() -> None:
    """A body seen there is no empty look, and whom nobody judged explains no motion."""
    body = body_of(SHE)
    stand = Live()
    stand.frame()
    numbers = stand.frames(4, motion=moving(body.box))
    assert stand.share(numbers[-1], box_mask(body.box)) > 0.95
    stand.people(numbers[1], body)
    stand.people(numbers[2], body)
    assert stand.share(numbers[-1], box_mask(body.box)) > 0.95
    (order,) = stand.solver.part_orders(numbers[2])
    stand.solver.take_parts(order, planes(FACE=box_mask(SHE.box)))
    assert stand.share(numbers[-1], box_mask(body.box)) < 0.5
    assert stand.share(numbers[-1], box_mask(SHE.box)) == 1.0
    assert stand.solver.cover(numbers[-1]).people == 1


# --- a second parser ---


def fine_look(x: float = 300, **masks: Mask) -> FineLook:
    body = Rect(x - 60, 60, x + 60, 330)
    sighting = Sighting(of_body(body), body=1.0, box=body, sure=True)
    return FineLook(sighting, planes(**masks) if masks else NOTHING)


def head_of(look: FineLook) -> Mask:
    return box_mask(look.sighting.head.rect())


def test_whom_the_second_parser_alone_saw_stays_until_it_looks_again() -> None:
    look = fine_look()
    stand = Live()
    stand.frames(20)
    stand.solver.take_fine_late(10, [look])
    for _ in range(100):
        number = stand.frame()
        if number % 10 == 0:
            stand.people(number, reach=Reach.FAR)  # does not see him
        stand.solver.forget_before(number - 60)
        assert stand.share(number, head_of(look)) > 0.7
    stand.solver.take_fine_late(number - 50, [])
    assert stand.share(stand.frame(), head_of(look)) == 0.0


def test_what_the_second_parser_found_goes_with_the_camera() -> None:
    pan = Motion(False, np.array([[1, 0, 3], [0, 1, 0]], np.float32), STILL.moved, 0.5)
    look = fine_look()
    stand = Live()
    stand.frames(5)
    numbers = stand.frames(20, motion=pan)
    stand.solver.take_fine_late(4, [look])
    assert stand.share(4, head_of(look)) > 0.7
    assert stand.share(numbers[-1], head_of(fine_look(360))) > 0.7


def test_the_second_parsers_parts_join_the_shape_of_whom_looks_know() -> None:
    body = Rect(240, 60, 360, 330)
    head = of_body(body).rect()
    hair = Rect(head.x1 + 4, head.y2, head.x2 - 4, head.y2 + 26)
    below = box_mask(Rect(hair.x1 + 4, hair.y1 + 12, hair.x2 - 4, hair.y2))
    look = fine_look(FACE=box_mask(head), HAIR=box_mask(hair))
    stand = Live()
    for number in stand.frames(20):
        stand.people(number, Body(body, 0.9))
    tracks = stand.solver.cover(19).people
    assert stand.share(19, below) < 0.9
    stand.solver.take_fine_late(8, [look])
    assert stand.solver.cover(19).people == tracks == 1
    assert stand.share(19, below) == 1.0


def test_memory_does_not_grow_with_the_run() -> None:
    stand = Live()

    def held() -> list[int]:
        one = stand.solver
        return [len(one._fed), len(one._places.bodies), len(one._places.motions)]

    sizes: list[Sequence[int]] = []
    for _ in range(600):
        number = stand.frame(SHE)
        if number % 8 == 0:
            stand.people(number, body_of(SHE))
        if number % 32 == 0:
            stand.solver.forget_before(number - 50)
            sizes.append(held())
    assert sizes[-1] == sizes[len(sizes) // 2]
