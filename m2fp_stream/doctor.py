"""Collects what `m2fp-stream doctor` and `--version --verbose` say of this machine."""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import __version__
from .core.errors import (
    ConfigError,
    M2FPStreamError,
    ModelError,
    SinkError,
    SourceError,
    UsageError,
)
from .pipeline.live.health import Health, judge
from .privacy.hardening import harden

__all__ = ["Fact", "check_stats", "examine", "versions"]

_PACKAGES: Final = {
    "numpy": "numpy",
    "opencv-python": "cv2",
    "av": "av",
    "onnxruntime": "onnxruntime",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "rich": "rich",
    "shtab": "shtab",
} | ({"python-xlib": "Xlib"} if sys.platform == "linux" else {})
"""The distributions of pyproject.toml and the module each one brings."""

_EXTRA_PACKAGES: Final = (
    *("cryptography", "fastapi", "jinja2", "keyring", "modelscope", "onnx", "openvino"),
    *("pyvirtualcam", "torch", "uvicorn", "websockets"),
)
"""The distributions of its extras."""

_CPU_FLAGS: Final = (
    *("sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw"),
    *("avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)
"""Extensions that our libraries choose their code by. Source: cv::getCPUFeaturesLine and
onnxruntime's MLAS (platform.cpp); names of /proc/cpuinfo on x86-64 and arm64."""

_ENCODERS: Final = ("libx264", "libx265", "libsvtav1", "libaom-av1", "libvpx-vp9", "aac", "libopus")

_LIBRARIES: Final = "as root: apt-get install libxcb1 libgl1 libglib2.0-0 (Debian, Ubuntu)"


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the report.

    Attributes:
        name: what it is about.
        text: what was found.
        remedy: what to do about it, or nothing.
        error: the error without which `anonymize` cannot run, or None where it can.
    """

    name: str
    text: str
    remedy: str = ""
    error: type[M2FPStreamError] | None = None


def examine() -> list[Fact]:
    """Returns every fact, in the order to read them; changes and sends nothing."""
    facts = [
        Fact("m2fp-stream", __version__),
        Fact("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        Fact("system", platform.platform(), _system_remedy()),
        Fact("CPU", _cpu()),
        Fact("memory", _memory()),
        *_packages(),
        *(Fact("hardening", line) for line in harden().describe()),
        Fact("network", "not used, but for the live sources and sinks that you name"),
    ]
    if not any(fact.error for fact in facts):  # what follows imports those packages
        facts += [_cache(), *_weights(), _parser(), *_live()]
    return facts


def versions() -> list[Fact]:
    """Returns what a report of a fault needs to name; of users, folders and settings nothing."""
    facts = [
        Fact("m2fp-stream", f"{__version__}, {_installation()}"),
        Fact("Python", f"{sys.version.replace(chr(10), ' ')}, {platform.architecture()[0]}"),
        Fact("system", f"{_distribution()}, {platform.platform()}"),
        Fact("CPU", f"{_cpu()}: {_cpu_extensions()}"),
        Fact("memory", _memory()),
        *(Fact(fact.name, fact.text + _build_of(fact)) for fact in _packages()),
        *(Fact(name, found) for name in _EXTRA_PACKAGES if (found := _version_of(name))),
        *(Fact("hardening", line) for line in harden().describe()),
        Fact("text", f"{sys.stdout.encoding}, names of files {sys.getfilesystemencoding()}"),
        Fact("variables", ", ".join(_own_variables()) or "none of ours is set"),
    ]
    if not any(fact.error for fact in _packages()):  # the manifest is read by one of them
        facts += _hashes()
    return facts


def _installation() -> str:
    """Returns how the package came here."""
    try:
        origin = importlib.metadata.distribution("m2fp-stream").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
    if origin is None:
        return "installed from an index"
    editable = json.loads(origin).get("dir_info", {}).get("editable", False)
    return "in place (a checkout)" if editable else "installed from a file"


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown distribution")
    except OSError:
        return "unknown distribution"


def _cpu_extensions() -> str:
    names = _line_of("/proc/cpuinfo", r"^(?:flags|Features)\s*: (.+)$").split()
    return " ".join(name for name in _CPU_FLAGS if name in names) or "extensions unknown"


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _build_of(fact: Fact) -> str:
    """Returns what else is to be known of a package, to be put behind its version."""
    if fact.error is not None or fact.name not in ("av", "onnxruntime", "opencv-python"):
        return ""
    module = importlib.import_module(_PACKAGES[fact.name])
    if fact.name == "av":
        encoders = [name for name in _ENCODERS if name in module.codecs_available]
        return f"; encoders: {', '.join(encoders)}"
    if fact.name == "onnxruntime":
        return f"; {', '.join(module.get_available_providers())}"
    built = module.getBuildInformation()
    found = re.findall(r"(?:Dispatched code generation|Parallel framework): +(.+)", built)
    return f"; {', '.join(found)}; uses {module.getCPUFeaturesLine()}"


def _own_variables() -> list[str]:
    """Returns the names of our options in the environment: values may be passwords."""
    return sorted(name for name in os.environ if name.startswith("M2FP_STREAM_"))


def _hashes() -> Iterator[Fact]:
    from .models.store import read_manifest, verify_all

    try:
        entries, results = read_manifest(), verify_all()
    except ModelError:
        yield Fact("weights", "without a manifest")
        return
    for entry, result in zip(entries, results, strict=True):
        state = "as shipped" if result.ok else "missing or changed"
        yield Fact("weights", f"{entry.name}: {entry.sha256[:16]} ({entry.runtime}), {state}")


def _cache() -> Fact:
    from .config import cache_folder

    try:
        return Fact("cache folder", _kept_in(cache_folder()))
    except ConfigError as error:
        return Fact("cache folder", "none", str(error))


def _kept_in(folder: Path) -> str:
    """Returns a folder with what it holds: models that were pulled, and what was made of them."""
    try:
        used = sum(one.lstat().st_size for one in folder.rglob("*") if one.is_file())
    except OSError as error:
        return f"{folder} (cannot be read: {error.strerror})"
    return f"{folder} ({f'{used / 1e6:.0f} MB of models' if used else 'empty'})"


def _system_remedy() -> str:
    return "" if platform.system() == "Linux" else "only Linux is tested; the rest may work"


def _cpu() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = _line_of("/proc/cpuinfo", r"^model name\s*: (.+)$") or platform.machine()
    return f"{name}, {usable} of {os.cpu_count()} cores usable"


def _memory() -> str:
    sizes = [
        _line_of("/proc/meminfo", rf"^{name}:\s*(\d+) kB$") for name in ("MemTotal", "MemAvailable")
    ]
    if not all(sizes):
        return "unknown on this system"
    total, available = (int(size) / 1e6 for size in sizes)
    return f"{total:.1f} GB, {available:.1f} GB available"


def _line_of(path: str, pattern: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux, or no /proc here: the caller says so
        return ""
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""


def _packages() -> Iterator[Fact]:
    for distribution, module in _PACKAGES.items():
        try:
            loaded = importlib.import_module(module)
            text = importlib.metadata.version(distribution)
        except ImportError as error:
            library = re.match(r"(lib[\w.+-]+\.so[\w.]*): ", str(error))
            text = f"needs the system library {library[1]}" if library else "not installed"
            remedy = _LIBRARIES if library else f"pip install {distribution}"
            # Without shtab there is no `completion`, and all else works.
            yield Fact(distribution, text, remedy, None if module == "shtab" else UsageError)
            continue
        if module == "av":
            yield _ffmpeg(loaded, text)
        else:
            yield Fact(distribution, text)


def _ffmpeg(av: object, version: str) -> Fact:
    text = f"{version} (FFmpeg {getattr(av, 'ffmpeg_version_info', 'unknown')}"
    if "libx264" in getattr(av, "codecs_available", ()):
        return Fact("av", f"{text}, libx264)")
    remedy = "pip install --force-reinstall --only-binary av av"
    return Fact("av", f"{text}, without libx264)", remedy, UsageError)


def _weights() -> Iterator[Fact]:
    from .models.store import verify_all

    try:
        results = verify_all()
    except ModelError as error:
        yield Fact("weights", str(error), "reinstall m2fp-stream", ModelError)
        return
    for result in results:
        if result.ok:
            yield Fact("weights", f"{result.name}: SHA-256 verified")
        else:
            yield Fact("weights", result.problem, "reinstall m2fp-stream", ModelError)


def _live() -> Iterator[Fact]:
    """What live runs may use; that it is missing is no error of `anonymize`."""
    from .sources.camera import OpenCvCameras

    cameras = OpenCvCameras().list()
    yield Fact("cameras", ", ".join(map(str, cameras)) or "none is connected")
    graphical = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    text = "a graphical session is there" if graphical else "no graphical session"
    yield Fact("window", text, "" if graphical else "run `preview` in one, or with --no-window")
    if importlib.util.find_spec("pyvirtualcam") is None:
        remedy = 'pip install "m2fp-stream[virtual-camera]" (GPL-2.0)'
        yield Fact("virtual camera", "pyvirtualcam is not installed", remedy)
    elif not Path("/sys/module/v4l2loopback").exists() and platform.system() == "Linux":
        remedy = "as root: modprobe v4l2loopback exclusive_caps=1"
        yield Fact("virtual camera", "pyvirtualcam is installed, v4l2loopback not loaded", remedy)
    else:
        yield Fact("virtual camera", "can be fed")


def _parser() -> Fact:
    import numpy as np

    from .app.stills import load_parser

    try:
        with load_parser("embedded") as parser:
            parser.parse(np.zeros((180, 320, 3), np.uint8))
    except M2FPStreamError as error:
        return Fact("parser", str(error), "reinstall m2fp-stream", type(error))
    return Fact("parser", "embedded: loads and runs")


def check_stats(path: Path, max_age_s: float) -> str:
    """Returns how the live run is that keeps what it measures in `path`, in one line.

    Raises:
        M2FPStreamError: there is no such file (the run has not begun), the run has ended, or it
            hangs: the file is older than `max_age_s`.
        SourceError, SinkError: it runs, and its source or what is to come of it is away.
        UsageError: the file is not of a live run.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for
        raise UsageError(f"{path}: is no file; name the file of --stats")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise M2FPStreamError(f"{path}: is not there; the run has not begun") from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise UsageError(f"{path}: cannot be read ({reason}); name the file of --stats") from None
    try:
        facts = json.loads(text)
        health = Health(facts["health"])
        made = datetime.datetime.fromisoformat(facts["time"])
        age_s = (datetime.datetime.now(datetime.UTC) - made).total_seconds()
        judgement = judge(facts, running=health is not Health.ENDED)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{path}: was not made by a live run's --stats; name its file") from None
    if judgement.health is Health.ENDED:
        raise M2FPStreamError(f"{path}: ended: the run is over; start it again")
    if age_s > max_age_s:
        raise M2FPStreamError(
            f"{path}: failing: {age_s:.0f} seconds old, at most {max_age_s:g} are expected; the "
            "run hangs or was killed; start it again"
        )
    line = ": ".join((judgement.health.value, *filter(None, [", ".join(judgement.problems)])))
    if judgement.exit_code:
        kind = SourceError if judgement.exit_code == SourceError.exit_code else SinkError
        raise kind(f"{path}: {line}; see what the run says")
    return line
