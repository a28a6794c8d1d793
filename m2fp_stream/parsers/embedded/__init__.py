"""The embedded parser: the default, and the guard of every mode; its weights ship along."""

from __future__ import annotations

from .options import EmbeddedOptions
from .parser import EMBEDDED_LABELS, GROUPS, EmbeddedParser

__all__ = ["EMBEDDED_LABELS", "GROUPS", "EmbeddedOptions", "EmbeddedParser"]
