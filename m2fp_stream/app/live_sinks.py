"""Which sinks a live run has: an outlet for each one that is switched on, and one for the page."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final, cast, final

import numpy as np

from ..compositor.compose import Compositor
from ..config import Settings
from ..core.labels import BODY_PARTS, Label
from ..core.plan import Unknown, Why
from ..core.raw import RawFrame
from ..core.safe import CoverLevel, SafeFrame
from ..pipeline.live.control import PrivacyDial
from ..pipeline.live.outlets import Outlet
from ..policy import Policy
from ..sinks.base import Sink
from ..sinks.page import PageEnd, PageHello, PageSink, PageState
from ..sinks.pipe import PipeSink
from ..sinks.push import PushSink
from ..sinks.segments import SegmentSink
from ..sinks.serve import ServeSink
from ..sinks.virtual_camera import VirtualCameraSink
from ..sinks.window import Key, WindowSink
from ..sources.live import LIVE_TIME_BASE
from ..web.app import need_extra
from ..web.player_server import PlayerServer

__all__ = ["LiveContext", "live_outlets", "page_hello", "page_outlet", "privacy_floor"]

_KEEP_SHOWN: Final = 2
"""Frames that may wait for a window or a virtual camera: an old one is worth nothing. Chosen."""

_KEEP_WRITTEN: Final = 60
"""Frames that may wait for an encoder; two seconds at 30 frames a second. Chosen."""

_RECORD_PATIENCE_S: Final = 300.0
"""What a recording gets to be completed at the end: a slow disk has to take what still waits in
memory for it. Chosen."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LiveContext:
    """What sinks of a live run are made with.

    Attributes:
        config: all options.
        composer: makes the card that is shown while nothing comes.
        say: gets sentences for the user, from any thread.
        on_key: gets what was pressed in the window.
        on_address: gets the server's address with the token made for this run.
        rate: says how many frames a second the source gives, None where it does not know; asked
            when it is open.
        out: where the pipe writes to.
    """

    config: Settings
    composer: Compositor
    say: Callable[[str], None]
    on_key: Callable[[Key], None]
    on_address: Callable[[str], None]
    rate: Callable[[], Fraction | None]
    out: BinaryIO | None


def live_outlets(context: LiveContext) -> list[Outlet]:
    """Returns an outlet for each sink that is switched on; none is open yet."""
    config = context.config
    wanted = (
        (config.window.enabled, _window),
        (config.virtual_camera.enabled, _virtual_camera),
        (config.record.enabled, _recording),
        (config.push.enabled, _push),
        (config.serve.enabled, _server),
        (config.pipe.enabled, _pipe),
    )
    return [make(context) for enabled, make in wanted if enabled]


def _window(context: LiveContext) -> Outlet:
    return Outlet(
        "window",
        lambda _: WindowSink(context.config.window, on_key=context.on_key),
        keep=_KEEP_SHOWN,
        own_thread=False,
        idle=lambda sink: cast("WindowSink", sink).poll(),
        on_notice=context.say,
    )


def _virtual_camera(context: LiveContext) -> Outlet:
    return Outlet(
        "virtual camera",
        lambda size_wh: VirtualCameraSink(
            context.config.virtual_camera,
            size_wh=size_wh,
            card=_card(context.composer, size_wh),
            rate=context.rate(),
        ),
        keep=_KEEP_SHOWN,
        on_notice=context.say,
    )


def _recording(context: LiveContext) -> Outlet:
    options = context.config.record
    return Outlet(
        "recording",
        lambda size_wh: SegmentSink(
            Path(options.folder), options, size_wh=size_wh, time_base=LIVE_TIME_BASE
        ),
        keep=_KEEP_WRITTEN,
        keeps=True,
        patience_s=_RECORD_PATIENCE_S,
        on_patience=_rearmed(context.say),
        on_notice=context.say,
    )


def _push(context: LiveContext) -> Outlet:
    return Outlet(
        "push",
        lambda size_wh: PushSink(context.config.push, size_wh=size_wh, time_base=LIVE_TIME_BASE),
        keep=_KEEP_WRITTEN,
        on_notice=context.say,
    )


def _server(context: LiveContext) -> Outlet:
    need_extra("serve")
    configured = context.config.serve
    token: list[str] = []  # of the first server; one made anew keeps it

    def serve(size_wh: tuple[int, int]) -> Sink[SafeFrame]:
        options = configured.model_copy(update={"token": token[0]}) if token else configured
        sink = ServeSink(options, size_wh=size_wh, time_base=LIVE_TIME_BASE, serve=PlayerServer)
        if not token:
            token.append(sink.token)
            context.say(f"serving {sink.url}/live.ts and {sink.url}/live.m3u8")
            if not configured.token:
                context.on_address(f"{sink.url}/live.m3u8?token={sink.token}")
        return sink

    return Outlet("server", serve, keep=_KEEP_WRITTEN, on_notice=context.say)


def _pipe(context: LiveContext) -> Outlet:
    # A reader that leaves is an error of write(), not a signal that ends the program.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    target = context.out or sys.stdout.buffer
    return Outlet(
        "pipe",
        lambda size_wh: PipeSink(
            target, context.config.pipe, size_wh=size_wh, time_base=LIVE_TIME_BASE
        ),
        keep=_KEEP_SHOWN,
        on_notice=context.say,
    )


def _rearmed(say: Callable[[str], None]) -> Callable[[], None]:
    """Returns what lets a second Ctrl-C end a wait, where the first has switched signals off."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def again() -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in before.items():
            if callable(handler) and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        if callable(signal.getsignal(signal.SIGINT)):
            say("interrupt again to give it up")

    return again


def privacy_floor(config: Settings) -> CoverLevel:
    """Returns what viewers of the page cannot go below: what is configured."""
    hidden = BODY_PARTS.covering(config.policy.hidden_labels())
    return CoverLevel.PERSON if Label.HUMAN in hidden else CoverLevel.PARTS


def page_hello(config: Settings) -> PageHello:
    """Returns what viewers of the page are told, before anything runs."""
    elsewhere = (config.record, config.push, config.serve, config.virtual_camera, config.pipe)
    return PageHello(
        config.policy.hide,
        privacy_floor(config),
        stored=any(sink.enabled for sink in elsewhere),
        delay_s=config.live.max_delay_s,
        fill=Policy(config.policy).effect_of(Label.HUMAN).value,
        keep_zones=bool(config.policy.keep_zones),
    )


def page_outlet(
    page: PageEnd, context: LiveContext, dial: PrivacyDial, on_turn: Callable[[], None]
) -> Outlet:
    """Returns the outlet to the page, whose viewers turn the dial; each turn calls `on_turn`."""
    config = context.config
    if page.request is not None:
        dial.turn(page.request.level, silhouette=page.request.silhouette)
    hello = page_hello(config)

    def state() -> PageState:
        request = dial.request
        return PageState(request.level, request.silhouette)

    def turn(request: PageState) -> None:
        dial.turn(request.level, silhouette=request.silhouette)
        on_turn()

    return Outlet(
        "page",
        lambda size_wh: PageSink(
            page,
            size_wh=size_wh,
            card=_card(context.composer, size_wh),
            hello=hello,
            state=state,
            turn=turn,
            max_side=config.page.max_side,
            quality=config.page.quality,
        ),
        keep=PageSink.KEEP,
        on_notice=context.say,
    )


def _card(composer: Compositor, size_wh: tuple[int, int]) -> SafeFrame:
    """Returns the card that is shown while nothing comes."""
    width, height = size_wh
    raw = RawFrame(
        np.zeros((height, width, 3), np.uint8),
        frame_id=-1,
        pts=0,
        time_base=Fraction(LIVE_TIME_BASE),
        captured_ns=0,
    )
    try:
        return composer.compose(raw, Unknown(Why.SOURCE_AWAY))
    finally:
        raw.release()
