from __future__ import annotations

import os
from pathlib import Path

import pytest

from m2fp_stream.naming import IMAGE_SUFFIXES, VIDEO_SUFFIXES, find_media, output_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip.mp4", "clip.anonymized.mp4"),
        ("clip.mkv", "clip.anonymized.mp4"),
        ("clip.old.MOV", "clip.old.anonymized.mp4"),
        ("clip", "clip.anonymized.mp4"),
        (".hidden.avi", ".hidden.anonymized.mp4"),
        ("dance.gif", "dance.anonymized.gif"),
        ("photo.JPG", "photo.anonymized.JPG"),
        ("photo.webp", "photo.anonymized.webp"),
        ("photo.jfif", "photo.anonymized.jfif"),
        ("photo.HEIC", "photo.anonymized.jpg"),
        ("photo.avif", "photo.anonymized.avif"),
        ("recorder.dav", "recorder.anonymized.mp4"),
    ],
)
def test_a_video_becomes_mp4_and_pictures_keep_their_format(name: str, expected: str) -> None:
    assert output_path(Path("d", name)) == Path("d", expected)


def test_on_a_collision_the_old_suffix_stays() -> None:
    taken = {Path("clip.anonymized.mp4")}
    assert output_path(Path("clip.mkv"), taken) == Path("clip.mkv.anonymized.mp4")
    assert output_path(Path("e/clip.mkv"), taken) == Path("e/clip.anonymized.mp4")


def test_a_folder_gives_its_media_sorted_without_hidden_files_and_outputs(tmp_path: Path) -> None:
    more = ["3g2", "asf", "dav", "dv", "h264", "h265", "hevc", "insv", "m2v", "mjpeg", "mjpg", "qt"]
    wanted = ["a.MP4", "b.gif", "deep/d.avi", "deep/er/c.mkv", *(f"f/a.{one}" for one in more)]
    others = ["x.txt", ".a.mp4", ".b.anonymized.mp4.part", "a.anonymized.mp4", ".git/e.mp4"]
    others += ["a.mkv.anonymized.mp4", "deep/.f.mp4", "photo.jpg", "mp4"]
    for name in wanted + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_media(tmp_path, VIDEO_SUFFIXES)
    assert found.files == [tmp_path / name for name in wanted]
    assert found.skipped == {
        "hidden": 4,
        "output of an earlier run": 2,
        ".txt": 1,
        ".jpg": 1,
        "without a suffix": 1,
    }
    assert find_media(tmp_path, IMAGE_SUFFIXES).files == [tmp_path / "photo.jpg"]


def test_a_name_with_our_mark_inside_is_an_input(tmp_path: Path) -> None:
    for name in ("interview.anonymized.v2.mov", "x.anonymized.mp4", "x.anonymized.MP4"):
        (tmp_path / name).touch()
    found = find_media(tmp_path, VIDEO_SUFFIXES)
    assert [path.name for path in found.files] == ["interview.anonymized.v2.mov"]
    assert found.skipped == {"output of an earlier run": 2}


def test_the_output_folder_inside_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/labels.png").touch()
    (tmp_path / "a.png").touch()
    found = find_media(tmp_path, IMAGE_SUFFIXES, without=tmp_path / "." / "out")
    assert (found.files, found.skipped) == ([tmp_path / "a.png"], {})
    assert find_media(tmp_path, IMAGE_SUFFIXES, without=tmp_path).files == [
        tmp_path / "a.png",
        tmp_path / "out/labels.png",
    ]


@pytest.mark.parametrize("char", ["x", "é", "人", "\udcff"])
def test_a_name_that_would_be_too_long_is_shortened_to_one_of_its_own(
    char: str, tmp_path: Path
) -> None:
    most = (255 - 4) // len(os.fsencode(char))
    names = [tmp_path / f"{char * (most - 1)}{end}.mp4" for end in "ab"]
    outputs = [output_path(name) for name in names]
    assert outputs[0] != outputs[1]
    assert output_path(names[0]) == outputs[0]
    for path in outputs:
        assert path.name.endswith(".anonymized.mp4")
        assert 245 < len(os.fsencode(path.name)) <= 255
        path.touch()
    assert find_media(tmp_path, VIDEO_SUFFIXES).files == []


def test_linked_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").touch()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert find_media(tmp_path, VIDEO_SUFFIXES).files == [tmp_path / "real" / "a.mp4"]
    assert find_media(tmp_path, VIDEO_SUFFIXES).skipped == {"linked folder": 1}


def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        find_media(tmp_path, VIDEO_SUFFIXES)
