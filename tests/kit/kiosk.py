"""The real kiosk for tests and measurements: the program itself, its processes, and viewers.

with RealKiosk(write_config(path, capture={"input": "synthetic"})) as kiosk:
    with kiosk.viewer() as viewer:
        viewer.wait_for(lambda frame: not frame.covered)
    os.kill(kiosk.pid_of("media"), signal.SIGKILL)
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import cv2
import httpx
import numpy as np
import psutil
from numpy.typing import NDArray
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.kit.film import command, environment
from tests.kit.wait import PATIENCE_S, wait_until

_HEADER: Final = struct.Struct("<BBHIdd")
_MODULES: Final = {
    "media": "m2fp_stream.kiosk.media",
    "server": "m2fp_stream.kiosk.server",
    "parser": "m2fp_stream.pipeline.parser_worker",
    "still": "m2fp_stream.kiosk.still_worker",
}


@dataclass(frozen=True)
class Seen:
    """One picture that a viewer got.

    Attributes:
        at_s: when (`time.monotonic`).
        covered: whether it says that nothing but the card is in it.
        age_s: from capture to the sink, as it says.
        jpeg: the picture.
    """

    at_s: float
    covered: bool
    age_s: float
    jpeg: bytes

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The picture, BGR."""
        picture = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        return np.asarray(picture, np.uint8)


class Viewer:
    """A browser's place taken by a thread: keeps what comes by WebSocket, and comes back.

    Attributes:
        seen: the pictures, oldest first; `keep` of them at most.
        statuses: what was said between them.
        count: pictures in all.
        on_seen: is called with each picture, from the thread.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        keep: int = 2000,
        on_seen: Callable[[Seen], None] | None = None,
    ) -> None:
        self.seen: list[Seen] = []
        self.statuses: list[dict[str, Any]] = []
        self.count = 0
        self._on_seen = on_seen or (lambda _: None)
        self._keep = keep
        self._url = url.replace("http", "ws", 1) + "/stream"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._origin = Origin(url)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="viewer")

    def wait_for(self, what: Callable[[Seen], bool], after_s: float = 0.0) -> Seen:
        """Returns the first picture after a moment that is so."""
        found: list[Seen] = []

        def there() -> bool:
            found.extend(one for one in list(self.seen) if one.at_s > after_s and what(one))
            return bool(found)

        wait_until(there)
        return found[0]

    def live(self, after_s: float = 0.0) -> Seen:
        """Waits for a picture that shows something."""
        return self.wait_for(lambda one: not one.covered, after_s)

    def since(self, after_s: float) -> list[Seen]:
        """Returns the pictures that came after a moment."""
        return [one for one in list(self.seen) if one.at_s > after_s]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError, WebSocketException, EOFError):
                self._watch()
            self._ended.wait(0.3)

    def _watch(self) -> None:
        with connect(
            self._url,
            additional_headers=self._headers,
            origin=self._origin,
            max_size=1 << 24,
            compression=None,
            open_timeout=5,
            close_timeout=1,
            proxy=None,
        ) as channel:
            while not self._ended.is_set():
                try:
                    message = channel.recv(timeout=0.5)
                except TimeoutError:
                    continue
                if isinstance(message, str):
                    self.statuses.append(json.loads(message))
                    del self.statuses[: -self._keep]
                    continue
                _, flags, _, _, age_s, _ = _HEADER.unpack_from(message)
                one = Seen(time.monotonic(), bool(flags & 1), age_s, message[_HEADER.size :])
                self.count += 1
                self.seen.append(one)
                del self.seen[: -self._keep]
                self._on_seen(one)


class RealKiosk:
    """``m2fp-stream kiosk`` as people start it; a context manager that ends it by SIGTERM.

    Args:
        config: its configuration file.
        arguments: further ones.
        browser: whether it may open one.
        variables: of the environment; beside a configuration lies a cache folder of its own, so
            that no kiosk knows what people requested of another.
    """

    def __init__(
        self,
        config: Path | None,
        *arguments: object,
        browser: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        words: list[object] = ["kiosk", "--port", 0, *arguments]
        words += [] if browser else ["--no-browser"]
        words += [] if config is None else ["--config", config]
        self._words = words
        own = {} if config is None else {"XDG_CACHE_HOME": str(config.absolute().parent / "cache")}
        self._variables = {**own, **(variables or {})}
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._read, name="kiosk-stderr")

    @property
    def pid(self) -> int:
        """Of the kiosk itself."""
        assert self.process is not None, "not started"
        return self.process.pid

    @property
    def errors(self) -> str:
        """What it has said so far."""
        return "\n".join(self.lines)

    @property
    def address(self) -> str:
        """The address it printed, with the token."""
        for line in list(self.lines):
            if "/enter?key=" in line:
                return line.split()[-1]
        return ""

    @property
    def url(self) -> str:
        """Its address without path and token."""
        return self.address.partition("/enter")[0]

    @property
    def token(self) -> str:
        """Its token."""
        return self.address.partition("key=")[2]

    @property
    def bearer(self) -> dict[str, str]:
        """Headers that open every door."""
        return {"Authorization": f"Bearer {self.token}"}

    def status(self) -> dict[str, Any]:
        """What /api/status says; empty where nobody answers."""
        scheme, port = self.url.partition(":")[0], self.url.rpartition(":")[2]
        here = f"{scheme}://127.0.0.1:{port}/api/status"
        try:
            # A certificate is one of the test's own.
            answer = httpx.get(here, headers=self.bearer, timeout=5, verify=False)
            status: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            status = {}
        return status

    def request_privacy(self, level: str, *, silhouette: bool = False) -> dict[str, Any]:
        """Asks for a level; returns the status."""
        answer = httpx.post(
            self.url + "/api/privacy",
            headers={**self.bearer, "Origin": self.url},
            json={"level": level, "silhouette": silhouette},
            timeout=5,
        )
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status

    def viewer(self, **options: Any) -> Viewer:
        """Returns a viewer, not yet started."""
        return Viewer(self.url, self.token, **options)

    def pids_of(self, name: str) -> list[int]:
        """Process ids of one of its kinds: media, server, parser, still."""
        found = []
        for child in psutil.Process(self.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if _MODULES[name] in child.cmdline():
                    found.append(child.pid)
        return found

    def pid_of(self, name: str) -> int:
        """Process id of one of its kinds, which has to be there."""
        wait_until(lambda: self.pids_of(name))
        return self.pids_of(name)[0]

    def processes(self) -> list[psutil.Process]:
        """The kiosk and all of its processes."""
        own = psutil.Process(self.pid)
        return [own, *own.children(recursive=True)]

    def start(self) -> None:
        """Starts it; returns at once."""
        self.process = subprocess.Popen(
            command(*self._words),
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**self._variables),
        )
        self._reader.start()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal, waits for its end and returns the exit code."""
        assert self.process is not None, "not started"
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        """Waits for its end and returns the exit code."""
        assert self.process is not None, "not started"
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()
        return self.process.returncode

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.lines.append(line.rstrip("\n"))

    def __enter__(self) -> Self:
        self.start()
        try:
            wait_until(lambda: self.address or (self.process and self.process.poll() is not None))
            assert self.address, f"no address; it said: {self.errors}"
        except BaseException:
            self.end(signal.SIGKILL)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(ProcessLookupError):
            self.end()


def environ_of(pid: int) -> str:
    """The environment a process was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")


def has_ended(process: psutil.Process) -> bool:
    """Whether a process is gone, or only waits to be buried."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Sends a signal to a process that may just have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, how)
