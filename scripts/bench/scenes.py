"""Video made of photographed people on empty rooms: where every head is, is known exactly.

People are cut out of the Clothing Co-Parsing photos (Yang, Luo, Lin, CVPR 2014), whose pixels are
labelled; the rooms are empty frames of two clips and the photos' own streets, blurred. A scene is
rendered frame by frame from its seed; nothing is written.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "HEAD_PARTS",
    "SCENES",
    "Actor",
    "Cutout",
    "FaceBox",
    "Figure",
    "Film",
    "Half",
    "Known",
    "Part",
    "Place",
    "Scene",
    "Shot",
    "Stage",
    "Truth",
    "build",
    "cut_out",
    "draw_zone",
    "panel",
    "paste_up",
    "stacked",
]

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Bool = NDArray[np.bool_]
Half = Literal["tune", "report"]

RATE: Final = 30
"""Frames a second of every scene."""
SIZE_WH: Final = (1280, 720)
RESIDUES: Final[dict[Half, tuple[int, ...]]] = {"tune": (0, 1, 4), "report": (2,)}
"""Photo ids by their remainder modulo 5; remainder 3 is kept for other measurements."""
PROFILES: Final[dict[Half, tuple[int, ...]]] = {"tune": (285, 326, 801), "report": (202, 292, 407)}
"""Photos of people who look aside, picked by eye."""
HEAD_SHARE: Final = 0.135
"""Crown to chin over a standing person's height. Drawn as a line on 40 of the photos, it lay at
the chin in most; hats and buns move it up, so that a chin may lack, never a neck be added."""
SHUTTER: Final = 0.25
"""Exposure as a share of the frame interval: 1/120 s, a phone indoors."""
VISIBLE: Final = 0.4
"""A pixel shows a head from this weight upwards (edges and motion blur make weights)."""
NOISE_LEVELS: Final = 2.0
"""Standard deviation of the sensor noise, after the gain."""
STREET_BLUR: Final = 40.0
"""Standard deviation in photo pixels: fills the place of the person it removes (about 200 wide)."""
OVERSCAN: Final = 1.4
"""A background is this much larger than the view, for the camera to move on."""
DARK_GAIN: Final = 0.15
GHOST: Final = 0.1
"""In a dissolve, who has less weight than this is not there. From here up to `VISIBLE` somebody
may be covered and need not be."""
KEPT_PIXELS: Final = 1920 * 1080
"""Pictures of more are not kept in memory."""
ZONE_FACES_WH: Final = (2.6, 3.0)
ABOVE: Final = 0.12
"""What lies beyond an ellipse of so many face widths by face heights, centred so many face heights
above the face's centre, is outside a head. Source: `research/every_frame.md`."""
HEAD_FACES_WH: Final = (1.5, 1.7)
"""A head in face widths and heights. Source: as above."""


class Part(IntEnum):
    """What a pixel of a person shows, as far as the truth knows."""

    NOBODY = 0
    BODY = 1
    FACE = 2  # glasses included
    HAIR = 3  # above the chin
    HAT = 4
    LONG_HAIR = 5  # below the chin
    SKIN = 6  # of anything but the face
    LEGWEAR = 7  # trousers, shorts, skirts
    HEAD = 8  # of which no more is known
    MAYBE = 9  # perhaps somebody: counts as nobody under `face` and `head`, else not at all


HEAD_PARTS: Final = (Part.FACE, Part.HAIR, Part.HAT, Part.HEAD)
ZONES: Final = (
    Part.FACE,
    Part.HAIR,
    Part.HAT,
    Part.LONG_HAIR,
    Part.SKIN,
    Part.LEGWEAR,
    Part.HEAD,
    Part.MAYBE,
)
"""The order of a cut-out's zones."""
_WHOLE: Final = len(ZONES)
"""Where a figure's layers hold the weight of the person as a whole."""
_HEAD_ZONES: Final = [ZONES.index(part) for part in HEAD_PARTS]


@dataclass(frozen=True, eq=False)
class Cutout:
    """Somebody or something to put into a picture.

    Attributes:
        ink: (h, w, 4) float32, BGR times weight, and the weight 0..1.
        zones: (h, w, 8) float32, weights of the parts in the order of `ZONES`.
        person: False for things.
        labelled: False where skin and clothes are not told apart (`Part.BODY` is all of them).
    """

    ink: F32
    zones: F32
    person: bool = True
    labelled: bool = True

    def scaled(self, height: int) -> tuple[F32, F32]:
        """Returns `ink` and `zones` at `height` pixels."""
        return _scaled(self, height)


@lru_cache(maxsize=128)
def _scaled(cutout: Cutout, height: int) -> tuple[F32, F32]:
    rows, columns = cutout.ink.shape[:2]
    size = max(1, round(columns * height / rows)), max(1, height)
    how = cv2.INTER_AREA if height < rows else cv2.INTER_LINEAR
    ink = np.asarray(cv2.resize(cutout.ink, size, interpolation=how), np.float32)
    return ink, _by_fours(cutout.zones, lambda layer: cv2.resize(layer, size, interpolation=how))


def _by_fours(layers: F32, change: Callable[[F32], Any]) -> F32:
    """Returns `layers`, (h, w, n), changed by a function that takes up to four of them."""
    changed = [
        _layered(change(np.ascontiguousarray(layers[..., k : k + 4])))
        for k in range(0, layers.shape[2], 4)
    ]
    return np.concatenate(changed, axis=2)


def _layered(layer: F32) -> F32:
    """Returns (h, w, n) for the (h, w) that OpenCV makes of one layer."""
    return layer if layer.ndim == 3 else layer[..., None]


@dataclass(frozen=True)
class Place:
    """Where somebody stands: centre and feet in world pixels, and the height."""

    x: float
    feet: float
    height: float


@dataclass(frozen=True)
class Actor:
    """A cut-out and its path: frame number of the shot (also between frames) to place."""

    cutout: Cutout
    path: Callable[[float], Place | None]


@dataclass(frozen=True)
class View:
    """The camera: the world point in the middle of the picture, and the zoom."""

    x: float = SIZE_WH[0] / 2
    y: float = SIZE_WH[1] / 2
    zoom: float = 1.0

    def sees(self, place: Place) -> Place:
        """Returns `place` in picture coordinates."""
        return Place(
            (place.x - self.x) * self.zoom + SIZE_WH[0] / 2,
            (place.feet - self.y) * self.zoom + SIZE_WH[1] / 2,
            place.height * self.zoom,
        )


def _at_rest(time: float) -> View:
    del time
    return View()


def _even(time: float) -> tuple[float, float, float]:
    del time
    return 1.0, 1.0, 1.0


@dataclass(frozen=True)
class Known:
    """Who is in a background picture.

    Attributes:
        people: (h, w, 9) float32 a person, weights of the parts in the order of `ZONES`, then of
            the whole person; each with the x and y of its box in the picture.
        ignore: (h, w) bool, people of whom nothing exact is known.
    """

    people: tuple[tuple[F32, tuple[int, int]], ...]
    ignore: Bool


@dataclass(frozen=True)
class Shot:
    """Frames between two cuts; later actors stand before earlier ones.

    Attributes:
        lamp: gain of blue, green and red by frame number.
        known: who is in the background.
        mixed_in: of the frames, how many show the shot before, too, as it fades out.
        overscan: how much larger than the view the background is.
    """

    background: U8
    frames: int
    actors: tuple[Actor, ...] = ()
    camera: Callable[[float], View] = _at_rest
    gain: float = 1.0
    lamp: Callable[[float], tuple[float, float, float]] = _even
    known: Known | None = None
    mixed_in: int = 0
    overscan: float = OVERSCAN


@dataclass(frozen=True)
class FaceBox:
    """Where a face is, or would be if it were turned here: centre and size in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class Figure:
    """One person of one frame.

    Attributes:
        person: the same number as long as it is the same person.
        rows, columns: the box of the picture that `parts` fills.
        parts: (h, w) uint8, the `Part` that each pixel shows; what is hidden behind something or
            somebody is `Part.NOBODY`.
        face: as if nothing stood before it; None for who has no head in the truth.
        labelled: False where `Part.BODY` is all of the body.
    """

    person: int
    rows: slice
    columns: slice
    parts: U8
    face: FaceBox | None = None
    labelled: bool = True

    def of(self, parts: Iterable[Part]) -> Bool:
        """Returns (h, w) bool, where the box shows one of `parts`."""
        return np.asarray(_table(tuple(parts))[self.parts], np.bool_)


@lru_cache(maxsize=32)
def _table(parts: tuple[Part, ...]) -> Bool:
    table = np.zeros(256, np.bool_)
    table[list(parts)] = True
    return table


@dataclass(frozen=True, eq=False)
class Truth:
    """One frame and what is in it.

    Attributes:
        pixels: (H, W, 3) uint8, or what makes them again (large pictures are not kept).
        size_wh: of the picture.
        figures: everybody.
        ignore: (H, W) bool, what counts neither as somebody nor as nobody; None for nothing.
        turn: quarters clockwise by which the frame is turned for whoever is measured; everything
            here is told of the frame before that.
    """

    pixels: U8 | Callable[[], U8]
    size_wh: tuple[int, int]
    figures: tuple[Figure, ...] = ()
    ignore: Bool | None = None
    turn: int = 0

    @property
    def bgr(self) -> U8:
        """(H, W, 3) uint8."""
        return self.pixels() if callable(self.pixels) else self.pixels

    @property
    def shown(self) -> U8:
        """(H, W, 3) or (W, H, 3) uint8, the frame as whoever is measured sees it."""
        return np.ascontiguousarray(np.rot90(self.bgr, -self.turn))

    @property
    def shown_wh(self) -> tuple[int, int]:
        """Width and height of `shown`."""
        return self.size_wh[::-1] if self.turn % 2 else self.size_wh

    @property
    def heads(self) -> tuple[Bool, ...]:
        """One (H, W) bool mask a visible head."""
        heads = (self.mask(HEAD_PARTS, figure) for figure in self.figures)
        return tuple(head for head in heads if head.any())

    @property
    def people(self) -> Bool:
        """(H, W) bool, anybody, also who is perhaps there."""
        return self.mask([part for part in Part if part])

    @property
    def aside(self) -> Bool:
        """(H, W) bool, hair below the chin."""
        return self.mask([Part.LONG_HAIR])

    def mask(self, parts: Iterable[Part], *only: Figure) -> Bool:
        """Returns (H, W) bool, where somebody (of `only`, if given) shows one of `parts`."""
        wanted = tuple(parts)
        found = np.zeros(self.size_wh[::-1], np.bool_)
        for figure in only or self.figures:
            found[figure.rows, figure.columns] |= figure.of(wanted)
        return found


@dataclass(frozen=True)
class Scene:
    """Shots one after the other. `render` gives the same frame for the same number, always.

    Attributes:
        scale: pixels of the picture a pixel of `SIZE_WH`, in which everything is told.
        turn: see `Truth`.
    """

    name: str
    seed: int
    shots: tuple[Shot, ...]
    scale: float = 1.0
    turn: int = 0

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return sum(shot.frames - shot.mixed_in for shot in self.shots)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the picture, both even."""
        return (
            2 * round(SIZE_WH[0] * self.scale / 2),
            2 * round(SIZE_WH[1] * self.scale / 2),
        )

    def render(self, index: int) -> Truth:
        """Returns frame `index`, 0 to `frames` - 1."""
        if not 0 <= index < self.frames:
            raise IndexError(f"scene {self.name} has {self.frames} frames, asked for {index}")
        first = 0
        layers: list[tuple[float, _Layers]] = []
        for number, shot in enumerate(self.shots):
            first -= shot.mixed_in
            time = index - first
            if 0 <= time < shot.frames:
                share = min(1.0, (time + 1) / (shot.mixed_in + 1))
                layers = [(weight * (1 - share), layer) for weight, layer in layers if share < 1]
                layers.append((share, _paint(shot, time, self.size_wh, self.scale, number)))
            first += shot.frames
        truth = _finish(layers, self.size_wh, np.random.default_rng((self.seed, index)))
        return replace(truth, turn=self.turn)


class Film(Sequence[Truth]):
    """The frames of a scene, each rendered once; pictures of more than 1080p, whenever asked."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._known: dict[int, Truth] = {}
        self._last: tuple[int, U8] = -1, np.zeros((0, 0, 3), np.uint8)

    def __len__(self) -> int:
        return self.scene.frames

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if index not in self._known:
            self._known[index] = self._keep(self.scene.render(index), index)
        return self._known[index]

    def _keep(self, truth: Truth, index: int) -> Truth:
        if truth.size_wh[0] * truth.size_wh[1] <= KEPT_PIXELS:
            return truth
        self._last = index, truth.bgr
        return replace(truth, pixels=lambda: self._again(index))

    def _again(self, index: int) -> U8:
        known, pixels = self._last
        return pixels if known == index else self.scene.render(index).bgr


@dataclass(eq=False)
class _Drawn:
    """Somebody in a box of the picture: (h, w, 9) float32 weights of the parts and the whole."""

    person: int
    box: tuple[slice, slice]
    weights: F32
    face: FaceBox | None
    labelled: bool


@dataclass(eq=False)
class _Layers:
    """A shot's picture before noise, (H, W, 3) float32, and who is in it."""

    picture: F32
    drawn: list[_Drawn]
    ignore: Bool | None


def _paint(shot: Shot, time: int, size_wh: tuple[int, int], scale: float, number: int) -> _Layers:
    view = shot.camera(time)
    move = _backdrop_move(shot, view, scale)
    picture = _warped(shot.background, move, size_wh).astype(np.float32)
    drawn: list[_Drawn] = []
    ignore = None
    if shot.known is not None:
        for one, (weights, origin_xy) in enumerate(shot.known.people):
            drawn += _seen(weights, origin_xy, move, size_wh, person=100 * number + 50 + one)
        hidden = _warped(shot.known.ignore.astype(np.uint8), move, size_wh)
        ignore = np.asarray(hidden, np.bool_)
    cutouts = [actor.cutout for actor in shot.actors]
    for actor in shot.actors:
        inked = _draw(actor, shot.camera, time, size_wh, scale)
        if inked is None:
            continue
        box, ink, zones, face = inked
        rest = 1 - ink[..., 3]
        picture[box] = picture[box] * rest[..., None] + ink[..., :3]
        for other in drawn:  # what stands in front hides
            _hide(other, box, rest)
        if ignore is not None:
            ignore[box] &= rest > VISIBLE
        if actor.cutout.person:
            weights = np.concatenate([zones, ink[..., 3:]], axis=2)
            person = 100 * number + cutouts.index(actor.cutout)
            drawn.append(_Drawn(person, box, weights, face, actor.cutout.labelled))
    gains = [shot.gain * part for part in shot.lamp(time)]
    if gains != [1.0, 1.0, 1.0]:
        picture *= np.asarray(gains, np.float32)
    return _Layers(picture, drawn, ignore)


def _seen(
    weights: F32, origin_xy: tuple[int, int], move: F32, size_wh: tuple[int, int], person: int
) -> list[_Drawn]:
    """Returns who is in the background, none if beyond the picture."""
    height, width = weights.shape[:2]
    first = move @ (*origin_xy, 1)
    last = move @ (origin_xy[0] + width, origin_xy[1] + height, 1)
    x0, y0 = np.floor(first).astype(int) - 1
    x1, y1 = np.ceil(last).astype(int) + 1
    rows = slice(max(0, int(y0)), min(size_wh[1], int(y1)))
    columns = slice(max(0, int(x0)), min(size_wh[0], int(x1)))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return []
    own = move.copy()
    own[:, 2] = first - (x0, y0)
    moved = _by_fours(
        weights, lambda layer: cv2.warpAffine(layer, own, (int(x1 - x0), int(y1 - y0)))
    )
    face = _face_box(moved, (int(x0), int(y0)))
    inner = moved[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
    return [_Drawn(person, (rows, columns), inner.copy(), face, labelled=False)]


def _hide(other: _Drawn, box: tuple[slice, slice], rest: F32) -> None:
    both = [
        slice(max(mine.start, theirs.start), min(mine.stop, theirs.stop))
        for mine, theirs in zip(other.box, box, strict=True)
    ]
    if any(part.start >= part.stop for part in both):
        return
    mine, theirs = (
        tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(both, whose, strict=True))
        for whose in (other.box, box)
    )
    other.weights[mine] *= rest[theirs][..., None]


def _finish(
    layers: Sequence[tuple[float, _Layers]], size_wh: tuple[int, int], rng: np.random.Generator
) -> Truth:
    """Returns the mix of shots, with noise, and who can be seen in it."""
    width, height = size_wh
    picture = np.zeros((height, width, 3), np.float32)
    figures: list[Figure] = []
    ignore = np.zeros((height, width), np.uint8)
    for share, layer in layers:
        picture += layer.picture if share == 1 else share * layer.picture
        if layer.ignore is not None and share >= GHOST:
            ignore |= layer.ignore.astype(np.uint8)
        for one in layer.drawn:
            weights = one.weights if share == 1 else share * one.weights
            parts = _parts(weights)
            if parts.any():
                figures.append(Figure(one.person, *one.box, parts, one.face, one.labelled))
            elif share < 1:  # who is seen faintly may be covered, and need not be
                ghost = weights[..., _WHOLE] >= GHOST
                ignore[one.box] |= ghost.astype(np.uint8)
                if one.face is not None and ghost.any():
                    draw_zone(ignore, one.face)
    noise = rng.standard_normal((height // 2, width // 2, 3), np.float32) * NOISE_LEVELS
    # One draw for four quadrants, mirrored: noise is what costs most here.
    half = np.concatenate([noise, noise[:, ::-1]], axis=1)
    picture += np.concatenate([half, half[::-1]], axis=0)
    return Truth(
        np.clip(np.rint(picture), 0, 255).astype(np.uint8),
        size_wh,
        tuple(figures),
        ignore > 0 if ignore.any() else None,
    )


def _parts(weights: F32) -> U8:
    """Returns (h, w) uint8 `Part` from (h, w, 9) weights; a part shows from `VISIBLE` upwards."""
    parts = np.where(weights[..., _WHOLE] >= VISIBLE, Part.BODY, Part.NOBODY).astype(np.uint8)
    for part in (Part.MAYBE, Part.LEGWEAR, Part.SKIN, Part.LONG_HAIR):
        parts[weights[..., ZONES.index(part)] >= VISIBLE] = part
    heads = weights[..., _HEAD_ZONES]
    seen = heads.sum(axis=2) >= VISIBLE
    names = np.asarray(HEAD_PARTS, np.uint8)
    parts[seen] = names[heads[seen].argmax(axis=1)]
    return parts


def _face_box(zones: F32, origin_xy: tuple[int, int]) -> FaceBox | None:
    """Returns the box of the face in (h, w, 8 or more) weights, or of where it would be.

    The largest connected piece of face counts (a hand beside a face is skin, too). A head without
    a face is taken for 1.5 face widths by 1.7 face heights around a point .12 face heights above
    the face's centre (shares as in `research/every_frame.md`'s tables).
    """
    x0, y0 = origin_xy
    face = (zones[..., ZONES.index(Part.FACE)] >= VISIBLE).astype(np.uint8)
    if face.any():
        _, _, stats, _ = cv2.connectedComponentsWithStats(face)
        left, top, width, height, _ = (int(v) for v in stats[1 + stats[1:, -1].argmax()])
        return FaceBox(x0 + left + width / 2, y0 + top + height / 2, width, height)
    head = (zones[..., _HEAD_ZONES].sum(axis=2) >= VISIBLE).astype(np.uint8)
    if not head.any():
        return None
    left, top, width, height = cv2.boundingRect(head)
    face_height = height / HEAD_FACES_WH[1]
    return FaceBox(
        x0 + left + width / 2,
        y0 + top + height / 2 + ABOVE * face_height,
        width / HEAD_FACES_WH[0],
        face_height,
    )


def draw_zone(picture: U8, face: FaceBox) -> None:
    """Writes 1 into (H, W) uint8 where a cover of this face's head may be."""
    centre = face.x, face.y - ABOVE * face.height
    size = ZONE_FACES_WH[0] * face.width, ZONE_FACES_WH[1] * face.height
    cv2.ellipse(picture, (centre, size, 0.0), 1, -1)


def _backdrop_move(shot: Shot, view: View, scale: float) -> F32:
    """Returns the (2, 3) transform from background to picture."""
    size = shot.background.shape[1], shot.background.shape[0]
    # So that the whole view is filled, whatever the background's shape.
    wide = max(SIZE_WH[0] / size[0], SIZE_WH[1] / size[1])
    enlarged = shot.overscan * wide * view.zoom
    x = SIZE_WH[0] / 2 - (view.x - SIZE_WH[0] / 2) * view.zoom
    y = SIZE_WH[1] / 2 - (view.y - SIZE_WH[1] / 2) * view.zoom
    return np.asarray(
        [
            [enlarged * scale, 0, scale * (x - enlarged * size[0] / 2)],
            [0, enlarged * scale, scale * (y - enlarged * size[1] / 2)],
        ],
        np.float32,
    )


def _warped(layer: Any, move: F32, size_wh: tuple[int, int]) -> Any:
    return cv2.warpAffine(
        layer, move, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def _draw(
    actor: Actor,
    camera: Callable[[float], View],
    time: float,
    size_wh: tuple[int, int],
    scale: float,
) -> tuple[tuple[slice, slice], F32, F32, FaceBox | None] | None:
    """Returns the part of the picture that the actor takes, with ink and zones for it."""

    def seen_at(moment: float) -> Place | None:
        place = actor.path(moment)
        if place is None:
            return None
        seen = camera(moment).sees(place)
        return Place(scale * seen.x, scale * seen.feet, scale * seen.height)

    seen = seen_at(time)
    if seen is None:
        return None
    first, last = seen_at(time - SHUTTER / 2), seen_at(time + SHUTTER / 2)
    dx = dy = 0.0
    if first is not None and last is not None:
        dx, dy = last.x - first.x, last.feet - first.feet
    ink, zones = actor.cutout.scaled(round(seen.height))
    rows, columns = ink.shape[:2]
    reach = int(np.ceil(max(abs(dx), abs(dy)))) + 2
    left, top = seen.x - columns / 2, seen.feet - rows
    x0, y0 = int(np.floor(left)) - reach, int(np.floor(top)) - reach
    x1, y1 = x0 + columns + 2 * reach + 1, y0 + rows + 2 * reach + 1
    box = (
        slice(max(0, y0), max(0, min(size_wh[1], y1))),
        slice(max(0, x0), max(0, min(size_wh[0], x1))),
    )
    if box[0].start >= box[0].stop or box[1].start >= box[1].stop:
        return None
    move = np.asarray([[1, 0, left - x0], [0, 1, top - y0]], np.float32)
    inner = (
        slice(box[0].start - y0, box[0].stop - y0),
        slice(box[1].start - x0, box[1].stop - x0),
    )

    def moved(layer: F32) -> F32:
        shifted = cv2.warpAffine(layer, move, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        if np.hypot(dx, dy) > 1:
            shifted = cv2.filter2D(shifted, -1, _streak(dx, dy), borderType=cv2.BORDER_CONSTANT)
        return np.asarray(shifted, np.float32).reshape(y1 - y0, x1 - x0, -1)

    inked = moved(ink)[inner]
    whole = _by_fours(zones, moved)
    return box, inked, whole[inner], _face_box(whole, (x0, y0))


def _streak(dx: float, dy: float) -> F32:
    """Returns the kernel that smears by (dx, dy) pixels, centred."""
    reach = int(np.ceil(max(abs(dx), abs(dy)) / 2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for part in np.linspace(-0.5, 0.5, 8 * reach + 1):
        kernel[round(reach + part * dy), round(reach + part * dx)] += 1
    return np.asarray(kernel / kernel.sum(), np.float32)


# --- what scenes are made of ---


def cut_out(photo: U8, labels: U8, names: list[str], *, mirrored: bool = False) -> Cutout:
    """Returns the person of a labelled photo; see `HEAD_SHARE` for where its head ends."""
    person = labels > 0
    rows, columns = np.nonzero(person)
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    person, labels, photo = person[box], labels[box], photo[box]
    above = (np.arange(len(labels)) < HEAD_SHARE * len(labels))[:, None]

    def named(*wanted: str) -> Bool:
        return np.isin(labels, [names.index(name) for name in wanted if name in names])

    glasses, hat, hair = named("glasses", "sunglasses"), named("hat"), named("hair")
    skin = named("skin")
    zones = {
        Part.FACE: above & (skin | glasses),
        Part.HAIR: above & hair,
        Part.HAT: above & hat,
        Part.LONG_HAIR: ~above & (hair | hat | glasses),
        Part.SKIN: ~above & skin,
        Part.LEGWEAR: named("jeans", "leggings", "pants", "shorts", "skirt"),
    }
    return paste_up(photo, person, zones, mirrored=mirrored)


def paste_up(
    photo: U8, person: Bool, zones: Mapping[Part, Bool], *, mirrored: bool, labelled: bool = True
) -> Cutout:
    """Returns a cut-out of `person`, (h, w) bool, with soft edges."""
    weight = np.asarray(cv2.GaussianBlur(person.astype(np.float32), (0, 0), 0.8), np.float32)
    ink = np.dstack([photo.astype(np.float32) * weight[..., None], weight])
    layers = stacked(zones, person) * weight[..., None]
    if mirrored:
        ink, layers = ink[:, ::-1], layers[:, ::-1]
    return Cutout(np.ascontiguousarray(ink), np.ascontiguousarray(layers), labelled=labelled)


def stacked(zones: Mapping[Part, Bool], person: Bool) -> F32:
    """Returns (h, w, 8) float32, 1 where a zone is, in the order of `ZONES`."""
    nowhere = np.zeros_like(person)
    return np.dstack([zones.get(part, nowhere) for part in ZONES]).astype(np.float32)


def panel(size_wh: tuple[int, int], rng: np.random.Generator) -> Cutout:
    """Returns an opaque textured board."""
    width, height = size_wh
    coarse = rng.integers(60, 130, (height // 40 + 1, width // 40 + 1, 3), np.uint8)
    paint = np.asarray(cv2.resize(coarse, size_wh, interpolation=cv2.INTER_LINEAR), np.float32)
    ink = np.dstack([paint, np.ones((height, width), np.float32)])
    return Cutout(
        ink.astype(np.float32), np.zeros((height, width, len(ZONES)), np.float32), person=False
    )


class Stage:
    """Draws people and places for one scene, from its seed.

    Args:
        data: folder with `ccp` and `clips`.
        half: which photos may be used.
        seed: of every choice, with `name`.
        name: of the scene.

    Raises:
        FileNotFoundError: the folder does not hold what is needed.
    """

    def __init__(self, data: Path, half: Half, seed: int, name: str) -> None:
        self.rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
        self._data = data
        self.half = half
        photos = (data / "ccp" / "photos").glob("*.jpg")
        numbers = sorted(int(photo.stem) for photo in photos)
        self._numbers = [number for number in numbers if number % 5 in RESIDUES[half]]
        if not self._numbers:
            raise FileNotFoundError(f"no photos in {data / 'ccp' / 'photos'}")
        self._names = (data / "ccp" / "labels.txt").read_text().split()

    def person(self, *, profile: bool = False) -> Cutout:
        """Returns somebody; with `profile`, somebody who looks aside."""
        number = int(self.rng.choice(PROFILES[self.half] if profile else self._numbers))
        mirrored = bool(self.rng.integers(2))
        return cut_out(*self._photo(number), self._names, mirrored=mirrored)

    def room(self, kind: Literal["room", "hall", "street"]) -> U8:
        """Returns a picture without people."""
        if kind == "room":
            return self._clip_frame("one-by-one-person-detection.mp4", 0)
        if kind == "hall":
            return self._clip_frame("people-detection.gif", 22)
        photo, labels = self._photo(int(self.rng.choice(self._numbers)))
        empty = cv2.dilate((labels > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
        # Blur of the surroundings alone: passers-by become colour, the person leaves no trace.
        weight = cv2.GaussianBlur(empty.astype(np.float32), (0, 0), STREET_BLUR) + 1e-9
        ink = photo * empty[..., None].astype(np.float32)
        blurred = cv2.GaussianBlur(ink, (0, 0), STREET_BLUR)
        return np.asarray(np.clip(blurred / weight[..., None], 0, 255), np.uint8)

    def _photo(self, number: int) -> tuple[U8, U8]:
        folder = self._data / "ccp"
        photo = cv2.imread(str(folder / "photos" / f"{number:04}.jpg"))
        labels = cv2.imread(str(folder / "labels" / f"{number:04}.png"), cv2.IMREAD_UNCHANGED)
        if photo is None or labels is None:
            raise FileNotFoundError(f"photo {number} or its labels cannot be read in {folder}")
        return np.asarray(photo, np.uint8), np.asarray(labels, np.uint8)

    def _clip_frame(self, name: str, index: int) -> U8:
        clip = cv2.VideoCapture(str(self._data / "clips" / name))
        try:
            for _ in range(index + 1):
                found, picture = clip.read()
                if not found:
                    raise FileNotFoundError(f"{name} has no frame {index}")
        finally:
            clip.release()
        return np.asarray(picture, np.uint8)


# --- the scenes; sizes in pixels at 1280x720, a head is about 0.135 of the height ---


def _walk(x: float, speed: float, feet: float, height: float) -> Callable[[float], Place]:
    """A path at `speed` pixels a frame that is at `x` in frame 0, with a step's bobbing."""
    return lambda time: Place(
        x + speed * time, feet + 0.006 * height * np.sin(time * 0.7) * (speed != 0), height
    )


def _between(
    path: Callable[[float], Place], start: float, end: float
) -> Callable[[float], Place | None]:
    return lambda time: path(time) if start - 0.5 <= time < end - 0.5 else None


def _sway(x: float, feet: float, height: float) -> Callable[[float], Place]:
    """Standing: nobody stands quite still."""
    return lambda time: Place(x + 1.5 * np.sin(time * 0.15), feet, height)


def _enter(stage: Stage) -> tuple[Shot, ...]:
    path = _walk(-200 - 7 * 10, 7, 690, 480)
    return (Shot(stage.room("room"), 75, (Actor(stage.person(), path),)),)


def _dash(stage: Stage, gain: float = 1.0) -> tuple[Shot, ...]:
    step = SIZE_WH[0] / 8
    path = _walk(-300 - 14 * step, step, 700, 500)
    return (Shot(stage.room("room"), 50, (Actor(stage.person(), path),), gain=gain),)


def _dash_in_the_dark(stage: Stage) -> tuple[Shot, ...]:
    return _dash(stage, DARK_GAIN)


def _flash(stage: Stage) -> tuple[Shot, ...]:
    first = _between(_sway(420, 690, 480), 17, 20)
    second = _between(_sway(880, 700, 330), 36, 38)
    actors = Actor(stage.person(), first), Actor(stage.person(), second)
    return (Shot(stage.room("hall"), 54, actors),)


def _occluder(stage: Stage) -> tuple[Shot, ...]:
    person = Actor(stage.person(), _sway(640, 690, 520))
    board = Actor(panel((320, 760), stage.rng), _walk(-500, 28, 740, 760))
    return (Shot(stage.room("room"), 66, (person, board)),)


def _cuts(stage: Stage) -> tuple[Shot, ...]:
    near = 240 / HEAD_SHARE  # a head of a third of the picture's height
    wide, street = stage.room("room"), stage.room("street")
    first = Actor(stage.person(), _walk(600, 2, 130 + near, near))
    second = Actor(stage.person(profile=True), _walk(700, -2, 150 + near, near))
    return (
        Shot(wide, 11),
        Shot(street, 19, (first,)),
        Shot(wide, 8),
        Shot(stage.room("hall"), 19, (second,)),
    )


def _crossing(stage: Stage) -> tuple[Shot, ...]:
    far = Actor(stage.person(), _walk(60, 14, 640, 400))
    near = Actor(stage.person(), _walk(1220, -12, 700, 520))
    return (Shot(stage.room("room"), 72, (far, near)),)


def _still_in_the_dark(stage: Stage) -> tuple[Shot, ...]:
    actor = Actor(stage.person(), _sway(500, 680, 400))
    return (Shot(stage.room("room"), 45, (actor,), gain=DARK_GAIN),)


def _far(stage: Stage) -> tuple[Shot, ...]:
    heads = (12, 16, 20)
    actors = tuple(
        Actor(stage.person(), _sway(300 + 320 * rank, 420 + 60 * rank, head / HEAD_SHARE))
        for rank, head in enumerate(heads)
    )
    return (Shot(stage.room("hall"), 45, actors),)


def _moving_camera(stage: Stage) -> tuple[Shot, ...]:
    actor = Actor(stage.person(), _sway(640, 660, 420))

    def camera(time: float) -> View:
        return View(640 + 220 * np.sin(time * 0.09), 360, 1 + 0.3 * np.sin(time * 0.05) ** 2)

    return (Shot(stage.room("room"), 72, (actor,), camera),)


def _re_enter(stage: Stage) -> tuple[Shot, ...]:
    person = stage.person()
    out = Actor(person, _between(_walk(800, 22, 690, 480), 0, 33))
    back = Actor(person, _between(_walk(1480 + 22 * 52, -22, 690, 480), 48, 90))
    return (Shot(stage.room("room"), 84, (out, back)),)


def _lean_in(stage: Stage) -> tuple[Shot, ...]:
    """A head comes up from below the picture, close, and goes again."""
    near = 200 / HEAD_SHARE

    def path(time: float) -> Place:
        risen = np.clip(np.sin((time - 14) * 0.08), 0, 1)
        return Place(560 + time, 740 - 330 * risen + near, near)

    return (Shot(stage.room("street"), 60, (Actor(stage.person(), path),)),)


SCENES: Final[dict[str, Callable[[Stage], tuple[Shot, ...]]]] = {
    "enter": _enter,
    "dash": _dash,
    "dash-dark": _dash_in_the_dark,
    "flash": _flash,
    "occluder": _occluder,
    "cuts": _cuts,
    "crossing": _crossing,
    "still-dark": _still_in_the_dark,
    "far": _far,
    "camera": _moving_camera,
    "re-enter": _re_enter,
    "lean-in": _lean_in,
}


def build(name: str, *, data: Path, half: Half, seed: int) -> Scene:
    """Returns the scene of that name; equal arguments, equal frames.

    Raises:
        FileNotFoundError: `data` does not hold what is needed.
    """
    return Scene(name, seed, SCENES[name](Stage(data, half, seed, name)))
