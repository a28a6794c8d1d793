"""What people read: sentences, errors and summaries, each one line that a terminal can take."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..core.errors import EXIT_INTERNAL, M2FPStreamError, SinkError, UsageError
from ..core.redact import redact

if TYPE_CHECKING:
    from ..core.records import RunReport

__all__ = [
    "PROGRAM",
    "batch_table",
    "file_summary",
    "flush",
    "live_numbers",
    "live_summary",
    "one_line",
    "print_line",
    "reason",
    "report",
    "say",
]

PROGRAM: Final = "m2fp-stream"


def one_line(text: object) -> str:
    """Returns `text` as one line a terminal can take: no line ends, escapes or lone surrogates."""
    line = " ".join(redact(str(text)).splitlines())
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in line
    )


def print_line(text: str) -> None:
    """Prints what was asked for, on stdout.

    Raises:
        SinkError: it cannot be written.
        BrokenPipeError: nobody reads it any more.
    """
    flush(f"{one_line(text)}\n")


def flush(text: str = "") -> None:
    """Writes what was printed, and `text`; raises as `print_line` does."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SinkError(
            f"standard output: cannot be written ({error.strerror}); files are complete"
        ) from None


def say(text: object) -> None:
    """Prints a sentence about what goes on, on stderr, as far as anybody can be told."""
    with suppress(OSError):
        print(f"{PROGRAM}: {one_line(text)}", file=sys.stderr, flush=True)


def report(error: Exception, *, debug: bool, about: Path | None = None) -> int:
    """Prints `error` as one line and returns its exit code."""
    if debug:
        # Frames and classes only: the message of an unforeseen exception may quote an array.
        _print_stack(error)
    text, code = reason(error), _code(error)
    if code == EXIT_INTERNAL and not isinstance(error, M2FPStreamError) and not debug:
        text += "; run again with --debug and report what it prints"
    if about is not None and str(about) not in text:
        text = f"{about}: {text}"
    say(f"error: {text}")
    return code


def reason(error: Exception) -> str:
    """Returns why something failed: our errors' own words, of others what may be told."""
    if isinstance(error, M2FPStreamError):
        return str(error)
    if _code(error) == UsageError.exit_code and isinstance(error, ImportError):
        return f"cannot import {error.name}: {error.msg}; `{PROGRAM} doctor` says what to do"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"internal error: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def _code(error: Exception) -> int:
    if isinstance(error, M2FPStreamError):
        return error.exit_code
    if isinstance(error, ImportError) and not str(error.name).startswith("m2fp_stream"):
        return UsageError.exit_code
    return EXIT_INTERNAL


def batch_table(done: int, finished: str, skipped: str, failed: Sequence[tuple[Path, str]]) -> bool:
    """Shows on a terminal what a batch did; returns whether there is one.

    Args:
        done: files with an output of this run.
        finished: how many have an output of an earlier run, in words.
        skipped: what is no input, in words.
        failed: what has no output, and why.
    """
    if not sys.stderr.isatty():
        return False
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_row("done", str(done))
    if finished:
        table.add_row("finished earlier", finished)
    if skipped:
        table.add_row("skipped", Text(one_line(skipped)))
    for path, why in failed:
        text = why if str(path) in why else f"{path}: {why}"
        table.add_row("failed", Text(one_line(text), overflow="fold"))
    Console(stderr=True).print(table)
    return True


def _print_stack(error: BaseException) -> None:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        _print_stack(cause)
    for line in traceback.format_tb(error.__traceback__):
        print(redact(line), end="", file=sys.stderr)
    print(type(error).__name__, file=sys.stderr)


def file_summary(path_in: Path, report: RunReport) -> str:
    """Returns what a run over a file did."""
    rate = report.frames / report.elapsed_s if report.elapsed_s > 0 else 0.0
    unknown = f", {report.unknown_frames} wholly covered" if report.unknown_frames else ""
    looks = ", ".join(f"{count} {name}" for name, count in report.looks.items())
    shortened = (
        f", {report.shortened_frames} with a shorter look-behind" if report.shortened_frames else ""
    )
    sound = f", sound {report.sound}" if report.sound else ""
    sound = ", no sound" if report.sound == "none" else sound
    whole = f", {report.whole_frames} with a whole body covered" if report.whole_frames else ""
    requested = f", {report.requested_frames} covered on request" if report.requested_frames else ""
    alone = (
        f", {report.left_alone_frames} with people left alone in a keep-zone"
        if report.left_alone_frames
        else ""
    )
    told = (
        f"; positions (personal data) in {report.tracks_out}, tracks: {report.tracks}"
        if report.tracks_out
        else ""
    )
    encoded = f"{report.encoded}, " if report.encoded else ""
    return (
        f"{path_in} -> {report.path_out}: "
        f"{report.frames} frames{sound}{unknown}{requested}{shortened}{whole}{alone}, looks: "
        f"{looks}; {report.covered_fraction:.1%} covered on average, "
        f"{encoded}{report.elapsed_s:.1f} s "
        f"({rate:.1f} fps){told}"
    )


def live_numbers(facts: Mapping[str, Any]) -> str:
    """Returns how a live run goes."""

    def of(spread: Mapping[str, float] | None) -> str:
        return "-" if spread is None else f"{spread['p50']:.0f} ms"

    waits = "" if facts["waiting_for"] is None else f", waits for {facts['waiting_for']}"
    return (
        f"{facts['fps']:.1f} fps, delay {of(facts['latency_ms'])}, cover age "
        f"{of(facts['cover_age_ms'])}, looks for faces {of(facts['look_ms'].get('faces'))}, "
        f"{facts['dropped']} dropped, source {facts['source']}{waits}"
    )


def live_summary(facts: Mapping[str, Any]) -> str:
    """Returns what a live run did."""
    alone = facts.get("frames_with_people_left_alone")
    kept = f"{alone} with people left alone in a keep-zone, " if alone else ""
    return (
        f"{facts['frames']} frames in {facts['uptime_s']:.0f} s, "
        f"{facts['frames_wholly_covered']} wholly covered, {kept}"
        f"{sum(facts['looks'].values())} looks, "
        f"{facts['dropped']} dropped, {facts['reconnects']} reconnects"
    )
