"""Cameras that give one picture at a time: polled, and alive while they answer."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from m2fp_stream.core.errors import SourceError, UsageError
from m2fp_stream.core.plan import Why
from m2fp_stream.pipeline.live.capture import Capture, CaptureOptions, Inbox
from m2fp_stream.sources.base import Captured
from m2fp_stream.sources.options import StreamOptions
from m2fp_stream.sources.snapshot import HttpCameras, SnapshotSource
from m2fp_stream.sources.stream import StreamSource
from tests.kit import media
from tests.kit.http_camera import SIZE_WH, HttpCamera, jpeg
from tests.kit.wait import PATIENCE_S, wait_until
from tests.unit.test_source_stream import AWKWARD, everything_of

FAST_S = 0.01
SHORT = StreamOptions(open_timeout_s=5.0, read_timeout_s=2.0)


@pytest.fixture
def camera() -> Iterator[HttpCamera]:
    with HttpCamera() as camera:
        yield camera


def number_of(captured: Captured) -> int:
    with captured.frame.analysis() as bgr:
        number = media.number_of(bgr)
    captured.frame.release()
    return number


def numbers(source: SnapshotSource, count: int) -> list[int]:
    found = []
    for captured in source.frames():
        found.append(number_of(captured))
        if len(found) == count:
            break
    return found


def test_pictures_arrive_one_after_the_other_over_one_connection(camera: HttpCamera) -> None:
    with SnapshotSource(camera.url("/snap.jpg"), interval_s=FAST_S) as source:
        assert source.info.size_wh == SIZE_WH
        assert numbers(source, 10) == list(range(10))
    assert camera.connections == 1


def test_a_server_that_closes_each_connection_serves_as_well(camera: HttpCamera) -> None:
    camera.keep_alive = False
    with SnapshotSource(camera.url("/snap.jpg"), interval_s=FAST_S) as source:
        assert numbers(source, 5) == list(range(5))


def test_it_is_asked_at_the_rate_that_is_configured(camera: HttpCamera) -> None:
    with SnapshotSource(camera.url("/snap.jpg"), interval_s=0.2) as source:
        assert source.info.average_rate == 5
        began_s = time.monotonic()
        assert numbers(source, 4) == [0, 1, 2, 3]
        assert time.monotonic() - began_s >= 0.59  # the first is there at once


@pytest.mark.parametrize("how", ["tag", "modified"])
def test_a_picture_that_has_not_changed_is_not_sent_again_and_the_camera_is_alive(
    camera: HttpCamera, how: str
) -> None:
    setattr(camera, how, True)
    camera.step = 0
    with SnapshotSource(camera.url("/snap.jpg"), interval_s=FAST_S) as source:
        frames = source.frames()
        assert [number_of(next(frames)) for _ in range(5)] == [0] * 5
        assert camera.statuses == [200, 304, 304, 304, 304]
        camera.shown = 9
        assert number_of(next(frames)) == 9
    assert camera.statuses[-1] == 200


def test_without_a_tag_the_same_picture_again_is_alive(camera: HttpCamera) -> None:
    camera.step = 0
    with SnapshotSource(camera.url("/snap.jpg"), interval_s=FAST_S) as source:
        assert numbers(source, 5) == [0] * 5


@pytest.mark.parametrize("how", ["half", "lies_about_length", "body"])
def test_damaged_pictures_are_left_out(camera: HttpCamera, how: str) -> None:
    with SnapshotSource(camera.url("/snap.jpg"), interval_s=FAST_S) as source:
        frames = source.frames()
        assert number_of(next(frames)) == 0
        setattr(camera, how, b"\xff\xd8\xff no picture" if how == "body" else True)
        asked = len(camera.statuses)

        def mend() -> None:
            wait_until(lambda: len(camera.statuses) >= asked + 3)
            setattr(camera, how, None if how == "body" else False)

        thread = threading.Thread(target=mend)
        thread.start()
        assert number_of(next(frames)) >= 3
        thread.join()
        assert (source.corrupt > 0) == (how != "lies_about_length")


def test_a_damaged_block_in_the_middle_is_left_out(camera: HttpCamera) -> None:
    data = bytearray(jpeg(3))
    middle = len(data) * 2 // 3
    data[middle : middle + 40] = b"\xff\x00" * 20
    with SnapshotSource(camera.url("/snap.jpg"), interval_s=FAST_S) as source:
        assert source._decoded(bytearray(jpeg(3))) is not None
        assert source._decoded(data) is None


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp"])
def test_other_kinds_of_pictures_are_read_too(camera: HttpCamera, suffix: str) -> None:
    camera.body = cv2.imencode(suffix, media.card(SIZE_WH, 4))[1].tobytes()
    camera.kind = "image/x-whatever"
    with SnapshotSource(camera.url("/snap.jpg"), interval_s=FAST_S) as source:
        assert numbers(source, 2) == [4, 4]


EXIF_TURNS = {
    1: None,
    3: cv2.ROTATE_180,
    6: cv2.ROTATE_90_COUNTERCLOCKWISE,
    8: cv2.ROTATE_90_CLOCKWISE,
}
"""What makes the stored picture of the upright one."""


@pytest.mark.parametrize("path", ["/snap.jpg", "/motion"])
@pytest.mark.parametrize(("tag", "turn"), EXIF_TURNS.items())
def test_a_picture_comes_upright(camera: HttpCamera, tag: int, turn: int | None, path: str) -> None:
    upright = media.card(SIZE_WH, 11)
    stored = upright if turn is None else cv2.rotate(upright, turn)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, tag, 0) + bytes(4)
    data = cv2.imencode(".jpg", stored)[1].tobytes()
    camera.body = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    with HttpCameras(camera.url(path), StreamOptions(), interval_s=FAST_S)(0, None) as source:
        captured = next(source.frames())
        assert captured.frame.size_wh == SIZE_WH
        with captured.frame.analysis() as bgr:
            found, wanted = media.corners(bgr), media.corners(upright)
        captured.frame.release()
    assert np.allclose([found[name] for name in wanted], list(wanted.values()), atol=12)


def test_another_size_is_fitted_and_restarts(camera: HttpCamera) -> None:
    with SnapshotSource(camera.url("/snap.jpg"), interval_s=FAST_S) as source:
        frames = source.frames()
        next(frames).frame.release()
        camera.body = cv2.imencode(".jpg", media.card((96, 64), 7))[1].tobytes()
        captured = next(frames)
        while not captured.restart:
            captured.frame.release()
            captured = next(frames)
        assert captured.frame.size_wh == SIZE_WH
        assert number_of(captured) == 7


@pytest.mark.parametrize("digest", [None, "MD5", "SHA-256"])
def test_passwords_with_special_characters_are_understood_encoded_and_raw(
    digest: str | None,
) -> None:
    for password in AWKWARD:
        with HttpCamera(user="v", password=password, digest=digest) as camera:
            for raw in (False, True):
                with SnapshotSource(
                    camera.url("/snap.jpg?x=1", raw=raw), interval_s=FAST_S
                ) as source:
                    assert len(numbers(source, 3)) == 3
            # Asked for once, then handed over with each question.
            assert camera.statuses.count(401) == 2
            camera.nonce = "n1"  # a digest's grows old
            with SnapshotSource(camera.url("/snap.jpg"), interval_s=FAST_S) as source:
                frames = source.frames()
                number_of(next(frames))
                camera.nonce = "n2"
                number_of(next(frames))


def test_a_password_is_not_sent_before_it_is_asked_for(camera: HttpCamera) -> None:
    url = camera.url("/snap.jpg").replace("http://", "http://me:hush@")
    with SnapshotSource(url, interval_s=FAST_S) as source:
        numbers(source, 3)
    assert camera.authorizations == []


@pytest.mark.parametrize("digest", [None, "MD5"])
def test_a_wrong_password_is_one_line_without_it(digest: str | None) -> None:
    with HttpCamera(user="viewer", password="another", digest=digest) as camera:
        url = camera.url("/snap.jpg").replace("another", "hush")
        with pytest.raises(SourceError, match="user or password") as caught:
            SnapshotSource(url)
        assert camera.statuses == [401, 401]
    assert not any(word in everything_of(caught.value) for word in ("viewer", "hush"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": 404}, "no such path"),
        ({"status": 302}, "redirects"),
        ({"status": 503}, "answers 503"),
        ({"kind": "text/html"}, "is no picture"),
        ({"half": True}, "no whole picture"),
        ({"body": b"GIF89a"}, "no whole picture"),
    ],
)
def test_what_gives_no_picture_is_one_line_that_says_why(
    camera: HttpCamera, change: dict[str, object], says: str
) -> None:
    for name, value in change.items():
        setattr(camera, name, value)
    url = camera.url("/snap.jpg?token=hush")
    with pytest.raises(SourceError, match=says) as caught:
        SnapshotSource(url)
    assert "hush" not in everything_of(caught.value)
    assert camera.statuses in ([200], [change.get("status")])  # nobody was asked elsewhere


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:1/snap.jpg", "connection refused"),
        ("http://no-such-host.invalid/snap.jpg", "host is unknown"),
        ("rtsp://127.0.0.1/snap.jpg", "by http"),
        ("http://me:12/hush@camera/snap.jpg", "several ways"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(url: str, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        SnapshotSource(url)


def test_a_picture_above_a_limit_is_refused(camera: HttpCamera) -> None:
    with pytest.raises(SourceError, match="192x128 exceed the limit"):
        SnapshotSource(camera.url("/snap.jpg"), StreamOptions(max_pixels=1000))
    with pytest.raises(SourceError, match="larger than 0 MB"):
        SnapshotSource(camera.url("/snap.jpg"), most_bytes=1000)


def test_a_server_that_does_not_answer_is_an_error_within_the_time_out(
    camera: HttpCamera,
) -> None:
    camera.silent.set()
    with pytest.raises(SourceError, match=r"no answer within 0\.5 s"):
        SnapshotSource(camera.url("/snap.jpg"), StreamOptions(open_timeout_s=0.5))


def test_a_server_that_gives_a_byte_now_and_then_is_an_error_within_the_time_out() -> None:
    ended = threading.Event()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff")
            while not ended.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/snap.jpg"
        with pytest.raises(SourceError, match="no answer within"):
            SnapshotSource(url, StreamOptions(open_timeout_s=0.5))
        ended.set()
        thread.join()


def test_a_camera_that_misses_once_is_alive_and_one_that_goes_silent_is_lost(
    camera: HttpCamera,
) -> None:
    with SnapshotSource(camera.url("/snap.jpg"), SHORT, interval_s=0.05) as source:
        frames = source.frames()
        number_of(next(frames))
        camera.status = 503
        asked = len(camera.statuses)

        def mend() -> None:
            wait_until(lambda: len(camera.statuses) > asked)
            camera.status = 200

        wait = threading.Thread(target=mend)
        wait.start()
        number_of(next(frames))
        wait.join()
        camera.silent.set()
        with pytest.raises(SourceError, match="no answer within"):
            while True:
                number_of(next(frames))


def test_no_proxy_of_the_environment_is_used(
    camera: HttpCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", camera.url(""))
    with pytest.raises(SourceError, match="refused"):
        SnapshotSource("http://127.0.0.1:1/snap.jpg")
    assert camera.statuses == []


def test_certificates_are_checked(tmp_path: Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl to make a certificate with")
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(files[0])]
    subprocess.run([*command, "-keyout", str(files[1])], capture_output=True, check=True)
    with HttpCamera(tls=files) as camera:
        url = camera.url("/snap.jpg")
        with pytest.raises(SourceError, match="certificate is not trusted"):
            SnapshotSource(url)
        for options in (StreamOptions(ca_file=str(files[0])), StreamOptions(verify_tls=False)):
            with SnapshotSource(url, options, interval_s=FAST_S) as source:
                assert len(numbers(source, 2)) == 2
    with pytest.raises(SourceError, match=r"check stream\.ca_file"):
        SnapshotSource(url, StreamOptions(ca_file=str(tmp_path / "none")))


@pytest.mark.parametrize("interval_s", [0.0, -1.0, float("nan"), 1e9])
def test_an_interval_out_of_range_is_refused(interval_s: float) -> None:
    with pytest.raises(UsageError, match="interval_s"):
        SnapshotSource("http://127.0.0.1:1/", interval_s=interval_s)


# ----------------------------------------------------------------- stream or snapshot


@pytest.mark.parametrize("digest", [None, "MD5"])
def test_what_an_address_gives_is_told_by_the_answer(digest: str | None) -> None:
    with HttpCamera(user="v", password="p@s/s", digest=digest) as camera:
        for path, kind in (("/motion", StreamSource), ("/snap.jpg", SnapshotSource)):
            cameras = HttpCameras(camera.url(path), StreamOptions(), interval_s=FAST_S)
            for first in (0, 100):
                with cameras(first, None) as source:
                    assert type(source) is kind
                    captured = next(source.frames())
                    assert captured.frame.frame_id == first
                    captured.frame.release()


def test_a_camera_whose_digest_is_stronger_than_ffmpegs_gives_snapshots() -> None:
    with HttpCamera(user="v", password="p@s/s", digest="SHA-256") as camera:
        cameras = HttpCameras(camera.url("/snap.jpg"), StreamOptions(), interval_s=1)
        with cameras(0, None) as source:
            assert isinstance(source, SnapshotSource)


@pytest.mark.parametrize("digest", [None, "MD5"])
def test_a_wrong_password_is_tried_once(digest: str | None) -> None:
    with HttpCamera(user="viewer", password="another", digest=digest) as camera:
        url = camera.url("/snap.jpg").replace("another", "hush")
        with pytest.raises(SourceError, match="user or password"):
            HttpCameras(url, StreamOptions(), interval_s=1)(0, None)
        assert len(camera.authorizations) == 1  # a camera locks out who tries too often


def test_what_is_neither_is_the_streams_error(camera: HttpCamera) -> None:
    camera.kind, camera.body = "text/html", b"<html>a login page</html>" * 100
    with pytest.raises(SourceError, match="no kind of video"):
        HttpCameras(camera.url("/snap.jpg"), StreamOptions(), interval_s=1)(0, None)


@pytest.mark.parametrize("path", ["/still", "/snap.jpg"])
def test_a_camera_of_a_still_scene_stays_and_one_that_stalls_goes_and_comes_back(
    path: str,
) -> None:
    with HttpCamera(fps=20) as camera:
        camera.step = 0
        options = CaptureOptions(input="x", backoff_s=0.05, max_backoff_s=0.1)
        cameras = HttpCameras(camera.url(path), SHORT, interval_s=0.05)
        capture = Capture(cameras, options, endless=True)
        inbox = Inbox(2)
        capture.connect()
        capture.start(inbox)
        try:
            wait_until(lambda: capture.frames > 30)
            assert capture.away is None
            assert capture.reconnects == 0
            # A busy machine reads several at once now and then.
            wait_until(lambda: 0.02 < (capture.interval_s or 0.0) < PATIENCE_S)
            if path == "/snap.jpg":
                camera.silent.set()
                wait_until(lambda: capture.away is Why.SOURCE_AWAY)
                camera.silent.clear()
                wait_until(lambda: capture.away is None)
                assert capture.reconnects > 0
        finally:
            capture.stop()
            with inbox.changed:
                while (one := inbox.get()) is not None:
                    one.frame.release()


@pytest.mark.parametrize("fps", [1.0, 1.5])
def test_a_slow_camera_is_given_the_time_that_it_takes(fps: float) -> None:
    with HttpCamera(fps=fps) as camera:
        cameras = HttpCameras(camera.url("/motion"), StreamOptions(), interval_s=1)
        capture = Capture(cameras, CaptureOptions(input="x"), endless=True)
        inbox = Inbox(2)
        capture.connect()
        capture.start(inbox)
        try:
            wait_until(lambda: capture.frames > 4)
            assert capture.away is None
            assert capture.away_after_s > 1.5 / fps
        finally:
            capture.stop()
            with inbox.changed:
                while (one := inbox.get()) is not None:
                    one.frame.release()
