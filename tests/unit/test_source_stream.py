"""Network streams: from real servers over wires that fail, and never a password in sight."""

from __future__ import annotations

import base64
import http.server
import logging
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from m2fp_stream.core.errors import SourceError, UsageError
from m2fp_stream.sources.base import Captured
from m2fp_stream.sources.live import LIVE_TIME_BASE
from m2fp_stream.sources.options import StreamOptions
from m2fp_stream.sources.stream import StreamSource
from tests.kit import media
from tests.kit.http_camera import HttpCamera
from tests.kit.rtsp import RtspServer, Wire, require_rtsp
from tests.kit.texture import contains_marker, marker
from tests.kit.wait import PATIENCE_S, wait_until

PASSWORD = "s3cr/t@pass"
ESCAPED = quote(PASSWORD, safe="")
SHORT = StreamOptions(read_timeout_s=3.0)


@pytest.fixture(scope="module")
def rtsp() -> None:
    require_rtsp()


pytestmark = [pytest.mark.usefixtures("rtsp"), pytest.mark.paced]


def pictures(source: StreamSource, count: int) -> list[media.BGR]:
    """Returns copies of the next frames; stamps and ids are as promised."""
    found: list[media.BGR] = []
    last_pts, last_id = -1, None
    for captured in source.frames():
        found.append(taken(captured))
        frame = captured.frame
        assert frame.time_base == LIVE_TIME_BASE
        assert frame.size_wh == source.info.size_wh
        assert frame.pts > last_pts
        assert frame.pts >= frame.captured_ns // 1000
        assert last_id is None or frame.frame_id == last_id + 1
        last_pts, last_id = frame.pts, frame.frame_id
        if len(found) == count:
            break
    return found


def taken(captured: Captured) -> media.BGR:
    with captured.frame.analysis() as bgr:
        copy = bgr.copy()
    captured.frame.release()
    return copy


def read_until_error(frames: Iterator[Captured]) -> SourceError:
    """Reads on; there must be an error, in time."""
    end = time.monotonic() + PATIENCE_S
    with pytest.raises(SourceError) as caught:
        while time.monotonic() < end:
            next(frames).frame.release()
    return caught.value


def everything_of(error: BaseException) -> str:
    """All that a careless handler could show of an error."""
    words = [str(error), repr(error), *traceback.format_exception(error)]
    for other in (error.__cause__, error.__context__):
        words += [] if other is None else [everything_of(other)]
    return "\n".join(words)


# ----------------------------------------------------------------- RTSP


def test_reports_of_losses_are_switched_off_with_the_stream_that_wanted_them() -> None:
    """While they are on, a decoder of several threads may hang for ever as it is freed."""
    assert av.logging.get_level() is None
    with RtspServer() as server:
        with StreamSource(server.url, StreamOptions(transport="udp")) as source:
            pictures(source, 2)
            assert av.logging.get_level() is not None
        assert av.logging.get_level() is None


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_arrive_in_order_upright_and_stamped_on_arrival(transport: Any) -> None:
    with (
        RtspServer() as server,
        StreamSource(server.url, StreamOptions(transport=transport)) as source,
    ):
        before = time.monotonic_ns()
        info = source.info
        assert (info.size_wh, info.time_base) == ((192, 128), LIVE_TIME_BASE)
        assert info.average_rate == 15
        assert info.duration_s is None
        found = pictures(source, 12)
        numbers = [media.number_of(one) for one in found]
        assert [later - sooner for sooner, later in pairwise(numbers)] == [1] * 11
        for name, colour in media.corners(found[-1]).items():
            assert colour == pytest.approx(media.QUADRANTS[name], abs=6)
        assert source.corrupt == 0
        assert source._last_pts * 1000 > before


def test_a_texture_in_the_picture_arrives() -> None:
    texture = marker(3, 128, 192)
    with RtspServer([texture]) as server, StreamSource(server.url) as source:
        found = pictures(source, 3)
        assert all(contains_marker(one, texture) for one in found)
        assert not contains_marker(found[0], marker(4, 128, 192)), "the control"


@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_user_and_password_open_the_stream(digest: bool) -> None:
    with (
        RtspServer(user="viewer", password=PASSWORD, digest=digest) as server,
        StreamSource(server.url) as source,
    ):
        assert len(pictures(source, 2)) == 2


AWKWARD = ["p@ss", "p#ss", "p:ss", "p/ss", "p?ss", "50%off", "p ss", "a@#:/? %&+;=é", "x" * 125]
"""With the user's name the last has just the length that FFmpeg's RTSP can send."""


@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_passwords_with_special_characters_open_an_rtsp_stream_encoded_and_raw(
    digest: bool,
) -> None:
    for password in AWKWARD[-2:]:  # all at once, and the longest
        with RtspServer(user="v", password=password, digest=digest) as server:
            raw = f"rtsp://v:{password}@127.0.0.1:{server.port}/live"
            for url in (server.url, raw):
                with StreamSource(url) as source:
                    assert len(pictures(source, 1)) == 1


def test_a_password_too_long_for_rtsp_is_refused_and_not_cut_off() -> None:
    url = f"rtsp://v:{ESCAPED * 10}@127.0.0.1:1/live"
    with pytest.raises(SourceError, match="127 bytes") as caught:
        StreamSource(url)
    assert "s3cr" not in everything_of(caught.value)


@pytest.mark.parametrize("digest", [None, "MD5"], ids=["basic", "digest"])
def test_passwords_with_special_characters_open_an_http_stream_encoded_and_raw(
    digest: str | None,
) -> None:
    for password in AWKWARD:
        with HttpCamera(user="v", password=password, digest=digest) as camera:
            for raw in (False, True):
                with StreamSource(camera.url("/motion", raw=raw)) as source:
                    assert len(pictures(source, 1)) == 1


@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_a_wrong_password_is_an_error_that_shows_no_password(
    digest: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with RtspServer(user="viewer", password="another", digest=digest) as server:
        url = f"rtsp://viewer:{ESCAPED}@127.0.0.1:{server.port}/live"
        with pytest.raises(SourceError, match="user or password") as caught:
            StreamSource(url)
    said = everything_of(caught.value) + caplog.text + "".join(capfd.readouterr())
    for secret in (PASSWORD, "s3cr", "viewer"):
        assert secret not in said
    assert "rtsp://***@127.0.0.1" in said


def test_nothing_is_said_on_stderr_of_a_process_of_its_own() -> None:
    program = (
        "import sys; from m2fp_stream.sources.stream import *\n"
        "try: StreamSource(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
    )
    with RtspServer(user="viewer", password="another") as server:
        url = f"rtsp://viewer:{ESCAPED}@127.0.0.1:{server.port}/live"
        done = subprocess.run(
            [sys.executable, "-c", program, url], capture_output=True, text=True, check=True
        )
    assert "user or password" in done.stdout
    assert "s3cr" not in done.stdout
    assert done.stderr == ""


def test_a_server_that_dies_is_an_error_and_can_be_opened_anew() -> None:
    with RtspServer() as server:
        with StreamSource(server.url, SHORT) as source:
            frames = source.frames()
            next(frames).frame.release()
            server.kill()
            error = read_until_error(frames)
            assert "ended" in str(error) or "connection lost" in str(error)
        with pytest.raises(SourceError, match="connection refused"):
            StreamSource(server.url)
        server.start()
        with StreamSource(server.url, first_frame_id=41) as source:
            assert next(source.frames()).frame.frame_id == 41


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_server_that_freezes_is_an_error_within_the_time_out(transport: Any) -> None:
    options = StreamOptions(read_timeout_s=1.0, transport=transport)
    with RtspServer() as server, StreamSource(server.url, options) as source:
        frames = source.frames()
        next(frames).frame.release()
        server.freeze()
        assert "no answer within 1 s" in str(read_until_error(frames))


def test_a_server_that_does_not_answer_is_an_error_within_the_time_out() -> None:
    with RtspServer() as server:
        server.freeze()
        with pytest.raises(SourceError, match=r"no answer within 0\.5 s"):
            StreamSource(server.url, StreamOptions(open_timeout_s=0.5))


def test_a_wire_that_is_cut_is_an_error() -> None:
    with (
        RtspServer() as server,
        Wire(server.port) as wire,
        StreamSource(server.url_at(wire.port), SHORT) as source,
    ):
        frames = source.frames()
        next(frames).frame.release()
        wire.cut()
        read_until_error(frames)


def test_a_reconnect_to_another_size_keeps_the_canvas() -> None:
    with RtspServer() as server:
        with StreamSource(server.url) as source:
            canvas_wh = source.info.size_wh
        server.kill()
        server.start([media.card((96, 128), number) for number in range(28)])
        with StreamSource(server.url, size_wh=canvas_wh) as source:
            assert source.info.size_wh == (192, 128)
            found = pictures(source, 2)[-1]
    assert found.shape == (128, 192, 3)
    assert not found[:, :47].any(), "bars are black"
    assert not found[:, -47:].any()
    for name, colour in media.corners(found[:, 48:144]).items():
        assert colour == pytest.approx(media.QUADRANTS[name], abs=8)


def test_a_change_of_size_on_the_way_restarts_in_the_same_canvas() -> None:
    cards = [media.card((192, 128), n) for n in range(20)]
    cards += [media.card((96, 128), n) for n in range(20)]
    with RtspServer(cards) as server, StreamSource(server.url) as source:
        narrow, restarts = [], 0
        for number, captured in enumerate(source.frames()):
            picture = taken(captured)
            narrow.append(not picture[:, :47].any())
            restarts += captured.restart
            if captured.restart:
                assert number > 0
                assert narrow[-1] != narrow[-2]
            if restarts == 2 or number > 200:
                break
        assert restarts == 2
        assert sum(a != b for a, b in pairwise(narrow)) == 2
        assert source.info.warnings == (
            "the picture's size changes (192x128, 96x128); all is fitted into 192x128",
        )


def test_close_from_another_thread_ends_a_read_that_hangs() -> None:
    with RtspServer() as server, StreamSource(server.url, SHORT) as source:
        seen = threading.Event()
        errors: list[BaseException] = []

        def read() -> None:
            try:
                for captured in source.frames():
                    captured.frame.release()
                    seen.set()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        assert seen.wait(PATIENCE_S)
        server.freeze()
        source.close()
        source.close()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert source._container is None
        assert errors == []


def test_close_from_another_thread_is_safe_at_any_moment() -> None:
    with RtspServer(fps=60) as server:
        for number in range(8):
            source = StreamSource(server.url, SHORT)
            thread = threading.Thread(
                target=lambda source=source: [one.frame.release() for one in source.frames()]
            )
            thread.start()
            time.sleep(0.01 * number)
            source.close()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
            assert source._container is None


def test_a_picture_above_the_limit_is_refused() -> None:
    with RtspServer() as server:
        with pytest.raises(SourceError, match=r"192x128 exceed|no answer|no whole picture"):
            StreamSource(server.url, StreamOptions(max_pixels=192 * 128 - 1))
        with StreamSource(server.url, StreamOptions(max_pixels=192 * 128)) as source:
            assert source.info.size_wh == (192, 128)


# ----------------------------------------------------------------- HTTP

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def http_server(answer: Answer) -> Iterator[int]:
    """Serves on a loopback port in threads that end with it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):  # the client may have gone
                answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def slowly(path: Path, chunk: int = 4000, pause_s: float = 0.02, *, stated: bool = True) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        data = path.read_bytes()
        handler.send_response(200)
        if stated:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for start in range(0, len(data), chunk):
            handler.wfile.write(data[start : start + chunk])
            time.sleep(pause_s)

    return answer


@pytest.mark.parametrize("name", ["clip.ts", "clip.flv"])
def test_a_video_by_http_arrives_and_its_end_is_an_error(tmp_path: Path, name: str) -> None:
    path = media.write_video(tmp_path / name, count=20, audio_s=0.8)
    with (
        http_server(slowly(path)) as port,
        StreamSource(f"http://127.0.0.1:{port}/{name}", SHORT) as source,
    ):
        assert source.info.has_audio
        assert source.info.dropped_streams == ("audio",)
        frames = source.frames()
        numbers = [media.number_of(taken(next(frames))) for _ in range(20)]
        assert numbers == list(range(20))
        with pytest.raises(SourceError, match=r"clip\.\w+: ended; check the sender"):
            next(frames)


def test_a_stream_whose_alpha_layer_is_not_decoded_is_refused(tmp_path: Path) -> None:
    path = media.write_video(
        tmp_path / "clip.ts", codec="libx265", options={"x265-params": "log-level=none"}, count=5
    )
    plain = path.read_bytes()
    with (
        http_server(slowly(path)) as port,
        StreamSource(f"http://127.0.0.1:{port}/clip.ts", SHORT) as source,
    ):
        assert media.number_of(taken(next(source.frames()))) == 0
    # The encoder's own message becomes one on alpha (ITU-T H.265, D.2.38).
    told = b"\x4e\x01\x05"
    assert plain.count(told) == 1
    path.write_bytes(plain.replace(told, b"\x4e\x01\xa5"))
    with (
        http_server(slowly(path)) as port,
        pytest.raises(SourceError, match="transparency cannot be decoded"),
    ):
        StreamSource(f"http://127.0.0.1:{port}/clip.ts", SHORT)


def test_a_sender_that_hangs_up_is_an_error(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.ts", count=20)
    with (
        http_server(slowly(path, stated=False)) as port,
        StreamSource(f"http://127.0.0.1:{port}/", SHORT) as source,
    ):
        assert "connection lost" in str(read_until_error(source.frames()))


def test_pictures_of_a_motion_jpeg_camera_arrive() -> None:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        for number in range(200):
            data = cv2.imencode(".jpg", media.card((192, 128), number))[1].tobytes()
            if number == 5:
                data = data[: len(data) // 2]  # a damaged one
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            handler.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(0.02)

    with (
        http_server(answer) as port,
        StreamSource(f"http://127.0.0.1:{port}/video.mjpg", SHORT) as source,
    ):
        numbers = [media.number_of(one) for one in pictures(source, 10)]
        assert numbers == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
        assert source.corrupt == 1


def test_a_live_playlist_is_played_at_its_own_pace(tmp_path: Path) -> None:
    parts = {
        f"/{part}.ts": media.write_video(
            tmp_path / f"{part}.ts",
            frames=[media.card(number=part * 10 + number) for number in range(10)],
            pts=[part * 10 + number for number in range(10)],
        ).read_bytes()
        for part in range(2)
    }
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1"]
    lines += [f"#EXTINF:0.4,\n{name[1:]}" for name in parts]
    asked = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        data = parts.get(handler.path, "\n".join([*lines, "#EXT-X-ENDLIST\n"]).encode())
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    with (
        http_server(answer) as port,
        StreamSource(f"http://127.0.0.1:{port}/list.m3u8") as source,
    ):
        began_us = time.monotonic_ns() // 1000
        frames = source.frames()
        got = [next(frames) for _ in range(20)]
        assert [media.number_of(taken(one)) for one in got] == list(range(20))
        # The muxer lets the second part begin 3 frames early.
        assert got[-1].frame.pts - began_us >= 17 * 40_000 - 1
    assert set(asked) == {"/list.m3u8", *parts}


def test_a_playlist_reaches_no_other_protocol() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        target = f"https://127.0.0.1:{other.getsockname()[1]}/part.ts"
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", target, "#EXT-X-ENDLIST\n"]

        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write("\n".join(lines).encode())

        with http_server(answer) as port, pytest.raises(SourceError):
            StreamSource(f"http://127.0.0.1:{port}/list.m3u8", StreamOptions(open_timeout_s=2.0))
        other.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody came
            other.accept()


def test_a_container_that_is_not_meant_for_streams_is_not_even_probed(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.mkv")
    with http_server(slowly(path)) as port, pytest.raises(SourceError, match="no kind of video"):
        StreamSource(f"http://127.0.0.1:{port}/clip.mkv")


def test_what_follows_a_damaged_picture_is_left_out_up_to_the_next_key_frame(
    tmp_path: Path,
) -> None:
    cards = [media.card((192, 128), number) for number in range(28)]
    for number, one in enumerate(cards):
        one[:, :64] = np.roll(marker(6, 128, 64), 8 * number, axis=0)
    options = {"g": "10", "bf": "0", "crf": "28", "sc_threshold": "0"}
    path = media.write_video(
        tmp_path / "clip.flv", frames=cards, size_wh=(192, 128), options=options
    )
    with av.open(path) as container:
        packets = [one for one in container.demux(video=0) if one.size]
    assert [number for number, one in enumerate(packets) if one.is_keyframe] == [0, 10, 20]
    data, at = bytearray(path.read_bytes()), packets[13].pos
    assert at is not None
    middle = at + packets[13].size // 2
    data[middle : middle + 100] = bytes(100)
    path.write_bytes(bytes(data))
    with (
        http_server(slowly(path)) as port,
        StreamSource(f"http://127.0.0.1:{port}/", SHORT) as source,
    ):
        numbers = []
        with pytest.raises(SourceError, match="ended"):
            for captured in source.frames():
                numbers.append(media.number_of(taken(captured)))
        assert numbers == [*range(13), *range(20, 28)]
        assert source.corrupt == 1


def test_a_redirect_is_not_followed() -> None:
    asked = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        handler.end_headers()

    with http_server(answer) as port, pytest.raises(SourceError, match="redirects"):
        StreamSource(f"http://127.0.0.1:{port}/here")
    assert asked == ["/here"]


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        handler.send_error(404)

    with http_server(answer) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(SourceError, match="connection refused"):
            StreamSource("http://127.0.0.1:1/x")
    assert asked == []


@pytest.mark.parametrize(("status", "says"), [(401, "user or password"), (404, "no such path")])
def test_what_a_server_refuses_is_said_without_the_password(status: int, says: str) -> None:
    sent = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        sent.append(handler.headers["Authorization"])
        handler.send_response(status)
        if status == 401:
            handler.send_header("WWW-Authenticate", 'Basic realm="camera"')
        handler.end_headers()

    who = "viewer:hush@"
    with http_server(answer) as port:
        url = f"http://{who}127.0.0.1:{port}/x?token=quiet"
        with pytest.raises(SourceError, match=says) as caught:
            StreamSource(url)
    said = everything_of(caught.value)
    assert not any(word in said for word in ("viewer", "hush", "quiet"))
    control = base64.b64encode(b"viewer:hush").decode()
    assert status != 401 or any(control in (one or "") for one in sent)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text("<html>a login page</html>" * 100)
    with http_server(slowly(page)) as port, pytest.raises(SourceError, match="no video"):
        StreamSource(f"http://127.0.0.1:{port}/")


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = media.write_sound(tmp_path / "sound.ts")
    with http_server(slowly(path)) as port, pytest.raises(SourceError, match="found: audio"):
        StreamSource(f"http://127.0.0.1:{port}/")


def test_sound_that_goes_on_does_not_hide_that_the_picture_stopped(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "clip.ts", count=10, audio_s=30)
    with (
        http_server(slowly(path, chunk=1880, pause_s=0.05)) as port,
        StreamSource(f"http://127.0.0.1:{port}/", SHORT) as source,
    ):
        assert "no whole picture came for 3 s" in str(read_until_error(source.frames()))


def test_a_size_that_changes_on_the_way_is_fitted(tmp_path: Path) -> None:
    path = media.write_changing_size(tmp_path / "clip.ts", [(96, 64), (64, 96), (192, 128)])
    with (
        http_server(slowly(path)) as port,
        StreamSource(f"http://127.0.0.1:{port}/", first_frame_id=5) as source,
    ):
        frames = source.frames()
        got = [next(frames) for _ in range(18)]
        assert [one.frame.frame_id for one in got if one.restart] == [11, 17]
        assert {taken(one).shape for one in got} == {(64, 96, 3)}


# ----------------------------------------------------------------- TLS


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate that nobody has signed, as many cameras have, and its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl to make a certificate with")
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(files[0])]
    subprocess.run([*command, "-keyout", str(files[1])], capture_output=True, check=True)
    return files


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: tuple[Path, Path]) -> None:
    with RtspServer(user="viewer", password=PASSWORD, tls=certificate) as server:
        with pytest.raises(SourceError, match="certificate is not trusted"):
            StreamSource(server.url)
        with StreamSource(server.url, StreamOptions(ca_file=str(certificate[0]))) as source:
            assert len(pictures(source, 2)) == 2
            assert source.info.warnings == ()
        with StreamSource(server.url, StreamOptions(verify_tls=False)) as source:
            assert len(pictures(source, 2)) == 2
            assert "certificate is not checked" in source.info.warnings[0]
        trusted = ("/nowhere", str(certificate[0]))
        with StreamSource(server.url, trusted=trusted) as source:  # as one that the system trusts
            assert len(pictures(source, 2)) == 2


# ----------------------------------------------------------------- addresses and options


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("srt://me:hush@camera:9000", "has no SRT"),
        ("rtsp://me:hush hush@127.0.0.1:1/live", "127.0.0.1:1/live: connection refused"),
        ("rtsp://me:hush#hush@127.0.0.1:1/live", "127.0.0.1:1/live: connection refused"),
        ("me:hush@127.0.0.1:1/live", "write its scheme"),
        ("file:///etc/passwd", "names no host"),
        ("file://localhost/etc/passwd", "is no stream that can be read"),
        ("/etc/passwd", "is no address"),
        ("concat:rtsp://a|rtsp://b", "is no address"),
        ("rtsp://", "names no host"),
        ("rtsp://me:hush@camera/a b", "holds spaces"),
        ("rtmp://me:hush@camera/a\r\nb", "is no address"),
        ("rtsp://me:hush@no-such-host.invalid/live", "host is unknown"),
        ("rtsp://me:hush/hush@127.0.0.1:1/live", "connection refused"),
        ("rtsp://me:12/hush@127.0.0.1:1/live", "several ways"),
        ("RTSP://127.0.0.1:1/live", "connection refused"),
        ("rtmp://me:hush@127.0.0.1:1/live", "connection refused"),
        ("rtsps://me:hush@127.0.0.1:1/live", "connection refused"),
        ("https://me:hush@127.0.0.1:1/live", "connection refused"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line_that_says_why(url: str, says: str) -> None:
    with pytest.raises(SourceError, match=says) as caught:
        StreamSource(url)
    assert "\n" not in str(caught.value)
    assert "hush" not in everything_of(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"transport": "http"},
        {"open_timeout_s": 0.0},
        {"read_timeout_s": float("inf")},
        {"max_pixels": 0},
        {"threads": 0},
        {"threads": "2"},
        {"x": 1},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StreamOptions.model_validate(wrong)


@pytest.mark.parametrize("wrong", [{"first_frame_id": -1}, {"size_wh": (0, 10)}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        StreamSource("rtsp://127.0.0.1:1/live", **wrong)


def test_a_closed_source_gives_no_frames_and_its_last_one_stays_valid() -> None:
    with RtspServer() as server:
        with StreamSource(server.url) as source:
            frame = next(source.frames()).frame
        with frame.analysis() as bgr:
            assert bgr.any()
        frame.release()
        assert source._pool.outstanding == 0
        with pytest.raises(SourceError, match="once only"):
            source.frames()
        again = StreamSource(server.url)
        frames = again.frames()
        again.close()
        with pytest.raises(SourceError, match="was closed before"):
            next(frames)


def test_close_lets_go_of_the_connection() -> None:
    with RtspServer() as server:
        before = set(Path("/proc/self/fd").iterdir())
        with StreamSource(server.url) as source:
            next(source.frames()).frame.release()
            assert set(Path("/proc/self/fd").iterdir()) > before
        assert set(Path("/proc/self/fd").iterdir()) == before
    wait_until(lambda: source._container is None)
