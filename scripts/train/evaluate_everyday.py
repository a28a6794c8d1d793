"""Measures an exported part network on everyday photographs.

    python -m scripts.train.evaluate_everyday --network m2fp_stream/models/assets/parts.onnx

Four questions, each on crops as the file pipeline cuts them: how much of a place without people is
taken for heads or people, how much of a hand for a head, how many heads (from the front, in
profile, turned away; upright and turned) are seen, and how well people agree with their masks. A
pixel is a head's from a summed probability of 0.3, as `policy.threshold` says.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.parsers.embedded.classes import PartClass
from m2fp_stream.policy import PolicyOptions
from m2fp_stream.training.samples import IGNORE

from .augment import a_part, crop_matrix, warped
from .evaluate import Network, full_size, open_onnx
from .everyday import (
    SETS,
    SURE,
    Purpose,
    Scene,
    WeakClass,
    empty_places,
    hand_scenes,
    people_scenes,
    warped_sets,
)

__all__ = ["measure"]

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SIDE: Final = 192
"""Of the square crops, about the file pipeline's for heads (32 thousand pixels)."""
HEAD_REACH: Final = 4.2
"""Head widths in such a crop."""
SHOWN: Final = 0.3
"""Share of a head's middle that must be seen for the head to be seen."""
TURNS: Final = (0, 90, 180, 270)
PIECES: Final = 4
"""Crops of each place."""
ALARM: Final = 0.02
"""Share of an empty crop that is taken for a head from which it is a false alarm."""
SMALLEST_BODY: Final = 30


def measure(
    network: Network,
    empty: Sequence[Scene],
    hands: Sequence[Scene],
    people: Sequence[Scene],
    turns: Sequence[int] = TURNS,
) -> dict[str, float]:
    """Returns figures by name, shares 0..1; counts begin with ``n ``."""
    found: dict[str, float] = {}
    seen = [_places(network, scene) for scene in empty]
    table = np.concatenate(seen)
    found["empty: head pixels"] = float(table[:, 0].mean())
    found["empty: crops with a head"] = float((table[:, 0] > ALARM).mean())
    found["empty: person pixels"] = float(table[:, 1].mean())
    found["n empty crops"] = len(table)
    shares = [share for scene in hands for share in _hands(network, scene)]
    found["hands: head pixels"] = float(np.mean(shares))
    found["n hands"] = len(shares)
    heads = defaultdict(list)
    for scene in people:
        for name, share in _heads(network, scene, turns):
            heads[name].append(share)
    for name, values in sorted(heads.items()):
        found[f"heads {name}: seen"] = float((np.array(values) >= SHOWN).mean())
        found[f"heads {name}: pixels"] = float(np.mean(values))
        found[f"n heads {name}"] = len(values)
    both, either = 0, 0
    for scene in people:
        for one, other in _people(network, scene):
            both, either = both + one, either + other
    found["people: IoU"] = both / max(1, either)
    return found


def _look(network: Network, rgb: Bytes) -> tuple[Mask, Mask]:
    """Returns (h, w) where a head is seen, and where a person is."""
    chances = full_size(network(rgb), (rgb.shape[0], rgb.shape[1]))
    head = chances[list(SETS[WeakClass.HEAD])].sum(axis=0)
    return head > PolicyOptions().threshold, chances[PartClass.BACKGROUND] < 0.5


def _places(network: Network, scene: Scene) -> NDArray[np.float64]:
    rng = np.random.default_rng(list(scene.name.encode()))
    rows = []
    for _ in range(PIECES):
        bgr = a_part(scene.bgr, rng, (SIDE, SIDE))
        head, person = _look(network, np.ascontiguousarray(bgr[:, :, ::-1]))
        rows.append((head.mean(), person.mean()))
    return np.array(rows)


def _crop(
    scene: Scene, center: tuple[float, float], scale: float, degrees: float = 0.0
) -> tuple[Bytes, Bytes, NDArray[np.float64]]:
    matrix = crop_matrix(center, scale, (SIDE, SIDE), degrees)
    bgr = warped(scene.bgr, matrix, (SIDE, SIDE))
    classes = warped_sets(scene.classes, matrix, (SIDE, SIDE))
    return np.ascontiguousarray(bgr[:, :, ::-1]), classes, matrix


def _hands(network: Network, scene: Scene) -> list[float]:
    shares = []
    for box in scene.bodies:
        scale = SIDE / (2.0 * max(box.width, box.height))
        rgb, classes, _ = _crop(scene, box.center, scale)
        where = classes == WeakClass.HAND
        if where.any():
            shares.append(float(_look(network, rgb)[0][where].mean()))
    return shares


def _heads(network: Network, scene: Scene, turns: Sequence[int]) -> list[tuple[str, float]]:
    rows = []
    for head in scene.heads:
        for degrees in turns:
            scale = SIDE / (HEAD_REACH * 2 * head.half)
            # A little below the head's middle, as the crop of a head that was seen lies.
            below = 0.6 * head.half if degrees == 0 else 0.0
            rgb, classes, matrix = _crop(scene, (head.x, head.y + below), scale, degrees)
            disc = np.zeros((SIDE, SIDE), np.uint8)
            x, y = matrix[:, :2] @ (head.x - 0.5, head.y - 0.5) + matrix[:, 2]
            cv2.circle(disc, (round(x), round(y)), round(SURE * head.half * scale), 1, -1)
            where = (disc > 0) & np.isin(
                classes, (WeakClass.HEAD, WeakClass.BEHIND, WeakClass.FACE)
            )
            if not where.any():  # a hand before it
                continue
            share = float(_look(network, rgb)[0][where].mean())
            if degrees == 0:
                size = "below 12 px" if head.half < 6 else "12 px and more"
                rows += [(head.facing, share), (size, share)]
            rows.append((f"turned {degrees}", share))
    return rows


def _people(network: Network, scene: Scene) -> list[tuple[int, int]]:
    if scene.mask is None:
        return []
    pairs = []
    for box in scene.bodies:
        side = max(box.width, box.height)
        if side < SMALLEST_BODY:
            continue
        rgb, classes, matrix = _crop(scene, box.center, SIDE / (1.24 * side))
        mask = np.asarray(scene.mask, np.uint8)
        truth = warped_sets(mask, matrix, (SIDE, SIDE)) > 0
        known = classes != IGNORE
        person = _look(network, rgb)[1]
        pairs.append((int((person & truth & known).sum()), int(((person | truth) & known).sum())))
    return pairs


def main() -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument(
        "--network", type=Path, nargs="+", required=True, help="exported networks to compare"
    )
    purposes: tuple[Purpose, ...] = ("validate", "report")
    options.add_argument("--split", choices=purposes, default="validate")
    options.add_argument("--json", type=Path)
    args = options.parse_args()
    data, split = args.data, args.split
    empty, hands = empty_places(data, split), hand_scenes(data, split)
    people = people_scenes(data, split)
    try:
        networks = {str(path): open_onnx(path) for path in args.network}
    except FileNotFoundError as error:
        print(f"evaluate_everyday: {error}", file=sys.stderr)
        return 2
    tables = {name: measure(network, empty, hands, people) for name, network in networks.items()}
    for name in next(iter(tables.values())):
        values = [table.get(name, float("nan")) for table in tables.values()]
        shown = [f"{v:9.0f}" if name.startswith("n ") else f"{v:9.4f}" for v in values]
        print(f"{name:<32}", *shown)
    if args.json is not None:
        args.json.write_text(json.dumps(tables, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
