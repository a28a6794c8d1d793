"""The program itself: from words to a command, from its error to an exit code."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.errors import EXIT_DONE, EXIT_INTERNAL, UsageError
from ..core.labels import nearest
from ..core.redact import install_redaction
from ..privacy.hardening import harden, hide_arguments
from .arguments import parsers
from .show import PROGRAM, report

__all__ = ["carry_out", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; see `cli.main`, which hears signals meanwhile."""
    harden()
    arguments = list(sys.argv[1:] if argv is None else argv)
    hide_arguments(arguments)
    return carry_out(lambda: _run(arguments), debug="--debug" in arguments)


def carry_out(work: Callable[[], None], *, debug: bool) -> int:
    """Does `work` as this program does its work, and returns its exit code.

    Secrets stay out of logs, and an error is one line on stderr; a signal passes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name must not fail to print
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format=f"{PROGRAM}: %(levelname)s: %(name)s: %(message)s",
    )
    install_redaction()
    try:
        work()
    except SystemExit as done:  # argparse, after --help and --version
        return done.code if isinstance(done.code, int) else EXIT_DONE
    except BrokenPipeError:
        # Whoever read our output left, e.g. `| head`; keep the interpreter from flushing into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERNAL
    except Exception as error:
        return report(error, debug=debug)
    return EXIT_DONE


def _run(arguments: list[str]) -> None:
    parser, commands = parsers()
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help", "--version"):
        parser.parse_args(arguments)
    if name not in commands:
        what = f"unknown command {name!r}" if name else "no command"
        raise UsageError(f"{what}; {nearest(name, [*commands, '--version'])} ({PROGRAM} --help)")
    command = commands[name]
    # What argparse makes of "--" among mixed arguments depends on Python's version.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    args, unknown = command.parse_known_intermixed_args(arguments[1:end])
    for word in unknown:
        if word.startswith("-") and len(word) > 1:
            option = word.partition("=")[0]
            raise UsageError(f"unknown option {option!r}; {nearest(option, command.flags)}")
    after = arguments[end + 1 :]
    if command.wants_paths:
        args.paths += map(Path, [*unknown, *after])
        if not args.paths:
            raise UsageError(f"{name}: name at least one {command.wants_paths}")
    elif unexpected := [*unknown, *after]:
        raise UsageError(f"{name}: unexpected argument {unexpected[0]!r}")
    command.run(args)
