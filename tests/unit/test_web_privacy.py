"""What viewers asked for: whatever comes in whatever order, it never hides less than it must."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from m2fp_stream.web.frames import LEVELS, Frame, Level
from m2fp_stream.web.privacy import PrivacyRequests, RequestedPrivacy

_LEVEL = st.sampled_from(LEVELS)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), _LEVEL, st.booleans()),
        st.tuples(st.just("floor"), _LEVEL),
        st.tuples(st.just("facts"), st.none() | _LEVEL),
        st.tuples(st.just("again")),
        st.tuples(st.just("say")),
    ),
    max_size=12,
)


def play(steps: list[Any]) -> tuple[PrivacyRequests, RequestedPrivacy | None, Level]:
    """Returns the requests after all steps, what was asked for last, and the floor."""
    requests = PrivacyRequests()
    asked, floor = None, LEVELS[0]
    for step in steps:
        match step:
            case ("ask", level, silhouette):
                asked = RequestedPrivacy(level, silhouette)
                requests.ask(level, silhouette=silhouette)
            case ("floor", level):
                floor = level
                requests.raise_to(level)
            case ("facts", level):
                requests.take_level(level)
            case ("again",):
                requests.say_again()
            case _:
                requests.message()
    return requests, asked, floor


def frame(requested: Level, *, silhouette: bool, covered: bool = False) -> Frame:
    return Frame(
        jpeg=b"",
        sequence=1,
        sent_ns=2,
        captured_ns=1,
        covered=covered,
        why=None,
        requested=requested,
        silhouette=silhouette,
        mirrored=False,
    )


@given(_STEPS)
def test_nothing_hides_less_than_the_floor_and_what_was_asked_for(steps: list[Any]) -> None:
    requests, asked, floor = play(steps)
    if asked is None:
        assert requests.request is None
        assert requests.message() is None
        return
    assert requests.request is not None
    least = max(asked.level, floor, key=LEVELS.index)
    assert LEVELS.index(requests.request.level) >= LEVELS.index(least)
    assert requests.request.silhouette == asked.silhouette


@given(_STEPS, _LEVEL, st.booleans())
def test_a_picture_that_may_hide_less_is_known(
    steps: list[Any], level: Level, silhouette: bool
) -> None:
    requests, _, _ = play(steps)
    assert not requests.hides_less(frame(level, silhouette=silhouette, covered=True))
    if requests.request is None:
        assert not requests.hides_less(frame(level, silhouette=silhouette))
        return
    wanted = requests.request
    enough = LEVELS.index(level) >= LEVELS.index(wanted.level)
    flat = silhouette or not wanted.silhouette
    is_fine = enough and flat and wanted.level != "frame"
    assert requests.hides_less(frame(level, silhouette=silhouette)) is not is_fine


@given(_STEPS)
def test_a_request_is_said_until_facts_agree_and_again_when_it_was_lost(steps: list[Any]) -> None:
    requests, asked, _ = play([*steps, ("ask", "person", True)])
    assert asked is not None
    assert requests.request is not None
    expected = {"kind": "privacy", "level": requests.request.level, "effect": "silhouette"}
    assert requests.message() == expected
    requests.take_level(requests.request.level)
    assert requests.message() == expected, "facts may have been measured before it"
    requests.take_level(requests.request.level)
    assert requests.message() is None
    requests.say_again()
    assert requests.message() == expected
