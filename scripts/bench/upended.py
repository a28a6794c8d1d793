"""Measures whether the part network tells somebody upside down, from behind, from somebody upright.

    python -m scripts.bench.upended --data ../shared/data

Bodies that are known to be upright are cut out as they are and turned by 180 degrees, and looked at
both ways. How much of a head lies in a crop's upper third, times how much of legs and shoes in its
lower one, is compared: the logarithm of turned to upright says "upside down" beyond a limit. As the
two crops of somebody upside down are the same two, the other way round, that limit below zero says
how many of these would be found. Clips: the two reported ones, where all are upside down.

A measurement for a rule that is not built: nothing in the product looks so.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.parsers.embedded.classes import PartClass
from m2fp_stream.parsers.embedded.looker import EmbeddedLooker, crop_for_parts

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]

HEAD: Final = (PartClass.HAIR, PartClass.FACE, PartClass.HAT, PartClass.GLASSES)
LEGS: Final = (
    PartClass.LEFT_LEG,
    PartClass.RIGHT_LEG,
    PartClass.LOWER_CLOTHES,
    PartClass.LEFT_SHOE,
    PartClass.RIGHT_SHOE,
)
LIMITS: Final = (0, 1, 2)
CROP_PIXELS: Final = 192 * 192
LEAST_HEIGHT: Final = 96
CLIPS: Final = {"one-by-one-person-detection.mp4": 16, "store-aisle-detection.mp4": 6}
"""Every how many frames are taken. All people in them are upright."""
LEAST_SHARE: Final = 0.01
"""Added to each share: what is nowhere says little."""


def labelled(data: Path, most: int) -> Iterator[tuple[str, Picture, Box]]:
    """Upright people of COCO, whole down to the hips, by whether nose and eyes are labelled."""
    folder = data / "everyday" / "coco_person_boxes"
    found = json.loads((folder / "annotations.json").read_text())
    files = {image["id"]: image["file"] for image in found["images"]}
    people: list[dict[str, Any]] = found["annotations"]
    random.Random(1).shuffle(people)
    left = {"COCO, from behind": most, "COCO, from in front": most // 2}
    for one in people:
        x, y, width, height = one["bbox"]
        points = np.array(one.get("keypoints") or [0] * 51, float).reshape(17, 3)
        shoulders, hips, face = points[5:7], points[11:13], points[:3, 2]
        if height < LEAST_HEIGHT or width < LEAST_HEIGHT / 3:
            continue
        if not (shoulders[:, 2].all() and hips[:, 2].all()):
            continue
        if shoulders[:, 1].mean() > hips[:, 1].mean() - 0.15 * height:
            continue
        kind = {0: "COCO, from behind", 6: "COCO, from in front"}.get(int(face.sum()), "")
        picture = cv2.imread(str(folder / "images" / files[one["image"]]))
        if picture is not None and left.get(kind, 0):
            left[kind] -= 1
            yield kind, np.asarray(picture, np.uint8), (x, y, x + width, y + height)


def filmed(path: Path, step: int, looker: EmbeddedLooker) -> Iterator[tuple[str, Picture, Box]]:
    """The people of every so many frames of a clip, as a near look finds them."""
    with av.open(path) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % step:
                continue
            picture = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
            found = looker.people(picture)
            for score, (x1, y1, x2, y2) in zip(found.scores, found.xyxy.tolist(), strict=True):
                if score > 0.5 and y2 - y1 >= LEAST_HEIGHT:
                    yield path.stem, picture, (x1, y1, x2, y2)


def standing(looker: EmbeddedLooker, picture: Picture, box: Box) -> float:
    """How surely a head is above and legs are below in a box, as a logarithm."""
    x1, y1, x2, y2 = box
    margin = 0.1 * max(x2 - x1, y2 - y1)
    region = (x1 - margin, y1 - margin, x2 + margin, y2 + margin)
    crop, _ = crop_for_parts(picture, region, CROP_PIXELS)
    planes = looker.parts(crop).planes / 255
    third = planes.shape[1] // 3
    room = third * planes.shape[2]
    head = float(planes[list(HEAD), :third].sum()) / room
    legs = float(planes[list(LEGS), -third:].sum()) / room
    return math.log(head + LEAST_SHARE) + math.log(legs + LEAST_SHARE)


def compared(looker: EmbeddedLooker, picture: Picture, box: Box) -> float:
    """Above 0 where the body stands better turned by 180 degrees."""
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = box
    turned = np.ascontiguousarray(picture[::-1, ::-1])
    back = (width - x2, height - y2, width - x1, height - y1)
    return standing(looker, turned, back) - standing(looker, picture, box)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--most", type=int, default=120, help="people from behind")
    options = parser.parse_args()
    looker = EmbeddedLooker(threads=1)
    found: dict[str, list[float]] = {}
    for kind, picture, box in labelled(options.data, options.most):
        found.setdefault(kind, []).append(compared(looker, picture, box))
    clips = {options.data / "clips" / name: step for name, step in CLIPS.items()}
    reports = ("down_arriving.mp4", "down_leaving.mp4")
    clips |= {options.data / "reports" / name: 1 for name in reports}
    for path, step in clips.items():
        for kind, picture, box in filmed(path, step, looker):
            found.setdefault(kind, []).append(compared(looker, picture, box))
    print("| Bodies | n | " + " | ".join(f"> {one} / < -{one}" for one in LIMITS) + " |")
    print("|---" * (2 + len(LIMITS)) + "|")
    for kind, values in found.items():
        shares = (
            f"{np.mean([v > one for v in values]):.2f} / {np.mean([v < -one for v in values]):.2f}"
            for one in LIMITS
        )
        print(f"| {kind} | {len(values)} | " + " | ".join(shares) + " |")


if __name__ == "__main__":
    main()
