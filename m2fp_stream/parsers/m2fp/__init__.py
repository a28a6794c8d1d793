"""M2FP: the reference, slow and fine; its weights come from the user.

Nothing that is imported here needs torch; `checkpoint`, `model` and `export` do.
"""

from __future__ import annotations

from .labels import Kind
from .options import M2FPOptions
from .parser import M2FPParser

__all__ = ["Kind", "M2FPOptions", "M2FPParser"]
