"""What `fit` and `refit` share: the training loop, with a bar and a log."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from rich.progress import Progress
from torch import Tensor

from m2fp_stream.training import loop
from m2fp_stream.training.network import PartNetwork

__all__ = ["train"]

CHECKPOINT_EVERY: Final = 100
LOG_EVERY: Final = 20


def train(
    network: PartNetwork,
    batches: Callable[[int], Iterator[tuple[Tensor, Tensor]]],
    loss_of: Callable[[int, Tensor, Tensor], Tensor],
    rate_of: Callable[[int], float],
    *,
    settings: Any,
    name: str,
    work: Path,
    target: Path,
    averaging: float,
    weight_decay: float,
) -> Path:
    """Trains, or goes on where `work` has a checkpoint; returns `target`, the averaged weights.

    Args:
        network, batches, loss_of, rate_of, settings, averaging, weight_decay: see
            `m2fp_stream.training.loop.train`.
        name: of the run; `WORK/NAME.pt` is the checkpoint, `WORK/NAME.jsonl` the log.
        work: folder that is written to.
        target: file for the averaged weights.

    Raises:
        ValueError: the checkpoint in `work` belongs to other settings.
    """
    with Progress(disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("training", total=settings.steps)

        def tell(step: loop.Step) -> None:
            progress.update(task, completed=step.done)
            if step.done % LOG_EVERY == 0 or step.done == settings.steps:
                line = {"step": step.done, "loss": round(step.loss, 4)}
                line |= {"seconds": round(step.seconds), **asdict(settings)}
                with (work / f"{name}.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")

        try:
            average = loop.train(
                network,
                batches,
                loss_of,
                rate_of,
                settings=settings,
                state=work / f"{name}.pt",
                averaging=averaging,
                weight_decay=weight_decay,
                every=CHECKPOINT_EVERY,
                on_step=tell,
            )
        except ValueError as error:
            raise ValueError(f"{error}; take another --work") from None
    torch.save(average, target)
    return target
