"""A moving test picture without people, for demonstrations and long runs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Final, final

import cv2
import numpy as np
from numpy.typing import NDArray

from .base import Captured, SourceInfo
from .convert import fit_bgr
from .live import LIVE_TIME_BASE, LiveSource, Pace
from .options import SyntheticOptions

__all__ = ["SyntheticSource"]

_SEED: Final = 7
"""Of the background's texture. Any fixed number will do."""
_DRIFT_PX: Final = 2
"""The background's way from one frame to the next. Chosen: slow enough to be followed."""


@final
class SyntheticSource(LiveSource):
    """Shows a drifting texture, three moving shapes and a running number, in real time.

    The same number always comes with the same picture. As with a camera, whoever asks late gets
    the picture of now: the numbers in between are left out.

    Args:
        options: size, rate and length.
        first_frame_id, size_wh: see `LiveSource`.
    """

    def __init__(
        self,
        options: SyntheticOptions | None = None,
        *,
        first_frame_id: int = 0,
        size_wh: tuple[int, int] | None = None,
    ) -> None:
        super().__init__("the test picture", first_frame_id=first_frame_id, size_wh=size_wh)
        options = self._options = options or SyntheticOptions()
        self._size_wh = self._canvas_wh or (options.width, options.height)
        self._background = _texture(options.width, options.height)
        count = None if options.seconds is None else math.ceil(options.seconds * options.fps)
        self._count = count
        self._info = SourceInfo(
            size_wh=self._size_wh,
            time_base=LIVE_TIME_BASE,
            sample_aspect_ratio=Fraction(1),
            average_rate=Fraction(options.fps),
            duration_s=options.seconds,
            frame_count=count,
            colorspace=0,
        )

    @property
    def info(self) -> SourceInfo:
        """Everything is known from the start."""
        return self._info

    def _shut(self) -> None:
        pass

    def _capture(self) -> Iterator[Captured]:
        self._check_open()
        options, pace = self._options, Pace(self._closed)
        own_wh = options.width, options.height
        number, start_s = 0, time.monotonic()
        while self._count is None or number < self._count:
            pace.wait(number / options.fps)
            if self._closed.is_set():
                return
            now_ns = time.monotonic_ns()
            if self._size_wh == own_wh:
                yield self._captured(lambda out, n=number: self._draw(n, out), own_wh, now_ns)  # type: ignore[misc]
            else:
                picture = np.empty((options.height, options.width, 3), np.uint8)
                self._draw(number, picture)
                yield self._captured(
                    lambda out, picture=picture: fit_bgr(picture, out),  # type: ignore[misc]
                    self._size_wh,
                    now_ns,
                )
            number = max(number + 1, math.floor((time.monotonic() - start_s) * options.fps))

    def _draw(self, number: int, out: NDArray[np.uint8]) -> None:
        """Writes the picture of this number into `out`, (H, W, 3)."""
        height, width = out.shape[:2]
        seam = number * _DRIFT_PX % width
        out[:, : width - seam] = self._background[:, seam:]
        out[:, width - seam :] = self._background[:, :seam]
        time_s = number / self._options.fps
        side = max(8, height // 10)
        for shape, (colour, speed) in enumerate(_SHAPES):
            angle = speed * time_s + 2 * shape
            x = round(width / 2 + (width / 2 - 2 * side) * math.sin(angle))
            y = round(height / 2 + (height / 2 - 2 * side) * math.cos(1.3 * angle))
            if shape == 0:
                cv2.circle(out, (x, y), side, colour, -1)
            elif shape == 1:
                cv2.rectangle(out, (x - side, y - side), (x + side, y + side), colour, -1)
            else:
                corners = np.array([(x, y - side), (x - side, y + side), (x + side, y + side)])
                cv2.fillConvexPoly(out, corners, colour)
        clock = f"{int(time_s) // 60:02}:{time_s % 60:05.2f}  {number}"
        scale = height / 480
        x, y, shadow = round(12 * scale), height - round(16 * scale), max(1, round(2 * scale))
        for place, colour in (((x + shadow, y + shadow), (0, 0, 0)), ((x, y), (255, 255, 255))):
            cv2.putText(out, clock, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, shadow)


_SHAPES: Final = (((60, 160, 230), 0.7), ((200, 120, 50), 0.5), ((90, 190, 90), 0.9))
"""BGR, and how fast it goes, in radians a second. Chosen to be told apart."""


def _texture(width: int, height: int) -> NDArray[np.uint8]:
    """Returns a (height, width, 3) cloudy picture that continues over its left and right edge."""
    random = np.random.default_rng(_SEED)
    total = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((4, 60.0), (16, 30.0), (64, 20.0)):
        coarse = random.random((cells, cells, 3), dtype=np.float32)
        wrapped = np.concatenate([coarse, coarse, coarse], axis=1)
        layer = cv2.resize(wrapped, (3 * width, height), interpolation=cv2.INTER_CUBIC)
        total += weight * layer[:, width : 2 * width]
    return np.clip(total + 70, 0, 255).astype(np.uint8)
