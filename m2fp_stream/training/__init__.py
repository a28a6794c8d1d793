"""Distillation: the part network learns at home from a teacher that may not be shipped.

Nothing but `require` may be asked of this room without the extra `train`.
"""

from __future__ import annotations

import importlib.util

from ..core.errors import ModelError

__all__ = ["require"]


def require() -> None:
    """Makes sure that what trains is installed.

    Raises:
        ModelError: it is not; the message names the extra.
    """
    for name in ("torch", "onnx"):
        if importlib.util.find_spec(name) is None:
            raise ModelError(
                f"training needs {name}; install the extra: pip install 'm2fp-stream[train]'"
            )
