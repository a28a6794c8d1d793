"""Reads a source, measures motion and orders the look for faces at every frame."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from ...core.plan import Why
from ...core.raw import RawFrame
from ...core.records import LookKind, ParseResult
from ...core.timing import seconds
from ...sources.base import Source
from ...tracking.motion import Motion, MotionFinder, SmallGrey
from ..copies import face_size, look_copy
from ..looks import LookPool, Seen
from ..solver.records import Reach

__all__ = ["Item", "Reader"]

_log = logging.getLogger(__name__)


@final
@dataclass(slots=True, eq=False)
class Item:
    """One frame on its way through a run.

    Attributes:
        frame: raw; whoever holds the item releases it.
        time_s: its time.
        motion: against the frame before.
        faces: the look for faces, None where the frame cannot be looked at.
        faces_wh: (width, height) of the copy that was looked at.
        people: the look for people, where one was made.
        people_wh: the same of that copy.
        reach: of that look.
        turned: looks at turned copies: quarters, for faces, for people.
        fine: the look of a second parser, where one was made.
        digest: of the small copy, to know the frame again.
        age_s: seconds since the last look for people that succeeded (P3).
        unknown: why nothing is known about it, where that is so.
    """

    frame: RawFrame
    time_s: float
    motion: Motion
    faces: Future[Seen] | None = None
    faces_wh: tuple[int, int] = (1, 1)
    people: Future[Seen] | None = None
    people_wh: tuple[int, int] = (1, 1)
    reach: Reach = Reach.MIDDLE
    turned: list[tuple[int, Future[Seen], Future[Seen]]] = field(default_factory=list[Any])
    fine: Future[ParseResult] | None = None
    digest: int = 0
    age_s: float = 0.0
    unknown: Why | None = None

    @property
    def number(self) -> int:
        """The frame's id."""
        return self.frame.frame_id

    def drop(self) -> None:
        """Lets go of everything."""
        turned = [future for _, *both in self.turned for future in both]
        for future in (self.faces, self.people, self.fine, *turned):
            if future is not None:
                future.cancel()
        if not self.frame.released:
            self.frame.release()


@final
class Reader:
    """Yields the frames of a source as items, in order; one thread.

    Attributes:
        last_duration: ticks the last frame is shown for, where the source says so.
    """

    def __init__(self, source: Source, looks: LookPool, look_side: int) -> None:
        self._source = source
        self._looks = looks
        self._look_side = look_side
        self._finder = MotionFinder()
        self.last_duration: int | None = None

    def items(self) -> Iterator[Item]:
        """Yields every frame; the caller drops each item."""
        before: SmallGrey | None = None
        fresh = True  # the next frame starts a shot whatever it shows
        size_wh = self._source.info.size_wh
        try:
            for captured in self._source.frames():
                self.last_duration = captured.duration
                frame = captured.frame
                if captured.restart or fresh or frame.size_wh != size_wh:
                    self._finder.restart()
                size_wh = frame.size_wh
                small, motion, unknown = self._moved(frame)
                if before is not None:
                    before.wipe()
                before = small
                fresh = unknown is not None
                item = Item(
                    frame,
                    seconds(frame.pts, frame.time_base),
                    motion,
                    unknown=unknown,
                    digest=0 if small is None else zlib.crc32(small.grey.data),
                )
                if unknown is None:
                    self._look_for_faces(item)
                yield item
        finally:
            if before is not None:
                before.wipe()

    def _moved(self, frame: RawFrame) -> tuple[SmallGrey | None, Motion, Why | None]:
        """Returns the small copy, what moved since the frame before, and why that is unknown."""
        small = None
        try:
            with frame.looking() as bgr:
                small = SmallGrey.of(bgr)
            motion = self._finder.feed(small)
        except Exception as error:  # a plain bug must not pass for "nobody"
            _log.warning("frame %d: no motion: %s", frame.frame_id, type(error).__name__)
            self._finder.restart()
            nothing = Motion(True, None, np.zeros((1, 1), np.uint8), 1.0)
            return small, nothing, Why.TRACKING_FAILED
        if small.uniform:
            return small, Motion(True, None, motion.moved, motion.scale), Why.UNIFORM
        return small, motion, None

    def _look_for_faces(self, item: Item) -> None:
        frame = item.frame
        try:
            item.faces_wh = face_size(frame.size_wh, self._look_side)
            copy = look_copy(frame, item.faces_wh)
            item.faces = self._looks.submit(copy, LookKind.FACES, frame_id=frame.frame_id)
        except BaseException:
            item.drop()
            raise
