"""Those who watch: what each has taken, what each said, and how many there may be."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from typing import Final, final

from .frames import Frame

__all__ = ["CLIENT_MESSAGE", "Full", "Viewer"]

CLIENT_MESSAGE: Final = re.compile(
    rb"awake|size [1-9][0-9]{0,3}x[1-9][0-9]{0,3}|time [0-9]{1,15}|got [0-9]{1,10}"
)
"""All that is listened to of what a page says: that somebody touched it; the box that it fills with
the picture, in pixels, which says too that it knows mirrored pictures; a question for the time; the
sequence of the last picture that it took."""

_UNDER_WAY: Final = 12
"""Pictures that may be on their way to a page that says which it took: 0.4 s at 30 a second. Fewer
(4) made each later on a busy computer, for a page that has all of them draws the newest."""


class Full(Exception):  # noqa: N818  # it is a state, not an error
    """As many watch as may."""


@final
class Viewer:
    """One client: knows whether there is something new, never holds a picture itself."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self.box_wh: tuple[int, int] | None = None
        """The (width, height) that it fills with the picture, in pixels; None: it did not say, and
        is no page of ours. Such a one gets no mirrored picture."""
        self._question: int | None = None
        self._acknowledges = False
        self._under_way: deque[int] = deque()

    def may_get(self, frame: Frame) -> bool:
        """Whether it knows what to do with a picture, and those before have come, if it says so."""
        if frame.mirrored and self.box_wh is None:
            return False
        return not self._acknowledges or len(self._under_way) < _UNDER_WAY

    def sent(self, sequence: int) -> None:
        """Notes that a picture was sent to it."""
        if self._acknowledges:
            self._under_way.append(sequence)

    def got(self, sequence: int) -> None:
        """Notes that it took a picture, and so had all that were sent before."""
        self._acknowledges = True
        while self._under_way and self._under_way[0] <= sequence:
            self._under_way.popleft()
        self.wake()

    def ask(self, number: int) -> None:
        """Notes that it asked for the time, under a number of its own."""
        self._question = number
        self.wake()

    def take_question(self) -> int | None:
        """Returns the number of a question for the time that is to be answered; only once."""
        number, self._question = self._question, None
        return number

    def wake(self) -> None:
        """Says that a picture came, or that the status changed."""
        self._news.set()

    async def news(self, timeout_s: float) -> None:
        """Waits for something new, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        self._news.clear()
