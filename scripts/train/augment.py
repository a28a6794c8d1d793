"""Training samples: crops of people as the parser will see them, and worse.

A sample is a function of (seed, number) alone, so a run can be resumed at any step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from m2fp_stream.parsers.embedded.boxes import Box
from m2fp_stream.parsers.embedded.classes import PartClass
from m2fp_stream.training.samples import IGNORE

from .photos import Photo

__all__ = [
    "CROP_SHAPES",
    "EARLY_SHAPES",
    "LATE_SHAPES",
    "OUTPUT_STRIDE",
    "Sampler",
    "a_part",
    "crop_matrix",
    "degraded",
    "swap_sides",
    "warped",
    "warped_classes",
]

CROP_SHAPES: Final = ((288, 192), (224, 224))
"""(height, width) of crops: standing people, and upper bodies or heads."""
LATE_SHAPES: Final = ((352, 224), (256, 256))
"""About as large as the parser's own crops."""
EARLY_SHAPES: Final = ((192, 128), (160, 160))
"""The same while training starts: half the pixels, twice the steps in the same time."""
OUTPUT_STRIDE: Final = 2

EMPTY_SHARE: Final = 0.05

_SIDES: Final = (
    (PartClass.LEFT_ARM, PartClass.RIGHT_ARM),
    (PartClass.LEFT_LEG, PartClass.RIGHT_LEG),
    (PartClass.LEFT_SHOE, PartClass.RIGHT_SHOE),
)
_HEAD: Final = (PartClass.HAIR, PartClass.FACE, PartClass.HAT, PartClass.GLASSES)
_SKIN: Final = tuple(range(PartClass.FACE, PartClass.RIGHT_LEG + 1))
_EYES: Final = (2, 5)
"""Centres of the left and right eye among BlazePose's key points."""

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def swap_sides(classes: Bytes) -> Bytes:
    """Returns `classes` with left and right exchanged, as after a mirror."""
    table = np.arange(256, dtype=np.uint8)
    for left, right in _SIDES:
        table[left], table[right] = right, left
    return np.asarray(cv2.LUT(classes, table), np.uint8)


def crop_matrix(
    center: tuple[float, float], scale: float, shape: tuple[int, int], degrees: float = 0.0
) -> NDArray[np.float64]:
    """Returns the 2x3 matrix from picture to crop (pixel centres at integers).

    Args:
        center: of the crop, in the picture; (0, 0) is the corner of the first pixel.
        scale: crop pixels in a picture pixel.
        shape: (height, width) of the crop.
        degrees: turn, clockwise.
    """
    angle = math.radians(degrees)
    c, s = math.cos(angle) * scale, math.sin(angle) * scale
    x, y = center[0] - 0.5, center[1] - 0.5
    height, width = shape
    return np.array(
        [
            [c, -s, (width - 1) / 2 - c * x + s * y],
            [s, c, (height - 1) / 2 - s * x - c * y],
        ]
    )


def warped(picture: Bytes, matrix: NDArray[np.float64], shape: tuple[int, int]) -> Bytes:
    """Warps without aliasing; black outside, as the parser does."""
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    source = picture
    if scale < 0.6:
        height, width = picture.shape[:2]
        wh = (max(1, round(width * 1.5 * scale)), max(1, round(height * 1.5 * scale)))
        source = np.asarray(cv2.resize(picture, wh, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix.copy()
        ratio = np.array([width / wh[0], height / wh[1]])
        matrix[:, 2] += matrix[:, :2] @ (ratio / 2 - 0.5)
        matrix[:, :2] *= ratio
    kind = cv2.INTER_CUBIC if scale > 1.3 else cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(source, matrix, shape[::-1], flags=kind), np.uint8)


def warped_classes(
    classes: Bytes, matrix: NDArray[np.float64], shape: tuple[int, int], stride: int
) -> Bytes:
    """Returns (h/stride, w/stride) classes; what lies outside the picture is background."""
    coarse = matrix.copy()
    coarse[:, 2] = (coarse[:, 2] + 0.5) / stride - 0.5
    coarse[:, :2] /= stride
    size = (shape[1] // stride, shape[0] // stride)
    return np.asarray(cv2.warpAffine(classes, coarse, size, flags=cv2.INTER_NEAREST), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A photograph warped into the crop: full size for pixels and for classes."""

    bgr: Bytes
    classes: Bytes


class Sampler:
    """Draws samples from photographs.

    Args:
        photos: to draw from.
        seed: of the whole run.
        empty_from: the sample from which on some show a place without people.
        places: (h, w, 3) uint8 BGR pictures without people; half of the people are put before one.
        turned: share of samples that are turned by any angle.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        seed: int,
        empty_from: int | None = None,
        *,
        places: Sequence[Bytes] = (),
        turned: float = 0.0,
    ) -> None:
        if not photos:
            raise ValueError("no photographs to draw from")
        self._photos = photos
        self._seed = seed
        self._empty_from = math.inf if empty_from is None else empty_from
        self._heads = [_head_box(photo) for photo in photos]
        self._places = places
        self._turned = turned

    def __call__(self, number: int, shape: tuple[int, int]) -> tuple[Bytes, Bytes]:
        """Returns ((h, w, 3) uint8 RGB, (h/2, w/2) uint8 classes) of sample `number`."""
        rng = np.random.default_rng([self._seed, number])
        if number >= self._empty_from and rng.random() < EMPTY_SHARE:
            bgr, classes = self._background(rng, shape), np.zeros(shape, np.uint8)
        else:
            bgr, classes = self._scene(rng, shape)
        if rng.random() < 0.5:
            bgr, classes = bgr[:, ::-1], swap_sides(np.ascontiguousarray(classes[:, ::-1]))
        bgr = degraded(np.ascontiguousarray(bgr), rng)
        coarse = classes[::OUTPUT_STRIDE, ::OUTPUT_STRIDE]
        return np.ascontiguousarray(bgr[:, :, ::-1]), np.ascontiguousarray(coarse)

    def _scene(self, rng: Generator, shape: tuple[int, int]) -> tuple[Bytes, Bytes]:
        index = int(rng.integers(len(self._photos)))
        main = self._layer(index, self._view(rng, index, shape), rng, shape)
        bgr, classes = main.bgr.copy(), main.classes.copy()
        if rng.random() < (0.5 if self._places else 0.25):
            person = (classes > 0) & (classes != IGNORE)
            background = self._background(rng, shape)
            _paste(background, np.zeros_like(classes), bgr, classes, person)
            bgr = background
            classes = np.where(classes == IGNORE, 0, classes).astype(np.uint8)
        for _ in range(int(rng.choice(3, p=[0.6, 0.28, 0.12]))):
            self._add_person(rng, shape, bgr, classes)
        if rng.random() < 0.12:
            _add_object(rng, bgr, classes)
        return bgr, classes

    def _view(self, rng: Generator, index: int, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Picks where the crop lies."""
        photo, head = self._photos[index], self._heads[index]
        person = photo.person
        height, width = shape
        kind = rng.random()
        tall = height > width
        if head is not None and kind < (0.22 if tall else 0.65):
            # From a face that fills the picture to an upper body.
            side = head.height * math.exp(rng.uniform(math.log(1.0), math.log(5.0)))
            x, y = head.center
            x += rng.uniform(-0.3, 0.3) * side
            y += rng.uniform(-0.2, 0.38) * side
            scale = min(height, width) / side
        elif kind < 0.85:
            margin = math.exp(rng.uniform(math.log(1.0), math.log(1.6)))
            scale = min(height / person.height, width / person.width) / margin
            x, y = person.center
            x += rng.uniform(-0.12, 0.12) * width / scale
            y += rng.uniform(-0.1, 0.1) * height / scale
        else:
            side = person.height * rng.uniform(0.2, 0.8)
            x = rng.uniform(person.x1, person.x2)
            y = rng.uniform(person.y1, person.y2)
            scale = min(height, width) / side
        degrees = rng.normal(0, 7) if rng.random() < 0.5 else 0.0
        if rng.random() < 0.05:
            degrees = rng.uniform(-60, 60)
        if rng.random() < self._turned:
            degrees = rng.uniform(-180, 180)
        return crop_matrix((x, y), scale, shape, degrees)

    def _layer(
        self, index: int, matrix: NDArray[np.float64], rng: Generator, shape: tuple[int, int]
    ) -> _Layer:
        photo = self._photos[index]
        bgr = warped(photo.bgr, matrix, shape)
        classes = warped_classes(photo.classes, matrix, shape, 1)
        points = photo.points @ matrix[:, :2].T + matrix[:, 2] - 0.5 * matrix[:, :2].sum(axis=1)
        if rng.random() < 0.06:
            _wear_mask(rng, bgr, classes)
        if rng.random() < 0.06:
            _wear_sunglasses(rng, bgr, classes, points)
        if rng.random() < 0.3:
            _tone(rng, bgr, classes)
        return _Layer(bgr, classes)

    def _add_person(
        self, rng: Generator, shape: tuple[int, int], bgr: Bytes, classes: Bytes
    ) -> None:
        index = int(rng.integers(len(self._photos)))
        photo, head = self._photos[index], self._heads[index]
        height, width = shape
        current = np.nonzero((classes > 0) & (classes != IGNORE))[0]
        tallness = (np.ptp(current) + 1) if current.size else height
        scale = tallness / photo.person.height * math.exp(rng.uniform(-0.6, 0.3))
        x, y = photo.person.center
        if head is not None and rng.random() < 0.5:
            x, y = head.center
        offset_x = rng.uniform(-0.6, 0.6) * width / scale
        offset_y = rng.uniform(-0.35, 0.35) * height / scale
        matrix = crop_matrix((x + offset_x, y + offset_y), scale, shape, rng.normal(0, 5))
        layer = self._layer(index, matrix, rng, shape)
        if rng.random() < 0.5:
            layer = _Layer(
                np.ascontiguousarray(layer.bgr[:, ::-1]),
                swap_sides(np.ascontiguousarray(layer.classes[:, ::-1])),
            )
        person = (layer.classes > 0) & (layer.classes != IGNORE)
        if rng.random() < 0.5:  # behind everybody who is there
            person &= (classes == 0) | (classes == IGNORE)
        _paste(bgr, classes, layer.bgr, layer.classes, person)

    def _background(self, rng: Generator, shape: tuple[int, int]) -> Bytes:
        """A place without people: part of a photograph beside its person, or shapes and colours."""
        height, width = shape
        if self._places and rng.random() < 0.8:
            place = self._places[int(rng.integers(len(self._places)))]
            return a_part(place, rng, shape)
        if rng.random() < 0.6:
            photo = self._photos[int(rng.integers(len(self._photos)))]
            empty = _emptied(photo)
            side = rng.uniform(0.4, 1.0) * empty.shape[1]
            center = (
                float(rng.uniform(side / 2, empty.shape[1] - side / 2 + 1e-3)),
                float(rng.uniform(side / 2, empty.shape[0] - side / 2)),
            )
            scale = max(shape) / side
            picture = np.asarray(
                cv2.warpAffine(
                    empty,
                    crop_matrix(center, scale, shape),
                    (width, height),
                    flags=cv2.INTER_LINEAR,
                    borderMode=cv2.BORDER_REFLECT_101,
                ),
                np.uint8,
            )
            return np.ascontiguousarray(picture)
        corners = rng.uniform(0, 255, (2, 2, 3)).astype(np.float32)
        if rng.random() < 0.5:  # a wall
            corners = corners.mean(axis=(0, 1)) + rng.normal(0, 15, (2, 2, 3)).astype(np.float32)
        field = cv2.resize(corners.astype(np.float32), (width, height))
        picture = np.clip(field, 0, 255).astype(np.uint8)
        for _ in range(int(rng.integers(0, 12))):
            _draw_shape(rng, picture, None)
        noise = rng.normal(0, rng.uniform(0, 12), shape)
        return np.clip(picture + noise[..., None], 0, 255).astype(np.uint8)


def a_part(place: Bytes, rng: Generator, shape: tuple[int, int]) -> Bytes:
    """Returns a crop of a picture: from an eighth of its shorter side to all of it."""
    height, width = place.shape[:2]
    side = min(height, width) * math.exp(rng.uniform(math.log(0.125), 0.0))
    center = (
        float(rng.uniform(side / 2, width - side / 2 + 1e-3)),
        float(rng.uniform(side / 2, height - side / 2 + 1e-3)),
    )
    matrix = crop_matrix(center, max(shape) / side, shape)
    picture = cv2.warpAffine(
        place, matrix, shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(picture, np.uint8)


def _head_box(photo: Photo) -> Box | None:
    """The box of hair, face, hat and glasses near the face."""
    if photo.face is None:
        return None
    near = photo.face.grown(
        sides=photo.face.width, up=photo.face.height, down=0.4 * photo.face.height
    )
    rows, columns = near.slices((photo.classes.shape[0], photo.classes.shape[1]))
    inside = np.isin(photo.classes[rows, columns], _HEAD)
    ys, xs = np.nonzero(inside)
    if ys.size < 50:
        return None
    return Box(
        float(columns.start + xs.min()),
        float(rows.start + ys.min()),
        float(columns.start + xs.max() + 1),
        float(rows.start + ys.max() + 1),
        1.0,
    )


_empty_cache: dict[str, Bytes] = {}


def _emptied(photo: Photo) -> Bytes:
    """The photograph at a third of its size with its person filled in by the surroundings."""
    found = _empty_cache.get(photo.name)
    if found is not None:
        return found
    wh = (photo.bgr.shape[1] // 3, photo.bgr.shape[0] // 3)
    small = np.asarray(cv2.resize(photo.bgr, wh, interpolation=cv2.INTER_AREA), np.uint8)
    mask = cv2.resize((photo.classes > 0).astype(np.uint8), wh, interpolation=cv2.INTER_AREA)
    mask = cv2.dilate(mask, np.ones((7, 7), np.uint8))
    empty = np.asarray(cv2.inpaint(small, mask, 3, cv2.INPAINT_TELEA), np.uint8)
    _empty_cache[photo.name] = empty
    return empty


def _paste(
    bgr: Bytes, classes: Bytes, top: Bytes, top_classes: Bytes, where: NDArray[np.bool_]
) -> None:
    """Lays `top` over `bgr` in place, with a soft edge a pixel wide."""
    soft = cv2.GaussianBlur(where.astype(np.float32), (0, 0), 0.8)[..., None]
    mixed = bgr + (top.astype(np.float32) - bgr) * soft
    np.copyto(bgr, np.clip(np.rint(mixed), 0, 255).astype(np.uint8))
    classes[where] = top_classes[where]


def _draw_shape(rng: Generator, picture: Bytes, classes: Bytes | None) -> None:
    height, width = picture.shape[:2]
    center = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
    axes = (int(rng.uniform(0.02, 0.35) * width), int(rng.uniform(0.02, 0.35) * height))
    colour = [float(v) for v in rng.uniform(0, 255, 3)]
    shape = np.zeros((height, width), np.uint8)
    if rng.random() < 0.6:
        corners = cv2.boxPoints((center, (2.0 * axes[0], 2.0 * axes[1]), rng.uniform(-30, 30)))
        cv2.fillPoly(shape, [corners.astype(np.int32)], 1)
    else:
        cv2.ellipse(shape, center, axes, rng.uniform(0, 180), 0, 360, 1, -1)
    where = shape > 0
    picture[where] = np.asarray(colour, np.uint8)
    if classes is not None:
        classes[where] = PartClass.BACKGROUND


def _add_object(rng: Generator, bgr: Bytes, classes: Bytes) -> None:
    """Something stands before the person."""
    for _ in range(int(rng.integers(1, 3))):
        _draw_shape(rng, bgr, classes)


def _wear_mask(rng: Generator, bgr: Bytes, classes: Bytes) -> None:
    """Covers the lower face with a cloth; what it hides stays `face`."""
    face = classes == PartClass.FACE
    ys, _ = np.nonzero(face)
    if ys.size < 60:
        return
    top, bottom = np.percentile(ys, [2, 98])
    line = bottom - rng.uniform(0.4, 0.55) * (bottom - top)
    where = face & (np.arange(len(face))[:, None] > line)
    colour = rng.choice([[230, 215, 190], [245, 245, 245], [30, 30, 30], [150, 120, 80]])
    shade = cv2.GaussianBlur(bgr.mean(axis=2).astype(np.float32), (0, 0), 4)
    cloth = colour * (0.6 + 0.4 * shade[..., None] / max(float(shade[where].mean()), 1.0))
    _paste(bgr, classes, np.clip(cloth, 0, 255).astype(np.uint8), classes.copy(), where)


def _wear_sunglasses(
    rng: Generator, bgr: Bytes, classes: Bytes, points: NDArray[np.float64]
) -> None:
    eyes = points[list(_EYES)]
    apart = float(np.hypot(*(eyes[0] - eyes[1])))
    if apart < 6:
        return
    shape = np.zeros(classes.shape, np.uint8)
    angle = math.degrees(math.atan2(*(eyes[0] - eyes[1])[::-1]))
    axes = (int(rng.uniform(0.38, 0.5) * apart), int(rng.uniform(0.25, 0.4) * apart))
    for x, y in eyes:
        cv2.ellipse(shape, (int(x), int(y)), axes, angle, 0, 360, 1, -1)
    thick = max(1, round(0.08 * apart))
    (ax, ay), (bx, by) = eyes
    cv2.line(shape, (int(ax), int(ay)), (int(bx), int(by)), 1, thick)
    where = (shape > 0) & np.isin(classes, (PartClass.FACE, PartClass.GLASSES, PartClass.HAIR))
    bgr[where] = (bgr[where] * rng.uniform(0.05, 0.35)).astype(np.uint8)
    classes[where] = PartClass.GLASSES


def _tone(rng: Generator, bgr: Bytes, classes: Bytes) -> None:
    """Another skin tone: darker or lighter skin, the rest as it is."""
    skin = np.isin(classes, _SKIN).astype(np.float32)
    if not skin.any():
        return
    soft = cv2.GaussianBlur(skin, (0, 0), 1.0)[..., None]
    gain = math.exp(rng.uniform(math.log(0.28), math.log(1.25)))
    warm = np.array([gain**1.15, gain**1.03, gain**0.95], np.float32)
    np.copyto(bgr, np.clip(bgr * (1 + soft * (warm - 1)), 0, 255).astype(np.uint8))


def degraded(bgr: Bytes, rng: Generator) -> Bytes:
    """Returns a worse picture: light, colour, optics, sensor, compression, each by chance."""
    x: Floats = bgr.astype(np.float32)
    if rng.random() < 0.75:
        gain, lift = rng.uniform(0.6, 1.4), rng.uniform(-28, 28)
        x = x * gain + lift
        x *= rng.uniform(0.85, 1.15, 3).astype(np.float32)
        grey = x.mean(axis=2, keepdims=True)
        x = grey + (x - grey) * np.float32(rng.uniform(0.2, 1.5))
    if rng.random() < 0.08:
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.2:
        gamma = np.float32(rng.uniform(0.6, 2.2))
        x = np.asarray(255 * (np.clip(x, 0, 255) / 255) ** gamma, np.float32)
    dark = rng.random() < 0.15
    if dark:
        x = x * np.float32(math.exp(rng.uniform(math.log(0.06), math.log(0.5))))
    if rng.random() < 0.25:  # few pixels, enlarged
        factor = math.exp(rng.uniform(math.log(1.3), math.log(5.0)))
        height, width = x.shape[:2]
        wh = (max(8, round(width / factor)), max(8, round(height / factor)))
        small = cv2.resize(x, wh, interpolation=cv2.INTER_AREA)
        kind = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_CUBIC
        x = np.asarray(cv2.resize(small, (width, height), interpolation=kind), np.float32)
    if rng.random() < 0.15:
        x = np.asarray(cv2.GaussianBlur(x, (0, 0), rng.uniform(0.5, 2.2)), np.float32)
    if rng.random() < 0.12:  # motion
        length = int(rng.integers(3, 15))
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, math.pi)
        half = (length - 1) / 2
        dx, dy = half * math.cos(angle), half * math.sin(angle)
        start, end = (int(half - dx), int(half - dy)), (round(half + dx), round(half + dy))
        cv2.line(kernel, start, end, 1.0, 1)
        x = np.asarray(cv2.filter2D(x, -1, kernel / max(float(kernel.sum()), 1.0)), np.float32)
    if dark or rng.random() < 0.3:
        height, width = x.shape[:2]
        noise = rng.standard_normal((height, width, 1), np.float32)
        x = x + noise * np.float32(rng.uniform(1, 9))
        if rng.random() < 0.5:
            x = x + rng.standard_normal((height, width, 3), np.float32) * np.float32(
                rng.uniform(1, 7)
            )
    out: Any = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = int(rng.uniform(12, 75))
        stored = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        out = cv2.imdecode(stored, cv2.IMREAD_COLOR)
    return np.asarray(out, np.uint8)
