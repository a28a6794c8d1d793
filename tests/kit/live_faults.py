"""The faults of a live run: each breaks one thing on a stage, and tells what was shown of it.

    python -m tests.kit.live_faults [FAULT ...]

runs every fault (or those of the faults and kinds of look that are named) once in each alignment
and prints how long it took until all was covered and until the picture was back: the table in
docs/threat-model.md.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from m2fp_stream.core.errors import SinkError
from m2fp_stream.core.records import LookKind
from m2fp_stream.core.safe import CoverLevel, SafeFrame
from m2fp_stream.sinks.base import Sink
from tests.kit.live_stage import KINDS, RATE, TEXTURE, Cues, Performance, broken, room, scene
from tests.kit.wait import PATIENCE_S

from . import faulty
from .stage import HEIGHT, WIDTH, Picture

# --- ages ---

_DUE_S = 1.15 * 0.25
"""Looks for people are due so many seconds, and two frames, after the last one (docs of P3)."""


def too_little(stage: Performance, *, person_s: float = 0.4, frame_s: float = 1.0) -> list[str]:
    """Returns the frames that cover less than the ages of their looks allow (P3), in words.

    The ages are those of the looks that were answered, whoever was told, also of later ones: no
    frame may be covered less than this, some are covered more.
    """
    times = stage.cues.times
    seen: dict[LookKind, list[float]] = {}
    for name in stage.pools:
        for kind, frame_id in list(stage.pools[name].good):
            if kind is not LookKind.FACES or name == "faces":
                seen.setdefault(kind, []).append(times[frame_id])
    asked = np.array(sorted(times[frame_id] for _, frame_id in list(stage.pools["faces"].asked)))
    wrong = []
    for one in list(stage.seen):
        if one.frame_id < 0 or one.level is CoverLevel.FRAME:
            continue
        at_s = times[one.frame_id]
        ages = {
            kind: float(np.abs(np.array(seen.get(kind, [-1e9])) - at_s).min())
            for kind in (LookKind.FACES, LookKind.PEOPLE)
        }
        near = asked[(asked > at_s - 4) & (asked <= at_s)]
        gap_s = max((later - earlier for earlier, later in pairwise(near.tolist())), default=0.0)
        due_s = {LookKind.FACES: 0.0, LookKind.PEOPLE: _DUE_S + 2 * gap_s}
        for kind, age_s in ages.items():
            if age_s < due_s[kind] + 1e-3:
                continue
            if age_s >= frame_s + 1e-3 or (age_s >= person_s + 1e-3 and one.level is _PARTS):
                wrong.append(f"frame {one.frame_id}: {kind} {age_s:.2f} s old, {one.level}")
    return wrong


_PARTS = CoverLevel.PARTS

# --- the faults ---

LOOK_FAULTS = (
    *("raising", "hanging", "killed", "slow", "memory"),
    *("nan", "stale", "nothing", "other_kind", "forged_frame", "garbage"),
)
"""Of every look at once."""

KIND_FAULTS = ("killed", "hanging")
"""Of one kind of look alone."""

SOURCE_FAULTS = ("lost", "silent", "frozen", "swapped", "resized", "noisy")


@dataclass(frozen=True)
class Outcome:
    """What one fault did.

    Attributes:
        raw: frames that showed the marker.
        covered_s: from the fault to the first frame covered as much as it asks for (the whole
            picture; with a fault of looks at parts or faces from near: more than parts), None
            where none was needed.
        recovered_s: from the fault's end to the next frame that shows the room as usual.
        too_little: see there.
    """

    raw: int
    covered_s: float | None
    recovered_s: float
    too_little: list[str]


def run_look_fault(fault: str, alignment: str, kind: str | None = None) -> Outcome:
    """Breaks lookers until it shows, then mends them; with `kind`, one kind of look alone."""
    live = {"alignment": alignment, "far_s": 0.5}
    with TemporaryDirectory() as folder:
        cue = Path(folder) / "broken"
        with Performance(broken(fault, kind, cue=str(cue)), live=live) as stage:
            stage.as_usual()
            cue.touch()
            began_s = time.monotonic()
            close = kind in ("parts", "closer")
            enough = {CoverLevel.FRAME, CoverLevel.PERSON if close else CoverLevel.FRAME}
            covered = stage.wait_for(
                lambda one: one.level in enough and one.captured_s > began_s, began_s
            )
            cue.unlink()
            ended_s = time.monotonic()
            back = stage.as_usual(ended_s)
            stage.wait_for(lambda one: one.frame_id > back.frame_id + RATE // 2)
    return Outcome(
        len(stage.raw_frames()), covered.at_s - began_s, back.at_s - ended_s, too_little(stage)
    )


def other_camera(frame_id: int) -> Picture:
    """The same person in another room."""
    left, top, right, bottom = faulty.person_box(frame_id)
    picture = OTHER_ROOM.copy()
    picture[top:bottom, left:right] = TEXTURE
    return picture


def noisy(frame_id: int) -> Picture:
    """What a broken stream decodes to: blocks of garbage, and still the person."""
    picture = scene(frame_id)
    rng = np.random.default_rng(frame_id)
    for _ in range(12):
        y, x = int(rng.integers(0, HEIGHT - 32)), int(rng.integers(0, WIDTH - 32))
        picture[y : y + 32, x : x + 32] = rng.integers(0, 256, 3)
    return picture


OTHER_ROOM = room(5)


def run_source_fault(fault: str, alignment: str) -> Outcome:
    """Breaks the source for about a second."""
    cues = Cues()
    with Performance(cues=cues, live={"alignment": alignment}) as stage:
        stage.picture()
        time.sleep(0.5)
        began_s = time.monotonic()
        match fault:
            case "lost":
                cues.refuse.set()
                cues.lost.set()
            case "silent":
                cues.silent.set()
            case "frozen":
                cues.frozen.set()
            case "swapped":
                cues.picture = other_camera
            case "resized":
                cues.lost.set()
                cues.picture = other_camera
            case _:
                cues.picture = noisy
        covered_s: float | None = None
        if fault in ("lost", "silent"):
            covered_s = stage.card(began_s).at_s - began_s
        time.sleep(1.0)
        ended_s = time.monotonic()
        cues.refuse.clear()
        cues.silent.clear()
        cues.frozen.clear()
        if fault == "noisy":
            cues.picture = scene
        back = stage.picture(ended_s)
        time.sleep(0.5)
        return Outcome(
            len(stage.raw_frames()),
            covered_s,
            max(0.0, back.at_s - ended_s),
            too_little(stage),
        )


class Failing(Sink[SafeFrame]):
    """A sink that fails, or blocks, after a few frames."""

    accepts = SafeFrame

    def __init__(self, how: str, release: threading.Event) -> None:
        super().__init__()
        self._how, self._release, self._count = how, release, 0

    def _emit(self, item: SafeFrame) -> None:
        self._count += 1
        if self._count > 5:
            if self._how == "full":
                raise SinkError("no space left; free some")
            self._release.wait(PATIENCE_S)

    def _finish(self) -> None:
        pass

    def _abort(self) -> None:
        pass


def main(names: list[str]) -> None:
    print(f"{'fault':14}{'look':9}{'alignment':14}{'raw':>5}{'too little':>12}", end="")
    print(f"{'covered s':>12}{'back s':>10}")
    runs: list[tuple[str, str, Callable[[str], Outcome]]] = []
    for fault in LOOK_FAULTS:
        runs.append((fault, "all", partial(run_look_fault, fault)))
    for kind in KINDS:
        for fault in KIND_FAULTS:
            runs.append((fault, kind, partial(run_look_fault, fault, kind=kind)))
    for fault in SOURCE_FAULTS:
        runs.append((fault, "-", partial(run_source_fault, fault)))
    for fault, kind, run in runs:
        if names and fault not in names and kind not in names:
            continue
        for alignment in ("aligned", "low_latency"):
            out = run(alignment)
            covered = "-" if out.covered_s is None else f"{out.covered_s:.2f}"
            print(f"{fault:14}{kind:9}{alignment:14}{out.raw:5}{len(out.too_little):12}", end="")
            print(f"{covered:>12}{out.recovered_s:10.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
