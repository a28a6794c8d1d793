"""The sealed door: a sink takes exactly one kind of composed data, a film its sound besides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final, Generic, Self, TypeVar, final

from ..core.errors import SealError, SinkError
from ..core.safe import LabelImage, SafeAudio, SafeFrame, TrackTable

__all__ = ["Sink"]

Item = TypeVar("Item", SafeFrame, LabelImage, TrackTable)

_ALLOWED: Final = (SafeFrame, LabelImage, TrackTable)
_SEALED: Final = (
    "write",
    "write_audio",
    "prepare",
    "finish",
    "abort",
    "__enter__",
    "__exit__",
    "__init_subclass__",
)


class Sink(ABC, Generic[Item]):
    """Takes items of one sealed type; its output appears when `finish` succeeds, or never.

    A subclass names `accepts` and writes `_emit`, `_finish` and `_abort`; the methods that people
    call cannot be overridden. One thread at a time may use a sink.
    """

    accepts: ClassVar[type]

    accepts_audio: ClassVar[bool] = False
    """Whether it also takes the sound of what it shows: then it writes `_emit_audio`, too."""

    retry: ClassVar[bool] = True
    """Whether a new sink may go on where one has failed; False where both write one output."""

    lost: int = 0
    """Items that `write` took and that the output will not have; known after it has failed."""

    def __init__(self) -> None:
        self._open = True
        self._last_duration: int | None = None

    def __init_subclass__(cls) -> None:
        if getattr(cls, "accepts", None) not in _ALLOWED:
            names = ", ".join(kind.__name__ for kind in _ALLOWED)
            raise SealError(f"{cls.__name__}.accepts must be one of {names}")
        for name in _SEALED:
            # Compared as resolved, so that a base class beside Sink cannot bring its own either.
            if getattr(getattr(cls, name), "__func__", getattr(cls, name)) is not _ORIGINAL[name]:
                raise SealError(f"{cls.__name__} may not override {name}()")

    @final
    def write(self, item: Item) -> None:
        """Passes `item` on if it is exactly of the accepted type.

        Raises:
            SealError: it is not, not even as a subclass; nothing was written.
            SinkError: the output cannot be written, or the sink is closed; no output remains.
        """
        accepted: object = type(self).accepts
        if type(item) is not accepted or accepted not in _ALLOWED:
            self.abort()
            raise SealError(f"{type(self).__name__} refused a {type(item).__name__}")
        self._check_open()
        try:
            self._emit(item)
        except BaseException:
            self.abort()
            raise

    @final
    def write_audio(self, item: SafeAudio) -> None:
        """Passes sound on if it is exactly `SafeAudio`, and this sink takes any.

        Raises:
            SealError: it is not, not even as a subclass; nothing was written.
            SinkError: see `write`.
        """
        kind: object = type(item)
        if kind is not SafeAudio or type(self).accepts_audio is not True:
            self.abort()
            raise SealError(f"{type(self).__name__} refused a {type(item).__name__} as sound")
        self._check_open()
        try:
            self._emit_audio(item)
        except BaseException:
            self.abort()
            raise

    @final
    def prepare(self) -> None:
        """Does of `finish` what may fail, where a sink can: for outputs that belong together.

        Nothing may be written after it. What it took is given back by `abort`.

        Raises:
            SinkError: see `finish`.
        """
        self._check_open()
        try:
            self._prepare()
        except BaseException:
            self.abort()
            raise

    @final
    def finish(self) -> None:
        """Completes the output; only now does it stand under its final name.

        Raises:
            SinkError: it cannot be completed, or the sink is closed; no output remains.
        """
        self._check_open()
        try:
            self._finish()
        except BaseException:
            self.abort()
            raise
        self._open = False

    @final
    def abort(self) -> None:
        """Drops whatever was written so far; idempotent, and without effect after `finish`."""
        if self._open:
            self._open = False
            self._abort()

    def halt(self) -> None:  # most sinks wait for nobody
        """Ends, with an error, a write that waits for somebody; any thread. `abort` follows."""

    @final
    def set_last_duration(self, ticks: int) -> None:
        """Says how long the last item is shown, in ticks of its time base; before `finish`.

        Only a sink whose output has a duration uses it; without it, it guesses.
        """
        self._last_duration = max(1, ticks)

    @final
    def __enter__(self) -> Self:
        return self

    @final
    def __exit__(self, *_: object) -> None:
        """Aborts unless `finish` was called: leaving early is never a complete output."""
        self.abort()

    @final
    def _check_open(self) -> None:
        if not self._open:
            raise SinkError(f"{type(self).__name__} is closed; open a new one")

    @abstractmethod
    def _emit(self, item: Item) -> None:
        """Writes one item that `write` has checked."""

    def _emit_audio(self, item: SafeAudio) -> None:
        """Writes sound that `write_audio` has checked; it follows what came before it."""
        raise NotImplementedError(f"{type(self).__name__} says that it takes sound")

    def _prepare(self) -> None:
        """Does what of `_finish` can be done before."""

    @abstractmethod
    def _finish(self) -> None:
        """Completes the output under its final name."""

    @abstractmethod
    def _abort(self) -> None:
        """Removes everything that was written; called once at most."""


_ORIGINAL: Final[dict[str, Callable[..., object]]] = {
    name: getattr(getattr(Sink, name), "__func__", getattr(Sink, name)) for name in _SEALED
}
