"""Requests that nobody who means well sends, against the page's real server in its own process.

    python -m tests.chaos.web_attacks [--generated N]

plays the attacks at the same time, then generated requests, and prints what was sent, how it was
answered, whether the server and its pictures lived on, and how much memory the process took.
Everything goes to 127.0.0.1.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import logging
import re
import select
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import Opcode
from websockets.sync.client import ClientConnection, connect

from tests.kit.web import TOKEN, jpeg

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 30.0
_JPEG = jpeg(99)
_LEAKS: Final = re.compile(
    rb"Traceback|File \"|site-packages|\.py\b|uvicorn|starlette|fastapi|Python/", re.IGNORECASE
)
"""What no answer may hold: internals, versions, paths."""


@dataclass
class Outcome:
    """What became of one attack.

    Attributes:
        name: of the attack.
        sent: requests or connections.
        answers: how often each status came; ``closed`` is a connection that ended without one.
        leaks: answers that told something of the inside.
        frames: pictures that a viewer got meanwhile.
        alive: whether the server answered after it.
        rss_mb: memory of the process after it.
    """

    name: str
    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    leaks: int = 0
    frames: int = 0
    alive: bool = False
    rss_mb: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, answer: bytes) -> None:
        """Counts one answer, as it came over the wire."""
        found = re.match(rb"HTTP/1\.1 (\d\d\d) ", answer)
        with self._lock:
            self.sent += 1
            self.answers[found[1].decode() if found else "closed"] += 1
            self.leaks += bool(_LEAKS.search(answer))

    def count(self, what: str) -> None:
        """Counts something that is no HTTP answer."""
        with self._lock:
            self.sent += 1
            self.answers[what] += 1

    def row(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        names = ("name", "sent", "leaks", "frames", "alive", "rss_mb")
        values = {name: getattr(self, name) for name in names}
        return {**values, "answers": dict(sorted(self.answers.items()))}


def _quiet() -> logging.Logger:
    """Returns a logger that tells nobody what the client's library thinks of being cut off."""
    quiet = logging.getLogger("tests.attacks")
    quiet.setLevel(logging.CRITICAL + 1)
    return quiet


class Target:
    """The server in a process of its own, with a viewer that watches all the time.

    Args:
        limited: whether the ordinary rates hold.
    """

    def __init__(self, *, limited: bool = True) -> None:
        self._command = [
            sys.executable,
            "-m",
            "tests.kit.web",
            *([] if limited else ["--no-limits"]),
        ]
        self._ended = threading.Event()
        self.log: list[str] = []
        self.frames = 0
        self.longest_gap_s = 0.0

    @property
    def authority(self) -> str:
        """As a Host header has it."""
        return f"{self.host}:{self.port}"

    @property
    def bearer(self) -> dict[str, str]:
        """Headers of somebody who may ask."""
        return {"Authorization": f"Bearer {TOKEN}"}

    @property
    def rss_mb(self) -> float:
        """Memory of the server's process."""
        return float(self._process.memory_info().rss) / (1 << 20)

    def uploads(self) -> dict[str, int]:
        """Returns what reached the service behind the server."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        answer: dict[str, int] = json.loads(self._child.stdout.readline())
        return answer

    def problems(self) -> list[str]:
        """Returns the lines of the server's log that tell of something unexpected."""
        return [line for line in self.log if not line.startswith(("INFO:", "WARNING:"))]

    def alive(self) -> bool:
        """Says whether somebody who may ask is answered."""
        answer = self.ask(head(self, "GET /api/status HTTP/1.1"))
        return answer.startswith(b"HTTP/1.1 200") and self._child.poll() is None

    def link(self) -> socket.socket:
        """Returns a new connection."""
        return socket.create_connection((self.host, self.port), PATIENCE_S)

    def ask(self, request: bytes, wait_s: float = PATIENCE_S) -> bytes:
        """Sends bytes and returns all that comes back: until the end, or 0.2 s after an answer."""
        with self.link() as link:
            link.settimeout(wait_s)
            try:
                link.sendall(request)
                answer = link.recv(65536)
                while answer:
                    if not select.select([link], [], [], 0.2)[0]:
                        break
                    more = link.recv(65536)
                    if not more:
                        break
                    answer += more
            except OSError:
                return b""
        return answer

    def watch(self) -> AbstractContextManager[ClientConnection]:
        """Returns a stream of somebody who may watch."""
        return connect(
            f"ws://{self.authority}/stream",
            additional_headers=self.bearer,
            compression=None,
            max_size=None,
            logger=_quiet(),
        )

    def play(self, name: str, attack: Callable[[Target, Outcome], None]) -> Outcome:
        """Plays one attack and says what became of it."""
        outcome = Outcome(name)
        before = self.frames
        attack(self, outcome)
        end_s = time.monotonic() + PATIENCE_S
        while self.frames <= before and time.monotonic() < end_s:
            time.sleep(0.05)
        outcome.frames = self.frames - before
        outcome.alive = self.alive()
        outcome.rss_mb = round(self.rss_mb, 1)
        return outcome

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(
            self._command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        assert self._child.stdout is not None
        where = json.loads(self._child.stdout.readline())
        self.host, self.port = str(where["host"]), int(where["port"])
        self._process = psutil.Process(self._child.pid)
        self._threads = [
            threading.Thread(target=self._read_log, name="attack-log"),
            threading.Thread(target=self._view, name="attack-viewer"),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._threads[1].join()
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        try:
            self._child.wait(PATIENCE_S)
        finally:
            self._child.kill()
            self._threads[0].join()
            for stream in (self._child.stdout, self._child.stderr):
                assert stream is not None
                stream.close()

    def _read_log(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            self.log.append(line)

    def _view(self) -> None:
        """Watches as a page on the wall does, and comes back when it is cut off."""
        last_s = time.monotonic()
        while not self._ended.is_set():
            with contextlib.suppress(OSError, WebSocketException), self.watch() as stream:
                while not self._ended.is_set():
                    message = stream.recv(1.0)
                    if isinstance(message, bytes):
                        now_s = time.monotonic()
                        self.longest_gap_s = max(self.longest_gap_s, now_s - last_s)
                        last_s = now_s
                        self.frames += 1


# ----------------------------------------------------------------- keys and names


def head(
    target: Target,
    line: str,
    *more: str,
    host: str | None = None,
    token: bool = True,
    close: bool = True,
) -> bytes:
    """Returns a request's head."""
    lines = [line, f"Host: {target.authority if host is None else host}", *more]
    if token:
        lines.append(f"Authorization: Bearer {TOKEN}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def wrong_keys(target: Target, outcome: Outcome) -> None:
    """Guesses tokens, codes and sessions."""
    for number in range(60):
        guess = f"{TOKEN[:-1]}x{number}"
        lines = [
            ("GET /api/status HTTP/1.1", f"Authorization: Bearer {guess}"),
            ("GET /stream.mjpg HTTP/1.1", f"Cookie: m2fp_session={guess}.{guess}"),
            (f"GET /enter?key={guess} HTTP/1.1", "X: y"),
        ]
        for line, header in lines:
            outcome.add(target.ask(head(target, line, header, token=False)))


def rebinding(target: Target, outcome: Outcome) -> None:
    """Asks under names that are not the server's."""
    names = ["evil.example", f"evil.example:{target.port}", "127.0.0.1.nip.io", "", "localhost:1"]
    names += [f"127.0.0.1:{target.port}@evil.example", f"{target.authority}.evil.example", "[::1"]
    for name in names:
        for path in ("/", "/healthz", "/api/status", f"/enter?key={TOKEN}", "/stream.mjpg"):
            outcome.add(target.ask(head(target, f"GET {path} HTTP/1.1", host=name)))


def cross_site(target: Target, outcome: Outcome) -> None:
    """Changes and looks at things from another site's page, with the browser's cookie."""
    entered = target.ask(head(target, f"GET /enter?key={TOKEN} HTTP/1.1", token=False))
    found = re.search(rb"m2fp_session=([^;]+)", entered)
    assert found
    cookie = f"Cookie: m2fp_session={found[1].decode()}"
    sites: list[list[str]] = [["Origin: http://evil.example"], ["Origin: null"], []]
    sites += [["Origin: http://127.0.0.1:1"], ["Sec-Fetch-Site: cross-site"]]
    sites += [["Sec-Fetch-Site: same-site", f"Origin: http://{target.authority}"]]
    body = b'{"level": "parts"}'
    for site in sites:
        for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
            lines = [cookie, *site, f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
            request = head(target, "POST /api/privacy HTTP/1.1", *lines, token=False) + body
            outcome.add(target.ask(request))
        upgrade = ["Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
        lines = ["GET /stream HTTP/1.1", f"Host: {target.authority}", cookie, *site, *upgrade]
        lines += ["Sec-WebSocket-Version: 13", "Connection: Upgrade", "", ""]
        outcome.add(target.ask("\r\n".join(lines).encode()))


def smuggling(target: Target, outcome: Outcome) -> None:
    """Sends what two servers could take for different requests, and what is no HTTP at all."""
    host, token = f"Host: {target.authority}\r\n", f"Authorization: Bearer {TOKEN}\r\n"
    hidden = f"GET /api/status HTTP/1.1\r\n{host}{token}\r\n"
    post = f"POST /api/privacy HTTP/1.1\r\n{host}"
    json_type = "Content-Type: application/json\r\n"
    shapes = [
        f"{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        f"{post}Content-Length: 0\r\nContent-Length: 99\r\n\r\n{hidden}",
        f"{post}Content-Length: +5\r\n\r\nhello",
        f"{post}Content-Length: -1\r\n\r\n",
        f"{post}Content-Length: 99999999999999999999\r\n\r\n",
        f"{post}Content-Length: 0x10\r\n\r\n{hidden}",
        f"{post}Content-Length: 1e3\r\n\r\n",
        f"{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}",
        f"{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}",
        f"{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}",
        f"{post}Transfer-Encoding:\tchunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{hidden}",
        f"{post}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n",
        f"{post}Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        f"{post}Transfer-Encoding: chunked\r\n\r\n5;{'x' * 20000}\r\nhello\r\n0\r\n\r\n",
        f"{post}{json_type} folded: yes\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}Host: evil.example\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: evil.example\r\n{host}\r\n",
        f"GET / HTTP/1.1\r\n{host}X: a\0b\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}X: a\nY: b\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}X-{'a' * 70000}: b\r\n\r\n",
        f"GET /{'a' * 70000} HTTP/1.1\r\n{host}\r\n",
        f"GET / HTTP/1.1\r\n{host}" + "".join(f"X{n}: y\r\n" for n in range(4000)) + "\r\n",
        f"GET http://evil.example/ HTTP/1.1\r\n{host}\r\n",
        f"GET //evil.example/%2f.. HTTP/1.1\r\n{host}\r\n",
        f"CONNECT evil.example:443 HTTP/1.1\r\n{host}\r\n",
        f"OPTIONS * HTTP/1.1\r\n{host}\r\n",
        f"TRACE / HTTP/1.1\r\n{host}\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        f"GET / HTTP/9.9\r\n{host}\r\n",
        "GET /\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        f"GET / HTTP/1.1\r\n{host}Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        f"GET /stream HTTP/1.1\r\n{host}{token}Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: <script>\r\nSec-WebSocket-Version: 13\r\n\r\n",
        f"GET /stream HTTP/1.1\r\n{host}{token}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        f"POST /stream HTTP/1.1\r\n{host}{token}Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\0" * 200,
        "\r\n" * 3000,
        "\0" * 1000,
        "SSH-2.0-OpenSSH_9.9\r\n",
        "A" * 100_000,
    ]
    for shape in shapes:
        answer = target.ask(shape.encode("latin-1"), 3)
        outcome.add(answer)
        # What was hidden behind a request must not be answered as one of its own.
        for status in re.findall(rb"HTTP/1\.1 (2\d\d)", answer):
            outcome.answers[f"SMUGGLED {status.decode()}"] += 1


def traversal(target: Target, outcome: Outcome) -> None:
    """Asks for files that are not the page's."""
    dots = [
        "..",
        "%2e%2e",
        ".%2e",
        "%252e%252e",
        "..%00",
        "%c0%ae%c0%ae",
        "..%5c",
        "..\\",
        "....//",
    ]
    names = ["options.py", "hub.py", "../../pyproject.toml", "etc/passwd", "page.js"]
    for dot in dots:
        for name in names:
            for path in (f"/page/{dot}/{name}", f"/page/{dot}%2f{name}", f"/page//{dot}/{name}"):
                outcome.add(target.ask(head(target, f"GET {path} HTTP/1.1")))


# ----------------------------------------------------------------- bodies


def bad_uploads(target: Target, outcome: Outcome) -> None:
    """Sends what is too large, what is no picture, and what ends too early."""
    large = b"\xff\xd8\xff" + bytes(1_500_000)
    bodies = [
        large,
        b"",
        b"GIF89a",
        b"<svg onload=x>",
        b"PK\x03\x04" * 1000,
        bytes(500_000),
        b"RIFF",
    ]
    for path in ("/api/parse", "/api/anonymize", "/api/parse?format=x", "/api/parse?areas=9"):
        for body in bodies:
            length = f"Content-Length: {len(body)}"
            outcome.add(
                target.ask(head(target, f"POST {path} HTTP/1.1", length, close=False) + body)
            )
        chunk = b"%x\r\n" % len(large) + large + b"\r\n0\r\n\r\n"
        request = (
            head(target, f"POST {path} HTTP/1.1", "Transfer-Encoding: chunked", close=False) + chunk
        )
        outcome.add(target.ask(request))
        length = "Content-Length: 999999999999"
        outcome.add(target.ask(head(target, f"POST {path} HTTP/1.1", length, close=False) + large))
    for path in ("/api/privacy", "/api/status", "/", "/enter", "/nothing"):
        length = f"Content-Length: {len(large)}"
        outcome.add(target.ask(head(target, f"POST {path} HTTP/1.1", length, close=False) + large))


def slow_bodies(target: Target, outcome: Outcome) -> None:
    """Sends uploads a byte a second."""
    links = [target.link() for _ in range(6)]
    for link in links:
        link.sendall(head(target, "POST /api/parse HTTP/1.1", "Content-Length: 5000"))
    _drip(links, b"\xff", 40, outcome)


# ----------------------------------------------------------------- connections


def half_heads(target: Target, outcome: Outcome) -> None:
    """Opens connections and sends a byte of a request each second."""
    links = [target.link() for _ in range(60)]
    for link in links:
        link.sendall(b"GET / HTTP/1.1\r\nX: ")
    _drip(links, b"a", 40, outcome)


def _drip(links: Sequence[socket.socket], data: bytes, most_s: int, outcome: Outcome) -> None:
    """Sends data each second until all were ended; counts those that are left as ``open``."""
    left = set(links)
    end_s = time.monotonic() + most_s
    while left and time.monotonic() < end_s:
        for link in select.select(list(left), [], [], 1.0)[0]:
            answer = b""
            with contextlib.suppress(OSError):
                answer = link.recv(65536)
            outcome.add(answer)
            left.discard(link)
            link.close()
        for link in list(left):
            with contextlib.suppress(OSError):
                link.send(data)
    for link in left:
        outcome.count("open")
        link.close()


def slow_readers(target: Target, outcome: Outcome) -> None:
    """Asks for pictures and does not take them."""
    links = []
    upgrade = [
        *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    for number in range(16):
        link = socket.socket()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect((target.host, target.port))
        kind = ["GET /stream.mjpg HTTP/1.1"] if number % 2 else ["GET /stream HTTP/1.1", *upgrade]
        lines = [kind[0], f"Host: {target.authority}", *kind[1:], f"Authorization: Bearer {TOKEN}"]
        link.sendall("\r\n".join([*lines, "", ""]).encode())
        links.append(link)
    # A connection that was ended shows it when something is sent there, not when nothing is read.
    left = set(links)
    end_s = time.monotonic() + 40
    while left and time.monotonic() < end_s:
        time.sleep(1)
        for link in list(left):
            if _is_reset(link):
                outcome.count("cut off")
                left.discard(link)
                link.close()
    for link in left:
        outcome.count("open")
        link.close()


def _is_reset(link: socket.socket) -> bool:
    poll = select.poll()
    poll.register(link, 0)  # what ended is told without being asked for
    return bool(poll.poll(0))


def many_connections(target: Target, outcome: Outcome) -> None:
    """Opens 200 connections that say nothing, and then asks on 200 others at once."""
    silent = [target.link() for _ in range(200)]
    began_s = time.monotonic()
    if not target.alive():
        outcome.count("LOCKED OUT")
    took = "under" if time.monotonic() - began_s < 5 else "over"
    outcome.count(f"answered beside them in {took} 5 s")
    asking = [target.link() for _ in range(200)]
    request = head(target, "GET /healthz HTTP/1.1", token=False)
    for link in asking:
        with contextlib.suppress(OSError):
            link.sendall(request)
    for link in asking:
        link.settimeout(PATIENCE_S)
        answer = b""
        with contextlib.suppress(OSError):
            answer = link.recv(4096)
        outcome.add(answer)
        link.close()
    for link in silent:
        link.close()


def flood(target: Target, outcome: Outcome) -> None:
    """Talks to the stream without end: messages, pings, fragments, large ones."""

    def messages(stream: ClientConnection) -> None:
        for _ in range(5000):
            stream.send("x" * 32)

    def pings(stream: ClientConnection) -> None:
        for number in range(5000):
            stream.ping(str(number))

    def fragments(stream: ClientConnection) -> None:
        stream.send("x" for _ in range(5000))

    def large(stream: ClientConnection) -> None:
        stream.send("x" * 1_000_000)

    def nonsense(stream: ClientConnection) -> None:
        for _ in range(1000):
            stream.socket.sendall(bytes([Opcode.PONG.value | 0xF0, 0xFF]) + b"\xff" * 100)

    for talk in (messages, pings, fragments, large, nonsense):
        for _ in range(2):
            with target.watch() as stream:
                with contextlib.suppress(OSError, ConnectionClosed):
                    talk(stream)
                outcome.count(_end_of(stream))


def _end_of(stream: ClientConnection) -> str:
    """Reads on, and says how a stream was ended."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        try:
            stream.recv(PATIENCE_S)
        except ConnectionClosed as ended:
            return f"closed {ended.rcvd.code}" if ended.rcvd is not None else "cut off"
        except TimeoutError:
            break
    return "open"


# ----------------------------------------------------------------- generated


def generated(target: Target, outcome: Outcome, most: int) -> list[str]:
    """Sends requests made from the server's own description; returns what was wrong about answers.

    Half of them fit the description, half do not.
    """
    problems: list[str] = []
    for request, described in cases(target, most):
        connection = http.client.HTTPConnection(target.host, target.port, timeout=PATIENCE_S)
        try:
            method, url, body, headers = request
            connection.request(method, url, body, headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            outcome.count("closed")
            problems.append(f"{method} {url[:80]!r}: {type(error).__name__}")
            continue
        finally:
            connection.close()
        outcome.add(f"HTTP/1.1 {answer.status} ".encode() + data)
        if answer.status >= 500 and answer.status != 503:
            problems.append(f"{method} {url[:80]!r}: {answer.status}")
        if answer.status >= 400 and method != "HEAD" and not _is_problem(data):
            problems.append(f"{method} {url[:80]!r}: {data[:80]!r} is no error of ours")
        if described is not None and str(answer.status) not in described:
            problems.append(f"{method} {url[:80]!r}: {answer.status} is not described")
    return problems


def _is_problem(data: bytes) -> bool:
    try:
        return set(json.loads(data)) == {"error"}
    except ValueError:
        return False


Request = tuple[str, str, bytes | None, dict[str, str]]


def cases(target: Target, most: int) -> Iterator[tuple[Request, set[str] | None]]:
    """Yields generated requests, each with the statuses that are described for it."""
    # Imported here: it takes seconds, and the attacks above do without.
    import schemathesis
    from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
    from hypothesis.errors import Unsatisfiable

    asked = target.ask(head(target, "GET /openapi.json HTTP/1.1"))
    schema = schemathesis.openapi.from_dict(json.loads(asked.partition(b"\r\n\r\n")[2]))
    found: list[Any] = list(schema.get_all_operations())  # each is Ok or Err
    operations = [one.ok() for one in found]
    # A stream without end is played by other attacks.
    operations = [one for one in operations if one.path != "/stream.mjpg"]
    modes = list(schemathesis.GenerationMode)
    known = [
        (one, mode, set(one.definition.raw["responses"])) for one in operations for mode in modes
    ]
    count, turn = 0, 0
    while count < most:
        turn += 1
        for operation, mode, described in known:
            made: list[Request] = []
            give: Any = given(operation.as_strategy(generation_mode=mode))
            limits = settings(
                max_examples=max(1, min(50, most // len(known))),
                deadline=None,
                database=None,
                phases=[Phase.generate],
                verbosity=Verbosity.quiet,
                suppress_health_check=list(HealthCheck),
            )
            play: Any = seed(turn)(limits(give(_Collect(target, made).take)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # What has no parameters cannot be made wrong.
                with contextlib.suppress(Unsatisfiable):
                    play()
            for request in made[: most - count]:
                count += 1
                yield request, described | _BY_HTTP


_BY_HTTP: Final = {"400", "401", "403", "404", "405", "408", "413", "421", "429"}
"""What may come of how HTTP itself was used, whatever was asked."""


class _Collect:
    """Keeps what is generated."""

    def __init__(self, target: Target, made: list[Request]) -> None:
        self._target, self._made = target, made

    def take(self, case: Any) -> None:
        self._made.append(_request(self._target, case))


def _request(target: Target, case: Any) -> Request:
    """Returns a generated case as plain HTTP."""
    import requests

    arguments = case.as_transport_kwargs(base_url=f"http://{target.authority}")
    names = ("method", "url", "headers", "params", "data", "files", "json", "cookies", "auth")
    known = {name: arguments[name] for name in names if name in arguments}
    made = requests.Request(**known).prepare()
    headers = {
        name: value if isinstance(value, str) else value.decode("latin-1")
        for name, value in made.headers.items()
        if name.lower() not in ("content-length", "user-agent", "transfer-encoding")
    }
    if "Authorization" not in headers or len(made.path_url) % 8:
        headers["Authorization"] = f"Bearer {TOKEN}"
    body = made.body.encode() if isinstance(made.body, str) else made.body
    return str(made.method), str(made.path_url), body if isinstance(body, bytes) else None, headers


# ----------------------------------------------------------------- table

ATTACKS: Final[dict[str, Callable[[Target, Outcome], None]]] = {
    "wrong token, code, session": wrong_keys,
    "wrong Host (DNS rebinding)": rebinding,
    "cross-site requests": cross_site,
    "two Hosts, smuggling, no HTTP": smuggling,
    "path traversal": traversal,
    "WebSocket floods": flood,
    "half-sent heads": half_heads,
    "uploads of a byte a second": slow_bodies,
    "readers that do not read": slow_readers,
    "200 connections": many_connections,
    "oversized, malformed uploads": bad_uploads,
}


def play_limited() -> tuple[list[Outcome], dict[str, Any]]:
    """Plays the attacks at the same time, with the ordinary limits; returns what was seen."""
    with Target() as target, ThreadPoolExecutor(len(ATTACKS)) as pool:
        seen: dict[str, Any] = {"first_mb": round(target.rss_mb, 1)}
        played = [pool.submit(target.play, name, attack) for name, attack in ATTACKS.items()]
        outcomes = [one.result() for one in played]
        seen |= target.uploads()
    return outcomes, {
        **seen,
        "longest_gap_s": round(target.longest_gap_s, 2),
        "log": target.problems(),
    }


def play_unlimited(most_generated: int) -> tuple[list[Outcome], dict[str, Any]]:
    """Plays what the ordinary limits of rate would soon end; returns what was seen."""
    problems: list[str] = []
    with Target(limited=False) as target:
        seen: dict[str, Any] = {"first_mb": round(target.rss_mb, 1)}
        outcomes = [
            target.play("the same uploads, no limit of rate", bad_uploads),
            target.play(
                f"{most_generated} generated requests, no limit of rate",
                lambda target, outcome: problems.extend(generated(target, outcome, most_generated)),
            ),
        ]
        seen |= target.uploads()
    return outcomes, {
        **seen,
        "longest_gap_s": round(target.longest_gap_s, 2),
        "log": target.problems(),
        "problems": problems[:20],
    }


def table(outcomes: Sequence[Outcome]) -> str:
    """Returns the outcomes as Markdown."""
    lines = ["| attack | sent | answered | leaks | alive | pictures | RSS MB |"]
    lines.append("|---|---:|---|---:|---|---:|---:|")
    for one in outcomes:
        answers = ", ".join(f"{count}x {what}" for what, count in sorted(one.answers.items()))
        alive = "yes" if one.alive else "NO"
        row = (one.name, one.sent, answers, one.leaks, alive, one.frames, one.rss_mb)
        lines.append("| " + " | ".join(str(value) for value in row) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--generated", type=int, default=10_000, help="generated requests")
    parser.add_argument("--json", type=Path, help="file for the same as JSON")
    options = parser.parse_args(arguments)
    limited, seen = play_limited()
    unlimited, seen_unlimited = play_unlimited(options.generated)
    outcomes = [*limited, *unlimited]
    values = {"limited": seen, "unlimited": seen_unlimited}
    sys.stdout.write(f"{table(outcomes)}\n\n{json.dumps(values)}\n")
    if options.json is not None:
        values["attacks"] = {one.name: one.row() for one in outcomes}
        options.json.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
