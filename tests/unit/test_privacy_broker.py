"""Part files that another process makes, names and removes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from m2fp_stream.core.errors import SinkError
from m2fp_stream.core.part_file import PartFile, part_name, replace_file
from m2fp_stream.privacy import broker as room
from m2fp_stream.privacy.broker import FileBroker
from m2fp_stream.processes.channel import send
from tests.kit.wait import wait_until


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[FileBroker]:
    (tmp_path / "any").mkdir()
    started = FileBroker.start([tmp_path / "out", tmp_path / "gone/out"], [tmp_path / "any"])
    yield started
    started.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_a_kept_file_is_written_here_and_appears_complete(
    broker: FileBroker, tmp_path: Path
) -> None:
    with PartFile(tmp_path / "out", overwrite=False) as part:
        part.write(b"hello world")
        part.seek(0)
        part.write(b"J")
        with part.reopen() as again:
            assert again.read() == b"Jello world"
        part.check()
        assert names(tmp_path) == [".out.part"]
        part.publish()
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"Jello world"
    replace_file(tmp_path / "out", b"new", private=True)
    replace_file(tmp_path / "any/other", b"x")
    assert (tmp_path / "out").read_bytes() == b"new"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_a_name_may_be_taken_before_the_file_appears(broker: FileBroker, tmp_path: Path) -> None:
    with PartFile(tmp_path / "out", overwrite=False) as part:
        part.write(b"rows")
        part.claim()
        assert (tmp_path / "out").read_bytes() == b"rows"
        part.publish()
    with PartFile(tmp_path / "any/other", overwrite=False) as part:
        part.claim()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "any") == []  # given back


def test_what_is_refused_has_the_words_and_numbers_of_a_part_file(
    broker: FileBroker, tmp_path: Path
) -> None:
    (tmp_path / "out").write_bytes(b"old")
    for path, words, number in (
        (tmp_path / "out", "exists already; choose another name", errno.EEXIST),
        (tmp_path / "gone/out", "make the folder first", errno.ENOENT),
        (tmp_path / "diary", "none of the outputs that were named", None),
        (tmp_path / "any/deep/diary", "none of the outputs that were named", None),
    ):
        with pytest.raises(SinkError, match=words) as refused:
            PartFile(path, overwrite=False)
        assert refused.value.errno == number
    with PartFile(tmp_path / "out", overwrite=True) as part:
        part_name(tmp_path / "out").unlink()
        with pytest.raises(SinkError, match="was deleted while it was written"):
            part.check()
        with pytest.raises(SinkError, match="its part file was replaced"):
            part.publish()
    assert (tmp_path / "out").read_bytes() == b"old"


def test_whatever_is_asked_nothing_else_is_touched(broker: FileBroker, tmp_path: Path) -> None:
    (tmp_path / "diary").write_bytes(b"mine")
    for asked in (
        {},
        {"do": "publish", "path": str(tmp_path / "out"), "private": False, "sync": False},
        {"do": "make", "path": str(tmp_path / "any/../diary"), "overwrite": True},
        {"do": "make", "path": str(tmp_path / "out")},
        {"do": "close", "path": str(tmp_path / "out")},
        {"do": ["make"], "path": [str(tmp_path / "out")]},
    ):
        send(broker._channel, {"number": 0, **asked})
    with PartFile(tmp_path / "out", overwrite=False) as part:  # its answer comes behind those
        part.publish()
    assert names(tmp_path) == ["diary", "out"]
    assert (tmp_path / "diary").read_bytes() == b"mine"


def test_what_an_interrupted_request_made_is_not_in_the_way(
    broker: FileBroker, tmp_path: Path
) -> None:
    for _ in range(2):  # its answers stay unread
        asked = {"number": 0, "do": "make", "path": str(tmp_path / "out"), "overwrite": False}
        send(broker._channel, asked)
    before = len([*Path("/proc/self/fd").iterdir()])
    with PartFile(tmp_path / "out", overwrite=False) as part:
        part.write(b"x")
        part.publish()
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert names(tmp_path) == ["out"]


def test_what_is_unfinished_at_the_end_is_removed_before_anybody_goes_on(
    broker: FileBroker, tmp_path: Path
) -> None:
    part = PartFile(tmp_path / "out", overwrite=False)
    broker.close()
    broker.close()
    assert names(tmp_path) == []
    part.discard()


def test_a_process_that_is_gone_is_an_error_of_the_output(
    broker: FileBroker, tmp_path: Path
) -> None:
    part = PartFile(tmp_path / "out", overwrite=False)
    broker._child.kill()
    wait_until(lambda: broker._child.poll() is not None)
    with pytest.raises(SinkError, match="the process that makes outputs is gone; run again"):
        part.publish()
    part.discard()
    with pytest.raises(SinkError, match="is gone"):
        PartFile(tmp_path / "out", overwrite=False)


def test_an_answer_without_its_file_is_refused(
    broker: FileBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"number": 1}
    monkeypatch.setattr(room, "receive_with_descriptors", lambda _: (told, []))
    with pytest.raises(SinkError, match="sent no file"):
        PartFile(tmp_path / "out", overwrite=False)


def test_the_process_does_not_hear_what_ends_the_run(broker: FileBroker, tmp_path: Path) -> None:
    """A terminal that is closed tells both; who makes the files has to clean up after the other."""
    with PartFile(tmp_path / "out", overwrite=False) as part:  # it is there by now
        for number in (1, 2, 15):
            with suppress(ProcessLookupError):
                os.kill(broker._child.pid, number)
        part.publish()
    assert names(tmp_path) == ["out"]
