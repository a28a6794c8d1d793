"""People may hide more than was configured, never less."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2fp_stream.core.safe import CoverLevel
from m2fp_stream.pipeline.live.control import PrivacyDial, PrivacyRequest

RANK = {CoverLevel.PARTS: 0, CoverLevel.PERSON: 1, CoverLevel.FRAME: 2}
LEVELS = st.sampled_from(list(CoverLevel))
TURNS = st.lists(st.one_of(LEVELS, st.sampled_from(["stronger", "configured"])), max_size=20)


def test_a_dial_starts_at_what_is_configured() -> None:
    assert PrivacyDial().level is CoverLevel.PARTS
    assert PrivacyDial(CoverLevel.PERSON).level is CoverLevel.PERSON


def test_stronger_goes_one_step_and_stays_at_the_strongest() -> None:
    dial = PrivacyDial()
    assert [dial.stronger() for _ in range(3)] == [
        CoverLevel.PERSON,
        CoverLevel.FRAME,
        CoverLevel.FRAME,
    ]
    assert dial.level is CoverLevel.FRAME


def test_configured_goes_back_to_the_floor() -> None:
    dial = PrivacyDial(CoverLevel.PERSON)
    dial.stronger()
    assert dial.configured() is CoverLevel.PERSON
    assert dial.level is CoverLevel.PERSON


@pytest.mark.parametrize("level", CoverLevel)
def test_a_turn_sets_the_level_at_once(level: CoverLevel) -> None:
    dial = PrivacyDial()
    assert dial.turn(level) is level
    assert dial.level is level


def test_a_silhouette_is_chosen_with_a_level_and_left_with_it() -> None:
    dial = PrivacyDial(CoverLevel.PERSON)
    dial.turn(CoverLevel.PARTS, silhouette=True)
    assert dial.request == PrivacyRequest(CoverLevel.PERSON, silhouette=True)
    dial.stronger()
    assert dial.request == PrivacyRequest(CoverLevel.FRAME, silhouette=True)
    dial.configured()
    assert dial.request == PrivacyRequest(CoverLevel.PERSON)


@given(floor=LEVELS, turns=TURNS)
def test_no_sequence_of_turns_goes_below_the_floor(
    floor: CoverLevel, turns: list[CoverLevel | str]
) -> None:
    dial = PrivacyDial(floor)
    for turn in turns:
        before = dial.level
        if isinstance(turn, CoverLevel):
            said = dial.turn(turn)
            assert RANK[said] == max(RANK[turn], RANK[floor])
        elif turn == "stronger":
            said = dial.stronger()
            assert RANK[said] == min(2, RANK[before] + 1)
        else:
            said = dial.configured()
            assert said is floor
        assert dial.level is said
        assert RANK[said] >= RANK[floor]


def test_turns_from_many_threads_end_at_a_level_and_above_the_floor() -> None:
    dial = PrivacyDial(CoverLevel.PERSON)
    weak: list[CoverLevel] = []

    def turn(mine: int) -> None:
        for count in range(400):
            match (mine + count) % 4:
                case 0:
                    dial.turn(CoverLevel.PARTS)
                case 1:
                    dial.stronger()
                case 2:
                    dial.configured()
                case _:
                    dial.turn(CoverLevel.FRAME)
            if RANK[dial.level] < RANK[CoverLevel.PERSON]:
                weak.append(dial.level)

    threads = [threading.Thread(target=turn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert weak == []
    assert dial.configured() is CoverLevel.PERSON
