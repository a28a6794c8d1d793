"""Who may come in: the token, sessions, one-time codes, and the addresses a browser may name.

Nothing here is kept but digests. A session's id is random and signed with a key made from the
token, so that a server that died and was started again with the same token still knows the
browsers on the wall; a new token ends every session. Whoever names the right token or has a session
always passes, whatever others from the same address did.

A one-time code stands on the browser's command line, where every user of this computer can read it.
So it is taken from a socket of our own user alone. The session that it opens is that of the browser
on the wall, and whether that one still asks for something is how its page's life is known.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import ipaddress
import os
import secrets
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final
from urllib.parse import urlsplit

from ..core.address import address_of
from .limits import Blocks, Buckets, Rate
from .options import PageOptions

__all__ = [
    "BAD_UPLOADS",
    "COOKIE",
    "LOOPBACK_NAMES",
    "RATES",
    "SOCKETS",
    "AccessControl",
    "Caller",
    "Refused",
    "Use",
]

COOKIE: Final = "m2fp_session"

_CODE_S: Final = 60.0
"""How long a one-time code holds: as long as a browser may take to arrive (`kiosk.browser`)."""

_MOST_CODES: Final = 16
"""At a time; the supervisor makes one for each start of the browser. Chosen."""

_WRONG_KEYS: Final = 10
"""In a minute from one address block it for a minute: ten slips of the hand, or 14 400 guesses a
day at a token that is one of 62^16 at least. Chosen."""

BAD_UPLOADS: Final = 5
"""In a minute block a session's uploads for a minute; chosen."""

_ID_BYTES: Final = 32
"""Of a session's name: 256 random bits, as many as its signature has."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
"""Source: RFC 9110, 4.2.1 and 4.2.2."""

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")

_HERE_S: Final = 15.0
"""A page without its stream asks for the status, every ten seconds at least. Chosen: half as long
again."""

SOCKETS: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""The kernel's tables. psutil is no help: it looks for a socket's owner among the open files of
processes, and one that is not dumpable shows them to nobody but root (proc(5))."""

_ESTABLISHED: Final = "01"


class Use(enum.Enum):
    """Kinds of requests, each with a rate of its own."""

    PAGE = "page"
    STATUS = "status"
    PRIVACY = "privacy"
    STREAM = "stream"
    UPLOAD = "upload"
    ENTER = "enter"
    PLAYER = "player"


RATES: Final[Mapping[Use, Rate]] = {
    Use.PAGE: Rate(20, 200),
    Use.STATUS: Rate(10, 40),
    Use.PRIVACY: Rate(5, 20),
    Use.STREAM: Rate(2, 30),
    Use.UPLOAD: Rate(2, 10),
    Use.ENTER: Rate(2, 30),
    Use.PLAYER: Rate(64, 640),
}
"""A session's; for `Use.ENTER`, all who have a right key; for `Use.PLAYER`, all who have the token.
A page loads about ten files, and a wall asks for the status once a second. 16 players ask each
second for the playlist twice and for two segments, at the shortest (RFC 8216, 6.3.4)."""


class Refused(enum.Enum):
    """Why a key was not taken."""

    WRONG = "wrong"
    BLOCKED = "blocked"


@final
@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may come in.

    Attributes:
        session: what the caller is counted under; says nothing about the token.
        by: a browser's cookie, or the token itself.
    """

    session: str
    by: Literal["cookie", "token"]


@final
@dataclass(slots=True, eq=False)
class _Request:
    """One that is being answered: where it comes from, and whose it turned out to be."""

    client: tuple[str, int] | None
    session: str | None = None


_REQUEST: Final[ContextVar[_Request | None]] = ContextVar("m2fp_stream request", default=None)


@final
class AccessControl:
    """Decides who may come in; used by one thread.

    Args:
        token: the secret that opens the page.
        hosts: host names and addresses under which browsers may ask, without port.
        secure: whether the page is served by https.
        rates: how often a session may do what.
        bad_uploads: as many in a minute block a session's uploads for a minute.
        display: the session of the kiosk's own browser, if it has one already; see `display`.
        clock_s: seconds that only grow.
        sockets: the tables of this computer's TCP connections, of which one may be missing.
    """

    def __init__(
        self,
        token: str,
        *,
        hosts: Iterable[str],
        secure: bool = False,
        rates: Mapping[Use, Rate] = RATES,
        bad_uploads: int = BAD_UPLOADS,
        display: str | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        sockets: Sequence[Path] = SOCKETS,
    ) -> None:
        self._sockets = sockets
        self._token = hashlib.sha256(token.encode()).digest()
        self._key = hmac.digest(token.encode(), b"m2fp_stream page session", "sha256")
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)
        self._secure = secure
        self._clock_s = clock_s
        self._codes: OrderedDict[bytes, float] = OrderedDict()
        self._wrong = Blocks(_WRONG_KEYS)
        self._bad_uploads = Blocks(bad_uploads)
        self._buckets = {use: Buckets(rate) for use, rate in rates.items()}
        self._under_way: Counter[str] = Counter()
        self._display = display
        self._display_seen_s = clock_s()
        self.port: int | None = None
        """Where the server listens; until it is known, every Host is refused."""

    @classmethod
    def of(
        cls,
        options: PageOptions,
        token: str,
        *,
        rates: Mapping[Use, Rate] = RATES,
        bad_uploads: int = BAD_UPLOADS,
        display: str | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> AccessControl:
        """Returns what the options describe, but for `token`, which stands for theirs."""
        hosts = {options.host, str(address_of(options.host)), *LOOPBACK_NAMES, *options.names}
        secure = options.certificate is not None
        return cls(
            token,
            hosts=hosts,
            secure=secure,
            rates=rates,
            bad_uploads=bad_uploads,
            display=display,
            clock_s=clock_s,
        )

    @property
    def secure(self) -> bool:
        """Whether the page is served by https."""
        return self._secure

    # --- requests ---

    @contextmanager
    def answering(self, client: tuple[str, int] | None) -> Iterator[None]:
        """Says, for as long as the context lasts, whose request is answered.

        Without it no code is taken, and nobody counts as being here.

        Args:
            client: address and port of the other end; None: not known.
        """
        request = _Request(client)
        reset = _REQUEST.set(request)
        try:
            yield
        finally:
            _REQUEST.reset(reset)
            session = request.session
            if session is not None:
                self._under_way[session] -= 1
                if not self._under_way[session]:
                    del self._under_way[session]
                if session == self._display:
                    self._display_seen_s = self._clock_s()

    @property
    def display(self) -> str | None:
        """What the session that the last code opened is counted under; None: it did not yet."""
        return self._display

    @property
    def display_is_active(self) -> bool:
        """Whether that session has a request or a stream under way, or had one of late."""
        if self._display is None:
            return False
        return (
            self._under_way[self._display] > 0 or self._clock_s() - self._display_seen_s < _HERE_S
        )

    def _count_request(self, caller: Caller) -> None:
        request = _REQUEST.get()
        if request is not None and request.session is None:
            request.session = caller.session
            self._under_way[caller.session] += 1

    # --- keys ---

    def allow_code(self, code: str) -> None:
        """Lets our own user's process that names `code` first within 60 s come in, once."""
        self._codes[_digest(code)] = self._clock_s() + _CODE_S
        while len(self._codes) > _MOST_CODES:
            self._codes.popitem(last=False)
        self._display = None

    def enter(self, key: str, address: str) -> str | Refused:
        """Returns a new session's id for the token or a code, or why there is none.

        A code that another user names is refused like a wrong one, and stays good.
        """
        if self._is_token(key):
            return self._new_session()
        if self._take_code(key):
            session = self._new_session()
            self._display, self._display_seen_s = _counted_as(session), self._clock_s()
            return session
        return self._count_wrong(address)

    def caller(
        self, cookie: str | None, bearer: str | None, address: str
    ) -> Caller | Refused | None:
        """Returns who asks; None where nobody is named, or an unknown session.

        A token is looked at first, and a wrong one is counted even beside a good cookie.
        """
        if bearer is not None:
            if self._is_token(bearer):
                return Caller("token", "token")
            refused = self._count_wrong(address)
            known = None if cookie is None else self._session(cookie)
            return refused if known is None else known
        return None if cookie is None else self._session(cookie)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(_digest(given), self._token)

    def _take_code(self, given: str) -> bool:
        digest, request = _digest(given), _REQUEST.get()
        until_s = self._codes.get(digest)
        if until_s is None or self._clock_s() >= until_s:
            return False
        if request is None or request.client is None or self.port is None:
            return False
        if not _is_our_users(self._sockets, *request.client, to_port=self.port):
            return False
        del self._codes[digest]
        return True

    def _count_wrong(self, address: str) -> Refused:
        now_s = self._clock_s()
        if self._wrong.blocked(address, now_s):
            return Refused.BLOCKED
        self._wrong.strike(address, now_s)
        return Refused.WRONG

    def _new_session(self) -> str:
        name = secrets.token_hex(_ID_BYTES)
        return f"{name}.{self._signature(name)}"

    def _session(self, cookie: str) -> Caller | None:
        name, _, signature = cookie.partition(".")
        given = signature.encode(errors="replace")
        if not hmac.compare_digest(given, self._signature(name).encode()):
            return None
        caller = Caller(_counted_as(cookie), "cookie")
        self._count_request(caller)
        return caller

    def _signature(self, name: str) -> str:
        return hmac.digest(self._key, name.encode(errors="replace"), "sha256").hex()

    # --- rates ---

    def may(self, use: Use, session: str) -> bool:
        """Says whether a session may do this once more, and counts it if so."""
        return self._buckets[use].take(session, self._clock_s())

    def bad_upload(self, session: str) -> None:
        """Counts an upload that was no picture."""
        self._bad_uploads.strike(session, self._clock_s())

    def uploads_blocked(self, session: str) -> bool:
        """Says whether a session has sent too many bad uploads of late."""
        return self._bad_uploads.blocked(session, self._clock_s())

    # --- addresses ---

    def host_is_ours(self, host: str, reached: str) -> bool:
        """Says whether a Host header names this server.

        Args:
            host: the header.
            reached: the address of this computer at which the connection came in.
        """
        scheme = "https" if self._secure else "http"
        return self._is_ours(f"//{host}", reached, scheme)

    def origin_is_ours(self, origin: str, reached: str) -> bool:
        """Says whether an Origin header names this server; see `host_is_ours`."""
        scheme = "https" if self._secure else "http"
        return origin.startswith(f"{scheme}://") and self._is_ours(origin, reached, scheme)

    def _is_ours(self, url: str, reached: str, scheme: str) -> bool:
        authority = url.partition("//")[2]
        if self.port is None or any(c in authority for c in "/\\?#@%, \t"):
            return False
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            return False
        if host is None or authority.endswith(":"):
            return False
        port = _DEFAULT_PORTS[scheme] if port is None else port
        return port == self.port and (host in self._hosts or host == reached)


def _counted_as(session: str) -> str:
    return _digest(session.partition(".")[0]).hex()


def _is_our_users(tables: Iterable[Path], address: str, port: int, *, to_port: int) -> bool:
    """Says whether the other end of a connection is a socket of this computer and of our user.

    What cannot be read, or is not found, is not ours.
    Source: Linux kernel documentation, networking/proc_net_tcp; tcp_states.h for the state.

    Args:
        tables: see `SOCKETS`.
        address: of the other end.
        port: of the other end.
        to_port: of our end.
    """
    found: set[tuple[str, str]] = set()
    try:
        wanted = _plain(ipaddress.ip_address(address))
        for table in tables:
            if not table.exists():
                continue  # IPv6 may be switched off
            for line in table.read_text("ascii").splitlines()[1:]:
                _, local, remote, state, _, _, _, uid, *_ = line.split()
                if (
                    local.endswith(f":{port:04X}")
                    and remote.endswith(f":{to_port:04X}")
                    and _address(local.partition(":")[0]) == wanted
                ):
                    found.add((state, uid))
    except (OSError, ValueError):
        return False
    return found == {(_ESTABLISHED, str(os.geteuid()))}


def _address(words: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Returns an address that is written as words of 32 bits, each in this machine's byte order."""
    parts = (words[at : at + 8] for at in range(0, len(words), 8))
    data = b"".join(int(part, 16).to_bytes(4, sys.byteorder) for part in parts)
    return _plain(ipaddress.ip_address(data))


def _plain(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Returns the IPv4 address behind a mapped one."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def _digest(secret: str) -> bytes:
    # Surrogates stand for bytes that were no UTF-8.
    return hashlib.sha256(secret.encode(errors="replace")).digest()
