"""Finds M2FP's weights, exports them once for the shape at hand, says how a process loads them.

An export is kept in the cache folder, beside a note with its SHA-256; both can be deleted at any
time. It is made in a process of its own, which takes torch and its memory along when it ends.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ..config import cache_folder
from ..core.errors import ModelError
from ..core.part_file import replace_file
from ..models.pins import WEIGHTS, pulled_folder, store_folder
from ..models.vault import is_sealed, open_key, seal, unseal
from ..parsers.m2fp.labels import Kind
from ..parsers.m2fp.options import M2FPOptions
from ..parsers.m2fp.picture import inner_size, network_shape, tile_share
from ..privacy.hardening import harden
from ..processes.child import Stream, read_job, start_module

__all__ = [
    "HUB_NAMES",
    "export_network",
    "fine_deadline_s",
    "fine_parser",
    "fine_side",
    "teacher_weights",
]

HUB_NAMES: Final = {Kind.CIHP: "m2fp", Kind.LIP: "m2fp-lip"}
"""What `models pull` calls the weights of each kind."""

_MAGIC_BYTES: Final = 8
"""What `models.vault.is_sealed` looks at."""

_CHUNK_BYTES: Final = 1 << 22
"""Bytes hashed at a time. Chosen: weights of hundreds of megabytes are not read at once."""

_START_S: Final = 20.0
"""What a busy machine may add to a parse, however small. Chosen: a hang is noticed in a minute."""

_LOOK_S: Final = 20.0
"""What one look at the usual size may take: twelve times the 1.65 s that it takes on two idle cores
(docs/parsers.md, "Lean")."""

_USUAL_SIDE: Final = 320
"""The short side of `_LOOK_S`, the default of `m2fp.short_side`; time grows with its square."""


def fine_parser(
    options: M2FPOptions,
    picture_wh: tuple[int, int],
    *,
    on_notice: Callable[[str], None] | None = None,
) -> dict[str, object]:
    """Returns the arguments of `parsers.m2fp.parser.from_options` for pictures like this one.

    Where no network was exported for their shape yet, it is now, which takes up to a minute.

    Args:
        options: of the parser.
        picture_wh: (width, height) of any picture of the same aspect.
        on_notice: gets a sentence for the user before something that takes long.

    Raises:
        ModelError: the weights are missing, changed or of the other kind; or an export is needed,
            and torch is missing or it fails.
    """
    onnx, sha256 = export_network(options, picture_wh, on_notice=on_notice)
    return {**options.model_dump(mode="json"), "onnx": str(onnx), "sha256": sha256}


def export_network(
    options: M2FPOptions,
    picture_wh: tuple[int, int],
    *,
    on_notice: Callable[[str], None] | None = None,
) -> tuple[Path, str]:
    """Returns the exported network for pictures like this one, and its SHA-256; see `fine_parser`.

    The hash is of the network itself, before it was sealed if it is.
    """
    kind = Kind(options.kind)
    folder, pinned = _located(options, kind)
    weights = pinned or _weights_hash(folder / WEIGHTS, options)
    shape_hw = network_shape(inner_size((picture_wh[1], picture_wh[0]), options.short_side))
    height, width = shape_hw
    path = cache_folder() / "m2fp" / f"{kind}-{height}x{width}-{weights[:32]}.onnx"
    known = _noted(path)
    if known is None:
        if on_notice is not None:
            on_notice(f"exporting M2FP for {width}x{height}, once; this takes up to a minute")
        _export_apart(path, folder, weights, kind, shape_hw, options.key)
        known = _noted(path)
    if known is None:
        raise ModelError(
            f"the export of M2FP in {path.parent} cannot be read; delete it, try again"
        )
    return path, known


def teacher_weights(options: M2FPOptions) -> str:
    """Returns the SHA-256 of the checkpoint that `options` name.

    Raises:
        ModelError: it is missing, or was pulled and is not what was pinned.
    """
    folder, pinned = _located(options, Kind(options.kind))
    return pinned or _weights_hash(folder / WEIGHTS, options)


def fine_side(options: M2FPOptions, picture_wh: tuple[int, int]) -> int:
    """Returns the longer side of the copy of a picture that M2FP makes full use of, in pixels."""
    inner = inner_size((picture_wh[1], picture_wh[0]), options.short_side)
    return math.ceil(max(inner) / tile_share(options.tiles))


def fine_deadline_s(options: M2FPOptions) -> float:
    """Returns the seconds after which a parse counts as a hang; generous, for busy machines."""
    looks = (1 + options.tiles**2 if options.tiles > 1 else 1) * (2 if options.agreement else 1)
    return _START_S + _LOOK_S * looks * (options.short_side / _USUAL_SIDE) ** 2


def _located(options: M2FPOptions, kind: Kind) -> tuple[Path, str | None]:
    """Returns the folder of the weights, and their pinned SHA-256 where they were pulled."""
    if options.model_dir is not None:
        return Path(options.model_dir), None
    folder, files = pulled_folder(HUB_NAMES[kind], store_folder(os.environ))
    return folder, files[WEIGHTS]


def _weights_hash(path: Path, options: M2FPOptions) -> str:
    """Returns the SHA-256 of weights that were given as a folder."""
    try:
        with path.open("rb") as file:
            head = file.read(_MAGIC_BYTES)
            file.seek(0)
            if is_sealed(head):
                return hashlib.sha256(_opened(file.read(), options.key, path.name)).hexdigest()
            digest = hashlib.sha256()
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
            return digest.hexdigest()
    except OSError as error:
        raise ModelError(
            f"no weights in {path.parent}: {path.name}: {error.strerror}; name the folder that has "
            "them with --model-dir, or run: m2fp-stream models pull m2fp"
        ) from None


def _opened(data: bytes, key: str | None, name: str) -> bytes:
    if key is None:
        raise ModelError(f"{name} is sealed; name its key: m2fp.key, a file or keyring")
    return unseal(data, open_key(key), name)


def _noted(path: Path) -> str | None:
    """Returns the SHA-256 noted for an export that is there, None where it is not (whole)."""
    try:
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if path.stat().st_size == note["bytes"]:
            return str(note["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _export_apart(
    path: Path,
    folder: Path,
    weights: str,
    kind: Kind,
    shape_hw: tuple[int, int],
    key: str | None,
) -> None:
    """Has a child process write the export, since torch stays in a process once it is there."""
    task = {
        "path": str(path),
        "folder": str(folder.absolute()),
        "sha256": weights,
        "kind": str(kind),
        "shape": list(shape_hw),
        "key": key,
    }
    with start_module(f"{__package__}.m2fp", job=task, stdout=Stream.PIPE) as child:
        output = child.stdout.read()
        child.wait()
    try:
        error = json.loads(output)["error"]
    except (ValueError, KeyError, TypeError):
        error = "its process died, perhaps for want of memory; close other programs and try again"
    if error is not None:
        raise ModelError(f"M2FP cannot be exported: {error}")


def _export(task: Mapping[str, Any]) -> None:
    from ..parsers.m2fp.checkpoint import read_checkpoint
    from ..parsers.m2fp.export import to_onnx

    path = Path(task["path"])
    secret = None if task["key"] is None else open_key(task["key"])

    def opened(data: bytes) -> bytes:
        if not is_sealed(data):
            return data
        if secret is None:
            raise ModelError(f"{WEIGHTS} is sealed; name its key: m2fp.key, a file or keyring")
        return unseal(data, secret, WEIGHTS)

    checkpoint = read_checkpoint(
        Path(task["folder"]), expected=Kind(task["kind"]), sha256=task["sha256"], unseal=opened
    )
    height, width = task["shape"]
    network = to_onnx(checkpoint, (height, width))
    digest = hashlib.sha256(network).hexdigest()
    stored = network if secret is None else seal(network, secret, path.name)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        note = {"sha256": digest, "bytes": len(stored), "weights": checkpoint.sha256}
        replace_file(path, stored, sync=False, in_turns=False)
        path.with_suffix(".json").write_text(json.dumps(note) + "\n", encoding="utf-8")
    except OSError as error:
        raise ModelError(
            f"{path.parent}: {error.strerror}; it needs {len(stored) / 1e6:.0f} MB; make room, or "
            "name another cache folder with XDG_CACHE_HOME"
        ) from None


def _main() -> int:
    """The child process: exports, says how it went as JSON."""
    harden(parent_death_signal=True)
    error: str | None = None
    channel = os.dup(1)
    os.dup2(2, 1)  # what torch prints is not ours
    try:
        _export(read_job())
    except ModelError as failure:
        error = str(failure)
    except MemoryError:
        error = "there is not enough memory; close other programs and try again"
    os.write(channel, json.dumps({"error": error}).encode())
    return 0 if error is None else 4


if __name__ == "__main__":
    sys.exit(_main())
