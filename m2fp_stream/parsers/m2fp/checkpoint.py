"""Reads the folder of a ModelScope checkpoint; what is not exactly M2FP is refused.

The weights file is read once, and the bytes whose SHA-256 was compared are those that are parsed.
They are parsed by torch's reader for plain tensors, which runs no code of the file. Every parameter
has to be there, in its shape and finite: a network with one layer left at random would find
nobody, and nobody would notice. What the network is made of and cannot be told from shapes is
taken from ``configuration.json`` where that says it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from m2fp_stream.core.errors import ModelError

from .labels import Kind
from .layers import HEADS, STRIDE, require_torch
from .model import M2FP

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "read_checkpoint"]

CONFIGURATION: Final = "configuration.json"
WEIGHTS: Final = "pytorch_model.pt"

_LARGEST_CONFIGURATION: Final = 1 << 20
_LARGEST_WEIGHTS: Final = 2 << 30
"""Bytes; the published ones have about 250 MB. Chosen: eight times that, and far more than any
configuration has; a stranger's file must not fill the memory."""
_NAMED: Final = 3
"""How many of the wrong keys a message names. Chosen: they fit on one line."""

_PRINTABLE: Final = re.compile(r"[A-Za-z0-9_.]{1,120}")
"""Names that a message may repeat; others come from a stranger's file."""

_CLASS_HEAD: Final = "sem_seg_head.predictor.class_embed.weight"

_HARMLESS: Final = re.compile(
    r"num_batches_tracked$"  # counts the steps of the training
    r"|^criterion\."  # weighs the classes in the training's loss
    r"|^pixel_(mean|std)$"  # constants, which the published network does not read from here either
)
"""Keys that mean nothing for parsing."""

_ANCHORS: Final[Mapping[str, int]] = MappingProxyType(
    {"background": 0, "hat": 1, "hair": 2, "face": 13}
)
"""Classes by which the order of the list in ``configuration.json`` is checked, where it has them
(both published lists share them; spelling differs between releases). Source: both lists."""

_ARCHITECTURE: Final[Mapping[str, object]] = MappingProxyType(
    {
        "backbone.stride_in_1x1": False,
        "backbone.res4_dilation": 1,
        "backbone.res5_dilation": 1,
        "backbone.res5_multi_grid": [1, 1, 1],
        "encoder.transformer_nheads": HEADS,
        "decoder.nheads": HEADS,
        "decoder.pre_norm": False,
    }
)
"""What `model.M2FP` computes and no shape tells, by its names in ``configuration.json``: weights of
a network with other strides, dilations or heads would fit. Source of the values: the
configurations of M2FP's own repository, ``configs/cihp`` and ``configs/lip``."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Weights that were checked.

    Attributes:
        kind: what they were trained on.
        state: parameter name -> float32 tensor on the CPU: exactly the names and shapes of
            `model.M2FP`, all finite. The tensors are the checkpoint's own: do not write to them.
        sha256: of the weights file's bytes, before they were sealed if they are.
    """

    kind: Kind
    state: Mapping[str, torch.Tensor]
    sha256: str


def read_checkpoint(
    folder: Path,
    *,
    expected: Kind | None = None,
    sha256: str | None = None,
    unseal: Callable[[bytes], bytes] | None = None,
) -> Checkpoint:
    """Reads ``configuration.json`` and ``pytorch_model.pt`` of `folder`.

    Args:
        folder: what ModelScope's hub gives for one of the two published models.
        expected: the kind that it has to be; None takes either.
        sha256: hexadecimal SHA-256 that the weights must have, compared before they are parsed;
            None takes any, which is for the first time.
        unseal: decrypts the bytes of the weights file, in memory.

    Raises:
        ModelError: torch is missing or too old; a file is missing, too large, cut off, of another
            hash or not readable; it is not M2FP as published, not of the kind expected, or not
            finite. Nothing is kept then, and nothing of the file was run.
    """
    folder = folder.absolute()  # so that "." has a name for messages
    if not os.path.isdir(folder):  # noqa: PTH112  # `Path.is_dir` raises where it may not look
        raise ModelError(
            f"no model folder {folder.name!r}; give the one that holds {CONFIGURATION} and "
            f"{WEIGHTS}, or get it with: m2fp-stream models pull m2fp"
        )
    told = _configured_kind(_read(folder, CONFIGURATION, _LARGEST_CONFIGURATION), folder)
    _refuse_other(told, expected, folder)
    data = _read(folder, WEIGHTS, _LARGEST_WEIGHTS)
    if unseal is not None:
        data = _unsealed(data, unseal, folder)
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise ModelError(
            f"{folder.name}/{WEIGHTS} has SHA-256 {found}, expected {sha256.lower()}: it was "
            "changed or damaged; restore the file, or remove it and pull the model again"
        )
    torch = require_torch()
    tensors = _parsed(torch, data, folder)
    del data  # as large as the tensors
    kind = _kind_of(tensors, told, folder)
    _refuse_other(kind, expected, folder)
    return Checkpoint(kind, MappingProxyType(_checked(torch, tensors, kind, folder)), found)


def _read(folder: Path, name: str, largest: int) -> bytes:
    path = folder / name
    try:
        if not path.is_file():
            raise ModelError(
                f"{folder.name} holds no file {name}; a ModelScope folder has {CONFIGURATION} and "
                f"{WEIGHTS}: complete it, or pull the model again"
            )
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > largest:
                raise ModelError(
                    f"{folder.name}/{name} has {size} bytes, expected {largest} at most; give the "
                    "folder of a published checkpoint"
                )
            return file.read(size)
    except OSError as error:
        raise ModelError(
            f"cannot read {folder.name}/{name} ({type(error).__name__}); check its permissions"
        ) from None
    except MemoryError:
        raise ModelError(
            f"not enough memory to read {folder.name}/{name}; close other programs"
        ) from None


def _unsealed(data: bytes, unseal: Callable[[bytes], bytes], folder: Path) -> bytes:
    try:
        return unseal(data)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"cannot decrypt {folder.name}/{WEIGHTS} ({type(error).__name__}); check the key"
        ) from None


def _configured_kind(data: bytes, folder: Path) -> Kind | None:
    """Returns what ``configuration.json`` says it is; None where it does not say.

    Its other fields may be missing or unknown; those that say how the network computes must say
    what we compute.
    """
    where = f"{folder.name}/{CONFIGURATION}"
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise ModelError(
            f"{where} is not JSON; restore the file, or pull the model again"
        ) from None
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict):
        raise ModelError(f"{where} has no object `model`: it does not describe a ModelScope model")
    if str(model.get("type", "m2fp")).lower() != "m2fp":
        raise ModelError(f"{where} describes a model of another type than m2fp; give M2FP's folder")
    for name, ours in _ARCHITECTURE.items():
        section, key = name.split(".")
        values = model.get(section)
        theirs = values.get(key, ours) if isinstance(values, dict) else ours
        if theirs != ours:
            raise ModelError(
                f"{where}: model.{name} is not {ours!r} as in the published M2FP; another network "
                "would read its weights wrongly, so only the published ones are taken"
            )
    return _agreed(_claims(model, where), where)


def _claims(model: Mapping[str, Any], where: str) -> list[Kind]:
    """Returns the kind that each telling field stands for."""
    claims = []
    single = model.get("single_human")
    if isinstance(single, bool):
        claims.append(Kind.LIP if single else Kind.CIHP)
    decoder = model.get("decoder")
    count = decoder.get("num_classes") if isinstance(decoder, dict) else None
    if isinstance(count, int):
        claims.append(_of_classes(count, f"{where}: model.decoder.num_classes"))
    classes = model.get("classes")
    if isinstance(classes, list) and classes:
        claims.append(_of_classes(len(classes), f"{where}: the length of model.classes"))
        names = [str(name).strip().lower() for name in classes]
        moved = [name for name, at in _ANCHORS.items() if name in names and names[at] != name]
        if moved:
            raise ModelError(
                f"{where}: model.classes has {', '.join(moved)} at another place than the "
                "published list; other parts would be covered, so it is not taken"
            )
    return claims


def _agreed(claims: list[Kind], where: str) -> Kind | None:
    if len(set(claims)) > 1:
        raise ModelError(
            f"{where} contradicts itself: its fields stand for both of {', '.join(Kind)}; restore "
            "the file, or pull the model again"
        )
    return claims[0] if claims else None


def _of_classes(count: int, what: str) -> Kind:
    for kind in Kind:
        if kind.classes == count:
            return kind
    known = " or ".join(f"{kind.classes} ({kind})" for kind in Kind)
    raise ModelError(
        f"{what} is {count}, expected {known}; other data sets of M2FP are not supported"
    )


def _parsed(torch: Any, data: bytes, folder: Path) -> dict[str, Any]:
    """Returns the file's tensors by name; nothing but plain containers and tensors is made."""
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds; their texts quote the file
        raise ModelError(
            f"{folder.name}/{WEIGHTS} cannot be read as plain tensors ({type(error).__name__}): it "
            "is cut off, not a checkpoint, or holds code, which is never run; pull the model again"
        ) from None
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ModelError(
            f"{folder.name}/{WEIGHTS} is no dictionary of parameters; give the checkpoint as the "
            "hub has it"
        )
    return {name: value for name, value in content.items() if not _HARMLESS.search(name)}


def _kind_of(tensors: Mapping[str, Any], told: Kind | None, folder: Path) -> Kind:
    """Returns the kind by the class head's outputs, which are one more than the classes."""
    outputs = getattr(tensors.get(_CLASS_HEAD), "shape", ())
    if not outputs:
        raise ModelError(
            f"{folder.name}/{WEIGHTS} is not M2FP: it lacks {_CLASS_HEAD}; give the folder of a "
            "published checkpoint"
        )
    kind = _of_classes(int(outputs[0]) - 1, f"{folder.name}/{WEIGHTS}: the number of classes")
    if told not in (None, kind):
        raise ModelError(
            f"{folder.name}: {CONFIGURATION} says {told}, {WEIGHTS} has the classes of {kind}; the "
            "files belong to different models: pull the model again"
        )
    return kind


def _refuse_other(kind: Kind | None, expected: Kind | None, folder: Path) -> None:
    if kind is None or expected is None or kind is expected:
        return
    raise ModelError(
        f"{folder.name} holds the {kind} model ({_SCOPE[kind]}), expected {expected} "
        f"({_SCOPE[expected]}); name the other model, or give the other folder"
    )


_SCOPE: Final[Mapping[Kind, str]] = MappingProxyType(
    {Kind.CIHP: "many people", Kind.LIP: "one person"}
)


def _checked(torch: Any, tensors: dict[str, Any], kind: Kind, folder: Path) -> dict[str, Any]:
    """Returns the tensors as float32, after comparing them with what the network wants."""
    where = f"{folder.name}/{WEIGHTS}"
    with torch.device("meta"):  # names and shapes alone
        wanted = M2FP(kind.classes, (STRIDE, STRIDE)).state_dict()
    _refuse_any(wanted.keys() - tensors.keys(), where, "lacks")
    _refuse_any(tensors.keys() - wanted.keys(), where, "has what M2FP does not know:")
    _refuse_any(
        {name for name in wanted if not _is_plain(torch, tensors[name])},
        where,
        "has what is no dense tensor of floats:",
    )
    _refuse_any(
        {name for name in wanted if tensors[name].shape != wanted[name].shape},
        where,
        "has parameters of other shapes than M2FP's:",
    )
    state = {name: tensors.pop(name).detach().to(torch.float32).contiguous() for name in wanted}
    _refuse_any(
        # NaN passes through the minimum; a fifth of the time that asking each number takes.
        {name for name, value in state.items() if not _is_finite(*value.aminmax())},
        where,
        "has parameters with NaN or infinity:",
    )
    return state


def _is_finite(least: Any, largest: Any) -> bool:
    return math.isfinite(least) and math.isfinite(largest)


def _is_plain(torch: Any, value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.is_floating_point()
    )


def _refuse_any(names: Iterable[str], where: str, what: str) -> None:
    wrong = sorted(names)
    if wrong:
        shown = [name if _PRINTABLE.fullmatch(name) else "(garbled)" for name in wrong[:_NAMED]]
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise ModelError(
            f"{where} {what} {', '.join(shown)}{more}; give the folder of a published checkpoint, "
            "or pull the model again"
        )
