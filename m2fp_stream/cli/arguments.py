"""What the commands take, and what ``--help`` says about it."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Final

from ..core.labels import PRESETS, Label
from . import checks, completion, files, live, models
from .command import (
    EVERYTHING,
    Command,
    Commands,
    program_parser,
    read_count,
    read_duration,
    read_table,
)
from .options import add_effect, add_options
from .show import PROGRAM
from .training import DISTILL_EXAMPLES, add_training

__all__ = ["Command", "parsers"]

_ANONYMIZE_EXAMPLES: Final = f"""\
presets of --hide: {", ".join(PRESETS)}
{textwrap.fill("labels: " + ", ".join(label.title for label in Label if label), 96)}

examples:
  {PROGRAM} anonymize clip.mov                        writes clip.anonymized.mp4 beside it
  {PROGRAM} anonymize holiday/ -o shared/ --jobs 2    a folder of videos and pictures
  {PROGRAM} anonymize holiday/ -o shared/ --resume    and on, after an interrupt, with what is new
  {PROGRAM} anonymize clip.mp4 --hide person --effect solid
  {PROGRAM} anonymize clip.mp4 --effect hair=mosaic --start 0:30 --end 1:10 -o cut.mp4
  {PROGRAM} anonymize clip.mp4 --audio keep --mute 0:12-0:15
  {PROGRAM} anonymize clip.mp4 --tracks clip.csv      also who is where, without a picture

outputs:
  {PROGRAM} anonymize clip.mov -o clip.webm           MP4, MKV or WebM, by the suffix
  {PROGRAM} anonymize holiday/ -o shared/ --container mkv --encoder x265 --crf 24
  {PROGRAM} anonymize clip.mp4 --keep-quality         at the input's bit rate; or --bitrate 4M
  {PROGRAM} anonymize clip.mp4 -o frames/%06d.png     a picture for each frame
  {PROGRAM} anonymize frames/%06d.png --fps 30 -o clip.mp4      and back
  cat clip.mp4 | {PROGRAM} anonymize - -o - | mpv -   by pipes; progress and summary on stderr

zones:
  {PROGRAM} anonymize clip.mp4 --zone 0,0.9,0.3,1     the lower left corner: a number plate, a name
  {PROGRAM} anonymize clip.mp4 --zone 40,60,200,60,120,180@0:12-0:30 --effect zone=solid
  {PROGRAM} anonymize clip.mp4 --zone 0.2,0,0.8,1 --invert      show nothing but the middle
  {PROGRAM} anonymize clip.mp4 --keep-zone 0.7,0.1,0.9,0.5      a poster: its people stay
  {PROGRAM} anonymize clip.mp4 --cover-span 0:10-0:12           two seconds are covered whole
"""
_PREVIEW_EXAMPLES: Final = f"""\
keys in the window: q or Esc quits, f full screen, m mirror, p covers more, o covers as configured

examples:
  {PROGRAM} preview                                   the first camera, heads covered
  {PROGRAM} preview --camera 0 --hide person --mode low_latency
  {PROGRAM} preview --virtual-camera --no-window      for calls (needs the virtual-camera extra)
  {PROGRAM} preview --source rtsp://192.0.2.7/stream --record recordings/
  {PROGRAM} preview --zone 0,0,0.4,0.3 --keep-zone 0.6,0.2,0.9,0.6      a window; a television
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

{DISTILL_EXAMPLES}"""
_DEVICES_EXAMPLES: Final = f"""\
examples:
  {PROGRAM} devices                                   then: {PROGRAM} preview --camera NAME
"""
_CHECK_CONFIG_EXAMPLES: Final = f"""\
examples:
  {PROGRAM} check-config --sample > mine.yaml         every option; leave in what you change
  {PROGRAM} check-config mine.yaml
"""
_COMPLETION_EXAMPLES: Final = f"""\
examples, each once (a new shell knows it):
  {PROGRAM} completion bash > ~/.local/share/bash-completion/completions/{PROGRAM}
  {PROGRAM} completion zsh > ~/.zfunc/_{PROGRAM}      with ~/.zfunc in fpath, before compinit
  {PROGRAM} completion fish > ~/.config/fish/completions/{PROGRAM}.fish
"""
_PARSE_EXAMPLES: Final = f"""\
examples:
  {PROGRAM} parse photo.jpg -o labels.png
  {PROGRAM} parse photos/ -o labels/ --format palette
"""
_LIVE: Final = ("options", "models", "display", "terminal")
_ZONES: Final = ("--zone", "--keep-zone", "--invert")
_PARSE_OPTIONS: Final = ("--parser", "--weights", "--model-dir", "--tiles")
_ANONYMIZE_OPTIONS: Final = (
    *(*_ZONES, "--cover-span"),
    *("--hide", "--quality", "--container", "--encoder", "--crf", "--bitrate", "--keep-quality"),
    *("--preset", "--threads", "--start", "--end", "--fps", "--audio"),
    *("--mute", "--salvage", "--stream", "--canvas", *_PARSE_OPTIONS),
)
_PREVIEW_OPTIONS: Final = (*_ZONES, "--hide", "--parser", "--weights", "--model-dir")
_KIOSK_OPTIONS: Final = (
    *_ZONES,
    *("--hide", "--host", "--port", "--certificate", "--key", "--rotate", "--language"),
)


def parsers() -> tuple[Command, dict[str, Command]]:
    """Returns the parser of the program, and those of its commands by name."""
    parser = program_parser()
    commands = Commands(parser)
    for declare in (
        *(_anonymize, _parse, _preview, _kiosk, _run, _devices, _bench, _models, _doctor),
        *(_check_config, _completion),
    ):
        declare(commands)
    return parser, commands.by_name


def _anonymize(commands: Commands) -> None:
    command = commands.add(
        "anonymize",
        files.anonymize,
        "write covered copies of videos, GIFs and pictures",
        _ANONYMIZE_EXAMPLES,
        takes="IN... [-o OUT] [options]",
    )
    _add_inputs(
        command,
        "video, GIF or picture, or a folder of them; numbered pictures, such as frames/%%06d.png; "
        "- for a file that is piped in",
        "file or folder",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="output file; a folder for several inputs, whose last level is made; frames/%%06d.png "
        "for numbered pictures; - for standard output (default: NAME.anonymized.mp4 beside each "
        "input; pictures and GIFs keep their format)",
    )
    add_effect(command)
    command.add_argument(
        "--tracks",
        type=read_table,
        metavar="OUT",
        help="also write where people are, as a table without a picture: frame, time, track, box, "
        "covered parts. It is personal data. A file, .csv or .json; for several inputs csv or "
        "json: beside each output, under its name with that added (default: none)",
    )
    add_options(command, _ANONYMIZE_OPTIONS)
    _add_common(command)
    _add_batch(command)
    command.add_argument("--strict", action="store_true", help="treat warnings as errors")
    command.add_argument(
        "--progress",
        choices=["auto", "bar", "lines", "off"],
        default="auto",
        help="how progress is shown on stderr (default: auto, a bar on a terminal, else lines)",
    )


def _add_batch(command: Command) -> None:
    command.add_argument(
        "--jobs",
        type=read_count,
        default=1,
        metavar="N",
        help="work on N inputs at a time, each in a process of its own (default: 1)",
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on where a run with --resume ended: what is complete stays, unless its input or "
        "the options changed; a journal without pictures, in the output folder, says so",
    )


def _parse(commands: Commands) -> None:
    command = commands.add(
        "parse",
        files.parse,
        "write label maps of pictures as PNG: which pixel is face, hair, person",
        _PARSE_EXAMPLES,
        takes="IN... -o OUT [options]",
    )
    _add_inputs(command, "picture, or a folder of pictures", "picture or folder")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        required=True,
        help="output PNG; a folder for several inputs, whose last level is made (NAME.png in it)",
    )
    command.add_argument(
        "--format",
        choices=["index", "palette"],
        default="index",
        help="index: each pixel's value is its label's id; palette: the same in colours, with "
        "the legend in the file (default: index)",
    )
    add_options(command, _PARSE_OPTIONS)
    _add_common(command)


def _preview(commands: Commands) -> None:
    command = commands.add(
        "preview",
        live.preview,
        "show a camera with people covered, in a window or as a virtual camera",
        _PREVIEW_EXAMPLES,
        takes="[--camera ID | --source INPUT] [options]",
        reads=_LIVE,
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
    add_options(command, _PREVIEW_OPTIONS)
    add_effect(command)
    command.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration")


def _kiosk(commands: Commands) -> None:
    command = commands.add(
        "kiosk",
        live.kiosk,
        "show a camera on a wall, people covered: a full-screen mirror in a browser",
        _KIOSK_EXAMPLES,
        takes="[--camera ID | --source INPUT] [options]",
        reads=_LIVE,
    )
    _add_source(command)
    _add_live(command)
    add_options(command, _KIOSK_OPTIONS)
    add_effect(command)
    command.add_argument(
        "--uploads",
        action="store_true",
        help="also take single pictures, to parse or cover them (default: refuse)",
    )
    command.add_argument(
        "--no-browser", action="store_true", help="open no browser; only print the address"
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration")


def _run(commands: Commands) -> None:
    command = commands.add(
        "run",
        live.run,
        "run what a configuration file says: one live source, any sinks",
        _RUN_EXAMPLES,
        takes="IN... [options]",
        reads=EVERYTHING,
    )
    _add_inputs(command, "YAML file, such as configs/rtsp_relay.yaml", "configuration file")
    _add_live(command)
    add_options(command, _ZONES)


def _devices(commands: Commands) -> None:
    commands.add(
        "devices",
        live.devices,
        "list the cameras of this machine, by the names that stay",
        _DEVICES_EXAMPLES,
        reads=(),
    )


def _bench(commands: Commands) -> None:
    command = commands.add(
        "bench",
        live.bench,
        "measure this machine: frames, latency, cover age, CPU",
        _BENCH_EXAMPLES,
        takes="live [options]",
    )
    command.add_argument("what", choices=["live"], help="live: the live pipeline")
    command.add_argument(
        "--source", metavar="INPUT", help="what is shown (default: synthetic, 720p at 30 a second)"
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    _add_live(command)


def _models(commands: Commands) -> None:
    command = commands.add(
        "models",
        models.models,
        "list the weights, verify them, fetch M2FP's",
        _MODELS_EXAMPLES,
        takes="list|verify|pull|export|distill [NAME|FOLDER] [options]",
        reads=("models", "hub"),
    )
    command.add_argument(
        "action",
        choices=["list", "verify", "pull", "export", "distill"],
        help="list: name, licence, origin, size, runtime; verify: compare with their SHA-256; "
        "pull: fetch from ModelScope; export: write the network for a shape now, not on first use; "
        "distill: see below",
    )
    command.add_argument(
        "name",
        nargs="?",
        help=f"what to pull or export: {' or '.join(models.HUB_NAMES)}; a folder to distill from",
    )
    licence = "pull: accept the licence without asking"
    command.add_argument("--accept-licence", action="store_true", help=licence)
    command.add_argument("--revision", metavar="NAME", help="pull: another branch or tag")
    command.add_argument(
        "--key",
        metavar="FILE",
        help="pull: store the weights encrypted with the key in this file (made where there is "
        "none), or `keyring`; export: what they are encrypted with",
    )
    _add_export(command)
    add_training(command)


def _add_export(command: Command) -> None:
    command.add_argument(
        "--model-dir",
        metavar="FOLDER",
        help="export, distill: an offline copy (default: what was pulled)",
    )
    command.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="export, distill: the network's shorter side, a multiple of 32 (default: 320)",
    )
    command.add_argument(
        "--size",
        default="1920x1080",
        metavar="WxH",
        help="export: a picture size of the aspect to come (default: 1920x1080)",
    )


def _doctor(commands: Commands) -> None:
    command = commands.add(
        "doctor",
        checks.doctor,
        "say what this machine has, and what is missing; or how a live run is",
        _DOCTOR_EXAMPLES,
        takes="[--stats FILE] [options]",
        reads=("models", "display"),
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
        type=read_duration,
        default=30.0,
        metavar="N",
        help="seconds after which the file is too old, so that the run must hang (default: 30)",
    )


def _check_config(commands: Commands) -> None:
    command = commands.add(
        "check-config",
        checks.check_config,
        "check configuration files, run nothing",
        _CHECK_CONFIG_EXAMPLES,
        takes="IN... | --sample",
        reads=(),
    )
    _add_inputs(command, "YAML file", "file")
    command.no_paths_with = "sample"
    command.add_argument(
        "--sample",
        action="store_true",
        help="instead, print a file that sets every option to its default, and describes it",
    )


def _completion(commands: Commands) -> None:
    command = commands.add(
        "completion",
        lambda args: completion.completion(commands.parser, args.shell),
        "print the script by which a shell completes all this",
        _COMPLETION_EXAMPLES,
        takes="|".join(completion.SHELLS),
        reads=(),
    )
    command.add_argument("shell", choices=completion.SHELLS, help="for which shell")


def _add_source(command: Command) -> None:
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


def _add_inputs(command: Command, text: str, kind: str) -> None:
    command.wants_paths = kind
    # "*": that there is one at least is checked where the message can say of what.
    command.add_argument("paths", nargs="*", type=Path, metavar="IN", help=text)


def _add_live(command: Command) -> None:
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
    command.add_argument(
        "--seconds", type=read_duration, metavar="N", help="end after so many seconds"
    )


def _add_common(command: Command) -> None:
    command.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing outputs (default: refuse; in folders, leave them as finished)",
    )
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML configuration; environment (M2FP_STREAM_SECTION__FIELD) and options beat it",
    )
