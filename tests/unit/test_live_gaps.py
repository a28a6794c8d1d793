"""A live picture that stalls: whoever walked on meanwhile is followed by time, not by frames."""

from __future__ import annotations

import numpy as np
import pytest

from m2fp_stream.core.plan import Why
from m2fp_stream.core.records import LookKind
from m2fp_stream.pipeline.copies import hidden_by
from m2fp_stream.pipeline.live.follow import _REMEMBERED_S, Follower, Rates
from m2fp_stream.pipeline.solver.records import Reach
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.tracking.heads import Rect
from m2fp_stream.tracking.motion import MotionFinder, SmallGrey
from m2fp_stream.tracking.sightings import Body, Face
from tests.kit.faulty import DrawnLooker, person_box
from tests.kit.live_stage import RATE, scene
from tests.kit.stage import HEIGHT, WIDTH, Picture


class Walk:
    """Somebody who walks one pixel a frame, followed; frames may be left out."""

    def __init__(self, comes: float = RATE) -> None:
        """`comes`: frames a second that come; the source says RATE."""
        self._comes, self._since = comes, (0, 0.0)
        size_wh = WIDTH, HEIGHT
        self.follower = Follower(
            size_wh=size_wh,
            map_wh=size_wh,
            rate=RATE,
            hidden=hidden_by(Policy(PolicyOptions())),
            rates=Rates(),
        )
        self._finder, self._eyes = MotionFinder(), DrawnLooker()
        self._looked = False

    def add(self, frame_id: int, *, seen: bool = True, people: bool = False) -> None:
        picture = scene(frame_id)
        faces = None
        if seen:
            found = self._eyes.asked(LookKind.FACES, picture)
            faces = [Face(Rect(*box), 0.9) for box in found.xyxy.tolist()]  # type: ignore[union-attr]  # of faces
        motion = self._finder.feed(SmallGrey.of(picture))
        self.follower.add(frame_id, self._time_s(frame_id), motion, faces)
        if people or (seen and (not self._looked or frame_id % 6 == 0)):
            bodies = self._eyes.asked(LookKind.PEOPLE, picture)
            boxes = [Body(Rect(*box), 0.9) for box in bodies.xyxy.tolist()]  # type: ignore[union-attr]  # of people
            for reach in (Reach.FAR, Reach.MIDDLE):
                self.follower.people(frame_id, boxes, reach)
            self._looked = True

    def slows(self, frame_id: int, comes: float) -> None:
        """From a frame on, so many come a second."""
        self._since, self._comes = (frame_id, self._time_s(frame_id)), comes

    def _time_s(self, frame_id: int) -> float:
        return self._since[1] + (frame_id - self._since[0]) / self._comes

    def age_s(self, frame_id: int) -> float:
        return self.follower.verdict(frame_id).age_s

    def open(self, frame_id: int) -> int:
        """Returns how many pixels of the person's head (nine tenths of the box) are open."""
        left, top, right, bottom = person_box(frame_id)
        verdict = self.follower.verdict(frame_id)
        assert verdict.cover is not None
        parts: Picture = verdict.cover.parts
        aside, down = (right - left) // 20, (bottom - top) // 20
        head = parts[top + down : bottom - down, left + aside : right - aside]
        return int(np.count_nonzero(head == 0))


@pytest.mark.parametrize("missing", [3, 8, 18])
def test_somebody_is_covered_whose_walk_was_not_seen_for_a_moment(missing: int) -> None:
    walk = Walk()
    for frame_id in range(20):
        walk.add(frame_id)
        assert walk.open(frame_id) == 0
    after = 20 + missing
    walk.add(after)
    assert walk.open(after) == 0
    for frame_id in range(after + 1, after + 7):
        walk.add(frame_id, seen=False)  # its look for faces is late
        assert walk.open(frame_id) == 0, frame_id


def test_what_was_known_is_forgotten_though_frames_are_left_out() -> None:
    walk = Walk()
    for frame_id in range(1, 400, 2):
        walk.add(frame_id)
    assert len(walk.follower._solver._fed) < 4 * RATE
    assert len(walk.follower._moments) <= _REMEMBERED_S * RATE
    assert len(walk.follower._solver._fed) < 8 * RATE


def test_a_head_first_guessed_from_a_body_and_then_seen_is_no_movement() -> None:
    """A body that the picture cuts gives a small head, far above the one that is seen next."""
    walk = Walk()
    walk.add(0)  # (P4)
    walk.follower.unknown(1, 1 / RATE, Why.UNIFORM)
    walk.add(2, seen=False, people=True)
    walk.add(3)
    for frame_id in range(4, 9):
        walk.add(frame_id, seen=False)
        assert walk.open(frame_id) == 0, frame_id


@pytest.mark.parametrize("comes", [15.0, 25.0, 30.0, 50.0])
def test_somebody_is_covered_until_the_whole_picture_is_where_no_look_is_answered(
    comes: float,
) -> None:
    walk = Walk(comes)
    for frame_id in range(60):
        walk.add(frame_id)
    frame_id, most_s = 60, 0.0
    while True:
        walk.add(frame_id, seen=False)
        if walk.age_s(frame_id) >= 1.0:  # from here on the card is shown (P3)
            break
        most_s = walk.age_s(frame_id)
        assert walk.open(frame_id) == 0, f"{most_s:.2f} s after the last look"
        frame_id += 1
    assert most_s > 0.9


@pytest.mark.parametrize("apart", [0.2, 0.6, 0.9])
def test_frames_that_come_in_pairs_are_followed_and_count_as_the_time_they_took(
    apart: float,
) -> None:
    """As packets from a network do; `apart` is how late each second one is, in intervals."""
    walk = Walk()
    for number in range(100):
        motion = walk._finder.feed(SmallGrey.of(scene(number)))
        walk.follower.add(number, (number + apart * (number % 2)) / RATE, motion, [])
    assert len({moment.shot for moment in walk.follower._moments}) == 1
    numbers = [moment.number for moment in walk.follower._moments]
    assert numbers == sorted(set(numbers))
    assert 0.8 * len(numbers) < numbers[-1] - numbers[0] < 1.2 * len(numbers)


def test_nothing_is_shown_where_the_rate_changed_until_a_first_look() -> None:
    """Everything that counts in frames starts anew, and so does what is known (P4)."""
    walk = Walk()
    for frame_id in range(60):
        walk.add(frame_id)
    walk.slows(60, 5.0)
    for frame_id in range(60, 100):
        walk.add(frame_id, seen=False)
        verdict = walk.follower.verdict(frame_id)
        assert verdict.cover is None or verdict.age_s >= 1.0 or walk.open(frame_id) == 0
    assert walk.follower._moments[-1].shot == 2
    assert {moment.shot for moment in walk.follower._moments} == {1, 2}
