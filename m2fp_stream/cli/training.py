"""What `models distill` takes, and does."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..core.errors import UsageError
from .command import Command, read_count
from .progress import DistillDisplay
from .show import PROGRAM, print_line

if TYPE_CHECKING:
    from ..training.judge import Agreement

__all__ = ["DISTILL_EXAMPLES", "add_training", "distill"]

DISTILL_EXAMPLES: Final = f"""\
distill: M2FP teaches the shipped part network on pictures and films of your own (needs the train
extra, and M2FP). They are read, looked at and zeroed; what is stored is weights. A fifth of the
files is held back; a student that is worse on it than what it replaces is not installed. What
learns from M2FP has M2FP's licence: not for commercial use.

  {PROGRAM} models distill holiday/ --weights mine
  {PROGRAM} models distill holiday/ --weights mine --resume      after an interrupt
  {PROGRAM} anonymize clip.mp4 --weights mine
"""


def add_training(command: Command) -> None:
    """Adds what `models distill` takes."""
    group = command.add_argument_group("distill")
    group.add_argument("--weights", metavar="NAME", help="what the student is called")
    group.add_argument(
        "--steps", type=read_count, default=400, metavar="N", help="of training (default: 400)"
    )
    group.add_argument(
        "--seed", type=read_count, default=1, metavar="N", help="of what is drawn (default: 1)"
    )
    group.add_argument(
        "--frames",
        type=read_count,
        default=30,
        metavar="N",
        help="of one film, at most, two seconds apart at least (default: 30)",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with the training that was interrupted; pictures are looked at again",
    )
    group.add_argument(
        "--teacher-sha256",
        metavar="HEX",
        help="of the weights in --model-dir, where they were not pulled: that you know them",
    )


def _figures(what: str, found: Agreement) -> str:
    return (
        f"agreement {what}: mIoU {found.miou:.3f}, heads {found.head_recall:.3f}, nobody taken "
        f"for heads {found.spill:.3f}, on {found.samples} crops that were held back"
    )


def distill(args: argparse.Namespace) -> None:
    """Distils M2FP into a student, and says how far it agrees."""
    if args.name is None:
        raise UsageError("models distill: name a folder of pictures or films")
    if args.weights is None:
        raise UsageError("models distill: name what the student is called: --weights NAME")
    from ..app.distill import Plan
    from ..app.distill import distill as run
    from ..config import load_settings
    from ..models.pins import store_folder
    from ..models.students import student_state

    overrides: dict[str, object] = {"m2fp.kind": "cihp"}
    for key in ("model_dir", "short_side", "key"):
        if (value := getattr(args, key)) is not None:
            overrides[f"m2fp.{key}"] = value
    settings = load_settings(None, overrides=overrides)
    plan = Plan(
        name=args.weights,
        steps=args.steps,
        seed=args.seed,
        frames=args.frames,
        teacher_sha256=args.teacher_sha256,
        resume=args.resume,
    )
    with DistillDisplay() as display:
        try:
            done = run(
                Path(args.name),
                plan,
                settings,
                on_progress=display.update,
                on_warning=display.say,
                on_notice=display.say,
                on_judged=lambda what, found: display.say(_figures(what, found)),
            )
        except KeyboardInterrupt:
            if student_state(plan.name, store_folder(os.environ)).exists():
                display.say("the training so far is kept, for --resume")
            raise
    print_line(f"{done.path}: SHA-256 {done.pin.sha256}")
    print_line(
        f"{done.crops} crops of {done.files} files taught it, {done.held_back} files judged it"
    )
    print_line(f"licence: {done.pin.licence}, its teacher's ({done.pin.teacher})")
