"""Measures the part network on photographs it has not seen.

    python -m scripts.train.evaluate --work ../work --split validation
    python -m scripts.train.evaluate --work ../work --split report      # once, at the end

Two views of every photograph, at the size of the parser's crops: the whole body (the labelled
person's box, a tenth larger) and the upper body (a square of 3.2 head heights, a head height being
1/7.2 of the body's). Counts pixels of the crop:

- for the most likely class: intersection over union and recall of eight classes (skin is torso,
  arms and legs; shoes are left and right; accessories are hats, glasses, scarves, bags, jewellery);
- at the hiding thresholds: recall of face, hair and skin, each hidden by itself and all together,
  beside the over-blur = covered background pixels / all background pixels.

Bystanders, whom the data set does not label, count as background in `over-blur, all` and are left
out everywhere else. `--slices` repeats the measurement under worse conditions. `--parser` measures
what the whole parser covers on the photographs as they are: with the shipped weights, the default
policy and its margin, and with the margin left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.labels import PRESETS
from m2fp_stream.parsers.embedded.boxes import Box
from m2fp_stream.parsers.embedded.classes import (
    HIDING_GROUPS,
    PartClass,
    hiding_thresholds,
)
from m2fp_stream.parsers.embedded.parser import EmbeddedParser
from m2fp_stream.parsers.embedded.parts import network_shape
from m2fp_stream.policy import Policy, PolicyOptions
from m2fp_stream.privacy.hardening import silence_libraries
from m2fp_stream.training.samples import IGNORE
from tests.kit.parses import hidden_regions

from .augment import Sampler, crop_matrix, warped, warped_classes
from .photos import REPORT, VALIDATION, Photo, photo_ids, read_photo

__all__ = ["EIGHT", "Scores", "evaluate", "views"]

EIGHT: Final[Mapping[str, tuple[PartClass, ...]]] = {
    "background": (PartClass.BACKGROUND,),
    "hair": (PartClass.HAIR,),
    "face": (PartClass.FACE,),
    "skin": HIDING_GROUPS["skin"],
    "upper": (PartClass.UPPER_CLOTHES,),
    "lower": (PartClass.LOWER_CLOTHES,),
    "shoes": (PartClass.LEFT_SHOE, PartClass.RIGHT_SHOE),
    "accessory": (PartClass.HAT, PartClass.GLASSES, PartClass.SCARF, PartClass.ACCESSORY),
}
HIDDEN: Final = ("face", "hair", "skin")
UPPER_BODY_HEADS: Final = 3.2
HEADS_OF_A_BODY: Final = 7.2

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Network = Callable[[Bytes], Floats]
"""(h, w, 3) uint8 RGB -> (16, h/2, w/2) float32 probabilities."""
Change = Callable[[Bytes, np.random.Generator], Bytes]


def open_onnx(path: Path) -> Network:
    """Returns the exported network as a function.

    Raises:
        FileNotFoundError: there is no such file.
    """
    silence_libraries()
    import onnxruntime

    if not path.is_file():
        raise FileNotFoundError(f"no network at {path}; run scripts.train.export first")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def run(rgb: Bytes) -> Floats:
        image = (rgb.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
        return np.asarray(session.run(None, {"image": image})[0][0], np.float32)

    return run


def views(photo: Photo) -> dict[str, tuple[NDArray[np.float64], tuple[int, int]]]:
    """Returns the matrices and shapes of the crops that are measured."""
    person = photo.person
    tall = network_shape(person)
    scale = min(tall[0] / person.height, tall[1] / person.width) / 1.1
    found = {"full body": (crop_matrix(person.center, scale, tall), tall)}
    head = np.isin(photo.classes, (PartClass.HAIR, PartClass.FACE))
    rows, columns = np.nonzero(head)
    if rows.size >= 50:
        head_height = max(person.width, person.height) / HEADS_OF_A_BODY
        center = (
            float(columns.min() + columns.max() + 1) / 2,
            float(rows.min()) + 1.3 * head_height,
        )
        square = network_shape(Box(0, 0, 1, 1, 1.0))
        upper = crop_matrix(center, square[0] / (UPPER_BODY_HEADS * head_height), square)
        found["upper body"] = (upper, square)
    return found


@dataclass(eq=False)
class Scores:
    """Pixel counts of one view, added up."""

    thresholds: Mapping[PartClass, float]
    confusion: NDArray[np.int64]
    covered: NDArray[np.int64]

    @classmethod
    def empty(cls, thresholds: Mapping[PartClass, float]) -> Scores:
        """Returns zeros: (8, 8) truth by answer; (cover kinds, 9 rows, 2)."""
        return cls(
            thresholds,
            np.zeros((len(EIGHT), len(EIGHT)), np.int64),
            np.zeros((len(HIDDEN) + 1, len(EIGHT) + 1, 2), np.int64),
        )

    def add(self, chances: Floats, truth: Bytes, unlabelled: NDArray[np.bool_]) -> None:
        """Counts one crop.

        Args:
            chances: (16, h, w) probabilities.
            truth: (h, w) classes.
            unlabelled: (h, w) where only a bystander is.
        """
        eight = _eight_table()
        known = truth != IGNORE
        answer, right = eight[chances.argmax(axis=0)], eight[truth]
        pairs = right[known].astype(np.int64) * len(EIGHT) + answer[known]
        self.confusion += np.bincount(pairs, minlength=len(EIGHT) ** 2).reshape(
            self.confusion.shape
        )
        for row, cover in enumerate(covers(chances, self.thresholds)):
            for column in range(len(EIGHT)):
                where = known & (right == column)
                self.covered[row, column] += (np.count_nonzero(cover & where), where.sum())
            self.covered[row, -1] += (np.count_nonzero(cover & unlabelled), unlabelled.sum())

    def table(self) -> dict[str, Any]:
        """Returns everything as numbers, rounded to a thousandth."""
        hit = np.diag(self.confusion)
        truth, answered = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        union = np.maximum(truth + answered - hit, 1)
        rows = {
            name: {
                "iou": round(float(hit[k] / union[k]), 3),
                "recall": round(float(hit[k] / max(truth[k], 1)), 3),
            }
            for k, name in enumerate(EIGHT)
        }
        somebody = int(self.confusion[1:, 1:].sum())
        rows["person"] = {
            "iou": round(somebody / max(1, int(self.confusion.sum() - self.confusion[0, 0])), 3),
            "recall": round(somebody / max(1, int(self.confusion[1:].sum())), 3),
        }
        hiding = {}
        for row, kind in enumerate((*HIDDEN, "all three")):
            parts, counts = list(EIGHT), self.covered[row]
            wanted = HIDDEN if kind == "all three" else (kind,)
            hiding[kind] = {
                **{f"{name} recall": _share(counts[parts.index(name)]) for name in wanted},
                "over-blur": _share(counts[0]),
                "over-blur, all": _share(counts[0] + counts[-1]),
                "other parts covered": _share(
                    sum(counts[k] for k, name in enumerate(parts) if k and name not in wanted)
                ),
            }
        return {
            "miou": round(float((hit / union).mean()), 3),
            "classes": rows,
            "hiding": hiding,
        }


def _share(pair: Any) -> float:
    return round(float(pair[0] / max(pair[1], 1)), 4)


def _eight_table() -> Bytes:
    table = np.zeros(256, np.uint8)
    for index, parts in enumerate(EIGHT.values()):
        for part in parts:
            table[part] = index
    return table


def covers(chances: Floats, thresholds: Mapping[PartClass, float]) -> Iterator[NDArray[np.bool_]]:
    """Yields what hiding face, hair, skin, and all three covers: sum of P / threshold >= 1."""
    total = np.zeros(chances.shape[1:], np.float32)
    for name in HIDDEN:
        share = np.zeros_like(total)
        for part in HIDING_GROUPS[name]:
            share += chances[part] / np.float32(thresholds[part])
        yield share >= 1
        total += share
    yield total >= 1


def full_size(chances: Floats, shape: tuple[int, int]) -> Floats:
    """Enlarges (16, h/2, w/2) to (16, h, w), linearly."""
    grown = [cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_LINEAR) for plane in chances]
    return np.stack(grown).astype(np.float32)


def evaluate(
    network: Network,
    photos: Sequence[Photo],
    thresholds: Mapping[PartClass, float],
    change: Change | None = None,
) -> dict[str, Scores]:
    """Returns the scores of each view, and of both."""
    scores = {view: Scores.empty(thresholds) for view in ("full body", "upper body")}
    for photo in photos:
        rng = np.random.default_rng(int(photo.name))
        for view, (matrix, shape) in views(photo).items():
            rgb = np.ascontiguousarray(warped(photo.bgr, matrix, shape)[:, :, ::-1])
            if change is not None:
                rgb = change(rgb, rng)
            truth = warped_classes(photo.classes, matrix, shape, 1)
            chances = full_size(network(rgb), shape)
            scores[view].add(chances, truth, truth == IGNORE)
    both = Scores.empty(thresholds)
    for each in scores.values():
        both.confusion += each.confusion
        both.covered += each.covered
    return {**scores, "both": both}


# --- worse conditions ---


def _dark(rgb: Bytes, rng: np.random.Generator) -> Bytes:
    dim = rgb * 0.12 + rng.normal(0, 4, rgb.shape)
    return np.clip(dim, 0, 255).astype(np.uint8)


def _moved(rgb: Bytes, _: np.random.Generator) -> Bytes:
    kernel = np.zeros((13, 13), np.float32)
    kernel[6] = 1 / 13
    return np.asarray(cv2.filter2D(rgb, -1, kernel), np.uint8)


def _tiny(rgb: Bytes, _: np.random.Generator) -> Bytes:
    """Heads of a standing person become about 12 pixels high."""
    height, width = rgb.shape[:2]
    factor = 12 / (height / 1.1 / HEADS_OF_A_BODY) if height > width else 12 / (height / 3.2)
    small = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)


def _grey(rgb: Bytes, _: np.random.Generator) -> Bytes:
    return np.repeat(rgb.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)


def _compressed(rgb: Bytes, _: np.random.Generator) -> Bytes:
    stored = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 12])[1]
    return np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)


SLICES: Final[Mapping[str, Change]] = {
    "dark": _dark,
    "motion blur": _moved,
    "heads of 12 px": _tiny,
    "grey": _grey,
    "compressed": _compressed,
}


def composed(
    network: Network,
    photos: Sequence[Photo],
    thresholds: Mapping[PartClass, float],
    count: int = 300,
) -> Scores:
    """Scores on composed scenes of one to three people as in training, from unseen photographs."""
    sampler = Sampler(photos, seed=2026)
    scores = Scores.empty(thresholds)
    for number in range(count):
        shape = ((288, 192), (224, 224))[number % 2]
        rgb, truth = sampler(number, shape)
        scores.add(full_size(network(rgb), truth.shape), truth, truth == IGNORE)
    return scores


def by_the_parser(photos: Sequence[Photo], margin: float) -> dict[str, dict[str, float]]:
    """Returns, for every preset, recall and over-blur (0..1) of the parser that is shipped."""
    table = _eight_table()
    policies = {
        hide: Policy(PolicyOptions.model_validate({"hide": hide, "margin": margin}))
        for hide in PRESETS
    }
    counts = {hide: np.zeros((len(EIGHT) + 1, 2), np.int64) for hide in policies}
    with EmbeddedParser() as parser:
        for photo in photos:
            result = parser.parse(photo.bgr)
            truth = np.where(photo.classes == IGNORE, len(EIGHT), table[photo.classes])
            size = (truth.shape[1], truth.shape[0])
            for hide, policy in policies.items():
                small = np.zeros(result.label_map.shape, np.uint8)
                for region in hidden_regions(policy, result):
                    small |= (region > 0).astype(np.uint8)
                cover = cv2.resize(small, size, interpolation=cv2.INTER_NEAREST)
                for row in range(len(EIGHT) + 1):
                    where = truth == row
                    counts[hide][row] += (np.count_nonzero(cover[where]), np.count_nonzero(where))
    rows = {}
    for hide, pairs in counts.items():
        names = list(EIGHT)
        recalls = {f"{name} recall": _share(pairs[names.index(name)]) for name in HIDDEN}
        over = {"over-blur": _share(pairs[0]), "over-blur, all": _share(pairs[0] + pairs[-1])}
        person = {"person recall": _share(pairs[1:-1].sum(axis=0))}
        rows[hide] = {**recalls, **person, **over}
    return rows


def load_split(work: Path, data: Path, split: str) -> list[Photo]:
    """Returns the prepared photographs of `validation` or `report`."""
    remainder = {"validation": VALIDATION, "report": REPORT}[split]
    names = photo_ids(data, (remainder,))
    found = [n for n in names if (work / "photos" / f"{n}.npz").exists()]
    if not found:
        raise FileNotFoundError(f"nothing prepared in {work}; run scripts.train.prepare first")
    return [read_photo(work, name) for name in found]


def print_table(title: str, table: Mapping[str, Any]) -> None:
    """Prints one view's numbers for people."""
    print(f"\n{title}: mIoU {table['miou']:.3f}")
    for name, row in table["classes"].items():
        print(f"  {name:<11} IoU {row['iou']:.3f}  recall {row['recall']:.3f}")
    for kind, row in table["hiding"].items():
        print(f"  hiding {kind}: " + ", ".join(f"{k} {v:.4f}" for k, v in row.items()))


def main() -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--work", type=Path, required=True, help="folder that prepare wrote to")
    options.add_argument("--split", choices=("validation", "report"), default="validation")
    options.add_argument("--parser", action="store_true", help="also the whole parser, as shipped")
    options.add_argument("--slices", action="store_true", help="also worse conditions")
    options.add_argument("--json", type=Path)
    args = options.parse_args()
    try:
        network = open_onnx(args.work / "parts.onnx")
        calibrated = json.loads((args.work / "thresholds.json").read_text(encoding="utf-8"))
        photos = load_split(args.work, args.data, args.split)
    except (FileNotFoundError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    thresholds = hiding_thresholds(calibrated)
    scores = evaluate(network, photos, thresholds)
    tables: dict[str, Any] = {view: counts.table() for view, counts in scores.items()}
    if args.slices:
        for name, change in SLICES.items():
            tables[name] = evaluate(network, photos, thresholds, change)["both"].table()
        tables["composed"] = composed(network, photos, thresholds).table()
    shown = ", ".join(f"{name} {value:.3f}" for name, value in calibrated.items())
    print(f"{args.split}: {len(photos)} photographs; hiding thresholds {shown}")
    for title, table in tables.items():
        print_table(title, table)
    if args.parser:
        for margin in (0.0, PolicyOptions().margin):
            print(f"\nthe whole parser, margin {margin:g}")
            rows = by_the_parser(photos, margin)
            for hide, row in rows.items():
                print(f"  --hide {hide}: " + ", ".join(f"{k} {v:.4f}" for k, v in row.items()))
            tables[f"parser, margin {margin:g}"] = rows
    if args.json is not None:
        args.json.write_text(json.dumps(tables, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
