"""YUV4MPEG2 in a pipe: constant rate, real time, and readers that stop."""

from __future__ import annotations

import errno
import io
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import av
import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from m2fp_stream.core.errors import SinkError, UsageError
from m2fp_stream.pipeline.live.outlets import Outlet, Retrying
from m2fp_stream.sinks.pipe import PipeOptions, PipeSink, _planes_of
from tests.kit import media
from tests.kit.wait import wait_until

MICROSECOND = Fraction(1, 1_000_000)
SIZE = (96, 64)
_EXACT = ("-sws_flags", "accurate_rnd+full_chroma_int+bilinear")


def sink(
    file: BinaryIO, size_wh: tuple[int, int] = SIZE, *, patience_s: float = 1.0, **options: Any
) -> PipeSink:
    return PipeSink(
        file,
        PipeOptions(enabled=True, **options),
        size_wh=size_wh,
        time_base=MICROSECOND,
        patience_s=patience_s,
    )


def frame(number: int, pts: int, size_wh: tuple[int, int] = SIZE) -> Any:
    return media.composed(media.card(size_wh, number), number, pts, MICROSECOND)


def decode(data: bytes, size_wh: tuple[int, int], *filters: str) -> list[media.BGR]:
    """Returns the pictures as FFmpeg reads them from a pipe."""
    command = ["ffmpeg", "-v", "error", "-f", "yuv4mpegpipe", "-i", "-", *filters]
    done = subprocess.run(
        [*command, *_EXACT, "-f", "rawvideo", "-pix_fmt", "bgr24", "-"],
        input=data,
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    width, height = size_wh
    return list(np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3))


def written(pts: list[int], **options: Any) -> list[int]:
    """Returns the numbers of the frames that come out for frames 0, 1, 2... at `pts`."""
    file = io.BytesIO()
    with sink(file, **options) as out:
        for number, one in enumerate(pts):
            out.write(frame(number, one))
        out.finish()
        numbers = [media.number_of(one) for one in decode(file.getvalue(), SIZE)]
        assert out.written == len(numbers)
    return numbers


def test_frames_at_the_rate_pass_one_to_one_whatever_the_jitter() -> None:
    start = 10**12
    pts = [start + i * 33_333 + (9_000 if i % 2 else -9_000) * (i > 0) for i in range(28)]
    assert written(pts) == list(range(28))


def test_slow_frames_are_repeated_and_a_gap_is_filled() -> None:
    assert written([0, 100_000, 200_000, 500_000], fps=30) == [
        *[0] * 3, *[1] * 3, *[2] * 9, 3,
    ]  # fmt: skip


def test_fast_frames_are_left_out() -> None:
    numbers = written([i * 10_000 for i in range(25)], fps=25)
    assert numbers == [0, 2, 6, 10, 14, 18, 22]


def test_a_repeat_shows_the_newest_frame_before_it() -> None:
    assert written([0, 10_000, 200_000], fps=10) == [0, 1, 2]


@pytest.mark.parametrize("size_wh", [(95, 63), (96, 63), (95, 64), (1, 1)])
def test_odd_sides_are_continued(size_wh: tuple[int, int]) -> None:
    file = io.BytesIO()
    with sink(file, size_wh) as out:
        out.write(frame(3, 0, size_wh))
        out.finish()
    even = (size_wh[0] + size_wh[0] % 2, size_wh[1] + size_wh[1] % 2)
    (picture,) = decode(file.getvalue(), even)
    assert media.number_of(picture) == 3


@pytest.mark.parametrize("size_wh", [(1, 1), (2, 2), (34, 18), (35, 17), (64, 64), (719, 3)])
def test_planes_are_joined_without_the_padding_of_their_rows(size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    rng = np.random.default_rng(3)
    frame = av.VideoFrame(width, height, "yuv420p")
    expected, padding = [], 0
    for index, plane in enumerate(frame.planes):
        # Chroma of an odd side: half of it, rounded up. Source: FFmpeg, AV_CEIL_RSHIFT.
        columns, rows = (width, height) if index == 0 else (-(-width // 2), -(-height // 2))
        picture = rng.integers(0, 255, (rows, columns), dtype=np.uint8)
        padded = np.full((plane.buffer_size // plane.line_size, plane.line_size), 255, np.uint8)
        padded[:rows, :columns] = picture
        plane.update(padded.tobytes())
        padding += plane.line_size - columns
        expected.append(picture.tobytes())
    assert padding or size_wh == (64, 64)
    assert _planes_of(frame) == b"".join(expected)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_colours_come_back_by_the_matrix_that_was_chosen(matrix: str) -> None:
    coarse = np.random.default_rng(3).integers(30, 226, (3, 4, 3), np.uint8)
    smooth = np.asarray(cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_LINEAR), np.uint8)
    file = io.BytesIO()
    with sink(file, (128, 96), matrix=matrix) as out:
        out.write(media.composed(smooth, 0, 0, MICROSECOND))
        out.finish()
    filters = [] if matrix == "bt601" else ["-vf", "scale=in_color_matrix=bt709"]
    (picture,) = decode(file.getvalue(), (128, 96), *filters)
    error = picture.astype(float) - smooth
    assert np.abs(error.mean((0, 1))).max() < 1
    assert np.sqrt((error**2).mean()) < 3


def test_the_header_says_what_is_inside() -> None:
    file = io.BytesIO()
    with sink(file, fps=24) as out:
        out.write(frame(0, 0))
    head, _, rest = file.getvalue().partition(b"\n")
    assert head.split()[:6] == [b"YUV4MPEG2", b"W96", b"H64", b"F24:1", b"Ip", b"A1:1"]
    assert b"C420jpeg" in head.split()
    assert rest[:6] == b"FRAME\n"
    assert len(rest) == 6 + 96 * 64 * 3 // 2


# ----------------------------------------------------------------- a real pipe


@pytest.fixture
def ends() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Both ends of a pipe, the first one to read from."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as first, os.fdopen(writer, "wb") as second:
        yield first, second


def test_a_pipe_carries_every_byte_in_order(ends: tuple[BinaryIO, BinaryIO]) -> None:
    reader, writer = ends
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(reader.read()))
    thread.start()
    with sink(writer, (320, 240)) as out:
        for number in range(20):
            out.write(frame(number, number * 33_333, (320, 240)))
        out.finish()
    assert os.get_blocking(writer.fileno()), "others share this descriptor"
    writer.close()
    thread.join()
    numbers = [media.number_of(one) for one in decode(got[0], (320, 240))]
    assert numbers == list(range(20))


def test_a_reader_that_went_is_one_line(ends: tuple[BinaryIO, BinaryIO]) -> None:
    reader, writer = ends
    reader.close()
    with pytest.raises(SinkError, match="the pipe's reader has gone"), sink(writer) as out:
        out.write(frame(0, 0))


def test_a_reader_that_takes_nothing_is_not_waited_for_for_ever(
    ends: tuple[BinaryIO, BinaryIO],
) -> None:
    _, writer = ends
    with (
        pytest.raises(SinkError, match="took nothing for 1 s"),
        sink(writer, (320, 240), timeout_s=1.0) as out,
    ):
        out.write(frame(0, 0, (320, 240)))


class Feed:
    """A pipe in an outlet, as a live run has it, and frames that keep coming."""

    def __init__(self, writer: BinaryIO, size_wh: tuple[int, int]) -> None:
        self.made = 0
        self.notices: list[str] = []
        self._writer, self._size_wh = writer, size_wh
        at_once = Retrying(first_wait_s=0.01, longest_wait_s=0.01)
        self.outlet = Outlet(
            "pipe", self._make, keep=2, on_notice=self.notices.append, retrying=at_once
        )
        self.outlet.open(size_wh)
        self._number = 0

    def _make(self, size_wh: tuple[int, int]) -> PipeSink:
        self.made += 1
        return sink(self._writer, size_wh, timeout_s=1.0)

    def until(self, true: Callable[[], object]) -> None:
        """Offers frames until something is so."""
        wait_until(true, meanwhile=self._offer)

    def _offer(self) -> None:
        self._number += 1
        self.outlet.offer(frame(self._number, self._number * 33_333, self._size_wh))


def test_after_a_readers_pause_no_second_stream_begins_inside_the_first(
    ends: tuple[BinaryIO, BinaryIO],
) -> None:
    reader, writer = ends
    feed = Feed(writer, (320, 240))
    feed.until(lambda: feed.outlet.failures)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(reader.read()))
    thread.start()
    before = feed.outlet.dropped
    feed.until(lambda: feed.outlet.dropped > before + 20 or feed.made > 1)
    feed.outlet.close(complete=True)
    writer.close()
    thread.join()
    assert got[0].startswith(b"YUV4MPEG2")
    assert got[0].count(b"YUV4MPEG2") == feed.made == 1
    assert feed.notices == [f"pipe: {feed.outlet.over}"]
    assert "took nothing for 1 s" in feed.notices[0]


def test_a_reader_that_went_is_told_once_and_written_to_no_more(
    ends: tuple[BinaryIO, BinaryIO],
) -> None:
    reader, writer = ends
    feed = Feed(writer, SIZE)
    reader.close()
    feed.until(lambda: feed.outlet.dropped > 20)
    feed.outlet.close(complete=True)
    assert (feed.outlet.failures, feed.outlet.up, feed.made) == (1, False, 1)
    assert feed.outlet.error is None  # other outlets go on
    assert isinstance(feed.outlet.over, SinkError)
    assert feed.outlet.over.errno == errno.EPIPE
    assert feed.notices == ["pipe: the pipe's reader has gone; run again for another one"]


def test_a_slow_reader_gets_fewer_repeats(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        # As if each repeat had taken too long.
        assert written([0, 1_000_000, 1_033_333], fps=30, patience_s=-1.0) == [0, 1, 2]
    assert "29 frames were left out" in caplog.text


def test_a_terminal_is_refused() -> None:
    ours, theirs = os.openpty()
    with (
        os.fdopen(ours, "wb"),
        os.fdopen(theirs, "wb") as terminal,
        pytest.raises(UsageError, match="is a terminal"),
    ):
        sink(terminal)


def test_a_full_disk_is_one_line() -> None:
    with (
        open("/dev/full", "wb", buffering=0) as full,  # noqa: PTH123  # a device
        pytest.raises(SinkError, match="No space left"),
        sink(full) as out,
    ):
        out.write(frame(0, 0))


def test_times_that_do_not_rise_and_other_sizes_are_refused() -> None:
    with pytest.raises(SinkError, match="timestamps must rise"):
        written([0, 5, 5])
    with pytest.raises(SinkError, match="expected"), sink(io.BytesIO()) as out:
        out.write(frame(0, 0, (64, 96)))


@pytest.mark.parametrize("wrong", [{"fps": 0}, {"fps": 29.97}, {"matrix": "bt2020"}, {"x": 1}])
def test_options_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PipeOptions(**wrong)
