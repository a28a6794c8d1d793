"""What a child process gets of our environment: never the program's own options."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

__all__ = ["child_environment"]

_PREFIX: Final = "M2FP_STREAM_"
_KEPT: Final = "M2FP_STREAM_TEST_"
"""What only tests set; it holds no options."""


def child_environment(sections: Collection[str] = ()) -> dict[str, str]:
    """Returns the environment of a child: our modules' folders, and no option of the program.

    Options may hold passwords (a camera's address), and who may read a child's environment is not
    ours to say: a browser or a display's command is not hardened. What a child needs to know it is
    told as its job.

    A child that is started so should get `-P`, too: without it, Python looks in the working folder
    first, where somebody's `json.py` may lie.

    Args:
        sections: of these sections the options stay, such as "policy"; for a child that is the
            whole program again.
    """
    prefixes = (_KEPT, *(f"{_PREFIX}{section.upper()}__" for section in sections))
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_PREFIX) or name.upper().startswith(prefixes)
    }
    folders = os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path)
    return {**kept, "PYTHONPATH": folders}
