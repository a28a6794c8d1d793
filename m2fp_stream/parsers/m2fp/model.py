"""M2FP's network in plain torch, under the parameter names of ModelScope's checkpoint.

Written from the papers: M2FP (Yang et al., arXiv 2301.00394) is Mask2Former (Cheng et al.,
arXiv 2112.01527) for human parsing: a residual network of 101 layers, a pixel decoder with
deformable attention (Zhu et al., arXiv 2010.04159) and a decoder of 100 queries with masked
attention. Sizes as published: `layers`. The names of parameters and buffers are
facts about the checkpoint; `M2FP.state_dict()` is the list of them, and costs nothing on torch's
``meta`` device.

The input's shape is fixed when the network is built, so that position tables are constants and
the whole can be exported. Three things are computed differently from the papers' formulas, with
the same result: masked attention adds -1e9 where it must not look; between the decoder's layers,
mask features are resized once instead of the masks of 100 queries after each; deformable attention
samples level by level.

`backbone`, `pixel_decoder` and `predictor` are its parts, in the order in which a picture passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...core.errors import ModelError
from .backbone import Backbone
from .layers import STRIDE, Module, Shape, require_torch, torch
from .pixel_decoder import PixelDecoder
from .predictor import Predictor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["M2FP"]

# Of ImageNet's pictures, RGB, on a scale of 0..255. Source: the configuration of the published
# network (ModelScope 1.9.5, image_human_parsing).
_PIXEL_MEAN: Final = (123.675, 116.28, 103.53)
_PIXEL_STD: Final = (58.395, 57.12, 57.375)
"""The picture's numbers are normalised with these."""


class _Head(Module):
    """Pixel decoder and predictor, under the checkpoint's names."""

    def __init__(self, classes: int, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(shapes)
        self.predictor = Predictor(classes, shapes)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        logits, masks = self.predictor(*self.pixel_decoder(features))
        return logits, masks


class M2FP(Module):
    """M2FP for pictures of one shape, one at a time; it knows no training.

    Position tables are kept in float64 whatever the parameters are, and used in the picture's
    type: `.double()` gives float64 throughout, for comparisons. On torch's ``meta`` device the
    parameters hold nothing until a state is assigned; the tables are there.

    Args:
        classes: labels that the checkpoint tells apart, background included; its class head has
            one output more, for "nothing".
        shape_hw: rows and columns of the picture, multiples of 32.

    Raises:
        ModelError: torch is missing or too old, or the shape is not as above.
    """

    def __init__(self, classes: int, shape_hw: Shape) -> None:
        require_torch()
        if any(side < STRIDE or side % STRIDE for side in shape_hw):
            raise ModelError(
                f"M2FP takes pictures whose sides are multiples of {STRIDE}, got "
                f"{shape_hw[0]}x{shape_hw[1]}; round them up"
            )
        super().__init__()
        height, width = shape_hw
        shapes = tuple((height // stride, width // stride) for stride in (32, 16, 8))
        self.backbone = Backbone()
        self.sem_seg_head = _Head(classes, shapes)
        for name, values in (("pixel_mean", _PIXEL_MEAN), ("pixel_std", _PIXEL_STD)):
            # Of the precision that the published network has them in.
            table = torch.tensor(values, dtype=torch.float32, device="cpu")
            self.register_buffer(name, table.double().reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what the 100 queries found.

        Args:
            image: (1, 3, h, w), RGB 0..255; padding has the mean colour, so that it is 0 once
                normalised.

        Returns:
            (1, 100, classes + 1) logits of the classes, the last one "nothing", and
            (1, 100, h / 4, w / 4) logits of the masks.

        Source: M2FP (arXiv 2301.00394), its transformer-based baseline.
        """
        mean, std = self.pixel_mean.to(image.dtype), self.pixel_std.to(image.dtype)
        logits, masks = self.sem_seg_head(self.backbone((image - mean) / std))
        return logits, masks
