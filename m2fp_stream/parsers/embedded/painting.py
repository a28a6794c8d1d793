"""The result under construction: what was found is painted in, on the safe side.

The numbers come from the experiments in which they were tuned, on composed and real clips (people
who dash in, backs of heads, close profiles); they are proportions of a face or body box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.labels import BODY_PARTS, Label
from m2fp_stream.core.records import ParseResult

from .body import FACE_POINTS, LEFT_SHOULDER, RIGHT_SHOULDER, Body
from .boxes import Box
from .classes import LABEL_OF, UNCALIBRATED, PartClass
from .parts import Parts
from .people import Subject, coverage, cut_by_edge, cut_by_side, united

__all__ = ["EMBEDDED_LABELS", "GROUPS", "SURE_PRESENCE", "Painting", "evidence_tables"]

EMBEDDED_LABELS: Final = BODY_PARTS
LAYERS: Final = tuple(
    part for part in PartClass if part not in (PartClass.BACKGROUND, PartClass.ACCESSORY)
)
GROUPS: Final = (*(LABEL_OF[part].title for part in LAYERS), "person")
"""First axis of the evidence: every part, and the person as a whole."""
HEAD: Final = (PartClass.HAIR, PartClass.FACE, PartClass.HAT, PartClass.GLASSES, PartClass.SCARF)
BELOW_HEAD: Final = tuple(part for part in LAYERS if part not in HEAD)
CERTAIN: Final = 255
"""Probability one, as eight bits."""

# Where a head and its hair may be, in face heights around a face.
REACH_SIDES: Final = 1.0
REACH_UP: Final = 1.0
REACH_DOWN: Final = 1.8
"""Chosen with the part network of that time: without this rule hands and prints on shirts were
taken for faces (docs/parsers.md)."""

# A face.
FACE_GROWTH: Final = 1.15
"""Face ellipse over face box, both ways: forehead, chin and ears are at the edge of the box. Chosen
by eye on photographs and the development clips; no one of these was measured alone."""
HEAD_SIDES: Final = 0.9
HEAD_UP: Final = 0.8
HEAD_DOWN: Final = 0.5
"""Face heights around a face that must be covered where the parts are not settled. Chosen: a face
in profile is narrow, and the back of the head lay outside a smaller zone (overhead clip, frames 688
to 691)."""
HEAD_HALF_WIDTH: Final = 0.65
HEAD_HALF_HEIGHT: Final = 0.8
"""Half axes, in face heights, of the ellipse that counts as hair whatever the parts are. Chosen: as
`HEAD_SIDES`."""

# A body without such a face.
ZONE_OF_HEIGHT: Final = 0.25
ZONE_OF_WIDTH: Final = 1.0
"""The head zone is the top of the box, this share of its height or width, whichever is more.
Source: research notes, "motion guard", rule 9."""
ZONE_IS_ALL: Final = 0.8
"""A zone of more than this share of the box becomes the box. Chosen: the rest would be a strip."""
ZONE_SIDES: Final = 0.05
"""Box widths by which a zone is wider than its box, on either side. Chosen: boxes are no more
exact."""
ZONE_UP: Final = 0.03
ZONE_UP_UNSURE: Final = 0.12
"""Box heights by which a zone is higher than its box; more below a confidence of 0.5. Chosen: boxes
are no more exact."""
SURE_BOX: Final = 0.5
"""That confidence. Chosen: half."""

# When a mask is believed.
SURE_PRESENCE: Final = 0.5
LOW_PRESENCE: Final = 0.3
"""Below, a body's whole box is covered. BlazePose's own probability that somebody is in the square:
from the first on its mask is believed. Chosen: half; and as `parser.mask_threshold`."""
SURE_COVERAGE: Final = 0.25
"""Share of a body box that its mask fills, at least; people fill about half. Chosen: half of
that."""
EMPTY_COVERAGE: Final = 0.08
"""Below, the mask counts as empty and the whole box is covered. Chosen: a third of
`SURE_COVERAGE`."""
SURE_FACE_COVERAGE: Final = 0.6
"""Share of a face box that the parts of a head fill, at least. Chosen: more than half."""
MASK_GROWTH: Final = 0.03
"""A mask is dilated by this share of the body's height where a head zone is cut from it. Chosen:
hair is wider than the mask says."""

HIGHEST_INSTANCE: Final = 255
"""The most that eight bits hold."""


def evidence_tables(
    thresholds: Mapping[PartClass, float],
) -> dict[PartClass, NDArray[np.uint8]]:
    """Returns the (256,) tables from probability to evidence, both times 255.

    A part at its hiding threshold gets evidence 0.3, the default of `policy.threshold`; with others
    it adds up, so that sum(P / threshold) >= 1 hides.
    """
    return {
        part: np.asarray(
            np.minimum(np.ceil(np.arange(256) * UNCALIBRATED / thresholds[part]), CERTAIN),
            np.uint8,
        )
        for part in LAYERS
    }


_LABELS: Final = np.array([LABEL_OF[part] for part in PartClass], np.uint8)


class Painting:
    """Later strokes never take back what earlier ones cover.

    Args:
        shape: (height, width) of the picture.
        mask_threshold: probability from which a pixel of an outline belongs to a person.
        tables: what `evidence_tables` returned.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        mask_threshold: float,
        tables: Mapping[PartClass, NDArray[np.uint8]],
    ) -> None:
        self._shape = shape
        self._mask_threshold = mask_threshold
        self._tables = tables
        self._labels = np.zeros(shape, np.uint8)
        self._evidence = np.zeros((len(GROUPS), *shape), np.uint8)
        self._must_cover = np.zeros(shape, np.bool_)
        self._instances = np.zeros(shape, np.uint8)
        self._nearest = np.zeros(shape, np.float32)
        """How well the pixel belongs to the person it was given to."""
        self._likeliest = np.zeros(shape, np.uint8)
        """The probability of a person behind each pixel's label."""

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
        self._raise_evidence("person", self._filled(box), round(min(box.confidence, 1.0) * 255))

    def parts(self, subject: Subject, parts: Parts, number: int) -> None:
        """Paints the most likely labels and the evidence of every part."""
        window = (parts.rows, parts.columns)
        person = parts.person()
        rows, columns = parts.within(self._head_reach(subject))
        top, left = parts.rows.start, parts.columns.start
        near = (
            slice(top + rows.start, top + rows.stop),
            slice(left + columns.start, left + columns.stop),
        )
        for index, part in enumerate(LAYERS):
            chances, table = parts.chances[part], self._tables[part]
            layer = self._evidence[index][window]
            if part in HEAD:
                # Likely hair is hair anywhere, unlikely hair only where a head may be.
                np.maximum(layer, chances, out=layer)
                layer = self._evidence[index][near]
                chances = chances[rows, columns]
            if chances.size:
                np.maximum(layer, cv2.LUT(chances, table), out=layer)
        layer = self._evidence[-1][window]
        np.maximum(layer, person, out=layer)
        labels, likeliest = self._labels[window], self._likeliest[window]
        better = person > likeliest
        labels[better] = _LABELS[parts.chances.argmax(axis=0)][better]
        np.maximum(likeliest, person, out=likeliest)
        self._assign(window, person > 127, (person / 255).astype(np.float32), subject, number)

    def outline(self, subject: Subject, body: Body, number: int) -> None:
        """Paints a body's outline where no part was recognised."""
        box = subject.presumed
        reach = box.grown(sides=0.1 * box.width, up=0.1 * box.height, down=0.1 * box.height)
        probability = np.where(self._filled(reach), body.mask, np.float32(0))
        inside = probability >= self._mask_threshold
        unknown = inside & (self._labels == Label.BACKGROUND)
        self._labels[unknown] = Label.HUMAN
        chances = np.rint(probability * 255).astype(np.uint8)
        layer = self._evidence[-1]
        np.maximum(layer, chances, out=layer)
        # A person, but of what part is not known: it may be skin.
        skin = self._evidence[LAYERS.index(PartClass.TORSO_SKIN)]
        skin[unknown] = np.maximum(skin[unknown], chances[unknown])
        everywhere = (slice(None), slice(None))
        self._assign(everywhere, inside, probability, subject, number)
        if coverage(inside, box) < SURE_COVERAGE:
            self.note_person(box)

    def unresolved(self, subject: Subject) -> None:
        """Takes the presumed body for anything but a head: nobody looked at its parts.

        It is no evidence that somebody is there, so that what moves in it stays unexplained.
        """
        rows, columns = subject.presumed.slices(self._shape)
        for index, part in enumerate(LAYERS):
            if part in BELOW_HEAD:
                self._evidence[index, rows, columns] = CERTAIN

    def head_of_face(self, subject: Subject, parts: Parts | None, number: int) -> None:
        """Makes sure that a head lies around the face; what is not settled becomes `must_cover`."""
        face = subject.box
        x, y = face.center
        half_w, half_h = HEAD_HALF_WIDTH * face.height, HEAD_HALF_HEIGHT * face.height
        middle = y - 0.1 * face.height  # a head reaches further above a face than below
        head = Box(x - half_w, middle - half_h, x + half_w, middle + half_h, face.confidence)
        self._make_sure("hair", self._ellipse(head), number)
        half_w, half_h = FACE_GROWTH * face.width / 2, FACE_GROWTH * face.height / 2
        inner = Box(x - half_w, y - half_h, x + half_w, y + half_h, face.confidence)
        ellipse = self._ellipse(inner)
        self._make_sure("face", ellipse, number)
        # A face is a face, whatever the parts say; they may say hair or glasses.
        head_labels = [LABEL_OF[part] for part in HEAD]
        self._labels[ellipse & ~np.isin(self._labels, head_labels)] = Label.FACE
        settled = (
            parts is not None
            and parts.share(face, HEAD) >= SURE_FACE_COVERAGE
            and not cut_by_edge(face, self._shape)
        )
        if not settled:
            zone = face.grown(
                sides=HEAD_SIDES * face.height,
                up=HEAD_UP * face.height,
                down=HEAD_DOWN * face.height,
            )
            self._cover(self._filled(zone), number)
        if parts is None or not settled:
            self.unresolved(subject)

    def head_of_body(self, subject: Subject, body: Body | None, number: int) -> None:
        """Makes sure of the head zone of a body without a face, or covers what is not settled."""
        box = subject.box
        zone, is_all = self._head_zone(box)
        if body is None:
            self._cover(self._filled(united(zone, box)), number)
            return
        inside = (body.mask >= self._mask_threshold) & self._filled(box)
        filled = coverage(inside, box)
        if is_all or filled < EMPTY_COVERAGE or body.presence < LOW_PRESENCE:
            self._cover(self._filled(united(zone, box)), number)
            return
        if filled < SURE_COVERAGE or body.presence < SURE_PRESENCE:
            self._cover(self._filled(zone), number)
            self.unresolved(subject)
        else:
            reach = max(1, round(MASK_GROWTH * box.height))
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
            person = body.mask >= self._mask_threshold
            grown = cv2.dilate(person.astype(np.uint8), kernel).astype(bool)
            self._make_sure("hair", grown & self._filled(zone), number)
        self._make_sure("hair", self._ellipse(_head_from_points(body, box)), number)

    def _head_zone(self, box: Box) -> tuple[Box, bool]:
        """Returns the head zone of a lone body and whether it is the whole box."""
        height = max(ZONE_OF_HEIGHT * box.height, ZONE_OF_WIDTH * box.width)
        is_all = height > ZONE_IS_ALL * box.height or cut_by_side(box, self._shape)
        bottom = box.y2 if is_all else box.y1 + height
        up = ZONE_UP if box.confidence >= SURE_BOX else ZONE_UP_UNSURE
        zone = replace(box, y2=bottom)
        return zone.grown(sides=ZONE_SIDES * box.width, up=up * box.height), is_all

    def _head_reach(self, subject: Subject) -> Box:
        """Returns where the subject's head and long hair may be."""
        box = subject.box
        if not subject.is_face:
            return self._head_zone(box)[0]
        return box.grown(
            sides=REACH_SIDES * box.height, up=REACH_UP * box.height, down=REACH_DOWN * box.height
        )

    def _assign(
        self,
        window: tuple[slice, slice],
        inside: NDArray[np.bool_],
        probability: NDArray[np.float32],
        subject: Subject,
        number: int,
    ) -> None:
        """Gives pixels to the person whose box they lie in best."""
        box = subject.presumed
        x, y = box.center
        rows, columns = np.ogrid[: self._shape[0], : self._shape[1]]
        across = np.abs(columns[:, window[1]] + 0.5 - x) / max(box.width / 2, 1.0)
        along = np.abs(rows[window[0]] + 0.5 - y) / max(box.height / 2, 1.0)
        fit = np.asarray(probability / (1 + across + along), np.float32)
        instances, nearest = self._instances[window], self._nearest[window]
        closer = inside & (fit > nearest)
        instances[closer] = number
        nearest[closer] = fit[closer]

    def _make_sure(self, group: str, mask: NDArray[np.bool_], number: int) -> None:
        """Hides `mask` wherever `group` is hidden; gives it to `number` where it is nobody's."""
        self._instances[mask & (self._instances == 0)] = number
        self._raise_evidence(group, mask, CERTAIN)
        self._raise_evidence("person", mask, CERTAIN)

    def _cover(self, mask: NDArray[np.bool_], number: int) -> None:
        self._must_cover |= mask
        self._instances[mask & (self._instances == 0)] = number
        self._raise_evidence("person", mask, CERTAIN)

    def _raise_evidence(self, group: str, mask: NDArray[np.bool_], value: int) -> None:
        layer = self._evidence[GROUPS.index(group)]
        layer[mask] = np.maximum(layer[mask], value)

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
