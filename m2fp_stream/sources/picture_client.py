"""Asks an HTTP server for one picture, again and again, and logs in where it wants that."""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import re
import secrets
import ssl
import time
from email.message import Message
from typing import Final, NamedTuple, final
from urllib.parse import quote

from ..core.address import Address
from ..core.errors import SourceError
from .opener import trusted_certificates
from .options import StreamOptions

__all__ = ["MOST_BYTES", "NoPictureError", "PictureClient"]

MOST_BYTES: Final = 32 << 20
"""Of one picture. A JPEG of 64 million pixels at quality 90 takes some 20 MB. Chosen above that."""

_CHALLENGE: Final = re.compile(
    r"(?P<scheme>\b(?:Basic|Digest)\b)(?=\s+[\w-]+=)"
    r'|(?P<name>[\w-]+)=(?:"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<plain>[^\s,"]+))',
    re.IGNORECASE,
)
"""Source: RFC 9110, 11.6.1."""

_HASHES: Final = {"SHA-256": "sha256", "MD5": "md5"}
"""Algorithms of RFC 7616, the strongest first."""


class NoPictureError(Exception):
    """There is no picture this time; says why, in words for the user."""


class _Challenge(NamedTuple):
    scheme: str
    values: dict[str, str]


@final
class PictureClient:
    """Asks one server for one path, over one connection while the server keeps it.

    Args:
        address: the server's; with user and password if need be.
        options: whom to trust.
        strong_only: log in only where the server wants what FFmpeg cannot do.
        most_bytes: of one picture.
    """

    def __init__(
        self,
        address: Address,
        options: StreamOptions,
        *,
        strong_only: bool,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._address, self._strong_only = address, strong_only
        path = address.tail.partition("#")[0]
        path = path if path.startswith("/") else f"/{path}"
        self._path = quote(path, safe="".join(map(chr, range(0x21, 0x7F))))
        self._most_bytes = most_bytes
        host = address.host.removeprefix("[").removesuffix("]")
        self._connection: http.client.HTTPConnection
        if address.scheme == "https":
            trusted = trusted_certificates(options)
            try:
                context = ssl.create_default_context(cafile=trusted)
            except OSError:
                raise SourceError(
                    f"{trusted}: holds no certificates that can be read; check stream.ca_file"
                ) from None
            if not options.verify_tls:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._connection = http.client.HTTPSConnection(host, address.port, context=context)
        else:
            self._connection = http.client.HTTPConnection(host, address.port)
        self._conditions: dict[str, str] = {}
        self._challenge: _Challenge | None = None
        self._count = itertools.count(1)
        self.problem = ""
        """Why there was no picture the last time."""

    def close(self) -> None:
        """Lets go of the connection."""
        self._connection.close()

    def forget(self) -> None:
        """The last picture was none: the next one is asked for whatever the server thinks."""
        self._conditions = {}

    def no_picture(self, problem: str) -> NoPictureError:
        """Notes why."""
        self.problem = problem
        return NoPictureError(problem)

    def ask(self, limit_s: float, *, conditional: bool) -> bytearray | None:
        """Returns what the server gives; None where it is what it gave before.

        Raises:
            NoPictureError: it gives no picture, or not within `limit_s`.
        """
        end_s = time.monotonic() + limit_s
        problem = ""
        try:
            return self._ask(end_s, conditional=conditional)
        except NoPictureError:
            raise
        except TimeoutError:
            problem = (
                f"no answer within {limit_s:g} s; "
                "check address and network, and that it is switched on"
            )
        except ConnectionRefusedError:
            problem = "connection refused, nothing listens there; check address and port"
        except ssl.SSLCertVerificationError:
            problem = "its certificate is not trusted; if it is its own, name it (stream.ca_file)"
        except (OSError, http.client.HTTPException, ValueError):
            problem = "no connection: the host is unknown or it hung up; check the address"
        self._connection.close()
        raise self.no_picture(problem)

    def _ask(self, end_s: float, *, conditional: bool) -> bytearray | None:
        response = self._request(end_s, conditional=conditional)
        if response.status == 401:
            self._drop(response)
            self._challenge = self._chosen(response.headers)
            if self._challenge is not None:
                self._count = itertools.count(1)
                response = self._request(end_s, conditional=conditional)
        if response.status == 304 and conditional:
            self._drop(response)
            return None
        kind = response.headers.get_content_type()
        problem = ""
        if response.status in (401, 403):
            self._challenge = None
            problem = (
                "user or password are missing or not accepted; check both, and write special "
                "characters of them as %XX (% itself as %25)"
            )
        elif response.status == 404:
            problem = "the server knows no such path; check it"
        elif 300 <= response.status < 400:
            problem = "redirects, which is not followed; give the address that it leads to"
        elif response.status != 200:
            problem = f"the server answers {response.status}; look at the camera's own page"
        elif response.headers.get_content_maintype() != "image":
            problem = f"what it sends ({kind}) is no picture; check the path"
        if problem:
            self._connection.close()
            raise self.no_picture(problem)
        return self._body(response, end_s)

    def _request(self, end_s: float, *, conditional: bool) -> http.client.HTTPResponse:
        headers: dict[str, str | bytes] = {"Accept": "image/*", "Cache-Control": "no-cache"}
        if conditional:
            headers |= self._conditions
        if self._challenge is not None:
            headers["Authorization"] = self._authorization(self._challenge)
        kept = self._connection.sock is not None
        try:
            return self._send(headers, end_s)
        except (ConnectionError, http.client.BadStatusLine):
            if not kept:
                raise
        # The server has closed the connection that it kept: once more, over a new one.
        self._connection.close()
        return self._send(headers, end_s)

    def _send(self, headers: dict[str, str | bytes], end_s: float) -> http.client.HTTPResponse:
        self._limit(end_s)
        self._connection.request("GET", self._path, headers=headers)
        self._limit(end_s)
        return self._connection.getresponse()

    def _limit(self, end_s: float) -> None:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.timeout = left_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(left_s)

    def _drop(self, response: http.client.HTTPResponse) -> None:
        """Leaves out a body, so that the connection can be used again; a long one ends it."""
        if response.length is None or response.length > 65536 or response.will_close:
            self._connection.close()
        else:
            response.read()

    def _body(self, response: http.client.HTTPResponse, end_s: float) -> bytearray:
        """Returns the picture, and notes how to ask for the next one."""
        headers, data = response.headers, bytearray()
        while True:
            self._limit(end_s)
            piece = response.read1(1 << 16)
            data += piece
            if len(data) > self._most_bytes:
                self._connection.close()
                raise self.no_picture(
                    f"its picture is larger than {self._most_bytes >> 20} MB; have it send less"
                )
            if not piece:
                break
        response.close()  # read1() does not notice that the body ended (Python 3.11)
        if response.length:  # nor that it is short
            self._connection.close()
            raise self.no_picture("its pictures arrive cut short; check camera and network")
        if response.will_close:
            self._connection.close()
        asked = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}
        self._conditions = {
            condition: headers[name] for condition, name in asked.items() if headers[name]
        }
        return data

    # ------------------------------------------------------------- passwords (RFC 7616, RFC 7617)

    def _chosen(self, headers: Message) -> _Challenge | None:
        """Returns what to answer to; None where nobody was named or nothing is understood."""
        if self._address.user is None:
            return None
        offered: list[_Challenge] = []
        for line in headers.get_all("WWW-Authenticate", []):
            for part in _CHALLENGE.finditer(line):
                if part["scheme"]:
                    offered.append(_Challenge(part["scheme"].lower(), {}))
                elif offered:
                    quoted = part["quoted"]
                    value = part["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                    offered[-1].values[part["name"].lower()] = value
        digests = [one for one in offered if one.scheme == "digest"]
        for algorithm in _HASHES:
            for one in digests:
                if one.values.get("algorithm", "MD5").upper().removesuffix("-SESS") == algorithm:
                    if self._strong_only and algorithm == "MD5":
                        return None
                    return one
        if self._strong_only:
            return None
        return next((one for one in offered if one.scheme == "basic"), None)

    def _authorization(self, challenge: _Challenge) -> bytes:
        user, password = self._address.user or "", self._address.password
        if challenge.scheme == "basic":
            return b"Basic " + base64.b64encode(f"{user}:{password}".encode())
        values = challenge.values
        algorithm = values.get("algorithm", "MD5")
        name = _HASHES[algorithm.upper().removesuffix("-SESS")]

        def hashed(*words: str) -> str:
            return hashlib.new(name, ":".join(words).encode(), usedforsecurity=False).hexdigest()

        realm, nonce = values.get("realm", ""), values.get("nonce", "")
        count, once = f"{next(self._count):08x}", secrets.token_hex(8)
        who = hashed(user, realm, password)
        if algorithm.upper().endswith("-SESS"):
            who = hashed(who, nonce, once)
        what = hashed("GET", self._path)
        said = {"username": user, "realm": realm, "nonce": nonce, "uri": self._path}
        plain = {"algorithm": algorithm} if "algorithm" in values else {}
        if "qop" in values:
            said["response"] = hashed(who, nonce, count, once, "auth", what)
            said["cnonce"] = once
            plain |= {"qop": "auth", "nc": count}
        else:
            said["response"] = hashed(who, nonce, what)  # RFC 2069
        if "opaque" in values:
            said["opaque"] = values["opaque"]
        words = [f'{key}="{_escaped(value)}"' for key, value in said.items()]
        return f"Digest {', '.join([*words, *(f'{k}={v}' for k, v in plain.items())])}".encode()


def _escaped(text: str) -> str:
    return re.sub(r'(["\\])', r"\\\1", text)
