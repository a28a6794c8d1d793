"""What everyday photographs say about parts, without part labels: sets of classes a pixel may be.

A person's mask says "some part of a person", key points say "a head", "hair or a hat" (of a head
turned away), "an arm", "a leg"; what lies outside all people is background. The loss is that of
partial labels: the probability of all allowed classes together (Cour, Sapp and Taskar, "Learning
from Partial Labels", JMLR 12, 2011; for segmentation Petit et al., arXiv 1810.04018). Pictures,
masks and key points: COCO (annotations CC BY 4.0, COCO Consortium) and Open Images V4; see the
model card (docs/parsers.md).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from m2fp_stream.parsers.embedded.boxes import Box
from m2fp_stream.parsers.embedded.classes import PartClass
from m2fp_stream.parsers.embedded.faces import FaceDetector
from m2fp_stream.training.samples import IGNORE
from scripts.everyday import EMPTY, PEOPLED, Person, half, licences, photos
from scripts.everyday import Photo as Everyday

from .augment import OUTPUT_STRIDE, a_part, crop_matrix, degraded, swap_sides, warped

__all__ = [
    "SETS",
    "Head",
    "Scene",
    "SceneSampler",
    "WeakClass",
    "empty_places",
    "hand_scenes",
    "head_of",
    "people_scenes",
    "warped_sets",
]

Bytes = NDArray[np.uint8]
Purpose = Literal["train", "validate", "report"]
Facing = Literal["front", "profile", "away"]


class WeakClass:
    """Values of a class map that stand for several classes; a `PartClass` stays itself."""

    PERSON: Final = 16
    HEAD: Final = 17
    BEHIND: Final = 18
    FACE: Final = 19
    ARM: Final = 20
    LEG: Final = 21
    BELOW: Final = 22
    HAND: Final = 23


_HEAD: Final = (PartClass.HAIR, PartClass.FACE, PartClass.HAT, PartClass.GLASSES)
_ARMS: Final = (PartClass.LEFT_ARM, PartClass.RIGHT_ARM)
_LEGS: Final = (PartClass.LEFT_LEG, PartClass.RIGHT_LEG)
_SHOES: Final = (PartClass.LEFT_SHOE, PartClass.RIGHT_SHOE)
_PERSON: Final = tuple(part for part in PartClass if part is not PartClass.BACKGROUND)

SETS: Final[Mapping[int, tuple[PartClass, ...]]] = {
    **{int(part): (part,) for part in PartClass},
    WeakClass.PERSON: _PERSON,
    WeakClass.HEAD: (*_HEAD, PartClass.SCARF),
    WeakClass.BEHIND: (PartClass.HAIR, PartClass.HAT),
    WeakClass.FACE: (PartClass.FACE, PartClass.GLASSES),
    WeakClass.ARM: (*_ARMS, PartClass.UPPER_CLOTHES, PartClass.ACCESSORY),
    WeakClass.LEG: (*_LEGS, *_SHOES, PartClass.LOWER_CLOTHES, PartClass.UPPER_CLOTHES),
    WeakClass.BELOW: tuple(part for part in _PERSON if part not in _HEAD),
    WeakClass.HAND: (PartClass.BACKGROUND, *_ARMS, PartClass.UPPER_CLOTHES, PartClass.ACCESSORY),
}
"""The classes that each value of a class map allows."""

# Rows of COCO's key points: left, then right.
_NOSE, _EYES, _EARS = 0, (1, 2), (3, 4)
_SHOULDERS, _HIPS, _WRISTS = (5, 6), (11, 12), (9, 10)
_FOREARMS: Final = ((7, 9), (8, 10))
_LEG_LINES: Final = ((11, 13), (12, 14), (13, 15), (14, 16))
_VISIBLE: Final = 2

# Half a head's width over distances between key points, by the means of ANSUR II (Gordon et al.,
# 2014: head breadth 15.4 cm, length 19.9, between pupils 6.2, between shoulder joints about 33),
# seen from the front, or, nose to ear, from the side.
_OF_EARS: Final = 0.6
_OF_EYES: Final = 1.2
_OF_NOSE_TO_EAR: Final = 0.8
_OF_SHOULDERS: Final = 0.25
SMALLEST_PX: Final = 4.0
"""Half width of a head below which nothing is learned of it."""
SURE: Final = 0.7
"""Of the half width: so far from its middle a head is head, whatever the hair."""
BAND: Final = 7
"""Pixels of a mask's edge that are left out of the loss, half a side: its polygons are rough."""


@dataclass(frozen=True, slots=True)
class Head:
    """A head as key points tell it: middle and half width in pixels, and how it is turned."""

    x: float
    y: float
    half: float
    facing: Facing


def head_of(points: NDArray[np.float32]) -> Head | None:
    """Returns the head that (17, 3) key points tell of; None where they do not.

    A person whose nose nobody could label, but an ear, has turned away.
    """
    known = points[:, 2] > 0
    ears = [k for k in _EARS if known[k]]
    eyes = [k for k in _EYES if known[k]]
    if not known[_NOSE] and not ears:
        return None
    xy = points[:, :2].astype(np.float64)

    def apart(first: int, second: int) -> float:
        return float(np.hypot(*(xy[first] - xy[second])))

    sizes = [_OF_NOSE_TO_EAR * apart(_NOSE, ear) for ear in ears if known[_NOSE]]
    if len(ears) == 2:
        sizes.append(_OF_EARS * apart(*_EARS))
    if len(eyes) == 2:
        sizes.append(_OF_EYES * apart(*_EYES))
    if not sizes or not known[_NOSE]:
        if not all(known[k] for k in _SHOULDERS):
            return None
        sizes.append(_OF_SHOULDERS * apart(*_SHOULDERS))
    half_width = max(sizes)
    if half_width < SMALLEST_PX:
        return None
    if not known[_NOSE]:
        facing: Facing = "away"
        middle = xy[ears].mean(axis=0)
    elif len(eyes) == 2 and len(ears) != 1:
        facing = "front"
        middle = xy[ears].mean(axis=0) if len(ears) == 2 else xy[eyes].mean(axis=0)
    else:
        facing = "profile"
        middle = xy[[_NOSE, *(ears or eyes or [_NOSE])]].mean(axis=0)
    return Head(float(middle[0]), float(middle[1]), half_width, facing)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture with what is known of its pixels.

    Attributes:
        name: of the file.
        bgr: (h, w, 3) uint8.
        classes: (h, w) uint8 keys of `SETS`, or `IGNORE`.
        heads: as key points tell them.
        bodies: boxes of people, hands or whatever else crops are to be cut around.
        mask: (h, w) bool, who is a person; None where that is not known.
    """

    name: str
    bgr: Bytes
    classes: Bytes
    heads: tuple[Head, ...] = ()
    bodies: tuple[Box, ...] = ()
    mask: NDArray[np.bool_] | None = None


def _serves(name: str, licence: str, purpose: Purpose) -> bool:
    """Says whether a picture serves a purpose; what is share-alike never trains."""
    if half(name) == "report":
        return purpose == "report"
    held = "SA" in licence or hashlib.sha1(name.encode()).digest()[1] % 8 == 0
    return purpose == ("validate" if held else "train")


def _chosen(data: Path, groups: tuple[str, ...], purpose: Purpose) -> list[Everyday]:
    table = licences(data)
    return [
        photo
        for photo in photos(data, groups)
        if _serves(photo.path.name, table[f"{photo.group}/images/{photo.path.name}"], purpose)
    ]


def empty_places(data: Path, purpose: Purpose) -> list[Scene]:
    """Returns the pictures without people."""
    found = []
    for photo in _chosen(data, EMPTY, purpose):
        bgr = photo.read()
        found.append(Scene(photo.path.name, bgr, np.zeros(bgr.shape[:2], np.uint8)))
    return found


def people_scenes(data: Path, purpose: Purpose) -> list[Scene]:
    """Returns the pictures with people, and what masks and key points say of their pixels."""
    found = []
    for photo in _chosen(data, PEOPLED, purpose):
        bgr = photo.read()
        file = photo.path.parent.parent / "masks" / f"{photo.path.stem}.png"
        mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED) if file.exists() else None
        instances = None if mask is None else np.asarray(mask, np.uint8)
        classes = _known(photo, bgr.shape[:2], instances)
        heads = []
        for person in photo.people:
            head = None if person.points is None else head_of(person.points)
            if person.points is not None:
                own = classes != 0
                if instances is not None and person.instance:
                    own = instances == person.instance
                _paint(classes, own, person, head, photo.people, masked=instances is not None)
            if head is not None:
                heads.append(head)
        if instances is not None:
            edge = cv2.morphologyEx(instances, cv2.MORPH_GRADIENT, np.ones((BAND, BAND), np.uint8))
            classes[(edge > 0) | (instances == 255)] = IGNORE
        bodies = tuple(_box(person.xyxy) for person in photo.people)
        whole = None if instances is None else instances > 0
        found.append(Scene(photo.path.name, bgr, classes, tuple(heads), bodies, whole))
    return found


def _box(corners: Iterable[float]) -> Box:
    x1, y1, x2, y2 = (float(v) for v in corners)
    return Box(x1, y1, x2, y2, 1.0)


def _known(photo: Everyday, shape: tuple[int, int], instances: Bytes | None) -> Bytes:
    """Returns (h, w) classes before key points: background, person by the mask, else unknown."""
    classes = np.zeros(shape, np.uint8)
    if instances is not None:
        classes[instances > 0] = WeakClass.PERSON
        return classes
    boxes = [person.xyxy for person in photo.people] + list(photo.crowds)
    for x1, y1, x2, y2 in boxes:
        rows = slice(max(0, int(y1) - 3), math.ceil(y2) + 3)
        classes[rows, max(0, int(x1) - 3) : math.ceil(x2) + 3] = IGNORE
    return classes


def _paint(
    classes: Bytes,
    own: NDArray[np.bool_],
    person: Person,
    head: Head | None,
    people: Sequence[Person],
    *,
    masked: bool,
) -> None:
    """Writes what one person's key points say into `classes`, where `own` is true."""
    points = person.points
    assert points is not None  # the caller asked
    size = head.half if head is not None else 0.08 * person.height
    clear = [k for k in range(17) if points[k, 2] == _VISIBLE]
    if masked and head is not None and all(points[k, 2] > 0 for k in _HIPS):
        x, y = points[list(_HIPS), :2].mean(axis=0)
        if y - head.y > 2 * abs(x - head.x):  # upright: below the hips there is no head
            below = own.copy()
            below[: int(y)] = False
            classes[below] = WeakClass.BELOW
    for lines, value, width in (
        (_LEG_LINES, WeakClass.LEG, 0.5 if masked else 0.3),
        (_FOREARMS, WeakClass.ARM, 0.4 if masked else 0.25),
    ):
        for first, second in lines:
            if first in clear and second in clear:
                line = np.zeros(classes.shape, np.uint8)
                ends = [tuple(int(v) for v in points[k, :2]) for k in (first, second)]
                cv2.line(line, ends[0], ends[1], 1, max(1, round(width * size)))
                classes[(line > 0) & own] = value
    if head is None:
        return
    for other in people:  # a hand before the head
        if other.points is not None:
            wrists = other.points[list(_WRISTS)]
            near = np.hypot(wrists[:, 0] - head.x, wrists[:, 1] - head.y) < 2.5 * head.half
            if (near & (wrists[:, 2] > 0)).any():
                return
    disc = np.zeros(classes.shape, np.uint8)
    cv2.circle(disc, (round(head.x), round(head.y)), max(1, round(SURE * head.half)), 1, -1)
    where = (disc > 0) & own
    classes[where] = WeakClass.BEHIND if head.facing == "away" else WeakClass.HEAD
    if head.facing == "front" and {_NOSE, *_EYES} <= set(clear):
        x, y = points[[_NOSE, *_EYES], :2].mean(axis=0)
        face = np.zeros(classes.shape, np.uint8)
        cv2.circle(face, (round(float(x)), round(float(y))), max(1, round(0.35 * head.half)), 1, -1)
        classes[(face > 0) & own] = WeakClass.FACE


HAND_SETS: Final = ("hands", "hands_digits")
FACE_SURE: Final = 0.3
"""Confidence of a face beside a hand from which the hand's pixels are left out."""


def hand_scenes(data: Path, purpose: Purpose) -> list[Scene]:
    """Returns pictures of hands: whatever is in a hand's box is no head."""
    table = licences(data)
    detector = FaceDetector(size=640, threshold=FACE_SURE, threads=1, runtime=None)
    found = []
    for group in HAND_SETS:
        folder = data / "everyday" / group
        boxes: dict[str, list[Box]] = {}
        if (folder / "boxes.json").exists():
            for entry in json.loads((folder / "boxes.json").read_text(encoding="utf-8"))["images"]:
                boxes[entry["file"]] = [_box(hand["bbox"]) for hand in entry["hands"]]
        for path in sorted((folder / "images").iterdir()):
            if not _serves(path.name, table[f"{group}/images/{path.name}"], purpose):
                continue
            bgr = np.asarray(cv2.imread(str(path)), np.uint8)
            shape = (bgr.shape[0], bgr.shape[1])
            classes = np.full(shape, IGNORE, np.uint8)
            hands = boxes.get(path.name, [Box(0, 0, shape[1], shape[0], 1.0)])
            for hand in hands:
                classes[hand.slices(shape)] = WeakClass.HAND
            if path.name in boxes:
                for face in detector(bgr):
                    around = face.grown(sides=face.width, up=face.height, down=face.height)
                    classes[around.slices(shape)] = IGNORE
            found.append(Scene(path.name, bgr, classes, bodies=tuple(hands)))
    return found


def warped_sets(classes: Bytes, matrix: NDArray[np.float64], shape: tuple[int, int]) -> Bytes:
    """Returns classes in the crop; what lies outside the picture is background, as black is."""
    return np.asarray(
        cv2.warpAffine(classes, matrix, shape[::-1], flags=cv2.INTER_NEAREST), np.uint8
    )


MOST_ENLARGED: Final = 6.0
"""Crop pixels in a pixel of the picture: the parser never makes more of less (96 pixels of a head's
crop from 16)."""


class SceneSampler:
    """Draws training samples from scenes; like `Sampler`, a function of (seed, number) alone.

    Args:
        people: scenes with people.
        empty: scenes without.
        hands: scenes of hands.
        seed: of the whole run.
        turned: share of samples that are turned by any angle.
    """

    def __init__(
        self,
        people: Sequence[Scene],
        empty: Sequence[Scene],
        hands: Sequence[Scene],
        *,
        seed: int,
        turned: float,
    ) -> None:
        self._people = [scene for scene in people if scene.heads or scene.bodies]
        self._empty, self._hands = empty, hands
        self._seed, self._turned = seed, turned

    def __call__(self, number: int, shape: tuple[int, int]) -> tuple[Bytes, Bytes]:
        """Returns ((h, w, 3) uint8 RGB, (h/2, w/2) uint8 keys of `SETS`) of sample `number`."""
        rng = np.random.default_rng([self._seed, 1, number])
        kind = rng.random()
        if kind < 0.35:
            scene = self._empty[int(rng.integers(len(self._empty)))]
            bgr = a_part(scene.bgr, rng, shape)
            classes = np.zeros(shape, np.uint8)
        else:
            scenes = self._people if kind < 0.85 else self._hands
            scene = scenes[int(rng.integers(len(scenes)))]
            matrix = self._view(scene, rng, shape)
            bgr, classes = (
                warped(scene.bgr, matrix, shape),
                warped_sets(scene.classes, matrix, shape),
            )
        if rng.random() < 0.5:
            bgr, classes = bgr[:, ::-1], swap_sides(np.ascontiguousarray(classes[:, ::-1]))
        bgr = degraded(np.ascontiguousarray(bgr), rng)
        coarse = classes[::OUTPUT_STRIDE, ::OUTPUT_STRIDE]
        return np.ascontiguousarray(bgr[:, :, ::-1]), np.ascontiguousarray(coarse)

    def _view(self, scene: Scene, rng: Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
        height, width = shape
        if scene.heads and rng.random() < 0.65:
            head = scene.heads[int(rng.integers(len(scene.heads)))]
            side = 2 * head.half * math.exp(rng.uniform(math.log(1.8), math.log(6.0)))
            x = head.x + rng.uniform(-0.3, 0.3) * side
            y = head.y + rng.uniform(-0.15, 0.35) * side
            scale = min(height, width) / side
        else:
            box = scene.bodies[int(rng.integers(len(scene.bodies)))]
            margin = math.exp(rng.uniform(math.log(1.0), math.log(1.8)))
            scale = min(height / max(box.height, 8), width / max(box.width, 8)) / margin
            x, y = box.center
            x += rng.uniform(-0.12, 0.12) * width / scale
            y += rng.uniform(-0.1, 0.1) * height / scale
        degrees = rng.normal(0, 7) if rng.random() < 0.5 else 0.0
        if rng.random() < self._turned:
            degrees = rng.uniform(-180, 180)
        return crop_matrix((x, y), min(scale, MOST_ENLARGED), shape, degrees)
