"""Who may come in: the token, sessions, one-time codes, and the addresses a browser may name.

Nothing here is kept but digests. A session's id is random and signed with a key made from the
token, so that a server that died and was started again with the same token still knows the
browsers on the wall; a new token ends every session. Whoever names the right token or has a session
always passes, whatever others from the same address did.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, final
from urllib.parse import urlsplit

from .limits import Blocks, Buckets, Rate
from .options import PageOptions, address_of

__all__ = ["BAD_UPLOADS", "COOKIE", "RATES", "Caller", "Doors", "Refused", "Use"]

COOKIE: Final = "m2fp_session"

_CODE_S: Final = 60.0
_MOST_CODES: Final = 16
_WRONG_KEYS: Final = 10
BAD_UPLOADS: Final = 5
_ID_BYTES: Final = 32
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")


class Use(enum.Enum):
    """Kinds of requests, each with a rate of its own."""

    PAGE = "page"
    STATUS = "status"
    PRIVACY = "privacy"
    STREAM = "stream"
    UPLOAD = "upload"
    ENTER = "enter"


RATES: Final[Mapping[Use, Rate]] = {
    Use.PAGE: Rate(20, 200),
    Use.STATUS: Rate(10, 40),
    Use.PRIVACY: Rate(5, 20),
    Use.STREAM: Rate(2, 30),
    Use.UPLOAD: Rate(2, 10),
    Use.ENTER: Rate(2, 30),
}
"""A session's (for `Use.ENTER`, all who have a right key): a page loads about eight files, and a
wall asks for the status once a second."""


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
class Doors:
    """Decides who may come in; used by one thread.

    Args:
        token: the secret that opens the page.
        hosts: host names and addresses under which browsers may ask, without port.
        secure: whether the page is served by https.
        rates: how often a session may do what.
        bad_uploads: as many in a minute block a session's uploads for a minute.
        clock_s: seconds that only grow.
    """

    def __init__(
        self,
        token: str,
        *,
        hosts: Iterable[str],
        secure: bool = False,
        rates: Mapping[Use, Rate] = RATES,
        bad_uploads: int = BAD_UPLOADS,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = hashlib.sha256(token.encode()).digest()
        self._key = hmac.digest(token.encode(), b"m2fp_stream page session", "sha256")
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)
        self._secure = secure
        self._clock_s = clock_s
        self._codes: OrderedDict[bytes, float] = OrderedDict()
        self._wrong = Blocks(_WRONG_KEYS)
        self._bad_uploads = Blocks(bad_uploads)
        self._buckets = {use: Buckets(rate) for use, rate in rates.items()}
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
        clock_s: Callable[[], float] = time.monotonic,
    ) -> Doors:
        """Returns the doors that the options describe, but for `token`, which stands for theirs."""
        hosts = {options.host, str(address_of(options.host)), *_LOOPBACK_NAMES, *options.names}
        secure = options.certificate is not None
        return cls(
            token,
            hosts=hosts,
            secure=secure,
            rates=rates,
            bad_uploads=bad_uploads,
            clock_s=clock_s,
        )

    @property
    def secure(self) -> bool:
        """Whether the page is served by https."""
        return self._secure

    # --- keys ---

    def allow_code(self, code: str) -> None:
        """Lets whoever names `code` first within 60 s come in, once."""
        self._codes[_digest(code)] = self._clock_s() + _CODE_S
        while len(self._codes) > _MOST_CODES:
            self._codes.popitem(last=False)

    def enter(self, key: str, address: str) -> str | Refused:
        """Returns a new session's id for the token or a code, or why there is none."""
        if self._is_token(key) or self._take_code(key):
            return self._new_session()
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
        until_s = self._codes.pop(_digest(given), None)
        return until_s is not None and self._clock_s() < until_s

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
        return Caller(_digest(name).hex(), "cookie")

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


def _digest(secret: str) -> bytes:
    # Surrogates stand for bytes that were no UTF-8.
    return hashlib.sha256(secret.encode(errors="replace")).digest()
