"""A film into a pipe: it plays from its beginning, and who reads may pause, or go."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import pytest

from m2fp_stream.core.errors import SinkError, UsageError
from m2fp_stream.sinks.encoders import VideoFileOptions
from m2fp_stream.sinks.standard_output import OutputPipe
from m2fp_stream.sinks.video_file import VideoFileSink
from tests.kit import media

BASE = Fraction(1, 1000)
PTS = [0, 40, 41, 100, 900, 1500, 2600]


@contextmanager
def stdout_is(fd: int) -> Iterator[None]:
    before = os.dup(1)
    os.dup2(fd, 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


@contextmanager
def piped() -> Iterator[int]:
    """Standard output is a pipe; gives its reading end."""
    reading, writing = os.pipe()
    with stdout_is(writing), os.fdopen(reading, "rb"):
        os.close(writing)
        yield reading


def film(pipe: OutputPipe, kind: str) -> VideoFileSink:
    options = VideoFileOptions.model_validate({"container": kind, "preset": "ultrafast"})
    return VideoFileSink(pipe, size_wh=(96, 64), time_base=BASE, options=options)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm"])
def test_a_film_goes_into_the_pipe_and_nothing_else_does(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    came: list[bytes] = []

    def read(pipe: int) -> None:
        while data := os.read(pipe, 1 << 16):
            came.append(data)

    with piped() as pipe:
        reader = threading.Thread(target=read, args=(pipe,))
        reader.start()
        with OutputPipe() as out, film(out, kind) as sink:
            for number, pts in enumerate(PTS):
                sink.write(media.composed(media.card((96, 64), number), number, pts, BASE))
            os.write(1, b"a library that talks\n")
            sink.set_last_duration(40)
            sink.finish()
        os.dup2(2, 1)  # the last one that writes lets go
        reader.join()
    assert capfd.readouterr() == ("", "a library that talks\n")
    whole = b"".join(came)
    with av.open(io.BytesIO(whole), "r") as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        frames = list(container.decode(stream))
        assert [one.pts * stream.time_base for one in frames if one.pts is not None] == [
            Fraction(pts, 1000) for pts in PTS
        ]
        assert set(container.metadata) <= {
            *("major_brand", "minor_version", "compatible_brands", "encoder")
        }
    # It plays before it is complete: MP4 in pieces, Matroska in clusters of a second.
    with av.open(io.BytesIO(whole[: len(whole) * 2 // 3]), "r") as container:
        assert next(container.decode(video=0)).width == 96


def test_a_reader_that_has_gone_is_one_error() -> None:
    with piped() as pipe, OutputPipe() as out:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, pipe)  # closes the reading end
        os.close(nothing)
        gone = "its reader has gone before the film was complete"
        with pytest.raises(SinkError, match=gone), film(out, "mp4") as sink:
            sink.write(media.composed(media.card((96, 64)), 0, 0, BASE))
            sink.finish()
        assert out.closed


def test_a_write_that_waits_for_a_reader_can_be_ended() -> None:
    failed: list[BaseException] = []

    def fill(out: OutputPipe) -> None:
        try:
            while True:
                out.write(b"x" * 4096)
        except OSError as error:
            failed.append(error)

    with piped() as pipe, OutputPipe() as out:
        writer = threading.Thread(target=fill, args=(out,))
        writer.start()
        assert os.read(pipe, 1) == b"x"
        out.halt()
        writer.join()
        assert failed
        with pytest.raises(SinkError, match="cannot be written"):
            out.publish()


def test_leaving_early_writes_nothing_more() -> None:
    with piped() as pipe:
        with OutputPipe() as out:
            sink = film(out, "mkv")
            sink.write(media.composed(media.card((96, 64)), 0, 0, BASE))
            sink.abort()
            del sink
        os.dup2(2, 1)
        began = b"".join(iter(lambda: os.read(pipe, 1 << 16), b""))
    assert b"\x1c\x53\xbb\x6b" not in began, "the index that comes at the end"


def test_a_terminal_is_refused() -> None:
    master, terminal = os.openpty()
    try:
        with (
            stdout_is(terminal),
            pytest.raises(UsageError, match="standard output is a terminal; pipe it"),
        ):
            OutputPipe()
    finally:
        os.close(master)
        os.close(terminal)
