"""Recall of heads in photographs whose pixels are sideways or upside down, no tag says so.

    python -m scripts.bench.turned --data ../shared/data [--photos N]

Photographs of the report half (COCO, one person mostly) are turned by 0, 90, 180 and 270 degrees
and covered as the program does. A head counts as covered where nine tenths of its ellipse (at .8 of
its size) were changed; "outside" is the mean share of the picture that was changed outside people.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.app.stills import UploadedPictures
from m2fp_stream.config import Settings
from scripts.bench.scenes_everyday import Head, head_of
from scripts.everyday import Photo, photos

TURNS: Final = (0, 90, 180, 270)
COVERED: Final = 0.9
CORE: Final = 0.8
"""Chosen: ellipses from key points lie on heads to some 15 % of their size."""
SMALLEST_PX: Final = 12
"""Width of a head below which no part look is made (docs/architecture.md)."""


@dataclass
class Count:
    """Heads that were covered, by kind; and what was covered outside people."""

    heads: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    outside: list[float] = field(default_factory=list)


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=60)
    args = parser.parse_args()
    pictures = UploadedPictures(Settings(), name=Path("photo"))
    counts = {turn: Count() for turn in TURNS}
    used = 0
    for photo in photos(args.data, ("coco_person_masks",), "report"):
        bgr, mask = photo.read(), _mask_of(photo)
        heads = _heads_of(photo, mask)
        if not heads:
            continue
        for turn, count in counts.items():
            _measure(pictures, bgr, mask, heads, turn, count)
        used += 1
        if used == args.photos:
            break
    _print(counts, used)


def _mask_of(photo: Photo) -> NDArray[np.uint8]:
    path = photo.path.parent.parent / "masks" / f"{photo.path.stem}.png"
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint8)


def _heads_of(photo: Photo, mask: NDArray[np.uint8]) -> list[Head]:
    found = []
    for person in photo.people:
        if person.points is None or not person.instance:
            continue
        head = head_of(person.points.astype(np.float64), mask == person.instance)
        if head is not None and head.width >= SMALLEST_PX:
            found.append(head)
    return found


def _measure(
    pictures: UploadedPictures,
    bgr: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    heads: list[Head],
    turn: int,
    count: Count,
) -> None:
    turned = np.ascontiguousarray(np.rot90(bgr, -turn // 90))
    upload = cv2.imencode(".png", turned)[1].tobytes()
    done = cv2.imdecode(np.frombuffer(pictures.anonymize(upload), np.uint8), cv2.IMREAD_COLOR)
    changed = np.rot90((np.asarray(done) != turned).any(axis=2), turn // 90)
    for head in heads:
        covered = bool(changed[head.mask(changed.shape, CORE)].mean() >= COVERED)
        size = "32 px and more" if head.width >= 32 else "12 to 31 px"
        for kind in ("all", "face" if head.face else "from behind", size):
            count.heads[kind].append(covered)
    people = cv2.dilate((mask > 0).astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
    count.outside.append(float((changed & ~people).mean()))


def _print(counts: dict[int, Count], used: int) -> None:
    kinds = list(counts[0].heads)
    print(f"{used} photographs")
    print("| Turned by | " + " | ".join(kinds) + " | outside % |")
    print("|" + "---|" * (len(kinds) + 2))
    for turn, count in counts.items():
        cells = [f"{np.mean(count.heads[k]):.3f} ({len(count.heads[k])})" for k in kinds]
        print(f"| {turn} | " + " | ".join(cells) + f" | {100 * np.mean(count.outside):.2f} |")


if __name__ == "__main__":
    main()
