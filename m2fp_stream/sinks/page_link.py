"""The way from the media process to the page's server: composed JPEG pictures and small messages.

Two inherited descriptors carry it: a memory with slots for JPEG data (`processes.memory`), and a
channel (`processes.channel`) of these messages:

    media to server
      hello     size_wh, hide (preset, or names of labels), floor, level, effect, stored, delay_s,
                fill (the effect of whole people), keep_zones (whether people are left alone)
      card      number: the card lies in its slot
      frame     slot, number, sent_ns, captured_ns, level, why, requested and effect: what was asked
                for before it was composed; mirrored: whether left and right are swapped in it
      facts     facts: what `LiveRun.facts` returns
    server to media
      greet     asks for `hello` and `card`
      privacy   level (parts, person or frame), effect (configured or silhouette)
      watching  count: how many clients get pictures; for none, none are made; mirror: whether
                all of them want left and right swapped; boxes: which (width, height) in pixels
                they fill with the picture's middle, or null where one did not say

Nothing here waits: a message that does not fit is dropped. Times are of CLOCK_MONOTONIC, in
nanoseconds.
"""

from __future__ import annotations

from typing import Final, final

from ..processes import memory
from ..processes.memory import Slots, map_memory

__all__ = ["SLOT_BYTES", "PageMemory", "make_memory"]

SLOT_BYTES: Final = 4 << 20
"""Largest JPEG; one of 1280x1280 pixels of noise at quality 90 is about 2 MB. Chosen: twice
that."""

_TOTAL_BYTES: Final = Slots.total_bytes(SLOT_BYTES)


def make_memory() -> int:
    """Returns the descriptor of an empty memory; whoever gets it closes it.

    Raises:
        OSError: the system gives none.
    """
    return memory.make_memory(_TOTAL_BYTES)


@final
class PageMemory(Slots):
    """The pictures' slots; one process writes, others read.

    Args:
        descriptor: of `make_memory`; it stays the caller's.
        writable: whether this process may write.

    Raises:
        OSError, ValueError: it cannot be mapped.
    """

    def __init__(self, descriptor: int, *, writable: bool) -> None:
        super().__init__(map_memory(descriptor, _TOTAL_BYTES, writable=writable), SLOT_BYTES)
