"""What is hidden, with what margin and under which effect.

The policy turns the part maps of a frame into its `CoverPlan`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self, final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from .core.labels import PRESETS, Label, LabelSet, nearest, parse_label_name
from .core.plan import CoverPlan, Effect, Fill
from .core.timing import Span
from .options import Listed, Options
from .zones import Zone, Zones

__all__ = ["Policy", "PolicyOptions"]

_LAST_FILL: Final = 255
"""The most that eight bits hold; 0 is clear, and zones have one."""
_ZONE: Final = "zone"
"""What zones are called among the labels of `effects`."""
_MOST_ZONES: Final = 64
"""Chosen: more than anybody draws by hand."""
Texts = Annotated[tuple[str, ...], Field(max_length=_MOST_ZONES)]


class PolicyOptions(Options):
    """What is hidden, and how."""

    hide: Annotated[
        Literal["face", "head", "skin", "person"] | tuple[str, ...],
        Field(
            title="Parts to hide",
            description=(
                "A preset (face, head, skin, person) or a list of labels. A part the parser "
                "cannot tell apart is hidden with whatever contains it."
            ),
        ),
        Listed,
    ] = "head"
    effect: Annotated[
        Literal["frost", "solid", "silhouette", "mosaic"],
        Field(title="Effect", description="How hidden parts are filled, unless `effects` says."),
    ] = "frost"
    effects: Annotated[
        dict[str, Literal["frost", "solid", "silhouette", "mosaic"]],
        Field(
            title="Effects by label",
            description="For example {hair: solid}; `zone` is what zones are covered with.",
        ),
    ] = {}  # noqa: RUF012  # pydantic copies it for each instance
    zones: Annotated[
        Texts,
        Field(
            title="Zones",
            description=(
                "Places that are always covered: x1,y1,x2,y2 of a rectangle, or x,y of each corner "
                "of a polygon, in the upright picture: fractions of it, or pixels where a number "
                "is above 1. In files @BEGIN-END may follow: 0.1,0.2,0.3,0.4@0:12-0:30."
            ),
        ),
    ] = ()
    keep_zones: Annotated[
        Texts,
        Field(
            title="Zones where people are left alone",
            description=(
                "A poster, a television. Who is in them with all that would be covered is not "
                "covered, whoever it is; who is partly outside is. A zone outranks them."
            ),
        ),
    ] = ()
    invert: Annotated[
        bool,
        Field(
            title="Cover all but the zones",
            description="Zones then name what may be shown; people there are covered as ever.",
        ),
    ] = False
    cover_spans: Annotated[
        Texts,
        Field(
            title="Times that are covered whole",
            description="For files: BEGIN-END, such as 0:10-0:12; 0:10- goes on to the end.",
        ),
    ] = ()
    margin: Annotated[
        float,
        Field(
            title="Margin",
            description=(
                "Added around a region, as a fraction of the radius of the largest disc in it."
            ),
            ge=0.0,
            le=2.0,
        ),
    ] = 0.12
    threshold: Annotated[
        float,
        Field(
            title="Hiding threshold",
            description=(
                "A part is hidden above this evidence, whatever the most likely label is. "
                "Lower hides more."
            ),
            gt=0.0,
            lt=1.0,
        ),
    ] = 0.3

    @field_validator("hide")
    @classmethod
    def _known_hide(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(value, tuple):
            if not value:
                raise ValueError("name at least one label to hide")
            for name in value:
                parse_label_name(name)
        return value

    @field_validator("effects")
    @classmethod
    def _known_effects(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name != _ZONE:
                parse_label_name(name)
        return value

    @field_validator("zones", "keep_zones", "cover_spans", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise ValueError("expected a list of texts, such as ['0.1,0.2,0.3,0.4']")
        return tuple(value)

    @field_validator("zones", "keep_zones")
    @classmethod
    def _known_zones(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Zone.parse(text)
        return value

    @field_validator("cover_spans")
    @classmethod
    def _known_spans(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            Span.parse(text)
        return value

    @model_validator(mode="after")
    def _something_shown(self) -> Self:
        if self.invert and not self.zones:
            raise ValueError("invert covers all but the zones, and there is none; name one")
        return self

    def places(self) -> Zones:
        """Returns the zones and spans that the texts mean."""
        return Zones(
            tuple(map(Zone.parse, self.zones)),
            tuple(map(Zone.parse, self.keep_zones)),
            self.invert,
            tuple(map(Span.parse, self.cover_spans)),
        )

    def anywhere(self) -> Self:
        """Returns the options for another camera's pictures: zones are places of one."""
        gone = {"zones": (), "keep_zones": (), "invert": False, "cover_spans": ()}
        return self.model_copy(update=gone)

    def hidden_labels(self) -> frozenset[Label]:
        """Returns the labels that `hide` means."""
        if isinstance(self.hide, str):
            return PRESETS[self.hide]
        return frozenset(parse_label_name(name) for name in self.hide)

    @staticmethod
    def hide_from_text(text: str) -> str | tuple[str, ...]:
        """Returns the `hide` value a user wrote on the command line: a preset or ``a,b,c``.

        Raises:
            ValueError: neither a preset nor known labels; the message names the nearest.
        """
        text = text.strip().lower()
        if text in PRESETS:
            return text
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if len(names) <= 1:
            try:
                parse_label_name(text)
            except ValueError:
                choices = [*PRESETS, *(label.title for label in Label if label)]
                message = f"unknown preset or label {text!r}; {nearest(text, choices)}"
                raise ValueError(message) from None
        for name in names:
            parse_label_name(name)
        return names


Person = tuple[int, tuple[float, float, float, float]]
"""A track number, and a box in pixels of the frame: x1, y1, x2, y2."""


@final
class Policy:
    """Applies `PolicyOptions`; holds no state, any thread may use it."""

    def __init__(self, options: PolicyOptions) -> None:
        self.options = options
        self.zones = options.places()
        default = Effect(options.effect)
        self._effects = dict.fromkeys(Label, default)
        for name, effect in options.effects.items():
            # Nobody's part is background: there it means zones.
            label = Label.BACKGROUND if name == _ZONE else parse_label_name(name)
            self._effects[label] = Effect(effect)
        self._flat = {
            label: effect if effect is Effect.SOLID else Effect.SILHOUETTE
            for label, effect in self._effects.items()
        }

    def effect_of(self, label: Label) -> Effect:
        """Returns what a hidden part is covered with."""
        return self._effects[label]

    def hidden(self, labels: LabelSet) -> frozenset[Label]:
        """Returns the labels of a parser's set that are hidden; all, where the whole person is."""
        hidden = labels.covering(self.options.hidden_labels())
        return labels.ids - {Label.BACKGROUND} if Label.HUMAN in hidden else hidden

    def plan(
        self,
        *,
        frame_id: int,
        size_wh: tuple[int, int],
        parts: NDArray[np.uint8],
        tracks: NDArray[np.uint8],
        people: Sequence[Person] = (),
        silhouette: bool = False,
        shown_s: tuple[float, float] | None = None,
        sure: bool = True,
    ) -> CoverPlan:
        """Returns the plan that covers every non-zero pixel of `parts`, and the zones.

        Who is wholly where people are left alone is not covered. Zones outrank that.

        Args:
            frame_id: the frame the plan is for.
            size_wh: that frame's (width, height).
            parts: (h, w) uint8 `Label` of what is hidden, 0 = clear.
            tracks: (h, w) uint8 track numbers; they tell people apart.
            people: track number and x1, y1, x2, y2 in pixels of the frame of whoever is covered.
            silhouette: flat colours in place of frost and mosaic. Solid stays: it tells less.
            shown_s: from when to when the frame is shown, in seconds from the beginning of the
                input; None where nobody knows: then zones with a time cover all the same.
            sure: whether it is known where people are; else nobody is left alone.

        Raises:
            UsageError: a zone reaches outside the frame.
        """
        effects = self._flat if silhouette else self._effects
        map_wh = parts.shape[1], parts.shape[0]
        left_alone = 0
        kept = self.zones.keeps(size_wh, map_wh, shown_s) if sure else None
        if kept is not None:
            scale = map_wh[0] / size_wh[0], map_wh[1] / size_wh[1]
            alone, left_alone = _alone(parts, tracks, kept, people, scale)
            parts = np.where(alone, 0, parts).astype(np.uint8)
        cover, legend = _numbered(parts, tracks)
        fills = [Fill(effects[part], part, track) for part, track in legend]
        zones = self.zones.covers(size_wh, map_wh, shown_s)
        if zones is not None:
            fills.append(Fill(effects[Label.BACKGROUND], Label.BACKGROUND, 0))
            cover[zones] = len(fills)
        return CoverPlan(frame_id, size_wh, cover, tuple(fills), left_alone)


def _numbered(
    parts: NDArray[np.uint8], tracks: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], list[tuple[Label, int]]]:
    """Returns a map of numbers from 1, and the part and the track that each of them means."""
    cover = np.zeros(parts.shape, np.uint8)
    x, y, w, h = cv2.boundingRect(parts)
    inside = slice(y, y + h), slice(x, x + w)
    hidden = parts[inside]
    pairs = np.where(hidden > 0, tracks[inside], 0).astype(np.uint16)
    pairs |= hidden.astype(np.uint16) << np.uint16(8)
    legend = _values(pairs)
    if len(legend) >= _LAST_FILL:  # too many to tell apart: one fill a part will do
        pairs &= 0xFF00
        legend = _values(pairs)
    window = cover[inside]
    for number, pair in enumerate(legend, start=1):
        window[pairs == pair] = number
    return cover, [(Label(pair >> 8), pair & 0xFF) for pair in legend]


def _alone(
    parts: NDArray[np.uint8],
    tracks: NDArray[np.uint8],
    kept: NDArray[np.bool_],
    people: Sequence[Person],
    scale: tuple[float, float],
) -> tuple[NDArray[np.bool_], int]:
    """Returns the cells of people who are wholly in `kept`, and how many they are.

    Everything that is covered of them lies there, and touches nobody's cover that does not: where
    two covers meet a map does not say whose head a cell hides. Of who is partly outside, nothing
    in the whole box is left alone.

    Args:
        parts: see `Policy.plan`.
        tracks: see there.
        people: see there.
        kept: (h, w) bool.
        scale: cells in a pixel, across and down.
    """
    hidden = parts > 0
    if not (hidden & kept).any():
        return np.zeros(parts.shape, np.bool_), 0
    count, pieces = cv2.connectedComponents(hidden.astype(np.uint8), connectivity=8)
    links = np.unique(pieces[hidden].astype(np.int64) << 8 | tracks[hidden])
    piece, track = links >> 8, links & 0xFF
    outside = np.zeros(count, np.bool_)
    outside[pieces[hidden & ~kept]] = True
    boxes = [(mark, pieces[_cells_of(box, scale)]) for mark, box in people]
    while True:
        before = int(outside.sum())
        marked = np.zeros(256, np.bool_)
        marked[track[outside[piece]]] = True
        outside[piece[marked[track]]] = True
        for mark, inside in boxes:
            if marked[mark]:
                outside[inside] = True
        outside[0] = False  # what is clear belongs to nobody
        if int(outside.sum()) == before:
            break
    alone = hidden & ~outside[pieces]
    return alone, len(np.unique(tracks[alone]))


def _cells_of(
    box: tuple[float, float, float, float], scale: tuple[float, float]
) -> tuple[slice, slice]:
    """Returns the rows and columns of a map that a box in pixels touches."""
    (x1, y1, x2, y2), (across, down) = box, scale
    return (
        slice(max(0, math.floor(y1 * down)), max(0, math.ceil(y2 * down))),
        slice(max(0, math.floor(x1 * across)), max(0, math.ceil(x2 * across))),
    )


def _values(array: NDArray[np.uint8] | NDArray[np.uint16]) -> list[int]:
    """The distinct values but 0, ascending."""
    counts = np.bincount(array.ravel())
    return [int(value) for value in np.flatnonzero(counts) if value]
