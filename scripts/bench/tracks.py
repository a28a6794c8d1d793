"""Measures tables of positions on films where it is known who is where.

    python -m scripts.bench.tracks [--half tune|report] [--scenes enter,crossing] [--seed 1]
        [--by-frame] [--data DIR] [--keep DIR] [--json FILE]

Each scene is written as a film (H.264, CRF 12) and goes through the whole program with `tracks`;
rows are compared, frame by frame, with the boxes of what is visible of each composed person. A row
and a person are the same where the boxes' intersection over union is `--iou` or more; pairs are
taken greedily, the best first. Whom the truth does not know exactly counts neither way.

- recall, precision: people that have a row, rows that are a person's; of all frames together, by
  frame the mean and the worst. A frame without people (rows) has no recall (precision). A card has
  no rows: whoever is there is missed.
- loose: the same at half of `--iou`. seen: without rows of who is carried, beyond the first and the
  last sighting. iou: mean of the pairs.
- `--by-frame` prints every frame besides; `--json` holds them in any case.
- people, tracks, switches: who there is, a shot counted by itself; numbers in the table; how often
  a person's number changes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

import m2fp_stream
from m2fp_stream.tracking.heads import Rect
from scripts.bench.leak import machine
from scripts.bench.metrics import SMALLEST_PX
from scripts.bench.scenes import RATE, Film, Part, Truth
from scripts.bench.scenes_everyday import SCENES, build

SCENES_OF_PEOPLE: Final = (
    *("enter", "crossing", "occluder", "cuts", "re-enter", "camera", "far", "still-dark"),
    *("behind", "crowd-10", "crowd-50", "empty-room"),
)
"""Whoever is in these is composed, and known to the pixel; in the last one is nobody."""
IGNORED_SHARE: Final = 0.5
"""A row that lies so far in what is not known counts neither way. Chosen: half."""

Pair = tuple[int, int, float]
"""Index of a person and of a row, and the intersection over union of their boxes."""


@dataclass(frozen=True)
class FrameCount:
    """One frame: who is there, what is told, and what of both is the same."""

    frame: int
    people: int
    rows: int
    found: int
    loose: int
    seen: int
    seen_found: int
    card: bool = False

    @property
    def recall(self) -> float | None:
        """Share of the people that have a row."""
        return self.found / self.people if self.people else None

    @property
    def precision(self) -> float | None:
        """Share of the rows that are a person's."""
        return self.found / self.rows if self.rows else None


@dataclass
class Count:
    """What one film's table says, against the truth."""

    frames: list[FrameCount] = field(default_factory=list[FrameCount])
    people: set[int] = field(default_factory=set[int])
    tracks: set[int] = field(default_factory=set[int])
    overlaps: list[float] = field(default_factory=list[float])
    switches: int = 0
    _last: dict[int, int] = field(default_factory=dict[int, int])

    def see(
        self,
        frame: int,
        truth: Mapping[int, Rect],
        rows: Mapping[int, Rect],
        *,
        iou: float,
        carried: Collection[int] = (),
        card: bool = False,
    ) -> None:
        """Counts a frame: boxes by person, and by track; and which tracks are carried."""
        persons, tracks = list(truth), list(rows)
        pairs = matched(list(truth.values()), list(rows.values()), iou / 2)
        close = [pair for pair in pairs if pair[2] >= iou]
        self.frames.append(
            FrameCount(
                frame,
                len(persons),
                len(tracks),
                len(close),
                len(pairs),
                seen=sum(track not in carried for track in tracks),
                seen_found=sum(tracks[row] not in carried for _, row, _ in close),
                card=card,
            )
        )
        self.people.update(persons)
        self.tracks.update(tracks)
        for person, row, overlap in close:
            self.overlaps.append(overlap)
            before = self._last.get(persons[person], tracks[row])
            self.switches += before != tracks[row]
            self._last[persons[person]] = tracks[row]

    def figures(self) -> dict[str, Any]:
        """Returns what is printed."""
        return {
            "frames": len(self.frames),
            "cards": sum(one.card for one in self.frames),
            "people": len(self.people),
            "tracks": len(self.tracks),
            "switches": self.switches,
            **{f"recall_{key}": value for key, value in _shares(self.frames, "people").items()},
            **{f"precision_{key}": value for key, value in _shares(self.frames, "rows").items()},
            "recall_seen": _share(self.frames, "seen_found", "people"),
            "precision_seen": _share(self.frames, "seen_found", "seen"),
            "iou": float(np.mean(self.overlaps)) if self.overlaps else None,
        }


def _shares(frames: Sequence[FrameCount], of: str) -> dict[str, float | None]:
    """Returns which share was found: of all, by frame (mean, worst), and loosely."""
    some = [(getattr(one, of), one) for one in frames if getattr(one, of)]
    if not some:
        return dict.fromkeys(("all", "mean", "worst", "loose"))
    by_frame = [one.found / count for count, one in some]
    return {
        "all": _share(frames, "found", of),
        "mean": float(np.mean(by_frame)),
        "worst": min(by_frame),
        "loose": _share(frames, "loose", of),
    }


def _share(frames: Sequence[FrameCount], what: str, of: str) -> float | None:
    total: int = sum(getattr(one, of) for one in frames)
    found: int = sum(getattr(one, what) for one in frames)
    return found / total if total else None


def matched(people: Sequence[Rect], rows: Sequence[Rect], iou: float) -> list[Pair]:
    """Returns pairs of boxes that are the same, each box in one at most, the best first."""
    every = ((p, r, a.iou(b)) for p, a in enumerate(people) for r, b in enumerate(rows))
    found: list[Pair] = []
    for person, row, overlap in sorted(every, key=lambda pair: -pair[2]):
        if overlap < iou:
            break
        if all(person != p and row != r for p, r, _ in found):
            found.append((person, row, overlap))
    return found


def boxes_of(truth: Truth) -> dict[int, Rect]:
    """Returns the box of what is visible of each person, who shows `SMALLEST_PX` or more."""
    boxes: dict[int, Rect] = {}
    for figure in truth.figures:
        there = figure.of(part for part in Part if part not in (Part.NOBODY, Part.MAYBE))
        if np.count_nonzero(there) >= SMALLEST_PX:
            rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
            left, top = figure.columns.start, figure.rows.start
            boxes[figure.person] = Rect(
                float(left + columns[0]),
                float(top + rows[0]),
                float(left + columns[-1] + 1),
                float(top + rows[-1] + 1),
            )
    return boxes


def is_ignored(box: Rect, truth: Truth) -> bool:
    """Says whether a box is mostly where nothing exact is known."""
    if truth.ignore is None:
        return False
    inside = truth.ignore[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)]
    return bool(inside.size and inside.mean() > IGNORED_SHARE)


def write_film(path: Path, truths: Iterable[Truth], size_wh: tuple[int, int]) -> None:
    """Writes frames as a film of so few losses that they do not matter here."""
    with av.open(path, "w") as container:
        stream = container.add_stream(
            "libx264", rate=RATE, options={"crf": "12", "preset": "veryfast"}
        )
        stream.width, stream.height = size_wh
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, RATE)
        for number, truth in enumerate(truths):
            frame = av.VideoFrame.from_ndarray(truth.shown, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def compared(film: Sequence[Truth], rows: Sequence[Mapping[str, Any]], iou: float) -> Count:
    """Returns what the rows of a table say about a film."""
    count = Count()
    for frame, truth in enumerate(film):
        own = [row for row in rows if row["frame"] == frame]
        told = {row["track"]: Rect(*row["box"]) for row in own if row["track"] is not None}
        known = {track: box for track, box in told.items() if not is_ignored(box, truth)}
        carried = {row["track"] for row in own if row["state"] == "carried"}
        card = any(row["state"] == "card" for row in own)
        count.see(frame, boxes_of(truth), known, iou=iou, carried=carried, card=card)
    return count


def measured(name: str, arguments: argparse.Namespace, folder: Path) -> Count:
    """Writes a scene, runs the program over it, and compares."""
    scene = build(name, data=arguments.data, half=arguments.half, seed=arguments.seed)
    if scene.turn:
        raise SystemExit(f"{name}: is turned; its truth is told of the upright picture")
    film = Film(scene)
    path, table = folder / f"{name}.mp4", folder / f"{name}.json"
    write_film(path, film, scene.size_wh)
    m2fp_stream.anonymize(path, folder / f"{name}.out.mp4", tracks=table, overwrite=True)
    return compared(film, json.loads(table.read_text()), arguments.iou)


COLUMNS: Final = (
    *("frames", "cards", "people", "tracks", "switches"),
    *("recall_all", "recall_mean", "recall_worst", "recall_loose", "recall_seen"),
    *("precision_all", "precision_mean", "precision_worst", "precision_loose", "precision_seen"),
    "iou",
)


def line(name: str, figures: Mapping[str, Any]) -> str:
    """Returns a line of the table."""
    return f"| {name} | {_cells(figures, COLUMNS)} |"


def _cells(figures: Mapping[str, Any], columns: Sequence[str]) -> str:
    values = [figures[key] for key in columns]
    texts = ["-" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v) for v in values]
    return " | ".join(texts)


FRAME_COLUMNS: Final = ("frame", "people", "rows", "found", "recall", "precision", "card")


def by_frame(count: Count) -> list[dict[str, Any]]:
    """Returns the frames of a film, each with its recall and precision."""
    return [{**vars(one), "recall": one.recall, "precision": one.precision} for one in count.frames]


def together(counts: Iterable[Count]) -> Count:
    """Returns films as one; nobody and no track is in two of them."""
    every = Count()
    for number, count in enumerate(counts):
        every.frames += count.frames
        every.overlaps += count.overlaps
        every.switches += count.switches
        every.people |= {1000 * number + person for person in range(len(count.people))}
        every.tracks |= {1000 * number + track for track in range(len(count.tracks))}
    return every


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--half", choices=["tune", "report"], default="report")
    parser.add_argument("--scenes", default=",".join(SCENES_OF_PEOPLE))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--iou", type=float, default=0.5)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--by-frame", action="store_true", help="print every frame, too")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep films and tables there")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    names = [name for name in arguments.scenes.split(",") if name]
    if unknown := [name for name in names if name not in SCENES]:
        parser.error(f"unknown scenes: {', '.join(unknown)}; known: {', '.join(SCENES)}")
    about = {**machine(), "half": arguments.half, "seed": arguments.seed, "iou": arguments.iou}
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    if arguments.by_frame:
        print(f"(frames: {', '.join(FRAME_COLUMNS)})")
    print(f"| scene | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    folder = arguments.keep or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    counts: dict[str, Count] = {}
    try:
        for name in names:
            counts[name] = measured(name, arguments, folder)
            print(line(name, counts[name].figures()), flush=True)
            for one in by_frame(counts[name]) if arguments.by_frame else ():
                print(f"| | {_cells(one, FRAME_COLUMNS)} |")
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder)
    total = together(counts.values()).figures()
    print(line("all", total))
    if arguments.json is not None:
        scenes = {
            name: {**count.figures(), "by_frame": by_frame(count)} for name, count in counts.items()
        }
        report = {"about": about, "all": total, "scenes": scenes}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
