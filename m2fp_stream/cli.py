"""The command line: arguments to `app`, errors to exit codes, progress to stderr.

Heavy modules are imported inside the commands, so that ``--help`` and usage errors are quick.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Self

from . import __version__
from .core.errors import (
    EXIT_DONE,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    BatchError,
    ConfigError,
    M2FPStreamError,
    ModelError,
    SinkError,
    SourceError,
    UsageError,
)
from .core.labels import PRESETS, Label, nearest, parse_label_name
from .core.redact import install_redaction, redact
from .naming import IMAGE_SUFFIXES, VIDEO_SUFFIXES, find_media, output_path
from .privacy.hardening import harden, hide_arguments
from .processes.child import Child, Stream, start_module

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from .app import Progress, RunReport
    from .config import Settings

__all__ = ["main"]

PROGRAM: Final = "m2fp-stream"
_STATS_AGAIN_S: Final = 30.0
"""Seconds after which a file of numbers that could not be written is tried again."""
_LINE_EVERY_S: Final = 10.0
"""Seconds between progress lines where stderr is no terminal: a log stays readable."""
_BAR_EVERY_S: Final = 0.1
"""Seconds between repaints of the bar; more often is not seen and costs encoder time."""
_POLL_S: Final = 0.05
_FILE_SECTIONS: Final = (
    *("policy", "parser", "tracking", "compose", "source", "m2fp", "output", "file"),
)
"""What a run over a file reads; sections that may hold passwords are not among them."""
"""Seconds between looks at the child processes of a batch; small beside any file's time."""

_EXIT_CODES: Final = """\
exit codes:
  0 done; 1 internal error; 2 usage or configuration; 3 input; 4 parser or model; 5 output;
  6 a privacy promise could not be kept (nothing uncovered was written); 8 a batch failed in
  part; 130 interrupted
"""
_ANONYMIZE_EXAMPLES: Final = f"""\
presets of --hide: {", ".join(PRESETS)}
labels: {", ".join(label.title for label in Label if label)}

examples:
  {PROGRAM} anonymize clip.mov                        writes clip.anonymized.mp4 beside it
  {PROGRAM} anonymize holiday/ -o shared/ --jobs 2    a folder of videos and pictures
  {PROGRAM} anonymize clip.mp4 --hide person --effect solid
  {PROGRAM} anonymize clip.mp4 --effect hair=mosaic --start 0:30 --end 1:10 -o cut.mp4
"""
_PREVIEW_EXAMPLES: Final = f"""\
keys in the window: q or Esc quits, f full screen, m mirror, p covers more, o covers as configured

examples:
  {PROGRAM} preview                                   the first camera, heads covered
  {PROGRAM} preview --camera 0 --hide person --mode low_latency
  {PROGRAM} preview --virtual-camera --no-window      for calls (needs the virtual-camera extra)
  {PROGRAM} preview --source rtsp://192.0.2.7/stream --record recordings/
  rpicam-vid -t 0 -o - | {PROGRAM} preview --camera -
"""
_KIOSK_EXAMPLES: Final = f"""\
It prints the page's address once; whoever has it may look. Where Chromium and a display are found,
the page opens by itself. docs/kiosk.md says how to start it at login, turn the display and switch
it off.

examples:
  {PROGRAM} kiosk                                     the first camera, heads covered, full screen
  {PROGRAM} kiosk --hide person --rotate 90 --language zh
  {PROGRAM} kiosk --source rtsp://192.0.2.7/stream --no-browser
  {PROGRAM} kiosk --host 192.0.2.5 --certificate mirror.pem --key mirror.key
"""
_RUN_EXAMPLES: Final = f"""\
examples:
  {PROGRAM} run configs/rtsp_relay.yaml --stats relay.json
  {PROGRAM} run door.yaml & {PROGRAM} run yard.yaml   two cameras are two processes
"""
_DOCTOR_EXAMPLES: Final = f"""\
examples:
  {PROGRAM} doctor
  {PROGRAM} doctor --stats relay.json                 a health check, for a container or a timer
"""
_BENCH_EXAMPLES: Final = f"""\
examples:
  {PROGRAM} bench live
  {PROGRAM} bench live --source clip.mp4 --mode aligned --seconds 60 --json bench.json
"""
_MODELS_EXAMPLES: Final = f"""\
M2FP's weights are under CC BY-NC 4.0: not for commercial use. They come from ModelScope (needs the
m2fp extra), are trusted the first time, and compared with that ever after.

examples:
  {PROGRAM} models pull m2fp
  {PROGRAM} models pull m2fp --key ~/.m2fp.key      stored encrypted
  {PROGRAM} models export m2fp --model-dir weights/ --size 1280x720
  {PROGRAM} anonymize clip.mp4 --parser m2fp
"""
_CALLED_BACK: Final = ("PartFile.write", "PartFile.seek", "PartFile.tell")
_AGAIN_S: Final = 0.005
"""When a signal that came at a bad moment is sent again."""
_HUB_NAMES: Final = ("m2fp", "m2fp-lip")
_PARSE_EXAMPLES: Final = f"""\
examples:
  {PROGRAM} parse photo.jpg -o labels.png
  {PROGRAM} parse photos/ -o labels/ --format palette
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; an error is one line on stderr.

    Args:
        argv: the arguments without the program's name; None takes those of the process.
    """
    harden()
    arguments = list(sys.argv[1:] if argv is None else argv)
    hide_arguments(arguments)
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name must not fail to print
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format=f"{PROGRAM}: %(levelname)s: %(name)s: %(message)s",
    )
    install_redaction()
    try:
        with _interruptible():
            return _run(arguments)
    except SystemExit as done:  # argparse, after --help and --version
        return done.code if isinstance(done.code, int) else EXIT_DONE
    except KeyboardInterrupt:
        _say("interrupted; nothing unfinished was kept")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output left, e.g. `| head`; keep the interpreter from flushing into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERNAL
    except Exception as error:
        return _report(error, debug=debug)


def _run(arguments: list[str]) -> int:
    parser, commands = _parsers()
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help", "--version"):
        parser.parse_args(arguments)
    if name not in commands:
        what = f"unknown command {name!r}" if name else "no command"
        raise UsageError(f"{what}; {nearest(name, [*commands, '--version'])} ({PROGRAM} --help)")
    command = commands[name]
    # argparse takes positional arguments in one place only; people mix them with options.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    args, extra = command.parse_known_args(arguments[1:end])
    for word in extra:
        if word.startswith("-") and len(word) > 1:
            known = [text for action in command.options for text in action.option_strings]
            option = word.partition("=")[0]
            raise UsageError(f"unknown option {option!r}; {nearest(option, known)}")
    paths = [Path(word) for word in [*args.paths, *extra, *arguments[end + 1 :]]]
    if command.wants_paths and not paths:
        raise UsageError(f"{name}: name at least one {command.wants_paths}")
    if not command.wants_paths and paths:
        raise UsageError(f"{name}: unexpected argument {str(paths[0])!r}")
    args.paths = paths
    command.run(args)
    return EXIT_DONE


# -- commands --------------------------------------------------------------------------------------


def _anonymize(args: argparse.Namespace) -> None:
    jobs = _plan(args.paths, args.output, IMAGE_SUFFIXES | VIDEO_SUFFIXES, output_path)
    _refuse_useless(args, jobs)
    single = len(jobs) == 1 and not args.paths[0].is_dir()
    if single:
        _check(jobs[0], overwrite=args.overwrite)
    settings = _settings(args)
    if vain := _vain_keys(args, settings):
        _say(vain)
        args.parser = _Given("embedded", value=False)  # child processes need not say it again

    def run(job: _Job) -> None:
        from .app import anonymize

        def warn(text: str) -> None:
            if args.strict:
                raise SourceError(f"{job.path_in}: {text} (an error because of --strict)")
            display.say(f"warning: {job.path_in}: {text}")

        with _Display(job.path_in.name, args.progress) as display:
            report = anonymize(
                job.path_in,
                job.path_out,
                settings,
                overwrite=args.overwrite,
                progress=display.update,
                on_warning=warn,
                on_notice=display.say,
            )
        # Metadata never passes and nearly every file has some: that is no news.
        if dropped := [item for item in report.dropped if not item.startswith("metadata")]:
            _say(f"warning: {job.path_in}: left out: {', '.join(dropped)}")
        _print(_summary(job, report))

    if single:
        run(jobs[0])
    elif args.jobs > 1:
        _batch_of_processes(jobs, args)
    else:
        _batch(jobs, run, args)


def _parse(args: argparse.Namespace) -> None:
    def label_path(path_in: Path, taken: set[Path]) -> Path:
        plain = path_in.with_suffix(".png")
        return path_in.with_name(path_in.name + ".png") if plain in taken else plain

    jobs = _plan(args.paths, args.output, IMAGE_SUFFIXES, label_path)
    single = len(jobs) == 1 and not args.paths[0].is_dir()
    if single:
        _check(jobs[0], overwrite=args.overwrite)
    settings = _settings(args)
    if vain := _vain_keys(args, settings):
        _say(vain)

    def run(job: _Job) -> None:
        from .app import parse_image

        done = parse_image(
            job.path_in,
            job.path_out,
            settings,
            format=args.format,
            overwrite=args.overwrite,
            on_notice=_say,
        )
        ids = {label.title: int(label) for label in Label}
        width, height = done.size_wh
        shares = ", ".join(
            f"{ids[name]} {name} {pixels / (width * height):.1%}"
            for name, pixels in sorted(done.labels.items(), key=lambda item: ids[item[0]])
        )
        _print(f"{job.path_in} -> {done.path_out}: {width}x{height}; {shares}")

    if single:
        run(jobs[0])
    else:
        _batch(jobs, run, args)


def _preview(args: argparse.Namespace) -> None:
    of_windows = {
        "--full-screen": args.full_screen,
        "--mirror": args.mirror is True,
        "--no-mirror": args.mirror is False,
    }
    for flag, given in of_windows.items():
        if given and args.no_window:
            raise UsageError(f"{flag}: there is no window (--no-window); leave out one of them")
    overrides: dict[str, object] = {"window.enabled": not args.no_window}
    if args.source is not None:
        overrides["capture.input"] = args.source
    elif args.camera is not None:
        overrides["capture.input"] = f"camera:{args.camera}"
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
    _live(settings, args)


def _kiosk(args: argparse.Namespace) -> None:
    overrides: dict[str, object] = {}
    if args.source is not None:
        overrides["capture.input"] = args.source
    elif args.camera is not None:
        overrides["capture.input"] = f"camera:{args.camera}"
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
    from .kiosk.supervisor import run_kiosk
    from .pipeline.live.health import judged

    line = _StatusLine()
    stats = _StatsFile(args.stats, line.say)

    def on_facts(facts: dict[str, Any]) -> None:
        stats.keep(judged(facts))
        if sys.stderr.isatty():  # a journal would get millions of lines
            line.show(facts)

    def on_address(address: str) -> None:
        line.say("the page is at the address below; keep it to yourself, it is the way in")
        _say_address(address)

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
        _say(_live_summary(facts))
        _raise_losses(facts)


def _run_config(args: argparse.Namespace) -> None:
    if len(args.paths) > 1:
        raise UsageError("run: one configuration file at a time; several cameras, several runs")
    _live(_live_settings(args, args.paths[0], {}), args)


def _live_settings(
    args: argparse.Namespace, path: Path | None, overrides: dict[str, object]
) -> Settings:
    if args.mode is not None:
        overrides = {**overrides, "live.alignment": args.mode}
    return _settings(argparse.Namespace(**{**vars(args), "config": path}), overrides)


def _live(settings: Settings, args: argparse.Namespace) -> None:
    from .app_live import run_live, write_facts
    from .pipeline.live.health import judged

    line = _StatusLine()
    stats = _StatsFile(args.stats, line.say)
    if vain := _vain_keys(args, settings):
        _say(vain)

    last: dict[str, Any] = {}

    def on_facts(facts: dict[str, Any]) -> None:
        nonlocal last
        last = facts
        stats.keep(judged(facts))
        line.show(facts)

    try:
        facts = run_live(
            settings,
            seconds=args.seconds,
            on_facts=on_facts,
            on_notice=line.say,
            on_address=_say_address,
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
    _say(_live_summary(facts))
    _raise_losses(facts)


def _raise_losses(facts: Mapping[str, Any]) -> None:
    """Raises `SinkError` where a failure took something of what is to be kept."""
    from .pipeline.live.health import losses

    if lost := losses(facts):
        raise SinkError("; ".join(lost))


def _devices(_: argparse.Namespace) -> None:
    from .sources.camera import OpenCvCameras, holders_of

    cameras = OpenCvCameras().list()
    for camera in cameras:
        line = f"{camera.number}  {camera.id}  {camera.id.name or 'unnamed'}  {camera.node}"
        holders = holders_of(camera.node)
        _print(f"{line}  used by {' and '.join(holders)}" if holders else line)
    if not cameras:
        _print("no camera is connected")


def _bench(args: argparse.Namespace) -> None:
    from .bench import bench_live

    bench_live(
        source=args.source or "synthetic",
        modes=[args.mode] if args.mode else ["low_latency", "aligned"],
        seconds=args.seconds or 30.0,
        json_path=args.json,
        stats_path=args.stats,
        say=_say,
        show=_print,
    )


def _models(args: argparse.Namespace) -> None:
    if args.action in ("pull", "export") and args.name not in _HUB_NAMES:
        names = " or ".join(_HUB_NAMES)
        raise UsageError(f"models {args.action}: name what to {args.action}: {names}")
    if args.action not in ("pull", "export") and args.name is not None:
        raise UsageError(f"models {args.action}: unexpected argument {args.name!r}")
    actions = {"list": _list_models, "verify": _verify_models}
    if args.action == "pull":
        _pull_model(args)
    elif args.action == "export":
        _export_model(args)
    else:
        actions[args.action]()


def _list_models() -> None:
    from .models.pull import hub_models, pulled_folder, store_folder
    from .models.store import read_manifest

    rows = [("NAME", "LICENCE", "ORIGIN", "SIZE", "RUNTIME")]
    for entry in read_manifest():
        origin = f"{entry.origin.registry}: {entry.origin.package} {entry.origin.version}"
        size = f"{entry.bytes / 1e6:.1f} MB"
        rows.append((entry.name, entry.licence, origin, size, entry.runtime))
    for model in hub_models():
        try:
            folder, _ = pulled_folder(model.name, store_folder(os.environ))
            size = f"{(folder / 'pytorch_model.pt').stat().st_size / 1e6:.1f} MB"
        except ModelError:
            size = "not pulled"
        rows.append((model.name, model.licence, f"modelscope: {model.model_id}", size, ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _print("  ".join(map(str.ljust, row, widths)).rstrip())


def _verify_models() -> None:
    from .models.pull import store_folder, verify_pulled
    from .models.store import verify_all

    results = verify_all() + verify_pulled(store_folder(os.environ))
    for result in results:
        _print(f"{result.name}: {'ok' if result.ok else result.problem}")
    bad = [result.name for result in results if not result.ok]
    if bad:
        names = ", ".join(bad)
        raise ModelError(f"{len(bad)} of {len(results)} models are not as they were: {names}")


def _pull_model(args: argparse.Namespace) -> None:
    from .models.pull import HubModel, pull, store_folder
    from .models.vault import Key, key_from_file, key_from_keyring, new_key_file, seal

    def accept(model: HubModel) -> bool:
        for line in (
            f"{model.name}: {model.model_id}, revision {args.revision or model.revision}",
            f"licence: {model.licence}, {model.licence_url}",
            model.licence_note,
        ):
            _say(line)
        if args.accept_licence:
            return True
        if not sys.stdin.isatty():
            raise UsageError(
                f"models pull: the licence has to be accepted once: read {model.licence_url}, "
                "then add --accept-licence"
            )
        print("Do you accept it? [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    key: Key | None = None
    if args.key == "keyring":
        key = key_from_keyring(create=True)
    elif args.key is not None:
        path = Path(args.key)
        key = key_from_file(path) if path.exists() else new_key_file(path)
    with _PullDisplay() as display:
        pulled = pull(
            args.name,
            store_folder(os.environ),
            accept=accept,
            progress=display.update,
            revision=args.revision,
            seal=None if key is None else lambda data, name: seal(data, key, name),
        )
    for name, digest in pulled.files.items():
        _print(f"{pulled.folder / name}: SHA-256 {digest}")
    if pulled.first_time:
        _say("trusted on first use: from now on these hashes must hold")


def _export_model(args: argparse.Namespace) -> None:
    from .app_models import HUB_NAMES, export_network
    from .config import load_settings

    width, _, height = args.size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"models export: --size: expected WIDTHxHEIGHT, got {args.size!r}")
    kind = next(kind for kind, name in HUB_NAMES.items() if name == args.name)
    overrides: dict[str, object] = {"m2fp.kind": kind.value}
    if args.model_dir is not None:
        overrides["m2fp.model_dir"] = args.model_dir
    if args.short_side is not None:
        overrides["m2fp.short_side"] = args.short_side
    if args.key is not None:
        overrides["m2fp.key"] = args.key
    settings = load_settings(None, overrides=overrides)
    path, digest = export_network(settings.m2fp, (int(width), int(height)), on_notice=_say)
    _print(f"{path}: {path.stat().st_size / 1e6:.0f} MB, SHA-256 {digest}")


def _doctor(args: argparse.Namespace) -> None:
    from .doctor import check_stats, examine

    if args.stats is not None:
        _print(check_stats(args.stats, args.max_age))
        return
    facts = examine()
    width = max(len(fact.name) for fact in facts)
    for fact in facts:
        _print(f"{fact.name:{width}}  {fact.text}")
        if fact.remedy:
            _print(f"{'':{width}}  -> {fact.remedy}")
    problems = [fact for fact in facts if fact.error is not None]
    for fact in problems[:1]:
        assert fact.error is not None
        more = f" (and {len(problems) - 1} more, above)" if len(problems) > 1 else ""
        raise fact.error(f"anonymize cannot run: {fact.name}: {fact.text}{more}; {fact.remedy}")
    _print("anonymize can run")


def _check_config(args: argparse.Namespace) -> None:
    from .config import Settings, load_settings

    for path in args.paths:
        try:
            settings = load_settings(path, environ={})
        except ConfigError as error:
            for problem in getattr(error, "__notes__", []):
                _print(problem)
            raise
        given, default = settings.model_dump(), Settings().model_dump()
        changed = [
            f"{section}.{name}"
            for section, fields in given.items()
            for name, value in fields.items()
            if value != default[section][name]
        ]
        _print(f"{path}: valid; not as by default: {', '.join(changed) or 'nothing'}")


# -- inputs and outputs ----------------------------------------------------------------------------


class _Job(NamedTuple):
    path_in: Path
    path_out: Path


def _plan(
    inputs: list[Path],
    output: Path | None,
    suffixes: frozenset[str],
    name: Callable[[Path, set[Path]], Path],
) -> list[_Job]:
    """Returns who is written where; opens and creates nothing.

    Raises:
        SourceError: a folder cannot be read or holds nothing of `suffixes`.
        SinkError: the output folder does not exist.
        UsageError: two inputs would be written to one file.
    """
    found: list[tuple[Path, Path]] = []  # the input, and what an output folder stands in for
    for path in inputs:
        with _within_reach(SourceError):
            folder = path if path.is_dir() else None
            media = [path] if folder is None else find_media(folder, suffixes)
        if not media:
            raise SourceError(f"{path}: no file to work on in this folder")
        found += [(file, folder or path.parent) for file in media]
    found = list(dict.fromkeys(found))
    if output is not None:
        with _within_reach(SinkError):
            if len(found) == 1 and found[0][0] == inputs[0] and not output.is_dir():
                _need_folder(output.parent)
                return [_Job(inputs[0], output)]
            _need_folder(output)
    sources = {os.path.realpath(file): file for file, _ in found}
    jobs = []
    taken: set[Path] = set()
    for file, base in found:
        target = name(file if output is None else output / file.relative_to(base), taken)
        if target in taken or sources.get(os.path.realpath(target), file) != file:
            raise UsageError(f"{file}: {target} is another input or its output; use another -o")
        taken.add(target)
        jobs.append(_Job(file, target))
    return jobs


def _need_folder(folder: Path) -> None:
    if not folder.exists():
        raise SinkError(f"{folder}: no such output folder; create it first (mkdir -p)")
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; name an existing folder for the output")


def _check(job: _Job, *, overwrite: bool) -> None:
    """Refuses, before any work, an input or output that cannot be meant.

    Raises:
        SourceError: the input does not exist or is out of reach.
        UsageError: the output is the input, or exists without ``--overwrite``.
    """
    with _within_reach(SourceError):
        if not job.path_in.exists():
            raise SourceError(f"{job.path_in}: no such file")
    with _within_reach(SinkError):
        if os.path.lexists(job.path_out):
            if job.path_out.exists() and job.path_out.samefile(job.path_in):
                raise UsageError(f"{job.path_out}: the output is the input; name another with -o")
            if not overwrite:
                raise UsageError(f"{job.path_out}: exists; use --overwrite or another -o")


@contextmanager
def _within_reach(kind: type[M2FPStreamError]) -> Iterator[None]:
    """Turns what the system says about a path into `kind`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, M2FPStreamError):
            raise
        raise kind(f"{error.filename}: {error.strerror}") from None


def _settings(args: argparse.Namespace, more: Mapping[str, object] | None = None) -> Settings:
    from .config import load_settings

    overrides = dict(more or {})
    flags: dict[str, str] = {}
    for option in _OPTIONS:
        if (wanted := getattr(args, option.name, None)) is not None:
            overrides |= dict.fromkeys(option.keys, wanted.value)
            flags |= dict.fromkeys(option.keys, option.flag)
    effects: list[_Given] = getattr(args, "effect", None) or []
    if effects:
        by_label = {}
        for given in effects:
            label, _, effect = given.text.rpartition("=")
            if label:
                by_label[parse_label_name(label).title] = effect
            else:
                overrides["policy.effect"] = effect
        # A bare effect is for all: it also ends what a file says about single labels.
        overrides["policy.effects"] = by_label
    settings = load_settings(args.config, overrides=overrides, flags=flags)
    for option in _OPTIONS:
        is_given = getattr(args, option.name, None) is not None
        if is_given and option.flag in _OF_M2FP and not settings.m2fp.enabled:
            raise UsageError(f"{option.flag}: is for M2FP; add --parser m2fp or leave it out")
    return settings


def _refuse_useless(args: argparse.Namespace, jobs: Sequence[_Job]) -> None:
    """Refuses options that no job has a use for.

    Raises:
        UsageError: see above.
    """
    for option in _OPTIONS:
        if getattr(args, option.name, None) is None:
            continue
        if any(_has_use(option.flag, job) for job in jobs):
            continue
        what, path = "MP4 files", jobs[0].path_out
        if option.flag in _OF_TIMES:
            what, path = "videos and GIFs", jobs[0].path_in
        raise UsageError(f"{option.flag}: is for {what}; {path} is none, leave it out")


def _has_use(flag: str, job: _Job) -> bool:
    if flag in _OF_TIMES:
        return job.path_in.suffix.lower() not in IMAGE_SUFFIXES
    if flag in _OF_ENCODER:
        return job.path_out.suffix.lower() not in IMAGE_SUFFIXES | {".gif"}
    return True


def _vain_keys(args: argparse.Namespace, settings: Settings) -> str:
    """Returns a sentence about what file and environment set for M2FP while it is off, or ""."""
    if settings.m2fp.enabled or getattr(args, "parser", None) is not None:
        return ""
    given, default = settings.m2fp, type(settings.m2fp)()
    vain = [name for name, value in given if value != getattr(default, name)]
    if not vain:
        return ""
    names = ", ".join(f"m2fp.{name}" for name in vain)
    return f"{names}: set in vain, for M2FP is off; m2fp.enabled or --parser m2fp switches it on"


# -- batches ---------------------------------------------------------------------------------------


def _prepare(job: _Job, *, overwrite: bool) -> None:
    """Checks `job` and makes its folder below the output folder.

    Raises:
        SinkError: the folder cannot be made.
        SourceError, UsageError: see `_check`.
    """
    _check(job, overwrite=overwrite)
    with _within_reach(SinkError):
        job.path_out.parent.mkdir(parents=True, exist_ok=True)


def _batch(jobs: list[_Job], run: Callable[[_Job], None], args: argparse.Namespace) -> None:
    """Runs `jobs` one after the other; a failure is reported and the rest goes on.

    Raises:
        BatchError: some failed.
    """
    failed = 0
    for job in jobs:
        try:
            _prepare(job, overwrite=args.overwrite)
            run(job)
        except Exception as error:
            _report(error, debug=args.debug, about=job.path_in)
            failed += 1
    _conclude(failed, len(jobs))


def _batch_of_processes(jobs: list[_Job], args: argparse.Namespace) -> None:
    """Runs `jobs` in child processes of this program, `args.jobs` at a time.

    Raises:
        BatchError: some failed.
    """
    waiting = list(reversed(jobs))
    running: dict[Child, _Job] = {}
    failed = 0
    try:
        while waiting or running:
            while waiting and len(running) < args.jobs:
                job = waiting.pop()
                try:
                    _prepare(job, overwrite=args.overwrite)
                except Exception as error:
                    _report(error, debug=args.debug, about=job.path_in)
                    failed += 1
                    continue
                process = start_module(
                    str(__package__),
                    *("anonymize", *_as_arguments(args, job)),
                    *(f"--output={job.path_out}", "--", str(job.path_in)),
                    stdout=Stream.OURS,
                    stderr=Stream.OURS,
                    sections=_FILE_SECTIONS,
                )
                running[process] = job
            time.sleep(_POLL_S)
            for process in [child for child in running if child.poll() is not None]:
                job = running.pop(process)
                failed += process.returncode != 0
                if process.returncode < 0:
                    name = signal.Signals(-process.returncode).name
                    _say(f"error: {job.path_in}: its process was ended by {name}")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
    _conclude(failed, len(jobs))


def _as_arguments(args: argparse.Namespace, job: _Job) -> list[str]:
    """Returns the options of `args` that the child process of a batch needs for `job`."""
    words = [f"--progress={'off' if args.progress == 'off' else 'lines'}"]
    words += [f"--effect={given.text}" for given in args.effect or ()]
    for option in _OPTIONS:
        given: _Given | None = getattr(args, option.name, None)
        if given is not None and _has_use(option.flag, job):
            words.append(f"{option.flag}={given.text}" if option.metavar else option.flag)
    words += [f"--config={args.config}"] if args.config is not None else []
    words += [f"--{name}" for name in ("overwrite", "strict", "debug") if getattr(args, name)]
    return words


def _conclude(failed: int, count: int) -> None:
    if failed:
        raise BatchError(f"{failed} of {count} files failed, see above; the others are complete")


# -- what people see -------------------------------------------------------------------------------


def _shown(text: object) -> str:
    """Returns `text` as one line a terminal can take: no line ends, escapes or lone surrogates."""
    line = " ".join(redact(str(text)).splitlines())
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in line
    )


def _print(text: str) -> None:
    print(_shown(text), flush=True)


def _say(text: object) -> None:
    print(f"{PROGRAM}: {_shown(text)}", file=sys.stderr, flush=True)


def _say_address(address: str) -> None:
    """Prints an address with the token that opens it, which `_say` would take out."""
    print(f"{PROGRAM}: {address}", file=sys.stderr, flush=True)


def _report(error: Exception, *, debug: bool, about: Path | None = None) -> int:
    """Prints `error` as one line and returns its exit code."""
    if debug:
        # Frames and classes only: the message of an unforeseen exception may quote an array.
        _print_stack(error)
    if isinstance(error, M2FPStreamError):
        text, code = str(error), error.exit_code
    elif isinstance(error, ImportError) and not str(error.name).startswith("m2fp_stream"):
        text = f"cannot import {error.name}: {error.msg}; `{PROGRAM} doctor` says what to do"
        code = UsageError.exit_code
    else:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        hint = "" if debug else "; run again with --debug and report what it prints"
        text, code = f"internal error: {type(error).__name__} at {place}{hint}", EXIT_INTERNAL
    if about is not None and str(about) not in text:
        text = f"{about}: {text}"
    _say(f"error: {text}")
    return code


def _print_stack(error: BaseException) -> None:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        _print_stack(cause)
    for line in traceback.format_tb(error.__traceback__):
        print(redact(line), end="", file=sys.stderr)
    print(type(error).__name__, file=sys.stderr)


def _summary(job: _Job, report: RunReport) -> str:
    rate = report.frames / report.elapsed_s if report.elapsed_s > 0 else 0.0
    unknown = f", {report.unknown_frames} wholly covered" if report.unknown_frames else ""
    looks = ", ".join(f"{count} {name}" for name, count in report.looks.items())
    shortened = (
        f", {report.shortened_frames} with a shorter look-behind" if report.shortened_frames else ""
    )
    whole = f", {report.whole_frames} with a whole body covered" if report.whole_frames else ""
    return (
        f"{job.path_in} -> {report.path_out}: "
        f"{report.frames} frames{unknown}{shortened}{whole}, looks: "
        f"{looks}; {report.covered_fraction:.1%} covered on average, "
        f"{report.elapsed_s:.1f} s "
        f"({rate:.1f} fps)"
    )


class _PullDisplay:
    """How much of a file has come: a bar on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._said_s = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on_terminal and self._said_s > 0:
            print(file=sys.stderr)

    def update(self, name: str, done: int, total: int | None) -> None:
        """Shows progress; see `models.pull.Progress`."""
        now_s = time.monotonic()
        is_last = total is not None and done >= total
        if now_s - self._said_s < (0.1 if self._on_terminal else _LINE_EVERY_S) and not is_last:
            return
        self._said_s = now_s
        text = f"{name}: {done / 1e6:.1f} MB"
        if total:
            bars = round(20 * done / total)
            bar = f" [{'#' * bars}{'.' * (20 - bars)}]" if self._on_terminal else ""
            text += f" of {total / 1e6:.1f} MB ({done / total:.0%}){bar}"
        if self._on_terminal:
            print(f"\r{_shown(text)}  ", end="", file=sys.stderr, flush=True)
        else:
            _say(text)


class _StatsFile:
    """Keeps what is measured in a file while something runs, and disturbs it by nothing.

    A disk that is full or read-only is told once, and tried again later. Nothing is synced: it
    would wait for the disk every second, and all that a crash of the machine takes is numbers.

    Args:
        path: of the file; None: none is kept.
        say: gets sentences for the user.
    """

    def __init__(self, path: Path | None, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._again_s = float("-inf")
        self._failed = False

    def keep(self, facts: Mapping[str, Any]) -> None:
        """Replaces the file by `facts` as JSON; readers never see half of it."""
        path = self._path
        if path is None or time.monotonic() < self._again_s:
            return
        part = path.with_name(f".{path.name}.part")
        try:
            part.unlink(missing_ok=True)
            with part.open("x", encoding="utf-8") as file:  # x follows no link
                file.write(json.dumps(facts, indent=1) + "\n")
            part.replace(path)
        except OSError as error:
            self._again_s = time.monotonic() + _STATS_AGAIN_S
            with suppress(OSError):
                part.unlink(missing_ok=True)
            if not self._failed:
                self._say(f"{path}: cannot be written ({error.strerror}); tried again later")
            self._failed = True
        else:
            self._failed = False


class _StatusLine:
    """What a live run is doing, on stderr: one line renewed on a terminal, else now and then."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._width = 0
        self._said_s = float("-inf")
        self._lock = threading.Lock()

    def show(self, facts: Mapping[str, Any]) -> None:
        """Shows what was measured."""
        with self._lock:
            text = _live_numbers(facts)
            if self._on_terminal:
                print(f"\r{text:{self._width}}", end="", file=sys.stderr, flush=True)
                self._width = len(text)
            elif time.monotonic() - self._said_s >= _LINE_EVERY_S:
                self._said_s = time.monotonic()
                _say(text)

    def say(self, text: str) -> None:
        """Prints a line that stays; any thread."""
        with self._lock:
            self._clear()
            _say(text)

    def end(self) -> None:
        """Leaves the terminal clean."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        if self._width:
            print(f"\r{'':{self._width}}\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def _live_numbers(facts: Mapping[str, Any]) -> str:
    def of(spread: Mapping[str, float] | None) -> str:
        return "-" if spread is None else f"{spread['p50']:.0f} ms"

    waits = "" if facts["waiting_for"] is None else f", waits for {facts['waiting_for']}"
    return (
        f"{facts['fps']:.1f} fps, delay {of(facts['latency_ms'])}, cover age "
        f"{of(facts['cover_age_ms'])}, looks for faces {of(facts['look_ms'].get('faces'))}, "
        f"{facts['dropped']} dropped, source {facts['source']}{waits}"
    )


def _live_summary(facts: Mapping[str, Any]) -> str:
    return (
        f"{facts['frames']} frames in {facts['uptime_s']:.0f} s, "
        f"{facts['frames_wholly_covered']} wholly covered, "
        f"{sum(facts['looks'].values())} looks, "
        f"{facts['dropped']} dropped, {facts['reconnects']} reconnects"
    )


class _Display:
    """Progress of one file on stderr: a bar on a terminal, else a line every few seconds."""

    def __init__(self, name: str, mode: str) -> None:
        self._name = _shown(name)
        self._mode = mode
        if mode == "auto":
            self._mode = "bar" if sys.stderr.isatty() else "lines"
        self._bar: Bar | None = None
        self._last_s = 0.0

    def __enter__(self) -> Self:
        if self._mode == "bar":
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            # No refresh thread: worker processes are forked while the bar is up.
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[numbers]}", markup=False),
                console=Console(stderr=True),
                auto_refresh=False,
            )
            self._task = self._bar.add_task(self._name, total=None, numbers="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, progress: Progress) -> None:
        """Shows `progress`; cheap enough to be called for every frame."""
        every_s = _BAR_EVERY_S if self._bar is not None else _LINE_EVERY_S
        last = progress.frames_done == progress.frames_total and self._bar is not None
        if self._mode == "off" or (progress.elapsed_s - self._last_s < every_s and not last):
            return
        self._last_s = progress.elapsed_s
        numbers = _numbers(progress)
        if self._bar is None:
            _say(f"{self._name}: {numbers}")
        else:
            self._bar.update(
                self._task,
                completed=progress.frames_done,
                total=progress.frames_total,
                numbers=numbers,
                refresh=True,
            )

    def say(self, text: str) -> None:
        """Prints a line that stays above the bar."""
        if self._bar is None:
            _say(text)
        else:
            line = f"{PROGRAM}: {_shown(text)}"
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _numbers(progress: Progress) -> str:
    done, total = progress.frames_done, progress.frames_total
    rate = done / progress.elapsed_s if progress.elapsed_s > 0 else 0.0
    text = f"{done}{f'/{total}' if total else ''} frames, {rate:.1f} fps"
    if total and total > done and rate > 0:
        left_s = round((total - done) / rate)
        minutes, seconds = divmod(left_s, 60)
        text += f", {minutes // 60}:{minutes % 60:02}:{seconds:02} left"
    return text


def _is_called_back(frame: FrameType | None) -> bool:
    """Says whether a library is writing through one of our files: it would swallow an exception."""
    while frame is not None:
        ours = frame.f_globals.get("__name__") == f"{__package__}.sinks.base"
        if ours and frame.f_code.co_qualname in _CALLED_BACK:
            return True
        frame = frame.f_back
    return False


@contextmanager
def _interruptible() -> Iterator[None]:
    """Makes SIGINT, SIGTERM and SIGHUP one `KeyboardInterrupt`; what follows it is not disturbed.

    A second signal is ignored while part files are removed and workers ended. A signal that was
    ignored from outside (`nohup`) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = [signal.SIGINT, signal.SIGTERM]
    wanted += [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
    before = {number: signal.getsignal(number) for number in wanted}

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        if _is_called_back(frame):
            again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal_number))
            again.daemon = True
            again.start()
            return
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -- arguments -------------------------------------------------------------------------------------


class _Given(NamedTuple):
    """An option as it was written, and what it means."""

    text: str
    value: object


@dataclass(frozen=True, slots=True)
class _Option:
    """One line of the table below: a flag that sets one or more dotted keys of `Settings`."""

    flag: str
    keys: tuple[str, ...]
    read: Callable[[str], object]
    metavar: str | None
    help: str

    @property
    def name(self) -> str:
        return self.flag[2:].replace("-", "_")


def _hide(text: str) -> object:
    from .policy import PolicyOptions

    return PolicyOptions.hide_from_text(text)


def _effect(text: str) -> object:
    from .core.plan import Effect

    label, equals, effect = text.rpartition("=")
    names = [item.value for item in Effect]
    if effect not in names:
        raise ValueError(f"unknown effect {effect!r}; {nearest(effect, names)}")
    return parse_label_name(label) if equals else None, effect


def _seconds(text: str) -> float:
    hours, minutes, seconds = (["0", "0", *text.split(":")])[-3:]
    if text.count(":") > 2 or not (hours.isdecimal() and minutes.isdecimal()):
        raise ValueError(f"expected seconds or H:MM:SS, got {text!r}")
    try:
        value = float(seconds)
    except ValueError:
        raise ValueError(f"expected seconds or H:MM:SS, got {text!r}") from None
    if not 0 <= value < float("inf") or (":" in text and value >= 60):
        raise ValueError(f"expected seconds or H:MM:SS, got {text!r}")
    return int(hours) * 3600 + int(minutes) * 60 + value


def _parser_choice(text: str) -> bool:
    if text not in ("embedded", "m2fp"):
        raise ValueError(f"expected embedded or m2fp, got {text!r}")
    return text == "m2fp"


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, got {text!r}") from None


_OPTIONS: Final = (
    _Option(
        "--hide",
        ("policy.hide",),
        _hide,
        "WHAT",
        "what to hide: a preset, or labels joined by commas (default: head)",
    ),
    _Option(
        "--quality",
        ("file.quality",),
        str,
        "NAME",
        "standard reads the input once; high reads it twice, knows each shot whole before it "
        "covers it, and looks for people in every frame (default: standard)",
    ),
    _Option(
        "--crf",
        ("output.crf",),
        _whole,
        "N",
        "H.264 quality, 0 (lossless) to 51; lower is better and larger (default: 20)",
    ),
    _Option(
        "--preset",
        ("output.preset",),
        str,
        "NAME",
        "x264 preset, ultrafast to veryslow; slower is smaller (default: medium)",
    ),
    _Option(
        "--threads",
        ("source.threads", "output.threads"),
        _whole,
        "N",
        "threads of the decoder and of the encoder (default: 2)",
    ),
    _Option(
        "--start",
        ("source.start_s",),
        _seconds,
        "TIME",
        "leave out what is before, in seconds or H:MM:SS (default: from the beginning)",
    ),
    _Option(
        "--end",
        ("source.end_s",),
        _seconds,
        "TIME",
        "leave out what is after, in seconds or H:MM:SS (default: to the end)",
    ),
    _Option(
        "--salvage",
        ("source.salvage",),
        lambda _: True,
        None,
        "of a truncated or damaged input, write what can be decoded (default: refuse)",
    ),
    _Option(
        "--parser",
        ("m2fp.enabled",),
        _parser_choice,
        "NAME",
        "embedded: the shipped weights; m2fp: the reference parser beside them, slower and finer "
        f"(`{PROGRAM} models pull m2fp`, or --model-dir) (default: embedded)",
    ),
    _Option(
        "--model-dir",
        ("m2fp.model_dir",),
        str,
        "FOLDER",
        "M2FP's configuration.json and pytorch_model.pt (default: what was pulled)",
    ),
    _Option(
        "--tiles",
        ("m2fp.tiles",),
        _whole,
        "N",
        "M2FP also looks at N x N overlapping tiles, for small people in large pictures "
        "(default: 1)",
    ),
    _Option(
        "--host",
        ("page.host",),
        str,
        "ADDRESS",
        "the IP address to listen at; any but this computer's own needs --certificate and --key "
        "(default: 127.0.0.1)",
    ),
    _Option("--port", ("page.port",), _whole, "N", "0 takes any free one (default: 8765)"),
    _Option(
        "--certificate",
        ("page.certificate",),
        str,
        "FILE",
        "TLS certificate, a PEM file (default: none)",
    ),
    _Option(
        "--key",
        ("page.key",),
        str,
        "FILE",
        "its key, a PEM file readable by you alone (default: none)",
    ),
    _Option(
        "--rotate",
        ("kiosk.rotation",),
        _whole,
        "DEGREES",
        "turn the page clockwise: 0, 90, 180 or 270 (default: 0)",
    ),
    _Option(
        "--language",
        ("kiosk.language",),
        str,
        "NAME",
        "auto (the browser's), en or zh (default: auto)",
    ),
)
_ANONYMIZE_OPTIONS: Final = (
    *("--hide", "--quality", "--crf", "--preset", "--threads", "--start", "--end", "--salvage"),
    *("--parser", "--model-dir", "--tiles"),
)
_PARSE_OPTIONS: Final = ("--parser", "--model-dir", "--tiles")
_PREVIEW_OPTIONS: Final = ("--hide", "--parser", "--model-dir")
_OF_M2FP: Final = ("--model-dir", "--tiles")
_OF_ENCODER: Final = ("--crf", "--preset")
_OF_TIMES: Final = ("--start", "--end")
_KIOSK_OPTIONS: Final = (
    "--hide",
    "--host",
    "--port",
    "--certificate",
    "--key",
    "--rotate",
    "--language",
)


def _read(option: Callable[[str], object]) -> Callable[[str], _Given]:
    """Returns `option` for argparse: its ValueError's text is what the user reads."""

    def read(text: str) -> _Given:
        try:
            return _Given(text, option(text))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 upwards, got {text!r}")
    return int(text)


class _Command(argparse.ArgumentParser):
    """A parser whose errors are `UsageError`; knows what to run."""

    run: Callable[[argparse.Namespace], None]
    wants_paths: str = ""

    @property
    def options(self) -> list[argparse.Action]:
        return self._actions

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.replace("argument ", "", 1))


def _parsers() -> tuple[_Command, dict[str, _Command]]:
    parser = _Command(
        prog=PROGRAM,
        description="Covers the heads (or more) of people in videos, pictures and live cameras.",
        epilog=f"`{PROGRAM} COMMAND --help` has a command's options and examples.\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands")
    commands: dict[str, _Command] = {}

    def add(
        name: str, run: Callable[[argparse.Namespace], None], text: str, epilog: str = ""
    ) -> _Command:
        command: _Command = subparsers.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.run = run
        command.add_argument(
            "--debug", action="store_true", help="on an error, show where it was raised"
        )
        command.set_defaults(paths=[])
        commands[name] = command
        return command

    command = add(
        "anonymize",
        _anonymize,
        "write covered copies of videos, GIFs and pictures",
        f"{_ANONYMIZE_EXAMPLES}\n{_EXIT_CODES}",
    )
    _add_inputs(command, "video, GIF or picture, or a folder of them", "file or folder")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="output file; an existing folder for several inputs (default: NAME.anonymized.mp4 "
        "beside each input; pictures and GIFs keep their format)",
    )
    _add_effect(command)
    _add_options(command, _ANONYMIZE_OPTIONS)
    _add_common(command)
    command.add_argument(
        "--audio",
        choices=["drop"],
        default="drop",
        help="audio is left out (default: drop; more in later versions)",
    )
    command.add_argument(
        "--jobs",
        type=_count,
        default=1,
        metavar="N",
        help="work on N inputs at a time, each in a process of its own (default: 1)",
    )
    command.add_argument("--strict", action="store_true", help="treat warnings as errors")
    command.add_argument(
        "--progress",
        choices=["auto", "bar", "lines", "off"],
        default="auto",
        help="how progress is shown on stderr (default: auto, a bar on a terminal, else lines)",
    )

    command = add(
        "parse",
        _parse,
        "write label maps of pictures as PNG: which pixel is face, hair, person",
        f"{_PARSE_EXAMPLES}\n{_EXIT_CODES}",
    )
    _add_inputs(command, "picture, or a folder of pictures", "picture or folder")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        required=True,
        help="output PNG; an existing folder for several inputs (NAME.png in it)",
    )
    command.add_argument(
        "--format",
        choices=["index", "palette"],
        default="index",
        help="index: each pixel's value is its label's id; palette: the same in colours, with "
        "the legend in the file (default: index)",
    )
    _add_options(command, _PARSE_OPTIONS)
    _add_common(command)

    command = add(
        "preview",
        _preview,
        "show a camera with people covered, in a window or as a virtual camera",
        f"{_PREVIEW_EXAMPLES}\n{_EXIT_CODES}",
    )
    _add_source(command)
    command.add_argument(
        "--virtual-camera", action="store_true", help="also feed a virtual camera, for calls"
    )
    command.add_argument("--no-window", action="store_true", help="show no window")
    command.add_argument(
        "--record", metavar="FOLDER", help="also record the covered picture into this folder"
    )
    command.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show the picture as in a mirror (default: for cameras)",
    )
    command.add_argument("--full-screen", action="store_true", help="fill the screen")
    _add_live(command)
    _add_options(command, _PREVIEW_OPTIONS)
    _add_effect(command)
    command.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration")

    command = add(
        "kiosk",
        _kiosk,
        "show a camera on a wall, people covered: a full-screen mirror in a browser",
        f"{_KIOSK_EXAMPLES}\n{_EXIT_CODES}",
    )
    _add_source(command)
    _add_live(command)
    _add_options(command, _KIOSK_OPTIONS)
    _add_effect(command)
    command.add_argument(
        "--uploads",
        action="store_true",
        help="also take single pictures, to parse or cover them (default: refuse)",
    )
    command.add_argument(
        "--no-browser", action="store_true", help="open no browser; only print the address"
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration")

    command = add(
        "run",
        _run_config,
        "run what a configuration file says: one live source, any sinks",
        f"{_RUN_EXAMPLES}\n{_EXIT_CODES}",
    )
    _add_inputs(command, "YAML file, such as configs/rtsp_relay.yaml", "configuration file")
    _add_live(command)

    add("devices", _devices, "list the cameras of this machine, by the names that stay")

    command = add(
        "bench", _bench, "measure this machine: frames, latency, cover age, CPU", _BENCH_EXAMPLES
    )
    command.add_argument("what", choices=["live"], help="live: the live pipeline")
    command.add_argument(
        "--source", metavar="INPUT", help="what is shown (default: synthetic, 720p at 30 a second)"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    _add_live(command)

    command = add(
        "models",
        _models,
        "list the weights, verify them, fetch M2FP's",
        f"{_MODELS_EXAMPLES}\n{_EXIT_CODES}",
    )
    command.add_argument(
        "action",
        choices=["list", "verify", "pull", "export"],
        help="list: name, licence, origin, size, runtime; verify: compare with their SHA-256; "
        "pull: fetch from ModelScope; export: write the network for a shape now, not on first use",
    )
    command.add_argument(
        "name", nargs="?", help=f"what to pull or export: {' or '.join(_HUB_NAMES)}"
    )
    command.add_argument(
        "--accept-licence", action="store_true", help="pull: accept the licence without asking"
    )
    command.add_argument("--revision", metavar="NAME", help="pull: another branch or tag")
    command.add_argument(
        "--key",
        metavar="FILE",
        help="pull: store the weights encrypted with the key in this file (made where there is "
        "none), or `keyring`; export: what they are encrypted with",
    )
    command.add_argument(
        "--model-dir", metavar="FOLDER", help="export: an offline copy (default: what was pulled)"
    )
    command.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="export: the network's shorter side, a multiple of 32 (default: 320)",
    )
    command.add_argument(
        "--size",
        default="1920x1080",
        metavar="WxH",
        help="export: a picture size of the aspect to come (default: 1920x1080)",
    )
    command = add(
        "doctor",
        _doctor,
        "say what this machine has, and what is missing; or how a live run is",
        f"{_DOCTOR_EXAMPLES}\n{_EXIT_CODES}",
    )
    command.add_argument(
        "--stats",
        type=Path,
        metavar="FILE",
        help="instead, judge the live run that keeps its --stats in this file: exit code 0 where "
        "it works, 3 where its source is away, 5 where an output is, 1 where it ended or hangs",
    )
    command.add_argument(
        "--max-age",
        type=_duration,
        default=30.0,
        metavar="N",
        help="seconds after which the file is too old, so that the run must hang (default: 30)",
    )
    command = add("check-config", _check_config, "check a configuration file, run nothing")
    _add_inputs(command, "YAML file; configs/anonymize.yaml documents every option", "file")
    return parser, commands


def _add_source(command: _Command) -> None:
    source = command.add_mutually_exclusive_group()
    source.add_argument(
        "--camera",
        metavar="ID",
        help=f"which camera: a number, a device file or a name from `{PROGRAM} devices` (default: "
        "0). It is found again when it is plugged in again",
    )
    source.add_argument(
        "--source",
        metavar="INPUT",
        help="instead of a camera: an rtsp://, rtmp:// or http(s):// address (of video, or of a "
        "picture that is asked for again and again), - for video piped in, a named pipe, a video "
        "file, or synthetic",
    )


def _add_inputs(command: _Command, text: str, kind: str) -> None:
    command.wants_paths = kind
    # "*": argparse would miss inputs after an option; `_run` collects those and counts.
    command.add_argument("paths", nargs="*", metavar="IN", help=text)


def _add_options(command: _Command, flags: Collection[str]) -> None:
    for option in _OPTIONS:
        if option.flag not in flags:
            continue
        if option.metavar is None:
            command.add_argument(
                option.flag, action="store_const", const=_Given("", True), help=option.help
            )
        else:
            command.add_argument(
                option.flag, type=_read(option.read), metavar=option.metavar, help=option.help
            )


def _add_effect(command: _Command) -> None:
    command.add_argument(
        "--effect",
        action="append",
        type=_read(_effect),
        metavar="[LABEL=]EFFECT",
        help="how hidden parts are filled: frost, solid, silhouette or mosaic; for one label, or "
        "for all; may be repeated (default: frost)",
    )


def _add_live(command: _Command) -> None:
    command.add_argument(
        "--mode",
        choices=["aligned", "low_latency"],
        help="aligned: a little late, covered from both sides; low_latency: now, and covers more "
        "(default: aligned)",
    )
    command.add_argument(
        "--stats",
        type=Path,
        metavar="FILE",
        help="keep what is measured (frames, drops, latency, cover age...) in this JSON file, "
        "renewed every second",
    )
    command.add_argument("--seconds", type=_duration, metavar="N", help="end after so many seconds")


def _duration(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return value


def _add_common(command: _Command) -> None:
    command.add_argument(
        "--overwrite", action="store_true", help="replace existing outputs (default: refuse)"
    )
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML configuration; environment (M2FP_STREAM_SECTION__FIELD) and options beat it",
    )
