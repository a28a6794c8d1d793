"""The mirror's page under test: a drawn room, a camera that covers it, a browser that looks.

A person stands in the room whose pixels are the texture marker.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from m2fp_stream.compositor.compose import Compositor
from m2fp_stream.core.plan import CoverState, Parsed, Unknown, Why
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.policy import Policy, PolicyOptions
from tests.kit.browser import (
    Watch,
    screenshot,
)
from tests.kit.faulty import good_result, person_box
from tests.kit.parses import hidden_regions
from tests.kit.stage import HEIGHT, WIDTH, backdrop
from tests.kit.texture import marker
from tests.kit.wait import wait_until
from tests.kit.web import Media, PageServer, jpeg

if TYPE_CHECKING:
    from playwright.sync_api import Page

Picture = NDArray[np.uint8]

TEXTURE = marker(77, 64, 48)
ROOM = backdrop(3)
SHOWS_ROOM = 0.8
"""Correlation of a screenshot with the room it shows: above 0.9; with the card: below 0.3."""

IN_MIRROR = np.ascontiguousarray(ROOM[:, ::-1])

COUNTING = """
window.drawn = [];
addEventListener("m2fpframe", (event) => drawn.push({...event.detail, ms: performance.now()}));
"""


# --- what the camera process would make ---


def scene(number: int) -> Picture:
    """The room with the marked person in it."""
    left, top, right, bottom = person_box(number)
    picture = ROOM.copy()
    picture[top:bottom, left:right] = TEXTURE
    return picture


@functools.cache
def composed(number: int, mode: str = "parts") -> bytes:
    """Returns a frame as the real compositor covers it, as JPEG."""
    raw = RawFrame(
        scene(number), frame_id=number, pts=number, time_base=Fraction(1, 25), captured_ns=1
    )
    state: CoverState = Unknown(Why.ON_REQUEST)
    if mode != "frame":
        policy = Policy(PolicyOptions())
        parts = hidden_regions(policy, good_result(HEIGHT, WIDTH, number))[0]
        tracks = (parts > 0).astype(np.uint8)
        plan = policy.plan(
            frame_id=number,
            size_wh=(WIDTH, HEIGHT),
            parts=parts,
            tracks=tracks,
            silhouette=mode == "silhouette",
        )
        state = Parsed(plan)
    safe = Compositor().compose(raw, state)
    raw.release()
    return jpeg(safe.pixels)


@functools.cache
def uncovered(number: int) -> bytes:
    """What must never be sent: the control of the search."""
    return jpeg(scene(number))


class Camera:
    """What the camera process says: a frame every 40 ms, facts four times a second.

    It does as it is told: the requests that the server passes on hold from the next frame on.

    Attributes:
        obeys: whether it does.
        on: whether it gives frames.
        why: given, every frame is covered whole for that reason.
        picture: makes frame number n for a mode.
        person_s_ago: see `LiveStats.summary`.
        age_s: how old frames are when they are handed over.
        mirrored: whether they are said to be swapped already.
    """

    def __init__(self, media: Media, **hello: Any) -> None:
        self._media, self._hello = media, hello
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test-camera")
        self.obeys = self.on = True
        self.why: str | None = None
        self.picture: Callable[[int, str], bytes] = composed
        self.person_s_ago: float | None = 0.2
        self.age_s = 0.05
        self.mirrored = False
        self.mode: str = hello.get("level", "parts")

    def _run(self) -> None:
        self._media.hello(**self._hello)
        number = 0
        while not self._ended.wait(0.04):
            if self.obeys and self._media.requests():
                level, effect = self._media.requests()[-1]
                flat = effect == "silhouette" and level == "person"
                self.mode = "silhouette" if flat else level
            if number % 6 == 0:
                level = "person" if self.mode == "silhouette" else self.mode
                self._media.facts(person_s_ago=self.person_s_ago, level=level)
            if self.on:
                mode = "frame" if self.why else self.mode
                why = self.why or ("on_request" if mode == "frame" else None)
                level = "person" if mode == "silhouette" else mode
                data = self.picture(number % 8, mode)
                effect = "silhouette" if mode == "silhouette" else "configured"
                self._media.frame(
                    data,
                    level=level,
                    why=why,
                    age_s=self.age_s,
                    effect=effect,
                    mirrored=self.mirrored,
                )
            number += 1

    def __enter__(self) -> Camera:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


# --- what the browser shows ---


@dataclass
class Mirror:
    """A server, its camera and a browser that looks."""

    server: PageServer
    camera: Camera
    page: Page
    watch: Watch

    def drawn(self) -> int:
        """How many frames the page has drawn."""
        return int(self.page.evaluate("drawn.length"))

    def view(self, name: str) -> None:
        """Waits until the page shows picture, card, consent or night."""
        self.page.wait_for_selector(f"#mirror[data-view={name}]", state="attached")

    def why(self, name: str) -> None:
        """Waits for the card of a reason."""
        self.page.wait_for_selector(f"#mirror[data-view=card][data-why={name}]", state="attached")

    def settled(self) -> Picture:
        """Returns a screenshot after everything that fades has faded."""
        faded(self.page)
        return screenshot(self.page)

    def shows(self, room: Picture | None = None) -> Picture:
        """Waits until the room is seen, on a busy machine not at once; returns the screenshot."""
        shots: list[Picture] = []

        def seen() -> bool:
            shots.append(self.settled())
            return likeness(shots[-1], IN_MIRROR if room is None else room) > SHOWS_ROOM

        wait_until(seen)
        return shots[-1]

    def says(self, selector: str) -> str:
        """Returns the text of an element."""
        return self.page.locator(selector).inner_text()

    def reads(self, selector: str, text: str) -> None:
        """Waits until an element says just this."""
        wait_until(lambda: self.says(selector) == text)

    def obeyed(self, mode: str) -> None:
        """Waits until the camera does what was chosen, and the controls say so."""
        wait_until(lambda: self.camera.mode == mode and self.mode() == mode)

    def mode(self) -> str:
        """Returns which control is shown as chosen."""
        pressed = self.page.locator("[data-mode][aria-pressed=true]")
        return str(pressed.get_attribute("data-mode"))

    def choose(self, mode: str) -> None:
        """Opens the controls and touches one."""
        if not self.page.locator("#mirror[data-bar]").count():
            self.page.mouse.click(640, 200)
        self.page.click(f"[data-mode={mode}]")


def faded(page: Page) -> None:
    """Waits until nothing fades any more."""
    fading = "document.getAnimations().some((one) => one instanceof CSSTransition)"
    wait_until(lambda: not page.evaluate(fading))  # `wait_for_function` is against the page's CSP


Look = Callable[..., Mirror]


def small(shot: Picture) -> Picture:
    """A screenshot at the size of the drawn room."""
    return np.asarray(cv2.resize(shot, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def mirrored(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[:, ::-1])


def likeness(shot: Picture, room: Picture = IN_MIRROR) -> float:
    """How much a screenshot looks like the room, where neither words, shade nor person are."""
    box = slice(78, 106), slice(228, 312)
    ours = small(shot)[box].mean(axis=2).ravel()
    if np.ptp(ours) < 2:
        return 0.0
    return float(np.corrcoef(ours, room[box].mean(axis=2).ravel())[0, 1])


def dark(shot: Picture) -> bool:
    """Whether nothing but black is to be seen."""
    return int(shot.max()) <= 2
