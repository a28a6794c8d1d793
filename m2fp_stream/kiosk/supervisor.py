"""The kiosk's own process: starts the others, watches them, replaces them. It sees no picture.

It holds both ends of the link between media process and server, what viewers chose last, and the
socket at which the page is served, so that either of the two may die and come back without the
other's noticing more than a pause, and nobody else can take the page's place meanwhile.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

from ..app.live_sinks import page_hello
from ..config import Settings, cache_folder
from ..core.address import address_of
from ..core.errors import (
    ConfigError,
    M2FPStreamError,
    ModelError,
    PromiseError,
    SinkError,
    SourceError,
)
from ..core.safe import CoverLevel
from ..processes import channel
from ..sinks.page_link import make_memory
from ..web.options import PageOptions
from ..web.server import listen
from .browser import Browser, BrowserPolicy, Screen, find_browser, pin_of
from .privacy_request import PrivacyRequestFile
from .supervised import RestartPolicy, SupervisedProcess

__all__ = ["Supervisor", "address", "run_kiosk"]

_STEP_S: Final = 0.2
"""Longest time between two looks at the processes. Chosen: nobody in front of a mirror sees it."""

_END_S: Final = 8.0
"""What processes get to end; an outlet of the live pipeline takes 5 s at most (`outlets`)."""

_END_RECORDING_S: Final = 60.0
"""What they get where a recording is to be completed: its index is moved to the front. Chosen: a
slow card takes 10 MB a second."""

_CODE_S: Final = 10.0
"""After so long without an answer about a one-time code, another one is made. Chosen: a server that
answers later counts as hung."""

_SERVER: Final = RestartPolicy(silent_s=10.0)
_MEDIA: Final = RestartPolicy(silent_s=15.0)
"""Chosen: ten and fifteen heartbeats. The page shows its own card long before, and a machine that
is busy beyond measure must not lose both for it."""

_ERRORS: Final[Mapping[int, type[M2FPStreamError]]] = {
    2: ConfigError,
    3: SourceError,
    4: ModelError,
    5: SinkError,
    6: PromiseError,
}
_LASTING: Final = frozenset(_ERRORS) - {SourceError.exit_code}
"""Exit codes of errors that another try does not mend: they end a kiosk that never worked. A
source may come later, and until then the page says that the camera is away."""

_FOR_STILLS: Final = ("policy", "parser", "tracking", "compose", "source", "file")


def run_kiosk(
    settings: Settings,
    *,
    seconds: float | None = None,
    on_facts: Callable[[dict[str, Any]], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
    on_address: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Runs camera, page and browser until the source ends or KeyboardInterrupt.

    Call it from the main thread of a process that has no others.

    Args:
        settings: all options.
        seconds: ends it after so long; None: it does not.
        on_facts: gets what the media process measured, about once a second.
        on_notice: gets sentences for the user.
        on_address: gets the page's address with its token, once; nothing may write it down.

    Returns:
        What the media process measured last; empty if nothing.

    Raises:
        ConfigError, ModelError, PromiseError: see `core.errors`; from the first start alone.
        SinkError: the page cannot be served at that address.
    """
    supervisor = Supervisor(settings, on_facts=on_facts, on_notice=on_notice, on_address=on_address)
    try:
        supervisor.run(seconds)
    finally:
        supervisor.close()
    return supervisor.facts


@final
class Supervisor:
    """Looks after media process, server and browser; see `run_kiosk`.

    Args:
        settings, on_facts, on_notice, on_address: see there.
        environ: where the display is looked for; None: of this process.
        browser: when the browser is ended and opened again.

    Raises:
        SinkError: the page cannot be served at that address.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_facts: Callable[[dict[str, Any]], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
        on_address: Callable[[str], None] | None = None,
        environ: Mapping[str, str] | None = None,
        browser: BrowserPolicy | None = None,
    ) -> None:
        self._settings = settings
        self._on_facts = on_facts or (lambda _: None)
        self._notice = on_notice or (lambda _: None)
        self._on_address = on_address or (lambda _: None)
        self.facts: dict[str, Any] = {}
        """What the media process measured last."""
        self._requests = PrivacyRequestFile(
            # By the port that is configured, as two kiosks of one user have two of them.
            cache_folder() / f"kiosk-privacy-{settings.page.port}.json",
            page_hello(settings).floor,
            on_notice=self._notice,
        )
        self._request = self._requests.load()
        self._camera: str | None = None
        self._token = settings.page.token or secrets.token_urlsafe(32)
        self._announced = False
        self._pin: str | None = None
        self._wall: str | None = None
        self._code = ""
        self._code_at_s = float("-inf")
        program = find_browser(settings.kiosk.browser, os.environ if environ is None else environ)
        if program is None and settings.kiosk.browser == "auto":
            self._notice("no Chromium or no display: open the address in a browser")
        self._program = program
        self._browser_policy = browser
        self._browser: Browser | None = None
        self._screen = Screen(
            settings.kiosk.screen_off, settings.kiosk.screen_on, on_notice=self._notice
        )
        self._supervised: list[SupervisedProcess] = []
        self._ends: list[socket.socket] = []
        self._memory = -1
        self._listener = listen(settings.page)
        self._port: int = self._listener.getsockname()[1]
        self._make_link()
        media_end, server_end = (end.fileno() for end in self._ends)
        to_server = server_end, self._memory, self._listener.fileno()
        self.server = self._process("server", "the page's server", to_server, _SERVER)
        self.media = self._process("media", "the camera process", (media_end, self._memory), _MEDIA)
        self._supervised += self.media, self.server

    def _make_link(self) -> None:
        """Makes what the media process and the server share, and what outlives both."""
        try:
            self._memory = make_memory()
            self._ends += channel.pair()
        except OSError as error:
            self.close()
            raise SinkError(f"no memory for the page's pictures ({error.strerror})") from None

    def run(self, seconds: float | None = None) -> None:
        """Runs until the source has ended, or for so many seconds.

        Raises:
            ConfigError, ModelError, PromiseError, SinkError: see `run_kiosk`.
        """
        end_s = float("inf") if seconds is None else time.monotonic() + seconds
        self._screen.turn(asleep=False)  # it may have been left off
        while time.monotonic() < end_s and not self.media.done:
            self.step()
            waiting = [end for end in (self.server.channel, self.media.channel) if end is not None]
            select.select(waiting, [], [], _STEP_S)

    def step(self) -> None:
        """Does what is due now.

        Raises:
            ConfigError, ModelError, PromiseError, SinkError: see `run_kiosk`.
        """
        for message in self.server.poll():
            self._from_server(message)
        for message in self.media.poll():
            self._from_media(message)
        for process in (self.server, self.media):
            if process.given_up and process.failure is not None:
                raise _ERRORS[process.failure.exit_code](process.failure.text)
        self._screen.poll()
        self._poll_browser()

    def close(self) -> None:
        """Ends everything, whatever state it is in."""
        record = self._settings.record.enabled
        deadline_s = time.monotonic() + (_END_RECORDING_S if record else _END_S)
        for process in self._supervised:
            process.ask_to_end()
        if self._browser is not None:
            self._browser.end()
        self._screen.end()
        for process in self._supervised:
            process.end(deadline_s)
        for end in self._ends:
            end.close()
        self._ends.clear()
        self._listener.close()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    # --- the processes ---

    def _process(
        self, module: str, name: str, descriptors: Sequence[int], policy: RestartPolicy
    ) -> SupervisedProcess:
        return SupervisedProcess(
            name,
            f"{__package__}.{module}",
            descriptors=descriptors,
            job=self._server_job if module == "server" else self._media_job,
            policy=policy,
            lasting=_LASTING,
            on_notice=self._notice,
        )

    def _server_job(self) -> dict[str, Any]:
        settings = self._settings
        stills = None
        if settings.page.uploads:
            stills = settings.model_dump(mode="json", include=set(_FOR_STILLS))
        page = settings.page.model_copy(update={"token": None, "port": self._port})
        return {
            "page": page.model_dump(mode="json"),
            "kiosk": settings.kiosk.model_dump(mode="json"),
            "token": self._token,
            "wall": self._wall,
            "hello": page_hello(settings).message(),
            "stills": stills,
        }

    def _media_job(self) -> dict[str, Any]:
        job = self._settings.model_dump(mode="json")
        job["page"]["token"] = None  # is the server's alone
        if self._camera is not None:
            # From the first one on it is this camera and no other, whatever number it gets.
            job["capture"]["input"] = f"camera:{self._camera}"
        return {"settings": job, "privacy": self._request}

    def _from_server(self, message: dict[str, Any]) -> None:
        match message:
            case {"kind": "beat", "asleep": bool(asleep), "wall": str() | None, "here": bool(here)}:
                self._screen.turn(asleep=asleep)
                self._wall = message["wall"]
                if here and self._browser is not None:
                    self._browser.seen()
            case {"kind": "ready"}:
                # Each server reads the certificate once, and has just done so.
                certificate = self._settings.page.certificate
                self._pin = None if certificate is None else pin_of(Path(certificate))
                if not self._announced:
                    self._announced = True
                    here_is = address(self._settings.page, self._port)
                    self._on_address(f"{here_is}/enter?key={self._token}")
            case {"kind": "coded", "code": str(code)} if code == self._code:
                self._open_browser(code)
            case _:
                pass

    def _from_media(self, message: dict[str, Any]) -> None:
        match message:
            case {"kind": "beat", "facts": dict(facts)}:
                camera = message.get("camera")
                self._camera = camera if isinstance(camera, str) else self._camera
                self.facts = facts
                self._on_facts(facts)
            case {"kind": "privacy", "level": str(level), "silhouette": bool(silhouette)} if (
                level in {one.value for one in CoverLevel}
            ):
                self._request = {"level": level, "silhouette": silhouette}
                self._requests.keep(self._request)
            case _:
                pass

    # --- the browser ---

    def _poll_browser(self) -> None:
        if self._program is None or not self._announced:
            return
        if self._browser is None:
            profile = cache_folder() / f"kiosk-browser-{self._port}"
            self._browser = Browser(
                self._program, profile, policy=self._browser_policy, on_notice=self._notice
            )
        if not self.server.up:
            self._browser.excuse()
        self._browser.poll()
        now_s = time.monotonic()
        if self.server.up and self._browser.due and now_s - self._code_at_s > _CODE_S:
            self._code, self._code_at_s = secrets.token_urlsafe(32), now_s
            self.server.send({"kind": "code", "code": self._code})

    def _open_browser(self, code: str) -> None:
        self._code, self._code_at_s = "", float("-inf")
        if self._browser is not None and self._browser.due:
            here = address(self._settings.page, self._port, here=True)
            self._browser.open(f"{here}/enter?key={code}", pin=self._pin)


def address(page: PageOptions, port: int, *, here: bool = False) -> str:
    """Returns the page's address without a path; `here`: for a browser on this computer."""
    scheme = "http" if page.certificate is None else "https"
    ip = address_of(page.host)
    host = f"[{page.host}]" if ":" in page.host else page.host
    if ip.is_unspecified:
        host = "localhost"
    if page.names and not here and not ip.is_loopback:
        host = page.names[0]
    return f"{scheme}://{host}:{port}"
