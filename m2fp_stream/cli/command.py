"""What a command is to argparse, and the parts of its ``--help`` that are the same everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, NoReturn, final

from .. import __version__
from ..core.errors import UsageError
from ..naming import TABLE_SUFFIXES
from .show import PROGRAM, flush

__all__ = [
    "EVERYTHING",
    "Command",
    "Commands",
    "program_parser",
    "read_count",
    "read_duration",
    "read_table",
]

_EXIT_CODES: Final = """\
exit codes:
  0 done; 1 internal error; 2 usage or configuration; 3 input; 4 parser or model; 5 output;
  6 a privacy promise could not be kept (nothing uncovered was written); 8 a batch failed in
  part; 130 interrupted
"""
_ENVIRONMENT: Final = {
    "options": """\
  M2FP_STREAM_SECTION__FIELD   what a configuration file may set, for example
                               M2FP_STREAM_POLICY__HIDE=person; beats the file, and is beaten by
                               options; the place for an address with a password
                               (M2FP_STREAM_CAPTURE__INPUT)
""",
    "models": """\
  XDG_DATA_HOME                M2FP's weights are below it (default: ~/.local/share)
  XDG_CACHE_HOME               what was made of them, and the browser's profile (default: ~/.cache)
""",
    "hub": """\
  MODELSCOPE_API_TOKEN         for `models pull`, where an account is needed
""",
    "display": """\
  DISPLAY, WAYLAND_DISPLAY     the graphical session in which a window or browser opens
""",
    "terminal": """\
  COLUMNS, NO_COLOR, TERM      how wide the terminal is, without colours, without a bar (dumb)
""",
}
EVERYTHING: Final = tuple(_ENVIRONMENT)
"""All that the program reads of its environment, by what it is for."""


@final
class Command(argparse.ArgumentParser):
    """A parser whose errors are `UsageError`; knows what to run."""

    run: Callable[[argparse.Namespace], None]
    wants_paths: str = ""
    """What it wants at least one of, in words; nothing where it takes none."""
    no_paths_with: str = ""
    """The option, if there is one, with which it does without them."""

    @property
    def flags(self) -> list[str]:
        """Every flag that it knows."""
        return [text for action in self._actions for text in action.option_strings]

    def _print_message(self, message: str, file: object = None) -> None:  # noqa: ARG002  # stdout
        """Prints help or version; argparse swallows that an output takes none, or lets it pass."""
        flush(message)

    def error(self, message: str) -> NoReturn:
        """Raises argparse's complaint as `UsageError`."""
        raise UsageError(message.replace("argument ", "", 1))


def program_parser() -> Command:
    """Returns the parser of the program, without its commands."""
    parser = Command(
        prog=PROGRAM,
        description="Covers the heads (or more) of people in videos, pictures and live cameras.",
        epilog=f"`{PROGRAM} COMMAND --help` has a command's options and examples.\n\n"
        f"{_footer(EVERYTHING)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="with --version: also the versions of what it stands on, the CPU's extensions, the "
        "weights: for reports of faults; it names no user and no folder",
    )
    return parser


def _footer(reads: Collection[str]) -> str:
    lines = "".join(text for name, text in _ENVIRONMENT.items() if name in reads)
    return f"environment:\n{lines}\n{_EXIT_CODES}" if lines else _EXIT_CODES


@final
class Commands:
    """The commands of a parser."""

    def __init__(self, parser: Command) -> None:
        self.parser = parser
        self._subparsers = parser.add_subparsers(metavar="COMMAND", title="commands")
        self.by_name: dict[str, Command] = {}

    def add(
        self,
        name: str,
        run: Callable[[argparse.Namespace], None],
        text: str,
        examples: str,
        *,
        takes: str = "[options]",
        reads: Collection[str] = ("options", "models", "terminal"),
    ) -> Command:
        """Adds a command.

        Args:
            name: what it is called.
            run: does it.
            text: what it does, in a few words.
            examples: the part of its help that nobody else has.
            takes: what may follow its name.
            reads: what it reads of the environment, by the names above.
        """
        command: Command = self._subparsers.add_parser(
            name,
            help=text,
            usage=f"{PROGRAM} {name} {takes}",
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"{examples}\n{_footer(reads)}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.run = run
        command.add_argument(
            "--debug", action="store_true", help="on an error, show where it was raised"
        )
        self.by_name[name] = command
        return command


def read_duration(text: str) -> float:
    """Returns seconds, above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return value


def read_table(text: str) -> str:
    """Returns the name of a table, or its kind."""
    if f".{text}" in TABLE_SUFFIXES or Path(text).suffix.lower() in TABLE_SUFFIXES:
        return text
    raise argparse.ArgumentTypeError(
        f"expected a file that ends in .csv or .json, or csv or json, got {text!r}"
    )


def read_count(text: str) -> int:
    """Returns a whole number from 1 upwards."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 upwards, got {text!r}")
    return int(text)
