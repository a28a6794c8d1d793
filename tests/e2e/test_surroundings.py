"""A user without name or home, streams that are closed or full, locales, names of all kinds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import pytest

from tests.e2e.test_cli_bad_input import write_clip
from tests.kit.cli import clean_environment, program

NOBODY = 54321
NO_HOME = "m2fp-stream: error: this user has no home folder; set HOME, or"


def nobody() -> Sequence[str]:
    """What makes a command one of a user whom the system does not know; skips where it cannot."""
    words = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
    try:
        subprocess.run([*words, sys.executable, "-c", ""], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no user namespaces here (unshare)")
    return words


def homeless() -> dict[str, str]:
    names = ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")
    return {name: value for name, value in clean_environment().items() if name not in names}


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ("doctor", 0, "this user has no home folder; set HOME, or XDG_CACHE_HOME"),
        ("models list", 0, "not pulled"),
        ("models verify", 0, "parts: ok"),
        ("models pull m2fp", 2, f"{NO_HOME} XDG_DATA_HOME"),
        ("models export m2fp", 2, f"{NO_HOME} XDG_DATA_HOME"),
        ("anonymize s.mp4 --parser m2fp", 2, f"{NO_HOME} XDG_DATA_HOME"),
        ("kiosk --source synthetic --no-browser", 2, f"{NO_HOME} XDG_CACHE_HOME"),
        ("anonymize s.mp4", 0, "5 frames"),
    ],
)
def test_a_user_without_name_and_home_is_no_internal_error(
    words: str, code: int, expected: str, tmp_path: Path
) -> None:
    write_clip(tmp_path / "s.mp4", frames=5)
    done = subprocess.run(
        [*nobody(), *program(*words.split())],
        cwd=tmp_path,
        env=homeless(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert expected in done.stdout


def closing(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_change_nothing(closed: tuple[int, ...], jobs: str, tmp_path: Path) -> None:
    """The next file would get their numbers, and what is printed would go into it."""
    write_clip(tmp_path / "s.mp4", frames=2)
    done = subprocess.run(
        program("anonymize", "s.mp4", "nope.mp4", "--jobs", jobs),
        cwd=tmp_path,
        env=clean_environment(),
        stdout=None if 1 in closed else subprocess.PIPE,
        stderr=None if 2 in closed else subprocess.PIPE,
        preexec_fn=closing(*closed),
        check=False,
    )
    assert done.returncode == 8
    with av.open(tmp_path / "s.anonymized.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 2
    assert (done.stdout or b"").count(b" frames, ") == (0 if 1 in closed else 1)
    assert b"no such file" not in (done.stdout or b"")
    if 2 not in closed:
        assert b"nope.mp4: no such file" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["models list", "--version", "anonymize --help", "doctor"])
def test_a_full_output_is_5_and_one_line(words: str, unbuffered: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            program("", *words.split())[:3] + words.split(),
            cwd=tmp_path,
            env={**clean_environment(), "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.stderr == (
        b"m2fp-stream: error: standard output: cannot be written (No space left on device); files "
        b"are complete\n"
    )
    assert done.returncode == 5


def test_a_full_stderr_keeps_the_exit_code(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            program("anonymize", "nope.mp4"),
            cwd=tmp_path,
            env=clean_environment(),
            stderr=full,
            check=False,
        )
    assert done.returncode == 3


NAMES = (
    *(b"-x.mp4", b"--overwrite.mp4", b"new\nline.mp4", b"\xff\xfe.mp4", b" .mp4", b"%s{0}.mp4"),
    *("人é.mp4".encode(), b"[red]b[red].mp4", b"\x1b[2J.mp4", b"'\".mp4"),
)


@pytest.mark.parametrize(("locale", "jobs"), [("C.UTF-8", "1"), ("C", "2")])
def test_names_of_all_kinds_in_every_locale(locale: str, jobs: str, tmp_path: Path) -> None:
    write_clip(tmp_path / "s.mp4", frames=1)
    (tmp_path / "in").mkdir()
    for name in NAMES:
        content = (tmp_path / "s.mp4").read_bytes()
        (tmp_path / "in" / os.fsdecode(name)).write_bytes(content)
    plain = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        program("anonymize", "in", "-o", "out", "--jobs", jobs),
        cwd=tmp_path,
        env=clean_environment() | plain,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == len(NAMES)
    assert b"\x1b" not in done.stdout
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "out")) == len(NAMES)


def test_a_name_that_begins_with_a_dash_stands_after_two(tmp_path: Path) -> None:
    write_clip(tmp_path / "-x.mp4", frames=2)
    for words, code in ((["--", "-x.mp4"], 0), (["./-x.mp4"], 2), (["-x.mp4"], 2)):
        done = subprocess.run(
            program("anonymize", *words),
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
    assert "unknown option '-x.mp4'" in done.stderr
    assert "./-x.mp4" in done.stderr
