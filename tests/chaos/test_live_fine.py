"""A slow fine parser that dies, hangs or lies beside the looks: the cover stays, it comes back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from m2fp_stream.core.errors import ModelError
from m2fp_stream.core.safe import CoverLevel
from m2fp_stream.pipeline.workers import ParserWorker, WorkerSpec
from tests.kit.live_stage import Performance, kill, looker, running, worker
from tests.kit.wait import wait_until

pytestmark = pytest.mark.paced

ALIGNMENTS = pytest.mark.parametrize("alignment", ["aligned", "low_latency"])


def refined(stage: Performance, parses: int) -> None:
    """Waits for so many answers of the fine parser."""
    refiner = stage.refiner
    assert refiner is not None

    def enough() -> bool:
        done = refiner.facts()["parses"]
        assert isinstance(done, int)
        return done >= parses

    stage.until(enough)


@ALIGNMENTS
def test_a_killed_fine_parser_is_replaced_and_nothing_is_covered_for_it(alignment: str) -> None:
    fine = worker()
    with Performance(fine=fine, live={"alignment": alignment}) as stage:
        stage.picture()
        refined(stage, 2)
        for _ in range(3):
            pid = running(fine)
            kill(pid)
            stage.picture(time.monotonic())
            assert running(fine, other_than=pid)
            assert stage.refiner is not None
            done = stage.refiner.facts()["parses"]
            assert isinstance(done, int)
            refined(stage, done + 1)
    assert stage.raw_frames() == []
    assert fine.starts >= 4


@pytest.mark.parametrize(
    ("fault", "alignment"),
    [
        ("raising", "aligned"),
        ("raising", "low_latency"),
        ("hanging", "aligned"),
        ("hanging", "low_latency"),
        # From a worker's refusal on they are one and the same error.
        ("nan", "low_latency"),
        ("wrong_size", "aligned"),
        pytest.param("nan", "aligned", marks=pytest.mark.slow),
        pytest.param("wrong_size", "low_latency", marks=pytest.mark.slow),
    ],
)
def test_a_faulty_fine_parser_costs_the_refinement_alone(fault: str, alignment: str) -> None:
    fine = worker(fault, at=list(range(30, 60)))
    with Performance(fine=fine, live={"alignment": alignment}) as stage:
        stage.picture()
        began = stage.wait_for(lambda one: one.frame_id >= 30)
        stage.wait_for(lambda one: one.frame_id >= 60)
        stage.picture(began.at_s)
        assert stage.refiner is not None
        done = stage.refiner.facts()["parses"]
        assert isinstance(done, int)
        refined(stage, done + 1)
        assert not [notice for notice in stage.notices if notice.startswith("a look (")]
    assert stage.raw_frames() == []


def test_a_fine_parser_never_sets_the_age_of_the_cover(tmp_path: Path) -> None:
    """All lookers hang for good; the fine parser answers all the time."""
    cue = tmp_path / "broken"
    lookers = {
        name: looker("hanging", cue=str(cue), deadline_s=60.0) for name in ("faces", "near", "far")
    }
    with Performance(lookers, fine=worker(), live={"alignment": "low_latency"}) as stage:
        stage.as_usual()
        cue.touch()
        began_s = time.monotonic()
        refined(stage, 2)
        # No look is younger than this, whenever its last answers came.
        old_s = began_s + 1.0
        stage.until(lambda: sum(one.captured_s > old_s for one in list(stage.seen)) > 25)
        assert stage.refiner is not None
        done = stage.refiner.facts()["parses"]
        assert isinstance(done, int)
        refined(stage, done + 1)
        assert {one.level for one in list(stage.seen) if one.captured_s > old_s} == {
            CoverLevel.FRAME
        }
    assert stage.raw_frames() == []


def test_a_fine_parser_that_cannot_start_ends_the_run_with_its_error() -> None:
    fine = ParserWorker(WorkerSpec("tests.kit.faulty:broken_factory"))
    with Performance(fine=fine) as stage:
        wait_until(lambda: stage.error)
    assert isinstance(stage.error, ModelError)
