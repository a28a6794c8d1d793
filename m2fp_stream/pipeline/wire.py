"""What media process and parser process say to each other: small JSON messages, arrays beside.

Messages go through a channel, arrays lie in a memory that the child inherits (see
`processes.memory`). Nothing is pickled.

    [0, INPUT_BYTES)             the parse copy, (h, w, 3) uint8 BGR
    [INPUT_BYTES, TOTAL_BYTES)   label map, must_cover, evidence planes, instances
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..core.labels import Label, LabelSet
from ..core.records import Detections, LookKind, ParseResult, PartPlanes

__all__ = [
    "INPUT_BYTES",
    "MAX_INPUT_SIDE",
    "MAX_SIDE",
    "TOTAL_BYTES",
    "input_view",
    "read_detections",
    "read_label_set",
    "read_planes",
    "read_result",
    "write_detections",
    "write_label_set",
    "write_planes",
    "write_result",
]

MAX_INPUT_SIDE: Final = 4096
"""Of a parse copy, in pixels: a 4K picture fits. Only what is used takes memory. Chosen: as wide as
DCI 4K."""
MAX_SIDE: Final = 1280
"""Of a map, in pixels: M2FP's finest (`parsers.m2fp.parser.FINEST_MAP`)."""
_MAX_PLANES: Final = 3 + 24  # label map, must_cover, instances and the evidence groups
INPUT_BYTES: Final = MAX_INPUT_SIDE * MAX_INPUT_SIDE * 3
TOTAL_BYTES: Final = INPUT_BYTES + MAX_SIDE * MAX_SIDE * _MAX_PLANES
"""Of the memory that a worker shares: the copy before what was found in it."""

Message = dict[str, object]


def input_view(memory: memoryview, height: int, width: int) -> NDArray[np.uint8]:
    """Returns the (height, width, 3) uint8 view of the input part of `memory`.

    Raises:
        ValueError: a side is not in 1..MAX_INPUT_SIDE.
    """
    if not (0 < height <= MAX_INPUT_SIDE and 0 < width <= MAX_INPUT_SIDE):
        raise ValueError(f"a parse copy has sides of 1 to {MAX_INPUT_SIDE}, got {width}x{height}")
    count = height * width * 3
    return np.frombuffer(memory, np.uint8, count).reshape(height, width, 3)


def _planes(memory: memoryview, count: int, height: int, width: int) -> NDArray[np.uint8]:
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and 0 < count <= _MAX_PLANES):
        raise ValueError(f"{count} planes of {width}x{height} do not fit")
    size = count * height * width
    return np.frombuffer(memory, np.uint8, size, INPUT_BYTES).reshape(count, height, width)


def write_label_set(labels: LabelSet) -> Message:
    """Returns `labels` as JSON values."""
    return {
        "name": labels.name,
        "ids": sorted(int(label) for label in labels.ids),
        "contained_in": [[int(k), int(v)] for k, v in sorted(labels.contained_in.items())],
    }


def read_label_set(message: object) -> LabelSet:
    """Returns what `write_label_set` wrote.

    Raises:
        ValueError, TypeError, KeyError: the message is not of that form.
    """
    if not isinstance(message, dict):
        raise TypeError("a label set is an object")
    return LabelSet(
        str(message["name"]),
        frozenset(Label(number) for number in message["ids"]),
        {Label(held): Label(holder) for held, holder in message["contained_in"]},
    )


def write_result(memory: memoryview, result: ParseResult) -> Message:
    """Writes the arrays of `result` into `memory`; returns the message that describes them."""
    height, width = result.label_map.shape
    count = 2 + len(result.groups) + (result.instances is not None)
    planes = _planes(memory, count, height, width)
    planes[0] = result.label_map
    planes[1] = result.must_cover
    planes[2 : 2 + len(result.groups)] = result.evidence
    if result.instances is not None:
        planes[-1] = result.instances
    return {
        "frame_id": result.frame_id,
        "height": height,
        "width": width,
        "groups": list(result.groups),
        "instances": result.instances is not None,
        "parser_id": result.parser_id,
        "doubts": list(result.doubts),
    }


def read_result(memory: memoryview, message: Message, labels: LabelSet) -> ParseResult:
    """Returns a copy of what `write_result` wrote.

    Raises:
        ValueError, TypeError, KeyError: message or arrays are not of that form.
    """
    height, width = message["height"], message["width"]
    groups, frame_id = message["groups"], message["frame_id"]
    doubts = message["doubts"]
    if not (isinstance(height, int) and isinstance(width, int) and isinstance(frame_id, int)):
        raise TypeError("sizes and frame id are integers")
    if not (isinstance(groups, list) and isinstance(doubts, list)):
        raise TypeError("groups and doubts are lists")
    with_instances = message["instances"] is True
    planes = _planes(memory, 2 + len(groups) + with_instances, height, width).copy()
    return ParseResult(
        frame_id=frame_id,
        label_map=planes[0],
        labels=labels,
        groups=tuple(str(group) for group in groups),
        evidence=planes[2 : 2 + len(groups)],
        must_cover=planes[1] != 0,
        instances=planes[-1] if with_instances else None,
        parser_id=str(message["parser_id"]),
        doubts=tuple(str(doubt) for doubt in doubts),
    )


_MOST_DETECTIONS: Final = 2000
"""Of one look; more than a detector returns (`parsers.embedded.letterbox.MOST_BOXES`). Chosen."""

_COLUMNS: Final = 6
"""x0, y0, x1, y1, score, roll."""


def _table(memory: memoryview, count: int) -> NDArray[np.float32]:
    if not 0 <= count <= _MOST_DETECTIONS:
        raise ValueError(f"{count} detections do not fit")
    size = count * _COLUMNS
    return np.frombuffer(memory, np.float32, size, INPUT_BYTES).reshape(count, _COLUMNS)


def write_detections(memory: memoryview, found: Detections) -> Message:
    """Writes the arrays of `found` into `memory`; returns the message that describes them."""
    table = _table(memory, len(found.scores))
    table[:, :4], table[:, 4], table[:, 5] = found.xyxy, found.scores, found.rolls
    return {"frame_id": found.frame_id, "kind": found.kind, "count": len(found.scores)}


def read_detections(memory: memoryview, message: Message) -> Detections:
    """Returns a copy of what `write_detections` wrote.

    Raises:
        ValueError, TypeError, KeyError: message or arrays are not of that form.
    """
    frame_id, count = message["frame_id"], message["count"]
    if not (isinstance(frame_id, int) and isinstance(count, int)):
        raise TypeError("frame id and count are integers")
    table = _table(memory, count).copy()
    return Detections(
        frame_id=frame_id,
        kind=LookKind(str(message["kind"])),
        xyxy=np.ascontiguousarray(table[:, :4]),
        scores=np.ascontiguousarray(table[:, 4]),
        rolls=np.ascontiguousarray(table[:, 5]),
    )


def write_planes(memory: memoryview, found: PartPlanes) -> Message:
    """Writes the planes of `found` into `memory`; returns the message that describes them."""
    count, height, width = found.planes.shape
    _planes(memory, count, height, width)[...] = found.planes
    return {"frame_id": found.frame_id, "count": count, "height": height, "width": width}


def read_planes(memory: memoryview, message: Message) -> PartPlanes:
    """Returns a copy of what `write_planes` wrote.

    Raises:
        ValueError, TypeError, KeyError: message or planes are not of that form.
    """
    frame_id, count = message["frame_id"], message["count"]
    height, width = message["height"], message["width"]
    if not (
        isinstance(frame_id, int)
        and isinstance(count, int)
        and isinstance(height, int)
        and isinstance(width, int)
    ):
        raise TypeError("frame id, count and sizes are integers")
    return PartPlanes(frame_id=frame_id, planes=_planes(memory, count, height, width).copy())
