"""The kiosk from end to end: the real program, its processes killed and stopped one by one."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
import pytest

from tests.kit.browser import executable
from tests.kit.film import (
    LOOKS_LIKE_HER,
    PATIENT,
    Bgr,
    likeness,
    pictures,
    run,
    shows_room,
    write_config,
)
from tests.kit.kiosk import RealKiosk, environ_of, has_ended, kill
from tests.kit.wait import wait_until
from tests.kit.xvfb import screen, screenshot

pytestmark = pytest.mark.paced

TOKEN = "a-token-of-my-own-0123456789"

Config = Callable[..., Path]


@pytest.fixture
def config(film: Path, tmp_path: Path) -> Config:
    """Writes a configuration with the film as the camera."""

    def write(**sections: Any) -> Path:
        given: dict[str, Any] = {
            "capture": {"input": str(film), "loop": True},
            "live": PATIENT,
            **sections,
        }
        return write_config(tmp_path / "kiosk.yaml", **given)

    return write


def test_pictures_requests_and_stills_and_its_media_process_killed(
    config: Config, portrait: Bgr, tmp_path: Path
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    path = config(
        page={"uploads": True},
        record={"enabled": True, "folder": str(folder), "preset": "ultrafast"},
    )
    with RealKiosk(path, "--stats", tmp_path / "stats.json") as kiosk, kiosk.viewer() as viewer:
        viewer.wait_for(lambda one: not one.covered and shows_room(one.picture, portrait))
        wait_until(lambda: kiosk.status().get("state") == "live")
        status = kiosk.status()
        assert (status["level"], status["floor"], status["stored"]) == ("parts", "parts", True)
        assert status["watching"] == 1
        wait_until((tmp_path / "stats.json").exists)  # written now and then

        # Nothing that processes show to others has the token.
        for process in kiosk.processes():
            assert kiosk.token not in " ".join(process.cmdline())
            assert kiosk.token not in environ_of(process.pid)

        # A still picture, as the command line would make it.
        done, upload = cv2.imencode(".png", portrait)
        assert done
        answer = httpx.post(
            kiosk.url + "/api/anonymize",
            content=upload.tobytes(),
            headers={**kiosk.bearer, "Origin": kiosk.url, "Content-Type": "image/png"},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        covered = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
        assert covered is not None
        assert likeness(np.asarray(covered, np.uint8), portrait) < LOOKS_LIKE_HER

        # A request holds, also over the death of the process that has to keep it.
        kiosk.request_privacy("frame", silhouette=True)
        requested_s = viewer.wait_for(lambda one: one.covered, time.monotonic()).at_s
        first = kiosk.pid_of("media")
        kill(first)
        wait_until(lambda: kiosk.status().get("state") in ("starting", "card"))
        wait_until(lambda: first not in kiosk.pids_of("media") and kiosk.pids_of("media"))
        killed_s = time.monotonic()
        wait_until(lambda: len(viewer.since(killed_s)) >= 40)
        assert all(one.covered for one in viewer.since(requested_s))
        status = kiosk.status()
        assert (status["level"], status["silhouette"]) == ("frame", True)

        # It is taken back, and the picture is there again.
        kiosk.request_privacy("parts")
        viewer.wait_for(lambda one: not one.covered and shows_room(one.picture, portrait), killed_s)
        assert max(likeness(one.picture, portrait) for one in viewer.seen) < LOOKS_LIKE_HER
        processes = kiosk.processes()
        assert kiosk.end() == 130, kiosk.errors
        assert all(has_ended(one) for one in processes)
    assert "Traceback" not in kiosk.errors
    assert "the camera process: was ended by SIGKILL" in kiosk.errors
    # The second recording was completed by the end; the first one died with its process.
    shown = [picture for segment in folder.glob("*.mp4") for picture in pictures(segment)]
    assert shown
    assert max(likeness(picture, portrait) for picture in shown) < LOOKS_LIKE_HER


def test_its_server_killed_comes_back_where_it_was_and_knows_its_browsers(
    config: Config, tmp_path: Path
) -> None:
    with RealKiosk(config()) as kiosk:
        entered = httpx.get(kiosk.address)
        assert entered.status_code == 303
        cookies = dict(entered.cookies.items())
        with kiosk.viewer() as viewer:
            viewer.live()
            url, token, first = kiosk.url, kiosk.token, kiosk.pid_of("server")
            media = kiosk.pid_of("media")
            kill(first)
            with pytest.raises(OSError, match="in use"):  # nobody can take its place
                socket.create_server(("127.0.0.1", int(url.rpartition(":")[2])))
            killed_s = time.monotonic()
            viewer.live(killed_s + 0.2)
            assert kiosk.pid_of("server") != first
            assert kiosk.pid_of("media") == media, "the camera ran on"
        assert (kiosk.url, kiosk.token) == (url, token)
        assert sum("/enter?key=" in line for line in kiosk.lines) == 1, "printed once"
        again = httpx.get(url + "/api/status", cookies=cookies)
        assert again.status_code == 200
        assert httpx.get(url + "/enter?key=a-wrong-key").status_code == 403

        # Both at once: what people requested is known to the kiosk itself.
        kiosk.request_privacy("person", silhouette=True)
        wait_until(lambda: kiosk.status()["level"] == "person")
        kept = tmp_path / "cache" / "m2fp-stream" / "kiosk-privacy-0.json"
        wait_until(lambda: kept.exists() and json.loads(kept.read_text())["level"] == "person")
        both = [kiosk.pid_of("media"), kiosk.pid_of("server")]
        for pid in both:
            kill(pid)
        wait_until(lambda: not set(both) & {*kiosk.pids_of("media"), *kiosk.pids_of("server")})
        wait_until(lambda: kiosk.status().get("state") in ("live", "card"))
        status = kiosk.status()
        assert (status["level"], status["silhouette"]) == ("person", True)
        processes = kiosk.processes()
        assert kiosk.end(signal.SIGINT) == 130, kiosk.errors
        assert all(has_ended(one) for one in processes)
    assert "Traceback" not in kiosk.errors

    # What they requested outlives the kiosk itself.
    with RealKiosk(config()) as kiosk:
        wait_until(lambda: kiosk.status().get("state") in ("live", "card"))
        wait_until(lambda: kiosk.status().get("level") == "person")
        assert kiosk.status()["silhouette"]

        # To end the camera's process is not to end the kiosk.
        first = kiosk.pid_of("media")
        kill(first, signal.SIGTERM)
        wait_until(lambda: first not in kiosk.pids_of("media") and kiosk.pids_of("media"))
        wait_until(lambda: kiosk.status().get("state") in ("live", "card"))
    assert "the camera process: was ended by SIGTERM; starting it again" in kiosk.errors


@pytest.mark.parametrize("when", ["as it starts", "at its first picture"])
def test_its_media_process_stopped_is_replaced_and_nothing_frozen_is_shown(
    config: Config, when: str
) -> None:
    with RealKiosk(config()) as kiosk, kiosk.viewer() as viewer:
        if when == "at its first picture":
            viewer.live()
        stopped = psutil.Process(kiosk.pid_of("media"))
        stopped.suspend()
        wait_until(lambda: kiosk.status().get("state") == "starting")
        frozen_s = time.monotonic()
        wait_until(lambda: has_ended(stopped))
        assert viewer.since(frozen_s) == []
        viewer.live(frozen_s)
        wait_until(lambda: kiosk.status().get("state") == "live")
    assert "did not answer for 15 s" in kiosk.errors


@pytest.mark.slow
def test_its_server_stopped_is_replaced(config: Config) -> None:
    with RealKiosk(config()) as kiosk, kiosk.viewer() as viewer:
        viewer.live()
        stopped = psutil.Process(kiosk.pid_of("server"))
        stopped.suspend()
        wait_until(lambda: has_ended(stopped))
        viewer.live(time.monotonic())
    assert "did not answer for 10 s" in kiosk.errors


def test_the_death_of_the_kiosk_itself_ends_everything(config: Config) -> None:
    with RealKiosk(config(page={"uploads": True})) as kiosk:
        httpx.post(
            kiosk.url + "/api/parse",
            content=b"\x89PNG\r\n\x1a\n nonsense",
            headers={**kiosk.bearer, "Origin": kiosk.url},
            timeout=60,
        )
        kiosk.pid_of("still")
        kiosk.pid_of("parser")
        processes = kiosk.processes()
        assert len(processes) >= 5
        kiosk.end(signal.SIGKILL)
        wait_until(lambda: all(has_ended(one) for one in processes), 10)


def test_a_source_that_is_away_at_the_start_is_waited_for_behind_the_card(
    config: Config, film: Path, tmp_path: Path
) -> None:
    later = tmp_path / "later.mp4"
    with RealKiosk(config(capture={"input": str(later), "loop": True})) as kiosk:
        wait_until(lambda: "the camera process: " in kiosk.errors)
        assert kiosk.status()["state"] == "starting"
        later.write_bytes(film.read_bytes())
        with kiosk.viewer() as viewer:
            viewer.live()


@pytest.mark.slow
def test_a_film_that_ends_ends_the_kiosk(config: Config, film: Path) -> None:
    with RealKiosk(config(capture={"input": str(film)})) as kiosk:
        assert kiosk.wait() == 0, kiosk.errors
    assert "frames in" in kiosk.lines[-1]


def test_a_request_cannot_go_below_what_is_configured(config: Config) -> None:
    with RealKiosk(config(), "--hide", "person", "--seconds", "60") as kiosk:
        wait_until(lambda: kiosk.status().get("floor") == "person")
        assert kiosk.request_privacy("parts")["level"] == "person"
        assert kiosk.request_privacy("frame")["level"] == "frame"
        assert kiosk.request_privacy("person")["level"] == "person"


def test_an_address_that_is_taken_is_one_line_and_its_code(config: Config, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(*("kiosk", "--no-browser", "--config", config(), "--port", port), cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(lines) == 1, done.stderr
    assert f"127.0.0.1:{port}: cannot listen there" in lines[0]
    assert "Traceback" not in done.stderr


def test_weights_that_are_missing_end_it_with_that_error(config: Config, tmp_path: Path) -> None:
    path = config(m2fp={"enabled": True, "model_dir": str(tmp_path / "nowhere")})
    done = run("kiosk", "--no-browser", "--port", 0, "--config", path, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "nowhere" in done.stderr


@pytest.mark.slow
def test_chromium_opens_full_screen_by_itself_and_again_when_it_ends(
    config: Config, tmp_path: Path
) -> None:
    executable()  # skips where there is none
    with (
        screen() as name,
        RealKiosk(
            config(kiosk={"consent": False, "clock": False}),
            browser=True,
            variables={"DISPLAY": name, "XDG_CACHE_HOME": str(tmp_path)},
        ) as kiosk,
    ):
        wait_until(lambda: kiosk.status().get("watching") == 1)
        # The film, not the black page, from one edge of the screen to the other.
        wait_until(lambda: float(screenshot(name)[300:600, :100].std()) > 10)
        wait_until(lambda: float(screenshot(name)[300:750, -100:].std()) > 10)
        assert (tmp_path / "m2fp-stream").is_dir()
        for process in psutil.Process(kiosk.pid).children(recursive=True):
            assert kiosk.token not in " ".join(process.cmdline())
        first = browser_of(kiosk)
        assert [word for word in first.cmdline() if word.startswith("--app=http://127.0.0.1:")]
        first.kill()
        wait_until(lambda: kiosk.status().get("watching") == 0)
        wait_until(lambda: kiosk.status().get("watching") == 1)
        assert "opening it again" in kiosk.errors

        # A page that crashes leaves a browser that lives and shows nothing of ours.
        second = browser_of(kiosk)
        for page in second.children(recursive=True):
            if "--type=renderer" in page.cmdline():
                page.kill()
        wait_until(lambda: kiosk.status().get("watching") == 0)
        assert not has_ended(second)
        wait_until(lambda: kiosk.status().get("watching") == 1)
        assert "showed no page for 30 s" in kiosk.errors
        assert has_ended(second)
        # A server that comes back is no reason to open it again.
        third = browser_of(kiosk)
        kill(kiosk.pid_of("server"))
        wait_until(lambda: kiosk.status().get("watching") == 1)
        time.sleep(35)
        assert browser_of(kiosk) == third
        assert kiosk.status().get("watching") == 1
        processes = kiosk.processes()
        assert kiosk.end() == 130
        wait_until(lambda: all(has_ended(one) for one in processes), 10)


@pytest.mark.slow
def test_chromium_takes_the_certificate_of_its_own_mirror_and_no_other(
    config: Config, tmp_path: Path
) -> None:
    """Made by ourselves, for another name: without its pin, Chromium shows a warning."""
    executable()  # skips where there is none
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, which makes the certificate")
    certificate, key = tmp_path / "mirror.pem", tmp_path / "mirror.key"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30"
    subprocess.run(
        [
            "openssl",
            *words.split(),
            "-subj",
            "/CN=mirror.local",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    key.chmod(0o600)
    with (
        screen() as name,
        RealKiosk(
            config(page={"names": ["mirror.local"]}, kiosk={"consent": False}),
            *("--host", "0.0.0.0", "--certificate", certificate, "--key", key),
            browser=True,
            variables={"DISPLAY": name, "XDG_CACHE_HOME": str(tmp_path)},
        ) as kiosk,
    ):
        assert kiosk.url.startswith("https://mirror.local:")
        wait_until(lambda: kiosk.status().get("watching") == 1)


def browser_of(kiosk: RealKiosk) -> psutil.Process:
    for child in psutil.Process(kiosk.pid).children():
        if any(word.startswith("--app=") for word in child.cmdline()):
            return child
    raise AssertionError("no browser")
