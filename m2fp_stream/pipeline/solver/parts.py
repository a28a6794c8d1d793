"""What close looks at parts say: the shapes of a track, and where its head is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.labels import Label
from ...tracking.heads import HEAD_ASPECT, Head, Rect, of_body
from ...tracking.shape import (
    Anchor,
    PartLook,
    Shape,
    anchor_of_body,
    anchor_of_head,
    body_thresholds,
    head_seed,
    head_thresholds,
)
from ...tracking.sightings import Sighting
from ...tracking.track import SHOWN_FACE, Track
from .judge import FACE_CONFIRMED, HEAD_ABSENT
from .place import Places
from .records import Hidden, PartOrder, Shapes

__all__ = ["PartReader"]


BLURRED: Final = 0.3
"""Head sizes a frame from which somebody is too fast, and so too blurred, for parts to tell.
Chosen: about half the speed at which boxes cannot tell any more (`rush.FAST`), in heads."""
LYING: Final = 0.7
"""Width over height of a body from which it is not upright. Chosen: who stands or walks is
narrower."""
LEAST_HEAD: Final = 0.15
"""Area of what the parts take for a head, over the expected box, from which it is one. Chosen on
the tune half."""
CUT_HEAD: Final = 1 / 3
"""Of `LEAST_HEAD`, what is enough beside the edge of the picture that cuts the body: most of such a
head may lie outside. Seen: .077 of an expected head for hair and an ear (clip `please`)."""
ROOM: Final = 1.2
"""Size of a head that was found by its pieces, over theirs. Chosen: chin and hair end in cells that
are not all head."""
LEAST_PERSON: Final = 0.30
"""Share of its box that must be a person, by the parts, for a body without any head to be covered
whole: lying, bent, or seen from above. Chosen on the tune half."""
SEARCH_SCALE: Final = 1.4
"""So many head sizes around its expected place a body's head is looked for in its parts. Chosen on
the tune half."""
ABSENT_LOOKS: Final = 3
"""Looks at parts in a row without a head, from which the head of a body was placed wrongly. Chosen:
one or two may be blurred."""
SEED_SHARE: Final = 0.85
"""Size of the ellipse, in expected heads, that a piece must touch to be of this head. Chosen: less
than all, for who is beside somebody touches that."""


@final
class PartReader:
    """Makes shapes from looks at parts.

    Args:
        places: where people are.
        shapes: by track; what is read goes into them.
        hidden: what the policy hides.
        width: of the frames, in pixels.
    """

    def __init__(
        self, places: Places, shapes: dict[int, Shapes], *, hidden: Hidden, width: int
    ) -> None:
        self._places = places
        self._shapes = shapes
        self._hidden = hidden
        self._width = width
        self._seed = head_seed(SEED_SHARE)
        self._seed_area = int(np.count_nonzero(self._seed))
        self._thresholds = head_thresholds(hidden.threshold)
        self.whole: set[int] = set()
        """Tracks whose parts show a person without a head: lying, bent, or seen from above."""

    def hide(self, hidden: Hidden) -> None:
        """Changes what is hidden."""
        self._hidden = hidden

    def take(self, track: Track, order: PartOrder, look: PartLook, *, fine: bool) -> None:
        """Takes what a close look at somebody found; see `Solver.take_parts`."""
        if order.body:
            self._take_body(track, order, look, fine=fine)
        else:
            self._take_head(track, order, look, fine=fine)

    def _take_body(self, track: Track, order: PartOrder, look: PartLook, *, fine: bool) -> None:
        shapes = self._shapes[order.track_id]
        box = self._places.body(track, order.frame)
        if shapes.searched == order.frame and not fine:
            self._search(track, order.frame, look, box)
        if not self._hidden.body:
            return
        anchor = anchor_of_body(box)
        shapes.places[order.frame] = box, self._places.head(track, order.frame)
        (shapes.fine_body if fine else shapes.body)[order.frame] = Shape.of(
            look,
            anchor,
            label_of=self._hidden.label_of(head=False),
            threshold=body_thresholds(look, anchor, self._hidden.threshold),
            seed=None,
            margin_cells=round(self._hidden.margin * 96 / 1.5 / 6),
        )

    def _take_head(self, track: Track, order: PartOrder, look: PartLook, *, fine: bool) -> None:
        shapes = self._shapes[order.track_id]
        head = track.head_at(order.frame)
        sighting = track.seen[order.frame]
        if sighting.face == 0 and not self._is_half_out(head):
            found = self._find_head(look, head)
            if found is not None:
                track.place(order.frame, found, sighting.box)
                head = track.head_at(order.frame)
        anchor = anchor_of_head(head)
        planes = look.on(anchor, self._hidden.head_parts)
        total = planes.sum(axis=0, dtype=np.uint16) > 127
        if not fine and self._is_misled(track, sighting, total):
            track.mislead()
            if sighting.box is not None:
                found = self._find_head(look, of_body(sighting.box, track.turn))
                if found is not None:
                    track.place(order.frame, found, sighting.box)
            return
        if not fine and math.hypot(*track.velocity) <= BLURRED * head.size:
            share = np.count_nonzero(total[self._seed > 0]) / self._seed_area
            track.heads.append(float(share))
            track.detail = max(track.detail, head.width)
            shapes.share = median(track.heads[-5:]) if track.heads else None
        label_of = self._hidden.label_of(head=True)
        if label_of:
            (shapes.fine_head if fine else shapes.head)[order.frame] = Shape.of(
                look,
                anchor,
                label_of=label_of,
                threshold=self._thresholds,
                seed=self._seed,
                margin_cells=max(1, round(self._hidden.margin * 32 * 0.9)),
            )

    def _is_misled(self, track: Track, sighting: Sighting, head: NDArray[np.bool_]) -> bool:
        """Says whether a weak face of a body is none: again, no head is where it is, or was."""
        if track.misled or sighting.box is None or track.best_face >= SHOWN_FACE:
            return False
        if not track.best_face or max(track.faces, default=0.0) >= FACE_CONFIRMED:
            return False
        if int(np.count_nonzero(head[self._seed > 0])) >= HEAD_ABSENT * self._seed_area:
            return False
        # What placed the head in the body may have been a weak face, for the body alone, too.
        looks = track.heads if sighting.face > 0 else track.heads[-ABSENT_LOOKS:]
        enough = 1 if sighting.face > 0 else ABSENT_LOOKS
        return len(looks) >= enough and median(looks) < HEAD_ABSENT

    def take_doubt(self, track: Track, frame: int, doubt: PartLook | None) -> None:
        """Takes where a second parser is in doubt about somebody; None ends earlier doubts."""
        anchor = anchor_of_body(self._places.body(track, frame))
        nowhere = PartLook(np.zeros((1, 2, 2), np.uint8), np.eye(2, 3))
        self._shapes[track.track_id].doubt[frame] = Shape.of(
            nowhere if doubt is None else doubt,
            anchor,
            label_of={0: int(Label.HUMAN)},
            threshold=127,
            seed=None,
            margin_cells=0 if doubt is None else 1,
        )

    def _search(self, track: Track, frame: int, look: PartLook, box: Rect) -> None:
        """Looks for a head anywhere in a body; one that has none may have to be covered whole."""
        anchor = anchor_of_body(box)
        planes = look.on(anchor, range(len(self._hidden.part_labels)))
        heads = planes[list(self._hidden.head_parts)].sum(axis=0, dtype=np.uint16) > 127
        pieces = _pieces(heads, anchor)
        if pieces:
            place, least = pieces[0][0], LEAST_HEAD
            if self._is_cut_beside(box, place):
                earlier = track.head_at(frame)
                known = [earlier.scaled(1 / ROOM).rect()] if self._is_half_out(earlier) else []
                place = self._whole_head([*(one for one, _ in pieces), *known], box)
                least = 0 if known else CUT_HEAD * LEAST_HEAD
            expected = of_body(box)
            if pieces[0][1] >= least * expected.width * expected.height:
                found = Head(place.x, place.y, ROOM * place.width, ROOM * place.height)
                track.place(frame, found, track.seen[frame].box)
                self.whole.discard(track.track_id)
                return
        person = float((255 - planes[0].astype(np.float32)).mean()) / 255 * 1.5 * 1.3
        cut = box.y1 <= 1 or box.x1 <= 1 or box.x2 >= self._width - 1
        torso = planes[1:].max() > 127
        lies = box.width > LYING * box.height
        if person >= LEAST_PERSON and torso and lies and not cut:
            self.whole.add(track.track_id)

    def _is_half_out(self, head: Head) -> bool:
        """Says whether a head was placed by `_whole_head`."""
        return not 1 < head.x < self._width - 1

    def _is_cut_beside(self, body: Rect, piece: Rect) -> bool:
        """Says whether a side of the picture cuts a body, on the side of a piece of its head."""
        left = body.x1 <= 1 and piece.x < body.x
        return left or (body.x2 >= self._width - 1 and piece.x > body.x)

    def _whole_head(self, pieces: Sequence[Rect], body: Rect) -> Rect:
        """Returns the head whose visible pieces lie at the side of the picture that cuts a body.

        Hair and an ear may be apart. What lies outside is taken to be as wide as what is seen, and
        the head to be as high as others.
        """
        near = [one for one in pieces if self._is_cut_beside(body, one)]
        top, bottom = min(one.y1 for one in near), max(one.y2 for one in near)
        edge = float(self._width) if near[0].x > body.x else 0.0
        seen = max(abs(edge - (one.x1 if edge else one.x2)) for one in near)
        half = max(bottom - top, 2 * seen / HEAD_ASPECT) / 2
        return Rect(edge - seen, (top + bottom) / 2 - half, edge + seen, (top + bottom) / 2 + half)

    def _find_head(self, look: PartLook, expected: Head) -> Head | None:
        """Returns the head that the parts show near where the body lets expect it."""
        anchor = anchor_of_head(expected)
        planes = look.on(anchor, self._hidden.head_parts)
        mask = (planes.sum(axis=0, dtype=np.uint16) > 127).astype(np.uint8)
        near = head_seed(SEARCH_SCALE)
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask)
        best, best_area = 0, LEAST_HEAD * self._seed_area
        for piece in range(1, count):
            area = int(np.count_nonzero((pieces == piece) & (near > 0)))
            if area > best_area:
                best, best_area = piece, area
        if not best:
            return None
        x, y, w, h, _ = (float(v) for v in stats[best])
        w = min(max(w, 0.5 * 32), 1.5 * 32)
        h = min(max(h, 0.5 * 32), 1.4 * 32)
        grid = np.array([x + stats[best][2] / 2 - 0.5, y + h / 2 - 0.5])
        place = anchor.matrix[:, :2] @ grid + anchor.matrix[:, 2] + 0.5
        return Head(
            float(place[0]),
            float(place[1]),
            expected.width * w / 32 * 1.1,
            expected.height * h / 32 * 1.1,
            expected.roll,
        )


def _pieces(mask: NDArray[np.bool_], anchor: Anchor) -> list[tuple[Rect, float]]:
    """Returns where the pieces of a mask are in the frame and their areas, the largest first."""
    stats = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2]
    cell_w, cell_h = float(anchor.matrix[0, 0]), float(anchor.matrix[1, 1])
    left, top = (float(v) for v in anchor.matrix[:, :2] @ (-0.5, -0.5) + anchor.matrix[:, 2] + 0.5)
    found = [
        (
            Rect(left, top, left + w * cell_w, top + h * cell_h).moved(x * cell_w, y * cell_h),
            area * cell_w * cell_h,
        )
        for x, y, w, h, area in stats[1:].tolist()
    ]
    return sorted(found, key=lambda one: -one[1])
