"""What a live run says about itself is counted, recent, and numbers only."""

from __future__ import annotations

import json
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from m2fp_stream.core.plan import Why
from m2fp_stream.core.safe import CoverInfo, CoverLevel
from m2fp_stream.pipeline.live.stats import LiveStats

PARSED = CoverInfo(0.0, CoverLevel.PARTS, "parsed")


def card(why: Why) -> CoverInfo:
    return CoverInfo(None, CoverLevel.FRAME, why.value)


def test_before_the_first_frame_there_are_no_distributions() -> None:
    summary = LiveStats().summary()
    assert summary["frames"] == summary["frames_wholly_covered"] == 0
    assert summary["looks"] == summary["looks_failed"] == summary["look_ms"] == {}
    assert summary["latency_ms"] is summary["cover_age_ms"] is None
    assert summary["covered_fraction"] is None
    assert summary["person_s_ago"] is None
    assert summary["fps"] == 0


def test_distributions_have_the_middle_the_high_end_and_the_highest() -> None:
    stats = LiveStats()
    for number in range(101):
        stats.frame(CoverInfo(number / 1000, CoverLevel.PARTS, "propagated"), number / 100, 0.5)
        stats.look("faces", number / 10, failed=False)
    summary = stats.summary()
    assert summary["latency_ms"] == {"p50": 500.0, "p95": 950.0, "max": 1000.0}
    assert summary["cover_age_ms"] == {"p50": 50.0, "p95": 95.0, "max": 100.0}
    assert summary["look_ms"] == {"faces": {"p50": 5000.0, "p95": 9500.0, "max": 10000.0}}
    assert summary["covered_fraction"] == 0.5


@given(values=st.lists(st.floats(0, 5), min_size=1, max_size=30))
def test_a_distribution_is_ordered_and_within_what_was_measured(values: list[float]) -> None:
    stats = LiveStats()
    for value in values:
        stats.frame(PARSED, value, 0.0)
    spread = stats.summary()["latency_ms"]
    assert spread["p50"] <= spread["p95"] <= spread["max"]
    assert spread["max"] == round(max(values) * 1e3, 1)
    assert spread["p50"] >= round(min(values) * 1e3, 1)


def test_cards_are_counted_by_their_reason() -> None:
    stats = LiveStats()
    for why in (Why.STALE, Why.SOURCE_AWAY, Why.STALE):
        stats.frame(card(why), 0.1, 1.0)
    stats.frame(PARSED, 0.1, 0.0)
    summary = stats.summary()
    assert summary["frames"] == 4
    assert summary["frames_wholly_covered"] == 3
    assert summary["reasons"] == {Why.STALE.value: 2, Why.SOURCE_AWAY.value: 1}
    assert summary["covered_fraction"] == 0.75
    assert summary["cover_age_ms"]["max"] == 0  # a card has no age


def test_each_kind_of_look_is_counted_on_its_own_and_failures_among_them() -> None:
    stats = LiveStats()
    stats.look("faces", 0.004, failed=False)
    stats.look("people", 0.02, failed=False)
    stats.look("people", 5.0, failed=True)
    summary = stats.summary()
    assert summary["looks"] == {"faces": 1, "people": 2}
    assert summary["looks_failed"] == {"people": 1}
    assert summary["look_ms"]["faces"]["max"] == 4
    assert summary["look_ms"]["people"]["max"] == 5000


def test_whoever_is_there_is_told_by_how_long_ago_alone() -> None:
    stats = LiveStats()
    stats.presence()
    ago_s = stats.summary()["person_s_ago"]
    assert 0 <= ago_s < 60
    time.sleep(0.15)
    assert stats.summary()["person_s_ago"] > ago_s
    stats.presence()


def test_distributions_forget_and_counts_do_not() -> None:
    stats = LiveStats(window_s=0.05)
    stats.frame(PARSED, 9.0, 1.0)
    stats.look("faces", 9.0, failed=False)
    time.sleep(0.1)
    summary = stats.summary()
    assert (summary["frames"], summary["looks"]) == (1, {"faces": 1})
    assert summary["latency_ms"] is summary["covered_fraction"] is None
    assert summary["look_ms"] == {"faces": None}
    assert summary["fps"] == 0
    stats.frame(PARSED, 1.0, 0.0)
    assert stats.summary()["frames"] == 2


def test_the_rate_is_that_of_the_window() -> None:
    began_s = time.monotonic()
    stats = LiveStats(window_s=2.0)
    for _ in range(50):
        stats.frame(PARSED, 0.1, 0.0)
    time.sleep(0.2)
    summary = stats.summary()
    took_s = time.monotonic() - began_s
    assert 50 / max(2.0, took_s) <= summary["fps"] <= 50 / 0.2


def test_a_summary_holds_what_others_counted_and_goes_into_json() -> None:
    stats = LiveStats()
    stats.frame(PARSED, 0.1, 0.2)
    stats.look("faces", 0.1, failed=True)
    summary = stats.summary(captured=7, sinks={"window": {"up": True}})
    assert summary["captured"] == 7
    assert json.loads(json.dumps(summary)) == summary


def test_many_threads_may_add_and_ask() -> None:
    stats = LiveStats()

    def add() -> None:
        for _ in range(300):
            stats.frame(card(Why.CUT), 0.1, 1.0)
            stats.look("faces", 0.1, failed=True)
            stats.summary()

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    summary = stats.summary()
    assert summary["frames"] == 900
    assert summary["looks"] == summary["looks_failed"] == {"faces": 900}
    assert summary["reasons"] == {Why.CUT.value: 900}
