"""The mirror page in real Chromium, before the real server, fed with pictures really composed.

The room is drawn, and a person stands in it whose pixels are the texture marker. What the browser
shows is looked at in screenshots.
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from m2fp_stream.compositor.compose import Compositor
from m2fp_stream.core.plan import Unknown, Why
from m2fp_stream.core.raw import RawFrame
from m2fp_stream.core.safe import CoverLevel, SafeFrame
from m2fp_stream.pipeline.live.outlets import Outlet
from m2fp_stream.sinks.page import PageEnd, PageHello, PageSink, PageState
from tests.kit import live_stage
from tests.kit.browser import (
    LANDSCAPE_WH,
    PORTRAIT_WH,
    Watch,
    decoded,
    opened,
    screenshot,
)
from tests.kit.live_stage import Performance
from tests.kit.mirror import (
    COUNTING,
    ROOM,
    SHOWS_ROOM,
    TEXTURE,
    Camera,
    Look,
    Mirror,
    composed,
    dark,
    faded,
    likeness,
    mirrored,
    small,
    uncovered,
)
from tests.kit.texture import contains_marker
from tests.kit.wait import wait_until
from tests.kit.web import PageServer, certificate, jpeg

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, WebSocketRoute

Picture = NDArray[np.uint8]

pytestmark = pytest.mark.paced

MODES = ("parts", "person", "silhouette", "frame")
FOUR_PAST_NINE = """
Date = class extends Date {
  constructor(...given) { super(...(given.length ? given : [2026, 1, 3, 9, 4])); }
};
"""
"""It is always the same minute: how a clock is written depends on the hour."""


# --- the picture ---


def test_the_stream_is_seen_mirrored_and_changes(look: Look) -> None:
    mirror = look(reduced_motion="no-preference")
    mirror.view("picture")
    first = mirror.shows()
    assert likeness(first, ROOM) < 0.5  # the room is not the same on both sides
    begun = mirror.drawn()
    wait_until(lambda: mirror.drawn() > begun + 5)
    events = mirror.page.evaluate("drawn")
    numbers = [event["sequence"] for event in events]
    assert numbers == sorted(set(numbers))
    assert all(0 <= event["drawnMs"] - event["handedMs"] < 2000 for event in events)
    shots = [screenshot(mirror.page) for _ in range(3)]
    assert any(np.abs(one.astype(int) - first).max() > 30 for one in shots)


def test_without_the_option_left_stays_left(look: Look) -> None:
    mirror = look(kiosk={"mirror": False})
    mirror.view("picture")
    mirror.shows(ROOM)


def test_what_was_swapped_before_is_not_swapped_again(look: Look) -> None:
    mirror = look()
    mirror.view("picture")
    mirror.shows()
    mirror.camera.on = False
    mirror.view("card")
    mirror.camera.picture = lambda number, mode: jpeg(mirrored(decoded(composed(number, mode))))
    mirror.camera.mirrored = True
    mirror.camera.on = True
    mirror.view("picture")
    mirror.shows()
    assert mirror.page.get_attribute("#picture", "data-swapped") == "false"


@pytest.mark.parametrize(
    ("kiosk", "more", "box_wh"),
    [
        ({}, {}, [1280, 720]),
        ({}, {"device_scale_factor": 1.5}, [1920, 1080]),
        ({"rotation": 90}, {"size_wh": PORTRAIT_WH}, [1280, 720]),
    ],
)
def test_the_page_says_how_large_it_draws(
    look: Look, kiosk: dict[str, Any], more: dict[str, Any], box_wh: list[int]
) -> None:
    mirror = look(kiosk=kiosk, **more)

    def said() -> object:
        messages = list(mirror.server.media.heard)
        return [one for one in messages if one["kind"] == "watching"][-1]

    wanted = {"kind": "watching", "count": 1, "mirror": True}
    wait_until(lambda: said() == {**wanted, "boxes": [box_wh]})
    if not kiosk and not more:
        mirror.page.set_viewport_size({"width": 800, "height": 600})
        wait_until(lambda: said() == {**wanted, "boxes": [[800, 600]]})


# --- a picture that is behind ---


def is_behind(mirror: Mirror) -> bool:
    """Whether the page says that its picture is."""
    return mirror.page.locator("#state-behind").is_visible()


def behind_s(mirror: Mirror, selector: str, words: str) -> float:
    """Returns how many seconds an element says; 0 while it says anything else."""
    found = re.fullmatch(words, mirror.page.locator(selector).text_content() or "")
    return 0.0 if found is None else float(found[1])


def test_a_picture_that_is_behind_says_so_in_both_languages(look: Look) -> None:
    def late(camera: Camera) -> None:
        camera.age_s = 2.0

    mirror = look(setting=late)
    mirror.view("picture")
    # At least those two seconds; a busy machine adds what it takes to draw.
    wait_until(lambda: behind_s(mirror, "#state-behind", r"The picture is ([\d.]+) s behind") >= 2)
    spoken = r"Heads are covered · The picture is ([\d.]+) s behind"
    wait_until(lambda: behind_s(mirror, "#announce", spoken) >= 2)
    mirror.page.mouse.click(640, 200)
    mirror.page.click("#language")
    wait_until(lambda: behind_s(mirror, "#state-behind", r"画面延迟 ([\d.]+) 秒") >= 2)
    mirror.camera.age_s = 0.05
    wait_until(lambda: not is_behind(mirror))
    mirror.view("picture")


def test_a_server_that_stalls_is_told_from_one_that_is_in_time(look: Look) -> None:
    mirror = look()
    mirror.view("picture")
    drawn = mirror.drawn()
    wait_until(lambda: mirror.drawn() > drawn + 60)  # two seconds and more of them
    mirror.settled()
    wait_until(lambda: not is_behind(mirror))  # a busy machine may have been behind itself
    mirror.camera.age_s = 0.8

    def stalls() -> bool:
        mirror.server.in_loop(lambda: time.sleep(0.7))
        mirror.page.wait_for_timeout(50)  # what waited is sent and drawn
        return is_behind(mirror)

    wait_until(stalls)
    mirror.camera.age_s = 0.05
    wait_until(lambda: not is_behind(mirror))
    mirror.view("picture")


def test_the_servers_clock_is_known_whatever_ones_own_says(look: Look) -> None:
    mirror = look()
    answers = mirror.page.evaluate(
        """async () => {
          const { Behind, ServerClock } = await import("/page/clock.js");
          const clock = new ServerClock();
          const answers = [clock.at(5)];
          clock.answered(1_000_000, 0, 900); // asked at 0, came at 900
          answers.push(clock.at(0));
          clock.answered(1_001_030, 1000, 1040); // a quicker one
          answers.push(clock.at(1000));
          clock.answered(1_002_500, 2000, 2900); // a slow one, which says nothing against it
          answers.push(clock.at(1000));
          clock.answered(500_000, 3000, 3040); // the clock was set back
          answers.push(clock.at(3020));
          const behind = new Behind();
          const after = (count, ageMs) => {
            for (let one = 0; one < count; one += 1) {
              behind.look(ageMs);
              behind.seconds;
            }
            return behind.seconds;
          };
          return [answers, [
            after(9, 5000), after(1, 5000), after(20, 900), after(5, 1200), after(20, 1200),
            after(20, 900), after(20, 1600), after(20, 700), after(3, 9000), after(1, null),
          ]];
        }"""
    )
    clock, behind = answers
    assert clock == [None, 999_550, 1_000_995, 1_000_995, 500_000]
    assert behind == [0, 5, 1, 1, 1, 1, 1.5, 0, 3, 0]


def test_what_is_hidden_is_not_on_the_screen_and_the_search_would_find_it(look: Look) -> None:
    mirror = look()
    mirror.view("picture")
    covered = mirrored(small(mirror.settled()))
    assert not contains_marker(covered, TEXTURE)
    mirror.camera.picture = lambda number, _: uncovered(number)
    wait_until(lambda: contains_marker(mirrored(small(screenshot(mirror.page))), TEXTURE))


# --- never a frozen picture; tests/e2e/test_page_stops.py has more of it ---


def test_a_line_that_breaks_gives_way_to_the_card_and_is_made_anew(look: Look) -> None:
    mirror = look(may_complain=True)
    mirror.view("picture")
    port = mirror.server.port
    mirror.server.stop()
    mirror.why("offline")
    assert likeness(mirror.settled()) < 0.3
    with PageServer(port=port, kiosk={"consent": False}) as again, Camera(again.media):
        mirror.view("picture")
    mirror.why("offline")


def test_a_page_whose_key_is_no_longer_good_says_how_to_open_it(look: Look) -> None:
    mirror = look(may_complain=True)
    mirror.view("picture")
    port = mirror.server.port
    mirror.page.context.clear_cookies()
    mirror.server.stop()
    with PageServer(port=port):
        mirror.why("locked")
        assert mirror.says("#card-title") == "This page needs its key"
        assert "terminal" in mirror.says("#card-hint")


def test_a_page_that_is_looked_away_from_keeps_nothing_to_come_back_to(look: Look) -> None:
    mirror = look()
    mirror.view("picture")
    kept = mirror.page.evaluate(
        """() => {
          Object.defineProperty(document, "hidden", {get: () => true, configurable: true});
          document.dispatchEvent(new Event("visibilitychange"));
          return mirror.dataset.view;
        }"""
    )
    assert kept == "card"
    begun = mirror.drawn()
    mirror.page.wait_for_timeout(400)
    assert mirror.drawn() == begun
    mirror.page.evaluate("delete document.hidden")
    mirror.view("picture")


def test_frames_that_come_late_or_make_no_sense_are_not_shown(look: Look) -> None:
    mirror = look()
    answers = mirror.page.evaluate(
        """async () => {
          const { Lateness, readFrame } = await import("/page/stream.js");
          const frame = (tookMs, ageMs, covered = false) =>
            [{handedMs: 50_000 - tookMs, ageMs, covered}, 50_000];
          const judged = new Lateness();
          const late = [
            frame(7000, 300), // the clocks differ by seven seconds
            frame(7900, 300),
            frame(8100, 300), // 1.1 s longer than the quickest
            frame(6000, 300),
            frame(7100, 300),
            frame(6000, 1250),
            frame(6000, 1350), // 1.05 s older than the youngest
            frame(6000, 10, true), // a card, which is made at once
            frame(6000, 1250),
          ].map((one) => judged.late(...one));
          const bytes = new Uint8Array(30);
          const view = new DataView(bytes.buffer);
          bytes[0] = 1;
          bytes[1] = 1;
          view.setUint32(4, 70_000, true);
          view.setFloat64(8, 0.25, true);
          view.setFloat64(16, 1234.5, true);
          const good = readFrame(bytes.buffer);
          const changed = (offset, value) => {
            const other = bytes.slice();
            new DataView(other.buffer).setFloat64(offset, value, true);
            return readFrame(other.buffer);
          };
          const version = bytes.slice();
          version[0] = 2;
          const swapped = bytes.slice();
          swapped[1] = 2;
          return [
            late,
            [good.covered, good.mirrored, readFrame(swapped.buffer).mirrored, good.sequence,
              good.ageMs, good.handedMs, good.jpeg.length],
            [changed(8, NaN), changed(16, Infinity), readFrame(version.buffer), readFrame("x"),
              readFrame(bytes.slice(0, 24).buffer), readFrame(new ArrayBuffer(0))],
          ];
        }"""
    )
    late = [False, False, True, False, True, False, True, False, False]
    assert answers == [late, [True, False, True, 70_000, 250, 1234.5, 6], [None] * 6]


def test_frames_that_grow_old_on_their_way_give_way_to_the_card(look: Look) -> None:
    mirror = look()
    mirror.view("picture")
    mirror.camera.age_s = 1.5
    mirror.why("stopped")
    mirror.view("picture")  # on a new line, where they always were that old


def test_a_covered_frame_is_not_drawn_even_if_the_status_calls_it_live(look: Look) -> None:
    mirror = look()
    mirror.view("picture")

    def lie(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda message: socket.send(_called_live(message)))

    mirror.page.route_web_socket("**/stream", lie)
    mirror.camera.why = "no_parse"
    mirror.why("no_parse")
    mirror.page.reload()
    mirror.page.wait_for_timeout(1500)
    assert mirror.drawn() == 0
    mirror.camera.why = None
    mirror.view("picture")


def _called_live(message: str | bytes) -> str | bytes:
    if isinstance(message, bytes):
        return message
    return message.replace('"state":"card"', '"state":"live"')


def test_a_frame_that_is_no_picture_is_left_out(look: Look) -> None:
    mirror = look()
    mirror.view("picture")
    mirror.camera.picture = lambda number, mode: (
        composed(number, mode) if number % 2 else b"\xff\xd8\xff no picture"
    )
    begun = mirror.drawn()
    wait_until(lambda: mirror.drawn() > begun + 5)
    mirror.camera.picture = lambda number, mode: b"\xff\xd8\xff no picture"
    mirror.view("card")


# --- the card ---


def test_a_frame_that_is_covered_whole_is_a_calm_card_that_says_why(look: Look) -> None:
    mirror = look()
    mirror.view("picture")
    for why, title in (
        ("source_away", "The camera is away"),
        ("no_parse", "One moment"),
        ("parser_silent", "Hidden for now"),
        ("uniform", "Too dark or too plain to judge"),
    ):
        mirror.camera.why = why
        mirror.why(why)
        mirror.reads("#card-title", title)
        assert mirror.says("#state-cover") == "Everything is hidden"
        drawn = mirror.drawn()
        mirror.page.wait_for_timeout(200)
        assert mirror.drawn() == drawn
    mirror.camera.why = None
    mirror.view("picture")
    assert mirror.says("#state-cover") == "Heads are covered"


def test_every_reason_and_every_word_is_there_in_every_language(look: Look) -> None:
    mirror = look()
    names = [why.name.lower() for why in Why]
    wrong = mirror.page.evaluate(
        """async (names) => {
          const { LANGUAGES, cardWords } = await import("/page/texts.js");
          const { en, zh, ...more } = LANGUAGES;
          const keys = (part, path = "") => typeof part !== "object" || path === ".clock" ? [path] :
            Object.entries(part).flatMap(([name, value]) => keys(value, `${path}.${name}`));
          const wrong = [];
          for (const one of [zh, ...Object.values(more)]) {
            wrong.push(...keys(en).filter((key) => !keys(one).includes(key)));
            wrong.push(...keys(one).filter((key) => !keys(en).includes(key)));
          }
          const unsure = ["parser_failed", "parser_silent", "bad_result", "wrong_frame",
            "tracking_failed", "compose_failed", "stale"];
          for (const name of names) {
            const fallback = cardWords(en, name) === en.cards.unsure;
            if (fallback !== unsure.includes(name)) wrong.push(name);
          }
          for (const text of [...document.querySelectorAll("[data-text]")]) {
            if (!(text.dataset.text in en)) wrong.push(text.dataset.text);
          }
          const chinese = /[\\u4e00-\\u9fff]/;
          const texts = (part) => typeof part === "string" ? [part] :
            typeof part === "object" ? Object.values(part).flatMap(texts) : [];
          const { locale, clock, date, ...words } = zh;
          wrong.push(...texts(words).filter((text) => !chinese.test(text)));
          return [wrong, cardWords(en, "constructor") === en.cards.unsure];
        }""",
        names,
    )
    assert wrong == [[], True]


# --- the controls ---

STATES = {
    "parts": "Heads are covered",
    "person": "People are frosted",
    "silhouette": "Silhouettes only",
    "frame": "Everything is hidden",
}


def test_the_controls_change_what_is_hidden_and_say_so(look: Look) -> None:
    mirror = look()
    mirror.view("picture")
    assert mirror.says("#state-cover") == STATES["parts"]
    assert mirror.says("#state-stored") == "Nothing is stored"
    for mode in ("person", "silhouette", "frame", "parts"):
        mirror.choose(mode)
        mirror.obeyed(mode)
        mirror.view("card" if mode == "frame" else "picture")
        mirror.reads("#state-cover", STATES[mode])
        mirror.reads("#announce", STATES[mode])


@pytest.mark.parametrize("fill", ["solid", "silhouette", "mosaic"])
def test_what_is_not_frosted_is_not_said_to_be(look: Look, fill: str) -> None:
    mirror = look(hello={"fill": fill, "level": "person"})
    mirror.view("picture")
    mirror.reads("#state-cover", "People are covered")
    mirror.page.mouse.click(640, 200)
    mirror.reads("#bar button[data-mode=person]", "People covered")


def test_where_people_are_left_alone_is_said_and_agreed_to(look: Look) -> None:
    mirror = look(hello={"keep_zones": True}, kiosk={"consent": True})
    mirror.view("consent")
    words = mirror.page.locator("#consent-covered").inner_text()
    assert "In a part of it that was set, people may be shown as they are." in words
    agree(mirror.page, words="Nothing is stored.")
    mirror.view("picture")
    mirror.reads("#state-cover", "Heads are covered, but for a set area")
    assert "kept" in mirror.page.evaluate("localStorage.getItem('m2fp-consent')")


BLOCKING = """
const ask = window.fetch;
window.blocked = false;
window.fetch = (url, init) => !blocked ? ask(url, init) : new Promise((_, fail) =>
  init.signal.addEventListener("abort", () => fail(init.signal.reason)));
"""
"""While `blocked` is true, nobody answers."""


def test_to_hide_everything_takes_effect_before_anybody_answers(look: Look) -> None:
    mirror = look(script=BLOCKING)
    mirror.view("picture")
    mirror.page.mouse.click(640, 200)
    at_once = mirror.page.evaluate(
        """() => {
          blocked = true;
          document.querySelector("[data-mode=frame]").click();
          return [drawn.length, mirror.dataset.view];
        }"""
    )
    assert at_once[1] == "card"
    assert likeness(mirror.settled()) < 0.3
    mirror.why("unconfirmed")
    assert mirror.drawn() == at_once[0]  # the camera still gives pictures
    assert mirror.camera.mode == "parts"
    mirror.page.evaluate("blocked = false")
    wait_until(lambda: mirror.camera.mode == "frame")  # it is said until it is heard
    mirror.why("on_request")


def test_no_frame_from_before_a_stronger_choice_is_drawn_after_it(look: Look) -> None:
    mirror = look(script=BLOCKING)
    mirror.view("picture")
    mirror.page.evaluate("blocked = true")
    mirror.choose("person")
    mirror.why("looking")
    begun = mirror.drawn()
    mirror.page.wait_for_timeout(600)
    assert mirror.drawn() == begun
    mirror.page.evaluate("blocked = false")
    mirror.view("picture")
    assert mirror.camera.mode == "person"
    mirror.page.keyboard.press("Escape")  # the controls come with shade
    mirror.shows()


def test_a_stronger_choice_that_was_answered_shows_nothing_before_it_holds(look: Look) -> None:
    mirror = look()
    mirror.view("picture")
    mirror.camera.obeys = False
    mirror.choose("person")
    mirror.why("looking")
    wait_until(lambda: "person" in [level for level, _ in mirror.server.media.requests()])
    mirror.page.wait_for_timeout(300)
    begun = mirror.drawn()
    mirror.page.wait_for_timeout(1200)
    assert mirror.drawn() == begun  # though frames come
    assert mirror.mode() == "person"
    mirror.camera.obeys = True
    mirror.view("picture")
    mirror.choose("silhouette")
    mirror.obeyed("silhouette")
    mirror.view("picture")


REFUSING = """
const ask = window.fetch;
window.refused = false;
window.fetch = (url, init) => refused ? Promise.reject(new TypeError("gone")) : ask(url, init);
"""


def test_a_change_that_failed_is_said_and_shown_for_a_while(look: Look) -> None:
    mirror = look(script=REFUSING)
    mirror.view("picture")
    mirror.choose("frame")
    mirror.obeyed("frame")
    mirror.view("card")
    mirror.page.evaluate("refused = true")
    mirror.choose("parts")
    words = "That did not work. Please try again."
    mirror.reads("#state-stored", words)
    assert mirror.page.locator("#state-stored").is_visible()
    mirror.reads("#announce", words)
    assert mirror.mode() == "frame"
    mirror.reads("#state-stored", "Nothing is stored")
    mirror.reads("#announce", "Everything is hidden")


def test_less_than_the_floor_cannot_be_chosen(look: Look) -> None:
    mirror = look(hello={"floor": "person", "level": "person"})
    mirror.view("picture")
    assert mirror.says("#state-cover") == STATES["person"]
    disabled = "[data-mode=parts][aria-disabled=true]"
    mirror.page.mouse.click(640, 200)
    mirror.page.click(disabled, force=True)
    mirror.page.wait_for_timeout(500)
    assert [said for said in mirror.server.media.heard if said["kind"] == "privacy"] == []
    mirror.choose("silhouette")
    wait_until(lambda: mirror.camera.mode == "silhouette")
    assert mirror.page.locator(disabled).count() == 1
    assert mirror.page.locator("[data-mode=person][aria-disabled=false]").count() == 1
    assert "not available" in str(mirror.page.locator(disabled).get_attribute("aria-label"))


def test_what_is_kept_and_who_looks_on_is_said(look: Look) -> None:
    mirror = look(hello={"stored": True, "hide": ["hair", "face"]})
    mirror.view("picture")
    with opened(mirror.page.context.browser, mirror.server.enter_url) as second:  # type: ignore[arg-type]  # it is there
        second.wait_for_selector("#mirror[data-view=picture]")
        wait_until(lambda: "2 screens" in mirror.says("#state-stored"))
        assert "A covered recording is kept" in mirror.says("#state-stored")
        assert mirror.says("#state-cover") == "Chosen parts are covered"


def test_the_controls_come_with_a_touch_and_fade(look: Look) -> None:
    mirror = look(reduced_motion="no-preference", has_touch=True)
    mirror.view("picture")
    bar = mirror.page.locator("#bar")
    assert not bar.is_visible()
    mirror.page.touchscreen.tap(640, 300)
    mirror.page.locator("[data-mode=frame]").wait_for()
    mirror.settled()
    for button in bar.locator("button").all():
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 64
    begun_s = time.monotonic()
    bar.wait_for(state="hidden")
    assert time.monotonic() - begun_s > 3


def test_everything_can_be_done_with_a_keyboard(look: Look) -> None:
    mirror = look(kiosk={"consent": True})
    press = mirror.page.keyboard.press
    mirror.view("consent")
    press("Tab")
    press("Enter")  # the other language
    wait_until(lambda: mirror.says("#consent-start") == "开始")
    press("Enter")
    press("Tab")
    press("Enter")
    mirror.view("picture")
    press("Tab")  # shows the controls, with the one that holds in focus
    focused = "document.activeElement.dataset.mode"
    assert mirror.page.evaluate(focused) == "parts"
    outline = "getComputedStyle(document.activeElement).outlineWidth"
    assert mirror.page.evaluate(outline) == "4px"
    press("ArrowRight")
    press("ArrowRight")
    assert mirror.page.evaluate(focused) == "silhouette"
    press("ArrowLeft")
    press("Space")
    wait_until(lambda: mirror.camera.mode == "person")
    press("Shift+Tab")
    assert mirror.page.evaluate(focused) == "parts"
    press("Escape")
    mirror.page.locator("#bar").wait_for(state="hidden")
    assert mirror.page.evaluate("document.activeElement === document.body")


def test_a_screen_reader_finds_names_for_everything(look: Look) -> None:
    mirror = look()
    mirror.view("picture")
    mirror.page.mouse.click(640, 200)
    for name in ("Heads covered", "Frosted people", "Silhouettes", "Hide everything", "中文"):
        mirror.page.get_by_role("button", name=name, exact=True).wait_for()
    mirror.page.get_by_role("group", name="What the mirror shows").wait_for()
    mirror.page.get_by_role("img", name="Live picture in the mirror, covered").wait_for()
    assert mirror.page.locator("[aria-live=polite]").count() == 1
    assert mirror.page.get_attribute("html", "lang") == "en"


# --- consent, languages, layout ---


def test_nothing_is_drawn_before_somebody_agreed_and_it_is_asked_once(look: Look) -> None:
    mirror = look(kiosk={"consent": True})
    mirror.view("consent")
    mirror.page.mouse.click(640, 20)
    mirror.page.wait_for_timeout(600)
    assert mirror.drawn() == 0
    words = mirror.says("#consent")
    for part in ("has a camera", "Heads are covered", "it can miss", "Nothing is stored"):
        assert part in words
    mirror.page.click("#consent-start")
    mirror.view("picture")
    assert not mirror.page.locator("#bar").is_visible()
    mirror.page.reload()
    mirror.view("picture")


def agree(page: Page, *, words: str) -> None:
    """Waits for the question, and for what it says about the picture's way; says yes."""
    page.wait_for_selector("#mirror[data-view=consent]", state="attached")
    wait_until(lambda: words in page.locator("#consent-stored").inner_text())
    page.click("#consent-start")
    page.wait_for_selector("#mirror:not([data-view=consent])", state="attached")


def test_who_agreed_to_less_is_asked_again(look: Look) -> None:
    mirror = look(kiosk={"consent": True})
    agree(mirror.page, words="Nothing is stored.")
    mirror.view("picture")
    mirror.server.media.hello(stored=True)  # as after a start with another configuration
    mirror.view("consent")
    begun = mirror.drawn()
    mirror.page.wait_for_timeout(300)
    assert mirror.drawn() == begun
    agree(mirror.page, words="A covered recording is kept or sent on.")
    for stored in (True, False, True):
        mirror.server.media.hello(stored=stored)
        mirror.page.reload()
        mirror.view("picture")


def test_before_anybody_knows_nothing_is_denied(browser: Browser) -> None:
    kiosk = {"language": "en"}
    with (
        PageServer(kiosk=kiosk) as server,
        opened(browser, server.enter_url, script=COUNTING) as page,
    ):
        agree(page, words="may be kept or sent on")
        assert page.locator("#state-stored").inner_text() == "A covered recording may be kept"
        with Camera(server.media, stored=True):
            page.wait_for_selector("#mirror[data-view=picture]", state="attached")  # that was said
            said = page.locator("#state-stored").inner_text()
            assert said == "A covered recording is kept or sent on"
    told = PageHello("head", stored=True).message()
    with (
        PageServer(kiosk=kiosk, hello=told) as server,
        opened(browser, server.enter_url, script=COUNTING) as page,
    ):
        agree(page, words="A covered recording is kept or sent on.")


def test_where_the_picture_goes_is_said_as_far_as_it_is_known(
    look: Look, browser: Browser, tmp_path: Path
) -> None:
    mirror = look(kiosk={"consent": True})
    mirror.view("consent")
    here = "Nothing is stored. The covered picture goes to the screens that show this page."
    mirror.reads("#consent-stored", here)
    cert, key = certificate(tmp_path)
    kiosk = {"language": "en"}
    with (
        PageServer(kiosk=kiosk, host="0.0.0.0", certificate=cert, key=key) as server,
        Camera(server.media),
    ):
        # The wall itself opens the page at this name.
        url = server.enter_url.replace("0.0.0.0", "localhost")
        with opened(browser, url, script=COUNTING, ignore_https_errors=True) as page:
            agree(page, words="Nothing is stored. The covered picture also goes over the network")
            page.wait_for_selector("#mirror[data-view=picture]", state="attached")


def test_a_page_without_storage_works(look: Look) -> None:
    broken = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('off'); }});"
    mirror = look(kiosk={"consent": True}, script=broken)
    mirror.page.click("#consent-start")
    mirror.view("picture")
    mirror.page.mouse.click(640, 200)
    mirror.page.click("#language")
    assert mirror.says("#state-cover") == "头部已遮挡"


@pytest.mark.parametrize(
    ("configured", "locale", "words", "clock"),
    [
        ("zh", "en-US", "头部已遮挡", "09:04"),
        ("auto", "zh-CN", "头部已遮挡", "09:04"),
        ("en", "zh-CN", "Heads are covered", "9:04AM"),
        ("auto", "en-GB", "Heads are covered", "09:04"),
    ],
)
def test_the_language_is_the_configured_one_or_the_browsers(
    look: Look, configured: str, locale: str, words: str, clock: str
) -> None:
    mirror = look(kiosk={"language": configured}, locale=locale, script=FOUR_PAST_NINE)
    mirror.view("picture")
    assert mirror.says("#state-cover") == words
    assert "".join(mirror.says("#clock").split()) == clock
    chinese = words != "Heads are covered"
    assert mirror.page.get_attribute("html", "lang") == ("zh-CN" if chinese else "en")
    assert ("星期" in mirror.says("#date")) == chinese


def test_another_language_is_a_touch_away_and_is_remembered(look: Look) -> None:
    mirror = look()
    mirror.view("picture")
    mirror.page.mouse.click(640, 200)
    mirror.page.click("#language")
    assert mirror.says("#state-cover") == "头部已遮挡"
    mirror.page.reload()
    mirror.view("picture")
    assert mirror.says("#state-cover") == "头部已遮挡"
    assert mirror.page.text_content("#language") == "English"


TURNS = {
    0: None,
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_CLOCKWISE,
}


@pytest.mark.parametrize(
    ("rotation", "sizes_wh"),
    [
        (0, [LANDSCAPE_WH, PORTRAIT_WH, (800, 480), (1080, 1920)]),
        (90, [PORTRAIT_WH, LANDSCAPE_WH]),
        (180, [LANDSCAPE_WH]),
        (270, [PORTRAIT_WH]),
    ],
)
def test_it_fits_displays_upright_and_on_their_side(
    look: Look, rotation: int, sizes_wh: list[tuple[int, int]]
) -> None:
    mirror = look(kiosk={"rotation": rotation}, size_wh=sizes_wh[0], reduced_motion="reduce")
    mirror.view("picture")
    shot = screenshot(mirror.page)
    turn = TURNS[rotation]
    upright = shot if turn is None else np.asarray(cv2.rotate(shot, turn), np.uint8)
    assert likeness(upright) > SHOWS_ROOM
    mirror.camera.why = "size_changed"  # the card with the most words
    mirror.view("card")
    for size_wh in sizes_wh:
        mirror.page.set_viewport_size({"width": size_wh[0], "height": size_wh[1]})
        for _ in ("en", "zh"):
            mirror.page.keyboard.press("Tab")
            mirror.page.click("#language")
            check_layout(boxes(mirror), size_wh)
            across = (size_wh[0] > size_wh[1]) == (rotation in (0, 180))
            columns = "getComputedStyle(bar).gridTemplateColumns.split(' ').length"
            assert mirror.page.evaluate(columns) == (5 if across else 2)


@pytest.mark.parametrize(
    ("rotation", "size_wh"),
    [(0, (800, 480)), (0, LANDSCAPE_WH), (0, PORTRAIT_WH), (90, PORTRAIT_WH), (90, LANDSCAPE_WH)],
)
def test_an_alarm_finds_room(look: Look, rotation: int, size_wh: tuple[int, int]) -> None:
    mirror = look(kiosk={"rotation": rotation}, size_wh=size_wh, reduced_motion="reduce")
    alarms = ["the server uses 1234 of 2048 MB of memory", "the audit log cannot be written"]
    mirror.server.hub.more_alarms = lambda: alarms
    mirror.camera.why = "size_changed"  # the card with the most words
    mirror.view("card")
    for other in ("English", "中文"):
        wait_until(lambda: mirror.page.text_content("#notice") == " · ".join(alarms))
        mirror.page.keyboard.press("Tab")
        check_layout(boxes(mirror), size_wh)
        mirror.page.click("#language")
        assert mirror.page.text_content("#language") == other


def boxes(mirror: Mirror) -> list[tuple[float, float, float, float]]:
    """Left, top, right, bottom of everything that is read or touched, as it is on the screen."""
    found: list[tuple[float, float, float, float]] = mirror.page.evaluate(
        """() => [...document.querySelectorAll(
          "#head, #shape, #card-title, #card-hint, #state, #bar button"
        )].map((one) => one.getBoundingClientRect()).map((r) => [r.left, r.top, r.right, r.bottom])
        """
    )
    assert len(found) == 10
    return found


def check_layout(found: list[tuple[float, float, float, float]], size_wh: tuple[int, int]) -> None:
    """Everything is on the screen, and nothing lies on another."""
    for index, (left, top, right, bottom) in enumerate(found):
        assert left >= 0
        assert top >= 0
        assert right <= size_wh[0]
        assert bottom <= size_wh[1]
        for x1, y1, x2, y2 in found[index + 1 :]:
            assert right <= x1 + 1 or x2 <= left + 1 or bottom <= y1 + 1 or y2 <= top + 1


def test_who_wants_no_motion_gets_none_and_still_no_frozen_picture(look: Look) -> None:
    mirror = look(reduced_motion="reduce")
    mirror.view("picture")
    mirror.page.mouse.click(640, 200)
    moving = """() => [...document.querySelectorAll("*")].filter((one) => {
      const style = getComputedStyle(one);
      return style.animationName !== "none" || style.transitionDuration !== "0s";
    }).length"""
    assert mirror.page.evaluate(moving) == 0
    mirror.camera.on = False
    mirror.view("card")


def test_nothing_stays_on_the_same_spot_for_long(look: Look) -> None:
    """The page is loaded again, each time three minutes later, as far as it can tell."""
    mirror = look(
        script="""
        const now = Date.now, ahead = Number(window.name) * 60_000;
        Date.now = () => now() + ahead;
        window.name = Number(window.name) + 3;
        """
    )
    where = """() => ["x", "y"].map((axis) => mirror.style.getPropertyValue(`--drift-${axis}`))"""
    spots = []
    for _ in range(4):
        mirror.view("picture")
        spots.append(mirror.page.evaluate(where))
        mirror.page.reload()
    assert all(spot != after for spot, after in pairwise(spots))


# --- sleep ---


def test_it_sleeps_when_nobody_is_there_and_wakes(look: Look) -> None:
    def nobody(camera: Camera) -> None:
        camera.person_s_ago = None

    mirror = look(kiosk={"sleep_after_s": 2}, setting=nobody)
    mirror.view("night")
    drawn = mirror.drawn()
    assert dark(mirror.settled())
    assert mirror.drawn() <= drawn + 1
    mirror.page.mouse.click(640, 300)  # a touch
    mirror.view("picture")
    hub = mirror.server.hub
    wait_until(lambda: not mirror.server.in_loop(lambda: hub.asleep))  # nor does the display
    mirror.camera.person_s_ago = 0.1
    mirror.page.reload()  # nobody has touched this one
    mirror.view("picture")
    mirror.camera.person_s_ago = None
    mirror.view("night")
    mirror.camera.person_s_ago = 0.1
    mirror.view("picture")


def test_the_cursor_hides(look: Look) -> None:
    mirror = look()
    cursor = "getComputedStyle(mirror).cursor"
    assert mirror.page.evaluate(cursor) == "none"
    mirror.page.mouse.move(300, 300)
    assert mirror.page.evaluate(cursor) == "default"
    wait_until(lambda: mirror.page.evaluate(cursor) == "none")


def test_the_window_is_black_and_does_not_scroll(look: Look) -> None:
    mirror = look()
    mirror.page.mouse.wheel(0, 500)
    facts = mirror.page.evaluate(
        """[document.documentElement.scrollHeight <= innerHeight,
            document.documentElement.scrollWidth <= innerWidth,
            getComputedStyle(document.body).backgroundColor,
            getComputedStyle(document.body).userSelect]"""
    )
    assert facts == [True, True, "rgb(0, 0, 0)", "none"]


# --- with the real pipeline before it ---


def card(size_wh: tuple[int, int]) -> SafeFrame:
    """Returns what is shown while nothing comes."""
    nothing = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    raw = RawFrame(nothing, frame_id=-1, pts=0, time_base=Fraction(1, 25), captured_ns=0)
    return Compositor().compose(raw, Unknown(Why.SOURCE_AWAY))


def test_a_live_run_is_seen_covered_breaks_and_obeys(browser: Browser) -> None:
    watch = Watch()
    with PageServer(kiosk={"consent": False, "language": "en"}) as server, ExitStack() as running:
        end = PageEnd(server.media.channel, server.media.memory)

        def sink(size_wh: tuple[int, int]) -> PageSink:
            dial = stage.dial

            def turn(request: PageState) -> None:
                dial.turn(request.level, silhouette=request.silhouette)

            return PageSink(
                end,
                size_wh=size_wh,
                card=card(size_wh),
                hello=PageHello("head"),
                state=lambda: PageState(dial.request.level, dial.request.silhouette),
                turn=turn,
            )

        stage = Performance(more_outlets=(Outlet("page", sink, keep=PageSink.KEEP),))
        running.enter_context(stage)
        page = running.enter_context(opened(browser, server.enter_url, watch=watch))
        shown = "#mirror[data-view=picture]"
        page.wait_for_selector(shown, state="attached")
        faded(page)
        room = mirrored(live_stage.ROOM)

        def shows_the_room_and_never_her() -> bool:
            shot = screenshot(page)
            assert not contains_marker(mirrored(small(shot)), TEXTURE)
            return likeness(shot, room) > SHOWS_ROOM  # a slow machine shows the card now and then

        for _ in range(3):
            wait_until(shows_the_room_and_never_her)
        page.mouse.click(640, 200)
        page.click("[data-mode=frame]")
        wait_until(lambda: stage.dial.level is CoverLevel.FRAME)
        page.wait_for_selector("#mirror[data-why=on_request]", state="attached")
        faded(page)
        assert likeness(screenshot(page), room) < 0.3
        page.click("[data-mode=parts]")
        page.wait_for_selector(shown, state="attached")
        stage.cues.refuse.set()
        stage.cues.lost.set()
        page.wait_for_selector("#mirror[data-why=source_away]", state="attached")
        stage.cues.refuse.clear()
        page.wait_for_selector(shown, state="attached")
        assert stage.raw_frames() == []
        assert watch.complaints == []
