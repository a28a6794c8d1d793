"""Which everyday pictures may be used to choose parameters, and which to report on."""

from __future__ import annotations

import hashlib
from typing import Literal

__all__ = ["half"]


def half(name: str) -> Literal["tune", "report"]:
    """Returns the half that a picture of `everyday` belongs to, by its file name without folders.

    The first byte of the name's SHA-1: even tunes (and trains), odd reports.
    """
    return (
        "tune"
        if hashlib.sha1(name.encode(), usedforsecurity=False).digest()[0] % 2 == 0
        else "report"
    )
