"""The browser on the wall, and the display's switch.

As a program, ``python -P -m m2fp_stream.kiosk.browser CHROMIUM FLAGS...`` becomes that browser, as
large as the screen, which then ends together with whoever started it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import resource
import shutil
import signal
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from ..core.errors import UsageError
from ..privacy.hardening import harden
from ..processes.backoff import Backoff
from ..processes.child import Child, Reaper, start_module, start_program
from ..sinks.x11 import find_screen_wh

__all__ = [
    "NICENESS",
    "Browser",
    "BrowserPolicy",
    "Screen",
    "find_browser",
    "held_bytes",
    "main",
    "pin_of",
]

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")

_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0
"""Before a browser is opened, or the display's command run, again; see `supervised.RestartPolicy`.
A second, for a browser takes as long to open."""

_END_S: Final = 3.0
"""How long a browser may take to end. Chosen: it has nothing to store but its profile."""

NICENESS: Final = 5
"""Without a GPU it paints on the same cores: a picture drawn late is better than a late cover.
Chosen: less than any look has (`app.live`)."""

_SCREEN_S: Final = 10.0
"""How long a command that switches the display may take. Chosen: one that asks a slow display by
DDC/CI takes some seconds."""

_FLAGS: Final = (
    "--kiosk",
    "--disk-cache-dir=/dev/null",  # the profile keeps consent and language, and no picture
    "--no-first-run",
    "--no-default-browser-check",
    "--noerrdialogs",
    "--disable-session-crashed-bubble",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-extensions",
    "--disable-pinch",
    "--overscroll-history-navigation=0",
    "--no-pings",
    "--password-store=basic",  # else it may ask for the keyring's password
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=Translate,MediaRouter,OptimizationHints,AutofillServerCommunication,"
    "CertificateTransparencyComponentUpdater,InterestFeedContentSuggestions",
    "--ozone-platform-hint=auto",
)
"""Source: the list of Chromium's switches, peter.sh/experiments/chromium-command-line-switches.
Seen with strace and Debian's Chromium: it talks to the page alone (a datagram socket is pointed at
a public address to learn whether there is a route there; nothing is sent)."""


def find_browser(choice: str, environ: Mapping[str, str]) -> str | None:
    """Returns the Chromium to be started, or None for none.

    Args:
        choice: ``auto``, ``none`` or a path; see `KioskOptions.browser`.
        environ: where the display is looked for.

    Raises:
        UsageError: the path is no program.
    """
    if choice == "none":
        return None
    if choice != "auto":
        found = shutil.which(choice)
        if found is None:
            raise UsageError(f"kiosk.browser: {choice} is no program; name a Chromium, or none")
        return found
    if not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        return None
    return next(filter(None, map(shutil.which, _NAMES)), None)


def pin_of(certificate: Path) -> str | None:
    """Returns the pin of a certificate's key, by which the browser knows it; None where unreadable.

    A certificate of one's own is known to no authority; the browser on this computer is told to
    take this one and no other. Source: RFC 5280, 4.1 (place of the key); RFC 7469, 2.4 (its pin).
    """
    try:
        der = ssl.PEM_cert_to_DER_cert(_first_certificate(certificate.read_text("ascii")))
        outer, _ = _content(der, 0)
        at = _content(der, outer)[0]
        if der[at] == 0xA0:  # the version, which old ones lack
            at = _content(der, at)[1]
        for _ in range(5):  # serial number, signature, issuer, validity, subject
            at = _content(der, at)[1]
        key = der[at : _content(der, at)[1]]
    except (OSError, ValueError, IndexError):
        return None
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


def _first_certificate(pem: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return pem[pem.index(begin) : pem.index(end) + len(end)]


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Returns where the contents of the element at `at` begin and end. Source: X.690, 8.1.3."""
    length, begin = der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(der[begin : begin + count], "big")
        begin += count
    if begin + length > len(der):
        raise ValueError("cut short")
    return begin, begin + length


@final
@dataclass(frozen=True, slots=True)
class BrowserPolicy:
    """When a browser is ended, and when it is opened again; seconds and bytes.

    Attributes:
        arrive_s: how long its page may take to come in: after that, the one-time code is worth
            nothing.
        gone_s: how long its page may then be silent: one that lost its line tries again within 15.
        end_s: how long it may take to end; then it is killed.
        most_bytes: what its processes may hold of memory between them. Chromium grew by .2 MB a
            minute here (scripts/bench/kiosk_faults.py); a page is to stand for months.
        weigh_s: how often its memory is looked at: a page that runs wild takes minutes to fill
            1 GB.
        first_wait_s: before it is opened again; doubles each time.
        longest_wait_s: doubling ends here.
        healthy_s: of a living page, after which the next wait is the first again: two longest
            waits.
    """

    arrive_s: float = 60.0
    gone_s: float = 30.0
    end_s: float = _END_S
    most_bytes: int = 1 << 30
    weigh_s: float = 60.0
    first_wait_s: float = _FIRST_WAIT_S
    longest_wait_s: float = _LONGEST_WAIT_S
    healthy_s: float = 60.0


@final
class Browser:
    """One browser window that is opened again when it ends, or when its page does not live.

    A Chromium whose page has crashed, or was refused, lives on and shows that to everybody. So its
    process proves nothing: the page has to come in within a minute, and must never be silent for
    half a minute, or the browser is ended and opened again. So it is when it has grown too large.

    Use: while `due` is true, get an address with a fresh one-time code, then `open` it; say `seen`
    whenever the page gives a sign of life, and `excuse` while it has nobody to give it to.

    Args:
        program: the Chromium.
        profile: a folder of its own; made with mode 0700 where it is missing.
        policy: see there.
        on_notice: gets sentences for the user.
    """

    def __init__(
        self,
        program: str,
        profile: Path,
        *,
        policy: BrowserPolicy | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self._program, self._profile = program, profile
        self._policy = policy or BrowserPolicy()
        self._notice = on_notice or (lambda _: None)
        self._process: Child | None = None
        self._reaper = Reaper()
        self._open_at_s = self._opened_s = 0.0
        self._seen_s: float | None = None
        self._silent_since_s = 0.0
        self._given_up: tuple[float, str] | None = None  # since when, and why
        self._weighed_s = 0.0
        self._backoff = Backoff(self._policy.first_wait_s, self._policy.longest_wait_s)
        self._said_root = False

    @property
    def pid(self) -> int | None:
        """Process id, or None where none runs."""
        return None if self._process is None else self._process.pid

    @property
    def due(self) -> bool:
        """Whether it is to be opened now."""
        return self._process is None and time.monotonic() >= self._open_at_s

    def command(self, address: str, *, as_root: bool, pin: str | None = None) -> list[str]:
        """Returns the command line; `address` holds a one-time code, never the token."""
        host = address.partition("//")[2].partition("/")[0].rpartition(":")[0].strip("[]")
        flags = [
            *_FLAGS,
            f"--user-data-dir={self._profile}",
            # Whatever it may want from the network besides the page, it does not find.
            f"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {host}",
        ]
        if pin is not None:
            flags.append(f"--ignore-certificate-errors-spki-list={pin}")
        if as_root:
            flags.append("--no-sandbox")
        return [self._program, *flags, f"--app={address}"]

    def open(self, address: str, *, pin: str | None = None) -> None:
        """Opens the window; a failure counts like a browser that ended at once.

        Args:
            address: of the page, with a fresh one-time code.
            pin: of the certificate that the server has now; see `pin_of`.
        """
        as_root = os.geteuid() == 0
        if as_root and not self._said_root:
            self._said_root = True
            self._notice("the browser runs as root, without its sandbox; use an ordinary user")
        self._opened_s = self._silent_since_s = self._weighed_s = time.monotonic()
        self._seen_s = self._given_up = None
        try:
            self._make_profile()
            self._process = start_module(
                f"{__package__}.browser",
                *self.command(address, as_root=as_root, pin=pin),
                new_session=True,  # so that all of its processes can be ended together
            )
        except OSError as error:
            self._lost(f"cannot be started ({error.strerror})")

    def seen(self) -> None:
        """Says that its page has given a sign of life."""
        self._seen_s = self._silent_since_s = time.monotonic()

    def excuse(self) -> None:
        """Says that its page cannot give a sign of life just now."""
        self._silent_since_s = time.monotonic()

    def poll(self) -> None:
        """Notices when it has ended, and ends it when that must be; call it often.

        It waits for nothing, but for a browser that it has to kill: a second at most.
        """
        self._reaper.poll()
        process, now_s = self._process, time.monotonic()
        if process is None:
            return
        code = process.poll()
        if self._given_up is not None:
            since_s, why = self._given_up
            if code is not None or now_s - since_s > self._policy.end_s:
                self._kill_rest()
                self._reaper.kill(process)
                self._process = None
                self._lost(why)
        elif code is not None:
            self._kill_rest()
            self._process = None
            self._lost(f"ended with code {code}")
        else:
            complaint = self._complaint(process.pid, now_s)
            if complaint is not None:
                self._given_up = now_s, complaint
                process.terminate()

    def _complaint(self, pid: int, now_s: float) -> str | None:
        """Returns why it must not go on, or None."""
        policy = self._policy
        longest_s = policy.arrive_s if self._seen_s is None else policy.gone_s
        if now_s - self._silent_since_s > longest_s:
            return f"showed no page for {longest_s:g} s"
        if now_s - self._weighed_s > policy.weigh_s:
            self._weighed_s = now_s
            if held_bytes(pid) > policy.most_bytes:
                return f"grew beyond {policy.most_bytes >> 20} MB"
        return None

    def end(self) -> None:
        """Closes the window; takes some seconds at most."""
        process, self._open_at_s = self._process, float("inf")
        if process is None:
            return
        process.terminate()
        process.wait(self._policy.end_s)
        self._kill_rest()
        self._reaper.kill(process)
        self._process = None

    def _kill_rest(self) -> None:
        assert self._process is not None  # callers hold one
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _lost(self, how: str) -> None:
        if self._seen_s is not None and self._seen_s - self._opened_s >= self._policy.healthy_s:
            self._backoff.reset()
        self._notice(f"the browser {how}; opening it again in {self._backoff.wait_s:g} s")
        self._open_at_s = time.monotonic() + self._backoff.take()

    def _make_profile(self) -> None:
        self._profile.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._profile.chmod(0o700)
        for name in ("SingletonLock", "SingletonSocket", "SingletonCookie"):
            # One that was killed leaves them; a new one might think that it still runs.
            (self._profile / name).unlink(missing_ok=True)


def held_bytes(group: int) -> int:
    """Returns the anonymous memory of all processes of a group, in bytes.

    Files and memory shared with others are left out: they would count once a process. A process
    that goes meanwhile counts nothing. Source: proc(5), /proc/pid/stat (pgrp) and statm.
    """
    pages = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            if int(fields.rpartition(")")[2].split()[2]) == group:
                _, resident, shared, *_ = (folder / "statm").read_text(encoding="ascii").split()
                pages += int(resident) - int(shared)
        except (OSError, ValueError, IndexError):
            continue
    return pages * resource.getpagesize()


@final
class Screen:
    """Switches the display with the user's own commands.

    It does not wait for them, but for one that it has to kill: a second at most. To switch on is
    tried until it was done, to switch off once: a display that stays on harms nobody.

    Args:
        off, on: commands as lists, run without a shell; empty: none.
        on_notice: gets sentences for the user.
        timeout_s: a command that takes longer is killed.
        first_wait_s: before a command that failed is run again; doubles each time.
    """

    def __init__(
        self,
        off: Sequence[str],
        on: Sequence[str],
        *,
        on_notice: Callable[[str], None] | None = None,
        timeout_s: float = _SCREEN_S,
        first_wait_s: float = _FIRST_WAIT_S,
    ) -> None:
        self._off, self._on = list(off), list(on)
        self._notice = on_notice or (lambda _: None)
        self._timeout_s = timeout_s
        self._asleep: bool | None = None
        self._done = False
        self._again_s = float("inf")
        self._backoff = Backoff(first_wait_s, _LONGEST_WAIT_S)
        self._said = ""
        self._process: Child | None = None
        self._reaper = Reaper()
        self._began_s = 0.0

    def turn(self, *, asleep: bool) -> None:
        """Switches the display off or on, if that was not the last request.

        The first request counts in any case: who was here before may have left the display off.
        """
        if asleep == self._asleep:
            return
        self._asleep = asleep
        self._backoff.reset()
        self._run()

    def _run(self) -> None:
        self._stop()  # the newer request counts
        command = self._off if self._asleep else self._on
        self._done = not command
        if not command:
            return
        self._began_s = time.monotonic()
        try:
            self._process = start_program(command)
        except OSError as error:
            self._failed(f"{command[0]} cannot be run ({error.strerror}); see kiosk.screen_off/on")

    def poll(self) -> None:
        """Looks after a command that runs, or failed; call it several times a second."""
        self._reaper.poll()
        now_s = time.monotonic()
        if self._process is None:
            if now_s >= self._again_s:
                self._run()
            return
        code = self._process.poll()
        if code is None and now_s - self._began_s > self._timeout_s:
            self._stop()
            self._failed(f"the display's command did not end within {self._timeout_s:g} s")
        elif code is not None:
            self._process = None
            self._done = code == 0
            if code:
                self._failed(f"the display's command ended with code {code}")
            else:
                self._said = ""

    def _failed(self, text: str) -> None:
        if text != self._said:  # once, however often it is tried
            self._said = text
            self._notice(text)
        if not self._asleep:
            self._again_s = time.monotonic() + self._backoff.take()

    def end(self) -> None:
        """Leaves the display switched on, if it was ever switched; takes some seconds at most."""
        if self._asleep is None:
            return
        if self._asleep:
            self.turn(asleep=False)
        elif not self._done and self._process is None:
            self._run()
        deadline_s = time.monotonic() + min(_END_S, self._timeout_s)
        while self._process is not None and time.monotonic() < deadline_s:
            self.poll()
            time.sleep(0.02)
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        self._again_s = float("inf")
        if process is not None:
            self._reaper.kill(process)


def main(arguments: list[str]) -> int:
    """Becomes the browser named first; it then ends with whoever started this process."""
    harden(parent_death_signal=True)
    os.nice(NICENESS)
    os.execvp(arguments[0], [*arguments, *_window(os.environ)])  # noqa: S606  # no shell is the point


def _window(environ: Mapping[str, str]) -> list[str]:
    """Returns flags for a window that covers the screen.

    A window manager, or Wayland, sees to that by itself; a bare X server has neither.
    """
    if environ.get("WAYLAND_DISPLAY") or not environ.get("DISPLAY"):
        return []
    size_wh = find_screen_wh()
    if size_wh is None:
        return []
    return ["--window-position=0,0", f"--window-size={size_wh[0]},{size_wh[1]}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
