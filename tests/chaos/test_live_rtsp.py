"""A real RTSP server is killed, frozen, resized, damaged and delayed while it is watched.

The person, marked by a texture that H.264 leaves recognisable, stands still in every picture.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import psutil
import pytest

from m2fp_stream.sources.options import StreamOptions
from m2fp_stream.sources.stream import StreamSource
from tests.kit import faulty, media
from tests.kit.live_stage import TEXTURE, Performance, Seen, Watching, room
from tests.kit.rtsp import RtspServer, Wire, require_rtsp
from tests.kit.stage import HEIGHT, WIDTH
from tests.kit.texture import contains_marker
from tests.kit.wait import wait_until

pytestmark = pytest.mark.paced

SIZE_WH = (WIDTH, HEIGHT)
BOX = faulty.person_box(0)


def pictures(seed: int, scale: int = 1) -> list[media.BGR]:
    """A room that lives (a lamp flickers), with the marked person in it."""
    left, top, right, bottom = BOX
    made = []
    for number in range(20):
        picture = room(seed)
        picture[8:24, 8:24, 1:] = 40 + 10 * number
        picture[top:bottom, left:right] = TEXTURE
        size_wh = WIDTH * scale, HEIGHT * scale
        large = cv2.resize(picture, size_wh, interpolation=cv2.INTER_NEAREST)
        made.append(np.asarray(large, np.uint8))
    return made


def shows_person(pixels: media.BGR, _: int) -> bool:
    left, top, right, bottom = BOX
    return contains_marker(pixels[top:bottom, left:right], TEXTURE)


@contextmanager
def watching(url: str) -> Iterator[Performance]:
    options = StreamOptions(open_timeout_s=5.0, read_timeout_s=3.0)
    stage = Performance(
        open_source=lambda first, size_wh: StreamSource(
            url, options, first_frame_id=first, size_wh=size_wh
        ),
        look=shows_person,
    )
    with stage:
        yield stage


@pytest.fixture
def server() -> Iterator[RtspServer]:
    require_rtsp()
    with RtspServer(pictures(0), size_wh=SIZE_WH, fps=25, kbit=4000) as started:
        yield started


def assert_nothing_shown(stage: Performance) -> None:
    assert stage.error is None
    assert stage.raw_frames() == []


def test_the_search_finds_the_person_in_what_the_server_sends(server: RtspServer) -> None:
    """The bypass control: the decoded picture itself."""
    seen: list[Seen] = []
    sink = Watching(seen, look=shows_person)
    with StreamSource(server.url) as source:
        for number, captured in enumerate(source.frames()):
            with captured.frame.analysis() as bgr:
                sink.write(media.composed(bgr, number))
            captured.frame.release()
            if number == 10:
                break
    sink.abort()
    assert all(one.raw for one in seen)


@pytest.mark.parametrize("times", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_server_killed_again_and_again_is_found_again(server: RtspServer, times: int) -> None:
    process = psutil.Process()
    with watching(server.url) as stage:
        stage.picture()
        threads, descriptors = threading.active_count(), process.num_fds()
        for number in range(times):
            server.kill()
            wait_until(lambda: stage.capture.away is not None)
            server.start()
            wait_until(lambda n=number: stage.capture.reconnects > n)  # type: ignore[misc]  # now
            stage.picture(time.monotonic())
        # One more connection than before may be closing.
        wait_until(
            lambda: threading.active_count() <= threads + 1 and process.num_fds() <= descriptors + 2
        )
    assert_nothing_shown(stage)


def test_a_frozen_server_is_the_card_until_it_thaws(server: RtspServer) -> None:
    with watching(server.url) as stage:
        stage.picture()
        server.freeze()
        frozen_s = time.monotonic()
        stage.card(frozen_s + 0.2)
        server.thaw()
        stage.picture(time.monotonic())
    assert_nothing_shown(stage)


def test_another_size_is_fitted_and_covered(server: RtspServer) -> None:
    with watching(server.url) as stage:
        stage.picture()
        server.kill()
        wait_until(lambda: stage.capture.away is not None)
        server.start(pictures(3, scale=2))
        wait_until(lambda: stage.capture.reconnects > 0)
        stage.picture(time.monotonic())
        time.sleep(0.5)
    assert_nothing_shown(stage)


def test_damage_and_delay_on_the_way_show_nobody(server: RtspServer) -> None:
    with Wire(server.port, delay_s=0.05) as wire:
        with watching(server.url_at(wire.port)) as stage:
            stage.picture()
            wire.flip_every = 20_000  # not before: a run that cannot connect at all ends
            wait_until(lambda: wire.flipped > 40)
            wire.cut()
            wire.flip_every = 200_000  # less, or no key frame might be whole for long
            stage.picture(time.monotonic() + 0.5)
        assert_nothing_shown(stage)
        assert stage.capture.reconnects > 0


def test_a_silent_server_is_the_card_and_is_found_again(server: RtspServer) -> None:
    with Wire(server.port) as wire, watching(server.url_at(wire.port)) as stage:
        stage.picture()
        wire.silent = True
        silent_s = time.monotonic()
        stage.card(silent_s + 0.2)
        wire.silent = False
        stage.picture(time.monotonic())
    assert_nothing_shown(stage)
