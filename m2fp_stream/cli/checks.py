"""The commands that only look: doctor, check-config, --version --verbose."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.errors import ConfigError
from .show import flush, print_line

if TYPE_CHECKING:
    from ..doctor import Fact

__all__ = ["check_config", "doctor", "identify"]


def doctor(args: argparse.Namespace) -> None:
    """Says what this machine has, or how a live run is."""
    from ..doctor import check_stats, examine

    if args.stats is not None:
        print_line(check_stats(args.stats, args.max_age))
        return
    facts = examine()
    _print(facts)
    problems = [fact for fact in facts if fact.error is not None]
    for fact in problems[:1]:
        assert fact.error is not None
        more = f" (and {len(problems) - 1} more, above)" if len(problems) > 1 else ""
        raise fact.error(f"anonymize cannot run: {fact.name}: {fact.text}{more}; {fact.remedy}")
    print_line("anonymize can run")


def identify() -> None:
    """Says what a report of a fault needs to name; no user, no folder."""
    from ..doctor import versions

    _print(versions())


def _print(facts: Sequence[Fact]) -> None:
    width = max(len(fact.name) for fact in facts)
    for fact in facts:
        print_line(f"{fact.name:{width}}  {fact.text}")
        if fact.remedy:
            print_line(f"{'':{width}}  -> {fact.remedy}")


def check_config(args: argparse.Namespace) -> None:
    """Checks configuration files, and says what they change."""
    from ..config import Settings, load_settings, sample_yaml

    if args.sample:
        flush(sample_yaml())
    for path in args.paths:
        try:
            settings = load_settings(path, environ={})
        except ConfigError as error:
            for problem in getattr(error, "__notes__", []):
                print_line(problem)
            raise
        given, default = settings.model_dump(), Settings().model_dump()
        changed = [
            f"{section}.{name}"
            for section, fields in given.items()
            for name, value in fields.items()
            if value != default[section][name]
        ]
        print_line(f"{path}: valid; not as by default: {', '.join(changed) or 'nothing'}")
