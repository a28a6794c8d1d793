"""A slow parse of seconds ago lies where its person is now, and can only add to what is covered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError, ParserError
from m2fp_stream.core.labels import BODY_PARTS, Label
from m2fp_stream.core.records import Look, ParseResult
from m2fp_stream.pipeline.live.refine import Refiner
from m2fp_stream.pipeline.workers import ParserQueue
from m2fp_stream.policy import Findings, Policy, PolicyOptions
from m2fp_stream.tracking.flow import Analyser, Mask, Small
from m2fp_stream.tracking.options import TrackingOptions
from tests.chaos.stage import backdrop

WIDTH, HEIGHT = 320, 180
SHAPE = HEIGHT, WIDTH
STEP_PX = 2
FRAME_S = 0.04

Picture = NDArray[np.uint8]


def scene(frame: int) -> Picture:
    """A striped square that walks to the right before a room."""
    picture = backdrop(7, WIDTH, HEIGHT).copy()
    x = place(frame)
    picture[60:130, x : x + 70] = backdrop(3, 70, 70)
    return picture


def place(frame: int) -> int:
    return 20 + STEP_PX * frame


def square(frame: int, label: int = Label.FACE) -> Picture:
    labels = np.zeros(SHAPE, np.uint8)
    labels[60:130, place(frame) : place(frame) + 70] = label
    return labels


class SlowParser:
    """Answers, when it is let, with the square where the picture it was given has it."""

    def __init__(self) -> None:
        self.frame = 0
        self.go = threading.Event()
        self.error: Exception | None = None
        self.given: list[Picture] = []

    def parse(self, bgr: Picture, *, frame_id: int, look: Look = Look.FULL) -> ParseResult:
        assert self.go.wait(20)
        self.given.append(bgr)
        if self.error is not None:
            raise self.error
        return ParseResult(
            frame_id=frame_id,
            label_map=square(frame_id),
            labels=BODY_PARTS,
            groups=(),
            evidence=np.zeros((0, *SHAPE), np.uint8),
            must_cover=np.zeros(SHAPE, np.bool_),
            instances=None,
            parser_id="slow",
        )

    def interrupt(self) -> None:
        self.go.set()

    def close(self) -> None:
        pass


class CrowdParser(SlowParser):
    """Finds many small regions beside the square, smallest last."""

    def parse(self, bgr: Picture, *, frame_id: int, look: Look = Look.FULL) -> ParseResult:
        result = super().parse(bgr, frame_id=frame_id, look=look)
        labels = result.label_map.copy()
        for number in range(12):
            labels[150:172, 24 * number : 24 * number + 14 - number] = Label.FACE
        return replace(result, label_map=labels)


class Stand:
    def __init__(self, slow: SlowParser, queue: ParserQueue, longest_s: float = 6.0) -> None:
        self.slow, self.queue = slow, queue
        policy = Policy(PolicyOptions(hide="face", margin=0.0))
        self.refiner = Refiner(queue, policy, TrackingOptions(), longest_s=longest_s)
        self._analyser = Analyser()
        self.frame = -1
        self.time_s = 100.0

    def show(self, frames: int = 1, *, cut: bool = False) -> None:
        for _ in range(frames):
            self.frame += 1
            self.time_s += FRAME_S
            if cut:
                self._analyser.restart()
            back = self._analyser.feed_back(Small.of(scene(self.frame), (WIDTH, HEIGHT)))
            if back is None:
                self.refiner.restart(self.frame)
            else:
                self.refiner.step(self.frame, back, self.time_s)
            self.refiner.collect(self.time_s)
            if self.refiner.wants:
                self.refiner.order(
                    scene(self.frame),
                    frame_id=self.frame,
                    time_s=self.time_s,
                    size_wh=(WIDTH, HEIGHT),
                )

    def answer(self) -> None:
        """Lets the slow parser answer, waits until it did."""
        asked = self.refiner._asked
        assert asked is not None
        future = asked.future
        self.slow.go.set()
        future.exception(20)
        self.slow.go.clear()

    def merged(self, *regions: Picture) -> Findings:
        """What the guard's parse of the newest frame becomes."""
        self.refiner.remember(self.frame)
        people = np.zeros(SHAPE, np.uint8)
        return self.refiner.merged(self.frame, Findings(regions, people))


@pytest.fixture
def stand() -> Iterator[Stand]:
    slow = SlowParser()
    queue = ParserQueue(slow, attempts=1)
    yield Stand(slow, queue)
    queue.close()


def hidden(findings: Findings) -> Mask:
    total = np.zeros(SHAPE, np.uint8)
    for region in findings.regions:
        total |= (region > 0).astype(np.uint8)
    return total


def test_what_it_found_a_second_ago_is_covered_where_it_is_now(stand: Stand) -> None:
    stand.show(1)
    stand.answer()
    stand.show(25)  # 50 pixels on
    now = square(25) > 0
    covered = hidden(stand.merged()) > 0
    assert (covered & now).sum() >= 0.95 * now.sum()
    assert covered.sum() <= 1.8 * now.sum()


def test_the_way_of_an_answer_that_takes_long_is_kept(stand: Stand) -> None:
    stand.show(20)  # ordered with the first frame, answered now
    stand.answer()
    stand.show(6)
    now = square(25) > 0
    covered = hidden(stand.merged()) > 0
    assert (covered & now).sum() >= 0.95 * now.sum()


def test_the_guards_regions_stay_as_they_were(stand: Stand) -> None:
    stand.show(1)
    stand.answer()
    stand.show(3)
    own = square(3, Label.HAIR)
    own[60:90] = 0
    elsewhere = np.zeros(SHAPE, np.uint8)
    elsewhere[150:170, 220:260] = Label.FACE
    merged = stand.merged(own, elsewhere)
    assert len(merged.regions) == 2  # one track a person, not two
    assert np.array_equal(merged.regions[0][own > 0], own[own > 0])
    assert np.array_equal(merged.regions[1], elsewhere)
    assert (merged.regions[0] > 0).sum() > (own > 0).sum()


def test_before_an_answer_nothing_is_added(stand: Stand) -> None:
    stand.show(5)
    assert not hidden(stand.merged()).any()


def test_a_frame_that_is_not_the_newest_gets_nothing(stand: Stand) -> None:
    stand.show(1)
    stand.answer()
    stand.show(4)
    stand.refiner.remember(stand.frame - 1)
    nothing = Findings((), np.zeros(SHAPE, np.uint8))
    assert stand.refiner.merged(stand.frame - 1, nothing) is nothing


@pytest.mark.parametrize("answered", [True, False])
def test_a_cut_ends_what_was_found(stand: Stand, answered: bool) -> None:
    stand.show(1)
    if answered:
        stand.answer()
        stand.show(2)
        assert hidden(stand.merged()).any()
    stand.show(1, cut=True)
    if not answered:
        stand.answer()
        stand.show(1)
    assert not hidden(stand.merged()).any()


def test_what_is_too_old_is_dropped(stand: Stand) -> None:
    stand.refiner._longest_s = 10 * FRAME_S
    stand.show(1)
    stand.answer()
    stand.show(9)
    assert hidden(stand.merged()).any()
    stand.show(3)
    assert not hidden(stand.merged()).any()


def test_a_parser_that_fails_costs_nothing_and_is_asked_again_later(stand: Stand) -> None:
    stand.slow.error = ParserError("it died")
    stand.show(1)
    stand.answer()
    stand.show(2)
    facts = stand.refiner.facts()
    assert (facts["parses"], facts["failures"]) == (0, 1)
    assert bool(stand.refiner.wants)  # not yet: it rests
    stand.slow.error = None
    stand.time_s += 5
    stand.show(1)
    assert not bool(stand.refiner.wants)
    stand.answer()
    stand.show(2)
    assert stand.refiner.facts()["parses"] == 1
    assert hidden(stand.merged()).any()


def test_weights_that_cannot_be_loaded_end_the_run(stand: Stand) -> None:
    stand.slow.error = ModelError("no such weights")
    stand.show(1)
    stand.answer()
    with pytest.raises(ModelError):
        stand.show(1)


def test_copies_are_zeroed(stand: Stand) -> None:
    stand.show(1)
    stand.answer()
    stand.show(1)
    assert not stand.slow.given[0].any()


def test_many_regions_are_few_to_carry_and_all_are_covered() -> None:
    crowd = CrowdParser()
    queue = ParserQueue(crowd, attempts=1)
    try:
        stand = Stand(crowd, queue)
        stand.show(1)
        stand.answer()
        stand.show(8)
        found = stand.refiner._found
        assert found is not None
        assert len(found.tracks) == 3
        covered = hidden(stand.merged()) > 0
        now = square(8) > 0
        assert (covered & now).sum() >= 0.95 * now.sum()
        for number in range(12):
            assert covered[160, 24 * number + 1]
    finally:
        queue.close()
