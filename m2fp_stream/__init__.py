"""Privacy-safe video: people are found, and covered before anything is shown or written.

    report = m2fp_stream.anonymize("in.mp4", "out.mp4")
    parser = m2fp_stream.load_parser("embedded")

`import m2fp_stream` alone loads neither OpenCV nor PyAV: the names come on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .app.files import anonymize
    from .app.stills import load_parser
    from .config import Settings
    from .core.records import RunReport

__all__ = ["RunReport", "Settings", "__version__", "anonymize", "load_parser"]

__version__ = "0.1.0"

_PLACES: Final = {
    "RunReport": ".core.records",
    "Settings": ".config",
    "anonymize": ".app.files",
    "load_parser": ".app.stills",
}


def __getattr__(name: str) -> object:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
