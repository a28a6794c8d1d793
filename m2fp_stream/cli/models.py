"""The command for weights: models list, verify, pull, export; distill is `training`'s."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..core.errors import ConfigError, ModelError, UsageError
from .progress import PullDisplay
from .show import print_line, say
from .training import distill

if TYPE_CHECKING:
    from ..models.hub import HubModel
    from ..models.vault import Key

__all__ = ["HUB_NAMES", "models"]

HUB_NAMES: Final = ("m2fp", "m2fp-lip")
"""What can be pulled: `app.m2fp.HUB_NAMES`, which takes long to import."""


def models(args: argparse.Namespace) -> None:
    """Does what is to be done with weights."""
    if args.action in ("pull", "export") and args.name not in HUB_NAMES:
        names = " or ".join(HUB_NAMES)
        raise UsageError(f"models {args.action}: name what to {args.action}: {names}")
    if args.action not in ("pull", "export", "distill") and args.name is not None:
        raise UsageError(f"models {args.action}: unexpected argument {args.name!r}")
    actions = {"list": _list, "verify": _verify, "pull": _pull, "export": _export}
    actions["distill"] = distill
    actions[args.action](args)


def _list(_: argparse.Namespace) -> None:
    from ..models.hub import hub_models
    from ..models.pins import pulled_folder, store_folder
    from ..models.store import read_manifest
    from ..models.students import student_pins

    rows = [("NAME", "LICENCE", "ORIGIN", "SIZE", "RUNTIME")]
    for entry in read_manifest():
        origin = f"{entry.origin.registry}: {entry.origin.package} {entry.origin.version}"
        size = f"{entry.bytes / 1e6:.1f} MB"
        rows.append((entry.name, entry.licence, origin, size, entry.runtime))
    for model in hub_models():
        try:
            folder = pulled_folder(model.name, store_folder(os.environ))[0]
            size = f"{(folder / 'pytorch_model.pt').stat().st_size / 1e6:.1f} MB"
        except (ConfigError, ModelError):
            size = "not pulled"
        rows.append((model.name, model.licence, f"modelscope: {model.model_id}", size, ""))
    with suppress(ConfigError):  # who has no home has made nothing
        for name, pin in student_pins(store_folder(os.environ)).items():
            size = f"{pin.bytes / 1e6:.1f} MB"
            rows.append((name, pin.licence, f"distilled from {pin.teacher}", size, "onnxruntime"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print_line("  ".join(map(str.ljust, row, widths)).rstrip())


def _verify(_: argparse.Namespace) -> None:
    from ..models.pins import store_folder, verify_pulled
    from ..models.store import verify_all
    from ..models.students import verify_students

    results = verify_all()
    with suppress(ConfigError):  # who has no home has pulled nothing
        results += verify_pulled(store_folder(os.environ))
        results += verify_students(store_folder(os.environ))
    for result in results:
        print_line(f"{result.name}: {'ok' if result.ok else result.problem}")
    bad = [result.name for result in results if not result.ok]
    if bad:
        names = ", ".join(bad)
        raise ModelError(f"{len(bad)} of {len(results)} models are not as they were: {names}")


def _pull(args: argparse.Namespace) -> None:
    from ..models.pins import store_folder
    from ..models.pull import pull
    from ..models.vault import seal

    key = None if args.key is None else _key(args.key)
    with PullDisplay() as display:
        pulled = pull(
            args.name,
            store_folder(os.environ),
            accept=lambda model: _accept(model, args),
            progress=display.update,
            revision=args.revision,
            seal=None if key is None else lambda data, name: seal(data, key, name),
        )
    for name, digest in pulled.files.items():
        print_line(f"{pulled.folder / name}: SHA-256 {digest}")
    if pulled.first_time:
        say("trusted on first use: from now on these hashes must hold")


def _key(given: str) -> Key:
    """Returns the key that is to seal, made where there is none."""
    from ..models.vault import key_from_file, key_from_keyring, new_key_file

    if given == "keyring":
        return key_from_keyring(create=True)
    path = Path(given)
    return key_from_file(path) if path.exists() else new_key_file(path)


def _accept(model: HubModel, args: argparse.Namespace) -> bool:
    """Says whether the user accepts the licence."""
    for line in (
        f"{model.name}: {model.model_id}, revision {args.revision or model.revision}",
        f"licence: {model.licence}, {model.licence_url}",
        model.licence_note,
    ):
        say(line)
    if args.accept_licence:
        return True
    if not sys.stdin.isatty():
        raise UsageError(
            f"models pull: the licence has to be accepted once: read {model.licence_url}, "
            "then add --accept-licence"
        )
    print("Do you accept it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _export(args: argparse.Namespace) -> None:
    from ..app import m2fp
    from ..config import load_settings

    width, _, height = args.size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"models export: --size: expected WIDTHxHEIGHT, got {args.size!r}")
    kind = next(kind for kind, name in m2fp.HUB_NAMES.items() if name == args.name)
    overrides: dict[str, object] = {"m2fp.kind": kind.value}
    if args.model_dir is not None:
        overrides["m2fp.model_dir"] = args.model_dir
    if args.short_side is not None:
        overrides["m2fp.short_side"] = args.short_side
    if args.key is not None:
        overrides["m2fp.key"] = args.key
    settings = load_settings(None, overrides=overrides)
    path, digest = m2fp.export_network(settings.m2fp, (int(width), int(height)), on_notice=say)
    print_line(f"{path}: {path.stat().st_size / 1e6:.0f} MB, SHA-256 {digest}")
