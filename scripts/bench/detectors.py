"""Measures the detectors of faces and people on everyday photographs, and calibrates their scores.

    python -m scripts.bench.detectors --data ../shared/data --raw DIR [--json FILE] [--only NAMES]

Looks are made once and kept in `--raw` as JSON, one file a condition; tables are computed from
them. Halves as in `scripts.everyday`: scores are calibrated on "tune", all else is "report".

**Persons.** A box is *right* where it shares 0.4 (intersection over union) with a labelled person,
and then finds it. It is left out where 0.7 of it lies inside one (a part of somebody) or in a
crowd; else it is *false*. Heights are those in the picture (long side 640 at most).

**Faces.** A face is found where the nose and both eyes of a labelled person are visible and a box
contains the nose; its width is taken as 2.3 distances between the eyes. A box is *right* that
contains a labelled nose or eye; one in a crowd, or at a person whose head is not labelled, is left
out; every other one is *false*.

**Conditions.** `gainN`: values times 1/N plus normal noise of deviation 2, rounded; `blurN`:
horizontal motion of N pixels; `turnN`: turned by N degrees.

Both person networks were trained on COCO, from which the peopled pictures are taken: their recall
on unseen scenes is lower. The empty rooms are from Open Images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from m2fp_stream.parsers.embedded.boxes import Box, suppress_overlaps
from m2fp_stream.parsers.embedded.closer import CloserFace
from m2fp_stream.parsers.embedded.efficientdet import EfficientDetPerson
from m2fp_stream.parsers.embedded.faces import FaceDetector
from m2fp_stream.parsers.embedded.persons import PersonDetector
from m2fp_stream.parsers.embedded.yunet import YuNet

from ..everyday import EMPTY, EYES, NOSE, PEOPLED, Half, Photo, half, photos
from .leak import machine

Picture = NDArray[np.uint8]
Table = NDArray[np.float32]
"""(n, 5) corners and score, or (n, 15) with five points after them."""

LOWEST: Final = 0.05
THRESHOLDS: Final = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
BINS: Final = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
IOU: Final = 0.4
INSIDE: Final = 0.7
FACE_WIDTHS: Final = 2.3
"""Widths of a face in distances between the eyes: YuNet's boxes on the tune half, median."""
CLOSER_FROM: Final = 0.1
"""YuNet's faces from this score upwards get a closer look."""
FAR_SHARE: Final = 0.45
"""In `384+640`, the finer look's boxes count up to this share of the long side."""
PERSON_HEIGHTS: Final = ((50, math.inf), (25, 50), (0, 25))
FACE_SIZES: Final = ((32, math.inf), (16, 32), (0, 16))
WHERE_PEOPLE: Final = ("plain", "gain4", "gain8", "gain16", "blur5", "blur9", "blur13")
TURNS: Final = ("turn90", "turn180", "turn270")


# --------------------------------------------------------------------------------------------------
# Looking


def looks() -> dict[str, Callable[[Picture], Table]]:
    """Returns every look by name."""
    yunet = YuNet(size=640, threshold=LOWEST, threads=1, runtime=None)
    persons = EfficientDetPerson(size=384, threshold=LOWEST, threads=1, runtime=None)
    centerface = FaceDetector(size=640, threshold=LOWEST, threads=1, runtime=None)
    nanodet = PersonDetector(size=416, far_size=640, threshold=LOWEST, threads=1, runtime=None)

    def faces_of(size: int) -> Callable[[Picture], Table]:
        detector = yunet.at(size)

        def look(bgr: Picture) -> Table:
            found = detector(bgr)
            points = np.array([face.landmarks for face in found], np.float32).reshape(-1, 10)
            return np.concatenate([rows_of(face.box for face in found), points], axis=1)

        return look

    def persons_of(size: int) -> Callable[[Picture], Table]:
        detector = persons.at(size)
        return lambda bgr: rows_of(detector(bgr))

    return {
        "yunet 480": faces_of(480),
        "yunet 640": faces_of(640),
        "centerface 640": lambda bgr: rows_of(centerface(bgr)),
        "efficientdet 384": persons_of(384),
        "efficientdet 512": persons_of(512),
        "efficientdet 640": persons_of(640),
        "nanodet 416+640": lambda bgr: rows_of(nanodet(bgr)),
    }


def rows_of(boxes: Iterable[Box]) -> Table:
    rows = [(b.x1, b.y1, b.x2, b.y2, b.confidence) for b in boxes]
    return np.array(rows, np.float32).reshape(-1, 5)


def altered(bgr: Picture, condition: str, name: str) -> Picture:
    """Returns the picture under a condition; noise depends on the file's name alone."""
    if condition == "plain":
        return bgr
    kind, amount = (
        condition.rstrip("0123456789"),
        int(condition.lstrip("abcdefghijklmnopqrstuvwxyz")),
    )
    if kind == "gain":
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        noise = np.random.default_rng(seed).normal(0, 2, bgr.shape)
        return np.clip(np.rint(bgr / amount + noise), 0, 255).astype(np.uint8)
    if kind == "blur":
        kernel = np.full((1, amount), 1 / amount, np.float32)
        return np.asarray(cv2.filter2D(bgr, -1, kernel), np.uint8)
    return np.ascontiguousarray(np.rot90(bgr, -amount // 90))


def unturned(rows: Table, condition: str, picture_hw: tuple[int, int]) -> Table:
    """Returns what was found in a turned picture in the coordinates of the upright one."""
    height, width = picture_hw
    count = (rows.shape[1] - 1) // 2
    points = np.delete(rows, 4, axis=1).reshape(len(rows), count, 2)
    x, y = points[..., 0], points[..., 1]
    back = {
        "turn90": (y, height - x),
        "turn180": (width - x, height - y),
        "turn270": (width - y, x),
    }
    points = np.stack(back[condition], axis=-1)
    corners = np.concatenate([points[:, :2].min(axis=1), points[:, :2].max(axis=1)], axis=1)
    rest = points[:, 2:].reshape(len(rows), 2 * (count - 2))
    return np.concatenate([corners, rows[:, 4:5], rest], axis=1).astype(np.float32)


def collect(
    folder: Path, condition: str, chosen: Sequence[Photo], names: Sequence[str]
) -> dict[str, dict[str, Table]]:
    """Returns look -> file name -> what it found, from the folder where it is there already."""
    file = folder / f"{condition}.json"
    kept: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    missing = [name for name in names if name not in kept]
    if missing:
        makers = looks()
        for name in missing:
            kept[name] = {}
            for photo in chosen:
                bgr = photo.read()
                found = makers[name](altered(bgr, condition, photo.path.name))
                if condition in TURNS:
                    found = unturned(found, condition, (bgr.shape[0], bgr.shape[1]))
                kept[name][photo.path.name] = np.round(found.astype(float), 4).tolist()
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(kept))
            print(f"looked: {condition}, {name}", flush=True)
    width = {True: 15, False: 5}
    return {
        name: {
            key: np.array(rows, np.float32).reshape(-1, width[name.startswith("yunet")])
            for key, rows in kept[name].items()
        }
        for name in names
    }


def two_scales(near: Table, far: Table, photo_side: int) -> Table:
    """Returns the look of one size with the small boxes of a finer one."""
    sides = (far[:, 2:4] - far[:, :2]).max(axis=1, initial=0)
    rows = np.concatenate([near, far[sides <= FAR_SHARE * photo_side]])
    return rows[suppress_overlaps(rows[:, :4], rows[:, 4], 0.5)]


# --------------------------------------------------------------------------------------------------
# Judging


def shared(one: Table, other: Table) -> tuple[Table, Table]:
    """Returns (n, m) intersection over union, and over the area of the first; (n, 4), (m, 4)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:4], other[None, :, 2:4])
    both = np.clip(high - low, 0, None).prod(axis=2)
    areas = (one[:, 2:4] - one[:, :2]).prod(axis=1)[:, None]
    others = (other[:, 2:4] - other[:, :2]).prod(axis=1)[None]
    return both / np.maximum(areas + others - both, 1e-6), both / np.maximum(areas, 1e-6)


def contains(boxes: Table, points: Table) -> NDArray[np.bool_]:
    """Returns (n, m): box i holds point j."""
    above = boxes[:, None, :2] <= points[None, :, :2]
    below = points[None, :, :2] <= boxes[:, None, 2:4]
    return np.asarray((above & below).all(axis=2))


@dataclass
class Tally:
    """What one look found in some pictures.

    Attributes:
        best: score by which each true thing was found, 0 where it was not.
        sizes: its size in pixels.
        scores: of every box that counts.
        right: whether it is right.
        pictures: how many there were.
    """

    best: NDArray[np.float64]
    sizes: NDArray[np.float64]
    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    pictures: int

    def recall(self, threshold: float, sizes: tuple[float, float]) -> float:
        chosen = (self.sizes >= sizes[0]) & (self.sizes < sizes[1])
        return float((self.best[chosen] >= threshold).mean()) if chosen.any() else math.nan

    def count(self, sizes: tuple[float, float]) -> int:
        return int(((self.sizes >= sizes[0]) & (self.sizes < sizes[1])).sum())

    def false_each(self, threshold: float) -> float:
        """False boxes a picture."""
        return float(((self.scores >= threshold) & ~self.right).sum()) / max(self.pictures, 1)

    def precision(self, threshold: float) -> float:
        counted = self.scores >= threshold
        return float(self.right[counted].mean()) if counted.any() else math.nan


def judge(found: dict[str, Table], chosen: Sequence[Photo], *, faces: bool) -> Tally:
    """Compares what a look found with the labels."""
    best: list[float] = []
    sizes: list[float] = []
    scores: list[float] = []
    right: list[bool] = []
    for photo in chosen:
        rows = found[photo.path.name]
        judged = _faces_of(rows, photo) if faces else _persons_of(rows, photo)
        best += judged[0]
        sizes += judged[1]
        counted = ~judged[3]
        scores += rows[counted, 4].tolist()
        right += judged[2][counted].tolist()
    return Tally(
        np.array(best), np.array(sizes), np.array(scores), np.array(right, bool), len(chosen)
    )


Judged = tuple[list[float], list[float], NDArray[np.bool_], NDArray[np.bool_]]
"""Scores by which the true things were found, their sizes; per box: right, left out."""


def _best(hits: NDArray[np.bool_], scores: NDArray[np.float32]) -> list[float]:
    return [float(v) for v in np.where(hits, scores[:, None], 0).max(axis=0, initial=0)]


def _persons_of(rows: Table, photo: Photo) -> Judged:
    corners = np.array([person.xyxy for person in photo.people], np.float32).reshape(-1, 4)
    ious, parts = shared(rows, corners)
    right = ious.max(axis=1, initial=0) >= IOU
    crowded = shared(rows, photo.crowds)[1].max(axis=1, initial=0) >= INSIDE
    unknown = crowded | (parts.max(axis=1, initial=0) >= INSIDE)
    heights = [person.height for person in photo.people]
    return _best(ious >= IOU, rows[:, 4]), heights, right, unknown & ~right


def _faces_of(rows: Table, photo: Photo) -> Judged:
    noses: list[Table] = []
    sizes: list[float] = []
    right = np.zeros(len(rows), bool)
    unknown = shared(rows, photo.crowds)[1].max(axis=1, initial=0) > 0.1
    for person in photo.people:
        head = None if person.points is None else person.points[: EYES[1] + 1]
        if head is None or not (head[:, 2] > 0).any():
            unknown |= shared(rows, person.xyxy[None])[1][:, 0] > 0.5
            continue
        small_enough = rows[:, 3] - rows[:, 1] < 1.2 * person.height
        right |= contains(rows, head[head[:, 2] > 0]).any(axis=1) & small_enough
        if (head[:, 2] == 2).all():
            noses.append(head[NOSE])
            sizes.append(FACE_WIDTHS * float(np.hypot(*(head[EYES[0]] - head[EYES[1]])[:2])))
    hits = contains(rows, np.array(noses, np.float32).reshape(-1, 3))
    return _best(hits, rows[:, 4]), sizes, right, unknown & ~right


def log_odds(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Returns logit(score) of scores cut to 0.005 to 0.995."""
    clipped = np.clip(scores.astype(np.float64), 0.005, 0.995)
    return np.asarray(np.log(clipped / (1 - clipped)))


def calibration(right: NDArray[np.bool_], *scores: NDArray[Any]) -> list[float]:
    """Returns a of each score and b: the log-odds of right are sum(a * logit(score)) + b.

    Fitted by Newton steps. Source: Platt, "Probabilistic Outputs for Support Vector Machines",
    1999, on log-odds.
    """
    inputs = np.stack([*map(log_odds, scores), np.ones(len(right))], axis=1)
    weights = np.array([1.0] * len(scores) + [0.0])

    def loss(tried: NDArray[np.float64]) -> float:
        values = inputs @ tried
        return float((np.logaddexp(0, values) - right * values).sum())

    for _ in range(50):
        expected = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (right - expected)
        curve = (inputs * (expected * (1 - expected))[:, None]).T @ inputs
        step = np.linalg.solve(curve + 1e-6 * np.eye(len(weights)), slope)
        while loss(weights + step) > loss(weights) and np.abs(step).max() > 1e-9:
            step = step / 2  # a whole Newton step may overshoot
        weights = weights + step
    return [float(weight) for weight in weights]


def knots(right: NDArray[np.bool_], scores: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Returns (logit of the score, log-odds of right) bin by bin, never falling.

    For scores whose curve is no straight line in log-odds. Neighbours that would fall are pooled.
    Source: pool adjacent violators, Ayer et al., Annals of Mathematical Statistics 26 (1955).
    """
    pools: list[list[NDArray[Any]]] = []

    def odds(pool: list[NDArray[Any]]) -> float:
        hits, count = (float(part.sum()) for part in (pool[1], np.ones_like(pool[1])))
        return math.log((hits + 0.5) / (count - hits + 0.5))

    for low, high in pairwise(BINS):
        chosen = (scores >= low) & (scores < high)
        if not chosen.any():
            continue
        pools.append([log_odds(scores[chosen]), right[chosen]])
        while len(pools) > 1 and odds(pools[-2]) >= odds(pools[-1]):
            last = pools.pop()
            pools[-1] = [np.concatenate(parts) for parts in zip(pools[-1], last, strict=True)]
    return [(round(float(pool[0].mean()), 2), round(odds(pool), 2)) for pool in pools]


# --------------------------------------------------------------------------------------------------
# Tables


def pct(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def sizes_text(sizes: tuple[float, float]) -> str:
    return f">= {sizes[0]:g}" if math.isinf(sizes[1]) else f"{sizes[0]:g} to {sizes[1]:g}"


def at_thresholds(
    name: str, with_people: Tally, empty: Tally, groups: Sequence[tuple[float, float]]
) -> list[dict[str, Any]]:
    """Prints and returns recall, false boxes and precision of one look at every threshold."""
    every: list[dict[str, Any]] = [
        {
            "threshold": t,
            "recall": {sizes_text(g): with_people.recall(t, g) for g in groups},
            "false_with_people": with_people.false_each(t),
            "false_empty": empty.false_each(t),
            "precision": with_people.precision(t),
        }
        for t in THRESHOLDS
    ]
    counts = [f"{sizes_text(g)} px ({with_people.count(g)})" for g in groups]
    print(f"{name}: recall by size, false boxes a picture, precision where people are")
    table(
        ("threshold", *counts, "false, people", "false, nobody", "precision"),
        (
            (
                f"{row['threshold']:g}",
                *(pct(value) for value in row["recall"].values()),
                f"{row['false_with_people']:.2f}",
                f"{row['false_empty']:.3f}",
                pct(row["precision"]),
            )
            for row in every
        ),
    )
    return every


def calibrated(name: str, *tallies: Tally) -> dict[str, Any]:
    """Prints and returns the share of right boxes by score, and the fitted curve."""
    scores = np.concatenate([tally.scores for tally in tallies])
    right = np.concatenate([tally.right for tally in tallies])
    a, b = calibration(right, scores)
    rows = []
    for low, high in pairwise(BINS):
        chosen = (scores >= low) & (scores < high)
        if chosen.any():
            fitted = 1 / (1 + np.exp(-(a * log_odds(scores[chosen]) + b)))
            rows.append((low, high, int(chosen.sum()), right[chosen].mean(), fitted.mean()))
    print(f"{name}: share of right boxes by score, tune half; a = {a:.3f}, b = {b:.3f}")
    table(
        ("score", "boxes", "right", "fitted"),
        ((f"{lo:g} to {hi:g}", str(n), pct(r), pct(f)) for lo, hi, n, r, f in rows),
    )
    steps = knots(right, scores)
    print("knots (logit of the score, log-odds):", steps, end="\n\n")
    return {"a": a, "b": b, "knots": steps, "bins": [[float(v) for v in row] for row in rows]}


def collect_closer(
    folder: Path, found: dict[str, Table], chosen: Sequence[Photo]
) -> dict[str, NDArray[np.float32]]:
    """Returns per file (n, 2): what a closer look says of each box from `CLOSER_FROM` upwards."""
    file = folder / "closer.json"
    if not file.exists():
        closer = CloserFace(threads=1, runtime=None)
        kept: dict[str, list[list[float]]] = {}
        for photo in chosen:
            bgr = photo.read()
            said = []
            for row in found[photo.path.name]:
                if row[4] < CLOSER_FROM:
                    said.append([0.0, 0.0])
                    continue
                look = closer(bgr, Box.from_row(row[:4], float(row[4])))
                said.append([round(look.confidence, 5), round(look.roll_deg, 2)])
            kept[photo.path.name] = said
        file.write_text(json.dumps(kept))
        print("looked closer", flush=True)
    read = json.loads(file.read_text())
    return {name: np.array(rows, np.float32).reshape(-1, 2) for name, rows in read.items()}


def together(
    found: dict[str, Table],
    closer: dict[str, NDArray[np.float32]],
    peopled: Sequence[Photo],
    empty: Sequence[Photo],
) -> dict[str, Any]:
    """Prints and returns what YuNet and a closer look are worth together."""
    rows = {name: table[table[:, 4] >= CLOSER_FROM] for name, table in found.items()}
    looks_at = {name: closer[name][found[name][:, 4] >= CLOSER_FROM, 0] for name in found}
    tune = [photo for photo in (*peopled, *empty) if half(photo.path.name) == "tune"]
    right: list[NDArray[np.bool_]] = []
    scores: list[NDArray[np.float32]] = []
    for photo in tune:
        name = photo.path.name
        _, _, is_right, left_out = _faces_of(rows[name], photo)
        right.append(is_right[~left_out])
        scores.append(np.stack([rows[name][:, 4], looks_at[name]], axis=1)[~left_out])
    pairs = np.concatenate(scores)
    a, c, b = calibration(np.concatenate(right), pairs[:, 0], pairs[:, 1])
    sure = {}
    for name, table_of in rows.items():
        value = a * log_odds(table_of[:, 4]) + c * log_odds(looks_at[name]) + b
        sure[name] = table_of.copy()
        sure[name][:, 4] = 1 / (1 + np.exp(-value))
    people, nobody = (
        judge(sure, [p for p in part if half(p.path.name) == "report"], faces=True)
        for part in (peopled, empty)
    )
    print(f"log-odds = {a:.3f} logit(yunet) + {c:.3f} logit(closer) {b:+.3f}, tune half")
    title = "yunet 640 from 0.1 upwards and a closer look; threshold: probability"
    return {"a": a, "c": c, "b": b, "report": at_thresholds(title, people, nobody, FACE_SIZES)}


def points_table(
    found: dict[str, Table], closer: dict[str, NDArray[np.float32]], chosen: Sequence[Photo]
) -> list[dict[str, float]]:
    """Prints how far YuNet's eyes are from the labelled ones, and the error of either's roll."""
    errors: list[tuple[float, float, float, float]] = []
    for photo in chosen:
        rows = found[photo.path.name]
        for person in photo.people:
            if person.points is None or not (person.points[:3, 2] == 2).all():
                continue
            left, right = person.points[1, :2], person.points[2, :2]
            apart = float(np.hypot(*(left - right)))
            hits = contains(rows, person.points[:1])[:, 0] & (rows[:, 4] >= 0.3)
            if apart < 8 or not hits.any():
                continue
            eyes = rows[np.argmax(hits), 5:9].reshape(2, 2)
            off = np.hypot(*(eyes - np.stack([right, left])).T).mean() / apart
            true = math.degrees(math.atan2(*(left - right)[::-1]))
            ours = math.degrees(math.atan2(*(eyes[1] - eyes[0])[::-1]))
            nearer = float(closer[photo.path.name][np.argmax(hits), 1])
            turn, closer_turn = (abs((roll - true + 180) % 360 - 180) for roll in (ours, nearer))
            errors.append((abs(true), float(off), turn, closer_turn))
    rows_out = []
    for low, high in ((0, 10), (10, 20), (20, 35), (35, 180)):
        part = [e for e in errors if low <= e[0] < high]
        if part:
            off, turn, nearer = (statistics.median(e[i] for e in part) for i in (1, 2, 3))
            row = {"from": low, "to": high, "n": len(part), "eyes": off}
            rows_out.append({**row, "roll": turn, "closer": nearer})
    print("Points against the labelled eyes (8 px apart or more), medians of the errors")
    table(
        ("roll of the head", "faces", "yunet, distances between the eyes", "its roll", "closer"),
        (
            (
                f"{r['from']} to {r['to']}",
                str(r["n"]),
                f"{r['eyes']:.2f}",
                f"{r['roll']:.1f}",
                f"{r['closer']:.1f}",
            )
            for r in rows_out
        ),
    )
    return rows_out


def by_condition(
    title: str,
    tallies: dict[str, dict[str, Tally]],
    thresholds: dict[str, float],
    groups: Sequence[tuple[float, float]],
) -> dict[str, Any]:
    """Prints and returns recall by condition and size of some looks, each at one threshold."""
    out: dict[str, Any] = {}
    for condition, by_look in tallies.items():
        out[condition] = {
            look: {
                **{sizes_text(g): tally.recall(thresholds[look], g) for g in groups},
                "false": tally.false_each(thresholds[look]),
            }
            for look, tally in by_look.items()
        }
    print(title)
    table(
        ("condition", *(f"{look} @ {t:g}" for look, t in thresholds.items())),
        (
            (
                condition,
                *(" / ".join(f"{value:.2f}" for value in row[k].values()) for k in thresholds),
            )
            for condition, row in out.items()
        ),
    )
    return out


def timings() -> dict[str, float]:
    """Prints and returns CPU milliseconds a look at 640 x 360, medians of 15 in turn."""
    makers = looks()
    bgr = np.random.default_rng(1).integers(0, 255, (360, 640, 3), np.uint8)
    picture = np.asarray(cv2.GaussianBlur(bgr, (0, 0), 4), np.uint8)
    times: dict[str, list[float]] = {name: [] for name in makers}
    for turn in range(17):
        for name, look in makers.items():
            begin = time.process_time()
            look(picture)
            if turn >= 2:
                times[name].append(1e3 * (time.process_time() - begin))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print("CPU ms a look at a picture of 640 x 360, one thread")
    table(("look", "ms"), ((name, f"{value:.1f}") for name, value in medians.items()))
    return medians


# --------------------------------------------------------------------------------------------------

FACE_LOOKS: Final = ("yunet 480", "yunet 640", "centerface 640")
PERSON_LOOKS: Final = (
    "efficientdet 384",
    "efficientdet 512",
    "efficientdet 640",
    "nanodet 416+640",
)
CHOSEN: Final = {
    "yunet 640": 0.3,
    "centerface 640": 0.25,
    "efficientdet 384": 0.25,
    "efficientdet 640": 0.2,
    "efficientdet 384+640": 0.2,
    "nanodet 416+640": 0.25,
}
"""Thresholds of the tables by condition: false boxes where nobody is are about as many."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--raw", type=Path, required=True, help="folder for what was found")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    parser.add_argument("--every", type=int, default=3, help="conditions: every nth picture")
    parser.add_argument("--conditions", default=",".join((*WHERE_PEOPLE[1:], *TURNS)))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    about = {**machine(), "onnxruntime": onnxruntime.__version__, "system": platform.platform()}
    print(*(f"{key}: {value}" for key, value in about.items()), sep="\n", end="\n\n")

    out: dict[str, Any] = {"machine": about, "ms": timings()}
    peopled, empty = photos(options.data, PEOPLED), photos(options.data, EMPTY)
    found = collect(options.raw, "plain", [*peopled, *empty], (*FACE_LOOKS, *PERSON_LOOKS))
    closer = collect_closer(options.raw, found["yunet 640"], [*peopled, *empty])
    out["plain"] = plain_tables(found, peopled, empty)
    out["together"] = together(found["yunet 640"], closer, peopled, empty)
    every_report = [photo for photo in peopled if half(photo.path.name) == "report"]
    out["points"] = points_table(found["yunet 640"], closer, every_report)
    report = every_report[:: options.every]
    conditions = [name for name in options.conditions.split(",") if name]
    faces: dict[str, dict[str, Tally]] = {}
    persons: dict[str, dict[str, Tally]] = {}
    for condition in ("plain", *conditions):
        names = [name for name in (*FACE_LOOKS, *PERSON_LOOKS) if name in CHOSEN]
        rows = found if condition == "plain" else collect(options.raw, condition, report, names)
        rows = with_two_scales(rows, report)
        faces[condition] = {
            name: judge(rows[name], report, faces=True) for name in FACE_LOOKS if name in CHOSEN
        }
        persons[condition] = {
            name: judge(rows[name], report, faces=False)
            for name in CHOSEN
            if name not in FACE_LOOKS
        }
    out["faces"] = by_condition(
        "Faces, report half: recall of widths "
        f"{' / '.join(map(sizes_text, FACE_SIZES))} px / false boxes a picture",
        faces,
        {name: CHOSEN[name] for name in FACE_LOOKS if name in CHOSEN},
        FACE_SIZES,
    )
    out["persons"] = by_condition(
        "Persons, report half: recall of heights "
        f"{' / '.join(map(sizes_text, PERSON_HEIGHTS))} px / false boxes a picture",
        persons,
        {name: t for name, t in CHOSEN.items() if name not in FACE_LOOKS},
        PERSON_HEIGHTS,
    )
    if options.json:
        options.json.write_text(json.dumps(out, indent=1))


def with_two_scales(
    found: dict[str, dict[str, Table]], chosen: Sequence[Photo]
) -> dict[str, dict[str, Table]]:
    """Returns the looks and one more, 384 with the small boxes of 640."""
    near, far = found["efficientdet 384"], found["efficientdet 640"]
    # The pictures' long side is 640 but for a few that are smaller.
    both = {p.path.name: two_scales(near[p.path.name], far[p.path.name], 640) for p in chosen}
    return {**found, "efficientdet 384+640": both}


def plain_tables(
    found: dict[str, dict[str, Table]], peopled: Sequence[Photo], empty: Sequence[Photo]
) -> dict[str, Any]:
    """Prints and returns all that needs the pictures as they are."""
    found = with_two_scales(found, [*peopled, *empty])
    out: dict[str, Any] = {}

    def part(chosen: Sequence[Photo], which: Half) -> list[Photo]:
        return [photo for photo in chosen if half(photo.path.name) == which]

    for name, rows in found.items():
        faces = name in FACE_LOOKS
        groups = FACE_SIZES if faces else PERSON_HEIGHTS
        row: dict[str, Any] = {}
        for which in ("report", "tune"):
            people = judge(rows, part(peopled, which), faces=faces)
            nobody = judge(rows, part(empty, which), faces=faces)
            if which == "report":
                row["report"] = at_thresholds(name, people, nobody, groups)
            else:
                row["calibration"] = calibrated(name, people, nobody)
        out[name] = row
    return out


if __name__ == "__main__":
    main()
