"""Every error the package raises on purpose, and the exit code each one becomes.

    M2FPStreamError                 1   internal error, when nothing closer fits
    ├── UsageError (ValueError)     2   command line, arguments of the Python API
    ├── ConfigError (ValueError)    2   configuration file, environment variable
    ├── SourceError (OSError)       3   cannot open, read or decode the input
    │   └── TruncatedSourceError    3   the input ends before it says it does
    ├── ParserError (RuntimeError)  4   a parser died, hung or answered nonsense
    ├── ModelError (RuntimeError)   4   weights missing, changed or unknown
    ├── SinkError (OSError)         5   cannot write the output
    ├── PromiseError                6   a promise could not be kept; output stops
    │   ├── SealError (TypeError)   6   something that is not composed reached a sink
    │   └── LeaseError              6   pixels asked for outside a lease
    └── BatchError                  8   some inputs of a batch failed

130 (interrupted) is `KeyboardInterrupt`, handled at the command line. A message is one line:
what happened, where, what was expected, what came, what to do.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BatchError",
    "ConfigError",
    "LeaseError",
    "M2FPStreamError",
    "ModelError",
    "ParserError",
    "PromiseError",
    "SealError",
    "SinkError",
    "SourceError",
    "TruncatedSourceError",
    "UsageError",
]

EXIT_DONE = 0
EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130
"""Source: the shell's convention, 128 and the number of SIGINT; the others are the table above."""


class M2FPStreamError(Exception):
    """Base of every error raised on purpose; `str()` is one line fit for stderr."""

    exit_code: ClassVar[int] = EXIT_INTERNAL


class UsageError(M2FPStreamError, ValueError):
    """The command line or a call's arguments make no sense; nothing was started."""

    exit_code = 2


class ConfigError(M2FPStreamError, ValueError):
    """A configuration file or environment variable is wrong; nothing was started."""

    exit_code = 2


class SourceError(M2FPStreamError, OSError):
    """The input cannot be opened, read or decoded; the input is untouched."""

    exit_code = 3

    # OSError.__str__ changes with the number of arguments; ours is always the message.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class TruncatedSourceError(SourceError):
    """The input ends well before its declared end, or holds corrupt packets."""


class ParserError(M2FPStreamError, RuntimeError):
    """A parser raised, hung, died or gave an answer that cannot be trusted."""

    exit_code = 4


class ModelError(M2FPStreamError, RuntimeError):
    """Weights are missing, unknown or not those of the manifest; nothing was loaded."""

    exit_code = 4


class SinkError(M2FPStreamError, OSError):
    """The output cannot be written; no file stands under its final name."""

    exit_code = 5

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class PromiseError(M2FPStreamError):
    """A privacy promise could not be kept; output stopped, nothing raw was written."""

    exit_code = 6


class SealError(PromiseError, TypeError):
    """A sink or a sealed type was handed something that the compositor did not make."""


class LeaseError(PromiseError):
    """Pixels of a raw frame were asked for outside a lease, or after its release."""


class BatchError(M2FPStreamError):
    """At least one input of a batch failed; the others are complete."""

    exit_code = 8
