"""The page's application: what is asked of it, and what it asks of others."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..core.errors import UsageError
from .access import AccessControl
from .audit import Audit
from .hub import Hub
from .limits import resident_bytes
from .options import PageOptions
from .stills import Still

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["make_app", "need_extra"]

_NEEDED: Final = ("fastapi", "uvicorn", "websockets")


def need_extra(what: str = "the page") -> None:
    """Sees to it that the libraries of the page, and of other servers, are installed.

    Args:
        what: needs them, for what the error says.

    Raises:
        UsageError: one is not.
    """
    try:
        for name in _NEEDED:
            importlib.import_module(name)
    except ImportError:
        raise UsageError(
            f'{what} needs the web extra; run: pip install "m2fp-stream[web]"'
        ) from None


def make_app(
    options: PageOptions,
    hub: Hub,
    access: AccessControl,
    still: Still | None,
    *,
    used_bytes: Callable[[], int] = resident_bytes,
) -> FastAPI:
    """Returns the application; `server.serve` runs it.

    Args:
        options: of the page.
        hub: the media process's pictures.
        access: who may come in.
        still: opens uploads; None where there are none.
        used_bytes: says how much memory this process uses.

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
    return build(options, hub, access, still, audit, used_bytes)
