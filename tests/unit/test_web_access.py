"""Who may come in: keys, sessions, rates and the names a browser may use."""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2fp_stream.web.access import RATES, AccessControl, Caller, Refused, Use
from m2fp_stream.web.limits import Blocks, Buckets, Rate, resident_bytes
from m2fp_stream.web.options import PageOptions

TOKEN = "t0ken-for_tests.~0123456789"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def access(clock: Clock) -> AccessControl:
    made = AccessControl.of(PageOptions(names=("mirror.local",)), TOKEN, clock_s=clock)
    made.port = 8765
    return made


class Lines:
    """Real connections to the access' port, of this process, as their server would see them."""

    def __init__(self, access: AccessControl, stack: ExitStack) -> None:
        self._access, self._stack = access, stack

    def listen(self, host: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = self._stack.enter_context(socket.create_server((host, 0), family=family))
        self._access.port = listener.getsockname()[1]
        return listener

    def call(self, listener: socket.socket, to: str = "") -> tuple[socket.socket, tuple[str, int]]:
        """Returns a client, and its address as the listener's side sees it."""
        host, port = listener.getsockname()[:2]
        family = socket.AF_INET6 if ":" in (to or host) else socket.AF_INET
        client = self._stack.enter_context(socket.socket(family))
        client.connect((to or host, port))
        line, address = listener.accept()
        self._stack.enter_context(line)
        return client, address[:2]

    def client(self, host: str = "127.0.0.1", to: str = "") -> tuple[str, int]:
        return self.call(self.listen(host), to)[1]


@pytest.fixture
def lines(access: AccessControl) -> Iterator[Lines]:
    with ExitStack() as stack:
        yield Lines(access, stack)


def enter(access: AccessControl, key: str, client: tuple[str, int] | None) -> str | Refused:
    with access.answering(client):
        return access.enter(key, "" if client is None else client[0])


def session_of(access: AccessControl) -> str:
    session = access.enter(TOKEN, "127.0.0.1")
    assert isinstance(session, str)
    return session


# ----------------------------------------------------------------- keys


def test_the_token_opens_a_session_that_does_not_hold_it(access: AccessControl) -> None:
    session = session_of(access)
    assert TOKEN not in session
    assert session != session_of(access)
    caller = access.caller(session, None, "127.0.0.1")
    assert isinstance(caller, Caller)
    assert caller.by == "cookie"
    assert session.partition(".")[0] not in caller.session


@pytest.mark.parametrize("key", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\udcff", "é"])
def test_another_key_opens_nothing(access: AccessControl, key: str) -> None:
    assert access.enter(key, "127.0.0.1") is Refused.WRONG
    assert access.caller(None, key, "127.0.0.1") is not None
    assert not isinstance(access.caller(None, key, "127.0.0.1"), Caller)


@given(st.text())
def test_no_made_up_cookie_is_a_session(cookie: str) -> None:
    assert AccessControl(TOKEN, hosts=["localhost"]).caller(cookie, None, "") is None


def test_a_changed_session_is_none(access: AccessControl) -> None:
    session = session_of(access)
    name, _, signature = session.partition(".")
    other = "1" if name[0] == "0" else "0"
    for changed in (
        other + session[1:],
        name,
        f"{name}.",
        f"{name}.{signature[:-1]}",
        f".{signature}",
    ):
        assert access.caller(changed, None, "127.0.0.1") is None


def test_a_server_started_anew_with_the_token_knows_the_session(access: AccessControl) -> None:
    session = session_of(access)
    again = AccessControl(TOKEN, hosts=["localhost"])
    assert isinstance(again.caller(session, None, "127.0.0.1"), Caller)
    other = AccessControl("another-token-0123456789", hosts=["localhost"])
    assert other.caller(session, None, "127.0.0.1") is None


def test_a_code_works_once_and_for_a_minute(
    access: AccessControl, clock: Clock, lines: Lines
) -> None:
    client = lines.client()
    access.allow_code("code-one")
    assert isinstance(enter(access, "code-one", client), str)
    assert enter(access, "code-one", client) is Refused.WRONG
    access.allow_code("code-two")
    clock.now_s += 59
    assert isinstance(enter(access, "code-two", client), str)
    access.allow_code("code-three")
    clock.now_s += 61
    assert enter(access, "code-three", client) is Refused.WRONG


@pytest.mark.parametrize(
    ("host", "to"), [("127.0.0.1", ""), ("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "")]
)
def test_a_code_is_taken_from_our_own_users_socket(
    access: AccessControl, lines: Lines, host: str, to: str
) -> None:
    try:
        client = lines.client(host, to)
    except OSError:
        pytest.skip("no IPv6 here")
    access.allow_code("code")
    assert isinstance(enter(access, "code", client), str)


def test_a_code_is_taken_from_nobody_else(
    access: AccessControl, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = lines.listen("127.0.0.1")
    client, address = lines.call(listener)
    access.allow_code("code")
    uid = os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: uid + 1)
        assert enter(access, "code", address) is Refused.WRONG
    blind = AccessControl(TOKEN, hosts=["127.0.0.1"], sockets=())
    blind.port = access.port
    blind.allow_code("code")
    assert enter(blind, "code", address) is Refused.WRONG
    for other in (None, ("192.0.2.7", address[1]), ("127.0.0.2", address[1]), ("", 0)):
        assert enter(access, "code", other) is Refused.WRONG
    assert access.enter("code", "127.0.0.1") is Refused.WRONG, "not within a request"
    # The right socket, but its line leads to another server.
    port, access.port = access.port, 1
    assert enter(access, "code", address) is Refused.WRONG
    access.port = port
    # Whoever has gone cannot be asked who he was.
    _, gone = lines.call(listener)
    client.shutdown(socket.SHUT_WR)
    assert enter(access, "code", address) is Refused.WRONG
    # None of these has used it up.
    assert isinstance(enter(access, "code", gone), str)


def test_a_code_is_not_taken_from_another_users_socket(access: AccessControl, lines: Lines) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a socket of another user")
    listener = lines.listen("127.0.0.1")
    access.allow_code("code")
    os.seteuid(65534)
    try:
        _, address = lines.call(listener)
    finally:
        os.seteuid(0)
    assert enter(access, "code", address) is Refused.WRONG
    assert isinstance(enter(access, "code", lines.call(listener)[1]), str)


def is_here(access: AccessControl) -> bool:
    return access.display is not None and access.display_is_active


def test_the_browser_on_the_wall_is_here_while_it_asks(
    access: AccessControl, clock: Clock, lines: Lines
) -> None:
    client = lines.client()
    session_of(access)
    assert (access.display, is_here(access)) == (None, False), "that was the token"
    access.allow_code("code")
    session = enter(access, "code", client)
    assert isinstance(session, str)
    assert access.display is not None
    assert access.display not in session
    assert is_here(access)
    clock.now_s += 16
    assert not is_here(access)
    other = session_of(access)
    with access.answering(client):  # somebody else's stream
        assert isinstance(access.caller(other, None, "127.0.0.1"), Caller)
        assert not is_here(access)
    with access.answering(client):
        access.caller(session, None, "127.0.0.1")
        clock.now_s += 1000
        assert is_here(access), "its stream stands"
        with access.answering(client):
            access.caller(session, None, "127.0.0.1")
        clock.now_s += 1000
        assert is_here(access)
    clock.now_s += 14
    assert is_here(access)
    clock.now_s += 2
    assert not is_here(access)
    assert not access._under_way

    # A server started anew is told, and does not know whom it has only heard of.
    again = AccessControl(TOKEN, hosts=["localhost"], display=access.display, clock_s=clock)
    with again.answering(client):
        again.caller(session, None, "127.0.0.1")
    assert is_here(again)
    clock.now_s += 16
    assert not is_here(again)
    # The next browser has to come in by itself.
    with access.answering(client):
        access.caller(session, None, "127.0.0.1")
        access.allow_code("next")
        assert not is_here(access)
        assert not access.display_is_active


def test_wrong_keys_block_wrong_keys_only(access: AccessControl, clock: Clock) -> None:
    session = session_of(access)
    for number in range(10):
        assert access.enter(f"wrong-{number}", "127.0.0.1") is Refused.WRONG
    assert access.enter("wrong", "127.0.0.1") is Refused.BLOCKED
    assert access.caller(None, "wrong", "127.0.0.1") is Refused.BLOCKED
    assert access.enter("wrong", "192.0.2.1") is Refused.WRONG  # somebody else's block
    assert isinstance(access.enter(TOKEN, "127.0.0.1"), str)
    assert isinstance(access.caller(session, None, "127.0.0.1"), Caller)
    assert isinstance(access.caller(None, TOKEN, "127.0.0.1"), Caller)
    assert isinstance(access.caller(session, "wrong", "127.0.0.1"), Caller)
    clock.now_s += 61
    assert access.enter("wrong", "127.0.0.1") is Refused.WRONG


def test_an_old_cookie_is_no_wrong_key(access: AccessControl) -> None:
    for _ in range(50):
        assert access.caller("an-old-one.0", None, "127.0.0.1") is None
    assert access.enter("wrong", "127.0.0.1") is Refused.WRONG


# ----------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8765", "localhost:8765", "LOCALHOST:8765", "[::1]:8765", "mirror.local:8765"],
)
def test_names_of_this_server_are_ours(access: AccessControl, host: str) -> None:
    assert access.host_is_ours(host, "127.0.0.1")
    assert access.origin_is_ours(f"http://{host}", "127.0.0.1")


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example:8765",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.0.0.1:8766",
            "127.0.0.1:",
            ":8765",
        ),
        *("127.0.0.1:8765@evil.example", "evil.example#127.0.0.1:8765", "127.0.0.1.nip.io:8765"),
        *("localhost.:8765", "127.0.0.1:8765/", "127.0.0.1:8765, evil.example", "127.1:8765", ""),
        *("[::1", "127.0.0.1:x", "127.0.0.1:8765 evil", "a@127.0.0.1:8765", "[::1%25lo]:8765"),
        *("0x7f.1:8765", "127.0.0.1\\.evil.example:8765", "mirror.local.evil.example:8765"),
    ],
)
def test_other_names_are_not(access: AccessControl, host: str) -> None:
    assert not access.host_is_ours(host, "127.0.0.1")
    assert not access.origin_is_ours(f"http://{host}", "127.0.0.1")


@pytest.mark.parametrize(
    "origin", ["null", "https://127.0.0.1:8765", "file://", "", "127.0.0.1:8765"]
)
def test_other_origins_are_not(access: AccessControl, origin: str) -> None:
    assert not access.origin_is_ours(origin, "127.0.0.1")


def test_the_port_may_be_left_out_where_it_is_the_schemes() -> None:
    plain = AccessControl(TOKEN, hosts=["localhost"])
    assert not plain.host_is_ours("localhost", "")  # not listening yet
    plain.port = 80
    assert plain.host_is_ours("localhost", "")
    safe = AccessControl(TOKEN, hosts=["localhost"], secure=True)
    safe.port = 443
    assert safe.host_is_ours("localhost", "")
    assert safe.origin_is_ours("https://localhost", "")
    assert not safe.origin_is_ours("http://localhost", "")


def test_the_address_that_was_reached_is_ours(access: AccessControl) -> None:
    assert access.host_is_ours("192.0.2.7:8765", "192.0.2.7")
    assert not access.host_is_ours("192.0.2.7:8765", "127.0.0.1")


# ----------------------------------------------------------------- rates


def test_each_session_has_its_own_rate(clock: Clock) -> None:
    access = AccessControl(TOKEN, hosts=[], rates={**RATES, Use.PRIVACY: Rate(1, 2)}, clock_s=clock)
    assert [access.may(Use.PRIVACY, "a") for _ in range(3)] == [True, True, False]
    assert access.may(Use.PRIVACY, "b")
    assert access.may(Use.STATUS, "a")
    clock.now_s += 1
    assert [access.may(Use.PRIVACY, "a") for _ in range(2)] == [True, False]


def test_uploads_are_blocked_for_one_session_for_a_minute(
    access: AccessControl, clock: Clock
) -> None:
    for _ in range(4):
        access.bad_upload("a")
    assert not access.uploads_blocked("a")
    access.bad_upload("a")
    assert access.uploads_blocked("a")
    assert not access.uploads_blocked("b")
    clock.now_s += 61
    assert not access.uploads_blocked("a")


def test_failures_far_apart_do_not_block() -> None:
    blocks = Blocks(3)
    for now_s in (0.0, 40.0, 80.0, 120.0):
        blocks.strike("a", now_s)
    assert not blocks.blocked("a", 120.0)


def test_what_is_remembered_is_bounded() -> None:
    buckets, blocks = Buckets(Rate(0, 1), most=10), Blocks(1, most=10)
    for number in range(1000):
        buckets.take(number, 0.0)
        blocks.strike(number, 0.0)
    assert len(buckets._left) <= 10
    assert len(blocks._until_s) + len(blocks._failed) <= 20
    assert not buckets.take(999, 0.0)  # the newest is remembered
    assert blocks.blocked(999, 0.0)


def test_the_memory_of_this_process_is_known() -> None:
    before = resident_bytes()
    assert before > 1 << 20
    # Fresh pages: what earlier tests let go of may still lie in this process's heap.
    with mmap.mmap(-1, 64 << 20) as held:
        for page in range(0, 64 << 20, mmap.PAGESIZE):
            held[page] = 1
        assert resident_bytes() > before + (32 << 20)
