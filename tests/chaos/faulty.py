"""Parsers with one fault each, run in real worker processes; their factories are importable.

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

import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.labels import Label, LabelSet
from m2fp_stream.core.records import Look, ParseResult
from m2fp_stream.pipeline import wire
from tests.labelsets import HEAD_PARTS

FOREVER_S = 3600.0
SLOW_S = 1.5
"""Ten times what a parse of the embedded parser takes."""

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

    def parse(
        self, bgr: NDArray[np.uint8], *, frame_id: int, look: Look = Look.FULL
    ) -> ParseResult:
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
            "huge": {"parser_id": "x" * 3 * wire.MESSAGE_BYTES},
            "garbage": {"ok": "yes"},
        }
        if self._fault == "forged_labels":
            planes = np.frombuffer(memory, np.uint8, result.label_map.size, wire.INPUT_BYTES)
            planes[:] = 200
        return message | forged[self._fault]


class ReadsInput(Faulty):
    """Answers with the first channel's truth about the copy: face where it is 255."""

    def parse(
        self, bgr: NDArray[np.uint8], *, frame_id: int, look: Look = Look.FULL
    ) -> ParseResult:
        result = good_result(bgr.shape[0], bgr.shape[1], frame_id)
        label_map = np.where(bgr[..., 0] == 255, Label.FACE, 0).astype(np.uint8)
        return self._with(result, label_map=label_map, evidence=(label_map > 0)[None] * np.uint8(9))


class Standing(Faulty):
    """Says that the person stands where it stood in the first frame."""

    def parse(
        self, bgr: NDArray[np.uint8], *, frame_id: int, look: Look = Look.FULL
    ) -> ParseResult:
        return self._with(good_result(bgr.shape[0], bgr.shape[1], 0), frame_id=frame_id)


def broken_factory() -> Faulty:
    """Cannot be made."""
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
