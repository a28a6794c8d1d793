"""Gate 4: who may import whom, and which calls are banned; each with violations planted.

Violations go into a copy of the package; the checks run on the copy as on the original.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "m2fp_stream"
BIN = Path(sys.executable).parent

ROOMS = "Rooms import to the right only, and not each other"
CLI = "The command line: arguments, then commands, then what they share"
APP = "Files, live and stills are put together apart from each other"
CORE = "Core needs numpy and the standard library only"
MINT = "Only the makers of what sinks take hold the keys"
HEAVY = "Heavy libraries stay in their own file"
CONTAINERS = "Only sources and sinks touch containers"


IMPORTS = (
    ("sinks/base.py", "from ..core._mint import COMPOSED", MINT, "m2fp_stream.core._mint"),
    ("compositor/effects.py", "from m2fp_stream.core import _mint", MINT, "m2fp_stream.core._mint"),
    ("app/files.py", "import m2fp_stream.core._mint", MINT, "m2fp_stream.core._mint"),
    ("sources/sound.py", "from ..core._mint import AUDIBLE", MINT, "m2fp_stream.core._mint"),
    ("privacy/hardening.py", "from ..core import _mint", MINT, "m2fp_stream.core._mint"),
    ("sinks/track_table.py", "from ..core._mint import LOCATED", MINT, "m2fp_stream.core._mint"),
    (
        "pipeline/files/writer.py",
        "from ...core._mint import LOCATED",
        MINT,
        "m2fp_stream.core._mint",
    ),
    ("core/ring.py", "import cv2", CORE, "cv2"),
    ("core/records.py", "def later() -> None:\n    import pydantic", CORE, "pydantic"),
    ("core/timing.py", "from ..sinks import base", ROOMS, "m2fp_stream.sinks.base"),
    ("sinks/base.py", "from ..compositor import compose", ROOMS, "m2fp_stream.compositor.compose"),
    ("policy.py", "from .tracking import motion", ROOMS, "m2fp_stream.tracking.motion"),
    ("privacy/hardening.py", "from .. import policy", ROOMS, "m2fp_stream.policy"),
    ("cli/show.py", "from . import progress", CLI, "m2fp_stream.cli.progress"),
    ("app/files.py", "from . import live", APP, "m2fp_stream.app.live"),
    (
        "processes/channel.py",
        "from ..privacy import hardening",
        ROOMS,
        "m2fp_stream.privacy.hardening",
    ),
    ("core/timing.py", "from ..processes import backoff", ROOMS, "m2fp_stream.processes.backoff"),
    ("newroom.py", '"""A room nobody decided on."""', ROOMS, None),
    ("tracking/motion.py", "import torch", HEAVY, "torch"),
    ("training/judge.py", "import torch", HEAVY, "torch"),
    ("sinks/base.py", "import onnxruntime", HEAVY, "onnxruntime"),
    ("tracking/motion.py", "import av", CONTAINERS, "av"),
    ("privacy/hardening.py", "import av", CONTAINERS, "av"),
)
"""What is planted where, and what its contract must say of it: the import, or the new room."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the package and its configuration, without weights."""
    ignore = shutil.ignore_patterns("__pycache__", "*.onnx")
    shutil.copytree(PACKAGE, tmp_path / "m2fp_stream", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(checkout: Path, module: str, text: str) -> None:
    """Puts `text` at the end of a module, which is made where it does not exist."""
    with (checkout / "m2fp_stream" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n\n{text}\n")


def broken_contracts(checkout: Path) -> dict[str, set[str]]:
    """Returns the broken contracts, and what each says that is wrong: imports and new rooms."""
    done = subprocess.run(
        [BIN / "lint-imports", "--no-cache"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    verdicts = re.findall(r"^(.+) (KEPT|BROKEN)(?: \(.*\))?$", done.stdout, re.MULTILINE)
    names = {name for name, _ in verdicts}
    assert names == {ROOMS, CLI, APP, CORE, MINT, HEAVY, CONTAINERS}, done.stdout + done.stderr
    broken = {name: set[str]() for name, verdict in verdicts if verdict == "BROKEN"}
    assert (done.returncode == 0) == (not broken)
    told = done.stdout.partition("Broken contracts\n")[2]
    sections = re.split(r"^(.+)\n-+$", told, flags=re.MULTILINE)[1:]  # name, text, name, text
    for name, text in zip(sections[::2], sections[1::2], strict=True):
        broken[name] |= set(re.findall(r"^[- ] +(m2fp_stream.*?)(?: \(l|$)", text, re.MULTILINE))
    return broken


def banned_calls(checkout: Path) -> set[tuple[str, str]]:
    """Returns (file, banned name) of every use, also where a file is allowed to."""
    more = ("--ignore-noqa", "--config=lint.per-file-ignores={}")
    return ordinary_lint(checkout, *more)


def ordinary_lint(checkout: Path, *more: str) -> set[tuple[str, str]]:
    """Returns (file, banned name) of every use that makes the lint red."""
    command = [
        str(BIN / "ruff"),
        "check",
        "--no-cache",
        "--select=TID251",
        "--output-format=concise",
    ]
    done = subprocess.run(
        [*command, *more, "m2fp_stream"], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    found = re.findall(r"^m2fp_stream/(\S+?):\S+ TID251 `(\S+)` is banned", done.stdout, re.M)
    assert (done.returncode == 0) == (not found), done.stdout
    return set(found)


def test_the_package_keeps_every_contract_and_each_planted_import_breaks_its_own(
    checkout: Path,
) -> None:
    assert broken_contracts(checkout) == {}
    for module, text, _, _ in IMPORTS:
        plant(checkout, module, text)
    broken = broken_contracts(checkout)
    for module, text, contract, imported in IMPORTS:
        importer = "m2fp_stream." + module.removesuffix(".py").replace("/", ".")
        wanted = importer if imported is None else f"{importer} -> {imported}"
        assert wanted in broken[contract], f"{module}: {text}"


KEYS = {"core/safe.py": {"AUDIBLE", "COMPOSED", "LOCATED", "Key"}}
KEYS |= {"compositor/compose.py": {"COMPOSED"}, "privacy/audio.py": {"AUDIBLE"}}
KEYS |= {"privacy/tracks.py": {"LOCATED"}}


def test_each_maker_holds_its_own_key_alone() -> None:
    """The contract knows modules; which name each imports is told here."""
    held: dict[str, set[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("_mint"):
                names = held.setdefault(str(file.relative_to(PACKAGE)), set())
                names |= {alias.name for alias in node.names}
    assert held == KEYS


def test_core_needs_nothing_but_numpy() -> None:
    """The contract names the usual suspects; this is the sentence itself."""
    allowed = sys.stdlib_module_names | {"numpy"}
    for file in sorted((PACKAGE / "core").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{file.name}:{node.lineno} leaves core"
                names = [node.module or ""] if node.level == 0 else []
            else:
                continue
            foreign = {name for name in names if name.split(".")[0] not in allowed}
            assert not foreign, f"{file.name}:{node.lineno} imports {foreign}"


ALLOWED_CALLS = {
    ("sources/opener.py", "av.open"),
    ("sources/camera.py", "cv2.VideoCapture"),
    ("sinks/video_file.py", "av.open"),
    ("sinks/image.py", "av.open"),
    ("sinks/image.py", "cv2.imencode"),
    ("sinks/live_encoder.py", "av.open"),
    ("sinks/page.py", "cv2.imencode"),
    ("sinks/window.py", "cv2.imshow"),
    ("processes/child.py", "subprocess"),
    ("processes/memory.py", "os.memfd_create"),
}
"""Which banned call each file may use; ruff's own exemption is for a whole file."""


CALLS = (
    ("import cv2\ncv2.imwrite('a.png', None)", "cv2.imwrite"),
    ("from cv2 import imwrite as keep\nkeep('a.png', None)", "cv2.imwrite"),
    ("import cv2\ncv2.imshow('a', None)", "cv2.imshow"),
    ("import cv2\ncv2.imencode('.png', None)", "cv2.imencode"),
    ("import cv2\ncv2.VideoWriter()", "cv2.VideoWriter"),
    ("import numpy as np\nnp.save('a.npy', None)", "numpy.save"),
    ("import numpy as np\nnp.savez('a.npz', x=None)", "numpy.savez"),
    ("import av\nav.open('a.mp4', 'w')", "av.open"),
    ("import pickle", "pickle"),
    ("from multiprocessing import shared_memory", "multiprocessing.shared_memory"),
    ("from multiprocessing.shared_memory import SharedMemory", "multiprocessing.shared_memory"),
    ("def f():\n    import tempfile\n    tempfile.mkstemp()", "tempfile"),
    ("import subprocess\nsubprocess.Popen(['x'])", "subprocess"),
    ("from subprocess import run as go\ngo(['x'])", "subprocess"),
    ("def f():\n    import multiprocessing as m\n    m.Process()", "multiprocessing.Process"),
    ("from os import posix_spawn\nposix_spawn('x', [], {})", "os.posix_spawn"),
    ("import os\nos.system('x')", "os.system"),
    ("import os\nos.memfd_create('x')", "os.memfd_create"),
)


def test_banned_calls_stand_only_where_they_are_allowed(checkout: Path) -> None:
    """A file is exempt only if it needs to be; a planted call is found, `noqa` or not."""
    assert ordinary_lint(checkout) == set()
    found = banned_calls(checkout)
    assert found <= ALLOWED_CALLS
    assert {file for file, _ in found} == {file for file, _ in ALLOWED_CALLS} == exempt()
    planted = set()
    for number, (text, name) in enumerate(CALLS):
        plant(checkout, f"tracking/planted_{number}.py", excused(text))
        planted.add((f"tracking/planted_{number}.py", name))
    plant(checkout, "tracking/motion.py", CALLS[0][0])
    planted.add(("tracking/motion.py", CALLS[0][1]))
    assert planted <= banned_calls(checkout) - ALLOWED_CALLS
    assert ordinary_lint(checkout) == {("tracking/motion.py", CALLS[0][1])}


def exempt() -> set[str]:
    """Returns the files of the package to which the lint allows banned calls."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ignores: dict[str, list[str]] = settings["tool"]["ruff"]["lint"]["per-file-ignores"]
    files = {file for file, rules in ignores.items() if "TID251" in rules}
    return {file.removeprefix("m2fp_stream/") for file in files if file.startswith("m2fp_stream/")}


def excused(text: str) -> str:
    return text.replace("\n", "  # noqa: TID251\n") + "  # noqa: TID251"
