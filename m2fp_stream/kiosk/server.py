"""The kiosk's server process: the page, and composed pictures for it; it never sees another.

Started by `kiosk.supervisor` as ``python -P -m m2fp_stream.kiosk.server CONTROL LINK MEMORY
LISTENER``; see `kiosk.child` and `sinks.page_link`. LISTENER is the page's socket, which outlives
this process. Its job: ``page`` and ``kiosk`` (JSON of `web.options`), ``wall`` (see
`AccessControl.display`), ``token``, ``hello`` (what the media process will say of itself) and
``stills`` (settings for the process that opens uploads, or null for none).
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from ..processes.channel import inherited
from ..processes.child import read_job
from .child import Control, begin

if TYPE_CHECKING:
    from ..web.access import AccessControl
    from ..web.hub import Hub

__all__ = ["main"]

_BEAT_S: Final = 1.0
"""Heartbeats; a tenth of the silence that counts as a hang (`kiosk.supervisor`)."""


def main(arguments: list[str]) -> int:
    """Serves the page until it is told to end; returns the exit code."""
    control = begin("server", arguments[0])

    def leave(*_: object) -> None:
        raise SystemExit(0)  # nothing is open yet

    signal.signal(signal.SIGTERM, leave)
    try:
        with (
            inherited(arguments[1]) as link,
            socket.socket(fileno=int(arguments[3])) as listener,
        ):
            asyncio.run(_serve(control, link, int(arguments[2]), listener, read_job()))
    except Exception as error:
        return control.fail(error)
    return 0


async def _serve(
    control: Control, link: socket.socket, memory: int, listener: socket.socket, job: dict[str, Any]
) -> None:
    # After hardening; and a missing library is an error that can be told.
    from ..sinks.page_link import PageMemory
    from ..web.access import AccessControl
    from ..web.app import make_app, need_extra
    from ..web.hub import Hub
    from ..web.options import KioskOptions, PageOptions
    from ..web.server import serve
    from .stills import StillService

    need_extra()
    options = PageOptions.model_validate_json(json.dumps(job["page"]))
    kiosk = KioskOptions.model_validate_json(json.dumps(job["kiosk"]))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    hub = Hub(link, PageMemory(memory, writable=False), options, kiosk, hello=job["hello"])
    access = AccessControl.of(options, job["token"], display=job["wall"])
    stills = None
    if options.uploads:
        stills = StillService(job["stills"], max_pixels=options.max_upload_pixels)

    def on_control() -> None:
        _obey(control, access)
        if control.gone:
            loop.remove_reader(control.fileno())
            stop.set()

    beating: list[asyncio.Task[None]] = []

    def on_ready(_: str, __: int) -> None:
        control.send("ready")
        beating.append(asyncio.create_task(_beat(control, hub, access)))

    loop.add_reader(control.fileno(), on_control)
    try:
        app = make_app(options, hub, access, stills)
        await serve(app, hub, options, on_ready, stop, listener=listener)
    finally:
        for task in beating:
            task.cancel()
        if stills is not None:
            stills.close()
        if not control.gone:
            loop.remove_reader(control.fileno())


def _obey(control: Control, access: AccessControl) -> None:
    for message in control.receive():
        match message:
            case {"kind": "code", "code": str(code)}:
                access.allow_code(code)
                control.send("coded", code=code)
            case _:
                pass


async def _beat(control: Control, hub: Hub, access: AccessControl) -> None:
    while True:
        control.beat(asleep=hub.asleep, wall=access.display, here=access.display_is_active)
        await asyncio.sleep(_BEAT_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
