"""What scripts/run and scripts/test say on a machine that lacks what they need."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.test_cli_bad_input import drop_privilege

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "env", "dirname", "basename", "readlink", "cat", "printf", "rm", "touch")
"""What the scripts use of coreutils before there is an environment."""

LIBRARIES = """\tlibxcb.so.1 (libc6,x86-64) => /lib/libxcb.so.1
\tlibGL.so.1 (libc6,x86-64) => /lib/libGL.so.1
\tlibglib-2.0.so.0 (libc6,x86-64) => /lib/libglib-2.0.so.0
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "check out"
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def command(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!{shutil.which('bash')}\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """The whole PATH of a machine with apt-get and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        (folder / name).symlink_to(str(shutil.which(name)))
    command(folder, "id", "echo 1000")
    command(folder, "ldconfig", "")
    command(folder, "apt-get", f'echo "$*" >>{folder.parent}/installed')
    return folder


def run(checkout: Path, bin_folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / words[0], *words[1:]],
        env={"PATH": str(bin_folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_user_is_told_all_that_is_missing_in_one_line(checkout: Path, bin_folder: Path) -> None:
    done = run(checkout, bin_folder, "scripts/run", "--version")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "scripts/run: missing system packages; as root: apt-get install python3-venv libxcb1 "
        "libgl1 libglib2.0-0\n"
    )
    command(bin_folder, "ldconfig", f"printf '%s' '{LIBRARIES.splitlines()[0]}'")
    done = run(checkout, bin_folder, "scripts/test")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "scripts/test: missing system packages; as root: apt-get install python3-venv libgl1 "
        "libglib2.0-0 strace "
    )
    assert done.stderr.count("\n") == 1
    assert not (checkout / ".venv").exists()


def test_root_gets_what_is_missing(checkout: Path, bin_folder: Path) -> None:
    command(bin_folder, "id", "echo 0")
    done = run(checkout, bin_folder, "scripts/run", "--version")
    assert (bin_folder.parent / "installed").read_text(encoding="utf-8").splitlines() == [
        "update",
        "install --yes --no-install-recommends python3-venv libxcb1 libgl1 libglib2.0-0",
    ]
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "installing system packages: python3-venv libxcb1 libgl1 libglib2.0-0",
        "scripts/run: needs Python 3.11 or later with venv (on Debian: apt-get install "
        "python3-venv)",
    ]


def test_what_is_there_is_not_asked_for(checkout: Path, bin_folder: Path) -> None:
    command(bin_folder, "ldconfig", f"printf '%s' '{LIBRARIES}'")
    (bin_folder / "apt-get").unlink()
    command(bin_folder, "python3", "exit 0")
    done = run(checkout, bin_folder, "scripts/run", "--version")
    assert "missing" not in done.stderr
    assert done.stderr.startswith(f"setting up {checkout}/.venv (once; takes a minute)\n")


def test_without_apt_get_packages_are_named_by_debians_names(
    checkout: Path, bin_folder: Path
) -> None:
    (bin_folder / "apt-get").unlink()
    done = run(checkout, bin_folder, "scripts/run", "--version")
    assert (done.returncode, done.stderr) == (
        2,
        "scripts/run: missing system packages, by Debian's names: python3-venv libxcb1 libgl1 "
        "libglib2.0-0\n",
    )


def test_a_checkout_of_somebody_else_is_said_to_be_that(checkout: Path, bin_folder: Path) -> None:
    checkout.chmod(0o555)
    try:
        done = subprocess.run(
            [checkout / "scripts/run"],
            env={"PATH": str(bin_folder)},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=drop_privilege,
        )
    except subprocess.SubprocessError:
        pytest.skip("cannot drop CAP_DAC_OVERRIDE here")
    assert (done.returncode, done.stderr) == (
        2,
        f"scripts/run: {checkout}: you may not write there; copy it to a folder of your own\n",
    )
