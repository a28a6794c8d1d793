"""What a cover leaves open and what it hides needlessly, pixel by pixel, against a known truth.

Definitions, all at full resolution; shares are in percent in the table, 0..1 here.

*Required* is what a preset hides (`HIDES`), *aside* what counts neither way. Somebody of whom less
than `SMALLEST_PX` of it is visible shows nothing.

- exposed, strict: frames in which more than a quarter (a twentieth) of somebody's required pixels
  is uncovered. run: the longest run of exposed frames.
- open: required pixels uncovered, of all required pixels; face, hair: the same of faces (glasses
  included) and of hair (what hangs below the chin included, hats not).
- hair frames: frames in which more than a quarter of somebody's hair is uncovered. Long hair of
  who stands so far away that the head is too small to count does not count either.
- *outside heads*: beyond the union over people of `scenes.draw_zone`'s ellipse (2.6 by 3.0 faces),
  united with required and aside pixels dilated by 12 pixels of 720 rows. Somebody of whose head no
  pixel is visible has no ellipse. Pixels to be ignored count nowhere.
- outside: covered share of it, a frame: mean, 95th percentile.
- ratio: covered area (without aside and ignored pixels) over required area, median over the frames
  that have any.
- fragments: connected pieces (of eight neighbours) of cover that touch no required, aside or
  ignored pixel, a frame.
- flicker: share of the pixels outside in two consecutive frames that are covered in one of them
  alone; mean over pairs.
- swaps: times at which the track that most of somebody's covered head belongs to becomes another
  one, while both tracks live: the new one was there before, the old one is there still or again.

`clear` and `back` are what `over` was measured on before these: of neither required nor aside
pixels, and of background alone, the share that is covered. They need no ellipse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from scripts.bench.scenes import HEAD_FACES_WH, HEAD_PARTS, Figure, Part, Truth, draw_zone

__all__ = ["HIDES", "Cover", "Hide", "Scorer", "Verdict", "judge", "longest_run", "summary"]

Bool = NDArray[np.bool_]
U8 = NDArray[np.uint8]

EXPOSED_SHARE: Final = 0.25
STRICT_SHARE: Final = 0.05
SMALLEST_PX: Final = 60
"""Visible pixels; a head of less (8x8) shows nobody."""
REACH_PX: Final = 12
"""At 720 rows: what lies this near to a required pixel is not outside."""

PEOPLE: Final = tuple(part for part in Part if part not in (Part.NOBODY, Part.MAYBE))


@dataclass(frozen=True)
class Hide:
    """What is to be hidden.

    Attributes:
        options: of the program, by dotted name.
        required: parts that have to be covered.
        aside: parts that count neither way.
        bodies: whether bodies or parts of them are required, so that what is perhaps a body
            (`Part.MAYBE`) has to be ignored.
        parts: whether parts of bodies are, so that the whole of a body whose parts the truth does
            not know has to be.
    """

    options: Mapping[str, object]
    required: tuple[Part, ...]
    aside: tuple[Part, ...] = ()
    bodies: bool = False
    parts: bool = False


HIDES: Final[dict[str, Hide]] = {
    "head": Hide({"policy.hide": "head"}, HEAD_PARTS, (Part.LONG_HAIR,)),
    "face": Hide({"policy.hide": "face"}, (Part.FACE,)),
    "skin": Hide({"policy.hide": "skin"}, (Part.FACE, Part.SKIN), bodies=True, parts=True),
    "person": Hide({"policy.hide": "person"}, PEOPLE, bodies=True),
    "parts": Hide(
        {
            "policy.hide": ["face", "hair", "pants"],
            "policy.effects": {"face": "mosaic", "hair": "solid", "pants": "silhouette"},
        },
        (Part.FACE, Part.HAIR, Part.LONG_HAIR, Part.LEGWEAR),
        bodies=True,
        parts=True,
    ),
}
"""Presets of `--hide` and one list with an effect a part."""
_BODIES: Final = tuple(part for part in Part if part not in (Part.NOBODY, *HEAD_PARTS))
_HAIR: Final = (Part.HAIR, Part.LONG_HAIR)


@dataclass(frozen=True, eq=False)
class Cover:
    """What covers a frame.

    Attributes:
        pixels: (H, W) bool.
        tracks: (h, w) uint8, smaller or not: the track each covered cell belongs to, 0 for none;
            None where nobody says.
    """

    pixels: Bool
    tracks: U8 | None = None


@dataclass(frozen=True)
class Verdict:
    """What one frame shows. Pixel counts at full resolution; see the module's text.

    Attributes:
        worst, hair_worst: largest uncovered share of somebody's required pixels, of hair, 0..1.
        owners: the track that most of each visible head's cover belongs to, by person.
        tracks: all tracks of the frame.
    """

    frame_id: int
    worst: float = 0.0
    hair_worst: float = 0.0
    required_px: int = 0
    open_px: int = 0
    face_px: int = 0
    face_open_px: int = 0
    hair_px: int = 0
    hair_open_px: int = 0
    covered_px: int = 0
    outside_px: int = 0
    outside_over_px: int = 0
    switch_px: int = 0
    switched_px: int = 0
    fragments: int = 0
    clear_px: int = 0
    over_px: int = 0
    back_px: int = 0
    back_over_px: int = 0
    owners: tuple[tuple[int, int], ...] = ()
    tracks: frozenset[int] = field(default_factory=frozenset[int])


@dataclass(frozen=True, eq=False)
class _Areas:
    """(H, W) bool masks of one frame: see the module's text."""

    required: Bool
    aside: Bool
    ignore: Bool
    outside: Bool


def _areas(truth: Truth, hide: Hide) -> _Areas:
    height, width = truth.size_wh[::-1]
    required = truth.mask(hide.required)
    aside = truth.mask(hide.aside)
    ignore = np.zeros((height, width), bool) if truth.ignore is None else truth.ignore.copy()
    zone = np.zeros((height, width), np.uint8)
    for figure in truth.figures:
        if hide.bodies:
            unknown = (Part.MAYBE,) if figure.labelled or not hide.parts else _BODIES
            ignore[figure.rows, figure.columns] |= figure.of(unknown)
        if figure.face is not None and figure.of(HEAD_PARTS).any():
            draw_zone(zone, figure.face)
        _draw_near(zone, figure, (*hide.required, *hide.aside), round(REACH_PX * height / 720))
    ignore &= ~required
    return _Areas(required, aside, ignore, ~((zone > 0) | ignore))


def _draw_near(zone: U8, figure: Figure, parts: tuple[Part, ...], reach: int) -> None:
    """Writes 1 into (H, W) uint8 wherever one of `parts` is up to `reach` pixels away."""
    shown = figure.of(parts)
    if not shown.any():
        return
    beyond = cv2.copyMakeBorder(
        (~shown).astype(np.uint8), reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=1
    )
    near = cv2.distanceTransform(beyond, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= reach
    top, left = figure.rows.start - reach, figure.columns.start - reach
    rows, columns = max(0, top), max(0, left)
    part = zone[rows : top + near.shape[0], columns : left + near.shape[1]]
    cut = near[rows - top :, columns - left :]
    part |= cut[: part.shape[0], : part.shape[1]].astype(np.uint8)


def judge(truth: Truth, cover: Cover, frame_id: int = 0, hide: Hide = HIDES["head"]) -> Verdict:
    """Returns what `cover` leaves open of a frame and needlessly hides."""
    return Scorer(hide).see(truth, cover, frame_id)


class Scorer:
    """Judges the frames of one scene in their order."""

    def __init__(self, hide: Hide = HIDES["head"]) -> None:
        self.verdicts: list[Verdict] = []
        self._hide = hide
        self._last: tuple[Bool, Bool] | None = None

    def see(self, truth: Truth, cover: Cover, frame_id: int) -> Verdict:
        """Returns what the next frame shows; it is added to `verdicts`."""
        covered = cover.pixels
        areas = _areas(truth, self._hide)
        counts = Counter[str]()
        worst = hair_worst = 0.0
        owners = []
        for figure in truth.figures:
            shown = ~covered[figure.rows, figure.columns]
            worst = max(worst, _open(figure, self._hide.required, shown, counts, ""))
            _open(figure, (Part.FACE,), shown, counts, "face_")
            if _large_enough(figure):
                hair_worst = max(hair_worst, _open(figure, _HAIR, shown, counts, "hair_"))
            owner = _owner(truth, figure, cover.tracks)
            if owner:
                owners.append((figure.person, owner))
        clear = ~(areas.required | areas.aside | areas.ignore)
        back = clear & ~truth.people
        both, switched = np.zeros(0, bool), np.zeros(0, bool)
        if self._last is not None:
            both = areas.outside & self._last[1]
            switched = both & (covered ^ self._last[0])
        self._last = covered, areas.outside
        verdict = Verdict(
            frame_id,
            worst,
            hair_worst,
            required_px=counts["px"],
            open_px=counts["open_px"],
            face_px=counts["face_px"],
            face_open_px=counts["face_open_px"],
            hair_px=counts["hair_px"],
            hair_open_px=counts["hair_open_px"],
            covered_px=_count(covered & ~areas.aside & ~areas.ignore),
            outside_px=_count(areas.outside),
            outside_over_px=_count(areas.outside & covered),
            switch_px=_count(both),
            switched_px=_count(switched),
            fragments=_fragments(covered, areas.required | areas.aside | areas.ignore),
            clear_px=_count(clear),
            over_px=_count(clear & covered),
            back_px=_count(back),
            back_over_px=_count(back & covered),
            owners=tuple(owners),
            tracks=_tracks(cover.tracks),
        )
        self.verdicts.append(verdict)
        return verdict


def _count(mask: Bool) -> int:
    return int(np.count_nonzero(mask))


def _open(
    figure: Figure, parts: tuple[Part, ...], shown: Bool, counts: Counter[str], what: str
) -> float:
    """Adds somebody's pixels of `parts` to `counts`; returns the share of them that is open."""
    there = figure.of(parts)
    visible = _count(there)
    if visible < SMALLEST_PX:
        return 0.0
    opened = _count(there & shown)
    counts[f"{what}px"] += visible
    counts[f"{what}open_px"] += opened
    return opened / visible


def _large_enough(figure: Figure) -> bool:
    """Returns whether somebody's head has `SMALLEST_PX`, hidden or not: an ellipse of that size."""
    if figure.face is None:
        return False
    width, height = HEAD_FACES_WH
    area = np.pi / 4 * width * figure.face.width * height * figure.face.height
    return bool(area >= SMALLEST_PX)


def _owner(truth: Truth, figure: Figure, tracks: U8 | None) -> int:
    """Returns the track that most of somebody's covered head belongs to, 0 for none."""
    head = figure.of(HEAD_PARTS)
    if tracks is None or _count(head) < SMALLEST_PX:
        return 0
    width, height = truth.size_wh
    rows = np.arange(figure.rows.start, figure.rows.stop) * tracks.shape[0] // height
    columns = np.arange(figure.columns.start, figure.columns.stop) * tracks.shape[1] // width
    ids = tracks[rows[:, None], columns[None, :]][head]
    votes = np.bincount(ids, minlength=2)[1:]
    return int(votes.argmax()) + 1 if votes.any() else 0


def _tracks(tracks: U8 | None) -> frozenset[int]:
    if tracks is None:
        return frozenset()
    return frozenset(int(k) for k in np.flatnonzero(np.bincount(tracks.ravel())) if k)


def _fragments(covered: Bool, somebody: Bool) -> int:
    count, pieces = cv2.connectedComponents(covered.astype(np.uint8))
    touched = np.unique(pieces[covered & somebody])
    return int(count) - 1 - len(touched)


def longest_run(exposed: Sequence[bool]) -> int:
    """Returns the largest number of consecutive True."""
    longest = run = 0
    for one in exposed:
        run = run + 1 if one else 0
        longest = max(longest, run)
    return longest


def swaps(verdicts: Sequence[Verdict]) -> int:
    """Returns how often somebody's cover goes over to another track that lived already."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, verdict in enumerate(verdicts):
        for track in verdict.tracks:
            first.setdefault(track, number)
            last[track] = number
    count = 0
    owner: dict[int, int] = {}
    for number, verdict in enumerate(verdicts):
        for person, track in verdict.owners:
            before = owner.get(person, track)
            if track != before and first[track] < number <= last[before]:
                count += 1
            owner[person] = track
    return count


def summary(scenes: Sequence[Sequence[Verdict]], looks: Mapping[str, int]) -> dict[str, Any]:
    """Returns one row of the table over the verdicts of some scenes; shares in percent.

    `worst_outside` is the largest mean of a scene.
    """
    verdicts = [verdict for scene in scenes for verdict in scene]

    def share(part: str, whole: str) -> float:
        total = sum(int(getattr(verdict, whole)) for verdict in verdicts)
        return 100.0 * sum(int(getattr(verdict, part)) for verdict in verdicts) / max(1, total)

    def outside(some: Sequence[Verdict]) -> list[float]:
        return [100.0 * one.outside_over_px / max(1, one.outside_px) for one in some]

    exposed = [[verdict.worst > EXPOSED_SHARE for verdict in scene] for scene in scenes]
    ratios = [one.covered_px / one.required_px for one in verdicts if one.required_px]
    pairs = [one for one in verdicts if one.switch_px]
    frames = max(1, len(verdicts))
    return {
        "frames": len(verdicts),
        "exposed": sum(map(sum, exposed)),
        "strict": sum(verdict.worst > STRICT_SHARE for verdict in verdicts),
        "run": max(map(longest_run, exposed), default=0),
        "open": share("open_px", "required_px"),
        "face": share("face_open_px", "face_px"),
        "hair_frames": sum(verdict.hair_worst > EXPOSED_SHARE for verdict in verdicts),
        "hair": share("hair_open_px", "hair_px"),
        "outside": float(np.mean(outside(verdicts))) if verdicts else 0.0,
        "outside_95": float(np.percentile(outside(verdicts), 95)) if verdicts else 0.0,
        "worst_outside": max((float(np.mean(outside(one))) for one in scenes if one), default=0.0),
        "ratio": float(np.median(ratios)) if ratios else None,
        "fragments": sum(verdict.fragments for verdict in verdicts) / frames,
        "flicker": 100.0
        * sum(one.switched_px / one.switch_px for one in pairs)
        / max(1, len(pairs)),
        "swaps": sum(map(swaps, scenes)),
        "looks": {kind: count / frames for kind, count in sorted(looks.items())},
        "over": share("over_px", "clear_px"),
        "over_background": share("back_over_px", "back_px"),
    }
