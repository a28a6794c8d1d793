"""A real window on a real (virtual) display: what it shows, its keys, its end."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from Xlib import X, Xatom
from Xlib.display import Display
from Xlib.protocol import event

from m2fp_stream.core.errors import SealError, SinkError, UsageError
from m2fp_stream.sinks import window, x11
from m2fp_stream.sinks.window import Key, WindowOptions, WindowSink
from tests.kit import media, xvfb
from tests.kit.wait import PATIENCE_S, wait_until
from tests.kit.xvfb import screen, screenshot

ROOT = Path(__file__).resolve().parents[2]
TIME_BASE = Fraction(1, 1_000_000)
SCREEN_WH = (1280, 800)
SIZE_WH = (480, 270)

_absent = xvfb.missing("xdotool", "xprop")
on_a_display = pytest.mark.skipif(bool(_absent), reason=f"not installed: {', '.join(_absent)}")

DRIVER = """
import json, select, sys
from fractions import Fraction
import cv2, numpy as np
from m2fp_stream.core.errors import M2FPStreamError
from m2fp_stream.sinks import x11
from m2fp_stream.sinks.window import WindowOptions, WindowSink
from tests.kit import media

reminded = []
remind = x11.remind
x11.remind = lambda: (remind(), reminded.append(1))

def say(*words):
    print(*words, flush=True)

def shown(name, value):
    if name == "card":
        return media.card(value[0], value[1])
    return np.broadcast_to(np.array(value, np.uint8), (270, 480, 3))

try:
    options = WindowOptions.model_validate_json(sys.argv[1])
    sink = WindowSink(options, on_key=lambda key: say("key", key))
    say("made")
    frames = 0
    waiting = b""
    while True:
        if select.select([0], [], [], 0.02)[0]:
            line = sys.stdin.readline()
            if not line:
                break
            name, value = json.loads(line)
            if name == "finish":
                sink.finish()
                sink.poll()
                say("finished")
            elif name == "again":
                sink = WindowSink(options, on_key=lambda key: say("key", key))
                say("made")
            elif name == "reminded":
                say("reminded", len(reminded))
            elif name == "property":
                say("property", cv2.getWindowProperty(options.title, value))
            else:
                picture = shown(name, value)
                frames += 1
                sink.write(media.composed(picture, pts=frames, time_base=Fraction(1, 1000000)))
                say("written")
        else:
            sink.poll()
    sink.abort()
    say("ended")
except M2FPStreamError as error:
    say("error", type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    with screen(size_wh=SCREEN_WH) as name:
        yield name


class Driven:
    """A program that shows a window, and what can be done to it from outside."""

    def __init__(self, display: str | None, options: WindowOptions, **variables: str) -> None:
        self.title = options.title
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY")
            and not name.startswith("QT_")
        }
        self.environment |= {"PYTHONPATH": str(ROOT), **variables}
        if display is not None:
            self.environment["DISPLAY"] = display
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", DRIVER, options.model_dump_json()],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        with self.process:
            pass

    def line(self) -> str:
        """Returns what the program says next."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self._read:
            assert select.select([descriptor], [], [], PATIENCE_S)[0], "it says nothing"
            data = os.read(descriptor, 4096)
            assert data, "it ended: " + self.end()
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def ask(self, name: str, value: object = None) -> str:
        """Tells the program something; returns its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, value]) + "\n")
        self.process.stdin.flush()
        return self.line()

    def show(self, name: str, value: object) -> None:
        assert self.ask(name, value) == "written"

    def end(self) -> str:
        """Ends the program; returns what it wrote on stderr."""
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        errors = self.process.stderr.read()
        self.process.wait(PATIENCE_S)
        return errors

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout

    def window(self) -> int | None:
        """Returns the id of the window on the screen, or None where there is none."""
        found = self.run(
            "xdotool", "search", "--onlyvisible", "--name", f"^{re.escape(self.title)}$"
        )
        return int(found.split()[0]) if found.split() else None

    def seen(self) -> int:
        """Returns the id of the window as soon as it is on the screen."""
        return wait_until(self.window, tell=lambda: "no window came")

    def press(self, key: str) -> None:
        self.run("xdotool", "windowfocus", "--sync", str(self.seen()), "key", key)

    def geometry(self) -> tuple[int, int, int, int]:
        """Returns x, y, width and height of the window, which is to be on the screen soon."""
        text = self.run("xdotool", "getwindowgeometry", "--shell", str(self.seen()))
        values = dict(re.findall(r"^(\w+)=(-?\d+)$", text, re.MULTILINE))
        return tuple(int(values[name]) for name in ("X", "Y", "WIDTH", "HEIGHT"))  # type: ignore[return-value]  # four

    def picture(self) -> NDArray[np.uint8]:
        """Returns what is in the window."""
        x, y, width, height = self.geometry()
        return screenshot(self.environment["DISPLAY"])[y : y + height, x : x + width]


def is_near(picture: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> bool:
    return picture.shape == wanted.shape and bool(
        np.abs(picture.astype(np.int16) - wanted).max() <= 2
    )


@pytest.fixture
def opened(display: str) -> Iterator[Callable[..., Driven]]:
    programs: list[Driven] = []

    def start(**options: Any) -> Driven:
        programs.append(Driven(display, WindowOptions(enabled=True, **options)))
        assert programs[-1].line() == "made"
        return programs[-1]

    yield start
    for program in programs:
        with program:
            pass


Open = Callable[..., Driven]


@on_a_display
def test_the_window_shows_the_composed_frame_and_the_next_one(opened: Open) -> None:
    driven = opened(title="a window")
    assert driven.window() is None  # nothing to show yet
    for number in (0, 9):
        card = media.card(SIZE_WH, number)
        driven.show("card", [SIZE_WH, number])
        wait_until(lambda card=card: is_near(driven.picture(), card))  # type: ignore[misc]
    assert driven.end() == ""  # Qt has nothing to say on stderr


@on_a_display
def test_a_frame_of_one_colour_that_takes_no_memory_is_shown(opened: Open) -> None:
    driven = opened()
    driven.show("flat", [40, 80, 120])
    wanted = np.full((SIZE_WH[1], SIZE_WH[0], 3), (40, 80, 120), np.uint8)
    wait_until(lambda: is_near(driven.picture(), wanted))


@on_a_display
def test_mirrored_is_left_for_right_and_m_turns_it_back(opened: Open) -> None:
    driven = opened(mirror=True)
    mirrored = media.card(SIZE_WH, 3)[:, ::-1]
    driven.show("card", [SIZE_WH, 3])
    wait_until(lambda: is_near(driven.picture(), mirrored))
    driven.press("m")

    def turned_back() -> bool:
        driven.show("card", [SIZE_WH, 3])
        return is_near(driven.picture(), media.card(SIZE_WH, 3))

    wait_until(turned_back)


@on_a_display
@pytest.mark.parametrize(
    ("pressed", "said"),
    [("p", Key.STRONGER), ("o", Key.CONFIGURED), ("q", Key.QUIT), ("Escape", Key.QUIT)],
)
def test_a_key_is_said(opened: Open, pressed: str, said: Key) -> None:
    driven = opened()
    driven.show("card", [SIZE_WH, 0])
    driven.press("Left")  # its symbol ends in the byte of Q
    driven.press("x")
    driven.press(pressed)
    assert driven.line() == f"key {said}"


@on_a_display
def test_quit_is_said_once_and_stronger_as_often_as_it_is_asked_for(opened: Open) -> None:
    driven = opened()
    driven.show("card", [SIZE_WH, 0])
    for key in ("q", "p", "Escape", "q", "p"):
        driven.press(key)
    assert [driven.line() for _ in range(3)] == ["key quit", "key stronger", "key stronger"]
    assert driven.window() is not None  # the receiver ends it, not the key


@on_a_display
@pytest.mark.parametrize(
    ("ours", "mapped", "told"),
    [(True, True, {X.MapNotify, X.Expose}), (False, True, set()), (True, False, set())],
)
def test_windows_of_this_process_are_told_again_that_they_are_seen(
    display: str, monkeypatch: pytest.MonkeyPatch, ours: bool, mapped: bool, told: set[int]
) -> None:
    """Under load Qt misses it; without a second time one window in forty stayed black here."""
    monkeypatch.setenv("DISPLAY", display)
    server = Display(display)
    window = server.screen().root.create_window(0, 0, 40, 30, 0, X.CopyFromParent)
    pid = os.getpid() if ours else os.getppid()
    window.change_property(server.get_atom("_NET_WM_PID"), Xatom.CARDINAL, 32, [pid])
    if mapped:
        window.map()
    server.sync()
    x11.remind()
    server.sync()
    seen = [server.next_event() for _ in range(server.pending_events())]
    server.close()
    assert {found.type for found in seen} == told
    assert all(found.send_event and found.window == window for found in seen)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Xlib's sockets
def test_reminding_without_a_display_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":9753")
    x11.remind()


@on_a_display
def test_a_new_window_is_told_twice(opened: Open) -> None:
    driven = opened()
    driven.show("card", [SIZE_WH, 0])
    wait_until(lambda: driven.ask("reminded") == f"reminded {len(window._REMIND_AFTER_S)}")


@on_a_display
def test_f_switches_full_screen_and_back(opened: Open) -> None:
    driven = opened()
    driven.show("card", [SIZE_WH, 0])

    def is_full() -> bool:
        return driven.ask("property", cv2.WND_PROP_FULLSCREEN) == "property 1.0"

    assert not is_full()
    for wanted in (True, False):
        driven.press("f")
        wait_until(lambda wanted=wanted: is_full() is wanted)  # type: ignore[misc]


@on_a_display
def test_full_screen_can_be_asked_for_at_the_start(opened: Open) -> None:
    driven = opened(full_screen=True)
    driven.show("card", [SIZE_WH, 0])
    assert driven.ask("property", cv2.WND_PROP_FULLSCREEN) == "property 1.0"


@on_a_display
def test_a_frame_larger_than_the_screen_starts_smaller_in_its_aspect(opened: Open) -> None:
    driven = opened()
    driven.show("card", [(1920, 1080), 0])
    wait_until(lambda: driven.geometry()[2:] == (1024, 576))  # 80 % of 1280
    wait_until(lambda: media.corners(driven.picture()) == media.QUADRANTS)


@on_a_display
def test_closing_the_window_says_quit_once_and_it_stays_closed(opened: Open) -> None:
    driven = opened(title="to be closed")
    driven.show("card", [SIZE_WH, 0])
    close_by_hand(driven.environment["DISPLAY"], driven.seen())
    assert driven.line() == "key quit"
    wait_until(lambda: driven.window() is None)
    driven.show("card", [SIZE_WH, 1])
    assert driven.window() is None
    assert driven.ask("finish") == "finished"
    assert driven.end() == ""


@on_a_display
def test_finish_takes_the_window_away_and_a_new_sink_opens_another(opened: Open) -> None:
    driven = opened()
    for number in (1, 2):
        driven.show("card", [SIZE_WH, number])
        wait_until(lambda: driven.window() is not None)
        assert driven.ask("finish") == "finished"
        wait_until(lambda: driven.window() is None)
        assert driven.ask("again") == "made"


@on_a_display
def test_the_desktops_wayland_settings_do_not_end_the_process(display: str) -> None:
    """Qt of the wheels has no Wayland; told to use it, it ends the process."""
    desktop = {"QT_QPA_PLATFORM": "wayland", "XDG_SESSION_TYPE": "wayland"}
    desktop |= {"XDG_CURRENT_DESKTOP": "GNOME", "WAYLAND_DISPLAY": "wayland-0"}
    with Driven(display, WindowOptions(), **desktop) as driven:
        assert driven.line() == "made"
        driven.show("card", [SIZE_WH, 0])
        assert driven.end() == ""


@pytest.mark.parametrize(
    ("display", "says"),
    [
        (None, "DISPLAY is not set"),
        ("", "DISPLAY is not set"),
        (":9753", r":9753 \(DISPLAY\) does not answer"),
        ("nonsense", r"nonsense \(DISPLAY\) does not answer"),
    ],
)
def test_without_a_display_there_is_an_error_and_the_process_lives(
    display: str | None, says: str
) -> None:
    with Driven(display, WindowOptions(), WAYLAND_DISPLAY="wayland-0") as driven:
        line = driven.line()
        assert line.startswith("error SinkError ")
        assert re.search(f"{says}.*run without a window", line)
        assert driven.end() == ""
        assert driven.process.returncode == 0


@on_a_display
@pytest.mark.skipif(shutil.which("xauth") is None, reason="not installed: xauth")
def test_a_display_that_wants_a_cookie_is_asked_with_it(tmp_path: Path) -> None:
    cookies = tmp_path / "cookies"
    cookies.touch()
    adding = ["xauth", "-f", str(cookies), "add", f"{os.uname().nodename}/unix:0", ".", "0" * 32]
    with screen("-auth", str(cookies), size_wh=SCREEN_WH) as display:
        adding[4] = f"{os.uname().nodename}/unix{display}"
        subprocess.run(adding, check=True, capture_output=True)
        # The server reads the file when its first client comes.
        with Driven(display, WindowOptions(), XAUTHORITY=str(cookies)) as driven:
            assert driven.line() == "made"
            with Driven(display, WindowOptions(), HOME=str(tmp_path)) as refused:
                assert "does not answer" in refused.line()


def test_an_opencv_without_windows_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "")
    with pytest.raises(SinkError, match="install opencv-python"):
        WindowSink()


def test_other_systems_are_not_asked_for_x(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "COCOA")
    monkeypatch.delenv("DISPLAY", raising=False)
    sink = WindowSink()
    sink.poll()  # no window yet: nothing to do
    sink.finish()


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> WindowSink:
    """A sink in this process, which must not open a window."""
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "COCOA")
    return WindowSink()


def test_another_thread_is_refused(unopened: WindowSink) -> None:
    caught: list[BaseException] = []

    def use() -> None:
        frame = media.composed(media.card(), time_base=TIME_BASE)
        for call in (unopened.poll, lambda: unopened.write(frame)):
            try:
                call()
            except UsageError as error:
                caught.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert ["thread that made it" in str(error) for error in caught] == [True, True]


def test_a_raw_picture_is_refused_before_a_window_opens(unopened: WindowSink) -> None:
    wrong: Any = media.card()
    with pytest.raises(SealError, match="refused a ndarray"):
        unopened.write(wrong)
    with pytest.raises(SinkError, match="is closed"):
        unopened.write(media.composed(media.card(), time_base=TIME_BASE))


@pytest.mark.parametrize(
    ("size_wh", "screen_wh", "starts_wh"),
    [
        ((640, 480), (1920, 1080), (640, 480)),
        ((1920, 1080), (1920, 1080), (1536, 864)),
        ((1080, 1920), (1920, 1080), (486, 864)),
        ((1920, 1080), (5760, 1080), (1536, 864)),
        ((1, 4000), (800, 600), (1, 480)),
    ],
)
def test_a_window_fits_the_screen(
    size_wh: tuple[int, int], screen_wh: tuple[int, int], starts_wh: tuple[int, int]
) -> None:
    assert window._fitted(size_wh, screen_wh) == starts_wh


@pytest.mark.parametrize("wrong", [{"title": ""}, {"mirror": "yes"}, {"colour": 1}], ids=str)
def test_options_are_strict(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WindowOptions(**wrong)


def close_by_hand(display: str, found: int) -> None:
    """Sends what a window manager sends when someone clicks on the cross.

    Source: ICCCM 4.2.8, ClientMessage events; X Window System Protocol, appendix B.
    """
    server = Display(display)
    try:
        window = server.create_resource_object("window", found)
        asked = server.get_atom("WM_DELETE_WINDOW")
        protocols = server.get_atom("WM_PROTOCOLS")
        message = event.ClientMessage(
            window=window, client_type=protocols, data=(32, [asked, 0, 0, 0, 0])
        )
        window.send_event(message)
        server.sync()
    finally:
        server.close()
