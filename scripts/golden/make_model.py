"""Writes genuine ModelScope folders of M2FP with seeded weights, for the classic stack.

    python -m scripts.golden.make_model FOLDER [--calibrate]

FOLDER gets `cihp` and `lip`, each with `configuration.json` and `pytorch_model.pt`. With
`--calibrate` the table of weights.py is found anew first and written to tests/golden/data; all
golden files are to be made again then.

What calibration finds, on the photographs of cases.py:
- the statistics of batch normalisation, so that features neither vanish nor explode;
- the bias of the mask features and the last layer of the mask head, so that each query's mask
  covers a part of the picture and is sure of itself;
- the class head, by least squares: most queries find nothing, each of the others a class, more or
  less surely, so that scores spread and none is near the lowest that counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from modelscope.models.cv.image_human_parsing import M2FP
from numpy.typing import NDArray

from .cases import CASES, write_file
from .reference import open_pipeline, prepared
from .weights import (
    CLASSES,
    KINDS,
    SEED,
    TABLE,
    Table,
    configuration,
    digest,
    layout,
    read_table,
    seeded_state,
    table_names,
)

PREDICTOR: Final = "sem_seg_head.predictor."
FEATURE_BIAS: Final = "sem_seg_head.pixel_decoder.mask_features.bias"
MASK_SCALE: Final = f"{PREDICTOR}mask_embed.layers.2.weight"
MASK_BIAS: Final = f"{PREDICTOR}mask_embed.layers.2.bias"

CALIBRATION_HW: Final = (256, 384)
MASK_ROUNDS: Final = 3
"""Masks steer the attention that they come from, so they are fitted more than once."""
MASK_CONTRAST: Final = 5.0
"""Standard deviation of mask logits; of trained networks it is of this order."""
MASK_OFFSET: Final = 1.1
"""Standard deviations below 0 at which masks have their mean: a sixth of the picture is inside."""
MASK_VARIETY: Final = 0.5
"""Standard deviations by which masks differ in that: some are small, some large."""
NOTHING: Final = 8.0
"""Logit of "nothing", over the classes', of a query that finds nothing."""
WEAKEST, STRONGEST = 2.5, 6.2
"""Logits of the class that a query finds, over the others'."""
RIDGE: Final = 1e-2
FINDERS: Final = 4
"""Every so many queries, one finds something; the others find nothing, as in trained networks."""
HUMANS: Final = 4
"""Queries for humans in each round of the classes."""


def build(kind: str, table: Table) -> Any:
    """Returns ModelScope's network with the seeded weights."""
    arguments = configuration(kind)["model"]
    del arguments["type"]
    network = M2FP("", **{**arguments, "pretrained": False})
    network.load_state_dict(tensors(kind, table), strict=True)
    return network.eval()


def tensors(kind: str, table: Table) -> dict[str, Any]:
    """Returns the seeded weights as torch has them."""
    state = seeded_state(kind, table)
    return {name: torch.from_numpy(np.array(values)) for name, values in state.items()}


def write_folder(folder: Path, kind: str, table: Table) -> None:
    """Writes a folder as ModelScope's hub gives it."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(configuration(kind), indent=1) + "\n"
    (folder / "configuration.json").write_text(text, encoding="utf-8")
    torch.save({"model": tensors(kind, table)}, folder / "pytorch_model.pt")


def roles(kind: str) -> NDArray[np.float64]:
    """Returns (queries, classes + 1): the logits that the class head is to give each query."""
    classes = len(CLASSES[kind])
    order = list(range(classes)) + [classes - 1] * (HUMANS - 1 if kind == "cihp" else 0)
    wanted = np.zeros((100, classes + 1))
    wanted[:, classes] = NOTHING
    count = len(wanted) // FINDERS
    for number in range(count):
        # 7 and 25 have no common divisor: strengths are all different, and in no order.
        strength = (number * 7 % count) / (count - 1)
        row = wanted[number * FINDERS]
        row[classes] = 0.0
        row[order[number % len(order)]] = WEAKEST + (STRONGEST - WEAKEST) * strength
    return wanted


def neutral() -> dict[str, NDArray[Any]]:
    """Returns a table that calibration starts from."""
    table: dict[str, NDArray[Any]] = {}
    for kind in KINDS:
        shapes = layout(kind)
        for name, entry in table_names(kind).items():
            if name == MASK_SCALE:
                table[entry] = np.array(1, np.float16)
            else:
                table[entry] = np.full(shapes[name], name.endswith("running_var"), np.float16)
    return table


def calibrate(scratch: Path) -> dict[str, NDArray[Any]]:
    """Returns the table of weights.py, float16.

    Args:
        scratch: a folder for unfinished models.
    """
    table = neutral()
    pictures = torch.cat([_normalised(case.bgr()) for case in _different_photos()])
    network = build("cihp", table)
    with torch.no_grad():
        _fit_norms(network, pictures, table)
        network.load_state_dict(tensors("cihp", table))
        decoder = network.sem_seg_head.pixel_decoder
        plain, _, levels = decoder.forward_features(network.backbone(pictures))
        for _ in range(MASK_ROUNDS):
            _fit_masks(network.sem_seg_head.predictor, plain, levels, table)
            network.load_state_dict(tensors("cihp", table))
        del network
        seen = _queries_of_cases(scratch, table)
    for kind in KINDS:
        _fit_classes(kind, seen, table)
    return table


def _different_photos() -> list[Any]:
    return list({case.photo: case for case in CASES}.values())


def _normalised(bgr: NDArray[np.uint8]) -> Any:
    size_wh = CALIBRATION_HW[::-1]
    rgb = cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA)[:, :, ::-1]
    image = torch.from_numpy(rgb.astype(np.float32).transpose(2, 0, 1)[None])
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    return (image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


def _stored(values: Any) -> NDArray[np.float16]:
    """Returns values as the table keeps them.

    Raises:
        ValueError: float16 cannot hold them.
    """
    small = np.asarray(values.double().numpy() if hasattr(values, "numpy") else values, np.float16)
    if not np.isfinite(small).all():
        raise ValueError("calibration: a value is too large for float16; draw smaller weights")
    return small


def _fit_norms(network: Any, pictures: Any, table: dict[str, NDArray[Any]]) -> None:
    for module in network.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean of what is seen
            module.train()
    network.backbone(pictures)
    network.eval()
    for name, values in network.state_dict().items():
        if name.endswith((".running_mean", ".running_var")):
            table[name] = _stored(values)
            if name.endswith("_var") and not (table[name] > 0).all():
                raise ValueError(f"calibration: {name} has a channel that never changes")


def _fit_masks(predictor: Any, plain: Any, levels: Any, table: dict[str, NDArray[Any]]) -> None:
    """Centres mask features and mask weights; then one direction of both carries the offset.

    Args:
        predictor: with the weights of `table`.
        plain: (pictures, 256, h, w) mask features without their bias.
        levels: what queries look at.
        table: gets what is found.
    """
    seen = _Last(predictor.decoder_norm)
    bias = torch.from_numpy(table[FEATURE_BIAS].astype(np.float32))
    predictor(levels, plain + bias.view(1, 256, 1, 1))
    seen.remove()
    hidden = seen.value.transpose(0, 1).reshape(-1, 256)
    first, second, last = predictor.mask_embed.layers
    raw = torch.relu(second(torch.relu(first(hidden)))) @ last.weight.T / float(table[MASK_SCALE])
    flat = plain.transpose(0, 1).reshape(256, -1)
    centre, weights_centre = flat.mean(1), raw.mean(0)
    raw, flat = raw - weights_centre, flat - centre[:, None]
    contrast = (raw @ flat).std(1).mean()
    direction = torch.full((256,), 256**-0.5)
    # All masks get `along` times `pull`; one against another `along` times what its own weights
    # have of the direction, by chance.
    along = MASK_VARIETY * contrast / (raw @ direction).std()
    pull = -MASK_OFFSET * contrast / along
    logits = (raw + pull * direction) @ (flat + (along * direction)[:, None])
    gain = MASK_CONTRAST / contrast
    print(
        f"masks: contrast {contrast * float(table[MASK_SCALE]):.2f}, of a picture inside "
        f"{(logits > 0).float().mean():.1%}, empty {(logits < 0).all(1).float().mean():.1%}"
    )
    table[FEATURE_BIAS] = _stored(along * direction - centre)
    table[MASK_SCALE] = _stored(gain)
    table[MASK_BIAS] = _stored((pull * direction - weights_centre) * float(table[MASK_SCALE]))


class _Last:
    """Keeps the last output of a module."""

    def __init__(self, module: Any) -> None:
        self.value: Any = None
        self._hook = module.register_forward_hook(self._keep)

    def _keep(self, module: Any, inputs: Any, output: Any) -> None:
        del module, inputs
        self.value = output

    def remove(self) -> None:
        self._hook.remove()


def _queries_of_cases(scratch: Path, table: Table) -> Any:
    """Returns (cases, 100, 256) what the class head gets in each case."""
    found = []
    for kind in KINDS:
        write_folder(scratch / kind, kind, table)
        pipe = open_pipeline(scratch / kind)
        seen = _Last(pipe.model.sem_seg_head.predictor.decoder_norm)
        for case in CASES:
            if case.kind == kind:
                pipe.model.forward(prepared(pipe, case.bgr(), case.short_side))
                found.append(seen.value[:, 0])
    queries = torch.stack(found).double()
    between = queries.mean(0).std(0).mean()
    within = queries.std(0).mean()
    print(f"queries: differ by {between:.3f} from each other, by {within:.3f} between pictures")
    return queries


def _fit_classes(kind: str, queries: Any, table: dict[str, NDArray[Any]]) -> None:
    wanted = np.tile(roles(kind), (len(queries), 1))
    inputs = queries.reshape(-1, 256).numpy()
    inputs = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    normal = inputs.T @ inputs + RIDGE * len(inputs) * np.diag([*[1.0] * 256, 0.0])
    found = np.linalg.solve(normal, inputs.T @ wanted)
    left = inputs @ found - wanted
    print(f"{kind} classes: off by {left.std():.2f} on average, {np.abs(left).max():.2f} at most")
    table[f"{kind}.{PREDICTOR}class_embed.weight"] = _stored(found[:256].T)
    table[f"{kind}.{PREDICTOR}class_embed.bias"] = _stored(found[256])


def check_layout() -> None:
    """Compares names, order and shapes with ModelScope's own network.

    Raises:
        ValueError: they differ.
    """
    table: Mapping[str, NDArray[Any]] = neutral()
    for kind in KINDS:
        theirs = {
            name: tuple(value.shape) for name, value in build(kind, table).state_dict().items()
        }
        if list(theirs.items()) != list(layout(kind).items()):
            raise ValueError(f"{kind}: layout() is not that of ModelScope's network")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("folder", type=Path, help="gets cihp and lip, 250 MB each")
    options.add_argument("--calibrate", action="store_true", help="find the table anew")
    args = options.parse_args(arguments)
    check_layout()
    if args.calibrate:
        write_file(TABLE, calibrate(args.folder))
        print(f"wrote {TABLE.name}, {TABLE.stat().st_size} bytes")
    table = read_table()
    for kind in KINDS:
        write_folder(args.folder / kind, kind, table)
        print(f"{kind}: seed {SEED}, SHA-256 of the weights {digest(seeded_state(kind, table))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
