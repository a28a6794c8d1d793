"""A camera on loopback that gives pictures by HTTP: a stream of JPEGs, or one at a time."""

from __future__ import annotations

import base64
import hashlib
import http.server
import re
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

import cv2

from tests.kit import media

SIZE_WH = (192, 128)


def jpeg(number: int) -> bytes:
    """A numbered card (`media.number_of`)."""
    return cv2.imencode(".jpg", media.card(SIZE_WH, number))[1].tobytes()


class HttpCamera:
    """Serves `/motion` (numbered cards), `/still` (card 5 again and again) and `/snap.jpg`.

    What a snapshot answers may be changed at any time by the attributes. A context manager.

    Args:
        fps: pictures a second of the streams.
        user, password: asked for if a user is given.
        digest: None for Basic, else the algorithm: "MD5" or "SHA-256" (RFC 7616).
        tls: files of certificate and key, for https.
    """

    def __init__(
        self,
        *,
        fps: float = 25.0,
        user: str = "",
        password: str = "",
        digest: str | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.fps, self.user, self.password, self.digest, self.tls = fps, user, password, digest, tls
        self.shown = 0
        """Number of the card that a snapshot shows."""
        self.step = 1
        """By so much it goes on with each snapshot."""
        self.tag = False
        """Answers with an ETag, and with 304 where that is known."""
        self.modified = False
        """The same with Last-Modified."""
        self.status = 200
        self.half = False
        """Gives damaged pictures."""
        self.kind = "image/jpeg"
        self.body: bytes | None = None
        """Given instead of the card, by the streams, too."""
        self.lies_about_length = False
        self.silent = threading.Event()
        """Takes requests and answers none."""
        self.keep_alive = True
        self.statuses: list[int] = []
        """Of every answer."""
        self.authorizations: list[str] = []
        self.connections = 0
        self.nonce = "n0"
        self._ended = threading.Event()
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                camera.connections += 1
                super().setup()

            def do_GET(self) -> None:
                with suppress(OSError):
                    camera._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # the client has gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def url(self, path: str, *, raw: bool = False) -> str:
        """Its address, user and password encoded, or raw as people write them."""
        who = ""
        if self.user:
            words = self.user, self.password
            who = ":".join(words if raw else (quote(word, safe="") for word in words)) + "@"
        return f"{'https' if self.tls else 'http'}://{who}127.0.0.1:{self.port}{path}"

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
        self.silent.clear()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # ----------------------------------------------------------------- in its threads

    def _answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        while self.silent.is_set():
            self._ended.wait(0.02)
        if not self._let_in(handler):
            self.statuses.append(401)
            handler.send_response(401)
            handler.send_header("WWW-Authenticate", self._challenge())
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        path = urlsplit(handler.path).path
        if path == "/snap.jpg":
            self._snapshot(handler)
        elif path in ("/motion", "/still"):
            self._stream(handler, still=path == "/still")
        else:
            handler.send_error(404)

    def _stream(self, handler: http.server.BaseHTTPRequestHandler, *, still: bool) -> None:
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        number, due_s = 0, time.monotonic()
        while not self._ended.wait(max(0.0, due_s - time.monotonic())):
            data = self.body or jpeg(5 if still else number % 28)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            handler.wfile.write(head.encode() + data + b"\r\n")
            number, due_s = number + 1, due_s + 1 / self.fps

    def _snapshot(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        mark = f'"{self.shown}"'
        date = f"Sun, 06 Nov 1994 08:49:{self.shown % 60:02} GMT"
        known = (self.tag and handler.headers["If-None-Match"] == mark) or (
            self.modified and handler.headers["If-Modified-Since"] == date
        )
        status = 304 if known else self.status
        data = b"" if status != 200 else self.body or jpeg(self.shown % 28)
        if self.half:
            data = data[: len(data) // 2]
        self.statuses.append(status)
        handler.send_response(status)
        if status == 302:
            handler.send_header("Location", "/motion")
        if self.tag:
            handler.send_header("ETag", mark)
        if self.modified:
            handler.send_header("Last-Modified", date)
        if status == 200:
            handler.send_header("Content-Type", self.kind)
        if status != 304:
            longer = 100 if self.lies_about_length else 0
            handler.send_header("Content-Length", str(len(data) + longer))
        if not self.keep_alive or self.lies_about_length:
            handler.send_header("Connection", "close")
            handler.close_connection = True
        handler.end_headers()
        if status == 200:
            self.shown += self.step
        handler.wfile.write(data)

    def _challenge(self) -> str:
        if self.digest is None:
            return 'Basic realm="camera, the door\'s"'
        return (
            f'Digest realm="camera, the door\'s", nonce="{self.nonce}", opaque="o", '
            f'algorithm={self.digest}, qop="auth,auth-int"'
        )

    def _let_in(self, handler: http.server.BaseHTTPRequestHandler) -> bool:
        if not self.user:
            return True
        said = handler.headers["Authorization"] or ""
        if said:
            self.authorizations.append(said)
        if self.digest is None:
            wanted = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            return said == f"Basic {wanted}"
        if not said.startswith("Digest "):
            return False
        given = {
            name: quoted or plain
            for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', said)
        }
        name = "sha256" if self.digest == "SHA-256" else "md5"

        def hashed(text: str) -> str:
            return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()

        who = hashed(f"{self.user}:camera, the door's:{self.password}")
        what = hashed(f"GET:{handler.path}")
        once = f"{given.get('nc')}:{given.get('cnonce')}:auth"
        return (
            given.get("nonce") == self.nonce
            and given.get("username") == self.user
            and given.get("uri") == handler.path
            and given.get("response") == hashed(f"{who}:{self.nonce}:{once}:{what}")
        )
