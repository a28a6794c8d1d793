"""M2FP as a teacher: pictures of every aspect, on few canvases, for each is an export."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.records import ParseResult
from ..parsers.base import Parser
from ..parsers.m2fp.options import M2FPOptions
from ..parsers.m2fp.parser import from_options
from .m2fp import fine_parser

__all__ = ["M2FPTeacher", "Teacher", "on_canvas"]

CANVASES_WH: Final = ((1920, 1080), (1440, 1080), (1080, 1440), (1080, 1920))
"""(width, height). Chosen: what cameras and telephones make; an export of M2FP takes a minute and
270 MB, so not one for each aspect."""


class Teacher(Protocol):
    """Says what is seen in a picture."""

    def look(self, bgr: NDArray[np.uint8]) -> ParseResult:
        """Returns what is in it.

        Raises:
            ParserError: it failed, or its answer is not finite.
        """
        ...

    def close(self) -> None:
        """Releases what it holds."""
        ...


@final
class M2FPTeacher:
    """M2FP in this process.

    Args:
        options: of the parser.
        on_notice: see `app.m2fp.fine_parser`.
    """

    def __init__(self, options: M2FPOptions, on_notice: Callable[[str], None] | None) -> None:
        self._options, self._on_notice = options, on_notice
        self._parsers: dict[tuple[int, int], Parser] = {}

    def look(self, bgr: NDArray[np.uint8]) -> ParseResult:
        """See `Teacher`; `bgr` has the size of a canvas (`on_canvas`)."""
        size_wh = bgr.shape[1], bgr.shape[0]
        if size_wh not in self._parsers:
            chosen = fine_parser(self._options, size_wh, on_notice=self._on_notice)
            self._parsers[size_wh] = from_options(**chosen)  # type: ignore[arg-type]  # JSON
        return self._parsers[size_wh].parse(bgr)

    def close(self) -> None:
        """See `Teacher`."""
        for parser in self._parsers.values():
            parser.close()
        self._parsers.clear()


@contextmanager
def on_canvas(bgr: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Lends a copy of a picture on the canvas that it fills best, black beside it; zeroed after."""
    height, width = bgr.shape[:2]
    filled = [min(w / width, h / height) ** 2 * width * height / (w * h) for w, h in CANVASES_WH]
    across, along = CANVASES_WH[int(np.argmax(filled))]
    scale = min(across / width, along / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = np.zeros((along, across, 3), np.uint8)
    shrinks = scale < 1
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    try:
        part = canvas[: min(along, size[1]), : min(across, size[0])]
        small = cv2.resize(bgr, (part.shape[1], part.shape[0]), interpolation=kind)
        part[:] = small
        small.fill(0)
        yield canvas
    finally:
        canvas.fill(0)
