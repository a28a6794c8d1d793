"""Parsers whose results are reviewed: the embedded one, and the fine one that refines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.records import ParseResult

from .base import Parser
from .m2fp.parser import from_options as m2fp
from .plausibility import review

__all__ = ["ReviewedParser", "fine_from_options"]


class ReviewedParser(Parser):
    """A parser whose results are reviewed: what is not plausible is covered and named.

    Args:
        parser: closed with this one.
    """

    def __init__(self, parser: Parser) -> None:
        self.name, self.labels = parser.name, parser.labels
        self._parser = parser

    def _parse(self, bgr: NDArray[np.uint8], frame_id: int) -> ParseResult:
        return review(self._parser.parse(bgr, frame_id=frame_id))

    def _close(self) -> None:
        self._parser.close()


def fine_from_options(**fine: Any) -> Parser:
    """Makes the fine parser alone, reviewed; what the process that refines a live picture calls.

    Raises:
        pydantic.ValidationError: an option is unknown or out of bounds.
        ModelError: weights are missing or changed.
    """
    return ReviewedParser(m2fp(**fine))
