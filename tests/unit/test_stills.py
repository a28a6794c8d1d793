"""Still pictures for the page: the real worker, what is no picture, workers that misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import threading
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import psutil
import pytest

from m2fp_stream.app.files import anonymize
from m2fp_stream.app.stills import parse_image
from m2fp_stream.config import Settings
from m2fp_stream.kiosk.stills import StillPatience, StillService
from m2fp_stream.web.stills import BadUpload, Busy, CoveredStill, ParsedStill
from tests.kit.film import LOOKS_LIKE_HER, Bgr, likeness, load_portrait, shows_room
from tests.kit.wait import wait_until_async

T = TypeVar("T")

SECTIONS = {"policy", "parser", "tracking", "compose", "source", "file"}
SETTINGS = Settings().model_dump(mode="json", include=SECTIONS)
PIXELS = 1_000_000
QUICK = StillPatience(waiting=4, deadline_s=2.0, start_s=20.0)


def service(**options: Any) -> StillService:
    return StillService(SETTINGS, **{"max_pixels": PIXELS, **options})


def run(work: Callable[[StillService], Awaitable[T]], **options: Any) -> T:
    """Runs `work` in a loop of its own; the service is closed and leaves nothing."""

    async def all_of_it() -> T:
        stills = service(**options)
        try:
            return await asyncio.wait_for(work(stills), 120)
        finally:
            stills.close()

    return asyncio.run(all_of_it())


def encoded(picture: Bgr, suffix: str = ".png", *parameters: int) -> bytes:
    _, data = cv2.imencode(suffix, picture, list(parameters))
    return data.tobytes()


def decoded(data: bytes, how: int = cv2.IMREAD_COLOR) -> Bgr:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    assert picture is not None
    return np.asarray(picture, np.uint8)


@pytest.fixture(scope="module")
def portrait() -> Bgr:
    return load_portrait()


def test_a_picture_comes_back_exactly_as_the_command_line_makes_it(
    portrait: Bgr, tmp_path: Path
) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(encoded(portrait))
    anonymize(path, tmp_path / "out.png")
    labels = parse_image(path, tmp_path / "labels.png")
    parse_image(path, tmp_path / "palette.png", format="palette")

    async def work(stills: StillService) -> tuple[CoveredStill, ParsedStill, ParsedStill]:
        covered = await stills.anonymize(path.read_bytes())
        index = await stills.parse(path.read_bytes(), palette=False)
        palette = await stills.parse(path.read_bytes(), palette=True)
        assert stills.starts == 1, "one worker for all"
        return covered, index, palette

    covered, index, palette = run(work)
    assert covered.data == (tmp_path / "out.png").read_bytes()
    assert covered.media_type == "image/png"
    assert index.png == (tmp_path / "labels.png").read_bytes()
    assert palette.png == (tmp_path / "palette.png").read_bytes()
    assert dict(index.areas) == labels.labels
    assert index.size_wh == (512, 512)
    picture = decoded(covered.data)
    assert likeness(portrait, portrait) > 0.99, "the control"
    assert likeness(picture, portrait) < LOOKS_LIKE_HER
    assert shows_room(picture, portrait)


def test_zones_of_the_camera_are_none_of_a_picture_that_is_sent_in(portrait: Bgr) -> None:
    """They are places in the camera's picture; in this one somebody else may be there."""
    zones = {"keep_zones": ["0,0,1,1"], "zones": ["0,0,0.5,0.5"], "invert": True}
    settings = {**SETTINGS, "policy": {**SETTINGS["policy"], **zones}}

    async def work() -> tuple[bytes, bytes]:
        covered = []
        for one in (settings, SETTINGS):
            stills = StillService(one, max_pixels=PIXELS)
            try:
                covered.append((await stills.anonymize(encoded(portrait))).data)
            finally:
                stills.close()
        return covered[0], covered[1]

    with_zones, without = asyncio.run(asyncio.wait_for(work(), 120))
    assert likeness(decoded(with_zones), portrait) < LOOKS_LIKE_HER
    assert with_zones == without


def test_anything_but_a_png_comes_back_as_jpeg_without_its_metadata(portrait: Bgr) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0 where she lives"
    jpeg = encoded(portrait, ".jpg")
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]

    async def work(stills: StillService) -> list[CoveredStill]:
        return [await stills.anonymize(one) for one in (jpeg, encoded(portrait, ".webp"))]

    for covered in run(work):
        assert covered.media_type == "image/jpeg"
        assert b"where she lives" not in covered.data
        assert likeness(decoded(covered.data), portrait) < LOOKS_LIKE_HER


def bomb(width: int, height: int) -> bytes:
    """A PNG of black pixels that is a thousandth of what it becomes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    rows = zlib.compress(bytes((width * 3 + 1) * height), 9)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_what_is_no_picture_is_one_plain_sentence_and_the_worker_lives(portrait: Bgr) -> None:
    whole = encoded(portrait)
    damaged = bytearray(encoded(portrait, ".jpg"))
    damaged[200:900] = bytes(700)
    cases = {
        b"": "no picture",
        b"hello": "no picture",
        b"\x89PNG\r\n\x1a\n": "no picture",
        whole[: len(whole) // 2]: "cut short",
        b"GIF89a" + bytes(100): "no picture",
        bytes(damaged): "",  # may be readable: then it is covered
        bomb(2000, 2000): "more than 1000000 pixels",
        b"\x89PNG\r\n\x1a\n" + whole[8:33].replace(b"\0\0\x02\0", b"\xff\xff\xff\xff"): "",
    }

    async def work(stills: StillService) -> int:
        for upload, says in cases.items():
            for ask in (stills.anonymize, lambda data: stills.parse(data, palette=False)):
                try:
                    await ask(upload)
                    assert not says
                except BadUpload as error:
                    text = str(error)
                    assert says in text
                    assert text.startswith("the picture ")
                    assert "\n" not in text
                    assert "/" not in text
                    assert "max_pixels" not in text
        await stills.anonymize(whole)
        return stills.starts

    assert run(work) == 1


def test_a_picture_for_which_there_is_no_memory_is_refused_and_the_next_one_works(
    portrait: Bgr,
) -> None:
    async def work(stills: StillService) -> None:
        await stills.anonymize(encoded(portrait))
        with pytest.raises(BadUpload):
            await stills.anonymize(bomb(16_000, 16_000))
        covered = await stills.anonymize(encoded(portrait))
        assert likeness(decoded(covered.data), portrait) < LOOKS_LIKE_HER

    run(work, max_pixels=260_000_000, memory_bytes=1_600_000_000)


# -- workers that misbehave; tests/kit/still_children ----------------------------------------------


def misbehaving(act: str, **options: Any) -> dict[str, Any]:
    return {"module": f"tests.kit.still_children.{act}", "patience": QUICK, **options}


@pytest.mark.parametrize("act", ["dies", "lies", "no_json", "empty", "half"])
def test_a_worker_that_dies_or_lies_is_replaced(act: str) -> None:
    async def work(stills: StillService) -> None:
        pids = []
        for _ in range(2):
            with pytest.raises(BadUpload, match="could not be worked on"):
                await stills.anonymize(b"upload")
            assert stills.pid is None
            pids.append(stills.starts)
        assert pids == [1, 2]

    run(work, **misbehaving(act))


def test_a_worker_that_hangs_is_killed_at_the_deadline() -> None:
    async def work(stills: StillService) -> None:
        asking = asyncio.ensure_future(stills.parse(b"upload", palette=False))
        worker = psutil.Process(await wait_until_async(lambda: stills.pid))
        with pytest.raises(Busy, match="too long"):
            await asking
        assert not worker.is_running()

    run(work, **misbehaving("hangs"))


def test_a_worker_that_cannot_start_means_not_now() -> None:
    async def work(stills: StillService) -> None:
        with pytest.raises(Busy, match="just now"):
            await stills.anonymize(b"upload")

    run(work, **misbehaving("cannot_start"))


def test_one_is_worked_on_four_wait_and_the_sixth_is_turned_away() -> None:
    async def work(stills: StillService) -> list[BaseException | CoveredStill]:
        asked = [asyncio.ensure_future(stills.anonymize(b"upload")) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="try again"):
            await stills.anonymize(b"upload")
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = run(work, **misbehaving("answers"))
    assert [type(one) for one in answers] == [CoveredStill] * 5


def test_a_client_that_leaves_does_not_get_the_next_one_its_picture() -> None:
    """The worker is replaced: its answer to the one who left would be taken for the next one's."""

    async def work(stills: StillService) -> None:
        first = asyncio.ensure_future(stills.anonymize(b"first"))
        await wait_until_async(lambda: stills.pid)
        await asyncio.sleep(0.2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        covered = await stills.anonymize(b"second")
        assert covered.data.endswith(b"second")
        assert stills.starts == 2

    run(work, **misbehaving("answers"))


def test_an_idle_worker_is_ended_and_comes_back() -> None:
    async def work(stills: StillService) -> None:
        await stills.anonymize(b"one")
        worker = psutil.Process(stills.pid)
        await wait_until_async(lambda: stills.pid is None)
        assert not worker.is_running()
        await stills.anonymize(b"two")
        assert stills.starts == 2

    run(work, **misbehaving("answers", patience=StillPatience(idle_s=0.3)))


def test_a_worker_killed_between_two_pictures_harms_nobody() -> None:
    async def work(stills: StillService) -> None:
        await stills.anonymize(b"one")
        pid = stills.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        psutil.Process(pid).wait(5) if psutil.pid_exists(pid) else None
        await stills.anonymize(b"two")

    run(work, **misbehaving("answers"))


def test_nothing_of_an_upload_stays_open_in_the_server(portrait: Bgr) -> None:
    async def work(stills: StillService) -> None:
        await stills.anonymize(b"one")
        before = psutil.Process().num_fds(), threading.active_count()
        for _ in range(8):
            await stills.anonymize(b"more")
        assert (psutil.Process().num_fds(), threading.active_count()) == before

    run(work, **misbehaving("answers"))
