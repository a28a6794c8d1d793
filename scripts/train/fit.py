"""Step 2 of the recipe: trains the part network on street photographs.

    python -m scripts.train.fit --work ../work

Every sample is a function of (seed, step), every step is logged to `WORK/fit.jsonl`, and a
checkpoint is written every 100 steps: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from m2fp_stream.parsers.embedded.classes import PartClass

from .augment import CROP_SHAPES, EARLY_SHAPES, LATE_SHAPES, Sampler
from .network import PartNetwork
from .photos import IGNORE, TRAINING, photo_ids, read_photo

__all__ = ["Settings", "fit"]

CHECKPOINT_EVERY: Final = 100
WARM_UP: Final = 100
AVERAGING: Final = 0.998
"""Decay of the moving average of the weights, a step (shorter while it starts)."""
AUXILIARY_SHARE: Final = 0.3
OVERLAP_SHARE: Final = 0.5

CLASS_WEIGHTS: Final = {
    PartClass.BACKGROUND: 0.7,
    PartClass.HAIR: 1.4,
    PartClass.FACE: 1.4,
    PartClass.TORSO_SKIN: 1.5,
    PartClass.LEFT_ARM: 1.5,
    PartClass.RIGHT_ARM: 1.5,
    PartClass.LEFT_LEG: 1.3,
    PartClass.RIGHT_LEG: 1.3,
    PartClass.LEFT_SHOE: 1.3,
    PartClass.RIGHT_SHOE: 1.3,
    PartClass.HAT: 1.5,
    PartClass.GLASSES: 1.5,
    PartClass.SCARF: 1.2,
    PartClass.ACCESSORY: 1.2,
}
"""In the cross entropy; 1 where not named. Rare and sensitive classes count more."""
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


def loss_of(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy plus soft Dice (Milletari et al., "V-Net", arXiv 1606.04797)."""
    target = classes.long()
    entropy = functional.cross_entropy(logits, target, weights, ignore_index=IGNORE)
    known = (target != IGNORE).unsqueeze(1)
    truth = functional.one_hot(target.clamp(max=len(PartClass) - 1), len(PartClass))
    truth = truth.permute(0, 3, 1, 2) * known
    shares = logits.softmax(1) * known
    both = (shares * truth).sum((0, 2, 3))
    total = (shares + truth).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    dice = 1 - (2 * both + 1) / (total + 1)
    return entropy + OVERLAP_SHARE * dice[present].mean()


def _rates(step: int, settings: Settings) -> float:
    """Warm-up, then half a cosine down to a hundredth; the same again, lower, after the restart."""
    peak, end = 1.0, settings.restart
    if step >= settings.restart:
        peak, step, end = RESTART_RATE, step - settings.restart, settings.steps - settings.restart
    if step < WARM_UP:
        return peak * (step + 1) / WARM_UP
    share = (step - WARM_UP) / max(1, end - WARM_UP)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


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
    target, resume = work / "first.pt", work / "fit.pt"
    network = PartNetwork()
    network.load_imagenet(torch.load(imagenet, map_location="cpu", weights_only=True))
    network = network.to(memory_format=torch.channels_last).train()
    average = {name: value.clone() for name, value in network.state_dict().items()}
    encoder = [p for n, p in network.named_parameters() if n.startswith("encoder.")]
    decoder = [p for n, p in network.named_parameters() if not n.startswith("encoder.")]
    groups = [
        {"params": encoder, "share": settings.encoder_rate},
        {"params": decoder, "share": 1.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings.rate, weight_decay=0.02)
    start = 0
    if resume.exists():
        state = torch.load(resume, map_location="cpu", weights_only=True)
        if state["settings"] != asdict(settings):
            raise ValueError(f"{resume} was made with {state['settings']}; take another --work")
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        average, start = state["average"], state["step"]
        torch.manual_seed(settings.seed + start)
        print(f"fit: going on at step {start}", file=sys.stderr)
    common = torch.ones(len(PartClass))
    for part, weight in CLASS_WEIGHTS.items():
        common[part] = weight
    later = common.clone()
    later[list(RARE)] *= RARE_FACTOR

    def save(step: int) -> None:
        part = resume.with_suffix(".part")
        state = {
            "settings": asdict(settings),
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "average": average,
            "step": step,
        }
        torch.save(state, part)
        part.replace(resume)

    started, running = time.monotonic(), math.nan
    with Progress(disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("training", total=settings.steps, completed=start)
        batches = _load(work, data, settings, start)
        for step, (pixels, classes) in enumerate(batches, start=start):
            weights = common if step < settings.restart else later
            for group in optimiser.param_groups:
                group["lr"] = settings.rate * group["share"] * _rates(step, settings)
            rgb = pixels.to(memory_format=torch.channels_last).float() / 255
            logits, coarse = network(rgb)
            loss = loss_of(logits, classes, weights)
            loss = loss + AUXILIARY_SHARE * functional.cross_entropy(
                coarse, classes[:, 2::4, 2::4].long(), weights, ignore_index=IGNORE
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimiser.step()
            decay = min(AVERAGING, (step + 1) / (step + 10))
            for name, value in network.state_dict().items():
                if value.dtype.is_floating_point:
                    average[name].lerp_(value, 1 - decay)
                else:
                    average[name].copy_(value)
            value = float(loss.detach())
            running = value if math.isnan(running) else 0.98 * running + 0.02 * value
            progress.advance(task)
            done = step + 1
            if done % 20 == 0 or done == settings.steps:
                _log(work, settings, done, running, time.monotonic() - started)
            if done % CHECKPOINT_EVERY == 0 or done == settings.steps:
                save(done)
    torch.save(average, target)
    return target


def _load(work: Path, data: Path, settings: Settings, start: int) -> Iterator[Any]:
    if start >= settings.steps:
        return iter(())
    names = [n for n in photo_ids(data, TRAINING) if (work / "photos" / f"{n}.npz").exists()]
    photos = [read_photo(work, name) for name in names]
    dataset = _Batches(
        Sampler(photos, settings.seed, settings.restart * settings.batch), settings, start
    )
    return iter(DataLoader(dataset, batch_size=None, num_workers=1, prefetch_factor=3))


def _log(work: Path, settings: Settings, step: int, loss: float, seconds: float) -> None:
    line = {"step": step, "loss": round(loss, 4), "seconds": round(seconds), **asdict(settings)}
    with (work / "fit.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


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
