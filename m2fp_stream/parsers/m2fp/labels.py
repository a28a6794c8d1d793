"""Which checkpoint is which, and what its class numbers mean in CIHP ids.

Source: the classes and their order are those of ModelScope's models
`damo/cv_resnet101_image-multiple-human-parsing` (CIHP and `Human`) and
`damo/cv_resnet101_image-single-human-parsing` (LIP: Gong et al., "Look into Person", CVPR 2017,
table of categories).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final

from m2fp_stream.core.labels import CIHP, Label, LabelSet

__all__ = ["LABELS_OF", "LABEL_SETS", "LIP", "Kind", "mirrored"]


@unique
class Kind(StrEnum):
    """What a checkpoint was trained on."""

    CIHP = "cihp"
    """Many people, and which part belongs to whom."""
    LIP = "lip"
    """One person."""

    @property
    def classes(self) -> int:
        """Classes with the background, without the "no object" that the class head adds."""
        return len(LABELS_OF[self])


LIP: Final = LabelSet("lip", frozenset(Label) - {Label.TORSO_SKIN})
"""What the LIP checkpoint tells apart.

It has no class for a bare neck or torso and draws them under no fixed one, so `torso-skin` is
contained in nothing less than the person: whoever hides it hides everything. `human` stands for
parts in doubt alone; the checkpoint has no such class.
"""

LABELS_OF: Final[Mapping[Kind, tuple[Label, ...]]] = MappingProxyType(
    {
        Kind.CIHP: tuple(Label),
        Kind.LIP: (
            Label.BACKGROUND,
            Label.HAT,
            Label.HAIR,
            Label.GLOVES,
            Label.SUNGLASSES,
            Label.UPPER_CLOTHES,
            Label.DRESS,
            Label.COAT,
            Label.SOCKS,
            Label.PANTS,
            Label.DRESS,  # Jumpsuits: clothes in one piece; CIHP's 10 is skin
            Label.SCARF,
            Label.SKIRT,
            Label.FACE,
            Label.LEFT_ARM,
            Label.RIGHT_ARM,
            Label.LEFT_LEG,
            Label.RIGHT_LEG,
            Label.LEFT_SHOE,
            Label.RIGHT_SHOE,
        ),
    }
)
"""The label of each class number. Left and right are the person's own."""

LABEL_SETS: Final[Mapping[Kind, LabelSet]] = MappingProxyType({Kind.CIHP: CIHP, Kind.LIP: LIP})


def mirrored(label: Label) -> Label:
    """Returns what a part looks like in a mirror: the left arm is a right one."""
    side, _, part = label.name.partition("_")
    other = {"LEFT": "RIGHT", "RIGHT": "LEFT"}.get(side)
    return label if other is None else Label[f"{other}_{part}"]
