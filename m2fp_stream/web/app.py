"""The page's application: what is asked of it, and what it asks of others."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, final

from ..core.errors import UsageError
from .audit import Audit
from .doors import Doors
from .hub import Hub
from .options import KioskOptions, PageOptions

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["BadUpload", "Busy", "CoveredStill", "ParsedStill", "Still", "make_app", "need_extra"]

_NEEDED: Final = ("fastapi", "uvicorn", "websockets")


class BadUpload(Exception):  # noqa: N818  # the client's fault, not an error of ours
    """An upload is no picture that can be read; the text is a sentence for whoever sent it."""


class Busy(Exception):  # noqa: N818  # a state, not an error
    """No more pictures can be taken now, or this one took too long."""


@final
@dataclass(frozen=True, slots=True)
class ParsedStill:
    """The parts of people in one picture.

    Attributes:
        png: indexed or with a palette, at the picture's size.
        areas: pixels by name of part.
        size_wh: (width, height) of the picture.
    """

    png: bytes
    areas: Mapping[str, int]
    size_wh: tuple[int, int]


@final
@dataclass(frozen=True, slots=True)
class CoveredStill:
    """One composed picture.

    Attributes:
        data: the encoded picture.
        media_type: ``image/jpeg`` or ``image/png``.
    """

    data: bytes
    media_type: str


class Still(Protocol):
    """Whoever opens uploads: never this process."""

    async def parse(self, upload: bytes, *, palette: bool) -> ParsedStill:
        """Parses one picture.

        Raises:
            BadUpload: it cannot be read.
            Busy: not now.
        """
        ...

    async def anonymize(self, upload: bytes) -> CoveredStill:
        """Covers the people in one picture.

        Raises:
            BadUpload: it cannot be read.
            Busy: not now.
        """
        ...


def need_extra() -> None:
    """Sees to it that the libraries of the page are installed.

    Raises:
        UsageError: one is not.
    """
    try:
        for name in _NEEDED:
            importlib.import_module(name)
    except ImportError:
        raise UsageError(
            'the page needs the web extra; run: pip install "m2fp-stream[web]"'
        ) from None


def make_app(
    options: PageOptions,
    kiosk: KioskOptions,  # noqa: ARG001  # the hub has it; callers need not know
    hub: Hub,
    doors: Doors,
    still: Still | None,
) -> FastAPI:
    """Returns the application; `server.serve` runs it.

    Args:
        options: of the page.
        kiosk: what the page shows.
        hub: the media process's pictures.
        doors: who may come in.
        still: opens uploads; None where there are none.

    Raises:
        UsageError: the web extra or the page is not installed, or `still` and `options.uploads`
            contradict.
        SinkError: the audit log cannot be written.
    """
    need_extra()
    if (still is not None) != options.uploads:
        raise UsageError("uploads and the service that opens them go together")
    from .routes import build

    audit = None if options.audit is None else Audit(options.audit)
    return build(options, hub, doors, still, audit)
