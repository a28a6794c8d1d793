"""One composed picture on its way to browsers, and the levels of privacy by which it is judged."""

from __future__ import annotations

import base64
import struct
import time
from dataclasses import dataclass
from typing import Final, Literal, final

__all__ = ["HEADER", "LEVELS", "STILL_CARD", "Frame", "Level"]

Level = Literal["parts", "person", "frame"]
"""A privacy level: what is covered at least."""

LEVELS: Final[tuple[Level, ...]] = ("parts", "person", "frame")
"""From what hides least."""

HEADER: Final = struct.Struct("<BBHIdd")
"""Before each JPEG: version, flags, 0, sequence, seconds from capture to the sink's handing it
over, Unix milliseconds of that."""

_VERSION: Final = 1
"""Of this head; `web/page/stream.js` and the MagicMirror module know this one alone."""

_WHOLLY_COVERED: Final = 1
_MIRRORED: Final = 2
"""Bits of `HEADER`'s flags. Ours; whoever reads `_VERSION` knows them."""

STILL_CARD: Final = base64.b64decode(
    b"/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZG"
    b"NywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09P"
    b"T09PT09PT09PT09PT09PT09PT09PT0//wAARCAAJABADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAf/"
    b"xAAUEAEAAAAAAAAAAAAAAAAAAAAA/8QAFAEBAAAAAAAAAAAAAAAAAAAAAP/EABQRAQAAAAAAAAAAAAAAAAAAAAD/"
    b"2gAMAwEAAhEDEQA/AJ+AD//Z"
)
"""Dark grey, 16x9 pixels: what is shown where no card has come."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One composed picture.

    Attributes:
        jpeg: as the sink made it.
        sequence: 1, 2, 3...
        sent_ns, captured_ns: when, by CLOCK_MONOTONIC.
        covered: whether nothing but the card is in it.
        why: the reason, a name of `core.plan.Why` in lower case; None where there is none.
        requested: the level that was requested before it was composed.
        silhouette: whether silhouettes were requested then.
        mirrored: whether left and right are swapped in it.
    """

    jpeg: bytes
    sequence: int
    sent_ns: int
    captured_ns: int
    covered: bool
    why: str | None
    requested: Level
    silhouette: bool
    mirrored: bool

    def message(self, now_ns: int) -> bytes:
        """Returns what a browser gets by WebSocket."""
        handed_ms = time.time() * 1e3 - (now_ns - self.sent_ns) / 1e6
        flags = (_WHOLLY_COVERED if self.covered else 0) | (_MIRRORED if self.mirrored else 0)
        age_s = (self.sent_ns - self.captured_ns) / 1e9
        head = HEADER.pack(_VERSION, flags, 0, self.sequence & 0xFFFFFFFF, age_s, handed_ms)
        return head + self.jpeg
