"""Zones of a live run: nothing of them is shown, whatever happens to looks and to the source."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from m2fp_stream.core.errors import UsageError
from m2fp_stream.core.plan import Why
from m2fp_stream.core.safe import CoverLevel
from tests.kit import faulty
from tests.kit.live_stage import ROOM, Cues, Performance, Seen, broken, scene
from tests.kit.stage import HEIGHT, WIDTH, Picture
from tests.kit.texture import contains_marker, marker
from tests.kit.wait import wait_until

pytestmark = pytest.mark.paced

PLATE = marker(11, 32, 48)
"""What nobody takes for a person, and what is in the zone. It has no grey: looks see nothing."""
PLATE[..., 0] = 0
LEFT, TOP = 8, 8
ZONE = f"{LEFT},{TOP},{LEFT + 48},{TOP + 32}"


def with_plate(frame_id: int) -> Picture:
    picture = scene(frame_id)
    picture[TOP : TOP + 32, LEFT : LEFT + 48] = PLATE
    return picture


def shows_plate(pixels: Picture, frame_id: int) -> bool:
    return contains_marker(pixels, PLATE)


def is_at(level: CoverLevel, one: Seen) -> bool:
    return one.level is level


def test_the_plate_would_be_found_without_a_zone() -> None:
    """The bypass control: a search that finds nothing proves nothing."""
    with Performance(cues=Cues(picture=with_plate), look=shows_plate) as show:
        show.until(show.raw_frames)


@pytest.mark.parametrize("fault", ["none", "people", "faces"])
def test_a_zone_is_covered_whatever_fails(fault: str) -> None:
    lookers = None if fault == "none" else broken("raising", fault)
    cues = Cues(picture=with_plate)
    with Performance(lookers, cues=cues, look=shows_plate, policy={"zones": [ZONE]}) as show:
        if fault == "none":
            show.as_usual()
            for level in CoverLevel:
                show.dial.turn(level)
                show.wait_for(partial(is_at, level), show.seen[-1].at_s)
            cues.silent.set()
            away = show.card(show.seen[-1].at_s)
            assert away.frame_id < 0 or away.reason == Why.ON_REQUEST.value
            cues.silent.clear()
            show.dial.configured()
            cues.lost.set()
            wait_until(lambda: show.capture.reconnects >= 1)
            show.as_usual(captured_after_s=show.seen[-1].at_s)
        wait_until(lambda: len(show.seen) > 60)
    assert show.error is None
    assert show.raw_frames() == []
    assert show.run.facts()["zones"] == 1


def test_who_is_in_a_keep_zone_is_left_alone_and_that_is_told() -> None:
    with Performance(policy={"keep_zones": ["0,0,1,1"]}) as show:
        show.until(show.raw_frames)
        show.dial.turn(CoverLevel.FRAME)
        card = show.card(show.seen[-1].at_s)
        assert not card.raw
    facts = show.run.facts()
    assert facts["keep_zones"] == 1
    assert facts["frames_with_people_left_alone"] > 0
    assert any("keep-zone" in notice for notice in show.notices)


def test_inverted_nothing_but_the_zones_is_shown() -> None:
    def shows_room(pixels: Picture, frame_id: int) -> bool:
        right = np.s_[: HEIGHT - faulty.FLOOR_PX, WIDTH // 2 + 16 :]
        return bool((pixels[right] == ROOM[right]).all(axis=2).mean() > 0.05)

    policy = {"zones": ["0,0,0.5,1"], "invert": True}
    with Performance(look=shows_room, policy=policy) as show:
        show.as_usual()
        wait_until(lambda: len(show.seen) > 40)
    assert show.raw_frames() == []
    assert show.run.facts()["zones_inverted"]


def test_a_zone_outside_the_picture_ends_the_run_before_anything_is_shown() -> None:
    with Performance(policy={"zones": [f"0,0,{WIDTH + 1},20"]}) as show:
        wait_until(lambda: show.error is not None)
    assert isinstance(show.error, UsageError)
    assert show.seen == []
