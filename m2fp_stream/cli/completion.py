"""``completion``: the script by which a shell completes commands, options, values and files."""

from __future__ import annotations

import argparse
from typing import Any, Final, Literal, get_args, get_origin

from ..core.labels import PRESETS, Label
from .options import OPTIONS
from .show import flush

__all__ = ["SHELLS", "completion"]

SHELLS: Final = ("bash", "zsh", "fish")


def completion(parser: argparse.ArgumentParser, shell: str) -> None:
    """Prints the script for a shell; what it offers is what `parser` and its commands take.

    `parser` is of no use for anything else afterwards.
    """
    import shtab

    for one in (parser, *_commands(parser)):
        for action in one._actions:
            _offer(action, files=shtab.FILE, folders=shtab.DIRECTORY)
    flush(f"{shtab.complete(parser, shell)}\n")


def _commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    return [
        command
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for command in action.choices.values()
    ]


def _offer(action: argparse.Action, **of_paths: object) -> None:
    """Says what is offered for the value of `action`: words, files or folders."""
    if action.choices is None:
        for flag in action.option_strings:
            action.choices = _words(flag) or None
    # What stands for a value in the help says what it is.
    kind = {"FILE": "files", "IN": "files", "INPUT": "files", "OUT": "files", "FOLDER": "folders"}
    if (found := kind.get(str(action.metavar).partition(".")[0])) is not None:
        setattr(action, "complete", of_paths[found])  # noqa: B010  # shtab's, unknown to argparse


def _words(flag: str) -> list[str]:
    """Returns what an option may be set to, as far as it is one of some words."""
    if flag == "--hide":
        return [*PRESETS, *(label.title for label in Label if label)]
    if flag == "--effect":
        from ..core.plan import Effect

        return [effect.value for effect in Effect]
    if flag == "--parser":
        return ["embedded", "m2fp"]
    keys = (option.keys[0] for option in OPTIONS if option.flag == flag)
    return [str(word) for key in keys for word in _literals(key)]


def _literals(key: str) -> tuple[Any, ...]:
    from ..config import Settings

    section, _, name = key.partition(".")
    options = Settings.model_fields[section].annotation
    field = getattr(options, "model_fields")[name].annotation  # noqa: B009  # of a pydantic model
    return get_args(field) if get_origin(field) is Literal else ()
