"""Video made of photographed people on empty rooms: where every head is, is known exactly.

People are cut out of the Clothing Co-Parsing photos (Yang, Luo, Lin, CVPR 2014), whose pixels are
labelled; the rooms are empty frames of two clips and the photos' own streets, blurred. A scene is
rendered frame by frame from its seed; nothing is written.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SCENES",
    "Actor",
    "Cutout",
    "Half",
    "Place",
    "Scene",
    "Shot",
    "Stage",
    "Truth",
    "build",
    "cut_out",
    "panel",
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


@dataclass(frozen=True, eq=False)
class Cutout:
    """Somebody or something to put into a picture.

    Attributes:
        ink: (h, w, 4) float32, BGR times weight, and the weight 0..1.
        zones: (h, w, 2) float32, weights of the head and of hair below the chin (which counts
            neither as head nor as needlessly covered).
        person: False for things.
    """

    ink: F32
    zones: F32
    person: bool = True

    def scaled(self, height: int) -> tuple[F32, F32]:
        """Returns `ink` and `zones` at `height` pixels."""
        return _scaled(self, height)


@lru_cache(maxsize=64)
def _scaled(cutout: Cutout, height: int) -> tuple[F32, F32]:
    rows, columns = cutout.ink.shape[:2]
    size = max(1, round(columns * height / rows)), max(1, height)
    how = cv2.INTER_AREA if height < rows else cv2.INTER_LINEAR
    ink = np.asarray(cv2.resize(cutout.ink, size, interpolation=how), np.float32)
    return ink, np.asarray(cv2.resize(cutout.zones, size, interpolation=how), np.float32)


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


@dataclass(frozen=True)
class Shot:
    """Frames between two cuts; later actors stand before earlier ones."""

    background: U8
    frames: int
    actors: tuple[Actor, ...] = ()
    camera: Callable[[float], View] = _at_rest
    gain: float = 1.0


@dataclass(frozen=True, eq=False)
class Truth:
    """One frame and what is in it.

    Attributes:
        bgr: (H, W, 3) uint8.
        heads: one (H, W) bool mask a visible head.
        people: (H, W) bool, anybody.
        aside: (H, W) bool, hair below the chin.
    """

    bgr: U8
    heads: tuple[Bool, ...]
    people: Bool
    aside: Bool


@dataclass(frozen=True)
class Scene:
    """Shots one after the other. `render` gives the same frame for the same number, always."""

    name: str
    seed: int
    shots: tuple[Shot, ...]

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return sum(shot.frames for shot in self.shots)

    def render(self, index: int) -> Truth:
        """Returns frame `index`, 0 to `frames` - 1."""
        time = index
        for shot in self.shots:
            if time < shot.frames:
                return _render(shot, time, np.random.default_rng((self.seed, index)))
            time -= shot.frames
        raise IndexError(f"scene {self.name} has {self.frames} frames, asked for {index}")


def _render(shot: Shot, time: int, rng: np.random.Generator) -> Truth:
    width, height = SIZE_WH
    picture = _backdrop(shot.background, shot.camera(time)).astype(np.float32)
    heads: list[F32] = []
    people = np.zeros((height, width), np.float32)
    aside = np.zeros((height, width), np.float32)
    for actor in shot.actors:
        drawn = _draw(actor, shot.camera, time)
        if drawn is None:
            continue
        box, ink, zones = drawn
        rest = 1 - ink[..., 3]
        picture[box] = picture[box] * rest[..., None] + ink[..., :3]
        for layer in (*heads, people, aside):
            layer[box] *= rest  # what stands in front hides
        if actor.cutout.person:
            people[box] += ink[..., 3]
            aside[box] += zones[..., 1]
            head = np.zeros((height, width), np.float32)
            head[box] = zones[..., 0]
            heads.append(head)
    picture *= shot.gain
    noise = rng.standard_normal((height // 2, width // 2, 3), np.float32) * NOISE_LEVELS
    # One draw for four quadrants, mirrored: noise is what costs most here.
    half = np.concatenate([noise, noise[:, ::-1]], axis=1)
    picture += np.concatenate([half, half[::-1]], axis=0)
    seen = tuple(head >= VISIBLE for head in heads)
    return Truth(
        np.clip(np.rint(picture), 0, 255).astype(np.uint8),
        tuple(head for head in seen if head.any()),
        people >= VISIBLE,
        aside >= VISIBLE,
    )


def _backdrop(background: U8, view: View) -> U8:
    scale = OVERSCAN * SIZE_WH[0] / background.shape[1] * view.zoom
    middle = background.shape[1] / 2, background.shape[0] / 2
    x = SIZE_WH[0] / 2 - (view.x - SIZE_WH[0] / 2) * view.zoom
    y = SIZE_WH[1] / 2 - (view.y - SIZE_WH[1] / 2) * view.zoom
    move = np.asarray(
        [[scale, 0, x - scale * middle[0]], [0, scale, y - scale * middle[1]]], np.float32
    )
    warped = cv2.warpAffine(
        background, move, SIZE_WH, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(warped, np.uint8)


def _draw(
    actor: Actor, camera: Callable[[float], View], time: float
) -> tuple[tuple[slice, slice], F32, F32] | None:
    """Returns the part of the picture that the actor takes, with ink and zones for it."""
    place = actor.path(time)
    if place is None:
        return None
    seen = camera(time).sees(place)
    before, after = actor.path(time - SHUTTER / 2), actor.path(time + SHUTTER / 2)
    dx = dy = 0.0
    if before is not None and after is not None:
        first = camera(time - SHUTTER / 2).sees(before)
        last = camera(time + SHUTTER / 2).sees(after)
        dx, dy = last.x - first.x, last.feet - first.feet
    ink, zones = actor.cutout.scaled(round(seen.height))
    rows, columns = ink.shape[:2]
    reach = int(np.ceil(max(abs(dx), abs(dy)))) + 2
    left, top = seen.x - columns / 2, seen.feet - rows
    x0, y0 = int(np.floor(left)) - reach, int(np.floor(top)) - reach
    x1, y1 = x0 + columns + 2 * reach + 1, y0 + rows + 2 * reach + 1
    box = (
        slice(max(0, y0), max(0, min(SIZE_WH[1], y1))),
        slice(max(0, x0), max(0, min(SIZE_WH[0], x1))),
    )
    if box[0].start >= box[0].stop or box[1].start >= box[1].stop:
        return None
    move = np.asarray([[1, 0, left - x0], [0, 1, top - y0]], np.float32)
    inner = (
        slice(box[0].start - y0, box[0].stop - y0),
        slice(box[1].start - x0, box[1].stop - x0),
    )
    layers = []
    for layer in (ink, zones):
        moved = cv2.warpAffine(layer, move, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        if np.hypot(dx, dy) > 1:
            moved = cv2.filter2D(moved, -1, _streak(dx, dy), borderType=cv2.BORDER_CONSTANT)
        layers.append(np.asarray(moved, np.float32)[inner])
    return box, layers[0], layers[1]


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
    crown = np.isin(labels, [names.index(n) for n in ("hair", "hat", "glasses", "sunglasses")])
    above = (np.arange(len(labels)) < HEAD_SHARE * len(labels))[:, None]
    head = above & (crown | (labels == names.index("skin")))
    weight = np.asarray(cv2.GaussianBlur(person.astype(np.float32), (0, 0), 0.8), np.float32)
    ink = np.dstack([photo.astype(np.float32) * weight[..., None], weight])
    zones = np.dstack([head, crown & ~above]).astype(np.float32) * weight[..., None]
    if mirrored:
        ink, zones = ink[:, ::-1], zones[:, ::-1]
    return Cutout(np.ascontiguousarray(ink), np.ascontiguousarray(zones))


def panel(size_wh: tuple[int, int], rng: np.random.Generator) -> Cutout:
    """Returns an opaque textured board."""
    width, height = size_wh
    coarse = rng.integers(60, 130, (height // 40 + 1, width // 40 + 1, 3), np.uint8)
    paint = np.asarray(cv2.resize(coarse, size_wh, interpolation=cv2.INTER_LINEAR), np.float32)
    ink = np.dstack([paint, np.ones((height, width), np.float32)])
    return Cutout(ink.astype(np.float32), np.zeros((height, width, 2), np.float32), person=False)


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
        self._half = half
        photos = (data / "ccp" / "photos").glob("*.jpg")
        numbers = sorted(int(photo.stem) for photo in photos)
        self._numbers = [number for number in numbers if number % 5 in RESIDUES[half]]
        if not self._numbers:
            raise FileNotFoundError(f"no photos in {data / 'ccp' / 'photos'}")
        self._names = (data / "ccp" / "labels.txt").read_text().split()

    def person(self, *, profile: bool = False) -> Cutout:
        """Returns somebody; with `profile`, somebody who looks aside."""
        number = int(self.rng.choice(PROFILES[self._half] if profile else self._numbers))
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
