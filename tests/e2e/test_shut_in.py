"""Shut in: what code of a decoder's attacker could do in our processes, and what it cannot."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from m2fp_stream.privacy.sandbox import available
from tests.kit import media
from tests.kit.cli import ROOT, clean_environment, program

pytestmark = pytest.mark.skipif(
    not all(one.holds for one in available()), reason="this kernel lacks Landlock or seccomp"
)

ATTACK = """
import ctypes, json, os, signal, socket, subprocess, sys
from pathlib import Path

who = Path(sys.argv[0]).stem
leak = f"leak{os.getpid()}-shut_in"
there, listening = Path(os.environ["M2FP_STREAM_TEST_THERE"]), os.environ["M2FP_STREAM_TEST_PORT"]


def _exec(program, *words):
    if subprocess.run([program, *words], capture_output=True).returncode:
        raise OSError("it did not run")


def _datagram():
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"picture", str(there / "log"))


def _connect():
    socket.create_connection(("127.0.0.1", int(listening))).close()


def _ptrace():
    libc = ctypes.CDLL(None, use_errno=True)
    seize = 0x4206  # without stopping it
    if libc.ptrace(seize, int(os.environ["M2FP_STREAM_TEST_VICTIM"]), 0, 0):
        raise OSError(ctypes.get_errno(), "ptrace")


def _memory():
    import resource
    if resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY:
        raise OSError("bounded")


WAYS = {
    "read a system file": lambda: Path("/etc/passwd").read_bytes(),
    "read a file beside the input": lambda: (there / "diary.txt").read_bytes(),
    "list the home folder": lambda: os.listdir(there),
    "overwrite a file": lambda: (there / "diary.txt").write_bytes(b"mine"),
    "write a new file": lambda: (there / "new.txt").write_bytes(b"raw"),
    "write a temporary file": lambda: Path("/tmp", leak).write_bytes(b"raw"),
    "write shared memory": lambda: Path("/dev/shm", leak).write_bytes(b"raw"),
    "rename": lambda: os.rename(there / f"move-{who}", there / f"moved-{who}"),
    "delete": lambda: os.unlink(there / f"old-{who}"),
    "link": lambda: os.link(there / "diary.txt", there / f"link{os.getpid()}"),
    "make a folder": lambda: os.mkdir(there / f"folder{os.getpid()}"),
    "plant byte code": lambda: Path(sys.modules["m2fp_stream"].__file__).with_name(
        "planted.pyc").write_bytes(b""),
    "open a socket": lambda: socket.socket().close(),
    "connect": _connect,
    "send to a local program": _datagram,
    "run a shell": lambda: _exec("/bin/sh", "-c", "true"),
    "signal its parent": lambda: os.kill(int(os.environ["M2FP_STREAM_TEST_VICTIM"]), 0),
    "trace another process": _ptrace,
    "read another's memory": lambda: Path(
        f"/proc/{os.environ['M2FP_STREAM_TEST_VICTIM']}/environ").read_bytes(),
    "take all memory": _memory,
}


def attack():
    done = []
    for name, way in WAYS.items():
        try:
            way()
        except OSError:
            continue
        done.append(name)
    return done
"""
"""What a hole in a decoder might be used for; each way works where nothing is in it."""

RUN = """
import json, os, sys
from pathlib import Path
from attack import attack

from m2fp_stream.privacy.hardening import keep_to_one_thread

keep_to_one_thread()  # the program does, before it imports what is imported here
shut_in = sys.argv[1] == "shut in"
if not shut_in:
    from m2fp_stream.privacy import sandbox
    sandbox.enter = lambda **_: None

from m2fp_stream.sources import file

honest = file.FileSource.frames

def frames(self):
    from m2fp_stream.processes.child import Stream, start_module
    with start_module("attack_child", stdout=Stream.PIPE) as child:
        told = json.loads(child.stdout.read())
    print(json.dumps({"decoder": attack(), "child": told}), flush=True)
    yield from honest(self)

file.FileSource.frames = frames
from m2fp_stream.cli import main
sys.argv[1:] = sys.argv[2:]
sys.exit(main())
"""

CHILD = "import json, m2fp_stream\nfrom attack import attack\nprint(json.dumps(attack()))\n"


@dataclass
class Place:
    """A folder of somebody: an input, a diary, and what the attack is made of."""

    home: Path
    environment: dict[str, str]
    listening: socket.socket
    victim: subprocess.Popen[bytes]

    def run(self, how: str, *words: str | Path) -> tuple[dict[str, list[str]], str]:
        """Returns what could be done, by whom, and what the run said last."""
        done = subprocess.run(
            [sys.executable, self.home / "code/run.py", how, "anonymize", *words],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")  # nor a thread that was there before
        told, _, rest = done.stdout.partition("\n")
        found: dict[str, list[str]] = json.loads(told)
        return found, rest


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    code = tmp_path / "code"
    code.mkdir()
    (code / "attack.py").write_text(ATTACK)
    (code / "attack_child.py").write_text(CHILD)
    (code / "run.py").write_text(RUN)
    media.write_video(tmp_path / "in.mp4", count=4)
    (tmp_path / "diary.txt").write_text("mine alone")
    for who in ("run", "attack_child"):
        (tmp_path / f"old-{who}").write_text("")
        (tmp_path / f"move-{who}").write_text("")
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim,
    ):
        log.bind(str(tmp_path / "log"))
        environment = clean_environment() | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{code}",
            "M2FP_STREAM_TEST_THERE": str(tmp_path),
            "M2FP_STREAM_TEST_PORT": str(listening.getsockname()[1]),
            "M2FP_STREAM_TEST_VICTIM": str(victim.pid),
        }
        yield Place(tmp_path, environment, listening, victim)
        victim.kill()
    for leftover in (*Path("/tmp").glob("leak*-shut_in"), *Path("/dev/shm").glob("leak*-shut_in")):
        leftover.unlink()
    (Path(ROOT, "m2fp_stream/planted.pyc")).unlink(missing_ok=True)


def all_ways() -> set[str]:
    return set(re.findall(r'^    "([^"]+)": ', ATTACK, re.MULTILINE))


def test_code_in_a_decoder_or_its_children_can_do_nothing_of_what_it_could(place: Place) -> None:
    done, rest = place.run("shut in", "in.mp4")
    assert done == {"decoder": [], "child": []}
    assert "4 frames" in rest
    assert (place.home / "diary.txt").read_text() == "mine alone"
    assert (place.home / "in.anonymized.mp4").stat().st_size > 0


def test_without_the_sandbox_each_of_these_ways_is_open(place: Place) -> None:
    """The control: what is refused above is refused by what is tested there."""
    done, _ = place.run("open", "in.mp4")
    assert set(done["decoder"]) == set(done["child"]) == all_ways()


def test_nothing_runs_before_the_program_is_shut_in_nor_its_jobs(place: Place) -> None:
    """A thread that runs already would not be; the program would warn of it."""
    media.write_video(place.home / "more.mp4", count=4)
    for words in (["in.mp4"], ["in.mp4", "more.mp4", "-o", ".", "--overwrite", "--jobs", "2"]):
        done = subprocess.run(
            program("anonymize", *words),
            cwd=place.home,
            env=place.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
