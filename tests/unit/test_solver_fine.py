"""What M2FP's parse of a frame becomes: somebody sure, his parts, and where he is in doubt."""

from __future__ import annotations

import numpy as np

from m2fp_stream.core.labels import CIHP, Label
from m2fp_stream.core.records import ParseResult
from m2fp_stream.parsers.embedded.looker import PART_LABELS
from m2fp_stream.pipeline.solver.fine import fine_looks

SIZE_WH = 320, 240
"""Of the frame; the map has half of it."""


def parse(*, doubted: tuple[slice, slice] | None = None) -> ParseResult:
    """Two people side by side."""
    labels = np.zeros((120, 160), np.uint8)
    instances = np.zeros_like(labels)
    for person, left in ((1, 20), (2, 90)):
        labels[20:40, left + 10 : left + 30] = Label.FACE
        labels[40:100, left : left + 40] = Label.UPPER_CLOTHES
        instances[labels > 0] = np.where(instances[labels > 0] > 0, instances[labels > 0], person)
    doubt = np.zeros(labels.shape, np.bool_)
    if doubted is not None:
        doubt[doubted] = True
    return ParseResult(
        frame_id=0,
        label_map=labels,
        labels=CIHP,
        groups=(),
        evidence=np.zeros((0, *labels.shape), np.uint8),
        must_cover=doubt,
        instances=instances,
        parser_id="test",
    )


def test_each_person_is_sure_and_has_a_head_where_it_was_labelled() -> None:
    first, second = fine_looks(parse(), SIZE_WH, PART_LABELS)
    assert first.sighting.sure
    assert (first.sighting.head.x, second.sighting.head.x) == (80, 220)
    assert first.doubt is second.doubt is None


def test_a_doubt_is_about_whom_it_lies_on_or_beside_and_nobody_else() -> None:
    on_the_first = slice(60, 70), slice(15, 30)
    first, second = fine_looks(parse(doubted=on_the_first), SIZE_WH, PART_LABELS)
    assert second.doubt is None
    assert first.doubt is not None
    unsure = first.doubt.planes[0] > 0
    assert unsure[on_the_first].mean() > 0.9
    assert unsure.sum() == unsure[on_the_first].sum()


def test_a_doubt_far_from_everybody_covers_nothing() -> None:
    nowhere = slice(0, 6), slice(0, 6)
    assert all(
        look.doubt is None for look in fine_looks(parse(doubted=nowhere), SIZE_WH, PART_LABELS)
    )
