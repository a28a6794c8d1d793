"""Hostile requests against the page's server: it says no, lives on, and goes on showing pictures.

`tests/chaos/web_attacks.py` has the attacks, and prints the table of them.
"""

from __future__ import annotations

from typing import Any

import pytest

from .web_attacks import ATTACKS, Outcome, play_limited, play_unlimited

GROWTH_MB = 64
"""What the process may grow by: 256 half requests of 16 KB and 16 pictures on their way are 10."""

GAP_S = 10
"""No measure of speed: a stream that an attack could stop stands still for longer."""

Played = tuple[dict[str, Outcome], dict[str, Any]]


@pytest.fixture(scope="module")
def played() -> Played:
    outcomes, seen = play_limited()
    return {one.name: one for one in outcomes}, seen


def check(outcome: Outcome, first_mb: float) -> None:
    """Holds for every attack, whatever it is."""
    assert outcome.alive, outcome
    assert outcome.frames > 0, outcome
    assert outcome.sent > 0, outcome
    assert outcome.leaks == 0, outcome
    assert outcome.rss_mb < first_mb + GROWTH_MB, outcome
    for answer in outcome.answers:
        assert answer[0] != "5" or answer == "503", outcome
        assert "SMUGGLED" not in answer, outcome
        assert answer not in ("open", "LOCKED OUT"), outcome


@pytest.mark.alone
@pytest.mark.parametrize("name", ATTACKS)
def test_the_server_lives_on_and_tells_nothing(played: Played, name: str) -> None:
    outcomes, seen = played
    check(outcomes[name], seen["first_mb"])


@pytest.mark.alone
@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("wrong token, code, session", {"401", "403", "429"}),
        ("wrong Host (DNS rebinding)", {"421"}),
        ("cross-site requests", {"403"}),
        ("two Hosts, smuggling, no HTTP", {"400", "401", "404", "421", "closed"}),
        ("path traversal", {"404", "429"}),
        ("WebSocket floods", {"closed 1008", "closed 1009", "cut off"}),
        ("half-sent heads", {"closed"}),
        ("uploads of a byte a second", {"408", "429", "503"}),
        ("readers that do not read", {"cut off"}),
        ("200 connections", {"204", "answered beside them in under 5 s"}),
        # Beside slow uploads there is no room, and beside 400 connections who was answered goes.
        ("oversized, malformed uploads", {"413", "415", "422", "429", "503", "closed"}),
    ],
)
def test_each_attack_is_answered_as_it_should_be(
    played: Played, name: str, allowed: set[str]
) -> None:
    assert set(played[0][name].answers) <= allowed


@pytest.mark.alone
def test_nothing_that_is_no_picture_reached_whoever_opens_them(played: Played) -> None:
    assert played[1]["reached"] == 0


@pytest.mark.alone
def test_pictures_never_stopped_for_long(played: Played) -> None:
    assert played[1]["longest_gap_s"] < GAP_S


@pytest.mark.alone
def test_the_servers_log_tells_of_nothing_unexpected(played: Played) -> None:
    assert played[1]["log"] == []


def generated(most: int) -> None:
    outcomes, seen = play_unlimited(most)
    for outcome in outcomes:
        check(outcome, seen["first_mb"])
    assert set(outcomes[0].answers) == {"413", "415", "422"}
    assert outcomes[1].sent == most
    assert outcomes[1].answers["200"] > most / 10  # it is not the gate alone that answers
    assert seen["longest_gap_s"] < GAP_S
    assert seen["problems"] == []
    assert seen["reached"] > 0
    assert seen["wrong"] == 0
    assert seen["log"] == []


def test_generated_requests_are_answered_as_described() -> None:
    generated(80)


@pytest.mark.slow
def test_ten_thousand_generated_requests_are_answered_as_described() -> None:
    generated(10_000)
