"""Zones and times of a file run: what they cover in every frame, and what is told of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.core.errors import UsageError
from m2fp_stream.core.plan import Unknown, Why
from m2fp_stream.core.safe import CoverLevel
from tests.kit.stage import HEIGHT, WIDTH, Footage, Picture, Show, backdrop

HEAD = np.random.default_rng(3).integers(60, 200, (50, 40, 1), np.uint8).repeat(3, 2)
ZONE = np.zeros((HEIGHT, WIDTH), np.bool_)
ZONE[100:140, 200:260] = True
TEXT = "200,100,260,140"
AROUND_HEAD = "80,20,230,160"


def room(seed: int = 0) -> Picture:
    """A room without blue: what is grey in it is a head."""
    picture = backdrop(seed)
    picture[..., 0] = 0
    return picture


def with_head(picture: Picture, left: int = 130) -> Picture:
    drawn = picture.copy()
    drawn[50:100, left : left + 40] = HEAD
    return drawn


def show_of(pictures: list[Picture], **policy: Any) -> Show:
    return Show(Footage(pictures), policy=policy)


def pixels(show: Show, number: int) -> Picture:
    return show.sink.frames[number].pixels


def shown(show: Show, pictures: list[Picture], number: int) -> NDArray[np.bool_]:
    """Where a frame shows its source."""
    return np.asarray((pixels(show, number) == pictures[number]).all(axis=2))


def test_a_zone_is_covered_in_every_frame_though_nobody_is_there() -> None:
    pictures = [room()] * 12
    show = show_of(pictures, zones=[TEXT], effects={"zone": "solid"})
    outcome = show.run()
    far = np.ones_like(ZONE)
    far[85:155, 185:275] = False
    for number in range(12):
        assert (pixels(show, number)[ZONE] == (48, 42, 38)).all()
        assert shown(show, pictures, number)[far].all()
        assert show.sink.frames[number].cover.level is CoverLevel.PARTS
    assert outcome.covered_fraction == pytest.approx(float(ZONE.mean()), rel=0.2)
    assert (outcome.unknown_frames, outcome.requested_frames) == (0, 0)


def test_what_changes_in_a_zone_changes_no_composed_frame() -> None:
    plain = [with_head(room())] * 8
    other = [picture.copy() for picture in plain]
    for number, picture in enumerate(other):
        picture[100:140, 200:260] = room(number + 1)[100:140, 200:260]
    first, second = (show_of(one, zones=[TEXT]) for one in (plain, other))
    first.run()
    second.run()
    for number in range(8):
        assert np.array_equal(pixels(first, number), pixels(second, number))


def test_inverted_all_but_the_zones_is_covered_and_people_there_are_as_ever() -> None:
    pictures = [with_head(room())] * 12
    show = show_of(pictures, zones=[AROUND_HEAD], invert=True)
    show.run()
    inside = np.zeros_like(ZONE)
    inside[20:160, 80:230] = True
    head = np.zeros_like(ZONE)
    head[50:100, 130:170] = True
    for number in range(12):
        seen = shown(show, pictures, number)
        assert seen[~inside].mean() < 0.01
        assert seen[head].mean() < 0.01
        assert seen[inside].mean() > 0.2


def test_a_time_holds_for_the_frames_that_are_shown_in_it() -> None:
    pictures = [room()] * 20  # 40 ms each
    show = show_of(pictures, zones=[f"{TEXT}@0.2-0.3"], effects={"zone": "solid"})
    outcome = show.run()
    covered = [number for number in range(20) if (pixels(show, number)[ZONE] == (48, 42, 38)).all()]
    assert covered == [5, 6, 7]
    assert outcome.unmet_times == ()


def test_times_count_from_the_beginning_of_the_input() -> None:
    source = Footage([room()] * 20)
    source.starts_at(100.0)
    show = Show(source, policy={"cover_spans": ["100.2-100.3"]})
    outcome = show.run()
    assert [n for n in range(20) if isinstance(show.witness.states[n], Unknown)] == [5, 6, 7]
    assert outcome.requested_frames == 3


@pytest.mark.parametrize("quality", ["standard", "high"])
def test_a_span_covers_whole_frames_and_is_counted_apart(quality: str) -> None:
    pictures = [with_head(room())] * 20
    again = Footage(pictures) if quality == "high" else None
    show = Show(
        Footage(pictures),
        again=again,
        options={"quality": quality},
        policy={"cover_spans": ["0.2-0.3", "0.7-"]},
    )
    outcome = show.run()
    for number in range(20):
        on_request = show.witness.states[number] == Unknown(Why.ON_REQUEST)
        assert on_request == (number in {5, 6, 7, 17, 18, 19})
        if on_request:
            assert show.sink.frames[number].cover.level is CoverLevel.FRAME
    assert (outcome.requested_frames, outcome.unknown_frames) == (6, 0)


def test_a_frame_that_shows_nothing_is_the_same_card_as_others_in_a_span() -> None:
    """A plain card has the frame's colour; who asks for a span wants nothing of it."""
    grey = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    show = show_of([grey] * 4 + [room()] * 4, cover_spans=["0-0.5"])
    outcome = show.run()
    assert len({pixels(show, number).tobytes() for number in range(8)}) == 1
    assert (outcome.requested_frames, outcome.unknown_frames) == (8, 0)


def test_a_time_that_no_frame_is_shown_at_is_told() -> None:
    show = show_of([room()] * 5, zones=[f"{TEXT}@1-2"], cover_spans=["0:07-0:09", "0.1-0.1"])
    outcome = show.run()
    assert outcome.unmet_times == (f"{TEXT}@1-2", "0:07-0:09")
    assert outcome.requested_frames == 1


def test_who_is_wholly_in_a_keep_zone_is_left_alone_and_told() -> None:
    pictures = [with_head(room())] * 12
    show = show_of(pictures, keep_zones=[AROUND_HEAD])
    outcome = show.run()
    assert all(shown(show, pictures, number).all() for number in range(12))
    assert outcome.left_alone_frames == 12
    assert outcome.covered_fraction == 0


def test_who_leaves_a_keep_zone_is_covered_whole_as_soon_as_anything_of_him_is_outside() -> None:
    pictures = [with_head(room(), left=60 + 4 * number) for number in range(40)]
    show = show_of(pictures, keep_zones=["0,0,180,180"])
    outcome = show.run()
    for number in range(40):
        left = 60 + 4 * number
        seen = shown(show, pictures, number)[50:100, left : left + 40]
        assert seen.all() or seen.mean() < 0.02
        if left + 40 > 180:
            assert not seen.any()
    assert 5 < outcome.left_alone_frames < 24


def test_a_zone_outranks_a_keep_zone() -> None:
    pictures = [with_head(room())] * 12
    show = show_of(
        pictures, zones=["130,50,170,100"], keep_zones=["0,0,1,1"], effects={"zone": "solid"}
    )
    show.run()
    assert (pixels(show, 6)[50:100, 130:170] == (48, 42, 38)).all()


def test_a_zone_outside_the_picture_is_refused_before_anything_is_read() -> None:
    show = show_of([room()] * 3, zones=["0,0,400,100"])
    with pytest.raises(UsageError, match="outside the picture of 320x180"):
        show.run()
    assert show.source.given == []
