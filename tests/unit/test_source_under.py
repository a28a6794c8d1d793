"""What lies under transparency: looked at, never shown, and zeroed like all that is raw."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from m2fp_stream.app.stills import UploadedPictures
from m2fp_stream.config import Settings
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.sources.base import Source
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.image import ImageSource
from m2fp_stream.sources.picture import open_picture
from tests.kit import film, heif, media

ALPHA = np.full((64, 96), 255, np.uint8)
ALPHA[:, 48:] = 0


def bgra(number: int = 0) -> media.BGR:
    """A card whose right half is transparent, with the card still under it."""
    return np.dstack([media.card(number=number), ALPHA])


def write_film(path: Path, codec: str, pix_fmt: str) -> FileSource:
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pix_fmt
        stream.options = {"auto-alt-ref": "0"} if codec.startswith("libvpx") else {}
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(bgra(number), format="bgra")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    return FileSource(path)


def write_heic(folder: Path) -> ImageSource:
    items = [heif.coded(media.card(), folder), heif.coded(heif.grey(ALPHA), folder)]
    items[1].properties.append((b"auxC", bytes(4) + heif.ALPHA, True))
    items[1].refs.append((b"auxl", [1]))
    return ImageSource(heif.write(folder / "a.heic", items))


def write_picture(path: Path) -> ImageSource:
    path.write_bytes(cv2.imencode(path.suffix, bgra())[1].tobytes())
    return ImageSource(path)


def write_animation(path: Path) -> Source:
    return open_picture(media.write_moving(path, [bgra(number) for number in range(3)]))


SOURCES: dict[str, Callable[[Path], Source]] = {
    "mkv": lambda folder: write_film(folder / "a.mkv", "ffv1", "bgra"),
    "webm": lambda folder: write_film(folder / "a.webm", "libvpx-vp9", "yuva420p"),
    "png": lambda folder: write_picture(folder / "a.png"),
    "tiff": lambda folder: write_picture(folder / "a.tiff"),
    "heic": write_heic,
    "apng": lambda folder: write_animation(folder / "a.png"),
    "webp": lambda folder: write_animation(folder / "a.webp"),
}
FORGETS = {"apng", "webp"}
"""OpenCV writes black there."""


@pytest.mark.parametrize("kind", SOURCES)
def test_what_lies_under_is_looked_at_and_not_shown(tmp_path: Path, kind: str) -> None:
    with SOURCES[kind](tmp_path) as source:
        for captured in source.frames():
            card = media.card(number=captured.frame.frame_id).astype(int)
            with captured.frame.analysis() as shown, captured.frame.looking() as looked:
                assert not shown[:, 54:].any()
                assert np.abs(shown[:, :42] - card[:, :42]).mean() < 6
                assert np.abs(looked[:, :42] - card[:, :42]).mean() < 6
                if kind not in FORGETS:
                    assert np.abs(looked[:, 54:] - card[:, 54:]).mean() < 6
            with captured.frame.alpha() as alpha:
                assert alpha is not None
                assert (alpha[:, :44] == 255).all()
                assert not alpha[:, 52:].any()
            kept = looked
            captured.frame.release()
            assert not kept.any(), "zeroed"
        pool = getattr(source, "_pool", None)
        assert pool is None or pool.outstanding == 0


def test_under_a_turned_picture_lies_a_turned_one(tmp_path: Path) -> None:
    turned = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    block = [np.frombuffer(turned[6:], np.uint8)]
    _, data = cv2.imencodeWithMetadata(".png", bgra(), [cv2.IMAGE_METADATA_EXIF], block)
    (tmp_path / "a.png").write_bytes(data.tobytes())
    with ImageSource(tmp_path / "a.png") as source:
        (captured,) = source.frames()
        with captured.frame.looking() as looked, captured.frame.alpha() as alpha:
            assert np.array_equal(looked, np.rot90(media.card(), -1))
            assert alpha is not None
            assert np.array_equal(alpha, np.rot90(ALPHA, -1))
        captured.frame.release()


def test_an_opaque_picture_has_nothing_under_it(tmp_path: Path) -> None:
    picture = np.dstack([media.card(), np.full((64, 96), 255, np.uint8)])
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    with ImageSource(tmp_path / "a.png") as source:
        (captured,) = source.frames()
        with captured.frame.alpha() as alpha:
            assert alpha is None
        captured.frame.release()


def test_a_head_that_transparency_cuts_is_covered_to_its_rim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fifth of the face is left, of which no detector makes one."""
    portrait = film.load_portrait()[:360]
    left, top, right, bottom = film.FACE_XYXY
    border = right - (right - left) // 5
    alpha = np.full(portrait.shape[:2], 255, np.uint8)
    alpha[:, :border] = 0
    data = cv2.imencode(".png", np.dstack([portrait, alpha]))[1].tobytes()
    rim = slice(top + 20, bottom - 20), slice(border, right - 5)

    def open_share() -> float:
        pictures = UploadedPictures(Settings(), name=Path("a.png"))
        done = cv2.imdecode(np.frombuffer(pictures.anonymize(data), np.uint8), cv2.IMREAD_COLOR)
        assert done is not None
        assert not done[:, :border].any(), "what is hidden stays so, and no cover is drawn there"
        return float((done[rim] == portrait[rim]).all(axis=2).mean())

    assert open_share() == 0
    with monkeypatch.context() as patched:  # the control
        patched.setattr(RawFrame, "looking", RawFrame.analysis)
        assert open_share() > 0.5
