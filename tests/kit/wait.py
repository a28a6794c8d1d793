"""Waiting for what another thread, process or server does: until it is so, never for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

PATIENCE_S: Final = 120.0
"""How long a test waits before it says that something does not come. Chosen: many times what any of
it takes, so that no busy machine fails a test, and a fraction of what a whole run takes."""

PAUSE_S: Final = 0.02
"""Time between two looks. Chosen: half a frame of a camera, and as good as no load."""

Found = TypeVar("Found")


def wait_until(
    condition: Callable[[], Found | None],
    patience_s: float = PATIENCE_S,
    *,
    meanwhile: Callable[[], object] | None = None,
    tell: Callable[[], object] | None = None,
) -> Found:
    """Asks again and again until something is so; fails the test if it never is.

    Args:
        condition: asked in this thread; what it raises ends the wait.
        patience_s: how long it may take.
        meanwhile: what has to go on, done in this thread before each further look.
        tell: asked, when it was in vain, what else the failure is to say.

    Returns:
        The first answer of `condition` that is true.
    """
    give_up_s = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < give_up_s, _in_vain(patience_s, tell)
        if meanwhile is not None:
            meanwhile()
        time.sleep(PAUSE_S)
    return found


async def wait_until_async(
    condition: Callable[[], Found | None], patience_s: float = PATIENCE_S
) -> Found:
    """Does the same, while the other tasks of this event loop go on."""
    give_up_s = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < give_up_s, _in_vain(patience_s, None)
        await asyncio.sleep(PAUSE_S)
    return found


def _in_vain(patience_s: float, tell: Callable[[], object] | None) -> str:
    return f"waited {patience_s:g} s in vain" + (f"; {tell()}" if tell is not None else "")
