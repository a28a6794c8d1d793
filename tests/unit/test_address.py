"""Passwords as people paste them: they reach the camera, or one line says how to write them."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from m2fp_stream.core.address import Address, looks_like_address, parse_address

SPECIAL = "@#:/?% &+!$'\"\\[]{}|^`~.-_"
PASSWORDS = st.text(f"abcXYZ0129{SPECIAL}äß漢", min_size=1, max_size=16)
USERS = st.text("abcXYZ019@/?#% .-_", min_size=1, max_size=8)
TAILS = st.sampled_from(["", "/", "/live", "/a/b?channel=1&x=y", "/x;y=z/trackID=1"])


@given(user=USERS, password=PASSWORDS, tail=TAILS)
def test_an_encoded_password_is_understood_and_handed_on_encoded(
    user: str, password: str, tail: str
) -> None:
    who = f"{quote(user, safe='')}:{quote(password, safe='')}"
    address = parse_address(f"rtsp://{who}@camera.lan:554{tail}")
    assert (address.user, address.password) == (user, password)
    assert (address.host, address.port, address.tail) == ("camera.lan", 554, tail)
    # Whoever goes by the letter reads the same.
    strict = urlsplit(address.url)
    assert strict.hostname == "camera.lan"
    assert unquote(strict.username or "") == user
    assert unquote(strict.password or "") == password
    assert parse_address(address.url) == address


@given(password=PASSWORDS, tail=TAILS)
@example(password="p@ss", tail="/live")
@example(password="pa/ss#wo?rd", tail="/live")
@example(password="pa:ss%", tail="/live")
@example(password="pa ss", tail="/live")
def test_a_raw_password_is_understood_or_refused_and_never_goes_to_another_host(
    password: str, tail: str
) -> None:
    assume(unquote(password, errors="ignore") == password)  # else it is taken for encoded
    said = ""
    try:
        address = parse_address(f"http://viewer:{password}@camera.lan{tail}")
    except ValueError as refused:
        said = str(refused)
    if said:
        assert "%40" in said
        assert "\n" not in said
    else:
        assert (address.user, address.password) == ("viewer", password)
        assert (address.host, address.tail) == ("camera.lan", tail)
        strict = urlsplit(address.url)
        assert strict.hostname == "camera.lan"
        assert unquote(strict.password or "") == password


@pytest.mark.parametrize(
    "password", ["p@ss", "p#ss", "p:ss", "p/ss", "p?ss", "p%ss", "p ss", "p@s:s@", "50%off", "&=+;"]
)
def test_the_usual_special_characters_work_as_they_are(password: str) -> None:
    assert parse_address(f"rtsp://me:{password}@10.0.0.7/live").password == password


@given(before=PASSWORDS, after=PASSWORDS)
def test_no_piece_of_a_password_is_in_what_is_said(before: str, after: str) -> None:
    url = f"rtsp://viewer:{before}Zq9xKw7{after}@camera.lan/live"
    try:
        address = parse_address(url)
    except ValueError as refused:
        said = str(refused)
    else:
        said = f"{address!r} {address} {address.shown}"
    assert not any(piece in said for piece in ("Zq", "9x", "Kw", "viewer"))


@pytest.mark.parametrize(
    ("url", "host", "port", "tail"),
    [
        ("rtsp://camera", "camera", None, ""),
        (" RTSP://camera/live\n", "camera", None, "/live"),
        ("http://[fe80::1%eth0]:8080/a", "[fe80::1%eth0]", 8080, "/a"),
        ("http://10.0.0.7/a@b?mail=c@d", "10.0.0.7", None, "/a@b?mail=c@d"),
        ("rtsp://localhost:8554/a@b", "localhost", 8554, "/a@b"),
        ("http://camera?x=1", "camera", None, "?x=1"),
    ],
)
def test_addresses_without_a_password_are_left_as_they_are(
    url: str, host: str, port: int | None, tail: str
) -> None:
    address = parse_address(url)
    assert address == Address(url.strip()[:4].lower(), host, port, tail)
    assert address.url.lower() == url.strip().lower()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("viewer:hush@camera/live", "is no address; write its scheme"),
        ("rtsp:/viewer:hush@camera/live", "is no address"),
        ("rtsp://viewer:hush", "names no host"),
        ("rtsp://viewer:hu/sh", "names no host"),
        ("rtsp://viewer:12/hush@camera/live", "several ways.*@ %40"),
        ("rtsp://viewer:h@ush/x@camera/live", "several ways.*@ %40"),
        ("http://viewer:hush@camera/x?mail=a@b", "several ways.*path or query"),
        ("rtsp://viewer:hush%zz%40@camera/live", "begins no %XX"),
        ("rtsp://viewer:hush%0a@camera/live", "line break"),
        ("rtsp://viewer:hu\nsh@camera/live", "is no address"),
        ("rtsp://camera/a b", "spaces"),
        ("rtsp://camera:99999/", "names no host"),
    ],
)
def test_what_is_not_clear_is_refused_in_one_line_that_says_how_to_write_it(
    url: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        parse_address(url)
    assert "hush" not in str(refused.value)
    assert "viewer" not in str(refused.value)


def test_an_address_is_told_from_a_file() -> None:
    assert looks_like_address("rtsp://camera")
    assert not looks_like_address("viewer:hush@camera/live")
    assert not looks_like_address("film.mp4")
