"""Frames made of two fields, to frames of one moment."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import final

import av

from ..core.timing import rescale

__all__ = ["Deinterlacer"]


@final
class Deinterlacer:
    """FFmpeg's bwdif, one frame out for one in; frames not flagged interlaced pass unchanged."""

    def __init__(self, frame: av.VideoFrame, time_base: Fraction) -> None:
        self._shape = (frame.width, frame.height, frame.format.name)
        self._tags = (frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries)
        self._time_base = time_base
        self._jumps: set[int] = set()
        self._graph = av.filter.Graph()
        self._graph.link_nodes(
            self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=time_base
            ),
            self._graph.add("bwdif", "mode=send_frame:deint=interlaced"),
            self._graph.add("buffersink"),
        ).configure()

    def fits(self, frame: av.VideoFrame) -> bool:
        """True where the filter can go on with `frame`."""
        return self._shape == (frame.width, frame.height, frame.format.name)

    def push(
        self, frame: av.VideoFrame | None, jumped: bool = False
    ) -> Iterator[tuple[av.VideoFrame, bool]]:
        """Takes a frame, or None at the end, and gives those that are ready."""
        if frame is not None and jumped and frame.pts is not None:
            self._jumps.add(frame.pts)
        self._graph.push(frame)
        while True:
            try:
                ready = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            base = ready.time_base or self._time_base
            ready.pts = rescale(ready.pts or 0, base, self._time_base)
            ready.duration = rescale(ready.duration, base, self._time_base)
            ready.time_base = self._time_base
            # The graph negotiates tags of its own.
            (ready.colorspace, ready.color_range, ready.color_trc, ready.color_primaries) = (
                self._tags
            )
            yield ready, ready.pts in self._jumps
