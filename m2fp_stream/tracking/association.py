"""Which sighting is of which track: what joining them costs, and what is out of the question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from .heads import Head
from .sightings import Sighting, belongs
from .track import SHOWN_FACE, Track

__all__ = ["cheapest_first", "join_cost", "merged", "same_person"]

GATE: Final = 1.2
"""Head sizes between prediction and sighting, at most. Source: research notes, "every frame"."""
TURNED_GATE: Final = 0.5
"""The same where the face is turned otherwise than the track. Chosen: a face that is turned
otherwise must lie on the head, not beside it."""
FIRST_GATE: Final = 3.0
FIRST_GATE_FRAMES: Final = 2
"""The same after a track's first sighting, when its velocity is not known, so soon only. Source:
research notes, "every frame"."""
SIZE_RATIO: Final = 2.0
FIRST_SIZE_RATIO: Final = 1.4
"""Size of a head over the expected one, or the other way round, at most; the second after a track's
first sighting, when its place says least. Source: research notes, "every frame"."""
SAME_BODY: Final = 0.5
"""Intersection over union from which two boxes of a body are one person's, wherever the head is.
Chosen: the usual limit for one object in two boxes (Everingham et al., IJCV 2010)."""
OTHER_KIND_COST: Final = 0.5
FIRST_COST: Final = 2.0
"""What a joining costs more, in head sizes, where a face follows a body or the other way round, and
by a first step that is long: such pairs come after all others. Source: research notes, "every
frame"."""
SAME_HEAD: Final = 0.7
"""Head sizes between what two looks at one frame take for one head. Chosen: two heads side by side
are one head size apart."""


def join_cost(
    track: Track, before: Sighting, expected: Head, gap: int, sighting: Sighting
) -> float | None:
    """Returns what joining costs, None where it is out of the question."""
    apart = expected.distance(sighting.head)
    body = track.predicted_body
    if body is not None:  # `expected` may be of an earlier frame
        now = track.predicted
        body = body.moved(expected.x - now.x, expected.y - now.y)
    same_body = body is not None and sighting.box is not None and body.iou(sighting.box) > SAME_BODY
    if track.misled and 0 < sighting.face < SHOWN_FACE:
        return 0.0 if same_body else None  # the body is its own, the face is none
    if track.turn != sighting.turn and sighting.face > 0 and apart > TURNED_GATE:
        return None  # in a body that hangs, what passes for an upright face is none
    ratio = sighting.head.size / max(1.0, expected.size)
    other = OTHER_KIND_COST * ((sighting.face > 0) != (before.face > 0))
    if apart < GATE and 1 / SIZE_RATIO < ratio < SIZE_RATIO:
        return apart + other
    same_face = (
        sighting.face_box is not None
        and before.box is not None
        and before.face == 0
        and gap <= FIRST_GATE_FRAMES
        and belongs(sighting.face_box, before.box)
    )
    # Not every look that saw the face looked for the body.
    if same_face or same_body:
        return min(apart, GATE) + other
    if (
        len(track.frames) == 1
        and gap <= FIRST_GATE_FRAMES
        and apart < FIRST_GATE
        and 1 / FIRST_SIZE_RATIO < ratio < FIRST_SIZE_RATIO
    ):
        return apart + FIRST_COST
    return None


def cheapest_first(pairs: Iterable[tuple[float, int, int]]) -> Iterator[tuple[int, int]]:
    """Yields pairs of (cost, track, sighting) in the order of their costs, each of both once."""
    tracks: set[int] = set()
    seen: set[int] = set()
    for _, track, sighting in sorted(pairs):
        if track not in tracks and sighting not in seen:
            tracks.add(track)
            seen.add(sighting)
            yield track, sighting


def same_person(known: Sighting, seen: Sequence[Sighting], rest: Sequence[int]) -> int | None:
    """Returns which of `seen` is of the person of a sighting of the same frame; None: none is."""
    for index in rest:
        if known.face_box is not None and seen[index].face_box == known.face_box:
            return index
    best: tuple[float, int] | None = None
    for index in rest:
        one = seen[index]
        same_body = (
            known.box is not None and one.box is not None and known.box.iou(one.box) > SAME_BODY
        )
        apart = known.head.distance(one.head)
        if (same_body or apart < SAME_HEAD) and (best is None or apart < best[0]):
            best = apart, index
    return None if best is None else best[1]


def merged(known: Sighting, late: Sighting) -> Sighting:
    """Returns what two looks at one frame say together of somebody."""
    base = known if known.face > late.face and not late.turn else late
    box = late.box or known.box
    return replace(base, body=max(known.body, late.body), box=box, sure=known.sure or late.sure)
