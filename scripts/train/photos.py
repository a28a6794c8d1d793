"""The photographs of Clothing Co-Parsing and the part labels derived from their clothing labels.

Source of the data: Yang, Luo, Lin, "Clothing Co-Parsing by Joint Image Segmentation and Labeling",
CVPR 2014; repository bearpaw/clothing-co-parsing (Apache-2.0). Its label "skin" holds face, neck,
arms and legs together, and nothing says left or right. Both are derived here: the face from a
detected face box, the limbs from BlazePose's key points (both networks ship with the package).
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.part_file import replace_file
from m2fp_stream.parsers.embedded.body import BodyParser, Region
from m2fp_stream.parsers.embedded.boxes import Box
from m2fp_stream.parsers.embedded.classes import PartClass
from m2fp_stream.parsers.embedded.crops import View
from m2fp_stream.parsers.embedded.faces import FaceDetector
from m2fp_stream.parsers.embedded.persons import PersonDetector
from m2fp_stream.training.samples import IGNORE

__all__ = ["Deriver", "Photo", "class_table", "photo_ids", "read_photo"]

TRAINING: Final = (0, 4)
VALIDATION: Final = 1
REPORT: Final = 2
"""Splits by `id % 5`; 3 is kept elsewhere."""

_SHOES: Final = frozenset(
    {"boots", "clogs", "flats", "heels", "loafers", "pumps", "sandals", "shoes", "sneakers"}
    | {"wedges"}
)
_LOWER: Final = frozenset(
    {"jeans", "leggings", "panties", "pants", "shorts", "skirt", "socks", "stockings", "tights"}
)
_ACCESSORIES: Final = frozenset(
    {"accessories", "bag", "belt", "bracelet", "earrings", "gloves", "necklace", "purse", "ring"}
    | {"tie", "wallet", "watch"}
)
_SINGLE: Final = {
    "null": PartClass.BACKGROUND,
    "hair": PartClass.HAIR,
    "hat": PartClass.HAT,
    "glasses": PartClass.GLASSES,
    "sunglasses": PartClass.GLASSES,
    "scarf": PartClass.SCARF,
    "skin": PartClass.TORSO_SKIN,
}

# Key points of BlazePose (MediaPipe's model card); the person's left is the odd one of each pair.
_ARMS: Final = ((11, 13, 15, 19), (12, 14, 16, 20))
_LEGS: Final = ((23, 25, 27, 31), (24, 26, 28, 32))
_FEET: Final = ((27, 29, 31), (28, 30, 32))
_MOUTH: Final = slice(9, 11)

FACE_HALF_WIDTH: Final = 0.62
FACE_HALF_HEIGHT: Final = 0.56
"""Half axes of the ellipse in which skin is face, in widths and heights of the face box (looked at
on 40 photographs: ears and forehead in, neck out)."""
EARS: Final = 0.35
"""Face widths beside the box in which skin above the chin is face."""
UPPER_ARM_STARTS: Final = 0.15
"""Skin nearer to the shoulder than this share of the upper arm belongs to the torso."""
ARM_REACH: Final = 0.045
"""Heights of the person within which skin near the line of an arm is arm, also before the torso."""
BYSTANDER: Final = 0.35
"""Confidence of a body box from which an unlabelled person is ignored rather than background."""
BYSTANDER_FACE: Final = 0.4


def class_table(names: list[str]) -> NDArray[np.uint8]:
    """Returns (256,) uint8: the class of every label index; `skin` is torso skin, shoes are left.

    Args:
        names: the data set's label names, `labels.txt`.
    """
    table = np.full(256, IGNORE, np.uint8)
    for index, name in enumerate(names):
        if name in _SINGLE:
            table[index] = _SINGLE[name]
        elif name in _SHOES:
            table[index] = PartClass.LEFT_SHOE
        elif name in _LOWER:
            table[index] = PartClass.LOWER_CLOTHES
        elif name in _ACCESSORIES:
            table[index] = PartClass.ACCESSORY
        else:
            table[index] = PartClass.UPPER_CLOTHES
    return table


def photo_ids(data: Path, remainders: Iterable[int]) -> list[str]:
    """Returns the ids, in order, that leave one of `remainders` when divided by 5.

    Raises:
        ValueError: remainder 3 was asked for; those photographs are for others to measure with.
        FileNotFoundError: the folder holds no photographs.
    """
    wanted = set(remainders)
    if 3 in wanted:
        raise ValueError("ids with id % 5 == 3 are kept for others to measure with")
    found = sorted(path.stem for path in (data / "ccp" / "photos").glob("*.jpg"))
    if not found:
        raise FileNotFoundError(f"no photographs in {data}/ccp/photos; name the folder by --data")
    return [name for name in found if int(name) % 5 in wanted]


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """One photograph with derived labels.

    Attributes:
        name: its id.
        bgr: (h, w, 3) uint8.
        classes: (h, w) uint8 `PartClass` or `IGNORE`.
        person: box of the labelled person.
        face: its face, or None where none was found.
        points: (33, 2) float32 key points, in pixels.
    """

    name: str
    bgr: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    person: Box
    face: Box | None
    points: NDArray[np.float32]


class Deriver:
    """Turns clothing labels into part labels with the networks that ship with the package."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "ccp"
        names = (self._folder / "labels.txt").read_text(encoding="utf-8").split()
        self._table = class_table(names)
        self._faces = FaceDetector(size=960, threshold=0.2, threads=1, runtime=None)
        self._persons = PersonDetector(
            size=416, far_size=640, threshold=BYSTANDER, threads=1, runtime=None
        )
        self._body = BodyParser(threads=1, runtime=None)

    def __call__(self, name: str) -> Photo | None:
        """Returns the photograph, or None where its labels hold no person.

        Raises:
            FileNotFoundError: picture or labels are missing or unreadable.
        """
        picture = cv2.imread(str(self._folder / "photos" / f"{name}.jpg"))
        label = cv2.imread(str(self._folder / "labels" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        if picture is None or label is None:
            raise FileNotFoundError(f"photograph {name} or its labels cannot be read")
        bgr = np.asarray(picture, np.uint8)
        classes = np.asarray(cv2.LUT(np.asarray(label, np.uint8), self._table), np.uint8)
        rows, columns = np.nonzero((classes > 0) & (classes != IGNORE))
        if rows.size < 0.02 * classes.size:
            return None
        person = Box(
            float(columns.min()), float(rows.min()), columns.max() + 1.0, rows.max() + 1.0, 1.0
        )
        side = 1.25 * max(person.width, person.height)
        points = self._body(View(bgr, bgr.shape[:2]), Region(*person.center, side)).points[:, :2]
        faces = self._faces(bgr)
        face = _own_face(faces, classes)
        _derive_face(classes, face, points, person)
        _derive_limbs(classes, points, person)
        self._ignore_bystanders(bgr, classes, faces, face)
        return Photo(name, bgr, classes, person, face, points)

    def _ignore_bystanders(
        self, bgr: NDArray[np.uint8], classes: NDArray[np.uint8], faces: list[Box], own: Box | None
    ) -> None:
        labelled = classes > 0
        for box in [*self._persons(bgr), *(f for f in faces if f.confidence >= BYSTANDER_FACE)]:
            rows, columns = box.slices((classes.shape[0], classes.shape[1]))
            inside = labelled[rows, columns]
            if box is not own and inside.size and inside.mean() < 0.15:
                region = classes[rows, columns]
                region[region == 0] = IGNORE


def _own_face(faces: list[Box], classes: NDArray[np.uint8]) -> Box | None:
    """The most certain face whose box lies on labelled skin or hair."""
    shape = (classes.shape[0], classes.shape[1])
    head = np.isin(classes, (PartClass.TORSO_SKIN, PartClass.HAIR, PartClass.GLASSES))
    for face in faces:
        inside = head[face.slices(shape)]
        if inside.size and inside.mean() > 0.4:
            return face
    return None


def _derive_face(
    classes: NDArray[np.uint8], face: Box | None, points: NDArray[np.float32], person: Box
) -> None:
    skin = classes == PartClass.TORSO_SKIN
    rows, columns = np.ogrid[: classes.shape[0], : classes.shape[1]]
    if face is None:
        # Whose skin above the shoulders this is cannot be told.
        chin = float(points[_MOUTH, 1].mean())
        above = (rows < max(chin, person.y1)) & (classes == PartClass.TORSO_SKIN)
        classes[above] = IGNORE
        return
    x, y = face.center
    across = (columns + 0.5 - x) / (FACE_HALF_WIDTH * face.width)
    along = (rows + 0.5 - y) / (FACE_HALF_HEIGHT * face.height)
    ellipse = across**2 + along**2 <= 1
    ears = (np.abs(columns + 0.5 - x) < (0.5 + EARS) * face.width) & (
        np.abs(rows + 0.5 - y + 0.1 * face.height) < 0.5 * face.height
    )
    classes[skin & (ellipse | ears)] = PartClass.FACE


def _derive_limbs(classes: NDArray[np.uint8], points: NDArray[np.float32], person: Box) -> None:
    """Splits skin by the nearest limb and shoes by the nearest foot."""
    rows, columns = np.nonzero(classes == PartClass.TORSO_SKIN)
    if rows.size:
        where = np.stack([columns + 0.5, rows + 0.5], axis=1).astype(np.float32)
        arms = [_distance(where, _from_elbow_side(points[list(chain)])) for chain in _ARMS]
        legs = [_distance(where, points[list(chain)]) for chain in _LEGS]
        torso = _torso_distance(where, points)
        # Before the torso, only what lies on the line of an arm is arm.
        near_arm = np.minimum(arms[0], arms[1]) < ARM_REACH * person.height
        torso[near_arm] = np.inf
        parts = np.array(
            [
                PartClass.TORSO_SKIN,
                PartClass.LEFT_ARM,
                PartClass.RIGHT_ARM,
                PartClass.LEFT_LEG,
                PartClass.RIGHT_LEG,
            ],
            np.uint8,
        )
        nearest = np.argmin(np.stack([torso, *arms, *legs]), axis=0)
        classes[rows, columns] = parts[nearest]
    rows, columns = np.nonzero(classes == PartClass.LEFT_SHOE)
    if rows.size:
        where = np.stack([columns + 0.5, rows + 0.5], axis=1).astype(np.float32)
        left, right = (_distance(where, points[list(chain)]) for chain in _FEET)
        side = np.where(left <= right, PartClass.LEFT_SHOE, PartClass.RIGHT_SHOE)
        classes[rows, columns] = side.astype(np.uint8)


def _from_elbow_side(chain: NDArray[np.float32]) -> NDArray[np.float32]:
    start = chain[0] + UPPER_ARM_STARTS * (chain[1] - chain[0])
    return np.concatenate([start[None], chain[1:]])


def _torso_distance(where: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance to the neck line and to the quadrilateral of shoulders and hips."""
    middle = points[[11, 12]].mean(axis=0)
    neck = _distance(where, np.stack([points[_MOUTH].mean(axis=0), middle]))
    corners = points[[11, 12, 24, 23]]
    inside = np.array(
        [cv2.pointPolygonTest(corners, (float(x), float(y)), measureDist=True) for x, y in where],
        np.float32,
    )
    return np.minimum(neck, np.maximum(-inside, 0))


def _distance(where: NDArray[np.float32], line: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns (n,) distances of (n, 2) points to a (k, 2) open polygon."""
    best = np.full(len(where), np.inf, np.float32)
    for start, end in pairwise(line):
        along = end - start
        length = float(along @ along)
        share = np.clip((where - start) @ along / max(length, 1e-6), 0, 1)
        best = np.minimum(best, np.hypot(*(where - start - share[:, None] * along).T))
    return best.astype(np.float32)


def read_photo(work: Path, name: str) -> Photo:
    """Returns a photograph that `prepare` wrote."""
    with np.load(work / "photos" / f"{name}.npz") as stored:
        boxes = stored["boxes"]
        face = None if np.isnan(boxes[1]).any() else Box(*(float(v) for v in boxes[1]))
        return Photo(
            name,
            stored["bgr"],
            stored["classes"],
            Box(*(float(v) for v in boxes[0])),
            face,
            stored["points"],
        )


def write_photo(work: Path, photo: Photo) -> None:
    """Writes one prepared photograph below `work`."""
    boxes = np.full((2, 5), np.nan)
    for row, box in enumerate((photo.person, photo.face)):
        if box is not None:
            boxes[row] = (box.x1, box.y1, box.x2, box.y2, box.confidence)
    target = work / "photos" / f"{photo.name}.npz"
    target.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, bgr=photo.bgr, classes=photo.classes, boxes=boxes, points=photo.points)
    replace_file(target, content.getvalue(), sync=False)
