"""What every request passes before anything else sees it: who asks, from where, how often.

A plain ASGI middleware, so that HTTP and WebSocket meet the same checks, written without any
framework. It answers refusals itself, puts the security headers on everything, holds bodies to
their limits while they come, and turns whatever went wrong inside into an answer that tells
nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, final
from urllib.parse import parse_qs

from .access import COOKIE, AccessControl, Caller, Refused, Use
from .audit import Audit

__all__ = [
    "PAGE_ROUTES",
    "PLAYER_ROUTES",
    "SECURITY_HEADERS",
    "BodyRefused",
    "Gate",
    "Route",
    "Routes",
    "caller_of",
    "problem",
    "set_audit_reason",
]

_log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SECURITY_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)

_BODY_S: Final = 15.0
"""How long a body may take to come: 200 MB (`page.max_upload_mb`) at 110 Mbit/s, 20 MB at 11.
Chosen."""

_SMALL_BODY_BYTES: Final = 4096
"""Of a body that is no upload; the largest that is understood, a request for privacy, has 50.
Chosen."""

_MOST_FIELDS: Final = 8
"""In a player's query; it has to name one. Chosen."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ONCE: Final = (
    b"host",
    b"origin",
    b"authorization",
    b"cookie",
    b"sec-fetch-site",
    b"content-length",
)
_NAVIGATION: Final = frozenset({"same-origin", "none"})
_STATE: Final = "m2fp_caller"


@final
@dataclass(frozen=True, slots=True)
class Route:
    """What the gate knows about a path.

    Attributes:
        template: as the audit log names it.
        use: which rate holds.
        is_open: whether anybody may ask.
        token_in_query: whether the token may stand in the address (``?token=``): players take
            nothing but an address.
    """

    template: str
    use: Use
    is_open: bool = False
    token_in_query: bool = False


@final
@dataclass(frozen=True, slots=True)
class Routes:
    """All that the gate knows of the paths behind it.

    Attributes:
        exact: by path.
        begins: by how a path begins, for those that are not among `exact`.
        unknown: what holds for all others.
    """

    exact: Mapping[str, Route]
    begins: Mapping[str, Route]
    unknown: Route

    def of(self, path: str) -> Route:
        """Returns what holds for a path."""
        found = self.exact.get(path)
        if found is None:
            found = next(
                (one for begin, one in self.begins.items() if path.startswith(begin)), self.unknown
            )
        return found


_PAGE: Final = {
    "/": Route("/", Use.PAGE),
    "/enter": Route("/enter", Use.ENTER, is_open=True),
    "/healthz": Route("/healthz", Use.PAGE, is_open=True),
    "/openapi.json": Route("/openapi.json", Use.PAGE),
    "/api/status": Route("/api/status", Use.STATUS),
    "/api/privacy": Route("/api/privacy", Use.PRIVACY),
    "/api/parse": Route("/api/parse", Use.UPLOAD),
    "/api/anonymize": Route("/api/anonymize", Use.UPLOAD),
    "/stream": Route("/stream", Use.STREAM),
    "/stream.mjpg": Route("/stream.mjpg", Use.STREAM),
}
PAGE_ROUTES: Final = Routes(
    exact=_PAGE,
    begins={"/page/": Route("/page/{name}", Use.PAGE)},
    unknown=Route("(unknown)", Use.PAGE),
)

PLAYER_ROUTES: Final = Routes(
    exact={
        path: Route(path, Use.PLAYER, token_in_query=True) for path in ("/live.ts", "/live.m3u8")
    },
    begins={"/segment-": Route("/segment-{number}.ts", Use.PLAYER, token_in_query=True)},
    unknown=Route("(unknown)", Use.PLAYER, token_in_query=True),
)


class BodyRefused(Exception):  # noqa: N818  # not an error of ours
    """A body is too large or too slow; the gate answers."""

    def __init__(self, status: int, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.reason = reason


@final
@dataclass(frozen=True, slots=True)
class _No:
    status: int
    sentence: str
    reason: str


def problem(sentence: str) -> bytes:
    """Returns the body of every error."""
    return json.dumps({"error": sentence}).encode()


def caller_of(scope: Scope) -> Caller:
    """Returns who asks, inside the gate.

    Raises:
        KeyError: the route is open to anybody.
    """
    caller: Caller = scope["state"][_STATE]
    return caller


def set_audit_reason(scope: Scope, reason: str) -> None:
    """Gives the audit log a word for why a request was refused."""
    scope["state"]["m2fp_reason"] = reason


@final
class Gate:
    """The middleware.

    Args:
        app: what lies behind.
        access: who may come in.
        routes: what is behind.
        upload_bytes: how large a body of `Use.UPLOAD` may be.
        audit: where requests are noted; None: nowhere.
    """

    def __init__(
        self,
        app: App,
        *,
        access: AccessControl,
        routes: Routes,
        upload_bytes: int = 0,
        audit: Audit | None = None,
    ) -> None:
        self._app = app
        self._access = access
        self._routes = routes
        self._audit = audit
        self._upload_bytes = upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        await _Exchange(self, scope, receive, send).run()

    # What an exchange needs.

    @property
    def access(self) -> AccessControl:
        """Who may come in."""
        return self._access

    @property
    def routes(self) -> Routes:
        """What the paths behind it are."""
        return self._routes

    @property
    def inside(self) -> App:
        """What lies behind."""
        return self._app

    def most_bytes(self, route: Route) -> int:
        """Returns how large a body may be."""
        return self._upload_bytes if route.use is Use.UPLOAD else _SMALL_BODY_BYTES

    @property
    def audit(self) -> Audit | None:
        """Where requests are noted."""
        return self._audit


@final
class _Exchange:
    """One request on its way through the gate."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self._gate = gate
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began_s = time.monotonic()
        self._is_websocket = scope["type"] == "websocket"
        self._route = gate.routes.of(scope["path"])
        client, server = scope.get("client"), scope.get("server")
        self._address = client[0] if client else ""
        self._reached = server[0] if server else ""
        self._status = 0
        self._sent_bytes = 0
        self._got_bytes = 0
        self._body_until_s: float | None = None
        self._broken: BodyRefused | None = None
        self._gone = False
        scope.setdefault("state", {})

    async def run(self) -> None:
        try:
            no = self._refusal()
            if no is not None:
                await self._answer(no.status, no.sentence, no.reason)
            else:
                await self._gate.inside(self._scope, self._limited_receive, self._checked_send)
                if self._broken is not None:
                    raise self._broken  # whoever read the body made something else of it
        except BodyRefused as refused:
            await self._answer(refused.status, refused.sentence, refused.reason)
        except Exception as error:
            if self._gone or (self._status and isinstance(error, OSError)):
                set_audit_reason(
                    self._scope, "gone"
                )  # the client; each library says it in its own way
                return
            _log.error("a request to %s failed (%s)", self._route.template, type(error).__name__)
            await self._answer(500, "the server failed; its log says more", "failed")
        finally:
            if self._gate.audit is not None:
                self._write(self._gate.audit)

    def _write(self, audit: Audit) -> None:
        method = self._scope.get("method", "GET")
        method = "WS" if self._is_websocket else method if method in _METHODS else "other"
        audit.write(
            route=self._route.template,
            method=method,
            status=self._status,
            sent_bytes=self._sent_bytes,
            took_ms=(time.monotonic() - self._began_s) * 1e3,
            loopback=_is_loopback(self._address),
            reason=self._scope["state"].get("m2fp_reason"),
        )

    # --- checks ---

    def _refusal(self) -> _No | None:
        headers = self._headers()
        if headers is None:
            return _No(400, "a header came twice that may come once", "headers")
        if b"content-length" in headers and b"transfer-encoding" in headers:
            return _No(400, "a body has one length", "headers")
        access = self._gate.access
        host, origin = headers.get(b"host"), headers.get(b"origin")
        if host is None or not access.host_is_ours(host, self._reached):
            return _No(421, "this address is not one of the page's names", "host")
        if self._route.template == "/healthz":
            return None
        if origin is not None and not access.origin_is_ours(origin, self._reached):
            return _No(403, "another site may not ask this", "origin")
        site = headers.get(b"sec-fetch-site")
        if site is not None and site not in _NAVIGATION and not self._is_entrance(headers):
            return _No(403, "another site may not ask this", "site")
        return self._unknown(headers) or self._too_much(headers)

    def _is_entrance(self, headers: dict[bytes, str]) -> bool:
        return (
            self._route.use is Use.ENTER
            and self._scope.get("method") == "GET"
            and headers.get(b"sec-fetch-mode", "navigate") == "navigate"
        )

    def _unknown(self, headers: dict[bytes, str]) -> _No | None:
        """Says why the caller may not come in."""
        if self._route.is_open:
            return None
        access = self._gate.access
        kind, _, bearer = headers.get(b"authorization", "").partition(" ")
        given = bearer.strip() if kind.lower() == "bearer" else None
        if given is None and self._route.token_in_query:
            given = _query_token(self._scope["query_string"])
        caller = access.caller(_cookie(headers.get(b"cookie", "")), given, self._address)
        if caller is Refused.BLOCKED:
            return _No(429, "too many wrong keys came from there; wait a minute", "blocked")
        if not isinstance(caller, Caller):
            reason = "token" if caller is Refused.WRONG else "nobody"
            return _No(401, "open the address that m2fp-stream printed when it started", reason)
        is_read_only = not self._is_websocket and self._scope["method"] in ("GET", "HEAD")
        if caller.by == "cookie" and not is_read_only and b"origin" not in headers:
            return _No(403, "a browser has to say which page asks", "origin")
        self._scope["state"][_STATE] = caller
        if not access.may(self._route.use, caller.session):
            return _No(429, "that is too often; wait some seconds", "rate")
        if self._route.use is Use.UPLOAD and access.uploads_blocked(caller.session):
            return _No(429, "too many uploads were no pictures; wait a minute", "uploads")
        return None

    def _too_much(self, headers: dict[bytes, str]) -> _No | None:
        if self._is_websocket:
            return None
        length = headers.get(b"content-length")
        if length is not None and not (length.isascii() and length.isdigit()):
            return _No(400, "Content-Length is no number", "headers")
        if length is not None and (
            len(length) > 15 or int(length) > self._gate.most_bytes(self._route)
        ):
            caller = self._scope["state"].get(_STATE)
            if self._route.use is Use.UPLOAD and caller is not None:
                self._gate.access.bad_upload(caller.session)
            return _No(413, "that is larger than may be sent", "size")
        return None

    def _headers(self) -> dict[bytes, str] | None:
        """Returns the headers; None where one came twice that may not."""
        headers: dict[bytes, str] = {}
        for name, value in self._scope["headers"]:
            if name in _ONCE and name in headers:
                return None
            headers[name] = value.decode("latin-1").strip()
        return headers

    # --- the way in and out ---

    async def _limited_receive(self) -> Message:
        if self._is_websocket or self._status:
            return await self._receive()
        now_s = time.monotonic()
        if self._body_until_s is None:
            self._body_until_s = now_s + _BODY_S
        try:
            async with asyncio.timeout(max(0.0, self._body_until_s - now_s)):
                message = await self._receive()
        except TimeoutError:
            self._broken = BodyRefused(408, "the body did not come in time", "slow")
            raise self._broken from None
        self._gone = message["type"] == "http.disconnect"
        self._got_bytes += len(message.get("body", b""))
        if self._got_bytes > self._gate.most_bytes(self._route):
            self._broken = BodyRefused(413, "that is larger than may be sent", "size")
            raise self._broken
        return message

    async def _checked_send(self, message: Message) -> None:
        if self._broken is None or self._status:
            await self._armed_send(message)

    async def _armed_send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self._status = message["status"]
            ours = {name for name, _ in SECURITY_HEADERS}
            kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in ours]
            message = {**message, "headers": [*kept, *SECURITY_HEADERS]}
        elif kind == "websocket.accept":
            self._status = 101
        elif kind in ("http.response.body", "websocket.http.response.body"):
            self._sent_bytes += len(message.get("body", b""))
        elif kind == "websocket.send":
            data = message.get("bytes") or (message.get("text") or "").encode()
            self._sent_bytes += len(data)
        await self._send(message)

    async def _answer(self, status: int, sentence: str, reason: str) -> None:
        set_audit_reason(self._scope, reason)
        if self._status:
            return  # an answer has begun; the connection ends with it
        prefix = ""
        if self._is_websocket:
            # A browser learns nothing but that it was refused.
            status, prefix = 403, "websocket."
        body = problem(sentence)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if status == 400:
            headers.append((b"connection", b"close"))  # what follows may be part of it
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status == 429:
            headers.append((b"retry-after", b"60" if reason != "rate" else b"1"))
        start = {"type": f"{prefix}http.response.start", "status": status, "headers": headers}
        await self._armed_send(start)
        await self._armed_send({"type": f"{prefix}http.response.body", "body": body})


def _cookie(header: str) -> str | None:
    """Returns the session's cookie; None where there is none, or two."""
    found = [
        value
        for name, _, value in (part.strip().partition("=") for part in header.split(";"))
        if name == COOKIE
    ]
    return found[0] if len(found) == 1 else None


def _query_token(query: bytes) -> str | None:
    """Returns the token in an address; None where there is none, or two."""
    try:
        fields = parse_qs(query.decode("latin-1"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        return None
    found = fields.get("token", [])
    return found[0] if len(found) == 1 else None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
