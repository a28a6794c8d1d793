"""What a run over a file is given beside looks, and what it says in the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, final

from ...core.plan import CoverState
from ...core.raw import RawFrame
from ...core.safe import SafeAudio, SafeFrame

__all__ = ["Composer", "Outcome", "Sound"]


class Composer(Protocol):
    """The one thing that may turn a raw frame into a safe one."""

    def compose(self, raw: RawFrame, state: CoverState) -> SafeFrame:
        """Returns the composed frame; total."""
        ...


class Sound(Protocol):
    """Gives the sound of what is run over, in step with the pictures."""

    def until(self, moment_s: Fraction | None) -> Iterator[SafeAudio]:
        """Gives what begins before a moment of the output, None: all that is left."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of one run; see `core.records.RunReport`."""

    frames: int
    looks: tuple[tuple[str, int], ...]
    covered_fraction: float
    unknown_frames: int
    shortened_frames: int
    whole_frames: int
    requested_frames: int = 0
    left_alone_frames: int = 0
    tracks: int = 0
    unmet_times: tuple[str, ...] = ()
    """Zones and spans whose time came in no frame."""
