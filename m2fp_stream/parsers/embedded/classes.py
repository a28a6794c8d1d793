"""The classes of the part network, in the order of its output channels.

The training scripts (`scripts/train`) and the parser both read them here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, unique
from types import MappingProxyType
from typing import Final

from m2fp_stream.core.labels import Label

__all__ = ["HIDING_GROUPS", "LABEL_OF", "UNCALIBRATED", "PartClass", "hiding_thresholds"]


@unique
class PartClass(IntEnum):
    """An output channel of the part network; the order is that of its training.

    Left and right are the person's own.
    """

    BACKGROUND = 0
    HAIR = 1
    FACE = 2
    TORSO_SKIN = 3
    LEFT_ARM = 4
    RIGHT_ARM = 5
    LEFT_LEG = 6
    RIGHT_LEG = 7
    UPPER_CLOTHES = 8
    LOWER_CLOTHES = 9
    LEFT_SHOE = 10
    RIGHT_SHOE = 11
    HAT = 12
    GLASSES = 13
    SCARF = 14
    ACCESSORY = 15


LABEL_OF: Final[Mapping[PartClass, Label]] = MappingProxyType(
    {
        PartClass.BACKGROUND: Label.BACKGROUND,
        PartClass.HAIR: Label.HAIR,
        PartClass.FACE: Label.FACE,
        PartClass.TORSO_SKIN: Label.TORSO_SKIN,
        PartClass.LEFT_ARM: Label.LEFT_ARM,
        PartClass.RIGHT_ARM: Label.RIGHT_ARM,
        PartClass.LEFT_LEG: Label.LEFT_LEG,
        PartClass.RIGHT_LEG: Label.RIGHT_LEG,
        PartClass.UPPER_CLOTHES: Label.UPPER_CLOTHES,
        PartClass.LOWER_CLOTHES: Label.PANTS,
        PartClass.LEFT_SHOE: Label.LEFT_SHOE,
        PartClass.RIGHT_SHOE: Label.RIGHT_SHOE,
        PartClass.HAT: Label.HAT,
        PartClass.GLASSES: Label.SUNGLASSES,
        PartClass.SCARF: Label.SCARF,
        PartClass.ACCESSORY: Label.HUMAN,
    }
)
"""The CIHP label of each class; CIHP has none for bags and jewellery, which stay `human`."""

HIDING_GROUPS: Final[Mapping[str, tuple[PartClass, ...]]] = MappingProxyType(
    {
        "face": (PartClass.FACE, PartClass.GLASSES),
        "hair": (PartClass.HAIR, PartClass.HAT),
        "skin": (
            PartClass.TORSO_SKIN,
            PartClass.LEFT_ARM,
            PartClass.RIGHT_ARM,
            PartClass.LEFT_LEG,
            PartClass.RIGHT_LEG,
        ),
    }
)
"""Classes that share a hiding threshold; the manifest has one for each name, by measurement
(``scripts/train/calibrate.py``)."""
UNCALIBRATED: Final = 0.3
"""The hiding threshold of every other class. The default of `policy.threshold`: calibrated evidence
is compared with that, so these pass as they are."""


def hiding_thresholds(calibrated: Mapping[str, float]) -> dict[PartClass, float]:
    """Returns the probability from which each class is hidden.

    Args:
        calibrated: threshold by name of `HIDING_GROUPS`; one that is missing is `UNCALIBRATED`.
    """
    thresholds = dict.fromkeys(PartClass, UNCALIBRATED)
    for name, parts in HIDING_GROUPS.items():
        for part in parts:
            thresholds[part] = calibrated.get(name, UNCALIBRATED)
    return thresholds
