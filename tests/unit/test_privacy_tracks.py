"""The only maker of TrackTable: it tells no more than the composed picture shows."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core._mint import COMPOSED
from m2fp_stream.core.labels import Label
from m2fp_stream.core.plan import CoverPlan, Parsed, Propagated, Unknown, Why
from m2fp_stream.core.safe import CoverInfo, CoverLevel, SafeFrame, TrackRow, TrackState
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.privacy import tracks
from m2fp_stream.privacy.tracks import CoveredPerson, TrackTables
from tests.kit import media

SIZE_WH = 160, 90
MAP = 45, 80  # rows and columns, a cell is two pixels
PLACED, CARD = TrackState.PLACED, TrackRow(None, None, TrackState.CARD)
LEFT = CoveredPerson(7, 7, (20.4, 10.2, 39.6, 80.0), PLACED)
RIGHT = CoveredPerson(9, 9, (100.0, 10.0, 140.0, 80.0), TrackState.UNPLACED)


def frame(number: int = 0, size_wh: tuple[int, int] = SIZE_WH) -> SafeFrame:
    picture = np.zeros((*size_wh[::-1], 3), np.uint8)
    return media.composed(picture, number, pts=10 + number)


def maps(*people: CoveredPerson) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Heads: hair above a face, in the upper quarter of each box."""
    parts, marks = np.zeros(MAP, np.uint8), np.zeros(MAP, np.uint8)
    for one in people:
        x1, y1, x2, y2 = (int(v / 2) for v in one.xyxy)
        neck = y1 + (y2 - y1) // 4
        parts[y1:neck, x1:x2] = Label.FACE
        parts[y1 : y1 + 2, x1:x2] = Label.HAIR
        marks[y1:neck, x1:x2] = one.mark
    return parts, marks


class Told:
    """A film of which frames are told, under a policy."""

    def __init__(self, **policy: Any) -> None:
        self.policy = Policy(PolicyOptions.model_validate({"hide": "head", **policy}))
        self.tables = TrackTables()

    def rows(self, *people: CoveredPerson, number: int = 0, **more: Any) -> tuple[TrackRow, ...]:
        parts, marks = maps(*people)
        given = {"people": people, **more}
        plan = self.plan(parts, marks, people)
        table = self.tables.of(frame(number), Parsed(plan), parts=parts, marks=marks, **given)
        return table.rows

    def plan(self, parts: Any, marks: Any, people: Any) -> CoverPlan:
        return self.policy.plan(
            frame_id=0,
            size_wh=SIZE_WH,
            parts=parts,
            tracks=marks,
            people=[(one.mark, one.xyxy) for one in people],
            shown_s=(0.0, 0.1),
        )


def test_a_row_tells_box_state_and_covered_parts_of_each() -> None:
    rows = Told().rows(LEFT, RIGHT)
    assert rows == (
        TrackRow(1, (20, 10, 40, 80), PLACED, (Label.HAIR, Label.FACE)),
        TrackRow(2, (100, 10, 140, 80), TrackState.UNPLACED, (Label.HAIR, Label.FACE)),
    )


def test_frames_are_counted_and_timed_as_they_are_composed() -> None:
    told = Told()
    parts, marks = maps()
    for number in range(3):
        state = Propagated(told.plan(parts, marks, ()), 0.5)
        table = told.tables.of(frame(number), state, parts=parts, marks=marks, people=())
        assert (table.frame, table.time_s) == (number, Fraction(10 + number, 25))
        assert (table.rows, table.size_wh) == ((), SIZE_WH)


@pytest.mark.parametrize("known", [True, False])
def test_of_a_frame_that_is_covered_whole_nothing_else_is_told(known: bool) -> None:
    """Also where composing failed, so that the card is shown in place of what was planned."""
    told = Told()
    parts, marks = maps(LEFT)
    plan = told.plan(parts, marks, (LEFT,))
    cover = CoverInfo(None, CoverLevel.FRAME, "composing failed") if known else None
    safe = frame()
    if cover is not None:
        safe = SafeFrame(
            np.zeros((90, 160, 3), np.uint8),
            frame_id=0,
            pts=0,
            time_base=Fraction(1, 25),
            captured_ns=0,
            cover=cover,
            key=COMPOSED,
        )
    state = Parsed(plan) if known else Unknown(Why.ON_REQUEST)
    given: dict[str, Any] = {"parts": parts, "marks": marks, "people": (LEFT,)}
    assert told.tables.of(safe, state, **given).rows == (CARD,)
    assert told.tables.card(frame()).frame == 1
    assert told.tables.tracks == 0


def test_tracks_are_numbered_from_one_in_every_film_and_keep_their_numbers() -> None:
    told = Told()
    other = replace(LEFT, track_id=300)
    assert [row.track for row in told.rows(RIGHT)] == [1]
    assert [row.track for row in told.rows(LEFT, RIGHT)] == [2, 1]
    assert [row.track for row in told.rows(other)] == [3]
    assert [row.track for row in told.rows(LEFT)] == [2]
    assert told.tables.tracks == 3
    assert [row.track for row in Told().rows(LEFT)] == [1]


def test_the_same_number_in_another_part_of_the_film_is_somebody_else() -> None:
    told = Told()
    assert [row.track for row in told.rows(LEFT)] == [1]
    assert [row.track for row in told.rows(LEFT, part_of_film=1)] == [2]


def test_memory_does_not_grow_with_the_people_of_a_film(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracks, "_KEPT_NUMBERS", 3)
    told = Told()
    for number in range(50):
        told.rows(RIGHT, replace(LEFT, track_id=100 + number))
    assert told.tables.tracks == 51
    assert [row.track for row in told.rows(RIGHT)] == [1], "who is told of again is remembered"
    assert len(told.tables._numbers) == 3


@pytest.mark.parametrize(
    ("xyxy", "box"),
    [
        ((-30.0, -9.5, 20.0, 40.0), (0, 0, 20, 40)),
        ((150.0, 60.0, 200.0, 300.0), (150, 60, 160, 90)),
        ((-9.0, -9.0, -1.0, -1.0), (0, 0, 1, 1)),
        ((170.0, 95.0, 180.0, 99.0), (159, 89, 160, 90)),
        ((30.2, 30.2, 30.4, 30.4), (30, 30, 31, 31)),
    ],
)
def test_a_box_is_of_whole_pixels_in_the_picture(
    xyxy: tuple[float, float, float, float], box: tuple[int, int, int, int]
) -> None:
    parts, marks = maps()
    told = Told()
    plan = told.plan(parts, marks, ())
    people = (replace(LEFT, xyxy=xyxy),)
    table = told.tables.of(frame(), Parsed(plan), parts=parts, marks=marks, people=people)
    assert [(row.box, row.parts) for row in table.rows] == [(box, ())]


def test_who_is_wholly_in_a_zone_is_not_told_of() -> None:
    rows = Told(zones=["10,0,60,90"]).rows(LEFT, RIGHT)
    assert [row.box for row in rows] == [(100, 10, 140, 80)]
    assert rows[0].track == 1


def test_with_all_but_the_zones_covered_only_who_is_in_them_is_told_of() -> None:
    rows = Told(zones=["90,0,160,90"], invert=True).rows(LEFT, RIGHT)
    assert [row.box for row in rows] == [(100, 10, 140, 80)]


@pytest.mark.parametrize(
    ("zone", "box", "parts"),
    [
        ("0,0,30,90", (30, 10, 40, 80), (Label.HAIR, Label.FACE)),
        ("0,0,160,40", (20, 40, 40, 80), ()),
        ("0,12,160,90", (20, 10, 40, 12), (Label.HAIR,)),
        ("0,50,160,90", (20, 10, 40, 50), (Label.HAIR, Label.FACE)),
        ("24,30,30,40", (20, 10, 40, 80), (Label.HAIR, Label.FACE)),
    ],
)
def test_of_who_is_partly_in_a_zone_is_told_what_lies_outside(
    zone: str, box: tuple[int, int, int, int], parts: tuple[Label, ...]
) -> None:
    (row,) = Told(zones=[zone]).rows(LEFT)
    assert (row.box, row.parts, row.state) == (box, parts, PLACED)


def test_what_a_zone_covers_changes_nothing_that_is_told() -> None:
    """Somebody more in it, and how far others reach into it."""
    zones = ["0,0,30,90"]
    hidden = CoveredPerson(3, 3, (2.0, 20.0, 18.0, 60.0), PLACED)
    plain = Told(zones=zones).rows(LEFT)
    further = replace(LEFT, xyxy=(2.0, 10.2, 39.6, 80.0))
    (row,) = Told(zones=zones).rows(further, hidden)
    assert row.box == plain[0].box
    assert row.track == plain[0].track


def test_cells_smaller_than_two_pixels_tell_nothing_of_a_zone_either() -> None:
    zoned = np.zeros((64, 128), np.bool_)
    zoned[:, :60] = True
    for left in range(70, 80):
        shown = tracks._shown((float(left) - 60, 0.0, float(left) + 2, 50.0), (160, 80), zoned)
        assert shown is None or shown[0] >= 75
    zoned[:] = True
    assert tracks._shown((1.0, 1.0, 9.0, 9.0), (160, 80), zoned) is None


def test_who_is_left_alone_is_told_to_be_open() -> None:
    told = Told(keep_zones=["90,0,160,90"])
    rows = told.rows(LEFT, RIGHT)
    assert [(row.state, row.parts) for row in rows] == [
        (PLACED, (Label.HAIR, Label.FACE)),
        (TrackState.OPEN, ()),
    ]


def test_who_is_left_alone_beside_a_zone_is_open_and_who_is_in_it_is_not_told_of() -> None:
    told = Told(keep_zones=["90,0,160,90"], zones=["0,0,60,90"])
    assert [row.state for row in told.rows(LEFT, RIGHT)] == [TrackState.OPEN]
