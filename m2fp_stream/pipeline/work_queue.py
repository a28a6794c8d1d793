"""Questions about pictures that wait until a worker is free to answer them."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from ..core.errors import M2FPStreamError, ModelError

__all__ = ["Answering", "WorkQueue"]

_log = logging.getLogger(__name__)


class Answering(Protocol):
    """Who answers, in a thread of its own."""

    def interrupt(self) -> None:
        """Makes an answer that is under way fail soon; the only method for another thread."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


_Worker = TypeVar("_Worker", bound=Answering)
_Answer = TypeVar("_Answer")

_CLOSED_FIRST: Final = -1
"""Urgency of the end: before whatever waits, the most urgent of which has 0."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Question(Generic[_Worker, _Answer]):
    bgr: NDArray[np.uint8]
    ask: Callable[[_Worker], _Answer]
    what: str
    future: Future[_Answer]


class WorkQueue(Generic[_Worker, _Answer]):
    """Serves questions from one thread a worker, the most urgent first, else in order.

    Every future gets an answer or an exception; `close()` cancels those not begun. A picture is
    zeroed before its question is answered, or where it never will be.

    Args:
        workers: who answers; closed with this.
        attempts: how often is asked before the future gets the error. Another try does not mend a
            `ModelError`.
        name: of the threads.
    """

    def __init__(self, workers: Sequence[_Worker], *, attempts: int, name: str) -> None:
        self._workers = tuple(workers)
        self._attempts = attempts
        self._order = itertools.count()
        self._waiting: queue.PriorityQueue[tuple[int, int, _Question[_Worker, _Answer] | None]] = (
            queue.PriorityQueue()
        )
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, args=(one,), name=f"{name}-{k}", daemon=True)
            for k, one in enumerate(self._workers)
        ]
        for thread in self._threads:
            thread.start()

    def _put(
        self,
        bgr: NDArray[np.uint8],
        ask: Callable[[_Worker], _Answer],
        *,
        what: str,
        urgency: int = 0,
    ) -> Future[_Answer]:
        """Queues a question; after `close` its future is cancelled at once.

        Args:
            bgr: the picture that `ask` is about; this becomes its owner.
            ask: asks a worker; may be called again.
            what: is asked, for the log.
            urgency: 0 or more; the smallest goes first.
        """
        future: Future[_Answer] = Future()
        self._waiting.put((urgency, next(self._order), _Question(bgr, ask, what, future)))
        if self._closed.is_set():
            self._drain()
        return future

    def close(self) -> None:
        """Stops threads and workers; pending futures are cancelled."""
        if self._closed.is_set():
            return
        self._closed.set()
        for one in self._workers:
            self._waiting.put((_CLOSED_FIRST, next(self._order), None))
            one.interrupt()
        for thread in self._threads:
            thread.join()
        for one in self._workers:
            one.close()
        self._drain()

    def _drain(self) -> None:
        for thread in self._threads:
            thread.join()
        while True:
            try:
                *_, question = self._waiting.get_nowait()
            except queue.Empty:
                return
            if question is not None:
                question.bgr.fill(0)
                question.future.cancel()

    def _serve(self, worker: _Worker) -> None:
        while True:
            *_, question = self._waiting.get()
            if question is None:
                return
            if not question.future.set_running_or_notify_cancel():
                question.bgr.fill(0)
                continue
            try:
                answer = self._answer(worker, question)
            except BaseException as error:  # the future carries it to whoever waits
                question.bgr.fill(0)
                question.future.set_exception(error)
            else:
                question.bgr.fill(0)  # before: whoever waits finds it empty
                question.future.set_result(answer)

    def _answer(self, worker: _Worker, question: _Question[_Worker, _Answer]) -> _Answer:
        for attempt in range(1, self._attempts + 1):
            try:
                return question.ask(worker)
            except ModelError:
                raise
            except M2FPStreamError as error:
                if attempt == self._attempts or self._closed.is_set():
                    raise
                _log.warning("%s failed, trying again: %s", question.what, error)
        raise AssertionError("unreachable")
