"""What detectors of faces and people have in common: one network, one size, one threshold."""

from __future__ import annotations

from copy import copy
from typing import ClassVar, Final, Self

from .runtime import open_network

__all__ = ["LARGEST_ENLARGEMENT", "Detector"]

LARGEST_ENLARGEMENT: Final = 2.0
"""Small pictures are enlarged at most so much; beyond, nothing new was found in trials."""


class Detector:
    """A network that is opened once; one thread at a time. Keeps nothing of the pictures.

    Args:
        size: long side of the network's input in pixels.
        threshold: smallest confidence that is reported, above 0 and below 1.
        threads: worker threads of the runtime.
        runtime: as in `open_network`.
        enlargement: a small picture is enlarged at most so much.
    """

    network: ClassVar[str]
    """Its name in the manifest."""
    arena: ClassVar[bool] = True
    """See `open_network`."""

    def __init__(
        self,
        *,
        size: int,
        threshold: float,
        threads: int,
        runtime: str | None,
        enlargement: float = LARGEST_ENLARGEMENT,
    ) -> None:
        self._network = open_network(
            self.network, threads=threads, runtime=runtime, arena=self.arena
        )
        self._enlargement = enlargement
        self._size = size
        self._threshold = threshold

    def at(self, size: int) -> Self:
        """Returns a detector of another size that shares this one's network."""
        other = copy(self)
        other._size = size
        return other
