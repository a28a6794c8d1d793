"""The page's server: what each route answers, over real connections."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import itertools
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from m2fp_stream.core.errors import ConfigError, SinkError, UsageError
from m2fp_stream.sinks import page_link
from m2fp_stream.sinks.page_link import PageMemory
from m2fp_stream.web.access import COOKIE, RATES, AccessControl, Use
from m2fp_stream.web.app import make_app
from m2fp_stream.web.frames import HEADER, STILL_CARD
from m2fp_stream.web.gate import SECURITY_HEADERS
from m2fp_stream.web.hub import Hub
from m2fp_stream.web.limits import Rate
from m2fp_stream.web.options import KioskOptions, PageOptions
from m2fp_stream.web.server import _turn_away, listen, tls_context
from m2fp_stream.web.stills import BadUpload, Busy, CoveredStill, ParsedStill
from tests.kit.wait import PATIENCE_S, wait_until
from tests.kit.web import NO_LIMITS, TOKEN, Feeder, PageServer, certificate, jpeg

GREY = jpeg(90)


@pytest.fixture(scope="module")
def shared() -> Iterator[PageServer]:
    """For tests that leave nothing behind."""
    with PageServer(rates=NO_LIMITS) as server:
        yield server


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer() as made:
        yield made


_OPEN = ExitStack()


@pytest.fixture(autouse=True)
def _close_browsers() -> Iterator[None]:
    with _OPEN:
        yield


def ask(method: str, url: str, **arguments: Any) -> httpx.Response:
    """Asks once, as somebody new; without `verify` it would read every known certificate."""
    return httpx.request(method, url, timeout=PATIENCE_S, verify=False, **arguments)


def get(server: PageServer, path: str, **headers: str) -> httpx.Response:
    return ask("GET", server.url + path, headers={**server.bearer, **headers})


def browser(server: PageServer) -> httpx.Client:
    """Returns a client that came in with the token, and holds nothing but the cookie."""
    client = httpx.Client(base_url=server.url, timeout=PATIENCE_S, verify=False)
    _OPEN.enter_context(client)
    assert client.get("/enter", params={"key": TOKEN}).status_code == 303
    return client


def watch(server: PageServer, **arguments: Any) -> ClientConnection:
    arguments = {"additional_headers": server.bearer, "compression": None, **arguments}
    link = socket.create_connection((server.host, server.port), PATIENCE_S)
    try:
        stream: ClientConnection = connect(server.websocket_url, sock=link, **arguments)
    except BaseException:
        link.close()  # the library leaves it open
        raise
    return stream


def next_of(stream: ClientConnection, kind: type) -> Any:
    """Returns the next message of a kind."""
    for _ in range(200):
        message = stream.recv(PATIENCE_S)
        if isinstance(message, kind):
            return message
    raise AssertionError(f"no {kind.__name__} came")


def status_when(stream: ClientConnection, **wanted: Any) -> dict[str, Any]:
    """Returns the next status that has these values."""
    end = time.monotonic() + PATIENCE_S
    while True:
        status: dict[str, Any] = json.loads(next_of(stream, str))
        if all(status[name] == value for name, value in wanted.items()):
            return status
        assert time.monotonic() < end, status


# ----------------------------------------------------------------- coming in


def test_the_token_opens_the_page_by_a_cookie(shared: PageServer) -> None:
    client = _OPEN.enter_context(httpx.Client(base_url=shared.url, verify=False))
    assert client.get("/api/status").status_code == 401
    entered = client.get("/enter", params={"key": TOKEN})
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"].lower()
    assert cookie.startswith(f"{COOKIE}=")
    for part in ("httponly", "samesite=strict", "path=/"):
        assert part in cookie
    assert "secure" not in cookie  # no TLS, or the browser would not send it back
    assert TOKEN not in cookie
    assert client.get("/api/status").status_code == 200
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"


def test_a_code_opens_the_page_once(shared: PageServer) -> None:
    shared.in_loop(lambda: shared.access.allow_code("one-time-code"))
    path = shared.url + "/enter?key=one-time-code"
    assert ask("GET", path).status_code == 303
    refused = ask("GET", path)
    assert refused.status_code == 403
    assert "error" in refused.json()
    assert "set-cookie" not in refused.headers


@pytest.mark.parametrize(
    "path", ["/", "/page/page.js", "/api/status", "/openapi.json", "/stream.mjpg"]
)
def test_without_a_key_nothing_is_shown(shared: PageServer, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{COOKIE}=wrong"}):
        answer = ask("GET", shared.url + path, headers=headers)
        assert answer.status_code in (401, 429)
        assert set(answer.json()) == {"error"}
    assert ask("GET", shared.url + path + f"?key={TOKEN}").status_code == 401
    assert get(shared, "/api/status").status_code == 200


def test_health_is_told_to_anybody_who_names_the_server(shared: PageServer) -> None:
    answer = ask("GET", shared.url + "/healthz")
    assert (answer.status_code, answer.content) == (204, b"")
    assert ask("GET", shared.url + "/healthz", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("path", ["/", "/healthz", "/nothing", "/api/status", "/enter?key=x"])
def test_every_answer_has_the_security_headers(shared: PageServer, path: str) -> None:
    for headers in (shared.bearer, {}, {"Host": "evil.example"}):
        answer = ask("GET", shared.url + path, headers=headers)
        for name, value in SECURITY_HEADERS:
            assert answer.headers.get_list(name.decode()) == [value.decode()]
        assert not {"server", "date", "access-control-allow-origin"} & set(answer.headers)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "anything"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
    ],
)
def test_other_sites_get_nothing(shared: PageServer, headers: dict[str, str], status: int) -> None:
    assert get(shared, "/api/status", **headers).status_code == status


def test_one_may_come_in_from_a_link_elsewhere_but_not_by_a_picture(shared: PageServer) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    picture = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert ask("GET", shared.enter_url, headers=link).status_code == 303
    assert ask("GET", shared.enter_url, headers=picture).status_code == 403


def test_a_browser_has_to_name_the_page_to_change_something(shared: PageServer) -> None:
    client = browser(shared)
    request = {"level": "parts"}
    assert client.post("/api/privacy", json=request).status_code == 403
    evil = {"Origin": "http://evil.example"}
    assert client.post("/api/privacy", json=request, headers=evil).status_code == 403
    ours = {"Origin": shared.url}
    assert client.post("/api/privacy", json=request, headers=ours).status_code == 200
    token = ask("POST", shared.url + "/api/privacy", json=request, headers=shared.bearer)
    assert token.status_code == 200


@pytest.mark.parametrize("name", ["Host", "Origin", "Authorization", "Cookie"])
def test_a_header_that_came_twice_is_refused(shared: PageServer, name: str) -> None:
    connection = http.client.HTTPConnection(shared.host, shared.port, timeout=PATIENCE_S)
    connection.putrequest("GET", "/api/status", skip_host=True)
    values = {"Host": f"127.0.0.1:{shared.port}", "Authorization": f"Bearer {TOKEN}"}
    for header in ("Host", "Authorization"):
        connection.putheader(header, values[header])
    twice = {**values, "Origin": shared.url, "Cookie": "a=b"}[name]
    for _ in range(1 if name in values else 2):
        connection.putheader(name, twice)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 400
    assert set(json.loads(answer.read())) == {"error"}
    connection.close()


# ----------------------------------------------------------------- the page and its description


def test_the_pages_files_come_with_their_types_and_nothing_else_does(shared: PageServer) -> None:
    assert get(shared, "/page/page.js").headers["content-type"].startswith("text/javascript")
    assert get(shared, "/page/page.css").headers["content-type"].startswith("text/css")
    for name in (
        "../options.py",
        "..%2foptions.py",
        "%2e%2e/options.py",
        "",
        ".",
        "x.js",
        "page.js/",
    ):
        answer = get(shared, f"/page/{name}")
        assert answer.status_code == 404, name
        assert answer.json() == {"error": "there is nothing there"}


def test_the_description_is_complete(shared: PageServer) -> None:
    described = get(shared, "/openapi.json").json()
    assert set(described["paths"]) == {
        *("/", "/enter", "/healthz", "/page/{name}", "/stream.mjpg"),
        *("/api/status", "/api/privacy", "/api/parse", "/api/anonymize"),
    }
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
    assert set(described["components"]["securitySchemes"]) == {"token", "session"}
    assert get(shared, "/docs").status_code == 404
    assert get(shared, "/redoc").status_code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD", "BREW"])
def test_other_methods_do_nothing(shared: PageServer, method: str) -> None:
    answer = ask(method, shared.url + "/api/status", headers=shared.bearer)
    assert answer.status_code == 405
    if method != "HEAD":
        assert answer.json() == {"error": "that method does nothing there"}


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"{",
            b"[]",
            b'{"level": "none"}',
            b'{"level": 1}',
            b'{"level": "parts", "x": "secret"}',
        ),
        *(b'{"level": "parts", "silhouette": 1}', b'"\xff"', b"[" * 2000, b'{"level": "parts"'),
    ],
)
def test_what_has_another_form_is_refused_without_being_quoted(
    shared: PageServer, body: bytes
) -> None:
    headers = {**shared.bearer, "Content-Type": "application/json"}
    answer = ask("POST", shared.url + "/api/privacy", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"error"}
    assert "secret" not in answer.text


def test_a_form_cannot_change_anything(shared: PageServer) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = {**shared.bearer, "Content-Type": kind}
        body = b'{"level": "frame"}'
        answer = ask("POST", shared.url + "/api/privacy", content=body, headers=headers)
        assert answer.status_code == 422
    assert shared.in_loop(lambda: shared.hub.status())["level"] == "parts"


# ----------------------------------------------------------------- status, privacy, pictures


def test_the_status_is_as_agreed(server: PageServer) -> None:
    with PageServer(
        kiosk={"language": "zh", "rotation": 90, "mirror": False, "clock": False, "consent": False},
        stale_s=0.5,
    ) as server:
        server.media.hello()
        server.media.facts()
        server.media.frame(GREY)
        wait_until(lambda: get(server, "/api/status").json()["state"] == "live")
        status = get(server, "/api/status").json()
        assert status.pop("frame_age_ms") >= 50
        assert status == {
            "state": "live",
            "why": None,
            "level": "parts",
            "silhouette": False,
            "floor": "parts",
            "hide": "head",
            "effect": "frost",
            "keep_zones": False,
            "person": True,
            "asleep": False,
            "fps": 25.0,
            "latency_ms": 120.0,
            "watching": 0,
            "stored": False,
            "remote": False,
            "uploads": False,
            "alarms": [],
            "options": {
                "language": "zh",
                "rotation": 90,
                "mirror": False,
                "clock": False,
                "consent": False,
                "stale_s": 0.5,
            },
        }


def test_a_request_reaches_the_camera_process_and_the_floor_holds(server: PageServer) -> None:
    server.media.hello(floor="person", level="person")
    wait_until(lambda: get(server, "/api/status").json()["floor"] == "person")
    for request, holds in (("frame", "frame"), ("parts", "person")):
        body = {"level": request, "silhouette": True}
        answer = ask("POST", server.url + "/api/privacy", json=body, headers=server.bearer)
        assert answer.status_code == 200
        assert (answer.json()["level"], answer.json()["silhouette"]) == (holds, True)
        wait_until(lambda holds=holds: (holds, "silhouette") in server.media.requests())  # type: ignore[misc]
    assert ("parts", "silhouette") not in server.media.requests()


def test_a_browser_gets_status_and_pictures(server: PageServer) -> None:
    session = browser(server).cookies[COOKIE]
    with watch(
        server, additional_headers={"Cookie": f"{COOKIE}={session}"}, origin=server.url
    ) as stream:
        assert json.loads(next_of(stream, str))["state"] == "starting"
        with Feeder(server.media, lambda number: jpeg(number % 250), age_s=0.2):
            sequences = []
            for _ in range(10):
                message = next_of(stream, bytes)
                version, flags, reserved, sequence, age_s, handed_ms = HEADER.unpack_from(message)
                assert (version, flags, reserved) == (1, 0, 0)
                assert message[HEADER.size :].startswith(b"\xff\xd8\xff")
                assert 0.2 <= age_s < 5
                assert abs(handed_ms - time.time() * 1e3) < 5000
                sequences.append(sequence)
            assert sequences == sorted(set(sequences))
            assert status_when(stream, state="live")["watching"] == 1
        status_when(stream, state="starting")  # the frames have ended
    wait_until(lambda: get(server, "/api/status").json()["watching"] == 0)


def test_a_page_that_asks_is_told_the_servers_time(server: PageServer) -> None:
    with watch(server) as stream:
        before_ms = time.time() * 1e3
        stream.send("time 1234567")
        while "now_ms" not in (answer := json.loads(next_of(stream, str))):
            pass
        assert answer["time"] == 1234567
        assert before_ms - 1 <= answer["now_ms"] <= time.time() * 1e3 + 1


def test_a_page_that_cannot_follow_gets_fewer_pictures_and_then_the_newest(
    server: PageServer,
) -> None:
    with watch(server) as stream, Feeder(server.media, lambda number: jpeg(number % 250)) as feed:

        def take() -> int:
            return int(HEADER.unpack_from(next_of(stream, bytes))[3])

        before = take()
        stream.send(f"got {before}")
        begun = feed.count
        wait_until(lambda: feed.count > begun + 60)  # it takes none of them meanwhile
        after = take()
        while after - before == 1 and feed.count < 5000:
            before = after
            after = take()
            stream.send(f"got {after}")
        # What was sent ends, and after it comes one that is new.
        assert after - before > 30
        assert feed.count - after < 30


def test_header_has_the_agreed_size() -> None:
    assert HEADER.size == 24
    assert HEADER.format == struct.Struct("<BBHIdd").format


def test_the_status_comes_once_a_second_and_when_it_changes(server: PageServer) -> None:
    with watch(server) as stream:
        next_of(stream, str)
        began_s = time.monotonic()
        for _ in range(2):
            next_of(stream, str)
        assert time.monotonic() - began_s < 20
        ask("POST", server.url + "/api/privacy", json={"level": "person"}, headers=server.bearer)
        status_when(stream, level="person")


def test_a_wholly_covered_picture_is_marked(server: PageServer) -> None:
    with watch(server) as stream:
        server.media.frame(GREY, level="frame", why="source_away")
        message = next_of(stream, bytes)
        assert message[1] == 1
        assert status_when(stream, state="away")["why"] == "source_away"


@pytest.mark.parametrize(
    "arguments",
    [
        {"additional_headers": {}},
        {"additional_headers": {"Authorization": "Bearer wrong"}},
        {"origin": "http://evil.example"},
        {
            "additional_headers": {
                "Authorization": f"Bearer {TOKEN}",
                "Sec-Fetch-Site": "cross-site",
            }
        },
        {"additional_headers": {"Cookie": f"{COOKIE}=x.y"}},
    ],
)
def test_a_stream_is_refused_before_it_opens(server: PageServer, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidStatus) as refused:
        watch(server, **arguments).close()
    assert refused.value.response.status_code == 403
    assert set(json.loads(refused.value.response.body or b"{}")) == {"error"}


def test_a_browsers_stream_needs_an_origin(server: PageServer) -> None:
    session = browser(server).cookies[COOKIE]
    headers = {"Cookie": f"{COOKIE}={session}"}
    with pytest.raises(InvalidStatus):
        watch(server, additional_headers=headers).close()
    with watch(server, additional_headers=headers, origin=server.url) as stream:
        next_of(stream, str)


def test_what_a_client_says_is_ignored_and_too_much_of_it_ends_it(server: PageServer) -> None:
    with watch(server) as stream:
        stream.send("x" * 64)
        stream.send(b"y" * 64)
        next_of(stream, str)
        stream.send("x" * 65)
        with pytest.raises(ConnectionClosed) as ended:
            while True:
                stream.recv(PATIENCE_S)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1009


def test_a_page_may_say_how_large_it_is_and_nothing_else_passes(server: PageServer) -> None:
    def box() -> object:
        said = [one for one in server.media.listen() if one["kind"] == "watching"]
        return said[-1]["boxes"]

    with watch(server) as stream:
        stream.send("size 1024x576")
        wait_until(lambda: box() == [[1024, 576]])
        for words in ("size 0x1", "size 10000x1", "Size 5x5", "size 5x5 ", b"size 5x5"):
            stream.send(words)
        stream.send("time 7")  # answered after all of that was heard
        while "now_ms" not in json.loads(next_of(stream, str)):
            pass
        assert box() == [[1024, 576]]


def test_a_page_that_is_touched_keeps_the_mirror_awake() -> None:
    with (
        PageServer(kiosk={"sleep_after_s": 1}, rates=NO_LIMITS) as server,
        watch(server) as stream,
    ):

        def sleeps() -> bool:
            server.media.frame(GREY)
            return bool(get(server, "/api/status").json()["asleep"])

        wait_until(sleeps)
        for word in ("", "awaken", "Awake", b"awake", ["awa", "ke"], "\u00e4" * 32):
            stream.send(word)
        time.sleep(0.3)
        assert sleeps()
        stream.send("awake")
        wait_until(lambda: not sleeps())
        wait_until(sleeps)


def test_more_viewers_than_may_watch_are_turned_away() -> None:
    with PageServer(clients=1) as server, watch(server) as stream:
        next_of(stream, str)
        with pytest.raises(InvalidStatus):
            watch(server).close()
        assert get(server, "/stream.mjpg").status_code == 503


def parts_of(answer: httpx.Response) -> Iterator[bytes]:
    """Yields the pictures of a multipart stream as they come."""
    data = b""
    for chunk in answer.iter_raw():
        data += chunk
        while (head := data.find(b"\r\n\r\n")) >= 0:
            length = int(data[:head].rpartition(b"Content-Length: ")[2])
            if len(data) < head + 4 + length:
                break
            yield data[head + 4 : head + 4 + length]
            data = data[head + 4 + length :]


def until_grey(server: PageServer, pictures: Iterator[bytes], card: bytes) -> None:
    """Reads the first picture of a stream; before it there are cards alone."""
    assert next(pictures) == STILL_CARD
    server.media.card(card)
    server.media.frame(GREY)
    while (picture := next(pictures)) != GREY:
        assert picture in (STILL_CARD, card)


def test_a_multipart_stream_shows_pictures_and_the_card_when_they_end(server: PageServer) -> None:
    card = jpeg(5)
    with httpx.stream(
        "GET", server.url + "/stream.mjpg", headers=server.bearer, timeout=20
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=m2fp-frame"
        pictures = parts_of(answer)
        until_grey(server, pictures, card)
        seen = [next(pictures) for _ in range(2)]
        assert set(seen) == {card}  # again and again, so that nobody takes it for a hang


def test_a_multipart_stream_gets_no_mirrored_picture(server: PageServer) -> None:
    card, swapped = jpeg(5), jpeg(90)
    with httpx.stream(
        "GET", server.url + "/stream.mjpg", headers=server.bearer, timeout=20
    ) as answer:
        pictures = parts_of(answer)
        until_grey(server, pictures, card)
        server.media.frame(swapped, mirrored=True)
        assert next(pictures) == card
        server.media.frame(GREY)
        while (picture := next(pictures)) != GREY:
            assert picture == card


def test_no_weaker_picture_is_sent_after_the_answer_to_a_request(server: PageServer) -> None:
    """To those that know nothing of requests: MagicMirror and other viewers of the stream."""
    card, older, newer = jpeg(5), jpeg(120), jpeg(160)
    with httpx.stream(
        "GET", server.url + "/stream.mjpg", headers=server.bearer, timeout=20
    ) as answer:
        pictures = parts_of(answer)
        until_grey(server, pictures, card)
        request = {"level": "person"}
        told = ask("POST", server.url + "/api/privacy", json=request, headers=server.bearer)
        assert told.json()["level"] == "person"
        server.media.frame(older)
        server.media.frame(older, level="person", requested="parts")
        assert [next(pictures) for _ in range(2)] == [card, card]
        server.media.frame(newer, requested="person")
        while (picture := next(pictures)) != newer:
            assert picture == card


@pytest.mark.alone
def test_who_reads_slowly_misses_pictures_and_gets_the_newest(server: PageServer) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (360, 640, 3), np.uint8)
    pictures = [jpeg(np.roll(noise, 4 * shift, 1)) for shift in range(100)]
    numbers = {data: number for number, data in enumerate(pictures)}
    with (
        socket.socket() as link,
        Feeder(server.media, lambda number: pictures[number % 100]) as feed,
    ):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect((server.host, server.port))
        head = f"GET /stream.mjpg HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        link.sendall(f"{head}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
        link.settimeout(PATIENCE_S)
        wait_until(lambda: feed.count >= 50)
        data = b""
        while feed.count < 75:
            data += link.recv(1 << 20)
    # The chunks of HTTP are whole: a picture lies in one.
    seen = [number for one, number in numbers.items() if one in data]
    assert len(seen) >= 2
    gaps = [after - before for before, after in itertools.pairwise(seen)]
    assert max(gaps) > 30, seen  # of 50, what the system itself holds is a few
    assert feed.count - max(seen) < 40, seen


def test_the_end_of_the_link_ends_the_server(server: PageServer) -> None:
    with watch(server) as stream:
        server.media.channel.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionClosed):
            while True:
                stream.recv(PATIENCE_S)
    server._thread.join(PATIENCE_S)
    assert not server._thread.is_alive()


def test_a_client_that_stays_does_not_hold_up_the_end() -> None:
    with PageServer() as server, socket.create_connection((server.host, server.port)) as silent:
        silent.sendall(b"GET / HTT")
        with watch(server) as stream:
            next_of(stream, str)
            began_s = time.monotonic()
            server.stop()
            assert time.monotonic() - began_s < 10


def test_a_client_that_is_leaving_is_no_error_at_the_end(tmp_path: Path) -> None:
    """Its goodbye had been answered, and TLS waited for its own."""
    cert, key = certificate(tmp_path)
    context = ssl.create_default_context(cafile=cert)
    with (
        PageServer(certificate=cert, key=key) as server,
        socket.create_connection((server.host, server.port), PATIENCE_S) as link,
        context.wrap_socket(link, server_hostname="localhost") as leaving,
    ):
        head = [
            "GET /stream HTTP/1.1",
            f"Host: localhost:{server.port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *(f"{name}: {value}" for name, value in server.bearer.items()),
        ]
        leaving.sendall("\r\n".join([*head, "", ""]).encode())
        with leaving.makefile("rb") as said:
            assert b" 101 " in said.readline()
            leaving.sendall(b"\x88\x82\0\0\0\0\x03\xe8")  # closes, with code 1000
            while said.read(1) != b"\x88":
                pass
            server.stop()


# ----------------------------------------------------------------- rates


def test_a_session_that_asks_too_often_is_told_so_and_others_are_not() -> None:
    rates = {**RATES, Use.STATUS: Rate(0.001, 3)}
    with PageServer(rates=rates) as server:
        first, second = browser(server), browser(server)
        assert [first.get("/api/status").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert second.get("/api/status").status_code == 200
        assert first.get("/").status_code == 200
        with pytest.raises(AssertionError):
            wait_until(lambda: first.get("/api/status").status_code == 200, 0.2)


def test_guessing_locks_out_nobody_but_the_guesser(server: PageServer) -> None:
    client = browser(server)
    codes = [ask("GET", f"{server.url}/enter?key=guess{n}").status_code for n in range(12)]
    assert codes == [403] * 10 + [429] * 2
    wrong = {"Authorization": "Bearer guess"}
    assert ask("GET", server.url + "/api/status", headers=wrong).status_code == 429
    assert client.get("/api/status").status_code == 200
    assert get(server, "/api/status").status_code == 200
    assert ask("GET", server.enter_url).status_code == 303


# ----------------------------------------------------------------- still pictures


class Recorder:
    """A service that records what reaches it, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.problem: Exception | None = None
        self.wait: asyncio.Event | None = None

    async def _take(self, upload: bytes) -> None:
        self.got.append(upload)
        if self.problem is not None:
            raise self.problem

    async def parse(self, upload: bytes, *, palette: bool) -> ParsedStill:
        await self._take(upload)
        return ParsedStill(b"\x89PNG palette" if palette else b"\x89PNG", {"Face": 12}, (4, 3))

    async def anonymize(self, upload: bytes) -> CoveredStill:
        await self._take(upload)
        return CoveredStill(b"covered", "image/jpeg")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def stills(recorder: Recorder) -> Iterator[PageServer]:
    with PageServer(still=recorder, max_upload_mb=1, rates=dict(NO_LIMITS)) as made:
        yield made


def post(server: PageServer, path: str, body: Any = GREY, **headers: str) -> httpx.Response:
    headers = {**server.bearer, "Content-Type": "image/jpeg", **headers}
    return ask("POST", server.url + path, content=body, headers=headers)


def test_without_uploads_there_is_no_such_route(shared: PageServer) -> None:
    for path in ("/api/parse", "/api/anonymize"):
        assert post(shared, path).status_code == 404


def test_a_picture_goes_on_unopened(stills: PageServer, recorder: Recorder) -> None:
    covered = post(stills, "/api/anonymize")
    assert (covered.content, covered.headers["content-type"]) == (b"covered", "image/jpeg")
    assert post(stills, "/api/parse").content == b"\x89PNG"
    assert post(stills, "/api/parse?format=palette").content == b"\x89PNG palette"
    both = post(stills, "/api/parse?format=index&areas=1").json()
    assert both == {
        "png": base64.b64encode(b"\x89PNG").decode(),
        "areas": {"Face": 12},
        "size_wh": [4, 3],
    }
    assert recorder.got == [GREY] * 4


def test_kinds_are_known_by_content_not_by_header(stills: PageServer, recorder: Recorder) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    for kind in (".jpg", ".png", ".webp", ".bmp", ".tiff"):
        data = cv2.imencode(kind, picture)[1].tobytes()
        assert post(stills, "/api/anonymize", data, **{"Content-Type": "text/x"}).status_code == 200
    recorder.got.clear()
    refused = (b"", b"<svg/>", b"GIF89a", b"%PDF-1.4", b"\x00\x00\x00\x18ftypavif", b"RIFF0000AVI ")
    with PageServer(still=recorder) as again:
        assert [post(again, "/api/parse", data).status_code for data in refused] == [415] * 5 + [
            429
        ]
    assert recorder.got == []


def test_bad_uploads_block_one_session_for_uploads_only(stills: PageServer) -> None:
    origin = {"Origin": stills.url}
    bad, good = browser(stills), browser(stills)
    codes = [
        bad.post("/api/parse", content=b"no picture", headers=origin).status_code for _ in range(6)
    ]
    assert codes == [415] * 5 + [429]
    assert bad.get("/api/status").status_code == 200
    assert good.post("/api/parse", content=GREY, headers=origin).status_code == 200


def test_what_the_service_refuses_is_told_in_its_words(
    stills: PageServer, recorder: Recorder
) -> None:
    recorder.problem = BadUpload("the picture ends too early")
    answer = post(stills, "/api/parse")
    assert (answer.status_code, answer.json()) == (400, {"error": "the picture ends too early"})
    recorder.problem = Busy()
    assert post(stills, "/api/parse").status_code == 503


@pytest.mark.allow_error_logs
def test_what_goes_wrong_inside_stays_inside(stills: PageServer, recorder: Recorder) -> None:
    for problem in (RuntimeError("secret /path"), OSError("secret /path"), MemoryError("secret")):
        recorder.problem = problem
        answer = post(stills, "/api/anonymize")
        assert answer.status_code == 500
        assert answer.json() == {"error": "the server failed; its log says more"}
    recorder.problem = None
    assert post(stills, "/api/anonymize").status_code == 200


def test_a_picture_that_is_too_large_never_reaches_the_service(
    stills: PageServer, recorder: Recorder
) -> None:
    large = GREY + bytes(1_000_000)
    assert post(stills, "/api/parse", large).status_code == 413
    chunked = post(
        stills, "/api/parse", (large[i : i + 50_000] for i in range(0, len(large), 50_000))
    )
    assert chunked.status_code == 413
    assert recorder.got == []
    assert post(stills, "/api/parse", GREY + bytes(900_000)).status_code == 200


def test_a_packed_picture_is_refused(stills: PageServer, recorder: Recorder) -> None:
    assert post(stills, "/api/parse", **{"Content-Encoding": "gzip"}).status_code == 415
    assert recorder.got == []


def test_much_memory_raises_an_alarm(server: PageServer) -> None:
    assert get(server, "/api/status").json()["alarms"] == []
    server.used_bytes = 470 << 20
    assert get(server, "/api/status").json()["alarms"] == [
        "the server uses 470 of 512 MB of memory"
    ]


def test_many_bad_uploads_raise_an_alarm(recorder: Recorder) -> None:
    with PageServer(still=recorder, rates=NO_LIMITS) as server:
        for _ in range(18):
            assert post(server, "/api/parse").status_code == 200
        assert get(server, "/api/status").json()["alarms"] == []
        for _ in range(2):
            post(server, "/api/parse", b"no picture")
        (alarm,) = get(server, "/api/status").json()["alarms"]
        assert alarm == "2 of the last 20 uploads were no pictures"


class Slow(Recorder):
    """Works until it is told to end."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def anonymize(self, upload: bytes) -> CoveredStill:
        self.got.append(upload)
        await self.go.wait()
        return CoveredStill(b"covered", "image/png")


def test_pictures_beyond_the_few_that_are_held_are_turned_away() -> None:
    slow = Slow()
    with PageServer(still=slow, rates=NO_LIMITS) as server, ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(post, server, "/api/anonymize") for _ in range(4)]
        wait_until(lambda: len(slow.got) == 4)
        assert post(server, "/api/anonymize").status_code == 503
        server.in_loop(slow.go.set)
        assert [one.result().status_code for one in busy] == [200] * 4
        assert post(server, "/api/anonymize").status_code == 200


# ----------------------------------------------------------------- TLS and start


def test_by_tls_the_cookie_is_for_tls_only(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.create_default_context(cafile=cert)
    with PageServer(certificate=cert, key=key) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with httpx.Client(verify=context, base_url=url) as client:
            entered = client.get("/enter", params={"key": TOKEN})
            assert entered.status_code == 303
            assert "secure" in entered.headers["set-cookie"].lower()
            assert client.get("/api/status").status_code == 200
            request = {"level": "person"}
            plain = {"Origin": url.replace("https", "http")}
            assert client.post("/api/privacy", json=request, headers=plain).status_code == 403
            assert (
                client.post("/api/privacy", json=request, headers={"Origin": url}).status_code
                == 200
            )
        address = server.websocket_url.replace("127.0.0.1", "localhost")
        with connect(address, additional_headers=server.bearer, ssl=context) as stream:
            server.media.frame(GREY, requested="person")
            assert next_of(stream, bytes).endswith(GREY)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(cert)
        with pytest.warns(DeprecationWarning, match="TLS"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection((server.host, server.port)) as link,
            pytest.raises((ssl.SSLError, OSError)),
        ):
            old.wrap_socket(link, server_hostname="localhost")


@pytest.mark.parametrize("wrong", ["open", "missing", "passphrase", "other", "no pem"])
def test_a_key_that_cannot_be_used_is_refused(tmp_path: Path, wrong: str) -> None:
    passphrase = b"secret" if wrong == "passphrase" else None
    cert, key = certificate(tmp_path, passphrase=passphrase)
    if wrong == "open":
        Path(key).chmod(0o644)
    elif wrong == "missing":
        Path(key).unlink()
    elif wrong == "other":
        other = tmp_path / "other"
        other.mkdir()
        key = certificate(other)[1]
    elif wrong == "no pem":
        Path(cert).write_text("certificate")
    with pytest.raises(ConfigError, match=r"page\.(key|certificate)") as refused:
        tls_context(PageOptions(certificate=cert, key=key))
    assert str(tmp_path) not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_address_in_use_is_said_in_one_line(shared: PageServer) -> None:
    with (
        pytest.raises(SinkError, match="cannot listen there") as refused,
        PageServer(port=shared.port),
    ):
        pass
    assert "\n" not in str(refused.value)


def test_who_came_while_nobody_served_is_turned_away() -> None:
    """What he asked for may be long past; it must not come true."""
    with listen(PageOptions(port=0)) as listener, ExitStack() as stack:
        address = listener.getsockname()
        early = [stack.enter_context(socket.create_connection(address)) for _ in range(5)]
        for link in early:
            link.sendall(b"POST /api/privacy HTTP/1.1\r\n")
        early[0].close()
        _turn_away(listener)
        for link in early[1:]:
            link.settimeout(PATIENCE_S)
            with suppress(ConnectionError):
                assert link.recv(1) == b""
        late = stack.enter_context(socket.create_connection(address))
        link, client = listener.accept()
        with link:
            assert client == late.getsockname()


def test_the_browser_on_the_wall_is_known_by_its_stream(server: PageServer) -> None:
    server.in_loop(lambda: server.access.allow_code("code"))
    assert not server.in_loop(lambda: server.access.display_is_active)
    entered = ask("GET", server.url + "/enter?key=code")
    cookie = {"Cookie": f"{COOKIE}={entered.cookies[COOKIE]}", "Origin": server.url}
    display = server.in_loop(lambda: server.access.display)
    assert display is not None
    with watch(server, additional_headers=cookie) as stream:
        next_of(stream, str)
        assert server.in_loop(lambda: dict(server.access._under_way)) == {display: 1}
        assert server.in_loop(lambda: server.access.display_is_active)
    wait_until(lambda: not server.in_loop(lambda: dict(server.access._under_way)))


def test_requests_are_told_to_no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI 0.165 has some of its own, which variables of the environment switch on."""
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    if not hasattr(FastAPI(), "_telemetry"):
        pytest.skip("this version of FastAPI has none, or another one")
    assert FastAPI()._telemetry["auto_configure"] is True  # what the switch would do
    options = PageOptions(token=TOKEN)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = page_link.make_memory()
    with ours, theirs:
        hub = Hub(ours, PageMemory(memory, writable=False), options, KioskOptions())
        app = make_app(options, hub, AccessControl.of(options, TOKEN), None)
    os.close(memory)
    kinds = ("tracing", "metrics", "logs", "operation_spans", "auto_configure")
    assert [app._telemetry[kind] for kind in kinds] == [False] * 5  # type: ignore[literal-required]
    assert not app._native_telemetry.enabled()


def test_uploads_without_a_service_are_refused() -> None:
    with pytest.raises(UsageError), PageServer(uploads=True):
        pass


def test_without_the_extra_it_is_said_what_to_install() -> None:
    program = """
import sys
from importlib.abc import MetaPathFinder
class Gone(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("fastapi", "uvicorn", "websockets", "starlette"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Gone())
import m2fp_stream.web.options, m2fp_stream.web.access, m2fp_stream.web.hub, m2fp_stream.app.live
from m2fp_stream.sinks.serve import ServeOptions
from m2fp_stream.web.app import make_app
from m2fp_stream.web.player_server import PlayerServer
from m2fp_stream.core.errors import UsageError
for make in (
    lambda: make_app(None, None, None, None),
    lambda: PlayerServer(ServeOptions(port=0), None, "token"),
):
    try:
        make()
    except UsageError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.count('pip install "m2fp-stream[web]"') == 2


def test_the_audit_log_tells_what_happened_but_nothing_of_it(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    with PageServer(audit=str(file)) as server:
        get(server, "/api/status?secret=1")
        ask("GET", server.url + "/secret-path", headers={"Host": "secret.example"})
        ask("GET", server.url + "/enter?key=secret-guess")
        ask("SECRET", server.url + "/page/secret.js", headers=server.bearer)
        with watch(server) as stream:
            server.media.frame(GREY)
            next_of(stream, bytes)
    text = file.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    told = [(one["route"], one["method"], one["status"], one["reason"]) for one in lines]
    assert told == [
        ("/api/status", "GET", 200, None),
        ("(unknown)", "GET", 421, "host"),
        ("/enter", "GET", 403, "token"),
        ("/page/{name}", "other", 405, None),
        ("/stream", "WS", 101, None),
    ]
    assert lines[-1]["bytes"] > len(GREY)
    assert {one["client"] for one in lines} == {"loopback"}
    assert "secret" not in text.lower()
    assert TOKEN not in text


def test_a_client_that_goes_while_it_sends_is_no_error(
    stills: PageServer, recorder: Recorder
) -> None:
    with socket.create_connection((stills.host, stills.port)) as link:
        head = f"POST /api/parse HTTP/1.1\r\nHost: 127.0.0.1:{stills.port}\r\n"
        head += f"Authorization: Bearer {TOKEN}\r\nContent-Length: 5000\r\n\r\n"
        link.sendall(head.encode() + GREY[:100])
        time.sleep(0.2)
    assert post(stills, "/api/parse").status_code == 200
    assert recorder.got == [GREY]


def test_two_requests_at_once_on_one_connection_are_answered_in_turn(shared: PageServer) -> None:
    request = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{shared.port}\r\n\r\n".encode()
    with socket.create_connection((shared.host, shared.port), timeout=PATIENCE_S) as link:
        link.sendall(request * 3)
        data = io.BytesIO()
        while data.getvalue().count(b"HTTP/1.1 204") < 3:
            chunk = link.recv(4096)
            assert chunk
            data.write(chunk)
