"""The embedded parser: faces, bodies and their parts put together, on the safe side.

Two networks look at the picture, one for faces, one for bodies (also from behind and in the dark).
Around each person found, a third tells the parts apart; people without a visible face are looked
at by a fourth as well, which knows outlines from any side. Whatever they do not settle is reported
as `must_cover`; a detection is never dropped without a trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.errors import ModelError
from m2fp_stream.core.records import ParseResult
from m2fp_stream.models import model_entry
from m2fp_stream.parsers.base import Parser

from .body import Body, BodyParser
from .boxes import Box
from .classes import hiding_thresholds
from .crops import View
from .faces import FaceDetector
from .options import EmbeddedOptions
from .painting import (
    EMBEDDED_LABELS,
    GROUPS,
    HIGHEST_INSTANCE,
    SURE_PRESENCE,
    Painting,
    evidence_tables,
)
from .parts import PartParser, Parts
from .people import (
    BORDER_OF_DOUBT,
    Subject,
    coverage,
    cut_by_edge,
    is_small_in,
    lone,
    pair,
    unexplained,
)
from .persons import PersonDetector
from .runtime import Given

__all__ = ["EMBEDDED_LABELS", "GROUPS", "EmbeddedParser"]

# A second opinion on a doubtful body box.
SECOND_OPINIONS: Final = 2
"""Regions a frame spent on doubtful boxes, at most, and only where `max_regions` allows. Chosen by
cost: BlazePose takes about 21 ms a region (research notes, "parsers")."""
PART_OF_SOMEBODY: Final = 0.3
"""Share of a doubtful box that the mask of a person with a face fills, from which it is taken for
that person's arm or hip (the signers of the development clips: raised arms at the lower edge)."""
# Of doubtful boxes in the development clips, those on a person in a dark doorway got a presence of
# up to 1.0 and none of those on furniture and door frames got 0.5; a chair that NanoDet rates 0.22
# to 0.27 in every frame got 0.00. Heads that come in over the edge got 0.00 as well (a mask network
# trained on whole people does not know them), so a box at the edge is covered without asking.


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """Somebody, with what was computed of them."""

    subject: Subject
    parts: Parts | None = None
    body: Body | None = None


class EmbeddedParser(Parser):
    """Finds people and their parts with small networks that ship with the package.

    Same pictures, options and library versions: same result. Writes no file, uses no network.

    Args:
        options: thresholds and sizes; the defaults where None.
        parts: where the part network is that `options.weights` names.

    Raises:
        ModelError: weights are missing or changed, or the runtime is not installed; or they are
            named, and not given.
    """

    name = "embedded"
    labels = EMBEDDED_LABELS

    def __init__(
        self, options: EmbeddedOptions | None = None, *, parts: Given | None = None
    ) -> None:
        self._options = options if options is not None else EmbeddedOptions()
        if self._options.weights is not None and parts is None:
            raise ModelError(f"nobody says where the weights {self._options.weights} are")
        threads, runtime = self._options.threads, self._options.runtime
        self._faces = FaceDetector(
            size=self._options.face_size,
            enlargement=self._options.enlargement,
            threshold=self._options.face_threshold,
            threads=threads,
            runtime=runtime,
        )
        self._persons = PersonDetector(
            size=self._options.person_size,
            enlargement=self._options.enlargement,
            far_size=self._options.far_person_size,
            threshold=min(
                self._options.evidence_threshold,
                self._options.person_threshold,
                self._options.doubt_threshold,
            ),
            threads=threads,
            runtime=runtime,
        )
        self._parts = PartParser(threads=threads, runtime=runtime, given=parts)
        self._body = BodyParser(threads=threads, runtime=runtime)
        training = model_entry("parts").training
        thresholds = {} if training is None else training.thresholds
        self._tables = evidence_tables(hiding_thresholds(thresholds))
        networks = ("centerface", "nanodet_person", "parts", "blazepose")
        hashes = [model_entry(name).sha256[:8] for name in networks]
        if parts is not None:
            hashes[networks.index("parts")] = parts.sha256[:8]
        self._parser_id = f"embedded-2 ({'+'.join(hashes)})"

    @property
    def options(self) -> EmbeddedOptions:
        """The options in force."""
        return self._options

    def _parse(self, bgr: NDArray[np.uint8], frame_id: int) -> ParseResult:
        picture = _limited(bgr, self._options.max_size)
        view = View(picture, _limited_shape(picture, self._options.map_size))
        shape = view.shape
        faces = _on_map(self._faces(picture), view)
        boxes = _on_map(self._persons(picture), view)
        seen = self._look(view, faces, boxes)
        painting = Painting(shape, self._options.mask_threshold, self._tables)
        for box in boxes:
            if self._options.evidence_threshold <= box.confidence < self._options.person_threshold:
                painting.note_person(box)
        numbered = [(min(k, HIGHEST_INSTANCE), one) for k, one in enumerate(seen, start=1)]
        # Everybody's parts first, then what must be sure of each.
        for number, one in numbered:
            if one.parts is not None:
                painting.parts(one.subject, one.parts, number)
        for number, one in numbered:
            if one.body is not None:
                painting.outline(one.subject, one.body, number)
            if one.subject.is_face:
                painting.head_of_face(one.subject, one.parts, number)
            else:
                painting.head_of_body(one.subject, one.body, number)
        return painting.result(frame_id, self._parser_id)

    def _look(self, view: View, faces: list[Box], boxes: list[Box]) -> list[_Seen]:
        """Returns everybody to cover, with parts and outlines where they were computed."""
        options = self._options
        shape = view.shape
        sure = [box for box in boxes if box.confidence >= options.person_threshold]
        doubtful = [
            box
            for box in boxes
            if options.doubt_threshold <= box.confidence < options.person_threshold
        ]
        open_questions = unexplained(doubtful, faces, sure, shape)
        inner = [box for box in sure if any(is_small_in(box, other) for other in sure)]
        sure = [box for box in sure if box not in inner]
        seen: list[_Seen] = []
        for rank, subject in enumerate(pair(faces, sure, shape)):
            seen.append(self._seen(view, subject) if rank < options.max_regions else _Seen(subject))
        spare = min(SECOND_OPINIONS, max(0, options.max_regions - len(seen)))
        outlines = [
            outline
            for one in seen
            if one.subject.is_face and (outline := _outline(one.parts, shape)) is not None
        ]
        for box in inner:  # somebody's arm, or somebody small before or behind them
            if all(coverage(outline, box) < PART_OF_SOMEBODY for outline in outlines):
                seen.append(_Seen(lone(box, shape)))
        for box in open_questions:
            if any(coverage(outline, box) >= PART_OF_SOMEBODY for outline in outlines):
                continue
            subject = lone(box, shape)
            if cut_by_edge(box, shape, BORDER_OF_DOUBT):
                if box.confidence >= options.evidence_threshold:
                    seen.append(_Seen(subject))
            elif spare > 0:
                spare -= 1
                body = self._body(view, subject.region)
                if body.presence >= SURE_PRESENCE:
                    seen.append(_Seen(subject, self._parts(view, subject.view), body))
        return seen

    def _seen(self, view: View, subject: Subject) -> _Seen:
        """Looks closely at one person."""
        parts = self._parts(view, subject.view)
        outlined = not subject.is_face or self._options.outlines == "everybody"
        body = self._body(view, subject.region) if outlined else None
        return _Seen(subject, parts, body)


def _limited_shape(bgr: NDArray[np.uint8], size: int) -> tuple[int, int]:
    """Returns (height, width) with a long side of at most `size`."""
    height, width = bgr.shape[:2]
    scale = min(1.0, size / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _limited(bgr: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    shape = _limited_shape(bgr, size)
    if shape == bgr.shape[:2]:
        return np.ascontiguousarray(bgr)
    return np.asarray(cv2.resize(bgr, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _on_map(boxes: list[Box], view: View) -> list[Box]:
    """Returns boxes of the picture as boxes of the map."""
    across, along = view.detail
    return [
        Box(b.x1 / across, b.y1 / along, b.x2 / across, b.y2 / along, b.confidence) for b in boxes
    ]


def _outline(parts: Parts | None, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    if parts is None:
        return None
    mask = np.zeros(shape, np.bool_)
    mask[parts.rows, parts.columns] = parts.person() > 127
    return mask
