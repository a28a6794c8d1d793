"""Recordings in pieces: each complete, named by its time, the oldest deleted if asked to."""

from __future__ import annotations

import errno
import logging
import os
import random
import re
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pydantic import ValidationError

from m2fp_stream.core.errors import SinkError
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.sinks.segments import RecordOptions, SegmentSink
from m2fp_stream.sources.file import FileSource
from tests.kit import media
from tests.kit.disk import small_disk

MICROSECOND = Fraction(1, 1_000_000)
SIZE = (96, 64)
BOOT = 1_234_567_890_123
NAME = re.compile(r"m2fp-stream-\d{8}-\d{6}(-\d+)?\.mp4")


def sink(folder: Path, **options: Any) -> SegmentSink:
    settings = {"enabled": True, "preset": "ultrafast", "segment_s": 1.0, **options}
    return SegmentSink(folder, RecordOptions(**settings), size_wh=SIZE, time_base=MICROSECOND)


def frame(number: int, pts: int) -> SafeFrame:
    return media.composed(media.card(SIZE, number), number, pts, MICROSECOND)


def times(count: int) -> list[int]:
    """Returns uneven arrival times, about 30 a second."""
    rng = random.Random(4)
    at, found = BOOT, []
    for _ in range(count):
        found.append(at)
        at += rng.randint(15_000, 50_000)
    return found


def read(path: Path) -> tuple[list[int], list[Fraction], Fraction]:
    """Returns the frames' numbers, their times and the end of the last one, in seconds."""
    numbers, at, end = [], [], Fraction(0)
    with FileSource(path) as source:
        for captured in source.frames():
            with captured.frame.analysis() as bgr:
                numbers.append(media.number_of(bgr))
            at.append(captured.frame.pts * source.info.time_base)
            assert captured.duration is not None
            end = at[-1] + captured.duration * source.info.time_base
            captured.frame.release()
    return numbers, at, end


def recordings(folder: Path) -> list[Path]:
    """Returns the files of `folder` in the order in which they were completed."""
    return sorted(folder.iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name))


def test_every_frame_is_in_one_segment_at_its_time(tmp_path: Path) -> None:
    pts = times(100)
    with sink(tmp_path) as out:
        for number, one in enumerate(pts):
            out.write(frame(number, one))
        out.finish()
        files = recordings(tmp_path)
        assert len(files) == 4
    numbers: list[int] = []
    for path in files:
        found, at, end = read(path)
        first, after = len(numbers), len(numbers) + len(found)
        numbers += found
        assert at == [(one - pts[first]) * MICROSECOND for one in pts[first:after]]
        if path != files[-1]:
            assert end == (pts[after] - pts[first]) * MICROSECOND
            assert end >= 1 > at[-1]
    assert numbers == [number % 28 for number in range(100)]


def test_a_segment_plays_at_once_and_its_colours_are_tagged(tmp_path: Path) -> None:
    with sink(tmp_path) as out:
        for number in range(10):
            out.write(frame(number, BOOT + number * 40_000))
        out.finish()
    (path,) = tmp_path.iterdir()
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.start_time == 0
        assert stream.duration is not None
        assert stream.time_base is not None
        assert abs(stream.duration * stream.time_base - Fraction(4, 10)) < Fraction(2, 100)
        tags = (stream.color_primaries, stream.color_trc, stream.colorspace, stream.color_range)
        assert tags == (1, 1, 1, 1)
        assert set(container.metadata) == {"major_brand", "minor_version", "compatible_brands"}


def test_a_segment_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    before = time.strftime("%Y%m%d-%H%M%S")
    with sink(tmp_path) as out:
        out.write(frame(0, BOOT))
        (part,) = tmp_path.iterdir()
        stamp = part.name[len(".m2fp-stream-") :][:15]
        assert before <= stamp <= time.strftime("%Y%m%d-%H%M%S")
        assert part.name == f".m2fp-stream-{stamp}.mp4.part"
        assert part.stat().st_mode & 0o777 == 0o600
        out.write(frame(1, BOOT + 999_999))
        assert [one.name for one in tmp_path.iterdir()] == [part.name]
        out.write(frame(2, BOOT + 1_000_000))
        assert (tmp_path / f"m2fp-stream-{stamp}.mp4").exists()
        assert len(list(tmp_path.iterdir())) == 2
        out.finish()
    assert all(NAME.fullmatch(one.name) for one in tmp_path.iterdir())


def test_segments_of_one_second_and_other_runs_do_not_collide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20260102-030405")
    (tmp_path / "m2fp-stream-20260102-030405.mp4").write_bytes(b"precious")
    with sink(tmp_path) as other:
        other.write(frame(0, BOOT))
        with sink(tmp_path) as out:
            for number in range(3):
                out.write(frame(number, BOOT + number * 1_000_000))
            out.finish()
        other.finish()
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "m2fp-stream-20260102-030405-2.mp4",
        "m2fp-stream-20260102-030405-3.mp4",
        "m2fp-stream-20260102-030405-4.mp4",
        "m2fp-stream-20260102-030405-5.mp4",
        "m2fp-stream-20260102-030405.mp4",
    ]
    assert (tmp_path / "m2fp-stream-20260102-030405.mp4").read_bytes() == b"precious"


@pytest.mark.parametrize("leave", ["abort", "return", "raise"])
def test_leaving_early_drops_the_segment_that_has_begun_alone(tmp_path: Path, leave: str) -> None:
    try:
        with sink(tmp_path) as out:
            for number in range(45):
                out.write(frame(number, BOOT + number * 33_333))
            if leave == "abort":
                out.abort()
            if leave == "raise":
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    (path,) = tmp_path.iterdir()
    assert NAME.fullmatch(path.name)
    assert len(read(path)[0]) == 31


def test_finishing_without_a_frame_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="no frame was written"):
        sink(tmp_path).finish()
    assert list(tmp_path.iterdir()) == []


OTHERS = (
    "m2fp-stream-20200101-000000.mp4.bak",
    "m2fp-stream-2020-000000.mp4",
    "m2fp-stream-20200101-000000-0.mp4",
    "m2fp-stream-door-20200101-000000.mp4",
    "xm2fp-stream-20200101-000000.mp4",
    "holiday.mp4",
)


def old(path: Path, age: int, size: int = 10) -> Path:
    path.write_bytes(b"\0" * size)
    os.utime(path, (1_000_000_000 - age, 1_000_000_000 - age))
    return path


def test_only_the_newest_recordings_of_this_prefix_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in OTHERS:
        old(tmp_path / name, 10**8)
    target = old(tmp_path / "target", 10**8)
    link = tmp_path / "m2fp-stream-20200101-000001.mp4"
    link.symlink_to(target)
    # Ordered by when they were written: a clock that was set back names a newer one older.
    oldest = old(tmp_path / "m2fp-stream-20210101-000000.mp4", 300)
    kept = old(tmp_path / "m2fp-stream-20200101-000000-2.mp4", 100)
    with sink(tmp_path, keep_files=3) as out:
        for number in range(2):
            out.write(frame(number, BOOT + number * 1_000_000))
        assert oldest.exists()
        out.finish()
    assert not oldest.exists()
    assert kept.exists()
    assert link.is_symlink()
    assert target.exists()
    assert all((tmp_path / name).exists() for name in OTHERS)
    assert len(list(tmp_path.iterdir())) == len(OTHERS) + 2 + 3
    assert oldest.name in caplog.text


def test_recordings_are_deleted_until_the_rest_fits_but_never_the_newest(tmp_path: Path) -> None:
    first = old(tmp_path / "m2fp-stream-20210101-000000.mp4", 300, 900_000)
    second = old(tmp_path / "m2fp-stream-20210102-000000.mp4", 200, 900_000)
    with sink(tmp_path, keep_mb=1) as out:
        out.write(frame(0, BOOT))
        out.finish()
    assert not first.exists()
    assert second.exists()
    noise = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    with sink(tmp_path, keep_mb=1, crf=0, segment_s=60.0) as out:
        for number in range(150):
            out.write(
                media.composed(noise[:, ::-1] if number % 2 else noise, 0, number, MICROSECOND)
            )
        out.finish()
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size > 1_000_000


def in_a_year(path: Path, more_s: int = 0) -> None:
    """Dates a file as if the clock had been set back a year since it was written."""
    then = time.time() + 365 * 86_400 + more_s
    os.utime(path, (then, then))


def test_after_the_clock_went_back_before_the_run_its_newest_recordings_stay(
    tmp_path: Path,
) -> None:
    """A computer without a clock of its own comes up in January, beside files of November."""
    for number in range(4):
        path = tmp_path / f"m2fp-stream-2099110{number + 1}-000000.mp4"
        path.write_bytes(b"\0")
        in_a_year(path, number)
    with sink(tmp_path, keep_files=4) as out:
        for number in range(4):
            out.write(frame(number, BOOT + number * 1_000_000))
            finished = [path for path in tmp_path.glob("*.mp4") if path.stat().st_size > 1]
            assert len(finished) == number
        out.finish()
    assert [read(path)[0] for path in recordings(tmp_path)] == [[0], [1], [2], [3]]


def test_after_the_clock_went_back_during_the_run_the_oldest_are_deleted_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20991101-000000")
    with sink(tmp_path, keep_files=2) as out:
        for number in range(3):
            out.write(frame(number, BOOT + number * 1_000_000))
        for path in tmp_path.glob("m2fp-stream-*.mp4"):
            in_a_year(path)  # and the same names come once more
        for number in range(3, 6):
            out.write(frame(number, BOOT + number * 1_000_000))
        out.finish()
    kept = sorted(read(path)[0] for path in tmp_path.iterdir())
    assert kept == [[4], [5]]


def test_everything_is_kept_by_default(tmp_path: Path) -> None:
    before = old(tmp_path / "m2fp-stream-20210101-000000.mp4", 300)
    with sink(tmp_path) as out:
        out.write(frame(0, BOOT))
        out.finish()
    assert before.exists()
    assert len(list(tmp_path.iterdir())) == 2


def noise(number: int) -> SafeFrame:
    """Returns a frame that takes about ten kilobytes, 25 a second."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (64, 96, 3), np.uint8)
    return media.composed(pixels, number, BOOT + number * 40_000, MICROSECOND)


def write_until_it_fails(out: SegmentSink, first: int = 0, most: int = 5000) -> tuple[int, str]:
    """Returns how many frames were taken from `first` on, and why no more."""
    for number in range(first, first + most):
        try:
            out.write(noise(number))
        except SinkError as error:
            return number - first, str(error)
    pytest.fail("it did not fail")


def kept(files: list[Path]) -> list[Fraction]:
    """Returns when each frame of the files is shown, each file from zero; decodes them all."""
    return [time for path in files for time in read(path)[1]]


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_everything_up_to_a_second_is_kept_and_the_rest_is_counted(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        out = sink(disk.folder, crf=10, segment_s=5.0)
        for number in range(150):
            out.write(noise(number))
        disk.fill(left=600_000)
        taken, why = write_until_it_fails(out, 150)
        taken += 150
        files = [path for path in recordings(disk.folder) if path.name != "ballast"]
        assert all(NAME.fullmatch(path.name) for path in files)
        counts = [len(read(path)[0]) for path in files]
        assert counts[0] == 125
        assert sum(counts) + out.lost == taken
        assert out.lost < 25 + 40 + 10  # a second, what x264 looks ahead, and a buffer
        assert f"No space left on device); free some space; its first {counts[-1]} frames" in why
        assert kept(files) == [
            Fraction(number * 40_000, 1_000_000) for count in counts for number in range(count)
        ]


def test_on_a_full_disk_nothing_is_begun_and_once_there_is_room_recording_goes_on(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 16) as disk:
        disk.fill(left=1 << 20)
        with pytest.raises(SinkError, match=r"disk: No space left on device; free some space"):
            sink(disk.folder)
        disk.empty()
        with sink(disk.folder, segment_s=60.0) as out:
            out.write(noise(0))
            disk.fill(left=1 << 20)
            taken, _ = write_until_it_fails(out, 1)
        (first,) = disk.folder.glob("*.mp4")
        whole = len(read(first)[0])
        assert whole + out.lost == taken + 1
        disk.empty()
        with sink(disk.folder) as out:
            for number in range(50):
                out.write(noise(number))
            out.finish()
        assert sum(len(read(path)[0]) for path in disk.folder.glob("*.mp4")) == whole + 50
        assert len(list(disk.folder.iterdir())) == 3


def test_on_a_disk_that_is_read_only_nothing_is_begun(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        disk.make_read_only()
        with pytest.raises(SinkError, match=r"disk: Read-only file system; choose another"):
            sink(disk.folder)


def test_wherever_writing_ends_what_is_whole_is_kept(tmp_path: Path) -> None:
    """Also while the file is completed: its index, written last, is what does not fit."""
    folder = tmp_path / "whole"
    folder.mkdir()
    with sink(folder, segment_s=60.0) as out:
        for number in range(60):
            out.write(noise(number))
        out.finish()
    (path,) = folder.iterdir()
    size = path.stat().st_size
    index = size - path.read_bytes().rindex(b"moov") + 4
    some = [100, 1_000, *range(size // 12, size, size // 12), size - index, size - index + 9]
    for limit in [*some, size - 1]:
        folder = tmp_path / str(limit)
        folder.mkdir()
        out, taken = sink(folder, segment_s=60.0), 0
        with pytest.raises(SinkError, match="file sizes is too low"):
            out.write(noise(0))  # there is room for it to be begun
            with no_file_longer_than(limit):
                for taken in range(1, 60):
                    out.write(noise(taken))
                taken = 60
                out.finish()
        found = kept(list(folder.iterdir()))
        assert found == [Fraction(number, 25) for number in range(len(found))]
        assert len(found) + out.lost == taken
        if limit >= size - index:
            assert len(found) == 60


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EDQUOT, "your quota is used up"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EIO, "the disk fails"),
    ],
)
def test_what_else_disks_do_is_one_line_and_what_is_whole_is_kept(
    number: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = sink(tmp_path, segment_s=60.0)
    for one in range(100):
        out.write(noise(one))

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    if number == errno.EROFS:
        for name in ("ftruncate", "link", "unlink"):
            monkeypatch.setattr(os, name, fail)
        monkeypatch.setattr(Path, "unlink", fail)
    taken, why = write_until_it_fails(out, 100)
    monkeypatch.undo()
    assert says in why
    (path,) = tmp_path.iterdir()
    if number == errno.EROFS:  # it stays as it is, and plays
        assert path.name.endswith(".mp4.part")
        assert out.lost == taken + 100
    else:
        assert len(read(path)[0]) + out.lost == taken + 100
    assert len(read(path)[0]) > 50


def test_what_a_killed_run_has_written_plays_up_to_its_last_second(tmp_path: Path) -> None:
    with sink(tmp_path, segment_s=3600.0) as out:
        for number in range(150):
            out.write(noise(number))
        (part,) = tmp_path.iterdir()
        left = part.rename(tmp_path / "left.mp4")
        found = kept([left])
        assert found == [Fraction(number, 25) for number in range(len(found))]
        assert len(found) > 150 - 25 - 40 - 10
        out.abort()


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_file_that_is_deleted_while_it_is_written_is_noticed_within_a_second(
    what: str, tmp_path: Path
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    out = sink(folder, segment_s=3600.0)
    out.write(noise(0))
    if what == "folder":
        shutil.rmtree(folder)
    else:
        next(folder.iterdir()).unlink()
    taken, why = write_until_it_fails(out, 1)
    assert taken <= 25
    assert out.lost == taken + 1
    assert "was deleted while it was written" in why
    if what == "folder":
        with pytest.raises(SinkError, match="no such folder; make it first"):
            sink(folder)
        folder.mkdir()
    with sink(folder) as out:
        out.write(noise(0))
        out.finish()
    (path,) = folder.iterdir()
    assert len(read(path)[0]) == 1


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"missing: no such folder; make it first"):
        sink(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=r"is a file, expected a folder"):
        sink(tmp_path / "file")
    with pytest.raises(SinkError, match=r"Not a directory"):
        sink(tmp_path / "file" / "below")
    # The system's own, because one of the test's would not be reached by another user.
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may write everywhere
    try:
        with pytest.raises(SinkError, match="/usr: cannot be written to"):
            sink(Path("/usr"))
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prefix": "../up"},
        {"prefix": ".hidden"},
        {"prefix": ""},
        {"segment_s": 0.5},
        {"keep_files": -1},
        {"folder": ""},
        {"preset": "placebo"},
    ],
)
def test_options_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RecordOptions(**wrong)
