"""The browser on the wall, the display's switch, and the addresses they get."""

from __future__ import annotations

import base64
import datetime
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from m2fp_stream.core.errors import UsageError
from m2fp_stream.kiosk.browser import (
    Browser,
    BrowserPolicy,
    Screen,
    find_browser,
    held_bytes,
    pin_of,
)
from m2fp_stream.kiosk.supervisor import address
from m2fp_stream.web.options import PageOptions
from tests.kit.wait import wait_until

CODE = "http://127.0.0.1:8765/enter?key=a-code"


def program(folder: Path, text: str, name: str = "chromium") -> str:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_auto_wants_a_display_and_a_chromium(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_browser("auto", {"DISPLAY": ":0"}) is None
    chrome = program(tmp_path, "", "google-chrome")
    assert find_browser("auto", {"DISPLAY": ":0"}) == chrome
    chromium = program(tmp_path, "", "chromium")
    assert find_browser("auto", {"WAYLAND_DISPLAY": "wayland-0"}) == chromium
    assert find_browser("auto", {}) is None
    assert find_browser("auto", {"DISPLAY": ""}) is None
    assert find_browser("none", {"DISPLAY": ":0"}) is None


def test_a_path_is_taken_with_or_without_a_display_and_has_to_be_a_program(tmp_path: Path) -> None:
    mine = program(tmp_path, "", "mine")
    assert find_browser(mine, {}) == mine
    with pytest.raises(UsageError, match="is no program"):
        find_browser(str(tmp_path / "missing"), {})


def test_the_command_is_closed_to_everything_but_the_page(tmp_path: Path) -> None:
    browser = Browser("/usr/bin/chromium", tmp_path / "profile")
    command = browser.command(CODE, as_root=False, pin="PIN=")
    assert command[0] == "/usr/bin/chromium"
    assert command[-1] == f"--app={CODE}"
    assert "--no-sandbox" not in command
    assert "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1" in command
    assert "--ignore-certificate-errors-spki-list=PIN=" in command
    assert f"--user-data-dir={tmp_path / 'profile'}" in command
    for flag in (
        *("--kiosk", "--no-first-run", "--no-default-browser-check"),
        *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
    ):
        assert flag in command
    assert any("Translate" in flag for flag in command if flag.startswith("--disable-features"))
    assert not any(flag.startswith("--remote-debugging") for flag in command)
    as_root = browser.command("https://[::1]:8765/enter?key=x", as_root=True)
    assert "--no-sandbox" in as_root
    assert "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE ::1" in as_root


NOTES = """
import json, os, sys, time
with open({notes!r}, "a") as file:
    file.write(json.dumps([sys.argv[1:], dict(os.environ)]) + chr(10))
{then}
"""


def test_it_is_opened_again_with_a_new_code_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2FP_STREAM_PAGE__TOKEN", "a-secret-of-sixteen")
    notes, notices = tmp_path / "notes", list[str]()
    chromium = program(tmp_path, NOTES.format(notes=str(notes), then="sys.exit(7)"))
    browser = Browser(chromium, tmp_path / "profile", on_notice=notices.append)
    for number in range(2):
        wait_until(lambda: browser.due)
        browser.open(f"http://127.0.0.1:1/enter?key=code-{number}")
        assert not browser.due

        def ended() -> bool:
            browser.poll()
            return browser.pid is None

        wait_until(ended)
    browser.end()
    assert not browser.due, "after the end nothing is opened"
    lines = notes.read_text().splitlines()
    assert ["code-0" in lines[0], "code-1" in lines[1]] == [True, True]
    assert "a-secret" not in notes.read_text()
    assert (tmp_path / "profile").stat().st_mode & 0o777 == 0o700
    waits = [line for line in notices if "ended with code 7; opening it again in" in line]
    assert [line.rpartition(" in ")[2] for line in waits] == ["1 s", "2 s"]
    assert any("as root" in line for line in notices) == (os.geteuid() == 0)


class Wall:
    """A browser whose page lives as the test says, in quicker time."""

    def __init__(self, folder: Path, then: str, **limits: Any) -> None:
        quick: dict[str, Any] = {"arrive_s": 1.5, "gone_s": 1.0, "end_s": 0.5, "first_wait_s": 0.2}
        policy = BrowserPolicy(**(quick | limits))
        self.notes, self.notices = folder / "notes", list[str]()
        chromium = program(folder, NOTES.format(notes=str(self.notes), then=then))
        self.browser = Browser(
            chromium, folder / "profile", policy=policy, on_notice=self.notices.append
        )

    def open(self) -> psutil.Process:
        wait_until(lambda: self.browser.due)
        self.browser.open(CODE)
        return psutil.Process(self.browser.pid)

    def until(self, condition: Callable[[], object], *, seen: bool = False) -> None:
        def tended() -> object:
            if seen:
                self.browser.seen()
            self.browser.poll()
            return condition()

        wait_until(tended)

    def said(self, text: str) -> list[str]:
        return [line for line in self.notices if text in line]


@pytest.mark.parametrize("deaf", [False, True])
def test_it_is_opened_again_when_its_page_never_comes_or_dies(tmp_path: Path, deaf: bool) -> None:
    then = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deaf else ""
    wall = Wall(tmp_path, then + "time.sleep(60)")
    first = wall.open()
    wait_until(wall.notes.exists)
    wall.until(lambda: wall.browser.pid is None)
    assert wall.said("showed no page for 1.5 s; opening it again in 0.2 s")
    wait_until(lambda: not first.is_running())
    second = wall.open()
    end_s = time.monotonic() + 2
    wall.until(lambda: time.monotonic() > end_s, seen=True)
    assert wall.browser.pid == second.pid, "it lived"
    wall.until(lambda: wall.browser.pid is None)
    assert wall.said("showed no page for 1 s; opening it again in 0.4 s")
    wall.browser.end()


def test_it_is_opened_again_when_it_has_grown_too_large(tmp_path: Path) -> None:
    grow = tmp_path / "grow"
    hold = f"""HOLD = '''
import os, time
held = [bytes(b"1") * (60 << 20)]
while not os.path.exists({str(grow)!r}):
    time.sleep(0.02)
held.append(bytes(b"1") * (60 << 20))
time.sleep(60)
'''
import subprocess
subprocess.Popen([{sys.executable!r}, "-c", HOLD])
time.sleep(60)
"""
    wall = Wall(tmp_path, hold, weigh_s=0.2, most_bytes=110 << 20)
    wall.open()
    pid = wall.browser.pid
    assert pid is not None
    wall.until(lambda: held_bytes(pid) > 60 << 20, seen=True)
    end_s = time.monotonic() + 0.6
    wall.until(lambda: time.monotonic() > end_s, seen=True)
    assert wall.browser.pid == pid, "it may hold as much"
    grow.touch()
    wall.until(lambda: wall.said("grew beyond 110 MB; opening it again"), seen=True)
    wall.until(lambda: not held_bytes(pid))  # it takes the kernel a moment
    wall.browser.end()


def test_a_page_that_nobody_listens_to_is_not_dead(tmp_path: Path) -> None:
    wall = Wall(tmp_path, "time.sleep(60)")
    first = wall.open()
    covering_first = min(19, psutil.Process().nice() + 5)
    wall.until(lambda: first.nice() == covering_first, seen=True)
    wall.browser.seen()
    end_s = time.monotonic() + 1.5
    while time.monotonic() < end_s:
        wall.browser.excuse()
        wall.browser.poll()
        time.sleep(0.02)
    assert wall.browser.pid == first.pid
    assert not wall.said("showed no page")
    wall.until(lambda: wall.said("showed no page for 1 s"))
    wall.browser.end()


def test_a_browser_that_does_not_end_even_when_killed_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that hangs in the kernel: the signals are there, and nothing happens."""
    wall = Wall(tmp_path, "time.sleep(60)")
    asks: tuple[Callable[[], None], ...] = (
        lambda: wall.until(lambda: wall.browser.pid is None),
        wall.browser.end,
    )
    for ask in asks:
        hanging = wall.open()
        process = wall.browser._process
        assert process is not None
        for name in ("kill", "terminate"):
            monkeypatch.setattr(process, name, lambda: None)
        monkeypatch.setattr(wall.browser, "_kill_rest", lambda: None)
        ask()
        assert wall.browser.pid is None
        assert hanging.is_running()
        hanging.kill()
        wall.until(lambda: not wall.browser._reaper._left)


def test_its_end_takes_all_of_its_processes(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    chromium = program(
        tmp_path,
        f"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open({str(pids)!r}, "a").write(f"{{os.getpid()}} ")
    time.sleep(60)
open({str(pids)!r}, "a").write(f"{{os.getpid()}} ")
time.sleep(60)
""",
    )
    browser = Browser(chromium, tmp_path / "profile")
    browser.open(CODE)
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    processes = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    browser.end()
    wait_until(lambda: not any(one.is_running() and one.status() != "zombie" for one in processes))


def test_a_browser_that_is_no_program_is_reported_and_tried_again(tmp_path: Path) -> None:
    notices: list[str] = []
    (tmp_path / "file").write_text("no folder")
    browser = Browser("/bin/true", tmp_path / "file" / "profile", on_notice=notices.append)
    browser.open(CODE)
    assert "cannot be started" in notices[-1]
    assert browser.pid is None
    browser.end()


def certificate(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mirror.local")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_the_pin_is_that_of_the_certificates_key(tmp_path: Path, kind: str) -> None:
    key = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "ec"
        else rsa.generate_private_key(65537, 2048)
    )
    path = tmp_path / "mirror.pem"
    path.write_bytes(
        b"made by hand\n" + certificate(key).public_bytes(serialization.Encoding.PEM) * 2
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public)
    assert pin_of(path) == base64.b64encode(digest.finalize()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate_has_no_pin(tmp_path: Path, text: str) -> None:
    (tmp_path / "mirror.pem").write_text(text)
    assert pin_of(tmp_path / "mirror.pem") is None
    assert pin_of(tmp_path / "missing.pem") is None


@pytest.mark.parametrize(
    ("page", "there", "here"),
    [
        ({}, "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ({"host": "localhost"}, "http://localhost:8000", "http://localhost:8000"),
        ({"host": "::1"}, "http://[::1]:8000", "http://[::1]:8000"),
        ({"names": ("mirror.local",)}, "http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        (
            {"host": "0.0.0.0", "certificate": "c", "key": "k", "names": ("mirror.local",)},
            "https://mirror.local:8000",
            "https://localhost:8000",
        ),
        (
            {"host": "192.0.2.5", "certificate": "c", "key": "k"},
            "https://192.0.2.5:8000",
            "https://192.0.2.5:8000",
        ),
    ],
)
def test_addresses_for_people_and_for_the_browser_here(
    page: dict[str, object], there: str, here: str
) -> None:
    options = PageOptions.model_validate(page)
    assert address(options, 8000) == there
    assert address(options, 8000, here=True) == here


def test_the_display_is_switched_when_the_page_sleeps_and_wakes(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    # A shell is up in a moment on a busy machine, too: the last command is waited for seconds.
    command = tmp_path / "switch"
    command.write_text(f"#!/bin/sh\nprintf %s \"$1\" >>'{notes}'\n", encoding="utf-8")
    command.chmod(0o700)
    screen = Screen([str(command), "off; rm -rf $HOME"], [str(command), "on"])
    screen.end()
    assert not notes.exists(), "nobody has switched anything"
    screen.turn(asleep=False)
    wait_until(lambda: notes.exists() and notes.read_text() == "on")  # it may have been left off
    for asleep in (False, True, True):
        screen.turn(asleep=asleep)
    wait_until(lambda: notes.read_text() == "onoff; rm -rf $HOME")
    screen.poll()
    screen.end()
    assert notes.read_text() == "onoff; rm -rf $HOMEon", "it is left switched on"
    screen.end()
    assert notes.read_text() == "onoff; rm -rf $HOMEon", "it is on"


def test_to_switch_on_is_tried_until_it_was_done(tmp_path: Path) -> None:
    notes, notices = tmp_path / "notes", list[str]()
    notes.write_text("")
    text = f"""
file = open({str(notes)!r}, "r+")
count = len(file.read())
file.write("x")
file.close()
raise SystemExit(3 if count < 2 else 0)
"""
    command = program(tmp_path, text)
    screen = Screen([], [command], on_notice=notices.append, first_wait_s=0.3)
    screen.turn(asleep=False)
    began_s = time.monotonic()

    def tries() -> int:
        screen.poll()
        return len(notes.read_text())

    wait_until(lambda: tries() == 3)
    assert time.monotonic() - began_s >= 0.9, "0.3 s, then 0.6 s"
    wait_until(lambda: tries() and screen._done)
    end_s = time.monotonic() + 1.5
    wait_until(lambda: tries() and time.monotonic() > end_s)
    assert tries() == 3
    assert len(notices) == 1, "told once"
    screen.end()
    assert tries() == 3


def test_to_switch_off_is_tried_once() -> None:
    notices: list[str] = []
    screen = Screen(["/nowhere/off"], [], on_notice=notices.append, first_wait_s=0.1)
    for _ in range(2):
        screen.turn(asleep=True)
        end_s = time.monotonic() + 0.5
        while time.monotonic() < end_s:
            screen.poll()
            time.sleep(0.02)
    assert screen._again_s == float("inf")
    assert len(notices) == 1
    screen.end()


def test_a_display_without_commands_or_with_bad_ones_disturbs_nobody(tmp_path: Path) -> None:
    notices: list[str] = []
    Screen([], []).turn(asleep=True)
    screen = Screen(
        ["/nowhere/off"], [program(tmp_path, "raise SystemExit(3)")], on_notice=notices.append
    )
    screen.turn(asleep=True)
    assert "/nowhere/off cannot be run" in notices[-1]
    screen.turn(asleep=False)

    def said() -> bool:
        screen.poll()
        return "ended with code 3" in notices[-1]

    wait_until(said)
    screen.end()


def test_a_display_command_that_hangs_is_killed(tmp_path: Path) -> None:
    notices: list[str] = []
    pid = tmp_path / "pid"
    hangs = program(
        tmp_path,
        f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)",
    )
    screen = Screen([hangs], [], on_notice=notices.append, timeout_s=1.0)
    screen.turn(asleep=True)
    wait_until(lambda: pid.exists() and pid.read_text())
    process = psutil.Process(int(pid.read_text()))

    def said() -> bool:
        screen.poll()
        return bool(notices)

    wait_until(said)
    assert "did not end within 1 s" in notices[0]
    assert not process.is_running()
