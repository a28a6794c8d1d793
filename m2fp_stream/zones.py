"""Places of the picture that are treated alike whatever looks say: always covered, or left alone.

A zone is a rectangle or a polygon in the upright picture at full size, as fractions of it or in
pixels. All geometry is on the safe side: what is covered is never smaller than the zone, what is
open or left alone never larger. Its grain are blocks of 2x2 pixels, so that no sample of chroma
is shared across a border.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Final, Self, final

import numpy as np
from numpy.typing import NDArray

from .core.errors import UsageError
from .core.timing import Span

__all__ = ["Zone", "Zones"]

Mask = NDArray[np.bool_]
Point = tuple[Fraction, Fraction]
Size = tuple[int, int]

_BLOCK_PX: Final = 2
"""Side of what is covered or open as one. Source: 4:2:0 has a sample of chroma for each 2x2 pixels
(ITU-T H.264, 6.2), and so has all video that is written."""
_NUMBER: Final = re.compile(r"[0-9]{1,6}(\.[0-9]{1,18})?|\.[0-9]{1,18}")
"""More digits than any picture has pixels, and none of the forms that take long to read."""
_MOST_CORNERS: Final = 64
"""Chosen: more than anybody draws by hand; every two sides are compared."""
_FORM: Final = (
    "expected x1,y1,x2,y2 of a rectangle, or x,y of three or more corners, as fractions of the "
    "picture or in pixels"
)


@final
@dataclass(frozen=True, slots=True)
class Zone:
    """A rectangle or polygon, and when it holds.

    Attributes:
        text: as people wrote it.
        corners: two opposite ones of a rectangle, or those of a polygon in order.
        in_pixels: whether they are pixels, not fractions of the picture.
        span: when; None: always.
    """

    text: str
    corners: tuple[Point, ...]
    in_pixels: bool
    span: Span | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns what ``0.1,0.2,0.3,0.4`` or ``x,y,x,y,x,y@0:12-0:30`` means.

        Raises:
            ValueError: it is no area, its sides cross, or the time means nothing.
        """
        place, at, time = text.strip().partition("@")
        numbers = [_number(one) for one in place.split(",")]
        if len(numbers) % 2 or not 4 <= len(numbers) <= 2 * _MOST_CORNERS:
            raise ValueError(f"{_FORM}, got {len(numbers)} numbers in {place[:40]!r}")
        corners = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        if len(corners) == 2:
            (x1, y1), (x2, y2) = corners
            if x1 >= x2 or y1 >= y2:
                raise ValueError(
                    f"{place!r} has no area: expected x1,y1,x2,y2 with x1 below x2 and y1 below "
                    "y2 (two corners, not width and height)"
                )
        elif _crosses_itself(corners):
            raise ValueError(
                f"the sides of {place[:40]!r} cross; name its corners in order around it"
            )
        elif not _area(corners):
            raise ValueError(f"{place[:40]!r} has no area")
        return cls(text.strip(), corners, max(numbers) > 1, Span.parse(time) if at else None)

    def check(self, size_wh: Size) -> None:
        """Refuses pixels outside a picture of (width, height).

        Raises:
            UsageError: see above.
        """
        width, height = size_wh
        if self.in_pixels and any(x > width or y > height for x, y in self.corners):
            raise UsageError(
                f"zone {self.text}: reaches outside the picture of {width}x{height}; give pixels "
                "of the upright picture, or fractions of it"
            )

    def pixels(self, size_wh: Size) -> list[Point]:
        """Returns its corners in pixels, exactly; raises as `check` does."""
        self.check(size_wh)
        across, down = (1, 1) if self.in_pixels else size_wh
        return [(x * across, y * down) for x, y in self.corners]


def _number(text: str) -> Fraction:
    text = text.strip()
    if text.startswith("-") and _NUMBER.fullmatch(text[1:]):
        raise ValueError(f"{text} lies outside the picture: expected 0 or more")
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{_FORM}, got {text[:40]!r} for a number")
    return Fraction(text)


@final
@dataclass(frozen=True, slots=True)
class Zones:
    """All zones and spans of a run; which cells of a map they are.

    Attributes:
        covered: what is always covered; with `invert`, what alone is not.
        kept: where people are left alone.
        invert: see `covered`.
        spans: times at which whole frames are covered.
    """

    covered: tuple[Zone, ...] = ()
    kept: tuple[Zone, ...] = ()
    invert: bool = False
    spans: tuple[Span, ...] = ()

    @property
    def timed(self) -> bool:
        """Whether anything of it is for some time only."""
        return bool(self.spans) or any(zone.span for zone in (*self.covered, *self.kept))

    def times(self) -> dict[str, Span]:
        """Returns every time that is named, under what names it."""
        zones = {zone.text: zone.span for zone in (*self.covered, *self.kept) if zone.span}
        return zones | {span.text: span for span in self.spans}

    def check(self, size_wh: Size) -> None:
        """Refuses zones that reach outside a picture of (width, height).

        Raises:
            UsageError: see above.
        """
        for zone in (*self.covered, *self.kept):
            zone.check(size_wh)

    def whole(self, shown_s: tuple[float, float]) -> bool:
        """Says whether a frame that is shown from one moment to another is covered whole."""
        return any(span.touches(shown_s) for span in self.spans)

    def covers(
        self, size_wh: Size, map_wh: Size, shown_s: tuple[float, float] | None
    ) -> Mask | None:
        """Returns the cells that are covered whatever looks say; None where there are none.

        Args:
            size_wh: (width, height) of the frame.
            map_wh: of the map.
            shown_s: when the frame is shown, None where nobody knows: then what covers holds, and
                what opens does not.

        Returns:
            (h, w) bool, read-only: every cell that anything covered touches.

        Raises:
            UsageError: a zone reaches outside the frame.
        """
        if self.invert:
            return _all_but(_holding(self.covered, shown_s), size_wh, map_wh)
        touching = tuple(
            zone
            for zone in self.covered
            if zone.span is None or shown_s is None or zone.span.touches(shown_s)
        )
        return _touched(touching, size_wh, map_wh) if touching else None

    def keeps(
        self, size_wh: Size, map_wh: Size, shown_s: tuple[float, float] | None
    ) -> Mask | None:
        """Returns the cells that lie wholly where people are left alone; see `covers`."""
        holding = _holding(self.kept, shown_s)
        return ~_all_but(holding, size_wh, map_wh) if holding else None


def _holding(zones: Iterable[Zone], shown_s: tuple[float, float] | None) -> tuple[Zone, ...]:
    """Returns the zones that hold all the time while a frame is shown."""
    return tuple(
        zone
        for zone in zones
        if zone.span is None or (shown_s is not None and zone.span.holds(shown_s))
    )


_MASKS_KEPT: Final = 16
"""Masks that are remembered: zones that hold at one time, for a size. Chosen: a run has one size
and few changes; each is a map of 640 cells at most."""


@lru_cache(maxsize=_MASKS_KEPT)
def _touched(zones: tuple[Zone, ...], size_wh: Size, map_wh: Size) -> Mask:
    """Returns the cells that any of the zones touches."""
    blocks = np.zeros(_grid(size_wh), np.bool_)
    for zone in zones:
        blocks |= _blocks(zone, size_wh)[0]
    return _cells(blocks, size_wh, map_wh)


@lru_cache(maxsize=_MASKS_KEPT)
def _all_but(zones: tuple[Zone, ...], size_wh: Size, map_wh: Size) -> Mask:
    """Returns the cells that anything outside all of the zones touches."""
    inside = np.zeros(_grid(size_wh), np.bool_)
    for zone in zones:
        inside |= _blocks(zone, size_wh)[1]
    return _cells(~inside, size_wh, map_wh)


def _grid(size_wh: Size) -> tuple[int, int]:
    """Returns rows and columns of the blocks of a frame."""
    return -(-size_wh[1] // _BLOCK_PX), -(-size_wh[0] // _BLOCK_PX)


def _cells(blocks: Mask, size_wh: Size, map_wh: Size) -> Mask:
    """Returns the cells of a map that share a pixel with a marked block; read-only."""
    for axis, cells, side in ((0, map_wh[1], size_wh[1]), (1, map_wh[0], size_wh[0])):
        first = np.arange(cells) * side // (cells * _BLOCK_PX)
        beyond = -(-np.arange(1, cells + 1) * side // (cells * _BLOCK_PX))
        counts = np.insert(np.cumsum(blocks, axis=axis, dtype=np.int32), 0, 0, axis=axis)
        blocks = counts.take(beyond, axis=axis) > counts.take(first, axis=axis)
    blocks.setflags(write=False)
    return blocks


def _blocks(zone: Zone, size_wh: Size) -> tuple[Mask, Mask]:
    """Returns the blocks that a zone touches, and those that lie in it wholly."""
    rows, columns = _grid(size_wh)
    corners = zone.pixels(size_wh)
    if len(corners) > 2:
        scaled = [(x / _BLOCK_PX, y / _BLOCK_PX) for x, y in corners]
        edged, inside = _polygon(scaled, rows, columns)
        return edged | inside, inside & ~edged
    touched, inside = np.zeros((rows, columns), np.bool_), np.zeros((rows, columns), np.bool_)
    (x1, y1), (x2, y2) = corners
    sides = ((y1, y2, size_wh[1]), (x1, x2, size_wh[0]))
    touched[tuple(_slice(math.floor(a), math.ceil(b)) for a, b, _ in sides)] = True
    # The last block of an odd side ends with the picture.
    ends = [(a, b if b < side else b + side % _BLOCK_PX) for a, b, side in sides]
    inside[
        tuple(slice(math.ceil(a / _BLOCK_PX), max(0, math.floor(b / _BLOCK_PX))) for a, b in ends)
    ] = True
    return touched, inside


def _slice(first_px: int, beyond_px: int) -> slice:
    """Returns the blocks that hold pixels."""
    return slice(first_px // _BLOCK_PX, -(-beyond_px // _BLOCK_PX))


def _polygon(corners: Sequence[Point], rows: int, columns: int) -> tuple[Mask, Mask]:
    """Returns the cells of a grid that a polygon's sides cross, and those with centres inside it.

    A side that runs between two cells crosses neither; fractions leave no doubt of that.
    """
    edged = np.zeros((rows, columns), np.bool_)
    winding = np.zeros((rows, columns + 1), np.int32)
    half = Fraction(1, 2)
    for (x0, y0), (x1, y1) in _sides(corners):
        step = 1
        if y0 > y1:
            x0, y0, x1, y1, step = x1, y1, x0, y0, -1
        if y0 == y1:
            if y0 % 1:
                edged[int(y0), math.floor(min(x0, x1)) : math.ceil(max(x0, x1))] = True
            continue
        slope = (x1 - x0) / (y1 - y0)
        for row in range(math.floor(y0), math.ceil(y1)):
            top, below = max(y0, Fraction(row)), min(y1, Fraction(row + 1))
            ends = x0 + slope * (top - y0), x0 + slope * (below - y0)
            edged[row, math.floor(min(ends)) : math.ceil(max(ends))] = True
            if y0 <= row + half < y1:
                crossing = x0 + slope * (row + half - y0)
                winding[row, min(columns, math.ceil(crossing - half))] += step
    return edged, np.cumsum(winding[:, :-1], axis=1, dtype=np.int32) != 0


def _sides(corners: Sequence[Point]) -> Iterator[tuple[Point, Point]]:
    return pairwise([*corners, corners[0]])


def _area(corners: Sequence[Point]) -> Fraction:
    """Returns twice the area, signed."""
    return sum((x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in _sides(corners)), Fraction(0))


def _crosses_itself(corners: Sequence[Point]) -> bool:
    """Says whether two sides cross at an inner point of both."""
    return any(
        _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0
        for (a, b), (c, d) in combinations(_sides(corners), 2)
    )


def _turn(a: Point, b: Point, c: Point) -> int:
    """Returns 1, -1 or 0: whether the way from a over b to c turns, and which way."""
    turn = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return (turn > 0) - (turn < 0)
