"""The training loop: resumable, with averaged weights; it stores weights and nothing else.

Its state is read by torch's reader for plain tensors, which runs nothing of a file.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from ..core.part_file import replace_file
from .network import PartNetwork

__all__ = [
    "LEAST_RATE",
    "WARM_UP",
    "OtherStateError",
    "Step",
    "TrainingSettings",
    "cosine",
    "train",
]

WARM_UP: Final = 100
"""Steps in which the learning rate rises. Chosen: the recipe's, of 1000 and 2600 steps."""
LEAST_RATE: Final = 0.01
"""Of the peak, at the end. Chosen."""
MOST_GRADIENT: Final = 2.0
"""Norm to which gradients are clipped. Chosen."""
_RECENT: Final = 0.98
"""Decay a step of the loss that is told. Chosen: some fifty steps count."""


class OtherStateError(ValueError):
    """A state belongs to other settings."""


class TrainingSettings(Protocol):
    """What defines a run: a dataclass of these, and of whatever else must not change on the way."""

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        ...

    @property
    def seed(self) -> int:
        """Of everything that is drawn."""
        ...

    @property
    def rate(self) -> float:
        """Peak learning rate of the decoder."""
        ...

    @property
    def encoder_rate(self) -> float:
        """The encoder's share of it."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """How far a run is: steps done, running mean of the loss, seconds since it began or went on."""

    done: int
    loss: float
    seconds: float


def cosine(step: int, end: int, warm_up: int = WARM_UP) -> float:
    """Returns the learning rate's share of its peak: warm-up, then half a cosine down to `end`."""
    if step < warm_up:
        return (step + 1) / warm_up
    share = (step - warm_up) / max(1, end - warm_up)
    return LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def train(
    network: PartNetwork,
    batches: Callable[[int], Iterator[tuple[Tensor, Tensor]]],
    loss_of: Callable[[int, Tensor, Tensor], Tensor],
    rate_of: Callable[[int], float],
    *,
    settings: TrainingSettings,
    state: Path,
    averaging: float,
    weight_decay: float,
    every: int,
    on_step: Callable[[Step], None],
) -> Mapping[str, Tensor]:
    """Trains, or goes on where `state` is; returns the averaged weights.

    Interrupted, the last state stays, whole.

    Args:
        network: in training mode; trained in place.
        batches: from the first step to do, gives (n, 3, h, w) uint8 RGB and (n, h/2, w/2) uint8
            classes, one a step.
        loss_of: of a step, (n, 3, h, w) float32 RGB 0..1 and classes.
        rate_of: of a step, the share of the peak learning rate.
        settings: a dataclass; a state of other settings is refused.
        state: file that is written every `every` steps: settings, weights, the optimiser's numbers.
        averaging: decay of the weights' moving average, a step (shorter while it starts).
        weight_decay: AdamW's.
        every: see `state`.
        on_step: told after each.

    Raises:
        OtherStateError: the state belongs to other settings.
        FloatingPointError: the loss is not finite; the state is that of a step before.
    """
    average = {key: value.clone() for key, value in network.state_dict().items()}
    optimiser = _optimiser(network, settings, weight_decay)
    start = 0
    if state.exists():
        stored = _read(state)
        if stored["settings"] != asdict(settings):  # type: ignore[call-overload]  # a dataclass
            raise OtherStateError(f"{state} was made with {stored['settings']}")
        network.load_state_dict(stored["network"])
        optimiser.load_state_dict(stored["optimiser"])
        average, start = stored["average"], stored["step"]
        torch.manual_seed(settings.seed + start)
    started, running = time.monotonic(), math.nan
    on_step(Step(start, running, 0.0))
    for step, (pixels, classes) in enumerate(batches(start), start=start):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * group["share"] * rate_of(step)
        rgb = pixels.to(memory_format=torch.channels_last).float() / 255
        loss = loss_of(step, rgb, classes)
        latest = float(loss.detach())
        if not math.isfinite(latest):
            raise FloatingPointError(f"the loss of step {step} is not finite")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), MOST_GRADIENT)
        optimiser.step()
        rgb.zero_()
        _follow(average, network, min(averaging, (step + 1) / (step + 10)))
        running = latest if math.isnan(running) else _RECENT * running + (1 - _RECENT) * latest
        done = step + 1
        if done % every == 0 or done == settings.steps:
            _store(state, settings, network, optimiser, average, done)
        on_step(Step(done, running, time.monotonic() - started))
    return average


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds
        raise OtherStateError(f"{path} cannot be read ({type(error).__name__})") from None


def _optimiser(network: PartNetwork, settings: TrainingSettings, weight_decay: float) -> Any:
    encoder = [p for n, p in network.named_parameters() if n.startswith("encoder.")]
    decoder = [p for n, p in network.named_parameters() if not n.startswith("encoder.")]
    groups = [
        {"params": encoder, "share": settings.encoder_rate},
        {"params": decoder, "share": 1.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.rate, weight_decay=weight_decay)


def _follow(average: Mapping[str, Tensor], network: PartNetwork, decay: float) -> None:
    for key, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            average[key].lerp_(value, 1 - decay)
        else:
            average[key].copy_(value)


def _store(
    path: Path,
    settings: TrainingSettings,
    network: PartNetwork,
    optimiser: Any,
    average: Mapping[str, Tensor],
    done: int,
) -> None:
    state = {
        "settings": asdict(settings),  # type: ignore[call-overload]  # a dataclass
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "average": average,
        "step": done,
    }
    content = io.BytesIO()
    torch.save(state, content)
    replace_file(path, content.getvalue(), private=True)
