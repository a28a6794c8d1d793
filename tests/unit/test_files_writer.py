"""The writer's thread, by itself: what it tells of whom."""

from __future__ import annotations

import numpy as np

from m2fp_stream.compositor.compose import Compositor
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import Parsed
from m2fp_stream.core.safe import TrackRow, TrackState, TrackTable
from m2fp_stream.pipeline.files.writer import Solved, Writer
from m2fp_stream.pipeline.solver.records import Cover, Laid
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.sinks.base import Sink
from m2fp_stream.tracking.heads import Rect
from tests.kit.stage import HEIGHT, WIDTH, Footage, Kept, backdrop


class Rows(Sink[TrackTable]):
    """Keeps what is told."""

    accepts = TrackTable

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[TrackRow, ...]] = []
        self.steps: list[str] = []

    def _emit(self, item: TrackTable) -> None:
        self.rows.append(item.rows)

    def _prepare(self) -> None:
        self.steps.append("prepare")

    def _finish(self) -> None:
        self.steps.append("finish")

    def _abort(self) -> None:
        self.steps.append("abort")


def test_a_head_that_is_told_already_is_covered_and_not_told_again() -> None:
    parts, marks = (np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(2))
    parts[50:90, 100:140], marks[50:80, 100:140], marks[80:90, 100:140] = Label.FACE, 4, 5
    box = Rect(90.0, 50.0, 150.0, 170.0)
    laid = Laid(4, 4, box), Laid(5, 5, box, double=True)
    plan = Policy(PolicyOptions()).plan(
        frame_id=0, size_wh=(WIDTH, HEIGHT), parts=parts, tracks=marks
    )
    film, told = Kept(), Rows()
    writer = Writer(Compositor(), film, sound=None, tracks=told, waiting=2)
    writer.start()
    for captured in Footage([backdrop()]).frames():
        writer.put(Solved(captured.frame, Parsed(plan), Cover(parts, marks, 0, laid), 1))
    writer.finish(1.0)
    assert writer.error is None
    writer.close(None)
    row = TrackRow(1, (90, 50, 150, 170), TrackState.PLACED, (Label.FACE,))
    assert told.rows == [(row,)]
    assert (writer.tracks, writer.written, told.steps) == (1, 1, ["prepare", "finish"])
    changed = (film.frames[0].pixels != backdrop()).any(axis=2)
    assert changed[82:88, 110:130].mean() > 0.9
