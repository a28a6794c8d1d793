"""A bounded queue whose end is part of the protocol: no reader or writer can hang for ever."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar, final

__all__ = ["BoundedQueue", "Stopped"]

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818  (a signal between threads, no error)
    """The other side gave up: stop working, clean up, say nothing."""


@final
class BoundedQueue(Generic[T]):
    """Passes items from one thread to another, at most `size` at a time.

    The producer ends with `finish()` (or `fail(error)`, which the consumer gets raised after the
    last item); the consumer may end early with `stop()`, after which `put` raises `Stopped`.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be >= 1, got {size}")
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._stopped = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Waits for room and adds `item`.

        Raises:
            Stopped: the consumer ended; `item` was not added.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._size or self._stopped)
            if self._stopped:
                raise Stopped
            self._items.append(item)
            self._changed.notify_all()

    def wait_below(self, count: int) -> None:
        """Waits until fewer than `count` items wait to be taken.

        Raises:
            Stopped: the consumer ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < count or self._stopped)
            if self._stopped:
                raise Stopped

    def finish(self) -> None:
        """Says that no item follows."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Says that no item follows because of `error`."""
        with self._changed:
            self._error = error
            self._finished = True
            self._changed.notify_all()

    def stop(self) -> list[T]:
        """Ends the consumer's side; returns the items nobody took, for clean-up."""
        with self._changed:
            self._stopped = True
            rest = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return rest

    def __iter__(self) -> Iterator[T]:
        """Yields items until the producer ended; then raises the producer's error, if any."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._finished or self._stopped)
                if self._stopped:
                    return
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
