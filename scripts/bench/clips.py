"""Contact sheets of real clips, for a person to look at: what is covered, and where it changes.

    python -m scripts.bench.clips CLIP... --out DIR [--hide head] [--every 10] [--frames 0:400]

Nothing is known about who is in a real clip. So this writes, for each clip, sheets of every tenth
frame and of all frames around births and losses of tracks and around cuts: covers are outlined
(yellow; what is covered is composed as the program does), frames numbered. It prints what can be
counted without a truth: the covered share of the picture (mean, 95th percentile), pieces a frame,
flicker (share of the picture that switches from one frame to the next), births, losses, cuts.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.config import load_settings
from m2fp_stream.core.raw import RawFrame
from scripts.bench.leak_run import Looks, run_pipeline
from scripts.bench.metrics import HIDES, Cover
from scripts.bench.scenes import Truth

U8 = NDArray[np.uint8]

AROUND: Final = 3
"""Frames shown before and after a birth, loss or cut."""
THUMB_WIDTH: Final = 320
COLUMNS: Final = 6
ROWS: Final = 8
CUT_WH: Final = (64, 36)
CUT_LEVELS: Final = 22.0
"""A cut: a picture of this size changes by so many grey levels on average. Source:
`research/every_frame.md`."""


class Clip(Sequence[Truth]):
    """The frames of a video file, in order, as truths that know nobody.

    Pictures are decoded as they are asked for and not kept; asking backwards decodes again.
    """

    def __init__(self, file: Path, first: int = 0, last: int | None = None) -> None:
        self._file = file
        self._first = first
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            self.rate = Fraction(stream.average_rate or 25)
            self._size_wh = stream.width, stream.height
            count = sum(1 for _ in container.decode(stream))
        self._count = (count if last is None else min(last, count)) - first
        self._next = -1
        self._frames: Any = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._count:
            raise IndexError(index)
        return Truth(lambda: self._decoded(index), self._size_wh)

    def _decoded(self, index: int) -> U8:
        if self._frames is None or index < self._next:
            self._frames = av.open(str(self._file)).decode(video=0)
            self._next = -self._first
        while True:
            picture = next(self._frames)
            self._next += 1
            if self._next > index:
                return np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)


@dataclass
class Watch:
    """Sees every frame with its cover, and keeps what the sheets and counts need."""

    thumbs: dict[int, U8] = field(default_factory=dict[int, U8])
    covered: list[float] = field(default_factory=list[float])
    pieces: list[int] = field(default_factory=list[int])
    switched: list[float] = field(default_factory=list[float])
    births: list[int] = field(default_factory=list[int])
    losses: list[int] = field(default_factory=list[int])
    cuts: list[int] = field(default_factory=list[int])
    _tracks: frozenset[int] = frozenset()
    _pixels: NDArray[np.bool_] | None = None
    _grey: NDArray[np.float32] | None = None

    def see(self, raw: RawFrame, cover: Cover) -> None:
        """Takes the next frame; called in the order of frames."""
        number = raw.frame_id
        with raw.analysis() as bgr:
            grey = cv2.cvtColor(
                cv2.resize(bgr, CUT_WH, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY
            ).astype(np.float32)
            self.thumbs[number] = outlined(bgr, cover, number)
        self.covered.append(float(cover.pixels.mean()))
        self.pieces.append(cv2.connectedComponents(cover.pixels.astype(np.uint8))[0] - 1)
        tracks = frozenset[int]()
        if cover.tracks is not None:
            tracks = frozenset(int(track) for track in np.unique(cover.tracks) if track)
        if self._pixels is not None:
            self.switched.append(float((self._pixels ^ cover.pixels).mean()))
        if self._grey is not None and float(np.abs(grey - self._grey).mean()) > CUT_LEVELS:
            self.cuts.append(number)
        if tracks - self._tracks:
            self.births.append(number)
        if self._tracks - tracks:
            self.losses.append(number)
        self._tracks, self._pixels, self._grey = tracks, cover.pixels, grey

    def events(self) -> list[int]:
        """Returns the frames around births, losses and cuts, in order."""
        centres = {*self.births, *self.losses, *self.cuts}
        near = {k for c in centres for k in range(c - AROUND, c + AROUND + 1)}
        return sorted(near & self.thumbs.keys())

    def line(self) -> str:
        """Returns what was counted."""
        return (
            f"covered {100 * np.mean(self.covered):.2f} % of the picture "
            f"(95th percentile {100 * np.percentile(self.covered, 95):.2f}), "
            f"{np.mean(self.pieces):.2f} pieces a frame, "
            f"flicker {100 * np.mean(self.switched or [0.0]):.3f} %, "
            f"{len(self.births)} births, {len(self.losses)} losses, {len(self.cuts)} cuts, "
            f"{sum(share > 0 for share in self.covered)} of {len(self.covered)} frames with cover"
        )


def outlined(bgr: U8, cover: Cover, number: int) -> U8:
    """Returns a small picture, its covers greyed and outlined, its number in a corner."""
    height, width = bgr.shape[:2]
    size = THUMB_WIDTH, round(THUMB_WIDTH * height / width)
    small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
    pixels = cv2.resize(cover.pixels.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    inside = pixels > 0
    small[inside] = small[inside] // 2 + 60
    outlines, _ = cv2.findContours(pixels, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(small, outlines, -1, (0, 255, 255), 1)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(small, str(number), (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness)
    return np.asarray(small, np.uint8)


def write_sheets(folder: Path, name: str, thumbs: Sequence[U8]) -> int:
    """Writes `name`-K.png with up to 48 small pictures each; returns how many."""
    number = 0
    for number, start in enumerate(range(0, len(thumbs), COLUMNS * ROWS), start=1):
        some = list(thumbs[start : start + COLUMNS * ROWS])
        some += [np.zeros_like(some[0])] * (-len(some) % COLUMNS)
        rows = [np.hstack(some[k : k + COLUMNS]) for k in range(0, len(some), COLUMNS)]
        cv2.imwrite(str(folder / f"{name}-{number:02}.png"), np.vstack(rows))
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--hide", choices=list(HIDES), default="head")
    parser.add_argument("--every", type=int, default=10, help="frames between two shown ones")
    parser.add_argument("--frames", default="0:", metavar="FIRST:LAST")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    hide = HIDES[arguments.hide]
    settings = load_settings(overrides=hide.options)
    looker = Looks()
    first, last = (int(text) if text else None for text in arguments.frames.split(":"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file in arguments.clips:
        clip = Clip(file, first or 0, last)
        watch = Watch()
        _, looks = run_pipeline(clip, settings, looker, hide=hide, watch=watch.see, rate=clip.rate)
        regular = [watch.thumbs[k] for k in sorted(watch.thumbs) if k % arguments.every == 0]
        events = [watch.thumbs[k] for k in watch.events()]
        sheets = write_sheets(arguments.out, f"{file.stem}-every", regular)
        sheets += write_sheets(arguments.out, f"{file.stem}-events", events)
        told = ", ".join(f"{kind} {n / len(clip):.2f}" for kind, n in sorted(looks.items()))
        print(f"{file.name}: {watch.line()}; looks a frame: {told}; {sheets} sheets", flush=True)
        print(f"  births {watch.births} losses {watch.losses} cuts {watch.cuts}", flush=True)


if __name__ == "__main__":
    main()
