"""What several tests of the whole program use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.browser import Watch, chromium, opened
from tests.kit.cli import MEASURED
from tests.kit.film import Bgr, load_portrait, write_film
from tests.kit.mirror import COUNTING, Camera, Look, Mirror
from tests.kit.web import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(autouse=True)
def _unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of the whole program are not measured: that costs them a quarter of their time."""
    for name in [name for name in os.environ if name.startswith(MEASURED)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def portrait() -> Bgr:
    """Eileen Collins; NASA, public domain."""
    return load_portrait()


@pytest.fixture(scope="session")
def film(portrait: Bgr, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds at 15 frames a second; the picture sways."""
    path = tmp_path_factory.mktemp("film") / "portrait.mp4"
    write_film(path, portrait)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running, PageServer() as server:
        # Whatever Chromium starts once, it starts here.
        with opened(running, server.enter_url) as page:
            page.wait_for_selector("#mirror")
        yield running


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    """Opens the mirror; a page that complains or asks anybody else fails its test.

    What fades and moves on the page does not, unless a test is about that (`reduced_motion`).
    """
    with ExitStack() as stack:
        mirrors: list[tuple[Mirror, bool]] = []

        def opening(
            *,
            kiosk: dict[str, Any] | None = None,
            hello: dict[str, Any] | None = None,
            may_complain: bool = False,
            setting: Callable[[Camera], None] | None = None,
            script: str = "",
            **more: Any,
        ) -> Mirror:
            settings = {"consent": False, "language": "en", **(kiosk or {})}
            server = stack.enter_context(PageServer(kiosk=settings))
            camera = Camera(server.media, **(hello or {}))
            if setting is not None:
                setting(camera)
            stack.enter_context(camera)
            watch = Watch()
            page = stack.enter_context(
                opened(
                    browser,
                    server.enter_url,
                    watch=watch,
                    script=COUNTING + script,
                    **{"reduced_motion": "reduce", **more},
                )
            )
            mirror = Mirror(server, camera, page, watch)
            mirrors.append((mirror, may_complain))
            return mirror

        yield opening
        for mirror, may_complain in mirrors:
            assert mirror.watch.origins() == {f"127.0.0.1:{mirror.server.port}"}
            if not may_complain:
                assert mirror.watch.complaints == []
