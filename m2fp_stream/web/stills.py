"""Whoever opens pictures that are sent in: what is handed over, and what comes back.

No framework is needed for it: the process that opens them knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, final

__all__ = ["BadUpload", "Busy", "CoveredStill", "ParsedStill", "Still"]


class BadUpload(Exception):  # noqa: N818  # the client's fault, not an error of ours
    """An upload is no picture that can be read; the text is a sentence for whoever sent it."""


class Busy(Exception):  # noqa: N818  # a state, not an error
    """No more pictures can be taken now, or this one took too long."""


@final
@dataclass(frozen=True, slots=True)
class ParsedStill:
    """The parts of people in one picture.

    Attributes:
        png: indexed or with a palette, at the picture's size.
        areas: pixels by name of part.
        size_wh: (width, height) of the picture.
    """

    png: bytes
    areas: Mapping[str, int]
    size_wh: tuple[int, int]


@final
@dataclass(frozen=True, slots=True)
class CoveredStill:
    """One composed picture.

    Attributes:
        data: the encoded picture.
        media_type: ``image/jpeg`` or ``image/png``.
    """

    data: bytes
    media_type: str


class Still(Protocol):
    """Whoever opens uploads: never this process."""

    async def parse(self, upload: bytes, *, palette: bool) -> ParsedStill:
        """Parses one picture.

        Raises:
            BadUpload: it cannot be read.
            Busy: not now.
        """
        ...

    async def anonymize(self, upload: bytes) -> CoveredStill:
        """Covers the people in one picture.

        Raises:
            BadUpload: it cannot be read.
            Busy: not now.
        """
        ...
