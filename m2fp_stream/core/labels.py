"""The label ids that every parser, policy and report of the package speaks.

Source: the 20 human-part classes and their order are those of CIHP (Gong et al., "Instance-level
Human Parsing via Part Grouping Network", ECCV 2018, table of categories) as M2FP's multi-human
model orders them, with 20 = a person whose part is not known (Yang et al., arXiv 2301.00394;
ModelScope model `damo/cv_resnet101_image-multiple-human-parsing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, unique
from types import MappingProxyType
from typing import Final

__all__ = [
    "BODY_PARTS",
    "CIHP",
    "PALETTE_RGB",
    "PRESETS",
    "Label",
    "LabelSet",
    "nearest",
    "parse_label_name",
]


@unique
class Label(IntEnum):
    """A CIHP class id; the member's `title` is the name users write."""

    BACKGROUND = 0
    HAT = 1
    HAIR = 2
    GLOVES = 3
    SUNGLASSES = 4
    UPPER_CLOTHES = 5
    DRESS = 6
    COAT = 7
    SOCKS = 8
    PANTS = 9
    TORSO_SKIN = 10
    SCARF = 11
    SKIRT = 12
    FACE = 13
    LEFT_ARM = 14
    RIGHT_ARM = 15
    LEFT_LEG = 16
    RIGHT_LEG = 17
    LEFT_SHOE = 18
    RIGHT_SHOE = 19
    HUMAN = 20

    @property
    def title(self) -> str:
        """The name a user writes, e.g. ``left-arm``."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Which CIHP ids a parser can produce, and where the others hide among them.

    Attributes:
        name: short name of the set, for reports.
        ids: every label the parser can write, background included.
        contained_in: for a label that the parser does not write, the label whose pixels contain
            it (a hat in `hair`). One that is not named is contained in `Label.HUMAN`.

    Raises:
        ValueError: the background or a label of last resort is missing.
    """

    name: str
    ids: frozenset[Label]
    contained_in: Mapping[Label, Label] = field(default_factory=dict[Label, Label])

    def __post_init__(self) -> None:
        if Label.BACKGROUND not in self.ids or Label.HUMAN not in self.ids:
            raise ValueError(f"label set {self.name!r} needs background (0) and human (20)")
        for label, holder in self.contained_in.items():
            if label in self.ids or holder not in self.ids:
                raise ValueError(f"label set {self.name!r}: {label.title} -> {holder.title}")

    def __contains__(self, label: object) -> bool:
        return label in self.ids

    def covering(self, wanted: Iterable[Label]) -> frozenset[Label]:
        """Returns the labels of this set that together contain all of `wanted`.

        A part the parser cannot tell apart is hidden with whatever contains it, at worst with the
        whole person: hiding too little is never the answer.
        """
        return frozenset(
            label if label in self.ids else self.contained_in.get(label, Label.HUMAN)
            for label in wanted
        )


CIHP: Final = LabelSet("cihp", frozenset(Label))

BODY_PARTS: Final = LabelSet(
    "body-parts",
    frozenset(Label) - {Label.DRESS, Label.COAT, Label.SKIRT, Label.SOCKS, Label.GLOVES},
    MappingProxyType(
        {
            Label.DRESS: Label.UPPER_CLOTHES,
            Label.COAT: Label.UPPER_CLOTHES,
            Label.SKIRT: Label.PANTS,
            Label.SOCKS: Label.PANTS,
        }
    ),
)
"""What the embedded parser writes: `human` is also what is worn or carried, bags and gloves."""

_HEAD: Final = frozenset({Label.HAT, Label.HAIR, Label.SUNGLASSES, Label.SCARF, Label.FACE})
_LIMBS: Final = frozenset({Label.LEFT_ARM, Label.RIGHT_ARM, Label.LEFT_LEG, Label.RIGHT_LEG})

PRESETS: Final[Mapping[str, frozenset[Label]]] = MappingProxyType(
    {
        "face": frozenset({Label.FACE, Label.SUNGLASSES}),
        "head": _HEAD,
        "skin": frozenset({Label.FACE, Label.TORSO_SKIN, Label.SUNGLASSES}) | _LIMBS,
        "person": frozenset(Label) - {Label.BACKGROUND},
    }
)
"""What ``--hide`` names; sunglasses go with the face they sit on."""

PALETTE_RGB: Final[tuple[tuple[int, int, int], ...]] = (
    (0, 0, 0),
    (170, 110, 40),
    (128, 60, 0),
    (0, 128, 128),
    (60, 60, 60),
    (0, 130, 200),
    (240, 50, 230),
    (0, 0, 128),
    (170, 255, 195),
    (70, 70, 200),
    (255, 215, 180),
    (220, 190, 255),
    (145, 30, 180),
    (230, 25, 75),
    (245, 130, 48),
    (255, 225, 25),
    (60, 180, 75),
    (210, 245, 60),
    (128, 128, 0),
    (70, 240, 240),
    (169, 169, 169),
)
"""One RGB colour a label, used for palette PNGs and `silhouette`; chosen to be told apart."""

_BY_TITLE: Final[Mapping[str, Label]] = MappingProxyType(
    {label.title: label for label in Label if label is not Label.BACKGROUND}
)


def parse_label_name(name: str) -> Label:
    """Returns the label a user means by `name` (case and ``_``/``-`` do not matter).

    Raises:
        ValueError: no such label; the message names the nearest valid ones.
    """
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    found = _BY_TITLE.get(key)
    if found is not None:
        return found
    raise ValueError(f"unknown label {name!r}; {nearest(key, _BY_TITLE)}")


def nearest(name: str, choices: Iterable[str]) -> str:
    """Returns ``did you mean X?`` or, where nothing is near, the list of valid names."""
    from difflib import get_close_matches

    names = sorted(set(choices))
    close = get_close_matches(name, names, n=2)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"valid names: {', '.join(names)}"
