"""ModelScope's own pipeline and network, as they are, fed by a case. Runs in the classic stack."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modelscope.pipelines import pipeline
from modelscope.utils.constant import Tasks
from numpy.typing import NDArray

from .cases import Instance, instances_of
from .weights import CLASSES

__all__ = ["doubled", "instances_from", "network_input", "open_pipeline", "parsed", "prepared"]


def open_pipeline(folder: Path) -> Any:
    """Returns the pipeline of a ModelScope folder that `make_model` wrote, on the CPU."""
    logging.getLogger("modelscope").setLevel(logging.ERROR)
    return pipeline(Tasks.image_segmentation, model=str(folder), device="cpu")


def prepared(pipe: Any, bgr: NDArray[np.uint8], short_side: int | None) -> dict[str, Any]:
    """Returns what the pipeline makes of a picture for the network.

    Args:
        pipe: from `open_pipeline`.
        bgr: (h, w, 3) uint8.
        short_side: of the network's input; None leaves the size to the pipeline (LIP).
    """
    sizes = {} if short_side is None else {"min_size": short_side}
    return dict(pipe.preprocess(bgr, **sizes))


def network_input(ready: dict[str, Any]) -> NDArray[np.uint8]:
    """Returns what the network sees before it is normalised and padded: (h, w, 3) uint8 RGB."""
    image = ready["batched_inputs"][0]["image"]
    return np.ascontiguousarray(image.double().round().to(torch.uint8).permute(1, 2, 0).numpy())


def parsed(pipe: Any, ready: dict[str, Any]) -> dict[str, Any]:
    """Returns the pipeline's answer; what calling the pipeline does after `prepared`."""
    return dict(pipe.postprocess(pipe.forward(ready)))


def instances_from(answer: dict[str, Any], kind: str) -> list[Instance]:
    """Returns the pipeline's answer as instances, the surest first."""
    titles = CLASSES[kind]
    return instances_of(
        [titles.index(title) for title in answer["labels"]], answer["scores"], answer["masks"]
    )


@contextlib.contextmanager
def doubled(model: Any) -> Iterator[None]:
    """Within, the network computes in float64 throughout: its casts and tables, too."""
    single, to_single = torch.float32, torch.Tensor.float
    model.double()
    torch.Tensor.float = torch.Tensor.double
    torch.float32 = torch.float64
    try:
        yield
    finally:
        torch.float32, torch.Tensor.float = single, to_single
        model.float()
