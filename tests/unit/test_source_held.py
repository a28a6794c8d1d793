"""What is piped in as a file: held in memory, at most so much, and called by its name."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest

from m2fp_stream.core.errors import SourceError, TruncatedSourceError, UsageError
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.held import STANDARD_INPUT, is_held, is_piped, reachable
from m2fp_stream.sources.options import FileOptions
from m2fp_stream.sources.picture import holds_picture
from tests.kit import media


@contextmanager
def stdin_is(fd: int) -> Iterator[None]:
    before = os.dup(0)
    os.dup2(fd, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


@contextmanager
def piped(data: bytes) -> Iterator[None]:
    """Standard input is a pipe into which somebody writes."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            try:
                file.write(data)
                file.flush()
            except BrokenPipeError:
                pass

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with stdin_is(reading):
            os.close(reading)
            yield
    finally:
        writer.join()


def count(path: Path) -> int:
    with FileSource(path) as source:
        number = 0
        for captured in source.frames():
            captured.frame.release()
            number += 1
    return number


def test_a_piped_film_can_be_opened_again_and_again_and_is_no_file(tmp_path: Path) -> None:
    film = media.write_video(tmp_path / "a.mp4").read_bytes()  # its index stands at the end
    before = set(Path("/proc/self/fd").iterdir())
    with piped(film):
        assert is_piped(STANDARD_INPUT)
        with reachable(STANDARD_INPUT, FileOptions()) as place:
            assert is_held(place)
            assert not holds_picture(place)
            assert place.read_bytes() == film
            assert (count(place), count(place)) == (10, 10)
            assert str(place.readlink()).startswith("/memfd:")
    assert set(Path("/proc/self/fd").iterdir()) == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.mp4"]


def test_a_file_that_was_redirected_is_opened_where_it_is(tmp_path: Path) -> None:
    path = media.write_video(tmp_path / "a.mkv")
    with path.open("rb") as file, stdin_is(file.fileno()):
        assert not is_piped(STANDARD_INPUT)
        with reachable(STANDARD_INPUT, FileOptions()) as place:
            assert place.readlink() == path
            assert count(place) == 10


def test_a_pipe_that_ends_too_early_is_a_truncated_input(tmp_path: Path) -> None:
    film = media.write_video(tmp_path / "a.mkv", count=60).read_bytes()
    with (
        piped(film[: len(film) * 2 // 3]),
        pytest.raises(TruncatedSourceError, match=r"^standard input: damaged or cut short"),
        reachable(STANDARD_INPUT, FileOptions()) as place,
    ):
        count(place)


def test_too_much_is_refused_and_nothing_is_an_error(tmp_path: Path) -> None:
    with (
        piped(b"\0" * 1_200_000),
        pytest.raises(SourceError, match="standard input: more than 1 MB, which is held"),
        reachable(STANDARD_INPUT, FileOptions(pipe_mb=1)),
    ):
        pass
    with (
        piped(b""),
        pytest.raises(SourceError, match=r"^standard input: is empty"),
        reachable(STANDARD_INPUT, FileOptions()) as place,
    ):
        count(place)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_a_picture_is_told_by_its_contents(suffix: str, tmp_path: Path) -> None:
    with (
        piped(cv2.imencode(suffix, media.card())[1].tobytes()),
        reachable(STANDARD_INPUT, FileOptions()) as place,
    ):
        assert holds_picture(place)


def test_a_terminal_is_refused_and_another_name_is_left_alone(tmp_path: Path) -> None:
    with reachable(tmp_path, FileOptions()) as place:
        assert place == tmp_path
        assert not is_held(place)
    master, terminal = os.openpty()
    try:
        with (
            stdin_is(terminal),
            pytest.raises(UsageError, match="standard input is a terminal"),
            reachable(STANDARD_INPUT, FileOptions()),
        ):
            pass
    finally:
        os.close(master)
        os.close(terminal)
