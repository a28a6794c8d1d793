"""Streams joined midway, with key frames far apart, and over networks that lose packets.

What is given is whole, and what can be waited for is waited for. Key frames are further apart here
than the time-outs last; the server goes on when the source has said that it waits.
"""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
import pytest

from m2fp_stream.core.errors import SourceError
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.h264 import H264Reader
from m2fp_stream.sources.options import StreamOptions
from m2fp_stream.sources.stream import StreamSource
from tests.kit import media
from tests.kit.oddities import without
from tests.kit.rtsp import LossyUdp, RtspServer, require_rtsp
from tests.kit.texture import marker
from tests.kit.wait import PATIENCE_S, wait_until
from tests.unit.test_source_stream import http_server, taken

SIZE_WH = (64, 48)
OPTIONS = StreamOptions(open_timeout_s=1.0, read_timeout_s=3.0)
PAUSE_S = 0.1


@dataclass
class Film:
    """A transport stream in the packets of its frames, and what is to be seen in it."""

    frames: list[bytes]
    units: list[bytes]
    keys: list[int]
    pictures: list[bytes]

    def __getitem__(self, part: slice) -> bytes:
        return b"".join(self.frames[part])


def film(path: Path, count: int, options: str, lost: Collection[int] = ()) -> Film:
    """Writes a film without reordering; of its packets, those `lost` are left out."""
    ground, spot = marker(1, *SIZE_WH[::-1]), marker(2, 16, 16)

    def moving() -> Iterator[media.BGR]:
        for number in range(count):
            picture = np.roll(ground, number, axis=1)
            picture[16:32, number % 40 : number % 40 + 16] = spot
            yield picture

    whole = media.write_video(
        path.with_suffix(".whole.ts"),
        frames=moving(),
        size_wh=SIZE_WH,
        options={"preset": "veryfast", "x264-params": f"bframes=0:scenecut=0:{options}"},
    )
    pictures = []
    with FileSource(whole) as source:
        for captured in source.frames():
            pictures.append(taken(captured).tobytes())
    copy = without(whole, path, lost)
    data = copy.read_bytes()
    with av.open(copy) as container:
        packets = [one for one in container.demux(video=0) if one.size]
    starts = [one.pos for one in packets]
    assert all(start is not None for start in starts)
    bounds = [0, *starts[1:], len(data)]
    frames = [data[bounds[at] : bounds[at + 1]] for at in range(len(packets))]
    keys = [number for number, one in enumerate(packets) if one.is_keyframe]
    return Film(frames, [bytes(one) for one in packets], keys, pictures)


@dataclass
class Camera:
    """Sends parts of a film; the slow ones frame by frame, until `go_on`, then without a pause."""

    parts: Sequence[tuple[Film, slice, bool]]

    def __post_init__(self) -> None:
        self.go_on, self.ended = threading.Event(), threading.Event()

    def __call__(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for film, part, slow in self.parts:
            for frame in film.frames[part]:
                handler.wfile.write(frame)
                if slow:
                    self.go_on.wait(PAUSE_S)
        self.ended.wait(PATIENCE_S)


def seen(source: StreamSource, count: int) -> list[bytes]:
    frames = source.frames()
    return [taken(next(frames)).tobytes() for _ in range(count)]


@pytest.mark.parametrize("options", ["keyint=300:min-keyint=300"])
def test_a_late_joiner_waits_for_a_key_frame_while_packets_come_and_says_so(
    tmp_path: Path, options: str
) -> None:
    shot = film(tmp_path / "film.ts", 420, options)
    assert shot.keys == [0, 300]
    camera = Camera(
        [
            (shot, slice(40, 140), False),
            (shot, slice(140, 300), True),
            (shot, slice(300, 420), False),
        ]
    )
    # A busy machine may send a packet late; nothing here waits for that time-out.
    patient = OPTIONS.model_copy(update={"read_timeout_s": PATIENCE_S / 4})
    notices: list[str] = []
    began = time.monotonic()

    def note(words: str) -> None:
        notices.append(words)
        wait_until(lambda: time.monotonic() - began > 1.5 * OPTIONS.open_timeout_s)
        camera.go_on.set()

    with http_server(camera) as port:
        try:
            with StreamSource(f"http://127.0.0.1:{port}/", patient, on_notice=note) as source:
                found = seen(source, 100)
                assert found == shot.pictures[300:400]
                assert source.waiting_for is None
                assert source.corrupt == 0
        finally:
            camera.ended.set()
            camera.go_on.set()
    assert notices == [
        "packets come, but no whole picture; waiting for a key frame, 60 s at most",
        "a key frame came",
    ]


def test_one_damaged_picture_does_not_end_a_stream_whose_key_frames_are_far_apart(
    tmp_path: Path,
) -> None:
    shot = film(tmp_path / "film.ts", 400, "keyint=200:min-keyint=200", {60})
    assert shot.keys == [0, 199]
    camera = Camera(
        [(shot, slice(80), False), (shot, slice(80, 199), True), (shot, slice(199, 399), False)]
    )
    waited: list[str | None] = []

    def note(_: str) -> None:
        waited.append(source.waiting_for)
        camera.go_on.set()

    with http_server(camera) as port:
        try:
            with StreamSource(
                f"http://127.0.0.1:{port}/",
                OPTIONS,
                on_notice=note,
            ) as source:
                assert seen(source, 150) == shot.pictures[:60] + shot.pictures[200:290]
                assert source.corrupt == 1
                assert source.left_out == 199 - 60
        finally:
            camera.ended.set()
            camera.go_on.set()
    assert waited == ["a key frame", None]


def test_a_key_frame_is_not_waited_for_longer_than_told(tmp_path: Path) -> None:
    shot = film(tmp_path / "film.ts", 600, "keyint=600:min-keyint=600")
    camera = Camera([(shot, slice(40, 140), False), (shot, slice(140, 600), True)])
    options = OPTIONS.model_copy(update={"key_frame_timeout_s": 1.2})
    with http_server(camera) as port:
        try:
            with pytest.raises(SourceError, match="no key frame for 1 s; have it send key frames"):
                StreamSource(f"http://127.0.0.1:{port}/", options)
        finally:
            camera.ended.set()
            camera.go_on.set()


@pytest.mark.parametrize("lost", [set(), {150}])
def test_a_stream_without_key_frames_is_joined_when_its_refresh_is_complete(
    tmp_path: Path, lost: set[int]
) -> None:
    shot = film(tmp_path / "film.ts", 300, "intra-refresh=1:keyint=25", lost)
    reader = H264Reader(None)
    pictures = [one for frame in shot.units for one in reader.pictures(frame)]
    assert [one.idr for one in pictures].count(True) == 1
    camera = Camera([(shot, slice(40, 300), False)])
    with http_server(camera) as port:
        try:
            with StreamSource(f"http://127.0.0.1:{port}/", OPTIONS) as source:
                found = seen(source, 180)
                assert source.corrupt == len(lost)
        finally:
            camera.ended.set()
    numbers = [shot.pictures.index(one) for one in found]  # each is one of the intact ones
    assert numbers == sorted(set(numbers))
    left_out = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    assert 41 < numbers[0] < 40 + 2 * 25 + 10
    if lost:
        assert left_out[0] == 150
        assert left_out == list(range(150, left_out[-1] + 1))
        assert len(left_out) <= 2 * 25 + 10
    else:
        assert left_out == []


# ----------------------------------------------------------------- RTSP over UDP


def worst(picture: media.BGR, known: media.BGR) -> float:
    """The mean difference in the block of 16x16 pixels that differs most."""
    difference = np.abs(picture.astype(np.float32) - known).mean(2)
    return float(cv2.blur(difference, (16, 16))[8:-8, 8:-8].max())


def test_over_a_network_that_loses_2_percent_all_that_is_given_is_whole(
    record_property: Callable[[str, object], None],
) -> None:
    require_rtsp()
    known = []
    for number in range(28):
        picture = media.card((192, 128), number)
        picture[32:96, 16:144] = np.roll(marker(3, 64, 128), 6 * number, axis=1)
        known.append(picture)

    def differs(picture: media.BGR) -> float:
        return min(worst(picture, one) for one in known)

    given: list[media.BGR] = []
    with RtspServer(known, fps=25, gop=12) as server, LossyUdp(server.port, seed=1) as network:
        url = server.url_at(network.port)
        with StreamSource(url, StreamOptions(transport="udp")) as source:
            frames = source.frames()
            while len(given) < 60 or network.lost < 10:
                given.append(taken(next(frames)))
            left_out = source.left_out
            assert source.corrupt > 0
        # The control: a player smears.
        shown: list[media.BGR] = []
        with closing(av.open(url, options={"rtsp_transport": "udp"}, timeout=10)) as player:
            for frame in player.decode(video=0):
                shown.append(cast("media.BGR", frame.to_ndarray(format="bgr24")))
                if differs(shown[-1]) > 30 or len(shown) == 500:
                    break
    record_property("packets lost", f"{network.lost} of {network.lost + network.passed}")
    record_property("pictures left out", f"{left_out} of {left_out + len(given)}")
    assert max(map(differs, shown)) > 30
    assert max(map(differs, given)) < 15


def test_what_the_library_says_of_losses_reaches_nobody_else() -> None:
    """Its lines may hold addresses; a process that has set up no logging would show them."""
    require_rtsp()
    program = (
        "import sys; from m2fp_stream.sources.stream import *\n"
        "from m2fp_stream.sources.options import *\n"
        "source = StreamSource(sys.argv[1], StreamOptions(transport='udp'))\n"
        "frames = source.frames()\n"
        "while source.corrupt < 2: next(frames).frame.release()\n"
        "source.close()\n"
        "url = sys.argv[1].replace('viewer', 'nobody')\n"
        "try: StreamSource(url, StreamOptions(transport='udp'))\n"
        "except Exception as error: print(error)\n"
    )
    with (
        RtspServer(user="viewer", password="s3cret") as server,
        LossyUdp(server.port, loss=0.05) as network,
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, server.url_at(network.port)],
            capture_output=True,
            text=True,
            check=True,
        )
    assert "user or password" in done.stdout
    assert "s3cret" not in done.stdout
    assert done.stderr == ""
