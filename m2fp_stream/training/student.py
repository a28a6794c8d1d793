"""Trains the part network further on what a teacher saw; needs the extra `train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from ..core.errors import ModelError, UsageError
from ..parsers.embedded.classes import PartClass
from .exchange import to_go_on_from, to_onnx
from .loop import WARM_UP, OtherStateError, Step, cosine, train
from .loss import CLASS_WEIGHTS, loss_of
from .samples import Sample, batch_of

__all__ = ["StudentSettings", "teach"]

AVERAGING: Final = 0.995
"""Decay of the moving average of the weights, a step. Source: `scripts/train/refit.py`."""
WEIGHT_DECAY: Final = 0.01
"""AdamW's. Source: likewise."""
EVERY: Final = 10
"""Steps between two states. Chosen: what an interrupt costs is little beside looking again."""


@final
@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    """What defines a training: a state of other settings is not gone on from.

    Attributes:
        steps, batch, seed: optimiser steps, crops in each, and what is drawn from.
        started_from, teacher, pictures: SHA-256 of the first weights, of the teacher's, and of what
            the files are known by.
        rate, encoder_rate: peak learning rate of the decoder, the encoder's share of it. Source:
            `scripts/train/refit.py`.
    """

    steps: int
    batch: int
    seed: int
    started_from: str
    teacher: str
    pictures: str
    rate: float = 5e-4
    encoder_rate: float = 0.25


def teach(
    start: bytes,
    samples: Sequence[Sample],
    settings: StudentSettings,
    *,
    state: Path,
    threads: int,
    on_step: Callable[[Step], None],
) -> bytes:
    """Returns the student as an ONNX file.

    On one type of CPU with one version of torch, the same arguments give the same bytes, whether
    interrupted and gone on with or not.

    Args:
        start: the exported network to begin with.
        samples: what is learned; one at least.
        settings: see there.
        state: where weights and the optimiser's numbers are kept on the way; no pixels.
        threads: of torch.
        on_step: told after each step.

    Raises:
        UsageError: the state is of other settings.
        ModelError: the network is another one, or what was learned is no number any more.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    weights = torch.ones(len(PartClass))
    for part, weight in CLASS_WEIGHTS.items():
        weights[part] = weight
    warm_up = min(WARM_UP, settings.steps // 10)
    try:
        network = to_go_on_from(start)

        def loss(step: int, rgb: Tensor, classes: Tensor) -> Any:
            torch.manual_seed(settings.seed + step)  # what is dropped does not depend on resuming
            return loss_of(network(rgb)[0], classes, weights)

        average = train(
            network,
            lambda first: _batches(samples, settings, first),
            loss,
            lambda step: cosine(step, settings.steps, warm_up),
            settings=settings,
            state=state,
            averaging=AVERAGING,
            weight_decay=WEIGHT_DECAY,
            every=EVERY,
            on_step=on_step,
        )
    except FloatingPointError as error:
        raise ModelError(
            f"training failed: {error}; what the teacher says may be poisoned, nothing was "
            "installed"
        ) from None
    except OtherStateError:
        raise UsageError(
            "--resume: what is there was begun with other pictures, another teacher or other "
            "options; leave --resume out to begin anew"
        ) from None
    network.load_state_dict(dict(average))
    if not all(bool(torch.isfinite(value).all()) for value in average.values()):
        raise ModelError("training failed: a weight is not finite; nothing was installed")
    return to_onnx(network)


def _batches(
    samples: Sequence[Sample], settings: StudentSettings, first: int
) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(first, settings.steps):
        pixels, classes = batch_of(samples, step, settings.batch, settings.seed)
        try:
            yield torch.from_numpy(pixels), torch.from_numpy(classes)
        finally:
            pixels.fill(0)
