"""Runs the kiosk unattended, breaks something every ten seconds, and counts what comes of it.

    python -m scripts.bench.kiosk_faults MINUTES [--every 10] [--seed 0] [--json FILE] [--look DIR]

The camera is a real RTSP server that shows a person whose face carries a known texture. A viewer
takes every picture by WebSocket, a real Chromium has the page open; the texture is looked for in
all of them. Two bypass controls have to be found by the same search: the camera's own picture as
JPEG, and the same uncovered picture shown by the same page.

The faults: the media process, the server and the parser killed and stopped, the page loaded anew,
the camera killed and frozen, a flood of strangers. A fault is recovered from when pictures of the
room come again; where they never stopped for half a second, it was not noticed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import signal
import socket
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import httpx
import numpy as np
import psutil
from numpy.typing import NDArray

from m2fp_stream.bench import _slope
from scripts.bench.kiosk import browser_processes
from tests.kit.browser import chromium
from tests.kit.film import Bgr, load_portrait, write_config
from tests.kit.kiosk import RealKiosk, Seen, kill
from tests.kit.rtsp import RtspServer
from tests.kit.texture import BLOCK_PX, FOUND, marker
from tests.kit.wait import wait_until
from tests.kit.web import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

SIZE_WH: Final = (640, 480)
FACE_XYXY: Final = (240, 72, 336, 184)
"""Of the portrait in the middle of that picture; by hand."""

SWAY_PX: Final = 8
FRAMES: Final = 32
FPS: Final = 15
CONTRAST: Final = 50
"""Of 128: the face is found all the same, and the texture survives H.264 and JPEG (measured)."""

GAP_S: Final = 0.5
"""Pictures that stop for longer than this were noticed."""

Picture = NDArray[np.uint8]


# -- what the camera shows -------------------------------------------------------------------------

TEXTURE: Final = marker(5, FACE_XYXY[3] - FACE_XYXY[1], FACE_XYXY[2] - FACE_XYXY[0])


def shift(number: int) -> int:
    """How far the person has swayed in a frame, in pixels."""
    return round(SWAY_PX * math.sin(number * 2 * math.pi / FRAMES))


def scenes(portrait: Bgr) -> list[Picture]:
    """Returns one period of what the camera sees."""
    left, top, right, bottom = FACE_XYXY
    pad = (SIZE_WH[0] - 512) // 2
    still = cv2.copyMakeBorder(portrait[: SIZE_WH[1]], 0, 0, pad, pad, cv2.BORDER_REPLICATE)
    face = still[top:bottom, left:right].astype(np.int16)
    face += (TEXTURE.astype(np.int16) - 128) * CONTRAST // 128
    still[top:bottom, left:right] = np.clip(face, 0, 255)
    return [np.ascontiguousarray(np.roll(still, shift(number), axis=1)) for number in range(FRAMES)]


def blocks(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the (n, 64) blocks of 8x8, each of mean 0 and length 1; flat ones are 0."""
    height, width = (side // BLOCK_PX * BLOCK_PX for side in grey.shape)
    cut = grey[:height, :width].reshape(height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)
    flat = cut.swapaxes(1, 2).reshape(-1, BLOCK_PX * BLOCK_PX)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.zeros_like(flat)
    np.divide(flat, length, out=unit, where=length > BLOCK_PX / 2)
    return unit


WANTED: Final = blocks(TEXTURE[..., 0].astype(np.float32))


def shows_raw(picture: Picture) -> bool:
    """Whether any block of the texture is to be seen where the face may be.

    See `tests.kit.texture`.
    """
    if picture.shape[:2] != SIZE_WH[::-1]:
        return False
    grey = picture.mean(axis=2, dtype=np.float32)
    left, top, right, bottom = FACE_XYXY
    return any(
        float((blocks(grey[top:bottom, left + by : right + by]) * WANTED).sum(axis=1).max())
        >= FOUND
        for by in range(-SWAY_PX, SWAY_PX + 1)
    )


# -- faults ----------------------------------------------------------------------------------------


@dataclass
class Stage:
    """Everything a fault may break."""

    kiosk: RealKiosk
    camera: RtspServer
    page: Page

    def each(self, name: str, how: signal.Signals) -> None:
        for pid in self.kiosk.pids_of(name):
            kill(pid, how)

    def reload(self) -> None:
        with suppress(Exception):  # the server may be down; the page is opened again below
            self.page.reload(timeout=5000)

    def camera_killed(self) -> None:
        self.camera.kill()
        time.sleep(3)
        self.camera.start()

    def camera_frozen(self) -> None:
        self.camera.freeze()
        time.sleep(4)
        self.camera.thaw()

    def flood(self) -> None:
        """A bounded crowd of strangers: 200 connections, and 200 requests with wrong keys."""
        port = int(self.kiosk.url.rpartition(":")[2])
        crowd: list[socket.socket] = []
        with suppress(OSError):
            for _ in range(200):
                crowd.append(socket.create_connection(("127.0.0.1", port), timeout=1))
        with suppress(httpx.HTTPError), httpx.Client(timeout=2) as client:
            for number in range(200):
                client.get(f"{self.kiosk.url}/enter?key=wrong-{number}")
        for one in crowd:
            one.close()


FAULTS: Final[dict[str, Callable[[Stage], None]]] = {
    "media killed": lambda stage: stage.each("media", signal.SIGKILL),
    "media stopped": lambda stage: stage.each("media", signal.SIGSTOP),
    "server killed": lambda stage: stage.each("server", signal.SIGKILL),
    "server stopped": lambda stage: stage.each("server", signal.SIGSTOP),
    "parser killed": lambda stage: stage.each("parser", signal.SIGKILL),
    "parser stopped": lambda stage: stage.each("parser", signal.SIGSTOP),
    "page reloaded": Stage.reload,
    "camera killed": Stage.camera_killed,
    "camera frozen": Stage.camera_frozen,
    "flood": Stage.flood,
}


# -- what is counted -------------------------------------------------------------------------------


@dataclass
class Counted:
    """What came of it all."""

    live_s: list[float] = field(default_factory=list)
    covered: int = 0
    raw: int = 0
    raw_on_screen: int = 0
    screens: int = 0
    faults: list[tuple[float, str]] = field(default_factory=list)
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    look: Path | None = None

    def seen(self, one: Seen) -> None:
        """Takes one picture of the WebSocket."""
        picture = one.picture
        if shows_raw(picture):
            self.raw += 1
            self.keep("raw-stream", picture)
        if one.covered:
            self.covered += 1
        else:
            self.live_s.append(one.at_s)

    def screen(self, page: Page) -> None:
        """Takes one screenshot."""
        try:
            shot = page.screenshot(timeout=5000)
        except Exception:  # it is just being loaded
            return
        decoded = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        picture = np.asarray(decoded, np.uint8)
        self.screens += 1
        if shows_raw(picture):
            self.raw_on_screen += 1
            self.keep("raw-screen", picture)
        elif self.screens % 30 == 1:
            self.keep("screen", picture)

    def keep(self, name: str, picture: Picture) -> None:
        if self.look is not None:
            number = self.screens + len(self.live_s)
            cv2.imwrite(str(self.look / f"{name}-{number}.png"), picture)

    def recoveries(self) -> dict[str, list[float | None]]:
        """Returns for each kind of fault the seconds until pictures came again.

        0 where they never stopped, None where they never came again.
        """
        gaps = [
            (one, other)
            for one, other in itertools.pairwise([*self.live_s, float("inf")])
            if other - one > GAP_S
        ]
        found: dict[str, list[float | None]] = defaultdict(list)
        ends = [at_s for at_s, _ in self.faults[1:]] + [float("inf")]
        for (at_s, name), next_s in zip(self.faults, ends, strict=True):
            # Pictures under way may still come after the fault; a stop shows up to 5 s later.
            hit = [gap for gap in gaps if gap[0] < min(next_s, at_s + 5) and gap[1] > at_s + 0.2]
            end_s = max((gap[1] for gap in hit), default=at_s)
            found[name].append(None if end_s == float("inf") else round(end_s - at_s, 2))
        return found


def sample_memory(counted: Counted, kiosk: RealKiosk, began_s: float) -> None:
    """Notes resident megabytes of each kind of process."""
    kinds = {name: kiosk.pids_of(name) for name in ("media", "parser", "server")}
    kinds["kiosk"] = [kiosk.pid]
    kinds["browser"] = [process.pid for process in browser_processes()]
    total = 0.0
    for name, pids in kinds.items():
        megabytes = 0.0
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                megabytes += psutil.Process(pid).memory_info().rss / 1e6
        total += megabytes
        counted.memory[name].append((time.monotonic() - began_s, megabytes))
    counted.memory["all"].append((time.monotonic() - began_s, total))


# -- controls --------------------------------------------------------------------------------------


def stream_control(raw: list[Picture]) -> bool:
    """Whether the search finds the camera's own pictures as JPEG of the page's quality."""
    for picture in raw:
        done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
        again = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if not done or again is None or not shows_raw(np.asarray(again, np.uint8)):
            return False
    return True


def screen_control(raw: Picture) -> bool:
    """Whether the search finds an uncovered picture that the same page shows."""
    done, data = cv2.imencode(".jpg", raw, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert done
    with PageServer(kiosk={"consent": False, "mirror": False, "clock": False}) as server:
        server.media.hello()
        with opened(server.enter_url) as page:
            for _ in range(40):
                server.media.frame(data.tobytes())
                page.wait_for_timeout(100)
                shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
                if shot is not None and shows_raw(np.asarray(shot, np.uint8)):
                    return True
    return False


@contextmanager
def opened(address: str) -> Iterator[Page]:
    """The page in a browser whose every pixel is one of the picture's."""
    width, height = SIZE_WH
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(address)
        yield page


# -- the run ---------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Breaks the kiosk again and again.")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--every", type=float, default=10.0, help="seconds from fault to fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", help="only these, joined by commas")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--look", type=Path, help="folder for screenshots, and for whatever is raw")
    args = parser.parse_args()
    names = args.faults.split(",") if args.faults else list(FAULTS)
    raw = scenes(load_portrait())
    controls = {"stream": stream_control(raw), "screen": screen_control(raw[0])}
    if not all(controls.values()):
        raise SystemExit(f"the search does not find what is there: {controls}")
    counted = Counted(look=args.look)
    if args.look is not None:
        args.look.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, RtspServer(raw, fps=FPS, gop=FPS) as camera:
        config = write_config(
            Path(folder) / "kiosk.yaml",
            capture={"input": camera.url},
            kiosk={"consent": False, "mirror": False, "clock": False, "browser": "none"},
        )
        with RealKiosk(config) as kiosk, kiosk.viewer(keep=50, on_seen=counted.seen):
            with opened(kiosk.address) as page:
                wait_until(lambda: counted.live_s)
                page.wait_for_timeout(5000)
                began_s = time.monotonic()
                perform(Stage(kiosk, camera, page), counted, names, args)
                wait_until(lambda: counted.live_s[-1] > time.monotonic() - GAP_S)
                span_s = time.monotonic() - began_s
            said = [line for line in kiosk.lines if kiosk.token not in line]
            notices = Counter(line.partition(": ")[2].partition(";")[0] for line in said)
    report(counted, controls, span_s, notices, args)


def perform(stage: Stage, counted: Counted, names: list[str], args: argparse.Namespace) -> None:
    """Breaks something every so often, and looks at the screen in between."""
    chance = random.Random(args.seed)
    began_s = time.monotonic()
    due: list[str] = []
    number = 0
    while time.monotonic() - began_s < args.minutes * 60:
        if time.monotonic() >= began_s + number * args.every:
            due = due or chance.sample(names, len(names))
            name = due.pop()
            counted.faults.append((time.monotonic(), name))
            FAULTS[name](stage)
            number += 1
            sample_memory(counted, stage.kiosk, began_s)
        counted.screen(stage.page)
        if stage.page.url.startswith("chrome-error"):
            with suppress(Exception):  # the server may be down; again in a second
                stage.page.goto(stage.kiosk.address, timeout=5000)
        stage.page.wait_for_timeout(1000)
    # What was stopped last is replaced by the kiosk; what was frozen goes on.


def report(
    counted: Counted,
    controls: dict[str, bool],
    span_s: float,
    notices: Counter[str],
    args: argparse.Namespace,
) -> None:
    recoveries = counted.recoveries()
    print(f"{'fault':16}{'times':>6}{'noticed':>9}{'back s, median':>16}{'longest':>9}{'never':>7}")
    rows = {}
    for name in FAULTS:
        times = recoveries.get(name, [])
        known = [one for one in times if one is not None]
        noticed = [one for one in known if one > 0]
        rows[name] = {
            "times": len(times),
            "noticed": len(noticed),
            "median_s": round(float(np.median(noticed)), 2) if noticed else None,
            "longest_s": max(noticed, default=None),
            "never": len(times) - len(known),
        }
        middle, longest = rows[name]["median_s"], rows[name]["longest_s"]
        print(
            f"{name:16}{len(times):6}{len(noticed):9}"
            f"{'-' if middle is None else f'{middle:.1f}':>16}"
            f"{'-' if longest is None else f'{longest:.1f}':>9}{len(times) - len(known):7}"
        )
    slopes = {name: _slope(values) for name, values in counted.memory.items()}
    live, frames = len(counted.live_s), len(counted.live_s) + counted.covered
    print(f"\n{span_s / 60:.1f} minutes, {len(counted.faults)} faults, seed {args.seed}")
    print(f"pictures by WebSocket: {frames}, of them {live} of the room; raw: {counted.raw}")
    print(f"screenshots: {counted.screens}; raw: {counted.raw_on_screen}")
    print(f"bypass controls found: {controls}")
    print(f"{'memory':10}{'MB, median':>12}{'MB a minute':>13}{'(95 %)':>10}")
    for name, values in counted.memory.items():
        slope, bound = slopes[name]
        median = float(np.median([mb for _, mb in values]))
        told = "-" if slope is None else f"{slope:+.2f}"
        print(f"{name:10}{median:12.0f}{told:>13}{'-' if bound is None else f'< {bound:+.2f}':>10}")
    if args.json is not None:
        facts = {
            "minutes": round(span_s / 60, 2),
            "every_s": args.every,
            "seed": args.seed,
            "faults": rows,
            "pictures": frames,
            "pictures_of_the_room": live,
            "raw": counted.raw,
            "screenshots": counted.screens,
            "raw_on_screen": counted.raw_on_screen,
            "controls": controls,
            "memory_mb_per_min": slopes,
            "notices": dict(notices.most_common(40)),
        }
        args.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if counted.raw or counted.raw_on_screen:
        raise SystemExit("raw pictures were seen")


if __name__ == "__main__":
    main()
