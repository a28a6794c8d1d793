"""A process that is kept running: real processes that die, hang, lie and come back."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from m2fp_stream.kiosk.child import Control
from m2fp_stream.kiosk.supervised import Failure, RestartPolicy, SupervisedProcess
from m2fp_stream.processes import channel
from tests.kit.wait import PATIENCE_S, wait_until

pytestmark = pytest.mark.paced

QUICK = RestartPolicy(
    starting_s=20.0, silent_s=1.5, first_wait_s=0.1, longest_wait_s=0.4, healthy_s=0.8
)


class Kept:
    """A supervised `tests.kit.kiosk_child`, and all that came from it."""

    def __init__(
        self,
        *acts: str,
        policy: RestartPolicy = QUICK,
        lasting: Collection[int] = (),
        **job: Any,
    ) -> None:
        starts = itertools.count()
        self.notices: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.process = SupervisedProcess(
            "the child",
            "tests.kit.kiosk_child",
            job=lambda: {"acts": list(acts), "start": next(starts), **job},
            policy=policy,
            lasting=lasting,
            on_notice=self.notices.append,
        )

    def until(self, condition: Callable[[], object]) -> None:
        wait_until(condition, meanwhile=self.poll, tell=lambda: self.notices)

    def poll(self) -> None:
        self.messages += self.process.poll()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.messages if one["kind"] == kind]


@contextmanager
def kept(*acts: str, **job: Any) -> Iterator[Kept]:
    made = Kept(*acts, **job)
    try:
        yield made
    finally:
        made.process.ask_to_end()
        made.process.end(time.monotonic() + 2)


def test_it_starts_beats_and_receives() -> None:
    with kept("beat") as one:
        one.until(lambda: one.process.up)
        one.process.send({"kind": "word", "value": 7})
        one.until(lambda: one.of("echo"))
        assert one.of("echo")[0]["got"] == {"kind": "word", "value": 7}
        assert one.process.starts == 1
        assert one.notices == []


def test_it_is_started_again_when_it_dies_and_when_it_is_killed() -> None:
    with kept("crash", "beat") as one:
        one.until(lambda: one.process.starts == 2 and one.process.up)
        assert one.process.failure == Failure("ended with code 3", 1)
        pid = one.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        one.until(lambda: one.process.starts == 3 and one.process.up)
        assert one.process.pid != pid
        assert "the child: was ended by SIGKILL; starting it again" in one.notices[-1]


@pytest.mark.parametrize("act", ["silent", "mute"])
def test_one_that_hangs_is_killed_and_replaced(act: str) -> None:
    # As long as the second one, which is to live, may take on a busy machine.
    starting_s, silent_s = (20.0, 2.0) if act == "silent" else (4.0, 20.0)
    policy = RestartPolicy(starting_s=starting_s, silent_s=silent_s, first_wait_s=0.1)
    with kept(act, "beat", policy=policy) as one:
        one.until(lambda: one.process.pid)
        first = psutil.Process(one.process.pid)
        one.until(lambda: one.process.starts == 2 and one.process.up)
        assert not first.is_running()
        assert "did not answer" in one.notices[0]


def test_one_that_hangs_while_it_starts_is_replaced_as_soon_as_any_other() -> None:
    policy = RestartPolicy(starting_s=60.0, silent_s=3.0, first_wait_s=0.1)
    with kept("stuck", "beat", policy=policy) as one:
        one.until(lambda: one.process.failure)
        assert one.process.failure == Failure("did not answer for 3 s", 1)
        one.until(lambda: one.process.starts == 2 and one.process.up)


def test_one_that_hangs_before_its_first_word_is_replaced_in_time() -> None:
    assert RestartPolicy().first_sign_s == 15
    with kept("mute", policy=RestartPolicy(first_sign_s=3.0, silent_s=1.0)) as one:
        one.until(lambda: one.process.failure)
        assert one.process.failure == Failure("did not answer for 3 s", 1)


def test_one_that_starts_slowly_has_its_time_and_no_more() -> None:
    policy = RestartPolicy(starting_s=60.0, silent_s=2.0, first_wait_s=0.1)
    with kept("slow", policy=policy, slow_s=5.0) as one:
        one.until(lambda: one.process.up)
        assert (one.process.starts, one.process.failure) == (1, None)
    policy = RestartPolicy(starting_s=3.0, silent_s=2.0, first_wait_s=0.1)
    with kept("slow", policy=policy, slow_s=60.0) as one:
        one.until(lambda: one.process.failure)
        assert one.process.failure == Failure("did not answer for 3 s", 1)


@pytest.mark.parametrize("ends", ["by a beat", "by its work", "with its supervisor"])
def test_a_process_says_that_it_starts_until_something_else_says_that_it_lives(ends: str) -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        control = Control(theirs)
        starting = threading.Thread(target=control.say_starting)
        starting.start()
        for _ in range(2):
            assert channel.receive_one(ours, PATIENCE_S) == {"kind": "starting"}
        if ends == "by a beat":
            control.beat(asleep=False)
            assert channel.receive_one(ours, PATIENCE_S) == {"kind": "beat", "asleep": False}
        elif ends == "by its work":
            control.has_started = lambda: True
        else:
            ours.close()
        starting.join(PATIENCE_S)
        assert not starting.is_alive()


def test_one_that_is_stopped_is_killed_and_replaced() -> None:
    with kept("beat") as one:
        one.until(lambda: one.process.up)
        assert one.process.pid is not None
        stopped = psutil.Process(one.process.pid)
        stopped.suspend()
        one.until(lambda: one.process.starts == 2 and one.process.up)
        assert not stopped.is_running()


def test_one_that_does_not_end_even_when_killed_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one that hangs in the kernel: the signal is there, and nothing happens."""
    with kept("beat") as one:
        for starts in (1, 2):
            one.until(lambda starts=starts: one.process.starts == starts and one.process.up)  # type: ignore[misc]  # bound now
            process = one.process._process
            assert process is not None
            monkeypatch.setattr(process, "kill", lambda: None)
            hanging = psutil.Process(process.pid)
            hanging.suspend()
            if starts == 2:
                one.process.end(time.monotonic())
                assert one.process.pid is None
            else:
                one.until(lambda: one.process.starts == 2)
            assert hanging.is_running()
            hanging.kill()
            one.until(lambda: not one.process._reaper._left)


def test_waits_double_up_to_the_longest_and_start_anew_after_health() -> None:
    with kept("die", "die", "die", "die", "beat") as one:
        one.until(lambda: one.process.starts == 5 and one.process.up)
        waits = [line.rpartition("again in ")[2] for line in one.notices]
        assert waits == ["0.1 s", "0.2 s", "0.4 s", "0.4 s"]
        end_s = time.monotonic() + 1.5 * QUICK.healthy_s
        one.until(lambda: time.monotonic() > end_s)
        assert one.process.pid is not None
        os.kill(one.process.pid, signal.SIGKILL)
        one.until(lambda: one.process.starts == 6)
        assert one.notices[-1].endswith("again in 0.1 s")


def test_what_it_said_last_is_why_it_ended() -> None:
    with kept("error", exit_code=4) as one:
        one.until(lambda: one.process.failure)
        assert one.process.failure == Failure("this cannot work", 4)
        assert not one.process.was_up


@pytest.mark.parametrize(("code", "starts"), [(4, 1), (3, 2)])
def test_an_error_that_lasts_is_no_reason_to_start_it_again(code: int, starts: int) -> None:
    with kept("error", "beat", lasting=(4,), exit_code=code) as one:
        one.until(lambda: one.process.given_up or one.process.up)
        end_s = time.monotonic() + 0.3
        one.until(lambda: time.monotonic() > end_s)
        assert (one.process.given_up, one.process.starts) == (starts == 1, starts)
        assert len(one.notices) == starts - 1
        assert one.process.failure == Failure("this cannot work", code)


def test_one_that_has_nothing_left_to_do_is_not_started_again() -> None:
    with kept("ended") as one:
        one.until(lambda: one.process.done and one.process.pid is None)
        end_s = time.monotonic() + 0.5
        one.until(lambda: time.monotonic() > end_s)
        assert (one.process.starts, one.process.failure) == (1, None)


def test_nonsense_is_no_message() -> None:
    with kept("chatter") as one:
        one.until(lambda: one.process.up)
        one.until(lambda: one.of("beat"))
        assert one.process.failure is None
        assert {message["kind"] for message in one.messages} <= {"hello", "error", "beat", "echo"}


def test_it_ends_when_asked_and_by_force_where_it_does_not() -> None:
    for act in ("beat", "deaf"):
        with kept(act) as one:
            one.until(lambda one=one: one.process.up)  # type: ignore[misc]  # bound now
            process = psutil.Process(one.process.pid)
            one.process.ask_to_end()
            one.process.end(time.monotonic() + 1)
            assert not process.is_running()
            one.until(lambda one=one: one.process.pid is None)  # type: ignore[misc]  # bound now
            assert one.process.poll() == []
            assert one.process.starts == 1, "it was started again"


def test_options_in_the_environment_stay_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M2FP_STREAM_PAGE__TOKEN", "a-secret-of-sixteen")
    monkeypatch.setenv("M2FP_STREAM_TEST_DATA", "/somewhere")
    with kept("beat", secret="another secret") as one:
        one.until(lambda: one.of("hello"))
        hello = one.of("hello")[0]
    assert "M2FP_STREAM_PAGE__TOKEN" not in hello["environ"]
    assert hello["environ"]["M2FP_STREAM_TEST_DATA"] == "/somewhere"
    assert "secret" not in str(hello["environ"])
    assert "secret" not in str(hello["argv"])


def test_descriptors_are_passed_by_number_and_nothing_else_is() -> None:
    reading, writing = os.pipe()
    other, unused = os.pipe()
    made = SupervisedProcess(
        "the child",
        "tests.kit.kiosk_child",
        descriptors=(writing,),
        job=lambda: {"acts": ["beat"], "start": 0},
    )
    try:
        wait_until(lambda: made.up, meanwhile=made.poll)
        process = psutil.Process(made.pid)
        assert process.cmdline()[-1] == str(writing)
        folder = f"/proc/{made.pid}/fd"
        inherited = {os.readlink(f"{folder}/{name}") for name in os.listdir(folder)}  # noqa: PTH115, PTH208
        assert os.readlink(f"/proc/self/fd/{writing}") in inherited  # noqa: PTH115
        assert os.readlink(f"/proc/self/fd/{other}") not in inherited  # noqa: PTH115
    finally:
        made.ask_to_end()
        made.end(time.monotonic() + 2)
        for descriptor in (reading, writing, other, unused):
            os.close(descriptor)
