"""Addresses of cameras as people write them: passwords encoded or not, and never sent elsewhere.

RFC 3986 wants `@ : / ? # %` of a password percent-encoded. People paste them as they are, and a
reader that goes by the letter then takes a piece of the password for the host, asks the network for
it and prints it. So what can be read in one way only is read so, and anything else is refused in
words that quote nothing.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final, final
from urllib.parse import quote, unquote

from .redact import redact

__all__ = ["Address", "address_of", "looks_like_address", "parse_address"]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PLACE: Final = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.~-]+)?\]|[\w.~-]+)(?::(?P<port>\d+))?"
)
_NUMERIC: Final = re.compile(r"\[.*\]|\d{1,3}(?:\.\d{1,3}){3}|localhost", re.IGNORECASE)
_ESCAPE: Final = re.compile(r"%(?:[0-9A-Fa-f]{2})?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_HOW: Final = (
    "write these characters of user and password as %XX: @ %40, : %3A, / %2F, ? %3F, # %23, % %25"
)


@final
@dataclass(frozen=True, slots=True)
class Address:
    """Where something is on the network, and who asks for it.

    Attributes:
        scheme: in small letters, without `://`.
        host: name or number; IPv6 in brackets.
        port: None where the scheme's own is meant.
        tail: path, query and fragment as given; may be empty.
        user: decoded; None where nobody is named.
        password: decoded; empty where there is none.
    """

    scheme: str
    host: str
    port: int | None
    tail: str
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    @property
    def place(self) -> str:
        """Host and port, as a request names them."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def who(self) -> str:
        """User and password as they stand in a URL, without the @; empty where nobody is named.

        Only what has to be is encoded, for some who read it have little room.
        """
        if self.user is None:
            return ""
        kept = "!$&'()*+,;=~"
        return f"{quote(self.user, safe=kept)}:{quote(self.password, safe=kept + ':')}"

    @property
    def url(self) -> str:
        """The address with user and password, percent-encoded: for a library's ears only."""
        who = f"{self.who}@" if self.user is not None else ""
        return f"{self.scheme}://{who}{self.place}{self.tail}"

    @property
    def shown(self) -> str:
        """The address as it may be shown: without user, password and query."""
        return redact(self.url)


def looks_like_address(text: str) -> bool:
    """Whether `text` names a scheme, `such-as://`."""
    return _SCHEME.match(text) is not None


def parse_address(text: str) -> Address:
    """Returns what `text` means, user and password encoded or not.

    The user ends at the first colon. A password may hold anything but line breaks and the like;
    one whose every % begins an escape (%40) is taken for encoded. Where several @ or a / ? # leave
    more than one host to choose from, nobody is asked.

    Raises:
        ValueError: it is no address, or can be read in several ways; the message says how to write
            it, quotes nothing of it and has no full stop.
    """
    text = text.strip()
    found = _SCHEME.match(text)
    if found is None or _CONTROL.search(text):
        raise ValueError("is no address; write its scheme, ://, the host and the path")
    readings = _readings(text[found.end() :])
    if len(readings) > 1:
        # Nobody is called 10.0.0.7; a path may hold an @.
        who, place, _ = readings[0]
        if who is not None or not _NUMERIC.fullmatch(place["host"]):
            raise ValueError(
                f"can be read in several ways; {_HOW}, and an @ in path or query as %40, too"
            )
        del readings[1:]
    if not readings:
        raise ValueError(
            f"names no host, or a port that is none; write scheme, ://, host and path, and {_HOW}"
        )
    who, place, tail = readings[0]
    if re.search(r"\s", tail):
        raise ValueError("holds spaces; write them as %20")
    port = None if place["port"] is None else int(place["port"])
    user, password = (None, "") if who is None else _user_of(who)
    return Address(found[1].lower(), place["host"], port, tail, user, password)


def _readings(rest: str) -> list[tuple[str | None, re.Match[str], str]]:
    """Returns each way to read `rest`: user and password (None: nobody), host and port, tail."""
    found: list[tuple[str | None, re.Match[str], str]] = []
    for start in [0, *(at.end() for at in re.finditer("@", rest))]:
        split = re.search(r"[/?#]", rest[start:])
        end = len(rest) if split is None else start + split.start()
        place = _PLACE.fullmatch(rest[start:end])
        if place is not None and int(place["port"] or 0) < 1 << 16:
            found.append((rest[: start - 1] if start else None, place, rest[end:]))
    return found


def _user_of(who: str) -> tuple[str, str]:
    escapes = _ESCAPE.findall(who)
    if "%" in escapes and len(set(escapes)) > 1:
        raise ValueError(f"holds a % that begins no %XX beside one that does; {_HOW}")
    user, _, password = who.partition(":")
    if "%" not in escapes:
        user, password = unquote(user), unquote(password)
    if _CONTROL.search(user + password):
        raise ValueError("holds a line break or the like in user or password; check both")
    return user, password


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Returns the address behind an IP address or ``localhost``.

    Raises:
        ValueError: it is neither.
    """
    return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
