"""What moves and is not explained by a parse is covered until parses clear it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from m2fp_stream.tracking.flow import Analyser, Link, Mask, Small
from m2fp_stream.tracking.motion_guard import Guard
from tests.chaos.stage import HEIGHT, WIDTH, Picture, backdrop

ROOM = backdrop(0)
BLOB = backdrop(7, 40, 50)
NOBODY = np.zeros((HEIGHT, WIDTH), np.uint8)
CLEAR_PARSES = 2


class Story:
    """Feeds pictures and keeps the guard's state."""

    def __init__(self, picture: Picture) -> None:
        self._analyser = Analyser()
        self.small = Small.of(picture, (WIDTH, HEIGHT))
        assert self._analyser.feed(self.small) is None
        self.link: Link | None = None
        self.guard = Guard.blank(HEIGHT, WIDTH)

    def show(self, picture: Picture) -> Story:
        self.small = Small.of(picture, (WIDTH, HEIGHT))
        links = self._analyser.feed(self.small)
        assert links is not None, "taken for a cut"
        self.link = links[0]
        self.guard = self.guard.step(self.link)
        return self

    def parse(self, people: Mask = NOBODY, held: Mask = NOBODY) -> Story:
        self.guard = self.guard.correct(
            self.link, self.small.colour, people, held, clear_parses=CLEAR_PARSES
        )
        return self

    def covers(self, area: Mask) -> float:
        """The share of `area` that the guard covers."""
        return float(self.guard.cover()[area > 0].mean())

    @property
    def quiet(self) -> bool:
        return not self.guard.cover().any()


def with_blob(left: int, *, blob: Picture = BLOB, top: int = 70) -> Picture:
    """The room with something in it; `left` may be negative."""
    picture = ROOM.copy()
    first, last = max(0, left), min(WIDTH, left + blob.shape[1])
    if last > first:
        picture[top : top + blob.shape[0], first:last] = blob[:, first - left : last - left]
    return picture


def place(left: int, top: int = 70) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + 50, max(0, left) : left + 40] = 1
    return mask


def entered() -> Story:
    """Nobody was there at the first parse; then something comes in from the left and stops."""
    story = Story(ROOM).parse()
    for left in range(-30, 40, 5):
        story.show(with_blob(left))
    return story


def test_an_empty_room_is_quiet() -> None:
    story = Story(ROOM).parse()
    for _ in range(3):
        assert story.show(ROOM).quiet


def test_who_enters_is_covered_from_the_first_frames_until_a_parse() -> None:
    story = Story(ROOM).parse()
    for left in range(-30, 60, 5):
        story.show(with_blob(left))
        assert story.covers(place(left)) > 0.9, left


def test_a_person_who_enters_over_an_explained_place_is_not_explained() -> None:
    story = Story(ROOM).parse(people=np.ones_like(NOBODY))  # all of the room was a person's
    assert story.show(ROOM).quiet
    assert story.show(with_blob(100)).covers(place(100)) > 0.9


def test_a_parse_that_labels_it_explains_it() -> None:
    story = entered().parse(people=place(35))
    assert story.quiet
    for left in range(37, 60, 2):
        story.show(with_blob(left))
        assert story.covers(place(left)) < 0.2, left


def test_a_parse_that_labels_a_quarter_of_it_explains_it() -> None:
    half = place(35)
    half[:, 55:] = 0
    assert entered().parse(people=half).quiet


def test_one_parse_that_finds_nobody_does_not_clear_and_the_second_does() -> None:
    story = entered()
    stood = with_blob(35)
    story.show(stood).parse()
    assert story.covers(place(35)) > 0.9
    story.show(stood)
    assert story.covers(place(35)) > 0.9
    story.parse()
    assert story.quiet
    assert story.show(stood).quiet


def test_a_parse_that_finds_somebody_starts_no_count() -> None:
    story = entered()
    story.show(with_blob(35)).parse().parse(people=place(35))
    assert not story.guard.cleared.any()


def test_motion_that_nobody_can_follow_is_never_cleared() -> None:
    story = Story(ROOM).parse()
    random = np.random.default_rng(3)
    for _ in range(6):
        flicker = random.integers(0, 2, (10, 8, 1), np.uint8).repeat(5, 0).repeat(5, 1)
        story.show(with_blob(100, blob=np.repeat(flicker * np.uint8(255), 3, axis=2)))
        story.parse()
        assert story.covers(place(100)) > 0.9


def test_motion_that_calms_down_is_cleared_after_two_parses_more() -> None:
    story = Story(ROOM).parse()
    story.show(with_blob(100)).parse()  # came from nowhere: nobody can follow that
    assert not story.guard.cleared.any()
    for expected in (False, True):
        story.show(with_blob(100)).parse()
        assert story.quiet is expected


def test_the_room_reappears_behind_who_has_passed() -> None:
    story = Story(ROOM).parse()
    for left in range(-40, WIDTH, 10):
        story.show(with_blob(left))
    for _ in range(3):
        story.show(ROOM)
    assert story.quiet


def test_the_room_is_known_again_in_the_very_frame_in_which_it_reappears() -> None:
    assert entered().show(ROOM).covers(place(35)) < 0.1


def test_without_the_memory_of_the_room_it_would_stay_covered() -> None:
    story = entered()
    story.guard = replace(story.guard, background=None, background_known=NOBODY)
    story.show(ROOM).show(ROOM)
    assert story.covers(place(35)) > 0.5


def test_where_people_are_and_are_held_nothing_is_remembered_as_room() -> None:
    story = Story(with_blob(100)).parse(people=place(100), held=place(200))
    assert not story.guard.background_known[place(100) > 0].any()
    assert not story.guard.background_known[place(200) > 0].any()
    assert story.guard.background_known[place(20) > 0].all()


def test_the_rooms_memory_pans_with_the_camera() -> None:
    wide = backdrop(0, WIDTH + 60, HEIGHT)

    def view(pan: int) -> Picture:
        return wide[:, pan : pan + WIDTH].copy()

    story = Story(view(0)).parse()
    for pan in range(3, 30, 3):
        story.show(view(pan))
    assert story.link is not None
    assert story.guard.known_background(story.link)[20:-20, 20:200].mean() > 0.9
    assert not story.guard.background_known[:, -20:].any()  # never seen by a parse


@pytest.mark.parametrize("levels", [2, 4])
def test_noise_of_the_sensor_is_no_motion(levels: int) -> None:
    random = np.random.default_rng(0)
    story = Story(ROOM).parse()
    for _ in range(5):
        noise = random.normal(0, levels, ROOM.shape)
        story.show(np.clip(ROOM + noise, 0, 255).astype(np.uint8))
        assert story.quiet


def test_a_blank_guard_knows_no_room_and_covers_nothing_itself() -> None:
    guard = Guard.blank(HEIGHT, WIDTH)
    assert not guard.cover().any()
    assert guard.background is None
    assert not guard.explained.any()


def glance(story: Story, people: Mask = NOBODY) -> Story:
    story.guard = story.guard.correct(
        story.link,
        story.small.colour,
        people,
        NOBODY,
        clear_parses=CLEAR_PARSES,
        thorough=False,
    )
    return story


def test_glances_clear_nothing() -> None:
    story = entered()
    covered = story.covers(place(35))
    for _ in range(3 * CLEAR_PARSES):
        glance(story.show(with_blob(35)))
    assert min(story.covers(place(35)), covered) > 0.8


def test_a_glance_that_labels_what_moves_explains_it() -> None:
    assert glance(entered(), people=place(35)).quiet


def test_a_glance_does_not_start_the_count_of_full_parses_again() -> None:
    story = entered()
    for _ in range(CLEAR_PARSES - 1):
        story.show(with_blob(35)).parse()
        glance(story.show(with_blob(35)))
    assert not story.quiet
    assert story.show(with_blob(35)).parse().quiet


def test_a_glance_teaches_no_background() -> None:
    story = Story(ROOM).parse()
    assert story.guard.background is not None
    before = story.guard.background.copy()
    glance(story.show(with_blob(35)), people=place(200))
    assert story.guard.background is not None
    assert np.array_equal(story.guard.background, before)


BOARD = backdrop(11, 150, HEIGHT)


def behind_a_board(board_left: int) -> Picture:
    """Somebody stands in the room; a board of its height passes in front."""
    picture = with_blob(150)
    left, right = max(0, board_left), min(WIDTH, board_left + BOARD.shape[1])
    picture[:, left:right] = BOARD[:, left - board_left : right - board_left]
    return picture


def test_who_comes_out_from_behind_something_explained_is_covered() -> None:
    board = np.zeros((HEIGHT, WIDTH), np.uint8)
    board[:, 110:260] = 1
    story = Story(behind_a_board(110)).parse(people=board)
    for left in range(113, 220, 3):  # 3 pixels a frame: no more than the edge of anything jitters
        story.show(behind_a_board(left))
    assert story.covers(place(150)) > 0.9
