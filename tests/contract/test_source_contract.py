"""What every source promises, asked of every source."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

import m2fp_stream.sources
from m2fp_stream.core.errors import LeaseError, SourceError
from m2fp_stream.sources.base import Source
from m2fp_stream.sources.file import FileSource
from m2fp_stream.sources.image import ImageSource
from m2fp_stream.sources.options import FileOptions
from m2fp_stream.sources.sequence import SequenceSource
from m2fp_stream.sources.webp import WebpSource
from tests.contract.test_live_source_contract import LIVE_SOURCES
from tests.kit import media


def _mp4(folder: Path) -> Source:
    return FileSource(media.write_video(folder / "clip.mp4"))


def _gif(folder: Path) -> Source:
    path = media.write_video(folder / "clip.gif", codec="gif", pix_fmt="rgb8")
    return FileSource(path, FileOptions(threads=1))


def _png(folder: Path) -> Source:
    path = folder / "picture.png"
    path.write_bytes(cv2.imencode(".png", media.card())[1].tobytes())
    return ImageSource(path)


def _webp(folder: Path) -> Source:
    return WebpSource(media.write_moving(folder / "moving.webp"))


def _numbered(folder: Path) -> Source:
    for number in range(3):
        data = cv2.imencode(".png", media.card(number=number))[1].tobytes()
        (folder / f"{98 + number}.png").write_bytes(data)
    return SequenceSource(folder / "%d.png")


MAKERS: tuple[Callable[[Path], Source], ...] = (_mp4, _gif, _png, _webp, _numbered)


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Source]:
    return lambda: request.param(tmp_path)


def _concrete(kind: type) -> set[type]:
    children: list[type] = kind.__subclasses__()
    found = set() if inspect.isabstract(kind) else {kind}
    return found.union(*map(_concrete, children))


def test_every_source_of_the_package_is_asked(tmp_path: Path) -> None:
    for module in pkgutil.iter_modules(m2fp_stream.sources.__path__, "m2fp_stream.sources."):
        importlib.import_module(module.name)
    package = {kind for kind in _concrete(Source) if kind.__module__.startswith("m2fp_stream.")}
    asked = set()
    for maker in MAKERS:
        with maker(tmp_path) as source:
            asked.add(type(source))
    assert asked | LIVE_SOURCES == package


def test_frames_are_upright_bgr_of_the_stated_size_with_rising_times(
    make: Callable[[], Source],
) -> None:
    with make() as source:
        info, last = source.info, -1
        for number, captured in enumerate(source.frames()):
            frame = captured.frame
            assert frame.frame_id == number
            assert frame.time_base == info.time_base
            assert frame.size_wh == info.size_wh == (96, 64)
            assert frame.pts > last
            assert not captured.restart
            with frame.analysis() as bgr:
                assert media.number_of(bgr) == number
                for name, colour in media.corners(bgr).items():
                    assert colour == pytest.approx(media.QUADRANTS[name], abs=4)
            last = frame.pts
            frame.release()
        assert number + 1 == info.frame_count


def test_frames_can_be_had_once(make: Callable[[], Source]) -> None:
    with make() as source:
        next(source.frames()).frame.release()
        with pytest.raises(SourceError, match="once only"):
            source.frames()


def test_a_closed_source_gives_no_frames_and_closes_twice(make: Callable[[], Source]) -> None:
    source = make()
    source.close()
    source.close()
    with pytest.raises(SourceError, match="once only"):
        source.frames()


def test_frames_not_begun_before_close_are_an_error(make: Callable[[], Source]) -> None:
    source = make()
    frames = source.frames()
    source.close()
    with pytest.raises(SourceError, match="was closed before"):
        next(frames)


def test_a_frame_outlives_its_source_and_is_zeroed_on_release(make: Callable[[], Source]) -> None:
    with make() as source:
        frame = next(source.frames()).frame
    with frame.analysis() as bgr:
        assert bgr.any()
        kept = bgr  # what nobody may do
    frame.release()
    assert not kept.any()
    with pytest.raises(LeaseError), frame.analysis():
        pass


def test_close_lets_go_of_the_file(make: Callable[[], Source]) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with make() as source:
        next(source.frames()).frame.release()
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("opener", [FileSource, ImageSource])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "cannot be opened .No such file"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("pipe", "is not a regular file"),
        ("random", "read"),
        ("text.mp4", "read"),
        ("nul\0byte", "cannot be opened"),
    ],
)
def test_bad_input_is_one_line_and_nothing_stays_open(
    opener: Callable[[Path], Source],
    name: str,
    says: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "empty":
        path.touch()
    elif name == "random":
        path.write_bytes(os.urandom(50_000))
    elif name == "text.mp4":
        path.write_text("All work and no play makes Jack a dull boy.\n" * 500)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(SourceError, match=says) as caught:
        opener(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert set(Path("/proc/self/fd").iterdir()) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("opener", [FileSource, ImageSource])
def test_a_file_without_read_permission_is_refused(
    opener: Callable[[Path], Source], tmp_path: Path
) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(SourceError, match=r"Permission denied|is not a"):
            opener(path)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("opener", [FileSource, ImageSource])
@pytest.mark.parametrize("url", ["http://127.0.0.1/a.mp4", "file:{0}", "concat:{0}|{0}", "pipe:0"])
def test_a_url_is_only_ever_the_name_of_a_file(
    opener: Callable[[Path], Source], url: str, tmp_path: Path
) -> None:
    clip = media.write_video(tmp_path / "clip.mp4")
    with pytest.raises(SourceError, match="No such file"):
        opener(Path(url.format(clip)))
