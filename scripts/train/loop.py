"""The training loop that `fit` and `refit` share: resumable, logged, with averaged weights."""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from rich.progress import Progress
from torch import Tensor

from m2fp_stream.core.part_file import replace_file
from m2fp_stream.training.network import PartNetwork

__all__ = ["LEAST_RATE", "WARM_UP", "cosine", "train"]

CHECKPOINT_EVERY: Final = 100
LOG_EVERY: Final = 20
WARM_UP: Final = 100
"""Steps in which the learning rate rises."""
LEAST_RATE: Final = 0.01
"""Of the peak, at the end."""
MOST_GRADIENT: Final = 2.0
"""Norm to which gradients are clipped."""


def cosine(step: int, end: int) -> float:
    """Returns the learning rate's share of its peak: warm-up, then half a cosine down to `end`."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    share = (step - WARM_UP) / max(1, end - WARM_UP)
    return LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


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
        network: in training mode; trained in place.
        batches: from the first step to do, gives (n, 3, h, w) uint8 RGB and (n, h/2, w/2) uint8
            classes, one a step.
        loss_of: of a step, (n, 3, h, w) float32 RGB 0..1 and classes.
        rate_of: of a step, the share of the peak learning rate.
        settings: a dataclass with `steps`, `seed`, `rate` and `encoder_rate`.
        name: of the run; `WORK/NAME.pt` is the checkpoint, `WORK/NAME.jsonl` the log.
        work: folder that is written to.
        target: file for the averaged weights.
        averaging: decay of their moving average, a step (shorter while it starts).
        weight_decay: AdamW's.

    Raises:
        ValueError: the checkpoint in `work` belongs to other settings.
    """
    resume = work / f"{name}.pt"
    average = {key: value.clone() for key, value in network.state_dict().items()}
    encoder = [p for n, p in network.named_parameters() if n.startswith("encoder.")]
    decoder = [p for n, p in network.named_parameters() if not n.startswith("encoder.")]
    groups = [
        {"params": encoder, "share": settings.encoder_rate},
        {"params": decoder, "share": 1.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings.rate, weight_decay=weight_decay)
    start = 0
    if resume.exists():
        state = torch.load(resume, map_location="cpu", weights_only=True)
        if state["settings"] != asdict(settings):
            raise ValueError(f"{resume} was made with {state['settings']}; take another --work")
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        average, start = state["average"], state["step"]
        torch.manual_seed(settings.seed + start)
        print(f"{name}: going on at step {start}", file=sys.stderr)
    started, running = time.monotonic(), math.nan
    with Progress(disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("training", total=settings.steps, completed=start)
        for step, (pixels, classes) in enumerate(batches(start), start=start):
            for group in optimiser.param_groups:
                group["lr"] = settings.rate * group["share"] * rate_of(step)
            rgb = pixels.to(memory_format=torch.channels_last).float() / 255
            loss = loss_of(step, rgb, classes)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), MOST_GRADIENT)
            optimiser.step()
            decay = min(averaging, (step + 1) / (step + 10))
            for key, value in network.state_dict().items():
                if value.dtype.is_floating_point:
                    average[key].lerp_(value, 1 - decay)
                else:
                    average[key].copy_(value)
            latest = float(loss.detach())
            running = latest if math.isnan(running) else 0.98 * running + 0.02 * latest
            progress.advance(task)
            done = step + 1
            if done % LOG_EVERY == 0 or done == settings.steps:
                line = {"step": done, "loss": round(running, 4)}
                line |= {"seconds": round(time.monotonic() - started), **asdict(settings)}
                with (work / f"{name}.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
            if done % CHECKPOINT_EVERY == 0 or done == settings.steps:
                state = {
                    "settings": asdict(settings),
                    "network": network.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "average": average,
                    "step": done,
                }
                content = io.BytesIO()
                torch.save(state, content)
                replace_file(resume, content.getvalue())
    torch.save(average, target)
    return target
