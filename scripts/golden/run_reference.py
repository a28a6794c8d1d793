"""Runs M2FP's reference on the cases and writes, or compares, the golden files.

    python -m scripts.golden.run_reference FOLDER [--check]

FOLDER is what `make_model` wrote. For each case of cases.py, tests/golden/data gets what
ModelScope's pipeline found (instances and the label map that they give, or the label map alone for
LIP); of exact cases also the network's input, and its output in float64. `golden.json` says which
stack and which weights they come from. With `--check` nothing is written: the exit code is 1 if the
reference finds anything else than the stored files.

The table printed shows that the files prove something: at least 6 classes and 3 instances each.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from .cases import (
    CASES,
    Case,
    Instance,
    digest_of,
    packed,
    paint,
    read_file,
    stored_instances,
    write_file,
)
from .reference import (
    doubled,
    instances_from,
    network_input,
    open_pipeline,
    parsed,
    prepared,
)
from .weights import CLASSES, DATA, KINDS, SEED, digest, read_table, seeded_state

FEWEST_CLASSES: Final = 6
FEWEST_INSTANCES: Final = 3
CLOSE_SCORES: Final = 5e-4
"""Scores that another processor's rounding may put in another order (1e-4 was measured)."""
STACK: Final = ("torch", "torchvision", "modelscope", "mmcv-full", "numpy", "Pillow")
SIZES: Final = (
    *((480, 640), (1080, 1920), (1920, 1080), (300, 451), (720, 405), (1, 1), (100, 640)),
    *((641, 640), (333, 1000), (576, 1024), (360, 640), (2160, 3840), (512, 683), (37, 111)),
)
"""(height, width) of pictures whose size as the network's input is kept."""
SAME_MASK: Final = 0.999
"""Share of pixels on which a second run has to agree, on another processor, say."""

Arrays = dict[str, NDArray[Any]]


def run(case: Case, pipe: Any) -> tuple[Arrays, dict[str, Any]]:
    """Returns the golden arrays of a case, and what `golden.json` says about it."""
    bgr = case.bgr()
    shape_hw = (bgr.shape[0], bgr.shape[1])
    ready = prepared(pipe, bgr, case.short_side)
    seen = network_input(ready)
    about: dict[str, Any] = {
        "kind": case.kind,
        "picture_sha256": digest_of(bgr),
        "input_hw": list(seen.shape[:2]),
        "input_sha256": digest_of(seen),
    }
    arrays: Arrays = {}
    if case.exact:
        logits, masks = _exact(pipe.model, seen)
        arrays |= {"input": seen, "logits": logits, "masks64": masks}
        answer = _postprocessed(pipe, logits, masks, seen, shape_hw)
    else:
        answer = parsed(pipe, ready)
    found = instances_from(answer, case.kind)
    if case.kind == "lip":
        # One mask for every class that the label map has.
        label_map = np.zeros(shape_hw, np.uint8)
        for one in found:
            label_map[one.mask] = one.category
        arrays["label_map"] = label_map
        about["classes"] = len(np.unique(label_map))
        return arrays, about
    arrays |= packed(found, shape_hw)
    scores = [one.score for one in found]
    about |= {
        "classes": len(np.unique(arrays["label_map"])),
        "instances": len(found),
        "humans": sum(CLASSES["cihp"][one.category] == "Human" for one in found),
        "lowest_score": round(min(scores), 4),
        "steady": round(steadiness(found, arrays["label_map"]), 5),
    }
    return arrays, about


def steadiness(found: Sequence[Instance], label_map: NDArray[np.uint8]) -> float:
    """Returns the share of pixels that stay, at least, if two close scores change places."""
    shares = [1.0]
    for index, (one, next_one) in enumerate(itertools.pairwise(found)):
        if one.score - next_one.score < CLOSE_SCORES:
            swapped = list(found)
            swapped[index] = Instance(next_one.category, one.score, next_one.mask)
            swapped[index + 1] = Instance(one.category, next_one.score, one.mask)
            again = paint(swapped, (label_map.shape[0], label_map.shape[1]))
            shares.append(float((again == label_map).mean()))
    return min(shares)


def _exact(model: Any, seen: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the network's logits and masks, (100, classes + 1) and (100, h, w) float64."""
    image = torch.from_numpy(seen.transpose(2, 0, 1).astype(np.float64))
    with torch.no_grad(), doubled(model):
        outputs = model.forward({"batched_inputs": [{"image": image}]})["outputs"]
    logits, masks = outputs["pred_logits"], outputs["pred_masks"]
    assert logits.dtype == masks.dtype == torch.float64
    return logits[0].numpy(), masks[0].numpy()


def _postprocessed(
    pipe: Any,
    logits: NDArray[Any],
    masks: NDArray[Any],
    seen: NDArray[np.uint8],
    shape_hw: tuple[int, int],
) -> dict[str, Any]:
    """Returns what the pipeline makes of a network's output, rounded to float32."""
    padded_hw = [4 * side for side in masks.shape[1:]]
    size = {"height": shape_hw[0], "width": shape_hw[1]}
    images = _Images(torch.empty(1, 3, *padded_hw), [seen.shape[:2]])
    outputs = {
        "pred_logits": torch.from_numpy(logits.astype(np.float32))[None],
        "pred_masks": torch.from_numpy(masks.astype(np.float32))[None],
    }
    found = pipe.model.postprocess({"outputs": outputs, "batched_inputs": [size], "images": images})
    return dict(pipe.postprocess(found))


class _Images:
    """As much of the reference's list of padded images as its post-processing asks for."""

    def __init__(self, tensor: Any, image_sizes: list[tuple[int, ...]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes


def input_sizes(pipe: Any) -> list[list[int]]:
    """Returns [height, width, height, width] of pictures and of the network's inputs."""
    rows = []
    for height, width in SIZES:
        ready = prepared(pipe, np.zeros((height, width, 3), np.uint8), None)
        rows.append([height, width, *ready["batched_inputs"][0]["image"].shape[1:]])
    return rows


def check_pipeline(pipe: Any) -> None:
    """Sees to it that a case takes the very way that calling the pipeline takes.

    Raises:
        ValueError: it does not.
    """
    case = next(one for one in CASES if one.name == "astronaut_default")
    called = instances_from(dict(pipe(case.bgr())), case.kind)
    ours = instances_from(parsed(pipe, prepared(pipe, case.bgr(), case.short_side)), case.kind)
    same = len(called) == len(ours) and all(
        a.category == b.category and a.score == b.score and np.array_equal(a.mask, b.mask)
        for a, b in zip(called, ours, strict=True)
    )
    if not same:
        raise ValueError("the pipeline, called, finds something else than its steps in turn")


def differences(name: str, new: Arrays, old: Arrays) -> list[str]:
    """Returns what a second run finds that the stored file does not say."""
    if new.keys() != old.keys():
        return [f"{name}: arrays {sorted(new)}, stored {sorted(old)}"]
    problems = []
    if "input" in new and not np.array_equal(new["input"], old["input"]):
        problems.append(f"{name}: another input")
    for key in ("logits", "masks64", "lip_logits"):
        if key in new and not np.allclose(new[key], old[key], rtol=0, atol=1e-8):
            problems.append(f"{name}: {key} differ by {np.abs(new[key] - old[key]).max():.1e}")
    same = float((new["label_map"] == old["label_map"]).mean())
    if same < SAME_MASK:
        problems.append(f"{name}: label maps agree on {same:.3%}")
    if "masks" in new:
        ours, theirs = stored_instances(new), stored_instances(old)
        wrong = [a for a, b in zip(ours, theirs, strict=False) if (a.mask == b.mask).mean() < 0.999]
        if len(ours) != len(theirs) or wrong:
            problems.append(
                f"{name}: {len(ours)} instances, stored {len(theirs)}; {len(wrong)} off"
            )
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("folder", type=Path, help="what make_model wrote")
    options.add_argument("--check", action="store_true", help="compare, write nothing")
    args = options.parse_args(arguments)
    torch.set_num_threads(2)
    table = read_table()
    pipes = {kind: open_pipeline(args.folder / kind) for kind in KINDS}
    check_pipeline(pipes["cihp"])
    cases, problems = {}, []
    print(f"{'case':20}{'classes':>8}{'instances':>10}{'humans':>7}{'lowest':>8}{'steady':>9}")
    for case in CASES:
        arrays, about = run(case, pipes[case.kind])
        if case.exact:
            arrays["lip_logits"] = _exact(pipes["lip"].model, arrays["input"])[0]
        cases[case.name] = about
        cells = [
            about.get(key, "")
            for key in ("classes", "instances", "humans", "lowest_score", "steady")
        ]
        print(
            f"{case.name:20}{cells[0]:>8}{cells[1]:>10}{cells[2]:>7}{cells[3]:>8}{cells[4]:>9}",
            flush=True,
        )
        if about["classes"] < FEWEST_CLASSES or about.get("instances", 99) < FEWEST_INSTANCES:
            problems.append(f"{case.name}: too little was found; calibrate the weights anew")
        if about.get("steady", 1.0) < SAME_MASK:
            problems.append(f"{case.name}: two scores are too close; calibrate the weights anew")
        path = DATA / f"{case.name}.npz"
        if args.check:
            problems += differences(case.name, arrays, read_file(path))
        else:
            write_file(path, arrays)
    document = {
        "stack": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in STACK},
        },
        "seed": SEED,
        "weights_sha256": {kind: digest(seeded_state(kind, table)) for kind in KINDS},
        "input_sizes": input_sizes(pipes["cihp"]),
        "cases": cases,
    }
    if args.check:
        stored = json.loads((DATA / "golden.json").read_text(encoding="utf-8"))
        for key in ("seed", "weights_sha256", "input_sizes"):
            if stored[key] != document[key]:
                problems.append(f"golden.json: another {key}")
        for name, about in cases.items():
            for key in ("picture_sha256", "input_sha256"):
                if stored["cases"][name][key] != about[key]:
                    problems.append(f"golden.json: {name} has another {key}")
    else:
        text = json.dumps(document, indent=1) + "\n"
        (DATA / "golden.json").write_text(text, encoding="utf-8")
    for problem in problems:
        print(f"run_reference: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
