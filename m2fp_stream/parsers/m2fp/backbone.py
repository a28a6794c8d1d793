"""The residual network of M2FP: features of strides 4, 8, 16 and 32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .layers import Module, NormedConv, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Backbone"]

_BLOCKS: Final = (3, 4, 23, 3)
"""Blocks of a stage. Source: He et al., arXiv 1512.03385, table 1, 101 layers."""
_EPSILON: Final = 1e-5
"""Of batch normalisation; torch's other norms have the same by default."""


class _FixedNorm(Module):
    """Batch normalisation by the statistics of the training, which it never changes.

    Source: Ioffe and Szegedy, arXiv 1502.03167, algorithm 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=_EPSILON
        )


def _fixed(inputs: int, outputs: int, kernel: int, stride: int = 1) -> NormedConv:
    return NormedConv(inputs, outputs, kernel, _FixedNorm(outputs), stride)


class _Stem(Module):
    """Three small convolutions in place of one large one; the result has stride 4.

    Source: He et al., arXiv 1812.01187, section 4.1 (ResNet-C), as DeepLab uses it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _fixed(3, 64, 3, 2)
        self.conv2 = _fixed(64, 64, 3)
        self.conv3 = _fixed(64, 128, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = nn.functional.relu(conv(x))
        return nn.functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class _Bottleneck(Module):
    """1x1, 3x3 and 1x1 around a shortcut; the 3x3 has the stride.

    Source: He et al., arXiv 1512.03385, figure 5.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut = _fixed(inputs, outputs, 1, stride) if inputs != outputs else None
        self.conv1 = _fixed(inputs, middle, 1)
        self.conv2 = _fixed(middle, middle, 3, stride)
        self.conv3 = _fixed(middle, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu(self.conv1(x))
        y = self.conv3(nn.functional.relu(self.conv2(y)))
        return nn.functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def _stage(inputs: int, middle: int, blocks: int, stride: int) -> Any:
    outputs = 4 * middle
    first = _Bottleneck(inputs, middle, outputs, stride)
    return nn.Sequential(
        first, *(_Bottleneck(outputs, middle, outputs, 1) for _ in range(blocks - 1))
    )


class Backbone(Module):
    """The residual network: features of strides 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Stem()
        self.res2 = _stage(128, 64, _BLOCKS[0], 1)
        self.res3 = _stage(256, 128, _BLOCKS[1], 2)
        self.res4 = _stage(512, 256, _BLOCKS[2], 2)
        self.res5 = _stage(1024, 512, _BLOCKS[3], 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Takes a normalised picture (1, 3, h, w); returns the features, finest first."""
        x = self.stem(x)
        features = []
        for stage in (self.res2, self.res3, self.res4, self.res5):
            x = stage(x)
            features.append(x)
        return features
