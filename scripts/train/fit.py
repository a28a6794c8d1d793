"""Step 2 of the recipe: trains the part network on street photographs.

    python -m scripts.train.fit --work ../work

Every sample is a function of (seed, step), every step is logged to `WORK/fit.jsonl`, and a
checkpoint is written every 100 steps: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from m2fp_stream.parsers.embedded.classes import PartClass
from m2fp_stream.training.loop import cosine
from m2fp_stream.training.loss import CLASS_WEIGHTS, IGNORE, loss_of
from m2fp_stream.training.network import PartNetwork

from .augment import CROP_SHAPES, EARLY_SHAPES, LATE_SHAPES, Sampler
from .loop import train
from .photos import TRAINING, photo_ids, read_photo

__all__ = ["Settings", "fit"]

AVERAGING: Final = 0.998
"""Decay of the moving average of the weights, a step (shorter while it starts)."""
AUXILIARY_SHARE: Final = 0.3

RARE: Final = (PartClass.HAT, PartClass.GLASSES, PartClass.SCARF, PartClass.ACCESSORY)
RARE_FACTOR: Final = 2.0
"""On the weights of these after the restart: at .07 before, their IoU was far below the others'."""
RESTART_RATE: Final = 0.5
"""Of the peak learning rate."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What defines a run, besides the data.

    Attributes:
        steps: optimiser steps.
        early: how many of them, at the beginning, see smaller crops.
        restart: the step at which the learning rate rises again (Loshchilov and Hutter, "SGDR",
            arXiv 1608.03983), crops get the parser's size, rare classes begin to count more and
            places without people come in.
        batch: samples a step.
        seed: of samples and initial weights.
        rate: peak learning rate of the decoder.
        encoder_rate: the encoder's share of it.
    """

    steps: int = 2600
    early: int = 1100
    restart: int = 1800
    batch: int = 16
    seed: int = 1
    rate: float = 2e-3
    encoder_rate: float = 0.25


class _Batches(Dataset[tuple[Tensor, Tensor]]):
    """Batch number -> pixels and classes; shapes alternate."""

    def __init__(self, sampler: Sampler, settings: Settings, start: int) -> None:
        self._sampler, self._settings, self._start = sampler, settings, start

    def __len__(self) -> int:
        return self._settings.steps - self._start

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index >= len(self):
            raise IndexError(index)
        cv2.setNumThreads(1)
        number = self._start + index
        if number < self._settings.early:
            shapes = EARLY_SHAPES
        else:
            shapes = CROP_SHAPES if number < self._settings.restart else LATE_SHAPES
        shape = shapes[number % len(shapes)]
        first = number * self._settings.batch
        drawn = [self._sampler(first + k, shape) for k in range(self._settings.batch)]
        pixels = np.stack([rgb for rgb, _ in drawn]).transpose(0, 3, 1, 2)
        classes = np.stack([labels for _, labels in drawn])
        return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(classes)


def _rates(step: int, settings: Settings) -> float:
    """Warm-up, then half a cosine down to a hundredth; the same again, lower, after the restart."""
    if step < settings.restart:
        return cosine(step, settings.restart)
    return RESTART_RATE * cosine(step - settings.restart, settings.steps - settings.restart)


def fit(work: Path, data: Path, imagenet: Path, settings: Settings) -> Path:
    """Trains, or goes on; returns the path of the averaged weights.

    Args:
        work: folder that `prepare` wrote to.
        data: the data set; only its file names are read here.
        imagenet: the encoder's published checkpoint.

    Raises:
        FileNotFoundError: something the run needs is missing.
        ValueError: the checkpoint in `work` belongs to other settings.
    """
    torch.manual_seed(settings.seed)
    network = PartNetwork()
    network.load_imagenet(torch.load(imagenet, map_location="cpu", weights_only=True))
    network = network.to(memory_format=torch.channels_last).train()
    common = torch.ones(len(PartClass))
    for part, weight in CLASS_WEIGHTS.items():
        common[part] = weight
    later = common.clone()
    later[list(RARE)] *= RARE_FACTOR

    def loss(step: int, rgb: Tensor, classes: Tensor) -> Tensor:
        weights = common if step < settings.restart else later
        logits, coarse = network(rgb)
        return loss_of(logits, classes, weights) + AUXILIARY_SHARE * functional.cross_entropy(
            coarse, classes[:, 2::4, 2::4].long(), weights, ignore_index=IGNORE
        )

    return train(
        network,
        lambda start: _load(work, data, settings, start),
        loss,
        lambda step: _rates(step, settings),
        settings=settings,
        name="fit",
        work=work,
        target=work / "first.pt",
        averaging=AVERAGING,
        weight_decay=0.02,
    )


def _load(work: Path, data: Path, settings: Settings, start: int) -> Iterator[Any]:
    if start >= settings.steps:
        return iter(())
    names = [n for n in photo_ids(data, TRAINING) if (work / "photos" / f"{n}.npz").exists()]
    photos = [read_photo(work, name) for name in names]
    dataset = _Batches(
        Sampler(photos, settings.seed, settings.restart * settings.batch), settings, start
    )
    return iter(DataLoader(dataset, batch_size=None, num_workers=1, prefetch_factor=3))


def main() -> int:
    """Returns the exit code."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--work", type=Path, required=True, help="folder for everything written")
    options.add_argument("--imagenet", type=Path, required=True, help="the encoder's checkpoint")
    defaults = Settings()
    options.add_argument("--steps", type=int, default=defaults.steps)
    options.add_argument("--early", type=int, default=defaults.early)
    options.add_argument("--restart", type=int, default=defaults.restart)
    options.add_argument("--batch", type=int, default=defaults.batch)
    options.add_argument("--seed", type=int, default=defaults.seed)
    args = options.parse_args()
    settings = Settings(
        steps=args.steps, early=args.early, restart=args.restart, batch=args.batch, seed=args.seed
    )
    try:
        target = fit(args.work, args.data, args.imagenet, settings)
    except (FileNotFoundError, ValueError) as error:
        print(f"fit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fit: interrupted; the same command goes on", file=sys.stderr)
        return 130
    print(f"fit: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
