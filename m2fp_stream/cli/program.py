"""The program itself: from words to a command, from its error to an exit code."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..core.address import looks_like_address
from ..core.errors import EXIT_DONE, EXIT_INTERNAL, UsageError
from ..core.labels import nearest
from ..core.redact import install_redaction
from ..privacy.hardening import harden, hide_arguments
from .show import PROGRAM, flush, report
from .streams import give_up, settle

__all__ = ["carry_out", "main"]

_SOURCES: Final = ("--source", "--camera")
"""Options whose value may be an address."""
_EMPTY: Final = re.compile("(?:(--[^=]+)=)?")
"""What the shell makes of a variable that is not set; as a path it would be the current folder."""
_SUSPICIOUS: Final = re.compile("[@?=&]|//")
"""What an address with a password has somewhere, whatever it lacks."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; see `cli.main`, which hears signals meanwhile."""
    harden()
    arguments = list(sys.argv[1:] if argv is None else argv)
    hide_arguments(arguments, secret=_nameless(arguments))
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
    code = EXIT_DONE
    try:
        try:
            work()
        except SystemExit as done:  # argparse, after --help and --version
            code = done.code if isinstance(done.code, int) else EXIT_DONE
        flush()
    except BrokenPipeError:  # whoever read our output left, e.g. `| head`
        give_up("stdout")
        return EXIT_INTERNAL
    except Exception as error:
        code = report(error, debug=debug)
        with suppress(OSError):
            sys.stdout.flush()
            return code
        give_up("stdout")
    finally:
        settle()
    return code


def _nameless(arguments: Sequence[str]) -> list[str]:
    """Returns the words that name a source without saying of which kind, and may hold a password.

    A scheme that was forgotten, or is misspelt: what is no address has no place for a password
    that could be told from the rest.
    """
    found = []
    for before, word in zip(["", *arguments], arguments, strict=False):
        flag, equals, value = word.partition("=")
        if before not in _SOURCES and not (equals and flag in _SOURCES):
            continue
        text = word if before in _SOURCES else value
        if not looks_like_address(text) and _SUSPICIOUS.search(text) and not os.path.lexists(text):
            found.append(word)
    return found


def _run(arguments: list[str]) -> None:
    from .arguments import parsers  # all commands: passwords are hidden before that

    for word in arguments:
        if found := _EMPTY.fullmatch(word):
            where = f"{found[1]}: " if found[1] else ""
            raise UsageError(f"{where}an empty argument; a variable of the shell may be unset")
    parser, commands = parsers()
    name = arguments[0] if arguments else ""
    if {*arguments} == {"--version", "--verbose"}:
        from .checks import identify

        identify()
        return
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
            named = f", or ./{word} for the file" if os.path.lexists(word) else ""
            raise UsageError(f"unknown option {option!r}; {nearest(option, command.flags)}{named}")
    after = arguments[end + 1 :]
    if command.wants_paths:
        args.paths += map(Path, [*unknown, *after])
        if not (args.paths or getattr(args, command.no_paths_with, False)):
            raise UsageError(f"{name}: name at least one {command.wants_paths}")
    elif unexpected := [*unknown, *after]:
        word = "" if _SUSPICIOUS.search(unexpected[0]) else f" {unexpected[0]!r}"
        raise UsageError(f"{name}: unexpected argument{word}")
    command.run(args)
