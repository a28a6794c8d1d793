"""The everyday photographs: who is in them, and which half each belongs to.

`half` is the only split there is: whatever trains, tunes or calibrates takes "tune", whatever is
reported takes "report".
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["EMPTY", "NOT_EMPTY", "PEOPLED", "Half", "Person", "Photo", "half", "licences", "photos"]

Half = Literal["tune", "report"]
PEOPLED: Final = ("coco_person_masks", "coco_person_boxes")
EMPTY: Final = ("coco_neg", "rooms_neg")
"""Sets of pictures without anybody."""
NOT_EMPTY: Final = frozenset(
    {"00f6a80e7f1a229a", "0a4c6b68ca539d0e", "0df8cb86b756c8b6", "264de7f0e59e9728"}
    | {"603dd33e938d9611"}
)
"""Pictures of the empty sets that hold somebody after all (looked at, at full size): left out."""
CROWD_WIDTH: Final = 100
"""Pixels. A box without key points, wider than this and 1.2 times as wide as high, is a crowd: the
sets hold crowds as one box, and no other mark tells (51 boxes of 2 920)."""
NOSE, EYES, EARS = 0, (1, 2), (3, 4)
"""Rows of `Person.points`. Source: COCO's key point format; eyes and ears left, then right."""


def half(name: str) -> Half:
    """Returns the half of a file by its name without folders: SHA-1, first byte even is "tune"."""
    return "tune" if hashlib.sha1(name.encode()).digest()[0] % 2 == 0 else "report"


@dataclass(frozen=True)
class Person:
    """One labelled person.

    Attributes:
        xyxy: (4,) float32 corners in pixels.
        points: (17, 3) float32 x, y, visibility (0 not labelled, 1 hidden, 2 visible), or None.
        instance: value in the picture's mask, or 0 where it has none.
    """

    xyxy: NDArray[np.float32]
    points: NDArray[np.float32] | None
    instance: int = 0

    @property
    def height(self) -> float:
        """Pixels."""
        return float(self.xyxy[3] - self.xyxy[1])


@dataclass(frozen=True)
class Photo:
    """One picture and what is known of it; `crowds` are (n, 4) corners inside which it is not."""

    path: Path
    group: str
    people: tuple[Person, ...]
    crowds: NDArray[np.float32]

    def read(self) -> NDArray[np.uint8]:
        """Returns (h, w, 3) uint8 BGR."""
        picture = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
        if picture is None:
            raise SystemExit(f"cannot read {self.path}")
        return np.asarray(picture, np.uint8)


def photos(data: Path, groups: tuple[str, ...], wanted: Half | None = None) -> list[Photo]:
    """Returns the pictures of some sets (of one half), by name.

    Args:
        data: the folder with ``everyday/``.
        groups: names of sets in it.
        wanted: a half; None takes both.
    """
    found: list[Photo] = []
    for group in groups:
        folder = data / "everyday" / group
        labels = _labels(folder / "annotations.json")
        for path in sorted((folder / "images").iterdir()):
            if path.stem not in NOT_EMPTY and (wanted is None or half(path.name) == wanted):
                people, crowds = _read(labels.get(path.stem, []))
                crowds += _ignored(folder / "masks" / f"{path.stem}.png")
                corners = np.array(crowds, np.float32).reshape(-1, 4)
                found.append(Photo(path, group, tuple(people), corners))
    return found


def licences(data: Path) -> dict[str, str]:
    """Returns the licence of every picture, by its path below ``everyday/``."""
    with (data / "everyday" / "ATTRIBUTION.csv").open(encoding="utf-8", newline="") as table:
        return {row["file"]: row["licence"] for row in csv.DictReader(table)}


def _labels(file: Path) -> dict[str, list[dict[str, Any]]]:
    by_picture: dict[str, list[dict[str, Any]]] = {}
    if file.exists():
        for entry in json.loads(file.read_text(encoding="utf-8"))["annotations"]:
            by_picture.setdefault(entry["image"], []).append(entry)
    return by_picture


def _read(entries: list[dict[str, Any]]) -> tuple[list[Person], list[list[float]]]:
    people: list[Person] = []
    crowds: list[list[float]] = []
    for entry in entries:
        x, y, width, height = entry["bbox"]
        corners = [x, y, x + width, y + height]
        points = entry.get("keypoints")
        if points is None and width > CROWD_WIDTH and width > 1.2 * height:
            crowds.append(corners)
            continue
        table = None if points is None else np.array(points, np.float32).reshape(17, 3)
        instance = int(entry.get("instance", 0))
        people.append(Person(np.array(corners, np.float32), table, instance))
    return people, crowds


def _ignored(mask_file: Path) -> list[list[float]]:
    """Returns the box of what a mask says to ignore (255), if any."""
    if not mask_file.exists():
        return []
    mask = cv2.imread(str(mask_file), cv2.IMREAD_UNCHANGED)
    rows, columns = np.nonzero(np.asarray(mask) == 255)
    if not rows.size:
        return []
    return [[float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]]
