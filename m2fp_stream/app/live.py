"""Live runs: from a configuration to a source, its looks and sinks, and the pipeline between."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final, final

import cv2

from ..compositor.compose import Compositor
from ..config import Settings
from ..core.errors import UsageError
from ..core.part_file import replace_file
from ..core.records import LookKind
from ..pipeline.live.capture import Capture
from ..pipeline.live.control import PrivacyDial
from ..pipeline.live.looking import Pools
from ..pipeline.live.outlets import Outlet
from ..pipeline.live.refine import Refiner
from ..pipeline.live.run import LiveRun
from ..pipeline.live.stats import LiveStats
from ..pipeline.looks import LookPool, LookWorker
from ..pipeline.wire import MAX_INPUT_SIDE
from ..pipeline.workers import ParserQueue, ParserWorker, WorkerSpec
from ..policy import Policy
from ..privacy.hardening import few_heaps, harden
from ..sinks.page import PageEnd
from ..sinks.window import Key
from .live_sinks import LiveContext, live_outlets, page_outlet, privacy_floor
from .live_sources import pick_source
from .m2fp import fine_deadline_s, fine_parser, fine_side
from .weights import parts_option

__all__ = ["run_live", "write_facts"]

_LOOK_NICENESS: Final = 10
_FAR_NICENESS: Final = 12
"""Looks for faces, in every frame, go first, and with them whatever shows the picture; then those
for people and parts, whose age counts soon; far looks, which are rare, have what they leave. At 15
they took longer than the 5 s of their deadline (`bench live` on one core, two people who cross)."""

_FINE_NICENESS: Final = 19
"""The fine parser has what the picture and the guard leave of the machine. The largest there is
(sched(7))."""

_FINE_PATIENCE: Final = 10
"""By how much longer than in files it may take to start and to parse. A process of niceness 19
weighs 15 beside the 1024 of others (sched(7)): on a machine that others want it is starved, which
is no hang. To start it again costs more than to wait, and nothing else waits for it. Measured
beside two busy loops on two cores that others used as well: started and given up 3 times in 7
minutes."""

_SWITCH_S: Final = 0.0005
"""How long one thread may keep the interpreter from another that came back from OpenCV. With
Python's 5 ms the delay of a low-latency frame was 44 ms (median; 95 %: 152), with this 29 (73)."""


def run_live(
    config: Settings,
    *,
    until: Callable[[dict[str, Any]], bool] | None = None,
    on_facts: Callable[[dict[str, Any]], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
    on_address: Callable[[str], None] | None = None,
    out: BinaryIO | None = None,
    page: PageEnd | None = None,
) -> dict[str, Any]:
    """Runs one live source into every sink that the configuration switches on.

    It ends with the source (a file), when the window is closed, when `until` says so, by
    `page.stop()` or by KeyboardInterrupt; what sinks got is completed each time. The calling
    process is hardened for good, OpenCV's own threads are switched off in it. Call it from the main
    thread: a window wants that.

    Args:
        config: all options.
        until: asked about once a second, with what was measured, whether to end the run.
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
    listeners = _Listeners(on_facts, on_notice or _nobody, on_address or _nobody)
    return _LiveJob(config, listeners, page, until=until).run(out)


def _nobody(_: str) -> None:
    """Listens to nothing."""


@final
@dataclass(frozen=True, slots=True)
class _Listeners:
    """Who is told of a run; see `run_live`."""

    on_facts: Callable[[dict[str, Any]], None] | None
    say: Callable[[str], None]
    on_address: Callable[[str], None]


@final
class _LiveJob:
    """One live run, once: its parts, and what they tell each other."""

    def __init__(
        self,
        config: Settings,
        listeners: _Listeners,
        page: PageEnd | None,
        *,
        until: Callable[[dict[str, Any]], bool] | None,
    ) -> None:
        harden()
        few_heaps()
        cv2.setNumThreads(1)  # capture, follower, presenter, sinks and parser share the cores
        self._config, self._listeners, self._page = config, listeners, page
        self._until = until
        say = listeners.say
        open_source, endless = pick_source(config, say)
        self._capture = Capture(open_source, config.capture, endless=endless, on_notice=say)
        self._dial = PrivacyDial() if page is None else PrivacyDial(privacy_floor(config))
        self._composer = Compositor(config.compose)

    def run(self, out: BinaryIO | None) -> dict[str, Any]:
        """Runs, and returns what was measured in the end; see `run_live`."""
        outlets = self._outlets(out)
        lookers = _lookers(self._config)
        try:
            for looker in lookers.values():
                looker.begin()  # they load while the source is opened
            refiner, fine = self._fine()
        except BaseException:
            self._capture.stop()
            for looker in lookers.values():
                looker.close()
            raise
        pools = {name: LookPool([looker], attempts=1) for name, looker in lookers.items()}
        self._run = LiveRun(
            capture=self._capture,
            outlets=outlets,
            composer=self._composer,
            pools=Pools(**pools),
            policy=Policy(self._config.policy),
            options=self._config.live,
            dial=self._dial,
            stats=LiveStats(),
            refiner=refiner,
            on_second=self._each_second,
            on_notice=self._listeners.say,
        )
        if self._page is not None:
            self._page.attach(self._run.stop)
        try:
            self._run_switching()
        finally:
            for pool in pools.values():
                pool.close()
            if fine is not None:
                fine.close()
        return self._run.facts()

    def _outlets(self, out: BinaryIO | None) -> list[Outlet]:
        """Returns an outlet for each sink, the page's included.

        Raises:
            UsageError: there is none.
        """
        context = LiveContext(
            config=self._config,
            composer=self._composer,
            say=self._listeners.say,
            on_key=self._on_key,
            on_address=self._listeners.on_address,
            rate=self._rate,
            out=out,
        )
        outlets = live_outlets(context)
        if self._page is not None:
            outlets.append(page_outlet(self._page, context, self._dial, self._tell_page))
        if not outlets:
            raise UsageError(
                "nowhere to show or write the picture; switch a sink on, e.g. window.enabled: true"
            )
        return outlets

    def _fine(self) -> tuple[Refiner | None, ParserQueue | None]:
        """Opens the source; returns what adds the fine parser's findings, where there is one."""
        config = self._config
        size_wh = self._capture.connect().size_wh
        fine = _fine_queue(config, size_wh, self._listeners.say)
        if fine is None:
            return None, None
        return Refiner(fine, side=min(fine_side(config.m2fp, size_wh), MAX_INPUT_SIDE)), fine

    def _run_switching(self) -> None:
        """Runs with quick switches between threads; after an interrupt, tells what came of it."""
        switch_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        try:
            self._run.run()
        except KeyboardInterrupt:
            if self._listeners.on_facts is not None:
                self._listeners.on_facts(self._run.facts())  # with what came of the outputs
            raise
        finally:
            sys.setswitchinterval(switch_s)

    def _each_second(self) -> None:
        facts = self._run.facts()
        if self._page is not None:
            self._page.tell(facts)
        if self._listeners.on_facts is not None:
            self._listeners.on_facts(facts)
        if self._until is not None and self._until(facts):
            self._run.stop()

    def _tell_page(self) -> None:
        if self._page is not None:
            self._page.tell(self._run.facts())

    def _on_key(self, key: Key) -> None:
        if key is Key.QUIT:
            self._run.stop()
        else:
            stronger = key is Key.STRONGER
            level = self._dial.stronger() if stronger else self._dial.configured()
            self._listeners.say(f"covered now: {level.value}")

    def _rate(self) -> Fraction | None:
        known = self._capture.connect().average_rate
        return None if known is None or known < 1 else known  # some streams state nonsense


def write_facts(path: Path, facts: dict[str, Any]) -> None:
    """Replaces `path` by `facts` as JSON; readers never see half of it.

    Raises:
        SinkError: it cannot be written.
    """
    replace_file(path, (json.dumps(facts, indent=1) + "\n").encode())


def _lookers(config: Settings) -> dict[str, LookWorker]:
    """Returns who looks, one process each, none started."""
    parts = parts_option(config)

    def worker(niceness: int, kinds: Sequence[LookKind]) -> LookWorker:
        options = {"runtime": config.parser.runtime, "kinds": list(kinds), **parts}
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
