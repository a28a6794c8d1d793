"""The virtual camera, simulated: a real feeder process, a recording back end in place of a device.

What a device and the programs that read it make of the frames is not tested here.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from m2fp_stream.compositor.compose import compose
from m2fp_stream.core.errors import SealError, SinkError
from m2fp_stream.core.plan import Unknown, Why
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.processes import channel, memory
from m2fp_stream.processes.memory import Slots
from m2fp_stream.sinks import camera_feeder
from m2fp_stream.sinks.camera_feeder import Feeder, Spec
from m2fp_stream.sinks.virtual_camera import VirtualCameraOptions, VirtualCameraSink
from tests.kit import media
from tests.kit.texture import contains_marker, marker
from tests.kit.virtual_camera_recorder import BACKEND, VARIABLE, Shown, recorded
from tests.kit.wait import PATIENCE_S, wait_until

ROOT = Path(__file__).resolve().parents[2]
TIME_BASE = Fraction(1, 1_000_000)
SIZE_WH = (96, 64)

with_library = pytest.mark.skipif(
    importlib.util.find_spec("pyvirtualcam") is None,
    reason='not installed: pyvirtualcam (pip install "m2fp-stream[virtual-camera]")',
)

Open = Callable[..., VirtualCameraSink]


def flat(grey: int, size_wh: tuple[int, int] = SIZE_WH) -> NDArray[np.uint8]:
    return np.full((size_wh[1], size_wh[0], 3), grey, np.uint8)


CARD = flat(40)
"""Stands for the cover card; no frame of these tests is as dark."""


def frame(number: int, size_wh: tuple[int, int] = SIZE_WH) -> SafeFrame:
    """Returns a composed frame that shows its number, modulo 28."""
    return media.composed(media.card(size_wh, number), number, time_base=TIME_BASE)


def is_card(shown: Shown) -> bool:
    return np.array_equal(shown.pixels, CARD)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the recording back end writes."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "notes"))
    return tmp_path / "notes"


@pytest.fixture
def opened(notes: Path) -> Iterator[Open]:
    sinks: list[VirtualCameraSink] = []

    def start(
        *,
        size_wh: tuple[int, int] = SIZE_WH,
        card: SafeFrame | None = None,
        rate: Fraction | None = None,
        answer_s: float = 2.0,
        **options: Any,
    ) -> VirtualCameraSink:
        options = {"backend": BACKEND, "stale_s": 5.0, **options}
        sinks.append(
            VirtualCameraSink(
                VirtualCameraOptions(enabled=True, **options),
                size_wh=size_wh,
                card=card or media.composed(flat(40, size_wh), time_base=TIME_BASE),
                rate=rate,
                answer_s=answer_s,
            )
        )
        return sinks[-1]

    yield start
    for sink in sinks:
        sink.abort()


def shown(notes: Path) -> list[Shown]:
    return recorded(notes)[0]


def shows(notes: Path, picture: NDArray[np.uint8]) -> bool:
    """Says whether the camera's latest frame is `picture`."""
    frames = shown(notes)
    return bool(frames) and np.array_equal(frames[-1].pixels, picture)


@with_library
def test_simulated_frames_arrive_unchanged_after_a_card(opened: Open, notes: Path) -> None:
    sink = opened(device="a name")
    assert sink.device == "a name"
    wait_until(lambda: shows(notes, CARD))
    for number in (3, 4, 5):
        sink.write(frame(number))
        picture = media.card(SIZE_WH, number)
        wait_until(lambda picture=picture: shows(notes, picture))  # type: ignore[misc]
    assert sink.dropped == 0
    sink.finish()
    frames, said = recorded(notes)
    assert is_card(frames[0])
    assert is_card(frames[-1])
    assert "closed" in said
    assert sink.pid is None
    assert not psutil.pid_exists(said["pid"])


@with_library
def test_simulated_a_fresh_frame_is_repeated_at_the_cameras_rate(opened: Open, notes: Path) -> None:
    sink = opened(fps=50)
    sink.write(frame(1))
    wait_until(lambda: sum(not is_card(one) for one in shown(notes)) >= 10)
    times = np.array([one.ns for one in shown(notes)]) / 1e9
    # A slow machine shows fewer frames, never more.
    assert len(times) <= 2 + (times[-1] - times[0]) * 50


@with_library
@pytest.mark.parametrize(
    ("fps", "rate", "opened_at"),
    [
        (None, None, 30.0),
        (None, Fraction(24000, 1001), 24000 / 1001),
        (None, Fraction(1000), 120.0),
        (None, Fraction(0), 30.0),
        (15, Fraction(60), 15.0),
    ],
)
def test_simulated_the_rate_is_the_options_the_sources_or_30(
    opened: Open, notes: Path, fps: int | None, rate: Fraction | None, opened_at: float
) -> None:
    opened(fps=fps, rate=rate)
    assert recorded(notes)[1]["opened"] == [96, 64, opened_at]


@with_library
def test_simulated_a_still_picture_gives_way_to_the_card(opened: Open, notes: Path) -> None:
    sink = opened(stale_s=2.0)
    for number in range(3):
        sink.write(frame(number))
        wait_until(lambda: bool(shown(notes)) and not is_card(shown(notes)[-1]))
    last_ns = time.monotonic_ns()
    wait_until(lambda: is_card(shown(notes)[-1]))
    late = [one for one in shown(notes) if one.ns > last_ns + 3e9 and not is_card(one)]
    assert late == []
    # and comes back with the next frame
    sink.write(frame(9))
    wait_until(lambda: any(media.number_of(one.pixels) == 9 for one in shown(notes)))


@with_library
def test_simulated_an_odd_size_is_continued_by_a_copied_row_and_column(
    opened: Open, notes: Path
) -> None:
    sink = opened(size_wh=(95, 63))
    sink.write(frame(2, (95, 63)))
    picture = media.card((95, 63), 2)
    wanted = np.pad(picture, ((0, 1), (0, 1), (0, 0)), mode="edge")
    wait_until(lambda: shows(notes, wanted))


@with_library
def test_simulated_what_is_covered_is_not_seen_and_would_be_if_it_were_sent(
    opened: Open, notes: Path
) -> None:
    texture = marker(11, 64, 96)
    raw = RawFrame(texture.copy(), frame_id=0, pts=0, time_base=TIME_BASE, captured_ns=0)
    with opened() as sink:
        sink.write(compose(raw, Unknown(Why.NO_PARSE)))
        wait_until(lambda: any(not is_card(one) for one in shown(notes)))
    assert not any(contains_marker(one.pixels, texture) for one in shown(notes))
    notes.unlink()
    with opened() as sink:  # control: the same search on a frame that no compositor made
        sink.write(media.composed(texture, time_base=TIME_BASE))
        wait_until(lambda: any(not is_card(one) for one in shown(notes)))
    assert any(contains_marker(one.pixels, texture) for one in shown(notes))


PARENT = """
import sys, time
from fractions import Fraction
from m2fp_stream.sinks.virtual_camera import VirtualCameraOptions, VirtualCameraSink
from tests.kit import media
import numpy as np

tick = Fraction(1, 1000000)
options = VirtualCameraOptions.model_validate_json(sys.argv[1])
card = media.composed(np.full((64, 96, 3), 40, np.uint8), time_base=tick)
sink = VirtualCameraSink(options, size_wh=(96, 64), card=card)
print(sink.pid, flush=True)
number = 0
while True:
    number += 1
    sink.write(media.composed(media.card((96, 64), number), number, time_base=tick))
    time.sleep(0.02)
"""


@with_library
@pytest.mark.parametrize("linger_s", [0.0, 2.0])
def test_simulated_after_the_parents_death_the_card_is_shown_for_a_while(
    notes: Path, linger_s: float
) -> None:
    options = VirtualCameraOptions(enabled=True, backend=BACKEND, stale_s=5.0, linger_s=linger_s)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT, options.model_dump_json()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as parent:
        try:
            assert parent.stdout is not None
            feeder = psutil.Process(int(parent.stdout.readline()))
            wait_until(lambda: len([one for one in shown(notes) if not is_card(one)]) > 5)
        finally:
            parent.kill()
            parent.wait()
        killed_ns = time.monotonic_ns()
    try:
        wait_until(lambda: "closed" in recorded(notes)[1])
        wait_until(lambda: not feeder.is_running() or feeder.status() == "zombie")
    finally:
        if feeder.is_running():
            feeder.kill()
    frames, said = recorded(notes)
    assert said["closed"] >= killed_ns - 1e9 + linger_s * 1e9
    assert is_card(frames[-1])
    # Frames are five seconds from stale: it is the death that brings the card.
    late = [one for one in frames if one.ns > killed_ns + 1e9 and not is_card(one)]
    assert late == []


@with_library
def test_simulated_signals_of_the_terminal_do_not_end_it(opened: Open, notes: Path) -> None:
    sink = opened()
    assert sink.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(sink.pid, number)
    sink.write(frame(7))
    wait_until(lambda: shows(notes, media.card(SIZE_WH, 7)))
    sink.finish()


def written_until_it_fails(sink: VirtualCameraSink) -> str:
    """Writes frames until the sink gives up; returns why."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            sink.write(frame(1))
        except SinkError as error:
            return str(error)
        time.sleep(0.02)
    raise AssertionError("nothing was noticed")


@with_library
def test_simulated_a_killed_feeder_is_an_error_and_a_new_sink_works(
    opened: Open, notes: Path
) -> None:
    sink = opened()
    sink.write(frame(1))
    pid = sink.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert "died; open the virtual camera again" in written_until_it_fails(sink)
    assert sink.pid is None
    with pytest.raises(SinkError, match="is closed"):
        sink.write(frame(2))
    again = opened()
    again.write(frame(5))
    wait_until(lambda: shows(notes, media.card(SIZE_WH, 5)))


@with_library
def test_simulated_a_stopped_feeder_never_holds_up_write_and_is_killed(opened: Open) -> None:
    sink = opened(answer_s=1.0)
    pid = sink.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    for number in range(5):
        sink.write(frame(number))
    assert sink.dropped == 3  # both buffers are on their way
    assert "not answered for 1 s" in written_until_it_fails(sink)
    assert not psutil.pid_exists(pid)


@with_library
def test_simulated_a_device_that_hangs_is_noticed(opened: Open) -> None:
    sink = opened(device="hanging-3", answer_s=0.5)
    assert "not answered for 0.5 s" in written_until_it_fails(sink)


@with_library
def test_simulated_a_device_that_fails_says_why_on_one_line_without_secrets(opened: Open) -> None:
    assert written_until_it_fails(opened(device="failing-3")) == (
        "the virtual camera failed (the device is gone from rtsp://***@camera/); open it again"
    )


@with_library
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "refusing"}, r"resource busy\); load the driver .*modprobe v4l2loopback"),
        ({"backend": "no_such"}, "there is no no_such, choose from v4l2loopback"),
        ({"backend": "tests.no_such:Camera"}, "there is no tests.no_such:Camera"),
        ({"backend": "tests.kit.media:Camera"}, "there is no tests.kit.media:Camera"),
        ({"backend": None, "device": "/dev/null"}, "null.*modprobe v4l2loopback"),
    ],
)
def test_a_camera_that_cannot_be_opened_is_an_error(
    opened: Open, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(SinkError, match=says) as caught:
        opened(**options)
    assert "\n" not in str(caught.value)


def test_without_the_library_the_error_names_the_extra(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyvirtualcam.py").write_text("raise ModuleNotFoundError", encoding="ascii")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SinkError, match=r'pip install "m2fp-stream\[virtual-camera\]"'):
        opened(backend=None)


def test_a_feeder_that_does_not_get_up_is_an_error(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyvirtualcam.py").write_text("import os; os._exit(3)", encoding="ascii")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SinkError, match="process died"):
        opened(backend=None)


def test_a_feeder_that_cannot_even_be_started_leaves_nothing(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    gc.collect()
    before = psutil.Process().num_fds()
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(SinkError, match="could not be started"):
        opened()
    gc.collect()
    assert psutil.Process().num_fds() == before


@with_library
def test_simulated_nothing_is_left_of_a_closed_sink(opened: Open) -> None:
    def left() -> tuple[int, list[str]]:
        gc.collect()
        me = psutil.Process()
        maps = [one.path for one in me.memory_maps(grouped=False) if "memfd:m2fp" in one.path]
        return me.num_fds(), maps

    before = left()
    sink = opened()
    sink.write(frame(1))
    sink.finish()
    aborted = opened()
    pid = aborted.pid
    aborted.abort()
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert left() == before


@with_library
def test_simulated_the_feeder_holds_composed_memory_for_reading_and_little_else(
    opened: Open, notes: Path
) -> None:
    sink = opened()
    feeder = Path(f"/proc/{sink.pid}")
    maps = [line.split() for line in (feeder / "maps").read_text().splitlines()]
    assert [parts[1] for parts in maps if parts[-1] == "(deleted)" and "m2fp" in parts[-2]] == [
        "r--s"
    ]
    held = {str(one.readlink()) for one in (feeder / "fd").iterdir()}
    kinds = {link.partition(":")[0] for link in held}
    assert kinds == {"socket", "/memfd", "/dev/null", str(notes)}
    limits = (feeder / "limits").read_text()
    assert any(line.split()[4:6] == ["0", "0"] for line in limits.splitlines() if "core" in line)
    sink.finish()


def test_only_composed_frames_pass(opened: Open) -> None:
    wrong: Any = flat(90)
    with pytest.raises(SealError, match="refused a ndarray as its card"):
        VirtualCameraSink(size_wh=SIZE_WH, card=wrong)
    with pytest.raises(SinkError, match="expected a card of"):
        opened(card=frame(0, (64, 64)))


@with_library
def test_simulated_a_raw_picture_or_another_size_ends_the_sink(opened: Open, notes: Path) -> None:
    for wrong, error in ((flat(90), SealError), (frame(1, (64, 64)), SinkError)):
        sink = opened()
        with pytest.raises(error):
            sink.write(wrong)  # type: ignore[arg-type]  # the point
        assert sink.pid is None
    assert all(is_card(one) for one in shown(notes))


@pytest.mark.parametrize(
    "wrong",
    [{"stale_s": 0.0}, {"stale_s": 6.0}, {"fps": 0}, {"linger_s": -1.0}, {"color": 1}],
    ids=str,
)
def test_options_are_strict(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VirtualCameraOptions(**wrong)


class Bench:
    """A feeder in this process, and the parent's end of its socket and memory."""

    def __init__(self, **changed: Any) -> None:
        values: dict[str, Any] = {"fps": 100.0, "device": None, "backend": None}
        values |= {"stale_s": 5.0, "linger_s": 0.0, **changed}
        spec = Spec(size_wh=SIZE_WH, **values)
        self.slots = Slots(mmap.mmap(-1, spec.total_bytes), spec.slot_bytes)
        self.slots.put(memory.CARD, camera_feeder.CARD_NUMBER, CARD.tobytes())
        self.mine, theirs = channel.pair()
        self.shown: list[NDArray[np.uint8]] = []
        self.feeder = Feeder(theirs, self.slots, spec, self.show)
        self.theirs = theirs

    def show(self, picture: NDArray[np.uint8]) -> None:
        self.shown.append(picture.copy())
        if len(self.shown) == 3 and self.mine.fileno() >= 0:
            self.mine.send(b'{"finish": true}')

    def frame(
        self, number: int, *, slot: int = 0, claimed: int | None = None, age_s: float = 0.0
    ) -> None:
        self.slots.put(slot, number, media.card(SIZE_WH, number).tobytes())
        sent_ns = time.monotonic_ns() - int(age_s * 1e9)
        message = {"slot": slot, "number": claimed or number, "sent_ns": sent_ns}
        self.mine.send(json.dumps(message).encode())

    def run(self) -> list[NDArray[np.uint8]]:
        with self.mine, self.theirs:
            self.feeder.run()
        return self.shown


def test_a_frame_whose_number_is_wrong_or_whose_time_is_long_past_is_not_shown() -> None:
    wrongs: tuple[dict[str, Any], ...] = ({"claimed": 8}, {"age_s": 6.0}, {"slot": 2})
    for wrong in wrongs:
        bench = Bench()
        bench.frame(7, **wrong)
        assert all((picture == CARD).all() for picture in bench.run())
    control = Bench()
    control.frame(7)
    pictures = control.run()
    assert [media.number_of(picture) for picture in pictures[1:-1]] == [7, 7]
    assert (pictures[-1] == CARD).all()


def test_every_frame_is_answered_even_one_that_is_not_shown() -> None:
    bench = Bench()
    bench.frame(7)
    bench.frame(9, slot=1, claimed=8)
    with bench.mine, bench.theirs:
        bench.feeder.run()
        answers = [json.loads(bench.mine.recv(100)) for _ in range(2)]
    assert answers == [{"taken": 7}, {"taken": 8}]


def test_a_parent_that_is_gone_before_the_first_frame_leaves_a_card() -> None:
    bench = Bench()
    bench.frame(7)
    bench.mine.close()
    assert all((picture == CARD).all() for picture in bench.run())


def test_a_spec_survives_its_journey() -> None:
    spec = Spec(SIZE_WH, 30.0, "/dev/video10", None, stale_s=1.0, linger_s=10.0)
    assert Spec.of_job(json.loads(json.dumps(spec.as_job()))) == spec
