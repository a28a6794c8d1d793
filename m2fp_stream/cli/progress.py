"""What goes on, on stderr: a line or a bar that is renewed on a terminal, else a line now and then.

Nothing here has a thread of its own: processes are started while it is shown.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self, final

from .show import PROGRAM, live_numbers, one_line, say

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from ..core.records import Progress

__all__ = ["DistillDisplay", "FileDisplay", "PullDisplay", "StatusLine"]

_LINE_EVERY_S: Final = 10.0
"""Seconds between lines where stderr is no terminal: a log stays readable."""

_BAR_EVERY_S: Final = 0.1
"""Seconds between repaints of the bar; more often is not seen and costs encoder time."""


_DUMB: Final = ("dumb", "unknown")
"""What terminals call themselves that move no cursor. Source: terminfo; rich takes the same two."""


def _can_renew() -> bool:
    """Says whether stderr is a terminal on which a line can be written again."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in _DUMB


class _Display:
    """How far something is: a bar for each name, or lines, or nothing.

    Args:
        mode: ``auto`` (a bar on a terminal, else lines), ``bar``, ``lines`` or ``off``.
        last_s: when something was shown last.
    """

    def __init__(self, mode: str, last_s: float) -> None:
        self._mode = mode
        if mode == "auto":
            self._mode = "bar" if _can_renew() else "lines"
        self._last_s = last_s
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def _is_due(self, now_s: float, *, last: bool) -> bool:
        """Says whether to show something now; `last`: it is the last that there is to show."""
        every_s = _BAR_EVERY_S if self._mode == "bar" else _LINE_EVERY_S
        if self._mode == "off" or (now_s - self._last_s < every_s and not last):
            return False
        self._last_s = now_s
        return True

    def _show(self, name: str, done: int, total: int | None, numbers: str) -> None:
        if self._mode == "bar":
            bars = self._open(name)
            bars.update(
                self._tasks[name], completed=done, total=total, numbers=numbers, refresh=True
            )
        else:
            say(f"{name}: {numbers}")

    def say(self, text: str) -> None:
        """Prints a line that stays above the bars."""
        if self._bars is None:
            say(text)
        else:
            line = f"{PROGRAM}: {one_line(text)}"
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _open(self, name: str) -> Bars:
        """Returns the bars, with one for `name`."""
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[numbers]}", markup=False),
                console=Console(stderr=True),
                auto_refresh=False,
            )
            self._bars.start()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(one_line(name), total=None, numbers="")
        return self._bars


@final
class FileDisplay(_Display):
    """Progress of one file.

    Args:
        name: of the file.
        mode: as `--progress`.
    """

    def __init__(self, name: str, mode: str) -> None:
        super().__init__(mode, last_s=0.0)
        self._name = name

    def __enter__(self) -> Self:
        if self._mode == "bar":
            self._open(self._name)
        return self

    def update(self, progress: Progress) -> None:
        """Shows `progress`; cheap enough to be called for every frame."""
        done, total = progress.frames_done, progress.frames_total
        if self._is_due(progress.elapsed_s, last=done == total and self._mode == "bar"):
            self._show(self._name, done, total, _numbers(progress))


def _numbers(progress: Progress) -> str:
    done, total = progress.frames_done, progress.frames_total
    rate = done / progress.elapsed_s if progress.elapsed_s > 0 else 0.0
    text = f"{done}{f'/{total}' if total else ''} frames, {rate:.1f} fps"
    if total and total > done and rate > 0:
        left_s = round((total - done) / rate)
        minutes, seconds = divmod(left_s, 60)
        text += f", {minutes // 60}:{minutes % 60:02}:{seconds:02} left"
    return text


@final
class PullDisplay(_Display):
    """How much of each file has come."""

    def __init__(self) -> None:
        super().__init__("auto", last_s=float("-inf"))

    def update(self, name: str, done: int, total: int | None) -> None:
        """Shows progress; see `models.hub.Progress`."""
        if self._is_due(time.monotonic(), last=total is not None and done >= total):
            text = f"{done / 1e6:.1f} MB"
            if total:
                text += f" of {total / 1e6:.1f} MB ({done / total:.0%})"
            self._show(name, done, total, text)


@final
class DistillDisplay(_Display):
    """How far a distillation is: a bar for looking, one for training."""

    def __init__(self) -> None:
        super().__init__("auto", last_s=float("-inf"))

    def update(self, what: str, done: int, total: int, numbers: str) -> None:
        """Shows progress; see `app.distill.Tell`."""
        if self._is_due(time.monotonic(), last=done >= total):
            self._show(what, done, total, numbers)


@final
class StatusLine:
    """What a live run is doing; any thread."""

    def __init__(self) -> None:
        self._on_terminal = _can_renew()
        self._line: Live | None = None
        self._said_s = float("-inf")
        self._lock = threading.Lock()

    def show(self, facts: Mapping[str, Any]) -> None:
        """Shows what was measured."""
        with self._lock:
            text = live_numbers(facts)
            if self._on_terminal:
                self._renew(text)
            elif time.monotonic() - self._said_s >= _LINE_EVERY_S:
                self._said_s = time.monotonic()
                say(text)

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self._keep(one_line(text))

    def say_address(self, address: str) -> None:
        """Prints an address with the token that opens it, which `say` would take out."""
        self._keep(address)

    def end(self) -> None:
        """Leaves the terminal clean."""
        with self._lock:
            if self._line is not None:
                self._line.stop()
                self._line = None

    def _keep(self, text: str) -> None:
        line = f"{PROGRAM}: {text}"
        with self._lock:
            if self._line is None:
                print(line, file=sys.stderr, flush=True)
            else:
                self._line.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _renew(self, text: str) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        if self._line is None:
            self._line = Live(
                console=Console(stderr=True),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,  # a sink may write there
                redirect_stderr=False,
            )
            self._line.start()
        self._line.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
