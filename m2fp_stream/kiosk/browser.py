"""The browser on the wall, and the display's switch.

As a program, ``python -P -m m2fp_stream.kiosk.browser CHROMIUM FLAGS...`` becomes that browser, as
large as the screen, which then ends together with whoever started it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, final

from ..core.errors import UsageError
from ..privacy.hardening import harden
from ..sinks.x11 import find_screen_wh
from .keeper import environment

__all__ = ["Browser", "Screen", "find_browser", "main", "pin_of"]

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")

_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0
_HEALTHY_S: Final = 60.0
_END_S: Final = 3.0

_SCREEN_S: Final = 10.0
"""How long a command that switches the display may take."""

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
class Browser:
    """One browser window that is opened again when it ends.

    Use: while `due` is true, get an address with a fresh one-time code, then `open` it.

    Args:
        program: the Chromium.
        profile: a folder of its own; made with mode 0700 where it is missing.
        pin: of the server's certificate; see `pin_of`.
        on_notice: gets sentences for the user.
    """

    def __init__(
        self,
        program: str,
        profile: Path,
        *,
        pin: str | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self._program, self._profile, self._pin = program, profile, pin
        self._notice = on_notice or (lambda _: None)
        self._process: subprocess.Popen[bytes] | None = None
        self._open_at_s = self._opened_s = 0.0
        self._wait_s = _FIRST_WAIT_S
        self._said_root = False

    @property
    def pid(self) -> int | None:
        """Process id, or None where none runs."""
        return None if self._process is None else self._process.pid

    @property
    def due(self) -> bool:
        """Whether it is to be opened now."""
        return self._process is None and time.monotonic() >= self._open_at_s

    def command(self, address: str, *, as_root: bool) -> list[str]:
        """Returns the command line; `address` holds a one-time code, never the token."""
        host = address.partition("//")[2].partition("/")[0].rpartition(":")[0].strip("[]")
        flags = [
            *_FLAGS,
            f"--user-data-dir={self._profile}",
            # Whatever it may want from the network besides the page, it does not find.
            f"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {host}",
        ]
        if self._pin is not None:
            flags.append(f"--ignore-certificate-errors-spki-list={self._pin}")
        if as_root:
            flags.append("--no-sandbox")
        return [self._program, *flags, f"--app={address}"]

    def open(self, address: str) -> None:
        """Opens the window; a failure counts like a browser that ended at once."""
        as_root = os.geteuid() == 0
        if as_root and not self._said_root:
            self._said_root = True
            self._notice("the browser runs as root, without its sandbox; use an ordinary user")
        self._opened_s = time.monotonic()
        try:
            self._make_profile()
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", f"{__package__}.browser"),
                    *self.command(address, as_root=as_root),
                ],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that all of its processes can be ended together
            )
        except OSError as error:
            self._lost(f"cannot be started ({error.strerror})")

    def tend(self) -> None:
        """Notices when it has ended; call it several times a second."""
        if self._process is None:
            return
        code = self._process.poll()
        if code is not None:
            self._kill_rest()
            self._process = None
            self._lost(f"ended with code {code}")

    def end(self) -> None:
        """Closes the window."""
        process, self._open_at_s = self._process, float("inf")
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        self._kill_rest()
        process.wait()
        self._process = None

    def _kill_rest(self) -> None:
        assert self._process is not None  # callers hold one
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _lost(self, how: str) -> None:
        if time.monotonic() - self._opened_s >= _HEALTHY_S:
            self._wait_s = _FIRST_WAIT_S
        self._open_at_s = time.monotonic() + self._wait_s
        self._notice(f"the browser {how}; opening it again in {self._wait_s:g} s")
        self._wait_s = min(_LONGEST_WAIT_S, self._wait_s * 2)

    def _make_profile(self) -> None:
        self._profile.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._profile.chmod(0o700)
        for name in ("SingletonLock", "SingletonSocket", "SingletonCookie"):
            # One that was killed leaves them; a new one might think that it still runs.
            (self._profile / name).unlink(missing_ok=True)


@final
class Screen:
    """Switches the display with the user's own commands; never waits for them.

    Args:
        off, on: commands as lists, run without a shell; empty: none.
        on_notice: gets sentences for the user.
        timeout_s: a command that takes longer is killed.
    """

    def __init__(
        self,
        off: Sequence[str],
        on: Sequence[str],
        *,
        on_notice: Callable[[str], None] | None = None,
        timeout_s: float = _SCREEN_S,
    ) -> None:
        self._off, self._on = list(off), list(on)
        self._notice = on_notice or (lambda _: None)
        self._timeout_s = timeout_s
        self._asleep = False
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = 0.0

    def turn(self, *, asleep: bool) -> None:
        """Switches the display off or on, if it is not so already."""
        if asleep == self._asleep:
            return
        self._asleep = asleep
        self._stop()  # the newer wish counts
        command = self._off if asleep else self._on
        if not command:
            return
        self._began_s = time.monotonic()
        try:
            self._process = subprocess.Popen(
                command,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            self._notice(f"{command[0]} cannot be run ({error.strerror}); see kiosk.screen_off/on")

    def tend(self) -> None:
        """Looks after a command that runs; call it several times a second."""
        if self._process is None:
            return
        code = self._process.poll()
        if code is None and time.monotonic() - self._began_s > self._timeout_s:
            self._stop()
            self._notice(f"the display's command did not end within {self._timeout_s:g} s")
        elif code is not None:
            self._process = None
            if code:
                self._notice(f"the display's command ended with code {code}")

    def end(self) -> None:
        """Leaves the display switched on."""
        self.turn(asleep=False)
        deadline_s = time.monotonic() + min(_END_S, self._timeout_s)
        while self._process is not None and time.monotonic() < deadline_s:
            self.tend()
            time.sleep(0.02)
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()


def main(arguments: list[str]) -> int:
    """Becomes the browser named first; it then ends with whoever started this process."""
    harden(parent_death_signal=True)
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
