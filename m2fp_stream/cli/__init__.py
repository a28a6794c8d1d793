"""The command line: arguments to `app`, errors to exit codes, progress to stderr.

Heavy modules are imported inside the commands, so that ``--help`` and usage errors are quick, and
nearly all of this room once signals are heard: whoever interrupts meanwhile gets no traceback.
"""

from __future__ import annotations

from collections.abc import Sequence

from .interrupts import until_interrupted
from .streams import complete

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; an error is one line on stderr.

    Args:
        argv: the arguments without the program's name; None takes those of the process, which is
            expected to end then.
    """

    def begin() -> int:
        complete()  # what follows imports libraries
        from .program import main as run

        return run(argv)

    return until_interrupted(begin, told=True, last=argv is None)
