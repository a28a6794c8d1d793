"""What every parser and looker is: a BGR picture in, findings out, a sealed check in between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self, TypeVar, assert_never, final

import numpy as np
from numpy.typing import NDArray

from m2fp_stream.core.errors import M2FPStreamError, ParserError
from m2fp_stream.core.labels import LabelSet
from m2fp_stream.core.records import Detections, LookKind, ParseResult, PartPlanes

__all__ = ["Looker", "Parser"]


T = TypeVar("T")


class Parser(ABC):
    """Finds people and their parts in one picture at a time; it remembers none of them.

    Subclasses implement `_parse` (and `_close`, where they hold something). One thread at a time
    may use a parser. It is a context manager; leaving it calls `close`.

    Attributes:
        name: what the command line calls the parser.
        labels: which CIHP ids it can write.
    """

    name: str
    labels: LabelSet

    _closed = False

    @final
    def parse(self, bgr: NDArray[np.uint8], *, frame_id: int = 0) -> ParseResult:
        """Returns what is in the picture, at the parser's own size.

        Args:
            bgr: (h, w, 3) uint8, colour order BGR; read only, never kept.
            frame_id: passed on to the result.

        Raises:
            ParserError: the picture is not as above, the parser is closed or failed. The parser
                may be used again after a failure, not after `close`.
        """
        if self._closed:
            raise ParserError(f"parser {self.name}: parse() after close(); open a new one")
        _check(bgr, self.name)
        try:
            return self._parse(bgr, frame_id)
        except M2FPStreamError:
            raise
        except Exception as error:
            raise ParserError(
                f"parser {self.name} failed on frame {frame_id} ({bgr.shape[1]}x{bgr.shape[0]}): "
                f"{type(error).__name__}"  # its text is not ours: it could quote data
            ) from None

    @final
    def close(self) -> None:
        """Releases what the parser holds; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _parse(self, bgr: NDArray[np.uint8], frame_id: int) -> ParseResult:
        """Does the work; `bgr` was checked. Any exception becomes a `ParserError`."""

    def _close(self) -> None:  # noqa: B027  (most parsers hold nothing)
        """Releases resources; called once."""


class Looker(ABC):
    """Answers the kinds of look (`core.records.LookKind`), each on a picture of its own.

    Same picture, same answer: a looker remembers nothing. Subclasses implement `_faces`, `_people`
    and `_parts`. One thread at a time may use it.

    Attributes:
        name: what messages call it.
    """

    name: str

    @final
    def faces(self, bgr: NDArray[np.uint8], *, frame_id: int = 0) -> Detections:
        """Returns the faces in the picture.

        Args:
            bgr: (h, w, 3) uint8, colour order BGR; read only, never kept.
            frame_id: passed on to the result.

        Raises:
            ParserError: the picture is not as above, or the looker failed; it may be used again.
        """
        return self._asked(self._faces, bgr, frame_id)

    @final
    def people(self, bgr: NDArray[np.uint8], *, frame_id: int = 0) -> Detections:
        """Returns the people in the picture, whole bodies; see `faces`."""
        return self._asked(self._people, bgr, frame_id)

    @final
    def closer(self, bgr: NDArray[np.uint8], *, frame_id: int = 0) -> Detections:
        """Returns one box with the score and the tilt of what may be a face; see `faces`.

        The picture is square, twice as large as the face, which is expected in its middle.
        """
        return self._asked(self._closer, bgr, frame_id)

    @final
    def parts(self, bgr: NDArray[np.uint8], *, frame_id: int = 0) -> PartPlanes:
        """Returns which pixel of a crop is which part of a person; see `faces`."""
        return self._asked(self._parts, bgr, frame_id)

    @final
    def asked(
        self, kind: LookKind, bgr: NDArray[np.uint8], *, frame_id: int = 0
    ) -> Detections | PartPlanes:
        """Returns what a look of `kind` finds; see `faces`."""
        match kind:
            case LookKind.FACES:
                return self.faces(bgr, frame_id=frame_id)
            case LookKind.PEOPLE:
                return self.people(bgr, frame_id=frame_id)
            case LookKind.CLOSER:
                return self.closer(bgr, frame_id=frame_id)
            case LookKind.PARTS:
                return self.parts(bgr, frame_id=frame_id)
            case _:
                assert_never(kind)

    def _asked(
        self, look: Callable[[NDArray[np.uint8], int], T], bgr: NDArray[np.uint8], frame_id: int
    ) -> T:
        _check(bgr, self.name)
        try:
            return look(bgr, frame_id)
        except M2FPStreamError:
            raise
        except Exception as error:
            raise ParserError(
                f"looker {self.name} failed on frame {frame_id} ({bgr.shape[1]}x{bgr.shape[0]}): "
                f"{type(error).__name__}"  # its text is not ours: it could quote data
            ) from None

    @abstractmethod
    def _faces(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        """Does the work; `bgr` was checked. Any exception becomes a `ParserError`."""

    @abstractmethod
    def _people(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        """The same."""

    @abstractmethod
    def _closer(self, bgr: NDArray[np.uint8], frame_id: int) -> Detections:
        """The same."""

    @abstractmethod
    def _parts(self, bgr: NDArray[np.uint8], frame_id: int) -> PartPlanes:
        """The same; `bgr` has the size that the network takes."""


def _check(bgr: object, name: str) -> None:
    wanted = f"parser {name}: expected a non-empty (h, w, 3) uint8 BGR array"
    if not isinstance(bgr, np.ndarray):
        raise ParserError(f"{wanted}, got {type(bgr).__name__}")
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3 or 0 in bgr.shape:
        raise ParserError(f"{wanted}, got {bgr.dtype} of shape {bgr.shape}")
