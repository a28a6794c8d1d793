"""The audit log: what is in it, what is not, how large it gets."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from m2fp_stream.core.errors import SinkError
from m2fp_stream.web.audit import Audit


def write(audit: Audit, route: str = "/") -> None:
    audit.write(
        route=route,
        method="GET",
        status=200,
        sent_bytes=10,
        took_ms=1.26,
        loopback=True,
        reason=None,
    )


def test_a_line_says_what_was_asked_and_nothing_of_it(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    audit = Audit(str(file))
    write(audit)
    audit.close()
    write(audit)  # after the end nothing is written, and nothing fails
    (line,) = file.read_text().splitlines()
    entry = json.loads(line)
    assert isinstance(entry.pop("time"), float)
    assert entry == {
        **{"route": "/", "method": "GET", "status": 200, "bytes": 10, "ms": 1.3},
        **{"client": "loopback", "reason": None},
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    file.write_text("before\n")
    file.chmod(0o644)
    Audit(str(file)).close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == "before\n"


def test_the_oldest_lines_go(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    audit = Audit(str(file), file_bytes=1000)
    for number in range(100):
        write(audit, f"/{number}")
    audit.close()
    assert {one.name for one in tmp_path.iterdir()} == {"audit.log", "audit.log.1"}
    assert all(one.stat().st_size <= 1000 for one in tmp_path.iterdir())
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o600 for one in tmp_path.iterdir())
    lines = (tmp_path / "audit.log.1").read_text() + file.read_text()
    routes = [json.loads(line)["route"] for line in lines.splitlines()]
    assert routes == [f"/{number}" for number in range(100 - len(routes), 100)]


@pytest.mark.parametrize("kind", ["folder", "link", "pipe", "nowhere"])
def test_what_is_no_file_of_ours_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "audit.log"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        (tmp_path / "other").write_text("")
        path.symlink_to(tmp_path / "other")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = tmp_path / "none" / "audit.log"
    with pytest.raises(SinkError, match="audit log"):
        Audit(str(path))


def test_a_disk_that_is_full_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    audit = Audit(str(tmp_path / "audit.log"))
    assert audit._descriptor is not None
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, audit._descriptor)
    os.close(full)
    write(audit)
    write(audit)
    assert audit.broken
    assert len(caplog.records) == 1
