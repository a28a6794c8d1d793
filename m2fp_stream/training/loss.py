"""What the part network is told about its answers: cross entropy and overlap."""

from __future__ import annotations

from typing import Final

from torch import Tensor
from torch.nn import functional

from ..parsers.embedded.classes import PartClass
from .samples import IGNORE

__all__ = ["CLASS_WEIGHTS", "IGNORE", "OVERLAP_SHARE", "loss_of"]

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
