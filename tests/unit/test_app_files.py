"""What a run over a file refuses besides what its parts refuse: an input that is not done yet."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import av
import pytest

import m2fp_stream
from m2fp_stream.config import Settings
from m2fp_stream.core.errors import SourceError, UsageError
from m2fp_stream.core.records import Progress
from m2fp_stream.sources.options import FileOptions
from tests.e2e.test_cli_bad_input import write_clip

OPTIONS = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Fragments, as recorders write them: at each moment it looks complete."""
    write_clip(tmp_path / "plain.mp4", frames=20)
    path = tmp_path / "clip.mp4"
    with av.open(tmp_path / "plain.mp4") as plain, av.open(path, "w", options=OPTIONS) as out:
        stream = out.add_stream_from_template(plain.streams.video[0])
        for packet in plain.demux(plain.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    (tmp_path / "plain.mp4").unlink()
    return path


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0\0\0\x08free")


def write_over(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(0, 12345))


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def during(change: Callable[[Path], None], path: Path) -> Callable[[Progress], None]:
    """Changes the file when its last frames are written."""
    changed: list[bool] = []

    def on_progress(_: Progress) -> None:
        if not changed:
            changed.append(True)
            change(path)

    return on_progress


@pytest.mark.parametrize(
    ("source", "target", "problem"),
    [
        ("-", None, "-: name an output"),
        ("in/%03d.png", None, "name an output"),
        ("a.mp4", "a.mov", "unknown output format '.mov' of .*; use .mp4, .mkv, .webm, .gif or a"),
        ("a.mp4", "x.webm", "x.webm: encoder: expected av1 or vp9 in WebM"),
    ],
)
def test_an_output_that_cannot_be_meant_is_refused_before_any_work(
    source: str, target: str | None, problem: str
) -> None:
    settings = Settings.model_validate({"output": {"encoder": "x264"}})
    with pytest.raises(UsageError, match=problem):
        m2fp_stream.anonymize(source, target, settings)


@pytest.mark.parametrize("change", [grow, write_over, shrink])
def test_an_input_that_changes_while_it_is_read_is_refused(
    change: Callable[[Path], None], clip: Path
) -> None:
    with pytest.raises(SourceError, match="is still being written") as caught:
        m2fp_stream.anonymize(clip, progress=during(change, clip))
    assert "--salvage" in str(caught.value)
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]


def test_salvage_writes_what_there_is_of_it_with_a_warning(clip: Path) -> None:
    warnings: list[str] = []
    report = m2fp_stream.anonymize(
        clip,
        config=Settings(source=FileOptions(salvage=True)),
        progress=during(grow, clip),
        on_warning=warnings.append,
    )
    assert report.frames == 20
    assert len(warnings) == 1
    assert "is still being written" in warnings[0]


def test_an_input_that_is_replaced_was_whole(clip: Path) -> None:
    def replace(path: Path) -> None:
        other = path.with_name("other.mp4")
        other.write_bytes(b"another file")
        other.replace(path)

    assert m2fp_stream.anonymize(clip, progress=during(replace, clip)).frames == 20


def test_a_disk_that_is_pulled_out_is_no_internal_error(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all was read from memory before that, its state is all that cannot be asked for."""
    real = os.fstat

    def gone(fd: int) -> os.stat_result:
        if Path(f"/proc/self/fd/{fd}").resolve() == clip:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd)

    def pull(_: Path) -> None:
        monkeypatch.setattr(os, "fstat", gone)

    with pytest.raises(SourceError, match="it changed while it was read"):
        m2fp_stream.anonymize(clip, progress=during(pull, clip))
