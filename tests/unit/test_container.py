"""The container: its files pass their linters, and what it starts runs where a container would.

There is no container engine here. The image's own start line and health check are read from the
Dockerfile and run on the built wheel, in namespaces: no network but the loopback, every file system
read-only but one in memory, a user without rights.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.kit import npm

ROOT: Final = Path(__file__).resolve().parent.parent.parent
DOCKERFILE: Final = ROOT / "Dockerfile"
COMPOSE: Final = ROOT / "compose.yaml"
LINTERS: Final = ("dclint@3.1.0", "dockerfile-utils@0.16.3")
_UID: Final = 10001


def instructions(text: str) -> list[tuple[str, str]]:
    """Returns the instructions of a Dockerfile, comments and line ends taken out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.strip().split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(name.upper(), rest) for name, rest in pairs]


def last_stage() -> dict[str, str]:
    """Returns the last instruction of each kind after the last FROM: what runs."""
    found: dict[str, str] = {}
    for name, rest in instructions(DOCKERFILE.read_text(encoding="utf-8")):
        found = {} if name == "FROM" else found
        found[name] = rest
    return found


# -- linters ---------------------------------------------------------------------------------------


def lint(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a linter of the npm registry; skips where it cannot be had."""
    script = npm.installed(*LINTERS) / "node_modules" / ".bin" / tool
    line = [npm.node(), script.resolve(), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_dockerfile_passes_its_linter(tmp_path: Path) -> None:
    done = lint("dockerfile-utils", "lint", DOCKERFILE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout.strip()
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE.read_text() + "HEALTHCHECK --intervall=30s CMD true\n")
    done = lint("dockerfile-utils", "lint", wrong)
    assert "intervall" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_compose_file_passes_its_linter(tmp_path: Path) -> None:
    done = lint("dclint", COMPOSE, "--max-warnings", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("network_mode:", "netwerk_mode:"))
    assert lint("dclint", wrong).returncode != 0


# -- what the files say ----------------------------------------------------------------------------


def test_the_image_runs_as_nobody_and_contains_nothing_under_the_gpl() -> None:
    last = last_stage()
    assert last["USER"] == f"{_UID}:{_UID}"
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert last["EXPOSE"] == "8765"
    everything = DOCKERFILE.read_text(encoding="utf-8")
    assert re.search(r'! \S+ -c "import pyvirtualcam"', everything), "the build checks it"
    assert "virtual-camera" not in everything
    assert re.findall(r"\[([a-z,-]+)\]\"", everything) == ["web"], "which extras are installed"


def test_only_what_the_wheel_is_made_of_is_copied() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    copied = [rest for name, rest in instructions(text) if name == "COPY"]
    assert copied == [
        "pyproject.toml README.md LICENSE ./",
        "m2fp_stream ./m2fp_stream",
        "--from=build /opt/m2fp-stream /opt/m2fp-stream",
    ]
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*", "all but what is named"
    assert {rule[1:] for rule in rules if rule[0] == "!"} == {
        *("pyproject.toml", "README.md", "LICENSE", "m2fp_stream"),
    }


def test_compose_closes_what_the_kiosk_does_not_need() -> None:
    service: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"][
        "kiosk"
    ]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == f"{_UID}:{_UID}"
    assert service["ulimits"] == {"core": 0, "memlock": -1}
    assert service["mem_limit"] == service["memswap_limit"], "or pictures may be swapped out"
    assert "privileged" not in service
    assert "ports" not in service
    assert "volumes" not in service
    (mount,) = service["tmpfs"]
    assert mount.startswith("/tmp:")
    assert {"noexec", "nosuid", "nodev", "size=64m"} <= set(mount.split(":")[1].split(","))
    assert service["command"][: len(start_line()) - 1] == start_line()[1:]


def start_line() -> list[str]:
    """ENTRYPOINT and CMD."""
    last = last_stage()
    return [*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"])]


# -- the start line --------------------------------------------------------------------------------

INSIDE: Final = """
import json, os, re, signal, socket, subprocess, sys, time
from websockets.sync.client import connect

start, health, scratch = json.loads(sys.argv[1])
facts = {"uid": os.getuid(), "written": [], "frames": 0}
status = open("/proc/self/status").read()
facts["capabilities"] = re.search(r"CapEff:\\t(\\w+)", status)[1]
for place in ("/", "/etc", "/usr", "/var/tmp", os.path.dirname(scratch)):
    try:
        with open(os.path.join(place, "m2fp-probe"), "w"):
            facts["written"].append(place)
    except OSError:
        pass
try:
    socket.create_connection(("192.0.2.1", 9), 2).close()
    facts["network"] = "there"
except OSError as error:
    facts["network"] = error.strerror
kiosk = subprocess.Popen(start, stderr=subprocess.PIPE, text=True, cwd=scratch)
try:
    for line in kiosk.stderr:
        found = re.search(r"http://(127\\.0\\.0\\.1:8765)/enter\\?key=(\\S+)", line)
        if found:
            break
    else:
        sys.exit("no address")
    end = time.monotonic() + 90
    while subprocess.run(health, stderr=subprocess.DEVNULL).returncode:
        if time.monotonic() > end:
            sys.exit("the health check never passed")
        time.sleep(0.2)
    bearer = {"Authorization": "Bearer " + found[2]}
    address = f"ws://{found[1]}/stream"
    with connect(address, additional_headers=bearer, proxy=None, max_size=1 << 23) as page:
        while facts["frames"] < 20 and time.monotonic() < end:
            message = page.recv(60)
            if isinstance(message, bytes) and message[24:26] == b"\\xff\\xd8":
                facts["frames"] += 1
    facts["scratch"] = sorted(os.listdir(scratch))
    kiosk.send_signal(signal.SIGTERM)
    facts["code"] = kiosk.wait(15)  # compose.yaml: stop_grace_period
finally:
    kiosk.kill()
    kiosk.wait()
facts["unhealthy"] = subprocess.run(health, stderr=subprocess.DEVNULL).returncode
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """A folder that anybody may read: the built wheel in an environment of its own.

    The libraries it needs are those of these tests; nothing else of this checkout is to be seen.
    """
    folder = Path(tempfile.mkdtemp(prefix="m2fp-container-", dir="/var/tmp"))
    try:
        folder.chmod(0o755)
        pip = [sys.executable, "-m", "pip"]
        quiet = {"check": True, "capture_output": True}
        subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, ROOT], **quiet)  # type: ignore[call-overload]
        environment = folder / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], **quiet)  # type: ignore[call-overload]
        (wheel,) = folder.glob("m2fp_stream-*.whl")
        install = ["--python", environment / "bin" / "python", "install", "--no-deps", wheel]
        subprocess.run([*pip, *install], **quiet)  # type: ignore[call-overload]
        (packages,) = environment.glob("lib/python3*/site-packages")
        (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))
        (folder / "scratch").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder)


def opened_up(image: Path) -> list[str]:
    """Returns mounts that let another user reach this Python, should it lie in a private home."""
    needed = [Path(sys.base_prefix), *map(Path, site.getsitepackages())]
    private = {
        next((up for up in reversed(path.parents) if not up.stat().st_mode & 0o001), None): None
        for path in needed
    }
    steps: list[str] = []
    for place in filter(None, private):
        inside = [path for path in needed if path.is_relative_to(place)]
        held = {path: image / f"held-{number}" for number, path in enumerate(inside)}
        for path, hold in held.items():
            steps += [f"mkdir -p {hold}", f"mount --bind {path} {hold}"]
        steps.append(f"mount -t tmpfs -o mode=755 tmpfs {place}")
        for path, hold in held.items():
            steps += [f"mkdir -p {path}", f"mount --bind {hold} {path}", f"umount {hold}"]
            steps.append(f"mount -o remount,ro,bind {path}")
        steps.append(f"mount -o remount,ro {place}")
    return steps


def isolation(image: Path) -> list[str]:
    """Returns the words before a command that put it where a container would; skips if none do."""
    root = os.geteuid() == 0
    unshare = ["unshare", *([] if root else ["--map-root-user"]), "--net", "--mount", "--fork"]
    drop = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    drop = [f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups", *drop] if root else drop
    steps = [
        "set -e",
        "ip link set lo up",
        *(opened_up(image) if root else []),
        f"mount -t tmpfs -o size=64m,mode=1777,noexec,nosuid,nodev tmpfs {image / 'scratch'}",
        "mount -o remount,ro,bind /",
        f'exec setpriv {shlex.join(drop)} "$@"',
    ]
    words = [*unshare, "--kill-child", "sh", "-c", "\n".join(steps), "sh"]
    try:
        tried = subprocess.run(
            [*words, str(image / "venv/bin/python"), "-I", "-c", "import cv2"],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as missing:
        pytest.skip(f"no {missing.filename}: install util-linux")
    if tried.returncode:
        pytest.skip(f"no such namespaces here: {tried.stderr.strip()[-300:]}")
    return words


def in_the_image(image: Path, words: Sequence[str]) -> list[str]:
    """Returns a command of the Dockerfile, its program found where the image's PATH finds it."""
    return [str(image / "venv" / "bin" / words[0]), *words[1:]]


@pytest.mark.slow
def test_the_start_line_runs_without_network_rights_or_a_disk(image: Path) -> None:
    scratch = image / "scratch"
    last = last_stage()
    health = json.loads(last["HEALTHCHECK"].partition(" CMD ")[2])
    given = dict(word.split("=", 1) for word in shlex.split(last["ENV"]) if "$PATH" not in word)
    environment = {name: value.replace("/tmp", str(scratch)) for name, value in given.items()}
    start = [*in_the_image(image, start_line()), "--source", "synthetic"]
    job = json.dumps([start, in_the_image(image, health), str(scratch)])
    done = subprocess.run(
        [*isolation(image), str(image / "venv/bin/python"), "-I", "-c", INSIDE, job],
        env={**environment, "PATH": f"{image}/venv/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout)
    if os.geteuid() == 0:
        assert facts["uid"] == _UID
    assert int(facts["capabilities"], 16) == 0
    assert facts["network"] == "Network is unreachable"
    assert facts["written"] == [], "the file systems are not read-only"
    assert facts["frames"] == 20
    assert facts["scratch"] in ([], ["cache"])
    assert facts["code"] == 130  # interrupted: how every live command ends
    assert facts["unhealthy"] != 0, "the health check passes without a kiosk"
