"""What the kiosk's own process decides: what ends it, what it waits for, what it tells whom."""

from __future__ import annotations

import itertools
import json
import os
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
from m2fp_stream.kiosk import media
from m2fp_stream.kiosk.child import explain
from m2fp_stream.kiosk.keeper import Keeper, Patience
from m2fp_stream.kiosk.supervisor import _LASTING, Supervisor
from m2fp_stream.sinks.page import PageEnd
from m2fp_stream.sinks.page_link import PageMemory, make_memory

PATIENCE_S = 30.0
TOKEN = "a-token-of-my-own-0123456789"


def settings(**sections: dict[str, object]) -> Settings:
    overrides: dict[str, object] = {"page.port": 0, "page.token": TOKEN, "kiosk.browser": "none"}
    for section, fields in sections.items():
        overrides |= {f"{section}.{name}": value for name, value in fields.items()}
    return load_settings(None, {}, overrides)


def child(*acts: str, **job: Any) -> Keeper:
    """A keeper of `tests.kiosk_child` in the place of a real one."""
    starts = itertools.count()
    return Keeper(
        "the camera process",
        "tests.kiosk_child",
        job=lambda: {"acts": list(acts), "start": next(starts), **job},
        patience=Patience(first_wait_s=0.05),
        lasting=_LASTING,
    )


Make = Callable[..., Supervisor]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes a supervisor whose media process is another one and whose server only beats."""
    made: list[tuple[Supervisor, list[Keeper]]] = []

    def one(*acts: str, job: dict[str, Any] | None = None, **sections: Any) -> Supervisor:
        supervisor = Supervisor(settings(**sections), environ={})
        supervisor.media, supervisor.server = child(*acts, **(job or {})), child("beat")
        made.append((supervisor, [supervisor.media, supervisor.server]))
        return supervisor

    yield one
    for supervisor, keepers in made:
        for keeper in keepers:
            keeper.ask_to_end()
        for keeper in keepers:
            keeper.end(time.monotonic() + 2)
        supervisor.close()


def step_until(supervisor: Supervisor, condition: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s, "waited in vain"
        supervisor.step()
        time.sleep(0.02)


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


def test_what_people_wished_is_handed_to_the_next_media_process_and_nonsense_is_not() -> None:
    supervisor = Supervisor(settings(), environ={})
    try:
        assert supervisor.media._job()["wish"] is None
        supervisor._from_media({"kind": "wish", "level": "frame", "silhouette": True})
        for wish in (
            {"level": "nothing", "silhouette": False},
            {"level": "parts", "silhouette": "no"},
            {"level": ["parts"], "silhouette": False},
        ):
            supervisor._from_media({"kind": "wish", **wish})
        assert supervisor.media._job()["wish"] == {"level": "frame", "silhouette": True}
    finally:
        supervisor.close()


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
