"""What the processes of a kiosk say to their supervisor, and how they begin.

Each is started as ``python -P -m m2fp_stream.kiosk.NAME CONTROL ...`` with inherited descriptors.
CONTROL is a channel (`processes.channel`) of these messages:

    from a child    starting (every second until it works: that it is not stuck as a whole), beat
                    (every second, that it works), notice (a sentence for the user), error
                    (text, exit_code), ended (nothing is left to do)
    from media      privacy (what viewers chose: level, silhouette); its beats have facts, and
                    camera (the one that it opened; null where there is none or it cannot be told
                    apart)
    from the server ready, coded (a one-time code is known); its beats have asleep, wall (the
                    session that the last code opened, or null) and here (whether that one asks
                    for something)
    to the server   code (a one-time code to let in)
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

from ..core.errors import EXIT_INTERNAL, M2FPStreamError, UsageError
from ..core.redact import install_redaction, redact
from ..privacy.hardening import harden
from ..processes.channel import Message, inherited, receive, send

__all__ = ["Control", "begin", "explain"]

_MOST_TEXT: Final = 2000
"""Characters of an error: more than any sentence of ours has. Chosen."""

_SIGN_S: Final = 1.0
"""As often as heartbeats come. See `kiosk.server`; chosen there."""


@final
class Control:
    """A child's end of the channel to its supervisor; any thread may send.

    Args:
        channel: to the supervisor.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.gone = False
        """True once the other end is."""
        self.has_started: Callable[[], bool] = lambda: False
        """Whether it is the work that is to give signs of life from now on; asked by any thread."""
        self._works = threading.Event()

    def fileno(self) -> int:
        """The channel's descriptor, to wait for messages."""
        return self._channel.fileno()

    def send(self, kind: str, **more: Any) -> None:
        """Sends a message if that can be done at once."""
        try:
            send(self._channel, {"kind": kind, **more})
        except OSError:
            self.gone = True

    def beat(self, **facts: Any) -> None:
        """Says that this process works."""
        self._works.set()
        self.send("beat", **facts)

    def say_starting(self) -> None:
        """Says every second that this process starts, until it works or `has_started`.

        Its own thread can say so while the main one waits for a camera or a disk.
        """
        while not (self.gone or self.has_started()):
            self.send("starting")
            if self._works.wait(_SIGN_S):
                return

    def receive(self) -> list[Message]:
        """Returns the messages that have come."""
        messages, gone = receive(self._channel)
        self.gone |= gone
        return messages

    def fail(self, error: BaseException) -> int:
        """Says why this process ends; returns its exit code."""
        text, code = explain(error)
        self.send("error", text=text, exit_code=code)
        return code


def begin(name: str, control: str) -> Control:
    """Hardens this process and returns the channel to its supervisor.

    It ends with that one. Ctrl-C and a closed terminal are left to it.
    """
    harden(parent_death_signal=True)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(
        level=logging.WARNING, format=f"m2fp-stream {name}: %(levelname)s: %(name)s: %(message)s"
    )
    install_redaction()
    channel = Control(inherited(control))
    threading.Thread(target=channel.say_starting, name="starting", daemon=True).start()
    return channel


def explain(error: BaseException) -> tuple[str, int]:
    """Returns one line about an error, and the exit code it becomes."""
    if isinstance(error, M2FPStreamError):
        return redact(str(error))[:_MOST_TEXT], error.exit_code
    if isinstance(error, ImportError) and not str(error.name).startswith("m2fp_stream"):
        text = f"cannot import {error.name}; `m2fp-stream doctor` says what to do"
        return text, UsageError.exit_code
    # The message of an unforeseen exception may quote data.
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" at {Path(last[0].filename).name}:{last[0].lineno}" if last else ""
    return f"internal error: {type(error).__name__}{place}", EXIT_INTERNAL
