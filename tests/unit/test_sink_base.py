"""The sealed base class of all sinks, and the part file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
from pathlib import Path
from typing import ClassVar

import pytest

from m2fp_stream.core.errors import SealError, SinkError
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import SafeFrame
from m2fp_stream.sinks.base import PartFile, Sink
from tests import media


class Listed(Sink[SafeFrame]):
    """Keeps what reached it."""

    accepts: ClassVar[type] = SafeFrame
    fails: ClassVar[type[BaseException] | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.got: list[SafeFrame] = []
        self.events: list[str] = []

    def _emit(self, item: SafeFrame) -> None:
        if self.fails is not None:
            raise self.fails
        self.got.append(item)

    def _finish(self) -> None:
        if self.fails is not None:
            raise self.fails
        self.events.append("finish")

    def _abort(self) -> None:
        self.events.append("abort")


class Broken(Listed):
    """Fails at everything."""

    fails: ClassVar[type[BaseException] | None] = KeyboardInterrupt


FRAME = media.composed(media.card())


@pytest.mark.parametrize("step", ["write", "finish"])
def test_a_sink_that_fails_is_aborted_and_closed(step: str) -> None:
    sink = Broken()
    with pytest.raises(KeyboardInterrupt):
        sink.write(FRAME) if step == "write" else sink.finish()
    assert sink.events == ["abort"]
    with pytest.raises(SinkError, match="Broken is closed"):
        sink.write(FRAME)


def test_accepts_bent_after_the_fact_lets_no_raw_frame_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = Listed()
    monkeypatch.setattr(Listed, "accepts", RawFrame)
    raw = RawFrame(media.card(), frame_id=0, pts=0, time_base=FRAME.time_base, captured_ns=0)
    with pytest.raises(SealError, match="refused a RawFrame"):
        sink.write(raw)  # type: ignore[arg-type]  # the point
    assert sink.got == []


def test_a_sink_without_accepts_is_no_class() -> None:
    with pytest.raises(SealError, match="accepts must be one of SafeFrame, LabelImage"):

        class Vague(Sink[SafeFrame]):
            """Names nothing."""


def test_the_hook_that_seals_cannot_be_overridden() -> None:
    with pytest.raises(SealError, match="may not override __init_subclass__"):

        class Unsealed(Listed):
            """Would let its subclasses do as they like."""

            def __init_subclass__(cls) -> None:
                """Checks nothing."""


@pytest.mark.parametrize(("ticks", "kept"), [(40, 40), (0, 1), (-3, 1)])
def test_the_last_duration_is_at_least_one_tick(ticks: int, kept: int) -> None:
    sink = Listed()
    sink.set_last_duration(ticks)
    assert sink._last_duration == kept


# ----------------------------------------------------------------- the part file


def test_a_part_file_reads_back_what_was_written(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "out", overwrite=False)
    assert part.name == str(tmp_path / ".out.part")
    assert part.write(b"hello world") == 11
    assert part.seek(0) == 0
    assert part.write(b"J") == 1
    assert part.tell() == 1
    with part.reopen("any name", 1) as again:
        assert again.read() == b"Jello world"
    assert [part.closed] == [False]
    part.publish()
    assert [part.closed] == [True]
    assert (tmp_path / "out").read_bytes() == b"Jello world"


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    part = PartFile(tmp_path / "out", overwrite=False)
    part.write(b"hello world")
    part.publish()
    assert (tmp_path / "out").read_bytes() == b"hello world"


@pytest.mark.parametrize(
    ("number", "refused"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EFBIG, True), (errno.EOPNOTSUPP, False)],
)
def test_room_is_asked_for_ahead_where_a_file_system_can_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, refused: bool
) -> None:
    part = PartFile(tmp_path / "out", overwrite=False)
    part.ask_for(4096)
    assert Path(part.name).stat().st_size == 0

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        if refused:
            with pytest.raises(SinkError, match=os.strerror(number)):
                part.ask_for(4096)
        else:
            part.ask_for(4096)
    part.discard()


def test_a_failed_write_is_remembered_even_if_the_caller_ignores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = PartFile(tmp_path / "out", overwrite=False)

    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "x")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="x"):
            part.write(b"hello")
    with pytest.raises(SinkError, match=r"No space left on device\); free some space"):
        part.publish()
    part.discard()
    part.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taken", [False, True])
def test_where_there_are_no_hard_links_the_name_is_checked_and_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    part = PartFile(tmp_path / "out", overwrite=False)
    part.write(b"new")
    if taken:
        (tmp_path / "out").write_bytes(b"old")
        with pytest.raises(SinkError, match="File exists"):
            part.publish()
        part.discard()
    else:
        part.publish()
    assert (tmp_path / "out").read_bytes() == (b"old" if taken else b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_part_file_that_is_no_longer_ours_is_not_published(tmp_path: Path, how: str) -> None:
    part = PartFile(tmp_path / "out", overwrite=True)
    hidden = tmp_path / ".out.part"
    hidden.unlink()
    if how == "replaced":
        hidden.write_bytes(b"of another run")
    with pytest.raises(SinkError, match="its part file was replaced"):
        part.publish()
    part.discard()
    assert hidden.exists() == (how == "replaced")


def test_a_part_file_that_cannot_be_locked_is_taken_away_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(SinkError, match="No locks available"):
        PartFile(tmp_path / "out", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_refuse_names_an_error_without_a_number_by_its_kind(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "out", overwrite=False)
    with pytest.raises(SinkError, match=r"cannot be written \(ValueError\); check the folder"):
        part.refuse(ValueError("what it says is not shown"))
    part.discard()


def test_an_interrupt_in_the_middle_of_a_write_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV prints what its callbacks raise, and goes on."""
    part = PartFile(tmp_path / "out.mp4", overwrite=False)

    def interrupted(fd: int, data: memoryview) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            part.write(b"header")
    part.write(b"the rest")
    with pytest.raises(KeyboardInterrupt):
        part.publish()
    part.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["open", "flock"])
def test_a_signal_while_the_part_file_is_made_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = os if name == "open" else fcntl
    real = getattr(place, name)

    def interrupted(*args: object) -> None:
        monkeypatch.undo()
        real(*args)
        raise KeyboardInterrupt  # as a signal between the call and what is done with its result

    monkeypatch.setattr(place, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        PartFile(tmp_path / "a.mp4", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_does_not_take_the_part_file_of_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = PartFile(tmp_path / "a.mp4", overwrite=False)
    real = os.open

    def interrupted(*args: object) -> int:
        monkeypatch.undo()
        with contextlib.suppress(FileExistsError):
            return int(real(*args))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        PartFile(tmp_path / "a.mp4", overwrite=False)
    other.write(b"picture")
    other.publish()
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_part_file_that_nobody_holds_is_gone(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "a.mp4", overwrite=False)
    assert len(list(tmp_path.iterdir())) == 1
    del part
    gc.collect()
    assert list(tmp_path.iterdir()) == []
