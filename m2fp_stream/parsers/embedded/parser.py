"""The embedded parser: faces, bodies and person masks put together, on the safe side.

Three networks look at the picture: one for faces, one for bodies (also from behind and in the
dark), one for the outline of each person found. Whatever the outline does not settle is reported
as `must_cover`; a detection is never dropped without a trace.

The numbers below come from the experiments in which they were tuned, on composed and real clips
(people who dash in, backs of heads, close profiles); they are proportions of a face or body box.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.labels import HEAD_PARTS, Label
from m2fp_stream.core.records import ParseResult
from m2fp_stream.models import model_entry
from m2fp_stream.parsers.base import Parser

from .body import FACE_POINTS, LEFT_SHOULDER, RIGHT_SHOULDER, Body, BodyParser, Region
from .boxes import Box
from .faces import FaceDetector
from .options import EmbeddedOptions
from .persons import PersonDetector

__all__ = ["EMBEDDED_LABELS", "GROUPS", "EmbeddedParser", "from_options"]

EMBEDDED_LABELS: Final = HEAD_PARTS
GROUPS: Final = ("face", "hair", "person")
"""First axis of the evidence."""

# The square that BlazePose looks at.
BODY_BELOW_FACE: Final = 3.4
"""Face heights from the face's centre down to the region's."""
BODY_SIDE_OF_FACE: Final = 10.5
"""Face heights in the region's side."""
BODY_SIDE_OF_BOX: Final = 1.2
"""Longer box sides in the region's side."""

# A face.
FACE_GROWTH: Final = 1.15
"""Face ellipse over face box, both ways: forehead, chin and ears are at the edge of the box."""
HEAD_SIDES: Final = 0.9
"""Face heights to either side in which the person mask is hair: a face in profile is narrow, the
head behind it is not."""
HEAD_HALF_WIDTH: Final = 0.65
HEAD_HALF_HEIGHT: Final = 0.8
"""Half axes, in face heights, of the ellipse that is hair whatever the person mask says."""
HEAD_UP: Final = 0.8
"""Face heights above the face in which the person mask is hair."""
HEAD_DOWN: Final = 0.5
"""Face heights below the face in which the person mask is hair. Measured on 62 street photos
(Clothing Co-Parsing), 0.4 / 0.8 / 1.3 / 2.0 hold 80 / 88 / 93 / 95 % of the hair; what is left is
long hair on the chest, and every step covers more of the clothes and of hands before the chest."""

# A face that explains a body, so that its head needs no zone of its own.
EXPLAINING_CONFIDENCE: Final = 0.30
EXPLAINING_CONFIDENCE_AT_BORDER: Final = 0.40
EXPLAINING_HEIGHT: Final = 0.07
"""Face height over body height, at least; smaller faces belong to somebody or something else."""
EXPLAINING_HEIGHT_AT_BORDER: Final = 0.10
EXPLAINING_WIDTH: Final = 0.12
"""Face width over body width, at least."""

# A body without such a face.
ZONE_OF_HEIGHT: Final = 0.25
ZONE_OF_WIDTH: Final = 1.0
"""The head zone is the top of the box, this share of its height or width, whichever is more."""
ZONE_IS_ALL: Final = 0.8
"""A zone of more than this share of the box becomes the box."""
BORDER: Final = 0.01
"""A box this near to the picture's edge (share of its width) is cut by it."""
BORDER_OF_DOUBT: Final = 0.03
"""The same for a doubtful box, whose sides are less exact."""
ZONE_SIDES: Final = 0.05
"""Box widths by which a zone is wider than its box, on either side."""
ZONE_UP: Final = 0.03
ZONE_UP_UNSURE: Final = 0.12
"""Box heights by which a zone is higher than its box; more below a confidence of 0.5."""
SURE_BOX: Final = 0.5

# When a mask is believed.
SURE_PRESENCE: Final = 0.5
LOW_PRESENCE: Final = 0.3
"""Below, a body's whole box is covered."""
SURE_COVERAGE: Final = 0.25
"""Share of a body box that its mask fills, at least; people fill about half."""
EMPTY_COVERAGE: Final = 0.08
"""Below, the mask counts as empty and the whole box is covered."""
SURE_FACE_COVERAGE: Final = 0.6
"""Share of a face box that the mask fills, at least."""
MASK_GROWTH: Final = 0.03
"""A mask is dilated by this share of the body's height where a head zone is cut from it."""

# A second opinion on a doubtful body box.
SECOND_OPINIONS: Final = 2
"""Regions a frame spent on doubtful boxes, at most, and only where `max_regions` allows."""
SAME_PERSON: Final = 0.6
"""Share of a doubtful box inside a sure one from which both are taken for one person."""
PART_OF_SOMEBODY: Final = 0.3
"""Share of a doubtful box that the mask of a person with a face fills, from which it is taken for
that person's arm or hip (the signers of the development clips: raised arms at the lower edge)."""
# Of doubtful boxes in the development clips, those on a person in a dark doorway got a presence of
# up to 1.0 and none of those on furniture and door frames got 0.5; a chair that NanoDet rates 0.22
# to 0.27 in every frame got 0.00. Heads that come in over the edge got 0.00 as well (a mask network
# trained on whole people does not know them), so a box at the edge is covered without asking.

HIGHEST_INSTANCE: Final = 255


@dataclass(frozen=True, slots=True)
class _Subject:
    """Somebody to cover: a face (perhaps with a body box that it explains) or a lone body."""

    box: Box
    is_face: bool
    body_box: Box | None
    region: Region
    priority: float


class EmbeddedParser(Parser):
    """Covers heads with small networks that ship with the package.

    Same picture, options and library versions: same result. Writes no file, uses no network.

    Args:
        options: thresholds and sizes; the defaults where None.

    Raises:
        ModelError: weights are missing or changed, or the runtime is not installed.
    """

    name = "embedded"
    labels = EMBEDDED_LABELS

    def __init__(self, options: EmbeddedOptions | None = None) -> None:
        self._options = options if options is not None else EmbeddedOptions()
        threads, runtime = self._options.threads, self._options.runtime
        self._faces = FaceDetector(
            size=self._options.face_size,
            threshold=self._options.face_threshold,
            threads=threads,
            runtime=runtime,
        )
        self._persons = PersonDetector(
            size=self._options.person_size,
            far_size=self._options.far_person_size,
            threshold=min(
                self._options.evidence_threshold,
                self._options.person_threshold,
                self._options.doubt_threshold,
            ),
            threads=threads,
            runtime=runtime,
        )
        self._body = BodyParser(threads=threads, runtime=runtime)
        hashes = [model_entry(n).sha256[:8] for n in ("centerface", "nanodet_person", "blazepose")]
        self._parser_id = f"embedded-1 ({'+'.join(hashes)})"

    @property
    def options(self) -> EmbeddedOptions:
        """The options in force."""
        return self._options

    def _parse(self, bgr: NDArray[np.uint8], frame_id: int) -> ParseResult:
        picture = _limited(bgr, self._options.max_size)
        shape = (picture.shape[0], picture.shape[1])
        faces = self._faces(picture)
        boxes = self._persons(picture)
        painting = _Painting(shape, self._options.mask_threshold)
        for box in boxes:
            if self._options.evidence_threshold <= box.confidence < self._options.person_threshold:
                painting.note_person(box)
        seen = self._look(picture, faces, boxes)
        # Later strokes go over earlier ones: everybody's outline, then heads, then faces.
        for number, (subject, body) in enumerate(seen, start=1):
            painting.person(subject, body, min(number, HIGHEST_INSTANCE))
        for number, (subject, body) in enumerate(seen, start=1):
            paint = painting.head_of_face if subject.is_face else painting.head_of_body
            paint(subject, body, min(number, HIGHEST_INSTANCE))
        for number, (subject, _) in enumerate(seen, start=1):
            if subject.is_face:
                painting.face(subject.box, min(number, HIGHEST_INSTANCE))
        return painting.result(frame_id, self._parser_id)

    def _look(
        self, picture: NDArray[np.uint8], faces: list[Box], boxes: list[Box]
    ) -> list[tuple[_Subject, Body | None]]:
        """Returns everybody to cover, with the body where one was computed."""
        options = self._options
        shape = (picture.shape[0], picture.shape[1])
        sure = [box for box in boxes if box.confidence >= options.person_threshold]
        doubtful = [
            box
            for box in boxes
            if options.doubt_threshold <= box.confidence < options.person_threshold
        ]
        unexplained = _unexplained(doubtful, faces, sure, shape)
        inner = [box for box in sure if any(_is_small_in(box, other) for other in sure)]
        sure = [box for box in sure if box not in inner]
        seen: list[tuple[_Subject, Body | None]] = []
        for rank, subject in enumerate(_subjects(faces, sure, shape)):
            within = rank < options.max_regions
            seen.append((subject, self._body(picture, subject.region) if within else None))
        spare = min(SECOND_OPINIONS, max(0, options.max_regions - len(seen)))
        outlines = [
            body.mask >= options.mask_threshold
            for subject, body in seen
            if subject.is_face and body is not None and body.presence >= SURE_PRESENCE
        ]
        for box in inner:  # somebody's arm, or somebody small before or behind them
            if all(_coverage(outline, box) < PART_OF_SOMEBODY for outline in outlines):
                seen.append((_lone(box), None))
        for box in unexplained:
            if any(_coverage(outline, box) >= PART_OF_SOMEBODY for outline in outlines):
                continue
            subject = _lone(box)
            if _cut(box, shape, BORDER_OF_DOUBT):
                if box.confidence >= options.evidence_threshold:
                    seen.append((subject, None))
            elif spare > 0:
                spare -= 1
                body = self._body(picture, subject.region)
                if body.presence >= SURE_PRESENCE:
                    seen.append((subject, body))
        return seen


def _limited(bgr: NDArray[np.uint8], max_size: int) -> NDArray[np.uint8]:
    height, width = bgr.shape[:2]
    scale = max_size / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(bgr)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def _subjects(faces: list[Box], boxes: list[Box], shape: tuple[int, int]) -> list[_Subject]:
    """Pairs faces with bodies and returns everybody, most certain and largest first."""
    owned: dict[int, Box] = {}
    lone: list[Box] = []
    for box in boxes:
        for index, face in enumerate(faces):
            if index not in owned and _explains(face, box, shape):
                owned[index] = box
                break
        else:
            lone.append(box)
    subjects = []
    for index, face in enumerate(faces):
        x, y = face.center
        side = BODY_SIDE_OF_FACE * face.height
        region = Region(x, y + BODY_BELOW_FACE * face.height, max(side, 1.0))
        subjects.append(_Subject(face, True, owned.get(index), region, face.confidence * side))
    subjects += [_lone(box) for box in lone]
    # sorted() is stable: equal priorities keep the detectors' order.
    return sorted(subjects, key=lambda subject: -subject.priority)


def _lone(box: Box) -> _Subject:
    side = BODY_SIDE_OF_BOX * max(box.width, box.height, 1.0)
    return _Subject(box, False, box, Region(*box.center, side), box.confidence * side)


def _unexplained(
    doubtful: list[Box], faces: list[Box], sure: list[Box], shape: tuple[int, int]
) -> list[Box]:
    """Returns the doubtful boxes that neither a face nor a sure box accounts for."""
    return [
        box
        for box in doubtful
        if not any(_explains(face, box, shape) for face in faces)
        and not any(_share_inside(box, other) >= SAME_PERSON for other in sure)
    ]


def _is_small_in(box: Box, other: Box) -> bool:
    return other.height > 2 * box.height and _share_inside(box, other) >= SAME_PERSON


def _share_inside(box: Box, other: Box) -> float:
    """Returns the share of `box` that lies inside `other`, 0..1."""
    width = min(box.x2, other.x2) - max(box.x1, other.x1)
    height = min(box.y2, other.y2) - max(box.y1, other.y1)
    area = max(box.width * box.height, 1e-9)
    return max(width, 0.0) * max(height, 0.0) / area


def _explains(face: Box, body: Box, shape: tuple[int, int]) -> bool:
    at_border = _cut_left_or_right(body, shape)
    confidence = EXPLAINING_CONFIDENCE_AT_BORDER if at_border else EXPLAINING_CONFIDENCE
    height = EXPLAINING_HEIGHT_AT_BORDER if at_border else EXPLAINING_HEIGHT
    x, y = face.center
    lowest = body.y1 + max(0.35 * body.height, 0.9 * body.width)
    return (
        face.confidence >= confidence
        and body.x1 <= x <= body.x2
        and body.y1 - 0.1 * body.height <= y <= lowest
        and face.height >= height * body.height
        and face.width >= EXPLAINING_WIDTH * body.width
    )


def _cut_left_or_right(box: Box, shape: tuple[int, int], border: float = BORDER) -> bool:
    margin = border * shape[1]
    return box.x1 < margin or box.x2 > shape[1] - margin


def _cut(box: Box, shape: tuple[int, int], border: float = BORDER) -> bool:
    margin = border * shape[0]
    return _cut_left_or_right(box, shape, border) or box.y1 < margin or box.y2 > shape[0] - margin


def _coverage(mask: NDArray[np.bool_], box: Box) -> float:
    inside = mask[box.slices((mask.shape[0], mask.shape[1]))]
    return float(inside.mean()) if inside.size else 0.0


class _Painting:
    """The result under construction; later strokes go over earlier ones."""

    def __init__(self, shape: tuple[int, int], mask_threshold: float) -> None:
        self._shape = shape
        self._mask_threshold = mask_threshold
        self._labels = np.zeros(shape, np.uint8)
        self._evidence = np.zeros((len(GROUPS), *shape), np.uint8)
        self._must_cover = np.zeros(shape, np.bool_)
        self._instances = np.zeros(shape, np.uint8)
        self._best_mask = np.zeros(shape, np.float32)

    def result(self, frame_id: int, parser_id: str) -> ParseResult:
        """Returns the finished result; the painting must not be used afterwards."""
        return ParseResult(
            frame_id=frame_id,
            label_map=self._labels,
            labels=EMBEDDED_LABELS,
            groups=GROUPS,
            evidence=self._evidence,
            must_cover=self._must_cover,
            instances=self._instances,
            parser_id=parser_id,
        )

    def note_person(self, box: Box) -> None:
        """Marks a box as evidence of a person, nothing more."""
        self._raise_evidence("person", self._filled(box), box.confidence)

    def person(self, subject: _Subject, body: Body | None, number: int) -> None:
        """Paints the person mask and its evidence."""
        box = subject.body_box
        if body is None:
            if box is not None:
                self.note_person(box)
            return
        probability = body.mask
        if not subject.is_face and box is not None:
            # A lone body's mask counts in and around its box only.
            reach = box.grown(sides=0.1 * box.width, up=0.1 * box.height, down=0.1 * box.height)
            probability = np.where(self._filled(reach), probability, np.float32(0))
        inside = probability >= self._mask_threshold
        self._labels[inside] = Label.HUMAN
        layer = self._evidence[GROUPS.index("person")]
        np.maximum(layer, np.rint(probability * 255).astype(np.uint8), out=layer)
        closer = inside & (probability > self._best_mask)
        self._instances[closer] = number
        np.maximum(self._best_mask, probability, out=self._best_mask)
        if box is not None and _coverage(inside, box) < SURE_COVERAGE:
            self.note_person(box)

    def head_of_face(self, subject: _Subject, body: Body | None, number: int) -> None:
        """Paints the hair around a face; what the mask does not settle becomes `must_cover`."""
        face = subject.box
        zone = face.grown(
            sides=HEAD_SIDES * face.height, up=HEAD_UP * face.height, down=HEAD_DOWN * face.height
        )
        zone_mask = self._filled(zone)
        inside = None if body is None else body.mask >= self._mask_threshold
        if inside is not None:
            self._paint(inside & zone_mask, Label.HAIR, number, face.confidence)
        x, y = face.center
        half_w, half_h = HEAD_HALF_WIDTH * face.height, HEAD_HALF_HEIGHT * face.height
        middle = y - 0.1 * face.height  # a head reaches further above a face than below
        head = Box(x - half_w, middle - half_h, x + half_w, middle + half_h, face.confidence)
        self._paint(self._ellipse(head), Label.HAIR, number, face.confidence)
        settled = (
            inside is not None
            and body is not None
            and body.presence >= SURE_PRESENCE
            and _coverage(inside, face) >= SURE_FACE_COVERAGE
            and not _cut(face, self._shape)
        )
        if not settled:
            self._cover(zone_mask, number, face.confidence)

    def head_of_body(self, subject: _Subject, body: Body | None, number: int) -> None:
        """Paints the head zone of a body without a face, or covers what is not settled."""
        box = subject.box
        zone, is_all = self._head_zone(box)
        if body is None:
            self._cover(self._filled(_united(zone, box)), number, box.confidence)
            return
        inside = (body.mask >= self._mask_threshold) & self._filled(box)
        coverage = _coverage(inside, box)
        if is_all or coverage < EMPTY_COVERAGE or body.presence < LOW_PRESENCE:
            self._cover(self._filled(_united(zone, box)), number, box.confidence)
            return
        if coverage < SURE_COVERAGE or body.presence < SURE_PRESENCE:
            self._cover(self._filled(zone), number, box.confidence)
        else:
            reach = max(1, round(MASK_GROWTH * box.height))
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
            person = body.mask >= self._mask_threshold
            grown = cv2.dilate(person.astype(np.uint8), kernel).astype(bool)
            self._paint(grown & self._filled(zone), Label.HAIR, number, box.confidence)
        head = self._ellipse(_head_from_points(body, box))
        self._paint(head, Label.HAIR, number, box.confidence)

    def face(self, face: Box, number: int) -> None:
        """Paints the face ellipse over everything else."""
        x, y = face.center
        half_w, half_h = FACE_GROWTH * face.width / 2, FACE_GROWTH * face.height / 2
        area = Box(x - half_w, y - half_h, x + half_w, y + half_h, face.confidence)
        mask = self._ellipse(area)
        self._labels[mask] = Label.FACE
        self._instances[mask] = number
        self._raise_evidence("face", mask, face.confidence)
        self._raise_evidence("person", mask, face.confidence)

    def _head_zone(self, box: Box) -> tuple[Box, bool]:
        """Returns the head zone of a lone body and whether it is the whole box."""
        height = max(ZONE_OF_HEIGHT * box.height, ZONE_OF_WIDTH * box.width)
        is_all = height > ZONE_IS_ALL * box.height or _cut_left_or_right(box, self._shape)
        bottom = box.y2 if is_all else box.y1 + height
        up = ZONE_UP if box.confidence >= SURE_BOX else ZONE_UP_UNSURE
        zone = replace(box, y2=bottom)
        return zone.grown(sides=ZONE_SIDES * box.width, up=up * box.height), is_all

    def _paint(self, mask: NDArray[np.bool_], label: Label, number: int, confidence: float) -> None:
        self._labels[mask] = label
        self._instances[mask & (self._instances == 0)] = number
        self._raise_evidence("hair", mask, confidence)
        self._raise_evidence("person", mask, confidence)

    def _cover(self, mask: NDArray[np.bool_], number: int, confidence: float) -> None:
        self._must_cover |= mask
        self._instances[mask & (self._instances == 0)] = number
        self._raise_evidence("person", mask, confidence)

    def _raise_evidence(self, group: str, mask: NDArray[np.bool_], confidence: float) -> None:
        layer = self._evidence[GROUPS.index(group)]
        layer[mask] = np.maximum(layer[mask], round(min(confidence, 1.0) * 255))

    def _filled(self, box: Box) -> NDArray[np.bool_]:
        mask = np.zeros(self._shape, np.bool_)
        mask[box.slices(self._shape)] = True
        return mask

    def _ellipse(self, box: Box) -> NDArray[np.bool_]:
        x, y = box.center
        rows, columns = np.ogrid[: self._shape[0], : self._shape[1]]
        # At least one pixel each way, so that the smallest face leaves a mark.
        across = (columns + 0.5 - x) / max(box.width / 2, 1.0)
        along = (rows + 0.5 - y) / max(box.height / 2, 1.0)
        return np.asarray(across**2 + along**2 <= 1.0)


def _united(first: Box, second: Box) -> Box:
    return Box(
        min(first.x1, second.x1),
        min(first.y1, second.y1),
        max(first.x2, second.x2),
        max(first.y2, second.y2),
        max(first.confidence, second.confidence),
    )


def _head_from_points(body: Body, box: Box) -> Box:
    """Returns the box of a head ellipse around the eleven face key points.

    Its radius is the largest of half the shoulder width, 2.2 times the spread of the points and
    0.09 of the body's height: a head seen from behind has points close together.
    """
    points = body.points[:, :2]
    face = points[FACE_POINTS]
    x, y = (float(v) for v in face.mean(axis=0))
    shoulders = float(np.hypot(*(points[LEFT_SHOULDER] - points[RIGHT_SHOULDER])))
    spread = float(np.abs(face[:, 0] - x).max())
    radius = max(0.5 * shoulders, 2.2 * spread, 0.09 * box.height)
    y -= 0.1 * radius
    return Box(x - radius, y - 1.2 * radius, x + radius, y + 1.2 * radius, box.confidence)


def from_options(**options: object) -> EmbeddedParser:
    """Makes the parser from JSON values; what a parser process calls.

    Raises:
        pydantic.ValidationError: an option is unknown or out of bounds.
        ModelError: the weights are missing or changed.
    """
    return EmbeddedParser(EmbeddedOptions.model_validate(options))
