"""Cameras on the network, for tests: a real RTSP server, and a wire that can be made to fail."""

from __future__ import annotations

import json
import random
import re
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, cast
from urllib.parse import quote

import pytest

from tests.kit import media
from tests.kit.wait import wait_until

SERVER = Path(__file__).with_name("rtsp_server.py")
PYTHON = "/usr/bin/python3"
"""The system's: GStreamer's bindings are packages of the distribution."""

NEEDS = 'import gi; gi.require_version("GstRtspServer", "1.0")'


def require_rtsp() -> None:
    """Skips, visibly, where the server cannot run."""
    try:
        done = subprocess.run([PYTHON, "-c", NEEDS], capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no {PYTHON}: {error.strerror}")
    if done.returncode:
        pytest.skip("no RTSP server here; apt-get install python3-gi gir1.2-gst-rtsp-server-1.0")


class RtspServer:
    """A process that streams pictures as H.264 by RTSP from a loopback port.

    It shows `frames` over and over from the moment the first client comes; a single one is a still
    picture. All clients see the same stream. Frames of different sizes change the stream's size on
    the way. Use as a context manager, or call `start` and `stop`.

    Args:
        frames: (H, W, 3) uint8 BGR, even sides; by default 28 numbered cards (`media.card`).
        size_wh: of the default cards.
        fps: frames a second.
        gop: frames from one key frame to the next.
        kbit: kilobits a second; None for a constant, nearly lossless quality.
        user, password: asked for if given.
        digest: the password is asked for as a digest (RFC 2617), not in clear.
        tls: files of certificate and key, for rtsps; needs `user`.
        port: 0 takes a free one and keeps it over restarts.
    """

    def __init__(
        self,
        frames: Sequence[media.BGR] | None = None,
        *,
        size_wh: tuple[int, int] = (192, 128),
        fps: int = 15,
        gop: int = 15,
        kbit: int | None = None,
        user: str = "",
        password: str = "",
        digest: bool = False,
        tls: tuple[Path, Path] | None = None,
        port: int = 0,
    ) -> None:
        self.frames = list(frames or (media.card(size_wh, number) for number in range(28)))
        self.fps, self.gop, self.kbit = fps, gop, kbit
        self.user, self.password, self.digest = user, password, digest
        assert tls is None or user, "the server checks certificates and users in one place"
        self.tls = tls
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, with user and password if it asks for them."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Its address behind another port, that of a `Wire`."""
        who = f"{self.user}:{quote(self.password, safe='')}@" if self.user else ""
        return f"{'rtsps' if self.tls else 'rtsp'}://{who}127.0.0.1:{port}/live"

    def start(self, frames: Sequence[media.BGR] | None = None) -> None:
        """Starts it, on the port it had before; returns when it listens."""
        assert self._process is None, "is running"
        self.frames = list(frames or self.frames)
        process = self._process = subprocess.Popen(
            [PYTHON, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        wanted = {
            "sizes_wh": [(frame.shape[1], frame.shape[0]) for frame in self.frames],
            "port": self.port,
            "fps": self.fps,
            "gop": self.gop,
            "kbit": self.kbit,
            "user": self.user,
            "password": self.password,
            "digest": self.digest,
            "tls": [str(file) for file in self.tls or ()],
        }
        with suppress(BrokenPipeError):  # it says why below
            process.stdin.write(json.dumps(wanted).encode() + b"\n")
            for frame in self.frames:
                process.stdin.write(frame.tobytes())
            process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            self.stop()
            pytest.fail("the RTSP server did not start")
        self.port = int(answer)

    def stop(self) -> None:
        """Ends it in order: clients get an end of stream or a reset."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stops it without closing anything, as a camera that hangs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


class Wire:
    """A TCP relay to a loopback port that damages, delays or cuts what the server sends.

    `flip_every`, `delay_s` and `silent` may be set at any time; they apply to what comes from the
    server from then on. A context manager.

    Args:
        port: where the server listens.
        flip_every: one byte in so many, on average, gets one bit flipped; 0 for none.
        delay_s: what the server sends arrives so much later.
    """

    def __init__(self, port: int, *, flip_every: int = 0, delay_s: float = 0.0) -> None:
        self.flip_every, self.delay_s, self.silent = flip_every, delay_s, False
        self.flipped = 0
        self._target = port
        self._random = random.Random(0)
        self._cut = threading.Event()
        self._ending = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="wire")

    def cut(self) -> None:
        """Breaks every connection; new ones can be made."""
        self._cut.set()
        wait_until(lambda: not self._cut.is_set())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        other: dict[socket.socket, socket.socket] = {}
        servers: set[socket.socket] = set()
        late: deque[tuple[float, socket.socket, bytes]] = deque()
        with selectors.DefaultSelector() as selector, self._listening:
            selector.register(self._listening, selectors.EVENT_READ)

            def close(end: socket.socket) -> None:
                for one in (end, other.pop(end, end)):
                    other.pop(one, None)
                    servers.discard(one)
                    with suppress(KeyError, ValueError):
                        selector.unregister(one)
                    one.close()

            def send(end: socket.socket, data: bytes) -> None:
                try:
                    end.sendall(data)
                except OSError:
                    close(end)

            def accept() -> None:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    return
                other.update({client: server, server: client})
                servers.add(server)
                for one in (client, server):
                    selector.register(one, selectors.EVENT_READ)

            while not self._ending.is_set():
                if self._cut.is_set():
                    for end in list(other):
                        close(end)
                    late.clear()
                    self._cut.clear()
                for key, _ in selector.select(0.01):
                    end = cast("socket.socket", key.fileobj)
                    if end is self._listening:
                        accept()
                        continue
                    if end not in other:
                        continue  # closed a moment ago
                    try:
                        data = end.recv(65536)
                    except OSError:
                        data = b""
                    if not data:
                        close(end)
                    elif end not in servers:
                        send(other[end], data)
                    elif not self.silent:
                        due = time.monotonic() + self.delay_s
                        late.append((due, other[end], self._damaged(data)))
                while late and late[0][0] <= time.monotonic():
                    _, end, data = late.popleft()
                    if end in other:
                        send(end, data)
            for end in list(other):
                close(end)

    def _damaged(self, data: bytes) -> bytes:
        if not self.flip_every:
            return data
        changed = bytearray(data)
        at = self._random.randrange(2 * self.flip_every)
        while at < len(changed):
            changed[at] ^= 1 << self._random.randrange(8)
            self.flipped += 1
            at += 1 + self._random.randrange(2 * self.flip_every)
        return bytes(changed)


class LossyUdp:
    """A relay to an RTSP server that loses some of the RTP packets it sends by UDP.

    What is said over TCP passes, with the relay's own UDP ports in place of both sides'. For one
    client at a time. A context manager.

    Args:
        port: where the server listens, on loopback.
        loss: share of the RTP packets that are lost, evenly drawn; may be set at any time.
        seed: of the draws.
    """

    def __init__(self, port: int, *, loss: float = 0.02, seed: int = 0) -> None:
        self.loss = loss
        self.passed = self.lost = 0
        self._target = port
        self._random = random.Random(seed)
        self._ending = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._near, self._far = _udp_pair(), _udp_pair()  # towards the client, towards the server
        self._client_ports, self._server_ports = (0, 0), (0, 0)
        self._ends: list[socket.socket] = []  # client and server, while connected
        self._thread = threading.Thread(target=self._run, name="lossy udp")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        for one in (self._listening, *self._near, *self._far):
            one.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ, self._accept)
            for index in (0, 1):
                for pair, handle in ((self._near, self._up), (self._far, self._down)):
                    selector.register(
                        pair[index], selectors.EVENT_READ, partial(handle, index=index)
                    )
            self._selector = selector
            while not self._ending.is_set():
                for key, _ in selector.select(0.01):
                    if cast("socket.socket", key.fileobj).fileno() >= 0:  # closed a moment ago
                        key.data()
            self._hang_up()

    def _accept(self) -> None:
        self._hang_up()
        client, _ = self._listening.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        self._ends = [client, server]
        for one, other, key in ((client, server, "client"), (server, client, "server")):
            self._selector.register(one, selectors.EVENT_READ, partial(self._tell, one, other, key))

    def _hang_up(self) -> None:
        for one in self._ends:
            self._selector.unregister(one)
            one.close()
        self._ends = []

    def _tell(self, one: socket.socket, other: socket.socket, side: str) -> None:
        """Passes what is said over TCP on; a message of RTSP fits into a packet."""
        try:
            data = one.recv(65536)
            ports = re.compile(rb"(client|server)_port=(\d+)-(\d+)")
            for name, *numbers in ports.findall(data):
                if name == b"client" == side.encode():
                    self._client_ports = int(numbers[0]), int(numbers[1])
                elif name == b"server":
                    self._server_ports = int(numbers[0]), int(numbers[1])
            mine = {
                (b"client", "client"): [_port(each) for each in self._far],
                (b"client", "server"): self._client_ports,
                (b"server", "server"): [_port(each) for each in self._near],
            }
            data = ports.sub(
                lambda found: found[1] + "_port={}-{}".format(*mine[found[1], side]).encode(), data
            )
            if data:
                other.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._hang_up()

    def _up(self, index: int) -> None:
        data = self._near[index].recv(65536)
        if self._server_ports[index]:
            self._far[index].sendto(data, ("127.0.0.1", self._server_ports[index]))

    def _down(self, index: int) -> None:
        data = self._far[index].recv(65536)
        if index == 0 and self._random.random() < self.loss:
            self.lost += 1
        elif self._client_ports[index]:
            self.passed += index == 0
            self._near[index].sendto(data, ("127.0.0.1", self._client_ports[index]))


def _port(end: socket.socket) -> int:
    number: int = end.getsockname()[1]
    return number


def _udp_pair() -> tuple[socket.socket, socket.socket]:
    """Two sockets on loopback, an even port and the next (RFC 3550, 11)."""
    for _ in range(1000):
        first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        first.bind(("127.0.0.1", 0))
        second = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            if _port(first) % 2 == 0:
                second.bind(("127.0.0.1", _port(first) + 1))
                return first, second
        except OSError:
            pass
        first.close()
        second.close()
    pytest.fail("no two ports in a row are free")
