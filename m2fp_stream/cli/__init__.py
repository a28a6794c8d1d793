"""The command line: arguments to `app`, errors to exit codes, progress to stderr.

Heavy modules are imported inside the commands, so that ``--help`` and usage errors are quick.
"""

from __future__ import annotations

from .program import main

__all__ = ["main"]
