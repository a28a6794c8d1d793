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
    assert find_media(tmp_path, VIDEO_SUFFIXES) == [tmp_path / name for name in wanted]
    assert find_media(tmp_path, IMAGE_SUFFIXES) == [tmp_path / "photo.jpg"]


def test_linked_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").touch()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert find_media(tmp_path, VIDEO_SUFFIXES) == [tmp_path / "real" / "a.mp4"]


def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        find_media(tmp_path, VIDEO_SUFFIXES)
