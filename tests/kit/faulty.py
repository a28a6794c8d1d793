"""Parsers and lookers with one fault each, run in real worker processes, importable there.

The scene they answer about is fixed, so that tests and child agree without talking: one person,
`person_box(frame_id)`, in a picture of any size.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.labels import Label, LabelSet
from m2fp_stream.core.records import Detections, LookKind, ParseResult, PartPlanes
from m2fp_stream.parsers.base import Looker
from m2fp_stream.parsers.embedded.looker import PART_LABELS
from m2fp_stream.pipeline import wire
from m2fp_stream.processes.channel import MESSAGE_BYTES
from tests.kit.labelsets import HEAD_PARTS

FOREVER_S = 3600.0
SLOW_S = 1.5
"""A hundred times what a look of the embedded looker takes."""

RESULT_FAULTS = ("raising", "nan", "wrong_size", "stale", "empty", "nothing")
"""Faults of the parser's answer as Python objects."""

MESSAGE_FAULTS = (
    *("forged_size", "forged_frame", "forged_groups", "forged_types", "forged_labels"),
    *("forged_planes", "huge", "garbage"),
)
"""Faults of what goes over the wire: only the parent's own checks can find them."""

DEADLY_FAULTS = ("killed", "exiting", "hanging")


def person_box(frame_id: int) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom of the person: one pixel a frame, to and fro."""
    left = 96 + abs((frame_id + 100) % 200 - 100)
    return left, 56, left + 48, 56 + 64


def good_result(height: int, width: int, frame_id: int) -> ParseResult:
    """Returns the truth about the scene."""
    left, top, right, bottom = person_box(frame_id)
    label_map = np.zeros((height, width), np.uint8)
    label_map[top:bottom, left:right] = Label.FACE
    return ParseResult(
        frame_id=frame_id,
        label_map=label_map,
        labels=HEAD_PARTS,
        groups=("face",),
        evidence=(label_map > 0).astype(np.uint8)[None] * 255,
        must_cover=np.zeros((height, width), np.bool_),
        instances=None,
        parser_id="faulty",
    )


class Faulty:
    """Tells the truth except about frames in `at` (None: about every frame)."""

    labels: LabelSet = HEAD_PARTS

    def __init__(self, fault: str = "none", at: list[int] | None = None, note: str = "") -> None:
        self._fault = fault
        self._at = at
        self._note = note
        if fault in MESSAGE_FAULTS:
            self._genuine = wire.write_result
            wire.write_result = self._forge

    def parse(self, bgr: NDArray[np.uint8], *, frame_id: int) -> ParseResult:
        height, width = bgr.shape[:2]
        result = good_result(height, width, frame_id)
        if not self._faults(frame_id):
            return result
        match self._fault:
            case "raising":
                raise RuntimeError("secret text that must not be passed on")
            case "nan":
                return self._with(result, evidence=np.full((1, height, width), np.nan))
            case "wrong_size":
                return good_result(height + 8, width, frame_id)
            case "stale":
                return good_result(height, width, frame_id - 1)
            case "empty":
                none = np.zeros((0, 0), np.uint8)
                return self._with(result, label_map=none, evidence=none[None], must_cover=none > 0)
            case "nothing":
                return None  # type: ignore[return-value]  # the fault
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exiting":
                sys.exit(7)
            case "slow":
                time.sleep(SLOW_S)
            case "memory":
                resource.setrlimit(resource.RLIMIT_AS, (0, resource.RLIM_INFINITY))
                np.ones((64, 1 << 20))
            case "hanging":
                if self._note:
                    Path(self._note).write_text(str(os.getpid()), encoding="ascii")
                time.sleep(FOREVER_S)
            case _:  # of the message, or none
                pass
        return result

    def _faults(self, frame_id: int) -> bool:
        return self._at is None or frame_id in self._at

    def _with(self, result: ParseResult, **changes: Any) -> ParseResult:
        fields = {name: getattr(result, name) for name in ParseResult.__dataclass_fields__}
        return ParseResult(**(fields | changes))

    def _forge(self, memory: memoryview, result: ParseResult) -> dict[str, object]:
        message = self._genuine(memory, result)
        if not self._faults(result.frame_id):
            return message
        forged: dict[str, dict[str, object]] = {
            "forged_size": {"height": -1},
            "forged_frame": {"frame_id": result.frame_id + 1},
            "forged_groups": {"groups": "face"},
            "forged_types": {"width": "320"},
            "forged_labels": {},
            "forged_planes": {"groups": ["face"] * 1000},
            "huge": {"parser_id": "x" * 3 * MESSAGE_BYTES},
            "garbage": {"ok": "yes"},
        }
        if self._fault == "forged_labels":
            planes = np.frombuffer(memory, np.uint8, result.label_map.size, wire.INPUT_BYTES)
            planes[:] = 200
        return message | forged[self._fault]


class ReadsInput(Faulty):
    """Answers with the first channel's truth about the copy: face where it is 255."""

    def parse(self, bgr: NDArray[np.uint8], *, frame_id: int) -> ParseResult:
        result = good_result(bgr.shape[0], bgr.shape[1], frame_id)
        label_map = np.where(bgr[..., 0] == 255, Label.FACE, 0).astype(np.uint8)
        return self._with(result, label_map=label_map, evidence=(label_map > 0)[None] * np.uint8(9))


class Standing(Faulty):
    """Says that the person stands where it stood in the first frame."""

    def parse(self, bgr: NDArray[np.uint8], *, frame_id: int) -> ParseResult:
        return self._with(good_result(bgr.shape[0], bgr.shape[1], 0), frame_id=frame_id)


def broken_factory(*, until: str = "") -> Faulty:
    """Cannot be made, and says so once the file `until` is there."""
    while until and not Path(until).exists():
        time.sleep(0.01)
    raise RuntimeError("secret text that must not be passed on")


def exiting_factory() -> Faulty:
    """Ends the process while it starts."""
    os._exit(9)


def nonsense_labels_factory() -> Faulty:
    """Introduces itself with a label set without a background."""
    parser = Faulty()
    parser.labels = LabelSet("odd", HEAD_PARTS.ids)
    object.__setattr__(parser.labels, "ids", frozenset({Label.FACE}))
    return parser


# --- lookers ---


def where_grey(bgr: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Returns where a picture is grey: people are drawn in grey, the room has no blue in it."""
    most, least = bgr.max(axis=2).astype(np.int16), bgr.min(axis=2).astype(np.int16)
    grey = ((most - least <= 0.3 * most + 2) & (most > 3)).astype(np.uint8)
    cell = np.ones((5, 5), np.uint8)
    closed = cv2.morphologyEx(grey, cv2.MORPH_CLOSE, cell)
    return np.asarray(cv2.morphologyEx(closed, cv2.MORPH_OPEN, cell) > 0)


def people_in(bgr: NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
    """Returns left, top, right, bottom of the grey heads in a picture."""
    grey = where_grey(bgr).astype(np.uint8)
    stats = cv2.connectedComponentsWithStats(grey)[2][1:].tolist()
    return [(x, y, x + w, y + h) for x, y, w, h, area in stats if area >= 60]


FLOOR_PX = 8
"""The lowest rows of a room that has a floor, which is green; so turned copies can be told."""


def is_turned(bgr: NDArray[np.uint8]) -> bool:
    """Says whether a picture of a room has its floor at another side than the lower one."""
    sides = bgr[:3], bgr[:, :3], bgr[:, -3:]
    return any(side[..., 2].mean() < 20 and side[..., 1].mean() > 40 for side in sides)


def detections(
    frame_id: int, kind: LookKind, boxes: list[tuple[float, float, float, float]], score: float
) -> Detections:
    """Returns boxes that all have one score."""
    return Detections(
        frame_id=frame_id,
        kind=kind,
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.full(len(boxes), score, np.float32),
        rolls=np.zeros(len(boxes), np.float32),
    )


def planes_of(mask: NDArray[np.bool_], frame_id: int) -> PartPlanes:
    """Returns planes of half the size of `mask` that say: face in it, nobody else."""
    height, width = mask.shape
    small = cv2.resize(
        mask.astype(np.uint8) * np.uint8(255),
        (max(1, width // 2), max(1, height // 2)),
        interpolation=cv2.INTER_AREA,
    )
    planes = np.zeros((len(PART_LABELS), *small.shape), np.uint8)
    planes[PART_LABELS.index(Label.FACE)] = small
    planes[PART_LABELS.index(Label.BACKGROUND)] = 255 - small
    return PartPlanes(frame_id=frame_id, planes=planes)


class DrawnLooker(Looker):
    """Sees the grey heads of drawn footage; each stands for a person cut at the lower edge.

    In turned copies of a room with a floor it sees nobody, as a detector does: who stands there is
    no person upright.
    """

    name = "drawn"

    def _faces(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        found = [] if is_turned(bgr) else people_in(bgr)
        boxes = [(float(a), float(b), float(c), float(d)) for a, b, c, d in found]
        return detections(frame_id, LookKind.FACES, boxes, 0.9)

    def _people(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        boxes = []
        for left, top, right, bottom in [] if is_turned(bgr) else people_in(bgr):
            width, height = right - left, bottom - top
            below = min(float(bgr.shape[0]), bottom + 3.0 * height)
            boxes.append((left - 0.6 * width, top - 0.2 * height, right + 0.6 * width, below))
        return detections(frame_id, LookKind.PEOPLE, boxes, 0.9)

    def _closer(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        side = float(bgr.shape[0])
        middle = where_grey(bgr)[bgr.shape[0] // 3 : -(bgr.shape[0] // 3) or None]
        box = 0.25 * side, 0.25 * side, 0.75 * side, 0.75 * side
        return detections(frame_id, LookKind.CLOSER, [box], 0.9 if middle.any() else 0.0)

    def _parts(self, bgr: NDArray[np.uint8], frame_id: int) -> PartPlanes:
        return planes_of(where_grey(bgr), frame_id)


LOOK_FAULTS = ("raising", "nan", "stale", "nothing", "other_kind")
"""Faults of a looker's answer as Python objects."""

BOX_MESSAGE_FAULTS = (
    *("forged_frame", "forged_count", "forged_types", "forged_kind", "forged_scores"),
    *("forged_places", "forged_ends", "huge", "garbage"),
)
"""Faults of messages about faces or people: only the parent's own checks can find them."""

PLANE_MESSAGE_FAULTS = (
    *("forged_frame", "forged_count", "forged_types", "forged_size", "forged_aspect"),
    *("huge", "garbage"),
)
"""The same of messages about parts."""


class FaultyLooker(DrawnLooker):
    """Tells the truth except in looks of `kinds` at frames in `at` (None: at every frame).

    With `cue`, it does so only while a file of that name exists. "slow" takes `slow_s` seconds.
    """

    def __init__(
        self,
        fault: str = "none",
        kinds: list[str] | None = None,
        at: list[int] | None = None,
        note: str = "",
        cue: str = "",
        slow_s: float = SLOW_S,
    ) -> None:
        self._fault, self._at, self._note, self._slow_s = fault, at, note, slow_s
        self._cue = Path(cue) if cue else None
        self._kinds = set(LookKind) if kinds is None else {LookKind(kind) for kind in kinds}
        self._boxes, self._planes = wire.write_detections, wire.write_planes
        wire.write_detections = self._forge_boxes
        wire.write_planes = self._forge_planes

    def _faces(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        seen: Detections = self._broken(super()._faces(bgr, frame_id), LookKind.FACES)
        return seen

    def _people(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        seen: Detections = self._broken(super()._people(bgr, frame_id), LookKind.PEOPLE)
        return seen

    def _closer(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        seen: Detections = self._broken(super()._closer(bgr, frame_id), LookKind.CLOSER)
        return seen

    def _parts(self, bgr: NDArray[np.uint8], frame_id: int) -> PartPlanes:
        seen: PartPlanes = self._broken(super()._parts(bgr, frame_id), LookKind.PARTS)
        return seen

    def _faults(self, kind: LookKind, frame_id: int) -> bool:
        if self._cue is not None and not self._cue.exists():
            return False
        return kind in self._kinds and (self._at is None or frame_id in self._at)

    def _broken(self, seen: Any, kind: LookKind) -> Any:
        if not self._faults(kind, seen.frame_id):
            return seen
        match self._fault:
            case "raising":
                raise RuntimeError("secret text that must not be passed on")
            case "nan":
                if kind is LookKind.PARTS:
                    nans = np.full(seen.planes.shape, np.nan, np.float32)
                    return PartPlanes(frame_id=seen.frame_id, planes=nans)
                return detections(seen.frame_id, kind, [(0, 0, float("nan"), 9)], 0.9)
            case "stale":
                changes = {"frame_id": seen.frame_id - 1}
                return _with(seen, **changes)
            case "nothing":
                return None
            case "other_kind":
                if kind is LookKind.PARTS:
                    return detections(seen.frame_id, LookKind.FACES, [], 0.9)
                return PartPlanes(frame_id=seen.frame_id, planes=np.zeros((2, 9, 16), np.uint8))
            case "empty":  # an honest mistake: it sees nobody
                if kind is LookKind.PARTS:
                    return _with(seen, planes=np.zeros_like(seen.planes))
                return detections(seen.frame_id, kind, [], 0.9)
            case "few_planes":
                return _with(seen, planes=seen.planes[:1].copy())
            case "small_planes":
                return _with(seen, planes=seen.planes[:, ::4, ::4].copy())
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exiting":
                sys.exit(7)
            case "slow":
                time.sleep(self._slow_s)
            case "memory":
                limits = resource.getrlimit(resource.RLIMIT_AS)
                resource.setrlimit(resource.RLIMIT_AS, (0, limits[1]))
                try:
                    np.ones((64, 1 << 20))
                finally:
                    resource.setrlimit(resource.RLIMIT_AS, limits)
            case "hanging":
                if self._note:
                    Path(self._note).write_text(str(os.getpid()), encoding="ascii")
                time.sleep(FOREVER_S)
            case "spinning":
                while True:
                    pass
            case _:  # of the message, or none
                pass
        return seen

    def _forge_boxes(self, memory: memoryview, found: Detections) -> dict[str, object]:
        message = self._boxes(memory, found)
        if not self._faults(found.kind, found.frame_id):
            return message
        table = np.frombuffer(memory, np.float32, 6, wire.INPUT_BYTES)
        other = LookKind.PEOPLE if found.kind is LookKind.FACES else LookKind.FACES
        forged: dict[str, dict[str, object]] = {
            "forged_frame": {"frame_id": found.frame_id + 1},
            "forged_count": {"count": 1_000_000_000},
            "forged_types": {"count": "3"},
            "forged_kind": {"kind": other},
            "forged_scores": {"count": 1},
            "forged_places": {"count": 1},
            "forged_ends": {"count": 1},
            "huge": {"kind": "x" * 3 * MESSAGE_BYTES},
            "garbage": {"ok": "yes"},
        }
        boxes: dict[str, tuple[float, ...]] = {
            "forged_scores": (5, 5, 9, 9, 17.0, 0),
            "forged_places": (-1e9, 5, 1e9, 9, 0.9, 0),
            "forged_ends": (9, 5, 5, 9, 0.9, 0),
        }
        if self._fault in boxes:
            table[:] = boxes[self._fault]
        return message | forged.get(self._fault, {})

    def _forge_planes(self, memory: memoryview, found: PartPlanes) -> dict[str, object]:
        message = self._planes(memory, found)
        if not self._faults(LookKind.PARTS, found.frame_id):
            return message
        width = found.planes.shape[2]
        forged: dict[str, dict[str, object]] = {
            "forged_frame": {"frame_id": found.frame_id + 1},
            "forged_count": {"count": 1_000_000},
            "forged_types": {"width": str(width)},
            "forged_size": {"height": 100_000},
            "forged_aspect": {"height": 2, "width": width},
            "huge": {"count": "x" * 3 * MESSAGE_BYTES},
            "garbage": {"ok": "yes"},
        }
        return message | forged.get(self._fault, {})


def _with(seen: Any, **changes: Any) -> Any:
    fields = {name: getattr(seen, name) for name in type(seen).__dataclass_fields__}
    return type(seen)(**(fields | changes))


def broken_looker_factory() -> FaultyLooker:
    """Cannot be made."""
    raise RuntimeError("secret text that must not be passed on")


def exiting_looker_factory() -> FaultyLooker:
    """Ends the process while it starts."""
    os._exit(9)
