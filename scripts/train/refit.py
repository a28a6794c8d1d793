"""Step 4 of the recipe: trains the exported network further, with everyday photographs besides.

    python -m scripts.train.refit --work WORK --start WORK/first.onnx

Half of the samples are street photographs as before, half of their people put before rooms; the
other half are everyday pictures with partial labels (`everyday`). Starts from an exported network,
whose batch normalisation is folded in and so stays as it is. May be interrupted like `fit`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from m2fp_stream.parsers.embedded.classes import PartClass
from m2fp_stream.training.exchange import to_go_on_from
from m2fp_stream.training.loop import cosine
from m2fp_stream.training.loss import CLASS_WEIGHTS, IGNORE, OVERLAP_SHARE

from .augment import LATE_SHAPES, Sampler
from .everyday import SETS, SceneSampler, empty_places, hand_scenes, people_scenes
from .fit import RARE, RARE_FACTOR
from .loop import train
from .photos import TRAINING, photo_ids, read_photo

__all__ = ["Settings", "label_tables", "partial_loss", "refit"]

AVERAGING: Final = 0.995
"""Decay of the moving average of the weights, a step (shorter while it starts)."""
EVERYDAY_SHARE: Final = 0.5
"""Of the samples."""
TURNED: Final = 0.12
"""Share of samples turned by any angle: lying, hanging, a camera on its side."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What defines a run, besides data and start.

    Attributes:
        steps: optimiser steps.
        batch: samples a step.
        seed: of samples.
        rate: peak learning rate of the decoder.
        encoder_rate: the encoder's share of it.
    """

    steps: int = 1000
    batch: int = 16
    seed: int = 2
    rate: float = 5e-4
    encoder_rate: float = 0.25


class _Batches(Dataset[tuple[Tensor, Tensor]]):
    """Batch number -> pixels and keys of `SETS`; shapes alternate."""

    def __init__(
        self, street: Sampler, everyday: SceneSampler, settings: Settings, start: int
    ) -> None:
        self._street, self._everyday = street, everyday
        self._settings, self._start = settings, start

    def __len__(self) -> int:
        return self._settings.steps - self._start

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index >= len(self):
            raise IndexError(index)
        cv2.setNumThreads(1)
        number = self._start + index
        shape = LATE_SHAPES[number % len(LATE_SHAPES)]
        first, batch = number * self._settings.batch, self._settings.batch
        everyday = round(EVERYDAY_SHARE * batch)
        drawn = [
            (self._everyday if k < everyday else self._street)(first + k, shape)
            for k in range(batch)
        ]
        pixels = np.stack([rgb for rgb, _ in drawn]).transpose(0, 3, 1, 2)
        classes = np.stack([labels for _, labels in drawn])
        return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(classes)


def partial_loss(logits: Tensor, classes: Tensor, weights: Tensor, allowed: Tensor) -> Tensor:
    """Cross entropy of what is allowed, plus soft Dice where one class is.

    Args:
        logits: (n, 16, h, w).
        classes: (n, h, w) uint8 keys of `SETS`, or `IGNORE`.
        weights: (256,) of each key.
        allowed: (256, 16) bool, the classes that each key allows.
    """
    target = classes.long()
    shares = logits.log_softmax(1)
    may = allowed[target].permute(0, 3, 1, 2)
    entropy = -shares.masked_fill(~may, -1e4).logsumexp(1)
    known = weights[target] * (target != IGNORE)
    loss = (entropy * known).sum() / known.sum().clamp(min=1.0)
    single = (target < len(PartClass)).unsqueeze(1)
    truth = functional.one_hot(target.clamp(max=len(PartClass) - 1), len(PartClass))
    truth = truth.permute(0, 3, 1, 2) * single
    chances = shares.exp() * single
    both = (chances * truth).sum((0, 2, 3))
    total = (chances + truth).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    dice = 1 - (2 * both + 1) / (total + 1)
    return loss + OVERLAP_SHARE * dice[present].sum() / present.sum().clamp(min=1)


def label_tables() -> tuple[Tensor, Tensor]:
    """Returns (256,) weights of the keys of `SETS`, and (256, 16) bool, what each allows."""
    single = torch.ones(len(PartClass))
    for part, weight in CLASS_WEIGHTS.items():
        single[part] = weight
    single[list(RARE)] *= RARE_FACTOR
    weights, allowed = torch.ones(256), torch.zeros(256, len(PartClass), dtype=torch.bool)
    weights[: len(PartClass)] = single
    for key, parts in SETS.items():
        allowed[key, list(parts)] = True
    allowed[IGNORE] = True
    return weights, allowed


def refit(work: Path, data: Path, start_from: Path, settings: Settings) -> Path:
    """Trains, or goes on; returns the path of the averaged weights.

    Args:
        work: folder that `prepare` wrote to.
        data: the data set.
        start_from: the exported network to begin with.

    Raises:
        FileNotFoundError: something the run needs is missing.
        ValueError: the checkpoint in `work` belongs to other settings, or `start_from` to another
            network.
    """
    torch.manual_seed(settings.seed)
    network = to_go_on_from(start_from.read_bytes())
    weights, allowed = label_tables()
    return train(
        network,
        lambda start: _load(work, data, settings, start),
        lambda _, rgb, classes: partial_loss(network(rgb)[0], classes, weights, allowed),
        lambda step: cosine(step, settings.steps),
        settings=settings,
        name="refit",
        work=work,
        target=work / "parts.pt",
        averaging=AVERAGING,
        weight_decay=0.01,
    )


def _load(work: Path, data: Path, settings: Settings, start: int) -> Iterator[Any]:
    if start >= settings.steps:
        return iter(())
    names = [n for n in photo_ids(data, TRAINING) if (work / "photos" / f"{n}.npz").exists()]
    empty = empty_places(data, "train")
    street = Sampler(
        [read_photo(work, name) for name in names],
        settings.seed,
        0,
        places=[scene.bgr for scene in empty],
        turned=TURNED,
    )
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        # In a process of its own: a detector runs there, and what is forked after that hangs.
        hands = pool.submit(hand_scenes, data, "train").result()
    everyday = SceneSampler(
        people_scenes(data, "train"),
        empty,
        hands,
        seed=settings.seed,
        turned=TURNED,
    )
    dataset = _Batches(street, everyday, settings, start)
    return iter(DataLoader(dataset, batch_size=None, num_workers=1, prefetch_factor=3))


def main() -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--work", type=Path, required=True, help="folder for everything written")
    options.add_argument("--start", type=Path, required=True, help="exported network to begin with")
    defaults = Settings()
    options.add_argument("--steps", type=int, default=defaults.steps)
    options.add_argument("--batch", type=int, default=defaults.batch)
    options.add_argument("--seed", type=int, default=defaults.seed)
    args = options.parse_args()
    settings = Settings(steps=args.steps, batch=args.batch, seed=args.seed)
    try:
        target = refit(args.work, args.data, args.start, settings)
    except (FileNotFoundError, ValueError) as error:
        print(f"refit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("refit: interrupted; the same command goes on", file=sys.stderr)
        return 130
    print(f"refit: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
