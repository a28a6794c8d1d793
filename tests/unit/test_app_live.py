"""What the composition root of live runs adds to the parts it puts together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from m2fp_stream.app.live_sinks import _rearmed


@pytest.fixture
def signals() -> Iterator[None]:
    """Puts the handlers back that were there before the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("signals")
def test_a_second_interrupt_ends_a_long_wait_although_the_first_switched_signals_off() -> None:
    signal.signal(signal.SIGINT, interrupt)
    said: list[str] = []
    again = _rearmed(said.append)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as the command line does at the first one
    signal.raise_signal(signal.SIGINT)  # the control: nothing happens
    again()
    assert said == ["interrupt again to give it up"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("signals")
def test_signals_that_were_ignored_from_the_start_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nohup
    said: list[str] = []
    _rearmed(said.append)()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert said == []


@pytest.mark.usefixtures("signals")
def test_only_the_main_thread_touches_signals() -> None:
    signal.signal(signal.SIGINT, interrupt)
    again = _rearmed(lambda _: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    thread = threading.Thread(target=again)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
