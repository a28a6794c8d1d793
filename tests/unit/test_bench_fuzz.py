"""Damaged and hostile files: what the fuzzer found, and some files of its own."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from m2fp_stream.core.errors import SourceError
from m2fp_stream.sources.opener import open_file
from scripts.bench import fuzz
from tests.kit import media


def test_mutated_files_are_read_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Kinds that take long to write are left to the whole run; so are those of one demuxer.
    left_out = ("av1.mp4", "av1.obu", "dv.dv", "mpeg2.gxf", "vp9.webm", "raw.h265")
    some = {name: made for name, made in fuzz.VIDEOS.items() if name not in left_out}
    monkeypatch.setattr(fuzz, "VIDEOS", some)
    seeds = fuzz.write_seeds(tmp_path)
    assert len(seeds) > 30
    told = []
    with fuzz.reader() as reader:
        for number in range(3 * len(seeds)):
            name, data = fuzz.mutated(number, 1, seeds)
            (tmp_path / name).write_bytes(data)
            told.append(reader.read(tmp_path / name, salvage=number % 2 == 1))
    assert set(told) == {"complete", "exit 3"}


def test_a_fuzzers_file_depends_on_its_number_alone(tmp_path: Path) -> None:
    seed = tmp_path / "a.gif"
    seed.write_bytes(bytes(range(256)) * 20)
    files = [fuzz.mutated(number, 1, [seed])[1] for number in (0, 1, 0)]
    assert files[0] == files[2] != files[1]
    assert fuzz.mutate(b"", [b""], random.Random(1)) == b""


def test_a_reader_that_dies_or_hangs_is_replaced_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = media.write_video(tmp_path / "a.mp4", count=2)
    with fuzz.reader() as reader:
        assert reader.read(path, salvage=False) == "complete"
        reader.process.kill()
        assert reader.read(path, salvage=False) == "crash (SIGKILL)"
        monkeypatch.setattr(fuzz, "LIMIT_S", 0.0)
        assert reader.read(path, salvage=False) == "hang"


def test_the_threads_of_a_decoder_do_not_wait_for_who_lets_go_of_it(tmp_path: Path) -> None:
    """dav1d's threads let go of the marks of packets, and want the interpreter's lock for that."""
    path = media.write_moving(tmp_path / "a.avif")
    data = bytearray(path.read_bytes())
    first = data.index(b"mdat") + 40
    for at in range(first, first + 4):
        data[at] ^= 0xFF
    path.write_bytes(data)
    with fuzz.reader() as reader:
        # Without `let_go` one of the first 40 hung in each of four tries.
        told = {reader.read(path, salvage=bool(number % 2)) for number in range(80)}
    assert told == {"exit 3"}


def test_times_that_no_file_can_hold_are_damage(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.ivf", codec="libvpx", count=4)
    data = bytearray(path.read_bytes())
    at = 32  # behind the header; each frame has its length, 4 bytes, and its time, 8
    for number in range(3):
        if number != 1:  # time jumps back, and what comes later is added to what was before
            data[at + 4 : at + 12] = (2**62 + 5).to_bytes(8, "little")
        at += 12 + int.from_bytes(data[at : at + 4], "little")
    path.write_bytes(data)
    for salvage in (False, True):
        with pytest.raises(SourceError, match="its times are impossible"):
            fuzz.read_through(path, salvage=salvage)


def test_memory_is_made_for_what_is_read_not_for_what_a_header_claims(tmp_path: Path) -> None:
    """Python's files make room for all that is asked for, FFmpeg asks for what a length says."""
    asked: list[int] = []

    class Watched(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(size or 0)
            return super().read(size) or b""

    size_wh = (1280, 1024)
    path = media.write_video(
        tmp_path / "a.y4m",
        codec="wrapped_avframe",
        container_format="yuv4mpegpipe",
        size_wh=size_wh,
        count=2,
    )
    with (
        Watched(path) as file,
        open_file(cast("BinaryIO", file), "a.y4m", max_pixels=fuzz.MAX_PIXELS) as container,
    ):
        assert sum(1 for _ in container.decode(video=0)) == 2
    assert path.stat().st_size > 3 << 20
    assert max(asked) <= 1 << 20  # a frame has 1.9 MB
