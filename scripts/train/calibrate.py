"""Step 6 of the recipe: picks the probabilities from which a part is hidden.

    python -m scripts.train.calibrate --work ../work

On the validation photographs, in both views of `evaluate`: for face, hair and skin the highest
threshold at which the wanted share of their pixels is hidden. Writes `WORK/thresholds.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from m2fp_stream.parsers.embedded.classes import HIDING_GROUPS

from .augment import warped, warped_classes
from .evaluate import Network, full_size, load_split, open_onnx, views
from .photos import Photo

__all__ = ["RECALLS", "calibrate"]

RECALLS: Final = {"face": 0.996, "hair": 0.974, "skin": 0.956}
"""Wanted shares of hidden pixels: a little above what is promised (.995, .97, .95)."""
LOWEST: Final = 0.02
"""No threshold is lower: below, noise would be hidden."""
BINS: Final = 1000


def calibrate(network: Network, photos: Sequence[Photo]) -> dict[str, float]:
    """Returns the threshold of each of `HIDING_GROUPS`, rounded down to a thousandth."""
    counts = {name: np.zeros(BINS + 1, np.int64) for name in HIDING_GROUPS}
    for chances, truth in _crops(network, photos):
        for name, parts in HIDING_GROUPS.items():
            inside = np.isin(truth, parts)
            score = chances[list(parts)].sum(axis=0)[inside]
            bins = np.clip(score * BINS, 0, BINS).astype(np.int64)
            counts[name] += np.bincount(bins, minlength=BINS + 1)
    thresholds = {}
    for name, histogram in counts.items():
        # Pixels with a score of at least k thousandths.
        reached = histogram[::-1].cumsum()[::-1] / max(1, histogram.sum())
        enough = np.flatnonzero(reached >= RECALLS[name])
        thresholds[name] = round(max(LOWEST, min(0.5, float(enough.max()) / BINS)), 3)
    return thresholds


def _crops(
    network: Network, photos: Sequence[Photo]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    for photo in photos:
        for matrix, shape in views(photo).values():
            rgb = np.ascontiguousarray(warped(photo.bgr, matrix, shape)[:, :, ::-1])
            yield full_size(network(rgb), shape), warped_classes(photo.classes, matrix, shape, 1)


def main() -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--work", type=Path, required=True, help="folder that prepare wrote to")
    args = options.parse_args()
    try:
        network = open_onnx(args.work / "parts.onnx")
        photos = load_split(args.work, args.data, "validation")
    except (FileNotFoundError, ValueError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2
    thresholds = calibrate(network, photos)
    target = args.work / "thresholds.json"
    target.write_text(json.dumps(thresholds) + "\n", encoding="utf-8")
    print(f"calibrate: {target}: {thresholds}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
