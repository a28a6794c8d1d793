"""The module for MagicMirror, in the real MagicMirror and a real browser.

MagicMirror comes from the npm registry, once, into the user's cache (`tests/kit/npm.py`); the
page's server is the real one, and what it is fed was covered by the real program.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import httpx
import numpy as np
import psutil
import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.kit import npm
from tests.kit.browser import Watch, chromium, decoded, opened
from tests.kit.film import LOOKS_LIKE_HER, ROOT, Bgr, command, environment, likeness
from tests.kit.wait import wait_until
from tests.kit.web import TOKEN, Feeder, PageServer, jpeg

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.paced

MODULE: Final = ROOT / "integrations" / "MMM-M2FPStream"
VIEW_WH: Final = (448, 336)
LIVE: Final = ".m2fp-picture:not([hidden])"
CARD: Final = ".m2fp-card:not([hidden])"
OURS: Final = "MM.getModules().find((one) => one.name === 'MMM-M2FPStream')"
OTHER: Final = "MM.getModules().find((one) => one.name === 'clock')"
SCREENSHOT_VARIABLE: Final = "M2FP_STREAM_TEST_SCREENSHOT"
"""Names the file that gets the picture of the readme."""

slow = pytest.mark.slow


# -- without MagicMirror: what node_helper refuses -------------------------------------------------


def run_node(script: str, *arguments: str) -> Any:
    """Runs a script with the module's folder as its own; returns what it printed, as JSON."""
    line = [npm.node(), "-e", script, "--", *arguments]
    done = subprocess.run(line, cwd=MODULE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SETTINGS = """
const { readSettings, SettingsError } = require("./lib/settings");
const [config, root] = process.argv.slice(-2);
let answer;
try {
  const { url, token } = readSettings(JSON.parse(config), root);
  answer = { url: url.href, token };
} catch (error) {
  if (!(error instanceof SettingsError)) throw error;
  answer = { error: error.message };
}
console.log(JSON.stringify(answer));
"""


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n", encoding="ascii")
    path.chmod(0o600)
    return path


def settings(config: dict[str, Any], tmp_path: Path) -> Any:
    (tmp_path / "MagicMirror" / "config").mkdir(parents=True, exist_ok=True)
    return run_node(SETTINGS, json.dumps(config), str(tmp_path / "MagicMirror"))


def test_a_token_file_and_the_usual_address_are_enough(token_file: Path, tmp_path: Path) -> None:
    answer = settings({"tokenFile": str(token_file)}, tmp_path)
    assert answer == {"url": "http://127.0.0.1:8765/", "token": TOKEN}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"token": TOKEN}, "token must not be in config.js"),
        ({"url": "http://192.168.1.2:8765"}, "needs https"),
        ({"url": "http://127.0.0.1.example.com"}, "needs https"),
        ({"url": "ftp://127.0.0.1"}, "not a plain http address"),
        ({"url": "http://me:secret@127.0.0.1"}, "not a plain http address"),
        ({"url": "nowhere"}, "not an address"),
        ({"tokenFile": None}, "tokenFile is missing"),
        ({"tokenFile": "token"}, "whole path"),
        ({"tokenFile": "/nowhere/token"}, "cannot be read"),
        ({"tokenFile": "/dev/zero"}, "not a small file"),
        ({"certificate": "/nowhere/c.pem"}, "certificate cannot be read"),
        ({"names": "mirror.local"}, "names is not a list"),
    ],
)
def test_a_setting_that_would_give_the_token_away_is_refused(
    change: dict[str, Any], sentence: str, token_file: Path, tmp_path: Path
) -> None:
    error = settings({"tokenFile": str(token_file), **change}, tmp_path)["error"]
    assert sentence in error
    assert TOKEN not in error
    assert str(tmp_path) not in error
    assert "nowhere/" not in error


def test_a_token_file_for_everybody_is_refused(token_file: Path, tmp_path: Path) -> None:
    token_file.chmod(0o640)
    assert "read by others" in settings({"tokenFile": str(token_file)}, tmp_path)["error"]


@pytest.mark.parametrize("linked", [False, True])
def test_a_token_file_that_magicmirror_would_serve_is_refused(
    token_file: Path, tmp_path: Path, linked: bool
) -> None:
    served = tmp_path / "MagicMirror" / "config" / "token"
    served.parent.mkdir(parents=True)
    token_file.rename(served)
    if linked:
        token_file.symlink_to(served)
    name = token_file if linked else served
    assert "inside MagicMirror" in settings({"tokenFile": str(name)}, tmp_path)["error"]


MESSAGES = """
const { Messages } = require("./lib/websocket");
const [encoded, step] = process.argv.slice(-2);
const wire = Buffer.from(encoded, "base64");
const messages = new Messages();
const got = [];
let failed = false;
try {
  for (let at = 0; at < wire.length; at += Number(step)) {
    for (const one of messages.push(wire.subarray(at, at + Number(step)))) {
      got.push([one.opcode, one.data.toString("base64")]);
    }
  }
} catch {
  failed = true;
}
console.log(JSON.stringify({ got, failed }));
"""


def wire(opcode: int, data: bytes, *, last: bool = True, reserved: int = 0) -> bytes:
    """One frame of RFC 6455, from a server."""
    head = bytes([(0x80 if last else 0) | reserved | opcode])
    if len(data) < 126:
        return head + bytes([len(data)]) + data
    if len(data) < 1 << 16:
        return head + bytes([126]) + len(data).to_bytes(2, "big") + data
    return head + bytes([127]) + len(data).to_bytes(8, "big") + data


def split(data: bytes, step: int) -> Any:
    return run_node(MESSAGES, base64.b64encode(data).decode(), str(step))


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, 1 << 20])
def test_messages_are_whole_however_they_arrive(step: int) -> None:
    large = bytes(range(256)) * (300 if step > 100 else 1)
    parts = wire(2, b"ab", last=False) + wire(9, b"?") + wire(0, b"cd")
    answer = split(wire(1, b"hello") + wire(2, large) + parts + wire(8, b""), step)
    assert not answer["failed"]
    got = [(opcode, base64.b64decode(data)) for opcode, data in answer["got"]]
    assert got == [(1, b"hello"), (2, large), (9, b"?"), (2, b"abcd"), (8, b"")]


@pytest.mark.parametrize(
    "data",
    [
        wire(0, b"nothing begun"),
        wire(2, b"", last=False) + wire(2, b"begun again"),
        wire(3, b"unknown"),
        wire(2, b"compressed", reserved=0x40),
        wire(9, b"in parts", last=False),
        b"\x82\x81mask!",
        b"\x82\x7f" + (1 << 40).to_bytes(8, "big"),
    ],
)
def test_a_wire_against_the_rules_is_given_up(data: bytes) -> None:
    assert split(data, 1 << 20) == {"got": [], "failed": True}


# -- the real MagicMirror --------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def lay(packages: Path, folder: Path) -> None:
    """Copies a folder of packages, by links where the file system can."""

    def link(source: str, target: str) -> str:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)
        return target

    shutil.copytree(packages, folder, symlinks=True, copy_function=link, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MagicMirror as its users have it, with the module in its folder."""
    version = "2.35.0" if npm.node_version() >= (22, 21, 1) else "2.30.0"
    cached = npm.installed(f"magicmirror@{version}") / "node_modules"
    root = tmp_path_factory.mktemp("mirror") / "MagicMirror"
    # Its users clone it: it is the top folder, and what it needs lies below it, as real folders.
    shutil.copytree(cached / "magicmirror", root, symlinks=True)
    lay(cached, root / "node_modules")
    for own in ("vendor", "fonts"):  # until 2.34 they have packages of their own
        if (root / own / "package.json").is_file():
            listed = json.loads((root / own / "package.json").read_text())["dependencies"]
            packages = [f"{name}@{wanted}" for name, wanted in sorted(listed.items())]
            lay(npm.installed(*packages) / "node_modules", root / own / "node_modules")
    shutil.copytree(MODULE, root / "modules" / MODULE.name)
    return root


class Mirror:
    """A running MagicMirror, and the port where it expects m2fp-stream."""

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, page_port: int, log: Path
    ) -> None:
        self.process, self.port, self.page_port, self.log = process, port, page_port, log
        self.url = f"http://localhost:{port}"
        self.helper = psutil.Process(process.pid)


@contextmanager
def mirror_at(
    installation: Path, folder: Path, *, language: str = "en", **config: Any
) -> Iterator[Mirror]:
    port, page_port = free_port(), free_port()
    token_file = folder / "token"
    token_file.write_text(TOKEN, encoding="ascii")
    token_file.chmod(0o600)
    given = {
        "url": f"http://127.0.0.1:{page_port}",
        "tokenFile": str(token_file),
        "width": "640px",
        **config,
    }
    everything = {
        "address": "localhost",
        "port": port,
        "basePath": "/",
        "ipWhitelist": ["127.0.0.1", "::ffff:127.0.0.1", "::1"],
        "language": language,
        "timeFormat": 24,
        "logLevel": ["INFO", "LOG", "WARN", "ERROR"],
        "modules": [
            {"module": "clock", "position": "top_left"},
            {"module": "MMM-M2FPStream", "position": "middle_center", "config": given},
        ],
    }
    (installation / "config").mkdir(exist_ok=True)
    for empty in ("config/custom.css", "css/custom.css"):  # where each version looks for it
        (installation / empty).touch()
    name = f"config/test-{port}.js"
    (installation / name).write_text(
        f"let config = {json.dumps(everything)};\n"
        'if (typeof module !== "undefined") { module.exports = config; }\n',
        encoding="utf-8",
    )
    log = folder / "magicmirror.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [npm.node(), "serveronly"],
            cwd=installation,
            env={**os.environ, "MM_CONFIG_FILE": name},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return httpx.get(f"http://localhost:{port}/", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, 60)
        yield Mirror(process, port, page_port, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@pytest.fixture(scope="module")
def mirror(installation: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    with mirror_at(installation, tmp_path_factory.mktemp("settings")) as one:
        yield one


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def covered(portrait: Bgr, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Pictures of a person as the real program covers them, swaying; 4:3."""
    folder = tmp_path_factory.mktemp("covered")
    cv2.imwrite(str(folder / "her.png"), portrait)
    out = folder / "covered.png"
    done = subprocess.run(
        command("anonymize", folder / "her.png", "-o", out),
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    picture = np.asarray(cv2.imread(str(out)), np.uint8)
    assert likeness(picture, portrait) < LOOKS_LIKE_HER
    width, height = VIEW_WH
    lefts = [32 + round(28 * np.sin(step * 2 * np.pi / 40)) for step in range(40)]
    views = [picture[10 : 10 + height, left : left + width] for left in lefts]
    return [jpeg(np.asarray(cv2.resize(view, None, fx=2, fy=2), np.uint8)) for view in views]


@pytest.fixture
def server(mirror: Mirror) -> Iterator[PageServer]:
    with PageServer(port=mirror.page_port) as one:
        one.media.hello(size_wh=[896, 672])
        one.media.facts()
        yield one


@contextmanager
def feeding(server: PageServer, pictures: list[bytes], **more: Any) -> Iterator[Feeder]:
    with Feeder(server.media, lambda number: pictures[number % len(pictures)], **more) as feeder:
        yield feeder


@contextmanager
def shown(browser: Browser, mirror: Mirror, complaint: str = "ERR_") -> Iterator[Page]:
    """The mirror's page, which asks nobody but MagicMirror, and has one `complaint` at most."""
    watch = Watch()
    with opened(browser, mirror.url, size_wh=(1280, 800), watch=watch) as page:
        page.wait_for_selector(".m2fp-stream")
        yield page
    assert not [line for line in watch.complaints if complaint not in line]
    assert watch.origins() == {f"localhost:{mirror.port}"}


def shot(page: Page) -> Bgr:
    """What a person sees of the module's picture."""
    return decoded(page.locator(".m2fp-stage").screenshot())


def watching(server: PageServer) -> int:
    return int(server.in_loop(server.hub.status)["watching"])


def expected(data: bytes) -> Bgr:
    return np.asarray(cv2.resize(decoded(data), (640, 480), interpolation=cv2.INTER_AREA), np.uint8)


def alike(one: Bgr, other: Bgr) -> float:
    """Correlation of two pictures of a size, at their middle, a few pixels' sway allowed."""
    middle = other[40:-40, 120:-120]
    return float(cv2.matchTemplate(one, middle, cv2.TM_CCOEFF_NORMED).max())


@slow
def test_the_picture_is_seen_mirrored_and_moves(
    browser: Browser, mirror: Mirror, server: PageServer, covered: list[bytes], portrait: Bgr
) -> None:
    with feeding(server, covered), shown(browser, mirror) as page:
        page.wait_for_selector(LIVE)
        first, target = shot(page), expected(covered[0])
        flipped = np.ascontiguousarray(target[:, ::-1])
        assert alike(first, flipped) > 0.9 > alike(first, target)
        wait_until(lambda: float(np.abs(shot(page).astype(int) - first).mean()) > 2)
        assert page.inner_text(".m2fp-line") == "Heads are covered · Nothing is stored"
        unflipped = np.ascontiguousarray(first[:, ::-1])
        as_taken = cv2.resize(unflipped, VIEW_WH, interpolation=cv2.INTER_AREA)
        assert likeness(np.asarray(as_taken, np.uint8), portrait) < LOOKS_LIKE_HER
        if SCREENSHOT_VARIABLE in os.environ:
            time.sleep(2)  # MagicMirror's own modules fade in
            page.screenshot(path=os.environ[SCREENSHOT_VARIABLE], type="jpeg", quality=82)


WATCH_CANVAS = """
() => {
  const module = MODULE;
  window.seen = { drawn: 0, cleared: 0 };
  const draw = module.draw, clear = module.clear;
  module.draw = function (bitmap) {
    draw.call(this, bitmap);
    window.seen.drawn = performance.now();
  };
  module.clear = function () {
    clear.call(this);
    if (window.seen.cleared < window.seen.drawn) window.seen.cleared = performance.now();
  };
}
""".replace("MODULE", OURS)


@slow
@pytest.mark.parametrize("how", ["frames stop", "server hangs", "server ends", "helper hangs"])
def test_the_card_comes_within_a_second_of_the_last_picture_and_goes_again(
    browser: Browser, mirror: Mirror, covered: list[bytes], how: str
) -> None:
    with shown(browser, mirror) as page:
        with PageServer(port=mirror.page_port) as server:
            server.media.hello()
            with feeding(server, covered):
                page.wait_for_selector(LIVE, timeout=30_000)
                page.evaluate(WATCH_CANVAS)
                page.wait_for_function("window.seen.drawn > 0")
                if how == "server hangs":
                    server.in_loop(lambda: time.sleep(2.5))
                elif how == "helper hangs":
                    mirror.helper.suspend()
                    time.sleep(2.5)
                    mirror.helper.resume()
                elif how == "server ends":
                    server.stop()
            page.wait_for_function("window.seen.cleared > 0")
            seen = page.evaluate("window.seen")
            if how in ("frames stop", "server ends"):
                page.wait_for_selector(CARD)
                assert seen["cleared"] - seen["drawn"] <= 1000
                pixels = (
                    "(() => { const c = document.querySelector('.m2fp-picture'); return c"
                    ".getContext('2d').getImageData(0, 0, c.width, c.height).data.every((v) => !v)"
                    "; })()"
                )
                assert page.evaluate(pixels), "the last picture is still in the canvas"
                assert page.inner_text(".m2fp-sentence")
        if how == "server ends":
            offline = "The camera program is not running"
            page.wait_for_function(
                f"document.querySelector('.m2fp-sentence').textContent === '{offline}'"
            )
            assert page.inner_text(".m2fp-line") == ""
        with PageServer(port=mirror.page_port) as again:
            again.media.hello()
            with feeding(again, covered):
                page.wait_for_selector(LIVE, timeout=30_000)


@slow
def test_covered_frames_are_told_in_words(
    browser: Browser, mirror: Mirror, server: PageServer, covered: list[bytes]
) -> None:
    with feeding(server, covered, level="frame", why="no_parse"), shown(browser, mirror) as page:
        page.wait_for_function("document.querySelector('.m2fp-sentence').textContent.length > 20")
        wait_until(lambda: watching(server) == 1)
        time.sleep(1)
        assert page.locator(LIVE).count() == 0


@slow
def test_a_hidden_module_pulls_nothing_and_comes_back(
    browser: Browser, mirror: Mirror, server: PageServer, covered: list[bytes]
) -> None:
    with feeding(server, covered), shown(browser, mirror) as page:
        page.wait_for_selector(LIVE)
        assert watching(server) == 1
        page.evaluate(f"{OURS}.hide(0)")
        wait_until(lambda: watching(server) == 0)
        page.evaluate(f"{OURS}.show(0)")
        page.wait_for_selector(LIVE)
        assert watching(server) == 1
    wait_until(lambda: watching(server) == 0)


NOTE_PRESENCE = """
() => {
  window.presence = [];
  const clock = MODULE;
  clock.notificationReceived = (name, payload) => {
    if (name === "USER_PRESENCE") window.presence.push(payload);
  };
}
""".replace("MODULE", OTHER)


@slow
def test_presence_is_told_to_other_modules_even_while_hidden(
    browser: Browser, mirror: Mirror, covered: list[bytes]
) -> None:
    number = 0

    def frame() -> None:
        nonlocal number
        number += 1
        server.media.frame(covered[number % len(covered)])

    def says(seconds_ago: float | None, heard: list[bool]) -> bool:
        server.media.facts(person_s_ago=seconds_ago)
        frame()
        return bool(page.evaluate("window.presence") == heard)

    kiosk = {"sleep_after_s": 1}
    with PageServer(port=mirror.page_port, kiosk=kiosk) as server, shown(browser, mirror) as page:
        server.media.hello()
        page.wait_for_function(f"typeof MM !== 'undefined' && {OURS} && {OURS}.everybody")
        page.evaluate(NOTE_PRESENCE)
        page.evaluate(f"{OURS}.person = null")
        wait_until(lambda: says(0.1, [True]))
        wait_until(lambda: says(1000.0, [True, False]))
        page.evaluate(f"{OURS}.hide(0)")
        wait_until(lambda: watching(server) == 0)
        wait_until(lambda: says(0.1, [True, False, True]))


@slow
def test_a_request_for_privacy_holds_at_once_and_reaches_the_camera(
    browser: Browser, mirror: Mirror, server: PageServer, covered: list[bytes]
) -> None:
    request = "MM.sendNotification('M2FP_PRIVACY', {}, " + OTHER + ")"
    with shown(browser, mirror, "M2FP_PRIVACY wants") as page:
        with feeding(server, covered):
            page.wait_for_selector(LIVE)
            # The server's answer cannot have come before this line of script ends.
            hidden = page.evaluate(
                f"(() => {{ {request.format('{level: `frame`}')};"
                " return document.querySelector('.m2fp-picture').hidden; })()"
            )
            assert hidden
            time.sleep(0.5)  # frames that are still as before keep coming, and are not shown
            assert page.locator(LIVE).count() == 0
        wait_until(lambda: server.media.requests()[-1:] == [("frame", "configured")])
        with feeding(server, covered):
            page.evaluate(request.format("{level: `person`, silhouette: true}"))
            page.wait_for_selector(LIVE)
        wait_until(lambda: server.media.requests()[-1:] == [("person", "silhouette")])
        page.evaluate(request.format("{level: `nothing`}"))
        page.evaluate(f"{OURS}.sendSocketNotification('PRIVACY', {{level: 'none'}})")
        time.sleep(0.5)
        # The server repeats a request until it is heard; no other one came.
        assert set(server.media.requests()) == {("frame", "configured"), ("person", "silhouette")}


@slow
def test_no_browser_gets_the_token(
    browser: Browser, mirror: Mirror, server: PageServer, covered: list[bytes]
) -> None:
    got: list[bytes] = []
    page = browser.new_page()

    def keep(response: Any) -> None:
        got.append(repr(response.all_headers()).encode() + response.url.encode())
        if response.ok and not response.url.endswith("/stream"):
            got.append(response.body())

    page.on("requestfinished", lambda request: keep(request.response()))
    page.on(
        "websocket",
        lambda one: one.on(
            "framereceived",
            lambda data: got.append(data.encode() if isinstance(data, str) else data),
        ),
    )
    with feeding(server, covered):
        page.goto(mirror.url)
        page.wait_for_selector(LIVE)
        for path in ("config", "env", "modules/MMM-M2FPStream/node_helper.js"):
            page.evaluate("(path) => fetch(path).then((answer) => answer.text())", path)
        page.evaluate(f"{OURS}.sendSocketNotification('CONFIG', {{}})")
        time.sleep(2)
        got.append(page.content().encode())
    page.close()
    everything = b"\n".join(got)
    assert b"tokenFile" in everything, "the search looks at nothing"
    assert b'"STATE"' in everything, "no message was seen"
    assert TOKEN.encode() not in everything
    assert base64.b64encode(TOKEN.encode()).rstrip(b"=")[:-2] not in everything
    assert TOKEN not in mirror.log.read_text()


@slow
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_gets_neither_picture_nor_presence(
    mirror: Mirror, server: PageServer, headers: dict[str, str]
) -> None:
    address = f"{mirror.url}/MMM-M2FPStream/stream"
    host = headers.get("Host", f"localhost:{mirror.port}")
    answer = httpx.get(address, headers={**headers, "Host": host}, timeout=10)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert "MMM-M2FPStream" in ask_socket(mirror, headers)["refused"]


@slow
def test_the_page_itself_gets_both_and_no_other_site_may_read_along(
    mirror: Mirror, server: PageServer, covered: list[bytes]
) -> None:
    address = f"{mirror.url}/MMM-M2FPStream/stream"
    ours = {"Origin": mirror.url, "Sec-Fetch-Site": "same-origin"}
    with feeding(server, covered), httpx.stream("GET", address, headers=ours) as answer:
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert b"image/jpeg" in next(answer.iter_raw())
    assert "refused" not in ask_socket(mirror, ours)


def ask_socket(mirror: Mirror, headers: dict[str, str]) -> dict[str, str]:
    """Joins the module's channel as a browser would (Engine.IO 4, Socket.IO 5)."""
    given = dict(headers)
    host = given.pop("Host", "localhost")
    origin = given.pop("Origin", None)
    with connect(
        f"ws://{host}:{mirror.port}/socket.io/?EIO=4&transport=websocket",
        sock=socket.create_connection(("localhost", mirror.port)),
        origin=None if origin is None else Origin(origin),
        additional_headers=given,
        proxy=None,
    ) as channel:
        assert str(channel.recv(10)).startswith("0")
        channel.send("40/MMM-M2FPStream,")
        answer = str(channel.recv(10))
        return {"refused": answer} if answer.startswith("44") else {"joined": answer}


@slow
def test_many_viewers_are_one_connection_and_one_who_does_not_read_is_let_go(
    mirror: Mirror, server: PageServer
) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (900, 1600, 3), np.uint8)
    large = [jpeg(np.roll(noise, step, 1)) for step in range(2)]
    assert len(large[0]) > 1_000_000
    request = (
        f"GET /MMM-M2FPStream/stream HTTP/1.1\r\nHost: localhost:{mirror.port}\r\n\r\n"
    ).encode()
    with (
        socket.create_connection(("localhost", mirror.port)) as stuck,
        httpx.stream("GET", f"{mirror.url}/MMM-M2FPStream/stream", timeout=30) as reader,
        feeding(server, large) as feeder,
    ):
        stuck.sendall(request)
        wait_until(lambda: watching(server) == 1)
        taken, before, end = 0, 0, time.monotonic() + 14
        for chunk in reader.iter_raw():
            taken += len(chunk)
            if before == 0 and feeder.count > 50:
                before = mirror.helper.memory_info().rss
            if time.monotonic() > end:
                break
        assert watching(server) == 1
        assert taken > 20 * len(large[0]), "the one who reads gets pictures"
        assert mirror.helper.memory_info().rss - before < 100 << 20
        stuck.settimeout(10)
        held = 0
        while data := stuck.recv(1 << 20):  # what the kernel held, then the end
            held += len(data)
        assert held < 16 * len(large[0])


@slow
def test_the_module_speaks_the_mirrors_language(
    browser: Browser, installation: Path, tmp_path: Path, covered: list[bytes]
) -> None:
    with (
        mirror_at(installation, tmp_path, language="zh-cn") as mirror,
        shown(browser, mirror) as page,
    ):
        page.wait_for_function(
            "document.querySelector('.m2fp-sentence').textContent === '摄像头程序没有运行'"
        )
        with PageServer(port=mirror.page_port) as server:
            server.media.hello()
            with feeding(server, covered):
                page.wait_for_selector(LIVE, timeout=30_000)
                page.wait_for_function(
                    "document.querySelector('.m2fp-line').textContent"
                    " === '头部已遮挡 · 不保存任何画面'"
                )


@slow
def test_wrong_settings_are_said_on_the_mirror(
    browser: Browser, installation: Path, tmp_path: Path
) -> None:
    with (
        mirror_at(installation, tmp_path, tokenFile=str(tmp_path / "none")) as mirror,
        shown(browser, mirror) as page,
    ):
        page.wait_for_function(
            "document.querySelector('.m2fp-sentence').textContent.includes('cannot be read')"
        )
        assert str(tmp_path) not in page.inner_text(".m2fp-stream")


def test_both_languages_say_the_same_things() -> None:
    folder = MODULE / "translations"
    english, chinese = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("en", "zh-cn")
    )
    assert english.keys() == chinese.keys()
    script = (MODULE / "MMM-M2FPStream.js").read_text()
    for key in english:
        if not key.startswith("COVER_"):
            assert f'"{key}"' in script, f"{key} is used nowhere"
