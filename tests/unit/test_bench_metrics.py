"""What the leak benchmark counts, on truths and covers drawn by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from scripts.bench.metrics import (
    HIDES,
    Bool,
    Cover,
    Scorer,
    Verdict,
    judge,
    longest_run,
    summary,
    swaps,
)
from scripts.bench.scenes import FaceBox, Figure, Part, Truth

SIZE_WH = (320, 180)
"""Here what is up to 3 pixels from a required one is not outside: 12 of 720 rows."""


def figure(top: int = 60, left: int = 100, person: int = 0, **changes: object) -> Figure:
    """A head of 20x20 (upper half hair, lower half face), 10 rows of long hair, 30 of body."""
    parts = np.full((60, 20), Part.BODY, np.uint8)
    parts[:10], parts[10:20], parts[20:30] = Part.HAIR, Part.FACE, Part.LONG_HAIR
    face = FaceBox(left + 10, top + 15, 20, 10)
    rows, columns = slice(top, top + 60), slice(left, left + 20)
    return Figure(person, rows, columns, parts, face, **changes)  # type: ignore[arg-type]  # fields of Figure


def truth(*figures: Figure, ignore: Bool | None = None) -> Truth:
    return Truth(np.zeros((*SIZE_WH[::-1], 3), np.uint8), SIZE_WH, figures, ignore)


def cover(*boxes: tuple[int, int, int, int], track: int = 0) -> Cover:
    """Covers boxes of (top, bottom, left, right)."""
    pixels = np.zeros(SIZE_WH[::-1], bool)
    for top, bottom, left, right in boxes:
        pixels[top:bottom, left:right] = True
    return Cover(pixels, np.where(pixels, track, 0).astype(np.uint8))


HEAD = (60, 80, 100, 120)


def test_a_cover_that_misses_half_the_hair_above_the_chin_leaves_a_quarter_of_the_head() -> None:
    verdict = judge(truth(figure()), cover((65, 80, 100, 120)))
    assert verdict.worst == pytest.approx(0.25)
    assert (verdict.required_px, verdict.open_px) == (400, 100)
    assert (verdict.face_px, verdict.face_open_px) == (200, 0)
    # Hair is 10 rows above the chin and 10 below it, which are open as well.
    assert (verdict.hair_px, verdict.hair_open_px) == (400, 300)
    assert verdict.hair_worst == pytest.approx(0.75)


def test_a_whole_head_covered_shows_nothing_and_its_long_hair_is_hair_that_shows() -> None:
    verdict = judge(truth(figure()), cover(HEAD))
    assert (verdict.worst, verdict.face_open_px) == (0, 0)
    assert verdict.hair_worst == pytest.approx(0.5)


def test_long_hair_of_a_head_too_small_to_count_does_not_count() -> None:
    parts = np.full((20, 8), Part.LONG_HAIR, np.uint8)
    parts[:4] = Part.FACE
    for face_height, hair_px in ((4, 0), (10, 128)):
        face = FaceBox(104, 62, 5, face_height)
        far = Figure(0, slice(60, 80), slice(100, 108), parts, face)
        assert judge(truth(far), cover()).hair_px == hair_px


def test_an_exposed_frame_is_more_than_a_quarter_a_strict_one_more_than_a_twentieth() -> None:
    covers = [cover((60 + open_rows, 80, 100, 120)) for open_rows in (1, 2, 5, 6)]
    scorer = Scorer()
    for number, one in enumerate(covers):
        scorer.see(truth(figure()), one, number)
    row = summary([scorer.verdicts], {})
    assert (row["exposed"], row["strict"], row["run"]) == (1, 3, 1)
    assert row["open"] == pytest.approx(100 * 14 / 80)


def test_the_worst_of_two_people_counts() -> None:
    two = truth(figure(), figure(left=200, person=1))
    assert judge(two, cover(HEAD)).worst == 1


def test_heads_too_small_to_show_anybody_are_left_out() -> None:
    parts = np.full((1, 59), Part.FACE, np.uint8)
    one = Figure(0, slice(0, 1), slice(0, 59), parts)
    assert judge(truth(one), cover()).worst == 0
    assert judge(truth(one), cover()).face_px == 0


def test_outside_begins_beyond_the_ellipse_of_a_head() -> None:
    # 2.6 x 20 by 3 x 10 around (110, 75 - 1.2): from x 84 to 136, y 58.8 to 88.8.
    just_in, just_out = cover((73, 75, 85, 87)), cover((73, 75, 81, 83))
    assert judge(truth(figure()), just_in).outside_over_px == 0
    assert judge(truth(figure()), just_out).outside_over_px == 4
    ellipse = np.pi * 26 * 15
    outside = judge(truth(figure()), cover()).outside_px
    # The head's upper corners and the long hair stick out of it, and 3 pixels around them.
    assert SIZE_WH[0] * SIZE_WH[1] - outside > ellipse
    assert SIZE_WH[0] * SIZE_WH[1] - outside < ellipse + 26 * 14


def test_outside_begins_three_pixels_from_long_hair() -> None:
    near, far = cover((88, 90, 121, 123)), cover((93, 94, 110, 112))
    assert judge(truth(figure()), near).outside_over_px == 0
    assert judge(truth(figure()), far).outside_over_px == 2


def test_a_head_behind_something_has_no_ellipse() -> None:
    hidden = figure()
    hidden.parts[:30] = Part.NOBODY
    verdict = judge(truth(hidden), cover((70, 72, 100, 104)))
    assert (verdict.outside_over_px, verdict.fragments) == (8, 1)


def test_ignored_pixels_are_neither_outside_nor_open_nor_fragments() -> None:
    ignore = np.zeros(SIZE_WH[::-1], bool)
    ignore[:, 200:] = True
    verdict = judge(truth(figure(), ignore=ignore), cover(HEAD, (0, 10, 210, 220)))
    assert (verdict.outside_over_px, verdict.fragments, verdict.covered_px) == (0, 0, 400)


def test_the_ratio_leaves_long_hair_out_and_is_the_median() -> None:
    scorer = Scorer()
    for number, right in enumerate((120, 140, 300)):
        scorer.see(truth(figure()), cover((60, 80, 100, right), (80, 90, 100, 120)), number)
    scorer.see(truth(), cover((0, 9, 0, 9)), 3)  # nobody: no ratio
    assert summary([scorer.verdicts], {})["ratio"] == pytest.approx(2.0)


def test_a_fragment_touches_no_head() -> None:
    scattered = cover((60, 70, 110, 150), (75, 76, 100, 101), (82, 83, 119, 160), (0, 5, 0, 5))
    assert judge(truth(figure()), scattered).fragments == 1
    assert judge(truth(), scattered).fragments == 4


def test_under_person_a_piece_on_a_body_is_no_fragment_and_a_body_has_to_be_covered() -> None:
    on_body = cover((100, 110, 100, 110))
    assert judge(truth(figure()), on_body).fragments == 1
    person = judge(truth(figure()), on_body, hide=HIDES["person"])
    assert (person.fragments, person.required_px, person.open_px) == (0, 1200, 1100)


def test_flicker_is_what_switches_outside_from_frame_to_frame() -> None:
    scorer = Scorer()
    for number, boxes in enumerate([[HEAD], [HEAD, (0, 4, 0, 8)], [HEAD, (0, 4, 0, 8)], [HEAD]]):
        scorer.see(truth(figure()), cover(*boxes), number)
    outside = scorer.verdicts[0].outside_px
    assert [one.switched_px for one in scorer.verdicts] == [0, 32, 0, 32]
    assert summary([scorer.verdicts], {})["flicker"] == pytest.approx(100 * 64 / 3 / outside)


def test_cover_on_a_head_that_comes_and_goes_is_no_flicker() -> None:
    scorer = Scorer()
    for number, boxes in enumerate([[HEAD], [], [HEAD]]):
        scorer.see(truth(figure()), cover(*boxes), number)
    assert [one.switched_px for one in scorer.verdicts] == [0, 0, 0]


def test_outside_is_a_mean_over_frames_and_its_worst_scene_a_mean_of_its_own() -> None:
    calm, busy = Scorer(), Scorer()
    for number in range(4):
        calm.see(truth(), cover(), number)
        busy.see(truth(), cover((0, 90, 0, 320)), number)
    row = summary([calm.verdicts, busy.verdicts], {})
    assert (row["outside"], row["worst_outside"]) == (pytest.approx(25), pytest.approx(50))
    assert row["outside_95"] == pytest.approx(50)


@pytest.mark.parametrize(
    ("name", "required"),
    [("head", 400), ("face", 200), ("skin", 300), ("person", 1200), ("parts", 800)],
)
def test_every_preset_has_its_own_required_pixels(name: str, required: int) -> None:
    dressed = figure()
    dressed.parts[30:35] = Part.SKIN
    dressed.parts[40:50] = Part.LEGWEAR
    assert judge(truth(dressed), cover(), hide=HIDES[name]).required_px == required


def test_a_body_whose_parts_nobody_knows_is_ignored_where_parts_are_hidden() -> None:
    unknown = truth(figure(labelled=False))
    on_body = cover((100, 110, 100, 110))
    assert judge(unknown, on_body, hide=HIDES["skin"]).outside_over_px == 0
    assert judge(unknown, on_body, hide=HIDES["head"]).outside_over_px == 100
    assert judge(unknown, cover(), hide=HIDES["skin"]).required_px == 200


def owned(*tracks: Mapping[int, int]) -> list[Verdict]:
    """One verdict a frame, of who is covered by which track; a track lives where it is named."""
    return [
        Verdict(number, owners=tuple(one.items()), tracks=frozenset(one.values()))
        for number, one in enumerate(tracks)
    ]


@pytest.mark.parametrize(
    ("tracks", "count"),
    [
        ([{0: 1, 1: 2}, {0: 1, 1: 2}], 0),
        ([{0: 1, 1: 2}, {0: 2, 1: 1}], 2),  # two people change their tracks
        ([{0: 1}, {0: 2}], 0),  # the old one ended, the new one began
        ([{0: 1}, {}, {0: 2}], 0),  # and with a gap
        ([{0: 1, 1: 2}, {}, {0: 2, 1: 2}], 0),  # the old one is not there any more
        ([{0: 1, 1: 2}, {0: 2}, {0: 2, 1: 1}], 2),  # it comes back
    ],
)
def test_a_swap_is_a_change_between_tracks_that_both_live(
    tracks: list[Mapping[int, int]], count: int
) -> None:
    assert swaps(owned(*tracks)) == count


def test_the_owner_is_the_track_of_most_of_the_covered_head_at_any_size_of_map() -> None:
    pixels = np.zeros(SIZE_WH[::-1], bool)
    pixels[60:80, 100:120] = True
    cells = np.zeros((45, 80), np.uint8)
    cells[15:20, 25:28], cells[15:20, 28:30] = 7, 9
    verdict = judge(truth(figure(person=4)), Cover(pixels, cells))
    assert verdict.owners == ((4, 7),)
    assert verdict.tracks == {7, 9}


def test_looks_are_told_a_frame_and_by_kind() -> None:
    row = summary([owned({}, {}, {}, {})], {"people": 1, "faces": 4})
    assert row["looks"] == {"faces": 1.0, "people": 0.25}


def test_longest_run() -> None:
    assert longest_run([True, True, False, True]) == 2
    assert longest_run([]) == 0


def test_nothing_seen_is_no_division_by_nothing() -> None:
    row = summary([[]], {})
    assert (row["frames"], row["ratio"]) == (0, None)
