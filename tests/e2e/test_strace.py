"""P7 and P9 as the kernel sees them: what a whole run opens for writing, and whom it talks to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import pytest

from tests.kit import media
from tests.kit.stage import Picture, backdrop

ROOT = Path(__file__).resolve().parents[2]
STRACE = shutil.which("strace")
CALLS = (
    *("open", "openat", "openat2", "creat", "memfd_create", "mknod", "mknodat", "link", "linkat"),
    *("symlink", "symlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "truncate"),
    *("socket", "socketpair", "connect", "bind", "listen", "sendto", "shmget", "msgget"),
)
WRITING = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND|TMPFILE)")
LINE = re.compile(r"(?:\[pid\s+\d+\] |\d+\s+)?(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.*)")

pytestmark = pytest.mark.skipif(STRACE is None, reason="strace is not installed")


@dataclass(frozen=True)
class Call:
    name: str
    arguments: str

    @property
    def paths(self) -> list[str]:
        return re.findall(r'"([^"]*)"', self.arguments)


def traced(command: list[str], folder: Path) -> list[Call]:
    """Runs `command` under strace; returns what it and all its children did."""
    log = folder / "strace.log"
    # Byte code may be written, and is. ONNX Runtime keeps its telemetry to itself where CI is set:
    # what counts is what a user's machine would do.
    # Measuring coverage writes, too.
    unlike_a_user = ("PYTHONDONTWRITEBYTECODE", "CI", "ORT_DISABLE_TELEMETRY", "COV")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(unlike_a_user)
    }
    done = subprocess.run(
        [
            "strace",
            "-f",
            "-qq",
            "-s",
            "4096",
            "-o",
            log,
            "-e",
            f"trace={','.join(CALLS)}",
            *command,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    calls = []
    for line in joined(log.read_text(encoding="utf-8").splitlines()):
        found = LINE.fullmatch(line)
        # A connection that was only tried was tried all the same.
        if found and (found["name"] == "connect" or not found["result"].startswith("-1")):
            calls.append(Call(found["name"], found["arguments"]))
    assert calls
    return calls


def joined(lines: list[str]) -> list[str]:
    """Puts together calls that another thread's interrupted in the log."""
    begun: dict[str, str] = {}
    whole = []
    for line in lines:
        thread, _, rest = line.partition(" ")
        rest = rest.lstrip()
        if rest.endswith("<unfinished ...>"):
            begun[thread] = rest.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>", rest)
        if resumed:
            rest = begun.pop(thread) + rest[resumed.end() :]
        whole.append(rest)
    return whole


def write_clip(path: Path, pictures: list[Picture]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 25)
        sound = container.add_stream("aac", rate=48000)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        media.write_silence(container, sound, 0.5)


def is_byte_code(path: str) -> bool:
    return "/__pycache__/" in path and ".pyc" in path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Call]]:
    """One traced run; the folder it wrote into, and its calls."""
    folder = tmp_path_factory.mktemp("traced")
    room = backdrop(0)
    write_clip(folder / "in.mp4", [room] * 12)
    out = folder / "out.mp4"
    command = [sys.executable, "-m", "m2fp_stream", "anonymize", str(folder / "in.mp4")]
    more = ["--audio", "disguise", "--tracks", str(folder / "who.csv")]
    calls = traced([*command, "-o", str(out), *more], folder)
    with av.open(out) as container:
        assert [one.type for one in container.streams] == ["video", "audio"]
    return folder, calls


@pytest.fixture(scope="module")
def parse_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Call]]:
    """The same for `parse`, whose parser runs in the process itself."""
    folder = tmp_path_factory.mktemp("traced")
    assert cv2.imwrite(str(folder / "in.png"), backdrop(0))
    command = [sys.executable, "-m", "m2fp_stream", "parse", str(folder / "in.png")]
    calls = traced([*command, "-o", str(folder / "out.png")], folder)
    assert (folder / "out.png").stat().st_size > 0
    return folder, calls


@pytest.fixture(scope="module")
def live_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Call]]:
    """A live run that records, serves and measures."""
    folder = tmp_path_factory.mktemp("traced")
    (folder / "run.yaml").write_text(
        f"""
        capture: {{input: synthetic}}
        synthetic: {{width: 320, height: 180}}
        record: {{enabled: true, folder: {folder}, preset: ultrafast}}
        serve: {{enabled: true, port: 0}}
        """
    )
    command = [sys.executable, "-m", "m2fp_stream", "run", str(folder / "run.yaml")]
    calls = traced([*command, "--seconds", "5", "--stats", str(folder / "stats.json")], folder)
    return folder, calls


def opened_for_writing(calls: list[Call]) -> set[str]:
    opening = {"open", "openat", "openat2", "creat"}
    return {
        call.paths[0]
        for call in calls
        if call.name in opening and (call.name == "creat" or WRITING.search(call.arguments))
    }


def part_files(folder: Path) -> set[str]:
    return {str(folder / ".out.mp4.part"), str(folder / ".who.csv.part")}


def test_a_run_opens_for_writing_its_part_files_and_byte_code_only(
    run: tuple[Path, list[Call]],
) -> None:
    folder, calls = run
    written = {path for path in opened_for_writing(calls) if not is_byte_code(path)}
    assert written - {"/dev/null"} == part_files(folder)


def test_a_parse_opens_for_writing_the_part_file_and_byte_code_only(
    parse_run: tuple[Path, list[Call]],
) -> None:
    folder, calls = parse_run
    written = {path for path in opened_for_writing(calls) if not is_byte_code(path)}
    assert written - {"/dev/null"} == {str(folder / ".out.png.part")}
    sockets = [call for call in calls if call.name in {"socket", "connect", "bind"}]
    assert [call for call in sockets if not call.arguments.startswith("AF_UNIX")] == []


def test_a_live_run_opens_for_writing_its_named_outputs_and_byte_code_only(
    live_run: tuple[Path, list[Call]],
) -> None:
    folder, calls = live_run
    written = {path for path in opened_for_writing(calls) if not is_byte_code(path)}
    recordings = {str(path) for path in folder.glob("*.mp4")}
    assert len(recordings) == 1
    parts = {str(Path(path).with_name(f".{Path(path).name}.part")) for path in recordings}
    assert written - {"/dev/null"} == parts | {str(folder / ".stats.json.part")}
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".log", ".mp4", ".yaml"]


def test_a_live_run_listens_on_loopback_alone_and_connects_to_nobody(
    live_run: tuple[Path, list[Call]],
) -> None:
    _, calls = live_run
    bound = [call.arguments for call in calls if call.name == "bind"]
    assert bound
    assert all("127.0.0.1" in arguments for arguments in bound)
    assert [call for call in calls if call.name == "connect"] == []
    assert not [call for call in calls if call.name in {"shmget", "msgget"}]


def test_a_run_gives_names_to_its_outputs_and_byte_code_only(run: tuple[Path, list[Call]]) -> None:
    folder, calls = run
    naming = {"link", "linkat", "rename", "renameat", "renameat2", "symlink", "symlinkat"}
    named = {call.paths[-1] for call in calls if call.name in naming}
    outputs = {str(folder / name) for name in ("out.mp4", "who.csv")}
    assert {path for path in named if not is_byte_code(path)} == outputs
    made = {
        call.paths[0] for call in calls if call.name in {"mkdir", "mkdirat", "mknod", "mknodat"}
    }
    assert {path for path in made if not path.endswith("__pycache__")} == set()
    names = ["in.mp4", "out.mp4", "strace.log", "who.csv"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_run_leaves_temporary_and_shared_memory_folders_alone(
    run: tuple[Path, list[Call]],
) -> None:
    folder, calls = run
    touched = {
        path
        for path in opened_for_writing(calls)
        if path.startswith(("/tmp/", "/var/tmp/", "/dev/shm/")) and not is_byte_code(path)
    }
    assert touched - part_files(folder) == set()
    assert not [call for call in calls if call.name in {"shmget", "msgget"}]


def test_a_run_makes_no_connection(run: tuple[Path, list[Call]]) -> None:
    _, calls = run
    sockets = [call for call in calls if call.name in {"socket", "socketpair"}]
    assert {call.arguments.split(",")[0] for call in sockets} <= {"AF_UNIX"}
    assert [call for call in calls if call.name in {"connect", "bind", "listen"}] == []
    # The parser's channel; where there is none, the trace has missed the workers.
    assert [call for call in calls if call.name == "socketpair"]


def test_doctor_writes_nothing_and_makes_no_connection(tmp_path: Path) -> None:
    calls = traced([sys.executable, "-m", "m2fp_stream", "doctor"], tmp_path)
    written = {path for path in opened_for_writing(calls) if not is_byte_code(path)}
    assert written <= {"/dev/null"}
    sockets = {call.arguments.split(",")[0] for call in calls if call.name == "socket"}
    assert sockets <= {"AF_UNIX"}


def test_memory_of_the_workers_has_no_name_in_the_file_system(
    run: tuple[Path, list[Call]],
) -> None:
    _, calls = run
    assert [call for call in calls if call.name == "memfd_create"]


def test_the_trace_would_show_a_temporary_file_and_a_connection(tmp_path: Path) -> None:
    """The check itself can fail."""
    program = (
        "import os, socket, subprocess, sys, tempfile\n"
        "tempfile.TemporaryFile().close()\n"
        "child = 'open(sys.argv[1], \"w\").close()'\n"
        f"subprocess.run([sys.executable, '-c', 'import sys;' + child, {str(tmp_path / 'x')!r}])\n"
        "socket.socket().bind(('127.0.0.1', 0))\n"
    )
    calls = traced([sys.executable, "-c", program], tmp_path)
    written = {path for path in opened_for_writing(calls) if not is_byte_code(path)}
    assert str(tmp_path / "x") in written
    assert len(written - {"/dev/null"}) >= 2  # the unnamed one, too
    assert [call for call in calls if call.name == "bind"]
    assert any("AF_INET" in call.arguments for call in calls if call.name == "socket")
