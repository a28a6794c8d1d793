"""Files that appear under their final name only when they are complete."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
from pathlib import Path

import pytest

from m2fp_stream.core.errors import SinkError
from m2fp_stream.core.part_file import PartFile, part_name, replace_file


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


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("end", ["publish", "discard"])
def test_a_claimed_name_is_kept_by_publish_and_given_back_by_discard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, links: bool
) -> None:
    if not links:
        without_links(monkeypatch)
    part = PartFile(tmp_path / "out", overwrite=False)
    part.write(b"new")
    part.claim()
    assert (tmp_path / "out").exists() == links
    part.publish() if end == "publish" else part.discard()
    left = ["out"] if end == "publish" else []
    assert [one.name for one in tmp_path.iterdir()] == left
    assert part.closed
    if left:
        assert (tmp_path / "out").read_bytes() == b"new"


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_is_taken_cannot_be_claimed_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        without_links(monkeypatch)
    part = PartFile(tmp_path / "out", overwrite=False)
    (tmp_path / "out").write_bytes(b"precious")
    with pytest.raises(SinkError, match="File exists"):
        part.claim()
    part.discard()
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"precious"]


def test_what_stands_there_is_replaced_by_publish_not_by_claim(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    for end in ("discard", "publish"):
        part = PartFile(tmp_path / "out", overwrite=True)
        part.write(b"new")
        part.claim()
        assert (tmp_path / "out").read_bytes() == b"old"
        getattr(part, end)()
        assert (tmp_path / "out").read_bytes() == (b"new" if end == "publish" else b"old")
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_a_claimed_name_that_somebody_else_took_over_is_left_to_him(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "out", overwrite=False)
    part.claim()
    (tmp_path / "out").unlink()
    (tmp_path / "out").write_bytes(b"another run's")
    part.discard()
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"another run's"]


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


def test_what_was_not_published_is_discarded_at_the_end_of_the_block(tmp_path: Path) -> None:
    with PartFile(tmp_path / "out", overwrite=False) as part:
        part.write(b"half")
    assert list(tmp_path.iterdir()) == []
    with PartFile(tmp_path / "out", overwrite=False) as part:
        part.write(b"whole")
        part.publish()
    assert (tmp_path / "out").read_bytes() == b"whole"


@pytest.mark.parametrize(("private", "rights"), [(True, 0o600), (False, 0o640)])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, private: bool, rights: int) -> None:
    path = tmp_path / "state.json"
    before = os.umask(0o027)
    try:
        for data in (b"old and long", b"new"):
            replace_file(path, data, private=private)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == rights
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("sync", [True, False])
def test_the_disk_is_waited_for_unless_it_is_said_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    replace_file(tmp_path / "a", b"x", sync=sync)
    assert len(synced) == sync


def test_a_file_that_cannot_be_replaced_stays_and_the_error_has_the_systems_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")

    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "x")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SinkError, match="free some space") as refused:
        replace_file(path, b"new")
    assert (refused.value.errno, refused.value.strerror) == (
        errno.ENOSPC,
        "No space left on device",
    )
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_every_refusal_has_a_number(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken").write_bytes(b"")
    numbers = []
    with PartFile(tmp_path / "busy", overwrite=True) as busy:
        for name in ("folder", "taken", "busy", "gone/file"):
            with pytest.raises(SinkError) as refused:
                PartFile(tmp_path / name, overwrite=False)
            numbers.append(refused.value.errno)
        part_name(tmp_path / "busy").unlink()
        with pytest.raises(SinkError) as refused:
            busy.check()
        numbers.append(refused.value.errno)
    assert numbers == [errno.EISDIR, errno.EEXIST, errno.EAGAIN, errno.ENOENT, errno.ENOENT]


def test_out_of_turn_a_process_does_not_wait_for_another(tmp_path: Path) -> None:
    with PartFile(tmp_path / "net", overwrite=True):
        replace_file(tmp_path / "net", b"x", in_turns=False)
    assert (tmp_path / "net").read_bytes() == b"x"
    assert [one.name for one in tmp_path.iterdir()] == ["net"]


def test_what_could_not_be_written_is_cut_off_and_the_rest_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = PartFile(tmp_path / "out", overwrite=False)
    part.write(b"whole, half")
    part.check()

    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "x")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="x"):
            part.write(b"more")
    part.cut(5)
    part.publish()
    assert (tmp_path / "out").read_bytes() == b"whole"


@pytest.mark.parametrize("char", ["x", "人"])
def test_the_longest_name_that_a_folder_takes_can_be_written(char: str, tmp_path: Path) -> None:
    names = [f"{char * (250 // len(char.encode()))}{end}.mp4" for end in "ab"]
    for name in names:
        with PartFile(tmp_path / name, overwrite=False) as part:
            assert part_name(tmp_path / name).exists()
            part.write(name.encode())
            part.publish()
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with pytest.raises(SinkError, match="choose a shorter name"):
        PartFile(tmp_path / ("x" * 256), overwrite=False)


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("linked", [True, False])
def test_a_pipe_or_a_device_is_not_replaced_by_a_file(
    tmp_path: Path, linked: bool, overwrite: bool
) -> None:
    """`--stats /dev/null` as root would leave the machine a file in its place."""
    os.mkfifo(tmp_path / "pipe")
    target = tmp_path / "pipe"
    if linked:
        target = tmp_path / "link"
        target.symlink_to("pipe")
    with pytest.raises(SinkError, match="is a pipe or a device, or leads to one") as caught:
        PartFile(target, overwrite=overwrite)
    assert caught.value.exit_code == 5
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"pipe", target.name})


def test_links_to_files_and_to_nothing_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    for name in ("file", "nothing"):
        (tmp_path / "link").symlink_to(name)
        replace_file(tmp_path / "link", b"new")
        assert not (tmp_path / "link").is_symlink()
        (tmp_path / "link").unlink()
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINVAL])
def test_a_name_that_a_stick_cannot_hold_is_said_to_be_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """FAT and exFAT refuse `10:30.mp4` as if its folder were missing."""
    make = os.open

    def refuse(path: object, flags: int, mode: int = 0o777, **more: int) -> int:
        if ":" in str(path):
            raise OSError(number, os.strerror(number))
        return make(str(path), flags, mode, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SinkError, match=r"10:30.mp4: cannot be written .*without \\ : \* \? "):
        PartFile(tmp_path / "10:30.mp4", overwrite=False)
    with pytest.raises(SinkError, match=r"make the folder first|check the folder"):
        PartFile(tmp_path / "none" / "10:30.mp4", overwrite=False)


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_a_folder_without_a_name_is_a_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SinkError, match="is a folder, expected a file name"):
        PartFile(Path(name), overwrite=True)
