"""What the parts of M2FP's network share: its sizes, torch itself, small pieces.

The modules of the network can be imported without torch, to be looked at; `require_torch` says what
is missing.
"""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from ...core.errors import ModelError

try:
    import torch
    from torch import nn
except ImportError:  # `require_torch` tells whoever wants to use it
    torch = None
    nn = SimpleNamespace(Module=object)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "DECODER_HIDDEN",
    "DECODER_LAYERS",
    "ENCODER_HIDDEN",
    "ENCODER_LAYERS",
    "GROUPS",
    "HEADS",
    "LEVELS",
    "POINTS",
    "QUERIES",
    "STRIDE",
    "WIDTH",
    "Module",
    "NormedConv",
    "Shape",
    "nn",
    "numbers",
    "require_torch",
    "resized",
    "sine_table",
    "torch",
    "vectors",
]

Shape = tuple[int, int]
"""Rows and columns."""

# Sizes of the published network. Source: its configuration (ModelScope 1.9.5, image_human_parsing)
# and Mask2Former, section 4.1.
QUERIES: Final = 100
WIDTH: Final = 256
HEADS: Final = 8
ENCODER_LAYERS: Final = 6
ENCODER_HIDDEN: Final = 1024
DECODER_LAYERS: Final = 9
DECODER_HIDDEN: Final = 2048
POINTS: Final = 4
"""Places that a head of deformable attention samples in each level. Source: as above."""
LEVELS: Final = 3
"""Levels that attention reads: strides 32, 16 and 8, in this order. Source: as above."""
STRIDE: Final = 32
"""Both sides of the input are multiples of it. Source: `LEVELS`."""
GROUPS: Final = 32
"""Groups of group normalisation. Source: Wu and He, arXiv 1803.08494."""

_OLDEST_TORCH: Final = (2, 10)
"""Earlier ones could run code of a checkpoint made to harm (CVE-2025-32434, CVE-2026-24747).
Source: both advisories."""


def require_torch() -> Any:
    """Returns the module `torch`.

    Raises:
        ModelError: torch is not installed, or too old to read a checkpoint safely.
    """
    if torch is None:
        raise ModelError("M2FP needs torch; install the extra: pip install 'm2fp-stream[m2fp]'")
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if version is None or tuple(map(int, version.groups())) < _OLDEST_TORCH:
        oldest = ".".join(map(str, _OLDEST_TORCH))
        raise ModelError(
            f"M2FP needs torch {oldest} or later, found {torch.__version__}: older ones may run "
            f"code hidden in a checkpoint; pip install 'torch>={oldest}'"
        )
    return torch


def numbers(start: int, end: int, step: int = 1) -> Tensor:
    """Returns the numbers from `start` up to, not including, `end`."""
    # On the CPU also where parameters are made on the `meta` device.
    return torch.arange(start, end, step, dtype=torch.float64, device="cpu")


def sine_table(shape_hw: Shape, width: int = WIDTH) -> Tensor:
    """Returns where each cell of a grid is, as sines and cosines.

    The first half of the channels tells the row, the second the column: with the cell's number
    counted from 1 and scaled to 2 pi for the last, channels 2i and 2i+1 of a half hold the sine and
    the cosine of number / 10000 ** (2i / half).

    Args:
        shape_hw: rows and columns of the grid.
        width: channels, a multiple of 4.

    Returns:
        (rows * columns, width) float64, row by row.

    Source: Vaswani et al., arXiv 1706.03762, section 3.5; for pictures, Carion et al., arXiv
    2005.12872, appendix A.4.
    """
    half = width // 2
    rates = 10000.0 ** (numbers(0, half, 2) / half)

    def axis(count: int) -> Tensor:
        angles = numbers(1, count + 1)[:, None] / (count + 1e-6) * 2 * math.pi / rates
        return torch.stack((angles.sin(), angles.cos()), 2).flatten(1)

    rows, columns = shape_hw
    along = axis(rows)[:, None].expand(rows, columns, half)
    across = axis(columns)[None].expand(rows, columns, half)
    return torch.cat((along, across), 2).reshape(rows * columns, width)


class Module(nn.Module):  # type: ignore[misc]  # mypy does not look into torch (pyproject.toml)
    """The one place where torch's untyped base class is named."""


class NormedConv(Module):
    """A convolution without bias and the norm after it, which the checkpoint keeps inside it."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, norm: Module, stride: int = 1
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        self.norm = norm
        self._stride = stride
        self._padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """Takes and returns maps (1, n, h, w)."""
        return self.norm(
            nn.functional.conv2d(x, self.weight, stride=self._stride, padding=self._padding)
        )


def vectors(count: int) -> Any:
    """Returns learned vectors, (count, 256)."""
    # Uniform, not normal as elsewhere: on the `meta` device that imports torch's compiler (4 s).
    return nn.Parameter(nn.init.uniform_(torch.empty(count, WIDTH), -1, 1))


def resized(x: Tensor, shape_hw: Shape) -> Tensor:
    """Returns maps (1, n, h, w) at another size."""
    return nn.functional.interpolate(x, size=shape_hw, mode="bilinear", align_corners=False)
