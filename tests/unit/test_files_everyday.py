"""Pictures as people have them, looked at by the real networks: who is nobody, and who is small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from m2fp_stream.app.stills import UploadedPictures, _OwnLooker
from m2fp_stream.compositor.compose import Compositor
from m2fp_stream.config import Settings
from m2fp_stream.pipeline.files.run import FileRun
from m2fp_stream.pipeline.looks import LookPool
from m2fp_stream.policy import Policy
from m2fp_stream.sinks.encoders import VideoFileOptions
from m2fp_stream.sinks.video_file import VideoFileSink
from m2fp_stream.sources.file import FileSource
from tests.kit import film, media, oddities


def covered(tmp_path: Path, pictures: list[media.BGR]) -> float:
    """Returns the share that is covered of a film of these pictures."""
    height, width = pictures[0].shape[:2]
    path = media.write_video(
        tmp_path / "in.mp4", frames=pictures, size_wh=(width, height), options={"crf": "10"}
    )
    settings = Settings()
    looks = LookPool([_OwnLooker(settings)])
    try:
        with (
            FileSource(path) as source,
            VideoFileSink(
                tmp_path / "out.mp4",
                size_wh=source.info.size_wh,
                time_base=source.info.time_base,
                options=VideoFileOptions(preset="ultrafast"),
            ) as sink,
        ):
            outcome = FileRun(
                source=source,
                sink=sink,
                composer=Compositor(),
                looks=looks,
                policy=Policy(settings.policy),
                options=settings.file,
            ).run()
    finally:
        looks.close()
    assert outcome.unknown_frames == 0
    return outcome.covered_fraction


def ground(light: float) -> media.BGR:
    """A street in the evening: sky, houses with windows, a road."""
    picture = np.full((360, 480, 3), (180, 160, 140), np.uint8)
    for number, left in enumerate(range(0, 480, 96)):
        cv2.rectangle(picture, (left, 90 + 17 * number % 50), (left + 90, 260), (90, 105, 125), -1)
        for x in range(left + 10, left + 80, 24):
            cv2.rectangle(picture, (x, 150), (x + 12, 175), (60, 50, 45), -1)
    picture[260:] = (80, 80, 82)
    noise = np.random.default_rng(1).normal(0, 4, picture.shape)
    return np.clip(picture * light + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("draw", "light"),
    [
        (oddities.draw_leaves, 1.0),
        (oddities.draw_headlights, 0.15),
        (oddities.draw_snow, 1.0),
        (lambda *_: None, 1.0),
    ],
    ids=["leaves", "headlights", "snow", "nothing"],
)
def test_what_moves_and_is_nobody_stays_clear(
    tmp_path: Path, draw: Callable[[media.BGR, int], None], light: float
) -> None:
    pictures = []
    for number in range(16):
        picture = ground(light)
        draw(picture, number)
        pictures.append(picture)
    assert covered(tmp_path, pictures) == 0


def picture_of(name: str) -> media.BGR:
    from importlib import import_module

    folder = Path(str(import_module("skimage").__file__)).parent / "data"
    return np.asarray(cv2.imread(str(folder / name)), np.uint8)


def still(picture: media.BGR) -> media.BGR:
    """Returns a picture as it is covered."""
    upload = cv2.imencode(".png", picture)[1].tobytes()
    done = UploadedPictures(Settings(), name=Path("a.png")).anonymize(upload)
    return np.asarray(cv2.imdecode(np.frombuffer(done, np.uint8), cv2.IMREAD_COLOR), np.uint8)


@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png"])
def test_a_pet_and_a_table_stay_clear(name: str) -> None:
    picture = picture_of(name)
    assert np.array_equal(still(picture), picture)


def test_in_a_gallery_of_nine_everybody_is_covered() -> None:
    tile = film.load_portrait()[40:280, 110:350]
    gallery = np.vstack([np.hstack([tile] * 3)] * 3)
    changed = (still(gallery) != gallery).any(axis=2)
    left, top, right, bottom = (
        at - by for at, by in zip(film.FACE_XYXY, (110, 40) * 2, strict=True)
    )
    for y in range(0, 720, 240):
        for x in range(0, 720, 240):
            face = changed[y + top : y + bottom, x + left : x + right]
            assert face.mean() > 0.95, (x, y)
    assert changed.mean() < 0.6, "heads with hair fill half of a tile"
