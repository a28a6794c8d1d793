"""What moved from one frame to the next that the camera's own motion does not explain, and cuts.

Motion is a reason to look, never to cover: what this file finds orders looks for people. All is
measured on a small grey copy (`SMALL_WIDTH` pixels wide).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from .heads import Rect

__all__ = ["Motion", "MotionFinder", "SmallGrey"]

SMALL_WIDTH: Final = 320
"""Of the copy on which motion is measured; a person of 50 pixels in 1280 has 12 in it."""
FEATURES: Final = 120
FEATURE_QUALITY: Final = 0.01
FEATURE_SPACING_PX: Final = 8
FEWEST_MATCHES: Final = 8
RANSAC_PX: Final = 2.0
"""Shi and Tomasi's corners followed by Lucas and Kanade's method, a similarity by RANSAC (OpenCV's
`goodFeaturesToTrack`, `calcOpticalFlowPyrLK`, `estimateAffinePartial2D`); the numbers are those of
the experiment in `docs/architecture.md` and are not critical: a camera motion that is missed orders
looks, a wrong one too."""
CAMERA_SHARE: Final = 0.03
"""Share of the picture that must have changed before the camera's motion is asked for: at rest, the
people in it change less, and the answer would be rest. Chosen: more than a person moves from one
frame to the next."""
MOVED_LEVELS: Final = 14.0
MOVED_LEVELS_DARK: Final = 6.0
MOVED_SHARE_OF_LIGHT: Final = 0.15
"""A pixel moved when it changed by more than this share of the mean level (above 4), within the two
limits: contrast shrinks with the light (`docs/architecture.md`: found on clips and dark scenes)."""
LEAST_MOVED_PX: Final = 60
"""Small pixels, outside everything known, from which motion orders a look: a head of 8 by 8.
Source: research notes, "every frame"."""
ASKED_PX: Final = 400
"""Small pixels that moved, from which it is asked whether they are sharp: a body of 45 by 9.
Chosen."""
EDGE_REACH: Final = 6
EDGE_LEVELS: Final = 8
SHARP: Final = 0.4
"""An edge is sharp where it takes this share of the contrast that lies within so many pixels of it,
over two pixels. A sharp one takes .7 (the copy is blurred with sigma 1), one that is smeared over 6
pixels, 24 of a frame of 1280, a third. Chosen between the two."""
THUMBNAIL_WH: Final = (64, 36)
CUT_LIKENESS: Final = 0.5
"""Correlation of two thumbnails below which they may be of two shots: at most .22 was measured
across cuts, at least .79 under a flash of light."""
CUT_LEAST_LEVELS: Final = 4.0
CUT_OVER_USUAL: Final = 2.0
"""A change counts as a cut when it is so many times the usual one of the last frames: a camera that
is swung changes much at each frame. Chosen: the first is above a camera's noise, the second below a
cut into a scene as lively."""
UNIFORM_LEVELS: Final = 2.0
"""Standard deviation below which a picture shows next to nothing (P2): a fade to black. Chosen."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class SmallGrey:
    """The small copy of one frame, raw pixels: `wipe()` it when done.

    Attributes:
        grey: (h, w) uint8, blurred with sigma 1 (noise is not motion).
        scale: small pixels in a pixel of the frame.
        uniform: True where the picture shows next to nothing.
    """

    grey: NDArray[np.uint8]
    scale: float
    uniform: bool

    @classmethod
    def of(cls, bgr: NDArray[np.uint8], longest: int | None = None) -> SmallGrey:
        """Returns the copy of `bgr`, an (H, W, 3) uint8 picture.

        `longest`: the longer side of the frame, where `bgr` is a smaller copy of it.
        """
        height, width = bgr.shape[:2]
        scale = min(1.0, SMALL_WIDTH / max(height, width))
        size_wh = max(1, round(width * scale)), max(1, round(height * scale))
        small = np.asarray(cv2.resize(bgr, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        deviation = cv2.meanStdDev(small)[1]
        grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        small.fill(0)
        blurred = np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.0), np.uint8)
        grey.fill(0)
        scale *= max(height, width) / (longest or max(height, width))
        return cls(blurred, scale, bool(np.max(deviation) < UNIFORM_LEVELS))

    def wipe(self) -> None:
        """Zeroes the pixels."""
        self.grey.fill(0)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """How a frame differs from the one before; no picture is in it.

    Attributes:
        cut: True where nothing known before holds.
        camera: (2, 3) float32 similarity from the frame before to this one, in pixels of the
            frame; None is rest.
        moved: (h, w) uint8, 1 where the small picture changed by more than the camera explains.
        scale: small pixels in a pixel of the frame.
        edges: (h, w) uint8, bit 0 where the small picture is sharp from left to right, bit 1 from
            top to bottom; None where too little moved to ask.
    """

    cut: bool
    camera: NDArray[np.float32] | None
    moved: NDArray[np.uint8]
    scale: float
    edges: NDArray[np.uint8] | None = None

    def unexplained(self, known: Iterable[Rect]) -> list[Rect]:
        """Returns boxes, in pixels of the frame, around what moved outside all of `known`.

        Specks are no motion; what is smaller than `LEAST_MOVED_PX` together is none either.
        """
        left = self.moved.copy()
        height, width = left.shape
        for box in known:
            top, bottom = int(box.y1 * self.scale), ceil(box.y2 * self.scale)
            first, last = int(box.x1 * self.scale), ceil(box.x2 * self.scale)
            if bottom > 0 and last > 0 and top < height and first < width:
                left[max(0, top) : bottom, max(0, first) : last] = 0
        # Only around what is left, which in most pictures is little.
        x0, y0, w, h = cv2.boundingRect(left)
        x0, x1 = max(0, x0 - _AROUND), min(width, x0 + w + _AROUND)
        y0, y1 = max(0, y0 - _AROUND), min(height, y0 + h + _AROUND)
        if not w:
            return []
        left = np.asarray(cv2.morphologyEx(left[y0:y1, x0:x1], cv2.MORPH_OPEN, _CELL), np.uint8)
        if cv2.countNonZero(left) < LEAST_MOVED_PX:
            return []
        near = cv2.dilate(left, _NEAR)
        # Outlines are several times as fast as labels for all pixels. Those of holes have a parent.
        outlines, parents = cv2.findContours(
            near, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x0, y0)
        )
        boxes = [
            tuple(cv2.boundingRect(outline))
            for outline, parent in zip(outlines, parents[0, :, 3].tolist(), strict=True)
            if parent < 0
        ]
        return [
            Rect(x / self.scale, y / self.scale, (x + w) / self.scale, (y + h) / self.scale)
            for x, y, w, h in sorted(boxes)
        ]

    def share(self, box: Rect) -> float:
        """Returns the share (0..1) of `box` that moved."""
        height, width = self.moved.shape
        bottom, right = int(box.y2 * self.scale) + 1, int(box.x2 * self.scale) + 1
        rows = slice(max(0, int(box.y1 * self.scale)), max(0, min(height, bottom)))
        columns = slice(max(0, int(box.x1 * self.scale)), max(0, min(width, right)))
        inside = self.moved[rows, columns]
        return float(np.count_nonzero(inside)) / inside.size if inside.size else 0.0


_CELL: Final = np.ones((3, 3), np.uint8)
"""For an opening: single pixels are noise. Source: research notes, "every frame"."""
_NEAR: Final = np.ones((9, 9), np.uint8)
_AROUND: Final = 6
"""Small pixels: more than either of them reaches. Chosen, like the square that closes what moved:
parts of one body lie so near each other."""


@final
class MotionFinder:
    """Compares each frame with the one before; keeps that one's small copy. One thread feeds it.

    Args:
        features: corners that are followed to measure the camera's motion.
    """

    def __init__(self, features: int = FEATURES) -> None:
        self._features = features
        self._before: SmallGrey | None = None
        self._thumbnail: NDArray[np.float32] | None = None
        self._usual: deque[float] = deque(maxlen=8)

    def restart(self) -> None:
        """Forgets the frame before: the next one starts a shot."""
        self._before = None
        self._usual.clear()

    def feed(self, small: SmallGrey) -> Motion:
        """Takes the next frame, whose copy must stay until the one after it was fed."""
        before, self._before = self._before, small
        thumbnail = np.asarray(
            cv2.resize(small.grey, THUMBNAIL_WH, interpolation=cv2.INTER_AREA), np.float32
        )
        then, self._thumbnail = self._thumbnail, thumbnail
        if before is None or then is None or before.grey.shape != small.grey.shape:
            self._usual.clear()
            return Motion(True, None, np.zeros_like(small.grey), small.scale)
        limit = _limit(small.grey)
        moved = _differs(small.grey, before.grey, limit)
        camera = None
        if float(moved.mean()) > CAMERA_SHARE:
            camera = _camera(before.grey, small.grey, self._features)
        jump = float(np.abs(thumbnail - then).mean())
        usual = median(self._usual) if self._usual else 0.0
        self._usual.append(jump)
        if camera is not None:
            carried = _carried(before.grey, camera)
            moved = _differs(small.grey, carried, limit)
            then = np.asarray(
                cv2.resize(carried, THUMBNAIL_WH, interpolation=cv2.INTER_AREA), np.float32
            )
        cut = False
        if jump > CUT_LEAST_LEVELS and jump > CUT_OVER_USUAL * usual:
            likeness = cv2.matchTemplate(thumbnail, then, cv2.TM_CCOEFF_NORMED)
            cut = float(likeness[0, 0]) < CUT_LIKENESS
        if cut:
            self._usual.clear()
            return Motion(True, None, np.zeros_like(small.grey), small.scale)
        if camera is not None:
            camera = camera.copy()
            camera[:, 2] /= small.scale
        much = int(np.count_nonzero(moved)) >= ASKED_PX
        return Motion(False, camera, moved, small.scale, _edges(small.grey) if much else None)


def _edges(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns bit 0 where levels jump from left to right, bit 1 from top to bottom."""
    size = 2 * EDGE_REACH + 1
    edges = np.zeros_like(grey)
    for bit, (dx, dy) in enumerate(((1, 0), (0, 1))):
        window = np.ones((1, size) if dx else (size, 1), np.uint8)
        contrast = cv2.subtract(cv2.dilate(grey, window), cv2.erode(grey, window))
        # Two pixels' change: the kernel is (-1, 0, 1), smoothed across by (1, 2, 1) / 4.
        slope = cv2.convertScaleAbs(cv2.Sobel(grey, cv2.CV_16S, dx, dy, ksize=3, scale=0.25))
        sharp = (slope > SHARP * contrast) & (contrast >= EDGE_LEVELS)
        edges |= sharp.astype(np.uint8) << np.uint8(bit)
    return edges


def _limit(grey: NDArray[np.uint8]) -> float:
    """Returns the change in levels from which a pixel moved."""
    by_light = MOVED_SHARE_OF_LIGHT * float(grey.mean()) + 4
    return min(MOVED_LEVELS, max(MOVED_LEVELS_DARK, by_light))


def _differs(here: NDArray[np.uint8], there: NDArray[np.uint8], limit: float) -> NDArray[np.uint8]:
    """Returns 1 where the pictures differ, tolerant to one pixel of displacement."""
    above = cv2.subtract(here, cv2.dilate(there, _CELL))
    below = cv2.subtract(cv2.erode(there, _CELL), here)
    return np.asarray(cv2.max(above, below) > limit, np.uint8)


def _camera(
    before: NDArray[np.uint8], now: NDArray[np.uint8], features: int
) -> NDArray[np.float32] | None:
    """Returns the similarity that most corners follow, None where there is none."""
    corners = cv2.goodFeaturesToTrack(before, features, FEATURE_QUALITY, FEATURE_SPACING_PX)
    if np.size(corners) < 2 * FEWEST_MATCHES:  # None at run time, where there is no corner
        return None
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        before, now, corners, np.zeros_like(corners), winSize=(15, 15), maxLevel=3
    )
    good = status.ravel() == 1
    if int(good.sum()) < FEWEST_MATCHES:
        return None
    # RANSAC draws from OpenCV's generator: seeded, equal input gives equal output.
    cv2.setRNGSeed(1)
    fitted, inliers = cv2.estimateAffinePartial2D(
        corners[good], found[good], method=cv2.RANSAC, ransacReprojThreshold=RANSAC_PX
    )
    # No fit is None at run time, whatever the type stubs say: its size is then 1.
    if np.size(fitted) != 6 or float(np.asarray(inliers).mean()) < 0.5:
        return None
    return np.asarray(fitted, np.float32)


def _carried(grey: NDArray[np.uint8], camera: NDArray[np.float32]) -> NDArray[np.uint8]:
    size_wh = grey.shape[1], grey.shape[0]
    moved = cv2.warpAffine(
        grey, camera, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.uint8)
