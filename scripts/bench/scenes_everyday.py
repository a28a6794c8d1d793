"""Scenes made with everyday photographs: crowds, seated people, backs of heads, hands, empty rooms.

Beside the people of `scenes` there are photographs of COCO (annotations CC BY 4.0, COCO
Consortium) and Open Images, each in the half that `scripts.everyday` says. COCO knows no heads:
they are ellipses derived from key points (`head_of`), a few pixels wrong at hair; of whom there
are too few key points, all is ignored. Of hands there are cut-outs of one hand on a plain wall.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from scripts.bench import scenes
from scripts.bench.scenes import (
    HEAD_PARTS,
    HEAD_SHARE,
    SIZE_WH,
    U8,
    ZONES,
    Actor,
    Bool,
    Cutout,
    Half,
    Known,
    Part,
    Place,
    Scene,
    Shot,
    Stage,
    View,
    panel,
    paste_up,
    stacked,
)
from scripts.bench.scenes_limits import LIMITS
from scripts.everyday import half as half_of

__all__ = ["LAST_SCENES", "SCENES", "Head", "build", "head_of"]

KeyPoints = NDArray[np.float64]
"""(17, 3) float64: x, y and visibility (0 not labelled, 1 hidden, 2 visible) in COCO's order."""

NOSE, EYES, EARS, SHOULDERS = 0, (1, 2), (3, 4), (5, 6)

STREETS: Final = (
    "000ceb7c62a21547",
    "000d9c77f5749561",
    "0bf4138d0f052cf6",
    "0c134d543aa58495",
    "0c1783b09ee05447",
    "0c9d28cd2da44ccf",
    "0ca97b08bb473346",
    "0cbe9775007a3f53",
    "0cc1bbc28fe24df0",
    "0cc3d0c94666272e",
    "0cda59918e7dee1c",
    "0d02acee5a7d169c",
    "0d120a5f5b1011d1",
    "0d24ce32e3068ed1",
    "0df58ceea75be1cd",
    "0e04873f64e61c1d",
    "0e04b7fb9fa3c60c",
    "0e47126559819116",
    "0e59af35fd02431a",
    "0e759e74589524b3",
    "0e87814cbe9dd3c6",
    "0e9191e310909562",
    "0e9cc189512f1913",
    "0ea71c0967f66a86",
    "0eb80289f63b0ea0",
    "0ec5e8e7e7d80960",
    "0ecd790e25be8411",
    "0ed2e0651308a1e2",
)
"""Pictures of `rooms_neg` that show streets and facades, picked by eye."""

ROOMS: Final = (
    "000bf0ddff4c7310",
    "00ec888df1bd1aad",
    "02e80ea9ff2add79",
    "0be68c7d864c20c0",
    "0d48ba24443fb53a",
    "0ddb6788a404cfb0",
    "0ec4f09ebbb22648",
    "187fef6c8b9b9429",
    "1b754ea4cbc56db0",
    "23e9876d80301685",
    "2a241b26477c1799",
    "2d8c5de6b51f0218",
    "38a7fa0a0fb6ffe6",
    "3a74f7cdfb3c9a10",
    "3ffc848a9657bfac",
    "47f612a6c7cc8a11",
    "512e763b23503a34",
    "655c336ab92f9502",
    "6a895268f06332ec",
    "6f6de5cebeda8cf7",
    "00bccfe3f3c8ae6b",
    "0118064eedc2b2c1",
    "03776c806e842674",
    "06553dad53cd2445",
    "08380c1be6830cf7",
    "0b581e0f018c7f78",
    "0c8fea6749954c4c",
    "0fbbdc13b109f257",
    "129ce8f7369def54",
    "17083d5cea0b2bde",
    "1a6fb9d88119d454",
    "1b8116a074361a4c",
    "1ea9b62381f01a24",
    "22aa40cd91b4c259",
    "2ba0dbc88f47be4f",
    "329eb1c79bca4679",
    "383b3d43f4b1e55a",
    "40803bdda76313b9",
    "4d04388521138c9a",
    "51bdb40a3f51cce3",
    "55bf2e82882b5470",
    "5cc695cd54ad90a8",
    "67cb83d74dc0b231",
    "6bc2a5f340d507e6",
)
"""Pictures of `rooms_neg` that show rooms, furniture and full shelves. By eye: a few of the others
have somebody in a mirror, behind a box or on a photograph."""

BACKS: Final = (
    "183709/1",
    "50638/1",
    "187362/1",
    "248752/1",
    "458223/1",
    "553776/1",
    "571264/1",
    "360461/1",
    "520707/2",
    "520707/3",
    "542/1",
    "542/5",
    "544/2",
    "456496/1",
    "481413/1",
    "214753/2",
)
"""COCO person masks (picture/instance) of people from behind, shoulders and head whole; by eye."""

SEATED: Final = (
    "masks/000000000790",
    "boxes/000000010707",
    "boxes/000000090891",
    "boxes/000000433103",
    "boxes/000000479126",
    "boxes/000000548780",
    "masks/000000319492",
    "boxes/000000266768",
    "boxes/000000274460",
    "boxes/000000363666",
    "boxes/000000372819",
    "boxes/000000504074",
)
"""Pictures of COCO (set/picture) with people who sit together, heads checked by eye."""

SMALL_SCALE: Final = 2 / 3
"""Everyday pictures have 640 pixels: scenes of whole ones are 854x480."""
SMALL_OVERSCAN: Final = 1.12


@dataclass(frozen=True)
class Head:
    """An ellipse around a head: centre, width and height in pixels; and whether a face shows."""

    x: float
    y: float
    width: float
    height: float
    face: bool

    def mask(self, shape: tuple[int, int], share: float = 1.0) -> Bool:
        """Returns (h, w) bool, True in the ellipse; `share` of its size."""
        drawn = np.zeros(shape, np.uint8)
        size = max(1.0, share * self.width), max(1.0, share * self.height)
        cv2.ellipse(drawn, ((self.x, self.y), size, 0.0), 1, -1)
        return drawn > 0


HEAD_CM: Final = (16.5, 23.5)
"""Width and height of an adult's head with hair."""
EYES_CM, EARS_CM, NOSE_EAR_CM = 6.3, 15.0, 12.5
"""Between the eyes, between the ears (frontal), nose to ear (in profile): rough adult means, as
HEAD_CM; looked at on 40 pictures, the ellipses lie on the heads to some 15 % of their size."""


def head_of(points: KeyPoints, person: Bool | None = None) -> Head | None:
    """Returns where a person's head is, None where the key points do not tell.

    From eyes, ears and nose, the largest size that a pair of them says (a turned head makes pairs
    shorter, never longer). From behind, where none of nose and eyes is seen: the top of the
    `person` mask, (h, w) bool, above the shoulders.
    """
    seen = points[:, 2] > 0
    xy = points[:, :2]

    def apart(one: int, other: int) -> float:
        return float(np.hypot(*(xy[one] - xy[other]))) if seen[one] and seen[other] else 0.0

    front = seen[NOSE] or seen[EYES[0]] or seen[EYES[1]]
    if not front:
        return None if person is None else _back_of_head(points, person)
    pixels_per_cm = max(
        apart(*EYES) / EYES_CM,
        apart(*EARS) / EARS_CM,
        *(apart(NOSE, ear) / NOSE_EAR_CM for ear in EARS),
    )
    levels = [k for k in (*EYES, *EARS) if seen[k]]
    if pixels_per_cm <= 0 or not levels:
        return None
    x, y = xy[levels].mean(axis=0)
    ears = [k for k in EARS if seen[k]]
    if len(ears) == 1 and seen[NOSE]:  # in profile: half way between the ear and the nose
        x, y = (xy[ears[0]] + xy[NOSE]) / 2 + (0, -2 * pixels_per_cm)
        x += 0.15 * (xy[ears[0]] - xy[NOSE])[0]
    width, height = (pixels_per_cm * cm for cm in HEAD_CM)
    if len(ears) == 1:
        width *= 1.15
    return Head(float(x), float(y - 0.5 * pixels_per_cm), width, height, face=True)


def _back_of_head(points: KeyPoints, person: Bool) -> Head | None:
    if not (points[list(SHOULDERS), 2] > 0).all():
        return None
    x, y = points[list(SHOULDERS), :2].mean(axis=0)
    width = max(abs(points[5, 0] - points[6, 0]), 0.15 * np.count_nonzero(person.any(axis=1)))
    near = np.abs(np.arange(person.shape[1]) - x) < 0.7 * width
    rows = np.flatnonzero((person & near[None, :]).any(axis=1))
    if not len(rows) or y - rows[0] < 4:
        return None
    crown = float(rows[0])
    above = y - crown
    columns = np.nonzero(person[int(crown) : int(crown + 0.5 * above)] & near[None, :])[1]
    middle = float(np.median(columns))
    # Crown to chin is about .72 of crown to the shoulders' joints, a head .72 as wide as high.
    height = 0.74 * above
    return Head(middle, crown + height / 2 - 1, 0.74 * height, height, face=False)


class Album:
    """Everyday pictures of one half.

    Raises:
        FileNotFoundError: `data` does not hold what is needed.
    """

    def __init__(self, data: Path, half: Half) -> None:
        self._data = data / "everyday"
        self._half = half

    def names(self, folder: str) -> list[str]:
        """Returns the file names in a folder that belong to the half, sorted."""
        files = sorted(file.name for file in (self._data / folder / "images").iterdir())
        return [name for name in files if half_of(name) == self._half]

    def picture(self, folder: str, name: str) -> U8:
        """Returns (h, w, 3) uint8 BGR."""
        return _image(self._data / folder / "images" / name, cv2.IMREAD_COLOR)

    def mask(self, picture: str) -> U8:
        """Returns (h, w) uint8 of `coco_person_masks`: 0, the number of a person, 255 a crowd."""
        return _image(self._data / "coco_person_masks" / "masks" / picture, cv2.IMREAD_UNCHANGED)

    def people(self, folder: str, picture: str) -> list[tuple[dict[str, Any], KeyPoints | None]]:
        """Returns the annotations of a picture (its number, no suffix) with their key points."""
        found = []
        for one in _annotations(self._data / folder / "annotations.json")[picture]:
            points = one.get("keypoints")
            array = None if not points else np.asarray(points, np.float64).reshape(17, 3)
            found.append((one, array))
        return found

    def back(self, which: str) -> Cutout:
        """Returns somebody from behind (picture/instance of COCO)."""
        number, instance = which.split("/")
        picture = number.zfill(12)
        person = self.mask(f"{picture}.png") == int(instance)
        photo = self.picture("coco_person_masks", f"{picture}.jpg")
        points = next(
            points
            for one, points in self.people("coco_person_masks", picture)
            if one["instance"] == int(instance)
        )
        head = None if points is None else head_of(points, person)
        if head is None:
            raise ValueError(f"{which} has no head that key points tell")
        hair = head.mask(person.shape) & person
        x, y, width, height = cv2.boundingRect(person.astype(np.uint8))
        box = slice(y, y + height), slice(x, x + width)
        zones = {Part.HAIR: hair[box]}
        return paste_up(photo[box], person[box], zones, mirrored=False, labelled=False)

    def backs(self) -> list[str]:
        """Returns those of `BACKS` in this half."""
        return [one for one in BACKS if half_of(one.split("/")[0].zfill(12) + ".jpg") == self._half]

    def hand(self, name: str) -> Cutout:
        """Returns a hand, upright, cut at the wrist: of someone, so perhaps of a person."""
        photo = self.picture("hands_digits", name)
        lab = cv2.cvtColor(photo, cv2.COLOR_BGR2LAB).astype(int)
        warmth = np.clip(lab[..., 1] + lab[..., 2] - 128, 0, 255).astype(np.uint8)
        _, warm = cv2.threshold(warmth, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(warm)
        largest = 1 + int(stats[1:, -1].argmax())
        x, y, width, height = (int(v) for v in stats[largest][:4])
        box = slice(y, y + height), slice(x, x + width)
        hand = labels[box] == largest
        zones = {Part.MAYBE: hand}
        return paste_up(photo[box], hand, zones, mirrored=False, labelled=False)

    def group(self, folder: str, picture: str) -> tuple[U8, Known]:
        """Returns a whole picture and who is in it."""
        photo = self.picture(folder, f"{picture}.jpg")
        shape = photo.shape[:2]
        masks = self.mask(f"{picture}.png") if folder == "coco_person_masks" else None
        ignore = np.zeros(shape, np.bool_) if masks is None else masks == 255
        people = []
        for one, points in self.people(folder, picture):
            x, y, width, height = (round(v) for v in one["bbox"])
            box = np.zeros(shape, np.bool_)
            box[max(0, y) : y + height, max(0, x) : x + width] = True
            person = box if masks is None else masks == one["instance"]
            head = None if points is None else head_of(points, None if masks is None else person)
            if head is None:
                ignore |= person
                continue
            whole = head.mask(shape) & person
            face = head.mask(shape, FACE_SHARE) & person & head.face
            body = person & ~whole
            zones = {
                Part.FACE: face,
                Part.HEAD if head.face else Part.HAIR: whole & ~face,
            }
            if masks is None:
                zones[Part.MAYBE] = body
            layers = np.dstack([stacked(zones, person), person.astype(np.float32)])
            x, y, width, height = cv2.boundingRect((person | whole).astype(np.uint8))
            people.append((layers[y : y + height, x : x + width], (x, y)))
        return photo, Known(tuple(people), ignore)


FACE_SHARE: Final = 0.62
"""Of a head's ellipse, for the face in it: 1 / 1.6, the mean of `scenes.HEAD_FACES_WH`."""


def _image(file: Path, how: int) -> U8:
    picture = cv2.imread(str(file), how)
    if picture is None:
        raise FileNotFoundError(f"{file} cannot be read")
    return np.asarray(picture, np.uint8)


@lru_cache(maxsize=2)
def _annotations(file: Path) -> dict[str, list[dict[str, Any]]]:
    by_picture: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in json.loads(file.read_text())["annotations"]:
        by_picture[one["image"]].append(one)
    return by_picture


class EverydayStage(Stage):
    """As `Stage`, with everyday pictures as well."""

    def __init__(self, data: Path, half: Half, seed: int, name: str) -> None:
        super().__init__(data, half, seed, name)
        self.album = Album(data, half)

    def some(self, names: Sequence[str], count: int) -> list[str]:
        """Returns `count` different ones."""
        return [str(name) for name in self.rng.choice(list(names), count, replace=False)]

    def empty(self, kind: Literal["rooms", "streets"], count: int) -> list[U8]:
        """Returns pictures without people."""
        picked = {f"{name}.jpg" for name in (STREETS if kind == "streets" else ROOMS)}
        names = [name for name in self.album.names("rooms_neg") if name in picked]
        return [self.album.picture("rooms_neg", name) for name in self.some(names, count)]

    def hand(self) -> Cutout:
        """Returns a hand."""
        return self.album.hand(self.some(self.album.names("hands_digits"), 1)[0])


# --- the scenes; sizes in pixels at 1280x720 whatever the scale ---


def _wander(
    stage: Stage, *, x: float = 90, y: float = 45, zoom: float = 0.35
) -> Callable[[float], View]:
    """A camera that pans by up to x and y pixels and zooms in, from any phase."""
    phase = stage.rng.uniform(0, 2 * np.pi, 3)

    def camera(time: float) -> View:
        return View(
            SIZE_WH[0] / 2 + x * np.sin(0.11 * time + phase[0]),
            SIZE_WH[1] / 2 + y * np.sin(0.07 * time + phase[1]),
            1 + zoom * np.sin(0.06 * time + phase[2]) ** 2,
        )

    return camera


def _stand(stage: Stage, x: float, feet: float, height: float) -> Callable[[float], Place]:
    phase = stage.rng.uniform(0, 2 * np.pi)
    return lambda time: Place(x + 1.5 * np.sin(0.15 * time + phase), feet, height)


def _walk(
    stage: Stage, x: float, speed: float, feet: float, height: float
) -> Callable[[float], Place]:
    phase = stage.rng.uniform(0, 2 * np.pi)
    return lambda time: Place(
        x + speed * time, feet + 0.006 * height * np.sin(0.7 * time + phase), height
    )


def _still(place: Place) -> Callable[[float], Place]:
    return lambda _: place


def _empty_room(stage: EverydayStage) -> tuple[Shot, ...]:
    return _nobody(stage, "rooms")


def _empty_street(stage: EverydayStage) -> tuple[Shot, ...]:
    return _nobody(stage, "streets")


def _nobody(stage: EverydayStage, kind: Literal["rooms", "streets"]) -> tuple[Shot, ...]:
    return tuple(
        Shot(picture, 28, camera=_wander(stage), overscan=SMALL_OVERSCAN * 1.15)
        for picture in stage.empty(kind, 3)
    )


def _seated(stage: EverydayStage) -> tuple[Shot, ...]:
    shots = []
    mine = [one for one in SEATED if half_of(one.split("/")[1] + ".jpg") == stage.half]
    for which in stage.some(mine, 3):
        folder, picture = which.split("/")
        photo, known = stage.album.group(f"coco_person_{folder}", picture)
        camera = _wander(stage, x=30, y=15, zoom=0.15)
        shots.append(Shot(photo, 28, (), camera, known=known, overscan=SMALL_OVERSCAN))
    return tuple(shots)


def _crowd(
    stage: EverydayStage, count: int, frames: int, low: float, high: float
) -> tuple[Shot, ...]:
    """People of `low` to `high` pixels, the far ones behind, some standing, some walking."""
    heights = np.sort(stage.rng.uniform(low, high, count))
    places = stage.rng.permutation(np.linspace(40, SIZE_WH[0] - 40, count))
    actors = []
    for height, x in zip(heights, places, strict=True):
        feet = 330 + 390 * (height - low) / (high - low) + 0.2 * height
        speed = float(stage.rng.choice([0, 0, 1.5, -1.5, 3, -3]))
        path = _walk(stage, x, speed, feet, height) if speed else _stand(stage, x, feet, height)
        actors.append(Actor(stage.person(), path))
    return (Shot(stage.empty("streets", 1)[0], frames, tuple(actors), overscan=1.05),)


def _crowd_10(stage: EverydayStage) -> tuple[Shot, ...]:
    return _crowd(stage, 10, 60, 200, 420)


def _crowd_50(stage: EverydayStage) -> tuple[Shot, ...]:
    return _crowd(stage, 50, 40, 110, 300)


def _crowd_last(stage: EverydayStage) -> tuple[Shot, ...]:
    return _crowd(stage, 25, 50, 140, 380)


def _behind(stage: EverydayStage) -> tuple[Shot, ...]:
    """Three people from behind: one stands, one walks by, one walks away."""
    one, two, three = (stage.album.back(which) for which in stage.some(stage.album.backs(), 3))

    def away(time: float) -> Place:
        return Place(900 - time, 690 - 1.2 * time, 420 - 2.2 * time)

    actors = (
        Actor(one, _stand(stage, 330, 600, 280)),
        Actor(two, away),
        Actor(three, _walk(stage, -60, 9, 700, 360)),
    )
    return (Shot(stage.empty("streets", 1)[0], 66, actors, overscan=1.05),)


def _behind_last(stage: EverydayStage) -> tuple[Shot, ...]:
    """Four stand with their backs to a camera that pans."""
    backs = [stage.album.back(which) for which in stage.some(stage.album.backs(), 4)]
    actors = tuple(
        Actor(back, _stand(stage, 230 + 270 * rank, 620 + 25 * rank, 230 + 45 * rank))
        for rank, back in enumerate(backs)
    )
    camera = _wander(stage, x=120, y=20, zoom=0.2)
    return (Shot(stage.empty("streets", 1)[0], 60, actors, camera),)


def _turned(stage: EverydayStage) -> tuple[Shot, ...]:
    """Somebody from the front and somebody from behind, who do not move; then both, who do."""
    backs = [stage.album.back(which) for which in stage.some(stage.album.backs(), 2)]
    fronts = [stage.person() for _ in range(2)]
    shots = []
    for k, place in enumerate(stage.empty("rooms", 2)):
        actors = (
            Actor(fronts[k], _walk(stage, 380, 3.0 * k, 660, 440)),
            Actor(backs[k], _walk(stage, 860, -3.0 * k, 680, 380)),
        )
        shots.append(Shot(place, 30, actors, overscan=1.05))
    return tuple(shots)


def _hands(stage: EverydayStage) -> tuple[Shot, ...]:
    """Two hands wave before a face, close to the camera."""
    near = 170 / HEAD_SHARE
    body = _stand(stage, 640, 200 + near, near)
    left, right = stage.hand(), stage.hand()

    def wave(x: float, speed: float, phase: float) -> Callable[[float], Place]:
        def path(time: float) -> Place:
            turn = speed * time + phase
            return Place(x + 110 * np.sin(turn), 420 + 70 * np.sin(1.3 * turn), 190)

        return path

    actors = (
        Actor(stage.person(), body),
        Actor(left, wave(520, 0.13, 0.0)),
        Actor(right, wave(760, 0.17, 1.0)),
    )
    return (Shot(stage.empty("rooms", 1)[0], 66, actors, overscan=1.05),)


def _phone(stage: EverydayStage) -> tuple[Shot, ...]:
    """A hand lifts a phone before a face and lowers it again."""
    near = 150 / HEAD_SHARE
    body = _stand(stage, 620, 190 + near, near)

    def lifted(time: float, *, x: float, feet: float, height: float) -> Place:
        up = np.clip(np.sin((time - 8) * 0.07) * 1.6, 0, 1)
        return Place(x + 10 * np.sin(0.2 * time), feet + 420 * (1 - up), height)

    phone = panel((76, 150), stage.rng)
    phone.ink[..., :3] *= 0.3  # dark
    actors = (
        Actor(stage.person(), body),
        Actor(phone, lambda time: lifted(time, x=650, feet=345, height=150)),
        Actor(stage.hand(), lambda time: lifted(time, x=668, feet=420, height=150)),
    )
    return (Shot(stage.empty("rooms", 1)[0], 60, actors, overscan=1.05),)


def _wide(stage: EverydayStage) -> tuple[Shot, ...]:
    """One near, one who walks by and one far off; for large pictures."""
    actors = (
        Actor(stage.person(), _stand(stage, 1010, 390, 62)),
        Actor(stage.person(), _walk(stage, 250, 2.5, 470, 130)),
        Actor(stage.person(), _stand(stage, 820, 690, 300)),
    )
    return (Shot(stage.empty("streets", 1)[0], 30, actors, overscan=1.05),)


def _fhd(stage: EverydayStage) -> tuple[Shot, ...]:
    return _wide(stage)


def _uhd(stage: EverydayStage) -> tuple[Shot, ...]:
    return _wide(stage)


TINY_HEADS_PX: Final = (8, 14, 24)
TINY_BODIES_PX: Final = (30, 50)


def _tiny_heads(stage: EverydayStage) -> tuple[Shot, ...]:
    """Heads of as many pixels as squares of these sides have, quite still."""
    actors = []
    for rank, side in enumerate(TINY_HEADS_PX):
        cutout = stage.person()
        zones = [ZONES.index(part) for part in HEAD_PARTS]
        area = float(cutout.zones[..., zones].sum())
        height = len(cutout.ink) * side / np.sqrt(area)
        place = Place(280 + 340 * rank, 430 + 70 * rank, float(height))
        actors.append(Actor(cutout, _still(place)))
    return (Shot(stage.empty("streets", 1)[0], 45, tuple(actors), overscan=1.05),)


def _tiny_bodies(stage: EverydayStage) -> tuple[Shot, ...]:
    """Bodies of these heights, quite still. Their heads are too small to count."""
    actors = []
    for rank, height in enumerate((*TINY_BODIES_PX, *TINY_BODIES_PX)):
        place = Place(220 + 270 * rank, 420 + 40 * rank, float(height))
        actors.append(Actor(stage.person(), _still(place)))
    return (Shot(stage.empty("streets", 1)[0], 45, tuple(actors), overscan=1.05),)


def _dissolve(stage: EverydayStage) -> tuple[Shot, ...]:
    """From one person to two others who stand elsewhere."""
    first = Actor(stage.person(), _walk(stage, 420, 2, 690, 470))
    second = Actor(stage.person(), _stand(stage, 560, 680, 400))
    third = Actor(stage.person(), _walk(stage, 900, -3, 700, 500))
    one, two = stage.empty("rooms", 2)
    return (
        Shot(one, 36, (first,), overscan=1.05),
        Shot(two, 42, (second, third), mixed_in=14, overscan=1.05),
    )


def _dissolve_last(stage: EverydayStage) -> tuple[Shot, ...]:
    """Somebody fades into an empty street and that into a group."""
    first = Actor(stage.person(), _stand(stage, 700, 690, 440))
    group = tuple(
        Actor(stage.person(), _walk(stage, 300 + 280 * rank, 2 - 2 * rank, 640 + 30 * rank, 360))
        for rank in range(3)
    )
    one, two = stage.empty("rooms", 2)
    street = stage.empty("streets", 1)[0]
    return (
        Shot(one, 30, (first,), overscan=1.05),
        Shot(street, 26, mixed_in=10, overscan=1.05),
        Shot(two, 34, group, mixed_in=18, overscan=1.05),
    )


def _lamp(stage: EverydayStage) -> tuple[Shot, ...]:
    """A lamp goes off and on again while one stands and one walks."""
    actors = (
        Actor(stage.person(), _stand(stage, 430, 680, 430)),
        Actor(stage.person(), _walk(stage, 700, 4, 700, 380)),
    )

    def lamp(time: float) -> tuple[float, float, float]:
        return (0.42, 0.36, 0.3) if 18 <= time < 36 or time >= 52 else (0.95, 1.0, 1.05)

    return (Shot(stage.empty("rooms", 1)[0], 66, actors, lamp=lamp, overscan=1.05),)


EVERYDAY: Final[dict[str, Callable[[EverydayStage], tuple[Shot, ...]]]] = {
    "empty-room": _empty_room,
    "empty-street": _empty_street,
    "seated": _seated,
    "crowd-10": _crowd_10,
    "crowd-50": _crowd_50,
    "behind": _behind,
    "lying": _turned,
    "hanging": _turned,
    "hands": _hands,
    "phone": _phone,
    "fhd": _fhd,
    "uhd": _uhd,
    "tiny-heads": _tiny_heads,
    "tiny-bodies": _tiny_bodies,
    "dissolve": _dissolve,
    "lamp": _lamp,
    "crowd-last": _crowd_last,
    "behind-last": _behind_last,
    "dissolve-last": _dissolve_last,
}
SCALES: Final = {
    "empty-room": SMALL_SCALE,
    "empty-street": SMALL_SCALE,
    "seated": SMALL_SCALE,
    "fhd": 1.5,
    "uhd": 3.0,
}
"""Pixels a pixel of 1280x720, where it is not 1."""
TURNED: Final = {"lying": 1, "hanging": 2}
"""Quarters clockwise by which whoever is measured gets the picture turned."""
LAST_SCENES: Final = ("crowd-last", "behind-last", "dissolve-last")
"""Looked at once, when nothing is changed any more."""
SCENES: Final = (*scenes.SCENES, *LIMITS, *EVERYDAY)
"""The names of all scenes, the last ones at the end."""


def build(name: str, *, data: Path, half: Half, seed: int) -> Scene:
    """Returns the scene of that name; equal arguments, equal frames.

    Raises:
        FileNotFoundError: `data` does not hold what is needed.
    """
    if name in LIMITS:
        return Scene(name, seed, LIMITS[name](Stage(data, half, seed, name)))
    if name not in EVERYDAY:
        return scenes.build(name, data=data, half=half, seed=seed)
    shots = EVERYDAY[name](EverydayStage(data, half, seed, name))
    return Scene(name, seed, shots, SCALES.get(name, 1.0), TURNED.get(name, 0))
