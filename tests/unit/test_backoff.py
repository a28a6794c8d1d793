"""Waits that double, are spread by chance, and begin anew."""

from __future__ import annotations

from m2fp_stream.processes.backoff import Backoff


def test_waits_double_up_to_the_longest_and_begin_anew() -> None:
    backoff = Backoff(0.5, 3.0)
    told = []
    for _ in range(5):
        told.append(backoff.wait_s)
        backoff.take()
    assert told == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.wait_s == 0.5


def test_many_that_wait_do_not_come_back_all_at_once() -> None:
    waits = [Backoff(2.0, 30.0, jitter=0.25).take() for _ in range(1000)]
    assert min(waits) >= 1.5
    assert max(waits) <= 2.5
    assert max(waits) - min(waits) > 0.8
    assert {Backoff(2.0, 30.0).take() for _ in range(100)} == {2.0}
