"""The page's server, for tests: the real one on a free port, fed through a real link.

    with PageServer() as server:
        server.media.hello()
        server.media.frame(jpeg)
        httpx.get(server.url + "/api/status", headers=server.bearer)

    python -m tests.kit.web

serves until its standard input ends, with frames and uploads, for tests that measure the process:
it prints where, and for each line that it reads what has reached the service that opens uploads.

The server runs in a thread of its own, with an event loop of its own. What the media process would
say is said by `PageServer.media`, over the same socket and memory; a browser comes in at
`PageServer.enter_url`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.processes.channel import receive, send
from m2fp_stream.processes.memory import CARD, FRAMES
from m2fp_stream.sinks import page_link
from m2fp_stream.sinks.page_link import PageMemory
from m2fp_stream.web.access import BAD_UPLOADS, RATES, AccessControl, Use
from m2fp_stream.web.app import make_app
from m2fp_stream.web.hub import Hub
from m2fp_stream.web.limits import Rate
from m2fp_stream.web.options import KioskOptions, PageOptions
from m2fp_stream.web.server import serve
from m2fp_stream.web.stills import CoveredStill, ParsedStill, Still
from tests.kit.wait import PATIENCE_S, wait_until

TOKEN = "t0ken-for_tests.~0123456789"

NO_LIMITS: Mapping[Use, Rate] = {use: Rate(1e6, 1_000_000) for use in Use}


def jpeg(picture: NDArray[np.uint8] | int, size_wh: tuple[int, int] = (160, 90)) -> bytes:
    """Returns a picture (BGR), or one of a single grey value, as JPEG."""
    if isinstance(picture, int):
        picture = np.full((size_wh[1], size_wh[0], 3), picture, np.uint8)
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    return data.tobytes()


class Media:
    """The media process's end of a link.

    Args:
        channel: see `page_link`.
        memory: writable.
        clock_ns: CLOCK_MONOTONIC, which both ends read.

    Attributes:
        heard: what the server said, oldest first; grows when `listen` is called.
    """

    def __init__(
        self,
        channel: socket.socket,
        memory: PageMemory,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.channel, self.memory, self._clock_ns = channel, memory, clock_ns
        self.heard: list[dict[str, Any]] = []
        self._number = 0

    def send(self, message: dict[str, Any]) -> None:
        """Sends any message."""
        wait_until(lambda: send(self.channel, message))

    def hello(self, **more: Any) -> None:
        """Says who is there, as `PageSink` does."""
        values: dict[str, Any] = {
            "size_wh": [160, 90],
            "hide": "head",
            "floor": "parts",
            "level": "parts",
        }
        values |= {"effect": "configured", "stored": False, "keep_zones": False}
        self.send({"kind": "hello", **values, **more})

    def card(self, data: bytes) -> None:
        """Hands the card over."""
        self._number += 1
        self.memory.put(CARD, self._number, data)
        self.send({"kind": "card", "number": self._number})

    def frame(
        self,
        data: bytes,
        *,
        level: str = "parts",
        why: str | None = None,
        age_s: float = 0.05,
        requested: str | None = None,
        effect: str = "configured",
        mirrored: bool = False,
    ) -> None:
        """Hands a frame over, captured `age_s` ago.

        Args:
            data: the JPEG.
            level: what is covered in it.
            why: the card's reason.
            age_s: from capture to now.
            requested: what was requested before it was composed; None: its level.
            effect: as the request.
            mirrored: whether left and right are said to be swapped in it.
        """
        self._number += 1
        slot = FRAMES[self._number % 2]
        self.memory.put(slot, self._number, data)
        now_ns = self._clock_ns()
        message = {"kind": "frame", "slot": slot, "number": self._number, "sent_ns": now_ns}
        privacy = {
            "requested": level if requested is None else requested,
            "effect": effect,
            "mirrored": mirrored,
        }
        captured_ns = now_ns - round(age_s * 1e9)
        self.send({**message, **privacy, "captured_ns": captured_ns, "level": level, "why": why})

    def facts(self, **more: Any) -> None:
        """Sends what a live run measures."""
        facts = {
            "uptime_s": 10.0,
            "fps": 25.0,
            "latency_ms": {"p50": 120.0, "p95": 200.0, "max": 300.0},
            "person_s_ago": 0.2,
            "source": "up",
            "level": "parts",
        }
        self.send({"kind": "facts", "facts": {**facts, **more}})

    def listen(self) -> list[dict[str, Any]]:
        """Returns everything that the server has said so far."""
        messages, _ = receive(self.channel)
        self.heard += messages
        return self.heard

    def requests(self) -> list[tuple[str, str]]:
        """Returns the (level, effect) of every request the server has passed on."""
        said = self.listen()
        return [(one["level"], one["effect"]) for one in said if one["kind"] == "privacy"]


class Feeder:
    """A thread that hands over a frame every 40 ms, and facts every half second.

    It does what the server asks for as far as messages go: level, effect, the reason of a card.

    Args:
        media: whose end it uses; nobody else may meanwhile.
        picture: returns the JPEG of frame number n (0, 1, 2...).
        more: further arguments of `Media.frame`; with a level requests are not followed.
    """

    def __init__(self, media: Media, picture: Callable[[int], bytes], **more: Any) -> None:
        self._media, self._picture, self._more = media, picture, more
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test-media")
        self.count = 0

    def _run(self) -> None:
        while not self._ended.wait(0.04):
            requests = self._media.requests()
            level, effect = requests[-1] if requests else ("parts", "configured")
            if self.count % 12 == 0:
                self._media.facts(level=level)
            why = "on_request" if level == "frame" else None
            followed = {"level": level, "effect": effect, "why": why}
            self._media.frame(self._picture(self.count), **{**followed, **self._more})
            self.count += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


class PageServer:
    """A running server; use as a context manager.

    Args:
        hello: what the settings say of the media process; None: nothing is known.
        options: of the page, beyond a free port and the token of these tests.
        kiosk: of the kiosk.
        still: opens uploads; given, uploads are on.
        rates: how often a session may do what; `NO_LIMITS` for tests that ask a lot, which
            lifts the block after bad uploads, too.
        used_bytes: what the server is told of its memory; it lives in the process of the tests,
            whose own says nothing about it. A test may set it.
    """

    def __init__(
        self,
        *,
        kiosk: Mapping[str, Any] | None = None,
        hello: Mapping[str, Any] | None = None,
        still: Still | None = None,
        rates: Mapping[Use, Rate] = RATES,
        used_bytes: int = 90 << 20,
        **options: Any,
    ) -> None:
        settings = {"port": 0, "token": TOKEN, "uploads": still is not None, **options}
        self.options = PageOptions(**settings)
        self.kiosk = KioskOptions(**(kiosk or {}))
        self._still, self._rates, self._hello = still, rates, hello
        self.used_bytes = used_bytes
        self._thread = threading.Thread(target=self._run, name="test-page-server")
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.host, self.port = "", 0
        self.access: AccessControl
        self.hub: Hub
        self.media: Media

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        scheme = "http" if self.options.certificate is None else "https"
        return f"{scheme}://{self.host}:{self.port}"

    @property
    def websocket_url(self) -> str:
        """Of the stream."""
        return "ws" + self.url.removeprefix("http") + "/stream"

    @property
    def enter_url(self) -> str:
        """What a browser opens first."""
        return f"{self.url}/enter?key={TOKEN}"

    @property
    def bearer(self) -> dict[str, str]:
        """Headers of a client that has the token."""
        return {"Authorization": f"Bearer {TOKEN}"}

    def in_loop(self, call: Callable[[], Any]) -> Any:
        """Runs `call` in the server's event loop and returns what it returned."""
        assert self._loop is not None

        async def run() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE_S)

    def stop(self) -> None:
        """Ends the server, if it still runs."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it ends by itself meanwhile
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the server did not end"

    def __enter__(self) -> Self:
        descriptor = page_link.make_memory()
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = ours
        try:
            self.media = Media(ours, PageMemory(descriptor, writable=True))
            self._memory = PageMemory(descriptor, writable=False)
        finally:
            os.close(descriptor)
        self._thread.start()
        assert self._ready.wait(PATIENCE_S), "the server did not start"
        if self._error is not None:
            self._thread.join()
            self._close()
            raise self._error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._close()
        if error is None and self._error is not None:
            raise self._error

    def _close(self) -> None:
        self._channel.close()
        self._theirs.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # told by whoever uses the server
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.hub = Hub(self._theirs, self._memory, self.options, self.kiosk, hello=self._hello)
        strikes = 1_000_000 if self._rates is NO_LIMITS else BAD_UPLOADS
        self.access = AccessControl.of(self.options, TOKEN, rates=self._rates, bad_uploads=strikes)
        app = make_app(
            self.options,
            self.hub,
            self.access,
            self._still,
            used_bytes=lambda: self.used_bytes,
        )
        await serve(app, self.hub, self.options, self._on_ready, self._stop)

    def _on_ready(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._ready.set()


def certificate(folder: Path, *, passphrase: bytes | None = None) -> tuple[str, str]:
    """Writes a certificate for localhost; returns its path and its key's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "page.pem", folder / "page.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    kind = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kind
    paths[1].write_bytes(key.private_bytes(*pem))
    paths[1].chmod(0o600)
    return str(paths[0]), str(paths[1])


class CountingStill:
    """Opens nothing: counts what reached it, and what of that could not be a picture."""

    def __init__(self) -> None:
        self.reached = self.wrong = 0

    def _count(self, upload: bytes) -> None:
        self.reached += 1
        begins = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"II*\0", b"MM\0*")
        self.wrong += not upload.startswith(begins)

    async def parse(self, upload: bytes, *, palette: bool) -> ParsedStill:
        self._count(upload)
        return ParsedStill(b"\x89PNG\r\n\x1a\n", {"Face": 1}, (1, 1))

    async def anonymize(self, upload: bytes) -> CoveredStill:
        self._count(upload)
        return CoveredStill(b"\xff\xd8\xff", "image/jpeg")


def main() -> None:
    """Serves; see the module."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    still = CountingStill()
    noise = np.random.default_rng(1).integers(0, 256, (360, 640, 3), np.uint8)
    pictures = [jpeg(np.roll(noise, 8 * shift, 1)) for shift in range(4)]
    unlimited = "--no-limits" in sys.argv
    rates = NO_LIMITS if unlimited else RATES
    with PageServer(still=still, rates=rates, max_upload_mb=1, clients=24) as server:
        server.media.hello()
        server.media.card(jpeg(20))
        with Feeder(server.media, lambda number: pictures[number % 4]):
            _say({"host": server.host, "port": server.port})
            for _ in sys.stdin:
                nonsense = server.hub.nonsense
                _say({"reached": still.reached, "wrong": still.wrong, "nonsense": nonsense})


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
