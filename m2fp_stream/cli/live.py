"""The commands for cameras: preview, kiosk, run, devices, bench."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import SinkError, UsageError
from .options import say_vain, settings_of
from .progress import StatusLine
from .show import live_summary, print_line, say
from .stats import StatsFile

if TYPE_CHECKING:
    from ..config import Settings

__all__ = ["bench", "devices", "kiosk", "preview", "run"]


def preview(args: argparse.Namespace) -> None:
    """Shows a camera, covered."""
    of_windows = {
        "--full-screen": args.full_screen,
        "--mirror": args.mirror is True,
        "--no-mirror": args.mirror is False,
    }
    for flag, given in of_windows.items():
        if given and args.no_window:
            raise UsageError(f"{flag}: there is no window (--no-window); leave out one of them")
    overrides = {**_input(args), "window.enabled": not args.no_window}
    if args.virtual_camera:
        overrides["virtual_camera.enabled"] = True
    if args.record is not None:
        overrides |= {"record.enabled": True, "record.folder": args.record}
    if args.full_screen:
        overrides["window.full_screen"] = True
    if args.mirror is not None:
        overrides["window.mirror"] = args.mirror
    settings = _live_settings(args, args.config, overrides)
    said = "mirror" in settings.window.model_fields_set  # by an option, the environment or the file
    if not said and settings.capture.input.startswith("camera"):
        settings = _live_settings(args, args.config, {**overrides, "window.mirror": True})
    _run_live(settings, args)


def kiosk(args: argparse.Namespace) -> None:
    """Shows a camera on a wall, in a browser."""
    overrides = _input(args)
    if args.uploads:
        overrides["page.uploads"] = True
    if args.no_browser:
        overrides["kiosk.browser"] = "none"
    settings = _live_settings(args, args.config, overrides)
    if settings.capture.input in ("-", "camera:-"):
        raise UsageError(
            "kiosk: its camera process has no standard input; make a pipe with a name (mkfifo) "
            "and give that"
        )
    from ..kiosk.supervisor import run_kiosk
    from ..pipeline.live.health import judged

    line = StatusLine()
    stats = StatsFile(args.stats, line.say)

    def on_facts(facts: dict[str, Any]) -> None:
        stats.keep(judged(facts))
        if sys.stderr.isatty():  # a journal would get millions of lines
            line.show(facts)

    def on_address(address: str) -> None:
        line.say("the page is at the address below; keep it to yourself, it is the way in")
        line.say_address(address)

    try:
        facts = run_kiosk(
            settings,
            seconds=args.seconds,
            on_facts=on_facts,
            on_notice=line.say,
            on_address=on_address,
        )
    finally:
        line.end()
    if facts:
        stats.keep(judged(facts, running=False))
        say(live_summary(facts))
        _raise_losses(facts)


def run(args: argparse.Namespace) -> None:
    """Runs what a configuration file says."""
    if len(args.paths) > 1:
        raise UsageError("run: one configuration file at a time; several cameras, several runs")
    _run_live(_live_settings(args, args.paths[0], {}), args)


def _input(args: argparse.Namespace) -> dict[str, object]:
    """Returns what `--source` or `--camera` sets."""
    if args.source is not None:
        return {"capture.input": args.source}
    return {} if args.camera is None else {"capture.input": f"camera:{args.camera}"}


def _live_settings(
    args: argparse.Namespace, path: Path | None, overrides: dict[str, object]
) -> Settings:
    mode = {} if args.mode is None else {"live.alignment": args.mode}
    settings = settings_of(args, path, {**overrides, **mode})
    if settings.policy.places().timed:
        raise UsageError(
            "a zone with a time (@BEGIN-END) and policy.cover_spans are for files; leave the time "
            "out, and the zone is always covered"
        )
    return settings


def _run_live(settings: Settings, args: argparse.Namespace) -> None:
    from ..app.live import run_live, write_facts
    from ..pipeline.live.health import judged

    line = StatusLine()
    stats = StatsFile(args.stats, line.say)
    say_vain(args, settings)
    last: dict[str, Any] = {}

    def on_facts(facts: dict[str, Any]) -> None:
        nonlocal last
        last = facts
        stats.keep(judged(facts))
        line.show(facts)

    def _is_over(facts: dict[str, Any]) -> bool:
        return bool(facts["uptime_s"] >= args.seconds)

    try:
        facts = run_live(
            settings,
            until=None if args.seconds is None else _is_over,
            on_facts=on_facts,
            on_notice=line.say,
            on_address=line.say_address,
        )
    except BaseException as error:
        line.end()
        stats.keep(judged(last, running=False))
        if isinstance(error, KeyboardInterrupt):
            _raise_losses(last)  # a recorder is ended so, and its script must learn of them
        raise
    finally:
        line.end()
    if args.stats is not None:
        write_facts(args.stats, judged(facts, running=False))
    say(live_summary(facts))
    _raise_losses(facts)


def _raise_losses(facts: Mapping[str, Any]) -> None:
    """Raises `SinkError` where a failure took something of what is to be kept."""
    from ..pipeline.live.health import losses

    if lost := losses(facts):
        raise SinkError("; ".join(lost))


def devices(_: argparse.Namespace) -> None:
    """Lists the cameras."""
    from ..sources.camera import OpenCvCameras
    from ..sources.devices import holders_of

    cameras = OpenCvCameras().list()
    for camera in cameras:
        line = f"{camera.number}  {camera.id}  {camera.id.name or 'unnamed'}  {camera.node}"
        holders = holders_of(camera.node)
        print_line(f"{line}  used by {' and '.join(holders)}" if holders else line)
    if not cameras:
        print_line("no camera is connected")


def bench(args: argparse.Namespace) -> None:
    """Measures the live pipeline."""
    from ..bench import bench_live

    bench_live(
        source=args.source or "synthetic",
        modes=[args.mode] if args.mode else ["low_latency", "aligned"],
        seconds=args.seconds or 30.0,
        json_path=args.json,
        stats_path=args.stats,
        say=say,
        show=print_line,
    )
