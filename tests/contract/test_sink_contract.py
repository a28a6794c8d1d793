"""What every sink promises, asked of every sink: complete or absent, and sealed."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import pkgutil
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import m2fp_stream.sinks
from m2fp_stream.core.errors import SealError, SinkError
from m2fp_stream.core.labels import CIHP
from m2fp_stream.core.records import ParseResult
from m2fp_stream.core.safe import LabelImage, SafeFrame
from m2fp_stream.sinks.animation import AnimationSink
from m2fp_stream.sinks.base import Sink
from m2fp_stream.sinks.encoders import VideoFileOptions
from m2fp_stream.sinks.image import GifSink, ImageSink, MemoryImageSink
from m2fp_stream.sinks.label_png import LabelPngSink, MemoryLabelSink
from m2fp_stream.sinks.sequence import SequenceSink
from m2fp_stream.sinks.track_table import TrackTableSink
from m2fp_stream.sinks.video_file import VideoFileSink
from tests.contract.test_live_sink_contract import LIVE_SINKS
from tests.kit import media

TIME_BASE = Fraction(1, 25)
NOISE = np.random.default_rng(7).integers(0, 256, (64, 96, 3), np.uint8)


def label_image() -> LabelImage:
    """Returns a label image of 96x64 that does not compress to nothing."""
    labels = np.random.default_rng(7).integers(0, 21, (64, 96), np.uint8)
    result = ParseResult(
        frame_id=0,
        label_map=labels,
        labels=CIHP,
        groups=(),
        evidence=np.zeros((0, 64, 96), np.uint8),
        must_cover=np.zeros((64, 96), np.bool_),
        instances=None,
        parser_id="test",
    )
    return LabelImage(result, size_wh=(96, 64))


def safe_frame() -> SafeFrame:
    """Returns a composed frame of 96x64 that does not compress to nothing."""
    return media.composed(NOISE, time_base=TIME_BASE)


@dataclass(frozen=True)
class Case:
    """One sink: how it is opened, under which name, and what it takes."""

    open: Callable[..., Sink[Any]]
    name: str
    item: Callable[[], object]
    made_as: str = ""

    @property
    def made(self) -> str:
        """The name under which its output appears."""
        return self.made_as or self.name


def _video(path: Path, **options: Any) -> Sink[Any]:
    fast = VideoFileOptions(preset="ultrafast", crf=0)
    return VideoFileSink(path, size_wh=(96, 64), time_base=TIME_BASE, options=fast, **options)


def _webm(path: Path, **options: Any) -> Sink[Any]:
    fast = VideoFileOptions(container="webm", preset="ultrafast")
    return VideoFileSink(path, size_wh=(96, 64), time_base=TIME_BASE, options=fast, **options)


def _gif(path: Path, **options: Any) -> Sink[Any]:
    return GifSink(path, time_base=TIME_BASE, **options)


def _moving(path: Path, **options: Any) -> Sink[Any]:
    return AnimationSink(path, time_base=TIME_BASE, **options)


CASES = (
    Case(_moving, "out.webp", safe_frame),
    Case(_moving, "out.apng", safe_frame),
    Case(_video, "out.mp4", safe_frame),
    Case(_webm, "out.webm", safe_frame),
    Case(SequenceSink, "%06d.png", safe_frame, "000001.png"),
    Case(_gif, "out.gif", safe_frame),
    Case(ImageSink, "out.png", safe_frame),
    Case(LabelPngSink, "labels.png", label_image),
    Case(TrackTableSink, "tracks.csv", lambda: media.located(200)),
    Case(TrackTableSink, "tracks.json", lambda: media.located(200)),
)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def _concrete(kind: type) -> set[type]:
    children: list[type] = kind.__subclasses__()
    found = set() if inspect.isabstract(kind) else {kind}
    return found.union(*map(_concrete, children))


def test_every_sink_of_the_package_is_asked(tmp_path: Path) -> None:
    for module in pkgutil.iter_modules(m2fp_stream.sinks.__path__, "m2fp_stream.sinks."):
        importlib.import_module(module.name)
    package = {kind for kind in _concrete(Sink) if kind.__module__.startswith("m2fp_stream.")}
    asked = set()
    for one in CASES:
        with one.open(tmp_path / one.name) as sink:
            asked.add(type(sink))
    assert asked | LIVE_SINKS | {MemoryImageSink, MemoryLabelSink} == package
    for kind in package:
        assert getattr(kind, "__final__", False), f"{kind.__name__} is not marked @final"


def test_the_output_appears_at_finish_and_not_before(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    with case.open(path) as sink:
        sink.write(case.item())
        assert [one.name for one in tmp_path.iterdir()] == [f".{case.name}.part"]
        part = tmp_path / f".{case.name}.part"
        assert part.stat().st_mode & 0o777 == (0o700 if part.is_dir() else 0o600)
        sink.finish()
        assert [one.name for one in tmp_path.iterdir()] == [case.made]
    assert (tmp_path / case.made).stat().st_size > 0


def test_the_same_items_make_the_same_file(case: Case, tmp_path: Path) -> None:
    """Of video the same pictures: x264's bytes may differ (tests/unit/test_sink_video_file.py)."""
    written = set()
    for name in ("a", "b"):
        path = tmp_path / name / case.name
        path.parent.mkdir()
        with case.open(path) as sink:
            sink.write(case.item())
            sink.finish()
        if case.name.endswith((".mp4", ".webm")):
            with av.open(path) as container:
                pictures = [frame.to_ndarray() for frame in container.decode(video=0)]
            content = b"".join(np.ascontiguousarray(one).tobytes() for one in pictures)
        else:
            content = path.with_name(case.made).read_bytes()
        written.add(hashlib.sha256(content).hexdigest())
    assert len(written) == 1


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_rights_are_what_the_umask_allows(case: Case, tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with case.open(tmp_path / case.name) as sink:
            sink.write(case.item())
            sink.finish()
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / case.made).stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("leave", ["return", "raise", "abort", "abort twice"])
def test_leaving_early_leaves_nothing(case: Case, tmp_path: Path, leave: str) -> None:
    try:
        with case.open(tmp_path / case.name) as sink:
            sink.write(case.item())
            if leave == "raise":
                raise KeyboardInterrupt
            for _ in range(leave.count("abort") + leave.count("twice")):
                sink.abort()
    except KeyboardInterrupt:
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_finished_sink_takes_nothing_more_and_cannot_be_undone(
    case: Case, tmp_path: Path
) -> None:
    with case.open(tmp_path / case.name) as sink:
        sink.write(case.item())
        sink.finish()
        content = (tmp_path / case.made).read_bytes()
        with pytest.raises(SinkError, match="is closed"):
            sink.write(case.item())
        with pytest.raises(SinkError, match="is closed"):
            sink.finish()
        sink.abort()
    assert (tmp_path / case.made).read_bytes() == content


def test_finishing_without_an_item_is_an_error_and_leaves_nothing(
    case: Case, tmp_path: Path
) -> None:
    sink = case.open(tmp_path / case.name)
    with pytest.raises(SinkError, match=r"no .* was written"):
        sink.finish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [NOISE, b"bytes", None, object()], ids=type)
def test_anything_else_than_its_sealed_type_stops_the_output(
    case: Case, tmp_path: Path, wrong: Any
) -> None:
    sink = case.open(tmp_path / case.name)
    sink.write(case.item())
    with pytest.raises(SealError, match="refused a"):
        sink.write(wrong)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_not_touched_without_overwrite(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.made
    path.write_bytes(b"precious")
    with pytest.raises(SinkError, match=r"exists already.*--overwrite"):
        case.open(tmp_path / case.name)
    assert [one.name for one in tmp_path.iterdir()] == [case.made]
    assert path.read_bytes() == b"precious"


def test_an_output_that_appears_meanwhile_is_not_touched_without_overwrite(
    case: Case, tmp_path: Path
) -> None:
    path = tmp_path / case.made
    sink = case.open(tmp_path / case.name)
    sink.write(case.item())
    path.write_bytes(b"precious")
    with pytest.raises(SinkError, match="File exists"):
        sink.finish()
    assert [one.name for one in tmp_path.iterdir()] == [case.made]
    assert path.read_bytes() == b"precious"


def test_with_overwrite_the_old_output_stands_until_the_new_one_is_complete(
    case: Case, tmp_path: Path
) -> None:
    path = tmp_path / case.made
    path.write_bytes(b"old")
    with case.open(tmp_path / case.name, overwrite=True) as sink:
        sink.write(case.item())
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"old"
    with case.open(tmp_path / case.name, overwrite=True) as sink:
        sink.write(case.item())
        sink.finish()
    assert path.read_bytes() != b"old"
    assert [one.name for one in tmp_path.iterdir()] == [case.made]


@pytest.mark.parametrize(
    ("name", "says"),
    [("missing/{}", "No such file.*make the folder"), ("folder", "is a folder"), ("f/{}", "Not a")],
)
def test_a_place_that_cannot_be_written_to_is_one_line(
    case: Case, tmp_path: Path, name: str, says: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "f").touch()
    suffix = Path(case.name).suffix
    if case.made != case.name and "{" not in name:
        return  # several files: none of them is a folder, see the unit tests
    (tmp_path / f"folder{suffix}").mkdir()
    path = tmp_path / (name.format(case.name) if "{" in name else name + suffix)
    with pytest.raises(SinkError, match=says) as caught:
        case.open(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_folder_without_write_permission_is_one_line(case: Case, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may write everywhere
    try:
        with pytest.raises(SinkError, match="Permission denied"):
            case.open(closed / case.name)
    finally:
        os.seteuid(user)
    assert list(closed.iterdir()) == []


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Lets no file grow beyond `limit` bytes; Python ignores the signal that goes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [0, 40, 900])
def test_a_file_that_may_not_grow_is_an_error_and_leaves_nothing(
    case: Case, tmp_path: Path, limit: int
) -> None:
    with (
        file_size_limit(limit),
        pytest.raises(SinkError, match="File too large"),
        case.open(tmp_path / case.name) as sink,
    ):
        sink.write(case.item())
        sink.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_leaves_nothing(case: Case, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        (disk / "filler").write_bytes(b"\0" * 4096)
        with (
            pytest.raises(SinkError, match="No space left"),
            case.open(disk / case.name) as sink,
        ):
            sink.write(case.item())
            sink.finish()
        assert [one.name for one in disk.iterdir()] == ["filler"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_two_runs_cannot_write_one_output(case: Case, tmp_path: Path) -> None:
    with case.open(tmp_path / case.name) as sink:
        with pytest.raises(SinkError, match="another run is writing it"):
            case.open(tmp_path / case.name)
        sink.write(case.item())
        sink.finish()
    assert [one.name for one in tmp_path.iterdir()] == [case.made]


def test_what_a_killed_run_left_is_replaced(case: Case, tmp_path: Path) -> None:
    part = tmp_path / f".{case.name}.part"
    if case.made != case.name:
        part.mkdir()
        part /= "000007.png"
    part.write_bytes(b"half")
    with case.open(tmp_path / case.name) as sink:
        sink.write(case.item())
        sink.finish()
    assert [one.name for one in tmp_path.iterdir()] == [case.made]


def test_a_link_in_place_of_the_part_file_is_not_followed(case: Case, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f".{case.name}.part").symlink_to(victim)
    with pytest.raises(SinkError, match=r"Too many levels of symbolic links|Not a directory"):
        case.open(tmp_path / case.name)
    assert victim.read_bytes() == b"precious"


# -- sinks whose output is memory ------------------------------------------------------------------


@dataclass(frozen=True)
class InMemory:
    """A sink into memory, and the file sink whose bytes it has to make."""

    open: Callable[[], MemoryImageSink | MemoryLabelSink]
    file: Case


IN_MEMORY = (
    InMemory(lambda: MemoryImageSink(".png"), Case(ImageSink, "out.png", safe_frame)),
    InMemory(lambda: MemoryImageSink(".jpg"), Case(ImageSink, "out.jpg", safe_frame)),
    InMemory(MemoryLabelSink, Case(LabelPngSink, "labels.png", label_image)),
    InMemory(
        lambda: MemoryLabelSink("palette"),
        Case(lambda path: LabelPngSink(path, "palette"), "labels.png", label_image),
    ),
)


@pytest.fixture(params=IN_MEMORY, ids=["png", "jpg", "index", "palette"])
def in_memory(request: pytest.FixtureRequest) -> InMemory:
    found: InMemory = request.param
    return found


def _write(sink: Any, item: object) -> None:
    sink.write(item)


def test_memory_gets_what_a_file_would_and_only_at_finish(
    in_memory: InMemory, tmp_path: Path
) -> None:
    path = tmp_path / in_memory.file.name
    with in_memory.file.open(path) as file:
        _write(file, in_memory.file.item())
        file.finish()
    with in_memory.open() as sink:
        with pytest.raises(SinkError, match=r"finish\(\) first"):
            _ = sink.data
        _write(sink, in_memory.file.item())
        with pytest.raises(SinkError, match=r"finish\(\) first"):
            _ = sink.data
        sink.finish()
    assert sink.data == path.read_bytes()


@pytest.mark.parametrize("wrong", [NOISE, b"bytes", None, object()], ids=type)
def test_memory_is_sealed_too_and_keeps_nothing(in_memory: InMemory, wrong: Any) -> None:
    sink = in_memory.open()
    _write(sink, in_memory.file.item())
    with pytest.raises(SealError, match="refused a"):
        _write(sink, wrong)
    with pytest.raises(SinkError, match=r"finish\(\) first"):
        _ = sink.data


def test_memory_takes_one_picture_and_wants_one(in_memory: InMemory) -> None:
    with in_memory.open() as sink, pytest.raises(SinkError, match="was written"):
        sink.finish()
    with in_memory.open() as sink:
        _write(sink, in_memory.file.item())
        with pytest.raises(SinkError, match="only"):
            _write(sink, in_memory.file.item())
        with pytest.raises(SinkError, match=r"finish\(\) first"):
            _ = sink.data


def test_memory_knows_its_kinds_of_pictures() -> None:
    with pytest.raises(SinkError, match="unknown kind"):
        MemoryImageSink(".exe")
