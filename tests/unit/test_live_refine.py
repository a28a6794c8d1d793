"""A slow second parser of live: one parse at a time; what fails costs nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError, ParserError
from m2fp_stream.core.labels import BODY_PARTS, Label
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.records import ParseResult
from m2fp_stream.pipeline.live.refine import Refiner
from m2fp_stream.pipeline.solver.records import FineLook
from m2fp_stream.pipeline.workers import ParserQueue
from tests.kit.stage import backdrop

WIDTH, HEIGHT, SIDE = 640, 360, 320

Picture = NDArray[np.uint8]


class SlowParser:
    """Answers, when it is let, with a face over the body below it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.error: Exception | None = None
        self.given: list[Picture] = []
        self.shapes: list[tuple[int, ...]] = []

    def parse(self, bgr: Picture, *, frame_id: int) -> ParseResult:
        assert self.go.wait(60)
        self.given.append(bgr)
        self.shapes.append(bgr.shape)
        if self.error is not None:
            raise self.error
        labels = np.zeros(bgr.shape[:2], np.uint8)
        labels[30:60, 100:120] = Label.FACE
        labels[60:150, 90:130] = Label.UPPER_CLOTHES
        return ParseResult(
            frame_id=frame_id,
            label_map=labels,
            labels=BODY_PARTS,
            groups=(),
            evidence=np.zeros((0, *labels.shape), np.uint8),
            must_cover=np.zeros(labels.shape, np.bool_),
            instances=None,
            parser_id="slow",
        )

    def interrupt(self) -> None:
        self.go.set()

    def close(self) -> None:
        pass


class Stand:
    def __init__(self, slow: SlowParser, queue: ParserQueue) -> None:
        self.slow = slow
        self.refiner = Refiner(queue, side=SIDE)
        self.now_s = 100.0
        self.next_id = 0

    def show(self, seconds: float = 0.04) -> int:
        """Shows a frame; says which."""
        self.now_s += seconds
        number, self.next_id = self.next_id, self.next_id + 1
        raw = RawFrame(
            backdrop(7, WIDTH, HEIGHT),
            frame_id=number,
            pts=number,
            time_base=Fraction(1, 25),
            captured_ns=round(self.now_s * 1e9),
        )
        self.refiner.order(raw, self.now_s)
        raw.release()
        return number

    def answered(self) -> tuple[int, list[FineLook]] | None:
        """Lets the slow parser answer, waits until it did, and returns what is there."""
        asked = self.refiner._asked
        assert asked is not None
        self.slow.go.set()
        asked.future.exception(60)
        self.slow.go.clear()
        return self.refiner.collect(self.now_s)


@pytest.fixture
def stand() -> Iterator[Stand]:
    slow = SlowParser()
    queue = ParserQueue(slow, attempts=1)
    yield Stand(slow, queue)
    queue.close()


def test_whom_it_found_is_told_in_pixels_of_the_frame_it_was_asked_about(stand: Stand) -> None:
    first = stand.show()
    stand.show()
    found = stand.answered()
    assert found is not None
    number, (look,) = found
    assert number == first
    assert look.sighting.sure
    box = look.sighting.box
    assert box is not None
    assert (box.x1, box.y1, box.x2, box.y2) == (180, 60, 260, 300)
    assert stand.slow.shapes == [(180, 320, 3)]


def test_one_parse_is_under_way_at_a_time(stand: Stand) -> None:
    for _ in range(5):
        stand.show()
        assert stand.refiner.collect(stand.now_s) is None
    assert stand.answered() is not None
    newest = stand.show()
    found = stand.answered()
    assert found is not None
    assert found[0] == newest
    assert len(stand.slow.given) == 2


def test_an_answer_is_told_once(stand: Stand) -> None:
    stand.show()
    assert stand.answered() is not None
    assert stand.refiner.collect(stand.now_s) is None


def test_a_parser_that_fails_costs_nothing_and_is_asked_again_later(stand: Stand) -> None:
    stand.slow.error = ParserError("it died")
    stand.show()
    assert stand.answered() is None
    facts = stand.refiner.facts()
    assert (facts["parses"], facts["failures"]) == (0, 1)
    stand.show()
    assert stand.refiner._asked is None  # it rests
    stand.slow.error = None
    asked = stand.show(5.0)
    found = stand.answered()
    assert found is not None
    assert found[0] == asked
    assert stand.refiner.facts()["parses"] == 1


def test_a_parser_that_keeps_failing_rests_longer_each_time(stand: Stand) -> None:
    stand.slow.error = ParserError("it died")
    rests = []
    for _ in range(8):
        began_s = stand.now_s
        while stand.refiner._asked is None:
            stand.show(0.25)
        rests.append(stand.now_s - began_s)
        stand.answered()
    assert rests == sorted(rests)
    assert rests[-1] <= 30.5
    assert rests[-1] > 10 * rests[1]


def test_weights_that_cannot_be_loaded_end_the_run(stand: Stand) -> None:
    stand.slow.error = ModelError("no such weights")
    stand.show()
    with pytest.raises(ModelError):
        stand.answered()


def test_copies_are_zeroed(stand: Stand) -> None:
    stand.show()
    stand.answered()
    assert not stand.slow.given[0].any()


def test_how_long_a_parse_took_is_told(stand: Stand) -> None:
    assert stand.refiner.facts()["parse_s"] is None
    stand.show()
    stand.now_s += 1.5
    stand.answered()
    assert stand.refiner.facts() == {"parses": 1, "failures": 0, "doubts": {}, "parse_s": 1.5}
