"""Weights of M2FP's shape from a seed: the same numbers in every stack, with nothing to download.

The published weights may not be passed on, and 250 MB do not belong into a repository. So every
parameter is drawn from a generator that its own name seeds, and the few that must fit the others
come from a small table that `make_model.py --calibrate` found on photographs: the statistics of
batch normalisation, how much the masks contrast, and which query finds which class. With weights
that were merely random every query would find the same, and agreement would prove nothing.

NumPy only, and Python 3.10: the classic stack imports this file, and the tests do.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CLASSES",
    "DATA",
    "KINDS",
    "SEED",
    "TABLE",
    "configuration",
    "digest",
    "layout",
    "read_table",
    "seeded_state",
    "table_names",
]

Table = Mapping[str, NDArray[Any]]

SEED: Final = 20261122
DATA: Final = Path(__file__).resolve().parents[2] / "tests" / "golden" / "data"
TABLE: Final = DATA / "weights.npz"
KINDS: Final = ("cihp", "lip")

_LIP: Final = (
    *("Background", "Hat", "Hair", "Glove", "Sunglasses", "UpperClothes", "Dress", "Coat"),
    *("Socks", "Pants", "Jumpsuits", "Scarf", "Skirt", "Face", "Left-arm", "Right-arm"),
    *("Left-leg", "Right-leg", "Left-shoe", "Right-shoe"),
)
_CIHP: Final = (
    *("Background", "Hat", "Hair", "Gloves", "Sunglasses", "UpperClothes", "Dress", "Coat"),
    *("Socks", "Pants", "Torso-skin", "Scarf", "Skirt", "Face", "Left-arm", "Right-arm"),
    *("Left-leg", "Right-leg", "Left-shoe", "Right-shoe", "Human"),
)
CLASSES: Final[Mapping[str, tuple[str, ...]]] = {"cihp": _CIHP, "lip": _LIP}
"""Titles by class number. Source: the two models' pages at ModelScope."""

# Sizes. Source: M2FP (arXiv 2301.00394), section 4; Mask2Former (arXiv 2112.01527), section 4.1.
_WIDTH: Final = 256
_QUERIES: Final = 100
_BLOCKS: Final = (3, 4, 23, 3)
_PIXELS: Final = "sem_seg_head.pixel_decoder."
_QUERY: Final = "sem_seg_head.predictor."


def configuration(kind: str) -> dict[str, Any]:
    """Returns what `configuration.json` of a ModelScope folder says.

    Source: the arguments of `M2FP` in ModelScope 1.9.5, with the published network's sizes.
    """
    single = kind == "lip"
    stages = ["res2", "res3", "res4", "res5"]
    model: dict[str, Any] = {
        "type": "m2fp",
        "pretrained": True,
        "backbone": {
            "out_features": stages,
            "depth": 101,
            "num_groups": 1,
            "width_per_group": 64,
            "norm": "BN",
            "stem_out_channels": 128,
            "res2_out_channels": 256,
            "stride_in_1x1": False,
            "res4_dilation": 1,
            "res5_dilation": 1,
            "res5_multi_grid": [1, 1, 1],
        },
        "encoder": {
            "in_features": stages,
            "transformer_dropout": 0.0,
            "transformer_nheads": 8,
            "transformer_dim_feedforward": 1024,
            "transformer_enc_layers": 6,
            "conv_dim": _WIDTH,
            "mask_dim": _WIDTH,
            "transformer_in_features": stages[1:],
            "common_stride": 4,
        },
        "decoder": {
            "num_classes": len(CLASSES[kind]),
            "hidden_dim": _WIDTH,
            "num_queries": _QUERIES,
            "nheads": 8,
            "dim_feedforward": 2048,
            "dec_layers": 9,
            "pre_norm": False,
            "mask_dim": _WIDTH,
            "enforce_input_project": False,
        },
        "classes": list(CLASSES[kind]),
        "single_human": single,
        "parsing_on": not single,
        "semantic_on": single,
        "sem_seg_postprocess_before_inference": not single,
    }
    if single:
        model["input_single_human"] = {"sizes": [[384, 512]]}
    else:
        model |= {"num_parsing": 20, "parsing_ins_score_thr": 0.3}
    return {
        "framework": "pytorch",
        "task": "image-segmentation",
        "pipeline": {"type": "m2fp-image-human-parsing"},
        "model": model,
    }


def _weighted(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _batch_normed(
    name: str, inputs: int, outputs: int, kernel: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs, kernel, kernel)
    yield from _weighted(f"{name}.norm", outputs)
    yield f"{name}.norm.running_mean", (outputs,)
    yield f"{name}.norm.running_var", (outputs,)
    yield f"{name}.norm.num_batches_tracked", ()


def _backbone() -> Iterator[tuple[str, tuple[int, ...]]]:
    for number, (inputs, outputs) in enumerate(((3, 64), (64, 64), (64, 128)), start=1):
        yield from _batch_normed(f"backbone.stem.conv{number}", inputs, outputs, 3)
    inputs = 128
    for stage, blocks in enumerate(_BLOCKS):
        middle = 64 << stage
        for block in range(blocks):
            name = f"backbone.res{stage + 2}.{block}."
            if block == 0:
                yield from _batch_normed(f"{name}shortcut", inputs, 4 * middle, 1)
            yield from _batch_normed(f"{name}conv1", inputs, middle, 1)
            yield from _batch_normed(f"{name}conv2", middle, middle, 3)
            yield from _batch_normed(f"{name}conv3", middle, 4 * middle, 1)
            inputs = 4 * middle


def _pixel_decoder() -> Iterator[tuple[str, tuple[int, ...]]]:
    for number, inputs in enumerate((2048, 1024, 512)):
        yield from _weighted(f"{_PIXELS}input_proj.{number}.0", _WIDTH, inputs, 1, 1)
        yield from _weighted(f"{_PIXELS}input_proj.{number}.1", _WIDTH)
    yield f"{_PIXELS}transformer.level_embed", (3, _WIDTH)
    for number in range(6):
        name = f"{_PIXELS}transformer.encoder.layers.{number}."
        yield from _weighted(f"{name}self_attn.sampling_offsets", 8 * 3 * 4 * 2, _WIDTH)
        yield from _weighted(f"{name}self_attn.attention_weights", 8 * 3 * 4, _WIDTH)
        yield from _weighted(f"{name}self_attn.value_proj", _WIDTH, _WIDTH)
        yield from _weighted(f"{name}self_attn.output_proj", _WIDTH, _WIDTH)
        yield from _weighted(f"{name}norm1", _WIDTH)
        yield from _weighted(f"{name}linear1", 1024, _WIDTH)
        yield from _weighted(f"{name}linear2", _WIDTH, 1024)
        yield from _weighted(f"{name}norm2", _WIDTH)
    yield from _weighted(f"{_PIXELS}mask_features", _WIDTH, _WIDTH, 1, 1)
    for name, kernel in (("adapter_1", 1), ("layer_1", 3)):
        yield f"{_PIXELS}{name}.weight", (_WIDTH, _WIDTH, kernel, kernel)
        yield from _weighted(f"{_PIXELS}{name}.norm", _WIDTH)


def _attention(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.in_proj_weight", (3 * _WIDTH, _WIDTH)
    yield f"{name}.in_proj_bias", (3 * _WIDTH,)
    yield from _weighted(f"{name}.out_proj", _WIDTH, _WIDTH)


def _predictor(classes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for which, attention in (("self", "self_attn"), ("cross", "multihead_attn")):
        for number in range(9):
            name = f"{_QUERY}transformer_{which}_attention_layers.{number}."
            yield from _attention(f"{name}{attention}")
            yield from _weighted(f"{name}norm", _WIDTH)
    for number in range(9):
        name = f"{_QUERY}transformer_ffn_layers.{number}."
        yield from _weighted(f"{name}linear1", 2048, _WIDTH)
        yield from _weighted(f"{name}linear2", _WIDTH, 2048)
        yield from _weighted(f"{name}norm", _WIDTH)
    yield from _weighted(f"{_QUERY}decoder_norm", _WIDTH)
    yield f"{_QUERY}query_feat.weight", (_QUERIES, _WIDTH)
    yield f"{_QUERY}query_embed.weight", (_QUERIES, _WIDTH)
    yield f"{_QUERY}level_embed.weight", (3, _WIDTH)
    yield from _weighted(f"{_QUERY}class_embed", classes + 1, _WIDTH)
    for number in range(3):
        yield from _weighted(f"{_QUERY}mask_embed.layers.{number}", _WIDTH, _WIDTH)


def layout(kind: str) -> dict[str, tuple[int, ...]]:
    """Returns name -> shape of every entry of a checkpoint, in its order."""
    parts = (_backbone(), _pixel_decoder(), _predictor(len(CLASSES[kind])))
    return {name: shape for part in parts for name, shape in part}


_TABLE_ENDS: Final = (".running_mean", ".running_var")
_CLASS_HEAD: Final = f"{_QUERY}class_embed."
_CENTRED: Final = (f"{_PIXELS}mask_features.bias", f"{_QUERY}mask_embed.layers.2.bias")
_SCALED: Final = f"{_QUERY}mask_embed.layers.2.weight"


def table_names(kind: str) -> dict[str, str]:
    """Returns parameter -> its name in the table, of all that the table must give.

    The two kinds share all but the class head.
    """
    names = {}
    for name in layout(kind):
        if name.startswith(_CLASS_HEAD):
            names[name] = f"{kind}.{name}"
        elif name.endswith(_TABLE_ENDS) or name in _CENTRED or name == _SCALED:
            names[name] = name
    return names


def _uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> NDArray[np.float32]:
    """Returns float32 in [low, high), bit for bit the same wherever it is made.

    Of a bit generator NumPy promises that its raw output never changes (NEP 19), of distributions
    it does not. The 24 upper bits of each half become a float32 exactly.
    """
    count = math.prod(shape)
    seed = int.from_bytes(hashlib.sha256(f"{SEED}:{name}".encode()).digest()[:16], "little")
    raw = np.random.PCG64(seed).random_raw((count + 1) // 2)
    halves = np.asarray(raw, "<u8").reshape(-1).view("<u4")[:count]
    unit = (halves >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    values = unit * np.float32(high - low) + np.float32(low)
    return np.asarray(values, np.float32).reshape(shape)


_ADDED: Final = (0.2, 0.3)
"""Of what a layer of the decoder adds to a query, and of what one that looks at the picture does.
With all of it, 27 layers made all queries alike (0.01 apart, now 0.6), and masks and classes hung
on their last digits."""
_LEVELS: Final = 0.2
"""Likewise of what tells a level from another, which every query takes up alike."""


def _range_of(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Returns what a parameter is drawn from."""
    if len(shape) == 1 and name.endswith("weight"):  # all of them are norms
        if name.startswith("backbone.res") and ".conv3." in name:
            # What a residual block adds: with 1, the 23 blocks of a stage enlarge what differs by
            # rounding eighteen times. Trained networks have small ones, too.
            return 0.2, 0.4
        # Of the finest features little goes into the masks, so that these have areas, not dots.
        return (0.15, 0.25) if "adapter_1" in name else (0.8, 1.2)
    if name.endswith("sampling_offsets.bias"):
        return -4.0, 4.0
    if len(shape) == 1:
        return -0.1, 0.1
    if ("_embed" in name and "layers" not in name) or "query_feat" in name:
        bound = math.sqrt(3) * (_LEVELS if name.startswith(f"{_QUERY}level") else 1)
        return -bound, bound
    fan_in, fan_out = math.prod(shape[1:]), shape[0]
    if "sampling_offsets" in name or "attention_weights" in name:
        bound = 1.5 / math.sqrt(fan_in)
    elif name.startswith("backbone") or "linear1" in name or "mask_embed" in name:
        bound = math.sqrt(6 / fan_in)  # He et al., arXiv 1502.01852, for layers before a ReLU
    else:
        bound = math.sqrt(6 / (fan_in + fan_out))  # Glorot and Bengio, AISTATS 2010
    if name.startswith(_QUERY) and ("out_proj" in name or "linear2" in name):
        bound *= _ADDED["cross" in name]
    return -bound, bound


def seeded_state(kind: str, table: Table) -> dict[str, NDArray[Any]]:
    """Returns name -> values of a whole checkpoint, float32 (counters int64).

    Args:
        kind: "cihp" or "lip".
        table: what calibration found, by the names of `table_names`; a single number multiplies
            what the seed gives, anything else replaces it.

    Raises:
        KeyError: the table lacks an entry.
        ValueError: an entry has another shape than the parameter.
    """
    found = table_names(kind)
    state: dict[str, NDArray[Any]] = {}
    for name, shape in layout(kind).items():
        if name.endswith("num_batches_tracked"):
            state[name] = np.array(1, np.int64)
            continue
        entry = np.asarray(table[found[name]], np.float32) if name in found else None
        if entry is not None and entry.shape == shape:
            state[name] = entry
            continue
        state[name] = _uniform(name, shape, *_range_of(name, shape))
        if entry is not None:
            if entry.shape:
                raise ValueError(f"{found[name]}: {entry.shape} in the table, wanted {shape}")
            state[name] *= entry
    return state


def digest(state: Mapping[str, NDArray[Any]]) -> str:
    """Returns the SHA-256 of all names, shapes and values, in order of the names."""
    total = hashlib.sha256()
    for name in sorted(state):
        values = state[name]
        stored = np.asarray(values, values.dtype.newbyteorder("<"), order="C")
        total.update(json.dumps([name, stored.dtype.str, list(stored.shape)]).encode())
        total.update(stored.tobytes())
    return total.hexdigest()


def read_table(path: Path = TABLE) -> dict[str, NDArray[Any]]:
    """Returns the table that the repository holds."""
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}
