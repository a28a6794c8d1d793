"""The benchmark of tables: what counts as found, and that its figures can be bad."""

from __future__ import annotations

import numpy as np
import pytest

from m2fp_stream.tracking.heads import Rect
from scripts.bench.scenes import Figure, Part, Truth
from scripts.bench.tracks import (
    COLUMNS,
    Count,
    boxes_of,
    by_frame,
    compared,
    line,
    matched,
    together,
)

SIZE_WH = 200, 100
PICTURE = np.zeros((100, 200, 3), np.uint8)


def figure(person: int, x: int, width: int = 20) -> Figure:
    """20 wide and 50 high, the box around it larger."""
    parts = np.zeros((60, 40), np.uint8)
    parts[5:55, 10 : 10 + width] = Part.BODY
    parts[5:15, 10 : 10 + width] = Part.FACE
    return Figure(person, slice(20, 80), slice(x - 10, x + 30), parts)


def truth(*figures: Figure, ignore: bool = False) -> Truth:
    return Truth(PICTURE, SIZE_WH, figures, np.ones((100, 200), np.bool_) if ignore else None)


def row(
    frame: int, track: int | None, x: int = 50, state: str = "placed", width: int = 20
) -> dict[str, object]:
    box = None if track is None else [x, 25, x + width, 75]
    return {"frame": frame, "track": track, "box": box, "state": state, "parts": []}


def test_a_person_is_the_box_of_what_is_visible() -> None:
    assert boxes_of(truth(figure(3, 50), figure(4, 100, 1))) == {3: Rect(50, 25, 70, 75)}


def test_each_box_is_found_once_and_the_best_first() -> None:
    people = [Rect(0, 0, 10, 10), Rect(4, 0, 14, 10)]
    rows = [Rect(3, 0, 13, 10), Rect(50, 0, 60, 10)]
    assert [(p, r) for p, r, _ in matched(people, rows, 0.3)] == [(1, 0)]
    assert matched(people, rows[1:], 0.3) == []


def test_figures_say_who_was_missed_made_up_carried_and_renamed() -> None:
    film = [truth(figure(0, 50)), truth(figure(0, 50)), truth(figure(0, 50)), truth()]
    rows = [
        *(row(0, 1), row(0, 2, 120)),
        *(row(1, None, state="card"),),
        *(row(2, 3, state="carried"),),
        *(row(3, 3, state="carried"),),
    ]
    count = compared(film, rows, 0.5)
    figures, frames = count.figures(), by_frame(count)
    assert [one["recall"] for one in frames] == [1, 0, 1, None]
    assert [one["precision"] for one in frames] == [1 / 2, None, 1, 0]
    assert figures["recall_all"] == pytest.approx(2 / 3)
    assert figures["precision_all"] == pytest.approx(2 / 4)
    assert (figures["recall_worst"], figures["precision_worst"]) == (0, 0)
    assert (figures["recall_seen"], figures["precision_seen"]) == (1 / 3, 1 / 2)
    assert (figures["cards"], figures["people"], figures["tracks"]) == (1, 1, 3)
    assert (figures["switches"], figures["iou"]) == (1, 1.0)


def test_a_box_that_is_half_right_is_found_loosely() -> None:
    figures = compared([truth(figure(0, 50))], [row(0, 1, 50, width=50)], 0.5).figures()
    assert (figures["recall_all"], figures["recall_loose"]) == (0, 1)


def test_who_is_not_known_exactly_counts_neither_way() -> None:
    figures = compared([truth(ignore=True)], [row(0, 1)], 0.5).figures()
    assert figures["precision_all"] is None
    assert line("x", figures).count("|") == len(COLUMNS) + 2


def test_films_together_share_nobody() -> None:
    one = compared([truth(figure(0, 50))], [row(0, 1)], 0.5)
    figures = together([one, one, Count()]).figures()
    assert (figures["people"], figures["tracks"], figures["recall_all"]) == (2, 2, 1.0)
