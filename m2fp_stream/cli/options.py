"""The options that set keys of `Settings`: one table of them, and how they become settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from ..core.errors import UsageError
from ..core.timing import read_time
from ..naming import IMAGE_SUFFIXES, is_numbered
from .jobs import Job
from .show import PROGRAM, say
from .values import (
    read_canvas,
    read_effect,
    read_fps,
    read_hide,
    read_parser,
    read_rate_text,
    read_span,
    read_whole,
    read_zone,
)

if TYPE_CHECKING:
    from ..config import Settings

__all__ = [
    "OPTIONS",
    "Option",
    "add_effect",
    "add_options",
    "refuse_useless",
    "say_vain",
    "settings_of",
]


@final
@dataclass(frozen=True, slots=True)
class Option:
    """One line of the table below: a flag that sets one or more dotted keys of `Settings`.

    Attributes:
        flag: with its dashes.
        keys: what it sets.
        read: returns what a text means; the text of its ValueError is what the user reads.
        metavar: what its value is called, None where it has none.
        help: for ``--help``.
        many: whether it may come several times; its value is a list then.
    """

    flag: str
    keys: tuple[str, ...]
    read: Callable[[str], object]
    metavar: str | None
    help: str
    many: bool = False

    @property
    def name(self) -> str:
        """The attribute of parsed arguments that has its value."""
        return self.flag[2:].replace("-", "_")


OPTIONS: Final = (
    Option(
        "--hide",
        ("policy.hide",),
        read_hide,
        "WHAT",
        "what to hide: a preset, or labels joined by commas (default: head)",
    ),
    Option(
        "--zone",
        ("policy.zones",),
        read_zone,
        "PLACE",
        "always cover this place, whatever is there: x1,y1,x2,y2, or x,y of each corner of a "
        "polygon, as fractions of the upright picture, or in pixels where a number is above 1; "
        "for files also @BEGIN-END; may be repeated (default: none)",
        many=True,
    ),
    Option(
        "--keep-zone",
        ("policy.keep_zones",),
        read_zone,
        "PLACE",
        "leave people alone who are wholly in this place, such as a poster or a television; may "
        "be repeated (default: none)",
        many=True,
    ),
    Option(
        "--invert",
        ("policy.invert",),
        lambda _: True,
        None,
        "cover everything but what --zone names; people there are covered as ever (default: no)",
    ),
    Option(
        "--cover-span",
        ("policy.cover_spans",),
        read_span,
        "BEGIN-END",
        "cover the whole picture from one time of the input to another, in seconds or H:MM:SS; "
        "without END to the end; may be repeated (default: none)",
        many=True,
    ),
    Option(
        "--quality",
        ("file.quality",),
        str,
        "NAME",
        "standard reads the input once; high reads it twice, knows each shot whole before it "
        "covers it, and looks for people in every frame (default: standard)",
    ),
    Option(
        "--container",
        ("output.container",),
        str,
        "NAME",
        "what videos become: mp4, mkv or webm; the suffix of an output file says it, too "
        "(default: mp4)",
    ),
    Option(
        "--encoder",
        ("output.encoder",),
        str,
        "NAME",
        "x264 (H.264, plays everywhere, the usual one), x265 (HEVC), av1 (the usual one of WebM) "
        "or, in MKV and WebM, vp9 (default: by the container)",
    ),
    Option(
        "--crf",
        ("output.crf",),
        read_whole,
        "N",
        "quality, 0 to 51 (63 for av1 and vp9); lower is better and larger; usually 20 for x264, "
        "22 for x265, 28 for av1, 26 for vp9, which look much alike (default: by the encoder)",
    ),
    Option(
        "--bitrate",
        ("output.bitrate",),
        read_rate_text,
        "RATE",
        "instead of a quality: bits a second on average, such as 4M or 800k (default: none)",
    ),
    Option(
        "--keep-quality",
        ("output.keep_quality",),
        lambda _: True,
        None,
        "instead of a quality: the bit rate of the input's video, which the summary says; the same "
        "encoder as the input's makes most of it (default: no)",
    ),
    Option(
        "--preset",
        ("output.preset",),
        str,
        "NAME",
        "how long the encoder may take: ultrafast to veryslow; slower is smaller (default: medium)",
    ),
    Option(
        "--fps",
        ("source.fps",),
        read_fps,
        "RATE",
        "frames a second of numbered pictures: 25, 29.97 or 30000/1001 (default: 25.0)",
    ),
    Option(
        "--threads",
        ("source.threads", "output.threads"),
        read_whole,
        "N",
        "threads of the decoder and of the encoder (default: 2)",
    ),
    Option(
        "--stream",
        ("source.stream",),
        read_whole,
        "N",
        "which of several videos in a file to take, counted from 1, if not the one that a player "
        "shows (default: none)",
    ),
    Option(
        "--canvas",
        ("source.canvas",),
        read_canvas,
        "WxH",
        "fit all pictures of a video into this size, with black bars; for one whose picture size "
        "changes (default: its own, the largest of the first 10 s)",
    ),
    Option(
        "--start",
        ("source.start_s",),
        read_time,
        "TIME",
        "leave out what is before this time of the input, as players count it, in seconds or "
        "H:MM:SS (default: from the beginning)",
    ),
    Option(
        "--end",
        ("source.end_s",),
        read_time,
        "TIME",
        "leave out what is after this time of the input, in seconds or H:MM:SS (default: to the "
        "end)",
    ),
    Option(
        "--audio",
        ("audio.mode",),
        str,
        "WHAT",
        "drop leaves sound out; keep encodes it again, as it is; disguise shifts voices, a casual "
        "disguise: words and manner of speaking stay, and an expert can undo it (default: drop)",
    ),
    Option(
        "--mute",
        ("audio.mute",),
        read_span,
        "BEGIN-END",
        "let nothing be heard from one time of the input to another, in seconds or H:MM:SS; from "
        "0: all before it, too; without END to the end; needs --audio keep or disguise; may be "
        "repeated (default: none)",
        many=True,
    ),
    Option(
        "--salvage",
        ("source.salvage",),
        lambda _: True,
        None,
        "of a truncated or damaged input, write what can be decoded (default: refuse)",
    ),
    Option(
        "--parser",
        ("m2fp.enabled",),
        read_parser,
        "NAME",
        "embedded: the shipped weights; m2fp: the reference parser beside them, slower and finer "
        f"(`{PROGRAM} models pull m2fp`, or --model-dir) (default: embedded)",
    ),
    Option(
        "--weights",
        ("parser.weights",),
        str,
        "NAME",
        f"the part network that `{PROGRAM} models distill` made here under this name "
        "(default: the shipped one)",
    ),
    Option(
        "--model-dir",
        ("m2fp.model_dir",),
        str,
        "FOLDER",
        "M2FP's configuration.json and pytorch_model.pt (default: what was pulled)",
    ),
    Option(
        "--tiles",
        ("m2fp.tiles",),
        read_whole,
        "N",
        "M2FP also looks at N x N overlapping tiles, for small people in large pictures "
        "(default: 1)",
    ),
    Option(
        "--host",
        ("page.host",),
        str,
        "ADDRESS",
        "the IP address to listen at; any but this computer's own needs --certificate and --key "
        "(default: 127.0.0.1)",
    ),
    Option("--port", ("page.port",), read_whole, "N", "0 takes any free one (default: 8765)"),
    Option(
        "--certificate",
        ("page.certificate",),
        str,
        "FILE",
        "TLS certificate, a PEM file (default: none)",
    ),
    Option(
        "--key",
        ("page.key",),
        str,
        "FILE",
        "its key, a PEM file readable by you alone (default: none)",
    ),
    Option(
        "--rotate",
        ("kiosk.rotation",),
        read_whole,
        "DEGREES",
        "turn the page clockwise: 0, 90, 180 or 270 (default: 0)",
    ),
    Option(
        "--language",
        ("kiosk.language",),
        str,
        "NAME",
        "auto (the browser's), en or zh (default: auto)",
    ),
)

_GROUPS: Final = {
    "policy": "what is covered, and how",
    "file": "how people are found",
    "m2fp": "how people are found",
    "source": "what is read",
    "output": "what is written",
    "audio": "sound",
    "page": "the page",
    "kiosk": "the page",
}
"""What the help calls the options of a section."""

_OF_M2FP: Final = ("--model-dir", "--tiles")
_OF_RATE: Final = ("--crf", "--bitrate", "--keep-quality")
"""Each of them ends what a file or the environment says of the others."""
_OF_ENCODER: Final = (*_OF_RATE, "--preset", "--encoder", "--container")
_OF_TIMES: Final = ("--stream", "--canvas", "--start", "--end", "--cover-span")


def add_options(command: argparse.ArgumentParser, flags: Collection[str]) -> None:
    """Adds the options of the table that `flags` names, in the table's order."""
    for option in OPTIONS:
        if option.flag not in flags:
            continue
        group = _group(command, option.keys[0])
        if option.metavar is None:
            group.add_argument(option.flag, action="store_const", const=True, help=option.help)
        else:
            group.add_argument(
                option.flag,
                type=_for_argparse(option.read),
                action="append" if option.many else "store",
                metavar=option.metavar,
                help=option.help,
            )


def _group(command: argparse.ArgumentParser, key: str) -> argparse._ArgumentGroup:
    """Returns the part of the help in which an option stands that sets `key`."""
    title = _GROUPS.get(key.partition(".")[0], "options")
    found = [group for group in command._action_groups if group.title == title]
    return found[0] if found else command.add_argument_group(title)


def add_effect(command: argparse.ArgumentParser) -> None:
    """Adds ``--effect``, which may come several times."""
    _group(command, "policy.effect").add_argument(
        "--effect",
        action="append",
        type=_for_argparse(read_effect),
        metavar="[LABEL=]EFFECT",
        help="how hidden parts are filled: frost, solid, silhouette or mosaic; for one label, for "
        "`zone`, or for all; may be repeated (default: frost)",
    )


def _for_argparse(read: Callable[[str], object]) -> Callable[[str], object]:
    """Returns `read` for argparse: its ValueError's text is what the user reads."""

    def told(text: str) -> object:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return told


def settings_of(
    args: argparse.Namespace, config: Path | None, more: Mapping[str, object] | None = None
) -> Settings:
    """Returns the settings that options, environment and file make.

    Args:
        args: what was parsed; options of the table that were not given are None, or not there.
        config: the configuration file.
        more: dotted keys that other options set.

    Raises:
        ConfigError: see `config.load_settings`.
        UsageError: an option is for a parser that is off.
    """
    from ..config import load_settings

    given = _given(args)
    overrides = dict(more or {}) | _rate_overrides(given)
    flags: dict[str, str] = {}
    for option, value in given.items():
        overrides |= dict.fromkeys(option.keys, value)
        flags |= dict.fromkeys(option.keys, option.flag)
    if effects := getattr(args, "effect", None):
        by_label = {label: effect for label, effect in effects if label is not None}
        for label, effect in effects:
            if label is None:
                overrides["policy.effect"] = effect
        # A bare effect is for all: it also ends what a file says about single labels.
        overrides["policy.effects"] = by_label
    settings = load_settings(config, overrides=overrides, flags=flags)
    if getattr(args, "mute", None) and settings.audio.mode == "drop":
        raise UsageError("--mute: all sound is left out; add --audio keep or disguise")
    for option in given:
        if option.flag in _OF_M2FP and not settings.m2fp.enabled:
            raise UsageError(f"{option.flag}: is for M2FP; add --parser m2fp or leave it out")
    return settings


def _rate_overrides(given: Mapping[Option, object]) -> dict[str, object]:
    """Returns what one option of the encoder's rate says of the others.

    Raises:
        UsageError: there are several.
    """
    named = [option.flag for option in given if option.flag in _OF_RATE]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} exclude each other; name one")
    if not named:
        return {}
    return {"output.crf": None, "output.bitrate": None, "output.keep_quality": False}


def _given(args: argparse.Namespace) -> dict[Option, object]:
    """Returns the options of the table that were given, with their values."""
    values = {option: getattr(args, option.name, None) for option in OPTIONS}
    return {option: value for option, value in values.items() if value is not None}


def refuse_useless(args: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Refuses options that no job has a use for.

    Raises:
        UsageError: see above.
    """
    for option in _given(args):
        if any(_has_use(option.flag, job) for job in jobs):
            continue
        what, path = "MP4, MKV and WebM files", jobs[0].path_out
        if option.flag == "--fps":
            what, path = "numbered pictures, such as frames/%06d.png", jobs[0].path_in
        if option.flag in _OF_TIMES:
            what, path = "videos and GIFs", jobs[0].path_in
        raise UsageError(f"{option.flag}: is for {what}; {path} is none, leave it out")


def _has_use(flag: str, job: Job) -> bool:
    if flag == "--fps":
        return is_numbered(job.path_in)
    if flag in _OF_TIMES:
        pictures = job.path_in.suffix.lower() in IMAGE_SUFFIXES
        return not pictures or (is_numbered(job.path_in) and flag != "--stream")
    if flag in _OF_ENCODER:
        return job.path_out.suffix.lower() not in IMAGE_SUFFIXES | {".gif"}
    return True


def say_vain(args: argparse.Namespace, settings: Settings) -> None:
    """Says what file and environment set for M2FP although it is off."""
    if settings.m2fp.enabled or getattr(args, "parser", None) is not None:
        return
    given, default = settings.m2fp, type(settings.m2fp)()
    vain = [f"m2fp.{name}" for name, value in given if value != getattr(default, name)]
    if vain:
        say(
            f"{', '.join(vain)}: set in vain, for M2FP is off; m2fp.enabled or --parser m2fp "
            "switches it on"
        )
