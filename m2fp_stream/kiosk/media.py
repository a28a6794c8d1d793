"""The kiosk's media process: camera to composed pictures for the page.

Started by `kiosk.supervisor` as ``python -P -m m2fp_stream.kiosk.media CONTROL LINK MEMORY``; see
`kiosk.child` and `sinks.page_link`. Its job: ``settings`` (JSON of `config.Settings`) and
``privacy`` (what viewers chose before: level and silhouette, or null).

That the source has ended is said by ``ended``, and ends the kiosk. An end by SIGTERM is none of
that: the kiosk knows whether it asked for it, and otherwise starts this process again.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..core.errors import EXIT_INTERNAL
from ..core.safe import CoverLevel
from ..processes.channel import inherited
from ..processes.child import read_job
from .child import Control, begin

if TYPE_CHECKING:
    from ..config import Settings
    from ..sinks.page import PageEnd, PageState
    from ..sources.devices import CameraDevice

__all__ = ["main", "pinned"]

_SHOWN_S: Final = 5.0
"""The page's sink gets a frame or a card twice a second, whatever stands still; when it has got
none for so long, this process does not work, even if its main thread does. Chosen: ten in a row."""


def main(arguments: list[str]) -> int:
    """Runs the live pipeline until its source ends or it is told to; returns the exit code."""
    control = begin("media", arguments[0])

    def leave(*_: object) -> None:
        raise SystemExit(0)  # nothing is open yet

    signal.signal(signal.SIGTERM, leave)
    try:
        with inherited(arguments[1]) as link:
            ended = _run(control, link, int(arguments[2]))
    except Exception as error:
        return control.fail(error)
    if ended:
        control.send("ended")
    else:
        control.send("error", text="was ended by SIGTERM", exit_code=EXIT_INTERNAL)
    return 0


def _run(control: Control, link: socket.socket, memory: int) -> bool:
    """Runs; returns whether the source has ended, not this process alone."""
    job = read_job()
    # Heavy imports come after hardening: no window in which a crash could dump pixels.
    from ..app.live import run_live
    from ..config import Settings
    from ..sinks.page import PageEnd, PageState
    from ..sinks.page_link import PageMemory

    settings = Settings.model_validate_json(json.dumps(job["settings"]))
    request = job.get("privacy")
    page = PageEnd(
        link,
        PageMemory(memory, writable=True),
        request=None
        if request is None
        else PageState(CoverLevel(request["level"]), request["silhouette"]),
        on_request=lambda request: _say_request(control, request),
    )
    control.has_started = lambda: page.shown_s is not None  # from then on `on_facts` says so
    told = False

    def leave(*_: object) -> None:
        nonlocal told
        told = True
        page.stop()

    signal.signal(signal.SIGTERM, leave)
    settings, camera = pinned(settings)

    def on_facts(facts: dict[str, Any]) -> None:
        control.receive()
        if control.gone:
            page.stop()
        if _works(page):
            control.beat(facts=facts, camera=camera)

    run_live(
        settings,
        on_facts=on_facts,
        on_notice=lambda text: control.send("notice", text=text),
        page=page,
    )
    return not told


def pinned(
    settings: Settings, cameras: Sequence[CameraDevice] | None = None
) -> tuple[Settings, str | None]:
    """Returns settings that name their camera by what it is, not by today's number, and that name.

    A camera that cannot be told from another one keeps its number; the name is None then, and for
    other sources.

    Args:
        settings: all options.
        cameras: those to choose from; by default those connected.

    Raises:
        SourceError: the camera is not connected.
    """
    from ..sources.devices import find_camera, list_cameras

    kind, _, rest = settings.capture.input.partition(":")
    if kind != "camera" or sys.platform != "linux":
        return settings, None
    cameras = list_cameras() if cameras is None else cameras
    device = find_camera(rest or "0", cameras)
    for name in (str(device.id), device.id.by_port):
        if [one for one in cameras if name in (str(one.id), one.id.by_port)] == [device]:
            capture = settings.capture.model_copy(update={"input": f"camera:{name}"})
            return settings.model_copy(update={"capture": capture}), name
    return settings, None


def _say_request(control: Control, request: PageState) -> None:
    control.send("privacy", level=request.level.value, silhouette=request.silhouette)


def _works(page: PageEnd) -> bool:
    return page.shown_s is not None and time.monotonic() - page.shown_s < _SHOWN_S


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
