"""The HTTP server: other players read it, nobody else does, and nobody can hold it up."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import logging
import re
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from pydantic import ValidationError

from m2fp_stream.core.errors import SinkError
from m2fp_stream.sinks.live_stream import LiveStream, StreamLimits, StreamQueue
from m2fp_stream.sinks.serve import ServeOptions, ServeSink
from m2fp_stream.web import player_server
from m2fp_stream.web.gate import SECURITY_HEADERS
from m2fp_stream.web.limits import ConnectionLimits
from m2fp_stream.web.player_server import MOST_PLAYERS, PLAYER_LIMITS, PlayerServer
from tests.kit import media
from tests.kit.wait import PATIENCE_S, wait_until

MICROSECOND = Fraction(1, 1_000_000)
SIZE = (96, 64)
BOOT = 1_234_567_890_123
TOKEN = "t0ken-for_tests.~0123456789"


def sink(
    size_wh: tuple[int, int] = SIZE,
    *,
    held: StreamLimits | None = None,
    connections: ConnectionLimits = PLAYER_LIMITS,
    first_playlist_s: float = 10.0,
    goodbye_s: float = 2.0,
    **options: Any,
) -> ServeSink:
    """Returns a sink with its server; see `ServeSink` and `PlayerServer`."""

    def serve(options: ServeOptions, stream: LiveStream, token: str) -> PlayerServer:
        return PlayerServer(
            *(options, stream, token), limits=connections, first_playlist_s=first_playlist_s
        )

    settings = {"enabled": True, "port": 0, "token": TOKEN, **options}
    return ServeSink(
        ServeOptions(**settings),
        size_wh=size_wh,
        time_base=MICROSECOND,
        serve=serve,
        limits=held or StreamLimits(),
        goodbye_s=goodbye_s,
    )


@pytest.fixture
def served() -> Iterator[ServeSink]:
    with sink() as out:
        yield out


@pytest.fixture(scope="module")
def standing() -> Iterator[ServeSink]:
    """One with a complete segment, for requests that leave nothing behind: opening takes time."""
    with sink() as out:
        write(out, 0, 30)
        yield out


def write(out: ServeSink, start: int, count: int) -> None:
    """Writes frames `start`... of a film of 25 frames a second."""
    for number in range(start, start + count):
        pts = BOOT + number * 40_000
        out.write(media.composed(media.card(SIZE, number), number, pts, MICROSECOND))


def url(out: ServeSink, path: str) -> str:
    host, port = out.address
    return f"http://{host}:{port}{path}?token={out.token}"


def get(
    out: ServeSink, path: str, method: str = "GET", *, source: str = "", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Returns status, body and headers of one request, from an address of this computer."""
    connection = http.client.HTTPConnection(
        *out.address, timeout=PATIENCE_S, source_address=(source, 0) if source else None
    )
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def request_of(out: ServeSink, version: str = "1.1") -> bytes:
    """Returns a request for the stream without end."""
    host = f"localhost:{out.address[1]}"
    return f"GET /live.ts?token={TOKEN} HTTP/{version}\r\nHost: {host}\r\n\r\n".encode()


def watchers(out: ServeSink) -> int:
    return len(out.stream._queues)


_RAW = (
    *("-fps_mode", "passthrough", "-enc_time_base", "-1"),
    *("-f", "rawvideo", "-pix_fmt", "bgr24", "-"),
)


def numbers_of(raw: bytes) -> list[int]:
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, SIZE[1], SIZE[0], 3)
    return [media.number_of(one) for one in pictures]


def decode(data: bytes) -> list[int]:
    """Returns the frames' numbers, as FFmpeg sees them."""
    command = ["ffmpeg", "-v", "error", "-i", "-", *_RAW]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    assert done.stderr == b""
    return numbers_of(done.stdout)


# ----------------------------------------------------------------- players


def test_a_player_reads_the_stream_without_end_from_a_key_frame_on(served: ServeSink) -> None:
    write(served, 0, 30)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", url(served, "/live.ts"), *_RAW]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as player:
        wait_until(lambda: watchers(served))
        write(served, 30, 120)
        served.finish()
        out, problems = player.communicate()
    assert problems == b"", problems.decode()
    # 25 frames make the interval, and the one at 30 came when frame 25 had been the last key.
    assert numbers_of(out) == [number % 28 for number in range(50, 150)]


def test_a_player_reads_hls(served: ServeSink) -> None:
    write(served, 0, 26 * 6)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-live_start_index", "0"]
    done = subprocess.run(
        [*command, "-i", url(served, "/live.m3u8"), "-frames:v", "140", *_RAW],
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert done.stderr == b""
    assert numbers_of(done.stdout) == [number % 28 for number in range(140)]


def test_hls_is_followed_while_it_grows(served: ServeSink) -> None:
    write(served, 0, 26)
    command = ["ffmpeg", "-nostdin", "-v", "error", "-live_start_index", "0"]
    command += ["-i", url(served, "/live.m3u8"), "-frames:v", "75", *_RAW]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as player:
        got: list[bytes] = []
        assert player.stdout is not None
        stdout = player.stdout
        reader = threading.Thread(target=lambda: got.append(stdout.read()))
        reader.start()
        for part in range(1, 4):
            time.sleep(0.5)  # the playlist is asked for again
            write(served, part * 26, 26)
        reader.join()
    assert numbers_of(got[0]) == [number % 28 for number in range(75)]


def test_a_probe_sees_rising_times_and_the_colours(served: ServeSink) -> None:
    write(served, 0, 60)
    command = ["ffprobe", "-v", "error", "-show_frames", "-show_streams", "-of", "json"]
    segment = get(served, f"/segment-1.ts?token={TOKEN}")[1]
    done = subprocess.run([*command, "-"], input=segment, capture_output=True, check=True)
    found = json.loads(done.stdout)
    (stream,) = found["streams"]
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("h264", 96, 64)
    assert (stream["color_space"], stream["color_range"]) == ("bt709", "tv")
    times = [int(one["pts"]) for one in found["frames"]]
    assert np.diff(times).tolist() == [3600] * 24
    assert [one["key_frame"] for one in found["frames"]] == [1] + [0] * 24


# ----------------------------------------------------------------- HLS


def playlist(out: ServeSink) -> tuple[dict[str, str], list[float], list[int]]:
    """Returns the tags of the playlist, and durations and numbers of its segments."""
    status, body, headers = get(out, "/live.m3u8", Authorization=f"Bearer {TOKEN}")
    assert status == 200
    assert headers["Content-Type"] == "application/vnd.apple.mpegurl"
    lines = body.decode().splitlines()
    assert lines[0] == "#EXTM3U"
    tags = dict(line[1:].partition(":")[::2] for line in lines if line.startswith("#EXT-X-"))
    durations = [float(line[8:].rstrip(",")) for line in lines if line.startswith("#EXTINF:")]
    uris = [line for line in lines if not line.startswith("#")]
    assert len(uris) == len(durations)
    matches = [re.fullmatch(r"segment-(\d+)\.ts\?token=(.+)", uri) for uri in uris]
    assert all(match is not None and match[2] == TOKEN for match in matches)
    return tags, durations, [int(match[1]) for match in matches if match is not None]


def test_the_playlist_is_a_window_that_moves() -> None:
    with sink(window=3) as out:
        write(out, 0, 26)
        assert playlist(out) == (
            {"EXT-X-VERSION": "3", "EXT-X-TARGETDURATION": "3", "EXT-X-MEDIA-SEQUENCE": "0"},
            [1.0],
            [0],
        )
        write(out, 26, 25 * 9)
        tags, durations, numbers = playlist(out)
        assert numbers == [7, 8, 9]
        assert tags["EXT-X-MEDIA-SEQUENCE"] == "7"
        assert durations == [1.0] * 3
        # What left the playlist a moment ago can still be fetched; nothing is kept for ever.
        path = f"/segment-%d.ts?token={TOKEN}"
        assert [get(out, path % number)[0] for number in range(11)] == [404] * 3 + [200] * 7 + [404]
        assert decode(get(out, path % 8)[1]) == [number % 28 for number in range(200, 225)]


def test_a_segment_has_as_many_intervals_between_key_frames_as_its_length_needs() -> None:
    with sink(segment_s=1.5, keyframe_s=0.5) as out:
        write(out, 0, 120)
        tags, durations, _ = playlist(out)
        assert all(1.5 <= one < 2.0 for one in durations)
        assert int(tags["EXT-X-TARGETDURATION"]) >= 2


def test_no_segment_is_longer_than_the_playlist_said_even_after_a_gap(served: ServeSink) -> None:
    write(served, 0, 10)
    write(served, 1000, 30)
    tags, durations, numbers = playlist(served)
    assert max(round(one) for one in durations) <= int(tags["EXT-X-TARGETDURATION"])
    assert numbers == [0, 1]


def test_memory_is_bounded_however_large_the_frames() -> None:
    rng = np.random.default_rng(1)
    held = StreamLimits(segment_bytes=200_000)
    with sink((320, 240), held=held, keyframe_s=0.5, segment_s=0.5) as out:
        for number in range(60):
            pixels = rng.integers(0, 256, (240, 320, 3), np.uint8)
            out.write(media.composed(pixels, number, number * 100_000, MICROSECOND))
        segments = [out.stream.segment(number) for number in range(60)]
        sizes = [len(one) for one in segments if one is not None]
        assert len(sizes) == 1 or sum(sizes) <= 200_000
        assert sum(sizes) == out.stream._held() > 0


def test_a_playlist_waits_for_its_first_segment(served: ServeSink) -> None:
    got: list[int] = []
    path = f"/live.m3u8?token={TOKEN}"
    asking = threading.Thread(target=lambda: got.append(get(served, path)[0]))
    asking.start()
    wait_until(lambda: served.clients)
    write(served, 0, 26)
    asking.join()
    assert got == [200]


def test_a_playlist_without_any_segment_is_not_there() -> None:
    with sink(first_playlist_s=0.01) as out:
        assert get(out, f"/live.m3u8?token={TOKEN}")[0] == 503


# ----------------------------------------------------------------- who may


PATHS = ("/live.ts", "/live.m3u8", "/segment-0.ts")
STRANGERS = (f"127.1.{number // 250}.{number % 250 + 1}" for number in itertools.count())
"""An address each: one from which many wrong tokens come is blocked."""


@pytest.mark.parametrize("path", [*PATHS, "/", "/elsewhere"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("query", "authorization"),
    [
        ("", None),
        ("?token=", None),
        (f"?token={TOKEN[:-1]}", None),
        (f"?token={TOKEN}x", None),
        ("?token=%C3%A9%FF", None),
        (f"?Token={TOKEN}", None),
        ("", "Bearer wrong"),
        ("", f"Basic {TOKEN}"),
        ("", TOKEN),
    ],
)
def test_nothing_is_served_without_the_token(
    standing: ServeSink, path: str, method: str, query: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    source = next(STRANGERS)
    status, body, answer = get(standing, path + query, method, source=source, **headers)
    assert status == 401
    assert answer["WWW-Authenticate"] == "Bearer"
    assert body == b"" if method == "HEAD" else set(json.loads(body)) == {"error"}


def test_who_tries_tokens_is_blocked_and_the_right_one_is_not(standing: ServeSink) -> None:
    source = next(STRANGERS)
    tried = [get(standing, f"/live.m3u8?token={n:016}", source=source)[0] for n in range(12)]
    assert tried == [401] * 10 + [429] * 2
    assert get(standing, f"/live.m3u8?token={TOKEN}", source=source)[0] == 200
    assert get(standing, f"/live.m3u8?token={0:016}", source=next(STRANGERS))[0] == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_gets_nothing(standing: ServeSink, headers: dict[str, str]) -> None:
    path = f"/segment-0.ts?token={TOKEN}"
    assert get(standing, path, **headers)[0] == 403
    assert get(standing, path)[0] == 200


def test_two_tokens_are_none(standing: ServeSink) -> None:
    source = next(STRANGERS)
    path = f"/segment-0.ts?token={TOKEN}&token={TOKEN}"
    assert get(standing, path, source=source)[0] == 401


@pytest.mark.parametrize("path", PATHS)
def test_a_head_request_gets_headers_alone(served: ServeSink, path: str) -> None:
    write(served, 0, 30)
    status, body, headers = get(served, path, "HEAD", Authorization=f"bearer {TOKEN}")
    assert (status, body) == (200, b"")
    for name, value in SECURITY_HEADERS:
        assert headers[name.decode()] == value.decode()
    assert headers["Server"] is None  # nothing tells what it runs on


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST:{port}", 200),
        ("127.0.0.1", 421),
        ("[::1]:{port}", 200),
        ("evil.example:{port}", 421),
        ("evil.example", 421),
        ("localhost.evil.example:{port}", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1:1", 421),
        ("localhost@evil.example:{port}", 421),
        ("evil.example@127.0.0.1:{port}", 421),
        ("127.0.0.1:{port}, evil.example", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_a_name_that_somebody_gave_this_server_is_refused(
    standing: ServeSink, host: str, status: int
) -> None:
    path = f"/segment-0.ts?token={TOKEN}"
    assert get(standing, path, Host=host.format(port=standing.address[1]))[0] == status


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (f"GET /segment-0.ts?token={TOKEN} HTTP/1.1\r\n\r\n", 400),
        (f"GET /segment-0.ts?token={TOKEN} HTTP/1.1\r\nHost: HOST\r\nHost: x\r\n\r\n", 400),
        (f"POST /live.ts?token={TOKEN} HTTP/1.1\r\nHost: HOST\r\n\r\n", 405),
        (f"OPTIONS /live.ts?token={TOKEN} HTTP/1.1\r\nHost: HOST\r\n\r\n", 405),
        (f"GET http://[x/?token={TOKEN} HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (f"GET /?token={TOKEN}&{'a=1&' * 50} HTTP/1.1\r\nHost: HOST\r\n\r\n", 401),
        (f"GET /../live.ts?token={TOKEN} HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (f"GET /segment-1e3.ts?token={TOKEN} HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (f"GET /segment-{'9' * 5000}.ts?token={TOKEN} HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (f"GET /live.ts/?token={TOKEN} HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (f"GET //live.ts?token={TOKEN} HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (f"GET /enter?key={TOKEN} HTTP/1.1\r\nHost: HOST\r\n\r\n", 401),
        ("GET /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n", 401),
        (
            f"POST /live.ts?token={TOKEN} HTTP/1.1\r\nContent-Length: 5000\r\nHost: HOST\r\n\r\n",
            413,
        ),
        ("nonsense\r\n\r\n", 400),
        (f"GET {'/x' * 40_000} HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_odd_requests_get_a_plain_refusal(
    standing: ServeSink, request_text: str, status: int
) -> None:
    with socket.create_connection(standing.address, PATIENCE_S) as client:
        host = f"localhost:{standing.address[1]}\r\nConnection: close"
        with contextlib.suppress(ConnectionError):  # it hangs up on what is far too long
            client.sendall(request_text.replace("HOST", host, 1).encode())
        answer = client.makefile("rb").read()
    assert answer.split()[1] == str(status).encode()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert set(json.loads(body)) == {"error"}
    assert b"x-content-type-options: nosniff" in head.lower()
    assert TOKEN.encode() not in answer
    assert b"Python" not in answer


def test_no_log_has_the_token(served: ServeSink, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    write(served, 0, 30)
    for path in PATHS[1:]:
        get(served, f"{path}?token={TOKEN}")
        get(served, path, Authorization=f"Bearer {TOKEN}")
    with socket.create_connection(served.address) as client:
        client.sendall(request_of(served))
        wait_until(lambda: watchers(served))
    write(served, 30, 60)
    wait_until(lambda: not watchers(served))
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(ServeOptions(token=TOKEN))


def test_each_run_has_a_token_of_its_own_by_default() -> None:
    with sink(token=None) as one, sink(token=None) as two:
        assert len(one.token) >= 32
        assert one.token != two.token
        assert get(one, f"/segment-0.ts?token={two.token}")[0] == 401
        assert get(one, f"/segment-0.ts?token={one.token}")[0] == 404


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"host": "0.0.0.0"}, "set allow_remote: true"),
        ({"host": "192.168.1.5", "token": TOKEN}, "set allow_remote: true"),
        ({"host": "::", "token": TOKEN}, "set allow_remote: true"),
        ({"host": "0.0.0.0", "allow_remote": True}, "set a token"),
        ({"host": "camera.example", "allow_remote": True, "token": TOKEN}, "an IP address"),
        ({"token": "short"}, "16"),
        ({"token": "sixteen letters & more"}, "pattern"),
        ({"port": 70_000}, "65535"),
        ({"window": 1}, "3"),
    ],
)
def test_it_is_closed_unless_it_is_opened_twice(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        ServeOptions(**wrong)
    assert TOKEN not in str(caught.value)


def test_other_computers_may_be_let_in_by_address() -> None:
    with sink(host="0.0.0.0", allow_remote=True) as out:
        port = out.address[1]
        write(out, 0, 30)
        for host, expected in ((f"127.0.0.2:{port}", 200), (f"mirror.example:{port}", 421)):
            connection = http.client.HTTPConnection("127.0.0.2", port, timeout=PATIENCE_S)
            connection.request("GET", f"/segment-0.ts?token={TOKEN}", headers={"Host": host})
            assert connection.getresponse().status == expected
            connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_what_is_printed_can_be_opened(host: str) -> None:
    try:
        out = sink(host=host)
    except SinkError:
        assert host == "::1"
        pytest.skip("needs IPv6 on this computer")
    with out:
        write(out, 0, 30)
        with urllib.request.urlopen(f"{out.url}/segment-0.ts?token={TOKEN}") as answer:
            assert answer.status == 200
    assert urlsplit(out.url).port == out.address[1]


def test_a_port_that_is_taken_is_one_line(served: ServeSink) -> None:
    with pytest.raises(SinkError, match=r"cannot listen there \(Address already in use\)"):
        sink(port=served.address[1])


@pytest.mark.allow_error_logs
def test_a_server_that_fails_when_it_starts_is_an_error_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> object:
        raise RuntimeError(TOKEN)

    monkeypatch.setattr(player_server, "running", broken)
    with pytest.raises(SinkError, match="could not be started"):
        sink()
    assert "RuntimeError" in caplog.text
    assert TOKEN not in caplog.text


# ----------------------------------------------------------------- slow and gone


def watch(out: ServeSink) -> socket.socket:
    """Begins to watch /live.ts, and reads nothing."""
    client = socket.create_connection(out.address, PATIENCE_S)
    client.sendall(request_of(out))
    return client


@pytest.mark.parametrize("end", ["finish", "abort"])
def test_a_client_that_does_not_read_holds_up_nothing(end: str) -> None:
    held = StreamLimits(client_bytes=500_000)
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(4)]
    with sink((320, 240), held=held, goodbye_s=0.1) as out, watch(out):
        wait_until(lambda: watchers(out))
        (queue,) = out.stream._queues
        dropped, before = 0, 0
        for number in range(200):
            out.write(media.composed(noise[number % 4], number, number * 40_000, MICROSECOND))
            assert queue.size <= 500_000
            dropped += queue.size < before - 300_000
            before = queue.size
        assert dropped, "nothing piled up"
        assert watchers(out) == 1
        if end == "finish":
            out.finish()
        else:
            out.abort()
        assert out.clients == 0
        assert watchers(out) == 0


def test_a_client_that_takes_nothing_for_long_is_disconnected() -> None:
    rng = np.random.default_rng(1)
    connections = replace(PLAYER_LIMITS, send_s=0.2)
    with sink((320, 240), connections=connections) as out, watch(out):
        wait_until(lambda: watchers(out))
        number = 0

        def gone() -> bool:
            nonlocal number
            number += 1
            pixels = rng.integers(0, 256, (240, 320, 3), np.uint8)
            out.write(media.composed(pixels, number, number * 40_000, MICROSECOND))
            return watchers(out) == 0

        wait_until(gone)


def test_a_client_that_is_behind_goes_on_at_a_key_frame() -> None:
    most = StreamLimits().client_bytes
    queue = StreamQueue(most)
    queue.put(b"tail of an interval", key=False)
    assert queue.take() is None
    half = b"\0" * (most // 2)
    queue.put(half, key=True)
    queue.put(half, key=False)
    assert queue.size == most
    queue.put(b"one too many", key=False)
    queue.put(b"of the same interval", key=False)
    assert queue.size == 0
    assert queue.take() is None
    queue.put(b"key", key=True)
    queue.put(b"next", key=False)
    assert [queue.take() for _ in range(3)] == [b"key", b"next", None]
    queue.put(b"key", key=True)
    queue.put(b"next", key=False)
    huge = b"\0" * (2 * most)
    queue.put(huge, key=True)
    assert queue.size == len(huge)
    assert [queue.take() for _ in range(2)] == [huge, None]


def test_one_client_too_many_is_turned_away(served: ServeSink) -> None:
    clients = [watch(served) for _ in range(MOST_PLAYERS)]
    try:
        wait_until(lambda: watchers(served) == MOST_PLAYERS)
        assert get(served, f"/live.m3u8?token={TOKEN}")[0] == 503
        clients.pop().close()
        write(served, 0, 60)
        wait_until(lambda: served.clients < MOST_PLAYERS)
        assert get(served, f"/live.m3u8?token={TOKEN}")[0] == 200
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    "beginning", [b"", f"GET /live.ts?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\nX: ".encode()]
)
def test_a_request_that_trickles_is_cut_off(beginning: bytes) -> None:
    connections = replace(PLAYER_LIMITS, head_s=0.5)
    with (
        sink(connections=connections) as out,
        socket.create_connection(out.address, PATIENCE_S) as slow,
    ):
        slow.sendall(beginning)
        wait_until(lambda: out.clients == 1)
        slow.setblocking(False)

        def gone() -> bool:
            with contextlib.suppress(OSError):
                slow.send(b"x")
            time.sleep(0.05)
            return out.clients == 0

        wait_until(gone)


def test_who_watches_may_take_longer_than_a_request_may() -> None:
    """The control of the test above: what has to come in time is the request."""
    with sink(connections=replace(PLAYER_LIMITS, head_s=0.5)) as out, watch(out) as client:
        wait_until(lambda: watchers(out))
        end = time.monotonic() + 1.5
        number = 0
        while time.monotonic() < end:
            write(out, number, 1)
            number += 1
            assert client.recv(1 << 16)
        assert watchers(out) == 1


def test_strangers_who_say_nothing_keep_out_nobody_who_has_the_token(served: ServeSink) -> None:
    write(served, 0, 30)
    with contextlib.ExitStack() as opened:
        opened.enter_context(watch(served))
        wait_until(lambda: watchers(served))
        strangers = [
            opened.enter_context(socket.create_connection(served.address, PATIENCE_S))
            for _ in range(MOST_PLAYERS + PLAYER_LIMITS.waiting + 3)
        ]
        for _ in range(3):
            assert get(served, f"/live.m3u8?token={TOKEN}")[0] == 200
        assert watchers(served) == 1
        assert strangers[0].recv(1) == b"", "the oldest made room"
        wait_until(lambda: served.clients <= 1 + PLAYER_LIMITS.waiting)


def test_there_is_an_end_to_connections() -> None:
    connections = replace(PLAYER_LIMITS, connections=2)
    with sink(connections=connections) as out, watch(out), watch(out) as last:
        wait_until(lambda: watchers(out) == 2)
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            get(out, f"/live.m3u8?token={TOKEN}")
        wait_until(lambda: out.clients == 2)
        last.close()
        write(out, 0, 60)
        wait_until(lambda: out.clients == 1)
        assert get(out, f"/live.m3u8?token={TOKEN}")[0] == 200


@pytest.mark.parametrize("end", ["finish", "abort", "leave"])
def test_connections_that_ask_nothing_end_with_the_sink(end: str) -> None:
    # Far beyond what ending them takes, so that it is the sink that ends them.
    connections = replace(PLAYER_LIMITS, head_s=PATIENCE_S)
    began = time.monotonic()
    with (
        sink(connections=connections, goodbye_s=0.1) as out,
        socket.create_connection(out.address, PATIENCE_S) as idle,
    ):
        wait_until(lambda: out.clients == 1)
        if end == "finish":
            out.finish()
        elif end == "abort":
            out.abort()
        else:
            out.__exit__(None, None, None)
        assert idle.recv(1) == b""
        assert time.monotonic() - began < PATIENCE_S
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(out.address)


@pytest.mark.parametrize(("version", "ends"), [("1.0", False), ("1.1", True)])
def test_a_client_can_tell_the_end_from_a_lost_connection(version: str, ends: bool) -> None:
    with sink() as out, socket.create_connection(out.address, PATIENCE_S) as client:
        client.sendall(request_of(out, version))
        wait_until(lambda: watchers(out))
        write(out, 0, 30)
        out.finish()
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    assert (b"transfer-encoding: chunked" in head.lower()) == ends
    assert body.endswith(b"\r\n0\r\n\r\n") == ends
    if not ends:
        assert decode(body) == [number % 28 for number in range(30)]


def test_nothing_is_written_while_nobody_watches_and_it_can_be_finished() -> None:
    with sink() as out:
        out.finish()
        with pytest.raises(SinkError, match="is closed"):
            write(out, 0, 1)


class Ended:
    """A server that has ended by itself."""

    address = ("127.0.0.1", 0)
    clients = 0
    is_running = False

    def __init__(self, options: ServeOptions, stream: LiveStream, token: str) -> None:
        self.stream = stream

    def close(self, grace_s: float) -> None:
        assert self.stream.ended


def test_a_server_that_has_ended_is_an_error_of_the_sink() -> None:
    """Whoever writes begins with a new one; nothing is encoded for nobody."""
    with ServeSink(ServeOptions(), size_wh=SIZE, time_base=MICROSECOND, serve=Ended) as out:
        with pytest.raises(SinkError, match="has ended"):
            write(out, 0, 1)
        assert out.stream._held() == 0
