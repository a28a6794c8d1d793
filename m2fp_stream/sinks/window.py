"""Composed frames in a window on the screen."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, ClassVar, Final, final

import cv2
from pydantic import Field

from ..core.errors import SinkError, UsageError
from ..core.safe import SafeFrame
from ..options import Options
from . import x11
from .base import Sink

__all__ = ["Key", "WindowOptions", "WindowSink"]

_SCREEN_SHARE: Final = 0.8
"""Most of each side of the screen that a new window takes; the rest is for bars and frames.
Chosen."""

_USUAL_SCREEN_WH: Final = (1600, 900)
"""Assumed where the screen cannot be asked for its size. Chosen."""

_MOST_EVENTS: Final = 32
"""Key events handled at once: a stuck key must not keep the next frame waiting. Chosen."""

_REMIND_AFTER_S: Final = (0.3, 2.0)
"""When X windows are told once more that they are seen, after they opened; see `x11.remind`. By the
first the burst of a quick machine is over, by the second that of a slow one."""

_ESCAPE: Final = "\x1b"

_LAST_ASCII: Final = 0x7F
"""Cursor and function keys come as X key symbols above it (65361 is Left)."""


class Key(StrEnum):
    """What someone at the window asks for."""

    QUIT = "quit"
    STRONGER = "stronger"
    CONFIGURED = "configured"


_KEYS: Final = {"q": Key.QUIT, _ESCAPE: Key.QUIT, "p": Key.STRONGER, "o": Key.CONFIGURED}


class WindowOptions(Options):
    """How the window looks."""

    enabled: Annotated[
        bool,
        Field(
            title="Show a window", description="Whether composed frames are shown on the screen."
        ),
    ] = False
    title: Annotated[
        str,
        Field(
            title="Title",
            description="Text in the window's title bar.",
            min_length=1,
            max_length=200,
        ),
    ] = "m2fp-stream"
    mirror: Annotated[
        bool,
        Field(
            title="Mirror",
            description="Left and right are swapped, as in a mirror; the key m changes it.",
        ),
    ] = False
    full_screen: Annotated[
        bool,
        Field(
            title="Full screen",
            description="Starts without a frame around it; the key f changes it.",
        ),
    ] = False


@final
class WindowSink(Sink[SafeFrame]):
    """Shows each frame in a window that can be resized; it opens with the first frame.

    Keys: q and Esc ask to quit, as closing the window does; p asks for a stronger cover, o for the
    configured one; f switches full screen, m the mirror. After the window was closed by hand,
    further frames are dropped: it does not open again.

    When the X server itself ends, Qt ends this process, without clean-up (seen with Qt 5.15).

    Every method, the constructor too, belongs to one thread: the main thread, for macOS wants it.

    Args:
        options: see `WindowOptions`.
        on_key: called on the same thread, from `write` and `poll`; `Key.QUIT` comes once at most.

    Raises:
        SinkError: there is no screen to show anything on, or this OpenCV has no windows.
    """

    accepts: ClassVar[type] = SafeFrame

    def __init__(
        self,
        options: WindowOptions | None = None,
        *,
        on_key: Callable[[Key], None] | None = None,
    ) -> None:
        super().__init__()
        options = options or WindowOptions()
        self._title = options.title
        self._mirror = options.mirror
        self._full_screen = options.full_screen
        self._on_key = on_key
        self._quit_said = False
        self._shown = False
        self._closed = False
        self._thread = threading.get_ident()
        self._screen_wh = _screen_wh()
        self._remind_at: list[float] = []

    def poll(self) -> None:
        """Handles keys and redraws without a new frame; call it some 30 times a second.

        It returns within a few milliseconds; without a window it does nothing.

        Raises:
            UsageError: called on another thread than the constructor.
        """
        self._check_thread()
        if self._shown:
            self._handle_events()

    def _emit(self, item: SafeFrame) -> None:
        self._check_thread()
        if self._closed:
            return
        pixels = cv2.flip(item.pixels, 1) if self._mirror else item.pixels
        try:
            if not self._shown:
                self._open_window(item.size_wh)
            cv2.imshow(self._title, pixels)
        except cv2.error:
            raise SinkError(
                "the window cannot be shown: OpenCV refused; see whether other programs can open "
                "one, or run without a window"
            ) from None
        self._handle_events()

    def _open_window(self, size_wh: tuple[int, int]) -> None:
        cv2.namedWindow(
            self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        )
        self._shown = True
        if _is_on_x11():
            self._remind_at = [time.monotonic() + after for after in _REMIND_AFTER_S]
        cv2.resizeWindow(self._title, *_fitted(size_wh, self._screen_wh))
        if self._full_screen:
            self._set_full_screen()

    def _set_full_screen(self) -> None:
        state = cv2.WINDOW_FULLSCREEN if self._full_screen else cv2.WINDOW_NORMAL
        cv2.setWindowProperty(self._title, cv2.WND_PROP_FULLSCREEN, state)

    def _handle_events(self) -> None:
        if self._remind_at and time.monotonic() >= self._remind_at[0]:
            del self._remind_at[0]
            x11.remind()
        for _ in range(_MOST_EVENTS):
            code = cv2.waitKeyEx(1)  # a whole millisecond at most; pollKey() is the same on X11
            if not self._is_visible():
                self._shown = False
                self._closed = True
                self._say(Key.QUIT)
                return
            if code < 0:
                return
            if code <= _LAST_ASCII:
                self._press(chr(code).lower())

    def _is_visible(self) -> bool:
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) > 0
        except cv2.error:  # raised once the last window is gone
            return False

    def _press(self, character: str) -> None:
        if character == "f":
            self._full_screen = not self._full_screen
            self._set_full_screen()
        elif character == "m":
            self._mirror = not self._mirror
        elif character in _KEYS:
            self._say(_KEYS[character])

    def _say(self, key: Key) -> None:
        if key is Key.QUIT:
            if self._quit_said:
                return
            self._quit_said = True
        if self._on_key is not None:
            self._on_key(key)

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise UsageError("a window belongs to the thread that made it; call it from there")

    def _finish(self) -> None:
        self._check_thread()
        self._destroy()

    def _abort(self) -> None:
        # Toolkits crash when another thread touches their windows: this one then ends with its
        # process.
        if threading.get_ident() == self._thread:
            self._destroy()

    def _destroy(self) -> None:
        if not self._shown:
            return
        self._shown = False
        try:
            cv2.destroyWindow(self._title)
            cv2.waitKeyEx(1)  # some toolkits take it off the screen only here
        except cv2.error:  # it was closed by hand a moment ago
            return


def _fitted(size_wh: tuple[int, int], screen_wh: tuple[int, int]) -> tuple[int, int]:
    """Returns the frame's size, or less, in its aspect, where the screen is too small for it."""
    sides = zip(size_wh, screen_wh, strict=True)
    scale = min(1.0, *(_SCREEN_SHARE * screen / side for side, screen in sides))
    return max(1, round(size_wh[0] * scale)), max(1, round(size_wh[1] * scale))


def _screen_wh() -> tuple[int, int]:
    """Returns the (width, height) of the screen, after a look whether there is one.

    Qt, which OpenCV's Linux wheels draw with, ends the whole process where it cannot connect to a
    display. So the connection is tried before Qt is asked for anything.

    Raises:
        SinkError: no window can be opened.
    """
    framework = cv2.currentUIFramework()
    if not framework:
        raise SinkError(
            "this OpenCV cannot open windows (expected opencv-python, got a headless build); "
            "uninstall opencv-python-headless, install opencv-python"
        )
    if not _is_on_x11():
        return _USUAL_SCREEN_WH
    if not os.environ.get("DISPLAY"):
        raise SinkError(
            "a window needs a graphical session, but DISPLAY is not set; run it in one (under "
            "Wayland with XWayland), or run without a window"
        )
    found = x11.find_screen_wh()
    if found is None:
        raise SinkError(
            f"a window needs an X display, but {os.environ['DISPLAY']} (DISPLAY) does not answer; "
            "log in there, or run without a window"
        )
    # The wheels bring no other platform; one that the desktop asks for would end the process.
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    # On stderr Qt would explain to users that it ignores Wayland.
    os.environ.setdefault("QT_LOGGING_RULES", "*.debug=false;*.info=false;*.warning=false")
    return found


def _is_on_x11() -> bool:
    return sys.platform.startswith("linux") and cv2.currentUIFramework().startswith("QT")
