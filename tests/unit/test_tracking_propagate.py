"""Tracks keep their numbers, outlive a parse that misses them, and end for a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from m2fp_stream.policy import Findings
from m2fp_stream.tracking.flow import Analyser, Link, Mask, Small
from m2fp_stream.tracking.options import TrackingOptions
from m2fp_stream.tracking.propagate import Covered, State, Tracker
from tests.chaos.stage import HEIGHT, WIDTH, Picture

from .test_tracking_guard import NOBODY, ROOM, place, with_blob

FACE = 13


def found(*regions: Mask) -> Findings:
    people = np.maximum.reduce([*regions]) if regions else NOBODY
    return Findings(tuple((region * FACE).astype(np.uint8) for region in regions), people)


class Story:
    """A tracker that is shown pictures and told of parses, 0.2 s apart."""

    def __init__(self, picture: Picture, *regions: Mask, **options: Any) -> None:
        self._tracker = Tracker(TrackingOptions.model_validate(options))
        self._analyser = Analyser()
        self.now_s = 0.0
        self.link: Link | None = None
        self.small = Small.of(picture, (WIDTH, HEIGHT))
        self._analyser.feed(self.small)
        self.state: State = self._tracker.blank(self.small)
        self.parse(*regions)

    def show(self, picture: Picture, seconds: float = 0.2) -> Story:
        self.now_s += seconds
        self.small = Small.of(picture, (WIDTH, HEIGHT))
        links = self._analyser.feed(self.small)
        assert links is not None, "taken for a cut"
        self.link = links[0]
        self.state = self._tracker.step(self.state, self.link)
        return self

    def parse(self, *regions: Mask) -> Story:
        findings = found(*regions)
        self.state = self._tracker.correct(self.state, findings, self.small, self.link, self.now_s)
        return self

    @property
    def ids(self) -> list[int]:
        return sorted(track.track_id for track in self.state.tracks)

    def covers(self, area: Mask) -> float:
        """The share of `area` that tracks cover."""
        return float((self.state.covered().parts[area > 0] > 0).mean())


def test_a_blank_state_covers_nothing_and_has_no_track() -> None:
    story = Story(ROOM)
    assert story.ids == []
    assert not story.state.covered().parts.any()


def test_every_region_becomes_a_track_of_its_own() -> None:
    story = Story(ROOM, place(20), place(120), place(220))
    assert story.ids == [1, 2, 3]
    covered = story.state.covered()
    for left in (20, 120, 220):
        assert (covered.parts[place(left) > 0] == FACE).all()
    numbers = {int(covered.tracks[95, left + 20]) for left in (20, 120, 220)}
    assert len(numbers) == 3
    assert 0 not in numbers


def test_an_empty_region_becomes_no_track() -> None:
    assert Story(ROOM, NOBODY, place(120)).ids == [1]


def test_a_number_is_kept_while_the_region_moves() -> None:
    story = Story(with_blob(60), place(60), place(200))
    for left in range(64, 100, 4):
        story.show(with_blob(left))
        story.parse(place(200), place(left))
        assert story.ids == [1, 2]
    by_id = {track.track_id: track for track in story.state.tracks}
    number = 1 if by_id[1].overlap(place(96)) else 2
    assert by_id[number].overlap(place(96)) > 0.8
    assert by_id[number].confirmed_s == pytest.approx(story.now_s)


def test_two_regions_on_one_track_get_two_numbers() -> None:
    story = Story(ROOM, place(100))
    halves = place(100), place(100)
    halves[0][:, 119:] = 0
    halves[1][:, :121] = 0
    assert story.show(ROOM).parse(*halves).ids == [1, 2]


def test_a_parse_that_misses_a_track_does_not_end_it() -> None:
    """The room behind is known, and flow is at a loss: the first miss counts for nothing."""
    story = Story(ROOM).show(with_blob(100)).parse(place(100))
    story.show(ROOM).parse()
    assert story.covers(place(100)) == 1.0
    assert [track.misses for track in story.state.tracks] == [1]


def test_a_track_ends_at_the_second_miss_where_the_known_room_shows() -> None:
    story = Story(ROOM).show(with_blob(100)).parse(place(100))
    story.show(ROOM).parse()
    assert story.show(ROOM).parse().ids == []


def test_a_track_is_held_while_its_picture_can_be_followed() -> None:
    story = Story(with_blob(100), place(100), hold_s=1.0)
    for _ in range(5):  # misses at 0.2 to 1.0 s
        story.show(with_blob(100)).parse()
        assert story.covers(place(100)) == 1.0
    assert story.show(with_blob(100)).parse().ids == []


def test_a_track_that_is_lost_from_sight_ends_at_the_second_miss() -> None:
    story = Story(with_blob(100), place(100), hold_s=60.0)
    random = np.random.default_rng(2)

    def noise() -> Picture:
        flicker = random.integers(0, 2, (10, 8, 1), np.uint8).repeat(5, 0).repeat(5, 1)
        return with_blob(100, blob=np.repeat(flicker * np.uint8(255), 3, axis=2))

    story.show(noise()).parse()
    assert story.ids == [1]
    assert story.show(noise()).parse().ids == []


def test_a_confirmation_starts_the_count_again() -> None:
    story = Story(with_blob(100), place(100), hold_s=0.5)
    for _ in range(4):
        story.show(with_blob(100)).parse()
        story.show(with_blob(100)).parse(place(100))
    assert story.ids == [1]
    assert [track.misses for track in story.state.tracks] == [0]


def test_a_second_parse_of_the_first_frame_holds_once() -> None:
    """Without a link there is nothing to follow by."""
    story = Story(ROOM, place(100))
    assert story.parse().ids == [1]
    assert story.parse().ids == []


def test_a_held_track_is_no_room() -> None:
    story = Story(with_blob(100), place(100))
    story.show(with_blob(100)).parse()
    assert not story.state.guard.background_known[place(100) > 0].any()


def test_findings_of_another_size_lose_nothing() -> None:
    big = np.zeros((HEIGHT * 4, WIDTH * 4), np.uint8)
    big[101:103, 203:205] = 1
    story = Story(ROOM, big)
    assert story.state.covered().parts[25, 50:52].all()


def maps(parts: list[int], tracks: list[int]) -> Covered:
    return Covered(np.asarray([parts], np.uint8), np.asarray([tracks], np.uint8))


def test_a_union_keeps_every_pixel_and_the_first_name() -> None:
    union = (maps([13, 13, 0, 0], [1, 1, 0, 0]) | maps([2, 0, 2, 0], [5, 0, 5, 0])).narrowed()
    assert union.parts.tolist() == [[13, 13, 2, 0]]
    assert union.tracks.tolist() == [[1, 1, 5, 0]]
    assert union.parts.dtype == union.tracks.dtype == np.uint8


def test_the_guard_adds_only_what_is_clear() -> None:
    covered = maps([13, 0, 0], [1, 0, 0]).add_guard(np.asarray([[1, 1, 0]], np.uint8))
    assert covered.parts.tolist() == [[13, 20, 0]]
    assert covered.tracks.tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("before", [253, 254, 255, 256, 511])
def test_many_tracks_have_numbers_of_a_byte_and_none_is_the_guards(before: int) -> None:
    story = Story(ROOM)
    tracker = story._tracker
    for _ in range(before):
        tracker._number()
    story.show(ROOM).parse(place(100))
    numbers = np.unique(story.state.covered().tracks)
    assert story.ids == [before + 1]
    assert 0 < numbers.max() <= 255


def test_a_glance_drops_nobody_and_counts_nothing() -> None:
    story = Story(with_blob(100), place(100))
    for _ in range(5):
        story.show(with_blob(100))
        story.state = story._tracker.correct(
            story.state, replace(found(), thorough=False), story.small, story.link, story.now_s
        )
    assert story.ids == [1]
    assert [track.misses for track in story.state.tracks] == [0]
    assert story.covers(place(100)) > 0.9


def test_a_glance_moves_whom_it_finds() -> None:
    story = Story(with_blob(100), place(100))
    story.show(with_blob(110))
    story.state = story._tracker.correct(
        story.state,
        replace(found(place(110)), thorough=False),
        story.small,
        story.link,
        story.now_s,
    )
    assert story.ids == [1]
    assert story.covers(place(110)) == 1


def test_a_glance_that_confirms_not_everybody_loses_somebody() -> None:
    story = Story(ROOM, place(20), place(200))
    for regions, loses in (((place(20), place(200)), False), ((place(20),), True), ((), True)):
        glance = replace(found(*regions), thorough=False)
        assert story._tracker.loses(story.state, glance) is loses
        assert not story._tracker.loses(story.state, found(*regions))
