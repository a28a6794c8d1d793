"""The composition root of live runs: from a configuration to sources, sinks and the pipeline."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import cv2
import numpy as np

from .app_models import fine_deadline_s, fine_parser, fine_side
from .compositor.compose import Compositor
from .config import Settings
from .core.address import looks_like_address
from .core.errors import SourceError, UsageError
from .core.labels import BODY_PARTS, Label
from .core.plan import Unknown, Why
from .core.raw import RawFrame
from .core.records import LookKind
from .core.safe import CoverLevel, SafeFrame
from .pipeline.live.capture import Capture, OpenSource
from .pipeline.live.control import PrivacyDial
from .pipeline.live.looking import Pools
from .pipeline.live.outlets import Outlet
from .pipeline.live.refine import Refiner
from .pipeline.live.run import LiveRun
from .pipeline.live.stats import LiveStats
from .pipeline.looks import LookPool, LookWorker
from .pipeline.wire import MAX_INPUT_SIDE
from .pipeline.workers import ParserQueue, ParserWorker, WorkerSpec
from .policy import Policy
from .privacy.hardening import few_heaps, harden
from .sinks.base import PartFile, Sink
from .sinks.page import PageEnd, PageHello, PageSink, PageState
from .sinks.pipe import PipeSink
from .sinks.push import PushSink
from .sinks.segments import SegmentSink
from .sinks.serve import ServeSink
from .sinks.virtual_camera import VirtualCameraSink
from .sinks.window import Key, WindowSink
from .sources.base import Source
from .sources.camera import CameraId, CameraSource, find_camera
from .sources.file import FileSource
from .sources.live import LIVE_TIME_BASE, RealtimeSource
from .sources.pipe import PipeSource
from .sources.snapshot import HttpCameras
from .sources.stream import StreamSource
from .sources.synthetic import SyntheticSource
from .web.app import need_extra
from .web.player_server import PlayerServer

__all__ = ["page_hello", "run_live", "write_facts"]

_LOOK_NICENESS: Final = 10
_FAR_NICENESS: Final = 12
"""Looks for faces, in every frame, go first, and with them whatever shows the picture; then those
for people and parts, whose age counts soon; far looks, which are rare, have what they leave. At 15
they took longer than the 5 s of their deadline (`bench live` on one core, two people who cross)."""

_FINE_NICENESS: Final = 19
"""The fine parser has what the picture and the guard leave of the machine."""

_FINE_PATIENCE: Final = 10
"""By how much longer than in files it may take to start and to parse. A process of niceness 19
weighs 15 beside the 1024 of others (sched(7)): on a machine that others want it is starved, which
is no hang. To start it again costs more than to wait, and nothing else waits for it. Measured
beside two busy loops on two cores that others used as well: started and given up 3 times in 7
minutes."""

_SWITCH_S: Final = 0.0005
"""How long one thread may keep the interpreter from another that came back from OpenCV. With
Python's 5 ms the delay of a low-latency frame was 44 ms (median; 95 %: 152), with this 29 (73)."""

_KEEP_SHOWN: Final = 2
"""Frames that may wait for a window or a virtual camera: an old one is worth nothing."""

_KEEP_WRITTEN: Final = 60
"""Frames that may wait for an encoder; two seconds at 30 frames a second."""

_RECORD_PATIENCE_S: Final = 300.0
"""What a recording gets to be completed at the end: a slow disk has to take what still waits in
memory for it."""


def run_live(
    config: Settings,
    *,
    seconds: float | None = None,
    on_facts: Callable[[dict[str, Any]], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
    on_address: Callable[[str], None] | None = None,
    out: BinaryIO | None = None,
    page: PageEnd | None = None,
) -> dict[str, Any]:
    """Runs one live source into every sink that the configuration switches on.

    It ends with the source (a file), when the window is closed, after `seconds`, by `page.stop()`
    or by KeyboardInterrupt; what sinks got is completed each time. The calling process is hardened
    for good, OpenCV's own threads are switched off in it. Call it from the main thread: a window
    wants that.

    Args:
        config: all options.
        seconds: ends the run after so long; None: it does not.
        on_facts: gets what was measured, as JSON values, about once a second, and after an
            interrupt once more.
        on_notice: gets sentences for the user, from any thread.
        on_address: gets the server's address with the token made for this run; nothing may write
            it down. By default nobody learns it.
        out: where `pipe` writes to; standard output by default.
        page: the way to the page's server; what viewers ask for there holds at once, but never
            below what is configured.

    Returns:
        What was measured in the end.

    Raises:
        UsageError: no sink is on, or an option makes no sense.
        SourceError, SinkError: the source or a sink cannot be opened in the first place.
        ModelError, PromiseError: see `core.errors`.
    """
    harden()
    few_heaps()
    cv2.setNumThreads(1)  # capture, follower, presenter, sinks and parser share the cores
    say = on_notice or (lambda _: None)
    open_source, endless = _source(config, say)
    capture = Capture(open_source, config.capture, endless=endless, on_notice=say)
    dial = PrivacyDial() if page is None else PrivacyDial(_floor(config))
    composer = Compositor(config.compose)
    stop = threading.Event()

    def on_key(key: Key) -> None:
        if key is Key.QUIT:
            stop.set()
            run.stop()
        else:
            level = dial.stronger() if key is Key.STRONGER else dial.configured()
            say(f"covered now: {level.value}")

    def rate() -> Fraction | None:
        known = capture.connect().average_rate
        return None if known is None or known < 1 else known  # some streams state nonsense

    outlets = _outlets(config, composer, on_key, say, on_address or (lambda _: None), out, rate)
    if page is not None:
        outlets.append(
            _page_outlet(page, config, composer, dial, lambda: page.tell(run.facts()), say)
        )
    if not outlets:
        raise UsageError(
            "nowhere to show or write the picture; switch a sink on, e.g. window.enabled: true"
        )
    lookers = _lookers(config)
    try:
        for looker in lookers.values():
            looker.begin()  # they load while the source is opened
        size_wh = capture.connect().size_wh
        fine = _fine_queue(config, size_wh, say)
    except BaseException:
        capture.stop()
        for looker in lookers.values():
            looker.close()
        raise
    pools = {name: LookPool([looker], attempts=1) for name, looker in lookers.items()}
    began_s = time.monotonic()

    def on_second() -> None:
        facts = run.facts()
        if page is not None:
            page.tell(facts)
        if on_facts is not None:
            on_facts(facts)
        if seconds is not None and time.monotonic() - began_s >= seconds:
            run.stop()

    run = LiveRun(
        capture=capture,
        outlets=outlets,
        composer=composer,
        pools=Pools(**pools),
        policy=Policy(config.policy),
        options=config.live,
        dial=dial,
        stats=LiveStats(),
        refiner=None
        if fine is None
        else Refiner(fine, side=min(fine_side(config.m2fp, size_wh), MAX_INPUT_SIDE)),
        on_second=on_second,
        on_notice=say,
    )
    if page is not None:
        page.attach(run.stop)
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        run.run()
    except KeyboardInterrupt:
        if on_facts is not None:
            on_facts(run.facts())  # with what came of the outputs
        raise
    finally:
        sys.setswitchinterval(switch_s)
        for pool in pools.values():
            pool.close()
        if fine is not None:
            fine.close()
    return run.facts()


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Replaces `path` by `facts` as JSON; readers never see half of it.

    Raises:
        SinkError: it cannot be written.
    """
    file = PartFile(path, overwrite=True)
    try:
        file.write((json.dumps(facts, indent=1) + "\n").encode())
        file.publish()
    except OSError as error:
        file.refuse(error)
    finally:
        file.discard()


def _lookers(config: Settings) -> dict[str, LookWorker]:
    """Returns who looks, one process each, none started."""

    def worker(niceness: int, kinds: Sequence[LookKind]) -> LookWorker:
        options = {"runtime": config.parser.runtime, "kinds": list(kinds)}
        return LookWorker(
            WorkerSpec(
                "m2fp_stream.parsers.embedded.looker:from_options",
                options,
                niceness=niceness,
                deadline_s=config.live.look_deadline_s,
            )
        )

    return {
        "faces": worker(0, [LookKind.FACES, LookKind.PEOPLE]),
        "near": worker(_LOOK_NICENESS, list(LookKind)),
        "far": worker(_FAR_NICENESS, [LookKind.PEOPLE, LookKind.FACES]),
    }


def _fine_queue(
    config: Settings, size_wh: tuple[int, int], say: Callable[[str], None]
) -> ParserQueue | None:
    """Returns the queue of the slow fine parser, where there is to be one."""
    if not config.m2fp.enabled:
        return None
    options = fine_parser(config.m2fp, size_wh, on_notice=say)
    # One look a picture: tiles and second looks would take half a minute.
    if config.m2fp.tiles > 1 or config.m2fp.agreement:
        say("m2fp.tiles and m2fp.agreement are for files; a live picture is looked at once")
    options |= {"tiles": 1, "agreement": False, "threads": 1}
    spec = WorkerSpec(
        "m2fp_stream.parsers.guarded:fine_from_options",
        options,
        niceness=_FINE_NICENESS,
        deadline_s=fine_deadline_s(config.m2fp),
    )
    patient = replace(
        spec,
        deadline_s=_FINE_PATIENCE * spec.deadline_s,
        start_deadline_s=_FINE_PATIENCE * spec.start_deadline_s,
    )
    return ParserQueue(ParserWorker(patient), attempts=1)


def _source(config: Settings, say: Callable[[str], None]) -> tuple[OpenSource, bool]:
    """Returns what opens the source, and whether its end is a loss (a camera's is, a film's not).

    Raises:
        SourceError: a camera is named that is not connected, or what is named is no source; where
            it may hold a password it is not quoted.
    """
    text = config.capture.input
    kind, _, rest = text.partition(":")
    if kind == "camera" and (looks_like_address(rest) or rest == "-" or _is(Path.is_fifo, rest)):
        text = rest  # --camera rtsp://...
    if text == "-" or _is(Path.is_fifo, text):
        pipe = None if text == "-" else Path(text)
        return (
            lambda first, size_wh: PipeSource(
                pipe, config.stream, first_frame_id=first, size_wh=size_wh
            )
        ), False
    if re.match("https?:", text.strip(), re.IGNORECASE):
        every_s = config.capture.snapshot_s
        return HttpCameras(text, config.stream, interval_s=every_s, on_notice=say), True
    if looks_like_address(text):
        return (
            lambda first, size_wh: StreamSource(
                text, config.stream, first_frame_id=first, size_wh=size_wh, on_notice=say
            )
        ), True
    if kind == "camera":
        camera: CameraId | str = rest or "0"
        if sys.platform == "linux":
            camera = find_camera(rest or "0").id  # from now on this one and no other
        return (
            lambda first, size_wh: CameraSource(
                camera, config.camera, first_frame_id=first, size_wh=size_wh
            )
        ), True
    if text == "synthetic":
        return (
            lambda first, size_wh: SyntheticSource(
                config.synthetic, first_frame_id=first, size_wh=size_wh
            )
        ), False

    if ("@" in text or "//" in text) and not _is(Path.exists, text):
        raise SourceError(
            "capture.input: there is no such file; if it is an address, begin it with rtsp://, "
            "http://, https://, rtsps:// or rtmp://"
        )

    def film() -> Source:
        return FileSource(Path(text), config.source)

    again = film if config.capture.loop else None
    return (
        lambda first, size_wh: RealtimeSource(
            film(), reopen=again, first_frame_id=first, size_wh=size_wh
        )
    ), False


def _is(what: Callable[[Path], bool], text: str) -> bool:
    try:
        return what(Path(text))
    except (OSError, ValueError):  # too long, or the like: no name of a file
        return False


def _outlets(
    config: Settings,
    composer: Compositor,
    on_key: Callable[[Key], None],
    say: Callable[[str], None],
    on_address: Callable[[str], None],
    out: BinaryIO | None,
    rate: Callable[[], Fraction | None],
) -> list[Outlet]:
    """Returns an outlet for each sink that is switched on; none is open yet.

    `rate` says how many frames a second the source gives; asked when it is open.
    """
    outlets: list[Outlet] = []

    def add(
        name: str,
        make: Callable[[tuple[int, int]], Sink[SafeFrame]],
        keep: int,
        patience_s: float = 0.0,
        *,
        keeps: bool = False,
    ) -> None:
        outlets.append(
            Outlet(
                name,
                make,
                keep=keep,
                keeps=keeps,
                patience_s=patience_s,
                on_patience=_rearmed(say),
                on_notice=say,
            )
        )

    if config.window.enabled:
        outlets.append(
            Outlet(
                "window",
                lambda _: WindowSink(config.window, on_key=on_key),
                keep=_KEEP_SHOWN,
                own_thread=False,
                idle=lambda sink: cast("WindowSink", sink).poll(),
                on_notice=say,
            )
        )
    if config.virtual_camera.enabled:
        add(
            "virtual camera",
            lambda size_wh: VirtualCameraSink(
                config.virtual_camera,
                size_wh=size_wh,
                card=_card(composer, size_wh),
                rate=rate(),
            ),
            _KEEP_SHOWN,
        )
    if config.record.enabled:
        add(
            "recording",
            lambda size_wh: SegmentSink(
                Path(config.record.folder),
                config.record,
                size_wh=size_wh,
                time_base=LIVE_TIME_BASE,
            ),
            _KEEP_WRITTEN,
            _RECORD_PATIENCE_S,
            keeps=True,
        )
    if config.push.enabled:
        add(
            "push",
            lambda size_wh: PushSink(config.push, size_wh=size_wh, time_base=LIVE_TIME_BASE),
            _KEEP_WRITTEN,
        )
    if config.serve.enabled:
        need_extra("serve")
        token: list[str] = []  # of the first server; one made anew keeps it

        def serve(size_wh: tuple[int, int]) -> Sink[SafeFrame]:
            options = config.serve
            if token:
                options = options.model_copy(update={"token": token[0]})
            sink = ServeSink(options, size_wh=size_wh, time_base=LIVE_TIME_BASE, serve=PlayerServer)
            if not token:
                token.append(sink.token)
                say(f"serving {sink.url}/live.ts and {sink.url}/live.m3u8")
                if not options.token:
                    on_address(f"{sink.url}/live.m3u8?token={sink.token}")
            return sink

        add("server", serve, _KEEP_WRITTEN)
    if config.pipe.enabled:
        # A reader that leaves is an error of write(), not a signal that ends the program.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        target = out or sys.stdout.buffer
        add(
            "pipe",
            lambda size_wh: PipeSink(
                target, config.pipe, size_wh=size_wh, time_base=LIVE_TIME_BASE
            ),
            _KEEP_SHOWN,
        )
    return outlets


def _rearmed(say: Callable[[str], None]) -> Callable[[], None]:
    """Returns what lets a second Ctrl-C end a wait, where the first has switched signals off."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def again() -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in before.items():
            if callable(handler) and signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, handler)
        if callable(signal.getsignal(signal.SIGINT)):
            say("interrupt again to give it up")

    return again


def _floor(config: Settings) -> CoverLevel:
    """Returns what viewers of the page cannot go below: what is configured."""
    hidden = BODY_PARTS.covering(config.policy.hidden_labels())
    return CoverLevel.PERSON if Label.HUMAN in hidden else CoverLevel.PARTS


def page_hello(config: Settings) -> PageHello:
    """Returns what viewers of the page are told, before anything runs."""
    elsewhere = (config.record, config.push, config.serve, config.virtual_camera, config.pipe)
    return PageHello(
        config.policy.hide,
        _floor(config),
        stored=any(sink.enabled for sink in elsewhere),
        delay_s=config.live.max_delay_s,
        fill=Policy(config.policy).effect_of(Label.HUMAN).value,
    )


def _page_outlet(
    page: PageEnd,
    config: Settings,
    composer: Compositor,
    dial: PrivacyDial,
    on_turn: Callable[[], None],
    say: Callable[[str], None],
) -> Outlet:
    """Returns the outlet to the page, whose viewers turn the dial."""
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
            card=_card(composer, size_wh),
            hello=hello,
            state=state,
            turn=turn,
            max_side=config.page.max_side,
            quality=config.page.quality,
        ),
        keep=PageSink.KEEP,
        on_notice=say,
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
