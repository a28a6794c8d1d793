"""Gate 4: who may import whom, and which calls are banned; each with violations planted.

Violations go into a copy of the package; the checks run on the copy as on the original.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "m2fp_stream"
BIN = Path(sys.executable).parent

ROOMS = "Rooms import to the right only, and not each other"
CORE = "Core needs numpy and the standard library only"
MINT = "Only the compositor holds the key"
HEAVY = "Heavy libraries stay in their own file"
CONTAINERS = "Only sources and sinks touch containers"


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


def broken_contracts(checkout: Path) -> set[str]:
    done = subprocess.run(
        [BIN / "lint-imports", "--no-cache"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    verdicts = re.findall(r"^(.+) (KEPT|BROKEN)(?: \(.*\))?$", done.stdout, re.MULTILINE)
    broken = {name for name, verdict in verdicts if verdict == "BROKEN"}
    names = {name for name, _ in verdicts}
    assert names == {ROOMS, CORE, MINT, HEAVY, CONTAINERS}, done.stdout + done.stderr
    assert (done.returncode == 0) == (not broken)
    return broken


def banned_calls(checkout: Path) -> set[tuple[str, str]]:
    """Returns (file, banned name) of every use, also where a file is allowed to."""
    done = subprocess.run(
        [
            *(BIN / "ruff", "check", "--no-cache", "--select=TID251", "--output-format=concise"),
            *("--ignore-noqa", "--config=lint.per-file-ignores={}", "m2fp_stream"),
        ],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return set(re.findall(r"^m2fp_stream/(\S+?):\S+ TID251 `(\S+)` is banned", done.stdout, re.M))


def test_the_package_keeps_every_contract(checkout: Path) -> None:
    assert broken_contracts(checkout) == set()


@pytest.mark.parametrize(
    ("module", "text", "contract"),
    [
        ("sinks/base.py", "from ..core._mint import COMPOSED", MINT),
        ("compositor/effects.py", "from m2fp_stream.core import _mint", MINT),
        ("app.py", "import m2fp_stream.core._mint", MINT),
        ("core/ring.py", "import cv2", CORE),
        ("core/records.py", "def later() -> None:\n    import pydantic", CORE),
        ("core/timing.py", "from ..sinks import base", ROOMS),
        ("sinks/base.py", "from ..compositor import compose", ROOMS),
        ("policy.py", "from .tracking import motion", ROOMS),
        ("privacy/hardening.py", "from .. import policy", ROOMS),
        ("processes/channel.py", "from ..privacy import hardening", ROOMS),
        ("core/timing.py", "from ..processes import backoff", ROOMS),
        ("newroom.py", '"""A room nobody decided on."""', ROOMS),
        ("tracking/motion.py", "import torch", HEAVY),
        ("sinks/base.py", "import onnxruntime", HEAVY),
        ("tracking/motion.py", "import av", CONTAINERS),
    ],
)
def test_a_planted_import_breaks_its_contract(
    checkout: Path, module: str, text: str, contract: str
) -> None:
    plant(checkout, module, text)
    assert contract in broken_contracts(checkout)


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
    ("sources/file.py", "av.open"),
    ("sources/stream.py", "av.open"),
    ("sources/camera.py", "cv2.VideoCapture"),
    ("sinks/video_file.py", "av.open"),
    ("sinks/image.py", "av.open"),
    ("sinks/image.py", "cv2.imencode"),
    ("sinks/live_encoder.py", "av.open"),
    ("sinks/page.py", "cv2.imencode"),
    ("sinks/window.py", "cv2.imshow"),
    ("processes/child.py", "subprocess"),
    ("processes/memory.py", "os.memfd_create"),
    ("models/pull.py", "subprocess"),
}
"""Which banned call each file may use; ruff's own exemption is for a whole file."""


def test_banned_calls_stand_only_where_they_are_allowed(checkout: Path) -> None:
    assert banned_calls(checkout) <= ALLOWED_CALLS


def test_a_file_is_exempt_only_if_it_needs_to_be(checkout: Path) -> None:
    assert {file for file, _ in banned_calls(checkout)} == {file for file, _ in ALLOWED_CALLS}


@pytest.mark.parametrize(
    ("text", "name"),
    [
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
    ],
)
def test_a_planted_call_is_found_and_not_excused(checkout: Path, text: str, name: str) -> None:
    plant(checkout, "tracking/motion.py", text + "  # noqa: TID251")
    assert ("tracking/motion.py", name) in banned_calls(checkout) - ALLOWED_CALLS


def test_a_planted_call_makes_the_ordinary_lint_red(checkout: Path) -> None:
    command = [str(BIN / "ruff"), "check", "--no-cache", "--select=TID251", "m2fp_stream"]
    before = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert before.returncode == 0, before.stdout
    plant(checkout, "tracking/motion.py", "import cv2\ncv2.imwrite('a.png', None)")
    after = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert after.returncode == 1
    assert "TID251" in after.stdout
