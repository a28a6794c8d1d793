"""What is covered: shapes, ellipses and boxes laid on the map of a frame."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final, final

import cv2
import numpy as np

from ...core.labels import Label
from ...core.safe import TrackState
from ...tracking.association import SAME_HEAD
from ...tracking.heads import Head, Rect
from ...tracking.shape import (
    Shape,
    anchor_of_body,
    anchor_of_head,
    filled,
    lay_box,
    lay_ellipse,
    put_on,
)
from ...tracking.track import Track
from .judge import LIKELY
from .place import Places
from .records import U8, Hidden, Laid, Shapes

__all__ = ["Layer", "mark_of"]


MOVING_REACH: Final = 0.6
"""So many head sizes around a head beyond its track's end, what moves is covered with it. Chosen:
half a head around the head, and a little."""
AROUND_PX: Final = 8
"""Small pixels: more than what closes an outline adds. Chosen."""
GROWTH_PER_GAP: Final = 0.03
"""A head is covered so much larger for each frame that it is away from a sighting. Chosen: three
quarters larger after 25 frames."""
WIDER: Final = 1.12
"""The ellipse of a head whose parts nobody looked at. Chosen: an eighth, for hair."""
TRUSTED_HEAD: Final = 0.5
TRUSTED_SCALE: Final = 0.85
"""Where the parts fill so much of a head, the ellipse is drawn so much smaller: they say it. Chosen
on the tune half."""
UNPLACED: Final = 1.8
"""The same of a head that neither a face nor its parts placed: a body alone says it roughly. Chosen
on the tune half."""
SAME_BODY: Final = 0.6
"""Intersection over union of boxes from which two tracks are told as one. As `solve.AGREES`."""
SHAPES_APART: Final = 24
"""Frames from a look at parts beyond which its shape is no longer used. Chosen: four looks at one
in six frames (`file.parts_every`) were not made then."""


@final
class Layer:
    """Lays the cover of one person after the other on a map.

    Args:
        places: where people are.
        hidden: what the policy hides.
        scale: map pixels in a pixel of the frame.
    """

    def __init__(self, places: Places, *, hidden: Hidden, scale: float) -> None:
        self._places = places
        self._hidden = hidden
        self._scale = scale

    def hide(self, hidden: Hidden) -> None:
        """Changes what is hidden."""
        self._hidden = hidden

    def lay(
        self,
        track: Track,
        number: int,
        parts: U8,
        tracks: U8,
        *,
        shapes: Shapes,
        whole: bool,
        others: Sequence[Track],
    ) -> bool:
        """Lays somebody's cover; says whether any of it is in the picture.

        Args:
            track: whose.
            number: the frame.
            parts: (h, w) uint8 `Label`, 0 = clear; drawn on.
            tracks: (h, w) uint8 marks of people; drawn on.
            shapes: what close looks made of the track.
            whole: whether all of the body is covered, for its head is nowhere.
            others: everybody, for what moves with them is theirs.
        """
        hidden, scale, mark = self._hidden, self._scale, mark_of(track)
        head = self._places.head(track, number)
        grown = head.scaled(1 + GROWTH_PER_GAP * track.gap(number))
        if not track.born <= number <= track.last:
            self._lay_motion(track, number, head, parts, tracks, others)
        for laid in (_nearest(shapes.head, number), _nearest(shapes.fine_head, number)):
            if laid is not None:
                laid.lay(parts, tracks, mark, anchor_of_head(grown), scale)
        if whole and not hidden.person:
            lay_box(parts, tracks, mark, self._places.body(track, number), Label.HUMAN, scale)
        doubt = _nearest(shapes.doubt, number)
        if doubt is not None:
            body = self._places.body(track, number)
            doubt.lay(parts, tracks, mark, anchor_of_body(body), scale)
        if hidden.head or hidden.person:
            wide = self._ellipse(track, number, grown, shapes)
            lay_ellipse(parts, tracks, mark, wide, Label.FACE, scale)
        elif hidden.face:
            face = track.face_box_at(number, SHAPES_APART)
            if face is not None:
                oval = Head(face.x, face.y, 1.15 * face.width, 1.2 * face.height, head.roll)
                lay_ellipse(parts, tracks, mark, oval, Label.FACE, scale)
        if hidden.body:
            self._lay_body(track, number, parts, tracks, shapes)
        return bool((tracks == mark).any())

    def told(
        self, laid: Sequence[Track], number: int, *, whole: Collection[int]
    ) -> tuple[Laid, ...]:
        """Returns what is known of those whose cover was laid, in their order.

        Args:
            laid: their tracks.
            number: the frame.
            whole: those of whom all of the body is covered, for the head is nowhere.
        """
        surest = sorted(laid, key=lambda one: (one.born <= number <= one.last, one.best))[::-1]
        known: list[tuple[Head, Rect]] = []
        doubles = set[int]()
        for track in surest:
            head, body = self._places.head(track, number), self._places.body(track, number)
            if any(
                head.distance(other) < SAME_HEAD or body.iou(others) >= SAME_BODY
                for other, others in known
            ):
                doubles.add(track.track_id)
            else:
                known.append((head, body))
        return tuple(
            Laid(
                mark_of(track),
                track.track_id,
                self._places.body(track, number),
                self._state(track, number, whole),
                whole=self._is_whole(track, whole),
                double=track.track_id in doubles,
            )
            for track in laid
        )

    def _state(self, track: Track, number: int, whole: Collection[int]) -> TrackState:
        if not track.born <= number <= track.last:
            return TrackState.CARRIED
        if self._is_whole(track, whole):
            return TrackState.WHOLE
        return TrackState.PLACED if track.placed else TrackState.UNPLACED

    def _is_whole(self, track: Track, whole: Collection[int]) -> bool:
        return track.track_id in whole and not self._hidden.person

    @staticmethod
    def _ellipse(track: Track, number: int, grown: Head, shapes: Shapes) -> Head:
        """Returns the ellipse that a head is covered with in any case."""
        if not track.placed:  # somewhere at the top of the body
            return grown.scaled(UNPLACED)
        seen = shapes.share is not None and shapes.share >= TRUSTED_HEAD
        shape = _nearest(shapes.head, number)
        wide = grown.scaled(TRUSTED_SCALE if seen else 1.0) if shape else grown.scaled(WIDER)
        if track.best_face < LIKELY:  # how a body holds its head changes with its box
            wide = grown.scaled(WIDER)
        return replace(wide, roll=track.roll_at(number))

    def _lay_body(self, track: Track, number: int, parts: U8, tracks: U8, shapes: Shapes) -> None:
        mark, body = mark_of(track), self._places.body(track, number)
        for kept in (shapes.body, shapes.fine_body):
            for frame in _around(kept, number):
                box = self._carried(track, shapes.places[frame], number)
                kept[frame].lay(parts, tracks, mark, anchor_of_body(box or body), self._scale)
        if not shapes.body and self._hidden.person:
            lay_box(parts, tracks, mark, body, Label.HUMAN, self._scale)

    def _carried(self, track: Track, place: tuple[Rect, Head], number: int) -> Rect | None:
        """Returns where a body is that was looked at elsewhere: it goes with its head.

        Boxes of bodies waver, and shrink where something stands before them. None where no face
        says where the head is: then the box must do.
        """
        if track.best_face < LIKELY or track.misled:
            return None
        (box, then), now = place, self._places.head(track, number)
        grown = now.size / max(1.0, then.size)
        return Rect(
            now.x + (box.x1 - then.x) * grown,
            now.y + (box.y1 - then.y) * grown,
            now.x + (box.x2 - then.x) * grown,
            now.y + (box.y2 - then.y) * grown,
        )

    def _lay_motion(
        self,
        track: Track,
        number: int,
        head: Head,
        parts: U8,
        tracks: U8,
        others: Sequence[Track],
    ) -> None:
        """Covers what moves where a head is carried on beyond its track's end, and nobody else is.

        Where somebody comes in or goes, his way is known from one side only.
        """
        motion = self._places.motions.get(number)
        if motion is None:
            return
        x, y = MOVING_REACH * head.width, MOVING_REACH * head.height
        around = _cells(head.rect().grown(x, y, y), motion.scale)
        near = np.zeros_like(motion.moved)
        near[around] = motion.moved[around]
        for other in others:
            if other is not track and other.born <= number <= other.last:
                box = self._places.body(other, number).grown(head.width / 4, 0, 0)
                top, first = (max(0, int(v * motion.scale)) for v in (box.y1, box.x1))
                below, beyond = (max(0, int(v * motion.scale)) for v in (box.y2, box.x2))
                near[top : below + 1, first : beyond + 1] = 0
        if not near.any() or near.shape[0] < 2:
            return
        # Only around it: its outline is closed by a few pixels.
        x, y, w, h = cv2.boundingRect(near)
        top, first = max(0, y - AROUND_PX), max(0, x - AROUND_PX)
        inside = slice(top, y + h + AROUND_PX), slice(first, x + w + AROUND_PX)
        whole = np.zeros_like(near)
        whole[inside] = filled(np.asarray(cv2.dilate(near[inside], _CLOSED), np.uint8))
        _, pieces = cv2.connectedComponents(whole[inside])
        core = np.zeros_like(whole)
        core[_cells(head.rect(), motion.scale)] = 1
        touching = np.unique(pieces[(core[inside] > 0) & (whole[inside] > 0)])
        whole[inside] = np.isin(pieces, touching[touching > 0])
        large = cv2.resize(whole, parts.shape[::-1], interpolation=cv2.INTER_NEAREST)
        put_on(parts, tracks, np.asarray(large > 0), int(Label.FACE), mark_of(track))


def mark_of(track: Track) -> int:
    """Returns what somebody is called on the map of tracks: 1 to 255."""
    return (track.track_id - 1) % 255 + 1


def _cells(box: Rect, scale: float) -> tuple[slice, slice]:
    """Returns the rows and columns of a box in a picture scaled so."""
    return (
        slice(max(0, int(box.y1 * scale)), max(0, int(box.y2 * scale))),
        slice(max(0, int(box.x1 * scale)), max(0, int(box.x2 * scale))),
    )


_CLOSED: Final = np.ones((5, 5), np.uint8)
"""Small pixels; closes gaps of two on either side. Chosen: more would join two people."""


def _around(shapes: dict[int, Shape], number: int) -> list[int]:
    """Returns the frames of the looks before and after a frame; the nearer one first."""
    before = max((f for f in shapes if f <= number), default=None)
    after = min((f for f in shapes if f >= number), default=None)
    near = {f for f in (before, after) if f is not None}
    return sorted(near, key=lambda f: (abs(f - number), f))


def _nearest(shapes: dict[int, Shape], number: int) -> Shape | None:
    """Returns the shapes of the looks before and after a frame, united; None where none is near."""
    near = _around(shapes, number)
    if not near:
        return None
    first = shapes[near[0]]
    return first.united(shapes[near[1]]) if len(near) == 2 else first
