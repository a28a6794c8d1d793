"""Single pictures: their label maps, from files; and both ways of pictures that were uploaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..compositor.compose import Compositor
from ..config import Settings
from ..core.errors import UsageError
from ..core.labels import Label
from ..core.records import LookKind
from ..core.safe import LabelImage
from ..naming import check_target
from ..parsers.base import Looker, Parser
from ..pipeline.files.run import FileRun
from ..pipeline.looks import LookPool, Seen
from ..policy import Policy
from ..sinks.image import MemoryImageSink
from ..sinks.label_png import LabelPngSink, MemoryLabelSink
from ..sources.image import ImageSource
from .weights import chosen_parts

__all__ = ["ParseSummary", "UploadedPictures", "load_parser", "parse_image"]

LabelFormat = Literal["index", "palette"]


def load_parser(
    name: str = "embedded",
    config: Settings | None = None,
    *,
    size_wh: tuple[int, int] = (1920, 1080),
    on_notice: Callable[[str], None] | None = None,
) -> Parser:
    """Returns a parser that runs in this process.

    Args:
        name: ``embedded`` or ``m2fp``.
        config: all options; defaults where None.
        size_wh: (width, height) of the pictures to come, or of others of that aspect; M2FP's
            network is made for one aspect.
        on_notice: see `app.m2fp.fine_parser`.

    Raises:
        UsageError: no parser has that name.
        ModelError: its weights are missing or changed.
    """
    settings = config or Settings()
    if name == "embedded":
        from ..parsers.embedded.parser import EmbeddedParser

        return EmbeddedParser(settings.parser, parts=chosen_parts(settings))
    if name == "m2fp":
        from ..parsers.m2fp.parser import from_options
        from .m2fp import fine_parser

        return from_options(**fine_parser(settings.m2fp, size_wh, on_notice=on_notice))  # type: ignore[arg-type]  # JSON
    raise UsageError(f"unknown parser {name!r}; there are: embedded, m2fp")


@final
@dataclass(frozen=True, slots=True)
class ParseSummary:
    """What `parse_image` found.

    Attributes:
        path_out: the finished label map.
        labels: pixels by label name, only those present.
        size_wh: (width, height) of picture and label map.
    """

    path_out: str
    labels: dict[str, int]
    size_wh: tuple[int, int]


def parse_image(
    path_in: str | os.PathLike[str],
    path_out: str | os.PathLike[str],
    config: Settings | None = None,
    *,
    format: LabelFormat = "index",  # noqa: A002  (the command line's word)
    overwrite: bool = False,
    on_notice: Callable[[str], None] | None = None,
) -> ParseSummary:
    """Writes the label map of a picture as a PNG of its size.

    Raises:
        UsageError, SourceError, ParserError, ModelError, SinkError: see `core.errors`. There is
            no output then.
    """
    settings = config or Settings()
    target = Path(path_out)
    check_target(Path(path_in), target, overwrite=overwrite)
    with ImageSource(Path(path_in), settings.source) as source:
        name = "m2fp" if settings.m2fp.enabled else "embedded"
        size_wh = source.info.size_wh
        with load_parser(name, settings, size_wh=size_wh, on_notice=on_notice) as parser:
            image = _labels_of(source, parser)
    with LabelPngSink(target, format, overwrite=overwrite) as sink:
        sink.write(image)
        sink.finish()
    return ParseSummary(os.fspath(target), _areas(image), size_wh)


@final
class UploadedPictures:
    """Parses and covers pictures that came as bytes, as the command line does with files.

    Nothing is written and nothing is started: looks are made in this process, by what was loaded
    for the picture before. OpenCV's own threads are switched off.

    Args:
        settings: all options; those of the source bound what is decoded.
        name: what messages call a picture.
    """

    def __init__(self, settings: Settings, *, name: Path) -> None:
        cv2.setNumThreads(1)
        self._settings, self._name = settings, name
        self._lookers = _OwnLooker(settings)
        self._parser: Parser | None = None

    def parse(
        self, upload: bytes, style: LabelFormat
    ) -> tuple[bytes, dict[str, int], tuple[int, int]]:
        """Returns the label map as PNG, pixels by label name, and its (width, height).

        Raises:
            SourceError, ParserError, ModelError, SinkError: see `core.errors`.
        """
        with ImageSource(self._name, self._settings.source, data=upload) as source:
            if self._parser is None:
                self._parser = load_parser("embedded", self._settings)
            image = _labels_of(source, self._parser)
            size_wh = source.info.size_wh
        with MemoryLabelSink(style) as sink:
            sink.write(image)
            sink.finish()
        return sink.data, _areas(image), size_wh

    def anonymize(self, upload: bytes) -> bytes:
        """Returns the covered picture, in its own format: PNG, or else JPEG.

        Raises:
            SourceError, ParserError, ModelError, SinkError, PromiseError: see `core.errors`.
        """
        settings = self._settings
        suffix = ".png" if upload.startswith(b"\x89PNG") else ".jpg"
        with (
            ImageSource(self._name, settings.source, data=upload) as source,
            MemoryImageSink(suffix) as sink,
        ):
            looks = LookPool([self._lookers])
            try:
                FileRun(
                    source=source,
                    sink=sink,
                    composer=Compositor(settings.compose),
                    looks=looks,
                    policy=Policy(settings.policy.anywhere()),
                    options=settings.file,
                ).run()
            finally:
                looks.close()
        return sink.data


@final
class _OwnLooker:
    """The looker in this process, made when it is first asked; see `looks.SyncLooker`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._looker: Looker | None = None

    def look(self, bgr: NDArray[np.uint8], kind: LookKind, *, frame_id: int) -> Seen:
        """Returns what one look found.

        Raises:
            ModelError: the weights cannot be loaded.
        """
        from ..parsers.embedded.looker import EmbeddedLooker

        if self._looker is None:
            options = self._settings.parser
            self._looker = EmbeddedLooker(
                threads=options.threads,
                runtime=options.runtime,
                parts=chosen_parts(self._settings),
            )
        return self._looker.asked(kind, bgr, frame_id=frame_id)

    def interrupt(self) -> None:
        """Nothing to do: whoever waits kills this process."""

    def close(self) -> None:
        """The looker is kept for the next picture."""


def _labels_of(source: ImageSource, parser: Parser) -> LabelImage:
    """Returns the label map of the picture, at its size."""
    for captured in source.frames():
        try:
            with captured.frame.analysis() as bgr:
                result = parser.parse(bgr)
        finally:
            captured.frame.release()
    return LabelImage(result, size_wh=source.info.size_wh)


def _areas(image: LabelImage) -> dict[str, int]:
    """Returns pixels by label name, only those present."""
    counts = {label.title: int((image.labels == label).sum()) for label in Label}
    return {name: pixels for name, pixels in counts.items() if pixels}
