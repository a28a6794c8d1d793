"""Real Chromium for tests: the system's own, driven by playwright, which brings none along.

    with chromium() as browser, opened(browser, server.enter_url) as page:
        page.click("#consent-start")

Where playwright or Chromium is missing, the test is skipped and says so.

    python -m tests.kit.browser [FOLDER]

photographs the mirror for docs/pictures/ (and writes every shot to FOLDER): the woman in it is
Eileen Collins, photographed by NASA, public domain.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from tests.kit.wait import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Request

Picture = NDArray[np.uint8]

NAMES = ("chromium", "chromium-browser", "google-chrome")
LANDSCAPE_WH = (1280, 720)
PORTRAIT_WH = (720, 1280)
WITHOUT = (
    "SpareRendererForSitePerProcess",
    # Of playwright's own list, which this one takes the place of:
    "HttpsUpgrades",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
)


def executable() -> str:
    """Returns the path of the system's Chromium; skips where there is none."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed; it drives the browser")
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.skip(f"no browser; install one of {', '.join(NAMES)}")


def arguments() -> list[str]:
    """Returns what Chromium is started with here, beside what playwright adds.

    No process is kept in reserve, and none looks after some minutes what models the machine could
    run: they would look as if a test had left them behind.
    """
    more = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has no other way
    known = "--optimization-guide-performance-class=2"  # very low; not measured then
    return [f"--disable-features={','.join(WITHOUT)}", known, *more]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    path = executable()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments())
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """What a page did that nobody sees.

    Attributes:
        complaints: errors of scripts, of the console and of the content security policy.
        requested: every address asked for.
    """

    complaints: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def attach(self, page: Page) -> None:
        """Begins to watch."""
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda line: self._line(line.type, line.text))
        page.on("request", self._request)
        page.on("websocket", lambda socket: self.requested.append(socket.url))

    def _line(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def _request(self, request: Request) -> None:
        self.requested.append(request.url)

    def origins(self) -> set[str]:
        """Returns the hosts and ports that were asked."""
        return {urlsplit(url).netloc for url in self.requested}


@contextlib.contextmanager
def opened(
    browser: Browser,
    url: str,
    *,
    size_wh: tuple[int, int] = LANDSCAPE_WH,
    watch: Watch | None = None,
    script: str = "",
    **more: Any,
) -> Iterator[Page]:
    """A page in a context of its own: no cookie and no memory of another.

    Args:
        browser: of `chromium`.
        url: what is opened.
        size_wh: of the window, in CSS pixels.
        watch: is told what the page does.
        script: runs before the page's own.
        more: further arguments of `Browser.new_context`.
    """
    before = renderers()
    viewport = {"width": size_wh[0], "height": size_wh[1]}
    context: BrowserContext = browser.new_context(**{"viewport": viewport, **more})
    context.set_default_timeout(1e3 * PATIENCE_S)
    try:
        page = context.new_page()
        if watch is not None:
            watch.attach(page)
        if script:
            page.add_init_script(script)
        page.goto(url)
        yield page
    finally:
        context.close()
        psutil.wait_procs(renderers() - before, timeout=PATIENCE_S)


def renderers() -> set[psutil.Process]:
    """Returns the processes that hold pages."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "--type=renderer" in process.cmdline():
                found.add(process)
    return found


def screenshot(page: Page) -> Picture:
    """Returns what is to be seen, (H, W, 3) uint8 BGR."""
    return decoded(page.screenshot())


def decoded(data: bytes) -> Picture:
    """Returns an encoded picture as (H, W, 3) uint8 BGR."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, np.uint8)


# --- pictures for the documents: python -m tests.kit.browser ---

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
LARGEST_BYTES = 120_000


def staged(portrait: Picture, size_wh: tuple[int, int], number: int) -> Picture:
    """Returns the photograph as if it stood in a room: at the bottom, soft at its edges."""
    width, height = size_wh
    side = round(min(width * 0.97, height))
    left, top = (width - side) // 2, height - side + 40
    left += round(8 * np.sin(number * 2 * np.pi / 12))
    strip = cv2.resize(portrait[:24], (width, height), interpolation=cv2.INTER_CUBIC)
    room = np.asarray(cv2.GaussianBlur(strip, (0, 0), 40), np.float32)
    photo = np.asarray(cv2.resize(portrait, (side, side)), np.float32)
    ramp = np.clip(np.arange(side) / 90, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    share = (ramp[:, None] * np.minimum(ramp, ramp[::-1])[None, :])[..., None]
    end = min(side, height - top)
    place = np.s_[top : top + end, left : left + side]
    room[place] = room[place] * (1 - share[:end]) + photo[:end] * share[:end]
    return np.ascontiguousarray(np.clip(room, 0, 255).astype(np.uint8))


def films(size_wh: tuple[int, int]) -> dict[str, list[bytes]]:
    """Returns some frames of each mode as JPEG, parsed and composed as the program does it."""
    from m2fp_stream.compositor.compose import Compositor
    from m2fp_stream.core.labels import Label
    from m2fp_stream.core.plan import Parsed
    from m2fp_stream.core.raw import RawFrame
    from m2fp_stream.parsers.embedded.parser import EmbeddedParser
    from m2fp_stream.parsers.guarded import ReviewedParser
    from m2fp_stream.policy import Policy, PolicyOptions
    from tests.kit.film import load_portrait
    from tests.kit.parses import hidden_regions
    from tests.kit.web import jpeg

    portrait = load_portrait()
    modes = {"parts": ("head", False), "person": ("person", False), "silhouette": ("person", True)}
    found: dict[str, list[bytes]] = {mode: [] for mode in modes}
    with ReviewedParser(EmbeddedParser()) as parser:
        for number in range(6):
            picture = staged(portrait, size_wh, number)
            result = parser.parse(picture, frame_id=number)
            for mode, (hide, silhouette) in modes.items():
                policy = Policy(PolicyOptions.model_validate({"hide": hide}))
                parts = np.maximum.reduce(hidden_regions(policy, result))
                if hide == "person":  # whole people, as `FrameStates` does at that level
                    parts = np.where(parts > 0, np.uint8(Label.HUMAN), np.uint8(0))
                plan = policy.plan(
                    frame_id=number,
                    size_wh=size_wh,
                    parts=parts,
                    tracks=(parts > 0).astype(np.uint8),
                    silhouette=silhouette,
                )
                raw = RawFrame(
                    picture.copy(),
                    frame_id=number,
                    pts=number,
                    time_base=Fraction(1, 25),
                    captured_ns=1,
                )
                found[mode].append(jpeg(Compositor().compose(raw, Parsed(plan)).pixels))
    return found


def save(name: str, *pictures: Picture) -> None:
    """Writes pictures side by side at half their size."""
    height = min(picture.shape[0] for picture in pictures) // 2
    row: list[Picture] = []
    for picture in pictures:
        width = round(picture.shape[1] * height / picture.shape[0])
        half = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        row += [np.asarray(half, np.uint8), np.full((height, 6, 3), 255, np.uint8)]
    path = FOLDER / name
    cv2.imwrite(str(path), np.hstack(row[:-1]), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert path.stat().st_size <= LARGEST_BYTES, f"{name} is too large"


def _framed(film: dict[str, list[bytes]], number: int, mode: str) -> bytes:
    return film.get(mode, film["parts"])[number % 6]


def _shown(page: Page, view: str) -> Picture:
    page.wait_for_selector(f"#mirror[data-view={view}]", state="attached")
    page.wait_for_timeout(1500)
    return screenshot(page)


def main() -> None:
    """Photographs the mirror, upright and on its side, in both languages."""
    from tests.kit.mirror import Camera
    from tests.kit.web import PageServer

    shots: dict[str, Picture] = {}
    with chromium() as browser:
        for size_wh, language in ((LANDSCAPE_WH, "en"), (PORTRAIT_WH, "zh")):
            film = films(size_wh)
            kiosk = {"language": language}
            with (
                PageServer(kiosk=kiosk, max_side=1280) as server,
                Camera(server.media) as camera,
                opened(browser, server.enter_url, size_wh=size_wh, locale="en-GB") as page,
            ):
                camera.picture = functools.partial(_framed, film)
                shots[f"{language} consent"] = _shown(page, "consent")
                page.click("#consent-start")
                shots[f"{language} heads"] = _shown(page, "picture")
                page.keyboard.press("Tab")
                shots[f"{language} controls"] = _shown(page, "picture")
                page.click("[data-mode=silhouette]")
                page.wait_for_timeout(1000)
                shots[f"{language} silhouettes"] = _shown(page, "picture")
                page.keyboard.press("Tab")
                page.click("[data-mode=frame]")
                shots[f"{language} hidden"] = _shown(page, "card")
                page.click("[data-mode=parts]")
                page.keyboard.press("Escape")
                camera.why = "source_away"
                page.wait_for_selector("#mirror[data-why=source_away]", state="attached")
                shots[f"{language} away"] = _shown(page, "card")
    save("mirror-heads.jpg", shots["en heads"])
    save("mirror-controls.jpg", shots["en controls"], shots["en consent"])
    save("mirror-portrait.jpg", *(shots[f"zh {one}"] for one in ("consent", "heads", "controls")))
    save("mirror-card.jpg", shots["en silhouettes"], shots["en away"])
    if len(sys.argv) > 1:  # all of them, to be looked at
        for name, shot in shots.items():
            cv2.imwrite(str(Path(sys.argv[1]) / f"{name.replace(' ', '-')}.png"), shot)


if __name__ == "__main__":
    main()
