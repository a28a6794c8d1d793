"""HEIC and AVIF: whole or in tiles, upright, nothing shown that its maker hid."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from m2fp_stream.core.errors import SourceError, TruncatedSourceError
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.image import ImageSource
from m2fp_stream.sources.options import FileOptions
from m2fp_stream.sources.orientation import Orientation
from m2fp_stream.sources.picture import open_picture
from tests.kit import heif, media


def read(path: Path, options: FileOptions | None = None) -> media.BGR:
    with open_picture(path, options) as source:
        assert isinstance(source, ImageSource)
        (captured,) = source.frames()
        with captured.frame.analysis() as bgr:
            found: media.BGR = bgr.copy()
        captured.frame.release()
        assert source.info.size_wh == (found.shape[1], found.shape[0])
    return found


def near(found: media.BGR, expected: media.BGR, tolerance: float = 6) -> bool:
    return bool(np.abs(found.astype(int) - expected).mean() < tolerance)


def test_a_heic_is_read(tmp_path: Path) -> None:
    picture = media.card((96, 64), 3)
    path = heif.write(tmp_path / "a.heic", [heif.coded(picture, tmp_path)])
    assert near(read(path), picture)
    with open_picture(path) as source:
        assert source.info.dropped_streams == ()
        assert source.info.frame_count == 1


def test_tiles_make_one_picture(tmp_path: Path) -> None:
    """As phones write them; FFmpeg gives each as a video."""
    picture = media.card((150, 100), 3)
    path = heif.write(tmp_path / "a.heic", heif.tiled(picture, 64, 2, tmp_path))
    with av.open(path) as container:  # the control
        assert container.streams.video[0].width == 64
    assert near(read(path), picture)
    with pytest.raises(SourceError, match="is a picture, no video"):
        FileSource(path)


@pytest.mark.parametrize("kind", ["one", "tiles"])
def test_what_the_alpha_of_a_heic_hides_stays_hidden(tmp_path: Path, kind: str) -> None:
    picture = media.card((128, 64), 3)
    alpha = np.full((64, 128), 255, np.uint8)
    alpha[:, 64:] = 0
    if kind == "one":
        items = [heif.coded(picture, tmp_path), heif.coded(heif.grey(alpha), tmp_path)]
    else:
        tiles = heif.tiled(picture, 64, 2, tmp_path)
        items = [*tiles, *heif.tiled(heif.grey(alpha), 64, len(tiles) + 2, tmp_path)]
    mask = items[1] if kind == "one" else items[3]
    mask.properties.append((b"auxC", bytes(4) + heif.ALPHA, True))
    mask.refs.append((b"auxl", [1]))
    found = read(heif.write(tmp_path / "a.heic", items))
    assert found[:, 68:].max() <= 8
    assert near(found[:, :60], picture[:, :60])


def test_an_alpha_of_another_size_is_refused(tmp_path: Path) -> None:
    items = [heif.coded(media.card(size), tmp_path) for size in ((96, 64), (64, 64))]
    items[1].properties.append((b"auxC", bytes(4) + heif.ALPHA, True))
    items[1].refs.append((b"auxl", [1]))
    with pytest.raises(SourceError, match="alpha and picture differ in size"):
        read(heif.write(tmp_path / "a.heic", items))


def test_an_alpha_of_a_tile_is_refused(tmp_path: Path) -> None:
    items = heif.tiled(media.card((128, 64)), 64, 2, tmp_path)
    items.append(heif.coded(media.card((64, 64)), tmp_path))
    items[-1].properties.append((b"auxC", bytes(4) + heif.ALPHA, True))
    items[-1].refs.append((b"auxl", [3]))
    with pytest.raises(SourceError, match="has a transparency that is not read here"):
        read(heif.write(tmp_path / "a.heic", items))


def test_alpha_of_an_avif_is_shown_over_black(tmp_path: Path) -> None:
    picture = np.dstack([media.card(), np.full((64, 96), 255, np.uint8)])
    picture[:, 48:, 3] = 0
    (tmp_path / "a.avif").write_bytes(cv2.imencode(".avif", picture)[1].tobytes())
    found = read(tmp_path / "a.avif")
    assert found[:, 52:].max() <= 8
    assert near(found[:, :44], picture[:, :44, :3])


@pytest.mark.parametrize("value", range(1, 9))
def test_turns_and_mirrors_of_an_avif_are_applied(tmp_path: Path, value: int) -> None:
    """libavif writes them as irot and imir; Pillow hands it the orientation of EXIF."""
    card, data = media.card((95, 63)), io.BytesIO()
    exif = Image.Exif()
    exif[274] = value
    Image.fromarray(np.ascontiguousarray(card[:, :, ::-1])).save(
        data, "AVIF", exif=exif, quality=95
    )
    (tmp_path / "a.avif").write_bytes(data.getvalue())
    orientation = Orientation.from_exif(value)
    width, height = orientation.size_of(95, 63)
    expected = np.zeros((height, width, 3), np.uint8)
    orientation.turn(card.copy(), expected)
    assert near(read(tmp_path / "a.avif"), expected)


def test_what_is_cut_away_stays_so(tmp_path: Path) -> None:
    """The part that is shown: 40x30 pixels, whose middle is 20 right of and 10 below the other."""
    picture = media.card((96, 64))
    item = heif.coded(picture, tmp_path)
    part = struct.pack(">IIIIiIiI", 40, 1, 30, 1, 20, 1, 10, 1)
    item.properties += [(b"clap", part, True), (b"irot", b"\1", True)]
    found = read(heif.write(tmp_path / "a.heic", [item]))
    assert near(found, np.rot90(picture[27:57, 48:88]))


def test_a_property_that_must_be_understood_and_is_not_is_refused(tmp_path: Path) -> None:
    item = heif.coded(media.card(), tmp_path)
    item.properties.append((b"new!", b"?", False))
    assert near(read(heif.write(tmp_path / "a.heic", [item])), media.card())
    item.properties[-1] = (b"new!", b"?", True)
    with pytest.raises(SourceError, match="has a property that is not read here"):
        read(heif.write(tmp_path / "b.heic", [item]))


def test_what_else_a_heic_holds_is_named(tmp_path: Path) -> None:
    items = [heif.coded(media.card((96, 64), number), tmp_path) for number in range(4)]
    items[2].properties.append((b"auxC", bytes(4) + b"urn:mpeg:hevc:2015:auxid:2\0", True))
    items[2].refs.append((b"auxl", [1]))
    items[3].refs.append((b"thmb", [1]))
    items.append(heif.Item(b"Exif", b"where it was"))
    film = heif.box(b"mpvd", media.write_video(tmp_path / "film.mp4", count=2).read_bytes())
    with open_picture(heif.write(tmp_path / "a.heic", items, behind=film)) as source:
        assert source.info.dropped_streams == (
            "metadata",
            "another picture",
            "maps of depth or the like",
            "a video (motion photo)",
        )


def test_a_moving_avif_is_an_animation(tmp_path: Path) -> None:
    with open_picture(media.write_moving(tmp_path / "a.avif")) as source:
        assert isinstance(source, FileSource)
        numbers = []
        for captured in source.frames():
            with captured.frame.analysis() as bgr:
                numbers.append(media.number_of(np.asarray(bgr)))
            captured.frame.release()
        assert numbers == list(range(10))


def test_limits_and_damage(tmp_path: Path) -> None:
    path = heif.write(tmp_path / "a.heic", heif.tiled(media.card((128, 64)), 64, 2, tmp_path))
    with pytest.raises(SourceError, match="exceeds the limit"):
        read(path, FileOptions(max_pixels=8000))
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises((TruncatedSourceError, SourceError)):
        read(path)
    broken = heif.tiled(media.card((128, 64)), 64, 2, tmp_path)
    broken[0].refs = [(b"dimg", [2])]
    with pytest.raises(SourceError, match="damaged"):
        read(heif.write(path, broken))
    broken[0].refs = [(b"dimg", [1, 1])]  # it would be made from itself
    with pytest.raises(SourceError, match="not read here"):
        read(heif.write(path, broken))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_whatever_is_changed_it_is_a_picture_or_one_line(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "whole.heic"
    if not path.exists():
        heif.write(path, heif.tiled(media.card((128, 64)), 64, 2, tmp_path))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(900, len(content) - 1)))] = data.draw(
            st.integers(0, 255)
        )
    changed = tmp_path / "changed.heic"
    changed.write_bytes(content)
    problem = ""
    try:
        with ImageSource(changed) as source:
            assert len(list(source.frames())) == 1
    except SourceError as error:
        problem = str(error)
    assert "\n" not in problem
