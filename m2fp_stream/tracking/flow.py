"""What moved between two consecutive frames, measured on a small blurred copy.

Source of the method: dense inverse search (DIS) optical flow, Kroeger et al., "Fast Optical Flow
using Dense Inverse Search", ECCV 2016, as implemented in OpenCV. The thresholds were found on
composed and real clips (0 exposed frames, see `docs/performance.md`); they are in grey levels of
an 8-bit picture and in pixels of the small picture.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, cast, final

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Analyser", "Link", "Mask", "Small", "small_size"]

Mask = NDArray[np.uint8]
"""(h, w) uint8, 0 or 1."""

_ALL: Final = slice(None)
_CELL: Final = np.ones((3, 3), np.uint8)
_MOVED_LEVELS: Final = 14.0
_MOVED_LEVELS_DARK: Final = 6.0
_MOVED_SHARE: Final = 0.15  # of the mean level, above 4: contrast shrinks with the light
_SAME_SHARE: Final = 0.6  # of the threshold: "moved" starts below it, "same" ends there
_TRACKABLE_PX: Final = 12.0
_CUT_LEVELS: Final = 12.0
_CUT_SURE_LEVELS: Final = 40.0
_CUT_RESIDUAL: Final = 0.22
_CUT_LIKENESS: Final = 0.5  # measured: at most 0.22 across cuts, at least 0.79 under a flash
_UNIFORM_LEVELS: Final = 2.0  # standard deviation; a fade to black passes it, a dark room does not


def small_size(size_wh: tuple[int, int], area: int) -> tuple[int, int]:
    """Returns (width, height) of the small picture: at most `area` pixels, never enlarged."""
    width, height = size_wh
    scale = min(1.0, float(np.sqrt(area / (width * height))))
    return max(1, round(width * scale)), max(1, round(height * scale))


@final
@dataclass(slots=True, eq=False)
class Small:
    """The small copies of one frame. They are raw pixels: `wipe()` them when done.

    Attributes:
        colour: (h, w, 3) uint8 BGR, blurred with sigma 1 (noise is not motion).
        grey: (h, w) uint8, not blurred.
        uniform: True where the picture shows next to nothing (P2).
    """

    colour: NDArray[np.uint8]
    grey: NDArray[np.uint8]
    uniform: bool

    @classmethod
    def of(cls, bgr: NDArray[np.uint8], size_wh: tuple[int, int]) -> Small:
        """Returns the small copies of `bgr`, an (H, W, 3) uint8 picture."""
        resized = np.asarray(cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        colour = np.asarray(cv2.GaussianBlur(resized, (0, 0), 1.0), np.uint8)
        grey = np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGR2GRAY), np.uint8)
        _, deviation = cv2.meanStdDev(colour)
        resized.fill(0)
        return cls(colour, grey, bool(np.max(deviation) < _UNIFORM_LEVELS))

    def wipe(self) -> None:
        """Zeroes the pixels."""
        self.colour.fill(0)
        self.grey.fill(0)


@final
@dataclass(eq=False)
class Link:
    """How one frame ("here") relates to its neighbour in time ("there"); both of one shot.

    Attributes:
        here, there: the two small pictures; a link does not own them.
        flow: (h, w, 2) float32 (float16 in one `without_pixels`), at each pixel of `here` the
            (dx, dy) to its place in `there`.
        camera: 2x3 float32 similarity from `here` to `there` coordinates; None = camera at rest.
        noise: median grey-level difference after removing the camera's motion.
    """

    here: Small
    there: Small
    flow: NDArray[np.float32]
    camera: NDArray[np.float32] | None
    noise: float
    _grid: tuple[NDArray[np.float32], NDArray[np.float32]] = field(repr=False)

    @cached_property
    def _maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._grid[0] + self.flow[..., 0], self._grid[1] + self.flow[..., 1]

    @cached_property
    def speed(self) -> NDArray[np.float32]:
        """(h, w) float32 length of the flow in pixels a frame."""
        return np.asarray(cv2.magnitude(self.flow[..., 0], self.flow[..., 1]), np.float32)

    @cached_property
    def farthest(self) -> int:
        """Pixels that nothing moves beyond."""
        return int(np.ceil(float(np.abs(self.flow).max()))) if self.flow.size else 0

    def carry(self, mask: Mask, rows: slice = _ALL, columns: slice = _ALL) -> Mask:
        """Returns `mask` (any uint8 values) of "there" as it lies "here"; outside comes 0.

        Only the given rows and columns of the result are computed and returned.
        """
        x, y = self._maps
        carried = cv2.remap(
            mask,
            x[rows, columns],
            y[rows, columns],
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=0,
        )
        return np.asarray(carried, np.uint8)

    def without_pixels(self) -> Link:
        """Returns a link that can only carry: it holds the flow, in half the memory, no picture."""
        nothing = Small(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), True)
        # Whatever reads the flow takes either width; float32 is what all other links have.
        half = cast("NDArray[np.float32]", self.flow.astype(np.float16))
        return Link(nothing, nothing, half, None, self.noise, self._grid)

    def compensate(self, picture: NDArray[np.uint8], *, outside: int | None) -> NDArray[np.uint8]:
        """Returns a picture or mask of "there" moved by the camera's motion only.

        `outside` is the value of what was not in the picture; None repeats the border.
        """
        if self.camera is None:
            return picture
        height, width = picture.shape[:2]
        moved = cv2.warpAffine(
            picture,
            self.camera,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT,
            borderValue=outside or 0,
        )
        return np.asarray(moved, np.uint8)

    def forget(self) -> None:
        """Drops what was computed from the flow (1 MB a link); it comes again when asked for."""
        for name in ("_maps", "speed", "moved", "consistent"):
            self.__dict__.pop(name, None)

    @cached_property
    def level(self) -> float:
        """Grey levels from which a difference is no longer noise."""
        by_light = _MOVED_SHARE * float(self.here.grey.mean()) + 4
        floor = min(_MOVED_LEVELS, max(_MOVED_LEVELS_DARK, by_light))
        return max(floor, 4 * self.noise + 6)

    @cached_property
    def moved(self) -> Mask:
        """1 where the picture changed by more than the camera's motion and noise explain."""
        there = self.compensate(self.there.colour, outside=None)
        return np.asarray(_differs(self.here.colour, there) > self.level * _SAME_SHARE, np.uint8)

    @cached_property
    def _carried(self) -> NDArray[np.uint8]:
        carried = cv2.remap(
            self.there.colour, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(carried, np.uint8)

    @property
    def likeness(self) -> float:
        """Correlation (-1..1) of the picture with what flow carries here, whatever the light."""
        here, carried = self.here.colour[..., 1], self._carried[..., 1]
        result = cv2.matchTemplate(here, carried, cv2.TM_CCOEFF_NORMED)
        return float(result[0, 0])

    @cached_property
    def consistent(self) -> Mask:
        """1 where carrying by flow reproduces the picture and the flow is short enough to trust."""
        differs = cv2.blur(_differs(self.here.colour, self._carried), (3, 3))
        same = (differs < self.level * _SAME_SHARE) & (self.speed < _TRACKABLE_PX)
        return np.asarray(same, np.uint8)

    def matches(self, background: NDArray[np.uint8]) -> Mask:
        """1 where "here" shows the same as `background`, a picture like `Small.colour`."""
        differs = cv2.blur(_differs(self.here.colour, background), (3, 3))
        return np.asarray(differs < self.level * 0.5, np.uint8)


def _differs(picture: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Largest channel difference, tolerant to one pixel of displacement."""
    above = cv2.subtract(picture, cv2.dilate(other, _CELL))
    below = cv2.subtract(cv2.erode(other, _CELL), picture)
    blue, green, red = cv2.split(cv2.max(above, below))
    return np.asarray(cv2.max(cv2.max(blue, green), red), np.uint8)


def _median(levels: NDArray[np.uint8]) -> float:
    """What `numpy.median` returns, by counting: a quarter of its time."""
    below = np.cumsum(np.bincount(levels.ravel(), minlength=256))
    middle = levels.size // 2
    upper = int(np.searchsorted(below, middle, side="right"))
    if levels.size % 2:
        return float(upper)
    return (int(np.searchsorted(below, middle - 1, side="right")) + upper) / 2


@final
class Analyser:
    """Measures links between consecutive frames and finds cuts; keeps one frame's small copies.

    Not thread-safe: one thread feeds it, in order.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._previous: Small | None = None
        self._thumbnail: NDArray[np.float32] | None = None
        self._recent: deque[float] = deque(maxlen=8)
        self._grid: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def restart(self) -> None:
        """Forgets the previous frame: the next one starts a shot."""
        self._previous = None
        self._recent.clear()

    def feed(self, small: Small) -> tuple[Link, Link] | None:
        """Takes the next frame; returns (new to previous, previous to new), or None at a cut.

        None means that nothing known about earlier frames holds for this one: it is the first, or
        a cut lies between.
        """
        back = self.feed_back(small)
        return None if back is None else (back, self.reverse(back))

    def reverse(self, link: Link) -> Link:
        """Returns the link the other way round; costs another dense flow."""
        inverse = None
        if link.camera is not None:
            inverse = np.asarray(cv2.invertAffineTransform(link.camera), np.float32)
        forward = self._dense(link.there.grey, link.here.grey)
        assert self._grid is not None  # set by the feed that made `link`
        return Link(link.there, link.here, forward, inverse, link.noise, self._grid)

    def feed_back(self, small: Small) -> Link | None:
        """Takes the next frame; returns the link from it to the previous one, or None at a cut."""
        previous, self._previous = self._previous, small
        thumbnail = np.asarray(
            cv2.resize(small.colour, (32, 18), interpolation=cv2.INTER_AREA), np.float32
        )
        before, self._thumbnail = self._thumbnail, thumbnail
        if previous is None or before is None or previous.grey.shape != small.grey.shape:
            self._recent.clear()
            return None
        if self._grid is None or self._grid[0].shape != small.grey.shape:
            rows, columns = np.mgrid[0 : small.grey.shape[0], 0 : small.grey.shape[1]]
            self._grid = columns.astype(np.float32), rows.astype(np.float32)
        backward = self._dense(small.grey, previous.grey)
        camera, noise = self._camera(backward, small, previous)
        new_to_old = Link(small, previous, backward, camera, noise, self._grid)
        jump = float(np.abs(thumbnail - before).mean())
        usual = float(np.median(self._recent)) if self._recent else 0.0
        self._recent.append(jump)
        if jump > _CUT_LEVELS and jump > 2.5 * usual + 4:
            residual = float(1 - new_to_old.consistent.mean())
            unlike = residual > _CUT_RESIDUAL or new_to_old.likeness < _CUT_LIKENESS
            if unlike or jump > _CUT_SURE_LEVELS:
                self._recent.clear()
                return None
        return new_to_old

    def _dense(self, here: NDArray[np.uint8], there: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = here.shape
        if min(height, width) < 16:  # DIS matches 8x8 patches over a pyramid
            return np.zeros((height, width, 2), np.float32)
        zero = np.zeros((height, width, 2), np.float32)
        return np.asarray(self._flow.calc(here, there, zero), np.float32)

    def _camera(
        self, flow: NDArray[np.float32], here: Small, there: Small
    ) -> tuple[NDArray[np.float32] | None, float]:
        """Fits a similarity to the flow; keeps it where it explains more than standing still."""
        assert self._grid is not None  # set by feed()
        # The green channel of the blurred copies: noise is judged as `moved` will see it.
        now, then = here.colour[..., 1], there.colour[..., 1]
        still = cv2.absdiff(now, then)
        step = max(4, here.grey.shape[1] // 32)
        source = np.stack([axis[::step, ::step].ravel() for axis in self._grid], axis=1)
        target = source + flow[::step, ::step].reshape(-1, 2)
        if len(source) < 8:
            return None, _median(np.asarray(still, np.uint8))
        # RANSAC draws from OpenCV's global generator: seed it, equal input must give equal output.
        cv2.setRNGSeed(1)
        fitted, inliers = cv2.estimateAffinePartial2D(
            source, target, method=cv2.RANSAC, ransacReprojThreshold=0.7, maxIters=100
        )
        # No fit is None at run time, whatever the type stubs say: its size is then 1.
        if np.size(fitted) == 6 and float(np.asarray(inliers).mean()) > 0.5:
            camera = np.asarray(fitted, np.float32)
            zoom = float(np.hypot(camera[0, 0], camera[0, 1]))
            rest = camera - np.asarray([[1, 0, 0], [0, 1, 0]], np.float32)
            at_rest = np.abs(rest[:, :2]).max() < 0.02 and np.abs(rest[:, 2]).max() < 0.15
            if abs(zoom - 1) < 0.2 and not at_rest:
                moved = cv2.warpAffine(
                    then,
                    camera,
                    (now.shape[1], now.shape[0]),
                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_REPLICATE,
                )
                after = cv2.absdiff(now, np.asarray(moved, np.uint8))
                if float(after.mean()) <= float(still.mean()):
                    return camera, _median(np.asarray(after, np.uint8))
        return None, _median(np.asarray(still, np.uint8))
