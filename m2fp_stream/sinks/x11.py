"""What has to be asked of, or told to, the X server that Qt draws on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from Xlib.display import Display
    from Xlib.xobject.drawable import Window

__all__ = ["find_screen_wh", "remind"]


def find_screen_wh() -> tuple[int, int] | None:
    """Connects as Qt does, with the user's cookie, and hangs up; None where that fails."""
    display = _connect()
    if display is None:
        return None
    try:
        screen = display.screen()
        return screen.width_in_pixels, screen.height_in_pixels
    finally:
        display.close()


def remind() -> None:
    """Tells this process again which of its windows are on the screen.

    Qt 5.15 of the wheels loses events that come in a burst while it opens a window: measured here,
    one window in forty on a busy machine, one in three where it opens at once. If the one lost is
    MapNotify, then Qt believes that the window is hidden, and it stays black for ever. Told twice,
    Qt paints once more.

    Source: X Window System Protocol, 11, MapNotify and Expose; Extended Window Manager Hints 1.5,
    _NET_WM_PID.
    """
    from Xlib.error import ConnectionClosedError, XError
    from Xlib.protocol import event

    display = _connect()
    if display is None:
        return
    try:
        for window in _own_windows(display):
            try:
                size = window.get_geometry()
                window.send_event(event.MapNotify(event=window, window=window, override=0))
                window.send_event(
                    event.Expose(
                        window=window, x=0, y=0, width=size.width, height=size.height, count=0
                    )
                )
            except XError:
                continue  # it was closed meanwhile
        display.sync()
    except ConnectionClosedError:
        return
    finally:
        display.close()


def _connect() -> Display | None:
    from Xlib.display import Display
    from Xlib.error import DisplayError, XauthError

    try:
        return Display()
    except (DisplayError, XauthError, OSError):
        return None


def _own_windows(display: Display) -> Iterator[Window]:
    """Yields the windows of this process that can be seen."""
    from Xlib import X
    from Xlib.error import XError

    pid = display.get_atom("_NET_WM_PID")
    left = [display.screen().root]
    while left:
        window = left.pop()
        try:
            if window.get_attributes().map_state != X.IsViewable:
                continue  # nor is anything within it
            owner = window.get_full_property(pid, X.AnyPropertyType)
            if owner is not None and owner.value[0] == os.getpid():
                yield window
            else:
                left += window.query_tree().children
        except XError:
            continue  # it was closed meanwhile
