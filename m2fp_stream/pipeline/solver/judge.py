"""Who is somebody: what detectors and close looks say together about a track.

The limits are read off scenes and clips of the tune half (`scripts/bench/leak.py`).
"""

from __future__ import annotations

from statistics import median
from typing import Final

from ...tracking.track import SHOWN_FACE, Track

__all__ = [
    "LIKELY",
    "STRONG",
    "has_come_out",
    "is_denied",
    "is_headless",
    "is_somebody",
    "is_unjudged",
    "may_be_somebody",
]


STRONG: Final = 0.45
STRONG_BODY: Final = 0.60
STRONG_TURNED: Final = 0.70
AGREEING: Final = 0.40
LIKELY: Final = 0.28
WEAK: Final = 0.18
WEAK_HITS: Final = 4
SURE_FACE: Final = 0.85
DENIED_FACE: Final = 0.25
SUPPORTED: Final = 0.25
"""Share of the looks for people that must have seen a body for its score to count. Chosen: one look
in four."""
RECENT_LOOKS: Final = 12
"""Looks at parts that are weighed, the last ones: who was hidden for long may come into sight.
Chosen: at one in six frames (`file.parts_every`) about three seconds."""
HEAD_SEEN: Final = 0.30
HEAD_ABSENT: Final = 0.10
"""A track is covered when what detectors and close looks saw of it agree. The share of the expected
head that the part network takes for one (median of all looks) tells hands, prints and furniture,
whose share is 0 as a rule, from people, even weakly detected ones. The table was read off the tune
half (docs/architecture.md, "What is next for files"); `STRONG` and `WEAK_HITS` are those of the
research notes, "every frame"."""
FACE_CONFIRMED: Final = 0.30
FACE_DENIED: Final = 0.12
"""Score of a closer look from which a weakly seen face is one, and below which it is none
(docs/parsers.md: at .2, .08 false faces a picture without people are left, of .46)."""
DENIALS: Final = 2
"""So many closer looks at a face (`orders.CLOSER_LOOKS`)."""
BETTER_FACE: Final = 0.1
"""Detector's score of a face above the best that was judged from which it is another matter: it is
judged at once, and until then a strong one counts (weak ones are as often those of things). Chosen:
a tenth of the range of scores."""
JUDGED_WITHIN: Final = 8
"""Frames within which closer looks judge somebody new; later he is judged by what was seen. Chosen:
two closer looks, `orders.CLOSER_EVERY` apart, and the time for their answers."""
LARGE_HEAD: Final = 0.4
"""Of the picture's width: weak faces that are so large were patterns of floors and walls. Chosen: a
face of somebody so near is not weak."""
SEEN_WITHIN: Final = 2
"""Frames within which somebody new shows his face again, if it is one. Chosen: faces are looked for
in every frame, and a detector may miss one."""
TELLING_HEAD_PX: Final = 28.0
"""Width of a head from which not finding its parts says something. Chosen on the tune half."""


def may_be_somebody(track: Track) -> bool:
    """Says whether a track is worth close looks."""
    return track.best >= LIKELY or track.sightings >= WEAK_HITS


def is_unjudged(track: Track, now: int, width: int) -> bool:
    """Says whether a track is too young at frame `now` for closer looks to have judged it.

    Where nothing is known of the frames to come, it is somebody until they have. Faces are looked
    for in every frame: one that is not seen again was none. A head that fills the picture, whose
    `width` in pixels is given, is seen well if it is one.
    """
    judged = bool(track.heads) or bool(track.faces) or track.turn != 0
    lost = track.seen[track.last].face > 0 and now - track.last > SEEN_WITHIN
    enough = STRONG if track.predicted.width > LARGE_HEAD * width else LIKELY
    return track.best >= enough and not judged and not lost and now - track.born <= JUDGED_WITHIN


def has_come_out(track: Track, now: int, width: int) -> bool:
    """Says whether a face is seen now that is much better than those that closer looks judged.

    What they said of a blur must not hold against the face that came out of it, until they judge
    that, too. `width`: see `is_unjudged`.
    """
    large = track.predicted.width > LARGE_HEAD * width
    enough = max(SURE_FACE if large else STRONG, track.judged_face + BETTER_FACE)
    if now - track.last > SEEN_WITHIN:
        return False
    for frame in reversed(track.frames):
        if now - frame > JUDGED_WITHIN:
            return False
        if track.seen[frame].face >= enough:
            return True
    return False


def is_denied(track: Track) -> bool:
    """Says whether closer looks, more than one, saw no face in what was weakly taken for one.

    And it would be of a head wider than the body that it was seen with, such as an arm: then it
    does not say where that body has its head, either. (Narrower ones do: with those left out, too,
    more of the scenes `seated` and `lying` was open.)
    """
    looks = len(track.faces) >= DENIALS and max(track.faces) < FACE_DENIED
    if not looks or track.misled or track.best_face >= SHOWN_FACE:
        return False
    with_face = (one for one in track.seen.values() if one.face > 0)
    return any(one.box is not None and one.head.width > one.box.width for one in with_face)


def is_headless(track: Track) -> bool:
    """Says whether looks at parts, again and again, saw no head where a track has its own."""
    looks = track.heads[-RECENT_LOOKS:]
    return track.turn == 0 and len(looks) >= 2 and median(looks) < HEAD_ABSENT


def is_somebody(track: Track, *, whole: bool) -> bool:
    """Says whether a track is covered, by what detectors and closer looks say together.

    `whole`: its parts show a person without a head, who lies, bends or is seen from above.
    """
    face, body = track.best_face, track.best_body
    if face >= 1.0:
        return True
    if track.supported < SUPPORTED * track.looked:  # its body may be somebody else's
        body = min(body, WEAK)
    confirmed = bool(track.faces) and max(track.faces) >= FACE_CONFIRMED
    if track.faces and max(track.faces) < FACE_DENIED:
        face = min(face, DENIED_FACE)
    best = max(face, body)
    if track.heads and track.detail >= TELLING_HEAD_PX:
        usual = median(track.heads[-RECENT_LOOKS:])
        if usual >= HEAD_SEEN:
            return best >= (WEAK if confirmed or best == body else LIKELY)
        if usual >= HEAD_ABSENT:
            return best >= LIKELY or (confirmed and best >= WEAK)
        if face >= SURE_FACE or whole:
            return True
        if track.turn:  # things are taken for people more often in turned copies
            return body >= STRONG_TURNED
        agreed = face >= AGREEING and body >= AGREEING
        # Who showed a head once has one: plain black hair from behind passes for nothing at times.
        headed = not track.cut_above or max(track.heads) >= HEAD_SEEN
        return agreed or (body >= STRONG_BODY and headed)
    if best >= STRONG:
        return True
    # A small head says nothing where its parts were not found; where they were, it is one.
    if best >= LIKELY and track.heads and median(track.heads) >= HEAD_SEEN:
        return True
    enough = LIKELY if not confirmed else WEAK
    return best >= enough and (track.sightings >= 2 or confirmed)
