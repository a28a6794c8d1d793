"""What the kiosk's own process decides: what ends it, what it waits for, what it tells whom."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from m2fp_stream import cli
from m2fp_stream.config import Settings, load_settings
from m2fp_stream.core.errors import (
    ConfigError,
    M2FPStreamError,
    ModelError,
    PromiseError,
    SinkError,
    SourceError,
)
from m2fp_stream.core.safe import CoverLevel
from m2fp_stream.kiosk import media
from m2fp_stream.kiosk.browser import BrowserPolicy
from m2fp_stream.kiosk.child import explain
from m2fp_stream.kiosk.privacy_request import PrivacyRequestFile
from m2fp_stream.kiosk.supervised import RestartPolicy, SupervisedProcess
from m2fp_stream.kiosk.supervisor import _LASTING, Supervisor
from m2fp_stream.sinks.page import PageEnd
from m2fp_stream.sinks.page_link import PageMemory, make_memory
from m2fp_stream.sources.devices import CameraDevice, CameraId, find_camera
from tests.kit.wait import PATIENCE_S, wait_until

TOKEN = "a-token-of-my-own-0123456789"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What the kiosk keeps lies here, and not where a kiosk of this user keeps its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "m2fp-stream"


def settings(**sections: dict[str, object]) -> Settings:
    overrides: dict[str, object] = {"page.port": 0, "page.token": TOKEN, "kiosk.browser": "none"}
    for section, fields in sections.items():
        overrides |= {f"{section}.{name}": value for name, value in fields.items()}
    return load_settings(None, {}, overrides)


def child(*acts: str, **job: Any) -> SupervisedProcess:
    """A process of `tests.kit.kiosk_child` in the place of a real one."""
    starts = itertools.count()
    return SupervisedProcess(
        "the camera process",
        "tests.kit.kiosk_child",
        job=lambda: {"acts": list(acts), "start": next(starts), **job},
        policy=RestartPolicy(first_wait_s=0.05),
        lasting=_LASTING,
    )


Make = Callable[..., Supervisor]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes a supervisor whose media process is another one and whose server only beats."""
    made: list[tuple[Supervisor, list[SupervisedProcess]]] = []

    def one(
        *acts: str,
        job: dict[str, Any] | None = None,
        server: str = "beat",
        notices: list[str] | None = None,
        browser: BrowserPolicy | None = None,
        **sections: Any,
    ) -> Supervisor:
        say = None if notices is None else notices.append
        supervisor = Supervisor(settings(**sections), environ={}, on_notice=say, browser=browser)
        supervisor.media, supervisor.server = child(*acts, **(job or {})), child(server)
        made.append((supervisor, [supervisor.media, supervisor.server]))
        return supervisor

    yield one
    for supervisor, processes in made:
        for process in processes:
            process.ask_to_end()
        for process in processes:
            process.end(time.monotonic() + 2)
        supervisor.close()


def step_until(supervisor: Supervisor, condition: Callable[[], object]) -> None:
    wait_until(condition, meanwhile=supervisor.step)


@pytest.mark.parametrize(
    ("code", "kind"), [(2, ConfigError), (4, ModelError), (5, SinkError), (6, PromiseError)]
)
def test_what_another_try_does_not_mend_ends_a_kiosk_that_never_worked(
    make: Make, code: int, kind: type[M2FPStreamError]
) -> None:
    supervisor = make("error", job={"exit_code": code})
    with pytest.raises(kind, match="this cannot work"):
        supervisor.run(PATIENCE_S)
    assert kind.exit_code == code


@pytest.mark.parametrize("code", [1, 3])
def test_a_source_that_is_not_there_yet_is_tried_again(make: Make, code: int) -> None:
    supervisor = make("error", "error", "beat", job={"exit_code": code})
    step_until(supervisor, lambda: supervisor.media.up)
    assert supervisor.media.starts == 3


def test_a_kiosk_that_has_worked_is_not_ended_by_any_error(make: Make) -> None:
    supervisor = make("crash", "error", "error", "beat", job={"exit_code": 4})
    step_until(supervisor, lambda: supervisor.media.starts == 4 and supervisor.media.up)


def test_it_ends_with_its_source_and_after_its_time(make: Make) -> None:
    make("ended").run()
    began_s = time.monotonic()
    make("beat").run(0.5)
    assert time.monotonic() - began_s >= 0.5


def test_the_server_gets_the_token_and_nothing_of_the_source(make: Make) -> None:
    secrets: dict[str, dict[str, object]] = {
        "capture": {"input": "rtsp://me:camera-secret@192.0.2.7/stream"},
        "push": {"enabled": True, "url": "rtsp://me:push-secret@192.0.2.8/live"},
    }
    for uploads in (False, True):
        supervisor = Supervisor(settings(page={"uploads": uploads}, **secrets), environ={})
        try:
            server = json.dumps(supervisor.server._job())
            media = json.dumps(supervisor.media._job())
        finally:
            supervisor.close()
        assert TOKEN in server
        assert "secret" not in server
        assert ('"policy"' in server) == uploads
        assert TOKEN not in media
        assert "camera-secret" in media


def test_what_people_requested_is_handed_to_the_next_media_process_and_nonsense_is_not() -> None:
    supervisor = Supervisor(settings(), environ={})
    try:
        assert supervisor.media._job()["privacy"] is None
        supervisor._from_media({"kind": "privacy", "level": "frame", "silhouette": True})
        for request in (
            {"level": "nothing", "silhouette": False},
            {"level": "parts", "silhouette": "no"},
            {"level": ["parts"], "silhouette": False},
        ):
            supervisor._from_media({"kind": "privacy", **request})
        assert supervisor.media._job()["privacy"] == {"level": "frame", "silhouette": True}
    finally:
        supervisor.close()


# --- the browser ---


def test_a_browser_whose_page_is_dead_is_opened_again_with_a_fresh_code(
    make: Make, tmp_path: Path
) -> None:
    notes, notices = tmp_path / "notes", list[str]()
    chromium = tmp_path / "chromium"
    chromium.write_text(
        f'#!/bin/sh\nfor last; do :; done\necho "$last" >> {notes}\nexec sleep 60\n'
    )
    chromium.chmod(0o755)
    supervisor = make(
        "beat",
        server="page",
        notices=notices,
        browser=BrowserPolicy(arrive_s=2.5, gone_s=2.0),
        kiosk={"browser": str(chromium)},
    )

    def browser_pid() -> int | None:
        return None if supervisor._browser is None else supervisor._browser.pid

    def opened() -> list[str]:
        return notes.read_text().splitlines() if notes.exists() else []

    def say(wall: str | None, *, here: bool) -> None:
        supervisor.server.send({"kind": "wall", "wall": wall, "here": here})

    def step_for(seconds: float) -> None:
        end_s = time.monotonic() + seconds
        step_until(supervisor, lambda: time.monotonic() > end_s)

    # Nobody comes in: its code was refused, or it stands before a certificate it does not know.
    step_until(supervisor, lambda: len(opened()) == 1)
    step_until(supervisor, lambda: len(opened()) == 2)
    assert any("showed no page for 2.5 s" in line for line in notices)
    assert len(set(opened())) == 2, "a fresh code"
    # It comes in, and stays as long as it lives, also when the server is another one.
    say("session", here=True)
    step_until(supervisor, lambda: supervisor._wall == "session")
    step_for(3)
    wall, pid = browser_pid(), supervisor.server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    step_until(supervisor, lambda: supervisor.server.pid is None)
    supervisor.server._start_at_s = time.monotonic() + 3
    step_until(supervisor, lambda: supervisor.server.starts == 2 and supervisor.server.up)
    say("session", here=True)
    step_until(supervisor, lambda: supervisor._wall == "session")
    assert (browser_pid(), len(opened())) == (wall, 2)
    # Then its renderer crashes.
    say("session", here=False)
    step_until(supervisor, lambda: len(opened()) == 3)
    assert any("showed no page for 2 s" in line for line in notices)
    assert len(set(opened())) == 3


def test_the_next_server_is_told_which_session_is_the_walls() -> None:
    supervisor = Supervisor(settings(), environ={})
    try:
        assert supervisor.server._job()["wall"] is None
        beat = {"kind": "beat", "asleep": False, "here": True}
        supervisor._from_server({**beat, "wall": "session"})
        supervisor._from_server({**beat, "wall": 7})
        assert supervisor.server._job()["wall"] == "session"
    finally:
        supervisor.close()


def test_a_new_certificate_is_pinned_with_the_server_that_has_read_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pins = iter(["old", "new"])
    monkeypatch.setattr("m2fp_stream.kiosk.supervisor.pin_of", lambda _: next(pins))
    supervisor = Supervisor(settings(page={"certificate": "c.pem", "key": "k.pem"}), environ={})
    try:
        for pin in ("old", "new"):
            supervisor._from_server({"kind": "ready"})
            assert supervisor._pin == pin
    finally:
        supervisor.close()


# --- what outlives its processes ---


def test_nobody_takes_the_port_while_no_server_runs() -> None:
    supervisor = Supervisor(settings(), environ={})
    port = supervisor._port
    try:
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
        with pytest.raises(SinkError, match="cannot listen there"):
            Supervisor(settings(page={"port": port}), environ={})
    finally:
        supervisor.close()
    socket.create_server(("127.0.0.1", port)).close()


def test_a_request_for_more_outlives_the_kiosk_until_it_is_taken_back(cache: Path) -> None:
    file = cache / "kiosk-privacy-0.json"

    def kiosk(*requests: tuple[str, bool], **sections: Any) -> dict[str, Any] | None:
        supervisor = Supervisor(settings(**sections), environ={})
        try:
            request: dict[str, Any] | None = supervisor.media._job()["privacy"]
            for level, silhouette in requests:
                supervisor._from_media(
                    {"kind": "privacy", "level": level, "silhouette": silhouette}
                )
        finally:
            supervisor.close()
        return request

    assert kiosk() is None
    assert kiosk(("person", True), ("frame", False)) is None
    assert json.loads(file.read_text()) == {"version": 1, "level": "frame", "silhouette": False}
    assert file.stat().st_mode & 0o777 == 0o600
    assert kiosk() == {"level": "frame", "silhouette": False}
    assert kiosk(("person", True)) == {"level": "frame", "silhouette": False}
    assert kiosk() == {"level": "person", "silhouette": True}
    assert kiosk(policy={"hide": "person"}) is None, "that much is configured now"
    assert kiosk(("parts", True)) == {"level": "person", "silhouette": True}
    assert not file.exists()
    assert kiosk(("person", False), policy={"hide": "person"}) is None
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 1, "level": "nothing", "silhouette": false}',
        '{"version": 1, "level": "frame", "silhouette": 0}',
        '{"version": 2, "level": "frame", "silhouette": false}',
        '{"version": 1, "level": "frame", "silhouette": false, "who": "somebody"}',
        "[" * 900,
        None,
    ],
)
def test_what_is_no_request_is_left_out_and_told(tmp_path: Path, text: str | None) -> None:
    path, notices = tmp_path / "request.json", list[str]()
    if text is None:
        path.symlink_to(tmp_path / "other.json")
        good = '{"version": 1, "level": "frame", "silhouette": false}'
        (tmp_path / "other.json").write_text(good)
    else:
        path.write_text(text)
    file = PrivacyRequestFile(path, CoverLevel.PARTS, on_notice=notices.append)
    assert file.load() is None
    assert len(notices) == 1
    file.keep({"level": "person", "silhouette": False})
    again = PrivacyRequestFile(path, CoverLevel.PARTS, on_notice=notices.append)
    assert again.load() == {"level": "person", "silhouette": False}
    assert len(notices) == 1


def test_a_request_that_cannot_be_kept_is_told_once(tmp_path: Path) -> None:
    notices: list[str] = []
    folder = tmp_path / "folder"
    folder.write_text("a file")
    file = PrivacyRequestFile(folder / "request.json", CoverLevel.PARTS, on_notice=notices.append)
    for level in ("person", "frame", "parts"):
        file.keep({"level": level, "silhouette": False})
    assert len(notices) == 1
    assert "forgotten" in notices[0]
    folder.unlink()
    file.keep({"level": "frame", "silhouette": False})
    assert (folder / "request.json").exists()


def camera(number: int, name: str, serial: str = "", path: str = "") -> CameraDevice:
    identity = CameraId("046d", "0825", serial, path or f"pci-{number}", name)
    return CameraDevice(identity, number, Path(f"/dev/video{number}"))


def test_the_camera_stays_the_same_over_the_death_of_the_media_process() -> None:
    mine, other = camera(0, "mine", "A1"), camera(2, "other", "B2")
    one = settings(capture={"input": "camera:0"})
    pinned, name = media.pinned(one, [mine, other])
    assert name == str(mine.id)
    supervisor = Supervisor(one, environ={})
    try:
        assert supervisor.media._job()["settings"]["capture"]["input"] == "camera:0"
        for said in (name, None):
            supervisor._from_media({"kind": "beat", "facts": {}, "camera": said})
        later = supervisor.media._job()["settings"]["capture"]["input"]
    finally:
        supervisor.close()
    assert later == pinned.capture.input
    # It comes back under another number, and another one has taken its own.
    text = later.partition(":")[2]
    mine_now, other_now = camera(2, "mine", "A1"), camera(0, "other", "B2")
    assert find_camera(text, [other_now, mine_now]) == mine_now
    with pytest.raises(SourceError, match="is not connected"):
        find_camera(text, [other_now])


def test_a_camera_is_named_by_what_tells_it_from_others() -> None:
    twins = [camera(0, "one", "A1", "left"), camera(1, "two", "A1", "right")]
    one = settings(capture={"input": "camera:1"})
    assert media.pinned(one, twins)[1] == twins[1].id.by_port
    alike = [camera(0, "one", "", "same"), camera(1, "two", "", "same")]
    assert media.pinned(one, alike) == (one, None)
    with pytest.raises(SourceError, match="is not connected"):
        media.pinned(settings(capture={"input": "camera:7"}), twins)
    for source in ("synthetic", "rtsp://192.0.2.7/a", "camera.mp4"):
        other = settings(capture={"input": source})
        assert media.pinned(other, twins) == (other, None)


def test_a_media_process_whose_page_gets_nothing_does_not_count_as_alive() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptor = make_memory()
    with ours, theirs:
        page = PageEnd(ours, PageMemory(descriptor, writable=True))
        assert not media._works(page)
        page.shown_s = time.monotonic()
        assert media._works(page)
        page.shown_s -= 6
        assert not media._works(page)
    os.close(descriptor)


def test_an_error_is_told_without_what_it_may_quote() -> None:
    assert explain(SourceError("rtsp://me:secret@192.0.2.7/a: away")) == (
        "rtsp://***@192.0.2.7/a: away",
        3,
    )
    try:
        raise ValueError([[1, 2, 3]])
    except ValueError as error:
        text, code = explain(error)
    assert (text.partition(" at ")[0], code) == ("internal error: ValueError", 1)
    assert "1, 2" not in text
    assert explain(ModuleNotFoundError("No module", name="fastapi"))[1] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rotate", "45"], "--rotate"),
        (["--host", "0.0.0.0"], "TLS"),
        (["--host", "mirror.local"], "--host"),
        (["--certificate", "c.pem"], "name both"),
        (["--language", "fr"], "--language"),
        (["--port", "eighty"], "--port"),
        (["--camera", "0", "--source", "synthetic"], "not allowed with"),
        (["--seconds", "0"], "seconds above 0"),
        (["film.mp4"], "unexpected argument"),
    ],
)
def test_options_that_make_no_sense_are_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["kiosk", "--no-browser", *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert says in lines[0]


def test_the_command_line_reaches_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Settings] = []

    def run_kiosk(settings: Settings, **_: object) -> dict[str, Any]:
        got.append(settings)
        return {}

    monkeypatch.setattr("m2fp_stream.kiosk.supervisor.run_kiosk", run_kiosk)
    words = "--camera 2 --hide person --effect solid --port 9000 --rotate 90 --language zh"
    words += " --host 192.0.2.5 --certificate c.pem --key k.pem --uploads --no-browser"
    words += " --mode low_latency"
    assert cli.main(["kiosk", *words.split()]) == 0
    (one,) = got
    assert one.capture.input == "camera:2"
    assert (one.policy.hide, one.policy.effect) == ("person", "solid")
    assert (one.page.host, one.page.port) == ("192.0.2.5", 9000)
    assert (one.page.certificate, one.page.key, one.page.uploads) == ("c.pem", "k.pem", True)
    assert (one.kiosk.rotation, one.kiosk.language, one.kiosk.browser) == (90, "zh", "none")
    assert one.live.alignment == "low_latency"
    assert threading.current_thread() is threading.main_thread()


def test_numbers_that_cannot_be_written_end_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "nowhere" / "stats.json"

    def run_kiosk(_: Settings, **options: Any) -> dict[str, Any]:
        for number in range(4):
            options["on_facts"]({"number": number})
        return {}

    monkeypatch.setattr("m2fp_stream.kiosk.supervisor.run_kiosk", run_kiosk)
    assert cli.main(["kiosk", "--stats", str(file)]) == 0
    assert capsys.readouterr().err.count("cannot be written") == 1
    file.parent.mkdir()
    assert cli.main(["kiosk", "--stats", str(file)]) == 0
    kept = json.loads(file.read_text())
    assert kept["number"] == 3
    assert set(kept) == {"time", "health", "problems", "number"}
    assert list(file.parent.iterdir()) == [file]


def test_numbers_are_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever supervises must not wait for a disk every second."""

    def fsync(_: int) -> None:
        raise AssertionError("it was waited for")

    def run_kiosk(_: Settings, **options: Any) -> dict[str, Any]:
        options["on_facts"]({"number": 1})
        return {}

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("m2fp_stream.kiosk.supervisor.run_kiosk", run_kiosk)
    assert cli.main(["kiosk", "--stats", str(tmp_path / "stats.json")]) == 0
    assert (tmp_path / "stats.json").exists()


def test_the_address_is_printed_whole_and_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run_kiosk(_: Settings, **options: Any) -> dict[str, Any]:
        options["on_address"](f"http://127.0.0.1:8765/enter?key={TOKEN}")
        return {}

    monkeypatch.setattr("m2fp_stream.kiosk.supervisor.run_kiosk", run_kiosk)
    assert cli.main(["kiosk"]) == 0
    said = capsys.readouterr()
    assert said.err.count(f"http://127.0.0.1:8765/enter?key={TOKEN}") == 1
    assert said.out == ""
