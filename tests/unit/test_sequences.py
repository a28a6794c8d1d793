"""Numbered pictures, in and out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import pytest

from m2fp_stream.core.errors import SinkError, SourceError, TruncatedSourceError, UsageError
from m2fp_stream.core.numbered import Numbered
from m2fp_stream.naming import check_target, is_numbered
from m2fp_stream.sinks.sequence import SequenceSink
from m2fp_stream.sources.options import FileOptions
from m2fp_stream.sources.sequence import SequenceSource
from tests.kit import media


def fill(folder: Path, numbers: list[int], name: str = "%04d.png", size: int = 96) -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        path = folder / (name % number)
        picture = media.card((size, 64), number)
        path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
    return folder / name


def read(source: SequenceSource) -> list[tuple[int, int, int]]:
    """Returns the id, time and card number of each frame."""
    got = []
    with source:
        for captured in source.frames():
            with captured.frame.analysis() as bgr:
                number = media.number_of(bgr)
            got.append((captured.frame.frame_id, captured.frame.pts, number))
            captured.frame.release()
    return got


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("%06d.png", ("", 6, ".png")),
        ("a-%d.jpg", ("a-", 1, ".jpg")),
        ("%d%d.png", None),
        ("50%.png", None),
        ("%s.png", None),
        ("%6d.png", None),
    ],
)
def test_a_name_with_one_number_means_several_files(
    name: str, expected: tuple[str, int, str] | None
) -> None:
    found = Numbered.of(Path("d", name))
    assert (found and (found.before, found.digits, found.after)) == expected


def test_files_are_found_by_exactly_the_names_they_would_get(tmp_path: Path) -> None:
    for name in ("7.png", "07.png", "12345.png", "x.png", ".png", "٣.png", "-1.png", "8.PNG"):
        (tmp_path / name).touch()
    assert list(Numbered(tmp_path, "", 1, ".png").found()) == [7, 12345]
    assert list(Numbered(tmp_path, "", 2, ".png").found()) == [7, 12345]
    assert Numbered(tmp_path, "", 2, ".png").path(7).name == "07.png"


def test_only_pictures_are_numbered_and_a_file_of_that_very_name_is_a_file(tmp_path: Path) -> None:
    assert is_numbered(tmp_path / "%d.png")
    assert not is_numbered(tmp_path / "%d.mp4")
    (tmp_path / "%d.png").touch()
    assert not is_numbered(tmp_path / "%d.png")


def test_pictures_become_frames_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    path = fill(tmp_path / "in", [8, 9, 10, 11])
    source = SequenceSource(path, FileOptions(fps=30000 / 1001))
    assert source.info.average_rate == Fraction(30000, 1001)
    assert source.info.time_base == Fraction(1001, 30000)
    assert source.info.frame_count == 4
    assert read(source) == [(0, 0, 8), (1, 1, 9), (2, 2, 10), (3, 3, 11)]


def test_start_and_end_cut_them(tmp_path: Path) -> None:
    path = fill(tmp_path / "in", list(range(10)))
    source = SequenceSource(path, FileOptions(fps=10, start_s=0.2, end_s=0.5))
    assert (source.info.begins_s, source.info.frame_count) == (0.2, 3)
    assert read(source) == [(0, 0, 2), (1, 1, 3), (2, 2, 4)]
    with pytest.raises(SourceError, match="no frame between start and end"):
        SequenceSource(path, FileOptions(fps=10, start_s=5))


def test_a_picture_that_lacks_is_damage_and_its_time_stays(tmp_path: Path) -> None:
    path = fill(tmp_path / "in", [1, 2, 4])
    with pytest.raises(TruncatedSourceError, match=r"0003\.png: is missing .*--salvage"):
        SequenceSource(path)
    source = SequenceSource(path, FileOptions(salvage=True))
    assert read(source) == [(0, 0, 1), (1, 1, 2), (2, 3, 4)]
    assert source.info.warnings == ("pictures left out, missing or damaged: 1",)


def test_one_that_is_cut_short_or_of_another_size_is_named(tmp_path: Path) -> None:
    path = fill(tmp_path / "in", [1, 2, 3])
    cut = tmp_path / "in" / "0002.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(TruncatedSourceError, match=r"0002\.png: is cut short"):
        read(SequenceSource(path))
    assert [one[1] for one in read(SequenceSource(path, FileOptions(salvage=True)))] == [0, 2]
    fill(tmp_path / "in", [2], size=48)
    with pytest.raises(SourceError, match=r"0002\.png: 48x64, but the first of them is 96x64"):
        read(SequenceSource(path))


@pytest.mark.parametrize("name", ["none/%04d.png", "%04d.png", "plain.png"])
def test_where_there_is_no_such_picture_that_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot be listed|there is no such picture"):
        SequenceSource(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_frames_become_pictures_that_appear_together(suffix: str, tmp_path: Path) -> None:
    secret = tmp_path / f"a-%03d{suffix}"
    with SequenceSink(secret) as sink:
        for number in range(3):
            sink.write(media.composed(media.card((96, 64), number), number))
            assert [one.name for one in tmp_path.iterdir()] == [f".a-%03d{suffix}.part"]
        sink.finish()
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == [f"a-{number:03}{suffix}" for number in (1, 2, 3)]
    for number, name in enumerate(names):
        picture = cv2.imread(str(tmp_path / name))
        assert picture is not None
        assert media.number_of(picture) == number  # type: ignore[arg-type]  # uint8


def test_with_overwrite_a_longer_run_before_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = fill(tmp_path, [0, 1, 2, 3, 400])
    (tmp_path / "notes.txt").touch()
    with SequenceSink(path, overwrite=True) as sink:
        for number in range(2):
            sink.write(media.composed(media.card((96, 64), 20 + number), number))
        assert len(list(tmp_path.glob("0*.png"))) == 5
        sink.finish()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["0001.png", "0002.png", "notes.txt"]


def test_a_failure_while_they_get_their_names_leaves_none_of_them(tmp_path: Path) -> None:
    path = tmp_path / "%d.png"
    sink = SequenceSink(path)
    for number in range(4):
        sink.write(media.composed(media.card((96, 64), number), number))
    (tmp_path / "3.png").mkdir()
    with pytest.raises(SinkError, match="File exists"):
        sink.finish()
    assert [one.name for one in tmp_path.iterdir()] == ["3.png"]


def test_a_name_that_is_none_of_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="no name for several pictures; use one such as %06d"):
        SequenceSink(tmp_path / "a.png")
    with pytest.raises(SinkError, match="unknown kind of picture"):
        SequenceSink(tmp_path / "%d.xyz")


def test_an_output_that_holds_the_input_is_refused_whatever_may_be_replaced(tmp_path: Path) -> None:
    path = fill(tmp_path / "in", [1, 2])
    for source in (path, tmp_path / "in" / "0002.png"):
        with pytest.raises(UsageError, match=r"same files|one of the outputs"):
            check_target(source, path, overwrite=True)
    with pytest.raises(UsageError, match=r"output exists: .*0001\.png"):
        check_target(tmp_path / "a.mp4", path, overwrite=False)
    check_target(tmp_path / "a.mp4", path, overwrite=True)
