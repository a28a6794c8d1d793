"""The mirror page when frames, the server or the page itself stop: no picture stays, by the clock.

They measure time, so nothing else runs meanwhile.
"""

from __future__ import annotations

import base64
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.browser import (
    decoded,
)
from tests.kit.mirror import SHOWS_ROOM, Look, Mirror, likeness

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.alone

WATCHING_THE_CARD = """
addEventListener("DOMContentLoaded", () => {
  window.cards = [];
  let last = mirror.dataset.view;
  new MutationObserver(() => {
    if (mirror.dataset.view === "card" && last !== "card") cards.push(performance.now());
    last = mirror.dataset.view;
  }).observe(mirror, {attributes: true, attributeFilter: ["data-view"]});
});
"""


def stood_ms(mirror: Mirror) -> float:
    """How long the last picture stood before the card came."""
    return float(
        mirror.page.evaluate("cards.at(-1) - drawn.filter(one => one.ms < cards.at(-1)).at(-1).ms")
    )


def test_frames_that_stop_give_way_to_the_card_and_come_back(look: Look) -> None:
    mirror = look(reduced_motion="no-preference", script=WATCHING_THE_CARD)
    mirror.view("picture")
    mirror.camera.on = False
    mirror.view("card")
    assert likeness(mirror.settled()) < 0.3
    assert stood_ms(mirror) < 2000
    mirror.why("starting")
    mirror.camera.on = True
    mirror.view("picture")
    mirror.shows()


def test_a_server_that_hangs_with_the_line_open_gives_way_to_the_card(look: Look) -> None:
    mirror = look(reduced_motion="no-preference", script=WATCHING_THE_CARD)
    mirror.view("picture")
    hung = threading.Thread(target=lambda: mirror.server.in_loop(lambda: time.sleep(3)))
    hung.start()
    mirror.why("stopped")
    assert likeness(mirror.settled()) < 0.3
    hung.join()
    assert stood_ms(mirror) < 2000  # the card's other causes take four seconds and more
    mirror.view("picture")


def test_a_page_that_hangs_itself_does_not_leave_its_picture_standing(look: Look) -> None:
    mirror = look(reduced_motion="no-preference")
    mirror.view("picture")
    mirror.settled()
    shots: list[bytes] = []
    line = mirror.page.context.new_cdp_session(mirror.page)

    def keep(event: dict[str, Any]) -> None:
        shots.append(base64.b64decode(event["data"]))
        line.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    # Chromium sends a shot when something changes, and may leave out the very last one.
    mirror.page.evaluate(
        """() => {
          const dot = document.body.appendChild(document.createElement("i"));
          dot.style.cssText = "position: fixed; width: 1px; height: 1px; background: #fff";
          dot.animate({ translate: ["0", "9px"] }, { duration: 900, iterations: Infinity });
        }"""
    )
    line.on("Page.screencastFrame", keep)
    line.send("Page.startScreencast", {"format": "png"})
    mirror.page.evaluate(
        """setTimeout(() => {
          const begun = performance.now();
          while (performance.now() - begun < 3000);
        }, 300)"""
    )
    mirror.page.wait_for_timeout(2500)
    line.send("Page.stopScreencast")
    looks = [likeness(decoded(shot)) for shot in shots]
    assert max(looks) > SHOWS_ROOM
    assert looks[-1] < 0.3
    mirror.view("picture")
